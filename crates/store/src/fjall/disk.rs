//! The tables on disk: what they are, and opening them. Reading them is in `reader`; only the writer writes.
//!
//! ```text
//! chats         chat              -> commits, head, last message, kind, members, details
//! events        chat, seq         -> the commit, the event; messages as they are now
//! memberships   chat, user        -> what the chat is to the member
//! user_events   user, seq         -> the event
//! user_heads    user              -> the seq of its newest event
//! index         table, ...        -> everything that is small: see `rows::index`
//! fresh         position          -> the send keys of that commit, until they are in files: see `send_keys`
//! feed          position          -> when it was committed, which events it brought; when a feed is kept
//! meta          format, epoch, position; how far the feed has it, and from where on
//! ```
//! A table of the engine takes memory for what it has not yet written and files for what it has, also when it
//! is empty; so there is one for each large noun, and one for all the small ones.

use std::path::Path;
use std::sync::Arc;

use ::fjall::compaction::Leveled;
use ::fjall::config::CompressionPolicy;
use ::fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
    Slice, Snapshot,
};
use tertulia_kit::error::{Failure, Result};
use tertulia_kit::metrics::Counter;
use tertulia_services::chats::Epoch;
use tertulia_services::errors;
use thiserror::Error;

use super::feed;
use super::journal;
use super::lists;
use super::reader::Reader;
use super::unmade;
use crate::rows::codec::Corrupt;
use crate::rows::corrupt;

/// The version of the tables that this program reads and writes.
const FORMAT: u32 = 4;
/// The version before it, in which send keys are in tables.
const KEYS_IN_TABLES: u32 = 3;
/// The version before that, without the places of chats in the lists of users.
const UNLISTED: u32 = 2;
/// How much journal may wait for its rows to get into their tables; it is read again at a start.
const JOURNAL_BYTES_MAX: u64 = 192 << 20;
/// One for what is flushed and two for what is compacted. With a single one for that, the first turns idly round the
/// queue, at the cost of a whole core, for as long as the other compacts.
const WORKERS: usize = 3;

/// The tables.
pub struct Disk {
    pub db: Database,
    pub chats: Keyspace,
    pub events: Keyspace,
    pub memberships: Keyspace,
    pub user_events: Keyspace,
    pub user_heads: Keyspace,
    pub index: Keyspace,
    pub fresh: Keyspace,
    pub meta: Keyspace,
    /// None when no feed is kept.
    pub feed: Option<Keyspace>,
    pub reads: Reads,
}

/// What was asked of the tables and not of the caches before them.
#[derive(Debug, Default)]
pub struct Reads {
    /// How often: a row looked up, or a range of rows begun.
    pub asked: Counter,
    /// How many rows that gave.
    pub rows: Counter,
}

const CHATS: &str = "chats";
const META_FORMAT: &str = "format";
const META_EPOCH: &str = "epoch";
pub const META_POSITION: &str = "position";
/// The last commit that the feed has.
pub const META_FED: &str = "fed";
/// The place behind which the feed has everything.
pub const META_FED_FROM: &str = "fed_from";

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

impl Disk {
    /// Opens the tables in `folder`, or makes them; with that of the feed when one is kept.
    pub fn open(folder: &Path, cache_bytes: u64, is_fed: bool) -> Result<(Disk, Epoch)> {
        let db = database(folder, cache_bytes)?;
        let table = |name: &str, memtable_mib: u64| {
            db.keyspace(name, || table_options(memtable_mib))
                .map_err(unavailable)
        };
        // Before all others, which another format may not even have.
        let meta = table("meta", 4)?;
        let (epoch, format) = check_meta(&db, &meta)?;
        let disk = Disk {
            chats: table(CHATS, 16)?,
            events: events(&db)?,
            memberships: table("memberships", 8)?,
            user_events: table("user_events", 4)?,
            user_heads: table("user_heads", 4)?,
            index: table("index", 8)?,
            fresh: fresh(&db)?,
            feed: is_fed.then(|| table("feed", 4)).transpose()?,
            meta,
            reads: Reads::default(),
            db,
        };
        if format != FORMAT {
            if format == UNLISTED {
                lists::fill(&disk)?;
            }
            // Older programs would not know what to make of the send keys from here on; who opens those brings them.
            let mut batch = disk.batch(1);
            batch.insert(&disk.meta, META_FORMAT, FORMAT.to_be_bytes());
            batch.commit().map_err(unavailable)?;
        }
        if disk.feed.is_some() {
            feed::begin(&disk)?;
        }
        Ok((disk, epoch))
    }

    /// A table of an older format.
    pub fn table(&self, name: &str) -> Result<Keyspace> {
        let table = self.db.keyspace(name, KeyspaceCreateOptions::default);
        table.map_err(unavailable)
    }

    /// Reads the tables as they are now, whatever is committed meanwhile.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self)
    }

    /// Reads the tables as they were when a snapshot was taken.
    pub fn reader_at(&self, at: Snapshot) -> Reader<'_> {
        Reader::at(self, at)
    }

    /// A batch whose commit returns when it is on disk.
    pub fn batch(&self, rows: usize) -> OwnedWriteBatch {
        batch(&self.db, rows)
    }

    /// Whether the engine takes writes. After one that failed it takes none until it is opened anew: what a
    /// failed sync has left on the disk can not be known.
    pub fn takes_writes(&self) -> bool {
        // Says so, and writes nothing, as every commit is synced.
        self.db.persist(PersistMode::Buffer).is_ok()
    }

    /// The position of the last commit.
    pub fn position(&self) -> Result<u64> {
        read_position(self.meta.get(META_POSITION).map_err(unavailable)?)
    }
}

pub fn read_position(bytes: Option<Slice>) -> Result<u64> {
    let bytes = bytes.ok_or_else(|| corrupt(Corrupt("no position")))?;
    (*bytes)
        .try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| corrupt(Corrupt("the position")))
}

fn database(folder: &Path, cache_bytes: u64) -> Result<Database> {
    unmade::clear(folder).map_err(errors::store_unavailable)?;
    journal::write_end_again(folder).map_err(errors::store_unavailable)?;
    let open = || {
        Database::builder(folder)
            .cache_size(cache_bytes)
            .worker_threads(WORKERS)
            // A commit is synced when it is written: what it costs to make it smaller is more than that brings.
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
                "the journal ended with a torn batch that nobody was told of; cut it off"
            );
            open()
        }
        opened => opened,
    };
    db.map_err(unavailable)
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
                FORMAT | KEYS_IN_TABLES | UNLISTED => {}
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
    if !db.keyspace_exists(CHATS) {
        return Ok(true);
    }
    let chats = db.keyspace(CHATS, KeyspaceCreateOptions::default);
    chats
        .and_then(|chats| chats.is_empty())
        .map_err(unavailable)
}

fn write_meta(db: &Database, meta: &Keyspace) -> Result<Epoch> {
    let epoch: u64 = rand::random();
    let mut batch = batch(db, 3);
    batch.insert(meta, META_FORMAT, FORMAT.to_be_bytes());
    batch.insert(meta, META_EPOCH, epoch.to_be_bytes());
    batch.insert(meta, META_POSITION, 0_u64.to_be_bytes());
    batch.commit().map_err(unavailable)?;
    Ok(Epoch(epoch))
}

fn batch(db: &Database, rows: usize) -> OwnedWriteBatch {
    OwnedWriteBatch::with_capacity(db.clone(), rows).durability(Some(PersistMode::SyncData))
}

/// Most of what is written. The more tables of the newest rows are merged at once, and the smaller those are that come of
/// it, the less often the others are written again for it; and the more tables are looked into by who reads a part of a
/// log.
fn events(db: &Database) -> Result<Keyspace> {
    let options = || {
        let merging = Leveled::default()
            .with_l0_threshold(8)
            .with_table_target_size(32 << 20);
        table_options(32).compaction_strategy(Arc::new(merging))
    };
    db.keyspace("events", options).map_err(unavailable)
}

/// Few rows that are large and soon gone; half of each is random.
fn fresh(db: &Database) -> Result<Keyspace> {
    let options = || {
        table_options(32)
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
    };
    db.keyspace("fresh", options).map_err(unavailable)
}

fn table_options(memtable_mib: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable_mib << 20)
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
}

/// The engine failed.
pub fn unavailable(error: ::fjall::Error) -> Failure {
    errors::store_unavailable(error)
}
