//! The logs of chats and users on fjall, an LSM tree in this process.
//!
//! ```text
//! append ──► queue ──► writer ──► commit and sync ──► caches ──► position ──► answers ──► teller ──► Committed
//! read ────► caches ─► tables
//! ```
//! One thread writes (`writer`), everybody reads. What a read finds was synced before; how far a reader has
//! got is a position, which moves on when its commit is in the tables and in the caches.

mod cache;
mod codec;
mod disk;
mod faults;
mod health;
mod journal;
mod recent;
mod send_keys;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;
use tertulia_services::chats::{
    Appended, Chat, ChatStore, Committed, Epoch, Event, Fact, Moved, NewMessage, Page, Pair,
    Position, Seq, UserEvent,
};
use tertulia_services::errors;
use tertulia_services::ids::{ChatId, UserId};
use tokio::sync::{Semaphore, oneshot};

use cache::{Cache, Weight};
use codec::Corrupt;
use disk::{Disk, Row, corrupt};
use faults::Faults;
use health::Health;
use recent::Recent;
use send_keys::SendKeys;
use writer::{NewChat, Request, Writer};

/// How many rows are read where the caller is; longer reads go to threads that may block.
const INLINE_ROWS_MAX: usize = 64;
/// How many long reads run at once. Full: they wait, which their callers' deadlines bound.
const LONG_READS_MAX: usize = 8;
/// How many moves are remembered for devices that ask again soon; about 64 bytes each.
const RECENT_MOVES_MAX: usize = 131_072;
/// How many committed batches may wait for the listener. Full: the writer waits.
const UNTOLD_BATCHES_MAX: usize = 64;
/// How many full batches of bytes may wait for the writer. Full: `OVERLOADED`.
const QUEUE_BATCHES_MAX: usize = 16;

/// How the logs are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many writes go into one commit at most.
    pub commit_batch_max: usize,
    /// How many bytes of text go into one commit, about.
    pub commit_bytes_max: usize,
    /// How many writes may wait. Full: `OVERLOADED`.
    pub commit_queue_max: usize,
    /// What all caches take together, in MiB. The newest writes are kept in memory besides, in tens of MiB.
    pub cache_mib: u64,
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
}

/// The store.
pub struct ChatLog {
    shared: Arc<Shared>,
    /// To the writer; none when closed.
    queue: RwLock<Option<SyncSender<Request>>>,
    queue_bytes_max: usize,
    long_reads: Arc<Semaphore>,
    /// The writer and the teller, until they are waited for.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What readers and the writer share.
struct Shared {
    disk: Disk,
    epoch: Epoch,
    clock: SharedClock,
    /// The position: every commit up to it is in the tables and the caches.
    visible: AtomicU64,
    chats: Cache<ChatId, Row>,
    user_heads: Cache<UserId, Seq>,
    /// Guards who moved lately; it is never behind the position.
    recent: Mutex<Recent>,
    /// What waits for the writer.
    queued_bytes: AtomicUsize,
    health: Health,
    faults: Faults,
    sabotage: Option<Sabotage>,
}

impl Weight for Seq {
    fn bytes(&self) -> u64 {
        64
    }
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
        let opening = move || ChatLog::open_here(&folder, options, committed, clock);
        tokio::task::spawn_blocking(opening)
            .await
            .map_err(errors::internal)?
    }

    fn open_here(
        folder: &Path,
        options: Options,
        committed: Arc<dyn Committed>,
        clock: SharedClock,
    ) -> Result<Arc<ChatLog>> {
        let cache_bytes = options.cache_mib.max(1) << 20;
        // Most for the engine's blocks; the rows of chats are asked for at every send and every connect.
        let (disk, epoch) = Disk::open(folder, cache_bytes / 8 * 5)?;
        let position = disk.position()?;
        let send_keys = SendKeys::open(&disk.db)?;
        let shared = Arc::new(Shared {
            disk,
            epoch,
            clock,
            visible: AtomicU64::new(position),
            chats: Cache::of(cache_bytes / 4, 500),
            user_heads: Cache::of(cache_bytes / 8, 64),
            recent: Mutex::new(Recent::after(position, RECENT_MOVES_MAX)),
            queued_bytes: AtomicUsize::new(0),
            health: Health::default(),
            faults: Faults::default(),
            sabotage: options.sabotage,
        });
        let (queue, requests) = sync_channel(options.commit_queue_max.max(1));
        let (told, untold) = sync_channel(UNTOLD_BATCHES_MAX);
        let queue_bytes_max = options.commit_bytes_max.saturating_mul(QUEUE_BATCHES_MAX);
        let writer = Writer::new(Arc::clone(&shared), options, requests, told, send_keys);
        let threads = vec![
            thread("chats-writer", shared.health.watch(move || writer.run()))?,
            thread("chats-teller", move || tell(&untold, &*committed))?,
        ];
        tracing::info!(position, "opened the logs of chats");
        Ok(Arc::new(ChatLog {
            shared,
            queue: RwLock::new(Some(queue)),
            queue_bytes_max,
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

    /// Takes no more writes, finishes those that wait and tells what they committed. Reading goes on.
    pub async fn close(&self) {
        let threads = self.stop();
        let waiting = tokio::task::spawn_blocking(move || join(threads)).await;
        if waiting.is_err() {
            tracing::error!("the logs were not closed in order");
        }
    }

    fn stop(&self) -> Vec<JoinHandle<()>> {
        self.queue.write().take();
        std::mem::take(&mut *self.threads.lock())
    }

    fn submit(&self, request: Request) -> Result<()> {
        let bytes = request.bytes();
        let queue = self.queue.read();
        let queue = queue
            .as_ref()
            .ok_or_else(|| errors::store_unavailable("it is closed"))?;
        let queued = &self.shared.queued_bytes;
        let full = queued.fetch_add(bytes, Ordering::Relaxed) + bytes > self.queue_bytes_max;
        let failure = match full {
            true => overloaded(),
            false => match queue.try_send(request) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => overloaded(),
                Err(TrySendError::Disconnected(_)) => gone(),
            },
        };
        queued.fetch_sub(bytes, Ordering::Relaxed);
        Err(failure)
    }

    /// Reads `rows` rows or so where it is best done.
    async fn read<T: Send + 'static>(
        &self,
        rows: usize,
        read: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if rows <= INLINE_ROWS_MAX {
            return read(&self.shared);
        }
        let place = Arc::clone(&self.long_reads)
            .acquire_owned()
            .await
            .map_err(errors::internal)?;
        let shared = Arc::clone(&self.shared);
        let reading = move || {
            let answer = read(&shared);
            // Before the answer is there, so that whoever closes the store next finds it free.
            drop((shared, place));
            answer
        };
        tokio::task::spawn_blocking(reading)
            .await
            .map_err(errors::internal)?
    }
}

impl Drop for ChatLog {
    fn drop(&mut self) {
        join(self.stop());
    }
}

fn overloaded() -> tertulia_kit::error::Failure {
    errors::overloaded(Duration::from_millis(rand::random_range(50..=200)))
}

fn gone() -> tertulia_kit::error::Failure {
    errors::store_unavailable("the writer has gone")
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(run).map_err(errors::store_unavailable)
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // The last handle may be dropped by what the teller tells.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("a thread of the logs has panicked");
        }
    }
}

/// Tells what was committed, in its order, until the writer ends.
fn tell(untold: &Receiver<Vec<Fact>>, committed: &dyn Committed) {
    while let Ok(facts) = untold.recv() {
        // One listener that fails once must not silence all that comes after.
        let telling = std::panic::AssertUnwindSafe(|| committed.committed(facts));
        if std::panic::catch_unwind(telling).is_err() {
            tracing::error!("what was committed could not be told");
        }
    }
}

impl Shared {
    /// A chat as it was committed.
    fn row(&self, id: ChatId) -> Result<Option<Row>> {
        self.chats.get_or_read(id, || self.disk.chat(id))
    }

    /// A chat that something points at.
    fn known_row(&self, id: ChatId) -> Result<Row> {
        self.row(id)?
            .ok_or_else(|| corrupt(Corrupt("a membership without its chat")))
    }

    fn user_head(&self, user: UserId) -> Result<Seq> {
        let head = self
            .user_heads
            .get_or_read(user, || self.disk.user_head(user).map(Some))?;
        Ok(head.unwrap_or(0))
    }

    /// Makes a commit visible. The position comes last: whoever reads it finds all the rest.
    fn take_in(&self, position: u64, chats: HashMap<ChatId, Row>, heads: HashMap<UserId, Seq>) {
        {
            let mut recent = self.recent.lock();
            for (id, row) in &chats {
                recent.push(position, *id, row.chat.members());
            }
        }
        for (id, row) in chats {
            self.chats.put(id, row);
        }
        for (user, head) in heads {
            self.user_heads.put(user, head);
        }
        self.visible.store(position, Ordering::Release);
    }

    /// Trusts nothing but the disk, which is at `position`.
    fn forget(&self, position: u64) {
        self.chats.clear();
        self.user_heads.clear();
        *self.recent.lock() = Recent::after(position, RECENT_MOVES_MAX);
        self.visible.fetch_max(position, Ordering::Release);
    }

    fn chats_of(&self, user: UserId) -> Result<Vec<Row>> {
        self.disk
            .chats_of(user)?
            .into_iter()
            .map(|id| self.known_row(id))
            .collect()
    }

    fn moved(&self, user: UserId, chats: Vec<Chat>, position: u64) -> Result<Moved> {
        // After the chats, so that a chat in the answer never lacks the own event that tells of it.
        let own_head = self.user_head(user)?;
        Ok(Moved {
            chats,
            own_head,
            position: Position(position),
        })
    }
}

#[async_trait]
impl ChatStore for ChatLog {
    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    async fn open_direct(&self, pair: Pair, id: ChatId, at_ms: i64) -> Result<Chat> {
        if let Some(there) = self.shared.disk.pair(pair)? {
            return Ok(self.shared.known_row(there)?.chat);
        }
        let (answer, answered) = oneshot::channel();
        self.submit(Request::Open(NewChat { pair, id, at_ms }, answer))?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn chat(&self, id: ChatId) -> Result<Option<Chat>> {
        Ok(self.shared.row(id)?.map(|row| row.chat))
    }

    async fn append(&self, new: NewMessage) -> Result<Appended> {
        let (answer, answered) = oneshot::channel();
        self.submit(Request::Append(new, answer))?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn events_after(&self, chat: ChatId, after: Seq, limit: usize) -> Result<Page<Event>> {
        let Some(row) = self.shared.row(chat)? else {
            return Ok(Page::default());
        };
        let head = row.chat.head;
        let (from, to) = span_after(head, after, limit);
        let events = self.read(rows(from, to), move |shared| {
            shared.disk.events(chat, from, to)
        });
        Ok(Page {
            events: events.await?,
            head,
        })
    }

    async fn events_before(&self, chat: ChatId, before: Seq, limit: usize) -> Result<Page<Event>> {
        let Some(row) = self.shared.row(chat)? else {
            return Ok(Page::default());
        };
        let head = row.chat.head;
        let to = if before <= 0 {
            head
        } else {
            head.min(before - 1)
        };
        let from = to
            .saturating_sub(Seq::try_from(limit).unwrap_or(Seq::MAX))
            .max(0)
            + 1;
        let events = self.read(rows(from, to), move |shared| {
            shared.disk.events(chat, from, to)
        });
        Ok(Page {
            events: events.await?,
            head,
        })
    }

    async fn user_events_after(
        &self,
        user: UserId,
        after: Seq,
        limit: usize,
    ) -> Result<Page<UserEvent>> {
        let head = self.shared.user_head(user)?;
        let (from, to) = span_after(head, after, limit);
        let read = move |shared: &Shared| shared.disk.user_events(user, from, to);
        Ok(Page {
            events: self.read(rows(from, to), read).await?,
            head,
        })
    }

    async fn chats_of(&self, user: UserId) -> Result<Vec<Chat>> {
        let read = move |shared: &Shared| {
            Ok(shared
                .chats_of(user)?
                .into_iter()
                .map(|row| row.chat)
                .collect())
        };
        self.read(usize::MAX, read).await
    }

    async fn moved_since(&self, user: UserId, since: Position) -> Result<Option<Moved>> {
        let position = self.shared.visible.load(Ordering::Acquire);
        if since.0 > position {
            return Ok(None);
        }
        let recent = self.shared.recent.lock().since(user, since.0);
        let moved = match recent {
            Some(ids) => {
                let count = ids.len();
                let read = move |shared: &Shared| {
                    let chats = ids.iter().map(|id| Ok(shared.known_row(*id)?.chat));
                    shared.moved(user, chats.collect::<Result<_>>()?, position)
                };
                self.read(count, read).await?
            }
            None => {
                let read = move |shared: &Shared| {
                    let rows = shared.chats_of(user)?.into_iter();
                    let chats = rows
                        .filter(|row| row.position > since.0)
                        .map(|row| row.chat);
                    shared.moved(user, chats.collect(), position)
                };
                self.read(usize::MAX, read).await?
            }
        };
        Ok(Some(moved))
    }

    async fn events_since(
        &self,
        chats: &[Chat],
        since: Position,
        limit: usize,
    ) -> Result<Option<Vec<Arc<Event>>>> {
        let with_events = chats.iter().filter(|chat| chat.head > 0);
        let heads: Vec<(ChatId, Seq)> = with_events.map(|chat| (chat.id, chat.head)).collect();
        // How many rows that will be is not known, but one for each chat and one more for all is the least.
        let least = heads.len().saturating_mul(2);
        self.read(
            if heads.is_empty() {
                0
            } else {
                least.max(INLINE_ROWS_MAX + 1)
            },
            move |shared| {
                let mut all = Vec::new();
                for chat in heads {
                    if !shared.disk.events_since(chat, since.0, limit, &mut all)? {
                        return Ok(None);
                    }
                }
                if shared.sabotage == Some(Sabotage::DropEvent) && all.len() > 2 {
                    all.remove(all.len() / 2);
                }
                Ok(Some(all))
            },
        )
        .await
    }

    async fn position(&self) -> Result<Position> {
        Ok(Position(self.shared.visible.load(Ordering::Acquire)))
    }
}

/// The first and the last seq of at most `limit` events after a seq; the first is beyond the last when there
/// are none.
fn span_after(head: Seq, after: Seq, limit: usize) -> (Seq, Seq) {
    let after = after.clamp(0, head);
    let limit = Seq::try_from(limit).unwrap_or(Seq::MAX);
    (after + 1, head.min(after.saturating_add(limit)))
}

fn rows(from: Seq, to: Seq) -> usize {
    usize::try_from(to - from + 1).unwrap_or(0)
}

#[cfg(test)]
mod tests;
