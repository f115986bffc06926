//! The nouns of chats.

use std::sync::Arc;

use crate::ids::{ChatId, MessageId, UserId};

/// The number of an event in its log: from 1, without holes; 0 stands before the first.
pub type Seq = i64;

/// A chat as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// Its id.
    pub id: ChatId,
    /// What kind it is, with its members.
    pub kind: ChatKind,
    /// The seq of its newest event.
    pub head: Seq,
    /// When it was opened, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// Its newest event; always there when `head` is above 0.
    pub last_event: Option<Arc<Event>>,
}

/// A kind of chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatKind {
    /// Between two people, forever.
    Direct(Pair),
}

impl Chat {
    /// Its members.
    pub fn members(&self) -> [UserId; 2] {
        let ChatKind::Direct(pair) = &self.kind;
        pair.users()
    }

    /// When something happened in it last, in milliseconds since 1970; without events, when it was opened.
    pub fn active_at_ms(&self) -> i64 {
        self.last_event
            .as_ref()
            .map_or(self.created_at_ms, |event| event.at_ms)
    }

    /// Whether somebody is in it.
    pub fn has(&self, user: UserId) -> bool {
        self.members().contains(&user)
    }
}

/// Two different people, in no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair(UserId, UserId);

impl Pair {
    /// The pair of two people; none when it is one person.
    pub fn new(a: UserId, b: UserId) -> Option<Pair> {
        match a.cmp(&b) {
            std::cmp::Ordering::Less => Some(Pair(a, b)),
            std::cmp::Ordering::Greater => Some(Pair(b, a)),
            std::cmp::Ordering::Equal => None,
        }
    }

    /// Both, the smaller id first.
    pub fn users(self) -> [UserId; 2] {
        [self.0, self.1]
    }
}

/// An entry of a chat's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The chat.
    pub chat: ChatId,
    /// Its number in the chat.
    pub seq: Seq,
    /// When the server took it, in milliseconds since 1970.
    pub at_ms: i64,
    /// Who did it.
    pub actor: UserId,
    /// What happened.
    pub body: EventBody,
}

/// What happens in a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventBody {
    /// A message was sent.
    Message(Message),
}

/// Something said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique over all chats.
    pub id: MessageId,
    /// As it was typed.
    pub text: String,
    /// Which sending it was, from the client.
    pub key: SendKey,
}

/// Names one sending of one device, so that a repeat is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SendKey {
    /// The device of the sender's login.
    pub device: String,
    /// The client message id, unique on that device.
    pub client_message_id: String,
}

/// An entry of a user's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEvent {
    /// Whose log.
    pub user: UserId,
    /// Its number in that log.
    pub seq: Seq,
    /// When the server took it, in milliseconds since 1970.
    pub at_ms: i64,
    /// What happened.
    pub body: UserEventBody,
}

/// What happens to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserEventBody {
    /// The user is in a new chat; it is as it was then.
    ChatJoined(Chat),
}

/// What has been committed, told in the order of the commits.
#[derive(Debug, Clone)]
pub enum Fact {
    /// An event of a chat, with the members who should hear of it.
    Event {
        /// The event.
        event: Arc<Event>,
        /// The chat's members.
        members: [UserId; 2],
    },
    /// An event of a user's own log.
    UserEvent(Arc<UserEvent>),
}

/// How far a log store has got: every commit at or below a position is visible to any read that begins
/// after the position was told. Opaque to everybody but the store that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Names one history of the logs. It changes only when history was rewritten, by a restored backup or a
/// new store; what a client holds of another epoch is no longer true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);
