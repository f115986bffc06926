//! The store of the logs with the manners of a disk: writes wait for one commit, what is committed stays,
//! what only waits is lost in a crash, and a backup brings back an older state as another history.
//!
//! The logs themselves are the memory adapter's, rebuilt from the journal of committed writes.

mod port;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rand::RngCore as _;
use tertulia_kit::clock::{Clock, SharedClock};
use tertulia_kit::error::Result;
use tertulia_services::chats::memory::Memory;
use tertulia_services::chats::{
    Act, Audience, ChatStore as _, Command, Committed, Done, Epoch, Event, Fact, ListPlace,
    NewMessage, Position, SEND_KEYS_KEPT_MS, Seq, Standing,
};
use tertulia_services::errors;
use tertulia_services::ids::{ChatId, UserId};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::model::Model;
use super::sabotage::Sabotage;
use super::view::line;
use super::world::World;
use crate::view::View;

/// What a store that has too much to do asks for, in milliseconds.
const OVERLOAD_WAIT_MS: u64 = 200;
/// How many of the newest writes a restored backup may lack.
const RESTORE_LOSES_MAX: usize = 40;

/// It.
pub struct Store {
    world: Arc<World>,
    model: Arc<Model>,
    clock: SharedClock,
    /// Hears of what was committed, later.
    feed: Arc<dyn Committed>,
    /// Guards everything that a crash can touch.
    kept: Mutex<Kept>,
    queued: Notify,
}

struct Kept {
    logs: Arc<Memory>,
    /// What the logs tell, until it is fetched.
    tap: Arc<Tap>,
    /// Every command that changed something, in the order of the commits.
    journal: Vec<Command>,
    queue: VecDeque<(Command, Option<oneshot::Sender<Result<Done>>>)>,
    writer: Option<JoinHandle<()>>,
}

/// Takes facts out of the memory adapter.
#[derive(Default)]
struct Tap(Mutex<Vec<Fact>>);

impl Committed for Tap {
    fn committed(&self, facts: Vec<Fact>) {
        self.0.lock().extend(facts);
    }
}

/// A clock that is a week on whenever somebody looks.
#[derive(Debug, Default)]
struct WeeksGoBy(AtomicI64);

impl Clock for WeeksGoBy {
    fn now_ms(&self) -> i64 {
        self.0.fetch_add(SEND_KEYS_KEPT_MS + 1, Ordering::Relaxed)
    }
}

impl Store {
    /// An empty store that tells `feed`.
    pub fn new(
        world: &Arc<World>,
        model: &Arc<Model>,
        clock: SharedClock,
        feed: Arc<dyn Committed>,
    ) -> Arc<Store> {
        let clock = match world.plan.sabotage {
            Some(Sabotage::ForgetsIdempotency) => Arc::new(WeeksGoBy::default()),
            _ => clock,
        };
        let (logs, tap) = empty(world, &clock);
        Arc::new(Store {
            world: Arc::clone(world),
            model: Arc::clone(model),
            clock,
            feed,
            kept: Mutex::new(Kept {
                logs,
                tap,
                journal: Vec::new(),
                queue: VecDeque::new(),
                writer: None,
            }),
            queued: Notify::new(),
        })
    }

    /// The epoch as clients know it.
    pub fn epoch_name(&self) -> String {
        name_of(self.logs().epoch())
    }

    /// The logs as they are, for who must see everything.
    fn logs(&self) -> Arc<Memory> {
        Arc::clone(&self.kept.lock().logs)
    }

    /// Opens after a start or a crash.
    pub fn open(self: &Arc<Self>) {
        let store = Arc::clone(self);
        let writer = tokio::spawn(async move { store.write_for_ever().await });
        self.kept.lock().writer = Some(writer);
    }

    /// Whether it takes writes.
    pub fn is_open(&self) -> bool {
        self.kept.lock().writer.is_some()
    }

    /// What waits is lost, and nobody is told any more of what was committed lately.
    pub async fn crash(&self) {
        let writer = {
            let mut kept = self.kept.lock();
            kept.queue.clear();
            kept.writer.take()
        };
        if let Some(writer) = writer {
            writer.abort();
            // Until it is gone it could go a step further.
            _ = writer.await;
        }
        if self.world.plan.sabotage == Some(Sabotage::ReusesASeq) {
            let mut journal = self.kept.lock().journal.clone();
            let is_send = |command: &Command| matches!(command.act, Act::Send(_));
            let last = journal.iter().rposition(is_send);
            journal.truncate(last.unwrap_or(0));
            let epoch = self.logs().epoch();
            let (logs, tap) = self.replay(epoch, &journal).await;
            tap.0.lock().clear();
            let mut kept = self.kept.lock();
            (kept.logs, kept.tap, kept.journal) = (logs, tap, journal);
        }
    }

    /// Goes back to an older state, as another history. To be called while it is closed.
    pub async fn restore(&self) {
        let (mut journal, epoch) = {
            let kept = self.kept.lock();
            (kept.journal.clone(), Epoch(self.world.fork().next_u64()))
        };
        let loses = self.world.pick(RESTORE_LOSES_MAX.min(journal.len()) + 1);
        let lost = journal.split_off(journal.len() - loses);
        let lost = lost.into_iter().filter_map(|command| match command.act {
            Act::Send(new) => Some(new.key),
            _ => None,
        });
        let (logs, tap) = self.replay(epoch, &journal).await;
        let facts = std::mem::take(&mut *tap.0.lock());
        let is_there = facts.into_iter().filter_map(|fact| match fact {
            Fact::Event { event, .. } => Some(event),
            Fact::UserEvent(_) | Fact::Receipt { .. } => None,
        });
        let is_there: Vec<_> = is_there.collect();
        let (before, after) = (self.epoch_name(), name_of(epoch));
        self.model.restored((before, &after), &is_there, lost);
        let mut kept = self.kept.lock();
        (kept.logs, kept.tap, kept.journal) = (logs, tap, journal);
    }

    async fn replay(&self, epoch: Epoch, journal: &[Command]) -> (Arc<Memory>, Arc<Tap>) {
        let tap = Arc::new(Tap::default());
        let logs = Memory::new(epoch, tap.clone(), Arc::clone(&self.clock));
        for command in journal {
            _ = logs.write(command.clone()).await;
        }
        (logs, tap)
    }

    async fn write_for_ever(&self) {
        loop {
            self.queued.notified().await;
            loop {
                self.world.pause(self.world.faults().commit_ms).await;
                if !self.commit().await {
                    break;
                }
            }
        }
    }

    /// Commits all that waits; false when nothing did.
    async fn commit(&self) -> bool {
        let (batch, logs, tap) = {
            let mut kept = self.kept.lock();
            let batch = std::mem::take(&mut kept.queue);
            (batch, Arc::clone(&kept.logs), Arc::clone(&kept.tap))
        };
        if batch.is_empty() {
            return false;
        }
        let epoch = self.epoch_name();
        let mut answers = Vec::with_capacity(batch.len());
        for (command, answer) in batch {
            let before = position_of(&logs).await;
            let written = logs.write(command.clone()).await;
            if position_of(&logs).await != before {
                self.kept.lock().journal.push(command);
            }
            // Committed: from here on it is true.
            for fact in tap.0.lock().iter() {
                if let Fact::Event { event, .. } = fact {
                    let (seq, text) = (event.seq, event.message().map_or("", |m| &m.text));
                    self.world
                        .note("store", format_args!("commits {seq} {text:.20}"));
                    self.model.committed(&epoch, event);
                }
            }
            let mut facts = std::mem::take(&mut *tap.0.lock());
            if self.world.plan.sabotage == Some(Sabotage::TellsTheRemoved) {
                facts.iter_mut().for_each(|fact| self.widen(&epoch, fact));
            }
            answers.push((facts, answer, written));
        }
        let gap = self.world.faults().after_commit_ms;
        // Nobody promises which comes first.
        if self.world.hits(500) {
            self.world.pause(gap).await;
            let told = answers
                .iter_mut()
                .flat_map(|(facts, ..)| std::mem::take(facts));
            self.feed.committed(told.collect());
        }
        self.world.pause(gap).await;
        let mut untold = Vec::new();
        for (facts, answer, written) in answers {
            untold.extend(facts);
            let Some(answer) = answer else { continue };
            let unsure = self.world.fault(self.world.faults().store_failures);
            _ = answer.send(match unsure {
                true => Err(errors::store_unavailable("it was written, and yet")),
                false => written,
            });
        }
        self.world.pause(gap).await;
        self.feed.committed(untold);
        true
    }

    /// Who was ever in a group is told.
    fn widen(&self, epoch: &str, fact: &mut Fact) {
        if let Fact::Event { event, audience } = fact
            && matches!(audience, Audience::Members(_))
        {
            let all = self.model.ever_in(epoch, event.chat);
            *audience = Audience::Members(all.into());
        }
    }

    async fn enter(&self, command: Command) -> Result<Done> {
        self.available()?;
        if self.world.fault(self.world.faults().store_overloads) {
            let wait = std::time::Duration::from_millis(OVERLOAD_WAIT_MS);
            return Err(errors::overloaded(wait));
        }
        let (answer, answered) = oneshot::channel();
        self.queue(command, Some(answer));
        let gone = |_| errors::store_unavailable("the writer is gone");
        answered.await.map_err(gone)?
    }

    fn queue(&self, command: Command, answer: Option<oneshot::Sender<Result<Done>>>) {
        self.kept.lock().queue.push_back((command, answer));
        self.queued.notify_one();
    }

    /// Fails now and then, before anything is done.
    fn available(&self) -> Result<()> {
        match self.world.fault(self.world.faults().store_failures) {
            true => Err(errors::store_unavailable("the disk does not answer")),
            false => Ok(()),
        }
    }

    async fn read(&self) -> Result<Arc<Memory>> {
        self.available()?;
        self.world.pause(self.world.faults().read_ms).await;
        Ok(self.logs())
    }

    /// Whether a sending of this key is waiting or was committed.
    fn knows_key(&self, sender: UserId, new: &NewMessage) -> bool {
        let kept = self.kept.lock();
        let mut waiting = kept.queue.iter().map(|(command, _)| command);
        let is_it = |command: &Command| match &command.act {
            Act::Send(other) => (command.actor, &other.key) == (sender, &new.key),
            _ => false,
        };
        waiting.any(is_it) || kept.journal.iter().any(is_it)
    }

    /// How many messages for this chat are waiting.
    fn waiting_for(&self, chat: ChatId) -> usize {
        let kept = self.kept.lock();
        let waiting = kept.queue.iter();
        waiting
            .filter(|(command, _)| matches!(&command.act, Act::Send(new) if new.chat == chat))
            .count()
    }

    /// All events of all chats, as they are now.
    pub async fn everything(&self) -> BTreeMap<i64, Vec<Arc<Event>>> {
        let (logs, journal) = {
            let kept = self.kept.lock();
            (Arc::clone(&kept.logs), kept.journal.clone())
        };
        let mut all = BTreeMap::new();
        for command in journal {
            let id = match command.act {
                Act::OpenDirect { id, .. } => id,
                Act::Create(new) => new.id,
                _ => continue,
            };
            all.insert(id.0, events_of(&logs, id).await);
        }
        all
    }

    /// What a member of a chat must see.
    pub async fn view(&self, user: UserId, chat: ChatId) -> View {
        let logs = self.logs();
        let events = events_of(&logs, chat).await;
        let seqs: Vec<Seq> = events.iter().map(|event| event.seq).collect();
        let mine = logs.mine(user, chat, &seqs).await.unwrap_or_default();
        events.iter().map(|event| line(event, &mine)).collect()
    }

    /// The chats of a user, as they stand for them.
    pub async fn standings_of(&self, user: UserId) -> Vec<Standing> {
        let logs = self.logs();
        let all = ListPlace::BOTTOM..ListPlace::TOP;
        let chats = logs.chats_of(user, all, usize::MAX).await;
        let chats = chats.unwrap_or_default().into_iter();
        let ids: Vec<ChatId> = chats.map(|(place, _)| place.chat).collect();
        logs.standings(user, &ids).await.unwrap_or_default()
    }
}

async fn events_of(logs: &Memory, chat: ChatId) -> Vec<Arc<Event>> {
    let page = logs.events_after(chat, 0, usize::MAX).await;
    page.map_or_else(|_| Vec::new(), |page| page.events)
}

fn name_of(epoch: Epoch) -> String {
    format!("{:016x}", epoch.0)
}

fn empty(world: &World, clock: &SharedClock) -> (Arc<Memory>, Arc<Tap>) {
    let tap = Arc::new(Tap::default());
    let epoch = Epoch(world.fork().next_u64());
    (Memory::new(epoch, tap.clone(), Arc::clone(clock)), tap)
}

async fn position_of(logs: &Memory) -> Position {
    let position = logs.position().await;
    position.expect("memory can always be read")
}
