//! Chats: made, listed, read, and compared with the server.

use tertulia_proto::chats::list_events_request::From as Start;
use tertulia_proto::chats::{
    Chat, ChatKind, CreateChatRequest, Digest, Event, GetDigestsRequest, ListChangesRequest,
    ListChatsRequest, ListChatsResponse, ListEventsRequest, ListEventsResponse, OpenDirectRequest,
    UpdateChatRequest,
};
use tokio::time::timeout;

use super::Client;
use crate::calls::Asked;
use crate::change::Change;
use crate::core::empty;
use crate::error::{Error, Result};
use crate::store::Record;
use crate::time::random_id;
use crate::timeline::{Older, Stale, changed_seq, kind};
use crate::verify::digest;
use crate::view::ChatView;
use crate::{ChatId, UserId};

/// The longest page of history: its longest messages still fit into one frame.
pub const PAGE_EVENTS_MAX: u32 = 200;

/// How many events are compared at once; the contract allows no more.
const VERIFIED_EVENTS_MAX: i64 = 10_000;
/// How often a comparison is begun when the chat moves on meanwhile.
const VERIFY_TRIES_MAX: u32 = 5;

/// A group or a channel to be made.
#[derive(Debug, Clone, Default)]
pub struct NewChat {
    /// A group or a channel.
    pub kind: ChatKind,
    /// Its name.
    pub title: String,
    /// What it is about.
    pub topic: String,
    /// An emoji that stands for it.
    pub avatar: String,
    /// Who is in it besides the user.
    pub member_ids: Vec<UserId>,
}

/// What is to be another about a chat; what is none stays.
#[derive(Debug, Clone, Default)]
pub struct ChatUpdate {
    /// The name.
    pub title: Option<String>,
    /// What it is about.
    pub topic: Option<String>,
    /// The emoji that stands for it.
    pub avatar: Option<String>,
    /// For how many seconds messages stay that are sent from now on; 0 for ever.
    pub message_ttl_s: Option<i64>,
}

/// What a comparison with the server has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many seqs were compared.
    pub compared: i64,
    /// How many of them were in a part that differed and were read again.
    pub healed: i64,
}

impl Client {
    /// Opens the direct chat with a user: always the same one.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `CHAT_WITH_SELF`, or as every call.
    pub async fn open_direct(&self, user_id: UserId) -> Result<Chat> {
        let request = OpenDirectRequest {
            user_id,
            ..Default::default()
        };
        let asked_at = self.core().own_tip();
        let answer = self.core().ask(&request).await?;
        self.entered(answer.chat.into_option(), asked_at)
    }

    /// Makes a group or a channel, owned by the user.
    ///
    /// # Errors
    /// `TOO_MANY`, `INVALID_REQUEST`, or as every call.
    pub async fn create_chat(&self, new: NewChat) -> Result<Chat> {
        let request = CreateChatRequest {
            kind: new.kind.into(),
            title: new.title,
            topic: new.topic,
            avatar: new.avatar,
            member_ids: new.member_ids,
            client_chat_id: random_id(&*self.core().machine),
            ..Default::default()
        };
        let asked_at = self.core().own_tip();
        let answer = self.ask_again(&request).await?;
        self.entered(answer.chat.into_option(), asked_at)
    }

    /// Makes a group.
    ///
    /// # Errors
    /// As [`create_chat`](Self::create_chat).
    pub async fn create_group(&self, title: &str, member_ids: Vec<UserId>) -> Result<Chat> {
        self.create_chat(NewChat {
            kind: ChatKind::CHAT_KIND_GROUP,
            title: title.to_owned(),
            member_ids,
            ..Default::default()
        })
        .await
    }

    /// Somebody looks at a chat now, which a call has brought that was made when the own log was held up to
    /// `asked_at`: all of it is read when that is not much, else its end.
    pub(super) fn entered(&self, chat: Option<Chat>, asked_at: i64) -> Result<Chat> {
        let chat = chat.ok_or_else(|| empty("chat"))?;
        let met = chat.clone();
        self.core().change(|set| set.entered(met, asked_at))?;
        Ok(chat)
    }

    /// Changes title, topic, avatar or how long messages stay. Gives the seq of the event; 0 when nothing
    /// changed.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, `DIRECT_CHAT`, or as every call.
    pub async fn update_chat(&self, chat: ChatId, update: ChatUpdate) -> Result<i64> {
        let request = UpdateChatRequest {
            chat_id: chat,
            title: update.title,
            topic: update.topic,
            avatar: update.avatar,
            message_ttl_s: update.message_ttl_s,
            ..Default::default()
        };
        let seq = self.core().ask(&request).await?.seq;
        self.happened(chat, seq)
    }

    /// A call has made an event: if it is lost on the way, that shows.
    pub(super) fn happened(&self, chat: ChatId, seq: i64) -> Result<i64> {
        if seq > 0 {
            self.core().change(|set| set.know_head(chat, seq))?;
        }
        Ok(seq)
    }

    /// A page of the user's chats from the server, newest first; they are known here from then on.
    ///
    /// # Errors
    /// `BAD_CURSOR` for a foreign page token, or as every call.
    pub async fn list_chats(&self, limit: u32, page_token: &str) -> Result<ListChatsResponse> {
        let request = ListChatsRequest {
            limit,
            page_token: page_token.to_owned(),
            ..Default::default()
        };
        let answer = self.core().ask(&request).await?;
        let met = answer.chats.clone();
        self.core().change(|set| set.listed(met))?;
        Ok(answer)
    }

    /// The chats that are known here, the one with the newest message first.
    pub fn chats(&self) -> Vec<ChatView> {
        let mind = self.core().mind();
        let chats = mind.known.chats.iter();
        let mut views: Vec<ChatView> = chats
            .map(|(id, timeline)| ChatView::new(&mind.known, *id, timeline, 1))
            .collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.active_at_ms()));
        views
    }

    /// A chat with its newest `last` events, as they are shown. None when nothing is known of it.
    pub fn chat(&self, chat: ChatId, last: usize) -> Option<ChatView> {
        let mind = self.core().mind();
        let timeline = mind.known.chats.get(&chat)?;
        Some(ChatView::new(&mind.known, chat, timeline, last))
    }

    /// An event of a chat as it is now, when it is held here.
    pub fn event(&self, chat: ChatId, seq: i64) -> Option<Event> {
        let mind = self.core().mind();
        mind.known.chats.get(&chat)?.event(seq).cloned()
    }

    /// Reads up to `limit` events before those that are shown and shows them too; a part that is held is
    /// brought up to date first. Gives how many came; 0 at the beginning of the chat.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, or as every call.
    pub async fn older(&self, chat: ChatId, limit: u32) -> Result<usize> {
        let (older, before) = {
            let mind = self.core().mind();
            match mind.known.chats.get(&chat) {
                Some(timeline) => (timeline.older(), *timeline.window().start()),
                None => (Some(Older::Before(0)), 0),
            }
        };
        match older {
            None => return Ok(0),
            Some(Older::Stale(stale)) => self.bring_up(chat, stale).await?,
            Some(Older::Before(0)) => return self.first_page(chat, limit).await,
            Some(Older::Before(seq)) => {
                let page = self.history(chat, Start::BeforeSeq(seq), limit).await?;
                let from = page.events.first().map_or(1, |e| e.seq);
                // History is not stored: the server has it.
                if let Some(timeline) = self.core().mind().known.chats.get_mut(&chat) {
                    timeline.take(from, seq - 1, page.head, page.events);
                }
                self.core().tell(Change::Chat(chat));
            }
        }
        let mind = self.core().mind();
        let timeline = mind.known.chats.get(&chat);
        let came = |event: &&Event| event.seq < before;
        Ok(timeline.map_or(0, |timeline| timeline.shown().take_while(came).count()))
    }

    /// The end of a chat of which nothing was known.
    async fn first_page(&self, chat: ChatId, limit: u32) -> Result<usize> {
        let page = self.history(chat, Start::BeforeSeq(0), limit).await?;
        let (events, head) = (page.events, page.head);
        let count = events.len();
        self.core().change(|set| {
            if let Some(first) = events.first() {
                let (from, tip) = (first.seq, first.seq - 1);
                set.put(Record::Begun { chat, tip });
                set.cover(chat, from, head, head, events);
            }
        })?;
        Ok(count)
    }

    /// Asks what has changed in an old part until nothing is missing in it.
    async fn bring_up(&self, chat: ChatId, mut stale: Stale) -> Result<()> {
        loop {
            let request = ListChangesRequest {
                chat_id: chat,
                from_seq: stale.from,
                to_seq: stale.to,
                after_seq: stale.after,
                limit: PAGE_EVENTS_MAX,
                ..Default::default()
            };
            let answer = self.core().ask(&request).await?;
            let (through, more) = (answer.through_seq, answer.more);
            if more && through <= stale.after {
                return Err(Error::Protocol(
                    "there is more, and it does not begin".into(),
                ));
            }
            self.core().change(|set| {
                set.put(Record::Changes {
                    chat,
                    stale,
                    through,
                    more,
                    events: answer.events,
                });
            })?;
            stale.after = through;
            if !more {
                return Ok(());
            }
        }
    }

    /// Reads a part of a chat's log from the server, at most [`PAGE_EVENTS_MAX`] events, without keeping it.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, or as every call.
    pub async fn history(
        &self,
        chat: ChatId,
        from: Start,
        limit: u32,
    ) -> Result<ListEventsResponse> {
        let request = ListEventsRequest {
            chat_id: chat,
            from: Some(from),
            limit: limit.min(PAGE_EVENTS_MAX),
            ..Default::default()
        };
        self.core().ask(&request).await
    }

    /// Names the chats that the application shows, at most 50: a channel is heard live only while it is among
    /// them. It holds over every connection until the next call.
    pub async fn warm(&self, chats: Vec<ChatId>) {
        self.core().mind().warm.clone_from(&chats);
        self.core().put(Asked::Warm(chats)).await;
    }

    // ---- the truth

    /// Compares what is shown of a chat with the server by digests, and reads again what differs.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the chat moves on faster than this client follows, or as every call.
    pub async fn verify(&self, chat: ChatId) -> Result<Verified> {
        let mut verified = Verified::default();
        let mut next = match self.core().mind().known.chats.get(&chat) {
            Some(timeline) => *timeline.window().start(),
            None => return Ok(verified),
        };
        let mut tries = 0;
        loop {
            let tip = self.chat(chat, 0).map_or(0, |_| self.tip(chat));
            if next > tip {
                return Ok(verified);
            }
            let to = tip.min(next + VERIFIED_EVENTS_MAX - 1);
            let request = GetDigestsRequest {
                chat_id: chat,
                from_seq: next,
                to_seq: to,
                ..Default::default()
            };
            let answer = self.core().ask(&request).await?;
            self.core().change(|set| set.know_head(chat, answer.head))?;
            let judged = {
                let mind = self.core().mind();
                let timeline = mind.known.chats.get(&chat);
                // What is held must be at least as new as what it is compared with.
                timeline.filter(|t| t.tip() >= answer.head).map(|timeline| {
                    let part = |from, to| {
                        let rows = timeline.shown_after(from - 1);
                        rows.take_while(move |row| row.seq <= to)
                    };
                    // What this version does not know, and what was changed later, it can not judge.
                    let is_as_of = |row: &Event| kind(row) != 0 && changed_seq(row) <= answer.head;
                    let can_judge = |d: &&Digest| part(d.from_seq, d.to_seq).all(is_as_of);
                    let differs =
                        |d: &Digest| digest(part(d.from_seq, d.to_seq))[..] != d.digest[..];
                    let judged = answer.digests.iter().filter(can_judge);
                    judged
                        .map(|d| (d.from_seq, d.to_seq, differs(d)))
                        .collect::<Vec<_>>()
                })
            };
            let Some(judged) = judged else {
                tries += 1;
                if tries == VERIFY_TRIES_MAX {
                    return Err(Error::Timeout(self.core().options.call_timeout));
                }
                self.catch_up_with(chat).await?;
                continue;
            };
            for (from, to, differs) in judged {
                verified.compared += to - from + 1;
                if differs {
                    self.heal(chat, from, to).await?;
                    verified.healed += to - from + 1;
                }
            }
            next = to + 1;
        }
    }

    fn tip(&self, chat: ChatId) -> i64 {
        let mind = self.core().mind();
        mind.known
            .chats
            .get(&chat)
            .map_or(0, |timeline| timeline.tip())
    }

    /// Waits until a chat has no hole.
    async fn catch_up_with(&self, chat: ChatId) -> Result<()> {
        let mut wake = self.core().wake.subscribe();
        let wait = self.core().options.call_timeout;
        let has_hole = || {
            let mind = self.core().mind();
            let timeline = mind.known.chats.get(&chat);
            timeline.is_some_and(|timeline| timeline.hole().is_some())
        };
        let caught_up = async {
            while has_hole() {
                // The sender lives in the core, as long as we do.
                _ = wake.changed().await;
            }
        };
        timeout(wait, caught_up)
            .await
            .map_err(|_| Error::Timeout(wait))
    }

    /// Puts what the server has in the place of what is held.
    async fn heal(&self, chat: ChatId, from: i64, to: i64) -> Result<()> {
        let mut after = from - 1;
        while after < to {
            let limit = PAGE_EVENTS_MAX.min((to - after) as u32);
            let page = self.history(chat, Start::AfterSeq(after), limit).await?;
            let end = page.events.last().map_or(to, |e| e.seq.min(to));
            self.core().change(|set| {
                set.put(Record::Healed {
                    chat,
                    from: after + 1,
                    to: end,
                    at: page.head,
                    events: page.events,
                });
            })?;
            after = end;
        }
        Ok(())
    }
}
