//! What a client keeps between two runs: who it is, how far it has come, the newest events, and the messages
//! that are not confirmed.
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
use tertulia_proto::chats::{Chat, Event};
use tertulia_proto::identity::Credentials;

use crate::ChatId;
use crate::outbox::{Entry, Outbox, State};
use crate::timeline::Timeline;

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

/// One change to what is kept.
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
    /// A chat and its members.
    Chat(Box<Chat>),
    /// How far a chat is shown, and how far it goes.
    Position { chat: ChatId, tip: i64, head: i64 },
    /// The events of a chat in `from..=to`.
    Events {
        chat: ChatId,
        from: i64,
        to: i64,
        events: Vec<Event>,
    },
    /// A message to be sent, new or changed.
    Message(Entry),
    /// A message is confirmed or discarded.
    MessageGone {
        chat: ChatId,
        client_message_id: String,
    },
}

/// A chat as it is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// Kind and members; the id is set even before the rest is known.
    pub chat: Chat,
    /// Its log.
    pub timeline: Timeline,
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
    pub chats: BTreeMap<ChatId, Known>,
    /// Unconfirmed messages.
    pub outbox: Outbox,
}

impl Snapshot {
    /// Makes one change.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Device(device) => self.device = device,
            Record::SignedIn(credentials) => {
                if self.user != credentials.user_id {
                    *self = Snapshot {
                        device: std::mem::take(&mut self.device),
                        ..Default::default()
                    };
                }
                self.user = credentials.user_id;
                self.device.clone_from(&credentials.device_id);
                self.credentials = Some(*credentials);
            }
            Record::TokensGone => self.credentials = None,
            Record::SignedOut => {
                *self = Snapshot {
                    device: std::mem::take(&mut self.device),
                    ..Default::default()
                };
            }
            Record::Cursor(cursor) => self.cursor = cursor,
            Record::Epoch(epoch) => self.epoch = epoch,
            Record::Forget => {
                self.cursor.clear();
                self.own_tip = 0;
                self.chats.clear();
            }
            Record::Own(tip) => self.own_tip = tip,
            Record::Chat(chat) => {
                let id = chat.chat_id;
                self.chat(id).chat = *chat;
            }
            Record::Position { chat, tip, head } => self.chat(chat).timeline.place(tip, head),
            Record::Events {
                chat,
                from,
                to,
                events,
            } => self.chat(chat).timeline.cover(from, to, events),
            Record::Message(entry) => self.outbox.put(entry),
            Record::MessageGone {
                chat,
                client_message_id,
            } => {
                self.outbox.remove(chat, &client_message_id);
            }
        }
    }

    fn chat(&mut self, chat: ChatId) -> &mut Known {
        self.chats.entry(chat).or_insert_with(|| Known {
            chat: Chat {
                chat_id: chat,
                ..Default::default()
            },
            timeline: Timeline::default(),
        })
    }

    /// The records that make this snapshot from nothing, with at most `keep` events of each chat.
    pub fn records(&self, keep: usize) -> Vec<Record> {
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
        records.push(Record::Epoch(self.epoch.clone()));
        records.push(Record::Own(self.own_tip));
        for (&chat, known) in &self.chats {
            records.push(Record::Chat(Box::new(known.chat.clone())));
            let mut timeline = known.timeline.clone();
            timeline.trim(keep);
            let parts = timeline.parts();
            records.extend(parts.map(|(from, to, events)| Record::Events {
                chat,
                from,
                to,
                events,
            }));
            records.push(Record::Position {
                chat,
                tip: timeline.tip(),
                head: timeline.head(),
            });
        }
        records.extend(self.outbox.iter().cloned().map(Record::Message));
        records.push(Record::Cursor(self.cursor.clone()));
        records
    }

    /// Ready for a new run: nothing is on its way any more, and chats are as short as they are kept.
    fn reopened(mut self) -> Self {
        self.outbox.stop();
        for known in self.chats.values_mut() {
            known.timeline.trim(EVENTS_PER_CHAT_MAX);
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
