//! The plain adapters: the outbox of the logs in memory, which is those logs themselves, read by position; and consumers
//! in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tertulia_kit::error::Result;

use super::model::*;
use super::places;
use super::ports::{Consumers, Outbox};
use crate::chats::memory::Memory;
use crate::chats::{ChatStore as _, Epoch, Event, Position};

#[async_trait]
impl Outbox for Memory {
    fn epoch(&self) -> Epoch {
        self.history()
    }

    async fn after(&self, place: Place, bounds: Bounds) -> Result<Found> {
        let (kept_from, commits) = self.commits();
        if place < kept_from {
            return Ok(Found::Gap);
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for (place, event) in places(commits, place) {
            if bounds.are_met(entries.len(), bytes) {
                break;
            }
            bytes += event.text_bytes();
            entries.push(Entry { place, event });
        }
        Ok(Found::Events(entries))
    }

    async fn span(&self) -> Result<Span> {
        Ok(Span {
            from: self.commits().0,
            end: Place::behind(self.position().await?),
        })
    }

    async fn waits_since_ms(&self, place: Place) -> Result<Option<i64>> {
        let (_, commits) = self.commits();
        let first = places(commits, place).next();
        Ok(first.map(|(_, event)| event.at_ms))
    }

    async fn drop_old(&self, keep: Keep) -> Result<u64> {
        let (kept_from, commits) = self.commits();
        let newest = self.position().await?.0;
        let is_old = |(position, events): &(Position, Vec<Arc<Event>>)| {
            newest.saturating_sub(position.0) >= keep.commits_max
                || events.iter().all(|event| event.at_ms < keep.since_ms)
        };
        let there = commits.into_iter();
        let there = there.filter(|(position, _)| *position > kept_from.position());
        let old: Vec<_> = there.take_while(is_old).collect();
        if let Some((position, events)) = old.last() {
            self.keep_from(Place::of(*position, events.len() - 1));
        }
        Ok(old.len() as u64)
    }
}

/// Consumers by name. Gone with the process.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Guards all of them, for a few lines.
    by_name: Mutex<BTreeMap<String, Consumer>>,
}

#[async_trait]
impl Consumers for Remembered {
    async fn all(&self) -> Result<Vec<Consumer>> {
        Ok(self.by_name.lock().values().cloned().collect())
    }

    async fn named(&self, name: &str) -> Result<Option<Consumer>> {
        Ok(self.by_name.lock().get(name).cloned())
    }

    async fn make(&self, consumer: Consumer) -> Result<Consumer> {
        let mut by_name = self.by_name.lock();
        let name = consumer.name.clone();
        Ok(by_name.entry(name).or_insert(consumer).clone())
    }

    async fn acknowledge(&self, id: ConsumerId, place: Place, at_ms: i64) -> Result<bool> {
        let mut by_name = self.by_name.lock();
        let Some(consumer) = by_name.values_mut().find(|consumer| consumer.id == id) else {
            return Ok(false);
        };
        if place > consumer.place {
            consumer.place = place;
            consumer.moved_at_ms = at_ms;
        }
        Ok(true)
    }

    async fn remove(&self, name: &str) -> Result<bool> {
        Ok(self.by_name.lock().remove(name).is_some())
    }
}
