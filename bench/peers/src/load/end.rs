//! One end of a pair: it writes whenever fewer messages than allowed are unanswered, with a pace when one is due, and
//! checks what it hears.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::tally::Tally;
use super::text::Stamp;
use crate::wire::{Event, Seat, Wire};

/// How long the last messages may take.
pub const DRAIN: Duration = Duration::from_secs(60);

/// A timer rings up to this late of itself. A message that was written later than that counts from when it was due.
const TIMER_BLUR: Duration = Duration::from_millis(2);

/// When the next message is due.
pub struct Pace {
    next: Instant,
    interval: Duration,
}

impl Pace {
    /// The pace of one of so many seats that together write so many messages a second. They are spread over the
    /// interval, so that they do not all write at once.
    pub fn of(seat: Seat, seats: usize, rate: f64, start: Instant) -> Pace {
        let interval = Duration::from_secs_f64(seats as f64 / rate);
        Pace {
            next: start + interval.mul_f64(seat.0 as f64 / seats as f64),
            interval,
        }
    }

    /// From when on a message counts that is written now; none when none is due.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        if self.next > now {
            return None;
        }
        let due = self.next;
        self.next += self.interval;
        Some(if now - due < TIMER_BLUR { now } else { due })
    }
}

/// What one end lets the other know.
#[derive(Default)]
pub struct Side {
    sent: Cell<u64>,
    finished: Cell<bool>,
    /// Rings when the other end has finished.
    other_finished: Notify,
}

/// One end of a pair.
pub struct End<W> {
    wire: W,
    sides: Rc<[Side; 2]>,
    me: usize,
    in_flight: usize,
    pace: Option<Pace>,
    text: String,
    ledger: Ledger,
}

impl<W: Wire> End<W> {
    /// An end that will write texts of so many bytes, with so many unanswered at most; without a pace as fast as
    /// answers come.
    pub fn new(
        wire: W,
        seat: Seat,
        sides: Rc<[Side; 2]>,
        tally: Rc<Tally>,
        in_flight: usize,
        bytes: usize,
        pace: Option<Pace>,
    ) -> Self {
        End {
            wire,
            sides,
            me: seat.0 % 2,
            in_flight,
            pace,
            text: String::with_capacity(bytes),
            ledger: Ledger {
                seat,
                bytes,
                tally,
                written: 0,
                unanswered: VecDeque::new(),
                first_unanswered: 0,
                next_from_other: 0,
                left_out: BTreeSet::new(),
            },
        }
    }

    /// Writes until `stop`, and hears the rest.
    ///
    /// # Errors
    /// When the connection is gone. What is missing or wrong is no error but counted.
    pub async fn talk(mut self, stop: Instant) -> Result<()> {
        let sides = Rc::clone(&self.sides);
        let (mine, other) = (&sides[self.me], &sides[1 - self.me]);
        let (give_up, alarm) = (sleep_until(stop + DRAIN), sleep_until(stop));
        tokio::pin!(give_up, alarm);
        let mut heard = Vec::new();
        loop {
            let now = Instant::now();
            if now < stop {
                self.write(now);
                mine.sent.set(self.ledger.written);
            } else if !mine.finished.replace(true) {
                other.other_finished.notify_one();
            }
            self.wire.flush().await?;
            if mine.finished.get() && other.finished.get() && self.ledger.is_even(other.sent.get())
            {
                break;
            }
            // With a full window there is nothing to wake for but an answer.
            let next = match &self.pace {
                Some(pace) if self.ledger.waiting() < self.in_flight => pace.next.min(stop),
                _ => stop,
            };
            if alarm.deadline() != next {
                alarm.as_mut().reset(next);
            }
            tokio::select! {
                came = self.wire.next(&mut heard) => came?,
                () = &mut alarm, if now < stop => {}
                () = mine.other_finished.notified() => {}
                () = &mut give_up => break,
            }
            let now_ns = self.ledger.tally.stamp(Instant::now());
            for event in heard.drain(..) {
                self.ledger.enter(event, now_ns);
            }
        }
        self.ledger.settle(other.sent.get());
        self.wire.close().await
    }

    /// Writes whatever is due and fits.
    fn write(&mut self, now: Instant) {
        while self.ledger.waiting() < self.in_flight {
            let due = match &mut self.pace {
                Some(pace) => pace.due(now),
                None => Some(now),
            };
            let Some(due) = due else { return };
            let stamp = self.ledger.write(self.ledger.tally.stamp(due));
            stamp.write(&mut self.text);
            self.wire.send(stamp.number, &self.text);
        }
    }
}

/// What one end has written and heard, and whether that is as it must be.
struct Ledger {
    seat: Seat,
    bytes: usize,
    tally: Rc<Tally>,
    written: u64,
    /// When each was due of which no acknowledgement has come, from the oldest on; None for those between that have.
    unanswered: VecDeque<Option<u64>>,
    first_unanswered: u64,
    next_from_other: u64,
    /// Messages of the other end before which a later one came.
    left_out: BTreeSet<u64>,
}

impl Ledger {
    fn waiting(&self) -> usize {
        self.unanswered.iter().flatten().count()
    }

    fn write(&mut self, due_ns: u64) -> Stamp {
        let stamp = Stamp {
            from: self.seat.0,
            number: self.written,
            due_ns,
            bytes: self.bytes,
        };
        self.written += 1;
        self.unanswered.push_back(Some(due_ns));
        self.tally.sent();
        stamp
    }

    fn enter(&mut self, event: Event, now_ns: u64) {
        match event {
            Event::Ack(number) => self.answered(number, now_ns),
            Event::Delivery(stamp) => self.came(stamp, now_ns),
        }
    }

    fn answered(&mut self, number: u64, now_ns: u64) {
        let at = number.checked_sub(self.first_unanswered);
        let due = at.and_then(|at| self.unanswered.get_mut(at as usize)?.take());
        match due {
            Some(due_ns) => self.tally.acked(due_ns, now_ns),
            None => self.tally.violated("acknowledged without need", 1),
        }
        while self.unanswered.front().is_some_and(Option::is_none) {
            self.unanswered.pop_front();
            self.first_unanswered += 1;
        }
    }

    fn came(&mut self, stamp: Stamp, now_ns: u64) {
        if stamp.from != self.seat.other().0 || stamp.bytes != self.bytes {
            self.tally.violated("of somebody else", 1);
            return;
        }
        if stamp.number >= self.next_from_other {
            self.left_out.extend(self.next_from_other..stamp.number);
            self.next_from_other = stamp.number + 1;
        } else if self.left_out.remove(&stamp.number) {
            self.tally.violated("out of order", 1);
        } else {
            self.tally.violated("repeated", 1);
            return;
        }
        self.tally.delivered(stamp.due_ns, now_ns);
    }

    /// Whether everything has come of which there were so many at the other end.
    fn is_even(&self, sent_by_other: u64) -> bool {
        self.unanswered.is_empty()
            && self.left_out.is_empty()
            && self.next_from_other >= sent_by_other
    }

    /// Counts what did not come. What a later one has overtaken is missing; the rest may only be slow.
    fn settle(&self, sent_by_other: u64) {
        self.tally.violated("missing", self.left_out.len() as u64);
        let awaited = sent_by_other.saturating_sub(self.next_from_other);
        self.tally.late(awaited + self.waiting() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Reading;
    use crate::report::Outcome;

    const BYTES: usize = 64;

    fn ledger() -> Ledger {
        let tally = Rc::new(Tally::default());
        tally.counting.set(true);
        End::new(NoWire, Seat(0), Rc::default(), tally, 1, BYTES, None).ledger
    }

    fn from_other(number: u64) -> Event {
        Event::Delivery(Stamp {
            from: 1,
            number,
            due_ns: 0,
            bytes: BYTES,
        })
    }

    fn outcome(ledger: &Ledger, sent_by_other: u64) -> Outcome {
        ledger.settle(sent_by_other);
        let reading = Reading {
            measured: Duration::from_secs(1),
            server_cpu: None,
            own_cpu: None,
        };
        ledger.tally.outcome(1, &reading)
    }

    fn violations(events: &[Event], sent_by_other: u64) -> Vec<(String, u64)> {
        let mut ledger = ledger();
        for event in events {
            ledger.enter(*event, 1);
        }
        outcome(&ledger, sent_by_other)
            .violations
            .into_iter()
            .collect()
    }

    #[test]
    fn messages_that_come_once_and_in_order_are_counted() {
        let mut ledger = ledger();
        for _ in 0..2 {
            ledger.write(0);
        }
        for event in [Event::Ack(1), from_other(0), Event::Ack(0), from_other(1)] {
            ledger.enter(event, 5_000_000);
        }
        assert!(ledger.is_even(2));
        let outcome = outcome(&ledger, 2);
        assert_eq!((outcome.acked, outcome.delivered), (2, 2));
        assert!((outcome.ack_p50_ms.unwrap() - 5.0).abs() < 0.01);
        assert!(outcome.violations.is_empty());
    }

    #[test]
    fn paced_seats_write_one_after_the_other_and_each_in_its_interval() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut second = Pace::of(Seat(1), 4, 1_000.0, start);
        assert_eq!(second.due(start), None);
        assert_eq!(second.due(after(1)), Some(after(1)));
        assert_eq!(second.due(after(1)), None);
        // Long overdue, and then on time.
        assert_eq!(second.due(after(8)), Some(after(5)));
        assert_eq!(second.due(after(8)), None);
        assert_eq!(second.due(after(9)), Some(after(9)));
    }

    #[test]
    fn a_message_that_was_overtaken_and_does_not_come_is_missing() {
        let overtaken = violations(&[from_other(0), from_other(2)], 3);
        assert_eq!(overtaken, [("missing".to_owned(), 1)]);
    }

    #[test]
    fn what_is_still_awaited_in_the_end_is_late() {
        let mut ledger = ledger();
        ledger.write(0);
        ledger.enter(from_other(0), 1);
        let outcome = outcome(&ledger, 3);
        assert_eq!((outcome.late, outcome.violations.len()), (3, 0));
    }

    #[test]
    fn a_message_that_comes_again_or_too_late_is_told_apart() {
        let repeated = violations(&[from_other(0), from_other(0)], 1);
        assert_eq!(repeated, [("repeated".to_owned(), 1)]);
        let late = violations(&[from_other(1), from_other(0)], 2);
        assert_eq!(late, [("out of order".to_owned(), 1)]);
    }

    #[test]
    fn an_acknowledgement_that_nobody_waits_for_is_a_violation() {
        let unasked = violations(&[Event::Ack(0)], 0);
        assert_eq!(unasked, [("acknowledged without need".to_owned(), 1)]);
    }

    #[test]
    fn a_message_of_another_pair_is_a_violation() {
        let stray = Event::Delivery(Stamp {
            from: 2,
            number: 0,
            due_ns: 0,
            bytes: BYTES,
        });
        assert_eq!(
            violations(&[stray], 0),
            [("of somebody else".to_owned(), 1)]
        );
    }

    /// A ledger needs none.
    struct NoWire;

    impl Wire for NoWire {
        fn send(&mut self, _: u64, _: &str) {}
        async fn flush(&mut self) -> Result<()> {
            Ok(())
        }
        async fn next(&mut self, _: &mut Vec<Event>) -> Result<()> {
            Ok(())
        }
        async fn close(self) -> Result<()> {
            Ok(())
        }
    }
}
