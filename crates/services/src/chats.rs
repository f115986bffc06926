//! Chats, each of them a log: everything that happens in one is an event with the chat's next number.
//!
//! What may happen is decided in `decide`, inside the commit; the store numbers the events and decides their
//! order. This room holds what stands around that: what a request may contain (`input`), what a device is told
//! that was away (`missed`), what an event is to one member (`shown`), and what happens by itself (`clockwork`).

mod clockwork;
pub mod command;
mod cursor;
pub mod decide;
pub mod digest;
mod input;
mod list;
mod members;
pub mod memory;
mod messages;
mod missed;
pub mod model;
pub mod ports;
pub mod roles;
mod shown;
#[cfg(any(test, feature = "suites"))]
pub mod suite;
mod typing;

use std::sync::Arc;

use async_trait::async_trait;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::{Failure, Result};
use tertulia_kit::id::Ids;

use crate::access::{Caller, Member, Members};
use crate::errors;
use crate::ids::{ChatId, MessageId, UserId};
use cursor::PageToken;
use typing::Typing;

pub use clockwork::DUE_ROUND_MAX;
pub use command::*;
pub use members::{InvitePreview, MemberPage};
pub use messages::{Outgoing, TextVersion};
pub use missed::{Answer, Beat, ChatReceipts, Missed, ResetReason};
pub use model::*;
pub use ports::*;
pub use roles::Right;
pub use shown::{Shown, ShownChanges, ShownPage};

/// How many events one answer may have.
const EVENTS_MAX: usize = 500;
/// How many chats one answer may have.
const CHATS_MAX: usize = 200;
/// How many deliveries one call may tell.
const DELIVERIES_MAX: usize = 200;

/// The service.
pub struct Chats {
    store: Arc<dyn ChatStore>,
    people: Arc<dyn People>,
    signals: Arc<dyn Signals>,
    ids: Arc<Ids>,
    clock: SharedClock,
    limits: Limits,
    typing: Typing,
}

/// A part of the list of chats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatPage {
    /// The one with the newest message first.
    pub chats: Vec<Standing>,
    /// For the next page; empty when this was the last.
    pub next_page_token: String,
}

/// How far a chat has reached its members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipts {
    /// Of each member but the caller, in a small chat only.
    pub each: Vec<Receipt>,
    /// How many members but the caller a message has reached.
    pub delivered: usize,
    /// How many of them have seen it and share that.
    pub seen: usize,
}

/// What changes of a chat; what is not set stays.
#[derive(Debug, Clone, Default)]
pub struct ChatChange {
    /// The name.
    pub title: Option<String>,
    /// What it is about.
    pub topic: Option<String>,
    /// The emoji that stands for it; empty for none.
    pub avatar: Option<String>,
    /// For how many seconds messages stay that are sent from now on; 0 for ever.
    pub message_ttl_s: Option<i64>,
}

impl Chats {
    /// Keeps its logs in `store`, asks `people` about people and tells `signals` what is not kept.
    pub fn new(
        store: Arc<dyn ChatStore>,
        people: Arc<dyn People>,
        signals: Arc<dyn Signals>,
        ids: Arc<Ids>,
        clock: SharedClock,
        limits: Limits,
    ) -> Chats {
        Chats {
            store,
            people,
            signals,
            ids,
            clock,
            limits,
            typing: Typing::default(),
        }
    }

    fn new_id(&self) -> Result<i64> {
        self.ids.next().map_err(errors::store_unavailable)
    }

    /// Opens the direct chat with somebody: the same chat for both, however often it is opened.
    ///
    /// # Errors
    /// `CHAT_WITH_SELF`, `USER_NOT_FOUND`, or the failure of a store.
    pub async fn open_direct(&self, caller: &Caller, other: UserId) -> Result<Standing> {
        let pair = Pair::new(caller.user, other).ok_or_else(errors::chat_with_self)?;
        self.check_exist(&[other]).await?;
        let id = ChatId(self.new_id()?);
        self.chat_made(caller, Act::OpenDirect { pair, id }).await
    }

    /// Makes a group or a channel, owned by the caller. The same client chat id from the same device gives the
    /// first answer again, for seven days.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `USER_NOT_FOUND` when a named member does not exist, `TOO_MANY`, or the failure of a
    /// store.
    pub async fn create(
        &self,
        caller: &Caller,
        kind: ChatKind,
        details: ChatChange,
        mut members: Vec<UserId>,
        client_chat_id: String,
    ) -> Result<Standing> {
        if kind.is_direct() {
            let problem = "must be a group or a channel";
            return Err(errors::invalid_field("kind", "enum.in", problem));
        }
        input::check_client_id("client_chat_id", &client_chat_id)?;
        let details = input::change(details)?;
        let title = details
            .title
            .ok_or_else(|| errors::invalid_field("title", "string.min_len", "must not be empty"))?;
        members.sort_unstable();
        members.dedup();
        self.check_exist(&members).await?;
        let new = NewChat {
            id: ChatId(self.new_id()?),
            kind,
            title,
            topic: details.topic.unwrap_or_default(),
            avatar: details.avatar.unwrap_or_default(),
            members,
            key: key(caller, client_chat_id),
        };
        self.chat_made(caller, Act::Create(new)).await
    }

    /// The chat as the caller sees it.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND` when the caller has left meanwhile, or the failure of the store.
    pub async fn chat(&self, member: &Member) -> Result<Standing> {
        let user = member.caller().user;
        let found = self.store.standings(user, &[member.chat()]).await?;
        found.into_iter().next().ok_or_else(errors::chat_not_found)
    }

    /// The caller's chats by their newest message, a chat without messages by when it was opened; where a page ends in
    /// an hour with very many chats, those of that hour by their ids. A chat that moves between two pages moves to the
    /// front, so a later page may lack it and none has it twice.
    ///
    /// # Errors
    /// `BAD_CURSOR`, or the failure of the store.
    pub async fn chats(&self, caller: &Caller, limit: usize, page_token: &str) -> Result<ChatPage> {
        let after = match page_token {
            "" => None,
            token => Some(PageToken::decode(token).ok_or_else(errors::bad_cursor)?),
        };
        let limit = limit.clamp(1, CHATS_MAX);
        let (chats, next) = list::page(&*self.store, caller.user, after, limit).await?;
        let ids: Vec<ChatId> = chats.iter().map(|chat| chat.id).collect();
        Ok(ChatPage {
            chats: self.store.standings(caller.user, &ids).await?,
            next_page_token: next.map_or_else(String::new, |next| next.encode()),
        })
    }

    /// Changes what is set. Gives the seq of the event, none when everything was so already.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `DIRECT_CHAT`, `NOT_ALLOWED`, or the failure of the store.
    pub async fn change(&self, member: &Member, change: ChatChange) -> Result<Option<Seq>> {
        let change = input::change(change)?;
        let act = Act::Change {
            chat: member.chat(),
            title: change.title,
            topic: change.topic,
            avatar: change.avatar,
            message_ttl_s: change.message_ttl_s,
        };
        self.changed(member.caller(), act).await
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
    ) -> Result<ShownPage> {
        let limit = limit.clamp(1, EVENTS_MAX);
        let page = self.store.events_after(member.chat(), after, limit).await?;
        shown::page(&*self.store, member.caller().user, member.chat(), page).await
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
    ) -> Result<ShownPage> {
        let limit = limit.clamp(1, EVENTS_MAX);
        let page = self
            .store
            .events_before(member.chat(), before, limit)
            .await?;
        shown::page(&*self.store, member.caller().user, member.chat(), page).await
    }

    /// The messages of a part of the log that were changed after a seq, as they are now.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the part ends before it begins, or the failure of the store.
    pub async fn changes(
        &self,
        member: &Member,
        from: Seq,
        to: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<ShownChanges> {
        input::check_part(from, to)?;
        let limit = limit.clamp(1, EVENTS_MAX);
        let (user, chat) = (member.caller().user, member.chat());
        let changes = self.store.changes(chat, from..=to, after, limit).await?;
        Ok(ShownChanges {
            events: shown::events(&*self.store, user, chat, changes.events).await?,
            through: changes.through,
            more: changes.more,
        })
    }

    /// Digests of a part of the log as the caller sees it, one for every `block` events, and the head that
    /// they are true for.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, or the failure of the store.
    pub async fn digests(
        &self,
        member: &Member,
        from: Seq,
        to: Seq,
        block: usize,
    ) -> Result<(Vec<digest::Digest>, Seq)> {
        input::check_part(from, to)?;
        digest::of_part(
            &*self.store,
            member.caller().user,
            member.chat(),
            from,
            to,
            block,
        )
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

    /// Says how far the caller has read; it never goes back. Gives what is left.
    ///
    /// # Errors
    /// The failure of a store.
    pub async fn mark_read(&self, member: &Member, seen: Seq) -> Result<ReadState> {
        let shares_seen = self.people.shares_seen(member.caller().user).await?;
        let act = Act::Mark {
            chat: member.chat(),
            delivered: seen,
            seen: Some(seen),
            shares_seen,
        };
        match self.write(member.caller(), act).await? {
            Done::Read(read) => Ok(read),
            _ => Err(unexpected()),
        }
    }

    /// Says what has reached a device of the caller. Chats that the caller is not in are left out.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for too many at once, or the failure of the store.
    pub async fn mark_delivered(&self, caller: &Caller, delivered: &[(ChatId, Seq)]) -> Result<()> {
        if delivered.len() > DELIVERIES_MAX {
            let problem = "must name at most 200 chats";
            return Err(errors::invalid_field(
                "delivered",
                "repeated.max_items",
                problem,
            ));
        }
        let marks = delivered.iter().map(|(chat, seq)| {
            let act = Act::Mark {
                chat: *chat,
                delivered: *seq,
                seen: None,
                shares_seen: false,
            };
            self.write(caller, act)
        });
        // At once, so that they go into one commit.
        for marked in futures::future::join_all(marks).await {
            match marked {
                Err(failure) if failure.reason() != "CHAT_NOT_FOUND" => return Err(failure),
                _ => {}
            }
        }
        Ok(())
    }

    /// How far the chat has reached its members: each in a small chat, counts for the message `seq` (0: for
    /// the newest event) in a large one.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn receipts(&self, member: &Member, seq: Seq) -> Result<Receipts> {
        let chat = self.store.chat(member.chat()).await?;
        let chat = chat.ok_or_else(errors::chat_not_found)?;
        let seq = if seq == 0 { chat.head } else { seq };
        if chat.kind == ChatKind::Channel {
            return Ok(Receipts::default());
        }
        let all = missed::receipts(&*self.store, &chat).await?;
        let others = all.into_iter().filter(|r| r.user != member.caller().user);
        let each: Vec<Receipt> = others.collect();
        let delivered = each.iter().filter(|r| r.delivered >= seq).count();
        let seen = each.iter().filter(|r| r.seen >= seq).count();
        Ok(Receipts {
            each: match chat.is_small(self.limits.receipts_members_max) {
                true => each,
                false => Vec::new(),
            },
            delivered,
            seen,
        })
    }

    /// Chooses what the caller wants of the chat.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, or the failure of the store.
    pub async fn choose(&self, member: &Member, settings: Settings) -> Result<()> {
        if settings.muted_until_ms < -1 {
            let problem = "must be a time, 0, or -1";
            return Err(errors::invalid_field(
                "settings.muted_until_ms",
                "int64.gte",
                problem,
            ));
        }
        let chat = member.chat();
        self.write(member.caller(), Act::Choose { chat, settings })
            .await
            .map(drop)
    }

    /// Keeps what the caller has begun to write; an empty text without a message to answer drops it. Gives
    /// the draft as it is kept.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, or the failure of the store.
    pub async fn keep_draft(
        &self,
        member: &Member,
        text: String,
        reply_to: Option<Seq>,
    ) -> Result<Option<Arc<Draft>>> {
        input::check_draft(&text)?;
        let is_empty = text.is_empty() && reply_to.is_none();
        let at_ms = self.clock.now_ms();
        let draft = Arc::new(Draft {
            text,
            reply_to,
            at_ms,
        });
        let draft = (!is_empty).then_some(draft);
        let act = Act::Draft {
            chat: member.chat(),
            draft: draft.clone(),
        };
        self.write(member.caller(), act).await?;
        Ok(draft)
    }

    /// What the caller missed since a cursor; it is what a device is told when it connects or catches up.
    ///
    /// # Errors
    /// The failure of the store. A cursor that is no cursor is not an error but a reset.
    pub async fn missed(&self, caller: &Caller, cursor: &[u8]) -> Result<Missed> {
        missed::missed(&*self.store, caller.user, cursor, self.limits).await
    }

    /// Where the caller's logs end that moved since a position; it is what a heartbeat tells.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn beat(&self, caller: &Caller, since: Position) -> Result<Beat> {
        let small_max = self.limits.receipts_members_max;
        missed::beat(&*self.store, caller.user, since, small_max).await
    }

    /// Where the logs of those of `chats` end that the caller is in.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn heads(&self, caller: &Caller, chats: &[ChatId]) -> Result<Vec<(ChatId, Seq)>> {
        let standings = self.store.standings(caller.user, chats).await?;
        Ok(standings.iter().map(|s| (s.chat.id, s.chat.head)).collect())
    }

    async fn write(&self, caller: &Caller, act: Act) -> Result<Done> {
        self.store.write(self.command(caller, act)).await
    }

    fn command(&self, caller: &Caller, act: Act) -> Command {
        self.command_at(self.clock.now_ms(), caller, act)
    }

    fn command_at(&self, at_ms: i64, caller: &Caller, act: Act) -> Command {
        Command {
            actor: caller.user,
            at_ms,
            act,
            limits: self.limits,
        }
    }

    async fn changed(&self, caller: &Caller, act: Act) -> Result<Option<Seq>> {
        match self.write(caller, act).await? {
            Done::Changed(seq) => Ok(seq),
            _ => Err(unexpected()),
        }
    }

    async fn chat_made(&self, caller: &Caller, act: Act) -> Result<Standing> {
        match self.write(caller, act).await? {
            Done::Chat(standing) => Ok(*standing),
            _ => Err(unexpected()),
        }
    }

    async fn check_exist(&self, users: &[UserId]) -> Result<()> {
        let there = self.people.existing(users).await?;
        match there.len() == users.len() {
            true => Ok(()),
            false => Err(errors::user_not_found()),
        }
    }
}

impl Chats {
    /// All members of a chat that has at most `most`; none of a larger one, and none of a channel.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn company(&self, chat: ChatId, most: usize) -> Result<Option<Arc<[UserId]>>> {
        Ok(match self.store.audience(chat).await? {
            Some(Audience::Pair(pair)) if most >= pair.len() => Some(Arc::new(pair)),
            Some(Audience::Members(members)) if members.len() <= most => Some(members),
            _ => None,
        })
    }
}

#[async_trait]
impl Members for Chats {
    async fn role(&self, chat: ChatId, user: UserId) -> Result<Option<(ChatKind, Role)>> {
        self.store.role(chat, user).await
    }
}

fn key(caller: &Caller, client_id: String) -> SendKey {
    SendKey {
        device: String::from(&*caller.device),
        client_message_id: client_id,
    }
}

/// A store answered something else than was asked for.
fn unexpected() -> Failure {
    errors::internal("a store answered another question")
}

#[cfg(test)]
mod tests;
