//! What a chat must look like to one of its members, from the rows of the simulated store.
//!
//! A new kind of event that changes what is seen gets its place in [`Said`] or in [`Face`], once here and once
//! for the client in [`view`](crate::view).

use tertulia_services::chats::{Event, Mine, Standing};

use super::model::named;
use super::world::Promise;
use crate::view::{Difference, Face, Line, Said};

/// An event as the store has it, for who reacted so.
pub fn line(event: &Event, mine: &Mine) -> Line {
    let is_mine = |emoji: &str| {
        let mut own = mine.reactions.iter();
        own.any(|(message, own)| *message == event.seq && own == emoji)
    };
    let said = event.message().map(|message| Said {
        key: named(&message.key),
        text: message.text.clone(),
        is_deleted: message.deletion.is_some(),
        changed: message.changed,
        reactions: message
            .reactions
            .iter()
            .map(|r| (r.emoji.clone(), r.count.into(), is_mine(&r.emoji)))
            .collect(),
        is_pinned: message.pinned,
    });
    Line {
        seq: event.seq,
        actor: event.actor.0,
        said,
    }
}

/// A chat as the store has it.
pub fn face(standing: &Standing) -> Face {
    Face {
        head: standing.chat.head,
        seen: standing.read.seen,
        unread: standing.read.unread,
        pinned: standing.chat.details.pinned.clone(),
        members: standing.chat.details.member_count.into(),
    }
}

/// The promise that is broken when somebody sees something else than there is.
pub fn promise_of(difference: &Difference) -> Promise {
    match difference {
        Difference::Twice(_) => Promise::NoDuplicate,
        Difference::Disorder(_) => Promise::Order,
        Difference::Imagined(_) => Promise::NoPhantom,
        Difference::Other(_) => Promise::Convergence,
    }
}
