//! The only one who writes. It takes everything that waits, decides one command after the other, commits all
//! of it at once, and only then lets anybody know: first the caches and the position, then the callers and the
//! listeners.
//!
//! Nothing is kept that was not committed: decisions are taken into a round, and a round whose commit fails
//! is forgotten together with the caches. It never waits for more to come, so that a single command takes one
//! sync and a thousand at once take hardly more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use ::fjall::{Keyspace, PersistMode};
use tertulia_kit::error::{Failure, Result};
use tertulia_services::chats::decide::decide;
use tertulia_services::chats::{Act, Command, Done};
use tertulia_services::errors;
use tokio::sync::oneshot;

use super::batch::batch;
use super::disk::unavailable;
use super::teller::Teller;
use super::view::Under;
use super::{CrashPoint, Options, Sabotage, Shared};
use crate::rows::round::Round;
use crate::rows::view::{Ahead, Seen};

/// How long the last answers have to leave the process before an asked-for crash after them.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// What is to be done one after the other, and who waits for it.
pub struct Request {
    pub commands: Vec<Command>,
    pub answer: oneshot::Sender<Vec<Result<Done>>>,
}

impl Request {
    /// About what it takes in the queue.
    pub fn bytes(&self) -> usize {
        self.commands.iter().map(Self::bytes_of).sum()
    }

    fn bytes_of(command: &Command) -> usize {
        let texts = match &command.act {
            Act::Send(new) => new.text.len(),
            Act::Forward { copies, .. } => copies.iter().map(|copy| 64 + copy.text.len()).sum(),
            Act::Edit { text, .. } => text.len(),
            Act::Draft {
                draft: Some(draft), ..
            } => draft.text.len(),
            Act::Schedule(scheduled) => scheduled.text.len(),
            Act::Create(new) => 8 * new.members.len() + new.title.len() + new.topic.len(),
            Act::Add { users, .. } => 8 * users.len(),
            Act::Delete { messages, .. }
            | Act::Expire { messages, .. }
            | Act::Hide { messages, .. } => 8 * messages.len(),
            _ => 0,
        };
        512 + texts
    }

    fn fail(self, why: &Failure) {
        let failed = self.commands.iter().map(|_| Err(again(why)));
        _ = self.answer.send(failed.collect());
    }
}

/// What somebody gets after the commit.
struct Outcome {
    done: Vec<Result<Done>>,
    answer: oneshot::Sender<Vec<Result<Done>>>,
}

impl Outcome {
    // Whoever has stopped waiting learns it by asking again.
    fn tell(self) {
        _ = self.answer.send(self.done);
    }

    fn fail(mut self, why: &Failure) {
        for done in self.done.iter_mut().filter(|done| done.is_ok()) {
            *done = Err(again(why));
        }
        self.tell();
    }
}

/// The writer.
pub struct Writer {
    shared: Arc<Shared>,
    options: Options,
    queue: Receiver<Request>,
    /// Tells the listeners.
    teller: Teller,
    /// Of the last commit.
    position: u64,
    /// A commit failed, and what is on disk was not read since.
    unsure: bool,
    /// Messages written since the start, for [`CrashPoint`].
    sends: u64,
    /// Where rows are encoded.
    row: Vec<u8>,
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        options: Options,
        queue: Receiver<Request>,
        teller: Teller,
    ) -> Writer {
        let position = shared.visible.load(Ordering::Acquire);
        Writer {
            shared,
            options,
            queue,
            teller,
            position,
            unsure: false,
            sends: 0,
            row: Vec::with_capacity(1 << 10),
        }
    }

    /// Writes until the queue is closed and empty.
    pub fn run(mut self) {
        let mut requests = Vec::with_capacity(self.options.commit_batch_max);
        while let Ok(first) = self.queue.recv() {
            self.take_waiting(first, &mut requests);
            self.round(&mut requests);
        }
    }

    fn take_waiting(&self, first: Request, requests: &mut Vec<Request>) {
        let (mut bytes, mut commands) = (first.bytes(), first.commands.len());
        requests.push(first);
        while commands < self.options.commit_batch_max && bytes < self.options.commit_bytes_max {
            let Ok(next) = self.queue.try_recv() else {
                break;
            };
            bytes += next.bytes();
            commands += next.commands.len();
            requests.push(next);
        }
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn round(&mut self, requests: &mut Vec<Request>) {
        self.shared.health.begin(&self.shared.clock);
        let keys = match self.prepare() {
            Ok(keys) => keys,
            Err(why) => {
                self.shared.health.end();
                let told = self.told(&why);
                requests.drain(..).for_each(|request| request.fail(&told));
                return;
            }
        };
        let mut round = Round::new(self.position + 1, requests.len());
        let mut outcomes = Vec::with_capacity(requests.len());
        match self.decide(&mut round, requests, &mut outcomes) {
            Ok(()) => self.finish(round, outcomes, &keys),
            Err(why) => self.fail(outcomes, &why),
        }
    }

    /// What a round needs before it can begin.
    fn prepare(&mut self) -> Result<Keyspace> {
        if self.shared.health.is_closed() {
            return Err(errors::store_closed());
        }
        if self.unsure {
            let position = self.shared.disk.position()?;
            self.shared.forget(position);
            self.position = position;
            self.unsure = false;
        }
        self.shared.send_keys.current(self.shared.clock.now_ms())
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

    fn finish(&mut self, round: Round, outcomes: Vec<Outcome>, keys: &Keyspace) {
        if round.is_empty() {
            self.shared.health.end();
            outcomes.into_iter().for_each(Outcome::tell);
            return;
        }
        let crash = self.crash_in(&round);
        crash_if(crash == Some(CrashPoint::BeforeCommit));
        if let Err(failure) = self.commit(&round, keys) {
            self.fail(outcomes, &failure);
            return;
        }
        crash_if(crash == Some(CrashPoint::AfterCommitBeforeAck));
        self.position = round.position;
        self.shared.health.commit_succeeded();
        let facts = self.shared.take_in(round);
        self.shared.health.end();
        let untold = match crash.is_none() && self.is_idle() {
            // First, so that who has written is woken once, for the answer and the event.
            true => self.telling(|teller| teller.tell_here(facts)),
            false => Some(facts),
        };
        outcomes.into_iter().for_each(Outcome::tell);
        if crash == Some(CrashPoint::AfterAckBeforePublish) {
            // The answers leave; the next request, or silence, is the end.
            _ = self.queue.recv_timeout(LAST_ANSWERS);
            crash_if(true);
        }
        if let Some(facts) = untold {
            self.telling(|teller| teller.tell(facts));
        }
    }

    /// A listener that takes nothing holds up the writer, and shows like a commit that does not end.
    fn telling<T>(&self, tell: impl FnOnce(&Teller) -> T) -> T {
        self.shared.health.begin(&self.shared.clock);
        let told = tell(&self.teller);
        self.shared.health.end();
        told
    }

    /// Nothing waits to be committed.
    fn is_idle(&self) -> bool {
        self.shared.queued_bytes.load(Ordering::Relaxed) == 0
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

    fn commit(&mut self, round: &Round, keys: &Keyspace) -> Result<()> {
        self.shared.faults.before_commit()?;
        let mut batch = batch(round, &self.shared.disk, keys, &mut self.row);
        if self.shared.sabotage == Some(Sabotage::AckBeforeSync) {
            batch = batch.durability(Some(PersistMode::Buffer));
        }
        batch.commit().map_err(unavailable)
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

/// The same failure for one more; a failure has one owner. One without a cause is that of a store that is closed.
fn again(failure: &Failure) -> Failure {
    match failure.cause_chain() {
        Some(cause) => errors::store_unavailable(cause),
        None => errors::store_closed(),
    }
}

fn crash_if(asked: bool) {
    if asked {
        std::process::abort();
    }
}
