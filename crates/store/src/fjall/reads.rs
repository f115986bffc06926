//! The port. What has to be true together is read through one reader, at one commit; what is a single row is
//! taken from the caches, which are never behind the position.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tertulia_kit::error::Result;
use tertulia_services::chats::decide::{self, View as _};
use tertulia_services::chats::{
    Act, Audience, Changes, Chat, ChatKind, ChatStore, Command, Done, Due, Epoch, Event,
    INVITES_MAX, Invite, ListPlace, Membership, Mine, Moved, Page, Pair, Position, Role,
    SCHEDULED_MAX, Scheduled, Seq, Standing, UserEvent,
};
use tertulia_services::errors;
use tertulia_services::ids::{ChatId, UserId};

use super::shared::Shared;
use super::view;
use super::{ChatLog, INLINE_ROWS_MAX, Sabotage, gone};
use crate::rows::codec::Corrupt;
use crate::rows::reads::{changes, rows, scheduled, span_after, span_before, thread};
use crate::rows::{Row, corrupt, index};

/// How many rows a standing takes.
const STANDING_ROWS: usize = 4;

impl ChatLog {
    /// Reads `rows` rows or so where it is best done.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        rows: usize,
        read: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if rows <= INLINE_ROWS_MAX {
            return read(&self.shared);
        }
        let place = Arc::clone(&self.long_reads)
            .acquire_owned()
            .await
            .map_err(errors::internal)?;
        let shared = Arc::clone(&self.shared);
        let reading = move || {
            let answer = read(&shared);
            // Before the answer is there, so that whoever closes the store next finds it free.
            drop((shared, place));
            answer
        };
        tokio::task::spawn_blocking(reading)
            .await
            .map_err(errors::internal)?
    }
}

#[async_trait]
impl ChatStore for ChatLog {
    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    async fn write(&self, command: Command) -> Result<Done> {
        // A direct chat is there forever, so nobody need wait for the writer to open one again.
        if let Act::OpenDirect { pair, .. } = command.act
            && let Some(standing) = there_already(&self.shared, pair, command.actor)?
        {
            return Ok(Done::Chat(Box::new(standing)));
        }
        let mut done = self.submit(vec![command]).await;
        done.pop().unwrap_or_else(|| Err(gone()))
    }

    async fn write_all(&self, commands: Vec<Command>) -> Vec<Result<Done>> {
        self.submit(commands).await
    }

    async fn chat(&self, id: ChatId) -> Result<Option<Chat>> {
        Ok(self.shared.row(id)?.map(|row| row.chat))
    }

    async fn role(&self, chat: ChatId, user: UserId) -> Result<Option<(ChatKind, Role)>> {
        let Some(row) = self.shared.row(chat)? else {
            return Ok(None);
        };
        let kind = row.chat.kind;
        let role = match kind {
            // The two are in it forever, and as nothing else.
            ChatKind::Direct(pair) => pair.has(user).then_some(Role::Member),
            ChatKind::Group | ChatKind::Channel => {
                let membership = self.shared.membership(chat, user)?;
                membership.map(|membership| membership.role)
            }
        };
        Ok(role.map(|role| (kind, role)))
    }

    async fn standings(&self, user: UserId, chats: &[ChatId]) -> Result<Vec<Standing>> {
        let chats = chats.to_vec();
        self.read(chats.len() * STANDING_ROWS, move |shared| {
            // At one commit: what is unread is counted from the head, from what the user has seen and from
            // what was deleted, and would be wrong for good if one of them were of another moment.
            let mut view = view::now(shared);
            let mut standings = Vec::with_capacity(chats.len());
            for chat in chats {
                standings.extend(decide::standing(&mut view, chat, user)?);
            }
            Ok(standings)
        })
        .await
    }

    async fn audience(&self, chat: ChatId) -> Result<Option<Audience>> {
        let Some(row) = self.shared.row(chat)? else {
            return Ok(None);
        };
        Ok(Some(match row.chat.kind {
            ChatKind::Direct(pair) => Audience::Pair(pair.users()),
            ChatKind::Channel => Audience::Warm,
            ChatKind::Group => Audience::Members(self.shared.members(chat)?),
        }))
    }

    async fn events_after(&self, chat: ChatId, after: Seq, limit: usize) -> Result<Page<Event>> {
        self.page(chat, move |head| span_after(head, after, limit))
            .await
    }

    async fn events_before(&self, chat: ChatId, before: Seq, limit: usize) -> Result<Page<Event>> {
        self.page(chat, move |head| span_before(head, before, limit))
            .await
    }

    async fn events_at(&self, chat: ChatId, seqs: &[Seq]) -> Result<Page<Event>> {
        let seqs: BTreeSet<Seq> = seqs.iter().copied().filter(|seq| *seq > 0).collect();
        self.read(seqs.len(), move |shared| {
            let reader = shared.disk.reader();
            let Some(head) = reader.head(chat)? else {
                return Ok(Page::default());
            };
            let mut events = Vec::with_capacity(seqs.len());
            for seq in seqs {
                events.extend(reader.event(chat, seq)?.map(Arc::new));
            }
            Ok(Page { events, head })
        })
        .await
    }

    async fn changes(
        &self,
        chat: ChatId,
        part: RangeInclusive<Seq>,
        after: Seq,
        limit: usize,
    ) -> Result<Changes> {
        // How many changes there are outside of the part is not known.
        self.read(usize::MAX, move |shared| {
            let mut found = changes(&mut view::now(shared), chat, &part, after, limit)?;
            if shared.sabotage == Some(Sabotage::ForgetChanges) {
                found.events.clear();
            }
            Ok(found)
        })
        .await
    }

    async fn thread(
        &self,
        chat: ChatId,
        root: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<Page<Event>> {
        self.read(limit.saturating_mul(2), move |shared| {
            thread(&mut view::now(shared), chat, root, after, limit)
        })
        .await
    }

    async fn user_events_after(
        &self,
        user: UserId,
        after: Seq,
        limit: usize,
    ) -> Result<Page<UserEvent>> {
        // The head from the cache is not above what is on disk, and an own event never changes.
        let head = self.shared.user_head(user)?;
        let (from, to) = span_after(head, after, limit);
        let read = move |shared: &Shared| shared.disk.reader().user_events(user, from, to);
        Ok(Page {
            events: self.read(rows(from, to), read).await?,
            head,
        })
    }

    async fn chats_of(
        &self,
        user: UserId,
        places: Range<ListPlace>,
        limit: usize,
    ) -> Result<Vec<(ListPlace, Chat)>> {
        self.read(limit, move |shared| shared.listed(user, &places, limit))
            .await
    }

    async fn moved_since(&self, user: UserId, since: Position) -> Result<Option<Moved>> {
        let position = self.shared.visible.load(Ordering::Acquire);
        if since.0 > position {
            return Ok(None);
        }
        // Everything else is read after the position, so it covers the position.
        let others = self.shared.others_of(user)?;
        let recent = self.shared.recent.lock().since(user, since.0, &others);
        let moved = match recent {
            Some(ids) => {
                let count = ids.len();
                let read = move |shared: &Shared| {
                    let rows = ids.iter().map(|id| shared.known_row(*id));
                    shared.moved(user, rows.collect::<Result<_>>()?, since.0, position)
                };
                self.read(count, read).await?
            }
            None => {
                let read = move |shared: &Shared| {
                    shared.moved(user, shared.chats_of(user)?, since.0, position)
                };
                self.read(usize::MAX, read).await?
            }
        };
        Ok(Some(moved))
    }

    async fn events_since(
        &self,
        chats: &[Chat],
        since: Position,
        limit: usize,
    ) -> Result<Option<Vec<Arc<Event>>>> {
        let with_events = chats.iter().filter(|chat| chat.head > 0);
        let heads: Vec<(ChatId, Seq)> = with_events.map(|chat| (chat.id, chat.head)).collect();
        // How many rows that will be is not known, but one for each chat and one more for all is the least.
        let rows = match heads.len() {
            0 => 0,
            chats => chats.saturating_mul(2).max(INLINE_ROWS_MAX + 1),
        };
        self.read(rows, move |shared| {
            let reader = shared.disk.reader();
            let mut all = Vec::new();
            for chat in heads {
                if !reader.events_since(chat, since.0, limit, &mut all)? {
                    return Ok(None);
                }
            }
            if shared.sabotage == Some(Sabotage::DropEvent) && all.len() > 2 {
                all.remove(all.len() / 2);
            }
            Ok(Some(all))
        })
        .await
    }

    async fn position(&self) -> Result<Position> {
        Ok(Position(self.shared.visible.load(Ordering::Acquire)))
    }

    async fn mine(&self, user: UserId, chat: ChatId, messages: &[Seq]) -> Result<Mine> {
        let messages: BTreeSet<Seq> = messages.iter().copied().collect();
        let messages: Vec<Seq> = messages.into_iter().collect();
        self.read(messages.len(), move |shared| {
            index::mine(&shared.disk.reader(), user, chat, &messages)
        })
        .await
    }

    async fn reactions(
        &self,
        chat: ChatId,
        message: Seq,
        limit: usize,
    ) -> Result<Vec<(String, UserId)>> {
        self.read(limit, move |shared| {
            index::reactions(&shared.disk.reader(), chat, message, limit)
        })
        .await
    }

    async fn members(
        &self,
        chat: ChatId,
        after: UserId,
        limit: usize,
    ) -> Result<Vec<(UserId, Membership)>> {
        if let Some(row) = self.shared.chats.get(chat)
            && let ChatKind::Direct(pair) = row.chat.kind
        {
            // No command writes both once they are there, so the cache tears nothing apart. Heartbeats ask
            // for this whenever a receipt has moved.
            return self.pair_members(chat, pair, after, limit);
        }
        self.read(limit, move |shared| {
            shared.disk.reader().members(chat, after, limit)
        })
        .await
    }

    async fn banned(&self, chat: ChatId, after: UserId, limit: usize) -> Result<Vec<UserId>> {
        self.read(limit, move |shared| {
            index::banned_after(&shared.disk.reader(), chat, after, limit)
        })
        .await
    }

    async fn invites(&self, chat: ChatId) -> Result<Vec<Invite>> {
        self.read(2 * INVITES_MAX, move |shared| {
            index::invites_of(&shared.disk.reader(), chat)
        })
        .await
    }

    async fn invite(&self, code: &str) -> Result<Option<Invite>> {
        index::invite(&self.shared.disk.reader(), code)
    }

    async fn scheduled(&self, user: UserId) -> Result<Vec<Scheduled>> {
        self.read(2 * SCHEDULED_MAX, move |shared| {
            scheduled(&shared.disk.reader(), user)
        })
        .await
    }

    async fn due(&self, now_ms: i64, limit: usize) -> Result<Due> {
        self.read(limit.saturating_mul(2), move |shared| {
            // Before the reader: whatever is put later makes these looks void.
            let (ends, sends) = (shared.ends.look(), shared.sends.look());
            let reader = shared.disk.reader();
            let expired = index::expired_between(&reader, (ends.from_ms, now_ms), limit)?;
            let scheduled = index::scheduled_between(&reader, (sends.from_ms, now_ms), limit)?;
            if limit > 0 {
                let first = |at_ms: Option<i64>| at_ms.unwrap_or(now_ms);
                shared.ends.raise(ends, first(expired.first().map(|e| e.0)));
                shared
                    .sends
                    .raise(sends, first(scheduled.first().map(|s| s.0)));
            }
            Ok(Due {
                expired: expired.into_iter().map(|(_, message)| message).collect(),
                scheduled: scheduled.into_iter().map(|(_, id)| id).collect(),
            })
        })
        .await
    }
}

impl ChatLog {
    /// A part of a chat's log, by where it ends.
    async fn page(
        &self,
        chat: ChatId,
        span: impl Fn(Seq) -> (Seq, Seq) + Send + 'static,
    ) -> Result<Page<Event>> {
        let Some(row) = self.shared.row(chat)? else {
            return Ok(Page::default());
        };
        let (from, to) = span(row.chat.head);
        self.read(rows(from, to), move |shared| {
            // The head of the same commit as the events: they hold all changes up to it, and none after it.
            let reader = shared.disk.reader();
            let head = reader.head(chat)?;
            let head = head.ok_or_else(|| corrupt(Corrupt("a chat is gone")))?;
            let (from, to) = span(head);
            let events = reader.events(chat, from, to)?;
            Ok(Page { events, head })
        })
        .await
    }

    fn pair_members(
        &self,
        chat: ChatId,
        pair: Pair,
        after: UserId,
        limit: usize,
    ) -> Result<Vec<(UserId, Membership)>> {
        let users = pair.users().into_iter().filter(|user| *user > after);
        let mut members = Vec::with_capacity(2);
        for user in users.take(limit) {
            let membership = self.shared.membership(chat, user)?;
            members.extend(membership.map(|membership| (user, membership)));
        }
        Ok(members)
    }
}

impl Shared {
    /// Which of these chats moved for a user, and how.
    fn moved(&self, user: UserId, rows: Vec<Row>, since: u64, position: u64) -> Result<Moved> {
        let marked = rows.iter().filter(|row| row.marked_at > since);
        let receipts = marked.map(|row| row.chat.id).collect();
        let moved = rows.into_iter().filter(|row| row.moved_at > since);
        Ok(Moved {
            chats: moved.map(|row| row.chat).collect(),
            receipts,
            // After the chats, so that a chat in the answer never lacks the own event that tells of it.
            own_head: self.user_head(user)?,
            position: Position(position),
        })
    }
}

/// The direct chat of two as one of them sees it, when there is one.
fn there_already(shared: &Shared, pair: Pair, user: UserId) -> Result<Option<Standing>> {
    let mut view = view::now(shared);
    match view.direct(pair)? {
        None => Ok(None),
        Some(chat) => decide::standing(&mut view, chat, user),
    }
}
