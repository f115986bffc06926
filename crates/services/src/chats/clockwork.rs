//! What happens by itself when its time comes: messages that disappear and messages that were scheduled.

use tertulia_kit::error::Result;

use super::{Act, Chats, Command, Done, MessageId, Seq, input};
use crate::ids::{ChatId, UserId};

/// How many of each are done in one round: after so many there may be more.
pub const DUE_ROUND_MAX: usize = 500;

impl Chats {
    /// Does what has come due, and says how much that was: 0 means that nothing is left to do now. To be
    /// called on a beat; a round that fails is done again by the next.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn do_due(&self) -> Result<usize> {
        let due = self.store.due(self.clock.now_ms(), DUE_ROUND_MAX).await?;
        let count = due.expired.len() + due.scheduled.len();
        for scheduled in due.scheduled {
            let id = MessageId(self.new_id()?);
            self.by_itself(Act::SendScheduled { scheduled, id }).await?;
        }
        for (chat, messages) in by_chat(due.expired) {
            for messages in messages.chunks(input::NAMED_MESSAGES_MAX) {
                let messages = messages.to_vec();
                self.by_itself(Act::Expire { chat, messages }).await?;
            }
        }
        Ok(count)
    }

    async fn by_itself(&self, act: Act) -> Result<Done> {
        let command = Command {
            actor: UserId::SERVER,
            at_ms: self.clock.now_ms(),
            act,
            limits: self.limits,
        };
        self.store.write(command).await
    }
}

/// Gathers the messages of each chat.
fn by_chat(mut messages: Vec<(ChatId, Seq)>) -> Vec<(ChatId, Vec<Seq>)> {
    messages.sort_unstable();
    let chats = messages.chunk_by(|a, b| a.0 == b.0);
    chats
        .map(|some| (some[0].0, some.iter().map(|(_, seq)| *seq).collect()))
        .collect()
}
