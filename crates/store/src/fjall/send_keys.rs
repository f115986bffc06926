//! Which sendings are known, for seven days at least and fourteen at most.
//!
//! ```text
//! commit ──► the table `fresh`, a row for each commit     (durable)
//!        └─► fresh keys, in memory ──► sealed ──► a file ──► larger files     (`keeper`)
//! ```
//! A key is asked for with each message, is hardly ever there, and stands at no place that could be guessed. In a tree
//! that is the dearest row of all: to look up, to put in its place, and to merge again and again. So the newest are in
//! maps. When there are many of them they are sorted and written to a file that never changes, in which nobody looks
//! whose key is not there, as far as a filter in memory knows; eight files are made one when they are of about the same
//! size. What is in a file is dropped from the table. After a start the maps are made of what the table still has.
//!
//! The keys of each week are in files of their own, so that forgetting is removing files.

mod file;
mod filter;
mod keeper;
mod merge;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::fjall::{Keyspace, OwnedWriteBatch, Readable as _, Snapshot};
use parking_lot::{Condvar, Mutex, RwLock};
use rustc_hash::FxHashMap;
use tertulia_kit::error::Result;
use tertulia_services::chats::SEND_KEYS_KEPT_MS;
use tertulia_services::chats::decide::Used;
use tertulia_services::errors;

use super::disk::{Disk, unavailable};
use crate::rows::codec::{self, Corrupt, SendHash};
use crate::rows::corrupt;
use file::{Content, File, Span};
use merge::{Merged, Sorted};

pub use keeper::{Keeper, keeper};

/// How many keys are in memory before they are written to a file; about 15 MiB.
const FRESH_MAX: usize = 131_072;
/// In how many maps they are.
const PARTS: usize = 64;
/// How many times that waits to be written. Full: the writer waits.
const SEALED_MAX: usize = 4;
/// How long the writer waits for that.
const ROOM_WAIT: Duration = Duration::from_secs(5);
/// How many rows of the table are dropped with a commit.
const DROPPED_AT_ONCE_MAX: usize = 64;
const FOLDER: &str = "send_keys";
/// How the tables of the formats up to 3 are called, before the number of their week.
const TABLES_BEFORE: &str = "send_keys_";

/// The keys.
pub struct SendKeys {
    folder: PathBuf,
    /// A row for each commit that brought keys which are in no file.
    table: Keyspace,
    /// Guards where which keys are. Only the writer and the keeper change it, and both only for a moment.
    kept: RwLock<Kept>,
    /// The commits that have a row in the table, oldest first. Only the writer asks.
    rows: Mutex<VecDeque<u64>>,
    /// All keys of the commits up to this one are in files.
    filed: AtomicU64,
    /// Something sealed was filed; goes with `sealed_count`.
    room: Condvar,
    /// How much is sealed and in no file.
    sealed_count: Mutex<usize>,
    is_closing: AtomicBool,
    fresh_max: usize,
}

/// Where keys are, from the newest to the oldest.
struct Kept {
    fresh: Fresh,
    sealed: VecDeque<Arc<Fresh>>,
    /// By week; oldest first.
    files: BTreeMap<i64, Vec<Arc<File>>>,
}

/// Keys of some commits, in memory.
struct Fresh {
    week: i64,
    first: u64,
    last: u64,
    /// In many small maps: when one large map grows, all commits wait for tens of milliseconds.
    used: [FxHashMap<SendHash, Used>; PARTS],
    count: usize,
}

/// The keys as they were at one commit.
pub struct AtOnce {
    files: BTreeMap<i64, Vec<Arc<File>>>,
    fresh: BTreeMap<i64, BTreeMap<SendHash, Content>>,
}

impl SendKeys {
    /// Opens what there is in `folder`, and brings there what the tables of an older format have.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when something can not be read, `INTERNAL` when it is not what was written.
    pub fn open(folder: &Path, disk: &Disk) -> Result<SendKeys> {
        SendKeys::open_with(folder, disk, FRESH_MAX)
    }

    fn open_with(folder: &Path, disk: &Disk, fresh_max: usize) -> Result<SendKeys> {
        let folder = folder.join(FOLDER);
        fs::create_dir_all(&folder).map_err(errors::store_unavailable)?;
        let mut files = open_files(&folder)?;
        bring_tables(&folder, disk, &mut files)?;
        let filed = files.values().flatten().map(|file| file.span.last).max();
        let keys = SendKeys {
            folder,
            table: disk.fresh.clone(),
            kept: RwLock::new(Kept {
                fresh: Fresh::default(),
                sealed: VecDeque::new(),
                files,
            }),
            rows: Mutex::default(),
            filed: AtomicU64::new(filed.unwrap_or(0)),
            room: Condvar::new(),
            sealed_count: Mutex::new(0),
            is_closing: AtomicBool::new(false),
            fresh_max,
        };
        keys.read_fresh(&disk.db.snapshot())?;
        Ok(keys)
    }

    /// Takes what is fresh from the table.
    fn read_fresh(&self, at: &Snapshot) -> Result<()> {
        let filed = self.filed.load(Ordering::Acquire);
        let (mut rows, mut weeks) = (VecDeque::new(), BTreeMap::<i64, Fresh>::new());
        for row in at.iter(&self.table) {
            let (key, value) = row.into_inner().map_err(unavailable)?;
            let position = position(&key)?;
            rows.push_back(position);
            if position <= filed {
                continue;
            }
            let (week, used) = codec::read_fresh(&value).map_err(corrupt)?;
            let fresh = weeks.entry(week).or_default();
            fresh.take_in(week, position, used);
        }
        let newest = weeks.pop_last().map(|(_, fresh)| fresh).unwrap_or_default();
        let sealed: VecDeque<_> = weeks.into_values().map(Arc::new).collect();
        *self.rows.lock() = rows;
        *self.sealed_count.lock() = sealed.len();
        let mut kept = self.kept.write();
        kept.fresh = newest;
        kept.sealed = sealed;
        Ok(())
    }

    /// The week of what is sent now. When the clock is behind the newest keys, it is theirs: keys do not age
    /// backwards. Seals what is fresh when it is of an older week or much, and forgets what nobody may ask for any
    /// more.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when too much is sealed and can not be written.
    pub fn current(&self, now_ms: i64) -> Result<i64> {
        let kept = self.kept.read();
        let now = now_ms.div_euclid(SEND_KEYS_KEPT_MS);
        let week = kept.newest_week().map_or(now, |newest| now.max(newest));
        let fresh = &kept.fresh;
        let is_full = fresh.count >= self.fresh_max;
        let is_old = fresh.count > 0 && fresh.week < week;
        let oldest = kept.files.first_key_value();
        let is_over = oldest.is_some_and(|(oldest, _)| *oldest < week - 1);
        drop(kept);
        if is_full || is_old {
            self.seal()?;
        }
        if is_over {
            self.forget(week - 1);
        }
        Ok(week)
    }

    /// What a key was used for.
    pub fn find(&self, hash: &SendHash) -> Result<Option<Used>> {
        let kept = self.kept.read();
        let mut in_memory = std::iter::once(&kept.fresh)
            .chain(kept.sealed.iter().rev().map(Arc::as_ref))
            .filter_map(|fresh| fresh.used[part(hash)].get(hash));
        if let Some(used) = in_memory.next() {
            return Ok(Some(used.clone()));
        }
        for file in kept
            .files
            .values()
            .rev()
            .flat_map(|files| files.iter().rev())
        {
            if let Some(content) = file.find(hash)? {
                return codec::read_used(&content).map(Some).map_err(corrupt);
            }
        }
        Ok(None)
    }

    /// Adds what a commit has to write, and says how many rows it drops; `row` is where rows are encoded.
    pub fn write(
        &self,
        batch: &mut OwnedWriteBatch,
        position: u64,
        week: i64,
        used: &FxHashMap<SendHash, Used>,
        row: &mut Vec<u8>,
    ) -> usize {
        if used.is_empty() {
            return 0;
        }
        codec::write_fresh(row, week, used.iter());
        batch.insert(&self.table, position.to_be_bytes(), &row[..]);
        let filed = self.filed.load(Ordering::Acquire);
        let rows = self.rows.lock();
        let filed = rows.iter().take_while(|position| **position <= filed);
        let dropped = filed.take(DROPPED_AT_ONCE_MAX);
        dropped
            .map(|position| batch.remove(&self.table, position.to_be_bytes()))
            .count()
    }

    /// Takes in what was committed, with so many rows dropped.
    pub fn take_in(
        &self,
        position: u64,
        week: i64,
        used: FxHashMap<SendHash, Used>,
        dropped: usize,
    ) {
        if used.is_empty() {
            return;
        }
        {
            let mut rows = self.rows.lock();
            rows.drain(..dropped);
            rows.push_back(position);
        }
        self.kept.write().fresh.take_in(week, position, used);
    }

    /// The keys at the commit of a snapshot, which `take` takes.
    ///
    /// # Errors
    /// When the table can not be read.
    pub fn at_once(&self, take: impl Fn() -> Snapshot) -> Result<(Snapshot, AtOnce)> {
        // Rows are dropped from the table when there is a file that has them: that file must not be missing.
        let (at, files) = loop {
            let before = self.filed.load(Ordering::Acquire);
            let files = self.kept.read().files.clone();
            let at = take();
            if self.filed.load(Ordering::Acquire) == before {
                break (at, files);
            }
        };
        let filed = files.values().flatten().map(|file| file.span.last).max();
        let mut fresh = BTreeMap::<i64, BTreeMap<SendHash, Content>>::new();
        let mut content = Vec::new();
        for row in at.iter(&self.table) {
            let (key, value) = row.into_inner().map_err(unavailable)?;
            if Some(position(&key)?) <= filed {
                continue;
            }
            let (week, used) = codec::read_fresh(&value).map_err(corrupt)?;
            let of_week = fresh.entry(week).or_default();
            for (hash, used) in used {
                codec::write_used(&mut content, &used);
                of_week.insert(hash, Content::of(&content));
            }
        }
        Ok((at, AtOnce { files, fresh }))
    }

    fn seal(&self) -> Result<()> {
        let mut sealed = self.sealed_count.lock();
        let is_full = |sealed: &mut usize| *sealed >= SEALED_MAX;
        if self
            .room
            .wait_while_for(&mut sealed, is_full, ROOM_WAIT)
            .timed_out()
        {
            return Err(errors::store_unavailable("send keys can not be filed"));
        }
        let mut kept = self.kept.write();
        let fresh = std::mem::take(&mut kept.fresh);
        kept.sealed.push_back(Arc::new(fresh));
        *sealed += 1;
        Ok(())
    }

    /// Forgets what is older than a week.
    fn forget(&self, week: i64) {
        let mut kept = self.kept.write();
        while let Some(oldest) = kept.files.first_entry()
            && *oldest.key() < week
        {
            oldest.remove().iter().for_each(|file| file.remove());
        }
    }

    fn has_sealed(&self) -> bool {
        *self.sealed_count.lock() > 0
    }
}

impl Kept {
    fn newest_week(&self) -> Option<i64> {
        let fresh = (self.fresh.count > 0).then_some(self.fresh.week);
        let sealed = self.sealed.back().map(|sealed| sealed.week);
        let filed = self.files.last_key_value().map(|(week, _)| *week);
        fresh.max(sealed).max(filed)
    }
}

impl Default for Fresh {
    fn default() -> Fresh {
        Fresh {
            week: 0,
            first: 0,
            last: 0,
            used: std::array::from_fn(|_| FxHashMap::default()),
            count: 0,
        }
    }
}

impl Fresh {
    fn take_in(
        &mut self,
        week: i64,
        position: u64,
        used: impl IntoIterator<Item = (SendHash, Used)>,
    ) {
        if self.count == 0 {
            (self.week, self.first) = (week, position);
        }
        self.last = position;
        for (hash, used) in used {
            let is_new = self.used[part(&hash)].insert(hash, used).is_none();
            self.count += usize::from(is_new);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (SendHash, &Used)> {
        let all = self.used.iter().flatten();
        all.map(|(hash, used)| (*hash, used))
    }

    fn span(&self) -> Span {
        Span {
            week: self.week,
            first: self.first,
            last: self.last,
        }
    }
}

impl AtOnce {
    /// How many there are.
    pub fn count(&self) -> u64 {
        let filed: u64 = self.files.values().flatten().map(|file| file.rows).sum();
        let fresh: usize = self.fresh.values().map(BTreeMap::len).sum();
        filed + fresh as u64
    }

    /// The weeks in which there are keys, from one on, oldest first.
    pub fn weeks_from(&self, week: i64) -> Vec<i64> {
        let weeks = self.files.range(week..).map(|(week, _)| *week);
        let mut weeks: Vec<_> = weeks
            .chain(self.fresh.range(week..).map(|(week, _)| *week))
            .collect();
        weeks.sort_unstable();
        weeks.dedup();
        weeks
    }

    /// The keys of a week behind one, or all of them, in their order.
    pub fn of_week<'a>(
        &'a self,
        week: i64,
        after: Option<&'a SendHash>,
    ) -> Result<impl Iterator<Item = Result<(SendHash, Content)>> + 'a> {
        let files = self.files.get(&week).into_iter().flatten();
        let files = files.map(move |file| Box::new(file.rows(after)) as Sorted<'a>);
        let fresh = self.fresh.get(&week).into_iter().flatten();
        let fresh = fresh
            .filter(move |(hash, _)| after.is_none_or(|after| *hash > after))
            .map(|(hash, content)| Ok((*hash, content.clone())));
        Merged::of(files.chain([Box::new(fresh) as Sorted<'a>]))
    }
}

/// The files of a folder, by week and oldest first. Those that were not finished are taken away, and those of which all
/// is in a larger one.
fn open_files(folder: &Path) -> Result<BTreeMap<i64, Vec<Arc<File>>>> {
    let mut spans = Vec::new();
    for entry in fs::read_dir(folder).map_err(errors::store_unavailable)? {
        let path = entry.map_err(errors::store_unavailable)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(span) = name.and_then(file::span_of) {
            spans.push((span, path));
        } else if path
            .extension()
            .is_some_and(|extension| extension == file::UNFINISHED)
        {
            fs::remove_file(path).map_err(errors::store_unavailable)?;
        }
    }
    spans.sort_unstable();
    let mut files = BTreeMap::<i64, Vec<Arc<File>>>::new();
    for (span, path) in &spans {
        if spans
            .iter()
            .any(|(other, _)| other != span && other.covers(span))
        {
            fs::remove_file(path).map_err(errors::store_unavailable)?;
            continue;
        }
        let file = Arc::new(File::open(path)?);
        files.entry(span.week).or_default().push(file);
    }
    Ok(files)
}

/// Makes files of the tables of an older format, and drops the tables.
fn bring_tables(
    folder: &Path,
    disk: &Disk,
    files: &mut BTreeMap<i64, Vec<Arc<File>>>,
) -> Result<()> {
    let tables = disk
        .db
        .list_keyspace_names()
        .into_iter()
        .filter_map(|name| {
            let week = name.strip_prefix(TABLES_BEFORE)?.parse::<i64>().ok()?;
            Some((week, name))
        });
    let tables: Vec<_> = tables.collect();
    if tables.is_empty() {
        return Ok(());
    }
    let position = disk.position()?;
    for (week, name) in tables {
        tracing::info!(
            week,
            "the send keys of a week are brought into a file, once"
        );
        let table = disk.table(&name)?;
        let keys = disk.db.snapshot().iter(&table).count() as u64;
        if keys > 0 {
            let span = Span {
                week,
                first: 0,
                last: position,
            };
            let file = Arc::new(bring_table(folder, disk, &table, span, keys)?);
            files.entry(week).or_default().insert(0, file);
        }
        disk.db.delete_keyspace(table).map_err(unavailable)?;
        tracing::info!(week, keys, "the send keys of a week are in a file");
    }
    Ok(())
}

fn bring_table(
    folder: &Path,
    disk: &Disk,
    table: &Keyspace,
    span: Span,
    keys: u64,
) -> Result<File> {
    let mut file = file::Writer::begin(folder, span, keys).map_err(errors::store_unavailable)?;
    for row in disk.db.snapshot().iter(table) {
        let (hash, content) = row.into_inner().map_err(unavailable)?;
        let hash = (*hash).try_into();
        let hash = hash.map_err(|_| corrupt(Corrupt("a send key of another length")))?;
        file.add(&hash, &content)
            .map_err(errors::store_unavailable)?;
    }
    File::open(&file.finish().map_err(errors::store_unavailable)?)
}

/// In which of the maps a key is. The last byte is of the hash, and not of its user.
fn part(hash: &SendHash) -> usize {
    usize::from(hash[23]) % PARTS
}

fn position(key: &[u8]) -> Result<u64> {
    let key = key.try_into().map(u64::from_be_bytes);
    key.map_err(|_| corrupt(Corrupt("a key of another length")))
}

#[cfg(test)]
mod tests;
