//! What happens in a chat.

use super::{Role, Seq};
use crate::ids::{ChatId, MessageId, UserId};

/// An entry of a chat's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The chat.
    pub chat: ChatId,
    /// Its number in the chat.
    pub seq: Seq,
    /// When the server took it, in milliseconds since 1970.
    pub at_ms: i64,
    /// Who did it; [`UserId::SERVER`] when the server did.
    pub actor: UserId,
    /// How many messages the log has up to here, this one counted.
    pub messages: i64,
    /// What happened.
    pub body: EventBody,
}

impl Event {
    /// The message, when it is one.
    pub fn message(&self) -> Option<&Message> {
        match &self.body {
            EventBody::Message(message) => Some(message),
            _ => None,
        }
    }

    /// How many bytes of text it carries.
    pub fn text_bytes(&self) -> usize {
        match &self.body {
            EventBody::Message(message) => message.text.len(),
            EventBody::Edited { text, before, .. } => {
                text.len() + before.as_ref().map_or(0, String::len)
            }
            EventBody::Changed { title, topic, .. } => {
                let bytes = |text: &Option<String>| text.as_ref().map_or(0, String::len);
                bytes(title) + bytes(topic)
            }
            EventBody::Created { members, .. } | EventBody::Added { members, .. } => {
                8 * members.len()
            }
            EventBody::Deleted { messages, .. } => 8 * messages.len(),
            _ => 16,
        }
    }
}

/// What happens in a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventBody {
    /// A message was sent. The stored event is always the message as it is now.
    Message(Message),
    /// A message has another text.
    Edited {
        /// Which.
        message: Seq,
        /// Its text from then on; empty when the message was deleted since.
        text: String,
        /// Whom it mentions from then on.
        mentions: Mentions,
        /// What was sent first, beside the first edit only. It never leaves with the event.
        before: Option<String>,
    },
    /// Messages were deleted for everybody.
    Deleted {
        /// Which.
        messages: Vec<Seq>,
        /// Why.
        reason: DeletionReason,
    },
    /// The actor reacted to a message.
    Reacted {
        /// Which.
        message: Seq,
        /// How.
        emoji: String,
    },
    /// The actor took a reaction back.
    Unreacted {
        /// To which message.
        message: Seq,
        /// Which reaction.
        emoji: String,
    },
    /// A message was pinned.
    Pinned(Seq),
    /// A message is no longer pinned.
    Unpinned(Seq),
    /// The chat was made.
    Created {
        /// Its name.
        title: String,
        /// Who is in it besides its maker, the first of them.
        members: Vec<UserId>,
        /// How many are in it.
        member_count: u32,
    },
    /// What is set here is another now.
    Changed {
        /// The name.
        title: Option<String>,
        /// What it is about.
        topic: Option<String>,
        /// The emoji that stands for it.
        avatar: Option<String>,
        /// For how many seconds messages stay.
        message_ttl_s: Option<i64>,
    },
    /// The actor brought people in.
    Added {
        /// Who, the first of them.
        members: Vec<UserId>,
        /// As what.
        role: Role,
        /// How many there are now.
        member_count: u32,
    },
    /// The actor came in by an invite.
    Joined {
        /// By whose.
        invited_by: UserId,
        /// As what.
        role: Role,
        /// How many there are now.
        member_count: u32,
    },
    /// The actor left.
    Left {
        /// How many there are now.
        member_count: u32,
    },
    /// The actor removed somebody.
    Removed {
        /// Whom.
        user: UserId,
        /// How many there are now.
        member_count: u32,
    },
    /// The actor banned somebody.
    Banned {
        /// Whom.
        user: UserId,
        /// How many there are now.
        member_count: u32,
    },
    /// The actor lifted a ban.
    Unbanned(UserId),
    /// The actor gave somebody another role.
    RoleChanged {
        /// Whom.
        user: UserId,
        /// Which.
        role: Role,
    },
}

/// Something said, as it is at `changed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique over all chats.
    pub id: MessageId,
    /// As it was typed; empty when it was deleted.
    pub text: String,
    /// Which sending it was, from the client.
    pub key: SendKey,
    /// Its latest change; its own seq when there was none.
    pub changed: Seq,
    /// Its edits, oldest first.
    pub edits: Vec<Seq>,
    /// When it was last edited, in milliseconds since 1970; 0 when never.
    pub edited_at_ms: i64,
    /// How it was deleted.
    pub deletion: Option<Deletion>,
    /// The message that it answers.
    pub reply_to: Option<Seq>,
    /// The message whose thread it belongs to.
    pub thread: Option<Seq>,
    /// Where it was forwarded from.
    pub forward: Option<Forward>,
    /// Whom it mentions.
    pub mentions: Mentions,
    /// How often it got which reaction, in the order of their first use; none with a count of 0.
    pub reactions: Vec<ReactionCount>,
    /// It is pinned.
    pub pinned: bool,
    /// How many messages its thread has, deleted ones counted.
    pub replies: u32,
    /// The newest message of its thread; 0 when there is none.
    pub last_reply: Seq,
    /// When it will be deleted by itself, in milliseconds since 1970; 0 for never.
    pub expires_at_ms: i64,
}

impl Message {
    /// A message as it is sent, with nothing to it but a text.
    pub fn plain(id: MessageId, key: SendKey, text: String, seq: Seq) -> Message {
        Message {
            id,
            text,
            key,
            changed: seq,
            edits: Vec::new(),
            edited_at_ms: 0,
            deletion: None,
            reply_to: None,
            thread: None,
            forward: None,
            mentions: Mentions::default(),
            reactions: Vec::new(),
            pinned: false,
            replies: 0,
            last_reply: 0,
            expires_at_ms: 0,
        }
    }
}

/// How a message was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// Why.
    pub reason: DeletionReason,
    /// By whom.
    pub by: UserId,
}

/// Why a message was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionReason {
    /// Its sender wanted it.
    Sender,
    /// Somebody who keeps order wanted it.
    Moderator,
    /// Its time was over.
    Expired,
}

/// Where a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Who said it first.
    pub user: UserId,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// Those whom a message calls by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mentions {
    /// Members, each once, in the order given.
    pub users: Vec<UserId>,
    /// Everybody.
    pub everyone: bool,
    /// All of this role or a higher one.
    pub role: Option<Role>,
}

impl Mentions {
    /// Whether nobody is mentioned.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.calls().is_none()
    }

    /// The lowest role that is called as a whole.
    pub fn calls(&self) -> Option<Role> {
        match self.everyone {
            true => Some(Role::Reader),
            false => self.role,
        }
    }
}

/// How often a message got one reaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionCount {
    /// An emoji.
    pub emoji: String,
    /// How many members gave it.
    pub count: u32,
}

/// Names one sending of one device, so that a repeat is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SendKey {
    /// The device of the sender's login.
    pub device: String,
    /// The client message id, unique on that device.
    pub client_message_id: String,
}
