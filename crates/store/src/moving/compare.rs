//! Holds what has arrived against what was sent, row by row, and makes the digest of the logs out of what has
//! arrived, as a check of the data folder makes it out of what was sent.

use std::collections::VecDeque;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tertulia_services::chats::{Shown, digest};
use tertulia_services::ids::ChatId;

use super::table::{Bounds, Cell, From, Row, TABLES, Table};
use super::{Move, MoveError, Phase, Progress, Report, Source};
use crate::fjall::export::Log;
use crate::rows::codec::{self, Corrupt};
use crate::rows::corrupt;

impl Move {
    pub(super) async fn compare(
        &mut self,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Report, MoveError> {
        let rows_all = self.rows_all();
        let mut compared = 0;
        let mut logs = Logs::default();
        let mut tables = Vec::with_capacity(TABLES.len());
        for table in TABLES {
            let (before, mut after) = (compared, None);
            loop {
                let batch = self.source.batch(table, after.clone(), self.bounds);
                let sent = batch.await?;
                // Behind the last one nothing may be there.
                let rows_max = sent.len().max(1);
                let arrived = self.import.page(table, after.as_ref(), rows_max).await;
                let arrived = arrived.map_err(|e| self.engine(e))?;
                if let Some(at) = difference(table, &sent, &arrived) {
                    let place = self.target.place();
                    return Err(MoveError::Different { place, at });
                }
                if table.from == From::Log(Log::Events) {
                    logs.add(&self.source, self.bounds, &arrived).await?;
                }
                compared += arrived.len() as u64;
                let Some(last) = sent.into_iter().next_back() else {
                    break;
                };
                after = Some(last);
                progress(Progress {
                    phase: Phase::Comparing,
                    table: table.name,
                    rows: compared,
                    rows_all,
                });
            }
            tables.push((table.name, compared - before));
        }
        Ok(Report {
            tables,
            digest: logs.finish(&self.source, self.bounds).await?,
        })
    }
}

/// Where the first row stands that is not the same on both sides.
fn difference(table: &Table, sent: &[Row], arrived: &[Row]) -> Option<String> {
    let longer = sent.len().max(arrived.len());
    let at = (0..longer).find(|at| sent.get(*at) != arrived.get(*at))?;
    let row = sent.get(at).or_else(|| arrived.get(at))?;
    Some(table.place(row))
}

/// The digest of all logs, in the making. Events come by chat; the chats without any are among those of the source.
#[derive(Default)]
struct Logs {
    all: Sha256,
    /// The chat whose events come now.
    chat: Option<(i64, Sha256)>,
    /// The next ones.
    ids: VecDeque<i64>,
    /// The last one of them.
    last: Option<Row>,
}

impl Logs {
    async fn add(
        &mut self,
        source: &Source,
        bounds: Bounds,
        rows: &[Row],
    ) -> Result<(), MoveError> {
        for row in rows {
            let [Cell::Int(chat), Cell::Int(seq), _, Cell::Bytes(content)] = &row[..] else {
                return Err(unreadable(Corrupt("an event of another form")));
            };
            let (_, event) = codec::read_event(content, ChatId(*chat), *seq).map_err(unreadable)?;
            let leaf = digest::leaf(&Shown {
                event: Arc::new(event),
                hidden: false,
                mine: Vec::new(),
            });
            while self.chat.as_ref().is_none_or(|(id, _)| id != chat) {
                if !self.next_chat(source, bounds).await? {
                    return Err(unreadable(Corrupt("an event of no chat")));
                }
            }
            if let Some((_, sha)) = &mut self.chat {
                sha.update(leaf);
            }
        }
        Ok(())
    }

    async fn finish(mut self, source: &Source, bounds: Bounds) -> Result<[u8; 16], MoveError> {
        while self.next_chat(source, bounds).await? {}
        Ok(short(self.all))
    }

    /// Takes in the digest of a chat and goes on to the next; false when there is none.
    async fn next_chat(&mut self, source: &Source, bounds: Bounds) -> Result<bool, MoveError> {
        if let Some((id, sha)) = self.chat.take() {
            self.all.update(id.to_be_bytes());
            self.all.update(short(sha));
        }
        if self.ids.is_empty() {
            let chats = TABLES.iter().find(|t| t.from == From::Log(Log::Chats));
            let chats = chats.expect("chats are moved");
            let rows = source.batch(chats, self.last.clone(), bounds).await?;
            let ids = rows.iter().filter_map(|row| match row.first() {
                Some(Cell::Int(id)) => Some(*id),
                _ => None,
            });
            self.ids.extend(ids);
            self.last = rows.into_iter().next_back().or(self.last.take());
        }
        self.chat = self.ids.pop_front().map(|id| (id, Sha256::new()));
        Ok(self.chat.is_some())
    }
}

fn short(sha: Sha256) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&sha.finalize()[..16]);
    digest
}

fn unreadable(why: Corrupt) -> MoveError {
    MoveError::Chats(corrupt(why))
}
