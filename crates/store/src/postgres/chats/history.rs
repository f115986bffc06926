//! Which history a database holds, and where its commits stand in one order.
//!
//! Nodes commit at the same time, and no row is written by all of them, or each commit would wait for all others.
//! So a commit takes its number from the database: that of its transaction. Numbers are given when transactions
//! begin and not when they end, and a reader may see a later one before an earlier one has ended. What a reader
//! is told as its position is therefore the newest number of any writer, but never one that a transaction could
//! still undercut: `pg_snapshot_xmin` is the oldest that has not ended.
//!
//! ```text
//! number   101   102   103   104            101, 102 and 104 have ended, 103 has not:
//!           ■     ■     □     ■             the position is 102, and 104 will be told again
//! ```
//! A copy of the database that is restored elsewhere has other numbers. It is seen when it is opened (`place`),
//! begins a new history (epoch), and its numbers go on above the old ones (`base`). So does a standby that takes
//! over: it may lack what was acknowledged last, and would give the seqs of that again. The server counts such
//! moments (its timeline); each connection is asked for it before anything else, and a node that finds another one
//! than it has begun with begins anew.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tertulia_services::chats::Epoch;
use thiserror::Error;

/// The position now, as SQL.
pub const POSITION: &str = "\
    SELECT LEAST(
        (SELECT COALESCE(MAX(position), 0) FROM chat_writers),
        (SELECT base FROM chat_history) + pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1)";

/// Which database this is, as SQL: not the same in a copy of it somewhere else.
pub const PLACE: &str = "\
    (SELECT system_identifier::text FROM pg_control_system())
    || '/' || (SELECT oid::text FROM pg_database WHERE datname = current_database())";

/// Which standby the server is that took over, as SQL: another word after each time. Empty as long as it follows
/// another server and takes no writes.
const TIMELINE: &str = "\
    CASE WHEN pg_is_in_recovery() THEN ''
         ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END";

/// What is remembered of it under this name beside what nodes agree on.
const AGREED: &str = "timeline";

/// The place of a history that is still on its way into here.
pub const ON_ITS_WAY: &str = "on its way";

/// Why a history can not be opened.
#[derive(Debug, Error)]
pub enum Closed {
    /// It comes out of an embedded store, and not all of it is here.
    #[error(
        "what is being moved into the database has not all arrived; go on with `tertulia migrate-store`, \
         or take an empty database"
    )]
    OnItsWay,
    /// The database says no.
    #[error(transparent)]
    Engine(#[from] sqlx::Error),
}

/// What the commits of this node are numbered from.
#[derive(Debug, Clone)]
pub struct History {
    pub epoch: Epoch,
    pub base: u64,
    /// Of the server that it was opened on.
    timeline: String,
}

impl History {
    /// Whether a connection leads to the server that the history was opened on, or to one that goes on from an
    /// earlier moment.
    ///
    /// # Errors
    /// When the server does not answer, or takes no writes yet.
    pub async fn goes_on(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        Ok(timeline(connection).await? == self.timeline)
    }
}

async fn timeline(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let asked = sqlx::query_scalar(AssertSqlSafe(format!("SELECT {TIMELINE}")));
    let timeline: String = asked.fetch_one(connection).await?;
    match timeline.is_empty() {
        true => Err(sqlx::Error::Protocol("the server is a standby".into())),
        false => Ok(timeline),
    }
}

/// Finds out which history it is, or begins one. Nodes that open at the same time take turns. `standby_has_all`: who
/// takes over has everything that was acknowledged, and the history goes on.
pub async fn open(connection: &mut PgConnection, standby_has_all: bool) -> Result<History, Closed> {
    let mut tx = connection.begin().await?;
    sqlx::query(
        "INSERT INTO chat_history (only_row, epoch, place, base) VALUES (TRUE, 0, '', 0)
         ON CONFLICT DO NOTHING",
    )
    .execute(&mut *tx)
    .await?;
    let asked = format!("SELECT epoch, base, place, {PLACE} FROM chat_history FOR UPDATE");
    let asked = sqlx::query(AssertSqlSafe(asked));
    let row = asked.fetch_one(&mut *tx).await?;
    let (was, is): (String, String) = (row.try_get(2)?, row.try_get(3)?);
    if was == ON_ITS_WAY {
        return Err(Closed::OnItsWay);
    }
    let timeline = timeline(&mut tx).await?;
    let before = agree_on(&mut tx, &timeline).await?;
    let took_over = before.is_some_and(|before| before != timeline);
    if was == is && (standby_has_all || !took_over) {
        tx.commit().await?;
        return Ok(History {
            epoch: Epoch(row.try_get::<i64, _>(0)?.cast_unsigned()),
            base: row.try_get::<i64, _>(1)?.cast_unsigned(),
            timeline,
        });
    }
    let epoch = Epoch(rand::random());
    let base: i64 = sqlx::query_scalar(
        "UPDATE chat_history
         SET epoch = $1, place = $2, base = (SELECT COALESCE(MAX(position), 0) FROM chat_writers)
         RETURNING base",
    )
    .bind(epoch.0.cast_signed())
    .bind(&is)
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    match took_over {
        true => tracing::warn!(
            timeline,
            "a standby took over, which may lack what was acknowledged last: began a new history of chats"
        ),
        false => tracing::info!(place = is, "began a history of chats"),
    }
    Ok(History {
        epoch,
        base: base.cast_unsigned(),
        timeline,
    })
}

/// Remembers the timeline, and gives the one from before, if there was one.
async fn agree_on(
    connection: &mut PgConnection,
    timeline: &str,
) -> Result<Option<String>, sqlx::Error> {
    let before = sqlx::query_scalar("SELECT word FROM agreements WHERE about = $1");
    let before: Option<String> = before.bind(AGREED).fetch_optional(&mut *connection).await?;
    if before.as_deref() != Some(timeline) {
        sqlx::query(
            "INSERT INTO agreements (about, word) VALUES ($1, $2)
             ON CONFLICT (about) DO UPDATE SET word = excluded.word",
        )
        .bind(AGREED)
        .bind(timeline)
        .execute(connection)
        .await?;
    }
    Ok(before)
}

/// Forgets writers that are long behind. One that is not gone makes its row anew before it writes.
pub async fn forget_writers(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM chat_writers WHERE position < (SELECT MAX(position) - 1000000 FROM chat_writers)",
    )
    .execute(connection)
    .await
    .map(drop)
}
