//! What a chat must look like to one of its members: from the store's rows, and from what a device shows. The
//! two ways meet in one shape, and [`difference`] says how they differ.
//!
//! A new kind of event that changes what is seen gets its place in [`Said`] or in [`Face`], once for the
//! store and once for the client.

use tertulia_client::ChatView;
use tertulia_client::proto::chats::{self as wire, event::Body};
use tertulia_services::chats::{Event, Mine, Standing};

use super::model::named;
use super::world::Promise;
use crate::checker::Key;

/// A chat from top to bottom.
pub type View = Vec<Line>;

/// An event as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    seq: i64,
    actor: i64,
    /// None for what is no message.
    said: Option<Said>,
}

/// A message with everything that happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    key: Key,
    text: String,
    is_deleted: bool,
    changed: i64,
    /// How often which, and whether by the viewer.
    reactions: Vec<(String, i64, bool)>,
    is_pinned: bool,
}

/// A chat as it stands in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Face {
    head: i64,
    seen: i64,
    unread: i64,
    pinned: Vec<i64>,
    members: i64,
}

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

/// An event as a client has it.
pub fn shown_line(event: &wire::Event) -> Line {
    let said = match &event.body {
        Some(Body::Message(message)) => Some(Said {
            key: (message.device_id.clone(), message.client_message_id.clone()),
            text: message.text.clone(),
            is_deleted: message.deletion.is_set(),
            changed: message.changed_seq,
            reactions: message
                .reactions
                .iter()
                .map(|r| (r.emoji.clone(), r.count.into(), r.mine))
                .collect(),
            is_pinned: message.pinned,
        }),
        _ => None,
    };
    Line {
        seq: event.seq,
        actor: event.actor_id,
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

/// A chat as a client has it, up to what it shows.
pub fn shown_face(view: &ChatView) -> Face {
    Face {
        head: view.events.last().map_or(0, |event| event.seq),
        seen: view.seen,
        unread: view.unread,
        pinned: view.chat.pinned_seqs.clone(),
        members: view.chat.member_count.into(),
    }
}

/// How what is shown differs from what is so, at the first place where it does.
pub fn difference(is: &[Line], shown: &[Line]) -> Option<(Promise, String)> {
    if let Some(pair) = shown.windows(2).find(|pair| pair[0].seq >= pair[1].seq) {
        let promise = match pair[0].seq == pair[1].seq {
            true => Promise::NoDuplicate,
            false => Promise::Order,
        };
        return Some((
            promise,
            format!("{} comes after {}", pair[1].seq, pair[0].seq),
        ));
    }
    let imagined = shown
        .iter()
        .find(|line| is.iter().all(|is| is.seq != line.seq));
    if let Some(line) = imagined {
        return Some((Promise::NoPhantom, format!("{line:?} is not so")));
    }
    is.iter().find_map(|line| {
        let seen = shown.iter().find(|shown| shown.seq == line.seq);
        (seen != Some(line)).then(|| {
            let words = format!("{line:?} is shown as {seen:?}");
            (Promise::Convergence, words)
        })
    })
}
