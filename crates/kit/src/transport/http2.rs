//! Calls between nodes over HTTP/2, straight from one to the other. The node that calls knows [where the others
//! are](crate::discovery), chooses the one with the least to do ([`crate::balance`]) and keeps one connection to each.
//!
//! A call goes by its path as it came and carries a [seal](super::nats::NodeKey) over all that it says, on whose behalf
//! included, as over NATS; a seal of one way is none on the other. What is for nodes has a path of its own below `/calls`,
//! so that nothing that a user sends elsewhere can be taken for it; and a call that brings the token of a user is refused.

mod door;
mod link;
mod remote;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rustls::{ClientConfig, RootCertStore};

use super::nats::seal::Seal;
use super::nats::{Call, Refusal};

pub use door::{Door, router};
pub use remote::{Numbers, Options, Remote};

/// What stands before the path of a method.
const BELOW: &str = "/calls";

/// What a call says in headers.
mod header {
    pub use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};

    use http::HeaderName;

    pub const IDENTITY: HeaderName = HeaderName::from_static("identity");
    pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    pub const TIMEOUT_MS: HeaderName = HeaderName::from_static("timeout-ms");
    pub const SENT_MS: HeaderName = HeaderName::from_static("sent-ms");
    pub const NONCE: HeaderName = HeaderName::from_static("nonce");
    pub const SEAL: HeaderName = HeaderName::from_static("seal");
    /// The code of a refusal; its detail is the body.
    pub const CODE: HeaderName = HeaderName::from_static("code");
}

/// It did not come from a node, or came before, or long ago.
const STRANGE: StatusCode = StatusCode::UNAUTHORIZED;
const STRANGE_CODE: &str = "unauthenticated";
/// Nobody does it here.
const NOT_HERE: StatusCode = StatusCode::NOT_FOUND;
const NOT_HERE_CODE: &str = "unimplemented";
/// So many are under way that it is not begun.
const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
const BUSY_CODE: &str = "unavailable";
/// It was refused by who does it: the code says more.
const REFUSED: StatusCode = StatusCode::BAD_REQUEST;

/// How certificates are checked, with what this system trusts.
///
/// # Errors
/// When it trusts nobody.
pub fn tls_of_system() -> Result<Arc<ClientConfig>, NoRoots> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// No certificate could be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system has no root certificates")]
pub struct NoRoots;

/// A header does not fit on a line.
struct Unfit;

/// What a call that is sent now says in headers.
fn written(call: &Call, seal: &Seal) -> Result<HeaderMap, Unfit> {
    let mut headers = HeaderMap::new();
    let timeout_ms = call.timeout.as_millis().to_string();
    let sent_ms = seal.sent_ms.to_string();
    let words: [(HeaderName, &str); 8] = [
        (header::CONTENT_TYPE, &call.content_type),
        (header::IDENTITY, &call.identity),
        (header::REQUEST_ID, &call.request_id),
        (header::TRACEPARENT, &call.traceparent),
        (header::TIMEOUT_MS, &timeout_ms),
        (header::SENT_MS, &sent_ms),
        (header::NONCE, &seal.nonce),
        (header::SEAL, &seal.mac),
    ];
    for (name, words) in words {
        // As bytes, for the name of a device may have letters of any script.
        let value = HeaderValue::from_bytes(words.as_bytes()).map_err(|_| Unfit)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// What was written, with no body yet. None when it is not what [`written`] writes.
fn read(path: String, headers: &HeaderMap) -> Option<(Call, Seal)> {
    if [header::AUTHORIZATION, header::COOKIE]
        .iter()
        .any(|name| headers.contains_key(name))
    {
        return None;
    }
    let text = |name: HeaderName| {
        let value = headers.get(name)?;
        Some(std::str::from_utf8(value.as_bytes()).ok()?.to_owned())
    };
    let call = Call {
        path,
        body: bytes::Bytes::new(),
        content_type: text(header::CONTENT_TYPE)?,
        identity: text(header::IDENTITY)?,
        request_id: text(header::REQUEST_ID)?,
        traceparent: text(header::TRACEPARENT)?,
        timeout: Duration::from_millis(text(header::TIMEOUT_MS)?.parse().ok()?),
    };
    let seal = Seal {
        sent_ms: text(header::SENT_MS)?.parse().ok()?,
        nonce: text(header::NONCE)?,
        mac: text(header::SEAL)?,
    };
    Some((call, seal))
}

fn refusal(code: &str) -> Refusal {
    Refusal {
        code: code.to_owned(),
        detail: String::new(),
    }
}
