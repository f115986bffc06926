//! What was measured, in one place: each figure with the command that measures it, and what is not known.
//!
//! All of it comes from `docs/performance.md`: two cores, server and load together, on one machine. When a figure
//! there changes, it changes here.

use serde::Serialize;

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// Its name in the formulas.
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    /// What it is of.
    pub about: &'static str,
    #[serde(flatten)]
    pub known: Known,
}

/// How a figure is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// By this command.
    Measured(&'static str),
    /// It is not, and this is why the value is taken all the same.
    Assumed(&'static str),
}

use Known::{Assumed, Measured};

/// What was looked at after 46,016 messages of 128 bytes of `tertulia load direct`.
const SIZES: &str = "pg_total_relation_size after tertulia load direct, divided by the messages";

/// One message, acknowledged and heard by the other one.
pub const MESSAGE_CPU: Figure = Figure {
    name: "message_cpu",
    value: 192.0,
    unit: "µs",
    about: "a node's CPU for a message that is stored and heard by two sessions, when it comes alone",
    known: Measured("make bench ARGS='--only direct' (paced at 1,000/s)"),
};

/// The same when there is much to share a commit and a wake-up with.
pub const BUSY_MESSAGE_CPU: Figure = Figure {
    name: "busy_message_cpu",
    value: 17.8,
    unit: "µs",
    about: "the same when 400 senders never pause",
    known: Measured("make bench ARGS='--only direct' (1 in flight)"),
};

/// Each further session that hears a message.
pub const DELIVERY_CPU: Figure = Figure {
    name: "delivery_cpu",
    value: 15.2,
    unit: "µs",
    about: "a node's CPU for each further session that hears a message",
    known: Measured("make bench ARGS='--only group' (100 members, 10 messages/s)"),
};

/// A session that does nothing.
pub const SESSION_CPU: Figure = Figure {
    name: "session_cpu",
    value: 3.53,
    unit: "µs/s",
    about: "a node's CPU for a session at rest, with a heartbeat each 25 s",
    known: Measured("make bench ARGS='--only idle' (6.88 % of a core for 19,500)"),
};

/// A session in the node's memory.
pub const SESSION_MEMORY: Figure = Figure {
    name: "session_memory",
    value: 5.14,
    unit: "KB",
    about: "a node's memory for a session at rest",
    known: Measured("make bench ARGS='--only idle' (10,000 sessions, all counted)"),
};

/// Its socket in the kernel's.
pub const SOCKET_MEMORY: Figure = Figure {
    name: "socket_memory",
    value: 4.83,
    unit: "KB",
    about: "the kernel's memory for one end of a connection",
    known: Measured("make bench ARGS='--only idle' (half of both ends)"),
};

/// A node that works.
pub const NODE_MEMORY: Figure = Figure {
    name: "node_memory",
    value: 289.0,
    unit: "MiB",
    about: "a node's memory at work, beside its sessions",
    known: Measured("tertulia load grow --stages 10000,1000000,10000000"),
};

/// Somebody who comes back.
pub const RETURN_CPU: Figure = Figure {
    name: "return_cpu",
    value: 250.0,
    unit: "µs",
    about: "a node's CPU for a session that comes back and is told 100 events",
    known: Measured("make bench ARGS='--only catchup'"),
};

/// An event as it goes out.
pub const EVENT_BYTES: Figure = Figure {
    name: "event_bytes",
    value: 106.0,
    unit: "bytes",
    about: "an event on its way to a session, beside its text",
    known: Measured(
        "make bench ARGS='--only catchup' (23,410 bytes for 100 events with texts of 128)",
    ),
};

/// What carries it.
pub const PACKET_BYTES: Figure = Figure {
    name: "packet_bytes",
    value: 110.0,
    unit: "bytes",
    about: "what TCP, IP, Ethernet and TLS add to a frame that goes alone",
    known: Assumed(
        "headers of 20 + 40 + 18 bytes and a TLS record of 29, rounded up; TLS ends at a proxy",
    ),
};

/// A heartbeat as it goes out.
pub const HEARTBEAT_BYTES: Figure = Figure {
    name: "heartbeat_bytes",
    value: 102.0,
    unit: "bytes",
    about: "a heartbeat with nothing new in it, each 25 s, and as much back",
    known: Assumed("that of a welcome with nothing new in it, which has more"),
};

/// What PostgreSQL keeps to know a repeat.
pub const SEND_KEY_BYTES: Figure = Figure {
    name: "send_key_bytes",
    value: 154.0,
    unit: "bytes",
    about: "what PostgreSQL keeps of a message for 14 days at most, to know a repeat",
    known: Measured(SIZES),
};

/// What PostgreSQL keeps of a message.
pub const STORED_BYTES: Figure = Figure {
    name: "stored_bytes",
    value: 190.0,
    unit: "bytes",
    about: "what PostgreSQL keeps for a message beside its text: the event and its place in the index",
    known: Measured(SIZES),
};

/// What a database server does for a message.
pub const DATABASE_CPU: Figure = Figure {
    name: "database_cpu",
    value: 372.0,
    unit: "µs",
    about: "the database server's CPU for a message, when it comes alone",
    known: Measured("make bench-cluster (paced at 1,000/s)"),
};

/// What one database server writes.
pub const DATABASE_RATE: Figure = Figure {
    name: "database_rate",
    value: 15_000.0,
    unit: "messages/s",
    about: "what one database server takes for good",
    known: Assumed(
        "half of what it took in seconds, with a node on the same two cores (make bench-cluster)",
    ),
};

/// How many may be connected.
pub const CONNECTIONS_MAX: Figure = Figure {
    name: "connections_max",
    value: 2_000.0,
    unit: "connections",
    about: "what one database server bears without a pooler",
    known: Assumed("each is a process with some MiB"),
};

/// What one database server keeps.
pub const DATABASE_TB: Figure = Figure {
    name: "database_tb",
    value: 50.0,
    unit: "TB",
    about: "what one database server stores and still is copied and restored in days",
    known: Assumed("50 TB at 500 MB/s are 28 hours"),
};

/// What one node takes from the bus.
pub const BUS_RATE: Figure = Figure {
    name: "bus_rate",
    value: 500_000.0,
    unit: "messages/s",
    about: "what one node takes from NATS, messages of 200 bytes",
    known: Measured(
        "cargo test --release -p tertulia-kit --all-features --test nats_costs -- --ignored --nocapture",
    ),
};

/// A user of a node on the bus.
pub const SUBSCRIPTION_MEMORY: Figure = Figure {
    name: "subscription_memory",
    value: 5.1,
    unit: "KB",
    about: "a node's memory for the subscription of a user who is there",
    known: Measured(
        "cargo test --release -p tertulia-kit --all-features --test nats_costs -- --ignored --nocapture",
    ),
};

/// All of them.
pub const FIGURES: &[Figure] = &[
    MESSAGE_CPU,
    BUSY_MESSAGE_CPU,
    DELIVERY_CPU,
    SESSION_CPU,
    SESSION_MEMORY,
    SOCKET_MEMORY,
    SUBSCRIPTION_MEMORY,
    NODE_MEMORY,
    RETURN_CPU,
    EVENT_BYTES,
    PACKET_BYTES,
    HEARTBEAT_BYTES,
    STORED_BYTES,
    SEND_KEY_BYTES,
    DATABASE_CPU,
    DATABASE_RATE,
    DATABASE_TB,
    CONNECTIONS_MAX,
    BUS_RATE,
];
