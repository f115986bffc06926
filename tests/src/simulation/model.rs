//! What must be true, whatever happens: which event was committed when, what each device wrote and was told
//! of it, and what a member's screen must then show. It knows nothing of how messages travel.
//!
//! [`row`] and [`shown_row`] are the two ways to one [`Row`]: from the store's event and from the client's. A
//! new kind of event that changes what is seen gets its fold in [`view_of`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tertulia_client::Seen;
use tertulia_client::proto::chats::{self as wire, event::Body};
use tertulia_services::chats::{Event, SendKey};
use tokio::time::Instant;

use crate::checker::{History, Key, Outcome, Row, Send};

/// It.
#[derive(Default)]
pub struct Model {
    /// Guards all of it.
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    /// What was committed, by epoch and chat, in the order of the log.
    logs: BTreeMap<(String, i64), Vec<Committed>>,
    /// What was written on devices, in its order.
    written: Vec<Written>,
    /// What devices were told of it.
    told: BTreeMap<Key, Outcome>,
    /// What devices have struck from their outboxes, because it is safe.
    struck: BTreeSet<Key>,
    /// What was acknowledged and then lost with what was done after a backup.
    taken_back: BTreeSet<Key>,
}

#[derive(Clone)]
struct Committed {
    at: Instant,
    row: Row,
}

struct Written {
    key: Key,
    chat: i64,
    text: String,
}

/// The state of a chat as its members must see it.
pub type View = Vec<Row>;

impl Model {
    /// An event is on disk.
    pub fn committed(&self, epoch: &str, event: &Event) {
        let mut facts = self.facts.lock();
        let log = facts.logs.entry((epoch.to_owned(), event.chat.0));
        log.or_default().push(Committed {
            at: Instant::now(),
            row: row(event),
        });
    }

    /// A backup took back what was committed since; history goes on from `log` as another one.
    pub fn restored(&self, epoch: &str, log: &[Arc<Event>], lost: impl Iterator<Item = SendKey>) {
        let mut facts = self.facts.lock();
        let lost = lost.map(|key| (key.device, key.client_message_id));
        facts.taken_back.extend(lost);
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

    /// When this event was committed; none when it was not, or says something else.
    pub fn committed_at(&self, seen: &Seen) -> Option<Instant> {
        let facts = self.facts.lock();
        let log = facts.logs.get(&(seen.epoch.clone(), seen.chat))?;
        let found = log.get(usize::try_from(seen.seq - 1).ok()?)?;
        let same = (&found.row.text, &found.row.key.1) == (&seen.text, &seen.client_message_id);
        same.then_some(found.at)
    }

    /// Everything, to be judged, when the store ends up with these logs.
    pub fn history(
        &self,
        logs: BTreeMap<i64, View>,
        views: BTreeMap<(String, i64), View>,
    ) -> History {
        let facts = self.facts.lock();
        let sends = facts.written.iter().map(|written| Send {
            key: written.key.clone(),
            chat: written.chat,
            text: written.text.clone(),
            outcome: match facts.told.get(&written.key) {
                _ if facts.taken_back.contains(&written.key) => Outcome::Unknown,
                Some(outcome) => *outcome,
                None if facts.struck.contains(&written.key) => {
                    let log = logs.get(&written.chat).into_iter().flatten();
                    let mut found = log.filter(|row| row.key == written.key);
                    // Safe, it was told; a seq that no log has when it is not there.
                    Outcome::Acked(found.next().map_or(0, |row| row.seq))
                }
                None => Outcome::Unknown,
            },
        });
        let sends = sends.collect();
        History { sends, views, logs }
    }
}

/// What a member sees of a log.
pub fn view_of(rows: impl IntoIterator<Item = Row>) -> View {
    rows.into_iter().collect()
}

/// An event as the store has it.
pub fn row(event: &Event) -> Row {
    let (key, text) = match event.message() {
        Some(m) => (
            (m.key.device.clone(), m.key.client_message_id.clone()),
            m.text.clone(),
        ),
        None => Default::default(),
    };
    Row {
        seq: event.seq,
        key,
        text,
    }
}

/// An event as a client has it.
pub fn shown_row(event: &wire::Event) -> Row {
    let (key, text) = match &event.body {
        Some(Body::Message(m)) => (
            (m.device_id.clone(), m.client_message_id.clone()),
            m.text.clone(),
        ),
        _ => Default::default(),
    };
    Row {
        seq: event.seq,
        key,
        text,
    }
}
