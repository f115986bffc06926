//! The small tables, together in one of the engine's, told apart by the first byte of their keys. Most of
//! them say that something is so by a row being there.
//!
//! They are looked at by readers and by decisions (`view`), which see what their round has written on top. So
//! what is asked is written here once, and where it is looked up is a [`Look`].

mod own;
mod people;
mod talk;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Deref, Range};

use tertulia_kit::error::Result;

use super::codec::{self, Corrupt, ID_BYTES};
use super::corrupt;

pub use own::*;
pub use people::*;
pub use talk::*;

// The tables, and what their keys consist of.
/// user, user: their direct chat.
pub const PAIR: u8 = 1;
/// user, chat: whether it is a direct chat.
pub const CHAT_OF: u8 = 2;
/// chat, user.
pub const BAN: u8 = 3;
/// chat, message, emoji, user.
pub const REACTION: u8 = 4;
/// user, chat, message, emoji: the same from the other side. Without an emoji: the user has hidden the message.
/// A page of a log needs both, and finds them by one walk.
pub const MINE: u8 = 5;
/// chat, the message's latest change, message.
pub const CHANGE: u8 = 6;
/// chat, message.
pub const DELETED: u8 = 7;
/// user, chat, message.
pub const MENTION: u8 = 8;
/// chat, the lowest role that is called, message.
pub const CALL: u8 = 9;
/// chat, thread, message.
pub const REPLY: u8 = 10;
/// time, chat, message.
pub const EXPIRY: u8 = 11;
/// code: the invite.
pub const INVITE: u8 = 12;
/// chat, code.
pub const INVITE_OF: u8 = 13;
/// id: the scheduled message.
pub const SCHEDULED: u8 = 14;
/// user, id.
pub const SCHEDULED_OF: u8 = 15;
/// time, id.
pub const SCHEDULED_AT: u8 = 16;
/// user, hour and chat, both counted backwards: where the chat stands in the user's list.
pub const LISTED: u8 = 17;

/// What is done with a row that was met: its key and its value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>> + 'a;

/// Where rows are looked up.
pub trait Look {
    fn find(&self, key: &[u8]) -> Result<Option<impl Deref<Target = [u8]>>>;

    /// Visits the rows of a span by key, until it is told to stop.
    fn walk(&self, span: &Span, visit: &mut Visit<'_>) -> Result<()>;

    fn has(&self, key: &[u8]) -> Result<bool> {
        Ok(self.find(key)?.is_some())
    }
}

impl<L: Look> Look for &L {
    fn find(&self, key: &[u8]) -> Result<Option<impl Deref<Target = [u8]>>> {
        (**self).find(key)
    }

    fn walk(&self, span: &Span, visit: &mut Visit<'_>) -> Result<()> {
        (**self).walk(span, visit)
    }
}

/// Rows as they shall be; none where a row shall be no more.
pub type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Keys from one up to another, which is not among them.
pub struct Span {
    from: Vec<u8>,
    end: Vec<u8>,
}

impl Span {
    /// All keys that begin like this.
    fn of(prefix: Vec<u8>) -> Span {
        let end = next(&prefix);
        Span { from: prefix, end }
    }

    /// The keys that begin like this, with a number above `after` behind it.
    fn after(prefix: Vec<u8>, after: i64) -> Span {
        let end = next(&prefix);
        let mut from = prefix;
        from.extend_from_slice(&codec::id_key(after));
        Span {
            from: next(&from),
            end,
        }
    }

    /// The keys that begin like this, with a number from `first` to `last` behind it.
    fn between(prefix: Vec<u8>, first: i64, last: i64) -> Span {
        let mut from = prefix.clone();
        from.extend_from_slice(&codec::id_key(first));
        let mut end = prefix;
        end.extend_from_slice(&codec::id_key(last));
        let end = next(&end);
        Span {
            // Nothing is between a number and a lower one.
            from: from.min(end.clone()),
            end,
        }
    }

    /// The keys behind one, up to another, which is among them.
    fn behind(first: &[u8], last: &[u8]) -> Span {
        let end = next(last);
        Span {
            // Nothing is behind a key and up to one before it.
            from: next(first).min(end.clone()),
            end,
        }
    }

    pub fn range(&self) -> Range<&[u8]> {
        &self.from[..]..&self.end[..]
    }
}

/// The first key that comes after all that begin with `prefix`.
fn next(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    // The number of a table is never the last of all bytes, so something is left.
    while next.pop_if(|byte| *byte == u8::MAX).is_some() {}
    if let Some(byte) = next.last_mut() {
        *byte += 1;
    }
    next
}

/// What decisions see: what their round has written, over what is on disk.
pub struct Over<'a, L> {
    pub changes: &'a Changes,
    pub below: &'a L,
}

/// A value, and where it was found.
enum Found<'a, B> {
    Above(&'a [u8]),
    Below(B),
}

impl<B: Deref<Target = [u8]>> Deref for Found<'_, B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Found::Above(value) => value,
            Found::Below(value) => value,
        }
    }
}

impl<L: Look> Look for Over<'_, L> {
    fn find(&self, key: &[u8]) -> Result<Option<impl Deref<Target = [u8]>>> {
        match self.changes.get(key) {
            Some(value) => Ok(value.as_deref().map(Found::Above)),
            None => Ok(self.below.find(key)?.map(Found::Below)),
        }
    }

    fn walk(&self, span: &Span, visit: &mut Visit<'_>) -> Result<()> {
        let range = (Bound::Included(&*span.from), Bound::Excluded(&*span.end));
        let mut changes = self.changes.range::<[u8], _>(range).peekable();
        let mut is_over = false;
        self.below.walk(span, &mut |key, value| {
            let mut go = ControlFlow::Continue(());
            while go.is_continue()
                && let Some((new, value)) = changes.next_if(|(new, _)| new.as_slice() < key)
            {
                if let Some(value) = value {
                    go = visit(new, value)?;
                }
            }
            if go.is_continue() {
                go = match changes.next_if(|(new, _)| new.as_slice() == key) {
                    None => visit(key, value)?,
                    Some((_, Some(value))) => visit(key, value)?,
                    Some((_, None)) => go,
                };
            }
            is_over = go.is_break();
            Ok(go)
        })?;
        for (key, value) in changes.filter(|_| !is_over) {
            if let Some(value) = value
                && visit(key, value)?.is_break()
            {
                break;
            }
        }
        Ok(())
    }
}

/// The number of a table and the numbers behind it.
pub fn key<const N: usize>(table: u8, numbers: [i64; N]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + ID_BYTES * N);
    key.push(table);
    for number in numbers {
        key.extend_from_slice(&codec::id_key(number));
    }
    key
}

/// The number of a table, numbers, and a text at the end.
pub fn key_with_text<const N: usize>(table: u8, numbers: [i64; N], text: &str) -> Vec<u8> {
    let mut key = key(table, numbers);
    key.extend_from_slice(text.as_bytes());
    key
}

/// The first numbers of a key, and what is behind them.
pub fn numbers<const N: usize>(key: &[u8]) -> Result<([i64; N], &[u8])> {
    let parts = || {
        let (numbers, rest) = key.get(1..)?.split_at_checked(ID_BYTES * N)?;
        let (numbers, _) = numbers.as_chunks();
        let numbers: &[[u8; ID_BYTES]; N] = numbers.try_into().ok()?;
        Some((numbers.map(codec::number_of), rest))
    };
    parts().ok_or_else(|| corrupt(Corrupt("a key of another length")))
}

pub fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| corrupt(Corrupt("a key with a text that is none")))
}

/// The last numbers of the keys of a span, `N` numbers each, at most `max` of them.
fn last_numbers<const N: usize>(look: &impl Look, span: &Span, max: usize) -> Result<Vec<i64>> {
    let mut found = Vec::new();
    if max == 0 {
        return Ok(found);
    }
    look.walk(span, &mut |key, _| {
        let (numbers, _) = numbers::<N>(key)?;
        found.extend(numbers.last());
        Ok(go_on(found.len() < max))
    })?;
    Ok(found)
}

fn go_on(on: bool) -> ControlFlow<()> {
    if on {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

fn set(changes: &mut Changes, key: Vec<u8>, on: bool) {
    changes.insert(key, on.then(Vec::new));
}

fn value(write: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    write(&mut value);
    Some(value)
}
