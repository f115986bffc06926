//! The heads of frames (RFC 6455, section 5.2).

use thiserror::Error;

use super::{CONTROL_BYTES_MAX, Kind};

/// What is no WebSocket that may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Bad {
    /// It is not what the protocol says.
    #[error("this is not the WebSocket protocol")]
    Protocol,
    /// A message is larger than it may be.
    #[error("the frame is too large")]
    TooLarge,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A message, or its beginning.
    Data(Kind),
    /// More of a message.
    Continuation,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn of(number: u8) -> Option<Opcode> {
        Some(match number {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Data(Kind::Text),
            0x2 => Opcode::Data(Kind::Binary),
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return None,
        })
    }

    fn number(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Data(Kind::Text) => 0x1,
            Opcode::Data(Kind::Binary) => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xA,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// The head of a frame of a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub opcode: Opcode,
    /// No more of the message follows.
    pub is_last: bool,
    mask: [u8; 4],
    /// How long the head is.
    pub bytes: usize,
    /// How long what follows is.
    pub payload: usize,
}

impl Header {
    /// Reads one at the beginning of some bytes; none when it is not whole.
    pub fn read(bytes: &[u8], payload_max: usize) -> Result<Option<Header>, Bad> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let opcode = Opcode::of(first & 0x0F).ok_or(Bad::Protocol)?;
        let is_last = first & 0x80 != 0;
        // No extension is agreed on that would use these, and clients mask what they send.
        if first & 0x70 != 0 || second & 0x80 == 0 {
            return Err(Bad::Protocol);
        }
        let short = second & 0x7F;
        let (payload, rest) = match short {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            length => (u64::from(length), rest),
        };
        let payload = usize::try_from(payload).map_err(|_| Bad::TooLarge)?;
        if opcode.is_control() {
            if !is_last || payload > CONTROL_BYTES_MAX {
                return Err(Bad::Protocol);
            }
        } else if payload > payload_max {
            return Err(Bad::TooLarge);
        }
        let Some((mask, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        Ok(Some(Header {
            opcode,
            is_last,
            mask: *mask,
            bytes: bytes.len() - rest.len(),
            payload,
        }))
    }

    /// Makes what follows readable.
    pub fn unmask(&self, payload: &mut [u8]) {
        let word = u32::from_ne_bytes(self.mask);
        let (words, rest) = payload.as_chunks_mut();
        for bytes in words {
            *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(self.mask) {
            *byte ^= mask;
        }
    }
}

/// Writes the head of a frame of ours: a whole one, without a mask.
pub fn write(out: &mut Vec<u8>, opcode: Opcode, payload: usize) {
    out.push(0x80 | opcode.number());
    match payload {
        0..126 => out.push(payload as u8),
        126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
}
