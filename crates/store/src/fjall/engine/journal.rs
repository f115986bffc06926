//! The end of the engine's journal after a failure of power or of the disk. The engine cuts off a last batch that is short,
//! but refuses one that is long enough and has holes: pages reach a disk in any order until they are synced.
//! Such a batch was never acknowledged, so it is cut off here.
//!
//! Only the very last batch can be torn like that, because each is synced before the next begins. A bad
//! batch with a good one behind it is damage to what was acknowledged, and is left for people to look at.
//!
//! A batch whose sync failed may be whole as long as the machine runs, and not be on the disk, and no later sync
//! would carry it there: what could not be written counts as written. So the last batch is written once more
//! before the engine goes on behind it.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// How much of a journal is read at once.
const PIECE_BYTES: u64 = 1 << 20;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const END_MARK: &[u8; 4] = b"FJL\x03";

/// Cuts a torn last batch off the newest journal in `folder`; says whether there was one. Nobody may have
/// the folder open.
pub fn cut_torn_end(folder: &Path) -> io::Result<bool> {
    let Some(path) = newest(folder)? else {
        return Ok(false);
    };
    let bytes = fs::read(&path)?;
    let mut good = 0;
    while let Some(length) = batch(&bytes[good..]) {
        good += length;
    }
    let rest = &bytes[good..];
    let torn = rest.first() == Some(&START);
    let good_behind = (1..rest.len()).any(|at| rest[at] == START && batch(&rest[at..]).is_some());
    if !torn || good_behind {
        return Ok(false);
    }
    let file = fs::OpenOptions::new().write(true).open(&path)?;
    file.set_len(good as u64)?;
    file.sync_all()?;
    Ok(true)
}

/// Writes the last batch of the newest journal in `folder` once more, in its place, and syncs it. Nobody may have
/// the folder open.
pub fn write_end_again(folder: &Path) -> io::Result<()> {
    let Some(path) = newest(folder)? else {
        return Ok(());
    };
    let mut file = fs::OpenOptions::new().read(true).write(true).open(&path)?;
    let Some((at, last)) = last_batch(&mut file)? else {
        return Ok(());
    };
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&last)?;
    file.sync_all()
}

/// Whether there is a whole batch in the newest journal in `folder`.
pub fn has_batch(folder: &Path) -> io::Result<bool> {
    let Some(path) = newest(folder)? else {
        return Ok(false);
    };
    Ok(last_batch(&mut fs::File::open(path)?)?.is_some())
}

/// The last whole batch, and where it begins. A journal is large and mostly empty, so it is read by pieces, and no
/// further than it is written.
fn last_batch(file: &mut fs::File) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut last = None;
    // What was read and not looked at, and where it begins.
    let (mut bytes, mut at) = (Vec::new(), 0);
    loop {
        let (mut length, mut newest) = (0, 0);
        while let Some(next) = batch(&bytes[length..]) {
            (newest, length) = (length, length + next);
        }
        if length > 0 {
            last = Some((at + newest as u64, bytes[newest..length].to_vec()));
        }
        bytes.drain(..length);
        at += length as u64;
        let may_go_on = bytes.first().is_none_or(|first| *first == START);
        if !may_go_on || file.take(PIECE_BYTES).read_to_end(&mut bytes)? == 0 {
            return Ok(last);
        }
    }
}

fn newest(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    // There is nothing before the first start.
    if !folder.is_dir() {
        return Ok(None);
    }
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_none_or(|extension| extension != "jnl") {
            continue;
        }
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        newest = newest.max(number.map(|number| (number, path)));
    }
    Ok(newest.map(|(_, path)| path))
}

/// How long the batch is that these bytes begin with; none when they begin with no whole and sound one.
fn batch(bytes: &[u8]) -> Option<usize> {
    let mut left = Left(bytes);
    if left.byte()? != START {
        return None;
    }
    let items = u32::from_le_bytes(left.take()?);
    let _seqno: [u8; 8] = left.take()?;
    let first = bytes.len() - left.0.len();
    for _ in 0..items {
        match left.byte()? {
            ITEM => {
                let _type_compression_table: [u8; 10] = left.take()?;
                let key = u16::from_le_bytes(left.take()?);
                let _value: [u8; 4] = left.take()?;
                let value_here = u32::from_le_bytes(left.take()?);
                left.skip(usize::from(key))?;
                left.skip(usize::try_from(value_here).ok()?)?;
            }
            CLEAR => left.skip(8)?,
            _ => return None,
        }
    }
    let last = bytes.len() - left.0.len();
    if left.byte()? != END {
        return None;
    }
    let sum = u64::from_le_bytes(left.take()?);
    let mark: [u8; 4] = left.take()?;
    let sound = mark == *END_MARK && xxh3_64(&bytes[first..last]) == sum;
    sound.then_some(bytes.len() - left.0.len())
}

/// What is left to be looked at.
struct Left<'a>(&'a [u8]);

impl Left<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use ::fjall::{Database, KeyspaceCreateOptions, PersistMode};

    use super::*;

    /// A folder with a journal of several pieces, and the batches in it: where each begins and ends.
    fn written(folder: &Path) -> Vec<(usize, usize)> {
        let db = Database::builder(folder).open().unwrap();
        let table = db.keyspace("table", KeyspaceCreateOptions::default);
        let table = table.unwrap();
        for n in 0..40_u8 {
            let mut batch = db.batch().durability(Some(PersistMode::SyncData));
            let noise: Vec<u8> = (0..100_000).map(|_| rand::random()).collect();
            batch.insert(&table, [n], noise);
            batch.insert(&table, [n, n], [n]);
            batch.commit().unwrap();
        }
        drop((table, db));
        let bytes = fs::read(newest(folder).unwrap().unwrap()).unwrap();
        let (mut batches, mut end) = (Vec::new(), 0);
        while let Some(length) = batch(&bytes[end..]) {
            batches.push((end, end + length));
            end += length;
        }
        assert!(batches.len() >= 40 && end > 3 * PIECE_BYTES as usize);
        batches
    }

    #[test]
    fn the_last_batch_is_written_once_more_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let batches = written(folder.path());
        let path = newest(folder.path()).unwrap().unwrap();
        let before = fs::read(&path).unwrap();
        let (start, end) = *batches.last().unwrap();
        let last = last_batch(&mut fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(last, Some((start as u64, before[start..end].to_vec())));
        write_end_again(folder.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_torn_end_is_not_the_last_batch() {
        let folder = tempfile::tempdir().unwrap();
        let batches = written(folder.path());
        let path = newest(folder.path()).unwrap().unwrap();
        let [.., (start, _), (_, end)] = batches[..] else {
            panic!("there are many");
        };
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(end as u64 - 1).unwrap();
        let last = last_batch(&mut fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(last.map(|(at, _)| at), Some(start as u64));
    }

    #[test]
    fn where_nothing_was_written_nothing_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        write_end_again(folder.path()).unwrap();
        write_end_again(&folder.path().join("nowhere")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
