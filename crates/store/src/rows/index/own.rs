//! What belongs to one user: chats, mentions, messages hidden and reacted to, messages to be sent later.

use tertulia_kit::error::Result;
use tertulia_services::chats::{ListPlace, Mine, Scheduled, Seq};
use tertulia_services::ids::{ChatId, ScheduledId, UserId};

use super::*;

/// The chats that a user is in, and whether each is a direct one.
pub fn chats_of(look: &impl Look, user: UserId) -> Result<Vec<(ChatId, bool)>> {
    let mut chats = Vec::new();
    look.walk(&Span::of(key(CHAT_OF, [user.0])), &mut |key, value| {
        let ([_, chat], _) = numbers(key)?;
        let is_direct = codec::read_value(value).map_err(corrupt)? != 0;
        chats.push((ChatId(chat), is_direct));
        Ok(go_on(true))
    })?;
    Ok(chats)
}

/// A user is in a chat from now on.
pub fn put_chat_of(changes: &mut Changes, user: UserId, chat: ChatId, is_direct: bool) {
    let is_direct = value(|out| codec::write_value(out, is_direct.into()));
    changes.insert(key(CHAT_OF, [user.0, chat.0]), is_direct);
}

pub fn drop_chat_of(changes: &mut Changes, user: UserId, chat: ChatId) {
    set(changes, key(CHAT_OF, [user.0, chat.0]), false);
}

/// Where the chats of a user stand, in a part of the list, the highest first.
pub fn listed(
    look: &impl Look,
    user: UserId,
    places: &Range<ListPlace>,
    max: usize,
) -> Result<Vec<ListPlace>> {
    let mut found = Vec::new();
    if max == 0 {
        return Ok(found);
    }
    let first = listed_key(user, places.end);
    let last = listed_key(user, places.start);
    look.walk(&Span::behind(&first, &last), &mut |key, _| {
        let ([_, hour, chat], _) = numbers(key)?;
        found.push(ListPlace {
            hour: !hour,
            chat: ChatId(!chat),
        });
        Ok(go_on(found.len() < max))
    })?;
    Ok(found)
}

pub fn put_listed(changes: &mut Changes, user: UserId, place: ListPlace, on: bool) {
    set(changes, listed_key(user, place), on);
}

pub fn is_listed(look: &impl Look, user: UserId, place: ListPlace) -> Result<bool> {
    look.has(&listed_key(user, place))
}

/// Keys rise where places fall.
fn listed_key(user: UserId, place: ListPlace) -> Vec<u8> {
    key(LISTED, [user.0, !place.hour, !place.chat.0])
}

/// The messages of a chat after a seq that mention a user by name.
pub fn mentions_after(
    look: &impl Look,
    user: UserId,
    chat: ChatId,
    after: Seq,
    max: usize,
) -> Result<Vec<Seq>> {
    let span = Span::after(key(MENTION, [user.0, chat.0]), after);
    last_numbers::<3>(look, &span, max)
}

pub fn put_mention(changes: &mut Changes, user: UserId, chat: ChatId, message: Seq, on: bool) {
    set(changes, key(MENTION, [user.0, chat.0, message]), on);
}

/// Whether a user has deleted a message for themselves.
pub fn hidden(look: &impl Look, user: UserId, chat: ChatId, message: Seq) -> Result<bool> {
    look.has(&key(MINE, [user.0, chat.0, message]))
}

pub fn put_hidden(changes: &mut Changes, user: UserId, chat: ChatId, message: Seq) {
    set(changes, key(MINE, [user.0, chat.0, message]), true);
}

/// Which messages, in ascending order, a user has reacted to or deleted for themselves.
pub fn mine(look: &impl Look, user: UserId, chat: ChatId, messages: &[Seq]) -> Result<Mine> {
    let mut mine = Mine::default();
    for part in close_together(messages) {
        let (Some(first), Some(last)) = (part.first(), part.last()) else {
            continue;
        };
        let span = Span::between(key(MINE, [user.0, chat.0]), *first, *last);
        look.walk(&span, &mut |key, _| {
            let ([_, _, message], emoji) = numbers(key)?;
            match part.binary_search(&message) {
                Ok(_) if emoji.is_empty() => mine.hidden.push(message),
                Ok(_) => mine.reactions.push((message, text(emoji)?.to_owned())),
                Err(_) => {}
            }
            Ok(go_on(true))
        })?;
    }
    Ok(mine)
}

/// Parts in which one walk over all rows costs no more than one for each message.
fn close_together(messages: &[Seq]) -> impl Iterator<Item = &[Seq]> {
    /// How many rows a walk may pass by on its way to the next.
    const GAP_MAX: Seq = 64;
    messages.chunk_by(|a, b| b.saturating_sub(*a) <= GAP_MAX)
}

pub fn scheduled(look: &impl Look, id: ScheduledId) -> Result<Option<Scheduled>> {
    let row = key(SCHEDULED, [id.0]);
    let there = look.find(&row)?;
    there
        .map(|bytes| codec::read_scheduled(&bytes, id).map_err(corrupt))
        .transpose()
}

/// The messages that a user has scheduled.
pub fn scheduled_of(look: &impl Look, user: UserId) -> Result<Vec<ScheduledId>> {
    let span = Span::of(key(SCHEDULED_OF, [user.0]));
    let ids = last_numbers::<2>(look, &span, usize::MAX)?;
    Ok(ids.into_iter().map(ScheduledId).collect())
}

/// The messages that are to be sent from one time to another, those that have waited longest first, each with
/// its time.
pub fn scheduled_between(
    look: &impl Look,
    (from_ms, to_ms): (i64, i64),
    max: usize,
) -> Result<Vec<(i64, ScheduledId)>> {
    let mut found = Vec::new();
    if max == 0 {
        return Ok(found);
    }
    let span = Span::between(key(SCHEDULED_AT, []), from_ms, to_ms);
    look.walk(&span, &mut |key, _| {
        let ([at_ms, id], _) = numbers(key)?;
        found.push((at_ms, ScheduledId(id)));
        Ok(go_on(found.len() < max))
    })?;
    Ok(found)
}

pub fn put_scheduled(changes: &mut Changes, scheduled: &Scheduled) {
    let row = value(|out| codec::write_scheduled(out, scheduled));
    changes.insert(key(SCHEDULED, [scheduled.id.0]), row);
    set(changes, scheduled_of_key(scheduled), true);
    set(changes, scheduled_at_key(scheduled), true);
}

pub fn drop_scheduled(changes: &mut Changes, scheduled: &Scheduled) {
    set(changes, key(SCHEDULED, [scheduled.id.0]), false);
    set(changes, scheduled_of_key(scheduled), false);
    set(changes, scheduled_at_key(scheduled), false);
}

fn scheduled_of_key(scheduled: &Scheduled) -> Vec<u8> {
    key(SCHEDULED_OF, [scheduled.user.0, scheduled.id.0])
}

fn scheduled_at_key(scheduled: &Scheduled) -> Vec<u8> {
    key(SCHEDULED_AT, [scheduled.send_at_ms, scheduled.id.0])
}

// What a check of the whole store asks.

/// Whether a chat is in a user's list, and if so, whether as a direct one.
pub fn chat_of(look: &impl Look, user: UserId, chat: ChatId) -> Result<Option<bool>> {
    let row = key(CHAT_OF, [user.0, chat.0]);
    let there = look.find(&row)?;
    there
        .map(|bytes| codec::read_value(&bytes).map_err(corrupt))
        .transpose()
        .map(|is_direct| is_direct.map(|is_direct| is_direct != 0))
}

pub fn mentioned(look: &impl Look, user: UserId, chat: ChatId, message: Seq) -> Result<bool> {
    look.has(&key(MENTION, [user.0, chat.0, message]))
}

/// How many messages of a chat a user has deleted for themselves.
pub fn hidden_count(look: &impl Look, user: UserId, chat: ChatId) -> Result<u64> {
    let mut count = 0;
    look.walk(&Span::of(key(MINE, [user.0, chat.0])), &mut |key, _| {
        let ([_, _, _], emoji) = numbers(key)?;
        count += u64::from(emoji.is_empty());
        Ok(go_on(true))
    })?;
    Ok(count)
}
