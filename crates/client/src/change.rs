//! What an application is told.

use std::sync::Arc;
use std::time::Duration;

use tertulia_proto::chats::Event;
use tertulia_proto::chats::event::Body;

use crate::outbox::State;
use crate::timeline::{self, Timeline};
use crate::{ChatId, UserId};

/// The state of the live connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// Nobody asked for one.
    Stopped,
    /// Nobody is signed in; why, when the server ended it.
    SignedOut(Option<String>),
    /// It is being opened.
    Connecting,
    /// Everything that was missed is known, and what happens is heard.
    Online,
    /// It broke, and is tried again.
    Offline {
        /// Why.
        reason: String,
        /// In how long.
        retry_in: Duration,
    },
    /// The server does not want this client to come back.
    Refused {
        /// The close code.
        code: u32,
        /// For people.
        reason: String,
    },
}

/// What an application is told. It reads the rest from the client. Who does not read loses the oldest of
/// these and is told so; then it reads everything again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The live connection has another state.
    Connection(Connection),
    /// A chat has another content or is new.
    Chat(ChatId),
    /// Receipts of a chat have moved.
    Receipts(ChatId),
    /// Somebody is typing; it holds for six seconds.
    Typing {
        /// Where.
        chat: ChatId,
        /// Who.
        user: UserId,
    },
    /// The operator or a service of the deployment has something to say. It is kept nowhere and may be lost.
    Notice {
        /// What it is about, such as `announcement`, whose text is for people.
        kind: String,
        /// For people: plain text.
        text: String,
        /// For programs, as a JSON object; empty when there is none.
        data: String,
    },
    /// Somebody comes, rests or goes; of nobody in particular when much is another.
    Presence(Option<UserId>),
    /// The messages to be sent later are others.
    Scheduled,
    /// A message of this device went a step further.
    Message {
        /// Where.
        chat: ChatId,
        /// Which.
        client_message_id: String,
        /// How far.
        state: State,
    },
    /// What was known is no longer true; everything begins anew.
    Reset,
}

/// An event as it appeared to the person: for tests that compare what clients saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The epoch of the log.
    pub epoch: String,
    /// The chat.
    pub chat: ChatId,
    /// The event's number.
    pub seq: i64,
    /// Who did it.
    pub actor: UserId,
    /// What happened: the number of the body's field in the contract; 0 for what this version does not know.
    pub kind: u8,
    /// The messages that it is about: itself, when it is one.
    pub messages: Vec<i64>,
    /// What the message says now, after this event was folded in; of several, the first. Empty when there is
    /// none here, or when it was deleted.
    pub text: String,
    /// The id that the sender gave it; empty when the event is no message.
    pub client_message_id: String,
    /// The device of the sender; empty when the event is no message.
    pub device_id: String,
}

impl Seen {
    pub(crate) fn new(epoch: &str, timeline: &Timeline, event: &Event) -> Self {
        let messages = timeline::messages(event);
        let first = messages.first().and_then(|seq| timeline.event(*seq));
        let text = match first.and_then(|row| row.body.as_ref()) {
            Some(Body::Message(message)) => message.text.clone(),
            _ => String::new(),
        };
        let (client_message_id, device_id) = match &event.body {
            Some(Body::Message(m)) => (m.client_message_id.clone(), m.device_id.clone()),
            _ => Default::default(),
        };
        Seen {
            epoch: epoch.to_owned(),
            chat: event.chat_id,
            seq: event.seq,
            actor: event.actor_id,
            kind: timeline::kind(event),
            messages,
            text,
            client_message_id,
            device_id,
        }
    }
}

/// Is told of each event when it is first shown, in order, after it was stored. It is called under the
/// client's lock: it must be quick and must not call the client.
pub type Observer = Arc<dyn Fn(&Seen) + Send + Sync>;
