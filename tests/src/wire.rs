//! People who talk to a node over raw wires, as any stranger's client would.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tertulia_kit::clock::{Clock as _, SystemClock};
use tertulia_kit::transport::nats::NodeKey;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What came back over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The code of a Connect error.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The reason in the catalogue, without its prefix; empty when there is none.
    pub fn reason(&self) -> String {
        use base64::Engine as _;
        use buffa::{Enumeration as _, Message as _};
        let json = self.json();
        let Some(value) = json["details"][0]["value"].as_str() else {
            return String::new();
        };
        let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(value);
        let failure = tertulia_proto::errors::Failure::decode_from_slice(&bytes.unwrap()).unwrap();
        let reason = tertulia_proto::errors::Reason::from_i32(failure.reason.to_i32()).unwrap();
        reason.proto_name().trim_start_matches("REASON_").to_owned()
    }
}

/// An HTTP request.
pub async fn request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let answer = try_request(method, url, headers, body);
    tokio::time::timeout(PATIENCE, answer)
        .await
        .unwrap()
        .unwrap()
}

/// The same, where there may be nobody who answers.
///
/// # Errors
/// When nobody does.
pub async fn try_request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Answer> {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let mut builder = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let request = builder.body(Full::new(body.into()))?;
    let (parts, body) = client.request(request).await?.into_parts();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                value.to_str().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers,
        body: body.collect().await?.to_bytes(),
    })
}

/// A call as curl makes it: JSON over POST.
pub async fn post(url: &str, method: &str, token: Option<&str>, body: Value) -> Answer {
    let bearer = token.map(|t| format!("Bearer {t}"));
    post_as(url, method, bearer.as_deref(), body).await
}

/// The same with an `Authorization` of any kind.
pub async fn post_as(url: &str, method: &str, authorization: Option<&str>, body: Value) -> Answer {
    let answer = try_post_as(url, method, authorization, body);
    tokio::time::timeout(PATIENCE, answer)
        .await
        .unwrap()
        .unwrap()
}

/// The same, where there may be nobody who answers.
///
/// # Errors
/// When nobody does.
pub async fn try_post_as(
    url: &str,
    method: &str,
    authorization: Option<&str>,
    body: Value,
) -> Result<Answer> {
    let mut headers = vec![("content-type", "application/json")];
    if let Some(authorization) = authorization {
        headers.push(("authorization", authorization));
    }
    let url = format!("{url}/{method}");
    try_request("POST", &url, &headers, body.to_string()).await
}

/// A call by its own name as a node makes it, or a service that holds the node key.
pub async fn post_as_node(url: &str, key: &NodeKey, method: &str, body: Value) -> Answer {
    post_as(url, path(method), Some(&node_token(key, method)), body).await
}

/// What shows at a method, by its own name, that a call comes from a node; for one call.
pub fn node_token(key: &NodeKey, method: &str) -> String {
    let now_ms = SystemClock::starting_at(0).now_ms();
    format!("Node {}", key.token(path(method), now_ms))
}

/// The path of a method by its own name, which is used once in the contract.
pub fn path(method: &str) -> &'static str {
    let named = |path: &str| path.split_once('/').is_some_and(|(_, name)| name == method);
    let mut found = tertulia_proto::METHODS.iter().filter(|m| named(m.path));
    let only = found.next().unwrap_or_else(|| panic!("no method {method}"));
    assert!(found.next().is_none(), "{method} is not the only one");
    only.path
}

/// A signed-in person.
#[derive(Debug, Clone)]
pub struct Person {
    pub name: String,
    pub user_id: String,
    pub token: String,
    pub refresh_token: String,
    pub password: String,
}

impl Person {
    /// Somebody who has an account and is not signed in.
    pub fn of(name: &str, password: &str) -> Person {
        Person {
            name: name.to_owned(),
            user_id: String::new(),
            token: String::new(),
            refresh_token: String::new(),
            password: password.to_owned(),
        }
    }

    /// Makes an account.
    pub async fn sign_up(url: &str, name: &str) -> Person {
        let password = format!(
            "correct horse of {}",
            name.chars().rev().collect::<String>()
        );
        let body = json!({"name": name, "password": password, "device": {"name": "test"}});
        let answer = post(
            url,
            "tertulia.identity.v1.IdentityService/CreateAccount",
            None,
            body,
        )
        .await;
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        Person::from_credentials(name, &password, &answer.json()["credentials"])
    }

    /// Signs in once more, on another device.
    pub async fn sign_in(&self, url: &str) -> Person {
        self.sign_in_on(url, "").await
    }

    /// Signs in on a device; without an id on a new one.
    pub async fn sign_in_on(&self, url: &str, device: &str) -> Person {
        let answer = tokio::time::timeout(PATIENCE, self.login(url, device));
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        Person::from_credentials(&self.name, &self.password, &answer.json()["credentials"])
    }

    /// Signs in on a new device, where there may be nobody who answers; none when it does not come to that.
    pub async fn try_sign_in(&self, url: &str) -> Option<Person> {
        let answer = self.login(url, "").await.ok()?;
        let credentials = &answer.json()["credentials"];
        let is_in = answer.status == 200;
        is_in.then(|| Person::from_credentials(&self.name, &self.password, credentials))
    }

    async fn login(&self, url: &str, device: &str) -> Result<Answer> {
        let device = json!({"deviceId": device, "name": "test"});
        let body = json!({"name": self.name, "password": self.password, "device": device});
        try_post_as(url, path("Login"), None, body).await
    }

    fn from_credentials(name: &str, password: &str, credentials: &Value) -> Person {
        let text = |field: &str| credentials[field].as_str().unwrap_or_default().to_owned();
        Person {
            name: name.to_owned(),
            user_id: text("userId"),
            token: text("accessToken"),
            refresh_token: text("refreshToken"),
            password: password.to_owned(),
        }
    }

    /// Calls a method.
    pub async fn call(&self, url: &str, method: &str, body: Value) -> Answer {
        post(url, method, Some(&self.token), body).await
    }

    /// Calls a method, by its own name, where there may be nobody who answers.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn try_call(&self, url: &str, method: &str, body: Value) -> Result<Answer> {
        let bearer = format!("Bearer {}", self.token);
        try_post_as(url, path(method), Some(&bearer), body).await
    }

    /// Calls a method, by its own name, that must do what it is asked; the answer.
    pub async fn ok(&self, url: &str, method: &str, body: Value) -> Value {
        let answer = self.call(url, path(method), body).await;
        let words = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "{} {method}: {words}", self.name);
        answer.json()
    }

    /// Calls a method, by its own name, that must refuse; the reason.
    pub async fn refused(&self, url: &str, method: &str, body: Value) -> String {
        let answer = self.call(url, path(method), body).await;
        assert_ne!(answer.status, 200, "{} {method} was not refused", self.name);
        answer.reason()
    }

    /// Opens the direct chat with somebody; its id.
    pub async fn chat_with(&self, url: &str, other: &Person) -> String {
        let body = json!({"userId": other.user_id});
        id_of(&self.ok(url, "OpenDirect", body).await)
    }

    /// Makes a group or a channel of which it is the owner; its id.
    pub async fn create(&self, url: &str, kind: &str, title: &str, others: &[&Person]) -> String {
        let members: Vec<&str> = others.iter().map(|other| other.user_id.as_str()).collect();
        let kind = format!("CHAT_KIND_{}", kind.to_uppercase());
        let id = format!("chat-{title}");
        let body = json!({"kind": kind, "title": title, "memberIds": members, "clientChatId": id});
        id_of(&self.ok(url, "CreateChat", body).await)
    }

    /// Says something; the answer.
    pub async fn say(&self, url: &str, chat: &str, id: &str, text: &str) -> Answer {
        let body = json!({"chatId": chat, "clientMessageId": id, "text": text});
        self.call(url, path("SendMessage"), body).await
    }
}

fn id_of(answer: &Value) -> String {
    answer["chat"]["chatId"].as_str().unwrap().to_owned()
}

/// A raw live socket that speaks JSON.
pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

/// What comes over a socket.
#[derive(Debug)]
pub enum Came {
    /// A frame.
    Frame(Value),
    /// The server closed, with this code.
    Closed(u16),
}

impl Socket {
    /// Opens the socket with a subprotocol.
    pub async fn open(url: &str, subprotocol: &str) -> Result<Socket, Error> {
        let mut request =
            format!("{}/live", url.replace("http://", "ws://")).into_client_request()?;
        request
            .headers_mut()
            .insert("sec-websocket-protocol", subprotocol.parse().unwrap());
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Socket(socket))
    }

    /// Opens the socket, says hello, and gives the welcome.
    pub async fn hello(url: &str, token: &str, cursor: &str) -> (Socket, Value) {
        let welcomed = Socket::try_hello(url, token, cursor).await;
        welcomed.unwrap_or_else(|code| panic!("closed with {code} before a welcome came"))
    }

    /// The same.
    ///
    /// # Errors
    /// With the code, when the server closes instead.
    pub async fn try_hello(url: &str, token: &str, cursor: &str) -> Result<(Socket, Value), u16> {
        let mut socket = Socket::open(url, "tertulia.v1.json").await.unwrap();
        socket
            .send(json!({"hello": {"accessToken": token, "cursor": cursor}}))
            .await;
        let welcome = socket.try_frame("welcome").await?;
        Ok((socket, welcome))
    }

    /// Sends a frame. A socket that is closed already takes it in silence.
    pub async fn send(&mut self, frame: Value) {
        _ = self.0.send(Message::text(frame.to_string())).await;
    }

    /// The next thing that comes.
    pub async fn next(&mut self) -> Came {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match next.expect("the server is silent") {
                Some(Ok(Message::Text(text))) => {
                    return Came::Frame(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Close(Some(frame)))) => return Came::Closed(frame.code.into()),
                Some(Ok(Message::Close(None))) | None => return Came::Closed(1005),
                Some(Ok(_)) => {}
                Some(Err(_)) => return Came::Closed(1006),
            }
        }
    }

    /// The next frame of a kind; others before it are skipped.
    pub async fn frame(&mut self, kind: &str) -> Value {
        let frame = self.try_frame(kind).await;
        frame.unwrap_or_else(|code| panic!("closed with {code} before a {kind} came"))
    }

    async fn try_frame(&mut self, kind: &str) -> Result<Value, u16> {
        loop {
            match self.next().await {
                Came::Frame(mut frame) if frame.get(kind).is_some() => {
                    return Ok(frame[kind].take());
                }
                Came::Frame(_) => {}
                Came::Closed(code) => return Err(code),
            }
        }
    }

    /// The code with which the server closes; frames before it are skipped.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Came::Closed(code) = self.next().await {
                return code;
            }
        }
    }

    /// Calls a method; the reply.
    pub async fn call(&mut self, id: u64, method: &str, request: Value) -> Value {
        self.send(json!({"call": {"callId": id.to_string(), "method": method, "json": request}}))
            .await;
        let wanted = id.to_string();
        loop {
            let reply = self.frame("reply").await;
            if reply["callId"].as_str() == Some(wanted.as_str()) {
                return reply;
            }
        }
    }
}
