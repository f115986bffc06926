//! Whatever is lost, repeated, late or out of order: what is shown is always a true state of the log, and in
//! the end it is the log.

use proptest::prelude::*;
use tertulia_proto::chats::*;

use super::model::{Act, ME, Model, OTHER, THIRD};
use super::*;

/// What can happen to a client on its way.
#[derive(Debug, Clone)]
enum Step {
    /// Somebody does something.
    Act(Act),
    /// A live frame arrives, in whatever order, whenever, however often; counted back from the newest.
    Live(usize),
    /// A heartbeat tells the head.
    Head,
    /// The server answers a request for what is missing; the answer is on its way.
    Ask(Question, usize),
    /// The answer asked for so long ago arrives.
    Answer(usize),
    /// The next event of the own log arrives.
    Own,
    /// Receipts arrive.
    Receipts,
    /// Too much was missed.
    Jump(i64),
    /// The client ends and begins with what it stored, or with less.
    Restart(usize),
    /// The cursor is not known any more, or the chat is listed.
    Met,
}

#[derive(Debug, Clone, Copy)]
enum Question {
    Hole,
    Older,
    Chat,
}

/// An answer as it was when it was made.
enum Answer {
    Page {
        from: i64,
        to: i64,
        at: i64,
        events: Vec<Event>,
    },
    Changes {
        stale: Stale,
        through: i64,
        more: bool,
        events: Vec<Event>,
    },
    Chat(Box<Chat>),
}

fn act() -> impl Strategy<Value = Act> {
    let actor = prop_oneof![2 => Just(OTHER), 1 => Just(THIRD), 1 => Just(ME)];
    let at = 0usize..40;
    prop_oneof![
        10 => (actor.clone(), prop::option::of(at.clone()), any::<u8>())
            .prop_map(|(actor, thread, mention)| Act::Send { actor, thread, mention }),
        4 => (at.clone(), any::<u8>()).prop_map(|(at, mention)| Act::Edit { at, mention }),
        3 => (at.clone(), at.clone()).prop_map(|(at, also)| Act::Delete { at, also }),
        4 => (actor.clone(), at.clone(), 0usize..3)
            .prop_map(|(actor, at, emoji)| Act::React { actor, at, emoji }),
        2 => at.clone().prop_map(|at| Act::Pin { at }),
        1 => any::<bool>().prop_map(|title| Act::Change { title }),
        1 => (-2i32..5).prop_map(|by| Act::Count { by }),
        1 => (0i32..3).prop_map(|role| Act::Role { role }),
        3 => (0i64..6).prop_map(|back| Act::Read { back }),
        2 => (actor, 0i64..6, any::<bool>()).prop_map(|(actor, back, seen)| Act::Reach { actor, back, seen }),
        2 => at.prop_map(|at| Act::Hide { at }),
        1 => Just(Act::Choose),
        1 => any::<bool>().prop_map(|on| Act::Draft { on }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let question = prop_oneof![
        3 => Just(Question::Hole),
        2 => Just(Question::Older),
        1 => Just(Question::Chat),
    ];
    prop_oneof![
        12 => act().prop_map(Step::Act),
        12 => (0usize..8).prop_map(Step::Live),
        2 => Just(Step::Head),
        6 => (question, 1usize..7).prop_map(|(question, limit)| Step::Ask(question, limit)),
        7 => (0usize..4).prop_map(Step::Answer),
        4 => Just(Step::Own),
        1 => Just(Step::Receipts),
        1 => (0i64..6).prop_map(Step::Jump),
        1 => (1usize..12).prop_map(Step::Restart),
        1 => Just(Step::Met),
    ]
}

struct World {
    model: Model,
    timeline: Timeline,
    answers: Vec<Answer>,
    /// How far the own log was taken in.
    own: usize,
    /// What a person saw appear, in order.
    seen: Vec<i64>,
}

impl World {
    fn new(before: Vec<Act>) -> Self {
        let mut model = Model::new();
        before.into_iter().for_each(|act| model.act(act));
        let mut timeline = Timeline::after(1, ME, model.head());
        timeline.meet(model.chat());
        let own = model.own.len();
        World {
            model,
            timeline,
            answers: Vec::new(),
            own,
            seen: Vec::new(),
        }
    }

    fn take(&mut self, step: Step) {
        let tip = self.timeline.tip();
        let (model, timeline) = (&mut self.model, &mut self.timeline);
        match step {
            Step::Act(act) => model.act(act),
            Step::Live(back) => {
                let seq = model.head() - back as i64;
                if seq > 0 {
                    live(timeline, model.sent(seq));
                }
            }
            Step::Head => timeline.know_head(model.head()),
            Step::Ask(question, limit) => self.ask(question, limit),
            Step::Answer(at) => self.answer(at),
            Step::Own => {
                if let Some(event) = model.own.get(self.own) {
                    timeline.own(event.body.as_ref().expect("it has a body"));
                    self.own += 1;
                }
            }
            Step::Receipts => {
                let receipts: Vec<Receipt> = model.receipts.values().cloned().collect();
                timeline.receive(&receipts);
            }
            Step::Jump(back) => {
                if timeline.hole().is_some() {
                    timeline.jump(timeline.head() - back);
                }
            }
            Step::Restart(keep) => {
                let stored = serde_json::to_string(&*timeline).expect("it can be written");
                let mut again: Timeline = serde_json::from_str(&stored).expect("it can be read");
                assert_eq!(&again, timeline, "what is stored is what is known");
                again.trim(keep);
                *timeline = again;
                self.answers.clear();
            }
            Step::Met => timeline.meet(model.chat()),
        }
        self.seen
            .extend(self.timeline.shown_after(tip).map(|event| event.seq));
    }

    fn ask(&mut self, question: Question, limit: usize) {
        let head = self.model.head();
        let page = |from: i64, to: i64| Answer::Page {
            from,
            to,
            at: head,
            events: self.model.answer(from..=to),
        };
        let answer = match question {
            Question::Hole => self
                .timeline
                .hole()
                .map(|hole| page(hole.after + 1, (hole.after + limit as i64).min(head))),
            Question::Older => self.timeline.older().map(|older| match older {
                Older::Before(before) => page((before - limit as i64).max(1), before - 1),
                Older::Stale(stale) => {
                    let (events, through, more) = self.model.changes(stale, limit);
                    Answer::Changes {
                        stale,
                        through,
                        more,
                        events,
                    }
                }
            }),
            Question::Chat => Some(Answer::Chat(Box::new(self.model.chat()))),
        };
        self.answers.extend(answer);
    }

    fn answer(&mut self, at: usize) {
        if self.answers.is_empty() {
            return;
        }
        let at = at % self.answers.len();
        match self.answers.remove(at) {
            Answer::Page {
                from,
                to,
                at,
                events,
            } => self.timeline.take(from, to, at, events),
            Answer::Changes {
                stale,
                through,
                more,
                events,
            } => self.timeline.changed(stale, through, more, events),
            Answer::Chat(chat) => self.timeline.meet(*chat),
        }
    }

    /// Asks until the answer is in.
    fn ask_now(&mut self, question: Question) {
        let tip = self.timeline.tip();
        self.answers.clear();
        self.ask(question, 5);
        self.answer(0);
        self.seen
            .extend(self.timeline.shown_after(tip).map(|event| event.seq));
    }

    /// What must be true at every moment.
    fn check(&self) -> Result<(), TestCaseError> {
        let (model, timeline) = (&self.model, &self.timeline);
        let tip = timeline.tip();
        let shown: Vec<&Event> = timeline.shown().collect();
        let seqs: Vec<i64> = shown.iter().map(|event| event.seq).collect();
        let window: Vec<i64> = timeline.window().collect();
        prop_assert_eq!(&seqs, &window, "no hole in what is shown");
        let mut is_ahead = false;
        for row in shown {
            is_ahead |= fold::changed_seq(row) > tip;
            self.check_row(row)?;
        }
        let chat = timeline.chat();
        if chat.head >= tip {
            prop_assert_eq!(chat, &model.chats[chat.head as usize]);
            prop_assert_eq!(timeline.role(), model.roles[chat.head as usize]);
        }
        let reading = timeline.reading();
        // The edits of a message that is deleted later do not say any more whom it mentioned until then.
        let is_doomed = |seq| {
            let was_there = !fold::is_deleted(model.at(tip, seq));
            was_there && fold::is_deleted(model.at(model.head(), seq))
        };
        let is_exact = !is_ahead && !(1..=tip).any(is_doomed);
        if reading.is_certain && chat.head >= tip && reading.as_of == tip && is_exact {
            let naive = model.read_state(tip, reading.seen);
            let counted = (reading.unread, reading.mentions);
            let naive = (naive.unread.into(), naive.unread_mentions.into());
            prop_assert_eq!(counted, naive, "unread at {} after {}", tip, reading.seen);
        }
        Ok(())
    }

    /// A row that is shown is as it was at some head from the tip on.
    fn check_row(&self, row: &Event) -> Result<(), TestCaseError> {
        let (model, tip, seq) = (&self.model, self.timeline.tip(), row.seq);
        let changed = fold::changed_seq(row);
        prop_assert!(
            fold::changed_seq(model.at(tip, seq)) <= changed,
            "a change of {seq} is missing"
        );
        let mut expected = model.at(changed, seq).clone();
        let now = model.at(model.head(), seq);
        let mut row = row.clone();
        match (&mut expected.body, &mut row.body) {
            (Some(Body::Message(expected)), Some(Body::Message(row))) => {
                let told = self.model.own[..self.own].iter().any(|event| {
                    matches!(&event.body, Some(OwnBody::MessagesHidden(h)) if h.message_seqs.contains(&seq))
                });
                prop_assert!(
                    !told || row.hidden || row.deletion.is_set(),
                    "{} is hidden",
                    seq
                );
                prop_assert!(!row.hidden || model.hidden.contains(&seq));
                let is_gone = row.hidden || (row.text.is_empty() && fold::is_deleted(now));
                if is_gone {
                    expected.text.clear();
                    row.text.clear();
                    // An edit that came after the deletion was made says neither text nor mentions.
                    if fold::is_deleted(now) {
                        expected.mentions = row.mentions.clone();
                    }
                }
                row.hidden = false;
            }
            (Some(Body::MessageEdited(expected)), Some(Body::MessageEdited(row))) => {
                prop_assert!(row.text.is_empty() || row.text == expected.text);
                (expected.text, row.text) = Default::default();
                (expected.mentions, row.mentions) = Default::default();
            }
            _ => {}
        }
        prop_assert_eq!(row, expected);
        Ok(())
    }

    /// The network is well again, and the person scrolls to the top.
    fn finish(&mut self) {
        while self.own < self.model.own.len() {
            self.take(Step::Own);
        }
        self.take(Step::Receipts);
        self.timeline.know_head(self.model.head());
        while self.timeline.hole().is_some() {
            self.ask_now(Question::Hole);
        }
        while self.timeline.older().is_some() {
            self.ask_now(Question::Older);
        }
        if self.timeline.wants_chat() {
            self.ask_now(Question::Chat);
        }
    }

    fn check_end(&self) -> Result<(), TestCaseError> {
        let (model, timeline) = (&self.model, &self.timeline);
        prop_assert_eq!(timeline.older(), None);
        for (row, seq) in timeline.shown().zip(1..) {
            let mut expected = model.shown(seq);
            let mut row = row.clone();
            // What an edit said is in the message.
            fold::erase(&mut expected);
            fold::erase(&mut row);
            prop_assert_eq!(row, expected, "the end state of {}", seq);
        }
        prop_assert_eq!(timeline.shown().count() as i64, model.head());
        prop_assert!(!timeline.wants_chat());
        let read = model.read_state(model.head(), model.seen);
        let reading = timeline.reading();
        let counted = (reading.seen, reading.unread, reading.mentions);
        let expected = (
            read.seen_seq,
            read.unread.into(),
            read.unread_mentions.into(),
        );
        prop_assert_eq!(counted, expected, "what is unread in the end");
        prop_assert_eq!(&timeline.settings(), &model.settings);
        prop_assert_eq!(timeline.draft(), model.draft.as_ref());
        for receipt in model.receipts.values() {
            let kept = timeline
                .receipts()
                .find(|kept| kept.user_id == receipt.user_id);
            prop_assert_eq!(kept, Some(receipt));
        }
        let mut by_seq = self.seen.windows(2);
        prop_assert!(
            by_seq.all(|w| w[0] < w[1]),
            "nothing appears twice or late: {:?}",
            self.seen
        );
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(768))]

    #[test]
    fn what_is_shown_is_a_true_state_and_in_the_end_the_log(
        before in prop::collection::vec(act(), 0..20),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut world = World::new(before);
        for step in steps {
            world.take(step);
            world.check()?;
        }
        world.finish();
        world.check()?;
        world.check_end()?;
    }
}
