//! Jobs in SQLite and in a real PostgreSQL: what is committed together, who was overtaken, and a database that is
//! killed.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tempfile::TempDir;
use tertulia_kit::instances::postgres::Instance;
use tertulia_kit::job::{Counts, Job, JobId, Jobs as _, NewJob, suite};
use tertulia_store::jobs::Jobs;
use tertulia_store::people::Engine;
use tertulia_store::postgres::{self, Postgres, Target};
use tertulia_store::sqlite::Sqlite;

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

async fn sqlite(folder: &TempDir) -> Jobs<sqlx::Sqlite> {
    let people = Sqlite::open(&folder.path().join("people.sqlite")).await;
    Jobs::beside(&people.unwrap())
}

async fn on_postgres(url: &str) -> Jobs<sqlx::Postgres> {
    let target: Target = url.parse().unwrap();
    postgres::prepare(&target).await.unwrap();
    Jobs::beside(&Postgres::of(&target))
}

fn new(id: i64) -> NewJob {
    NewJob {
        id: JobId(id),
        kind: "work".into(),
        about: "something".into(),
        delay: Duration::ZERO,
    }
}

async fn claimed<DB: Engine>(jobs: &Jobs<DB>, lasts: Duration) -> Option<Job> {
    jobs.claim("work", 1, lasts).await.unwrap().pop()
}

#[tokio::test]
async fn sqlite_keeps_the_promises_of_a_store_of_jobs() {
    let folder = TempDir::new().unwrap();
    suite::run(Arc::new(sqlite(&folder).await)).await;
}

#[tokio::test]
async fn postgres_keeps_the_promises_of_a_store_of_jobs() {
    let database = Instance::start();
    suite::run(Arc::new(on_postgres(&database.url()).await)).await;
}

/// A job is there if what it follows from is, and what it does is there if it is done.
async fn commits_are_whole<DB: Engine>(jobs: Jobs<DB>) {
    let mut tx = jobs.begin().await.unwrap();
    jobs.enqueue_in(&mut tx, &new(1)).await.unwrap();
    drop(tx);
    assert_eq!(jobs.counts().await.unwrap(), Counts::default());

    let mut tx = jobs.begin().await.unwrap();
    jobs.enqueue_in(&mut tx, &new(1)).await.unwrap();
    tx.commit().await.unwrap();
    let job = claimed(&jobs, Duration::ZERO).await.unwrap();

    // What it does is another job here.
    let mut tx = jobs.begin().await.unwrap();
    jobs.enqueue_in(&mut tx, &new(2)).await.unwrap();
    assert!(jobs.done_in(&mut tx, &job).await.unwrap());
    drop(tx);
    let overtaken = job;
    let job = claimed(&jobs, LONG).await.unwrap();
    assert_eq!((job.id, job.attempt), (JobId(1), 2));

    // Who held it before is late, and does nothing.
    let mut tx = jobs.begin().await.unwrap();
    jobs.enqueue_in(&mut tx, &new(3)).await.unwrap();
    assert!(!jobs.done_in(&mut tx, &overtaken).await.unwrap());
    drop(tx);

    let mut tx = jobs.begin().await.unwrap();
    jobs.enqueue_in(&mut tx, &new(2)).await.unwrap();
    assert!(jobs.done_in(&mut tx, &job).await.unwrap());
    tx.commit().await.unwrap();
    let next = claimed(&jobs, LONG).await.unwrap();
    assert_eq!(next.id, JobId(2));
    assert_eq!(claimed(&jobs, LONG).await, None);
}

#[tokio::test]
async fn a_job_and_what_it_follows_from_are_one_commit_in_sqlite() {
    let folder = TempDir::new().unwrap();
    commits_are_whole(sqlite(&folder).await).await;
}

#[tokio::test]
async fn a_job_and_what_it_follows_from_are_one_commit_in_postgres() {
    let database = Instance::start();
    commits_are_whole(on_postgres(&database.url()).await).await;
}

/// Does what a job asks for, which is another job here, if whoever holds it was not overtaken.
async fn takes_effect(jobs: &Jobs<sqlx::Postgres>, job: &Job) -> bool {
    let mut tx = jobs.begin().await.unwrap();
    let effect = NewJob {
        kind: "effect".into(),
        ..new(1_000 * job.id.0 + job.attempt)
    };
    jobs.enqueue_in(&mut tx, &effect).await.unwrap();
    let takes = matches!(jobs.done_in(&mut tx, job).await, Ok(true));
    if takes {
        tx.commit().await.unwrap();
    }
    takes
}

/// Of many nodes that are overtaken again and again, each job takes effect once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_takes_effect_once_whoever_is_overtaken() {
    let database = Instance::start();
    let jobs = on_postgres(&database.url()).await;
    for id in 1..=50 {
        jobs.enqueue(new(id)).await.unwrap();
    }
    let late = jobs.claim("work", 50, Duration::ZERO).await.unwrap();
    let overtaking = jobs.claim("work", 50, Duration::ZERO).await.unwrap();
    assert_eq!((late.len(), overtaking.len()), (50, 50));

    let jobs = &jobs;
    // The claims of most are so short that others have the job before it is done.
    let node = |lasts: Duration| async move {
        let effects = async || jobs.claim("effect", 50, Duration::ZERO).await.unwrap();
        while effects().await.len() < 50 {
            match claimed(jobs, lasts).await {
                Some(job) => drop(takes_effect(jobs, &job).await),
                None => tokio::task::yield_now().await,
            }
        }
    };
    let nodes = join_all([0, 0, 0, 200].map(Duration::from_millis).map(node));
    let overtaken = async {
        for job in &late {
            assert!(!takes_effect(jobs, job).await, "{job:?} was overtaken");
        }
    };
    tokio::join!(nodes, overtaken);
    let effects = jobs.claim("effect", 1_000, LONG).await.unwrap();
    let mut of: Vec<i64> = effects.iter().map(|effect| effect.id.0 / 1_000).collect();
    of.sort_unstable();
    assert_eq!(of, Vec::from_iter(1..=50));
}

#[tokio::test]
async fn what_was_enqueued_and_what_has_occurred_outlives_a_crash_of_the_database() {
    let mut database = Instance::start();
    let jobs = on_postgres(&database.url()).await;
    for round in 1..=3 {
        assert!(
            jobs.enqueue_occurrence("s", round, new(round))
                .await
                .unwrap()
        );
        let held = claimed(&jobs, LONG).await.unwrap();
        database.kill();
        assert!(jobs.done(&held).await.is_err());
        database.restart();
        assert!(!jobs.enqueue_occurrence("s", round, new(99)).await.unwrap());
        assert_eq!(claimed(&jobs, LONG).await, None, "it is still held");
        assert!(jobs.done(&held).await.unwrap());
    }
    assert_eq!(jobs.counts().await.unwrap(), Counts::default());
}

#[tokio::test]
async fn jobs_in_sqlite_are_there_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let jobs = sqlite(&folder).await;
    jobs.enqueue(new(1)).await.unwrap();
    drop(jobs);
    let jobs = sqlite(&folder).await;
    assert_eq!(claimed(&jobs, LONG).await.unwrap().id, JobId(1));
}
