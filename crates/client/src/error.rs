//! What can go wrong, by what the caller can do about it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use buffa::Message as _;
use tertulia_proto::errors::{self as wire, Reason};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call had no answer, or not the wanted one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server answered with an error.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The connection broke before the answer. Whether the call was done is not known; methods that say so may be
    /// repeated.
    #[error("the connection to the server was lost: {0}")]
    Offline(String),
    /// No connection came about, so that nothing was done.
    #[error("the server can not be reached: {0}")]
    Unreachable(String),
    /// No answer in time. Whether the call was done is not known.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The other side does not speak the contract.
    #[error("the answer is not what the contract says: {0}")]
    Protocol(String),
    /// Nobody is signed in on this client.
    #[error("nobody is signed in")]
    SignedOut,
    /// The local store can not be read or written.
    #[error("the local store: {0}")]
    Store(String),
    /// The request can not be made as asked, such as a malformed address.
    #[error("{0}")]
    Invalid(String),
}

/// An error of the server, with its entry in the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// As Connect spells it, such as `not_found`.
    pub code: String,
    /// For people.
    pub message: String,
    /// The catalogue entry; unspecified when the answer came from something between us and the server.
    pub reason: Reason,
    /// What to do about it.
    pub what_to_do: String,
    /// To be quoted when asking for help.
    pub request_id: String,
    /// Which fields are wrong: path and problem.
    pub fields: Vec<(String, String)>,
    /// How long to wait before trying again; none when waiting does not help.
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.message.is_empty() {
            &self.code
        } else {
            &self.message
        })?;
        for (path, problem) in &self.fields {
            write!(f, "; {path}: {problem}")?;
        }
        Ok(())
    }
}

impl Refusal {
    /// From the parts that every transport carries.
    pub(crate) fn new(code: String, message: String, failure: Option<wire::Failure>) -> Self {
        let failure = failure.unwrap_or_default();
        let wait = u64::from(failure.retry_after_ms);
        Refusal {
            code,
            message,
            reason: failure
                .reason
                .as_known()
                .unwrap_or(Reason::REASON_UNSPECIFIED),
            what_to_do: failure.what_to_do,
            request_id: failure.request_id,
            fields: failure
                .fields
                .into_iter()
                .map(|f| (f.path, f.problem))
                .collect(),
            retry_after: (wait > 0).then(|| Duration::from_millis(wait)),
        }
    }

    /// From the body of a Connect error, or of whatever a proxy sent instead.
    pub fn of_json(status: u16, body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Body {
            code: String,
            #[serde(default)]
            message: String,
            #[serde(default)]
            details: Vec<Detail>,
        }
        #[derive(serde::Deserialize)]
        struct Detail {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            value: String,
        }
        let Ok(body) = serde_json::from_slice::<Body>(body) else {
            let code = match status {
                401 => "unauthenticated",
                403 => "permission_denied",
                404 => "unimplemented",
                429 | 502 | 503 | 504 => "unavailable",
                _ => "unknown",
            };
            return Refusal::new(code.into(), format!("HTTP status {status}"), None);
        };
        let failure = body
            .details
            .iter()
            .find(|d| d.kind.ends_with("tertulia.errors.v1.Failure"));
        let failure = failure.and_then(|detail| {
            let value = detail.value.trim_end_matches('=');
            let bytes = STANDARD_NO_PAD
                .decode(value)
                .or_else(|_| STANDARD.decode(&detail.value))
                .ok()?;
            wire::Failure::decode_from_slice(&bytes).ok()
        });
        Refusal::new(body.code, body.message, failure)
    }
}

impl Error {
    /// The catalogue entry, when the server named one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Error::Refused(refusal) => Some(refusal.reason),
            _ => None,
        }
    }

    /// The same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Refused(refusal) => {
                let entry = tertulia_proto::CATALOGUE.iter().find(|entry| {
                    format!("REASON_{}", entry.reason) == format!("{:?}", refusal.reason)
                });
                match entry {
                    Some(entry) => entry.retryable,
                    None => matches!(
                        refusal.code.as_str(),
                        "unavailable"
                            | "deadline_exceeded"
                            | "resource_exhausted"
                            | "aborted"
                            | "canceled"
                    ),
                }
            }
            Error::Unreachable(_) | Error::Offline(_) | Error::Timeout(_) => true,
            _ => false,
        }
    }

    /// How long the server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// The access token must be replaced before the call can succeed. Whether it can be is for the refresh
    /// token to show: a server with new keys knows no old access token, but the login goes on.
    pub(crate) fn wants_new_token(&self) -> bool {
        use Reason::*;
        let reason = self.reason();
        matches!(
            reason,
            Some(REASON_TOKEN_EXPIRED | REASON_BAD_TOKEN | REASON_NOT_SIGNED_IN)
        )
    }

    /// The login is over: only signing in again helps.
    pub(crate) fn ends_login(&self) -> bool {
        use Reason::*;
        let reason = self.reason();
        matches!(
            reason,
            Some(REASON_LOGIN_ENDED | REASON_BAD_REFRESH_TOKEN | REASON_REFRESH_TOKEN_REUSED)
        )
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::Refused(Box::new(refusal))
    }
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Self {
        Error::Store(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_what_the_server_said() {
        let failure = wire::Failure {
            reason: Reason::REASON_TOO_MANY_REQUESTS.into(),
            what_to_do: "Wait.".into(),
            request_id: "r1".into(),
            retry_after_ms: 1500,
            ..Default::default()
        };
        let value = STANDARD_NO_PAD.encode(failure.encode_to_vec());
        let body = format!(
            r#"{{"code":"resource_exhausted","message":"too many","details":[{{"type":"tertulia.errors.v1.Failure","value":"{value}"}}]}}"#
        );
        let error = Error::from(Refusal::of_json(429, body.as_bytes()));
        assert_eq!(error.reason(), Some(Reason::REASON_TOO_MANY_REQUESTS));
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
        assert!(error.is_retryable());
    }

    #[test]
    fn a_page_of_a_proxy_is_an_error_that_may_pass() {
        let error = Error::from(Refusal::of_json(502, b"<html>bad gateway</html>"));
        assert!(error.is_retryable());
        assert_eq!(error.to_string(), "HTTP status 502");
    }
}
