//! Members: who is in a chat, as what, and how they come in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tertulia_kit::error::Result;

use super::*;
use crate::access::NodeCaller;

/// How many members one answer may have.
const MEMBERS_MAX: usize = 1_000;
/// How many random bytes an invite's code has.
const CODE_BYTES: usize = 16;

/// A part of the list of members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberPage {
    /// By user id.
    pub members: Vec<(UserId, Membership)>,
    /// There are more after the last one.
    pub more: bool,
    /// Every change of members or roles up to here is in the answer.
    pub members_seq: Seq,
}

/// What an invite leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitePreview {
    /// The chat.
    pub chat: Chat,
    /// The caller is in it already.
    pub is_member: bool,
}

impl Chats {
    /// The members after a user id, by id.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn members(
        &self,
        member: &Member,
        after: UserId,
        limit: usize,
    ) -> Result<MemberPage> {
        // Before the members: a change that comes between them is in the answer and asked for again.
        let chat = self.store.chat(member.chat()).await?;
        let chat = chat.ok_or_else(errors::chat_not_found)?;
        let limit = limit.clamp(1, MEMBERS_MAX);
        let mut members = self.store.members(chat.id, after, limit + 1).await?;
        let more = members.len() > limit;
        members.truncate(limit);
        Ok(MemberPage {
            members,
            more,
            members_seq: chat.details.members_seq,
        })
    }

    /// Who is in a chat, by id and after a user id; empty at the end.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, or the failure of the store.
    pub async fn members_of(
        &self,
        _: &NodeCaller,
        chat: ChatId,
        after: UserId,
    ) -> Result<Vec<UserId>> {
        let found = self.store.chat(chat).await?;
        found.ok_or_else(errors::chat_not_found)?;
        let members = self.store.members(chat, after, MEMBERS_MAX).await?;
        Ok(members.into_iter().map(|(user, _)| user).collect())
    }

    /// Brings people in. Gives the seq of the event, if somebody was new, and who.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `DIRECT_CHAT`, `NOT_ALLOWED`, `TOO_MANY`, or the failure of a store.
    pub async fn add_members(
        &self,
        member: &Member,
        mut users: Vec<UserId>,
        role: Option<Role>,
    ) -> Result<(Option<Seq>, Vec<UserId>)> {
        users.sort_unstable();
        users.dedup();
        self.check_exist(&users).await?;
        let chat = member.chat();
        let act = Act::Add { chat, users, role };
        match self.write(member.caller(), act).await? {
            Done::Added(seq, added) => Ok((seq, added)),
            _ => Err(unexpected()),
        }
    }

    /// Removes somebody, and keeps them out when it is a ban.
    ///
    /// # Errors
    /// `DIRECT_CHAT`, `NOT_ALLOWED` when their role is not below the caller's, `NOT_A_MEMBER`, `USER_NOT_FOUND`
    /// when somebody is banned who does not exist, or the failure of a store.
    pub async fn remove_member(
        &self,
        member: &Member,
        user: UserId,
        ban: bool,
    ) -> Result<Option<Seq>> {
        if ban {
            self.check_exist(&[user]).await?;
        }
        let chat = member.chat();
        self.changed(member.caller(), Act::Remove { chat, user, ban })
            .await
    }

    /// Lifts a ban.
    ///
    /// # Errors
    /// `DIRECT_CHAT`, `NOT_ALLOWED`, or the failure of the store.
    pub async fn unban(&self, member: &Member, user: UserId) -> Result<Option<Seq>> {
        let chat = member.chat();
        self.changed(member.caller(), Act::Unban { chat, user })
            .await
    }

    /// Who is kept out after a user id, by id, and whether there are more.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn banned(
        &self,
        member: &Member,
        after: UserId,
        limit: usize,
    ) -> Result<(Vec<UserId>, bool)> {
        let limit = limit.clamp(1, MEMBERS_MAX);
        let mut users = self.store.banned(member.chat(), after, limit + 1).await?;
        let more = users.len() > limit;
        users.truncate(limit);
        Ok((users, more))
    }

    /// Gives somebody another role.
    ///
    /// # Errors
    /// `DIRECT_CHAT`, `NOT_ALLOWED`, `NOT_A_MEMBER`, or the failure of the store.
    pub async fn set_role(&self, member: &Member, user: UserId, role: Role) -> Result<Option<Seq>> {
        let chat = member.chat();
        self.changed(member.caller(), Act::SetRole { chat, user, role })
            .await
    }

    /// Leaves the chat.
    ///
    /// # Errors
    /// `DIRECT_CHAT`, `OWNER_MUST_STAY`, or the failure of the store.
    pub async fn leave(&self, member: &Member) -> Result<Option<Seq>> {
        let chat = member.chat();
        self.changed(member.caller(), Act::Leave { chat }).await
    }

    /// Makes an invite that is good for `valid_s` seconds (0: for ever) and `uses_max` people (0: any number).
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `DIRECT_CHAT`, `NOT_ALLOWED`, `TOO_MANY`, or the failure of the store.
    pub async fn create_invite(
        &self,
        member: &Member,
        client_invite_id: String,
        valid_s: i64,
        uses_max: u32,
        role: Option<Role>,
    ) -> Result<Invite> {
        input::check_client_id("client_invite_id", &client_invite_id)?;
        if !(0..=input::AHEAD_S_MAX).contains(&valid_s) {
            let problem = "must be 0 or up to a year";
            return Err(errors::invalid_field("valid_s", "int64.lte", problem));
        }
        let now_ms = self.clock.now_ms();
        let caller = member.caller();
        let code: [u8; CODE_BYTES] = rand::random();
        let invite = Invite {
            code: URL_SAFE_NO_PAD.encode(code),
            chat: member.chat(),
            created_by: caller.user,
            created_at_ms: now_ms,
            expires_at_ms: match valid_s {
                0 => 0,
                valid_s => now_ms + valid_s * 1_000,
            },
            uses_max,
            uses: 0,
            role: role.unwrap_or(Role::Reader),
        };
        let act = Act::MakeInvite {
            invite,
            role_chosen: role.is_some(),
            key: key(caller, client_invite_id),
        };
        match self.write(caller, act).await? {
            Done::Invite(invite) => Ok(*invite),
            _ => Err(unexpected()),
        }
    }

    /// The invites that can still be used, the newest first.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn invites(&self, member: &Member) -> Result<Vec<Invite>> {
        let now_ms = self.clock.now_ms();
        let mut invites = self.store.invites(member.chat()).await?;
        invites.retain(|invite| invite.is_open(now_ms));
        invites.sort_by(|a, b| (b.created_at_ms, &b.code).cmp(&(a.created_at_ms, &a.code)));
        Ok(invites)
    }

    /// Ends an invite.
    ///
    /// # Errors
    /// `INVITE_NOT_FOUND`, or the failure of the store.
    pub async fn revoke_invite(&self, member: &Member, code: String) -> Result<()> {
        let chat = member.chat();
        self.write(member.caller(), Act::RevokeInvite { chat, code })
            .await
            .map(drop)
    }

    /// Shows what an invite leads to.
    ///
    /// # Errors
    /// `INVITE_NOT_FOUND`, or the failure of the store.
    pub async fn preview_invite(&self, caller: &Caller, code: &str) -> Result<InvitePreview> {
        let now_ms = self.clock.now_ms();
        let invite = self.store.invite(code).await?;
        let invite = invite
            .filter(|invite| invite.is_open(now_ms))
            .ok_or_else(errors::invite_not_found)?;
        let chat = self.store.chat(invite.chat).await?;
        let chat = chat.ok_or_else(errors::invite_not_found)?;
        let role = self.store.role(chat.id, caller.user).await?;
        Ok(InvitePreview {
            chat,
            is_member: role.is_some(),
        })
    }

    /// Comes in by an invite. Who is in already stays as they are.
    ///
    /// # Errors
    /// `INVITE_NOT_FOUND`, `BANNED`, `TOO_MANY`, or the failure of the store.
    pub async fn join(&self, caller: &Caller, code: String) -> Result<Standing> {
        self.chat_made(caller, Act::Join { code }).await
    }
}
