//! Drops on a beat what the feed has kept for long enough, and looks how far its consumers have got. Every worker does:
//! what one has dropped is not there for another. And brings it into a stream of others; of the nodes that share a
//! database one does. That spares the others the work; what is brought once is decided by the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;
use tertulia_kit::lease::Leader;
use tertulia_kit::lifecycle::{self, Kind, Lifecycle};
use tertulia_kit::stream::nats::JetStream;
use tertulia_services::feed::Feed;
use tertulia_services::feed::relay::{Relay, Seen as End};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::roles::Role;
use crate::stores::Stores;

/// How often it is looked how far consumers have got.
const BEAT: Duration = Duration::from_secs(5);
/// At which of these beats something is dropped.
const DROPPED_EVERY: u64 = 12;
/// How long nothing is brought after the node has died that did it.
const LEASE_LASTS: Duration = Duration::from_secs(4);
/// How often it is looked whether there is something to bring.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long is waited before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

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

/// The feed that consumers follow, and how they stand; looked after by workers.
pub fn kept(
    config: &Config,
    stores: &Stores,
    clock: &SharedClock,
    lifecycle: &Lifecycle,
) -> (Arc<Feed>, Arc<Seen>) {
    let (outbox, consumers) = stores.feed();
    let outbox = config.feed.enabled.then_some(outbox);
    let feed = Feed::new(outbox, consumers, config.feed.options(), clock.clone());
    let seen = Arc::new(Seen::default());
    if feed.is_kept() && config.roles.has(Role::Worker) {
        let told = lifecycle.told(Kind::Work);
        let keeping = keep(Arc::clone(&feed), Arc::clone(&seen), clock.clone(), told);
        lifecycle.spawn(Kind::Work, "feed", keeping);
    }
    (feed, seen)
}

/// Has the feed brought into a stream of JetStream; nothing when it is not, or not by this node.
///
/// # Errors
/// When the stream is not configured as it must be.
pub async fn into_stream(
    config: &Config,
    stores: &Stores,
    lifecycle: &Lifecycle,
) -> anyhow::Result<Option<Arc<Relay>>> {
    let Some(options) = config.bus.stream(&config.feed)? else {
        return Ok(None);
    };
    if !config.roles.has(Role::Worker) {
        return Ok(None);
    }
    let stream = JetStream::connect(options).await?;
    tracing::info!(
        stream = stream.name(),
        "the feed goes into a stream of JetStream"
    );
    let bringer = Relay::new(stores.feed().0, Arc::new(stream), tertulia_api::feed::line);
    let leader = stores
        .leases()
        .map(|leases| Leader::new(leases, "feed", LEASE_LASTS));
    let told = lifecycle.told(Kind::Work);
    let bringing = relay(Arc::clone(&bringer), leader, told);
    lifecycle.spawn(Kind::Work, "feed relay", bringing);
    Ok(Some(bringer))
}

/// Does it until it is told to stop, between two beats. Of failures in a row only the first is logged.
async fn keep(feed: Arc<Feed>, seen: Arc<Seen>, clock: SharedClock, told: CancellationToken) {
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

/// Brings the feed into its stream until it is told to stop; with a leader only when this node leads.
async fn relay(relay: Arc<Relay>, leader: Option<Arc<Leader>>, told: CancellationToken) {
    let task = || bring(Arc::clone(&relay), told.clone());
    match leader {
        None => task().await,
        Some(leader) => leader.run(told.clone(), |_| task()).await,
    }
}

/// Of failures in a row only the first is logged.
async fn bring(relay: Arc<Relay>, told: CancellationToken) {
    let mut end: End = None;
    let mut fails = false;
    loop {
        let done = match lifecycle::catch(relay.step(&mut end)).await {
            Ok(done) => done,
            Err(panicked) => Err(panicked.to_string()),
        };
        match &done {
            Ok(_) if fails => tracing::info!("the feed is brought into its stream again"),
            Err(problem) if !fails => {
                tracing::error!("the feed can not be brought into its stream: {problem}");
            }
            _ => {}
        }
        fails = done.is_err();
        let pause = match done {
            Ok(true) => Duration::ZERO,
            Ok(false) => LOOK_EVERY,
            Err(_) => {
                end = None;
                PAUSE
            }
        };
        let pause = told.run_until_cancelled(tokio::time::sleep(pause));
        if pause.await.is_none() {
            return;
        }
    }
}
