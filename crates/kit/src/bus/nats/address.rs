//! Where the servers are, as an operator writes it, and what to sign in with.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectOptions, ServerAddr};

use crate::net::unescaped;
use crate::secret::Secret;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// One or more servers of one cluster, such as `nats://user:password@a.example.org:4222,nats://b.example.org`. What
/// comes before the `@` is said once, at the first; without a colon it is a token.
#[derive(Clone)]
pub struct Address {
    servers: Vec<ServerAddr>,
    credentials: Option<Credentials>,
}

#[derive(Clone)]
enum Credentials {
    Password { user: String, password: Secret },
    Token(Secret),
}

/// It is no address. The words do not show it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// One of the servers is none.
    #[error(
        "wants servers such as nats://nats.example.org:4222 or tls://…, with commas between them"
    )]
    NoServer,
    /// The credentials are not where they belong.
    #[error("wants the user and the password with the first server only")]
    Credentials,
}

impl Address {
    /// Connects as soon as a server is there, and again whenever it is lost. `name` is for who operates the servers,
    /// `inbox` what the subjects of answers begin with.
    ///
    /// # Errors
    /// When the library has given up, which it never should.
    pub(crate) async fn connect(
        &self,
        name: &str,
        inbox: &str,
        settings: ConnectOptions,
    ) -> Result<Client, ConnectError> {
        let settings = settings
            .name(name)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .connection_timeout(CONNECT_MAX)
            .custom_inbox_prefix(inbox);
        self.sign_in(settings).connect(&self.servers[..]).await
    }

    /// Adds what to sign in with.
    fn sign_in(&self, options: ConnectOptions) -> ConnectOptions {
        let text = |secret: &Secret| String::from_utf8_lossy(secret.expose()).into_owned();
        match &self.credentials {
            None => options,
            Some(Credentials::Password { user, password }) => {
                options.user_and_password(user.clone(), text(password))
            }
            Some(Credentials::Token(token)) => options.token(text(token)),
        }
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let mut servers = Vec::new();
        let mut credentials = None;
        for (at, part) in text.split(',').enumerate() {
            let (server, found) = read(part.trim())?;
            match found {
                Some(_) if at > 0 => return Err(BadAddress::Credentials),
                Some(found) => credentials = Some(found),
                None => {}
            }
            servers.push(server);
        }
        Ok(Address {
            servers,
            credentials,
        })
    }
}

/// A server without its credentials, and these: what is logged of a server may show the rest.
fn read(text: &str) -> Result<(ServerAddr, Option<Credentials>), BadAddress> {
    let (scheme, rest) = text.split_once("://").ok_or(BadAddress::NoServer)?;
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    let is_plain = !host.is_empty() && !host.contains(['/', '?', '#']);
    if !matches!(scheme, "nats" | "tls") || !is_plain {
        return Err(BadAddress::NoServer);
    }
    let server: ServerAddr = format!("{scheme}://{host}")
        .parse()
        .map_err(|_| BadAddress::NoServer)?;
    if server.host().is_empty() {
        return Err(BadAddress::NoServer);
    }
    let credentials = match user.map(|user| user.split_once(':').ok_or(user)) {
        None => None,
        Some(Ok((user, password))) => Some(Credentials::Password {
            user: decoded(user)?,
            password: Secret::new(decoded(password)?),
        }),
        Some(Err("")) => return Err(BadAddress::Credentials),
        Some(Err(token)) => Some(Credentials::Token(Secret::new(decoded(token)?))),
    };
    Ok((server, credentials))
}

fn decoded(text: &str) -> Result<String, BadAddress> {
    unescaped(text).ok_or(BadAddress::Credentials)
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Address {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn several_servers_share_what_they_are_signed_in_with() {
        let address = parsed("tls://who:p%40ss%3A@a.example.org:4333, nats://[::1]");
        let servers: Vec<String> = address
            .servers
            .iter()
            .map(|server| format!("{} {}", server.host(), server.port()))
            .collect();
        assert_eq!(servers, ["a.example.org 4333", "::1 4222"]);
        let Some(Credentials::Password { user, password }) = &address.credentials else {
            panic!("no password")
        };
        assert_eq!((user.as_str(), password.expose()), ("who", &b"p@ss:"[..]));
        let one = parsed("nats://s3cret@a");
        assert!(matches!(one.credentials, Some(Credentials::Token(t)) if t.expose() == b"s3cret"));
    }

    #[test]
    fn what_is_printed_shows_no_credentials() {
        let address = parsed("nats://who:hunter2@a.example.org");
        let shown = format!("{address:?} {:?}", address.servers);
        assert!(
            !shown.contains("hunter2") && !shown.contains("who"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "a:4222",
            "http://a",
            "nats://",
            "nats://a,",
            "nats://a/b",
            "nats://a:port",
            "nats://@a",
            "nats://a,nats://u:p@b",
            "nats://%zz:p@a",
        ] {
            let error = text.parse::<Address>().err();
            let words = error.unwrap_or_else(|| panic!("{text}")).to_string();
            assert!(words.starts_with("wants"), "{words}");
        }
    }
}
