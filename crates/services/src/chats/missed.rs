//! What a device is told that was away, and what a heartbeat tells one that is here.
//!
//! The position is read before anything that it shall cover: what is committed in between is told twice,
//! which a client sees by the seq, and nothing is told never.

use std::sync::Arc;

use tertulia_kit::error::Result;

use super::cursor::Cursor;
use super::model::{Chat, Epoch, Event, EventBody, Position, Seq, UserEvent};
use super::newest_first;
use super::ports::{ChatStore, Moved};
use crate::errors;
use crate::ids::{ChatId, UserId};

/// How many events are told one by one; when more were missed, only what moved is told.
const DELTA_EVENTS_MAX: usize = 1_000;
/// How many bytes of text are told one by one.
const DELTA_TEXT_BYTES_MAX: usize = 2 << 20;
/// How many chats a device gets that begins anew.
const RESET_CHATS_MAX: usize = 50;

/// What was missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// For the device to keep, in the same transaction as the answer.
    pub cursor: Vec<u8>,
    /// What the answer is true for, for the next heartbeat.
    pub position: Position,
    /// How far the answer reaches in each chat that is in it.
    pub heads: Vec<(ChatId, Seq)>,
    /// How far it reaches in the user's own log.
    pub own_head: Seq,
    /// It.
    pub answer: Answer,
}

/// The three ways to say what was missed; never a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Everything, event by event.
    Delta {
        /// Of the user's own log, oldest first.
        own_events: Vec<Arc<UserEvent>>,
        /// Of chats; of one chat oldest first.
        events: Vec<Arc<Event>>,
    },
    /// Too much to list: which chats moved, and how far.
    Changed {
        /// Each with its head and last event.
        chats: Vec<Chat>,
    },
    /// The cursor can not be continued.
    Reset {
        /// Why.
        reason: ResetReason,
        /// The most recent chats.
        chats: Vec<Chat>,
        /// There are chats beyond these.
        more: bool,
        /// The history that begins here for the device.
        epoch: Epoch,
    },
}

/// Why a cursor can not be continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// There was none.
    First,
    /// It is of another history, or of a tail that this history lost.
    Epoch,
    /// It is of another user or of no form that is known.
    UnknownCursor,
}

/// What a heartbeat tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Where the logs end that moved.
    pub heads: Vec<(ChatId, Seq)>,
    /// Where the user's own log ends.
    pub own_head: Seq,
    /// For the next heartbeat.
    pub position: Position,
    /// Covers everything up to these heads.
    pub cursor: Vec<u8>,
}

pub async fn missed(store: &dyn ChatStore, user: UserId, cursor: &[u8]) -> Result<Missed> {
    if cursor.is_empty() {
        return reset(store, user, ResetReason::First).await;
    }
    let Some(cursor) = Cursor::decode(cursor).filter(|cursor| cursor.user == user) else {
        return reset(store, user, ResetReason::UnknownCursor).await;
    };
    if cursor.epoch != store.epoch() {
        return reset(store, user, ResetReason::Epoch).await;
    }
    match store.moved_since(user, cursor.position).await? {
        Some(moved) if moved.own_head >= cursor.own_seq => {
            moved_on(store, user, cursor, moved).await
        }
        _ => reset(store, user, ResetReason::Epoch).await,
    }
}

pub async fn beat(store: &dyn ChatStore, user: UserId, since: Position) -> Result<Beat> {
    let moved = store.moved_since(user, since).await?;
    let moved = moved.ok_or_else(|| errors::internal("a session is ahead of the store"))?;
    Ok(Beat {
        heads: heads(&moved.chats),
        own_head: moved.own_head,
        position: moved.position,
        cursor: cursor(store, user, moved.position, moved.own_head),
    })
}

async fn moved_on(
    store: &dyn ChatStore,
    user: UserId,
    from: Cursor,
    moved: Moved,
) -> Result<Missed> {
    let (heads, position) = (heads(&moved.chats), moved.position);
    let (own_head, answer) = match delta(store, user, from, &moved).await? {
        Some((own_events, events)) => {
            let own_head = own_events.last().map_or(from.own_seq, |event| event.seq);
            (own_head, Answer::Delta { own_events, events })
        }
        None => (moved.own_head, Answer::Changed { chats: moved.chats }),
    };
    let cursor = cursor(store, user, position, own_head);
    Ok(Missed {
        cursor,
        position,
        heads,
        own_head,
        answer,
    })
}

type Delta = (Vec<Arc<UserEvent>>, Vec<Arc<Event>>);

/// All events since a cursor; none when they are too many.
async fn delta(
    store: &dyn ChatStore,
    user: UserId,
    from: Cursor,
    moved: &Moved,
) -> Result<Option<Delta>> {
    let own_missed = usize::try_from(moved.own_head - from.own_seq).unwrap_or(usize::MAX);
    if own_missed > DELTA_EVENTS_MAX {
        return Ok(None);
    }
    let own_events = match own_missed {
        0 => Vec::new(),
        missed => {
            store
                .user_events_after(user, from.own_seq, missed)
                .await?
                .events
        }
    };
    let room = DELTA_EVENTS_MAX - own_missed;
    let events = store
        .events_since(&moved.chats, from.position, room)
        .await?;
    Ok(events
        .filter(|events| text_bytes(events) <= DELTA_TEXT_BYTES_MAX)
        .map(|e| (own_events, e)))
}

async fn reset(store: &dyn ChatStore, user: UserId, reason: ResetReason) -> Result<Missed> {
    let now = store.position().await?;
    let moved = store.moved_since(user, now).await?;
    let moved = moved.ok_or_else(|| errors::internal("the position of the store went back"))?;
    let mut chats = store.chats_of(user).await?;
    let more = newest_first(&mut chats, RESET_CHATS_MAX);
    Ok(Missed {
        cursor: cursor(store, user, moved.position, moved.own_head),
        position: moved.position,
        heads: heads(&chats),
        own_head: moved.own_head,
        answer: Answer::Reset {
            reason,
            chats,
            more,
            epoch: store.epoch(),
        },
    })
}

fn cursor(store: &dyn ChatStore, user: UserId, position: Position, own_seq: Seq) -> Vec<u8> {
    Cursor {
        epoch: store.epoch(),
        user,
        position,
        own_seq,
    }
    .encode()
}

fn heads(chats: &[Chat]) -> Vec<(ChatId, Seq)> {
    chats.iter().map(|chat| (chat.id, chat.head)).collect()
}

fn text_bytes(events: &[Arc<Event>]) -> usize {
    let bytes = |event: &Arc<Event>| match &event.body {
        EventBody::Message(message) => message.text.len(),
    };
    events.iter().map(bytes).sum()
}
