//! Frames on the wire: one message, two forms.

use buffa::Message as _;
use protovalidate_buffa::Validate as _;
use tertulia_kit::error::Result;
use tertulia_proto::live::__buffa::oneof::{connect_request, connect_response};
use tertulia_proto::live::{ConnectRequest, ConnectRequestView, ConnectResponse};
use tertulia_services::errors;

use crate::error::problems;

pub use connect_request::Frame as Inbound;
pub use connect_response::Frame as Outbound;

/// The form of the frames of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Binary protobuf.
    Proto,
    /// JSON text.
    Json,
}

impl Format {
    /// The WebSocket subprotocols, the preferred one first.
    pub const SUBPROTOCOLS: [(&'static str, Format); 2] = [
        ("tertulia.v1.proto", Format::Proto),
        ("tertulia.v1.json", Format::Json),
    ];

    /// The form of a subprotocol.
    pub fn of_subprotocol(name: &str) -> Option<Format> {
        Self::SUBPROTOCOLS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, format)| *format)
    }
}

/// How deep a frame may be nested; real ones are at most half of it.
const DEPTH_MAX: u32 = 24;

/// Reads a frame and checks its rules. Never panics, whatever the bytes.
///
/// # Errors
/// `UNREADABLE_REQUEST` or `INVALID_REQUEST`.
pub fn decode(format: Format, bytes: &[u8]) -> Result<Inbound> {
    let request = match format {
        Format::Proto => buffa::DecodeOptions::new()
            .with_recursion_limit(DEPTH_MAX)
            .decode_from_slice::<ConnectRequest>(bytes)
            .map_err(|e| errors::unreadable_request(format!("the frame is not protobuf: {e}")))?,
        Format::Json => serde_json::from_slice::<ConnectRequest>(bytes).map_err(|e| {
            errors::unreadable_request(format!("the frame is not JSON of the contract: {e}"))
        })?,
    };
    request
        .validate()
        .map_err(|invalid| errors::invalid_request(problems(&invalid)))?;
    request
        .frame
        .ok_or_else(|| errors::unreadable_request("the frame is empty"))
}

/// Reads a protobuf frame where it is. Its rules are not checked.
///
/// # Errors
/// When it is none.
pub fn view(proto: &[u8]) -> std::result::Result<ConnectRequestView<'_>, buffa::DecodeError> {
    buffa::DecodeOptions::new()
        .with_recursion_limit(DEPTH_MAX)
        .decode_view(proto)
}

/// Writes a frame as protobuf.
pub fn encode_proto(frame: Outbound) -> Vec<u8> {
    let response = ConnectResponse {
        frame: Some(frame),
        ..Default::default()
    };
    response.encode_to_vec()
}

/// Whether a frame that others have put together is nested no deeper than ours.
pub fn is_shallow(proto: &[u8]) -> bool {
    buffa::DecodeOptions::new()
        .with_recursion_limit(DEPTH_MAX)
        .decode_from_slice::<ConnectResponse>(proto)
        .is_ok()
}

/// Writes a protobuf frame as JSON.
pub fn proto_to_json(proto: &[u8]) -> String {
    let frame = ConnectResponse::decode_from_slice(proto).expect("we have encoded this frame");
    to_json(&frame)
}

/// Writes a frame as JSON.
pub fn to_json(frame: &ConnectResponse) -> String {
    serde_json::to_string(frame).expect("generated messages always have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_the_same_in_both_forms() {
        let json = br#"{"call":{"callId":"7","method":"a/B","json":{"x":[1,"2"]}}}"#;
        let from_json = decode(Format::Json, json).unwrap();
        let request = ConnectRequest {
            frame: Some(from_json.clone()),
            ..Default::default()
        };
        let from_proto = decode(Format::Proto, &request.encode_to_vec()).unwrap();
        assert_eq!(from_json, from_proto);
    }

    #[test]
    fn what_is_no_frame_is_a_typed_error() {
        for (format, bytes) in [
            (Format::Json, &b"{"[..]),
            (Format::Json, b"{}"),
            (Format::Json, b"[]"),
            (Format::Json, b"{\"what\":{}}"),
            (Format::Json, b"{\"hello\":{}}"),
            (Format::Json, b"\xff\xff"),
            (Format::Proto, b"\xff\xff\xff"),
            (Format::Proto, b""),
        ] {
            let failure = decode(format, bytes).unwrap_err();
            assert!(["UNREADABLE_REQUEST", "INVALID_REQUEST"].contains(&failure.reason()));
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow() {
        let deep = format!(
            "{{\"call\":{{\"callId\":\"1\",\"method\":\"m\",\"json\":{}{}}}}}",
            "[".repeat(20_000),
            "]".repeat(20_000)
        );
        assert!(decode(Format::Json, deep.as_bytes()).is_err());
    }
}
