//! Jobs in memory: for tests of those who ask for them and of those who do them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Counts, Dead, Job, JobId, Jobs, NewJob};
use crate::error::Result;

/// They. Their time is tokio's.
#[derive(Debug)]
pub struct Memory {
    began: Instant,
    // Guards all of it, for one call.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    jobs: BTreeMap<JobId, Row>,
    /// The newest occurrence of each schedule.
    occurred: HashMap<String, i64>,
}

#[derive(Debug)]
struct Row {
    job: Job,
    /// When it may begin; of a job that is held, when its claim is over.
    due: Instant,
    /// When it failed for good, and why.
    dead: Option<(i64, String)>,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            began: Instant::now(),
            kept: Mutex::default(),
        }
    }
}

impl Kept {
    fn enqueue(&mut self, new: NewJob) {
        let NewJob {
            id,
            kind,
            about,
            delay,
        } = new;
        self.jobs.entry(id).or_insert_with(|| Row {
            job: Job {
                id,
                kind,
                about,
                attempt: 0,
                begun_before: 0,
            },
            due: Instant::now() + delay,
            dead: None,
        });
    }

    /// The row of a job, if this claim holds it.
    fn held(&mut self, job: &Job) -> Option<&mut Row> {
        let row = self.jobs.get_mut(&job.id);
        row.filter(|row| row.dead.is_none() && row.job.attempt == job.attempt)
    }

    fn dead(&mut self, id: JobId) -> Option<&mut Row> {
        self.jobs.get_mut(&id).filter(|row| row.dead.is_some())
    }
}

#[async_trait]
impl Jobs for Memory {
    async fn enqueue(&self, job: NewJob) -> Result<()> {
        self.kept.lock().enqueue(job);
        Ok(())
    }

    async fn enqueue_occurrence(&self, schedule: &str, at_ms: i64, job: NewJob) -> Result<bool> {
        let mut kept = self.kept.lock();
        let newest = kept.occurred.entry(schedule.to_owned()).or_insert(i64::MIN);
        if *newest >= at_ms {
            return Ok(false);
        }
        *newest = at_ms;
        kept.enqueue(job);
        Ok(true)
    }

    async fn claim(&self, kind: &str, limit: usize, lasts: Duration) -> Result<Vec<Job>> {
        let (mut kept, now) = (self.kept.lock(), Instant::now());
        let rows = kept.jobs.values_mut();
        let mut due: Vec<&mut Row> = rows
            .filter(|row| row.dead.is_none() && row.job.kind == kind && row.due <= now)
            .collect();
        due.sort_by_key(|row| (row.due, row.job.id));
        let claimed = due.into_iter().take(limit).map(|row| {
            row.job.attempt += 1;
            row.due = now + lasts;
            row.job.clone()
        });
        Ok(claimed.collect())
    }

    async fn done(&self, job: &Job) -> Result<bool> {
        let mut kept = self.kept.lock();
        let is_held = kept.held(job).is_some();
        if is_held {
            kept.jobs.remove(&job.id);
        }
        Ok(is_held)
    }

    async fn again(&self, job: &Job, delay: Duration, _why: &str) -> Result<bool> {
        let mut kept = self.kept.lock();
        let held = kept.held(job);
        Ok(held.map(|row| row.due = Instant::now() + delay).is_some())
    }

    async fn bury(&self, job: &Job, why: &str) -> Result<bool> {
        let at_ms = self.began.elapsed().as_millis() as i64;
        let mut kept = self.kept.lock();
        let held = kept.held(job);
        Ok(held
            .map(|row| row.dead = Some((at_ms, why.to_owned())))
            .is_some())
    }

    async fn dead(&self, after: JobId, limit: usize) -> Result<Vec<Dead>> {
        let kept = self.kept.lock();
        let rows = kept.jobs.range(JobId(after.0.saturating_add(1))..);
        let dead = rows.filter_map(|(_, row)| {
            let (at_ms, why) = row.dead.clone()?;
            let job = row.job.clone();
            Some(Dead { job, at_ms, why })
        });
        Ok(dead.take(limit).collect())
    }

    async fn replay(&self, id: JobId) -> Result<bool> {
        let mut kept = self.kept.lock();
        let dead = kept.dead(id).map(|row| {
            row.dead = None;
            row.due = Instant::now();
            row.job.begun_before = row.job.attempt;
        });
        Ok(dead.is_some())
    }

    async fn forget(&self, id: JobId) -> Result<bool> {
        let mut kept = self.kept.lock();
        let is_dead = kept.dead(id).is_some();
        if is_dead {
            kept.jobs.remove(&id);
        }
        Ok(is_dead)
    }

    async fn counts(&self) -> Result<Counts> {
        let kept = self.kept.lock();
        let dead = kept.jobs.values().filter(|row| row.dead.is_some()).count();
        Ok(Counts {
            open: (kept.jobs.len() - dead) as u64,
            dead: dead as u64,
        })
    }
}
