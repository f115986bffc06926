//! The row of an event of a user's own log.

use std::sync::Arc;

use tertulia_services::chats::{LeftReason, ReadState, Seq, UserEvent, UserEventBody};
use tertulia_services::ids::{ChatId, ScheduledId, UserId};

use super::chat::{chat, put_chat};
use super::member::{
    draft, membership, put_draft, put_membership, put_scheduled, put_settings, scheduled, settings,
};
use super::*;

const CHAT_JOINED: u8 = 1;
const CHAT_LEFT: u8 = 2;
const READ_MOVED: u8 = 3;
const SETTINGS_CHANGED: u8 = 4;
const DRAFT_CHANGED: u8 = 5;
const MESSAGES_HIDDEN: u8 = 6;
const SCHEDULE_CHANGED: u8 = 7;

/// Writes an event of a user's own log. Its user and its seq are in its key.
pub fn write_user_event(out: &mut Vec<u8>, event: &UserEvent) {
    start(out);
    put_number(out, event.at_ms);
    match &event.body {
        UserEventBody::ChatJoined { chat, membership } => {
            out.push(CHAT_JOINED);
            put_id(out, chat.id.0);
            put_number(out, chat.head);
            put_chat(out, chat);
            put_membership(out, membership);
        }
        UserEventBody::ChatLeft { chat, reason, by } => {
            out.push(CHAT_LEFT);
            put_id(out, chat.0);
            out.push(match reason {
                LeftReason::Left => 1,
                LeftReason::Removed => 2,
                LeftReason::Banned => 3,
            });
            put_id(out, by.0);
        }
        UserEventBody::ReadMoved { chat, read } => {
            out.push(READ_MOVED);
            put_id(out, chat.0);
            put_number(out, read.seen);
            put_number(out, read.unread);
            put_number(out, read.unread_mentions);
            put_number(out, read.as_of);
        }
        UserEventBody::SettingsChanged { chat, settings } => {
            out.push(SETTINGS_CHANGED);
            put_id(out, chat.0);
            put_settings(out, settings);
        }
        UserEventBody::DraftChanged { chat, draft } => {
            out.push(DRAFT_CHANGED);
            put_id(out, chat.0);
            put_draft(out, draft.as_deref());
        }
        UserEventBody::MessagesHidden { chat, messages } => {
            out.push(MESSAGES_HIDDEN);
            put_id(out, chat.0);
            put_seqs(out, messages);
        }
        UserEventBody::ScheduleChanged { id, scheduled } => {
            out.push(SCHEDULE_CHANGED);
            put_id(out, id.0);
            out.push(u8::from(scheduled.is_some()));
            if let Some(scheduled) = scheduled {
                put_scheduled(out, scheduled);
            }
        }
    }
}

pub fn read_user_event(bytes: &[u8], user: UserId, seq: Seq) -> Read<UserEvent> {
    let mut fields = Fields::of(bytes)?;
    let event = UserEvent {
        user,
        seq,
        at_ms: fields.number()?,
        body: body(&mut fields)?,
    };
    fields.end()?;
    Ok(event)
}

fn body(fields: &mut Fields<'_>) -> Read<UserEventBody> {
    let kind = fields.byte()?;
    let id = fields.id()?;
    let there = ChatId(id);
    Ok(match kind {
        CHAT_JOINED => {
            let head = fields.head()?;
            UserEventBody::ChatJoined {
                chat: Box::new(chat(fields, there, head)?),
                membership: Box::new(membership(fields)?),
            }
        }
        CHAT_LEFT => UserEventBody::ChatLeft {
            chat: there,
            reason: match fields.byte()? {
                1 => LeftReason::Left,
                2 => LeftReason::Removed,
                3 => LeftReason::Banned,
                _ => return Err(Corrupt("an unknown reason of leaving")),
            },
            by: fields.user()?,
        },
        READ_MOVED => UserEventBody::ReadMoved {
            chat: there,
            read: ReadState {
                seen: fields.number()?,
                unread: fields.number()?,
                unread_mentions: fields.number()?,
                as_of: fields.number()?,
            },
        },
        SETTINGS_CHANGED => UserEventBody::SettingsChanged {
            chat: there,
            settings: settings(fields)?,
        },
        DRAFT_CHANGED => UserEventBody::DraftChanged {
            chat: there,
            draft: draft(fields)?,
        },
        MESSAGES_HIDDEN => UserEventBody::MessagesHidden {
            chat: there,
            messages: fields.seqs()?,
        },
        SCHEDULE_CHANGED => {
            let id = ScheduledId(id);
            let scheduled = fields.flag()?.then(|| scheduled(fields, id)).transpose()?;
            UserEventBody::ScheduleChanged {
                id,
                scheduled: scheduled.map(Arc::new),
            }
        }
        _ => return Err(Corrupt("an unknown kind of user event")),
    })
}
