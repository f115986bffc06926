//! Brings the tables up to date.
//!
//! Nodes that start together take turns by a row: whoever has updated it applies what is missing in the same
//! transaction, and whoever waited for it finds nothing left to do. What was applied is remembered with its
//! checksum. A migration only adds; what older nodes still use goes in a later release.

use sqlx::migrate::{Migration, Migrator};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use thiserror::Error;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// How often the two tables below are tried to be made while others do the same.
const TRIES_MAX: usize = 10;
/// The engine's codes for what two makers of one table tell each other: it, its type or its row in
/// a catalogue is there.
const MADE_BY_ANOTHER: [&str; 5] = ["42P07", "42710", "23505", "40001", "40P01"];

/// Why the tables can not be brought up to date.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// A newer version of this program has changed the tables.
    #[error(
        "it was written by a newer version (it has migration {0}); take that version, or a backup from before it"
    )]
    Newer(i64),
    /// An applied migration is not the one that is known here.
    #[error("its migration {0} is not the one of this version")]
    Different(i64),
    /// The database says no.
    #[error(transparent)]
    Engine(#[from] sqlx::Error),
}

/// Applies what is missing.
pub async fn run(connection: &mut PgConnection) -> Result<(), MigrationError> {
    make_own_tables(connection).await?;
    let mut tx = connection.begin().await?;
    // A migration may take as long as it takes, and so may the wait for another node's.
    tx.execute("SET LOCAL statement_timeout = 0").await?;
    tx.execute("SET LOCAL lock_timeout = 0").await?;
    tx.execute("INSERT INTO schema_turn (only_row, turns) VALUES (TRUE, 0) ON CONFLICT DO NOTHING")
        .await?;
    tx.execute("UPDATE schema_turn SET turns = turns + 1")
        .await?;
    let applied = applied(&mut tx).await?;
    for (version, checksum) in &applied {
        match MIGRATIONS.iter().find(|known| known.version == *version) {
            None => return Err(MigrationError::Newer(*version)),
            Some(known) if *known.checksum != **checksum => {
                return Err(MigrationError::Different(*version));
            }
            Some(_) => {}
        }
    }
    let missing = |known: &&Migration| applied.iter().all(|(version, _)| *version != known.version);
    for migration in MIGRATIONS.iter().filter(missing) {
        sqlx::raw_sql(migration.sql.clone())
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO schema_migrations (version, checksum) VALUES ($1, $2)")
            .bind(migration.version)
            .bind(&*migration.checksum)
            .execute(&mut *tx)
            .await?;
        tracing::info!(version = migration.version, "applied a migration");
    }
    Ok(tx.commit().await?)
}

async fn make_own_tables(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut tries = 1;
    loop {
        let made = connection
            .execute(
                "CREATE TABLE IF NOT EXISTS schema_turn (
                     only_row BOOLEAN PRIMARY KEY CHECK (only_row),
                     turns    BIGINT  NOT NULL
                 );
                 CREATE TABLE IF NOT EXISTS schema_migrations (
                     version  BIGINT PRIMARY KEY,
                     checksum BYTEA  NOT NULL
                 );",
            )
            .await;
        match made {
            Err(error) if tries < TRIES_MAX && by_another(&error) => tries += 1,
            made => return made.map(drop),
        }
    }
}

fn by_another(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| MADE_BY_ANOTHER.contains(&&*code))
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<(i64, Vec<u8>)>, sqlx::Error> {
    let rows = sqlx::query("SELECT version, checksum FROM schema_migrations ORDER BY version")
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}
