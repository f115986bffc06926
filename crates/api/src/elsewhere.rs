//! Services that other nodes do for this one. A call to one of them passes this gate and goes on as it came: nothing
//! here knows what is in it.

mod at;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use connectrpc::{ConnectError, ErrorCode, ErrorDetail};
use tertulia_kit::transport::nats::{Call, Refusal, Unanswered};
use tertulia_kit::transport::{http2, nats};
use tertulia_proto::METHODS;
use tertulia_proto::live::CallError;
use tertulia_services::access::Who;
use tertulia_services::errors;

use crate::call::LocalCall;
use crate::error::{DETAIL, Sent, raise};
use crate::nats::words;

pub use at::{At, HandedOn};

/// Services that are done where the sessions are: a live connection is one, what a session sends keeps its order only if
/// nothing between can overtake, and who controls sessions says of which node.
pub const HERE_ONLY: [&str; 3] = [
    "tertulia.control.v1.ControlService",
    "tertulia.chats.v1.MessagesService",
    "tertulia.live.v1.LiveService",
];

/// How long is waited before a node is looked for again that does a service, and how often.
const NOBODY_WAIT: Duration = Duration::from_millis(100);
const TRIES_MAX: usize = 10;

/// The services, and how the nodes are reached that do each.
#[derive(Default)]
pub struct Elsewhere(HashMap<String, Remote>);

/// The nodes that do a service.
#[derive(Clone)]
pub enum Remote {
    /// They are called over NATS.
    Nats(nats::Remote),
    /// They are called over HTTP/2.
    Http2(http2::Remote),
}

impl Remote {
    async fn call(&self, call: Call) -> Result<Bytes, Unanswered> {
        match self {
            Remote::Nats(remote) => remote.call(call).await,
            Remote::Http2(remote) => remote.call(call).await,
        }
    }
}

/// Why a service can not be done elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotElsewhere {
    /// There is none of this name.
    #[error("there is no service {0:?}; write it like tertulia.users.v1.UsersService")]
    Unknown(String),
    /// It belongs to the sessions.
    #[error("{0} is done where the sessions are")]
    HereOnly(String),
    /// What stands behind it is no place.
    #[error(
        "{0:?} is no place; write nats, http://host:port for each node, or only dns+http://name:port"
    )]
    NoPlace(String),
}

/// Whether a service may be done by other nodes.
///
/// # Errors
/// When not, and why.
pub fn may_be_elsewhere(service: &str) -> Result<(), NotElsewhere> {
    let mut all = METHODS.iter().filter_map(|m| m.path.split_once('/'));
    if !all.any(|(known, _)| known == service) {
        return Err(NotElsewhere::Unknown(service.into()));
    }
    match HERE_ONLY.contains(&service) {
        true => Err(NotElsewhere::HereOnly(service.into())),
        false => Ok(()),
    }
}

impl Elsewhere {
    /// From now on a service is done by other nodes.
    pub fn hand_on(&mut self, service: String, remote: Remote) {
        self.0.insert(service, remote);
    }

    /// The nodes that do a method, `package.Service/Method`; none when it is done here.
    fn remote(&self, path: &str) -> Option<&Remote> {
        self.0.get(path.split_once('/')?.0)
    }

    /// Whether other nodes do a method.
    pub fn does(&self, path: &str) -> bool {
        self.remote(path).is_some()
    }

    /// Has a node do it, for a caller that the gate has let in. `call.timeout` is not zero.
    ///
    /// # Errors
    /// The other node's error as it was; `OVERLOADED` when no node does the service now, `DEADLINE` when none
    /// answers in time.
    pub async fn call(&self, call: LocalCall, who: Option<&Who>) -> Result<Bytes, ConnectError> {
        let LocalCall {
            path,
            body,
            format,
            context,
            timeout,
            ..
        } = call;
        let Some(remote) = self.remote(&path) else {
            return Err(raise(errors::internal(
                "a call of another service is handed on",
            )));
        };
        let until = Instant::now() + timeout;
        let call = Call {
            path,
            body,
            content_type: words::content_type(format).into(),
            identity: who.map(words::identity).unwrap_or_default(),
            request_id: context.request_id.as_str().into(),
            traceparent: context.trace.to_string(),
            timeout,
        };
        let mut tries = 1;
        loop {
            // What nobody took was not done, and may be asked of the next one.
            // Each has what is left of the time.
            let call = Call {
                timeout: until.saturating_duration_since(Instant::now()),
                ..call.clone()
            };
            match remote.call(call).await {
                Err(Unanswered::NobodyThere) if tries < TRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(NOBODY_WAIT).await;
                }
                answer => return answer.map_err(failed),
            }
        }
    }
}

fn failed(why: Unanswered) -> ConnectError {
    match why {
        Unanswered::Refused(refusal) => refused(refusal),
        // Of both it is not known whether it was done.
        Unanswered::Late | Unanswered::Lost => raise(errors::deadline()),
        why @ (Unanswered::NobodyThere | Unanswered::Unsent(_)) => {
            raise(errors::nobody_does_it(why))
        }
    }
}

/// The error that the other node has made and logged.
fn refused(refusal: Refusal) -> ConnectError {
    let error = serde_json::from_str::<CallError>(&refusal.detail);
    let error = error.ok().and_then(|error| {
        let code = error.code.parse::<ErrorCode>().ok()?;
        Some((code, error.message, error.failure.into_option()?))
    });
    match error {
        Some((code, message, failure)) => ConnectError::new(code, message)
            .with_detail(ErrorDetail::from_message(DETAIL, &failure))
            .with_source(Sent(failure)),
        // It did not get as far as the handlers.
        None => raise(errors::nobody_does_it(Unanswered::Refused(refusal))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_sessions_stays_with_them() {
        assert_eq!(may_be_elsewhere("tertulia.users.v1.UsersService"), Ok(()));
        for service in HERE_ONLY {
            let refused = may_be_elsewhere(service);
            assert_eq!(refused, Err(NotElsewhere::HereOnly(service.into())));
        }
        let unknown = may_be_elsewhere("users");
        assert_eq!(unknown, Err(NotElsewhere::Unknown("users".into())));
    }
}
