//! The jobs of this program, who does them and when; and `tertulia jobs`, for those that failed for good.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use clap::{Args, Subcommand};
use tertulia_kit::clock::SharedClock;
use tertulia_kit::id::Ids;
use tertulia_kit::job::{Dead, Failed, Handler, Job, JobId, Jobs, Schedule, Workers};
use tertulia_services::identity::Identity;
use tertulia_store::jobs::Jobs as Stored;
use tertulia_store::postgres::{self, Postgres};
use tertulia_store::sqlite::Sqlite;

use crate::config::{self, Config};
use crate::stores;

/// When logins that are long over are forgotten, as for cron, in UTC: when few sign in.
const FORGET_LOGINS_AT: &str = "30 3 * * *";
/// How many jobs are shown at once.
const PAGE: usize = 100;
/// The exit code when there is no such job.
const NONE: u8 = 2;

/// Forgets the logins that are long over.
struct ForgetLogins(Arc<Identity>);

impl ForgetLogins {
    const KIND: &str = "forget-logins";
}

#[async_trait]
impl Handler for ForgetLogins {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    async fn run(&self, _: &Job) -> Result<(), Failed> {
        let forgotten = self.0.forget_long_over().await?;
        tracing::info!(forgotten, "logins that are long over are forgotten");
        Ok(())
    }
}

/// Those who do the jobs of this program.
///
/// # Errors
/// When the times of a schedule can not be read.
pub fn workers(
    jobs: Arc<dyn Jobs>,
    identity: Arc<Identity>,
    ids: Arc<Ids>,
    clock: SharedClock,
) -> anyhow::Result<Arc<Workers>> {
    let handlers: Vec<Box<dyn Handler>> = vec![Box::new(ForgetLogins(identity))];
    let schedules = vec![Schedule::new(
        "forget-logins",
        ForgetLogins::KIND,
        FORGET_LOGINS_AT,
    )?];
    Ok(Workers::new(jobs, handlers, schedules, ids, clock))
}

/// `tertulia jobs`.
#[derive(Debug, Args)]
pub struct Command {
    /// The folder of the server that keeps the jobs.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<String>,
    /// Its configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "TERTULIA_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists the jobs that failed for good, and why.
    Dead,
    /// Has a job that failed for good tried from the start: 0 when it is, 2 when there is none with that id.
    Replay {
        /// Its id, as `tertulia jobs dead` shows it.
        id: i64,
    },
    /// Forgets a job that failed for good: 0 when it is, 2 when there is none with that id.
    Forget {
        /// Its id, as `tertulia jobs dead` shows it.
        id: i64,
    },
}

/// Looks at the jobs of a server, which may run meanwhile.
///
/// # Errors
/// When they can not be read or changed.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let flags = command.data.map(|data| ("data".to_owned(), data));
    let config = config::load(command.config, flags.into_iter().collect())?.value;
    let jobs = open(&config).await?;
    match command.what {
        What::Dead => {
            print!("{}", list(&*jobs).await?);
            Ok(ExitCode::SUCCESS)
        }
        What::Replay { id } => told(jobs.replay(JobId(id)).await?, id, "is tried from the start"),
        What::Forget { id } => told(jobs.forget(JobId(id)).await?, id, "is forgotten"),
    }
}

async fn open(config: &Config) -> anyhow::Result<Arc<dyn Jobs>> {
    let Some(url) = &config.store.url else {
        let path = stores::people(&config.data);
        let folder = config.data.display();
        ensure!(path.is_file(), "{folder} is no data folder of a server");
        let people = Sqlite::open_beside(&path).await?;
        return Ok(Arc::new(Stored::beside(&people)));
    };
    let target = stores::target(url)?;
    postgres::check(&target).await?;
    Ok(Arc::new(Stored::beside(&Postgres::of(&target))))
}

/// A line for each job that failed for good, and one with how many there are.
async fn list(jobs: &dyn Jobs) -> anyhow::Result<String> {
    let counts = jobs.counts().await.context("the jobs can not be counted")?;
    let (mut text, mut after) = (String::new(), JobId(0));
    loop {
        let page = jobs.dead(after, PAGE).await?;
        for Dead { job, at_ms, why } in &page {
            let at = jiff::Timestamp::from_millisecond(*at_ms).unwrap_or_default();
            let (id, kind, about, tries) = (job.id, &job.kind, &job.about, job.tries());
            text += &format!("{id}  {at:.0}  {kind} ({about}), {tries} tries: {why}\n");
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.job.id,
            _ => break,
        }
    }
    text += &format!("{} failed for good, {} open\n", counts.dead, counts.open);
    Ok(text)
}

fn told(is_there: bool, id: i64, what: &str) -> anyhow::Result<ExitCode> {
    if is_there {
        println!("job {id} {what}");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tertulia: no job {id} failed for good");
    Ok(ExitCode::from(NONE))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tertulia_kit::job::{Memory, NewJob};

    use super::*;

    #[tokio::test]
    async fn the_list_says_of_each_dead_job_what_it_was_and_why() {
        let jobs = Memory::default();
        for id in 1..=250 {
            let job = NewJob {
                id: JobId(id),
                kind: "send".into(),
                about: format!("letter {id}"),
                delay: Duration::ZERO,
            };
            jobs.enqueue(job).await.expect("memory");
        }
        let claimed = jobs.claim("send", 230, Duration::from_secs(60)).await;
        for job in claimed.expect("memory") {
            assert!(jobs.bury(&job, "no such street").await.expect("memory"));
        }
        let text = list(&jobs).await.expect("memory");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 231);
        assert!(lines[0].starts_with("1  1970-01-01T"), "{}", lines[0]);
        assert!(
            lines[0].ends_with("send (letter 1), 1 tries: no such street"),
            "{}",
            lines[0]
        );
        assert_eq!(lines[230], "230 failed for good, 20 open");
    }
}
