//! Room for what is sealed, until somebody has filed or flushed it.

use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// How many sealed parts there may be.
pub const SEALED_MAX: usize = 4;
/// How long who seals waits for room.
const WAIT: Duration = Duration::from_secs(5);

/// The room.
pub struct Room {
    /// How many parts are sealed.
    pub taken: Mutex<usize>,
    /// One is no more; goes with `taken`.
    freed: Condvar,
}

impl Room {
    /// With so many sealed parts.
    pub fn with(taken: usize) -> Room {
        Room {
            taken: Mutex::new(taken),
            freed: Condvar::new(),
        }
    }

    /// Waits until there is room for one more, who seals then counts it; none when there is none for too long.
    pub fn wait(&self) -> Option<MutexGuard<'_, usize>> {
        let mut taken = self.taken.lock();
        let is_full = |taken: &mut usize| *taken >= SEALED_MAX;
        let waited = self.freed.wait_while_for(&mut taken, is_full, WAIT);
        (!waited.timed_out()).then_some(taken)
    }

    /// A sealed part is no more.
    pub fn free(&self) {
        *self.taken.lock() -= 1;
        self.freed.notify_all();
    }

    /// Whether anything is sealed.
    pub fn has_sealed(&self) -> bool {
        *self.taken.lock() > 0
    }
}
