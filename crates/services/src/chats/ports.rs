//! What chats need: a store of logs, somebody to tell what was committed, and an answer to who exists.

use std::sync::Arc;

use async_trait::async_trait;
use tertulia_kit::error::Result;

use super::model::{
    Chat, Epoch, Event, EventBody, Fact, Message, Pair, Position, SendKey, Seq, UserEvent,
};
use crate::ids::{ChatId, MessageId, UserId};

/// For how long at least a [`SendKey`] is remembered.
pub const SEND_KEYS_KEPT_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// Keeps the logs of chats and of users. The log is the truth: whatever else is told live is a hint.
///
/// Every method fails with `STORE_UNAVAILABLE` when the engine does, and `append` and `open_direct` with
/// `OVERLOADED` when too many writers wait; after `OVERLOADED` nothing was written. After any other failure
/// of a write the outcome is unknown, and the same call again is the way to learn it.
#[async_trait]
pub trait ChatStore: Send + Sync + 'static {
    /// The history that this store holds; the same for its whole life.
    fn epoch(&self) -> Epoch;

    /// Opens the direct chat of a pair: the one that is there, or else a new one with id `id` made at
    /// `at_ms`. Two calls at once for one pair give one chat. A new chat and a [`UserEventBody::ChatJoined`]
    /// in the log of each member are one commit.
    ///
    /// [`UserEventBody::ChatJoined`]: super::model::UserEventBody::ChatJoined
    async fn open_direct(&self, pair: Pair, id: ChatId, at_ms: i64) -> Result<Chat>;

    /// The chat, if there is one.
    async fn chat(&self, id: ChatId) -> Result<Option<Chat>>;

    /// Appends a message to a chat that exists and gives it the chat's next seq. When this returns, the
    /// event is on disk. Appends of one chat that are called one after the other are numbered in that order.
    ///
    /// A [`SendKey`] that the sender used in the last seven days gives [`Appended::Repeat`] when chat and
    /// text are the same and [`Appended::Conflict`] when not; in both cases nothing is written. The key is
    /// remembered in the same commit as the event. An unknown chat gives [`Appended::NoChat`].
    async fn append(&self, new: NewMessage) -> Result<Appended>;

    /// Events of a chat after a seq, oldest first, without holes, at most `limit`; with the chat's head,
    /// which is at or above the last one. An unknown chat has an empty log.
    async fn events_after(&self, chat: ChatId, after: Seq, limit: usize) -> Result<Page<Event>>;

    /// Events of a chat before a seq (0: from the end), the nearest `limit` of them, oldest first, without
    /// holes.
    async fn events_before(&self, chat: ChatId, before: Seq, limit: usize) -> Result<Page<Event>>;

    /// Events of a user's own log after a seq, oldest first, without holes, at most `limit`.
    async fn user_events_after(
        &self,
        user: UserId,
        after: Seq,
        limit: usize,
    ) -> Result<Page<UserEvent>>;

    /// All chats of a user, in no order.
    async fn chats_of(&self, user: UserId) -> Result<Vec<Chat>>;

    /// The chats of a user that moved after `since` (were opened or got an event), in no order, the head of
    /// the user's own log, and the position that all of it is true for. Everything committed after `since`
    /// and up to that position is covered; what was committed later still may be in it or not. A position
    /// from the future of this store (it lost its tail, or the position was forged) gives `None`.
    async fn moved_since(&self, user: UserId, since: Position) -> Result<Option<Moved>>;

    /// The events of these chats that were committed after `since`, each chat's up to the head that it has
    /// here: of one chat oldest first and without holes, the chats in the order given. `None` when there are
    /// more than `limit`. Costs what it gives, however long the logs are.
    async fn events_since(
        &self,
        chats: &[Chat],
        since: Position,
        limit: usize,
    ) -> Result<Option<Vec<Arc<Event>>>>;

    /// The position now. It never goes back.
    async fn position(&self) -> Result<Position>;
}

/// A message to be appended.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// The chat.
    pub chat: ChatId,
    /// Who sends.
    pub sender: UserId,
    /// The id that the message gets when it is new.
    pub id: MessageId,
    /// Which sending it is.
    pub key: SendKey,
    /// What is said.
    pub text: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

impl NewMessage {
    /// The message that it becomes.
    pub fn into_message(self) -> Message {
        Message {
            id: self.id,
            text: self.text,
            key: self.key,
        }
    }

    /// What it gets when its key was used before, for `event`.
    pub fn repeats(&self, event: &Event) -> Appended {
        let EventBody::Message(message) = &event.body;
        if event.chat != self.chat || message.text != self.text {
            return Appended::Conflict;
        }
        Appended::Repeat(Receipt {
            seq: event.seq,
            id: message.id,
            at_ms: event.at_ms,
        })
    }
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is written.
    New(Receipt),
    /// It was written before; this is what was answered then.
    Repeat(Receipt),
    /// The key was used for something else.
    Conflict,
    /// There is no such chat.
    NoChat,
}

/// Where a message is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its number in the chat.
    pub seq: Seq,
    /// Its id.
    pub id: MessageId,
    /// When it was taken, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Oldest first.
    pub events: Vec<Arc<T>>,
    /// Where the log ends.
    pub head: Seq,
}

impl<T> Default for Page<T> {
    /// Of an empty log.
    fn default() -> Self {
        Page {
            events: Vec::new(),
            head: 0,
        }
    }
}

/// What moved for a user.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The chats.
    pub chats: Vec<Chat>,
    /// Where the user's own log ends.
    pub own_head: Seq,
    /// What this is true for.
    pub position: Position,
}

/// Hears what was committed, from the store: after the commit and in the order of the commits. Whether the
/// writer's own answer comes before is not promised. It must not wait for long, because the store holds
/// back further writes when much is untold.
pub trait Committed: Send + Sync + 'static {
    /// These facts are on disk.
    fn committed(&self, facts: Vec<Fact>);
}

/// Answers who exists.
#[async_trait]
pub trait People: Send + Sync + 'static {
    /// Whether there is such a user.
    async fn exists(&self, user: UserId) -> Result<bool>;
}
