//! A bucket of tokens for each key, kept as one number: the time at which the bucket is full again (GCRA).

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::mem;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::SharedClock;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The time of one token.
    token_ns: u64,
    burst: u32,
}

impl Rate {
    /// So many tokens a second, and `burst` at once. Neither is less than one.
    pub fn per_second(tokens: u32, burst: u32) -> Self {
        Self::over(Duration::from_secs(1), tokens, burst)
    }

    /// So many tokens a minute, and `burst` at once. Neither is less than one.
    pub fn per_minute(tokens: u32, burst: u32) -> Self {
        Self::over(Duration::from_secs(60), tokens, burst)
    }

    fn over(time: Duration, tokens: u32, burst: u32) -> Self {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Rate {
            token_ns: time_ns / u64::from(tokens.max(1)),
            burst: burst.max(1),
        }
    }
}

const SHARDS: usize = 16;

/// The buckets of many keys. Their number is bounded: of more keys than fit, those that asked longest ago
/// are forgotten first, and a forgotten bucket is a full one. So the bound should be well above the number of
/// keys that come while a bucket fills.
#[derive(Debug)]
pub struct Budgets<K> {
    clock: SharedClock,
    rate: Rate,
    hasher: RandomState,
    shards: [Mutex<Shard<K>>; SHARDS],
}

/// When each bucket is full again, in nanoseconds. Two generations: when the young one is as large as it may
/// be it becomes the old one, and the old one is forgotten. That costs no search for the oldest key.
#[derive(Debug)]
struct Shard<K> {
    young: HashMap<K, i64>,
    old: HashMap<K, i64>,
    keys_max: usize,
}

impl<K: Hash + Eq + Clone> Budgets<K> {
    /// Buckets of this rate for about `keys_max` keys.
    pub fn new(rate: Rate, keys_max: usize, clock: SharedClock) -> Self {
        let keys_max = (keys_max / SHARDS / 2).max(1);
        let shard = || {
            Mutex::new(Shard {
                young: HashMap::new(),
                old: HashMap::new(),
                keys_max,
            })
        };
        let shards = std::array::from_fn(|_| shard());
        Budgets {
            clock,
            rate,
            hasher: RandomState::new(),
            shards,
        }
    }

    /// Takes `weight` tokens from the bucket of `key`. A weight above the burst counts as the burst: it
    /// needs a full bucket and leaves an empty one. A refusal takes nothing.
    ///
    /// # Errors
    /// With how long to wait until there are enough.
    pub fn spend(&self, key: &K, weight: u32) -> Result<(), Duration> {
        let token_ns = i64::try_from(self.rate.token_ns).unwrap_or(i64::MAX);
        let holds_ns = token_ns.saturating_mul(i64::from(self.rate.burst));
        let cost_ns = token_ns.saturating_mul(i64::from(weight.min(self.rate.burst)));
        let now_ns = self.clock.now_ms().saturating_mul(1_000_000);

        let mut shard = self.shard(key).lock();
        let full_ns = shard
            .find(key)
            .map_or(now_ns, |full_ns| full_ns.max(now_ns));
        let spent_ns = full_ns.saturating_add(cost_ns);
        let short_ns = spent_ns.saturating_sub(now_ns).saturating_sub(holds_ns);
        if short_ns > 0 {
            // Who keeps asking in vain is not forgotten for it.
            shard.keep(key, full_ns);
            return Err(Duration::from_nanos(short_ns.unsigned_abs()));
        }
        shard.keep(key, spent_ns);
        Ok(())
    }

    /// How many keys are known.
    pub fn keys(&self) -> usize {
        self.shards
            .iter()
            .map(|s| s.lock())
            .map(|s| s.young.len() + s.old.len())
            .sum()
    }

    fn shard(&self, key: &K) -> &Mutex<Shard<K>> {
        let hash = self.hasher.hash_one(key);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }
}

impl<K: Hash + Eq + Clone> Shard<K> {
    fn find(&self, key: &K) -> Option<i64> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    fn keep(&mut self, key: &K, full_ns: i64) {
        if let Some(known) = self.young.get_mut(key) {
            *known = full_ns;
            return;
        }
        self.old.remove(key);
        if self.young.len() >= self.keys_max {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key.clone(), full_ns);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;
    use crate::clock::ManualClock;

    fn budgets(rate: Rate, keys_max: usize) -> (Budgets<u32>, Arc<ManualClock>) {
        let clock = ManualClock::at(1_767_225_600_000);
        (Budgets::new(rate, keys_max, clock.clone()), clock)
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let (budgets, clock) = budgets(Rate::per_second(2, 3), 100);
        for _ in 0..3 {
            assert_eq!(budgets.spend(&1, 1), Ok(()));
        }
        assert_eq!(budgets.spend(&1, 1), Err(Duration::from_millis(500)));
        clock.advance_ms(499);
        assert_eq!(budgets.spend(&1, 1), Err(Duration::from_millis(1)));
        clock.advance_ms(1);
        assert_eq!(budgets.spend(&1, 1), Ok(()));
        assert!(budgets.spend(&1, 1).is_err());
    }

    #[test]
    fn who_waits_as_long_as_told_is_let_through() {
        let (budgets, clock) = budgets(Rate::per_minute(7, 5), 100);
        for weight in [3, 2, 5, 1, 99, 4] {
            if let Err(wait) = budgets.spend(&1, weight) {
                clock.advance_ms(i64::try_from(wait.as_millis()).unwrap() + 1);
                assert_eq!(budgets.spend(&1, weight), Ok(()), "{weight}");
            }
        }
    }

    #[test]
    fn a_heavy_call_costs_its_weight() {
        let (budgets, _clock) = budgets(Rate::per_second(1, 10), 100);
        assert_eq!(budgets.spend(&1, 8), Ok(()));
        assert_eq!(budgets.spend(&1, 3), Err(Duration::from_secs(1)));
        assert_eq!(budgets.spend(&1, 2), Ok(()));
    }

    #[test]
    fn a_weight_above_the_burst_needs_a_full_bucket() {
        let (budgets, clock) = budgets(Rate::per_second(1, 10), 100);
        assert_eq!(budgets.spend(&1, u32::MAX), Ok(()));
        clock.advance_ms(9_000);
        assert_eq!(budgets.spend(&1, u32::MAX), Err(Duration::from_secs(1)));
    }

    #[test]
    fn one_key_does_not_spend_for_another() {
        let (budgets, _clock) = budgets(Rate::per_second(1, 1), 100);
        assert_eq!(budgets.spend(&1, 1), Ok(()));
        assert_eq!(budgets.spend(&2, 1), Ok(()));
        assert!(budgets.spend(&1, 1).is_err());
    }

    #[test]
    fn a_flood_of_keys_stays_within_the_bound_and_does_not_free_who_keeps_asking() {
        let (budgets, _clock) = budgets(Rate::per_minute(1, 1_000), 1_000);
        let mut passed = 0;
        for key in 0..100_000 {
            let _ = budgets.spend(&key, 1);
            passed += usize::from(budgets.spend(&u32::MAX, 1).is_ok());
        }
        assert!(budgets.keys() <= 1_000 + SHARDS, "{}", budgets.keys());
        assert!(passed <= 2_000, "{passed}");
    }

    #[test]
    fn over_a_long_time_nobody_gets_more_than_the_rate_and_the_burst() {
        let seed = 7;
        let mut rng = StdRng::seed_from_u64(seed);
        let (budgets, clock) = budgets(Rate::per_second(50, 20), 10);
        let (mut spent, mut passed_ms) = (0, 0);
        while passed_ms < 60_000 {
            let weight = rng.random_range(1..=20);
            if budgets.spend(&1, weight).is_ok() {
                spent += weight;
            }
            let pause_ms = rng.random_range(0..200);
            clock.advance_ms(pause_ms);
            passed_ms += pause_ms;
            assert!(i64::from(spent) <= 20 + passed_ms / 20 + 1, "seed {seed}");
        }
        assert!(i64::from(spent) > 60 * 50 / 2, "seed {seed}: {spent}");
    }
}
