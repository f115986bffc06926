//! Which service answers which other's need; the only file that knows two of them.

use std::sync::Arc;

use async_trait::async_trait;
use tertulia_kit::error::Result;

use crate::chats::{Chats, People};
use crate::ids::{ChatId, UserId};
use crate::presence::{Company, Sharing};
use crate::users::Users;

#[async_trait]
impl People for Users {
    async fn existing(&self, users: &[UserId]) -> Result<Vec<UserId>> {
        Users::existing(self, users).await
    }

    async fn shares_seen(&self, user: UserId) -> Result<bool> {
        Users::shares_seen(self, user).await
    }
}

#[async_trait]
impl Sharing for Users {
    async fn sharing(&self, users: &[UserId]) -> Result<Vec<UserId>> {
        let users = self.by_ids(users).await?;
        let sharing = users.into_iter().filter(|user| user.shares_presence);
        Ok(sharing.map(|user| user.id).collect())
    }

    async fn share(&self, user: UserId, shares: bool) -> Result<()> {
        self.share_presence(user, shares).await
    }
}

#[async_trait]
impl Company for Chats {
    async fn company(&self, chat: ChatId, most: usize) -> Result<Option<Arc<[UserId]>>> {
        Chats::company(self, chat, most).await
    }
}
