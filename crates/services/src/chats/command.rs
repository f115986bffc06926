//! What can be asked of a store of logs, and what it answers. A command is decided (`decide`) and committed
//! as one.

use std::sync::Arc;

use super::model::*;
use crate::ids::{ChatId, MessageId, ScheduledId, UserId};

/// Something to be done.
#[derive(Debug, Clone)]
pub struct Command {
    /// Who does it.
    pub actor: UserId,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What.
    pub act: Act,
    /// What holds.
    pub limits: Limits,
}

/// The bounds that an operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many members a group may have.
    pub group_members_max: u32,
    /// How many members a channel may have.
    pub channel_members_max: u32,
    /// In a chat of up to so many members the receipts of each are told; in a larger one they are counted.
    pub receipts_members_max: u32,
    /// How many events that somebody missed are told one by one; of more, only where the logs end.
    pub delta_events_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            group_members_max: 1_000,
            channel_members_max: 100_000,
            receipts_members_max: 50,
            delta_events_max: 1_000,
        }
    }
}

/// How many messages may be pinned in a chat.
pub const PINNED_MAX: usize = 50;
/// How many kinds of reaction a message may have.
pub const REACTION_KINDS_MAX: usize = 20;
/// How often a message may be edited.
pub const EDITS_MAX: usize = 100;
/// How many open invites a chat may have.
pub const INVITES_MAX: usize = 100;
/// How many messages a user may have scheduled.
pub const SCHEDULED_MAX: usize = 100;
/// How many users an event names; there may be more.
pub const NAMED_MAX: usize = 100;
/// Up to how many unread mentions are counted.
pub const MENTIONS_COUNTED_MAX: usize = 1_000;

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Act {
    /// Open the direct chat with somebody, `id` when it is new. Gives [`Done::Chat`].
    OpenDirect {
        /// The two.
        pair: Pair,
        /// The id of a new chat.
        id: ChatId,
    },
    /// Make a group or a channel. Gives [`Done::Chat`].
    Create(NewChat),
    /// Send a message. Gives [`Done::Sent`].
    Send(NewMessage),
    /// Send a message whose time has come, unless it was called off. Gives [`Done::Sent`], or
    /// [`Done::Nothing`] when it is gone or can not be sent any more.
    SendScheduled {
        /// Which.
        scheduled: ScheduledId,
        /// The id that the message gets.
        id: MessageId,
    },
    /// Send copies of messages. Gives [`Done::Forwarded`].
    Forward {
        /// Where to.
        chat: ChatId,
        /// Which sending it is.
        key: SendKey,
        /// The copies, in their order; at least one.
        copies: Vec<ForwardedCopy>,
    },
    /// Ask again for the answer to copies that were sent, when what they were made from can not be read any
    /// more. Gives [`Done::Forwarded`], without any when none were sent with this key.
    ForwardAgain {
        /// Where to.
        chat: ChatId,
        /// Which sending it was.
        key: SendKey,
        /// How many copies it was.
        count: usize,
    },
    /// Give a message another text. Gives [`Done::Changed`].
    Edit {
        /// Where.
        chat: ChatId,
        /// Which.
        message: Seq,
        /// Its text.
        text: String,
        /// Whom it mentions.
        mentions: Mentions,
    },
    /// Delete messages for everybody. Gives [`Done::Changed`].
    Delete {
        /// Where.
        chat: ChatId,
        /// Which.
        messages: Vec<Seq>,
    },
    /// Delete messages whose time is over; others are left. Gives [`Done::Changed`].
    Expire {
        /// Where.
        chat: ChatId,
        /// Which.
        messages: Vec<Seq>,
    },
    /// Delete messages for the actor alone. Gives [`Done::Nothing`].
    Hide {
        /// Where.
        chat: ChatId,
        /// Which.
        messages: Vec<Seq>,
    },
    /// Add or take back a reaction. Gives [`Done::Changed`].
    React {
        /// Where.
        chat: ChatId,
        /// To which message.
        message: Seq,
        /// How.
        emoji: String,
        /// Whether it is there from now on.
        on: bool,
    },
    /// Pin or unpin a message. Gives [`Done::Changed`].
    Pin {
        /// Where.
        chat: ChatId,
        /// Which.
        message: Seq,
        /// Whether it is pinned from now on.
        on: bool,
    },
    /// Change what is set here. Gives [`Done::Changed`].
    Change {
        /// Which chat.
        chat: ChatId,
        /// The name.
        title: Option<String>,
        /// What it is about.
        topic: Option<String>,
        /// The emoji that stands for it.
        avatar: Option<String>,
        /// For how many seconds messages stay.
        message_ttl_s: Option<i64>,
    },
    /// Bring people in. Gives [`Done::Added`].
    Add {
        /// Where.
        chat: ChatId,
        /// Whom, each once.
        users: Vec<UserId>,
        /// As what; none leaves it to the kind of chat.
        role: Option<Role>,
    },
    /// Come in by an invite. Gives [`Done::Chat`].
    Join {
        /// Its code.
        code: String,
    },
    /// Leave. Gives [`Done::Changed`].
    Leave {
        /// What.
        chat: ChatId,
    },
    /// Remove somebody. Gives [`Done::Changed`].
    Remove {
        /// From where.
        chat: ChatId,
        /// Whom.
        user: UserId,
        /// And keep them out.
        ban: bool,
    },
    /// Lift a ban. Gives [`Done::Changed`].
    Unban {
        /// Where.
        chat: ChatId,
        /// Whose.
        user: UserId,
    },
    /// Give a role. Gives [`Done::Changed`].
    SetRole {
        /// Where.
        chat: ChatId,
        /// To whom.
        user: UserId,
        /// Which.
        role: Role,
    },
    /// Make an invite. Gives [`Done::Invite`].
    MakeInvite {
        /// It, with no role chosen when that is left to the kind of chat.
        invite: Invite,
        /// Whether its role was chosen.
        role_chosen: bool,
        /// Which call it is.
        key: SendKey,
    },
    /// End an invite. Gives [`Done::Nothing`].
    RevokeInvite {
        /// Of which chat.
        chat: ChatId,
        /// Its code.
        code: String,
    },
    /// Say what has reached the actor, and what the actor has seen. Gives [`Done::Read`].
    Mark {
        /// Where.
        chat: ChatId,
        /// Everything up to here is on a device.
        delivered: Seq,
        /// Everything up to here was seen; none when only deliveries are told.
        seen: Option<Seq>,
        /// The actor lets others know what they have seen.
        shares_seen: bool,
    },
    /// Choose what the chat is to the actor. Gives [`Done::Nothing`].
    Choose {
        /// Which chat.
        chat: ChatId,
        /// All choices.
        settings: Settings,
    },
    /// Keep or drop an unfinished message. Gives [`Done::Nothing`].
    Draft {
        /// Where.
        chat: ChatId,
        /// It.
        draft: Option<Arc<Draft>>,
    },
    /// Keep a message to be sent later. Gives [`Done::Scheduled`].
    Schedule(Scheduled),
    /// Call a scheduled message off. Gives [`Done::Nothing`].
    CallOff {
        /// Which.
        scheduled: ScheduledId,
    },
}

/// A group or a channel to be made.
#[derive(Debug, Clone)]
pub struct NewChat {
    /// Its id.
    pub id: ChatId,
    /// [`ChatKind::Group`] or [`ChatKind::Channel`].
    pub kind: ChatKind,
    /// Its name.
    pub title: String,
    /// What it is about.
    pub topic: String,
    /// An emoji that stands for it.
    pub avatar: String,
    /// Who is in it besides the actor, each once.
    pub members: Vec<UserId>,
    /// Which call it is.
    pub key: SendKey,
}

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// The chat.
    pub chat: ChatId,
    /// The id that the message gets when it is new.
    pub id: MessageId,
    /// Which sending it is.
    pub key: SendKey,
    /// What is said.
    pub text: String,
    /// The message that it answers.
    pub reply_to: Option<Seq>,
    /// The message whose thread it belongs to.
    pub thread: Option<Seq>,
    /// Whom it mentions.
    pub mentions: Mentions,
}

/// A copy of a message to be sent.
#[derive(Debug, Clone)]
pub struct ForwardedCopy {
    /// The id that it gets.
    pub id: MessageId,
    /// What was said.
    pub text: String,
    /// By whom and when.
    pub from: Forward,
}

/// What a command came to. It is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Nothing needs to be said.
    Nothing,
    /// A chat, and what it is to the actor.
    Chat(Box<Standing>),
    /// A message.
    Sent(Sent),
    /// Messages.
    Forwarded(Vec<Sent>),
    /// The event that was made; none when everything was so already.
    Changed(Option<Seq>),
    /// The event that was made, and who is new.
    Added(Option<Seq>, Vec<UserId>),
    /// How far the actor has read.
    Read(ReadState),
    /// An invite.
    Invite(Box<Invite>),
    /// A message to be sent later.
    Scheduled(Box<Scheduled>),
}

/// Where a message is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its number in the chat.
    pub seq: Seq,
    /// Its id.
    pub id: MessageId,
    /// When it was taken, in milliseconds since 1970.
    pub at_ms: i64,
    /// It was there already; this is what was answered first.
    pub repeat: bool,
}
