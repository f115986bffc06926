//! Which service answers which other's need; the only file that knows two of them.

use async_trait::async_trait;
use tertulia_kit::error::Result;

use crate::chats::People;
use crate::ids::UserId;
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
