//! What happens in a chat.

use std::sync::Arc;

use tertulia_proto::chats::{self as wire, __buffa::oneof::event::Body};
use tertulia_services::chats::{
    Deletion, DeletionReason, Event, EventBody, Mentions, Message, Shown, TextVersion,
};
use tertulia_services::ids::UserId;

use super::{count, member, seq};

/// An event as one member sees it.
pub fn event(from: &Shown) -> wire::Event {
    let event = &*from.event;
    wire::Event {
        chat_id: event.chat.0,
        seq: event.seq,
        at_ms: event.at_ms,
        actor_id: event.actor.0,
        body: Some(body(from)),
        ..Default::default()
    }
}

/// An event as it happens: the same for all who hear it, so with nothing that is only for one of them.
pub fn live_event(from: &Arc<Event>) -> wire::Event {
    event(&Shown {
        event: Arc::clone(from),
        hidden: false,
        mine: Vec::new(),
    })
}

fn body(from: &Shown) -> Body {
    match &from.event.body {
        EventBody::Message(message) => self::message(message, from).into(),
        // What was said first is told by ListEdits alone.
        EventBody::Edited {
            message,
            text,
            mentions,
            before: _,
        } => wire::MessageEdited {
            message_seq: *message,
            text: text.clone(),
            mentions: self::mentions(mentions).into(),
            ..Default::default()
        }
        .into(),
        EventBody::Deleted { messages, reason } => wire::MessagesDeleted {
            message_seqs: messages.clone(),
            reason: deletion_reason(*reason).into(),
            ..Default::default()
        }
        .into(),
        EventBody::Reacted { message, emoji } => {
            Body::ReactionAdded(Box::new(reaction(*message, emoji)))
        }
        EventBody::Unreacted { message, emoji } => {
            Body::ReactionRemoved(Box::new(reaction(*message, emoji)))
        }
        EventBody::Pinned(message) => Body::Pinned(Box::new(pin(*message))),
        EventBody::Unpinned(message) => Body::Unpinned(Box::new(pin(*message))),
        EventBody::Created {
            title,
            members,
            member_count,
        } => wire::ChatCreated {
            title: title.clone(),
            member_ids: ids(members),
            member_count: count(*member_count),
            ..Default::default()
        }
        .into(),
        EventBody::Changed {
            title,
            topic,
            avatar,
            message_ttl_s,
        } => wire::ChatChanged {
            title: title.clone(),
            topic: topic.clone(),
            avatar: avatar.clone(),
            message_ttl_s: *message_ttl_s,
            ..Default::default()
        }
        .into(),
        EventBody::Added {
            members,
            role,
            member_count,
        } => wire::MembersAdded {
            user_ids: ids(members),
            role: member::role(*role).into(),
            member_count: count(*member_count),
            ..Default::default()
        }
        .into(),
        EventBody::Joined {
            invited_by,
            role,
            member_count,
        } => wire::MemberJoined {
            invited_by: invited_by.0,
            role: member::role(*role).into(),
            member_count: count(*member_count),
            ..Default::default()
        }
        .into(),
        EventBody::Left { member_count } => wire::MemberLeft {
            member_count: count(*member_count),
            ..Default::default()
        }
        .into(),
        EventBody::Removed { user, member_count } => wire::MemberRemoved {
            user_id: user.0,
            member_count: count(*member_count),
            ..Default::default()
        }
        .into(),
        EventBody::Banned { user, member_count } => wire::MemberBanned {
            user_id: user.0,
            member_count: count(*member_count),
            ..Default::default()
        }
        .into(),
        EventBody::Unbanned(user) => wire::MemberUnbanned {
            user_id: user.0,
            ..Default::default()
        }
        .into(),
        EventBody::RoleChanged { user, role } => wire::RoleChanged {
            user_id: user.0,
            role: member::role(*role).into(),
            ..Default::default()
        }
        .into(),
    }
}

fn message(from: &Message, shown: &Shown) -> wire::Message {
    let there = !shown.hidden && from.deletion.is_none();
    let text = if there { &from.text } else { "" };
    let reactions = from.reactions.iter().map(|reaction| wire::ReactionCount {
        emoji: reaction.emoji.clone(),
        count: count(reaction.count),
        mine: shown.mine.contains(&reaction.emoji),
        ..Default::default()
    });
    let forward = from.forward.map(|forward| wire::Forward {
        user_id: forward.user.0,
        at_ms: forward.at_ms,
        ..Default::default()
    });
    wire::Message {
        message_id: from.id.0,
        text: text.to_owned(),
        client_message_id: from.key.client_message_id.clone(),
        device_id: from.key.device.clone(),
        changed_seq: from.changed,
        edited_at_ms: from.edited_at_ms,
        deletion: from.deletion.map(deletion).into(),
        hidden: shown.hidden,
        reply_to_seq: seq(from.reply_to),
        thread_seq: seq(from.thread),
        forward: forward.into(),
        mentions: mentions(&from.mentions).into(),
        reactions: reactions.collect(),
        pinned: from.pinned,
        reply_count: count(from.replies),
        last_reply_seq: from.last_reply,
        expires_at_ms: from.expires_at_ms,
        ..Default::default()
    }
}

/// None when nobody is mentioned.
pub fn mentions(from: &Mentions) -> Option<wire::Mentions> {
    (!from.is_empty()).then(|| wire::Mentions {
        user_ids: ids(&from.users),
        everyone: from.everyone,
        role: from.role.map(member::role).unwrap_or_default().into(),
        ..Default::default()
    })
}

/// Nobody when there is none.
pub fn mentions_of(from: Option<wire::Mentions>) -> Mentions {
    from.map_or_else(Mentions::default, |from| Mentions {
        users: from.user_ids.into_iter().map(UserId).collect(),
        everyone: from.everyone,
        role: member::role_of(from.role),
    })
}

pub fn text_version(from: TextVersion) -> wire::TextVersion {
    wire::TextVersion {
        text: from.text,
        at_ms: from.at_ms,
        ..Default::default()
    }
}

fn deletion(from: Deletion) -> wire::Deletion {
    wire::Deletion {
        reason: deletion_reason(from.reason).into(),
        by: from.by.0,
        ..Default::default()
    }
}

fn deletion_reason(from: DeletionReason) -> wire::DeletionReason {
    match from {
        DeletionReason::Sender => wire::DeletionReason::DELETION_REASON_SENDER,
        DeletionReason::Moderator => wire::DeletionReason::DELETION_REASON_MODERATOR,
        DeletionReason::Expired => wire::DeletionReason::DELETION_REASON_EXPIRED,
    }
}

fn reaction(message: i64, emoji: &str) -> wire::Reaction {
    wire::Reaction {
        message_seq: message,
        emoji: emoji.to_owned(),
        ..Default::default()
    }
}

fn pin(message: i64) -> wire::Pin {
    wire::Pin {
        message_seq: message,
        ..Default::default()
    }
}

fn ids(from: &[UserId]) -> Vec<i64> {
    from.iter().map(|user| user.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tertulia_services::chats::{ReactionCount, Role, SendKey};
    use tertulia_services::ids::{ChatId, MessageId};

    fn message() -> Message {
        let key = SendKey {
            device: "d".into(),
            client_message_id: "c".into(),
        };
        Message {
            reactions: vec![ReactionCount {
                emoji: "👍".into(),
                count: 2,
            }],
            ..Message::plain(MessageId(9), key, "psst".into(), 3)
        }
    }

    fn shown(body: EventBody) -> Shown {
        Shown {
            event: Arc::new(Event {
                chat: ChatId(1),
                seq: 3,
                at_ms: 5,
                actor: UserId(7),
                messages: 1,
                body,
            }),
            hidden: false,
            mine: vec!["👍".into()],
        }
    }

    fn said(from: &Shown) -> wire::Message {
        match event(from).body {
            Some(Body::Message(message)) => *message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_hidden_message_and_a_deleted_one_leave_without_their_text() {
        let there = shown(EventBody::Message(message()));
        assert_eq!(said(&there).text, "psst");
        let hidden = Shown {
            hidden: true,
            ..there
        };
        let hidden = said(&hidden);
        assert_eq!((hidden.text.as_str(), hidden.hidden), ("", true));
        let deletion = Deletion {
            reason: DeletionReason::Moderator,
            by: UserId(7),
        };
        let deleted = said(&shown(EventBody::Message(Message {
            deletion: Some(deletion),
            ..message()
        })));
        assert_eq!((deleted.text.as_str(), deleted.deletion.by), ("", 7));
    }

    #[test]
    fn own_reactions_are_marked_for_who_asks_and_for_nobody_live() {
        let shown = shown(EventBody::Message(message()));
        assert!(said(&shown).reactions[0].mine);
        let Some(Body::Message(live)) = live_event(&shown.event).body else {
            panic!("another body")
        };
        assert_eq!(
            (live.reactions[0].count, live.reactions[0].mine),
            (2, false)
        );
    }

    #[test]
    fn what_was_said_before_an_edit_does_not_leave_with_it() {
        let edited = shown(EventBody::Edited {
            message: 2,
            text: "now".into(),
            mentions: Mentions::default(),
            before: Some("before".into()),
        });
        let json = serde_json::to_string(&event(&edited)).unwrap();
        assert!(json.contains("now") && !json.contains("before"), "{json}");
    }

    #[test]
    fn mentions_come_back_as_they_left() {
        for some in [
            Mentions::default(),
            Mentions {
                users: vec![UserId(4), UserId(2)],
                everyone: true,
                role: None,
            },
            Mentions {
                users: Vec::new(),
                everyone: false,
                role: Some(Role::Admin),
            },
        ] {
            assert_eq!(mentions_of(mentions(&some)), some);
        }
    }
}
