//! The load, the same for every protocol: pairs of connections of which both ends write to each other, with so many
//! messages under way for each sender at most, as fast as acknowledgements come or at a rate. Everything runs on one
//! thread, so that the servers have the rest of the machine.

mod end;
mod tally;
pub mod text;

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::cpu;
use crate::report::Outcome;
use crate::server::Server;
use crate::wire::{Seat, Wire};
use end::{DRAIN, End, Pace, Side};
use tally::Tally;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many pairs of connections.
    pub pairs: usize,
    /// How many messages of one sender are unanswered at most; one load for each.
    pub in_flight: Vec<usize>,
    /// Messages a second of all senders together; none: as fast as acknowledgements come.
    pub rate: Option<f64>,
    /// How long a message is.
    pub bytes: usize,
    /// How long the load runs before it is measured.
    pub warm_up: Duration,
    /// How long is measured.
    pub measured: Duration,
}

/// What is asked of a peer that this load is put on.
pub trait Target {
    /// How its clients speak.
    type Wire: Wire;

    /// Starts a private server that keeps everything in `folder`.
    async fn start(&self, folder: &Path) -> Result<Server>;

    /// Connects, and returns when messages for this seat would come.
    async fn connect(&self, address: SocketAddr, seat: Seat) -> Result<Self::Wire>;
}

/// The load goes on for a little longer than is measured.
const MARGIN: Duration = Duration::from_millis(20);
/// So many connections are opened at once.
const OPENING: usize = 32;
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts a fresh server and measures every load of the plan, one after the other.
///
/// # Errors
/// When the server does not start, a connection fails, or the load does not end.
pub async fn round(target: &impl Target, plan: &Plan, folder: &Path) -> Result<Vec<Outcome>> {
    let server = target.start(folder).await?;
    let mut outcomes = Vec::new();
    for &in_flight in &plan.in_flight {
        let load = run(target, &server, plan, in_flight);
        outcomes.push(LocalSet::new().run_until(load).await?);
    }
    server.stop().await?;
    Ok(outcomes)
}

async fn run(
    target: &impl Target,
    server: &Server,
    plan: &Plan,
    in_flight: usize,
) -> Result<Outcome> {
    let wires = open(target, server.address, plan.pairs * 2).await?;
    let sides: Vec<Rc<[Side; 2]>> = (0..plan.pairs).map(|_| Rc::default()).collect();
    let tally = Rc::new(Tally::default());
    let start = Instant::now();
    let stop = start + plan.warm_up + plan.measured + MARGIN;
    let mut tasks = JoinSet::new();
    for (seat, wire) in wires {
        let sides = Rc::clone(&sides[seat.pair()]);
        let pace = plan
            .rate
            .map(|rate| Pace::of(seat, plan.pairs * 2, rate, start));
        let tally = Rc::clone(&tally);
        let end = End::new(wire, seat, sides, tally, in_flight, plan.bytes, pace);
        tasks.spawn_local(end.talk(stop));
    }
    let measured = measure(&tally, plan, server.pid(), start);
    tokio::pin!(measured);
    let deadline = sleep_until(stop + DRAIN + Duration::from_secs(5));
    tokio::pin!(deadline);
    let mut reading = None;
    while reading.is_none() || !tasks.is_empty() {
        tokio::select! {
            done = &mut measured, if reading.is_none() => reading = Some(done),
            Some(ended) = tasks.join_next() => ended??,
            () = &mut deadline => bail!("the load does not end"),
        }
    }
    let reading = reading.context("nothing was measured")?;
    Ok(tally.outcome(in_flight, &reading))
}

async fn open<T: Target>(
    target: &T,
    address: SocketAddr,
    seats: usize,
) -> Result<Vec<(Seat, T::Wire)>> {
    let opening = (0..seats).map(Seat).map(|seat| async move {
        let connecting = timeout(OPEN_TIMEOUT, target.connect(address, seat));
        let wire = connecting.await.context("the server does not answer")?;
        let wire = wire.with_context(|| format!("connection {} fails", seat.0))?;
        Ok((seat, wire))
    });
    stream::iter(opening)
        .buffer_unordered(OPENING)
        .try_collect()
        .await
}

/// What the machine says of the measured time.
pub struct Reading {
    /// How long it was.
    pub measured: Duration,
    /// The processor time of the server and all its processes.
    pub server_cpu: Option<Duration>,
    /// The processor time of this process.
    pub own_cpu: Option<Duration>,
}

async fn measure(tally: &Tally, plan: &Plan, server: u32, start: Instant) -> Reading {
    sleep_until(start + plan.warm_up).await;
    let (server_cpu, own_cpu) = (cpu::of_tree(server), cpu::of_this());
    let began = Instant::now();
    tally.counting.set(true);
    sleep_until(began + plan.measured).await;
    tally.counting.set(false);
    let measured = began.elapsed();
    let since = |end: Option<Duration>, begin: Option<Duration>| {
        end.zip(begin).map(|(end, begin)| end.saturating_sub(begin))
    };
    Reading {
        measured,
        server_cpu: since(cpu::of_tree(server), server_cpu),
        own_cpu: since(cpu::of_this(), own_cpu),
    }
}
