//! The pace of those who flush and merge. They have time, and those who send have none: where there are few processors,
//! they rest as long as they work, a millisecond at a time. When they fall behind, they do not rest; and when they fall
//! behind further, those who send are held back, a little more for each file that waits to be merged, so that nobody has
//! to stop until all of it is.

use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ::fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};
use parking_lot::{Condvar, Mutex};

/// Where there are more processors nobody needs to rest.
const FEW_PROCESSORS: usize = 2;
/// How long is worked before a rest, and how long that is.
const TURN: Duration = Duration::from_millis(1);
/// After how many rows it is looked at the clock.
const ROWS: u32 = 64;

/// From so many files of a table on that wait to be merged who commits is held back.
pub const HELD_FROM: usize = 14;
/// With so many, for as long as a commit may be; and what is sealed waits, for one more would cost those who read too
/// much.
pub const UNMERGED_FILES_MAX: usize = 24;
/// How long a commit is held back at most.
const HELD_MAX: Duration = Duration::from_millis(80);

/// Whether there are so few processors that those who have time are to leave them to the others.
pub fn has_few_processors() -> bool {
    thread::available_parallelism().map_or(true, |processors| processors.get() <= FEW_PROCESSORS)
}

/// The pace.
pub struct Pace {
    turn: Option<Duration>,
    /// Whether somebody may have to wait.
    is_behind: Mutex<bool>,
    /// It is so now; goes with `is_behind`.
    hurried: Condvar,
    /// How many files wait to be merged, of the table that has most.
    unmerged: AtomicUsize,
    /// They are few again; goes with `is_behind`.
    eased: Condvar,
}

impl Pace {
    /// That of this machine.
    pub fn here() -> Pace {
        Pace::with(has_few_processors().then_some(TURN))
    }

    fn with(turn: Option<Duration>) -> Pace {
        Pace {
            turn,
            is_behind: Mutex::new(false),
            hurried: Condvar::new(),
            unmerged: AtomicUsize::new(0),
            eased: Condvar::new(),
        }
    }

    /// From now on nobody rests; or those rest who have worked.
    pub fn hurry(&self, is_behind: bool) {
        *self.is_behind.lock() = is_behind;
        self.hurried.notify_all();
    }

    /// So many files wait to be merged. Says whether others are held back for it now who were not, or the other way round.
    pub fn set_unmerged(&self, files: usize) -> Option<bool> {
        let before = self.unmerged.swap(files, Ordering::Relaxed) >= HELD_FROM;
        let is_held = files >= HELD_FROM;
        if before && !is_held {
            let _guard = self.is_behind.lock();
            self.eased.notify_all();
        }
        (is_held != before).then_some(is_held)
    }

    /// Whether who commits is held back.
    pub fn holds(&self) -> bool {
        self.unmerged.load(Ordering::Relaxed) >= HELD_FROM
    }

    /// Holds back who took so long for a commit, while too much waits to be merged.
    pub fn hold(&self, took: Duration) {
        if let Some(held) = held(self.unmerged.load(Ordering::Relaxed), took) {
            self.wait(held);
        }
    }

    fn wait(&self, held: Duration) {
        let mut is_behind = self.is_behind.lock();
        let is_held = |_: &mut bool| self.holds();
        _ = self.eased.wait_while_for(&mut is_behind, is_held, held);
    }

    #[cfg(test)]
    pub fn is_hurried(&self) -> bool {
        *self.is_behind.lock()
    }

    /// For who begins to work.
    pub fn begin(self: &Arc<Pace>) -> Work {
        Work {
            pace: Arc::clone(self),
            rows: 0,
            since: Instant::now(),
        }
    }

    fn rest(&self, turn: Duration) {
        let mut is_behind = self.is_behind.lock();
        let may_rest = |is_behind: &mut bool| !*is_behind;
        _ = self.hurried.wait_while_for(&mut is_behind, may_rest, turn);
    }
}

/// How long somebody is held back who took so long, with so many files that wait to be merged: the more there are, the
/// more times longer, and half as many commits half way.
fn held(unmerged: usize, took: Duration) -> Option<Duration> {
    let above = unmerged.checked_sub(HELD_FROM)? as u32 + 1;
    let left = UNMERGED_FILES_MAX.saturating_sub(unmerged) as u32;
    let held = (took * above).checked_div(left).unwrap_or(HELD_MAX);
    Some(held.min(HELD_MAX))
}

/// Work on many rows.
pub struct Work {
    pace: Arc<Pace>,
    rows: u32,
    since: Instant,
}

impl Work {
    /// One more row is done. Rests when it is time to.
    pub fn step(&mut self) {
        let Some(turn) = self.pace.turn else {
            return;
        };
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS) && self.since.elapsed() >= turn {
            self.pace.rest(turn);
            self.since = Instant::now();
        }
    }
}

/// Has the engine's workers keep the pace. It shows a filter each row that it merges; this one keeps them all.
pub struct Merging(pub Arc<Pace>);

/// A panic can not leave half of a flag behind.
impl RefUnwindSafe for Merging {}

impl Factory for Merging {
    fn name(&self) -> &str {
        "pace"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(self.0.begin())
    }
}

impl CompactionFilter for Work {
    fn filter_item(&mut self, _: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        self.step();
        Ok(Verdict::Keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR_EVER: Duration = Duration::from_secs(3_600);

    #[test]
    fn who_rests_goes_on_as_soon_as_somebody_waits() {
        let pace = Arc::new(Pace::with(Some(FOR_EVER)));
        let resting = Arc::clone(&pace);
        let thread = thread::spawn(move || resting.rest(FOR_EVER));
        pace.hurry(true);
        thread.join().unwrap();
        // And nobody begins to rest.
        pace.rest(FOR_EVER);
    }

    #[test]
    fn who_is_held_back_goes_on_as_soon_as_few_files_wait() {
        let pace = Arc::new(Pace::with(None));
        assert_eq!(pace.set_unmerged(UNMERGED_FILES_MAX), Some(true));
        assert_eq!(pace.set_unmerged(UNMERGED_FILES_MAX), None);
        assert!(pace.holds());
        let held = Arc::clone(&pace);
        let thread = thread::spawn(move || held.wait(FOR_EVER));
        assert_eq!(pace.set_unmerged(1), Some(false));
        thread.join().unwrap();
        pace.wait(FOR_EVER);
    }

    #[test]
    fn a_commit_is_held_back_the_longer_the_more_files_wait_and_never_for_long() {
        let took = Duration::from_millis(4);
        assert_eq!(held(HELD_FROM - 1, took), None);
        let held: Vec<_> = (HELD_FROM..UNMERGED_FILES_MAX + 10)
            .map(|files| held(files, took).unwrap())
            .collect();
        assert!(held.is_sorted());
        assert!(held[0] > Duration::ZERO && held[0] < took);
        assert_eq!(held[held.len() - 1], HELD_MAX);
        assert_eq!(super::held(HELD_FROM, FOR_EVER), Some(HELD_MAX));
    }

    #[test]
    fn who_has_worked_rests_and_works_again() {
        let pace = Arc::new(Pace::with(Some(Duration::from_nanos(1))));
        let mut work = pace.begin();
        let begun = work.since;
        for _ in 1..ROWS {
            work.step();
        }
        assert_eq!(work.since, begun);
        work.step();
        assert!(work.since > begun);
    }
}
