//! The tables as they were after one commit: the memtables, the newest first, over the engine.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::fjall::{Iter, Readable as _, Slice, Snapshot};
use tertulia_kit::error::{Failure, Result};

use super::memtable::{Memtable, Range, Walk};
use super::{Disk, Table};
use crate::fjall::engine::unavailable;

/// A row: its key and its value.
pub type KeyValue = (Slice, Slice);

/// The tables after a commit.
pub struct Moment<'a> {
    disk: &'a Disk,
    commit: u64,
    /// Newest first.
    memtables: Arc<[Arc<Memtable>]>,
    engine: Snapshot,
    _open: Open<'a>,
}

/// Counts a moment for as long as somebody may read at it.
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl<'a> Moment<'a> {
    /// The newest commit.
    pub(super) fn now(disk: &'a Disk) -> Moment<'a> {
        loop {
            let memtables = Arc::clone(&disk.memtables.read());
            let open = &disk.moments;
            let commit = memtables[0].last(|| {
                open.fetch_add(1, Ordering::Acquire);
            });
            #[cfg(test)]
            if let Some(meanwhile) = disk.meanwhile.lock().take() {
                meanwhile(disk);
            }
            let moment = Moment {
                disk,
                commit,
                memtables,
                engine: disk.engine.snapshot(),
                _open: Open(open),
            };
            // The engine may have rows of later commits by now. That takes that this thread stood still meanwhile.
            if disk.flushing.load(Ordering::Acquire) <= commit {
                return moment;
            }
        }
    }

    /// A row.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>> {
        for memtable in &*self.memtables {
            if let Some(found) = memtable.get(table, key, self.commit) {
                return Ok(found);
            }
        }
        let table = self.disk.engine.table(table)?;
        self.engine.get(table, key).map_err(unavailable)
    }

    /// The rows of a table, by key.
    pub fn iter(&self, table: Table) -> Rows<'_> {
        self.walk(whole(table))
    }

    /// How many rows a table has. Looks at each.
    pub fn count(&self, table: Table) -> Result<u64> {
        let mut count = 0;
        for row in self.iter(table) {
            row?;
            count += 1;
        }
        Ok(count)
    }

    /// The rows of a table in a range of keys, by key.
    pub fn range<K: AsRef<[u8]>>(&self, table: Table, range: impl RangeBounds<K>) -> Rows<'_> {
        self.walk(bounds(table, range, false))
    }

    /// The same from the last key to the first.
    pub fn range_back<K: AsRef<[u8]>>(&self, table: Table, range: impl RangeBounds<K>) -> Rows<'_> {
        self.walk(bounds(table, range, true))
    }

    fn walk(&self, range: Range) -> Rows<'_> {
        let mut rows = Rows {
            sources: Vec::with_capacity(self.memtables.len() + 1),
            is_backwards: range.is_backwards,
            failure: None,
        };
        // Neither the engine nor a memtable takes a range that ends before it begins.
        if range.is_empty() {
            return rows;
        }
        for memtable in &*self.memtables {
            let copy = Range {
                from: range.from.clone(),
                to: range.to.clone(),
                ..range
            };
            let walk = Walk::of(memtable, copy, self.commit);
            rows.add(From::Memtable(walk));
        }
        match self.disk.engine.table(range.table) {
            Ok(table) => {
                let found = self.engine.range(table, (range.from, range.to));
                rows.add(From::Engine(found, range.is_backwards));
            }
            Err(why) => rows.failure = Some(why),
        }
        rows
    }
}

fn whole(table: Table) -> Range {
    Range {
        table,
        from: Bound::Unbounded,
        to: Bound::Unbounded,
        is_backwards: false,
    }
}

fn bounds<K: AsRef<[u8]>>(table: Table, range: impl RangeBounds<K>, is_backwards: bool) -> Range {
    let key = |bound: Bound<&K>| bound.map(|key| Slice::from(key.as_ref()));
    Range {
        table,
        from: key(range.start_bound()),
        to: key(range.end_bound()),
        is_backwards,
    }
}

/// Rows of a table, by key or from the last to the first. After a failure there are no more.
pub struct Rows<'a> {
    /// The newest first: of rows with the same key that of the first holds.
    sources: Vec<Source<'a>>,
    is_backwards: bool,
    failure: Option<Failure>,
}

/// Where rows are, and the next one.
struct Source<'a> {
    rows: From<'a>,
    next: Option<(Slice, Option<Slice>)>,
}

enum From<'a> {
    Memtable(Walk<'a>),
    Engine(Iter, bool),
}

impl Source<'_> {
    /// Takes the next row, and looks for the one behind it.
    fn step(&mut self) -> Result<Option<(Slice, Option<Slice>)>> {
        let next = match &mut self.rows {
            From::Memtable(rows) => rows.next(),
            From::Engine(rows, is_backwards) => {
                let next = match is_backwards {
                    false => rows.next(),
                    true => rows.next_back(),
                };
                let next = next.map(|row| row.into_inner().map_err(unavailable));
                next.transpose()?.map(|(key, value)| (key, Some(value)))
            }
        };
        Ok(std::mem::replace(&mut self.next, next))
    }
}

impl<'a> Rows<'a> {
    /// Mostly there is nothing in most sources.
    fn add(&mut self, rows: From<'a>) {
        let mut source = Source { rows, next: None };
        match source.step() {
            Ok(_) if source.next.is_some() => self.sources.push(source),
            Ok(_) => {}
            Err(why) => self.failure = Some(why),
        }
    }

    /// The row that comes next, if it is one.
    fn step(&mut self) -> Result<Option<(Slice, Option<Slice>)>> {
        let mut first: Option<(usize, &Slice)> = None;
        for (at, source) in self.sources.iter().enumerate() {
            let Some((key, _)) = &source.next else {
                continue;
            };
            let is_first = first.is_none_or(|(_, first)| match self.is_backwards {
                false => key < first,
                true => key > first,
            });
            if is_first {
                first = Some((at, key));
            }
        }
        let Some((at, _)) = first else {
            return Ok(None);
        };
        let row = self.sources[at].step()?;
        if let Some((key, _)) = &row {
            for source in &mut self.sources[at + 1..] {
                if source.next.as_ref().is_some_and(|(same, _)| same == key) {
                    source.step()?;
                }
            }
        }
        Ok(row)
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<KeyValue>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.failure.is_none() {
            match self.step() {
                Ok(Some((key, Some(value)))) => return Some(Ok((key, value))),
                Ok(Some((_, None))) => {}
                Ok(None) => return None,
                Err(why) => self.failure = Some(why),
            }
        }
        self.sources.clear();
        self.failure.take().map(Err)
    }
}
