//! Faults of the bus. In this build it is in the process; a hidden flag of the server makes it lose, repeat,
//! reorder, go down and stall. The log is the truth, so that all of it costs time and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use futures::future::join_all;
use rand::Rng as _;

use super::leaver::Leaver;
use super::scene::{Scene, Setup};
use super::{End, Run};

/// F11. The bus goes down and comes back without end: half of the time it is down.
pub async fn flaps(run: Run) -> Result<End> {
    harmed(run, "outage_every=40,outage_length=20").await
}

/// F12. The bus loses everything that it is given.
pub async fn loses_everything(run: Run) -> Result<End> {
    harmed(run, "lose=1000").await
}

/// F13. The bus repeats and reorders, and loses now and then.
pub async fn repeats_and_reorders(run: Run) -> Result<End> {
    harmed(run, "repeat=400,reorder=400,lose=50").await
}

/// F14. After a while half of the subjects are never delivered again, and nobody is told.
pub async fn stalls(run: Run) -> Result<End> {
    harmed(run, "stall_after=60").await
}

/// A town on a bad bus, and of each person a device that signs out while it is bad.
async fn harmed(run: Run, faults: &str) -> Result<End> {
    let mut setup = Setup::default();
    setup.plan.devices_each = 2;
    setup.args = vec!["--bus-faults".into(), format!("{faults},seed={}", run.seed)];
    let mut scene = Scene::open(run, setup).await?;
    let rounds = run.amount(1, 50);
    let mut heard = 0;
    for _ in 0..rounds {
        let moment = Duration::from_millis(scene.random.random_range(300..1_500));
        let url = scene.plain.url();
        let accounts: BTreeSet<_> = scene.town.devices.iter().map(|d| &d.account).collect();
        let leaving = accounts
            .into_iter()
            .map(|account| Leaver::stay(&url, account, moment));
        for left in join_all(leaving).await {
            let left = left?;
            heard += left.heard;
            scene.violations.extend(left.leaks);
        }
        scene.acked(run.amount(40, 400)).await?;
    }
    scene
        .judge(format!(
            "{faults}; those who signed out had heard {heard} frames before"
        ))
        .await
}
