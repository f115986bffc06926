//! Drops on a beat what the feed has kept for long enough, and looks how far its consumers have got. Every worker does:
//! what one has dropped is not there for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;
use tertulia_kit::lifecycle;
use tertulia_services::feed::Feed;
use tokio_util::sync::CancellationToken;

/// How often it is looked how far consumers have got.
const BEAT: Duration = Duration::from_secs(5);
/// At which of these beats something is dropped.
const DROPPED_EVERY: u64 = 12;

/// How the consumers stand, as it was on the last beat.
#[derive(Debug, Default)]
pub struct Seen {
    /// How many there are.
    pub consumers: AtomicU64,
    /// How many of them can not go on.
    pub stuck: AtomicU64,
    /// For how long the oldest event waits that one of the others has not acknowledged, in seconds.
    pub lag_s: AtomicU64,
}

/// Does it until it is told to stop, between two beats. Of failures in a row only the first is logged.
pub async fn keep(feed: Arc<Feed>, seen: Arc<Seen>, clock: SharedClock, told: CancellationToken) {
    let (mut beats, mut fails) = (0_u64, false);
    loop {
        let done = lifecycle::catch(beat(&feed, &seen, &clock, beats)).await;
        let problem = match &done {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure.cause_chain().unwrap_or_default()),
            Err(panicked) => Some(panicked.to_string()),
        };
        match &problem {
            None if fails => tracing::info!("the feed is looked after again"),
            Some(problem) if !fails => {
                tracing::error!("the feed can not be looked after: {problem}")
            }
            _ => {}
        }
        fails = problem.is_some();
        beats += 1;
        let pause = told.run_until_cancelled(tokio::time::sleep(BEAT));
        if pause.await.is_none() {
            return;
        }
    }
}

async fn beat(feed: &Feed, seen: &Seen, clock: &SharedClock, beats: u64) -> Result<()> {
    if beats.is_multiple_of(DROPPED_EVERY) {
        feed.drop_old().await?;
    }
    let standings = feed.standings().await?;
    let stuck = standings.iter().filter(|one| one.is_stuck).count() as u64;
    if stuck > seen.stuck.swap(stuck, Ordering::Relaxed) {
        tracing::warn!(
            stuck,
            "{stuck} consumers of the feed can not go on; `tertulia feed consumers` says which"
        );
    }
    let going = standings.iter().filter(|one| !one.is_stuck);
    let oldest = going.filter_map(|one| one.waits_since_ms).min();
    let lag_ms = oldest.map_or(0, |since| clock.now_ms().saturating_sub(since).max(0));
    let (count, lag_s) = (standings.len() as u64, lag_ms.unsigned_abs() / 1_000);
    seen.consumers.store(count, Ordering::Relaxed);
    seen.lag_s.store(lag_s, Ordering::Relaxed);
    Ok(())
}
