//! What the feed needs: an outbox beside the logs, and somebody who remembers how far consumers have got.

use async_trait::async_trait;
use tertulia_kit::error::Result;

use super::model::{Bounds, Consumer, ConsumerId, Found, Keep, Place, Span};
use crate::chats::Epoch;

/// What was committed to the logs of chats, in one order, for as long as it is kept.
///
/// An event is in the outbox if and only if it is in its log: both are written by one commit. The order never changes,
/// and the events of one chat come in the order of its log. Whoever asks for what follows a place, and then for what
/// follows the last place of the answer, meets every event, whatever commits at the same time: a commit that has not
/// ended holds back what was committed after it, where it could still come before that.
///
/// What was committed while no outbox was written, and what was dropped since, is never left out without a word: who
/// asks for what follows an older place is told [`Found::Gap`].
///
/// Every method fails with `STORE_UNAVAILABLE` when the engine does.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// The history whose places these are.
    fn epoch(&self) -> Epoch;

    /// What follows a place, at most as much as the bounds say. Messages are as they are now: of one that was deleted
    /// there is no text, also where it was sent.
    async fn after(&self, place: Place, bounds: Bounds) -> Result<Found>;

    /// What there is. Both ends never go back.
    async fn span(&self) -> Result<Span>;

    /// When the first commit behind a place was made, in milliseconds since 1970; none when there is none.
    async fn waits_since_ms(&self, place: Place) -> Result<Option<i64>>;

    /// Drops what is beyond the bounds, the oldest first, some thousands of commits at once; how many it dropped. When
    /// that is not 0 there may be more.
    async fn drop_old(&self, keep: Keep) -> Result<u64>;
}

/// Remembers consumers.
///
/// Every method fails with `STORE_UNAVAILABLE` when the engine does.
#[async_trait]
pub trait Consumers: Send + Sync + 'static {
    /// All of them, by name.
    async fn all(&self) -> Result<Vec<Consumer>>;

    /// The one of that name.
    async fn named(&self, name: &str) -> Result<Option<Consumer>>;

    /// Remembers a new one, unless there is one of its name; gives the one that there is now. When this returns, it is on
    /// disk.
    async fn make(&self, consumer: Consumer) -> Result<Consumer>;

    /// Everything up to `place` was taken; an older place changes nothing. False when there is no consumer of this id
    /// any more. When this returns, it is on disk.
    async fn acknowledge(&self, id: ConsumerId, place: Place, at_ms: i64) -> Result<bool>;

    /// Forgets the one of that name; whether there was one.
    async fn remove(&self, name: &str) -> Result<bool>;
}
