//! What all ends of a load write into: messages, times, and what may never happen. Everything runs on one thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::Reading;
use crate::report::{Outcome, milliseconds};

/// What was counted.
pub struct Tally {
    base: Instant,
    /// Whether it is time to count.
    pub counting: Cell<bool>,
    sent: Cell<u64>,
    late: Cell<u64>,
    acked: Count,
    delivered: Count,
    violations: RefCell<BTreeMap<&'static str, u64>>,
}

/// Messages and the time that each took.
struct Count {
    messages: Cell<u64>,
    taken_ns: RefCell<Histogram<u64>>,
}

impl Default for Count {
    fn default() -> Self {
        let histogram = Histogram::new(3).expect("three digits are allowed");
        Count {
            messages: Cell::new(0),
            taken_ns: RefCell::new(histogram),
        }
    }
}

impl Count {
    fn one(&self, taken_ns: u64) {
        self.messages.set(self.messages.get() + 1);
        // It was made to grow, so that it takes any time.
        _ = self.taken_ns.borrow_mut().record(taken_ns);
    }
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            base: Instant::now(),
            counting: Cell::new(false),
            sent: Cell::new(0),
            late: Cell::new(0),
            acked: Count::default(),
            delivered: Count::default(),
            violations: RefCell::default(),
        }
    }
}

impl Tally {
    /// When something is, in nanoseconds since the load began.
    pub fn stamp(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_nanos() as u64
    }

    /// A message was written.
    pub fn sent(&self) {
        self.sent.set(self.sent.get() + 1);
    }

    /// A message that was due at a stamp was acknowledged at another.
    pub fn acked(&self, due_ns: u64, now_ns: u64) {
        if self.counting.get() {
            self.acked.one(now_ns.saturating_sub(due_ns));
        }
    }

    /// A message that was due at a stamp came to the other end at another.
    pub fn delivered(&self, due_ns: u64, now_ns: u64) {
        if self.counting.get() {
            self.delivered.one(now_ns.saturating_sub(due_ns));
        }
    }

    /// Messages or acknowledgements had not come when nobody waited any longer.
    pub fn late(&self, times: u64) {
        self.late.set(self.late.get() + times);
    }

    /// Something came about that may never happen; also while nothing else is counted.
    pub fn violated(&self, what: &'static str, times: u64) {
        if times > 0 {
            *self.violations.borrow_mut().entry(what).or_default() += times;
        }
    }

    /// All of it.
    pub fn outcome(&self, in_flight: usize, reading: &Reading) -> Outcome {
        let seconds = reading.measured.as_secs_f64();
        let delivered = self.delivered.messages.get();
        let (ack, delivery) = (
            self.acked.taken_ns.borrow(),
            self.delivered.taken_ns.borrow(),
        );
        let violations = self.violations.borrow();
        Outcome {
            in_flight,
            seconds,
            sent_in_all: self.sent.get(),
            late: self.late.get(),
            acked: self.acked.messages.get(),
            delivered,
            delivered_per_second: delivered as f64 / seconds,
            server_cpu_us: reading
                .server_cpu
                .filter(|_| delivered > 0)
                .map(|cpu| cpu.as_secs_f64() * 1e6 / delivered as f64),
            ack_p50_ms: milliseconds(&ack, 0.5),
            ack_p99_ms: milliseconds(&ack, 0.99),
            delivery_p50_ms: milliseconds(&delivery, 0.5),
            delivery_p99_ms: milliseconds(&delivery, 0.99),
            load_cpu_percent: reading
                .own_cpu
                .map(|cpu| 100.0 * cpu.as_secs_f64() / seconds),
            violations: violations
                .iter()
                .map(|(what, times)| ((*what).to_owned(), *times))
                .collect(),
        }
    }
}
