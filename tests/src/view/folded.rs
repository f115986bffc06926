//! A log read from its beginning, event by event, by the table of docs/protocol/sync.md and by nothing else: what
//! the rows of its messages, its pins and its members must have come to.

use std::collections::{BTreeMap, BTreeSet};

use tertulia_client::UserId;
use tertulia_client::proto::chats::Event;
use tertulia_client::proto::chats::event::Body;

use super::{Line, Said, View, shown_line};
use crate::checker::Key;

/// What a log comes to.
#[derive(Debug, Default)]
pub struct Folded {
    /// Every event, messages as they are now.
    pub lines: View,
    /// The pinned messages, the newest pin first.
    pub pinned: Vec<i64>,
    /// Who is in it, of groups.
    pub members: BTreeSet<UserId>,
    /// Who has ever gone.
    pub gone: BTreeSet<UserId>,
}

impl Folded {
    /// Of a whole log, for a viewer. `sent` knows what a message said when it was sent; what nobody sent is
    /// taken as it is.
    pub fn of<'a>(log: &[Event], viewer: UserId, sent: impl Fn(&Key) -> Option<&'a str>) -> Folded {
        let mut folded = Folded::default();
        // Who reacted how to what, in the order of the emoji.
        let mut reactions: BTreeMap<i64, Vec<(String, BTreeSet<UserId>)>> = BTreeMap::new();
        for event in log {
            let mut line = shown_line(event);
            if let Some(said) = &mut line.said {
                said.text = sent(&said.key).unwrap_or(&said.text).to_owned();
                said.is_deleted = false;
                said.changed = event.seq;
                said.reactions.clear();
                said.is_pinned = false;
            }
            folded.lines.push(line);
            folded.take(event, &mut reactions);
        }
        for line in &mut folded.lines {
            let by_emoji = reactions.remove(&line.seq).unwrap_or_default();
            if let Some(said) = &mut line.said {
                let count = |(emoji, by): (String, BTreeSet<UserId>)| {
                    (emoji, by.len() as i64, by.contains(&viewer))
                };
                said.reactions = by_emoji.into_iter().map(count).collect();
            }
        }
        folded
    }

    fn take(
        &mut self,
        event: &Event,
        reactions: &mut BTreeMap<i64, Vec<(String, BTreeSet<UserId>)>>,
    ) {
        let (seq, actor) = (event.seq, event.actor_id);
        match &event.body {
            Some(Body::MessageEdited(edited)) => {
                self.change(edited.message_seq, seq, |said| {
                    said.text.clone_from(&edited.text);
                });
            }
            Some(Body::MessagesDeleted(deleted)) => {
                for target in &deleted.message_seqs {
                    self.change(*target, seq, |said| {
                        said.text.clear();
                        said.is_deleted = true;
                        said.is_pinned = false;
                    });
                    reactions.remove(target);
                    self.pinned.retain(|pinned| pinned != target);
                }
            }
            Some(Body::ReactionAdded(reaction)) => {
                self.change(reaction.message_seq, seq, |_| {});
                let of_message = reactions.entry(reaction.message_seq).or_default();
                let emoji = |(emoji, _): &&mut (String, _)| *emoji == reaction.emoji;
                match of_message.iter_mut().find(emoji) {
                    Some((_, by)) => _ = by.insert(actor),
                    None => of_message.push((reaction.emoji.clone(), [actor].into())),
                }
            }
            Some(Body::ReactionRemoved(reaction)) => {
                self.change(reaction.message_seq, seq, |_| {});
                let of_message = reactions.entry(reaction.message_seq).or_default();
                for (_, by) in of_message.iter_mut().filter(|(e, _)| *e == reaction.emoji) {
                    by.remove(&actor);
                }
                of_message.retain(|(_, by)| !by.is_empty());
            }
            Some(Body::Pinned(pin)) => {
                self.change(pin.message_seq, seq, |said| said.is_pinned = true);
                self.pinned.insert(0, pin.message_seq);
            }
            Some(Body::Unpinned(pin)) => {
                self.change(pin.message_seq, seq, |said| said.is_pinned = false);
                self.pinned.retain(|pinned| *pinned != pin.message_seq);
            }
            Some(Body::ChatCreated(created)) => {
                self.members.extend(&created.member_ids);
                self.members.insert(actor);
            }
            Some(Body::MembersAdded(added)) => self.members.extend(&added.user_ids),
            Some(Body::MemberLeft(_)) => self.goes(actor),
            Some(Body::MemberRemoved(removed)) => self.goes(removed.user_id),
            _ => {}
        }
    }

    fn goes(&mut self, user: UserId) {
        self.members.remove(&user);
        self.gone.insert(user);
    }

    fn change(&mut self, target: i64, seq: i64, change: impl FnOnce(&mut Said)) {
        let line = usize::try_from(target - 1).ok();
        let line = line.and_then(|at| self.lines.get_mut(at));
        if let Some(said) = line.and_then(|line| line.said.as_mut()) {
            change(said);
            said.changed = seq;
        }
    }

    /// How many messages of others are there that a viewer has not read.
    pub fn unread(&self, viewer: UserId, seen: i64) -> i64 {
        let is_unread = |line: &&Line| {
            let is_there = line.said.as_ref().is_some_and(|said| !said.is_deleted);
            is_there && line.actor != viewer && line.seq > seen
        };
        self.lines.iter().filter(is_unread).count() as i64
    }
}

#[cfg(test)]
mod tests {
    use tertulia_client::proto::chats::{
        ChatCreated, MemberLeft, Message, MessageEdited, MessagesDeleted, Pin, Reaction,
    };

    use super::*;

    const ANN: UserId = 1;
    const BOB: UserId = 2;

    fn log(bodies: Vec<(UserId, Body)>) -> Vec<Event> {
        let event = |(seq, (actor_id, body))| Event {
            seq,
            actor_id,
            body: Some(body),
            ..Default::default()
        };
        (1..).zip(bodies).map(event).collect()
    }

    fn message(id: &str) -> Body {
        let message = Message {
            client_message_id: id.into(),
            device_id: "d".into(),
            // As it would be now; the log has to come to it by itself.
            text: "something else".into(),
            ..Default::default()
        };
        message.into()
    }

    fn react(seq: i64) -> Reaction {
        Reaction {
            message_seq: seq,
            emoji: "👍".into(),
            ..Default::default()
        }
    }

    fn sent(key: &Key) -> Option<&'static str> {
        (key.1 == "m1").then_some("first words")
    }

    fn said(folded: &Folded, seq: usize) -> Said {
        folded.lines[seq - 1].said.clone().unwrap()
    }

    #[test]
    fn edits_and_reactions_come_to_what_was_done_last() {
        let edited = MessageEdited {
            message_seq: 1,
            text: "later words".into(),
            ..Default::default()
        };
        let log = log(vec![
            (ANN, message("m1")),
            (BOB, Body::ReactionAdded(react(1).into())),
            (ANN, Body::ReactionAdded(react(1).into())),
            (BOB, Body::ReactionRemoved(react(1).into())),
            (ANN, edited.into()),
        ]);
        let first = said(&Folded::of(&log[..1], ANN, sent), 1);
        assert_eq!((first.text.as_str(), first.changed), ("first words", 1));
        let last = said(&Folded::of(&log, ANN, sent), 1);
        assert_eq!((last.text.as_str(), last.changed), ("later words", 5));
        assert_eq!(last.reactions, [("👍".to_owned(), 1, true)]);
        let others = said(&Folded::of(&log, BOB, sent), 1);
        assert_eq!(others.reactions, [("👍".to_owned(), 1, false)]);
    }

    #[test]
    fn a_deletion_takes_text_reactions_and_pin() {
        let deleted = MessagesDeleted {
            message_seqs: vec![1],
            ..Default::default()
        };
        let pin = Pin {
            message_seq: 1,
            ..Default::default()
        };
        let log = log(vec![
            (ANN, message("m1")),
            (BOB, Body::Pinned(pin.into())),
            (BOB, Body::ReactionAdded(react(1).into())),
            (ANN, deleted.into()),
        ]);
        let before = Folded::of(&log[..3], BOB, sent);
        assert!(said(&before, 1).is_pinned);
        assert_eq!((before.pinned, before.lines.len()), (vec![1], 3));
        let after = Folded::of(&log, BOB, sent);
        assert_eq!(after.unread(BOB, 0), 0);
        assert!(after.pinned.is_empty());
        let said = said(&after, 1);
        assert!(said.is_deleted && said.text.is_empty() && !said.is_pinned);
        assert!(said.reactions.is_empty());
    }

    #[test]
    fn who_has_gone_is_no_member() {
        let created = ChatCreated {
            member_ids: vec![ANN, BOB],
            ..Default::default()
        };
        let log = log(vec![
            (ANN, created.into()),
            (BOB, MemberLeft::default().into()),
        ]);
        let folded = Folded::of(&log, ANN, sent);
        assert_eq!(folded.members, [ANN].into());
        assert_eq!(folded.gone, [BOB].into());
    }
}
