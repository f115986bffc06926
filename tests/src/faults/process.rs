//! Faults of the server's process: killed, stopped, paused.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::Rng as _;
use serde_json::json;

use super::probe::Allowed;
use super::scene::{PATIENCE, Scene, Setup};
use super::{End, Run};
use crate::checker::Violation;
use crate::town::password;
use crate::wire::{Came, Person, Socket};

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
        allowed: Allowed {
            silence: true,
            ..Allowed::default()
        },
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

/// What a server closes with that asks to come back.
const COME_BACK: u16 = 4500;
/// How often a listener does.
const COMES_BACK_MAX: usize = 20;
/// How many more sockets hear the goodbye.
const LISTENERS: usize = 40;
/// The grace that scenes give the server, and what a busy machine adds.
const STOP_MAX: Duration = Duration::from_secs(8);

/// F34. SIGTERM while many are connected and sends are under way. Each is told when to come back, no two at
/// once, what was acknowledged stays, and the process is gone within its grace.
pub async fn stopped(run: Run) -> Result<End> {
    let mut setup = Setup::default();
    setup.plan.devices_each = run.amount(2, 10);
    let of_one = LISTENERS + setup.plan.devices_each;
    setup.settings = vec![
        ("live.sessions_per_user_max", (2 * of_one).to_string()),
        // So many devices in one process are not always quick to answer.
        ("live.heartbeat_ms", run.amount("1000", "5000").to_owned()),
    ];
    let mut scene = Scene::open(run, setup).await?;
    let times = run.amount(2, 20);
    let mut slowest = Duration::ZERO;
    for _ in 0..times {
        scene.acked(40).await?;
        let account = scene.town.devices[0].account.clone();
        let person = Person::of(&account, &password(&account))
            .sign_in(&scene.plain.url())
            .await;
        let mut listeners = tokio::task::JoinSet::new();
        for _ in 0..LISTENERS {
            let mut socket = listener(&scene.plain.url(), &person.token).await?;
            listeners.spawn(async move { goodbye(&mut socket).await });
        }
        let server = scene.server.take().context("it runs")?;
        let began = Instant::now();
        let status = server.terminate().await?;
        let took = began.elapsed();
        slowest = slowest.max(took);
        if !status.success() || took > STOP_MAX {
            let words = format!(
                "the stop took {} ms and ended with {status}",
                took.as_millis()
            );
            scene.violations.push(Violation::Late(words));
        }
        let mut waits = Vec::new();
        while let Some(told) = listeners.join_next().await {
            let (code, after_ms, closed) = told?;
            // Before the stop, to one that a busy machine kept from answering a heartbeat in time.
            if (code, closed) == (4011, 4011) {
                continue;
            }
            if (code, closed) != (4012, 4012) {
                let words = format!("a stopping server said {code} and closed with {closed}");
                scene.violations.push(Violation::Dishonest(words));
            }
            waits.push(after_ms);
        }
        ensure!(
            waits.len() > LISTENERS / 2,
            "only {} of {LISTENERS} still listened when the server was stopped",
            waits.len()
        );
        waits.sort_unstable();
        // The spread is a second in scenes; of forty draws the outer ones lie far apart.
        let apart = waits.last().unwrap_or(&0) - waits.first().unwrap_or(&0);
        if !(500..=1_000).contains(&apart) {
            let words = format!("all come back within {apart} ms");
            scene.violations.push(Violation::Dishonest(words));
        }
        scene.start(None).await?;
    }
    scene
        .judge(format!(
            "{times} stops, the slowest took {} ms",
            slowest.as_millis()
        ))
        .await
}

/// A socket that was welcomed. A server that has too much to do to say what was missed asks to come back.
async fn listener(url: &str, token: &str) -> Result<Socket> {
    for _ in 0..COMES_BACK_MAX {
        match Socket::try_hello(url, token, "").await {
            Ok((socket, _)) => return Ok(socket),
            Err(COME_BACK) => {}
            Err(code) => bail!("closed with {code} before a welcome came"),
        }
    }
    bail!("the server asks again and again to come back")
}

/// Listens until the server says goodbye: the code, when to come back, and the code of the close. Zeroes when
/// it went without a word.
async fn goodbye(socket: &mut Socket) -> (u64, u64, u16) {
    loop {
        match socket.next().await {
            Came::Frame(frame) if frame.get("heartbeat").is_some() => {
                socket.send(json!({"alive": {}})).await;
            }
            Came::Frame(frame) if frame.get("goodbye").is_some() => {
                let number = |name: &str| frame["goodbye"][name].as_u64().unwrap_or(0);
                return (number("code"), number("afterMs"), socket.closed().await);
            }
            Came::Frame(_) => {}
            Came::Closed(code) => return (0, 0, code),
        }
    }
}
