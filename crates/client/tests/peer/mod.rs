//! A server that does what a test tells it: it speaks the contract, and nothing happens by itself but
//! signing in and refreshing.

#![allow(
    clippy::unwrap_used,
    reason = "the lint knows tests only by their attribute"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use buffa::Message as _;
use futures::{SinkExt as _, StreamExt as _};
use tertulia_client::proto::chats::event;
use tertulia_client::proto::chats::user_event::Body as OwnBody;
use tertulia_client::proto::chats::{
    Chat, Event, ListScheduledMessagesResponse, MarkDeliveredRequest, MarkDeliveredResponse,
    MarkReadRequest, MarkReadResponse, Membership, Message, ReadState, SendMessageRequest,
    SendMessageResponse, UserEvent,
};
use tertulia_client::proto::errors::{Failure, Reason};
use tertulia_client::proto::identity::{
    Credentials, LoginResponse, RefreshRequest, RefreshResponse,
};
use tertulia_client::proto::live::connect_request::Frame as Up;
use tertulia_client::proto::live::connect_response::Frame as Down;
use tertulia_client::proto::live::*;
use tertulia_client::{Client, Connection, Options, Seen, store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Ws;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// Nothing in these tests takes so long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(10);
pub const ME: i64 = 7;

pub struct Peer {
    pub url: String,
    sockets: mpsc::Receiver<WebSocketStream<TcpStream>>,
    pub state: Arc<State>,
}

#[derive(Default)]
pub struct State {
    /// How many tokens were refreshed.
    pub refreshes: AtomicUsize,
    /// How long access tokens say they live, in seconds.
    pub lifetime_s: AtomicUsize,
    /// Refreshing is refused.
    pub login_ended: std::sync::atomic::AtomicBool,
}

impl Peer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (accepted, sockets) = mpsc::channel(16);
        let state = Arc::new(State::default());
        state.lifetime_s.store(3600, Ordering::SeqCst);
        let serving = Arc::clone(&state);
        #[expect(clippy::disallowed_methods, reason = "a test has no lifecycle")]
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (accepted, state) = (accepted.clone(), Arc::clone(&serving));
                tokio::spawn(async move {
                    let mut first = [0; 1];
                    if stream.peek(&mut first).await.unwrap_or(0) == 0 {
                        return;
                    }
                    if first[0] == b'G' {
                        #[expect(clippy::result_large_err, reason = "the library's signature")]
                        let subprotocol = |request: &Request, mut response: Response| {
                            assert_eq!(
                                request.headers()["sec-websocket-protocol"],
                                "tertulia.v1.proto"
                            );
                            let name = "tertulia.v1.proto".parse().unwrap();
                            response
                                .headers_mut()
                                .insert("sec-websocket-protocol", name);
                            Ok(response)
                        };
                        if let Ok(socket) =
                            tokio_tungstenite::accept_hdr_async(stream, subprotocol).await
                        {
                            _ = accepted.send(socket).await;
                        }
                    } else {
                        http(stream, &state).await;
                    }
                });
            }
        });
        Peer {
            url,
            sockets,
            state,
        }
    }

    /// The next connection, after its hello.
    pub async fn hello(&mut self) -> (Session, Hello) {
        let socket = timeout(PATIENCE, self.sockets.recv())
            .await
            .expect("nobody connects")
            .unwrap();
        let mut session = Session::new(socket);
        match session.next().await {
            Up::Hello(hello) => (session, *hello),
            other => panic!("the first frame was {other:?}"),
        }
    }

    /// The next connection, welcomed with `answer`.
    pub async fn welcome(
        &mut self,
        cursor: &[u8],
        answer: impl Into<missed::Answer>,
    ) -> (Session, Hello) {
        let (mut session, hello) = self.hello().await;
        session.send(welcome(30_000, cursor, answer)).await;
        (session, hello)
    }

    /// A started client that is signed in.
    pub async fn client(&self, store: Arc<store::memory::Memory>) -> Client {
        let client = self.builder(store).build().unwrap();
        client
            .sign_in("ana", "a long enough password")
            .await
            .unwrap();
        client.start();
        client
    }

    pub fn builder(&self, store: Arc<store::memory::Memory>) -> tertulia_client::Builder {
        let options = Options {
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(20),
            hole_patience: Duration::from_millis(1),
            delivered_pause: Duration::from_millis(5),
            ..Default::default()
        };
        Client::builder(&self.url).store(store).options(options)
    }
}

pub fn welcome(heartbeat_ms: u32, cursor: &[u8], answer: impl Into<missed::Answer>) -> Down {
    Welcome {
        session_id: "s".into(),
        user_id: ME,
        heartbeat_ms,
        missed: missed(cursor, answer).into(),
        ..Default::default()
    }
    .into()
}

pub fn missed(cursor: &[u8], answer: impl Into<missed::Answer>) -> Missed {
    Missed {
        cursor: cursor.to_vec(),
        answer: Some(answer.into()),
        ..Default::default()
    }
}

/// The answer to the very first hello: chat 1 is there, up to `head`, and all of it was read.
pub fn fresh(head: i64) -> Reset {
    let reason = ResetReason::RESET_REASON_FIRST.into();
    Reset {
        reason,
        chats: vec![chat(head, head)],
        epoch: "e".into(),
        ..Default::default()
    }
}

/// Chat 1 up to `head`, of which the user has seen `seen` of as many messages as there are events.
pub fn chat(head: i64, seen: i64) -> Chat {
    let last_message = if head == 0 {
        Default::default()
    } else {
        said(head).into()
    };
    let read = ReadState {
        seen_seq: seen,
        unread: (head - seen) as i32,
        as_of_seq: head,
        ..Default::default()
    };
    let membership = Membership {
        read: read.into(),
        ..Default::default()
    };
    Chat {
        chat_id: 1,
        member_ids: vec![ME, 9],
        member_count: 2,
        head,
        last_message,
        membership: membership.into(),
        ..Default::default()
    }
}

/// An event of chat 1, by the other one.
pub fn said(seq: i64) -> Event {
    let message = Message {
        message_id: 100 + seq,
        text: format!("text {seq}"),
        client_message_id: format!("their-{seq}"),
        device_id: "their-device".into(),
        changed_seq: seq,
        ..Default::default()
    };
    happened(seq, 9, message)
}

/// An event of chat 1.
pub fn happened(seq: i64, actor_id: i64, body: impl Into<event::Body>) -> Event {
    Event {
        chat_id: 1,
        seq,
        actor_id,
        at_ms: 1_000 * seq,
        body: Some(body.into()),
        ..Default::default()
    }
}

pub fn live(seq: i64) -> Down {
    frame(said(seq))
}

/// An event as it happens.
pub fn frame(event: Event) -> Down {
    ChatEvent {
        prev: event.seq - 1,
        event: event.into(),
        ..Default::default()
    }
    .into()
}

/// An event of the user's own log as it happens.
pub fn own(seq: i64, body: impl Into<OwnBody>) -> Down {
    let event = UserEvent {
        seq,
        body: Some(body.into()),
        ..Default::default()
    };
    OwnEvent {
        prev: seq - 1,
        event: event.into(),
        ..Default::default()
    }
    .into()
}

pub fn heartbeat(head: i64, cursor: &[u8]) -> Down {
    let heads = vec![Head {
        chat_id: 1,
        seq: head,
        ..Default::default()
    }];
    Heartbeat {
        heads,
        cursor: cursor.to_vec(),
        ..Default::default()
    }
    .into()
}

pub fn delta(events: Vec<Event>) -> Delta {
    Delta {
        events,
        own_events: Vec::<UserEvent>::new(),
        ..Default::default()
    }
}

/// One connection, seen from the server.
pub struct Session {
    socket: WebSocketStream<TcpStream>,
    /// What the client has told to have reached it, in its order: chat and seq.
    pub delivered: Vec<(i64, i64)>,
    /// Words that something was read are answered and passed over, too.
    pub answers_reads: bool,
    /// The newest message that was sent.
    sent: Option<SendMessageRequest>,
}

impl Session {
    fn new(socket: WebSocketStream<TcpStream>) -> Self {
        Session {
            socket,
            delivered: Vec::new(),
            answers_reads: false,
            sent: None,
        }
    }

    pub async fn send(&mut self, frame: impl Into<Down>) {
        let frame = ConnectResponse {
            frame: Some(frame.into()),
            ..Default::default()
        };
        self.socket
            .send(Ws::Binary(frame.encode_to_vec().into()))
            .await
            .unwrap();
    }

    /// The next frame from the client. What it tells by itself is answered and noted.
    pub async fn next(&mut self) -> Up {
        loop {
            match timeout(PATIENCE, self.socket.next())
                .await
                .expect("the client is silent")
            {
                Some(Ok(Ws::Binary(bytes))) => {
                    let frame = ConnectRequest::decode_from_slice(&bytes).unwrap().frame;
                    let frame = frame.unwrap();
                    if !self.is_by_itself(&frame).await {
                        return frame;
                    }
                }
                Some(Ok(_)) => {}
                other => panic!("the client has gone: {other:?}"),
            }
        }
    }

    async fn is_by_itself(&mut self, frame: &Up) -> bool {
        let Up::Call(call) = frame else { return false };
        let Some(call::Request::Proto(bytes)) = &call.request else {
            return false;
        };
        match call.method.rsplit('/').next() {
            Some("MarkDelivered") => {
                let request = MarkDeliveredRequest::decode_from_slice(bytes).unwrap();
                let told = request.delivered.iter().map(|d| (d.chat_id, d.seq));
                self.delivered.extend(told);
                self.reply(call.call_id, MarkDeliveredResponse::default())
                    .await;
            }
            Some("MarkRead") if self.answers_reads => {
                let request = MarkReadRequest::decode_from_slice(bytes).unwrap();
                let read = ReadState {
                    seen_seq: request.seen_seq,
                    as_of_seq: request.seen_seq,
                    ..Default::default()
                };
                let answer = MarkReadResponse {
                    read: read.into(),
                    ..Default::default()
                };
                self.reply(call.call_id, answer).await;
            }
            Some("ListScheduledMessages") => {
                self.reply(call.call_id, ListScheduledMessagesResponse::default())
                    .await;
            }
            _ => return false,
        }
        true
    }

    /// The next call, which must be of this method. Signs of life and choices of what
    /// is heard are passed over.
    pub async fn call<Q: buffa::Message>(&mut self, method: &str) -> (u64, Q) {
        loop {
            match self.next().await {
                Up::Call(call) => {
                    assert!(
                        call.method.ends_with(method),
                        "{} was called, not {method}",
                        call.method
                    );
                    let Some(call::Request::Proto(bytes)) = call.request else {
                        panic!("not protobuf")
                    };
                    return (call.call_id, Q::decode_from_slice(&bytes).unwrap());
                }
                Up::Alive(_) | Up::Warm(_) | Up::Watch(_) | Up::Rest(_) => {}
                other => panic!("{other:?} came, not a call of {method}"),
            }
        }
    }

    pub async fn reply(&mut self, call_id: u64, answer: impl buffa::Message) {
        let result = Some(reply::Result::Proto(answer.encode_to_vec()));
        self.send(Reply {
            call_id,
            result,
            ..Default::default()
        })
        .await;
    }

    pub async fn refuse(&mut self, call_id: u64, code: &str, reason: Reason) {
        let failure = Failure {
            reason: reason.into(),
            ..Default::default()
        };
        let error = CallError {
            code: code.into(),
            message: "no".into(),
            failure: failure.into(),
            ..Default::default()
        };
        self.send(Reply {
            call_id,
            result: Some(reply::Result::Error(Box::new(error))),
            ..Default::default()
        })
        .await;
    }

    /// The next message that is sent.
    pub async fn message(&mut self) -> (u64, SendMessageRequest) {
        let (call_id, request) = self
            .call::<SendMessageRequest>("MessagesService/SendMessage")
            .await;
        self.sent = Some(request.clone());
        (call_id, request)
    }

    /// Answers the newest message, and lets the client hear of it.
    pub async fn stored(&mut self, call_id: u64, seq: i64) {
        self.answered(call_id, seq).await;
        let sent = self.sent.clone().unwrap();
        let message = Message {
            message_id: 100 + seq,
            text: sent.text,
            client_message_id: sent.client_message_id,
            device_id: "my-device".into(),
            reply_to_seq: sent.reply_to_seq,
            thread_seq: sent.thread_seq,
            mentions: sent.mentions,
            changed_seq: seq,
            ..Default::default()
        };
        self.send(frame(happened(seq, ME, message))).await;
    }

    /// Answers the newest message, of which the client hears nothing.
    pub async fn answered(&mut self, call_id: u64, seq: i64) {
        self.reply(
            call_id,
            SendMessageResponse {
                seq,
                message_id: 100 + seq,
                ..Default::default()
            },
        )
        .await;
    }

    /// Asks for a sign of life and waits for it: everything sent before is taken in by then.
    pub async fn alive(&mut self) {
        self.send(Heartbeat::default()).await;
        let sign = self.next().await;
        assert!(
            matches!(sign, Up::Alive(_)),
            "{sign:?} came, not a sign of life"
        );
    }

    /// Cuts the connection without a word.
    pub fn cut(self) {}
}

/// Waits until `done` is true of the client.
pub async fn eventually(client: &Client, what: &str, done: impl Fn(&Client) -> bool) {
    let mut changes = client.changes();
    let wait = async {
        while !done(client) {
            // Falling behind is as good a reason to look again.
            _ = changes.recv().await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "never: {what}");
}

pub async fn online(client: &Client) {
    eventually(client, "online", |c| {
        *c.connection().borrow() == Connection::Online
    })
    .await;
}

/// The seqs of chat 1 as they are shown.
pub fn shown(client: &Client) -> Vec<i64> {
    client
        .chat(1, 1000)
        .map(|c| c.events.iter().map(|e| e.seq).collect())
        .unwrap_or_default()
}

pub async fn shows(client: &Client, expected: &[i64]) {
    eventually(client, &format!("shows {expected:?}"), |c| {
        shown(c) == expected
    })
    .await;
}

/// Collects what a client shows.
pub fn recorder() -> (
    Arc<parking_lot::Mutex<Vec<i64>>>,
    impl Fn(&Seen) + Send + Sync + 'static,
) {
    let seen: Arc<parking_lot::Mutex<Vec<i64>>> = Arc::default();
    let recorded = Arc::clone(&seen);
    (seen, move |event: &Seen| recorded.lock().push(event.seq))
}

async fn http(mut stream: TcpStream, state: &State) {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    let (head, body) = loop {
        let n = stream.read(&mut chunk).await.unwrap_or(0);
        if n == 0 {
            return;
        }
        read.extend_from_slice(&chunk[..n]);
        let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if read.len() >= end + 4 + length.unwrap_or(0) {
            break (head, read[end + 4..].to_vec());
        }
    };
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, kind, answer) = match path.rsplit('/').next().unwrap_or_default() {
        "login" => {
            let credentials = credentials(state, 0).into();
            let answer = LoginResponse {
                credentials,
                ..Default::default()
            };
            (200, "application/proto", answer.encode_to_vec())
        }
        "refresh" if state.login_ended.load(Ordering::SeqCst) => {
            refused(401, "unauthenticated", Reason::REASON_LOGIN_ENDED)
        }
        "refresh" => {
            let spent = RefreshRequest::decode_from_slice(&body)
                .unwrap()
                .refresh_token;
            let nth = state.refreshes.fetch_add(1, Ordering::SeqCst);
            assert_eq!(
                spent,
                format!("refresh-{nth}"),
                "a refresh token is spent once"
            );
            let answer = RefreshResponse {
                credentials: credentials(state, nth + 1).into(),
                ..Default::default()
            };
            (200, "application/proto", answer.encode_to_vec())
        }
        "getme" if head.contains("-0.") => {
            refused(401, "unauthenticated", Reason::REASON_TOKEN_EXPIRED)
        }
        "getme" => {
            use tertulia_client::proto::users::{GetMeResponse, User};
            let user = User {
                user_id: ME,
                name: "ana".into(),
                ..Default::default()
            };
            let answer = GetMeResponse {
                user: user.into(),
                ..Default::default()
            };
            (200, "application/proto", answer.encode_to_vec())
        }
        _ => refused(501, "unimplemented", Reason::REASON_UNKNOWN_METHOD),
    };
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    _ = stream.write_all(&[head.as_bytes(), &answer].concat()).await;
}

fn refused(status: u16, code: &str, reason: Reason) -> (u16, &'static str, Vec<u8>) {
    let failure = Failure {
        reason: reason.into(),
        ..Default::default()
    };
    let value = STANDARD_NO_PAD.encode(failure.encode_to_vec());
    let detail = format!(r#"{{"type":"tertulia.errors.v1.Failure","value":"{value}"}}"#);
    let body = format!(r#"{{"code":"{code}","message":"no","details":[{detail}]}}"#);
    (status, "application/json", body.into_bytes())
}

fn credentials(state: &State, nth: usize) -> Credentials {
    let claims = format!(
        r#"{{"iat":1000,"exp":{}}}"#,
        1000 + state.lifetime_s.load(Ordering::SeqCst)
    );
    Credentials {
        user_id: ME,
        device_id: "my-device".into(),
        access_token: format!("token-{nth}.{}.s", URL_SAFE_NO_PAD.encode(claims)),
        refresh_token: format!("refresh-{nth}"),
        ..Default::default()
    }
}
