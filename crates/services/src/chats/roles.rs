//! Who may do what in a chat: one table, asked at the border by the authorizer, and again in the commit, so
//! that nobody acts by a right that was taken meanwhile.

use tertulia_kit::error::Result;

use super::model::{ChatKind, Role};
use crate::errors;

/// Something that a member may do or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Read the chat, choose what it is to oneself, and leave it.
    Read,
    /// Send messages and edit one's own.
    Send,
    /// React to messages.
    React,
    /// Pin and unpin messages.
    Pin,
    /// Delete messages of others.
    DeleteOthers,
    /// Mention everybody, or all of a role.
    MentionAll,
    /// Change title, topic, avatar and how long messages stay.
    ChangeChat,
    /// Bring people in.
    AddMembers,
    /// Make and end invites.
    Invite,
    /// Remove and ban people, and lift bans.
    RemoveMembers,
    /// Give roles.
    ChangeRoles,
}

use Right::*;

/// The table. A row: the right, the lowest role that has it in a group, the lowest that has it in a channel,
/// and whether the two of a direct chat have it.
pub const TABLE: &[(Right, Role, Role, bool)] = &[
    (Read, Role::Reader, Role::Reader, true),
    (React, Role::Member, Role::Reader, true),
    (Send, Role::Member, Role::Member, true),
    (Pin, Role::Admin, Role::Admin, true),
    (ChangeChat, Role::Admin, Role::Admin, true),
    (MentionAll, Role::Admin, Role::Admin, false),
    (DeleteOthers, Role::Admin, Role::Admin, false),
    (AddMembers, Role::Admin, Role::Admin, false),
    (Invite, Role::Admin, Role::Admin, false),
    (RemoveMembers, Role::Admin, Role::Admin, false),
    (ChangeRoles, Role::Admin, Role::Admin, false),
];

/// Whether somebody with this role has the right.
pub fn allows(kind: ChatKind, role: Role, right: Right) -> bool {
    let row = TABLE.iter().find(|row| row.0 == right);
    row.is_some_and(|&(_, in_group, in_channel, in_direct)| match kind {
        ChatKind::Direct(_) => in_direct,
        ChatKind::Group => role >= in_group,
        ChatKind::Channel => role >= in_channel,
    })
}

/// As [`allows`], in the words of a refusal.
///
/// # Errors
/// `DIRECT_CHAT` when nobody has the right in chats of this kind, `NOT_ALLOWED` when others have.
pub fn check(kind: ChatKind, role: Role, right: Right) -> Result<()> {
    match (allows(kind, role, right), kind) {
        (true, _) => Ok(()),
        (false, ChatKind::Direct(_)) => Err(errors::direct_chat()),
        (false, ChatKind::Group | ChatKind::Channel) => Err(errors::not_allowed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_has_one_row() {
        let all = [
            Read,
            Send,
            React,
            Pin,
            DeleteOthers,
            MentionAll,
            ChangeChat,
            AddMembers,
            Invite,
            RemoveMembers,
            ChangeRoles,
        ];
        for right in all {
            assert_eq!(TABLE.iter().filter(|row| row.0 == right).count(), 1);
        }
        assert_eq!(TABLE.len(), all.len());
    }

    #[test]
    fn the_owner_may_do_everything_in_a_group_and_a_reader_only_reads() {
        for (right, ..) in TABLE {
            assert!(allows(ChatKind::Group, Role::Owner, *right));
            assert_eq!(
                allows(ChatKind::Group, Role::Reader, *right),
                *right == Read
            );
        }
    }
}
