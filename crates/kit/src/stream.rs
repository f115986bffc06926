//! A log that others keep and read at their own pace: records are appended behind its end, each with a mark of where it
//! came from. Who appends says behind which end, so that of two who think that they are the only one no record is there
//! twice, and who stood still for a while writes nothing.
//!
//! Each record says as well which place it follows. So whoever reads ([`reader`]) knows that nothing was left out, whatever
//! became of the stream between two of them.

pub mod consumer;
mod memory;
#[cfg(feature = "nats")]
pub mod nats;
pub mod reader;
#[cfg(any(test, feature = "suites"))]
pub mod suite;

use std::borrow::Cow;

use async_trait::async_trait;

pub use memory::Memory;

/// How many records are appended at once at most.
pub const RECORDS_MAX: usize = 500;

/// The log.
#[async_trait]
pub trait Stream: Send + Sync + 'static {
    /// Where it ends now. One that is not there is made, empty: somebody has removed it, or it is new.
    ///
    /// # Errors
    /// [`Trouble::Away`] when nobody answers.
    async fn end(&self) -> Result<End, Trouble>;

    /// Appends records in their order behind that end, and gives the new one. When it returns, they are as durable as the
    /// log is.
    ///
    /// # Errors
    /// [`Trouble::Moved`] when it ends elsewhere, and [`Trouble::Away`]. The first of the records may have been appended
    /// then, without a hole; the end says so.
    async fn append(&self, behind: End, records: Vec<Record>) -> Result<End, Trouble>;
}

/// Where a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The number of its last record, counted by the log.
    pub number: u64,
    /// Where that came from; none when there is no record.
    pub last: Option<Mark>,
}

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which history.
    pub epoch: u64,
    /// Which place of it.
    pub place: u64,
}

/// What is appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it comes from.
    pub mark: Mark,
    /// Of this history nothing is between that place and its own, or nothing that could be appended: then it is its own.
    pub prev: u64,
    /// What sort of record it is: one word.
    pub kind: Cow<'static, str>,
    /// What it says.
    pub body: Vec<u8>,
}

/// Why nothing, or not everything, was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It does not end where that was believed.
    #[error("the stream ends elsewhere")]
    Moved,
    /// Nobody answers, or not as it should be. With words for operators.
    #[error("{0}")]
    Away(String),
}
