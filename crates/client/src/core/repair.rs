//! What is missing, and what is to be asked for next.

use std::collections::HashSet;

use tertulia_proto::chats::{Chat, Event, ListChatsResponse, ScheduledMessage, UserEvent};
use tokio::time::Instant;

use super::{Changes, Core, Mind};
use crate::ChatId;
use crate::change::Change;
use crate::error::Result;
use crate::store::Record;

/// Something to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    /// The next page of the user's own log.
    Own,
    /// The next page of a chat's hole.
    Hole(ChatId),
    /// A chat, for its details and what is unread in it.
    Chat(ChatId),
    /// The next page of the list of chats.
    Chats,
    /// The messages to be sent later.
    Scheduled,
}

/// What to do about missing things.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// This, from a seq on, or from a page of a list on.
    Do(Job, i64, String),
    Wait(Instant),
    Nothing,
}

/// Jobs that are not to be begun.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    under_way: HashSet<Job>,
    /// The server refuses them; they are not tried again in this session.
    hopeless: HashSet<Job>,
}

impl Jobs {
    pub(super) fn is_under_way(&self, job: Job) -> bool {
        self.under_way.contains(&job)
    }

    pub(super) fn is_hopeless(&self, job: Job) -> bool {
        self.hopeless.contains(&job)
    }

    fn is_free(&self, job: Job) -> bool {
        !self.is_under_way(job) && !self.is_hopeless(job)
    }

    pub(super) fn forget(&mut self) {
        self.hopeless.clear();
    }

    /// The user is in a chat from now on: what was refused there before is not any more.
    pub(super) fn revive(&mut self, chat: ChatId) {
        self.hopeless.remove(&Job::Hole(chat));
        self.hopeless.remove(&Job::Chat(chat));
    }
}

/// The list of chats, as far as it was read.
#[derive(Debug)]
pub(super) struct Relist {
    page_token: String,
    /// Chats that were known before and not listed yet.
    unlisted: HashSet<ChatId>,
}

impl Relist {
    pub(super) fn new(unlisted: HashSet<ChatId>) -> Self {
        Relist {
            page_token: String::new(),
            unlisted,
        }
    }

    /// The user is in this chat.
    pub(super) fn saw(&mut self, chat: ChatId) {
        self.unlisted.remove(&chat);
    }
}

impl Core {
    /// A session begins: what an earlier one could not get is tried again, at once.
    pub(crate) fn session_begins(&self) {
        let mut mind = self.mind();
        mind.waiting = None;
        mind.jobs = Jobs::default();
        mind.doubt_outbox();
        let chats = mind.known.chats.iter();
        let open = chats.filter(|(_, t)| t.hole().is_some() && t.left().is_none());
        let open: Vec<ChatId> = open.map(|(chat, _)| *chat).collect();
        // Old holes have had their patience.
        let long_ago = Instant::now()
            .checked_sub(self.options.hole_patience)
            .unwrap_or_else(Instant::now);
        mind.holes = open.into_iter().map(|chat| (chat, long_ago)).collect();
    }

    /// The session is over: nothing is on its way any more.
    pub(crate) fn session_ends(&self) {
        self.set_calls(None);
        self.mind().jobs.under_way.clear();
        self.stop_sending();
        self.forget_presences();
    }

    /// The next thing that is missing, claimed for the caller.
    pub(crate) fn next_job(&self) -> Next {
        let mut mind = self.mind();
        let mut soonest: Option<Instant> = None;
        let mut holes = || {
            for (&chat, since) in &mind.holes {
                let hole = mind.known.chats.get(&chat).and_then(|t| t.hole());
                let Some(hole) = hole.filter(|_| mind.jobs.is_free(Job::Hole(chat))) else {
                    continue;
                };
                let due = *since + self.options.hole_patience;
                if due <= Instant::now() {
                    return Some((Job::Hole(chat), hole.after));
                }
                soonest = Some(soonest.map_or(due, |at| at.min(due)));
            }
            None
        };
        let found = mind.own_job().or_else(&mut holes);
        match found.or_else(|| mind.other_job()) {
            Some((job, after)) => {
                mind.jobs.under_way.insert(job);
                let page = mind.relist.as_ref().filter(|_| job == Job::Chats);
                let page = page.map_or_else(String::new, |list| list.page_token.clone());
                Next::Do(job, after, page)
            }
            None => soonest.map_or(Next::Nothing, Next::Wait),
        }
    }

    /// A job is no longer under way; `hopeless` ones are not tried again in this session.
    pub(crate) fn job_done(&self, job: Job, hopeless: bool) -> Result<()> {
        self.change(|set| {
            set.mind.jobs.under_way.remove(&job);
            if hopeless {
                set.mind.jobs.hopeless.insert(job);
            }
            if let (true, Job::Hole(chat), Some(waiting)) = (hopeless, job, &mut set.mind.waiting) {
                waiting.give_up(chat);
            }
        })?;
        self.wake();
        Ok(())
    }

    // ---- answers; each says whether it brought anything

    /// A page of a hole.
    pub(crate) fn filled(
        &self,
        chat: ChatId,
        after: i64,
        events: Vec<Event>,
        head: i64,
    ) -> Result<bool> {
        self.change(|set| {
            let to = events.last().map_or(head, |e| e.seq);
            if to <= after {
                return false;
            }
            set.cover(chat, after + 1, to, head, events);
            set.limit_hole(chat);
            true
        })
    }

    /// A page of the user's own log.
    pub(crate) fn own_filled(&self, after: i64, events: Vec<UserEvent>, head: i64) -> Result<bool> {
        self.change(|set| {
            let mut prev = after;
            for event in events {
                let seq = event.seq;
                set.own_event(event, prev);
                prev = seq;
            }
            set.know_own_head(head);
            set.mind.known.own_tip > after
        })
    }

    /// A chat. It says all that was asked for when it is as new as what is held.
    pub(crate) fn chat_read(&self, chat: Chat) -> Result<bool> {
        self.change(|set| {
            let (id, head) = (chat.chat_id, chat.head);
            let says_all = chat.membership.is_set();
            set.moved(chat, false);
            let timeline = set.timeline(id);
            timeline.is_none_or(|t| !t.wants_chat() || (says_all && head >= t.tip()))
        })
    }

    /// There is no such chat for the user, says the answer to what was asked when the own log was held up to
    /// `asked_at`. What came of the own log meanwhile may be newer than the answer: then it is asked again.
    pub(crate) fn chat_gone(&self, chat: ChatId, asked_at: i64) -> Result<bool> {
        self.change(|set| {
            if set.mind.known.own_tip == asked_at {
                set.put(Record::Gone { chat });
            }
            true
        })
    }

    /// A page of the list of chats.
    pub(crate) fn chats_listed(&self, page: ListChatsResponse) -> Result<bool> {
        self.change(|set| {
            let Some(mut list) = set.mind.relist.take() else {
                return true;
            };
            for chat in page.chats {
                list.saw(chat.chat_id);
                set.met(chat, set.options.fresh_events, false);
            }
            if page.next_page_token.is_empty() {
                let gone = list.unlisted;
                gone.into_iter()
                    .for_each(|chat| set.put(Record::Gone { chat }));
            } else {
                list.page_token = page.next_page_token;
                set.mind.relist = Some(list);
            }
            true
        })
    }

    /// The list can not be read on from where it was left, as when another version of the server answers now.
    pub(crate) fn list_anew(&self) -> Result<bool> {
        self.change(|set| {
            if let Some(list) = &mut set.mind.relist {
                list.page_token.clear();
            }
            true
        })
    }

    /// The messages to be sent later.
    pub(crate) fn scheduled_listed(&self, wanted: i64, all: Vec<ScheduledMessage>) -> Result<bool> {
        self.change(|set| {
            set.mind.scheduled.1 = wanted;
            set.put(Record::Scheduled(all));
            set.told.push(Change::Scheduled);
            true
        })
    }

    // ---- what has reached this device

    /// Which chats have come how far since the server was last told, at most `max` of them.
    pub(crate) fn undelivered(&self, max: usize) -> Vec<(ChatId, i64)> {
        let mind = self.mind();
        let chats = mind.known.chats.iter();
        let moved = chats.filter_map(|(chat, timeline)| Some((*chat, timeline.undelivered()?)));
        moved.take(max).collect()
    }

    /// The server was told.
    pub(crate) fn told(&self, reached: Vec<(ChatId, i64)>) -> Result<()> {
        self.change(|set| {
            for (chat, seq) in reached {
                set.put(Record::Told { chat, seq });
            }
        })
    }
}

impl Mind {
    fn own_job(&self) -> Option<(Job, i64)> {
        let tip = self.known.own_tip;
        (tip < self.own_head && self.jobs.is_free(Job::Own)).then_some((Job::Own, tip))
    }

    fn other_job(&self) -> Option<(Job, i64)> {
        if self.relist.is_some() && self.jobs.is_free(Job::Chats) {
            return Some((Job::Chats, 0));
        }
        let mut chats = self.known.chats.iter().filter(|(_, t)| t.left().is_none());
        let vague = chats
            .find(|(chat, timeline)| timeline.wants_chat() && self.jobs.is_free(Job::Chat(**chat)));
        if let Some((chat, _)) = vague {
            return Some((Job::Chat(*chat), 0));
        }
        let (wanted, served) = self.scheduled;
        let is_due = wanted > served && self.jobs.is_free(Job::Scheduled);
        is_due.then_some((Job::Scheduled, wanted))
    }
}

impl Changes<'_> {
    /// Takes a page of the list of chats that somebody looks at.
    pub(crate) fn listed(&mut self, chats: Vec<Chat>) {
        for chat in chats {
            self.met(chat, self.options.fresh_events, false);
        }
    }
}
