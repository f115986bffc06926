//! Whether the logs can be written, as the lanes saw it last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tertulia_kit::error::{Failure, Result};
use tertulia_services::errors;

/// For how long a failed write counts when no other one was tried: whoever sends us no work because of it could
/// not find out that it is over.
const TOLD_FOR: Duration = Duration::from_secs(10);

/// What the lanes leave behind for whoever asks.
#[derive(Default)]
pub struct Health {
    /// Why the last commit failed, when it did. Guards a line of text.
    failed: Mutex<Option<(Instant, String)>>,
    gone: Arc<AtomicBool>,
}

/// Notes when what holds it ends, be it by a panic.
pub struct Watch(Arc<AtomicBool>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Health {
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.gone))
    }

    pub fn succeeded(&self) {
        let mut failed = self.failed.lock();
        if failed.take().is_some() {
            tracing::info!("the logs are written again");
        }
    }

    /// Only the first of failures in a row is logged.
    pub fn failed(&self, why: &Failure) {
        let cause = why.cause_chain().unwrap_or_default();
        let mut failed = self.failed.lock();
        if failed.is_none() {
            tracing::error!(cause, "the logs could not be written");
        }
        *failed = Some((Instant::now(), cause));
    }

    pub fn check(&self) -> Result<()> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(errors::store_unavailable("a writer has gone"));
        }
        match &*self.failed.lock() {
            Some((at, why)) if at.elapsed() < TOLD_FOR => Err(errors::store_unavailable(format!(
                "the last write failed: {why}"
            ))),
            _ => Ok(()),
        }
    }
}
