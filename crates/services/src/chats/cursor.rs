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
// 2 was a page token without an hour.
const PAGE: u8 = 3;
const PAGE_BY_ID: u8 = 4;

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
    /// The hour in which that chat stands.
    pub hour: i64,
    /// When it was last active; none in an hour of which the chats are told by their ids.
    pub active_at_ms: Option<i64>,
    /// That chat.
    pub chat: ChatId,
}

impl PageToken {
    /// As text for the client.
    pub fn encode(&self) -> String {
        let form = match self.active_at_ms {
            Some(_) => PAGE,
            None => PAGE_BY_ID,
        };
        let fields = [self.hour, self.active_at_ms.unwrap_or(0), self.chat.0];
        URL_SAFE_NO_PAD.encode(seal(form, &fields.map(i64::cast_unsigned)))
    }

    /// From what a client gave; none when it is not of this form.
    pub fn decode(token: &str) -> Option<PageToken> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let fields = open(PAGE, &bytes).map(|fields| (fields, true));
        let (fields, is_timed) = fields.or_else(|| Some((open(PAGE_BY_ID, &bytes)?, false)))?;
        let [hour, active_at_ms, chat] = fields.map(u64::cast_signed);
        Some(PageToken {
            hour,
            active_at_ms: is_timed.then_some(active_at_ms),
            chat: ChatId(chat),
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
        for active_at_ms in [Some(-1), None] {
            let token = PageToken {
                hour: 3,
                active_at_ms,
                chat: ChatId(5),
            };
            assert_eq!(PageToken::decode(&token.encode()), Some(token));
        }
        assert_eq!(PageToken::decode("what?"), None);
        assert_eq!(
            PageToken::decode(&URL_SAFE_NO_PAD.encode(SOME.encode())),
            None
        );
    }
}
