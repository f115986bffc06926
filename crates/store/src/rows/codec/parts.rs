//! What rows of several kinds have in them.

use tertulia_services::chats::{Mentions, Role, SendKey};

use super::*;

pub(super) fn put_key(out: &mut Vec<u8>, key: &SendKey) {
    put_text(out, &key.device);
    put_text(out, &key.client_message_id);
}

pub(super) fn key(fields: &mut Fields<'_>) -> Read<SendKey> {
    Ok(SendKey {
        device: fields.text()?,
        client_message_id: fields.text()?,
    })
}

pub(super) fn put_mentions(out: &mut Vec<u8>, mentions: &Mentions) {
    put_users(out, &mentions.users);
    out.push(u8::from(mentions.everyone));
    out.push(u8::from(mentions.role.is_some()));
    if let Some(role) = mentions.role {
        put_role(out, role);
    }
}

pub(super) fn mentions(fields: &mut Fields<'_>) -> Read<Mentions> {
    Ok(Mentions {
        users: fields.users()?,
        everyone: fields.flag()?,
        role: fields.flag()?.then(|| role(fields)).transpose()?,
    })
}

pub(super) fn put_role(out: &mut Vec<u8>, role: Role) {
    out.push(role_byte(role));
}

fn role_byte(role: Role) -> u8 {
    match role {
        Role::Reader => 1,
        Role::Member => 2,
        Role::Admin => 3,
        Role::Owner => 4,
    }
}

/// A role in a key.
pub fn role_number(role: Role) -> i64 {
    role_byte(role).into()
}

pub(super) fn role(fields: &mut Fields<'_>) -> Read<Role> {
    match fields.byte()? {
        1 => Ok(Role::Reader),
        2 => Ok(Role::Member),
        3 => Ok(Role::Admin),
        4 => Ok(Role::Owner),
        _ => Err(Corrupt("an unknown role")),
    }
}
