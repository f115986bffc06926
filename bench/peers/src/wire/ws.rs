//! A WebSocket whose frames go out together and are heard together.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// A connection with the frames that wait to be written.
pub struct WebSocket {
    stream: WebSocketStream<TcpStream>,
    outbox: Vec<Message>,
}

impl WebSocket {
    /// Connects to a path such as `/live?x=1`.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn connect(address: SocketAddr, path: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (stream, _) = client_async(format!("ws://{address}{path}"), stream).await?;
        Ok(WebSocket {
            stream,
            outbox: Vec::new(),
        })
    }

    /// Puts a frame behind those that wait.
    pub fn send(&mut self, frame: Message) {
        self.outbox.push(frame);
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn flush(&mut self) -> Result<()> {
        for frame in self.outbox.drain(..) {
            self.stream.feed(frame).await?;
        }
        Ok(self.stream.flush().await?)
    }

    /// Waits for a frame, and gives it and all that came with it to `each`, which may answer with frames.
    /// Nothing is lost when it is cancelled.
    ///
    /// # Errors
    /// When the connection is gone, or as `each` says.
    pub async fn next(
        &mut self,
        mut each: impl FnMut(Message, &mut Vec<Message>) -> Result<()>,
    ) -> Result<()> {
        let mut came = Some(self.stream.next().await);
        while let Some(frame) = came {
            let frame = frame.context("the server has closed the connection")??;
            each(frame, &mut self.outbox)?;
            came = self.stream.next().now_or_never();
        }
        Ok(())
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn close(mut self) -> Result<()> {
        Ok(self.stream.close(None).await?)
    }
}
