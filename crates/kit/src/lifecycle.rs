//! How a node starts, fails and stops. Every task has a [`Kind`], and the kind says what a stop and a
//! failure mean for it:
//!
//! | kind         | told to stop | then                             | a failure or a panic               |
//! |--------------|--------------|----------------------------------|------------------------------------|
//! | `Door`       | first        | accepts nobody any more, ends    | stops the node; so does an early end |
//! | `Connection` | second       | says goodbye inside the grace    | ends it alone                      |
//! | `Work`       | third        | finishes, or leaves a whole step | ends it alone, logged              |
//! | a loop       | third        | finishes its round               | again after a pause; the third within a minute stops the node |
//!
//! The stores close last, so that whoever still works can still write. What outlasts its grace is dropped
//! where it waits. A task of any kind costs one allocation; there is no list of tasks.
//!
//! To stop is asked by a signal, an operator or a failure ([`Lifecycle::ask_to_stop`]); the owner of the
//! node waits for it ([`Lifecycle::asked_to_stop`]) and then runs [`Lifecycle::stop`].

mod panics;
mod signals;
mod word;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

pub use panics::{Panicked, catch, log_panics};
pub use signals::{Signals, signals};
pub use word::Heard;

use word::Word;

/// What a task is; see the table above. Loops are started by [`Lifecycle::spawn_loop`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Accepts those who come.
    Door,
    /// Serves one of them.
    Connection,
    /// What ends by itself.
    Work,
}

/// Why the node stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoppedBy {
    /// The system said so.
    Signal(&'static str),
    /// Somebody said so.
    Asked(&'static str),
    /// It is to begin anew in its own place, with nothing of what it has in memory; why.
    Anew(&'static str),
    /// A task that the node can not be without failed. The process should end with an error.
    Failed { name: &'static str, problem: String },
}

impl fmt::Display for StoppedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoppedBy::Signal(name) => write!(f, "signal {name}"),
            StoppedBy::Asked(why) => f.write_str(why),
            StoppedBy::Anew(why) => write!(f, "it begins anew, as {why}"),
            StoppedBy::Failed { name, problem } => write!(f, "{name} failed: {problem}"),
        }
    }
}

/// How long each phase of a stop may take.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    /// For the doors to shut.
    pub doors: Duration,
    /// For the connections to say goodbye.
    pub connections: Duration,
    /// For loops and work to finish.
    pub work: Duration,
    /// For each store to close.
    pub close: Duration,
}

impl Grace {
    /// So long for the connections; what has little to do gets little time.
    pub fn of_connections(connections: Duration) -> Self {
        Grace {
            doors: Duration::from_secs(1),
            connections,
            work: Duration::from_secs(5),
            close: Duration::from_secs(10),
        }
    }
}

/// How a stop went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stopped {
    /// How many connections were dropped because they outlasted the grace.
    pub connections_dropped: usize,
    /// How many loops and how much work was.
    pub work_dropped: usize,
    /// Which stores did not close, and why.
    pub not_closed: Vec<(&'static str, String)>,
}

/// What a task can end with: nothing, or what went wrong.
pub trait Outcome {
    /// What went wrong, in words for the log.
    fn problem(self) -> Option<String>;
}

impl Outcome for () {
    fn problem(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display> Outcome for Result<(), E> {
    fn problem(self) -> Option<String> {
        self.err().map(|e| e.to_string())
    }
}

/// The life of a node; clones are the same life.
#[derive(Clone, Default)]
pub struct Lifecycle(Arc<Inner>);

#[derive(Default)]
struct Inner {
    doors: Group,
    connections: Group,
    work: Group,
    asked: CancellationToken,
    stopped_by: OnceLock<StoppedBy>,
    /// What to close at the end, the last first.
    closers: Mutex<Vec<(&'static str, Closer)>>,
}

type Closer = Box<dyn FnOnce() -> BoxFuture<'static, Result<(), String>> + Send>;

/// Tasks that stop in the same phase.
#[derive(Default)]
struct Group {
    tasks: TaskTracker,
    /// Tells them to stop.
    told: Word,
    /// Drops them where they wait.
    cut: Word,
}

/// How often a loop may fail, and within which time.
const LOOP_FAILURES_MAX: usize = 3;
const LOOP_FAILURES_WITHIN_S: u64 = 60;
/// The pause of a loop after its first failure; four times as long after the second.
const LOOP_PAUSE_MS: u64 = 250;
/// How long a task may take to be dropped. It takes longer only when it blocks its thread.
const CUT_MS: u64 = 1_000;

impl Lifecycle {
    /// The life of a node that starts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the tasks of a kind to stop; for a task to wait on beside its work.
    pub fn told(&self, kind: Kind) -> CancellationToken {
        self.group(kind).told.token().clone()
    }

    /// The same for a task that looks again and again: looking costs next to nothing.
    pub fn heard(&self, kind: Kind) -> Heard {
        self.group(kind).told.heard()
    }

    /// Tells the loops to stop.
    pub fn told_loops(&self) -> CancellationToken {
        self.0.work.told.token().clone()
    }

    /// Starts a task. Its name is for the log and the same for all tasks of its sort.
    pub fn spawn<F>(&self, kind: Kind, name: &'static str, future: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let group = self.group(kind);
        // Combinators and no async block: a block would hold the future twice.
        let future = group.cut.cuts(catch(future));
        // Only a door's failure concerns the node, so only a door holds it.
        let node = (kind == Kind::Door).then(|| self.clone());
        group
            .tasks
            .spawn(future.map(move |ended| match (ended, node) {
                (None, _) => {}
                (Some(ended), Some(node)) => node.door_ended(name, problem_of(ended)),
                (Some(ended), None) => {
                    if let Some(problem) = problem_of(ended) {
                        warn!(task.name = name, "a {name} ended: {problem}");
                    }
                }
            }));
    }

    /// Starts a loop, and starts it again when it fails. To end before it is told to is a failure, too.
    pub fn spawn_loop<M, F>(&self, name: &'static str, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output: Outcome> + Send + 'static,
    {
        let node = self.clone();
        let work = &self.0.work;
        let rounds = async move {
            let told = node.told_loops();
            let mut failures = VecDeque::new();
            loop {
                let ended = problem_of(catch(async { make().await }).await);
                if told.is_cancelled() {
                    if let Some(problem) = ended {
                        warn!(task.name = name, "the loop {name} stopped badly: {problem}");
                    }
                    return;
                }
                let problem = ended.unwrap_or_else(|| "it ended by itself".into());
                let failed = count_failure(&mut failures, Instant::now());
                if failed >= LOOP_FAILURES_MAX {
                    return node.ask_to_stop(StoppedBy::Failed { name, problem });
                }
                warn!(
                    task.name = name,
                    "the loop {name} failed and starts again: {problem}"
                );
                let pause = Duration::from_millis(LOOP_PAUSE_MS << (2 * (failed - 1)));
                if told.run_until_cancelled(sleep(pause)).await.is_none() {
                    return;
                }
            }
        };
        work.tasks.spawn(work.cut.cuts(rounds).map(drop));
    }

    /// Closes something at the end of the node, after all tasks. What was given last is closed first.
    pub fn close_at_end<C, F>(&self, name: &'static str, close: C)
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future<Output: Outcome> + Send + 'static,
    {
        let closer: Closer =
            Box::new(move || async move { close().await.problem().map_or(Ok(()), Err) }.boxed());
        self.0.closers.lock().push((name, closer));
    }

    /// Asks the node to stop. The first reason is kept.
    pub fn ask_to_stop(&self, reason: StoppedBy) {
        if self.0.stopped_by.set(reason.clone()).is_err() {
            return;
        }
        match reason {
            StoppedBy::Failed { .. } => error!("the node stops: {reason}"),
            _ => info!("the node stops: {reason}"),
        }
        self.0.asked.cancel();
    }

    /// Waits until the node is asked to stop.
    pub async fn asked_to_stop(&self) {
        self.0.asked.cancelled().await;
    }

    /// Why the node stops; nothing while it runs.
    pub fn stopped_by(&self) -> Option<&StoppedBy> {
        self.0.stopped_by.get()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.0.connections.tasks.len()
    }

    /// Stops the node in four phases: shut the doors, drain the connections, stop loops and work, close the
    /// stores. Returns within the grace, and a second more for each phase that had to be cut.
    pub async fn stop(&self, grace: Grace) -> Stopped {
        let inner = &self.0;
        info!("stop 1 of 4: accept nobody");
        inner.doors.stop("doors", grace.doors).await;
        info!("stop 2 of 4: drain {} connections", self.connections());
        let connections_dropped = inner
            .connections
            .stop("connections", grace.connections)
            .await;
        info!("stop 3 of 4: stop loops and work");
        let work_dropped = inner.work.stop("loops and work", grace.work).await;
        info!("stop 4 of 4: close the stores");
        let mut not_closed = Vec::new();
        while let Some((name, close)) = self.next_closer() {
            let problem = match timeout(grace.close, catch(async { close().await })).await {
                Ok(Ok(Ok(()))) => continue,
                Ok(Ok(Err(problem))) => problem,
                Ok(Err(panicked)) => panicked.to_string(),
                Err(_) => format!("not done within {} ms", grace.close.as_millis()),
            };
            error!(task.name = name, "{name} did not close: {problem}");
            not_closed.push((name, problem));
        }
        Stopped {
            connections_dropped,
            work_dropped,
            not_closed,
        }
    }

    fn next_closer(&self) -> Option<(&'static str, Closer)> {
        self.0.closers.lock().pop()
    }

    fn group(&self, kind: Kind) -> &Group {
        match kind {
            Kind::Door => &self.0.doors,
            Kind::Connection => &self.0.connections,
            Kind::Work => &self.0.work,
        }
    }

    fn door_ended(&self, name: &'static str, problem: Option<String>) {
        if !self.0.doors.told.is_given() {
            let problem = problem.unwrap_or_else(|| "it ended by itself".into());
            self.ask_to_stop(StoppedBy::Failed { name, problem });
        }
    }
}

impl Group {
    /// Tells all to stop, waits, drops the rest; answers how many were dropped.
    async fn stop(&self, words: &str, grace: Duration) -> usize {
        self.told.give();
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        let left = self.tasks.len();
        warn!(
            "{left} {words} outlasted the grace of {} ms and are dropped",
            grace.as_millis()
        );
        self.cut.give();
        if timeout(Duration::from_millis(CUT_MS), self.tasks.wait())
            .await
            .is_err()
        {
            error!("{} {words} block their thread", self.tasks.len());
        }
        left
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("stopped_by", &self.stopped_by())
            .finish_non_exhaustive()
    }
}

fn problem_of<O: Outcome>(ended: Result<O, Panicked>) -> Option<String> {
    match ended {
        Ok(outcome) => outcome.problem(),
        Err(panicked) => Some(panicked.to_string()),
    }
}

/// Counts a failure; answers how many there were within the time.
fn count_failure(failures: &mut VecDeque<Instant>, now: Instant) -> usize {
    failures.retain(|at| now - *at < Duration::from_secs(LOOP_FAILURES_WITHIN_S));
    failures.push_back(now);
    failures.len()
}

#[cfg(test)]
mod tests;
