//! Chats, each of them a log: opened, appended to, read, and caught up with.
//!
//! The store numbers the events and decides their order; this room holds the rules above it: who may open
//! what, what a text may be, and what a device is told that was away (`missed`).

mod cursor;
pub mod memory;
mod missed;
pub mod model;
pub mod ports;
#[cfg(any(test, feature = "suites"))]
pub mod suite;

use std::cmp::Reverse;
use std::sync::Arc;

use async_trait::async_trait;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;
use tertulia_kit::id::Ids;

use crate::access::{Caller, Member, Members};
use crate::errors;
use crate::ids::{ChatId, MessageId, UserId};
use cursor::PageToken;

pub use missed::{Answer, Beat, Missed, ResetReason};
pub use model::*;
pub use ports::*;

/// How many characters a text may have.
const TEXT_CHARS_MAX: usize = 8_000;
/// How long a client message id may be.
const CLIENT_ID_CHARS: std::ops::RangeInclusive<usize> = 8..=64;
/// How many events one answer may have.
const EVENTS_MAX: usize = 500;
/// How many chats one answer may have.
const CHATS_MAX: usize = 200;

/// The service.
pub struct Chats {
    store: Arc<dyn ChatStore>,
    people: Arc<dyn People>,
    ids: Arc<Ids>,
    clock: SharedClock,
}

/// A part of the list of chats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatPage {
    /// The one with the newest event first.
    pub chats: Vec<Chat>,
    /// For the next page; empty when this was the last.
    pub next_page_token: String,
}

impl Chats {
    /// Keeps its logs in `store` and asks `people` who exists.
    pub fn new(
        store: Arc<dyn ChatStore>,
        people: Arc<dyn People>,
        ids: Arc<Ids>,
        clock: SharedClock,
    ) -> Chats {
        Chats {
            store,
            people,
            ids,
            clock,
        }
    }

    /// Opens the direct chat with somebody: the same chat for both, however often it is opened.
    ///
    /// # Errors
    /// `CHAT_WITH_SELF`, `USER_NOT_FOUND`, or the failure of a store.
    pub async fn open_direct(&self, caller: &Caller, other: UserId) -> Result<Chat> {
        let pair = Pair::new(caller.user, other).ok_or_else(errors::chat_with_self)?;
        if !self.people.exists(other).await? {
            return Err(errors::user_not_found());
        }
        self.store
            .open_direct(pair, ChatId(self.ids.next()), self.clock.now_ms())
            .await
    }

    /// The chat.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn chat(&self, member: &Member) -> Result<Chat> {
        self.store
            .chat(member.chat())
            .await?
            .ok_or_else(errors::chat_not_found)
    }

    /// The caller's chats by their newest event, a chat without events by when it was opened. A chat that
    /// moves between two pages moves to the front, so a later page may lack it and none has it twice.
    ///
    /// # Errors
    /// `BAD_CURSOR`, or the failure of the store.
    pub async fn chats(&self, caller: &Caller, limit: usize, page_token: &str) -> Result<ChatPage> {
        let after = match page_token {
            "" => None,
            token => Some(PageToken::decode(token).ok_or_else(errors::bad_cursor)?),
        };
        let limit = limit.clamp(1, CHATS_MAX);
        let mut chats = self.store.chats_of(caller.user).await?;
        if let Some(after) = after {
            chats.retain(|chat| order(chat) > Reverse((after.active_at_ms, after.chat)));
        }
        let more = newest_first(&mut chats, limit);
        let next_page_token = match chats.last() {
            Some(last) if more => PageToken {
                active_at_ms: last.active_at_ms(),
                chat: last.id,
            }
            .encode(),
            _ => String::new(),
        };
        Ok(ChatPage {
            chats,
            next_page_token,
        })
    }

    /// Events of the chat after a seq, oldest first, without holes.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn events_after(
        &self,
        member: &Member,
        after: Seq,
        limit: usize,
    ) -> Result<Page<Event>> {
        self.store
            .events_after(member.chat(), after, limit.clamp(1, EVENTS_MAX))
            .await
    }

    /// The nearest events of the chat before a seq (0: from the end), oldest first, without holes.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn events_before(
        &self,
        member: &Member,
        before: Seq,
        limit: usize,
    ) -> Result<Page<Event>> {
        self.store
            .events_before(member.chat(), before, limit.clamp(1, EVENTS_MAX))
            .await
    }

    /// Events of the caller's own log after a seq, oldest first, without holes.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn user_events(
        &self,
        caller: &Caller,
        after: Seq,
        limit: usize,
    ) -> Result<Page<UserEvent>> {
        self.store
            .user_events_after(caller.user, after, limit.clamp(1, EVENTS_MAX))
            .await
    }

    /// Appends a message. When this returns it is on disk. The same client message id from the same device
    /// gives the first answer again, for seven days.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `CLIENT_MESSAGE_ID_REUSED`, `OVERLOADED` (nothing was written), or the failure of
    /// the store (to be sent again with the same client message id).
    pub async fn send(
        &self,
        member: &Member,
        client_message_id: String,
        text: String,
    ) -> Result<Receipt> {
        check_client_message_id(&client_message_id)?;
        check_text(&text)?;
        let caller = member.caller();
        let new = NewMessage {
            chat: member.chat(),
            sender: caller.user,
            id: MessageId(self.ids.next()),
            key: SendKey {
                device: caller.device.to_string(),
                client_message_id,
            },
            text,
            at_ms: self.clock.now_ms(),
        };
        match self.store.append(new).await? {
            Appended::New(receipt) | Appended::Repeat(receipt) => Ok(receipt),
            Appended::Conflict => Err(errors::client_message_id_reused()),
            Appended::NoChat => Err(errors::chat_not_found()),
        }
    }

    /// What the caller missed since a cursor; it is what a device is told when it connects or catches up.
    ///
    /// # Errors
    /// The failure of the store. A cursor that is no cursor is not an error but a reset.
    pub async fn missed(&self, caller: &Caller, cursor: &[u8]) -> Result<Missed> {
        missed::missed(&*self.store, caller.user, cursor).await
    }

    /// Where the caller's logs end that moved since a position; it is what a heartbeat tells.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn beat(&self, caller: &Caller, since: Position) -> Result<Beat> {
        missed::beat(&*self.store, caller.user, since).await
    }
}

#[async_trait]
impl Members for Chats {
    async fn is_member(&self, chat: ChatId, user: UserId) -> Result<bool> {
        Ok(self
            .store
            .chat(chat)
            .await?
            .is_some_and(|chat| chat.has(user)))
    }
}

/// Small for what comes first in the list.
fn order(chat: &Chat) -> Reverse<(i64, ChatId)> {
    Reverse((chat.active_at_ms(), chat.id))
}

/// Sorts the newest `limit` to the front and cuts off the rest; says whether there was a rest.
fn newest_first(chats: &mut Vec<Chat>, limit: usize) -> bool {
    let more = chats.len() > limit;
    if more {
        chats.select_nth_unstable_by_key(limit, order);
        chats.truncate(limit);
    }
    chats.sort_unstable_by_key(order);
    more
}

fn check_client_message_id(id: &str) -> Result<()> {
    let known = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    if !CLIENT_ID_CHARS.contains(&id.len()) || !id.bytes().all(known) {
        let problem = "must be 8 to 64 letters, digits, _ and -";
        return Err(errors::invalid_field(
            "client_message_id",
            "string.pattern",
            problem,
        ));
    }
    Ok(())
}

fn check_text(text: &str) -> Result<()> {
    let bad = |rule, problem| Err(errors::invalid_field("text", rule, problem));
    if text.is_empty() {
        return bad("string.min_len", "must not be empty");
    }
    // A character takes at most four bytes, so most texts need no counting.
    if text.len() > TEXT_CHARS_MAX && text.chars().count() > TEXT_CHARS_MAX {
        return bad("string.max_len", "must be at most 8,000 characters");
    }
    if text
        .chars()
        .any(|c| c.is_control() && c != '\n' && c != '\t')
    {
        return bad(
            "string.control",
            "must have no control characters but line feed and tab",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
