//! What is counted while a load runs: messages, times, the server's processor, and what may never happen.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::proc::{Family, Process};
use super::progress::Progress;

/// What may never happen, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Violations {
    /// Events that did not come, of which the sender holds an acknowledgement or not.
    pub missing: u64,
    /// Events that came again.
    pub repeated: u64,
    /// Events before which one was left out.
    pub holes: u64,
    /// Messages that came in another order than they were written.
    pub disordered: u64,
    /// Acknowledgements that name another place than the event.
    pub misplaced: u64,
    /// Calls that were not answered in the end.
    pub unanswered: u64,
    /// Calls that failed.
    pub failed: u64,
}

impl Violations {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Violations {
            missing,
            repeated,
            holes,
            disordered,
            misplaced,
            unanswered,
            failed,
        } = *self;
        missing + repeated + holes + disordered + misplaced + unanswered + failed
    }
}

/// When is counted, and whose processor time.
#[derive(Debug, Clone)]
pub struct Window {
    /// How long the load runs before.
    pub warm_up: Duration,
    /// How long is measured.
    pub measured: Duration,
    /// The processes of the server, one for each node, as far as they are on this machine.
    pub server: Vec<Process>,
    /// The database server of the nodes, when it is on this machine.
    pub database: Option<Family>,
}

/// What the machine says of the measured time.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// How long it was.
    pub measured: Duration,
    /// The processor time of all nodes of the server.
    pub server_cpu: Option<Duration>,
    /// The database's.
    pub database_cpu: Option<Duration>,
    /// What the server gave to the disk.
    pub server_written_bytes: Option<u64>,
    /// By how much the server's memory grew.
    pub server_grown_bytes: Option<f64>,
    /// This process's processor time.
    pub own_cpu: Option<Duration>,
}

/// Counts for as long as the window says, from `start` on.
pub async fn measure(run: &Run, window: Window, start: Instant) -> Reading {
    tokio::time::sleep_until(start + window.warm_up).await;
    let this = Process::this();
    let look = || {
        (
            of_all(&window.server, Process::cpu),
            of_all(&window.server, Process::written_bytes),
            of_all(&window.server, Process::resident_bytes),
            window.database.and_then(Family::cpu),
            this.cpu(),
            Instant::now(),
        )
    };
    let (cpu, written, resident, database, own, began) = look();
    run.counting.set(true);
    let progress = Progress::of("seconds", window.measured.as_secs());
    while began.elapsed() < window.measured {
        let left = window.measured - began.elapsed();
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
        progress.at(began.elapsed().as_secs());
    }
    run.counting.set(false);
    let (cpu_end, written_end, resident_end, database_end, own_end, ended) = look();
    let between = |end: Option<Duration>, begin: Option<Duration>| {
        end.zip(begin).map(|(end, begin)| end.saturating_sub(begin))
    };
    Reading {
        measured: ended - began,
        server_cpu: between(cpu_end, cpu),
        database_cpu: between(database_end, database),
        server_written_bytes: written_end
            .zip(written)
            .map(|(end, begin)| end.saturating_sub(begin)),
        server_grown_bytes: resident_end
            .zip(resident)
            .map(|(end, begin)| end as f64 - begin as f64),
        own_cpu: between(own_end, own),
    }
}

/// The sum over all nodes; nothing when one of them can not be seen, or there is none to be seen.
fn of_all<T: std::iter::Sum>(
    nodes: &[Process],
    ask: impl FnMut(Process) -> Option<T>,
) -> Option<T> {
    let told: Option<Vec<T>> = nodes.iter().copied().map(ask).collect();
    let told = told.filter(|told| !told.is_empty())?;
    Some(told.into_iter().sum())
}

/// What all sessions of a run write into. Everything runs on one thread.
pub struct Run {
    pub base: Instant,
    pub counting: Cell<bool>,
    pub sent: Cell<u64>,
    pub acked: Cell<u64>,
    pub delivered: Cell<u64>,
    pub behind: Cell<u64>,
    pub violations: Cell<Violations>,
    pub ack_ns: RefCell<Histogram<u64>>,
    pub delivery_ns: RefCell<Histogram<u64>>,
}

impl Default for Run {
    fn default() -> Self {
        let histogram = || RefCell::new(Histogram::new(3).expect("three digits are allowed"));
        Run {
            base: Instant::now(),
            counting: Cell::new(false),
            sent: Cell::new(0),
            acked: Cell::new(0),
            delivered: Cell::new(0),
            behind: Cell::new(0),
            violations: Cell::default(),
            ack_ns: histogram(),
            delivery_ns: histogram(),
        }
    }
}

impl Run {
    /// When something is, in nanoseconds since the run began.
    pub fn stamp(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_nanos() as u64
    }

    /// Counts what may never happen.
    pub fn violated(&self, count: impl FnOnce(&mut Violations)) {
        let mut violations = self.violations.get();
        count(&mut violations);
        self.violations.set(violations);
    }

    /// Counts one that was due at a stamp, when it is time to count.
    pub fn count(
        &self,
        counter: &Cell<u64>,
        histogram: &RefCell<Histogram<u64>>,
        due: u64,
        now: Instant,
    ) {
        if self.counting.get() {
            counter.set(counter.get() + 1);
            // It was made to grow, so that it takes any time.
            let taken = self.stamp(now).saturating_sub(due);
            _ = histogram.borrow_mut().record(taken);
        }
    }
}

/// When the next message is due.
pub struct Pace {
    /// Then.
    pub next: Instant,
    /// And again after this long.
    pub interval: Duration,
}
