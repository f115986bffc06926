//! The outbox of the logs: a table with a row for each commit that brought events, written in the same batch. It says
//! which events; what they are is read in the logs.
//!
//! Each commit also says that the feed has it. So a start finds out whether there were others in between, made while no
//! feed was kept or by a version that knows of none, and then the feed begins anew behind them.

use std::sync::Arc;

use async_trait::async_trait;
use tertulia_kit::error::Result;
use tertulia_services::chats::{Epoch, Position};
use tertulia_services::errors;
use tertulia_services::feed::{Bounds, Entry, Found, Keep, Outbox, Place, Span, places};

use super::ChatLog;
use super::disk::{Batch, Disk, META_FED, META_FED_FROM, Table};
use super::engine::read_number;
use super::reader::Reader;
use super::shared::Shared;
use crate::rows::codec::{self, Corrupt, EventKey};
use crate::rows::corrupt;

/// How many rows are dropped in one batch: the writer waits that long.
const DROPPED_AT_ONCE_MAX: usize = 4_096;

/// Makes sure that the feed has everything behind the place from which on it says so.
pub fn begin(disk: &Disk) -> Result<()> {
    let position = disk.position()?;
    let fed = disk.moment().get(Table::Meta, META_FED.as_bytes())?;
    let fed = fed.map(|fed| read_number(Some(fed))).transpose()?;
    if fed == Some(position) || (fed.is_none() && position == 0) {
        return Ok(());
    }
    tracing::info!(
        position,
        "the feed begins behind what was committed without it"
    );
    let from = Place::behind(Position(position));
    let mut batch = Batch::new();
    batch.insert(Table::Meta, META_FED.as_bytes(), &position.to_be_bytes());
    batch.insert(Table::Meta, META_FED_FROM.as_bytes(), &from.0.to_be_bytes());
    disk.commit(&mut batch)
}

#[async_trait]
impl Outbox for ChatLog {
    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    async fn after(&self, place: Place, bounds: Bounds) -> Result<Found> {
        self.read(usize::MAX, move |shared| {
            is_kept(shared)?;
            let reader = shared.disk.reader();
            if place < reader.fed_from()? {
                return Ok(Found::Gap);
            }
            let (mut entries, mut bytes) = (Vec::new(), 0);
            // Of the commit of the place there may be more, and each row has something.
            let rows = reader.commits(place.position(), bounds.events_max + 1);
            let commits: Vec<_> = rows.collect::<Result<_>>()?;
            let commits = commits.into_iter().map(|(at, _, events)| (at, events));
            for (place, (chat, seq)) in places(commits, place) {
                if bounds.are_met(entries.len(), bytes) {
                    break;
                }
                let event = reader.event(chat, seq)?;
                let event = event.ok_or_else(|| corrupt(Corrupt("an event of the feed")))?;
                bytes += event.text_bytes();
                let event = Arc::new(event);
                entries.push(Entry { place, event });
            }
            Ok(Found::Events(entries))
        })
        .await
    }

    async fn span(&self) -> Result<Span> {
        let reader = self.shared.disk.reader();
        Ok(Span {
            from: reader.fed_from()?,
            end: Place::behind(Position(reader.position()?)),
        })
    }

    async fn waits_since_ms(&self, place: Place) -> Result<Option<i64>> {
        is_kept(&self.shared)?;
        let reader = self.shared.disk.reader();
        for row in reader.commits(place.position(), 2) {
            let (position, at_ms, events) = row?;
            if places([(position, events)], place).next().is_some() {
                return Ok(Some(at_ms));
            }
        }
        Ok(None)
    }

    async fn drop_old(&self, keep: Keep) -> Result<u64> {
        self.read(usize::MAX, move |shared| drop_old(shared, keep))
            .await
    }
}

/// Drops a part of what is old. It is not the writer who does, but nobody else touches these rows once they are there.
fn drop_old(shared: &Shared, keep: Keep) -> Result<u64> {
    is_kept(shared)?;
    let reader = shared.disk.reader();
    let newest = reader.position()?;
    let mut batch = Batch::new();
    let (mut last, mut count) = (None, 0);
    for row in reader.commits(Position(0), DROPPED_AT_ONCE_MAX) {
        let (position, at_ms, events) = row?;
        if at_ms >= keep.since_ms && newest - position.0 < keep.commits_max {
            break;
        }
        batch.remove(Table::Feed, &position.0.to_be_bytes());
        count += 1;
        last = Some(Place::of(position, events.len().saturating_sub(1)));
    }
    let Some(last) = last else {
        return Ok(0);
    };
    let from = last.max(reader.fed_from()?);
    batch.insert(Table::Meta, META_FED_FROM.as_bytes(), &from.0.to_be_bytes());
    // So that nobody reads at this moment any more.
    drop(reader);
    shared.disk.commit(&mut batch)?;
    Ok(count)
}

fn is_kept(shared: &Shared) -> Result<()> {
    let is_kept = shared.disk.is_fed.then_some(());
    is_kept.ok_or_else(errors::feed_off)
}

impl Reader<'_> {
    /// The place behind which the feed has everything.
    fn fed_from(&self) -> Result<Place> {
        let from = self.get(Table::Meta, META_FED_FROM.as_bytes())?;
        let from = from.map(|from| read_number(Some(from))).transpose()?;
        Ok(Place(from.unwrap_or_default()))
    }

    /// The commits of the feed from one on, at most so many: when each was made and what it brought.
    fn commits(
        &self,
        from: Position,
        limit: usize,
    ) -> impl Iterator<Item = Result<(Position, i64, Vec<EventKey>)>> {
        let rows = self.range(Table::Feed, from.0.to_be_bytes()..).take(limit);
        rows.map(|row| {
            let (key, bytes) = row?;
            let position = Position(read_number(Some(key))?);
            let (at_ms, events) = codec::read_fed(&bytes).map_err(corrupt)?;
            Ok((position, at_ms, events))
        })
    }
}
