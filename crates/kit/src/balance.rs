//! To which of several a call goes: to the one with the fewest calls under way. Who can not be reached or is late again and
//! again is left out for a while, and let in by one call that tries it. A pure state machine: it knows no network, and the
//! time is told to it.
//!
//! *Who is away* is left out at once: nothing is lost by it. *Who is slow* is left out only while half of all stay in, for
//! what makes all of them slow lies behind them, and would get worse for those that are left. When everybody is out, calls
//! go to all of them as if everybody were in.

#[cfg(test)]
mod tests;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

/// The bounds of a balancer.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many calls may be under way to one.
    pub under_way_max: usize,
    /// How often in a row one may be slow before it is left out.
    pub slow_max: u32,
    /// For how long one is left out first; twice as long each time, until it is well again for the longest pause.
    pub pause: Duration,
    /// For how long one is left out at most.
    pub pause_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            under_way_max: 100,
            slow_max: 3,
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(10),
        }
    }
}

/// What a call that is repeated costs, in what each first call gives.
const AGAIN_COSTS: u32 = 10;
/// How much may be saved up for repeating: enough for ten.
const AGAIN_MAX: u32 = 10 * AGAIN_COSTS;

/// Chooses among those that it knows by a key.
#[derive(Debug)]
pub struct Balancer<K> {
    known: Vec<One<K>>,
    options: Options,
    random: StdRng,
    /// Where the search begins, so that equals take turns.
    turn: usize,
    /// What was saved up for repeating.
    again: u32,
}

#[derive(Debug)]
struct One<K> {
    key: K,
    under_way: usize,
    slow_in_a_row: u32,
    out: Option<Out>,
    /// How often it was left out lately.
    outs: u32,
    in_since: Option<Instant>,
}

#[derive(Debug)]
struct Out {
    until: Instant,
    is_tried: bool,
}

/// Where a call goes. It is under way until its end is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick<K> {
    /// To this one.
    pub key: K,
    /// The call tries one that was left out.
    pub is_trial: bool,
}

/// How a call ended, as far as it says something of where it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With an answer, whatever it was.
    Answered,
    /// It could not be reached, or was lost.
    Away,
    /// There was no answer in time, or it had too much to do.
    Slow,
    /// It says that it goes. It is left out for the first pause and no longer.
    Leaves,
    /// The caller did not wait for it.
    Unknown,
}

/// What the end of a call has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is left out from now on.
    Out,
    /// It is in again.
    In,
}

impl<K: Clone + Eq> Balancer<K> {
    /// One that knows nobody.
    pub fn new(options: Options, seed: u64) -> Balancer<K> {
        Balancer {
            known: Vec::new(),
            options,
            random: StdRng::seed_from_u64(seed),
            turn: 0,
            again: AGAIN_MAX,
        }
    }

    /// From now on there are these. Who was known stays as it was.
    pub fn know(&mut self, keys: &[K]) {
        self.known.retain(|one| keys.contains(&one.key));
        for key in keys {
            if self.of(key).is_none() {
                self.known.push(One::new(key.clone()));
            }
        }
    }

    /// Where a call goes that begins now; it was already at those of `but_not`. Nothing when there is nobody else, or
    /// everybody else has as much as it may.
    pub fn pick(&mut self, but_not: &[K], now: Instant) -> Option<Pick<K>> {
        if but_not.is_empty() {
            self.again = AGAIN_MAX.min(self.again + 1);
        }
        let nobody_in = self.known.iter().all(|one| one.out.is_some());
        let (len, start) = (self.known.len(), self.turn);
        let may: Vec<usize> = (0..len)
            .map(|nth| (start + nth) % len)
            .filter(|at| {
                let one = &self.known[*at];
                one.under_way < self.options.under_way_max && !but_not.contains(&one.key)
            })
            .collect();
        let on_trial = may.iter().copied().find(|at| self.known[*at].is_due(now));
        let with_least = || {
            let is_in = |at: &usize| nobody_in || self.known[*at].out.is_none();
            let those = may.iter().copied().filter(is_in);
            those.min_by_key(|at| self.known[*at].under_way)
        };
        let at = on_trial.or_else(with_least)?;
        self.turn = at + 1;
        let one = &mut self.known[at];
        one.under_way += 1;
        if on_trial.is_some()
            && let Some(out) = &mut one.out
        {
            out.is_tried = true;
        }
        Some(Pick {
            key: one.key.clone(),
            is_trial: on_trial.is_some(),
        })
    }

    /// Whether a call that was not done, though it came to somebody, may be sent again. One in ten may on the long run: when
    /// everybody has too much to do, repeating makes it worse.
    pub fn may_go_again(&mut self) -> bool {
        let left = self.again.checked_sub(AGAIN_COSTS);
        self.again = left.unwrap_or(self.again);
        left.is_some()
    }

    /// A call has ended.
    pub fn ended(&mut self, pick: &Pick<K>, how: End, now: Instant) -> Option<Turn> {
        let half_stay = self.half_stay_without_one();
        let one = self.known.iter_mut().find(|one| one.key == pick.key)?;
        one.under_way = one.under_way.saturating_sub(1);
        let was_out = one.out.is_some();
        match how {
            End::Answered => {
                one.answered(now, &self.options);
                return was_out.then_some(Turn::In);
            }
            // It tried nothing.
            End::Unknown => {
                if let Some(out) = one.out.as_mut().filter(|_| pick.is_trial) {
                    out.is_tried = false;
                }
                return None;
            }
            End::Slow => one.slow_in_a_row += 1,
            End::Away | End::Leaves => {}
        }
        // Those that were under way when it was left out say nothing new.
        let is_new = pick.is_trial || !was_out;
        let is_out = match how {
            End::Slow => pick.is_trial || (one.slow_in_a_row >= self.options.slow_max && half_stay),
            _ => true,
        };
        if !(is_new && is_out) {
            return None;
        }
        let times = match how {
            End::Leaves => 0,
            _ => one.outs,
        };
        let pause = self.options.pause.saturating_mul(1 << times.min(16));
        let pause = pause.min(self.options.pause_max);
        one.outs = times + 1;
        // Not all who were left out together come back together.
        let pause = pause.mul_f64(self.random.random_range(0.5..=1.0));
        one.leave_out(now + pause);
        (!was_out).then_some(Turn::Out)
    }

    /// How many there are, and how many of them are left out.
    pub fn count(&self) -> (usize, usize) {
        let out = self.known.iter().filter(|one| one.out.is_some());
        (self.known.len(), out.count())
    }

    fn of(&self, key: &K) -> Option<&One<K>> {
        self.known.iter().find(|one| one.key == *key)
    }

    fn half_stay_without_one(&self) -> bool {
        let (all, out) = self.count();
        all.saturating_sub(out + 1) * 2 >= all
    }
}

impl<K> One<K> {
    fn new(key: K) -> One<K> {
        One {
            key,
            under_way: 0,
            slow_in_a_row: 0,
            out: None,
            outs: 0,
            in_since: None,
        }
    }

    /// Whether it is time to try it.
    fn is_due(&self, now: Instant) -> bool {
        let out = self.out.as_ref();
        out.is_some_and(|out| !out.is_tried && out.until <= now)
    }

    fn answered(&mut self, now: Instant, options: &Options) {
        self.slow_in_a_row = 0;
        if self.out.take().is_some() {
            self.in_since = Some(now);
        }
        let since = self.in_since;
        if since.is_some_and(|since| now.duration_since(since) >= options.pause_max) {
            self.outs = 0;
        }
    }

    fn leave_out(&mut self, until: Instant) {
        self.slow_in_a_row = 0;
        self.out = Some(Out {
            until,
            is_tried: false,
        });
    }
}
