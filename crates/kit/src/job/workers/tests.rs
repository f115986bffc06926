//! Workers and schedules over a store in memory, with a time of their own.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::super::{JobId, Memory, NewJob};
use super::*;
use crate::clock::Clock;
use crate::id::Node;

/// Longer than anything here lasts, in the time of the test.
const PATIENCE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// 2027-01-15 08:00 in UTC.
const BEGAN_MS: i64 = 1_800_000_000_000;

/// Tokio's time.
#[derive(Debug)]
struct Time(Instant);

impl Clock for Time {
    fn now_ms(&self) -> i64 {
        BEGAN_MS + self.0.elapsed().as_millis() as i64
    }
}

/// What a handler does with a try.
type Does = Box<dyn Fn(&Job) -> Try + Send + Sync>;

enum Try {
    Ends(Result<(), Failed>),
    Panics,
    /// Until the test lets it, or without end.
    Waits(Arc<Notify>),
}

struct Doing {
    does: Does,
    tries_max: i64,
    lasts: Duration,
    /// When each try began.
    begun: Arc<Mutex<Vec<(JobId, Instant)>>>,
    at_once: Arc<AtomicUsize>,
}

#[async_trait]
impl Handler for Doing {
    fn kind(&self) -> &'static str {
        "work"
    }

    fn lasts(&self) -> Duration {
        self.lasts
    }

    fn tries_max(&self) -> i64 {
        self.tries_max
    }

    fn at_once(&self) -> usize {
        2
    }

    async fn run(&self, job: &Job) -> Result<(), Failed> {
        struct Leaving(Arc<AtomicUsize>);
        impl Drop for Leaving {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let others = self.at_once.fetch_add(1, Ordering::Relaxed);
        let _leaving = Leaving(Arc::clone(&self.at_once));
        assert!(others < 2, "{others} others");
        self.begun.lock().push((job.id, Instant::now()));
        match (self.does)(job) {
            Try::Ends(end) => end,
            Try::Panics => panic!("as it was told"),
            Try::Waits(until) => {
                until.notified().await;
                Ok(())
            }
        }
    }
}

struct Play {
    jobs: Arc<Memory>,
    begun: Arc<Mutex<Vec<(JobId, Instant)>>>,
    workers: Arc<Workers>,
    told: CancellationToken,
}

impl Play {
    fn new(does: impl Fn(&Job) -> Try + Send + Sync + 'static) -> Play {
        Play::on(Arc::default(), Vec::new(), does)
    }

    fn on(
        jobs: Arc<Memory>,
        schedules: Vec<Schedule>,
        does: impl Fn(&Job) -> Try + Send + Sync + 'static,
    ) -> Play {
        let begun = Arc::default();
        let doing = Doing {
            does: Box::new(does),
            tries_max: 4,
            lasts: Duration::from_secs(10),
            begun: Arc::clone(&begun),
            at_once: Arc::default(),
        };
        let clock: SharedClock = Arc::new(Time(Instant::now()));
        let ids = Arc::new(Ids::new(Arc::clone(&clock), Arc::new(Node::FIRST)));
        let workers = Workers::new(
            Arc::clone(&jobs) as _,
            vec![Box::new(doing)],
            schedules,
            ids,
            clock,
        );
        Play {
            jobs,
            begun,
            workers,
            told: CancellationToken::new(),
        }
    }

    async fn enqueue(&self, id: i64) {
        let job = NewJob {
            id: JobId(id),
            kind: "work".into(),
            about: String::new(),
            delay: Duration::ZERO,
        };
        self.jobs.enqueue(job).await.expect("memory");
    }

    /// Works until the jobs are as wanted.
    async fn works_until(&self, open: u64, dead: u64) {
        let done = async {
            loop {
                let counts = self.jobs.counts().await.expect("memory");
                if (counts.open, counts.dead) == (open, dead) {
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = self.workers.run(self.told.clone()) => panic!("nobody told it to stop"),
            done = timeout(PATIENCE, done) => done.expect("they come to it"),
        }
    }

    fn begun(&self) -> Vec<JobId> {
        self.begun.lock().iter().map(|(id, _)| *id).collect()
    }
}

fn fails(for_good: bool) -> Try {
    Try::Ends(Err(Failed {
        why: "not today".into(),
        for_good,
    }))
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_done_once_and_not_too_many_at_a_time() {
    let play = Play::new(|_| Try::Ends(Ok(())));
    for id in 1..=20 {
        play.enqueue(id).await;
    }
    play.works_until(0, 0).await;
    let mut begun = play.begun();
    begun.sort_unstable();
    assert_eq!(begun, Vec::from_iter((1..=20).map(JobId)));
    assert_eq!(play.workers.done.get(), 20);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_after_pauses_that_grow() {
    let play = Play::new(|job| match job.attempt {
        4 => Try::Ends(Ok(())),
        _ => fails(false),
    });
    play.enqueue(1).await;
    play.works_until(0, 0).await;
    let begun: Vec<Instant> = play.begun.lock().iter().map(|(_, at)| *at).collect();
    let pauses: Vec<Duration> = begun.windows(2).map(|two| two[1] - two[0]).collect();
    // Drawn from half of 1, 2 and 4 seconds, and up to a second until somebody looks.
    for (pause, most) in pauses.iter().zip([1, 2, 4]) {
        let most = Duration::from_secs(most);
        assert!(*pause >= most / 2, "{pauses:?}");
        assert!(*pause <= most + LOOK_EVERY, "{pauses:?}");
    }
    let counted = [
        &play.workers.done,
        &play.workers.failed,
        &play.workers.buried,
    ];
    assert_eq!(counted.map(Counter::get), [1, 3, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_fails_too_often_is_set_aside_and_goes_on_when_it_is_replayed() {
    let play = Play::new(|job| match job.attempt {
        5 => Try::Ends(Ok(())),
        _ => fails(false),
    });
    play.enqueue(1).await;
    play.works_until(0, 1).await;
    assert_eq!(play.begun().len(), 4);
    let dead = play.jobs.dead(JobId(0), 10).await.expect("memory");
    assert_eq!(dead[0].why, "not today");
    assert!(play.jobs.replay(JobId(1)).await.expect("memory"));
    play.works_until(0, 0).await;
    assert_eq!(play.begun().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_done_is_set_aside_at_once() {
    let play = Play::new(|_| fails(true));
    play.enqueue(1).await;
    play.works_until(0, 1).await;
    assert_eq!(play.begun().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_try_that_failed_and_others_go_on() {
    let play = Play::new(|job| match job.id.0 {
        1 => Try::Panics,
        _ => Try::Ends(Ok(())),
    });
    for id in 1..=5 {
        play.enqueue(id).await;
    }
    play.works_until(0, 1).await;
    assert_eq!(play.workers.done.get(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_hangs_is_given_up_before_its_claim_is_over_and_tried_again() {
    let play = Play::new(|_| Try::Waits(Arc::default()));
    play.enqueue(1).await;
    play.works_until(0, 1).await;
    let begun: Vec<Instant> = play.begun.lock().iter().map(|(_, at)| *at).collect();
    assert_eq!(begun.len(), 4);
    let dead = play.jobs.dead(JobId(0), 10).await.expect("memory");
    assert_eq!(dead[0].why, "it was not done within 10 s");
}

#[tokio::test(start_paused = true)]
async fn what_ends_the_process_each_time_is_set_aside() {
    let play = Play::new(|_| Try::Ends(Ok(())));
    play.enqueue(1).await;
    for _ in 0..4 {
        // Claimed by a node that is gone then.
        let claimed = play.jobs.claim("work", 1, Duration::ZERO).await;
        assert_eq!(claimed.expect("memory").len(), 1);
    }
    play.works_until(0, 1).await;
    assert_eq!(play.begun(), []);
    let dead = play.jobs.dead(JobId(0), 10).await.expect("memory");
    assert_eq!(dead[0].why, "it was begun 4 times and never ended");
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_stop_finishes_what_it_has_begun_and_begins_nothing() {
    let gate = Arc::new(Notify::new());
    let until = Arc::clone(&gate);
    let play = Play::new(move |_| Try::Waits(Arc::clone(&until)));
    for id in 1..=3 {
        play.enqueue(id).await;
    }
    let stopping = async {
        while play.begun().len() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
        play.told.cancel();
        sleep(Duration::from_secs(2)).await;
        gate.notify_waiters();
    };
    let working = play.workers.run(play.told.clone());
    let ended = timeout(PATIENCE, async { tokio::join!(working, stopping) });
    ended.await.expect("it stops");
    assert_eq!(play.begun().len(), 2);
    assert_eq!(play.workers.done.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_stopped_does_not_go_on_with_what_somebody_else_has() {
    let gate = Arc::new(Notify::new());
    let until = Arc::clone(&gate);
    let stopped = Play::new(move |_| Try::Waits(Arc::clone(&until)));
    stopped.enqueue(1).await;
    let mut working = Box::pin(stopped.workers.run(stopped.told.clone()));
    while stopped.begun().is_empty() {
        assert!(
            timeout(Duration::from_millis(10), &mut working)
                .await
                .is_err()
        );
    }
    // It is not polled for a minute, and meanwhile what it waited for has come.
    let other = Play::on(Arc::clone(&stopped.jobs), Vec::new(), |_| Try::Ends(Ok(())));
    sleep(Duration::from_secs(60)).await;
    other.works_until(0, 0).await;
    gate.notify_waiters();
    assert!(timeout(Duration::from_secs(5), &mut working).await.is_err());
    assert_eq!(
        (other.workers.done.get(), stopped.workers.done.get()),
        (1, 0)
    );
}

fn hourly() -> Vec<Schedule> {
    vec![Schedule::new("hourly", "work", "0 * * * *").expect("times")]
}

#[tokio::test(start_paused = true)]
async fn of_each_occurrence_one_job_is_done_however_many_nodes_there_are() {
    let jobs: Arc<Memory> = Arc::default();
    let nodes = [(); 3].map(|()| Play::on(Arc::clone(&jobs), hourly(), |_| Try::Ends(Ok(()))));
    let running = nodes.iter().map(|node| node.workers.run(node.told.clone()));
    let day = Duration::from_secs(24 * 60 * 60 + 60);
    assert!(timeout(day, join_all(running)).await.is_err());
    let done: u64 = nodes.iter().map(|node| node.workers.done.get()).sum();
    // That of the hour in which it began, which it is in time for, and 24 more.
    assert_eq!(done, 25);
}

#[tokio::test(start_paused = true)]
async fn of_what_nobody_saw_the_newest_is_made_up_for() {
    let jobs: Arc<Memory> = Arc::default();
    let clock: SharedClock = Arc::new(Time(Instant::now()));
    for hours in [0, 30] {
        sleep(Duration::from_secs(hours * 60 * 60)).await;
        let node = Play::on(Arc::clone(&jobs), hourly(), |_| Try::Ends(Ok(())));
        let ids = Arc::new(Ids::new(Arc::clone(&clock), Arc::new(Node::FIRST)));
        let enqueueing = schedule::keep(
            &node.workers.schedules,
            Arc::clone(&jobs) as _,
            ids,
            Arc::clone(&clock),
            node.told.clone(),
        );
        assert!(timeout(Duration::from_secs(60), enqueueing).await.is_err());
        let claimed = jobs.claim("work", 10, Duration::from_secs(1)).await;
        let claimed = claimed.expect("memory");
        assert_eq!(claimed.len(), 1);
        assert!(jobs.done(&claimed[0]).await.expect("memory"));
    }
}

#[test]
fn times_are_those_of_cron_in_utc() {
    let at = |times: &str, now: &str| {
        let now: jiff::Timestamp = now.parse().expect("a time");
        let schedule = Schedule::new("a", "a", times).expect("times");
        let newest = schedule.newest(now.as_millisecond()).expect("there is one");
        let newest = jiff::Timestamp::from_millisecond(newest).expect("a time");
        newest.to_string()
    };
    assert_eq!(
        at("30 3 * * *", "2026-11-22T03:29:59Z"),
        "2026-11-21T03:30:00Z"
    );
    assert_eq!(
        at("30 3 * * *", "2026-11-22T03:30:00Z"),
        "2026-11-22T03:30:00Z"
    );
    assert_eq!(
        at("0 0 29 2 *", "2026-11-22T03:30:00Z"),
        "2024-02-29T00:00:00Z"
    );
    assert_eq!(
        at("0 9 * * MON", "2026-11-22T12:00:00Z"),
        "2026-11-16T09:00:00Z"
    );
}

#[test]
fn times_that_can_not_be_read_are_refused() {
    for bad in ["", "never", "61 * * * *", "* * * *"] {
        let refused = Schedule::new("a", "a", bad).expect_err(bad);
        assert!(refused.to_string().contains("minute, hour"), "{refused}");
    }
}

#[test]
fn pauses_grow_to_their_most_and_are_not_the_same_for_all() {
    for (tries, most) in [(1, 1), (2, 2), (5, 16), (60, 3_600)] {
        let most = Duration::from_secs(most);
        let drawn: Vec<Duration> = (0..100).map(|_| pause_after(tries)).collect();
        assert!(drawn.iter().all(|p| *p >= most / 2 && *p <= most));
        assert!(drawn.iter().any(|p| *p != drawn[0]));
    }
}
