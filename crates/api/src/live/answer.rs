//! The answer of a call of a session, as a frame.

use std::time::Duration;

use buffa_types::google::protobuf::Value;
use bytes::Bytes;
use connectrpc::codec::CodecFormat;
use connectrpc::{ConnectError, ErrorCode};
use serde::Serialize;
use tertulia_kit::telemetry::Context;
use tertulia_proto::live::{self as wire, __buffa::oneof::call::Request, __buffa::oneof::reply};
use tertulia_services::access::Caller;
use tertulia_services::errors;

use crate::call::LocalCall;
use crate::error::Sent;
use crate::gate::Gate;

/// Calls a method and makes the frame of its answer.
pub async fn answer(gate: Gate, call: wire::Call, caller: Caller) -> wire::Reply {
    let call_id = call.call_id;
    let context = Context::accept(Some(&call.request_id), Some(&call.traceparent));
    let request_id = context.request_id.as_str().to_owned();
    let (format, body) = match call.request {
        Some(Request::Json(value)) => (
            CodecFormat::Json,
            serde_json::to_vec(&value)
                .map(Bytes::from)
                .unwrap_or_default(),
        ),
        Some(Request::Proto(bytes)) => (CodecFormat::Proto, Bytes::from(bytes)),
        None => (CodecFormat::Proto, Bytes::new()),
    };
    let local = LocalCall {
        path: call.method,
        body,
        format,
        context,
        timeout: Duration::from_millis(call.timeout_ms.into()),
        is_charged: false,
    };
    let result: reply::Result = match gate.call(local, Some(caller.into())).await {
        Ok(bytes) if format == CodecFormat::Json => json(&bytes, &request_id),
        Ok(bytes) => reply::Result::Proto(bytes.into()),
        Err(error) => failed(error),
    };
    wire::Reply {
        call_id,
        result: Some(result),
        request_id,
        ..Default::default()
    }
}

/// An answer as JSON.
pub fn as_json(answer: &impl Serialize, request_id: &str) -> reply::Result {
    json(&serde_json::to_vec(answer).unwrap_or_default(), request_id)
}

fn json(bytes: &[u8], request_id: &str) -> reply::Result {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => reply::Result::Json(Box::new(value)),
        Err(e) => failed(crate::error::send(&errors::internal(e), request_id)),
    }
}

/// The answer of a call that failed with a finished error.
pub fn failed(error: ConnectError) -> reply::Result {
    let failure = error
        .source_arc()
        .and_then(|source| source.downcast_ref::<Sent>().map(|sent| sent.0.clone()));
    let code: ErrorCode = error.code;
    reply::Result::Error(Box::new(wire::CallError {
        code: code.as_str().to_owned(),
        message: error.message.unwrap_or_default(),
        failure: failure.into(),
        ..Default::default()
    }))
}
