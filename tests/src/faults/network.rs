//! Faults between clients and the server.

use std::time::{Duration, Instant};

use anyhow::Result;
use tertulia_client::Connection;

use super::meter::{Bounds, Taken};
use super::scene::{HEAL_MAX, Scene, Setup};
use super::{End, Run};
use crate::checker::Violation;
use crate::proxy::Toxics;
use crate::town::{Plan, Traffic};

/// How long the server may keep a peer that vanished: two and a half heartbeats of a second, the last words,
/// and what a busy machine adds.
const LET_GO_MAX: Duration = Duration::from_secs(12);

/// F19. The network keeps every socket and passes nothing. Both sides must notice by themselves: clients come
/// back on new connections, and the server lets the old ones go.
pub async fn half_open(run: Run) -> Result<End> {
    let setup = Setup {
        settings: vec![("http.header_timeout_ms", "3000".into())],
        ..Setup::default()
    };
    let mut scene = Scene::open(run, setup).await?;
    let rounds = run.amount(2, 30);
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        scene.acked(30).await?;
        let peers = scene.proxy.open() as u64;
        let pid = scene.server()?.pid();
        let sockets = || Taken::now(pid).map_or(0, |taken| taken.sockets);
        // New connections would take the places of those that are let go.
        scene.proxy.refuse(true);
        scene.proxy.set_both(Toxics::silent());
        let (began, before) = (Instant::now(), sockets());
        let let_go = async {
            while sockets() + peers > before {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(LET_GO_MAX, let_go).await.is_err() {
            let still = format!(
                "{} of {before} sockets are open {LET_GO_MAX:?} after {peers} peers vanished",
                sockets()
            );
            scene.violations.push(Violation::Unbounded(still));
        }
        slowest = slowest.max(began.elapsed());
        scene.proxy.heal();
        scene.proxy.reset();
    }
    scene
        .judge(format!(
            "{rounds} times, let go within {:.1} s",
            slowest.as_secs_f64()
        ))
        .await
}

/// F22. All connections are reset at once while everybody says one last thing, and nobody says anything
/// after it: what falls between two connections is not brought to light by what follows.
pub async fn storm(run: Run) -> Result<End> {
    let (people, devices_each) = run.amount((30, 2), (200, 5));
    let connections = (people * devices_each) as u64;
    let setup = Setup {
        plan: Plan {
            people,
            devices_each,
            ..Plan::default()
        },
        traffic: Traffic {
            waiting_max: 4,
            thought: Duration::from_millis(200)..=Duration::from_millis(2_000),
            ..Traffic::default()
        },
        bounds: Bounds {
            memory_mib: 600,
            files: 200 + 4 * connections,
            threads: 100,
        },
        ..Setup::default()
    };
    let mut scene = Scene::open(run, setup).await?;
    scene.acked(100).await?;
    scene.town.hush().await;
    let rounds = run.amount(4, 40);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        all_online(&scene).await?;
        scene.proxy.reset();
        let began = Instant::now();
        for (at, device) in scene.town.devices.iter().enumerate() {
            let chat = device.chats[round % device.chats.len()];
            device
                .say(chat, format!("{} says in storm {round}", device.name))
                .await?;
            if at % 8 == 0 {
                tokio::task::yield_now().await;
            }
        }
        all_online(&scene).await?;
        slowest = slowest.max(began.elapsed());
        let quiet = scene.town.history(HEAL_MAX).await?;
        scene.violations.extend(quiet.check());
    }
    let note = format!(
        "{rounds} storms of {connections}, all back within {:.1} s",
        slowest.as_secs_f64()
    );
    scene.judge(note).await
}

/// Waits until every device is connected.
async fn all_online(scene: &Scene) -> Result<()> {
    for device in &scene.town.devices {
        let mut connection = device.client.connection();
        let online = connection.wait_for(|now| matches!(now, Connection::Online));
        let waited = tokio::time::timeout(HEAL_MAX, online).await;
        anyhow::ensure!(
            waited.is_ok(),
            "{} is not back after {HEAL_MAX:?}",
            device.name
        );
    }
    Ok(())
}
