//! Profiles that are read through a cache, where it does not matter that a change which could not be told to the cache
//! is seen later.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tertulia_kit::cache::Through;
use tertulia_kit::error::Result;
use tertulia_services::ids::UserId;
use tertulia_services::users::{ProfileStore, Update, User};

/// The form in which profiles are cached. Another one has another number, and so other keys.
const FORM: u32 = 1;

/// The profiles of a store, with a cache before them.
pub struct Profiles {
    store: Arc<dyn ProfileStore>,
    through: Through,
}

/// A profile as it is cached.
#[derive(Serialize, Deserialize)]
struct Cached {
    id: i64,
    name: String,
    display_name: String,
    about: String,
    shares_seen: bool,
    shares_presence: bool,
}

impl Profiles {
    /// Those of this store, through a cache.
    pub fn new(store: Arc<dyn ProfileStore>, through: Through) -> Self {
        Profiles { store, through }
    }

    async fn read(&self, ids: Vec<UserId>) -> Result<Vec<Option<Bytes>>> {
        let mut found = self.store.by_ids(&ids).await?;
        found.sort_unstable_by_key(|user| user.id);
        let of = |id: UserId| {
            let at = found.binary_search_by_key(&id, |user| user.id).ok()?;
            Some(written(&found[at]))
        };
        Ok(ids.into_iter().map(of).collect())
    }
}

fn key(user: UserId) -> String {
    format!("profile:{FORM}:{user}")
}

fn written(user: &User) -> Bytes {
    let User {
        id,
        name,
        display_name,
        about,
        shares_seen,
        shares_presence,
    } = user.clone();
    let cached = Cached {
        id: id.0,
        name,
        display_name,
        about,
        shares_seen,
        shares_presence,
    };
    // Texts and numbers always can be written.
    Bytes::from(serde_json::to_vec(&cached).unwrap_or_default())
}

/// None when it is not what was written by [`written`].
fn parsed(bytes: &[u8]) -> Option<User> {
    let cached: Cached = serde_json::from_slice(bytes).ok()?;
    Some(User {
        id: UserId(cached.id),
        name: cached.name,
        display_name: cached.display_name,
        about: cached.about,
        shares_seen: cached.shares_seen,
        shares_presence: cached.shares_presence,
    })
}

#[async_trait]
impl ProfileStore for Profiles {
    async fn by_ids(&self, ids: &[UserId]) -> Result<Vec<User>> {
        self.store.by_ids(ids).await
    }

    async fn shown(&self, ids: &[UserId]) -> Result<Vec<User>> {
        let keys: Vec<String> = ids.iter().copied().map(key).collect();
        let fetch = |places: Vec<usize>| self.read(places.into_iter().map(|at| ids[at]).collect());
        let values = self.through.read(&keys, fetch).await?;
        let users: Option<Vec<User>> = values.iter().flatten().map(|v| parsed(v)).collect();
        match users {
            Some(users) => Ok(users),
            // Somebody else writes into our keys.
            None => self.store.by_ids(ids).await,
        }
    }

    async fn update(&self, update: Update) -> Result<Option<User>> {
        let key = key(update.user);
        self.through.change(&key, self.store.update(update)).await
    }

    async fn search(&self, prefix: &str, except: UserId, limit: usize) -> Result<Vec<User>> {
        self.store.search(prefix, except, limit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_comes_out_of_the_cache_as_it_went_in() {
        let user = User {
            id: UserId(i64::MAX),
            name: "ana".into(),
            display_name: "Ana \u{1F98A} \"quoted\"".into(),
            about: "\n".into(),
            shares_seen: false,
            shares_presence: true,
        };
        assert_eq!(parsed(&written(&user)), Some(user));
        assert_eq!(parsed(b"{}"), None);
        assert_eq!(parsed(b""), None);
    }
}
