//! Somebody in a chat, and what the chat is to them.

use std::sync::Arc;

use super::{Chat, Mentions, SendKey, Seq};
use crate::ids::{ChatId, ScheduledId, UserId};

/// What a member may do; the order is that of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads.
    Reader,
    /// Reads and writes.
    Member,
    /// Keeps order.
    Admin,
    /// Owns the chat; there is one.
    Owner,
}

impl Role {
    /// All, the one with the least power first.
    pub const ALL: [Role; 4] = [Role::Reader, Role::Member, Role::Admin, Role::Owner];
}

/// What a chat is to one of its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// As what.
    pub role: Role,
    /// Since when, in milliseconds since 1970.
    pub joined_at_ms: i64,
    /// Everything up to here is on a device of the member.
    pub delivered: Seq,
    /// Everything up to here was seen.
    pub seen: Seq,
    /// As `seen`, as far as the member shares it with others.
    pub shown_seen: Seq,
    /// The highest seq of a message that mentions the member by name.
    pub mentioned_max: Seq,
    /// How many messages the member has deleted for themselves since they came in. It is told to nobody: what is
    /// hidden is kept message by message and outlives the membership. A check of the store compares the two.
    pub hidden: u32,
    /// The member's own choices.
    pub settings: Settings,
    /// What the member began to write.
    pub draft: Option<Arc<Draft>>,
}

impl Membership {
    /// Of somebody who comes in when the head is `head`: what was before is read.
    pub fn new(role: Role, joined_at_ms: i64, head: Seq) -> Membership {
        Membership {
            role,
            joined_at_ms,
            delivered: head,
            seen: head,
            shown_seen: head,
            mentioned_max: 0,
            hidden: 0,
            settings: Settings::default(),
            draft: None,
        }
    }
}

/// A member's own choices about a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// No notification before this time, in milliseconds since 1970; 0 when not muted, -1 for always.
    pub muted_until_ms: i64,
    /// Which messages to be told of.
    pub notify: Notify,
    /// Put away.
    pub archived: bool,
    /// Shown above the others.
    pub favorite: bool,
    /// To be read again.
    pub marked_unread: bool,
}

/// Which messages a member wants to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Notify {
    /// As the client thinks best.
    #[default]
    Default,
    /// All.
    All,
    /// Those that mention the member.
    Mentions,
    /// None.
    None,
}

/// An unfinished message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// As far as it was typed.
    pub text: String,
    /// The message that it answers.
    pub reply_to: Option<Seq>,
    /// When it was last changed, in milliseconds since 1970.
    pub at_ms: i64,
}

/// How far a user has read a chat, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadState {
    /// Everything up to here was seen.
    pub seen: Seq,
    /// Messages of others after it, without deleted ones.
    pub unread: i64,
    /// Those among them that mention the user; at most [`MENTIONS_COUNTED_MAX`](super::super::MENTIONS_COUNTED_MAX).
    pub unread_mentions: i64,
    /// The head that the numbers are true for.
    pub as_of: Seq,
}

/// A chat as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The chat.
    pub chat: Chat,
    /// What it is to the member.
    pub membership: Membership,
    /// How far the member has read; true at the chat's head.
    pub read: ReadState,
    /// The member has deleted the chat's newest message for themselves: its text is not for them.
    pub last_hidden: bool,
    /// The member's reactions to the chat's newest message, in the order of its counts.
    pub last_mine: Vec<String>,
}

/// How far a chat has reached a member. Two of a member are merged by the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Who.
    pub user: UserId,
    /// Everything up to here is on a device of the member.
    pub delivered: Seq,
    /// Everything up to here was seen and is shared.
    pub seen: Seq,
}

/// A way into a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// What a link carries.
    pub code: String,
    /// The chat.
    pub chat: ChatId,
    /// Who made it.
    pub created_by: UserId,
    /// When, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When it ends, in milliseconds since 1970; 0 for never.
    pub expires_at_ms: i64,
    /// How many may come in by it; 0 for any number.
    pub uses_max: u32,
    /// How many have.
    pub uses: u32,
    /// As what they come in.
    pub role: Role,
}

impl Invite {
    /// Whether somebody can come in by it now.
    pub fn is_open(&self, now_ms: i64) -> bool {
        let in_time = self.expires_at_ms == 0 || now_ms < self.expires_at_ms;
        in_time && (self.uses_max == 0 || self.uses < self.uses_max)
    }
}

/// A message to be sent later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// Its id.
    pub id: ScheduledId,
    /// Whose.
    pub user: UserId,
    /// Where to.
    pub chat: ChatId,
    /// When it shall be sent, in milliseconds since 1970.
    pub send_at_ms: i64,
    /// Which sending it is, now and then.
    pub key: SendKey,
    /// What shall be said.
    pub text: String,
    /// The message that it answers.
    pub reply_to: Option<Seq>,
    /// The message whose thread it belongs to.
    pub thread: Option<Seq>,
    /// Whom it mentions.
    pub mentions: Mentions,
}
