//! The port of the store: a write goes into the queue, a read to the logs, and both fail or take their time as
//! the plan says. The sabotages of the store are made here.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use async_trait::async_trait;
use tertulia_kit::error::Result;
use tertulia_services::chats::{
    Act, Audience, Changes, Chat, ChatKind, ChatStore, Command, Done, Due, Epoch, Event, EventBody,
    Invite, ListPlace, Membership, Mine, Moved, Page, Position, Role, Scheduled, Sent, Seq,
    Standing, UserEvent,
};
use tertulia_services::ids::{ChatId, UserId};

use super::Store;
use crate::simulation::sabotage::Sabotage;

#[async_trait]
impl ChatStore for Store {
    fn epoch(&self) -> Epoch {
        self.logs().epoch()
    }

    async fn write(&self, command: Command) -> Result<Done> {
        if self.world.plan.sabotage == Some(Sabotage::AcksBeforeCommit)
            && let Act::Send(new) = &command.act
            && !self.knows_key(command.actor, new)
            && let Some(chat) = self.logs().chat(new.chat).await?
        {
            let sent = Sent {
                seq: chat.head + self.waiting_for(new.chat) as Seq + 1,
                id: new.id,
                at_ms: command.at_ms,
                repeat: false,
            };
            self.queue(command, None);
            return Ok(Done::Sent(sent));
        }
        self.enter(command).await
    }

    async fn chat(&self, id: ChatId) -> Result<Option<Chat>> {
        self.read().await?.chat(id).await
    }

    async fn role(&self, chat: ChatId, user: UserId) -> Result<Option<(ChatKind, Role)>> {
        self.read().await?.role(chat, user).await
    }

    async fn standings(&self, user: UserId, chats: &[ChatId]) -> Result<Vec<Standing>> {
        self.read().await?.standings(user, chats).await
    }

    async fn audience(&self, chat: ChatId) -> Result<Option<Audience>> {
        self.read().await?.audience(chat).await
    }

    async fn events_after(&self, chat: ChatId, after: Seq, limit: usize) -> Result<Page<Event>> {
        self.read().await?.events_after(chat, after, limit).await
    }

    async fn events_before(&self, chat: ChatId, before: Seq, limit: usize) -> Result<Page<Event>> {
        self.read().await?.events_before(chat, before, limit).await
    }

    async fn events_at(&self, chat: ChatId, seqs: &[Seq]) -> Result<Page<Event>> {
        self.read().await?.events_at(chat, seqs).await
    }

    async fn changes(
        &self,
        chat: ChatId,
        part: RangeInclusive<Seq>,
        after: Seq,
        limit: usize,
    ) -> Result<Changes> {
        self.read().await?.changes(chat, part, after, limit).await
    }

    async fn thread(
        &self,
        chat: ChatId,
        thread: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<Page<Event>> {
        self.read().await?.thread(chat, thread, after, limit).await
    }

    async fn user_events_after(
        &self,
        user: UserId,
        after: Seq,
        limit: usize,
    ) -> Result<Page<UserEvent>> {
        let logs = self.read().await?;
        logs.user_events_after(user, after, limit).await
    }

    async fn chats_of(
        &self,
        user: UserId,
        places: Range<ListPlace>,
        limit: usize,
    ) -> Result<Vec<(ListPlace, Chat)>> {
        let logs = self.read().await?;
        logs.chats_of(user, places, limit).await
    }

    async fn moved_since(&self, user: UserId, since: Position) -> Result<Option<Moved>> {
        let mut moved = self.read().await?.moved_since(user, since).await?;
        if let (Some(moved), Some(Sabotage::HidesAHead)) = (&mut moved, self.world.plan.sabotage)
            && self.world.hits(300)
        {
            moved.chats.pop();
        }
        Ok(moved)
    }

    async fn events_since(
        &self,
        chats: &[Chat],
        since: Position,
        limit: usize,
    ) -> Result<Option<Vec<Arc<Event>>>> {
        let logs = self.read().await?;
        let limit = limit.min(self.world.plan.delta_events_max);
        let mut events = logs.events_since(chats, since, limit).await?;
        if let Some(events) = &mut events {
            self.sabotage(events);
        }
        Ok(events)
    }

    async fn position(&self) -> Result<Position> {
        self.read().await?.position().await
    }

    async fn mine(&self, user: UserId, chat: ChatId, messages: &[Seq]) -> Result<Mine> {
        self.read().await?.mine(user, chat, messages).await
    }

    async fn reactions(
        &self,
        chat: ChatId,
        message: Seq,
        limit: usize,
    ) -> Result<Vec<(String, UserId)>> {
        self.read().await?.reactions(chat, message, limit).await
    }

    async fn members(
        &self,
        chat: ChatId,
        after: UserId,
        limit: usize,
    ) -> Result<Vec<(UserId, Membership)>> {
        self.read().await?.members(chat, after, limit).await
    }

    async fn banned(&self, chat: ChatId, after: UserId, limit: usize) -> Result<Vec<UserId>> {
        self.read().await?.banned(chat, after, limit).await
    }

    async fn invites(&self, chat: ChatId) -> Result<Vec<Invite>> {
        self.read().await?.invites(chat).await
    }

    async fn invite(&self, code: &str) -> Result<Option<Invite>> {
        self.read().await?.invite(code).await
    }

    async fn scheduled(&self, user: UserId) -> Result<Vec<Scheduled>> {
        self.read().await?.scheduled(user).await
    }

    async fn due(&self, now_ms: i64, limit: usize) -> Result<Due> {
        self.read().await?.due(now_ms, limit).await
    }
}

impl Store {
    /// What becomes of events that were missed.
    fn sabotage(&self, missed: &mut Vec<Arc<Event>>) {
        match self.world.plan.sabotage {
            Some(Sabotage::DropsAMissedEvent) if missed.len() > 1 && self.world.hits(300) => {
                missed.remove(self.world.pick(missed.len()));
            }
            Some(Sabotage::ForgetsReactions) => {
                for event in missed {
                    if let EventBody::Message(message) = &mut Arc::make_mut(event).body {
                        message.reactions.clear();
                    }
                }
            }
            _ => {}
        }
    }
}
