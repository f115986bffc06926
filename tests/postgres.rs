//! The same binary on PostgreSQL, and nothing that was acknowledged is lost, whatever is killed.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use serde_json::json;
use tertulia_kit::instances::postgres::Instance;
use tertulia_tests::node::{Process, Start};
use tertulia_tests::town::{Plan, Town, Traffic};
use tertulia_tests::wire::{Person, request};

const PATIENCE: Duration = Duration::from_secs(60);

/// What makes a server keep everything in a database. By the environment: there it is not seen by others.
fn kept_in(database: &Instance) -> Vec<(String, String)> {
    vec![("TERTULIA_STORE__URL".to_owned(), database.url())]
}

async fn start(data: &std::path::Path, address: Option<&str>, env: &[(String, String)]) -> Process {
    let start = Start {
        listen: address,
        env,
        ..Start::default()
    };
    Process::start(data, start).await.unwrap()
}

async fn kill_and_restart(mut database: Instance) -> Instance {
    let killed = tokio::task::spawn_blocking(move || {
        database.kill();
        database.restart();
        database
    });
    killed.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_did_is_there_for_a_server_with_another_folder() {
    let database = Instance::start();
    let env = kept_in(&database);
    let folder = tempfile::tempdir().unwrap();
    let first = start(&folder.path().join("first"), None, &env).await;
    let ana = Person::sign_up(&first.url, "ana").await;
    let ben = Person::sign_up(&first.url, "ben").await;
    let chat = ana.chat_with(&first.url, &ben).await;
    for n in 0..5 {
        let id = format!("message-{n}");
        let said = ana.say(&first.url, &chat, &id, "hello").await;
        assert_eq!(said.status, 200);
    }
    assert!(first.terminate().await.unwrap().success());

    // Nothing but keys is in the folder; the pepper goes along, or no password would be right.
    let (from, to) = (folder.path().join("first"), folder.path().join("second"));
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(from.join("pepper.key"), to.join("pepper.key")).unwrap();
    for name in ["people.sqlite", "chats"] {
        assert!(
            !from.join(name).exists(),
            "{name} is kept in the folder, too"
        );
    }
    let second = start(&to, None, &env).await;
    let ben = ben.sign_in(&second.url).await;
    let asked = json!({ "chatId": chat, "limit": 10 });
    let events = ben.ok(&second.url, "ListEvents", asked).await;
    let texts = events["events"].as_array().unwrap().iter();
    assert_eq!(
        texts
            .filter(|event| event.to_string().contains("hello"))
            .count(),
        5
    );
    assert!(second.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_shows_in_readiness_until_it_is_back() {
    let mut database = Instance::start();
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), None, &kept_in(&database)).await;
    let ready = async || {
        let url = format!("{}/readyz", server.url);
        request("GET", &url, &[], "").await.status
    };
    assert_eq!(ready().await, 200);
    database.kill();
    assert_eq!(ready().await, 503);
    database.restart();
    let back = async {
        while ready().await != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, back)
        .await
        .expect("it does not get ready again");
    Person::sign_up(&server.url, "ana").await;
    assert!(server.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_scheduled_is_sent_when_the_server_was_killed_that_led() {
    let database = Instance::start();
    let env = kept_in(&database);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = start(&data, None, &env).await;
    let ana = Person::sign_up(&server.url, "ana").await;
    let ben = Person::sign_up(&server.url, "ben").await;
    let chat = ana.chat_with(&server.url, &ben).await;
    let said = ana.say(&server.url, &chat, "message-1", "now").await;
    let said_ms: i64 = said.json()["atMs"].as_str().unwrap().parse().unwrap();
    let later = json!({
        "chatId": chat,
        "clientMessageId": "message-2",
        "text": "later",
        "sendAtMs": (said_ms + 3_000).to_string(),
    });
    ana.ok(&server.url, "ScheduleMessage", later).await;
    // It has the lease still when it is gone.
    server.kill().await;
    let server = start(&data, None, &env).await;
    let sent = async {
        let asked = json!({ "chatId": chat, "limit": 10 });
        loop {
            let events = ben.ok(&server.url, "ListEvents", asked.clone()).await;
            if events.to_string().contains("later") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, sent)
        .await
        .expect("nobody does what is due");
    assert!(server.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_database_and_the_server_loses_nothing_that_was_acknowledged() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut database = Instance::start();
    let env = kept_in(&database);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = start(&data, None, &env).await;
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
    for round in 0..9 {
        town.more_acked(random.random_range(1..40), PATIENCE)
            .await
            .unwrap();
        if round % 3 != 1 {
            database = kill_and_restart(database).await;
        }
        if round % 3 != 0 {
            server.kill().await;
            server = start(&data, Some(&address), &env).await;
        }
    }
    town.more_acked(40, PATIENCE).await.unwrap();
    town.hush().await;
    let (history, found) = town.verdict(PATIENCE, &[]).await.unwrap();
    println!("{}; violations {}", history.summary(), found.len());
    assert_eq!(found, [], "promises were broken");
    let acked = history.acked();
    assert!(
        acked > 100,
        "too little happened to prove anything: {acked}"
    );
    town.leave().await;
    assert!(server.terminate().await.unwrap().success());
}
