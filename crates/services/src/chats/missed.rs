//! What a device is told that was away, and what a heartbeat tells one that is here.
//!
//! The position is read before anything that it shall cover: what is committed in between is told twice,
//! which a client sees by the seq, and nothing is told never.

use std::sync::Arc;

use tertulia_kit::error::Result;

use super::command::Limits;
use super::cursor::Cursor;
use super::decide;
use super::list;
use super::model::{Chat, Epoch, Event, Position, Receipt, Seq, Standing, UserEvent};
use super::ports::{ChatStore, Moved};
use super::shown::{self, Shown};
use crate::errors;
use crate::ids::{ChatId, UserId};

/// How many bytes of text are told one by one.
const DELTA_TEXT_BYTES_MAX: usize = 2 << 20;
/// How many members are read at once.
const MEMBERS_AT_ONCE: usize = 500;
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
    /// The receipts of the small chats in which some have moved.
    pub receipts: Vec<ChatReceipts>,
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
        events: Vec<Shown>,
    },
    /// Too much to list: which chats moved, and how far.
    Changed {
        /// Each as the user sees it.
        chats: Vec<Standing>,
    },
    /// The cursor can not be continued.
    Reset {
        /// Why.
        reason: ResetReason,
        /// The most recent chats.
        chats: Vec<Standing>,
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

/// The receipts of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatReceipts {
    /// Which.
    pub chat: ChatId,
    /// Of each member.
    pub receipts: Vec<Receipt>,
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
    /// The receipts of the small chats in which some have moved.
    pub receipts: Vec<ChatReceipts>,
}

/// What a user missed since a cursor.
pub async fn missed(
    store: &dyn ChatStore,
    user: UserId,
    cursor: &[u8],
    limits: Limits,
) -> Result<Missed> {
    let small_max = limits.receipts_members_max;
    if cursor.is_empty() {
        return reset(store, user, ResetReason::First, small_max).await;
    }
    let Some(cursor) = Cursor::decode(cursor).filter(|cursor| cursor.user == user) else {
        return reset(store, user, ResetReason::UnknownCursor, small_max).await;
    };
    if cursor.epoch != store.epoch() {
        return reset(store, user, ResetReason::Epoch, small_max).await;
    }
    match store.moved_since(user, cursor.position).await? {
        Some(moved) if moved.own_head >= cursor.own_seq => {
            moved_on(store, user, cursor, moved, limits).await
        }
        _ => reset(store, user, ResetReason::Epoch, small_max).await,
    }
}

/// What moved for a user since a position.
pub async fn beat(
    store: &dyn ChatStore,
    user: UserId,
    since: Position,
    small_max: u32,
) -> Result<Beat> {
    let moved = store.moved_since(user, since).await?;
    let moved = moved.ok_or_else(|| errors::internal("a session is ahead of the store"))?;
    Ok(Beat {
        receipts: all_receipts(store, &moved.receipts, small_max).await?,
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
    limits: Limits,
) -> Result<Missed> {
    let (heads, position) = (heads(&moved.chats), moved.position);
    let small_max = limits.receipts_members_max;
    let receipts = all_receipts(store, &moved.receipts, small_max).await?;
    let most = limits.delta_events_max as usize;
    let (own_head, answer) = match delta(store, user, from, &moved, most).await? {
        Some((own_events, events)) => {
            let own_head = own_events.last().map_or(from.own_seq, |event| event.seq);
            (own_head, Answer::Delta { own_events, events })
        }
        None => {
            let chats = standings(store, user, &moved.chats).await?;
            (moved.own_head, Answer::Changed { chats })
        }
    };
    let cursor = cursor(store, user, position, own_head);
    Ok(Missed {
        cursor,
        position,
        heads,
        own_head,
        receipts,
        answer,
    })
}

type Delta = (Vec<Arc<UserEvent>>, Vec<Shown>);

/// All events since a cursor; none when they are more than `most`.
async fn delta(
    store: &dyn ChatStore,
    user: UserId,
    from: Cursor,
    moved: &Moved,
    most: usize,
) -> Result<Option<Delta>> {
    let own_missed = usize::try_from(moved.own_head - from.own_seq).unwrap_or(usize::MAX);
    if own_missed > most {
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
    let room = most - own_missed;
    let events = store
        .events_since(&moved.chats, from.position, room)
        .await?;
    let Some(events) = events.filter(|events| text_bytes(events) <= DELTA_TEXT_BYTES_MAX) else {
        return Ok(None);
    };
    let mut all = Vec::with_capacity(events.len());
    for of_chat in events.chunk_by(|a, b| a.chat == b.chat) {
        let chat = of_chat[0].chat;
        all.extend(shown::events(store, user, chat, of_chat.to_vec()).await?);
    }
    Ok(Some((own_events, all)))
}

async fn reset(
    store: &dyn ChatStore,
    user: UserId,
    reason: ResetReason,
    small_max: u32,
) -> Result<Missed> {
    let now = store.position().await?;
    let moved = store.moved_since(user, now).await?;
    let moved = moved.ok_or_else(|| errors::internal("the position of the store went back"))?;
    let (chats, next) = list::page(store, user, None, RESET_CHATS_MAX).await?;
    let more = next.is_some();
    let chats = standings(store, user, &chats).await?;
    let small: Vec<ChatId> = chats.iter().map(|standing| standing.chat.id).collect();
    Ok(Missed {
        cursor: cursor(store, user, moved.position, moved.own_head),
        position: moved.position,
        heads: chats.iter().map(|s| (s.chat.id, s.chat.head)).collect(),
        own_head: moved.own_head,
        receipts: all_receipts(store, &small, small_max).await?,
        answer: Answer::Reset {
            reason,
            chats,
            more,
            epoch: store.epoch(),
        },
    })
}

async fn standings(store: &dyn ChatStore, user: UserId, chats: &[Chat]) -> Result<Vec<Standing>> {
    let ids: Vec<ChatId> = chats.iter().map(|chat| chat.id).collect();
    store.standings(user, &ids).await
}

/// How far a chat has reached each of its members.
pub async fn receipts(store: &dyn ChatStore, chat: &Chat) -> Result<Vec<Receipt>> {
    let (mut all, mut after) = (Vec::new(), UserId(i64::MIN));
    loop {
        let members = store.members(chat.id, after, MEMBERS_AT_ONCE).await?;
        let is_last = members.len() < MEMBERS_AT_ONCE;
        for (user, membership) in members {
            all.push(decide::receipt(chat, user, &membership));
            after = user;
        }
        if is_last {
            return Ok(all);
        }
    }
}

/// The receipts of those chats that are small.
async fn all_receipts(
    store: &dyn ChatStore,
    chats: &[ChatId],
    small_max: u32,
) -> Result<Vec<ChatReceipts>> {
    let mut all = Vec::with_capacity(chats.len());
    for chat in chats {
        let chat = store.chat(*chat).await?;
        let small = chat.filter(|chat| chat.is_small(small_max));
        if let Some(chat) = small {
            let receipts = receipts(store, &chat).await?;
            let chat = chat.id;
            all.push(ChatReceipts { chat, receipts });
        }
    }
    Ok(all)
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
    events.iter().map(|event| event.text_bytes()).sum()
}
