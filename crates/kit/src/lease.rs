//! Leases: a name that one node holds for a time, such as the right to do what is to be done once. Every holder has a
//! token that is greater than all before it.
//!
//! A lease does not keep two from believing that they hold it: whoever is stopped for a while, or whose clock runs
//! slowly, learns too late that it is over. So whatever must not be done twice is written into the store that keeps
//! the leases, and that store [refuses](Leases) a token that is not the newest. The lease only spares the work.
//! [`Leader`] holds one and runs a task meanwhile.

mod leader;
mod memory;
#[cfg(any(test, feature = "suites"))]
pub mod suite;

use std::fmt;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use tokio::time::{Instant, sleep_until};

use crate::error::Result;

pub use leader::Leader;
pub use memory::Memory;

/// A number of one holder of a name: greater than those of all holders of the name before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub i64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a holder shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The name.
    pub name: String,
    /// The holder's number.
    pub token: Token,
}

/// Keeps leases. Time is that of the keeper alone: no clock of a node is compared with it. When the keeper's clock is
/// set, a lease may pass on early, and stays no more than a second longer than it was given for.
///
/// Tokens are kept for good, over restarts and the loss of everything that is only in memory: no token of a name is
/// given twice. A keeper that has writes of holders to protect checks within the same commit that the token is the
/// newest of its name, and nobody gets the lease while that commit is under way.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes a name that nobody holds, for a time; nothing when somebody does. Of many who ask at once one gets it. When
    /// the answer is lost it may have been taken, for nobody: it is free again when the time is over.
    ///
    /// # Errors
    /// The failure of the keeper.
    async fn acquire(&self, name: &str, lasts: Duration) -> Result<Option<Lease>>;

    /// Holds a lease for so long from now. False when somebody else has got it since, and then it is over for good; a
    /// lease that was over and that nobody took is held again. When the answer is lost it may be held, and may be
    /// renewed again.
    ///
    /// # Errors
    /// The failure of the keeper.
    async fn renew(&self, lease: &Lease, lasts: Duration) -> Result<bool>;

    /// Ends a lease: the next who asks gets it. Nothing happens when it was somebody else's already.
    ///
    /// # Errors
    /// The failure of the keeper.
    async fn release(&self, lease: Lease) -> Result<()>;
}

/// Runs a task until its time is over, and not a step longer: a process that was stopped for a while does not go on
/// with it when it wakes up. None when the time was over first.
pub(crate) async fn within<T>(
    until: Instant,
    mut task: impl Future<Output = T> + Unpin,
) -> Option<T> {
    // A timer that is due is not always told before other news, so the clock is looked at before each step.
    let step = poll_fn(|cx| match Instant::now() >= until {
        true => Poll::Ready(None),
        false => task.poll_unpin(cx).map(Some),
    });
    tokio::select! {
        biased;
        ended = step => ended,
        () = sleep_until(until) => None,
    }
}
