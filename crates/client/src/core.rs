//! What a client knows and how it comes to know it. Every change goes through a [`Change set`](Changes): it is
//! applied to the snapshot in memory, written to the store as one batch, and told to the application, in this
//! order and under one lock. So the store, the screen and the cursor never disagree.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buffa::Message;
use parking_lot::{Mutex, MutexGuard};
use tertulia_proto::chats::user_event::Body as OwnBody;
use tertulia_proto::chats::{Chat, Event, SendMessageResponse, UserEvent, event::Body};
use tertulia_proto::identity::{Credentials, RefreshRequest, RefreshResponse};
use tertulia_proto::live::missed::Answer;
use tertulia_proto::live::{Heartbeat, Missed, Reset, ResetReason};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::outbox::{Entry, State};
use crate::session::Calls;
use crate::store::{Known, Record, Snapshot, Store, stored};
use crate::time::{Life, Machine};
use crate::timeline::Timeline;
use crate::transport::Transport;
use crate::{ChatId, UserId};

/// The bounds of a client, each with its unit.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name that the person sees in the list of logins.
    pub device_name: String,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// How long a connection may take to be opened and welcomed.
    pub connect_timeout: Duration,
    /// The first wait before connecting again; each further one may be twice as long.
    pub backoff_min: Duration,
    /// The longest wait before connecting again.
    pub backoff_max: Duration,
    /// How long a hole may be filled by what is still on its way before it is asked for.
    pub hole_patience: Duration,
    /// The largest hole that is filled event by event. Behind a larger one only the newest events are
    /// fetched; the rest is history.
    pub hole_events_max: i64,
    /// How many of the newest events of a chat are fetched when the client begins anew.
    pub fresh_events: i64,
    /// How many events of a chat are kept in memory.
    pub memory_events_max: usize,
    /// How many messages may wait to be confirmed; more are refused.
    pub outbox_max: usize,
    /// How many messages may be on their way at once, one of each chat.
    pub sending_max: usize,
    /// How many holes are filled at once.
    pub repairs_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            device_name: String::new(),
            call_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(15),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            hole_patience: Duration::from_millis(150),
            hole_events_max: 1_000,
            fresh_events: 1,
            memory_events_max: 10_000,
            outbox_max: 10_000,
            sending_max: 32,
            repairs_max: 4,
        }
    }
}

/// The state of the live connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// Nobody asked for one.
    Stopped,
    /// Nobody is signed in; why, when the server ended it.
    SignedOut(Option<String>),
    /// It is being opened.
    Connecting,
    /// Everything that was missed is known, and what happens is heard.
    Online,
    /// It broke, and is tried again.
    Offline {
        /// Why.
        reason: String,
        /// In how long.
        retry_in: Duration,
    },
    /// The server does not want this client to come back.
    Refused {
        /// The close code.
        code: u32,
        /// For people.
        reason: String,
    },
}

/// What an application is told. It reads the rest from the client. Who does not read loses the oldest of
/// these and is told so; then it reads everything again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The live connection has another state.
    Connection(Connection),
    /// A chat has another content or is new.
    Chat(ChatId),
    /// A message of this device went a step further.
    Message {
        /// Where.
        chat: ChatId,
        /// Which.
        client_message_id: String,
        /// How far.
        state: State,
    },
    /// What was known is no longer true; everything begins anew.
    Reset,
}

/// An event as it appeared to the person: for tests that compare what clients saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The epoch of the log.
    pub epoch: String,
    /// The chat.
    pub chat: ChatId,
    /// The event's number.
    pub seq: i64,
    /// Who did it.
    pub actor: UserId,
    /// What was said; empty when the event is no message.
    pub text: String,
    /// The id that the sender gave it.
    pub client_message_id: String,
}

/// Is told of each event when it is first shown, in order, after it was stored. It is called under the
/// client's lock: it must be quick and must not call the client.
pub type Observer = Arc<dyn Fn(&Seen) + Send + Sync>;

/// A chat to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatView {
    /// Kind and members.
    pub chat: Chat,
    /// The newest shown events, oldest first, without holes.
    pub events: Vec<Event>,
    /// Messages of this device that are not among the events yet, in the order in which they were written.
    pub pending: Vec<Entry>,
    /// How far the log is known to go.
    pub head: i64,
    /// There is more before these events, here or on the server.
    pub older: bool,
}

/// What is missing, to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    /// The next page of a chat.
    Chat(ChatId),
    /// Kind and members of a chat.
    Members(ChatId),
    /// The next page of the user's own log.
    Own,
}

/// What to do about missing things.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Do(Job, i64),
    Wait(Instant),
    Nothing,
}

/// A cursor that may be stored once everything below these heads is held.
#[derive(Debug, Default)]
struct Waiting {
    cursor: Vec<u8>,
    heads: BTreeMap<ChatId, i64>,
    own: i64,
}

/// What the lock guards.
pub(crate) struct Mind {
    pub(crate) known: Snapshot,
    own_head: i64,
    waiting: Option<Waiting>,
    pub(crate) life: Option<Life>,
    /// Messages that may have been committed in an earlier run: they wait until their chat has no hole.
    uncertain: HashSet<String>,
    /// Since when a chat has a hole.
    holes: BTreeMap<ChatId, Instant>,
    /// Jobs under way.
    claimed: HashSet<Job>,
    /// Jobs that the server refuses; not tried again in this session.
    hopeless: HashSet<Job>,
}

pub(crate) struct Core {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) options: Options,
    store: Arc<dyn Store>,
    /// Something was written that a power cut could take.
    unsynced: AtomicBool,
    observer: Option<Observer>,
    // Guards everything that is known. Held for one change and its append to the store; never across a wait.
    mind: Mutex<Mind>,
    // Guards the handle of the live session; held to read or replace it.
    calls: Mutex<Option<Calls>>,
    /// One refresh at a time: a refresh token is good for one.
    refreshing: tokio::sync::Mutex<()>,
    changes: broadcast::Sender<Change>,
    pub(crate) connection: watch::Sender<Connection>,
    /// Counts reasons to look at the outbox and at holes.
    pub(crate) wake: watch::Sender<u64>,
    /// Counts reasons to try at once what was given up.
    pub(crate) again: watch::Sender<u64>,
}

/// How many changes wait for an application that does not read.
const CHANGES_MAX: usize = 1_024;
/// How many newest events are fetched behind a hole that is too large.
const TAIL_EVENTS: i64 = 50;

impl Core {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        machine: Arc<dyn Machine>,
        store: Arc<dyn Store>,
        options: Options,
        observer: Option<Observer>,
    ) -> Result<Self> {
        let known = store.load()?;
        let core = Core {
            transport,
            options,
            observer,
            mind: Mutex::new(Mind {
                own_head: known.own_tip,
                waiting: None,
                life: known
                    .credentials
                    .as_ref()
                    .map(|kept| Life::stored(kept, machine.now_ms())),
                uncertain: known
                    .outbox
                    .iter()
                    .map(|e| e.client_message_id.clone())
                    .collect(),
                holes: BTreeMap::new(),
                claimed: HashSet::new(),
                hopeless: HashSet::new(),
                known,
            }),
            machine,
            store,
            unsynced: AtomicBool::new(false),
            calls: Mutex::new(None),
            refreshing: tokio::sync::Mutex::new(()),
            changes: broadcast::channel(CHANGES_MAX).0,
            connection: watch::Sender::new(Connection::Stopped),
            wake: watch::Sender::new(0),
            again: watch::Sender::new(0),
        };
        if core.mind.lock().known.device.is_empty() {
            let device = Record::Device(crate::time::random_id(&*core.machine));
            core.change(|set| set.put(device))?;
            core.store.sync()?;
        }
        Ok(core)
    }

    pub(crate) fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock()
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    pub(crate) fn tell(&self, change: Change) {
        // Nobody may be listening; that is no fault.
        _ = self.changes.send(change);
    }

    pub(crate) fn set_connection(&self, next: Connection) {
        let changed = self.connection.send_if_modified(|now| {
            let changed = *now != next;
            *now = next.clone();
            changed
        });
        if changed {
            self.tell(Change::Connection(next));
        }
    }

    pub(crate) fn wake(&self) {
        self.wake.send_modify(|n| *n += 1);
    }

    pub(crate) fn set_calls(&self, calls: Option<Calls>) {
        *self.calls.lock() = calls;
    }

    /// Waits until what was written survives a power cut.
    pub(crate) async fn sync(&self) -> Result<()> {
        Ok(Arc::clone(&self.store).synced().await?)
    }

    /// Lets the disk catch up in the background, and the store tidy up: what is heard needs no haste.
    #[expect(
        clippy::disallowed_methods,
        reason = "the client stands alone, without the kit's lifecycle"
    )]
    pub(crate) fn sync_soon(&self) {
        if self.unsynced.swap(false, Ordering::Relaxed) {
            let synced = Arc::clone(&self.store).synced();
            tokio::spawn(async {
                if let Err(error) = synced.await {
                    tracing::warn!(%error, "the store could not be synced");
                }
            });
        }
    }

    /// Makes changes: in memory, then in the store as one batch, then told.
    pub(crate) fn change<T>(&self, make: impl FnOnce(&mut Changes<'_>) -> T) -> Result<T> {
        let mut mind = self.mind.lock();
        let mut set = Changes {
            options: &self.options,
            mind: &mut mind,
            records: vec![],
            tips: BTreeMap::new(),
            told: vec![],
        };
        let made = make(&mut set);
        set.advance_cursor();
        let Changes {
            records,
            tips,
            told,
            ..
        } = set;
        if !records.is_empty()
            && let Err(error) = self.store.write(&records)
        {
            // Memory must not run ahead of the store: back to what is written.
            if let Ok(known) = self.store.load() {
                mind.known = known;
            }
            return Err(error.into());
        }
        if !records.is_empty() {
            self.unsynced.store(true, Ordering::Relaxed);
        }
        for (chat, tip) in tips {
            self.show(&mut mind, chat, tip);
        }
        drop(mind);
        told.into_iter().for_each(|change| self.tell(change));
        if !records.is_empty() {
            self.wake();
        }
        Ok(made)
    }

    /// Tells what is shown of a chat since its tip was `tip`.
    fn show(&self, mind: &mut Mind, chat: ChatId, tip: i64) {
        let epoch = &mind.known.epoch;
        let Some(known) = mind.known.chats.get_mut(&chat) else {
            return;
        };
        if let Some(observer) = &self.observer {
            for event in known.timeline.shown_after(tip) {
                observer(&seen(epoch, event));
            }
        }
        if known.timeline.len() > 2 * self.options.memory_events_max {
            known.timeline.trim(self.options.memory_events_max);
        }
        match known.timeline.hole() {
            Some(_) => _ = mind.holes.entry(chat).or_insert_with(Instant::now),
            None => _ = mind.holes.remove(&chat),
        }
        self.tell(Change::Chat(chat));
    }

    // ---- calls and tokens

    /// Calls a method without a session.
    pub(crate) async fn call_alone<Q: Message, A: Message>(
        &self,
        method: &str,
        token: Option<&str>,
        request: &Q,
    ) -> Result<A> {
        let (request, timeout) = (request.encode_to_vec(), self.options.call_timeout);
        let answer = self.transport.call(method, token, request, timeout).await?;
        A::decode_from_slice(&answer).map_err(|e| Error::Protocol(e.to_string()))
    }

    /// Calls a method over the live session, or alone when there is none.
    pub(crate) async fn call<Q: Message, A: Message>(
        &self,
        method: &str,
        request: &Q,
    ) -> Result<A> {
        let calls = self.calls.lock().clone();
        if let Some(calls) = calls {
            let answer = calls
                .call(method, request.encode_to_vec(), self.options.call_timeout)
                .await;
            match answer {
                Err(Error::Offline(_)) => {}
                Err(error) if error.wants_new_token() => {}
                answer => {
                    return A::decode_from_slice(&answer?)
                        .map_err(|e| Error::Protocol(e.to_string()));
                }
            }
        }
        let token = self.fresh_token(None).await?;
        let answer = match self.call_alone(method, Some(&token), request).await {
            Err(error) if error.wants_new_token() => {
                let token = self.fresh_token(Some(&token)).await?;
                self.call_alone(method, Some(&token), request).await
            }
            answer => answer,
        };
        if let Err(error) = &answer
            && error.ends_login()
        {
            self.login_ended(error.to_string())?;
        }
        answer
    }

    /// An access token that is not about to end, and is not `spent`.
    pub(crate) async fn fresh_token(&self, spent: Option<&str>) -> Result<String> {
        let good = |mind: &Mind| -> Result<Option<String>> {
            let credentials = mind.known.credentials.as_ref().ok_or(Error::SignedOut)?;
            let over = mind.life.is_none_or(|life| life.is_over());
            let usable = !over && spent != Some(credentials.access_token.as_str());
            Ok(usable.then(|| credentials.access_token.clone()))
        };
        if let Some(token) = good(&self.mind.lock())? {
            return Ok(token);
        }
        let _one = self.refreshing.lock().await;
        // Somebody else may have done it while we waited.
        if let Some(token) = good(&self.mind.lock())? {
            return Ok(token);
        }
        let refresh_token = {
            let mind = self.mind.lock();
            mind.known
                .credentials
                .as_ref()
                .ok_or(Error::SignedOut)?
                .refresh_token
                .clone()
        };
        let request = RefreshRequest {
            refresh_token: refresh_token.clone(),
            ..Default::default()
        };
        let method = "tertulia.identity.v1.IdentityService/Refresh";
        let answer: Result<RefreshResponse> = self.call_alone(method, None, &request).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if error.ends_login() {
                    self.login_ended(error.to_string())?;
                    return Err(Error::SignedOut);
                }
                return Err(error);
            }
        };
        let credentials = answer
            .credentials
            .into_option()
            .ok_or_else(|| empty("credentials"))?;
        let token = credentials.access_token.clone();
        // Whoever signed out meanwhile stays signed out.
        let current = self
            .mind
            .lock()
            .known
            .credentials
            .as_ref()
            .map(|c| c.refresh_token.clone());
        if current.as_ref() != Some(&refresh_token) {
            return Err(Error::SignedOut);
        }
        self.signed_in(credentials).await?;
        Ok(token)
    }

    /// Keeps credentials, on disk before they are used: the ones before them are spent.
    pub(crate) async fn signed_in(&self, credentials: Credentials) -> Result<()> {
        let life = Life::issued(&credentials, self.machine.now_ms());
        self.change(|set| {
            let another = set.mind.known.user != credentials.user_id;
            set.put(Record::SignedIn(Box::new(credentials)));
            set.mind.life = Some(life);
            if another {
                set.begin_anew();
            }
        })?;
        self.sync().await
    }

    /// The server has ended the login: the tokens go, what the user wrote stays.
    pub(crate) fn login_ended(&self, why: String) -> Result<()> {
        self.change(|set| set.put(Record::TokensGone))?;
        self.set_connection(Connection::SignedOut(Some(why)));
        Ok(())
    }

    // ---- what comes over the live session

    /// Takes the answer to a hello or to a request to catch up.
    pub(crate) fn missed(&self, missed: Missed) -> Result<()> {
        let answer = missed.answer.ok_or_else(|| empty("answer"))?;
        self.change(|set| {
            match answer {
                Answer::Delta(delta) => {
                    for event in delta.own_events {
                        let prev = event.seq - 1;
                        set.own_event(event, prev);
                    }
                    let mut last: HashMap<ChatId, i64> = HashMap::new();
                    for event in delta.events {
                        // The answer is whole: what is not in it between two events is not there for us.
                        let prev = last
                            .insert(event.chat_id, event.seq)
                            .unwrap_or(event.seq - 1);
                        set.event(event, prev);
                    }
                }
                Answer::Changed(changed) => {
                    set.know_own_head(changed.own_head);
                    for chat in changed.chats {
                        set.chat_moved(chat);
                    }
                }
                Answer::Reset(reset) => set.reset(*reset),
            }
            set.adopt(missed.cursor);
        })
    }

    /// Takes a heartbeat: the heads show what was lost on the way.
    pub(crate) fn heartbeat(&self, heartbeat: Heartbeat) -> Result<()> {
        self.change(|set| {
            for head in &heartbeat.heads {
                set.know_head(head.chat_id, head.seq);
            }
            set.know_own_head(heartbeat.own_head);
            if !heartbeat.cursor.is_empty() {
                set.adopt(heartbeat.cursor);
            }
        })
    }

    /// Takes a live event of a chat.
    pub(crate) fn chat_event(&self, event: Event, prev: i64) -> Result<()> {
        self.change(|set| set.event(event, prev))
    }

    /// Takes a live event of the user's own log.
    pub(crate) fn own_event(&self, event: UserEvent, prev: i64) -> Result<()> {
        self.change(|set| set.own_event(event, prev))
    }

    /// A session begins: what an earlier one could not get is tried again, at once.
    pub(crate) fn session_begins(&self) {
        let mut mind = self.mind.lock();
        mind.waiting = None;
        mind.claimed.clear();
        mind.hopeless.clear();
        mind.known.outbox.stop();
        let uncertain = mind
            .known
            .outbox
            .iter()
            .map(|e| e.client_message_id.clone())
            .collect();
        mind.uncertain = uncertain;
        let open: Vec<ChatId> = mind
            .known
            .chats
            .iter()
            .filter(|(_, k)| k.timeline.hole().is_some())
            .map(|(c, _)| *c)
            .collect();
        // Old holes have had their patience.
        let long_ago = Instant::now()
            .checked_sub(self.options.hole_patience)
            .unwrap_or_else(Instant::now);
        mind.holes = open.into_iter().map(|chat| (chat, long_ago)).collect();
    }

    /// The session is over: nothing is on its way any more.
    pub(crate) fn session_ends(&self) {
        self.set_calls(None);
        let sending: Vec<Entry> = {
            let mut mind = self.mind.lock();
            mind.claimed.clear();
            let sending = mind
                .known
                .outbox
                .iter()
                .filter(|e| e.state == State::Sending)
                .cloned()
                .collect();
            mind.known.outbox.stop();
            sending
        };
        for entry in sending {
            self.tell(message(&entry, State::Queued));
        }
    }

    // ---- repair

    /// The next thing that is missing, claimed for the caller.
    pub(crate) fn next_job(&self) -> Next {
        let mut mind = self.mind.lock();
        let mut soonest = Next::Nothing;
        let mut found = None;
        if mind.known.own_tip < mind.own_head && mind.is_free(Job::Own) {
            found = Some((Job::Own, mind.known.own_tip));
        }
        for (&chat, since) in &mind.holes {
            if found.is_some() {
                break;
            }
            let hole = mind.known.chats.get(&chat).and_then(|k| k.timeline.hole());
            let Some(hole) = hole.filter(|_| mind.is_free(Job::Chat(chat))) else {
                continue;
            };
            let due = *since + self.options.hole_patience;
            if due <= Instant::now() {
                found = Some((Job::Chat(chat), hole.after));
            } else {
                soonest = match soonest {
                    Next::Wait(at) => Next::Wait(at.min(due)),
                    _ => Next::Wait(due),
                };
            }
        }
        if found.is_none() {
            let nameless = mind.known.chats.iter().find(|(chat, known)| {
                known.chat.member_ids.is_empty() && mind.is_free(Job::Members(**chat))
            });
            found = nameless.map(|(chat, _)| (Job::Members(*chat), 0));
        }
        match found {
            Some((job, after)) => {
                mind.claimed.insert(job);
                Next::Do(job, after)
            }
            None => soonest,
        }
    }

    /// A job is no longer under way; `hopeless` ones are not tried again in this session.
    pub(crate) fn job_done(&self, job: Job, hopeless: bool) -> Result<()> {
        self.change(|set| {
            set.mind.claimed.remove(&job);
            if hopeless {
                set.mind.hopeless.insert(job);
            }
            if let (true, Job::Chat(chat), Some(waiting)) = (hopeless, job, &mut set.mind.waiting) {
                waiting.heads.remove(&chat);
            }
        })?;
        self.wake();
        Ok(())
    }

    /// Takes a page that fills a hole. False when it brought nothing.
    pub(crate) fn filled(
        &self,
        chat: ChatId,
        after: i64,
        events: Vec<Event>,
        head: i64,
    ) -> Result<bool> {
        self.change(|set| {
            let to = events.last().map_or(head, |e| e.seq);
            if to <= after {
                return false;
            }
            set.cover(chat, after + 1, to, events);
            set.know_head(chat, head);
            true
        })
    }

    /// Takes a page of the user's own log. False when it brought nothing.
    pub(crate) fn own_filled(&self, after: i64, events: Vec<UserEvent>, head: i64) -> Result<bool> {
        self.change(|set| {
            let mut prev = after;
            for event in events {
                let seq = event.seq;
                set.own_event(event, prev);
                prev = seq;
            }
            set.know_own_head(head);
            set.mind.known.own_tip > after
        })
    }

    // ---- the outbox

    /// The messages to be sent now, marked as on their way.
    pub(crate) fn messages_to_send(&self, max: usize) -> Vec<Entry> {
        let mut mind = self.mind.lock();
        let Mind {
            known,
            uncertain,
            hopeless,
            ..
        } = &mut *mind;
        let Snapshot { outbox, chats, .. } = known;
        let uncertain_chats: HashSet<ChatId> = outbox
            .iter()
            .filter(|e| uncertain.contains(&e.client_message_id))
            .map(|e| e.chat)
            .collect();
        let started = outbox.start(max, |chat| {
            uncertain_chats.contains(&chat)
                && !hopeless.contains(&Job::Chat(chat))
                && chats
                    .get(&chat)
                    .is_some_and(|k| k.timeline.hole().is_some())
        });
        drop(mind);
        for entry in &started {
            self.tell(message(entry, State::Sending));
        }
        started
    }

    /// The server has stored a message: it becomes an event of the chat.
    pub(crate) fn message_stored(&self, entry: &Entry, answer: SendMessageResponse) -> Result<()> {
        self.change(|set| {
            let known = &set.mind.known;
            let event = Event {
                chat_id: entry.chat,
                seq: answer.seq,
                at_ms: answer.at_ms,
                actor_id: known.user,
                body: tertulia_proto::chats::Message {
                    message_id: answer.message_id,
                    text: entry.text.clone(),
                    client_message_id: entry.client_message_id.clone(),
                    device_id: known.device.clone(),
                    ..Default::default()
                }
                .into(),
                ..Default::default()
            };
            set.settle(entry.chat, &entry.client_message_id, answer.seq);
            set.event(event, answer.seq - 1);
        })
    }

    /// A message was not sent: for now, or for good.
    pub(crate) fn message_refused(&self, entry: &Entry, error: &Error) -> Result<()> {
        let state = if error.is_retryable() || error.ends_login() || error.wants_new_token() {
            State::Queued
        } else {
            State::Failed(error.to_string())
        };
        self.mark(entry.chat, &entry.client_message_id, state)
    }

    pub(crate) fn mark(&self, chat: ChatId, id: &str, state: State) -> Result<()> {
        self.change(|set| {
            if let Some(entry) = set.mind.known.outbox.mark(chat, id, state.clone()) {
                set.told.push(message(&entry, state));
                set.records.push(stored(entry));
            }
        })
    }
}

impl Mind {
    fn is_free(&self, job: Job) -> bool {
        !self.claimed.contains(&job) && !self.hopeless.contains(&job)
    }
}

/// A set of changes that become true together.
pub(crate) struct Changes<'a> {
    options: &'a Options,
    pub(crate) mind: &'a mut Mind,
    records: Vec<Record>,
    /// The tips of touched chats before the changes.
    tips: BTreeMap<ChatId, i64>,
    pub(crate) told: Vec<Change>,
}

impl Changes<'_> {
    pub(crate) fn put(&mut self, record: Record) {
        if let Record::Events { chat, .. } | Record::Position { chat, .. } = &record {
            let tip = self
                .mind
                .known
                .chats
                .get(chat)
                .map_or(0, |k| k.timeline.tip());
            self.tips.entry(*chat).or_insert(tip);
        }
        self.mind.known.apply(record.clone());
        self.records.push(record);
    }

    fn timeline(&self, chat: ChatId) -> Option<&Timeline> {
        self.mind
            .known
            .chats
            .get(&chat)
            .map(|known| &known.timeline)
    }

    /// Takes an event, wherever it comes from.
    pub(crate) fn event(&mut self, event: Event, prev: i64) {
        let (chat, seq) = (event.chat_id, event.seq);
        if seq < 1 {
            return;
        }
        match self.timeline(chat) {
            Some(timeline) if timeline.knows(seq) => return,
            Some(_) => {}
            None => self.begin_chat(chat, prev),
        }
        self.cover(chat, prev.clamp(0, seq - 1) + 1, seq, vec![event]);
        self.limit_hole(chat);
    }

    /// Takes everything that is in a part of a chat's log.
    fn cover(&mut self, chat: ChatId, from: i64, to: i64, events: Vec<Event>) {
        let known = &self.mind.known;
        let ours: Vec<(String, i64)> = events
            .iter()
            .filter_map(|event| {
                let entry = known.outbox.matching(event, &known.device)?;
                Some((entry.client_message_id.clone(), event.seq))
            })
            .collect();
        for (id, seq) in ours {
            self.settle(chat, &id, seq);
        }
        self.put(Record::Events {
            chat,
            from,
            to,
            events,
        });
    }

    /// A message of ours is in the log: it leaves the outbox in the same change as its event comes.
    fn settle(&mut self, chat: ChatId, id: &str, seq: i64) {
        let Some(entry) = self.mind.known.outbox.entry(chat, id).cloned() else {
            return;
        };
        self.mind.uncertain.remove(id);
        self.told.push(message(&entry, State::Sent(seq)));
        self.put(Record::MessageGone {
            chat,
            client_message_id: entry.client_message_id,
        });
    }

    /// A chat that nothing was known of: read from its start when that is near, else from `tip`.
    fn begin_chat(&mut self, chat: ChatId, tip: i64) {
        let tip = if tip <= self.options.hole_events_max {
            0
        } else {
            tip
        };
        self.put(Record::Position {
            chat,
            tip,
            head: tip,
        });
    }

    /// A chat goes at least to `seq`.
    pub(crate) fn know_head(&mut self, chat: ChatId, seq: i64) {
        if self.timeline(chat).is_none() {
            // Its last event is wanted in any case: a chat that shows nothing looks empty.
            self.begin_chat(chat, (seq - 1).max(0));
        }
        let Some(timeline) = self.timeline(chat) else {
            return;
        };
        if seq > timeline.head() {
            let tip = timeline.tip();
            self.put(Record::Position {
                chat,
                tip,
                head: seq,
            });
        }
        self.limit_hole(chat);
    }

    /// Gives up a hole that is too large to be filled event by event.
    fn limit_hole(&mut self, chat: ChatId) {
        let Some(timeline) = self.timeline(chat) else {
            return;
        };
        let (tip, head) = (timeline.tip(), timeline.head());
        if head - tip > self.options.hole_events_max.max(TAIL_EVENTS) {
            self.put(Record::Position {
                chat,
                tip: head - TAIL_EVENTS,
                head,
            });
        }
    }

    /// Kind and members of a chat.
    pub(crate) fn describe(&mut self, chat: &Chat) {
        let known = self.mind.known.chats.get(&chat.chat_id);
        let described = Chat {
            head: 0,
            last_event: Default::default(),
            ..chat.clone()
        };
        if known.is_none_or(|known| known.chat != described) {
            let id = chat.chat_id;
            self.put(Record::Chat(Box::new(described)));
            self.told.push(Change::Chat(id));
        }
    }

    /// A chat with its head and last event, as answers about what was missed carry it.
    fn chat_moved(&mut self, chat: Chat) {
        self.know_head(chat.chat_id, chat.head);
        self.describe(&chat);
        if let Some(event) = chat.last_event.into_option() {
            let prev = event.seq - 1;
            self.event(event, prev);
        }
    }

    /// A chat of which only the newest `fresh` events are wanted when nothing is known of it.
    pub(crate) fn chat_met(&mut self, chat: Chat, fresh: i64) {
        if self.timeline(chat.chat_id).is_none() {
            let tip = (chat.head - fresh).max(0);
            self.put(Record::Position {
                chat: chat.chat_id,
                tip,
                head: chat.head,
            });
        }
        self.chat_moved(chat);
    }

    fn own_event(&mut self, event: UserEvent, prev: i64) {
        if let Some(OwnBody::ChatJoined(joined)) = event.body
            && let Some(chat) = joined.chat.into_option()
        {
            if self.timeline(chat.chat_id).is_none() {
                self.begin_chat(chat.chat_id, (chat.head - 1).max(0));
                self.describe(&chat);
            }
            self.know_head(chat.chat_id, chat.head);
        }
        let tip = self.mind.known.own_tip;
        if prev <= tip && event.seq > tip {
            self.put(Record::Own(event.seq));
        }
        self.know_own_head(event.seq);
    }

    fn know_own_head(&mut self, head: i64) {
        let mind = &mut self.mind;
        mind.own_head = mind.own_head.max(head);
        // What is long past in the own log shows in the list of chats.
        if mind.own_head - mind.known.own_tip > self.options.hole_events_max.max(TAIL_EVENTS) {
            let tip = mind.own_head - TAIL_EVENTS;
            self.put(Record::Own(tip));
        }
    }

    fn reset(&mut self, reset: Reset) {
        let Snapshot { epoch, chats, .. } = &self.mind.known;
        // What calls told before the first hello is of an epoch that they did not name, and somebody looks
        // at it. The history may have been another one since.
        let unnamed: HashSet<ChatId> = match epoch.is_empty() {
            true => chats.keys().copied().collect(),
            false => HashSet::new(),
        };
        let another = *epoch != reset.epoch && !(epoch.is_empty() && chats.is_empty());
        if another || reset.reason.as_known() == Some(ResetReason::RESET_REASON_EPOCH) {
            self.put(Record::Forget);
            self.begin_anew();
        }
        self.put(Record::Epoch(reset.epoch));
        for chat in reset.chats {
            let fresh = match unnamed.contains(&chat.chat_id) {
                true => self.options.hole_events_max,
                false => self.options.fresh_events,
            };
            self.chat_met(chat, fresh);
        }
        self.mind.own_head = self.mind.own_head.max(reset.own_head);
        self.put(Record::Own(reset.own_head));
    }

    /// What was known is gone, and so is what was about it.
    pub(crate) fn begin_anew(&mut self) {
        self.tips.clear();
        let mind = &mut self.mind;
        mind.own_head = 0;
        mind.waiting = None;
        mind.holes.clear();
        mind.hopeless.clear();
        self.told.push(Change::Reset);
    }

    /// Stores a cursor once everything that it covers is held: now, or when the holes are filled.
    fn adopt(&mut self, cursor: Vec<u8>) {
        let mind = &mut self.mind;
        let open = |(chat, known): (&ChatId, &Known)| {
            let hole =
                known.timeline.hole().is_some() && !mind.hopeless.contains(&Job::Chat(*chat));
            hole.then(|| (*chat, known.timeline.head()))
        };
        let heads = mind.known.chats.iter().filter_map(open).collect();
        mind.waiting = Some(Waiting {
            cursor,
            heads,
            own: mind.own_head,
        });
    }

    fn advance_cursor(&mut self) {
        let Some(mut waiting) = self.mind.waiting.take() else {
            return;
        };
        let chats = &self.mind.known.chats;
        waiting
            .heads
            .retain(|chat, head| chats.get(chat).is_some_and(|k| k.timeline.tip() < *head));
        let own_held =
            self.mind.known.own_tip >= waiting.own || self.mind.hopeless.contains(&Job::Own);
        if !(waiting.heads.is_empty() && own_held) {
            self.mind.waiting = Some(waiting);
        } else if self.mind.known.cursor != waiting.cursor {
            self.put(Record::Cursor(waiting.cursor));
        }
    }
}

pub(crate) fn message(entry: &Entry, state: State) -> Change {
    let client_message_id = entry.client_message_id.clone();
    Change::Message {
        chat: entry.chat,
        client_message_id,
        state,
    }
}

pub(crate) fn empty(what: &str) -> Error {
    Error::Protocol(format!("the answer has no {what}"))
}

fn seen(epoch: &str, event: &Event) -> Seen {
    let (text, client_message_id) = match &event.body {
        Some(Body::Message(m)) => (m.text.clone(), m.client_message_id.clone()),
        None => Default::default(),
    };
    Seen {
        epoch: epoch.to_owned(),
        chat: event.chat_id,
        seq: event.seq,
        actor: event.actor_id,
        text,
        client_message_id,
    }
}

#[cfg(test)]
mod tests;
