//! Rows as bytes: a version byte, then fields one after the other. Numbers that are small mostly are varints,
//! ids are eight bytes, texts carry their length. Reading never panics, whatever the bytes are.
//!
//! Keys are big-endian, so that the order of the bytes is the order of the numbers; the parts of a key that
//! are compared by order (seqs) are never negative.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tertulia_services::chats::{
    Chat, ChatKind, Event, EventBody, Message, Pair, SendKey, Seq, UserEvent, UserEventBody,
};
use tertulia_services::ids::{ChatId, MessageId, UserId};
use thiserror::Error;

/// The version of all rows.
const VERSION: u8 = 1;
const DIRECT: u8 = 1;
const MESSAGE: u8 = 1;
const CHAT_JOINED: u8 = 1;

/// The bytes are no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a stored row can not be read: {0}")]
pub struct Corrupt(pub &'static str);

type Read<T> = Result<T, Corrupt>;

/// A chat's row; its last event is a row of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatRow {
    pub kind: ChatKind,
    pub head: Seq,
    pub created_at_ms: i64,
    /// Of the commit that moved it last.
    pub position: u64,
}

impl ChatRow {
    pub fn write(&self, out: &mut Vec<u8>) {
        start(out);
        let ChatKind::Direct(pair) = &self.kind;
        out.push(DIRECT);
        for user in pair.users() {
            put_id(out, user.0);
        }
        put_number(out, self.created_at_ms);
        put_number(out, self.head);
        put_varint(out, self.position);
    }

    pub fn read(bytes: &[u8]) -> Read<ChatRow> {
        let mut fields = Fields::of(bytes)?;
        let row = ChatRow {
            kind: fields.kind()?,
            created_at_ms: fields.number()?,
            head: fields.number()?,
            position: fields.varint()?,
        };
        fields.end()?;
        Ok(row)
    }
}

/// Writes an event of the commit `position`. Its chat and its seq are in its key.
pub fn write_event(out: &mut Vec<u8>, position: u64, event: &Event) {
    start(out);
    put_varint(out, position);
    put_event(out, event);
}

/// Only the position of an event's commit.
pub fn read_event_position(bytes: &[u8]) -> Read<u64> {
    Fields::of(bytes)?.varint()
}

pub fn read_event(bytes: &[u8], chat: ChatId, seq: Seq) -> Read<(u64, Event)> {
    let mut fields = Fields::of(bytes)?;
    let position = fields.varint()?;
    let event = fields.event(chat, seq)?;
    fields.end()?;
    Ok((position, event))
}

/// Writes an event of a user's own log. Its user and its seq are in its key.
pub fn write_user_event(out: &mut Vec<u8>, event: &UserEvent) {
    start(out);
    put_number(out, event.at_ms);
    let UserEventBody::ChatJoined(chat) = &event.body;
    out.push(CHAT_JOINED);
    put_id(out, chat.id.0);
    let ChatKind::Direct(pair) = &chat.kind;
    out.push(DIRECT);
    for user in pair.users() {
        put_id(out, user.0);
    }
    put_number(out, chat.head);
    put_number(out, chat.created_at_ms);
    match &chat.last_event {
        None => out.push(0),
        Some(event) => {
            out.push(1);
            put_number(out, event.seq);
            put_event(out, event);
        }
    }
}

pub fn read_user_event(bytes: &[u8], user: UserId, seq: Seq) -> Read<UserEvent> {
    let mut fields = Fields::of(bytes)?;
    let at_ms = fields.number()?;
    if fields.byte()? != CHAT_JOINED {
        return Err(Corrupt("an unknown kind of user event"));
    }
    let id = ChatId(fields.id()?);
    let kind = fields.kind()?;
    let head = fields.number()?;
    let created_at_ms = fields.number()?;
    let last_event = match fields.byte()? {
        0 => None,
        1 => {
            let seq = fields.number()?;
            Some(Arc::new(fields.event(id, seq)?))
        }
        _ => return Err(Corrupt("neither with nor without a last event")),
    };
    fields.end()?;
    let chat = Chat {
        id,
        kind,
        head,
        created_at_ms,
        last_event,
    };
    Ok(UserEvent {
        user,
        seq,
        at_ms,
        body: UserEventBody::ChatJoined(chat),
    })
}

/// Writes where the message is that a send key was used for.
pub fn write_place(out: &mut Vec<u8>, chat: ChatId, seq: Seq) {
    start(out);
    put_id(out, chat.0);
    put_number(out, seq);
}

pub fn read_place(bytes: &[u8]) -> Read<(ChatId, Seq)> {
    let mut fields = Fields::of(bytes)?;
    let place = (ChatId(fields.id()?), fields.number()?);
    fields.end()?;
    Ok(place)
}

/// The key of a chat, of a user, and the value of a pair.
pub fn id_key(id: i64) -> [u8; 8] {
    id.to_be_bytes()
}

/// The key of an event (chat, seq), of a user event (user, seq) and of a membership (user, chat).
pub fn two_key(first: i64, second: i64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}

/// The second part of a key of two.
pub fn second_of(key: &[u8]) -> Read<i64> {
    let second = key.get(8..).and_then(|second| second.try_into().ok());
    second
        .map(i64::from_be_bytes)
        .ok_or(Corrupt("a key of another length"))
}

/// An id that is a value.
pub fn read_id(bytes: &[u8]) -> Read<i64> {
    bytes
        .try_into()
        .map(i64::from_be_bytes)
        .map_err(|_| Corrupt("an id of another length"))
}

/// The key of a pair.
pub fn pair_key(pair: Pair) -> [u8; 16] {
    let [a, b] = pair.users();
    two_key(a.0, b.0)
}

/// A send key of a sender, in short. Two that meet here are told apart by the event that they lead to.
pub type SendHash = [u8; 24];

pub fn send_hash(sender: UserId, key: &SendKey) -> SendHash {
    let mut sha = Sha256::new();
    sha.update((key.device.len() as u64).to_be_bytes());
    sha.update(key.device.as_bytes());
    sha.update(key.client_message_id.as_bytes());
    let mut hash = [0; 24];
    hash[..8].copy_from_slice(&sender.0.to_be_bytes());
    hash[8..].copy_from_slice(&sha.finalize()[..16]);
    hash
}

fn start(out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
}

fn put_event(out: &mut Vec<u8>, event: &Event) {
    put_number(out, event.at_ms);
    put_id(out, event.actor.0);
    let EventBody::Message(message) = &event.body;
    out.push(MESSAGE);
    put_id(out, message.id.0);
    put_text(out, &message.key.device);
    put_text(out, &message.key.client_message_id);
    put_text(out, &message.text);
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

    fn id(&mut self) -> Read<i64> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Corrupt("too short"))?;
        self.0 = rest;
        Ok(i64::from_be_bytes(*first))
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

    fn text(&mut self) -> Read<String> {
        let bytes = usize::try_from(self.varint()?).map_err(|_| Corrupt("too long"))?;
        let (text, rest) = self.0.split_at_checked(bytes).ok_or(Corrupt("too short"))?;
        self.0 = rest;
        Ok(std::str::from_utf8(text)
            .map_err(|_| Corrupt("a text that is none"))?
            .to_owned())
    }

    fn kind(&mut self) -> Read<ChatKind> {
        if self.byte()? != DIRECT {
            return Err(Corrupt("an unknown kind of chat"));
        }
        let (a, b) = (UserId(self.id()?), UserId(self.id()?));
        Pair::new(a, b)
            .map(ChatKind::Direct)
            .ok_or(Corrupt("a pair of one"))
    }

    fn event(&mut self, chat: ChatId, seq: Seq) -> Read<Event> {
        let at_ms = self.number()?;
        let actor = UserId(self.id()?);
        if self.byte()? != MESSAGE {
            return Err(Corrupt("an unknown kind of event"));
        }
        let id = MessageId(self.id()?);
        let key = SendKey {
            device: self.text()?,
            client_message_id: self.text()?,
        };
        let body = EventBody::Message(Message {
            id,
            key,
            text: self.text()?,
        });
        Ok(Event {
            chat,
            seq,
            at_ms,
            actor,
            body,
        })
    }

    fn end(self) -> Read<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Corrupt("too long"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn kinds()(a: i64, b: i64) -> ChatKind {
            let (a, b) = if a == b { (0, 1) } else { (a, b) };
            ChatKind::Direct(Pair::new(UserId(a), UserId(b)).unwrap())
        }
    }

    prop_compose! {
        fn events()(
            ids in any::<(i64, i64, i64, i64, i64)>(),
            texts in any::<(String, String, String)>(),
        ) -> Event {
            let key = SendKey { device: texts.0, client_message_id: texts.1 };
            let body = EventBody::Message(Message { id: MessageId(ids.0), text: texts.2, key });
            Event { chat: ChatId(ids.1), seq: ids.2, at_ms: ids.3, actor: UserId(ids.4), body }
        }
    }

    prop_compose! {
        fn chats()(
            kind in kinds(),
            numbers in any::<(i64, i64, i64)>(),
            last_event in proptest::option::of(events()),
        ) -> Chat {
            let id = ChatId(numbers.0);
            let last_event = last_event.map(|event| Arc::new(Event { chat: id, ..event }));
            Chat { id, kind, head: numbers.1, created_at_ms: numbers.2, last_event }
        }
    }

    proptest! {
        #[test]
        fn a_row_comes_back_as_it_left(
            kind in kinds(),
            numbers in any::<(i64, i64, u64)>(),
            event in events(),
            chat in chats(),
        ) {
            let mut out = vec![9];
            let (head, created_at_ms, position) = numbers;
            let row = ChatRow { kind, head, created_at_ms, position };
            row.write(&mut out);
            prop_assert_eq!(ChatRow::read(&out), Ok(row));

            write_event(&mut out, position, &event);
            prop_assert_eq!(read_event_position(&out), Ok(position));
            prop_assert_eq!(read_event(&out, event.chat, event.seq), Ok((position, event)));

            let body = UserEventBody::ChatJoined(chat);
            let event = UserEvent { user: UserId(1), seq: 2, at_ms: head, body };
            write_user_event(&mut out, &event);
            prop_assert_eq!(read_user_event(&out, UserId(1), 2), Ok(event));

            write_place(&mut out, ChatId(head), created_at_ms);
            prop_assert_eq!(read_place(&out), Ok((ChatId(head), created_at_ms)));
        }

        #[test]
        fn reading_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for version in [None, Some(VERSION)] {
                if let (Some(version), Some(first)) = (version, bytes.first_mut()) {
                    *first = version;
                }
                _ = ChatRow::read(&bytes);
                _ = read_event(&bytes, ChatId(1), 1);
                _ = read_event_position(&bytes);
                _ = read_user_event(&bytes, UserId(1), 1);
                _ = read_place(&bytes);
                _ = second_of(&bytes);
                _ = read_id(&bytes);
            }
        }

        #[test]
        fn a_cut_or_longer_row_is_corrupt(event in events(), cut: prop::sample::Index) {
            let mut out = Vec::new();
            write_event(&mut out, 7, &event);
            let cut = &out[..cut.index(out.len())];
            prop_assert!(read_event(cut, event.chat, event.seq).is_err());
            out.push(0);
            prop_assert!(read_event(&out, event.chat, event.seq).is_err());
        }

        #[test]
        fn the_order_of_seqs_is_the_order_of_their_keys(chat: i64, a in 0..i64::MAX, b in 0..i64::MAX) {
            prop_assert_eq!(a.cmp(&b), two_key(chat, a).cmp(&two_key(chat, b)));
            prop_assert_eq!(second_of(&two_key(chat, a)), Ok(a));
        }
    }

    #[test]
    fn a_device_and_an_id_do_not_flow_into_each_other() {
        let hash = |device: &str, id: &str| {
            let key = SendKey {
                device: device.into(),
                client_message_id: id.into(),
            };
            send_hash(UserId(1), &key)
        };
        assert_ne!(hash("a", "bc"), hash("ab", "c"));
    }
}
