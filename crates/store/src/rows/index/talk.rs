//! What belongs to the messages of a chat: reactions, changes, deletions, calls, threads, and when they end.

use tertulia_kit::error::Result;
use tertulia_services::chats::decide::ReactionKey;
use tertulia_services::chats::{Role, Seq};
use tertulia_services::ids::{ChatId, UserId};

use super::*;

/// Stands between an emoji and the user behind it, so that a short one comes before those that it begins.
const END_OF_EMOJI: u8 = 0;

pub fn reacted(look: &impl Look, reaction: &ReactionKey) -> Result<bool> {
    look.has(&reaction_key(reaction))
}

/// Who gave which reaction to a message, by emoji and then by user.
pub fn reactions(
    look: &impl Look,
    chat: ChatId,
    message: Seq,
    max: usize,
) -> Result<Vec<(String, UserId)>> {
    let mut found = Vec::new();
    if max == 0 {
        return Ok(found);
    }
    let span = Span::of(key(REACTION, [chat.0, message]));
    look.walk(&span, &mut |key, _| {
        let ([_, _], rest) = numbers(key)?;
        let (emoji, user) = emoji_and_user(rest)?;
        found.push((emoji.to_owned(), user));
        Ok(go_on(found.len() < max))
    })?;
    Ok(found)
}

/// What stands behind the message in the key of a reaction.
pub fn emoji_and_user(rest: &[u8]) -> Result<(&str, UserId)> {
    let parts = rest.split_last_chunk().and_then(|(rest, user)| {
        let emoji = rest.strip_suffix(&[END_OF_EMOJI])?;
        Some((emoji, UserId(codec::number_of(*user))))
    });
    let (emoji, user) = parts.ok_or_else(|| corrupt(Corrupt("a reaction of nobody")))?;
    Ok((text(emoji)?, user))
}

/// All reactions to a message.
pub fn reactions_to(look: &impl Look, chat: ChatId, message: Seq) -> Result<Vec<ReactionKey>> {
    let all = reactions(look, chat, message, usize::MAX)?;
    let key = |(emoji, user)| ReactionKey {
        chat,
        message,
        emoji,
        user,
    };
    Ok(all.into_iter().map(key).collect())
}

pub fn put_reaction(changes: &mut Changes, reaction: &ReactionKey, on: bool) {
    let ReactionKey {
        chat,
        message,
        emoji,
        user,
    } = reaction;
    set(changes, reaction_key(reaction), on);
    set(
        changes,
        key_with_text(MINE, [user.0, chat.0, *message], emoji),
        on,
    );
}

fn reaction_key(reaction: &ReactionKey) -> Vec<u8> {
    let numbers = [reaction.chat.0, reaction.message];
    let mut key = key_with_text(REACTION, numbers, &reaction.emoji);
    key.push(END_OF_EMOJI);
    key.extend_from_slice(&codec::id_key(reaction.user.0));
    key
}

/// A message that was changed, and by which event last.
pub struct Change {
    pub now: Seq,
    pub message: Seq,
}

/// Visits the changes after a seq in their order until it is told to stop. Several messages may have been
/// changed by one event.
pub fn changes_after(
    look: &impl Look,
    chat: ChatId,
    after: Seq,
    visit: &mut dyn FnMut(Change) -> Result<bool>,
) -> Result<()> {
    let span = Span::after(key(CHANGE, [chat.0]), after);
    look.walk(&span, &mut |key, _| {
        let ([_, now, message], _) = numbers(key)?;
        visit(Change { now, message }).map(go_on)
    })
}

pub fn put_change(changes: &mut Changes, chat: ChatId, was: Option<Seq>, now: Seq, message: Seq) {
    if let Some(was) = was {
        set(changes, key(CHANGE, [chat.0, was, message]), false);
    }
    set(changes, key(CHANGE, [chat.0, now, message]), true);
}

/// How many messages after a seq were deleted.
pub fn deleted_after(look: &impl Look, chat: ChatId, after: Seq) -> Result<i64> {
    let mut count = 0;
    let span = Span::after(key(DELETED, [chat.0]), after);
    look.walk(&span, &mut |_, _| {
        count += 1;
        Ok(go_on(true))
    })?;
    Ok(count)
}

pub fn put_deleted(changes: &mut Changes, chat: ChatId, message: Seq) {
    set(changes, key(DELETED, [chat.0, message]), true);
}

/// The messages after a seq that call a role and all above it, in the order of the log.
pub fn calls_after(
    look: &impl Look,
    chat: ChatId,
    role: Role,
    after: Seq,
    max: usize,
) -> Result<Vec<Seq>> {
    let span = Span::after(key(CALL, [chat.0, codec::role_number(role)]), after);
    last_numbers::<3>(look, &span, max)
}

pub fn put_call(changes: &mut Changes, chat: ChatId, role: Role, message: Seq, on: bool) {
    set(
        changes,
        key(CALL, [chat.0, codec::role_number(role), message]),
        on,
    );
}

/// The messages of a thread after a seq, in the order of the log.
pub fn replies_after(
    look: &impl Look,
    chat: ChatId,
    thread: Seq,
    after: Seq,
    max: usize,
) -> Result<Vec<Seq>> {
    let span = Span::after(key(REPLY, [chat.0, thread]), after);
    last_numbers::<3>(look, &span, max)
}

pub fn put_reply(changes: &mut Changes, chat: ChatId, thread: Seq, message: Seq) {
    set(changes, key(REPLY, [chat.0, thread, message]), true);
}

/// The messages that end from one time to another, those that are over longest first, each with its time.
pub fn expired_between(
    look: &impl Look,
    (from_ms, to_ms): (i64, i64),
    max: usize,
) -> Result<Vec<(i64, (ChatId, Seq))>> {
    let mut found = Vec::new();
    if max == 0 {
        return Ok(found);
    }
    let span = Span::between(key(EXPIRY, []), from_ms, to_ms);
    look.walk(&span, &mut |key, _| {
        let ([at_ms, chat, message], _) = numbers(key)?;
        found.push((at_ms, (ChatId(chat), message)));
        Ok(go_on(found.len() < max))
    })?;
    Ok(found)
}

pub fn put_expiry(changes: &mut Changes, at_ms: i64, chat: ChatId, message: Seq, on: bool) {
    set(changes, key(EXPIRY, [at_ms, chat.0, message]), on);
}

// What a check of the whole store asks.

pub fn changed(look: &impl Look, chat: ChatId, now: Seq, message: Seq) -> Result<bool> {
    look.has(&key(CHANGE, [chat.0, now, message]))
}

pub fn deleted(look: &impl Look, chat: ChatId, message: Seq) -> Result<bool> {
    look.has(&key(DELETED, [chat.0, message]))
}

pub fn called(look: &impl Look, chat: ChatId, role: Role, message: Seq) -> Result<bool> {
    look.has(&key(CALL, [chat.0, codec::role_number(role), message]))
}

pub fn replied(look: &impl Look, chat: ChatId, thread: Seq, message: Seq) -> Result<bool> {
    look.has(&key(REPLY, [chat.0, thread, message]))
}

pub fn expires(look: &impl Look, at_ms: i64, chat: ChatId, message: Seq) -> Result<bool> {
    look.has(&key(EXPIRY, [at_ms, chat.0, message]))
}

/// How many messages a thread has, and the last of them.
pub fn thread_of(look: &impl Look, chat: ChatId, thread: Seq) -> Result<(u32, Seq)> {
    let mut found = (0, 0);
    look.walk(&Span::of(key(REPLY, [chat.0, thread])), &mut |key, _| {
        let ([_, _, message], _) = numbers(key)?;
        found = (found.0 + 1, message);
        Ok(go_on(true))
    })?;
    Ok(found)
}

/// How many have given a reaction.
pub fn reaction_count(look: &impl Look, chat: ChatId, message: Seq, emoji: &str) -> Result<u32> {
    let mut count = 0;
    let mut prefix = key_with_text(REACTION, [chat.0, message], emoji);
    prefix.push(END_OF_EMOJI);
    look.walk(&Span::of(prefix), &mut |_, _| {
        count += 1;
        Ok(go_on(true))
    })?;
    Ok(count)
}
