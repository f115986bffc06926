//! Sessions that wait to be woken for what a large audience hears.
//!
//! An event of a large chat is for thousands of sessions at once. Were all of them woken at once, whoever comes
//! after them, such as the two of a direct chat, would wait until the last of the thousands has written. So they
//! are woken a slice at a time, and between slices everybody else has a turn. A session waits once, however much
//! comes for it meanwhile, and then writes all of it in one go: the busier the node, the fewer writes for each
//! event. There are never more that wait than sessions.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::queue::Queue;

/// Those who wait, in their order.
pub struct Turns {
    slice_sessions: usize,
    /// Guards the order, for a few lines.
    waiting: Mutex<VecDeque<Arc<Queue>>>,
    more: Notify,
}

impl Turns {
    /// Nobody waits; so many are woken before everybody else has a turn.
    pub fn new(slice_sessions: usize) -> Self {
        Turns {
            slice_sessions,
            waiting: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// Puts these at the end. None of them waits already: see [`Queue::push_for_turn`].
    pub fn extend(&self, queues: Vec<Arc<Queue>>) {
        if queues.is_empty() {
            return;
        }
        self.waiting.lock().extend(queues);
        self.more.notify_one();
    }

    /// Wakes whoever waits, slice by slice. Never ends.
    pub async fn give(&self) {
        loop {
            self.more.notified().await;
            while self.give_slice() {
                // To the end of the runtime's own queue: behind the slice, and behind whoever else is ready.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether there was anybody.
    fn give_slice(&self) -> bool {
        let slice: Vec<Arc<Queue>> = {
            let mut waiting = self.waiting.lock();
            let count = waiting.len().min(self.slice_sessions);
            waiting.drain(..count).collect()
        };
        slice.iter().for_each(|queue| queue.turn());
        !slice.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tertulia_services::ids::LoginId;

    use super::super::queue::tests::{event, options};
    use super::*;

    const SLICE_SESSIONS: usize = 4;

    fn queues(count: usize) -> Vec<Arc<Queue>> {
        let queue = |_| Queue::new(LoginId(1), &options());
        (0..count).map(queue).collect()
    }

    fn awake(queues: &[Arc<Queue>]) -> usize {
        let woken = queues
            .iter()
            .filter(|queue| queue.ready().now_or_never().is_some());
        woken.count()
    }

    #[tokio::test]
    async fn everybody_else_has_a_turn_between_two_slices() {
        let (turns, all) = (Turns::new(SLICE_SESSIONS), queues(3 * SLICE_SESSIONS));
        for queue in &all {
            assert!(queue.push_for_turn(&event(1, 1)));
        }
        turns.extend(all.clone());
        let giving = turns.give();
        tokio::pin!(giving);
        for _ in 0..3 {
            assert_eq!(awake(&all), 0);
            assert!(futures::poll!(&mut giving).is_pending());
            assert_eq!(awake(&all), SLICE_SESSIONS);
        }
    }

    #[tokio::test]
    async fn a_session_waits_once_and_not_again_before_its_turn() {
        let (turns, all) = (Turns::new(SLICE_SESSIONS), queues(1));
        assert!(all[0].push_for_turn(&event(1, 1)));
        assert!(!all[0].push_for_turn(&event(1, 2)));
        turns.extend(all.clone());
        assert!(turns.give_slice());
        assert_eq!(awake(&all), 1);
        assert!(all[0].push_for_turn(&event(1, 3)));
    }

    #[test]
    fn who_has_been_woken_by_something_else_is_not_woken_for_nothing() {
        let (turns, all) = (Turns::new(SLICE_SESSIONS), queues(1));
        assert!(all[0].push_for_turn(&event(1, 1)));
        turns.extend(all.clone());
        all[0].push(&event(2, 1));
        assert_eq!(awake(&all), 1);
        drop(all[0].take());
        assert!(turns.give_slice());
        assert_eq!(awake(&all), 0);
    }
}
