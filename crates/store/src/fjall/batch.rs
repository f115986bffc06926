//! A round as it is committed.

use rustc_hash::FxHashMap;

use super::disk::{Batch, META_FED, META_POSITION, Table};
use crate::rows::codec;
use crate::rows::round::Round;

/// Puts all rows of a round but the send keys into a batch; `row` is where rows are encoded.
pub fn fill(batch: &mut Batch, round: &Round, is_fed: bool, row: &mut Vec<u8>) {
    for ((chat, seq), (position, event)) in by_key(&round.events) {
        codec::write_event(row, *position, event);
        batch.insert(Table::Events, &codec::two_key(chat.0, *seq), row);
    }
    for (id, chat) in by_key(&round.chats) {
        codec::write_chat(row, &chat.chat, chat.moved_at, chat.marked_at);
        batch.insert(Table::Chats, &codec::id_key(id.0), row);
    }
    for ((chat, user), membership) in by_key(&round.memberships) {
        let key = codec::two_key(chat.0, user.0);
        match membership {
            None => batch.remove(Table::Memberships, &key),
            Some(membership) => {
                codec::write_membership(row, membership);
                batch.insert(Table::Memberships, &key, row);
            }
        }
    }
    for event in &round.own_events {
        codec::write_user_event(row, event);
        let key = codec::two_key(event.user.0, event.seq);
        batch.insert(Table::UserEvents, &key, row);
    }
    for (user, head) in by_key(&round.own_heads) {
        codec::write_value(row, *head);
        batch.insert(Table::UserHeads, &codec::id_key(user.0), row);
    }
    for (key, value) in &round.index {
        match value {
            None => batch.remove(Table::Index, key),
            Some(value) => batch.insert(Table::Index, key, value),
        }
    }
    let position = round.position.to_be_bytes();
    batch.insert(Table::Meta, META_POSITION.as_bytes(), &position);
    if is_fed {
        batch.insert(Table::Meta, META_FED.as_bytes(), &position);
        if let Some((at_ms, events)) = round.appended() {
            codec::write_fed(row, at_ms, &events);
            batch.insert(Table::Feed, &position, row);
        }
    }
}

/// Rows in the order of their keys: neighbours find their place in a table for less.
fn by_key<K: Ord, V>(rows: &FxHashMap<K, V>) -> Vec<(&K, &V)> {
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_unstable_by_key(|(key, _)| *key);
    rows
}
