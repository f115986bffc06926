//! Opens the WebSocket of the live connection.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, SinkExt, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, http::HeaderValue};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::error::{Error, Refusal, Result};
use crate::http::{Address, offline};
use crate::transport::{Heard, Wire};

/// Frames as protobuf.
pub const PROTO: &str = "tertulia.v1.proto";
/// Frames as JSON.
pub const JSON: &str = "tertulia.v1.json";

/// The largest frame that is read; the library's own limit is 64 MiB.
const FRAME_BYTES_MAX: usize = 8 << 20;
/// How much is read at once. Many idle clients live in one process when load is made.
const READ_BYTES: usize = 16 << 10;

/// An open WebSocket.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connects and agrees on the subprotocol.
///
/// # Errors
/// When there is no connection in `timeout`, or the server refuses, perhaps saying how long to wait.
pub async fn dial(address: &Address, subprotocol: &str, timeout: Duration) -> Result<Socket> {
    let connected = tokio::time::timeout(timeout, connect(address, subprotocol)).await;
    connected.unwrap_or(Err(Error::Timeout(timeout)))
}

async fn connect(address: &Address, subprotocol: &str) -> Result<Socket> {
    let invalid = |e: tungstenite::Error| Error::Invalid(e.to_string());
    let mut request = address.live().into_client_request().map_err(invalid)?;
    let name = HeaderValue::from_str(subprotocol).map_err(|e| Error::Invalid(e.to_string()))?;
    request.headers_mut().insert("sec-websocket-protocol", name);
    let host = request
        .uri()
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let port = request
        .uri()
        .port_u16()
        .unwrap_or(if address.tls.is_some() { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|e| Error::Unreachable(e.to_string()))?;
    // A frame is small and somebody waits for it.
    stream.set_nodelay(true).map_err(|e| offline(&e))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(1 << 20)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let connector = address
        .tls
        .clone()
        .map_or(Connector::Plain, Connector::Rustls);
    let opened = client_async_tls_with_config(request, stream, Some(config), Some(connector)).await;
    opened.map(|(socket, _)| socket).map_err(refused)
}

impl Wire for Socket {
    fn send(&mut self, frame: Vec<u8>) -> BoxFuture<'_, Result<()>> {
        let sent = SinkExt::send(self, Message::Binary(frame.into()));
        sent.map(|sent| sent.map_err(|e| offline(&e))).boxed()
    }

    fn recv(&mut self) -> BoxFuture<'_, Result<Heard>> {
        Box::pin(async {
            loop {
                match self.next().await {
                    Some(Ok(Message::Binary(bytes))) => {
                        return Ok(Heard::Frame(bytes));
                    }
                    Some(Ok(Message::Close(Some(close)))) if u16::from(close.code) >= 4000 => {
                        return Ok(Heard::Closed {
                            code: u16::from(close.code).into(),
                            reason: close.reason.to_string(),
                        });
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Ok(Message::Text(_))) => {
                        return Err(Error::Protocol("a text frame came".into()));
                    }
                    Some(Err(tungstenite::Error::Capacity(e))) => {
                        return Err(Error::Protocol(e.to_string()));
                    }
                    Some(Err(error)) => return Err(offline(&error)),
                    Some(Ok(Message::Close(_))) | None => {
                        return Err(Error::Offline("the server closed the connection".into()));
                    }
                }
            }
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        // The close is a courtesy; a peer that does not take it is left alone.
        WebSocketStream::close(self, None).map(drop).boxed()
    }
}

fn refused(error: tungstenite::Error) -> Error {
    let tungstenite::Error::Http(response) = error else {
        return offline(&error);
    };
    let body = response.body().as_deref().unwrap_or_default();
    let mut refusal = Refusal::of_json(response.status().as_u16(), body);
    if refusal.retry_after.is_none() {
        let seconds = response
            .headers()
            .get("retry-after")
            .and_then(|v| v.to_str().ok()?.parse().ok());
        refusal.retry_after = seconds.map(Duration::from_secs);
    }
    refusal.into()
}
