//! Messages: what members do with them.

use tertulia_kit::error::{Failure, Result};

use super::*;
use crate::ids::ScheduledId;

/// A message to be sent, as a client gives it.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// Made by the client, once for each message, unique on its device.
    pub client_message_id: String,
    /// What is said.
    pub text: String,
    /// The message that it answers.
    pub reply_to: Option<Seq>,
    /// The message whose thread it belongs to.
    pub thread: Option<Seq>,
    /// Whom it mentions.
    pub mentions: Mentions,
}

/// What a message said, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextVersion {
    /// What.
    pub text: String,
    /// Since when, in milliseconds since 1970.
    pub at_ms: i64,
}

impl Chats {
    /// Appends a message. When this returns it is on disk. The same client message id from the same device
    /// gives the first answer again, for seven days.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `CLIENT_MESSAGE_ID_REUSED`, `MESSAGE_NOT_FOUND` when it answers none, `NOT_ALLOWED`,
    /// `OVERLOADED` (nothing was written), or the failure of the store (to be sent again with the same client
    /// message id).
    pub async fn send(&self, member: &Member, out: Outgoing) -> Result<Sent> {
        let act = self.new_message(member, out)?;
        sent(self.write(member.caller(), act).await)
    }

    /// Appends messages in the order given, each as [`send`](Chats::send) does: one that is refused does not keep
    /// the next from being sent. Gives what each came to, in the same order.
    pub async fn send_all(&self, messages: Vec<(Member, Outgoing)>) -> Vec<Result<Sent>> {
        let mut commands = Vec::with_capacity(messages.len());
        let mut refusals = Vec::with_capacity(messages.len());
        let at_ms = self.clock.now_ms();
        for (member, out) in messages {
            match self.new_message(&member, out) {
                Ok(act) => {
                    commands.push(self.command_at(at_ms, member.caller(), act));
                    refusals.push(None);
                }
                Err(refusal) => refusals.push(Some(refusal)),
            }
        }
        let mut done = self.store.write_all(commands).await.into_iter();
        let outcome = |refusal: Option<Failure>| match refusal {
            Some(refusal) => Err(refusal),
            None => sent(done.next().unwrap_or_else(|| Err(unexpected()))),
        };
        refusals.into_iter().map(outcome).collect()
    }

    fn new_message(&self, member: &Member, out: Outgoing) -> Result<Act> {
        check(&out)?;
        Ok(Act::Send(NewMessage {
            chat: member.chat(),
            id: MessageId(self.new_id()?),
            key: key(member.caller(), out.client_message_id),
            text: out.text,
            reply_to: out.reply_to,
            thread: out.thread,
            mentions: out.mentions,
        }))
    }

    /// Copies messages of a chat that the caller can read into the chat, in the order of their seqs. A repeat
    /// gives the first answer, also when what was copied can not be read any more.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `CHAT_NOT_FOUND` when the caller is not in the chat that they come from,
    /// `MESSAGE_NOT_FOUND` when one is not there or was deleted, and those of [`send`](Chats::send).
    pub async fn forward(
        &self,
        member: &Member,
        client_message_id: String,
        from: ChatId,
        messages: Vec<Seq>,
    ) -> Result<Vec<Sent>> {
        input::check_client_id("client_message_id", &client_message_id)?;
        let messages = input::messages(messages)?;
        let caller = member.caller();
        let (chat, key) = (member.chat(), key(caller, client_message_id));
        let role = self.store.role(from, caller.user).await?;
        let copies = match role {
            Some(_) => self.copies(caller, from, &messages).await?,
            None => Vec::new(),
        };
        let count = messages.len();
        let act = match copies.len() == count {
            true => Act::Forward { chat, key, copies },
            false => Act::ForwardAgain { chat, key, count },
        };
        match self.write(caller, act).await? {
            Done::Forwarded(all) if !all.is_empty() => Ok(all),
            Done::Forwarded(_) if role.is_none() => Err(errors::chat_not_found()),
            Done::Forwarded(_) => Err(errors::message_not_found()),
            _ => Err(unexpected()),
        }
    }

    /// Copies of those among the messages that the caller can read.
    async fn copies(
        &self,
        caller: &Caller,
        from: ChatId,
        messages: &[Seq],
    ) -> Result<Vec<ForwardedCopy>> {
        let page = self.store.events_at(from, messages).await?;
        let shown = shown::events(&*self.store, caller.user, from, page.events).await?;
        shown
            .iter()
            .filter_map(|s| self.copy(s).transpose())
            .collect()
    }

    /// A copy that names who said it first; none of what is no message or not to be seen.
    fn copy(&self, shown: &Shown) -> Result<Option<ForwardedCopy>> {
        let Some(message) = shown.event.message().filter(|_| !shown.hidden) else {
            return Ok(None);
        };
        let at_ms = message.expires_at_ms;
        let is_over = at_ms != 0 && at_ms <= self.clock.now_ms();
        if message.deletion.is_some() || is_over {
            return Ok(None);
        }
        Ok(Some(ForwardedCopy {
            id: MessageId(self.new_id()?),
            text: message.text.clone(),
            from: message.forward.unwrap_or(Forward {
                user: shown.event.actor,
                at_ms: shown.event.at_ms,
            }),
        }))
    }

    /// Gives a message of the caller another text. Gives the seq of the event, none when it says so already.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `MESSAGE_NOT_FOUND`, `NOT_YOUR_MESSAGE`, `NOT_ALLOWED`, `TOO_MANY`, or the failure of
    /// the store.
    pub async fn edit(
        &self,
        member: &Member,
        message: Seq,
        text: String,
        mentions: Mentions,
    ) -> Result<Option<Seq>> {
        input::check_text(&text)?;
        let act = Act::Edit {
            chat: member.chat(),
            message,
            text,
            mentions,
        };
        self.changed(member.caller(), act).await
    }

    /// Deletes messages for everybody: the caller's own, or with the right to it those of others.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `MESSAGE_NOT_FOUND`, `NOT_ALLOWED`, or the failure of the store.
    pub async fn delete(&self, member: &Member, messages: Vec<Seq>) -> Result<Option<Seq>> {
        let act = Act::Delete {
            chat: member.chat(),
            messages: input::messages(messages)?,
        };
        self.changed(member.caller(), act).await
    }

    /// Deletes messages for the caller alone.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `MESSAGE_NOT_FOUND`, or the failure of the store.
    pub async fn hide(&self, member: &Member, messages: Vec<Seq>) -> Result<()> {
        let act = Act::Hide {
            chat: member.chat(),
            messages: input::messages(messages)?,
        };
        self.write(member.caller(), act).await.map(drop)
    }

    /// Adds a reaction of the caller (`on`), or takes it back.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `MESSAGE_NOT_FOUND`, `TOO_MANY`, or the failure of the store.
    pub async fn react(
        &self,
        member: &Member,
        message: Seq,
        emoji: String,
        on: bool,
    ) -> Result<Option<Seq>> {
        input::check_emoji("emoji", &emoji)?;
        let act = Act::React {
            chat: member.chat(),
            message,
            emoji,
            on,
        };
        self.changed(member.caller(), act).await
    }

    /// Who gave which reaction to a message: by emoji in the order of their first use, then by user.
    ///
    /// # Errors
    /// `MESSAGE_NOT_FOUND`, or the failure of the store.
    pub async fn reactions(
        &self,
        member: &Member,
        message: Seq,
        limit: usize,
    ) -> Result<Vec<(String, UserId)>> {
        let event = self.message(member, message).await?;
        let limit = limit.clamp(1, EVENTS_MAX);
        let all = self.store.reactions(member.chat(), message, limit).await?;
        let counts = event.message().map_or(&[][..], |m| &m.reactions);
        let place = |emoji: &str| counts.iter().position(|count| count.emoji == emoji);
        let mut all = all;
        all.sort_by_key(|(emoji, user)| (place(emoji).unwrap_or(usize::MAX), *user));
        Ok(all)
    }

    /// Pins a message (`on`), or unpins it.
    ///
    /// # Errors
    /// `MESSAGE_NOT_FOUND`, `TOO_MANY`, or the failure of the store.
    pub async fn pin(&self, member: &Member, message: Seq, on: bool) -> Result<Option<Seq>> {
        let chat = member.chat();
        self.changed(member.caller(), Act::Pin { chat, message, on })
            .await
    }

    /// Messages by their seqs, as they are now; those that are not there are left out.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, or the failure of the store.
    pub async fn messages(&self, member: &Member, messages: Vec<Seq>) -> Result<ShownPage> {
        let messages = input::messages(messages)?;
        let mut page = self.store.events_at(member.chat(), &messages).await?;
        page.events.retain(|event| event.message().is_some());
        shown::page(&*self.store, member.caller().user, member.chat(), page).await
    }

    /// The messages of a thread after a seq, oldest first, and whether there are more.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn thread(
        &self,
        member: &Member,
        thread: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<(ShownPage, bool)> {
        let limit = limit.clamp(1, CHATS_MAX);
        let chat = member.chat();
        // One more than asked for tells whether there are more.
        let mut page = self.store.thread(chat, thread, after, limit + 1).await?;
        let more = page.events.len() > limit;
        page.events.truncate(limit);
        let page = shown::page(&*self.store, member.caller().user, chat, page).await?;
        Ok((page, more))
    }

    /// The texts that a message had, the first one first and the one of now last; none of a deleted one.
    ///
    /// # Errors
    /// `MESSAGE_NOT_FOUND`, or the failure of the store.
    pub async fn edits(&self, member: &Member, message: Seq) -> Result<Vec<TextVersion>> {
        let event = self.message(member, message).await?;
        let Some(message) = event.message().filter(|m| m.deletion.is_none()) else {
            return Ok(Vec::new());
        };
        if message.edits.is_empty() {
            return Ok(vec![TextVersion {
                text: message.text.clone(),
                at_ms: event.at_ms,
            }]);
        }
        let edits = self.store.events_at(member.chat(), &message.edits).await?;
        let mut versions = Vec::with_capacity(edits.events.len() + 1);
        for edit in &edits.events {
            let EventBody::Edited { text, before, .. } = &edit.body else {
                continue;
            };
            if let Some(text) = before {
                versions.push(TextVersion {
                    text: text.clone(),
                    at_ms: event.at_ms,
                });
            }
            versions.push(TextVersion {
                text: text.clone(),
                at_ms: edit.at_ms,
            });
        }
        Ok(versions)
    }

    /// Tells those who are there that the caller is typing. It may be dropped.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn typing(&self, member: &Member) -> Result<()> {
        let (chat, user) = (member.chat(), member.caller().user);
        if !self.typing.is_news(chat, user, self.clock.now_ms()) {
            return Ok(());
        }
        match self.store.audience(chat).await? {
            Some(Audience::Warm) | None => {}
            Some(audience) => self.signals.typing(chat, user, &audience),
        }
        Ok(())
    }

    /// Keeps a message to be sent later. The same client message id from the same device gives the first answer
    /// again, for seven days, also when the message was sent or called off since.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `BAD_TIME`, `TOO_MANY`, `CLIENT_MESSAGE_ID_REUSED`, or the failure of the store.
    pub async fn schedule(
        &self,
        member: &Member,
        out: Outgoing,
        send_at_ms: i64,
    ) -> Result<Scheduled> {
        check(&out)?;
        let caller = member.caller();
        let scheduled = Scheduled {
            id: ScheduledId(self.new_id()?),
            user: caller.user,
            chat: member.chat(),
            send_at_ms,
            key: key(caller, out.client_message_id),
            text: out.text,
            reply_to: out.reply_to,
            thread: out.thread,
            mentions: out.mentions,
        };
        match self.write(caller, Act::Schedule(scheduled)).await? {
            Done::Scheduled(scheduled) => Ok(*scheduled),
            _ => Err(unexpected()),
        }
    }

    /// Calls a scheduled message off.
    ///
    /// # Errors
    /// `SCHEDULED_NOT_FOUND`, or the failure of the store.
    pub async fn call_off(&self, caller: &Caller, scheduled: ScheduledId) -> Result<()> {
        self.write(caller, Act::CallOff { scheduled })
            .await
            .map(drop)
    }

    /// The caller's scheduled messages, the next one first.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn scheduled(&self, caller: &Caller) -> Result<Vec<Scheduled>> {
        let mut all = self.store.scheduled(caller.user).await?;
        all.sort_by_key(|scheduled| (scheduled.send_at_ms, scheduled.id));
        Ok(all)
    }

    /// A message of the chat.
    async fn message(&self, member: &Member, message: Seq) -> Result<Arc<Event>> {
        let page = self.store.events_at(member.chat(), &[message]).await?;
        let event = page.events.into_iter().next();
        event
            .filter(|event| event.message().is_some())
            .ok_or_else(errors::message_not_found)
    }
}

fn sent(done: Result<Done>) -> Result<Sent> {
    match done? {
        Done::Sent(sent) => Ok(sent),
        _ => Err(unexpected()),
    }
}

fn check(out: &Outgoing) -> Result<()> {
    input::check_client_id("client_message_id", &out.client_message_id)?;
    input::check_text(&out.text)
}
