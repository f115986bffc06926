//! What nodes tell each other: frames that are ready to be sent, logins that ended, and who is there.

use std::sync::{Arc, OnceLock};

use buffa::Message as _;
use bytes::Bytes;
use tertulia_kit::bus::{Payload, Undecodable};
use tertulia_proto::chats::__buffa::oneof::user_event::Body;
use tertulia_proto::chats::{ChatReceipts, UserEvent as WireUserEvent};
use tertulia_proto::live::{self as wire, ConnectResponse};
use tertulia_services::chats::{Event, Receipt, UserEvent};
use tertulia_services::ids::{ChatId, LoginId, UserId};
use tertulia_services::presence::{State, Word};

use super::frames::{self, Outbound};
use crate::convert;

mod subject;
mod words;

pub use subject::Subject;

/// The subject of what concerns one user.
pub fn of_user(user: UserId) -> Subject {
    Subject::of("user.", user.0)
}

/// The subject of what concerns whoever has a chat warm.
pub fn of_chat(chat: ChatId) -> Subject {
    Subject::of("chat.", chat.0)
}

/// The subject of what concerns many members of a chat. Every node hears it.
pub const OF_MANY: &str = "many";

/// The subject of who is there. Every node hears it.
pub const OF_PRESENCE: &str = "presence";

/// What nodes tell each other.
#[derive(Debug, Clone)]
pub enum Told {
    /// A frame for whom the subject names.
    Frame(Arc<Frame>),
    /// A frame for all of these.
    Many(Arc<Frame>, Arc<[UserId]>),
    /// The sessions of this login must end.
    LoginEnded(LoginId),
    /// Who is there.
    Presence(Word),
    /// Somebody is in a chat no longer: nobody there hears of them any more whether they are there.
    Parted(ChatId, UserId),
}

/// A frame ready to be sent. It is encoded once, however many hear it.
#[derive(Debug)]
pub struct Frame {
    /// What it is to a queue.
    pub sort: Sort,
    /// The chat that its user is in no longer, when that is what it tells.
    pub leaves: Option<ChatId>,
    /// Who is answered next on this node for what it tells; nobody as far as it is known.
    pub answered: Option<UserId>,
    proto: Bytes,
    /// Made when the first session wants it.
    json: OnceLock<Box<str>>,
}

/// What a frame is to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// An event of a log, with its number: it is sent, or the session is behind.
    Event(Log, i64),
    /// Something that may be dropped, and of which only the newest counts.
    Passing(Passing),
}

/// A numbered log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Log {
    /// Of a chat.
    Chat(ChatId),
    /// The user's own.
    Own,
}

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Somebody is typing somewhere.
    Typing(ChatId, UserId),
    /// Somebody's receipt has moved. Heartbeats tell it again.
    Receipt(ChatId, UserId),
    /// Somebody from outside has something to say. None takes the place of another.
    Notice,
    /// Somebody comes, rests or goes. The session is told anew what it did not hear.
    Presence(UserId),
}

impl Frame {
    /// An event of a chat.
    pub fn of_event(event: &Arc<Event>) -> Arc<Frame> {
        let frame = wire::ChatEvent {
            prev: event.seq - 1,
            event: convert::live_event(event).into(),
            ..Default::default()
        };
        Frame::told(frame.into(), Some(event.actor))
    }

    /// An event of a user's own log.
    pub fn of_user_event(event: &UserEvent) -> Arc<Frame> {
        let frame = wire::OwnEvent {
            prev: event.seq - 1,
            event: convert::user_event(event).into(),
            ..Default::default()
        };
        Frame::made(frame.into())
    }

    /// A receipt that has moved.
    pub fn of_receipt(chat: ChatId, receipt: &Receipt) -> Arc<Frame> {
        let frame = ChatReceipts {
            chat_id: chat.0,
            receipts: vec![convert::receipt(receipt)],
            ..Default::default()
        };
        Frame::made(Outbound::Receipts(Box::new(frame)))
    }

    /// Somebody is typing.
    pub fn of_typing(chat: ChatId, user: UserId) -> Arc<Frame> {
        let frame = wire::Typing {
            chat_id: chat.0,
            user_id: user.0,
            ..Default::default()
        };
        Frame::made(frame.into())
    }

    /// What the operator or a service of the deployment tells.
    pub fn of_notice(notice: wire::Notice) -> Arc<Frame> {
        Frame::made(notice.into())
    }

    /// Somebody comes, rests or goes.
    pub fn of_presence(user: UserId, state: State) -> Arc<Frame> {
        Frame::made(convert::presence(user, state).into())
    }

    fn made(frame: Outbound) -> Arc<Frame> {
        Frame::told(frame, None)
    }

    fn told(frame: Outbound, answered: Option<UserId>) -> Arc<Frame> {
        let about = About::of(&frame).expect("only frames that others hear are made here");
        Frame::new(about, answered, frames::encode_proto(frame).into())
    }

    fn new(about: About, answered: Option<UserId>, proto: Bytes) -> Arc<Frame> {
        Arc::new(Frame {
            sort: about.sort,
            leaves: about.leaves,
            answered,
            proto,
            json: OnceLock::new(),
        })
    }

    /// The chat whose log it is of, when it is an event of one.
    pub fn chat(&self) -> Option<ChatId> {
        match self.sort {
            Sort::Event(Log::Chat(chat), _) => Some(chat),
            Sort::Passing(Passing::Typing(chat, _) | Passing::Receipt(chat, _)) => Some(chat),
            Sort::Event(Log::Own, _) | Sort::Passing(Passing::Notice | Passing::Presence(_)) => {
                None
            }
        }
    }

    /// As protobuf.
    pub fn proto(&self) -> &[u8] {
        &self.proto
    }

    /// As JSON.
    pub fn json(&self) -> &str {
        let json = || frames::proto_to_json(&self.proto).into();
        self.json.get_or_init(json)
    }

    /// What it takes in a queue.
    pub fn bytes(&self) -> usize {
        self.proto.len()
    }
}

/// What a node must know of a frame to hand it on.
struct About {
    sort: Sort,
    leaves: Option<ChatId>,
}

impl About {
    /// None for a frame that only its own session hears.
    fn of(frame: &Outbound) -> Option<About> {
        let (sort, leaves) = match frame {
            Outbound::ChatEvent(event) => {
                let event = event.event.as_option()?;
                let log = Log::Chat(ChatId(event.chat_id));
                (Sort::Event(log, event.seq), None)
            }
            Outbound::OwnEvent(event) => {
                let event = event.event.as_option()?;
                (Sort::Event(Log::Own, event.seq), left(event))
            }
            Outbound::Typing(typing) => {
                let (chat, user) = (ChatId(typing.chat_id), UserId(typing.user_id));
                (Sort::Passing(Passing::Typing(chat, user)), None)
            }
            Outbound::Receipts(receipts) => {
                let [receipt] = &receipts.receipts[..] else {
                    return None;
                };
                let (chat, user) = (ChatId(receipts.chat_id), UserId(receipt.user_id));
                (Sort::Passing(Passing::Receipt(chat, user)), None)
            }
            Outbound::Notice(_) => (Sort::Passing(Passing::Notice), None),
            Outbound::Presence(presence) => {
                let user = UserId(presence.user_id);
                (Sort::Passing(Passing::Presence(user)), None)
            }
            _ => return None,
        };
        Some(About { sort, leaves })
    }
}

fn left(event: &WireUserEvent) -> Option<ChatId> {
    match &event.body {
        Some(Body::ChatLeft(left)) => Some(ChatId(left.chat_id)),
        _ => None,
    }
}

const FRAME: u8 = 1;
const LOGIN_ENDED: u8 = 2;
const MANY: u8 = 3;
const PRESENCE: u8 = 16;
const PARTED: u8 = 17;

impl Payload for Told {
    fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        match self {
            Told::Frame(frame) => {
                bytes.push(FRAME);
                bytes.extend_from_slice(&frame.proto);
            }
            Told::Many(frame, users) => {
                bytes.push(MANY);
                bytes.extend_from_slice(&(users.len() as u32).to_be_bytes());
                for user in users.iter() {
                    bytes.extend_from_slice(&user.0.to_be_bytes());
                }
                bytes.extend_from_slice(&frame.proto);
            }
            Told::LoginEnded(login) => {
                bytes.push(LOGIN_ENDED);
                bytes.extend_from_slice(&login.0.to_be_bytes());
            }
            Told::Presence(word) => {
                bytes.push(PRESENCE);
                words::write(word, &mut bytes);
            }
            Told::Parted(chat, user) => {
                bytes.push(PARTED);
                bytes.extend_from_slice(&chat.0.to_be_bytes());
                bytes.extend_from_slice(&user.0.to_be_bytes());
            }
        }
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let (kind, rest) = bytes.split_first().ok_or_else(unreadable)?;
        match *kind {
            FRAME => Ok(Told::Frame(read_frame(rest)?)),
            MANY => {
                let (count, rest) = rest.split_first_chunk::<4>().ok_or_else(unreadable)?;
                let bytes = (u32::from_be_bytes(*count) as usize).checked_mul(8);
                let split = bytes.and_then(|bytes| rest.split_at_checked(bytes));
                let (users, frame) = split.ok_or_else(unreadable)?;
                let (users, _) = users.as_chunks::<8>();
                let users = users.iter().map(|id| UserId(i64::from_be_bytes(*id)));
                Ok(Told::Many(read_frame(frame)?, users.collect()))
            }
            LOGIN_ENDED => {
                let id = rest.try_into().map_err(|_| unreadable())?;
                Ok(Told::LoginEnded(LoginId(i64::from_be_bytes(id))))
            }
            PRESENCE => words::read(rest).map(Told::Presence).ok_or_else(unreadable),
            PARTED => {
                let ([chat, user], []) = rest.as_chunks::<8>() else {
                    return Err(unreadable());
                };
                let (chat, user) = (i64::from_be_bytes(*chat), i64::from_be_bytes(*user));
                Ok(Told::Parted(ChatId(chat), UserId(user)))
            }
            _ => Err(unreadable()),
        }
    }
}

fn read_frame(bytes: &[u8]) -> Result<Arc<Frame>, Undecodable> {
    let response =
        ConnectResponse::decode_from_slice(bytes).map_err(|e| Undecodable(e.to_string()))?;
    let about = response.frame.as_ref().and_then(About::of);
    let about = about.ok_or_else(unreadable)?;
    Ok(Frame::new(about, None, Bytes::copy_from_slice(bytes)))
}

fn unreadable() -> Undecodable {
    Undecodable("it is of no known form".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tertulia_services::chats::{EventBody, LeftReason, UserEventBody};

    fn event() -> Arc<Event> {
        Arc::new(Event {
            chat: ChatId(5),
            seq: 3,
            at_ms: 9,
            actor: UserId(1),
            messages: 1,
            body: EventBody::Pinned(2),
        })
    }

    fn left() -> UserEvent {
        UserEvent {
            user: UserId(1),
            seq: 4,
            at_ms: 9,
            body: UserEventBody::ChatLeft {
                chat: ChatId(5),
                reason: LeftReason::Removed,
                by: UserId(2),
            },
        }
    }

    fn receipt() -> Receipt {
        Receipt {
            user: UserId(1),
            delivered: 3,
            seen: 2,
        }
    }

    #[test]
    fn what_travels_between_nodes_arrives_as_it_left() {
        for (frame, sort, leaves) in [
            (
                Frame::of_event(&event()),
                Sort::Event(Log::Chat(ChatId(5)), 3),
                None,
            ),
            (
                Frame::of_user_event(&left()),
                Sort::Event(Log::Own, 4),
                Some(ChatId(5)),
            ),
            (
                Frame::of_typing(ChatId(5), UserId(1)),
                Sort::Passing(Passing::Typing(ChatId(5), UserId(1))),
                None,
            ),
            (
                Frame::of_receipt(ChatId(5), &receipt()),
                Sort::Passing(Passing::Receipt(ChatId(5), UserId(1))),
                None,
            ),
            (
                Frame::of_presence(UserId(1), State::Away),
                Sort::Passing(Passing::Presence(UserId(1))),
                None,
            ),
        ] {
            assert_eq!((frame.sort, frame.leaves), (sort, leaves));
            let users: Arc<[UserId]> = Arc::new([UserId(7), UserId(-1)]);
            for told in [
                Told::Frame(Arc::clone(&frame)),
                Told::Many(Arc::clone(&frame), Arc::clone(&users)),
            ] {
                let there = match Told::decode(&told.encode()).unwrap() {
                    Told::Frame(there) => there,
                    Told::Many(there, who) => {
                        assert_eq!(who, users);
                        there
                    }
                    other => panic!("another kind: {other:?}"),
                };
                assert_eq!((there.sort, there.leaves), (sort, leaves));
                assert_eq!(there.json(), frame.json());
            }
        }
        let ended = Told::decode(&Told::LoginEnded(LoginId(4)).encode()).unwrap();
        assert!(matches!(ended, Told::LoginEnded(LoginId(4))));
        let parted = Told::Parted(ChatId(5), UserId(-7));
        let parted = Told::decode(&parted.encode()).unwrap();
        assert!(matches!(parted, Told::Parted(ChatId(5), UserId(-7))));
    }

    #[test]
    fn an_event_says_what_came_before_it() {
        assert!(Frame::of_event(&event()).json().contains("\"prev\":\"2\""));
    }

    #[test]
    fn what_is_no_message_of_the_bus_is_an_error() {
        let endless = [&[3][..], &u32::MAX.to_be_bytes(), &[0; 16]].concat();
        for bytes in [
            &b""[..],
            b"\x00",
            b"\x01\xff",
            b"\x01",
            b"\x02\x00",
            b"\x03\x00",
            b"\x03\x00\x00\x00\x01\x00",
            &endless,
            b"\x10",
            b"\x11\x00\x00\x00\x00\x00\x00\x00\x01",
        ] {
            assert!(Told::decode(bytes).is_err());
        }
    }
}
