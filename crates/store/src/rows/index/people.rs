//! Who may be where: direct chats by their pairs, bans, invites.

use tertulia_kit::error::Result;
use tertulia_services::chats::{Invite, Pair};
use tertulia_services::ids::{ChatId, UserId};

use super::*;

/// The direct chat of two.
pub fn direct(look: &impl Look, pair: Pair) -> Result<Option<ChatId>> {
    let row = pair_key(pair);
    let there = look.find(&row)?;
    there
        .map(|bytes| codec::read_value(&bytes).map(ChatId).map_err(corrupt))
        .transpose()
}

pub fn put_direct(changes: &mut Changes, pair: Pair, chat: ChatId) {
    let chat = value(|out| codec::write_value(out, chat.0));
    changes.insert(pair_key(pair), chat);
}

fn pair_key(pair: Pair) -> Vec<u8> {
    key(PAIR, pair.users().map(|user| user.0))
}

/// Whether somebody is kept out of a chat.
pub fn banned(look: &impl Look, chat: ChatId, user: UserId) -> Result<bool> {
    look.has(&key(BAN, [chat.0, user.0]))
}

/// Who is kept out, by id, after somebody.
pub fn banned_after(
    look: &impl Look,
    chat: ChatId,
    after: UserId,
    max: usize,
) -> Result<Vec<UserId>> {
    let span = Span::after(key(BAN, [chat.0]), after.0);
    let users = last_numbers::<2>(look, &span, max)?;
    Ok(users.into_iter().map(UserId).collect())
}

pub fn put_ban(changes: &mut Changes, chat: ChatId, user: UserId, on: bool) {
    set(changes, key(BAN, [chat.0, user.0]), on);
}

pub fn invite(look: &impl Look, code: &str) -> Result<Option<Invite>> {
    let row = key_with_text(INVITE, [], code);
    let there = look.find(&row)?;
    there
        .map(|bytes| codec::read_invite(&bytes, code).map_err(corrupt))
        .transpose()
}

/// All invites of a chat.
pub fn invites_of(look: &impl Look, chat: ChatId) -> Result<Vec<Invite>> {
    let mut codes = Vec::new();
    look.walk(&Span::of(key(INVITE_OF, [chat.0])), &mut |key, _| {
        let ([_], code) = numbers(key)?;
        codes.push(text(code)?.to_owned());
        Ok(go_on(true))
    })?;
    let invite = |code: &String| {
        let invite = invite(look, code)?;
        invite.ok_or_else(|| corrupt(Corrupt("a chat's invite that is not there")))
    };
    codes.iter().map(invite).collect()
}

pub fn put_invite(changes: &mut Changes, invite: &Invite) {
    let row = value(|out| codec::write_invite(out, invite));
    changes.insert(key_with_text(INVITE, [], &invite.code), row);
    set(
        changes,
        key_with_text(INVITE_OF, [invite.chat.0], &invite.code),
        true,
    );
}

pub fn drop_invite(changes: &mut Changes, chat: ChatId, code: &str) {
    set(changes, key_with_text(INVITE, [], code), false);
    set(changes, key_with_text(INVITE_OF, [chat.0], code), false);
}
