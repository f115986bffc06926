use std::sync::Arc;

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use tertulia_proto::chats::{__buffa::view::oneof::list_events_request::From, *};
use tertulia_services::chats::Chats;
use tertulia_services::ids::UserId;

use crate::convert;
use crate::error::raise;
use crate::gate::Admission;

/// How much of a list is given when the caller does not say.
const PAGE_DEFAULT: usize = 50;

pub struct Handler(pub Arc<Chats>);

#[protovalidate_buffa::connect_impl]
impl ChatsService for Handler {
    async fn open_direct(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, OpenDirectRequest>,
    ) -> ServiceResult<OpenDirectResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let chat = self
            .0
            .open_direct(&caller, UserId(request.user_id))
            .await
            .map_err(raise)?;
        Response::ok(OpenDirectResponse {
            chat: convert::chat(&chat).into(),
            ..Default::default()
        })
    }

    async fn get_chat(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, GetChatRequest>,
    ) -> ServiceResult<GetChatResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let chat = self.0.chat(&member).await.map_err(raise)?;
        Response::ok(GetChatResponse {
            chat: convert::chat(&chat).into(),
            ..Default::default()
        })
    }

    async fn list_chats(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListChatsRequest>,
    ) -> ServiceResult<ListChatsResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let limit = convert::limit(request.limit, PAGE_DEFAULT);
        let page = self
            .0
            .chats(&caller, limit, request.page_token)
            .await
            .map_err(raise)?;
        Response::ok(ListChatsResponse {
            chats: page.chats.iter().map(convert::chat).collect(),
            next_page_token: page.next_page_token,
            ..Default::default()
        })
    }

    async fn list_events(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListEventsRequest>,
    ) -> ServiceResult<ListEventsResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let limit = convert::limit(request.limit, PAGE_DEFAULT);
        let page = match request.from {
            Some(From::BeforeSeq(seq)) => self.0.events_before(&member, seq, limit).await,
            Some(From::AfterSeq(seq)) => self.0.events_after(&member, seq, limit).await,
            None => self.0.events_after(&member, 0, limit).await,
        };
        let page = page.map_err(raise)?;
        Response::ok(ListEventsResponse {
            events: page.events.iter().map(|e| convert::event(e)).collect(),
            head: page.head,
            ..Default::default()
        })
    }

    async fn send_message(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, SendMessageRequest>,
    ) -> ServiceResult<SendMessageResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let (id, text) = (
            request.client_message_id.to_owned(),
            request.text.to_owned(),
        );
        let receipt = self.0.send(&member, id, text).await.map_err(raise)?;
        Response::ok(SendMessageResponse {
            seq: receipt.seq,
            message_id: receipt.id.0,
            at_ms: receipt.at_ms,
            ..Default::default()
        })
    }

    async fn list_user_events(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListUserEventsRequest>,
    ) -> ServiceResult<ListUserEventsResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let limit = convert::limit(request.limit, PAGE_DEFAULT);
        let page = self
            .0
            .user_events(&caller, request.after_seq, limit)
            .await
            .map_err(raise)?;
        Response::ok(ListUserEventsResponse {
            events: page.events.iter().map(|e| convert::user_event(e)).collect(),
            head: page.head,
            ..Default::default()
        })
    }
}
