//! What a store counts and keeps beside a log, counted again from the whole log.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bench::whole_log;
use crate::chats::model::*;
use crate::chats::ports::ChatStore;
use crate::ids::{ChatId, UserId};

/// Checks a chat: its details, its messages, its indexes and the standing of every member.
pub async fn recount(store: &dyn ChatStore, id: ChatId) {
    let chat = store.chat(id).await.unwrap().unwrap();
    let log = whole_log(store, id).await;
    let members = store
        .members(id, UserId(i64::MIN), usize::MAX)
        .await
        .unwrap();
    check_chat(&chat, &log, &members);
    let last_changes = last_changes(&log);
    for event in &log {
        if let Some(message) = event.message() {
            check_message(&log, event, message);
            check_reactions(store, event, message).await;
            let changed = last_changes.get(&event.seq).copied();
            assert_eq!(message.changed, changed.unwrap_or(event.seq));
        }
    }
    check_changes(store, id, &log).await;
    for (user, membership) in &members {
        check_standing(store, &chat, &log, *user, membership).await;
    }
}

/// The same as [`Standing::read`](Standing), by looking at every event.
pub fn read_state(log: &[Arc<Event>], user: UserId, role: Role, seen: Seq) -> ReadState {
    let unread = log.iter().filter(|event| {
        let there = event.message().is_some_and(|m| m.deletion.is_none());
        there && event.seq > seen && event.actor != user
    });
    let (mut count, mut mentions) = (0, 0);
    for event in unread {
        count += 1;
        let mentioned = &event.message().unwrap().mentions;
        let by_name = mentioned.users.contains(&user);
        let by_role = mentioned.everyone || mentioned.role.is_some_and(|called| role >= called);
        mentions += i64::from(by_name || by_role);
    }
    ReadState {
        seen,
        unread: count,
        unread_mentions: mentions,
        as_of: log.len() as Seq,
    }
}

fn check_chat(chat: &Chat, log: &[Arc<Event>], members: &[(UserId, Membership)]) {
    assert_eq!(chat.head, log.len() as Seq);
    let mut messages = 0;
    for (seq, event) in (1..).zip(log) {
        assert_eq!((event.chat, event.seq), (chat.id, seq));
        messages += i64::from(event.message().is_some());
        assert_eq!(event.messages, messages, "of event {seq}");
    }
    assert_eq!(chat.messages, messages);
    let mut newest_first = log.iter().rev();
    let last = newest_first.find(|event| event.message().is_some());
    assert_eq!(chat.last_message.as_ref(), last);

    let details = &chat.details;
    assert_eq!(details.member_count as usize, members.len());
    let newest = |is: &dyn Fn(&Event) -> bool| {
        let found = log.iter().rev().find(|event| is(event));
        found.map_or(0, |event| event.seq)
    };
    assert_eq!(
        details.members_seq,
        newest(&|event| changes_members(&event.body))
    );
    assert_eq!(details.deleted_max, newest(&|event| is_deleted(event)));
    let calls = |event: &Event| {
        event
            .message()
            .is_some_and(|m| m.mentions.calls().is_some())
    };
    assert!(details.called_max >= newest(&calls));

    let mut pinned = details.pinned.clone();
    pinned.sort_unstable();
    let are: Vec<Seq> = log
        .iter()
        .filter(|event| event.message().is_some_and(|message| message.pinned))
        .map(|event| event.seq)
        .collect();
    assert_eq!(pinned, are);
    for (place, user) in chat.pair().iter().flat_map(|pair| pair.users()).enumerate() {
        let own = newest(&|event| event.message().is_some() && event.actor == user);
        assert_eq!(chat.spoke[place], own);
    }
}

fn changes_members(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::Created { .. }
            | EventBody::Added { .. }
            | EventBody::Joined { .. }
            | EventBody::Left { .. }
            | EventBody::Removed { .. }
            | EventBody::Banned { .. }
            | EventBody::RoleChanged { .. }
    )
}

fn is_deleted(event: &Event) -> bool {
    event.message().is_some_and(|m| m.deletion.is_some())
}

/// The newest event that changed each message.
fn last_changes(log: &[Arc<Event>]) -> BTreeMap<Seq, Seq> {
    let mut last = BTreeMap::new();
    for event in log {
        let changed = match &event.body {
            EventBody::Message(message) => message.thread.into_iter().collect(),
            EventBody::Deleted { messages, .. } => messages.clone(),
            EventBody::Edited { message, .. }
            | EventBody::Reacted { message, .. }
            | EventBody::Unreacted { message, .. }
            | EventBody::Pinned(message)
            | EventBody::Unpinned(message) => vec![*message],
            _ => Vec::new(),
        };
        last.extend(changed.into_iter().map(|message| (message, event.seq)));
    }
    last
}

fn check_message(log: &[Arc<Event>], event: &Event, message: &Message) {
    let mut replies = log.iter().filter(|other| {
        let other = other.message();
        other.is_some_and(|other| other.thread == Some(event.seq))
    });
    assert_eq!(message.replies as usize, replies.clone().count());
    assert_eq!(message.last_reply, replies.next_back().map_or(0, |r| r.seq));
    let edits: Vec<&Arc<Event>> = log
        .iter()
        .filter(
            |edit| matches!(edit.body, EventBody::Edited { message, .. } if message == event.seq),
        )
        .collect();
    if message.deletion.is_some() {
        let empty = Message {
            changed: message.changed,
            deletion: message.deletion,
            thread: message.thread,
            replies: message.replies,
            last_reply: message.last_reply,
            ..Message::plain(message.id, message.key.clone(), String::new(), event.seq)
        };
        assert_eq!(*message, empty, "a tombstone is empty");
        assert!(edits.iter().all(|edit| edit.text_bytes() == 0));
        return;
    }
    assert_eq!(
        message.edits,
        edits.iter().map(|e| e.seq).collect::<Vec<_>>()
    );
    assert_eq!(
        message.edited_at_ms,
        edits.last().map_or(0, |edit| edit.at_ms)
    );
    for (n, edit) in edits.iter().enumerate() {
        let EventBody::Edited { text, before, .. } = &edit.body else {
            continue;
        };
        assert_eq!(
            before.is_some(),
            n == 0,
            "what was sent is beside the first edit"
        );
        assert!(n + 1 < edits.len() || *text == message.text);
    }
}

async fn check_reactions(store: &dyn ChatStore, event: &Event, message: &Message) {
    let given = store
        .reactions(event.chat, event.seq, usize::MAX)
        .await
        .unwrap();
    assert!(given.is_sorted(), "by emoji and then by user");
    let mut counted = BTreeMap::<&str, u32>::new();
    for (emoji, _) in &given {
        *counted.entry(emoji).or_default() += 1;
    }
    let counts = message.reactions.iter();
    let counts: BTreeMap<&str, u32> = counts.map(|c| (c.emoji.as_str(), c.count)).collect();
    assert_eq!(counted, counts, "of message {}", event.seq);
    assert_eq!(message.reactions.len(), counts.len(), "each emoji once");
}

/// The index of changes is the changed messages by their latest change.
async fn check_changes(store: &dyn ChatStore, chat: ChatId, log: &[Arc<Event>]) {
    let changed = log.iter().filter(|event| {
        let message = event.message();
        message.is_some_and(|message| message.changed > event.seq)
    });
    let mut changed: Vec<&Arc<Event>> = changed.collect();
    changed.sort_by_key(|event| (event.message().unwrap().changed, event.seq));
    let head = log.len() as Seq;
    let all = store
        .changes(chat, 1..=head.max(1), 0, usize::MAX)
        .await
        .unwrap();
    assert_eq!(all.events.iter().collect::<Vec<_>>(), changed);
    assert_eq!((all.through, all.more), (head, false));
}

async fn check_standing(
    store: &dyn ChatStore,
    chat: &Chat,
    log: &[Arc<Event>],
    user: UserId,
    membership: &Membership,
) {
    let standings = store.standings(user, &[chat.id]).await.unwrap();
    let [standing] = &standings[..] else {
        panic!("{user} is in {} and does not see it", chat.id)
    };
    assert_eq!((&standing.chat, &standing.membership), (chat, membership));
    let own = log
        .iter()
        .rev()
        .find(|e| e.message().is_some() && e.actor == user);
    let own = own.map_or(0, |event| event.seq);
    let seen = membership.seen.max(own);
    assert_eq!(standing.read, read_state(log, user, membership.role, seen));
    let role = store.role(chat.id, user).await.unwrap();
    assert_eq!(role, Some((chat.kind, membership.role)));
    let Some(last) = &chat.last_message else {
        assert!(!standing.last_hidden && standing.last_mine.is_empty());
        return;
    };
    let is_there = last.message().is_some_and(|m| m.deletion.is_none());
    let mine = store.mine(user, chat.id, &[last.seq]).await.unwrap();
    assert_eq!(standing.last_hidden, is_there && mine.hidden == [last.seq]);
    let mut last_mine = standing.last_mine.clone();
    last_mine.sort_unstable();
    let mine = mine.reactions.into_iter().map(|(_, emoji)| emoji);
    assert_eq!(last_mine, mine.collect::<Vec<_>>());
}
