//! The only one who writes. It takes everything that waits, decides one command after the other, commits all
//! of it at once, and only then lets anybody know: first the caches and the position, then the listeners and the
//! callers, in the order of the commits.
//!
//! Nothing is kept that was not committed: decisions are taken into a round, and a round whose commit fails
//! is forgotten together with the caches. It never waits for more to come, so that a single command takes one
//! sync and a thousand at once take hardly more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use tertulia_kit::error::{Failure, Result};
use tertulia_services::chats::decide::decide;
use tertulia_services::chats::{Command, Done, Fact};
use tertulia_services::errors;

use super::batch;
use super::disk::{Batch, Flusher};
use super::outcome::{Outcome, again};
use super::queue::Request;
use super::send_keys::Keeper;
use super::teller::{Teller, Told};
use super::view::Under;
use super::{CrashPoint, Options, Sabotage, Shared};
use crate::rows::codec;
use crate::rows::round::Round;
use crate::rows::view::{Ahead, Seen};

/// How long the last answers have to leave the process before an asked-for crash after them.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// The writer.
pub struct Writer {
    shared: Arc<Shared>,
    options: Options,
    /// Tells the listeners.
    teller: Teller,
    /// Files the send keys.
    keeper: Keeper,
    /// Brings into the engine what was committed.
    flusher: Flusher,
    /// Of the last commit.
    position: u64,
    /// A commit failed, and what is on disk was not read since.
    unsure: bool,
    /// Messages written since the start, for [`CrashPoint`].
    sends: u64,
    /// What is committed next.
    batch: Batch,
    /// Where rows are encoded.
    row: Vec<u8>,
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        options: Options,
        teller: Teller,
        keeper: Keeper,
        flusher: Flusher,
    ) -> Writer {
        let position = shared.visible.load(Ordering::Acquire);
        Writer {
            shared,
            options,
            teller,
            keeper,
            flusher,
            position,
            unsure: false,
            sends: 0,
            batch: Batch::new(),
            row: Vec::with_capacity(1 << 10),
        }
    }

    /// Whether it may be on any thread; else on one that nobody's answers wait for.
    pub fn may_be_anywhere(&self) -> bool {
        self.options.crash_at != Some(CrashPoint::AfterAckBeforePublish)
    }

    /// Decides requests, commits what they come to and tells it. All of them are taken and answered.
    pub fn round(&mut self, requests: &mut Vec<Request>) {
        self.shared.health.begin(&self.shared.clock);
        let week = match self.prepare() {
            Ok(week) => week,
            Err(why) => {
                if let Some(cause) = why.cause_chain() {
                    self.shared.health.commit_failed(cause);
                }
                self.shared.health.end();
                let told = self.told(&why);
                requests.drain(..).for_each(|request| request.fail(&told));
                return;
            }
        };
        let commands = requests.iter().map(|request| request.commands.len()).sum();
        let mut round = Round::new(self.position + 1, commands, requests.len());
        let mut outcomes = Vec::with_capacity(requests.len());
        match self.decide(&mut round, requests, &mut outcomes) {
            Ok(()) => self.finish(round, outcomes, week),
            Err(why) => self.fail(outcomes, &why),
        }
    }

    /// What a round needs before it can begin: room, and the week of its send keys.
    fn prepare(&mut self) -> Result<i64> {
        if self.shared.health.is_closed() {
            return Err(errors::store_closed());
        }
        if self.unsure {
            let position = self.shared.disk.position()?;
            self.shared.forget(position);
            self.position = position;
            self.unsure = false;
        }
        let (disk, keys) = (&self.shared.disk, &self.shared.send_keys);
        if disk.is_full() {
            disk.seal()?;
            self.flusher.wake();
            // A file of the journal can only go when its send keys are in a file, too.
            keys.seal()?;
        }
        let week = keys.current(self.shared.clock.now_ms());
        self.keeper.wake();
        week
    }

    /// Decides the commands one after the other. After one that is refused the round is as if it had not been
    /// asked for.
    ///
    /// # Errors
    /// When a decision could not be taken in; all commands are in `outcomes` then, too.
    fn decide(
        &self,
        round: &mut Round,
        requests: &mut Vec<Request>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<()> {
        let shared = &*self.shared;
        // No other writes, so that what was committed stays the same for the whole round.
        let under = Under {
            shared,
            reader: &shared.disk.reader(),
            position: round.position,
        };
        let mut broken = None;
        for Request { commands, answer } in requests.drain(..) {
            let mut done = Vec::with_capacity(commands.len());
            for command in commands {
                done.push(match &broken {
                    Some(why) => Err(again(why)),
                    None => decide_one(&under, round, command).map(|(one, taken)| {
                        broken = taken.err();
                        one
                    }),
                });
            }
            outcomes.push(Outcome { done, answer });
        }
        broken.map_or(Ok(()), Err)
    }

    fn finish(&mut self, mut round: Round, outcomes: Vec<Outcome>, week: i64) {
        if round.is_empty() {
            self.shared.health.end();
            self.tell(Vec::new(), outcomes);
            return;
        }
        let crash = self.crash_in(&round);
        crash_if(crash == Some(CrashPoint::BeforeCommit));
        if let Err(failure) = self.commit(&round, week) {
            return self.fail(outcomes, &failure);
        }
        crash_if(crash == Some(CrashPoint::AfterCommitBeforeAck));
        self.position = round.position;
        self.shared.health.commit_succeeded();
        let used = std::mem::take(&mut round.used);
        let keys = &self.shared.send_keys;
        keys.take_in(round.position, week, used);
        let facts = self.shared.take_in(round);
        self.shared.health.end();
        if crash == Some(CrashPoint::AfterAckBeforePublish) {
            outcomes.into_iter().for_each(Outcome::tell);
            // The answers leave.
            let (_open, never) = channel::<()>();
            _ = never.recv_timeout(LAST_ANSWERS);
            std::process::abort();
        }
        self.tell(facts, outcomes);
    }

    fn tell(&self, facts: Vec<Fact>, outcomes: Vec<Outcome>) {
        // A listener that takes nothing holds up the writer, and shows like a commit that does not end.
        self.shared.health.begin(&self.shared.clock);
        self.teller
            .tell(Told { facts, outcomes }, !self.shared.queue.has_waiting());
        self.shared.health.end();
    }

    /// Nothing of the round will be there, and what is on disk has to be read.
    fn fail(&mut self, outcomes: Vec<Outcome>, failure: &Failure) {
        let cause = failure.cause_chain().unwrap_or_default();
        self.unsure = true;
        self.shared.health.commit_failed(cause.clone());
        if self.shared.disk.takes_writes() {
            tracing::error!(cause, "the logs could not be written");
        } else {
            tracing::error!(
                cause,
                "the logs could not be written and take no more writes until the node begins anew; reading goes on"
            );
            self.shared.health.close();
        }
        self.shared.health.end();
        let told = self.told(failure);
        outcomes.into_iter().for_each(|outcome| outcome.fail(&told));
    }

    /// What somebody is told who waits for a failed commit.
    fn told(&self, failure: &Failure) -> Failure {
        match self.shared.health.is_closed() {
            true => errors::store_closed(),
            false => again(failure),
        }
    }

    fn commit(&mut self, round: &Round, week: i64) -> Result<()> {
        let shared = &self.shared;
        self.batch.clear();
        shared.faults.before_commit()?;
        batch::fill(&mut self.batch, round, shared.disk.is_fed, &mut self.row);
        if !round.used.is_empty() {
            codec::write_fresh(&mut self.row, week, round.used.iter());
            self.batch.insert_send_keys(round.position, &self.row);
        }
        match shared.sabotage {
            Some(Sabotage::AckBeforeSync) => shared.disk.commit_unsynced(&mut self.batch),
            _ => shared.disk.commit(&mut self.batch),
        }
    }

    /// The crash that a test asked for, when this is the round for it.
    fn crash_in(&mut self, round: &Round) -> Option<CrashPoint> {
        self.sends += round.sends;
        self.options
            .crash_at
            .filter(|_| self.sends > self.options.crash_after)
    }
}

/// What a command comes to, and whether it could be taken into the round.
fn decide_one(
    under: &Under<'_>,
    round: &mut Round,
    command: Command,
) -> Result<(Done, Result<()>)> {
    let mut view = Seen(Ahead {
        below: under,
        round: &mut *round,
    });
    let decision = decide(&mut view, command)?;
    let taken = round.take(under, decision.writes);
    Ok((decision.done, taken))
}

fn crash_if(asked: bool) {
    if asked {
        std::process::abort();
    }
}
