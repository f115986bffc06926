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

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A signed-in user.
    User(Caller),
    /// Another node, or a service that holds the node key: the border has verified a seal or a token of it.
    Node,
}

impl From<Caller> for Who {
    fn from(caller: Caller) -> Who {
        Who::User(caller)
    }
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
    /// To be a node, or a service that holds the node key.
    Node,
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
    /// A call of a node.
    Node(NodeCaller),
}

/// A caller that is a node, or a service that holds the node key. Only the authorizer makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCaller(());

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
    /// `NOT_SIGNED_IN`, `NODES_ONLY`, `USERS_ONLY`, `CHAT_NOT_FOUND`, `DIRECT_CHAT`, `NOT_ALLOWED`, or the failure of
    /// the store.
    pub async fn authorize(&self, rule: Rule, who: Option<Who>) -> Result<Permit> {
        match (rule, who) {
            (Rule::Anyone, _) => Ok(Permit::Anyone),
            (Rule::Node, Some(Who::Node)) => Ok(Permit::Node(NodeCaller(()))),
            (Rule::Node, _) => Err(errors::nodes_only()),
            (_, None) => Err(errors::not_signed_in()),
            (_, Some(Who::Node)) => Err(errors::users_only()),
            (Rule::User, Some(Who::User(caller))) => Ok(Permit::User(caller)),
            (Rule::ChatMember(chat, right), Some(Who::User(caller))) => {
                let role = self.members.role(chat, caller.user).await?;
                let (kind, role) = role.ok_or_else(errors::chat_not_found)?;
                roles::check(kind, role, right)?;
                Ok(Permit::Member(Member { caller, chat }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    #[async_trait]
    impl Members for Nobody {
        async fn role(&self, _: ChatId, _: UserId) -> Result<Option<(ChatKind, Role)>> {
            Ok(None)
        }
    }

    #[tokio::test]
    async fn a_user_is_no_node_and_a_node_is_no_user() {
        let authorizer = Authorizer::new(Arc::new(Nobody));
        let user = Who::User(Caller {
            user: UserId(1),
            login: LoginId(2),
            device: "d".into(),
            expires_at_ms: i64::MAX,
        });
        let in_chat = Rule::ChatMember(ChatId(5), Right::Read);
        for (rule, who, expected) in [
            (Rule::Node, Some(user.clone()), Some("NODES_ONLY")),
            (Rule::Node, None, Some("NODES_ONLY")),
            (Rule::Node, Some(Who::Node), None),
            (Rule::User, Some(Who::Node), Some("USERS_ONLY")),
            (in_chat, Some(Who::Node), Some("USERS_ONLY")),
            (in_chat, Some(user), Some("CHAT_NOT_FOUND")),
            (Rule::Anyone, Some(Who::Node), None),
        ] {
            let permit = authorizer.authorize(rule, who).await;
            let refused = permit.err().map(|failure| failure.reason());
            assert_eq!(refused, expected, "{rule:?}");
        }
    }
}
