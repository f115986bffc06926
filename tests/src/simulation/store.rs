//! The store of the logs with the manners of a disk: writes wait for one commit, what is committed stays,
//! what only waits is lost in a crash, and a backup brings back an older state as another history.
//!
//! The logs themselves are the memory adapter's, rebuilt from the journal of committed writes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::RngCore as _;
use tertulia_kit::clock::{Clock, SharedClock};
use tertulia_kit::error::Result;
use tertulia_services::chats::memory::Memory;
use tertulia_services::chats::{
    Appended, Chat, ChatStore, Committed, Epoch, Event, Fact, Moved, NewMessage, Page, Pair,
    Position, Receipt, SEND_KEYS_KEPT_MS, Seq, UserEvent,
};
use tertulia_services::errors;
use tertulia_services::ids::{ChatId, UserId};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::model::{Model, View, row, view_of};
use super::sabotage::Sabotage;
use super::world::World;

/// What a store that has too much to do asks for, in milliseconds.
const OVERLOAD_WAIT_MS: u64 = 200;
/// How many of the newest writes a restored backup may lack.
const RESTORE_LOSES_MAX: usize = 12;

/// A write, as the port has them. A new one of the port is a new one here.
#[derive(Debug, Clone)]
enum Write {
    OpenDirect { pair: Pair, id: ChatId, at_ms: i64 },
    Append(NewMessage),
}

/// What a write gives.
#[derive(Debug, Clone)]
enum Written {
    Chat(Chat),
    Appended(Appended),
}

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
    /// Every write that was committed, in its order.
    journal: Vec<Write>,
    queue: VecDeque<(Write, Option<oneshot::Sender<Result<Written>>>)>,
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
            journal.pop();
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
        let lost_keys: BTreeSet<_> = lost
            .iter()
            .filter_map(|write| match write {
                Write::Append(new) => Some((new.sender, new.key.client_message_id.clone())),
                Write::OpenDirect { .. } => None,
            })
            .collect();
        let was_there = self.everything().await;
        let lost: Vec<Arc<Event>> = was_there
            .into_values()
            .flatten()
            .filter(|e| lost_keys.contains(&(e.actor, row(e).key.1)))
            .collect();
        let (logs, tap) = self.replay(epoch, &journal).await;
        let facts = std::mem::take(&mut *tap.0.lock());
        let is_there = facts.into_iter().filter_map(|fact| match fact {
            Fact::Event { event, .. } => Some(event),
            Fact::UserEvent(_) => None,
        });
        let is_there: Vec<_> = is_there.collect();
        self.model.restored(&name_of(epoch), &is_there, &lost);
        let mut kept = self.kept.lock();
        (kept.logs, kept.tap, kept.journal) = (logs, tap, journal);
    }

    async fn replay(&self, epoch: Epoch, journal: &[Write]) -> (Arc<Memory>, Arc<Tap>) {
        let tap = Arc::new(Tap::default());
        let logs = Memory::new(epoch, tap.clone(), Arc::clone(&self.clock));
        for write in journal {
            _ = perform(&logs, write.clone()).await;
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
        for (write, answer) in batch {
            let written = perform(&logs, write.clone()).await;
            if !tap.0.lock().is_empty() {
                self.kept.lock().journal.push(write);
            }
            // Committed: from here on it is true.
            for fact in tap.0.lock().iter() {
                if let Fact::Event { event, .. } = fact {
                    let text = row(event).text;
                    self.world
                        .note("store", format_args!("commits {} {text:.20}", event.seq));
                    self.model.committed(&epoch, event);
                }
            }
            let facts = std::mem::take(&mut *tap.0.lock());
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

    async fn write(&self, write: Write) -> Result<Written> {
        self.available()?;
        if self.world.fault(self.world.faults().store_overloads) {
            let wait = std::time::Duration::from_millis(OVERLOAD_WAIT_MS);
            return Err(errors::overloaded(wait));
        }
        let (answer, answered) = oneshot::channel();
        self.queue(write, Some(answer));
        let gone = |_| errors::store_unavailable("the writer is gone");
        answered.await.map_err(gone)?
    }

    fn queue(&self, write: Write, answer: Option<oneshot::Sender<Result<Written>>>) {
        self.kept.lock().queue.push_back((write, answer));
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

    /// Whether a write of this key is waiting or was committed.
    fn knows_key(&self, new: &NewMessage) -> bool {
        let kept = self.kept.lock();
        let mut waiting = kept.queue.iter().map(|(write, _)| write);
        let is_it = |write: &Write| matches!(write, Write::Append(w) if (w.sender, &w.key) == (new.sender, &new.key));
        waiting.any(is_it) || kept.journal.iter().any(is_it)
    }

    /// How many appends to this chat are waiting.
    fn waiting_for(&self, chat: ChatId) -> usize {
        let kept = self.kept.lock();
        let mut waiting = 0;
        for (write, _) in &kept.queue {
            waiting += usize::from(matches!(write, Write::Append(new) if new.chat == chat));
        }
        waiting
    }

    /// All events of all chats.
    async fn everything(&self) -> BTreeMap<ChatId, Vec<Arc<Event>>> {
        let (logs, journal) = {
            let kept = self.kept.lock();
            (Arc::clone(&kept.logs), kept.journal.clone())
        };
        let mut all = BTreeMap::new();
        for write in journal {
            if let Write::OpenDirect { id, .. } = write {
                let page = logs.events_after(id, 0, usize::MAX).await;
                all.insert(id, page.map_or_else(|_| Vec::new(), |page| page.events));
            }
        }
        all
    }

    /// What the members of each chat must see.
    pub async fn views(&self) -> BTreeMap<i64, View> {
        let all = self.everything().await.into_iter();
        all.map(|(chat, events)| (chat.0, view_of(events.iter().map(|e| row(e)))))
            .collect()
    }

    /// The chats of a user with their heads.
    pub async fn heads_of(&self, user: UserId) -> Vec<(i64, Seq)> {
        let chats = self.logs().chats_of(user).await.unwrap_or_default();
        chats.iter().map(|chat| (chat.id.0, chat.head)).collect()
    }
}

fn name_of(epoch: Epoch) -> String {
    format!("{:016x}", epoch.0)
}

fn empty(world: &World, clock: &SharedClock) -> (Arc<Memory>, Arc<Tap>) {
    let tap = Arc::new(Tap::default());
    let epoch = Epoch(world.fork().next_u64());
    (Memory::new(epoch, tap.clone(), Arc::clone(clock)), tap)
}

async fn perform(logs: &Memory, write: Write) -> Result<Written> {
    match write {
        Write::OpenDirect { pair, id, at_ms } => {
            logs.open_direct(pair, id, at_ms).await.map(Written::Chat)
        }
        Write::Append(new) => logs.append(new).await.map(Written::Appended),
    }
}

fn other_kind() -> tertulia_kit::error::Failure {
    errors::internal("a write was answered as another one")
}

#[async_trait]
impl ChatStore for Store {
    fn epoch(&self) -> Epoch {
        self.logs().epoch()
    }

    async fn open_direct(&self, pair: Pair, id: ChatId, at_ms: i64) -> Result<Chat> {
        match self.write(Write::OpenDirect { pair, id, at_ms }).await? {
            Written::Chat(chat) => Ok(chat),
            Written::Appended(_) => Err(other_kind()),
        }
    }

    async fn append(&self, new: NewMessage) -> Result<Appended> {
        if self.world.plan.sabotage == Some(Sabotage::AcksBeforeCommit)
            && !self.knows_key(&new)
            && let Some(chat) = self.logs().chat(new.chat).await?
        {
            let receipt = Receipt {
                seq: chat.head + self.waiting_for(new.chat) as Seq + 1,
                id: new.id,
                at_ms: new.at_ms,
            };
            self.queue(Write::Append(new), None);
            return Ok(Appended::New(receipt));
        }
        match self.write(Write::Append(new)).await? {
            Written::Appended(appended) => Ok(appended),
            Written::Chat(_) => Err(other_kind()),
        }
    }

    async fn chat(&self, id: ChatId) -> Result<Option<Chat>> {
        self.read().await?.chat(id).await
    }

    async fn events_after(&self, chat: ChatId, after: Seq, limit: usize) -> Result<Page<Event>> {
        self.read().await?.events_after(chat, after, limit).await
    }

    async fn events_before(&self, chat: ChatId, before: Seq, limit: usize) -> Result<Page<Event>> {
        self.read().await?.events_before(chat, before, limit).await
    }

    async fn user_events_after(
        &self,
        user: UserId,
        after: Seq,
        limit: usize,
    ) -> Result<Page<UserEvent>> {
        let logs = self.read().await?;
        logs.user_events_after(user, after, limit).await
    }

    async fn chats_of(&self, user: UserId) -> Result<Vec<Chat>> {
        self.read().await?.chats_of(user).await
    }

    async fn moved_since(&self, user: UserId, since: Position) -> Result<Option<Moved>> {
        let mut moved = self.read().await?.moved_since(user, since).await?;
        if let (Some(moved), Some(Sabotage::HidesAHead)) = (&mut moved, self.world.plan.sabotage)
            && self.world.hits(300)
        {
            moved.chats.pop();
        }
        Ok(moved)
    }

    async fn events_since(
        &self,
        chats: &[Chat],
        since: Position,
        limit: usize,
    ) -> Result<Option<Vec<Arc<Event>>>> {
        let logs = self.read().await?;
        let limit = limit.min(self.world.plan.delta_events_max);
        let mut events = logs.events_since(chats, since, limit).await?;
        if let (Some(events), Some(Sabotage::DropsAMissedEvent)) =
            (&mut events, self.world.plan.sabotage)
            && events.len() > 1
            && self.world.hits(300)
        {
            events.remove(self.world.pick(events.len()));
        }
        Ok(events)
    }

    async fn position(&self) -> Result<Position> {
        self.read().await?.position().await
    }
}
