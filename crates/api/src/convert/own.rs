//! A user's own log.

use tertulia_proto::chats::{self as wire, __buffa::oneof::user_event::Body};
use tertulia_services::chats::{
    Chat, LeftReason, Membership, ReadState, Scheduled, UserEvent, UserEventBody,
};
use tertulia_services::ids::UserId;

use super::event::mentions;
use super::{chat, member, seq};

pub fn user_event(from: &UserEvent) -> wire::UserEvent {
    wire::UserEvent {
        seq: from.seq,
        at_ms: from.at_ms,
        body: Some(body(from)),
        ..Default::default()
    }
}

fn body(from: &UserEvent) -> Body {
    match &from.body {
        UserEventBody::ChatJoined { chat, membership } => wire::ChatJoined {
            chat: joined(chat, membership).into(),
            ..Default::default()
        }
        .into(),
        UserEventBody::ChatLeft { chat, reason, by } => wire::ChatLeft {
            chat_id: chat.0,
            reason: left_reason(*reason).into(),
            by: somebody_else(*by, from.user),
            ..Default::default()
        }
        .into(),
        UserEventBody::ReadMoved { chat, read } => wire::ReadMoved {
            chat_id: chat.0,
            read: member::read_state(*read).into(),
            ..Default::default()
        }
        .into(),
        UserEventBody::SettingsChanged { chat, settings } => wire::SettingsChanged {
            chat_id: chat.0,
            settings: member::settings(*settings).into(),
            ..Default::default()
        }
        .into(),
        UserEventBody::DraftChanged { chat, draft } => wire::DraftChanged {
            chat_id: chat.0,
            draft: draft.as_deref().map(member::draft).into(),
            ..Default::default()
        }
        .into(),
        UserEventBody::MessagesHidden { chat, messages } => wire::MessagesHidden {
            chat_id: chat.0,
            message_seqs: messages.clone(),
            ..Default::default()
        }
        .into(),
        UserEventBody::ScheduleChanged { id, scheduled } => wire::ScheduleChanged {
            scheduled_id: id.0,
            scheduled: scheduled.as_deref().map(self::scheduled).into(),
            ..Default::default()
        }
        .into(),
    }
}

/// A chat at the moment at which somebody came in: what was before is read.
fn joined(from: &Chat, membership: &Membership) -> wire::Chat {
    let read = ReadState {
        seen: membership.seen,
        unread: 0,
        unread_mentions: 0,
        as_of: from.head,
    };
    wire::Chat {
        membership: member::membership(membership, read).into(),
        ..chat::bare(from)
    }
}

fn left_reason(from: LeftReason) -> wire::LeftReason {
    match from {
        LeftReason::Left => wire::LeftReason::LEFT_REASON_LEFT,
        LeftReason::Removed => wire::LeftReason::LEFT_REASON_REMOVED,
        LeftReason::Banned => wire::LeftReason::LEFT_REASON_BANNED,
    }
}

/// Who did something to `user`; 0 when that was the same one.
fn somebody_else(by: UserId, user: UserId) -> i64 {
    if by == user { 0 } else { by.0 }
}

pub fn scheduled(from: &Scheduled) -> wire::ScheduledMessage {
    wire::ScheduledMessage {
        scheduled_id: from.id.0,
        chat_id: from.chat.0,
        send_at_ms: from.send_at_ms,
        text: from.text.clone(),
        reply_to_seq: seq(from.reply_to),
        thread_seq: seq(from.thread),
        mentions: mentions(&from.mentions).into(),
        ..Default::default()
    }
}
