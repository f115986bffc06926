//! The server is killed under load again and again, at random moments and at every step of a send. Nothing
//! that was acknowledged is missing, nothing is there twice, and everybody sees the same order.
//!
//! `KILLS=1000 cargo test -p tertulia-tests --test killed` goes on for longer. `make faults` does this and much
//! else through a network that misbehaves; here is nothing between clients and server.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tertulia_tests::checker::{History, Violation};
use tertulia_tests::node::{Process, Start};
use tertulia_tests::town::{Plan, Town, Traffic};

const PATIENCE: Duration = Duration::from_secs(60);

fn judge(history: &History, violations: Vec<Violation>, kills: &BTreeMap<&str, u64>) {
    println!(
        "{kills:?}; {}; violations {}",
        history.summary(),
        violations.len()
    );
    assert_eq!(violations, [], "promises were broken");
    let acked = history.acked();
    assert!(
        acked > 100,
        "too little happened to prove anything: {acked}"
    );
}

/// Runs a town through kills; `crash` says how each run of the server ends.
async fn run(kills: u64, crash: impl Fn(&mut StdRng, u64) -> Option<(&'static str, u64)>) {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Process::start(&data, Start::default()).await.unwrap();
    let address = server.address().to_owned();
    let mut town = Town::found(&server.url, None, &Plan::default())
        .await
        .unwrap();
    // Nobody stops to think.
    let traffic = Traffic {
        thought: Duration::ZERO..=Duration::ZERO,
        ..Traffic::default()
    };
    town.act(&traffic, &mut random);
    server.kill().await;

    let mut ended: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 0..kills {
        let crash = crash(&mut random, round);
        let start = Start {
            listen: Some(&address),
            crash,
            ..Start::default()
        };
        let server = Process::start(&data, start).await.unwrap();
        match crash {
            Some((step, _)) => {
                server
                    .ended()
                    .await
                    .expect("the server went on beyond its crash point");
                *ended.entry(step).or_default() += 1;
            }
            None => {
                // A moment is a number of acknowledgements, and then somewhere within the next ones.
                let more = random.random_range(1..40);
                town.more_acked(more, PATIENCE).await.unwrap();
                for _ in 0..random.random_range(0..50) {
                    tokio::task::yield_now().await;
                }
                server.kill().await;
                *ended.entry("SIGKILL").or_default() += 1;
            }
        }
    }
    let start = Start {
        listen: Some(&address),
        ..Start::default()
    };
    let server = Process::start(&data, start).await.unwrap();
    town.hush().await;
    let (history, found) = town.verdict(PATIENCE, &[]).await.unwrap();
    judge(&history, found, &ended);
    town.leave().await;
    assert!(
        server.terminate().await.unwrap().success(),
        "the last stop was not clean"
    );
}

fn kills(default: u64) -> u64 {
    std::env::var("KILLS")
        .ok()
        .and_then(|k| k.parse().ok())
        .unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_at_random_moments_lose_nothing() {
    run(kills(100), |_, _| None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_every_step_of_a_send_loses_nothing() {
    let steps = [
        "before-commit",
        "after-commit-before-ack",
        "after-ack-before-publish",
    ];
    run(kills(30), |random, round| {
        Some((
            steps[round as usize % steps.len()],
            random.random_range(1..60),
        ))
    })
    .await;
}
