//! Ways into a chat.

use tertulia_kit::error::Result;

use super::{Plan, Used, Write, usual_role};
use crate::chats::command::{Done, INVITES_MAX};
use crate::chats::model::{Invite, SendKey};
use crate::chats::roles::Right;
use crate::errors;
use crate::ids::ChatId;

impl Plan<'_> {
    pub(super) fn make_invite(
        &mut self,
        mut invite: Invite,
        role_chosen: bool,
        key: SendKey,
    ) -> Result<Done> {
        let here = self.here(invite.chat, Right::Invite)?;
        if let Some(used) = self.view.used(self.actor, &key)? {
            let Used::Invite(code) = used else {
                return Err(errors::client_message_id_reused());
            };
            let there = self.view.invite(&code)?;
            let there = there.filter(|there| there.chat == invite.chat);
            let there = there.ok_or_else(errors::invite_not_found)?;
            return Ok(Done::Invite(Box::new(there)));
        }
        if !role_chosen {
            invite.role = usual_role(here.chat.kind);
        }
        if invite.role >= here.role {
            return Err(errors::not_allowed());
        }
        // Those that have ended make room.
        let mut open = 0;
        for there in self.view.invites_of(invite.chat)? {
            match there.is_open(self.at_ms) {
                true => open += 1,
                false => self.writes.push(Write::InviteGone(there.chat, there.code)),
            }
        }
        if open >= INVITES_MAX {
            let words = format!("a chat has at most {INVITES_MAX} open invites");
            return Err(errors::too_many(words));
        }
        let used = Used::Invite(invite.code.clone());
        self.writes.push(Write::Used(self.actor, key, used));
        self.writes.push(Write::Invite(invite.clone()));
        Ok(Done::Invite(Box::new(invite)))
    }

    pub(super) fn revoke_invite(&mut self, chat: ChatId, code: String) -> Result<Done> {
        self.here(chat, Right::Invite)?;
        let invite = self.view.invite(&code)?;
        invite
            .filter(|invite| invite.chat == chat)
            .ok_or_else(errors::invite_not_found)?;
        self.writes.push(Write::InviteGone(chat, code));
        Ok(Done::Nothing)
    }
}
