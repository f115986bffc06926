//! From our shapes to the wire's. Dull and complete.

use tertulia_proto::{chats as wire, identity, live, users};
use tertulia_services::chats::{
    Answer, Chat, ChatKind, Event, EventBody, Missed, ResetReason, UserEvent, UserEventBody,
};
use tertulia_services::identity::{Credentials, Jwk, Login};
use tertulia_services::ids::LoginId;
use tertulia_services::users::User;

/// How many of a list are asked for; `default` when the caller does not say.
pub fn limit(asked: u32, default: usize) -> usize {
    match asked {
        0 => default,
        asked => asked as usize,
    }
}

pub fn credentials(from: Credentials) -> identity::Credentials {
    identity::Credentials {
        user_id: from.user.0,
        login_id: from.login.0,
        device_id: from.device_id,
        access_token: from.access_token,
        access_expires_at_ms: from.access_expires_at_ms,
        refresh_token: from.refresh_token,
        refresh_expires_at_ms: from.refresh_expires_at_ms,
        ..Default::default()
    }
}

pub fn login(from: Login, current: LoginId) -> identity::Login {
    identity::Login {
        login_id: from.id.0,
        device_name: from.device_name,
        created_at_ms: from.created_at_ms,
        refreshed_at_ms: from.refreshed_at_ms,
        current: from.id == current,
        ..Default::default()
    }
}

pub fn jwk(from: Jwk) -> identity::Jwk {
    identity::Jwk {
        kty: "OKP".into(),
        crv: "Ed25519".into(),
        alg: "EdDSA".into(),
        r#use: "sig".into(),
        kid: from.kid,
        x: from.x,
        ..Default::default()
    }
}

pub fn user(from: User) -> users::User {
    users::User {
        user_id: from.id.0,
        name: from.name,
        display_name: from.display_name,
        about: from.about,
        ..Default::default()
    }
}

pub fn chat(from: &Chat) -> wire::Chat {
    let kind = match from.kind {
        ChatKind::Direct(_) => wire::ChatKind::CHAT_KIND_DIRECT,
    };
    wire::Chat {
        chat_id: from.id.0,
        kind: kind.into(),
        member_ids: from.members().iter().map(|user| user.0).collect(),
        head: from.head,
        created_at_ms: from.created_at_ms,
        last_event: from.last_event.as_deref().map(event).into(),
        ..Default::default()
    }
}

pub fn event(from: &Event) -> wire::Event {
    let EventBody::Message(message) = &from.body;
    let body = wire::Message {
        message_id: message.id.0,
        text: message.text.clone(),
        client_message_id: message.key.client_message_id.clone(),
        device_id: message.key.device.clone(),
        ..Default::default()
    };
    wire::Event {
        chat_id: from.chat.0,
        seq: from.seq,
        at_ms: from.at_ms,
        actor_id: from.actor.0,
        body: body.into(),
        ..Default::default()
    }
}

pub fn user_event(from: &UserEvent) -> wire::UserEvent {
    let UserEventBody::ChatJoined(joined) = &from.body;
    let body = wire::ChatJoined {
        chat: chat(joined).into(),
        ..Default::default()
    };
    wire::UserEvent {
        seq: from.seq,
        at_ms: from.at_ms,
        body: body.into(),
        ..Default::default()
    }
}

pub fn missed(from: &Missed) -> live::Missed {
    let answer: Option<live::__buffa::oneof::missed::Answer> = match &from.answer {
        Answer::Delta { own_events, events } => live::Delta {
            own_events: own_events.iter().map(|e| user_event(e)).collect(),
            events: events.iter().map(|e| event(e)).collect(),
            ..Default::default()
        }
        .into(),
        Answer::Changed { chats } => live::Changed {
            chats: chats.iter().map(chat).collect(),
            own_head: from.own_head,
            ..Default::default()
        }
        .into(),
        Answer::Reset {
            reason,
            chats,
            more,
            epoch,
        } => live::Reset {
            reason: reset_reason(*reason).into(),
            chats: chats.iter().map(chat).collect(),
            more: *more,
            own_head: from.own_head,
            epoch: format!("{:016x}", epoch.0),
            ..Default::default()
        }
        .into(),
    };
    live::Missed {
        cursor: from.cursor.clone(),
        answer,
        ..Default::default()
    }
}

fn reset_reason(from: ResetReason) -> live::ResetReason {
    match from {
        ResetReason::First => live::ResetReason::RESET_REASON_FIRST,
        ResetReason::Epoch => live::ResetReason::RESET_REASON_EPOCH,
        ResetReason::UnknownCursor => live::ResetReason::RESET_REASON_UNKNOWN_CURSOR,
    }
}
