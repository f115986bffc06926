//! A round as the engine commits it.

use ::fjall::OwnedWriteBatch;
use rustc_hash::FxHashMap;

use super::disk::{Disk, META_FED, META_POSITION};
use crate::rows::codec;
use crate::rows::round::Round;

/// All rows of a round but the send keys, to be committed as one; `row` is where rows are encoded.
pub fn batch(round: &Round, disk: &Disk, row: &mut Vec<u8>) -> OwnedWriteBatch {
    let rows = round.events.len()
        + round.chats.len()
        + round.memberships.len()
        + round.own_events.len()
        + round.own_heads.len()
        + round.index.len()
        + 4;
    let mut batch = disk.batch(rows);
    for ((chat, seq), (position, event)) in by_key(&round.events) {
        codec::write_event(row, *position, event);
        batch.insert(&disk.events, codec::two_key(chat.0, *seq), &row[..]);
    }
    for (id, chat) in by_key(&round.chats) {
        codec::write_chat(row, &chat.chat, chat.moved_at, chat.marked_at);
        batch.insert(&disk.chats, codec::id_key(id.0), &row[..]);
    }
    for ((chat, user), membership) in by_key(&round.memberships) {
        let key = codec::two_key(chat.0, user.0);
        match membership {
            None => batch.remove(&disk.memberships, key),
            Some(membership) => {
                codec::write_membership(row, membership);
                batch.insert(&disk.memberships, key, &row[..]);
            }
        }
    }
    for event in &round.own_events {
        codec::write_user_event(row, event);
        let key = codec::two_key(event.user.0, event.seq);
        batch.insert(&disk.user_events, key, &row[..]);
    }
    for (user, head) in by_key(&round.own_heads) {
        codec::write_value(row, *head);
        batch.insert(&disk.user_heads, codec::id_key(user.0), &row[..]);
    }
    for (key, value) in &round.index {
        match value {
            None => batch.remove(&disk.index, &key[..]),
            Some(value) => batch.insert(&disk.index, &key[..], &value[..]),
        }
    }
    let position = round.position.to_be_bytes();
    batch.insert(&disk.meta, META_POSITION, position);
    if let Some(feed) = &disk.feed {
        batch.insert(&disk.meta, META_FED, position);
        if let Some((at_ms, events)) = round.appended() {
            codec::write_fed(row, at_ms, &events);
            batch.insert(feed, position, &row[..]);
        }
    }
    batch
}

/// Rows in the order of their keys: neighbours find their place in the engine's tables for less.
fn by_key<K: Ord, V>(rows: &FxHashMap<K, V>) -> Vec<(&K, &V)> {
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_unstable_by_key(|(key, _)| *key);
    rows
}
