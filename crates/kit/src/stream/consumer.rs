//! What a stream hands to one who reads it under a name. How far that one has got is remembered beside the stream, and
//! outlives whoever reads.
//!
//! It promises little: records come at least once, until they are acknowledged, and they may come again or mixed up. That
//! each is given once, in order, and that nothing is left out is what [`Reader`](super::reader::Reader) makes of it.

mod memory;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(any(test, feature = "suites"))]
pub mod suite;

use std::time::Duration;

use async_trait::async_trait;

pub use memory::{Memory, Mischief};

use super::{Mark, Record};

/// How many records are under way at once at most; more do not come before some of them are acknowledged.
pub const UNDER_WAY_MAX: usize = 1_000;

/// A consumer of a stream.
#[async_trait]
pub trait Consumer: Send + Sync + 'static {
    /// What the stream has now; none when there is no stream.
    ///
    /// # Errors
    /// When nobody answers, as with all of these.
    async fn span(&self) -> Result<Option<Span>, Away>;

    /// The first record that the stream has at or behind a number, and where that came from.
    async fn at(&self, number: u64) -> Result<Option<(u64, Mark)>, Away>;

    /// How far this consumer has got; none when there is none of its name.
    async fn standing(&self) -> Result<Option<Standing>, Away>;

    /// Makes it, to be handed what is behind that number. It must not be there.
    async fn make(&mut self, behind: u64) -> Result<(), Away>;

    /// Waits for records, no longer than this. Those of which some were handed over before come again after a while,
    /// unless they are acknowledged. Whoever gives it up loses nothing: what it would have given comes again.
    async fn pull(&mut self, wait: Duration) -> Result<Pulled, Away>;

    /// Says that everything up to a number was taken, and waits until that is known. Gives up to where it could be said:
    /// of what has not come since the consumer was made nothing can.
    async fn acknowledge(&mut self, number: u64) -> Result<Option<u64>, Away>;

    /// Forgets the consumer; false when there is none of its name.
    async fn remove(&mut self) -> Result<bool, Away>;
}

/// What a stream has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Names one making of it: one that was removed and made again has another.
    pub made: String,
    /// The number of its first record; behind the last one when there is none.
    pub first: u64,
    /// The number of its last record; 0 before the first.
    pub last: u64,
}

/// How far a consumer has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// It was made to be handed what is behind that number.
    pub behind: u64,
    /// Everything up to this number was acknowledged, or is not in the stream any more.
    pub floor: u64,
    /// Nothing was ever handed to it.
    pub is_new: bool,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pulled {
    /// These, with their numbers; none when none came in time, though all is well.
    Records(Vec<(u64, Record)>),
    /// What was asked for ended, or nothing was heard for too long. Whether the consumer is there is to be looked at.
    Over,
}

/// Nobody answers, or not as it should be. With words for operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Away(pub String);
