//! The core against a model of a server that loses, repeats and reorders what it sends, with restarts in
//! between. Whatever happens, the client ends up with the logs, and nobody sees anything twice.

mod membership;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use tertulia_proto::chats::event::Body;
use tertulia_proto::chats::user_event::Body as UserBody;
use tertulia_proto::chats::{
    Chat, ChatJoined, Event, ListChatsResponse, Membership, Message, ReadState,
    SendMessageResponse, UserEvent,
};
use tertulia_proto::identity::Credentials;
use tertulia_proto::live::missed::Answer;
use tertulia_proto::live::{Changed, Delta, Head, Heartbeat, Missed, Reset, ResetReason};

use super::repair::Relist;
use super::*;
use crate::change::{Observer, Seen};
use crate::http::{Address, Http};
use crate::outbox::{Entry, State};
use crate::store::memory::Memory;
use crate::time::System;

const CHATS: i64 = 3;
const ME: i64 = 7;
const DEVICE: &str = "my-device";

/// The logs as the server has them.
#[derive(Default)]
struct Server {
    own: Vec<UserEvent>,
    logs: BTreeMap<ChatId, Vec<Event>>,
    told: BTreeMap<ChatId, i64>,
}

impl Server {
    fn append(&mut self, chat: ChatId, actor: i64, id: &str, device: &str) -> i64 {
        if !self.logs.contains_key(&chat) {
            let joined = Chat {
                chat_id: chat,
                member_ids: vec![ME, 9],
                ..Default::default()
            };
            let joined = ChatJoined {
                chat: joined.into(),
                ..Default::default()
            };
            let seq = self.own.len() as i64 + 1;
            self.own.push(UserEvent {
                seq,
                body: joined.into(),
                ..Default::default()
            });
        }
        let log = self.logs.entry(chat).or_default();
        let seq = log.len() as i64 + 1;
        let message = Message {
            message_id: 100 * chat + seq,
            client_message_id: id.to_owned(),
            device_id: device.to_owned(),
            text: format!("{chat}/{id}"),
            changed_seq: seq,
            ..Default::default()
        };
        log.push(Event {
            chat_id: chat,
            seq,
            actor_id: actor,
            body: message.into(),
            ..Default::default()
        });
        seq
    }

    /// Stores a message of the client, once, and gives its seq each time.
    fn send(&mut self, entry: &Entry) -> i64 {
        let known = self
            .logs
            .get(&entry.chat)
            .into_iter()
            .flatten()
            .find(|event| match &event.body {
                Some(Body::Message(m)) => m.client_message_id == entry.client_message_id,
                _ => false,
            });
        match known {
            Some(event) => event.seq,
            None => self.append(entry.chat, ME, &entry.client_message_id, DEVICE),
        }
    }

    fn head(&self, chat: ChatId) -> i64 {
        self.logs.get(&chat).map_or(0, |log| log.len() as i64)
    }

    /// One byte for each log.
    fn cursor(&self) -> Vec<u8> {
        let heads = (1..=CHATS).map(|chat| self.head(chat) as u8);
        heads.chain([self.own.len() as u8]).collect()
    }

    /// Who has spoken has read everything before.
    fn read_state(&self, chat: ChatId) -> ReadState {
        let log = &self.logs[&chat];
        let seen = log
            .iter()
            .rposition(|e| e.actor_id == ME)
            .map_or(0, |at| at + 1);
        ReadState {
            seen_seq: seen as i64,
            unread: (log.len() - seen) as i32,
            as_of_seq: log.len() as i64,
            ..Default::default()
        }
    }

    fn chat(&self, chat: ChatId) -> Chat {
        let last = self.logs[&chat].last().cloned();
        let membership = Membership {
            read: self.read_state(chat).into(),
            ..Default::default()
        };
        Chat {
            chat_id: chat,
            member_ids: vec![ME, 9],
            head: self.head(chat),
            last_message: last.map_or_else(Default::default, Into::into),
            membership: membership.into(),
            ..Default::default()
        }
    }

    fn missed(&mut self, cursor: &[u8]) -> Missed {
        self.told.clear();
        let answer: Answer = if cursor.is_empty() {
            Reset {
                reason: ResetReason::RESET_REASON_FIRST.into(),
                chats: self.logs.keys().map(|chat| self.chat(*chat)).collect(),
                own_head: self.own.len() as i64,
                epoch: "e".into(),
                ..Default::default()
            }
            .into()
        } else {
            let (own, heads) = cursor.split_last().unwrap();
            let moved = |chat: &ChatId| self.head(*chat) > heads[*chat as usize - 1].into();
            let chats: Vec<ChatId> = self.logs.keys().copied().filter(moved).collect();
            let missed = |chat: &ChatId| {
                self.logs[chat][heads[*chat as usize - 1] as usize..]
                    .iter()
                    .cloned()
            };
            let events: Vec<Event> = chats.iter().flat_map(missed).collect();
            if events.len() > 8 {
                Changed {
                    chats: chats.iter().map(|chat| self.chat(*chat)).collect(),
                    own_head: self.own.len() as i64,
                    ..Default::default()
                }
                .into()
            } else {
                Delta {
                    own_events: self.own[*own as usize..].to_vec(),
                    events,
                    ..Default::default()
                }
                .into()
            }
        };
        Missed {
            cursor: self.cursor(),
            answer: Some(answer),
            ..Default::default()
        }
    }

    fn heartbeat(&mut self) -> Heartbeat {
        let moved: Vec<ChatId> = self
            .logs
            .keys()
            .copied()
            .filter(|c| self.told.get(c) != Some(&self.head(*c)))
            .collect();
        let mut heads = Vec::new();
        for chat_id in moved {
            let seq = self.head(chat_id);
            self.told.insert(chat_id, seq);
            heads.push(Head {
                chat_id,
                seq,
                ..Default::default()
            });
        }
        Heartbeat {
            heads,
            own_head: self.own.len() as i64,
            cursor: self.cursor(),
            ..Default::default()
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Somebody else says something; whether the client hears of it is another step.
    Said(ChatId),
    /// An event of a chat arrives: the newest, or one that many before.
    Live(ChatId, usize),
    /// The newest event of the own log arrives.
    Own,
    /// A heartbeat arrives, or is lost.
    Heartbeat(bool),
    /// What is missing is asked for; the answer is this long, or lost.
    Repair(usize, bool),
    /// Something is written.
    Write(ChatId),
    /// What is written is sent; the server stores it, and the answer arrives or is lost.
    Send(bool),
    /// The connection breaks and comes back.
    Reconnect,
    /// The process ends and begins anew.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let chat = 1..=CHATS;
    prop_oneof![
        8 => chat.clone().prop_map(Step::Said),
        8 => (chat.clone(), 0usize..4).prop_map(|(chat, back)| Step::Live(chat, back)),
        2 => Just(Step::Own),
        3 => any::<bool>().prop_map(Step::Heartbeat),
        4 => (1usize..4, any::<bool>()).prop_map(|(limit, lost)| Step::Repair(limit, lost)),
        3 => chat.prop_map(Step::Write),
        3 => any::<bool>().prop_map(Step::Send),
        2 => Just(Step::Reconnect),
        1 => Just(Step::Restart),
    ]
}

struct World {
    server: Server,
    store: Arc<Memory>,
    core: Core,
    seen: Arc<Mutex<Vec<Seen>>>,
    written: usize,
}

impl World {
    fn new() -> Self {
        let (store, seen) = (Arc::new(Memory::default()), Arc::default());
        let core = core(&store, &seen);
        let credentials = Credentials {
            user_id: ME,
            device_id: DEVICE.into(),
            ..Default::default()
        };
        core.change(|set| set.put(Record::SignedIn(Box::new(credentials))))
            .unwrap();
        let mut world = World {
            server: Server::default(),
            store,
            core,
            seen,
            written: 0,
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.core.session_ends();
        self.core.session_begins();
        let cursor = self.core.mind().known.cursor.clone();
        let missed = self.server.missed(&cursor);
        self.core.missed(missed).unwrap();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Said(chat) => _ = self.server.append(chat, 9, "theirs", "their-device"),
            Step::Live(chat, back) => {
                let Some(log) = self.server.logs.get(&chat) else {
                    return;
                };
                let Some(event) = log.len().checked_sub(1 + back).map(|at| log[at].clone()) else {
                    return;
                };
                let prev = event.seq - 1;
                self.core.chat_event(event, prev).unwrap();
            }
            Step::Own => {
                if let Some(event) = self.server.own.last().cloned() {
                    let prev = event.seq - 1;
                    self.core.own_event(event, prev).unwrap();
                }
            }
            Step::Heartbeat(lost) => {
                let heartbeat = self.server.heartbeat();
                if lost {
                    // A frame that is lost takes the connection with it: frames of one socket come in order.
                    self.connect();
                } else {
                    self.core.heartbeat(heartbeat).unwrap();
                }
            }
            Step::Repair(limit, lost) => _ = self.repair(limit, lost),
            Step::Write(chat) => {
                self.written += 1;
                let entry = Entry {
                    chat,
                    client_message_id: format!("mine-{}", self.written),
                    text: "x".into(),
                    reply_to_seq: 0,
                    thread_seq: 0,
                    mentions: None,
                    at_ms: 0,
                    state: State::Queued,
                };
                self.core.change(|set| set.write(entry)).unwrap();
            }
            Step::Send(lost) => {
                for entry in self.core.messages_to_send(10) {
                    let seq = self.server.send(&entry);
                    if lost {
                        self.core
                            .message_refused(&entry, &Error::Offline("cut".into()))
                            .unwrap();
                    } else {
                        let answer = SendMessageResponse {
                            seq,
                            ..Default::default()
                        };
                        self.core.message_stored(&entry, answer).unwrap();
                    }
                }
            }
            Step::Reconnect => self.connect(),
            Step::Restart => {
                self.core = core(&self.store, &self.seen);
                self.connect();
            }
        }
    }

    /// Does one job; false when there is none.
    fn repair(&mut self, limit: usize, lost: bool) -> bool {
        let Next::Do(job, after, _) = self.core.next_job() else {
            return false;
        };
        if !lost {
            let part = |len: usize| {
                let from = after as usize;
                from..len.min(from + limit)
            };
            let brought = match job {
                Job::Hole(chat) => {
                    let log = &self.server.logs[&chat];
                    let events = log[part(log.len())].to_vec();
                    self.core.filled(chat, after, events, log.len() as i64)
                }
                Job::Own => {
                    let own = &self.server.own;
                    let events = own[part(own.len())].to_vec();
                    self.core.own_filled(after, events, own.len() as i64)
                }
                Job::Chat(chat) => self.core.chat_read(self.server.chat(chat)),
                Job::Chats => {
                    let chats = self.server.logs.keys().map(|chat| self.server.chat(*chat));
                    self.core.chats_listed(ListChatsResponse {
                        chats: chats.collect(),
                        ..Default::default()
                    })
                }
                Job::Scheduled => self.core.scheduled_listed(after, Vec::new()),
            };
            assert!(brought.unwrap(), "{job:?} brought nothing");
        }
        self.core.job_done(job, false).unwrap();
        true
    }
}

fn core(store: &Arc<Memory>, seen: &Arc<Mutex<Vec<Seen>>>) -> Core {
    let seen = Arc::clone(seen);
    let options = Options {
        hole_patience: Duration::ZERO,
        fresh_events: 1_000,
        ..Default::default()
    };
    let nowhere = Http::new(Address::parse("http://127.0.0.1:1").unwrap());
    let observer: Observer = Arc::new(move |event| seen.lock().push(event.clone()));
    Core::new(
        Arc::new(nowhere),
        Arc::new(System),
        store.clone(),
        options,
        Some(observer),
    )
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_lost_the_client_ends_up_with_the_logs(steps in prop::collection::vec(step(), 0..80)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        // The network is well again.
        world.take(Step::Reconnect);
        while world.repair(3, false) {}
        while !world.core.mind().known.outbox.is_empty() {
            world.take(Step::Send(false));
            world.take(Step::Heartbeat(false));
            while world.repair(3, false) {}
        }
        let mind = world.core.mind();
        prop_assert_eq!(mind.known.chats.len(), world.server.logs.len());
        let mut by_chat: BTreeMap<ChatId, Vec<i64>> = BTreeMap::new();
        for seen in world.seen.lock().iter() {
            by_chat.entry(seen.chat).or_default().push(seen.seq);
        }
        for (chat, log) in &world.server.logs {
            let known = &mind.known.chats[chat];
            let shown: Vec<_> = known.shown().cloned().collect();
            let whole: Vec<i64> = (1..=log.len() as i64).collect();
            prop_assert_eq!(&shown, log, "what is shown of chat {} is its log", chat);
            prop_assert_eq!(&by_chat[chat], &whole, "everything was seen once and in order");
            let unread = known.reading().unread;
            prop_assert_eq!(unread, i64::from(world.server.read_state(*chat).unread));
        }
        let mine = |log: &Vec<Event>| {
            log.iter().filter(|e| e.actor_id == ME).count()
        };
        let sent: usize = world.server.logs.values().map(mine).sum();
        prop_assert_eq!(sent, world.written, "every message went out once");
    }
}

#[test]
fn a_cursor_waits_until_what_it_covers_is_held() {
    let mut world = World::new();
    let before = world.core.mind().known.cursor.clone();
    world.take(Step::Said(1));
    world.take(Step::Heartbeat(false));
    assert_eq!(world.core.mind().known.cursor, before);
    while world.repair(5, false) {}
    assert_eq!(world.core.mind().known.cursor, world.server.cursor());
}

#[test]
fn another_epoch_drops_the_logs_and_keeps_what_is_unsent() {
    let mut world = World::new();
    world.take(Step::Said(1));
    world.take(Step::Reconnect);
    world.take(Step::Write(2));
    let reset = Reset {
        reason: ResetReason::RESET_REASON_EPOCH.into(),
        epoch: "another".into(),
        ..Default::default()
    };
    let missed = Missed {
        cursor: vec![9],
        answer: Some(reset.into()),
        ..Default::default()
    };
    world.core.missed(missed).unwrap();
    let mind = world.core.mind();
    assert!(mind.known.chats.is_empty());
    assert_eq!(
        (mind.known.outbox.len(), mind.known.epoch.as_str()),
        (1, "another")
    );
}

#[test]
fn a_list_that_can_not_be_read_on_is_read_anew() {
    let core = core(&Arc::default(), &Arc::default());
    core.mind().relist = Some(Relist::new(HashSet::new()));
    let page_asked_for = || {
        loop {
            match core.next_job() {
                Next::Do(Job::Chats, _, page) => return page,
                Next::Do(other, ..) => core.job_done(other, true).unwrap(),
                _ => panic!("the list is not read"),
            }
        }
    };
    assert_eq!(page_asked_for(), "");
    let first = ListChatsResponse {
        next_page_token: "of another version".into(),
        ..Default::default()
    };
    assert!(core.chats_listed(first).unwrap());
    core.job_done(Job::Chats, false).unwrap();
    assert_eq!(page_asked_for(), "of another version");
    assert!(core.list_anew().unwrap());
    core.job_done(Job::Chats, false).unwrap();
    assert_eq!(page_asked_for(), "");
}

#[test]
fn a_hole_that_is_too_large_becomes_history() {
    let mut world = World::new();
    world.take(Step::Said(1));
    world.take(Step::Live(1, 0));
    let heads = vec![Head {
        chat_id: 1,
        seq: 50_000,
        ..Default::default()
    }];
    world
        .core
        .heartbeat(Heartbeat {
            heads,
            cursor: vec![1],
            ..Default::default()
        })
        .unwrap();
    let mut asked = std::iter::from_fn(|| match world.core.next_job() {
        Next::Do(job, after, _) => Some((job, after)),
        _ => None,
    });
    let hole = asked.find(|(job, _)| *job == Job::Hole(1));
    assert_eq!(hole, Some((Job::Hole(1), 50_000 - changes::TAIL_EVENTS)));
}

fn chat_with_last(head: i64, text: &str) -> Chat {
    let message = Message {
        text: text.into(),
        changed_seq: head,
        ..Default::default()
    };
    let last_message = Event {
        chat_id: 1,
        seq: head,
        body: message.into(),
        ..Default::default()
    };
    Chat {
        chat_id: 1,
        member_ids: vec![ME, 9],
        head,
        last_message: last_message.into(),
        ..Default::default()
    }
}

#[test]
fn what_a_call_told_before_the_first_hello_is_forgotten_when_the_server_was_restored_between() {
    let core = core(&Arc::default(), &Arc::default());
    let met = chat_with_last(6, "taken back");
    core.change(|set| set.met(met, 1, false)).unwrap();
    let reset = Reset {
        reason: ResetReason::RESET_REASON_FIRST.into(),
        chats: vec![chat_with_last(5, "true")],
        epoch: "restored".into(),
        ..Default::default()
    };
    core.missed(Missed {
        cursor: vec![1],
        answer: Some(reset.into()),
        ..Default::default()
    })
    .unwrap();
    let mind = core.mind();
    let timeline = &mind.known.chats[&1];
    let held: Vec<i64> = timeline
        .shown()
        .chain(timeline.held_back())
        .map(|e| e.seq)
        .collect();
    assert_eq!((timeline.head(), held), (5, vec![5]));
}

#[test]
fn a_long_chat_of_which_only_the_last_event_is_told_shows_it() {
    let core = core(&Arc::default(), &Arc::default());
    let head = core.options.hole_events_max + 7;
    let changed = Changed {
        chats: vec![chat_with_last(head, "the last")],
        ..Default::default()
    };
    core.missed(Missed {
        cursor: vec![1],
        answer: Some(changed.into()),
        ..Default::default()
    })
    .unwrap();
    let mind = core.mind();
    let shown: Vec<i64> = mind.known.chats[&1].shown().map(|e| e.seq).collect();
    assert_eq!(shown, [head]);
}
