//! A process of its own that holds a share of the sessions: the system lets one process open so many files only.
//!
//! It is told what to do in lines of JSON, and answers in lines: first a [`Task`], then again and again how many
//! sessions it shall open; it answers how long each took. It ends when there are no more lines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow, bail};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::load::progress::Progress;
use crate::load::socket::Socket;

/// So many connections are opened at once by each process.
pub const OPENING: usize = 128;
/// A source address has some 28,000 ports, and the kernel looks for a free one longer and longer as they fill.
const PORTS_EACH: usize = 4_000;
/// So many numbers are used of an address's last.
const LOW_MAX: usize = 250;

/// Whose sessions it holds, and where.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    /// The server.
    pub server: SocketAddr,
    /// How many sessions other processes hold that were asked before.
    pub before: usize,
    /// Access tokens, used in turn.
    pub tokens: Vec<String>,
}

/// The process, from outside.
pub struct Share {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Share {
    /// Starts the process.
    ///
    /// # Errors
    /// When the system does not let it start.
    pub async fn start(task: &Task) -> Result<Self> {
        let program = std::env::current_exe().context("this program does not know its own path")?;
        let mut child = Command::new(program)
            .args(["load", "idle-share"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().context("it has no input")?;
        let stdout = child.stdout.take().context("it has no output")?;
        let answers = BufReader::new(stdout).lines();
        let mut share = Share {
            child,
            orders,
            answers,
        };
        share.tell(task).await?;
        Ok(share)
    }

    /// Opens so many more sessions, and says how many nanoseconds each took.
    ///
    /// # Errors
    /// When one can not be opened, or another one ended.
    pub async fn open(&mut self, count: usize) -> Result<Vec<u64>> {
        self.tell(&count).await?;
        let line = self.answers.next_line().await?;
        let line = line.context("a process ended that holds sessions")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits until the process ends, which it does by itself when a session does, and says so.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => anyhow!("a process that holds sessions ended with {status}"),
            Err(error) => error.into(),
        }
    }

    /// Ends it, and with it its sessions.
    ///
    /// # Errors
    /// When it had failed.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.orders);
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("a process that held sessions ended with {status}");
        }
        Ok(())
    }

    async fn tell(&mut self, what: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.orders.write_all(&line).await?;
        Ok(())
    }
}

/// Is such a process, until its input ends.
///
/// # Errors
/// When a session can not be opened, or ends.
pub async fn serve() -> Result<()> {
    LocalSet::new().run_until(serve_here()).await
}

async fn serve_here() -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let task = lines.next_line().await?.context("there is no task")?;
    let task: Task = serde_json::from_str(&task)?;
    let (mut sessions, mut open) = (JoinSet::new(), 0);
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            Some(ended) = sessions.join_next() => {
                let why: anyhow::Error = ended?;
                return Err(why.context("a session ended while it rested"));
            }
        };
        let Some(line) = line else { return Ok(()) };
        let count: usize = serde_json::from_str(&line)?;
        let times = open_some(&task, open..open + count, &mut sessions).await?;
        println!("{}", serde_json::to_string(&times)?);
        open += count;
    }
}

/// Opens sessions and says how many nanoseconds each took.
async fn open_some(
    task: &Task,
    numbers: Range<usize>,
    sessions: &mut JoinSet<anyhow::Error>,
) -> Result<Vec<u64>> {
    let progress = Progress::of("sessions", numbers.len() as u64);
    let mut times = Vec::with_capacity(numbers.len());
    let opening = numbers.map(|n| async move {
        let token = &task.tokens[n % task.tokens.len()];
        let from = source(task.server.ip(), task.before + n);
        let began = Instant::now();
        let (socket, _) = Socket::open(task.server, from, token).await?;
        anyhow::Ok((socket, began.elapsed().as_nanos() as u64))
    });
    let mut opening = stream::iter(opening).buffer_unordered(OPENING);
    while let Some((socket, taken)) = opening
        .try_next()
        .await
        .context("a session could not be opened")?
    {
        progress.one();
        times.push(taken);
        // Those that are open answer heartbeats while the others are still on their way.
        sessions.spawn_local(async move { socket.rest().await });
    }
    Ok(times)
}

/// On one machine the loopback network has many addresses, and each of them its own ports.
pub fn source(server: IpAddr, n: usize) -> Option<IpAddr> {
    let loopback = matches!(server, IpAddr::V4(server) if server.is_loopback());
    let (high, low) = (n / PORTS_EACH / LOW_MAX, n / PORTS_EACH % LOW_MAX);
    loopback.then(|| Ipv4Addr::new(127, 1, high.min(255) as u8, low as u8 + 1).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_connections_come_from_many_addresses() {
        let loopback = "127.0.0.1".parse().unwrap();
        for (n, address) in [
            (0, "127.1.0.1"),
            (3_999, "127.1.0.1"),
            (4_000, "127.1.0.2"),
            (999_999, "127.1.0.250"),
            (1_000_000, "127.1.1.1"),
        ] {
            assert_eq!(source(loopback, n), Some(address.parse().unwrap()));
        }
        assert_eq!(source("10.0.0.1".parse().unwrap(), 45_000), None);
    }
}
