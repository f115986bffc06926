//! What it costs on this machine that nodes share what callers spend:
//! `cargo test --release -p tertulia-store --test redis_costs -- --ignored --nocapture`

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tertulia_kit::clock::SystemClock;
use tertulia_kit::instances::redis::Instance;
use tertulia_kit::lifecycle::Lifecycle;
use tertulia_kit::limit::{self, Budgets, Charge, Rate};
use tertulia_store::redis::{Ledger, Options, Redis};

const SPENDINGS: u64 = 2_000_000;
const CALLERS: u64 = 10_000;
const ROUNDS: usize = 5_000;
const PORTIONS: u64 = 200_000;
const PORTIONS_AT_ONCE: u64 = 256;

/// The budget of a login, which nobody in here uses up.
fn rate() -> Rate {
    Rate::per_second(200, 400)
}

fn budgets() -> Budgets<u64> {
    let plenty = Rate::per_second(1_000_000, 4_000_000);
    Budgets::new(plenty, 100_000, Arc::new(SystemClock::default()))
}

/// Nanoseconds of each spending.
fn spend(budgets: &Budgets<u64>) -> u128 {
    let began = Instant::now();
    for n in 0..SPENDINGS {
        _ = budgets.spend(&(n % CALLERS), 1);
    }
    began.elapsed().as_nanos() / u128::from(SPENDINGS)
}

fn charge(key: &str, is_spent: bool) -> Charge<'_> {
    Charge {
        budget: "costs",
        key,
        rate: rate(),
        tokens: 1,
        is_spent,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures"]
async fn costs() {
    let server = Instance::start();
    let options = Options {
        answer_max: Duration::from_secs(10),
        ..Options::new(server.url().parse().unwrap(), "t".parse().unwrap())
    };
    let lifecycle = Lifecycle::new();
    let redis = Redis::start(options, &lifecycle);
    redis.connected().await;
    let ledger: Arc<dyn limit::Ledger> = Arc::new(Ledger::new(redis.clone()));

    let alone = spend(&budgets());
    let tied = budgets().tied("calls", Arc::clone(&ledger));
    let shared = tokio::select! {
        () = tied.keep_telling() => 0,
        shared = async { tokio::task::block_in_place(|| spend(&tied)) } => shared,
    };
    println!("a call that is counted: alone {alone} ns, shared {shared} ns");

    let mut waits: Vec<Duration> = Vec::with_capacity(ROUNDS);
    for n in 0..ROUNDS {
        let key = n.to_string();
        let began = Instant::now();
        ledger.charge(charge(&key, false)).await.unwrap();
        waits.push(began.elapsed());
    }
    waits.sort_unstable();
    println!(
        "an attempt that is asked for: {:?} in the middle, {:?} at 99 of 100",
        waits[ROUNDS / 2],
        waits[ROUNDS * 99 / 100]
    );

    let began = Instant::now();
    for round in 0..PORTIONS / PORTIONS_AT_ONCE {
        let ledger = &ledger;
        let telling = (0..PORTIONS_AT_ONCE).map(|n| async move {
            let key = ((round * PORTIONS_AT_ONCE + n) % CALLERS).to_string();
            ledger.charge(charge(&key, true)).await.unwrap();
        });
        futures::future::join_all(telling).await;
    }
    let a_second = PORTIONS as f64 / began.elapsed().as_secs_f64();
    println!("portions told: {a_second:.0} a second");

    let before = used_bytes(&server);
    for n in 0..CALLERS {
        let key = n.to_string();
        let stays = Charge {
            budget: "stays",
            rate: Rate::over(Duration::from_secs(3_600), 10, 10),
            ..charge(&key, false)
        };
        ledger.charge(stays).await.unwrap();
    }
    let each = (used_bytes(&server) - before) / CALLERS;
    println!("a caller whose budget is not full: {each} bytes in Redis");
}

fn used_bytes(server: &Instance) -> u64 {
    let memory = server.ask("INFO memory");
    let mut lines = memory.lines();
    let used = lines.find_map(|line| line.strip_prefix("used_memory_dataset:"));
    used.unwrap().trim().parse().unwrap()
}
