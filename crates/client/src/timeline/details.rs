//! What a chat is beside its log: title, pins, how many members, and the user's role in it.

use serde::{Deserialize, Serialize};
use tertulia_proto::chats::event::Body;
use tertulia_proto::chats::{Chat, Event, Membership, Role};

use crate::{ChatId, UserId};

/// It, true at `chat.head`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// The server has given them once.
    pub known: bool,
    pub chat: Chat,
    pub role: Role,
    pub joined_at_ms: i64,
}

impl Details {
    /// Of a chat of which only the id is known.
    pub fn unknown(chat: ChatId) -> Self {
        Details {
            known: false,
            chat: Chat {
                chat_id: chat,
                ..Default::default()
            },
            role: Role::ROLE_UNSPECIFIED,
            joined_at_ms: 0,
        }
    }

    /// Whether nothing is missing in them up to `tip`.
    pub fn are_true_at(&self, tip: i64) -> bool {
        self.known && self.chat.head >= tip
    }

    /// Takes what the server gave, unless what is known is newer: then false.
    pub fn meet(&mut self, chat: Chat, membership: &Membership) -> bool {
        if self.known && chat.head < self.chat.head {
            return false;
        }
        self.known = true;
        self.chat = chat;
        if let Some(role) = membership.role.as_known()
            && role != Role::ROLE_UNSPECIFIED
        {
            self.role = role;
            self.joined_at_ms = membership.joined_at_ms;
        }
        true
    }

    /// Nothing happens from `tip` to `end`.
    pub fn carry(&mut self, tip: i64, end: i64) {
        if self.are_true_at(tip) {
            self.chat.head = self.chat.head.max(end);
        }
    }

    /// Changes by the event behind `tip`, unless it is in already, or one before it is missing. True when the
    /// user has another role.
    pub fn fold(&mut self, event: &Event, tip: i64, me: UserId) -> bool {
        let seq = event.seq;
        if !self.are_true_at(tip) || seq <= self.chat.head {
            return false;
        }
        let chat = &mut self.chat;
        chat.head = seq;
        let role = self.role;
        let mut counted = |count: i32| {
            chat.member_count = count;
            chat.members_seq = seq;
        };
        match &event.body {
            Some(Body::MembersAdded(added)) => counted(added.member_count),
            Some(Body::MemberJoined(joined)) => counted(joined.member_count),
            Some(Body::MemberLeft(left)) => counted(left.member_count),
            Some(Body::MemberRemoved(removed)) => counted(removed.member_count),
            Some(Body::MemberBanned(banned)) => counted(banned.member_count),
            Some(Body::RoleChanged(changed)) => {
                chat.members_seq = seq;
                let given = changed.role.as_known().unwrap_or_default();
                if changed.user_id == me {
                    self.role = given;
                } else if event.actor_id == me && given == Role::ROLE_OWNER {
                    self.role = Role::ROLE_ADMIN;
                }
            }
            Some(Body::ChatChanged(changed)) => {
                if let Some(title) = &changed.title {
                    chat.title.clone_from(title);
                }
                if let Some(topic) = &changed.topic {
                    chat.topic.clone_from(topic);
                }
                if let Some(avatar) = &changed.avatar {
                    chat.avatar.clone_from(avatar);
                }
                if let Some(ttl_s) = changed.message_ttl_s {
                    chat.message_ttl_s = ttl_s;
                }
            }
            Some(Body::Pinned(pin)) => {
                chat.pinned_seqs.retain(|seq| *seq != pin.message_seq);
                chat.pinned_seqs.insert(0, pin.message_seq);
            }
            Some(Body::Unpinned(pin)) => chat.pinned_seqs.retain(|seq| *seq != pin.message_seq),
            Some(Body::MessagesDeleted(deleted)) => {
                let is_there = |seq: &i64| !deleted.message_seqs.contains(seq);
                chat.pinned_seqs.retain(is_there);
            }
            _ => {}
        }
        self.role != role
    }
}
