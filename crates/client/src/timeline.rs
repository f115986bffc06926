//! One chat as this client knows it: a pure state machine, without a clock and without a network.
//! docs/protocol/sync.md is its specification.
//!
//! ```text
//!   1 ... 9   10 ...... 20   21 ... 39   40 41 ... 46   47 48   49         50
//!   not held  [ old part ]   not held    [ live part ]tip  ✗    [ waits ]   head
//!             true_at = 25               true at the tip
//! ```
//! What is shown ends at the *tip* and has no hole. Events behind a hole wait until it is filled, so that
//! nobody reads an answer before its question; as the tip passes an event, the event is folded into what is
//! held. The *head* is how far the log is known to go; while the tip is below it, [`Timeline::hole`] says what
//! to ask for. An old part is shown again once it is [brought up to date](Timeline::stale) and nothing is
//! missing between it and the live part.

mod details;
mod fold;
mod log;
mod reading;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use tertulia_proto::chats::event::Body;
use tertulia_proto::chats::user_event::Body as OwnBody;
use tertulia_proto::chats::{Chat, ChatLeft, ChatSettings, Draft, Event, ReadState, Receipt, Role};

use crate::{ChatId, UserId};

pub use fold::{changed_seq, kind, messages};
pub use log::{Hole, Older, Stale};
pub use reading::Reading;

use details::Details;
use log::Log;

/// Up to so many members, receipts of single members are kept; the server tells no others either.
const RECEIPTS_MEMBERS_MAX: i32 = 50;

/// A chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Whose client this is.
    me: UserId,
    log: Log,
    details: Details,
    reading: Reading,
    receipts: BTreeMap<UserId, Receipt>,
    /// None until somebody said.
    settings: Option<ChatSettings>,
    /// None until somebody said; empty when there is none.
    draft: Option<Draft>,
    left: Option<ChatLeft>,
    /// What the server was told to have reached this device.
    told: i64,
    /// The newest message of somebody else that was taken in.
    heard: i64,
}

impl Timeline {
    /// A chat of which the log up to `tip` is history that can be read backwards, and everything after it is
    /// missing.
    pub fn after(chat: ChatId, me: UserId, tip: i64) -> Self {
        Timeline {
            me,
            log: Log::after(tip),
            details: Details::unknown(chat),
            reading: Reading::after(tip),
            receipts: BTreeMap::new(),
            settings: None,
            draft: None,
            left: None,
            told: 0,
            heard: 0,
        }
    }

    // ---- what is known

    /// The chat as it is at its own `head`, without its last message and without what it is to the user.
    pub fn chat(&self) -> &Chat {
        &self.details.chat
    }

    /// The user's role.
    pub fn role(&self) -> Role {
        self.details.role
    }

    /// The seq of the last shown event.
    pub fn tip(&self) -> i64 {
        self.log.tip
    }

    /// How far the log is known to go.
    pub fn head(&self) -> i64 {
        self.log.head
    }

    /// How far the user has read, and what is left.
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// The user's choices.
    pub fn settings(&self) -> ChatSettings {
        self.settings.clone().unwrap_or_default()
    }

    /// What the user began to write.
    pub fn draft(&self) -> Option<&Draft> {
        let there = |draft: &&Draft| !draft.text.is_empty() || draft.reply_to_seq > 0;
        self.draft.as_ref().filter(there)
    }

    /// How far the chat has reached each member, as far as it is known.
    pub fn receipts(&self) -> impl Iterator<Item = &Receipt> {
        self.receipts.values()
    }

    /// How and by whom, when the user is in the chat no longer.
    pub fn left(&self) -> Option<&ChatLeft> {
        self.left.as_ref()
    }

    /// The seqs that are shown; empty when nothing is.
    pub fn window(&self) -> RangeInclusive<i64> {
        self.log.live()
    }

    /// What is shown: ordered, without holes, each event once.
    pub fn shown(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.log.rows(self.log.live())
    }

    /// Shown events above `seq`.
    pub fn shown_after(&self, seq: i64) -> impl Iterator<Item = &Event> {
        self.log.rows(self.log.start.max(seq + 1)..=self.log.tip)
    }

    /// Held events that wait behind a hole.
    pub fn held_back(&self) -> impl Iterator<Item = &Event> {
        self.log.rows(self.log.tip + 1..=i64::MAX)
    }

    /// An event that is true now.
    pub fn event(&self, seq: i64) -> Option<&Event> {
        self.log.is_true(seq).then(|| self.log.row(seq)).flatten()
    }

    /// The newest message that is true now, shown or not.
    pub fn last_message(&self) -> Option<&Event> {
        let is_message = |event: &&Event| fold::message(event).is_some();
        self.log.true_rows().rev().find(is_message)
    }

    /// Whether an event with this seq would change nothing.
    pub fn knows(&self, seq: i64) -> bool {
        seq <= self.log.tip || self.log.waiting.contains(seq)
    }

    /// How many events are held.
    pub fn len(&self) -> usize {
        self.log.len()
    }

    /// Whether no event is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // ---- what is missing

    /// The first missing seqs, when something is missing.
    pub fn hole(&self) -> Option<Hole> {
        self.log.hole()
    }

    /// The old part that touches the live one and must be brought up to date before it is shown.
    pub fn stale(&self) -> Option<Stale> {
        self.log.stale()
    }

    /// What to ask for to show older events; none when the beginning is shown.
    pub fn older(&self) -> Option<Older> {
        self.log.older()
    }

    /// The chat itself must be asked for: its details are not known or out of date, or what is unread can not
    /// be told from what is held. While there is a hole, what fills it may tell.
    pub fn wants_chat(&self) -> bool {
        let is_clear = self.details.are_true_at(self.log.tip) && self.reading.is_certain;
        !self.details.known || (!is_clear && self.hole().is_none())
    }

    /// What the server should be told to have reached this device: the tip, when a message of somebody else
    /// came in since it was last told.
    pub fn undelivered(&self) -> Option<i64> {
        (self.left.is_none() && self.heard > self.told).then_some(self.log.tip)
    }

    // ---- what happens to it

    /// Takes a live event. `prev` is the seq that this client should have before it. What is known is dropped.
    pub fn hear(&mut self, event: Event, prev: i64) {
        let seq = event.seq;
        if seq > 0 && !self.knows(seq) {
            self.take(prev.clamp(0, seq - 1) + 1, seq, seq, vec![event]);
        }
    }

    /// Takes a part of the log: everything in `from..=to` is either in `events` or not there for this client,
    /// and the messages hold every change up to `at`.
    pub fn take(&mut self, from: i64, to: i64, at: i64, events: Vec<Event>) {
        let from = from.max(1);
        for event in events {
            if (from..=to).contains(&event.seq) {
                self.put(event);
            }
        }
        self.log.cover(from, to, at);
        self.advance();
    }

    /// Takes the changed messages of an old part, up to those that changed last at `through`; when there are
    /// `more`, it is not up to date yet.
    pub fn changed(&mut self, stale: Stale, through: i64, more: bool, events: Vec<Event>) {
        for event in events {
            let held = self.log.row(event.seq).is_some();
            if held && (stale.from..=stale.to).contains(&event.seq) {
                self.put(event);
            }
        }
        self.log.brought_up(stale, through, more);
        self.advance();
    }

    /// Puts a part that was read anew in the place of what was held, whatever that was.
    pub fn heal(&mut self, from: i64, to: i64, at: i64, events: Vec<Event>) {
        self.log.drop_rows(from, to);
        self.reading.is_certain = false;
        self.take(from, to, at, events);
        self.log.refresh(from, to, at, self.me);
    }

    /// The log goes at least to `head`.
    pub fn know_head(&mut self, head: i64) {
        self.log.know_head(head);
    }

    /// Gives up what is missing up to `tip`: a new live part begins behind it, and what was live is an old
    /// part.
    pub fn jump(&mut self, tip: i64) {
        if tip <= self.log.tip {
            return;
        }
        self.log.jump(tip);
        self.reading.jump(tip);
        self.advance();
    }

    /// Takes the chat as the server gave it, true at its `head`.
    pub fn meet(&mut self, mut chat: Chat) {
        let membership = chat.membership.take().unwrap_or_default();
        chat.last_message.take();
        self.log.know_head(chat.head);
        let role = self.details.role;
        if self.details.meet(chat, &membership) {
            self.catch_up();
        }
        if self.details.role != role {
            self.reading.role_changed();
        }
        // What the own log said last holds; it says everything that comes after the first meeting.
        self.settings
            .get_or_insert_with(|| membership.settings.into_option().unwrap_or_default());
        self.draft
            .get_or_insert_with(|| membership.draft.into_option().unwrap_or_default());
        if let Some(read) = membership.read.into_option() {
            self.read(&read);
        }
    }

    /// The user is in the chat again.
    pub fn thaw(&mut self) {
        self.left = None;
    }

    /// Takes what the server says of how far the user has read.
    pub fn read(&mut self, read: &ReadState) {
        self.reading
            .replace(read, &self.log, &self.details, self.me);
    }

    /// Takes an event of the user's own log that names this chat.
    pub fn own(&mut self, body: &OwnBody) {
        match body {
            OwnBody::ChatLeft(left) => {
                self.left = Some((**left).clone());
                self.receipts.clear();
            }
            OwnBody::ReadMoved(moved) => {
                if let Some(settings) = &mut self.settings {
                    settings.marked_unread = false;
                }
                self.read(&moved.read);
            }
            OwnBody::SettingsChanged(changed) => {
                self.settings = Some((*changed.settings).clone());
            }
            OwnBody::DraftChanged(changed) => {
                self.draft = Some((*changed.draft).clone());
            }
            OwnBody::MessagesHidden(hidden) => self.log.hide(&hidden.message_seqs),
            OwnBody::ChatJoined(_) | OwnBody::ScheduleChanged(_) => {}
        }
    }

    /// Merges receipts by the maximum.
    pub fn receive(&mut self, receipts: &[Receipt]) {
        for receipt in receipts {
            self.merge(receipt.user_id, receipt.delivered_seq, receipt.seen_seq);
        }
    }

    /// Whether these receipts say more than is known.
    pub fn would_move(&self, receipts: &[Receipt]) -> bool {
        let is_more = |receipt: &Receipt| {
            let held = self.receipts.get(&receipt.user_id);
            held.is_none_or(|held| {
                receipt.delivered_seq > held.delivered_seq || receipt.seen_seq > held.seen_seq
            })
        };
        self.details.chat.member_count <= RECEIPTS_MEMBERS_MAX && receipts.iter().any(is_more)
    }

    /// The server knows that everything up to `seq` has reached this device.
    pub fn told(&mut self, seq: i64) {
        self.told = self.told.max(seq);
    }

    /// Keeps the newest `keep` events.
    pub fn trim(&mut self, keep: usize) {
        let latest = self.log.trim(keep);
        // A row that was counted as it is later would be counted again.
        self.reading.is_certain &= latest <= self.reading.as_of;
    }

    // ---- how

    /// Puts a row beside the others, or in the place of one that holds fewer changes.
    fn put(&mut self, mut event: Event) {
        let seq = event.seq;
        self.log.mark_hidden(&mut event);
        let is_live = self.log.live().contains(&seq);
        if let Some(held) = self.log.row(seq) {
            if !fold::holds_more(&event, held) {
                if fold::message(&event).is_some_and(|message| message.hidden) {
                    self.log.hide(&[seq]);
                }
                return;
            }
            if is_live {
                let weigh = |event| reading::weight(event, self.me, self.details.role);
                let (before, after) = (weigh(held), weigh(&event));
                self.reading.replaced(&event, self.log.tip, before, after);
            }
        }
        if fold::is_deleted(&event) {
            self.log.strip_edits(&BTreeSet::from([seq]), fold::erase);
        }
        self.log.insert(event);
    }

    /// Takes in what waits directly behind the tip, and then whatever old parts have come up to date.
    fn advance(&mut self) {
        while let Some(end) = self.log.ahead() {
            let seqs: Vec<i64> = self
                .log
                .rows(self.log.tip + 1..=end)
                .map(|event| event.seq)
                .collect();
            for seq in seqs {
                if let Some(event) = self.log.remove(seq) {
                    self.take_in(event);
                }
            }
            self.details.carry(self.log.tip, end);
            self.log.tip = end;
            self.reading.as_of = self.reading.as_of.max(end);
        }
        for seq in self.log.settle(self.me) {
            if let Some(event) = self.log.row(seq) {
                self.reading.came_late(event);
            }
        }
    }

    /// Folds the event behind the tip into what is held.
    fn take_in(&mut self, mut event: Event) {
        let seq = event.seq;
        let counts = seq > self.reading.as_of;
        let role = self.details.role;
        for target in fold::targets(&event) {
            let Some(row) = self.log.live_row_mut(target) else {
                if counts {
                    self.reading.changed_unheld(target, &event, self.me, role);
                }
                continue;
            };
            let before = reading::weight(row, self.me, role);
            fold::change(row, &event, self.me);
            let after = reading::weight(row, self.me, role);
            match counts {
                true => self.reading.changed(target, before, after),
                false => self.reading.doubt(row),
            }
            if fold::message(row).is_some_and(|message| message.hidden) {
                fold::blank(&mut event);
            }
        }
        if let Some(Body::MessagesDeleted(deleted)) = &event.body {
            let deleted: BTreeSet<i64> = deleted.message_seqs.iter().copied().collect();
            self.log.strip_edits(&deleted, fold::erase);
        }
        if self.details.fold(&event, self.log.tip, self.me) {
            self.reading.role_changed();
        }
        self.note(&event);
        match counts {
            true => self.reading.take_in(&event, self.me, role),
            false => self.reading.came_late(&event),
        }
        self.log.tip = seq;
        self.log.insert(event);
    }

    /// Folds what has happened since the details were given into them, when it is held.
    fn catch_up(&mut self) {
        let since = self.details.chat.head + 1;
        if since < self.log.start {
            return;
        }
        let mut tip = since - 1;
        for event in self.log.rows(since..=self.log.tip) {
            _ = self.details.fold(event, tip, self.me);
            tip = event.seq;
        }
        self.details.carry(tip, self.log.tip);
    }

    /// What an event says of its actor's receipt.
    fn note(&mut self, event: &Event) {
        match &event.body {
            Some(Body::Message(_)) => {
                if event.actor_id != self.me {
                    self.heard = event.seq;
                }
                self.merge(event.actor_id, event.seq, event.seq);
            }
            Some(Body::MemberLeft(_)) => _ = self.receipts.remove(&event.actor_id),
            Some(Body::MemberRemoved(removed)) => _ = self.receipts.remove(&removed.user_id),
            Some(Body::MemberBanned(banned)) => _ = self.receipts.remove(&banned.user_id),
            _ => {}
        }
    }

    fn merge(&mut self, user: UserId, delivered: i64, seen: i64) {
        if self.details.chat.member_count > RECEIPTS_MEMBERS_MAX {
            self.receipts.clear();
            return;
        }
        let receipt = self.receipts.entry(user).or_insert_with(|| Receipt {
            user_id: user,
            ..Default::default()
        });
        receipt.delivered_seq = receipt.delivered_seq.max(delivered);
        receipt.seen_seq = receipt.seen_seq.max(seen);
    }
}
