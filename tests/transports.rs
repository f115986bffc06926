//! The same call gets the same answer, whichever way it comes.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use bytes::Bytes;
use connectrpc::client::{CallOptions, ClientConfig, HttpClient, ServiceTransport};
use connectrpc::{ConnectError, Protocol};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tertulia_kit::balance;
use tertulia_kit::clock::SystemClock;
use tertulia_kit::discovery::{Host, Memory};
use tertulia_kit::instances::nats::Instance;
use tertulia_kit::lifecycle::Lifecycle;
use tertulia_kit::secret::Secret;
use tertulia_kit::transport::http2;
use tertulia_kit::transport::nats::{Call, NodeKey, Options, Remote, Unanswered};
use tertulia_proto::chats::{
    ChatsServiceClient, GetChatRequest, GetChatResponse, MessagesServiceClient, SendMessageRequest,
};
use tertulia_proto::errors::{Failure, Reason};
use tertulia_proto::identity::{IdentityServiceClient, LoginRequest};
use tertulia_tests::node::Local;
use tertulia_tests::wire::{Person, Socket, post, request};

const SEND: &str = "tertulia.chats.v1.MessagesService/SendMessage";
const GET: &str = "tertulia.chats.v1.ChatsService/GetChat";
const LOGIN: &str = "tertulia.identity.v1.IdentityService/Login";

/// What a caller learns of a failure.
#[derive(Debug, PartialEq, Clone)]
struct Seen {
    code: String,
    message: String,
    reason: String,
    fields: Vec<(String, String)>,
    request_id: String,
}

fn of_error(error: &ConnectError) -> Seen {
    use base64::Engine as _;
    use buffa::{Enumeration as _, Message as _};
    let detail = error
        .details
        .iter()
        .find(|d| d.type_url.ends_with("tertulia.errors.v1.Failure"));
    let value = detail.and_then(|d| d.value.clone()).unwrap_or_default();
    let lenient = base64::engine::general_purpose::STANDARD_NO_PAD;
    let bytes = lenient.decode(value.trim_end_matches('=')).unwrap();
    let failure = Failure::decode_from_slice(&bytes).unwrap();
    let reason = Reason::from_i32(failure.reason.to_i32()).unwrap();
    Seen {
        code: error.code.as_str().into(),
        message: error.message.clone().unwrap_or_default(),
        reason: reason.proto_name().into(),
        fields: failure
            .fields
            .iter()
            .map(|f| (f.path.clone(), f.rule.clone()))
            .collect(),
        request_id: failure.request_id,
    }
}

fn of_json(error: &Value) -> Seen {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    if let Some(failure) = error.get("failure") {
        let fields = failure["fields"].as_array().cloned().unwrap_or_default();
        return Seen {
            code: text(&error["code"]),
            message: text(&error["message"]),
            reason: text(&failure["reason"]),
            fields: fields
                .iter()
                .map(|f| (text(&f["path"]), text(&f["rule"])))
                .collect(),
            request_id: text(&failure["requestId"]),
        };
    }
    of_error(&serde_json::from_value(error.clone()).unwrap())
}

fn clients(local: &Local) -> Vec<(&'static str, ClientConfig, HttpClient)> {
    let base: http::Uri = local.url.parse().unwrap();
    let config = || ClientConfig::new(base.clone());
    vec![
        ("connect proto", config(), HttpClient::plaintext()),
        ("connect json", config().json(), HttpClient::plaintext()),
        (
            "grpc",
            config().with_protocol(Protocol::Grpc),
            HttpClient::plaintext_http2_only(),
        ),
        (
            "grpc-web",
            config().with_protocol(Protocol::GrpcWeb),
            HttpClient::plaintext(),
        ),
    ]
}

fn options(person: &Person) -> CallOptions {
    CallOptions::default()
        .with_header("authorization", format!("Bearer {}", person.token))
        .with_header("x-request-id", "same-everywhere")
}

/// What nodes show each other.
const NODE_KEY: &str = "the nodes of this test know each other by this";

/// Another node, as far as NATS can tell.
async fn remote(nats: &Instance) -> Remote {
    let options = Options {
        address: nats.url().parse().unwrap(),
        prefix: "tertulia".parse().unwrap(),
        key: NodeKey::new(Secret::new(NODE_KEY)).unwrap(),
        calls_max: 1,
    };
    let clock = Arc::new(SystemClock::starting_at(0));
    Remote::connect(options, clock).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_gets_the_same_over_nats() {
    let nats = Instance::start();
    let url = nats.url();
    let secrets = [("bus.url", url.as_str()), ("bus.node_key", NODE_KEY)];
    let local = Local::with_secrets(&[], &secrets).await;
    let remote = remote(&nats).await;
    let asked = async |call: Call| {
        loop {
            match remote.call(call.clone()).await {
                Err(Unanswered::NobodyThere) => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    };
    gets_the_same(&local, asked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_gets_the_same_over_http2() {
    let local = Local::with_secrets(&[], &[("bus.node_key", NODE_KEY)]).await;
    let here: Host = local.url.parse().unwrap();
    let options = http2::Options {
        key: NodeKey::new(Secret::new(NODE_KEY)).unwrap(),
        tls: None,
        clock: Arc::new(SystemClock::starting_at(0)),
        lifecycle: Lifecycle::new(),
        balance: balance::Options::default(),
    };
    let remote = http2::Remote::new(&Memory::new(vec![here.endpoint()]), options);
    gets_the_same(&local, async |call: Call| remote.call(call).await).await;
}

/// Another node that calls gets what a client gets.
async fn gets_the_same(local: &Local, call: impl AsyncFn(Call) -> Result<Bytes, Unanswered>) {
    use buffa::Message as _;
    let ann = Person::sign_up(&local.url, "ann").await;
    let bob = Person::sign_up(&local.url, "bob").await;
    let chat = ann.chat_with(&local.url, &bob).await;
    let asked = |chat: i64, identity: String| Call {
        path: GET.into(),
        body: GetChatRequest {
            chat_id: chat,
            ..Default::default()
        }
        .encode_to_vec()
        .into(),
        identity,
        request_id: "same-everywhere".into(),
        content_type: "application/proto".into(),
        traceparent: String::new(),
        timeout: Duration::from_secs(20),
    };
    let (ann_id, chat_id) = (&ann.user_id, chat.parse::<i64>().unwrap());
    let identity = format!("{ann_id}.1.{}.phone", i64::MAX);

    let config = ClientConfig::new(local.url.parse().unwrap());
    let client = ChatsServiceClient::new(HttpClient::plaintext(), config);
    let request = GetChatRequest {
        chat_id,
        ..Default::default()
    };
    let there = client.get_chat_with_options(request, options(&ann)).await;
    let there = serde_json::to_value(there.unwrap().into_owned()).unwrap();
    let here = call(asked(chat_id, identity.clone())).await.unwrap();
    let here = GetChatResponse::decode_from_slice(&here).unwrap();
    assert_eq!(serde_json::to_value(here).unwrap(), there);

    // Refusals are those of the catalogue: of a stranger's chat, and on nobody's behalf.
    for (chat, identity, reason) in [
        (404, identity.as_str(), "CHAT_NOT_FOUND"),
        (chat_id, "", "NOT_SIGNED_IN"),
        (chat_id, "nonsense", "NOT_SIGNED_IN"),
    ] {
        let Err(Unanswered::Refused(refusal)) = call(asked(chat, identity.into())).await else {
            panic!("{reason}")
        };
        let seen = of_json(&serde_json::from_str(&refusal.detail).unwrap());
        assert!(seen.reason.ends_with(reason), "{seen:?}");
        assert_eq!(
            (seen.code, seen.request_id.as_str()),
            (refusal.code, "same-everywhere")
        );
    }
}

#[tokio::test]
async fn a_result_is_the_same_on_every_transport() {
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let bob = Person::sign_up(&local.url, "bob").await;
    let chat = ann.chat_with(&local.url, &bob).await;
    let body = json!({"chatId": chat, "clientMessageId": "the-one-message", "text": "hello"});
    let wire = SendMessageRequest {
        chat_id: chat.parse().unwrap(),
        client_message_id: "the-one-message".into(),
        text: "hello".into(),
        ..Default::default()
    };

    // The call is idempotent, so all of them get what the first got.
    let bearer = format!("Bearer {}", ann.token);
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
        ("x-request-id", "same-everywhere"),
    ];
    let curl = request(
        "POST",
        &format!("{}/{SEND}", local.url),
        &headers,
        body.to_string(),
    )
    .await;
    assert_eq!(curl.status, 200);
    assert_eq!(curl.headers["x-request-id"], "same-everywhere");
    let first = curl.json();
    assert_eq!(first["seq"], "1");

    for (name, config, http) in clients(&local) {
        let client = MessagesServiceClient::new(http, config);
        let answer = client
            .send_message_with_options(wire.clone(), options(&ann))
            .await
            .unwrap();
        assert_eq!(
            answer.headers()["x-request-id"],
            "same-everywhere",
            "{name}"
        );
        assert_eq!(
            serde_json::to_value(answer.into_owned()).unwrap(),
            first,
            "{name}"
        );
    }

    let inside = MessagesServiceClient::new(
        ServiceTransport::new(local.node.rpc.clone()),
        ClientConfig::new("http://in.process".parse().unwrap()),
    );
    let answer = inside
        .send_message_with_options(wire, options(&ann))
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-request-id"], "same-everywhere");
    assert_eq!(serde_json::to_value(answer.into_owned()).unwrap(), first);

    let (mut socket, _) = Socket::hello(&local.url, &ann.token, "").await;
    let call = json!({"call": {"callId": "1", "method": SEND, "json": body, "requestId": "same-everywhere"}});
    socket.send(call).await;
    let reply = socket.frame("reply").await;
    assert_eq!(reply["requestId"], "same-everywhere");
    assert_eq!(reply["json"], first);
}

#[tokio::test]
async fn a_failure_is_the_same_on_every_transport() {
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let bearer = format!("Bearer {}", ann.token);
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
        ("x-request-id", "same-everywhere"),
    ];
    // A chat that is not there, and an id that breaks a rule.
    for (chat, reason) in [
        (4711, "REASON_CHAT_NOT_FOUND"),
        (0, "REASON_INVALID_REQUEST"),
    ] {
        let body = json!({"chatId": chat.to_string()});
        let curl = request(
            "POST",
            &format!("{}/{GET}", local.url),
            &headers,
            body.to_string(),
        )
        .await;
        let expected = of_json(&curl.json());
        assert_eq!(expected.reason, reason);
        assert_eq!(expected.request_id, "same-everywhere");
        assert_eq!(expected.fields.len(), usize::from(chat == 0));

        let wire = GetChatRequest {
            chat_id: chat,
            ..Default::default()
        };
        for (name, config, http) in clients(&local) {
            let client = ChatsServiceClient::new(http, config);
            let error = client
                .get_chat_with_options(wire.clone(), options(&ann))
                .await
                .err()
                .unwrap();
            assert_eq!(of_error(&error), expected, "{name}");
        }
        let inside = ChatsServiceClient::new(
            ServiceTransport::new(local.node.rpc.clone()),
            ClientConfig::new("http://in.process".parse().unwrap()),
        );
        let error = inside
            .get_chat_with_options(wire, options(&ann))
            .await
            .err()
            .unwrap();
        assert_eq!(of_error(&error), expected);

        let (mut socket, _) = Socket::hello(&local.url, &ann.token, "").await;
        let call = json!({"call": {"callId": "1", "method": GET, "json": body, "requestId": "same-everywhere"}});
        socket.send(call).await;
        assert_eq!(of_json(&socket.frame("reply").await["error"]), expected);
    }
}

#[tokio::test]
async fn a_deadline_holds_on_every_transport() {
    // Hashing that takes far longer than the millisecond that the callers give.
    let slow = [
        ("identity.argon2_memory_kib", "65536"),
        ("identity.argon2_passes", "4"),
    ];
    let local = Local::with(&slow).await;
    let body = json!({"name": "nobody", "password": "not a password"});
    let headers = [
        ("content-type", "application/json"),
        ("connect-timeout-ms", "1"),
    ];
    let curl = request(
        "POST",
        &format!("{}/{LOGIN}", local.url),
        &headers,
        body.to_string(),
    )
    .await;
    assert_eq!(curl.code(), "deadline_exceeded");

    let wire = LoginRequest {
        name: "nobody".into(),
        password: "not a password".into(),
        ..Default::default()
    };
    let hasty = || CallOptions::default().with_timeout(Duration::from_millis(1));
    for (name, config, http) in clients(&local) {
        let client = IdentityServiceClient::new(http, config);
        let error = client
            .login_with_options(wire.clone(), hasty())
            .await
            .err()
            .unwrap();
        assert_eq!(error.code.as_str(), "deadline_exceeded", "{name}");
    }
    let inside = IdentityServiceClient::new(
        ServiceTransport::new(local.node.rpc.clone()),
        ClientConfig::new("http://in.process".parse().unwrap()),
    );
    let error = inside
        .login_with_options(wire, hasty())
        .await
        .err()
        .unwrap();
    assert_eq!(error.code.as_str(), "deadline_exceeded");

    let ann = Person::sign_up(&local.url, "ann").await;
    let (mut socket, _) = Socket::hello(&local.url, &ann.token, "").await;
    let call = json!({"call": {"callId": "1", "method": LOGIN, "json": body, "timeoutMs": 1}});
    socket.send(call).await;
    assert_eq!(
        socket.frame("reply").await["error"]["code"],
        "deadline_exceeded"
    );
}

#[tokio::test]
async fn the_live_stream_over_grpc_carries_the_same_frames() {
    use tertulia_proto::live::{
        __buffa::oneof::connect_response::Frame, ConnectRequest, Hello, LiveServiceClient,
    };
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let bob = Person::sign_up(&local.url, "bob").await;
    let chat = ann.chat_with(&local.url, &bob).await;
    let config = ClientConfig::new(local.url.parse().unwrap()).with_protocol(Protocol::Grpc);
    let client = LiveServiceClient::new(HttpClient::plaintext_http2_only(), config);
    let mut stream = client.connect().await.unwrap();
    let hello = Hello {
        access_token: bob.token.clone(),
        ..Default::default()
    };
    let request = ConnectRequest {
        frame: Some(hello.into()),
        ..Default::default()
    };
    stream.send(request).await.unwrap();
    let welcome = stream.message().await.unwrap().unwrap().to_owned_message();
    assert!(matches!(welcome.frame, Some(Frame::Welcome(_))));
    assert_eq!(
        ann.say(&local.url, &chat, "m-0000001", "over there")
            .await
            .status,
        200
    );
    let event = stream.message().await.unwrap().unwrap().to_owned_message();
    let Some(Frame::ChatEvent(event)) = event.frame else {
        panic!("another frame")
    };
    assert_eq!((event.prev, event.event.seq), (0, 1));
}

#[tokio::test]
async fn the_trace_and_the_request_go_on_and_come_back() {
    let local = Local::start().await;
    let answer = post(
        &local.url,
        "tertulia.identity.v1.IdentityService/GetJwks",
        None,
        json!({}),
    )
    .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["x-request-id"].len(), 32);
    assert_eq!(answer.headers["cache-control"], "private, no-store");
    let keys = request(
        "GET",
        &format!("{}/.well-known/jwks.json", local.url),
        &[],
        "",
    )
    .await;
    assert_eq!(keys.json()["keys"], answer.json()["keys"]);
    for probe in ["livez", "readyz", "startupz"] {
        assert_eq!(
            request("GET", &format!("{}/{probe}", local.url), &[], "")
                .await
                .status,
            200
        );
    }
}

#[tokio::test]
async fn health_and_reflection_answer_as_grpc_tools_expect() {
    let local = Local::start().await;
    let health = post(&local.url, "grpc.health.v1.Health/Check", None, json!({})).await;
    assert_eq!(health.json()["status"], "SERVING");
    let service = json!({"service": "tertulia.chats.v1.ChatsService"});
    let chats = post(&local.url, "grpc.health.v1.Health/Check", None, service).await;
    assert_eq!(chats.json()["status"], "SERVING");
    let unknown = json!({"service": "no.such.Service"});
    let unknown = post(&local.url, "grpc.health.v1.Health/Check", None, unknown).await;
    assert_eq!(unknown.code(), "not_found");
}
