//! Chats made and changed, and who is in them.

use tertulia_kit::error::Result;

use super::marks::last_to;
use super::{Plan, Used, Write, not_for_direct, standing, usual_role};
use crate::chats::command::*;
use crate::chats::model::*;
use crate::chats::roles::Right;
use crate::errors;
use crate::ids::{ChatId, UserId};

impl Plan<'_> {
    pub(super) fn open_direct(&mut self, pair: Pair, id: ChatId) -> Result<Done> {
        if let Some(there) = self.view.direct(pair)? {
            return self.chat_of_actor(there);
        }
        let chat = Chat::direct(id, pair, self.at_ms);
        self.writes.push(Write::Pair(pair, id));
        for user in pair.users() {
            self.come_in(&chat, user, Role::Member)?;
        }
        self.keep(chat.clone());
        self.new_chat(chat, Role::Member)
    }

    pub(super) fn create(&mut self, new: NewChat) -> Result<Done> {
        if let Some(used) = self.view.used(self.actor, &new.key)? {
            let Used::Chat(there) = used else {
                return Err(errors::client_message_id_reused());
            };
            return self.chat_of_actor(there);
        }
        let mut members = new.members;
        members.retain(|user| *user != self.actor);
        let member_count = members.len() as u32 + 1;
        self.check_members(new.kind, member_count)?;
        let mut chat = Chat {
            id: new.id,
            kind: new.kind,
            head: 0,
            messages: 0,
            created_at_ms: self.at_ms,
            last_message: None,
            spoke: [0; 2],
            details: Details {
                title: new.title.clone(),
                topic: new.topic,
                avatar: new.avatar,
                created_by: Some(self.actor),
                member_count,
                members_seq: 1,
                ..Details::default()
            }
            .into(),
        };
        let named = members.iter().copied().take(NAMED_MAX).collect();
        let body = EventBody::Created {
            title: new.title,
            members: named,
            member_count,
        };
        self.append(&mut chat, body);
        self.come_in(&chat, self.actor, Role::Owner)?;
        for user in members {
            self.come_in(&chat, user, usual_role(chat.kind))?;
        }
        self.writes
            .push(Write::Used(self.actor, new.key, Used::Chat(chat.id)));
        self.keep(chat.clone());
        self.new_chat(chat, Role::Owner)
    }

    pub(super) fn change(
        &mut self,
        chat: ChatId,
        [title, topic, avatar]: [Option<String>; 3],
        message_ttl_s: Option<i64>,
    ) -> Result<Done> {
        let mut here = self.here(chat, Right::ChangeChat)?;
        if title.is_some() || topic.is_some() || avatar.is_some() {
            not_for_direct(&here.chat)?;
        }
        let now = &here.chat.details;
        let title = title.filter(|title| *title != now.title);
        let topic = topic.filter(|topic| *topic != now.topic);
        let avatar = avatar.filter(|avatar| *avatar != now.avatar);
        let message_ttl_s = message_ttl_s.filter(|ttl_s| *ttl_s != now.message_ttl_s);
        if title.is_none() && topic.is_none() && avatar.is_none() && message_ttl_s.is_none() {
            return Ok(Done::Changed(None));
        }
        let body = EventBody::Changed {
            title: title.clone(),
            topic: topic.clone(),
            avatar: avatar.clone(),
            message_ttl_s,
        };
        self.append(&mut here.chat, body);
        let details = self.details(&mut here.chat);
        details.title = title.unwrap_or_else(|| std::mem::take(&mut details.title));
        details.topic = topic.unwrap_or_else(|| std::mem::take(&mut details.topic));
        details.avatar = avatar.unwrap_or_else(|| std::mem::take(&mut details.avatar));
        details.message_ttl_s = message_ttl_s.unwrap_or(details.message_ttl_s);
        self.made(here.chat)
    }

    pub(super) fn add(
        &mut self,
        chat: ChatId,
        users: Vec<UserId>,
        role: Option<Role>,
    ) -> Result<Done> {
        let mut here = self.here(chat, Right::AddMembers)?;
        let role = role.unwrap_or_else(|| usual_role(here.chat.kind));
        if role >= here.role {
            return Err(errors::not_allowed());
        }
        let mut new = Vec::with_capacity(users.len());
        for user in users {
            let is_member = self.view.membership(chat, user)?.is_some();
            if !is_member && !self.view.banned(chat, user)? {
                new.push(user);
            }
        }
        if new.is_empty() {
            return Ok(Done::Added(None, new));
        }
        let member_count = here.chat.details.member_count + new.len() as u32;
        self.check_members(here.chat.kind, member_count)?;
        let body = EventBody::Added {
            members: new.iter().copied().take(NAMED_MAX).collect(),
            role,
            member_count,
        };
        self.append(&mut here.chat, body);
        self.count_members(&mut here.chat, member_count);
        for user in &new {
            self.come_in(&here.chat, *user, role)?;
        }
        let seq = here.chat.head;
        self.keep(here.chat);
        Ok(Done::Added(Some(seq), new))
    }

    pub(super) fn join(&mut self, code: &str) -> Result<Done> {
        let invite = self.view.invite(code)?;
        let mut invite = invite.ok_or_else(errors::invite_not_found)?;
        if self.view.membership(invite.chat, self.actor)?.is_some() {
            return self.chat_of_actor(invite.chat);
        }
        if !invite.is_open(self.at_ms) {
            return Err(errors::invite_not_found());
        }
        if self.view.banned(invite.chat, self.actor)? {
            return Err(errors::banned());
        }
        let chat = self.view.chat(invite.chat)?;
        let mut chat = chat.ok_or_else(errors::invite_not_found)?;
        let member_count = chat.details.member_count + 1;
        self.check_members(chat.kind, member_count)?;
        let body = EventBody::Joined {
            invited_by: invite.created_by,
            role: invite.role,
            member_count,
        };
        self.append(&mut chat, body);
        self.count_members(&mut chat, member_count);
        let role = invite.role;
        self.come_in(&chat, self.actor, role)?;
        invite.uses += 1;
        self.writes.push(match invite.uses == invite.uses_max {
            true => Write::InviteGone(chat.id, invite.code),
            false => Write::Invite(invite),
        });
        self.keep(chat.clone());
        self.new_chat(chat, role)
    }

    pub(super) fn leave(&mut self, chat: ChatId) -> Result<Done> {
        let mut here = self.here(chat, Right::Read)?;
        not_for_direct(&here.chat)?;
        if here.role == Role::Owner && here.chat.details.member_count > 1 {
            return Err(errors::owner_must_stay());
        }
        let member_count = here.chat.details.member_count.saturating_sub(1);
        self.append(&mut here.chat, EventBody::Left { member_count });
        self.count_members(&mut here.chat, member_count);
        self.go(chat, self.actor, LeftReason::Left)?;
        if member_count == 0 {
            // Nobody could keep order among those who came in later.
            for invite in self.view.invites_of(chat)? {
                self.writes.push(Write::InviteGone(chat, invite.code));
            }
        }
        self.made(here.chat)
    }

    pub(super) fn remove(&mut self, chat: ChatId, user: UserId, ban: bool) -> Result<Done> {
        let mut here = self.here(chat, Right::RemoveMembers)?;
        let membership = self.view.membership(chat, user)?;
        match &membership {
            Some(membership) if membership.role >= here.role => return Err(errors::not_allowed()),
            Some(_) => {}
            None if !ban => return Err(errors::not_a_member()),
            None if self.view.banned(chat, user)? => return Ok(Done::Changed(None)),
            None => {}
        }
        let gone = u32::from(membership.is_some());
        let member_count = here.chat.details.member_count.saturating_sub(gone);
        let (body, reason) = match ban {
            true => (EventBody::Banned { user, member_count }, LeftReason::Banned),
            false => (
                EventBody::Removed { user, member_count },
                LeftReason::Removed,
            ),
        };
        self.append(&mut here.chat, body);
        if ban {
            self.writes.push(Write::Ban(chat, user, true));
        }
        self.count_members(&mut here.chat, member_count);
        if membership.is_some() {
            self.go(chat, user, reason)?;
        }
        self.made(here.chat)
    }

    pub(super) fn unban(&mut self, chat: ChatId, user: UserId) -> Result<Done> {
        let mut here = self.here(chat, Right::RemoveMembers)?;
        if !self.view.banned(chat, user)? {
            return Ok(Done::Changed(None));
        }
        self.writes.push(Write::Ban(chat, user, false));
        self.append(&mut here.chat, EventBody::Unbanned(user));
        self.made(here.chat)
    }

    pub(super) fn set_role(&mut self, chat: ChatId, user: UserId, role: Role) -> Result<Done> {
        let mut here = self.here(chat, Right::ChangeRoles)?;
        let membership = self.view.membership(chat, user)?;
        let mut membership = membership.ok_or_else(errors::not_a_member)?;
        if membership.role == role {
            return Ok(Done::Changed(None));
        }
        let gives_ownership = here.role == Role::Owner && role == Role::Owner;
        let is_below = membership.role < here.role && role < here.role;
        if user == self.actor || !(is_below || gives_ownership) {
            return Err(errors::not_allowed());
        }
        self.append(&mut here.chat, EventBody::RoleChanged { user, role });
        let members = here.chat.details.member_count;
        self.count_members(&mut here.chat, members);
        membership.role = role;
        self.writes
            .push(Write::Membership(chat, user, Some(membership)));
        if gives_ownership {
            let mut own = self.own_membership(&here)?;
            own.role = Role::Admin;
            self.writes
                .push(Write::Membership(chat, self.actor, Some(own)));
        }
        self.made(here.chat)
    }

    fn check_members(&self, kind: ChatKind, count: u32) -> Result<()> {
        let max = match kind {
            ChatKind::Direct(_) => 2,
            ChatKind::Group => self.limits.group_members_max,
            ChatKind::Channel => self.limits.channel_members_max,
        };
        match count <= max {
            true => Ok(()),
            false => Err(errors::too_many(format!(
                "a chat of this kind has at most {max} members"
            ))),
        }
    }

    /// The newest event changed members or roles.
    fn count_members(&self, chat: &mut Chat, count: u32) {
        let head = chat.head;
        let details = self.details(chat);
        details.member_count = count;
        details.members_seq = head;
    }

    /// Somebody is in the chat from now on.
    fn come_in(&mut self, chat: &Chat, user: UserId, role: Role) -> Result<()> {
        let membership = Membership::new(role, self.at_ms, chat.head);
        let body = UserEventBody::ChatJoined {
            chat: Box::new(Chat {
                last_message: None,
                ..chat.clone()
            }),
            membership: Box::new(membership.clone()),
        };
        self.writes
            .push(Write::Membership(chat.id, user, Some(membership)));
        self.own(user, body)
    }

    /// Somebody is in the chat no longer.
    fn go(&mut self, chat: ChatId, user: UserId, reason: LeftReason) -> Result<()> {
        self.writes.push(Write::Membership(chat, user, None));
        let by = self.actor;
        self.own(user, UserEventBody::ChatLeft { chat, reason, by })
    }

    /// A chat as it is, for an actor who is in it.
    fn chat_of_actor(&mut self, chat: ChatId) -> Result<Done> {
        let standing = standing(self.view, chat, self.actor)?;
        let standing = standing.ok_or_else(errors::chat_not_found)?;
        Ok(Done::Chat(Box::new(standing)))
    }

    /// A chat that the actor has just come into, perhaps not for the first time.
    fn new_chat(&mut self, chat: Chat, role: Role) -> Result<Done> {
        let membership = Membership::new(role, self.at_ms, chat.head);
        let read = ReadState {
            seen: chat.head,
            unread: 0,
            unread_mentions: 0,
            as_of: chat.head,
        };
        let (last_hidden, last_mine) = last_to(self.view, &chat, self.actor)?;
        Ok(Done::Chat(Box::new(Standing {
            chat,
            membership,
            read,
            last_hidden,
            last_mine,
        })))
    }
}
