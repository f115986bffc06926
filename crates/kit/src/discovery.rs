//! Where something is offered now: the addresses to which calls can go. Who balances over them asks here, and follows
//! what changes.
//!
//! What is known may be old: an address that is named may be gone, and one that is there not named yet. So it is a hint,
//! and who calls finds out by calling.

mod dns;
mod memory;
#[cfg(any(test, feature = "suites"))]
pub mod suite;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::watch;

pub use dns::{Dns, Resolve, Resolving, System};
pub use memory::Memory;

/// One address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Whether the connection is under TLS.
    pub tls: bool,
    /// The host as it was written: what its certificate names.
    pub host: String,
    /// Where to connect, such as `10.0.0.1:8080` or `a.example.org:8080`.
    pub address: String,
}

/// Endpoints, in order and each once.
pub type Endpoints = Arc<[Endpoint]>;

/// Knows where something is offered.
pub trait Discovery: Send + Sync {
    /// The endpoints that are known, and from now on every change of them. There may be none as long as nothing was
    /// learned. What was known stays when nothing can be learned, and when it is learned that there are none: whoever
    /// answers so is more often wrong than right, and an address that is gone costs little. What is the same as before is
    /// no change.
    fn endpoints(&self) -> watch::Receiver<Endpoints>;
}

/// Tells who watches, when there is something new to tell.
fn tell(known: &watch::Sender<Endpoints>, mut endpoints: Vec<Endpoint>) {
    endpoints.sort();
    endpoints.dedup();
    known.send_if_modified(|known| {
        let is_news = !endpoints.is_empty() && **known != *endpoints;
        if is_news {
            *known = endpoints.into();
        }
        is_news
    });
}

/// A host with a port, and whether it is under TLS: `http://users.example.org:8080`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host {
    /// Whether connections are under TLS.
    pub tls: bool,
    /// A name, or an address.
    pub name: String,
    /// The port.
    pub port: u16,
}

/// A text that names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("wants a host with its port, such as http://users.example.org:8080, and nothing behind it")]
pub struct NotAHost;

impl FromStr for Host {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Host, NotAHost> {
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(NotAHost),
        };
        let (name, port) = rest.rsplit_once(':').ok_or(NotAHost)?;
        let in_brackets = name.starts_with('[') && name.ends_with(']');
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let is_name = !name.is_empty() && name.bytes().all(plain);
        let is_address = in_brackets
            && name[1..name.len() - 1]
                .parse::<std::net::Ipv6Addr>()
                .is_ok();
        match port.parse() {
            Ok(port) if port != 0 && (is_name || is_address) => Ok(Host {
                tls,
                name: name.to_owned(),
                port,
            }),
            _ => Err(NotAHost),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.name, self.port)
    }
}

impl Host {
    /// The host as one endpoint; its name is looked up with each connection.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint_at(format!("{}:{}", self.name, self.port))
    }

    fn endpoint_at(&self, address: String) -> Endpoint {
        Endpoint {
            tls: self.tls,
            host: self.name.clone(),
            address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_written_as_it_was_read() {
        for text in [
            "http://a:8080",
            "https://users.example.org:443",
            "http://10.0.0.1:1",
            "http://[::1]:8080",
        ] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_more_or_less_than_a_host_is_refused() {
        for text in [
            "",
            "a:8080",
            "http://a",
            "http://a:0",
            "http://:8080",
            "http://a:8080/",
            "http://who:word@a:8080",
            "ftp://a:8080",
            "http://::1:8080",
            "http://[a]:8080",
            "http://a b:8080",
        ] {
            assert_eq!(text.parse::<Host>(), Err(NotAHost), "{text}");
        }
    }
}
