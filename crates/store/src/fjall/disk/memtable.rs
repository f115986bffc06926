//! A memtable: the rows of the newest commits, those of one file of the journal, by key. A row that has changed is kept
//! as it was as long as somebody may read at a commit of before.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Deref};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use ::fjall::Slice;
use parking_lot::RwLock;

use super::Table;
use super::journal::Row;

/// What a row takes beside its key and value, about.
const ROW_BYTES: usize = 80;
/// How many rows who reads many takes at once, so that the writer need not wait long.
const TAKEN_AT_ONCE: usize = 64;

/// A memtable.
pub struct Memtable {
    /// Guards the rows. Only one writes, and all rows of a commit at once.
    rows: RwLock<Rows>,
    /// Where they are in the journal.
    pub file: PathBuf,
    /// The position of the last commit there that has send keys; 0 when none has.
    pub send_keys_to: AtomicU64,
}

#[derive(Default)]
struct Rows {
    tables: [BTreeMap<Key, Versions>; Table::COUNT],
    /// The last commit.
    last: u64,
    bytes: usize,
}

/// A key, in the order of its bytes. Most begin with two numbers of eight bytes, which are compared as one.
#[derive(Clone, PartialEq, Eq)]
struct Key(Slice);

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        let numbers = |key: &Key| key.0.first_chunk().copied().map(u128::from_be_bytes);
        match (numbers(self), numbers(other)) {
            (Some(a), Some(b)) if a != b => a.cmp(&b),
            _ => (*self.0).cmp(&*other.0),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// A row as it was at its commits.
struct Versions {
    newest: Version,
    /// Oldest first.
    older: Vec<Version>,
}

struct Version {
    commit: u64,
    /// None: it is no more.
    value: Option<Slice>,
}

/// From where to where a table is read, and in which order.
pub struct Range {
    pub table: Table,
    pub from: Bound<Slice>,
    pub to: Bound<Slice>,
    pub is_backwards: bool,
}

impl Range {
    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        use Bound::{Excluded, Included, Unbounded};
        match (&self.from, &self.to) {
            (Unbounded, _) | (_, Unbounded) => false,
            (Included(from), Included(to)) => from > to,
            (Included(from) | Excluded(from), Included(to) | Excluded(to)) => from >= to,
        }
    }
}

impl Memtable {
    /// An empty one, of what is committed behind `last`.
    pub fn new(file: PathBuf, last: u64) -> Memtable {
        let rows = Rows {
            last,
            ..Rows::default()
        };
        Memtable {
            rows: RwLock::new(rows),
            file,
            send_keys_to: AtomicU64::new(0),
        }
    }

    /// The last commit, which is read together with what `meanwhile` does before the next one is there.
    pub fn last(&self, meanwhile: impl FnOnce()) -> u64 {
        let rows = self.rows.read();
        meanwhile();
        rows.last
    }

    /// What its rows take in memory, about.
    pub fn bytes(&self) -> usize {
        self.rows.read().bytes
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.read().tables.iter().all(BTreeMap::is_empty)
    }

    /// Takes in the rows of a commit. What was there before is kept when `is_read` says, once nobody can begin to read,
    /// that somebody reads.
    pub fn take_in(
        &self,
        commit: u64,
        new: impl IntoIterator<Item = Row>,
        is_read: impl FnOnce() -> bool,
    ) {
        let mut rows = self.rows.write();
        let is_read = is_read();
        for row in new {
            rows.put(commit, row, is_read);
        }
        rows.last = commit;
    }

    /// A row as it was at a commit; none when it is not here, and none inside when it was no more.
    pub fn get(&self, table: Table, key: &[u8], commit: u64) -> Option<Option<Slice>> {
        let rows = self.rows.read();
        let version = rows.tables[table as usize].get(key)?.at(commit)?;
        Some(version.value.clone())
    }

    /// Gives `visit` the newest rows of a table by key, and how many there are, when nothing is written any more.
    pub fn newest<T>(
        &self,
        table: Table,
        visit: impl FnOnce(usize, &mut dyn Iterator<Item = (&Slice, Option<&Slice>)>) -> T,
    ) -> T {
        let rows = self.rows.read();
        let rows = &rows.tables[table as usize];
        let newest = rows.iter();
        let mut newest = newest.map(|(key, versions)| (&key.0, versions.newest.value.as_ref()));
        visit(rows.len(), &mut newest)
    }

    /// Takes some rows of a range as they were at a commit, and makes the range what is left of it; nothing is, when
    /// none are taken.
    fn take(&self, range: &mut Range, commit: u64, taken: &mut VecDeque<(Slice, Option<Slice>)>) {
        if range.is_empty() {
            return;
        }
        let rows = self.rows.read();
        let bounds = (
            range.from.as_ref().map(Deref::deref),
            range.to.as_ref().map(Deref::deref),
        );
        let mut rows = rows.tables[range.table as usize].range::<[u8], _>(bounds);
        while taken.len() < TAKEN_AT_ONCE {
            let row = match range.is_backwards {
                false => rows.next(),
                true => rows.next_back(),
            };
            let Some((key, versions)) = row else { break };
            if let Some(version) = versions.at(commit) {
                taken.push_back((key.0.clone(), version.value.clone()));
            }
        }
        if let Some((last, _)) = taken.back() {
            let rest = match range.is_backwards {
                false => &mut range.from,
                true => &mut range.to,
            };
            *rest = Bound::Excluded(last.clone());
        }
    }
}

impl Rows {
    fn put(&mut self, commit: u64, row: Row, is_read: bool) {
        let key_bytes = row.key.len();
        let mut bytes = row.value.as_ref().map_or(0, |value| value.len());
        let newest = Version {
            commit,
            value: row.value,
        };
        match self.tables[row.table as usize].entry(Key(row.key)) {
            Entry::Vacant(place) => {
                bytes += ROW_BYTES + key_bytes;
                place.insert(Versions {
                    newest,
                    older: Vec::new(),
                });
            }
            Entry::Occupied(mut row) => {
                let versions = row.get_mut();
                let before = std::mem::replace(&mut versions.newest, newest);
                if is_read && before.commit < commit {
                    versions.older.push(before);
                } else {
                    bytes = bytes.saturating_sub(before.bytes());
                }
            }
        }
        self.bytes += bytes;
    }
}

impl Versions {
    /// The row as it was at a commit; none when it came later.
    fn at(&self, commit: u64) -> Option<&Version> {
        if self.newest.commit <= commit {
            return Some(&self.newest);
        }
        self.older
            .iter()
            .rev()
            .find(|version| version.commit <= commit)
    }
}

impl Version {
    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, |value| value.len())
    }
}

/// The rows of a range of a memtable at a commit, those that are no more with no value.
pub struct Walk<'a> {
    memtable: &'a Memtable,
    commit: u64,
    rest: Range,
    taken: VecDeque<(Slice, Option<Slice>)>,
}

impl<'a> Walk<'a> {
    pub fn of(memtable: &'a Memtable, range: Range, commit: u64) -> Walk<'a> {
        Walk {
            memtable,
            commit,
            rest: range,
            taken: VecDeque::new(),
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = (Slice, Option<Slice>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.taken.is_empty() {
            self.memtable
                .take(&mut self.rest, self.commit, &mut self.taken);
        }
        self.taken.pop_front()
    }
}
