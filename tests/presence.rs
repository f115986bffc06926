//! Who is there, on one node and on several, while nodes and Redis go.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::time::Duration;

use serde_json::{Value, json};
use tertulia_tests::cluster::{Cluster, Part};
use tertulia_tests::node::Local;
use tertulia_tests::wire::{Came, Person, Socket};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
const ONLINE: &str = "PRESENCE_STATE_ONLINE";
const AWAY: &str = "PRESENCE_STATE_AWAY";
const OFFLINE: &str = "PRESENCE_STATE_OFFLINE";
/// Nothing is known, or told.
const NOTHING: &str = "";

async fn session(url: &str, person: &Person) -> Socket {
    Socket::hello(url, &person.token, "").await.0
}

/// Watches chats, and gives what is known then.
async fn watch(socket: &mut Socket, chats: &[&str]) -> Value {
    socket.send(json!({"watch": {"chatIds": chats}})).await;
    socket.frame("watched").await
}

fn state_of(presence: &Value) -> &str {
    presence["state"].as_str().unwrap_or(NOTHING)
}

/// What an answer says of somebody.
fn told<'a>(answer: &'a Value, who: &Person) -> &'a str {
    let presences = answer["presences"].as_array().into_iter().flatten();
    let mut told = presences.filter(|one| one["userId"] == who.user_id.as_str());
    told.next().map_or(NOTHING, state_of)
}

/// The next word about somebody.
async fn next(socket: &mut Socket, who: &Person) -> String {
    loop {
        let presence = socket.frame("presence").await;
        if presence["userId"] == who.user_id.as_str() {
            return state_of(&presence).to_owned();
        }
    }
}

/// Waits until it is so, as a client does: a disruption of the bus has it catch up, and behind the next heartbeat it is
/// told anew who is there.
async fn becomes(socket: &mut Socket, who: &Person, state: &str) {
    loop {
        let Came::Frame(frame) = socket.next().await else {
            panic!("closed")
        };
        let presence = &frame["presence"];
        let is_told = presence["userId"] == who.user_id.as_str() && state_of(presence) == state;
        if is_told
            || frame
                .get("watched")
                .is_some_and(|all| told(all, who) == state)
        {
            return;
        }
        if frame.get("behind").is_some() {
            socket.send(json!({"catchUp": {}})).await;
        }
        if frame.get("heartbeat").is_some() {
            socket.send(json!({"alive": {}})).await;
        }
    }
}

async fn list(url: &str, person: &Person, chat: &str) -> Value {
    person
        .ok(url, "ListPresence", json!({"chatId": chat}))
        .await
}

/// Asks until it is so.
async fn is_told(url: &str, person: &Person, chat: &str, who: &Person, state: &str) {
    let asking = async {
        while told(&list(url, person, chat).await, who) != state {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap();
}

#[tokio::test]
async fn who_comes_rests_and_goes_is_told_to_who_watches() {
    let local = Local::with(&[("presence.grace_ms", "0")]).await;
    let url = &local.url;
    let (ana, bob) = (
        Person::sign_up(url, "ana").await,
        Person::sign_up(url, "bob").await,
    );
    let chat = ana.chat_with(url, &bob).await;
    let mut watcher = session(url, &ana).await;
    let watched = watch(&mut watcher, &[&chat]).await;
    assert_eq!(watched["chatIds"], json!([chat]));
    assert_eq!(told(&watched, &bob), OFFLINE);
    assert_eq!(told(&watched, &ana), NOTHING, "of oneself nothing is told");

    let mut one = session(url, &bob).await;
    assert_eq!(next(&mut watcher, &bob).await, ONLINE);
    assert_eq!(told(&list(url, &ana, &chat).await, &bob), ONLINE);
    one.send(json!({"rest": {"idle": true}})).await;
    assert_eq!(next(&mut watcher, &bob).await, AWAY);
    let other = session(url, &bob).await;
    assert_eq!(next(&mut watcher, &bob).await, ONLINE);
    drop(other);
    assert_eq!(next(&mut watcher, &bob).await, AWAY);
    one.send(json!({"rest": {}})).await;
    assert_eq!(next(&mut watcher, &bob).await, ONLINE);
    drop(one);
    let gone = watcher.frame("presence").await;
    assert_eq!(state_of(&gone), OFFLINE);
    let seen: i64 = gone["lastSeenAtMs"].as_str().unwrap().parse().unwrap();
    assert_eq!(seen % 60_000, 0, "to the minute");
}

#[tokio::test]
async fn who_comes_back_at_once_was_never_gone() {
    let local = Local::with(&[("presence.grace_ms", "300000")]).await;
    let url = &local.url;
    let (ana, bob, cy) = (
        Person::sign_up(url, "ana").await,
        Person::sign_up(url, "bob").await,
        Person::sign_up(url, "cy").await,
    );
    let (with_bob, with_cy) = (
        ana.chat_with(url, &bob).await,
        ana.chat_with(url, &cy).await,
    );
    let mut watcher = session(url, &ana).await;
    watch(&mut watcher, &[&with_bob, &with_cy]).await;
    let first = session(url, &bob).await;
    becomes(&mut watcher, &bob, ONLINE).await;
    drop(first);
    for _ in 0..10 {
        drop(session(url, &bob).await);
    }
    // What comes next on the same way is about somebody else.
    let _cy = session(url, &cy).await;
    let presence = watcher.frame("presence").await;
    assert_eq!(presence["userId"], cy.user_id.as_str());
    assert_eq!(told(&list(url, &ana, &with_bob).await, &bob), ONLINE);
}

#[tokio::test]
async fn who_hides_is_hidden_at_once_and_sees_nobody() {
    let local = Local::start().await;
    let url = &local.url;
    let (ana, bob) = (
        Person::sign_up(url, "ana").await,
        Person::sign_up(url, "bob").await,
    );
    let chat = ana.chat_with(url, &bob).await;
    let (mut watcher, mut hider) = (session(url, &ana).await, session(url, &bob).await);
    watch(&mut watcher, &[&chat]).await;
    is_told(url, &ana, &chat, &bob, ONLINE).await;
    assert_eq!(bob.ok(url, "GetSharing", json!({})).await["share"], true);

    bob.ok(url, "SetSharing", json!({"share": false})).await;
    becomes(&mut watcher, &bob, NOTHING).await;
    assert_eq!(told(&list(url, &ana, &chat).await, &bob), NOTHING);
    assert_eq!(bob.ok(url, "GetSharing", json!({})).await, json!({}));
    let watched = watch(&mut hider, &[&chat]).await;
    assert_eq!(watched, json!({"notShared": true}));
    assert_eq!(list(url, &bob, &chat).await, json!({"notShared": true}));

    bob.ok(url, "SetSharing", json!({"share": true})).await;
    becomes(&mut watcher, &bob, ONLINE).await;
    watch(&mut hider, &[&chat]).await;
    is_told(url, &bob, &chat, &ana, ONLINE).await;
}

#[tokio::test]
async fn who_has_left_is_heard_of_no_more_and_of_large_chats_nothing_is_told() {
    let local = Local::with(&[("presence.members_max", "3"), ("presence.grace_ms", "0")]).await;
    let url = &local.url;
    let mut people = Vec::new();
    for name in ["ana", "bob", "cy", "dan"] {
        people.push(Person::sign_up(url, name).await);
    }
    let [ana, bob, cy, dan] = &people[..] else {
        panic!("there are four")
    };
    let small = ana.create(url, "group", "small", &[bob, cy]).await;
    let large = ana.create(url, "group", "large", &[bob, cy, dan]).await;
    let channel = ana.create(url, "channel", "channel", &[bob]).await;
    let mut watcher = session(url, ana).await;
    let watched = watch(&mut watcher, &[&small, &large, &channel]).await;
    assert_eq!(watched["chatIds"], json!([small]));
    for chat in [&large, &channel] {
        assert_eq!(list(url, ana, chat).await, json!({"tooLarge": true}));
    }
    bob.ok(url, "LeaveChat", json!({"chatId": small})).await;
    let _bob = session(url, bob).await;
    let _cy = session(url, cy).await;
    let presence = watcher.frame("presence").await;
    assert_eq!(presence["userId"], cy.user_id.as_str());
    let asked = json!({"chatId": small});
    let reason = bob.refused(url, "ListPresence", asked).await;
    assert_eq!(reason, "CHAT_NOT_FOUND");
}

/// Leases are short, so that the end of one is soon, and Redis is waited for as long as a busy machine may need.
const SETTINGS: [(&str, &str); 4] = [
    ("live.heartbeat_ms", "10000"),
    ("presence.lease_ms", "4000"),
    ("presence.grace_ms", "500"),
    ("redis.answer_timeout_ms", "5000"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_on_one_node_is_seen_on_the_other_while_nodes_and_redis_go() {
    let parts = [Part::Edge, Part::Edge];
    let mut cluster = Cluster::start(&parts, &SETTINGS, 1).await.unwrap();
    let urls = cluster.urls();
    let (here, there) = (&urls[0], &urls[1]);
    let (ana, bob) = (
        Person::sign_up(here, "ana").await,
        Person::sign_up(here, "bob").await,
    );
    let chat = ana.chat_with(here, &bob).await;
    let mut watcher = session(here, &ana).await;
    watch(&mut watcher, &[&chat]).await;
    let elsewhere = session(there, &bob).await;
    becomes(&mut watcher, &bob, ONLINE).await;
    is_told(here, &ana, &chat, &bob, ONLINE).await;
    drop(elsewhere);
    becomes(&mut watcher, &bob, OFFLINE).await;
    is_told(there, &ana, &chat, &bob, OFFLINE).await;

    // A node that is killed says nothing any more.
    let elsewhere = session(there, &bob).await;
    becomes(&mut watcher, &bob, ONLINE).await;
    cluster.nodes[1].kill().await;
    becomes(&mut watcher, &bob, OFFLINE).await;
    is_told(here, &ana, &chat, &bob, OFFLINE).await;
    drop(elsewhere);
    cluster.nodes[1].start().await.unwrap();

    // Without Redis nodes tell each other.
    cluster.kill_ledger();
    let elsewhere = session(there, &bob).await;
    becomes(&mut watcher, &bob, ONLINE).await;
    is_told(here, &ana, &chat, &bob, ONLINE).await;
    cluster.restart_ledger();
    // It knows nothing; what it is to know is told to it again.
    let key = format!("EXISTS tertulia:present:{}", bob.user_id);
    tokio::task::block_in_place(|| cluster.ledger.ask_until(&key, |found| found == "1"));
    is_told(here, &ana, &chat, &bob, ONLINE).await;
    tokio::task::block_in_place(|| {
        cluster.ledger.flush();
        cluster.ledger.ask_until(&key, |found| found == "1");
    });
    is_told(there, &ana, &chat, &bob, ONLINE).await;

    // Who hides on one node is hidden on all.
    bob.ok(here, "SetSharing", json!({"share": false})).await;
    becomes(&mut watcher, &bob, NOTHING).await;
    assert_eq!(told(&list(here, &ana, &chat).await, &bob), NOTHING);
    assert_eq!(told(&list(there, &ana, &chat).await, &bob), NOTHING);
    drop(elsewhere);
}
