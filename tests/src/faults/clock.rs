//! Faults of the machine's clock, by libfaketime: it jumps while the server runs.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tertulia_proto::chats::__buffa::oneof::event::Body;

use super::probe::Allowed;
use super::scene::{Scene, Setup};
use super::{End, Run};
use crate::checker::Violation;
use crate::town::Town;

/// A clock for a server that the test sets.
pub struct Clock {
    folder: TempDir,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right until it is set.
    ///
    /// # Errors
    /// When libfaketime is not installed.
    pub fn new() -> Result<Clock> {
        let folders = [
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
            "/usr/lib64",
            "/usr/lib",
        ];
        let paths = folders.map(|folder| PathBuf::from(folder).join("faketime/libfaketimeMT.so.1"));
        let library = paths.into_iter().find(|path| path.exists());
        let clock = Clock {
            folder: tempfile::tempdir()?,
            library: library.context("libfaketime is not installed")?,
        };
        clock.set("+0")?;
        Ok(clock)
    }

    /// Sets it by an offset such as `+3600` seconds or `-10y`.
    ///
    /// # Errors
    /// When that can not be said.
    pub fn set(&self, offset: &str) -> Result<()> {
        // Put in its place whole: the server reads it at every look at the clock.
        let new = self.folder.path().join("new");
        fs::write(&new, offset)?;
        Ok(fs::rename(new, self.folder.path().join("offset"))?)
    }

    /// The environment of a server that looks at it. Its timers go on as before: they count, they do not look.
    pub fn env(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.display().to_string();
        let one = |name: &str| (name.to_owned(), "1".to_owned());
        vec![
            ("LD_PRELOAD".into(), text(self.library.clone())),
            (
                "FAKETIME_TIMESTAMP_FILE".into(),
                text(self.folder.path().join("offset")),
            ),
            one("FAKETIME_NO_CACHE"),
            one("DONT_FAKE_MONOTONIC"),
            one("FAKETIME_DONT_FAKE_MONOTONIC"),
            one("NO_FAKE_STAT"),
        ]
    }
}

/// How long the clock stays as it was set: the server takes a leap forward only once its mark has followed,
/// which it moves every second.
const PHASE_MIN: Duration = Duration::from_millis(1_500);

/// F25. The clock jumps by an hour and by ten years, forth and back, while the server runs and between two
/// runs. Ids stay unique and go up, and order does not depend on it. Who was away for longer than a login
/// lasts must sign in again, which is right.
pub async fn jumps(run: Run) -> Result<End> {
    let clock = match Clock::new() {
        Ok(clock) => clock,
        Err(why) => return Ok(End::Skipped(format!("{why:#}"))),
    };
    let allowed = Allowed {
        signed_out: true,
        ..Allowed::default()
    };
    let setup = Setup {
        env: clock.env(),
        allowed,
        ..Setup::default()
    };
    let traffic = setup.traffic.clone();
    let mut scene = Scene::open(run, setup).await?;
    scene.town.stay_signed_in();
    scene.acked(20).await?;
    let mut known: Vec<i64> = Vec::new();
    let jumps = ["+3600", "-3600", "+0", "-3650d", "+3650d", "+1d", "+0"];
    for nth in 0..run.amount(jumps.len(), 20 * jumps.len()) {
        scene.town.hush().await;
        scene.town.history(scene.heal_max, &[]).await?;
        let all = ids(&scene.town).await?;
        scene.violations.extend(given_wrongly(&known, &all));
        known = all;
        clock.set(jumps[nth % jumps.len()])?;
        if nth % 3 == 2 {
            scene.kill().await;
            scene.start(None).await?;
        }
        scene.town.act(&traffic, &mut scene.random);
        let set = Instant::now();
        while set.elapsed() < PHASE_MIN {
            scene.acked(5).await?;
        }
    }
    let times = times(&scene.town).await?;
    let days = (times.1 - times.0) / 86_400_000;
    anyhow::ensure!(
        days > 3_000,
        "the server did not see the clock jump: {days} days"
    );
    let note = format!(
        "jumps of {}: {days} days; {} ids, each once and upward",
        jumps.join(" "),
        known.len()
    );
    scene.judge(note).await
}

/// The first and the last time that stands in an event, in milliseconds.
async fn times(town: &Town) -> Result<(i64, i64)> {
    let mut times = Vec::new();
    for (chat, device) in town.readers() {
        times.extend(device.log(chat).await?.iter().map(|event| event.at_ms));
    }
    let first = times.iter().min().copied().unwrap_or(0);
    Ok((first, times.iter().max().copied().unwrap_or(0)))
}

/// The ids of all messages, sorted.
async fn ids(town: &Town) -> Result<Vec<i64>> {
    let mut ids = Vec::new();
    for (chat, device) in town.readers() {
        for event in device.log(chat).await? {
            if let Some(Body::Message(message)) = event.body {
                ids.push(message.message_id);
            }
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// What is wrong with the ids `all` that were given by now, of which `before` were given before a quiet moment.
fn given_wrongly(before: &[i64], all: &[i64]) -> Vec<Violation> {
    let twice = all.windows(2).find(|pair| pair[0] == pair[1]);
    let twice = twice.map(|pair| format!("{} was given twice", pair[0]));
    // Sorted, those of before must come first.
    let back =
        (!all.starts_with(before)).then(|| "an id is below those that were given before it".into());
    twice
        .into_iter()
        .chain(back)
        .map(Violation::BadId)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_repeat_or_go_back_are_found() {
        assert_eq!(given_wrongly(&[1, 2], &[1, 2, 3]), []);
        assert_eq!(given_wrongly(&[], &[1, 1]).len(), 1);
        assert_eq!(given_wrongly(&[2, 3], &[1, 2, 3]).len(), 1);
    }
}
