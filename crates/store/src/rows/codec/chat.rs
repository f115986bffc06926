//! The row of a chat. What readers ask for most stands first, so that they need not read the rest.

use std::sync::Arc;

use tertulia_services::chats::{Chat, ChatKind, Details, Pair, Seq};
use tertulia_services::ids::{ChatId, UserId};

use super::*;

const DIRECT: u8 = 1;
const GROUP: u8 = 2;
const CHANNEL: u8 = 3;

/// How far a chat has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// The commit that wrote its newest event.
    pub moved_at: u64,
    /// The commit that moved its newest receipt.
    pub marked_at: u64,
    pub head: Seq,
}

/// A chat's row; its last message is a row of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChat {
    /// Without its last message.
    pub chat: Chat,
    pub moved_at: u64,
    pub marked_at: u64,
    /// 0 when there is none.
    pub last_message: Seq,
}

/// Writes a chat. Its id is in its key.
pub fn write_chat(out: &mut Vec<u8>, chat: &Chat, moved_at: u64, marked_at: u64) {
    start(out);
    put_varint(out, moved_at);
    put_varint(out, marked_at);
    put_number(out, chat.head);
    put_number(out, chat.last_message.as_ref().map_or(0, |event| event.seq));
    put_chat(out, chat);
}

pub fn read_marks(bytes: &[u8]) -> Read<Marks> {
    marks(&mut Fields::of(bytes)?)
}

pub fn read_chat(bytes: &[u8], id: ChatId) -> Read<StoredChat> {
    let mut fields = Fields::of(bytes)?;
    let Marks {
        moved_at,
        marked_at,
        head,
    } = marks(&mut fields)?;
    let last_message = fields.number()?;
    let chat = chat(&mut fields, id, head)?;
    fields.end()?;
    Ok(StoredChat {
        chat,
        moved_at,
        marked_at,
        last_message,
    })
}

fn marks(fields: &mut Fields<'_>) -> Read<Marks> {
    Ok(Marks {
        moved_at: fields.varint()?,
        marked_at: fields.varint()?,
        head: fields.head()?,
    })
}

/// A chat without its id, its head and its last message.
pub(super) fn put_chat(out: &mut Vec<u8>, chat: &Chat) {
    match chat.kind {
        ChatKind::Direct(pair) => {
            out.push(DIRECT);
            for user in pair.users() {
                put_id(out, user.0);
            }
            for seq in chat.spoke {
                put_number(out, seq);
            }
        }
        ChatKind::Group => out.push(GROUP),
        ChatKind::Channel => out.push(CHANNEL),
    }
    put_number(out, chat.messages);
    put_number(out, chat.created_at_ms);
    let is_plain = matches!(chat.kind, ChatKind::Direct(_)) && *chat.details == plain_details();
    out.push(u8::from(!is_plain));
    if !is_plain {
        put_details(out, &chat.details);
    }
}

pub(super) fn chat(fields: &mut Fields<'_>, id: ChatId, head: Seq) -> Read<Chat> {
    let (kind, spoke) = match fields.byte()? {
        DIRECT => {
            let pair = Pair::new(fields.user()?, fields.user()?);
            let pair = pair.ok_or(Corrupt("a pair of one"))?;
            (ChatKind::Direct(pair), [fields.number()?, fields.number()?])
        }
        GROUP => (ChatKind::Group, [0; 2]),
        CHANNEL => (ChatKind::Channel, [0; 2]),
        _ => return Err(Corrupt("an unknown kind of chat")),
    };
    let messages = fields.number()?;
    let created_at_ms = fields.number()?;
    let details = match (fields.flag()?, kind) {
        (true, _) => Arc::new(details(fields)?),
        // All direct chats of which nothing was changed share them.
        (false, ChatKind::Direct(pair)) => Chat::direct(id, pair, created_at_ms).details,
        (false, _) => return Err(Corrupt("a chat without details")),
    };
    Ok(Chat {
        id,
        kind,
        head,
        messages,
        created_at_ms,
        last_message: None,
        spoke,
        details,
    })
}

/// Those of a direct chat of which nothing was changed.
fn plain_details() -> Details {
    Details {
        member_count: 2,
        ..Details::default()
    }
}

fn put_details(out: &mut Vec<u8>, details: &Details) {
    put_text(out, &details.title);
    put_text(out, &details.topic);
    put_text(out, &details.avatar);
    put_option(out, details.created_by.map(|user| user.0));
    put_number(out, details.message_ttl_s);
    put_seqs(out, &details.pinned);
    put_varint(out, details.member_count.into());
    put_number(out, details.members_seq);
    put_number(out, details.deleted_max);
    put_number(out, details.called_max);
}

fn details(fields: &mut Fields<'_>) -> Read<Details> {
    Ok(Details {
        title: fields.text()?,
        topic: fields.text()?,
        avatar: fields.text()?,
        created_by: fields.option()?.map(UserId),
        message_ttl_s: fields.number()?,
        pinned: fields.seqs()?,
        member_count: fields.count()?,
        members_seq: fields.number()?,
        deleted_max: fields.number()?,
        called_max: fields.number()?,
    })
}
