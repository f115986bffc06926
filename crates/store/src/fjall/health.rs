//! Whether the logs can be written, as the writer saw it last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;
use tertulia_services::errors;

/// After how long a commit counts as stuck.
const COMMIT_STUCK_MS: i64 = 10_000;
/// No commit is under way.
const IDLE: i64 = i64::MAX;

/// What the writer leaves behind for whoever asks.
#[derive(Clone)]
pub struct Health(Arc<State>);

struct State {
    failed: AtomicBool,
    gone: AtomicBool,
    began_at_ms: AtomicI64,
}

impl Default for Health {
    fn default() -> Self {
        Health(Arc::new(State {
            failed: AtomicBool::new(false),
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

    pub fn commit_failed(&self) {
        self.0.failed.store(true, Ordering::Relaxed);
    }

    pub fn commit_succeeded(&self) {
        self.0.failed.store(false, Ordering::Relaxed);
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
        if state.failed.load(Ordering::Relaxed) {
            return Err(errors::store_unavailable("the last commit failed"));
        }
        let began_at_ms = state.began_at_ms.load(Ordering::Relaxed);
        if clock.now_ms().saturating_sub(began_at_ms) > COMMIT_STUCK_MS {
            return Err(errors::store_unavailable("a commit does not end"));
        }
        Ok(())
    }
}
