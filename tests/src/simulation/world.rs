//! What everything in a run shares: virtual time, chance from the seed, the faults that are on, the trace,
//! and the list of broken promises.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tokio::time::Instant;

use super::plan::{Faults, Plan};
use super::trace::Trace;

/// What is promised; each broken one ends a run as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// What was acknowledged is in the log, and everybody has it.
    NoLoss,
    /// Nothing is in a log or on a screen twice.
    NoDuplicate,
    /// Everybody sees a log in its order, without holes.
    Order,
    /// Nobody sees what is not in the log, and the log has only what was sent.
    NoPhantom,
    /// In the end every device shows every chat of its user as the store has it.
    Convergence,
    /// That end comes within a bound of time after the last fault.
    Healing,
    /// While nothing is lost, nobody waits for a heartbeat to see what was said.
    Prompt,
    /// A lost tail shows with the next heartbeat.
    Tail,
    /// Nobody sees what was committed after they were removed.
    Entitlement,
    /// Nothing panics.
    NoPanic,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// How.
    pub words: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.words)
    }
}

/// How much of what happened in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations that devices began.
    pub operations: u64,
    /// Messages among them.
    pub sends: u64,
    /// Faults of any kind.
    pub faults: u64,
    /// Events that appeared on a screen.
    pub shown: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.sends += other.sends;
        self.faults += other.faults;
        self.shown += other.shown;
    }
}

/// It. Made inside a runtime whose time is paused.
pub struct World {
    /// What this seed has drawn.
    pub plan: Plan,
    /// What happened.
    pub trace: Trace,
    began: Instant,
    // Each guards what its name says, for a few lines; there is one thread.
    rng: Mutex<StdRng>,
    faults: Mutex<Faults>,
    tally: Mutex<Tally>,
    broken: Mutex<Vec<Broken>>,
    reached: Mutex<BTreeMap<&'static str, u64>>,
}

impl World {
    /// A world of this plan.
    pub fn new(plan: Plan, trace: Trace) -> Arc<World> {
        Arc::new(World {
            trace,
            began: Instant::now(),
            rng: Mutex::new(StdRng::seed_from_u64(plan.seed)),
            faults: Mutex::new(plan.faults),
            tally: Mutex::default(),
            broken: Mutex::default(),
            reached: Mutex::default(),
            plan,
        })
    }

    /// How much virtual time has passed.
    pub fn passed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The faults that are on.
    pub fn faults(&self) -> Faults {
        *self.faults.lock()
    }

    /// Other faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    /// Whether what happens `per_mille` times in a thousand happens now.
    pub fn hits(&self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.lock().random_range(0..1_000) < per_mille
    }

    /// The same, and counts it as a fault.
    pub fn fault(&self, per_mille: u32) -> bool {
        let hit = self.hits(per_mille);
        if hit {
            self.count(|tally| tally.faults += 1);
        }
        hit
    }

    /// A number in a range.
    pub fn draw(&self, range: RangeInclusive<u64>) -> u64 {
        self.rng.lock().random_range(range)
    }

    /// An index below `len`.
    pub fn pick(&self, len: usize) -> usize {
        self.rng.lock().random_range(0..len)
    }

    /// So many milliseconds.
    pub fn draw_ms(&self, range: (u64, u64)) -> Duration {
        Duration::from_millis(self.draw(range.0..=range.1))
    }

    /// Sleeps for a time from a range of milliseconds; for no time it does not even yield.
    pub async fn pause(&self, range: (u64, u64)) {
        let wait = self.draw_ms(range);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// A time with this mean, as between things that do not know of each other.
    pub fn draw_gap(&self, mean: Duration) -> Duration {
        let share: f64 = self.rng.lock().random_range(0.000_1..1.0);
        mean.mul_f64(-share.ln())
    }

    /// A source of chance of its own, so that who draws from it does not disturb others.
    pub fn fork(&self) -> StdRng {
        StdRng::seed_from_u64(self.rng.lock().next_u64())
    }

    /// Adds to the tally.
    pub fn count(&self, add: impl FnOnce(&mut Tally)) {
        add(&mut self.tally.lock());
    }

    /// The tally.
    pub fn tally(&self) -> Tally {
        *self.tally.lock()
    }

    /// Something came about that a simulation is there for.
    pub fn reach(&self, what: &'static str) {
        *self.reached.lock().entry(what).or_default() += 1;
    }

    /// What came about, and how often.
    pub fn all_reached(&self) -> BTreeMap<&'static str, u64> {
        self.reached.lock().clone()
    }

    /// Notes what somebody did.
    pub fn note(&self, who: impl fmt::Display, what: impl fmt::Display) {
        self.trace.note(self.passed(), who, what);
    }

    /// A promise is broken.
    pub fn broken(&self, promise: Promise, words: impl Into<String>) {
        let broken = Broken {
            promise,
            words: words.into(),
        };
        self.note("BROKEN", &broken);
        self.broken.lock().push(broken);
    }

    /// The promises that were broken so far.
    pub fn all_broken(&self) -> Vec<Broken> {
        self.broken.lock().clone()
    }
}
