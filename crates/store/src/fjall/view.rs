//! Where decisions and reads look: the writer under its round at the caches over the disk, readers at the disk at
//! one commit.

use std::ops::Deref;
use std::sync::Arc;

use tertulia_kit::error::Result;
use tertulia_services::chats::decide::Used;
use tertulia_services::chats::{Chat, Event, Membership, SendKey, Seq};
use tertulia_services::ids::{ChatId, UserId};

use super::reader::Reader;
use super::{Sabotage, Shared};
use crate::rows::codec::{self, SendHash};
use crate::rows::index::{Look, Span, Visit};
use crate::rows::view::{Rows, Seen};
use crate::rows::{Below, Row};

/// What the writer's rounds stand on: the caches over the disk.
pub struct Under<'a> {
    pub shared: &'a Shared,
    pub reader: &'a Reader<'a>,
    /// Of the round.
    pub position: u64,
}

impl Below for Under<'_> {
    fn row(&self, id: ChatId) -> Result<Option<Row>> {
        let mut row = self.shared.row(id)?;
        if self.shared.sabotage == Some(Sabotage::ReuseSeq)
            && self.position.is_multiple_of(20)
            && let Some(row) = &mut row
        {
            row.chat.head = (row.chat.head - 1).max(0);
        }
        Ok(row)
    }

    fn membership(&self, chat: ChatId, user: UserId) -> Result<Option<Membership>> {
        self.shared.membership(chat, user)
    }

    fn event(&self, chat: ChatId, seq: Seq) -> Result<Option<Arc<Event>>> {
        Ok(self.reader.event(chat, seq)?.map(Arc::new))
    }

    fn event_position(&self, chat: ChatId, seq: Seq) -> Result<Option<u64>> {
        self.reader.event_position(chat, seq)
    }

    fn used(&self, hash: &SendHash) -> Result<Option<Used>> {
        if self.shared.sabotage == Some(Sabotage::ForgetIdempotency) {
            return Ok(None);
        }
        self.shared.send_keys.find(hash)
    }

    fn own_head(&self, user: UserId) -> Result<Seq> {
        self.shared.user_head(user)
    }

    fn members(&self, chat: ChatId) -> Result<Arc<[UserId]>> {
        self.shared.members(chat)
    }
}

impl Look for Under<'_> {
    fn find(&self, key: &[u8]) -> Result<Option<impl Deref<Target = [u8]>>> {
        self.reader.find(key)
    }

    fn walk(&self, span: &Span, visit: &mut Visit<'_>) -> Result<()> {
        self.reader.walk(span, visit)
    }
}

/// The rows at one commit, for readers.
pub struct AtOnce<'a> {
    shared: &'a Shared,
    reader: Reader<'a>,
}

/// What is committed now.
pub fn now(shared: &Shared) -> Seen<AtOnce<'_>> {
    let reader = shared.disk.reader();
    Seen(AtOnce { shared, reader })
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
