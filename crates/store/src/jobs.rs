//! Jobs in tables, by one text for each query in every engine of SQL. They are where people are, so that a job can be
//! enqueued in the commit of what it follows from, and ended in the commit of what it does.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Database, Transaction};
use tertulia_kit::error::Result;
use tertulia_kit::job::{self, Counts, Dead, Job, JobId, NewJob};

use crate::people::{Engine, Line, People, again, failure, query};

/// The jobs of a database. Clones share the connections.
#[derive(Debug)]
pub struct Jobs<DB: Database>(People<DB>);

impl<DB: Database> Clone for Jobs<DB> {
    fn clone(&self) -> Self {
        Jobs(self.0.clone())
    }
}

impl<DB: Engine> Jobs<DB> {
    /// Those beside these people.
    pub fn beside(people: &People<DB>) -> Self {
        Jobs(people.clone())
    }

    /// Begins a transaction, for what a job follows from or what it does. Dropped without a commit, it changes nothing.
    ///
    /// # Errors
    /// The failure of the database.
    pub async fn begin(&self) -> Result<Transaction<'static, DB>> {
        self.0.begin().await.map_err(failure)
    }

    /// Enqueues a job in the commit of a transaction: it is there if and only if everything else in it is.
    ///
    /// # Errors
    /// The failure of the database.
    pub async fn enqueue_in(&self, tx: &mut Transaction<'static, DB>, job: &NewJob) -> Result<()> {
        let now_ms = self.now(tx).await.map_err(failure)?;
        insert::<DB>(tx, job, now_ms).await.map_err(failure)
    }

    /// Ends a job in the commit of a transaction. False when it is not held by this claim any more: then the
    /// transaction must be dropped, because what it does is done by somebody else. Nobody else gets the job while it is
    /// open.
    ///
    /// # Errors
    /// The failure of the database.
    pub async fn done_in(&self, tx: &mut Transaction<'static, DB>, job: &Job) -> Result<bool> {
        remove::<DB>(tx, job).await.map_err(failure)
    }

    async fn now(&self, connection: &mut DB::Connection) -> Result<i64, sqlx::Error> {
        let rows = DB::run(connection, query(self.0.now)).await?;
        rows.first().ok_or(sqlx::Error::RowNotFound)?.int(0)
    }

    async fn enqueue_once(
        &self,
        occurrence: Option<(&str, i64)>,
        job: &NewJob,
    ) -> Result<bool, sqlx::Error> {
        let mut tx = self.0.begin().await?;
        if let Some((schedule, at_ms)) = occurrence {
            // Of two at once the second waits here, and finds that it comes too late.
            let take = query(
                "INSERT INTO job_schedules (schedule, newest_ms) VALUES ($1, $2)
                 ON CONFLICT (schedule) DO UPDATE SET newest_ms = excluded.newest_ms
                 WHERE job_schedules.newest_ms < excluded.newest_ms
                 RETURNING newest_ms",
            );
            let taken = DB::run(&mut tx, take.with(schedule).with(at_ms)).await?;
            if taken.is_empty() {
                return Ok(false);
            }
        }
        let now_ms = self.now(&mut tx).await?;
        insert::<DB>(&mut tx, job, now_ms).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn claim_once(
        &self,
        kind: &str,
        limit: i64,
        lasts: Duration,
    ) -> Result<Vec<Job>, sqlx::Error> {
        let now_ms = {
            let rows = self.0.read(query(self.0.now)).await?;
            rows.first().ok_or(sqlx::Error::RowNotFound)?.int(0)?
        };
        // Who waited for a row that somebody else has claimed meanwhile finds that it is not due any more.
        let claim = query(
            "UPDATE jobs SET attempt = attempt + 1, due_ms = $1
             WHERE dead_at_ms IS NULL AND due_ms <= $2 AND job_id IN (
                 SELECT job_id FROM jobs WHERE kind = $3 AND dead_at_ms IS NULL AND due_ms <= $2
                 ORDER BY due_ms, job_id LIMIT $4)
             RETURNING job_id, kind, about, attempt, begun_before",
        );
        let claim = claim.with(now_ms.saturating_add(millis(lasts)));
        let claim = claim.with(now_ms).with(kind).with(limit);
        let rows = self.0.write(claim).await?;
        rows.iter().map(read).collect()
    }

    /// Changes the row of a job that a claim holds; whether it does.
    async fn change(&self, job: &Job, due_in: Option<Duration>, why: &str) -> Result<bool> {
        let changed = again(|| async {
            let rows = self.0.read(query(self.0.now)).await?;
            let now_ms = rows.first().ok_or(sqlx::Error::RowNotFound)?.int(0)?;
            let change = match due_in {
                Some(delay) => query(
                    "UPDATE jobs SET due_ms = $1, why = $2
                     WHERE job_id = $3 AND attempt = $4 AND dead_at_ms IS NULL RETURNING job_id",
                )
                .with(now_ms.saturating_add(millis(delay))),
                None => query(
                    "UPDATE jobs SET dead_at_ms = $1, why = $2
                     WHERE job_id = $3 AND attempt = $4 AND dead_at_ms IS NULL RETURNING job_id",
                )
                .with(now_ms),
            };
            let change = change.with(why).with(job.id.0).with(job.attempt);
            self.0.write(change).await
        });
        Ok(changed.await?.len() == 1)
    }
}

#[async_trait]
impl<DB: Engine> job::Jobs for Jobs<DB> {
    async fn enqueue(&self, job: NewJob) -> Result<()> {
        again(|| self.enqueue_once(None, &job)).await.map(drop)
    }

    async fn enqueue_occurrence(&self, schedule: &str, at_ms: i64, job: NewJob) -> Result<bool> {
        again(|| self.enqueue_once(Some((schedule, at_ms)), &job)).await
    }

    async fn claim(&self, kind: &str, limit: usize, lasts: Duration) -> Result<Vec<Job>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        again(|| self.claim_once(kind, limit, lasts)).await
    }

    async fn done(&self, job: &Job) -> Result<bool> {
        again(|| async {
            let mut connection = self.0.writer.acquire().await?;
            remove::<DB>(&mut connection, job).await
        })
        .await
    }

    async fn again(&self, job: &Job, delay: Duration, why: &str) -> Result<bool> {
        self.change(job, Some(delay), why).await
    }

    async fn bury(&self, job: &Job, why: &str) -> Result<bool> {
        self.change(job, None, why).await
    }

    async fn dead(&self, after: JobId, limit: usize) -> Result<Vec<Dead>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = query(
            "SELECT job_id, kind, about, attempt, begun_before, dead_at_ms, why FROM jobs
             WHERE dead_at_ms IS NOT NULL AND job_id > $1 ORDER BY job_id LIMIT $2",
        );
        let rows = self.0.read(found.with(after.0).with(limit)).await;
        let rows = rows.map_err(failure)?;
        let dead = rows.iter().map(|row| {
            Ok(Dead {
                job: read(row)?,
                at_ms: row.int(5)?,
                why: row.text(6)?,
            })
        });
        dead.collect::<Result<_, _>>().map_err(failure)
    }

    async fn replay(&self, id: JobId) -> Result<bool> {
        let replayed = again(|| async {
            let replay = query(
                "UPDATE jobs SET dead_at_ms = NULL, due_ms = 0, begun_before = attempt
                 WHERE job_id = $1 AND dead_at_ms IS NOT NULL RETURNING job_id",
            );
            self.0.write(replay.with(id.0)).await
        });
        Ok(replayed.await?.len() == 1)
    }

    async fn forget(&self, id: JobId) -> Result<bool> {
        let forgotten = again(|| async {
            let forget = query(
                "DELETE FROM jobs WHERE job_id = $1 AND dead_at_ms IS NOT NULL RETURNING job_id",
            );
            self.0.write(forget.with(id.0)).await
        });
        Ok(forgotten.await?.len() == 1)
    }

    async fn counts(&self) -> Result<Counts> {
        let count = query("SELECT COUNT(*) - COUNT(dead_at_ms), COUNT(dead_at_ms) FROM jobs");
        let rows = self.0.read(count).await.map_err(failure)?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound);
        let row = row.map_err(failure)?;
        Ok(Counts {
            open: row.int(0).map_err(failure)?.unsigned_abs(),
            dead: row.int(1).map_err(failure)?.unsigned_abs(),
        })
    }
}

async fn insert<DB: Engine>(
    connection: &mut DB::Connection,
    job: &NewJob,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let add = query(
        "INSERT INTO jobs (job_id, kind, about, attempt, begun_before, due_ms, why)
         VALUES ($1, $2, $3, 0, 0, $4, '') ON CONFLICT (job_id) DO NOTHING",
    );
    let add = add.with(job.id.0).with(&*job.kind).with(&*job.about);
    let add = add.with(now_ms.saturating_add(millis(job.delay)));
    DB::run(connection, add).await.map(drop)
}

async fn remove<DB: Engine>(
    connection: &mut DB::Connection,
    job: &Job,
) -> Result<bool, sqlx::Error> {
    let remove = query(
        "DELETE FROM jobs WHERE job_id = $1 AND attempt = $2 AND dead_at_ms IS NULL RETURNING job_id",
    );
    let removed = DB::run(connection, remove.with(job.id.0).with(job.attempt)).await?;
    Ok(removed.len() == 1)
}

fn read(row: &impl Line) -> Result<Job, sqlx::Error> {
    Ok(Job {
        id: JobId(row.int(0)?),
        kind: row.text(1)?,
        about: row.text(2)?,
        attempt: row.int(3)?,
        begun_before: row.int(4)?,
    })
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
