//! Faults of the server's process: killed, stopped, paused.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::Rng as _;

use super::scene::{PATIENCE, Scene, Setup};
use super::{End, Run};

const STEPS: [&str; 3] = [
    "before-commit",
    "after-commit-before-ack",
    "after-ack-before-publish",
];

/// F01. SIGKILL at random moments, and an abort at each step of a send: the batch is made, it is on disk,
/// the sender knows.
pub async fn killed(run: Run) -> Result<End> {
    let mut scene = Scene::open(run, Setup::default()).await?;
    let (kills, aborts) = run.amount((6, 9), (250, 250));
    let mut slowest = Duration::ZERO;
    for round in 0..kills + aborts {
        let crash = (round >= kills).then(|| {
            let step = STEPS[round % STEPS.len()];
            (step, scene.random.random_range(1..40))
        });
        match crash {
            None => {
                let moment = scene.random.random_range(1..30);
                scene.acked(moment).await?;
                scene.kill().await;
            }
            Some(_) if scene.server.is_some() => scene.kill().await,
            Some(_) => {}
        }
        let began = Instant::now();
        scene.start(crash).await?;
        slowest = slowest.max(began.elapsed());
        if crash.is_some() {
            let server = scene.server.take().context("it was started")?;
            server
                .ended()
                .await
                .context("the server went on beyond its crash point")?;
        }
    }
    if scene.server.is_none() {
        scene.start(None).await?;
    }
    scene.acked(10).await?;
    let note = format!(
        "{kills} kills, {aborts} aborts, slowest start {} ms",
        slowest.as_millis()
    );
    scene.judge(note).await
}

/// F24. SIGSTOP for longer than clients wait for a heartbeat, then SIGCONT.
pub async fn paused(run: Run) -> Result<End> {
    let setup = Setup {
        may_hang: true,
        ..Setup::default()
    };
    let mut scene = Scene::open(run, setup).await?;
    let (pauses, seconds) = run.amount((2, 4..=6), (10, 30..=120));
    let mut still = Duration::ZERO;
    for _ in 0..pauses {
        scene.acked(30).await?;
        let pause = Duration::from_secs(scene.random.random_range(seconds.clone()));
        scene.server()?.signal("STOP")?;
        // The pause is the fault.
        tokio::time::sleep(pause).await;
        scene.server()?.signal("CONT")?;
        still += pause;
        scene.town.more_acked(20, PATIENCE).await?;
    }
    scene
        .judge(format!("{pauses} pauses, {} s in all", still.as_secs()))
        .await
}
