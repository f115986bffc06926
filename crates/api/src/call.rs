//! A call that does not come over HTTP: of a live session, or of another node.

use std::time::Duration;

use bytes::Bytes;
use connectrpc::codec::CodecFormat;
use tertulia_kit::telemetry::Context;

/// A call, as it comes to the gate.
pub struct LocalCall {
    /// `package.Service/Method`.
    pub path: String,
    /// The request.
    pub body: Bytes,
    /// Its form, and that of the answer.
    pub format: CodecFormat,
    /// Request id and trace.
    pub context: Context,
    /// How long the caller waits; zero: as long as the gate allows.
    pub timeout: Duration,
    /// Whether the gate of another node has charged the caller's budget for it.
    pub is_charged: bool,
}
