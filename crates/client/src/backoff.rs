//! How long to wait before trying again: what the server told first, then exponentially longer with full
//! jitter, so that many clients do not come at once.

use std::sync::Arc;
use std::time::Duration;

use crate::time::{Machine, random_share};

pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
    tries: u32,
    machine: Arc<dyn Machine>,
}

impl Backoff {
    pub(crate) fn new(base: Duration, max: Duration, machine: Arc<dyn Machine>) -> Self {
        Backoff {
            base,
            max,
            tries: 0,
            machine,
        }
    }

    /// It worked: begin from the base again.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }

    /// The next wait. `told` is what the server asked for; it is kept, never shortened.
    pub(crate) fn next(&mut self, told: Option<Duration>) -> Duration {
        let ceiling = self
            .base
            .saturating_mul(1 << self.tries.min(16))
            .min(self.max);
        self.tries = self.tries.saturating_add(1);
        if let Some(told) = told {
            return told;
        }
        ceiling.mul_f64(random_share(&*self.machine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::System;

    #[test]
    fn waits_grow_to_the_maximum_and_begin_anew_after_success() {
        let (base, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(base, max, Arc::new(System));
        for _ in 0..1000 {
            assert!(backoff.next(None) <= max);
        }
        backoff.reset();
        assert!(backoff.next(None) <= base);
    }

    #[test]
    fn what_the_server_told_is_kept() {
        let mut backoff = Backoff::new(
            Duration::from_millis(1),
            Duration::from_millis(2),
            Arc::new(System),
        );
        let told = Duration::from_secs(7);
        assert_eq!(backoff.next(Some(told)), told);
    }
}
