//! The WebSocket at /live.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse as _, Response};
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, StatusCode, header};
use tertulia_kit::lifecycle::Kind;
use tertulia_proto::live::ConnectResponse;

use super::Live;
use super::close::Close;
use super::frames::{self, Format, Outbound};
use super::session::{self, Gone, Heard, Out, Wire};
use crate::error::respond;
use crate::gate::context_from;

/// How much is read from the socket at once. It is allocated for every connection, so it is small.
const READ_BUFFER_BYTES: usize = 1_024;
/// How much is gathered before it is written.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// Answers the handshake.
pub fn upgrade(
    live: Arc<Live>,
    upgrade: WebSocketUpgrade,
    headers: &HeaderMap,
    origins: &[String],
    peer: IpAddr,
) -> Response {
    if !origin_allowed(headers, origins) {
        return (StatusCode::FORBIDDEN, "this origin may not connect\n").into_response();
    }
    let Some(format) = chosen(headers) else {
        return (
            StatusCode::BAD_REQUEST,
            "offer tertulia.v1.proto or tertulia.v1.json\n",
        )
            .into_response();
    };
    let place = match live.gate().knock(peer).and_then(|()| live.enter()) {
        Ok(place) => place,
        Err(failure) => {
            let request_id = context_from(headers).request_id;
            return respond(&failure, request_id.as_str());
        }
    };
    let frame_max = live.options.frame_bytes_max;
    let lifecycle = live.lifecycle.clone();
    upgrade
        .protocols(Format::SUBPROTOCOLS.map(|(name, _)| name))
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        // No bound of its own: an answer to what was missed is larger than what waits for a slow reader, and a
        // frame over the bound would end the session each time. The session writes what its queue held, or one
        // answer, and waits until that is gone.
        .max_write_buffer_size(usize::MAX)
        .max_message_size(frame_max)
        .max_frame_size(frame_max)
        .on_failed_upgrade(|_| tracing::debug!("a handshake was not finished"))
        .on_upgrade(move |socket| async move {
            // A task of its own: that of the handshake is large and can go.
            let wire = Socket { socket, format };
            lifecycle.spawn(Kind::Connection, "session", session::run(live, wire, place));
        })
}

/// A browser says where its page comes from; only our own pages and those on the list may connect.
pub fn origin_allowed(headers: &HeaderMap, origins: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if origins
        .iter()
        .any(|known| known.trim_end_matches('/') == origin)
    {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let from = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    origins.is_empty() && host.is_some() && from == host
}

/// The form that client and server both speak; JSON when the client offers none at all.
fn chosen(headers: &HeaderMap) -> Option<Format> {
    let mut offered = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .peekable();
    if offered.peek().is_none() {
        return Some(Format::Json);
    }
    let offered: Vec<&str> = offered.collect();
    let ours = Format::SUBPROTOCOLS
        .iter()
        .find(|(name, _)| offered.contains(name));
    ours.map(|(_, format)| *format)
}

struct Socket {
    socket: WebSocket,
    format: Format,
}

impl Wire for Socket {
    async fn recv(&mut self) -> Heard {
        let bytes = match self.socket.next().await {
            None => return Heard::Gone,
            Some(Err(error)) if over_limit(&error) => return Heard::TooLarge,
            Some(Err(error)) if malformed(&error) => {
                return Heard::Bad(tertulia_services::errors::unreadable_request(
                    "this is not the WebSocket protocol",
                ));
            }
            Some(Err(_)) | Some(Ok(Message::Close(_))) => return Heard::Gone,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Heard::Sign,
            Some(Ok(Message::Text(text))) if self.format == Format::Json => text.into(),
            Some(Ok(Message::Binary(bytes))) if self.format == Format::Proto => bytes,
            Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                return Heard::Bad(tertulia_services::errors::unreadable_request(
                    "text frames carry JSON and binary frames protobuf, as the subprotocol says",
                ));
            }
        };
        match frames::decode(self.format, &bytes) {
            Ok(frame) => Heard::Frame(frame),
            Err(failure) => Heard::Bad(failure),
        }
    }

    async fn feed(&mut self, frame: Out) -> Result<(), Gone> {
        let message = match (frame, self.format) {
            (Out::Shared(frame), Format::Proto) => Message::Binary(frame.proto()),
            (Out::Shared(frame), Format::Json) => Message::Text(frame.json()),
            (Out::Own(frame), Format::Proto) => Message::Binary(frames::encode_proto(frame)),
            (Out::Own(frame), Format::Json) => Message::Text(json(frame)),
        };
        self.socket.feed(message).await.map_err(|_| Gone)
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.socket.flush().await.map_err(|_| Gone)
    }

    async fn close(&mut self, close: Close) {
        let frame = CloseFrame {
            code: close.code,
            reason: Utf8Bytes::from_static(close.reason),
        };
        if self.socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        // The client's close is waited for: a connection dropped with unread bytes loses our last words.
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

fn json(frame: Outbound) -> Utf8Bytes {
    frames::to_json(&ConnectResponse {
        frame: Some(frame),
        ..Default::default()
    })
}

fn over_limit(error: &axum::Error) -> bool {
    error.to_string().contains("too long") || error.to_string().contains("Space limit exceeded")
}

fn malformed(error: &axum::Error) -> bool {
    let words = error.to_string();
    words.contains("protocol error") || words.contains("UTF-8") || words.contains("utf-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    fn future_bytes<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_session_carries_little_while_it_rests() {
        let bytes = future_bytes(session::run::<Socket>);
        // About the WebSocket itself and what the loop waits for.
        assert!(bytes <= 1_536, "{bytes}");
    }

    #[test]
    fn a_foreign_page_may_not_connect() {
        let foreign = headers(&[
            (header::ORIGIN, "https://evil.example"),
            (header::HOST, "chat.example"),
        ]);
        assert!(!origin_allowed(&foreign, &[]));
        assert!(origin_allowed(&foreign, &["https://evil.example".into()]));
        let own = headers(&[
            (header::ORIGIN, "https://chat.example"),
            (header::HOST, "chat.example"),
        ]);
        assert!(origin_allowed(&own, &[]));
        assert!(origin_allowed(&HeaderMap::new(), &[]));
        let null = headers(&[(header::ORIGIN, "null"), (header::HOST, "chat.example")]);
        assert!(!origin_allowed(&null, &[]));
    }

    #[test]
    fn the_form_is_what_both_speak() {
        let offer = |value| headers(&[(header::SEC_WEBSOCKET_PROTOCOL, value)]);
        assert_eq!(chosen(&offer("tertulia.v1.json")), Some(Format::Json));
        assert_eq!(
            chosen(&offer("x, tertulia.v1.json, tertulia.v1.proto")),
            Some(Format::Proto)
        );
        assert_eq!(chosen(&offer("mqtt")), None);
        assert_eq!(chosen(&HeaderMap::new()), Some(Format::Json));
    }
}
