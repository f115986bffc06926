//! Judges a run by what every client did and saw and what the store holds at the end, as Jepsen does: an
//! outcome is known good, known bad, or unknown, and unknown ones may be either way but not both.

pub mod deeds;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use deeds::Done;

/// Names one sending: the device and its client message id.
pub type Key = (String, String);

/// Everything that happened in a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Every sending, in the order in which each device began them.
    pub sends: Vec<Send>,
    /// Everything else that was done.
    pub deeds: Vec<Done>,
    /// What each client showed at the end, by client and chat, from top to bottom.
    pub views: BTreeMap<(String, i64), Vec<Shown>>,
    /// Those of them that need not have everything: of chats that one comes into and goes from, and of clients
    /// that skip what they missed.
    pub partial: BTreeSet<(String, i64)>,
    /// What the store holds at the end, by chat, in the order of the log.
    pub logs: BTreeMap<i64, Vec<Row>>,
}

/// One sending of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// Which.
    pub key: Key,
    /// Where.
    pub chat: i64,
    /// What.
    pub text: String,
    /// What the client was told.
    pub outcome: Outcome,
}

/// What a client knows of its sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged with this seq.
    Acked(i64),
    /// It was refused for good.
    Refused,
    /// The answer never came.
    Unknown,
}

/// An event as a client showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its number.
    pub seq: i64,
    /// Which sending; empty when it is no message.
    pub key: Key,
    /// What it said when it was sent; empty when it is no message.
    pub text: String,
}

impl Shown {
    fn is_message(&self) -> bool {
        !self.key.1.is_empty()
    }
}

/// A row of the store; the same shape.
pub type Row = Shown;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Acknowledged, and not in the store at that place.
    Lost { chat: i64, key: Key, seq: i64 },
    /// Acknowledged twice with different numbers, or in the store twice.
    Duplicated { chat: i64, key: Key },
    /// The log has no event with this number, though it has later ones.
    Hole { chat: i64, seq: i64 },
    /// Refused or never sent, and in the store.
    Phantom { chat: i64, key: Key },
    /// In the store with other words than were sent.
    Changed { chat: i64, key: Key },
    /// One device's messages are not in the order in which it sent them.
    Reordered { chat: i64, device: String },
    /// A client showed something twice.
    ShownTwice { client: String, chat: i64, seq: i64 },
    /// A client showed something out of order.
    Misordered { client: String, chat: i64, seq: i64 },
    /// A client does not show what the log has.
    Missed { client: String, chat: i64, seq: i64 },
    /// A client shows what the log does not have.
    Imagined { client: String, chat: i64, seq: i64 },
    /// An acknowledged edit, deletion, reaction or the like is not in the log.
    Forgotten { chat: i64, what: String },
    /// Something is in the log that nobody did.
    Unasked { chat: i64, seq: i64 },
    /// What the store answers is not what its log comes to.
    Untrue(String),
    /// A device shows something else than the store has.
    Differs {
        client: String,
        chat: i64,
        how: String,
    },
    /// A message of good form was refused for good.
    Refused { chat: i64, key: Key },
    /// Something of a chat reached who may not have it any more.
    Leaked(String),
    /// Memory, files or threads went over their bound.
    Unbounded(String),
    /// An answer was wrong, or an error said nothing of another try.
    Dishonest(String),
    /// Something that has a bound took longer.
    Late(String),
    /// An id was given twice or went back.
    BadId(String),
    /// Somebody was told to be there who had gone, or the reverse.
    Astray(String),
}

/// What a service of messages must keep whatever happens. The checker and the fault runs watch them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: what was acknowledged is in the store, and everybody who should have it gets it.
    Loss,
    /// I2: nothing is stored or shown twice.
    Duplicate,
    /// I3: everybody sees one order, and it has no holes.
    Order,
    /// I4: nothing appears that was refused or never said.
    Phantom,
    /// I5: everybody agrees in time.
    Convergence,
    /// I6: nobody hears what is no longer for them.
    Entitlement,
    /// I7: what is used stays within bounds.
    Bounds,
    /// I8: answers are right, or errors that say what to do.
    Honesty,
    /// I10: who is there is said to be there, and who has gone is not. (I9 is of what is due: it is done once.)
    Presence,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invariant::Presence => write!(f, "I10"),
            other => write!(f, "I{}", *other as u8 + 1),
        }
    }
}

impl Violation {
    /// Which promise is broken.
    pub fn invariant(&self) -> Invariant {
        match self {
            Violation::Lost { .. }
            | Violation::Missed { .. }
            | Violation::Forgotten { .. }
            | Violation::Untrue(_)
            | Violation::Differs { .. } => Invariant::Loss,
            Violation::Duplicated { .. } | Violation::ShownTwice { .. } => Invariant::Duplicate,
            Violation::Hole { .. }
            | Violation::Reordered { .. }
            | Violation::Misordered { .. }
            | Violation::BadId(_) => Invariant::Order,
            Violation::Phantom { .. }
            | Violation::Changed { .. }
            | Violation::Imagined { .. }
            | Violation::Unasked { .. } => Invariant::Phantom,
            Violation::Late(_) => Invariant::Convergence,
            Violation::Leaked(_) => Invariant::Entitlement,
            Violation::Unbounded(_) => Invariant::Bounds,
            Violation::Refused { .. } | Violation::Dishonest(_) => Invariant::Honesty,
            Violation::Astray(_) => Invariant::Presence,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl History {
    /// All broken promises, each once, sorted; empty for a good run.
    pub fn check(&self) -> Vec<Violation> {
        let mut found = BTreeSet::new();
        self.check_logs(&mut found);
        self.check_sends(&mut found);
        self.check_views(&mut found);
        found.into_iter().collect()
    }

    /// How many sends were acknowledged.
    pub fn acked(&self) -> usize {
        let acked = |s: &&Send| matches!(s.outcome, Outcome::Acked(_));
        self.sends.iter().filter(acked).count()
    }

    /// Every message of good form that was refused for good. In a run without bad messages there is none.
    pub fn refused(&self) -> Vec<Violation> {
        let refused = self.sends.iter().filter(|s| s.outcome == Outcome::Refused);
        let violation = |s: &Send| Violation::Refused {
            chat: s.chat,
            key: s.key.clone(),
        };
        refused.map(violation).collect()
    }

    /// A line for people: how much was looked at.
    pub fn summary(&self) -> String {
        let acked = self.acked();
        let shown: usize = self.views.values().map(Vec::len).sum();
        let is_acked = |done: &&Done| matches!(done.outcome, Outcome::Acked(_));
        format!(
            "{} sends ({acked} acked), {} deeds ({} acked), {} chats, {} views with {shown} events",
            self.sends.len(),
            self.deeds.len(),
            self.deeds.iter().filter(is_acked).count(),
            self.logs.len(),
            self.views.len()
        )
    }

    fn check_logs(&self, found: &mut BTreeSet<Violation>) {
        let sent: HashMap<&Key, &Send> = self.sends.iter().map(|s| (&s.key, s)).collect();
        for (&chat, rows) in &self.logs {
            let mut keys = HashSet::new();
            for (expected, row) in (1..).zip(rows) {
                if row.seq != expected {
                    found.insert(Violation::Hole {
                        chat,
                        seq: expected,
                    });
                    break;
                }
            }
            for row in rows.iter().filter(|row| row.is_message()) {
                if !keys.insert(&row.key) {
                    found.insert(Violation::Duplicated {
                        chat,
                        key: row.key.clone(),
                    });
                }
                match sent.get(&row.key) {
                    Some(send) if send.outcome == Outcome::Refused || send.chat != chat => {
                        found.insert(Violation::Phantom {
                            chat,
                            key: row.key.clone(),
                        });
                    }
                    Some(send) if send.text != row.text => {
                        found.insert(Violation::Changed {
                            chat,
                            key: row.key.clone(),
                        });
                    }
                    Some(_) => {}
                    None => {
                        found.insert(Violation::Phantom {
                            chat,
                            key: row.key.clone(),
                        });
                    }
                }
            }
        }
    }

    fn check_sends(&self, found: &mut BTreeSet<Violation>) {
        let mut acked: HashMap<&Key, i64> = HashMap::new();
        let mut newest: HashMap<(&str, i64), i64> = HashMap::new();
        let mut rows: HashMap<(i64, &Key), &Row> = HashMap::new();
        for (chat, log) in &self.logs {
            for row in log.iter().filter(|row| row.is_message()) {
                rows.entry((*chat, &row.key)).or_insert(row);
            }
        }
        let mut repeats = HashSet::new();
        for send in &self.sends {
            let row = rows.get(&(send.chat, &send.key)).copied();
            if let Outcome::Acked(seq) = send.outcome {
                if acked
                    .insert(&send.key, seq)
                    .is_some_and(|before| before != seq)
                {
                    found.insert(Violation::Duplicated {
                        chat: send.chat,
                        key: send.key.clone(),
                    });
                }
                if row.is_none_or(|r| r.seq != seq) {
                    found.insert(Violation::Lost {
                        chat: send.chat,
                        key: send.key.clone(),
                        seq,
                    });
                }
            }
            // A repeat has the place of the first.
            if let Some(row) = row.filter(|_| repeats.insert(&send.key)) {
                let device = send.key.0.as_str();
                let before = newest.insert((device, send.chat), row.seq);
                if before.is_some_and(|before| before > row.seq) {
                    found.insert(Violation::Reordered {
                        chat: send.chat,
                        device: device.to_owned(),
                    });
                }
            }
        }
    }

    fn check_views(&self, found: &mut BTreeSet<Violation>) {
        for (view, shown) in &self.views {
            let (client, chat) = (view.0.clone(), view.1);
            let log = self.logs.get(&chat).map_or(&[][..], Vec::as_slice);
            let by_seq: HashMap<i64, &Row> = log.iter().map(|row| (row.seq, row)).collect();
            let mut seen = HashSet::new();
            let mut last = 0;
            for message in shown {
                let seq = message.seq;
                if !seen.insert(seq) {
                    found.insert(Violation::ShownTwice {
                        client: client.clone(),
                        chat,
                        seq,
                    });
                } else if seq < last {
                    found.insert(Violation::Misordered {
                        client: client.clone(),
                        chat,
                        seq,
                    });
                }
                last = last.max(seq);
                if by_seq.get(&seq).is_none_or(|row| *row != message) {
                    found.insert(Violation::Imagined {
                        client: client.clone(),
                        chat,
                        seq,
                    });
                }
            }
            if self.partial.contains(view) {
                continue;
            }
            for row in log.iter().filter(|row| !seen.contains(&row.seq)) {
                found.insert(Violation::Missed {
                    client: client.clone(),
                    chat,
                    seq: row.seq,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: i64 = 7;

    fn key(n: i64) -> Key {
        ("ann".into(), format!("m{n}"))
    }

    fn row(seq: i64, n: i64) -> Row {
        Row {
            seq,
            key: key(n),
            text: format!("text {n}"),
        }
    }

    fn send(n: i64, outcome: Outcome) -> Send {
        Send {
            key: key(n),
            chat: CHAT,
            text: format!("text {n}"),
            outcome,
        }
    }

    /// Three messages, all acknowledged, all shown to both.
    fn good() -> History {
        let rows: Vec<Row> = (1..=3).map(|n| row(n, n)).collect();
        History {
            sends: (1..=3).map(|n| send(n, Outcome::Acked(n))).collect(),
            views: [("ann", &rows), ("bob", &rows)]
                .map(|(who, rows)| ((who.to_owned(), CHAT), rows.clone()))
                .into(),
            logs: [(CHAT, rows)].into(),
            ..History::default()
        }
    }

    fn rows(history: &mut History) -> &mut Vec<Row> {
        history.logs.get_mut(&CHAT).unwrap()
    }

    fn bobs(history: &mut History) -> &mut Vec<Shown> {
        history.views.get_mut(&("bob".to_owned(), CHAT)).unwrap()
    }

    #[test]
    fn a_good_history_is_accepted() {
        assert_eq!(good().check(), []);
    }

    #[test]
    fn a_refusal_is_found_where_none_should_be() {
        let mut history = good();
        assert_eq!(history.refused(), []);
        history.sends[2].outcome = Outcome::Refused;
        let found = history.refused();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].invariant().to_string(), "I8");
    }

    #[test]
    fn invariants_have_the_numbers_of_the_list_of_faults() {
        let lost = Violation::Lost {
            chat: CHAT,
            key: key(1),
            seq: 1,
        };
        assert_eq!(lost.invariant().to_string(), "I1");
        assert_eq!(
            Violation::Leaked(String::new()).invariant().to_string(),
            "I6"
        );
    }

    #[test]
    fn an_unknown_outcome_may_be_either_way() {
        let mut there = good();
        there.sends[2].outcome = Outcome::Unknown;
        assert_eq!(there.check(), []);
        let mut absent = good();
        absent.sends[2].outcome = Outcome::Unknown;
        rows(&mut absent).pop();
        absent.views.values_mut().for_each(|v| _ = v.pop());
        assert_eq!(absent.check(), []);
    }

    #[test]
    fn a_lost_message_is_found() {
        let mut history = good();
        rows(&mut history).pop();
        history.views.values_mut().for_each(|v| _ = v.pop());
        assert_eq!(
            history.check(),
            [Violation::Lost {
                chat: CHAT,
                key: key(3),
                seq: 3
            }]
        );
    }

    #[test]
    fn a_message_at_another_place_than_acknowledged_is_found() {
        let mut history = good();
        history.sends[1].outcome = Outcome::Acked(3);
        assert!(history.check().contains(&Violation::Lost {
            chat: CHAT,
            key: key(2),
            seq: 3
        }));
    }

    #[test]
    fn a_message_stored_twice_is_found() {
        let mut history = good();
        rows(&mut history).push(row(4, 3));
        history.views.values_mut().for_each(|v| v.push(row(4, 3)));
        assert!(history.check().contains(&Violation::Duplicated {
            chat: CHAT,
            key: key(3)
        }));
    }

    #[test]
    fn a_hole_in_the_log_is_found() {
        let mut history = good();
        rows(&mut history)[2].seq = 4;
        assert!(
            history
                .check()
                .contains(&Violation::Hole { chat: CHAT, seq: 3 })
        );
    }

    #[test]
    fn a_message_that_nobody_sent_is_found() {
        let mut history = good();
        rows(&mut history).push(row(4, 9));
        history.views.values_mut().for_each(|v| v.push(row(4, 9)));
        assert_eq!(
            history.check(),
            [Violation::Phantom {
                chat: CHAT,
                key: key(9)
            }]
        );
    }

    #[test]
    fn a_refused_message_that_appears_is_found() {
        let mut history = good();
        history.sends[2].outcome = Outcome::Refused;
        assert_eq!(
            history.check(),
            [Violation::Phantom {
                chat: CHAT,
                key: key(3)
            }]
        );
    }

    #[test]
    fn changed_words_are_found() {
        let mut history = good();
        history.sends[0].text = "something else".into();
        assert_eq!(
            history.check(),
            [Violation::Changed {
                chat: CHAT,
                key: key(1)
            }]
        );
    }

    #[test]
    fn a_device_whose_messages_changed_places_is_found() {
        let mut history = good();
        history.sends.swap(0, 1);
        assert_eq!(
            history.check(),
            [Violation::Reordered {
                chat: CHAT,
                device: "ann".into()
            }]
        );
    }

    #[test]
    fn a_repeat_has_the_place_of_the_first_and_no_other() {
        let mut history = good();
        history.sends.push(send(1, Outcome::Acked(1)));
        assert_eq!(history.check(), []);
        history.sends.push(send(1, Outcome::Acked(2)));
        assert!(history.check().contains(&Violation::Duplicated {
            chat: CHAT,
            key: key(1)
        }));
    }

    #[test]
    fn a_client_that_shows_twice_is_found() {
        let mut history = good();
        bobs(&mut history).push(row(3, 3));
        assert_eq!(
            history.check(),
            [Violation::ShownTwice {
                client: "bob".into(),
                chat: CHAT,
                seq: 3
            }]
        );
    }

    #[test]
    fn a_client_that_shows_out_of_order_is_found() {
        let mut history = good();
        bobs(&mut history).swap(0, 2);
        let found = history.check();
        assert!(found.contains(&Violation::Misordered {
            client: "bob".into(),
            chat: CHAT,
            seq: 1
        }));
    }

    #[test]
    fn a_client_that_missed_something_is_found() {
        for gone in 0..3 {
            let mut history = good();
            let seq = bobs(&mut history).remove(gone).seq;
            assert_eq!(
                history.check(),
                [Violation::Missed {
                    client: "bob".into(),
                    chat: CHAT,
                    seq
                }]
            );
        }
    }

    #[test]
    fn a_view_that_need_not_have_everything_is_in_order_all_the_same() {
        let mut history = good();
        history.partial.insert(("bob".into(), CHAT));
        bobs(&mut history).remove(0);
        assert_eq!(history.check(), []);
        bobs(&mut history).swap(0, 1);
        assert_eq!(history.check().len(), 1);
    }

    #[test]
    fn an_event_that_is_no_message_has_its_place_and_no_sender() {
        let mut history = good();
        let pinned = Shown {
            seq: 4,
            key: Key::default(),
            text: String::new(),
        };
        for seq in [4, 5] {
            let pinned = Shown {
                seq,
                ..pinned.clone()
            };
            rows(&mut history).push(pinned.clone());
            history
                .views
                .values_mut()
                .for_each(|v| v.push(pinned.clone()));
        }
        assert_eq!(history.check(), []);
        bobs(&mut history).pop();
        assert_eq!(history.check().len(), 1);
    }

    #[test]
    fn a_client_that_shows_what_is_not_there_is_found() {
        let mut history = good();
        bobs(&mut history).push(row(4, 9));
        assert_eq!(
            history.check(),
            [Violation::Imagined {
                client: "bob".into(),
                chat: CHAT,
                seq: 4
            }]
        );
    }
}
