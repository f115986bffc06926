//! The plain registry: what the runs of one process hold, and what this node has heard of others.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tertulia_kit::clock::SharedClock;

use super::model::{Holding, Known, Roll, Run, State};
use super::ports::{Away, Presences};
use crate::ids::UserId;

/// Of how many users it is known when they were last there; each of two halves has half of them, and the older half
/// is forgotten when the newer is full.
const SEEN_USERS_MAX: usize = 100_000;
/// How long it is known.
const SEEN_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// A registry in memory.
#[derive(Debug)]
pub struct Memory {
    clock: SharedClock,
    lease_ms: i64,
    /// Guards everything, for a few lines.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    runs: HashMap<Run, Held>,
    seen: HashMap<UserId, i64>,
    seen_before: HashMap<UserId, i64>,
}

/// What a run holds.
#[derive(Debug)]
struct Held {
    until_ms: i64,
    users: HashMap<UserId, Entry>,
}

#[derive(Debug)]
struct Entry {
    is_active: bool,
    /// When it was last said.
    at_ms: i64,
}

impl Memory {
    /// Nobody is there.
    pub fn new(clock: SharedClock, lease: Duration) -> Self {
        Memory {
            clock,
            lease_ms: lease.as_millis() as i64,
            kept: Mutex::new(Kept::default()),
        }
    }

    /// A run is alive.
    pub fn alive(&self, run: Run) {
        let until_ms = self.clock.now_ms() + self.lease_ms;
        let mut kept = self.kept.lock();
        kept.run(run).until_ms = until_ms;
    }

    /// Takes in what a run holds, and gives how each user was before and is now.
    pub fn take(&self, run: Run, holdings: &[(UserId, Holding)]) -> Vec<(UserId, State, State)> {
        let now = self.clock.now_ms();
        let mut kept = self.kept.lock();
        let taken = holdings.iter().map(|(user, holding)| {
            let before = kept.state(*user, now);
            kept.hold(run, *user, *holding, now);
            (*user, before, kept.state(*user, now))
        });
        taken.collect()
    }

    /// What is known of a user, without what runs that are over have left.
    pub fn known(&self, user: UserId) -> Known {
        let now = self.clock.now_ms();
        self.kept.lock().known(user, now)
    }

    /// How a user is; `Unknown` when nothing is held and nobody knows since when.
    pub fn state(&self, user: UserId) -> State {
        let now = self.clock.now_ms();
        self.kept.lock().state(user, now)
    }

    /// Takes in what another registry answered that was asked at `asked_ms`, and gives who is otherwise now than
    /// before.
    pub fn learn(&self, roll: &Roll, asked_ms: i64) -> Vec<(UserId, State)> {
        let now = self.clock.now_ms();
        let mut kept = self.kept.lock();
        let mut changed = Vec::new();
        for known in &roll.users {
            let before = kept.state(known.user, now);
            kept.learn(known, &roll.living, asked_ms, (now, self.lease_ms));
            let state = kept.state(known.user, now);
            if state != before {
                changed.push((known.user, state));
            }
        }
        changed
    }

    /// Forgets a user.
    pub fn hide(&self, user: UserId) {
        self.kept.lock().hide(user);
    }

    /// A run is over: gives whom it held.
    pub fn ended(&self, run: Run) -> Vec<UserId> {
        let ended = self.kept.lock().runs.remove(&run);
        ended.map_or_else(Vec::new, |held| held.users.into_keys().collect())
    }

    /// Lets go of runs whose lease is over and of what was not repeated for so long, but for those of one run. Gives
    /// whose holdings that were.
    pub fn expire(&self, but: Run, unrepeated: Duration) -> Vec<UserId> {
        let now = self.clock.now_ms();
        let since = now - unrepeated.as_millis() as i64;
        let mut gone = Vec::new();
        let mut kept = self.kept.lock();
        kept.runs.retain(|run, held| {
            if *run == but {
                return true;
            }
            if held.until_ms <= now {
                gone.extend(held.users.keys());
                return false;
            }
            held.users.retain(|user, entry| {
                let stays = entry.at_ms >= since;
                if !stays {
                    gone.push(*user);
                }
                stays
            });
            true
        });
        gone
    }
}

impl Kept {
    fn run(&mut self, run: Run) -> &mut Held {
        self.runs.entry(run).or_insert_with(|| Held {
            until_ms: 0,
            users: HashMap::new(),
        })
    }

    fn hold(&mut self, run: Run, user: UserId, holding: Holding, now: i64) {
        let is_active = match holding {
            Holding::Active => true,
            Holding::Idle => false,
            Holding::Gone => {
                self.run(run).users.remove(&user);
                return self.saw(user, now, now);
            }
            Holding::Hidden => return self.hide(user),
        };
        let entry = Entry {
            is_active,
            at_ms: now,
        };
        self.run(run).users.insert(user, entry);
    }

    fn learn(&mut self, known: &Known, living: &[Run], asked_ms: i64, (now, lease_ms): (i64, i64)) {
        for (run, holding) in &known.held {
            let held = self.run(*run);
            // How long its lease lasts is not told. Of a run that is known it is heard.
            if held.until_ms <= now {
                held.until_ms = now + lease_ms;
            }
            self.hold(*run, known.user, *holding, now);
        }
        // A run tells the registry before it tells nodes. So what was heard before the question and is not in the
        // answer was let go, and that word was lost; what was heard since then the registry may not have had yet.
        let is_held = |run: &Run| known.held.iter().any(|(held, _)| held == run);
        for run in living.iter().filter(|run| !is_held(run)) {
            if let Some(held) = self.runs.get_mut(run)
                && held
                    .users
                    .get(&known.user)
                    .is_some_and(|entry| entry.at_ms < asked_ms)
            {
                held.users.remove(&known.user);
            }
        }
        if let Some(at) = known.seen_at_ms {
            self.saw(known.user, at, now);
        }
    }

    fn hide(&mut self, user: UserId) {
        for held in self.runs.values_mut() {
            held.users.remove(&user);
        }
        self.seen.remove(&user);
        self.seen_before.remove(&user);
    }

    fn saw(&mut self, user: UserId, at_ms: i64, now: i64) {
        let at_ms = self.seen_at(user, now).map_or(at_ms, |at| at.max(at_ms));
        if self.seen.len() >= SEEN_USERS_MAX / 2 && !self.seen.contains_key(&user) {
            self.seen_before = std::mem::take(&mut self.seen);
        }
        self.seen.insert(user, at_ms);
    }

    fn seen_at(&self, user: UserId, now: i64) -> Option<i64> {
        let at = self.seen.get(&user).or_else(|| self.seen_before.get(&user));
        at.copied()
            .filter(|at| now - at <= SEEN_KEPT.as_millis() as i64)
    }

    fn known(&self, user: UserId, now: i64) -> Known {
        let living = self.runs.iter().filter(|(_, held)| held.until_ms > now);
        let held = living.filter_map(|(run, held)| {
            let entry = held.users.get(&user)?;
            let holding = match entry.is_active {
                true => Holding::Active,
                false => Holding::Idle,
            };
            Some((*run, holding))
        });
        Known {
            user,
            held: held.collect(),
            seen_at_ms: self.seen_at(user, now),
        }
    }

    /// What runs have left that ended without a word.
    fn left_by_the_dead(&self, user: UserId, now: i64) -> Option<i64> {
        let dead = self.runs.values().filter(|held| held.until_ms <= now);
        let left = dead.filter_map(|held| held.users.get(&user));
        left.map(|entry| entry.at_ms).max()
    }

    fn state(&self, user: UserId, now: i64) -> State {
        match State::of(&self.known(user, now)) {
            State::Offline { seen_at_ms: None } => State::Unknown,
            state => state,
        }
    }
}

#[async_trait]
impl Presences for Memory {
    async fn begin(&self, run: Run) -> Result<(), Away> {
        self.alive(run);
        Ok(())
    }

    async fn renew(&self, run: Run) -> Result<bool, Away> {
        let now = self.clock.now_ms();
        let mut kept = self.kept.lock();
        let living = kept.runs.get_mut(&run).filter(|held| held.until_ms > now);
        Ok(living
            .map(|held| held.until_ms = now + self.lease_ms)
            .is_some())
    }

    async fn end(&self, run: Run) -> Result<(), Away> {
        if let Some(held) = self.kept.lock().runs.get_mut(&run) {
            held.until_ms = 0;
        }
        Ok(())
    }

    async fn hold(&self, run: Run, holdings: &[(UserId, Holding)]) -> Result<(), Away> {
        self.take(run, holdings);
        Ok(())
    }

    async fn of(&self, users: &[UserId]) -> Result<Roll, Away> {
        let now = self.clock.now_ms();
        let kept = self.kept.lock();
        let known = users.iter().map(|user| {
            let known = kept.known(*user, now);
            let left = kept.left_by_the_dead(*user, now);
            Known {
                seen_at_ms: known.seen_at_ms.max(left),
                ..known
            }
        });
        let users = known.collect();
        let living = kept.runs.iter().filter(|(_, held)| held.until_ms > now);
        let living = living.map(|(run, _)| *run).collect();
        Ok(Roll { living, users })
    }
}
