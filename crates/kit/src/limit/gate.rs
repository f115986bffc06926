//! So many at once, so many in line, and the rest is turned away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds how many do something at once, such as hash a password, and how many wait for it.
#[derive(Debug, Clone)]
pub struct Gate {
    inside: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

/// The right to be inside, until it is dropped. It may move to another thread.
#[derive(Debug)]
#[must_use = "who drops the pass is outside again"]
pub struct Pass(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);

/// As many wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wait already")]
pub struct Full;

impl Gate {
    /// Lets `inside_max` in, at least one, and `waiting_max` wait.
    pub fn new(inside_max: usize, waiting_max: usize) -> Self {
        let inside = inside_max.clamp(1, Semaphore::MAX_PERMITS);
        Gate {
            inside: Arc::new(Semaphore::new(inside)),
            waiting: Arc::default(),
            waiting_max,
        }
    }

    /// Goes in, or waits in line, first come first served. Cancel safe: who gives up leaves the line.
    ///
    /// # Errors
    /// When the line is full.
    pub async fn enter(&self) -> Result<Pass, Full> {
        if let Ok(permit) = self.inside.clone().try_acquire_owned() {
            return Ok(Pass(permit));
        }
        let _place = Place::take(&self.waiting, self.waiting_max)?;
        let permit = self.inside.clone().acquire_owned().await;
        Ok(Pass(permit.expect("the semaphore is never closed")))
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// A place in the line.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, waiting_max: usize) -> Result<Self, Full> {
        let one_more = |n: usize| (n < waiting_max).then_some(n + 1);
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map(|_| Place(waiting))
            .map_err(|_| Full)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn some_are_inside_some_wait_and_the_rest_is_turned_away() {
        let gate = Gate::new(1, 1);
        let first = gate.enter().await.unwrap();
        let mut second = Box::pin(gate.enter());
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(gate.waiting(), 1);
        assert_eq!(gate.enter().await.unwrap_err(), Full);
        drop(first);
        let _second = second.await.unwrap();
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_line() {
        let gate = Gate::new(1, 1);
        let first = gate.enter().await.unwrap();
        let mut second = Box::pin(gate.enter());
        assert!((&mut second).now_or_never().is_none());
        drop(second);
        assert_eq!(gate.waiting(), 0);
        drop(first);
        assert!(gate.enter().now_or_never().unwrap().is_ok());
    }
}
