//! Schedules: jobs that are enqueued at their times, one for each occurrence in the whole deployment.
//!
//! Every node that does jobs looks for itself what has occurred, by its own clock, and asks for the job; the store
//! takes it from the first one. Of the occurrences that nobody saw, because no node was there, the newest is made up
//! for and the others are not.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rand::Rng as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{JobId, Jobs, NewJob};
use crate::clock::SharedClock;
use crate::error::Result;
use crate::id::Ids;

/// How often it is looked what has occurred. Each time is drawn from half of it to all of it.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// When a job is to be done, again and again.
#[derive(Debug, Clone)]
pub struct Schedule {
    name: &'static str,
    kind: &'static str,
    times: Cron,
}

/// What was written is no times.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not like \"30 3 * * *\": minute, hour, day of the month, month, day of the week")]
pub struct BadSchedule(String, #[source] croner::errors::CronError);

impl Schedule {
    /// A job of a kind at these times, which are written as for cron, in UTC. The name is for good: by it the store
    /// knows what has occurred.
    ///
    /// # Errors
    /// When the times can not be read.
    pub fn new(name: &'static str, kind: &'static str, times: &str) -> Result<Self, BadSchedule> {
        let read = Cron::from_str(times);
        let times = read.map_err(|why| BadSchedule(times.to_owned(), why))?;
        Ok(Schedule { name, kind, times })
    }

    /// The newest occurrence that is not after `now_ms`; both are milliseconds since 1970. None when there was none.
    pub fn newest(&self, now_ms: i64) -> Option<i64> {
        let now = Timestamp::from_millisecond(now_ms).ok()?;
        let now = now.to_zoned(TimeZone::UTC);
        let newest = self.times.find_previous_occurrence(&now, true).ok()?;
        Some(newest.timestamp().as_millisecond())
    }
}

/// Enqueues the jobs of these schedules until it is told to stop.
pub(super) async fn keep(
    schedules: &[Schedule],
    jobs: Arc<dyn Jobs>,
    ids: Arc<Ids>,
    clock: SharedClock,
    told: CancellationToken,
) {
    let mut seen: Vec<Option<i64>> = vec![None; schedules.len()];
    let mut fails = false;
    while !told.is_cancelled() {
        let mut failed = false;
        for (schedule, seen) in schedules.iter().zip(&mut seen) {
            let Some(newest) = schedule.newest(clock.now_ms()) else {
                continue;
            };
            if *seen == Some(newest) {
                continue;
            }
            match occurs(schedule, newest, &*jobs, &ids).await {
                Ok(()) => *seen = Some(newest),
                Err(failure) => {
                    failed = true;
                    if !fails {
                        let why = failure.cause_chain();
                        tracing::warn!(schedule = schedule.name, why, "a job can not be enqueued");
                    }
                }
            }
        }
        fails = failed;
        let pause = LOOK_EVERY.mul_f64(rand::rng().random_range(0.5..=1.0));
        told.run_until_cancelled(sleep(pause)).await;
    }
}

async fn occurs(schedule: &Schedule, at_ms: i64, jobs: &dyn Jobs, ids: &Ids) -> Result<()> {
    // Without a node id there will be one, or the node ends.
    let Ok(id) = ids.next() else {
        return Ok(());
    };
    let job = NewJob {
        id: JobId(id),
        kind: schedule.kind.to_owned(),
        about: schedule.name.to_owned(),
        delay: Duration::ZERO,
    };
    if jobs.enqueue_occurrence(schedule.name, at_ms, job).await? {
        tracing::info!(schedule = schedule.name, job = id, "a job is enqueued");
    }
    Ok(())
}
