//! A file of send keys, sorted, which is written once and never changed.
//!
//! ```text
//! blocks       4096 bytes each: 85 rows of 48 bytes, 8 bytes of a checksum, 8 that are zero
//! long         what did not fit into a row
//! first keys   that of each block, 24 bytes
//! filter       see `filter`
//! foot         what the file is, 80 bytes, with a checksum of itself and one of the first keys and the filter
//! ```
//! A row is a key and what it was used for: its length in a byte and up to 23 bytes; or 255, and where among the long
//! ones it is (8 bytes), how long (4 bytes), and its checksum (8 bytes). Numbers are little-endian, checksums are XXH3.
//!
//! A file gets its name when it is whole and synced, so that one that is there can be trusted to be whole.

use std::fs;
use std::io::{self, Write as _};
use std::ops::Deref;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tertulia_kit::error::{Failure, Result};
use tertulia_services::errors;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::filter::Filter;
use crate::rows::codec::SendHash;

const MAGIC: &[u8; 8] = b"TERTKEY1";
const BLOCK: usize = 4_096;
const ROW: usize = 48;
const ROWS_A_BLOCK: usize = 85;
/// Where the checksum of a block is.
const SUM: usize = ROW * ROWS_A_BLOCK;
const HASH: usize = 24;
const SHORT_MAX: usize = ROW - HASH - 1;
/// In the place of a length: what follows says where it is.
const LONG: u8 = u8::MAX;
const FOOT: usize = 80;
/// How many blocks are read at once by who reads them all.
const BLOCKS_AT_ONCE: usize = 64;
/// How a file is called until it is whole.
pub const UNFINISHED: &str = "new";

/// A file is not what was written.
#[derive(Debug, Error)]
#[error(
    "send_keys/{file} is damaged ({what}); who takes it out of the folder of the chats can go on, and repeats of what was \
     sent in its time are taken for new"
)]
struct Damaged {
    file: String,
    what: &'static str,
}

/// Which keys a file has: those of some commits, from one to another, in a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub week: i64,
    pub first: u64,
    pub last: u64,
}

impl Span {
    /// Whether everything of another span is in this one.
    pub fn covers(&self, other: &Span) -> bool {
        self.week == other.week && self.first <= other.first && other.last <= self.last
    }

    fn name(&self) -> String {
        format!("{}_{}_{}.keys", self.week, self.first, self.last)
    }
}

/// What a key was used for, as bytes; mostly so few that they take no memory of their own.
#[derive(Debug, Clone)]
pub enum Content {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<[u8]>),
}

impl Content {
    pub fn of(content: &[u8]) -> Content {
        let mut bytes = [0; SHORT_MAX];
        match bytes.get_mut(..content.len()) {
            Some(short) => {
                short.copy_from_slice(content);
                let length = content.len() as u8;
                Content::Short { length, bytes }
            }
            None => Content::Long(content.into()),
        }
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Content::Short { length, bytes } => &bytes[..usize::from(*length)],
            Content::Long(bytes) => bytes,
        }
    }
}

/// A key and what it was used for.
pub type Row = (SendHash, Content);

/// A file that is whole.
pub struct File {
    pub span: Span,
    /// How many keys it has.
    pub rows: u64,
    path: PathBuf,
    file: fs::File,
    first_keys: Vec<SendHash>,
    filter: Filter,
    long_at: u64,
}

impl File {
    /// Opens a file, of which what is small is read.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when it can not be read, `INTERNAL` when it is not what was written.
    pub fn open(path: &Path) -> Result<File> {
        let file = fs::File::open(path).map_err(errors::store_unavailable)?;
        let length = file.metadata().map_err(errors::store_unavailable)?.len();
        let foot_at = length
            .checked_sub(FOOT as u64)
            .ok_or_else(|| bad(path, "the foot"))?;
        let mut foot = [0; FOOT];
        read(&file, &mut foot, foot_at)?;
        let foot = Foot::read(&foot).ok_or_else(|| bad(path, "the foot"))?;
        let blocks = foot.rows.div_ceil(ROWS_A_BLOCK as u64);
        let long_at = blocks * BLOCK as u64;
        let tail_at = long_at + foot.long;
        let tail = foot_at
            .checked_sub(tail_at)
            .ok_or_else(|| bad(path, "the length"))?;
        let mut bytes = vec![0; tail as usize];
        read(&file, &mut bytes, tail_at)?;
        let (keys, filter) = bytes
            .split_at_checked(blocks as usize * HASH)
            .ok_or_else(|| bad(path, "the length"))?;
        let filter = Filter::read(filter).filter(|_| xxh3_64(&bytes) == foot.tail_sum);
        Ok(File {
            span: foot.span,
            rows: foot.rows,
            path: path.to_path_buf(),
            file,
            first_keys: keys.as_chunks().0.to_vec(),
            filter: filter.ok_or_else(|| bad(path, "the filter"))?,
            long_at,
        })
    }

    /// What a key was used for.
    ///
    /// # Errors
    /// As [`open`](File::open).
    pub fn find(&self, hash: &SendHash) -> Result<Option<Content>> {
        if !self.filter.may_have(hash) {
            return Ok(None);
        }
        let Some(block) = self.block_of(hash) else {
            return Ok(None);
        };
        let mut bytes = [0; BLOCK];
        read(&self.file, &mut bytes, (block * BLOCK) as u64)?;
        let rows = self.rows_of(block, &bytes)?;
        let place = rows.binary_search_by(|row| row[..HASH].cmp(hash));
        place
            .ok()
            .map(|place| Ok(self.row(&rows[place])?.1))
            .transpose()
    }

    /// The keys behind one, or all of them, in their order.
    pub fn rows(&self, after: Option<&SendHash>) -> Rows<'_> {
        Rows {
            file: self,
            next_block: after.and_then(|after| self.block_of(after)).unwrap_or(0),
            after: after.copied(),
            bytes: Vec::new(),
            read: Vec::new().into_iter(),
            is_broken: false,
        }
    }

    /// Takes the file away. Who reads it may go on.
    pub fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "a file of send keys that is not needed any more could not be removed");
        }
    }

    /// In which block a key is, if it is in the file.
    fn block_of(&self, hash: &SendHash) -> Option<usize> {
        self.first_keys
            .partition_point(|first| first <= hash)
            .checked_sub(1)
    }

    fn rows_of<'b>(&self, block: usize, bytes: &'b [u8]) -> Result<&'b [[u8; ROW]]> {
        let (rows, sum) = bytes.split_at(SUM);
        if !sum.starts_with(&xxh3_64(rows).to_le_bytes()) {
            return Err(self.bad("a block"));
        }
        let left = self.rows as usize - block * ROWS_A_BLOCK;
        Ok(&rows.as_chunks().0[..left.min(ROWS_A_BLOCK)])
    }

    fn row(&self, row: &[u8; ROW]) -> Result<Row> {
        let mut hash = [0; HASH];
        hash.copy_from_slice(&row[..HASH]);
        let (length, content) = (row[HASH], &row[HASH + 1..]);
        if length != LONG {
            let content = content.get(..usize::from(length));
            return Ok((hash, Content::of(content.ok_or_else(|| self.bad("a row"))?)));
        }
        let mut fields = Fields(content);
        let (at, length, sum) = (fields.u64(), fields.u32(), fields.u64());
        let mut bytes = vec![0; length as usize];
        read(&self.file, &mut bytes, self.long_at + at)?;
        match xxh3_64(&bytes) == sum {
            true => Ok((hash, Content::Long(bytes.into()))),
            false => Err(self.bad("a long row")),
        }
    }

    fn bad(&self, what: &'static str) -> Failure {
        bad(&self.path, what)
    }
}

/// The rows of a file. After a failure it ends.
pub struct Rows<'a> {
    file: &'a File,
    next_block: usize,
    after: Option<SendHash>,
    bytes: Vec<u8>,
    read: std::vec::IntoIter<Row>,
    is_broken: bool,
}

impl Rows<'_> {
    fn read(&mut self) -> Result<()> {
        let file = self.file;
        let blocks = (file.first_keys.len() - self.next_block).min(BLOCKS_AT_ONCE);
        self.bytes.resize(blocks * BLOCK, 0);
        read(
            &file.file,
            &mut self.bytes,
            (self.next_block * BLOCK) as u64,
        )?;
        let mut all = Vec::with_capacity(blocks * ROWS_A_BLOCK);
        for (n, bytes) in self.bytes.chunks_exact(BLOCK).enumerate() {
            for row in file.rows_of(self.next_block + n, bytes)? {
                let row = file.row(row)?;
                if self.after.is_none_or(|after| row.0 > after) {
                    all.push(row);
                }
            }
        }
        self.next_block += blocks;
        self.read = all.into_iter();
        Ok(())
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        loop {
            if let Some(row) = self.read.next() {
                return Some(Ok(row));
            }
            if self.is_broken || self.next_block == self.file.first_keys.len() {
                return None;
            }
            if let Err(why) = self.read() {
                self.is_broken = true;
                return Some(Err(why));
            }
        }
    }
}

/// Writes a file.
pub struct Writer {
    span: Span,
    folder: PathBuf,
    out: io::BufWriter<fs::File>,
    block: Vec<u8>,
    rows: u64,
    long: Vec<u8>,
    first_keys: Vec<u8>,
    filter: Filter,
}

impl Writer {
    /// Begins a file in `folder` that will have no more than `rows_max` keys.
    pub fn begin(folder: &Path, span: Span, rows_max: u64) -> io::Result<Writer> {
        let file = fs::File::create(unfinished(folder, &span))?;
        Ok(Writer {
            span,
            folder: folder.to_path_buf(),
            out: io::BufWriter::with_capacity(BLOCKS_AT_ONCE * BLOCK, file),
            block: Vec::with_capacity(BLOCK),
            rows: 0,
            long: Vec::new(),
            first_keys: Vec::new(),
            filter: Filter::for_keys(rows_max),
        })
    }

    /// Adds a row, whose key is above that of the one before.
    pub fn add(&mut self, hash: &SendHash, content: &[u8]) -> io::Result<()> {
        if self.block.is_empty() {
            self.first_keys.extend_from_slice(hash);
        }
        let begins = self.block.len();
        self.block.extend_from_slice(hash);
        if content.len() <= SHORT_MAX {
            self.block.push(content.len() as u8);
            self.block.extend_from_slice(content);
        } else {
            let length = u32::try_from(content.len()).map_err(io::Error::other)?;
            self.block.push(LONG);
            self.block
                .extend_from_slice(&(self.long.len() as u64).to_le_bytes());
            self.block.extend_from_slice(&length.to_le_bytes());
            self.block
                .extend_from_slice(&xxh3_64(content).to_le_bytes());
            self.long.extend_from_slice(content);
        }
        self.block.resize(begins + ROW, 0);
        self.filter.add(hash);
        self.rows += 1;
        match self.block.len() {
            SUM => self.end_block(),
            _ => Ok(()),
        }
    }

    /// Syncs the file and gives it its name.
    pub fn finish(mut self) -> io::Result<PathBuf> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.out.write_all(&self.long)?;
        let mut tail = std::mem::take(&mut self.first_keys);
        self.filter.write(&mut tail);
        self.out.write_all(&tail)?;
        let foot = Foot {
            span: self.span,
            rows: self.rows,
            long: self.long.len() as u64,
            tail_sum: xxh3_64(&tail),
        };
        self.out.write_all(&foot.bytes())?;
        let file = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let path = self.folder.join(self.span.name());
        fs::rename(unfinished(&self.folder, &self.span), &path)?;
        fs::File::open(&self.folder)?.sync_all()?;
        Ok(path)
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.block.resize(SUM, 0);
        let sum = xxh3_64(&self.block);
        self.block.extend_from_slice(&sum.to_le_bytes());
        self.block.resize(BLOCK, 0);
        self.out.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

/// What stands at the end of a file.
struct Foot {
    span: Span,
    rows: u64,
    long: u64,
    tail_sum: u64,
}

impl Foot {
    fn bytes(&self) -> [u8; FOOT] {
        let mut bytes = [0; FOOT];
        let numbers = [
            self.span.week.cast_unsigned(),
            self.span.first,
            self.span.last,
            self.rows,
            self.long,
            self.tail_sum,
        ];
        bytes[..8].copy_from_slice(MAGIC);
        for (number, place) in numbers.iter().zip(bytes[8..].chunks_exact_mut(8)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let sum = xxh3_64(&bytes[..FOOT - 8]);
        bytes[FOOT - 8..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// None when it is not what was written.
    fn read(bytes: &[u8; FOOT]) -> Option<Foot> {
        let (said, sum) = bytes.split_at(FOOT - 8);
        if !said.starts_with(MAGIC) || xxh3_64(said).to_le_bytes() != *sum {
            return None;
        }
        let mut fields = Fields(&said[8..]);
        let span = Span {
            week: fields.u64().cast_signed(),
            first: fields.u64(),
            last: fields.u64(),
        };
        Some(Foot {
            span,
            rows: fields.u64(),
            long: fields.u64(),
            tail_sum: fields.u64(),
        })
    }
}

/// Numbers one after the other, of which there are enough.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => [0; N],
        }
    }
}

/// Which file a name is of; none when it is another's.
pub fn span_of(name: &str) -> Option<Span> {
    let mut numbers = name.strip_suffix(".keys")?.split('_');
    let span = Span {
        week: numbers.next()?.parse().ok()?,
        first: numbers.next()?.parse().ok()?,
        last: numbers.next()?.parse().ok()?,
    };
    numbers.next().is_none().then_some(span)
}

fn unfinished(folder: &Path, span: &Span) -> PathBuf {
    folder.join(span.name()).with_extension(UNFINISHED)
}

fn read(file: &fs::File, bytes: &mut [u8], at: u64) -> Result<()> {
    file.read_exact_at(bytes, at)
        .map_err(errors::store_unavailable)
}

fn bad(file: &Path, what: &'static str) -> Failure {
    let file = file.file_name().unwrap_or_default();
    errors::internal(Damaged {
        file: file.to_string_lossy().into_owned(),
        what,
    })
}
