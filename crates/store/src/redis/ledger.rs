//! What all nodes have taken from the buckets of callers: one key for each bucket that is not full, which goes by
//! itself when it is. Redis's clock is the only one.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tertulia_kit::limit::{self, Away, Charge, Level};

use super::{Redis, Text};

/// Takes from a bucket. The value is when it is full again, in microseconds since 1970, as in the buckets of each node.
///
/// Arguments: what it costs, what the bucket holds, both as microseconds; 1 when it was spent already. Answers in how
/// many microseconds it is full, and how many it is short for.
const CHARGE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local cost, holds = tonumber(ARGV[1]), tonumber(ARGV[2])
local spent = full + cost
local short = math.max(spent - now - holds, 0)
if ARGV[3] == '1' then short = 0 end
if short > 0 then return {full - now, short} end
if spent > now then
  redis.call('SET', KEYS[1], string.format('%.0f', spent), 'PX', math.ceil((spent - now) / 1000))
end
return {spent - now, 0}
";
/// How much of the hash of a key is its name: enough that no two are the same.
const NAME_BYTES: usize = 16;

/// The buckets of all nodes, in Redis.
pub struct Ledger {
    redis: Redis,
    charge: Text,
}

impl Ledger {
    /// Keeps them there.
    pub fn new(redis: Redis) -> Self {
        Ledger {
            redis,
            charge: Text::new(CHARGE),
        }
    }

    /// Names and addresses of people are not for everybody to see who looks into Redis.
    fn key(&self, charge: &Charge<'_>) -> String {
        let hash = Sha256::digest(charge.key);
        let name: String = hash[..NAME_BYTES]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let prefix = &self.redis.0.options.prefix;
        prefix.key(&format!("spent:{}:{name}", charge.budget))
    }
}

#[async_trait]
impl limit::Ledger for Ledger {
    async fn charge(&self, charge: Charge<'_>) -> Result<Level, Away> {
        let Charge {
            rate,
            tokens,
            is_spent,
            ..
        } = charge;
        let arguments = [
            micros(rate.time_of(tokens)),
            micros(rate.time_of(rate.burst())),
            i64::from(is_spent),
        ];
        let key = self.key(&charge);
        let (full_in, short_for): (u64, u64) =
            self.redis.run(&self.charge, &key, &arguments).await?;
        Ok(Level {
            full_in: Duration::from_micros(full_in),
            short_for: Duration::from_micros(short_for),
        })
    }
}

/// A rate of more than a million a second would cost nothing.
fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ledger").field(&self.redis).finish()
    }
}
