//! A log that is gone with the process.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::consumer::{Span, Standing};
use super::{End, Record, Stream, Trouble};

/// The log.
#[derive(Debug, Default)]
pub struct Memory {
    /// Guards everything, for a few lines.
    kept: Mutex<Kept>,
}

/// What there is of it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// By number.
    pub records: BTreeMap<u64, Record>,
    /// The number of the last one that ever was.
    pub last: u64,
    /// Counts how often it was made again.
    pub made: u64,
    /// By name.
    pub consumers: BTreeMap<String, Standing>,
}

impl Kept {
    pub fn span(&self) -> Span {
        Span {
            made: self.made.to_string(),
            first: self.records.keys().next().copied().unwrap_or(self.last + 1),
            last: self.last,
        }
    }

    /// Consumers lose nothing that is not there.
    fn raise_floors(&mut self) {
        let first = self.span().first;
        for consumer in self.consumers.values_mut() {
            consumer.floor = consumer.floor.max(first - 1);
        }
    }
}

impl Memory {
    /// All records.
    pub fn records(&self) -> Vec<Record> {
        self.kept.lock().records.values().cloned().collect()
    }

    /// Forgets everything, as a server whose disk was emptied.
    pub fn wipe(&self) {
        let mut kept = self.kept.lock();
        *kept = Kept {
            made: kept.made + 1,
            ..Kept::default()
        };
    }

    /// Drops the records up to a number, as a server does when they are old, or when it is told to. It goes on counting.
    pub fn drop_up_to(&self, number: u64) {
        let mut kept = self.kept.lock();
        kept.records.retain(|at, _| *at > number);
        kept.raise_floors();
    }

    pub(super) fn kept(&self) -> parking_lot::MutexGuard<'_, Kept> {
        self.kept.lock()
    }
}

#[async_trait]
impl Stream for Memory {
    async fn end(&self) -> Result<End, Trouble> {
        Ok(self.kept.lock().end())
    }

    async fn append(&self, behind: End, new: Vec<Record>) -> Result<End, Trouble> {
        let mut kept = self.kept.lock();
        if kept.last != behind.number {
            return Err(Trouble::Moved);
        }
        for record in new {
            kept.last += 1;
            let number = kept.last;
            kept.records.insert(number, record);
        }
        Ok(kept.end())
    }
}

impl Kept {
    fn end(&self) -> End {
        End {
            number: self.last,
            last: self.records.get(&self.last).map(|record| record.mark),
        }
    }
}
