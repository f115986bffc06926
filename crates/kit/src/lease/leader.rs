//! Runs a task on one node at a time: on the one that holds a lease.
//!
//! ```text
//!  asked            renewed                                   given up       passes on
//!    ├──── a quarter ──┼──── a quarter ──┼──── a quarter ──┼─────┤               │
//!    └────────────────────────── how long the lease lasts ──────────────────────▶┘
//! ```
//!
//! The time is counted from before the lease was asked for, on the clock of this machine that nobody sets. So the task
//! is gone before the lease can have passed on, as long as this process runs and the two clocks go equally fast. A
//! process that was stopped does not go on with its task when it wakes up; but what the task has sent before may still
//! arrive, and the store refuses it by its token.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Fuse, FusedFuture as _};
use rand::Rng as _;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Lease, Leases, within};

/// In how many parts of its time a lease is renewed; each time the answer may take one part.
const PARTS: u32 = 4;
/// Which part of its time is left when a lease is given up that could not be renewed: for what the task has under way,
/// and for clocks that do not go equally fast.
const MARGIN: u32 = 5;

/// Holds a name, as far as nobody else does.
pub struct Leader {
    leases: Arc<dyn Leases>,
    name: &'static str,
    lasts: Duration,
    leads: AtomicBool,
}

/// Why a task does not run any more.
enum End {
    /// It ended by itself.
    Done,
    /// Somebody else may have the lease.
    Over,
}

impl Leader {
    /// Somebody who wants a name. A lease lasts so long when its holder is gone.
    pub fn new(leases: Arc<dyn Leases>, name: &'static str, lasts: Duration) -> Arc<Self> {
        Arc::new(Leader {
            leases,
            name,
            lasts,
            leads: AtomicBool::new(false),
        })
    }

    /// Whether the task runs on this node.
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    /// Runs `task` whenever this node holds the name, until it is told to stop. The task is dropped where it waits when
    /// the lease may be over. When it ends by itself the name is free for others; who stops a node has the task end.
    pub async fn run<F, T>(&self, told: CancellationToken, mut task: F)
    where
        F: FnMut(Lease) -> T,
        T: Future<Output = ()>,
    {
        let mut fails = false;
        while !told.is_cancelled() {
            let asked = Instant::now();
            let acquiring = self.leases.acquire(self.name, self.lasts);
            let acquired = timeout(self.part(), acquiring).await;
            let failed = !matches!(acquired, Ok(Ok(_)));
            if failed && !fails {
                tracing::warn!(lease = self.name, "a lease can not be asked for");
            }
            fails = failed;
            if let Ok(Ok(Some(lease))) = acquired {
                self.lead(lease, asked, &mut task).await;
            }
            told.run_until_cancelled(sleep(self.pause())).await;
        }
    }

    async fn lead<F, T>(&self, lease: Lease, asked: Instant, task: &mut F)
    where
        F: FnMut(Lease) -> T,
        T: Future<Output = ()>,
    {
        let Lease { name, token } = &lease;
        tracing::info!(lease = name, %token, "this node leads {name}");
        self.leads.store(true, Ordering::Relaxed);
        let end = self.hold(&lease, asked, task(lease.clone())).await;
        self.leads.store(false, Ordering::Relaxed);
        match end {
            End::Over => {
                tracing::warn!(lease = name, %token, "this node does not lead {name} any more")
            }
            End::Done => {
                tracing::info!(lease = name, %token, "this node leaves {name} to others");
                // When that is lost, the others wait until its time is over.
                _ = timeout(self.part(), self.leases.release(lease)).await;
            }
        }
    }

    /// Runs the task as long as the lease holds, and renews it meanwhile.
    async fn hold(&self, lease: &Lease, asked: Instant, task: impl Future<Output = ()>) -> End {
        let own = self.lasts - self.lasts / MARGIN;
        let mut until = asked + own;
        let mut task = pin!(task);
        let mut next = asked + self.part();
        let mut renewing: Fuse<BoxFuture<'_, (Instant, Option<bool>)>> = Fuse::terminated();
        loop {
            tokio::select! {
                biased;
                ended = within(until, task.as_mut()) => return ended.map_or(End::Over, |()| End::Done),
                (asked, renewed) = &mut renewing => match renewed {
                    Some(true) => until = asked + own,
                    Some(false) => return End::Over,
                    // Once more, while there is time.
                    None => {}
                },
                () = sleep_until(next), if renewing.is_terminated() => {
                    next = Instant::now() + self.part();
                    renewing = self.renew(lease).boxed().fuse();
                }
            }
        }
    }

    /// Whether the lease is held, from the time at which that was asked; nothing when there is no answer.
    async fn renew(&self, lease: &Lease) -> (Instant, Option<bool>) {
        let asked = Instant::now();
        let renewed = timeout(self.part(), self.leases.renew(lease, self.lasts)).await;
        (asked, renewed.ok().and_then(Result::ok))
    }

    fn part(&self) -> Duration {
        self.lasts / PARTS
    }

    /// How long to wait before the name is asked for again; not the same for all.
    fn pause(&self) -> Duration {
        self.part().mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use parking_lot::Mutex;
    use tokio::sync::watch;

    use super::super::{Memory, Token};
    use super::*;
    use crate::error::Result;

    const LASTS: Duration = Duration::from_secs(4);

    /// When each task began, took a step last, and was gone.
    #[derive(Debug, Clone, Copy)]
    struct Term {
        node: usize,
        token: Token,
        began: Instant,
        stepped: Instant,
        ended: Option<Instant>,
    }

    type Terms = Arc<Mutex<Vec<Term>>>;

    struct Running(Terms, usize);

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.lock()[self.1].ended = Some(Instant::now());
        }
    }

    /// A task that takes a step now and then until it is told to end.
    async fn work(node: usize, lease: Lease, terms: Terms, told: CancellationToken) {
        let began = Instant::now();
        let term = Term {
            node,
            token: lease.token,
            began,
            stepped: began,
            ended: None,
        };
        let at = {
            let mut terms = terms.lock();
            terms.push(term);
            terms.len() - 1
        };
        let running = Running(terms, at);
        while told
            .run_until_cancelled(sleep(Duration::from_millis(7)))
            .await
            .is_some()
        {
            running.0.lock()[at].stepped = Instant::now();
        }
    }

    /// A keeper that can be cut off from one node: it does not answer then.
    struct Cut {
        leases: Arc<Memory>,
        is_cut: watch::Sender<bool>,
    }

    impl Cut {
        fn on(leases: &Arc<Memory>) -> Arc<Cut> {
            Arc::new(Cut {
                leases: Arc::clone(leases),
                is_cut: watch::Sender::new(false),
            })
        }

        async fn reached(&self) {
            let mut is_cut = self.is_cut.subscribe();
            is_cut.wait_for(|is_cut| !is_cut).await.unwrap();
        }
    }

    #[async_trait]
    impl Leases for Cut {
        async fn acquire(&self, name: &str, lasts: Duration) -> Result<Option<Lease>> {
            self.reached().await;
            self.leases.acquire(name, lasts).await
        }

        async fn renew(&self, lease: &Lease, lasts: Duration) -> Result<bool> {
            self.reached().await;
            self.leases.renew(lease, lasts).await
        }

        async fn release(&self, lease: Lease) -> Result<()> {
            self.reached().await;
            self.leases.release(lease).await
        }
    }

    struct Node {
        keeper: Arc<Cut>,
        leader: Arc<Leader>,
        told: CancellationToken,
    }

    fn node(number: usize, leases: &Arc<Memory>, terms: &Terms) -> Node {
        let keeper = Cut::on(leases);
        let leader = Leader::new(keeper.clone(), "beat", LASTS);
        let told = CancellationToken::new();
        let (running, terms, stop) = (Arc::clone(&leader), Arc::clone(terms), told.clone());
        #[expect(clippy::disallowed_methods, reason = "it is the node of a test")]
        tokio::task::spawn(async move {
            let task = |lease| work(number, lease, Arc::clone(&terms), stop.clone());
            running.run(stop.clone(), task).await;
        });
        Node {
            keeper,
            leader,
            told,
        }
    }

    /// Lets time go by.
    async fn pass(time: Duration) {
        sleep(time).await;
    }

    fn leading(nodes: &[Node]) -> Vec<usize> {
        let leads = nodes.iter().enumerate().filter(|(_, n)| n.leader.leads());
        leads.map(|(number, _)| number).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_three_leads_and_another_follows_at_once_when_it_stops() {
        let (leases, terms) = (Arc::default(), Terms::default());
        let nodes: Vec<Node> = (0..3).map(|n| node(n, &leases, &terms)).collect();
        pass(LASTS * 3).await;
        let first = leading(&nodes);
        assert_eq!(first.len(), 1);
        nodes[first[0]].told.cancel();
        // It is not waited for until its time is over.
        pass(LASTS / 2).await;
        let second = leading(&nodes);
        assert_eq!(second.len(), 1);
        assert_ne!(first, second);
        let terms = terms.lock();
        assert_eq!(terms.len(), 2);
        assert!(terms[1].token > terms[0].token);
        assert!(terms[0].ended.unwrap() <= terms[1].began);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_cut_off_has_ended_its_task_before_another_begins() {
        let (leases, terms) = (Arc::default(), Terms::default());
        let nodes: Vec<Node> = (0..2).map(|n| node(n, &leases, &terms)).collect();
        for _ in 0..10 {
            pass(LASTS * 2).await;
            let [leads] = leading(&nodes)[..] else {
                panic!("not one leads")
            };
            nodes[leads].keeper.is_cut.send_replace(true);
            pass(LASTS * 2).await;
            assert_eq!(leading(&nodes), [1 - leads]);
            nodes[leads].keeper.is_cut.send_replace(false);
        }
        let terms = terms.lock();
        for (before, after) in terms.iter().zip(terms.iter().skip(1)) {
            assert!(before.ended.unwrap() < after.began, "{before:?} {after:?}");
            assert!(before.token < after.token && before.node != after.node);
        }
        assert!(terms.len() >= 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_cut_changes_nothing() {
        let (leases, terms) = (Arc::default(), Terms::default());
        let nodes: Vec<Node> = (0..2).map(|n| node(n, &leases, &terms)).collect();
        pass(LASTS).await;
        for _ in 0..20 {
            for node in &nodes {
                node.keeper.is_cut.send_replace(true);
            }
            pass(LASTS / 4).await;
            for node in &nodes {
                node.keeper.is_cut.send_replace(false);
            }
            pass(LASTS).await;
        }
        assert_eq!(terms.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_stopped_for_a_while_does_not_go_on_with_its_task() {
        let leases = Arc::new(Memory::default());
        let leader = Leader::new(leases.clone(), "beat", LASTS);
        let steps = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&steps);
        let began = Instant::now();
        let task = move |_| {
            let noted = Arc::clone(&noted);
            async move {
                loop {
                    noted.lock().push(began.elapsed());
                    // Always ready to go on, whatever the timers say.
                    tokio::task::yield_now().await;
                }
            }
        };
        let told = CancellationToken::new();
        let stopped = async {
            tokio::task::yield_now().await;
            // The clock goes on, and the timers do not know it yet.
            tokio::time::advance(LASTS).await;
            while leader.leads() {
                tokio::task::yield_now().await;
            }
            told.cancel();
        };
        tokio::join!(leader.run(told.clone(), task), stopped);
        let last = *steps.lock().last().unwrap();
        assert!(last < LASTS - LASTS / MARGIN, "{last:?}");
    }
}
