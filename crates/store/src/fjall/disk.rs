//! The tables on disk, and reading them. Nothing here is remembered, and only the writer writes.
//!
//! ```text
//! chats         chat              -> kind, members, head, when it was opened, the commit that moved it last
//! events        chat, seq         -> the commit, the event
//! pairs         user, user        -> chat
//! memberships   user, chat        ->
//! user_events   user, seq         -> the event
//! user_heads    user              -> the seq of its newest event
//! send_keys_*   hash of send key  -> chat, seq; a table for each week
//! meta          format, epoch, position
//! ```
//! A commit becomes visible table by table, after it is on disk. The writer puts what is pointed at before
//! what points at it: an event before its chat's head, a chat before its pair.

use std::path::Path;
use std::sync::Arc;

use ::fjall::config::CompressionPolicy;
use ::fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
};
use tertulia_kit::error::{Failure, Result};
use tertulia_services::chats::{Chat, Epoch, Event, EventBody, Pair, Seq, UserEvent};
use tertulia_services::errors;
use tertulia_services::ids::{ChatId, UserId};
use thiserror::Error;

use super::cache::Weight;
use super::codec::{self, ChatRow, Corrupt};
use super::journal;

/// The version of the tables that this program writes.
const FORMAT: u32 = 1;
/// How much journal may wait for its rows to get into their tables; it is read again at a start.
const JOURNAL_BYTES_MAX: u64 = 192 << 20;
/// One for what is flushed and one for what is compacted.
const WORKERS: usize = 2;

/// A chat with the commit that moved it last.
#[derive(Debug, Clone)]
pub struct Row {
    pub chat: Chat,
    pub position: u64,
}

impl Weight for Row {
    fn bytes(&self) -> u64 {
        let text = self.chat.last_event.as_ref().map_or(0, |event| {
            let EventBody::Message(message) = &event.body;
            let key = &message.key;
            160 + message.text.len() + key.device.len() + key.client_message_id.len()
        });
        200 + text as u64
    }
}

/// The tables.
pub struct Disk {
    pub db: Database,
    pub chats: Keyspace,
    pub events: Keyspace,
    pub pairs: Keyspace,
    pub memberships: Keyspace,
    pub user_events: Keyspace,
    pub user_heads: Keyspace,
    pub meta: Keyspace,
}

const META_FORMAT: &str = "format";
const META_EPOCH: &str = "epoch";
pub const META_POSITION: &str = "position";

/// The folder is not one that this program can use.
#[derive(Debug, Error)]
enum Unusable {
    #[error("the logs are of format {found}, and this program knows formats up to {FORMAT}")]
    Newer { found: u32 },
    #[error("there are chats without the format and the epoch of the logs")]
    NoMeta,
}

impl Disk {
    /// Opens the tables in `folder`, or makes them.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<(Disk, Epoch)> {
        let open = || {
            Database::builder(folder)
                .cache_size(cache_bytes)
                .worker_threads(WORKERS)
                .max_journaling_size(JOURNAL_BYTES_MAX)
                .open()
        };
        let db = match open() {
            Err(::fjall::Error::JournalRecovery(why)) => {
                if !journal::cut_torn_end(folder).map_err(errors::store_unavailable)? {
                    return Err(unavailable(::fjall::Error::JournalRecovery(why)));
                }
                tracing::warn!(
                    "the journal ended with a torn batch that nobody was told of; cut it off"
                );
                open()
            }
            opened => opened,
        };
        let db = db.map_err(unavailable)?;
        let table = |name: &str, memtable_mib: u64| {
            db.keyspace(name, || table_options(memtable_mib))
                .map_err(unavailable)
        };
        let disk = Disk {
            // Before all others: a newer format may not even have them.
            meta: table("meta", 4)?,
            chats: table("chats", 16)?,
            events: table("events", 32)?,
            pairs: table("pairs", 4)?,
            memberships: table("memberships", 4)?,
            user_events: table("user_events", 4)?,
            user_heads: table("user_heads", 4)?,
            db: db.clone(),
        };
        let epoch = disk.check_meta()?;
        Ok((disk, epoch))
    }

    fn check_meta(&self) -> Result<Epoch> {
        let format = self.meta.get(META_FORMAT).map_err(unavailable)?;
        let epoch = self.meta.get(META_EPOCH).map_err(unavailable)?;
        match (format, epoch) {
            (Some(format), Some(epoch)) => {
                let found = (*format).try_into().map(u32::from_be_bytes);
                let found = found.map_err(|_| corrupt(Corrupt("the format")))?;
                if found > FORMAT {
                    return Err(errors::store_unavailable(Unusable::Newer { found }));
                }
                let epoch = (*epoch).try_into().map(u64::from_be_bytes);
                Ok(Epoch(epoch.map_err(|_| corrupt(Corrupt("the epoch")))?))
            }
            (None, None) if self.chats.is_empty().map_err(unavailable)? => self.write_meta(),
            _ => Err(errors::store_unavailable(Unusable::NoMeta)),
        }
    }

    fn write_meta(&self) -> Result<Epoch> {
        let epoch: u64 = rand::random();
        let mut batch = self.batch(3);
        batch.insert(&self.meta, META_FORMAT, FORMAT.to_be_bytes());
        batch.insert(&self.meta, META_EPOCH, epoch.to_be_bytes());
        batch.insert(&self.meta, META_POSITION, 0_u64.to_be_bytes());
        batch.commit().map_err(unavailable)?;
        Ok(Epoch(epoch))
    }

    /// A batch whose commit returns when it is on disk.
    pub fn batch(&self, rows: usize) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.db.clone(), rows)
            .durability(Some(PersistMode::SyncData))
    }

    /// The position of the last commit.
    pub fn position(&self) -> Result<u64> {
        let bytes = self.meta.get(META_POSITION).map_err(unavailable)?;
        let bytes = bytes.ok_or_else(|| corrupt(Corrupt("no position")))?;
        (*bytes)
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| corrupt(Corrupt("the position")))
    }

    /// A chat with its last event.
    pub fn chat(&self, id: ChatId) -> Result<Option<Row>> {
        let Some(bytes) = self.chats.get(codec::id_key(id.0)).map_err(unavailable)? else {
            return Ok(None);
        };
        let ChatRow {
            kind,
            head,
            created_at_ms,
            position,
        } = ChatRow::read(&bytes).map_err(corrupt)?;
        let last_event = match head {
            0 => None,
            head => {
                let event = self.event(id, head)?;
                Some(Arc::new(event.ok_or_else(|| {
                    corrupt(Corrupt("a head without its event"))
                })?))
            }
        };
        let chat = Chat {
            id,
            kind,
            head,
            created_at_ms,
            last_event,
        };
        Ok(Some(Row { chat, position }))
    }

    /// An event.
    pub fn event(&self, chat: ChatId, seq: Seq) -> Result<Option<Event>> {
        let bytes = self
            .events
            .get(codec::two_key(chat.0, seq))
            .map_err(unavailable)?;
        let read = |bytes: &[u8]| codec::read_event(bytes, chat, seq).map(|(_, event)| event);
        bytes.map(|bytes| read(&bytes)).transpose().map_err(corrupt)
    }

    /// The events of a chat from one seq to another, all of which are there.
    pub fn events(&self, chat: ChatId, from: Seq, to: Seq) -> Result<Vec<Arc<Event>>> {
        let read = |bytes: &[u8], seq| codec::read_event(bytes, chat, seq).map(|(_, event)| event);
        log(&self.events, chat.0, from, to, read)
    }

    /// The events of a user's own log from one seq to another, all of which are there.
    pub fn user_events(&self, user: UserId, from: Seq, to: Seq) -> Result<Vec<Arc<UserEvent>>> {
        log(&self.user_events, user.0, from, to, |bytes, seq| {
            codec::read_user_event(bytes, user, seq)
        })
    }

    /// Adds the events up to a head that are newer than a position, oldest first; false, with some of them
    /// added, when that makes more than `limit`. Reads only what it adds, and one row more.
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
        for row in self.events.range(range).rev() {
            let (key, bytes) = row.into_inner().map_err(unavailable)?;
            if codec::read_event_position(&bytes).map_err(corrupt)? <= since {
                break;
            }
            if all.len() == limit {
                return Ok(false);
            }
            let seq = codec::second_of(&key).map_err(corrupt)?;
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

    /// The chats that a user is in.
    pub fn chats_of(&self, user: UserId) -> Result<Vec<ChatId>> {
        let rows = self.memberships.prefix(codec::id_key(user.0));
        rows.map(|row| {
            let key = row.key().map_err(unavailable)?;
            codec::second_of(&key).map(ChatId).map_err(corrupt)
        })
        .collect()
    }

    /// The seq of the newest event of a user's own log.
    pub fn user_head(&self, user: UserId) -> Result<Seq> {
        let bytes = self
            .user_heads
            .get(codec::id_key(user.0))
            .map_err(unavailable)?;
        bytes.map_or(Ok(0), |bytes| codec::read_id(&bytes).map_err(corrupt))
    }

    /// The chat of a pair.
    pub fn pair(&self, pair: Pair) -> Result<Option<ChatId>> {
        let bytes = self.pairs.get(codec::pair_key(pair)).map_err(unavailable)?;
        bytes
            .map(|bytes| codec::read_id(&bytes).map(ChatId).map_err(corrupt))
            .transpose()
    }
}

/// The row of a chat as it is kept.
pub fn chat_row(row: &Row) -> ChatRow {
    ChatRow {
        kind: row.chat.kind.clone(),
        head: row.chat.head,
        created_at_ms: row.chat.created_at_ms,
        position: row.position,
    }
}

/// Rows of a log from one seq to another. A row that is not there is a fault, never a shorter answer.
fn log<T>(
    table: &Keyspace,
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
    for row in table.range(codec::two_key(id, from)..=codec::two_key(id, to)) {
        let (key, bytes) = row.into_inner().map_err(unavailable)?;
        let seq = codec::second_of(&key).map_err(corrupt)?;
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

pub fn table_options(memtable_mib: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable_mib << 20)
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
}

/// The engine failed.
pub fn unavailable(error: ::fjall::Error) -> Failure {
    errors::store_unavailable(error)
}

/// What the engine gave can not be what was written.
pub fn corrupt(error: Corrupt) -> Failure {
    errors::internal(error)
}
