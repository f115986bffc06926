//! What people see of each other: profiles, and how they are found.
//!
//! A user is made by `identity` in the same commit as the account; here it is read, changed and searched.

mod memory;
pub mod model;
pub mod ports;
pub mod rules;
#[cfg(any(test, feature = "suites"))]
pub mod suite;

use std::collections::HashSet;
use std::sync::Arc;

use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;

use crate::access::Caller;
use crate::errors;
use crate::ids::UserId;

pub use model::*;
pub use ports::*;

/// How many people one search may give.
const FOUND_MAX: usize = 50;
/// How long the words of a search may be.
const QUERY_CHARS_MAX: usize = 64;
/// How many users are read from the store at once.
const READ_AT_ONCE: usize = 100;

/// The service.
pub struct Users {
    store: Arc<dyn ProfileStore>,
    clock: SharedClock,
}

impl Users {
    /// Reads and changes the profiles in `store`.
    pub fn new(store: Arc<dyn ProfileStore>, clock: SharedClock) -> Self {
        Users { store, clock }
    }

    /// The caller's own profile.
    ///
    /// # Errors
    /// `USER_NOT_FOUND` when the account is gone, or the failure of the store.
    pub async fn me(&self, caller: &Caller) -> Result<User> {
        let found = self.store.by_ids(&[caller.user]).await?;
        found.into_iter().next().ok_or_else(errors::user_not_found)
    }

    /// The users of these ids that exist, each once, in no order, for who looks at them: a change may be seen a
    /// little later.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn shown(&self, ids: &[UserId]) -> Result<Vec<User>> {
        let ids = each_once(ids);
        let mut users = Vec::with_capacity(ids.len());
        for some in ids.chunks(READ_AT_ONCE) {
            users.extend(self.store.shown(some).await?);
        }
        Ok(users)
    }

    /// The users of these ids that exist, each once, in no order, as they are now.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn by_ids(&self, ids: &[UserId]) -> Result<Vec<User>> {
        let ids = each_once(ids);
        let mut users = Vec::with_capacity(ids.len());
        for some in ids.chunks(READ_AT_ONCE) {
            users.extend(self.store.by_ids(some).await?);
        }
        Ok(users)
    }

    /// Those of `ids` that exist, each once, in the order given.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn existing(&self, ids: &[UserId]) -> Result<Vec<UserId>> {
        let mut there: HashSet<UserId> = self.by_ids(ids).await?.iter().map(|u| u.id).collect();
        Ok(ids.iter().copied().filter(|id| there.remove(id)).collect())
    }

    /// Whether a user lets others know what they have seen.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn shares_seen(&self, user: UserId) -> Result<bool> {
        let found = self.store.by_ids(&[user]).await?;
        Ok(found.first().is_some_and(|user| user.shares_seen))
    }

    /// From now on others may know whether a user is there, or not.
    ///
    /// # Errors
    /// `USER_NOT_FOUND` when the account is gone, or the failure of the store.
    pub async fn share_presence(&self, user: UserId, shares: bool) -> Result<()> {
        let update = Update {
            user,
            shown: None,
            about: None,
            shares_seen: None,
            shares_presence: Some(shares),
            at_ms: self.clock.now_ms(),
        };
        let changed = self.store.update(update).await?;
        changed.map(|_| ()).ok_or_else(errors::user_not_found)
    }

    /// Changes what is set of the caller's profile and gives the whole of it.
    ///
    /// # Errors
    /// `INVALID_REQUEST` with the fields that break a rule, `USER_NOT_FOUND` when the account is gone, or the
    /// failure of the store.
    pub async fn update(&self, caller: &Caller, change: ProfileChange) -> Result<User> {
        let about = change.about.map(rules::about).transpose()?;
        let display_name = change
            .display_name
            .as_deref()
            .map(rules::display_name)
            .transpose()?;
        let now = self.me(caller).await?;
        if display_name.is_none() && about.is_none() && change.shares_seen.is_none() {
            return Ok(now);
        }
        let shown = display_name.map(|display_name| Shown {
            search_words: rules::search_words(&now.name, &display_name),
            display_name,
        });
        let update = Update {
            user: caller.user,
            shown,
            about,
            shares_seen: change.shares_seen,
            shares_presence: None,
            at_ms: self.clock.now_ms(),
        };
        self.store
            .update(update)
            .await?
            .ok_or_else(errors::user_not_found)
    }

    /// The people whose name, display name or a word of it begins with the query; the caller is left out.
    /// Best first: who has exactly that name, names that begin with it, then the others; each by name.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a query that is too long, or the failure of the store.
    pub async fn search(&self, caller: &Caller, query: &str, limit: usize) -> Result<Found> {
        if query.chars().count() > QUERY_CHARS_MAX {
            return Err(errors::invalid_field(
                "query",
                "string.max_len",
                "must have at most 64 characters",
            ));
        }
        let limit = limit.clamp(1, FOUND_MAX);
        let prefix = rules::folded(query.trim_start().trim_start_matches('@'));
        // No name has a control character, and not every engine takes each of them.
        if prefix.is_empty() || prefix.contains(char::is_control) {
            return Ok(Found::default());
        }
        // One more than asked for tells whether there are more.
        let mut users = self.store.search(&prefix, caller.user, limit + 1).await?;
        let more = users.len() > limit;
        users.truncate(limit);
        Ok(Found { users, more })
    }
}

fn each_once(ids: &[UserId]) -> Vec<UserId> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests;
