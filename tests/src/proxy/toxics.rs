//! What a direction of a connection does to the bytes that pass.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A direction, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Everything that can be wrong at once. The default is a good network.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Toxics {
    /// How long each byte is on its way.
    pub latency: Duration,
    /// By how much more at most, for each read apart. The order of bytes is kept.
    pub jitter: Duration,
    /// Writes are cut into pieces.
    pub slice: Option<Slice>,
    /// So many bytes pass in a second.
    pub bytes_per_second: Option<u64>,
    /// Nothing passes and nothing is taken in; the sockets stay. What waits passes when this ends.
    pub half_open: bool,
    /// The direction stops after so many bytes.
    pub stop: Option<StopAfter>,
}

/// How writes are cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The size of a piece in bytes; a new one is drawn for each.
    pub bytes: RangeInclusive<usize>,
    /// How long to wait after each.
    pub pause: Duration,
}

/// A direction that stops in the middle of what is said.
#[derive(Debug, Clone, PartialEq)]
pub struct StopAfter {
    /// After how many bytes, counted from when the connection first sees this; drawn for each connection.
    pub bytes: RangeInclusive<u64>,
    /// What then.
    pub then: Stop,
}

/// How a direction stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It stays open and passes nothing any more, whatever the toxics become.
    HalfOpen,
    /// Both sides of the connection are reset.
    Reset,
}

impl Toxics {
    /// Bytes are late by this, and by up to as much again.
    pub fn slow(latency: Duration) -> Toxics {
        Toxics {
            latency,
            jitter: latency,
            ..Toxics::default()
        }
    }

    /// Nothing passes, and nobody is told.
    pub fn silent() -> Toxics {
        Toxics {
            half_open: true,
            ..Toxics::default()
        }
    }

    /// The connection breaks in the middle of what is said.
    pub fn breaks_after(bytes: RangeInclusive<u64>) -> Toxics {
        let then = Stop::Reset;
        Toxics {
            stop: Some(StopAfter { bytes, then }),
            ..Toxics::default()
        }
    }
}
