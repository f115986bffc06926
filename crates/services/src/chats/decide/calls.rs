//! Mentions: whom a message calls by name, and when it calls all of a role.

use tertulia_kit::error::Result;

use super::{Here, Plan, Write, roles};
use crate::chats::model::{Chat, ChatKind, Mentions, Seq};
use crate::chats::roles::Right;
use crate::errors;

impl Plan<'_> {
    /// Leaves out who is not a member. A message must not fail because somebody has just left.
    pub(super) fn mentioned(&mut self, here: &Here, mut mentions: Mentions) -> Result<Mentions> {
        if mentions.is_empty() {
            return Ok(mentions);
        }
        let may_call = roles::allows(here.chat.kind, here.role, Right::MentionAll);
        if mentions.calls().is_some() && !may_call {
            return Err(errors::not_allowed());
        }
        let mut members = Vec::with_capacity(mentions.users.len());
        for user in mentions.users {
            let is_member = match here.chat.kind {
                ChatKind::Direct(pair) => pair.has(user),
                ChatKind::Group | ChatKind::Channel => {
                    self.view.membership(here.chat.id, user)?.is_some()
                }
            };
            if is_member && !members.contains(&user) {
                members.push(user);
            }
        }
        mentions.users = members;
        Ok(mentions)
    }

    /// Writes down whom a message mentions, when it mentioned others before.
    pub(super) fn note_mentions(
        &mut self,
        chat: &mut Chat,
        message: Seq,
        before: &Mentions,
        now: &Mentions,
    ) -> Result<()> {
        for user in before.users.iter().filter(|u| !now.users.contains(u)) {
            self.writes
                .push(Write::Mention(*user, chat.id, message, false));
        }
        for user in now.users.iter().filter(|u| !before.users.contains(u)) {
            self.writes
                .push(Write::Mention(*user, chat.id, message, true));
            if let Some(mut membership) = self.view.membership(chat.id, *user)?
                && membership.mentioned_max < message
            {
                membership.mentioned_max = message;
                self.writes
                    .push(Write::Membership(chat.id, *user, Some(membership)));
            }
        }
        if before.calls() != now.calls() {
            let writes = [(before.calls(), false), (now.calls(), true)];
            let calls = writes
                .into_iter()
                .filter_map(|(role, on)| Some((role?, on)));
            self.writes
                .extend(calls.map(|(role, on)| Write::Call(chat.id, role, message, on)));
            if now.calls().is_some() && chat.details.called_max < message {
                self.details(chat).called_max = message;
            }
        }
        Ok(())
    }
}
