use std::sync::Arc;

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use tertulia_proto::presence::*;
use tertulia_services::presence::Presence;

use crate::convert;
use crate::error::raise;
use crate::gate::Admission;

pub struct Handler(pub Arc<Presence>);

#[protovalidate_buffa::connect_impl]
impl PresenceService for Handler {
    async fn list_presence(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListPresenceRequest>,
    ) -> ServiceResult<ListPresenceResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let caller = member.caller().clone();
        let circles = self.0.circles(&caller, &[member]).await.map_err(raise)?;
        let states = self.0.states(&caller, &circles).await.map_err(raise)?;
        Response::ok(ListPresenceResponse {
            too_large: circles.heard.is_empty() && !circles.not_shared,
            not_shared: circles.not_shared,
            presences: convert::presences(&states),
            ..Default::default()
        })
    }

    async fn get_sharing(
        &self,
        ctx: RequestContext,
        _request: ServiceRequest<'_, GetSharingRequest>,
    ) -> ServiceResult<GetSharingResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        Response::ok(GetSharingResponse {
            share: self.0.shares(&caller).await.map_err(raise)?,
            ..Default::default()
        })
    }

    async fn set_sharing(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, SetSharingRequest>,
    ) -> ServiceResult<SetSharingResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let shares = request.share;
        self.0.share(&caller, shares).await.map_err(raise)?;
        Response::ok(SetSharingResponse::default())
    }
}
