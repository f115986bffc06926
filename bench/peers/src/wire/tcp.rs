//! A connection of bytes, for protocols that are written by hand.

use anyhow::{Result, ensure};
use bytes::BytesMut;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const READ_BYTES: usize = 16 * 1024;

/// A connection with what was read and not yet understood, and what waits to be written.
pub struct Tcp {
    stream: TcpStream,
    /// What came.
    pub inbox: BytesMut,
    /// What goes with the next [`flush`](Self::flush).
    pub outbox: Vec<u8>,
}

impl Tcp {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Tcp {
            stream,
            inbox: BytesMut::with_capacity(READ_BYTES),
            outbox: Vec::new(),
        })
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.outbox).await?;
        self.outbox.clear();
        Ok(())
    }

    /// Waits for more. Nothing is lost when it is cancelled.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn read(&mut self) -> Result<()> {
        self.inbox.reserve(READ_BYTES);
        let count = self.stream.read_buf(&mut self.inbox).await?;
        ensure!(count > 0, "the server has closed the connection");
        Ok(())
    }
}
