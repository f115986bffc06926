//! A chat as somebody sees it, and how what is shown differs from what is so. What the store has and what a
//! device shows meet in one shape.

mod folded;

use std::collections::HashMap;
use std::fmt;

use tertulia_client::proto::chats::{Chat, Event};
use tertulia_client::{ChatId, ChatView, Client};

use crate::checker::Key;
use crate::deed::message;

pub use folded::Folded;

/// A chat from top to bottom.
pub type View = Vec<Line>;

/// An event as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub seq: i64,
    /// Who did it.
    pub actor: i64,
    /// None for what is no message.
    pub said: Option<Said>,
}

/// A message with everything that happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which sending.
    pub key: Key,
    /// What it says now.
    pub text: String,
    /// For everybody.
    pub is_deleted: bool,
    /// The seq of its latest change.
    pub changed: i64,
    /// How often which, and whether by the viewer.
    pub reactions: Vec<(String, i64, bool)>,
    /// Whether it is pinned.
    pub is_pinned: bool,
}

/// A chat as it stands in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Face {
    /// How far its log goes.
    pub head: i64,
    /// How far the viewer has read.
    pub seen: i64,
    /// Messages of others after that.
    pub unread: i64,
    /// The pinned messages, the newest pin first.
    pub pinned: Vec<i64>,
    /// How many are in it.
    pub members: i64,
}

/// An event as a client or an answer has it.
pub fn shown_line(event: &Event) -> Line {
    let said = message(event).map(|message| Said {
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
    });
    Line {
        seq: event.seq,
        actor: event.actor_id,
        said,
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

/// A chat as an answer has it, for who asks.
pub fn told_face(chat: &Chat) -> Face {
    let membership = chat.membership.as_option();
    let read = membership.and_then(|membership| membership.read.as_option());
    let read = read.cloned().unwrap_or_default();
    Face {
        head: chat.head,
        seen: read.seen_seq,
        unread: read.unread.into(),
        pinned: chat.pinned_seqs.clone(),
        members: chat.member_count.into(),
    }
}

/// Whether a client shows just these chats, as they are: the first that is otherwise, and how.
pub fn unlike(client: &Client, faces: &[(ChatId, Face)]) -> Option<(ChatId, String)> {
    for (chat, face) in faces {
        let Some(view) = client.chat(*chat, 1).filter(|view| view.left.is_none()) else {
            return Some((*chat, "it does not know that it is in it".into()));
        };
        let shown = shown_face(&view);
        if shown != *face {
            return Some((*chat, format!("{face:?} is shown as {shown:?}")));
        }
    }
    let is_in = |view: &ChatView| faces.iter().any(|(chat, _)| *chat == view.chat.chat_id);
    let known = client.chats();
    let mut others = known.iter().filter(|view| !is_in(view));
    let other = others.find(|view| view.left.is_none())?;
    let words = "it does not know that it is not in it";
    Some((other.chat.chat_id, words.into()))
}

/// How a view differs from what is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Something is there twice.
    Twice(String),
    /// Something is not in its place.
    Disorder(String),
    /// Something is there that is not so.
    Imagined(String),
    /// Something is missing or another.
    Other(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Twice(words)
            | Difference::Disorder(words)
            | Difference::Imagined(words)
            | Difference::Other(words) => f.write_str(words),
        }
    }
}

/// How what is shown differs from what is so, at the first place where it does.
pub fn difference(is: &[Line], shown: &[Line]) -> Option<Difference> {
    if let Some(pair) = shown.windows(2).find(|pair| pair[0].seq >= pair[1].seq) {
        let words = format!("{} comes after {}", pair[1].seq, pair[0].seq);
        return Some(match pair[0].seq == pair[1].seq {
            true => Difference::Twice(words),
            false => Difference::Disorder(words),
        });
    }
    let by_seq: HashMap<i64, &Line> = is.iter().map(|line| (line.seq, line)).collect();
    let imagined = shown.iter().find(|line| !by_seq.contains_key(&line.seq));
    if let Some(line) = imagined {
        return Some(Difference::Imagined(format!("{line:?} is not so")));
    }
    let by_seq: HashMap<i64, &Line> = shown.iter().map(|line| (line.seq, line)).collect();
    is.iter().find_map(|line| {
        let seen = by_seq.get(&line.seq).copied();
        (seen != Some(line)).then(|| Difference::Other(format!("{line:?} is shown as {seen:?}")))
    })
}
