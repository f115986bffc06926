//! What an operator can set, in one table; and the typed tree that the table fills.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use tertulia_api::elsewhere::HandedOn;
use tertulia_api::live;
use tertulia_kit::bus::nats;
use tertulia_kit::config::{Field, Loaded, Problems, Schema, Sources};
use tertulia_kit::limit::Rate;
use tertulia_kit::net::Net;
use tertulia_kit::secret::Secret;
use tertulia_kit::stream::consumer::nats as consumer;
use tertulia_kit::stream::nats as jetstream;
use tertulia_kit::telemetry;
use tertulia_kit::transport::nats::{self as calls, NodeKey};
use tertulia_services::chats;
use tertulia_services::feed;
use tertulia_services::presence;
use tertulia_store::{fjall, postgres, redis};

use crate::roles::{Role, Roles};

/// Every key there is. The kit prints the template, the list of variables and the reference from it.
pub static SCHEMA: Schema = Schema {
    prefix: "TERTULIA_",
    about: "The settings of a Tertulia server. A key that is not set has its default. The environment \
            wins over the file, and flags win over both.",
    sections: &[
        ("log", "What the server writes to stderr."),
        ("live", "Live connections."),
        ("http", "Requests over HTTP."),
        ("identity", "Accounts, logins and passwords."),
        (
            "limits",
            "How much one caller may do. A call costs its weight in tokens; most weigh 1.",
        ),
        ("chats", "How large chats may be."),
        ("presence", "Who is told who is there."),
        ("store", "Where everything is kept, and how."),
        ("bus", "How nodes hear of each other what happens."),
        ("redis", "What nodes share for a short while."),
        (
            "feed",
            "What was committed, in one order, for an export and for other consumers.",
        ),
        ("drain", "How the server stops."),
        ("metrics", "What the server counts."),
    ],
    fields: FIELDS,
    env_reserved: &["TERTULIA_CONFIG"],
};

const FIELDS: &[Field] = &[
    Field::text("data", "data", "The folder that holds everything the server keeps. One process has it at a time."),
    Field::text("listen", "127.0.0.1:8080", "The address and port to listen on. Port 0 takes a free one.")
        .checked(socket_address),
    Field::list("public_origins", "The origins whose web pages may call the server, such as \
        https://chat.example.org. With none, a page must come from the host that it calls.")
        .checked(origin),
    Field::list("trusted_proxies", "The proxies that are believed about the address of a caller, such as \
        10.0.0.0/8.")
        .checked(net),
    Field::list("roles", "What this node does of edge (serves clients), api (does calls that other nodes hand on) and \
        worker (does what comes due by itself). With none, everything.")
        .checked(role),
    Field::list("elsewhere", "The services whose calls this node hands on to nodes with the role api that do them, such as \
        tertulia.users.v1.UsersService. They are found over NATS; or called over HTTP/2 at the places behind the name, with a \
        blank between: http://host:port for each node, or dns+http://name:port for every address of a name. Messages, live \
        connections and the control of sessions stay here.")
        .checked(service),
    Field::number("threads", 0, 0..=1_024, "How many threads serve sessions and calls. 0: as many as the machine has \
        processors. Where there are two, 1 is cheaper for messages under load and dearer for few, and more people at once wait \
        longer."),
    Field::choice("log.format", &["pretty", "json"], "How a line looks: for people, or one JSON object."),
    Field::text("log.levels", "info,async_nats=warn,fjall=warn,lsm_tree=warn,redis=error", "What to log, such as info or info,tertulia_store=debug.")
        .checked(telemetry::check_levels),
    Field::number("live.heartbeat_ms", 25_000, 1_000..=300_000, "How often a session hears where its chats \
        end. A lost message shows after this time at the latest."),
    Field::number("live.hello_timeout_ms", 10_000, 100..=120_000, "How long the first frame may take."),
    Field::number("live.read_timeout_ms", 10_000, 100..=120_000, "How long a session waits for the store: at \
        its beginning it is asked to come back then, and a heartbeat goes out without the ends of chats."),
    Field::number("live.frame_bytes_max", 65_536, 4_096..=16_777_216, "The largest frame that is read."),
    Field::number("live.outbound_frames_max", 1_024, 16..=65_536, "How many frames wait for a slow reader \
        before they are dropped and it is told to catch up."),
    Field::number("live.outbound_bytes_max", 1_048_576, 65_536..=268_435_456, "How many bytes wait for a \
        slow reader."),
    Field::number("live.turn_sessions_max", 32, 1..=1_000_000, "How many sessions are woken at once for an event \
        of a large chat, before everybody else has a turn."),
    Field::number("live.turn_every_ms", 50, 0..=1_000, "How often at most a session is woken for what large chats \
        hear. What comes meanwhile is written in one go, which is most of the cost of a busy chat; 0: at once."),
    Field::number("live.calls_in_flight_max", 16, 1..=1_024, "How many calls of one session are under way \
        at once; more wait unread."),
    Field::number("live.sessions_per_user_max", 50, 1..=10_000, "How many sessions one user may have on \
        this node."),
    Field::number("live.sessions_max", 200_000, 1..=10_000_000, "How many sessions this node takes."),
    Field::number("http.body_bytes_max", 1_048_576, 4_096..=268_435_456, "The largest body of a request."),
    Field::number("http.header_timeout_ms", 10_000, 100..=120_000, "How long a client may take to send the \
        head of a request."),
    Field::number("http.call_timeout_ms", 10_000, 100..=300_000, "How long a call may take when the caller \
        gives it no shorter time."),
    Field::number("identity.access_token_minutes", 10, 1..=10, "How long an access token is valid."),
    Field::number("identity.refresh_token_days", 30, 1..=3_650, "How long a login lasts that nobody uses."),
    Field::number("identity.refresh_overlap_s", 20, 0..=300, "How long a refresh token can be used again, \
        for a client that lost the answer."),
    Field::number("identity.argon2_memory_kib", 19_456, 8_192..=4_194_304, "The memory of one password \
        hash."),
    Field::number("identity.argon2_passes", 2, 1..=100, "The passes of one password hash."),
    Field::number("identity.hashes_at_once", 2, 1..=1_024, "How many passwords are hashed at once; each \
        takes a thread and its memory."),
    Field::number("identity.hash_queue_max", 64, 1..=65_536, "How many wait to be hashed; more are told to \
        come later."),
    Field::secret("identity.pepper", "Goes into every password hash and is not in the database; at least \
        16 characters. Unset, one is made and kept in the data folder. No password of before is valid \
        after a change.")
        .checked(pepper),
    Field::switch("limits.enabled", true, "Whether callers have budgets of calls. The limit of attempts at \
        a password stays."),
    Field::number("limits.address_burst", 1_000, 1..=10_000_000, "How many tokens an address may spend at \
        once, without a login."),
    Field::number("limits.address_per_second", 500, 1..=10_000_000, "How many tokens an address gets a \
        second."),
    Field::number("limits.login_burst", 400, 1..=10_000_000, "How many tokens a login may spend at once."),
    Field::number("limits.login_per_second", 200, 1..=10_000_000, "How many tokens a login gets a second."),
    Field::number("limits.account_attempts_per_minute", 10, 1..=10_000, "How often the password of an \
        account may be tried a minute."),
    Field::number("chats.group_members_max", 1_000, 2..=10_000, "How many members a group may have. Every one \
        of them hears everything as it happens."),
    Field::number("chats.channel_members_max", 100_000, 2..=1_000_000, "How many members a channel may have."),
    Field::number("chats.receipts_members_max", 50, 0..=1_000, "In groups of up to so many members everybody \
        sees how far each has read; in larger ones it is counted."),
    Field::number("chats.delta_events_max", 1_000, 1..=10_000, "How many events that a device missed are told \
        one by one; when there are more it is told where its chats end, and reads what it shows."),
    Field::number("chats.due_interval_ms", 1_000, 100..=60_000, "How often the server looks for messages that \
        disappear and messages that were scheduled. They are late by this time at most."),
    Field::number("presence.members_max", 50, 0..=200, "In direct chats and groups of up to so many members everybody \
        sees who is there, of those who share it. With 0 nobody sees anything."),
    Field::number("presence.lease_ms", 20_000, 1_000..=300_000, "How long a node is believed to be there that is not \
        heard of. After that time its users are offline, as far as Redis says so. All nodes have the same."),
    Field::number("presence.grace_ms", 10_000, 0..=300_000, "How long after the last session has ended others are told \
        that somebody has gone. Who is back by then was never gone."),
    Field::secret("store.url", "The PostgreSQL database that keeps everything, such as \
        postgres://tertulia:password@db.example.org/tertulia?sslmode=verify-full. Unset, everything is kept \
        in the data folder.")
        .checked(database),
    Field::number("store.lanes", 2, 1..=64, "How many transactions write chats to PostgreSQL at once."),
    Field::number("store.readers", 8, 1..=1_000, "How many connections read chats from PostgreSQL."),
    Field::switch("store.standby_has_all", false, "Whether a PostgreSQL that takes over from another one has \
        everything that was acknowledged, as with synchronous_standby_names. Otherwise clients read anew what they \
        hold when that happens, for some of it may be gone."),
    Field::number("store.commit_batch_max", 1_024, 1..=65_536, "How many writes are synced together."),
    Field::number("store.commit_bytes_max", 4_194_304, 65_536..=268_435_456, "How many bytes are synced \
        together, in the data folder."),
    Field::number("store.commit_queue_max", 8_192, 1..=1_048_576, "How many writes wait to be synced; more \
        are told to come later."),
    Field::number("store.cache_mib", 128, 8..=1_048_576, "The memory for what is read often."),
    Field::secret("bus.url", "The NATS servers that carry to each node what happens on others, such as \
        nats://user:password@a.example.org:4222,nats://b.example.org, or tls://… ; unset, the node is alone. When \
        they are away nothing is lost: what happens elsewhere comes with heartbeats.")
        .checked(bus_url),
    Field::text("bus.prefix", "tertulia", "What the subjects on NATS begin with. All nodes of a deployment have \
        the same, and each deployment on a NATS server another.")
        .checked(bus_prefix),
    Field::secret("bus.node_key", "What nodes show each other that they are nodes, and what services and operators \
        show that they may control sessions; the same on all nodes, at least 32 characters. With it a node answers calls \
        of others over NATS, on behalf of whom they say. Unset, it answers none, and who controls its sessions shows \
        the file node.key of its data folder.")
        .checked(node_key),
    Field::number("bus.calls_max", 256, 1..=65_536, "How many calls of other nodes are under way at once; more are \
        refused."),
    Field::secret("redis.url", "The Redis in which nodes share what callers have spent of their budgets and who is there, such as \
        redis://user:password@cache.example.org:6379/0, redis+cluster://a.example.org,b.example.org or \
        redis+sentinel://a.example.org,b.example.org/main; rediss in place of redis for TLS. Unset, or when it is \
        away, each node counts alone, and nodes know who is there from each other.")
        .checked(redis_url),
    Field::text("redis.prefix", "tertulia", "What the keys in Redis begin with. All nodes of a deployment have the \
        same, and each deployment on a Redis another.")
        .checked(redis_prefix),
    Field::number("redis.answer_timeout_ms", 100, 1..=10_000, "How long Redis may take to answer. Who signs in, or asks who is there, may \
        wait for it; then the node decides alone."),
    Field::number("redis.cache_ms", 60_000, 0..=86_400_000, "For how long a profile that was read is kept in Redis for \
        all nodes. A change is seen by all at once, or after this time when the node that made it could not tell \
        Redis. 0: nothing is kept there."),
    Field::switch("feed.enabled", false, "Whether what is committed is kept in one order for consumers, such as \
        `tertulia feed follow`. The same on all nodes: what one commits that keeps none is a gap."),
    Field::number("feed.keep_hours", 168, 1..=87_600, "For how many hours it is kept for consumers that are behind. Who \
        is further behind is told so, and has to begin anew."),
    Field::number("feed.keep_commits_max", 10_000_000, 1_000..=10_000_000_000, "For how many commits it is kept; of several messages \
        that come at once many go into one. A commit takes about 50 bytes, and 11 more for each further event."),
    Field::switch("feed.jetstream", false, "Whether a worker brings the feed into a stream of JetStream as well, on the \
        servers of bus.url, for consumers that read it there."),
    Field::number("feed.jetstream_replicas", 3, 1..=5, "On how many servers of NATS each record of that stream is, when \
        it is made."),
    Field::number("drain.grace_ms", 10_000, 0..=600_000, "How long open calls and sessions have to end when \
        the server stops."),
    Field::number("drain.spread_ms", 5_000, 0..=600_000, "Over how long the clients of a stopping server \
        are asked to spread their return."),
    Field::list("metrics.listen", "Where /metrics is read in the form of Prometheus, such as 127.0.0.1:9090. \
        Whoever can connect there reads it; with none, nobody does.")
        .checked(socket_address),
];

/// The tree.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub data: PathBuf,
    pub listen: SocketAddr,
    pub public_origins: Vec<String>,
    pub trusted_proxies: Vec<Net>,
    pub roles: Roles,
    pub elsewhere: Vec<HandedOn>,
    pub threads: usize,
    pub log: telemetry::Options,
    pub live: Live,
    pub http: Http,
    pub identity: Identity,
    pub limits: Limits,
    pub chats: Chats,
    pub presence: Presence,
    pub store: Store,
    pub bus: Bus,
    pub redis: Redis,
    pub feed: Feed,
    pub drain: Drain,
    pub metrics: Metrics,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    pub heartbeat_ms: u64,
    pub hello_timeout_ms: u64,
    pub read_timeout_ms: u64,
    pub frame_bytes_max: usize,
    pub outbound_frames_max: usize,
    pub outbound_bytes_max: usize,
    pub turn_sessions_max: usize,
    pub turn_every_ms: u64,
    pub calls_in_flight_max: usize,
    pub sessions_per_user_max: usize,
    pub sessions_max: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub body_bytes_max: usize,
    pub header_timeout_ms: u64,
    pub call_timeout_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub access_token_minutes: u32,
    pub refresh_token_days: u32,
    pub refresh_overlap_s: u32,
    pub argon2_memory_kib: u32,
    pub argon2_passes: u32,
    pub hashes_at_once: usize,
    pub hash_queue_max: usize,
    pub pepper: Option<Secret>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub enabled: bool,
    pub address_burst: u32,
    pub address_per_second: u32,
    pub login_burst: u32,
    pub login_per_second: u32,
    pub account_attempts_per_minute: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chats {
    pub group_members_max: u32,
    pub channel_members_max: u32,
    pub receipts_members_max: u32,
    pub delta_events_max: u32,
    pub due_interval_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    pub members_max: usize,
    pub lease_ms: u64,
    pub grace_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub url: Option<Secret>,
    pub lanes: usize,
    pub readers: usize,
    pub standby_has_all: bool,
    pub commit_batch_max: usize,
    pub commit_bytes_max: usize,
    pub commit_queue_max: usize,
    pub cache_mib: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    pub url: Option<Secret>,
    pub prefix: String,
    pub node_key: Option<Secret>,
    pub calls_max: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    pub url: Option<Secret>,
    pub prefix: String,
    pub answer_timeout_ms: u64,
    pub cache_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    pub enabled: bool,
    pub keep_hours: u32,
    pub keep_commits_max: u64,
    pub jetstream: bool,
    pub jetstream_replicas: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    pub grace_ms: u64,
    pub spread_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    pub listen: Vec<SocketAddr>,
}

/// Fills the tree from the file, the environment of this process and the flags.
///
/// # Errors
/// With every problem at once.
pub fn load(
    file: Option<PathBuf>,
    flags: Vec<(String, String)>,
) -> Result<Loaded<Config>, Problems> {
    tertulia_kit::config::load(&SCHEMA, Sources::of_process(file, flags))
}

impl Config {
    /// How many threads serve sessions and calls on a machine with so many processors.
    pub fn threads_on(&self, processors: usize) -> usize {
        match self.threads {
            0 => processors,
            set => set,
        }
    }
}

impl Live {
    /// The bounds of sessions. How clients return after a stop is said with how the server stops.
    pub fn options(&self, drain_spread: Duration) -> live::Options {
        live::Options {
            heartbeat: Duration::from_millis(self.heartbeat_ms),
            hello_timeout: Duration::from_millis(self.hello_timeout_ms),
            read_timeout: Duration::from_millis(self.read_timeout_ms),
            frame_bytes_max: self.frame_bytes_max,
            outbound_frames_max: self.outbound_frames_max,
            outbound_bytes_max: self.outbound_bytes_max,
            turn_sessions_max: self.turn_sessions_max,
            turn_every: Duration::from_millis(self.turn_every_ms),
            calls_in_flight_max: self.calls_in_flight_max,
            sessions_per_user_max: self.sessions_per_user_max,
            sessions_max: self.sessions_max,
            drain_spread,
        }
    }
}

impl Presence {
    /// How long a node is believed to be there.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// The bounds of presence, on a node that is alone or not.
    pub fn options(&self, is_alone: bool) -> presence::Options {
        presence::Options {
            members_max: self.members_max,
            lease: self.lease(),
            grace: Duration::from_millis(self.grace_ms),
            is_alone,
        }
    }
}

impl Http {
    pub fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }
}

impl Identity {
    pub fn access_token(&self) -> Duration {
        Duration::from_secs(u64::from(self.access_token_minutes) * 60)
    }

    pub fn refresh_token(&self) -> Duration {
        Duration::from_secs(u64::from(self.refresh_token_days) * 24 * 60 * 60)
    }

    pub fn refresh_overlap(&self) -> Duration {
        Duration::from_secs(u64::from(self.refresh_overlap_s))
    }
}

impl Limits {
    /// The budget of each login, unless budgets are off.
    pub fn login(&self) -> Option<Rate> {
        self.enabled
            .then(|| Rate::per_second(self.login_per_second, self.login_burst))
    }

    /// The budget of each address, unless budgets are off.
    pub fn address(&self) -> Option<Rate> {
        self.enabled
            .then(|| Rate::per_second(self.address_per_second, self.address_burst))
    }

    /// The attempts at the password of each account. Never off: it is what stands against guessing.
    pub fn account(&self) -> Rate {
        let attempts = self.account_attempts_per_minute;
        Rate::per_minute(attempts, attempts)
    }
}

impl Chats {
    /// How large chats may be.
    pub fn limits(&self) -> chats::Limits {
        chats::Limits {
            group_members_max: self.group_members_max,
            channel_members_max: self.channel_members_max,
            receipts_members_max: self.receipts_members_max,
            delta_events_max: self.delta_events_max,
        }
    }

    pub fn due_interval(&self) -> Duration {
        Duration::from_millis(self.due_interval_ms)
    }
}

impl Store {
    /// How logs are kept in the data folder, with a feed of them or without.
    pub fn embedded(&self, is_fed: bool) -> fjall::Options {
        fjall::Options {
            commit_batch_max: self.commit_batch_max,
            commit_bytes_max: self.commit_bytes_max,
            commit_queue_max: self.commit_queue_max,
            cache_mib: self.cache_mib as u64,
            feed: is_fed,
            ..fjall::Options::default()
        }
    }

    /// How logs are kept in PostgreSQL, with a feed of them or without.
    pub fn postgres(&self, is_fed: bool) -> postgres::Options {
        postgres::Options {
            lanes: self.lanes,
            readers: self.readers,
            commit_batch_max: self.commit_batch_max,
            commit_queue_max: self.commit_queue_max,
            cache_mib: self.cache_mib as u64,
            feed: is_fed,
            standby_has_all: self.standby_has_all,
        }
    }
}

impl Bus {
    /// Where NATS is; nothing when the node is alone.
    ///
    /// # Errors
    /// When the texts were not checked as those of the table are.
    pub fn nats(&self) -> anyhow::Result<Option<nats::Options>> {
        let Some(address) = self.address()? else {
            return Ok(None);
        };
        Ok(Some(nats::Options::new(address, self.prefix.parse()?)))
    }

    /// The stream of JetStream into which the feed is brought; nothing when there is none.
    ///
    /// # Errors
    /// When the texts were not checked as those of the table are, or there is no NATS.
    pub fn stream(&self, feed: &Feed) -> anyhow::Result<Option<jetstream::Options>> {
        if !(feed.enabled && feed.jetstream) {
            return Ok(None);
        }
        let address = self.address()?;
        let address = address.context("feed.jetstream wants bus.url; set it, or leave it off")?;
        Ok(Some(jetstream::Options {
            address,
            prefix: self.prefix.parse()?,
            replicas: feed.jetstream_replicas,
            keep: feed.keep(),
        }))
    }

    /// Where that stream is read.
    ///
    /// # Errors
    /// When the texts were not checked as those of the table are, or there is no NATS.
    pub fn reading(&self) -> anyhow::Result<consumer::Options> {
        let address = self.address()?;
        let address = address.context(
            "the stream is on the servers of bus.url, which is not set; name the configuration \
            of a server with --config",
        )?;
        Ok(consumer::Options::new(address, self.prefix.parse()?))
    }

    /// How calls of other nodes are taken; nothing when none are.
    ///
    /// # Errors
    /// When the texts were not checked as those of the table are.
    pub fn calls(&self) -> anyhow::Result<Option<calls::Options>> {
        let (Some(address), Some(key)) = (self.address()?, self.node_key()?) else {
            return Ok(None);
        };
        Ok(Some(calls::Options {
            address,
            prefix: self.prefix.parse()?,
            key,
            calls_max: self.calls_max,
        }))
    }

    /// What shows that somebody may act as a node; nothing when none is configured.
    ///
    /// # Errors
    /// When it was not checked as that of the table is.
    pub fn node_key(&self) -> anyhow::Result<Option<NodeKey>> {
        let key = self.node_key.clone().map(NodeKey::new);
        key.transpose().context("bus.node_key")
    }

    fn address(&self) -> anyhow::Result<Option<nats::Address>> {
        let url = self.url.as_ref();
        let text = url.map(|url| std::str::from_utf8(url.expose()));
        Ok(text.transpose()?.map(str::parse).transpose()?)
    }
}

impl Redis {
    /// Where it is; nothing when each node counts alone.
    ///
    /// # Errors
    /// When the texts were not checked as those of the table are.
    pub fn options(&self) -> anyhow::Result<Option<redis::Options>> {
        let Some(url) = &self.url else {
            return Ok(None);
        };
        let address = std::str::from_utf8(url.expose())?.parse()?;
        let usual = redis::Options::new(address, self.prefix.parse()?);
        let answer_max = Duration::from_millis(self.answer_timeout_ms);
        Ok(Some(redis::Options {
            answer_max,
            // Who is waited for is not dead.
            silence_max: usual.silence_max.max(answer_max),
            ..usual
        }))
    }

    /// For how long what was read is kept there; nothing when it is not.
    pub fn cache_kept(&self) -> Option<Duration> {
        (self.cache_ms > 0).then(|| Duration::from_millis(self.cache_ms))
    }
}

impl Feed {
    /// For how long it is kept.
    pub fn keep(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_hours) * 3_600)
    }

    /// How much is kept for consumers.
    pub fn options(&self) -> feed::Options {
        feed::Options {
            keep: self.keep(),
            keep_commits_max: self.keep_commits_max,
        }
    }
}

impl Drain {
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }

    pub fn spread(&self) -> Duration {
        Duration::from_millis(self.spread_ms)
    }
}

fn socket_address(text: &str) -> Result<(), String> {
    let parsed: Result<SocketAddr, _> = text.parse();
    parsed.map(drop).map_err(|_| {
        format!("wants an address and a port such as 127.0.0.1:8080 or [::]:8080, not {text:?}")
    })
}

/// An origin as a browser writes it, so that it can be compared letter by letter.
fn origin(text: &str) -> Result<(), String> {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b);
    match host {
        Some(host) if !host.is_empty() && host.bytes().all(plain) => Ok(()),
        _ => Err(format!(
            "wants origins such as https://chat.example.org, in lower case and without a path, not {text:?}"
        )),
    }
}

fn role(text: &str) -> Result<(), String> {
    text.parse::<Role>().map(drop)
}

fn service(text: &str) -> Result<(), String> {
    let parsed: Result<HandedOn, _> = text.parse();
    parsed.map(drop).map_err(|e| e.to_string())
}

fn net(text: &str) -> Result<(), String> {
    let parsed: Result<Net, _> = text.parse();
    parsed.map(drop).map_err(|e| format!("{e}, not {text:?}"))
}

/// The words do not show the password.
fn database(text: &str) -> Result<(), String> {
    text.parse::<postgres::Target>().map(drop)
}

/// The words do not show the password.
fn bus_url(text: &str) -> Result<(), String> {
    let parsed: Result<nats::Address, _> = text.parse();
    parsed.map(drop).map_err(|e| e.to_string())
}

fn bus_prefix(text: &str) -> Result<(), String> {
    let parsed: Result<nats::Prefix, _> = text.parse();
    parsed.map(drop).map_err(|e| format!("{e}, not {text:?}"))
}

/// The words do not show the password.
fn redis_url(text: &str) -> Result<(), String> {
    let parsed: Result<redis::Address, _> = text.parse();
    parsed.map(drop).map_err(|e| e.to_string())
}

fn redis_prefix(text: &str) -> Result<(), String> {
    let parsed: Result<redis::Prefix, _> = text.parse();
    parsed.map(drop).map_err(|e| format!("{e}, not {text:?}"))
}

/// The words do not show the key.
fn node_key(text: &str) -> Result<(), String> {
    let key = NodeKey::new(Secret::new(text));
    key.map(drop).map_err(|e| e.to_string())
}

/// The words do not show the pepper.
fn pepper(text: &str) -> Result<(), String> {
    if text.len() < 16 {
        Err("is shorter than 16 characters".into())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tertulia_kit::config::{self, show, template};

    use super::*;

    fn load_flags(flags: &[(&str, &str)]) -> Result<Loaded<Config>, Problems> {
        load_all(flags, &[])
    }

    #[test]
    fn there_are_as_many_threads_as_processors_unless_it_is_said() {
        let threads = |flags: &[_]| load_flags(flags).unwrap().value.threads_on(8);
        assert_eq!(threads(&[]), 8);
        assert_eq!(threads(&[("threads", "3")]), 3);
    }

    /// With secrets, which are no flags.
    fn load_all(
        flags: &[(&str, &str)],
        secrets: &[(&str, &str)],
    ) -> Result<Loaded<Config>, Problems> {
        let env = secrets.iter().map(|(path, value)| {
            let name = SCHEMA.env_name(SCHEMA.field(path).unwrap());
            (name.into(), (*value).into())
        });
        let flags = flags
            .iter()
            .map(|(p, v)| ((*p).to_owned(), (*v).to_owned()))
            .collect();
        config::load(
            &SCHEMA,
            Sources {
                env: env.collect(),
                flags,
                ..Sources::default()
            },
        )
    }

    #[test]
    fn the_defaults_fill_the_whole_tree() {
        let config = load_flags(&[]).unwrap().value;
        assert_eq!(config.data, PathBuf::from("data"));
        assert_eq!(
            config.live.options(config.drain.spread()).heartbeat,
            Duration::from_secs(25)
        );
        assert_eq!(config.limits.login(), Some(Rate::per_second(200, 400)));
        assert_eq!(config.chats.limits(), chats::Limits::default());
        assert!(config.identity.pepper.is_none());
    }

    #[test]
    fn every_number_of_the_table_fits_the_tree_at_both_of_its_bounds() {
        for field in SCHEMA.fields {
            if let config::Shape::Number { min, max } = field.shape {
                for bound in [min, max] {
                    let loaded = load_flags(&[(field.path, &bound.to_string())]);
                    assert!(loaded.is_ok(), "{} = {bound}", field.path);
                }
            }
        }
    }

    #[test]
    fn the_template_is_a_file_that_changes_nothing() {
        let sections = |text: &str| text.lines().filter(|l| l.starts_with('[')).count();
        let text = template(&SCHEMA);
        assert_eq!(
            sections(&text),
            SCHEMA.sections.len(),
            "every section stands there once"
        );
        assert!(
            text.lines()
                .all(|l| l.is_empty() || l.starts_with(['#', '[']))
        );
        let shown = show(&load_flags(&[]).unwrap(), false);
        for line in shown.lines().filter(|l| l.contains(" = ")) {
            assert!(text.contains(&format!("# {line}\n")), "{line}");
        }
    }

    #[test]
    fn without_budgets_the_attempts_at_a_password_are_still_limited() {
        let config = load_flags(&[("limits.enabled", "false")]).unwrap().value;
        assert_eq!(
            (config.limits.login(), config.limits.address()),
            (None, None)
        );
        assert_eq!(config.limits.account(), Rate::per_minute(10, 10));
    }

    #[test]
    fn what_can_not_work_is_told_before_the_start() {
        let flags = [
            ("listen", "localhost"),
            ("public_origins", "https://chat.example.org/path"),
            ("trusted_proxies", "10.0.0.0/8,proxy"),
            ("log.levels", "tertulia=loud"),
            ("identity.argon2_passes", "0"),
            ("bus.prefix", "a b"),
            ("redis.prefix", "a b"),
        ];
        let secrets = [
            ("bus.url", "http://who:hunter2@nats.example.org"),
            ("store.url", "mysql://ana:hunter2@example.org/chat"),
            ("bus.node_key", "hunter2"),
            ("redis.url", "redis://hunter2@cache.example.org"),
        ];
        let problems = load_all(&flags, &secrets).unwrap_err();
        assert_eq!(problems.0.len(), 11);
        let words = problems.to_string();
        assert!(words.contains("wants servers such as"), "{words}");
        assert!(words.contains("is shorter than 32"), "{words}");
        assert!(!words.contains("hunter2"), "{words}");
    }

    #[test]
    fn a_node_is_alone_unless_it_is_told_where_nats_is() {
        let bus = |secrets: &[(&str, &str)]| load_all(&[], secrets).unwrap().value.bus;
        let url = (
            "bus.url",
            "nats://who:hunter2@a.example.org:4222,nats://b.example.org",
        );
        let key = ("bus.node_key", "hunter2 hunter2 hunter2 hunter2 hunter2");
        for (secrets, is_linked, is_called) in [
            (&[][..], false, false),
            (&[key], false, false),
            (&[url], true, false),
            (&[url, key], true, true),
        ] {
            let told = bus(secrets);
            let (nats, calls) = (told.nats().unwrap(), told.calls().unwrap());
            assert_eq!((nats.is_some(), calls.is_some()), (is_linked, is_called));
            let shown = format!("{told:?} {nats:?} {calls:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn each_node_counts_alone_unless_it_is_told_where_redis_is() {
        let redis = |secrets: &[(&str, &str)]| load_all(&[], secrets).unwrap().value.redis;
        assert!(redis(&[]).options().unwrap().is_none());
        let told = redis(&[("redis.url", "rediss://who:hunter2@cache.example.org/1")]);
        let options = told.options().unwrap().unwrap();
        let shown = format!("{told:?} {options:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
