//! A line for people who wait; nothing when nobody looks.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Before this nobody wonders.
const QUIET: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_millis(250);

/// How far something has come.
pub struct Progress {
    what: &'static str,
    total: u64,
    done: Cell<u64>,
    next: Cell<Option<Instant>>,
    shown: Cell<bool>,
}

impl Progress {
    /// `total` things are to be done.
    pub fn of(what: &'static str, total: u64) -> Self {
        let next = std::io::stderr()
            .is_terminal()
            .then(|| Instant::now() + QUIET);
        Progress {
            what,
            total,
            done: Cell::new(0),
            next: Cell::new(next),
            shown: Cell::new(false),
        }
    }

    /// One more is done.
    pub fn one(&self) {
        self.at(self.done.get() + 1);
    }

    /// So many are done.
    pub fn at(&self, done: u64) {
        self.done.set(done);
        let now = Instant::now();
        if self.next.get().is_some_and(|next| now >= next) {
            self.next.set(Some(now + BETWEEN));
            self.shown.set(true);
            eprint!("\r\x1b[K{done} of {} {}", self.total, self.what);
            _ = std::io::stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.get() {
            eprint!("\r\x1b[K");
        }
    }
}
