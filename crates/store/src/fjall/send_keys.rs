//! Which sendings are known, for seven days at least and fourteen at most.
//!
//! ```text
//! commit ──► a row of the journal     (durable)
//!        └─► fresh keys, in memory ──► sealed ──► a file ──► larger files     (`keeper`)
//! ```
//! A key is asked for with each message, is hardly ever there, and stands at no place that could be guessed. In a tree
//! that is the dearest row of all: to look up, to put in its place, and to merge again and again. So the newest are in
//! maps. When there are many of them they are sorted and written to a file that never changes, in which nobody looks
//! whose key is not there, as far as a filter in memory knows; eight files are made one when they are of about the same
//! size. A file of the journal goes when its keys are in such a file; after a start the maps are made of what is in the
//! journal.
//!
//! The keys of each week are in files of their own, so that forgetting is removing files.

mod before;
mod file;
mod filter;
mod keeper;
mod merge;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ::fjall::Slice;
use parking_lot::RwLock;
use rustc_hash::{FxBuildHasher, FxHashMap};
use tertulia_kit::error::Result;
use tertulia_services::chats::SEND_KEYS_KEPT_MS;
use tertulia_services::chats::decide::Used;
use tertulia_services::errors;

use super::disk::make_folder;
use super::engine::Engine;
use super::room::Room;
use crate::rows::codec::{self, SendHash};
use crate::rows::corrupt;
use file::{Content, File, Span};
use merge::{Merged, Sorted};

pub use keeper::{Keeper, keeper};

/// How many keys are in memory before they are written to a file; about 15 MiB.
const FRESH_MAX: usize = 131_072;
/// In how many maps they are.
const PARTS: usize = 64;
const FOLDER: &str = "send_keys";
/// How the tables of the formats up to 3 are called, before the number of their week.
const TABLES_BEFORE: &str = "send_keys_";
/// How the table of format 4 is called, with a row for each commit whose keys are in no file.
const FRESH_BEFORE: &str = "fresh";

/// The keys.
pub struct SendKeys {
    folder: PathBuf,
    /// Guards where which keys are. Only the writer and the keeper change it, and both only for a moment.
    kept: RwLock<Kept>,
    /// For what is sealed and in no file. Full: the writer waits for the keeper.
    room: Room,
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
    /// Opens what there is in `folder`, with what the journal has of it by the position of its commit, and brings
    /// there what the tables of an older format have.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when something can not be read, `INTERNAL` when it is not what was written.
    pub fn open(folder: &Path, engine: &Engine, journal: Vec<(u64, Slice)>) -> Result<SendKeys> {
        SendKeys::open_with(folder, engine, journal, FRESH_MAX)
    }

    fn open_with(
        folder: &Path,
        engine: &Engine,
        journal: Vec<(u64, Slice)>,
        fresh_max: usize,
    ) -> Result<SendKeys> {
        let folder = folder.join(FOLDER);
        make_folder(&folder).map_err(errors::store_unavailable)?;
        let mut files = open_files(&folder)?;
        before::bring(&folder, engine, &mut files)?;
        // Sealed, so that they come into files soon, and their files of the journal go.
        let sealed: VecDeque<_> = fresh_of(journal, filed(&files))?.collect();
        Ok(SendKeys {
            folder,
            room: Room::with(sealed.len()),
            kept: RwLock::new(Kept {
                fresh: Fresh::default(),
                sealed,
                files,
            }),
            is_closing: AtomicBool::new(false),
            fresh_max,
        })
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

    /// Takes in what was committed.
    pub fn take_in(&self, position: u64, week: i64, used: FxHashMap<SendHash, Used>) {
        if used.is_empty() {
            return;
        }
        self.kept.write().fresh.take_in(week, position, used);
    }

    /// The first commit whose keys are in no file; none when all are.
    pub fn first_in_memory(&self) -> Option<u64> {
        let kept = self.kept.read();
        let fresh = std::iter::once(&kept.fresh).filter(|fresh| fresh.count > 0);
        let sealed = kept.sealed.iter().map(Arc::as_ref);
        sealed.chain(fresh).map(|keys| keys.first).min()
    }

    /// All keys as they are now.
    pub fn at_once(&self) -> AtOnce {
        let kept = self.kept.read();
        let mut fresh = BTreeMap::<i64, BTreeMap<SendHash, Content>>::new();
        let mut content = Vec::new();
        let in_memory = kept.sealed.iter().map(Arc::as_ref);
        for keys in in_memory.chain([&kept.fresh]).filter(|keys| keys.count > 0) {
            let of_week = fresh.entry(keys.week).or_default();
            for (hash, used) in keys.iter() {
                codec::write_used(&mut content, used);
                of_week.insert(hash, Content::of(&content));
            }
        }
        AtOnce {
            files: kept.files.clone(),
            fresh,
        }
    }

    /// Seals what is fresh, if anything is.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when too much is sealed and can not be written.
    pub fn seal(&self) -> Result<()> {
        if self.kept.read().fresh.count == 0 {
            return Ok(());
        }
        let full = || errors::store_unavailable("send keys can not be filed");
        let mut sealed = self.room.wait().ok_or_else(full)?;
        let mut kept = self.kept.write();
        let next = Fresh::with_room(kept.fresh.count);
        let fresh = std::mem::replace(&mut kept.fresh, next);
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
        Fresh::with_room(0)
    }
}

impl Fresh {
    /// For about so many keys: where there were many there will be many again.
    fn with_room(keys: usize) -> Fresh {
        let map = |_| FxHashMap::with_capacity_and_hasher(keys / PARTS, FxBuildHasher);
        Fresh {
            week: 0,
            first: 0,
            last: 0,
            used: std::array::from_fn(map),
            count: 0,
        }
    }

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

/// The last commit whose keys are in files.
fn filed(files: &BTreeMap<i64, Vec<Arc<File>>>) -> u64 {
    let last = files.values().flatten().map(|file| file.span.last);
    last.max().unwrap_or(0)
}

/// The keys of commits behind `filed`, by week, oldest first.
fn fresh_of(
    rows: impl IntoIterator<Item = (u64, Slice)>,
    filed: u64,
) -> Result<impl Iterator<Item = Arc<Fresh>>> {
    let mut weeks = BTreeMap::<i64, Fresh>::new();
    for (position, row) in rows {
        if position > filed {
            let (week, used) = codec::read_fresh(&row).map_err(corrupt)?;
            weeks.entry(week).or_default().take_in(week, position, used);
        }
    }
    Ok(weeks.into_values().map(Arc::new))
}

/// In which of the maps a key is. The last byte is of the hash, and not of its user.
fn part(hash: &SendHash) -> usize {
    usize::from(hash[23]) % PARTS
}

#[cfg(test)]
mod tests;
