//! Events in words: messages with their marks, everything else as a sentence made from its code.

use tertulia_client::proto::chats::event::Body;
use tertulia_client::proto::chats::{DeletionReason, Event, Message, Role};
use tertulia_client::{ChatView, Presence, UserId};

use crate::terminal::one_line;

/// How users are called.
pub type Names<'a> = &'a dyn Fn(UserId) -> String;

/// How many people are named in a sentence.
const NAMED_MAX: usize = 5;

/// What a message says, with what became of it: on one line, made harmless.
pub fn message(message: &Message) -> String {
    let mut text = match (message.deletion.as_option(), message.hidden) {
        (Some(deletion), _) => match deletion.reason.as_known() {
            Some(DeletionReason::DELETION_REASON_EXPIRED) => "(its time was over)".into(),
            Some(DeletionReason::DELETION_REASON_MODERATOR) => "(removed)".into(),
            _ => "(deleted)".into(),
        },
        (None, true) => "(deleted for you)".into(),
        (None, false) => one_line(&message.text),
    };
    if message.forward.is_set() {
        text = format!("(forwarded) {text}");
    }
    if message.thread_seq > 0 {
        text = format!("[thread {}] {text}", message.thread_seq);
    } else if message.reply_to_seq > 0 {
        text = format!("↩{} {text}", message.reply_to_seq);
    }
    if message.edited_at_ms > 0 {
        text.push_str(" (edited)");
    }
    for reaction in &message.reactions {
        let mine = if reaction.mine { "*" } else { "" };
        text.push_str(&format!(
            " {}{}{mine}",
            one_line(&reaction.emoji),
            reaction.count
        ));
    }
    if message.pinned {
        text.push_str(" 📌");
    }
    match message.reply_count {
        0 => text,
        1 => format!("{text} [1 reply]"),
        count => format!("{text} [{count} replies]"),
    }
}

/// An event that is no message, as a sentence. None when it shows in the message that it changes.
pub fn sentence(event: &Event, name: Names<'_>) -> Option<String> {
    let actor = match event.actor_id {
        0 => "the server".to_owned(),
        user => name(user),
    };
    let several = |users: &[UserId], all: usize| {
        let mut named: Vec<String> = users.iter().take(NAMED_MAX).map(|u| name(*u)).collect();
        let others = all.saturating_sub(named.len());
        if others > 0 {
            named.push(format!("{others} more"));
        }
        named.join(", ")
    };
    Some(match event.body.as_ref()? {
        Body::Message(_)
        | Body::MessageEdited(_)
        | Body::MessagesDeleted(_)
        | Body::ReactionAdded(_)
        | Body::ReactionRemoved(_) => return None,
        Body::Pinned(pin) => format!("{actor} pinned {}", pin.message_seq),
        Body::Unpinned(pin) => format!("{actor} unpinned {}", pin.message_seq),
        Body::ChatCreated(created) => {
            let others = (created.member_count - 1).max(0) as usize;
            let title = one_line(&created.title);
            match others {
                0 => format!("{actor} made “{title}”"),
                _ => format!(
                    "{actor} made “{title}” with {}",
                    several(&created.member_ids, others)
                ),
            }
        }
        Body::ChatChanged(changed) => {
            let mut parts = Vec::new();
            if let Some(title) = &changed.title {
                parts.push(format!("named it “{}”", one_line(title)));
            }
            match changed.topic.as_deref() {
                Some("") => parts.push("removed the topic".into()),
                Some(topic) => parts.push(format!("set the topic to “{}”", one_line(topic))),
                None => {}
            }
            match changed.avatar.as_deref() {
                Some("") => parts.push("removed the picture".into()),
                Some(avatar) => parts.push(format!("chose {} as the picture", one_line(avatar))),
                None => {}
            }
            match changed.message_ttl_s {
                Some(0) => parts.push("lets new messages stay".into()),
                Some(s) => parts.push(format!("lets new messages disappear after {}", span(s))),
                None => {}
            }
            format!("{actor} {}", parts.join(" and "))
        }
        Body::MembersAdded(added) => {
            let named = several(&added.user_ids, added.user_ids.len());
            format!(
                "{actor} brought {named} in{}",
                as_role(added.role.as_known())
            )
        }
        Body::MemberJoined(joined) => {
            format!(
                "{actor} came in by an invite of {}",
                name(joined.invited_by)
            )
        }
        Body::MemberLeft(_) => format!("{actor} left"),
        Body::MemberRemoved(removed) => format!("{actor} removed {}", name(removed.user_id)),
        Body::MemberBanned(banned) => format!("{actor} banned {}", name(banned.user_id)),
        Body::MemberUnbanned(unbanned) => {
            format!("{actor} lifted the ban on {}", name(unbanned.user_id))
        }
        Body::RoleChanged(changed) => {
            let role = role(changed.role.as_known().unwrap_or_default());
            format!("{actor} made {} {role}", name(changed.user_id))
        }
    })
}

/// What an event changed about a message, for who reads line by line and can not see the message change.
pub fn change(event: &Event, name: Names<'_>) -> Option<String> {
    let actor = name(event.actor_id);
    let seqs = |seqs: &[i64]| {
        let seqs: Vec<String> = seqs.iter().map(i64::to_string).collect();
        seqs.join(", ")
    };
    Some(match event.body.as_ref()? {
        Body::MessageEdited(edited) => format!("{actor} edited {}", edited.message_seq),
        Body::MessagesDeleted(deleted) if event.actor_id == 0 => {
            format!("the time of {} was over", seqs(&deleted.message_seqs))
        }
        Body::MessagesDeleted(deleted) => {
            format!("{actor} deleted {}", seqs(&deleted.message_seqs))
        }
        Body::ReactionAdded(reaction) => {
            format!(
                "{actor} reacted to {} with {}",
                reaction.message_seq,
                one_line(&reaction.emoji)
            )
        }
        Body::ReactionRemoved(reaction) => {
            format!(
                "{actor} took {} back from {}",
                one_line(&reaction.emoji),
                reaction.message_seq
            )
        }
        _ => return None,
    })
}

/// Everybody whom an event names, to learn how they are called.
pub fn named(event: &Event) -> Vec<UserId> {
    let mut users = vec![event.actor_id];
    match &event.body {
        Some(Body::ChatCreated(created)) => users.extend(&created.member_ids),
        Some(Body::MembersAdded(added)) => users.extend(&added.user_ids),
        Some(Body::MemberJoined(joined)) => users.push(joined.invited_by),
        Some(Body::MemberRemoved(removed)) => users.push(removed.user_id),
        Some(Body::MemberBanned(banned)) => users.push(banned.user_id),
        Some(Body::MemberUnbanned(unbanned)) => users.push(unbanned.user_id),
        Some(Body::RoleChanged(changed)) => users.push(changed.user_id),
        _ => {}
    }
    users.retain(|user| *user > 0);
    users
}

/// Who has seen the newest message of `me`, and which one it is.
pub fn seen_by(view: &ChatView, me: UserId) -> Option<(i64, Vec<UserId>)> {
    let mine = |event: &&Event| {
        event.actor_id == me
            && matches!(&event.body, Some(Body::Message(m)) if !m.deletion.is_set())
    };
    let newest = view.events.iter().rev().find(mine)?.seq;
    let others = view.receipts.iter().filter(|r| r.user_id != me);
    let seen: Vec<UserId> = others
        .filter(|receipt| receipt.seen_seq >= newest)
        .map(|receipt| receipt.user_id)
        .collect();
    (!seen.is_empty()).then_some((newest, seen))
}

/// What is unread, for a list; nothing when everything was seen.
pub fn unread(view: &ChatView) -> String {
    match (
        view.unread,
        view.unread_mentions,
        view.settings.marked_unread,
    ) {
        (0, _, false) => String::new(),
        (0, _, true) => " (to be read again)".into(),
        (unread, 0, _) => format!(" ({unread} unread)"),
        // The server counts no more.
        (unread, 1_000.., _) => format!(" ({unread} unread, 999+ for you)"),
        (unread, mentions, _) => format!(" ({unread} unread, {mentions} for you)"),
    }
}

/// A role with its article.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::ROLE_UNSPECIFIED => "something new",
        Role::ROLE_READER => "a reader",
        Role::ROLE_MEMBER => "a member",
        Role::ROLE_ADMIN => "an admin",
        Role::ROLE_OWNER => "the owner",
    }
}

/// Whether somebody is there.
pub fn presence(presence: Presence, now_ms: i64) -> String {
    let last_seen_at_ms = match presence {
        Presence::Online => return "online".into(),
        Presence::Away => return "away".into(),
        Presence::Offline { last_seen_at_ms } => last_seen_at_ms,
    };
    let Some(at) = last_seen_at_ms else {
        return "offline".into();
    };
    let minutes = (now_ms - at).max(0) / 60_000;
    let ago = match minutes {
        0 => return "offline, last seen just now".into(),
        minutes @ 1..60 => span(minutes * 60),
        minutes @ 60..1_440 => span(minutes / 60 * 3_600),
        minutes => span(minutes / 1_440 * 86_400),
    };
    format!("offline, last seen {ago} ago")
}

fn as_role(given: Option<Role>) -> String {
    match given {
        Some(Role::ROLE_READER | Role::ROLE_ADMIN) => {
            format!(" as {}", role(given.unwrap_or_default()))
        }
        _ => String::new(),
    }
}

/// So many seconds, as people say it.
pub fn span(seconds: i64) -> String {
    for (unit, name) in [
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ] {
        if seconds >= unit && seconds % unit == 0 {
            let count = seconds / unit;
            let s = if count == 1 { "" } else { "s" };
            return format!("{count} {name}{s}");
        }
    }
    format!("{seconds} seconds")
}

#[cfg(test)]
mod tests {
    use tertulia_client::proto::chats::*;

    use super::*;

    fn name(user: UserId) -> String {
        ["nobody", "ana", "bo", "cy"][user as usize].into()
    }

    fn said_of(actor_id: i64, body: impl Into<Body>) -> Option<String> {
        let event = Event {
            actor_id,
            body: Some(body.into()),
            ..Default::default()
        };
        sentence(&event, &name)
    }

    #[test]
    fn who_is_there_is_said_as_people_say_it() {
        let seen = |ago_s: i64| {
            let last_seen_at_ms = Some(1_000_000_000 - ago_s * 1_000);
            presence(Presence::Offline { last_seen_at_ms }, 1_000_000_000)
        };
        assert_eq!(presence(Presence::Online, 0), "online");
        assert_eq!(presence(Presence::Away, 0), "away");
        let unknown = Presence::Offline {
            last_seen_at_ms: None,
        };
        assert_eq!(presence(unknown, 0), "offline");
        assert_eq!(seen(59), "offline, last seen just now");
        assert_eq!(seen(301), "offline, last seen 5 minutes ago");
        assert_eq!(seen(3_700), "offline, last seen 1 hour ago");
        assert_eq!(seen(200_000), "offline, last seen 2 days ago");
    }

    #[test]
    fn what_happened_is_said_from_its_code() {
        let created = ChatCreated {
            title: "Tea".into(),
            member_ids: vec![2, 3],
            member_count: 12,
            ..Default::default()
        };
        let changed = ChatChanged {
            title: Some("Coffee".into()),
            message_ttl_s: Some(7_200),
            ..Default::default()
        };
        let added = MembersAdded {
            user_ids: vec![2],
            role: Role::ROLE_ADMIN.into(),
            ..Default::default()
        };
        let joined = MemberJoined {
            invited_by: 1,
            ..Default::default()
        };
        let role = RoleChanged {
            user_id: 3,
            role: Role::ROLE_OWNER.into(),
            ..Default::default()
        };
        for (said, sentence) in [
            (said_of(1, created), "ana made “Tea” with bo, cy, 9 more"),
            (
                said_of(1, changed),
                "ana named it “Coffee” and lets new messages disappear after 2 hours",
            ),
            (said_of(1, added), "ana brought bo in as an admin"),
            (said_of(2, joined), "bo came in by an invite of ana"),
            (said_of(2, MemberLeft::default()), "bo left"),
            (said_of(1, role), "ana made cy the owner"),
        ] {
            assert_eq!(said.as_deref(), Some(sentence));
        }
        assert_eq!(said_of(1, Message::default()), None);
    }

    #[test]
    fn a_message_shows_what_became_of_it() {
        let marked = Message {
            text: "hello\nthere".into(),
            reply_to_seq: 4,
            edited_at_ms: 1,
            reactions: vec![ReactionCount {
                emoji: "👍".into(),
                count: 2,
                mine: true,
                ..Default::default()
            }],
            pinned: true,
            reply_count: 3,
            ..Default::default()
        };
        assert_eq!(
            message(&marked),
            "↩4 hello ⏎ there (edited) 👍2* 📌 [3 replies]"
        );
        let deleted = Message {
            deletion: Deletion::default().into(),
            ..Default::default()
        };
        assert_eq!(message(&deleted), "(deleted)");
        let evil = Message {
            text: "\x1b[2J".into(),
            ..Default::default()
        };
        assert_eq!(message(&evil), "[2J");
    }

    #[test]
    fn spans_are_said_in_the_largest_unit_that_fits() {
        let said = [1, 60, 90, 3_600, 172_800].map(span);
        assert_eq!(
            said,
            ["1 second", "1 minute", "90 seconds", "1 hour", "2 days"]
        );
    }
}
