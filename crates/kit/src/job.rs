//! Jobs: work that somebody asked for and that is done later, by whichever node gets to it. A job outlives those who
//! asked for it; it is tried again when it fails, and set aside for people to look at when it fails for good.
//!
//! ```text
//!  enqueue ──▶ WAITS ── due, and claimed ──▶ HELD ── done ──▶ forgotten
//!               ▲ ▲                           │ │
//!               │ └── over: its time is gone ─┘ └── failed too often ──▶ DEAD
//!               └──── failed: again later ────┘                           │
//!               └──────────────────────── replay ─────────────────────────┘
//! ```
//! A claim holds a job for a time. Like a [lease](crate::lease) it does not keep two from believing that they hold it:
//! whoever was stopped for a while learns too late that it is over. So a job is done **at least once**, and what it
//! does to the database that keeps the jobs is done **exactly once** if it is committed together with the end of the
//! job, which the store refuses to whoever was overtaken: each claim has a number of its own, the try.
//!
//! [`Workers`] do jobs, [`Schedule`]s enqueue them at their times.

mod memory;
mod schedule;
#[cfg(any(test, feature = "suites"))]
pub mod suite;
mod workers;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;

pub use memory::Memory;
pub use schedule::{BadSchedule, Schedule};
pub use workers::{Failed, Handler, Workers};

/// Which job. Given by who asks for it, so that it can ask again when the answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Which.
    pub id: JobId,
    /// What sort of work it is; who does it is found by this.
    pub kind: String,
    /// What it is about, in the words of its kind. It stays readable for a newer version of the program, and holds no
    /// secret: people read it when the job has failed.
    pub about: String,
    /// When it may begin: in so long.
    pub delay: Duration,
}

/// A job that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Which.
    pub id: JobId,
    /// What sort of work it is.
    pub kind: String,
    /// What it is about.
    pub about: String,
    /// The number of this claim, from 1: how often it was begun. Greater than those of all claims before.
    pub attempt: i64,
    /// How often it was begun before somebody had it tried from the start.
    pub begun_before: i64,
}

impl Job {
    /// How often it was begun since it was enqueued or replayed, with this time.
    pub fn tries(&self) -> i64 {
        self.attempt - self.begun_before
    }
}

/// A job that failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// It, as it was held last.
    pub job: Job,
    /// When it was set aside, in milliseconds since 1970 on the clock of the store.
    pub at_ms: i64,
    /// Why, in words for operators.
    pub why: String,
}

/// How many jobs there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Those that wait or are held.
    pub open: u64,
    /// Those that failed for good.
    pub dead: u64,
}

/// Keeps jobs. Time is that of the store alone: no clock of a node is compared with it.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Keeps a job until it is done. Nothing happens when it is there; a job that was done may be enqueued anew under
    /// its id. When the answer is lost it may be kept, and may be enqueued again.
    ///
    /// # Errors
    /// The failure of the store.
    async fn enqueue(&self, job: NewJob) -> Result<()>;

    /// Enqueues the job of one occurrence of a schedule, if no occurrence as late was there before: in one commit, so
    /// that of many nodes one does it, whatever they know of each other. `at_ms` is when the occurrence is, and only
    /// compared with other occurrences. Gives whether it was this call.
    ///
    /// # Errors
    /// The failure of the store.
    async fn enqueue_occurrence(&self, schedule: &str, at_ms: i64, job: NewJob) -> Result<bool>;

    /// Holds up to `limit` jobs of a kind whose time has come, for so long; those that waited longest first. Of many
    /// who claim at once each gets others. Claims of others that are over may be among them. When the answer is lost
    /// they are free again when the time is over.
    ///
    /// # Errors
    /// The failure of the store.
    async fn claim(&self, kind: &str, limit: usize, lasts: Duration) -> Result<Vec<Job>>;

    /// Forgets a job that was done. False when it is not held by this claim any more: then it may be done twice.
    ///
    /// # Errors
    /// The failure of the store.
    async fn done(&self, job: &Job) -> Result<bool>;

    /// Lets a job wait for so long, after which it is tried again. False when it is not held by this claim any more.
    ///
    /// # Errors
    /// The failure of the store.
    async fn again(&self, job: &Job, delay: Duration, why: &str) -> Result<bool>;

    /// Sets a job aside that failed for good. False when it is not held by this claim any more.
    ///
    /// # Errors
    /// The failure of the store.
    async fn bury(&self, job: &Job, why: &str) -> Result<bool>;

    /// Jobs that failed for good with ids above `after`, in the order of their ids.
    ///
    /// # Errors
    /// The failure of the store.
    async fn dead(&self, after: JobId, limit: usize) -> Result<Vec<Dead>>;

    /// Has a job that failed for good tried from the start, now. False when there is none with that id.
    ///
    /// # Errors
    /// The failure of the store.
    async fn replay(&self, id: JobId) -> Result<bool>;

    /// Forgets a job that failed for good. False when there is none with that id.
    ///
    /// # Errors
    /// The failure of the store.
    async fn forget(&self, id: JobId) -> Result<bool>;

    /// How many there are.
    ///
    /// # Errors
    /// The failure of the store.
    async fn counts(&self) -> Result<Counts>;
}
