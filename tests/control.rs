//! Sessions under control: on one node and, over a real NATS, on two that share a database.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tertulia_kit::instances::{nats, postgres};
use tertulia_kit::secret::Secret;
use tertulia_kit::transport::nats::NodeKey;
use tertulia_tests::node::{Local, Process, Start, tertulia};
use tertulia_tests::wire::{Answer, Came, Person, Socket, post_as_node, request};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
const NODE_KEY: &str = "the nodes of this test know each other by this";

fn node_key() -> NodeKey {
    NodeKey::new(Secret::new(NODE_KEY)).unwrap()
}

/// Two nodes with one database and one NATS.
struct Pair {
    bus: nats::Instance,
    nodes: [Local; 2],
    _database: postgres::Instance,
}

impl Pair {
    async fn start(settings: &[(&str, &str)]) -> Pair {
        let (database, bus) = (postgres::Instance::start(), nats::Instance::start());
        let (store, url) = (database.url(), bus.url());
        let secrets = [
            ("store.url", &*store),
            ("bus.url", &*url),
            ("bus.node_key", NODE_KEY),
            ("identity.pepper", "the pepper of all nodes of a test"),
        ];
        let nodes = [
            Local::with_secrets(settings, &secrets).await,
            Local::with_secrets(settings, &secrets).await,
        ];
        let pair = Pair {
            bus,
            nodes,
            _database: database,
        };
        // A node that has just started hears the others a moment later.
        for url in pair.urls() {
            let hears = async {
                while asked(url, "ListNodes", json!({})).await["reached"]["everywhere"] != true {}
            };
            tokio::time::timeout(PATIENCE, hears).await.unwrap();
        }
        pair
    }

    fn urls(&self) -> [&str; 2] {
        [&self.nodes[0].url, &self.nodes[1].url]
    }

    /// The numbers of the nodes.
    async fn numbers(&self) -> [u64; 2] {
        let mut numbers = [0; 2];
        for (number, url) in numbers.iter_mut().zip(self.urls()) {
            let answer = asked(url, "ListNodes", json!({"onlyHere": true})).await;
            // What is 0 is left out of JSON.
            *number = answer["nodes"][0]["node"].as_u64().unwrap_or_default();
        }
        numbers
    }
}

/// A call as a node that must do what it is asked; the answer.
async fn asked(url: &str, method: &str, body: Value) -> Value {
    asked_with(&node_key(), url, method, body).await
}

async fn asked_with(key: &NodeKey, url: &str, method: &str, body: Value) -> Value {
    let answer = post_as_node(url, key, method, body).await;
    let words = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 200, "{method}: {words}");
    answer.json()
}

fn announcement(text: &str) -> Value {
    json!({"kind": "announcement", "text": text})
}

/// How many sessions a call reached.
fn sessions(answer: &Value) -> u64 {
    answer["reached"]["sessions"].as_u64().unwrap_or_default()
}

/// The texts of the notices that come before the last one.
async fn notices_before(socket: &mut Socket, last: &str) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let notice = socket.frame("notice").await;
        let text = notice["text"].as_str().unwrap_or_default().to_owned();
        if text == last {
            return texts;
        }
        texts.push(text);
    }
}

/// What a goodbye says, and the code of the close behind it.
async fn goodbye(socket: &mut Socket) -> (Value, u16) {
    let goodbye = socket.frame("goodbye").await;
    (goodbye, socket.closed().await)
}

/// Has every sort of target tried from one node, while each session is on the node that is given for it.
async fn each_target_reaches_exactly_those_who_are_meant(
    key: &NodeKey,
    caller: &str,
    urls: [&str; 4],
    nodes: [u64; 4],
) {
    let ann = Person::sign_up(caller, "ann").await;
    let desk = ann.sign_in_on(caller, "desk").await;
    let (bob, eve) = (
        Person::sign_up(caller, "bob").await,
        Person::sign_up(caller, "eve").await,
    );
    let chat = ann.create(caller, "group", "readers", &[&bob]).await;
    let mut here = Vec::new();
    for (person, url) in [&ann, &desk, &bob, &eve].into_iter().zip(urls) {
        here.push(Socket::hello(url, &person.token, "").await);
    }
    let user = json!({"userId": ann.user_id});
    let listed = asked_with(key, caller, "ListSessions", user).await;
    assert_eq!(sessions(&listed), 2);
    let listed = listed["sessions"].as_array().unwrap().clone();
    let of = |session: &Value| {
        let mine = |one: &&Value| one["sessionId"] == session["sessionId"];
        listed.iter().find(mine).unwrap().clone()
    };
    let (first, second) = (of(&here[0].1), of(&here[1].1));
    assert_eq!(second["deviceId"], "desk");
    assert_eq!(first["node"].as_u64().unwrap_or_default(), nodes[0]);
    assert_eq!(second["node"].as_u64().unwrap_or_default(), nodes[1]);

    let on_node = nodes.map(|node| u64::from(node == nodes[3]));
    let device = json!({"userId": ann.user_id, "deviceId": "desk"});
    for (target, expected) in [
        (json!({"userId": ann.user_id}), [1, 1, 0, 0]),
        (json!({"loginId": first["loginId"]}), [1, 0, 0, 0]),
        (json!({"device": device}), [0, 1, 0, 0]),
        (json!({"sessionId": second["sessionId"]}), [0, 1, 0, 0]),
        (json!({"chatId": chat}), [1, 1, 1, 0]),
        (json!({"node": nodes[3]}), on_node),
        (json!({"everybody": true}), [1, 1, 1, 1]),
        (json!({"userId": "1"}), [0, 0, 0, 0]),
    ] {
        let body = json!({"target": target, "notice": announcement("to some")});
        let pushed = asked_with(key, caller, "Push", body).await;
        assert_eq!(sessions(&pushed), expected.iter().sum::<u64>(), "{target}");
        assert_eq!(pushed["reached"]["everywhere"], true, "{pushed}");
        let body = json!({"target": {"everybody": true}, "notice": announcement("to all")});
        assert_eq!(sessions(&asked_with(key, caller, "Push", body).await), 4);
        for (nth, (socket, _)) in here.iter_mut().enumerate() {
            let heard = notices_before(socket, "to all").await;
            assert_eq!(heard.len() as u64, expected[nth], "{target} at {nth}");
        }
    }

    // Only here: nobody else is asked.
    let body =
        json!({"target": {"everybody": true}, "notice": announcement("x"), "onlyHere": true});
    let on_caller = urls.iter().filter(|url| **url == caller).count() as u64;
    assert_eq!(
        sessions(&asked_with(key, caller, "Push", body).await),
        on_caller
    );

    // A target that is nobody's is no error, but a node and a chat must be there.
    for (target, reason) in [
        (json!({"node": 200}), "NODE_NOT_FOUND"),
        (json!({"chatId": "1"}), "CHAT_NOT_FOUND"),
    ] {
        let body = json!({"target": target, "notice": announcement("x")});
        let answer = post_as_node(caller, key, "Push", body).await;
        assert_eq!(answer.reason(), reason);
    }
}

#[tokio::test]
async fn on_one_node_each_target_reaches_exactly_those_who_are_meant() {
    let local = Local::one("the next test does the same on two").await;
    let url = &*local.url;
    let key = local.node_key();
    each_target_reaches_exactly_those_who_are_meant(&key, url, [url; 4], [0; 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_two_nodes_each_target_reaches_exactly_those_who_are_meant() {
    let pair = Pair::start(&[]).await;
    let ([a, b], [m, n]) = (pair.urls(), pair.numbers().await);
    assert_ne!(m, n);
    let (urls, nodes) = ([a, b, b, b], [m, n, n, n]);
    each_target_reaches_exactly_those_who_are_meant(&node_key(), a, urls, nodes).await;
}

#[tokio::test]
async fn what_a_notice_says_arrives_as_it_was_and_has_its_bounds() {
    let local = Local::start().await;
    let (url, key) = (&*local.url, local.node_key());
    let ann = Person::sign_up(url, "ann").await;
    let (mut socket, _) = Socket::hello(url, &ann.token, "").await;
    let target = json!({"userId": ann.user_id});
    let notice =
        json!({"kind": "weather.v2", "text": "<b>rain</b>", "data": {"mm": 3, "in": ["x"]}});
    let body = json!({"target": target, "notice": notice});
    assert_eq!(sessions(&asked_with(&key, url, "Push", body).await), 1);
    let came = socket.frame("notice").await;
    assert_eq!(came["data"]["mm"].as_f64(), Some(3.0));
    assert_eq!(
        (&came["kind"], &came["text"]),
        (&notice["kind"], &notice["text"])
    );

    let deep = (0..20).fold(json!({}), |inner, _| json!({"x": inner}));
    for bad in [
        json!({"kind": ""}),
        json!({"kind": "Upper"}),
        json!({"kind": "x".repeat(65)}),
        json!({"kind": "a", "text": "x".repeat(1_001)}),
        json!({"kind": "a", "data": {"x": "x".repeat(4_096)}}),
        json!({"kind": "a", "data": deep}),
    ] {
        let body = json!({"target": target, "notice": bad});
        let answer = post_as_node(url, &key, "Push", body).await;
        assert_eq!(answer.reason(), "INVALID_REQUEST", "{bad}");
    }
    for bad in [
        json!({}),
        json!({"everybody": false}),
        json!({"userId": "-1"}),
    ] {
        let body = json!({"target": bad, "notice": announcement("x")});
        let answer = post_as_node(url, &key, "Push", body).await;
        assert_eq!(answer.reason(), "INVALID_REQUEST", "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_ended_on_any_node_with_and_without_coming_back() {
    let pair = Pair::start(&[]).await;
    let [a, b] = pair.urls();
    let ann = Person::sign_up(a, "ann").await;
    let target = json!({"userId": ann.user_id});
    let sockets = async || {
        let (on_a, _) = Socket::hello(a, &ann.token, "").await;
        let (on_b, _) = Socket::hello(b, &ann.token, "").await;
        [on_a, on_b]
    };

    let mut here = sockets().await;
    let body = json!({"target": target, "reason": "the house closes"});
    assert_eq!(sessions(&asked(a, "EndSessions", body).await), 2);
    for socket in &mut here {
        let (words, code) = goodbye(socket).await;
        assert_eq!(code, 4006);
        let told = json!({"code": 4006, "reason": "kicked: the house closes"});
        assert_eq!(words, told);
    }

    let mut here = sockets().await;
    let body = json!({"target": target, "comeBack": true, "afterMs": 2_000, "spreadMs": 1_000});
    assert_eq!(sessions(&asked(b, "EndSessions", body).await), 2);
    for socket in &mut here {
        let (words, code) = goodbye(socket).await;
        assert_eq!((code, &words["comeBack"]), (4014, &json!(true)));
        let after_ms = words["afterMs"].as_u64().unwrap();
        assert!((2_000..=3_000).contains(&after_ms), "{after_ms}");
    }
    // Nobody was kept out.
    sockets().await;
}

/// Whether a node refuses a token, for the reason that its login has ended.
async fn refuses(url: &str, person: &Person) -> bool {
    let path = tertulia_tests::wire::path("GetMe");
    let answer: Answer = person.call(url, path, json!({})).await;
    match answer.status {
        200 => false,
        _ => {
            assert_eq!(answer.reason(), "LOGIN_ENDED");
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_login_is_refused_on_every_node_with_nats_and_without() {
    let mut pair = Pair::start(&[]).await;
    for with_nats in [true, false] {
        if !with_nats {
            tokio::task::block_in_place(|| pair.bus.kill());
        }
        let [a, b] = pair.urls();
        let name = if with_nats { "ann" } else { "bob" };
        let person = Person::sign_up(a, name).await;
        let (mut socket, _) = Socket::hello(b, &person.token, "").await;
        let other = person.sign_in(b).await;
        assert!(!refuses(b, &person).await);
        let listed = asked(
            b,
            "ListSessions",
            json!({"userId": person.user_id, "onlyHere": true}),
        );
        let login = listed.await["sessions"][0]["loginId"].clone();

        let body = json!({"loginId": login});
        let began = Instant::now();
        let revoked = asked(a, "RevokeLogins", body.clone()).await;
        assert_eq!(revoked["logins"], 1);
        assert!(refuses(a, &person).await, "at once where it was revoked");
        let there = async { while !refuses(b, &person).await {} };
        tokio::time::timeout(PATIENCE, there).await.unwrap();
        let refused_in = began.elapsed();
        assert_eq!(socket.closed().await, 4005);
        println!(
            "with NATS: {with_nats}; refused on the other node after {refused_in:?}, its session ended after {:?}",
            began.elapsed()
        );
        assert_eq!(
            asked(b, "RevokeLogins", body).await,
            json!({}),
            "it was ended before"
        );

        // All of a user.
        assert!(!refuses(b, &other).await);
        let body = json!({"userId": person.user_id});
        assert_eq!(asked(a, "RevokeLogins", body).await["logins"], 1);
        let there = async { while !refuses(b, &other).await {} };
        tokio::time::timeout(PATIENCE, there).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_nats_own_sessions_are_reached_and_the_answer_says_who_is_silent() {
    let mut pair = Pair::start(&[]).await;
    let numbers = pair.numbers().await;
    tokio::task::block_in_place(|| pair.bus.kill());
    let [a, b] = pair.urls();
    let ann = Person::sign_up(a, "ann").await;
    let (mut on_a, _) = Socket::hello(a, &ann.token, "").await;
    let (_on_b, _) = Socket::hello(b, &ann.token, "").await;
    let body = json!({"target": {"userId": ann.user_id}, "notice": announcement("hello")});
    let reached = asked(a, "Push", body).await["reached"].clone();
    assert_eq!(on_a.frame("notice").await["text"], "hello");
    assert_eq!(reached["sessions"], 1);
    assert_eq!(reached["nodes"], json!([numbers[0]]));
    assert_eq!(reached["silentNodes"], json!([numbers[1]]));
    assert_eq!(reached.get("everywhere"), None);
    // It is remarked when the link is known to be down, and the node works.
    let remarked = async {
        loop {
            let listed = asked(a, "ListNodes", json!({})).await;
            let node = &listed["nodes"][0];
            assert_eq!(node["ready"], true, "{node}");
            if node["problems"][0]["check"] == "bus" {
                assert_eq!(node["problems"][0].get("needed"), None);
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, remarked).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_has_no_sessions_and_its_clients_go_on_elsewhere_and_miss_nothing() {
    let pair = Pair::start(&[]).await;
    let ([a, b], numbers) = (pair.urls(), pair.numbers().await);
    let (ann, bob) = (
        Person::sign_up(a, "ann").await,
        Person::sign_up(a, "bob").await,
    );
    let chat = ann.chat_with(a, &bob).await;
    let (mut socket, welcome) = Socket::hello(a, &ann.token, "").await;
    let cursor = welcome["missed"]["cursor"].as_str().unwrap().to_owned();
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(Socket::hello(a, &bob.token, "").await.0);
    }
    let (mut stays, _) = Socket::hello(b, &bob.token, "").await;
    let say = async |id: &str| {
        let said = bob.say(b, &chat, id, id).await;
        assert_eq!(said.status, 200);
    };
    say("before-the-drain").await;

    // From the other node, by its number.
    let body = json!({"node": numbers[0], "spreadMs": 300});
    let drained = asked(b, "Drain", body.clone()).await;
    assert_eq!(drained["node"]["drained"], true, "{drained}");
    for socket in others.iter_mut().chain([&mut socket]) {
        let (words, code) = goodbye(socket).await;
        assert_eq!((code, &words["comeBack"]), (4012, &json!(true)));
        assert_eq!(words.get("afterMs"), None, "it is told at its own moment");
    }
    say("during-the-drain").await;
    let is_empty = async {
        loop {
            let nodes = asked(b, "ListNodes", json!({})).await["nodes"].clone();
            let of = |number: u64| {
                let all = nodes.as_array().unwrap();
                let one = all
                    .iter()
                    .find(|n| n["node"].as_u64().unwrap_or_default() == number);
                one.unwrap()["sessions"].as_u64().unwrap_or_default()
            };
            if of(numbers[0]) == 0 {
                return of(numbers[1]);
            }
        }
    };
    let left = tokio::time::timeout(PATIENCE, is_empty).await.unwrap();
    assert_eq!(left, 1, "who is on the other node stays there");

    // It is not ready, takes no sessions, and does calls as ever.
    let ready = request("GET", &format!("{a}/readyz"), &[], "").await;
    assert_eq!(
        (ready.status, &ready.json()["state"]),
        (503, &json!("drained"))
    );
    let listed = asked(b, "ListNodes", json!({})).await["nodes"].clone();
    let listed = listed.as_array().unwrap();
    let ready: Vec<u64> = listed
        .iter()
        .filter(|node| node["ready"] == true)
        .map(|node| node["node"].as_u64().unwrap_or_default())
        .collect();
    assert_eq!((listed.len(), ready), (2, vec![numbers[1]]));
    assert!(Socket::open(a, "tertulia.v1.json").await.is_err());
    ann.ok(a, "GetMe", json!({})).await;
    assert_eq!(asked(a, "Drain", json!({})).await["node"]["drained"], true);

    // Who comes back elsewhere is told what was said meanwhile, once and in order.
    let (_, welcome) = Socket::hello(b, &ann.token, &cursor).await;
    let events = welcome["missed"]["delta"]["events"].as_array().unwrap();
    let texts: Vec<&str> = events
        .iter()
        .filter_map(|event| event["message"]["text"].as_str())
        .collect();
    assert_eq!(texts, ["before-the-drain", "during-the-drain"]);

    let resumed = asked(b, "Resume", json!({"node": numbers[0]})).await;
    assert_eq!(resumed["node"].get("drained"), None);
    let ready = request("GET", &format!("{a}/readyz"), &[], "").await;
    assert_eq!(ready.status, 200);
    let (mut back, _) = Socket::hello(a, &ann.token, &cursor).await;
    let body = json!({"target": {"node": numbers[0]}, "notice": announcement("welcome back")});
    assert_eq!(sessions(&asked(b, "Push", body).await), 1);
    assert_eq!(back.frame("notice").await["text"], "welcome back");
    let body = json!({"target": {"node": numbers[1]}, "notice": announcement("you stayed")});
    asked(a, "Push", body).await;
    assert_eq!(stays.frame("notice").await["text"], "you stayed");

    for method in ["Drain", "Resume"] {
        let answer = post_as_node(a, &node_key(), method, json!({"node": 200})).await;
        assert_eq!(answer.reason(), "NODE_NOT_FOUND", "{method}");
    }
}

/// What `tertulia sessions` says: the exit code, standard output and standard error.
async fn sessions_command(data: &Path, url: &str, words: &str) -> (Option<i32>, String, String) {
    let mut command = tertulia();
    command.arg("sessions").args(words.split(' '));
    command.arg("--data").arg(data).args(["--url", url]);
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test]
async fn an_operator_controls_the_sessions_of_a_server_with_what_lies_in_its_folder() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let (code, _, why) = sessions_command(&data, "http://127.0.0.1:1", "nodes").await;
    assert_eq!(code, Some(1));
    assert!(why.contains("there is no key to show"), "{why}");

    let server = Process::start(&data, Start::default()).await.unwrap();
    let url = server.url.clone();
    let run = async |words: &str| sessions_command(&data, &url, words).await;
    let done = async |words: &str| {
        let (code, text, why) = run(words).await;
        assert_eq!(code, Some(0), "{words}: {text}{why}");
        text
    };
    let ann = Person::sign_up(&url, "ann").await;
    let (mut socket, welcome) = Socket::hello(&url, &ann.token, "").await;
    let session = welcome["sessionId"].as_str().unwrap();

    let nodes = done("nodes").await;
    let wanted = "node 0  ready  1 session  edge,api,worker  for ";
    assert!(nodes.starts_with(wanted), "{nodes}");
    let listed = done(&format!("list {}", ann.user_id)).await;
    assert!(listed.starts_with(session), "{listed}");
    assert!(listed.ends_with("1 session on 1 node\n"), "{listed}");
    let json = done(&format!("list {} --json", ann.user_id)).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["sessions"][0]["sessionId"], session);

    let pushed = done(&format!("push --session {session} --text soon")).await;
    assert_eq!(pushed, "1 session reached\n");
    assert_eq!(socket.frame("notice").await["text"], "soon");
    let drained = done("drain --spread-ms 1").await;
    assert!(drained.starts_with("node 0 drains: "), "{drained}");
    assert_eq!(socket.closed().await, 4012);
    done("resume").await;
    let (mut socket, _) = Socket::hello(&url, &ann.token, "").await;
    assert_eq!(done("end --everybody").await, "1 session ended\n");
    assert!(matches!(socket.next().await, Came::Frame(_)));
    assert_eq!(socket.closed().await, 4006);
    let revoked = done(&format!("revoke --user {}", ann.user_id)).await;
    assert_eq!(revoked, "1 login revoked\n");
    assert!(refuses(&url, &ann).await);

    let (code, _, why) = run("push --node 7 --text x").await;
    assert_eq!(code, Some(1));
    assert!(why.contains("no node of that number has answered"), "{why}");
    let (code, _, why) = run("push --text x").await;
    assert_eq!(code, Some(2), "{why}");
    assert!(server.terminate().await.unwrap().success());
}
