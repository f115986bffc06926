//! Who writes. When much is to be committed that is a thread of its own, which takes whatever waits together. When
//! little is, it is whoever has something: to wake a thread for it, and to be woken again when it is done, costs more
//! than the commit.
//!
//! Who writes itself waits for the disk on a thread of the runtime, and the sockets of all others may have nobody who
//! looks at them meanwhile. So that is for commits that are few, small and quick; and the thread looks every so often
//! whether one has become slow, and then has the runtime wake another of its threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;

use super::queue::{Request, Waited};
use super::shared::Shared;
use super::writer::Writer;

/// How many bytes of commands somebody writes itself, about.
const SMALL_BYTES: usize = 16 << 10;
/// How much time there must have been between commits, less what they took, for everybody to write itself.
const CALM_FROM: Duration = Duration::from_millis(8);
const CALM_MAX: Duration = Duration::from_millis(16);
/// What counts of the time before one commit: so it takes some to see that they are few, and a slow one undoes many.
const BETWEEN_MAX: Duration = Duration::from_millis(1);
/// How often the thread looks while others write.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After so many looks at nothing it waits to be woken.
const LOOKS_AT_NOTHING_MAX: u32 = 50;

/// Where there is one writer at a time.
pub struct Desk {
    shared: Arc<Shared>,
    /// Guards the writer: who has it decides and commits.
    seat: Mutex<Seat>,
    /// Whether others than the thread may write.
    is_calm: AtomicBool,
    /// How often others have begun or ended to write: odd while one does.
    turns: AtomicU64,
    /// Whose threads may write; none when only the thread may.
    runtime: Option<Handle>,
}

struct Seat {
    /// None: it has ended, or panicked.
    writer: Option<Writer>,
    calm: Calm,
}

impl Desk {
    /// For this writer, and the threads of a runtime that has more than one.
    pub fn new(shared: Arc<Shared>, writer: Writer, runtime: Handle) -> Desk {
        let may_others = writer.may_be_anywhere() && runtime.metrics().num_workers() > 1;
        Desk {
            shared,
            seat: Mutex::new(Seat {
                writer: Some(writer),
                calm: Calm::default(),
            }),
            is_calm: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            runtime: may_others.then_some(runtime),
        }
    }

    /// For the thread: writes until the queue is closed and empty, or the writer has gone.
    pub fn serve(&self) {
        let (mut requests, mut looks) = (Vec::new(), Looks::default());
        loop {
            let most = self.is_calm.load(Ordering::Relaxed).then_some(LOOK_EVERY);
            match self.shared.queue.wait(most) {
                Waited::Something => self.write_waiting(&mut requests, &mut looks),
                Waited::Nothing => self.look(&mut looks),
                Waited::Ended => break,
            }
            let seat = self.seat.try_lock();
            if seat.is_some_and(|seat| seat.writer.is_none()) {
                break;
            }
        }
        // Those who work for it end with it.
        self.seat.lock().writer = None;
        self.shared.queue.abandon();
    }

    fn write_waiting(&self, requests: &mut Vec<Request>, looks: &mut Looks) {
        let mut seat = self.seat_after_others(looks);
        self.shared.queue.take(requests);
        // Whoever had the writer may have taken it.
        if !requests.is_empty() {
            let took = self.turn(&mut seat, requests);
            drop(seat);
            self.shared.disk.engine.pace.hold(took);
        }
    }

    fn seat_after_others(&self, looks: &mut Looks) -> MutexGuard<'_, Seat> {
        loop {
            match self.seat.try_lock_for(LOOK_EVERY) {
                Some(seat) => return seat,
                None => self.look(looks),
            }
        }
    }

    /// For whoever has something to be written: writes it here and now, or gives it back, and it has to wait in the
    /// queue.
    pub fn write_now(&self, request: Request) -> Option<Request> {
        if !self.is_calm.load(Ordering::Relaxed) || request.bytes() > SMALL_BYTES {
            return Some(request);
        }
        let Some(mut seat) = self.seat.try_lock() else {
            return Some(request);
        };
        // To seal, or to be held back, is not for who has others to serve; and the thread has to know that it is calm, and
        // to look.
        let Shared { disk, queue, .. } = &*self.shared;
        let must_wait = disk.is_full() || disk.engine.pace.holds();
        if must_wait || !self.is_calm.load(Ordering::Relaxed) || seat.writer.is_none() {
            return Some(request);
        }
        // What waits came first.
        if !queue.attend() {
            return Some(request);
        }
        self.turns.fetch_add(1, Ordering::Release);
        let mut requests = vec![request];
        self.turn(&mut seat, &mut requests);
        // What came meanwhile is done at once, and the thread need not be woken for it; not again and again.
        if self.is_calm.load(Ordering::Relaxed) && seat.writer.is_some() {
            queue.take(&mut requests);
            if !requests.is_empty() {
                self.turn(&mut seat, &mut requests);
            }
        }
        self.turns.fetch_add(1, Ordering::Release);
        drop(seat);
        queue.leave();
        None
    }

    /// A round of the writer, and how long it took. After a panic there is no writer: what it had begun can not be
    /// known.
    fn turn(&self, seat: &mut Seat, requests: &mut Vec<Request>) -> Duration {
        let began = Instant::now();
        let writer = seat.writer.take();
        let round = AssertUnwindSafe(|| {
            writer.map(|mut writer| {
                writer.round(requests);
                writer
            })
        });
        seat.writer = catch_unwind(round).unwrap_or_default();
        let ended = Instant::now();
        let is_calm = seat.calm.note(began, ended) && self.runtime.is_some();
        self.is_calm.store(is_calm, Ordering::Relaxed);
        ended - began
    }

    /// Whether who writes itself still does, and whether anybody has.
    fn look(&self, looks: &mut Looks) {
        let turns = self.turns.load(Ordering::Acquire);
        let is_same = std::mem::replace(&mut looks.turns, turns) == turns;
        if !is_same {
            looks.at_nothing = 0;
        } else if turns % 2 == 1 {
            // Whoever is woken by this finds nobody at the sockets, and stays there.
            if let Some(runtime) = &self.runtime {
                drop(runtime.spawn(async {}));
            }
        } else {
            looks.at_nothing += 1;
            if looks.at_nothing >= LOOKS_AT_NOTHING_MAX {
                looks.at_nothing = 0;
                self.rest();
            }
        }
    }

    /// From now on the thread is woken to write, until it is calm again; unless somebody writes just now.
    fn rest(&self) {
        if let Some(mut seat) = self.seat.try_lock() {
            seat.calm.spare = Duration::ZERO;
            self.is_calm.store(false, Ordering::Relaxed);
        }
    }

    /// After the next round it is calm, however slow the disk is.
    #[cfg(test)]
    pub fn calm_down(&self) {
        self.seat.lock().calm.spare = Duration::from_secs(3_600);
    }

    /// Waits until nobody writes: who is answered is so before.
    #[cfg(test)]
    pub fn settle(&self) {
        drop(self.seat.lock());
    }
}

/// What the thread saw when it looked last.
#[derive(Default)]
struct Looks {
    turns: u64,
    /// How often nobody had written.
    at_nothing: u32,
}

/// Whether commits are few and quick.
#[derive(Default)]
struct Calm {
    spare: Duration,
    ended: Option<Instant>,
}

impl Calm {
    /// Takes in a round, and says whether it is calm.
    fn note(&mut self, began: Instant, ended: Instant) -> bool {
        let before = self.ended.replace(ended).unwrap_or(began);
        let between = began.saturating_duration_since(before).min(BETWEEN_MAX);
        let most = CALM_MAX.max(self.spare);
        let spare = (self.spare + between).saturating_sub(ended - began);
        self.spare = spare.min(most);
        self.spare >= CALM_FROM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is calm after so many rounds, each so long, with so much time between them.
    fn is_calm(calm: &mut Calm, rounds: u32, took_us: u64, between_us: u64) -> bool {
        let mut began = calm.ended.unwrap_or_else(Instant::now);
        let mut is_calm = false;
        for _ in 0..rounds {
            began += Duration::from_micros(between_us);
            let ended = began + Duration::from_micros(took_us);
            is_calm = calm.note(began, ended);
            began = ended;
        }
        is_calm
    }

    #[test]
    fn it_is_calm_when_commits_take_less_than_half_of_the_time() {
        let mut calm = Calm::default();
        assert!(!is_calm(&mut calm, 5, 200, 300), "that was too short");
        assert!(is_calm(&mut calm, 100, 200, 300));
        assert!(is_calm(&mut calm, 1_000, 200, 210));
        assert!(!is_calm(&mut calm, 1_000, 200, 190));
    }

    #[test]
    fn many_at_once_are_no_disturbance_when_there_is_time_behind_them() {
        let mut calm = Calm::default();
        for _ in 0..20 {
            is_calm(&mut calm, 2, 200, 0);
            is_calm(&mut calm, 1, 200, 10_000);
        }
        assert!(is_calm(&mut calm, 2, 200, 0));
    }

    #[test]
    fn slow_commits_are_never_calm_however_few_they_are() {
        let mut calm = Calm::default();
        assert!(is_calm(&mut calm, 100, 200, 10_000));
        assert!(!is_calm(&mut calm, 1, 10_000, 10_000), "one that took long");
        assert!(is_calm(&mut calm, 100, 200, 10_000));
        assert!(!is_calm(&mut calm, 1_000, 2_000, 1_000_000));
    }
}
