//! Which events of a chat are held, and up to where their changes are in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use tertulia_proto::chats::Event;
use tertulia_proto::chats::event::Body;

use super::fold;
use crate::UserId;
use crate::ranges::Ranges;

/// How many old parts are kept; the lowest is given up for a further one.
const OLD_PARTS_MAX: usize = 16;
/// How many messages that are not held are remembered as hidden; the oldest are forgotten first.
const HIDDEN_MAX: usize = 1_000;

/// Seqs that are missing: those above `after`, up to and with `up_to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The last seq before the hole.
    pub after: i64,
    /// The last seq of the hole.
    pub up_to: i64,
}

/// An old part, to be brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// The first seq.
    pub from: i64,
    /// The last seq.
    pub to: i64,
    /// What to ask for: the messages of which the latest change is above this.
    pub after: i64,
}

/// What comes before what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Older {
    /// A part that is held, and must be brought up to date.
    Stale(Stale),
    /// Events before this seq that are not held.
    Before(i64),
}

/// A part below the live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    from: i64,
    to: i64,
    /// Every change up to here is in its messages.
    true_at: i64,
    /// Messages of which the latest change is up to here are as they are now.
    asked: i64,
}

/// It.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Log {
    rows: BTreeMap<i64, Event>,
    /// Lowest first; they do not overlap, and all of them end below `start`.
    old: Vec<Part>,
    /// Where the live part begins.
    pub start: i64,
    /// Where it ends; `start - 1` when it is empty.
    pub tip: i64,
    /// From here on every event up to the tip is held as it was sent, to be folded into what comes later.
    heard_from: i64,
    /// What is held above the tip.
    pub waiting: Ranges,
    pub head: i64,
    /// Messages that are not held and were deleted by the user for themselves.
    hidden: BTreeSet<i64>,
}

impl Log {
    pub fn after(tip: i64) -> Self {
        Log {
            rows: BTreeMap::new(),
            old: Vec::new(),
            start: tip + 1,
            tip,
            heard_from: tip + 1,
            waiting: Ranges::default(),
            head: tip,
            hidden: BTreeSet::new(),
        }
    }

    // ---- rows

    pub fn live(&self) -> RangeInclusive<i64> {
        self.start..=self.tip
    }

    /// The events in a range, which may be empty.
    pub fn rows(&self, range: RangeInclusive<i64>) -> impl DoubleEndedIterator<Item = &Event> {
        // A map refuses a reversed range.
        let range = if range.is_empty() { 0..=0 } else { range };
        self.rows.range(range).map(|(_, event)| event)
    }

    /// The events that are true at the tip.
    pub fn true_rows(&self) -> impl DoubleEndedIterator<Item = &Event> {
        let old = self.old.iter().filter(|part| part.true_at >= self.tip);
        let ranges = old.map(|part| part.from..=part.to).chain([self.live()]);
        ranges.flat_map(|range| self.rows(range))
    }

    pub fn is_true(&self, seq: i64) -> bool {
        let is_in = |part: &Part| (part.from..=part.to).contains(&seq);
        let mut old = self.old.iter().filter(|part| part.true_at >= self.tip);
        self.live().contains(&seq) || old.any(is_in)
    }

    pub fn row(&self, seq: i64) -> Option<&Event> {
        self.rows.get(&seq)
    }

    pub fn live_row_mut(&mut self, seq: i64) -> Option<&mut Event> {
        let is_live = self.live().contains(&seq);
        self.rows.get_mut(&seq).filter(|_| is_live)
    }

    pub fn insert(&mut self, event: Event) {
        self.rows.insert(event.seq, event);
    }

    pub fn remove(&mut self, seq: i64) -> Option<Event> {
        self.rows.remove(&seq)
    }

    /// Drops rows, but remembers which are hidden: an answer that was made before may be on its way.
    pub fn drop_rows(&mut self, from: i64, to: i64) {
        let hidden = &mut self.hidden;
        self.rows.retain(|seq, event| {
            let is_kept = !(from..=to).contains(seq);
            if !is_kept && fold::message(event).is_some_and(|message| message.hidden) {
                hidden.insert(*seq);
            }
            is_kept
        });
        self.limit_hidden();
    }

    fn limit_hidden(&mut self) {
        while self.hidden.len() > HIDDEN_MAX {
            self.hidden.pop_first();
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes out of the edits of these messages what `take` takes.
    pub fn strip_edits(&mut self, messages: &BTreeSet<i64>, take: fn(&mut Event)) {
        for event in self.rows.values_mut() {
            if let Some(Body::MessageEdited(edited)) = &event.body
                && messages.contains(&edited.message_seq)
            {
                take(event);
            }
        }
    }

    /// The user has deleted these messages for themselves. The own log may say so before the messages come.
    pub fn hide(&mut self, seqs: &[i64]) {
        for seq in seqs {
            match self.rows.get_mut(seq) {
                Some(row) => fold::hide(row),
                None => _ = self.hidden.insert(*seq),
            }
        }
        self.limit_hidden();
        self.strip_edits(&seqs.iter().copied().collect(), fold::blank);
    }

    /// What was hidden stays hidden, also when a row comes that does not know it.
    pub fn mark_hidden(&mut self, event: &mut Event) {
        let held = self.rows.get(&event.seq).and_then(fold::message);
        if self.hidden.remove(&event.seq) || held.is_some_and(|message| message.hidden) {
            fold::hide(event);
        }
    }

    // ---- parts

    pub fn know_head(&mut self, head: i64) {
        self.head = self.head.max(head);
    }

    /// Everything in `from..=to` is held, true at `at`.
    pub fn cover(&mut self, from: i64, to: i64, at: i64) {
        self.waiting.insert(from.max(self.tip + 1), to);
        self.cover_old(from, to.min(self.start - 1), at, at);
        self.know_head(to.max(at));
    }

    fn cover_old(&mut self, from: i64, to: i64, true_at: i64, asked: i64) {
        if from > to {
            return;
        }
        let mut parts = Vec::with_capacity(self.old.len() + 2);
        let mut next = from;
        for part in std::mem::take(&mut self.old) {
            if part.to < from || part.from > to {
                parts.push(part);
                continue;
            }
            let (first, last) = (part.from.max(from), part.to.min(to));
            let outside = [(part.from, first - 1), (last + 1, part.to)];
            let outside = outside.map(|(from, to)| Part { from, to, ..part });
            let gap = Part {
                from: next,
                to: first - 1,
                true_at,
                asked,
            };
            let both = Part {
                from: first,
                to: last,
                true_at: part.true_at.max(true_at),
                asked: part.asked.max(asked),
            };
            parts.extend(outside.into_iter().chain([gap, both]));
            next = last + 1;
        }
        parts.push(Part {
            from: next,
            to,
            true_at,
            asked,
        });
        parts.retain(|part| part.from <= part.to);
        parts.sort_unstable_by_key(|part| part.from);
        parts.dedup_by(|part, before| {
            let as_true = (before.true_at, before.asked) == (part.true_at, part.asked);
            let joins = before.to + 1 == part.from && as_true;
            if joins {
                before.to = part.to;
            }
            joins
        });
        self.old = parts;
        while self.old.len() > OLD_PARTS_MAX {
            let lowest = self.old.remove(0);
            self.drop_rows(lowest.from, lowest.to);
        }
    }

    /// The messages of an old part that were asked for are in it, up to those that changed last at `through`;
    /// unless there are `more`, that is all.
    pub fn brought_up(&mut self, stale: Stale, through: i64, more: bool) {
        let Stale { from, to, after } = stale;
        let held: Vec<Part> = self
            .old
            .iter()
            .filter(|part| part.asked >= after && part.from <= to && part.to >= from)
            .map(|part| Part {
                from: part.from.max(from),
                to: part.to.min(to),
                ..*part
            })
            .collect();
        for part in held {
            // A message that changed before `through` and again after it is not among them yet.
            let true_at = if more { part.true_at } else { through };
            self.cover_old(part.from, part.to, true_at, through);
        }
        self.know_head(through);
    }

    /// A new live part begins behind `tip`.
    pub fn jump(&mut self, tip: i64) {
        let (from, to) = (self.start, self.tip);
        // Of an old part it is not heard when the message of an edit is deleted.
        for (_, event) in self.rows.range_mut(..=to) {
            fold::blank(event);
        }
        (self.start, self.tip, self.heard_from) = (tip + 1, tip, tip + 1);
        self.cover_old(from, to, to, to);
        // What has waited up to there is history, too.
        self.waiting.cut_below(tip + 1);
        self.drop_rows(to + 1, tip);
        self.know_head(tip);
    }

    /// The end of what waits directly behind the tip.
    pub fn ahead(&self) -> Option<i64> {
        self.waiting.around(self.tip + 1).map(|(_, end)| end)
    }

    /// Brings up to date whatever can be from the live part, and joins what touches it. Gives the messages that
    /// are live from now on.
    pub fn settle(&mut self, me: UserId) -> Vec<i64> {
        self.waiting.cut_below(self.tip + 1);
        let mut joined = Vec::new();
        loop {
            for at in 0..self.old.len() {
                let part = self.old[at];
                if part.true_at >= self.heard_from - 1 && part.true_at < self.tip {
                    self.replay(part, me);
                    self.old[at].true_at = self.tip;
                    self.old[at].asked = part.asked.max(self.tip);
                }
            }
            let last = self.old.last().copied();
            let touches = |part: &Part| part.to + 1 == self.start && part.true_at >= self.tip;
            let Some(part) = last.filter(touches) else {
                return joined;
            };
            self.old.pop();
            self.start = part.from;
            joined.extend(self.rows(part.from..=part.to).map(|event| event.seq));
        }
    }

    /// A part that is live was read anew, true at `at`: what happened since is folded into it.
    pub fn refresh(&mut self, from: i64, to: i64, at: i64, me: UserId) {
        let part = Part {
            from,
            to,
            true_at: at,
            asked: at,
        };
        self.replay(part, me);
    }

    /// Folds what happened since into a part.
    fn replay(&mut self, part: Part, me: UserId) {
        let since: Vec<Event> = self
            .rows(part.true_at + 1..=self.tip)
            .filter(|event| !fold::targets(event).is_empty())
            .cloned()
            .collect();
        for event in since {
            for target in fold::targets(&event) {
                if (part.from..=part.to).contains(&target)
                    && let Some(row) = self.rows.get_mut(&target)
                {
                    fold::change(row, &event, me);
                }
            }
        }
    }

    // ---- what is missing

    pub fn hole(&self) -> Option<Hole> {
        let next = self.waiting.next_above(self.tip);
        let up_to = next.map_or(self.head, |next| next - 1);
        (self.tip < self.head).then_some(Hole {
            after: self.tip,
            up_to,
        })
    }

    pub fn stale(&self) -> Option<Stale> {
        let part = self.old.last()?;
        (part.to + 1 == self.start).then_some(Stale {
            from: part.from,
            to: part.to,
            after: part.asked,
        })
    }

    pub fn older(&self) -> Option<Older> {
        match self.stale() {
            Some(stale) => Some(Older::Stale(stale)),
            None => (self.start > 1).then_some(Older::Before(self.start)),
        }
    }

    /// Keeps the newest `keep` events. Gives the latest change of those that are given up.
    pub fn trim(&mut self, keep: usize) -> i64 {
        let excess = self.rows.len().saturating_sub(keep);
        let cut = match self.rows.keys().nth(excess) {
            // What waits behind a hole is never given up here.
            Some(cut) if excess > 0 => (*cut).min(self.tip + 1),
            _ => return 0,
        };
        let dropped = self
            .rows
            .range(..cut)
            .map(|(_, event)| fold::changed_seq(event));
        let latest = dropped.max().unwrap_or(0);
        self.drop_rows(i64::MIN, cut - 1);
        self.old.retain_mut(|part| {
            part.from = part.from.max(cut);
            part.from <= part.to
        });
        self.start = self.start.max(cut);
        self.heard_from = self.heard_from.max(cut);
        latest
    }
}
