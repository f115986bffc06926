//! What a chat is to one member: how far it was delivered and read, choices, drafts.

use std::sync::Arc;

use tertulia_kit::error::Result;

use super::{Plan, ReactionKey, View, Write};
use crate::chats::command::{Done, MENTIONS_COUNTED_MAX};
use crate::chats::model::*;
use crate::chats::roles::Right;
use crate::ids::{ChatId, UserId};

/// A chat as somebody sees it; none when they are not in it.
///
/// # Errors
/// The failure of the view.
pub fn standing(view: &mut dyn View, chat: ChatId, user: UserId) -> Result<Option<Standing>> {
    let Some(chat) = view.chat(chat)? else {
        return Ok(None);
    };
    let Some(membership) = view.membership(chat.id, user)? else {
        return Ok(None);
    };
    let read = read_state(view, &chat, user, &membership)?;
    let (last_hidden, last_mine) = last_to(view, &chat, user)?;
    Ok(Some(Standing {
        chat,
        membership,
        read,
        last_hidden,
        last_mine,
    }))
}

/// What a chat's newest message is to somebody: whether they have hidden it, and their reactions to it.
pub(super) fn last_to(
    view: &mut dyn View,
    chat: &Chat,
    user: UserId,
) -> Result<(bool, Vec<String>)> {
    let last = chat.last_message.as_deref();
    let Some((event, message)) = last.and_then(|event| Some((event, event.message()?))) else {
        return Ok((false, Vec::new()));
    };
    if message.deletion.is_some() {
        return Ok((false, Vec::new()));
    }
    let mut mine = Vec::new();
    for count in &message.reactions {
        let key = ReactionKey {
            chat: chat.id,
            message: event.seq,
            emoji: count.emoji.clone(),
            user,
        };
        if view.reacted(&key)? {
            mine.push(key.emoji);
        }
    }
    Ok((view.hidden(user, chat.id, event.seq)?, mine))
}

/// How far somebody has read a chat, and what is left.
///
/// # Errors
/// The failure of the view.
pub fn read_state(
    view: &mut dyn View,
    chat: &Chat,
    user: UserId,
    membership: &Membership,
) -> Result<ReadState> {
    let seen = membership.seen.max(chat.spoke_of(user)).min(chat.head);
    let mut read = ReadState {
        seen,
        unread: 0,
        unread_mentions: 0,
        as_of: chat.head,
    };
    if seen == chat.head {
        return Ok(read);
    }
    let before = match seen {
        0 => 0,
        seen => view.event(chat.id, seen)?.map_or(0, |event| event.messages),
    };
    read.unread = chat.messages - before;
    if chat.details.deleted_max > seen {
        read.unread -= view.deleted_after(chat.id, seen)?;
    }
    let max = MENTIONS_COUNTED_MAX;
    let mut mentions = match membership.mentioned_max > seen {
        true => view.mentions_after(user, chat.id, seen, max)?,
        false => Vec::new(),
    };
    if chat.details.called_max > seen {
        for role in Role::ALL.into_iter().filter(|r| *r <= membership.role) {
            mentions.extend(view.calls_after(chat.id, role, seen, max)?);
        }
        mentions.sort_unstable();
        mentions.dedup();
    }
    read.unread_mentions = mentions.len().min(max) as i64;
    Ok(read)
}

/// How far a chat has reached a member, for others to know.
pub fn receipt(chat: &Chat, user: UserId, membership: &Membership) -> Receipt {
    let spoke = chat.spoke_of(user);
    Receipt {
        user,
        delivered: membership.delivered.max(membership.shown_seen).max(spoke),
        seen: membership.shown_seen.max(spoke),
    }
}

impl Plan<'_> {
    pub(super) fn mark(
        &mut self,
        chat: ChatId,
        delivered: Seq,
        seen: Option<Seq>,
        shares_seen: bool,
    ) -> Result<Done> {
        let here = self.here(chat, Right::Read)?;
        let mut membership = self.own_membership(&here)?;
        let (before, head) = (membership.clone(), here.chat.head);
        let seen_before = membership.seen.max(here.chat.spoke_of(self.actor));
        membership.seen = seen_before;
        if let Some(seen) = seen {
            membership.seen = membership.seen.max(seen.min(head));
            membership.settings.marked_unread = false;
            if shares_seen {
                membership.shown_seen = membership.shown_seen.max(membership.seen);
            }
        }
        let reached = delivered.min(head).max(membership.seen);
        membership.delivered = membership.delivered.max(reached);
        let read = read_state(self.view, &here.chat, self.actor, &membership)?;
        if membership == before {
            return Ok(Done::Read(read));
        }
        let shown = receipt(&here.chat, self.actor, &membership);
        let has_moved = shown != receipt(&here.chat, self.actor, &before);
        if has_moved && here.chat.is_small(self.limits.receipts_members_max) {
            self.writes.push(Write::Receipt(chat, shown));
        }
        let has_read = membership.seen > seen_before
            || membership.settings.marked_unread != before.settings.marked_unread;
        self.writes
            .push(Write::Membership(chat, self.actor, Some(membership)));
        if has_read && seen.is_some() {
            self.own(self.actor, UserEventBody::ReadMoved { chat, read })?;
        }
        Ok(Done::Read(read))
    }

    pub(super) fn choose(&mut self, chat: ChatId, settings: Settings) -> Result<Done> {
        let here = self.here(chat, Right::Read)?;
        let mut membership = self.own_membership(&here)?;
        if membership.settings == settings {
            return Ok(Done::Nothing);
        }
        membership.settings = settings;
        self.writes
            .push(Write::Membership(chat, self.actor, Some(membership)));
        self.own(
            self.actor,
            UserEventBody::SettingsChanged { chat, settings },
        )?;
        Ok(Done::Nothing)
    }

    pub(super) fn draft(&mut self, chat: ChatId, draft: Option<Arc<Draft>>) -> Result<Done> {
        let here = self.here(chat, Right::Read)?;
        let mut membership = self.own_membership(&here)?;
        let content = |draft: &Option<Arc<Draft>>| {
            let draft = draft.as_ref();
            draft.map(|draft| (draft.text.clone(), draft.reply_to))
        };
        if content(&membership.draft) == content(&draft) {
            return Ok(Done::Nothing);
        }
        membership.draft = draft.clone();
        self.writes
            .push(Write::Membership(chat, self.actor, Some(membership)));
        self.own(self.actor, UserEventBody::DraftChanged { chat, draft })?;
        Ok(Done::Nothing)
    }
}
