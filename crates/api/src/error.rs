//! From a [`Failure`] to what a transport sends, and from what the transport itself found wrong to a
//! [`Failure`]. So every error has its catalogue entry, whoever noticed it.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use buffa::Enumeration as _;
use connectrpc::{ConnectError, ErrorCode, ErrorDetail};
use protovalidate_buffa::ValidationError;
use tertulia_kit::error::{Failure, FieldProblem, Kind};
use tertulia_proto::{CATALOGUE, errors as wire};
use tertulia_services::errors;

/// The type of the detail that every error carries.
pub const DETAIL: &str = "tertulia.errors.v1.Failure";

/// A failure on its way through the handlers; the gate makes the final error of it.
pub fn raise(failure: Failure) -> ConnectError {
    ConnectError::new(code(failure.kind()), failure.words().to_owned()).with_source(failure)
}

/// The code of a kind.
pub fn code(kind: Kind) -> ErrorCode {
    match kind {
        Kind::InvalidArgument => ErrorCode::InvalidArgument,
        Kind::Unauthenticated => ErrorCode::Unauthenticated,
        Kind::PermissionDenied => ErrorCode::PermissionDenied,
        Kind::NotFound => ErrorCode::NotFound,
        Kind::AlreadyExists => ErrorCode::AlreadyExists,
        Kind::FailedPrecondition => ErrorCode::FailedPrecondition,
        Kind::ResourceExhausted => ErrorCode::ResourceExhausted,
        Kind::Aborted => ErrorCode::Aborted,
        Kind::Unimplemented => ErrorCode::Unimplemented,
        Kind::Unavailable => ErrorCode::Unavailable,
        Kind::DeadlineExceeded => ErrorCode::DeadlineExceeded,
        Kind::Internal => ErrorCode::Internal,
    }
}

/// Finishes an error for sending: logs it, once, and puts the catalogue entry and the request id into it.
pub fn finish(error: ConnectError, request_id: &str, path: &str) -> ConnectError {
    let made;
    let source = error.source_arc();
    if source.as_ref().is_some_and(|source| source.is::<Sent>()) {
        // Another node has finished it.
        return error;
    }
    let failure = match source.as_ref().and_then(|s| s.downcast_ref::<Failure>()) {
        Some(failure) => failure,
        None => {
            made = adopt(&error);
            &made
        }
    };
    log(failure, request_id, path);
    send(failure, request_id)
}

/// The detail of an error that is on its way out, for carriers that do not speak Connect.
#[derive(Debug, thiserror::Error)]
#[error("sent")]
pub struct Sent(pub wire::Failure);

/// The error of a failure, as it is sent.
pub fn send(failure: &Failure, request_id: &str) -> ConnectError {
    let detail = to_wire(failure, request_id);
    let mut error = ConnectError::new(code(failure.kind()), failure.words().to_owned())
        .with_detail(ErrorDetail::from_message(DETAIL, &detail))
        .with_source(Sent(detail));
    if let Some(wait) = failure.retry_after()
        && let Ok(value) = http::HeaderValue::from_str(&whole_seconds(wait).to_string())
    {
        error
            .response_headers_mut()
            .insert(http::header::RETRY_AFTER, value);
    }
    error
}

/// The failure as an answer of a route that is no RPC.
pub fn respond(failure: &Failure, request_id: &str) -> Response {
    let error = send(failure, request_id);
    let headers = error.response_headers().clone();
    let mut response = error.into_response();
    response.headers_mut().extend(headers);
    response
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).max(1) as u64
}

/// The catalogue entry as it is sent.
pub fn to_wire(failure: &Failure, request_id: &str) -> wire::Failure {
    let entry = CATALOGUE.iter().find(|e| e.reason == failure.reason());
    let reason = entry
        .and_then(|e| wire::Reason::from_i32(e.number))
        .unwrap_or(wire::Reason::REASON_INTERNAL);
    wire::Failure {
        reason: reason.into(),
        what_to_do: entry.map(|e| e.what_to_do.to_owned()).unwrap_or_default(),
        request_id: request_id.to_owned(),
        fields: failure.fields().iter().map(field_to_wire).collect(),
        retry_after_ms: failure
            .retry_after()
            .map_or(0, |w| w.as_millis().min(u32::MAX.into()) as u32),
        ..Default::default()
    }
}

fn field_to_wire(field: &FieldProblem) -> wire::FieldProblem {
    wire::FieldProblem {
        path: field.path.clone(),
        rule: field.rule.clone(),
        problem: field.problem.clone(),
        ..Default::default()
    }
}

/// What the RPC library or a validator found wrong, in our words.
fn adopt(error: &ConnectError) -> Failure {
    if let Some(source) = error.source_arc()
        && let Some(invalid) = source.downcast_ref::<ValidationError>()
        && invalid.compile_error.is_none()
        && invalid.runtime_error.is_none()
    {
        return errors::invalid_request(problems(invalid));
    }
    let words = error.message.clone().unwrap_or_default();
    match error.code {
        ErrorCode::InvalidArgument | ErrorCode::FailedPrecondition => {
            errors::unreadable_request(words)
        }
        ErrorCode::ResourceExhausted | ErrorCode::OutOfRange => errors::too_large(words),
        ErrorCode::Unimplemented => errors::unknown_method(),
        ErrorCode::DeadlineExceeded | ErrorCode::Canceled => errors::deadline(),
        // Only what is not ours answers so by itself: the health service, of a service that it does not know.
        ErrorCode::NotFound => errors::no_such_route(),
        _ => errors::internal(error.clone()),
    }
}

/// The broken rules, without the values that broke them.
pub fn problems(invalid: &ValidationError) -> Vec<FieldProblem> {
    invalid
        .violations
        .iter()
        .map(|violation| FieldProblem {
            path: violation.field.to_string(),
            rule: violation.rule_id.to_string(),
            problem: violation.message.to_string(),
        })
        .collect()
}

/// Expected outcomes are for the one who debugs; faults are for the one who operates.
fn log(failure: &Failure, request_id: &str, path: &str) {
    let (reason, cause) = (failure.reason(), failure.cause_chain());
    match failure.kind() {
        Kind::Internal => {
            tracing::error!(
                request_id,
                method = path,
                reason,
                cause,
                "a call failed by a fault of ours"
            );
        }
        Kind::Unavailable if cause.is_some() => {
            tracing::warn!(
                request_id,
                method = path,
                reason,
                cause,
                "a call could not be served"
            );
        }
        _ => tracing::debug!(request_id, method = path, reason, "a call was refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_the_services_is_in_the_catalogue_with_the_same_code() {
        for (kind, reason) in errors::ALL {
            let entry = CATALOGUE.iter().find(|e| e.reason == *reason);
            let entry = entry.unwrap_or_else(|| panic!("{reason} is not in the catalogue"));
            assert_eq!(entry.code, kind.as_str(), "{reason}");
        }
        assert_eq!(errors::ALL.len(), CATALOGUE.len());
    }

    #[test]
    fn a_foreign_error_gets_an_entry_and_keeps_its_code() {
        let error = finish(ConnectError::invalid_argument("bad json"), "r1", "x/y");
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert_eq!(error.details.len(), 1);
    }

    #[test]
    fn waiting_is_told_in_whole_seconds_rounded_up() {
        let error = send(
            &errors::too_many_requests(Duration::from_millis(1200)),
            "r1",
        );
        assert_eq!(error.response_headers().get("retry-after").unwrap(), "2");
    }
}
