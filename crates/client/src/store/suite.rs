//! What every store must do.

use std::sync::Arc;

use tertulia_proto::chats::{Chat, Event, Message};
use tertulia_proto::identity::Credentials;

use super::file::Folder;
use super::memory::Memory;
use super::{EVENTS_PER_CHAT_MAX, Record, Snapshot, Store};
use crate::outbox::{Entry, State};

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
        at_ms: 3,
        state,
    })
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let batch = [
        Record::Device("dev".into()),
        credentials(7),
        Record::Epoch("e1".into()),
        Record::Own(4),
        Record::Chat(Box::new(Chat {
            chat_id: 5,
            member_ids: vec![7, 9],
            ..Default::default()
        })),
        Record::Position {
            chat: 5,
            tip: 10,
            head: 10,
        },
        Record::Events {
            chat: 5,
            from: 11,
            to: 12,
            events: vec![event(5, 11), event(5, 12)],
        },
        Record::Position {
            chat: 5,
            tip: 12,
            head: 20,
        },
        entry("m1", State::Queued),
        entry("m2", State::Failed("no".into())),
        Record::Cursor(vec![1, 2, 255]),
    ];
    let mut expected = Snapshot::default();
    batch.iter().cloned().for_each(|r| expected.apply(r));
    for mut place in Place::both() {
        place.store.write(&batch).unwrap();
        place.store.sync().unwrap();
        place.reopen();
        let loaded = place.store.load().unwrap();
        assert_eq!(loaded, expected);
        let known = &loaded.chats[&5];
        assert_eq!((known.timeline.tip(), known.timeline.head()), (12, 20));
    }
}

#[test]
fn forgetting_keeps_the_login_and_the_unsent_messages() {
    for mut place in Place::both() {
        let events = vec![event(5, 1)];
        place
            .store
            .write(&[
                credentials(7),
                Record::Events {
                    chat: 5,
                    from: 1,
                    to: 1,
                    events,
                },
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
            let events = vec![event(5, seq)];
            place
                .store
                .write(&[Record::Events {
                    chat: 5,
                    from: seq,
                    to: seq,
                    events,
                }])
                .unwrap();
        }
        place.reopen();
        let loaded = place.store.load().unwrap();
        let timeline = &loaded.chats[&5].timeline;
        assert_eq!(timeline.len(), EVENTS_PER_CHAT_MAX);
        assert_eq!(
            (timeline.tip(), timeline.older_before()),
            (end, Some(end + 1 - timeline.len() as i64))
        );
    }
}

#[test]
fn the_records_of_a_snapshot_make_it_again() {
    let mut snapshot = Snapshot::default();
    for record in [
        Record::Device("dev".into()),
        credentials(7),
        Record::TokensGone,
        Record::Epoch("e".into()),
        Record::Position {
            chat: 5,
            tip: 3,
            head: 9,
        },
        Record::Events {
            chat: 5,
            from: 6,
            to: 7,
            events: vec![event(5, 6), event(5, 7)],
        },
        entry("m1", State::Queued),
        Record::Cursor(vec![8]),
    ] {
        snapshot.apply(record);
    }
    let mut again = Snapshot::default();
    snapshot
        .records(100)
        .into_iter()
        .for_each(|r| again.apply(r));
    assert_eq!(again, snapshot);
}
