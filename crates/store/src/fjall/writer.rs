//! The only one who writes. It takes everything that waits, gives out the seqs, commits all of it at once,
//! and only then lets anybody know, in this order: the caches, the position, the writers, the listeners.
//!
//! Nothing is kept that was not committed: a round works on copies, and a round whose commit fails is
//! forgotten together with the caches. It never waits for more to come, so that a single write takes one
//! sync and a thousand at once take hardly more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use ::fjall::{Keyspace, PersistMode};
use tertulia_kit::error::{Failure, Result};
use tertulia_services::chats::{
    Appended, Chat, ChatKind, Event, EventBody, Fact, NewMessage, Pair, Receipt, Seq, UserEvent,
    UserEventBody,
};
use tertulia_services::errors;
use tertulia_services::ids::{ChatId, UserId};
use tokio::sync::oneshot;

use super::codec::{self, Corrupt, SendHash};
use super::disk::{META_POSITION, Row, chat_row, corrupt, unavailable};
use super::send_keys::SendKeys;
use super::{CrashPoint, Options, Sabotage, Shared};

/// How long the last answers have to leave the process before an asked-for crash after them.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// Something to be written, and who waits for it.
pub enum Request {
    /// A message.
    Append(NewMessage, Answer<Appended>),
    /// A chat.
    Open(NewChat, Answer<Chat>),
}

/// A chat to be opened unless the pair has one.
pub struct NewChat {
    pub pair: Pair,
    pub id: ChatId,
    pub at_ms: i64,
}

/// Who waits.
pub type Answer<T> = oneshot::Sender<Result<T>>;

impl Request {
    /// About what it takes in the queue.
    pub fn bytes(&self) -> usize {
        match self {
            Request::Append(new, _) => 256 + new.text.len(),
            Request::Open(..) => 256,
        }
    }
}

/// What somebody gets after the commit.
enum Outcome {
    Appended(Appended, Answer<Appended>),
    Opened(Chat, Answer<Chat>),
}

impl Outcome {
    // Whoever has stopped waiting learns it by asking again.
    fn tell(self) {
        match self {
            Outcome::Appended(appended, answer) => _ = answer.send(Ok(appended)),
            Outcome::Opened(chat, answer) => _ = answer.send(Ok(chat)),
        }
    }

    fn fail(self, failure: Failure) {
        match self {
            Outcome::Appended(_, answer) => _ = answer.send(Err(failure)),
            Outcome::Opened(_, answer) => _ = answer.send(Err(failure)),
        }
    }
}

/// The writer.
pub struct Writer {
    shared: Arc<Shared>,
    options: Options,
    queue: Receiver<Request>,
    /// To who tells the listeners. Full: the writer waits.
    told: SyncSender<Vec<Fact>>,
    send_keys: SendKeys,
    /// Of the last commit.
    position: u64,
    /// A commit failed, and what is on disk was not read since.
    unsure: bool,
    /// Messages written since the start, for [`CrashPoint`].
    sends: u64,
    /// Where rows are encoded.
    row: Vec<u8>,
}

/// What one commit is made of.
#[derive(Default)]
struct Round {
    position: u64,
    events: Vec<(SendHash, Arc<Event>)>,
    /// By the key, to see a repeat within the round.
    sent: HashMap<SendHash, Arc<Event>>,
    user_events: Vec<Arc<UserEvent>>,
    pairs: HashMap<Pair, ChatId>,
    /// Chats and heads as they will be.
    chats: HashMap<ChatId, Row>,
    user_heads: HashMap<UserId, Seq>,
    facts: Vec<Fact>,
}

impl Round {
    fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        options: Options,
        queue: Receiver<Request>,
        told: SyncSender<Vec<Fact>>,
        send_keys: SendKeys,
    ) -> Writer {
        let position = shared.visible.load(Ordering::Acquire);
        let row = Vec::with_capacity(1 << 10);
        Writer {
            shared,
            options,
            queue,
            told,
            send_keys,
            position,
            unsure: false,
            sends: 0,
            row,
        }
    }

    /// Writes until the queue is closed and empty.
    pub fn run(mut self) {
        let mut requests = Vec::with_capacity(self.options.commit_batch_max);
        while let Ok(first) = self.queue.recv() {
            self.take_waiting(first, &mut requests);
            self.round(&mut requests);
        }
    }

    fn take_waiting(&self, first: Request, requests: &mut Vec<Request>) {
        let mut bytes = first.bytes();
        requests.push(first);
        while requests.len() < self.options.commit_batch_max
            && bytes < self.options.commit_bytes_max
        {
            let Ok(next) = self.queue.try_recv() else {
                break;
            };
            bytes += next.bytes();
            requests.push(next);
        }
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn round(&mut self, requests: &mut Vec<Request>) {
        self.shared.health.begin(&self.shared.clock);
        let mut round = Round {
            position: self.position + 1,
            ..Round::default()
        };
        let mut outcomes = Vec::with_capacity(requests.len());
        let keys = self.prepare();
        for request in requests.drain(..) {
            match (request, &keys) {
                (Request::Append(new, answer), Ok(_)) => match self.append(&mut round, new) {
                    Ok(appended) => outcomes.push(Outcome::Appended(appended, answer)),
                    Err(failure) => _ = answer.send(Err(failure)),
                },
                (Request::Open(new, answer), Ok(_)) => match self.open(&mut round, &new) {
                    Ok(chat) => outcomes.push(Outcome::Opened(chat, answer)),
                    Err(failure) => _ = answer.send(Err(failure)),
                },
                (Request::Append(_, answer), Err(why)) => _ = answer.send(Err(again(why))),
                (Request::Open(_, answer), Err(why)) => _ = answer.send(Err(again(why))),
            }
        }
        match keys {
            Ok(keys) => self.finish(round, outcomes, &keys),
            Err(_) => self.shared.health.end(),
        }
    }

    /// What a round needs before it can begin.
    fn prepare(&mut self) -> Result<Keyspace> {
        if self.unsure {
            let position = self.shared.disk.position()?;
            self.shared.forget(position);
            self.position = position;
            self.unsure = false;
        }
        self.send_keys.current(self.shared.clock.now_ms())
    }

    fn append(&self, round: &mut Round, new: NewMessage) -> Result<Appended> {
        let hash = codec::send_hash(new.sender, &new.key);
        if let Some(event) = self.sent_before(round, &hash, &new)? {
            return Ok(new.repeats(&event));
        }
        let position = round.position;
        let row = match round.chats.entry(new.chat) {
            Entry::Occupied(row) => row.into_mut(),
            Entry::Vacant(place) => match self.shared.row(new.chat)? {
                Some(row) => place.insert(row),
                None => return Ok(Appended::NoChat),
            },
        };
        let again = self.shared.sabotage == Some(Sabotage::ReuseSeq) && position.is_multiple_of(20);
        let receipt = Receipt {
            seq: (row.chat.head + i64::from(!again)).max(1),
            id: new.id,
            at_ms: new.at_ms,
        };
        let members = row.chat.members();
        let event = Arc::new(Event {
            chat: new.chat,
            seq: receipt.seq,
            at_ms: new.at_ms,
            actor: new.sender,
            body: EventBody::Message(new.into_message()),
        });
        row.chat.head = receipt.seq;
        row.chat.last_event = Some(Arc::clone(&event));
        row.position = position;
        round.sent.insert(hash, Arc::clone(&event));
        round.events.push((hash, Arc::clone(&event)));
        round.facts.push(Fact::Event { event, members });
        Ok(Appended::New(receipt))
    }

    /// The event that the key of a sending was used for.
    fn sent_before(
        &self,
        round: &Round,
        hash: &SendHash,
        new: &NewMessage,
    ) -> Result<Option<Arc<Event>>> {
        if self.shared.sabotage == Some(Sabotage::ForgetIdempotency) {
            return Ok(None);
        }
        let event = match round.sent.get(hash) {
            Some(event) => Arc::clone(event),
            None => {
                let Some((chat, seq)) = self.send_keys.find(hash)? else {
                    return Ok(None);
                };
                let event = self.shared.disk.event(chat, seq)?;
                Arc::new(event.ok_or_else(|| corrupt(Corrupt("a send key without its event")))?)
            }
        };
        let EventBody::Message(message) = &event.body;
        let same = event.actor == new.sender && message.key == new.key;
        Ok(same.then_some(event))
    }

    fn open(&self, round: &mut Round, new: &NewChat) -> Result<Chat> {
        let there = match round.pairs.get(&new.pair) {
            Some(chat) => Some(*chat),
            None => self.shared.disk.pair(new.pair)?,
        };
        if let Some(id) = there {
            if let Some(row) = round.chats.get(&id) {
                return Ok(row.chat.clone());
            }
            let row = self.shared.row(id)?;
            return Ok(row
                .ok_or_else(|| corrupt(Corrupt("a pair without its chat")))?
                .chat);
        }
        let users = new.pair.users();
        let mut seqs = [0; 2];
        for (seq, user) in seqs.iter_mut().zip(users) {
            *seq = 1 + match round.user_heads.get(&user) {
                Some(head) => *head,
                None => self.shared.user_head(user)?,
            };
        }
        let chat = Chat {
            id: new.id,
            kind: ChatKind::Direct(new.pair),
            head: 0,
            created_at_ms: new.at_ms,
            last_event: None,
        };
        for (seq, user) in seqs.into_iter().zip(users) {
            let body = UserEventBody::ChatJoined(chat.clone());
            let event = Arc::new(UserEvent {
                user,
                seq,
                at_ms: new.at_ms,
                body,
            });
            round.user_heads.insert(user, seq);
            round.user_events.push(Arc::clone(&event));
            round.facts.push(Fact::UserEvent(event));
        }
        round.pairs.insert(new.pair, new.id);
        round.chats.insert(
            new.id,
            Row {
                chat: chat.clone(),
                position: round.position,
            },
        );
        Ok(chat)
    }

    fn finish(&mut self, round: Round, outcomes: Vec<Outcome>, keys: &Keyspace) {
        if round.is_empty() {
            self.shared.health.end();
            outcomes.into_iter().for_each(Outcome::tell);
            return;
        }
        let crash = self.crash_in(&round);
        crash_if(crash == Some(CrashPoint::BeforeCommit));
        if let Err(failure) = self.commit(&round, keys) {
            let cause = failure.cause_chain();
            tracing::error!(cause, "the logs could not be written");
            self.unsure = true;
            self.shared.health.commit_failed();
            self.shared.health.end();
            outcomes
                .into_iter()
                .for_each(|outcome| outcome.fail(again(&failure)));
            return;
        }
        crash_if(crash == Some(CrashPoint::AfterCommitBeforeAck));
        self.position = round.position;
        self.shared.health.commit_succeeded();
        self.shared
            .take_in(round.position, round.chats, round.user_heads);
        self.shared.health.end();
        outcomes.into_iter().for_each(Outcome::tell);
        if crash == Some(CrashPoint::AfterAckBeforePublish) {
            // The answers leave; the next request, or silence, is the end.
            _ = self.queue.recv_timeout(LAST_ANSWERS);
            crash_if(true);
        }
        // A listener that takes nothing holds up the writer, and shows like a commit that does not end.
        self.shared.health.begin(&self.shared.clock);
        if self.told.send(round.facts).is_err() {
            tracing::error!("nobody tells what is committed");
        }
        self.shared.health.end();
    }

    fn commit(&mut self, round: &Round, keys: &Keyspace) -> Result<()> {
        self.shared.faults.before_commit()?;
        let disk = &self.shared.disk;
        let rows = 2 * round.events.len() + round.chats.len() + 8 * round.pairs.len() + 1;
        let mut batch = disk.batch(rows);
        if self.shared.sabotage == Some(Sabotage::AckBeforeSync) {
            batch = batch.durability(Some(PersistMode::Buffer));
        }
        let row = &mut self.row;
        for (hash, event) in &round.events {
            codec::write_event(row, round.position, event);
            batch.insert(
                &disk.events,
                codec::two_key(event.chat.0, event.seq),
                &row[..],
            );
            codec::write_place(row, event.chat, event.seq);
            batch.insert(keys, *hash, &row[..]);
        }
        for event in &round.user_events {
            codec::write_user_event(row, event);
            batch.insert(
                &disk.user_events,
                codec::two_key(event.user.0, event.seq),
                &row[..],
            );
        }
        for (id, chat) in &round.chats {
            chat_row(chat).write(row);
            batch.insert(&disk.chats, codec::id_key(id.0), &row[..]);
        }
        for (user, head) in &round.user_heads {
            batch.insert(&disk.user_heads, codec::id_key(user.0), head.to_be_bytes());
        }
        for (pair, id) in &round.pairs {
            for user in pair.users() {
                batch.insert(&disk.memberships, codec::two_key(user.0, id.0), []);
            }
            batch.insert(&disk.pairs, codec::pair_key(*pair), codec::id_key(id.0));
        }
        batch.insert(&disk.meta, META_POSITION, round.position.to_be_bytes());
        batch.commit().map_err(unavailable)
    }

    /// The crash that a test asked for, when this is the round for it.
    fn crash_in(&mut self, round: &Round) -> Option<CrashPoint> {
        self.sends += round.events.len() as u64;
        self.options
            .crash_at
            .filter(|_| self.sends > self.options.crash_after)
    }
}

/// The same failure for one more; a failure has one owner.
fn again(failure: &Failure) -> Failure {
    let cause = failure.cause_chain().unwrap_or_else(|| failure.to_string());
    errors::store_unavailable(cause)
}

fn crash_if(asked: bool) {
    if asked {
        std::process::abort();
    }
}
