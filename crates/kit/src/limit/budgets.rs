//! A bucket of tokens for each key, kept as one number: the time at which the bucket is full again (GCRA).
//!
//! With a ledger, what is spent here is [told](tie) to it and the answers make the buckets emptier, never fuller.
//! Nobody who [spends](Budgets::spend) waits for that.

mod tie;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::SharedClock;

use super::{Away, Ledger, Level};
use tie::Tie;

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

    /// So many tokens in a time, and `burst` at once. Neither is less than one.
    pub fn over(time: Duration, tokens: u32, burst: u32) -> Self {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Rate {
            token_ns: time_ns / u64::from(tokens.max(1)),
            burst: burst.max(1),
        }
    }

    /// How long it takes to fill in so many tokens.
    pub fn time_of(self, tokens: u32) -> Duration {
        Duration::from_nanos(self.token_ns.saturating_mul(u64::from(tokens)))
    }

    /// How many tokens a full bucket holds.
    pub fn burst(self) -> u32 {
        self.burst
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
    /// To the other nodes; none: this one counts alone.
    tie: Option<Tie<K>>,
}

/// Two generations: when the young one is as large as it may be it becomes the old one, and the old one is
/// forgotten. That costs no search for the oldest key.
#[derive(Debug)]
struct Shard<K> {
    young: HashMap<K, Bucket>,
    old: HashMap<K, Bucket>,
    keys_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When it is full again, in nanoseconds since 1970.
    full_ns: i64,
    /// How many tokens were spent that the ledger was not told of.
    untold: u32,
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
            tie: None,
        }
    }

    /// The same buckets, with what other nodes take from them known through a ledger: each sort of buckets under a
    /// plain word of its own. [`Budgets::keep_telling`] has to run.
    #[must_use]
    pub fn tied(mut self, budget: &'static str, ledger: Arc<dyn Ledger>) -> Self {
        self.tie = Some(Tie::new(budget, ledger, self.rate));
        self
    }

    /// Takes `weight` tokens from the bucket of `key`. A weight above the burst counts as the burst: it
    /// needs a full bucket and leaves an empty one. A refusal takes nothing.
    ///
    /// # Errors
    /// With how long to wait until there are enough.
    pub fn spend(&self, key: &K, weight: u32) -> Result<(), Duration> {
        let tokens = weight.min(self.rate.burst);
        self.take(key, tokens, |untold| match &self.tie {
            Some(tie) => tie.note(key, untold.saturating_add(tokens)),
            None => 0,
        })
    }

    /// Takes tokens; `note` gets how many were untold and gives how many are now.
    fn take(&self, key: &K, tokens: u32, note: impl FnOnce(u32) -> u32) -> Result<(), Duration> {
        let cost_ns = self.ns_of(tokens);
        let holds_ns = self.ns_of(self.rate.burst);
        let now_ns = self.now_ns();

        let mut shard = self.shard(key).lock();
        let mut bucket = shard.find(key, now_ns);
        let spent_ns = bucket.full_ns.saturating_add(cost_ns);
        let short_ns = spent_ns.saturating_sub(now_ns).saturating_sub(holds_ns);
        if short_ns > 0 {
            // Who keeps asking in vain is not forgotten for it.
            shard.keep(key, bucket);
            return Err(Duration::from_nanos(short_ns.unsigned_abs()));
        }
        bucket.full_ns = spent_ns;
        bucket.untold = note(bucket.untold);
        shard.keep(key, bucket);
        Ok(())
    }

    fn ns_of(&self, tokens: u32) -> i64 {
        let time = self.rate.time_of(tokens);
        i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
    }

    fn now_ns(&self) -> i64 {
        self.clock.now_ms().saturating_mul(1_000_000)
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

impl<K: Hash + Eq + Clone + ToString> Budgets<K> {
    /// Takes as [`Budgets::spend`] does, and asks the ledger as well, so that no two nodes give the same token. For
    /// what is rare and takes long anyway: it waits for the answer. When none comes, this node alone decides.
    ///
    /// # Errors
    /// With how long to wait until there are enough.
    pub async fn spend_everywhere(&self, key: &K, weight: u32) -> Result<(), Duration> {
        let tokens = weight.min(self.rate.burst);
        self.take(key, tokens, |untold| untold)?;
        let Some(tie) = &self.tie else { return Ok(()) };
        match tie.ask(key, tokens).await {
            Err(Away) => Ok(()),
            Ok(level) if level.short_for.is_zero() => {
                self.learn(key, level);
                Ok(())
            }
            Ok(level) => {
                self.give_back(key, tokens);
                self.learn(key, level);
                Err(level.short_for)
            }
        }
    }

    /// Tells the ledger what is spent, and learns what is left. Never ends; for a loop.
    pub async fn keep_telling(&self) {
        let Some(tie) = &self.tie else {
            return std::future::pending().await;
        };
        loop {
            for (key, level) in tie.tell().await {
                self.learn(&key, level);
            }
        }
    }

    /// Somebody else has taken from this bucket, too.
    fn learn(&self, key: &K, level: Level) {
        let full_in_ns = i64::try_from(level.full_in.as_nanos()).unwrap_or(i64::MAX);
        let now_ns = self.now_ns();
        let mut shard = self.shard(key).lock();
        let mut bucket = shard.find(key, now_ns);
        let full_ns = now_ns
            .saturating_add(full_in_ns)
            .saturating_add(self.ns_of(bucket.untold));
        bucket.full_ns = bucket.full_ns.max(full_ns);
        shard.keep(key, bucket);
    }

    fn give_back(&self, key: &K, tokens: u32) {
        let mut shard = self.shard(key).lock();
        let mut bucket = shard.find(key, self.now_ns());
        bucket.full_ns = bucket.full_ns.saturating_sub(self.ns_of(tokens));
        shard.keep(key, bucket);
    }
}

impl<K: Hash + Eq + Clone> Shard<K> {
    /// A bucket as it is by now; one that is not known is full.
    fn find(&self, key: &K, now_ns: i64) -> Bucket {
        let known = self.young.get(key).or_else(|| self.old.get(key)).copied();
        let mut bucket = known.unwrap_or(Bucket {
            full_ns: now_ns,
            untold: 0,
        });
        bucket.full_ns = bucket.full_ns.max(now_ns);
        bucket
    }

    fn keep(&mut self, key: &K, bucket: Bucket) {
        if let Some(known) = self.young.get_mut(key) {
            *known = bucket;
            return;
        }
        self.old.remove(key);
        if self.young.len() >= self.keys_max {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key.clone(), bucket);
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

    mod between_nodes {
        use async_trait::async_trait;
        use futures::FutureExt as _;
        use tokio::time::Instant;

        use super::super::*;
        use super::*;
        use crate::clock::Clock;
        use crate::limit::{Charge, Memory};

        /// The time of the runtime, which the ledger in memory goes by as well.
        #[derive(Debug)]
        struct RuntimeClock(Instant);

        impl Clock for RuntimeClock {
            fn now_ms(&self) -> i64 {
                1_767_225_600_000 + i64::try_from(self.0.elapsed().as_millis()).unwrap()
            }
        }

        fn nodes(count: usize, rate: Rate, ledger: &Arc<dyn Ledger>) -> Vec<Budgets<u32>> {
            let clock = Arc::new(RuntimeClock(Instant::now()));
            let node = |_| Budgets::new(rate, 100, clock.clone()).tied("calls", Arc::clone(ledger));
            (0..count).map(node).collect()
        }

        fn ledger() -> Arc<dyn Ledger> {
            Arc::new(Memory::default())
        }

        /// Has a node tell all that waits. The ledger in memory answers at once.
        fn tell(node: &Budgets<u32>) {
            assert_eq!(node.keep_telling().now_or_never(), None);
        }

        /// A ledger that is not there.
        #[derive(Debug)]
        struct Gone;

        #[async_trait]
        impl Ledger for Gone {
            async fn charge(&self, _: Charge<'_>) -> Result<Level, Away> {
                Err(Away)
            }
        }

        #[tokio::test(start_paused = true)]
        async fn what_is_spent_on_one_node_is_missing_on_another() {
            let nodes = nodes(2, Rate::per_minute(1, 100), &ledger());
            nodes[0].spend(&1, 100).unwrap();
            tell(&nodes[0]);
            // A portion, and with it the node learns.
            nodes[1].spend(&1, 5).unwrap();
            tell(&nodes[1]);
            let wait = nodes[1].spend(&1, 1).unwrap_err();
            assert_eq!(wait, Duration::from_secs(6 * 60));
            assert_eq!(nodes[1].spend(&2, 100), Ok(()));
        }

        #[tokio::test(start_paused = true)]
        async fn who_calls_now_and_then_is_not_told_of() {
            #[derive(Debug)]
            struct Never;
            #[async_trait]
            impl Ledger for Never {
                async fn charge(&self, charge: Charge<'_>) -> Result<Level, Away> {
                    panic!("{charge:?}")
                }
            }
            let never: Arc<dyn Ledger> = Arc::new(Never);
            let node = &nodes(1, Rate::per_minute(1, 100), &never)[0];
            for key in 0..50 {
                node.spend(&key, 4).unwrap();
            }
            tell(node);
        }

        #[tokio::test(start_paused = true)]
        async fn however_somebody_spreads_the_nodes_give_the_rate_and_a_portion_each() {
            let seed = 11;
            let mut rng = StdRng::seed_from_u64(seed);
            let (weight_max, portion) = (3, 10);
            let nodes = nodes(4, Rate::per_second(50, 200), &ledger());
            let (began, mut spent) = (Instant::now(), 0);
            while began.elapsed() < Duration::from_secs(60) {
                let node = &nodes[rng.random_range(0..nodes.len())];
                let weight = rng.random_range(1..=weight_max);
                if node.spend(&1, weight).is_ok() {
                    spent += u128::from(weight);
                }
                tell(node);
                tokio::time::advance(Duration::from_millis(rng.random_range(0..8))).await;
                let fair = 200 + began.elapsed().as_millis() / 20 + 1;
                let untold = nodes.len() as u128 * u128::from(portion + weight_max);
                assert!(spent <= fair + untold, "seed {seed}: {spent} of {fair}");
            }
            assert!(spent > 60 * 50 * 9 / 10, "seed {seed}: {spent}");
        }

        #[tokio::test(start_paused = true)]
        async fn no_two_nodes_give_a_token_that_is_asked_for_everywhere() {
            let nodes = nodes(3, Rate::per_minute(10, 10), &ledger());
            let mut given = 0;
            for turn in 0..60 {
                given += usize::from(nodes[turn % 3].spend_everywhere(&1, 1).await.is_ok());
            }
            assert_eq!(given, 10);
            let wait = nodes[0].spend_everywhere(&1, 1).await.unwrap_err();
            tokio::time::advance(wait).await;
            // A refusal took nothing, on no node.
            assert_eq!(nodes[1].spend_everywhere(&1, 1).await, Ok(()));
            assert!(nodes[2].spend_everywhere(&1, 1).await.is_err());
        }

        #[tokio::test(start_paused = true)]
        async fn without_the_ledger_each_node_decides_alone() {
            let gone: Arc<dyn Ledger> = Arc::new(Gone);
            for node in nodes(2, Rate::per_minute(10, 10), &gone) {
                let mut given = 0;
                for _ in 0..20 {
                    given += usize::from(node.spend_everywhere(&1, 1).await.is_ok());
                    given += usize::from(node.spend(&2, 1).is_ok());
                    tell(&node);
                }
                assert_eq!(given, 20);
            }
        }

        #[tokio::test(start_paused = true)]
        async fn what_waits_to_be_told_is_bounded() {
            let node = &nodes(1, Rate::per_minute(1, 20), &ledger())[0];
            for key in 0..20_000 {
                node.spend(&key, 1).unwrap();
            }
            assert!(node.tie.as_ref().unwrap().waiting() <= 8_192);
        }
    }
}
