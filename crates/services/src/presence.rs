//! Who is there: a user is online while a session of theirs is in use anywhere, away while all of them rest, and else
//! offline since some minute. Nothing of it is numbered or kept for long, and nothing else depends on it.
//!
//! A node tells what it holds of its users once a second, the newest of each; that somebody has gone it tells after a
//! while, so that who comes back at once was never gone. It tells the registry, when there is one, and then the other
//! nodes. What it hears from them it remembers, and tells the sessions that asked for it.
//!
//! Nobody is said to be offline because a node was not heard of: the registry says so, or it is not known. Who does not
//! share their presence is held nowhere, and is told nothing of others. [`keeper`] is what happens by itself.

mod here;
mod keeper;
pub mod memory;
pub mod model;
pub mod ports;
#[cfg(any(test, feature = "suites"))]
pub mod suite;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;

use crate::access::{Caller, Member};
use crate::ids::UserId;
use here::Here;
use memory::Memory;

pub use keeper::{BEAT, Keeper};
pub use model::*;
pub use ports::*;

/// Of how many users one session hears at most. Chats that would make it more are left out.
pub const WATCHED_USERS_MAX: usize = 500;
/// How many leases a node takes to tell everything once that it holds, and for how many it is believed of what it has
/// not told again.
const REPEATED_OVER: u32 = 6;
const BELIEVED_FOR: u32 = 15;

/// The bounds of presence, each with its unit.
#[derive(Debug, Clone)]
pub struct Options {
    /// In chats of up to so many members they hear who is there. With 0 nobody hears anything.
    pub members_max: usize,
    /// How long a node is believed to be there that is not heard of.
    pub lease: Duration,
    /// How long after the last session a user is still there.
    pub grace: Duration,
    /// There is no other node, so what is not known here is not.
    pub is_alone: bool,
}

/// The service.
pub struct Presence {
    options: Options,
    clock: SharedClock,
    registry: Option<Arc<dyn Presences>>,
    sharing: Arc<dyn Sharing>,
    company: Arc<dyn Company>,
    watchers: Arc<dyn Watchers>,
    /// What this node has said and heard.
    heard: Memory,
    /// Guards who is here, for a few lines.
    here: Mutex<Here>,
    /// Guards those of whom the registry is to be asked before anything is said, for a few lines. There are never more
    /// than sessions here hear of.
    doubts: Mutex<BTreeSet<UserId>>,
}

impl Presence {
    /// Nobody is here yet. Without a registry nodes know what they tell each other.
    pub fn new(
        options: Options,
        registry: Option<Arc<dyn Presences>>,
        sharing: Arc<dyn Sharing>,
        company: Arc<dyn Company>,
        watchers: Arc<dyn Watchers>,
        clock: SharedClock,
    ) -> Arc<Self> {
        Arc::new(Presence {
            heard: Memory::new(clock.clone(), options.lease),
            options,
            clock,
            registry,
            sharing,
            company,
            watchers,
            here: Mutex::new(Here::default()),
            doubts: Mutex::new(BTreeSet::new()),
        })
    }

    /// A session of this user begins here, in use. It lasts until what is given is dropped.
    pub fn arrive(self: &Arc<Self>, caller: &Caller) -> Attendance {
        self.here.lock().arrive(caller.user);
        Attendance {
            presence: Arc::clone(self),
            user: caller.user,
            is_idle: false,
        }
    }

    /// How many users have a session here.
    pub fn users_here(&self) -> usize {
        self.here.lock().users()
    }

    /// Whether the caller shares their presence.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn shares(&self, caller: &Caller) -> Result<bool> {
        Ok(!self.sharing.sharing(&[caller.user]).await?.is_empty())
    }

    /// From now on others may know whether the caller is there and the caller of them, or neither. To hide is seen at
    /// once by who looks; who hears is told at once as far as nodes hear each other, else after some minutes.
    ///
    /// # Errors
    /// `USER_NOT_FOUND` when the account is gone, or the failure of the store.
    pub async fn share(&self, caller: &Caller, shares: bool) -> Result<()> {
        let user = caller.user;
        self.sharing.share(user, shares).await?;
        if !shares && let Some(registry) = &self.registry {
            // Who reads asks the store what is shared, so nothing is lost when this is.
            _ = registry
                .hold(Run::random(), &[(user, Holding::Hidden)])
                .await;
        }
        self.watchers.say(Word::Shared { user, shares });
        Ok(())
    }

    /// Of which of these chats the caller is told who is there: those that are small enough, in their order, as long as
    /// there are not too many people in them.
    ///
    /// # Errors
    /// The failure of a store.
    pub async fn circles(&self, caller: &Caller, chats: &[Member]) -> Result<Circles> {
        if !self.shares(caller).await? {
            return Ok(Circles {
                not_shared: true,
                ..Circles::default()
            });
        }
        let mut heard = Vec::new();
        let mut users = HashSet::new();
        for member in chats {
            let chat = member.chat();
            let most = self.options.members_max;
            let Some(members) = self.company.company(chat, most).await? else {
                continue;
            };
            let new = members.iter().filter(|user| !users.contains(*user));
            if members.contains(&caller.user) && users.len() + new.count() <= WATCHED_USERS_MAX {
                users.extend(members.iter().copied());
                heard.push(Circle { chat, members });
            }
        }
        Ok(Circles {
            not_shared: false,
            heard,
        })
    }

    /// What is known of the others in these chats who share it, each once.
    ///
    /// # Errors
    /// The failure of a store. Without the registry it is what this node has heard.
    pub async fn states(&self, caller: &Caller, circles: &Circles) -> Result<Vec<(UserId, State)>> {
        let members = circles.heard.iter().flat_map(|circle| &*circle.members);
        let others: BTreeSet<UserId> = members.copied().collect();
        let others = others.into_iter().filter(|user| *user != caller.user);
        let others: Vec<UserId> = others.collect();
        let users = self.sharing.sharing(&others).await?;
        let (is_sure, news) = self.ask(&users).await;
        self.watchers.changed(&news);
        let states = users.iter().map(|user| (*user, self.state(*user, is_sure)));
        Ok(states
            .filter(|(_, state)| *state != State::Unknown)
            .collect())
    }

    /// Learns from the registry; whether what it does not know is not, and who is otherwise than this node knew. Who
    /// listens to those has to be told, for when it is said again it is new no more.
    async fn ask(&self, users: &[UserId]) -> (bool, Vec<(UserId, State)>) {
        let Some(registry) = &self.registry else {
            return (self.options.is_alone, Vec::new());
        };
        let asked_ms = self.clock.now_ms();
        match registry.of(users).await {
            Ok(mut roll) => {
                // Of whom this node holds it knows more than the registry, until it has told that.
                let here = self.here.lock().told_of(users);
                roll.users
                    .retain(|known| here.iter().all(|(user, _)| *user != known.user));
                (true, self.heard.learn(&roll, asked_ms))
            }
            Err(Away) => (false, Vec::new()),
        }
    }

    fn state(&self, user: UserId, is_sure: bool) -> State {
        match (self.heard.state(user), is_sure) {
            (State::Unknown, true) => State::Offline { seen_at_ms: None },
            (state, _) => state,
        }
    }

    /// Takes in what a node says, this one as well. It is quick and waits for nothing.
    pub fn heard(&self, word: &Word) {
        match word {
            Word::Held { run, holdings } => {
                self.heard.alive(*run);
                let states = self.heard.take(*run, holdings);
                let mut changed = Vec::new();
                let mut gone = Vec::new();
                for ((user, before, now), (_, holding)) in states.into_iter().zip(holdings.iter()) {
                    match holding {
                        Holding::Hidden => changed.push((user, State::Unknown)),
                        _ if now.is_there() && now != before => changed.push((user, now)),
                        _ if now.is_there() => {}
                        _ => gone.push(user),
                    }
                }
                self.watchers.changed(&changed);
                self.doubt(gone);
            }
            Word::Ended(run) => {
                let held = self.heard.ended(*run);
                self.doubt(held.into_iter().filter(|user| !self.is_there(*user)));
            }
            Word::Shared { user, shares } => {
                self.here.lock().share(*user, *shares);
                if !shares {
                    self.heard.hide(*user);
                    self.watchers.changed(&[(*user, State::Unknown)]);
                    self.watchers.stop(*user);
                }
            }
        }
    }

    fn is_there(&self, user: UserId) -> bool {
        self.heard.state(user).is_there()
    }

    /// Of these the registry is asked, as far as somebody here hears of them, and then it is told what they are.
    fn doubt(&self, users: impl IntoIterator<Item = UserId>) {
        let watched = self.watchers.watched(users.into_iter().collect());
        self.doubts.lock().extend(watched);
    }

    fn no_doubt(&self, users: &[UserId]) {
        let mut doubts = self.doubts.lock();
        users.iter().for_each(|user| _ = doubts.remove(user));
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A session that is here; dropping it leaves.
#[derive(Debug)]
pub struct Attendance {
    presence: Arc<Presence>,
    user: UserId,
    is_idle: bool,
}

impl Attendance {
    /// The session rests, or is in use again.
    pub fn rest(&mut self, is_idle: bool) {
        if std::mem::replace(&mut self.is_idle, is_idle) != is_idle {
            self.presence.here.lock().rest(self.user, is_idle);
        }
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let grace = self.presence.options.grace.as_millis() as i64;
        let gone_at_ms = self.presence.clock.now_ms() + grace;
        let mut here = self.presence.here.lock();
        here.leave(self.user, self.is_idle, gone_at_ms);
    }
}

#[cfg(test)]
mod tests;
