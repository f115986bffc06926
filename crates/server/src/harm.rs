//! What fault tests do to a server, by flags that `--help` does not show. Nobody else needs them, and a server
//! that is started with one says so in its log.

use std::sync::Arc;

use async_trait::async_trait;
use clap::{Args, ValueEnum};
use tertulia_api::live::told::Told;
use tertulia_kit::bus::Bus;
use tertulia_kit::bus::flaky::{self, Flaky};
use tertulia_services::ids::UserId;
use tertulia_services::presence::{Away, Holding, Presences, Roll, Run};
use tertulia_store::fjall::{self, CrashPoint};

/// Everything that may be done to a server. The default is nothing.
#[derive(Debug, Default, Args)]
pub struct Harm {
    /// Aborts the process at a step of a send.
    #[arg(long, hide = true, requires = "crash_after")]
    crash_at: Option<CrashAt>,
    /// How many sends go well before that.
    #[arg(long, hide = true)]
    crash_after: Option<u64>,
    /// Makes the bus worse, such as `lose=300,repeat=100,seed=7`.
    #[arg(long, hide = true, value_name = "FAULTS")]
    bus_faults: Option<flaky::Faults>,
    /// Breaks a promise on purpose, so that tests can show that they would see it.
    #[arg(long, hide = true, requires = "confirm_sabotage")]
    sabotage: Option<Sabotage>,
    /// Said by who knows that `--sabotage` loses data.
    #[arg(long, hide = true)]
    confirm_sabotage: bool,
}

/// A step of a send at which a crash test aborts the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CrashAt {
    /// The batch is made and not committed.
    BeforeCommit,
    /// The batch is on disk and nobody knows.
    AfterCommitBeforeAck,
    /// The sender knows and nobody else does.
    AfterAckBeforePublish,
}

/// A promise that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sabotage {
    /// What a device missed is told without one of the events.
    DropEvent,
    /// What comes between attaching a session and its welcome is thrown away, and heads do not tell of it.
    SkipCatchUpBuffer,
    /// A repeat of a send is taken for another one.
    ForgetIdempotency,
    /// Now and then a seq is given twice.
    ReuseSeq,
    /// Answers do not wait for the disk.
    AckBeforeSync,
    /// Edits, deletions and reactions do not reach who was away for long.
    ForgetChanges,
    /// A login that was revoked on another node is good here.
    ForgetRevocations,
    /// Who has gone is held to be there.
    KeepTheGone,
}

impl Harm {
    /// Says in the log what is done.
    pub fn warn(&self) {
        if self.crash_at.is_some() || self.bus_faults.is_some() || self.sabotage.is_some() {
            tracing::warn!(harm = ?self, "this server is harmed on purpose, for tests");
        }
    }

    /// What carries what this node tells.
    pub fn of_bus(&self, bus: Arc<dyn Bus<Told>>) -> Arc<dyn Bus<Told>> {
        match self.bus_faults {
            Some(faults) => Arc::new(Flaky::new(bus, faults)),
            None => bus,
        }
    }

    /// What the logs are kept with.
    pub fn of_store(&self, options: fjall::Options) -> fjall::Options {
        let sabotage = self.sabotage.and_then(of_embedded);
        fjall::Options {
            crash_at: self.crash_at.map(|at| match at {
                CrashAt::BeforeCommit => CrashPoint::BeforeCommit,
                CrashAt::AfterCommitBeforeAck => CrashPoint::AfterCommitBeforeAck,
                CrashAt::AfterAckBeforePublish => CrashPoint::AfterAckBeforePublish,
            }),
            crash_after: self.crash_after.unwrap_or(0),
            sabotage,
            ..options
        }
    }

    /// Whether it harms what only the embedded store has.
    pub fn is_for_embedded(&self) -> bool {
        self.crash_at.is_some()
            || self
                .sabotage
                .is_some_and(|sabotage| of_embedded(sabotage).is_some())
    }

    /// Whether this node does not learn which logins have ended on others.
    pub fn forgets_revocations(&self) -> bool {
        self.sabotage == Some(Sabotage::ForgetRevocations)
    }

    /// Where it is kept who is there.
    pub fn of_presences(&self, registry: Arc<dyn Presences>) -> Arc<dyn Presences> {
        match self.sabotage {
            Some(Sabotage::KeepTheGone) => Arc::new(KeepsTheGone(registry)),
            _ => registry,
        }
    }

    /// Whether sessions lose what comes while they are welcomed.
    pub fn skips_catch_up_buffer(&self) -> bool {
        self.sabotage == Some(Sabotage::SkipCatchUpBuffer)
    }
}

/// What of it is done to the logs of the embedded store.
fn of_embedded(sabotage: Sabotage) -> Option<fjall::Sabotage> {
    match sabotage {
        Sabotage::DropEvent => Some(fjall::Sabotage::DropEvent),
        Sabotage::ForgetIdempotency => Some(fjall::Sabotage::ForgetIdempotency),
        Sabotage::ReuseSeq => Some(fjall::Sabotage::ReuseSeq),
        Sabotage::AckBeforeSync => Some(fjall::Sabotage::AckBeforeSync),
        Sabotage::ForgetChanges => Some(fjall::Sabotage::ForgetChanges),
        Sabotage::SkipCatchUpBuffer | Sabotage::ForgetRevocations | Sabotage::KeepTheGone => None,
    }
}

/// A registry that is not told who has gone.
struct KeepsTheGone(Arc<dyn Presences>);

#[async_trait]
impl Presences for KeepsTheGone {
    async fn begin(&self, run: Run) -> Result<(), Away> {
        self.0.begin(run).await
    }

    async fn renew(&self, run: Run) -> Result<bool, Away> {
        self.0.renew(run).await
    }

    async fn end(&self, run: Run) -> Result<(), Away> {
        self.0.end(run).await
    }

    async fn hold(&self, run: Run, holdings: &[(UserId, Holding)]) -> Result<(), Away> {
        let mut told = holdings.to_vec();
        told.retain(|(_, holding)| *holding != Holding::Gone);
        self.0.hold(run, &told).await
    }

    async fn of(&self, users: &[UserId]) -> Result<Roll, Away> {
        self.0.of(users).await
    }
}
