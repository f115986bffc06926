//! Buses on a server of their own that is killed, paused and started again.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::super::suite::{self, Note};
use super::*;
use crate::instances::nats::Instance;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Some bus on a server.
fn options(url: &str, prefix: &str) -> Options {
    Options::new(url.parse().unwrap(), prefix.parse().unwrap())
}

fn unconnected(url: &str, prefix: &str) -> Nats<Note> {
    Nats::start(options(url, prefix), &Lifecycle::new())
}

async fn on(server: &Instance, prefix: &str) -> Arc<Nats<Note>> {
    let bus = unconnected(&server.url(), prefix);
    up(&bus).await;
    Arc::new(bus)
}

async fn up(bus: &Nats<Note>) {
    timeout(PATIENCE, bus.connected())
        .await
        .expect("it connects");
}

async fn down(bus: &Nats<Note>) {
    let mut state = bus.0.state.subscribe();
    let down = state.wait_for(|state| *state != State::Up);
    timeout(PATIENCE, down).await.expect("it notices").unwrap();
}

async fn disrupted(told: &mut watch::Receiver<u64>) {
    timeout(PATIENCE, told.changed())
        .await
        .expect("it is told")
        .unwrap();
}

/// What comes on a subject.
fn ear(bus: &Nats<Note>, subject: &str) -> (mpsc::Receiver<Note>, Subscription) {
    let (tell, heard) = mpsc::channel(10_000);
    let sink = Arc::new(move |note| tell.try_send(note).unwrap());
    (heard, bus.subscribe(subject, sink))
}

async fn next(heard: &mut mpsc::Receiver<Note>) -> u64 {
    let next = timeout(PATIENCE, heard.recv()).await;
    next.expect("it comes").unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_keeps_the_promises_of_a_bus() {
    let (server, made) = (Instance::start(), AtomicU64::new(0));
    let unique = || format!("t{}", made.fetch_add(1, Ordering::Relaxed));
    let alone = || {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(on(&server, &unique()))
        })
    };
    suite::run(alone).await;
    suite::run_between(|| async {
        let prefix = unique();
        (on(&server, &prefix).await, on(&server, &prefix).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_on_one_server_do_not_hear_each_other() {
    let server = Instance::start();
    let (one, other) = (on(&server, "one").await, on(&server, "other").await);
    let (mut heard, _kept) = ear(&other, "a");
    let (mut own, _kept) = ear(&one, "a");
    other.settled().await;
    one.publish("a", Note(1));
    other.publish("a", Note(2));
    assert_eq!((next(&mut own).await, next(&mut heard).await), (1, 2));
    assert_eq!((one.heard(), other.heard()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_hears_itself_and_tells_when_it_is_back() {
    let mut server = Instance::start();
    server.kill();
    let (one, other) = (
        unconnected(&server.url(), "t"),
        unconnected(&server.url(), "t"),
    );
    let (mut own, _kept) = ear(&one, "a");
    let (mut heard, _kept) = ear(&other, "a");
    one.settled().await;
    one.publish("a", Note(1));
    assert_eq!((next(&mut own).await, one.lost()), (1, 1));
    assert!(one.health().is_err());

    let mut told = [one.disruptions(), other.disruptions()];
    server.restart();
    for told in &mut told {
        disrupted(told).await;
    }
    up(&one).await;
    up(&other).await;
    assert_eq!(one.health(), Ok(()));
    one.publish("a", Note(2));
    assert_eq!((next(&mut own).await, next(&mut heard).await), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_and_comes_leaves_nobody_deaf() {
    let mut server = Instance::start();
    let (one, other) = (on(&server, "t").await, on(&server, "t").await);
    let (mut heard, _kept) = ear(&other, "before");
    other.settled().await;
    for round in 0..5 {
        let mut told = other.disruptions();
        server.kill();
        down(&one).await;
        down(&other).await;
        // Who comes during the outage is heard after it, too.
        let (mut late, _kept) = ear(&other, "during");
        server.restart();
        up(&one).await;
        up(&other).await;
        disrupted(&mut told).await;
        one.publish("before", Note(round));
        one.publish("during", Note(round));
        assert_eq!(next(&mut heard).await, round);
        assert_eq!(next(&mut late).await, round);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_nothing_is_given_up_and_its_return_is_told() {
    let server = Instance::start();
    let options = Options {
        silence_max: Duration::from_millis(600),
        ..options(&server.url(), "t")
    };
    let bus: Nats<Note> = Nats::start(options, &Lifecycle::new());
    up(&bus).await;
    let mut told = bus.disruptions();
    told.mark_unchanged();
    server.pause();
    down(&bus).await;
    server.go_on();
    disrupted(&mut told).await;
    up(&bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_faster_than_it_is_taken_is_a_disruption() {
    let server = Instance::start();
    let options = Options {
        incoming_messages_max: 64,
        ..options(&server.url(), "t")
    };
    let slow: Nats<Note> = Nats::start(options, &Lifecycle::new());
    up(&slow).await;
    let quick = on(&server, "t").await;
    let mut told = slow.disruptions();
    told.mark_unchanged();

    // Who takes them takes none until this is dropped, also when the test fails.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let _kept = slow.subscribe(
        "a",
        Arc::new(move |_| _ = tokio::task::block_in_place(|| held.lock().recv())),
    );
    slow.settled().await;
    (0..10_000).for_each(|n| quick.publish("a", Note(n)));
    disrupted(&mut told).await;
    drop(hold);

    // It hears again what comes from now on.
    let (mut heard, _kept) = ear(&slow, "b");
    slow.settled().await;
    quick.publish("b", Note(1));
    assert_eq!(next(&mut heard).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_could_not_be_sent_is_told_to_the_others() {
    let server = Instance::start();
    let options = Options {
        outgoing_bytes_max: 64 * 1024,
        ..options(&server.url(), "t")
    };
    let eager: Nats<Note> = Nats::start(options, &Lifecycle::new());
    up(&eager).await;
    let other = on(&server, "t").await;
    let mut told = other.disruptions();
    told.mark_unchanged();
    let mut published = 0;
    while eager.lost() == 0 {
        eager.publish("a", Note(published));
        published += 1;
        assert!(published < 50_000_000, "the bound is never met");
    }
    disrupted(&mut told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_is_a_disruption_and_ends_nothing() {
    let server = Instance::start();
    let (one, other) = (on(&server, "t").await, on(&server, "t").await);
    let (mut heard, _kept) = ear(&other, "a");
    other.settled().await;
    let mut told = other.disruptions();
    told.mark_unchanged();
    let stranger = async_nats::connect(server.url()).await.unwrap();
    let garbage = Bytes::from_static(b"of another version");
    stranger.publish("t.bus.a", garbage).await.unwrap();
    disrupted(&mut told).await;
    one.publish("a", Note(1));
    assert_eq!(next(&mut heard).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_a_password_gets_it() {
    let server = Instance::with(&["--user", "who", "--pass", "p@ss"]);
    let (right, wrong) = (
        format!("nats://who:p%40ss@{}", server.address()),
        format!("nats://who:other@{}", server.address()),
    );
    up(&unconnected(&right, "t")).await;
    let refused = unconnected(&wrong, "t");
    assert!(
        timeout(Duration::from_millis(500), refused.connected())
            .await
            .is_err()
    );
    assert!(refused.health().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_says_what_it_has_to_say() {
    let server = Instance::start();
    let lifecycle = Lifecycle::new();
    let going: Nats<Note> = Nats::start(options(&server.url(), "t"), &lifecycle);
    up(&going).await;
    let stays = on(&server, "t").await;
    let (mut heard, _kept) = ear(&stays, "a");
    stays.settled().await;
    (0..100).for_each(|n| going.publish("a", Note(n)));
    lifecycle
        .stop(crate::lifecycle::Grace::of_connections(Duration::ZERO))
        .await;
    for n in 0..100 {
        assert_eq!(next(&mut heard).await, n);
    }
}
