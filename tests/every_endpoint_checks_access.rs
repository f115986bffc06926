//! The deny matrix. Its rows are generated from the contract: every method, for every sort of caller, over
//! HTTP and over a live socket; then every frame and every other route.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tertulia_proto::{Caller, METHODS, Method, Relation};
use tertulia_tests::node::Local;
use tertulia_tests::wire::{Came, Person, Socket, post, request};

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anonymous,
    /// A text that is no token.
    Forger,
    /// A token that was good once.
    Expired,
    /// A token of a login that was ended.
    Ended,
    /// Signed in, and nothing to the object.
    Stranger,
    /// A member of the chat.
    Member,
    /// The other member of the chat.
    OtherMember,
}

const EVERYBODY: [Who; 7] = [
    Who::Anonymous,
    Who::Forger,
    Who::Expired,
    Who::Ended,
    Who::Stranger,
    Who::Member,
    Who::OtherMember,
];

/// The reason for which a caller is refused, or none when it passes the gate.
fn refused(method: &Method, who: Who) -> Option<&'static str> {
    if method.caller == Caller::Anyone {
        return None;
    }
    match (who, method.relation) {
        (Who::Anonymous, _) => Some("REASON_NOT_SIGNED_IN"),
        (Who::Forger, _) => Some("REASON_BAD_TOKEN"),
        (Who::Expired, _) => Some("REASON_TOKEN_EXPIRED"),
        (Who::Ended, _) => Some("REASON_LOGIN_ENDED"),
        (Who::Stranger, Some(Relation::ChatMember)) => Some("REASON_CHAT_NOT_FOUND"),
        (Who::Stranger | Who::Member | Who::OtherMember, _) => None,
    }
}

/// A request of each method that is right in itself. A method without one fails the test.
fn request_of(path: &str, chat: &str, other: &str) -> Value {
    let (_, method) = path.split_once('/').unwrap();
    match method {
        "CreateAccount" => json!({"name": "again", "password": "a long enough one"}),
        "Login" => json!({"name": "ann", "password": "wrong but long"}),
        "Refresh" => json!({"refreshToken": "nonsense"}),
        "EndLogin" => json!({"loginId": "1"}),
        "Logout" | "ListLogins" | "GetJwks" | "GetMe" | "ListChats" | "ListUserEvents" => json!({}),
        "GetUsers" => json!({"userIds": [other]}),
        "UpdateProfile" => json!({"about": "tests doors"}),
        "SearchUsers" => json!({"query": "a"}),
        "OpenDirect" => json!({"userId": other}),
        "GetChat" => json!({"chatId": chat}),
        "ListEvents" => json!({"chatId": chat, "afterSeq": "0"}),
        "SendMessage" => json!({"chatId": chat, "clientMessageId": "matrix-message", "text": "hi"}),
        other => panic!("{other} has no row: add a request that is right in itself"),
    }
}

struct Cast {
    local: Local,
    chat: String,
    other: String,
    people: Vec<(Who, Option<String>)>,
}

async fn cast() -> Cast {
    let local = Local::start().await;
    let url = &local.url;
    let ann = Person::sign_up(url, "ann").await;
    let bob = Person::sign_up(url, "bob").await;
    let eve = Person::sign_up(url, "eve").await;
    let chat = ann.chat_with(url, &bob).await;
    let ended = ann.sign_in(url).await;
    let logout = "tertulia.identity.v1.IdentityService/Logout";
    assert_eq!(ended.call(url, logout, json!({})).await.status, 200);
    let expired = local.expired_token(&ann);
    let people = EVERYBODY
        .map(|who| {
            let token = match who {
                Who::Anonymous => None,
                Who::Forger => Some("eyJhbGciOiJub25lIn0.e30.".to_owned()),
                Who::Expired => Some(expired.clone()),
                Who::Ended => Some(ended.token.clone()),
                Who::Stranger => Some(eve.token.clone()),
                Who::Member => Some(ann.token.clone()),
                Who::OtherMember => Some(bob.token.clone()),
            };
            (who, token)
        })
        .into();
    Cast {
        local,
        chat,
        other: bob.user_id,
        people,
    }
}

#[tokio::test]
async fn every_method_refuses_whom_its_row_refuses() {
    let cast = cast().await;
    let mut checked = 0;
    // Logout changes who is who, so it comes last, and is asked for by those who are refused only.
    for method in METHODS.iter().filter(|m| !m.streams) {
        for (who, token) in &cast.people {
            let expected = refused(method, *who);
            if method.path.ends_with("/Logout") && expected.is_none() {
                continue;
            }
            let body = request_of(method.path, &cast.chat, &cast.other);
            let answer = post(&cast.local.url, method.path, token.as_deref(), body).await;
            assert_eq!(
                reason(&answer.json()),
                expected.map(str::to_owned),
                "{} as {who:?}",
                method.path
            );
            checked += 1;
        }
    }
    assert!(checked >= METHODS.len() * 5, "{checked}");
}

/// The reason when it is one of access; other refusals have passed the gate.
fn reason(answer: &Value) -> Option<String> {
    use base64::Engine as _;
    use buffa::{Enumeration as _, Message as _};
    let value = answer["details"][0]["value"].as_str()?;
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(value)
        .unwrap();
    let failure = tertulia_proto::errors::Failure::decode_from_slice(&bytes).unwrap();
    let reason = tertulia_proto::errors::Reason::from_i32(failure.reason.to_i32()).unwrap();
    let of_access = [
        "REASON_NOT_SIGNED_IN",
        "REASON_BAD_TOKEN",
        "REASON_TOKEN_EXPIRED",
        "REASON_LOGIN_ENDED",
        "REASON_CHAT_NOT_FOUND",
        "REASON_NOT_ALLOWED",
    ];
    of_access
        .contains(&reason.proto_name())
        .then(|| reason.proto_name().to_owned())
}

#[tokio::test]
async fn the_same_rows_hold_for_calls_over_a_live_socket() {
    let cast = cast().await;
    for (who, token) in &cast.people {
        if !matches!(who, Who::Stranger | Who::Member | Who::OtherMember) {
            continue;
        }
        let (mut socket, _) = Socket::hello(&cast.local.url, token.as_deref().unwrap(), "").await;
        for (id, method) in METHODS
            .iter()
            .enumerate()
            .filter(|(_, m)| !m.path.ends_with("/Logout"))
        {
            let body = if method.streams {
                json!({})
            } else {
                request_of(method.path, &cast.chat, &cast.other)
            };
            let reply = socket.call(id as u64 + 1, method.path, body).await;
            let reason = reply["error"]["failure"]["reason"].as_str();
            match (method.streams, refused(method, *who)) {
                (true, _) => assert_eq!(reason, Some("REASON_WRONG_TRANSPORT")),
                (false, Some(expected)) => assert_eq!(reason, Some(expected), "{}", method.path),
                (false, None) => {
                    assert_ne!(reason, Some("REASON_CHAT_NOT_FOUND"), "{}", method.path)
                }
            }
        }
    }
}

#[tokio::test]
async fn a_live_session_opens_for_good_logins_only() {
    let cast = cast().await;
    for (who, token) in &cast.people {
        let mut socket = Socket::open(&cast.local.url, "tertulia.v1.json")
            .await
            .unwrap();
        let token = token.clone().unwrap_or_else(|| "none".into());
        socket.send(json!({"hello": {"accessToken": token}})).await;
        let closed = match who {
            Who::Anonymous | Who::Forger => Some(4003),
            Who::Expired => Some(4004),
            Who::Ended => Some(4005),
            Who::Stranger | Who::Member | Who::OtherMember => None,
        };
        match closed {
            Some(code) => assert_eq!(socket.closed().await, code, "{who:?}"),
            None => _ = socket.frame("welcome").await,
        }
    }
}

#[tokio::test]
async fn no_frame_but_hello_opens_a_session() {
    let local = Local::start().await;
    let frames = [
        json!({"call": {"callId": "1", "method": "tertulia.users.v1.UsersService/GetMe", "json": {}}}),
        json!({"alive": {}}),
        json!({"renew": {"accessToken": "x"}}),
        json!({"catchUp": {}}),
    ];
    for frame in frames {
        let mut socket = Socket::open(&local.url, "tertulia.v1.json").await.unwrap();
        socket.send(frame).await;
        assert_eq!(socket.closed().await, 4000);
    }
}

#[tokio::test]
async fn a_stranger_hears_nothing_of_a_chat() {
    let cast = cast().await;
    let token = |who: Who| {
        cast.people
            .iter()
            .find(|(w, _)| *w == who)
            .unwrap()
            .1
            .clone()
            .unwrap()
    };
    let (mut stranger, _) = Socket::hello(&cast.local.url, &token(Who::Stranger), "").await;
    let (mut member, _) = Socket::hello(&cast.local.url, &token(Who::OtherMember), "").await;
    let body = json!({"chatId": cast.chat, "clientMessageId": "only-for-us", "text": "psst"});
    let send = "tertulia.chats.v1.ChatsService/SendMessage";
    assert_eq!(
        post(&cast.local.url, send, Some(&token(Who::Member)), body)
            .await
            .status,
        200
    );
    assert_eq!(
        member.frame("chatEvent").await["event"]["message"]["text"],
        "psst"
    );
    // The reply comes after whatever was on its way to the stranger.
    stranger.send(json!({"call": {"callId": "9", "method": "tertulia.users.v1.UsersService/GetMe", "json": {}}})).await;
    let Came::Frame(frame) = stranger.next().await else {
        panic!("closed")
    };
    assert!(frame.get("reply").is_some(), "{frame}");
}

#[tokio::test]
async fn a_login_that_ends_closes_its_sessions() {
    let local = Local::start().await;
    let ann = Person::sign_up(&local.url, "ann").await;
    let other = ann.sign_in(&local.url).await;
    let (mut kept, _) = Socket::hello(&local.url, &ann.token, "").await;
    let (mut ended, _) = Socket::hello(&local.url, &other.token, "").await;
    let logout = "tertulia.identity.v1.IdentityService/Logout";
    assert_eq!(other.call(&local.url, logout, json!({})).await.status, 200);
    assert_eq!(ended.closed().await, 4005);
    let reply = kept
        .call(1, "tertulia.users.v1.UsersService/GetMe", json!({}))
        .await;
    assert_eq!(reply["json"]["user"]["name"], "ann");
}

#[tokio::test]
async fn every_other_route_gives_nothing_away() {
    let local = Local::start().await;
    let known: BTreeSet<&str> = ["/livez", "/readyz", "/startupz", "/.well-known/jwks.json"].into();
    for path in known {
        let answer = request("GET", &format!("{}{path}", local.url), &[], "").await;
        assert_eq!(answer.status, 200, "{path}");
    }
    for path in [
        "/metrics",
        "/debug/pprof",
        "/../etc/passwd",
        "/data",
        "/.git/config",
        "/admin",
    ] {
        let answer = request("GET", &format!("{}{path}", local.url), &[], "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.code(), "not_found", "{path}");
    }
    let plain = request("GET", &format!("{}/live", local.url), &[], "").await;
    assert_eq!(plain.status, 426);
}

#[tokio::test]
async fn a_foreign_page_can_not_open_a_socket() {
    let local = Local::start().await;
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("origin", "https://evil.example"),
    ];
    let answer = request("GET", &format!("{}/live", local.url), &headers, "").await;
    assert_eq!(answer.status, 403);
}
