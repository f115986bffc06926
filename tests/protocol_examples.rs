//! Every example in JSON of docs/protocol is a frame of the contract, and what the server really says has
//! exactly its shape.
//!
//! An example is a fenced block of JSON behind a line `<!-- example: name -->`. The names are told here in the
//! order in which a session meets them.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tertulia_proto::live::{ConnectRequest, ConnectResponse};
use tertulia_tests::node::Local;
use tertulia_tests::wire::{Came, Person, Socket, post_as_node};

/// The examples of a page, by name.
type Examples = BTreeMap<String, Value>;

fn examples(page: &str, text: &str) -> Examples {
    let mut found = Examples::new();
    let mut before = "";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "```json" {
            let name = before.strip_prefix("<!-- example: ");
            let name = name.and_then(|rest| rest.strip_suffix(" -->"));
            let name = name.unwrap_or_else(|| panic!("{page}: a block of JSON without a name"));
            let block: Vec<&str> = lines.by_ref().take_while(|l| l.trim() != "```").collect();
            let json = serde_json::from_str(&block.join("\n"));
            let json = json.unwrap_or_else(|e| panic!("{page}: {name}: {e}"));
            let twice = found.insert(name.to_owned(), json);
            assert!(twice.is_none(), "{page}: {name} is there twice");
        }
        before = line;
    }
    found
}

fn pages() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages
        .map(|path| {
            (
                path.display().to_string(),
                std::fs::read_to_string(&path).unwrap(),
            )
        })
        .collect()
}

fn all() -> Examples {
    let mut all = Examples::new();
    for (page, text) in pages() {
        assert!(!examples(&page, &text).is_empty(), "{page} has no example");
        for (name, example) in examples(&page, &text) {
            assert!(
                all.insert(name.clone(), example).is_none(),
                "{name} is there twice"
            );
        }
    }
    all
}

/// JSON knows one kind of numbers: 4 and 4.0 are the same.
fn as_json_has_it(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(as_json_has_it).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            fields.map(|(k, v)| (k, as_json_has_it(v))).collect()
        }
        other => other,
    }
}

#[test]
fn every_example_is_a_frame_as_the_contract_writes_it() {
    let all = all();
    assert!(all.len() >= 20, "{}", all.len());
    for (name, example) in &all {
        let request = serde_json::from_value::<ConnectRequest>(example.clone());
        let response = serde_json::from_value::<ConnectResponse>(example.clone());
        let again = match (request, response) {
            (Ok(frame), _) if frame.frame.is_some() => serde_json::to_value(frame),
            (_, Ok(frame)) if frame.frame.is_some() => serde_json::to_value(frame),
            (request, response) => panic!("{name}: {:?} {:?}", request.err(), response.err()),
        };
        assert_eq!(
            as_json_has_it(again.unwrap()),
            as_json_has_it(example.clone()),
            "{name} would be written otherwise"
        );
    }
}

#[test]
fn a_block_without_a_name_and_a_name_that_is_there_twice_are_found() {
    let fails = |text: &'static str| std::panic::catch_unwind(|| examples("page", text)).is_err();
    assert!(fails("```json\n{}\n```\n"));
    assert!(fails("<!-- example: a -->\n```json\n{]\n```\n"));
    assert!(fails(
        "<!-- example: a -->\n```json\n{}\n```\n<!-- example: a -->\n```json\n{}\n```\n"
    ));
    assert!(!fails("<!-- example: a -->\n```json\n{}\n```\n"));
}

/// Panics where two values differ in more than numbers and words: the same fields, as many elements, the same
/// types, and the same names of enums.
fn same_shape(name: &str, at: &str, example: &Value, real: &Value) {
    match (example, real) {
        (Value::Object(a), Value::Object(b)) => {
            let names = |object: &serde_json::Map<String, Value>| {
                object.keys().cloned().collect::<Vec<_>>()
            };
            assert_eq!(names(a), names(b), "{name}: the fields of {at} in {real}");
            for (field, value) in a {
                same_shape(name, &format!("{at}.{field}"), value, &b[field]);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{name}: the length of {at} in {real}");
            for (a, b) in a.iter().zip(b) {
                same_shape(name, at, a, b);
            }
        }
        (Value::String(a), Value::String(b)) => {
            let is_name = |text: &str| {
                text.len() > 1 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            };
            let is_number = |text: &str| text.parse::<i64>().is_ok();
            assert!(a == b || !(is_name(a) || is_name(b)), "{name}: {at} is {b}");
            assert_eq!(is_number(a), is_number(b), "{name}: {at} is {b}");
        }
        (Value::Number(_), Value::Number(_)) | (Value::Null, Value::Null) => {}
        (Value::Bool(a), Value::Bool(b)) => assert_eq!(a, b, "{name}: {at}"),
        _ => panic!("{name}: {at} is {real}"),
    }
}

/// The digest of events as proto3 JSON, as a stranger makes it who has read docs/protocol/digests.md and nothing
/// else.
fn digest_by_the_page(events: &[&Value]) -> Vec<u8> {
    /// The fields of `Event` in model.proto, from 6 on.
    const FIELDS: [&str; 15] = [
        "messageEdited",
        "messagesDeleted",
        "reactionAdded",
        "reactionRemoved",
        "pinned",
        "unpinned",
        "chatCreated",
        "chatChanged",
        "membersAdded",
        "memberJoined",
        "memberLeft",
        "memberRemoved",
        "memberBanned",
        "memberUnbanned",
        "roleChanged",
    ];
    let number = |object: &Value, field: &str| {
        let text = object[field].as_str().unwrap_or("0");
        text.parse::<i64>().unwrap().to_be_bytes()
    };
    let mut leaves = Sha256::new();
    for event in events {
        let mut bytes = Vec::new();
        if let Some(message) = event.get("message") {
            let state = match (message.get("deletion"), message.get("hidden")) {
                (Some(_), _) => 1,
                (None, Some(_)) => 2,
                (None, None) => 0,
            };
            bytes.push(b'm');
            bytes.extend(number(event, "seq"));
            bytes.extend(number(message, "messageId"));
            bytes.extend(number(message, "changedSeq"));
            bytes.push(state);
            if state == 0 {
                bytes.extend(message["text"].as_str().unwrap_or("").bytes());
            }
        } else {
            let field = FIELDS.iter().position(|name| event.get(name).is_some());
            bytes.push(b'e');
            bytes.extend(number(event, "seq"));
            bytes.extend((6 + field.unwrap() as i64).to_be_bytes());
            bytes.extend(number(event, "actorId"));
        }
        leaves.update(Sha256::digest(bytes));
    }
    leaves.finalize()[..16].to_vec()
}

/// Checks the digests of an answer against the events of another, and gives how many there are.
fn check_digests(events: &Value, digests: &Value) -> usize {
    let events = events["json"]["events"].as_array().unwrap();
    let digests = digests["json"]["digests"].as_array().unwrap();
    let seq = |object: &Value, field: &str| object[field].as_str().unwrap().parse::<i64>().unwrap();
    for told in digests {
        let part = seq(told, "fromSeq")..=seq(told, "toSeq");
        let part = events.iter().filter(|e| part.contains(&seq(e, "seq")));
        let ours = digest_by_the_page(&part.collect::<Vec<_>>());
        let theirs = STANDARD.decode(told["digest"].as_str().unwrap()).unwrap();
        assert_eq!(ours, theirs, "{told}");
    }
    digests.len()
}

#[test]
fn the_worked_example_of_a_digest_is_right() {
    let all = all();
    let reply = |name: &str| all[name]["reply"].clone();
    assert_eq!(
        check_digests(&reply("events of a digest"), &reply("digests")),
        2
    );
}

/// A session that follows the page.
struct Script {
    examples: Examples,
    socket: Socket,
    tried: Vec<&'static str>,
    /// What stands on the page, and what it is here.
    words: Vec<(String, String)>,
}

impl Script {
    fn example(&mut self, name: &'static str) -> Value {
        self.tried.push(name);
        let example = self.examples.get(name);
        example
            .unwrap_or_else(|| panic!("no page has the example {name}"))
            .clone()
    }

    async fn send(&mut self, name: &'static str) {
        let mut text = self.example(name).to_string();
        for (theirs, ours) in &self.words {
            text = text.replace(&format!("\"{theirs}\""), &format!("\"{ours}\""));
        }
        self.socket.send(serde_json::from_str(&text).unwrap()).await;
    }

    /// The next frame of the example's kind has its shape.
    async fn hear(&mut self, name: &'static str) -> Value {
        let example = self.example(name);
        let (kind, example) = example.as_object().unwrap().iter().next().unwrap();
        let real = self.socket.frame(kind).await;
        same_shape(name, kind, example, &real);
        real
    }
}

#[tokio::test]
async fn a_session_that_follows_the_page_hears_what_the_page_says() {
    let local = Local::with(&[("live.heartbeat_ms", "2000")]).await;
    let url = &local.url;
    let ann = Person::sign_up(url, "ann").await;
    let bob = Person::sign_up(url, "bob").await;
    let mut script = Script {
        examples: all(),
        socket: Socket::open(url, "tertulia.v1.json").await.unwrap(),
        tried: Vec::new(),
        words: Vec::new(),
    };
    let token = |script: &mut Script, person: &Person| {
        let theirs = script.examples["hello"]["hello"]["accessToken"].clone();
        script
            .words
            .retain(|(name, _)| *name != theirs.as_str().unwrap());
        script
            .words
            .push((theirs.as_str().unwrap().to_owned(), person.token.clone()));
    };
    token(&mut script, &bob);
    script.send("hello").await;
    script.hear("welcome").await;

    let chat = ann.chat_with(url, &bob).await;
    script.words.push(("42".into(), chat.clone()));
    script.hear("own event").await;
    ann.say(url, &chat, "first-words", "hello").await;
    script.socket.frame("chatEvent").await;
    ann.say(url, &chat, "second-words", "hello").await;
    script.hear("chat event").await;
    script.send("call").await;
    script.hear("reply").await;
    script.send("call that fails").await;
    script.hear("error").await;
    ann.ok(url, "SendTyping", json!({"chatId": chat})).await;
    script.hear("typing").await;
    ann.ok(url, "MarkRead", json!({"chatId": chat, "seenSeq": "9"}))
        .await;
    script.hear("receipts").await;
    let notice = script.example("notice")["notice"].clone();
    let body = json!({"target": {"userId": bob.user_id}, "notice": notice});
    let pushed = post_as_node(url, &local.node_key(), "Push", body).await;
    assert_eq!(pushed.status, 200);
    script.hear("notice").await;
    script.send("watch").await;
    script.hear("watched").await;
    let _ann = Socket::hello(url, &ann.token, "").await;
    script.hear("presence").await;
    script.send("rest").await;
    loop {
        // The beat that has everything in it may be the next but one.
        let beat = script.socket.frame("heartbeat").await;
        script.send("alive").await;
        if beat.get("receipts").is_some() {
            let example = script.example("heartbeat");
            same_shape("heartbeat", "heartbeat", &example["heartbeat"], &beat);
            let theirs = script.examples["catch up"]["catchUp"]["cursor"].clone();
            let ours = beat["cursor"].as_str().unwrap().to_owned();
            script
                .words
                .push((theirs.as_str().unwrap().to_owned(), ours));
            break;
        }
    }
    let channel = ann.create(url, "channel", "news", &[&bob]).await;
    script.words.push(("43".into(), channel.clone()));
    script.send("warm").await;
    script.hear("warmed").await;
    ann.ok(
        url,
        "BanMember",
        json!({"chatId": channel, "userId": bob.user_id}),
    )
    .await;

    // A group in which messages were edited, deleted and hidden, and its digests.
    let group = ann.create(url, "group", "table", &[&bob]).await;
    script.words.push(("44".into(), group.clone()));
    ann.say(url, &group, "group-words-1", "hello").await;
    ann.say(url, &group, "group-words-2", "no").await;
    let edit = json!({"chatId": group, "messageSeq": "2", "text": "héllo"});
    ann.ok(url, "EditMessage", edit).await;
    let delete = json!({"chatId": group, "messageSeqs": ["3"]});
    ann.ok(url, "DeleteMessages", delete).await;
    ann.say(url, &group, "group-words-3", "well").await;
    let hide = json!({"chatId": group, "messageSeqs": ["6"]});
    bob.ok(url, "HideMessages", hide).await;
    script.send("call for events").await;
    let events = script.hear("events of a digest").await;
    script.send("call for digests").await;
    let digests = script.hear("digests").await;
    assert_eq!(check_digests(&events, &digests), 2);
    script.send("call for changes").await;
    script.hear("changes").await;
    script.send("call for a chat").await;
    script.hear("chat").await;

    // What a slow session is told can not be had at will; tests/live.rs provokes it.
    script.tried.push("behind");
    ann.say(url, &chat, "third-words", "are you there?").await;
    script.send("catch up").await;
    let caught_up = script.socket.frame("caughtUp").await;
    // The channel's coming and going is in it, too; the page shows the chat alone.
    let mut real = caught_up.clone();
    real["missed"]["delta"]
        .as_object_mut()
        .unwrap()
        .remove("ownEvents");
    let events = real["missed"]["delta"]["events"].as_array_mut().unwrap();
    events.retain(|event| event["chatId"] == chat.as_str());
    let example = script.example("caught up");
    same_shape("caught up", "caughtUp", &example["caughtUp"], &real);

    let answer = bob
        .ok(url, "Refresh", json!({"refreshToken": bob.refresh_token}))
        .await;
    let renewed = Person {
        token: answer["credentials"]["accessToken"]
            .as_str()
            .unwrap()
            .to_owned(),
        ..bob.clone()
    };
    token(&mut script, &renewed);
    script.send("renew").await;
    script.hear("renewed").await;
    script
        .socket
        .send(json!({"hello": {"accessToken": renewed.token}}))
        .await;
    script.hear("goodbye").await;
    assert!(matches!(script.socket.next().await, Came::Closed(4000)));

    let mut names: Vec<&str> = script.examples.keys().map(String::as_str).collect();
    names.retain(|name| !script.tried.contains(name));
    assert_eq!(names, [""; 0], "examples that nobody tried");
}
