//! What happened, as lines: all of them in a hash, the last ones kept, every one printed on demand.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::time::Duration;

use parking_lot::Mutex;

/// How many of the last lines are kept.
const KEPT_MAX: usize = 400;

/// The trace of a run.
#[derive(Debug, Default)]
pub struct Trace {
    prints: bool,
    /// Guards the lines.
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    hash: u64,
    kept: VecDeque<String>,
}

impl Default for Lines {
    fn default() -> Self {
        Lines {
            hash: 0xcbf2_9ce4_8422_2325,
            kept: VecDeque::with_capacity(KEPT_MAX),
        }
    }
}

impl Trace {
    /// A trace that also prints each line.
    pub fn printing() -> Self {
        Trace {
            prints: true,
            ..Trace::default()
        }
    }

    /// Adds a line.
    pub fn note(&self, at: Duration, who: impl fmt::Display, what: impl fmt::Display) {
        let mut lines = self.lines.lock();
        // The memory of the oldest line is used again.
        let mut line = match lines.kept.len() {
            KEPT_MAX => lines.kept.pop_front().unwrap_or_default(),
            _ => String::new(),
        };
        line.clear();
        _ = write!(line, "{:>10.3} {who:<8} {what}", at.as_secs_f64());
        // FNV-1a.
        lines.hash = line.bytes().fold(lines.hash, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        if self.prints {
            println!("{line}");
        }
        lines.kept.push_back(line);
    }

    /// Names everything that happened: two runs with the same hash did the same.
    pub fn hash(&self) -> u64 {
        self.lines.lock().hash
    }

    /// The last lines, oldest first.
    pub fn last(&self, lines: usize) -> Vec<String> {
        let kept = &self.lines.lock().kept;
        let skipped = kept.len().saturating_sub(lines);
        kept.iter().skip(skipped).cloned().collect()
    }
}
