//! The tables: what they are, how they are written and how they are read.
//!
//! ```text
//! chats         chat              -> commits, head, last message, kind, members, details
//! events        chat, seq         -> the commit, the event; messages as they are now
//! memberships   chat, user        -> what the chat is to the member
//! user_events   user, seq         -> the event
//! user_heads    user              -> the seq of its newest event
//! index         table, ...        -> everything that is small: see `rows::index`
//! feed          position          -> when it was committed, which events it brought; when a feed is kept
//! meta          format, epoch, position; how far the feed has it, and from where on
//! ```
//! A table of the engine takes memory for what it has not yet written and files for what it has, also when it
//! is empty; so there is one for each large noun, and one for all the small ones.
//!
//! ```text
//! commit ──► a record of the journal, synced     (durable)
//!        └─► the memtable ──► sealed ──► sorted into the engine     (`flush`)
//! ```
//! A commit waits for the disk once, and never for the engine, which stops those who write to it while it flushes and
//! merges. What is read is read in the memtables first, the newest before the others, and then in the engine; all at
//! one commit, which is a [`Moment`]. After a start the memtables are made of the journal.

mod flush;
mod journal;
mod memtable;
mod moment;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ::fjall::Slice;
use parking_lot::{Mutex, RwLock};
use tertulia_kit::error::{Failure, Result};
use tertulia_kit::metrics::Counter;
use tertulia_services::chats::Epoch;
use tertulia_services::errors;

use super::engine::{Engine, FORMAT, UNLISTED, read_number};
use super::reader::Reader;
use super::room::Room;
use super::{feed, lists};
use journal::{Empty, Journal, Replay};
use memtable::Memtable;

pub use flush::{Flusher, flusher};
pub use journal::Batch;
pub use moment::{KeyValue, Moment, Rows};

/// How much is committed before it is sealed and flushed: bytes of the journal, or of the memtable.
const SEALED_AT_BYTES: u64 = 64 << 20;
/// So many sealed memtables, and nobody rests who flushes them.
const SEALED_MANY: usize = 2;
const FOLDER: &str = "journal";

pub const META_POSITION: &str = "position";
/// The last commit that the feed has.
pub const META_FED: &str = "fed";
/// The place behind which the feed has everything.
pub const META_FED_FROM: &str = "fed_from";

/// A table. The numbers are in the journal and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    Chats = 0,
    Events = 1,
    Memberships = 2,
    UserEvents = 3,
    UserHeads = 4,
    Index = 5,
    Feed = 6,
    Meta = 7,
    /// The send keys of each commit; only the journal has them, until they are in files: see `send_keys`.
    SendKeys = 8,
}

impl Table {
    pub const COUNT: usize = 9;
    pub const ALL: [Table; Table::COUNT] = [
        Table::Chats,
        Table::Events,
        Table::Memberships,
        Table::UserEvents,
        Table::UserHeads,
        Table::Index,
        Table::Feed,
        Table::Meta,
        Table::SendKeys,
    ];

    fn of(number: u8) -> Option<Table> {
        Table::ALL.get(usize::from(number)).copied()
    }

    pub fn name(self) -> &'static str {
        match self {
            Table::Chats => "chats",
            Table::Events => "events",
            Table::Memberships => "memberships",
            Table::UserEvents => "user_events",
            Table::UserHeads => "user_heads",
            Table::Index => "index",
            Table::Feed => "feed",
            Table::Meta => "meta",
            Table::SendKeys => "send_keys",
        }
    }
}

/// The tables.
pub struct Disk {
    pub engine: Engine,
    folder: PathBuf,
    /// Guards the end of the journal: commits come one after the other.
    journal: Mutex<Journal>,
    /// A file for the journal that is not used yet. Guards its making.
    prepared: Mutex<Prepared>,
    /// The newest first: that which is written, and those that are sealed.
    memtables: RwLock<Arc<[Arc<Memtable>]>>,
    /// For sealed memtables. Full: the writer waits for the flusher.
    room: Room,
    /// The last commit of which something may be in the engine.
    flushing: AtomicU64,
    /// Files of the journal whose rows are in the engine.
    flushed: Mutex<Vec<Flushed>>,
    /// How many moments there are.
    moments: AtomicUsize,
    pub is_fed: bool,
    pub reads: Reads,
    /// What happens while a moment is taken.
    #[cfg(test)]
    meanwhile: Mutex<Option<Meanwhile>>,
}

#[cfg(test)]
type Meanwhile = Box<dyn FnOnce(&Disk) + Send>;

struct Prepared {
    empty: Option<Empty>,
    next_number: u64,
}

/// A file of the journal, and the position of the last commit in it that has send keys.
struct Flushed {
    path: PathBuf,
    send_keys_to: Option<u64>,
}

/// Tables that were opened.
pub struct Opened {
    pub disk: Disk,
    pub epoch: Epoch,
    /// The send keys that the journal has, by the position of their commit.
    pub send_keys: Vec<(u64, Slice)>,
}

impl Disk {
    /// Opens the tables in `folder`, or makes them; with that of the feed when one is kept. What the journal has that
    /// is not in the engine is in memtables then.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when they can not be read, or are not what was written.
    pub fn open(folder: &Path, cache_bytes: u64, is_fed: bool) -> Result<Opened> {
        let (engine, epoch, format) = Engine::open(folder, cache_bytes, is_fed)?;
        let found = Found::read(&folder.join(FOLDER), engine.flushed()?)?;
        let disk = Disk {
            folder: folder.join(FOLDER),
            prepared: Mutex::new(Prepared {
                empty: None,
                next_number: found.next_number,
            }),
            journal: Mutex::new(found.journal),
            room: Room::with(found.memtables.len() - 1),
            memtables: RwLock::new(found.memtables.into()),
            flushing: AtomicU64::new(0),
            flushed: Mutex::new(found.flushed),
            moments: AtomicUsize::new(0),
            is_fed,
            reads: Reads::default(),
            #[cfg(test)]
            meanwhile: Mutex::default(),
            engine,
        };
        if format != FORMAT {
            if format == UNLISTED {
                lists::fill(&disk)?;
            }
            disk.engine.put_format()?;
        }
        if is_fed {
            feed::begin(&disk)?;
        }
        Ok(Opened {
            disk,
            epoch,
            send_keys: found.send_keys,
        })
    }

    /// Reads the tables as they are now, whatever is committed meanwhile.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self)
    }

    /// The tables as they are now, whatever is committed meanwhile.
    pub fn moment(&self) -> Moment<'_> {
        Moment::now(self)
    }

    /// The position of the last commit.
    pub fn position(&self) -> Result<u64> {
        read_number(self.moment().get(Table::Meta, META_POSITION.as_bytes())?)
    }

    /// Commits a batch, and returns when it is on disk. The batch is an empty one then.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`: nothing of it can be read, and [`takes_writes`](Self::takes_writes) says whether another
    /// one may follow.
    pub fn commit(&self, batch: &mut Batch) -> Result<()> {
        self.write(batch, true)
    }

    /// Commits a batch without waiting for the disk, which breaks what is promised.
    pub fn commit_unsynced(&self, batch: &mut Batch) -> Result<()> {
        self.write(batch, false)
    }

    fn write(&self, batch: &mut Batch, is_synced: bool) -> Result<()> {
        let mut journal = self.journal.lock();
        let commit = journal.append(batch, is_synced)?;
        let active = Arc::clone(&self.memtables.read()[0]);
        if let Some(position) = batch.send_keys_at {
            active.send_keys_to.store(position, Ordering::Relaxed);
        }
        let is_read = || self.moments.load(Ordering::Acquire) > 0;
        active.take_in(commit, batch.rows.drain(..), is_read);
        batch.clear();
        Ok(())
    }

    /// Whether the journal takes writes. After one that failed it takes none until it is opened anew: what a failed
    /// sync has left on the disk can not be known.
    pub fn takes_writes(&self) -> bool {
        self.journal.lock().takes_writes()
    }

    /// Whether so much was committed that it is to be sealed.
    pub fn is_full(&self) -> bool {
        self.journal.lock().bytes >= SEALED_AT_BYTES
            || self.memtables.read()[0].bytes() as u64 >= SEALED_AT_BYTES
    }

    /// Seals what was committed, so that it can be flushed; what comes next goes into another file and another memtable.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when too much is sealed and can not be flushed, or no file can be made.
    pub fn seal(&self) -> Result<()> {
        let mut sealed = self.room.wait().ok_or_else(|| {
            let why = "what was committed can not be brought from the journal into the tables";
            errors::store_unavailable(why)
        })?;
        let mut journal = self.journal.lock();
        if !journal.takes_writes() {
            return Err(errors::store_unavailable("the journal takes no writes"));
        }
        if journal.bytes == 0 {
            return Ok(());
        }
        let empty = self.take_prepared().map_err(errors::store_unavailable)?;
        let last = journal.last;
        let memtable = Arc::new(Memtable::new(empty.path.clone(), last));
        *journal = Journal::begin(empty, last);
        let mut memtables = self.memtables.write();
        let older = memtables.iter().cloned();
        *memtables = std::iter::once(memtable).chain(older).collect();
        *sealed += 1;
        if *sealed >= SEALED_MANY {
            self.engine.pace.hurry(true);
        }
        Ok(())
    }

    /// Has a file for what is committed after the next seal, so that nobody waits for its making.
    fn prepare(&self) -> Result<()> {
        let mut prepared = self.prepared.lock();
        if prepared.empty.is_none() {
            let empty = prepared.make(&self.folder);
            prepared.empty = Some(empty.map_err(errors::store_unavailable)?);
        }
        Ok(())
    }

    fn take_prepared(&self) -> io::Result<Empty> {
        let mut prepared = self.prepared.lock();
        match prepared.empty.take() {
            Some(empty) => Ok(empty),
            None => prepared.make(&self.folder),
        }
    }

    fn oldest_sealed(&self) -> Option<Arc<Memtable>> {
        match &**self.memtables.read() {
            [_, .., oldest] => Some(Arc::clone(oldest)),
            _ => None,
        }
    }

    /// Takes a memtable away of which all is in the engine.
    fn take_away(&self, memtable: &Arc<Memtable>) {
        {
            let mut memtables = self.memtables.write();
            let others = memtables
                .iter()
                .filter(|other| !Arc::ptr_eq(other, memtable));
            *memtables = others.cloned().collect();
        }
        self.flushed.lock().push(Flushed::of(memtable));
        self.room.free();
    }
}

impl Prepared {
    fn make(&mut self, folder: &Path) -> io::Result<Empty> {
        let number = self.next_number;
        self.next_number += 1;
        Empty::make(folder, number)
    }
}

impl Flushed {
    fn of(memtable: &Memtable) -> Flushed {
        let last = memtable.send_keys_to.load(Ordering::Relaxed);
        Flushed {
            path: memtable.file.clone(),
            send_keys_to: (last > 0).then_some(last),
        }
    }
}

/// What a start finds in the journal.
struct Found {
    journal: Journal,
    /// The newest first; into the first goes what comes.
    memtables: Vec<Arc<Memtable>>,
    flushed: Vec<Flushed>,
    send_keys: Vec<(u64, Slice)>,
    next_number: u64,
}

impl Found {
    /// Reads the journal in a folder, of which the engine has all commits up to `in_engine`.
    fn read(folder: &Path, in_engine: u64) -> Result<Found> {
        let failed = |why: io::Error| -> Failure { errors::store_unavailable(why) };
        make_folder(folder).map_err(failed)?;
        let mut replay = Replay::behind(in_engine);
        let (mut sealed, mut flushed, mut needless) = (VecDeque::new(), Vec::new(), Vec::new());
        let (mut send_keys, mut number) = (Vec::new(), 0);
        for (of_file, path) in journal::files(folder).map_err(failed)? {
            number = of_file + 1;
            let memtable = Memtable::new(path.clone(), 0);
            replay.read(&path, |commit, row| {
                if row.table == Table::SendKeys {
                    let position = read_number(Some(row.key.into())).unwrap_or_default();
                    memtable.send_keys_to.store(position, Ordering::Relaxed);
                    let keys = row.value.map(Slice::from);
                    send_keys.extend(keys.map(|keys| (position, keys)));
                } else if commit > in_engine {
                    memtable.take_in(commit, [row.to_row()], || false);
                }
            })?;
            let of_file = Flushed::of(&memtable);
            if !memtable.is_empty() {
                sealed.push_front(Arc::new(memtable));
            } else if of_file.send_keys_to.is_some() {
                flushed.push(of_file);
            } else {
                needless.push(path);
            }
        }
        let last = replay.end()?;
        for path in needless {
            fs::remove_file(path).map_err(failed)?;
        }
        let empty = Empty::make(folder, number).map_err(failed)?;
        let active = Arc::new(Memtable::new(empty.path.clone(), last));
        sealed.push_front(active);
        Ok(Found {
            journal: Journal::begin(empty, last),
            memtables: sealed.into(),
            flushed,
            send_keys,
            next_number: number + 1,
        })
    }
}

/// Makes a folder that is there after a failure of power, too.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let parents = folder.ancestors().skip(1).take(2);
    for parent in parents.filter(|parent| parent.is_dir()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// What was asked of the tables and not of the caches before them.
#[derive(Debug, Default)]
pub struct Reads {
    /// How often: a row looked up, or a range of rows begun.
    pub asked: Counter,
    /// How many rows that gave.
    pub rows: Counter,
}

#[cfg(test)]
mod tests;
