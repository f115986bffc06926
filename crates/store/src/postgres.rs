//! Everything in PostgreSQL: people as in every engine of SQL ([`People`]), and the logs of chats ([`ChatLog`]).
//! Several nodes may have the same database at once.
//!
//! Nothing of it needs a lock that belongs to a session, a notification, or a feature of one version; the
//! positions of the logs need the transaction numbers of PostgreSQL 13 or newer (ADR 0016).

mod chats;
pub(crate) mod import;
mod leases;
mod migrate;
mod nodes;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use crate::people::People;

pub use chats::{ChatLog, Options};
pub use leases::Leases;
pub use migrate::MigrationError;
pub use nodes::{NodeLease, agree};

/// People in PostgreSQL.
pub type Postgres = People<sqlx::Postgres>;

/// How many calls about people run at once on a node; more wait.
const CONNECTIONS: u32 = 8;
/// How long a call waits for a connection before it is told that the server is overloaded.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);
/// The oldest version that has all that is asked of it.
const ENGINE_MIN: i32 = 130_000;

/// What every session asks of the server. A statement that hangs, a lock that nobody gives back and a transaction
/// whose client has gone all end by themselves. Everything is looked up by a key and done in less than the third of
/// a second that it takes to compile a statement.
const SESSION: [(&str, &str); 4] = [
    ("jit", "off"),
    ("statement_timeout", "10s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "10s"),
];

/// Where a database is, and who asks.
#[derive(Clone)]
pub struct Target(PgConnectOptions);

impl fmt::Debug for Target {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.place()).finish()
    }
}

impl FromStr for Target {
    type Err = String;

    /// Reads `postgres://user:password@host:port/database?sslmode=verify-full`. The words of an error do not show
    /// what was read.
    fn from_str(url: &str) -> Result<Target, String> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err("does not begin with postgres://".into());
        }
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| "is not like postgres://user:password@host:5432/database")?;
        if options.get_database().is_none() {
            return Err(
                "names no database; write postgres://user:password@host:5432/database".into(),
            );
        }
        let options = options.application_name("tertulia").options(SESSION);
        Ok(Target(options.disable_statement_logging()))
    }
}

impl Target {
    /// Where it is, for people to read.
    pub fn place(&self) -> String {
        let options = &self.0;
        let database = options.get_database().unwrap_or_default();
        match options.get_socket() {
            Some(socket) => format!("{} in {}", database, socket.display()),
            None => format!(
                "{} at {}:{}",
                database,
                options.get_host(),
                options.get_port()
            ),
        }
    }

    /// Whether nobody on the way can listen or answer in the server's place.
    pub fn is_private(&self) -> bool {
        self.0.get_socket().is_some()
            || matches!(
                self.0.get_ssl_mode(),
                PgSslMode::VerifyCa | PgSslMode::VerifyFull
            )
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let connecting = PgConnection::connect_with(&self.0);
        match tokio::time::timeout(CONNECTION_WAIT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    fn failed(&self, source: sqlx::Error) -> OpenError {
        OpenError::Engine {
            place: self.place(),
            source,
        }
    }

    fn pool(&self, connections: u32) -> PgPool {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CONNECTION_WAIT);
        pool.connect_lazy_with(self.0.clone())
    }
}

/// Why a database can not be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It does not answer, or refuses us.
    #[error("the database {place} can not be opened")]
    Engine {
        /// Which.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The server is too old.
    #[error("PostgreSQL {found} is too old; 13 is needed")]
    EngineTooOld {
        /// Its version.
        found: String,
    },
    /// The server is set to lose what it has acknowledged.
    #[error("the database server would lose acknowledged writes: it runs with {setting} = off")]
    NotDurable {
        /// What is wrong.
        setting: String,
    },
    /// As many nodes run on it as there can be.
    #[error("all 256 node ids are held by other nodes of this database")]
    NoNode,
    /// The tables can not be brought up to date.
    #[error("the schema of the database {place} can not be brought up to date")]
    Migration {
        /// Which.
        place: String,
        /// Why.
        source: MigrationError,
    },
}

/// Checks that a database can be relied on, and changes nothing in it.
///
/// # Errors
/// As [`OpenError`] says.
pub async fn check(target: &Target) -> Result<(), OpenError> {
    let connection = checked(target).await?;
    let closed = connection.close().await;
    closed.map_err(|source| target.failed(source))
}

/// Checks that a database can be relied on and brings its tables up to date; nodes that start at the same time
/// wait for each other.
///
/// # Errors
/// As [`OpenError`] says. Nothing is changed in a database with newer tables.
pub async fn prepare(target: &Target) -> Result<(), OpenError> {
    let mut connection = checked(target).await?;
    migrate::run(&mut connection)
        .await
        .map_err(|source| OpenError::Migration {
            place: target.place(),
            source,
        })?;
    let closed = connection.close().await;
    closed.map_err(|source| target.failed(source))
}

async fn checked(target: &Target) -> Result<PgConnection, OpenError> {
    let connected = target.connect().await;
    let mut connection = connected.map_err(|source| target.failed(source))?;
    match check_server(&mut connection).await {
        Ok(()) => Ok(connection),
        Err(Ok(found)) => Err(found),
        Err(Err(source)) => Err(target.failed(source)),
    }
}

impl People<sqlx::Postgres> {
    /// The people in a database that was [prepared](prepare). It is connected to when somebody asks.
    pub fn of(target: &Target) -> Postgres {
        let pool = target.pool(CONNECTIONS);
        People {
            writer: pool.clone(),
            readers: pool,
            begin: "BEGIN",
            now: "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT",
        }
    }
}

/// Fails with what is wrong with the server, or because it can not be asked.
async fn check_server(connection: &mut PgConnection) -> Result<(), Result<OpenError, sqlx::Error>> {
    let asked = sqlx::query(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                current_setting('fsync'), current_setting('full_page_writes'),
                current_setting('synchronous_commit')",
    );
    let row = asked.fetch_one(connection).await.map_err(Err)?;
    if row.try_get::<i32, _>(0).map_err(Err)? < ENGINE_MIN {
        let found = row.try_get(1).map_err(Err)?;
        return Err(Ok(OpenError::EngineTooOld { found }));
    }
    for (at, setting) in [
        (2, "fsync"),
        (3, "full_page_writes"),
        (4, "synchronous_commit"),
    ] {
        if row.try_get::<String, _>(at).map_err(Err)? == "off" {
            let setting = setting.to_owned();
            return Err(Ok(OpenError::NotDurable { setting }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_shows_where_it_is_and_not_the_password() {
        let target: Target = "postgres://ana:hunter2@db.example.org:6432/chat"
            .parse()
            .unwrap();
        let shown = format!("{target:?}");
        assert_eq!(shown, r#"Target("chat at db.example.org:6432")"#);
        for bad in [
            "mysql://ana:hunter2@a/b",
            "postgres://ana:hunter2@a",
            "postgres://ana:hunter2@a:b/c",
        ] {
            let said = bad.parse::<Target>().unwrap_err();
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn only_a_checked_certificate_or_a_socket_is_private() {
        let is_private = |url: &str| url.parse::<Target>().unwrap().is_private();
        assert!(is_private("postgres://a@localhost/b?host=%2Frun"));
        assert!(is_private("postgres://a@h/b?sslmode=verify-full"));
        assert!(!is_private("postgres://a@h/b?sslmode=require"));
        assert!(!is_private("postgres://a@h/b"));
    }
}
