//! A table with two numbers in its keys, walked beside another one that has the first of them.

use ::fjall::Slice;
use tertulia_kit::error::Failure;
use tertulia_services::ids::ChatId;

use crate::fjall::disk;
use crate::rows::codec;
use crate::rows::corrupt;

/// The rows that were not walked yet.
pub struct Rows<'a> {
    rows: disk::Rows<'a>,
    next: Option<Row>,
    failure: Option<Failure>,
}

/// A row, by the numbers of its key.
pub struct Row {
    pub chat: ChatId,
    pub second: i64,
    pub value: Slice,
}

impl<'a> Rows<'a> {
    pub fn of(rows: disk::Rows<'a>) -> Rows<'a> {
        let mut rows = Rows {
            rows,
            next: None,
            failure: None,
        };
        rows.step();
        rows
    }

    /// The next row of a chat. Rows of chats before it are given to `stray` first; the chats have to be
    /// asked for by id.
    pub fn next_of(&mut self, chat: ChatId, mut stray: impl FnMut(ChatId, i64)) -> Option<Row> {
        while self.next.as_ref().is_some_and(|row| row.chat < chat) {
            if let Some(row) = self.take() {
                stray(row.chat, row.second);
            }
        }
        match &self.next {
            Some(row) if row.chat == chat => self.take(),
            _ => None,
        }
    }

    /// Leaves out the rows of a chat, and of those before it, of which nothing can be said.
    pub fn skip(&mut self, chat: ChatId) {
        while self.next.as_ref().is_some_and(|row| row.chat <= chat) {
            self.take();
        }
    }

    /// Gives everything that is left to `stray`.
    pub fn rest(&mut self, mut stray: impl FnMut(ChatId, i64)) {
        while let Some(row) = self.take() {
            stray(row.chat, row.second);
        }
    }

    /// Why the rows ended early.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    fn take(&mut self) -> Option<Row> {
        let row = self.next.take();
        self.step();
        row
    }

    fn step(&mut self) {
        let row = self.rows.next().map(|row| {
            let (key, value) = row?;
            let (first, second) = codec::read_two_key(&key).map_err(corrupt)?;
            Ok(Row {
                chat: ChatId(first),
                second,
                value,
            })
        });
        match row {
            Some(Ok(row)) => self.next = Some(row),
            Some(Err(why)) => self.failure = Some(why),
            None => {}
        }
    }
}
