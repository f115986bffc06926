//! Who writes sealed keys to files, and makes large files of small ones. It is nobody's way: until a file is there, its
//! keys are found in memory, and after a start in the journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tertulia_kit::error::{Failure, Result};
use tertulia_services::errors;

use super::file::{self, Content, File, Span};
use super::merge::{Merged, Sorted};
use super::{Fresh, SendKeys};
use crate::rows::codec;

/// How many files of about the same size become one.
const MERGED_AT_ONCE: usize = 8;
/// After how long it is tried again to write what could not be written.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// After how many rows of a large file it is asked whether the store closes.
const ASKED_AFTER: usize = 65_536;

/// The end of the writer. When it is dropped the keeper ends soon: what is sealed is still in the journal.
pub struct Keeper {
    keys: Arc<SendKeys>,
    waker: SyncSender<()>,
}

impl Keeper {
    /// Has the keeper look when something is sealed, which happens anyway if it was told so before.
    pub fn wake(&self) {
        if self.keys.room.has_sealed() {
            _ = self.waker.try_send(());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.keys.is_closing.store(true, Ordering::Relaxed);
    }
}

/// The end of the writer, and what the thread of the keeper runs until that end is dropped. `filed` is called when keys
/// have come into a file.
pub fn keeper(
    keys: &Arc<SendKeys>,
    filed: impl Fn() + Send + 'static,
) -> (Keeper, impl FnOnce() + Send + 'static) {
    let (waker, woken) = sync_channel(1);
    let keeper = Keeper {
        keys: Arc::clone(keys),
        waker,
    };
    let keys = Arc::clone(keys);
    (keeper, move || run(&keys, &woken, &filed))
}

fn run(keys: &SendKeys, woken: &Receiver<()>, filed: &dyn Fn()) {
    let mut has_failed = false;
    loop {
        let woken = match has_failed {
            false => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
            true => woken.recv_timeout(AGAIN_AFTER),
        };
        if let Err(RecvTimeoutError::Disconnected) = woken {
            return;
        }
        match keys.keep() {
            Ok(()) => {
                has_failed = false;
                filed();
            }
            Err(_) if keys.is_closing.load(Ordering::Relaxed) => return,
            Err(why) => {
                if !has_failed {
                    let cause = why.cause_chain().unwrap_or_default();
                    tracing::error!(
                        cause,
                        "send keys could not be written to a file; it is tried again"
                    );
                }
                has_failed = true;
            }
        }
    }
}

impl SendKeys {
    /// Files what is sealed, and merges what is to be merged.
    pub(super) fn keep(&self) -> Result<()> {
        loop {
            let sealed = self.kept.read().sealed.front().cloned();
            match sealed {
                Some(sealed) => self.file(&sealed)?,
                None => break,
            }
        }
        while self.merge()? {}
        Ok(())
    }

    fn file(&self, sealed: &Arc<Fresh>) -> Result<()> {
        let mut rows: Vec<_> = sealed.iter().collect();
        rows.sort_unstable_by_key(|(hash, _)| *hash);
        let span = sealed.span();
        let mut content = Vec::new();
        let rows = rows.into_iter().map(|(hash, used)| {
            codec::write_used(&mut content, used);
            Ok((hash, Content::of(&content)))
        });
        let file = self.write_file(span, sealed.count as u64, rows)?;
        {
            let mut kept = self.kept.write();
            kept.files.entry(span.week).or_default().push(file);
            kept.sealed.pop_front();
        }
        self.room.free();
        Ok(())
    }

    /// Makes one of some files; false when nothing is to be done.
    fn merge(&self) -> Result<bool> {
        let Some(files) = self.mergeable() else {
            return Ok(false);
        };
        let (oldest, newest) = (&files[0], &files[files.len() - 1]);
        let span = Span {
            last: newest.span.last,
            ..oldest.span
        };
        let rows = files.iter().map(|file| file.rows).sum();
        let places = files
            .iter()
            .map(|file| Box::new(file.rows(None)) as Sorted<'_>);
        let merged = self.write_file(span, rows, Merged::of(places)?)?;
        {
            let mut kept = self.kept.write();
            // It may have been forgotten meanwhile.
            let Some(of_week) = kept.files.get_mut(&span.week) else {
                merged.remove();
                return Ok(true);
            };
            let first = of_week.iter().position(|file| file.span == oldest.span);
            let first = first.ok_or_else(|| errors::internal("a file of send keys is gone"))?;
            of_week.splice(first..first + files.len(), [merged]);
        }
        files.iter().for_each(|file| file.remove());
        Ok(true)
    }

    /// Neighbours of about the same size, as many as become one.
    fn mergeable(&self) -> Option<Vec<Arc<File>>> {
        let kept = self.kept.read();
        for files in kept.files.values().rev() {
            let same_size = files.chunk_by(|a, b| self.size(a) == self.size(b));
            for files in same_size {
                if files.len() >= MERGED_AT_ONCE {
                    return Some(files[..MERGED_AT_ONCE].to_vec());
                }
            }
        }
        None
    }

    /// How often files were merged to come to one like this.
    fn size(&self, file: &File) -> u32 {
        let times = file.rows / self.fresh_max.max(1) as u64;
        times.checked_ilog(MERGED_AT_ONCE as u64).unwrap_or(0)
    }

    fn write_file(
        &self,
        span: Span,
        rows_max: u64,
        rows: impl Iterator<Item = Result<file::Row>>,
    ) -> Result<Arc<File>> {
        let failed = |error| -> Failure { errors::store_unavailable(error) };
        let mut file = file::Writer::begin(&self.folder, span, rows_max).map_err(failed)?;
        for (n, row) in rows.enumerate() {
            let (hash, content) = row?;
            file.add(&hash, &content).map_err(failed)?;
            if n % ASKED_AFTER == 0 && self.is_closing.load(Ordering::Relaxed) {
                return Err(errors::store_unavailable("it is closing"));
            }
        }
        let path = file.finish().map_err(failed)?;
        Ok(Arc::new(File::open(&path)?))
    }
}
