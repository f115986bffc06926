//! What every store must do.

use std::sync::Arc;

use tertulia_proto::chats::user_event::Body as OwnBody;
use tertulia_proto::chats::{
    Chat, ChatSettings, Draft, DraftChanged, Event, Mentions, Message, ReadState, Receipt,
    ScheduleChanged, ScheduledMessage, SettingsChanged, UserEvent,
};
use tertulia_proto::identity::Credentials;

use super::file::Folder;
use super::memory::Memory;
use super::{EVENTS_PER_CHAT_MAX, Record, Snapshot, Store};
use crate::outbox::{Entry, State};
use crate::timeline::Older;

/// A store, and how to open it again as after a restart.
struct Place {
    store: Arc<dyn Store>,
    folder: Option<tempfile::TempDir>,
}

impl Place {
    fn both() -> [Place; 2] {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Folder::open(folder.path()).unwrap());
        [
            Place {
                store: Arc::new(Memory::default()),
                folder: None,
            },
            Place {
                store,
                folder: Some(folder),
            },
        ]
    }

    fn reopen(&mut self) {
        if let Some(folder) = &self.folder {
            self.store = Arc::new(Memory::default());
            self.store = Arc::new(Folder::open(folder.path()).unwrap());
        }
    }
}

fn event(chat: i64, seq: i64) -> Event {
    let message = Message {
        text: format!("number {seq}"),
        changed_seq: seq,
        ..Default::default()
    };
    Event {
        chat_id: chat,
        seq,
        actor_id: 9,
        body: message.into(),
        ..Default::default()
    }
}

fn credentials(user: i64) -> Record {
    Record::SignedIn(Box::new(Credentials {
        user_id: user,
        device_id: "dev".into(),
        access_token: "a".into(),
        refresh_token: "r".into(),
        ..Default::default()
    }))
}

fn entry(id: &str, state: State) -> Record {
    let (client_message_id, text) = (id.to_owned(), "hello".to_owned());
    Record::Message(Entry {
        chat: 5,
        client_message_id,
        text,
        reply_to_seq: 4,
        thread_seq: 2,
        mentions: Some(Mentions {
            user_ids: vec![9],
            ..Default::default()
        }),
        at_ms: 3,
        state,
    })
}

fn page(from: i64, to: i64) -> Record {
    Record::Events {
        chat: 5,
        from,
        to,
        at: to,
        events: (from..=to).map(|seq| event(5, seq)).collect(),
    }
}

fn own(seq: i64, body: impl Into<OwnBody>) -> Record {
    Record::OwnEvent(Box::new(UserEvent {
        seq,
        body: Some(body.into()),
        ..Default::default()
    }))
}

/// A chat with everything that can be kept of it: an old part, a live one, and what waits.
fn chat_records() -> Vec<Record> {
    let chat = Chat {
        chat_id: 5,
        member_ids: vec![7, 9],
        member_count: 2,
        head: 10,
        title: "a chat".into(),
        ..Default::default()
    };
    let settings = ChatSettings {
        archived: true,
        ..Default::default()
    };
    let settings = SettingsChanged {
        chat_id: 5,
        settings: settings.into(),
        ..Default::default()
    };
    let draft = Draft {
        text: "begun".into(),
        ..Default::default()
    };
    let draft = DraftChanged {
        chat_id: 5,
        draft: draft.into(),
        ..Default::default()
    };
    let scheduled = ScheduledMessage {
        scheduled_id: 3,
        chat_id: 5,
        text: "later".into(),
        ..Default::default()
    };
    let scheduled = ScheduleChanged {
        scheduled_id: 3,
        scheduled: scheduled.into(),
        ..Default::default()
    };
    vec![
        Record::Begun { chat: 5, tip: 10 },
        Record::Chat {
            chat: Box::new(chat),
            joined: true,
        },
        page(11, 12),
        Record::Head { chat: 5, head: 30 },
        Record::Jump { chat: 5, tip: 20 },
        page(21, 22),
        page(25, 26),
        own(4, settings),
        own(5, draft),
        own(6, scheduled),
        Record::Read {
            chat: 5,
            read: ReadState {
                seen_seq: 3,
                unread: 2,
                as_of_seq: 22,
                ..Default::default()
            },
        },
        Record::Receipts {
            chat: 5,
            receipts: vec![Receipt {
                user_id: 9,
                delivered_seq: 12,
                seen_seq: 11,
                ..Default::default()
            }],
        },
        Record::Told { chat: 5, seq: 22 },
    ]
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let mut batch = vec![
        Record::Device("dev".into()),
        credentials(7),
        Record::Epoch("e1".into()),
        Record::Own(3),
    ];
    batch.extend(chat_records());
    batch.extend([
        entry("m1", State::Queued),
        entry("m2", State::Failed("no".into())),
        entry("m3", State::Sent(24)),
        Record::Cursor(vec![1, 2, 255]),
    ]);
    let mut expected = Snapshot::default();
    batch.iter().cloned().for_each(|r| expected.apply(r));
    for mut place in Place::both() {
        place.store.write(&batch).unwrap();
        place.store.sync().unwrap();
        place.reopen();
        let loaded = place.store.load().unwrap();
        assert_eq!(loaded, expected);
        let chat = &loaded.chats[&5];
        assert_eq!((chat.tip(), chat.head(), loaded.own_tip), (22, 30, 6));
        assert_eq!(chat.draft().map(|d| d.text.as_str()), Some("begun"));
        assert!(chat.settings().archived && loaded.scheduled.contains_key(&3));
    }
}

#[test]
fn forgetting_keeps_the_login_and_the_unsent_messages() {
    for mut place in Place::both() {
        place
            .store
            .write(&[
                credentials(7),
                page(1, 1),
                Record::Cursor(vec![1]),
                entry("m1", State::Queued),
            ])
            .unwrap();
        place.store.write(&[Record::Forget]).unwrap();
        place.reopen();
        let loaded = place.store.load().unwrap();
        assert!(loaded.chats.is_empty() && loaded.cursor.is_empty());
        assert_eq!((loaded.user, loaded.outbox.len()), (7, 1));
    }
}

#[test]
fn another_user_finds_nothing_of_the_one_before() {
    for mut place in Place::both() {
        place
            .store
            .write(&[
                Record::Device("dev".into()),
                credentials(7),
                entry("m", State::Queued),
            ])
            .unwrap();
        place.store.write(&[Record::TokensGone]).unwrap();
        place.reopen();
        let kept = place.store.load().unwrap();
        assert_eq!(
            (kept.user, kept.outbox.len(), kept.credentials),
            (7, 1, None)
        );
        place.store.write(&[credentials(8)]).unwrap();
        place.reopen();
        let loaded = place.store.load().unwrap();
        assert_eq!(
            (loaded.user, loaded.outbox.len(), loaded.device.as_str()),
            (8, 0, "dev")
        );
    }
}

#[test]
fn a_confirmed_message_is_gone() {
    for mut place in Place::both() {
        place
            .store
            .write(&[entry("m1", State::Queued), entry("m2", State::Queued)])
            .unwrap();
        let gone = Record::MessageGone {
            chat: 5,
            client_message_id: "m1".into(),
        };
        place.store.write(&[gone]).unwrap();
        place.reopen();
        let ids: Vec<_> = place
            .store
            .load()
            .unwrap()
            .outbox
            .iter()
            .map(|e| e.client_message_id.clone())
            .collect();
        assert_eq!(ids, ["m2"]);
    }
}

#[test]
fn only_the_newest_events_are_kept() {
    for mut place in Place::both() {
        let end = 3 * EVENTS_PER_CHAT_MAX as i64;
        for seq in 1..=end {
            place.store.write(&[page(seq, seq)]).unwrap();
        }
        place.reopen();
        let loaded = place.store.load().unwrap();
        let timeline = &loaded.chats[&5];
        assert_eq!(timeline.len(), EVENTS_PER_CHAT_MAX);
        let before = end + 1 - timeline.len() as i64;
        assert_eq!(timeline.tip(), end);
        assert_eq!(timeline.older(), Some(Older::Before(before)));
        assert_eq!(
            timeline.reading().unread,
            end,
            "what is unread is still known"
        );
    }
}

#[test]
fn the_records_of_a_snapshot_make_it_again() {
    let mut snapshot = Snapshot::default();
    let who = [
        Record::Device("dev".into()),
        credentials(7),
        Record::TokensGone,
        Record::Epoch("e".into()),
    ];
    let rest = [entry("m1", State::Queued), Record::Cursor(vec![8])];
    for record in who.into_iter().chain(chat_records()).chain(rest) {
        snapshot.apply(record);
    }
    let mut again = Snapshot::default();
    snapshot
        .records(100)
        .into_iter()
        .for_each(|r| again.apply(r));
    assert_eq!(again, snapshot);
}
