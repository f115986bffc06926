//! A town moves from a data folder into PostgreSQL, and nobody in it notices but for the stop.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use serde_json::Value;
use tertulia_kit::instances::postgres::Instance;
use tertulia_tests::node::{Process, Start, tertulia};
use tertulia_tests::town::{Plan, Town, Traffic};
use tertulia_tests::wire::{Person, Socket};

const PATIENCE: Duration = Duration::from_secs(60);

async fn start(data: &Path, listen: Option<&str>, env: &[(String, String)]) -> Process {
    let start = Start {
        listen,
        env,
        ..Start::default()
    };
    Process::start(data, start).await.unwrap()
}

async fn migrate(data: &Path, env: &[(String, String)], args: &[&str]) -> Output {
    let mut command = tertulia();
    command.arg("migrate-store").arg("--data").arg(data);
    command.args(args);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command.output().await.unwrap()
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it says, when all is well.
fn said(output: &Output) -> String {
    let said = words(&output.stdout);
    let why = words(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}{why}");
    said
}

/// Why it did nothing.
fn why(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", words(&output.stdout));
    words(&output.stderr)
}

/// What a device is told that comes with a cursor, and the next cursor.
async fn told(server: &Process, person: &Person, cursor: &str) -> (Value, String) {
    let (_socket, mut welcome) = Socket::hello(&server.url, &person.token, cursor).await;
    let missed = welcome["missed"].take();
    let cursor = missed["cursor"].as_str().unwrap().to_owned();
    (missed, cursor)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_town_moves_into_postgres_and_goes_on_where_it_was() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let database = Instance::start();
    let env = vec![("TERTULIA_STORE__URL".to_owned(), database.url())];
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");

    let server = start(&data, None, &[]).await;
    let address = server.address().to_owned();
    let ana = Person::sign_up(&server.url, "ana").await;
    let ben = Person::sign_up(&server.url, "ben").await;
    let ben = ben.sign_in_on(&server.url, "phone").await;
    let chat = ana.chat_with(&server.url, &ben).await;
    let (first, cursor) = told(&server, &ana, "").await;
    assert!(first.get("reset").is_some(), "{first}");
    assert_eq!(
        ben.say(&server.url, &chat, "message-before", "hi")
            .await
            .status,
        200
    );

    let plan = Plan {
        devices_each: 2,
        ..Plan::default()
    };
    let mut town = Town::found(&server.url, None, &plan).await.unwrap();
    town.act(&Traffic::default(), &mut random);
    town.more_acked(60, PATIENCE).await.unwrap();

    // Nobody stops: what they say from now on waits in their outboxes.
    let used = why(&migrate(&data, &env, &[]).await);
    assert!(used.contains("is in use"), "{used}");
    assert!(server.terminate().await.unwrap().success());
    let nowhere = why(&migrate(&data, &[], &[]).await);
    assert!(nowhere.contains("store.url says where to"), "{nowhere}");
    let would = said(&migrate(&data, &env, &["--dry-run"]).await);
    assert!(would.contains("The database is empty."), "{would}");
    let done = said(&migrate(&data, &env, &[]).await);
    for told in ["Each row was compared", "store.url", "pepper.key"] {
        assert!(done.contains(told), "{done}");
    }
    let digest = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("digest "));
        line.unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    let mut verify = tertulia();
    verify.arg("verify").arg("--data").arg(&data);
    assert_eq!(
        digest(&done),
        digest(&said(&verify.output().await.unwrap()))
    );
    let again = said(&migrate(&data, &env, &[]).await);
    assert!(again.contains("already"), "{again}");

    // Who forgets to say where everything is now does not go on with what was left behind.
    let forgot = Process::start(&data, Start::default()).await;
    let forgot = format!("{:?}", forgot.err().unwrap());
    assert!(forgot.contains("was moved into the database"), "{forgot}");

    let server = start(&data, Some(&address), &env).await;
    town.more_acked(60, PATIENCE).await.unwrap();

    // A password of before is right, and a cursor of before is told what came after it, as if nothing had been.
    let ana = ana.sign_in(&server.url).await;
    let ben = ben.sign_in_on(&server.url, "phone").await;
    let (missed, cursor) = told(&server, &ana, &cursor).await;
    let events = missed["delta"]["events"].as_array();
    let texts: Vec<&Value> = events
        .unwrap_or_else(|| panic!("{missed}"))
        .iter()
        .map(|event| &event["message"]["text"])
        .collect();
    assert_eq!(texts, ["hi"]);
    let repeat = ben
        .say(&server.url, &chat, "message-before", "hi")
        .await
        .json();
    assert_eq!(
        repeat["seq"], missed["delta"]["events"][0]["seq"],
        "{repeat}"
    );
    assert_eq!(
        ben.say(&server.url, &chat, "message-after", "ho")
            .await
            .status,
        200
    );
    let (missed, _) = told(&server, &ana, &cursor).await;
    assert_eq!(missed["delta"]["events"][0]["message"]["text"], "ho");

    town.hush().await;
    let (history, found) = town.verdict(PATIENCE, &[]).await.unwrap();
    println!("{}; violations {}", history.summary(), found.len());
    assert_eq!(found, [], "promises were broken");
    let acked = history.acked();
    assert!(
        acked >= 120,
        "too little happened to prove anything: {acked}"
    );
    town.leave().await;
    assert!(server.terminate().await.unwrap().success());
}
