//! What the bus between nodes costs on this machine:
//! `cargo test --release -p tertulia-kit --all-features --test nats_costs -- --ignored --nocapture`

#![cfg(all(unix, feature = "nats", feature = "suites"))]
#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tertulia_kit::bus::nats::{Nats, Options};
use tertulia_kit::bus::{Bus, Memory, Payload, Sink, Undecodable};
use tertulia_kit::instances::nats::Instance;
use tertulia_kit::lifecycle::Lifecycle;
use tokio::sync::Notify;

/// How large a message is: a frame with a short text.
const MESSAGE_BYTES: usize = 200;
const MESSAGES: u64 = 1_000_000;
const SUBJECTS: u64 = 10_000;
const ROUNDS: usize = 5_000;

/// Something encoded once.
#[derive(Clone)]
struct Frame(Bytes);

impl Payload for Frame {
    fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        Ok(Frame(Bytes::copy_from_slice(bytes)))
    }
}

fn frame() -> Frame {
    Frame(Bytes::from(vec![7; MESSAGE_BYTES]))
}

async fn on(server: &Instance) -> Nats<Frame> {
    let options = Options::new(server.url().parse().unwrap(), "t".parse().unwrap());
    let bus = Nats::start(options, &Lifecycle::new());
    bus.connected().await;
    bus
}

/// Counts, and says when there were so many.
fn counter(until: u64) -> (Sink<Frame>, Arc<Notify>) {
    let (counted, reached) = (AtomicU64::new(0), Arc::new(Notify::new()));
    let told = Arc::clone(&reached);
    let sink = move |_| {
        if counted.fetch_add(1, Ordering::Relaxed) + 1 == until {
            told.notify_one();
        }
    };
    (Arc::new(sink), reached)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let number = line.split_ascii_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

fn nanoseconds_each(took: Duration, count: u64) -> u64 {
    took.as_nanos() as u64 / count
}

fn publishing(bus: &dyn Bus<Frame>) -> u64 {
    let (frame, count) = (frame(), 50_000);
    let _kept = bus.subscribe("user.1", Arc::new(|_| {}));
    let began = Instant::now();
    for _ in 0..count {
        bus.publish("user.1", frame.clone());
    }
    nanoseconds_each(began.elapsed(), count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; to be run alone and optimised"]
async fn what_publishing_costs_who_does_it() {
    let server = Instance::start();
    let (alone, node) = (Memory::new(), on(&server).await);
    println!("a publish in one process: {} ns", publishing(&alone));
    println!(
        "a publish with NATS, in the caller: {} ns",
        publishing(&node)
    );
    assert_eq!(node.lost(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; to be run alone and optimised"]
async fn how_many_messages_go_from_node_to_node() {
    let server = Instance::start();
    let (one, other) = (on(&server).await, on(&server).await);
    let (sink, reached) = counter(MESSAGES);
    let _kept = other.subscribe("user.1", sink);
    other.settled().await;
    let (began, frame) = (Instant::now(), frame());
    for n in 0..MESSAGES {
        one.publish("user.1", frame.clone());
        // As fast as it goes without losing any.
        while n + 1 - one.sent() > 4_096 {
            tokio::task::yield_now().await;
        }
        while n + 1 - other.heard() > 8_000 {
            tokio::task::yield_now().await;
        }
    }
    reached.notified().await;
    let took = began.elapsed();
    println!(
        "{MESSAGES} messages of {MESSAGE_BYTES} bytes from node to node: {:.0} a second, lost {}",
        MESSAGES as f64 / took.as_secs_f64(),
        one.lost()
    );
    assert_eq!((one.lost(), other.heard()), (0, MESSAGES));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; to be run alone and optimised"]
async fn how_long_a_message_takes_and_a_subscription_to_hold() {
    let server = Instance::start();
    let (one, other) = (on(&server).await, on(&server).await);
    let heard = Arc::new(Notify::new());
    let told = Arc::clone(&heard);
    let _kept = other.subscribe("user.1", Arc::new(move |_| told.notify_one()));
    other.settled().await;
    let (mut hops, mut settles) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let began = Instant::now();
        one.publish("user.1", frame());
        heard.notified().await;
        hops.push(began.elapsed());
        let began = Instant::now();
        let _passing = other.subscribe(&format!("user.{}", round + 2), Arc::new(|_| {}));
        other.settled().await;
        settles.push(began.elapsed());
    }
    for (what, mut took) in [("a message", hops), ("a subscription", settles)] {
        took.sort_unstable();
        println!(
            "{what}: p50 {:?}, p99 {:?}",
            took[ROUNDS / 2],
            took[ROUNDS * 99 / 100]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; to be run alone and optimised"]
async fn what_subscriptions_cost() {
    let server = Instance::start();
    let (one, other) = (on(&server).await, on(&server).await);
    let before_kib = resident_kib();
    let began = Instant::now();
    let (sink, reached) = counter(SUBJECTS);
    let kept: Vec<_> = (0..SUBJECTS)
        .map(|n| other.subscribe(&format!("user.{n}"), sink.clone()))
        .collect();
    other.settled().await;
    println!("{SUBJECTS} subscriptions hold after {:?}", began.elapsed());
    let each = (resident_kib() - before_kib) * 1_024 / SUBJECTS;
    println!("a subscription takes {each} bytes");
    let began = Instant::now();
    for n in 0..SUBJECTS {
        one.publish(&format!("user.{n}"), frame());
        while n + 1 - one.sent() > 4_096 {
            tokio::task::yield_now().await;
        }
    }
    reached.notified().await;
    println!(
        "a message to each: {} ns each",
        nanoseconds_each(began.elapsed(), SUBJECTS)
    );
    let began = Instant::now();
    drop(kept);
    println!("all of them end in {:?}", began.elapsed());
}
