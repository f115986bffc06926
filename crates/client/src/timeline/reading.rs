//! How far the user has read a chat, and what is left. The numbers are carried along with the tip: each event
//! that is taken in moves them, and so does each change of a row that they count. What can not be told from
//! what is held makes them uncertain, and the chat is asked for.

use serde::{Deserialize, Serialize};
use tertulia_proto::chats::event::Body;
use tertulia_proto::chats::{Event, Mentions, ReadState, Role};

use super::details::Details;
use super::fold;
use super::log::Log;
use crate::UserId;

/// The server counts no more mentions than these; so many may be more.
const MENTIONS_COUNTED_MAX: i64 = 1_000;

/// It.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Everything up to here was seen.
    pub seen: i64,
    /// Messages of others after it, without deleted ones.
    pub unread: i64,
    /// Those among them that mention the user.
    pub mentions: i64,
    /// What the numbers are true for: the tip, or a seq above it that the server named.
    pub as_of: i64,
    /// The numbers are right.
    pub is_certain: bool,
}

/// What a row adds to the numbers when it is not seen: unread messages and mentions.
pub type Weight = (i64, i64);

/// Of a row.
pub fn weight(event: &Event, me: UserId, role: Role) -> Weight {
    match fold::message(event) {
        Some(message) if event.actor_id != me && !message.deletion.is_set() => {
            (1, mentions(&message.mentions, me, role).into())
        }
        _ => (0, 0),
    }
}

fn mentions(mentions: &Mentions, me: UserId, role: Role) -> bool {
    let called = mentions.role.to_i32();
    mentions.everyone || mentions.user_ids.contains(&me) || (called != 0 && called <= role as i32)
}

impl Reading {
    pub fn after(tip: i64) -> Self {
        Reading {
            seen: 0,
            unread: 0,
            mentions: 0,
            as_of: tip,
            is_certain: tip == 0,
        }
    }

    fn add(&mut self, (unread, mentions): Weight) {
        // From a bound nobody can count down.
        self.is_certain &= mentions >= 0 || self.mentions < MENTIONS_COUNTED_MAX;
        self.unread = (self.unread + unread).max(0);
        let most = self.unread.min(MENTIONS_COUNTED_MAX);
        self.mentions = (self.mentions + mentions).clamp(0, most);
    }

    /// Takes in the event behind the tip, after what it changes.
    pub fn take_in(&mut self, event: &Event, me: UserId, role: Role) {
        if event.actor_id == me && fold::message(event).is_some() {
            // Who speaks has read everything before.
            (self.seen, self.unread, self.mentions) = (event.seq, 0, 0);
            self.is_certain = true;
        } else if event.seq > self.seen {
            self.add(weight(event, me, role));
        }
        self.as_of = event.seq;
    }

    /// An event has changed a row.
    pub fn changed(&mut self, target: i64, before: Weight, after: Weight) {
        if target > self.seen {
            self.add((after.0 - before.0, after.1 - before.1));
        }
    }

    /// An event has changed a message that is not held.
    pub fn changed_unheld(&mut self, target: i64, event: &Event, me: UserId, role: Role) {
        if target <= self.seen {
            return;
        }
        match &event.body {
            // What is not seen is of somebody else, and was there until now.
            Some(Body::MessagesDeleted(_)) => {
                self.is_certain &= self.mentions == 0;
                self.add((-1, 0));
            }
            Some(Body::MessageEdited(edited)) => {
                let mentioned = mentions(&edited.mentions, me, role);
                self.is_certain &= self.mentions == 0 && !mentioned;
            }
            _ => {}
        }
    }

    /// An answer has brought a row of the live part as it was at `changed_seq`, above the tip.
    pub fn replaced(&mut self, event: &Event, tip: i64, before: Weight, after: Weight) {
        let is_counted = fold::changed_seq(event) <= self.as_of;
        if event.seq <= self.seen || before == after || is_counted {
            return;
        }
        // What the server counted above the tip may be a state between the two.
        self.is_certain &= self.as_of <= tip;
        self.changed(event.seq, before, after);
    }

    /// A row that was counted while it was not held is held now. It may be as it is later than what was
    /// counted, and is not told of again then.
    pub fn came_late(&mut self, event: &Event) {
        let is_later = fold::changed_seq(event) > self.as_of && event.seq <= self.as_of;
        if event.seq > self.seen && is_later {
            self.is_certain = false;
        }
    }

    /// A row that was counted does not say any more whom it mentioned.
    pub fn doubt(&mut self, row: &Event) {
        self.is_certain &= row.seq <= self.seen || !fold::is_doomed(row);
    }

    /// The user has another role: other mentions count.
    pub fn role_changed(&mut self) {
        self.is_certain &= self.unread == 0;
    }

    /// What lies between is not known any more.
    pub fn jump(&mut self, tip: i64) {
        if self.as_of < tip {
            self.as_of = tip;
            self.is_certain = false;
        }
    }

    /// Takes what the server says, unless what is known is newer.
    pub fn replace(&mut self, read: &ReadState, log: &Log, details: &Details, me: UserId) {
        let newer = match read.seen_seq.cmp(&self.seen) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => read.as_of_seq > self.as_of || !self.is_certain,
            std::cmp::Ordering::Greater => true,
        };
        if !newer {
            return;
        }
        *self = Reading {
            seen: read.seen_seq,
            unread: read.unread.into(),
            mentions: read.unread_mentions.into(),
            as_of: read.as_of_seq,
            is_certain: true,
        };
        self.catch_up(log, details, me);
    }

    /// Adds what has happened since the server said it. A row that is held as it is later is not told of again.
    fn catch_up(&mut self, log: &Log, details: &Details, me: UserId) {
        let base = self.as_of;
        let counted = log.rows(log.start.max(self.seen + 1)..=log.tip.min(base));
        for event in counted {
            self.is_certain &= fold::changed_seq(event) <= base.max(log.tip);
            self.doubt(event);
        }
        if base >= log.tip {
            return;
        }
        self.is_certain &= base >= log.start - 1;
        for event in log.rows(log.start.max(base + 1)..=log.tip) {
            // A change of a row above the base is in the row.
            for target in fold::targets(event) {
                if target <= base {
                    self.changed_unheld(target, event, me, details.role);
                }
            }
            self.take_in(event, me, details.role);
            if let Some(Body::RoleChanged(changed)) = &event.body
                && (changed.user_id == me || event.actor_id == me)
            {
                self.role_changed();
            }
        }
        self.as_of = log.tip;
    }
}
