//! What an event does to a message: the table of docs/protocol/sync.md, and the rule of the change.

use tertulia_proto::chats::event::Body;
use tertulia_proto::chats::{Deletion, Event, Message, ReactionCount};

use crate::UserId;

/// The messages that an event changes; a message in a thread changes the one that the thread hangs on.
pub fn targets(event: &Event) -> Vec<i64> {
    match &event.body {
        Some(Body::Message(message)) if message.thread_seq > 0 => vec![message.thread_seq],
        Some(Body::Message(_)) => Vec::new(),
        _ => messages(event),
    }
}

/// The messages that an event is about: itself, when it is one.
pub fn messages(event: &Event) -> Vec<i64> {
    match &event.body {
        Some(Body::Message(_)) => vec![event.seq],
        Some(Body::MessageEdited(edited)) => vec![edited.message_seq],
        Some(Body::MessagesDeleted(deleted)) => deleted.message_seqs.clone(),
        Some(Body::ReactionAdded(reaction) | Body::ReactionRemoved(reaction)) => {
            vec![reaction.message_seq]
        }
        Some(Body::Pinned(pin) | Body::Unpinned(pin)) => vec![pin.message_seq],
        _ => Vec::new(),
    }
}

/// The number of the body's field in the contract; 0 for what this version does not know.
pub fn kind(event: &Event) -> u8 {
    match &event.body {
        None => 0,
        Some(Body::Message(_)) => 5,
        Some(Body::MessageEdited(_)) => 6,
        Some(Body::MessagesDeleted(_)) => 7,
        Some(Body::ReactionAdded(_)) => 8,
        Some(Body::ReactionRemoved(_)) => 9,
        Some(Body::Pinned(_)) => 10,
        Some(Body::Unpinned(_)) => 11,
        Some(Body::ChatCreated(_)) => 12,
        Some(Body::ChatChanged(_)) => 13,
        Some(Body::MembersAdded(_)) => 14,
        Some(Body::MemberJoined(_)) => 15,
        Some(Body::MemberLeft(_)) => 16,
        Some(Body::MemberRemoved(_)) => 17,
        Some(Body::MemberBanned(_)) => 18,
        Some(Body::MemberUnbanned(_)) => 19,
        Some(Body::RoleChanged(_)) => 20,
    }
}

/// The message, when the event is one.
pub fn message(event: &Event) -> Option<&Message> {
    match &event.body {
        Some(Body::Message(message)) => Some(message),
        _ => None,
    }
}

/// The seq of a message's latest change; of another event its own.
pub fn changed_seq(event: &Event) -> i64 {
    let changed = message(event).map_or(0, |message| message.changed_seq);
    changed.max(event.seq)
}

/// Whether it is a message that was deleted for everybody.
pub fn is_deleted(event: &Event) -> bool {
    message(event).is_some_and(|message| message.deletion.is_set())
}

/// Whether it is a message that is deleted later: its edits say nothing any more.
pub fn is_doomed(event: &Event) -> bool {
    message(event).is_some_and(|message| {
        message.edited_at_ms > 0 && message.text.is_empty() && !message.hidden
    })
}

/// Whether `event` belongs in the place of `held`, which has the same seq.
pub fn holds_more(event: &Event, held: &Event) -> bool {
    match (&event.body, &held.body) {
        (Some(Body::Message(_)), Some(Body::Message(_))) => changed_seq(event) > changed_seq(held),
        // The text of an edit is taken out when the message is deleted.
        (Some(Body::MessageEdited(now)), Some(Body::MessageEdited(_))) => now.text.is_empty(),
        _ => false,
    }
}

/// Changes a message by an event that names it, unless the message holds the change already.
pub fn change(row: &mut Event, event: &Event, me: UserId) {
    let seq = event.seq;
    if changed_seq(row) >= seq {
        return;
    }
    let Some(Body::Message(message)) = &mut row.body else {
        return;
    };
    match &event.body {
        Some(Body::Message(_)) => {
            message.reply_count += 1;
            message.last_reply_seq = seq;
        }
        Some(Body::MessageEdited(edited)) => {
            if !message.hidden {
                message.text.clone_from(&edited.text);
            }
            message.mentions = edited.mentions.clone();
            message.edited_at_ms = event.at_ms;
        }
        Some(Body::MessagesDeleted(deleted)) => {
            let deletion = Deletion {
                reason: deleted.reason,
                by: event.actor_id,
                ..Default::default()
            };
            empty(message);
            message.hidden = false;
            message.deletion = deletion.into();
        }
        Some(Body::ReactionAdded(reaction)) => {
            react(
                &mut message.reactions,
                &reaction.emoji,
                1,
                event.actor_id == me,
            );
        }
        Some(Body::ReactionRemoved(reaction)) => {
            react(
                &mut message.reactions,
                &reaction.emoji,
                -1,
                event.actor_id == me,
            );
        }
        Some(Body::Pinned(_)) => message.pinned = true,
        Some(Body::Unpinned(_)) => message.pinned = false,
        _ => return,
    }
    message.changed_seq = seq;
}

/// What a deletion takes.
fn empty(message: &mut Message) {
    message.text.clear();
    message.edited_at_ms = 0;
    message.mentions.take();
    message.reply_to_seq = 0;
    message.forward.take();
    message.reactions.clear();
    message.pinned = false;
    message.expires_at_ms = 0;
}

fn react(counts: &mut Vec<ReactionCount>, emoji: &str, by: i32, mine: bool) {
    match counts.iter_mut().find(|count| count.emoji == emoji) {
        Some(count) => {
            count.count += by;
            if mine {
                count.mine = by > 0;
            }
        }
        None if by > 0 => counts.push(ReactionCount {
            emoji: emoji.to_owned(),
            count: by,
            mine,
            ..Default::default()
        }),
        None => {}
    }
    counts.retain(|count| count.count > 0);
}

/// Takes the text out of a message that the user deleted for themselves, unless everybody's is gone.
pub fn hide(event: &mut Event) {
    if let Some(Body::Message(message)) = &mut event.body
        && !message.deletion.is_set()
    {
        message.hidden = true;
        message.text.clear();
    }
}

/// Takes the text out of an edit: the message has it, or the user has deleted it for themselves.
pub fn blank(event: &mut Event) {
    if let Some(Body::MessageEdited(edited)) = &mut event.body {
        edited.text.clear();
    }
}

/// Takes everything out of an edit: the message is deleted.
pub fn erase(event: &mut Event) {
    if let Some(Body::MessageEdited(edited)) = &mut event.body {
        edited.text.clear();
        edited.mentions.take();
    }
}
