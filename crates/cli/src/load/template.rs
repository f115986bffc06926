//! A `SendMessage` call that is encoded once and then patched in place, because everything in it that changes
//! has the same length every time.

use buffa::Message as _;
use tertulia_proto::chats::SendMessageRequest;
use tertulia_proto::live::call::Request;
use tertulia_proto::live::{Call, ConnectRequest};

/// A message's text begins with when it was due, in hexadecimal nanoseconds.
const STAMP: usize = 16;
/// The number of a message at the end of its client message id.
const NUMBER: usize = 12;
/// What a client message id takes: a name of the sender, a dash, the number.
const NAME: usize = 16;

/// Call ids begin here, so that every one of them takes five bytes.
const CALL_ID_MIN: u64 = 1 << 28;
const CALL_ID_BYTES: usize = 5;

/// The shortest text.
pub const TEXT_BYTES_MIN: usize = STAMP;

/// The frame of a sender's next message.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    call_id_at: usize,
    number_at: usize,
    stamp_at: usize,
}

impl Template {
    /// Messages of `text_bytes` into a chat, from a sender with a random name of this run.
    pub fn new(chat_id: i64, text_bytes: usize) -> Self {
        let mark = "#".repeat(STAMP);
        let number = "~".repeat(NUMBER);
        let filling = "tertulia "
            .chars()
            .cycle()
            .take(text_bytes.saturating_sub(STAMP));
        let request = SendMessageRequest {
            chat_id,
            client_message_id: format!("{:0NAME$x}-{number}", rand::random::<u64>()),
            text: mark.chars().chain(filling).collect(),
            ..Default::default()
        };
        let call = Call {
            call_id: CALL_ID_MIN,
            method: "tertulia.chats.v1.MessagesService/SendMessage".to_owned(),
            request: Some(Request::Proto(request.encode_to_vec())),
            ..Default::default()
        };
        let bytes = ConnectRequest {
            frame: Some(call.into()),
            ..Default::default()
        }
        .encode_to_vec();
        let find = |what: &[u8]| {
            let mut found = bytes
                .windows(what.len())
                .enumerate()
                .filter(|(_, w)| *w == what);
            let (at, _) = found.next().expect("what was encoded is in the bytes");
            at
        };
        Template {
            // The call id is the first field of the call; behind it comes the method.
            call_id_at: find(&varint(CALL_ID_MIN)),
            number_at: find(number.as_bytes()),
            stamp_at: find(mark.as_bytes()),
            bytes,
        }
    }

    /// The frame of message `n`, due at `stamp`.
    pub fn message(&mut self, n: u64, stamp: u64) -> &[u8] {
        self.bytes[self.call_id_at..][..CALL_ID_BYTES].copy_from_slice(&varint(CALL_ID_MIN + n));
        write_hex(&mut self.bytes[self.number_at..][..NUMBER], n);
        write_hex(&mut self.bytes[self.stamp_at..][..STAMP], stamp);
        &self.bytes
    }

    /// Which message a reply answers.
    pub fn number_of_call(call_id: u64) -> Option<u64> {
        call_id.checked_sub(CALL_ID_MIN)
    }

    /// Which message an event carries, as its sender counts.
    pub fn number_of_message(client_message_id: &str) -> Option<u64> {
        u64::from_str_radix(client_message_id.get(NAME + 1..)?, 16).ok()
    }

    /// When a message was due.
    pub fn stamp_of(text: &str) -> Option<u64> {
        u64::from_str_radix(text.get(..STAMP)?, 16).ok()
    }
}

fn varint(value: u64) -> [u8; CALL_ID_BYTES] {
    std::array::from_fn(|n| {
        let last = n == CALL_ID_BYTES - 1;
        (value >> (7 * n)) as u8 & 0x7F | if last { 0 } else { 0x80 }
    })
}

fn write_hex(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protovalidate_buffa::Validate as _;
    use tertulia_proto::live::connect_request::Frame;

    fn read(bytes: &[u8]) -> (u64, SendMessageRequest) {
        let frame = ConnectRequest::decode_from_slice(bytes).unwrap();
        frame.validate().unwrap();
        let Some(Frame::Call(call)) = frame.frame else {
            panic!("not a call")
        };
        assert!(tertulia_proto::method(&call.method).is_some());
        let Some(Request::Proto(body)) = call.request else {
            panic!("not protobuf")
        };
        (
            call.call_id,
            SendMessageRequest::decode_from_slice(&body).unwrap(),
        )
    }

    #[test]
    fn a_patched_frame_is_a_valid_call_that_says_what_was_patched() {
        let mut template = Template::new(i64::MAX, 128);
        for (n, stamp) in [
            (0, 0),
            (1, 77),
            (0xABC_DEF, u64::MAX),
            (5_000_000_000, 1 << 40),
        ] {
            let (call_id, request) = read(template.message(n, stamp));
            request.validate().unwrap();
            assert_eq!(request.chat_id, i64::MAX);
            assert_eq!(request.text.len(), 128);
            assert_eq!(Template::number_of_call(call_id), Some(n));
            assert_eq!(
                Template::number_of_message(&request.client_message_id),
                Some(n)
            );
            assert_eq!(Template::stamp_of(&request.text), Some(stamp));
        }
    }

    #[test]
    fn no_message_id_comes_twice_and_two_senders_share_none() {
        let (mut one, mut two) = (Template::new(1, 16), Template::new(1, 16));
        let id = |bytes: &[u8]| read(bytes).1.client_message_id;
        let ids = [
            id(one.message(1, 0)),
            id(one.message(2, 0)),
            id(two.message(1, 0)),
        ];
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
    }
}
