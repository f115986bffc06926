//! Reads what is wanted, one statement for each table. A writer locks the chats and the own logs that it reads,
//! each kind in the order of their ids and chats before users, so that no two writers ever wait for each other in
//! a circle.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use tertulia_kit::error::Failure;
use tertulia_services::ids::{ChatId, UserId};

use super::cache::{Caches, Members};
use super::known::{Known, Wanted};
use crate::rows::codec::{self, Corrupt, SendHash};
use crate::rows::{Row, corrupt};

/// How many rows of a walk are read at first. A longer one is read in parts, each four times the one before.
const WALK_ROWS: i64 = 256;
const WALK_ROWS_MAX: i64 = 65_536;
/// For how long before a week's end, in milliseconds, the next week is looked at as well: other nodes' clocks may
/// be there already.
const CLOCKS_APART_MS: i64 = 3_600 * 1_000;

/// Why something can not be read.
#[derive(Debug)]
pub enum Trouble {
    /// What the database says, or that it says nothing.
    Engine(sqlx::Error),
    /// What it gave is not what was written.
    Row(Failure),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Trouble::Engine(error)
    }
}

impl From<Corrupt> for Trouble {
    fn from(error: Corrupt) -> Self {
        Trouble::Row(corrupt(error))
    }
}

/// Who reads, and how.
pub struct Fetch<'a> {
    pub caches: &'a Caches,
    /// What a writer has looked at nobody else changes before it has committed.
    pub locks: bool,
    pub now_ms: i64,
    /// How often was fetched for the same before.
    pub pass: u32,
}

impl Fetch<'_> {
    /// Reads what is wanted into what is known. Gives the number of the transaction when it locks.
    pub async fn run(
        &self,
        connection: &mut PgConnection,
        wanted: Wanted,
        known: &mut Known,
    ) -> Result<Option<i64>, Trouble> {
        let mut transaction = None;
        if !wanted.chats.is_empty() {
            transaction = self.chats(connection, &wanted, known).await?;
        }
        if !wanted.users.is_empty() {
            self.own_heads(connection, &wanted, known).await?;
        }
        if self.locks && transaction.is_none() {
            let number = "SELECT pg_current_xact_id()::text::bigint";
            transaction = Some(
                sqlx::query_scalar(number)
                    .fetch_one(&mut *connection)
                    .await?,
            );
        }
        if !wanted.memberships.is_empty() {
            memberships(connection, &wanted, known).await?;
        }
        if !wanted.events.is_empty() {
            events(connection, wanted.events.iter().copied(), known).await?;
        }
        if !wanted.used.is_empty() {
            self.used(connection, &wanted, known).await?;
        }
        if !wanted.members.is_empty() {
            self.members(connection, &wanted, known).await?;
        }
        if !wanted.keys.is_empty() {
            keys(connection, wanted.keys, known).await?;
        }
        for (from, end) in wanted.walks {
            self.walk(connection, from, end, known).await?;
        }
        Ok(transaction)
    }

    async fn chats(
        &self,
        connection: &mut PgConnection,
        wanted: &Wanted,
        known: &mut Known,
    ) -> Result<Option<i64>, Trouble> {
        let ids: Vec<i64> = wanted.chats.iter().map(|id| id.0).collect();
        // Not joined with their last messages: after waiting for a lock, a row is the newest one, and what was
        // joined to it is not.
        let text = match self.locks {
            true => {
                "SELECT chat_id, content, pg_current_xact_id()::text::bigint FROM chats
                 WHERE chat_id = ANY($1) ORDER BY chat_id FOR UPDATE"
            }
            false => "SELECT chat_id, content FROM chats WHERE chat_id = ANY($1)",
        };
        let found = sqlx::query(text)
            .bind(&ids)
            .fetch_all(&mut *connection)
            .await?;
        known
            .chats
            .extend(wanted.chats.iter().map(|id| (*id, None)));
        let mut transaction = None;
        let mut without = Vec::new();
        for line in &found {
            let id = ChatId(line.try_get(0)?);
            let stored = codec::read_chat(line.try_get(1)?, id)?;
            let mut row = Row {
                chat: stored.chat,
                moved_at: stored.moved_at,
                marked_at: stored.marked_at,
            };
            if stored.last_message != 0 {
                match self.caches.chat(id, row.moved_at) {
                    Some(same) => row.chat.last_message = same.chat.last_message,
                    None => without.push((id, stored.last_message)),
                }
            }
            known.chats.insert(id, Some(row));
            if self.locks {
                transaction = Some(line.try_get(2)?);
            }
        }
        if without.is_empty() {
            return Ok(transaction);
        }
        events(connection, without.iter().copied(), known).await?;
        for (id, seq) in without {
            let event = known.events.get(&(id, seq)).cloned().flatten();
            let (_, event) = event.ok_or(Corrupt("a chat without its last message"))?;
            if let Some(Some(row)) = known.chats.get_mut(&id) {
                row.chat.last_message = Some(event);
                self.caches.put_chat(row.clone());
            }
        }
        Ok(transaction)
    }

    async fn own_heads(
        &self,
        connection: &mut PgConnection,
        wanted: &Wanted,
        known: &mut Known,
    ) -> Result<(), Trouble> {
        let users: Vec<i64> = wanted.users.iter().map(|user| user.0).collect();
        known
            .own_heads
            .extend(wanted.users.iter().map(|user| (*user, 0)));
        let text = match self.locks {
            true => {
                "SELECT user_id, head FROM user_heads WHERE user_id = ANY($1)
                 ORDER BY user_id FOR UPDATE"
            }
            false => "SELECT user_id, head FROM user_heads WHERE user_id = ANY($1)",
        };
        let mut found = sqlx::query(text)
            .bind(&users)
            .fetch_all(&mut *connection)
            .await?;
        if self.locks && found.len() < users.len() {
            // A lock needs a row.
            sqlx::query(
                "INSERT INTO user_heads (user_id, head) SELECT user_id, 0
                 FROM UNNEST($1::bigint[]) AS new (user_id) ORDER BY user_id ON CONFLICT DO NOTHING",
            )
            .bind(&users)
            .execute(&mut *connection)
            .await?;
            found = sqlx::query(text).bind(&users).fetch_all(connection).await?;
        }
        for line in &found {
            known
                .own_heads
                .insert(UserId(line.try_get(0)?), line.try_get(1)?);
        }
        Ok(())
    }

    async fn used(
        &self,
        connection: &mut PgConnection,
        wanted: &Wanted,
        known: &mut Known,
    ) -> Result<(), Trouble> {
        let week = super::week(self.now_ms);
        let last = super::week(self.now_ms.saturating_add(CLOCKS_APART_MS));
        let weeks: Vec<i64> = (week - 1..=last).collect();
        let hashes: Vec<&[u8]> = wanted.used.iter().map(|hash| &hash[..]).collect();
        known
            .used
            .extend(wanted.used.iter().map(|hash| (*hash, None)));
        // Each pair by itself: asked for as two lists, all keys of a week are read and compared with all hashes.
        let found = sqlx::query(
            "SELECT w.week, h.hash, k.content
             FROM UNNEST($1::bigint[]) AS w (week) CROSS JOIN UNNEST($2::bytea[]) AS h (hash)
             CROSS JOIN LATERAL (
                 SELECT content FROM chat_send_keys WHERE week = w.week AND hash = h.hash OFFSET 0) AS k",
        )
        .bind(&weeks)
        .bind(&hashes)
        .fetch_all(connection)
        .await?;
        let mut newest: HashMap<SendHash, i64> = HashMap::new();
        for line in &found {
            let week: i64 = line.try_get(0)?;
            let hash = SendHash::try_from(line.try_get::<&[u8], _>(1)?);
            let hash = hash.map_err(|_| Corrupt("a send key of another length"))?;
            if newest.get(&hash).is_none_or(|newest| *newest < week) {
                newest.insert(hash, week);
                let used = codec::read_used(line.try_get(2)?)?;
                known.used.insert(hash, Some(used));
            }
        }
        Ok(())
    }

    async fn members(
        &self,
        connection: &mut PgConnection,
        wanted: &Wanted,
        known: &mut Known,
    ) -> Result<(), Trouble> {
        let mut unknown = Vec::new();
        for id in &wanted.members {
            let seq = match known.chats.get(id) {
                Some(Some(row)) => row.chat.details.members_seq,
                _ => -1,
            };
            match self.caches.members(*id, seq) {
                Some(members) => _ = known.members.insert(*id, members),
                None => unknown.push((*id, seq)),
            }
        }
        for (id, seq) in unknown {
            let found: Vec<i64> = sqlx::query_scalar(
                "SELECT user_id FROM chat_members WHERE chat_id = $1 ORDER BY user_id",
            )
            .bind(id.0)
            .fetch_all(&mut *connection)
            .await?;
            let members: Arc<[UserId]> = found.into_iter().map(UserId).collect();
            if seq >= 0 {
                let members = Arc::clone(&members);
                self.caches.put_members(id, Members { seq, members });
            }
            known.members.insert(id, members);
        }
        Ok(())
    }

    async fn walk(
        &self,
        connection: &mut PgConnection,
        from: Vec<u8>,
        end: Vec<u8>,
        known: &mut Known,
    ) -> Result<(), Trouble> {
        let rows = WALK_ROWS.saturating_mul(4_i64.saturating_pow(self.pass));
        let limit = rows.min(WALK_ROWS_MAX);
        let found = sqlx::query(
            "SELECT key, content FROM chat_index WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3",
        )
        .bind(&from)
        .bind(&end)
        .bind(limit)
        .fetch_all(connection)
        .await?;
        let mut to = end;
        if i64::try_from(found.len()).is_ok_and(|count| count == limit)
            && let Some(last) = found.last()
        {
            // The first key after the last one.
            to = last.try_get::<Vec<u8>, _>(0)?;
            to.push(0);
        }
        for line in &found {
            known.index.insert(line.try_get(0)?, Some(line.try_get(1)?));
        }
        known.walked.insert(from, to);
        Ok(())
    }
}

async fn memberships(
    connection: &mut PgConnection,
    wanted: &Wanted,
    known: &mut Known,
) -> Result<(), Trouble> {
    let (chats, users): (Vec<i64>, Vec<i64>) = wanted
        .memberships
        .iter()
        .map(|(chat, user)| (chat.0, user.0))
        .unzip();
    known
        .memberships
        .extend(wanted.memberships.iter().map(|key| (*key, None)));
    let found = sqlx::query(
        "SELECT m.chat_id, m.user_id, m.content
         FROM UNNEST($1::bigint[], $2::bigint[]) AS w (chat_id, user_id)
         JOIN chat_members m ON m.chat_id = w.chat_id AND m.user_id = w.user_id",
    )
    .bind(&chats)
    .bind(&users)
    .fetch_all(connection)
    .await?;
    for line in &found {
        let key = (ChatId(line.try_get(0)?), UserId(line.try_get(1)?));
        let membership = codec::read_membership(line.try_get(2)?)?;
        known.memberships.insert(key, Some(membership));
    }
    Ok(())
}

async fn events(
    connection: &mut PgConnection,
    wanted: impl Iterator<Item = (ChatId, i64)> + Clone,
    known: &mut Known,
) -> Result<(), Trouble> {
    let (chats, seqs): (Vec<i64>, Vec<i64>) =
        wanted.clone().map(|(chat, seq)| (chat.0, seq)).unzip();
    known.events.extend(wanted.map(|key| (key, None)));
    let found = sqlx::query(
        "SELECT e.chat_id, e.seq, e.content FROM UNNEST($1::bigint[], $2::bigint[]) AS w (chat_id, seq)
         JOIN chat_events e ON e.chat_id = w.chat_id AND e.seq = w.seq",
    )
    .bind(&chats)
    .bind(&seqs)
    .fetch_all(connection)
    .await?;
    for line in &found {
        let (chat, seq) = (ChatId(line.try_get(0)?), line.try_get(1)?);
        let (position, event) = codec::read_event(line.try_get(2)?, chat, seq)?;
        known
            .events
            .insert((chat, seq), Some((position, Arc::new(event))));
    }
    Ok(())
}

async fn keys(
    connection: &mut PgConnection,
    wanted: impl IntoIterator<Item = Vec<u8>>,
    known: &mut Known,
) -> Result<(), Trouble> {
    let wanted: Vec<Vec<u8>> = wanted.into_iter().collect();
    let found: Vec<PgRow> = sqlx::query("SELECT key, content FROM chat_index WHERE key = ANY($1)")
        .bind(&wanted)
        .fetch_all(connection)
        .await?;
    known
        .index
        .extend(wanted.into_iter().map(|key| (key, None)));
    for line in &found {
        known.index.insert(line.try_get(0)?, Some(line.try_get(1)?));
    }
    Ok(())
}
