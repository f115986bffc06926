//! A store whose reads of standings and of what moved wait while it is stalled.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tertulia_kit::error::Result;
use tertulia_services::chats::memory::Memory;
use tertulia_services::chats::*;
use tertulia_services::ids::{ChatId, UserId};
use tokio::sync::watch;

/// What a store does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Running,
    Stalled,
    /// Stalled, and somebody waits.
    Waited,
}

pub struct Stalled {
    inner: Arc<Memory>,
    mood: watch::Sender<Mood>,
    /// Whose memberships are not there any more.
    forgotten: Mutex<Option<UserId>>,
}

impl Stalled {
    pub fn new(inner: Arc<Memory>) -> Arc<Self> {
        Arc::new(Stalled {
            inner,
            mood: watch::Sender::new(Mood::Running),
            forgotten: Mutex::default(),
        })
    }

    pub fn stall(&self) {
        self.mood.send_replace(Mood::Stalled);
    }

    pub fn go_on(&self) {
        self.mood.send_replace(Mood::Running);
    }

    /// Comes back when somebody waits for a read.
    pub async fn waits(&self) {
        let mut mood = self.mood.subscribe();
        let waited = mood.wait_for(|mood| *mood == Mood::Waited);
        let waited = tokio::time::timeout(super::PATIENCE, waited).await;
        drop(waited.unwrap().unwrap());
    }

    /// Somebody is in no chat any more, and nobody is told.
    pub fn forget(&self, user: UserId) {
        *self.forgotten.lock() = Some(user);
    }

    async fn turn(&self) {
        if *self.mood.borrow() != Mood::Running {
            self.mood.send_replace(Mood::Waited);
            let mut mood = self.mood.subscribe();
            drop(mood.wait_for(|mood| *mood == Mood::Running).await);
        }
    }
}

#[async_trait]
impl ChatStore for Stalled {
    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }

    async fn write(&self, command: Command) -> Result<Done> {
        self.inner.write(command).await
    }

    async fn chat(&self, id: ChatId) -> Result<Option<Chat>> {
        self.inner.chat(id).await
    }

    async fn role(&self, chat: ChatId, user: UserId) -> Result<Option<(ChatKind, Role)>> {
        let is_forgotten = *self.forgotten.lock() == Some(user);
        match is_forgotten {
            true => Ok(None),
            false => self.inner.role(chat, user).await,
        }
    }

    async fn standings(&self, user: UserId, chats: &[ChatId]) -> Result<Vec<Standing>> {
        self.turn().await;
        self.inner.standings(user, chats).await
    }

    async fn audience(&self, chat: ChatId) -> Result<Option<Audience>> {
        self.inner.audience(chat).await
    }

    async fn events_after(&self, chat: ChatId, after: Seq, limit: usize) -> Result<Page<Event>> {
        self.inner.events_after(chat, after, limit).await
    }

    async fn events_before(&self, chat: ChatId, before: Seq, limit: usize) -> Result<Page<Event>> {
        self.inner.events_before(chat, before, limit).await
    }

    async fn events_at(&self, chat: ChatId, seqs: &[Seq]) -> Result<Page<Event>> {
        self.inner.events_at(chat, seqs).await
    }

    async fn changes(
        &self,
        chat: ChatId,
        part: RangeInclusive<Seq>,
        after: Seq,
        limit: usize,
    ) -> Result<Changes> {
        self.inner.changes(chat, part, after, limit).await
    }

    async fn thread(
        &self,
        chat: ChatId,
        thread: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<Page<Event>> {
        self.inner.thread(chat, thread, after, limit).await
    }

    async fn user_events_after(
        &self,
        user: UserId,
        after: Seq,
        limit: usize,
    ) -> Result<Page<UserEvent>> {
        self.inner.user_events_after(user, after, limit).await
    }

    async fn chats_of(
        &self,
        user: UserId,
        places: Range<ListPlace>,
        limit: usize,
    ) -> Result<Vec<(ListPlace, Chat)>> {
        self.inner.chats_of(user, places, limit).await
    }

    async fn moved_since(&self, user: UserId, since: Position) -> Result<Option<Moved>> {
        self.turn().await;
        self.inner.moved_since(user, since).await
    }

    async fn events_since(
        &self,
        chats: &[Chat],
        since: Position,
        limit: usize,
    ) -> Result<Option<Vec<Arc<Event>>>> {
        self.inner.events_since(chats, since, limit).await
    }

    async fn position(&self) -> Result<Position> {
        self.inner.position().await
    }

    async fn mine(&self, user: UserId, chat: ChatId, messages: &[Seq]) -> Result<Mine> {
        self.inner.mine(user, chat, messages).await
    }

    async fn reactions(
        &self,
        chat: ChatId,
        message: Seq,
        limit: usize,
    ) -> Result<Vec<(String, UserId)>> {
        self.inner.reactions(chat, message, limit).await
    }

    async fn members(
        &self,
        chat: ChatId,
        after: UserId,
        limit: usize,
    ) -> Result<Vec<(UserId, Membership)>> {
        self.inner.members(chat, after, limit).await
    }

    async fn banned(&self, chat: ChatId, after: UserId, limit: usize) -> Result<Vec<UserId>> {
        self.inner.banned(chat, after, limit).await
    }

    async fn invites(&self, chat: ChatId) -> Result<Vec<Invite>> {
        self.inner.invites(chat).await
    }

    async fn invite(&self, code: &str) -> Result<Option<Invite>> {
        self.inner.invite(code).await
    }

    async fn scheduled(&self, user: UserId) -> Result<Vec<Scheduled>> {
        self.inner.scheduled(user).await
    }

    async fn due(&self, now_ms: i64, limit: usize) -> Result<Due> {
        self.inner.due(now_ms, limit).await
    }
}
