use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Duration;

use super::*;
use crate::error::{Failure, Kind};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn through(kept: Duration) -> Through {
    Through::new(Arc::new(Memory::new(kept)))
}

/// A store of one number, which takes its time.
#[derive(Default)]
struct Slow {
    number: AtomicU64,
    reads: AtomicU64,
}

impl Slow {
    async fn read(&self, before: Duration, after: Duration) -> Result<Vec<Option<Bytes>>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        sleep(before).await;
        let number = self.number.load(Ordering::Relaxed);
        sleep(after).await;
        Ok(vec![Some(Bytes::from(number.to_string()))])
    }

    /// The number, past the cache; the store takes `takes` to give it.
    async fn ask(&self, through: &Through, takes: Duration) -> u64 {
        let keys = ["number".to_owned()];
        let read = through.read(&keys, |_| self.read(Duration::ZERO, takes));
        number(&read.await.expect("it is there"))
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

fn number(values: &[Option<Bytes>]) -> u64 {
    let value = values[0].as_deref().expect("there is one");
    let text = std::str::from_utf8(value).expect("a text");
    text.parse().expect("a number")
}

#[tokio::test(start_paused = true)]
async fn the_memory_cache_keeps_the_promises_of_a_cache() {
    suite::run(Arc::new(Memory::new(DAY))).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_not_read_again_until_it_is_too_old() {
    let (through, store) = (through(Duration::from_secs(60)), Slow::default());
    for _ in 0..10 {
        store.ask(&through, Duration::ZERO).await;
    }
    assert_eq!(store.reads(), 1);
    assert_eq!(through.counts().known.get(), 9);
    sleep(Duration::from_secs(61)).await;
    store.ask(&through, Duration::ZERO).await;
    assert_eq!(store.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_many_who_ask_at_once_one_reads() {
    let (through, store) = (through(DAY), Slow::default());
    let takes = Duration::from_millis(8);
    join_all((0..1_000).map(|_| store.ask(&through, takes))).await;
    assert_eq!(store.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_one_who_is_slow() {
    let (through, store) = (through(DAY), Slow::default());
    let begun = tokio::time::Instant::now();
    let slow = store.ask(&through, Duration::from_secs(3_600));
    let other = async {
        sleep(Duration::from_millis(1)).await;
        store.ask(&through, Duration::ZERO).await;
        begun.elapsed()
    };
    let waited = tokio::select! {
        biased;
        _ = slow => unreachable!("it takes an hour"),
        waited = other => waited,
    };
    assert_eq!(store.reads(), 2);
    assert!(waited < WAIT * (WAITS_MAX as u32 + 2), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_the_store_is_told_and_the_next_one_asks_again() {
    let (through, store) = (through(DAY), Slow::default());
    let keys = ["number".to_owned()];
    let failed = through.read(&keys, |_| async {
        Err(Failure::new(Kind::Unavailable, "AWAY", "it is away"))
    });
    assert_eq!(failed.await.expect_err("it is away").reason(), "AWAY");
    assert_eq!(store.ask(&through, Duration::ZERO).await, 0);
}

/// A cache that does not answer.
#[derive(Debug)]
struct Gone;

#[async_trait]
impl Cache for Gone {
    async fn look(&self, _: &[String]) -> std::result::Result<Vec<Found>, Away> {
        Err(Away)
    }

    async fn bring(&self, _: &str, _: Ticket, _: Option<&[u8]>) -> std::result::Result<bool, Away> {
        Err(Away)
    }

    async fn change(&self, _: &str, _: Change) -> std::result::Result<(), Away> {
        Err(Away)
    }

    async fn changed(&self, _: &str, _: Change) -> std::result::Result<(), Away> {
        Err(Away)
    }
}

#[tokio::test]
async fn without_a_cache_the_store_is_read_and_changed() {
    let (through, store) = (Through::new(Arc::new(Gone)), Slow::default());
    let added = async { Ok(store.number.fetch_add(1, Ordering::Relaxed)) };
    through.change("number", added).await.expect("it is there");
    assert_eq!(store.ask(&through, Duration::ZERO).await, 1);
    assert_eq!(store.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_place_gets_its_own_value_and_what_is_not_there_is_asked_for_again() {
    let through = through(DAY);
    let keys: Vec<String> = (0..10).map(|at| format!("k:{at}")).collect();
    let even = |places: Vec<usize>| async move {
        let values = places.into_iter().map(|at| {
            let is_there = at % 2 == 0;
            is_there.then(|| Bytes::from(at.to_string()))
        });
        Ok(values.collect())
    };
    for _ in 0..3 {
        let read = through.read(&keys, even).await.expect("it is there");
        for (at, value) in read.into_iter().enumerate() {
            let wanted = (at % 2 == 0).then(|| at.to_string());
            assert_eq!(value, wanted.map(Bytes::from));
        }
    }
    assert_eq!(through.counts().known.get(), 2 * 5);
    assert_eq!(through.counts().read.get(), 10 + 2 * 5);
}

/// Readers and writers on several nodes, each of whose steps takes a while that the seed draws.
#[tokio::test(start_paused = true)]
async fn nobody_reads_what_was_so_before_a_change_that_was_done() {
    for seed in 0..300 {
        let (through, store) = (through(DAY), Slow::default());
        let done = AtomicU64::new(0);
        let draw = |rng: &mut StdRng| Duration::from_millis(rng.random_range(0..30));
        let readers = (0..6).map(|reader| {
            let (through, store, done) = (&through, &store, &done);
            async move {
                let mut rng = StdRng::seed_from_u64(seed * 100 + reader);
                for _ in 0..20 {
                    sleep(draw(&mut rng)).await;
                    let at_least = done.load(Ordering::Relaxed);
                    let (before, after) = (draw(&mut rng), draw(&mut rng));
                    let keys = ["number".to_owned()];
                    let read = through.read(&keys, |_| store.read(before, after)).await;
                    let read = number(&read.expect("it is there"));
                    assert!(read >= at_least, "seed {seed}: {read} after {at_least}");
                }
            }
        });
        let writers = (0..2).map(|writer| {
            let (through, store, done) = (&through, &store, &done);
            async move {
                let mut rng = StdRng::seed_from_u64(seed * 100 + 50 + writer);
                for _ in 0..6 {
                    sleep(draw(&mut rng) * 3).await;
                    let (before, after) = (draw(&mut rng), draw(&mut rng));
                    let change = async {
                        sleep(before).await;
                        let number = store.number.fetch_add(1, Ordering::Relaxed) + 1;
                        sleep(after).await;
                        Ok(number)
                    };
                    let number = through.change("number", change).await.expect("it is there");
                    done.fetch_max(number, Ordering::Relaxed);
                }
            }
        });
        tokio::join!(join_all(readers), join_all(writers));
    }
}
