//! What one seed draws: how many there are, how fast they talk, and which faults there are and how often.
//! In the manner of a swarm each seed leaves most kinds of fault out, because faults that are always there
//! hide what only some of them show together.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::sabotage::Sabotage;

/// How long texts are at most; long ones are seldom, because the time goes into reading them.
const TEXTS: [u64; 16] = [
    12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 200, 8_000,
];

/// How often what goes wrong. Probabilities are in a thousand, times in milliseconds from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// How long anything takes over the network.
    pub latency_ms: (u64, u64),
    /// The bytes that pass a connection in a second; 0 for as many as there are.
    pub bytes_per_second: u64,
    /// A packet stops its connection for a while, as a loss in TCP does.
    pub stalls: u32,
    /// For how long.
    pub stall_ms: (u64, u64),
    /// A packet resets its connection.
    pub resets: u32,
    /// A packet is the last one of its connection that passes, and nobody is told.
    pub half_opens: u32,
    /// A handshake or a call is refused.
    pub refusals: u32,
    /// A call is done, and its answer is lost.
    pub lost_answers: u32,
    /// The bus loses a message.
    pub bus_losses: u32,
    /// The bus repeats a message.
    pub bus_repeats: u32,
    /// How long the bus takes; messages overtake each other.
    pub bus_ms: (u64, u64),
    /// How long a commit takes.
    pub commit_ms: (u64, u64),
    /// How long a read takes.
    pub read_ms: (u64, u64),
    /// The time between a commit, its answer, and the telling of its facts.
    pub after_commit_ms: (u64, u64),
    /// The store is not available, before it has written anything or without saying that it has.
    pub store_failures: u32,
    /// The store has too much to do.
    pub store_overloads: u32,
    /// How long the disk of a device takes.
    pub disk_ms: (u64, u64),
}

impl Faults {
    /// A good day.
    pub const NONE: Faults = Faults {
        latency_ms: (1, 20),
        bytes_per_second: 0,
        stalls: 0,
        stall_ms: (0, 0),
        resets: 0,
        half_opens: 0,
        refusals: 0,
        lost_answers: 0,
        bus_losses: 0,
        bus_repeats: 0,
        bus_ms: (0, 0),
        commit_ms: (1, 5),
        read_ms: (0, 2),
        after_commit_ms: (0, 2),
        store_failures: 0,
        store_overloads: 0,
        disk_ms: (0, 5),
    };
}

/// What befalls the whole, and how often in comparison with each other; 0 is never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disasters {
    /// The time between two of them, on average.
    pub mean_gap: Duration,
    /// A node dies.
    pub node_crash: u32,
    /// All nodes and the store die.
    pub server_crash: u32,
    /// A node stops in order and starts again.
    pub drain: u32,
    /// The store is restored from an older backup.
    pub restore: u32,
    /// The clock of a node jumps.
    pub server_clock: u32,
    /// The clock of a device jumps.
    pub client_clock: u32,
    /// A device has no network.
    pub partition: u32,
    /// The client of a device dies; its disk keeps what was written.
    pub client_crash: u32,
    /// A device loses power; its disk keeps what was synced, and perhaps more.
    pub power_cut: u32,
}

/// It.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
    /// How many people there are.
    pub users: usize,
    /// How many devices each has.
    pub devices: Vec<usize>,
    /// How many nodes stand before the store.
    pub nodes: usize,
    /// For how long things go wrong.
    pub chaos: Duration,
    /// The time between two operations of a device, on average.
    pub thinking: Duration,
    /// How long a text may be.
    pub text_chars_max: u64,
    /// The faults of the bad times.
    pub faults: Faults,
    /// The disasters of the bad times.
    pub disasters: Disasters,
    /// The frames that wait for a slow reader.
    pub outbound_frames_max: usize,
    /// How many bytes may be on their way in one direction of a connection.
    pub window_bytes: usize,
    /// How many missed events the store gives one by one; more are only told to be there.
    pub delta_events_max: usize,
    /// How long an access token is good.
    pub access_lifetime: Duration,
    /// Of the SDK: the longest wait before connecting again.
    pub backoff_max: Duration,
    /// Of the SDK: how many events a device that begins anew fetches.
    pub fresh_events: i64,
    /// Of the SDK: the largest hole that is filled event by event.
    pub hole_events_max: i64,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, sabotage: Option<Sabotage>) -> Plan {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x7465_7274_756c_6961);
        let rng = &mut rng;
        let users = one_of(rng, &[2, 2, 2, 3, 4]);
        let text_chars_max = one_of(rng, &TEXTS);
        Plan {
            seed,
            sabotage,
            users,
            devices: (0..users).map(|_| one_of(rng, &[1, 1, 1, 2, 3])).collect(),
            nodes: rng.random_range(1..=2),
            chaos: Duration::from_secs(one_of(rng, &[15, 30, 50, 100])),
            thinking: Duration::from_millis(one_of(rng, &[2_000, 6_000, 6_000, 15_000])),
            text_chars_max,
            faults: faults(rng),
            disasters: disasters(rng),
            outbound_frames_max: one_of(rng, &[2, 16, 1_024]),
            window_bytes: one_of(rng, &[65_536, 65_536, 1_024]).max(text_chars_max as usize * 8),
            delta_events_max: one_of(rng, &[1_000, 1_000, 30, 3]),
            access_lifetime: Duration::from_secs(one_of(rng, &[45, 120, 600])),
            backoff_max: Duration::from_secs(one_of(rng, &[2, 10, 30])),
            fresh_events: one_of(rng, &[1, 1, 1_000_000]),
            hole_events_max: one_of(rng, &[1_000, 1_000, 1_000, 20]),
        }
    }

    /// Whether a device may give up a hole because it is too large, so that its screen skips.
    pub fn may_skip(&self) -> bool {
        self.hole_events_max < 1_000
    }
}

fn one_of<T: Copy>(rng: &mut StdRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

/// A kind of fault, more often left out than not.
fn maybe(rng: &mut StdRng, most: u32) -> u32 {
    match rng.random_range(0..5) {
        0 => most,
        1 => most.div_ceil(4),
        _ => 0,
    }
}

fn faults(rng: &mut StdRng) -> Faults {
    Faults {
        latency_ms: one_of(rng, &[(1, 5), (1, 40), (5, 200), (100, 600)]),
        bytes_per_second: one_of(rng, &[0, 0, 0, 20_000, 2_000]),
        stalls: maybe(rng, 30),
        stall_ms: one_of(rng, &[(200, 3_000), (1_000, 20_000), (10_000, 60_000)]),
        resets: maybe(rng, 30),
        half_opens: maybe(rng, 8),
        refusals: maybe(rng, 200),
        lost_answers: maybe(rng, 300),
        bus_losses: maybe(rng, 300),
        bus_repeats: maybe(rng, 100),
        bus_ms: one_of(rng, &[(0, 0), (0, 0), (0, 30), (0, 900)]),
        commit_ms: one_of(rng, &[(1, 5), (1, 60), (50, 800)]),
        read_ms: one_of(rng, &[(0, 0), (0, 5), (0, 80)]),
        after_commit_ms: one_of(rng, &[(0, 0), (0, 20), (0, 700)]),
        store_failures: maybe(rng, 60),
        store_overloads: maybe(rng, 60),
        disk_ms: one_of(rng, &[(0, 0), (1, 30), (5, 400)]),
    }
}

fn disasters(rng: &mut StdRng) -> Disasters {
    Disasters {
        mean_gap: Duration::from_secs(one_of(rng, &[4, 8, 8, 20])),
        node_crash: maybe(rng, 8),
        server_crash: maybe(rng, 8),
        drain: maybe(rng, 4),
        restore: maybe(rng, 3),
        server_clock: maybe(rng, 4),
        client_clock: maybe(rng, 4),
        partition: maybe(rng, 8),
        client_crash: maybe(rng, 8),
        power_cut: maybe(rng, 8),
    }
}
