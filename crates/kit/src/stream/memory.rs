//! A log that is gone with the process.

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{End, Record, Stream, Trouble};

/// The log.
#[derive(Debug, Default)]
pub struct Memory {
    /// Guards all records, for a few lines.
    records: Mutex<Vec<Record>>,
}

impl Memory {
    /// All records.
    pub fn records(&self) -> Vec<Record> {
        self.records.lock().clone()
    }

    /// Forgets all records, as a server whose disk was emptied.
    pub fn wipe(&self) {
        self.records.lock().clear();
    }
}

#[async_trait]
impl Stream for Memory {
    async fn end(&self) -> Result<End, Trouble> {
        let records = self.records.lock();
        Ok(End {
            number: records.len() as u64,
            last: records.last().map(|record| record.mark),
        })
    }

    async fn append(&self, behind: End, new: Vec<Record>) -> Result<End, Trouble> {
        let mut records = self.records.lock();
        if records.len() as u64 != behind.number {
            return Err(Trouble::Moved);
        }
        records.extend(new);
        Ok(End {
            number: records.len() as u64,
            last: records.last().map(|record| record.mark),
        })
    }
}
