//! The journal: what was committed, in the order of the commits. A commit is durable when its record is synced, and
//! nothing else is needed for that. A file of it goes when all its rows are elsewhere.
//!
//! ```text
//! record   length of the rows (4) · number of the commit (8) · checksum of number and rows (8) · rows
//! row      table (1) · length of the key (2) · length of the value (4), or the highest number: removed · key · value
//! ```
//! Numbers are little-endian. Each commit has the number of the one before it and one, so that a record which is missing
//! shows.
//!
//! Only the very last record can be torn, because each is synced before the next one begins; it was not acknowledged,
//! and is cut off. A bad record with a good one behind is damage to what was acknowledged, and is left for people to
//! look at. A record whose sync failed may be whole as long as the machine runs, and not be on the disk, and no later
//! sync would carry it there: what could not be written counts as written. So the last record is written once more
//! before anything is read from it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ::fjall::Slice;
use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use tertulia_kit::error::{Failure, Result};
use tertulia_services::errors;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Table;

/// What stands before the rows of a record.
const HEADER_BYTES: usize = 20;
/// What stands before the key of a row.
const ROW_HEADER_BYTES: usize = 7;
const REMOVED: u32 = u32::MAX;
/// A file is made so long at once, so that a sync need not write down its length, and where it is on the disk, as well.
const FILE_BYTES: u64 = 64 << 20;
/// How much of a file is read at once.
const PIECE_BYTES: usize = 1 << 18;
/// A file is given its room beforehand where the disk has so much: else others may need it more.
const ROOM_BYTES: u64 = 1 << 30;
const EXTENSION: &str = "journal";
/// More commits than that are in no file: so it is known where no record can be.
const COMMITS_OF_A_FILE_MAX: u64 = 1 << 24;

/// A row as it shall be.
pub struct Row {
    pub table: Table,
    pub key: Slice,
    /// None: it shall be no more.
    pub value: Option<Slice>,
}

/// A row as the journal has it.
pub struct Written<'a> {
    pub table: Table,
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

impl Written<'_> {
    pub fn to_row(&self) -> Row {
        Row {
            table: self.table,
            key: self.key.into(),
            value: self.value.map(Slice::from),
        }
    }
}

/// Rows that are committed together.
pub struct Batch {
    record: Vec<u8>,
    /// All but the send keys.
    pub rows: Vec<Row>,
    /// The position of the commit, when it has send keys.
    pub send_keys_at: Option<u64>,
}

impl Batch {
    pub fn new() -> Batch {
        Batch {
            record: vec![0; HEADER_BYTES],
            rows: Vec::new(),
            send_keys_at: None,
        }
    }

    pub fn insert(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.put(table, key, Some(value));
    }

    pub fn remove(&mut self, table: Table, key: &[u8]) {
        self.put(table, key, None);
    }

    /// Adds the send keys of the commit at a position.
    pub fn insert_send_keys(&mut self, position: u64, keys: &[u8]) {
        self.put(Table::SendKeys, &position.to_be_bytes(), Some(keys));
        self.send_keys_at = Some(position);
    }

    /// Makes it an empty one.
    pub fn clear(&mut self) {
        self.record.truncate(HEADER_BYTES);
        self.rows.clear();
        self.send_keys_at = None;
    }

    fn put(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        // No key of ours is longer than some hundred bytes, and no value than some megabytes.
        let (key_bytes, value_bytes) = (key.len() as u16, value.map(|value| value.len() as u32));
        let record = &mut self.record;
        record.push(table as u8);
        record.extend_from_slice(&key_bytes.to_le_bytes());
        record.extend_from_slice(&value_bytes.unwrap_or(REMOVED).to_le_bytes());
        record.extend_from_slice(key);
        record.extend_from_slice(value.unwrap_or_default());
        // Send keys are kept elsewhere.
        if table != Table::SendKeys {
            self.rows.push(Row {
                table,
                key: key.into(),
                value: value.map(Slice::from),
            });
        }
    }

    /// The record of the commit with this number.
    fn seal(&mut self, commit: u64) -> &[u8] {
        let rows = (self.record.len() - HEADER_BYTES) as u32;
        self.record[..4].copy_from_slice(&rows.to_le_bytes());
        self.record[4..12].copy_from_slice(&commit.to_le_bytes());
        let sum = sum(commit, &self.record[HEADER_BYTES..]);
        self.record[12..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        &self.record
    }
}

fn sum(commit: u64, rows: &[u8]) -> u64 {
    xxh3_64_with_seed(rows, commit)
}

/// The end of the journal, where it is written.
pub struct Journal {
    file: File,
    /// How much of the file is written.
    pub bytes: u64,
    /// The last commit.
    pub last: u64,
    /// A write has failed. What that has left on the disk can not be known, so nothing is written behind it.
    is_broken: bool,
}

/// A file for the journal that has nothing in it yet.
pub struct Empty {
    file: File,
    pub path: PathBuf,
}

impl Empty {
    /// Makes the file with this number.
    pub fn make(folder: &Path, number: u64) -> io::Result<Empty> {
        let path = folder.join(format!("{number:010}.{EXTENSION}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        let is_given =
            has_room(&file) && fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES).is_ok();
        if !is_given {
            // Then it comes as it is needed.
            file.set_len(0)?;
            file.set_len(FILE_BYTES)?;
        }
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(Empty { file, path })
    }
}

fn has_room(file: &File) -> bool {
    fstatvfs(file).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= ROOM_BYTES)
}

impl Journal {
    /// Writes into `empty` what is committed behind `last`.
    pub fn begin(empty: Empty, last: u64) -> Journal {
        Journal {
            file: empty.file,
            bytes: 0,
            last,
            is_broken: false,
        }
    }

    /// Writes a batch as the next commit, and syncs it. Gives its number.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`. From then on nothing can be written until the journal is opened anew.
    pub fn append(&mut self, batch: &mut Batch, is_synced: bool) -> Result<u64> {
        if self.is_broken {
            return Err(errors::store_unavailable("the journal takes no writes"));
        }
        let commit = self.last + 1;
        let record = batch.seal(commit);
        let written = self.file.write_all_at(record, self.bytes);
        let synced = written.and_then(|()| match is_synced {
            true => self.file.sync_data(),
            false => Ok(()),
        });
        if let Err(why) = synced {
            self.is_broken = true;
            return Err(errors::store_unavailable(why));
        }
        self.bytes += record.len() as u64;
        self.last = commit;
        Ok(commit)
    }

    /// Whether it can be written.
    pub fn takes_writes(&self) -> bool {
        !self.is_broken
    }
}

/// The journal can not be what was written.
#[derive(Debug, Error)]
pub enum Damaged {
    #[error(
        "{file} is damaged at byte {at}, and there are commits behind it that were acknowledged: bring back a backup, \
         or the file as it was"
    )]
    Record { file: String, at: u64 },
    #[error(
        "the journal has commit {found} where {expected} belongs: a file of it is missing; bring back a backup, or the file"
    )]
    Missing { found: u64, expected: u64 },
}

/// The files of the journal, by number.
pub fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != EXTENSION)
        {
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(number) = stem.and_then(|stem| stem.parse().ok()) {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Reads the files of a journal one after the other, and changes none before all are read.
pub struct Replay {
    /// The commit before the next one; 0 until the first was read.
    last: u64,
    /// The commits up to this one may be missing.
    needless: u64,
    /// Where the last whole record is, and how long it is.
    end: Option<(PathBuf, u64, usize)>,
    /// Where a file ends with a torn record, so that there must be nothing behind it.
    torn: Option<(PathBuf, u64)>,
}

impl Replay {
    /// Of the journal all of whose rows up to a commit are elsewhere.
    pub fn behind(needless: u64) -> Replay {
        Replay {
            last: 0,
            needless,
            end: None,
            torn: None,
        }
    }

    /// Gives `visit` each commit of a file and its rows.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when it can not be read, or is damaged.
    pub fn read(&mut self, path: &Path, mut visit: impl FnMut(u64, Written<'_>)) -> Result<()> {
        let last = self.records(path, |commit, rows| {
            each_row(rows, |row| visit(commit, row))
        })?;
        if let Some((at, bytes)) = last {
            self.end = Some((path.to_path_buf(), at, bytes));
        }
        Ok(())
    }

    /// Cuts off what is torn at the end, and writes the last record once more. Gives the last commit.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when that can not be written.
    pub fn end(self) -> Result<u64> {
        let failed = |why: io::Error| -> Failure { errors::store_unavailable(why) };
        if let Some((path, at)) = &self.torn {
            cut(path, *at).map_err(failed)?;
            tracing::warn!(
                file = name(path),
                at,
                "the journal ended with a torn commit that nobody was told of; cut it off"
            );
        }
        if let Some((path, at, bytes)) = &self.end {
            write_again(path, *at, *bytes).map_err(failed)?;
        }
        Ok(self.last.max(self.needless))
    }

    /// Says where the last whole record of the file is, and how long it is.
    fn records(
        &mut self,
        path: &Path,
        mut visit: impl FnMut(u64, &[u8]) -> Option<()>,
    ) -> Result<Option<(u64, usize)>> {
        let failed = |why: io::Error| -> Failure { errors::store_unavailable(why) };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::with_capacity(PIECE_BYTES, file);
        let (mut at, mut last, mut rows) = (0, None, Vec::new());
        loop {
            let header = match read_header(&mut file, length - at) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(last),
                Err(Torn::Failed(why)) => return Err(failed(why)),
                Err(Torn::Bad) => break,
            };
            rows.resize(header.rows, 0);
            file.read_exact(&mut rows).map_err(failed)?;
            if sum(header.commit, &rows) != header.sum {
                break;
            }
            if let Some((torn, at)) = &self.torn {
                return Err(damaged(torn, *at));
            }
            self.follow(header.commit)?;
            visit(header.commit, &rows).ok_or_else(|| damaged(path, at))?;
            let bytes = HEADER_BYTES + rows.len();
            last = Some((at, bytes));
            at += bytes as u64;
        }
        if self.torn.is_some() || self.is_whole_behind(path, at).map_err(failed)? {
            return Err(damaged(path, at));
        }
        self.torn = Some((path.to_path_buf(), at));
        Ok(last)
    }

    /// The next commit is this one.
    fn follow(&mut self, commit: u64) -> Result<()> {
        // Files that are not needed any more go in any order.
        let is_next = commit == self.last + 1 || commit <= self.needless + 1;
        if commit <= self.last || !is_next {
            return Err(errors::store_unavailable(Damaged::Missing {
                found: commit,
                expected: self.last.max(self.needless) + 1,
            }));
        }
        self.last = commit;
        Ok(())
    }

    /// Whether there is a later commit behind a bad place.
    fn is_whole_behind(&self, path: &Path, at: u64) -> io::Result<bool> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(at))?;
        let mut rest = Vec::new();
        file.read_to_end(&mut rest)?;
        let last = self.last.max(self.needless);
        let later = last + 1..last + COMMITS_OF_A_FILE_MAX;
        Ok((1..written(&rest)).any(|from| {
            let mut rest = &rest[from..];
            let length = rest.len() as u64;
            let Ok(Some(header)) = read_header(&mut rest, length) else {
                return false;
            };
            later.contains(&header.commit) && sum(header.commit, &rest[..header.rows]) == header.sum
        }))
    }
}

/// How much of what a file has was written, by pages: behind it there are zeros.
pub fn written(bytes: &[u8]) -> usize {
    const PAGE: [u8; 4096] = [0; 4096];
    let mut pages = bytes.chunks(PAGE.len());
    let is_written = |page: &[u8]| *page != PAGE[..page.len()];
    pages
        .rposition(is_written)
        .map_or(0, |last| bytes.len().min((last + 1) * PAGE.len()))
}

fn damaged(path: &Path, at: u64) -> Failure {
    let file = name(path);
    errors::store_unavailable(Damaged::Record { file, at })
}

struct Header {
    rows: usize,
    commit: u64,
    sum: u64,
}

enum Torn {
    Bad,
    Failed(io::Error),
}

/// The header of a record, when there are as many bytes as it says; none where nothing was written.
fn read_header(from: &mut impl Read, left: u64) -> Result<Option<Header>, Torn> {
    if left == 0 {
        return Ok(None);
    }
    let mut bytes = [0; HEADER_BYTES];
    if left < HEADER_BYTES as u64 {
        let bytes = &mut bytes[..left as usize];
        from.read_exact(bytes).map_err(Torn::Failed)?;
        let is_empty = bytes.iter().all(|byte| *byte == 0);
        return if is_empty { Ok(None) } else { Err(Torn::Bad) };
    }
    from.read_exact(&mut bytes).map_err(Torn::Failed)?;
    let (rows, rest) = bytes.split_first_chunk::<4>().ok_or(Torn::Bad)?;
    let (commit, rest) = rest.split_first_chunk::<8>().ok_or(Torn::Bad)?;
    let (sum, _) = rest.split_first_chunk::<8>().ok_or(Torn::Bad)?;
    let header = Header {
        rows: u32::from_le_bytes(*rows) as usize,
        commit: u64::from_le_bytes(*commit),
        sum: u64::from_le_bytes(*sum),
    };
    if bytes == [0; HEADER_BYTES] {
        return Ok(None);
    }
    match header.rows as u64 <= left - HEADER_BYTES as u64 {
        true => Ok(Some(header)),
        false => Err(Torn::Bad),
    }
}

/// Gives `visit` the rows of a record; none when they are no rows.
fn each_row<'a>(mut rows: &'a [u8], mut visit: impl FnMut(Written<'a>)) -> Option<()> {
    while !rows.is_empty() {
        let (header, rest) = rows.split_first_chunk::<ROW_HEADER_BYTES>()?;
        let [table, k0, k1, v0, v1, v2, v3] = *header;
        let (key, rest) = rest.split_at_checked(u16::from_le_bytes([k0, k1]).into())?;
        let value = u32::from_le_bytes([v0, v1, v2, v3]);
        let (value, rest) = match value {
            REMOVED => (None, rest),
            bytes => {
                let (value, rest) = rest.split_at_checked(usize::try_from(bytes).ok()?)?;
                (Some(value), rest)
            }
        };
        visit(Written {
            table: Table::of(table)?,
            key,
            value,
        });
        rows = rest;
    }
    Some(())
}

fn cut(path: &Path, at: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(at)?;
    file.sync_all()
}

fn write_again(path: &Path, at: u64, bytes: usize) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut record = vec![0; bytes];
    file.read_exact_at(&mut record, at)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&record)?;
    file.sync_all()
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    format!("journal/{}", name.to_string_lossy())
}
