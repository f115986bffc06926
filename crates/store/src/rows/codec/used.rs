//! The row of a send key: what it was used for.

use sha2::{Digest as _, Sha256};
use tertulia_services::chats::SendKey;
use tertulia_services::chats::decide::Used;
use tertulia_services::ids::{ChatId, ScheduledId};

use super::*;

const MESSAGES: u8 = 1;
const CHAT: u8 = 2;
const INVITE: u8 = 3;
const SCHEDULED: u8 = 4;

/// A send key of a user, in short: the user, and 128 bits of a hash, in which no two keys meet.
pub type SendHash = [u8; 24];

pub fn send_hash(user: UserId, key: &SendKey) -> SendHash {
    let mut sha = Sha256::new();
    sha.update((key.device.len() as u64).to_be_bytes());
    sha.update(key.device.as_bytes());
    sha.update(key.client_message_id.as_bytes());
    let mut hash = [0; 24];
    hash[..8].copy_from_slice(&user.0.to_be_bytes());
    hash[8..].copy_from_slice(&sha.finalize()[..16]);
    hash
}

pub fn write_used(out: &mut Vec<u8>, used: &Used) {
    start(out);
    match used {
        Used::Messages { chat, first, count } => {
            out.push(MESSAGES);
            put_id(out, chat.0);
            put_number(out, *first);
            put_varint(out, u64::from(*count));
        }
        Used::Chat(chat) => {
            out.push(CHAT);
            put_id(out, chat.0);
        }
        Used::Invite(code) => {
            out.push(INVITE);
            put_text(out, code);
        }
        Used::Scheduled(id) => {
            out.push(SCHEDULED);
            put_id(out, id.0);
        }
    }
}

/// The keys that a commit brought, and of which week they are.
pub fn write_fresh<'a>(
    out: &mut Vec<u8>,
    week: i64,
    keys: impl ExactSizeIterator<Item = (&'a SendHash, &'a Used)>,
) {
    start(out);
    put_number(out, week);
    put_varint(out, keys.len() as u64);
    let mut content = Vec::with_capacity(32);
    for (hash, used) in keys {
        write_used(&mut content, used);
        out.extend_from_slice(hash);
        put_varint(out, content.len() as u64);
        out.extend_from_slice(&content);
    }
}

pub fn read_fresh(bytes: &[u8]) -> Read<(i64, Vec<(SendHash, Used)>)> {
    let mut fields = Fields::of(bytes)?;
    let week = fields.number()?;
    let keys = fields.list(|fields| Ok((fields.array()?, read_used(fields.bytes()?)?)))?;
    fields.end()?;
    Ok((week, keys))
}

pub fn read_used(bytes: &[u8]) -> Read<Used> {
    let mut fields = Fields::of(bytes)?;
    let used = match fields.byte()? {
        MESSAGES => Used::Messages {
            chat: ChatId(fields.id()?),
            first: fields.number()?,
            count: fields.count()?,
        },
        CHAT => Used::Chat(ChatId(fields.id()?)),
        INVITE => Used::Invite(fields.text()?),
        SCHEDULED => Used::Scheduled(ScheduledId(fields.id()?)),
        _ => return Err(Corrupt("an unknown use of a key")),
    };
    fields.end()?;
    Ok(used)
}
