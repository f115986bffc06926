//! Time as a port, so that tests own it. The time of a [`Clock`] never goes back, whatever the machine's
//! clock does; [`HighWater`] keeps that promise over restarts.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// A source of time in milliseconds since 1970.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now; never less than an answer given before.
    fn now_ms(&self) -> i64;
}

/// A clock to be shared.
pub type SharedClock = Arc<dyn Clock>;

/// Makes a clock that never goes back of one that somebody sets. While that one is behind what was already
/// told, time goes on at half its speed, so that it never stands still and the two come to agree again.
#[derive(Debug)]
pub struct NeverBack {
    told_ms: i64,
    told_after: Duration,
}

impl NeverBack {
    /// Does not begin before `floor_ms`.
    pub fn starting_at(floor_ms: i64) -> Self {
        NeverBack {
            told_ms: floor_ms,
            told_after: Duration::ZERO,
        }
    }

    /// What to tell when the clock that somebody sets says `wall_ms`, and `after` has passed since the start
    /// on one that nobody sets.
    pub fn tell(&mut self, wall_ms: i64, after: Duration) -> i64 {
        let half = (after.saturating_sub(self.told_after).as_millis() / 2) as i64;
        if wall_ms >= self.told_ms {
            (self.told_ms, self.told_after) = (wall_ms, after);
        } else if half > 0 {
            (self.told_ms, self.told_after) = (self.told_ms + half, after);
        }
        self.told_ms
    }
}

/// The machine's clock, made never to go back.
#[derive(Debug)]
pub struct SystemClock {
    began: Instant,
    /// What was told last. Changes only while the lock is held.
    last_ms: AtomicI64,
    /// Guards what was told last, and when.
    told: Mutex<NeverBack>,
}

impl SystemClock {
    /// A clock that does not begin before `floor_ms`.
    pub fn starting_at(floor_ms: i64) -> Self {
        SystemClock {
            began: Instant::now(),
            last_ms: AtomicI64::new(floor_ms),
            told: Mutex::new(NeverBack::starting_at(floor_ms)),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::starting_at(0)
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        // It is asked many times in a millisecond, and by several threads at once.
        let wall = wall_ms();
        if wall == self.last_ms.load(Ordering::Acquire) {
            return wall;
        }
        let mut told = self.told.lock();
        let now_ms = told.tell(wall_ms(), self.began.elapsed());
        self.last_ms.store(now_ms, Ordering::Release);
        now_ms
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the wall clock"
)]
fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A clock that a test moves.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicI64,
}

impl ManualClock {
    /// Stands at `now_ms` until moved.
    pub fn at(now_ms: i64) -> Arc<Self> {
        Arc::new(ManualClock {
            now_ms: AtomicI64::new(now_ms),
        })
    }

    /// Moves on.
    pub fn advance_ms(&self, by_ms: i64) {
        assert!(by_ms >= 0, "a clock never goes back");
        self.now_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }
}

/// A clock that keeps a mark in a file, always ahead of what it has told, and begins at that mark after a
/// restart. So no time is told twice by two runs, even when the machine's clock was set back between them.
#[derive(Debug)]
pub struct HighWater {
    clock: SystemClock,
    reserved_ms: AtomicI64,
    /// Guards the writing of the file.
    path: Mutex<PathBuf>,
}

/// How far ahead the mark is kept. It is also the most that a crash can push the clock into the future.
const RESERVE_MS: i64 = 5_000;
/// A restart begins so far behind the mark, because ids may run a little ahead of a clock that holds still.
const RESTART_GAP_MS: i64 = 100;

impl HighWater {
    /// Opens the mark in `path`, or makes it.
    ///
    /// # Errors
    /// When the file can not be read or written, or holds something else.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let floor = match fs::read_to_string(path) {
            Ok(text) => {
                let mark = text.trim().parse::<i64>().map_err(std::io::Error::other)?;
                mark.saturating_add(RESTART_GAP_MS)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        let clock = SystemClock::starting_at(floor);
        let mark = HighWater {
            reserved_ms: AtomicI64::new(floor),
            clock,
            path: Mutex::new(path.to_path_buf()),
        };
        mark.reserve(mark.clock.now_ms())?;
        Ok(mark)
    }

    /// Moves the mark on. To be called a few times in each [`RESERVE_MS`]; [`Clock::now_ms`] holds still at
    /// the mark when it was not.
    ///
    /// # Errors
    /// When the file can not be written.
    pub fn keep_ahead(&self) -> std::io::Result<()> {
        let now = self.clock.now_ms();
        if self.reserved_ms.load(Ordering::Acquire) - now < RESERVE_MS / 2 {
            self.reserve(now)?;
        }
        Ok(())
    }

    fn reserve(&self, now_ms: i64) -> std::io::Result<()> {
        let path = self.path.lock();
        let mark = now_ms + RESERVE_MS;
        let next = path.with_extension("new");
        let mut file = fs::File::create(&next)?;
        write!(file, "{mark}")?;
        file.sync_all()?;
        fs::rename(&next, &*path)?;
        if let Some(folder) = path.parent() {
            fs::File::open(folder)?.sync_all()?;
        }
        self.reserved_ms.fetch_max(mark, Ordering::Release);
        Ok(())
    }
}

impl Clock for HighWater {
    fn now_ms(&self) -> i64 {
        self.clock
            .now_ms()
            .min(self.reserved_ms.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let future = wall_ms() + 3_600_000;
        fs::write(&path, future.to_string()).unwrap();
        let clock = HighWater::open(&path).unwrap();
        assert!(clock.now_ms() >= future);
        drop(clock);
        assert!(HighWater::open(&path).unwrap().now_ms() >= future);
    }

    #[test]
    fn time_that_is_ahead_of_the_machine_goes_on() {
        let ahead = wall_ms() + 3_600_000;
        let clock = SystemClock::starting_at(ahead);
        let first = clock.now_ms();
        assert!(first >= ahead);
        while clock.now_ms() == first {
            std::hint::spin_loop();
        }
        assert!(clock.now_ms() < ahead + 60_000);
    }

    #[test]
    fn a_clock_that_was_set_back_is_met_again_at_half_the_speed() {
        let mut clock = NeverBack::starting_at(0);
        let after = Duration::from_secs;
        assert_eq!(clock.tell(100_000, after(1)), 100_000);
        assert_eq!(clock.tell(40_000, after(1)), 100_000);
        assert_eq!(clock.tell(60_000, after(21)), 110_000);
        assert_eq!(clock.tell(160_000, after(121)), 160_000);
    }

    #[test]
    fn no_thread_hears_a_time_before_one_that_another_has_heard() {
        let clock = SystemClock::default();
        let newest = AtomicI64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        let before = newest.load(Ordering::Acquire);
                        let now = clock.now_ms();
                        assert!(now >= before, "{now} after {before}");
                        newest.fetch_max(now, Ordering::AcqRel);
                    }
                });
            }
        });
    }

    #[test]
    fn an_unreadable_mark_is_an_error_and_not_a_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        fs::write(&path, "what").unwrap();
        assert!(HighWater::open(&path).is_err());
    }

    #[test]
    fn no_time_is_told_beyond_the_mark() {
        let folder = tempfile::tempdir().unwrap();
        let clock = HighWater::open(&folder.path().join("clock")).unwrap();
        assert!(clock.now_ms() <= clock.reserved_ms.load(Ordering::Acquire));
    }
}
