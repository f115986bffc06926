//! The ledger of budgets on real Redis servers that are killed, paused, emptied and moved.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tertulia_kit::clock::SystemClock;
use tertulia_kit::instances::redis::{Cluster, Instance};
use tertulia_kit::lifecycle::Lifecycle;
use tertulia_kit::limit::{self, Budgets, Charge, Rate};
use tertulia_services::ids::UserId;
use tertulia_services::presence::{Holding, Presences as _, Run};
use tertulia_store::redis::{Ledger, Options, Redis, Registry};
use tokio::time::timeout;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody's link. It waits longer than in earnest, for a machine that is busy with something else.
struct Node {
    redis: Redis,
    ledger: Arc<dyn limit::Ledger>,
    _lifecycle: Lifecycle,
}

fn options(url: &str, prefix: &str) -> Options {
    Options {
        answer_max: Duration::from_secs(10),
        silence_max: Duration::from_secs(10),
        ..Options::new(url.parse().unwrap(), prefix.parse().unwrap())
    }
}

fn unconnected(options: Options) -> Node {
    let lifecycle = Lifecycle::new();
    let redis = Redis::start(options, &lifecycle);
    Node {
        ledger: Arc::new(Ledger::new(redis.clone())),
        redis,
        _lifecycle: lifecycle,
    }
}

async fn up(node: &Node) {
    timeout(PATIENCE, node.redis.connected())
        .await
        .expect("it connects");
}

async fn down(node: &Node) {
    timeout(PATIENCE, node.redis.disconnected())
        .await
        .expect("it notices");
}

async fn on(url: &str, prefix: &str) -> Node {
    let node = unconnected(options(url, prefix));
    up(&node).await;
    node
}

/// Buckets of ten that do not fill while a test runs.
fn buckets(node: &Node) -> Budgets<u32> {
    let rate = Rate::over(Duration::from_secs(3_600), 10, 10);
    let clock = Arc::new(SystemClock::default());
    Budgets::new(rate, 100, clock).tied("calls", Arc::clone(&node.ledger))
}

async fn given(budgets: &Budgets<u32>, key: u32, tries: usize) -> usize {
    let mut given = 0;
    for _ in 0..tries {
        given += usize::from(budgets.spend_everywhere(&key, 1).await.is_ok());
    }
    given
}

async fn suite(url: &str) {
    let made = AtomicU64::new(0);
    limit::suite::run(|| async {
        let prefix = format!("t{}", made.fetch_add(1, Ordering::Relaxed));
        on(url, &prefix).await.ledger
    })
    .await;
}

#[tokio::test]
async fn redis_keeps_the_promises_of_a_ledger() {
    let server = Instance::start();
    suite(&server.url()).await;
}

#[tokio::test]
async fn a_cluster_keeps_the_promises_of_a_ledger() {
    let cluster = Cluster::start();
    suite(&format!("redis+cluster://{}", cluster.addresses())).await;
}

#[tokio::test]
async fn the_master_that_sentinels_know_keeps_the_promises_of_a_ledger() {
    let master = Instance::start();
    let sentinel = Instance::sentinel(&master);
    suite(&format!("redis+sentinel://{}/main", sentinel.address())).await;
}

#[tokio::test]
async fn a_key_shows_nobody() {
    let server = Instance::start();
    let node = on(&server.url(), "t").await;
    let charge = Charge {
        budget: "address",
        key: "192.0.2.7",
        rate: Rate::per_minute(1, 10),
        tokens: 1,
        is_spent: false,
    };
    node.ledger.charge(charge).await.unwrap();
    let kept = server.ask("KEYS t:spent:address:*");
    assert_eq!(
        (kept.as_str(), server.ask("KEYS *192*").as_str()),
        ("1", "0")
    );
}

#[tokio::test]
async fn a_bucket_that_is_full_again_is_not_kept() {
    let server = Instance::start();
    let node = on(&server.url(), "t").await;
    let charge = Charge {
        budget: "calls",
        key: "1",
        rate: Rate::per_second(1_000, 10),
        tokens: 10,
        is_spent: false,
    };
    node.ledger.charge(charge).await.unwrap();
    server.ask_until("KEYS t:spent:*", |keys| keys == "0");
}

#[tokio::test]
async fn deployments_on_one_server_do_not_pay_for_each_other() {
    let server = Instance::start();
    let (one, other) = (
        on(&server.url(), "one").await,
        on(&server.url(), "other").await,
    );
    assert_eq!(given(&buckets(&one), 1, 20).await, 10);
    assert_eq!(given(&buckets(&other), 1, 20).await, 10);
}

#[tokio::test]
async fn a_server_that_is_killed_lets_each_node_decide_alone_and_is_used_again_when_it_is_back() {
    let mut server = Instance::start();
    let (one, other) = (on(&server.url(), "t").await, on(&server.url(), "t").await);
    let budgets = [buckets(&one), buckets(&other)];
    assert_eq!(given(&budgets[0], 1, 20).await, 10);
    assert_eq!(given(&budgets[1], 1, 20).await, 0);

    server.kill();
    down(&one).await;
    down(&other).await;
    assert!(one.redis.health().is_err());
    for budgets in &budgets {
        assert_eq!(given(budgets, 2, 20).await, 10);
    }

    server.restart();
    up(&one).await;
    up(&other).await;
    assert_eq!(one.redis.health(), Ok(()));
    assert_eq!(given(&budgets[0], 3, 20).await, 10);
    assert_eq!(given(&budgets[1], 3, 20).await, 0);
}

#[tokio::test]
async fn a_server_that_forgets_everything_gives_no_node_more_than_it_would_give_alone() {
    let server = Instance::start();
    let (one, other) = (on(&server.url(), "t").await, on(&server.url(), "t").await);
    let budgets = [buckets(&one), buckets(&other)];
    assert_eq!(given(&budgets[0], 1, 20).await, 10);
    server.flush();
    assert_eq!(given(&budgets[0], 1, 20).await, 0);
    assert_eq!(given(&budgets[1], 1, 20).await, 10);
}

#[tokio::test]
async fn a_server_that_hangs_is_asked_by_few_and_used_again_when_it_goes_on() {
    let server = Instance::start();
    let node = unconnected(Options {
        answer_max: Duration::from_millis(50),
        silence_max: Duration::from_millis(300),
        ..options(&server.url(), "t")
    });
    up(&node).await;
    let budgets = buckets(&node);
    server.pause();
    // Until it is known to hang, whoever asks waits for a moment and is let through.
    assert_eq!(budgets.spend_everywhere(&1, 1).await, Ok(()));
    down(&node).await;
    let asked = node.redis.asked();
    assert_eq!(given(&budgets, 2, 20).await, 10);
    assert_eq!(node.redis.asked(), asked);
    assert!(node.redis.unanswered() > 0);
    server.go_on();
    up(&node).await;
}

#[tokio::test]
async fn what_is_spent_in_the_background_is_missing_elsewhere() {
    let server = Instance::start();
    let (one, other) = (on(&server.url(), "t").await, on(&server.url(), "t").await);
    let budgets = [buckets(&one), buckets(&other)];
    for _ in 0..10 {
        budgets[0].spend(&1, 1).unwrap();
    }
    // What nobody asks for takes nothing.
    let rate = Rate::over(Duration::from_secs(3_600), 10, 10);
    let charge = || Charge {
        budget: "calls",
        key: "1",
        rate,
        tokens: 0,
        is_spent: false,
    };
    let telling = async {
        // Its ten are told in ten portions, and those are there when more than nine of them have to be filled in again.
        // That they were sent says nothing: what the other node sends then may come first.
        let nine = Duration::from_secs(9 * 360);
        while one.ledger.charge(charge()).await.unwrap().full_in <= nine {
            tokio::task::yield_now().await;
        }
        // One more is let through there, and with it the other node learns.
        budgets[1].spend(&1, 1).unwrap();
        while other.redis.asked() < 1 || budgets[1].spend(&1, 0).is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(budgets[1].spend(&1, 1).is_err());
    };
    let told = async {
        tokio::select! {
            () = budgets[0].keep_telling() => {}
            () = budgets[1].keep_telling() => {}
            () = telling => {}
        }
    };
    timeout(PATIENCE, told).await.expect("it learns");
}

#[tokio::test]
async fn when_another_server_becomes_the_master_it_is_found() {
    let mut first = Instance::start();
    let (host, port) = ("127.0.0.1", first.port());
    let second = Instance::with(&["--replicaof", &format!("{host} {port}")]);
    second.ask_until("INFO replication", |info| {
        info.contains("master_link_status:up")
    });
    let sentinel = Instance::sentinel(&first);
    sentinel.ask_until("SENTINEL MASTERS", |_| {
        sentinel.ask("SENTINEL REPLICAS main") == "1"
    });
    let url = format!("redis+sentinel://{}/main", sentinel.address());
    let node = on(&url, "t").await;
    first.kill();
    down(&node).await;
    second.ask_until("INFO replication", |info| info.contains("role:master"));
    up(&node).await;
    assert_eq!(given(&buckets(&node), 1, 20).await, 10);
}

#[tokio::test]
async fn a_cluster_that_lacks_a_node_lets_each_node_decide_alone_until_it_is_whole() {
    let mut cluster = Cluster::start();
    let url = format!("redis+cluster://{}", cluster.addresses());
    let node = on(&url, "t").await;
    assert_eq!(given(&buckets(&node), 1, 20).await, 10);
    cluster.nodes[0].kill();
    down(&node).await;
    assert_eq!(given(&buckets(&node), 2, 20).await, 10);
    cluster.nodes[0].restart();
    cluster.settle();
    up(&node).await;
    let (one, other) = (buckets(&node), buckets(&node));
    assert_eq!(given(&one, 3, 20).await, 10);
    assert_eq!(given(&other, 3, 20).await, 0);
}

#[tokio::test]
async fn a_server_that_asks_for_a_password_gets_it() {
    let server = Instance::with(&["--requirepass", "p@ss"]);
    let right = format!("redis://:p%40ss@{}", server.address());
    on(&right, "t").await;
    let wrong = format!("redis://:other@{}", server.address());
    let refused = unconnected(options(&wrong, "t"));
    let connecting = timeout(Duration::from_millis(500), refused.redis.connected());
    assert!(connecting.await.is_err());
    assert!(refused.redis.health().is_err());
}

#[tokio::test]
async fn a_user_with_the_rights_that_the_page_names_has_enough() {
    let rights = "~t:* +get +set +time +eval +evalsha +del +pexpire +hset +hdel +hgetall +zadd +zrem +zscore \
                  +zrangebyscore +zremrangebyscore";
    let mut user = vec!["--user", "who", "on", ">p@ss"];
    user.extend(rights.split_whitespace());
    let server = Instance::with(&user);
    let url = format!("redis://who:p%40ss@{}", server.address());
    let node = on(&url, "t").await;
    let budgets = buckets(&node);
    assert_eq!(given(&budgets, 1, 20).await, 10);
    assert_eq!((node.redis.asked(), node.redis.unanswered()), (10, 0));
    let registry = Registry::new(node.redis.clone(), PATIENCE);
    let (ana, run) = (UserId(1), Run(1));
    registry.begin(run).await.unwrap();
    assert_eq!(registry.renew(run).await, Ok(true));
    for holding in [Holding::Active, Holding::Gone, Holding::Hidden] {
        registry.hold(run, &[(ana, holding)]).await.unwrap();
    }
    registry.of(&[ana]).await.unwrap();
    registry.end(run).await.unwrap();
    let elsewhere = unconnected(options(&url, "u"));
    let connecting = timeout(Duration::from_millis(500), elsewhere.redis.connected());
    assert!(connecting.await.is_err());
}

/// The variable that tells the child of a test where its server is.
const SERVER: &str = "TERTULIA_TEST_REDIS";

fn told() -> Node {
    #[expect(clippy::disallowed_methods, reason = "its parent tells it where")]
    let url = std::env::var(SERVER).unwrap();
    unconnected(options(&url, "t"))
}

#[tokio::test]
#[ignore = "runs as a child of another test"]
async fn child_connects() {
    let node = told();
    up(&node).await;
    assert_eq!(given(&buckets(&node), 1, 20).await, 10);
}

#[tokio::test]
#[ignore = "runs as a child of another test"]
async fn child_does_not_connect() {
    let connected = timeout(Duration::from_secs(1), told().redis.connected()).await;
    assert!(connected.is_err());
}

#[test]
fn with_tls_the_certificate_is_checked() {
    let server = Instance::with_tls();
    let own = server.certificate().display().to_string();
    for (test, host, authorities) in [
        ("child_connects", "localhost", own.as_str()),
        ("child_does_not_connect", "127.0.0.1", own.as_str()),
        ("child_does_not_connect", "localhost", "/dev/null"),
    ] {
        // The authorities of the system are those of a whole process.
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(SERVER, server.tls_url(host))
            .env("SSL_CERT_FILE", authorities)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{host} {authorities}: {said}");
    }
}
