use std::sync::Arc;

use connectrpc::{ConnectError, RequestContext, Response, ServiceRequest, ServiceResult};
use tertulia_kit::error::Result;
use tertulia_proto::chats::*;
use tertulia_services::chats::{Chats, Outgoing, Sent, Seq};
use tertulia_services::ids::{ChatId, ScheduledId};

use crate::convert;
use crate::error::raise;
use crate::gate::Admission;

/// How much of a thread is given when the caller does not say.
const THREAD_DEFAULT: usize = 50;
/// How many reactions are given when the caller does not say.
const REACTIONS_DEFAULT: usize = 100;

pub struct Handler(pub Arc<Chats>);

#[protovalidate_buffa::connect_impl]
impl MessagesService for Handler {
    async fn send_message(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, SendMessageRequest>,
    ) -> ServiceResult<SendMessageResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let out = outgoing(request.to_owned_message());
        let sent = self.0.send(&member, out).await.map_err(raise)?;
        Response::ok(where_it_is(sent))
    }

    async fn forward_messages(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ForwardMessagesRequest>,
    ) -> ServiceResult<ForwardMessagesResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let request = request.to_owned_message();
        let (id, from) = (request.client_message_id, ChatId(request.from_chat_id));
        let sent = self
            .0
            .forward(&member, id, from, request.message_seqs)
            .await;
        let sent = sent.map_err(raise)?;
        Response::ok(ForwardMessagesResponse {
            messages: sent.into_iter().map(where_it_is).collect(),
            ..Default::default()
        })
    }

    async fn edit_message(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, EditMessageRequest>,
    ) -> ServiceResult<EditMessageResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let request = request.to_owned_message();
        let mentions = convert::mentions_of(request.mentions.into_option());
        let (message, text) = (request.message_seq, request.text);
        let edited = self.0.edit(&member, message, text, mentions).await;
        Response::ok(EditMessageResponse {
            seq: made(edited)?,
            ..Default::default()
        })
    }

    async fn delete_messages(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, DeleteMessagesRequest>,
    ) -> ServiceResult<DeleteMessagesResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let deleted = self.0.delete(&member, request.message_seqs.to_vec()).await;
        Response::ok(DeleteMessagesResponse {
            seq: made(deleted)?,
            ..Default::default()
        })
    }

    async fn hide_messages(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, HideMessagesRequest>,
    ) -> ServiceResult<HideMessagesResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let hidden = self.0.hide(&member, request.message_seqs.to_vec()).await;
        hidden.map_err(raise)?;
        Response::ok(HideMessagesResponse::default())
    }

    async fn add_reaction(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, AddReactionRequest>,
    ) -> ServiceResult<AddReactionResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let emoji = request.emoji.to_owned();
        let reacted = self
            .0
            .react(&member, request.message_seq, emoji, true)
            .await;
        Response::ok(AddReactionResponse {
            seq: made(reacted)?,
            ..Default::default()
        })
    }

    async fn remove_reaction(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, RemoveReactionRequest>,
    ) -> ServiceResult<RemoveReactionResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let emoji = request.emoji.to_owned();
        let reacted = self
            .0
            .react(&member, request.message_seq, emoji, false)
            .await;
        Response::ok(RemoveReactionResponse {
            seq: made(reacted)?,
            ..Default::default()
        })
    }

    async fn list_reactions(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListReactionsRequest>,
    ) -> ServiceResult<ListReactionsResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let limit = convert::limit(request.limit, REACTIONS_DEFAULT);
        let all = self.0.reactions(&member, request.message_seq, limit).await;
        let reactions = all.map_err(raise)?.into_iter();
        let reactions = reactions.map(|(emoji, user)| MemberReaction {
            user_id: user.0,
            emoji,
            ..Default::default()
        });
        Response::ok(ListReactionsResponse {
            reactions: reactions.collect(),
            ..Default::default()
        })
    }

    async fn pin_message(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, PinMessageRequest>,
    ) -> ServiceResult<PinMessageResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let pinned = self.0.pin(&member, request.message_seq, true).await;
        Response::ok(PinMessageResponse {
            seq: made(pinned)?,
            ..Default::default()
        })
    }

    async fn unpin_message(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, UnpinMessageRequest>,
    ) -> ServiceResult<UnpinMessageResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let unpinned = self.0.pin(&member, request.message_seq, false).await;
        Response::ok(UnpinMessageResponse {
            seq: made(unpinned)?,
            ..Default::default()
        })
    }

    async fn get_messages(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, GetMessagesRequest>,
    ) -> ServiceResult<GetMessagesResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let page = self
            .0
            .messages(&member, request.message_seqs.to_vec())
            .await;
        let page = page.map_err(raise)?;
        Response::ok(GetMessagesResponse {
            events: page.events.iter().map(convert::event).collect(),
            head: page.head,
            ..Default::default()
        })
    }

    async fn list_thread(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListThreadRequest>,
    ) -> ServiceResult<ListThreadResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let limit = convert::limit(request.limit, THREAD_DEFAULT);
        let (thread, after) = (request.thread_seq, request.after_seq);
        let page = self.0.thread(&member, thread, after, limit).await;
        let (page, more) = page.map_err(raise)?;
        Response::ok(ListThreadResponse {
            events: page.events.iter().map(convert::event).collect(),
            head: page.head,
            more,
            ..Default::default()
        })
    }

    async fn list_edits(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListEditsRequest>,
    ) -> ServiceResult<ListEditsResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let versions = self.0.edits(&member, request.message_seq).await;
        let versions = versions.map_err(raise)?;
        Response::ok(ListEditsResponse {
            versions: versions.into_iter().map(convert::text_version).collect(),
            ..Default::default()
        })
    }

    async fn send_typing(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, SendTypingRequest>,
    ) -> ServiceResult<SendTypingResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        self.0.typing(&member).await.map_err(raise)?;
        Response::ok(SendTypingResponse::default())
    }

    async fn schedule_message(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ScheduleMessageRequest>,
    ) -> ServiceResult<ScheduleMessageResponse> {
        let member = Admission::of(&ctx)?.member(request.chat_id).await?;
        let request = request.to_owned_message();
        let out = Outgoing {
            client_message_id: request.client_message_id,
            text: request.text,
            reply_to: convert::seq_of(request.reply_to_seq),
            thread: convert::seq_of(request.thread_seq),
            mentions: convert::mentions_of(request.mentions.into_option()),
        };
        let scheduled = self.0.schedule(&member, out, request.send_at_ms).await;
        let scheduled = scheduled.map_err(raise)?;
        Response::ok(ScheduleMessageResponse {
            scheduled: convert::scheduled(&scheduled).into(),
            ..Default::default()
        })
    }

    async fn cancel_scheduled_message(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, CancelScheduledMessageRequest>,
    ) -> ServiceResult<CancelScheduledMessageResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let scheduled = ScheduledId(request.scheduled_id);
        let gone = self.0.call_off(&caller, scheduled).await;
        gone.map_err(raise)?;
        Response::ok(CancelScheduledMessageResponse::default())
    }

    async fn list_scheduled_messages(
        &self,
        ctx: RequestContext,
        _request: ServiceRequest<'_, ListScheduledMessagesRequest>,
    ) -> ServiceResult<ListScheduledMessagesResponse> {
        let caller = Admission::of(&ctx)?.user().await?;
        let all = self.0.scheduled(&caller).await.map_err(raise)?;
        Response::ok(ListScheduledMessagesResponse {
            scheduled: all.iter().map(convert::scheduled).collect(),
            ..Default::default()
        })
    }
}

/// What a request asks to be sent.
pub fn outgoing(request: SendMessageRequest) -> Outgoing {
    Outgoing {
        client_message_id: request.client_message_id,
        text: request.text,
        reply_to: convert::seq_of(request.reply_to_seq),
        thread: convert::seq_of(request.thread_seq),
        mentions: convert::mentions_of(request.mentions.into_option()),
    }
}

/// Where a message is that was sent.
pub fn where_it_is(sent: Sent) -> SendMessageResponse {
    SendMessageResponse {
        seq: sent.seq,
        message_id: sent.id.0,
        at_ms: sent.at_ms,
        ..Default::default()
    }
}

/// The seq of the event that was made; 0 when nothing changed.
fn made(result: Result<Option<Seq>>) -> Result<i64, ConnectError> {
    result.map(convert::seq).map_err(raise)
}
