//! The deny matrix. Its rows are generated from the contract: every method, for every sort of caller and every
//! role in every kind of chat, over HTTP and over a live socket; then every frame and every other route.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tertulia_kit::clock::{Clock as _, SystemClock};
use tertulia_kit::secret::Secret;
use tertulia_kit::transport::nats::NodeKey;
use tertulia_proto::{Caller, METHODS, Method};
use tertulia_services::chats::{Role, roles};
use tertulia_tests::node::Local;
use tertulia_tests::wire::{Came, PATIENCE, Person, Socket, post, post_as, post_as_node, request};

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anonymous,
    /// A text that is no token.
    Forger,
    /// A token of the owner that was good once.
    Expired,
    /// A token of a login of the owner that was ended.
    Ended,
    /// Signed in, and nothing to any chat.
    Stranger,
    /// Was a member.
    Removed,
    /// Was a member, and is kept out.
    Banned,
    Reader,
    Member,
    /// One of the two of the direct chat, too.
    Admin,
    /// One of the two of the direct chat, too.
    Owner,
}

const EVERYBODY: [Who; 11] = [
    Who::Anonymous,
    Who::Forger,
    Who::Expired,
    Who::Ended,
    Who::Stranger,
    Who::Removed,
    Who::Banned,
    Who::Reader,
    Who::Member,
    Who::Admin,
    Who::Owner,
];

/// A kind of chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum In {
    Direct,
    Group,
    Channel,
}

impl Who {
    fn role(self) -> Option<Role> {
        match self {
            Who::Reader => Some(Role::Reader),
            Who::Member => Some(Role::Member),
            Who::Admin => Some(Role::Admin),
            Who::Owner => Some(Role::Owner),
            _ => None,
        }
    }

    fn is_signed_in(self) -> bool {
        let not = [Who::Anonymous, Who::Forger, Who::Expired, Who::Ended];
        !not.contains(&self)
    }
}

/// The reason for which a caller is refused, or none when it passes the gate: what the method's row and the
/// table of roles say.
fn refused(method: &Method, kind: In, who: Who) -> Option<&'static str> {
    match method.caller {
        Caller::Anyone => return None,
        // Whatever token of a user they bring, and without one.
        Caller::Node => return Some("NODES_ONLY"),
        Caller::User => {}
    }
    match who {
        Who::Anonymous => return Some("NOT_SIGNED_IN"),
        Who::Forger => return Some("BAD_TOKEN"),
        Who::Expired => return Some("TOKEN_EXPIRED"),
        Who::Ended => return Some("LOGIN_ENDED"),
        _ => {}
    }
    let right = method.right?;
    // Both enums have the same names; that every right has one row is tested beside the table.
    let row = roles::TABLE
        .iter()
        .find(|row| format!("{:?}", row.0) == format!("{right:?}"));
    let &(_, in_group, in_channel, in_direct) = row.expect("every right has its row");
    let leaves = method.path.ends_with("/LeaveChat");
    let allowed = match (kind, who, who.role()) {
        // Behind the gate: the two of a direct chat stay in it.
        (In::Direct, Who::Owner | Who::Admin, _) if leaves => return Some("DIRECT_CHAT"),
        (In::Direct, Who::Owner | Who::Admin, _) if in_direct => true,
        (In::Direct, Who::Owner | Who::Admin, _) => return Some("DIRECT_CHAT"),
        (In::Group, _, Some(role)) => role >= in_group,
        (In::Channel, _, Some(role)) => role >= in_channel,
        (In::Direct, ..) | (_, _, None) => return Some("CHAT_NOT_FOUND"),
    };
    (!allowed).then_some("NOT_ALLOWED")
}

/// A request of each method that is right in itself, and that no rule behind the gate refuses as not allowed:
/// it names messages and people that are not there. A method without one fails the test.
fn request_of(path: &str, chat: &str, other: &str) -> Value {
    let (_, method) = path.split_once('/').unwrap();
    let (nobody, none) = ("1", "999");
    match method {
        "CreateAccount" => json!({"name": "again", "password": "a long enough one"}),
        "Login" => json!({"name": "owner", "password": "wrong but long"}),
        "Refresh" => json!({"refreshToken": "nonsense"}),
        "EndLogin" => json!({"loginId": "1"}),
        "Logout" | "ListLogins" | "GetJwks" | "GetMe" | "ListChats" | "ListUserEvents" => json!({}),
        "GetUsers" => json!({"userIds": [other]}),
        "UpdateProfile" => json!({"about": "tests doors"}),
        "SearchUsers" => json!({"query": "a"}),
        "OpenDirect" => json!({"userId": other}),
        "CreateChat" => {
            json!({"kind": "CHAT_KIND_GROUP", "title": "t", "clientChatId": "matrix-chat"})
        }
        "GetSharing" => json!({}),
        "SetSharing" => json!({"share": true}),
        "GetChat" | "ListPresence" | "ListReceipts" | "ListMembers" | "ListBanned"
        | "ListInvites" | "LeaveChat" | "SendTyping" => json!({"chatId": chat}),
        "UpdateChat" => json!({"chatId": chat, "messageTtlS": "86400"}),
        "ListEvents" => json!({"chatId": chat, "afterSeq": "0"}),
        "ListChanges" | "GetDigests" => json!({"chatId": chat, "fromSeq": "1", "toSeq": "9"}),
        "MarkRead" => json!({"chatId": chat, "seenSeq": "1"}),
        "MarkDelivered" => json!({"delivered": [{"chatId": chat, "seq": "1"}]}),
        "UpdateChatSettings" => json!({"chatId": chat, "settings": {"favorite": true}}),
        "UpdateDraft" => json!({"chatId": chat, "draft": {"text": "half a"}}),
        "SendMessage" => json!({"chatId": chat, "clientMessageId": "matrix-message", "text": "hi"}),
        "ForwardMessages" => json!({"chatId": chat, "clientMessageId": "matrix-forward",
            "fromChatId": chat, "messageSeqs": [none]}),
        "EditMessage" => json!({"chatId": chat, "messageSeq": none, "text": "ho"}),
        "DeleteMessages" | "HideMessages" | "GetMessages" => {
            json!({"chatId": chat, "messageSeqs": [none]})
        }
        "AddReaction" | "RemoveReaction" => {
            json!({"chatId": chat, "messageSeq": none, "emoji": "👍"})
        }
        "ListReactions" | "PinMessage" | "UnpinMessage" | "ListEdits" => {
            json!({"chatId": chat, "messageSeq": none})
        }
        "ListThread" => json!({"chatId": chat, "threadSeq": none}),
        "ScheduleMessage" => json!({"chatId": chat, "clientMessageId": "matrix-later",
            "text": "later", "sendAtMs": "1000000000000"}),
        "CancelScheduledMessage" => json!({"scheduledId": "1"}),
        "ListScheduledMessages" => json!({}),
        "AddMembers" => json!({"chatId": chat, "userIds": [nobody]}),
        "RemoveMember" | "BanMember" | "UnbanMember" => json!({"chatId": chat, "userId": nobody}),
        "SetRole" => json!({"chatId": chat, "userId": nobody, "role": "ROLE_READER"}),
        "CreateInvite" => json!({"chatId": chat, "clientInviteId": "matrix-invite"}),
        "RevokeInvite" => json!({"chatId": chat, "code": "no-such-code-at-all"}),
        "PreviewInvite" | "JoinChat" => json!({"code": "no-such-code-at-all"}),
        "Push" => {
            json!({"target": {"userId": nobody}, "notice": {"kind": "announcement", "text": "hi"}})
        }
        "EndSessions" => json!({"target": {"userId": nobody}}),
        "RevokeLogins" => json!({"loginId": nobody}),
        "ListSessions" => json!({"userId": nobody}),
        "Drain" | "Resume" | "ListNodes" => json!({}),
        "MakeConsumer" => json!({"name": "matrix", "begin": "BEGIN_NOW"}),
        "ListConsumers" => json!({}),
        "RemoveConsumer" | "Fetch" => json!({"name": "matrix"}),
        "Acknowledge" => json!({"consumerId": nobody, "place": "1"}),
        other => panic!("{other} has no row: add a request that is right in itself"),
    }
}

/// All methods that answer once; those come last that change who is who.
fn methods() -> Vec<&'static Method> {
    let mut methods: Vec<_> = METHODS.iter().filter(|m| !m.streams).collect();
    methods.sort_by_key(|m| m.path.ends_with("/LeaveChat"));
    methods.retain(|m| !m.path.ends_with("/Logout"));
    methods
}

struct Cast {
    local: Local,
    chats: [(In, String); 3],
    other: String,
    people: Vec<(Who, Option<String>)>,
}

impl Cast {
    fn token(&self, who: Who) -> String {
        let (_, token) = self.people.iter().find(|(one, _)| *one == who).unwrap();
        token.clone().unwrap()
    }

    fn chat(&self, kind: In) -> &str {
        let chat = self.chats.iter().find(|(one, _)| *one == kind);
        &chat.unwrap().1
    }
}

async fn cast() -> Cast {
    let local = Local::start().await;
    let url = &local.url;
    let names = [
        "owner", "admin", "member", "reader", "banned", "removed", "stranger",
    ];
    let mut people = Vec::new();
    for name in names {
        people.push(Person::sign_up(url, name).await);
    }
    let [owner, admin, member, reader, banned, removed, stranger] = &people[..] else {
        unreachable!("there are seven names")
    };
    let mut chats = vec![(In::Direct, owner.chat_with(url, admin).await)];
    for (kind, name) in [(In::Group, "group"), (In::Channel, "channel")] {
        let members = [admin, member, reader, banned, removed];
        let chat = owner.create(url, name, name, &members).await;
        for (one, role) in [(admin, "ADMIN"), (member, "MEMBER"), (reader, "READER")] {
            let role = format!("ROLE_{role}");
            let body = json!({"chatId": chat, "userId": one.user_id, "role": role});
            owner.ok(url, "SetRole", body).await;
        }
        for (one, method) in [(banned, "BanMember"), (removed, "RemoveMember")] {
            let body = json!({"chatId": chat, "userId": one.user_id});
            owner.ok(url, method, body).await;
        }
        chats.push((kind, chat));
    }
    let ended = owner.sign_in(url).await;
    ended.ok(url, "Logout", json!({})).await;
    // Where it ended it is refused at once, and on any other node within its second.
    for each in local.urls() {
        let me = tertulia_tests::wire::path("GetMe");
        let refused = async { while ended.call(&each, me, json!({})).await.status == 200 {} };
        tokio::time::timeout(PATIENCE, refused).await.unwrap();
    }
    let expired = local.expired_token(owner);
    let token = |who| match who {
        Who::Anonymous => None,
        Who::Forger => Some("eyJhbGciOiJub25lIn0.e30.".to_owned()),
        Who::Expired => Some(expired.clone()),
        Who::Ended => Some(ended.token.clone()),
        Who::Stranger => Some(stranger.token.clone()),
        Who::Removed => Some(removed.token.clone()),
        Who::Banned => Some(banned.token.clone()),
        Who::Reader => Some(reader.token.clone()),
        Who::Member => Some(member.token.clone()),
        Who::Admin => Some(admin.token.clone()),
        Who::Owner => Some(owner.token.clone()),
    };
    let tokens = EVERYBODY.map(|who| (who, token(who))).into();
    let other = member.user_id.clone();
    Cast {
        chats: chats.try_into().unwrap(),
        other,
        people: tokens,
        local,
    }
}

/// The reason when it is one of access; other refusals have passed the gate.
fn of_access(reason: &str) -> Option<&str> {
    let all = [
        "NOT_SIGNED_IN",
        "BAD_TOKEN",
        "TOKEN_EXPIRED",
        "LOGIN_ENDED",
        "CHAT_NOT_FOUND",
        "DIRECT_CHAT",
        "NOT_ALLOWED",
        "NODES_ONLY",
        "USERS_ONLY",
        "BAD_NODE_TOKEN",
    ];
    all.contains(&reason).then_some(reason)
}

#[tokio::test]
async fn every_method_refuses_whom_its_row_and_the_table_of_roles_refuse() {
    let cast = cast().await;
    let url = &cast.local.url;
    let mut checked = 0;
    for method in methods() {
        for (kind, chat) in &cast.chats {
            for (who, token) in &cast.people {
                let body = request_of(method.path, chat, &cast.other);
                let answer = post(url, method.path, token.as_deref(), body).await;
                assert_eq!(
                    of_access(&answer.reason()),
                    refused(method, *kind, *who),
                    "{} in {kind:?} as {who:?}: {}",
                    method.path,
                    String::from_utf8_lossy(&answer.body)
                );
                checked += 1;
            }
            if method.object.is_empty() {
                break;
            }
        }
    }
    // Logout ends who calls, so only those are asked who are refused.
    for (who, token) in cast.people.iter().filter(|(who, _)| !who.is_signed_in()) {
        let logout = tertulia_tests::wire::path("Logout");
        let answer = post(url, logout, token.as_deref(), json!({})).await;
        let method = tertulia_proto::method(logout).unwrap();
        let expected = refused(method, In::Direct, *who);
        assert!(expected.is_some());
        assert_eq!(of_access(&answer.reason()), expected, "Logout as {who:?}");
    }
    println!("{checked} pairs of method and caller");
    let about_chats = METHODS.iter().filter(|m| m.right.is_some()).count();
    assert!(checked >= about_chats * 3 * EVERYBODY.len(), "{checked}");
}

/// Whether a call came through the gate: that there is no such consumer is found behind it.
fn passed(status: u16, reason: &str) -> bool {
    status == 200 || reason == "CONSUMER_NOT_FOUND"
}

#[tokio::test]
async fn a_node_may_call_what_is_for_nodes_and_nothing_that_is_for_users() {
    let local = Local::with(&[("feed.enabled", "true")]).await;
    let (url, key) = (&local.url, local.node_key());
    let (mut for_nodes, mut for_users) = (0, 0);
    for method in methods() {
        let (_, name) = method.path.split_once('/').unwrap();
        let answer = post_as_node(url, &key, name, request_of(method.path, "1", "1")).await;
        let reason = answer.reason();
        match method.caller {
            Caller::Node => {
                assert!(passed(answer.status, &reason), "{}: {reason}", method.path);
                for_nodes += 1;
            }
            Caller::User => {
                assert_eq!(reason, "USERS_ONLY", "{}", method.path);
                for_users += 1;
            }
            Caller::Anyone => assert_eq!(of_access(&reason), None, "{}", method.path),
        }
    }
    assert!(for_nodes >= 7 && for_users >= 50, "{for_nodes} {for_users}");
}

#[tokio::test]
async fn what_is_for_nodes_refuses_every_token_that_is_not_a_good_one_of_a_node() {
    let local = Local::with(&[("feed.enabled", "true")]).await;
    let (url, key) = (&local.url, local.node_key());
    let ann = Person::sign_up(url, "ann").await;
    let foreign = NodeKey::new(Secret::new(vec![7; 32])).unwrap();
    let now_ms = SystemClock::starting_at(0).now_ms();
    for method in METHODS.iter().filter(|m| m.caller == Caller::Node) {
        let path = method.path;
        let used = format!("Node {}", key.token(path, now_ms));
        let call_at = async |url: &str, authorization: Option<&str>| {
            let answer = post_as(url, path, authorization, request_of(path, "1", "1")).await;
            (answer.status, answer.reason())
        };
        let call = async |authorization: Option<&str>| call_at(url, authorization).await;
        // A token is good once on each node.
        for each in local.urls() {
            let (status, reason) = call_at(&each, Some(&used)).await;
            assert!(passed(status, &reason), "{path}: {reason}");
        }
        let bearer = format!("Bearer {}", ann.token);
        let as_bearer = format!("Bearer {}", key.token(path, now_ms));
        for authorization in [None, Some(&*bearer), Some(&*as_bearer), Some("Basic YTpi")] {
            let refused = (403, "NODES_ONLY".to_owned());
            assert_eq!(call(authorization).await, refused, "{path}");
        }
        let elsewhere = METHODS.iter().find(|m| m.path != path).unwrap();
        for bad in [
            used,
            format!("Node {}", foreign.token(path, now_ms)),
            format!("Node {}", key.token(path, now_ms - 31_000)),
            format!("Node {}", key.token(path, now_ms + 60_000)),
            format!("Node {}", key.token(elsewhere.path, now_ms)),
            format!("Node {}", ann.token),
            "Node x".to_owned(),
        ] {
            let refused = (401, "BAD_NODE_TOKEN".to_owned());
            assert_eq!(call(Some(&bad)).await, refused, "{path} {bad}");
        }
    }
}

#[tokio::test]
async fn the_same_rows_hold_for_calls_over_a_live_socket() {
    let cast = cast().await;
    for (who, token) in cast.people.iter().filter(|(who, _)| who.is_signed_in()) {
        let (mut socket, _) = Socket::hello(&cast.local.url, token.as_deref().unwrap(), "").await;
        let mut id = 0;
        for method in methods() {
            for (kind, chat) in &cast.chats {
                id += 1;
                let body = request_of(method.path, chat, &cast.other);
                let reply = socket.call(id, method.path, body).await;
                let reason = reply["error"]["failure"]["reason"].as_str();
                let reason = reason.unwrap_or_default().trim_start_matches("REASON_");
                let expected = refused(method, *kind, *who);
                assert_eq!(
                    of_access(reason),
                    expected,
                    "{} in {kind:?} as {who:?}",
                    method.path
                );
            }
        }
        let stream = "tertulia.live.v1.LiveService/Connect";
        let reply = socket.call(id + 1, stream, json!({})).await;
        assert_eq!(
            reply["error"]["failure"]["reason"],
            "REASON_WRONG_TRANSPORT"
        );
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
            _ => None,
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
        json!({"warm": {"chatIds": ["1"]}}),
        json!({"watch": {"chatIds": ["1"]}}),
        json!({"rest": {"idle": true}}),
    ];
    for frame in frames {
        let mut socket = Socket::open(&local.url, "tertulia.v1.json").await.unwrap();
        socket.send(frame).await;
        assert_eq!(socket.closed().await, 4000);
    }
}

#[tokio::test]
async fn who_is_not_in_a_chat_hears_nothing_of_it() {
    let cast = cast().await;
    let url = &cast.local.url;
    for kind in [In::Direct, In::Group, In::Channel] {
        let chat = cast.chat(kind);
        let (mut member, _) = Socket::hello(url, &cast.token(Who::Admin), "").await;
        let warm = json!({"warm": {"chatIds": [chat]}});
        member.send(warm.clone()).await;
        assert_eq!(member.frame("warmed").await["heads"][0]["chatId"], chat);
        for who in [Who::Stranger, Who::Removed, Who::Banned] {
            let (mut other, _) = Socket::hello(url, &cast.token(who), "").await;
            other.send(warm.clone()).await;
            assert_eq!(other.frame("warmed").await, json!({}), "{kind:?} {who:?}");
            other.send(json!({"watch": {"chatIds": [chat]}})).await;
            assert_eq!(other.frame("watched").await, json!({}), "{kind:?} {who:?}");
            let id = format!("only-for-us-{kind:?}-{who:?}");
            let body = json!({"chatId": chat, "clientMessageId": id, "text": id});
            let send = tertulia_tests::wire::path("SendMessage");
            let answer = post(url, send, Some(&cast.token(Who::Owner)), body).await;
            assert_eq!(answer.status, 200);
            assert_eq!(
                member.frame("chatEvent").await["event"]["message"]["text"],
                id
            );
            // The reply comes after whatever was on its way to the other.
            let call = json!({"call": {"callId": "9", "method": "tertulia.users.v1.UsersService/GetMe", "json": {}}});
            other.send(call).await;
            let Came::Frame(frame) = other.next().await else {
                panic!("closed")
            };
            assert!(frame.get("reply").is_some(), "{kind:?} {who:?}: {frame}");
        }
    }
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
