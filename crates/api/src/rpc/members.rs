use std::sync::Arc;

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use tertulia_proto::chats::*;
use tertulia_services::chats::Chats;
use tertulia_services::errors;
use tertulia_services::ids::UserId;

use crate::convert;
use crate::error::raise;
use crate::gate::Admission;

/// How many people are given when the caller does not say.
const PEOPLE_DEFAULT: usize = 100;

pub struct Handler(pub Arc<Chats>);

#[protovalidate_buffa::connect_impl]
impl MembersService for Handler {
    async fn list_members(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListMembersRequest>,
    ) -> ServiceResult<ListMembersResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let limit = convert::limit(request.limit, PEOPLE_DEFAULT);
        let page = self
            .0
            .members(&member, UserId(request.after_user_id), limit)
            .await;
        let page = page.map_err(raise)?;
        let members = page.members.iter();
        Response::ok(ListMembersResponse {
            members: members.map(|(user, m)| convert::member(*user, m)).collect(),
            more: page.more,
            members_seq: page.members_seq,
            ..Default::default()
        })
    }

    async fn add_members(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, AddMembersRequest>,
    ) -> ServiceResult<AddMembersResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let users = request.user_ids.iter().map(|id| UserId(*id)).collect();
        let role = convert::role_of(request.role);
        let added = self.0.add_members(&member, users, role).await;
        let (seq, added) = added.map_err(raise)?;
        Response::ok(AddMembersResponse {
            seq: convert::seq(seq),
            added_ids: added.iter().map(|user| user.0).collect(),
            ..Default::default()
        })
    }

    async fn remove_member(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, RemoveMemberRequest>,
    ) -> ServiceResult<RemoveMemberResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let user = UserId(request.user_id);
        let seq = self.0.remove_member(&member, user, false).await;
        Response::ok(RemoveMemberResponse {
            seq: convert::seq(seq.map_err(raise)?),
            ..Default::default()
        })
    }

    async fn ban_member(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, BanMemberRequest>,
    ) -> ServiceResult<BanMemberResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let user = UserId(request.user_id);
        let seq = self.0.remove_member(&member, user, true).await;
        Response::ok(BanMemberResponse {
            seq: convert::seq(seq.map_err(raise)?),
            ..Default::default()
        })
    }

    async fn unban_member(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, UnbanMemberRequest>,
    ) -> ServiceResult<UnbanMemberResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let seq = self.0.unban(&member, UserId(request.user_id)).await;
        Response::ok(UnbanMemberResponse {
            seq: convert::seq(seq.map_err(raise)?),
            ..Default::default()
        })
    }

    async fn list_banned(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListBannedRequest>,
    ) -> ServiceResult<ListBannedResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let limit = convert::limit(request.limit, PEOPLE_DEFAULT);
        let banned = self
            .0
            .banned(&member, UserId(request.after_user_id), limit)
            .await;
        let (users, more) = banned.map_err(raise)?;
        Response::ok(ListBannedResponse {
            user_ids: users.iter().map(|user| user.0).collect(),
            more,
            ..Default::default()
        })
    }

    async fn set_role(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, SetRoleRequest>,
    ) -> ServiceResult<SetRoleResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let role = convert::role_of(request.role).ok_or_else(|| {
            let problem = "must name a role";
            raise(errors::invalid_field("role", "enum.defined_only", problem))
        })?;
        let seq = self
            .0
            .set_role(&member, UserId(request.user_id), role)
            .await;
        Response::ok(SetRoleResponse {
            seq: convert::seq(seq.map_err(raise)?),
            ..Default::default()
        })
    }

    async fn leave_chat(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, LeaveChatRequest>,
    ) -> ServiceResult<LeaveChatResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let seq = self.0.leave(&member).await.map_err(raise)?;
        Response::ok(LeaveChatResponse {
            seq: convert::seq(seq),
            ..Default::default()
        })
    }

    async fn create_invite(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, CreateInviteRequest>,
    ) -> ServiceResult<CreateInviteResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let (id, valid_s) = (request.client_invite_id.to_owned(), request.valid_s);
        let role = convert::role_of(request.role);
        let uses_max = request.uses_max.cast_unsigned();
        let invite = self
            .0
            .create_invite(&member, id, valid_s, uses_max, role)
            .await;
        Response::ok(CreateInviteResponse {
            invite: convert::invite(invite.map_err(raise)?).into(),
            ..Default::default()
        })
    }

    async fn list_invites(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListInvitesRequest>,
    ) -> ServiceResult<ListInvitesResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let invites = self.0.invites(&member).await.map_err(raise)?;
        Response::ok(ListInvitesResponse {
            invites: invites.into_iter().map(convert::invite).collect(),
            ..Default::default()
        })
    }

    async fn revoke_invite(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, RevokeInviteRequest>,
    ) -> ServiceResult<RevokeInviteResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let ended = self.0.revoke_invite(&member, request.code.to_owned()).await;
        ended.map_err(raise)?;
        Response::ok(RevokeInviteResponse::default())
    }

    async fn preview_invite(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, PreviewInviteRequest>,
    ) -> ServiceResult<PreviewInviteResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let preview = self.0.preview_invite(&caller, request.code).await;
        Response::ok(convert::preview(&preview.map_err(raise)?))
    }

    async fn join_chat(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, JoinChatRequest>,
    ) -> ServiceResult<JoinChatResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let chat = self.0.join(&caller, request.code.to_owned()).await;
        Response::ok(JoinChatResponse {
            chat: convert::chat(&chat.map_err(raise)?).into(),
            ..Default::default()
        })
    }
}
