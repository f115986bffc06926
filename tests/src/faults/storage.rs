//! Faults of what the server keeps: its first start, its disk.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::json;

use super::disk::Disk;
use super::scene::{PATIENCE, Scene, Setup};
use super::{End, Run};
use crate::checker::Violation;
use crate::node::{Process, Start};
use crate::wire;

/// F02. SIGKILL at random moments of the first start, when folder, keys, tables and their versions are made.
/// There is no migration, backup or restore yet.
pub async fn first_start_killed(run: Run) -> Result<End> {
    let mut random = StdRng::seed_from_u64(run.seed);
    let folder = tempfile::tempdir()?;
    let times = run.amount(8, 200);
    // A start that is let go says how long one takes.
    let began = Instant::now();
    Process::start(&folder.path().join("measured"), Start::default())
        .await?
        .kill()
        .await;
    let whole = began.elapsed();
    for nth in 0..times {
        let data = folder.path().join(format!("data{nth}"));
        for _ in 0..3 {
            let moment = whole.mul_f64(random.random_range(0.0..1.0));
            let killed = Process::start_and_kill(&data, moment).await;
            killed.with_context(|| format!("start {nth}"))?;
        }
        if nth + 1 < times {
            let server = Process::start(&data, Start::default()).await;
            server
                .with_context(|| format!("start {nth} after kills"))?
                .kill()
                .await;
        }
    }
    let data = Some(folder.path().join(format!("data{}", times - 1)));
    let scene = Scene::open(
        run,
        Setup {
            data,
            ..Setup::default()
        },
    )
    .await?;
    scene.acked(30).await?;
    scene
        .judge(format!(
            "{} kills within {} ms of a start",
            3 * times,
            whole.as_millis()
        ))
        .await
}

/// F03. SIGKILL, and every write that was not synced is taken back, of each file all or the newest part.
/// Creations and renames of files stay, as on a file system with a journal.
pub async fn power_lost(run: Run) -> Result<End> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let disk = match Disk::new(&data) {
        Ok(disk) => disk,
        Err(why) => return Ok(End::Skipped(format!("{why:#}"))),
    };
    let setup = Setup {
        data: Some(data.clone()),
        env: disk.env(),
        ..Setup::default()
    };
    let mut scene = Scene::open(run, setup).await?;
    let times = run.amount(6, 200);
    let mut lost = 0;
    for _ in 0..times {
        let moment = scene.random.random_range(1..40);
        if let Err(silent) = scene.acked(moment).await {
            // What the store lost may be what the clients wait for: that is for the checker to say.
            scene.violations.push(Violation::Late(silent.to_string()));
            break;
        }
        scene.kill().await;
        lost += disk.lose_power(&mut scene.random)?;
        scene.start(None).await?;
    }
    let people = data.join("people.sqlite");
    let note = format!("{times} power cuts took {lost} writes that were not synced");
    let end = scene.judge(note).await?;
    // The server has stopped: what it left must be whole.
    whole_database(&people)?;
    Ok(end)
}

/// Looks at a database file as SQLite's own program does, when that is there.
fn whole_database(file: &Path) -> Result<()> {
    let checked = std::process::Command::new("sqlite3")
        .arg(file)
        .arg("PRAGMA integrity_check")
        .output();
    let Ok(checked) = checked else {
        return Ok(());
    };
    let said = String::from_utf8_lossy(&checked.stdout).trim().to_owned();
    anyhow::ensure!(said == "ok", "the database of people is not whole: {said}");
    Ok(())
}

/// How much a small disk holds, in MiB.
const SMALL_DISK_MIB: u64 = 96;
/// F04. The data folder lies on a small tmpfs that is filled, and emptied again. While it is full what is read is
/// answered, what is written is refused by name, and probes, metrics and one line of the log say why; when there
/// is room again the server comes back by itself.
pub async fn disk_full(run: Run) -> Result<End> {
    let small = match SmallDisk::mount() {
        Ok(small) => small,
        Err(why) => return Ok(End::Skipped(format!("no tmpfs can be mounted: {why:#}"))),
    };
    let setup = Setup {
        data: Some(small.folder.path().join("data")),
        ..Setup::default()
    };
    let mut scene = Scene::open(run, setup).await?;
    scene.acked(40).await?;
    let times = run.amount(2, 20);
    let mut slowest = Duration::ZERO;
    for _ in 0..times {
        let filler = small.fill()?;
        // With what is free in the files of the server it may go on for a while.
        let full = Instant::now();
        let url = scene.server()?.url.clone();
        while wire::request("GET", &format!("{url}/readyz"), &[], "")
            .await
            .status
            == 200
        {
            ensure!(full.elapsed() < PATIENCE, "a full disk takes everything");
            small.fill_again(&filler)?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        scene.violations.extend(says_that_it_is_full(&scene).await?);
        let pid = scene.server()?.pid();
        fs::remove_file(&filler)?;
        slowest = slowest.max(scene.begun_anew().await?);
        if scene.server()?.pid() != pid {
            let words = "it is another process that has begun";
            scene.violations.push(Violation::Dishonest(words.into()));
        }
        scene.acked(20).await?;
    }
    let log = scene.log()?;
    let told = log.matches(TAKES_NO_WRITES).count();
    let calls = log.matches(A_CALL_FAILED).count();
    if (told, calls) != (times, 0) {
        let words = format!(
            "the log tells {told} times of a disk that was full {times} times, and of {calls} calls"
        );
        scene.violations.push(Violation::Dishonest(words));
    }
    let note = format!(
        "a disk of {SMALL_DISK_MIB} MiB was full {times} times, back {:.1} s after there was room",
        slowest.as_secs_f64()
    );
    scene.judge(note).await
}

/// What the log says once for each time.
const TAKES_NO_WRITES: &str = "take no more writes";
/// What it would say for each call, and must not then.
const A_CALL_FAILED: &str = "a call could not be served";

/// What a server does not say as it should whose disk is full.
async fn says_that_it_is_full(scene: &Scene) -> Result<Vec<Violation>> {
    let Process { url, metrics, .. } = scene.server()?;
    let mut wrong = Vec::new();
    let mut must = |holds: bool, words: String| {
        if !holds {
            wrong.push(Violation::Dishonest(words));
        }
    };
    let ready = wire::request("GET", &format!("{url}/readyz?verbose"), &[], "").await;
    let words = String::from_utf8_lossy(&ready.body).into_owned();
    must(ready.status == 503, format!("ready with {}", ready.status));
    must(
        words.contains("o space left"),
        format!("not ready: {words}"),
    );
    let metrics = wire::request("GET", metrics, &[], "").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let line = "tertulia_check_passed{check=\"chats\"} 0";
    must(text.lines().any(|l| l == line), format!("metrics: {text}"));
    let device = &scene.town.devices[0];
    let client = &device.client;
    let chat = device.chats[0];
    let token = client.access_token().await?;
    let body =
        json!({"chatId": chat.to_string(), "clientMessageId": "on-a-full-disk", "text": "no"});
    let said = wire::post(url, wire::path("SendMessage"), Some(&token), body).await;
    let reason = said.reason();
    must(reason == "STORE_UNAVAILABLE", format!("a send: {reason}"));
    let body = json!({"chatId": chat.to_string(), "limit": 1});
    let read = wire::post(url, wire::path("ListEvents"), Some(&token), body).await;
    must(read.status == 200, format!("a read: {}", read.code()));
    Ok(wrong)
}

/// A tmpfs of its own, unmounted when it is dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Result<SmallDisk> {
        let folder = tempfile::tempdir()?;
        let mounted = std::process::Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={SMALL_DISK_MIB}m"),
                "tertulia-faults",
            ])
            .arg(folder.path())
            .output()?;
        let why = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
        anyhow::ensure!(mounted.status.success(), "{why}");
        Ok(SmallDisk { folder })
    }

    /// Takes all room that is left; removing the file gives it back.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("filler");
        fs::File::create(&path)?;
        self.fill_again(&path)?;
        Ok(path)
    }

    fn fill_again(&self, path: &Path) -> Result<()> {
        let mut file = fs::OpenOptions::new().append(true).open(path)?;
        for size in [1 << 20, 4_096, 1] {
            let piece = vec![1; size];
            while file.write_all(&piece).is_ok() {}
        }
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .status();
    }
}

/// F05. A sync fails with EIO, once, and no later sync writes what it should have. Nothing more may be
/// acknowledged until the server has begun anew, which it does by itself, and it must not build on what the kernel
/// only seems to have written: then the power is lost, and everything that was acknowledged is there.
pub async fn sync_fails(run: Run) -> Result<End> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let disk = match Disk::new(&data) {
        Ok(disk) => disk,
        Err(why) => return Ok(End::Skipped(format!("{why:#}"))),
    };
    let setup = Setup {
        data: Some(data),
        env: disk.env(),
        ..Setup::default()
    };
    let mut scene = Scene::open(run, setup).await?;
    let times = run.amount(4, 100);
    let (mut anew, mut lost) = (0, 0);
    for nth in 0..times {
        let moment = scene.random.random_range(10..40);
        scene.acked(moment).await?;
        disk.fail_next_sync("/chats/")?;
        let failed = async {
            while !disk.has_failed() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, failed)
            .await
            .context("nothing was synced any more")?;
        // Half of the times the power goes at once, and half of them when it has gone on.
        if nth % 2 == 0 {
            scene.begun_anew().await?;
            scene.acked(moment).await?;
            anew += 1;
        }
        scene.kill().await;
        lost += disk.lose_power(&mut scene.random)?;
        scene.start(None).await?;
    }
    scene.acked(10).await?;
    let note = format!(
        "{times} failed syncs, {anew} times gone on behind it, and power cuts that took {lost} writes"
    );
    scene.judge(note).await
}

/// F06. Each sync takes a third of a second longer.
pub async fn slow_disk(run: Run) -> Result<End> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let disk = match Disk::new(&data) {
        Ok(disk) => disk,
        Err(why) => return Ok(End::Skipped(format!("{why:#}"))),
    };
    let setup = Setup {
        data: Some(data),
        env: disk.env(),
        ..Setup::default()
    };
    let scene = Scene::open(run, setup).await?;
    scene.acked(20).await?;
    disk.slow_down(300)?;
    scene.acked(run.amount(40, 2_000)).await?;
    disk.speed_up()?;
    scene.acked(20).await?;
    scene.judge("each sync took 300 ms longer").await
}
