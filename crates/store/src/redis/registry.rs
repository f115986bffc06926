//! Who is there, for all nodes: one key with the runs that are alive, and one for each user with what runs hold of them,
//! so that a cluster can spread the users. Redis's clock is the only one.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use tertulia_kit::limit;
use tertulia_services::ids::UserId;
use tertulia_services::presence::{Away, Holding, Known, Presences, Roll, Run};
use tokio::time::timeout;

use super::{Redis, Text};

/// A run is alive from now on. Arguments: the run, for how many milliseconds.
const BEGIN: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
";
/// The same for a run that still is. Answers whether it was.
const RENEW: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local until_ms = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_ms or tonumber(until_ms) <= now then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
";
/// A run is over. Argument: the run.
const END: &str = r"return redis.call('ZREM', KEYS[1], ARGV[1])";
/// The runs that are alive.
const LIVING: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')
";
/// A run holds something of a user. Each run has its field, with what it holds and when it last said so; `seen` is when
/// one last let go. What was not said for long is of a run that is over.
///
/// Arguments: the run; 0 when they have gone, 1 when they are active, 2 when they rest, 3 when they hide; after how many
/// milliseconds nothing is believed; for how many the key is kept.
const HOLD: &str = r"
local key, run, holding = KEYS[1], ARGV[1], tonumber(ARGV[2])
if holding == 3 then return redis.call('DEL', key) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local seen = 0
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '%d+$')) or 0
  if all[i] == 'seen' then
    seen = math.max(seen, at)
  elseif now - at > tonumber(ARGV[3]) then
    redis.call('HDEL', key, all[i])
    seen = math.max(seen, at)
  end
end
if holding == 0 then
  redis.call('HDEL', key, run)
  seen = now
else
  redis.call('HSET', key, run, ARGV[2] .. ' ' .. string.format('%.0f', now))
end
if seen > 0 then redis.call('HSET', key, 'seen', string.format('%.0f', seen)) end
redis.call('PEXPIRE', key, ARGV[4])
return 1
";
/// Everything of a user.
const OF: &str = r"return redis.call('HGETALL', KEYS[1])";

/// For how long it is known when somebody was last there.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// After how many leases what a run holds is not believed any more when it was not said again. Nodes say everything
/// again within a few.
const BELIEVED_LEASES: u32 = 30;
/// Of a script without arguments.
const NOTHING: &[i64] = &[];
/// How many questions are under way at once.
const AT_ONCE: usize = 64;

/// The registry of all nodes, in Redis.
pub struct Registry {
    redis: Redis,
    lease: Duration,
    begin: Text,
    renew: Text,
    end: Text,
    living: Text,
    hold: Text,
    of: Text,
}

impl Registry {
    /// Keeps it there, with leases of this length.
    pub fn new(redis: Redis, lease: Duration) -> Self {
        Registry {
            redis,
            lease,
            begin: Text::new(BEGIN),
            renew: Text::new(RENEW),
            end: Text::new(END),
            living: Text::new(LIVING),
            hold: Text::new(HOLD),
            of: Text::new(OF),
        }
    }

    fn runs(&self) -> String {
        self.redis.0.options.prefix.key("runs")
    }

    fn user(&self, user: UserId) -> String {
        let prefix = &self.redis.0.options.prefix;
        prefix.key(&format!("present:{user}"))
    }

    async fn hold_one(&self, run: Run, user: UserId, holding: Holding) -> Result<(), Away> {
        let holding = match holding {
            Holding::Gone => 0,
            Holding::Active => 1,
            Holding::Idle => 2,
            Holding::Hidden => 3,
        };
        let believed = millis(self.lease * BELIEVED_LEASES);
        let arguments = [run.0, holding, believed, millis(KEPT)];
        let key = self.user(user);
        let held = self.redis.run(&self.hold, &key, &arguments).await;
        let _: i64 = held.map_err(away)?;
        Ok(())
    }

    async fn read_one(&self, user: UserId) -> Result<Vec<(String, String)>, Away> {
        let key = self.user(user);
        let read = self.redis.run(&self.of, &key, NOTHING).await;
        let fields: Vec<String> = read.map_err(away)?;
        let (pairs, _) = fields.as_chunks::<2>();
        Ok(pairs
            .iter()
            .map(|[field, value]| (field.clone(), value.clone()))
            .collect())
    }

    async fn read(&self, users: &[UserId]) -> Result<Roll, Away> {
        let runs = self.runs();
        let living = self.redis.run(&self.living, &runs, NOTHING);
        let living: Vec<String> = living.await.map_err(away)?;
        let living: HashSet<i64> = living.iter().filter_map(|run| run.parse().ok()).collect();
        let mut known = Vec::with_capacity(users.len());
        for some in users.chunks(AT_ONCE) {
            let read = try_join_all(some.iter().map(|user| self.read_one(*user))).await?;
            let read = some.iter().zip(&read);
            known.extend(read.map(|(user, fields)| known_of(*user, fields, &living)));
        }
        Ok(Roll {
            living: living.into_iter().map(Run).collect(),
            users: known,
        })
    }
}

#[async_trait]
impl Presences for Registry {
    async fn begin(&self, run: Run) -> Result<(), Away> {
        let arguments = [run.0, millis(self.lease)];
        let begun = self.redis.run(&self.begin, &self.runs(), &arguments).await;
        let _: i64 = begun.map_err(away)?;
        Ok(())
    }

    async fn renew(&self, run: Run) -> Result<bool, Away> {
        let arguments = [run.0, millis(self.lease)];
        let was: Result<i64, _> = self.redis.run(&self.renew, &self.runs(), &arguments).await;
        Ok(was.map_err(away)? == 1)
    }

    async fn end(&self, run: Run) -> Result<(), Away> {
        let ended = self.redis.run(&self.end, &self.runs(), &[run.0]).await;
        let _: i64 = ended.map_err(away)?;
        Ok(())
    }

    async fn hold(&self, run: Run, holdings: &[(UserId, Holding)]) -> Result<(), Away> {
        for some in holdings.chunks(AT_ONCE) {
            let held = some.iter();
            let held = held.map(|(user, holding)| self.hold_one(run, *user, *holding));
            try_join_all(held).await?;
        }
        Ok(())
    }

    async fn of(&self, users: &[UserId]) -> Result<Roll, Away> {
        if users.is_empty() {
            return Ok(Roll::default());
        }
        // Somebody waits for all of it.
        let answer_max = self.redis.0.options.answer_max;
        timeout(answer_max, self.read(users))
            .await
            .unwrap_or(Err(Away))
    }
}

/// What the fields of a user come to.
fn known_of(user: UserId, fields: &[(String, String)], living: &HashSet<i64>) -> Known {
    let mut held = Vec::new();
    let mut seen_at_ms = None;
    for (field, value) in fields {
        let (holding, at) = value.split_once(' ').unwrap_or(("", value));
        let run = field.parse::<i64>().ok().filter(|run| living.contains(run));
        match (run, holding) {
            (Some(run), "1") => held.push((Run(run), Holding::Active)),
            (Some(run), "2") => held.push((Run(run), Holding::Idle)),
            _ => seen_at_ms = seen_at_ms.max(at.parse().ok()),
        }
    }
    Known {
        user,
        held,
        seen_at_ms,
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn away(_: limit::Away) -> Away {
    Away
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.redis).finish()
    }
}
