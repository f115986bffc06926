//! What was read from the store, for all nodes: one key for each value, with its ticket and the changes that are under
//! way. Redis's clock is the only one.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use tertulia_kit::cache::{self, Away, CHANGE_LASTS, Change, Found, TICKET_LASTS, Ticket};
use tertulia_kit::limit;
use tokio::time::timeout;

use super::{Redis, Text};

/// What is known. The fields are the value, the ticket with until when it is waited for, and a field for each change,
/// with the same of it.
///
/// Arguments: a new ticket, and for how many milliseconds it is good. Answers 0 with nothing when the ticket is given,
/// 1 with the value, 2 when it comes, 3 when it changes.
const LOOK: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
local comes, changes = false, false
for i = 1, #all, 2 do
  local name, said = all[i], all[i + 1]
  if name == 'value' then return {1, said} end
  local waits = tonumber(string.match(said, '%d+$')) > now
  if name == 'ticket' then
    comes = waits
  elseif waits then
    changes = true
  else
    redis.call('HDEL', KEYS[1], name)
  end
end
if changes then return {3, ''} end
if comes then return {2, ''} end
redis.call('HSET', KEYS[1], 'ticket', ARGV[1] .. ' ' .. string.format('%.0f', now + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {0, ''}
";
/// A ticket comes back. Arguments: the ticket; for how many milliseconds the value is kept, or 0 when there is none; the
/// value. Answers whether it was taken.
const BRING: &str = r"
local ticket = redis.call('HGET', KEYS[1], 'ticket')
if not ticket or string.match(ticket, '^%d+') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'ticket')
if ARGV[2] ~= '0' then
  redis.call('HSET', KEYS[1], 'value', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
";
/// Something begins to change. Arguments: the change, and for how many milliseconds it is waited for.
const CHANGE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HDEL', KEYS[1], 'value', 'ticket')
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
";
/// Something has changed. Argument: the change.
const CHANGED: &str = r"return redis.call('HDEL', KEYS[1], 'value', 'ticket', ARGV[1])";

/// How many questions are under way at once.
const AT_ONCE: usize = 64;

/// The cache of all nodes, in Redis.
pub struct Cache {
    redis: Redis,
    kept: Duration,
    look: Text,
    bring: Text,
    change: Text,
    changed: Text,
}

impl Cache {
    /// Keeps values there, each for so long at most. A change that could not be told to Redis is seen after that time
    /// at the latest.
    pub fn new(redis: Redis, kept: Duration) -> Self {
        Cache {
            redis,
            kept,
            look: Text::new(LOOK),
            bring: Text::new(BRING),
            change: Text::new(CHANGE),
            changed: Text::new(CHANGED),
        }
    }

    fn key(&self, key: &str) -> String {
        let prefix = &self.redis.0.options.prefix;
        prefix.key(&format!("cache:{key}"))
    }

    async fn look_at(&self, key: &str) -> Result<Found, Away> {
        let ticket = Ticket::draw();
        let arguments = [ticket.0, millis(TICKET_LASTS)];
        let answer = self.redis.run(&self.look, &self.key(key), &arguments).await;
        let (found, value): (i64, Vec<u8>) = answer.map_err(away)?;
        Ok(match found {
            0 => Found::Missing(ticket),
            1 => Found::Value(Bytes::from(value)),
            2 => Found::Coming,
            _ => Found::Changing,
        })
    }

    async fn look_at_all(&self, keys: &[String]) -> Result<Vec<Found>, Away> {
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            found.extend(try_join_all(some.iter().map(|key| self.look_at(key))).await?);
        }
        Ok(found)
    }
}

#[async_trait]
impl cache::Cache for Cache {
    async fn look(&self, keys: &[String]) -> Result<Vec<Found>, Away> {
        // Somebody waits for all of it.
        let answer_max = self.redis.0.options.answer_max;
        let looked = timeout(answer_max, self.look_at_all(keys)).await;
        looked.unwrap_or(Err(Away))
    }

    async fn bring(&self, key: &str, ticket: Ticket, value: Option<&[u8]>) -> Result<bool, Away> {
        let kept = value.map_or(0, |_| millis(self.kept).max(1));
        let arguments = (ticket.0, kept, value.unwrap_or_default());
        let key = self.key(key);
        let taken: i64 = self
            .redis
            .run(&self.bring, &key, arguments)
            .await
            .map_err(away)?;
        Ok(taken == 1)
    }

    async fn change(&self, key: &str, change: Change) -> Result<(), Away> {
        let arguments = [change.0, millis(CHANGE_LASTS)];
        let key = self.key(key);
        let heard = self.redis.run(&self.change, &key, &arguments).await;
        let _: i64 = heard.map_err(away)?;
        Ok(())
    }

    async fn changed(&self, key: &str, change: Change) -> Result<(), Away> {
        let key = self.key(key);
        let heard = self.redis.run(&self.changed, &key, &[change.0]).await;
        let _: i64 = heard.map_err(away)?;
        Ok(())
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn away(_: limit::Away) -> Away {
    Away
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cache").field(&self.redis).finish()
    }
}
