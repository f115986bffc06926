//! Whose sessions this node has, and what has been told of them.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::model::Holding;
use crate::ids::UserId;

/// The users with a session here, or with one that has only just gone. A user takes some 60 bytes, whatever the
/// number of sessions.
#[derive(Debug, Default)]
pub struct Here {
    users: HashMap<UserId, User>,
    /// Of whom something may have to be told.
    changed: HashSet<UserId>,
    /// Who has gone and may come back, by when it is told; each once.
    leaving: BTreeSet<(i64, UserId)>,
}

#[derive(Debug, Default)]
struct User {
    sessions: u32,
    idle: u32,
    /// By when it is told that they have gone.
    gone_at_ms: i64,
    /// Whether others may know; none when nobody has asked yet.
    shares: Option<bool>,
    /// Others may have heard something that they should not: they are told to forget it.
    hides: bool,
    /// What was told; none when nobody may think that they are here.
    told: Option<Holding>,
}

impl User {
    /// What is to be told at that time.
    fn holding(&self, now: i64) -> Holding {
        if self.shares == Some(false) {
            return Holding::Hidden;
        }
        match (self.sessions, self.idle) {
            (0, _) if now < self.gone_at_ms => self.told.unwrap_or(Holding::Gone),
            (0, _) => Holding::Gone,
            (all, idle) if idle >= all => Holding::Idle,
            _ => Holding::Active,
        }
    }
}

impl Here {
    /// How many users have a session.
    pub fn users(&self) -> usize {
        self.users.len() - self.leaving.len()
    }

    /// One more session, which is in use.
    pub fn arrive(&mut self, user: UserId) {
        let here = self.users.entry(user).or_default();
        if here.sessions == 0 {
            self.leaving.remove(&(here.gone_at_ms, user));
        }
        here.sessions += 1;
        if here.told != Some(Holding::Active) {
            self.changed.insert(user);
        }
    }

    /// A session less. That the user has gone is told after a while.
    pub fn leave(&mut self, user: UserId, is_idle: bool, gone_at_ms: i64) {
        let Some(here) = self.users.get_mut(&user) else {
            return;
        };
        here.sessions = here.sessions.saturating_sub(1);
        here.idle = here.idle.saturating_sub(u32::from(is_idle));
        if here.sessions == 0 {
            here.gone_at_ms = gone_at_ms;
            self.leaving.insert((gone_at_ms, user));
        } else {
            self.changed.insert(user);
        }
    }

    /// One of the sessions rests, or is in use again.
    pub fn rest(&mut self, user: UserId, is_idle: bool) {
        if let Some(here) = self.users.get_mut(&user) {
            match is_idle {
                true => here.idle += 1,
                false => here.idle = here.idle.saturating_sub(1),
            }
            self.changed.insert(user);
        }
    }

    /// The user has chosen.
    pub fn share(&mut self, user: UserId, shares: bool) {
        if let Some(here) = self.users.get_mut(&user)
            && here.shares != Some(shares)
        {
            here.shares = Some(shares);
            here.hides = !shares;
            // Who hears the choice has forgotten them.
            if !shares {
                here.told = None;
            }
            self.changed.insert(user);
        }
    }

    /// Those of whom something may have to be told by now, at most so many; they are no longer in the list. With each
    /// whether it is known what they share.
    pub fn due(&mut self, now: i64, most: usize) -> Vec<(UserId, bool)> {
        while let Some((at, user)) = self.leaving.first().copied()
            && at <= now
        {
            self.leaving.pop_first();
            self.changed.insert(user);
        }
        let due: Vec<UserId> = self.changed.iter().copied().take(most).collect();
        for user in &due {
            self.changed.remove(user);
        }
        let knows = |user: &UserId| self.users.get(user).is_some_and(|u| u.shares.is_some());
        due.iter().map(|user| (*user, knows(user))).collect()
    }

    /// Puts them into the list again.
    pub fn later(&mut self, users: impl IntoIterator<Item = UserId>) {
        self.changed.extend(users);
    }

    /// What is to be told of these that was not told before; from now on it was.
    pub fn tell(
        &mut self,
        users: impl IntoIterator<Item = UserId>,
        now: i64,
    ) -> Vec<(UserId, Holding)> {
        let mut news = Vec::new();
        for user in users {
            let Some(here) = self.users.get_mut(&user) else {
                continue;
            };
            let holding = here.holding(now);
            let is_there = matches!(holding, Holding::Active | Holding::Idle);
            let told = is_there.then_some(holding);
            if told != here.told || here.hides {
                news.push((user, holding));
            }
            (here.told, here.hides) = (told, false);
            self.changed.remove(&user);
            if here.sessions == 0 && now >= here.gone_at_ms {
                self.leaving.remove(&(here.gone_at_ms, user));
                self.users.remove(&user);
            }
        }
        news
    }

    /// Everything that was told and holds.
    pub fn told(&self) -> Vec<(UserId, Holding)> {
        let told = self.users.iter();
        told.filter_map(|(user, here)| Some((*user, here.told?)))
            .collect()
    }

    /// Of these, what was told and holds.
    pub fn told_of(&self, users: &[UserId]) -> Vec<(UserId, Holding)> {
        let told = users.iter();
        told.filter_map(|user| Some((*user, self.users.get(user)?.told?)))
            .collect()
    }
}
