//! The row of an event. A message that is nothing but a text, as most are, takes no byte for what it is not.

use tertulia_services::chats::{
    Deletion, DeletionReason, Event, EventBody, Forward, Message, ReactionCount, Seq,
};
use tertulia_services::ids::{ChatId, MessageId};

use super::parts::{key, mentions, put_key, put_mentions, put_role, role};
use super::*;

// The kinds of events.
const MESSAGE: u8 = 1;
const EDITED: u8 = 2;
const DELETED: u8 = 3;
const REACTED: u8 = 4;
const UNREACTED: u8 = 5;
const PINNED: u8 = 6;
const UNPINNED: u8 = 7;
const CREATED: u8 = 8;
const CHANGED: u8 = 9;
const ADDED: u8 = 10;
const JOINED: u8 = 11;
const LEFT: u8 = 12;
const REMOVED: u8 = 13;
const BANNED: u8 = 14;
const UNBANNED: u8 = 15;
const ROLE_CHANGED: u8 = 16;

// What a message has besides its text.
const HAS_CHANGE: u64 = 1;
const HAS_EDITS: u64 = 1 << 1;
const HAS_DELETION: u64 = 1 << 2;
const HAS_REPLY_TO: u64 = 1 << 3;
const HAS_THREAD: u64 = 1 << 4;
const HAS_FORWARD: u64 = 1 << 5;
const HAS_MENTIONS: u64 = 1 << 6;
const HAS_REACTIONS: u64 = 1 << 7;
const IS_PINNED: u64 = 1 << 8;
const HAS_REPLIES: u64 = 1 << 9;
const HAS_EXPIRY: u64 = 1 << 10;
const ALL: u64 = (1 << 11) - 1;

/// Writes an event of the commit `position`. Its chat and its seq are in its key.
pub fn write_event(out: &mut Vec<u8>, position: u64, event: &Event) {
    start(out);
    put_varint(out, position);
    put_number(out, event.at_ms);
    put_id(out, event.actor.0);
    put_number(out, event.messages);
    put_body(out, event.seq, &event.body);
}

/// Only the position of an event's commit.
pub fn read_event_position(bytes: &[u8]) -> Read<u64> {
    Fields::of(bytes)?.varint()
}

pub fn read_event(bytes: &[u8], chat: ChatId, seq: Seq) -> Read<(u64, Event)> {
    let mut fields = Fields::of(bytes)?;
    let position = fields.varint()?;
    let event = Event {
        chat,
        seq,
        at_ms: fields.number()?,
        actor: fields.user()?,
        messages: fields.number()?,
        body: body(&mut fields, seq)?,
    };
    fields.end()?;
    Ok((position, event))
}

fn put_body(out: &mut Vec<u8>, seq: Seq, body: &EventBody) {
    match body {
        EventBody::Message(message) => {
            out.push(MESSAGE);
            put_message(out, seq, message);
        }
        EventBody::Edited {
            message,
            text,
            mentions,
            before,
        } => {
            out.push(EDITED);
            put_number(out, *message);
            put_text(out, text);
            put_mentions(out, mentions);
            put_optional_text(out, before);
        }
        EventBody::Deleted { messages, reason } => {
            out.push(DELETED);
            put_seqs(out, messages);
            put_reason(out, *reason);
        }
        EventBody::Reacted { message, emoji } => {
            out.push(REACTED);
            put_number(out, *message);
            put_text(out, emoji);
        }
        EventBody::Unreacted { message, emoji } => {
            out.push(UNREACTED);
            put_number(out, *message);
            put_text(out, emoji);
        }
        EventBody::Pinned(message) => {
            out.push(PINNED);
            put_number(out, *message);
        }
        EventBody::Unpinned(message) => {
            out.push(UNPINNED);
            put_number(out, *message);
        }
        EventBody::Created {
            title,
            members,
            member_count,
        } => {
            out.push(CREATED);
            put_text(out, title);
            put_users(out, members);
            put_varint(out, u64::from(*member_count));
        }
        EventBody::Changed {
            title,
            topic,
            avatar,
            message_ttl_s,
        } => {
            out.push(CHANGED);
            put_optional_text(out, title);
            put_optional_text(out, topic);
            put_optional_text(out, avatar);
            put_option(out, *message_ttl_s);
        }
        EventBody::Added {
            members,
            role,
            member_count,
        } => {
            out.push(ADDED);
            put_users(out, members);
            put_role(out, *role);
            put_varint(out, u64::from(*member_count));
        }
        EventBody::Joined {
            invited_by,
            role,
            member_count,
        } => {
            out.push(JOINED);
            put_id(out, invited_by.0);
            put_role(out, *role);
            put_varint(out, u64::from(*member_count));
        }
        EventBody::Left { member_count } => {
            out.push(LEFT);
            put_varint(out, u64::from(*member_count));
        }
        EventBody::Removed { user, member_count } => {
            out.push(REMOVED);
            put_id(out, user.0);
            put_varint(out, u64::from(*member_count));
        }
        EventBody::Banned { user, member_count } => {
            out.push(BANNED);
            put_id(out, user.0);
            put_varint(out, u64::from(*member_count));
        }
        EventBody::Unbanned(user) => {
            out.push(UNBANNED);
            put_id(out, user.0);
        }
        EventBody::RoleChanged { user, role } => {
            out.push(ROLE_CHANGED);
            put_id(out, user.0);
            put_role(out, *role);
        }
    }
}

fn body(fields: &mut Fields<'_>, seq: Seq) -> Read<EventBody> {
    Ok(match fields.byte()? {
        MESSAGE => EventBody::Message(message(fields, seq)?),
        EDITED => EventBody::Edited {
            message: fields.number()?,
            text: fields.text()?,
            mentions: mentions(fields)?,
            before: optional_text(fields)?,
        },
        DELETED => EventBody::Deleted {
            messages: fields.seqs()?,
            reason: reason(fields)?,
        },
        REACTED => EventBody::Reacted {
            message: fields.number()?,
            emoji: fields.text()?,
        },
        UNREACTED => EventBody::Unreacted {
            message: fields.number()?,
            emoji: fields.text()?,
        },
        PINNED => EventBody::Pinned(fields.number()?),
        UNPINNED => EventBody::Unpinned(fields.number()?),
        CREATED => EventBody::Created {
            title: fields.text()?,
            members: fields.users()?,
            member_count: fields.count()?,
        },
        CHANGED => EventBody::Changed {
            title: optional_text(fields)?,
            topic: optional_text(fields)?,
            avatar: optional_text(fields)?,
            message_ttl_s: fields.option()?,
        },
        ADDED => EventBody::Added {
            members: fields.users()?,
            role: role(fields)?,
            member_count: fields.count()?,
        },
        JOINED => EventBody::Joined {
            invited_by: fields.user()?,
            role: role(fields)?,
            member_count: fields.count()?,
        },
        LEFT => EventBody::Left {
            member_count: fields.count()?,
        },
        REMOVED => EventBody::Removed {
            user: fields.user()?,
            member_count: fields.count()?,
        },
        BANNED => EventBody::Banned {
            user: fields.user()?,
            member_count: fields.count()?,
        },
        UNBANNED => EventBody::Unbanned(fields.user()?),
        ROLE_CHANGED => EventBody::RoleChanged {
            user: fields.user()?,
            role: role(fields)?,
        },
        _ => return Err(Corrupt("an unknown kind of event")),
    })
}

fn put_message(out: &mut Vec<u8>, seq: Seq, message: &Message) {
    let has = |flag, is_there| if is_there { flag } else { 0 };
    let flags = has(HAS_CHANGE, message.changed != seq)
        | has(
            HAS_EDITS,
            !message.edits.is_empty() || message.edited_at_ms != 0,
        )
        | has(HAS_DELETION, message.deletion.is_some())
        | has(HAS_REPLY_TO, message.reply_to.is_some())
        | has(HAS_THREAD, message.thread.is_some())
        | has(HAS_FORWARD, message.forward.is_some())
        | has(HAS_MENTIONS, !message.mentions.is_empty())
        | has(HAS_REACTIONS, !message.reactions.is_empty())
        | has(IS_PINNED, message.pinned)
        | has(HAS_REPLIES, message.replies != 0 || message.last_reply != 0)
        | has(HAS_EXPIRY, message.expires_at_ms != 0);
    put_varint(out, flags);
    put_id(out, message.id.0);
    put_key(out, &message.key);
    put_text(out, &message.text);
    if flags & HAS_CHANGE != 0 {
        put_number(out, message.changed);
    }
    if flags & HAS_EDITS != 0 {
        put_seqs(out, &message.edits);
        put_number(out, message.edited_at_ms);
    }
    if let Some(deletion) = message.deletion {
        put_reason(out, deletion.reason);
        put_id(out, deletion.by.0);
    }
    if let Some(seq) = message.reply_to {
        put_number(out, seq);
    }
    if let Some(seq) = message.thread {
        put_number(out, seq);
    }
    if let Some(forward) = message.forward {
        put_id(out, forward.user.0);
        put_number(out, forward.at_ms);
    }
    if flags & HAS_MENTIONS != 0 {
        put_mentions(out, &message.mentions);
    }
    if flags & HAS_REACTIONS != 0 {
        put_list(out, &message.reactions, |out, reaction| {
            put_text(out, &reaction.emoji);
            put_varint(out, u64::from(reaction.count));
        });
    }
    if flags & HAS_REPLIES != 0 {
        put_varint(out, u64::from(message.replies));
        put_number(out, message.last_reply);
    }
    if flags & HAS_EXPIRY != 0 {
        put_number(out, message.expires_at_ms);
    }
}

fn message(fields: &mut Fields<'_>, seq: Seq) -> Read<Message> {
    let flags = fields.varint()?;
    if flags & !ALL != 0 {
        return Err(Corrupt("an unknown part of a message"));
    }
    let has = |flag: u64| flags & flag != 0;
    let id = MessageId(fields.id()?);
    let key = key(fields)?;
    let mut message = Message::plain(id, key, fields.text()?, seq);
    if has(HAS_CHANGE) {
        message.changed = fields.number()?;
    }
    if has(HAS_EDITS) {
        message.edits = fields.seqs()?;
        message.edited_at_ms = fields.number()?;
    }
    if has(HAS_DELETION) {
        message.deletion = Some(Deletion {
            reason: reason(fields)?,
            by: fields.user()?,
        });
    }
    if has(HAS_REPLY_TO) {
        message.reply_to = Some(fields.number()?);
    }
    if has(HAS_THREAD) {
        message.thread = Some(fields.number()?);
    }
    if has(HAS_FORWARD) {
        message.forward = Some(Forward {
            user: fields.user()?,
            at_ms: fields.number()?,
        });
    }
    if has(HAS_MENTIONS) {
        message.mentions = mentions(fields)?;
    }
    if has(HAS_REACTIONS) {
        message.reactions = fields.list(|fields| {
            Ok(ReactionCount {
                emoji: fields.text()?,
                count: fields.count()?,
            })
        })?;
    }
    message.pinned = has(IS_PINNED);
    if has(HAS_REPLIES) {
        message.replies = fields.count()?;
        message.last_reply = fields.number()?;
    }
    if has(HAS_EXPIRY) {
        message.expires_at_ms = fields.number()?;
    }
    Ok(message)
}

fn put_reason(out: &mut Vec<u8>, reason: DeletionReason) {
    out.push(match reason {
        DeletionReason::Sender => 1,
        DeletionReason::Moderator => 2,
        DeletionReason::Expired => 3,
    });
}

fn reason(fields: &mut Fields<'_>) -> Read<DeletionReason> {
    match fields.byte()? {
        1 => Ok(DeletionReason::Sender),
        2 => Ok(DeletionReason::Moderator),
        3 => Ok(DeletionReason::Expired),
        _ => Err(Corrupt("an unknown reason of a deletion")),
    }
}

fn put_optional_text(out: &mut Vec<u8>, text: &Option<String>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(out, text);
    }
}

fn optional_text(fields: &mut Fields<'_>) -> Read<Option<String>> {
    fields.flag()?.then(|| fields.text()).transpose()
}
