//! The port. What has to be true together is one statement, or several in one transaction that sees one moment.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{Connection as _, PgConnection};
use tertulia_kit::error::Result;
use tertulia_services::chats::decide;
use tertulia_services::chats::{
    Audience, Changes, Chat, ChatKind, ChatStore, Command, Done, Due, Epoch, Event, Invite,
    ListPlace, Membership, Mine, Moved, Page, Position, Role, Scheduled, Seq, Standing, UserEvent,
};
use tertulia_services::ids::{ChatId, UserId};

use super::fetch::{Fetch, Trouble};
use super::known::{Committed, Known};
use super::queries::{self, SEQ_MAX};
use super::{ChatLog, gone};
use crate::rows::view::Seen;
use crate::rows::{Below as _, index, reads};

/// Reads on a connection, by a query that takes it.
macro_rules! on_connection {
    ($log:ident, $connection:ident => $query:expr) => {
        $log.shared
            .readers
            .read(|mut owned: PgConnection| async move {
                let $connection = &mut owned;
                let answer = $query.await;
                (owned, answer)
            })
            .await
    };
}
pub(super) use on_connection;

#[async_trait]
impl ChatStore for ChatLog {
    fn epoch(&self) -> Epoch {
        self.shared.server.history.epoch
    }

    async fn write(&self, command: Command) -> Result<Done> {
        let mut done = self.submit(vec![command]).await;
        done.pop().unwrap_or_else(|| Err(gone()))
    }

    async fn write_all(&self, commands: Vec<Command>) -> Vec<Result<Done>> {
        self.submit(commands).await
    }

    async fn chat(&self, id: ChatId) -> Result<Option<Chat>> {
        self.ask(move |known| Ok(known.row(id)?.map(|row| row.chat)))
            .await
    }

    async fn role(&self, chat: ChatId, user: UserId) -> Result<Option<(ChatKind, Role)>> {
        // The two of a direct chat are in it forever, and as nothing else.
        if let Some(ChatKind::Direct(pair)) = self.shared.caches.kind(chat) {
            let kind = ChatKind::Direct(pair);
            return Ok(pair.has(user).then_some((kind, Role::Member)));
        }
        self.ask(move |known| {
            let row = known.row(chat)?;
            let membership = known.membership(chat, user)?;
            Ok(row
                .zip(membership)
                .map(|(row, membership)| (row.chat.kind, membership.role)))
        })
        .await
    }

    async fn standings(&self, user: UserId, chats: &[ChatId]) -> Result<Vec<Standing>> {
        self.ask(|known| {
            let mut standings = Vec::with_capacity(chats.len());
            for chat in chats {
                let mut view = Seen(Committed(known));
                standings.extend(decide::standing(&mut view, *chat, user)?);
            }
            Ok(standings)
        })
        .await
    }

    async fn audience(&self, chat: ChatId) -> Result<Option<Audience>> {
        self.ask(move |known| {
            let Some(row) = known.row(chat)? else {
                return Ok(None);
            };
            Ok(Some(match row.chat.kind {
                ChatKind::Direct(pair) => Audience::Pair(pair.users()),
                ChatKind::Channel => Audience::Warm,
                ChatKind::Group => Audience::Members(known.members(chat)?),
            }))
        })
        .await
    }

    async fn events_after(&self, chat: ChatId, after: Seq, limit: usize) -> Result<Page<Event>> {
        self.page(
            chat,
            "SELECT c.head, e.seq, e.content FROM chats c LEFT JOIN chat_events e
             ON e.chat_id = c.chat_id AND e.seq > $2 AND e.seq <= $2 + $3
             WHERE c.chat_id = $1 ORDER BY e.seq",
            [after.clamp(0, SEQ_MAX), seqs(limit)],
        )
        .await
    }

    async fn events_before(&self, chat: ChatId, before: Seq, limit: usize) -> Result<Page<Event>> {
        let last = match before {
            ..=0 => SEQ_MAX,
            before => (before - 1).min(SEQ_MAX),
        };
        self.page(
            chat,
            "SELECT c.head, e.seq, e.content FROM chats c LEFT JOIN chat_events e
             ON e.chat_id = c.chat_id AND e.seq > LEAST(c.head, $2) - $3 AND e.seq <= LEAST(c.head, $2)
             WHERE c.chat_id = $1 ORDER BY e.seq",
            [last, seqs(limit)],
        )
        .await
    }

    async fn events_at(&self, chat: ChatId, seqs: &[Seq]) -> Result<Page<Event>> {
        self.count(1);
        on_connection!(self, connection => queries::events_at(connection, chat, seqs))
    }

    async fn changes(
        &self,
        chat: ChatId,
        part: RangeInclusive<Seq>,
        after: Seq,
        limit: usize,
    ) -> Result<Changes> {
        self.ask(|known| {
            let mut rows = Seen(Committed(known));
            reads::changes(&mut rows, chat, &part, after, limit)
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
        self.ask(|known| {
            let mut rows = Seen(Committed(known));
            reads::thread(&mut rows, chat, root, after, limit)
        })
        .await
    }

    async fn user_events_after(
        &self,
        user: UserId,
        after: Seq,
        limit: usize,
    ) -> Result<Page<UserEvent>> {
        self.count(1);
        on_connection!(self, connection => queries::user_events(connection, user, after.clamp(0, SEQ_MAX), seqs(limit)))
    }

    async fn chats_of(
        &self,
        user: UserId,
        places: Range<ListPlace>,
        limit: usize,
    ) -> Result<Vec<(ListPlace, Chat)>> {
        self.count(1);
        let places = &places;
        on_connection!(self, connection => queries::chats_of(connection, user, places, limit))
    }

    async fn moved_since(&self, user: UserId, since: Position) -> Result<Option<Moved>> {
        self.count(2);
        on_connection!(self, connection => queries::moved_since(connection, user, since))
    }

    async fn events_since(
        &self,
        chats: &[Chat],
        since: Position,
        limit: usize,
    ) -> Result<Option<Vec<Arc<Event>>>> {
        on_connection!(self, connection => queries::events_since(connection, chats, since.0, limit, &self.shared.reads))
    }

    async fn position(&self) -> Result<Position> {
        self.count(1);
        on_connection!(self, connection => queries::position(connection))
    }

    async fn mine(&self, user: UserId, chat: ChatId, messages: &[Seq]) -> Result<Mine> {
        let messages: BTreeSet<Seq> = messages.iter().copied().collect();
        let messages: Vec<Seq> = messages.into_iter().collect();
        self.ask(|known| index::mine(known, user, chat, &messages))
            .await
    }

    async fn reactions(
        &self,
        chat: ChatId,
        message: Seq,
        limit: usize,
    ) -> Result<Vec<(String, UserId)>> {
        self.ask(|known| index::reactions(known, chat, message, limit))
            .await
    }

    async fn members(
        &self,
        chat: ChatId,
        after: UserId,
        limit: usize,
    ) -> Result<Vec<(UserId, Membership)>> {
        self.count(1);
        on_connection!(self, connection => queries::members(connection, chat, after, seqs(limit)))
    }

    async fn banned(&self, chat: ChatId, after: UserId, limit: usize) -> Result<Vec<UserId>> {
        self.ask(|known| index::banned_after(known, chat, after, limit))
            .await
    }

    async fn invites(&self, chat: ChatId) -> Result<Vec<Invite>> {
        self.ask(|known| index::invites_of(known, chat)).await
    }

    async fn invite(&self, code: &str) -> Result<Option<Invite>> {
        self.ask(|known| index::invite(known, code)).await
    }

    async fn scheduled(&self, user: UserId) -> Result<Vec<Scheduled>> {
        self.ask(|known| reads::scheduled(known, user)).await
    }

    async fn due(&self, now_ms: i64, limit: usize) -> Result<Due> {
        self.ask(|known| {
            let expired = index::expired_between(known, (i64::MIN, now_ms), limit)?;
            let scheduled = index::scheduled_between(known, (i64::MIN, now_ms), limit)?;
            Ok(Due {
                expired: expired.into_iter().map(|(_, message)| message).collect(),
                scheduled: scheduled.into_iter().map(|(_, id)| id).collect(),
            })
        })
        .await
    }
}

impl ChatLog {
    /// What is found in the rows of one moment: looked for among what is known, and read as far as it is not, until
    /// nothing is missing.
    async fn ask<T>(&self, look: impl Fn(&Known) -> Result<T> + Sync) -> Result<T> {
        let look = &look;
        on_connection!(self, connection => self.ask_once(connection, look))
    }

    async fn ask_once<T>(
        &self,
        connection: &mut PgConnection,
        look: &(impl Fn(&Known) -> Result<T> + Sync),
    ) -> Result<T, Trouble> {
        let mut tx = connection
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let mut known = Known::default();
        let mut pass = 0;
        loop {
            let found = look(&known);
            let wanted = known.take_wanted();
            if wanted.is_empty() {
                tx.commit().await?;
                return found.map_err(Trouble::Row);
            }
            self.shared.count_reads(&wanted);
            let fetch = Fetch {
                caches: &self.shared.caches,
                locks: false,
                now_ms: self.shared.clock.now_ms(),
                pass,
            };
            fetch.run(&mut tx, wanted, &mut known).await?;
            pass += 1;
        }
    }

    /// A part of a chat's log, by a statement that takes the chat and two numbers.
    async fn page(&self, chat: ChatId, text: &'static str, of: [Seq; 2]) -> Result<Page<Event>> {
        self.count(1);
        on_connection!(self, connection => queries::page_of(connection, chat, text, of))
    }

    fn count(&self, asked: u64) {
        self.shared.reads.add(asked);
    }
}

fn seqs(limit: usize) -> Seq {
    Seq::try_from(limit).unwrap_or(SEQ_MAX).min(SEQ_MAX)
}
