//! Rows as bytes: a version byte, then fields one after the other. Numbers that are small mostly are varints,
//! ids are eight bytes, texts and lists carry their length. Reading never panics, whatever the bytes are.
//!
//! In keys the order of the bytes is the order of the numbers.

mod chat;
mod event;
mod feed;
mod member;
mod own;
mod parts;
mod used;

#[cfg(test)]
mod tests;

use tertulia_services::chats::Seq;
use tertulia_services::ids::UserId;
use thiserror::Error;

pub use chat::{Marks, StoredChat, read_chat, read_marks, write_chat};
pub use event::{read_event, read_event_position, write_event};
pub use feed::{EventKey, read_fed, write_fed};
pub use member::{
    read_invite, read_membership, read_scheduled, write_invite, write_membership, write_scheduled,
};
pub use own::{read_user_event, write_user_event};
pub use parts::role_number;
pub use used::{SendHash, read_fresh, read_used, send_hash, write_fresh, write_used};

/// The version of all rows.
const VERSION: u8 = 2;

/// The bytes are no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a stored row can not be read: {0}")]
pub struct Corrupt(pub &'static str);

type Read<T> = Result<T, Corrupt>;

/// How many bytes an id takes in a key.
pub const ID_BYTES: usize = 8;

/// A number in a key.
pub fn id_key(id: i64) -> [u8; ID_BYTES] {
    // The sign is turned over, so that negative numbers stand before the others.
    (id.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// Two numbers in a key: an event is at (chat, seq), a user's event at (user, seq), a membership at
/// (chat, user).
pub fn two_key(first: i64, second: i64) -> [u8; 2 * ID_BYTES] {
    let mut key = [0; 2 * ID_BYTES];
    key[..ID_BYTES].copy_from_slice(&id_key(first));
    key[ID_BYTES..].copy_from_slice(&id_key(second));
    key
}

/// The only number of a key.
pub fn read_id_key(key: &[u8]) -> Read<i64> {
    let key = key
        .try_into()
        .map_err(|_| Corrupt("a key of another length"))?;
    Ok(number_of(key))
}

/// The two numbers of a key.
pub fn read_two_key(key: &[u8]) -> Read<(i64, i64)> {
    match key.as_chunks() {
        ([first, second], []) => Ok((number_of(*first), number_of(*second))),
        _ => Err(Corrupt("a key of another length")),
    }
}

/// A number out of a key.
pub fn number_of(key: [u8; ID_BYTES]) -> i64 {
    (u64::from_be_bytes(key) ^ (1 << 63)).cast_signed()
}

/// Writes a number that is a value of its own.
pub fn write_value(out: &mut Vec<u8>, number: i64) {
    start(out);
    put_number(out, number);
}

pub fn read_value(bytes: &[u8]) -> Read<i64> {
    let mut fields = Fields::of(bytes)?;
    let number = fields.number()?;
    fields.end()?;
    Ok(number)
}

/// Reads a head that is a value of its own.
pub fn read_head(bytes: &[u8]) -> Read<Seq> {
    let mut fields = Fields::of(bytes)?;
    let head = fields.head()?;
    fields.end()?;
    Ok(head)
}

fn start(out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
}

fn put_id(out: &mut Vec<u8>, id: i64) {
    out.extend_from_slice(&id.to_be_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// A number that may be negative, small in bytes when it is near zero.
fn put_number(out: &mut Vec<u8>, number: i64) {
    put_varint(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_option(out: &mut Vec<u8>, number: Option<i64>) {
    out.push(u8::from(number.is_some()));
    if let Some(number) = number {
        put_number(out, number);
    }
}

fn put_list<T>(out: &mut Vec<u8>, list: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    put_varint(out, list.len() as u64);
    for item in list {
        put(out, item);
    }
}

fn put_users(out: &mut Vec<u8>, users: &[UserId]) {
    put_list(out, users, |out, user| put_id(out, user.0));
}

fn put_seqs(out: &mut Vec<u8>, seqs: &[i64]) {
    put_list(out, seqs, |out, seq| put_number(out, *seq));
}

/// What is left to be read of a row.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8]) -> Read<Fields<'a>> {
        let mut fields = Fields(bytes);
        match fields.byte()? {
            VERSION => Ok(fields),
            _ => Err(Corrupt("an unknown version")),
        }
    }

    fn byte(&mut self) -> Read<u8> {
        let (first, rest) = self.0.split_first().ok_or(Corrupt("too short"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn flag(&mut self) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Corrupt("neither yes nor no")),
        }
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Corrupt("too short"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn id(&mut self) -> Read<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn user(&mut self) -> Read<UserId> {
        self.id().map(UserId)
    }

    fn varint(&mut self) -> Read<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Corrupt("a number beyond 64 bits"))
    }

    fn number(&mut self) -> Read<i64> {
        let number = self.varint()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// The seq of the newest event of a log, or 0: it is counted on from, and so there is always one after it.
    fn head(&mut self) -> Read<Seq> {
        match self.number()? {
            head if (0..Seq::MAX).contains(&head) => Ok(head),
            _ => Err(Corrupt("a head that is none")),
        }
    }

    fn count(&mut self) -> Read<u32> {
        let number = self.varint()?;
        u32::try_from(number).map_err(|_| Corrupt("a number beyond 32 bits"))
    }

    fn option(&mut self) -> Read<Option<i64>> {
        self.flag()?.then(|| self.number()).transpose()
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let bytes = usize::try_from(self.varint()?).map_err(|_| Corrupt("too long"))?;
        let (bytes, rest) = self.0.split_at_checked(bytes).ok_or(Corrupt("too short"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Read<String> {
        Ok(std::str::from_utf8(self.bytes()?)
            .map_err(|_| Corrupt("a text that is none"))?
            .to_owned())
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = usize::try_from(self.varint()?).map_err(|_| Corrupt("too long"))?;
        // Every item takes a byte at least, so no number can make this reserve more than the row is long.
        if count > self.0.len() {
            return Err(Corrupt("too short"));
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(item(self)?);
        }
        Ok(list)
    }

    fn users(&mut self) -> Read<Vec<UserId>> {
        self.list(Fields::user)
    }

    fn seqs(&mut self) -> Read<Vec<i64>> {
        self.list(Fields::number)
    }

    fn end(self) -> Read<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Corrupt("too long"))
        }
    }
}
