//! The only place that knows every concrete type. It reads from top to bottom in the order of the start;
//! the stop is the reverse.

use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use connectrpc::ConnectRpcService;
use connectrpc_health::StaticChecker;
use tertulia_api::control::Control;
use tertulia_api::gate::{Gate, Parts};
use tertulia_api::http::{Doors, rpc_service};
use tertulia_api::live::Live;
use tertulia_api::live::feed::Feed;
use tertulia_api::live::hub::Hub;
use tertulia_api::live::told::Told;
use tertulia_api::nats;
use tertulia_api::rpc::{Services, full_router};
use tertulia_kit::bus::nats::Nats;
use tertulia_kit::bus::{Bus, Memory};
use tertulia_kit::cache::Through;
use tertulia_kit::clock::{HighWater, SharedClock};
use tertulia_kit::health::Health;
use tertulia_kit::id::Ids;
use tertulia_kit::lease::Leader;
use tertulia_kit::lifecycle::{Grace, Kind, Lifecycle, Stopped};
use tertulia_kit::limit::{self, Budgets, Rate};
use tertulia_kit::lock::{DataFolder, Format};
use tertulia_kit::transport::nats::{Everybody, NodeKey};
use tertulia_kit::transport::node_token::NodeTokens;
use tertulia_kit::transport::{self, nats as calls};
use tertulia_services::access::Authorizer;
use tertulia_services::chats::Chats;
use tertulia_services::identity::{self, Identity, Peppers, SigningKeys};
use tertulia_services::presence::Presence;
use tertulia_services::users::Users;
use tertulia_store::cached::Profiles;
use tertulia_store::redis::{self, Ledger, Redis};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::due;
use crate::feed;
use crate::handing;
use crate::harm::Harm;
use crate::jobs;
use crate::logins;
use crate::metrics;
use crate::presence;
use crate::roles::Role;
use crate::stores::Stores;

/// The version of the data folder's layout that this binary writes.
const DATA_FORMAT: u32 = 1;
/// How many callers' budgets are remembered, of logins and of addresses each.
const CALLERS_WATCHED_MAX: usize = 100_000;
/// How long a start waits for NATS.
const LINK_WAIT: Duration = Duration::from_secs(2);
/// Where the key is that shows that somebody may act as a node, when none is configured.
pub(crate) const NODE_KEY_FILE: &str = "node.key";
const NODE_KEY_BYTES: usize = 32;
/// How often the clock's mark is moved on; the mark is seconds ahead.
const CLOCK_KEEP: Duration = Duration::from_secs(1);

/// A running node.
pub struct Node {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its numbers are read.
    pub metrics: Vec<SocketAddr>,
    /// How long the start took.
    pub started_in: Duration,
    /// Its tasks.
    pub lifecycle: Lifecycle,
    /// The contract, without a network between.
    pub rpc: ConnectRpcService<Gate>,
    /// Everything on the port, without a network between.
    pub http: axum::Router,
    live: Arc<Live>,
    health: Health,
    grpc_health: Arc<StaticChecker>,
    grace: Duration,
    /// Kept to the last: it is the lock on the folder.
    _folder: DataFolder,
}

/// Starts everything in one process.
///
/// # Errors
/// When the folder is taken or of another version, a store can not be opened, or the address is not free.
pub async fn start(config: Config, harm: Harm) -> anyhow::Result<Node> {
    let began = Instant::now();
    harm.warn();
    let lifecycle = Lifecycle::new();
    let health = Health::new();

    let folder = open_folder(&config)?;
    let mark = Arc::new(HighWater::open(&folder.path().join("clock")).context("the clock's mark")?);
    let clock: SharedClock = mark.clone();
    let told = lifecycle.told_loops();
    lifecycle.spawn_loop("clock", move || keep_clock(mark.clone(), told.clone()));

    let linked = link(&config, &lifecycle, &health)?;
    let bus: Arc<dyn Bus<Told>> = match &linked {
        Some(nats) => Arc::new(nats.clone()),
        None => Arc::new(Memory::new()),
    };
    let bus = harm.of_bus(bus);
    let feed = Feed::new(Arc::clone(&bus));
    let redis = shared(&config, &lifecycle, &health)?;
    let ledger: Option<Arc<dyn limit::Ledger>> =
        redis.clone().map(|redis| Arc::new(Ledger::new(redis)) as _);
    let (to_feed, time) = (feed.clone(), clock.clone());
    let stores = Stores::open(&config, &folder, &harm, to_feed, time, &lifecycle).await?;
    let ids = Arc::new(Ids::new(clock.clone(), stores.nodes.clone()));

    let peppers = peppers(&config, &folder)?;
    let keys = match &stores.shared {
        None => signing_keys(&folder)?,
        Some(shared) => {
            shared.agree_on_pepper(&peppers).await?;
            SigningKeys::of_pepper(&peppers)
        }
    };
    let cache = cache(&config, &redis, &stores);
    let profiles = match &cache {
        None => stores.profiles.clone(),
        Some(through) => Arc::new(Profiles::new(stores.profiles.clone(), through.clone())),
    };
    let users = Arc::new(Users::new(profiles, clock.clone()));
    let mut identity = Identity::open(
        identity_options(&config),
        stores.accounts.clone(),
        keys,
        peppers,
        ids.clone(),
        clock.clone(),
        feed.clone(),
    )
    .await?;
    if let Some(ledger) = &ledger {
        identity = identity.counting_with(Arc::clone(ledger));
    }
    let identity = Arc::new(identity);
    let chats = Arc::new(Chats::new(
        stores.chats.clone(),
        users.clone(),
        feed,
        Arc::clone(&ids),
        clock.clone(),
        config.chats.limits(),
    ));
    let leader = stores
        .leases()
        .filter(|_| config.roles.has(Role::Worker))
        .map(|leases| Leader::new(leases, "due", due::LEASE_LASTS));
    if config.roles.has(Role::Worker) {
        let told = lifecycle.told(Kind::Work);
        let doing = due::keep_doing(
            chats.clone(),
            config.chats.due_interval(),
            leader.clone(),
            told,
        );
        lifecycle.spawn(Kind::Work, "due", doing);
    }
    let workers = match config.roles.has(Role::Worker) {
        true => {
            let (jobs, identity) = (Arc::clone(&stores.jobs), Arc::clone(&identity));
            let workers = jobs::workers(jobs, identity, Arc::clone(&ids), clock.clone())?;
            let (doing, told) = (Arc::clone(&workers), lifecycle.told(Kind::Work));
            lifecycle.spawn(Kind::Work, "jobs", async move { doing.run(told).await });
            Some(workers)
        }
        false => None,
    };
    let options = config.live.options(config.drain.spread());
    let hub = Hub::new(bus, &options);
    let registry = redis.clone().map(|redis| {
        let lease = config.presence.lease();
        harm.of_presences(Arc::new(redis::Registry::new(redis, lease)))
    });
    let presence = Presence::new(
        config.presence.options(linked.is_none()),
        registry,
        users.clone(),
        chats.clone(),
        hub.watchers(),
        clock.clone(),
    );
    let services = Services {
        identity: identity.clone(),
        users,
        chats: chats.clone(),
        presence: presence.clone(),
    };
    if (linked.is_some() || stores.shared.is_some()) && !harm.forgets_revocations() {
        let told = lifecycle.told(Kind::Work);
        let learning = logins::keep_learning(identity.clone(), Arc::clone(&hub), told);
        lifecycle.spawn(Kind::Work, "logins", learning);
    }
    let live = Live::new(
        options,
        hub,
        chats.clone(),
        presence.clone(),
        clock.clone(),
        lifecycle.clone(),
    );
    if harm.skips_catch_up_buffer() {
        live.sabotage_catch_up();
    }
    let (keeping, told) = (presence.clone(), lifecycle.told(Kind::Work));
    lifecycle.spawn(Kind::Work, "presence", presence::keep(keeping, told));
    let everybody = everybody(&config, clock.clone()).await?;
    let (durable, seen) = feed::kept(&config, &stores, &clock, &lifecycle);
    let kept = Arc::clone(&durable);
    let (router, grpc_health) = full_router(&services, live.clone(), kept, |grpc_health| Control {
        live: live.clone(),
        identity: identity.clone(),
        chats: chats.clone(),
        nodes: stores.nodes.clone(),
        everybody: everybody.clone(),
        roles: config.roles.names(),
        since_ms: clock.now_ms(),
        health: health.clone(),
        grpc_health,
    });
    let (elsewhere, remotes) = handing::on(&config, &clock, &lifecycle).await?;
    handing::remark(&health, &remotes);
    let limits = &config.limits;
    let parts = Parts {
        identity: identity.clone(),
        authorizer: Authorizer::new(chats),
        login_budget: limits
            .login()
            .map(|rate| budgets("logins", rate, ledger.as_ref(), &clock, &lifecycle)),
        address_budget: limits
            .address()
            .map(|rate| budgets("addresses", rate, ledger.as_ref(), &clock, &lifecycle)),
        clock: clock.clone(),
        call_timeout: config.http.call_timeout(),
        elsewhere,
        node_tokens: Some(NodeTokens::new(node_key(&config, &folder)?)),
    };
    let gate = Gate::new(parts, router);
    live.set_gate(gate.clone());

    let listener = transport::listen(config.listen)
        .with_context(|| format!("the address {} can not be listened on", config.listen))?;
    let address = listener.local_addr()?;
    let doors = Doors {
        gate: gate.clone(),
        live: live.clone(),
        identity,
        health: health.clone(),
        origins: config.public_origins.clone().into(),
        trusted_proxies: config.trusted_proxies.clone().into(),
        body_bytes_max: config.http.body_bytes_max,
    };
    let door = transport::Options {
        header_timeout: config.http.header_timeout(),
        ..transport::Options::default()
    };
    let http = match config.roles.has(Role::Edge) {
        true => tertulia_api::http::router(doors),
        false => tertulia_api::http::probes(health.clone()),
    };
    let http = match handing::door(&config, &gate, &clock)? {
        Some(calls) => http.merge(calls),
        None => http,
    };
    let serving = transport::serve(listener, http.clone(), door, lifecycle.clone());
    lifecycle.spawn(Kind::Door, "http", serving);
    if let Some(options) = config.bus.calls().context("calls of other nodes")?
        && config.roles.has(Role::Api)
    {
        let (offers, handler) = (handing::offers(&config), nats::handler(gate.clone()));
        let answering = calls::serve(options, offers, handler, clock, lifecycle.clone());
        lifecycle.spawn(Kind::Door, "calls", answering);
    }
    if let Some(everybody) = everybody {
        let (services, handler) = (vec![nats::OF_EVERYBODY.into()], nats::handler(gate.clone()));
        let hearing = everybody.hear(services, handler, lifecycle.clone());
        lifecycle.spawn(Kind::Door, "questions", hearing);
    }
    stores.watch(&health);
    let numbers = metrics::of_node(&stores, &live, &presence);
    if let Some(nats) = &linked {
        metrics::of_bus(&numbers, nats);
        // Who comes first is told at once what happens elsewhere; without NATS the node works as well.
        if timeout(LINK_WAIT, nats.connected()).await.is_err() {
            tracing::warn!("NATS is not there yet: nodes do not hear each other");
        }
    }
    if let Some(redis) = &redis {
        metrics::of_redis(&numbers, redis);
    }
    if let Some(cache) = &cache {
        metrics::of_cache(&numbers, cache.counts());
    }
    if !remotes.is_empty() {
        metrics::of_handing_on(&numbers, remotes);
    }
    if durable.is_kept() {
        metrics::of_feed(&numbers, &durable, &seen);
    }
    if let Some(relay) = feed::into_stream(&config, &stores, &lifecycle).await? {
        metrics::of_relay(&numbers, relay);
    }
    if let Some(leader) = leader {
        metrics::of_leader(&numbers, leader);
    }
    if let Some(workers) = workers {
        metrics::of_jobs(&numbers, &workers);
    }
    let metrics = metrics::serve(&numbers, &health, &config.metrics.listen, &lifecycle).await?;
    health.ready();

    Ok(Node {
        address,
        metrics,
        started_in: began.elapsed(),
        rpc: rpc_service(gate, config.http.body_bytes_max),
        http,
        lifecycle,
        live,
        health,
        grpc_health,
        grace: config.drain.grace(),
        _folder: folder,
    })
}

impl Node {
    /// Stops in order: not ready, no new connections, sessions told when to come back, open calls finished,
    /// stores closed.
    pub async fn stop(self) -> Stopped {
        self.health.draining();
        self.grpc_health.shutdown();
        tracing::info!("draining {} sessions", self.live.sessions_open());
        self.lifecycle.stop(Grace::of_connections(self.grace)).await
    }
}

/// The link to other nodes; nothing when the node is alone.
fn link(
    config: &Config,
    lifecycle: &Lifecycle,
    health: &Health,
) -> anyhow::Result<Option<Nats<Told>>> {
    let Some(options) = config.bus.nats().context("the bus")? else {
        return Ok(None);
    };
    let nats = Nats::start(options, lifecycle);
    let asked = nats.clone();
    health.remark("bus", move || std::future::ready(asked.health()));
    Ok(Some(nats))
}

/// How all other nodes are asked at once; nothing when there are none, or none that would believe it.
async fn everybody(config: &Config, clock: SharedClock) -> anyhow::Result<Option<Everybody>> {
    let Some(options) = config.bus.calls().context("questions of other nodes")? else {
        return Ok(None);
    };
    Ok(Some(Everybody::connect(options, clock).await?))
}

/// What nodes share for a short while; nothing when each counts alone.
fn shared(
    config: &Config,
    lifecycle: &Lifecycle,
    health: &Health,
) -> anyhow::Result<Option<Redis>> {
    let Some(options) = config.redis.options().context("redis")? else {
        return Ok(None);
    };
    let redis = Redis::start(options, lifecycle);
    let asked = redis.clone();
    health.remark("redis", move || std::future::ready(asked.health()));
    Ok(Some(redis))
}

/// What nodes read through, to spare the database that they have together; nothing when they have none, or no Redis.
fn cache(config: &Config, redis: &Option<Redis>, stores: &Stores) -> Option<Through> {
    stores.shared.as_ref()?;
    let (redis, kept) = (redis.clone()?, config.redis.cache_kept()?);
    Some(Through::new(Arc::new(redis::Cache::new(redis, kept))))
}

/// The budgets of a sort of callers, with what they spend on other nodes when there is a ledger of it.
fn budgets<K>(
    of: &'static str,
    rate: Rate,
    ledger: Option<&Arc<dyn limit::Ledger>>,
    clock: &SharedClock,
    lifecycle: &Lifecycle,
) -> Arc<Budgets<K>>
where
    K: Hash + Eq + Clone + ToString + Send + Sync + 'static,
{
    let budgets = Budgets::new(rate, CALLERS_WATCHED_MAX, clock.clone());
    let Some(ledger) = ledger else {
        return Arc::new(budgets);
    };
    let budgets = Arc::new(budgets.tied(of, Arc::clone(ledger)));
    let (spent, told) = (Arc::clone(&budgets), lifecycle.told_loops());
    lifecycle.spawn_loop("budgets", move || {
        let (spent, told) = (Arc::clone(&spent), told.clone());
        async move {
            told.run_until_cancelled(spent.keep_telling()).await;
        }
    });
    budgets
}

/// Takes the data folder, fresh or of this version.
pub(crate) fn open_folder(config: &Config) -> anyhow::Result<DataFolder> {
    let folder = DataFolder::open(config.data.as_ref())?;
    match folder.format(DATA_FORMAT)? {
        Format::Fresh => folder.set_format(DATA_FORMAT)?,
        Format::Current => {}
        Format::Older(version) => anyhow::bail!(
            "the data folder {} has format {version}, which was never released; format {DATA_FORMAT} is the first",
            folder.path().display()
        ),
    }
    Ok(folder)
}

fn identity_options(config: &Config) -> identity::Options {
    identity::Options {
        access_lifetime: config.identity.access_token(),
        refresh_lifetime: config.identity.refresh_token(),
        refresh_overlap: config.identity.refresh_overlap(),
        argon2_memory_kib: config.identity.argon2_memory_kib,
        argon2_passes: config.identity.argon2_passes,
        hashes_at_once: config.identity.hashes_at_once,
        hash_queue_max: config.identity.hash_queue_max,
        attempts_per_minute: config.limits.account_attempts_per_minute,
        ..identity::Options::default()
    }
}

/// The key that signs access tokens; made at the first start.
fn signing_keys(folder: &DataFolder) -> anyhow::Result<SigningKeys> {
    let seed = folder.secret("signing.key", 32)?;
    let seed = seed
        .expose()
        .try_into()
        .context("the signing key does not have 32 bytes")?;
    Ok(SigningKeys::from_seed(&seed))
}

/// The configured pepper, or one that is made at the first start.
fn peppers(config: &Config, folder: &DataFolder) -> anyhow::Result<Peppers> {
    match &config.identity.pepper {
        Some(pepper) => Ok(Peppers::new(pepper.expose())),
        None => Ok(Peppers::new(folder.secret("pepper.key", 32)?.expose())),
    }
}

/// The configured key of the nodes, or one that is made at the first start, for this node alone.
fn node_key(config: &Config, folder: &DataFolder) -> anyhow::Result<NodeKey> {
    match config.bus.node_key()? {
        Some(key) => Ok(key),
        None => Ok(NodeKey::new(folder.secret(NODE_KEY_FILE, NODE_KEY_BYTES)?)?),
    }
}

async fn keep_clock(mark: Arc<HighWater>, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CLOCK_KEEP) => {}
            () = stopping.cancelled() => return,
        }
        if let Err(error) = mark.keep_ahead() {
            tracing::error!(%error, "the clock's mark can not be moved on; time will stand still");
        }
    }
}
