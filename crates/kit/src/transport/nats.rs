//! Calls between nodes, by request and reply over NATS. Every service is a queue group: one of the nodes that offer it
//! answers. NATS's own tools find and measure them (`$SRV.PING`, `INFO`, `STATS`).
//!
//! A node is believed about on whose behalf it calls, so a call carries a [seal](NodeKey) that only nodes can make. The
//! token of a user is no such thing, and a call that brings one is refused.

mod everybody;
pub(super) mod seal;
#[cfg(all(test, unix))]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_nats::service::endpoint::Endpoint;
use async_nats::service::{self, Service, ServiceExt as _};
use async_nats::{
    Client, ConnectOptions, HeaderMap, HeaderValue, Message, Request, RequestErrorKind,
};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::SelectAll;
use tokio::sync::Semaphore;

use crate::bus::nats::{Address, Prefix};
use crate::clock::SharedClock;
use crate::lifecycle::{Kind, Lifecycle};

pub use everybody::{Answers, Everybody};
pub use seal::NodeKey;

use seal::{Seal, Seen, Way};

/// Where NATS is, and the bounds of calls.
#[derive(Debug, Clone)]
pub struct Options {
    /// The servers.
    pub address: Address,
    /// What the subjects of this deployment begin with.
    pub prefix: Prefix,
    /// What shows that a call comes from a node.
    pub key: NodeKey,
    /// How many calls of other nodes are under way at once; more are refused.
    pub calls_max: usize,
}

/// A service and its methods.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Such as `tertulia.users.v1.UsersService`.
    pub service: String,
    /// The names of its methods.
    pub methods: Vec<String>,
}

/// A call of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `package.Service/Method`.
    pub path: String,
    /// The request.
    pub body: Bytes,
    /// In which form the request is and the answer shall be, such as `application/proto`.
    pub content_type: String,
    /// On whose behalf, in words of the services. Empty: on nobody's.
    pub identity: String,
    /// The name of the request.
    pub request_id: String,
    /// Where it stands in a trace.
    pub traceparent: String,
    /// How long the caller waits.
    pub timeout: Duration,
}

/// Why a call was not done, on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code, such as `not_found`.
    pub code: String,
    /// More of it, in words of the services.
    pub detail: String,
}

/// Does calls.
pub type Handler = Arc<dyn Fn(Call) -> BoxFuture<'static, Result<Bytes, Refusal>> + Send + Sync>;

/// What a call says in headers.
mod header {
    pub const CONTENT_TYPE: &str = "Content-Type";
    pub const IDENTITY: &str = "Identity";
    pub const REQUEST_ID: &str = "X-Request-Id";
    pub const TRACEPARENT: &str = "Traceparent";
    pub const TIMEOUT_MS: &str = "Timeout-Ms";
    pub const SENT_MS: &str = "Sent-Ms";
    pub const NONCE: &str = "Nonce";
    pub const SEAL: &str = "Seal";
    /// Never read: a call that has it is refused.
    pub const AUTHORIZATION: &str = "Authorization";
    /// More of a refusal.
    pub const DETAIL: &str = "Detail";
}

async fn connect(options: &Options) -> Result<Client, Ended> {
    connect_with(options, ConnectOptions::new()).await
}

async fn connect_with(options: &Options, settings: ConnectOptions) -> Result<Client, Ended> {
    let inbox = options.prefix.inbox();
    let connecting = options.address.connect("tertulia calls", &inbox, settings);
    connecting.await.map_err(|_| Ended)
}

/// The library has given up, which it never should.
#[derive(Debug, thiserror::Error)]
#[error("the NATS client has ended")]
pub struct Ended;

/// Answers the calls of other nodes until this one stops taking calls. What is under way then is finished as open
/// connections are.
///
/// # Errors
/// When it has to be begun anew.
pub async fn serve(
    options: Options,
    offers: Vec<Offer>,
    handler: Handler,
    clock: SharedClock,
    lifecycle: Lifecycle,
) -> Result<(), Ended> {
    let stopping = lifecycle.told(Kind::Door);
    let client = connect(&options).await?;
    let (services, mut requests) = offer(&client, &options.prefix, &offers).await?;
    let door = Arc::new(Door {
        client,
        prefix: options.prefix,
        key: options.key,
        seen: Seen::default(),
        handler,
        clock,
    });
    let room = Arc::new(Semaphore::new(options.calls_max));
    loop {
        let request = tokio::select! {
            () = stopping.cancelled() => break,
            request = requests.next() => request.ok_or(Ended)?,
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            respond(&request, Err(refusal(BUSY))).await;
            continue;
        };
        let door = Arc::clone(&door);
        lifecycle.spawn(Kind::Connection, "call", async move {
            door.answer(request).await;
            drop(place);
        });
    }
    for service in services {
        // What it tells is over with the client, in any case.
        _ = service.stop().await;
    }
    Ok(())
}

/// Makes every service known, with a queue of its own for each method.
async fn offer(
    client: &Client,
    prefix: &Prefix,
    offers: &[Offer],
) -> Result<(Vec<Service>, SelectAll<Endpoint>), Ended> {
    let (mut services, mut requests) = (Vec::new(), SelectAll::new());
    for Offer { service, methods } in offers {
        let builder = client.service_builder().queue_group(service);
        // The name of a service on NATS has no dots.
        let name = service.replace('.', "-");
        let made = builder.start(name, env!("CARGO_PKG_VERSION")).await;
        let made = made.map_err(|_| Ended)?;
        for method in methods {
            let endpoint = made.endpoint_builder().name(method);
            let endpoint = endpoint.add(prefix.call(service, method)).await;
            requests.push(endpoint.map_err(|_| Ended)?);
        }
        services.push(made);
    }
    Ok((services, requests))
}

struct Door {
    client: Client,
    prefix: Prefix,
    key: NodeKey,
    seen: Seen,
    handler: Handler,
    clock: SharedClock,
}

impl Door {
    async fn answer(&self, request: service::Request) {
        let path = self.prefix.called(&request.message.subject);
        let answer = match self.read(&request.message, path) {
            Ok(call) => (self.handler)(call).await,
            Err(refusal) => Err(refusal),
        };
        respond(&request, answer).await;
        // The last who holds a client takes along what it has not written yet.
        _ = self.client.flush().await;
    }

    /// The call of the method at `path`, when it is a node's.
    fn read(&self, message: &Message, path: Option<String>) -> Result<Call, Refusal> {
        let strange = || refusal(STRANGE);
        let headers = message.headers.as_ref().ok_or_else(strange)?;
        if headers.get(header::AUTHORIZATION).is_some() {
            return Err(strange());
        }
        let text = |name: &'static str| {
            let value = headers.get(name);
            value.map_or_else(String::new, |value| value.as_str().to_owned())
        };
        let number = |name| text(name).parse().map_err(|_| strange());
        let call = Call {
            path: path.ok_or_else(strange)?,
            body: message.payload.clone(),
            content_type: text(header::CONTENT_TYPE),
            identity: text(header::IDENTITY),
            request_id: text(header::REQUEST_ID),
            traceparent: text(header::TRACEPARENT),
            timeout: Duration::from_millis(number(header::TIMEOUT_MS)?),
        };
        let seal = Seal {
            sent_ms: text(header::SENT_MS).parse().map_err(|_| strange())?,
            nonce: text(header::NONCE),
            mac: text(header::SEAL),
        };
        let is_node = self.key.holds(Way::Nats, &call, &seal);
        match is_node && self.seen.is_first(&seal, self.clock.now_ms()) {
            true => Ok(call),
            false => Err(strange()),
        }
    }
}

/// It did not come from a node, or came before, or long ago.
const STRANGE: (&str, usize) = ("unauthenticated", 401);
/// So many are under way that it is not begun.
const BUSY: (&str, usize) = ("unavailable", 503);
/// The number of all other refusals: the code says more.
const REFUSED: usize = 400;

fn refusal((code, _): (&str, usize)) -> Refusal {
    Refusal {
        code: code.to_owned(),
        detail: String::new(),
    }
}

async fn respond(request: &service::Request, answer: Result<Bytes, Refusal>) {
    let sent = match answer {
        Ok(body) => request.respond(Ok(body)).await,
        Err(Refusal { code, detail }) => {
            let mut headers = HeaderMap::new();
            headers.insert(header::DETAIL, detail.as_str());
            let known = [STRANGE, BUSY].into_iter().find(|(name, _)| *name == code);
            let number = known.map_or(REFUSED, |(_, number)| number);
            let error = service::error::Error {
                status: code,
                code: number,
            };
            request.respond_with_headers(Err(error), headers).await
        }
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "a call of another node gets no answer");
    }
}

/// The other nodes, to be called.
#[derive(Clone)]
pub struct Remote {
    client: Client,
    prefix: Prefix,
    key: NodeKey,
    clock: SharedClock,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// It was not done, and this is why.
    #[error("refused: {}", .0.code)]
    Refused(Refusal),
    /// No node offers it.
    #[error("no node offers it")]
    NobodyThere,
    /// Nothing came in time; it may have been done.
    #[error("no answer in time")]
    Late,
    /// The connection broke; it may have been done.
    #[error("the connection to who does it broke")]
    Lost,
    /// It could not be sent.
    #[error("it could not be sent: {0}")]
    Unsent(String),
}

impl Remote {
    /// Connects as soon as it can.
    ///
    /// # Errors
    /// When the client can not be made.
    pub async fn connect(options: Options, clock: SharedClock) -> Result<Remote, Ended> {
        Ok(Remote {
            client: connect(&options).await?,
            prefix: options.prefix,
            key: options.key,
            clock,
        })
    }

    /// Calls one of the nodes that offer it.
    ///
    /// # Errors
    /// When it was refused, or has no answer.
    pub async fn call(&self, call: Call) -> Result<Bytes, Unanswered> {
        let unsent = |problem: String| Unanswered::Unsent(problem);
        let (service, method) = call
            .path
            .split_once('/')
            .ok_or_else(|| unsent("it names no method".into()))?;
        let subject = self.prefix.call(service, method);
        let headers = sealed(&call, &self.key, self.clock.now_ms())?;
        let request = Request::new()
            .headers(headers)
            .payload(call.body)
            .timeout(Some(call.timeout));
        let answer = self.client.send_request(subject, request).await;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Unanswered::NobodyThere,
            RequestErrorKind::TimedOut => Unanswered::Late,
            _ => unsent(error.to_string()),
        })?;
        match refused(&answer) {
            Some(refusal) => Err(Unanswered::Refused(refusal)),
            None => Ok(answer.payload),
        }
    }
}

/// What a call that is sent now says in headers.
fn sealed(call: &Call, key: &NodeKey, now_ms: i64) -> Result<HeaderMap, Unanswered> {
    let seal = key.seal(Way::Nats, call, now_ms);
    let mut headers = HeaderMap::new();
    let timeout_ms = call.timeout.as_millis().to_string();
    for (name, value) in [
        (header::CONTENT_TYPE, &call.content_type),
        (header::IDENTITY, &call.identity),
        (header::REQUEST_ID, &call.request_id),
        (header::TRACEPARENT, &call.traceparent),
        (header::TIMEOUT_MS, &timeout_ms),
        (header::SENT_MS, &seal.sent_ms.to_string()),
        (header::NONCE, &seal.nonce),
        (header::SEAL, &seal.mac),
    ] {
        let value: HeaderValue = value
            .parse()
            .map_err(|_| Unanswered::Unsent(format!("{name} does not fit on a line")))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn refused(answer: &Message) -> Option<Refusal> {
    let headers = answer.headers.as_ref()?;
    let text = |name: &'static str| Some(headers.get(name)?.as_str().to_owned());
    Some(Refusal {
        code: text(service::NATS_SERVICE_ERROR)?,
        detail: text(header::DETAIL).unwrap_or_default(),
    })
}
