//! Sessions that wait to be woken for what a large audience hears.
//!
//! An event of a large chat is for thousands of sessions at once. Were all of them woken at once, whoever comes
//! after them, such as the two of a direct chat, would wait until the last of the thousands has written. So they
//! are woken a slice at a time, and between slices everybody else has a turn.
//!
//! Most of what a delivery costs is the write to the socket. So a session has one turn in a beat: what comes after
//! it waits for the next beat, and is then written in one go. The first event after a silence waits for nothing.
//! There are never more that wait than sessions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::queue::{Queue, Wait};
use super::told::Frame;

/// Those who wait, in their order.
pub struct Turns {
    slice_sessions: usize,
    /// How long a beat is; with zero, nobody waits for one.
    every: Duration,
    began_at: Instant,
    /// Guards the order, for a few lines.
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    now: VecDeque<Arc<Queue>>,
    /// They have had their turn in this beat.
    later: Vec<Arc<Queue>>,
    beat: u64,
}

impl Waiting {
    /// Those who waited for a beat later than theirs wait no more.
    fn go_on(&mut self, beat: u64) {
        if self.beat < beat {
            self.now.extend(self.later.drain(..));
            self.beat = beat;
        }
    }
}

/// Those who hear one frame, until they are put among those who wait.
pub struct Hearers {
    beat: u64,
    now: Vec<Arc<Queue>>,
    later: Vec<Arc<Queue>>,
}

impl Hearers {
    /// Puts the frame into a queue.
    pub fn hear(&mut self, queue: &Arc<Queue>, frame: &Arc<Frame>) {
        match queue.push_for_turn(frame, self.beat) {
            Some(Wait::Now) => self.now.push(Arc::clone(queue)),
            Some(Wait::Later) => self.later.push(Arc::clone(queue)),
            None => {}
        }
    }
}

impl Turns {
    /// Nobody waits. So many are woken before everybody else has a turn, and each of them once in so long.
    pub fn new(slice_sessions: usize, every: Duration) -> Self {
        Turns {
            slice_sessions,
            every,
            began_at: Instant::now(),
            waiting: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// Nobody hears anything yet.
    pub fn hearers(&self) -> Hearers {
        Hearers {
            beat: self.beat(),
            now: Vec::new(),
            later: Vec::new(),
        }
    }

    /// Puts those who heard something at the end. None of them waits already: see [`Queue::push_for_turn`].
    pub fn take(&self, hearers: Hearers) {
        if hearers.now.is_empty() && hearers.later.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.go_on(hearers.beat);
        waiting.now.extend(hearers.now);
        waiting.later.extend(hearers.later);
        drop(waiting);
        self.more.notify_one();
    }

    /// Wakes whoever waits, slice by slice. Never ends.
    pub async fn give(&self) {
        loop {
            match self.later_at() {
                Some(at) => tokio::select! {
                    biased;
                    () = self.more.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.more.notified().await,
            }
            while self.give_slice() {
                // To the end of the runtime's own queue: behind the slice, and behind whoever else is ready.
                tokio::task::yield_now().await;
            }
        }
    }

    /// When those wait no more who wait for a beat.
    fn later_at(&self) -> Option<Instant> {
        let waiting = self.waiting.lock();
        let next = u32::try_from(waiting.beat).ok()?;
        (!waiting.later.is_empty()).then(|| self.began_at + self.every * next)
    }

    /// Whether there was anybody.
    fn give_slice(&self) -> bool {
        let beat = self.beat();
        let slice: Vec<Arc<Queue>> = {
            let mut waiting = self.waiting.lock();
            waiting.go_on(beat);
            let count = waiting.now.len().min(self.slice_sessions);
            waiting.now.drain(..count).collect()
        };
        slice.iter().for_each(|queue| queue.turn(beat));
        !slice.is_empty()
    }

    /// Counted from 1; the n-th ends n beats after the beginning.
    fn beat(&self) -> u64 {
        let lived = self.began_at.elapsed().as_nanos();
        let beats = lived.checked_div(self.every.as_nanos());
        beats.map_or(NO_BEATS, |beats| beats as u64 + 1)
    }
}

/// The beat where there are none: nobody has had a turn in it.
const NO_BEATS: u64 = 0;

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tertulia_services::ids::LoginId;

    use super::super::queue::tests::{event, options};
    use super::*;

    const SLICE_SESSIONS: usize = 4;
    const BEAT: Duration = Duration::from_millis(50);

    fn turns() -> Turns {
        Turns::new(SLICE_SESSIONS, BEAT)
    }

    /// All of them hear an event.
    fn say(turns: &Turns, queues: &[Arc<Queue>], seq: i64) {
        let mut hearers = turns.hearers();
        for queue in queues {
            hearers.hear(queue, &event(1, seq));
        }
        turns.take(hearers);
    }

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

    #[tokio::test(start_paused = true)]
    async fn everybody_else_has_a_turn_between_two_slices() {
        let (turns, all) = (turns(), queues(3 * SLICE_SESSIONS));
        say(&turns, &all, 1);
        let giving = turns.give();
        tokio::pin!(giving);
        for _ in 0..3 {
            assert_eq!(awake(&all), 0);
            assert!(futures::poll!(&mut giving).is_pending());
            assert_eq!(awake(&all), SLICE_SESSIONS);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_waits_once_however_much_it_hears() {
        let (turns, all) = (turns(), queues(1));
        say(&turns, &all, 1);
        say(&turns, &all, 2);
        assert!(turns.give_slice());
        assert_eq!(awake(&all), 1);
        assert!(!turns.give_slice());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_has_one_turn_in_a_beat() {
        let (turns, all) = (turns(), queues(2));
        let giving = turns.give();
        tokio::pin!(giving);
        say(&turns, &all[..1], 1);
        assert!(futures::poll!(&mut giving).is_pending());
        assert_eq!(awake(&all), 1);
        drop(all[0].take());

        // Whoever has had none yet does not wait for whoever has.
        say(&turns, &all, 2);
        assert!(futures::poll!(&mut giving).is_pending());
        assert_eq!((awake(&all[..1]), awake(&all[1..])), (0, 1));

        tokio::time::advance(BEAT).await;
        assert!(futures::poll!(&mut giving).is_pending());
        assert_eq!(awake(&all[..1]), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_beat_of_silence_nothing_waits() {
        let (turns, all) = (turns(), queues(1));
        for seq in 1..=10 {
            say(&turns, &all, seq);
            assert!(turns.give_slice());
            assert_eq!(awake(&all), 1);
            drop(all[0].take());
            tokio::time::advance(BEAT).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_beats_nobody_waits_for_one() {
        let (turns, all) = (Turns::new(SLICE_SESSIONS, Duration::ZERO), queues(1));
        for seq in 1..=10 {
            say(&turns, &all, seq);
            assert!(turns.give_slice());
            assert_eq!(awake(&all), 1);
            drop(all[0].take());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_woken_by_something_else_is_not_woken_for_nothing() {
        let (turns, all) = (turns(), queues(1));
        say(&turns, &all, 1);
        all[0].push(&event(2, 1));
        assert_eq!(awake(&all), 1);
        drop(all[0].take());
        assert!(turns.give_slice());
        assert_eq!(awake(&all), 0);
    }
}
