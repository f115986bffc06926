//! What messages cost when there are many: a store of our own is filled to one size after the other, and at each of
//! them the same is asked. Everything goes through the door that everybody uses.

mod fill;
mod people;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use super::child::Running;
use super::people::{Pair, Server};
use super::report::{Along, Figure, Readable, milliseconds, times};
use super::{direct, hot, template};
use fill::{Filled, STOP, Task, fill};
use people::People;

/// A store that grows.
#[derive(Debug, Args)]
pub struct Options {
    /// At how many messages it is measured, smallest first.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [10_000, 1_000_000, 10_000_000])]
    stages: Vec<u64>,
    /// In how many chats the messages are, of two people each.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    chats: u32,
    /// A folder that is kept, and gone on with when it was filled before; without it, a temporary one.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// How many messages of one writer are unanswered at most while the store is filled.
    #[arg(long, value_name = "W", default_value_t = IN_FLIGHT as u32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    in_flight: u32,
    /// How long a text is.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(template::TEXT_BYTES_MIN as i64..=8_000))]
    bytes: u32,
    /// Sets any key of the server, such as store.cache_mib=512. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Prints one JSON array instead of text.
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Fills the store from size to size, and prints the figures.
    ///
    /// # Errors
    /// As [`Store::grow`].
    pub async fn run(self) -> Result<ExitCode> {
        ensure!(
            self.stages.is_sorted(),
            "a store only grows: name the smallest size first"
        );
        let folder = tempfile::tempdir().context("no folder for the server's data")?;
        let kept = self.data.as_deref().unwrap_or(folder.path());
        let plan = Plan {
            chats: self.chats as usize,
            in_flight: self.in_flight as usize,
            text_bytes: self.bytes as usize,
            settings: self.set,
        };
        let mut store = Store::open(kept, plan).await?;
        let mut figures = Vec::new();
        for stage in self.stages {
            eprintln!("growing to {} messages …", Readable(stage as f64));
            figures.extend(store.grow(stage).await?);
        }
        super::print_figures(&figures, self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What the store is filled with.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In how many chats the messages are.
    pub chats: usize,
    /// How many messages of one writer are unanswered at most.
    pub in_flight: usize,
    /// How long a text is.
    pub text_bytes: usize,
    /// Of the server, beside those for tests.
    pub settings: Vec<String>,
}

impl Plan {
    /// The usual one.
    pub fn of(chats: usize, text_bytes: usize) -> Self {
        Plan {
            chats,
            in_flight: IN_FLIGHT,
            text_bytes,
            settings: Vec::new(),
        }
    }
}

/// How many messages of one writer are unanswered at most while a store is filled.
const IN_FLIGHT: usize = 16;
/// How many messages are stored before everybody signs in anew: a token lasts for ten minutes.
const ROUND: u64 = 2_000_000;
/// Those whose messages are measured at each size: so many pairs, so many messages a second, so long.
const PAIRS: usize = 200;
const PACED_PER_SECOND: f64 = 1_000.0;
const PACED_FOR: Duration = Duration::from_secs(5);
const PACED_IN_FLIGHT: usize = 16;
const WARM_UP: Duration = Duration::from_secs(1);

/// A store that grows, in a folder. It has a server only while something is measured.
pub struct Store {
    folder: PathBuf,
    plan: Plan,
    people: People,
}

/// What it took to come to a size, and what was seen there.
struct Grown {
    /// Nothing, when the store had this size before.
    filled: Option<Filled>,
    /// Some who talk at a pace.
    paced: direct::Outcome,
    /// The server's memory after that.
    resident: Option<u64>,
}

impl Store {
    /// The store of a folder, or a new one with everybody who writes into it.
    ///
    /// # Errors
    /// When the server does not start, or the folder was filled with another number of chats.
    pub async fn open(folder: &Path, plan: Plan) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let people = match People::load(folder)? {
            Some(people) => people,
            None => {
                eprintln!("making {} chats …", Readable(plan.chats as f64));
                let running = start(folder, &plan).await?;
                let people = People::make(running.server, plan.chats, PAIRS).await?;
                running.stop().await?;
                people.save(folder)?;
                people
            }
        };
        ensure!(
            people.chats.len() == plan.chats,
            "the folder has {} chats",
            people.chats.len()
        );
        Ok(Store {
            folder: folder.to_owned(),
            plan,
            people,
        })
    }

    /// How many messages there are.
    pub fn stored(&self) -> u64 {
        self.people.stored
    }

    /// Those who talk beside what is stored, signed in at a server that has this store.
    ///
    /// # Errors
    /// When one of them is not taken.
    pub async fn pairs(&mut self, server: Server) -> Result<&[Pair]> {
        self.people.sign_in(server).await?;
        Ok(&self.people.pairs)
    }

    /// Stores messages until there are so many, and gives the rows of this size.
    ///
    /// # Errors
    /// When a promise was broken, or a server does not start or stop.
    pub async fn grow(&mut self, to: u64) -> Result<Vec<Figure>> {
        let running = start(&self.folder, &self.plan).await?;
        let grown = self.grow_on(&running, to).await?;
        running.stop().await?;
        let disk = bytes_in(&people::data(&self.folder))?;
        let running = start(&self.folder, &self.plan).await?;
        let (started_in, resident) = (running.started_in, running.process.resident_bytes());
        running.stop().await?;
        let rested = Rested {
            stored: self.people.stored,
            disk,
            started_in,
            resident,
        };
        Ok(rows(to, &grown, &rested))
    }

    /// Copies the server's data to another folder.
    ///
    /// # Errors
    /// When it can not be read or written.
    pub fn copy_data(&self, to: &Path) -> Result<()> {
        copy(&people::data(&self.folder), to)
    }

    async fn fill_on(&mut self, running: &Running, to: u64) -> Result<Option<Filled>> {
        let (server, process) = (running.server, running.process);
        let mut filled: Option<Filled> = None;
        while self.people.stored < to {
            let messages = ROUND.min(to - self.people.stored);
            self.people.sign_in(server).await?;
            let task = Task {
                messages,
                in_flight: self.plan.in_flight,
                text_bytes: self.plan.text_bytes,
                process: Some(process),
            };
            let round = fill(server, &mut self.people, &task).await?;
            self.people.save(&self.folder)?;
            eprintln!("{} stored", Readable(self.people.stored as f64));
            filled = Some(match filled {
                Some(filled) => filled.and(round)?,
                None => round,
            });
        }
        Ok(filled)
    }

    async fn grow_on(&mut self, running: &Running, to: u64) -> Result<Grown> {
        let (server, process) = (running.server, running.process);
        let filled = self.fill_on(running, to).await?;
        let plan = direct::Plan {
            in_flight: PACED_IN_FLIGHT,
            rate: Some(PACED_PER_SECOND),
            measured: PACED_FOR,
            warm_up: WARM_UP,
            text_bytes: self.plan.text_bytes,
            server: vec![process],
            database: None,
        };
        let pairs = self.pairs(server).await?;
        let paced = direct::run(&[server], pairs, &plan, || {}).await?;
        let broken = paced.violations;
        ensure!(broken.total() == 0, "a promise was broken: {broken:?}");
        self.people.stored += paced.sent_in_all;
        self.people.save(&self.folder)?;
        Ok(Grown {
            filled,
            paced,
            resident: process.resident_bytes(),
        })
    }
}

async fn start(folder: &Path, plan: &Plan) -> Result<Running> {
    let settings = plan.settings.iter().map(String::as_str);
    let settings: Vec<&str> = hot::SETTINGS.iter().copied().chain(settings).collect();
    Running::start_with(&people::data(folder), &settings).await
}

/// What a server that has just started says of a store.
struct Rested {
    stored: u64,
    disk: u64,
    started_in: Duration,
    resident: Option<u64>,
}

/// How much disk the files of a folder take.
fn bytes_in(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() {
            bytes_in(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(bytes)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
    }
    Ok(())
}

fn rows(size: u64, grown: &Grown, rested: &Rested) -> Vec<Figure> {
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let row = |what: &str, unit: &'static str, value: Option<f64>| {
        let name = format!("{} stored: {what}", Readable(size as f64));
        Figure::of(name, unit, value.into_iter().collect())
    };
    let curve = |what: &str, unit: &'static str, value: Option<f64>| {
        let along = Along {
            curve: what.to_owned(),
            of: "messages stored",
            at: size as f64,
        };
        row(what, unit, value).map(|figure| Figure {
            along: Some(along),
            ..figure
        })
    };
    let timed = |figure: Option<Figure>, histogram: &Histogram<u64>, cpu: Option<f64>| {
        figure.map(|figure| Figure {
            cpu_us_per_unit: cpu,
            p50_ms: Some(milliseconds(histogram, 0.5)),
            p99_ms: Some(milliseconds(histogram, 0.99)),
            times_ms: times(histogram),
            ..figure
        })
    };
    let mut figures = Vec::new();
    if let Some(filled) = &grown.filled {
        let each = |of: f64| of / filled.messages as f64;
        let rate = filled.messages as f64 / filled.took.as_secs_f64();
        let cpu = filled.cpu.map(|cpu| each(cpu.as_secs_f64() * 1e6));
        let rate = row("filling", "messages/s", Some(rate));
        figures.push(timed(rate, &filled.ack_ns, cpu));
        figures.push(curve("CPU while filling", "us/message", cpu));
        let written = filled.written_bytes.map(|bytes| each(bytes as f64));
        figures.push(curve("disk writes", "B/message", written));
        let longest = filled.stops.longest.as_secs_f64() * 1e3;
        figures.push(curve("longest stop of sends", "ms", Some(longest)));
        let long = format!("stops over {STOP:?}");
        figures.push(row(&long, "times", Some(filled.stops.long as f64)));
    }
    let Grown { paced, .. } = grown;
    let cpu = paced.cpu_us_per_message();
    let rate = row("paced", "messages/s", Some(paced.delivered_per_second()));
    figures.push(timed(rate, &paced.ack_ns, cpu));
    let p99 = milliseconds(&paced.ack_ns, 0.99);
    let longest = paced.ack_ns.max() as f64 / 1e6;
    let disk = rested.disk as f64;
    let started = rested.started_in.as_secs_f64() * 1e3;
    figures.extend([
        curve("CPU paced", "us/message", cpu),
        curve("p99 of acks, paced", "ms", Some(p99)),
        row("longest wait for an ack, paced", "ms", Some(longest)),
        curve("memory at work", "MiB", grown.resident.map(mib)),
        curve("memory just started", "MiB", rested.resident.map(mib)),
        row("on disk", "MiB", Some(mib(rested.disk))),
        curve(
            "on disk each",
            "B/message",
            Some(disk / rested.stored as f64),
        ),
        curve("start", "ms", Some(started)),
    ]);
    figures.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_all_folders_are_counted_and_copied() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/one"), [0; 10]).unwrap();
        fs::write(folder.path().join("two"), [0; 5]).unwrap();
        assert_eq!(bytes_in(folder.path()).unwrap(), 15);

        let other = tempfile::tempdir().unwrap();
        copy(folder.path(), &other.path().join("new")).unwrap();
        assert_eq!(bytes_in(&other.path().join("new")).unwrap(), 15);
    }
}
