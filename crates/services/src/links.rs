//! Which service answers which other's need; the only file that knows two of them.

use async_trait::async_trait;
use tertulia_kit::error::Result;

use crate::chats::People;
use crate::ids::UserId;
use crate::users::Users;

#[async_trait]
impl People for Users {
    async fn exists(&self, user: UserId) -> Result<bool> {
        Users::exists(self, user).await
    }
}
