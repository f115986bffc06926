//! One direction of one connection: a line of bytes, each with the time at which it may leave.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::toxics::{Direction, Stop, StopAfter, Toxics};
use super::{Orders, toxics};

/// How many bytes are on their way at most. Full: nothing is read until some have left.
pub const LINE_BYTES_MAX: usize = 256 << 10;
/// How much is read at once.
const READ_BYTES: usize = 16 << 10;
/// Into how many pieces a second is cut when a bandwidth is kept.
const PIECES_PER_SECOND: u64 = 20;

pub struct Pipe {
    direction: Direction,
    orders: watch::Receiver<Orders>,
    dice: StdRng,
    toxics: Toxics,
    /// What has been read and may not leave yet.
    line: VecDeque<(Instant, Bytes)>,
    line_bytes: usize,
    /// The next piece waits for this.
    not_before: Instant,
    /// After how many further bytes what happens.
    stop: Option<(u64, Stop)>,
    stopped: bool,
}

impl Pipe {
    pub fn new(direction: Direction, orders: watch::Receiver<Orders>, dice: StdRng) -> Pipe {
        let mut pipe = Pipe {
            direction,
            orders,
            dice,
            toxics: Toxics::default(),
            line: VecDeque::new(),
            line_bytes: 0,
            not_before: Instant::now(),
            stop: None,
            stopped: false,
        };
        pipe.obey();
        pipe
    }

    /// Passes bytes on until the sender is done or one side has gone.
    pub async fn run(
        mut self,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut more = true;
        while more || !self.line.is_empty() {
            let passes = !(self.toxics.half_open || self.stopped);
            let room = more && self.line_bytes < LINE_BYTES_MAX;
            let due = self
                .line
                .front()
                .map(|(due, _)| (*due).max(self.not_before));
            let piece_max = self.piece_max();
            tokio::select! {
                // What was ordered before a byte came is true for the byte.
                biased;
                changed = self.orders.changed() => match changed {
                    Ok(()) => self.obey(),
                    Err(_) => return Err(io::ErrorKind::ConnectionReset.into()),
                },
                read = from.read(&mut buffer), if passes && room => match read? {
                    0 => more = false,
                    read => self.take_in(Bytes::copy_from_slice(&buffer[..read])),
                },
                written = leave(&self.line, due, piece_max, to), if passes && due.is_some() => {
                    self.left(written?)?;
                }
            }
        }
        to.shutdown().await
    }

    /// Takes in what the proxy was told.
    fn obey(&mut self) {
        let toxics = {
            let orders = self.orders.borrow_and_update();
            match self.direction {
                Direction::Up => orders.up.clone(),
                Direction::Down => orders.down.clone(),
            }
        };
        if toxics.stop != self.toxics.stop {
            let drawn = |StopAfter { bytes, then }| (self.dice.random_range(bytes), then);
            self.stop = toxics.stop.clone().map(drawn);
        }
        self.toxics = toxics;
    }

    fn take_in(&mut self, bytes: Bytes) {
        let jitter = self.toxics.jitter.mul_f64(self.dice.random());
        let due = Instant::now() + self.toxics.latency + jitter;
        // A late byte holds up those behind it.
        let due = self.line.back().map_or(due, |(before, _)| due.max(*before));
        self.line_bytes += bytes.len();
        self.line.push_back((due, bytes));
    }

    /// How many bytes may leave in one write.
    fn piece_max(&mut self) -> usize {
        let mut max = usize::MAX;
        if let Some(toxics::Slice { bytes, .. }) = &self.toxics.slice {
            max = max.min(self.dice.random_range(bytes.clone()));
        }
        if let Some(rate) = self.toxics.bytes_per_second {
            max = max.min(usize::try_from(rate / PIECES_PER_SECOND).unwrap_or(usize::MAX));
        }
        if let Some((left, _)) = self.stop {
            max = max.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        max.max(1)
    }

    /// Counts what has left.
    fn left(&mut self, written: usize) -> io::Result<()> {
        self.line_bytes -= written;
        if let Some((_, front)) = self.line.front_mut() {
            front.advance(written);
            if front.is_empty() {
                self.line.pop_front();
            }
        }
        let mut pause = self
            .toxics
            .slice
            .as_ref()
            .map_or(Duration::ZERO, |s| s.pause);
        if let Some(rate) = self.toxics.bytes_per_second {
            pause = pause.max(Duration::from_secs_f64(written as f64 / rate.max(1) as f64));
        }
        self.not_before = Instant::now() + pause;
        if let Some((left, then)) = &mut self.stop {
            *left = left.saturating_sub(written as u64);
            if *left == 0 {
                match then {
                    Stop::HalfOpen => self.stopped = true,
                    Stop::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
                }
            }
        }
        Ok(())
    }
}

/// Writes a piece of the first bytes once they may leave. Cancel-safe.
async fn leave(
    line: &VecDeque<(Instant, Bytes)>,
    due: Option<Instant>,
    piece_max: usize,
    to: &mut OwnedWriteHalf,
) -> io::Result<usize> {
    let (Some((_, bytes)), Some(due)) = (line.front(), due) else {
        return std::future::pending().await;
    };
    sleep_until(due).await;
    to.write(&bytes[..bytes.len().min(piece_max)]).await
}
