//! Brings the tables up to date.
//!
//! Nodes that start together take turns by a row: whoever has updated it applies what is missing in the same
//! transaction, and whoever waited for it finds nothing left to do. What was applied is remembered with its
//! checksum.
//!
//! Nodes of two versions run side by side while a deployment is brought up to date, and an older one may be started
//! again. So a migration only adds, and what older nodes still use goes in a later release: by a migration that is
//! on the list of those which [`TAKE_AWAY`]. It is remembered with each which version a node must know at least.

use std::time::Duration;

use sqlx::migrate::{Migration, Migrator};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use thiserror::Error;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// The migrations after which nodes that do not know them can not go on, because something is gone that they use.
const TAKE_AWAY: &[i64] = &[];

/// How long a migration waits for a table at first and at most: so long everybody else waits behind it. Between two
/// tries the others have some times as much.
const LOCK_WAIT_FIRST: Duration = Duration::from_millis(200);
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
const PAUSE_FACTOR: u32 = 4;
/// After how many tries it is said again that it waits; once in two or three minutes.
const SAID_EVERY: u32 = 16;
/// The engine's code for a lock that was waited for too long.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// How often the two tables below are tried to be made while others do the same.
const TRIES_MAX: usize = 10;
/// The engine's codes for what two makers of one table tell each other: it, its type or its row in
/// a catalogue is there.
const MADE_BY_ANOTHER: [&str; 5] = ["42P07", "42710", "23505", "40001", "40P01"];

/// Why the tables can not be brought up to date.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// A newer version of this program has taken away what this one uses.
    #[error(
        "a newer version has changed it so that this one can not use it (migration {0}); take that version, or a \
         backup from before it"
    )]
    Newer(i64),
    /// An applied migration is not the one that is known here.
    #[error("its migration {0} is not the one of this version")]
    Different(i64),
    /// The database says no.
    #[error(transparent)]
    Engine(#[from] sqlx::Error),
}

/// Applies what is missing. Waits for its turn and for the tables as long as it takes.
///
/// Whoever waits for a whole table has everybody wait behind it who comes after, so that one long reader, such as a
/// backup, would stop the deployment. So a table is waited for a short while only; then everybody else goes first,
/// and it is tried again.
pub async fn run(connection: &mut PgConnection) -> Result<(), MigrationError> {
    make_own_tables(connection).await?;
    let mut tries = 0;
    loop {
        match apply(connection, lock_wait(tries)).await {
            Err(MigrationError::Engine(error)) if is_of_a_lock(&error) => {}
            done => return done,
        }
        if tries % SAID_EVERY == 0 {
            tracing::warn!(
                "the tables can not be brought up to date while another session of the database has one of them, \
                 such as a backup; it is tried again until it ends"
            );
        }
        tokio::time::sleep(lock_wait(tries) * PAUSE_FACTOR).await;
        tries += 1;
    }
}

/// How long a table is waited for after so many tries.
fn lock_wait(tries: u32) -> Duration {
    let wait = LOCK_WAIT_FIRST.saturating_mul(2_u32.saturating_pow(tries));
    wait.min(LOCK_WAIT_MAX)
}

fn is_of_a_lock(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == LOCK_NOT_AVAILABLE)
}

async fn apply(connection: &mut PgConnection, lock_wait: Duration) -> Result<(), MigrationError> {
    let mut tx = connection.begin().await?;
    // A migration may take as long as it takes, and so may the wait for another node's.
    tx.execute("SET LOCAL statement_timeout = 0").await?;
    tx.execute("SET LOCAL lock_timeout = 0").await?;
    tx.execute("INSERT INTO schema_turn (only_row, turns) VALUES (TRUE, 0) ON CONFLICT DO NOTHING")
        .await?;
    tx.execute("UPDATE schema_turn SET turns = turns + 1")
        .await?;
    sqlx::query("SELECT set_config('lock_timeout', $1, TRUE)")
        .bind(format!("{}ms", lock_wait.as_millis()))
        .execute(&mut *tx)
        .await?;
    let knows_needs: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM information_schema.columns WHERE table_schema = current_schema()
             AND table_name = 'schema_migrations' AND column_name = 'needs')",
    )
    .fetch_one(&mut *tx)
    .await?;
    if !knows_needs {
        // Within the turn: outside, it would wait for a migration of another node, and not for long enough.
        tx.execute("ALTER TABLE schema_migrations ADD COLUMN needs BIGINT NOT NULL DEFAULT 0")
            .await?;
    }
    let applied = applied(&mut tx).await?;
    check(&applied)?;
    let missing = |known: &&Migration| applied.iter().all(|one| one.version != known.version);
    for migration in MIGRATIONS.iter().filter(missing) {
        sqlx::raw_sql(migration.sql.clone())
            .execute(&mut *tx)
            .await?;
        let takes_away = TAKE_AWAY.contains(&migration.version);
        sqlx::query("INSERT INTO schema_migrations (version, checksum, needs) VALUES ($1, $2, $3)")
            .bind(migration.version)
            .bind(&*migration.checksum)
            .bind(if takes_away { migration.version } else { 0 })
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

/// A migration that the tables have seen.
struct Applied {
    version: i64,
    checksum: Vec<u8>,
    /// Who does not know this one can not use the tables any more; 0 when anybody can.
    needs: i64,
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<Applied>, sqlx::Error> {
    let asked = "SELECT version, checksum, needs FROM schema_migrations ORDER BY version";
    let rows = sqlx::query(asked).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(Applied {
                version: row.try_get(0)?,
                checksum: row.try_get(1)?,
                needs: row.try_get(2)?,
            })
        })
        .collect()
}

/// Whether this version can use tables to which all of this was done.
fn check(applied: &[Applied]) -> Result<(), MigrationError> {
    let known = |version| MIGRATIONS.iter().find(|known| known.version == version);
    let needed = applied.iter().map(|one| one.needs).filter(|it| *it != 0);
    if let Some(needed) = needed.max().filter(|needed| known(*needed).is_none()) {
        return Err(MigrationError::Newer(needed));
    }
    for one in applied {
        match known(one.version) {
            Some(known) if *known.checksum != *one.checksum => {
                return Err(MigrationError::Different(one.version));
            }
            Some(_) => {}
            None => tracing::info!(
                version = one.version,
                "a newer version has added to the tables, which does not disturb this one"
            ),
        }
    }
    Ok(())
}
