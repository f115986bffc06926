//! A set of changes that become true together.

use std::collections::BTreeMap;

use tertulia_proto::chats::user_event::Body as OwnBody;
use tertulia_proto::chats::{Chat, ChatReceipts, Event, UserEvent};

use super::{Job, Mind, message};
use crate::ChatId;
use crate::change::Change;
use crate::options::Options;
use crate::outbox::State;
use crate::store::Record;
use crate::timeline::Timeline;

/// How many newest events are fetched behind a hole that is too large.
pub(super) const TAIL_EVENTS: i64 = 50;

/// It.
pub(crate) struct Changes<'a> {
    pub(super) options: &'a Options,
    pub(crate) mind: &'a mut Mind,
    pub(super) records: Vec<Record>,
    /// The tips of touched chats before the changes.
    pub(super) tips: BTreeMap<ChatId, i64>,
    pub(crate) told: Vec<Change>,
}

impl<'a> Changes<'a> {
    pub(super) fn new(options: &'a Options, mind: &'a mut Mind) -> Self {
        Changes {
            options,
            mind,
            records: Vec::new(),
            tips: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    /// With what follows from it.
    pub(super) fn finished(mut self) -> Self {
        let touched: Vec<ChatId> = self.tips.keys().copied().collect();
        touched.into_iter().for_each(|chat| self.sweep(chat));
        self.advance_cursor();
        self
    }

    /// Makes one change.
    pub(crate) fn put(&mut self, record: Record) {
        if let Some(chat) = record.chat() {
            let tip = self.timeline(chat).map_or(0, Timeline::tip);
            self.tips.entry(chat).or_insert(tip);
        }
        self.mind.known.apply(record.clone());
        self.records.push(record);
    }

    pub(crate) fn timeline(&self, chat: ChatId) -> Option<&Timeline> {
        self.mind.known.chats.get(&chat)
    }

    // ---- events

    /// Takes an event as it happens.
    pub(crate) fn event(&mut self, event: Event, prev: i64) {
        let (chat, seq) = (event.chat_id, event.seq);
        if seq < 1 {
            return;
        }
        match self.timeline(chat) {
            Some(timeline) if timeline.knows(seq) => return,
            Some(_) => {}
            None => self.begin_chat(chat, prev),
        }
        self.cover(chat, prev.clamp(0, seq - 1) + 1, seq, seq, vec![event]);
        self.limit_hole(chat);
    }

    /// Takes everything that is in a part of a chat's log, with every change up to `at`.
    pub(crate) fn cover(&mut self, chat: ChatId, from: i64, to: i64, at: i64, events: Vec<Event>) {
        self.settle(chat, &events);
        self.put(Record::Events {
            chat,
            from,
            to,
            at,
            events,
        });
    }

    /// Messages of ours that are in the log leave the outbox in the same change as their events come.
    fn settle(&mut self, chat: ChatId, events: &[Event]) {
        let known = &self.mind.known;
        let ours: Vec<_> = events
            .iter()
            .filter_map(|event| Some((known.outbox.matching(event, &known.device)?, event.seq)))
            .map(|(entry, seq)| (entry.clone(), seq))
            .collect();
        for (entry, seq) in ours {
            self.mind.uncertain.remove(&entry.client_message_id);
            if !matches!(entry.state, State::Sent(_)) {
                self.told.push(message(&entry, State::Sent(seq)));
            }
            self.put(Record::MessageGone {
                chat,
                client_message_id: entry.client_message_id,
            });
        }
    }

    /// Messages that were sent leave the outbox when their events are held, or will not come.
    fn sweep(&mut self, chat: ChatId) {
        let Some(timeline) = self.timeline(chat) else {
            return;
        };
        let has_left = timeline.left().is_some();
        let outbox = &self.mind.known.outbox;
        let done = outbox.of(chat).filter(|entry| match entry.state {
            State::Sent(seq) => has_left || timeline.knows(seq),
            _ => false,
        });
        let done: Vec<String> = done.map(|e| e.client_message_id.clone()).collect();
        for client_message_id in done {
            self.put(Record::MessageGone {
                chat,
                client_message_id,
            });
        }
    }

    /// A chat that nothing was known of: read from its start when that is near, else from `tip`.
    fn begin_chat(&mut self, chat: ChatId, tip: i64) {
        let tip = if tip <= self.options.hole_events_max {
            0
        } else {
            tip
        };
        self.put(Record::Begun { chat, tip });
    }

    /// A chat goes at least to `seq`.
    pub(crate) fn know_head(&mut self, chat: ChatId, seq: i64) {
        if self.timeline(chat).is_none() {
            // Its last event is wanted in any case: a chat that shows nothing looks empty.
            self.begin_chat(chat, (seq - 1).max(0));
        }
        if self.timeline(chat).is_some_and(|t| seq > t.head()) {
            self.put(Record::Head { chat, head: seq });
        }
        self.limit_hole(chat);
    }

    /// Gives up a hole that is too large to be filled event by event.
    pub(crate) fn limit_hole(&mut self, chat: ChatId) {
        let Some(timeline) = self.timeline(chat) else {
            return;
        };
        let (tip, head) = (timeline.tip(), timeline.head());
        if head - tip > self.options.hole_events_max.max(TAIL_EVENTS) {
            let tip = head - TAIL_EVENTS;
            self.put(Record::Jump { chat, tip });
        }
    }

    // ---- chats

    /// A chat as the server gave it. When nothing is known of it, only the newest `fresh` events are wanted.
    pub(crate) fn met(&mut self, chat: Chat, fresh: i64, joined: bool) {
        if self.timeline(chat.chat_id).is_none() {
            let (chat, tip) = (chat.chat_id, (chat.head - fresh).max(0));
            self.put(Record::Begun { chat, tip });
        }
        self.moved(chat, joined);
    }

    /// The chat of a call that brought the user into it, made when the own log was held up to `asked_at`. What
    /// came of the own log meanwhile may be newer than the answer.
    pub(crate) fn entered(&mut self, chat: Chat, asked_at: i64) {
        let left_with = self.mind.left_with.get(&chat.chat_id);
        let is_in = left_with.is_none_or(|seq| *seq <= asked_at);
        self.met(chat, self.options.hole_events_max, is_in);
    }

    /// A chat as the server gave it, with where its log ends.
    pub(crate) fn moved(&mut self, chat: Chat, joined: bool) {
        let (id, head) = (chat.chat_id, chat.head);
        if joined {
            self.mind.jobs.revive(id);
            // A page of the list that is on its way may be older.
            self.mind.relist.iter_mut().for_each(|list| list.saw(id));
        }
        let last = chat.last_message.as_option().cloned();
        self.know_head(id, head);
        let chat = Box::new(chat);
        self.put(Record::Chat { chat, joined });
        if let Some(last) = last {
            let held = self.timeline(id).and_then(|t| t.event(last.seq));
            if held.is_none() {
                self.cover(id, last.seq, last.seq, head, vec![last]);
            }
        }
    }

    /// Merges receipts of a chat that is known.
    pub(crate) fn receipts(&mut self, of_chat: ChatReceipts) {
        let chat = of_chat.chat_id;
        let Some(timeline) = self.mind.known.chats.get(&chat) else {
            return;
        };
        let receipts = of_chat.receipts;
        if timeline.would_move(&receipts) {
            self.put(Record::Receipts { chat, receipts });
            self.told.push(Change::Receipts(chat));
        }
    }

    // ---- the user's own log

    /// Takes the next event of the own log; one behind a hole comes again when that is filled.
    pub(crate) fn own_event(&mut self, event: UserEvent, prev: i64) {
        let tip = self.mind.known.own_tip;
        self.know_own_head(event.seq);
        if prev > tip || event.seq <= tip {
            return;
        }
        match &event.body {
            Some(OwnBody::ChatJoined(joined)) => {
                if let Some(chat) = joined.chat.as_option() {
                    let chat = chat.clone();
                    if self.timeline(chat.chat_id).is_none() {
                        self.begin_chat(chat.chat_id, chat.head);
                    }
                    self.moved(chat, true);
                }
            }
            Some(OwnBody::ChatLeft(left)) => {
                self.mind.left_with.insert(left.chat_id, event.seq);
            }
            Some(OwnBody::ScheduleChanged(_)) => {
                // A list that is on its way may be older.
                if self.mind.jobs.is_under_way(Job::Scheduled) {
                    self.mind.scheduled.0 += 1;
                }
                self.told.push(Change::Scheduled);
            }
            _ => {}
        }
        self.put(Record::OwnEvent(Box::new(event)));
    }

    pub(crate) fn know_own_head(&mut self, head: i64) {
        self.mind.own_head = self.mind.own_head.max(head);
    }

    /// What was known is gone, and so is what was about it.
    pub(crate) fn begin_anew(&mut self) {
        self.tips.clear();
        self.mind.forget();
        self.told.push(Change::Reset);
    }
}
