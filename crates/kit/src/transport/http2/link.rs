//! The connection to one other node: made when it is needed, shared by all calls, made anew when it has ended. Before it is
//! used the other side has to answer, for a process that stands still takes connections all the same.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::FutureExt as _;
use futures::future::Shared;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::discovery::Endpoint;
use crate::lifecycle::{Kind, Lifecycle};

/// How long a connection may take to be made, and the other side to answer on it.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How often a connection is seen to be well, and how long that may take.
const PING_EVERY: Duration = Duration::from_secs(2);
const PONG_MAX: Duration = Duration::from_secs(2);
/// What every node answers as long as it is alive.
const ALIVE: &str = "/livez";

/// A connection that is there, or is being made; ended without one when it could not be made.
type Opening = Shared<oneshot::Receiver<SendRequest<Body>>>;

/// The connection to one endpoint.
pub(super) struct Link {
    endpoint: Endpoint,
    tls: Option<TlsConnector>,
    lifecycle: Lifecycle,
    /// The newest one.
    newest: Mutex<Newest>,
    trouble: Arc<Troubled>,
}

/// Why the last connection was not made, in words for operators; nothing when it was. The lock guards one word.
#[derive(Default)]
struct Troubled(Mutex<Option<&'static str>>);

impl Troubled {
    /// What is about certificates is logged, once until it changes: it does not pass by itself. That somebody is away is
    /// told where they are left out.
    fn set(&self, trouble: Option<Trouble>, endpoint: &Endpoint) {
        let words = trouble.map(|trouble| trouble.words);
        let before = std::mem::replace(&mut *self.0.lock(), words);
        if let Some(Trouble { words, lasts: true }) = trouble
            && before != Some(words)
        {
            let host = match endpoint.host.parse::<std::net::IpAddr>() {
                Ok(_) => "",
                Err(_) => &*endpoint.host,
            };
            tracing::warn!(host, "a node gets no calls: {words}");
        }
    }
}

/// Why a connection was not made.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    words: &'static str,
    /// Somebody has to do something about it.
    lasts: bool,
}

const AWAY: Trouble = Trouble {
    words: "it can not be reached",
    lasts: false,
};
const SILENT: Trouble = Trouble {
    words: "it does not answer",
    lasts: false,
};

/// What went wrong when a connection was made.
fn trouble(error: &io::Error) -> Trouble {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let words = match cause {
        None => return AWAY,
        Some(rustls::Error::InvalidCertificate(refused)) => match refused {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            CertificateError::UnknownIssuer => {
                "its certificate is of an authority that this system does not trust"
            }
            _ => "its certificate is not valid",
        },
        Some(_) => "it does not speak TLS as it should",
    };
    Trouble { words, lasts: true }
}

#[derive(Default)]
struct Newest {
    number: u64,
    opening: Option<Opening>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// There is no connection, so it was not done.
    Away,
    /// The other side was about to end the connection and takes no new one: it was not done.
    Leaves,
    /// The other side has so much to do that it did not begin with it.
    Busy,
    /// The connection broke: it may have been done.
    Lost,
}

/// Why a request has no answer on its connection.
enum Unanswered {
    /// It was not done, and the connection takes no other.
    Over,
    Busy,
    Lost,
}

impl Link {
    pub fn new(endpoint: Endpoint, tls: Option<TlsConnector>, lifecycle: Lifecycle) -> Link {
        Link {
            endpoint,
            tls,
            lifecycle,
            newest: Mutex::default(),
            trouble: Arc::default(),
        }
    }

    /// Why the last connection was not made; nothing when it was, or none was needed yet.
    pub fn trouble(&self) -> Option<&'static str> {
        *self.trouble.0.lock()
    }

    /// Sends a request; on a new connection when the one that there was ends without having taken it.
    pub async fn send(
        &self,
        request: impl Fn() -> Request<Body>,
    ) -> Result<Response<Incoming>, Failed> {
        let mut is_over = false;
        loop {
            let (number, opening) = self.opening();
            let Ok(mut sender) = opening.await else {
                self.forget(number);
                return Err(if is_over {
                    Failed::Leaves
                } else {
                    Failed::Away
                });
            };
            match sent(&mut sender, request()).await {
                Ok(response) => return Ok(response),
                Err(Unanswered::Lost) => return Err(Failed::Lost),
                Err(Unanswered::Busy) => return Err(Failed::Busy),
                Err(Unanswered::Over) if is_over => return Err(Failed::Leaves),
                Err(Unanswered::Over) => {
                    is_over = true;
                    self.forget(number);
                }
            }
        }
    }

    /// The newest connection, with its number. Who comes while it is being made waits for the same one.
    fn opening(&self) -> (u64, Opening) {
        let mut newest = self.newest.lock();
        let is_over = |opening: &Opening| match opening.peek() {
            Some(Ok(sender)) => sender.is_closed(),
            Some(Err(_)) => true,
            None => false,
        };
        if let Some(opening) = newest.opening.as_ref().filter(|known| !is_over(known)) {
            return (newest.number, opening.clone());
        }
        let opening = self.open();
        newest.number += 1;
        newest.opening = Some(opening.clone());
        (newest.number, opening)
    }

    /// The next call makes a new connection, unless one has done so.
    fn forget(&self, number: u64) {
        let mut newest = self.newest.lock();
        if newest.number == number {
            newest.opening = None;
        }
    }

    fn open(&self) -> Opening {
        let (opened, opening) = oneshot::channel();
        let told = self.lifecycle.told(Kind::Work);
        let (endpoint, tls) = (self.endpoint.clone(), self.tls.clone());
        let living = live(endpoint, tls, opened, told, Arc::clone(&self.trouble));
        self.lifecycle.spawn(Kind::Work, "link", living);
        opening.shared()
    }
}

async fn sent(
    sender: &mut SendRequest<Body>,
    request: Request<Body>,
) -> Result<Response<Incoming>, Unanswered> {
    sender
        .try_send_request(request)
        .await
        .map_err(|mut error| match error.take_message() {
            Some(_) => Unanswered::Over,
            None => why(error.error()),
        })
}

/// What the other side has said about a request that it does not answer. Only what it has surely not begun may be sent
/// again.
fn why(error: &hyper::Error) -> Unanswered {
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let said = causes.find_map(|cause| cause.downcast_ref::<h2::Error>());
    match said.filter(|said| said.is_remote()) {
        // Those above the last that it names; those below are ended otherwise.
        Some(said) if said.is_go_away() => Unanswered::Over,
        Some(said) if said.reason() == Some(h2::Reason::REFUSED_STREAM) => Unanswered::Busy,
        _ => Unanswered::Lost,
    }
}

/// Makes a connection, gives it away, and keeps it until it ends, or nobody has it any more.
async fn live(
    endpoint: Endpoint,
    tls: Option<TlsConnector>,
    opened: oneshot::Sender<SendRequest<Body>>,
    told: CancellationToken,
    troubled: Arc<Troubled>,
) {
    let made = timeout(CONNECT_MAX, connect(&endpoint, tls)).await;
    let (mut sender, connection) = match made {
        Ok(Ok(made)) => made,
        Ok(Err(error)) => return troubled.set(Some(trouble(&error)), &endpoint),
        Err(_) => return troubled.set(Some(SILENT), &endpoint),
    };
    tokio::pin!(connection);
    let answered = timeout(CONNECT_MAX, is_alive(&mut sender, &endpoint));
    let is_well = tokio::select! {
        _ = connection.as_mut() => false,
        answered = answered => answered.unwrap_or(false),
    };
    troubled.set((!is_well).then_some(SILENT), &endpoint);
    if is_well && opened.send(sender).is_ok() {
        // How it ended, its calls are told.
        _ = told.run_until_cancelled(connection).await;
    }
}

type Connected = (
    SendRequest<Body>,
    futures::future::BoxFuture<'static, hyper::Result<()>>,
);

async fn connect(endpoint: &Endpoint, tls: Option<TlsConnector>) -> io::Result<Connected> {
    let stream = TcpStream::connect(&endpoint.address).await?;
    // Calls are small and wait for nobody.
    _ = stream.set_nodelay(true);
    if !endpoint.tls {
        return handshake(stream).await;
    }
    // Rather no call than one that everybody can read.
    let tls = tls.ok_or_else(|| io::Error::other("there is no TLS for it"))?;
    let name = endpoint.host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    handshake(tls.connect(name, stream).await?).await
}

async fn handshake<S>(stream: S) -> io::Result<Connected>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_MAX)
        .keep_alive_while_idle(true);
    let made = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = made.map_err(io::Error::other)?;
    Ok((sender, connection.boxed()))
}

/// Whether the other side answers. Its system takes connections also when it stands still.
async fn is_alive(sender: &mut SendRequest<Body>, endpoint: &Endpoint) -> bool {
    let Ok(request) = Request::get(uri(endpoint, ALIVE)).body(Body::empty()) else {
        return false;
    };
    let answer = sender.send_request(request).await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Where something is on an endpoint.
pub(super) fn uri(endpoint: &Endpoint, path: &str) -> String {
    let scheme = if endpoint.tls { "https" } else { "http" };
    format!("{scheme}://{}{path}", endpoint.address)
}
