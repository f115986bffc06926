//! Somebody in a chat, and what the chat is to them.

use buffa::EnumValue;
use tertulia_proto::chats as wire;
use tertulia_services::chats::{
    ChatReceipts, Draft, Invite, Membership, Notify, ReadState, Receipt, Role, Settings,
};
use tertulia_services::ids::UserId;

use super::{count, seq};

pub fn member(user: UserId, from: &Membership) -> wire::Member {
    wire::Member {
        user_id: user.0,
        role: role(from.role).into(),
        joined_at_ms: from.joined_at_ms,
        ..Default::default()
    }
}

pub(super) fn membership(from: &Membership, read: ReadState) -> wire::Membership {
    wire::Membership {
        role: role(from.role).into(),
        joined_at_ms: from.joined_at_ms,
        read: read_state(read).into(),
        settings: settings(from.settings).into(),
        draft: from.draft.as_deref().map(draft).into(),
        ..Default::default()
    }
}

pub fn role(from: Role) -> wire::Role {
    match from {
        Role::Reader => wire::Role::ROLE_READER,
        Role::Member => wire::Role::ROLE_MEMBER,
        Role::Admin => wire::Role::ROLE_ADMIN,
        Role::Owner => wire::Role::ROLE_OWNER,
    }
}

/// None when it was not said.
pub fn role_of(from: EnumValue<wire::Role>) -> Option<Role> {
    match from.as_known()? {
        wire::Role::ROLE_UNSPECIFIED => None,
        wire::Role::ROLE_READER => Some(Role::Reader),
        wire::Role::ROLE_MEMBER => Some(Role::Member),
        wire::Role::ROLE_ADMIN => Some(Role::Admin),
        wire::Role::ROLE_OWNER => Some(Role::Owner),
    }
}

pub fn read_state(from: ReadState) -> wire::ReadState {
    wire::ReadState {
        seen_seq: from.seen,
        unread: count(from.unread),
        unread_mentions: count(from.unread_mentions),
        as_of_seq: from.as_of,
        ..Default::default()
    }
}

pub fn settings(from: Settings) -> wire::ChatSettings {
    wire::ChatSettings {
        muted_until_ms: from.muted_until_ms,
        notify: notify(from.notify).into(),
        archived: from.archived,
        favorite: from.favorite,
        marked_unread: from.marked_unread,
        ..Default::default()
    }
}

pub fn settings_of(from: &wire::ChatSettings) -> Settings {
    Settings {
        muted_until_ms: from.muted_until_ms,
        notify: notify_of(from.notify),
        archived: from.archived,
        favorite: from.favorite,
        marked_unread: from.marked_unread,
    }
}

fn notify(from: Notify) -> wire::Notify {
    match from {
        Notify::Default => wire::Notify::NOTIFY_UNSPECIFIED,
        Notify::All => wire::Notify::NOTIFY_ALL,
        Notify::Mentions => wire::Notify::NOTIFY_MENTIONS,
        Notify::None => wire::Notify::NOTIFY_NONE,
    }
}

/// A choice that is not known here leaves it to the client, as none does.
fn notify_of(from: EnumValue<wire::Notify>) -> Notify {
    match from.as_known() {
        Some(wire::Notify::NOTIFY_UNSPECIFIED) | None => Notify::Default,
        Some(wire::Notify::NOTIFY_ALL) => Notify::All,
        Some(wire::Notify::NOTIFY_MENTIONS) => Notify::Mentions,
        Some(wire::Notify::NOTIFY_NONE) => Notify::None,
    }
}

pub fn draft(from: &Draft) -> wire::Draft {
    wire::Draft {
        text: from.text.clone(),
        reply_to_seq: seq(from.reply_to),
        at_ms: from.at_ms,
        ..Default::default()
    }
}

pub fn receipt(from: &Receipt) -> wire::Receipt {
    wire::Receipt {
        user_id: from.user.0,
        delivered_seq: from.delivered,
        seen_seq: from.seen,
        ..Default::default()
    }
}

pub fn chat_receipts(from: &ChatReceipts) -> wire::ChatReceipts {
    wire::ChatReceipts {
        chat_id: from.chat.0,
        receipts: from.receipts.iter().map(receipt).collect(),
        ..Default::default()
    }
}

pub fn invite(from: Invite) -> wire::Invite {
    wire::Invite {
        code: from.code,
        chat_id: from.chat.0,
        created_by: from.created_by.0,
        created_at_ms: from.created_at_ms,
        expires_at_ms: from.expires_at_ms,
        uses_max: count(from.uses_max),
        uses: count(from.uses),
        role: role(from.role).into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_come_back_as_they_left() {
        for some in [Role::Reader, Role::Member, Role::Admin, Role::Owner] {
            assert_eq!(role_of(role(some).into()), Some(some));
        }
        assert_eq!(role_of(wire::Role::ROLE_UNSPECIFIED.into()), None);
    }

    #[test]
    fn settings_come_back_as_they_left() {
        for notify in [Notify::Default, Notify::All, Notify::Mentions, Notify::None] {
            let some = Settings {
                muted_until_ms: -1,
                notify,
                archived: true,
                favorite: false,
                marked_unread: true,
            };
            assert_eq!(settings_of(&settings(some)), some);
        }
    }

    #[test]
    fn a_count_that_the_wire_can_not_say_is_its_greatest() {
        let read = ReadState {
            seen: 0,
            unread: i64::MAX,
            unread_mentions: 2,
            as_of: 1,
        };
        let wire = read_state(read);
        assert_eq!((wire.unread, wire.unread_mentions), (i32::MAX, 2));
    }
}
