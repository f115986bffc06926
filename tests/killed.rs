//! The server is killed under load again and again, at random moments and at every step of a send. Nothing
//! that was acknowledged is missing, nothing is there twice, and everybody sees the same order.
//!
//! `KILLS=1000 cargo test -p tertulia-tests --test killed` goes on for longer.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tempfile::TempDir;
use tertulia_client::{Change, Client, Options, Seen, State};
use tertulia_proto::chats::__buffa::oneof::event::Body;
use tertulia_proto::chats::__buffa::oneof::list_events_request::From as Start;
use tertulia_tests::checker::{History, Outcome, Row, Send, Shown};
use tertulia_tests::node::{Process, Start as StartOf};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

/// How many messages may wait in one person's outbox before that person stops to think.
const WAITING_MAX: usize = 24;
const PATIENCE: Duration = Duration::from_secs(60);

/// A person with a client, who writes without end.
struct Person {
    name: String,
    client: Client,
    device: String,
    chats: Vec<i64>,
    /// What the client showed, in the order in which it showed it.
    seen: Arc<parking_lot::Mutex<Vec<Seen>>>,
    /// What was written, in its order.
    written: Arc<Mutex<Vec<(i64, String, String)>>>,
    /// What the client was told of it.
    told: Arc<Mutex<HashMap<String, State>>>,
    _folder: TempDir,
}

/// Quick to come back, so that much happens between two kills.
fn options() -> Options {
    Options {
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(100),
        connect_timeout: Duration::from_secs(5),
        call_timeout: Duration::from_secs(5),
        fresh_events: 1_000_000,
        ..Options::default()
    }
}

impl Person {
    async fn join(url: &str, name: &str, acks: &watch::Sender<u64>) -> Person {
        let folder = tempfile::tempdir().unwrap();
        let seen: Arc<parking_lot::Mutex<Vec<Seen>>> = Arc::default();
        let shown = Arc::clone(&seen);
        let client = Client::builder(url)
            .folder(folder.path())
            .options(options())
            .observer(move |event: &Seen| shown.lock().push(event.clone()))
            .build()
            .unwrap();
        client
            .sign_up(name, &format!("a long password for {name}"), name)
            .await
            .unwrap();
        let told: Arc<Mutex<HashMap<String, State>>> = Arc::default();
        let (mut changes, ledger, acks) = (client.changes(), Arc::clone(&told), acks.clone());
        tokio::spawn(async move {
            while let Ok(change) = changes.recv().await {
                let Change::Message {
                    client_message_id,
                    state,
                    ..
                } = change
                else {
                    continue;
                };
                if matches!(state, State::Sent(_)) {
                    acks.send_modify(|n| *n += 1);
                }
                ledger.lock().await.insert(client_message_id, state);
            }
        });
        let device = client.device_id();
        Person {
            name: name.to_owned(),
            client,
            device,
            chats: Vec::new(),
            seen,
            written: Arc::default(),
            told,
            _folder: folder,
        }
    }

    /// Writes into all chats until told to stop.
    fn write(&self, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
        let (client, chats) = (self.client.clone(), self.chats.clone());
        let (written, name) = (Arc::clone(&self.written), self.name.clone());
        let mut changes = client.changes();
        tokio::spawn(async move {
            for n in 0_u64.. {
                if *stop.borrow() {
                    return;
                }
                while client.outbox().len() >= WAITING_MAX {
                    tokio::select! {
                        _ = changes.recv() => {}
                        _ = stop.changed() => return,
                    }
                }
                let chat = chats[n as usize % chats.len()];
                let text = format!("{name} says {n}");
                let id = client.send(chat, &text).await.unwrap();
                written.lock().await.push((chat, id, text));
            }
        })
    }
}

/// Four people in a ring, so that everybody talks with two others.
async fn town(url: &str, acks: &watch::Sender<u64>) -> Vec<Person> {
    let mut people = Vec::new();
    for name in ["ann", "bob", "cyd", "dan"] {
        people.push(Person::join(url, name, acks).await);
    }
    for at in 0..people.len() {
        let next = (at + 1) % people.len();
        let other = people[next].client.user_id().unwrap();
        let chat = people[at].client.open_direct(other).await.unwrap().chat_id;
        people[at].chats.push(chat);
        people[next].chats.push(chat);
    }
    for person in &people {
        person.client.start();
    }
    people
}

/// Everything that happened, once all is quiet.
async fn history(people: &[Person]) -> History {
    let settled = async {
        for person in people {
            let mut changes = person.client.changes();
            while !person.client.is_settled() {
                _ = tokio::time::timeout(Duration::from_millis(200), changes.recv()).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, settled)
        .await
        .expect("the clients never came to rest");
    let mut history = History::default();
    for person in people {
        let told = person.told.lock().await;
        for (chat, id, text) in person.written.lock().await.iter() {
            let outcome = match told.get(id) {
                Some(State::Sent(seq)) => Outcome::Acked(*seq),
                Some(State::Failed(_)) => Outcome::Refused,
                _ => Outcome::Unknown,
            };
            let key = (person.device.clone(), id.clone());
            history.sends.push(Send {
                key,
                chat: *chat,
                text: text.clone(),
                outcome,
            });
        }
        for &chat in &person.chats {
            history.logs.insert(chat, log(&person.client, chat).await);
        }
    }
    // Every client must get as far as the store; what it shows meanwhile is judged by the checker.
    let device_of: HashMap<(i64, String), String> = history
        .logs
        .iter()
        .flat_map(|(chat, rows)| {
            rows.iter()
                .map(|r| ((*chat, r.key.1.clone()), r.key.0.clone()))
        })
        .collect();
    for person in people {
        let mut changes = person.client.changes();
        for &chat in &person.chats {
            let head = history.logs[&chat].len() as i64;
            let shows_all = async {
                while last_seen(person, chat) < head {
                    _ = tokio::time::timeout(Duration::from_millis(200), changes.recv()).await;
                }
            };
            _ = tokio::time::timeout(PATIENCE, shows_all).await;
            let seen = person.seen.lock();
            let shown = seen.iter().filter(|s| s.chat == chat).map(|s| Shown {
                seq: s.seq,
                key: (
                    device_of
                        .get(&(chat, s.client_message_id.clone()))
                        .cloned()
                        .unwrap_or_default(),
                    s.client_message_id.clone(),
                ),
                text: s.text.clone(),
            });
            history
                .views
                .insert((person.name.clone(), chat), shown.collect());
        }
    }
    history
}

fn last_seen(person: &Person, chat: i64) -> i64 {
    let seen = person.seen.lock();
    seen.iter()
        .rev()
        .find(|s| s.chat == chat)
        .map_or(0, |s| s.seq)
}

/// The whole log of a chat, from the store.
async fn log(client: &Client, chat: i64) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map_or(0, |r| r.seq);
        let page = client
            .history(chat, Start::AfterSeq(after), 500)
            .await
            .unwrap();
        for event in &page.events {
            let Some(Body::Message(message)) = &event.body else {
                panic!("an event without a body")
            };
            rows.push(Row {
                seq: event.seq,
                key: (message.device_id.clone(), message.client_message_id.clone()),
                text: message.text.clone(),
            });
        }
        if rows.last().map_or(0, |r| r.seq) >= page.head {
            return rows;
        }
    }
}

fn judge(history: &History, kills: &BTreeMap<&str, u64>) {
    let violations = history.check();
    println!(
        "{kills:?}; {}; violations {}",
        history.summary(),
        violations.len()
    );
    assert_eq!(violations, [], "promises were broken");
    let acked = history
        .sends
        .iter()
        .filter(|s| matches!(s.outcome, Outcome::Acked(_)))
        .count();
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
    let (acks, mut acked) = watch::channel(0_u64);
    let server = Process::start(&data, StartOf::default()).await.unwrap();
    let address = server.address().to_owned();
    let people = town(&server.url, &acks).await;
    let (stop, stopped) = watch::channel(false);
    let writers: Vec<_> = people.iter().map(|p| p.write(stopped.clone())).collect();
    server.kill().await;

    let mut ended: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 0..kills {
        let crash = crash(&mut random, round);
        let start = StartOf {
            listen: Some(&address),
            crash,
            ..StartOf::default()
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
                let until = *acked.borrow() + random.random_range(1..40);
                // The guard is let go at once: it would hold up those who count.
                let moved = tokio::time::timeout(PATIENCE, acked.wait_for(|n| *n >= until))
                    .await
                    .is_ok();
                assert!(moved, "nobody gets an answer any more");
                for _ in 0..random.random_range(0..50) {
                    tokio::task::yield_now().await;
                }
                server.kill().await;
                *ended.entry("SIGKILL").or_default() += 1;
            }
        }
    }
    let start = StartOf {
        listen: Some(&address),
        ..StartOf::default()
    };
    let server = Process::start(&data, start).await.unwrap();
    stop.send(true).unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    let history = history(&people).await;
    judge(&history, &ended);
    for person in &people {
        person.client.stop().await;
    }
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
