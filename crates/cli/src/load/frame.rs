//! WebSocket frames as a client of our own server needs them: whole messages, no extensions.

use anyhow::{Result, bail};

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message of the contract.
    Binary(&'a [u8]),
    /// To be answered with the same bytes.
    Ping(&'a [u8]),
    /// The end, with its code; 1005 when the server gave none.
    Close(u16),
    /// Nothing to do.
    Other,
}

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// More than any frame of this server, so that a broken length does not become an allocation.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reads the first frame of `bytes` and how many bytes it takes; none when it is not all there yet.
///
/// # Errors
/// When it is not what a server may send.
pub fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    if first & 0xF0 != 0x80 || second & 0x80 != 0 {
        bail!("the server sent a frame that is in parts, compressed or masked");
    }
    let (len, at) = match second {
        126 => match bytes.get(2..4) {
            Some(len) => (usize::from(u16::from_be_bytes([len[0], len[1]])), 4),
            None => return Ok(None),
        },
        127 => match bytes
            .get(2..10)
            .and_then(|len| <[u8; 8]>::try_from(len).ok())
        {
            Some(len) => (
                usize::try_from(u64::from_be_bytes(len)).unwrap_or(usize::MAX),
                10,
            ),
            None => return Ok(None),
        },
        len => (usize::from(len), 2),
    };
    if len > PAYLOAD_BYTES_MAX {
        bail!("the server sent a frame of {len} bytes");
    }
    let Some(payload) = bytes.get(at..at + len) else {
        return Ok(None);
    };
    let frame = match first & 0x0F {
        BINARY => Frame::Binary(payload),
        PING => Frame::Ping(payload),
        CLOSE => Frame::Close(match payload {
            [high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => 1005,
        }),
        PONG => Frame::Other,
        code => bail!("the server sent a frame of kind {code}"),
    };
    Ok(Some((frame, at + len)))
}

/// The masking keys of one connection. A client must mask every frame with a key that nobody can foresee; the
/// first comes from the system, the others follow from it.
#[derive(Debug)]
pub struct Mask(u32);

impl Mask {
    /// Keys that begin somewhere.
    pub fn random() -> Self {
        Mask(rand::random())
    }

    fn next(&mut self) -> [u8; 4] {
        self.0 = self.0.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let word = ((self.0 >> ((self.0 >> 28) + 4)) ^ self.0).wrapping_mul(277_803_737);
        ((word >> 22) ^ word).to_le_bytes()
    }
}

/// Appends a binary frame to `out`.
pub fn binary(payload: &[u8], mask: &mut Mask, out: &mut Vec<u8>) {
    write(BINARY, payload, mask, out);
}

/// Appends the answer to a ping.
pub fn pong(payload: &[u8], mask: &mut Mask, out: &mut Vec<u8>) {
    write(PONG, payload, mask, out);
}

/// Appends a goodbye.
pub fn close(mask: &mut Mask, out: &mut Vec<u8>) {
    write(CLOSE, &1000_u16.to_be_bytes(), mask, out);
}

fn write(kind: u8, payload: &[u8], mask: &mut Mask, out: &mut Vec<u8>) {
    out.push(0x80 | kind);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let key = mask.next();
    out.extend_from_slice(&key);
    let at = out.len();
    out.extend_from_slice(payload);
    let (words, rest) = out[at..].as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server reads of a client's frame: its kind and its payload.
    fn unmasked(frame: &[u8]) -> (u8, Vec<u8>) {
        assert_ne!(frame[1] & 0x80, 0, "a client's frame is masked");
        let at = match frame[1] & 0x7F {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let key = &frame[at..at + 4];
        let payload = frame[at + 4..]
            .iter()
            .zip(key.iter().cycle())
            .map(|(b, k)| b ^ k)
            .collect();
        (frame[0] & 0x0F, payload)
    }

    #[test]
    fn the_server_reads_what_was_written_at_every_length() {
        let mut mask = Mask::random();
        for len in [0, 1, 3, 4, 125, 126, 127, 65_535, 65_536] {
            let payload: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let mut out = Vec::new();
            binary(&payload, &mut mask, &mut out);
            assert_eq!(unmasked(&out), (BINARY, payload));
        }
    }

    #[test]
    fn two_frames_do_not_share_a_key() {
        let mut mask = Mask::random();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        binary(b"the same words", &mut mask, &mut one);
        binary(b"the same words", &mut mask, &mut two);
        assert_ne!(one, two);
    }

    #[test]
    fn a_frame_is_read_once_all_of_it_is_there() {
        for (head, len) in [(vec![0x82, 5], 5), (vec![0x82, 126, 1, 0], 256)] {
            let whole: Vec<u8> = head
                .iter()
                .copied()
                .chain(std::iter::repeat_n(7, len))
                .collect();
            for cut in 0..whole.len() {
                assert!(parse(&whole[..cut]).unwrap().is_none());
            }
            let (frame, used) = parse(&whole).unwrap().unwrap();
            assert_eq!(
                (frame, used),
                (Frame::Binary(&vec![7; len][..]), whole.len())
            );
        }
    }

    #[test]
    fn the_bytes_behind_a_frame_are_left() {
        let (frame, used) = parse(&[0x89, 1, 42, 0x88, 2, 0x0F, 0xA4]).unwrap().unwrap();
        assert_eq!((frame, used), (Frame::Ping(&[42]), 3));
        assert_eq!(
            parse(&[0x88, 2, 0x0F, 0xA4]).unwrap().unwrap().0,
            Frame::Close(4004)
        );
        assert_eq!(parse(&[0x88, 0]).unwrap().unwrap().0, Frame::Close(1005));
    }

    #[test]
    fn what_a_server_may_not_send_is_an_error() {
        let huge = [0x82, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        for bytes in [&[0x02, 0][..], &[0xC2, 0], &[0x82, 0x80], &[0x83, 0], &huge] {
            assert!(parse(bytes).is_err());
        }
    }
}
