//! The clocks of nodes and devices: virtual time, as somebody has set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngCore as _;
use rand::rngs::StdRng;
use tertulia_client::time::Machine;
use tertulia_kit::clock::{Clock, NeverBack};
use tokio::time::Instant;

/// When every run begins, in milliseconds since 1970.
const BEGINNING_MS: i64 = 1_790_000_000_000;

/// A clock that somebody sets.
#[derive(Debug)]
struct Wall {
    began: Instant,
    wrong_by_ms: AtomicI64,
}

impl Wall {
    fn new() -> Self {
        Wall {
            began: Instant::now(),
            wrong_by_ms: AtomicI64::new(0),
        }
    }

    fn passed(&self) -> Duration {
        self.began.elapsed()
    }

    fn now_ms(&self) -> i64 {
        BEGINNING_MS + self.passed().as_millis() as i64 + self.wrong_by_ms.load(Ordering::Relaxed)
    }
}

/// The clock of a node, with the rule of the real one that it never goes back. It outlives the node, as the
/// mark in the data folder does.
#[derive(Debug)]
pub struct NodeClock {
    wall: Wall,
    /// Guards what was told last.
    told: Mutex<NeverBack>,
}

impl NodeClock {
    /// A clock that is right.
    pub fn new() -> Arc<Self> {
        Arc::new(NodeClock {
            wall: Wall::new(),
            told: Mutex::new(NeverBack::starting_at(0)),
        })
    }

    /// Somebody sets it wrong by so much; by 0, right.
    pub fn set_wrong_by_ms(&self, by_ms: i64) {
        self.wall.wrong_by_ms.store(by_ms, Ordering::Relaxed);
    }
}

impl Clock for NodeClock {
    fn now_ms(&self) -> i64 {
        self.told
            .lock()
            .tell(self.wall.now_ms(), self.wall.passed())
    }
}

/// The machine of a device: a clock that jumps both ways, and chance from the seed.
pub struct DeviceMachine {
    wall: Wall,
    /// Guards the source of chance.
    rng: Mutex<StdRng>,
}

impl DeviceMachine {
    /// A machine whose clock is right.
    pub fn new(rng: StdRng) -> Arc<Self> {
        Arc::new(DeviceMachine {
            wall: Wall::new(),
            rng: Mutex::new(rng),
        })
    }

    /// Somebody sets its clock wrong by so much.
    pub fn set_wrong_by_ms(&self, by_ms: i64) {
        self.wall.wrong_by_ms.store(by_ms, Ordering::Relaxed);
    }
}

impl Machine for DeviceMachine {
    fn now_ms(&self) -> i64 {
        self.wall.now_ms()
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.rng.lock().fill_bytes(bytes);
    }
}
