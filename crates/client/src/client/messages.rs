//! Messages: sent through the outbox, and everything that is done with them.

use tertulia_proto::chats::{
    AddReactionRequest, CancelScheduledMessageRequest, DeleteMessagesRequest, EditMessageRequest,
    Event, ForwardMessagesRequest, GetMessagesRequest, HideMessagesRequest, ListEditsRequest,
    ListReactionsRequest, ListThreadRequest, ListThreadResponse, MemberReaction, Mentions,
    PinMessageRequest, RemoveReactionRequest, ScheduleMessageRequest, ScheduledMessage,
    SendTypingRequest, TextVersion, UnpinMessageRequest,
};

use super::Client;
use crate::ChatId;
use crate::change::Change;
use crate::core::empty;
use crate::error::{Error, Result};
use crate::outbox::{Entry, State};
use crate::store::Record;
use crate::time::random_id;

/// The longest message, in characters, as the contract says.
pub const TEXT_CHARS_MAX: usize = 8_000;

/// A message to be sent.
#[derive(Debug, Clone, Default)]
pub struct NewMessage {
    /// What it says.
    pub text: String,
    /// The message that it answers; 0 for none.
    pub reply_to_seq: i64,
    /// The message whose thread it belongs to; 0 for none.
    pub thread_seq: i64,
    /// Whom it mentions.
    pub mentions: Option<Mentions>,
}

impl From<&str> for NewMessage {
    fn from(text: &str) -> Self {
        NewMessage {
            text: text.to_owned(),
            ..Default::default()
        }
    }
}

fn checked(text: &str) -> Result<()> {
    if text.is_empty() || text.chars().count() > TEXT_CHARS_MAX {
        return Err(Error::Invalid(format!(
            "a message has 1 to {TEXT_CHARS_MAX} characters"
        )));
    }
    Ok(())
}

impl Client {
    // ---- the outbox

    /// Puts a message into the outbox and gives its id. When this returns, the message is on disk and goes
    /// out as soon as there is a connection, once, in the order of the calls.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty or too long text or a full outbox, [`Error::SignedOut`],
    /// [`Error::Store`].
    pub async fn send(&self, chat: ChatId, text: &str) -> Result<String> {
        self.send_message(chat, text.into()).await
    }

    /// As [`send`](Self::send), with what else there is to the message.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_message(&self, chat: ChatId, new: NewMessage) -> Result<String> {
        checked(&new.text)?;
        let entry = Entry {
            chat,
            client_message_id: random_id(&*self.core().machine),
            text: new.text,
            reply_to_seq: new.reply_to_seq,
            thread_seq: new.thread_seq,
            mentions: new.mentions,
            at_ms: self.core().machine.now_ms(),
            state: State::Queued,
        };
        let id = entry.client_message_id.clone();
        let max = self.core().options.outbox_max;
        self.core().change(|set| {
            if set.mind.known.user == 0 {
                return Err(Error::SignedOut);
            }
            if set.mind.known.outbox.len() >= max {
                return Err(Error::Invalid(format!("{max} messages wait already")));
            }
            set.write(entry);
            Ok(())
        })??;
        self.core().sync().await?;
        Ok(id)
    }

    /// Answers a message.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn reply(&self, chat: ChatId, to_seq: i64, text: &str) -> Result<String> {
        let new = NewMessage {
            reply_to_seq: to_seq,
            ..text.into()
        };
        self.send_message(chat, new).await
    }

    /// Writes into the thread of a message.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_in_thread(&self, chat: ChatId, thread: i64, text: &str) -> Result<String> {
        let new = NewMessage {
            thread_seq: thread,
            ..text.into()
        };
        self.send_message(chat, new).await
    }

    /// Every message that is not among the held events.
    pub fn outbox(&self) -> Vec<Entry> {
        self.core().mind().known.outbox.iter().cloned().collect()
    }

    fn failed(&self, chat: ChatId, client_message_id: &str) -> Option<Entry> {
        let mind = self.core().mind();
        let entry = mind.known.outbox.entry(chat, client_message_id);
        entry
            .filter(|e| matches!(e.state, State::Failed(_)))
            .cloned()
    }

    /// Sends a failed message again. Nothing happens when there is no such one.
    ///
    /// # Errors
    /// Only when the store can not be written.
    pub fn retry(&self, chat: ChatId, client_message_id: &str) -> Result<()> {
        match self.failed(chat, client_message_id) {
            Some(entry) => self.core().mark(&entry, State::Queued),
            None => Ok(()),
        }
    }

    /// Gives up a failed message. One that may be on its way stays: it can not be called back.
    ///
    /// # Errors
    /// Only when the store can not be written.
    pub fn discard(&self, chat: ChatId, client_message_id: &str) -> Result<()> {
        let Some(entry) = self.failed(chat, client_message_id) else {
            return Ok(());
        };
        self.core().change(|set| {
            let client_message_id = entry.client_message_id;
            set.put(Record::MessageGone {
                chat,
                client_message_id,
            });
            set.told.push(Change::Chat(chat));
        })
    }

    // ---- what is done with messages; each gives the seq of the event, 0 when nothing changed

    /// Gives a message of the user another text.
    ///
    /// # Errors
    /// [`Error::Invalid`], `NOT_YOUR_MESSAGE`, `MESSAGE_NOT_FOUND`, `TOO_MANY`, or as every call.
    pub async fn edit(
        &self,
        chat: ChatId,
        seq: i64,
        text: &str,
        mentions: Option<Mentions>,
    ) -> Result<i64> {
        checked(text)?;
        let request = EditMessageRequest {
            chat_id: chat,
            message_seq: seq,
            text: text.to_owned(),
            mentions: mentions.into(),
            ..Default::default()
        };
        let seq = self.core().ask(&request).await?.seq;
        self.happened(chat, seq)
    }

    /// Deletes messages for everybody.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, `MESSAGE_NOT_FOUND`, or as every call.
    pub async fn delete(&self, chat: ChatId, seqs: Vec<i64>) -> Result<i64> {
        let request = DeleteMessagesRequest {
            chat_id: chat,
            message_seqs: seqs,
            ..Default::default()
        };
        let seq = self.core().ask(&request).await?.seq;
        self.happened(chat, seq)
    }

    /// Deletes messages for the user alone, on all devices.
    ///
    /// # Errors
    /// `MESSAGE_NOT_FOUND`, or as every call.
    pub async fn hide(&self, chat: ChatId, seqs: Vec<i64>) -> Result<()> {
        let request = HideMessagesRequest {
            chat_id: chat,
            message_seqs: seqs,
            ..Default::default()
        };
        self.core().ask(&request).await.map(drop)
    }

    /// Reacts to a message with an emoji.
    ///
    /// # Errors
    /// `MESSAGE_NOT_FOUND`, `TOO_MANY`, or as every call.
    pub async fn react(&self, chat: ChatId, seq: i64, emoji: &str) -> Result<i64> {
        let request = AddReactionRequest {
            chat_id: chat,
            message_seq: seq,
            emoji: emoji.to_owned(),
            ..Default::default()
        };
        let seq = self.core().ask(&request).await?.seq;
        self.happened(chat, seq)
    }

    /// Takes a reaction back.
    ///
    /// # Errors
    /// `MESSAGE_NOT_FOUND`, or as every call.
    pub async fn unreact(&self, chat: ChatId, seq: i64, emoji: &str) -> Result<i64> {
        let request = RemoveReactionRequest {
            chat_id: chat,
            message_seq: seq,
            emoji: emoji.to_owned(),
            ..Default::default()
        };
        let seq = self.core().ask(&request).await?.seq;
        self.happened(chat, seq)
    }

    /// Pins a message.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, `MESSAGE_NOT_FOUND`, `TOO_MANY`, or as every call.
    pub async fn pin(&self, chat: ChatId, seq: i64) -> Result<i64> {
        let request = PinMessageRequest {
            chat_id: chat,
            message_seq: seq,
            ..Default::default()
        };
        let seq = self.core().ask(&request).await?.seq;
        self.happened(chat, seq)
    }

    /// Unpins a message.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, `MESSAGE_NOT_FOUND`, or as every call.
    pub async fn unpin(&self, chat: ChatId, seq: i64) -> Result<i64> {
        let request = UnpinMessageRequest {
            chat_id: chat,
            message_seq: seq,
            ..Default::default()
        };
        let seq = self.core().ask(&request).await?.seq;
        self.happened(chat, seq)
    }

    /// Copies messages of a chat into another one. Gives their seqs there.
    ///
    /// # Errors
    /// `NOT_ALLOWED`, `MESSAGE_NOT_FOUND`, or as every call.
    pub async fn forward(&self, from: ChatId, seqs: Vec<i64>, to: ChatId) -> Result<Vec<i64>> {
        let request = ForwardMessagesRequest {
            chat_id: to,
            client_message_id: random_id(&*self.core().machine),
            from_chat_id: from,
            message_seqs: seqs,
            ..Default::default()
        };
        let answer = self.ask_again(&request).await?;
        let seqs: Vec<i64> = answer.messages.iter().map(|message| message.seq).collect();
        self.happened(to, seqs.iter().copied().max().unwrap_or(0))?;
        Ok(seqs)
    }

    /// Says that the user is typing; it holds for six seconds.
    ///
    /// # Errors
    /// As every call.
    pub async fn typing(&self, chat: ChatId) -> Result<()> {
        let request = SendTypingRequest {
            chat_id: chat,
            ..Default::default()
        };
        self.core().ask(&request).await.map(drop)
    }

    // ---- what is read about messages

    /// Messages by their seqs as they are now, from the server, also those that are not held here.
    ///
    /// # Errors
    /// As every call.
    pub async fn messages(&self, chat: ChatId, seqs: Vec<i64>) -> Result<Vec<Event>> {
        let request = GetMessagesRequest {
            chat_id: chat,
            message_seqs: seqs,
            ..Default::default()
        };
        Ok(self.core().ask(&request).await?.events)
    }

    /// Messages of a thread after a seq, oldest first.
    ///
    /// # Errors
    /// `MESSAGE_NOT_FOUND`, or as every call.
    pub async fn thread(
        &self,
        chat: ChatId,
        thread: i64,
        after: i64,
        limit: u32,
    ) -> Result<ListThreadResponse> {
        let request = ListThreadRequest {
            chat_id: chat,
            thread_seq: thread,
            after_seq: after,
            limit,
            ..Default::default()
        };
        self.core().ask(&request).await
    }

    /// The texts that a message had, the one of now last.
    ///
    /// # Errors
    /// `MESSAGE_NOT_FOUND`, or as every call.
    pub async fn edits(&self, chat: ChatId, seq: i64) -> Result<Vec<TextVersion>> {
        let request = ListEditsRequest {
            chat_id: chat,
            message_seq: seq,
            ..Default::default()
        };
        Ok(self.core().ask(&request).await?.versions)
    }

    /// Who gave which reaction to a message.
    ///
    /// # Errors
    /// `MESSAGE_NOT_FOUND`, or as every call.
    pub async fn reactions(&self, chat: ChatId, seq: i64) -> Result<Vec<MemberReaction>> {
        let request = ListReactionsRequest {
            chat_id: chat,
            message_seq: seq,
            ..Default::default()
        };
        Ok(self.core().ask(&request).await?.reactions)
    }

    // ---- for later

    /// Keeps a message on the server, to be sent at a time in milliseconds since 1970.
    ///
    /// # Errors
    /// [`Error::Invalid`], `BAD_TIME`, `TOO_MANY`, or as every call.
    pub async fn schedule(
        &self,
        chat: ChatId,
        new: NewMessage,
        send_at_ms: i64,
    ) -> Result<ScheduledMessage> {
        checked(&new.text)?;
        let request = ScheduleMessageRequest {
            chat_id: chat,
            client_message_id: random_id(&*self.core().machine),
            text: new.text,
            reply_to_seq: new.reply_to_seq,
            thread_seq: new.thread_seq,
            mentions: new.mentions.into(),
            send_at_ms,
            ..Default::default()
        };
        let answer = self.ask_again(&request).await?;
        let kept = answer.scheduled.into_option();
        kept.ok_or_else(|| empty("scheduled message"))
    }

    /// Calls a scheduled message off.
    ///
    /// # Errors
    /// `SCHEDULED_NOT_FOUND` when it was sent already, or as every call.
    pub async fn cancel_scheduled(&self, scheduled_id: i64) -> Result<()> {
        let request = CancelScheduledMessageRequest {
            scheduled_id,
            ..Default::default()
        };
        self.core().ask(&request).await.map(drop)
    }

    /// The user's messages to be sent later, as they are known here, the next one first.
    pub fn scheduled(&self) -> Vec<ScheduledMessage> {
        let mind = self.core().mind();
        let mut all: Vec<_> = mind.known.scheduled.values().cloned().collect();
        all.sort_by_key(|message| (message.send_at_ms, message.scheduled_id));
        all
    }
}
