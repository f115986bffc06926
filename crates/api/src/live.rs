//! The live connection. A [`session`] is one connection, whatever carries it; the [`hub`] knows all of this
//! node, and a [`queue`] keeps what waits for one; the [`feed`] puts what was committed on the bus; [`socket`]
//! and [`stream`] are the two carriers.

pub mod about;
pub(crate) mod answer;
mod burst;
mod calls;
pub mod close;
mod decimal;
mod drain;
pub mod feed;
pub mod frames;
pub mod handshake;
pub mod hub;
pub mod queue;
mod sends;
pub mod session;
pub mod socket;
pub mod stream;
pub mod told;
mod turns;
mod warm;
mod watches;
pub mod websocket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tertulia_kit::bus::Subscription;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;
use tertulia_kit::lifecycle::Lifecycle;
use tertulia_services::chats::Chats;
use tertulia_services::errors;
use tertulia_services::presence::Presence;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::gate::Gate;
use hub::Hub;

/// When to come back to a node that is full, or drained.
const FULL_WAIT: Duration = Duration::from_secs(5);
/// Heartbeats fall on multiples of this, so that a node with many sessions that rest wakes up for several at once.
const BEAT_GRID: Duration = Duration::from_millis(50);

/// The bounds of sessions, each with its unit.
#[derive(Debug, Clone)]
pub struct Options {
    /// The beat of heartbeats.
    pub heartbeat: Duration,
    /// How long the first frame may take.
    pub hello_timeout: Duration,
    /// How long a session waits for the logs: for what was missed, for the heads of a heartbeat and of warm
    /// chats.
    pub read_timeout: Duration,
    /// The largest frame that is read.
    pub frame_bytes_max: usize,
    /// How many frames wait for a slow reader before they are dropped and it is told `behind`.
    pub outbound_frames_max: usize,
    /// How many bytes wait for a slow reader.
    pub outbound_bytes_max: usize,
    /// How many sessions are woken for what a large chat hears before everybody else has a turn.
    pub turn_sessions_max: usize,
    /// How often at most a session is woken for what large chats hear; what comes meanwhile is written in one go.
    pub turn_every: Duration,
    /// How many calls of one session are under way at once; more wait unread.
    pub calls_in_flight_max: usize,
    /// How many sessions one user may have on this node.
    pub sessions_per_user_max: usize,
    /// How many sessions this node takes.
    pub sessions_max: usize,
    /// Over how long the clients of a stopping node are asked to spread their return.
    pub drain_spread: Duration,
}

/// What sessions stand on.
pub struct Live {
    /// The bounds.
    pub options: Options,
    /// All sessions of this node.
    pub hub: Arc<Hub>,
    /// For catching up and heartbeats.
    pub chats: Arc<Chats>,
    /// Who is there.
    pub presence: Arc<Presence>,
    /// For the expiry of tokens.
    pub clock: SharedClock,
    /// Sessions are its tasks, and end when it stops.
    pub lifecycle: Lifecycle,
    /// Calls go through it. Set once, because its router holds this.
    gate: OnceCell<Gate>,
    open: AtomicUsize,
    /// A promise to be broken on purpose, for tests of tests: what comes while a session is welcomed is lost.
    skip_catch_up_buffer: AtomicBool,
    spread: AtomicU64,
    /// Counts drains and resumes: odd while the node is drained.
    drains: AtomicU64,
    began_at: Instant,
    /// Of what nodes say of who is there.
    _subscription: Subscription,
}

impl Live {
    /// No session yet. Listens to what the bus says of itself.
    pub fn new(
        options: Options,
        hub: Arc<Hub>,
        chats: Arc<Chats>,
        presence: Arc<Presence>,
        clock: SharedClock,
        lifecycle: Lifecycle,
    ) -> Arc<Self> {
        let subscription = hub.hear_presence(&presence);
        let (told, heeding) = (lifecycle.told_loops(), Arc::clone(&hub));
        lifecycle.spawn_loop("hub", move || {
            let (told, hub) = (told.clone(), Arc::clone(&heeding));
            async move { _ = told.run_until_cancelled(hub.heed_disruptions()).await }
        });
        let (told, giving) = (lifecycle.told_loops(), Arc::clone(&hub));
        lifecycle.spawn_loop("turns", move || {
            let (told, hub) = (told.clone(), Arc::clone(&giving));
            async move { _ = told.run_until_cancelled(hub.give_turns()).await }
        });
        Arc::new(Live {
            options,
            hub,
            chats,
            presence,
            clock,
            lifecycle,
            gate: OnceCell::new(),
            open: AtomicUsize::new(0),
            skip_catch_up_buffer: AtomicBool::new(false),
            spread: AtomicU64::new(0),
            drains: AtomicU64::new(0),
            began_at: Instant::now(),
            _subscription: subscription,
        })
    }

    /// Ties the gate, once, before the first session.
    pub fn set_gate(&self, gate: Gate) {
        assert!(self.gate.set(gate).is_ok(), "the gate is tied once");
    }

    /// Breaks a promise on purpose: sessions lose what comes while they are welcomed.
    pub fn sabotage_catch_up(&self) {
        self.skip_catch_up_buffer.store(true, Ordering::Relaxed);
    }

    /// How many sessions are open.
    pub fn sessions_open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn gate(&self) -> &Gate {
        self.gate
            .get()
            .expect("the gate is tied before the doors open")
    }

    /// A share from 0 to 1. Those who ask one after the other get shares that lie far apart, and all of them
    /// together lie evenly: the multiples of the golden ratio do.
    pub(crate) fn spread(&self) -> f64 {
        let turn = self.spread.fetch_add(1, Ordering::Relaxed);
        let share = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        share as f64 / f64::from(u32::MAX)
    }

    /// The first moment from `at` on at which heartbeats are due.
    fn beat_near(&self, at: Instant) -> Instant {
        let beyond = (at - self.began_at).as_nanos() % BEAT_GRID.as_nanos();
        match beyond {
            0 => at,
            _ => at + BEAT_GRID - Duration::from_nanos(beyond as u64),
        }
    }

    /// A place for one more session.
    ///
    /// # Errors
    /// `OVERLOADED` when the node has as many as it takes, `DRAINING` when it takes none now.
    pub fn enter(self: &Arc<Self>) -> Result<Place> {
        if self.is_drained() {
            return Err(errors::draining(FULL_WAIT));
        }
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        match before < self.options.sessions_max {
            true => Ok(place),
            false => Err(errors::overloaded(FULL_WAIT)),
        }
    }
}

/// One session's place among `sessions_max`.
pub struct Place(Arc<Live>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Spreads ids over shards: their low bits are a sequence that is mostly zero.
fn spread(id: i64) -> usize {
    let spread = id.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
    spread as usize
}
