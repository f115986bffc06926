//! How a node is reached. Here is the one port: HTTP/1.1 and HTTP/2 without TLS (a proxy in front has it), with the
//! limits that a public door needs. Each connection is a task of the lifecycle; when the node stops, open requests
//! finish.

#[cfg(feature = "nats")]
pub mod http2;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "nats")]
pub mod node_token;
mod opening;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::{self, Builder};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tower::ServiceExt as _;

use crate::lifecycle::{Kind, Lifecycle};

use opening::Opening;

pub use hyper::upgrade::OnUpgrade;

/// The bounds of a door.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a client may take to say its first words, and to send the head of a request.
    pub header_timeout: Duration,
    /// The largest head of a request.
    pub head_bytes_max: usize,
    /// How many streams one HTTP/2 connection may have open.
    pub streams_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            header_timeout: Duration::from_secs(10),
            head_bytes_max: 16 * 1024,
            streams_max: 128,
        }
    }
}

/// How long to wait when the machine has no more file handles: existing connections go on meanwhile.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How many connections wait to be taken, as far as the system allows (net.core.somaxconn). One that finds no room
/// is tried again by the client's system after a second, then two, then four: when everybody comes back at once,
/// those seconds are most of the time.
const WAITING_MAX: u32 = 65_535;

/// Takes a connection of a door over from HTTP, as soon as the answer is sent that agrees to it. With what has come on it
/// already.
///
/// # Errors
/// When the connection has gone, or is none of a door.
pub async fn take_over(upgrade: OnUpgrade) -> io::Result<(TcpStream, Bytes)> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = auto::upgrade::downcast::<TokioIo<Opening<TcpStream>>>(upgraded);
    let parts = parts.map_err(|_| io::Error::other("it is no connection of a door"))?;
    Ok((parts.io.into_inner().into_inner(), parts.read_buf))
}

/// Opens a door.
///
/// # Errors
/// When the address can not be listened on.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A node that starts anew does not wait for the last connections of the one before.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING_MAX)
}

/// Takes connections until the node stops.
pub async fn serve(listener: TcpListener, router: Router, options: Options, lifecycle: Lifecycle) {
    let stopping = lifecycle.told(Kind::Door);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(
                    stream,
                    peer,
                    router.clone(),
                    options.clone(),
                    lifecycle.clone(),
                );
                lifecycle.spawn(Kind::Connection, "http", connection);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken now");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    options: Options,
    lifecycle: Lifecycle,
) {
    // Frames are small and wait for nobody.
    _ = stream.set_nodelay(true);
    let service = tower::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router
            .clone()
            .oneshot(request.map(axum::body::Body::new) as Request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(options.head_bytes_max.max(8 * 1024));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max)
        .max_header_list_size(options.head_bytes_max as u32)
        .keep_alive_interval(Duration::from_secs(30));
    let stream = Opening::new(stream, options.header_timeout);
    let serving = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(serving);
    let stopping = lifecycle.told(Kind::Connection);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::trace!(error, "a connection ended early");
    }
}
