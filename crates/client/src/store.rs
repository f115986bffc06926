//! What a client keeps between two runs: who it is, how far it has come, its chats with their newest events,
//! and the messages that are not confirmed.
//!
//! The port is small: [`Record`]s are written in batches, each of them whole or not at all after a crash and
//! never without those before it. A cursor travels in the batch of what it covers. [`Snapshot`] is what all
//! records make together; the client lives on one too, so that memory and disk can not differ.

pub mod file;
pub mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tertulia_proto::chats::user_event::Body as OwnBody;
use tertulia_proto::chats::{
    Chat, ChatLeft, Event, ReadState, Receipt, ScheduledMessage, UserEvent,
};
use tertulia_proto::identity::Credentials;

use crate::ChatId;
use crate::outbox::{Entry, Outbox, State};
use crate::timeline::{Stale, Timeline};

/// How many events of a chat are kept on disk.
pub const EVENTS_PER_CHAT_MAX: usize = 1_000;

/// Why the store does not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process uses it.
    #[error("another process uses it")]
    InUse,
    /// A file can not be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A record can not be understood; a newer version may have written it.
    #[error("a record is not understood: {0}")]
    Unreadable(String),
}

/// A place where a client keeps what it knows.
pub trait Store: Send + Sync + 'static {
    /// Everything that was written.
    ///
    /// # Errors
    /// When it can not be read. A torn end, as a crash leaves it, is no error.
    fn load(&self) -> Result<Snapshot, Error>;

    /// Writes a batch behind all others: seen whole or not at all by a later [`load`](Self::load). It is
    /// quick, and survives the end of the process, but not yet a power cut.
    ///
    /// # Errors
    /// When it can not be written.
    fn write(&self, batch: &[Record]) -> Result<(), Error>;

    /// Everything that was written survives a power cut now. May block for as long as a disk takes.
    ///
    /// # Errors
    /// When the disk says no.
    fn sync(&self) -> Result<(), Error>;

    /// [`sync`](Self::sync) for who must not be blocked: on a thread that may be.
    fn synced(self: Arc<Self>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            let synced = tokio::task::spawn_blocking(move || self.sync()).await;
            synced.unwrap_or_else(|e| Err(std::io::Error::other(e).into()))
        })
    }
}

/// One change to what is kept. Most of them are what happened to a [`Timeline`]: a store that takes them in
/// their order holds what the client holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// The device's id; made once.
    Device(String),
    /// Somebody signed in, or the tokens are new. Another user than before: everything else is gone.
    SignedIn(Box<Credentials>),
    /// The tokens are gone; everything else stays for the same user.
    TokensGone,
    /// Everything is gone but the device.
    SignedOut,
    /// The cursor that covers what was written so far.
    Cursor(#[serde(with = "bytes")] Vec<u8>),
    /// The logs are of this epoch.
    Epoch(String),
    /// What was known of the logs is no longer true. Unconfirmed messages stay.
    Forget,
    /// How far the user's own log is read.
    Own(i64),
    /// The next event of the user's own log.
    OwnEvent(Box<UserEvent>),
    /// A chat that nothing was known of; its log is missing after `tip`.
    Begun { chat: ChatId, tip: i64 },
    /// A chat as the server gave it.
    Chat {
        chat: Box<Chat>,
        /// The user is in it from now on.
        joined: bool,
    },
    /// The user is in a chat no longer; how is not known.
    Gone { chat: ChatId },
    /// How far a chat's log goes.
    Head { chat: ChatId, head: i64 },
    /// What is missing of a chat up to `tip` is given up.
    Jump { chat: ChatId, tip: i64 },
    /// The events of a chat in `from..=to`, with every change up to `at`.
    Events {
        chat: ChatId,
        from: i64,
        to: i64,
        at: i64,
        events: Vec<Event>,
    },
    /// The same, in the place of what was held.
    Healed {
        chat: ChatId,
        from: i64,
        to: i64,
        at: i64,
        events: Vec<Event>,
    },
    /// The changed messages of an old part.
    Changes {
        chat: ChatId,
        stale: Stale,
        through: i64,
        more: bool,
        events: Vec<Event>,
    },
    /// How far the user has read a chat.
    Read { chat: ChatId, read: ReadState },
    /// How far a chat has reached its members.
    Receipts {
        chat: ChatId,
        receipts: Vec<Receipt>,
    },
    /// What the server was told to have reached this device.
    Told { chat: ChatId, seq: i64 },
    /// All messages to be sent later.
    Scheduled(Vec<ScheduledMessage>),
    /// A chat with everything that is kept of it.
    Kept {
        chat: ChatId,
        timeline: Box<Timeline>,
    },
    /// A message to be sent, new or changed.
    Message(Entry),
    /// A message is held as an event, or discarded.
    MessageGone {
        chat: ChatId,
        client_message_id: String,
    },
}

impl Record {
    /// The chat that it changes as it is shown.
    pub(crate) fn chat(&self) -> Option<ChatId> {
        match self {
            Record::Chat { chat, .. } => Some(chat.chat_id),
            Record::Begun { chat, .. }
            | Record::Gone { chat }
            | Record::Head { chat, .. }
            | Record::Jump { chat, .. }
            | Record::Events { chat, .. }
            | Record::Healed { chat, .. }
            | Record::Changes { chat, .. }
            | Record::Read { chat, .. }
            | Record::Kept { chat, .. } => Some(*chat),
            Record::OwnEvent(event) => match event.body.as_ref()? {
                OwnBody::ChatLeft(left) => Some(left.chat_id),
                OwnBody::ReadMoved(moved) => Some(moved.chat_id),
                OwnBody::SettingsChanged(changed) => Some(changed.chat_id),
                OwnBody::DraftChanged(changed) => Some(changed.chat_id),
                OwnBody::MessagesHidden(hidden) => Some(hidden.chat_id),
                OwnBody::ChatJoined(_) | OwnBody::ScheduleChanged(_) => None,
            },
            _ => None,
        }
    }
}

/// All that is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The device's id; empty before it is made.
    pub device: String,
    /// The user whose data this is; 0 for nobody.
    pub user: i64,
    /// The tokens.
    pub credentials: Option<Credentials>,
    /// The newest stored cursor.
    pub cursor: Vec<u8>,
    /// The epoch of the logs.
    pub epoch: String,
    /// How far the user's own log is read.
    pub own_tip: i64,
    /// The chats.
    pub chats: BTreeMap<ChatId, Timeline>,
    /// Messages to be sent later, by their ids.
    pub scheduled: BTreeMap<i64, ScheduledMessage>,
    /// Messages that are not held as events.
    pub outbox: Outbox,
}

impl Snapshot {
    /// Makes one change.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Device(device) => self.device = device,
            Record::SignedIn(credentials) => {
                if self.user != credentials.user_id {
                    self.sign_out();
                }
                self.user = credentials.user_id;
                self.device.clone_from(&credentials.device_id);
                self.credentials = Some(*credentials);
            }
            Record::TokensGone => self.credentials = None,
            Record::SignedOut => self.sign_out(),
            Record::Cursor(cursor) => self.cursor = cursor,
            Record::Epoch(epoch) => self.epoch = epoch,
            Record::Forget => {
                self.cursor.clear();
                self.own_tip = 0;
                self.chats.clear();
                self.scheduled.clear();
            }
            Record::Own(tip) => self.own_tip = tip,
            Record::OwnEvent(event) => self.own(*event),
            Record::Begun { chat, tip } => {
                let begun = Timeline::after(chat, self.user, tip);
                self.chats.entry(chat).or_insert(begun);
            }
            Record::Chat { chat, joined } => {
                let timeline = self.chat(chat.chat_id);
                if joined {
                    timeline.thaw();
                }
                timeline.meet(*chat);
            }
            Record::Gone { chat } => self.chat(chat).own(&ChatLeft::default().into()),
            Record::Head { chat, head } => self.chat(chat).know_head(head),
            Record::Jump { chat, tip } => self.chat(chat).jump(tip),
            Record::Events {
                chat,
                from,
                to,
                at,
                events,
            } => self.chat(chat).take(from, to, at, events),
            Record::Healed {
                chat,
                from,
                to,
                at,
                events,
            } => self.chat(chat).heal(from, to, at, events),
            Record::Changes {
                chat,
                stale,
                through,
                more,
                events,
            } => self.chat(chat).changed(stale, through, more, events),
            Record::Read { chat, read } => self.chat(chat).read(&read),
            Record::Receipts { chat, receipts } => self.chat(chat).receive(&receipts),
            Record::Told { chat, seq } => self.chat(chat).told(seq),
            Record::Scheduled(all) => {
                let by_id = all
                    .into_iter()
                    .map(|message| (message.scheduled_id, message));
                self.scheduled = by_id.collect();
            }
            Record::Kept { chat, timeline } => _ = self.chats.insert(chat, *timeline),
            Record::Message(entry) => self.outbox.put(entry),
            Record::MessageGone {
                chat,
                client_message_id,
            } => {
                self.outbox.remove(chat, &client_message_id);
            }
        }
    }

    fn sign_out(&mut self) {
        *self = Snapshot {
            device: std::mem::take(&mut self.device),
            ..Default::default()
        };
    }

    fn chat(&mut self, chat: ChatId) -> &mut Timeline {
        let me = self.user;
        self.chats
            .entry(chat)
            .or_insert_with(|| Timeline::after(chat, me, 0))
    }

    fn own(&mut self, event: UserEvent) {
        self.own_tip = event.seq;
        let chat = Record::OwnEvent(Box::new(event.clone())).chat();
        if let (Some(chat), Some(OwnBody::ChatLeft(_))) = (chat, &event.body) {
            // That of an unknown chat is kept as well: an answer that is older may still tell of the chat.
            self.chat(chat);
        }
        let timeline = chat.and_then(|chat| self.chats.get_mut(&chat));
        match (event.body, timeline) {
            (Some(OwnBody::ScheduleChanged(changed)), _) => {
                match changed.scheduled.into_option() {
                    Some(message) => self.scheduled.insert(changed.scheduled_id, message),
                    None => self.scheduled.remove(&changed.scheduled_id),
                };
            }
            (Some(body), Some(timeline)) => timeline.own(&body),
            _ => {}
        }
    }

    /// The records that make this snapshot from nothing, with at most `keep` events of each chat.
    pub fn records(&self, keep: usize) -> Vec<Record> {
        let mut records = self.lasting();
        records.push(Record::Epoch(self.epoch.clone()));
        records.push(Record::Own(self.own_tip));
        for (&chat, timeline) in &self.chats {
            let mut timeline = Box::new(timeline.clone());
            timeline.trim(keep);
            records.push(Record::Kept { chat, timeline });
        }
        let scheduled = self.scheduled.values().cloned().collect();
        records.push(Record::Scheduled(scheduled));
        records.push(Record::Cursor(self.cursor.clone()));
        records
    }

    /// The records of what outlives everything else: who this is, and what is not sent.
    pub(crate) fn lasting(&self) -> Vec<Record> {
        let mut records = vec![Record::Device(self.device.clone())];
        if let Some(credentials) = &self.credentials {
            records.push(Record::SignedIn(Box::new(credentials.clone())));
        } else if self.user != 0 {
            // The data belongs to somebody even while nobody is signed in.
            let nobody = Credentials {
                user_id: self.user,
                device_id: self.device.clone(),
                ..Default::default()
            };
            records.extend([Record::SignedIn(Box::new(nobody)), Record::TokensGone]);
        }
        records.extend(self.outbox.iter().cloned().map(Record::Message));
        records
    }

    /// Ready for a new run: nothing is on its way any more, and chats are as short as they are kept.
    fn reopened(mut self) -> Self {
        self.outbox.stop();
        for timeline in self.chats.values_mut() {
            timeline.trim(EVENTS_PER_CHAT_MAX);
        }
        self
    }
}

/// Messages on their way are stored as queued: after a crash they are sent again.
pub(crate) fn stored(mut entry: Entry) -> Record {
    if entry.state == State::Sending {
        entry.state = State::Queued;
    }
    Record::Message(entry)
}

mod bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        STANDARD
            .decode(String::deserialize(d)?)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod suite;
