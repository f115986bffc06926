//! What a chat is to the user alone, on all devices: how far it was read, choices, what was begun to write.

use tertulia_proto::chats::{
    ChatSettings, Draft, ListReceiptsRequest, ListReceiptsResponse, MarkReadRequest,
    UpdateChatSettingsRequest, UpdateDraftRequest,
};

use super::Client;
use crate::ChatId;
use crate::core::empty;
use crate::error::Result;
use crate::store::Record;

impl Client {
    /// Says that the person has seen everything up to a seq. What has reached this device is told by the
    /// client itself.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, or as every call.
    pub async fn mark_read(&self, chat: ChatId, seen_seq: i64) -> Result<()> {
        let request = MarkReadRequest {
            chat_id: chat,
            seen_seq,
            ..Default::default()
        };
        let answer = self.core().ask(&request).await?;
        let read = answer
            .read
            .into_option()
            .ok_or_else(|| empty("read state"))?;
        self.core().change(|set| {
            if set.timeline(chat).is_some() {
                set.put(Record::Read { chat, read });
            }
        })
    }

    /// How far a chat has reached its members: one receipt for each in a small chat, counts for a message in
    /// a large one; 0 is the newest message.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, or as every call.
    pub async fn receipts(&self, chat: ChatId, seq: i64) -> Result<ListReceiptsResponse> {
        let request = ListReceiptsRequest {
            chat_id: chat,
            seq,
            ..Default::default()
        };
        self.core().ask(&request).await
    }

    /// Chooses all choices about a chat anew. What holds comes back in the own log.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, or as every call.
    pub async fn update_settings(&self, chat: ChatId, settings: ChatSettings) -> Result<()> {
        let request = UpdateChatSettingsRequest {
            chat_id: chat,
            settings: settings.into(),
            ..Default::default()
        };
        self.core().ask(&request).await.map(drop)
    }

    /// No notification of a chat before a time in milliseconds since 1970; 0 for at once, -1 for never.
    ///
    /// # Errors
    /// As [`update_settings`](Self::update_settings).
    pub async fn mute(&self, chat: ChatId, until_ms: i64) -> Result<()> {
        let settings = self.chat(chat, 0).map(|view| view.settings);
        let settings = ChatSettings {
            muted_until_ms: until_ms,
            ..settings.unwrap_or_default()
        };
        self.update_settings(chat, settings).await
    }

    /// Keeps what the user has begun to write for all devices; none drops it.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, or as every call.
    pub async fn update_draft(&self, chat: ChatId, draft: Option<Draft>) -> Result<()> {
        let request = UpdateDraftRequest {
            chat_id: chat,
            draft: draft.into(),
            ..Default::default()
        };
        self.core().ask(&request).await.map(drop)
    }
}
