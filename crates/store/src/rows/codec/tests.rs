//! Every row comes back as it left, and no bytes make the reading panic.

use std::fmt::Debug;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use tertulia_services::chats::decide::Used;
use tertulia_services::chats::*;
use tertulia_services::ids::{ChatId, MessageId, ScheduledId, UserId};

use super::*;

const CHAT: ChatId = ChatId(7);
const SEQ: Seq = 9;

fn users() -> impl Strategy<Value = UserId> {
    any::<i64>().prop_map(UserId)
}

fn roles() -> impl Strategy<Value = Role> {
    prop::sample::select(vec![Role::Reader, Role::Member, Role::Admin, Role::Owner])
}

fn reasons() -> impl Strategy<Value = DeletionReason> {
    use DeletionReason::*;
    prop::sample::select(vec![Sender, Moderator, Expired])
}

fn keys() -> impl Strategy<Value = SendKey> {
    any::<(String, String)>().prop_map(|(device, client_message_id)| SendKey {
        device,
        client_message_id,
    })
}

fn mentions() -> impl Strategy<Value = Mentions> {
    (vec(users(), 0..4), any::<bool>(), option::of(roles())).prop_map(|(users, everyone, role)| {
        Mentions {
            users,
            everyone,
            role,
        }
    })
}

prop_compose! {
    fn plain_messages()(id: i64, key in keys(), text: String) -> Message {
        Message::plain(MessageId(id), key, text, SEQ)
    }
}

prop_compose! {
    fn rich_messages()(
        plain in plain_messages(),
        changed: i64,
        edits in vec(any::<i64>(), 0..4),
        edited_at_ms: i64,
        deletion in option::of((reasons(), users())),
        places in any::<(Option<i64>, Option<i64>, i64)>(),
        forward in option::of((users(), any::<i64>())),
        mentions in mentions(),
        reactions in vec(any::<(String, u32)>(), 0..4),
        pinned: bool,
        replies: u32,
        expires_at_ms: i64,
    ) -> Message {
        let (reply_to, thread, last_reply) = places;
        let reaction = |(emoji, count)| ReactionCount { emoji, count };
        Message {
            changed, edits, edited_at_ms, reply_to, thread, mentions, pinned, replies, last_reply,
            expires_at_ms,
            deletion: deletion.map(|(reason, by)| Deletion { reason, by }),
            forward: forward.map(|(user, at_ms)| Forward { user, at_ms }),
            reactions: reactions.into_iter().map(reaction).collect(),
            ..plain
        }
    }
}

fn bodies() -> impl Strategy<Value = EventBody> {
    let named = || vec(users(), 0..4);
    prop_oneof![
        4 => plain_messages().prop_map(EventBody::Message),
        4 => rich_messages().prop_map(EventBody::Message),
        1 => (any::<(i64, String, Option<String>)>(), mentions()).prop_map(
            |((message, text, before), mentions)| EventBody::Edited { message, text, mentions, before }
        ),
        1 => (vec(any::<i64>(), 0..4), reasons())
            .prop_map(|(messages, reason)| EventBody::Deleted { messages, reason }),
        1 => any::<(i64, String)>().prop_map(|(message, emoji)| EventBody::Reacted { message, emoji }),
        1 => any::<(i64, String)>().prop_map(|(message, emoji)| EventBody::Unreacted { message, emoji }),
        1 => any::<i64>().prop_map(EventBody::Pinned),
        1 => any::<i64>().prop_map(EventBody::Unpinned),
        1 => (any::<(String, u32)>(), named()).prop_map(
            |((title, member_count), members)| EventBody::Created { title, members, member_count }
        ),
        1 => any::<([Option<String>; 3], Option<i64>)>().prop_map(
            |([title, topic, avatar], message_ttl_s)| {
                EventBody::Changed { title, topic, avatar, message_ttl_s }
            }
        ),
        1 => (named(), roles(), any::<u32>()).prop_map(
            |(members, role, member_count)| EventBody::Added { members, role, member_count }
        ),
        1 => (users(), roles(), any::<u32>()).prop_map(
            |(invited_by, role, member_count)| EventBody::Joined { invited_by, role, member_count }
        ),
        1 => any::<u32>().prop_map(|member_count| EventBody::Left { member_count }),
        1 => (users(), any::<u32>())
            .prop_map(|(user, member_count)| EventBody::Removed { user, member_count }),
        1 => (users(), any::<u32>())
            .prop_map(|(user, member_count)| EventBody::Banned { user, member_count }),
        1 => users().prop_map(EventBody::Unbanned),
        1 => (users(), roles()).prop_map(|(user, role)| EventBody::RoleChanged { user, role }),
    ]
}

prop_compose! {
    fn events()(at_ms: i64, actor in users(), messages: i64, body in bodies()) -> Event {
        Event { chat: CHAT, seq: SEQ, at_ms, actor, messages, body }
    }
}

prop_compose! {
    fn details()(
        texts in any::<(String, String, String)>(),
        created_by in option::of(users()),
        pinned in vec(any::<i64>(), 0..4),
        member_count: u32,
        numbers in any::<[i64; 4]>(),
    ) -> Details {
        let (title, topic, avatar) = texts;
        let [message_ttl_s, members_seq, deleted_max, called_max] = numbers;
        Details {
            title, topic, avatar, created_by, message_ttl_s, pinned, member_count, members_seq,
            deleted_max, called_max,
        }
    }
}

/// Without their last message, as rows of chats are.
fn chats() -> impl Strategy<Value = Chat> {
    let chat = |kind, [head, messages, created_at_ms, a, b]: [i64; 5], details: Details| Chat {
        id: CHAT,
        kind,
        head: head.rem_euclid(i64::MAX),
        messages,
        created_at_ms,
        last_message: None,
        spoke: if kind == ChatKind::Group || kind == ChatKind::Channel {
            [0; 2]
        } else {
            [a, b]
        },
        details: Arc::new(details),
    };
    let pair = any::<(i64, i64)>().prop_map(|(a, b)| {
        let (a, b) = if a == b { (0, 1) } else { (a, b) };
        Pair::new(UserId(a), UserId(b)).unwrap()
    });
    let plain = (pair.clone(), any::<[i64; 5]>()).prop_map(move |(pair, numbers)| {
        let details = Chat::direct(CHAT, pair, 0).details;
        chat(ChatKind::Direct(pair), numbers, (*details).clone())
    });
    let kinds = prop_oneof![
        pair.prop_map(ChatKind::Direct),
        Just(ChatKind::Group),
        Just(ChatKind::Channel)
    ];
    let rich = (kinds, any::<[i64; 5]>(), details());
    prop_oneof![
        plain,
        rich.prop_map(move |(kind, numbers, details)| chat(kind, numbers, details))
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let notify = prop::sample::select(vec![
        Notify::Default,
        Notify::All,
        Notify::Mentions,
        Notify::None,
    ]);
    (any::<(i64, bool, bool, bool)>(), notify).prop_map(
        |((muted_until_ms, archived, favorite, marked_unread), notify)| Settings {
            muted_until_ms,
            notify,
            archived,
            favorite,
            marked_unread,
        },
    )
}

fn drafts() -> impl Strategy<Value = Option<Arc<Draft>>> {
    let draft = |(text, reply_to, at_ms)| {
        Arc::new(Draft {
            text,
            reply_to,
            at_ms,
        })
    };
    option::of(any::<(String, Option<i64>, i64)>().prop_map(draft))
}

prop_compose! {
    fn memberships()(
        role in roles(),
        numbers in any::<[i64; 5]>(),
        hidden: u32,
        settings in settings(),
        draft in drafts(),
    ) -> Membership {
        let [joined_at_ms, delivered, seen, shown_seen, mentioned_max] = numbers;
        Membership {
            role, joined_at_ms, delivered, seen, shown_seen, mentioned_max, hidden, settings, draft,
        }
    }
}

prop_compose! {
    fn invites()(
        ids in any::<(i64, i64)>(),
        times in any::<(i64, i64)>(),
        uses in any::<(u32, u32)>(),
        role in roles(),
    ) -> Invite {
        Invite {
            code: "code".into(),
            chat: ChatId(ids.0),
            created_by: UserId(ids.1),
            created_at_ms: times.0,
            expires_at_ms: times.1,
            uses_max: uses.0,
            uses: uses.1,
            role,
        }
    }
}

prop_compose! {
    fn scheduled()(
        ids in any::<(i64, i64)>(),
        send_at_ms: i64,
        key in keys(),
        text: String,
        places in any::<(Option<i64>, Option<i64>)>(),
        mentions in mentions(),
    ) -> Scheduled {
        Scheduled {
            id: ScheduledId(3),
            user: UserId(ids.0),
            chat: ChatId(ids.1),
            send_at_ms,
            key,
            text,
            reply_to: places.0,
            thread: places.1,
            mentions,
        }
    }
}

fn own_bodies() -> impl Strategy<Value = UserEventBody> {
    let left = prop::sample::select(vec![
        LeftReason::Left,
        LeftReason::Removed,
        LeftReason::Banned,
    ]);
    let there = || any::<i64>().prop_map(ChatId);
    prop_oneof![
        (chats(), memberships()).prop_map(|(chat, membership)| UserEventBody::ChatJoined {
            chat: Box::new(chat),
            membership: Box::new(membership),
        }),
        (there(), left, users()).prop_map(|(chat, reason, by)| UserEventBody::ChatLeft {
            chat,
            reason,
            by
        }),
        (there(), any::<[i64; 4]>()).prop_map(|(chat, [seen, unread, mentions, as_of])| {
            let read = ReadState {
                seen,
                unread,
                unread_mentions: mentions,
                as_of,
            };
            UserEventBody::ReadMoved { chat, read }
        }),
        (there(), settings())
            .prop_map(|(chat, settings)| UserEventBody::SettingsChanged { chat, settings }),
        (there(), drafts()).prop_map(|(chat, draft)| UserEventBody::DraftChanged { chat, draft }),
        (there(), vec(any::<i64>(), 0..4))
            .prop_map(|(chat, messages)| UserEventBody::MessagesHidden { chat, messages }),
        option::of(scheduled()).prop_map(|scheduled| UserEventBody::ScheduleChanged {
            id: ScheduledId(3),
            scheduled: scheduled.map(Arc::new),
        }),
    ]
}

fn uses() -> impl Strategy<Value = Used> {
    prop_oneof![
        any::<(i64, i64, u32)>().prop_map(|(chat, first, count)| {
            let chat = ChatId(chat);
            Used::Messages { chat, first, count }
        }),
        any::<i64>().prop_map(|id| Used::Chat(ChatId(id))),
        any::<String>().prop_map(Used::Invite),
        any::<i64>().prop_map(|id| Used::Scheduled(ScheduledId(id))),
    ]
}

/// A row that was written comes back, is corrupt when it is cut or longer, and is read without a panic when
/// one of its bytes is another.
fn comes_back<T: PartialEq + Debug>(
    row: &T,
    write: impl Fn(&mut Vec<u8>),
    read: impl Fn(&[u8]) -> Read<T>,
    cut: Index,
    byte: u8,
) -> Result<(), TestCaseError> {
    let mut bytes = vec![9];
    write(&mut bytes);
    let there = read(&bytes);
    prop_assert_eq!(there.as_ref(), Ok(row));
    let place = cut.index(bytes.len());
    prop_assert!(read(&bytes[..place]).is_err());
    let mut changed = bytes.clone();
    changed[place] = byte;
    _ = read(&changed);
    bytes.push(0);
    prop_assert!(read(&bytes).is_err());
    Ok(())
}

proptest! {
    #[test]
    fn an_event_comes_back(event in events(), position: u64, cut: Index, byte: u8) {
        let write = |out: &mut Vec<u8>| write_event(out, position, &event);
        let read = |bytes: &[u8]| read_event(bytes, CHAT, SEQ);
        comes_back(&(position, event.clone()), write, read, cut, byte)?;
        let mut bytes = Vec::new();
        write(&mut bytes);
        prop_assert_eq!(read_event_position(&bytes), Ok(position));
    }

    #[test]
    fn a_chat_comes_back(
        chat in chats(), last in option::of(events()), at: (u64, u64), cut: Index, byte: u8,
    ) {
        let (moved_at, marked_at) = at;
        let with_last = Chat { last_message: last.clone().map(Arc::new), ..chat.clone() };
        let write = |out: &mut Vec<u8>| write_chat(out, &with_last, moved_at, marked_at);
        let last_message = last.map_or(0, |event| event.seq);
        let head = chat.head;
        let row = StoredChat { chat, moved_at, marked_at, last_message };
        comes_back(&row, write, |bytes| read_chat(bytes, CHAT), cut, byte)?;
        let mut bytes = Vec::new();
        write(&mut bytes);
        prop_assert_eq!(read_marks(&bytes), Ok(Marks { moved_at, marked_at, head }));
    }

    #[test]
    fn a_membership_comes_back(row in memberships(), cut: Index, byte: u8) {
        comes_back(&row, |out| write_membership(out, &row), read_membership, cut, byte)?;
    }

    #[test]
    fn an_invite_comes_back(row in invites(), cut: Index, byte: u8) {
        let read = |bytes: &[u8]| read_invite(bytes, "code");
        comes_back(&row, |out| write_invite(out, &row), read, cut, byte)?;
    }

    #[test]
    fn a_scheduled_message_comes_back(row in scheduled(), cut: Index, byte: u8) {
        let read = |bytes: &[u8]| read_scheduled(bytes, ScheduledId(3));
        comes_back(&row, |out| write_scheduled(out, &row), read, cut, byte)?;
    }

    #[test]
    fn an_event_of_a_user_comes_back(body in own_bodies(), at_ms: i64, cut: Index, byte: u8) {
        let row = UserEvent { user: UserId(1), seq: SEQ, at_ms, body };
        let read = |bytes: &[u8]| read_user_event(bytes, UserId(1), SEQ);
        comes_back(&row, |out| write_user_event(out, &row), read, cut, byte)?;
    }

    #[test]
    fn the_small_rows_come_back(
        used in uses(), number: i64, cut: Index, byte: u8,
    ) {
        comes_back(&used, |out| write_used(out, &used), read_used, cut, byte)?;
        comes_back(&number, |out| write_value(out, number), read_value, cut, byte)?;
    }

    #[test]
    fn the_keys_of_a_commit_come_back(
        week: i64, keys in vec((any::<[u8; 24]>(), uses()), 0..9), cut: Index, byte: u8,
    ) {
        let write = |out: &mut Vec<u8>| {
            write_fresh(out, week, keys.iter().map(|(hash, used)| (hash, used)));
        };
        comes_back(&(week, keys.clone()), write, read_fresh, cut, byte)?;
    }

    #[test]
    fn reading_never_panics(mut bytes in vec(any::<u8>(), 0..200), is_row: bool) {
        if is_row && let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        _ = read_event(&bytes, CHAT, SEQ);
        _ = read_event_position(&bytes);
        _ = read_chat(&bytes, CHAT);
        _ = read_marks(&bytes);
        _ = read_membership(&bytes);
        _ = read_invite(&bytes, "code");
        _ = read_scheduled(&bytes, ScheduledId(3));
        _ = read_user_event(&bytes, UserId(1), SEQ);
        _ = read_used(&bytes);
        _ = read_value(&bytes);
        _ = read_head(&bytes);
        _ = read_two_key(&bytes);
        _ = read_id_key(&bytes);
    }

    #[test]
    fn the_order_of_numbers_is_the_order_of_their_keys(a: (i64, i64), b: (i64, i64)) {
        prop_assert_eq!(a.cmp(&b), two_key(a.0, a.1).cmp(&two_key(b.0, b.1)));
        prop_assert_eq!(read_two_key(&two_key(a.0, a.1)), Ok(a));
        prop_assert_eq!(a.0.cmp(&b.0), id_key(a.0).cmp(&id_key(b.0)));
        prop_assert_eq!(read_id_key(&id_key(a.0)), Ok(a.0));
    }
}

#[test]
fn a_head_that_can_not_be_counted_on_from_is_refused() {
    let mut bytes = Vec::new();
    for (head, is_one) in [
        (0, true),
        (i64::MAX - 1, true),
        (i64::MAX, false),
        (-1, false),
    ] {
        write_value(&mut bytes, head);
        assert_eq!(read_head(&bytes).is_ok(), is_one, "{head}");
        let pair = Pair::new(UserId(1), UserId(2)).unwrap();
        let chat = Chat {
            head,
            ..Chat::direct(CHAT, pair, 0)
        };
        write_chat(&mut bytes, &chat, 1, 1);
        assert_eq!(read_chat(&bytes, CHAT).is_ok(), is_one, "{head}");
        assert_eq!(read_marks(&bytes).is_ok(), is_one, "{head}");
    }
}

#[test]
fn a_device_and_an_id_do_not_flow_into_each_other() {
    let hash = |device: &str, id: &str| {
        let key = SendKey {
            device: device.into(),
            client_message_id: id.into(),
        };
        send_hash(UserId(1), &key)
    };
    assert_ne!(hash("a", "bc"), hash("ab", "c"));
}

#[test]
fn a_plain_message_takes_little_more_than_its_texts() {
    let key = SendKey {
        device: "d".repeat(36),
        client_message_id: "c".repeat(36),
    };
    let message = Message::plain(MessageId(1), key, "t".repeat(70), SEQ);
    let event = Event {
        chat: CHAT,
        seq: SEQ,
        at_ms: 1_780_000_000_000,
        actor: UserId(1),
        messages: 1_000,
        body: EventBody::Message(message),
    };
    let mut row = Vec::new();
    write_event(&mut row, 1_000_000, &event);
    assert!(row.len() <= 36 + 36 + 70 + 40, "{}", row.len());
}
