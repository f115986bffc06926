//! Who is there, as far as the live session was told. Nothing of it is stored, and with the session it is gone.

use std::collections::HashMap;

use tertulia_proto::live::Watched;
use tertulia_proto::presence::{PresenceState, UserPresence};

use crate::change::Change;
use crate::core::Core;
use crate::{ChatId, UserId};

/// Whether somebody is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// A session of theirs is in use.
    Online,
    /// They have sessions, and all of them rest.
    Away,
    /// They have none.
    Offline {
        /// When they last were, to the minute, in milliseconds since 1970; none when that is not known.
        last_seen_at_ms: Option<i64>,
    },
}

impl Presence {
    /// None when nothing is known, or nothing is told.
    pub(crate) fn of(from: &UserPresence) -> Option<Presence> {
        match from.state.as_known()? {
            PresenceState::PRESENCE_STATE_UNSPECIFIED => None,
            PresenceState::PRESENCE_STATE_ONLINE => Some(Presence::Online),
            PresenceState::PRESENCE_STATE_AWAY => Some(Presence::Away),
            PresenceState::PRESENCE_STATE_OFFLINE => Some(Presence::Offline {
                last_seen_at_ms: Some(from.last_seen_at_ms).filter(|at| *at > 0),
            }),
        }
    }
}

/// What is known, and what was asked for.
#[derive(Debug, Default)]
pub(crate) struct Presences {
    pub(crate) watched: Vec<ChatId>,
    pub(crate) idle: bool,
    pub(crate) known: HashMap<UserId, Presence>,
}

impl Core {
    /// Somebody comes, rests or goes.
    pub(crate) fn presence(&self, told: UserPresence) {
        let user = told.user_id;
        let known = &mut self.mind().presences.known;
        match Presence::of(&told) {
            Some(presence) => _ = known.insert(user, presence),
            None => _ = known.remove(&user),
        }
        self.tell(Change::Presence(Some(user)));
    }

    /// This is everything that is known.
    pub(crate) fn watched(&self, watched: Watched) {
        let told = watched.presences.iter();
        let known = told.filter_map(|told| Some((told.user_id, Presence::of(told)?)));
        self.mind().presences.known = known.collect();
        self.tell(Change::Presence(None));
    }

    /// Nothing is known any more.
    pub(crate) fn forget_presences(&self) {
        let known = std::mem::take(&mut self.mind().presences.known);
        if !known.is_empty() {
            self.tell(Change::Presence(None));
        }
    }
}
