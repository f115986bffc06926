//! The log of a chat as it was committed: when, what its messages have said, and who has gone.

use std::collections::BTreeMap;

use tertulia_client::Seen;
use tertulia_services::chats::{Event, EventBody};
use tertulia_services::ids::UserId;
use tokio::time::Instant;

use crate::simulation::node::CALL_TIMEOUT;

/// It.
#[derive(Default)]
pub struct Log {
    /// In the order of the log.
    events: Vec<Committed>,
    /// Who was ever in it, of groups; empty for direct chats.
    members: BTreeMap<UserId, Presence>,
    somebody_has_left: bool,
}

struct Presence {
    /// When they came in last.
    since: Instant,
    /// When they went, unless they are there.
    gone: Option<Instant>,
}

struct Committed {
    at: Instant,
    actor: UserId,
    client_message_id: String,
    /// What the message has said, the first first; empty for other events.
    texts: Vec<String>,
}

/// How it is wrong to see an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It was never committed, or says something else.
    NotSo,
    /// It is not for the viewer, who was not in the chat any more.
    NotForThem,
}

impl Log {
    /// The next event is on disk.
    pub fn push(&mut self, event: &Event) {
        let at = Instant::now();
        let message = event.message();
        self.events.push(Committed {
            at,
            actor: event.actor,
            client_message_id: message
                .map_or_else(String::new, |m| m.key.client_message_id.clone()),
            texts: message.map(|m| m.text.clone()).into_iter().collect(),
        });
        match &event.body {
            EventBody::Edited { message, text, .. } => self.says(*message, text),
            EventBody::Deleted { messages, .. } => {
                messages.iter().for_each(|message| self.says(*message, ""));
            }
            EventBody::Created { members, .. } | EventBody::Added { members, .. } => {
                members.iter().for_each(|user| self.comes(*user, at));
                // Who adds somebody is there already.
                self.members.entry(event.actor).or_insert(Presence {
                    since: at,
                    gone: None,
                });
            }
            EventBody::Left { .. } => self.goes(event.actor, at),
            EventBody::Removed { user, .. } => self.goes(*user, at),
            _ => {}
        }
    }

    fn comes(&mut self, user: UserId, at: Instant) {
        let here = Presence {
            since: at,
            gone: None,
        };
        self.members.insert(user, here);
    }

    fn goes(&mut self, user: UserId, at: Instant) {
        self.somebody_has_left = true;
        if let Some(presence) = self.members.get_mut(&user) {
            presence.gone = Some(at);
        }
    }

    fn says(&mut self, message: i64, text: &str) {
        if let Some(message) = at_mut(&mut self.events, message) {
            message.texts.push(text.to_owned());
        }
    }

    /// What a message said first.
    pub fn first_text(&self, seq: i64) -> Option<&str> {
        let texts = &at(&self.events, seq)?.texts;
        texts.first().map(String::as_str)
    }

    /// Everybody who has ever been in it, of groups.
    pub fn ever_in(&self) -> Vec<UserId> {
        self.members.keys().copied().collect()
    }

    /// Whether anybody has ever gone.
    pub fn somebody_has_left(&self) -> bool {
        self.somebody_has_left
    }

    /// When an event that somebody sees was committed, or became theirs to see.
    ///
    /// # Errors
    /// How it is wrong that they see it.
    pub fn committed_at(&self, seen: &Seen, viewer: UserId) -> Result<Instant, Wrong> {
        let event = at(&self.events, seen.seq).ok_or(Wrong::NotSo)?;
        let about = seen.messages.first().and_then(|seq| at(&self.events, *seq));
        // What an event is about may not be held, or be gone.
        let is_said = seen.text.is_empty() || about.is_some_and(|m| m.texts.contains(&seen.text));
        let is_full = event.texts.len() != 1 || !seen.text.is_empty();
        let is_it =
            event.client_message_id == seen.client_message_id && event.actor.0 == seen.actor;
        if !is_it || !is_said || !is_full {
            return Err(Wrong::NotSo);
        }
        if self.members.is_empty() {
            return Ok(event.at);
        }
        let presence = self.members.get(&viewer).ok_or(Wrong::NotForThem)?;
        // A call that was allowed may end a little later.
        let is_late = |gone: Instant| event.at > gone + CALL_TIMEOUT;
        match presence.gone.is_some_and(is_late) {
            true => Err(Wrong::NotForThem),
            false => Ok(event.at.max(presence.since)),
        }
    }
}

fn at(events: &[Committed], seq: i64) -> Option<&Committed> {
    events.get(usize::try_from(seq - 1).ok()?)
}

fn at_mut(events: &mut [Committed], seq: i64) -> Option<&mut Committed> {
    events.get_mut(usize::try_from(seq - 1).ok()?)
}
