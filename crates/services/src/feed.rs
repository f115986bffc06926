//! The feed: everything that was committed to the logs of chats, in one order, for who must miss nothing of it: an
//! export, a search index, a sender of pushes. Live delivery does not go this way.
//!
//! ```text
//!   commit ──► log ────► readers
//!      └─────► outbox ─► fetch ─► consumer ─► acknowledge ─► its place
//! ```
//! A *consumer* has a name and a place that outlives everything. It is given what follows its place until it
//! acknowledges it: each event at least once, those of a chat in the order of its log, nothing left out. Who applies
//! events by their place, or by chat and seq, does nothing twice. What can not be given any more is a failure
//! (`FEED_GAP`, `FEED_RESTARTED`), and never a shorter answer.

pub mod memory;
pub mod model;
pub mod ports;
pub mod relay;
#[cfg(any(test, feature = "suites"))]
pub mod suite;

use std::sync::Arc;
use std::time::Duration;

use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;
use tertulia_kit::metrics::Counter;
use tokio::time::{Instant, sleep};

use crate::access::NodeCaller;
use crate::chats::Position;
use crate::errors;

pub use model::*;
pub use ports::*;

/// How many events are given at once at most.
pub const EVENTS_MAX: usize = 500;
/// How many bytes of text are given at once, about.
pub const BYTES_MAX: usize = 1 << 20;
/// How long a fetch waits for something at most.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often somebody who waits looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many consumers there may be, about.
pub const CONSUMERS_MAX: usize = 100;

/// How much is kept for consumers, each with its unit.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// For how long.
    pub keep: Duration,
    /// How many commits.
    pub keep_commits_max: u64,
}

/// The service.
pub struct Feed {
    /// None when no feed is kept.
    outbox: Option<Arc<dyn Outbox>>,
    consumers: Arc<dyn Consumers>,
    options: Options,
    clock: SharedClock,
    /// How many events were given.
    pub given: Counter,
    /// How often a consumer was told that it can not go on.
    pub gaps: Counter,
    /// How many commits were dropped.
    pub dropped: Counter,
}

impl Feed {
    /// A feed of what is in this outbox; without one every call is refused.
    pub fn new(
        outbox: Option<Arc<dyn Outbox>>,
        consumers: Arc<dyn Consumers>,
        options: Options,
        clock: SharedClock,
    ) -> Arc<Feed> {
        Arc::new(Feed {
            outbox,
            consumers,
            options,
            clock,
            given: Counter::default(),
            gaps: Counter::default(),
            dropped: Counter::default(),
        })
    }

    /// Whether one is kept.
    pub fn is_kept(&self) -> bool {
        self.outbox.is_some()
    }

    /// Makes a consumer, unless there is one of that name; that one stays where it is.
    ///
    /// # Errors
    /// `FEED_OFF`, `TOO_MANY`, or the failure of the store.
    pub async fn make(&self, _: &NodeCaller, name: &str, begin: Begin) -> Result<Consumer> {
        let outbox = self.outbox()?;
        if let Some(there) = self.consumers.named(name).await? {
            return Ok(there);
        }
        if self.consumers.all().await?.len() >= CONSUMERS_MAX {
            return Err(errors::too_many(format!(
                "there are {CONSUMERS_MAX} consumers of the feed"
            )));
        }
        let span = outbox.span().await?;
        let now_ms = self.clock.now_ms();
        let consumer = Consumer {
            name: name.to_owned(),
            id: ConsumerId(rand::random_range(1..i64::MAX)),
            epoch: outbox.epoch(),
            place: match begin {
                Begin::Beginning => span.from,
                Begin::Now => span.end,
            },
            made_at_ms: now_ms,
            moved_at_ms: now_ms,
        };
        self.consumers.make(consumer).await
    }

    /// All consumers, by name, and how they stand.
    ///
    /// # Errors
    /// `FEED_OFF`, or the failure of the store.
    pub async fn consumers(&self, _: &NodeCaller) -> Result<Vec<Standing>> {
        self.standings().await
    }

    /// Forgets a consumer.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`, or the failure of the store.
    pub async fn remove(&self, _: &NodeCaller, name: &str) -> Result<()> {
        match self.consumers.remove(name).await? {
            true => Ok(()),
            false => Err(errors::consumer_not_found()),
        }
    }

    /// What follows the place of a consumer, at most [`EVENTS_MAX`] events. When there is nothing it waits for so long,
    /// at most [`WAIT_MAX`], and then gives nothing. The consumer stays where it is.
    ///
    /// # Errors
    /// `FEED_OFF`, `CONSUMER_NOT_FOUND`, `FEED_GAP`, `FEED_RESTARTED`, or the failure of the store.
    pub async fn fetch(
        &self,
        _: &NodeCaller,
        name: &str,
        events_max: usize,
        wait: Duration,
    ) -> Result<Batch> {
        let outbox = self.outbox()?;
        let until = Instant::now() + wait.min(WAIT_MAX);
        let bounds = Bounds {
            events_max: events_max.clamp(1, EVENTS_MAX),
            bytes_max: BYTES_MAX,
        };
        loop {
            // Asked for each time: it may be removed, or acknowledge elsewhere, meanwhile.
            let consumer = self.consumers.named(name).await?;
            let consumer = consumer.ok_or_else(errors::consumer_not_found)?;
            if consumer.epoch != outbox.epoch() {
                self.gaps.add(1);
                return Err(errors::feed_restarted());
            }
            let Found::Events(entries) = outbox.after(consumer.place, bounds).await? else {
                self.gaps.add(1);
                return Err(errors::feed_gap());
            };
            if !entries.is_empty() || Instant::now() + LOOK_EVERY > until {
                self.given.add(entries.len() as u64);
                return Ok(Batch {
                    consumer: consumer.id,
                    epoch: consumer.epoch,
                    entries,
                });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// A consumer has taken everything up to a place. Of several acknowledgements the furthest counts.
    ///
    /// # Errors
    /// `FEED_OFF`, `CONSUMER_NOT_FOUND` when it was removed, also when one of its name was made since, `INVALID_REQUEST`
    /// when nobody was given that place, or the failure of the store.
    pub async fn acknowledge(&self, _: &NodeCaller, id: ConsumerId, place: Place) -> Result<()> {
        // What was never given must not be skipped, whoever makes a mistake.
        if place > self.outbox()?.span().await?.end {
            return Err(errors::invalid_field(
                "place",
                "given",
                "must be a place that was fetched",
            ));
        }
        let now_ms = self.clock.now_ms();
        match self.consumers.acknowledge(id, place, now_ms).await? {
            true => Ok(()),
            false => Err(errors::consumer_not_found()),
        }
    }

    /// Drops what is kept for longer than it should be, part by part; nothing when no feed is kept.
    ///
    /// # Errors
    /// The failure of the store; what was dropped until then is.
    pub async fn drop_old(&self) -> Result<()> {
        let Some(outbox) = &self.outbox else {
            return Ok(());
        };
        let kept_ms = i64::try_from(self.options.keep.as_millis()).unwrap_or(i64::MAX);
        let keep = Keep {
            since_ms: self.clock.now_ms().saturating_sub(kept_ms),
            commits_max: self.options.keep_commits_max,
        };
        loop {
            let dropped = outbox.drop_old(keep).await?;
            self.dropped.add(dropped);
            if dropped == 0 {
                return Ok(());
            }
        }
    }

    /// All consumers, by name, and how they stand.
    ///
    /// # Errors
    /// `FEED_OFF`, or the failure of the store.
    pub async fn standings(&self) -> Result<Vec<Standing>> {
        let outbox = self.outbox()?;
        let span = outbox.span().await?;
        let mut standings = Vec::new();
        for consumer in self.consumers.all().await? {
            let goes_on = consumer.epoch == outbox.epoch() && consumer.place >= span.from;
            standings.push(Standing {
                waits_since_ms: outbox.waits_since_ms(consumer.place).await?,
                is_stuck: !goes_on,
                consumer,
            });
        }
        Ok(standings)
    }

    fn outbox(&self) -> Result<&Arc<dyn Outbox>> {
        self.outbox.as_ref().ok_or_else(errors::feed_off)
    }
}

/// What an outbox gives of the rows of its commits: `commits` are positions with what each holds, in the order of the
/// feed; those of one position count on. Skips what is not behind `place`.
pub fn places<T>(
    commits: impl IntoIterator<Item = (Position, Vec<T>)>,
    place: Place,
) -> impl Iterator<Item = (Place, T)> {
    let mut before = (Position(0), 0);
    let placed = commits.into_iter().flat_map(move |(position, items)| {
        let first = match before.0 == position {
            true => before.1,
            false => 0,
        };
        before = (position, first + items.len());
        let items = items.into_iter().enumerate();
        items.map(move |(n, item)| (Place::of(position, first + n), item))
    });
    placed.filter(move |(at, _)| *at > place)
}

#[cfg(test)]
mod tests;
