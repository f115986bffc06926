//! Whether this node may be sent work.
//!
//! Two questions are asked from outside, and they are not the same. *Is it alive?* To answer at all is the
//! whole answer: it never depends on a store or on another node, since a restart would mend neither.
//! *Is it ready?* That is [`Health::report`]: started, not drained or draining, and every check passes. What the node works
//! without, only worse, is remarked and does not take it out of service.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use crate::lifecycle::catch;

/// How long a check may take before it counts as failed.
const CHECK_TIMEOUT_MS: u64 = 2_000;

/// Where the node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not all is there yet.
    Starting,
    /// At work.
    Ready,
    /// At work, and to be sent no more until it is resumed.
    Drained,
    /// Finishes what it has, and takes no more.
    Draining,
}

/// The health of this node; clones are the same health.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    checks: RwLock<Vec<Check>>,
}

#[derive(Clone)]
struct Check {
    name: &'static str,
    /// Whether the node can not be without it.
    needed: bool,
    ask: Ask,
}

type Ask = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What a probe is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether to send work.
    pub ready: bool,
    /// Where the node is in its life.
    pub state: State,
    /// What each check found; empty unless asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Finding>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check.
    pub name: &'static str,
    /// Whether the node can not be without it; not told of what it needs.
    #[serde(skip_serializing_if = "is_true")]
    pub needed: bool,
    /// What is wrong; nothing when all is well. For operators: no address, no secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Finding {
    fn hinders(&self) -> bool {
        self.needed && self.problem.is_some()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_true(value: &bool) -> bool {
    *value
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// The health of a node that starts.
    pub fn new() -> Self {
        let (state, checks) = (Mutex::new(State::Starting), RwLock::default());
        Health(Arc::new(Inner { state, checks }))
    }

    /// Adds a check that is asked at each report. It has two seconds.
    pub fn check<F, A>(&self, name: &'static str, ask: A)
    where
        A: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.ask(name, true, ask);
    }

    /// Adds something that is asked and told as a check is, and that the node works without, only worse.
    pub fn remark<F, A>(&self, name: &'static str, ask: A)
    where
        A: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.ask(name, false, ask);
    }

    fn ask<F, A>(&self, name: &'static str, needed: bool, ask: A)
    where
        A: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let ask: Ask = Arc::new(move || ask().boxed());
        self.0.checks.write().push(Check { name, needed, ask });
    }

    /// Adds a check whose owner says how it is. Until it does, the check fails.
    pub fn flag(&self, name: &'static str) -> Flag {
        let flag = Flag(Arc::new(RwLock::new(Err("is not there yet".to_owned()))));
        let seen = flag.clone();
        self.check(name, move || std::future::ready(seen.0.read().clone()));
        flag
    }

    /// All is there.
    pub fn ready(&self) {
        self.turn(State::Starting, State::Ready);
    }

    /// No more work for now.
    pub fn drain(&self) {
        self.turn(State::Ready, State::Drained);
    }

    /// Work again, after [`drain`](Health::drain).
    pub fn resume(&self) {
        self.turn(State::Drained, State::Ready);
    }

    fn turn(&self, from: State, to: State) {
        let mut state = self.0.state.lock();
        if *state == from {
            *state = to;
        }
    }

    /// No more work, please. There is no way back.
    pub fn draining(&self) {
        *self.0.state.lock() = State::Draining;
    }

    /// Where the node is in its life.
    pub fn state(&self) -> State {
        *self.0.state.lock()
    }

    /// Whether to send work, and with `verbose` why. All checks are asked at the same time.
    pub async fn report(&self, verbose: bool) -> Report {
        let checks = self.0.checks.read().clone();
        let findings = join_all(checks.into_iter().map(find)).await;
        let state = self.state();
        let ready = state == State::Ready && !findings.iter().any(Finding::hinders);
        Report {
            ready,
            state,
            checks: if verbose { findings } else { Vec::new() },
        }
    }
}

async fn find(check: Check) -> Finding {
    let timeout = Duration::from_millis(CHECK_TIMEOUT_MS);
    let problem = match tokio::time::timeout(timeout, catch(async { (check.ask)().await })).await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(problem))) => Some(problem),
        Ok(Err(panicked)) => Some(panicked.to_string()),
        Err(_) => Some(format!("no answer within {CHECK_TIMEOUT_MS} ms")),
    };
    Finding {
        name: check.name,
        needed: check.needed,
        problem,
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").field(&self.state()).finish()
    }
}

/// How something is, said by its owner.
#[derive(Debug, Clone)]
pub struct Flag(Arc<RwLock<Result<(), String>>>);

impl Flag {
    /// It is well.
    pub fn well(&self) {
        *self.0.write() = Ok(());
    }

    /// It is not.
    pub fn ill(&self, problem: impl Into<String>) {
        *self.0.write() = Err(problem.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_is_ready_between_its_start_and_its_draining() {
        let health = Health::new();
        assert!(!health.report(false).await.ready);
        health.ready();
        assert!(health.report(false).await.ready);
        health.draining();
        assert!(!health.report(false).await.ready);
        health.ready();
        assert_eq!(health.state(), State::Draining);
    }

    #[tokio::test]
    async fn a_drained_node_is_not_ready_until_it_is_resumed() {
        let health = Health::new();
        health.drain();
        assert_eq!(health.state(), State::Starting);
        health.ready();
        health.drain();
        let report = serde_json::to_string(&health.report(false).await).unwrap();
        assert_eq!(report, r#"{"ready":false,"state":"drained"}"#);
        health.resume();
        assert!(health.report(false).await.ready);
        health.draining();
        health.resume();
        assert_eq!(health.state(), State::Draining);
    }

    #[tokio::test]
    async fn a_flag_fails_until_its_owner_says_that_it_is_well() {
        let health = Health::new();
        health.ready();
        let store = health.flag("store");
        assert!(!health.report(false).await.ready);
        store.well();
        assert!(health.report(false).await.ready);
        store.ill("the disk is full");
        let report = serde_json::to_value(health.report(true).await).unwrap();
        let expected = serde_json::json!({
            "ready": false,
            "state": "ready",
            "checks": [{"name": "store", "problem": "the disk is full"}],
        });
        assert_eq!(report, expected);
    }

    #[tokio::test]
    async fn a_remark_is_told_and_the_node_stays_ready() {
        let health = Health::new();
        health.ready();
        health.remark("bus", || async { Err("cut off".into()) });
        let report = serde_json::to_value(health.report(true).await).unwrap();
        let expected = serde_json::json!({
            "ready": true,
            "state": "ready",
            "checks": [{"name": "bus", "needed": false, "problem": "cut off"}],
        });
        assert_eq!(report, expected);
    }

    #[tokio::test]
    async fn a_report_that_is_not_verbose_tells_no_details() {
        let health = Health::new();
        health.flag("store").ill("secret corner");
        let report = serde_json::to_string(&health.report(false).await).unwrap();
        assert_eq!(report, r#"{"ready":false,"state":"starting"}"#);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_or_panics_is_a_problem_and_not_the_end() {
        let health = Health::new();
        health.ready();
        health.check("hangs", std::future::pending);
        health.check("panics", || async { panic!("on purpose") });
        health.check("fine", || async { Ok(()) });
        let found = health.report(true).await.checks;
        assert!(found[0].problem.as_ref().unwrap().contains("no answer"));
        assert!(found[1].problem.is_some());
        assert_eq!(found[2].problem, None);
    }
}
