//! Connections as TCP makes them: in order, without loss, and yet late, reset, silent for ever, or full.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::world::World;

/// What travels.
#[derive(Debug, Clone)]
pub enum Packet {
    /// A frame.
    Frame(Bytes),
    /// The end, with the code of the close.
    Close(u16, &'static str),
    /// The end, without a word.
    End,
}

impl Packet {
    fn bytes(&self) -> usize {
        match self {
            Packet::Frame(bytes) => bytes.len() + 6,
            Packet::Close(..) | Packet::End => 6,
        }
    }
}

/// The connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// One of the two ends of a connection. Dropping it ends the connection, as the end of a process does: what
/// was sent before still arrives.
pub struct Endpoint {
    out: Arc<Pipe>,
    into: Arc<Pipe>,
    connection: Arc<Connection>,
}

/// What both directions have in common.
struct Connection {
    world: Arc<World>,
    pipes: [Arc<Pipe>; 2],
    /// Nothing arrives any more, and nobody knows.
    silent: AtomicBool,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    /// Guards what is on its way.
    state: Mutex<State>,
    readable: Notify,
    writable: Notify,
}

#[derive(Default)]
struct State {
    on_its_way: VecDeque<(Instant, Packet)>,
    bytes: usize,
    last_arrival: Option<Instant>,
    reset: bool,
    /// The reader has gone.
    unread: bool,
}

/// Holds on to a connection from outside, to break it.
#[derive(Clone)]
pub struct Grip(std::sync::Weak<Connection>);

impl Grip {
    /// Both ends learn that it is broken.
    pub fn reset(&self) {
        if let Some(connection) = self.0.upgrade() {
            connection.reset();
        }
    }

    /// Nothing arrives any more, and nobody is told.
    pub fn silence(&self) {
        if let Some(connection) = self.0.upgrade() {
            connection.silence();
        }
    }

    /// Whether an end of it still lives.
    pub fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// A new connection: the client's end, the server's end, and a grip.
pub fn connect(world: &Arc<World>) -> (Endpoint, Endpoint, Grip) {
    let pipes: [Arc<Pipe>; 2] = Default::default();
    let connection = Arc::new(Connection {
        world: Arc::clone(world),
        pipes: pipes.clone(),
        silent: AtomicBool::new(false),
    });
    let [up, down] = pipes;
    let grip = Grip(Arc::downgrade(&connection));
    let client = Endpoint {
        out: Arc::clone(&up),
        into: Arc::clone(&down),
        connection: Arc::clone(&connection),
    };
    let server = Endpoint {
        out: down,
        into: up,
        connection,
    };
    (client, server, grip)
}

impl Connection {
    fn reset(&self) {
        for pipe in &self.pipes {
            let mut state = pipe.state.lock();
            state.reset = true;
            state.on_its_way.clear();
            state.bytes = 0;
            drop(state);
            pipe.readable.notify_one();
            pipe.writable.notify_one();
        }
    }

    fn silence(&self) {
        self.silent.store(true, Ordering::Relaxed);
        for pipe in &self.pipes {
            let mut state = pipe.state.lock();
            let now = Instant::now();
            // What has arrived is there; the rest never comes, and fills the window.
            let arrived = state.on_its_way.partition_point(|(at, _)| *at <= now);
            state.on_its_way.truncate(arrived);
        }
    }

    /// When what is sent now arrives behind what was sent before.
    fn arrival(&self, bytes: usize, last: Option<Instant>) -> Instant {
        let faults = self.world.faults();
        let mut wait = self.world.draw_ms(faults.latency_ms);
        if self.world.fault(faults.stalls) {
            wait += self.world.draw_ms(faults.stall_ms);
        }
        let now = Instant::now();
        let at = (now + wait).max(last.unwrap_or(now));
        match faults.bytes_per_second {
            0 => at,
            rate => at + Duration::from_micros(bytes as u64 * 1_000_000 / rate),
        }
    }
}

impl Endpoint {
    /// Where it is.
    pub fn world(&self) -> &World {
        &self.connection.world
    }

    /// Sends, and waits while too much is on its way. Cancel-safe: it is sent or not.
    ///
    /// # Errors
    /// When the connection is known to be broken.
    pub async fn send(&self, packet: Packet) -> Result<(), Gone> {
        let world = &self.connection.world;
        let faults = world.faults();
        if world.fault(faults.resets) {
            world.note("net", "a connection is reset");
            self.connection.reset();
        } else if world.fault(faults.half_opens) {
            world.note("net", "a connection is half open");
            self.connection.silence();
        }
        loop {
            if self.try_send(&packet)? {
                return Ok(());
            }
            self.out.writable.notified().await;
        }
    }

    /// Sends when there is room.
    fn try_send(&self, packet: &Packet) -> Result<bool, Gone> {
        let mut state = self.out.state.lock();
        if state.reset || state.unread {
            return Err(Gone);
        }
        let bytes = packet.bytes();
        let window = self.connection.world.plan.window_bytes;
        if state.bytes > 0 && state.bytes + bytes > window {
            return Ok(false);
        }
        state.bytes += bytes;
        if !self.connection.silent.load(Ordering::Relaxed) {
            let at = self.connection.arrival(bytes, state.last_arrival);
            state.last_arrival = Some(at);
            state.on_its_way.push_back((at, packet.clone()));
            drop(state);
            self.out.readable.notify_one();
        }
        Ok(true)
    }

    /// What comes next. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is known to be broken.
    pub async fn recv(&self) -> Result<Packet, Gone> {
        loop {
            let next = {
                let mut state = self.into.state.lock();
                if state.reset {
                    return Err(Gone);
                }
                match state.on_its_way.front() {
                    Some((at, _)) if *at <= Instant::now() => {
                        let (_, packet) =
                            state.on_its_way.pop_front().expect("it was at the front");
                        state.bytes -= packet.bytes();
                        drop(state);
                        self.into.writable.notify_one();
                        return Ok(packet);
                    }
                    Some((at, _)) => Some(*at),
                    None => None,
                }
            };
            match next {
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = self.into.readable.notified() => {}
                        () = sleep_until(at) => {}
                    }
                }
                None => self.into.readable.notified().await,
            }
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if self.connection.silent.load(Ordering::Relaxed) {
            return;
        }
        // What was sent still arrives, and then the end; who writes to nobody is reset.
        let mut state = self.out.state.lock();
        if !state.reset {
            let at = self.connection.arrival(0, state.last_arrival);
            state.last_arrival = Some(at);
            state.on_its_way.push_back((at, Packet::End));
            state.bytes += Packet::End.bytes();
        }
        drop(state);
        self.out.readable.notify_one();
        let mut state = self.into.state.lock();
        state.on_its_way.clear();
        state.unread = true;
        drop(state);
        self.into.writable.notify_one();
    }
}
