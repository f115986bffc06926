//! The outbox of the logs: a table with a row for each commit that brought events, written in the same transaction. It
//! says which events; what they are is read in the logs.
//!
//! The order is that of the positions, and positions become visible in another order than they rise: a transaction that
//! began earlier may end later. So nothing is given at or above the oldest transaction that has not ended, as with
//! positions that clients are told (`history`). Below that nothing is ever added.
//!
//! Each writer says whether what it commits is in the feed. What a writer has committed that does not feed, because it
//! is not set to or is of a version that knows of no feed, is a gap for whoever has not got behind it.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tertulia_kit::error::Result;
use tertulia_services::chats::{Epoch, Event, Position};
use tertulia_services::feed::{Bounds, Entry, Found, Keep, Outbox, Place, Span, places};
use tertulia_services::ids::ChatId;

use super::ChatLog;
use super::fetch::Trouble;
use super::history::POSITION;
use super::reads::on_connection;
use crate::rows::codec::{self, Corrupt, EventKey};

/// The last position below which no commit can still come, as SQL.
const FINAL: &str = "\
    (SELECT base FROM chat_history) + pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1";
/// The place behind which nothing was dropped, and the last commit of who does not feed, as SQL.
const FROM: &str = "\
    SELECT (SELECT COALESCE(MAX(from_place), 0) FROM feed_kept) AS kept,
           (SELECT COALESCE(MAX(position), 0) FROM chat_writers WHERE NOT is_fed) AS unfed";
/// How many commits are dropped in one transaction.
const DROPPED_AT_ONCE_MAX: i64 = 4_096;

/// What a commit brought, and when it was made.
struct Commit {
    position: Position,
    at_ms: i64,
    events: Vec<EventKey>,
}

#[async_trait]
impl Outbox for ChatLog {
    fn epoch(&self) -> Epoch {
        self.shared.server.history.epoch
    }

    async fn after(&self, place: Place, bounds: Bounds) -> Result<Found> {
        on_connection!(self, connection => after(connection, place, bounds))
    }

    async fn span(&self) -> Result<Span> {
        on_connection!(self, connection => span(connection))
    }

    async fn waits_since_ms(&self, place: Place) -> Result<Option<i64>> {
        let (_, commits) = on_connection!(self, connection => commits(connection, place, 2))?;
        let behind = |commit: &Commit| {
            let events = [(commit.position, commit.events.clone())];
            places(events, place).next().is_some()
        };
        let first = commits.iter().find(|commit| behind(commit));
        Ok(first.map(|commit| commit.at_ms))
    }

    async fn drop_old(&self, keep: Keep) -> Result<u64> {
        on_connection!(self, connection => drop_old(connection, keep))
    }
}

async fn after(
    connection: &mut PgConnection,
    place: Place,
    bounds: Bounds,
) -> Result<Found, Trouble> {
    // Of the commits at the position of the place there may be more, and each row has something.
    let limit = i64::try_from(bounds.events_max).unwrap_or(i64::MAX / 2) + 8;
    let (from, commits) = commits(connection, place, limit).await?;
    if place < from {
        return Ok(Found::Gap);
    }
    let commits = commits.into_iter();
    let commits = commits.map(|commit| (commit.position, commit.events));
    let next: Vec<_> = places(commits, place).take(bounds.events_max).collect();
    let events = events(connection, next.iter().map(|(_, key)| *key)).await?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for ((place, _), event) in next.into_iter().zip(events) {
        if bounds.are_met(entries.len(), bytes) {
            break;
        }
        bytes += event.text_bytes();
        let event = Arc::new(event);
        entries.push(Entry { place, event });
    }
    Ok(Found::Events(entries))
}

/// The place from which on there is everything, and at most so many commits from that of a place on; all of one moment.
async fn commits(
    connection: &mut PgConnection,
    place: Place,
    limit: i64,
) -> Result<(Place, Vec<Commit>), Trouble> {
    let found = format!(
        "SELECT f.kept, f.unfed, c.position, c.content FROM ({FROM}) f LEFT JOIN LATERAL (
             SELECT position, writer, content FROM feed_commits
             WHERE position >= $1 AND position <= {FINAL} ORDER BY position, writer LIMIT $2
         ) c ON TRUE ORDER BY c.position, c.writer"
    );
    let found = sqlx::query(AssertSqlSafe(found))
        .bind(place.position().0.cast_signed())
        .bind(limit);
    let rows = found.fetch_all(connection).await?;
    let from = match rows.first() {
        Some(row) => from_place(row.try_get(0)?, row.try_get(1)?),
        None => Place::default(),
    };
    let mut commits = Vec::with_capacity(rows.len());
    for row in &rows {
        // Without a commit there is one row all the same.
        if let Some(position) = row.try_get::<Option<i64>, _>(2)? {
            commits.push(commit(position, row.try_get(3)?)?);
        }
    }
    Ok((from, commits))
}

fn commit(position: i64, content: &[u8]) -> Result<Commit, Corrupt> {
    let (at_ms, events) = codec::read_fed(content)?;
    Ok(Commit {
        position: Position(position.cast_unsigned()),
        at_ms,
        events,
    })
}

fn from_place(kept: i64, unfed: i64) -> Place {
    let kept = Place(kept.cast_unsigned());
    match unfed {
        0 => kept,
        unfed => kept.max(Place::behind(Position(unfed.cast_unsigned()))),
    }
}

/// Events by their keys, all of which are there, in the order of the keys.
async fn events(
    connection: &mut PgConnection,
    keys: impl Iterator<Item = EventKey>,
) -> Result<Vec<Event>, Trouble> {
    let (chats, seqs): (Vec<i64>, Vec<i64>) = keys.map(|(chat, seq)| (chat.0, seq)).unzip();
    if chats.is_empty() {
        return Ok(Vec::new());
    }
    let found = sqlx::query(
        "SELECT e.chat_id, e.seq, e.content
         FROM UNNEST($1::bigint[], $2::bigint[]) WITH ORDINALITY AS wanted (chat_id, seq, n)
         JOIN chat_events e ON e.chat_id = wanted.chat_id AND e.seq = wanted.seq ORDER BY n",
    );
    let rows = found.bind(&chats).bind(&seqs).fetch_all(connection).await?;
    if rows.len() != chats.len() {
        return Err(Corrupt("an event of the feed").into());
    }
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let (chat, seq) = (ChatId(row.try_get(0)?), row.try_get(1)?);
        let (_, event) = codec::read_event(row.try_get(2)?, chat, seq)?;
        events.push(event);
    }
    Ok(events)
}

async fn span(connection: &mut PgConnection) -> Result<Span, Trouble> {
    let found = format!("SELECT f.kept, f.unfed, ({POSITION}), {FINAL} FROM ({FROM}) f");
    let found = sqlx::query(AssertSqlSafe(found));
    let row = found.fetch_one(connection).await?;
    let from = from_place(row.try_get(0)?, row.try_get(1)?);
    let end: i64 = row.try_get(2)?;
    Ok(Span {
        from,
        end: Place::behind(Position(end.cast_unsigned())),
    })
}

/// Drops a part of what is old, whole positions.
async fn drop_old(connection: &mut PgConnection, keep: Keep) -> Result<u64, Trouble> {
    let mut tx = connection.begin().await?;
    let newest = "SELECT COALESCE(MAX(position), 0) FROM chat_writers";
    let newest: i64 = sqlx::query_scalar(newest).fetch_one(&mut *tx).await?;
    let oldest = format!(
        "SELECT position, content FROM feed_commits WHERE position <= {FINAL}
         ORDER BY position, writer LIMIT $1"
    );
    let oldest = sqlx::query(AssertSqlSafe(oldest)).bind(DROPPED_AT_ONCE_MAX);
    let rows = oldest.fetch_all(&mut *tx).await?;
    let mut old: Vec<Commit> = Vec::new();
    for row in &rows {
        let commit = commit(row.try_get(0)?, row.try_get(1)?)?;
        let age = newest.cast_unsigned().saturating_sub(commit.position.0);
        if commit.at_ms >= keep.since_ms && age < keep.commits_max {
            // What stands beside it at its position stays with it.
            old.retain(|one| one.position != commit.position);
            break;
        }
        old.push(commit);
    }
    if i64::try_from(old.len()).is_ok_and(|count| count == DROPPED_AT_ONCE_MAX) {
        // There may be more at the last position.
        let last = old.last().map(|commit| commit.position);
        old.retain(|one| Some(one.position) != last);
    }
    let commits = old.into_iter().map(|one| (one.position, one.events));
    let last = places(commits, Place(0)).last().map(|(place, _)| place);
    let mut count = 0;
    if let Some(last) = last {
        let gone = sqlx::query("DELETE FROM feed_commits WHERE position <= $1");
        let gone = gone.bind(last.position().0.cast_signed());
        count = gone.execute(&mut *tx).await?.rows_affected();
    }
    // Writers are forgotten when they are long behind, and that some did not feed must not be forgotten with them.
    let unfed = "SELECT COALESCE(MAX(position), 0) FROM chat_writers WHERE NOT is_fed";
    let unfed: i64 = sqlx::query_scalar(unfed).fetch_one(&mut *tx).await?;
    let from = from_place(0, unfed).max(last.unwrap_or_default());
    if from > Place(0) {
        sqlx::query(
            "INSERT INTO feed_kept (only_row, from_place) VALUES (TRUE, $1)
             ON CONFLICT (only_row) DO UPDATE SET from_place = excluded.from_place
             WHERE feed_kept.from_place < excluded.from_place",
        )
        .bind(from.0.cast_signed())
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(count)
}
