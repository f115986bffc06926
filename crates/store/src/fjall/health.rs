//! Whether the logs can be written, as the writer saw it last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;
use tertulia_services::errors;
use tokio::sync::watch;

/// After how long a commit counts as stuck.
const COMMIT_STUCK_MS: i64 = 10_000;
/// No commit is under way.
const IDLE: i64 = i64::MAX;

/// What the writer leaves behind for whoever asks.
#[derive(Clone)]
pub struct Health(Arc<State>);

struct State {
    /// Why the last commit failed, when it did. Guards a line of text.
    failed: Mutex<Option<String>>,
    /// The engine takes no more writes.
    closed: watch::Sender<bool>,
    gone: AtomicBool,
    began_at_ms: AtomicI64,
}

impl Default for Health {
    fn default() -> Self {
        Health(Arc::new(State {
            failed: Mutex::default(),
            closed: watch::Sender::new(false),
            gone: AtomicBool::new(false),
            began_at_ms: AtomicI64::new(IDLE),
        }))
    }
}

impl Health {
    pub fn begin(&self, clock: &SharedClock) {
        self.0.began_at_ms.store(clock.now_ms(), Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.0.began_at_ms.store(IDLE, Ordering::Relaxed);
    }

    pub fn commit_failed(&self, why: String) {
        *self.0.failed.lock() = Some(why);
    }

    pub fn commit_succeeded(&self) {
        let mut failed = self.0.failed.lock();
        if failed.is_some() {
            *failed = None;
        }
    }

    /// The engine takes no more writes, for the reason that was said last.
    pub fn close(&self) {
        self.0.closed.send_replace(true);
    }

    /// Whether the engine takes no more writes.
    pub fn is_closed(&self) -> bool {
        *self.0.closed.borrow()
    }

    /// Waits until the engine takes no more writes, maybe for ever.
    pub async fn closed(&self) {
        let mut closed = self.0.closed.subscribe();
        // The sender is as old as we are.
        _ = closed.wait_for(|closed| *closed).await;
    }

    /// Notes when `run` ends, be it by a panic.
    pub fn watch(&self, run: impl FnOnce() + Send + 'static) -> impl FnOnce() + Send + 'static {
        struct Gone(Health);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.0.gone.store(true, Ordering::Relaxed);
            }
        }
        let gone = Gone(self.clone());
        move || {
            let _gone = gone;
            run();
        }
    }

    pub fn check(&self, clock: &SharedClock) -> Result<()> {
        let state = &self.0;
        if state.gone.load(Ordering::Relaxed) {
            return Err(errors::store_unavailable("the writer has gone"));
        }
        if let Some(why) = &*state.failed.lock() {
            return Err(errors::store_unavailable(format!(
                "the last write failed: {why}"
            )));
        }
        let began_at_ms = state.began_at_ms.load(Ordering::Relaxed);
        if clock.now_ms().saturating_sub(began_at_ms) > COMMIT_STUCK_MS {
            return Err(errors::store_unavailable("a commit does not end"));
        }
        Ok(())
    }
}
