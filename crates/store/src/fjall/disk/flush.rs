//! Who brings what was committed into the engine: the oldest memtable at once, sorted, past the engine's journal and its
//! tables in memory. It is in nobody's way: until a memtable is there whole, it is read in front of the engine, and a
//! start after a kill makes it of the journal again and begins once more.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tertulia_kit::error::{Failure, Result};

use super::memtable::Memtable;
use super::{Disk, SEALED_MANY, Table};
use crate::fjall::engine::{MERGED_AT_ONCE, unavailable};
use crate::fjall::pace::UNMERGED_FILES_MAX;
use crate::fjall::shared::Shared;

/// Fewer rows of a table than that are not worth a file of their own.
const INGESTED_MIN: usize = 1_024;
/// So many files of a table wait to be merged, and nobody rests who merges.
const UNMERGED_FILES_MANY: usize = 12;
/// How often it is looked whether they are merged.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// After how long it is tried again to flush what could not be flushed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The end of who has something for it: the writer and the keeper of send keys. When all are dropped, everything is
/// flushed, and then the flusher ends.
#[derive(Clone)]
pub struct Flusher(SyncSender<()>);

impl Flusher {
    /// Has it look whether a memtable is sealed or a file of the journal may go, which happens anyway if it was told so
    /// before.
    pub fn wake(&self) {
        _ = self.0.try_send(());
    }
}

/// The end of the others, and what the thread of the flusher runs until all of those are dropped.
pub fn flusher(shared: &Arc<Shared>) -> (Flusher, impl FnOnce() + Send + 'static) {
    let (waker, woken) = sync_channel(1);
    let shared = Arc::clone(shared);
    (Flusher(waker), move || run(&shared, &woken))
}

fn run(shared: &Shared, woken: &Receiver<()>) {
    let mut has_failed = false;
    loop {
        // What a start has found in the journal is flushed at once.
        match flush_sealed(shared) {
            Ok(()) => has_failed = false,
            Err(why) => {
                failed(shared, &why, has_failed);
                has_failed = true;
            }
        }
        let disk = &shared.disk;
        let has_more = disk.room.has_sealed() || disk.engine.unmerged() >= MERGED_AT_ONCE.into();
        let woken = match (has_failed, has_more) {
            (true, _) => woken.recv_timeout(AGAIN_AFTER),
            (false, true) => woken.recv_timeout(LOOK_AGAIN_AFTER),
            (false, false) => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if let Err(RecvTimeoutError::Disconnected) = woken {
            break;
        }
    }
    if let Err(why) = flush_all(shared) {
        let cause = why.cause_chain().unwrap_or_default();
        tracing::warn!(
            cause,
            "what was committed last stays in the journal; the next start brings it into the tables"
        );
    }
}

/// Says it once. Only an engine that is opened anew takes writes again after one that failed.
fn failed(shared: &Shared, why: &Failure, is_known: bool) {
    let cause = why.cause_chain().unwrap_or_default();
    if !is_known {
        tracing::error!(
            cause,
            "what was committed could not be brought from the journal into the tables; it is tried again"
        );
    }
    if !shared.disk.engine.takes_writes() {
        shared.health.commit_failed(cause);
        shared.health.close();
    }
}

/// Flushes what is sealed, as far as the engine keeps up with merging, and prepares a file for what is committed next.
fn flush_sealed(shared: &Shared) -> Result<()> {
    let disk = &shared.disk;
    disk.prepare()?;
    loop {
        disk.drop_files(shared.send_keys.first_in_memory());
        disk.keep_pace();
        disk.engine.merge()?;
        if disk.engine.unmerged() >= UNMERGED_FILES_MAX || !disk.flush_oldest()? {
            return Ok(());
        }
    }
}

/// Flushes everything. Nobody writes any more. What has send keys that are in no file stays in the journal as well.
fn flush_all(shared: &Shared) -> Result<()> {
    let disk = &shared.disk;
    disk.engine.pace.hurry(true);
    while disk.flush_oldest()? {}
    disk.seal()?;
    while disk.flush_oldest()? {}
    disk.drop_files(shared.send_keys.first_in_memory());
    Ok(())
}

impl Disk {
    /// Brings the oldest sealed memtable into the engine, and takes it away; false when none is sealed.
    pub fn flush_oldest(&self) -> Result<bool> {
        let Some(oldest) = self.oldest_sealed() else {
            return Ok(false);
        };
        self.flush(&oldest)?;
        self.take_away(&oldest);
        Ok(true)
    }

    /// Hurries those who flush and merge while much waits for them, and lets them rest otherwise.
    pub(super) fn keep_pace(&self) {
        let (pace, unmerged) = (&self.engine.pace, self.engine.unmerged());
        let is_behind = unmerged >= UNMERGED_FILES_MANY || *self.room.taken.lock() >= SEALED_MANY;
        pace.hurry(is_behind);
        match pace.set_unmerged(unmerged) {
            Some(true) => tracing::warn!(
                unmerged,
                "merging is behind: what is sent is slowed down until it has caught up"
            ),
            Some(false) => tracing::info!("merging has caught up"),
            None => {}
        }
    }

    fn flush(&self, memtable: &Arc<Memtable>) -> Result<()> {
        let last = memtable.last(|| {});
        self.flushing.store(last, Ordering::SeqCst);
        for table in Table::ALL {
            self.ingest(memtable, table)?;
        }
        let mut batch = self.engine.batch(INGESTED_MIN);
        for table in Table::ALL {
            memtable.newest(table, |count, rows| {
                if count == 0 || count >= INGESTED_MIN {
                    return Ok(());
                }
                let table = self.engine.table(table)?;
                for (key, value) in rows {
                    match value {
                        None => batch.remove(table, key.clone()),
                        Some(value) => batch.insert(table, key.clone(), value.clone()),
                    }
                }
                Ok(())
            })?;
        }
        self.engine.put_flushed(&mut batch, last)?;
        batch.commit().map_err(unavailable)
    }

    pub(super) fn ingest(&self, memtable: &Memtable, table: Table) -> Result<()> {
        memtable.newest(table, |count, rows| {
            if count < INGESTED_MIN {
                return Ok(());
            }
            let table = self.engine.table(table)?;
            let mut ingestion = table.start_ingestion().map_err(unavailable)?;
            let mut work = self.engine.pace.begin();
            for (key, value) in rows {
                work.step();
                let written = match value {
                    None => ingestion.write_tombstone(key.clone()),
                    Some(value) => ingestion.write(key.clone(), value.clone()),
                };
                written.map_err(unavailable)?;
            }
            ingestion.finish().map_err(unavailable)
        })
    }

    /// Drops the files of the journal of which all is elsewhere. Send keys of the commit at the position `needed` and
    /// of later ones are nowhere else.
    pub fn drop_files(&self, needed: Option<u64>) {
        let mut flushed = self.flushed.lock();
        flushed.retain(|file| {
            let is_needed = match (needed, file.send_keys_to) {
                (Some(needed), Some(last)) => last >= needed,
                _ => false,
            };
            if !is_needed && let Err(why) = fs::remove_file(&file.path) {
                // A start finds nothing new in it and tries again.
                tracing::warn!(error = %why, "a file of the journal could not be removed");
            }
            is_needed
        });
    }
}
