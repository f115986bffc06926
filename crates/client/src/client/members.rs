//! Members: who is in a chat, as what, and how they come in.

use tertulia_proto::chats::{
    AddMembersRequest, BanMemberRequest, Chat, CreateInviteRequest, Invite, JoinChatRequest,
    LeaveChatRequest, ListBannedRequest, ListBannedResponse, ListInvitesRequest,
    ListMembersRequest, ListMembersResponse, PreviewInviteRequest, PreviewInviteResponse,
    RemoveMemberRequest, RevokeInviteRequest, Role, SetRoleRequest, UnbanMemberRequest,
};

use super::Client;
use crate::core::empty;
use crate::error::Result;
use crate::time::random_id;
use crate::{ChatId, UserId};

/// Whom an invite lets in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Invitation {
    /// For how many seconds it can be used; 0 for ever.
    pub valid_s: i64,
    /// How many may come in by it; 0 for any number.
    pub uses_max: i32,
    /// As what; when not said, a member of a group and a reader of a channel.
    pub role: Role,
}

impl Client {
    /// A page of the members, by their ids.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, or as every call.
    pub async fn members(
        &self,
        chat: ChatId,
        after: UserId,
        limit: u32,
    ) -> Result<ListMembersResponse> {
        let request = ListMembersRequest {
            chat_id: chat,
            after_user_id: after,
            limit,
            ..Default::default()
        };
        self.core().ask(&request).await
    }

    /// Brings people in, and gives who is new.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, `TOO_MANY`, `DIRECT_CHAT`, or as every call.
    pub async fn add_members(
        &self,
        chat: ChatId,
        user_ids: Vec<UserId>,
        role: Role,
    ) -> Result<Vec<UserId>> {
        let request = AddMembersRequest {
            chat_id: chat,
            user_ids,
            role: role.into(),
            ..Default::default()
        };
        let answer = self.core().ask(&request).await?;
        self.happened(chat, answer.seq)?;
        Ok(answer.added_ids)
    }

    /// Removes somebody.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, `NOT_A_MEMBER`, or as every call.
    pub async fn remove_member(&self, chat: ChatId, user: UserId) -> Result<i64> {
        let request = RemoveMemberRequest {
            chat_id: chat,
            user_id: user,
            ..Default::default()
        };
        let seq = self.core().ask(&request).await?.seq;
        self.happened(chat, seq)
    }

    /// Removes somebody and keeps them out.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, or as every call.
    pub async fn ban(&self, chat: ChatId, user: UserId) -> Result<i64> {
        let request = BanMemberRequest {
            chat_id: chat,
            user_id: user,
            ..Default::default()
        };
        let seq = self.core().ask(&request).await?.seq;
        self.happened(chat, seq)
    }

    /// Lifts a ban.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, or as every call.
    pub async fn unban(&self, chat: ChatId, user: UserId) -> Result<i64> {
        let request = UnbanMemberRequest {
            chat_id: chat,
            user_id: user,
            ..Default::default()
        };
        let seq = self.core().ask(&request).await?.seq;
        self.happened(chat, seq)
    }

    /// A page of who is banned.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, or as every call.
    pub async fn banned(
        &self,
        chat: ChatId,
        after: UserId,
        limit: u32,
    ) -> Result<ListBannedResponse> {
        let request = ListBannedRequest {
            chat_id: chat,
            after_user_id: after,
            limit,
            ..Default::default()
        };
        self.core().ask(&request).await
    }

    /// Gives somebody another role. Who gives ownership away is an admin then.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, `NOT_A_MEMBER`, or as every call.
    pub async fn set_role(&self, chat: ChatId, user: UserId, role: Role) -> Result<i64> {
        let request = SetRoleRequest {
            chat_id: chat,
            user_id: user,
            role: role.into(),
            ..Default::default()
        };
        let seq = self.core().ask(&request).await?.seq;
        self.happened(chat, seq)
    }

    /// Leaves a group or a channel.
    ///
    /// # Errors
    /// `OWNER_MUST_STAY`, `DIRECT_CHAT`, or as every call.
    pub async fn leave(&self, chat: ChatId) -> Result<()> {
        let request = LeaveChatRequest {
            chat_id: chat,
            ..Default::default()
        };
        // The own log says that it is so; the log of the chat is not read any more.
        self.core().ask(&request).await.map(drop)
    }

    /// Makes an invite.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, `TOO_MANY`, `DIRECT_CHAT`, or as every call.
    pub async fn create_invite(&self, chat: ChatId, invitation: Invitation) -> Result<Invite> {
        let request = CreateInviteRequest {
            chat_id: chat,
            client_invite_id: random_id(&*self.core().machine),
            valid_s: invitation.valid_s,
            uses_max: invitation.uses_max,
            role: invitation.role.into(),
            ..Default::default()
        };
        let answer = self.ask_again(&request).await?;
        answer.invite.into_option().ok_or_else(|| empty("invite"))
    }

    /// The invites that can still be used, the newest first.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, or as every call.
    pub async fn invites(&self, chat: ChatId) -> Result<Vec<Invite>> {
        let request = ListInvitesRequest {
            chat_id: chat,
            ..Default::default()
        };
        Ok(self.core().ask(&request).await?.invites)
    }

    /// Ends an invite.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, `INVITE_NOT_FOUND`, or as every call.
    pub async fn revoke_invite(&self, chat: ChatId, code: &str) -> Result<()> {
        let request = RevokeInviteRequest {
            chat_id: chat,
            code: code.to_owned(),
            ..Default::default()
        };
        self.core().ask(&request).await.map(drop)
    }

    /// Shows what an invite leads to.
    ///
    /// # Errors
    /// `INVITE_NOT_FOUND`, or as every call.
    pub async fn preview_invite(&self, code: &str) -> Result<PreviewInviteResponse> {
        let request = PreviewInviteRequest {
            code: code.to_owned(),
            ..Default::default()
        };
        self.core().ask(&request).await
    }

    /// Comes in by an invite.
    ///
    /// # Errors
    /// `INVITE_NOT_FOUND`, `BANNED`, `TOO_MANY`, or as every call.
    pub async fn join(&self, code: &str) -> Result<Chat> {
        let request = JoinChatRequest {
            code: code.to_owned(),
            ..Default::default()
        };
        let asked_at = self.core().own_tip();
        let answer = self.core().ask(&request).await?;
        self.entered(answer.chat.into_option(), asked_at)
    }
}
