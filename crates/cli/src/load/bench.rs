//! The benchmark behind `make bench`: servers of our own, started from this very binary, and every published
//! figure with its spread.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::child::Running;
use super::group::Flow;
use super::measure::Window;
use super::report::{Figure, percent_of_a_core};
use super::{catchup, direct, group, hot, idle, proc, report};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often each figure is measured.
    pub runs: usize,
    /// How often the start is measured.
    pub starts: usize,
    /// How many pairs talk.
    pub pairs: usize,
    /// How long each run of the direct load is measured.
    pub measured: Duration,
    /// How long it runs before.
    pub warm_up: Duration,
    /// How many sessions rest.
    pub idle_connections: usize,
    /// How long they rest.
    pub idle_rest: Duration,
    /// How large the groups are.
    pub groups: [usize; 2],
    /// How often a client comes back for one figure.
    pub comes_back: usize,
    /// In how many chats the busy user is, and the one of whom it must not matter.
    pub chats: [usize; 2],
    /// How many events a client is away for that asks what was changed.
    pub events: u64,
    /// How many members the hot channel has, and how many of them are connected in each case.
    pub hot: (usize, [usize; 2]),
    /// How many readers in a channel of how many read nothing.
    pub slow: (usize, usize),
    /// Which parts are measured; all of them when none is named.
    pub only: Vec<Part>,
    /// Where the figures go.
    pub out: PathBuf,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Size, and starts on an empty folder.
    Start,
    /// Pairs that talk, and starts on what they leave.
    Direct,
    /// Groups.
    Group,
    /// Coming back.
    Catchup,
    /// A channel with far too much in it.
    Hot,
    /// Readers that read nothing.
    Slow,
    /// Sessions that rest.
    Idle,
}

impl Plan {
    /// The published one.
    pub fn full(out: PathBuf) -> Self {
        Plan {
            runs: 3,
            starts: 5,
            pairs: 200,
            measured: Duration::from_secs(10),
            warm_up: Duration::from_secs(2),
            idle_connections: 5_000,
            idle_rest: Duration::from_secs(30),
            groups: [100, 1_000],
            comes_back: 200,
            chats: [500, 2_000],
            events: 100_000,
            hot: (10_000, [1_000, 10_000]),
            slow: (20, 200),
            only: Vec::new(),
            out,
        }
    }

    /// A short one, to see that everything works. Its figures are not to be compared.
    pub fn quick(out: PathBuf) -> Self {
        Plan {
            runs: 1,
            starts: 2,
            pairs: 20,
            measured: Duration::from_secs(2),
            warm_up: Duration::from_millis(500),
            idle_connections: 500,
            idle_rest: Duration::from_secs(3),
            groups: [10, 100],
            comes_back: 5,
            chats: [50, 200],
            events: 2_000,
            hot: (300, [30, 300]),
            slow: (2, 20),
            only: Vec::new(),
            out,
        }
    }
}

const TEXT_BYTES: usize = 128;
const PACED_PER_SECOND: f64 = 1_000.0;
const SESSIONS_PER_ACCOUNT: usize = 50;

/// Measures everything, prints a table and writes the figures.
///
/// # Errors
/// When something can not be measured, or a delivery promise was broken.
pub async fn run(plan: &Plan) -> Result<()> {
    let folders = tempfile::tempdir().context("no folder for the servers' data")?;
    let mut figures = Vec::new();
    let busy = proc::load_average();
    let date = date(&folders.path().join("date")).await?;

    let program = std::env::current_exe()?;
    let is_wanted = |part| plan.only.is_empty() || plan.only.contains(&part);
    if is_wanted(Part::Start) {
        let size = std::fs::metadata(&program)?.len() as f64 / 1_048_576.0;
        figures.extend(Figure::of("binary", "MiB", vec![size]));
        say("cold start on an empty folder");
        let empty = starts(plan.starts, |n| folders.path().join(format!("empty-{n}"))).await?;
        figures.extend(Figure::of("cold start, empty folder", "ms", empty));
    }
    if is_wanted(Part::Direct) {
        let used = folders.path().join("direct");
        talk(plan, &used, &mut figures).await?;
        say("cold start on the folder of the load");
        let existing = starts(plan.starts, |_| used.clone()).await?;
        figures.extend(Figure::of("cold start, folder of the load", "ms", existing));
    }
    if is_wanted(Part::Group) {
        for members in plan.groups {
            fan_out(plan, folders.path(), members, &mut figures).await?;
        }
    }
    if is_wanted(Part::Catchup) {
        come_back(plan, &folders.path().join("catchup"), &mut figures).await?;
    }
    if is_wanted(Part::Hot) {
        let (all, online) = plan.hot;
        let cases = online.map(|online| (online, 0));
        heat(
            plan,
            &folders.path().join("hot"),
            (all, &cases),
            &mut figures,
        )
        .await?;
    }
    if is_wanted(Part::Slow) {
        let (slow, all) = plan.slow;
        let cases = [(all, slow)];
        heat(
            plan,
            &folders.path().join("slow"),
            (all, &cases),
            &mut figures,
        )
        .await?;
    }
    if is_wanted(Part::Idle) {
        rest(plan, folders.path(), &mut figures).await?;
    }

    write(&plan.out, &figures)?;
    println!("{}\n", report::table(&figures));
    method(plan, &date, &busy, &program);
    folders
        .close()
        .context("the servers' data could not be removed")?;
    Ok(())
}

async fn date(folder: &Path) -> Result<String> {
    let running = Running::start(folder).await?;
    let date = running.server.date().await?;
    running.stop().await?;
    Ok(date)
}

/// What is being done, for people who wait; also into the log of a build, where each takes one line.
fn say(what: &str) {
    eprintln!("measuring {what} …");
}

async fn starts(count: usize, folder: impl Fn(usize) -> PathBuf) -> Result<Vec<f64>> {
    let mut taken = Vec::new();
    for n in 0..count {
        let running = Running::start(&folder(n)).await?;
        taken.push(running.started_in.as_secs_f64() * 1e3);
        running.stop().await?;
    }
    Ok(taken)
}

/// Measures pairs that talk.
async fn talk(plan: &Plan, folder: &Path, figures: &mut Vec<Figure>) -> Result<()> {
    let running = Running::start(folder).await?;
    let pairs = running.server.pairs(plan.pairs).await?;
    let loads = [
        ("direct, 1 in flight", 1, None),
        ("direct, 16 in flight", 16, None),
        ("direct, paced 1,000/s", 16, Some(PACED_PER_SECOND)),
    ];
    for (name, in_flight, rate) in loads {
        let direct = direct::Plan {
            in_flight,
            rate,
            measured: plan.measured,
            warm_up: plan.warm_up,
            text_bytes: TEXT_BYTES,
            server: Some(running.process),
        };
        let mut outcomes = Vec::new();
        for n in 1..=plan.runs {
            say(&format!("{name}, run {n} of {}", plan.runs));
            let outcome = direct::run(running.server, &pairs, &direct, || {}).await?;
            if outcome.violations.total() > 0 {
                bail!("a promise was broken in {name}: {:?}", outcome.violations);
            }
            outcomes.push(outcome);
        }
        figures.extend(Figure::of_direct(name, &outcomes));
        let each = |f: &dyn Fn(&direct::Outcome) -> Option<f64>| {
            outcomes.iter().filter_map(f).collect::<Vec<f64>>()
        };
        let delivery = each(&|o| Some(report::milliseconds(&o.delivery_ns, 0.99)));
        figures.extend(Figure::of(format!("{name}, delivery p99"), "ms", delivery));
        let written = each(&|o| o.written_bytes_per_message());
        figures.extend(Figure::of(
            format!("{name}, disk writes"),
            "B/message",
            written,
        ));
        let server = each(&|o| Some(percent_of_a_core(o.server_cpu?, o.measured)));
        figures.extend(Figure::of(
            format!("{name}, server CPU"),
            "% of a core",
            server,
        ));
        let own = each(&|o| Some(percent_of_a_core(o.own_cpu?, o.measured)));
        figures.extend(Figure::of(
            format!("{name}, load generator CPU"),
            "% of a core",
            own,
        ));
    }
    running.stop().await
}

/// Messages a second into a group, its writers, and how many have not come to all in the closed loop.
const FLOWS: [(Flow, usize); 2] = [(Flow::Paced(10.0), 10), (Flow::Closed(UNDER_WAY), 10)];
const UNDER_WAY: usize = 64;
/// The same for the group whose slowest deliveries are looked at.
const FAST_FLOW: (Flow, usize) = (Flow::Paced(100.0), 10);

/// Measures a group of so many.
async fn fan_out(
    plan: &Plan,
    folders: &Path,
    members: usize,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let running = Running::start(&folders.join(format!("group-{members}"))).await?;
    let accounts = running.server.accounts(members).await?;
    let (owner, others) = accounts.split_first().context("there is an owner")?;
    let chat_id = running.server.groups(owner, others, 1).await?.remove(0);
    let is_largest = plan.groups.iter().all(|other| *other <= members);
    let fast = is_largest.then_some(FAST_FLOW);
    for (flow, writers) in FLOWS.into_iter().chain(fast) {
        let name = match flow {
            Flow::Paced(rate) => format!("group of {members}, {rate} messages/s"),
            Flow::Closed(max) => format!("group of {members}, {max} under way"),
        };
        let group = group::Plan {
            writers,
            flow,
            text_bytes: TEXT_BYTES,
            warm: false,
            slow: 0,
            window: Window {
                warm_up: plan.warm_up,
                measured: plan.measured,
                server: Some(running.process),
            },
        };
        let mut outcomes = Vec::new();
        for n in 1..=plan.runs {
            say(&format!("{name}, run {n} of {}", plan.runs));
            let outcome = group::run(running.server, &accounts, chat_id, &group, || {}).await?;
            if outcome.violations.total() > 0 {
                bail!("a promise was broken in {name}: {:?}", outcome.violations);
            }
            outcomes.push(outcome);
        }
        figures.extend(Figure::of_group(&name, &outcomes));
        let each = |f: &dyn Fn(&group::Outcome) -> Option<f64>| {
            outcomes.iter().filter_map(f).collect::<Vec<f64>>()
        };
        let behind = each(&|o| Some(o.behind as f64));
        let of_a_million = each(&|o| o.cpu_us_per_delivery());
        let own = each(&|o| Some(percent_of_a_core(o.reading.own_cpu?, o.reading.measured)));
        let rows = [
            ("CPU of a million deliveries", "s", of_a_million),
            ("told behind", "times", behind),
            ("load generator CPU", "% of a core", own),
        ];
        for (what, unit, runs) in rows {
            figures.extend(Figure::of(format!("{name}: {what}"), unit, runs));
        }
    }
    running.stop().await
}

/// Measures clients that come back.
async fn come_back(plan: &Plan, folder: &Path, figures: &mut Vec<Figure>) -> Result<()> {
    let running = Running::start(folder).await?;
    say("clients that come back");
    let [chats, many_chats] = plan.chats;
    let catchup = catchup::Plan {
        runs: plan.runs,
        times: plan.comes_back,
        chats,
        many_chats,
        events: plan.events,
        meter: Some(running.meter),
        process: Some(running.process),
    };
    figures.extend(catchup::run(running.server, &catchup).await?);
    running.stop().await
}

/// Messages a second into the hot channel, and between the pairs beside it.
const HOT_PER_SECOND: f64 = 200.0;
const BESIDE_PER_SECOND: f64 = 500.0;
const BESIDE_PAIRS: usize = 50;
/// How many times longer is measured than elsewhere: one moment in which the machine did something else is a hundredth
/// of a short run.
const BESIDE_WINDOWS: u32 = 3;
/// How long a text is of which some read nothing: long, so that they soon have too much waiting.
const SLOW_TEXT_BYTES: usize = 1_024;

/// Measures a channel of so many: how many are connected, and how many of those read nothing, in each case.
async fn heat(
    plan: &Plan,
    folder: &Path,
    (all, cases): (usize, &[(usize, usize)]),
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let running = Running::start_with(folder, hot::SETTINGS).await?;
    say(&format!("{all} accounts for a hot channel"));
    let people = hot::People::make(running.server, all, all, BESIDE_PAIRS).await?;
    for (online, slow) in cases {
        let people = people.fewer(*online);
        let hot = hot::Plan {
            runs: plan.runs,
            rate: HOT_PER_SECOND,
            text_bytes: if *slow > 0 {
                SLOW_TEXT_BYTES
            } else {
                TEXT_BYTES
            },
            slow: *slow,
            pairs_rate: BESIDE_PER_SECOND,
            measured: plan.measured * BESIDE_WINDOWS,
            warm_up: plan.warm_up,
            process: Some(running.process),
        };
        let name = hot.name(&people);
        say(&name);
        let outcomes = hot::run(running.server, &people, &hot).await?;
        figures.extend(hot::figures(&name, &outcomes));
    }
    running.stop().await
}

/// Measures sessions that rest.
async fn rest(plan: &Plan, folders: &Path, figures: &mut Vec<Figure>) -> Result<()> {
    let (mut bytes, mut further, mut rates, mut shares, mut bases) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let folder = folders.join("idle");
    let making = Running::start(&folder).await?;
    let accounts = making
        .server
        .accounts(plan.idle_connections.div_ceil(SESSIONS_PER_ACCOUNT))
        .await?;
    making.stop().await?;
    for n in 1..=plan.runs {
        say(&format!(
            "{} idle sessions, run {n} of {}",
            plan.idle_connections, plan.runs
        ));
        // A fresh process each time: memory that was used for hashing passwords would be used again and
        // make sessions look free.
        let running = Running::start(&folder).await?;
        let idle = idle::Plan {
            connections: plan.idle_connections,
            rest: plan.idle_rest,
            server: Some(running.process),
        };
        let outcome = idle::run(running.server, &accounts, &idle).await?;
        bytes.extend(outcome.bytes_each());
        further.extend(outcome.bytes_each_further());
        rates.push(outcome.opened_per_second());
        shares.extend(
            outcome
                .rest_cpu
                .map(|cpu| percent_of_a_core(cpu, outcome.rest)),
        );
        bases.extend(outcome.resident_before.map(|b| b as f64 / 1_048_576.0));
        running.stop().await?;
    }
    figures.extend(Figure::of("memory of the server at rest", "MiB", bases));
    figures.extend(Figure::of(
        "memory of an idle session, all counted",
        "B",
        bytes,
    ));
    figures.extend(Figure::of("memory of each further session", "B", further));
    figures.extend(Figure::of("sessions opened", "1/s", rates));
    figures.extend(Figure::of(
        "CPU of all idle sessions",
        "% of a core",
        shares,
    ));
    Ok(())
}

fn write(out: &Path, figures: &[Figure]) -> Result<()> {
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::File::create(out).with_context(|| out.display().to_string())?;
    serde_json::to_writer_pretty(&mut file, figures)?;
    writeln!(file)?;
    Ok(())
}

fn method(plan: &Plan, date: &str, busy: &str, program: &Path) {
    let Plan {
        pairs,
        measured,
        warm_up,
        idle_connections,
        idle_rest,
        ..
    } = plan;
    println!("Machine: {}; {date}.", proc::machine());
    println!("Busy with other things when it began: a load average of {busy}.");
    println!(
        "Program: {} {}, server and load alike.",
        program.display(),
        env!("CARGO_PKG_VERSION")
    );
    println!(
        "Shared: the load generator runs on the same processors and the same disk as the server."
    );
    println!(
        "Direct: {pairs} pairs, both ends write {TEXT_BYTES} bytes and hear each other over WebSocket; \
         {measured:?} measured after {warm_up:?}; every message is acknowledged after it is synced to disk, and \
         is checked to come once and in order. CPU is the server's, for one delivered message. Times are from \
         when a message was due to its acknowledgement."
    );
    println!(
        "Group: everybody is connected and hears everything; times are from when a message was due to its coming at \
         each member. In the closed loop {UNDER_WAY} messages have not come to every member."
    );
    println!(
        "Coming back: a new connection, hello, the whole welcome and goodbye, {} times a run; reads are those of the \
         tables of chats that no cache answered.",
        plan.comes_back
    );
    println!(
        "Hot: the clients of the channel run at the lowest priority of the system, since they stand for other \
         machines; others are {BESIDE_PAIRS} pairs at {BESIDE_PER_SECOND} messages/s, measured beside the same \
         sessions while the channel is quiet and while it is loud, {:?} each.",
        *measured * BESIDE_WINDOWS
    );
    println!(
        "Idle: {idle_connections} sessions, {SESSIONS_PER_ACCOUNT} an account, on a fresh process; memory is \
         resident memory after less before, a session each; for the further ones, less what it was with the \
         first tenth open; CPU over {idle_rest:?} with heartbeats answered."
    );
    println!(
        "Cold start: from starting the process to the line that says it is ready; files are in the page cache."
    );
    println!("Figures: {}", plan.out.display());
}
