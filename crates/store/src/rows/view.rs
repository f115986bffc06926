//! What decisions see. In a commit that is the round over what was committed before; for readers it is what
//! was committed, at one commit. Nothing is decided here.

use std::sync::Arc;

use tertulia_kit::error::Result;
use tertulia_services::chats::decide::{ReactionKey, Used, View};
use tertulia_services::chats::{
    Chat, Event, Invite, Membership, Pair, Role, Scheduled, SendKey, Seq,
};
use tertulia_services::ids::{ChatId, ScheduledId, UserId};

use super::Below;
use super::index::{self, Look};
use super::round::Round;

/// The large rows, and where the small ones are looked up.
pub trait Rows {
    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>>;
    fn membership(&mut self, chat: ChatId, user: UserId) -> Result<Option<Membership>>;
    fn event(&mut self, chat: ChatId, seq: Seq) -> Result<Option<Arc<Event>>>;
    fn used(&mut self, user: UserId, key: &SendKey) -> Result<Option<Used>>;
    fn own_head(&mut self, user: UserId) -> Result<Seq>;
    fn index(&self) -> impl Look + '_;
}

/// The rows as decisions ask for them.
pub struct Seen<R>(pub R);

/// The rows that the decisions of a round see: what it has written, over what was committed.
pub struct Ahead<'a, B> {
    pub below: &'a B,
    pub round: &'a mut Round,
}

impl<B: Below> Rows for Ahead<'_, B> {
    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>> {
        self.round.chat(self.below, id)
    }

    fn membership(&mut self, chat: ChatId, user: UserId) -> Result<Option<Membership>> {
        self.round.membership(self.below, chat, user)
    }

    fn event(&mut self, chat: ChatId, seq: Seq) -> Result<Option<Arc<Event>>> {
        match self.round.event(chat, seq) {
            Some(event) => Ok(Some(event)),
            None => self.below.event(chat, seq),
        }
    }

    fn used(&mut self, user: UserId, key: &SendKey) -> Result<Option<Used>> {
        self.round.used(self.below, user, key)
    }

    fn own_head(&mut self, user: UserId) -> Result<Seq> {
        match self.round.own_head(user) {
            Some(head) => Ok(head),
            None => self.below.own_head(user),
        }
    }

    fn index(&self) -> impl Look + '_ {
        self.round.index(self.below)
    }
}

impl<R: Rows> View for Seen<R> {
    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>> {
        self.0.chat(id)
    }

    fn direct(&mut self, pair: Pair) -> Result<Option<ChatId>> {
        index::direct(&self.0.index(), pair)
    }

    fn membership(&mut self, chat: ChatId, user: UserId) -> Result<Option<Membership>> {
        self.0.membership(chat, user)
    }

    fn banned(&mut self, chat: ChatId, user: UserId) -> Result<bool> {
        index::banned(&self.0.index(), chat, user)
    }

    fn event(&mut self, chat: ChatId, seq: Seq) -> Result<Option<Arc<Event>>> {
        self.0.event(chat, seq)
    }

    fn used(&mut self, user: UserId, key: &SendKey) -> Result<Option<Used>> {
        self.0.used(user, key)
    }

    fn own_head(&mut self, user: UserId) -> Result<Seq> {
        self.0.own_head(user)
    }

    fn reacted(&mut self, reaction: &ReactionKey) -> Result<bool> {
        index::reacted(&self.0.index(), reaction)
    }

    fn hidden(&mut self, user: UserId, chat: ChatId, message: Seq) -> Result<bool> {
        index::hidden(&self.0.index(), user, chat, message)
    }

    fn invite(&mut self, code: &str) -> Result<Option<Invite>> {
        index::invite(&self.0.index(), code)
    }

    fn invites_of(&mut self, chat: ChatId) -> Result<Vec<Invite>> {
        index::invites_of(&self.0.index(), chat)
    }

    fn scheduled(&mut self, id: ScheduledId) -> Result<Option<Scheduled>> {
        index::scheduled(&self.0.index(), id)
    }

    fn scheduled_count(&mut self, user: UserId) -> Result<usize> {
        Ok(index::scheduled_of(&self.0.index(), user)?.len())
    }

    fn deleted_after(&mut self, chat: ChatId, after: Seq) -> Result<i64> {
        index::deleted_after(&self.0.index(), chat, after)
    }

    fn mentions_after(
        &mut self,
        user: UserId,
        chat: ChatId,
        after: Seq,
        max: usize,
    ) -> Result<Vec<Seq>> {
        index::mentions_after(&self.0.index(), user, chat, after, max)
    }

    fn calls_after(
        &mut self,
        chat: ChatId,
        role: Role,
        after: Seq,
        max: usize,
    ) -> Result<Vec<Seq>> {
        index::calls_after(&self.0.index(), chat, role, after, max)
    }
}
