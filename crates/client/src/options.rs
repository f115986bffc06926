//! The bounds of a client, each with its unit.

use std::time::Duration;

/// The bounds of a client.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name that the person sees in the list of logins.
    pub device_name: String,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// How long a connection may take to be opened and welcomed.
    pub connect_timeout: Duration,
    /// The first wait before connecting again; each further one may be twice as long.
    pub backoff_min: Duration,
    /// The longest wait before connecting again.
    pub backoff_max: Duration,
    /// How long a hole may be filled by what is still on its way before it is asked for.
    pub hole_patience: Duration,
    /// The largest hole that is filled event by event. Behind a larger one only the newest events are
    /// fetched; the rest is history.
    pub hole_events_max: i64,
    /// How many of the newest events of a chat are fetched when the client begins anew.
    pub fresh_events: i64,
    /// How many events of a chat are kept in memory.
    pub memory_events_max: usize,
    /// How many messages may wait to be confirmed; more are refused.
    pub outbox_max: usize,
    /// How many messages may be on their way at once, one of each chat.
    pub sending_max: usize,
    /// How many holes are filled at once.
    pub repairs_max: usize,
    /// The shortest time between two reports of what has reached this device.
    pub delivered_pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            device_name: String::new(),
            call_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(15),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            hole_patience: Duration::from_millis(150),
            hole_events_max: 1_000,
            fresh_events: 1,
            memory_events_max: 10_000,
            outbox_max: 10_000,
            sending_max: 32,
            repairs_max: 4,
            delivered_pause: Duration::from_secs(1),
        }
    }
}
