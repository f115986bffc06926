//! The logs of chats and users in PostgreSQL, written by several nodes at once.
//!
//! ```text
//! write ─┬─► lane ─┐                       ┌─► answers
//!        ├─► lane ─┼─► lock, decide, commit┼─► caches
//!        └─► lane ─┘                       └─► teller ─► Committed
//! read ────► readers ─► tables, each answer of one moment
//! ```
//! The rows are those of the embedded store, as the same bytes (`rows`), and the rules are the same: a command is
//! decided inside its transaction, over rows that the transaction has locked. What was read before a lock was had
//! is read again after it, so a decision never sees anything that another node may change before the commit.
//!
//! - A *lane* is a thread with a connection. What waits for it becomes one transaction: one commit for many
//!   messages. A chat always goes to the same lane of a node, so commands about it are committed in the order in
//!   which they are called; several lanes are under way at once.
//! - *Locks* are rows, taken in one order: chats by id, then the ends of own logs by user. They are what stands
//!   between nodes; there are no others, and no lock outlives its transaction.
//! - *Positions* come from the numbers of transactions; see `history`.
//! - *Caches* are believed only when the row itself, read each time, says that they are current.
//! - *Facts* are told by the node that has committed them. Other nodes hear of them over the bus.
//!
//! Two commands of one [`write_all`](ChatStore::write_all) that are about different chats may be committed in
//! another order than the one given, as with two calls at once.

mod cache;
mod feed;
mod fetch;
mod health;
pub(super) mod history;
mod known;
mod lane;
mod put;
mod queries;
mod readers;
mod reads;
mod server;
mod teller;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sqlx::Connection as _;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::{Failure, Result};
use tertulia_kit::metrics::Counter;
use tertulia_services::chats::{ChatStore, Command, Committed, Done, SEND_KEYS_KEPT_MS};
use tertulia_services::errors;
use tokio::sync::{mpsc, oneshot};

use super::Target;
use cache::Caches;
use health::Health;
use known::{Wanted, chat_of, stand_in};
use lane::{Lane, Request};
use readers::Readers;
use server::Server;
use teller::Teller;

/// How the logs are written and read.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many transactions write at once.
    pub lanes: usize,
    /// How many connections read.
    pub readers: usize,
    /// How many writes go into one commit at most.
    pub commit_batch_max: usize,
    /// How many writes may wait. Full: `OVERLOADED`.
    pub commit_queue_max: usize,
    /// What all caches take together, in MiB.
    pub cache_mib: u64,
    /// A feed is kept of what is committed.
    pub feed: bool,
    /// A standby that takes over has everything that was acknowledged.
    pub standby_has_all: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            lanes: 2,
            readers: 8,
            commit_batch_max: 1_024,
            commit_queue_max: 8_192,
            cache_mib: 64,
            feed: false,
            standby_has_all: false,
        }
    }
}

/// The store.
pub struct ChatLog {
    shared: Arc<Shared>,
    /// To the lanes; none when closed.
    lanes: RwLock<Vec<mpsc::Sender<Request>>>,
    /// Until they are waited for.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What lanes and readers share.
struct Shared {
    server: Arc<Server>,
    options: Options,
    clock: SharedClock,
    caches: Caches,
    readers: Readers,
    teller: Teller,
    health: Health,
    reads: Counter,
}

impl Shared {
    fn count_reads(&self, wanted: &Wanted) {
        let tables = [
            !wanted.chats.is_empty(),
            !wanted.users.is_empty(),
            !wanted.memberships.is_empty(),
            !wanted.events.is_empty(),
            !wanted.used.is_empty(),
            !wanted.keys.is_empty(),
        ];
        let asked = tables.into_iter().filter(|asked| *asked).count() + wanted.walks.len();
        self.reads.add(asked as u64);
    }
}

impl ChatLog {
    /// Opens the logs in a database that was [prepared](super::prepare) and tells `committed` what this node
    /// commits from now on.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` with its cause, when the database does not answer.
    pub async fn open(
        target: &Target,
        options: Options,
        committed: Arc<dyn Committed>,
        clock: SharedClock,
    ) -> Result<Arc<ChatLog>> {
        let history = async {
            let mut connection = target.connect().await?;
            let history = history::open(&mut connection, options.standby_has_all).await?;
            history::forget_writers(&mut connection).await?;
            connection.close().await?;
            Ok::<_, history::Closed>(history)
        };
        let history = history.await.map_err(errors::store_unavailable)?;
        let server = Arc::new(Server::new(target.clone(), history));
        let shared = Arc::new(Shared {
            clock,
            caches: Caches::of(options.cache_mib),
            readers: Readers::new(Arc::clone(&server), options.readers.max(1)),
            server,
            teller: Teller::new(committed),
            health: Health::default(),
            reads: Counter::default(),
            options,
        });
        let count = shared.options.lanes.max(1);
        let queue_max = shared.options.commit_queue_max.div_ceil(count);
        let (mut lanes, mut threads) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (lane, requests) = mpsc::channel(queue_max.max(1));
            let writer = Lane::new(Arc::clone(&shared), requests, number == 0);
            threads.push(thread(number, shared.health.watch(), writer)?);
            lanes.push(lane);
        }
        Ok(Arc::new(ChatLog {
            shared,
            lanes: RwLock::new(lanes),
            threads: Mutex::new(threads),
        }))
    }

    /// Whether the logs can be written and read.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when the last commit failed, a lane has gone, or the database does not answer.
    pub async fn health(&self) -> Result<()> {
        self.shared.health.check()?;
        self.position().await.map(drop)
    }

    /// Waits until the server is one that goes on from an earlier moment, because a standby took over. From then on
    /// nothing is written or read here any more; the logs are to be opened anew.
    pub async fn taken_over(&self) {
        self.shared.server.taken_over().await;
    }

    /// How often the tables were asked since the start.
    pub fn reads(&self) -> u64 {
        self.shared.reads.get()
    }

    /// Takes no more writes, finishes those that wait and tells what they committed.
    pub async fn close(&self) {
        let threads = self.stop();
        let waiting = tokio::task::spawn_blocking(move || join(threads)).await;
        if waiting.is_err() {
            tracing::error!("the logs were not closed in order");
        }
        self.shared.readers.close();
    }

    fn stop(&self) -> Vec<JoinHandle<()>> {
        self.lanes.write().clear();
        std::mem::take(&mut *self.threads.lock())
    }

    /// Has commands decided and committed, those about one chat in the order given, and waits for what they came
    /// to.
    async fn submit(&self, commands: Vec<Command>) -> Vec<Result<Done>> {
        let count = commands.len();
        // Mostly they are all about one chat.
        let mut parts: Vec<(usize, Vec<usize>, Vec<Command>)> = Vec::with_capacity(1);
        for (at, command) in commands.into_iter().enumerate() {
            let lane = self.lane_of(&command);
            match parts.iter_mut().find(|(of, ..)| *of == lane) {
                Some((_, places, commands)) => {
                    places.push(at);
                    commands.push(command);
                }
                None => parts.push((lane, vec![at], vec![command])),
            }
        }
        // All of them wait in their lanes before any is waited for, so that nothing comes between.
        let waiting: Vec<_> = parts
            .into_iter()
            .map(|(lane, places, commands)| (places, self.queue(lane, commands)))
            .collect();
        let mut all: Vec<Option<Result<Done>>> = (0..count).map(|_| None).collect();
        for (places, queued) in waiting {
            let done = match queued {
                Ok(answered) => answered.await.map_err(|_| gone as fn() -> Failure),
                Err(refused) => Err(refused),
            };
            match done {
                Ok(done) => places
                    .iter()
                    .zip(done)
                    .for_each(|(at, done)| all[*at] = Some(done)),
                Err(refused) => places.iter().for_each(|at| all[*at] = Some(Err(refused()))),
            }
        }
        all.into_iter()
            .map(|done| done.unwrap_or_else(|| Err(gone())))
            .collect()
    }

    fn lane_of(&self, command: &Command) -> usize {
        let id = chat_of(&command.act).map_or_else(|| stand_in(command), |chat| chat.0);
        // Ids that were made one after the other differ in their low bits, and others in their high ones.
        let mixed = id.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        mixed as usize % self.shared.options.lanes.max(1)
    }

    #[allow(
        clippy::type_complexity,
        reason = "what is waited for, or why it can not wait there"
    )]
    fn queue(
        &self,
        lane: usize,
        commands: Vec<Command>,
    ) -> Result<oneshot::Receiver<Vec<Result<Done>>>, fn() -> Failure> {
        let lanes = self.lanes.read();
        let lane = lanes.get(lane).ok_or(closed as fn() -> Failure)?;
        let (answer, answered) = oneshot::channel();
        match lane.try_send(Request { commands, answer }) {
            Ok(()) => Ok(answered),
            Err(mpsc::error::TrySendError::Full(_)) => Err(overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(gone),
        }
    }
}

impl Drop for ChatLog {
    fn drop(&mut self) {
        join(self.stop());
    }
}

/// In which week a time is; send keys are kept and forgotten by weeks.
fn week(now_ms: i64) -> i64 {
    now_ms.div_euclid(SEND_KEYS_KEPT_MS)
}

fn closed() -> Failure {
    errors::store_unavailable("it is closed")
}

fn overloaded() -> Failure {
    errors::overloaded(Duration::from_millis(rand::random_range(50..=200)))
}

fn gone() -> Failure {
    errors::store_unavailable("the writer has gone")
}

/// A lane has a thread of its own and a runtime in it: what it waits for wakes nobody else.
fn thread(number: usize, watch: health::Watch, lane: Lane) -> Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(errors::store_unavailable)?;
    std::thread::Builder::new()
        .name(format!("chats-lane-{number}"))
        .spawn(move || {
            let _watch = watch;
            runtime.block_on(lane.run());
        })
        .map_err(errors::store_unavailable)
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
