use std::sync::Arc;

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use tertulia_proto::chats::{__buffa::view::oneof::list_events_request::From, *};
use tertulia_services::chats::{ChatChange, Chats, Seq};
use tertulia_services::errors;
use tertulia_services::ids::{ChatId, UserId};

use crate::convert;
use crate::error::raise;
use crate::gate::Admission;

/// How much of a list is given when the caller does not say.
const PAGE_DEFAULT: usize = 50;
/// How many changed messages are given when the caller does not say.
const CHANGES_DEFAULT: usize = 100;
/// How many events go into one digest when the caller does not say.
const BLOCK_DEFAULT: usize = 500;

pub struct Handler(pub Arc<Chats>);

#[protovalidate_buffa::connect_impl]
impl ChatsService for Handler {
    async fn open_direct(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, OpenDirectRequest>,
    ) -> ServiceResult<OpenDirectResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let chat = self.0.open_direct(&caller, UserId(request.user_id)).await;
        let chat = chat.map_err(raise)?;
        Response::ok(OpenDirectResponse {
            chat: convert::chat(&chat).into(),
            ..Default::default()
        })
    }

    async fn create_chat(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, CreateChatRequest>,
    ) -> ServiceResult<CreateChatResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let request = request.to_owned_message();
        let kind = convert::new_kind(request.kind).ok_or_else(|| {
            let problem = "must be a group or a channel";
            raise(errors::invalid_field("kind", "enum.in", problem))
        })?;
        let details = ChatChange {
            title: Some(request.title),
            topic: Some(request.topic),
            avatar: Some(request.avatar),
            message_ttl_s: None,
        };
        let members = request.member_ids.into_iter().map(UserId).collect();
        let chat = self
            .0
            .create(&caller, kind, details, members, request.client_chat_id)
            .await
            .map_err(raise)?;
        Response::ok(CreateChatResponse {
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
        let page = self.0.chats(&caller, limit, request.page_token).await;
        let page = page.map_err(raise)?;
        Response::ok(ListChatsResponse {
            chats: page.chats.iter().map(convert::chat).collect(),
            next_page_token: page.next_page_token,
            ..Default::default()
        })
    }

    async fn update_chat(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, UpdateChatRequest>,
    ) -> ServiceResult<UpdateChatResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let change = convert::change(request.to_owned_message());
        let seq = self.0.change(&member, change).await.map_err(raise)?;
        Response::ok(UpdateChatResponse {
            seq: convert::seq(seq),
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
            events: page.events.iter().map(convert::event).collect(),
            head: page.head,
            ..Default::default()
        })
    }

    async fn list_changes(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListChangesRequest>,
    ) -> ServiceResult<ListChangesResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let limit = convert::limit(request.limit, CHANGES_DEFAULT);
        let (from, to) = (request.from_seq, request.to_seq);
        let changes = self
            .0
            .changes(&member, from, to, request.after_seq, limit)
            .await
            .map_err(raise)?;
        Response::ok(ListChangesResponse {
            events: changes.events.iter().map(convert::event).collect(),
            through_seq: changes.through,
            more: changes.more,
            ..Default::default()
        })
    }

    async fn get_digests(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, GetDigestsRequest>,
    ) -> ServiceResult<GetDigestsResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let block = convert::limit(request.block, BLOCK_DEFAULT);
        let (from, to) = (request.from_seq, request.to_seq);
        let digests = self.0.digests(&member, from, to, block).await;
        let (digests, head) = digests.map_err(raise)?;
        Response::ok(GetDigestsResponse {
            digests: digests.iter().map(convert::digest).collect(),
            head,
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
        let page = self.0.user_events(&caller, request.after_seq, limit).await;
        let page = page.map_err(raise)?;
        Response::ok(ListUserEventsResponse {
            events: page.events.iter().map(|e| convert::user_event(e)).collect(),
            head: page.head,
            ..Default::default()
        })
    }

    async fn mark_read(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, MarkReadRequest>,
    ) -> ServiceResult<MarkReadResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let read = self.0.mark_read(&member, request.seen_seq).await;
        let read = read.map_err(raise)?;
        Response::ok(MarkReadResponse {
            read: convert::read_state(read).into(),
            ..Default::default()
        })
    }

    async fn mark_delivered(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, MarkDeliveredRequest>,
    ) -> ServiceResult<MarkDeliveredResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let delivered = request.delivered.iter();
        let delivered: Vec<(ChatId, Seq)> = delivered
            .map(|one| (ChatId(one.chat_id), one.seq))
            .collect();
        let marked = self.0.mark_delivered(&caller, &delivered).await;
        marked.map_err(raise)?;
        Response::ok(MarkDeliveredResponse::default())
    }

    async fn list_receipts(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListReceiptsRequest>,
    ) -> ServiceResult<ListReceiptsResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let receipts = self.0.receipts(&member, request.seq).await;
        let receipts = receipts.map_err(raise)?;
        Response::ok(ListReceiptsResponse {
            receipts: receipts.each.iter().map(convert::receipt).collect(),
            delivered_count: convert::count(receipts.delivered),
            seen_count: convert::count(receipts.seen),
            ..Default::default()
        })
    }

    async fn update_chat_settings(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, UpdateChatSettingsRequest>,
    ) -> ServiceResult<UpdateChatSettingsResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let settings = convert::settings_of(&request.to_owned_message().settings);
        self.0.choose(&member, settings).await.map_err(raise)?;
        Response::ok(UpdateChatSettingsResponse {
            settings: convert::settings(settings).into(),
            ..Default::default()
        })
    }

    async fn update_draft(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, UpdateDraftRequest>,
    ) -> ServiceResult<UpdateDraftResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let draft = request.to_owned_message().draft.into_option();
        let draft = draft.unwrap_or_default();
        let reply_to = convert::seq_of(draft.reply_to_seq);
        let kept = self.0.keep_draft(&member, draft.text, reply_to).await;
        let kept = kept.map_err(raise)?;
        Response::ok(UpdateDraftResponse {
            draft: kept.as_deref().map(convert::draft).into(),
            ..Default::default()
        })
    }
}
