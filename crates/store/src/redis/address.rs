//! Where Redis is, as an operator writes it, and what to sign in with.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisResult, TlsMode,
};
use tertulia_kit::net::unescaped;
use tertulia_kit::secret::Secret;

use super::link::Connection;

/// The usual ports.
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// How often a cluster's client asks another node before the caller is told.
const CLUSTER_RETRIES: u32 = 2;

/// One server, a cluster, or sentinels that know which server is the master:
///
/// - `redis://user:password@cache.example.org:6379/0`
/// - `redis+cluster://user:password@a.example.org,b.example.org`
/// - `redis+sentinel://user:password@a.example.org,b.example.org/main/0?sentinel_password=other`
///
/// `rediss` in place of `redis` insists on TLS. Before the `@` is said once what all servers of data ask for; `:password`
/// alone will do.
#[derive(Clone)]
pub struct Address {
    kind: Kind,
    servers: Vec<Server>,
    is_tls: bool,
    /// The number of the database on the server.
    database: i64,
    credentials: Credentials,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    One,
    Cluster,
    /// What the sentinels call the master, and what they ask for themselves.
    Sentinels {
        master: String,
        password: Option<Secret>,
    },
}

#[derive(Clone, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
}

#[derive(Clone, Default)]
struct Credentials {
    user: Option<String>,
    password: Option<Secret>,
}

/// It is no address. The words do not show it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It does not say which kind of Redis it is.
    #[error(
        "wants to begin with redis://, redis+cluster:// or redis+sentinel://, or with rediss for TLS"
    )]
    Scheme,
    /// One of the servers is none, or there are too many.
    #[error(
        "wants servers such as redis.example.org:6379: one, or more for a cluster or sentinels, with commas between them"
    )]
    Servers,
    /// The credentials can not be read.
    #[error("wants user:password or :password before the @, with %40 for an @")]
    Credentials,
    /// What stands behind the servers can not be read.
    #[error(
        "wants /DATABASE after one server, /MASTER or /MASTER/DATABASE after sentinels, and nothing after a cluster"
    )]
    Path,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let (scheme, rest) = text.split_once("://").ok_or(BadAddress::Scheme)?;
        let (is_tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => (true, kind),
            None => (
                false,
                scheme.strip_prefix("redis").ok_or(BadAddress::Scheme)?,
            ),
        };
        // A password may have anything in it but an unescaped @ behind it.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (servers, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (kind, database) = match (kind, &path[..], query) {
            ("", [], None) => (Kind::One, ""),
            ("", [database], None) => (Kind::One, *database),
            ("+cluster", [], None) => (Kind::Cluster, ""),
            ("+sentinel", [master], query) => (sentinels(master, query)?, ""),
            ("+sentinel", [master, database], query) => (sentinels(master, query)?, *database),
            ("" | "+cluster" | "+sentinel", ..) => return Err(BadAddress::Path),
            _ => return Err(BadAddress::Scheme),
        };
        let port = match &kind {
            Kind::Sentinels { .. } => SENTINEL_PORT,
            Kind::One | Kind::Cluster => REDIS_PORT,
        };
        let servers: Vec<Server> = servers
            .split(',')
            .map(|text| server(text.trim(), port))
            .collect::<Result<_, _>>()?;
        if kind == Kind::One && servers.len() > 1 {
            return Err(BadAddress::Servers);
        }
        let database = match database {
            "" => 0,
            number => number.parse::<u16>().map_err(|_| BadAddress::Path)?.into(),
        };
        Ok(Address {
            kind,
            servers,
            is_tls,
            database,
            credentials: user.map(credentials).transpose()?.unwrap_or_default(),
        })
    }
}

fn server(text: &str, port: u16) -> Result<Server, BadAddress> {
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an address in brackets are its own.
        Some((host, number)) if !number.ends_with(']') => {
            (host, number.parse().map_err(|_| BadAddress::Servers)?)
        }
        _ => (text, port),
    };
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').ok_or(BadAddress::Servers)?,
        None if host.contains(':') => return Err(BadAddress::Servers),
        None => host,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    match !host.is_empty() && host.bytes().all(plain) && port > 0 {
        true => Ok(Server {
            host: host.to_owned(),
            port,
        }),
        false => Err(BadAddress::Servers),
    }
}

fn credentials(text: &str) -> Result<Credentials, BadAddress> {
    let (user, password) = text.split_once(':').ok_or(BadAddress::Credentials)?;
    let decoded = |text| unescaped(text).ok_or(BadAddress::Credentials);
    let (user, password) = (decoded(user)?, decoded(password)?);
    Ok(Credentials {
        user: Some(user).filter(|user| !user.is_empty()),
        password: Some(Secret::new(password)),
    })
}

fn sentinels(master: &str, query: Option<&str>) -> Result<Kind, BadAddress> {
    let password = query.map(|query| {
        let password = query.strip_prefix("sentinel_password=");
        let password = password.ok_or(BadAddress::Path)?;
        unescaped(password).ok_or(BadAddress::Credentials)
    });
    Ok(Kind::Sentinels {
        master: unescaped(master).ok_or(BadAddress::Path)?,
        password: password.transpose()?.map(Secret::new),
    })
}

impl Address {
    /// Connects. Who asks says for how long.
    pub(super) async fn connect(&self, connect_max: Duration) -> RedisResult<Connection> {
        // How long an answer may take is between the link and who asks.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_max))
            .set_response_timeout(None);
        match &self.kind {
            Kind::One => {
                let server = self.servers[0].address(self.is_tls);
                let info = server.into_connection_info()?;
                let info = info.set_redis_settings(self.credentials.settings(self.database));
                let client = Client::open(info)?;
                let connecting = client.get_multiplexed_async_connection_with_config(&config);
                Ok(Connection::One(connecting.await?))
            }
            Kind::Sentinels { master, password } => {
                let mut client = self.sentinel_client(master, password.as_ref())?;
                let connecting = client.get_async_connection_with_config(&config);
                Ok(Connection::One(connecting.await?))
            }
            Kind::Cluster => {
                let servers = self.servers.iter().map(|s| s.address(self.is_tls));
                let mut builder = ClusterClient::builder(servers)
                    .connection_timeout(connect_max)
                    .retries(CLUSTER_RETRIES);
                if self.is_tls {
                    builder = builder.tls(TlsMode::Secure);
                }
                if let Some(user) = &self.credentials.user {
                    builder = builder.username(user);
                }
                if let Some(password) = self.credentials.password() {
                    builder = builder.password(password);
                }
                let client = builder.build()?;
                Ok(Connection::Cluster(client.get_async_connection().await?))
            }
        }
    }

    fn sentinel_client(
        &self,
        master: &str,
        password: Option<&Secret>,
    ) -> RedisResult<SentinelClient> {
        let sentinels = self.servers.iter().map(|s| s.address(self.is_tls));
        let server = SentinelServerType::Master;
        let mut builder = redis::sentinel::SentinelClientBuilder::new(sentinels, master, server)?
            .set_client_to_redis_db(self.database);
        if self.is_tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        if let Some(user) = &self.credentials.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = self.credentials.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(password) = password {
            builder = builder.set_client_to_sentinel_password(text(password));
        }
        builder.build()
    }
}

impl Server {
    fn address(&self, is_tls: bool) -> ConnectionAddr {
        let (host, port) = (self.host.clone(), self.port);
        match is_tls {
            false => ConnectionAddr::Tcp(host, port),
            true => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
        }
    }
}

impl Credentials {
    fn password(&self) -> Option<String> {
        self.password.as_ref().map(text)
    }

    fn settings(&self, database: i64) -> RedisConnectionInfo {
        let mut settings = RedisConnectionInfo::default().set_db(database);
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = self.password() {
            settings = settings.set_password(password);
        }
        settings
    }
}

fn text(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.expose()).into_owned()
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

    fn servers(address: &Address) -> Vec<String> {
        let shown = |s: &Server| format!("{} {}", s.host, s.port);
        address.servers.iter().map(shown).collect()
    }

    #[test]
    fn one_server_has_a_database_and_credentials() {
        let address = parsed("rediss://who:p%40s/s@cache.example.org/3");
        assert!(address.kind == Kind::One && address.is_tls);
        assert_eq!(servers(&address), ["cache.example.org 6379"]);
        assert_eq!(address.database, 3);
        assert_eq!(address.credentials.user.as_deref(), Some("who"));
        assert_eq!(address.credentials.password().unwrap(), "p@s/s");
        let plain = parsed("redis://:secret@[::1]:7000");
        assert_eq!(servers(&plain), ["::1 7000"]);
        assert_eq!(plain.credentials.user, None);
        assert_eq!(plain.credentials.password().unwrap(), "secret");
        assert!(!plain.is_tls && plain.database == 0);
    }

    #[test]
    fn clusters_and_sentinels_have_several_servers() {
        let cluster = parsed("redis+cluster://a.example.org:7000, b.example.org");
        assert!(cluster.kind == Kind::Cluster);
        assert_eq!(
            servers(&cluster),
            ["a.example.org 7000", "b.example.org 6379"]
        );
        let sentinels = parsed("rediss+sentinel://:p@a,b:27000/main/2?sentinel_password=o%3F");
        assert_eq!(servers(&sentinels), ["a 26379", "b 27000"]);
        assert!(sentinels.is_tls && sentinels.database == 2);
        let Kind::Sentinels { master, password } = &sentinels.kind else {
            panic!("no sentinels")
        };
        assert_eq!(master, "main");
        assert_eq!(password.as_ref().map(text).as_deref(), Some("o?"));
        assert_eq!(sentinels.credentials.password().unwrap(), "p");
    }

    #[test]
    fn what_is_printed_shows_no_credentials() {
        let shown = format!("{:?}", parsed("redis://who:hunter2@a.example.org"));
        assert!(
            !shown.contains("hunter2") && !shown.contains("who"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "a:6379",
            "http://a",
            "redis+other://a",
            "redis://",
            "redis://a,b",
            "redis://a/b",
            "redis://a/1/2",
            "redis://a/1?x=1",
            "redis://a:port",
            "redis://a:0",
            "redis://::1",
            "redis://[::1",
            "redis://hunter2@a",
            "redis://u:%zz@a",
            "redis+cluster://a/1",
            "redis+cluster://a,",
            "redis+sentinel://a",
            "redis+sentinel://a/main?password=hunter2",
            "redis+sentinel://a/main/x",
        ] {
            let error = text.parse::<Address>().err();
            let words = error.unwrap_or_else(|| panic!("{text}")).to_string();
            assert!(words.starts_with("wants"), "{words}");
            assert!(!words.contains("hunter2"), "{words}");
        }
    }
}
