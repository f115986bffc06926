//! Which node a process is: one at a time, by leases in PostgreSQL.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tertulia_kit::clock::ManualClock;
use tertulia_kit::id::{Ids, NoNode, Node, NodeIds as _};
use tertulia_kit::instances::postgres::Instance;
use tertulia_store::postgres::{self, NodeLease, OpenError, Target, agree};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

async fn prepared(instance: &Instance) -> Target {
    let target = instance.url().parse().unwrap();
    postgres::prepare(&target).await.unwrap();
    target
}

async fn told(instance: &Instance, statement: &'static str) {
    let mut connection = PgConnection::connect(&instance.url()).await.unwrap();
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap();
}

/// Keeps a lease while something is waited for.
async fn kept(lease: &NodeLease, until: impl Fn() -> bool) {
    let stop = CancellationToken::new();
    let seen = async {
        while !until() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
    };
    let keeping = async { tokio::join!(lease.keep(stop.clone()), seen) };
    tokio::time::timeout(PATIENCE, keeping)
        .await
        .expect("it does not come to that");
}

#[tokio::test]
async fn nodes_that_start_at_once_are_all_another_one() {
    let instance = Instance::start();
    let target = prepared(&instance).await;
    let taking = (0..16).map(|_| NodeLease::take(&target));
    let leases = futures::future::try_join_all(taking).await.unwrap();
    let nodes: HashSet<String> = leases
        .iter()
        .map(|lease| format!("{:?}", lease.held().unwrap()))
        .collect();
    assert_eq!(nodes.len(), 16);
    // Each of them knows all, until one gives its own back.
    let numbers = async |lease: &NodeLease| -> HashSet<u8> {
        let all = lease.all().await.unwrap();
        all.into_iter().map(Node::number).collect()
    };
    assert_eq!(numbers(&leases[3]).await, (0..16).collect());
    let gone = leases[7].held().unwrap().number();
    leases[7].give_back().await;
    let left = numbers(&leases[3]).await;
    assert_eq!((left.len(), left.contains(&gone)), (15, false));
}

#[tokio::test]
async fn what_was_left_longest_ago_is_taken_first() {
    let instance = Instance::start();
    let target = prepared(&instance).await;
    let first = NodeLease::take(&target).await.unwrap();
    let was = first.held();
    first.give_back().await;
    assert_eq!(first.held(), None);
    // All others have never been anybody's.
    for _ in 0..255 {
        assert_ne!(NodeLease::take(&target).await.unwrap().held(), was);
    }
    assert_eq!(NodeLease::take(&target).await.unwrap().held(), was);
    let none = NodeLease::take(&target).await.map(drop).unwrap_err();
    assert!(matches!(none, OpenError::NoNode), "{none}");
}

#[tokio::test]
async fn who_has_lost_its_lease_is_another_node_afterwards() {
    let instance = Instance::start();
    let target = prepared(&instance).await;
    let lease = NodeLease::take(&target).await.unwrap();
    let was = lease.held().unwrap();
    // As when it had stood still for so long that somebody else is this node now.
    told(&instance, "UPDATE nodes SET token = token + 1").await;
    kept(&lease, || lease.held().is_some_and(|now| now != was)).await;
}

#[tokio::test]
async fn without_its_database_a_node_makes_no_ids_when_its_lease_is_over() {
    let mut instance = Instance::start();
    let target = prepared(&instance).await;
    let lease = NodeLease::take(&target).await.unwrap();
    let ids = Ids::new(ManualClock::at(2_000_000_000_000), Arc::clone(&lease) as _);
    ids.next().unwrap();
    instance.kill();
    kept(&lease, || ids.next() == Err(NoNode)).await;
    instance.restart();
    kept(&lease, || ids.next().is_ok()).await;
}

#[tokio::test]
async fn all_agree_on_what_was_said_first() {
    let instance = Instance::start();
    let target = prepared(&instance).await;
    let saying = ["a", "b", "c"].map(|word| agree(&target, "pepper", word));
    let words = futures::future::try_join_all(saying).await.unwrap();
    assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
    assert_eq!(agree(&target, "other", "d").await.unwrap(), "d");
}
