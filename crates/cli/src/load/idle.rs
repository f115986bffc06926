//! Sessions that only rest: what one of them costs in memory, and all of them in processor time.
//!
//! They are held by processes beside this one ([`share`]), and when they are more than one server may open files
//! for, by several servers of our own.

mod share;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use futures::future::{select_all, try_join_all};
use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::child::Running;
use super::people::{Account, Server};
use super::proc::{self, Process};
use super::report::{Figure, Readable, median, milliseconds, percent_of_a_core};
use share::{Share, Task};
pub use share::{serve, source};

/// Sessions that only rest.
#[derive(Debug, Args)]
pub struct Options {
    /// The server, such as http://127.0.0.1:8080, with its limits off; without it, as many as are needed are started.
    #[arg(long)]
    url: Option<String>,
    /// How many sessions.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// How many sessions share an account. The server must allow so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    sessions_per_account: u32,
    /// How many servers of our own share the sessions; without it as few as may open so many files.
    #[arg(long, value_name = "N", conflicts_with = "url", value_parser = clap::value_parser!(u32).range(1..=100))]
    servers: Option<u32>,
    /// How long they rest while the server's processor time is measured. A server beats once in 25 s.
    #[arg(long, value_name = "S", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How often.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// The server's process, when it is on this machine, for its memory and processor time.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Prints one JSON array instead of text.
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Opens them, lets them rest, and prints the figures.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn run(self) -> Result<ExitCode> {
        let connections = self.connections as usize;
        let each = self.sessions_per_account as usize;
        let plan = Plan {
            connections,
            rest: Duration::from_secs(self.seconds),
        };
        let mut outcomes = Vec::new();
        if let Some(url) = &self.url {
            let server = Server::at(url).await?;
            let accounts = server.accounts(connections.div_ceil(each)).await?;
            let target = Target {
                server,
                process: self.server_pid.map(Process),
                tokens: tokens(accounts),
            };
            for _ in 0..self.runs {
                outcomes.push(run(std::slice::from_ref(&target), &plan).await?);
            }
        } else {
            let fewest = connections.div_ceil(sessions_max()?);
            let servers = self.servers.map_or(fewest, |servers| servers as usize);
            ensure!(
                servers >= fewest,
                "with the open files that the system allows (ulimit -n) it takes {fewest} servers"
            );
            let fleet = Fleet::prepare(servers, connections, each).await?;
            for _ in 0..self.runs {
                outcomes.push(fleet.run(&plan).await?);
            }
        }
        super::print_figures(&figures(&outcomes), self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many sessions.
    pub connections: usize,
    /// How long they rest while the processor time is measured.
    pub rest: Duration,
}

/// A server, and who rests there.
#[derive(Debug)]
pub struct Target {
    /// Where it is.
    pub server: Server,
    /// Its process, when it is on this machine.
    pub process: Option<Process>,
    /// Of whose accounts the sessions are.
    pub tokens: Vec<String>,
}

/// What was measured; of several servers the sum.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How many sessions rested.
    pub connections: usize,
    /// How many servers had them.
    pub servers: usize,
    /// How long it took to open them all.
    pub opening: Duration,
    /// Nanoseconds that it took to open each, welcome and all.
    pub open_ns: Histogram<u64>,
    /// The servers' memory before the first.
    pub resident_before: Option<u64>,
    /// How many sessions there were, and the servers' memory, when only the first were open.
    pub resident_at_first: Option<(usize, u64)>,
    /// The servers' memory after they have rested.
    pub resident_after: Option<u64>,
    /// By how much the kernel's own memory grew, for both ends of every connection.
    pub kernel_grown: Option<f64>,
    /// How long they rested.
    pub rest: Duration,
    /// The servers' processor time while they rested.
    pub rest_cpu: Option<Duration>,
}

impl Outcome {
    /// The servers' memory for each session.
    pub fn bytes_each(&self) -> Option<f64> {
        let grown = self.resident_after? as f64 - self.resident_before? as f64;
        Some(grown / self.connections as f64)
    }

    /// The servers' memory for each session beyond the first ones: without what a server takes once, for the
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

/// One in so many sessions is opened first, to tell what a session costs from what the server takes once.
const FIRST_SHARE: usize = 10;
/// How long the server is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
/// Open files that a process needs for other things.
const OTHER_FILES: u64 = 300;
/// A generator holds so many sessions at most.
const SHARE_MAX: usize = 19_600;

/// How many sessions one process may have.
fn sessions_max() -> Result<usize> {
    let files = proc::raise_open_files();
    ensure!(
        files > OTHER_FILES,
        "the system allows {files} open files (ulimit -n)"
    );
    Ok(usize::try_from(files - OTHER_FILES)?.min(SHARE_MAX))
}

/// Opens the sessions, spread evenly over the servers, and lets them rest.
///
/// # Errors
/// When one can not be opened, or ends.
pub async fn run(targets: &[Target], plan: &Plan) -> Result<Outcome> {
    let resident = || {
        let each = targets.iter().map(|t| t.process?.resident_bytes());
        each.sum::<Option<u64>>()
    };
    let cpu = || {
        let each = targets.iter().map(|t| t.process?.cpu());
        each.sum::<Option<Duration>>()
    };
    let kernel_before = proc::kernel_bytes();
    let resident_before = resident();
    let mut shares = Vec::new();
    for (target, count, before) in shared_out(targets.len(), plan.connections, sessions_max()?) {
        let target = &targets[target];
        let task = Task {
            server: target.server.0,
            before,
            tokens: target.tokens.clone(),
        };
        shares.push((Share::start(&task).await?, count));
    }
    // It takes any time.
    let mut open_ns = Histogram::new(3).expect("three digits are allowed");
    let first_of = |count: usize| count / FIRST_SHARE;
    let mut opening = open(&mut shares, first_of, &mut open_ns).await?;
    resting(&mut shares, SETTLE).await?;
    let first = shares.iter().map(|(_, count)| first_of(*count)).sum();
    let resident_at_first = resident().filter(|_| first > 0).map(|bytes| (first, bytes));
    opening += open(&mut shares, |count| count - first_of(count), &mut open_ns).await?;
    resting(&mut shares, SETTLE).await?;
    let (before, began) = (cpu(), Instant::now());
    resting(&mut shares, plan.rest).await?;
    let outcome = Outcome {
        connections: plan.connections,
        servers: targets.len(),
        opening,
        open_ns,
        resident_before,
        resident_at_first,
        resident_after: resident(),
        kernel_grown: proc::kernel_bytes()
            .zip(kernel_before)
            .map(|(end, begin)| end as f64 - begin as f64),
        rest: began.elapsed(),
        rest_cpu: cpu().zip(before).map(|(end, begin)| end - begin),
    };
    try_join_all(shares.into_iter().map(|(share, _)| share.stop())).await?;
    Ok(outcome)
}

/// Which server, how many of its sessions, and how many others come before, for each process that holds some.
fn shared_out(servers: usize, sessions: usize, most: usize) -> Vec<(usize, usize, usize)> {
    let (mut shares, mut before) = (Vec::new(), 0);
    for server in 0..servers {
        let mut left = sessions / servers + usize::from(server < sessions % servers);
        while left > 0 {
            let some = most.min(left);
            shares.push((server, some, before));
            left -= some;
            before += some;
        }
    }
    shares
}

/// Opens sessions in every process at once, and says how long it took.
async fn open(
    shares: &mut [(Share, usize)],
    how_many: impl Fn(usize) -> usize,
    open_ns: &mut Histogram<u64>,
) -> Result<Duration> {
    let began = Instant::now();
    let opening = shares
        .iter_mut()
        .map(|(share, count)| share.open(how_many(*count)));
    let times = try_join_all(opening).await?;
    let took = began.elapsed();
    for taken in times.into_iter().flatten() {
        open_ns.record(taken)?;
    }
    Ok(took)
}

/// Waits, and fails as soon as a session ends.
async fn resting(shares: &mut [(Share, usize)], how_long: Duration) -> Result<()> {
    let ended = shares.iter_mut().map(|(share, _)| Box::pin(share.ended()));
    tokio::select! {
        () = tokio::time::sleep(how_long) => Ok(()),
        (why, ..) = select_all(ended) => Err(why),
    }
}

/// Servers of our own. Their accounts stay and their processes are fresh for each run: memory that was used for
/// hashing passwords would be used again, and make sessions look free.
pub struct Fleet {
    folders: Vec<tempfile::TempDir>,
    tokens: Vec<Vec<String>>,
}

impl Fleet {
    /// Makes so many servers with accounts for so many sessions in all.
    ///
    /// # Errors
    /// When a server does not start, or an account can not be made.
    pub async fn prepare(servers: usize, sessions: usize, per_account: usize) -> Result<Self> {
        let (mut folders, mut all) = (Vec::new(), Vec::new());
        let accounts = sessions.div_ceil(servers).div_ceil(per_account);
        for _ in 0..servers {
            let folder = tempfile::tempdir().context("no folder for a server's data")?;
            let making = Running::start_with(folder.path(), super::hot::SETTINGS).await?;
            all.push(tokens(making.server.accounts(accounts).await?));
            making.stop().await?;
            folders.push(folder);
        }
        Ok(Fleet {
            folders,
            tokens: all,
        })
    }

    /// Starts them, has the sessions rest, and stops them.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn run(&self, plan: &Plan) -> Result<Outcome> {
        let (mut running, mut targets) = (Vec::new(), Vec::new());
        for (folder, tokens) in self.folders.iter().zip(&self.tokens) {
            let one = Running::start(folder.path()).await?;
            targets.push(Target {
                server: one.server,
                process: Some(one.process),
                tokens: tokens.clone(),
            });
            running.push(one);
        }
        let outcome = run(&targets, plan).await?;
        try_join_all(running.into_iter().map(Running::stop)).await?;
        Ok(outcome)
    }
}

fn tokens(accounts: Vec<Account>) -> Vec<String> {
    let tokens = accounts.into_iter().map(|account| account.access_token);
    tokens.collect()
}

/// The rows of several runs.
pub fn figures(outcomes: &[Outcome]) -> Vec<Figure> {
    let Some(one) = outcomes.first() else {
        return Vec::new();
    };
    let name = match one.servers {
        1 => format!("{} idle", Readable(one.connections as f64)),
        n => format!("{} idle on {n} servers", Readable(one.connections as f64)),
    };
    let each =
        |f: &dyn Fn(&Outcome) -> Option<f64>| outcomes.iter().filter_map(f).collect::<Vec<f64>>();
    let time = |quantile| median(&each(&|o| Some(milliseconds(&o.open_ns, quantile))));
    let opened = Figure::of(
        format!("{name}: sessions opened"),
        "1/s",
        each(&|o| Some(o.opened_per_second())),
    );
    let opened = opened.map(|figure| Figure {
        p50_ms: time(0.5),
        p99_ms: time(0.99),
        ..figure
    });
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let rows = [
        (
            "memory at rest",
            "MiB",
            each(&|o| Some(mib(o.resident_before?))),
        ),
        ("memory each, all counted", "B", each(&Outcome::bytes_each)),
        (
            "memory of each further",
            "B",
            each(&Outcome::bytes_each_further),
        ),
        (
            "kernel's memory each, both ends",
            "B",
            each(&|o| Some(o.kernel_grown? / o.connections as f64)),
        ),
        (
            "CPU of all",
            "% of a core",
            each(&|o| Some(percent_of_a_core(o.rest_cpu?, o.rest))),
        ),
    ];
    let rows = rows
        .into_iter()
        .map(|(what, unit, runs)| Figure::of(format!("{name}: {what}"), unit, runs));
    rows.chain([opened]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_is_in_one_share_and_no_share_is_too_large() {
        assert_eq!(shared_out(1, 5, 10), [(0, 5, 0)]);
        assert_eq!(shared_out(1, 25, 10), [(0, 10, 0), (0, 10, 10), (0, 5, 20)]);
        assert_eq!(shared_out(3, 10, 10), [(0, 4, 0), (1, 3, 4), (2, 3, 7)]);
    }

    #[test]
    fn each_session_costs_its_share_of_what_the_server_grew() {
        let outcome = Outcome {
            connections: 1_000,
            servers: 1,
            opening: Duration::from_millis(500),
            open_ns: Histogram::new(3).unwrap(),
            resident_before: Some(10_000_000),
            resident_at_first: Some((100, 11_300_000)),
            resident_after: Some(14_000_000),
            kernel_grown: None,
            rest: Duration::from_secs(1),
            rest_cpu: None,
        };
        assert_eq!(outcome.bytes_each(), Some(4_000.0));
        assert_eq!(outcome.bytes_each_further(), Some(3_000.0));
        assert_eq!(outcome.opened_per_second(), 2_000.0);
    }
}
