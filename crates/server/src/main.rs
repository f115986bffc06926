//! `tertulia`: the server, its operator's commands and the terminal client in one binary.

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tertulia_kit::lifecycle::{self, StoppedBy};
use tertulia_kit::telemetry;
use tertulia_server::anew;
use tertulia_server::config::{self, Config};
use tertulia_server::config_command::{self, ConfigCommand};
use tertulia_server::feed_command;
use tertulia_server::harm::Harm;
use tertulia_server::jobs;
use tertulia_server::migrate_store::{self, MigrateStore};
use tertulia_server::plan::{self, Plan};
use tertulia_server::sessions;
use tertulia_server::verify::{self, Verify};
use tertulia_server::wiring;
use tokio::runtime::Runtime;

// Many small allocations of many sizes, made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "tertulia",
    version,
    about = "A self-hosted chat platform in one binary."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a server with everything in it.
    Serve(Serve),
    /// Shows and explains the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Checks everything in a data folder whose server is stopped: 0 when all is well, 2 when not.
    Verify(Verify),
    /// Moves everything that a data folder keeps into PostgreSQL, while its server is stopped.
    MigrateStore(MigrateStore),
    /// Shows the jobs that failed for good, and has them tried again or forgotten.
    Jobs(jobs::Command),
    /// Controls live sessions on all nodes of a deployment: lists, pushes, ends, revokes, drains.
    Sessions(sessions::Command),
    /// Follows what is committed, in one order: an export that goes on where it was.
    Feed(feed_command::Command),
    /// Computes what a deployment takes: nodes, cores, memory, network and storage.
    Plan(Plan),
    #[command(flatten)]
    Client(tertulia_cli::Command),
}

/// Every key of the configuration can also be set in a file, by `TERTULIA_…` or by `--set`.
#[derive(Args)]
struct Serve {
    /// The folder that holds everything the server keeps. Made when it is not there.
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// The address to listen on.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// A configuration file (TOML); `tertulia config template` writes one.
    #[arg(long, value_name = "FILE", env = "TERTULIA_CONFIG")]
    config: Option<PathBuf>,
    /// Sets any key, such as `--set live.heartbeat_ms=20000`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    harm: Harm,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Serve {
    fn flags(&self) -> Vec<(String, String)> {
        let named = [("data", &self.data), ("listen", &self.listen)];
        let named = named
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        named.chain(self.set.iter().cloned()).collect()
    }
}

fn main() -> ExitCode {
    let here = processors();
    let result = match Cli::parse().command {
        Command::Serve(options) => serve(options),
        Command::Config(command) => config_command::run(command),
        Command::Verify(command) => runtime(here).block_on(verify::run(command)),
        Command::MigrateStore(command) => runtime(here).block_on(migrate_store::run(command)),
        Command::Jobs(command) => runtime(here).block_on(jobs::run(command)),
        Command::Sessions(command) => runtime(here).block_on(sessions::run(command)),
        Command::Feed(command) => runtime(here).block_on(feed_command::run(command)),
        Command::Plan(command) => plan::run(command),
        Command::Client(command) => runtime(here).block_on(tertulia_cli::run(command)),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tertulia: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How many there are for this process.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn runtime(threads: usize) -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    runtime.expect("the machine has threads for the runtime")
}

/// Memory comes in small pages from here on. To clear a huge one takes milliseconds where the machine is a virtual one,
/// and whoever touches it first waits for that: mostly the writer of the logs, and everybody who waits for it.
fn use_small_pages() {
    // Where it can not be had, it is only slower.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

fn serve(options: Serve) -> anyhow::Result<ExitCode> {
    use_small_pages();
    let config: Config = config::load(options.config.clone(), options.flags())?.value;
    let runtime = runtime(config.threads_on(processors()));
    runtime.block_on(serve_as(config, options.harm))
}

async fn serve_as(config: Config, harm: Harm) -> anyhow::Result<ExitCode> {
    let mut signals = lifecycle::signals()?;
    telemetry::start(&config.log)?;
    let node = wiring::start(config, harm).await?;
    for address in &node.metrics {
        println!("Metrics are at http://{address}/metrics");
    }
    println!("Tertulia is ready at http://{}", node.address);
    println!(
        "(started in {} ms; Ctrl+C stops it)",
        node.started_in.as_millis()
    );
    tokio::select! {
        name = signals.next() => node.lifecycle.ask_to_stop(StoppedBy::Signal(name)),
        () = node.lifecycle.asked_to_stop() => {}
    }
    let stopped_by = node.lifecycle.stopped_by().cloned();
    tokio::select! {
        stopped = node.stop() => Ok(match stopped_by {
            Some(StoppedBy::Anew(_)) => anew::begin(),
            Some(StoppedBy::Failed { .. }) => ExitCode::FAILURE,
            _ if !stopped.not_closed.is_empty() => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        }),
        // Who says it twice means at once.
        _ = signals.next() => Ok(ExitCode::FAILURE),
    }
}
