//! Sessions that only rest: what one of them costs in memory, and all of them in processor time.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use super::people::{Account, Server};
use super::proc::Process;
use super::progress::Progress;
use super::socket::Socket;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many sessions.
    pub connections: usize,
    /// How long they rest while the processor time is measured.
    pub rest: Duration,
    /// The server's process, when it is on this machine.
    pub server: Option<Process>,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How many sessions rested.
    pub connections: usize,
    /// How long it took to open them all.
    pub opening: Duration,
    /// The server's memory before the first.
    pub resident_before: Option<u64>,
    /// How many sessions there were, and the server's memory, when only the first were open.
    pub resident_at_first: Option<(usize, u64)>,
    /// The server's memory after they have rested.
    pub resident_after: Option<u64>,
    /// How long they rested.
    pub rest: Duration,
    /// The server's processor time while they rested.
    pub rest_cpu: Option<Duration>,
}

impl Outcome {
    /// The server's memory for each session.
    pub fn bytes_each(&self) -> Option<f64> {
        let grown = self.resident_after? as f64 - self.resident_before? as f64;
        Some(grown / self.connections as f64)
    }

    /// The server's memory for each session beyond the first ones: without what a server takes once, for the
    /// pages of its code and the arenas of its threads, as soon as anybody comes.
    pub fn bytes_each_further(&self) -> Option<f64> {
        let (first, resident) = self.resident_at_first?;
        let grown = self.resident_after? as f64 - resident as f64;
        Some(grown / (self.connections - first) as f64)
    }

    /// Sessions opened in a second.
    pub fn opened_per_second(&self) -> f64 {
        self.connections as f64 / self.opening.as_secs_f64()
    }
}

/// So many connections are opened at once.
const OPENING: usize = 128;
/// One in so many sessions is opened first, to tell what a session costs from what the server takes once.
const FIRST_SHARE: usize = 10;
/// How long the server is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
/// A source address has some 28,000 ports for one server.
const PORTS_EACH: usize = 20_000;

/// Opens the sessions, each of the accounts in turn, and lets them rest.
///
/// # Errors
/// When one can not be opened, or ends.
pub async fn run(server: Server, accounts: &[Account], plan: &Plan) -> Result<Outcome> {
    LocalSet::new()
        .run_until(run_here(server, accounts, plan))
        .await
}

async fn run_here(server: Server, accounts: &[Account], plan: &Plan) -> Result<Outcome> {
    let resident = || plan.server.and_then(|p| p.resident_bytes());
    let resident_before = resident();
    let mut sessions = JoinSet::new();
    let first = plan.connections / FIRST_SHARE;
    let mut opening = open(server, accounts, 0..first, &mut sessions).await?;
    resting(&mut sessions, SETTLE).await?;
    let resident_at_first = resident().filter(|_| first > 0).map(|bytes| (first, bytes));
    opening += open(server, accounts, first..plan.connections, &mut sessions).await?;
    resting(&mut sessions, SETTLE).await?;
    let cpu = || plan.server.and_then(|p| p.cpu());
    let (before, began) = (cpu(), Instant::now());
    resting(&mut sessions, plan.rest).await?;
    let rest_cpu = cpu()
        .zip(before)
        .map(|(end, begin)| end.saturating_sub(begin));
    Ok(Outcome {
        connections: plan.connections,
        opening,
        resident_before,
        resident_at_first,
        resident_after: resident(),
        rest: began.elapsed(),
        rest_cpu,
    })
}

/// Opens sessions and says how long it took.
async fn open(
    server: Server,
    accounts: &[Account],
    numbers: Range<usize>,
    sessions: &mut JoinSet<anyhow::Error>,
) -> Result<Duration> {
    let progress = Progress::of("sessions", numbers.len() as u64);
    let began = Instant::now();
    let opening = stream::iter(numbers).map(|n| {
        let account = &accounts[n % accounts.len()];
        let from = source(server.0.ip(), n);
        async move {
            let (socket, _) = Socket::open(server.0, from, &account.access_token).await?;
            Ok::<_, anyhow::Error>(socket)
        }
    });
    let mut opening = opening.buffer_unordered(OPENING);
    while let Some(socket) = opening
        .try_next()
        .await
        .context("a session could not be opened")?
    {
        progress.one();
        // Those that are open answer heartbeats while the others are still on their way.
        sessions.spawn_local(async move { socket.rest().await });
    }
    Ok(began.elapsed())
}

/// Waits, and fails as soon as a session ends.
async fn resting(sessions: &mut JoinSet<anyhow::Error>, how_long: Duration) -> Result<()> {
    tokio::select! {
        () = tokio::time::sleep(how_long) => Ok(()),
        Some(ended) = sessions.join_next() => match ended {
            Ok(why) => Err(why.context("a session ended while it rested")),
            Err(error) => bail!(error),
        },
    }
}

/// On one machine the loopback network has many addresses, and each of them its own ports.
pub fn source(server: IpAddr, n: usize) -> Option<IpAddr> {
    let loopback = matches!(server, IpAddr::V4(server) if server.is_loopback());
    let network = n / PORTS_EACH;
    (loopback && network > 0).then(|| Ipv4Addr::new(127, 0, 1, network.min(250) as u8).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_connections_come_from_many_addresses() {
        let loopback = "127.0.0.1".parse().unwrap();
        assert_eq!(source(loopback, 19_999), None);
        assert_eq!(source(loopback, 20_000), Some("127.0.1.1".parse().unwrap()));
        assert_eq!(source(loopback, 45_000), Some("127.0.1.2".parse().unwrap()));
        assert_eq!(source("10.0.0.1".parse().unwrap(), 45_000), None);
    }

    #[test]
    fn each_session_costs_its_share_of_what_the_server_grew() {
        let outcome = Outcome {
            connections: 1_000,
            opening: Duration::from_millis(500),
            resident_before: Some(10_000_000),
            resident_at_first: Some((100, 11_300_000)),
            resident_after: Some(14_000_000),
            rest: Duration::from_secs(1),
            rest_cpu: None,
        };
        assert_eq!(outcome.bytes_each(), Some(4_000.0));
        assert_eq!(outcome.bytes_each_further(), Some(3_000.0));
        assert_eq!(outcome.opened_per_second(), 2_000.0);
    }
}
