//! Requests whose connection has gone. The pool may lose a request that it takes over at the very moment at which its
//! connection ends: <https://github.com/hyperium/hyper/issues/4122>. Its answer would be waited for until the call is
//! over; here that is seen.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Extensions;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use tokio::sync::watch;
use tokio::time::sleep;

/// How long what was read of a connection may take to its request, or the request to another connection, after the
/// connection has gone.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A stream whose end is seen by the requests that it carries.
pub struct Watched<S> {
    stream: S,
    /// Never sends; it is dropped with the stream.
    ended: watch::Sender<()>,
}

/// How long a stream is there.
#[derive(Clone)]
struct Life(watch::Receiver<()>);

impl<S> Watched<S> {
    pub fn new(stream: S) -> Self {
        let ended = watch::Sender::new(());
        Watched { stream, ended }
    }
}

impl Life {
    fn of(connected: Option<&Connected>) -> Option<Life> {
        let mut extras = Extensions::new();
        connected?.get_extras(&mut extras);
        extras.remove()
    }

    fn is_over(&self) -> bool {
        self.0.has_changed().is_err()
    }

    async fn end(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// Waits until the connection of a request has gone and no other has taken its place. Never ends for a connection that
/// is not [`Watched`].
pub async fn lost(mut request: CaptureConnection) {
    loop {
        let life = Life::of(request.wait_for_connection_metadata().await.as_ref());
        let Some(mut life) = life else {
            return std::future::pending().await;
        };
        life.end().await;
        sleep(LAST_WORDS).await;
        let now = Life::of(request.connection_metadata().as_ref());
        if now.is_none_or(|now| now.is_over()) {
            return;
        }
    }
}

impl<S: Connection> Connection for Watched<S> {
    fn connected(&self) -> Connected {
        let life = Life(self.ended.subscribe());
        self.stream.connected().extra(life)
    }
}

impl<S: Read + Unpin> Read for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: Write + Unpin> Write for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_stream_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let watched = Watched::new(TokioIo::new(stream.unwrap()));
        let mut life = Life::of(Some(&watched.connected())).unwrap();
        assert!(!life.is_over());
        drop(watched);
        life.end().await;
        assert!(life.is_over());
    }
}
