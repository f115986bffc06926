//! What must be true, whatever happens: which event was committed when, what each device wrote and was told
//! of it, whom a chat is for, and what a message may say. It knows nothing of how messages travel.
//!
//! What a chat must look like in the end is in [`view`](super::view).

mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tertulia_client::Seen;
use tertulia_services::chats::{Event, SendKey};
use tertulia_services::ids::{ChatId, UserId};
use tokio::time::Instant;

use super::node::CALL_TIMEOUT;
use crate::checker::{History, Key, Outcome, Row, Send};
use log::Log;
pub use log::Wrong;

/// It.
#[derive(Default)]
pub struct Model {
    /// Guards all of it.
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    /// What was committed, by epoch and chat.
    logs: BTreeMap<(String, i64), Log>,
    /// The epochs that were true and are so no longer, each with its end.
    over: Vec<(String, Instant)>,
    /// What was written on devices, in its order.
    written: Vec<Written>,
    /// What devices were told of it.
    told: BTreeMap<Key, Outcome>,
    /// What devices have struck from their outboxes, because it is safe.
    struck: BTreeSet<Key>,
    /// What was acknowledged and then lost with what was done after a backup.
    taken_back: BTreeSet<Key>,
}

struct Written {
    key: Key,
    chat: i64,
    text: String,
}

impl Model {
    /// An event is on disk.
    pub fn committed(&self, epoch: &str, event: &Event) {
        let mut facts = self.facts.lock();
        let log = facts.logs.entry((epoch.to_owned(), event.chat.0));
        log.or_default().push(event);
    }

    /// A backup took back what was committed since; history goes on from `log` as another one.
    pub fn restored(
        &self,
        (before, epoch): (String, &str),
        log: &[Arc<Event>],
        lost: impl Iterator<Item = SendKey>,
    ) {
        let mut facts = self.facts.lock();
        facts.taken_back.extend(lost.map(|key| named(&key)));
        facts.over.push((before, Instant::now()));
        drop(facts);
        for event in log {
            self.committed(epoch, event);
        }
    }

    /// A device has written a message down.
    pub fn written(&self, key: Key, chat: i64, text: String) {
        let mut facts = self.facts.lock();
        if facts.written.iter().all(|w| w.key != key) {
            facts.written.push(Written { key, chat, text });
        }
    }

    /// A device was told what became of its message.
    pub fn told(&self, key: Key, outcome: Outcome) {
        self.facts.lock().told.insert(key, outcome);
    }

    /// A device has struck a message from its outbox: it was told that it is safe.
    pub fn struck(&self, key: Key) {
        self.facts.lock().struck.insert(key);
    }

    /// When this event was committed: in the history that its viewer believes in, in the one that is true `now`,
    /// or in one between them that a call may have asked. An answer to a call does not say which it is of, and may
    /// come before the viewer is told of another one.
    ///
    /// # Errors
    /// How it is wrong that the viewer sees it.
    pub fn committed_at(&self, seen: &Seen, viewer: UserId, now: &str) -> Result<Instant, Wrong> {
        let facts = self.facts.lock();
        let believed = seen.epoch.as_str();
        let committed_in = |epoch: &str| {
            let log = facts.logs.get(&(epoch.to_owned(), seen.chat));
            log.ok_or(Wrong::NotSo)?.committed_at(seen, viewer)
        };
        let told_already = facts.over.iter().position(|(epoch, _)| epoch == believed);
        let since_then = &facts.over[told_already.map_or(0, |at| at + 1)..];
        let lately = since_then
            .iter()
            .filter(|(_, end)| believed != now && end.elapsed() < CALL_TIMEOUT);
        let others = lately.map(|(epoch, _)| epoch.as_str()).chain([now]);
        others.fold(committed_in(believed), |found, epoch| {
            found.or_else(|wrong| committed_in(epoch).map_err(|_| wrong))
        })
    }

    /// Everybody who has ever been in a group.
    pub fn ever_in(&self, epoch: &str, chat: ChatId) -> Vec<UserId> {
        let facts = self.facts.lock();
        let log = facts.logs.get(&(epoch.to_owned(), chat.0));
        log.map_or_else(Vec::new, Log::ever_in)
    }

    /// Everything that was sent, to be judged, when the store ends up with these logs. Messages are counted
    /// without the other events between them, and say what was sent first.
    pub fn history(&self, epoch: &str, logs: &BTreeMap<i64, Vec<Arc<Event>>>) -> History {
        let facts = self.facts.lock();
        let rows = logs.iter().map(|(chat, events)| {
            let log = facts.logs.get(&(epoch.to_owned(), *chat));
            let rows = events.iter().filter_map(|event| row(log, event));
            (*chat, rows.collect::<Vec<Row>>())
        });
        let rows: BTreeMap<i64, Vec<Row>> = rows.collect();
        let number_of = |written: &Written| {
            let of_chat = rows.get(&written.chat).into_iter().flatten();
            let mut found = of_chat.filter(|row| row.key == written.key);
            found.next().map(|row| row.seq)
        };
        let number_at = |written: &Written, seq: i64| {
            let of_chat = logs.get(&written.chat).into_iter().flatten();
            let mut found = of_chat.filter(|event| event.seq == seq && event.message().is_some());
            found.next().map(|event| event.messages)
        };
        // A number that no message has when it is not there.
        let acked = |number: Option<i64>| Outcome::Acked(number.unwrap_or(0));
        let sends = facts.written.iter().map(|written| Send {
            key: written.key.clone(),
            chat: written.chat,
            text: written.text.clone(),
            outcome: match facts.told.get(&written.key) {
                _ if facts.taken_back.contains(&written.key) => Outcome::Unknown,
                Some(Outcome::Acked(seq)) => acked(number_at(written, *seq)),
                // Who is in a chat no longer is refused there, whatever became of an earlier try.
                Some(Outcome::Refused) if facts.somebody_has_left(written.chat) => Outcome::Unknown,
                Some(outcome) => *outcome,
                None if facts.struck.contains(&written.key)
                    && !facts.somebody_has_left(written.chat) =>
                {
                    acked(number_of(written))
                }
                None => Outcome::Unknown,
            },
        });
        History {
            sends: sends.collect(),
            logs: rows,
            ..History::default()
        }
    }
}

impl Facts {
    fn somebody_has_left(&self, chat: i64) -> bool {
        let mut logs = self.logs.iter().filter(|((_, of), _)| *of == chat);
        logs.any(|(_, log)| log.somebody_has_left())
    }
}

/// How a key is written by the checker.
pub fn named(key: &SendKey) -> Key {
    (key.device.clone(), key.client_message_id.clone())
}

/// A message as it was sent; none for other events.
fn row(log: Option<&Log>, event: &Event) -> Option<Row> {
    let message = event.message()?;
    let first = log.and_then(|log| log.first_text(event.seq));
    Some(Row {
        seq: event.messages,
        key: named(&message.key),
        text: first.unwrap_or(&message.text).to_owned(),
    })
}
