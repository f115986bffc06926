//! The registry of who is there on real Redis servers that are killed, paused and emptied.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tertulia_kit::instances::redis::{Cluster, Instance};
use tertulia_kit::lifecycle::Lifecycle;
use tertulia_services::ids::UserId;
use tertulia_services::presence::suite::{self, LEASE, RUNS, Time};
use tertulia_services::presence::{Away, Holding, Presences, Run, State};
use tertulia_store::redis::{Options, Redis, Registry};
use tokio::time::timeout;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
const ANA: UserId = UserId(7);

/// Somebody's link, and what it keeps alive.
struct Node {
    redis: Redis,
    registry: Arc<dyn Presences>,
    _lifecycle: Lifecycle,
}

async fn node(options: Options, lease: Duration) -> Node {
    let lifecycle = Lifecycle::new();
    let redis = Redis::start(options, &lifecycle);
    timeout(PATIENCE, redis.connected()).await.unwrap();
    Node {
        registry: Arc::new(Registry::new(redis.clone(), lease)),
        redis,
        _lifecycle: lifecycle,
    }
}

/// It waits longer than in earnest, for a machine that is busy with something else.
fn patient(url: &str) -> Options {
    Options {
        answer_max: Duration::from_secs(10),
        silence_max: Duration::from_secs(10),
        ..Options::new(url.parse().unwrap(), "t".parse().unwrap())
    }
}

/// The leases of a server, which all end so much sooner.
struct Leases(Instance);

#[async_trait]
impl Time for Leases {
    async fn pass(&self, time: Duration) {
        for Run(run) in RUNS {
            let sooner = time.as_millis();
            self.0.ask(&format!("ZADD t:runs XX INCR -{sooner} {run}"));
        }
    }
}

mod one_server_keeps_the_word_of_the_port {
    use super::*;

    tertulia_services::presences_suite!({
        let server = Instance::start();
        let node = node(patient(&server.url()), LEASE).await;
        let registry = Arc::clone(&node.registry);
        (node, registry, Leases(server))
    });
}

/// For what needs no time to pass.
struct Still;

#[async_trait]
impl Time for Still {
    async fn pass(&self, _: Duration) {}
}

#[tokio::test]
async fn a_cluster_spreads_the_users() {
    let cluster = Cluster::start();
    let url = format!("redis+cluster://{}", cluster.addresses());
    let node = node(patient(&url), LEASE).await;
    let registry = Arc::clone(&node.registry);
    suite::many_users_are_held_and_told_in_their_order(registry, &Still).await;
}

#[tokio::test]
async fn the_master_that_sentinels_know_keeps_who_is_there() {
    let master = Instance::start();
    let sentinel = Instance::sentinel(&master);
    let url = format!("redis+sentinel://{}/main", sentinel.address());
    let node = node(patient(&url), LEASE).await;
    let registry = Arc::clone(&node.registry);
    suite::what_living_runs_hold_is_told(registry, &Still).await;
}

async fn state(registry: &Arc<dyn Presences>) -> Result<State, Away> {
    Ok(State::of(&registry.of(&[ANA]).await?.users[0]))
}

/// Long enough that nothing is over by itself.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_server_that_forgets_everything_says_so_when_a_lease_is_renewed() {
    let server = Instance::start();
    let node = node(patient(&server.url()), LONG).await;
    let registry = &node.registry;
    registry.begin(Run(1)).await.unwrap();
    registry
        .hold(Run(1), &[(ANA, Holding::Active)])
        .await
        .unwrap();
    assert!(registry.renew(Run(1)).await.unwrap());
    server.flush();
    assert_eq!(
        state(registry).await,
        Ok(State::Offline { seen_at_ms: None })
    );
    assert!(!registry.renew(Run(1)).await.unwrap());
}

#[tokio::test]
async fn a_server_that_is_killed_does_not_answer_and_answers_again_when_it_is_back() {
    let mut server = Instance::start();
    let node = node(patient(&server.url()), LONG).await;
    server.kill();
    timeout(PATIENCE, node.redis.disconnected()).await.unwrap();
    assert_eq!(state(&node.registry).await, Err(Away));
    assert_eq!(node.registry.renew(Run(1)).await, Err(Away));
    server.restart();
    timeout(PATIENCE, node.redis.connected()).await.unwrap();
    node.registry.begin(Run(1)).await.unwrap();
    let held = [(ANA, Holding::Idle)];
    node.registry.hold(Run(1), &held).await.unwrap();
    assert_eq!(state(&node.registry).await, Ok(State::Away));
}

#[tokio::test]
async fn a_server_that_hangs_is_waited_for_no_longer_than_was_said() {
    let server = Instance::start();
    let options = Options::new(server.url().parse().unwrap(), "t".parse().unwrap());
    let node = node(options, LONG).await;
    server.pause();
    // It ends at all: the server goes on only after that.
    assert_eq!(state(&node.registry).await, Err(Away));
    server.go_on();
}

#[tokio::test]
async fn what_is_kept_of_a_user_is_small_and_goes_by_itself() {
    let server = Instance::start();
    let node = node(patient(&server.url()), LONG).await;
    node.registry.begin(Run(i64::MAX)).await.unwrap();
    let held = [(UserId(i64::MAX), Holding::Active)];
    node.registry.hold(Run(i64::MAX), &held).await.unwrap();
    let key = format!("t:present:{}", i64::MAX);
    let bytes: u32 = server.ask(&format!("MEMORY USAGE {key}")).parse().unwrap();
    assert!(bytes <= 250, "{bytes} bytes");
    let left_ms: i64 = server.ask(&format!("PTTL {key}")).parse().unwrap();
    assert!(left_ms > 0, "{left_ms}");
}
