//! The WebSocket at /live.

use std::net::IpAddr;
use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use buffa::{Message as _, SizeCache};
use http::{HeaderMap, StatusCode, header};
use tertulia_kit::lifecycle;
use tertulia_kit::transport;
use tertulia_proto::live::ConnectResponse;
use tertulia_services::errors;
use tokio::net::TcpStream;

use super::burst::Plain;
use super::close::Close;
use super::frames::{self, Format, Outbound};
use super::handshake::Handshake;
use super::session::{self, Gone, Heard, Out, Wire};
use super::websocket::{Bad, Kind, Received, WebSocket};
use super::{Live, Place};
use crate::error::respond;
use crate::gate::context_from;

/// Answers the handshake.
pub fn upgrade(
    live: Arc<Live>,
    handshake: Handshake,
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
    let mut answer = handshake.answer().into_response();
    if let Some(name) = agreed(headers, format) {
        let protocol = http::HeaderValue::from_static(name);
        let headers = answer.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let lifecycle = live.lifecycle.clone();
    let opening = open(live, handshake, format, place);
    lifecycle.spawn(lifecycle::Kind::Connection, "handshake", opening);
    answer
}

/// Begins a session when the answer is sent. In a task of its own: that of the handshake can go.
async fn open(live: Arc<Live>, handshake: Handshake, format: Format, place: Place) {
    let Ok((stream, came)) = transport::take_over(handshake.connection).await else {
        tracing::debug!("a handshake was not finished");
        return;
    };
    let message_max = live.options.frame_bytes_max;
    let wire = Socket {
        socket: WebSocket::new(stream, came.into(), message_max),
        format,
    };
    let lifecycle = live.lifecycle.clone();
    let session = session::run(live, wire, place);
    lifecycle.spawn(lifecycle::Kind::Connection, "session", session);
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

/// The subprotocol to agree to; none when the client offers none.
fn agreed(headers: &HeaderMap, format: Format) -> Option<&'static str> {
    headers.get(header::SEC_WEBSOCKET_PROTOCOL)?;
    let mut known = Format::SUBPROTOCOLS.iter();
    known.find(|(_, of)| *of == format).map(|(name, _)| *name)
}

struct Socket {
    socket: WebSocket<TcpStream>,
    format: Format,
}

impl Wire for Socket {
    async fn recv(&mut self) -> Heard {
        let format = self.format;
        let frame = self.socket.receive(|kind, bytes| match (kind, format) {
            (Kind::Binary, Format::Proto) => match Plain::read(bytes) {
                Some(call) => Ok(Heard::Message(call)),
                None => frames::decode(format, bytes).map(Heard::Frame),
            },
            (Kind::Text, Format::Json) => frames::decode(format, bytes).map(Heard::Frame),
            (Kind::Text, Format::Proto) | (Kind::Binary, Format::Json) => {
                Err(errors::unreadable_request(
                    "text frames carry JSON and binary frames protobuf, as the subprotocol says",
                ))
            }
        });
        match frame.await {
            Received::Message(Ok(heard)) => heard,
            Received::Message(Err(failure)) => Heard::Bad(failure),
            Received::Sign => Heard::Sign,
            Received::Bad(Bad::TooLarge) => Heard::TooLarge,
            Received::Bad(Bad::Protocol) => {
                Heard::Bad(errors::unreadable_request(Bad::Protocol.to_string()))
            }
            Received::Gone => Heard::Gone,
        }
    }

    async fn feed(&mut self, frame: Out) -> Result<(), Gone> {
        self.put(frame);
        self.socket.flush_much().await.map_err(|_| Gone)
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.socket.flush().await.map_err(|_| Gone)
    }

    async fn close(&mut self, close: Close) {
        self.socket.close(close.code, close.reason).await;
    }
}

impl Socket {
    fn put(&mut self, frame: Out) {
        let socket = &mut self.socket;
        match (frame, self.format) {
            (Out::Shared(frame), Format::Proto) => socket.put(Kind::Binary, frame.proto()),
            (Out::Shared(frame), Format::Json) => socket.put(Kind::Text, frame.json().as_bytes()),
            (Out::Own(frame), Format::Proto) => {
                let (frame, mut sizes) = (response(frame), SizeCache::new());
                let bytes = frame.compute_size(&mut sizes) as usize;
                socket.put_written(Kind::Binary, bytes, |out| frame.write_to(&mut sizes, out));
            }
            (Out::Own(frame), Format::Json) => {
                let frame = frames::to_json(&response(frame));
                socket.put(Kind::Text, frame.as_bytes());
            }
        }
    }
}

fn response(frame: Outbound) -> ConnectResponse {
    ConnectResponse {
        frame: Some(frame),
        ..Default::default()
    }
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
        // What the loop waits for, and what it does most.
        assert!(bytes <= 1_400, "{bytes}");
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
