//! What was done in chats beside writing, and whether the logs have it. An acknowledged deed has its event, and
//! every event has somebody who did it; which of several holds in the end is the order of the log.

use std::collections::{BTreeMap, HashMap};

use tertulia_client::proto::chats::Event;
use tertulia_client::proto::chats::event::Body;
use tertulia_client::{ChatId, UserId};

use super::{Outcome, Violation};
use crate::deed::Deed;

/// A deed, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Where; 0 for a chat whose making was not answered.
    pub chat: ChatId,
    /// By whom.
    pub actor: UserId,
    /// What.
    pub deed: Deed,
    /// What the client was told. Acknowledged with 0: nothing changed, or the answer names no event.
    pub outcome: Outcome,
}

/// What is wrong with the logs, after these deeds. A chat that nobody can read has none.
pub fn check(deeds: &[Done], logs: &BTreeMap<ChatId, Vec<Event>>) -> Vec<Violation> {
    let mut found = Vec::new();
    for done in deeds {
        let Some(log) = logs.get(&done.chat) else {
            continue;
        };
        let is_there = match done.outcome {
            Outcome::Acked(_) if matches!(done.deed, Deed::MarkRead { .. }) => true,
            Outcome::Acked(0) => did_hold(done, log),
            Outcome::Acked(seq) => event(log, seq).is_some_and(|event| made(done, event)),
            Outcome::Refused | Outcome::Unknown => true,
        };
        if !is_there {
            found.push(Violation::Forgotten {
                chat: done.chat,
                what: format!("{done:?}"),
            });
        }
    }
    let mut by_actor: HashMap<UserId, Vec<&Done>> = HashMap::new();
    for done in deeds.iter().filter(|d| d.outcome != Outcome::Refused) {
        by_actor.entry(done.actor).or_default().push(done);
    }
    for (&chat, log) in logs {
        let others = log.iter().filter(|event| {
            let is_message = matches!(event.body, Some(Body::Message(_)));
            !is_message && event.actor_id != 0
        });
        for event in others {
            let by = by_actor.get(&event.actor_id);
            let is_done = by.is_some_and(|by| {
                let mut here = by.iter().filter(|d| d.chat == chat || d.chat == 0);
                here.any(|done| made(done, event))
            });
            if !is_done {
                let seq = event.seq;
                found.push(Violation::Unasked { chat, seq });
            }
        }
    }
    found
}

fn event(log: &[Event], seq: i64) -> Option<&Event> {
    log.get(usize::try_from(seq - 1).ok()?)
}

fn made(done: &Done, event: &Event) -> bool {
    let body = event.body.as_ref();
    event.actor_id == done.actor && body.is_some_and(|body| done.deed.makes(body))
}

/// Whether something was so at some time that was acknowledged without an event of its own: then it was so
/// already, by whomever.
fn did_hold(done: &Done, log: &[Event]) -> bool {
    let is_deleted = |seq: &i64| {
        log.iter().any(|event| match &event.body {
            Some(Body::MessagesDeleted(deleted)) => deleted.message_seqs.contains(seq),
            _ => false,
        })
    };
    let comes = |user: &UserId| {
        log.iter().any(|event| match &event.body {
            Some(Body::MembersAdded(added)) => added.user_ids.contains(user),
            Some(Body::ChatCreated(created)) => {
                created.member_ids.contains(user) || event.actor_id == *user
            }
            _ => false,
        })
    };
    match &done.deed {
        Deed::Delete { seqs } => seqs.iter().all(is_deleted),
        Deed::Add { user } => comes(user),
        Deed::Leave | Deed::Create { .. } => log.iter().any(|event| made(done, event)),
        // Another device did it, and another may have undone it since.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use tertulia_client::proto::chats::{MessageEdited, MessagesDeleted};

    use super::*;

    const CHAT: ChatId = 7;
    const ANN: UserId = 1;

    fn done(deed: Deed, outcome: Outcome) -> Done {
        Done {
            chat: CHAT,
            actor: ANN,
            deed,
            outcome,
        }
    }

    fn edit(text: &str) -> Deed {
        let (seq, text) = (1, text.to_owned());
        Deed::Edit { seq, text }
    }

    /// A log whose only event is an edit of its first place.
    fn edited(text: &str) -> BTreeMap<ChatId, Vec<Event>> {
        let edited = MessageEdited {
            message_seq: 1,
            text: text.to_owned(),
            ..Default::default()
        };
        let event = Event {
            seq: 1,
            actor_id: ANN,
            body: Some(edited.into()),
            ..Default::default()
        };
        [(CHAT, vec![event])].into()
    }

    #[test]
    fn an_acknowledged_edit_that_is_not_in_the_log_is_found() {
        let acked = [done(edit("new"), Outcome::Acked(1))];
        assert_eq!(check(&acked, &edited("new")), []);
        let found = check(&acked, &[(CHAT, Vec::new())].into());
        assert!(matches!(found[..], [Violation::Forgotten { .. }]));
        assert_eq!(found[0].invariant().to_string(), "I1");
        let found = check(&acked, &edited("other words"));
        assert!(matches!(found[0], Violation::Forgotten { .. }));
    }

    #[test]
    fn an_unknown_edit_may_be_there_and_may_not() {
        let unknown = [done(edit("new"), Outcome::Unknown)];
        assert_eq!(check(&unknown, &edited("new")), []);
        assert_eq!(check(&unknown, &[(CHAT, Vec::new())].into()), []);
    }

    #[test]
    fn an_edit_that_nobody_made_or_that_was_refused_is_found() {
        let unasked = [Violation::Unasked { chat: CHAT, seq: 1 }];
        assert_eq!(check(&[], &edited("new")), unasked);
        let refused = [done(edit("new"), Outcome::Refused)];
        assert_eq!(check(&refused, &edited("new")), unasked);
    }

    #[test]
    fn a_deletion_that_changed_nothing_was_done_before() {
        let again = [done(Deed::Delete { seqs: vec![3] }, Outcome::Acked(0))];
        let mut logs = edited("new");
        assert!(matches!(
            check(&again, &logs)[0],
            Violation::Forgotten { .. }
        ));
        let deleted = MessagesDeleted {
            message_seqs: vec![3],
            ..Default::default()
        };
        logs.get_mut(&CHAT).unwrap()[0].body = Some(deleted.into());
        assert_eq!(check(&again, &logs), []);
    }
}
