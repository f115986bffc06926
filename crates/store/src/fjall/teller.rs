//! Who tells the listener what was committed, in the order of the commits.
//!
//! Mostly that is a thread of its own, so that the next commit does not wait for it. When there is nothing to be
//! committed next, the writer tells it itself: to wake another thread costs more than the telling.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tertulia_services::chats::{Committed, Fact};

/// How many committed batches may wait for the listener. Full: the writer waits.
const UNTOLD_BATCHES_MAX: usize = 64;
/// How many facts the writer tells itself.
const TOLD_BY_WRITER_MAX: usize = 16;

/// The writer's end.
pub struct Teller {
    committed: Arc<dyn Committed>,
    queue: SyncSender<Vec<Fact>>,
    /// How many batches were put into the queue and are not told to their end.
    untold: Arc<AtomicUsize>,
}

/// The end of the thread.
pub struct Telling {
    committed: Arc<dyn Committed>,
    queue: Receiver<Vec<Fact>>,
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
    /// Tells them here and now, unless they are many or older ones are untold: then it gives them back.
    pub fn tell_here(&self, facts: Vec<Fact>) -> Option<Vec<Fact>> {
        // Only the writer adds to what is untold, so that nothing can come between.
        if facts.len() > TOLD_BY_WRITER_MAX || self.untold.load(Ordering::Acquire) > 0 {
            return Some(facts);
        }
        tell(&*self.committed, facts);
        None
    }

    /// Has them told after all that came before. Waits while too much is untold.
    pub fn tell(&self, facts: Vec<Fact>) {
        self.untold.fetch_add(1, Ordering::Relaxed);
        if self.queue.send(facts).is_err() {
            tracing::error!("nobody tells what is committed");
        }
    }
}

impl Telling {
    /// Tells until the writer ends.
    pub fn run(self) {
        while let Ok(facts) = self.queue.recv() {
            tell(&*self.committed, facts);
            self.untold.fetch_sub(1, Ordering::Release);
        }
    }
}

/// One listener that fails once must not silence all that comes after.
fn tell(committed: &dyn Committed, facts: Vec<Fact>) {
    if catch_unwind(AssertUnwindSafe(|| committed.committed(facts))).is_err() {
        tracing::error!("what was committed could not be told");
    }
}
