//! How a client reaches its server, as a port: by [`Http`](crate::http::Http) and a WebSocket in earnest, by
//! whatever a test needs in its place.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::error::Result;

/// Reaches one server.
pub trait Transport: Send + Sync + 'static {
    /// Makes one call, without a session, of `method`, such as `tertulia.users.v1.UsersService/GetMe`, with
    /// the request and the answer as protobuf.
    ///
    /// # Errors
    /// What the server says, or that there was no whole answer in `timeout`.
    fn call<'a>(
        &'a self,
        method: &'a str,
        token: Option<&'a str>,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes>>;

    /// Opens a live connection.
    ///
    /// # Errors
    /// When there is none in `timeout`, or the server refuses, perhaps saying how long to wait.
    fn dial(&self, timeout: Duration) -> BoxFuture<'_, Result<Box<dyn Wire>>>;
}

/// An open live connection. Each frame is protobuf.
pub trait Wire: Send {
    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection is gone.
    fn send(&mut self, frame: Vec<u8>) -> BoxFuture<'_, Result<()>>;

    /// What comes next. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is gone without a word.
    fn recv(&mut self) -> BoxFuture<'_, Result<Heard>>;

    /// Closes; a courtesy that the peer may not take.
    fn close(&mut self) -> BoxFuture<'_, ()>;
}

/// What a live connection hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A frame.
    Frame(Bytes),
    /// The server closed, with a code of its own.
    Closed {
        /// The code; docs/protocol/live.md has the table.
        code: u32,
        /// For people.
        reason: String,
    },
}
