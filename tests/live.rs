//! What a stranger's client can rely on over the live socket.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use serde_json::{Value, json};
use tertulia_tests::node::Local;
use tertulia_tests::wire::{Came, Person, Socket};

const EVENTS: &str = "tertulia.chats.v1.ChatsService/ListEvents";
const SEND: &str = "tertulia.chats.v1.MessagesService/SendMessage";

async fn two(local: &Local) -> (Person, Person, String) {
    let ann = Person::sign_up(&local.url, "ann").await;
    let bob = Person::sign_up(&local.url, "bob").await;
    let chat = ann.chat_with(&local.url, &bob).await;
    (ann, bob, chat)
}

fn seqs(events: &Value) -> Vec<String> {
    let events = events.as_array().cloned().unwrap_or_default();
    events
        .iter()
        .map(|e| e["seq"].as_str().unwrap().to_owned())
        .collect()
}

fn cursor(missed: &Value) -> String {
    missed["cursor"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_first_hello_begins_anew_and_the_next_continues() {
    let local = Local::start().await;
    let (ann, bob, chat) = two(&local).await;
    let (_, welcome) = Socket::hello(&local.url, &bob.token, "").await;
    assert_eq!(welcome["missed"]["reset"]["reason"], "RESET_REASON_FIRST");
    assert_eq!(welcome["missed"]["reset"]["chats"][0]["chatId"], chat);
    let first = cursor(&welcome["missed"]);

    for n in 1..=3 {
        ann.say(&local.url, &chat, &format!("message-{n}"), "hi")
            .await;
    }
    let (_, welcome) = Socket::hello(&local.url, &bob.token, &first).await;
    assert_eq!(seqs(&welcome["missed"]["delta"]["events"]), ["1", "2", "3"]);
    let second = cursor(&welcome["missed"]);
    let (_, welcome) = Socket::hello(&local.url, &bob.token, &second).await;
    assert_eq!(
        seqs(&welcome["missed"]["delta"]["events"]),
        Vec::<String>::new()
    );
    assert!(
        welcome["missed"].to_string().len() < 1_000,
        "nothing new costs little"
    );
}

#[tokio::test]
async fn a_new_chat_is_told_live_and_after_an_absence() {
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let bob = Person::sign_up(&local.url, "bob").await;
    let (mut here, welcome) = Socket::hello(&local.url, &bob.token, "").await;
    let chat = ann.chat_with(&local.url, &bob).await;
    let told = here.frame("ownEvent").await;
    assert_eq!(told["event"]["chatJoined"]["chat"]["chatId"], chat);
    let (_, again) = Socket::hello(&local.url, &bob.token, &cursor(&welcome["missed"])).await;
    assert_eq!(
        again["missed"]["delta"]["ownEvents"][0]["chatJoined"]["chat"]["chatId"],
        chat
    );
}

#[tokio::test]
async fn too_much_is_answered_by_what_changed_and_never_in_part() {
    let local = Local::start().await;
    let (ann, bob, chat) = two(&local).await;
    let (_, welcome) = Socket::hello(&local.url, &bob.token, "").await;
    let (mut sender, _) = Socket::hello(&local.url, &ann.token, "").await;
    for n in 1..=1_100_u64 {
        let body = json!({"chatId": chat, "clientMessageId": format!("many-{n:05}"), "text": "x"});
        let call = json!({"call": {"callId": n.to_string(), "method": SEND, "json": body}});
        sender.send(call).await;
        if n % 16 == 0 {
            for _ in 0..16 {
                assert_eq!(sender.frame("reply").await["error"], Value::Null);
            }
        }
    }
    for _ in 0..1_100 % 16 {
        sender.frame("reply").await;
    }
    let (_, welcome) = Socket::hello(&local.url, &bob.token, &cursor(&welcome["missed"])).await;
    let changed = &welcome["missed"]["changed"];
    assert_eq!(changed["chats"][0]["head"], "1100");
    assert_eq!(changed["chats"][0]["lastMessage"]["seq"], "1100");
    assert_eq!(welcome["missed"].get("delta"), None);
}

#[tokio::test]
async fn sends_of_one_session_are_numbered_in_the_order_in_which_they_were_sent() {
    let local = Local::start().await;
    let (ann, _, chat) = two(&local).await;
    let (mut socket, _) = Socket::hello(&local.url, &ann.token, "").await;
    for n in 1..=200_u64 {
        let body = json!({"chatId": chat, "clientMessageId": format!("order-{n:05}"), "text": "x"});
        socket
            .send(json!({"call": {"callId": n.to_string(), "method": SEND, "json": body}}))
            .await;
    }
    let mut replies = 0;
    while replies < 200 {
        let reply = socket.frame("reply").await;
        assert_eq!(reply["json"]["seq"], reply["callId"], "{reply}");
        replies += 1;
    }
}

#[tokio::test]
async fn every_frame_says_what_came_before_it() {
    let local = Local::start().await;
    let (ann, bob, chat) = two(&local).await;
    let (mut here, _) = Socket::hello(&local.url, &bob.token, "").await;
    for n in 1..=20 {
        ann.say(&local.url, &chat, &format!("message-{n}"), "hi")
            .await;
    }
    let number = |of: &Value| of.as_str().unwrap_or("0").parse::<u64>().unwrap();
    let mut seqs = Vec::new();
    for _ in 1..=20 {
        let event = here.frame("chatEvent").await;
        let seq = number(&event["event"]["seq"]);
        // Zero is left out of JSON.
        assert_eq!(number(&event["prev"]), seq - 1);
        seqs.push(seq);
    }
    // What was sent over two nodes may overtake on its way here.
    seqs.sort_unstable();
    assert!(seqs.into_iter().eq(1..=20));
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_another_text_is_refused() {
    let local = Local::start().await;
    let (ann, _, chat) = two(&local).await;
    let first = ann
        .say(&local.url, &chat, "the-same-id", "one")
        .await
        .json();
    assert_eq!(
        ann.say(&local.url, &chat, "the-same-id", "one")
            .await
            .json(),
        first
    );
    assert_eq!(
        ann.say(&local.url, &chat, "the-same-id", "two")
            .await
            .code(),
        "already_exists"
    );
    let other_device = ann.sign_in(&local.url).await;
    let theirs = other_device
        .say(&local.url, &chat, "the-same-id", "one")
        .await
        .json();
    assert_eq!(theirs["seq"], "2", "the id is the device's own");
}

#[tokio::test]
async fn heartbeats_tell_the_heads_and_a_cursor_that_covers_them() {
    let local = Local::with(&[("live.heartbeat_ms", "1000")]).await;
    let (ann, bob, chat) = two(&local).await;
    let (mut here, _) = Socket::hello(&local.url, &bob.token, "").await;
    ann.say(&local.url, &chat, "message-1", "hi").await;
    let beat = here.frame("heartbeat").await;
    assert_eq!(beat["heads"], json!([{"chatId": chat, "seq": "1"}]));
    let cursor = beat["cursor"].as_str().unwrap();
    here.send(json!({"alive": {}})).await;
    let beat = here.frame("heartbeat").await;
    assert_eq!(
        beat.get("heads"),
        None,
        "what was told once is not told again"
    );
    let (_, welcome) = Socket::hello(&local.url, &bob.token, cursor).await;
    assert_eq!(welcome["missed"]["delta"].get("events"), None);
}

#[tokio::test]
async fn who_never_answers_is_let_go() {
    let local = Local::with(&[("live.heartbeat_ms", "1000")]).await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let (mut here, _) = Socket::hello(&local.url, &ann.token, "").await;
    assert_eq!(here.closed().await, 4011);
}

#[tokio::test]
async fn who_says_nothing_at_first_is_let_go() {
    let local = Local::with(&[("live.hello_timeout_ms", "200")]).await;
    let mut silent = Socket::open(&local.url, "tertulia.v1.json").await.unwrap();
    assert_eq!(silent.closed().await, 4001);
}

#[tokio::test]
async fn history_is_read_both_ways_without_holes() {
    let local = Local::start().await;
    let (ann, bob, chat) = two(&local).await;
    for n in 1..=25 {
        ann.say(&local.url, &chat, &format!("message-{n}"), "hi")
            .await;
    }
    let page = |body: Value| bob.call(&local.url, EVENTS, body);
    let last = page(json!({"chatId": chat, "beforeSeq": "0", "limit": 10}))
        .await
        .json();
    assert_eq!(
        seqs(&last["events"]),
        (16..=25).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    let before = page(json!({"chatId": chat, "beforeSeq": "16", "limit": 10}))
        .await
        .json();
    assert_eq!(
        seqs(&before["events"]),
        (6..=15).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    let after = page(json!({"chatId": chat, "afterSeq": "20", "limit": 10}))
        .await
        .json();
    assert_eq!(
        seqs(&after["events"]),
        (21..=25).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(after["head"], "25");
}

#[tokio::test]
async fn a_cursor_of_somebody_else_begins_anew() {
    let local = Local::start().await;
    let (ann, bob, _) = two(&local).await;
    let (_, welcome) = Socket::hello(&local.url, &ann.token, "").await;
    let (_, other) = Socket::hello(&local.url, &bob.token, &cursor(&welcome["missed"])).await;
    assert_eq!(
        other["missed"]["reset"]["reason"],
        "RESET_REASON_UNKNOWN_CURSOR"
    );
    let (_, junk) = Socket::hello(&local.url, &bob.token, "anVuaw==").await;
    assert_eq!(
        junk["missed"]["reset"]["reason"],
        "RESET_REASON_UNKNOWN_CURSOR"
    );
}

#[tokio::test]
async fn a_renewed_token_keeps_the_session() {
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let (mut here, _) = Socket::hello(&local.url, &ann.token, "").await;
    let refresh = json!({"refreshToken": ann.refresh_token});
    let answer = ann
        .call(
            &local.url,
            "tertulia.identity.v1.IdentityService/Refresh",
            refresh,
        )
        .await;
    let token = answer.json()["credentials"]["accessToken"].clone();
    here.send(json!({"renew": {"accessToken": token}})).await;
    assert!(here.frame("renewed").await["accessExpiresAtMs"].is_string());
}

#[tokio::test]
async fn a_node_that_stops_says_when_to_come_back() {
    let local = Local::with(&[("drain.spread_ms", "2000")]).await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let (mut here, _) = Socket::hello(&local.urls()[0], &ann.token, "").await;
    let stopping = tokio::spawn(local.node.stop());
    let goodbye = here.frame("goodbye").await;
    assert_eq!(
        (&goodbye["code"], &goodbye["comeBack"]),
        (&json!(4012), &json!(true))
    );
    assert!(goodbye["afterMs"].as_u64().unwrap_or(0) <= 2_000);
    assert_eq!(here.closed().await, 4012);
    drop(here);
    assert_eq!(stopping.await.unwrap().connections_dropped, 0);
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_behind_and_catches_up_without_a_hole() {
    let local = Local::with(&[
        ("live.outbound_frames_max", "16"),
        ("live.outbound_bytes_max", "65536"),
        // Who reads nothing is let go after a while, and a busy machine takes long for so many messages.
        ("live.heartbeat_ms", "300000"),
    ])
    .await;
    let (ann, bob, chat) = two(&local).await;
    let (mut slow, welcome) = Socket::hello(&local.url, &bob.token, "").await;
    let mut held = cursor(&welcome["missed"]);
    // Far more than the sockets of both sides hold, while the reader does not read.
    let (mut sender, _) = Socket::hello(&local.url, &ann.token, "").await;
    let text = "x".repeat(8_000);
    let total = 1_500_u64;
    for n in 1..=total {
        let body = json!({"chatId": chat, "clientMessageId": format!("slow-{n:05}"), "text": text});
        let call = json!({"callId": n.to_string(), "method": SEND, "json": body});
        sender.send(json!({"call": call})).await;
        // No more than fit into the bounds of the sender, who hears them as well.
        if n % 5 == 0 {
            for _ in 0..5 {
                let reply = sender.frame("reply").await;
                assert_eq!(reply["json"]["seq"], reply["callId"], "{reply}");
            }
        }
    }
    let mut seen = Vec::new();
    let mut was_behind = false;
    while seen.last() != Some(&total) {
        let Came::Frame(frame) = slow.next().await else {
            panic!("closed")
        };
        if let Some(event) = frame.get("chatEvent") {
            seen.push(
                event["event"]["seq"]
                    .as_str()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap(),
            );
        } else if frame.get("behind").is_some() {
            was_behind = true;
            slow.send(json!({"catchUp": {"cursor": held}})).await;
        } else if let Some(caught) = frame.get("caughtUp") {
            held = cursor(&caught["missed"]);
            if let Some(events) = caught["missed"]["delta"].get("events") {
                seen.extend(seqs(events).iter().map(|s| s.parse::<u64>().unwrap()));
            } else {
                // Too much for a list: read it.
                let mut after = seen.last().copied().unwrap_or(0);
                while after < total {
                    let body = json!({"chatId": chat, "afterSeq": after.to_string(), "limit": 500});
                    let page = bob.call(&local.url, EVENTS, body).await.json();
                    let page: Vec<u64> = seqs(&page["events"])
                        .iter()
                        .map(|s| s.parse().unwrap())
                        .collect();
                    after = *page.last().unwrap();
                    seen.extend(page);
                }
            }
        }
    }
    assert!(was_behind, "the reader was never too slow");
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (1..=total).collect::<Vec<_>>());
}

/// It takes the minute that the shortest token lives.
#[tokio::test]
async fn an_open_session_ends_with_its_token() {
    let settings = [
        ("identity.access_token_minutes", "1"),
        ("live.heartbeat_ms", "5000"),
    ];
    let local = Local::with(&settings).await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let (mut here, welcome) = Socket::hello(&local.url, &ann.token, "").await;
    assert!(welcome["accessExpiresAtMs"].is_string());
    let limit = tokio::time::Duration::from_secs(90);
    let closed = tokio::time::timeout(limit, async {
        loop {
            match here.next().await {
                Came::Frame(frame) if frame.get("heartbeat").is_some() => {
                    here.send(json!({"alive": {}})).await;
                }
                Came::Frame(_) => {}
                Came::Closed(code) => return code,
            }
        }
    });
    assert_eq!(closed.await.unwrap(), 4004);
}
