//! What a client knows and how it comes to know it. Every change goes through a [set of changes](Changes): it
//! is applied to the snapshot in memory, written to the store as one batch, and told to the application, in
//! this order and under one lock. So the store, the screen and the cursor never disagree.

mod changes;
mod credentials;
mod missed;
mod outbox;
mod repair;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use buffa::Message as _;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::ChatId;
use crate::backoff::Backoff;
use crate::calls::{Asked, Calls};
use crate::change::{Change, Connection, Observer, Seen};
use crate::error::{Error, Result};
use crate::methods::Method;
use crate::options::Options;
use crate::presence::Presences;
use crate::store::{Record, Snapshot, Store};
use crate::time::{Life, Machine};
use crate::transport::Transport;

pub(crate) use changes::Changes;
pub(crate) use outbox::message;
pub(crate) use repair::{Job, Next};

use missed::Waiting;
use repair::{Jobs, Relist};

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
    jobs: Jobs,
    /// The chats are to be listed anew, because which of them moved is not known.
    relist: Option<Relist>,
    /// How often there was a reason to list the messages to be sent later, and how many of these were served.
    scheduled: (i64, i64),
    /// With which events of the own log the user left chats, since this client runs.
    left_with: BTreeMap<ChatId, i64>,
    /// The chats that the application shows.
    pub(crate) warm: Vec<ChatId>,
    /// Who is there, as far as this session was told.
    pub(crate) presences: Presences,
}

impl Mind {
    fn new(known: Snapshot, life: Option<Life>) -> Self {
        let mut mind = Mind {
            own_head: known.own_tip,
            waiting: None,
            life,
            uncertain: HashSet::new(),
            holes: BTreeMap::new(),
            jobs: Jobs::default(),
            relist: None,
            scheduled: (0, 0),
            left_with: BTreeMap::new(),
            warm: Vec::new(),
            presences: Presences::default(),
            known,
        };
        mind.doubt_outbox();
        mind
    }
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
    /// Counts reasons to look at the outbox and at what is missing.
    pub(crate) wake: watch::Sender<u64>,
    /// Counts reasons to try at once what was given up.
    pub(crate) again: watch::Sender<u64>,
}

/// How many changes wait for an application that does not read.
const CHANGES_MAX: usize = 1_024;

impl Core {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        machine: Arc<dyn Machine>,
        store: Arc<dyn Store>,
        options: Options,
        observer: Option<Observer>,
    ) -> Result<Self> {
        let known = store.load()?;
        let credentials = known.credentials.as_ref();
        let life = credentials.map(|kept| Life::stored(kept, machine.now_ms()));
        let core = Core {
            transport,
            options,
            observer,
            mind: Mutex::new(Mind::new(known, life)),
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

    /// The seq of the last event of the own log that is held.
    pub(crate) fn own_tip(&self) -> i64 {
        self.mind().known.own_tip
    }

    // ---- what is told

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

    /// How long to wait before trying again.
    pub(crate) fn backoff(&self) -> Backoff {
        let machine = Arc::clone(&self.machine);
        Backoff::new(self.options.backoff_min, self.options.backoff_max, machine)
    }

    pub(crate) fn wake(&self) {
        self.wake.send_modify(|n| *n += 1);
    }

    // ---- what is kept

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
        let mut set = Changes::new(&self.options, &mut mind);
        let made = make(&mut set);
        let Changes {
            records,
            tips,
            told,
            ..
        } = set.finished();
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
        let Some(timeline) = mind.known.chats.get_mut(&chat) else {
            return;
        };
        if let Some(observer) = &self.observer {
            for event in timeline.shown_after(tip) {
                observer(&Seen::new(epoch, timeline, event));
            }
        }
        if timeline.len() > 2 * self.options.memory_events_max {
            timeline.trim(self.options.memory_events_max);
        }
        match timeline.hole() {
            Some(_) if timeline.left().is_none() => {
                _ = mind.holes.entry(chat).or_insert_with(Instant::now);
            }
            _ => _ = mind.holes.remove(&chat),
        }
        self.tell(Change::Chat(chat));
    }

    // ---- calls

    pub(crate) fn set_calls(&self, calls: Option<Calls>) {
        *self.calls.lock() = calls;
    }

    /// Asks the live session for something that has no answer; nothing happens without one.
    pub(crate) async fn put(&self, asked: Asked) {
        let calls = self.calls.lock().clone();
        if let Some(calls) = calls {
            // A session that has just ended: the next one is told anyway.
            _ = calls.put(asked).await;
        }
    }

    /// Calls a method without a session.
    pub(crate) async fn ask_alone<Q: Method>(
        &self,
        token: Option<&str>,
        request: &Q,
    ) -> Result<Q::Answer> {
        let (bytes, timeout) = (request.encode_to_vec(), self.options.call_timeout);
        let answer = self.transport.call(Q::PATH, token, bytes, timeout).await?;
        Q::Answer::decode_from_slice(&answer).map_err(|e| Error::Protocol(e.to_string()))
    }

    /// Calls a method over the live session, or alone when there is none.
    pub(crate) async fn ask<Q: Method>(&self, request: &Q) -> Result<Q::Answer> {
        let calls = self.calls.lock().clone();
        if let Some(calls) = calls {
            match calls.ask(request, self.options.call_timeout).await {
                Err(Error::Offline(_)) => {}
                Err(error) if error.wants_new_token() => {}
                answer => return answer,
            }
        }
        let token = self.fresh_token(None).await?;
        let answer = match self.ask_alone(Some(&token), request).await {
            Err(error) if error.wants_new_token() => {
                let token = self.fresh_token(Some(&token)).await?;
                self.ask_alone(Some(&token), request).await
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
}

pub(crate) fn empty(what: &str) -> Error {
    Error::Protocol(format!("the answer has no {what}"))
}

#[cfg(test)]
mod tests;
