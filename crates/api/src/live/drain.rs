//! A node that is drained and goes on running: it takes no new sessions, and those that it has are told to come back one
//! after the other, so that the other nodes welcome a few at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tertulia_kit::lifecycle::Kind;
use tokio::time::{Instant, sleep_until};

use super::Live;
use super::close;
use super::hub::whom::Whom;
use super::queue::Ending;

impl Live {
    /// Whether the node takes no sessions now.
    pub fn is_drained(&self) -> bool {
        is_drained(self.drains.load(Ordering::SeqCst))
    }

    /// Takes no more sessions, and ends those that are here over this time; nothing new when it is drained already.
    pub fn drain(self: &Arc<Self>, spread: Duration) {
        let begun = self
            .drains
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |turn| {
                (!is_drained(turn)).then_some(turn + 1)
            });
        let Ok(before) = begun else {
            return;
        };
        let (live, told) = (Arc::clone(self), self.lifecycle.told(Kind::Work));
        self.lifecycle.spawn(Kind::Work, "drain", async move {
            told.run_until_cancelled(live.let_go(before + 1, spread))
                .await;
        });
    }

    /// Takes sessions again. Those that were not told to go stay.
    pub fn resume(&self) {
        // Fails when it is not drained, and then there is nothing to do.
        _ = self
            .drains
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |turn| {
                is_drained(turn).then_some(turn + 1)
            });
    }

    /// Ends everybody who is here, unless this drain is over before.
    async fn let_go(&self, drain: u64, spread: Duration) {
        // Who attaches later sees that the node is drained.
        let sessions = self.hub.sessions(&Whom::Everybody);
        let (began, count) = (Instant::now(), sessions.len());
        tracing::info!("draining {count} sessions, and the node goes on");
        for (nth, queue) in sessions.into_iter().enumerate() {
            let due = began + spread.mul_f64(nth as f64 / count as f64);
            if due > Instant::now() {
                sleep_until(due).await;
            }
            if self.drains.load(Ordering::SeqCst) != drain {
                return;
            }
            queue.end(Ending::of(close::DRAINING, Duration::ZERO));
        }
    }
}

/// Each drain and each resume is one turn, beginning with a drain.
fn is_drained(turn: u64) -> bool {
    turn % 2 == 1
}
