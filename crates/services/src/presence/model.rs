//! The nouns of presence.

use std::sync::Arc;

use crate::ids::{ChatId, UserId};

/// Names what one node says from its start until it stops, or until it has to begin anew. Another start has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run(pub i64);

impl Run {
    /// One that nobody has used before.
    pub fn random() -> Run {
        // Not negative, so that it is written alike everywhere.
        Run(rand::random::<i64>() & i64::MAX)
    }
}

/// What a run holds of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// A session there is in use.
    Active,
    /// All sessions there rest.
    Idle,
    /// The last session there has gone.
    Gone,
    /// The user keeps it to themselves: nothing is held, not even when they were there.
    Hidden,
}

/// What is known of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Whose.
    pub user: UserId,
    /// What each living run holds: [`Holding::Active`] or [`Holding::Idle`].
    pub held: Vec<(Run, Holding)>,
    /// When the user was last held by a run that holds them no longer, in milliseconds since 1970.
    pub seen_at_ms: Option<i64>,
}

/// What a registry answers who asks about users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roll {
    /// The runs that are alive, whomever they hold.
    pub living: Vec<Run>,
    /// The users, in the order asked for.
    pub users: Vec<Known>,
}

/// Whether somebody is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is known, or nothing is told.
    Unknown,
    /// A session is in use.
    Online,
    /// There are sessions, and all of them rest.
    Away,
    /// There is none.
    Offline {
        /// When there last was one, to the minute, in milliseconds since 1970; none when that is not known.
        seen_at_ms: Option<i64>,
    },
}

/// To which part of a time a user is told to have been there.
const SEEN_TO_MS: i64 = 60_000;

impl State {
    /// What the holdings of all runs come to; `Offline` when there are none.
    pub fn of(known: &Known) -> State {
        let holds = |one| known.held.iter().any(|(_, holding)| *holding == one);
        if holds(Holding::Active) {
            State::Online
        } else if holds(Holding::Idle) {
            State::Away
        } else {
            let seen_at_ms = known.seen_at_ms.map(|at| at - at.rem_euclid(SEEN_TO_MS));
            State::Offline { seen_at_ms }
        }
    }

    /// There is a session.
    pub fn is_there(self) -> bool {
        matches!(self, State::Online | State::Away)
    }
}

/// What nodes tell each other of who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// A run is alive and holds this.
    Held {
        /// Which.
        run: Run,
        /// Of whom, each once.
        holdings: Arc<[(UserId, Holding)]>,
    },
    /// A run is over; what it held counts no more.
    Ended(Run),
    /// A user has chosen whether others may know.
    Shared {
        /// Who.
        user: UserId,
        /// What.
        shares: bool,
    },
}

/// A chat of which somebody wants to hear who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// Which.
    pub chat: ChatId,
    /// Who is in it.
    pub members: Arc<[UserId]>,
}

/// The chats of which a user is told who is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Circles {
    /// The caller shares nothing, and so is told nothing.
    pub not_shared: bool,
    /// Those of the chats that are small enough, in the order in which they were asked for.
    pub heard: Vec<Circle>,
}
