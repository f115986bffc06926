//! Tertulia and what one would pick instead, doing the same job one after the other on one machine.
//! `README.md` beside this says what is equal and what is not, and how to add another.

mod compare;
mod cpu;
mod load;
mod peers;
mod report;
mod server;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use load::Plan;
use load::text::BYTES_MIN;
use peers::Peer;

/// Runs Tertulia and what one would pick instead side by side: pairs of connections of which both ends write to
/// each other, as fast as acknowledgements come. Every server is a private one on a free port and an empty folder.
/// Every message is checked to come once and in order. Prints a table in Markdown; figures of every run go to a file.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    comparison: Comparison,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves as the bare relay, which is one of those that are compared.
    Relay {
        /// Writes every frame to this new file, and syncs it, before it passes it on.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Comparison {
    /// Only these, with commas between them.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Peer>,
    /// A short run that shows that everything works: one run, 20 pairs, 2 s. Its figures are not to be compared.
    #[arg(long)]
    quick: bool,
    /// How often each is measured; the table has the medians [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// How many pairs of connections [default: 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pairs: Option<u32>,
    /// How many messages of one sender are unanswered at most; several, with commas between them.
    #[arg(long, value_name = "W", value_delimiter = ',', default_values_t = [1, 16], value_parser = clap::value_parser!(u32).range(1..=256))]
    in_flight: Vec<u32>,
    /// Messages a second of all senders together; without it as fast as acknowledgements come.
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// How long is measured [default: 10]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: Option<u64>,
    /// How long a message is.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(BYTES_MIN as i64..=4_096))]
    bytes: u32,
    /// The release binary of Tertulia.
    #[arg(long, value_name = "FILE", default_value = "target/release/tertulia")]
    tertulia: PathBuf,
    /// The folder of the Socket.IO server, with its packages installed.
    #[arg(long, value_name = "FOLDER", default_value = "bench/peers/socketio")]
    socketio: PathBuf,
    /// Where the figures of every run go, as JSON.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "bench/peers/out/peers.json"
    )]
    out: PathBuf,
    /// Prints which would be run, each in a line, and ends.
    #[arg(long)]
    list: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok();
    let rate = rate.filter(|rate| (0.1..=10_000_000.0).contains(rate));
    rate.ok_or_else(|| "a rate is between 0.1 and 10,000,000 messages a second".to_owned())
}

impl Comparison {
    fn peers(&self) -> Vec<Peer> {
        let all = Peer::ALL.iter().copied();
        all.filter(|peer| self.only.is_empty() || self.only.contains(peer))
            .collect()
    }

    fn plan(&self) -> Plan {
        let (pairs, seconds, warm_up) = if self.quick { (20, 2, 1) } else { (200, 10, 2) };
        Plan {
            pairs: self.pairs.unwrap_or(pairs) as usize,
            in_flight: self.in_flight.iter().map(|w| *w as usize).collect(),
            rate: self.rate,
            bytes: self.bytes as usize,
            warm_up: Duration::from_secs(warm_up),
            measured: Duration::from_secs(self.seconds.unwrap_or(seconds)),
        }
    }

    fn runs(&self) -> usize {
        self.runs.unwrap_or(if self.quick { 1 } else { 3 }) as usize
    }
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        // As many threads as there are processors: this is a server.
        Some(Command::Relay { file }) => {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(peers::relay::serve(file.as_deref()))?;
        }
        None if cli.comparison.list => {
            for peer in cli.comparison.peers() {
                println!("{}", peer.name());
            }
        }
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            return runtime.block_on(until_stopped(cli.comparison));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares, unless somebody stops it; then what was started is ended, too.
async fn until_stopped(comparison: Comparison) -> Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        compared = compare(comparison) => compared,
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}

async fn compare(comparison: Comparison) -> Result<ExitCode> {
    let places = peers::Places {
        tertulia: comparison.tertulia.clone(),
        socketio: comparison.socketio.clone(),
    };
    let (plan, runs) = (comparison.plan(), comparison.runs());
    // Before the load, which would show in it.
    let machine = report::Machine::this();
    let results = compare::run(&comparison.peers(), &places, &plan, runs).await?;
    if let Some(folder) = comparison.out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&comparison.out, report::json(&machine, &plan, &results)?)
        .with_context(|| format!("{} can not be written", comparison.out.display()))?;
    print!("{}", report::markdown(&machine, &plan, &results));
    let broken = results.iter().any(|result| result.is_broken());
    Ok(if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
