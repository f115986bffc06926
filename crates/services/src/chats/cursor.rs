//! The two opaque values that clients keep for us: the cursor of a device and the token of a page. A checksum
//! tells damage from truth; it is no secret, because a forged one opens nothing that its caller may not read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::model::{Epoch, Position, Seq};
use crate::ids::{ChatId, UserId};

/// How far a device has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// In which history.
    pub epoch: Epoch,
    /// Whose.
    pub user: UserId,
    /// In all chats.
    pub position: Position,
    /// In the user's own log.
    pub own_seq: Seq,
}

const CURSOR: u8 = 1;
const PAGE: u8 = 2;

impl Cursor {
    /// As bytes for the client.
    pub fn encode(&self) -> Vec<u8> {
        let fields = [
            self.epoch.0,
            self.user.0.cast_unsigned(),
            self.position.0,
            self.own_seq.cast_unsigned(),
        ];
        seal(CURSOR, &fields)
    }

    /// From what a client kept; none when it is not of this form.
    pub fn decode(bytes: &[u8]) -> Option<Cursor> {
        let [epoch, user, position, own_seq] = open(CURSOR, bytes)?;
        let own_seq = own_seq.cast_signed();
        (own_seq >= 0).then_some(Cursor {
            epoch: Epoch(epoch),
            user: UserId(user.cast_signed()),
            position: Position(position),
            own_seq,
        })
    }
}

/// After which chat a page of the list begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageToken {
    /// When that chat was last active.
    pub active_at_ms: i64,
    /// That chat.
    pub chat: ChatId,
}

impl PageToken {
    /// As text for the client.
    pub fn encode(&self) -> String {
        let fields = [
            self.active_at_ms.cast_unsigned(),
            self.chat.0.cast_unsigned(),
        ];
        URL_SAFE_NO_PAD.encode(seal(PAGE, &fields))
    }

    /// From what a client gave; none when it is not of this form.
    pub fn decode(token: &str) -> Option<PageToken> {
        let [active_at_ms, chat] = open(PAGE, &URL_SAFE_NO_PAD.decode(token).ok()?)?;
        Some(PageToken {
            active_at_ms: active_at_ms.cast_signed(),
            chat: ChatId(chat.cast_signed()),
        })
    }
}

/// A form byte, the fields, and a checksum of both.
fn seal(form: u8, fields: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 8 * fields.len() + 4);
    bytes.push(form);
    for field in fields {
        bytes.extend_from_slice(&field.to_be_bytes());
    }
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes
}

fn open<const N: usize>(form: u8, bytes: &[u8]) -> Option<[u64; N]> {
    let (rest, sum) = bytes.split_last_chunk::<4>()?;
    if checksum(rest) != u32::from_be_bytes(*sum) {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let (words, []) = rest.as_chunks::<8>() else {
        return None;
    };
    if *first != form {
        return None;
    }
    let words: &[[u8; 8]; N] = words.try_into().ok()?;
    Some(words.map(u64::from_be_bytes))
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Cursor = Cursor {
        epoch: Epoch(u64::MAX),
        user: UserId(7),
        position: Position(99),
        own_seq: 3,
    };

    #[test]
    fn a_cursor_comes_back_as_it_left() {
        assert_eq!(Cursor::decode(&SOME.encode()), Some(SOME));
    }

    #[test]
    fn a_damaged_cursor_is_none() {
        let bytes = SOME.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Cursor::decode(&damaged), None, "byte {at}");
            assert_eq!(Cursor::decode(&bytes[..at]), None, "cut at {at}");
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert_eq!(Cursor::decode(&longer), None);
    }

    #[test]
    fn a_page_token_is_no_cursor() {
        let token = PageToken {
            active_at_ms: -1,
            chat: ChatId(5),
        };
        assert_eq!(PageToken::decode(&token.encode()), Some(token));
        assert_eq!(PageToken::decode("what?"), None);
        assert_eq!(
            PageToken::decode(&URL_SAFE_NO_PAD.encode(SOME.encode())),
            None
        );
    }
}
