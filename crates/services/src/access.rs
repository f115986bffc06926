//! Who may do what, decided in one place. Everything is denied that is not allowed here.
//!
//! A method's row in the contract says who may call it and what the caller must be to the object that the
//! request names. The border asks the [`Authorizer`] once for each call and gets a permit; the services
//! take the permit as an argument, so that a forgotten check does not compile.

use std::sync::Arc;

use async_trait::async_trait;
use tertulia_kit::error::Result;

use crate::chats::roles::{self, Right};
use crate::chats::{ChatKind, Role};
use crate::errors;
use crate::ids::{ChatId, LoginId, UserId};

/// A signed-in caller. Only identity makes one, from a token that it has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// The login that calls.
    pub login: LoginId,
    /// The device of the login.
    pub device: Arc<str>,
    /// When the access token ends, in milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nothing.
    Anyone,
    /// To be signed in.
    User,
    /// To be signed in, a member of the chat that the request names, and to have a right there.
    ChatMember(ChatId, Right),
}

/// What the authorizer allows. It can not be made elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    /// A call that anyone may make.
    Anyone,
    /// A call of a signed-in user.
    User(Caller),
    /// A call of a member about a chat.
    Member(Member),
}

/// A caller who is a member of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    caller: Caller,
    chat: ChatId,
}

impl Member {
    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// About which chat.
    pub fn chat(&self) -> ChatId {
        self.chat
    }
}

/// Answers who is in a chat.
#[async_trait]
pub trait Members: Send + Sync + 'static {
    /// What kind of chat it is and as what `user` is in it now; none for a chat that is not there.
    async fn role(&self, chat: ChatId, user: UserId) -> Result<Option<(ChatKind, Role)>>;
}

/// Decides.
#[derive(Clone)]
pub struct Authorizer {
    members: Arc<dyn Members>,
}

impl Authorizer {
    /// Decides by what `members` says.
    pub fn new(members: Arc<dyn Members>) -> Self {
        Authorizer { members }
    }

    /// Allows the call, or says why not. To a stranger a chat is not there, so that ids tell nothing.
    ///
    /// # Errors
    /// `NOT_SIGNED_IN`, `CHAT_NOT_FOUND`, `DIRECT_CHAT`, `NOT_ALLOWED`, or the failure of the store.
    pub async fn authorize(&self, rule: Rule, caller: Option<Caller>) -> Result<Permit> {
        match (rule, caller) {
            (Rule::Anyone, _) => Ok(Permit::Anyone),
            (_, None) => Err(errors::not_signed_in()),
            (Rule::User, Some(caller)) => Ok(Permit::User(caller)),
            (Rule::ChatMember(chat, right), Some(caller)) => {
                let role = self.members.role(chat, caller.user).await?;
                let (kind, role) = role.ok_or_else(errors::chat_not_found)?;
                roles::check(kind, role, right)?;
                Ok(Permit::Member(Member { caller, chat }))
            }
        }
    }
}
