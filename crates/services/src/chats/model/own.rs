//! What happens to a user: what concerns only this one, on all devices.

use std::sync::Arc;

use super::{Chat, Draft, Membership, ReadState, Scheduled, Seq, Settings};
use crate::ids::{ChatId, ScheduledId, UserId};

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
    /// The user is in a chat from now on.
    ChatJoined {
        /// It, as it was then, without its last message.
        chat: Box<Chat>,
        /// What it was to the user then.
        membership: Box<Membership>,
    },
    /// The user is in a chat no longer.
    ChatLeft {
        /// Which.
        chat: ChatId,
        /// Why.
        reason: LeftReason,
        /// By whom.
        by: UserId,
    },
    /// The user has read further.
    ReadMoved {
        /// Where.
        chat: ChatId,
        /// How far.
        read: ReadState,
    },
    /// The user chose something.
    SettingsChanged {
        /// About which chat.
        chat: ChatId,
        /// All choices.
        settings: Settings,
    },
    /// An unfinished message is another, or gone.
    DraftChanged {
        /// Where.
        chat: ChatId,
        /// What it is now.
        draft: Option<Arc<Draft>>,
    },
    /// The user deleted messages for themselves.
    MessagesHidden {
        /// Where.
        chat: ChatId,
        /// Which.
        messages: Vec<Seq>,
    },
    /// A message to be sent later was made, sent or called off.
    ScheduleChanged {
        /// Which.
        id: ScheduledId,
        /// What it is now.
        scheduled: Option<Arc<Scheduled>>,
    },
}

/// Why somebody is in a chat no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftReason {
    /// By their own will.
    Left,
    /// They were removed.
    Removed,
    /// They were banned.
    Banned,
}
