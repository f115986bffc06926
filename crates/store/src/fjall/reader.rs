//! The tables as they were after one commit. Whatever is read through the same reader is of the same moment:
//! an event that is there has its chat's head above it, and a message that was changed again while others
//! were read is still found where it stood.
//!
//! Without that a reader could see half of what belongs together.

use std::ops::{ControlFlow, Deref, RangeBounds};
use std::sync::Arc;

use ::fjall::Slice;
use tertulia_kit::error::Result;
use tertulia_services::chats::{Event, Membership, Seq, UserEvent};
use tertulia_services::ids::{ChatId, UserId};

use super::disk::{Disk, KeyValue, META_POSITION, Moment, Table};
use super::engine::read_number;
use crate::rows::codec::{self, Corrupt, Marks};
use crate::rows::index::{Look, Span, Visit};
use crate::rows::{Row, corrupt};

/// Reads.
pub struct Reader<'a> {
    pub disk: &'a Disk,
    pub at: Moment<'a>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(disk: &'a Disk) -> Self {
        let at = disk.moment();
        Reader { disk, at }
    }

    /// The position of the last commit.
    pub fn position(&self) -> Result<u64> {
        read_number(self.get(Table::Meta, META_POSITION.as_bytes())?)
    }

    /// How far a chat has got.
    pub fn marks(&self, id: ChatId) -> Result<Option<Marks>> {
        let bytes = self.chat_bytes(id)?;
        bytes
            .map(|bytes| codec::read_marks(&bytes).map_err(corrupt))
            .transpose()
    }

    /// Where a chat's log ends.
    pub fn head(&self, id: ChatId) -> Result<Option<Seq>> {
        Ok(self.marks(id)?.map(|marks| marks.head))
    }

    /// A chat with its last message. `known` is the same chat at some commit; when it has not moved, most of
    /// the work is saved.
    pub fn chat(&self, id: ChatId, known: Option<Row>) -> Result<Option<Row>> {
        let Some(bytes) = self.chat_bytes(id)? else {
            return Ok(None);
        };
        let marks = codec::read_marks(&bytes).map_err(corrupt)?;
        if let Some(known) = known
            && known.moved_at == marks.moved_at
        {
            let marked_at = marks.marked_at;
            return Ok(Some(Row { marked_at, ..known }));
        }
        let stored = codec::read_chat(&bytes, id).map_err(corrupt)?;
        let mut chat = stored.chat;
        if stored.last_message != 0 {
            let event = self.event(id, stored.last_message)?;
            let event = event.ok_or_else(|| corrupt(Corrupt("a chat without its last message")))?;
            chat.last_message = Some(Arc::new(event));
        }
        Ok(Some(Row {
            chat,
            moved_at: stored.moved_at,
            marked_at: stored.marked_at,
        }))
    }

    /// An event.
    pub fn event(&self, chat: ChatId, seq: Seq) -> Result<Option<Event>> {
        let bytes = self.event_bytes(chat, seq)?;
        let read = |bytes: Slice| codec::read_event(&bytes, chat, seq).map(|(_, event)| event);
        bytes.map(read).transpose().map_err(corrupt)
    }

    /// The commit of an event.
    pub fn event_position(&self, chat: ChatId, seq: Seq) -> Result<Option<u64>> {
        let bytes = self.event_bytes(chat, seq)?;
        let read = |bytes: Slice| codec::read_event_position(&bytes);
        bytes.map(read).transpose().map_err(corrupt)
    }

    /// The events of a chat from one seq to another, all of which are there.
    pub fn events(&self, chat: ChatId, from: Seq, to: Seq) -> Result<Vec<Arc<Event>>> {
        let read = |bytes: &[u8], seq| codec::read_event(bytes, chat, seq).map(|(_, event)| event);
        self.log(Table::Events, chat.0, from, to, read)
    }

    /// The events of a user's own log from one seq to another, all of which are there.
    pub fn user_events(&self, user: UserId, from: Seq, to: Seq) -> Result<Vec<Arc<UserEvent>>> {
        let read = |bytes: &[u8], seq| codec::read_user_event(bytes, user, seq);
        self.log(Table::UserEvents, user.0, from, to, read)
    }

    /// Adds the events up to a head that were committed after a position, oldest first; false, with some of
    /// them added, when that makes more than `limit`. Reads only what it adds, and one row more.
    pub fn events_since(
        &self,
        (chat, head): (ChatId, Seq),
        since: u64,
        limit: usize,
        all: &mut Vec<Arc<Event>>,
    ) -> Result<bool> {
        let first = all.len();
        let range = codec::two_key(chat.0, 1)..=codec::two_key(chat.0, head);
        let mut expected = head;
        for row in self.read(self.at.range_back(Table::Events, range)) {
            let (key, bytes) = row?;
            if codec::read_event_position(&bytes).map_err(corrupt)? <= since {
                break;
            }
            if all.len() == limit {
                return Ok(false);
            }
            let (_, seq) = codec::read_two_key(&key).map_err(corrupt)?;
            if seq != expected {
                return Err(corrupt(Corrupt("a log with a hole")));
            }
            expected -= 1;
            let (_, event) = codec::read_event(&bytes, chat, seq).map_err(corrupt)?;
            all.push(Arc::new(event));
        }
        all[first..].reverse();
        Ok(true)
    }

    /// What a chat is to somebody.
    pub fn membership(&self, chat: ChatId, user: UserId) -> Result<Option<Membership>> {
        let key = codec::two_key(chat.0, user.0);
        let bytes = self.get(Table::Memberships, &key)?;
        bytes
            .map(|bytes| codec::read_membership(&bytes).map_err(corrupt))
            .transpose()
    }

    /// The members of a chat with an id above `after`, by id, at most `limit`.
    pub fn members(
        &self,
        chat: ChatId,
        after: UserId,
        limit: usize,
    ) -> Result<Vec<(UserId, Membership)>> {
        let mut members = Vec::new();
        for row in self.member_rows(chat, after).take(limit) {
            let (key, bytes) = row?;
            let (_, user) = codec::read_two_key(&key).map_err(corrupt)?;
            let membership = codec::read_membership(&bytes).map_err(corrupt)?;
            members.push((UserId(user), membership));
        }
        Ok(members)
    }

    /// All members of a chat, by id.
    pub fn member_ids(&self, chat: ChatId) -> Result<Arc<[UserId]>> {
        // The first of all ids belongs to nobody.
        self.member_rows(chat, UserId(i64::MIN))
            .map(|row| {
                let (key, _) = row?;
                let (_, user) = codec::read_two_key(&key).map_err(corrupt)?;
                Ok(UserId(user))
            })
            .collect()
    }

    /// The seq of the newest event of a user's own log.
    pub fn user_head(&self, user: UserId) -> Result<Seq> {
        let key = codec::id_key(user.0);
        let bytes = self.get(Table::UserHeads, &key)?;
        bytes.map_or(Ok(0), |bytes| codec::read_head(&bytes).map_err(corrupt))
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>> {
        let found = self.at.get(table, key)?;
        self.disk.reads.asked.add(1);
        self.disk.reads.rows.add(u64::from(found.is_some()));
        Ok(found)
    }

    pub(super) fn range<K: AsRef<[u8]>>(
        &self,
        table: Table,
        range: impl RangeBounds<K>,
    ) -> impl Iterator<Item = Result<KeyValue>> {
        self.read(self.at.range(table, range))
    }

    /// Counts what is read.
    fn read(
        &self,
        rows: impl Iterator<Item = Result<KeyValue>>,
    ) -> impl Iterator<Item = Result<KeyValue>> {
        let reads = &self.disk.reads;
        reads.asked.add(1);
        rows.inspect(|_| reads.rows.add(1))
    }

    fn chat_bytes(&self, id: ChatId) -> Result<Option<Slice>> {
        let key = codec::id_key(id.0);
        self.get(Table::Chats, &key)
    }

    fn event_bytes(&self, chat: ChatId, seq: Seq) -> Result<Option<Slice>> {
        let key = codec::two_key(chat.0, seq);
        self.get(Table::Events, &key)
    }

    fn member_rows(&self, chat: ChatId, after: UserId) -> impl Iterator<Item = Result<KeyValue>> {
        use std::ops::Bound::{Excluded, Included};
        let after = Excluded(codec::two_key(chat.0, after.0));
        let last = Included(codec::two_key(chat.0, i64::MAX));
        self.range(Table::Memberships, (after, last))
    }

    /// Rows of a log from one seq to another. A row that is not there is a fault, never a shorter answer.
    fn log<T>(
        &self,
        table: Table,
        id: i64,
        from: Seq,
        to: Seq,
        read: impl Fn(&[u8], Seq) -> Result<T, Corrupt>,
    ) -> Result<Vec<Arc<T>>> {
        if from > to {
            return Ok(Vec::new());
        }
        let mut events = Vec::with_capacity(usize::try_from(to - from + 1).unwrap_or(0));
        let mut expected = from;
        let range = codec::two_key(id, from)..=codec::two_key(id, to);
        for row in self.range(table, range) {
            let (key, bytes) = row?;
            let (_, seq) = codec::read_two_key(&key).map_err(corrupt)?;
            if seq != expected {
                break;
            }
            events.push(Arc::new(read(&bytes, seq).map_err(corrupt)?));
            expected += 1;
        }
        if expected != to + 1 {
            return Err(corrupt(Corrupt("a log with a hole")));
        }
        Ok(events)
    }
}

impl Look for Reader<'_> {
    fn find(&self, key: &[u8]) -> Result<Option<impl Deref<Target = [u8]>>> {
        self.get(Table::Index, key)
    }

    fn walk(&self, span: &Span, visit: &mut Visit<'_>) -> Result<()> {
        for row in self.range(Table::Index, span.range()) {
            let (key, value) = row?;
            if let ControlFlow::Break(()) = visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }
}
