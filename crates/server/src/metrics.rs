//! The numbers that the node shows, by name, and the door at which they are read. It is a door of its own, since
//! what passes through a node is not for everybody to see.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tertulia_api::live::Live;
use tertulia_api::live::told::Told;
use tertulia_kit::bus::Bus as _;
use tertulia_kit::bus::nats::Nats;
use tertulia_kit::cache;
use tertulia_kit::health::Health;
use tertulia_kit::job::Workers;
use tertulia_kit::lease::Leader;
use tertulia_kit::lifecycle::{Kind, Lifecycle};
use tertulia_kit::metrics::{self, Metrics};
use tertulia_kit::transport;
use tertulia_kit::transport::http2::Remote;
use tertulia_services::feed::Feed;
use tertulia_services::feed::relay::Relay;
use tertulia_services::presence::Presence;
use tertulia_store::redis::Redis;
use tokio::net::TcpListener;

use crate::feed::Seen;
use crate::stores::Stores;

/// Every number there is.
pub fn of_node(stores: &Stores, live: &Arc<Live>, presence: &Arc<Presence>) -> Metrics {
    let metrics = Metrics::default();
    stores.count(&metrics);
    metrics
        .of(live)
        .gauge("tertulia_sessions", "Sessions that are open.", |one| {
            one.sessions_open() as u64
        });
    metrics.of(presence).gauge(
        "tertulia_users_online",
        "Users with a session on this node.",
        |one| one.users_here() as u64,
    );
    metrics
}

/// The numbers of the link to other nodes.
pub fn of_bus(metrics: &Metrics, nats: &Nats<Told>) {
    metrics
        .of(nats)
        .gauge(
            "tertulia_bus_subjects",
            "On how many subjects of the bus somebody here listens.",
            |one| one.subjects() as u64,
        )
        .counter(
            "tertulia_bus_sent_total",
            "Messages that this node handed to NATS.",
            |one| one.sent(),
        )
        .counter(
            "tertulia_bus_heard_total",
            "Messages of other nodes that came over NATS.",
            |one| one.heard(),
        )
        .counter(
            "tertulia_bus_lost_total",
            "Messages for other nodes that were dropped, because NATS was away or too slow.",
            |one| one.lost(),
        );
    let disruptions = nats.disruptions();
    metrics.counter(
        "tertulia_bus_disruptions_total",
        "Times at which messages of other nodes may have been lost.",
        move || *disruptions.borrow(),
    );
}

/// The numbers of what nodes share.
pub fn of_redis(metrics: &Metrics, redis: &Redis) {
    metrics
        .of(redis)
        .counter("tertulia_redis_asked_total", "Questions to Redis.", |one| {
            one.asked()
        })
        .counter(
            "tertulia_redis_unanswered_total",
            "Questions to Redis that had no answer in time, or none that could be used.",
            |one| one.unanswered(),
        );
}

/// The numbers of what is read through the cache.
pub fn of_cache(metrics: &Metrics, counts: &Arc<cache::Counts>) {
    metrics
        .of(counts)
        .counter(
            "tertulia_cache_known_total",
            "Profiles that the cache of all nodes had.",
            |one| one.known.get(),
        )
        .counter(
            "tertulia_cache_read_total",
            "Profiles that were read from the database, because the cache did not have them or did not answer.",
            |one| one.read.get(),
        );
}

/// The numbers of the nodes that calls are handed on to over HTTP/2.
pub fn of_handing_on(metrics: &Metrics, remotes: Vec<Remote>) {
    let remotes: Arc<[Remote]> = remotes.into();
    let sum = |read: fn(&Remote) -> u64| {
        let remotes = Arc::clone(&remotes);
        move || remotes.iter().map(read).sum()
    };
    metrics.gauge(
        "tertulia_remotes",
        "Nodes that calls are handed on to over HTTP/2, once for each place in the configuration.",
        sum(|remote| remote.count().0 as u64),
    );
    metrics.gauge(
        "tertulia_remotes_left_out",
        "Of these, those that get no calls for a while, as they were away or slow.",
        sum(|remote| remote.count().1 as u64),
    );
    metrics.counter(
        "tertulia_remote_calls_total",
        "Calls that were sent to one of them, each time that one was.",
        sum(|remote| remote.numbers().sent.get()),
    );
    metrics.counter(
        "tertulia_remote_calls_unanswered_total",
        "Of these, those that it did not answer; what was surely not done went to another one.",
        sum(|remote| remote.numbers().unanswered.get()),
    );
    metrics.counter(
        "tertulia_remotes_left_out_total",
        "Times at which one of them was left out.",
        sum(|remote| remote.numbers().left_out.get()),
    );
}

/// What became of the feed here, and how its consumers stand; the latter only on workers.
pub fn of_feed(metrics: &Metrics, feed: &Arc<Feed>, seen: &Arc<Seen>) {
    metrics
        .of(feed)
        .counter(
            "tertulia_feed_given_total",
            "Events that this node gave to consumers of the feed.",
            |one| one.given.get(),
        )
        .counter(
            "tertulia_feed_gaps_total",
            "How often this node told a consumer of the feed that it can not go on.",
            |one| one.gaps.get(),
        )
        .counter(
            "tertulia_feed_dropped_total",
            "Commits that this node dropped from the feed, because they were kept for long enough.",
            |one| one.dropped.get(),
        );
    metrics
        .of(seen)
        .gauge("tertulia_feed_consumers", "Consumers of the feed.", |one| {
            one.consumers.load(Ordering::Relaxed)
        })
        .gauge(
            "tertulia_feed_stuck_consumers",
            "Consumers of the feed that can not go on, because what they lack is not kept.",
            |one| one.stuck.load(Ordering::Relaxed),
        )
        .gauge(
            "tertulia_feed_lag_seconds",
            "For how long the oldest event waits that a consumer of the feed has not acknowledged.",
            |one| one.lag_s.load(Ordering::Relaxed),
        );
}

/// How much of the feed this node brought into its stream.
pub fn of_relay(metrics: &Metrics, relay: Arc<Relay>) {
    metrics.counter(
        "tertulia_feed_brought_total",
        "Events of the feed that this node brought into the stream of JetStream.",
        move || relay.brought.get(),
    );
}

/// Whether this node does what one of the nodes does.
pub fn of_leader(metrics: &Metrics, leader: Arc<Leader>) {
    metrics.gauge(
        "tertulia_leads_due",
        "Whether this node does what is due, of those that share a database.",
        move || u64::from(leader.leads()),
    );
}

/// What became of the jobs that were done here.
pub fn of_jobs(metrics: &Metrics, workers: &Arc<Workers>) {
    metrics
        .of(workers)
        .counter(
            "tertulia_jobs_done_total",
            "Jobs that were done on this node.",
            |one| one.done.get(),
        )
        .counter(
            "tertulia_job_tries_failed_total",
            "Tries of jobs on this node that came to nothing.",
            |one| one.failed.get(),
        )
        .counter(
            "tertulia_jobs_dead_total",
            "Jobs that failed for good on this node and wait for somebody to replay them.",
            |one| one.buried.get(),
        );
}

/// What the probes know, as Prometheus reads it.
async fn of_health(health: &Health) -> String {
    let report = health.report(true).await;
    let mut text = format!(
        "# HELP tertulia_ready Whether this node may be sent work.\n\
         # TYPE tertulia_ready gauge\n\
         tertulia_ready {}\n\
         # HELP tertulia_check_passed Whether a check of readiness passes.\n\
         # TYPE tertulia_check_passed gauge\n",
        u8::from(report.ready)
    );
    for check in &report.checks {
        let (name, passed) = (check.name, u8::from(check.problem.is_none()));
        text += &format!("tertulia_check_passed{{check=\"{name}\"}} {passed}\n");
    }
    text
}

/// Serves them at `/metrics` on each address; gives the addresses as they were taken.
///
/// # Errors
/// When an address is not free.
pub async fn serve(
    metrics: &Metrics,
    health: &Health,
    addresses: &[SocketAddr],
    lifecycle: &Lifecycle,
) -> anyhow::Result<Vec<SocketAddr>> {
    let mut taken = Vec::with_capacity(addresses.len());
    for address in addresses {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("metrics can not be shown at {address}"))?;
        taken.push(listener.local_addr()?);
        let (numbers, health) = (metrics.clone(), health.clone());
        let text = move || async move {
            let text = numbers.text() + &of_health(&health).await;
            ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
        };
        let router = Router::new().route("/metrics", get(text));
        let options = transport::Options::default();
        let serving = transport::serve(listener, router, options, lifecycle.clone());
        lifecycle.spawn(Kind::Door, "metrics", serving);
    }
    Ok(taken)
}
