//! One end of a pair: it writes when it is time, and hears both.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use buffa::MessageView as _;
use tertulia_proto::live::connect_response::FrameView as Inbound;
use tertulia_proto::live::{Alive, CatchUp, ConnectResponseView};
use tokio::time::{Instant, Sleep};

use super::ledger::{Ledger, Pending};
use crate::load::measure::{Pace, Run};
use crate::load::socket::{Socket, Turn};
use crate::load::template::Template;

/// How long the last messages may take.
pub const DRAIN: Duration = Duration::from_secs(15);
/// How often an end that waits looks whether the other has finished.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// A timer rings up to this late of itself. A message that was written later than that was late because the
/// server or the machine was slow, and its time counts from when it was due.
const TIMER_BLUR: Duration = Duration::from_millis(2);

/// What one end lets the other know.
#[derive(Default)]
pub struct Side {
    sent: Cell<u64>,
    finished: Cell<bool>,
}

/// One end of a pair.
pub struct End {
    pub socket: Socket,
    pub run: Rc<Run>,
    pub sides: Rc<[Side; 2]>,
    pub me: usize,
    pub user_id: i64,
    pub template: Template,
    /// How many messages are unanswered at most.
    pub in_flight: usize,
    pub chat_id: i64,
    /// The newest that the server gave.
    pub cursor: Vec<u8>,
    pub last_seq: i64,
    /// Messages of which the answer or the event has not come, oldest first.
    pub pending: VecDeque<Pending>,
    pub first_pending: u64,
    pub unanswered: usize,
    pub next_from_other: u64,
    pub pace: Option<Pace>,
    pub stop: Instant,
}

impl End {
    /// Writes until it is time to stop, and hears the rest.
    pub async fn talk(mut self) -> Result<()> {
        let alarm = tokio::time::sleep_until(self.stop);
        tokio::pin!(alarm);
        self.write_until_stop(alarm.as_mut()).await?;
        self.sides[self.me].finished.set(true);
        self.hear_the_rest(alarm).await?;
        self.socket.close().await;
        Ok(())
    }

    async fn write_until_stop(&mut self, mut alarm: Pin<&mut Sleep>) -> Result<()> {
        loop {
            let now = Instant::now();
            if now >= self.stop {
                return Ok(());
            }
            self.write(now);
            let due = match &self.pace {
                // With a full window there is nothing to wake for but an answer.
                Some(pace) if self.unanswered < self.in_flight => pace.next.min(self.stop),
                _ => self.stop,
            };
            if alarm.deadline() != due {
                alarm.as_mut().reset(due);
            }
            if self.socket.turn(Some(alarm.as_mut())).await? == Turn::Heard {
                self.hear()?;
            }
        }
    }

    /// Writes whatever is due and fits.
    fn write(&mut self, now: Instant) {
        while self.unanswered < self.in_flight {
            let due = match &mut self.pace {
                None => now,
                Some(pace) if pace.next > now => return,
                Some(pace) => {
                    let due = pace.next;
                    pace.next += pace.interval;
                    if now - due < TIMER_BLUR { now } else { due }
                }
            };
            let n = self.first_pending + self.pending.len() as u64;
            let due = self.run.stamp(due);
            self.socket.send_encoded(self.template.message(n, due));
            self.pending.push_back(Pending {
                due,
                acked_seq: None,
                event_seq: None,
            });
            self.unanswered += 1;
            self.run.sent.set(self.run.sent.get() + 1);
            self.sides[self.me].sent.set(n + 1);
        }
    }

    /// Hears until all of one's own and all of the other's messages have come, or it has taken too long.
    async fn hear_the_rest(&mut self, mut alarm: Pin<&mut Sleep>) -> Result<()> {
        let give_up = Instant::now() + DRAIN;
        let other = 1 - self.me;
        loop {
            let theirs = self.sides[other].sent.get();
            let all = self.pending.is_empty()
                && self.sides[other].finished.get()
                && self.next_from_other >= theirs;
            if all {
                return Ok(());
            }
            let now = Instant::now();
            if now >= give_up {
                let own = self
                    .pending
                    .iter()
                    .filter(|p| p.event_seq.is_none())
                    .count() as u64;
                let unanswered = self.unanswered as u64;
                self.run.violated(|v| {
                    v.missing += own + theirs.saturating_sub(self.next_from_other);
                    v.unanswered += unanswered;
                });
                return Ok(());
            }
            alarm.as_mut().reset(now + DRAIN_LOOK);
            if self.socket.turn(Some(alarm.as_mut())).await? == Turn::Heard {
                self.hear()?;
            }
        }
    }

    fn hear(&mut self) -> Result<()> {
        // One look at the clock for all that came together.
        let now = Instant::now();
        let End {
            socket,
            run,
            chat_id,
            cursor,
            last_seq,
            pending,
            first_pending,
            unanswered,
            next_from_other,
            user_id,
            ..
        } = self;
        let mut ledger = Ledger {
            run,
            user_id: *user_id,
            chat_id: *chat_id,
            last_seq,
            pending,
            first_pending,
            unanswered,
            next_from_other,
            now,
        };
        socket.each(|payload, answers| {
            match ConnectResponseView::decode_view(payload)?.frame {
                Some(Inbound::Reply(reply)) => ledger.reply(&reply)?,
                Some(Inbound::ChatEvent(news)) => ledger.event(&news.event, false),
                Some(Inbound::Heartbeat(beat)) => {
                    *cursor = beat.cursor.to_vec();
                    answers.push(Alive::default().into());
                }
                Some(Inbound::Behind(_)) => {
                    ledger.run.behind.set(ledger.run.behind.get() + 1);
                    answers.push(
                        CatchUp {
                            cursor: cursor.clone(),
                            ..Default::default()
                        }
                        .into(),
                    );
                }
                Some(Inbound::CaughtUp(caught_up)) => {
                    *cursor = caught_up.missed.cursor.to_vec();
                    ledger.caught_up(&caught_up.missed);
                }
                Some(Inbound::Goodbye(goodbye)) => {
                    bail!("goodbye {}: {}", goodbye.code, goodbye.reason)
                }
                _ => {}
            }
            Ok(())
        })
    }
}
