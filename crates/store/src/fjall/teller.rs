//! Who tells the listener what was committed, in the order of the commits, and then answers who had it committed: so
//! whoever has written is woken once, for the event and the answer.
//!
//! Mostly that is a thread of its own, so that the next commit does not wait for it. When there is nothing to be
//! committed next, the writer does it itself: to wake another thread costs more than the telling.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tertulia_services::chats::{Committed, Fact};

use super::outcome::Outcome;

/// How many committed batches may wait for the listener. Full: the writer waits.
const UNTOLD_BATCHES_MAX: usize = 64;
/// How many facts the writer tells itself.
const TOLD_BY_WRITER_MAX: usize = 16;

/// What was committed, and what it came to for whom.
pub struct Told {
    pub facts: Vec<Fact>,
    pub outcomes: Vec<Outcome>,
}

/// The writer's end.
pub struct Teller {
    committed: Arc<dyn Committed>,
    queue: SyncSender<Told>,
    /// How many batches were put into the queue and are not told to their end.
    untold: Arc<AtomicUsize>,
}

/// The end of the thread.
pub struct Telling {
    committed: Arc<dyn Committed>,
    queue: Receiver<Told>,
    untold: Arc<AtomicUsize>,
}

/// Both ends.
pub fn teller(committed: Arc<dyn Committed>) -> (Teller, Telling) {
    let (to_thread, queue) = sync_channel(UNTOLD_BATCHES_MAX);
    let untold = Arc::new(AtomicUsize::new(0));
    let teller = Teller {
        committed: Arc::clone(&committed),
        queue: to_thread,
        untold: Arc::clone(&untold),
    };
    let telling = Telling {
        committed,
        queue,
        untold,
    };
    (teller, telling)
}

impl Teller {
    /// Has it told after all that came before; here and now when `is_idle` says that nothing else is to be done, and
    /// that is not much. Waits while too much is untold.
    pub fn tell(&self, told: Told, is_idle: bool) {
        let is_little = told.facts.len() <= TOLD_BY_WRITER_MAX;
        // Only the writer adds to what is untold, so that nothing can come between.
        if is_idle && is_little && self.untold.load(Ordering::Acquire) == 0 {
            tell(&*self.committed, told);
            return;
        }
        self.untold.fetch_add(1, Ordering::Relaxed);
        if self.queue.send(told).is_err() {
            tracing::error!("nobody tells what is committed");
        }
    }
}

impl Telling {
    /// Tells until the writer ends.
    pub fn run(self) {
        while let Ok(told) = self.queue.recv() {
            tell(&*self.committed, told);
            self.untold.fetch_sub(1, Ordering::Release);
        }
    }
}

/// One listener that fails once must not silence all that comes after.
fn tell(committed: &dyn Committed, told: Told) {
    if catch_unwind(AssertUnwindSafe(|| committed.committed(told.facts))).is_err() {
        tracing::error!("what was committed could not be told");
    }
    told.outcomes.into_iter().for_each(Outcome::tell);
}
