//! The cache of all nodes on real Redis servers that are killed, paused and emptied, and profiles that are read through
//! it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::sync::Arc;
use std::time::Duration;

use tertulia_kit::cache::{self, Cache as _, Change, Found, Through};
use tertulia_kit::instances::redis::{Cluster, Instance};
use tertulia_kit::lifecycle::Lifecycle;
use tertulia_services::identity::AccountStore as _;
use tertulia_services::identity::suite::account;
use tertulia_services::ids::UserId;
use tertulia_services::users::{ProfileStore, Update};
use tertulia_store::cached::Profiles;
use tertulia_store::redis::{Cache, Options, Redis};
use tertulia_store::sqlite::Sqlite;
use tokio::time::timeout;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Somebody's link, and what it keeps alive.
struct Node {
    redis: Redis,
    cache: Arc<Cache>,
    _lifecycle: Lifecycle,
}

/// It waits longer than in earnest, for a machine that is busy with something else.
fn patient(url: &str) -> Options {
    Options {
        answer_max: Duration::from_secs(10),
        silence_max: Duration::from_secs(10),
        ..Options::new(url.parse().unwrap(), "t".parse().unwrap())
    }
}

async fn node(options: Options, kept: Duration) -> Node {
    let lifecycle = Lifecycle::new();
    let redis = Redis::start(options, &lifecycle);
    timeout(PATIENCE, redis.connected()).await.unwrap();
    Node {
        cache: Arc::new(Cache::new(redis.clone(), kept)),
        redis,
        _lifecycle: lifecycle,
    }
}

async fn look(node: &Node, key: &str) -> Found {
    let found = node.cache.look(&[key.to_owned()]).await.unwrap();
    found.into_iter().next().unwrap()
}

async fn bring(node: &Node, key: &str, value: &[u8]) {
    let Found::Missing(ticket) = look(node, key).await else {
        panic!("a ticket for {key}");
    };
    assert!(node.cache.bring(key, ticket, Some(value)).await.unwrap());
}

#[tokio::test]
async fn redis_keeps_the_promises_of_a_cache() {
    let server = Instance::start();
    let node = node(patient(&server.url()), DAY).await;
    cache::suite::run(node.cache).await;
}

#[tokio::test]
async fn a_cluster_keeps_the_promises_of_a_cache() {
    let cluster = Cluster::start();
    let url = format!("redis+cluster://{}", cluster.addresses());
    let node = node(patient(&url), DAY).await;
    cache::suite::run(node.cache).await;
}

#[tokio::test]
async fn what_is_cached_goes_by_itself() {
    let server = Instance::start();
    let node = node(patient(&server.url()), Duration::from_millis(1)).await;
    bring(&node, "old", b"x").await;
    server.ask_until("KEYS t:*old*", |keys| keys == "0");
    let Found::Missing(_) = look(&node, "old").await else {
        panic!("it is too old");
    };
}

#[tokio::test]
async fn a_server_that_was_emptied_or_killed_is_filled_again_and_takes_nothing_that_is_old() {
    let mut server = Instance::start();
    let node = node(patient(&server.url()), DAY).await;
    bring(&node, "a", b"1").await;
    let Found::Missing(ticket) = look(&node, "b").await else {
        panic!("a ticket");
    };
    server.flush();
    assert_eq!(node.cache.bring("b", ticket, Some(b"old")).await, Ok(false));
    bring(&node, "a", b"2").await;

    server.kill();
    timeout(PATIENCE, node.redis.disconnected()).await.unwrap();
    assert!(node.cache.look(&["a".to_owned()]).await.is_err());
    assert!(node.cache.changed("a", Change::begin()).await.is_err());
    server.restart();
    timeout(PATIENCE, node.redis.connected()).await.unwrap();
    bring(&node, "a", b"3").await;
    assert_eq!(look(&node, "a").await, Found::Value(b"3".as_slice().into()));
}

fn renamed(user: UserId, to: &str) -> Update {
    Update {
        user,
        shown: None,
        about: Some(to.into()),
        shares_seen: None,
        shares_presence: None,
        at_ms: 1,
    }
}

async fn about(profiles: &Profiles, user: UserId) -> String {
    profiles.shown(&[user]).await.unwrap().remove(0).about
}

#[tokio::test]
async fn a_profile_is_read_once_for_all_nodes_and_a_change_is_seen_by_all_at_once() {
    let server = Instance::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("people")).await.unwrap();
    let user = UserId(7);
    store.create(account(7, "ana", "Ana")).await.unwrap();
    let store: Arc<dyn ProfileStore> = Arc::new(store);
    let nodes = [
        node(patient(&server.url()), DAY).await,
        node(patient(&server.url()), DAY).await,
    ];
    let through = nodes
        .each_ref()
        .map(|node| Through::new(node.cache.clone()));
    let profiles = through
        .each_ref()
        .map(|way| Profiles::new(Arc::clone(&store), way.clone()));
    let read = || {
        through
            .iter()
            .map(|way| way.counts().read.get())
            .sum::<u64>()
    };

    for _ in 0..5 {
        assert_eq!(about(&profiles[0], user).await, "");
        assert_eq!(about(&profiles[1], user).await, "");
    }
    assert_eq!(read(), 1);
    for turn in 0..10 {
        let text = format!("turn {turn}");
        profiles[turn % 2]
            .update(renamed(user, &text))
            .await
            .unwrap();
        assert_eq!(about(&profiles[0], user).await, text);
        assert_eq!(about(&profiles[1], user).await, text);
    }
    assert_eq!(read(), 11);
    // Somebody whom nobody knows is asked for each time.
    assert!(profiles[0].shown(&[UserId(8)]).await.unwrap().is_empty());
    assert!(profiles[1].shown(&[UserId(8)]).await.unwrap().is_empty());
    assert_eq!(read(), 13);
    // A value that somebody else put there is none.
    server.ask("HSET t:cache:profile:1:7 value nonsense");
    assert_eq!(about(&profiles[0], user).await, "turn 9");
}
