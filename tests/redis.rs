//! Nodes that share a Redis, and lose it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::time::Duration;

use serde_json::{Value, json};
use tertulia_kit::instances::redis::Instance;
use tertulia_tests::cluster::{Cluster, Node, Part};
use tertulia_tests::node::Local;
use tertulia_tests::wire::{Person, post, request};

const PATIENCE: Duration = Duration::from_secs(60);

/// The server waits for Redis as long as a busy machine may need.
const SETTINGS: [(&str, &str); 2] = [
    ("redis.answer_timeout_ms", "10000"),
    ("limits.account_attempts_per_minute", "10"),
];

/// What readiness says of Redis; nothing is no problem.
async fn problem(node: &Local) -> Value {
    let url = format!("{}/readyz?verbose", node.url);
    let answer = request("GET", &url, &[], "").await;
    assert_eq!(answer.status, 200, "it is ready without Redis, too");
    let report = answer.json();
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "redis");
    let check = check.expect("Redis is remarked");
    assert_eq!(check["needed"], false);
    check["problem"].clone()
}

async fn until(node: &Local, is_so: impl Fn(&Value) -> bool) {
    let waiting = async {
        while !is_so(&problem(node).await) {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.expect("readiness does not say so");
}

/// Guesses until it is told to come back later; how often it was told that it is wrong.
async fn guesses(nodes: &[&Local], name: &str) -> usize {
    let mut wrong = 0;
    for turn in 0.. {
        let url = &nodes[turn % nodes.len()].url;
        let guess = json!({ "name": name, "password": "wrong horse battery" });
        let answer = post(
            url,
            "tertulia.identity.v1.IdentityService/Login",
            None,
            guess,
        )
        .await;
        match answer.reason().as_str() {
            "TOO_MANY_REQUESTS" => break,
            "WRONG_CREDENTIALS" => wrong += 1,
            reason => panic!("{reason}"),
        }
        assert!(wrong < 100, "nobody says stop");
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_at_a_password_are_counted_over_all_nodes_and_by_each_when_redis_is_away() {
    let mut shared = Instance::start();
    let url = shared.url();
    let secrets = [("redis.url", url.as_str())];
    let one = Local::with_secrets(&SETTINGS, &secrets).await;
    let other = Local::with_secrets(&SETTINGS, &secrets).await;
    until(&one, Value::is_null).await;
    until(&other, Value::is_null).await;

    // A little fills in while they are guessing.
    let together = guesses(&[&one, &other], "ana").await;
    assert!((10..20).contains(&together), "{together}");

    shared.kill();
    until(&one, |problem| problem.is_string()).await;
    Person::sign_up(&one.url, "bob").await;
    let alone = guesses(&[&one], "carl").await;
    assert!((10..20).contains(&alone), "{alone}");

    shared.restart();
    until(&one, Value::is_null).await;
    until(&other, Value::is_null).await;
    let together = guesses(&[&one, &other], "dora").await;
    assert!((10..20).contains(&together), "{together}");
}

/// How many profiles a node has read from the database for those who look at them.
async fn profiles_read(node: &Node) -> u64 {
    let metrics = &node.server().unwrap().metrics;
    let answer = request("GET", metrics, &[], "").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix("tertulia_cache_read_total "));
    count.unwrap().parse().unwrap()
}

/// What somebody says of themselves, as another one is shown it.
async fn about(url: &str, by: &Person, of: &Person) -> String {
    let asked = json!({"userIds": [of.user_id]});
    let answer = by.ok(url, "GetUsers", asked).await;
    let about = answer["users"][0]["about"].as_str();
    about.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_is_read_once_for_all_nodes_and_what_changes_is_seen_on_all_while_redis_goes() {
    let parts = [Part::Edge, Part::Edge];
    let settings = [("redis.answer_timeout_ms", "5000")];
    let mut cluster = Cluster::start(&parts, &settings, 1).await.unwrap();
    let urls = cluster.urls();
    let (ana, bob) = (
        Person::sign_up(&urls[0], "ana").await,
        Person::sign_up(&urls[0], "bob").await,
    );
    for turn in 0..6 {
        if turn == 3 {
            cluster.kill_ledger();
        }
        if turn == 5 {
            cluster.restart_ledger();
        }
        let (here, there) = (&urls[turn % 2], &urls[(turn + 1) % 2]);
        let text = format!("turn {turn}");
        ana.ok(here, "UpdateProfile", json!({"about": text})).await;
        for url in [there, here, there, here] {
            assert_eq!(about(url, &bob, &ana).await, text);
        }
        if turn == 2 {
            let read = profiles_read(&cluster.nodes[0]).await;
            let read_there = profiles_read(&cluster.nodes[1]).await;
            assert_eq!(read + read_there, 3, "once after each change");
        }
    }
}
