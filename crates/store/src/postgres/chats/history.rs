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
//! begins a new history (epoch), and its numbers go on above the old ones (`base`).

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
#[derive(Debug, Clone, Copy)]
pub struct History {
    pub epoch: Epoch,
    pub base: u64,
}

/// Finds out which history it is, or begins one. Nodes that open at the same time take turns.
pub async fn open(connection: &mut PgConnection) -> Result<History, Closed> {
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
    if was == is {
        tx.rollback().await?;
        return Ok(History {
            epoch: Epoch(row.try_get::<i64, _>(0)?.cast_unsigned()),
            base: row.try_get::<i64, _>(1)?.cast_unsigned(),
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
    tracing::info!(place = is, "began a history of chats");
    Ok(History {
        epoch,
        base: base.cast_unsigned(),
    })
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
