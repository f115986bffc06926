//! Sessions that wait to be woken for what a large audience hears.
//!
//! An event of a large chat is for thousands of sessions at once. Were all of them woken at once, whoever comes
//! after them, such as the two of a direct chat, would wait until the last of the thousands has written. So they
//! are woken a slice at a time, and between slices everybody else has a turn.
//!
//! Most of what a delivery costs is the write to the socket. So a session has one turn in a beat: what comes after
//! it waits for the next beat, and is then written in one go. The first event after a silence waits for nothing,
//! and when much has come the session does not wait for the beat either. Beats of different sessions begin at
//! different times: what is heard by thousands at once is not written to all of them at once.
//! There are never more that wait than sessions, each at most once for its turn and once for its beat.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::queue::{Queue, Wait};
use super::told::Frame;

/// At how many different times beats begin.
const PHASES: usize = 16;

/// Those who wait, in their order.
pub struct Turns {
    slice_sessions: usize,
    beats: Beats,
    next_phase: AtomicUsize,
    /// Guards the order, for a few lines. Inside it the locks of queues may be taken.
    waiting: Mutex<Waiting>,
    more: Notify,
}

struct Waiting {
    now: VecDeque<Arc<Queue>>,
    /// They have had their turn in their beat. By phase.
    later: [Vec<Arc<Queue>>; PHASES],
    /// Whose beats had begun by then no longer waits for them.
    tick: u64,
}

impl Waiting {
    /// Those whose beats have begun wait for them no more.
    fn go_on(&mut self, tick: u64) {
        let ticks = (self.tick + 1..=tick).take(PHASES);
        for phase in ticks.map(phase_of) {
            let begun = self.later[phase].drain(..);
            self.now.extend(begun.filter(|queue| queue.beat_began()));
        }
        self.tick = self.tick.max(tick);
    }

    /// A session waits for the beat after the one that it was in at a tick.
    fn wait_for_beat(&mut self, queue: Arc<Queue>, since: u64) {
        let beat = |tick| beat_of(queue.phase, tick);
        if beat(since) == beat(self.tick) {
            self.later[queue.phase].push(queue);
        } else if queue.beat_began() {
            self.now.push_back(queue);
        }
    }

    /// The tick at which the first of those begins a beat who wait for one.
    fn next(&self) -> Option<u64> {
        let mut ticks = (self.tick + 1..).take(PHASES);
        ticks.find(|&tick| !self.later[phase_of(tick)].is_empty())
    }
}

/// When beats begin. With beats of no length there are none.
struct Beats {
    began_at: Instant,
    /// There are as many ticks in a beat as there are phases.
    tick: Duration,
}

impl Beats {
    fn new(every: Duration) -> Self {
        Beats {
            began_at: Instant::now(),
            tick: every / PHASES as u32,
        }
    }

    /// None when there are no beats.
    fn now(&self) -> Option<u64> {
        let lived = self.began_at.elapsed().as_nanos();
        let ticks = lived.checked_div(self.tick.as_nanos())?;
        Some(ticks as u64)
    }

    /// None when that is beyond all clocks.
    fn at(&self, tick: u64) -> Option<Instant> {
        Some(self.began_at + self.tick.checked_mul(tick.try_into().ok()?)?)
    }
}

/// The phase of the sessions whose beats begin at a tick.
fn phase_of(tick: u64) -> usize {
    (tick % PHASES as u64) as usize
}

/// Counted from 1.
fn beat_of(phase: usize, tick: u64) -> u64 {
    (tick + (PHASES - phase) as u64) / PHASES as u64 + 1
}

/// Those who hear one frame, until they are put among those who wait.
pub struct Hearers {
    tick: Option<u64>,
    now: Vec<Arc<Queue>>,
    later: Vec<Arc<Queue>>,
}

impl Hearers {
    /// Puts the frame into a queue; whether it is kept there beside what was there before.
    pub fn hear(&mut self, queue: &Arc<Queue>, frame: &Arc<Frame>) -> bool {
        let beat = self.tick.map(|tick| beat_of(queue.phase, tick));
        match queue.push_for_turn(frame, beat) {
            Some(Wait::Now) => self.now.push(Arc::clone(queue)),
            Some(Wait::Later) => self.later.push(Arc::clone(queue)),
            Some(Wait::Already) => {}
            None => return false,
        }
        true
    }
}

impl Turns {
    /// Nobody waits. So many are woken before everybody else has a turn, and each of them once in so long.
    pub fn new(slice_sessions: usize, every: Duration) -> Self {
        Turns {
            slice_sessions,
            beats: Beats::new(every),
            next_phase: AtomicUsize::new(0),
            waiting: Mutex::new(Waiting {
                now: VecDeque::new(),
                later: Default::default(),
                tick: 0,
            }),
            more: Notify::new(),
        }
    }

    /// The phase of a new session's beats: all are used alike.
    pub fn next_phase(&self) -> usize {
        self.next_phase.fetch_add(1, Ordering::Relaxed) % PHASES
    }

    /// Nobody hears anything yet.
    pub fn hearers(&self) -> Hearers {
        Hearers {
            tick: self.beats.now(),
            now: Vec::new(),
            later: Vec::new(),
        }
    }

    /// Puts those who heard something at the end. See [`Queue::push_for_turn`].
    pub fn take(&self, hearers: Hearers) {
        if hearers.now.is_empty() && hearers.later.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.now.extend(hearers.now);
        let tick = hearers.tick.unwrap_or_default();
        waiting.go_on(tick);
        for queue in hearers.later {
            waiting.wait_for_beat(queue, tick);
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Wakes whoever waits, slice by slice. Never ends.
    pub async fn give(&self) {
        loop {
            let next = self.waiting.lock().next();
            match next.and_then(|tick| self.beats.at(tick)) {
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

    /// Whether there was anybody.
    fn give_slice(&self) -> bool {
        let tick = self.beats.now();
        let slice: Vec<Arc<Queue>> = {
            let mut waiting = self.waiting.lock();
            waiting.go_on(tick.unwrap_or_default());
            let count = waiting.now.len().min(self.slice_sessions);
            waiting.now.drain(..count).collect()
        };
        for queue in &slice {
            queue.turn(tick.map(|tick| beat_of(queue.phase, tick)));
        }
        !slice.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::super::queue::FRAMES_OF_A_TURN;
    use super::super::queue::tests::{about, event, options};
    use super::*;
    use futures::FutureExt as _;

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
        let queue = |_| Queue::new(about(1, 1), 0, &options());
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
    async fn the_beats_of_different_sessions_begin_at_different_times() {
        let turns = turns();
        let all: Vec<_> = (0..PHASES)
            .map(|_| Queue::new(about(1, 1), turns.next_phase(), &options()))
            .collect();
        let giving = turns.give();
        tokio::pin!(giving);
        say(&turns, &all, 1);
        assert!(futures::poll!(&mut giving).is_pending());
        for _ in 0..all.len().div_ceil(SLICE_SESSIONS) {
            assert!(futures::poll!(&mut giving).is_pending());
        }
        assert_eq!(awake(&all), all.len());
        all.iter().for_each(|queue| drop(queue.take()));

        say(&turns, &all, 2);
        for tick in 1..=PHASES {
            tokio::time::advance(BEAT / PHASES as u32).await;
            assert!(futures::poll!(&mut giving).is_pending());
            assert_eq!(awake(&all[tick % PHASES..][..1]), 1, "at tick {tick}");
            assert_eq!(awake(&all), 0, "at tick {tick}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_much_to_write_does_not_wait_for_the_beat() {
        let roomy = Options {
            outbound_frames_max: 4 * FRAMES_OF_A_TURN,
            ..options()
        };
        let turns = turns();
        let all = [Queue::new(about(1, 1), 0, &roomy)];
        let giving = turns.give();
        tokio::pin!(giving);
        say(&turns, &all, 1);
        assert!(futures::poll!(&mut giving).is_pending());
        assert_eq!(awake(&all), 1);
        drop(all[0].take());

        let more = FRAMES_OF_A_TURN as i64;
        for round in [0, more] {
            for seq in 1..more {
                say(&turns, &all, 1 + round + seq);
            }
            assert!(futures::poll!(&mut giving).is_pending());
            assert_eq!(awake(&all), 0);
            say(&turns, &all, 1 + round + more);
            assert!(futures::poll!(&mut giving).is_pending());
            assert_eq!(awake(&all), 1);
            drop(all[0].take());
        }
        // It waited for its beat, too, and that comes with nothing to take.
        tokio::time::advance(BEAT).await;
        assert!(futures::poll!(&mut giving).is_pending());
        assert_eq!(awake(&all), 0);
        say(&turns, &all, 2 * more + 2);
        assert!(futures::poll!(&mut giving).is_pending());
        assert_eq!(awake(&all), 1);
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
