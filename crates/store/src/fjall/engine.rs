//! The engine: fjall, and its tables on disk. Rows come here sorted and many at once, from `flush`; what was committed
//! lately is in front of it, see `disk`.

mod journal;
mod unmade;

use std::path::Path;
use std::sync::Arc;

use ::fjall::compaction::Leveled;
use ::fjall::compaction::filter::Factory;
use ::fjall::config::CompressionPolicy;
use ::fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
    Slice, Snapshot,
};
use tertulia_kit::error::{Failure, Result};
use tertulia_services::chats::Epoch;
use tertulia_services::errors;
use thiserror::Error;

use super::disk::Table;
use super::pace::{Merging, Pace, has_few_processors};
use crate::rows::codec::Corrupt;
use crate::rows::corrupt;

/// The version of the tables that this program reads and writes.
pub const FORMAT: u32 = 5;
/// The version before it, in which commits go into the journal of the engine, and the newest send keys into a table.
const WITHOUT_JOURNAL: u32 = 4;
/// The version before that, in which all send keys are in tables.
const KEYS_IN_TABLES: u32 = 3;
/// The version before that, without the places of chats in the lists of users.
pub const UNLISTED: u32 = 2;
/// How much of its own journal the engine keeps at most; it is read again at a start.
const JOURNAL_BYTES_MAX: u64 = 192 << 20;
/// Where there are more than a few processors: two that merge, and one that only flushes. With a single one that merges
/// that one would turn idly round the queue, at the cost of a whole core, for as long as the other merges.
const WORKERS: usize = 3;
/// So many files of the newest rows of a table are merged at once. The more, the less often the others are written
/// again for it; and the more files are looked into by who reads a range.
pub const MERGED_AT_ONCE: u8 = 8;
/// How long a file is that comes of it. Each is synced when it is whole, and whoever syncs meanwhile waits for that. In
/// tests it is short, so that a few rows are a deep tree.
const FILE_BYTES: u64 = if cfg!(test) { 16 << 10 } else { 8 << 20 };

const META_FORMAT: &str = "format";
const META_EPOCH: &str = "epoch";
/// The last commit of which all rows are here.
const META_FLUSHED: &str = "flushed";

/// The engine.
pub struct Engine {
    pub db: Database,
    /// That of its workers, and of who brings rows here.
    pub pace: Arc<Pace>,
    /// In the order of [`Table::ALL`]; none for those that are not kept here.
    tables: [Option<Keyspace>; Table::COUNT],
}

/// The folder is not one that this program can use.
#[derive(Debug, Error)]
enum Unusable {
    #[error(
        "the logs are of format {found}, made by a version before the first release, \
         and can not be read any more"
    )]
    Old { found: u32 },
    #[error("the logs are of format {found}, and this program knows formats up to {FORMAT}")]
    Newer { found: u32 },
    #[error("there are chats without the format and the epoch of the logs")]
    NoMeta,
}

impl Engine {
    /// Opens the engine in `folder`, or makes it; with the table of the feed when one is kept. Says which epoch and
    /// which format the tables are of.
    pub fn open(folder: &Path, cache_bytes: u64, is_fed: bool) -> Result<(Engine, Epoch, u32)> {
        let pace = Arc::new(Pace::here());
        let db = database(folder, cache_bytes, &pace)?;
        // Before all others, which another format may not even have.
        let meta = open_table(&db, Table::Meta)?;
        let (epoch, format) = check_meta(&db, &meta)?;
        let mut tables = [const { None }; Table::COUNT];
        for table in Table::ALL {
            let is_kept = match table {
                Table::SendKeys => false,
                Table::Feed => is_fed || db.keyspace_exists(table.name()),
                _ => true,
            };
            if is_kept {
                tables[table as usize] = Some(open_table(&db, table)?);
            }
        }
        Ok((Engine { db, pace, tables }, epoch, format))
    }

    /// A table.
    ///
    /// # Errors
    /// `INTERNAL` when it is not kept here.
    pub fn table(&self, table: Table) -> Result<&Keyspace> {
        let found = self.tables[table as usize].as_ref();
        found.ok_or_else(|| errors::internal(format!("the table {} is not open", table.name())))
    }

    /// Has those tables merged further of which many files wait for it, when nothing is merged. The engine merges once
    /// for each file that it is given, and more than that may be to do.
    pub fn merge(&self) -> Result<()> {
        if self.db.active_compactions() > 0 {
            return Ok(());
        }
        // An engine that has failed merges nothing, however often it is asked.
        self.db.persist(PersistMode::Buffer).map_err(unavailable)?;
        let is_much = |table: &&Keyspace| table.l0_table_count() >= MERGED_AT_ONCE.into();
        self.tables().filter(is_much).try_for_each(|table| {
            // Without rows it leaves the table as it is, and is the only way to ask for it. The empty file that was to
            // take them is removed at the next start.
            let nothing = table.start_ingestion().map_err(unavailable)?;
            nothing.finish().map_err(unavailable)
        })
    }

    /// How many files wait to be merged in that of the tables that has most.
    pub fn unmerged(&self) -> usize {
        let files = self.tables().map(Keyspace::l0_table_count);
        files.max().unwrap_or(0)
    }

    /// All tables that are kept here.
    pub fn tables(&self) -> impl Iterator<Item = &Keyspace> {
        self.tables.iter().flatten()
    }

    /// The tables as they are now.
    pub fn snapshot(&self) -> Snapshot {
        self.db.snapshot()
    }

    /// A batch whose commit returns when it is on disk.
    pub fn batch(&self, rows: usize) -> OwnedWriteBatch {
        batch(&self.db, rows)
    }

    /// The last commit of which all rows are here.
    pub fn flushed(&self) -> Result<u64> {
        let flushed = self.table(Table::Meta)?.get(META_FLUSHED);
        let flushed = flushed.map_err(unavailable)?;
        flushed.map_or(Ok(0), |flushed| read_number(Some(flushed)))
    }

    /// Adds to a batch that all rows of the commits up to this one are here, with it.
    pub fn put_flushed(&self, batch: &mut OwnedWriteBatch, commit: u64) -> Result<()> {
        batch.insert(self.table(Table::Meta)?, META_FLUSHED, commit.to_be_bytes());
        Ok(())
    }

    /// Says that the tables are of this program's format. Older programs would not find what was committed lately.
    pub fn put_format(&self) -> Result<()> {
        let mut batch = self.batch(1);
        let format = FORMAT.to_be_bytes();
        batch.insert(self.table(Table::Meta)?, META_FORMAT, format);
        batch.commit().map_err(unavailable)
    }

    /// A table of an older format.
    pub fn old_table(&self, name: &str) -> Result<Keyspace> {
        let table = self.db.keyspace(name, KeyspaceCreateOptions::default);
        table.map_err(unavailable)
    }

    /// Whether the engine takes writes. After one that failed it takes none until it is opened anew: what a
    /// failed sync has left on the disk can not be known.
    pub fn takes_writes(&self) -> bool {
        // Says so, and writes nothing, as every batch is synced.
        self.db.persist(PersistMode::Buffer).is_ok()
    }
}

/// A row that is a number.
pub fn read_number(bytes: Option<Slice>) -> Result<u64> {
    let bytes = bytes.ok_or_else(|| corrupt(Corrupt("no position")))?;
    (*bytes)
        .try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| corrupt(Corrupt("the position")))
}

fn database(folder: &Path, cache_bytes: u64, pace: &Arc<Pace>) -> Result<Database> {
    unmade::clear(folder).map_err(errors::store_unavailable)?;
    journal::write_end_again(folder).map_err(errors::store_unavailable)?;
    let open = || {
        let merging: Arc<dyn Factory> = Arc::new(Merging(Arc::clone(pace)));
        Database::builder(folder)
            .cache_size(cache_bytes)
            .with_compaction_filter_factories(Arc::new(move |_| Some(Arc::clone(&merging))))
            .worker_threads(workers())
            // A batch is synced when it is written: what it costs to make it smaller is more than that brings.
            .journal_compression(CompressionType::None)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .open()
    };
    let db = match open() {
        Err(::fjall::Error::JournalRecovery(why)) => {
            if !journal::cut_torn_end(folder).map_err(errors::store_unavailable)? {
                return Err(unavailable(::fjall::Error::JournalRecovery(why)));
            }
            tracing::warn!(
                "the engine's journal ended with a torn batch that was not taken for written; cut it off"
            );
            open()
        }
        opened => opened,
    };
    db.map_err(unavailable)
}

/// Where there are few processors one thread merges, so that the others are left to those who send.
fn workers() -> usize {
    match has_few_processors() {
        true => 1,
        false => WORKERS,
    }
}

/// The epoch and the format of the tables.
fn check_meta(db: &Database, meta: &Keyspace) -> Result<(Epoch, u32)> {
    let format = meta.get(META_FORMAT).map_err(unavailable)?;
    let epoch = meta.get(META_EPOCH).map_err(unavailable)?;
    match (format, epoch) {
        (Some(format), Some(epoch)) => {
            let found = (*format).try_into().map(u32::from_be_bytes);
            let format = found.map_err(|_| corrupt(Corrupt("the format")))?;
            match format {
                FORMAT | WITHOUT_JOURNAL | KEYS_IN_TABLES | UNLISTED => {}
                found if found < UNLISTED => {
                    return Err(errors::store_unavailable(Unusable::Old { found }));
                }
                found => return Err(errors::store_unavailable(Unusable::Newer { found })),
            }
            let epoch = (*epoch).try_into().map(u64::from_be_bytes);
            let epoch = epoch.map_err(|_| corrupt(Corrupt("the epoch")))?;
            Ok((Epoch(epoch), format))
        }
        (None, None) if has_no_chats(db)? => Ok((write_meta(db, meta)?, FORMAT)),
        _ => Err(errors::store_unavailable(Unusable::NoMeta)),
    }
}

fn has_no_chats(db: &Database) -> Result<bool> {
    let name = Table::Chats.name();
    if !db.keyspace_exists(name) {
        return Ok(true);
    }
    let chats = db.keyspace(name, KeyspaceCreateOptions::default);
    chats
        .and_then(|chats| chats.is_empty())
        .map_err(unavailable)
}

fn write_meta(db: &Database, meta: &Keyspace) -> Result<Epoch> {
    let epoch: u64 = rand::random();
    let mut batch = batch(db, 3);
    batch.insert(meta, META_FORMAT, FORMAT.to_be_bytes());
    batch.insert(meta, META_EPOCH, epoch.to_be_bytes());
    batch.insert(meta, super::disk::META_POSITION, 0_u64.to_be_bytes());
    batch.commit().map_err(unavailable)?;
    Ok(Epoch(epoch))
}

fn batch(db: &Database, rows: usize) -> OwnedWriteBatch {
    OwnedWriteBatch::with_capacity(db.clone(), rows).durability(Some(PersistMode::SyncData))
}

fn open_table(db: &Database, table: Table) -> Result<Keyspace> {
    let options = || {
        let merging = Leveled::default()
            .with_l0_threshold(MERGED_AT_ONCE)
            .with_table_target_size(FILE_BYTES);
        KeyspaceCreateOptions::default()
            // For the few rows of a flush that are not worth a file.
            .max_memtable_size(4 << 20)
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
            .compaction_strategy(Arc::new(merging))
    };
    db.keyspace(table.name(), options).map_err(unavailable)
}

/// The engine failed.
pub fn unavailable(error: ::fjall::Error) -> Failure {
    errors::store_unavailable(error)
}
