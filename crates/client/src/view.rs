//! A chat to be shown.

use tertulia_proto::chats::event::Body;
use tertulia_proto::chats::{Chat, ChatLeft, ChatSettings, Draft, Event, Receipt, Role};

use crate::ChatId;
use crate::outbox::{Entry, State};
use crate::store::Snapshot;
use crate::timeline::Timeline;

/// A chat to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatView {
    /// Kind, title, pins and the like, as they are at the tip. Its `head` is how far the log is known to go.
    pub chat: Chat,
    /// What the user may do.
    pub role: Role,
    /// The newest shown events, oldest first, without holes. A message is as it is now.
    pub events: Vec<Event>,
    /// The newest message, also when it is not among the shown events.
    pub last_message: Option<Event>,
    /// Messages of this device that are not among the events yet, in the order in which they were written.
    pub pending: Vec<Entry>,
    /// How far the log is known to go.
    pub head: i64,
    /// There is more before these events, here or on the server.
    pub older: bool,
    /// Everything up to here was seen by the user, on any device.
    pub seen: i64,
    /// Messages of others after that.
    pub unread: i64,
    /// Those among them that mention the user.
    pub unread_mentions: i64,
    /// The user's choices.
    pub settings: ChatSettings,
    /// What the user began to write, on any device.
    pub draft: Option<Draft>,
    /// How far the chat has reached each member, in a small chat.
    pub receipts: Vec<Receipt>,
    /// How and by whom, when the user is in the chat no longer.
    pub left: Option<ChatLeft>,
}

impl ChatView {
    /// Of a chat with its newest `last` events.
    pub(crate) fn new(known: &Snapshot, id: ChatId, timeline: &Timeline, last: usize) -> Self {
        let mut events: Vec<_> = timeline.shown().rev().take(last).cloned().collect();
        events.reverse();
        let first = events.first().map(|event| event.seq);
        let all_shown = first.is_none_or(|first| first == *timeline.window().start());
        // Our own messages behind a hole are stored, but not shown as events yet.
        let held_back = timeline
            .held_back()
            .filter_map(|event| own_entry(event, &known.device))
            .filter(|entry| known.outbox.entry(id, &entry.client_message_id).is_none());
        let reading = timeline.reading();
        ChatView {
            chat: Chat {
                head: timeline.head(),
                ..timeline.chat().clone()
            },
            role: timeline.role(),
            older: !all_shown || timeline.older().is_some(),
            events,
            last_message: timeline.last_message().cloned(),
            pending: held_back.chain(known.outbox.of(id).cloned()).collect(),
            head: timeline.head(),
            seen: reading.seen,
            unread: reading.unread,
            unread_mentions: reading.mentions,
            settings: timeline.settings(),
            draft: timeline.draft().cloned(),
            receipts: timeline.receipts().cloned().collect(),
            left: timeline.left().cloned(),
        }
    }

    /// When somebody last spoke here, in milliseconds since 1970; without a message, when it was made.
    pub fn active_at_ms(&self) -> i64 {
        let last = self.last_message.as_ref();
        last.map_or(self.chat.created_at_ms, |event| event.at_ms)
    }
}

/// A message of this device that is stored, but waits behind a hole.
fn own_entry(event: &Event, device: &str) -> Option<Entry> {
    match &event.body {
        Some(Body::Message(m)) if m.device_id == device => Some(Entry {
            chat: event.chat_id,
            client_message_id: m.client_message_id.clone(),
            text: m.text.clone(),
            reply_to_seq: m.reply_to_seq,
            thread_seq: m.thread_seq,
            mentions: m.mentions.as_option().cloned(),
            at_ms: event.at_ms,
            state: State::Sent(event.seq),
        }),
        _ => None,
    }
}
