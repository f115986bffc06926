//! From our shapes to the wire's, and back where a request brings them. Dull and complete: every case of ours
//! has its case there.

mod chat;
mod event;
mod member;
mod missed;
mod own;

use tertulia_proto::presence::{PresenceState, UserPresence};
use tertulia_proto::{feed, identity, users};
use tertulia_services::chats::Seq;
use tertulia_services::feed::Consumer;
use tertulia_services::identity::{Credentials, Jwk, Login};
use tertulia_services::ids::{LoginId, UserId};
use tertulia_services::presence::State;
use tertulia_services::users::User;

pub use chat::{change, chat, digest, new_kind, preview};
pub use event::{event, live_event, mentions, mentions_of, text_version};
pub use member::{
    chat_receipts, draft, invite, member, read_state, receipt, role, role_of, settings, settings_of,
};
pub use missed::{heads, missed};
pub use own::{scheduled, user_event};

/// How many of a list are asked for; `default` when the caller does not say.
pub fn limit(asked: u32, default: usize) -> usize {
    match asked {
        0 => default,
        asked => asked as usize,
    }
}

/// A seq that may be missing: 0 on the wire.
pub fn seq(from: Option<Seq>) -> i64 {
    from.unwrap_or(0)
}

/// A seq of the wire that may be missing.
pub fn seq_of(from: i64) -> Option<Seq> {
    (from != 0).then_some(from)
}

/// A count; what the wire can not say is its greatest number.
pub fn count<N: TryInto<i32>>(from: N) -> i32 {
    from.try_into().unwrap_or(i32::MAX)
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

/// What everybody may see of a user.
pub fn user(from: User) -> users::User {
    users::User {
        user_id: from.id.0,
        name: from.name,
        display_name: from.display_name,
        about: from.about,
        ..Default::default()
    }
}

/// Somebody who follows the feed, without how it stands.
pub fn consumer(from: &Consumer) -> feed::Consumer {
    feed::Consumer {
        name: from.name.clone(),
        consumer_id: from.id.0,
        place: from.place.0.cast_signed(),
        made_at_ms: from.made_at_ms,
        moved_at_ms: from.moved_at_ms,
        ..Default::default()
    }
}

/// What is known of a user.
pub fn presence(user: UserId, from: State) -> UserPresence {
    let (state, last_seen_at_ms) = match from {
        State::Unknown => (PresenceState::PRESENCE_STATE_UNSPECIFIED, None),
        State::Online => (PresenceState::PRESENCE_STATE_ONLINE, None),
        State::Away => (PresenceState::PRESENCE_STATE_AWAY, None),
        State::Offline { seen_at_ms } => (PresenceState::PRESENCE_STATE_OFFLINE, seen_at_ms),
    };
    UserPresence {
        user_id: user.0,
        state: state.into(),
        last_seen_at_ms: last_seen_at_ms.unwrap_or_default(),
        ..Default::default()
    }
}

/// What is known of some users.
pub fn presences(from: &[(UserId, State)]) -> Vec<UserPresence> {
    from.iter()
        .map(|(user, state)| presence(*user, *state))
        .collect()
}
