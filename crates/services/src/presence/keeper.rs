//! What happens by itself on a node: it tells what has changed, keeps the registry and other nodes believing that it is
//! there, repeats what it holds, and notices who is heard of no more.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tertulia_kit::error::Failure;
use tokio::time::{Instant, timeout_at};

use super::model::{Holding, Run, State, Word};
use super::ports::{Away, Presences};
use super::{BELIEVED_FOR, Presence, REPEATED_OVER};
use crate::errors;
use crate::ids::UserId;

/// How often a [`Keeper`] is to make a step. A user who changes more often is told once.
pub const BEAT: Duration = Duration::from_secs(1);
/// Of how many users a node tells in a beat; the others wait for the next.
const TOLD_USERS_MAX: usize = 10_000;
/// Of how many the registry is asked in a beat, and the store at once.
const ASKED_USERS_MAX: usize = 500;
/// How many users stand in one message to other nodes.
const WORD_USERS_MAX: usize = 1_000;
/// How long the store is waited for in one go: other nodes wait for this one.
const SHARING_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often a lease is renewed while it lasts.
const RENEWALS: u32 = 4;

/// The loop of a node, one step at a time.
pub struct Keeper {
    presence: Arc<Presence>,
    run: Run,
    /// The registry holds this run, and everything that it was to hold.
    is_held: bool,
    /// It has answered before.
    was_held: bool,
    renew_at_ms: i64,
    /// Whose turn it is to be told again.
    round: Vec<UserId>,
    fails: bool,
}

impl Keeper {
    /// Has told nothing yet.
    pub fn new(presence: Arc<Presence>) -> Self {
        Keeper {
            presence,
            run: Run::random(),
            is_held: false,
            was_held: false,
            renew_at_ms: 0,
            round: Vec::new(),
            fails: false,
        }
    }

    /// One step. Not to be dropped within: what was taken to be told would not be.
    pub async fn beat(&mut self) {
        let now = self.presence.clock.now_ms();
        let renews = now >= self.renew_at_ms;
        if renews {
            self.renew_at_ms = now + (self.presence.options.lease / RENEWALS).as_millis() as i64;
            self.renew().await;
        }
        self.tell_changes().await;
        if renews && !self.presence.options.is_alone {
            self.repeat().await;
        }
        let unrepeated = self.presence.options.lease * BELIEVED_FOR;
        let gone = self.presence.heard.expire(self.run, unrepeated);
        self.presence.doubt(gone);
        self.settle_doubts().await;
    }

    async fn tell_changes(&mut self) {
        let now = self.presence.clock.now_ms();
        let due = self.presence.here.lock().due(now, TOLD_USERS_MAX);
        let (known, unknown): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, knows)| *knows);
        let mut users: Vec<UserId> = known.into_iter().map(|(user, _)| user).collect();
        users.extend(
            self.learn_sharing(unknown.into_iter().map(|(user, _)| user).collect())
                .await,
        );
        let news = self.presence.here.lock().tell(users, now);
        self.hold(&news).await;
        self.say(&news);
    }

    /// Asks what these share, and gives those of whom it is known now. The others come again.
    async fn learn_sharing(&mut self, users: Vec<UserId>) -> Vec<UserId> {
        let until = Instant::now() + SHARING_WAIT_MAX;
        let mut known = Vec::with_capacity(users.len());
        for some in users.chunks(ASKED_USERS_MAX) {
            let Some(sharing) = self.sharing(some, until).await else {
                let rest = users.iter().skip(known.len()).copied();
                self.presence.here.lock().later(rest);
                break;
            };
            let mut here = self.presence.here.lock();
            for user in some {
                here.share(*user, sharing.contains(user));
            }
            known.extend_from_slice(some);
        }
        known
    }

    /// Those of these who share. None when the store does not say, soon.
    async fn sharing(&mut self, users: &[UserId], until: Instant) -> Option<HashSet<UserId>> {
        let asking = self.presence.sharing.sharing(users);
        let failure = match timeout_at(until, asking).await {
            Ok(Ok(sharing)) => {
                self.fails = false;
                return Some(sharing.into_iter().collect());
            }
            Ok(Err(failure)) => failure,
            Err(late) => errors::store_unavailable(late),
        };
        self.fail(&failure);
        None
    }

    /// Of failures in a row only the first is logged.
    fn fail(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.fails, true) {
            let (reason, cause) = (failure.reason(), failure.cause_chain());
            tracing::warn!(reason, cause, "it is not known who shares their presence");
        }
    }

    /// Tells the registry. When that fails, what it holds is not what it should: another run takes the place of this.
    async fn hold(&mut self, holdings: &[(UserId, Holding)]) {
        if self.is_held
            && !holdings.is_empty()
            && let Some(registry) = &self.presence.registry
        {
            self.is_held = registry.hold(self.run, holdings).await.is_ok();
        }
    }

    /// Tells the other nodes, and this one.
    fn say(&self, holdings: &[(UserId, Holding)]) {
        for some in holdings.chunks(WORD_USERS_MAX) {
            let word = Word::Held {
                run: self.run,
                holdings: some.into(),
            };
            self.presence.watchers.say(word);
        }
    }

    async fn renew(&mut self) {
        if let Some(registry) = self.presence.registry.clone() {
            let is_alive = self.is_held && registry.renew(self.run).await == Ok(true);
            if !is_alive {
                self.is_held = self.begin_anew(&*registry).await.is_ok();
            }
        }
        self.presence.watchers.say(Word::Held {
            run: self.run,
            holdings: Arc::new([]),
        });
    }

    /// The registry has forgotten this run, or may hold something of it that is over: another takes its place, with
    /// everything that is held.
    async fn begin_anew(&mut self, registry: &dyn Presences) -> Result<(), Away> {
        let run = Run::random();
        let held = self.presence.here.lock().told();
        registry.begin(run).await?;
        registry.hold(run, &held).await?;
        let before = std::mem::replace(&mut self.run, run);
        self.say(&held);
        self.presence.watchers.say(Word::Ended(before));
        // When this is lost its lease ends by itself.
        _ = registry.end(before).await;
        if std::mem::replace(&mut self.was_held, true) {
            // What others held may have changed meanwhile.
            let watched = self.presence.watchers.all_watched();
            self.presence.doubts.lock().extend(watched);
        }
        Ok(())
    }

    /// Tells a part of what is held once more, for who has not heard it, and asks what is shared.
    async fn repeat(&mut self) {
        if self.round.is_empty() {
            let held = self.presence.here.lock().told();
            self.round = held.into_iter().map(|(user, _)| user).collect();
        }
        let portion = self.presence.here.lock().users() / (REPEATED_OVER * RENEWALS) as usize + 1;
        let rest = self.round.len().saturating_sub(portion);
        let users = self.round.split_off(rest);
        let users = self.learn_sharing(users).await;
        // Who hides since then is in the next beat.
        let held = self.presence.here.lock().told_of(&users);
        self.hold(&held).await;
        self.say(&held);
    }

    /// Asks the registry about those who seem to have gone, and tells who hears of them.
    async fn settle_doubts(&mut self) {
        let doubted: Vec<UserId> = {
            let doubts = self.presence.doubts.lock();
            let some = doubts.iter().take(ASKED_USERS_MAX);
            some.copied().collect()
        };
        if doubted.is_empty() {
            return;
        }
        let until = Instant::now() + SHARING_WAIT_MAX;
        let Some(sharing) = self.sharing(&doubted, until).await else {
            return;
        };
        // What is doubted again from here on is asked about in the next beat.
        self.presence.no_doubt(&doubted);
        let shared: Vec<UserId> = sharing.iter().copied().collect();
        // What is new of these is among what all are told here.
        let (is_sure, _) = self.presence.ask(&shared).await;
        let states = doubted.into_iter().map(|user| {
            let state = match sharing.contains(&user) {
                true => self.presence.state(user, is_sure),
                false => State::Unknown,
            };
            (user, state)
        });
        let states: Vec<_> = states.collect();
        self.presence.watchers.changed(&states);
    }
}
