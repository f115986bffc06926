//! What chats need: a store of logs, somebody to tell what was committed and what is going on, and answers about
//! people.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use async_trait::async_trait;
use tertulia_kit::error::Result;

use super::command::{Command, Done};
use super::model::*;
use crate::ids::{ChatId, ScheduledId, UserId};

/// For how long at least a [`SendKey`] is remembered.
pub const SEND_KEYS_KEPT_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// Keeps the logs of chats and of users, and what belongs to them. The log is the truth: whatever else is told
/// live is a hint.
///
/// Every method fails with `STORE_UNAVAILABLE` when the engine does, and `write` with `OVERLOADED` when too many
/// writers wait; after `OVERLOADED`, and after a refusal of [`decide`](super::decide::decide), nothing was
/// written. After any other failure of a write the outcome is unknown, and the same command again is the way
/// to learn it.
///
/// A read begins after everything that was committed before it was called, and sees commits whole.
#[async_trait]
pub trait ChatStore: Send + Sync + 'static {
    /// The history that this store holds; the same for its whole life.
    fn epoch(&self) -> Epoch;

    /// Decides a command by [`decide`](super::decide::decide) and commits what it comes to, as one and in
    /// an order with all others: each sees what those before it have written. When this returns, it is on
    /// disk. Commands about one chat that are called one after the other are committed in that order.
    async fn write(&self, command: Command) -> Result<Done>;

    /// Writes commands in the order given, each by itself, and gives what each came to in the same order: the
    /// same as one `write` after the other, for the price of one in a store that can take them together.
    async fn write_all(&self, commands: Vec<Command>) -> Vec<Result<Done>> {
        let mut done = Vec::with_capacity(commands.len());
        for command in commands {
            done.push(self.write(command).await);
        }
        done
    }

    /// The chat, if there is one.
    async fn chat(&self, id: ChatId) -> Result<Option<Chat>>;

    /// What kind the chat is and as what a user is in it; none when there is no such chat or the user is not
    /// in it. Asked at every call about a chat, so it is cheap.
    async fn role(&self, chat: ChatId, user: UserId) -> Result<Option<(ChatKind, Role)>>;

    /// The chats of these that the user is in, as the user sees them, in the order given.
    async fn standings(&self, user: UserId, chats: &[ChatId]) -> Result<Vec<Standing>>;

    /// Who should hear of something in the chat now; none when there is no such chat.
    async fn audience(&self, chat: ChatId) -> Result<Option<Audience>>;

    /// Events of a chat after a seq, oldest first, without holes, at most `limit`; with the chat's head,
    /// which is at or above the last one. The messages hold every change up to the head. An unknown chat
    /// has an empty log.
    async fn events_after(&self, chat: ChatId, after: Seq, limit: usize) -> Result<Page<Event>>;

    /// Events of a chat before a seq (0: from the end), the nearest `limit` of them, oldest first, without
    /// holes.
    async fn events_before(&self, chat: ChatId, before: Seq, limit: usize) -> Result<Page<Event>>;

    /// The events of a chat with these seqs that there are, in the order of the log.
    async fn events_at(&self, chat: ChatId, seqs: &[Seq]) -> Result<Page<Event>>;

    /// The messages with a seq in `part` that were changed after `after`: by their latest change, and those
    /// that one event changed by their seq. At least one, if there are any, and at most `limit`; but what one
    /// event changed is never divided, so that there may be up to 99 more (a deletion names 100 messages).
    /// Costs what was changed, however long the log is. An unknown chat has no changes.
    async fn changes(
        &self,
        chat: ChatId,
        part: RangeInclusive<Seq>,
        after: Seq,
        limit: usize,
    ) -> Result<Changes>;

    /// The messages of a thread after a seq, oldest first, at most `limit`.
    async fn thread(
        &self,
        chat: ChatId,
        thread: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<Page<Event>>;

    /// Events of a user's own log after a seq, oldest first, without holes, at most `limit`.
    async fn user_events_after(
        &self,
        user: UserId,
        after: Seq,
        limit: usize,
    ) -> Result<Page<UserEvent>>;

    /// The chats that a user is in with a place from the start of `places` on and before its end, the highest first, at
    /// most `limit`, as they are at one commit. Costs what it gives, however many chats the user has.
    ///
    /// A store that others write as well may give a chat at another place than its own, where they have left it; never
    /// twice in one answer, and never without it once it was written by this version.
    async fn chats_of(
        &self,
        user: UserId,
        places: Range<ListPlace>,
        limit: usize,
    ) -> Result<Vec<(ListPlace, Chat)>>;

    /// The user's chats in which something was committed after `since`, in no order; those of them in which
    /// receipts have moved are named beside them. What is true of the answer is true for its position:
    /// everything that was committed up to that position is covered; what was committed later still may be
    /// in it or not. A position from the future of this store (it lost its tail, or the position was forged)
    /// gives `None`.
    async fn moved_since(&self, user: UserId, since: Position) -> Result<Option<Moved>>;

    /// The events of these chats that were committed after `since`, each chat's up to the head that it has
    /// here: of one chat oldest first and without holes, the chats in the order given. `None` when there are
    /// more than `limit`. Costs what it gives, however long the logs are.
    async fn events_since(
        &self,
        chats: &[Chat],
        since: Position,
        limit: usize,
    ) -> Result<Option<Vec<Arc<Event>>>>;

    /// The position now. It never goes back.
    async fn position(&self) -> Result<Position>;

    /// Which of these messages the user has reacted to or deleted for themselves.
    async fn mine(&self, user: UserId, chat: ChatId, messages: &[Seq]) -> Result<Mine>;

    /// Who gave which reaction to a message, by emoji and then by user, at most `limit`.
    async fn reactions(
        &self,
        chat: ChatId,
        message: Seq,
        limit: usize,
    ) -> Result<Vec<(String, UserId)>>;

    /// The members of a chat with an id above `after`, by id, at most `limit`.
    async fn members(
        &self,
        chat: ChatId,
        after: UserId,
        limit: usize,
    ) -> Result<Vec<(UserId, Membership)>>;

    /// Who is kept out of a chat with an id above `after`, by id, at most `limit`.
    async fn banned(&self, chat: ChatId, after: UserId, limit: usize) -> Result<Vec<UserId>>;

    /// All invites of a chat, in no order.
    async fn invites(&self, chat: ChatId) -> Result<Vec<Invite>>;

    /// An invite, open or not.
    async fn invite(&self, code: &str) -> Result<Option<Invite>>;

    /// The messages that a user has scheduled, in no order.
    async fn scheduled(&self, user: UserId) -> Result<Vec<Scheduled>>;

    /// What has come due at `now_ms`: messages to be deleted and messages to be sent, those that have waited
    /// longest first, at most `limit` of each.
    async fn due(&self, now_ms: i64, limit: usize) -> Result<Due>;
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Oldest first.
    pub events: Vec<Arc<T>>,
    /// Where the log ends.
    pub head: Seq,
}

impl<T> Default for Page<T> {
    /// Of an empty log.
    fn default() -> Self {
        Page {
            events: Vec::new(),
            head: 0,
        }
    }
}

/// Changed messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// As they are now.
    pub events: Vec<Arc<Event>>,
    /// All changes of the part up to here are in the answer: the latest change of its last message, or the
    /// chat's head when there are no more.
    pub through: Seq,
    /// There are changes after that which were known when the answer was made.
    pub more: bool,
}

/// What moved for a user.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The chats in which there are new events.
    pub chats: Vec<Chat>,
    /// The small chats in which receipts have moved.
    pub receipts: Vec<ChatId>,
    /// Where the user's own log ends.
    pub own_head: Seq,
    /// What this is true for.
    pub position: Position,
}

/// What some messages are to one user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mine {
    /// The user's reactions, by message and then by emoji.
    pub reactions: Vec<(Seq, String)>,
    /// Those that the user has deleted for themselves, in the order of the log.
    pub hidden: Vec<Seq>,
}

/// What has come due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// Messages to be deleted.
    pub expired: Vec<(ChatId, Seq)>,
    /// Messages to be sent.
    pub scheduled: Vec<ScheduledId>,
}

/// Hears what was committed, from the store: after the commit and in the order of the commits. Whether the
/// writer's own answer comes before is not promised. It must not wait for long, because the store holds
/// back further writes when much is untold.
pub trait Committed: Send + Sync + 'static {
    /// These facts are on disk.
    fn committed(&self, facts: Vec<Fact>);
}

/// Hears what is going on and is not kept. May drop it.
pub trait Signals: Send + Sync + 'static {
    /// Somebody is typing in a chat.
    fn typing(&self, chat: ChatId, user: UserId, audience: &Audience);
}

/// Answers about people.
#[async_trait]
pub trait People: Send + Sync + 'static {
    /// Those of `users` that exist, each once, in the order given.
    async fn existing(&self, users: &[UserId]) -> Result<Vec<UserId>>;

    /// Whether a user lets others know what they have seen.
    async fn shares_seen(&self, user: UserId) -> Result<bool>;
}
