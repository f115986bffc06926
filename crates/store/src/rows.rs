//! What the engines of logs share: the rows of chats as bytes, the small tables told apart by their keys, what
//! decisions see, and the round in which they are collected before a commit. Where the bytes are kept, and who
//! may commit when, is each engine's own.

pub mod cache;
pub mod codec;
pub mod index;
pub mod reads;
pub mod round;
pub mod view;

use std::sync::Arc;

use tertulia_kit::error::{Failure, Result};
use tertulia_services::chats::decide::Used;
use tertulia_services::chats::{Chat, Event, Membership, Seq};
use tertulia_services::errors;
use tertulia_services::ids::{ChatId, UserId};

use cache::Weight;
use codec::{Corrupt, SendHash};
use index::Look;

/// A chat, with the commits that brought its newest event and its newest receipt.
#[derive(Debug, Clone)]
pub struct Row {
    pub chat: Chat,
    pub moved_at: u64,
    pub marked_at: u64,
}

impl Weight for Row {
    fn bytes(&self) -> u64 {
        let details = &self.chat.details;
        let texts = details.title.len() + details.topic.len() + details.avatar.len();
        let last = self.chat.last_message.as_ref();
        let last = last.and_then(|event| event.message()).map_or(0, |message| {
            let key = message.key.device.len() + message.key.client_message_id.len();
            let lists = message.edits.len() + message.mentions.users.len();
            512 + key + message.text.len() + 8 * lists + 40 * message.reactions.len()
        });
        (320 + texts + 8 * details.pinned.len() + last) as u64
    }
}

impl Weight for Seq {
    fn bytes(&self) -> u64 {
        64
    }
}

impl Weight for Membership {
    fn bytes(&self) -> u64 {
        let draft = self.draft.as_ref().map_or(0, |draft| 64 + draft.text.len());
        (208 + draft) as u64
    }
}

impl<T> Weight for Arc<[T]> {
    fn bytes(&self) -> u64 {
        (96 + size_of_val(&self[..])) as u64
    }
}

/// What a round stands on: the rows as they were committed.
pub trait Below: Look {
    fn row(&self, id: ChatId) -> Result<Option<Row>>;
    fn membership(&self, chat: ChatId, user: UserId) -> Result<Option<Membership>>;
    fn event(&self, chat: ChatId, seq: Seq) -> Result<Option<Arc<Event>>>;
    /// The commit of an event.
    fn event_position(&self, chat: ChatId, seq: Seq) -> Result<Option<u64>>;
    fn used(&self, hash: &SendHash) -> Result<Option<Used>>;
    fn own_head(&self, user: UserId) -> Result<Seq>;
    /// The members of a group, by id.
    fn members(&self, chat: ChatId) -> Result<Arc<[UserId]>>;
}

/// What an engine gave can not be what was written.
pub fn corrupt(error: Corrupt) -> Failure {
    errors::internal(error)
}

/// A chat that something points at.
pub fn known(row: Option<Row>) -> Result<Row> {
    row.ok_or_else(|| corrupt(Corrupt("a membership without its chat")))
}
