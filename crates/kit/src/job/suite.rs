//! What every store of jobs does as long as it is there. An adapter passes [`run`] with one that keeps none yet.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{Counts, Job, JobId, Jobs, NewJob};

type SharedJobs = Arc<dyn Jobs>;

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);
/// So short that it is over soon.
const SHORT: Duration = Duration::from_millis(20);

/// Runs all claims on one store, each with kinds and ids of its own.
///
/// # Panics
/// When a claim does not hold.
pub async fn run(jobs: SharedJobs) {
    nothing_is_due_where_nothing_was_asked_for(&jobs).await;
    what_was_asked_for_is_held_by_one_and_forgotten_when_it_is_done(&jobs).await;
    what_is_asked_for_twice_is_there_once(&jobs).await;
    a_job_waits_for_its_time(&jobs).await;
    who_waited_longest_is_first_and_a_limit_holds(&jobs).await;
    of_many_who_claim_at_once_each_gets_others(&jobs).await;
    a_claim_that_is_over_passes_on_and_its_holder_is_refused(&jobs).await;
    what_failed_is_tried_again_later(&jobs).await;
    what_failed_for_good_is_set_aside_until_somebody_replays_it(&jobs).await;
    what_failed_for_good_can_be_forgotten(&jobs).await;
    of_an_occurrence_there_is_one_job(&jobs).await;
    no_occurrence_comes_before_one_that_was(&jobs).await;
}

fn new(kind: &str, id: i64) -> NewJob {
    NewJob {
        id: JobId(id),
        kind: kind.to_owned(),
        about: format!("about {kind} {id}"),
        delay: Duration::ZERO,
    }
}

async fn enqueue(jobs: &SharedJobs, job: NewJob) {
    jobs.enqueue(job).await.expect("it is there");
}

async fn claim(jobs: &SharedJobs, kind: &str, limit: usize, lasts: Duration) -> Vec<Job> {
    jobs.claim(kind, limit, lasts).await.expect("it is there")
}

/// Asks until there is one, however long that takes.
async fn wait_for(jobs: &SharedJobs, kind: &str, lasts: Duration) -> Job {
    loop {
        if let Some(job) = claim(jobs, kind, 1, lasts).await.pop() {
            return job;
        }
        tokio::task::yield_now().await;
    }
}

fn ids(jobs: &[Job]) -> Vec<i64> {
    jobs.iter().map(|job| job.id.0).collect()
}

async fn nothing_is_due_where_nothing_was_asked_for(jobs: &SharedJobs) {
    assert_eq!(claim(jobs, "nothing", 10, LONG).await, []);
    assert_eq!(jobs.counts().await.expect("it is there"), Counts::default());
}

async fn what_was_asked_for_is_held_by_one_and_forgotten_when_it_is_done(jobs: &SharedJobs) {
    enqueue(jobs, new("one", 100)).await;
    let held = claim(jobs, "one", 10, LONG).await;
    let [job] = &held[..] else {
        panic!("one is due: {held:?}")
    };
    assert_eq!((job.id.0, job.kind.as_str()), (100, "one"));
    assert_eq!(job.about, "about one 100");
    assert_eq!((job.attempt, job.tries()), (1, 1));
    assert_eq!(claim(jobs, "one", 10, LONG).await, []);
    assert_eq!(claim(jobs, "another", 10, LONG).await, []);
    let counts = jobs.counts().await.expect("it is there");
    assert_eq!((counts.open, counts.dead), (1, 0));
    assert!(jobs.done(job).await.expect("it is there"));
    assert!(!jobs.done(job).await.expect("it is there"));
    assert_eq!(jobs.counts().await.expect("it is there"), Counts::default());
}

async fn what_is_asked_for_twice_is_there_once(jobs: &SharedJobs) {
    enqueue(jobs, new("twice", 200)).await;
    enqueue(jobs, new("twice", 200)).await;
    let held = claim(jobs, "twice", 10, LONG).await;
    assert_eq!(ids(&held), [200]);
    enqueue(jobs, new("twice", 200)).await;
    assert_eq!(claim(jobs, "twice", 10, LONG).await, []);
    assert!(jobs.done(&held[0]).await.expect("it is there"));
}

async fn a_job_waits_for_its_time(jobs: &SharedJobs) {
    let delay = LONG;
    enqueue(
        jobs,
        NewJob {
            delay,
            ..new("later", 300)
        },
    )
    .await;
    assert_eq!(claim(jobs, "later", 10, LONG).await, []);
    let delay = SHORT;
    enqueue(
        jobs,
        NewJob {
            delay,
            ..new("soon", 301)
        },
    )
    .await;
    assert_eq!(wait_for(jobs, "soon", LONG).await.id, JobId(301));
}

async fn who_waited_longest_is_first_and_a_limit_holds(jobs: &SharedJobs) {
    for id in [402, 401] {
        enqueue(jobs, new("queue", id)).await;
    }
    let delay = SHORT;
    enqueue(
        jobs,
        NewJob {
            delay,
            ..new("queue", 403)
        },
    )
    .await;
    let first = claim(jobs, "queue", 2, LONG).await;
    let mut first = ids(&first);
    first.sort_unstable();
    assert_eq!(first, [401, 402]);
    assert_eq!(wait_for(jobs, "queue", LONG).await.id, JobId(403));
}

async fn of_many_who_claim_at_once_each_gets_others(jobs: &SharedJobs) {
    for id in 500..520 {
        enqueue(jobs, new("many", id)).await;
    }
    let mut held = Vec::new();
    while held.len() < 20 {
        let claims = (0..8).map(|_| claim(jobs, "many", 3, LONG));
        let got = join_all(claims).await;
        held.extend(got.iter().flat_map(|jobs| ids(jobs)));
    }
    held.sort_unstable();
    assert_eq!(held, Vec::from_iter(500..520));
}

async fn a_claim_that_is_over_passes_on_and_its_holder_is_refused(jobs: &SharedJobs) {
    enqueue(jobs, new("over", 600)).await;
    let first = wait_for(jobs, "over", SHORT).await;
    let second = wait_for(jobs, "over", LONG).await;
    assert_eq!(second.id, first.id);
    assert!(second.attempt > first.attempt);
    assert!(!jobs.done(&first).await.expect("it is there"));
    let again = jobs.again(&first, Duration::ZERO, "it is late").await;
    assert!(!again.expect("it is there"));
    let buried = jobs.bury(&first, "it is late").await;
    assert!(!buried.expect("it is there"));
    assert_eq!(claim(jobs, "over", 10, LONG).await, []);
    assert!(jobs.done(&second).await.expect("it is there"));
}

async fn what_failed_is_tried_again_later(jobs: &SharedJobs) {
    enqueue(jobs, new("fails", 700)).await;
    let first = wait_for(jobs, "fails", LONG).await;
    let again = jobs.again(&first, Duration::ZERO, "not today").await;
    assert!(again.expect("it is there"));
    let second = wait_for(jobs, "fails", LONG).await;
    assert_eq!((second.attempt, second.tries()), (2, 2));
    let again = jobs.again(&second, LONG, "not today").await;
    assert!(again.expect("it is there"));
    assert_eq!(claim(jobs, "fails", 10, LONG).await, []);
}

async fn what_failed_for_good_is_set_aside_until_somebody_replays_it(jobs: &SharedJobs) {
    for id in [801, 802] {
        enqueue(jobs, new("dead", id)).await;
        let job = wait_for(jobs, "dead", SHORT).await;
        assert!(
            jobs.bury(&job, "it is hopeless")
                .await
                .expect("it is there")
        );
        assert!(!jobs.done(&job).await.expect("it is there"));
    }
    let all = jobs.dead(JobId(0), 10).await.expect("it is there");
    let dead: Vec<i64> = all.iter().map(|dead| dead.job.id.0).collect();
    assert_eq!(dead, [801, 802]);
    assert_eq!(all[0].why, "it is hopeless");
    assert_eq!(all[0].job.about, "about dead 801");
    let page = jobs.dead(JobId(801), 1).await.expect("it is there");
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].job.id, JobId(802));
    assert_eq!(jobs.counts().await.expect("it is there").dead, 2);
    // However late it is.
    assert_eq!(claim(jobs, "dead", 10, LONG).await, []);

    assert!(jobs.replay(JobId(801)).await.expect("it is there"));
    assert!(!jobs.replay(JobId(801)).await.expect("it is there"));
    let replayed = wait_for(jobs, "dead", LONG).await;
    assert_eq!(replayed.id, JobId(801));
    assert_eq!((replayed.attempt, replayed.tries()), (2, 1));
    assert!(jobs.done(&replayed).await.expect("it is there"));
    assert!(jobs.forget(JobId(802)).await.expect("it is there"));
}

async fn what_failed_for_good_can_be_forgotten(jobs: &SharedJobs) {
    enqueue(jobs, new("forgotten", 900)).await;
    assert!(!jobs.forget(JobId(900)).await.expect("it is there"));
    assert!(!jobs.replay(JobId(900)).await.expect("it is there"));
    let job = wait_for(jobs, "forgotten", LONG).await;
    assert!(
        jobs.bury(&job, "it is hopeless")
            .await
            .expect("it is there")
    );
    assert!(jobs.forget(JobId(900)).await.expect("it is there"));
    assert!(!jobs.forget(JobId(900)).await.expect("it is there"));
    assert_eq!(jobs.dead(JobId(0), 10).await.expect("it is there"), []);
}

async fn occurs(jobs: &SharedJobs, schedule: &str, at_ms: i64, id: i64) -> bool {
    let job = new(schedule, id);
    let enqueued = jobs.enqueue_occurrence(schedule, at_ms, job).await;
    enqueued.expect("it is there")
}

async fn of_an_occurrence_there_is_one_job(jobs: &SharedJobs) {
    for round in 1..=5 {
        let asking = (0..8).map(|n| occurs(jobs, "hourly", round, 1_000 + 10 * round + n));
        let enqueued = join_all(asking).await;
        assert_eq!(enqueued.into_iter().filter(|by| *by).count(), 1);
        let held = claim(jobs, "hourly", 10, LONG).await;
        assert_eq!(held.len(), 1);
        assert!(jobs.done(&held[0]).await.expect("it is there"));
        // Also when its job is done.
        assert!(!occurs(jobs, "hourly", round, 1_009 + 10 * round).await);
    }
}

async fn no_occurrence_comes_before_one_that_was(jobs: &SharedJobs) {
    assert!(occurs(jobs, "daily", 50, 1_100).await);
    assert!(!occurs(jobs, "daily", 49, 1_101).await);
    assert!(occurs(jobs, "other", 49, 1_102).await);
    assert_eq!(claim(jobs, "daily", 10, LONG).await.len(), 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_promises_of_a_store_of_jobs() {
        run(Arc::new(super::super::Memory::default())).await;
    }
}
