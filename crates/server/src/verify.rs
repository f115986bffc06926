//! `tertulia verify`: checks the logs in a data folder against everything that is kept beside them.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use tertulia_kit::clock::SystemClock;
use tertulia_services::chats::{Committed, Fact};
use tertulia_store::fjall::{ChatLog, Options, Progress, Report};

use crate::config;
use crate::wiring::open_folder;

/// The exit code when something is not as it has to be. A check that could not be made ends with 1.
const PROBLEMS: u8 = 2;
/// Before this nobody wonders how far it is.
const QUIET: Duration = Duration::from_secs(2);
/// How often the line of progress changes.
const BETWEEN: Duration = Duration::from_millis(250);

/// What to check. The server that uses the folder must be stopped.
#[derive(Debug, Args)]
pub struct Verify {
    /// The folder that holds everything the server keeps.
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// A configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "TERTULIA_CONFIG")]
    config: Option<PathBuf>,
}

/// Checks, and prints what was found: 0 when all is well, 2 when not.
///
/// # Errors
/// When the folder is not there or in use, or can not be read.
pub async fn run(verify: Verify) -> anyhow::Result<ExitCode> {
    let flags = verify.data.map(|data| ("data".to_owned(), data));
    let config = config::load(verify.config, flags.into_iter().collect())?.value;
    let logs = config.data.join("chats");
    ensure!(logs.is_dir(), "{} has no chats", config.data.display());
    let _folder = open_folder(&config)?;
    let options = Options {
        cache_mib: config.store.cache_mib as u64,
        ..Options::default()
    };
    let clock = Arc::new(SystemClock::starting_at(0));
    let log = ChatLog::open(&logs, options, Arc::new(Nobody), clock).await?;
    let line = Line::new();
    let report = log.verify(move |progress| line.show(&progress)).await;
    log.close().await;
    let report = report?;
    print(&report, &mut std::io::stdout().lock())?;
    Ok(match report.problem_count {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(PROBLEMS),
    })
}

/// Nothing is written, so there is nothing to hear.
struct Nobody;

impl Committed for Nobody {
    fn committed(&self, _facts: Vec<Fact>) {}
}

fn print(report: &Report, out: &mut impl std::io::Write) -> std::io::Result<()> {
    writeln!(out, "position   {}", report.position.0)?;
    writeln!(
        out,
        "chats      {} with {} events",
        report.chats, report.events
    )?;
    let (users, own) = (report.users, report.user_events);
    writeln!(out, "users      {users} with {own} events of their own")?;
    writeln!(out, "send keys  {}", report.send_keys)?;
    let digest: String = report.digest.iter().map(|b| format!("{b:02x}")).collect();
    writeln!(out, "digest     {digest}")?;
    writeln!(out, "problems   {}", report.problem_count)?;
    for problem in &report.problems {
        writeln!(out, "  {problem}")?;
    }
    let untold = report.problem_count - report.problems.len() as u64;
    match untold {
        0 => Ok(()),
        untold => writeln!(out, "  and {untold} more"),
    }
}

/// How far it is, for people who wait; nothing when nobody looks.
struct Line {
    /// When it is shown next; none when nobody looks.
    next: Cell<Option<Instant>>,
    is_shown: Cell<bool>,
    chats: Cell<u64>,
    events: Cell<i64>,
}

impl Line {
    fn new() -> Self {
        let is_seen = std::io::stderr().is_terminal();
        Line {
            next: Cell::new(is_seen.then(|| Instant::now() + QUIET)),
            is_shown: Cell::new(false),
            chats: Cell::new(0),
            events: Cell::new(0),
        }
    }

    fn show(&self, progress: &Progress) {
        if let Progress::Chat(chat) = progress {
            self.chats.set(self.chats.get() + 1);
            self.events.set(self.events.get() + chat.head);
        }
        let now = Instant::now();
        if self.next.get().is_none_or(|next| now < next) {
            return;
        }
        self.next.set(Some(now + BETWEEN));
        self.is_shown.set(true);
        let words = match progress {
            Progress::Chat(_) => {
                format!("{} chats, {} events", self.chats.get(), self.events.get())
            }
            Progress::OwnLogs(users) => format!("the own logs of {users} users"),
            Progress::Index(rows) => format!("{rows} rows of the index"),
            Progress::SendKeys(keys) => format!("{keys} send keys"),
        };
        eprint!("\r\x1b[K{words}");
        _ = std::io::stderr().flush();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.is_shown.get() {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tertulia_services::chats::Position;
    use tertulia_services::ids::ChatId;
    use tertulia_store::fjall::Problem;

    #[test]
    fn problems_are_told_with_where_they_are_and_how_many_there_are() {
        let problem = Problem {
            chat: Some(ChatId(5)),
            user: None,
            seq: Some(3),
            what: "is not there".into(),
        };
        let report = Report {
            position: Position(9),
            chats: 1,
            events: 2,
            users: 3,
            user_events: 4,
            send_keys: 5,
            digest: [0xab; 16],
            problems: vec![problem],
            problem_count: 3,
        };
        let mut out = Vec::new();
        print(&report, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("digest     abab"), "{text}");
        assert!(
            text.ends_with("problems   3\n  chat 5, seq 3, is not there\n  and 2 more\n"),
            "{text}"
        );
    }
}
