//! The nouns of chats.

mod chat;
mod event;
mod member;
mod own;

use std::sync::Arc;

pub use chat::{Chat, ChatKind, Details, ListPlace, Pair};
pub use event::{
    Deletion, DeletionReason, Event, EventBody, Forward, Mentions, Message, ReactionCount, SendKey,
};
pub use member::{
    Draft, Invite, Membership, Notify, ReadState, Receipt, Role, Scheduled, Settings, Standing,
};
pub use own::{LeftReason, UserEvent, UserEventBody};

use crate::ids::{ChatId, UserId};

/// The number of an event in its log: from 1, without holes; 0 stands before the first.
pub type Seq = i64;

/// What has been committed, told in the order of the commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// An event of a chat.
    Event {
        /// The event.
        event: Arc<Event>,
        /// Who should hear of it.
        audience: Audience,
    },
    /// An event of a user's own log.
    UserEvent(Arc<UserEvent>),
    /// A receipt in a small chat has moved.
    Receipt {
        /// The chat.
        chat: ChatId,
        /// Whose receipt it is, and what it is now.
        receipt: Receipt,
        /// Who should hear of it.
        audience: Audience,
    },
}

/// Who should hear of something in a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// The two of a direct chat.
    Pair([UserId; 2]),
    /// The members of a group.
    Members(Arc<[UserId]>),
    /// Whoever has the channel warm.
    Warm,
}

/// How far a log store has got: every commit at or below a position is visible to any read that begins
/// after the position was told. Opaque to everybody but the store that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Names one history of the logs. It changes only when history was rewritten, by a restored backup or a
/// new store; what a client holds of another epoch is no longer true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);
