//! What readers are told, out of the rows of one commit.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tertulia_kit::error::Result;
use tertulia_services::chats::{Changes, Chat, Event, Page, Scheduled, Seq};
use tertulia_services::ids::{ChatId, UserId};

use super::codec::Corrupt;
use super::corrupt;
use super::index::{self, Look};
use super::view::{Rows, Seen};

/// Changed messages of one commit: a message that is changed again meanwhile stays where it stood in the
/// order of changes, and is found there as it was. Messages that one event has changed are told together,
/// because `through` can not stand between them.
pub fn changes(
    rows: &mut Seen<impl Rows>,
    chat: ChatId,
    part: &RangeInclusive<Seq>,
    after: Seq,
    limit: usize,
) -> Result<Changes> {
    let Some(Chat { head, .. }) = rows.0.chat(chat)? else {
        return Ok(Changes::default());
    };
    let limit = limit.max(1);
    let mut found: Vec<index::Change> = Vec::new();
    let mut more = false;
    index::changes_after(&rows.0.index(), chat, after, &mut |change| {
        if !part.contains(&change.message) {
            return Ok(true);
        }
        let is_with_last = found.last().is_some_and(|last| last.now == change.now);
        if found.len() >= limit && !is_with_last {
            more = true;
            return Ok(false);
        }
        found.push(change);
        Ok(true)
    })?;
    let through = match found.last() {
        Some(last) if more => last.now,
        _ => head,
    };
    let events = found
        .iter()
        .map(|change| known_event(rows, chat, change.message));
    Ok(Changes {
        events: events.collect::<Result<_>>()?,
        through,
        more,
    })
}

/// The messages of a thread after a seq.
pub fn thread(
    rows: &mut Seen<impl Rows>,
    chat: ChatId,
    root: Seq,
    after: Seq,
    limit: usize,
) -> Result<Page<Event>> {
    let Some(Chat { head, .. }) = rows.0.chat(chat)? else {
        return Ok(Page::default());
    };
    let seqs = index::replies_after(&rows.0.index(), chat, root, after, limit)?;
    let events = seqs.into_iter().map(|seq| known_event(rows, chat, seq));
    Ok(Page {
        events: events.collect::<Result<_>>()?,
        head,
    })
}

/// The messages that a user has scheduled.
pub fn scheduled(look: &impl Look, user: UserId) -> Result<Vec<Scheduled>> {
    let mut all = Vec::new();
    for id in index::scheduled_of(look, user)? {
        let scheduled = index::scheduled(look, id)?;
        all.push(scheduled.ok_or_else(|| corrupt(Corrupt("a scheduled message is gone")))?);
    }
    Ok(all)
}

fn known_event(rows: &mut Seen<impl Rows>, chat: ChatId, seq: Seq) -> Result<Arc<Event>> {
    let event = rows.0.event(chat, seq)?;
    event.ok_or_else(|| corrupt(Corrupt("an index of no event")))
}

/// The first and the last seq of at most `limit` events after a seq; the first is beyond the last when there
/// are none.
pub fn span_after(head: Seq, after: Seq, limit: usize) -> (Seq, Seq) {
    let after = after.clamp(0, head);
    let limit = Seq::try_from(limit).unwrap_or(Seq::MAX);
    (after + 1, head.min(after.saturating_add(limit)))
}

/// The same for those before a seq; 0 is beyond the last.
pub fn span_before(head: Seq, before: Seq, limit: usize) -> (Seq, Seq) {
    let to = match before {
        ..=0 => head,
        before => head.min(before - 1),
    };
    let limit = Seq::try_from(limit).unwrap_or(Seq::MAX);
    (to.saturating_sub(limit).max(0) + 1, to)
}

pub fn rows(from: Seq, to: Seq) -> usize {
    usize::try_from(to - from + 1).unwrap_or(0)
}
