//! One chat's log as this client knows it: a pure state machine, without a clock and without a network.
//!
//! ```text
//!   1 ........ 40  41 42 43 44 45 46   47  48 49       50
//!   not held       [   shown      ]tip  ✗  [held back]  head
//! ```
//! What is shown ends at the *tip* and has no hole. Events behind a hole are held back until it is filled,
//! so that nobody reads an answer before its question. The *head* is how far the log is known to go; while
//! the tip is below it, [`Timeline::hole`] says what to ask for.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use tertulia_proto::chats::Event;

use crate::ranges::Ranges;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is shown now, perhaps with others that waited for it.
    Applied,
    /// It was known; nothing changed.
    Duplicate,
    /// It is kept, but something before it is missing.
    Hole(Hole),
}

/// Seqs that are missing: those above `after`, up to and with `up_to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The last seq before the hole.
    pub after: i64,
    /// The last seq of the hole.
    pub up_to: i64,
}

impl Hole {
    /// How many seqs are missing.
    pub fn len(&self) -> i64 {
        self.up_to - self.after
    }

    /// Never: a hole misses something.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// The known part of a chat's log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timeline {
    events: BTreeMap<i64, Event>,
    /// Which seqs are settled: their event is in `events`, or the server said that there is none for us.
    held: Ranges,
    tip: i64,
    head: i64,
}

impl Timeline {
    /// Knows the log up to `tip` as history that can be read backwards, and misses everything after it.
    pub fn after(tip: i64) -> Self {
        Timeline {
            tip,
            head: tip,
            ..Default::default()
        }
    }

    /// The seq of the last shown event.
    pub fn tip(&self) -> i64 {
        self.tip
    }

    /// How far the log is known to go.
    pub fn head(&self) -> i64 {
        self.head
    }

    /// Takes a live event. `prev` is the seq that this client should have before it.
    pub fn apply(&mut self, event: Event, prev: i64) -> Applied {
        let seq = event.seq;
        if self.knows(seq) {
            return Applied::Duplicate;
        }
        self.cover(prev.clamp(0, seq - 1) + 1, seq, vec![event]);
        match self.hole() {
            Some(hole) if self.tip < seq => Applied::Hole(hole),
            _ => Applied::Applied,
        }
    }

    /// Takes the answer to "the events after `after`", when the log ended at `head`. An empty answer says
    /// that there is nothing up to the head.
    pub fn page_after(&mut self, after: i64, events: Vec<Event>, head: i64) {
        let to = events.last().map_or(head, |e| e.seq);
        self.cover(after + 1, to, events);
        self.know_head(head);
    }

    /// Takes the answer to "the events before `before`"; 0 is the end of the log. An empty answer says that
    /// there is nothing before. It does not move the tip of a client that is live.
    pub fn page_before(&mut self, before: i64, events: Vec<Event>, head: i64) {
        let to = if before == 0 {
            events.last().map_or(0, |e| e.seq)
        } else {
            before - 1
        };
        let from = events.first().map_or(1, |e| e.seq);
        self.cover(from, to, events);
        self.know_head(head);
    }

    /// Everything in `from..=to` is either in `events` or not there for this client.
    pub fn cover(&mut self, from: i64, to: i64, events: Vec<Event>) {
        for event in events {
            if (from..=to).contains(&event.seq) {
                self.events.entry(event.seq).or_insert(event);
            }
        }
        self.held.insert(from.max(1), to);
        self.know_head(to);
        self.advance();
    }

    /// The log goes at least to `head`.
    pub fn know_head(&mut self, head: i64) {
        self.head = self.head.max(head);
    }

    /// Gives up what is missing up to `tip`: it becomes history, read backwards when somebody scrolls.
    pub fn jump(&mut self, tip: i64) {
        self.tip = self.tip.max(tip);
        self.know_head(tip);
        self.advance();
    }

    fn advance(&mut self) {
        if let Some((_, end)) = self.held.around(self.tip + 1) {
            self.tip = end;
        }
    }

    /// The first missing seqs, when something is missing.
    pub fn hole(&self) -> Option<Hole> {
        let up_to = self
            .held
            .next_above(self.tip)
            .map_or(self.head, |next| next - 1);
        (self.tip < self.head).then_some(Hole {
            after: self.tip,
            up_to,
        })
    }

    /// The seqs that are shown; empty when nothing is.
    pub fn window(&self) -> RangeInclusive<i64> {
        match self.held.around(self.tip) {
            Some((from, _)) => from..=self.tip,
            None => self.tip + 1..=self.tip,
        }
    }

    /// What is shown: ordered, without holes, each event once.
    pub fn shown(&self) -> impl DoubleEndedIterator<Item = &Event> {
        // An empty window would be a reversed range, which a map refuses.
        let window = self.window();
        let window = if window.is_empty() { 0..=0 } else { window };
        self.events.range(window).map(|(_, event)| event)
    }

    /// Whether an event with this seq would change nothing.
    pub fn knows(&self, seq: i64) -> bool {
        seq <= self.tip || self.held.contains(seq)
    }

    /// Shown events above `seq`.
    pub fn shown_after(&self, seq: i64) -> impl Iterator<Item = &Event> {
        let from = seq.clamp(self.window().start() - 1, self.tip);
        self.events
            .range(from + 1..)
            .take_while(|(at, _)| **at <= self.tip)
            .map(|(_, event)| event)
    }

    /// Held events that wait behind a hole.
    pub fn held_back(&self) -> impl Iterator<Item = &Event> {
        self.events.range(self.tip + 1..).map(|(_, event)| event)
    }

    /// Before which seq to ask for older events; none when the beginning is shown.
    pub fn older_before(&self) -> Option<i64> {
        let first = *self.window().start();
        (first > 1).then_some(first)
    }

    /// Keeps the newest `keep` events.
    pub fn trim(&mut self, keep: usize) {
        let Some(excess) = self.events.len().checked_sub(keep).filter(|n| *n > 0) else {
            return;
        };
        let Some(&cut) = self.events.keys().nth(excess) else {
            return;
        };
        // What waits behind a hole is never given up here.
        let cut = cut.min(self.tip + 1);
        self.events = self.events.split_off(&cut);
        self.held.cut_below(cut);
    }

    /// How many events are held.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether no event is held.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Everything that is held, as ranges with their events, to be stored.
    pub fn parts(&self) -> impl Iterator<Item = (i64, i64, Vec<Event>)> + '_ {
        self.held.iter().map(|(from, to)| {
            (
                from,
                to,
                self.events
                    .range(from..=to)
                    .map(|(_, e)| e.clone())
                    .collect(),
            )
        })
    }

    /// Takes back the position that was stored, after the parts.
    pub fn place(&mut self, tip: i64, head: i64) {
        self.tip = tip;
        self.head = head;
        self.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(seq: i64) -> Event {
        Event {
            chat_id: 1,
            seq,
            ..Default::default()
        }
    }

    fn shown(timeline: &Timeline) -> Vec<i64> {
        timeline.shown().map(|e| e.seq).collect()
    }

    #[test]
    fn what_is_behind_a_hole_waits_until_it_is_filled() {
        let mut timeline = Timeline::after(0);
        assert_eq!(timeline.apply(event(1), 0), Applied::Applied);
        assert_eq!(
            timeline.apply(event(4), 3),
            Applied::Hole(Hole { after: 1, up_to: 3 })
        );
        assert_eq!(shown(&timeline), [1]);
        timeline.page_after(1, vec![event(2), event(3)], 4);
        assert_eq!(shown(&timeline), [1, 2, 3, 4]);
        assert_eq!(timeline.apply(event(3), 2), Applied::Duplicate);
        assert_eq!(timeline.hole(), None);
    }

    #[test]
    fn a_known_head_shows_that_the_tail_was_lost() {
        let mut timeline = Timeline::after(0);
        timeline.apply(event(1), 0);
        timeline.know_head(3);
        assert_eq!(timeline.hole(), Some(Hole { after: 1, up_to: 3 }));
    }

    #[test]
    fn seqs_that_are_not_for_this_client_are_no_hole() {
        let mut timeline = Timeline::after(0);
        timeline.apply(event(1), 0);
        assert_eq!(timeline.apply(event(5), 1), Applied::Applied);
        assert_eq!(shown(&timeline), [1, 5]);
    }

    #[test]
    fn history_joins_what_is_shown() {
        let mut timeline = Timeline::after(9);
        assert_eq!(shown(&timeline), [0i64; 0]);
        timeline.apply(event(10), 9);
        assert_eq!(timeline.older_before(), Some(10));
        timeline.page_before(10, (6..10).map(event).collect(), 10);
        assert_eq!(shown(&timeline), [6, 7, 8, 9, 10]);
        timeline.page_before(6, (1..6).map(event).collect(), 10);
        assert_eq!(timeline.older_before(), None);
    }

    #[test]
    fn trimming_keeps_the_newest() {
        let mut timeline = Timeline::after(0);
        timeline.page_after(0, (1..=10).map(event).collect(), 10);
        timeline.trim(3);
        assert_eq!(shown(&timeline), [8, 9, 10]);
        assert_eq!(timeline.older_before(), Some(8));
    }

    /// What can happen to a client on its way.
    #[derive(Debug, Clone)]
    enum Step {
        /// A live event arrives, in whatever order, whenever, however often.
        Live(i64),
        /// A heartbeat tells the head.
        Head,
        /// The hole is asked for, with a page this small.
        Repair(usize),
        /// Somebody scrolls.
        Older(usize),
        /// The client ends and begins with what it stored.
        Restart(usize),
        /// Too much was missed.
        Jump,
        /// The log grows.
        Grow(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1i64..60).prop_map(Step::Live),
            2 => Just(Step::Head),
            3 => (1usize..7).prop_map(Step::Repair),
            2 => (1usize..9).prop_map(Step::Older),
            1 => (1usize..12).prop_map(Step::Restart),
            1 => Just(Step::Jump),
            4 => (1i64..5).prop_map(Step::Grow),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn whatever_happens_on_the_way_the_view_becomes_the_log(
            start in 0i64..10,
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let mut log_end = start;
            let mut timeline = Timeline::after(start);
            // What a person saw appear, in order.
            let (mut seen, mut jumped) = (Vec::new(), false);
            for step in steps {
                let tip = timeline.tip();
                match step {
                    Step::Grow(n) => log_end += n,
                    Step::Live(seq) if seq <= log_end => { timeline.apply(event(seq), seq - 1); }
                    Step::Live(_) => {}
                    Step::Head => timeline.know_head(log_end),
                    Step::Repair(limit) => if let Some(hole) = timeline.hole() {
                        let page = (hole.after + 1..=log_end).take(limit).map(event).collect();
                        timeline.page_after(hole.after, page, log_end);
                    },
                    Step::Older(limit) => if let Some(before) = timeline.older_before() {
                        let from = (before - limit as i64).max(1);
                        timeline.page_before(before, (from..before).map(event).collect(), log_end);
                    },
                    Step::Restart(keep) => {
                        let mut stored = Timeline::default();
                        for (from, to, events) in timeline.parts() {
                            stored.cover(from, to, events);
                        }
                        stored.place(timeline.tip(), timeline.head());
                        prop_assert_eq!(&stored, &timeline);
                        stored.trim(keep);
                        timeline = stored;
                    }
                    Step::Jump => {
                        let before = timeline.tip();
                        timeline.jump(timeline.head());
                        jumped |= timeline.tip() > before;
                    }
                }
                seen.extend(timeline.shown_after(tip).map(|e| e.seq));
                let view = shown(&timeline);
                prop_assert!(view.windows(2).all(|w| w[0] + 1 == w[1]), "the view has no hole: {:?}", view);
                prop_assert!(view.last().is_none_or(|last| *last == timeline.tip()));
            }
            timeline.know_head(log_end);
            let tip = timeline.tip();
            while let Some(hole) = timeline.hole() {
                timeline.page_after(hole.after, (hole.after + 1..=log_end).take(4).map(event).collect(), log_end);
            }
            seen.extend(timeline.shown_after(tip).map(|e| e.seq));
            while let Some(before) = timeline.older_before() {
                let from = (before - 5).max(1);
                timeline.page_before(before, (from..before).map(event).collect(), log_end);
            }
            prop_assert_eq!(shown(&timeline), (1..=log_end).collect::<Vec<_>>());
            prop_assert!(seen.windows(2).all(|w| w[0] < w[1]), "nothing appears twice or late: {:?}", seen);
            if !jumped {
                prop_assert_eq!(seen, (start + 1..=log_end).collect::<Vec<_>>());
            }
        }
    }
}
