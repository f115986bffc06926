use std::sync::Arc;

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use tertulia_proto::users::*;
use tertulia_services::ids::UserId;
use tertulia_services::users::{ProfileChange, Users};

use crate::convert;
use crate::error::raise;
use crate::gate::Admission;

/// How many people a search gives when the caller does not say.
const FOUND_DEFAULT: usize = 20;

pub struct Handler(pub Arc<Users>);

#[protovalidate_buffa::connect_impl]
impl UsersService for Handler {
    async fn get_me(
        &self,
        ctx: RequestContext,
        _request: ServiceRequest<'_, GetMeRequest>,
    ) -> ServiceResult<GetMeResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let user = self.0.me(&caller).await.map_err(raise)?;
        Response::ok(GetMeResponse {
            share_seen: user.shares_seen,
            user: convert::user(user).into(),
            ..Default::default()
        })
    }

    async fn get_users(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, GetUsersRequest>,
    ) -> ServiceResult<GetUsersResponse> {
        Admission::of(&ctx)?.user().await?;
        let ids: Vec<UserId> = request.user_ids.iter().map(|id| UserId(*id)).collect();
        let users = self.0.shown(&ids).await.map_err(raise)?;
        let users = users.into_iter().map(convert::user).collect();
        Response::ok(GetUsersResponse {
            users,
            ..Default::default()
        })
    }

    async fn update_profile(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, UpdateProfileRequest>,
    ) -> ServiceResult<UpdateProfileResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let request = request.to_owned_message();
        let change = ProfileChange {
            display_name: request.display_name,
            about: request.about,
            shares_seen: request.share_seen,
        };
        let user = self.0.update(&caller, change).await.map_err(raise)?;
        Response::ok(UpdateProfileResponse {
            share_seen: user.shares_seen,
            user: convert::user(user).into(),
            ..Default::default()
        })
    }

    async fn search_users(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, SearchUsersRequest>,
    ) -> ServiceResult<SearchUsersResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let limit = convert::limit(request.limit, FOUND_DEFAULT);
        let found = self
            .0
            .search(&caller, request.query, limit)
            .await
            .map_err(raise)?;
        Response::ok(SearchUsersResponse {
            users: found.users.into_iter().map(convert::user).collect(),
            more: found.more,
            ..Default::default()
        })
    }
}
