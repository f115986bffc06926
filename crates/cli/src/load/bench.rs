//! The benchmark behind `make bench`: servers of our own, started from this very binary, and every published
//! figure with its spread.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::child::Running;
use super::group::Flow;
use super::measure::Window;
use super::people::Pair;
use super::report::{Figure, Readable, percent_of_a_core};
use super::{catchup, direct, group, grow, hot, idle, proc, report, scenario, storm};

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
    /// How many sessions rest, in each case.
    pub idle_connections: [usize; 2],
    /// How long they rest.
    pub idle_rest: Duration,
    /// At how many messages a store is measured that grows, and how many chats it has.
    pub grown: ([u64; 3], usize),
    /// Where that store is kept for the next time.
    pub grown_in: Option<PathBuf>,
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
    /// How many connections drop at once, of how many accounts.
    pub storm: (usize, usize),
    /// How many people use their chats, over how long they arrive, and how long they are measured.
    pub scenario: (usize, Duration, Duration),
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
    /// A store that grows, and pairs that talk beside what is in it.
    Grown,
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
    /// All connections drop at once.
    Storm,
    /// People who look, read and write with pauses.
    Scenario,
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
            idle_connections: [10_000, 19_500],
            idle_rest: Duration::from_secs(25),
            grown: ([10_000, 1_000_000, 5_000_000], 100_000),
            grown_in: None,
            groups: [100, 1_000],
            comes_back: 200,
            chats: [500, 2_000],
            events: 100_000,
            hot: (10_000, [1_000, 10_000]),
            slow: (20, 200),
            storm: (10_000, 500),
            scenario: (10_000, Duration::from_secs(90), Duration::from_secs(60)),
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
            idle_connections: [100, 500],
            idle_rest: Duration::from_secs(3),
            grown: ([1_000, 10_000, 20_000], 50),
            grown_in: None,
            groups: [10, 100],
            comes_back: 5,
            chats: [50, 200],
            events: 2_000,
            hot: (300, [30, 300]),
            slow: (2, 20),
            storm: (100, 10),
            scenario: (20, Duration::from_secs(1), Duration::from_secs(12)),
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
    if is_wanted(Part::Grown) {
        grow(plan, folders.path(), &mut figures).await?;
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
        rest(plan, &mut figures).await?;
    }
    if is_wanted(Part::Storm) {
        blow(plan, &folders.path().join("storm"), &mut figures).await?;
    }
    if is_wanted(Part::Scenario) {
        use_chats(plan, &folders.path().join("scenario"), &mut figures).await?;
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

/// How fast pairs talk.
enum Pace {
    /// As fast as answers come.
    Full,
    /// Half as fast as they did at first.
    Half,
    /// So many messages a second of all together.
    Of(f64),
}

/// Measures pairs that talk.
async fn talk(plan: &Plan, folder: &Path, figures: &mut Vec<Figure>) -> Result<()> {
    let running = Running::start(folder).await?;
    let pairs = running.server.pairs(plan.pairs).await?;
    talk_on(plan, "direct", &running, &pairs, figures).await?;
    running.stop().await
}

/// Measures a store as it grows, and pairs that talk beside all that is in it in the end.
async fn grow(plan: &Plan, folders: &Path, figures: &mut Vec<Figure>) -> Result<()> {
    let (stages, chats) = plan.grown;
    let kept = plan.grown_in.clone();
    let kept = kept.unwrap_or_else(|| folders.join("grown"));
    say(&format!("a store of {chats} chats"));
    let began = Instant::now();
    let mut store = grow::Store::open(&kept, grow::Plan::of(chats, TEXT_BYTES)).await?;
    let end = stages[stages.len() - 1];
    ensure!(
        store.stored() <= end + end / 10,
        "{} holds {} messages: name another folder",
        kept.display(),
        store.stored()
    );
    for stage in stages {
        if store.stored() < stage {
            say(&format!("it grows to {stage} messages"));
            figures.extend(store.grow(stage).await?);
        }
    }
    let made = began.elapsed().as_secs_f64();
    let name = format!("direct on {} stored", Readable(end as f64));
    figures.extend(Figure::of(format!("{name}: made ready"), "s", vec![made]));
    // What is measured adds to the store; the one that is kept shall stay as it is.
    let used = folders.join("grown-used");
    store.copy_data(&used)?;
    let running = Running::start(&used).await?;
    let pairs = store.pairs(running.server).await?;
    talk_on(plan, &name, &running, pairs, figures).await?;
    running.stop().await
}

async fn talk_on(
    plan: &Plan,
    what: &str,
    running: &Running,
    pairs: &[Pair],
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let loads = [
        ("1 in flight", 1, Pace::Full),
        ("16 in flight", 16, Pace::Full),
        ("half of 1 in flight", 16, Pace::Half),
        ("paced 1,000/s", 16, Pace::Of(PACED_PER_SECOND)),
    ];
    let mut full = None;
    for (load, in_flight, pace) in loads {
        let name = &format!("{what}, {load}");
        let rate = match pace {
            Pace::Full => None,
            Pace::Half => full.map(|full: f64| full / 2.0),
            Pace::Of(rate) => Some(rate),
        };
        let direct = direct::Plan {
            in_flight,
            rate,
            measured: plan.measured,
            warm_up: plan.warm_up,
            text_bytes: TEXT_BYTES,
            server: vec![running.process],
            database: None,
        };
        let mut outcomes = Vec::new();
        for n in 1..=plan.runs {
            say(&format!("{name}, run {n} of {}", plan.runs));
            let outcome = direct::run(&[running.server], pairs, &direct, || {}).await?;
            if outcome.violations.total() > 0 {
                bail!("a promise was broken in {name}: {:?}", outcome.violations);
            }
            outcomes.push(outcome);
        }
        let figure = Figure::of_direct(name, &outcomes);
        full = full.or(figure.as_ref().map(|figure| figure.value));
        figures.extend(figure);
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
    Ok(())
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
                server: vec![running.process],
                database: None,
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
async fn rest(plan: &Plan, figures: &mut Vec<Figure>) -> Result<()> {
    for connections in plan.idle_connections {
        let fleet = idle::Fleet::prepare(1, connections, SESSIONS_PER_ACCOUNT).await?;
        let idle = idle::Plan {
            connections,
            rest: plan.idle_rest,
        };
        let mut outcomes = Vec::new();
        for n in 1..=plan.runs {
            say(&format!(
                "{connections} idle sessions, run {n} of {}",
                plan.runs
            ));
            outcomes.push(fleet.run(&idle).await?);
        }
        figures.extend(idle::figures(&outcomes));
    }
    Ok(())
}

/// How many messages everybody misses while nobody is there.
const STORM_MISSED: u64 = 10;

/// Measures connections that all drop at once.
async fn blow(plan: &Plan, folder: &Path, figures: &mut Vec<Figure>) -> Result<()> {
    let running = Running::start_with(folder, hot::SETTINGS).await?;
    let (connections, accounts) = plan.storm;
    say(&format!("{connections} connections that drop at once"));
    let people = storm::People::make(running.server, accounts, BESIDE_PAIRS).await?;
    let storm = storm::Plan {
        runs: plan.runs,
        connections,
        missed: STORM_MISSED,
        pairs_rate: BESIDE_PER_SECOND,
        meter: Some(running.meter),
        process: Some(running.process),
    };
    figures.extend(storm::run(running.server, &people, &storm).await?);
    running.stop().await
}

/// Measures people who use their chats.
async fn use_chats(plan: &Plan, folder: &Path, figures: &mut Vec<Figure>) -> Result<()> {
    let (people, arrival, measured) = plan.scenario;
    let making = Running::start_with(folder, hot::SETTINGS).await?;
    say(&format!("{people} people who use their chats"));
    let pairs = making.server.pairs(people / 2).await?;
    making.stop().await?;
    let running = Running::start(folder).await?;
    let process = Some(running.process);
    figures.extend(scenario::password(running.server, process).await?);
    let scenario = scenario::Plan {
        arrival,
        measured,
        login: scenario::Login::Kept,
        process,
    };
    figures.extend(scenario::run(running.server, &pairs, &scenario).await?);
    running.stop().await
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
        "Stored: messages of {TEXT_BYTES} bytes in {} chats of two, written through the door that everybody uses; a \
         stop is the time between two acknowledgements of anybody; then 200 pairs talk at 1,000/s, and the server is \
         started anew. Direct on a store: the pairs as above, beside those messages.",
        Readable(plan.grown.1 as f64)
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
        "Idle: {SESSIONS_PER_ACCOUNT} sessions an account, on a fresh process; memory is resident memory after less \
         before, a session each; for the further ones, less what it was with the first tenth open; the kernel's is \
         what its tables grew; CPU over {idle_rest:?} with heartbeats answered; opened 128 at once."
    );
    println!(
        "Storm: everybody misses {STORM_MISSED} messages and comes back, 128 at a time or all at once; \
         from the first connection to the last welcome that tells all of them."
    );
    println!(
        "Scenario: log in, and three times: load chats and profiles, load a history, 4 messages, with a pause of 3 to \
         5 s before or after each; then anew. One run."
    );
    println!(
        "Cold start: from starting the process to the line that says it is ready; files are in the page cache."
    );
    println!("Figures: {}", plan.out.display());
}
