//! Messages: sent, forwarded, edited, deleted, hidden, reacted to, pinned.

use std::sync::Arc;

use tertulia_kit::error::Result;

use super::{Here, Plan, ReactionKey, Used, Write, roles};
use crate::chats::command::*;
use crate::chats::model::*;
use crate::chats::roles::Right;
use crate::errors;
use crate::ids::{ChatId, UserId};

impl Plan<'_> {
    pub(super) fn send(&mut self, new: NewMessage) -> Result<Done> {
        if let Some(used) = self.view.used(self.actor, &new.key)? {
            let same = |_, message: &Message, first: Option<&str>| {
                message.forward.is_none() && first.is_none_or(|first| first == new.text)
            };
            let mut sent = self.sent_before(new.chat, &used, 1, same)?;
            return sent
                .pop()
                .map(Done::Sent)
                .ok_or_else(errors::client_message_id_reused);
        }
        let mut here = self.here(new.chat, Right::Send)?;
        let key = new.key.clone();
        let sent = self.say(&mut here, new, None)?;
        let used = Used::Messages {
            chat: here.chat.id,
            first: sent.seq,
            count: 1,
        };
        self.writes.push(Write::Used(self.actor, key, used));
        self.spoken(here)?;
        Ok(Done::Sent(sent))
    }

    pub(super) fn forward(
        &mut self,
        chat: ChatId,
        key: SendKey,
        copies: Vec<ForwardedCopy>,
    ) -> Result<Done> {
        if let Some(used) = self.view.used(self.actor, &key)? {
            // By where they come from: what they say may have been edited there since.
            let same = |n: usize, message: &Message, _: Option<&str>| {
                message.deletion.is_some() || message.forward == Some(copies[n].from)
            };
            let all = self.sent_before(chat, &used, copies.len(), same)?;
            return Ok(Done::Forwarded(all));
        }
        let mut here = self.here(chat, Right::Send)?;
        let mut all = Vec::with_capacity(copies.len());
        for copy in copies {
            let new = NewMessage {
                chat,
                id: copy.id,
                key: key.clone(),
                text: copy.text,
                reply_to: None,
                thread: None,
                mentions: Mentions::default(),
            };
            all.push(self.say(&mut here, new, Some(copy.from))?);
        }
        let used = Used::Messages {
            chat,
            first: all.first().ok_or_else(errors::message_not_found)?.seq,
            count: all.len() as u32,
        };
        self.writes.push(Write::Used(self.actor, key, used));
        self.spoken(here)?;
        Ok(Done::Forwarded(all))
    }

    /// What a forwarding was answered of which the source is gone. It is known by its place and its size alone.
    pub(super) fn forward_again(
        &mut self,
        chat: ChatId,
        key: &SendKey,
        count: usize,
    ) -> Result<Done> {
        let Some(used) = self.view.used(self.actor, key)? else {
            return Ok(Done::Forwarded(Vec::new()));
        };
        let same = |_, message: &Message, _: Option<&str>| {
            message.deletion.is_some() || message.forward.is_some()
        };
        let all = self.sent_before(chat, &used, count, same)?;
        Ok(Done::Forwarded(all))
    }

    /// What the messages are that a key was used for, if they are these: `same` is asked for each, with what
    /// it said first, as far as that is known.
    fn sent_before(
        &mut self,
        chat: ChatId,
        used: &Used,
        expected: usize,
        same: impl Fn(usize, &Message, Option<&str>) -> bool,
    ) -> Result<Vec<Sent>> {
        let reused = || Err(errors::client_message_id_reused());
        let Used::Messages {
            chat: there,
            first,
            count,
        } = *used
        else {
            return reused();
        };
        if there != chat || count as usize != expected {
            return reused();
        }
        let mut all = Vec::with_capacity(expected);
        for (n, seq) in (first..).take(expected).enumerate() {
            let event = self.any_message(chat, seq)?;
            let Some(message) = event.message() else {
                return reused();
            };
            let first_text = self.first_text(chat, message)?;
            if !same(n, message, first_text.as_deref()) {
                return reused();
            }
            all.push(Sent {
                seq,
                id: message.id,
                at_ms: event.at_ms,
                repeat: true,
            });
        }
        Ok(all)
    }

    /// What a message said when it was sent; none of a deleted one.
    fn first_text(&mut self, chat: ChatId, message: &Message) -> Result<Option<String>> {
        if message.deletion.is_some() {
            return Ok(None);
        }
        let Some(edit) = message.edits.first() else {
            return Ok(Some(message.text.clone()));
        };
        let event = self.view.event(chat, *edit)?;
        Ok(event.and_then(|event| match &event.body {
            EventBody::Edited { before, .. } => before.clone(),
            _ => None,
        }))
    }

    /// Appends a message of the actor. The chat and the membership are still to be kept, by
    /// [`spoken`](Plan::spoken).
    pub(super) fn say(
        &mut self,
        here: &mut Here,
        new: NewMessage,
        forward: Option<Forward>,
    ) -> Result<Sent> {
        let mentions = self.mentioned(here, new.mentions)?;
        if let Some(seq) = new.reply_to {
            self.any_message(new.chat, seq)?;
        }
        let root = match new.thread {
            None => None,
            Some(seq) => {
                let root = self.any_message(new.chat, seq)?;
                let hangs = root.message().is_some_and(|m| m.thread.is_some());
                if hangs {
                    return Err(errors::message_not_found());
                }
                Some(root)
            }
        };
        let chat = &mut here.chat;
        let seq = chat.head + 1;
        let expires_at_ms = match chat.details.message_ttl_s {
            0 => 0,
            ttl_s => self.at_ms + ttl_s * 1_000,
        };
        let message = Message {
            reply_to: new.reply_to,
            thread: new.thread,
            forward,
            mentions: mentions.clone(),
            expires_at_ms,
            ..Message::plain(new.id, new.key, new.text, seq)
        };
        self.append(chat, EventBody::Message(message));
        if !mentions.is_empty() {
            self.note_mentions(chat, seq, &Mentions::default(), &mentions)?;
        }
        if let Some(root) = root {
            self.change_message(chat, &root, |root| {
                root.replies += 1;
                root.last_reply = seq;
            });
            self.writes.push(Write::Reply {
                chat: chat.id,
                thread: root.seq,
                message: seq,
            });
        }
        if expires_at_ms != 0 {
            self.writes.push(Write::Expiry {
                at_ms: expires_at_ms,
                chat: chat.id,
                message: seq,
                on: true,
            });
        }
        Ok(Sent {
            seq,
            id: new.id,
            at_ms: self.at_ms,
            repeat: false,
        })
    }

    /// Who speaks has read everything before.
    pub(super) fn spoken(&mut self, mut here: Here) -> Result<()> {
        let head = here.chat.head;
        match here.chat.kind {
            ChatKind::Direct(pair) => {
                if let Some(place) = pair.place_of(self.actor) {
                    here.chat.spoke[place] = head;
                }
            }
            ChatKind::Group | ChatKind::Channel => {
                let mut membership = self.own_membership(&here)?;
                membership.delivered = head;
                membership.seen = head;
                membership.shown_seen = head;
                // Somebody who mentions themselves has noticed it.
                let write = Write::Membership(here.chat.id, self.actor, Some(membership));
                self.writes.push(write);
            }
        }
        self.keep(here.chat);
        Ok(())
    }

    pub(super) fn edit(
        &mut self,
        chat: ChatId,
        seq: Seq,
        text: String,
        mentions: Mentions,
    ) -> Result<Done> {
        let mut here = self.here(chat, Right::Send)?;
        let event = self.message(chat, seq)?;
        if event.actor != self.actor {
            return Err(errors::not_your_message());
        }
        let mentions = self.mentioned(&here, mentions)?;
        let Some(message) = event.message() else {
            return Err(errors::message_not_found());
        };
        if message.text == text && message.mentions == mentions {
            return Ok(Done::Changed(None));
        }
        if message.edits.len() >= EDITS_MAX {
            let words = format!("a message is edited at most {EDITS_MAX} times");
            return Err(errors::too_many(words));
        }
        let first = message.edits.is_empty();
        let (before, mentioned_before) = (message.text.clone(), message.mentions.clone());
        let body = EventBody::Edited {
            message: seq,
            text: text.clone(),
            mentions: mentions.clone(),
            before: first.then_some(before),
        };
        let chat = &mut here.chat;
        let edit = self.append(chat, body).seq;
        self.note_mentions(chat, seq, &mentioned_before, &mentions)?;
        let at_ms = self.at_ms;
        self.change_message(chat, &event, |message| {
            message.text = text;
            message.mentions = mentions;
            message.edits.push(edit);
            message.edited_at_ms = at_ms;
        });
        self.made(here.chat)
    }

    pub(super) fn delete(&mut self, chat: ChatId, messages: &[Seq]) -> Result<Done> {
        let here = self.here(chat, Right::Read)?;
        let may_others = roles::allows(here.chat.kind, here.role, Right::DeleteOthers);
        let mut reason = DeletionReason::Sender;
        let mut there = Vec::with_capacity(messages.len());
        for seq in messages {
            let event = self.any_message(chat, *seq)?;
            if event.actor != self.actor {
                if !may_others {
                    return Err(errors::not_allowed());
                }
                reason = DeletionReason::Moderator;
            }
            if event.message().is_some_and(|m| m.deletion.is_none()) {
                there.push(event);
            }
        }
        self.erase(here.chat, there, reason)
    }

    pub(super) fn expire(&mut self, chat: ChatId, messages: &[Seq]) -> Result<Done> {
        let Some(chat) = self.view.chat(chat)? else {
            return Ok(Done::Changed(None));
        };
        let mut over = Vec::with_capacity(messages.len());
        for seq in messages {
            // One that is not there must not keep the others.
            let event = self.view.event(chat.id, *seq)?;
            over.extend(event.filter(|event| {
                event.message().is_some_and(|message| {
                    let at_ms = message.expires_at_ms;
                    message.deletion.is_none() && at_ms != 0 && at_ms <= self.at_ms
                })
            }));
        }
        self.actor = UserId::SERVER;
        self.erase(chat, over, DeletionReason::Expired)
    }

    /// Deletes messages for everybody: their texts are gone, from their edits as well.
    fn erase(
        &mut self,
        mut chat: Chat,
        events: Vec<Arc<Event>>,
        reason: DeletionReason,
    ) -> Result<Done> {
        if events.is_empty() {
            return Ok(Done::Changed(None));
        }
        let messages = events.iter().map(|event| event.seq).collect();
        self.append(&mut chat, EventBody::Deleted { messages, reason });
        let by = self.actor;
        for event in events {
            let Some(message) = event.message() else {
                continue;
            };
            for edit in &message.edits {
                self.blank(chat.id, *edit)?;
            }
            self.note_mentions(
                &mut chat,
                event.seq,
                &message.mentions,
                &Mentions::default(),
            )?;
            if !message.reactions.is_empty() {
                self.writes.push(Write::ReactionsGone(chat.id, event.seq));
            }
            if message.expires_at_ms != 0 {
                self.writes.push(Write::Expiry {
                    at_ms: message.expires_at_ms,
                    chat: chat.id,
                    message: event.seq,
                    on: false,
                });
            }
            if message.pinned {
                let details = self.details(&mut chat);
                details.pinned.retain(|pinned| *pinned != event.seq);
            }
            self.writes.push(Write::Deleted(chat.id, event.seq));
            let details = self.details(&mut chat);
            details.deleted_max = details.deleted_max.max(event.seq);
            self.change_message(&mut chat, &event, |message| {
                message.text = String::new();
                message.edits = Vec::new();
                message.edited_at_ms = 0;
                message.deletion = Some(Deletion { reason, by });
                message.reply_to = None;
                message.forward = None;
                message.mentions = Mentions::default();
                message.reactions = Vec::new();
                message.pinned = false;
                message.expires_at_ms = 0;
            });
        }
        self.made(chat)
    }

    /// Takes the texts out of an edit.
    fn blank(&mut self, chat: ChatId, edit: Seq) -> Result<()> {
        let Some(event) = self.view.event(chat, edit)? else {
            return Ok(());
        };
        let mut event = (*event).clone();
        if let EventBody::Edited {
            text,
            mentions,
            before,
            ..
        } = &mut event.body
        {
            *text = String::new();
            *mentions = Mentions::default();
            *before = None;
            self.writes.push(Write::Rewrite(Arc::new(event)));
        }
        Ok(())
    }

    pub(super) fn hide(&mut self, chat: ChatId, messages: Vec<Seq>) -> Result<Done> {
        let here = self.here(chat, Right::Read)?;
        let mut new = Vec::with_capacity(messages.len());
        for seq in messages {
            self.any_message(chat, seq)?;
            if !self.view.hidden(self.actor, chat, seq)? {
                self.writes.push(Write::Hidden(self.actor, chat, seq));
                new.push(seq);
            }
        }
        if new.is_empty() {
            return Ok(Done::Nothing);
        }
        let mut membership = self.own_membership(&here)?;
        membership.hidden += new.len() as u32;
        self.writes
            .push(Write::Membership(chat, self.actor, Some(membership)));
        let messages = new;
        self.own(self.actor, UserEventBody::MessagesHidden { chat, messages })?;
        Ok(Done::Nothing)
    }

    pub(super) fn react(
        &mut self,
        chat: ChatId,
        message: Seq,
        emoji: String,
        on: bool,
    ) -> Result<Done> {
        let mut here = self.here(chat, Right::React)?;
        let event = self.message(chat, message)?;
        let key = ReactionKey {
            chat,
            message,
            emoji: emoji.clone(),
            user: self.actor,
        };
        if self.view.reacted(&key)? == on {
            return Ok(Done::Changed(None));
        }
        let counts = event.message().map_or(&[][..], |m| &m.reactions);
        let is_new_kind = counts.iter().all(|count| count.emoji != emoji);
        if on && is_new_kind && counts.len() >= REACTION_KINDS_MAX {
            let words = format!("a message has at most {REACTION_KINDS_MAX} kinds of reaction");
            return Err(errors::too_many(words));
        }
        let body = match on {
            true => EventBody::Reacted {
                message,
                emoji: emoji.clone(),
            },
            false => EventBody::Unreacted {
                message,
                emoji: emoji.clone(),
            },
        };
        self.append(&mut here.chat, body);
        self.writes.push(Write::Reaction(key, on));
        self.change_message(&mut here.chat, &event, |message| {
            count_reaction(&mut message.reactions, emoji, on);
        });
        self.made(here.chat)
    }

    pub(super) fn pin(&mut self, chat: ChatId, message: Seq, on: bool) -> Result<Done> {
        let mut here = self.here(chat, Right::Pin)?;
        let event = self.message(chat, message)?;
        if event.message().is_some_and(|m| m.pinned) == on {
            return Ok(Done::Changed(None));
        }
        if on && here.chat.details.pinned.len() >= PINNED_MAX {
            let words = format!("at most {PINNED_MAX} messages are pinned at once");
            return Err(errors::too_many(words));
        }
        let body = match on {
            true => EventBody::Pinned(message),
            false => EventBody::Unpinned(message),
        };
        self.append(&mut here.chat, body);
        let details = self.details(&mut here.chat);
        match on {
            true => details.pinned.insert(0, message),
            false => details.pinned.retain(|pinned| *pinned != message),
        }
        self.change_message(&mut here.chat, &event, |message| message.pinned = on);
        self.made(here.chat)
    }
}

fn count_reaction(counts: &mut Vec<ReactionCount>, emoji: String, on: bool) {
    match counts.iter_mut().find(|count| count.emoji == emoji) {
        Some(count) if on => count.count += 1,
        Some(count) => count.count = count.count.saturating_sub(1),
        None if on => counts.push(ReactionCount { emoji, count: 1 }),
        None => {}
    }
    counts.retain(|count| count.count > 0);
}
