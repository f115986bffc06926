//! Rounds: in each, every peer is measured once, on a fresh server in an empty folder. What disturbs the machine for a
//! while so falls on all of them, and not on one.

use anyhow::{Context as _, Result};

use crate::load::Plan;
use crate::peers::{Peer, Places};
use crate::report::PeerResult;

/// Measures these peers so often. One that fails is reported and left out from then on.
///
/// # Errors
/// When there is no folder for what the servers keep.
pub async fn run(
    peers: &[Peer],
    places: &Places,
    plan: &Plan,
    runs: usize,
) -> Result<Vec<PeerResult>> {
    let mut results: Vec<PeerResult> = peers
        .iter()
        .map(|peer| PeerResult::of(*peer, peer.version(places)))
        .collect();
    for run in 1..=runs {
        for result in results.iter_mut().filter(|r| r.not_run.is_none()) {
            let folder = tempfile::tempdir().context("no folder for what the servers keep")?;
            eprintln!("measuring {}, run {run} of {runs} …", result.peer.title());
            match result.peer.round(places, plan, folder.path()).await {
                Ok(outcomes) => result.outcomes.extend(outcomes),
                Err(error) => result.fail(&error),
            }
        }
    }
    Ok(results)
}
