//! From what was committed to frames on the bus. A frame is encoded here, once, however many hear it.

use std::sync::{Arc, OnceLock};

use axum::extract::ws::Utf8Bytes;
use buffa::Message as _;
use bytes::Bytes;
use tertulia_kit::bus::{Bus, Payload, Undecodable};
use tertulia_proto::live::{self as wire, ConnectResponse};
use tertulia_services::chats::{Committed, Event, Fact, UserEvent};
use tertulia_services::identity::LoginsEnded;
use tertulia_services::ids::{ChatId, LoginId, UserId};

use super::frames::{self, Outbound};
use crate::convert;

/// The bus subject of what concerns a user.
pub fn subject(user: UserId) -> String {
    format!("user.{user}")
}

/// What nodes tell each other about a user.
#[derive(Debug, Clone)]
pub enum Told {
    /// A frame for all sessions of the user.
    Frame(Arc<Frame>),
    /// The sessions of this login must end.
    LoginEnded(LoginId),
}

/// An event ready to be sent.
#[derive(Debug)]
pub struct Frame {
    /// Which log it is of.
    pub log: Log,
    /// Its number there.
    pub seq: i64,
    proto: Bytes,
    /// Made when the first session wants it.
    json: OnceLock<Utf8Bytes>,
}

/// A numbered log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Log {
    /// Of a chat.
    Chat(ChatId),
    /// The user's own.
    Own,
}

impl Frame {
    fn of_event(event: &Event) -> Arc<Frame> {
        let frame = wire::ChatEvent {
            prev: event.seq - 1,
            event: convert::event(event).into(),
            ..Default::default()
        };
        Frame::new(
            Log::Chat(event.chat),
            event.seq,
            frames::encode_proto(frame.into()),
        )
    }

    fn of_user_event(event: &UserEvent) -> Arc<Frame> {
        let frame = wire::OwnEvent {
            prev: event.seq - 1,
            event: convert::user_event(event).into(),
            ..Default::default()
        };
        Frame::new(Log::Own, event.seq, frames::encode_proto(frame.into()))
    }

    fn new(log: Log, seq: i64, proto: Bytes) -> Arc<Frame> {
        Arc::new(Frame {
            log,
            seq,
            proto,
            json: OnceLock::new(),
        })
    }

    /// As protobuf.
    pub fn proto(&self) -> Bytes {
        self.proto.clone()
    }

    /// As JSON.
    pub fn json(&self) -> Utf8Bytes {
        self.json
            .get_or_init(|| frames::proto_to_json(&self.proto))
            .clone()
    }

    /// What it takes in a queue.
    pub fn bytes(&self) -> usize {
        self.proto.len()
    }
}

const FRAME: u8 = 1;
const LOGIN_ENDED: u8 = 2;

impl Payload for Told {
    fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        match self {
            Told::Frame(frame) => {
                bytes.push(FRAME);
                bytes.extend_from_slice(&frame.proto);
            }
            Told::LoginEnded(login) => {
                bytes.push(LOGIN_ENDED);
                bytes.extend_from_slice(&login.0.to_be_bytes());
            }
        }
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let unreadable = || Undecodable("it is of no known form".into());
        let (kind, rest) = bytes.split_first().ok_or_else(unreadable)?;
        match *kind {
            LOGIN_ENDED => {
                let id = rest.try_into().map_err(|_| unreadable())?;
                Ok(Told::LoginEnded(LoginId(i64::from_be_bytes(id))))
            }
            FRAME => {
                let frame = ConnectResponse::decode_from_slice(rest)
                    .map_err(|e| Undecodable(e.to_string()))?;
                let (log, seq) = match frame.frame {
                    Some(Outbound::ChatEvent(event)) => {
                        let event = event.event.into_option().ok_or_else(unreadable)?;
                        (Log::Chat(ChatId(event.chat_id)), event.seq)
                    }
                    Some(Outbound::OwnEvent(event)) => (
                        Log::Own,
                        event.event.into_option().ok_or_else(unreadable)?.seq,
                    ),
                    _ => return Err(unreadable()),
                };
                Ok(Told::Frame(Frame::new(
                    log,
                    seq,
                    Bytes::copy_from_slice(rest),
                )))
            }
            _ => Err(unreadable()),
        }
    }
}

/// Puts facts on the bus.
pub struct Feed {
    bus: Arc<dyn Bus<Told>>,
}

impl Feed {
    /// A feed into `bus`.
    pub fn new(bus: Arc<dyn Bus<Told>>) -> Arc<Self> {
        Arc::new(Feed { bus })
    }
}

impl Committed for Feed {
    fn committed(&self, facts: Vec<Fact>) {
        for fact in facts {
            match fact {
                Fact::Event { event, members } => {
                    let frame = Frame::of_event(&event);
                    for member in members {
                        self.bus
                            .publish(&subject(member), Told::Frame(Arc::clone(&frame)));
                    }
                }
                Fact::UserEvent(event) => {
                    let frame = Frame::of_user_event(&event);
                    self.bus.publish(&subject(event.user), Told::Frame(frame));
                }
            }
        }
    }
}

impl LoginsEnded for Feed {
    fn login_ended(&self, user: UserId, login: LoginId) {
        self.bus.publish(&subject(user), Told::LoginEnded(login));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tertulia_services::chats::{EventBody, Message, SendKey};
    use tertulia_services::ids::MessageId;

    #[test]
    fn what_travels_between_nodes_arrives_as_it_left() {
        let key = SendKey {
            device: "d".into(),
            client_message_id: "c".into(),
        };
        let event = Event {
            chat: ChatId(5),
            seq: 3,
            at_ms: 9,
            actor: UserId(1),
            body: EventBody::Message(Message {
                id: MessageId(8),
                text: "hi".into(),
                key,
            }),
        };
        let told = Told::Frame(Frame::of_event(&event));
        let Told::Frame(frame) = Told::decode(&told.encode()).unwrap() else {
            panic!("another kind")
        };
        assert_eq!((frame.log, frame.seq), (Log::Chat(ChatId(5)), 3));
        assert!(frame.json().contains("\"prev\":\"2\""));
        let ended = Told::decode(&Told::LoginEnded(LoginId(4)).encode()).unwrap();
        assert!(matches!(ended, Told::LoginEnded(LoginId(4))));
    }

    #[test]
    fn what_is_no_message_of_the_bus_is_an_error() {
        for bytes in [&b""[..], b"\x00", b"\x01\xff", b"\x01", b"\x02\x00"] {
            assert!(Told::decode(bytes).is_err());
        }
    }
}
