//! The plain store of profiles: the same memory that keeps the accounts.

use async_trait::async_trait;
use tertulia_kit::error::Result;

use super::model::User;
use super::ports::{ProfileStore, Update};
use crate::identity::memory::Memory;
use crate::ids::UserId;

#[async_trait]
impl ProfileStore for Memory {
    async fn by_ids(&self, ids: &[UserId]) -> Result<Vec<User>> {
        let kept = self.kept.lock();
        Ok(ids
            .iter()
            .filter_map(|id| kept.users.get(id))
            .map(|kept| kept.user.clone())
            .collect())
    }

    async fn update(&self, update: Update) -> Result<Option<User>> {
        let mut kept = self.kept.lock();
        let Some(kept) = kept.users.get_mut(&update.user) else {
            return Ok(None);
        };
        if let Some(shown) = update.shown {
            kept.user.display_name = shown.display_name;
            kept.search_words = shown.search_words;
        }
        if let Some(about) = update.about {
            kept.user.about = about;
        }
        if let Some(shares_seen) = update.shares_seen {
            kept.user.shares_seen = shares_seen;
        }
        if let Some(shares_presence) = update.shares_presence {
            kept.user.shares_presence = shares_presence;
        }
        Ok(Some(kept.user.clone()))
    }

    async fn search(&self, prefix: &str, except: UserId, limit: usize) -> Result<Vec<User>> {
        let kept = self.kept.lock();
        let mut found: Vec<&User> = kept
            .users
            .values()
            .filter(|kept| {
                kept.search_words
                    .iter()
                    .any(|word| word.starts_with(prefix))
            })
            .map(|kept| &kept.user)
            .filter(|user| user.id != except)
            .collect();
        found.sort_by_key(|user| (!user.name.starts_with(prefix), &user.name));
        Ok(found.into_iter().take(limit).cloned().collect())
    }
}
