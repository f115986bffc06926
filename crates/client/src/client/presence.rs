//! Who is there.

use tertulia_proto::presence::{
    GetSharingRequest, ListPresenceRequest, ListPresenceResponse, SetSharingRequest,
};

use super::Client;
use crate::calls::Asked;
use crate::error::Result;
use crate::presence::Presence;
use crate::{ChatId, UserId};

impl Client {
    /// Names the chats, at most 100, of which the application shows who is there: direct chats and small groups. It
    /// holds over every connection until the next call. What is known is told as
    /// [`Change::Presence`](crate::Change::Presence).
    pub async fn watch(&self, chats: Vec<ChatId>) {
        let core = self.core();
        core.mind().presences.watched.clone_from(&chats);
        core.put(Asked::Watch(chats)).await;
    }

    /// Whether somebody is there; none when nothing is known, or nothing is told.
    pub fn presence(&self, user: UserId) -> Option<Presence> {
        self.core().mind().presences.known.get(&user).copied()
    }

    /// Says that nobody uses this client, or that somebody does again. It holds over every connection.
    pub async fn rest(&self, idle: bool) {
        let core = self.core();
        core.mind().presences.idle = idle;
        core.put(Asked::Rest(idle)).await;
    }

    /// Who is there of the members of a chat, once.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, and as every call.
    pub async fn list_presence(&self, chat_id: ChatId) -> Result<ListPresenceResponse> {
        let request = ListPresenceRequest {
            chat_id,
            ..Default::default()
        };
        self.core().ask(&request).await
    }

    /// Whether others may know that this user is there.
    ///
    /// # Errors
    /// As every call.
    pub async fn shares_presence(&self) -> Result<bool> {
        let answer = self.core().ask(&GetSharingRequest::default()).await?;
        Ok(answer.share)
    }

    /// Chooses whether others may know that this user is there, and this user of them. Who chooses to hears of others
    /// after the next [`watch`](Self::watch).
    ///
    /// # Errors
    /// As every call.
    pub async fn share_presence(&self, share: bool) -> Result<()> {
        let request = SetSharingRequest {
            share,
            ..Default::default()
        };
        self.core().ask(&request).await?;
        if !share {
            self.core().forget_presences();
        }
        Ok(())
    }
}
