//! `make bench-cluster`: what direct messages cost on the embedded store, on PostgreSQL, and on two nodes of one
//! deployment, one after the other in one run, with everything on the cores of this machine.

#![allow(
    clippy::disallowed_methods,
    reason = "a program for tests, without the kit"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;
use tertulia_kit::instances::{nats, postgres};
use tertulia_tests::node::{Process, Start};
use tertulia_tests::wire;
use tokio::process::Command;

/// What nodes show each other; it guards nothing but messages of a benchmark.
const NODE_KEY: &str = "the key by which nodes of a test know each other";
const PEPPER: &str = "the pepper of all nodes of a test";

/// The database as on a machine of its own size, and with what goes on in earnest.
const DATABASE: [&str; 3] = ["shared_buffers=1GB", "max_wal_size=4GB", "autovacuum=on"];

/// Name, messages in flight for each sender, messages a second of all.
const LOADS: [(&str, u32, Option<u32>); 3] = [
    ("1 in flight", 1, None),
    ("16 in flight", 16, None),
    ("paced 1,000/s", 16, Some(1_000)),
];

#[derive(Parser)]
#[command(
    about = "Measures what direct messages cost on the embedded store, on PostgreSQL, and on two nodes."
)]
struct Options {
    /// The optimised binary.
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Where the figures are left, as JSON.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How many pairs of people talk.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pairs: u32,
    /// How long each run is measured.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// How often; the middle one is shown, with the lowest and the highest.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
}

/// Some nodes, and what they stand on.
struct Deployment {
    name: &'static str,
    nodes: Vec<Process>,
    database: Option<postgres::Instance>,
    _bus: Option<nats::Instance>,
    _folder: TempDir,
}

impl Deployment {
    async fn start(
        name: &'static str,
        program: &Path,
        count: usize,
        on_postgres: bool,
    ) -> Result<Deployment> {
        let folder = tempfile::tempdir()?;
        let (database, bus) = tokio::task::block_in_place(|| {
            let database = on_postgres.then(|| postgres::Instance::with(&DATABASE));
            (database, (count > 1).then(nats::Instance::start))
        });
        let mut env = vec![("TERTULIA_IDENTITY__PEPPER".to_owned(), PEPPER.to_owned())];
        if let Some(database) = &database {
            env.push(("TERTULIA_STORE__URL".into(), database.url()));
        }
        if let Some(bus) = &bus {
            let url = format!("nats://{}", bus.address());
            env.push(("TERTULIA_BUS__URL".into(), url));
            env.push(("TERTULIA_BUS__NODE_KEY".into(), NODE_KEY.into()));
        }
        let mut nodes = Vec::new();
        for nth in 0..count {
            let start = Start {
                env: &env,
                program: Some(program),
                ..Start::default()
            };
            let data = folder.path().join(format!("node{nth}"));
            nodes.push(Process::start(&data, start).await?);
        }
        Ok(Deployment {
            name,
            nodes,
            database,
            _bus: bus,
            _folder: folder,
        })
    }

    /// Puts a load on all nodes.
    async fn measure(&self, options: &Options, load: (&str, u32, Option<u32>)) -> Result<Value> {
        let (what, in_flight, rate) = load;
        let each = |say: fn(&Process) -> String| {
            let all: Vec<String> = self.nodes.iter().map(say).collect();
            all.join(",")
        };
        let mut command = Command::new(&options.program);
        command.args(["load", "direct", "--json"]);
        command.args(["--url", &each(|node| node.url.clone())]);
        command.args(["--server-pid", &each(|node| node.pid().to_string())]);
        command.args(["--pairs", &options.pairs.to_string()]);
        command.args(["--seconds", &options.seconds.to_string()]);
        command.args(["--in-flight", &in_flight.to_string()]);
        if let Some(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if let Some(pid) = self.database.as_ref().and_then(postgres::Instance::pid) {
            command.args(["--database-pid", &pid.to_string()]);
        }
        let published = self.published().await?;
        let done = command.stderr(Stdio::inherit()).output().await?;
        ensure!(done.status.success(), "{}, {what}: it failed", self.name);
        let mut outcome: Value = serde_json::from_slice(&done.stdout)?;
        let published = self.published().await? - published;
        let sent = outcome["sent_in_all"].as_f64().unwrap_or(f64::NAN);
        outcome["published_per_message"] = json!(published / sent);
        Ok(outcome)
    }

    /// How many messages all nodes have handed to NATS since they began.
    async fn published(&self) -> Result<f64> {
        let mut sum = 0.0;
        for node in &self.nodes {
            let answer = wire::request("GET", &node.metrics, &[], "").await;
            let text = String::from_utf8_lossy(&answer.body);
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("tertulia_bus_sent_total "));
            sum += line.map_or(Ok(0.0), str::parse)?;
        }
        Ok(sum)
    }
}

/// The middle, the lowest and the highest of what a figure was in all runs.
fn spread(runs: &[Value], at: &str) -> Option<[f64; 3]> {
    let mut all: Vec<f64> = runs
        .iter()
        .filter_map(|run| run.pointer(at)?.as_f64())
        .collect();
    all.sort_unstable_by(f64::total_cmp);
    let (first, last) = (*all.first()?, *all.last()?);
    Some([all[all.len() / 2], first, last])
}

fn cell(spread: Option<[f64; 3]>, digits: usize) -> String {
    match spread {
        Some([middle, low, high]) => {
            format!("{middle:.digits$} ({low:.digits$} – {high:.digits$})")
        }
        None => "–".to_owned(),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let kinds = [
        ("embedded", 1, false),
        ("PostgreSQL", 1, true),
        ("PostgreSQL, two nodes", 2, true),
    ];
    let mut deployments = Vec::new();
    for (name, nodes, on_postgres) in kinds {
        let started = Deployment::start(name, &options.program, nodes, on_postgres).await;
        deployments.push(started.with_context(|| format!("{name} does not start"))?);
    }
    let mut all: BTreeMap<(usize, usize), Vec<Value>> = BTreeMap::new();
    // In turn, so that a machine that is slower for a while is slower for all.
    for run in 1..=options.runs {
        for (load_nth, load) in LOADS.into_iter().enumerate() {
            for (nth, deployment) in deployments.iter().enumerate() {
                eprintln!(
                    "{}, {}, run {run} of {}",
                    deployment.name, load.0, options.runs
                );
                let outcome = deployment.measure(&options, load).await?;
                all.entry((load_nth, nth)).or_default().push(outcome);
            }
        }
    }
    println!(
        "| | messages/s | nodes' CPU, µs a message | database's CPU, µs | acknowledged, p50 · p99 ms | NATS, publishes a message |"
    );
    println!("|---|---|---|---|---|---|");
    let mut figures = Vec::new();
    for ((load, deployment), runs) in &all {
        let name = format!("{}, {}", deployments[*deployment].name, LOADS[*load].0);
        let of = |at: &str| spread(runs, at);
        println!(
            "| {name} | {} | {} | {} | {} · {} | {} |",
            cell(of("/delivered_per_second"), 0),
            cell(of("/server_cpu_us_per_message"), 1),
            cell(of("/database_cpu_us_per_message"), 1),
            cell(of("/ack_ms/p50"), 2),
            cell(of("/ack_ms/p99"), 2),
            cell(of("/published_per_message"), 2),
        );
        figures.push(json!({"name": name, "runs": runs}));
    }
    std::fs::write(&options.out, serde_json::to_string_pretty(&figures)?)
        .with_context(|| format!("{} can not be written", options.out.display()))?;
    for deployment in deployments {
        for node in deployment.nodes {
            ensure!(node.terminate().await?.success(), "a node did not end well");
        }
    }
    Ok(())
}
