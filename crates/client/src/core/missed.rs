//! What comes over the live session: what was missed, heartbeats, events; and the cursor, which is stored
//! once everything that it covers is held.

use std::collections::{BTreeMap, HashMap, HashSet};

use tertulia_proto::chats::{ChatReceipts, Event, UserEvent};
use tertulia_proto::live::missed::Answer;
use tertulia_proto::live::{Heartbeat, Missed, Notice, Reset, ResetReason, Typing, Warmed};

use super::repair::{Job, Relist};
use super::{Changes, Core, Mind, empty};
use crate::ChatId;
use crate::change::Change;
use crate::error::Result;
use crate::store::Record;
use crate::timeline::Timeline;

/// A cursor that may be stored once everything below these heads is held.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    cursor: Vec<u8>,
    heads: BTreeMap<ChatId, i64>,
    own: i64,
}

impl Waiting {
    /// A chat can not be read: nothing waits for it.
    pub(super) fn give_up(&mut self, chat: ChatId) {
        self.heads.remove(&chat);
    }
}

impl Core {
    /// Takes the answer to a hello or to a request to catch up.
    pub(crate) fn missed(&self, missed: Missed) -> Result<()> {
        let answer = missed.answer.ok_or_else(|| empty("answer"))?;
        self.change(|set| {
            match answer {
                Answer::Delta(delta) => {
                    for event in delta.own_events {
                        let prev = event.seq - 1;
                        set.own_event(event, prev);
                    }
                    let mut last: HashMap<ChatId, i64> = HashMap::new();
                    for event in delta.events {
                        // The answer is whole: what is not in it between two events is not there for us.
                        let prev = last
                            .insert(event.chat_id, event.seq)
                            .unwrap_or(event.seq - 1);
                        set.event(event, prev);
                    }
                }
                Answer::Changed(changed) => {
                    set.know_own_head(changed.own_head);
                    for chat in changed.chats {
                        set.moved(chat, true);
                    }
                }
                Answer::Reset(reset) => set.reset(*reset),
            }
            missed.receipts.into_iter().for_each(|r| set.receipts(r));
            set.adopt(missed.cursor);
        })?;
        self.wake();
        Ok(())
    }

    /// Takes a heartbeat: the heads show what was lost on the way.
    pub(crate) fn heartbeat(&self, heartbeat: Heartbeat) -> Result<()> {
        self.change(|set| {
            for head in &heartbeat.heads {
                set.know_head(head.chat_id, head.seq);
            }
            set.know_own_head(heartbeat.own_head);
            heartbeat.receipts.into_iter().for_each(|r| set.receipts(r));
            if !heartbeat.cursor.is_empty() {
                set.adopt(heartbeat.cursor);
            }
        })?;
        // That the own log has moved is not written down, and is a reason to look all the same.
        self.wake();
        Ok(())
    }

    /// Takes a live event of a chat.
    pub(crate) fn chat_event(&self, event: Event, prev: i64) -> Result<()> {
        self.change(|set| set.event(event, prev))
    }

    /// Takes a live event of the user's own log.
    pub(crate) fn own_event(&self, event: UserEvent, prev: i64) -> Result<()> {
        self.change(|set| set.own_event(event, prev))
    }

    /// Takes receipts that moved.
    pub(crate) fn receipts(&self, receipts: ChatReceipts) -> Result<()> {
        self.change(|set| set.receipts(receipts))
    }

    /// Takes the answer to a choice of warm chats: from these heads on they are heard live.
    pub(crate) fn warmed(&self, warmed: Warmed) -> Result<()> {
        self.change(|set| {
            for head in &warmed.heads {
                set.know_head(head.chat_id, head.seq);
            }
        })
    }

    /// Somebody is typing.
    pub(crate) fn typing(&self, typing: Typing) {
        self.tell(Change::Typing {
            chat: typing.chat_id,
            user: typing.user_id,
        });
    }

    /// Somebody from outside has something to say.
    pub(crate) fn notice(&self, notice: Notice) {
        let data = notice.data.as_option();
        self.tell(Change::Notice {
            data: data
                .and_then(|data| serde_json::to_string(data).ok())
                .unwrap_or_default(),
            kind: notice.kind,
            text: notice.text,
        });
    }
}

impl Changes<'_> {
    fn reset(&mut self, reset: Reset) {
        let known = &self.mind.known;
        // What calls told before the first hello is of an epoch that they did not name, and somebody looks
        // at it. The history may have been another one since.
        let unnamed: HashSet<ChatId> = match known.epoch.is_empty() {
            true => known.chats.keys().copied().collect(),
            false => HashSet::new(),
        };
        let is_blank = known.epoch.is_empty() && known.chats.is_empty();
        let another = !is_blank && known.epoch != reset.epoch;
        if another || reset.reason.as_known() == Some(ResetReason::RESET_REASON_EPOCH) {
            self.put(Record::Forget);
            self.begin_anew();
        }
        self.put(Record::Epoch(reset.epoch));
        let mut unlisted: HashSet<ChatId> = self.mind.known.chats.keys().copied().collect();
        for chat in reset.chats {
            unlisted.remove(&chat.chat_id);
            let fresh = match unnamed.contains(&chat.chat_id) {
                true => self.options.hole_events_max,
                false => self.options.fresh_events,
            };
            self.met(chat, fresh, true);
        }
        // What is held goes on; how far the others have moved, is asked.
        if !unlisted.is_empty() {
            self.mind.relist = Some(Relist::new(unlisted));
        }
        if self.mind.known.own_tip == 0 {
            self.put(Record::Own(reset.own_head));
        }
        self.know_own_head(reset.own_head);
        self.mind.scheduled.0 += 1;
    }

    /// Stores a cursor once everything that it covers is held: now, or when the holes are filled.
    fn adopt(&mut self, cursor: Vec<u8>) {
        let mind = &mut self.mind;
        let open = |(chat, timeline): (&ChatId, &Timeline)| {
            let is_read = timeline.left().is_none() && !mind.jobs.is_hopeless(Job::Hole(*chat));
            (timeline.hole().is_some() && is_read).then(|| (*chat, timeline.head()))
        };
        let heads = mind.known.chats.iter().filter_map(open).collect();
        mind.waiting = Some(Waiting {
            cursor,
            heads,
            own: mind.own_head,
        });
    }

    pub(super) fn advance_cursor(&mut self) {
        let Some(mut waiting) = self.mind.waiting.take() else {
            return;
        };
        let chats = &self.mind.known.chats;
        let is_missing =
            |timeline: &Timeline, head| timeline.left().is_none() && timeline.tip() < head;
        waiting
            .heads
            .retain(|chat, head| chats.get(chat).is_some_and(|t| is_missing(t, *head)));
        let own_held =
            self.mind.known.own_tip >= waiting.own || self.mind.jobs.is_hopeless(Job::Own);
        if !(waiting.heads.is_empty() && own_held) {
            self.mind.waiting = Some(waiting);
        } else if self.mind.known.cursor != waiting.cursor {
            self.put(Record::Cursor(waiting.cursor));
        }
    }
}

impl Mind {
    /// What was about the logs is gone with them.
    pub(super) fn forget(&mut self) {
        self.own_head = 0;
        self.waiting = None;
        self.holes.clear();
        self.left_with.clear();
        self.jobs.forget();
        self.relist = None;
    }
}
