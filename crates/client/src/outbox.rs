//! Messages on their way out: a pure state machine. The order within a chat is kept by having at most one of
//! its messages on the way; one that fails for good steps aside and does not block the others.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tertulia_proto::chats::event::Body;
use tertulia_proto::chats::{Event, Mentions};

use crate::ChatId;

/// Where a message is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Stored here, not yet sent.
    Queued,
    /// Sent; the answer is awaited.
    Sending,
    /// Stored by the server under this seq; its event is on its way.
    Sent(i64),
    /// Refused for good, and why.
    Failed(String),
}

/// A message of this device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it goes.
    pub chat: ChatId,
    /// Its name until the server gives it a seq. The server takes each name once.
    pub client_message_id: String,
    /// What it says.
    pub text: String,
    /// The message that it answers; 0 for none.
    #[serde(default)]
    pub reply_to_seq: i64,
    /// The message whose thread it belongs to; 0 for none.
    #[serde(default)]
    pub thread_seq: i64,
    /// Whom it mentions.
    #[serde(default)]
    pub mentions: Option<Mentions>,
    /// When it was written, by the local clock.
    pub at_ms: i64,
    /// Where it is.
    pub state: State,
}

/// All messages that are not among the held events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outbox {
    chats: BTreeMap<ChatId, VecDeque<Entry>>,
}

impl Outbox {
    /// Puts a message at the end of its chat, or replaces the one of the same id where it is.
    pub fn put(&mut self, entry: Entry) {
        let entries = self.chats.entry(entry.chat).or_default();
        match entries
            .iter_mut()
            .find(|e| e.client_message_id == entry.client_message_id)
        {
            Some(known) => *known = entry,
            None => entries.push_back(entry),
        }
    }

    /// Takes a message out.
    pub fn remove(&mut self, chat: ChatId, id: &str) -> Option<Entry> {
        let entries = self.chats.get_mut(&chat)?;
        let at = entries.iter().position(|e| e.client_message_id == id)?;
        let entry = entries.remove(at);
        if entries.is_empty() {
            self.chats.remove(&chat);
        }
        entry
    }

    /// A message by its id.
    pub fn entry(&self, chat: ChatId, id: &str) -> Option<&Entry> {
        self.of(chat).find(|e| e.client_message_id == id)
    }

    /// The messages of a chat, in the order in which they were written.
    pub fn of(&self, chat: ChatId) -> impl Iterator<Item = &Entry> {
        self.chats.get(&chat).into_iter().flatten()
    }

    /// All messages.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.chats.values().flatten()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.chats.values().map(VecDeque::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.chats.is_empty()
    }

    /// Takes the next message of each chat that has none on its way and is not `blocked`, up to `max`, and
    /// marks them as being sent.
    pub fn start(&mut self, max: usize, blocked: impl Fn(ChatId) -> bool) -> Vec<Entry> {
        let mut started = Vec::new();
        for (chat, entries) in &mut self.chats {
            if started.len() == max {
                break;
            }
            if blocked(*chat) || entries.iter().any(|e| e.state == State::Sending) {
                continue;
            }
            if let Some(entry) = entries.iter_mut().find(|e| e.state == State::Queued) {
                entry.state = State::Sending;
                started.push(entry.clone());
            }
        }
        started
    }

    /// Changes the state of a message and gives it, when it is still here.
    pub fn mark(&mut self, chat: ChatId, id: &str, state: State) -> Option<Entry> {
        let entries = self.chats.get_mut(&chat)?;
        let entry = entries.iter_mut().find(|e| e.client_message_id == id)?;
        entry.state = state;
        Some(entry.clone())
    }

    /// Nothing is on its way any more; what was, is sent again under its old id.
    pub fn stop(&mut self) {
        for entry in self.chats.values_mut().flatten() {
            if entry.state == State::Sending {
                entry.state = State::Queued;
            }
        }
    }

    /// The message that this event is, if it is one of ours.
    pub fn matching(&self, event: &Event, device: &str) -> Option<&Entry> {
        let Some(Body::Message(message)) = &event.body else {
            return None;
        };
        if message.device_id != device {
            return None;
        }
        self.entry(event.chat_id, &message.client_message_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(chat: ChatId, id: &str) -> Entry {
        let (client_message_id, text) = (id.to_owned(), "hi".to_owned());
        Entry {
            chat,
            client_message_id,
            text,
            reply_to_seq: 0,
            thread_seq: 0,
            mentions: None,
            at_ms: 0,
            state: State::Queued,
        }
    }

    fn started(outbox: &mut Outbox) -> Vec<String> {
        outbox
            .start(10, |_| false)
            .into_iter()
            .map(|e| e.client_message_id)
            .collect()
    }

    #[test]
    fn one_message_of_a_chat_is_on_its_way_and_chats_do_not_wait_for_each_other() {
        let mut outbox = Outbox::default();
        for (chat, id) in [(1, "a"), (1, "b"), (2, "c")] {
            outbox.put(entry(chat, id));
        }
        assert_eq!(started(&mut outbox), ["a", "c"]);
        assert_eq!(started(&mut outbox), [""; 0]);
        outbox.remove(1, "a");
        assert_eq!(started(&mut outbox), ["b"]);
    }

    #[test]
    fn a_failed_message_does_not_block_the_next() {
        let mut outbox = Outbox::default();
        outbox.put(entry(1, "a"));
        outbox.put(entry(1, "b"));
        started(&mut outbox);
        outbox.mark(1, "a", State::Failed("too long".into()));
        assert_eq!(started(&mut outbox), ["b"]);
    }

    #[test]
    fn what_was_on_its_way_is_sent_again_first_and_under_its_old_id() {
        let mut outbox = Outbox::default();
        outbox.put(entry(1, "a"));
        outbox.put(entry(1, "b"));
        started(&mut outbox);
        outbox.stop();
        assert_eq!(started(&mut outbox), ["a"]);
    }

    #[test]
    fn only_the_event_of_this_device_confirms_a_message() {
        use tertulia_proto::chats::Message;
        let mut outbox = Outbox::default();
        outbox.put(entry(1, "a"));
        let event = |device: &str| Event {
            chat_id: 1,
            seq: 5,
            body: Message {
                client_message_id: "a".into(),
                device_id: device.into(),
                ..Default::default()
            }
            .into(),
            ..Default::default()
        };
        assert!(outbox.matching(&event("other"), "mine").is_none());
        assert!(outbox.matching(&event("mine"), "mine").is_some());
    }
}
