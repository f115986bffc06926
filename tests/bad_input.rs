//! Whatever comes in, there is a typed error or the right close code, and the node lives.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use buffa::Message as _;
use futures::SinkExt as _;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use serde_json::{Map, Value, json};
use tertulia_proto::{Caller, DESCRIPTORS, METHODS};
use tertulia_tests::node::Local;
use tertulia_tests::wire::{Answer, Person, Socket, post, post_as_node, request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

/// Statuses that are somebody's honest answer; 500 and 503 are never one for a bad request.
const HONEST: [u16; 10] = [200, 400, 401, 403, 404, 409, 413, 415, 429, 501];

fn typed(answer: &Answer, what: &str) {
    assert!(
        HONEST.contains(&answer.status),
        "{what}: {} {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    if answer.status != 200 && answer.status != 415 {
        assert!(
            !answer.code().is_empty(),
            "{what}: no code in {}",
            String::from_utf8_lossy(&answer.body)
        );
    }
}

async fn alive(local: &Local) {
    let answer = request("GET", &format!("{}/readyz", local.url), &[], "").await;
    assert_eq!(answer.status, 200);
}

/// A value of another type than the field's.
fn wrong(field: &FieldDescriptor) -> Value {
    if field.is_list() {
        return json!("not a list");
    }
    match field.kind() {
        Kind::String | Kind::Bytes => json!({"not": "a text"}),
        Kind::Bool => json!("maybe"),
        Kind::Message(_) => json!(17),
        _ => json!("not a number"),
    }
}

/// A value of the right type that is over any limit.
fn oversized(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::String => json!("x".repeat(20_000)),
        Kind::Bytes => json!("QUFB".repeat(5_000)),
        _ if field.is_list() => json!(vec!["1"; 20_000]),
        Kind::Message(_) => json!({}),
        Kind::Bool => json!(true),
        Kind::Uint32 | Kind::Int32 => json!(4_000_000_000_u64),
        _ => json!("-9223372036854775808"),
    }
}

fn requests_of(message: &MessageDescriptor) -> Vec<Value> {
    let mut bad = vec![
        json!([]),
        json!(null),
        json!("text"),
        json!({"noSuchField": 1}),
    ];
    for field in message.fields() {
        for value in [
            wrong(&field),
            oversized(&field),
            json!("\u{0}"),
            json!("\u{202e}"),
        ] {
            let mut body = Map::new();
            body.insert(field.json_name().to_owned(), value);
            bad.push(Value::Object(body));
        }
    }
    bad
}

#[tokio::test]
async fn every_method_answers_bad_requests_with_typed_errors() {
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let key = local.node_key();
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let mut sent = 0;
    for method in METHODS
        .iter()
        .filter(|m| !m.streams && !m.path.ends_with("/Logout"))
    {
        let message = pool.get_message_by_name(method.input).unwrap();
        for body in requests_of(&message) {
            let (_, name) = method.path.split_once('/').unwrap();
            let answer = match method.caller {
                Caller::Node => post_as_node(&local.url, &key, name, body.clone()).await,
                _ => ann.call(&local.url, method.path, body.clone()).await,
            };
            typed(
                &answer,
                &format!(
                    "{} {}",
                    method.path,
                    &body.to_string()[..body.to_string().len().min(80)]
                ),
            );
            sent += 1;
        }
    }
    assert!(sent > 150, "{sent}");
    alive(&local).await;
}

#[tokio::test]
async fn every_method_answers_bytes_that_are_no_request() {
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let bearer = format!("Bearer {}", ann.token);
    for method in METHODS.iter().filter(|m| !m.path.ends_with("/Logout")) {
        for content in [
            "application/json",
            "application/proto",
            "application/grpc",
            "application/grpc-web",
            "application/connect+proto",
        ] {
            let headers = [
                ("content-type", content),
                ("authorization", bearer.as_str()),
            ];
            let noise: Vec<u8> = (0..random.random_range(1..300))
                .map(|_| random.random())
                .collect();
            let deep = format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
            for body in [noise, b"{".to_vec(), vec![0xff, 0xfe], deep.into_bytes()] {
                let url = format!("{}/{}", local.url, method.path);
                let answer = request("POST", &url, &headers, body).await;
                assert!(
                    answer.status < 500 || answer.status == 501,
                    "{} {content}: {}",
                    method.path,
                    answer.status
                );
            }
        }
    }
    alive(&local).await;
}

#[tokio::test]
async fn wrong_methods_types_and_tokens_are_told_apart() {
    let local = Local::start().await;
    let get_me = "tertulia.users.v1.UsersService/GetMe";
    let json = ("content-type", "application/json");
    let cases = [
        (get_me, vec![json], "unauthenticated"),
        (
            get_me,
            vec![json, ("authorization", "Bearer")],
            "unauthenticated",
        ),
        (
            get_me,
            vec![json, ("authorization", "Basic YTpi")],
            "unauthenticated",
        ),
        (
            get_me,
            vec![json, ("authorization", "Bearer a.b.c")],
            "unauthenticated",
        ),
        (
            "tertulia.users.v1.UsersService/NoSuchMethod",
            vec![json],
            "unimplemented",
        ),
    ];
    for (method, headers, code) in cases {
        let answer = request("POST", &format!("{}/{method}", local.url), &headers, "{}").await;
        assert_eq!(answer.code(), code, "{method} {headers:?}");
        assert!(
            !answer.json()["details"][0]["value"]
                .as_str()
                .unwrap()
                .is_empty()
        );
    }
    let unknown = request(
        "POST",
        &format!("{}/no.such.Service/Method", local.url),
        &[json],
        "{}",
    )
    .await;
    assert_eq!(unknown.status, 404);
    let text = request(
        "POST",
        &format!("{}/{get_me}", local.url),
        &[("content-type", "text/plain")],
        "{}",
    )
    .await;
    assert_eq!(text.status, 415);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let local = Local::with(&[("http.body_bytes_max", "65536")]).await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let body = json!({"chatId": "1", "clientMessageId": "12345678", "text": "x".repeat(200_000)});
    let answer = ann
        .call(
            &local.url,
            "tertulia.chats.v1.MessagesService/SendMessage",
            body,
        )
        .await;
    assert_eq!(answer.code(), "resource_exhausted");
    alive(&local).await;
}

#[tokio::test]
async fn every_bad_frame_gets_its_close_code() {
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let deep = format!(
        "{{\"call\":{{\"callId\":\"1\",\"method\":\"m\",\"json\":{}1{}}}}}",
        "[".repeat(9_000),
        "]".repeat(9_000)
    );
    let frames: Vec<(&str, Message, u16)> = vec![
        ("no JSON", Message::text("{"), 4000),
        ("an empty object", Message::text("{}"), 4000),
        ("a list", Message::text("[]"), 4000),
        ("an unknown frame", Message::text("{\"what\":{}}"), 4000),
        (
            "a wrong type",
            Message::text("{\"call\":{\"callId\":{}}}"),
            4000,
        ),
        (
            "a broken rule",
            Message::text("{\"call\":{\"callId\":\"1\"}}"),
            4000,
        ),
        ("deep nesting", Message::text(deep), 4000),
        (
            "binary on a JSON socket",
            Message::binary(vec![1, 2, 3]),
            4000,
        ),
        (
            "a second hello",
            Message::text(json!({"hello": {"accessToken": ann.token}}).to_string()),
            4000,
        ),
        (
            "a foreign token",
            Message::text(json!({"renew": {"accessToken": "x.y.z"}}).to_string()),
            4003,
        ),
        ("a huge frame", Message::text("x".repeat(70_000)), 4013),
    ];
    for (what, frame, code) in frames {
        let (mut socket, _) = Socket::hello(&local.url, &ann.token, "").await;
        socket.0.send(frame).await.unwrap();
        assert_eq!(socket.closed().await, code, "{what}");
    }
    alive(&local).await;
}

#[tokio::test]
async fn a_call_that_fails_does_not_end_the_session() {
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let (mut socket, _) = Socket::hello(&local.url, &ann.token, "").await;
    let cases = [
        ("no/such", json!({}), "unimplemented"),
        (
            "tertulia.live.v1.LiveService/Connect",
            json!({}),
            "unimplemented",
        ),
        (
            "tertulia.chats.v1.ChatsService/GetChat",
            json!({"chatId": "0"}),
            "invalid_argument",
        ),
        (
            "tertulia.chats.v1.ChatsService/GetChat",
            json!({"chatId": {}}),
            "invalid_argument",
        ),
        (
            "tertulia.chats.v1.ChatsService/GetChat",
            json!([1, 2]),
            "invalid_argument",
        ),
        (
            "tertulia.chats.v1.ChatsService/GetChat",
            json!({"chatId": "99"}),
            "not_found",
        ),
    ];
    for (id, (method, request, code)) in (1..).zip(cases) {
        let reply = socket.call(id, method, request.clone()).await;
        assert_eq!(reply["error"]["code"], code, "{method} {request}");
        assert_ne!(reply["error"]["failure"]["reason"], Value::Null);
    }
    let reply = socket
        .call(99, "tertulia.users.v1.UsersService/GetMe", json!({}))
        .await;
    assert_eq!(reply["json"]["user"]["name"], "ann");
}

#[tokio::test]
async fn random_frames_never_harm_the_node() {
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let good = tertulia_proto::live::ConnectRequest {
        frame: Some(
            tertulia_proto::live::Hello {
                access_token: ann.token.clone(),
                ..Default::default()
            }
            .into(),
        ),
        ..Default::default()
    }
    .encode_to_vec();
    for round in 0..200 {
        let mut socket = Socket::open(&local.url, "tertulia.v1.proto").await.unwrap();
        let mut bytes = good.clone();
        match round % 3 {
            0 => bytes.truncate(random.random_range(0..bytes.len())),
            1 => (0..8).for_each(|_| {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }),
            _ => {
                bytes = (0..random.random_range(0..200))
                    .map(|_| random.random())
                    .collect()
            }
        }
        socket.0.send(Message::binary(bytes)).await.unwrap();
        _ = socket.0.close(None).await;
    }
    alive(&local).await;
}

#[tokio::test]
async fn half_a_frame_and_bytes_that_are_no_http_end_in_time() {
    let local = Local::with(&[
        ("http.header_timeout_ms", "300"),
        ("live.hello_timeout_ms", "300"),
    ])
    .await;
    let handshake = "GET /live HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     sec-websocket-protocol: tertulia.v1.json\r\n\r\n";
    // A frame that says 100 bytes and brings 3; one without a mask; one with a reserved opcode.
    let frames: [&[u8]; 3] = [
        &[0x81, 0xe4, 0, 0, 0, 0, 1, 2, 3],
        &[0x81, 0x02, b'{', b'}'],
        &[0x8f, 0x80, 0, 0, 0, 0],
    ];
    for frame in frames {
        let mut stream = tokio::net::TcpStream::connect(local.node.address)
            .await
            .unwrap();
        stream.write_all(handshake.as_bytes()).await.unwrap();
        stream.write_all(frame).await.unwrap();
        ends(&mut stream).await;
    }
    for bytes in [
        &b""[..],
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\nx: ",
        b"\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxxxxxx",
    ] {
        let mut stream = tokio::net::TcpStream::connect(local.node.address)
            .await
            .unwrap();
        stream.write_all(bytes).await.unwrap();
        ends(&mut stream).await;
    }
    alive(&local).await;
}

async fn ends(stream: &mut tokio::net::TcpStream) {
    let mut sink = Vec::new();
    let end = tokio::time::timeout(
        tertulia_tests::wire::PATIENCE,
        stream.read_to_end(&mut sink),
    )
    .await;
    assert!(end.is_ok(), "the server keeps a dead connection");
}

#[tokio::test]
async fn invalid_utf8_is_refused_everywhere() {
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let bearer = format!("Bearer {}", ann.token);
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
    ];
    let url = format!("{}/tertulia.users.v1.UsersService/SearchUsers", local.url);
    let answer = request("POST", &url, &headers, &b"{\"query\":\"\xff\xfe\"}"[..]).await;
    assert_eq!(answer.code(), "invalid_argument");
    let headers = [
        ("content-type", "application/proto"),
        ("authorization", bearer.as_str()),
    ];
    let answer = request("POST", &url, &headers, &b"\x0a\x02\xff\xfe"[..]).await;
    assert_eq!(answer.code(), "invalid_argument");
    let answer = post(
        &local.url,
        "tertulia.users.v1.UsersService/SearchUsers",
        Some(&ann.token),
        json!({"query": "\u{fffd}"}),
    )
    .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_back() {
    let settings = [
        ("limits.enabled", "true"),
        ("limits.address_burst", "120"),
        ("limits.address_per_second", "1"),
        ("limits.login_burst", "20"),
        ("limits.login_per_second", "1"),
    ];
    let local = Local::with(&settings).await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let login = json!({"name": "ann", "password": "not the password"});
    let method = "tertulia.identity.v1.IdentityService/Login";
    // The budget is good for two of these calls; with several nodes at once, at most that of each.
    let nodes = local.urls().len();
    let guesses_max = 2 * nodes - 1;
    let mut guesses = Vec::new();
    while guesses
        .last()
        .is_none_or(|last: &Answer| last.status != 429)
    {
        guesses.push(post(&local.url, method, None, login.clone()).await);
    }
    assert!(
        (2..=guesses_max + 1).contains(&guesses.len()),
        "{}",
        guesses.len()
    );
    assert_eq!(guesses[0].code(), "unauthenticated");
    let refused = guesses.last().unwrap();
    assert_eq!(
        (refused.status, refused.code()),
        (429, "resource_exhausted".to_owned())
    );
    assert!(refused.headers["retry-after"].parse::<u64>().unwrap() >= 1);
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut knocks = Vec::new();
    for _ in 0..5 * nodes {
        knocks.push(request("GET", &format!("{}/live", local.url), &headers, "").await);
    }
    let turned_away = knocks.last().unwrap();
    assert_eq!(
        turned_away.status, 429,
        "a socket is not opened for nothing"
    );
    assert!(turned_away.headers["retry-after"].parse::<u64>().unwrap() >= 1);
    // A login has a budget of its own: it is not the address's, and it ends too.
    let mut answers = Vec::new();
    for _ in 0..30 * nodes {
        answers.push(
            ann.call(
                &local.url,
                "tertulia.users.v1.UsersService/GetMe",
                json!({}),
            )
            .await
            .status,
        );
    }
    assert_eq!(answers[0], 200);
    assert_eq!(answers.last(), Some(&429));
}
