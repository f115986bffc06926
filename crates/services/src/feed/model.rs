//! The nouns of the feed.

use std::sync::Arc;

use crate::chats::{Epoch, Event, Position};

/// Where an event stands in the feed. Places rise in the order of the feed and have holes; of one event the place
/// never changes. 0 stands before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place(pub u64);

/// How many bits of a place count the events of one commit; the others are the commit's position. A commit has some
/// thousands of events at most, and positions stay far below 2^43.
const COUNT_BITS: u32 = 20;

impl Place {
    /// Of the `n`th event of a commit, counted from 0.
    pub fn of(position: Position, n: usize) -> Place {
        debug_assert!(n < (1 << COUNT_BITS), "a commit of a million events");
        Place((position.0 << COUNT_BITS) | n as u64)
    }

    /// Behind everything of a commit.
    pub fn behind(position: Position) -> Place {
        Place((position.0 << COUNT_BITS) | ((1 << COUNT_BITS) - 1))
    }

    /// The commit.
    pub fn position(self) -> Position {
        Position(self.0 >> COUNT_BITS)
    }
}

/// An event in the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub place: Place,
    /// What; a message as it is now.
    pub event: Arc<Event>,
}

/// What is asked for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many events at most; at least 1.
    pub events_max: usize,
    /// How many bytes of text, about. The first event comes however large it is.
    pub bytes_max: usize,
}

impl Bounds {
    /// Whether so many events with so many bytes are enough.
    pub fn are_met(&self, events: usize, bytes: usize) -> bool {
        events >= self.events_max || (events > 0 && bytes >= self.bytes_max)
    }
}

/// What follows a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The next events, without one left out; none when there are none now.
    Events(Vec<Entry>),
    /// Something that followed is not kept any more, or was committed while no feed was kept.
    Gap,
}

/// What of the feed there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Everything behind this place is there.
    pub from: Place,
    /// Nothing is behind this place now.
    pub end: Place,
}

/// How much is kept for consumers that are behind. What is beyond either bound is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// What was committed before, in milliseconds since 1970, is not kept.
    pub since_ms: i64,
    /// What was committed more than so many commits ago is not kept.
    pub commits_max: u64,
}

/// Names one making of a consumer, so that who follows one that was removed and made again does not move it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConsumerId(pub i64);

/// Somebody who follows the feed, and how far that has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name, unique.
    pub name: String,
    /// Drawn when it was made.
    pub id: ConsumerId,
    /// The history that it follows.
    pub epoch: Epoch,
    /// Everything up to here was acknowledged.
    pub place: Place,
    /// When it was made, in milliseconds since 1970.
    pub made_at_ms: i64,
    /// When it acknowledged last, in milliseconds since 1970.
    pub moved_at_ms: i64,
}

/// Where a new consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With the oldest event that is kept.
    Beginning,
    /// With what is committed after it was made.
    Now,
}

/// A consumer as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The consumer.
    pub consumer: Consumer,
    /// Since when the oldest event waits that it has not acknowledged, in milliseconds since 1970; none when it has
    /// everything.
    pub waits_since_ms: Option<i64>,
    /// It can not go on: what followed its place is gone, or history is another one.
    pub is_stuck: bool,
}

/// The next events for a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Which making of the consumer; to be named with the acknowledgement.
    pub consumer: ConsumerId,
    /// Which history the places are of.
    pub epoch: Epoch,
    /// In the order of the feed.
    pub entries: Vec<Entry>,
}
