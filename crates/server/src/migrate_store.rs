//! `tertulia migrate-store`: moves everything that a data folder keeps into PostgreSQL.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use tertulia_store::moving::{Bounds, Move, MoveError, Phase, Progress, Report};
use tertulia_store::postgres::Target;

use crate::config::{self, Config};
use crate::stores::{self, Moved};
use crate::wiring::open_folder;

/// How often it is said how far the move is, to somebody who looks at it.
const BETWEEN_SEEN: Duration = Duration::from_secs(1);
/// The same in a log.
const BETWEEN_LOGGED: Duration = Duration::from_secs(10);

/// What to move. The server that uses the folder must be stopped, and `store.url` says where to, just as for the
/// server that is started then.
#[derive(Debug, Args)]
pub struct MigrateStore {
    /// The folder that holds everything the server keeps.
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// A configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "TERTULIA_CONFIG")]
    config: Option<PathBuf>,
    /// Says what would be done, and does nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Moves everything, compares it, and says what to do then.
///
/// # Errors
/// When the folder is not there or in use, or the database is not one for it. Nothing is lost by that: what has
/// arrived stays, and the same command goes on from there.
pub async fn run(command: MigrateStore) -> anyhow::Result<ExitCode> {
    let flags = command.data.map(|data| ("data".to_owned(), data));
    let config = config::load(command.config, flags.into_iter().collect())?.value;
    let target = target(&config)?;
    let (people, chats) = (stores::people(&config.data), stores::chats(&config.data));
    for path in [&people, &chats] {
        ensure!(path.exists(), "{} is not there", path.display());
    }
    let folder = open_folder(&config)?;
    let moving = match Move::open(&people, &chats, &target, Bounds::default()).await {
        Ok(moving) => moving,
        Err(MoveError::Done { place }) if !command.dry_run => {
            Moved::remember(folder.path(), &place)?;
            println!("Everything is in the database {place} already.\n");
            say_what_to_set(&config);
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    if command.dry_run {
        say_what_would_be_done(&moving, folder.path(), &target);
        return Ok(ExitCode::SUCCESS);
    }
    let mut line = Line::new();
    let report = moving.run(|progress| line.show(&progress)).await;
    line.end();
    let report = report?;
    Moved::remember(folder.path(), &target.place())?;
    say_what_was_done(&report, &target);
    say_what_to_set(&config);
    Ok(ExitCode::SUCCESS)
}

fn target(config: &Config) -> anyhow::Result<Target> {
    let url = config.store.url.as_ref().context(
        "store.url says where to, and is not set; set TERTULIA_STORE__URL, or TERTULIA_STORE__URL_FILE \
         to a file with it",
    )?;
    stores::target(url)
}

fn say_what_would_be_done(moving: &Move, folder: &Path, target: &Target) {
    println!(
        "From {} into the database {}:\n",
        folder.display(),
        target.place()
    );
    for (table, rows) in moving.counts() {
        println!("  {table:<16}{rows:>14} rows");
    }
    let all = moving.rows_all();
    println!("  {:<16}{all:>14}", "in all");
    match moving.arrived() {
        Some(rows) => println!("\nThe move was begun, and {rows} of them have arrived."),
        None => println!("\nThe database is empty."),
    }
    println!("Nothing was done.");
}

fn say_what_was_done(report: &Report, target: &Target) {
    let all: u64 = report.tables.iter().map(|(_, rows)| rows).sum();
    let digest: String = report.digest.iter().map(|b| format!("{b:02x}")).collect();
    println!("Everything is in the database {}:\n", target.place());
    for (table, rows) in &report.tables {
        println!("  {table:<16}{rows:>14} rows");
    }
    println!("  {:<16}{all:>14}", "in all");
    println!("\nEach row was compared with where it came from.");
    println!("digest     {digest}  (that of the logs, as `tertulia verify` prints it)\n");
}

fn say_what_to_set(config: &Config) {
    let data = config.data.display();
    println!("Start the server as you have done, and with");
    println!("  store.url        as it was set for this command");
    println!("  data             {data}: its keys and its clock are needed as before");
    match config.identity.pepper {
        Some(_) => println!("  identity.pepper  as it is set now"),
        None => println!(
            "  identity.pepper  not set; in another folder {data}/pepper.key has to be there, or no password is right"
        ),
    }
    println!("\nWhat was moved is still in {data}, as it was, and is not written any more.");
}

/// How far it is, for people who wait.
struct Line {
    is_seen: bool,
    phase: Option<Phase>,
    /// When the phase began here, and how many rows were done with before.
    began: (Instant, u64),
    /// When a line is shown next.
    next: Instant,
}

impl Line {
    fn new() -> Line {
        let now = Instant::now();
        Line {
            is_seen: std::io::stderr().is_terminal(),
            phase: None,
            began: (now, 0),
            next: now,
        }
    }

    fn show(&mut self, progress: &Progress) {
        let now = Instant::now();
        if self.phase != Some(progress.phase) {
            self.phase = Some(progress.phase);
            self.began = (now, progress.rows);
        }
        if now < self.next {
            return;
        }
        self.next = now
            + match self.is_seen {
                true => BETWEEN_SEEN,
                false => BETWEEN_LOGGED,
            };
        let words = words(progress, now - self.began.0, self.began.1);
        match self.is_seen {
            true => eprint!("\r\x1b[K{words}"),
            false => eprintln!("{words}"),
        }
        // When nobody can be told, the move goes on.
        _ = std::io::stderr().flush();
    }

    fn end(&self) {
        if self.is_seen {
            eprint!("\r\x1b[K");
        }
    }
}

/// A line about how far it is: `rows` were done in `took`, beside those `before`.
fn words(progress: &Progress, took: Duration, before: u64) -> String {
    let Progress {
        phase,
        table,
        rows,
        rows_all,
    } = *progress;
    let doing = match phase {
        Phase::Moving => "moving",
        Phase::Comparing => "comparing",
    };
    let percent = 100.0 * rows as f64 / rows_all.max(1) as f64;
    let mut words = format!("{doing} {table}: {rows} of {rows_all} rows, {percent:.1} %");
    let rate = (rows - before) as f64 / took.as_secs_f64();
    if rate.is_normal() {
        let left = rows_all.saturating_sub(rows) as f64 / rate;
        words.push_str(&format!(", {rate:.0} rows/s, {} left", time(left)));
    }
    words
}

fn time(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let progress = Progress {
            phase: Phase::Moving,
            table: "chat_events",
            rows: 3_000,
            rows_all: 12_000,
        };
        assert_eq!(
            words(&progress, Duration::from_secs(2), 1_000),
            "moving chat_events: 3000 of 12000 rows, 25.0 %, 1000 rows/s, 9 s left"
        );
        // Of the first batch nothing is known yet.
        assert_eq!(
            words(&progress, Duration::ZERO, 3_000),
            "moving chat_events: 3000 of 12000 rows, 25.0 %"
        );
        assert_eq!(time(59.2), "1 min 0 s");
        assert_eq!(time(7_260.0), "2 h 1 min");
    }
}
