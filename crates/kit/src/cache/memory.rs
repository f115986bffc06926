//! The cache of the nodes within one process.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Away, CHANGE_LASTS, Cache, Change, Found, TICKET_LASTS, Ticket};

/// Values of some age at most.
#[derive(Debug)]
pub struct Memory {
    kept: Duration,
    /// Guards what is known of each key.
    keys: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// And until when it is kept.
    value: Option<(Bytes, Instant)>,
    /// And until when it is waited for.
    ticket: Option<(Ticket, Instant)>,
    /// And until when each is waited for.
    changes: HashMap<Change, Instant>,
}

impl Memory {
    /// An empty one that forgets what it has had for so long.
    pub fn new(kept: Duration) -> Self {
        Memory {
            kept,
            keys: Mutex::default(),
        }
    }
}

impl Known {
    fn look(&mut self) -> Found {
        let now = Instant::now();
        self.changes.retain(|_, until| *until > now);
        if let Some((value, _)) = self.value.as_ref().filter(|(_, until)| *until > now) {
            return Found::Value(value.clone());
        }
        if !self.changes.is_empty() {
            return Found::Changing;
        }
        if self.ticket.is_some_and(|(_, until)| until > now) {
            return Found::Coming;
        }
        let ticket = Ticket::draw();
        self.ticket = Some((ticket, now + TICKET_LASTS));
        Found::Missing(ticket)
    }
}

#[async_trait]
impl Cache for Memory {
    async fn look(&self, keys: &[String]) -> Result<Vec<Found>, Away> {
        let mut known = self.keys.lock();
        let found = keys
            .iter()
            .map(|key| known.entry(key.clone()).or_default().look());
        Ok(found.collect())
    }

    async fn bring(&self, key: &str, ticket: Ticket, value: Option<&[u8]>) -> Result<bool, Away> {
        let mut keys = self.keys.lock();
        let known = keys.entry(key.to_owned()).or_default();
        if known.ticket.is_none_or(|(good, _)| good != ticket) {
            return Ok(false);
        }
        known.ticket = None;
        let until = Instant::now() + self.kept;
        known.value = value.map(|value| (Bytes::copy_from_slice(value), until));
        Ok(true)
    }

    async fn change(&self, key: &str, change: Change) -> Result<(), Away> {
        let mut keys = self.keys.lock();
        let known = keys.entry(key.to_owned()).or_default();
        (known.value, known.ticket) = (None, None);
        known.changes.insert(change, Instant::now() + CHANGE_LASTS);
        Ok(())
    }

    async fn changed(&self, key: &str, change: Change) -> Result<(), Away> {
        let mut keys = self.keys.lock();
        let known = keys.entry(key.to_owned()).or_default();
        (known.value, known.ticket) = (None, None);
        known.changes.remove(&change);
        Ok(())
    }
}
