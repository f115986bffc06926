//! People in SQLite: accounts, logins and profiles, in one file.
//!
//! One connection writes, a few read; with a write-ahead log neither waits for the other. A commit is synced
//! before it is answered (`synchronous = FULL`). The queries are those of [`People`].

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::people::People;

/// Older ones can lose a committed write when a write-ahead log is reset.
const ENGINE_MIN: (u32, u32, u32) = (3, 51, 3);
/// How many reads run at once; more wait.
const READERS: u32 = 4;
/// How long a call waits for a connection before it is told that the server is overloaded.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);
/// How long a write waits for another process that writes, such as a backup's checkpoint.
const BUSY_WAIT: Duration = Duration::from_secs(5);

const NOW: &str = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)";

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// People in a file.
pub type Sqlite = People<sqlx::Sqlite>;

/// Why the file can not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It can not be read or written, or is no database.
    #[error("the database {path} can not be opened")]
    Engine {
        /// The file.
        path: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The engine that was linked has a known fault.
    #[error("SQLite {found} can lose committed writes; 3.51.3 is needed")]
    EngineTooOld {
        /// Its version.
        found: String,
    },
    /// A newer version of this program has changed the schema.
    #[error(
        "the database {path} was written by a newer version (it has migration {migration}); \
         take that version, or a backup from before it"
    )]
    NewerSchema {
        /// The file.
        path: String,
        /// The migration that is not known here.
        migration: i64,
    },
    /// An older version of this program wrote it, and it is to be read as it is.
    #[error(
        "the database {path} was written by an older version; start the server of this version on it \
         once, and stop it"
    )]
    OlderSchema {
        /// The file.
        path: String,
    },
    /// A migration failed, or an applied one is not the one that is known here.
    #[error("the schema of the database {path} can not be brought up to date")]
    Migration {
        /// The file.
        path: String,
        /// Why.
        source: MigrateError,
    },
}

impl People<sqlx::Sqlite> {
    /// Opens the file, or makes it, readable for its owner alone, and brings its schema up to date.
    ///
    /// # Errors
    /// As [`OpenError`] says. Nothing is changed in a file with a newer schema.
    pub async fn open(path: &Path) -> Result<Sqlite, OpenError> {
        let shown = path.display().to_string();
        let engine = |source| OpenError::Engine {
            path: shown.clone(),
            source,
        };
        create_private(path).map_err(|e| engine(sqlx::Error::Io(e)))?;

        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_WAIT);
        let writer = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(engine)?;
        check_engine(&writer).await.map_err(|found| match found {
            Ok(found) => OpenError::EngineTooOld { found },
            Err(source) => engine(source),
        })?;
        MIGRATIONS
            .run(&writer)
            .await
            .map_err(|source| match source {
                MigrateError::VersionMissing(migration)
                | MigrateError::VersionTooNew(migration, _) => OpenError::NewerSchema {
                    path: shown.clone(),
                    migration,
                },
                source => OpenError::Migration {
                    path: shown.clone(),
                    source,
                },
            })?;
        let readers = pool(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(engine)?;
        Ok(People {
            writer,
            readers,
            // It holds the writing connection and the file from its beginning.
            begin: "BEGIN IMMEDIATE",
            now: NOW,
        })
    }

    /// Opens the file beside the server that may have it open, if it has the schema of this version.
    ///
    /// # Errors
    /// As [`OpenError`] says.
    pub async fn open_beside(path: &Path) -> Result<Sqlite, OpenError> {
        let as_it_is = Sqlite::open_as_it_is(path).await?;
        as_it_is.close().await;
        Sqlite::open(path).await
    }

    /// Opens the file to read it, and changes nothing in it.
    ///
    /// # Errors
    /// As [`OpenError`] says; also when its schema is not that of this version.
    pub(crate) async fn open_as_it_is(path: &Path) -> Result<Sqlite, OpenError> {
        let shown = path.display().to_string();
        let engine = |source| OpenError::Engine {
            path: shown.clone(),
            source,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(BUSY_WAIT);
        let readers = pool(1).connect_with(options).await.map_err(engine)?;
        let applied = sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version");
        let applied: Vec<i64> = match applied.fetch_all(&readers).await {
            // Without the table it has no schema at all.
            Err(sqlx::Error::Database(_)) => Vec::new(),
            applied => applied.map_err(engine)?,
        };
        let known: Vec<i64> = MIGRATIONS.iter().map(|known| known.version).collect();
        match applied.iter().find(|version| !known.contains(version)) {
            Some(newer) => Err(OpenError::NewerSchema {
                path: shown,
                migration: *newer,
            }),
            None if applied != known => Err(OpenError::OlderSchema { path: shown }),
            None => Ok(People {
                writer: readers.clone(),
                readers,
                begin: "BEGIN",
                now: NOW,
            }),
        }
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(CONNECTION_WAIT)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// Makes an empty file if there is none. The engine gives its log the same rights.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Fails with the version when it is too old.
async fn check_engine(pool: &SqlitePool) -> Result<(), Result<String, sqlx::Error>> {
    let found: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(pool)
        .await
        .map_err(Err)?;
    if version(&found) < Some(ENGINE_MIN) {
        Err(Ok(found))
    } else {
        Ok(())
    }
}

fn version(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Some((major, minor, patch)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(version("3.51.3") >= Some(ENGINE_MIN));
        assert!(version("3.100.0") >= Some(ENGINE_MIN));
        assert!(version("3.51.2") < Some(ENGINE_MIN));
        assert!(version("nonsense") < Some(ENGINE_MIN));
    }
}
