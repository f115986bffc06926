//! What becomes of the messages that are written here.

use std::collections::HashSet;

use tertulia_proto::chats::SendMessageResponse;

use super::{Core, Job, Mind};
use crate::ChatId;
use crate::change::Change;
use crate::error::{Error, Result};
use crate::outbox::{Entry, State};
use crate::store::{Record, Snapshot, stored};
use crate::timeline::Timeline;

impl Core {
    /// The messages to be sent now, marked as on their way.
    pub(crate) fn messages_to_send(&self, max: usize) -> Vec<Entry> {
        let mut mind = self.mind();
        let Mind {
            known,
            uncertain,
            jobs,
            ..
        } = &mut *mind;
        let Snapshot { outbox, chats, .. } = known;
        let uncertain_chats: HashSet<ChatId> = outbox
            .iter()
            .filter(|e| uncertain.contains(&e.client_message_id))
            .map(|e| e.chat)
            .collect();
        let started = outbox.start(max, |chat| {
            // Of a chat that the user has left nothing more comes: the server says what became of it.
            let is_read = |t: &&Timeline| t.left().is_none();
            let has_hole = chats
                .get(&chat)
                .filter(is_read)
                .is_some_and(|t| t.hole().is_some());
            let may_be_there = has_hole && !jobs.is_hopeless(Job::Hole(chat));
            uncertain_chats.contains(&chat) && may_be_there
        });
        drop(mind);
        for entry in &started {
            self.tell(message(entry, State::Sending));
        }
        started
    }

    /// The server has stored a message: it leaves the outbox when its event is here, which tells what else
    /// there is to it.
    pub(crate) fn message_stored(&self, entry: &Entry, answer: SendMessageResponse) -> Result<()> {
        self.change(|set| {
            set.mind.uncertain.remove(&entry.client_message_id);
            set.mark(entry, State::Sent(answer.seq));
            set.know_head(entry.chat, answer.seq);
        })
    }

    /// A message was not sent: for now, or for good.
    pub(crate) fn message_refused(&self, entry: &Entry, error: &Error) -> Result<()> {
        let state = if error.is_retryable() || error.ends_login() || error.wants_new_token() {
            State::Queued
        } else {
            State::Failed(error.to_string())
        };
        self.mark(entry, state)
    }

    pub(crate) fn mark(&self, entry: &Entry, state: State) -> Result<()> {
        self.change(|set| set.mark(entry, state))
    }

    /// Nothing is on its way any more.
    pub(super) fn stop_sending(&self) {
        let sending: Vec<Entry> = {
            let mut mind = self.mind();
            let outbox = &mut mind.known.outbox;
            let sending = outbox.iter().filter(|e| e.state == State::Sending);
            let sending = sending.cloned().collect();
            outbox.stop();
            sending
        };
        for entry in sending {
            self.tell(message(&entry, State::Queued));
        }
    }
}

impl super::Changes<'_> {
    pub(crate) fn mark(&mut self, entry: &Entry, state: State) {
        let (chat, id) = (entry.chat, &entry.client_message_id);
        if let Some(entry) = self.mind.known.outbox.mark(chat, id, state.clone()) {
            self.told.push(message(&entry, state));
            self.records.push(stored(entry));
        }
    }

    /// Puts a message that is new into the outbox, or one that is changed in the place of the old one.
    pub(crate) fn write(&mut self, entry: Entry) {
        self.told.push(message(&entry, entry.state.clone()));
        self.put(Record::Message(entry));
    }
}

impl Mind {
    /// What was written in an earlier run or session may have been committed.
    pub(super) fn doubt_outbox(&mut self) {
        self.known.outbox.stop();
        let outbox = self.known.outbox.iter();
        let unconfirmed = outbox.filter(|e| !matches!(e.state, State::Sent(_)));
        self.uncertain = unconfirmed.map(|e| e.client_message_id.clone()).collect();
    }
}

pub(crate) fn message(entry: &Entry, state: State) -> Change {
    let client_message_id = entry.client_message_id.clone();
    Change::Message {
        chat: entry.chat,
        client_message_id,
        state,
    }
}
