//! The rows of the logs as another engine takes them: with what it chooses by in columns beside the same bytes,
//! in the order of their keys.
//!
//! Opened for this alone: nothing writes, so what is read is the same whenever it is read.

use std::ops::Bound;
use std::path::Path;

use tertulia_kit::error::Result;
use tertulia_services::chats::Epoch;
use tertulia_services::ids::ChatId;

use super::disk::{Disk, Table};
use super::send_keys::{AtOnce, SendKeys};
use crate::moving::table::{Bounds, Cell, Row};
use crate::rows::codec::{self, Corrupt};
use crate::rows::{corrupt, index};

/// What the engine may keep of what it has read: everything is read once.
const CACHE_BYTES: u64 = 16 << 20;

/// A table of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    Chats,
    Events,
    Members,
    ChatsOfUsers,
    UserEvents,
    UserHeads,
    SendKeys,
    Index,
}

/// The logs, to be read.
pub struct Export {
    disk: Disk,
    send_keys: AtOnce,
    pub epoch: Epoch,
    /// Of the last commit.
    pub position: u64,
}

/// Keys of the engine.
type Span = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl Export {
    pub fn open(folder: &Path) -> Result<Export> {
        let opened = Disk::open(folder, CACHE_BYTES, false)?;
        let keys = SendKeys::open(folder, &opened.disk.engine, opened.send_keys)?;
        Ok(Export {
            send_keys: keys.at_once(),
            position: opened.disk.position()?,
            epoch: opened.epoch,
            disk: opened.disk,
        })
    }

    /// How many rows a table has. Of logs that is known from their heads; others are counted.
    pub fn count(&self, log: Log) -> Result<u64> {
        let count = |table| self.disk.moment().count(table);
        match log {
            Log::Events => self.heads(Table::Chats, |row| Ok(codec::read_marks(row)?.head)),
            Log::UserEvents => self.heads(Table::UserHeads, codec::read_head),
            Log::ChatsOfUsers => self.count_index(index::CHAT_OF),
            Log::Index => {
                let elsewhere =
                    self.count_index(index::CHAT_OF)? + self.count_index(index::LISTED)?;
                Ok(count(Table::Index)? - elsewhere)
            }
            Log::SendKeys => Ok(self.send_keys.count()),
            log => count(table_of(log)),
        }
    }

    /// Rows behind another one, or from the first on; none when there are no more.
    pub fn batch(&self, log: Log, after: Option<&Row>, bounds: Bounds) -> Result<Vec<Row>> {
        let mut batch = Batch::of(bounds);
        if log == Log::SendKeys {
            self.send_keys(after, &mut batch)?;
            return Ok(batch.rows);
        }
        let after = after.map(|row| position(log, row)).transpose()?;
        for (from, end) in spans(log) {
            let from = match &after {
                Some(key) if is_before(&from, key) => Bound::Excluded(key.clone()),
                _ => from,
            };
            self.scan(table_of(log), (from, end), &mut batch, |key, content| {
                row(log, key, content).map_err(corrupt)
            })?;
        }
        Ok(batch.rows)
    }

    fn send_keys(&self, after: Option<&Row>, batch: &mut Batch) -> Result<()> {
        let after = match after.map(Vec::as_slice) {
            None => None,
            Some([Cell::Int(week), Cell::Bytes(hash), ..]) => {
                let hash = hash.as_slice().try_into();
                let hash = hash.map_err(|_| corrupt(Corrupt("a send key of another length")))?;
                Some((*week, hash))
            }
            Some(_) => return Err(corrupt(Corrupt("a row of another table"))),
        };
        let from = after.map_or(i64::MIN, |(week, _)| week);
        for week in self.send_keys.weeks_from(from) {
            let after = after.as_ref().filter(|(of, _)| *of == week);
            for row in self.send_keys.of_week(week, after.map(|(_, hash)| hash))? {
                if batch.is_full() {
                    return Ok(());
                }
                let (hash, content) = row?;
                batch.push(vec![Cell::Int(week), bytes(&hash), bytes(&content)]);
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        span: Span,
        batch: &mut Batch,
        row: impl Fn(&[u8], &[u8]) -> Result<Row>,
    ) -> Result<()> {
        if batch.is_full() {
            return Ok(());
        }
        for found in self.disk.moment().range(table, span) {
            let (key, content) = found?;
            batch.push(row(&key, &content)?);
            if batch.is_full() {
                break;
            }
        }
        Ok(())
    }

    fn heads(&self, table: Table, head: impl Fn(&[u8]) -> Result<i64, Corrupt>) -> Result<u64> {
        let mut all = 0;
        for row in self.disk.moment().iter(table) {
            let (_, row) = row?;
            all += head(&row).map_err(corrupt)?.cast_unsigned();
        }
        Ok(all)
    }

    /// How many rows one of the small tables has.
    fn count_index(&self, table: u8) -> Result<u64> {
        let moment = self.disk.moment();
        let mut count = 0;
        for row in moment.range(Table::Index, [table]..[table + 1]) {
            row?;
            count += 1;
        }
        Ok(count)
    }
}

fn table_of(log: Log) -> Table {
    match log {
        Log::Chats => Table::Chats,
        Log::Events => Table::Events,
        Log::Members => Table::Memberships,
        Log::UserEvents => Table::UserEvents,
        Log::UserHeads => Table::UserHeads,
        Log::ChatsOfUsers | Log::Index | Log::SendKeys => Table::Index,
    }
}

/// Rows that are taken together.
struct Batch {
    rows: Vec<Row>,
    bytes: usize,
    bounds: Bounds,
}

impl Batch {
    fn of(bounds: Bounds) -> Batch {
        Batch {
            rows: Vec::new(),
            bytes: 0,
            bounds,
        }
    }

    fn push(&mut self, row: Row) {
        self.bytes += row.iter().map(Cell::bytes).sum::<usize>();
        self.rows.push(row);
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.bounds.rows_max || self.bytes >= self.bounds.bytes_max
    }
}

/// Where the rows of a table are among the engine's keys.
fn spans(log: Log) -> Vec<Span> {
    let before = Bound::Excluded;
    match log {
        Log::ChatsOfUsers => vec![(
            Bound::Included(vec![index::CHAT_OF]),
            before(vec![index::CHAT_OF + 1]),
        )],
        Log::Index => vec![
            (Bound::Unbounded, before(vec![index::CHAT_OF])),
            (
                Bound::Included(vec![index::CHAT_OF + 1]),
                before(vec![index::LISTED]),
            ),
            (Bound::Included(vec![index::LISTED + 1]), Bound::Unbounded),
        ],
        _ => vec![(Bound::Unbounded, Bound::Unbounded)],
    }
}

fn is_before(from: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match from {
        Bound::Unbounded => true,
        Bound::Included(from) | Bound::Excluded(from) => from.as_slice() <= key,
    }
}

/// Where a row stands in the engine.
fn position(log: Log, row: &Row) -> Result<Vec<u8>> {
    Ok(match (log, &row[..]) {
        (Log::Chats | Log::UserHeads, [Cell::Int(id), ..]) => codec::id_key(*id).to_vec(),
        (
            Log::Events | Log::Members | Log::UserEvents,
            [Cell::Int(first), Cell::Int(second), ..],
        ) => codec::two_key(*first, *second).to_vec(),
        (Log::ChatsOfUsers, [Cell::Int(user), Cell::Int(chat), ..]) => {
            index::key(index::CHAT_OF, [*user, *chat])
        }
        (Log::Index, [Cell::Bytes(key), ..]) => key.clone(),
        _ => return Err(corrupt(Corrupt("a row of another table"))),
    })
}

fn row(log: Log, key: &[u8], content: &[u8]) -> Result<Row, Corrupt> {
    Ok(match log {
        Log::Chats => {
            let id = codec::read_id_key(key)?;
            let chat = codec::read_chat(content, ChatId(id))?;
            vec![
                Cell::Int(id),
                Cell::Int(chat.moved_at.cast_signed()),
                Cell::Int(chat.marked_at.cast_signed()),
                Cell::Int(chat.chat.head),
                Cell::Int(chat.last_message),
                bytes(content),
            ]
        }
        Log::Events => {
            let (chat, seq) = codec::read_two_key(key)?;
            let position = codec::read_event_position(content)?;
            vec![
                Cell::Int(chat),
                Cell::Int(seq),
                Cell::Int(position.cast_signed()),
                bytes(content),
            ]
        }
        Log::Members | Log::UserEvents => {
            let (first, second) = codec::read_two_key(key)?;
            vec![Cell::Int(first), Cell::Int(second), bytes(content)]
        }
        Log::ChatsOfUsers => {
            let numbers = key.strip_prefix(&[index::CHAT_OF]);
            let (user, chat) = codec::read_two_key(numbers.unwrap_or_default())?;
            let is_direct = codec::read_value(content)? != 0;
            vec![Cell::Int(user), Cell::Int(chat), Cell::Flag(is_direct)]
        }
        Log::UserHeads => vec![
            Cell::Int(codec::read_id_key(key)?),
            Cell::Int(codec::read_head(content)?),
        ],
        Log::SendKeys | Log::Index => vec![bytes(key), bytes(content)],
    })
}

fn bytes(bytes: &[u8]) -> Cell {
    Cell::Bytes(bytes.to_vec())
}
