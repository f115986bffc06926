//! Load, made by the same binary that takes it: `tertulia load direct`, `group`, `hot`, `idle`, `catchup`, and the benchmark
//! behind `make bench`. What it prints is measured, and what it measures it also checks: a lost, repeated or
//! disordered message is a failure, not a footnote.
//!
//! It shares the machine with the server, so it does little for each message: one thread, one buffer,
//! frames encoded once and patched ([`template`]), and everything of one turn written at once ([`socket`]).

mod bench;
mod catchup;
mod child;
mod direct;
mod frame;
mod group;
mod grow;
mod host;
mod hot;
mod idle;
mod measure;
mod meter;
mod people;
mod plot;
mod proc;
mod progress;
mod report;
mod scenario;
mod socket;
mod storm;
mod talk;
mod template;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::json;

use host::Host;
use measure::Window;
use meter::Meter;
use people::Server;
use proc::{Family, Process};
use report::{Figure, Readable, milliseconds, percent_of_a_core, quantiles};

/// Puts load on a server and measures what it does.
#[derive(Debug, Args)]
pub struct Load {
    #[command(subcommand)]
    command: LoadCommand,
}

/// The kinds of load.
#[derive(Debug, Subcommand)]
pub enum LoadCommand {
    /// Pairs of people write to each other; every message is checked to come once and in order.
    Direct(Direct),
    /// The members of one group hear what some of them write; every message is checked to come once and in order.
    Group(Group),
    /// A chat with far too much in it, and what pairs of people notice of it who talk beside it.
    Hot(Hot),
    /// Sessions that only rest.
    Idle(idle::Options),
    /// Holds a share of the idle sessions, for the command above.
    #[command(hide = true)]
    IdleShare,
    /// Clients come back and learn what they missed.
    Catchup(Catchup),
    /// All connections drop at once, and everybody comes back at once.
    Storm(Storm),
    /// People who log in, look at their chats, read and write with pauses.
    Scenario(Scenario),
    /// Fills a store of its own to one size after the other, and asks the same at each.
    Grow(grow::Options),
    /// Draws the figures of a run as SVG.
    Plot(plot::Options),
    /// Starts servers of its own and measures every published figure.
    Bench(Bench),
}

/// Pairs of people who write to each other.
#[derive(Debug, Args)]
pub struct Direct {
    /// The server, such as http://127.0.0.1:8080, or several nodes of one with commas between them; each pair is on
    /// one of them. Limits should be off: all load comes from one address.
    #[arg(long, value_delimiter = ',', required = true)]
    url: Vec<String>,
    /// How many pairs.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pairs: u32,
    /// How many messages of one sender are unanswered at most.
    #[arg(long, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    in_flight: u32,
    /// Messages a second of all senders together; without it as fast as answers come.
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// How long is measured.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How long a text is.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(template::TEXT_BYTES_MIN as i64..=8_000))]
    bytes: u32,
    /// The server's process, when it is on this machine, for its processor time; of several nodes all of them, with
    /// commas between them.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// The first process of the database server that the nodes use, when it is on this machine, for the processor
    /// time of all its processes.
    #[arg(long, value_name = "PID")]
    database_pid: Option<u32>,
    /// Prints one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// One group.
#[derive(Debug, Args)]
pub struct Group {
    /// The server, such as http://127.0.0.1:8080, with its limits off; without it, one of our own is started.
    #[arg(long)]
    url: Option<String>,
    /// How many members.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    members: u32,
    /// How many of them write.
    #[arg(long, value_name = "W", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    writers: u32,
    /// Messages a second of all writers together; without it so many are under way as --under-way says.
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// How many messages of all writers have not come to every member at most, when there is no rate.
    #[arg(long, value_name = "W", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    under_way: u32,
    /// How long is measured.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How often.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How long a text is.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(template::TEXT_BYTES_MIN as i64..=8_000))]
    bytes: u32,
    /// The server's process, when it is on this machine, for its processor time.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Prints one JSON array instead of text.
    #[arg(long)]
    json: bool,
}

/// A chat with far too much in it.
#[derive(Debug, Args)]
pub struct Hot {
    /// The server, such as http://127.0.0.1:8080, with its limits off; without it, one of our own is started.
    #[arg(long)]
    url: Option<String>,
    /// How many members.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    members: u32,
    /// How many of them are connected; all of them when not given.
    #[arg(long, value_name = "N")]
    online: Option<u32>,
    /// How many of those read nothing.
    #[arg(long, value_name = "N", default_value_t = 0)]
    slow: u32,
    /// Messages a second into the chat.
    #[arg(long, value_name = "R", default_value_t = 200.0)]
    rate: f64,
    /// How long they are.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(template::TEXT_BYTES_MIN as i64..=8_000))]
    bytes: u32,
    /// Sets any key of our own server, such as live.turn_sessions_max=32. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How many pairs talk beside it.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pairs: u32,
    /// Messages a second of all pairs together.
    #[arg(long, value_name = "R", default_value_t = 500.0)]
    pairs_rate: f64,
    /// How long is measured.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: u64,
    /// How often.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10))]
    runs: u32,
    /// The server's process, when it is on this machine, for its memory and processor time.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Prints one JSON array instead of text.
    #[arg(long)]
    json: bool,
}

/// Clients that come back.
#[derive(Debug, Args)]
pub struct Catchup {
    /// The server, such as http://127.0.0.1:8080, with its limits off; without it, one of our own is started.
    #[arg(long)]
    url: Option<String>,
    /// How often each figure is taken.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// How often a client comes back for each.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    times: u32,
    /// In how many chats the busy user is.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    chats: u32,
    /// In how many chats the user is whose first screen must not depend on it.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    many_chats: u32,
    /// How many events lie between what a client holds and what it asks about.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    events: u64,
    /// Where the server shows its metrics, such as 127.0.0.1:9090, for how often it reads its store.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// The server's process, when it is on this machine, for its processor time.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Prints one JSON array instead of text.
    #[arg(long)]
    json: bool,
}

/// People who log in, look at their chats, read and write with pauses.
#[derive(Debug, Args)]
pub struct Scenario {
    /// The server, such as http://127.0.0.1:8080, with its limits off; without it, one of our own is started.
    #[arg(long)]
    url: Option<String>,
    /// How many people, two to a chat.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    people: u32,
    /// How they log in at each visit. A password takes the server its time.
    #[arg(long, value_enum, default_value_t = scenario::Login::Kept)]
    login: scenario::Login,
    /// Over how long they arrive. A visit takes some 84 s.
    #[arg(long, value_name = "S", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    arrival: u64,
    /// How long is measured once all are there.
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The server's process, when it is on this machine, for its processor time.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Prints one JSON array instead of text.
    #[arg(long)]
    json: bool,
}

/// All connections drop at once, and everybody comes back at once.
#[derive(Debug, Args)]
pub struct Storm {
    /// The server, such as http://127.0.0.1:8080, with its limits off; without it, one of our own is started.
    #[arg(long)]
    url: Option<String>,
    /// How many connections.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// How many connections share an account. The server must allow so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    sessions_per_account: u32,
    /// How many messages everybody misses while nobody is there.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=500))]
    missed: u64,
    /// How many pairs talk all the while.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pairs: u32,
    /// Messages a second of all pairs together.
    #[arg(long, value_name = "R", default_value_t = 500.0)]
    pairs_rate: f64,
    /// How often.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10))]
    runs: u32,
    /// Where the server shows its metrics, such as 127.0.0.1:9090, for how often it reads its store.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// The server's process, when it is on this machine, for its processor time.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Prints one JSON array instead of text.
    #[arg(long)]
    json: bool,
}

/// The benchmark.
#[derive(Debug, Args)]
pub struct Bench {
    /// Short runs, to see that everything works. Their figures are not to be compared.
    #[arg(long)]
    quick: bool,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<bench::Part>,
    /// Where the store that grows is kept for the next time, which then begins with its end.
    #[arg(long, value_name = "FOLDER")]
    grown: Option<PathBuf>,
    /// Where the figures go.
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    out: PathBuf,
}

impl Load {
    /// Runs it.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn run(self) -> Result<ExitCode> {
        run(self.command).await
    }
}

/// Runs a load. The answer is a failure when a delivery promise was broken.
///
/// # Errors
/// When the load can not be put on the server.
pub async fn run(command: LoadCommand) -> Result<ExitCode> {
    // One thread of its own: it takes no more of the processors than it must, and nothing needs a lock.
    let (tell, told) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || {
            // Nobody waits any more when the receiver is gone.
            _ = tell.send(runtime.block_on(dispatch(command)));
        })?;
    told.await.context("the load ended without a word")?
}

async fn dispatch(command: LoadCommand) -> Result<ExitCode> {
    match command {
        LoadCommand::Direct(args) => run_direct(args).await,
        LoadCommand::Group(args) => run_group(args).await,
        LoadCommand::Hot(args) => run_hot(args).await,
        LoadCommand::Idle(options) => options.run().await,
        LoadCommand::IdleShare => {
            proc::raise_open_files();
            idle::serve().await?;
            Ok(ExitCode::SUCCESS)
        }
        LoadCommand::Catchup(args) => run_catchup(args).await,
        LoadCommand::Storm(args) => run_storm(args).await,
        LoadCommand::Scenario(args) => run_scenario(args).await,
        LoadCommand::Grow(options) => options.run().await,
        LoadCommand::Plot(options) => options.run(),
        LoadCommand::Bench(Bench {
            quick,
            only,
            grown,
            out,
        }) => {
            proc::raise_open_files();
            let plan = if quick {
                bench::Plan::quick(out)
            } else {
                bench::Plan::full(out)
            };
            let plan = bench::Plan {
                only,
                grown_in: grown,
                ..plan
            };
            enough_files(plan.hot.0)?;
            bench::run(&plan).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Each connection is an open file.
fn enough_files(connections: usize) -> Result<()> {
    let files = proc::raise_open_files();
    ensure!(
        connections as u64 + 100 <= files,
        "{connections} connections need as many open files, and the system allows {files} (ulimit -n)"
    );
    Ok(())
}

async fn run_direct(args: Direct) -> Result<ExitCode> {
    if args
        .rate
        .is_some_and(|rate| !(0.1..=10_000_000.0).contains(&rate))
    {
        bail!("a rate is between 0.1 and 10,000,000 messages a second");
    }
    enough_files(args.pairs as usize * 2)?;
    let mut nodes = Vec::new();
    for url in &args.url {
        nodes.push(Server::at(url).await?);
    }
    let first = nodes.first().context("there is a node")?;
    let pairs = first.pairs(args.pairs as usize).await?;
    let plan = direct::Plan {
        in_flight: args.in_flight as usize,
        rate: args.rate,
        measured: Duration::from_secs(args.seconds),
        warm_up: Duration::from_secs(1),
        text_bytes: args.bytes as usize,
        server: args.server_pid.iter().copied().map(Process).collect(),
        database: args.database_pid.map(Family),
    };
    let outcome = direct::run(&nodes, &pairs, &plan, || {}).await?;
    let broken = outcome.violations.total() > 0;
    if args.json {
        direct_json(&args, &outcome)
    } else {
        direct_text(&args, &outcome)
    }
    Ok(if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn direct_json(args: &Direct, outcome: &direct::Outcome) {
    let times = |histogram| {
        json!({
            "p50": milliseconds(histogram, 0.5),
            "p90": milliseconds(histogram, 0.9),
            "p99": milliseconds(histogram, 0.99),
            "p999": milliseconds(histogram, 0.999),
            "max": histogram.max() as f64 / 1e6,
        })
    };
    let object = json!({
        "pairs": args.pairs,
        "in_flight": args.in_flight,
        "rate": args.rate,
        "text_bytes": args.bytes,
        "seconds": outcome.measured.as_secs_f64(),
        "acked": outcome.acked,
        "delivered": outcome.delivered,
        "delivered_per_second": outcome.delivered_per_second(),
        "ack_ms": times(&outcome.ack_ns),
        "delivery_ms": times(&outcome.delivery_ns),
        "server_cpu_seconds": outcome.server_cpu.map(|cpu| cpu.as_secs_f64()),
        "server_cpu_us_per_message": outcome.cpu_us_per_message(),
        "database_cpu_us_per_message": outcome.database_cpu_us_per_message(),
        "server_written_bytes_per_message": outcome.written_bytes_per_message(),
        "load_cpu_seconds": outcome.own_cpu.map(|cpu| cpu.as_secs_f64()),
        "sent_in_all": outcome.sent_in_all,
        "behind": outcome.behind,
        "violations": outcome.violations,
    });
    println!("{object}");
}

fn direct_text(args: &Direct, outcome: &direct::Outcome) {
    let pace = match args.rate {
        Some(rate) => format!("paced {} a second", Readable(rate)),
        None => "as fast as answers come".to_owned(),
    };
    println!(
        "{} pairs, {} in flight each, {} bytes, {pace}",
        args.pairs, args.in_flight, args.bytes
    );
    println!(
        "delivered    {} in {:.1} s: {} messages a second ({} acknowledged)",
        Readable(outcome.delivered as f64),
        outcome.measured.as_secs_f64(),
        Readable(outcome.delivered_per_second()),
        Readable(outcome.acked as f64),
    );
    println!("acknowledged {}", quantiles(&outcome.ack_ns));
    println!("at the other {}", quantiles(&outcome.delivery_ns));
    if let (Some(cpu), Some(each)) = (outcome.server_cpu, outcome.cpu_us_per_message()) {
        let share = percent_of_a_core(cpu, outcome.measured);
        println!("server CPU   {each:.1} ms for 1,000 delivered messages ({share:.0} % of a core)");
    }
    if let (Some(cpu), Some(each)) = (outcome.database_cpu, outcome.database_cpu_us_per_message()) {
        let share = percent_of_a_core(cpu, outcome.measured);
        println!("database CPU {each:.1} ms for 1,000 delivered messages ({share:.0} % of a core)");
    }
    if let Some(bytes) = outcome.written_bytes_per_message() {
        println!(
            "server disk  {} bytes written for each message",
            Readable(bytes)
        );
    }
    if let Some(own) = outcome.own_cpu {
        println!(
            "load CPU     {:.0} % of a core",
            percent_of_a_core(own, outcome.measured)
        );
    }
    if outcome.behind > 0 {
        println!(
            "behind       {} times a session was behind and caught up",
            outcome.behind
        );
    }
    let all = Readable(outcome.sent_in_all as f64);
    match outcome.violations {
        v if v.total() == 0 => println!("checked      {all} messages: each came once and in order"),
        v => println!("BROKEN       of {all} messages: {v:?}"),
    }
}

fn print_figures(figures: &[Figure], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(figures)?);
    } else {
        println!("{}", report::table(figures));
    }
    Ok(())
}

async fn run_group(args: Group) -> Result<ExitCode> {
    let flow = match args.rate {
        Some(rate) => group::Flow::Paced(rate_in_bounds(rate)?),
        None => group::Flow::Closed(args.under_way as usize),
    };
    let members = args.members as usize;
    enough_files(members)?;
    let host = Host::at(args.url.as_deref(), args.server_pid, &[]).await?;
    let accounts = host.server.accounts(members).await?;
    let (owner, others) = accounts.split_first().context("there is an owner")?;
    let chat_id = host.server.groups(owner, others, 1).await?.remove(0);
    let plan = group::Plan {
        writers: args.writers as usize,
        flow,
        text_bytes: args.bytes as usize,
        warm: false,
        slow: 0,
        window: Window {
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(args.seconds),
            server: host.process.into_iter().collect(),
            database: None,
        },
    };
    let mut outcomes = Vec::new();
    for _ in 0..args.runs {
        outcomes.push(group::run(host.server, &accounts, chat_id, &plan, || {}).await?);
    }
    host.stop().await?;
    let name = match flow {
        group::Flow::Paced(rate) => format!("group of {members}, {} messages/s", Readable(rate)),
        group::Flow::Closed(max) => format!("group of {members}, {max} under way"),
    };
    let each = |f: &dyn Fn(&group::Outcome) -> Option<f64>| {
        outcomes.iter().filter_map(f).collect::<Vec<f64>>()
    };
    let cpu = each(&|o| o.cpu_us_per_delivery());
    let acks = each(&|o| Some(milliseconds(&o.ack_ns, 0.99)));
    let behind = each(&|o| Some(o.behind as f64));
    let figures: Vec<Figure> = [
        Figure::of_group(&format!("{name}, delivered"), &outcomes),
        Figure::of(format!("{name}, CPU of a million"), "s", cpu),
        Figure::of(format!("{name}, ack p99"), "ms", acks),
        Figure::of(format!("{name}, behind"), "sessions", behind),
    ]
    .into_iter()
    .flatten()
    .collect();
    print_figures(&figures, args.json)?;
    let mut broken = outcomes.iter().map(|outcome| outcome.violations);
    Ok(match broken.find(|violations| violations.total() > 0) {
        None => ExitCode::SUCCESS,
        Some(violations) => {
            eprintln!("BROKEN {violations:?}");
            ExitCode::FAILURE
        }
    })
}

fn rate_in_bounds(rate: f64) -> Result<f64> {
    ensure!(
        (0.1..=1_000_000.0).contains(&rate),
        "a rate is between 0.1 and 1,000,000 messages a second"
    );
    Ok(rate)
}

async fn run_hot(args: Hot) -> Result<ExitCode> {
    let online = args.online.unwrap_or(args.members).min(args.members) as usize;
    ensure!(
        (args.slow as usize) < online,
        "somebody has to read what is written"
    );
    enough_files(online + 2 * args.pairs as usize)?;
    let set = args.set.iter().map(String::as_str);
    let settings: Vec<&str> = hot::SETTINGS.iter().copied().chain(set).collect();
    let host = Host::at(args.url.as_deref(), args.server_pid, &settings).await?;
    let people = hot::People::make(
        host.server,
        args.members as usize,
        online,
        args.pairs as usize,
    )
    .await?;
    let plan = hot::Plan {
        runs: args.runs as usize,
        rate: rate_in_bounds(args.rate)?,
        text_bytes: args.bytes as usize,
        slow: args.slow as usize,
        pairs_rate: rate_in_bounds(args.pairs_rate)?,
        measured: Duration::from_secs(args.seconds),
        warm_up: Duration::from_secs(2),
        process: host.process,
    };
    let outcomes = hot::run(host.server, &people, &plan).await?;
    host.stop().await?;
    print_figures(&hot::figures(&plan.name(&people), &outcomes), args.json)?;
    Ok(ExitCode::SUCCESS)
}

async fn run_storm(args: Storm) -> Result<ExitCode> {
    let connections = args.connections as usize;
    let accounts = connections.div_ceil(args.sessions_per_account as usize);
    ensure!(
        accounts <= 1_000,
        "a group has at most 1,000 members: let more connections share an account"
    );
    enough_files(connections + 2 * args.pairs as usize)?;
    let host = Host::at(args.url.as_deref(), args.server_pid, hot::SETTINGS).await?;
    let people = storm::People::make(host.server, accounts, args.pairs as usize).await?;
    let plan = storm::Plan {
        runs: args.runs as usize,
        connections,
        missed: args.missed,
        pairs_rate: rate_in_bounds(args.pairs_rate)?,
        meter: args.metrics.map(Meter).or(host.meter),
        process: host.process,
    };
    let figures = storm::run(host.server, &people, &plan).await?;
    host.stop().await?;
    print_figures(&figures, args.json)?;
    Ok(ExitCode::SUCCESS)
}

async fn run_scenario(args: Scenario) -> Result<ExitCode> {
    let people = args.people.next_multiple_of(2) as usize;
    // Somebody who logs in has another connection for a moment.
    enough_files(people + people / 50)?;
    let settings = match args.login {
        scenario::Login::Password => &[][..],
        scenario::Login::Kept => hot::SETTINGS,
    };
    let host = Host::at(args.url.as_deref(), args.server_pid, settings).await?;
    let pairs = host.server.pairs(people / 2).await?;
    let host = host.restarted(&[]).await?;
    let plan = scenario::Plan {
        arrival: Duration::from_secs(args.arrival),
        measured: Duration::from_secs(args.seconds),
        login: args.login,
        process: host.process,
    };
    let password = scenario::password(host.server, host.process).await?;
    let mut figures = scenario::run(host.server, &pairs, &plan).await?;
    figures.extend(password);
    host.stop().await?;
    print_figures(&figures, args.json)?;
    Ok(ExitCode::SUCCESS)
}

async fn run_catchup(args: Catchup) -> Result<ExitCode> {
    let host = Host::at(args.url.as_deref(), args.server_pid, &[]).await?;
    let plan = catchup::Plan {
        runs: args.runs as usize,
        times: args.times as usize,
        chats: args.chats as usize,
        many_chats: args.many_chats as usize,
        events: args.events,
        meter: args.metrics.map(Meter).or(host.meter),
        process: host.process,
    };
    let figures = catchup::run(host.server, &plan).await?;
    host.stop().await?;
    print_figures(&figures, args.json)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        load: Load,
    }

    #[test]
    fn the_published_commands_are_understood() {
        let direct = "load direct --url http://127.0.0.1:1 --pairs 200 --in-flight 16 --rate 1000 --seconds 5 \
                      --bytes 128 --server-pid 7 --json";
        let idle =
            "load idle --url http://127.0.0.1:1 --connections 10000 --sessions-per-account 50";
        for line in [
            direct,
            idle,
            "load idle --connections 100000 --servers 6 --runs 3 --json",
            "load group --members 500 --rate 20 --runs 3",
            "load group --members 500 --under-way 8",
            "load scenario --people 10000 --login password --arrival 60 --seconds 90",
            "load storm --connections 10000 --missed 10 --runs 3",
            "load hot --members 10000 --online 1000 --rate 200 --slow 10",
            "load catchup --runs 3 --chats 500 --events 100000 --json",
            "load grow --stages 10000,1000000 --chats 1000 --data target/grown --json",
            "load plot target/bench.json --out target --only direct",
            "load bench --quick --out target/bench.json",
            "load bench",
        ] {
            Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "load direct",
            "load direct --url x --pairs 0",
            "load direct --url x --bytes 9000",
            "load idle --url x --servers 2",
            "load group --members 1",
        ] {
            assert!(
                Cli::try_parse_from(line.split_whitespace()).is_err(),
                "{line}"
            );
        }
    }
}
