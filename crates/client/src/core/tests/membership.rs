//! Which chats the user is in, against a server where people come and go: frames come late, twice, in any order or
//! never, and answers come long after they were given.

use std::collections::BTreeSet;

use tertulia_proto::chats::ChatLeft;

use super::*;

/// The logs as the server has them.
#[derive(Default)]
struct Town {
    own: Vec<UserEvent>,
    logs: BTreeMap<ChatId, Vec<Event>>,
    is_in: BTreeSet<ChatId>,
}

impl Town {
    fn tell(&mut self, body: impl Into<Option<UserBody>>) {
        let seq = self.own.len() as i64 + 1;
        self.own.push(UserEvent {
            seq,
            body: body.into(),
            ..Default::default()
        });
    }

    fn say(&mut self, chat: ChatId) {
        let log = self.logs.entry(chat).or_default();
        let seq = log.len() as i64 + 1;
        log.push(Event {
            chat_id: chat,
            seq,
            actor_id: 9,
            body: Message::default().into(),
            ..Default::default()
        });
    }

    fn turn(&mut self, chat: ChatId) {
        self.say(chat);
        if self.is_in.remove(&chat) {
            let left = ChatLeft {
                chat_id: chat,
                ..Default::default()
            };
            self.tell(UserBody::from(left));
        } else {
            self.is_in.insert(chat);
            let joined = ChatJoined {
                chat: self.chat(chat).into(),
                ..Default::default()
            };
            self.tell(UserBody::from(joined));
        }
    }

    fn chat(&self, chat: ChatId) -> Chat {
        Chat {
            chat_id: chat,
            title: format!("chat {chat}"),
            head: self.logs[&chat].len() as i64,
            membership: Membership {
                read: ReadState::default().into(),
                ..Default::default()
            }
            .into(),
            ..Default::default()
        }
    }

    fn chats(&self) -> Vec<Chat> {
        self.is_in.iter().map(|chat| self.chat(*chat)).collect()
    }

    fn own_head(&self) -> i64 {
        self.own.len() as i64
    }

    /// What of it is listed: one chat only, so that the others are listed later.
    fn reset(&self) -> Missed {
        let reset = Reset {
            reason: ResetReason::RESET_REASON_FIRST.into(),
            epoch: "an epoch".into(),
            chats: self.chats().into_iter().take(1).collect(),
            more: self.is_in.len() > 1,
            own_head: self.own_head(),
            ..Default::default()
        };
        self.answer(reset.into())
    }

    fn changed(&self) -> Missed {
        let changed = Changed {
            chats: self.chats(),
            own_head: self.own_head(),
            ..Default::default()
        };
        self.answer(changed.into())
    }

    fn answer(&self, answer: Answer) -> Missed {
        Missed {
            cursor: vec![1],
            answer: Some(answer),
            ..Default::default()
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        let head = |chat: &ChatId| Head {
            chat_id: *chat,
            seq: self.logs[chat].len() as i64,
            ..Default::default()
        };
        Heartbeat {
            heads: self.is_in.iter().map(head).collect(),
            own_head: self.own_head(),
            cursor: vec![1],
            ..Default::default()
        }
    }
}

/// The answer to a job, as it was given.
enum Given {
    Page(Vec<Event>),
    Own(Vec<UserEvent>),
    Chat(Box<Chat>),
    NoSuchChat,
    Chats(Vec<Chat>),
    Scheduled,
}

/// A question that was answered, and whose answer is on its way.
struct Underway {
    job: Job,
    after: i64,
    asked_at: i64,
    given: Given,
}

#[derive(Debug, Clone)]
enum Turn {
    /// Somebody says something in a chat.
    Say(ChatId),
    /// The user comes into a chat, or leaves it who is in it.
    Come(ChatId),
    /// Any event of a chat is heard.
    Hear(ChatId, usize),
    /// Any event of the own log is heard.
    HearOwn(usize),
    Heartbeat,
    /// Something is asked for, and the server answers.
    Ask,
    /// One of the answers arrives.
    Arrive(usize),
    /// The session ends, and another begins, which knows the cursor or does not.
    Connect(bool),
    /// A call brings the user into a chat, who goes and comes so often before its answer arrives.
    Enter(ChatId, usize),
    /// The application lists the chats, and the user comes into one of them and goes so often before the answer arrives.
    List(ChatId, usize),
}

fn turn() -> impl Strategy<Value = Turn> {
    let chat = 1..=CHATS;
    prop_oneof![
        2 => chat.clone().prop_map(Turn::Say),
        4 => chat.clone().prop_map(Turn::Come),
        3 => (chat.clone(), 0usize..8).prop_map(|(chat, nth)| Turn::Hear(chat, nth)),
        3 => (0usize..8).prop_map(Turn::HearOwn),
        2 => Just(Turn::Heartbeat),
        5 => Just(Turn::Ask),
        5 => (0usize..4).prop_map(Turn::Arrive),
        1 => any::<bool>().prop_map(Turn::Connect),
        2 => (chat.clone(), 0usize..3).prop_map(|(chat, later)| Turn::Enter(chat, later)),
        2 => (chat, 0usize..3).prop_map(|(chat, later)| Turn::List(chat, later)),
    ]
}

struct Play {
    town: Town,
    core: Core,
    underway: Vec<Underway>,
}

impl Play {
    fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Say(chat) => self.town.say(chat),
            Turn::Come(chat) => self.town.turn(chat),
            Turn::Hear(chat, nth) => {
                let log = self.town.logs.get(&chat);
                if let Some(event) = log.and_then(|log| log.get(nth)).cloned() {
                    let prev = event.seq - 1;
                    self.core.chat_event(event, prev).unwrap();
                }
            }
            Turn::HearOwn(nth) => self.hear_own(nth),
            Turn::Heartbeat => self.core.heartbeat(self.town.heartbeat()).unwrap(),
            Turn::Ask => _ = self.ask(),
            Turn::Arrive(nth) => {
                if !self.underway.is_empty() {
                    self.arrive(nth % self.underway.len());
                }
            }
            Turn::Connect(knows) => self.connect(knows),
            Turn::Enter(chat, later) => {
                let asked_at = self.core.own_tip();
                if !self.town.is_in.contains(&chat) {
                    self.town.turn(chat);
                }
                let answer = self.town.chat(chat);
                self.go_on(chat, later);
                let entered = self.core.change(|set| set.entered(answer, asked_at));
                entered.unwrap();
            }
            Turn::List(chat, later) => {
                let answer = self.town.chats();
                self.go_on(chat, later);
                self.core.change(|set| set.listed(answer)).unwrap();
            }
        }
    }

    fn hear_own(&mut self, nth: usize) {
        if let Some(event) = self.town.own.get(nth).cloned() {
            let prev = event.seq - 1;
            self.core.own_event(event, prev).unwrap();
        }
    }

    fn connect(&mut self, knows_cursor: bool) {
        self.core.session_ends();
        self.underway.clear();
        self.core.session_begins();
        let is_first = self.core.mind().known.cursor.is_empty();
        let missed = match knows_cursor && !is_first {
            true => self.town.changed(),
            false => self.town.reset(),
        };
        self.core.missed(missed).unwrap();
    }

    /// The user comes into a chat and goes, so often, and all of it is heard.
    fn go_on(&mut self, chat: ChatId, times: usize) {
        if times > 0 {
            (0..times).for_each(|_| self.town.turn(chat));
            (0..self.town.own.len()).for_each(|nth| self.hear_own(nth));
        }
    }

    fn ask(&mut self) -> bool {
        let Next::Do(job, after, _) = self.core.next_job() else {
            return false;
        };
        let part = after as usize..;
        let town = &self.town;
        let given = match job {
            Job::Own => Given::Own(town.own[part].to_vec()),
            Job::Hole(chat) | Job::Chat(chat) if !town.is_in.contains(&chat) => Given::NoSuchChat,
            Job::Hole(chat) => Given::Page(town.logs[&chat][part].to_vec()),
            Job::Chat(chat) => Given::Chat(Box::new(town.chat(chat))),
            Job::Chats => Given::Chats(town.chats()),
            Job::Scheduled => Given::Scheduled,
        };
        self.underway.push(Underway {
            job,
            after,
            asked_at: self.core.own_tip(),
            given,
        });
        true
    }

    fn arrive(&mut self, nth: usize) {
        let Underway {
            job,
            after,
            asked_at,
            given,
        } = self.underway.swap_remove(nth);
        let core = &self.core;
        let last = |seqs: Option<i64>| seqs.unwrap_or(after);
        let brought = match (job, given) {
            (Job::Hole(chat), Given::Page(events)) => {
                let head = last(events.last().map(|event| event.seq));
                core.filled(chat, after, events, head)
            }
            (_, Given::Own(events)) => {
                let head = last(events.last().map(|event| event.seq));
                core.own_filled(after, events, head)
            }
            (Job::Hole(chat) | Job::Chat(chat), Given::NoSuchChat) => {
                core.chat_gone(chat, asked_at)
            }
            (_, Given::Chat(chat)) => core.chat_read(*chat),
            (_, Given::Chats(chats)) => core.chats_listed(ListChatsResponse {
                chats,
                ..Default::default()
            }),
            _ => core.scheduled_listed(after, Vec::new()),
        };
        core.job_done(job, !brought.unwrap()).unwrap();
    }

    /// Until nothing is missing any more.
    fn rest(&mut self) {
        loop {
            while !self.underway.is_empty() {
                self.arrive(0);
            }
            if !self.ask() {
                return;
            }
        }
    }
}

impl Play {
    /// The user came into these chats before the client was there, which has been told of the first one only.
    fn begin(before: impl IntoIterator<Item = ChatId>) -> Play {
        let mut play = Play {
            town: Town::default(),
            core: core(&Arc::default(), &Arc::default()),
            underway: Vec::new(),
        };
        before.into_iter().for_each(|chat| play.town.turn(chat));
        play.connect(false);
        play
    }

    /// The chats that the client shows as the user's.
    fn shown(&self) -> BTreeSet<ChatId> {
        let mind = self.core.mind();
        let chats = mind.known.chats.iter();
        let there = chats.filter(|(_, timeline)| timeline.left().is_none());
        there.map(|(chat, _)| *chat).collect()
    }
}

#[test]
fn a_late_frame_of_a_chat_that_was_left_before_is_looked_into() {
    let mut play = Play::begin([1, 2, 2]);
    play.take(Turn::Hear(2, 0));
    play.rest();
    assert_eq!(play.shown(), BTreeSet::from([1]));
}

#[test]
fn a_list_that_is_older_than_a_leaving_does_not_undo_it() {
    let mut play = Play::begin([1, 2]);
    play.take(Turn::List(2, 1));
    play.rest();
    assert_eq!(play.shown(), BTreeSet::from([1]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn whoever_comes_and_goes_the_client_knows_which_chats_it_is_in(
        before in prop::collection::vec(1..=CHATS, 0..6),
        turns in prop::collection::vec(turn(), 0..60),
    ) {
        let mut play = Play::begin(before);
        for turn in turns {
            play.take(turn);
        }
        play.take(Turn::Heartbeat);
        play.rest();
        // And what comes when all is known.
        for chat in 1..=CHATS {
            (0..8).for_each(|nth| play.take(Turn::Hear(chat, nth)));
        }
        play.rest();
        prop_assert_eq!(play.shown(), play.town.is_in);
    }
}
