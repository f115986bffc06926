//! Keeps everything in memory: for tests, and for clients that begin anew each time.

use parking_lot::Mutex;

use super::{EVENTS_PER_CHAT_MAX, Error, Record, Snapshot, Store};

/// A store that lives as long as the value. Share it with `Arc` to let a second client begin where the first
/// one ended.
#[derive(Debug, Default)]
pub struct Memory {
    // Guards the snapshot; held for the application of one batch.
    snapshot: Mutex<Snapshot>,
}

impl Store for Memory {
    fn load(&self) -> Result<Snapshot, Error> {
        Ok(self.snapshot.lock().clone().reopened())
    }

    fn write(&self, batch: &[Record]) -> Result<(), Error> {
        let mut snapshot = self.snapshot.lock();
        for record in batch {
            snapshot.apply(record.clone());
            if let Record::Events { chat, .. } = record
                && let Some(timeline) = snapshot.chats.get_mut(chat)
                && timeline.len() > 2 * EVENTS_PER_CHAT_MAX
            {
                timeline.trim(EVENTS_PER_CHAT_MAX);
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        Ok(())
    }
}
