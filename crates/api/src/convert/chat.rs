//! Chats.

use tertulia_proto::chats as wire;
use tertulia_services::chats::digest::Digest;
use tertulia_services::chats::{Chat, ChatChange, ChatKind, InvitePreview, Shown, Standing};

use super::{count, event, member};

/// A chat as one of its members sees it.
pub fn chat(from: &Standing) -> wire::Chat {
    let last = from.chat.last_message.as_ref().map(|event| Shown {
        event: event.clone(),
        hidden: from.last_hidden,
        mine: from.last_mine.clone(),
    });
    wire::Chat {
        last_message: last.as_ref().map(event::event).into(),
        membership: member::membership(&from.membership, from.read).into(),
        ..bare(&from.chat)
    }
}

/// What is the same for all members, without the last message.
pub(super) fn bare(from: &Chat) -> wire::Chat {
    let details = &*from.details;
    let pair = from.pair().map(|pair| pair.users());
    wire::Chat {
        chat_id: from.id.0,
        kind: kind(from.kind).into(),
        member_ids: pair.iter().flatten().map(|user| user.0).collect(),
        head: from.head,
        created_at_ms: from.created_at_ms,
        title: details.title.clone(),
        topic: details.topic.clone(),
        avatar: details.avatar.clone(),
        created_by: details.created_by.map_or(0, |user| user.0),
        message_ttl_s: details.message_ttl_s,
        pinned_seqs: details.pinned.clone(),
        member_count: count(details.member_count),
        members_seq: details.members_seq,
        ..Default::default()
    }
}

fn kind(from: ChatKind) -> wire::ChatKind {
    match from {
        ChatKind::Direct(_) => wire::ChatKind::CHAT_KIND_DIRECT,
        ChatKind::Group => wire::ChatKind::CHAT_KIND_GROUP,
        ChatKind::Channel => wire::ChatKind::CHAT_KIND_CHANNEL,
    }
}

/// The kind of a chat that is to be made; none for what can not be made so.
pub fn new_kind(from: buffa::EnumValue<wire::ChatKind>) -> Option<ChatKind> {
    match from.as_known()? {
        wire::ChatKind::CHAT_KIND_GROUP => Some(ChatKind::Group),
        wire::ChatKind::CHAT_KIND_CHANNEL => Some(ChatKind::Channel),
        wire::ChatKind::CHAT_KIND_DIRECT | wire::ChatKind::CHAT_KIND_UNSPECIFIED => None,
    }
}

pub fn change(from: wire::UpdateChatRequest) -> ChatChange {
    ChatChange {
        title: from.title,
        topic: from.topic,
        avatar: from.avatar,
        message_ttl_s: from.message_ttl_s,
    }
}

pub fn digest(from: &Digest) -> wire::Digest {
    wire::Digest {
        from_seq: from.from,
        to_seq: from.to,
        digest: from.digest.to_vec(),
        ..Default::default()
    }
}

/// What whoever has an invite may see of the chat.
pub fn preview(from: &InvitePreview) -> wire::PreviewInviteResponse {
    let details = &*from.chat.details;
    wire::PreviewInviteResponse {
        kind: kind(from.chat.kind).into(),
        title: details.title.clone(),
        topic: details.topic.clone(),
        avatar: details.avatar.clone(),
        member_count: count(details.member_count),
        chat_id: if from.is_member { from.chat.id.0 } else { 0 },
        ..Default::default()
    }
}
