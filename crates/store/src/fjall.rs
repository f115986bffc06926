//! The logs of chats and users on fjall, an LSM tree in this process.
//!
//! ```text
//! write ──► queue ──► writer ──► journal, synced ──► memtable and caches ──► position ──► teller ──► listeners, answers
//!                                                    └─► flusher ──► engine
//! read ───► caches ─► memtables ─► engine
//! ```
//! One writer decides and writes (`writer`), on its thread or where somebody has something to write (`desk`); everybody
//! reads (`reads`, `reader`). What a read finds was synced before; how far a reader has got is a position, which moves on when its commit is in the tables
//! and in the caches.

mod batch;
mod claims;
mod desk;
mod disk;
mod engine;
pub(crate) mod export;
mod faults;
mod feed;
mod floor;
mod health;
mod lists;
mod outcome;
mod pace;
mod queue;
mod reader;
mod reads;
mod recent;
mod room;
mod send_keys;
mod shared;
mod teller;
mod verify;
mod view;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::{Failure, Result};
use tertulia_services::chats::{Command, Committed, Done};
use tertulia_services::errors;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

pub use verify::{ChatDigest, PROBLEMS_MAX, Problem, Progress, Report};

use desk::Desk;
use disk::flusher;
use queue::{Request, gone};
use send_keys::keeper;
use shared::Shared;
use teller::teller;
use writer::Writer;

/// How many rows are read where the caller is; longer reads go to threads that may block.
const INLINE_ROWS_MAX: usize = 64;
/// How many long reads run at once. Full: they wait, which their callers' deadlines bound.
const LONG_READS_MAX: usize = 8;

/// How the logs are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many writes go into one commit at most.
    pub commit_batch_max: usize,
    /// How many bytes of commands go into one commit, about.
    pub commit_bytes_max: usize,
    /// How many writes may wait. Full: `OVERLOADED`.
    pub commit_queue_max: usize,
    /// What all caches take together, in MiB. The newest writes are in memory besides: up to 64 MiB, and under load as
    /// much again for each 64 MiB that wait to be flushed.
    pub cache_mib: u64,
    /// A feed is kept of what is committed.
    pub feed: bool,
    /// Where to abort the process, for crash tests.
    pub crash_at: Option<CrashPoint>,
    /// How many messages are written before that.
    pub crash_after: u64,
    /// A promise to be broken on purpose, for tests of tests.
    pub sabotage: Option<Sabotage>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            commit_batch_max: 1_024,
            commit_bytes_max: 4 << 20,
            commit_queue_max: 8_192,
            cache_mib: 64,
            feed: false,
            crash_at: None,
            crash_after: 0,
            sabotage: None,
        }
    }
}

/// A step of a write at which a crash test aborts the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// The batch is made and not committed.
    BeforeCommit,
    /// The batch is on disk and nobody knows.
    AfterCommitBeforeAck,
    /// The writers know and nobody else does.
    AfterAckBeforePublish,
}

/// A promise that the store breaks on purpose, to show that its tests would see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// What somebody missed is told without one of the events.
    DropEvent,
    /// Send keys are not looked up.
    ForgetIdempotency,
    /// Every 20th commit gives the seq of the event before once more.
    ReuseSeq,
    /// A commit is not synced before it is answered.
    AckBeforeSync,
    /// What has changed in a part that somebody holds is not told.
    ForgetChanges,
}

/// The store.
pub struct ChatLog {
    shared: Arc<Shared>,
    /// Where the writer is.
    desk: Arc<Desk>,
    long_reads: Arc<Semaphore>,
    /// The writer, the teller, the keeper and the flusher, until they are waited for.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl ChatLog {
    /// Opens the logs in `folder`, or makes them, and tells `committed` what is committed from now on.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` with its cause, when another process has the folder, a newer program wrote it, or
    /// it can not be read.
    pub async fn open(
        folder: &Path,
        options: Options,
        committed: Arc<dyn Committed>,
        clock: SharedClock,
    ) -> Result<Arc<ChatLog>> {
        let folder = folder.to_path_buf();
        let runtime = Handle::current();
        let opening = move || ChatLog::open_here(&folder, options, committed, clock, runtime);
        tokio::task::spawn_blocking(opening)
            .await
            .map_err(errors::internal)?
    }

    fn open_here(
        folder: &Path,
        options: Options,
        committed: Arc<dyn Committed>,
        clock: SharedClock,
        runtime: Handle,
    ) -> Result<Arc<ChatLog>> {
        let shared = Arc::new(Shared::open(folder, &options, clock)?);
        let (teller, telling) = teller(committed);
        let (flusher, flushing) = flusher(&shared);
        let to_flusher = flusher.clone();
        let (keeper, keeping) = keeper(&shared.send_keys, move || to_flusher.wake());
        // What a start has found in the journal.
        keeper.wake();
        let to_write = Arc::clone(&shared);
        let writer = Writer::new(to_write, options, teller, keeper, flusher);
        let desk = Arc::new(Desk::new(Arc::clone(&shared), writer, runtime));
        let of_thread = Arc::clone(&desk);
        let threads = vec![
            thread(
                "chats-writer",
                shared.health.watch(move || of_thread.serve()),
            )?,
            thread("chats-teller", move || telling.run())?,
            thread("chats-keeper", keeping)?,
            thread("chats-flusher", flushing)?,
        ];
        let position = shared.visible.load(Ordering::Acquire);
        tracing::info!(position, "opened the logs of chats");
        Ok(Arc::new(ChatLog {
            shared,
            desk,
            long_reads: Arc::new(Semaphore::new(LONG_READS_MAX)),
            threads: Mutex::new(threads),
        }))
    }

    /// Whether the logs can be written, as far as the last writes show.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when the last commit failed, one takes much too long, or the writer has gone.
    /// After a failed sync the engine takes no more writes until the process begins anew.
    pub fn health(&self) -> Result<()> {
        self.shared.health.check(&self.shared.clock)
    }

    /// How often the tables were asked since the start, where no cache had the answer.
    pub fn reads(&self) -> u64 {
        self.shared.disk.reads.asked.get()
    }

    /// How many rows that gave.
    pub fn rows_read(&self) -> u64 {
        self.shared.disk.reads.rows.get()
    }

    /// Waits until the engine takes no more writes, which is after one that failed: until it is opened anew
    /// every write fails, and reading goes on. Maybe for ever.
    pub async fn closed_by_failure(&self) {
        self.shared.health.closed().await;
    }

    /// Takes no more writes, finishes those that wait and tells what they committed. Reading goes on.
    pub async fn close(&self) {
        let threads = self.stop();
        let waiting = tokio::task::spawn_blocking(move || join(threads)).await;
        if waiting.is_err() {
            tracing::error!("the logs were not closed in order");
        }
    }

    fn stop(&self) -> Vec<JoinHandle<()>> {
        self.shared.queue.close();
        std::mem::take(&mut *self.threads.lock())
    }

    /// Has commands decided and committed, and waits for what they came to.
    async fn submit(&self, commands: Vec<Command>) -> Vec<Result<Done>> {
        let count = commands.len();
        let all = |failure: fn() -> Failure| (0..count).map(|_| Err(failure())).collect();
        let (answer, answered) = oneshot::channel();
        let waits = self.desk.write_now(Request { commands, answer });
        if let Some(Err(refused)) = waits.map(|request| self.shared.queue.put(request)) {
            return all(refused);
        }
        answered.await.unwrap_or_else(|_| all(gone))
    }
}

impl Drop for ChatLog {
    fn drop(&mut self) {
        join(self.stop());
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(run).map_err(errors::store_unavailable)
}

fn join(threads: Vec<JoinHandle<()>>) {
    // The last handle may be dropped by what one of them tells: then they end by themselves, one after the other.
    let own = std::thread::current().id();
    if threads.iter().any(|thread| thread.thread().id() == own) {
        return;
    }
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the logs has panicked");
        }
    }
}

#[cfg(test)]
mod tests;
