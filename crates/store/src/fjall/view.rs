//! What decisions see. In the writer that is the round over the caches over the disk; for readers it is the
//! disk at one commit. Nothing is decided here.

use std::sync::Arc;

use tertulia_kit::error::Result;
use tertulia_services::chats::decide::{ReactionKey, Used, View};
use tertulia_services::chats::{
    Chat, Event, Invite, Membership, Pair, Role, Scheduled, SendKey, Seq,
};
use tertulia_services::ids::{ChatId, ScheduledId, UserId};

use super::codec;
use super::index::{self, Look};
use super::reader::Reader;
use super::round::Round;
use super::{Sabotage, Shared};

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

/// The rows that the writer's decisions see.
pub struct Ahead<'a> {
    pub shared: &'a Shared,
    pub reader: &'a Reader<'a>,
    pub round: &'a mut Round,
}

impl Rows for Ahead<'_> {
    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>> {
        let mut chat = self.round.chat(self.shared, id)?;
        if self.shared.sabotage == Some(Sabotage::ReuseSeq)
            && self.round.position.is_multiple_of(20)
            && let Some(chat) = &mut chat
        {
            chat.head = (chat.head - 1).max(0);
        }
        Ok(chat)
    }

    fn membership(&mut self, chat: ChatId, user: UserId) -> Result<Option<Membership>> {
        self.round.membership(self.shared, chat, user)
    }

    fn event(&mut self, chat: ChatId, seq: Seq) -> Result<Option<Arc<Event>>> {
        match self.round.event(chat, seq) {
            Some(event) => Ok(Some(event)),
            None => Ok(self.reader.event(chat, seq)?.map(Arc::new)),
        }
    }

    fn used(&mut self, user: UserId, key: &SendKey) -> Result<Option<Used>> {
        if self.shared.sabotage == Some(Sabotage::ForgetIdempotency) {
            return Ok(None);
        }
        self.round.used(self.shared, user, key)
    }

    fn own_head(&mut self, user: UserId) -> Result<Seq> {
        match self.round.own_head(user) {
            Some(head) => Ok(head),
            None => self.shared.user_head(user),
        }
    }

    fn index(&self) -> impl Look + '_ {
        self.round.index(self.reader)
    }
}

/// The rows at one commit, for readers.
pub struct AtOnce<'a> {
    shared: &'a Shared,
    reader: Reader<'a>,
}

impl<'a> Seen<AtOnce<'a>> {
    /// What is committed now.
    pub fn now(shared: &'a Shared) -> Self {
        let reader = shared.disk.reader();
        Seen(AtOnce { shared, reader })
    }
}

impl Rows for AtOnce<'_> {
    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>> {
        let row = self.reader.chat(id, self.shared.chats.get(id))?;
        Ok(row.map(|row| row.chat))
    }

    fn membership(&mut self, chat: ChatId, user: UserId) -> Result<Option<Membership>> {
        self.reader.membership(chat, user)
    }

    fn event(&mut self, chat: ChatId, seq: Seq) -> Result<Option<Arc<Event>>> {
        Ok(self.reader.event(chat, seq)?.map(Arc::new))
    }

    fn used(&mut self, user: UserId, key: &SendKey) -> Result<Option<Used>> {
        self.shared.send_keys.find(&codec::send_hash(user, key))
    }

    fn own_head(&mut self, user: UserId) -> Result<Seq> {
        self.reader.user_head(user)
    }

    fn index(&self) -> impl Look + '_ {
        &self.reader
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
