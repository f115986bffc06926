//! Does jobs: looks for those that are due, runs them, and says how they ended.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use rand::Rng as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Job, Jobs, Schedule, schedule};
use crate::clock::SharedClock;
use crate::error::{Failure, Result};
use crate::id::Ids;
use crate::lease::within;
use crate::lifecycle;
use crate::metrics::Counter;

/// How often it is looked what is due. Each time is drawn from half of it to all of it, so that nodes do not look
/// together.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long it waits before a job is tried again: at first, and at most.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(3_600);
/// Which part of its time is left when a job is given up: for what it has under way, and for clocks that do not go
/// equally fast.
const MARGIN: u32 = 5;
/// How often the store is told how a job ended before that is given up, and how long is waited between.
const TOLD_MAX: u32 = 5;
const TELL_AGAIN: Duration = Duration::from_millis(200);
/// The longest words that are kept of why a job failed.
const WHY_CHARS_MAX: usize = 500;

/// How a sort of job is done.
#[async_trait]
pub trait Handler: Send + Sync {
    /// What the jobs are called that it does. For good: they may be from an older version of the program.
    fn kind(&self) -> &'static str;

    /// How long one try may take. It is dropped where it waits when that is over, a little earlier for safety.
    fn lasts(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// How often it is tried before people must look at it.
    fn tries_max(&self) -> i64 {
        10
    }

    /// How many are done at once on a node.
    fn at_once(&self) -> usize {
        1
    }

    /// Does one. It may have been done before, in part or whole.
    ///
    /// # Errors
    /// When it is to be tried again, or never will be done.
    async fn run(&self, job: &Job) -> Result<(), Failed>;
}

/// A try that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Why, in words for operators.
    pub why: String,
    /// Another try would end as this one.
    pub for_good: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        let why = failure.cause_chain();
        Failed {
            why: why.unwrap_or_else(|| failure.words().to_owned()),
            for_good: false,
        }
    }
}

/// Who does jobs on a node.
pub struct Workers {
    jobs: Arc<dyn Jobs>,
    handlers: Vec<Box<dyn Handler>>,
    schedules: Vec<Schedule>,
    ids: Arc<Ids>,
    clock: SharedClock,
    /// How many were done.
    pub done: Counter,
    /// How many tries came to nothing.
    pub failed: Counter,
    /// How many were set aside.
    pub buried: Counter,
}

impl Workers {
    /// Those who do the jobs of these handlers, and ask for jobs at the times of these schedules.
    pub fn new(
        jobs: Arc<dyn Jobs>,
        handlers: Vec<Box<dyn Handler>>,
        schedules: Vec<Schedule>,
        ids: Arc<Ids>,
        clock: SharedClock,
    ) -> Arc<Self> {
        Arc::new(Workers {
            jobs,
            handlers,
            schedules,
            ids,
            clock,
            done: Counter::default(),
            failed: Counter::default(),
            buried: Counter::default(),
        })
    }

    /// Does what is due until it is told to stop, and then finishes what it has begun.
    pub async fn run(&self, told: CancellationToken) {
        let (jobs, ids) = (Arc::clone(&self.jobs), Arc::clone(&self.ids));
        let clock = Arc::clone(&self.clock);
        let enqueueing = schedule::keep(&self.schedules, jobs, ids, clock, told.clone());
        let doing = self
            .handlers
            .iter()
            .map(|handler| self.keep_doing(&**handler, &told));
        tokio::join!(enqueueing, join_all(doing));
    }

    async fn keep_doing(&self, handler: &dyn Handler, told: &CancellationToken) {
        let mut running = FuturesUnordered::new();
        let mut fails = false;
        loop {
            if !told.is_cancelled() && running.len() < handler.at_once() {
                let free = handler.at_once() - running.len();
                let claimed_at = Instant::now();
                let claimed = self.jobs.claim(handler.kind(), free, handler.lasts()).await;
                if let Err(failure) = &claimed
                    && !fails
                {
                    let why = failure.cause_chain();
                    tracing::warn!(kind = handler.kind(), why, "jobs can not be looked for");
                }
                fails = claimed.is_err();
                for job in claimed.unwrap_or_default() {
                    running.push(self.try_one(handler, job, claimed_at));
                }
            }
            if told.is_cancelled() && running.is_empty() {
                return;
            }
            let pause = LOOK_EVERY.mul_f64(rand::rng().random_range(0.5..=1.0));
            tokio::select! {
                Some(()) = running.next() => {}
                () = told.cancelled(), if !told.is_cancelled() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Tries a job once and says how that ended.
    async fn try_one(&self, handler: &dyn Handler, job: Job, claimed_at: Instant) {
        let (kind, id, attempt) = (handler.kind(), job.id, job.attempt);
        if job.tries() > handler.tries_max() {
            // It may be what ended the process each time.
            let why = format!("it was begun {} times and never ended", job.tries() - 1);
            return self.bury(&job, &why).await;
        }
        let until = claimed_at + (handler.lasts() - handler.lasts() / MARGIN);
        let trying = lifecycle::catch(handler.run(&job)).boxed();
        let ended = match within(until, trying).await {
            Some(Ok(ended)) => ended,
            Some(Err(panicked)) => Err(Failed {
                why: panicked.to_string(),
                for_good: false,
            }),
            None => Err(Failed {
                why: format!("it was not done within {} s", handler.lasts().as_secs()),
                for_good: false,
            }),
        };
        let Err(Failed { why, for_good }) = ended else {
            self.done.add(1);
            let jobs = &self.jobs;
            return match tell(|| jobs.done(&job)).await {
                true => tracing::debug!(kind, %id, attempt, "a job is done"),
                false => tracing::warn!(kind, %id, attempt, "a job is done, and may be done again"),
            };
        };
        self.failed.add(1);
        let why: String = why.chars().take(WHY_CHARS_MAX).collect();
        if for_good || job.tries() >= handler.tries_max() {
            return self.bury(&job, &why).await;
        }
        let delay = pause_after(job.tries());
        tracing::warn!(kind, %id, attempt, why, "a job failed, and is tried again in {} s", delay.as_secs());
        let jobs = &self.jobs;
        // Who is not told of it tries the job again when the claim is over.
        _ = tell(|| jobs.again(&job, delay, &why)).await;
    }

    async fn bury(&self, job: &Job, why: &str) {
        let (kind, id, attempt) = (job.kind.as_str(), job.id, job.attempt);
        tracing::error!(kind, %id, attempt, why, "a job failed for good: it waits for somebody to replay it");
        self.buried.add(1);
        _ = tell(|| self.jobs.bury(job, why)).await;
    }
}

/// How long a job waits after so many tries; not the same for all.
fn pause_after(tries: i64) -> Duration {
    let doublings = u32::try_from(tries - 1).unwrap_or(0);
    let most = AGAIN_FIRST.saturating_mul(2_u32.saturating_pow(doublings));
    most.min(AGAIN_MAX)
        .mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Says how a job ended, again when the store is away for a moment. False when it did not take it.
async fn tell<F>(mut say: impl FnMut() -> F) -> bool
where
    F: Future<Output = Result<bool>>,
{
    for _ in 1..TOLD_MAX {
        match say().await {
            Ok(taken) => return taken,
            Err(_) => sleep(TELL_AGAIN).await,
        }
    }
    say().await.unwrap_or(false)
}

#[cfg(test)]
mod tests;
