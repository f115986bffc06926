//! Decides what a command comes to: from the rows that there are to the rows that shall be. It is pure, so it
//! runs inside the commit of every store, where nothing can change between the looking and the writing.
//!
//! All rules about the state of a chat are here and nowhere else; a store only looks up and writes down.

mod calls;
mod invites;
mod marks;
mod members;
mod messages;
mod scheduled;

use std::sync::Arc;

use tertulia_kit::error::Result;

use super::command::*;
use super::model::*;
use super::roles::{self, Right};
use crate::errors;
use crate::ids::{ChatId, ScheduledId, UserId};

pub use marks::{read_state, receipt, standing};

/// What a decision looks at: the rows as they are, with everything that earlier commands of the same commit
/// have written.
pub trait View {
    /// A chat.
    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>>;

    /// The direct chat of two.
    fn direct(&mut self, pair: Pair) -> Result<Option<ChatId>>;

    /// What a chat is to somebody; none when they are not in it.
    fn membership(&mut self, chat: ChatId, user: UserId) -> Result<Option<Membership>>;

    /// Whether somebody is kept out of a chat.
    fn banned(&mut self, chat: ChatId, user: UserId) -> Result<bool>;

    /// An event.
    fn event(&mut self, chat: ChatId, seq: Seq) -> Result<Option<Arc<Event>>>;

    /// What a key of a user was used for in the last seven days.
    fn used(&mut self, user: UserId, key: &SendKey) -> Result<Option<Used>>;

    /// Where a user's own log ends.
    fn own_head(&mut self, user: UserId) -> Result<Seq>;

    /// Whether somebody has given a reaction.
    fn reacted(&mut self, reaction: &ReactionKey) -> Result<bool>;

    /// Whether a user has deleted a message for themselves.
    fn hidden(&mut self, user: UserId, chat: ChatId, message: Seq) -> Result<bool>;

    /// An invite, open or not.
    fn invite(&mut self, code: &str) -> Result<Option<Invite>>;

    /// All invites of a chat, in no order.
    fn invites_of(&mut self, chat: ChatId) -> Result<Vec<Invite>>;

    /// A message to be sent later.
    fn scheduled(&mut self, id: ScheduledId) -> Result<Option<Scheduled>>;

    /// How many messages a user has scheduled.
    fn scheduled_count(&mut self, user: UserId) -> Result<usize>;

    /// How many messages of a chat after a seq were deleted.
    fn deleted_after(&mut self, chat: ChatId, after: Seq) -> Result<i64>;

    /// The messages of a chat after a seq that mention a user by name, at most `max`, in the order of the log.
    fn mentions_after(
        &mut self,
        user: UserId,
        chat: ChatId,
        after: Seq,
        max: usize,
    ) -> Result<Vec<Seq>>;

    /// The messages of a chat after a seq that call this role and all above it, at most `max`, in the order of
    /// the log.
    fn calls_after(&mut self, chat: ChatId, role: Role, after: Seq, max: usize)
    -> Result<Vec<Seq>>;
}

/// What a key was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Used {
    /// Messages, one after the other.
    Messages {
        /// Where.
        chat: ChatId,
        /// The first.
        first: Seq,
        /// How many.
        count: u32,
    },
    /// A chat was made.
    Chat(ChatId),
    /// An invite was made.
    Invite(String),
    /// A message was scheduled.
    Scheduled(ScheduledId),
}

/// Names one member's reaction to a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReactionKey {
    /// Where.
    pub chat: ChatId,
    /// Which message.
    pub message: Seq,
    /// Which reaction.
    pub emoji: String,
    /// Whose.
    pub user: UserId,
}

/// A row as it shall be. The rows of a decision are written in one commit, and the facts that they make are
/// told in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A chat, new or changed.
    Chat(Chat),
    /// The direct chat of two.
    Pair(Pair, ChatId),
    /// An event after the last one. It is told to the members as they are after the whole decision.
    Append(Arc<Event>),
    /// An event that is there already, with another content. It stays where it was in the order of commits.
    Rewrite(Arc<Event>),
    /// An event of a user's own log after the last one. It is told to the user.
    Own(Arc<UserEvent>),
    /// What a chat is to somebody; none when they are in it no longer.
    Membership(ChatId, UserId, Option<Membership>),
    /// A receipt of a small chat has moved. It is told to the members.
    Receipt(ChatId, Receipt),
    /// Somebody is kept out, or no longer.
    Ban(ChatId, UserId, bool),
    /// A key is used.
    Used(UserId, SendKey, Used),
    /// A reaction is there, or no longer.
    Reaction(ReactionKey, bool),
    /// All reactions to a message are gone.
    ReactionsGone(ChatId, Seq),
    /// A message was changed at `now`, and before that at `was`. Its own event is no change.
    Change {
        /// Where.
        chat: ChatId,
        /// The change before, when there was one.
        was: Option<Seq>,
        /// The change.
        now: Seq,
        /// The message.
        message: Seq,
    },
    /// A message was deleted.
    Deleted(ChatId, Seq),
    /// A message mentions somebody by name, or no longer.
    Mention(UserId, ChatId, Seq, bool),
    /// A message calls all of a role or a higher one, or no longer.
    Call(ChatId, Role, Seq, bool),
    /// A message belongs to a thread.
    Reply {
        /// Where.
        chat: ChatId,
        /// The message that the thread hangs on.
        thread: Seq,
        /// The message.
        message: Seq,
    },
    /// A message shall be deleted at a time, or no longer.
    Expiry {
        /// When, in milliseconds since 1970.
        at_ms: i64,
        /// Where.
        chat: ChatId,
        /// Which.
        message: Seq,
        /// Whether it is so from now on.
        on: bool,
    },
    /// A user has deleted a message for themselves.
    Hidden(UserId, ChatId, Seq),
    /// An invite, new or changed.
    Invite(Invite),
    /// An invite has ended.
    InviteGone(ChatId, String),
    /// A message to be sent later.
    Scheduled(Scheduled),
    /// A message is to be sent no longer.
    ScheduledGone(Scheduled),
}

/// What a command comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The answer, once the rows are on disk.
    pub done: Done,
    /// The rows; none when nothing changes.
    pub writes: Vec<Write>,
}

/// Decides. After a failure nothing is to be written.
///
/// # Errors
/// A refusal with its reason from the catalogue, or the failure of the view.
pub fn decide(view: &mut dyn View, command: Command) -> Result<Decision> {
    let mut plan = Plan {
        view,
        actor: command.actor,
        at_ms: command.at_ms,
        limits: command.limits,
        writes: Vec::with_capacity(4),
    };
    let done = match command.act {
        Act::Send(new) => plan.send(new),
        Act::SendScheduled { scheduled, id } => plan.send_scheduled(scheduled, id),
        Act::Forward { chat, key, copies } => plan.forward(chat, key, copies),
        Act::ForwardAgain { chat, key, count } => plan.forward_again(chat, &key, count),
        Act::Edit {
            chat,
            message,
            text,
            mentions,
        } => plan.edit(chat, message, text, mentions),
        Act::Delete { chat, messages } => plan.delete(chat, &messages),
        Act::Expire { chat, messages } => plan.expire(chat, &messages),
        Act::Hide { chat, messages } => plan.hide(chat, messages),
        Act::React {
            chat,
            message,
            emoji,
            on,
        } => plan.react(chat, message, emoji, on),
        Act::Pin { chat, message, on } => plan.pin(chat, message, on),
        Act::OpenDirect { pair, id } => plan.open_direct(pair, id),
        Act::Create(new) => plan.create(new),
        Act::Change {
            chat,
            title,
            topic,
            avatar,
            message_ttl_s,
        } => plan.change(chat, [title, topic, avatar], message_ttl_s),
        Act::Add { chat, users, role } => plan.add(chat, users, role),
        Act::Join { code } => plan.join(&code),
        Act::Leave { chat } => plan.leave(chat),
        Act::Remove { chat, user, ban } => plan.remove(chat, user, ban),
        Act::Unban { chat, user } => plan.unban(chat, user),
        Act::SetRole { chat, user, role } => plan.set_role(chat, user, role),
        Act::MakeInvite {
            invite,
            role_chosen,
            key,
        } => plan.make_invite(invite, role_chosen, key),
        Act::RevokeInvite { chat, code } => plan.revoke_invite(chat, code),
        Act::Mark {
            chat,
            delivered,
            seen,
            shares_seen,
        } => plan.mark(chat, delivered, seen, shares_seen),
        Act::Choose { chat, settings } => plan.choose(chat, settings),
        Act::Draft { chat, draft } => plan.draft(chat, draft),
        Act::Schedule(scheduled) => plan.schedule(scheduled),
        Act::CallOff { scheduled } => plan.call_off(scheduled),
    }?;
    Ok(Decision {
        done,
        writes: plan.writes,
    })
}

/// A decision in the making.
struct Plan<'a> {
    view: &'a mut dyn View,
    actor: UserId,
    at_ms: i64,
    limits: Limits,
    writes: Vec<Write>,
}

/// A chat with what its actor is in it.
struct Here {
    chat: Chat,
    role: Role,
    /// None for the two of a direct chat until somebody asks for it.
    membership: Option<Membership>,
}

impl Plan<'_> {
    /// The chat, if the actor is in it and has the right.
    fn here(&mut self, chat: ChatId, right: Right) -> Result<Here> {
        let chat = self.view.chat(chat)?.ok_or_else(errors::chat_not_found)?;
        let (role, membership) = match chat.kind {
            ChatKind::Direct(pair) => (pair.has(self.actor).then_some(Role::Member), None),
            ChatKind::Group | ChatKind::Channel => {
                let membership = self.view.membership(chat.id, self.actor)?;
                (membership.as_ref().map(|m| m.role), membership)
            }
        };
        let role = role.ok_or_else(errors::chat_not_found)?;
        roles::check(chat.kind, role, right)?;
        Ok(Here {
            chat,
            role,
            membership,
        })
    }

    /// What the chat is to the actor.
    fn own_membership(&mut self, here: &Here) -> Result<Membership> {
        match &here.membership {
            Some(membership) => Ok(membership.clone()),
            None => {
                let membership = self.view.membership(here.chat.id, self.actor)?;
                membership.ok_or_else(errors::chat_not_found)
            }
        }
    }

    /// A message that is not deleted.
    fn message(&mut self, chat: ChatId, seq: Seq) -> Result<Arc<Event>> {
        let event = self.any_message(chat, seq)?;
        let there = event.message().is_some_and(|message| {
            let over = message.expires_at_ms != 0 && message.expires_at_ms <= self.at_ms;
            message.deletion.is_none() && !over
        });
        there.then_some(event).ok_or_else(errors::message_not_found)
    }

    /// A message, deleted or not.
    fn any_message(&mut self, chat: ChatId, seq: Seq) -> Result<Arc<Event>> {
        let event = match seq {
            ..=0 => None,
            seq => self.view.event(chat, seq)?,
        };
        event
            .filter(|event| event.message().is_some())
            .ok_or_else(errors::message_not_found)
    }

    /// Puts an event at the end of the log.
    fn append(&mut self, chat: &mut Chat, body: EventBody) -> Arc<Event> {
        chat.head += 1;
        let is_message = matches!(body, EventBody::Message(_));
        chat.messages += i64::from(is_message);
        let event = Arc::new(Event {
            chat: chat.id,
            seq: chat.head,
            at_ms: self.at_ms,
            actor: self.actor,
            messages: chat.messages,
            body,
        });
        if is_message {
            chat.last_message = Some(Arc::clone(&event));
        }
        self.writes.push(Write::Append(Arc::clone(&event)));
        event
    }

    /// Changes a message by the event that is now the chat's newest.
    fn change_message(
        &mut self,
        chat: &mut Chat,
        event: &Event,
        change: impl FnOnce(&mut Message),
    ) {
        let mut event = event.clone();
        let seq = event.seq;
        let EventBody::Message(message) = &mut event.body else {
            return;
        };
        let was = (message.changed > seq).then_some(message.changed);
        change(message);
        message.changed = chat.head;
        self.writes.push(Write::Change {
            chat: chat.id,
            was,
            now: chat.head,
            message: seq,
        });
        let event = Arc::new(event);
        if chat.last_message.as_ref().is_some_and(|l| l.seq == seq) {
            chat.last_message = Some(Arc::clone(&event));
        }
        self.writes.push(Write::Rewrite(event));
    }

    /// Puts an event at the end of a user's own log; at most one for each user in a decision.
    fn own(&mut self, user: UserId, body: UserEventBody) -> Result<()> {
        let seq = self.view.own_head(user)? + 1;
        self.writes.push(Write::Own(Arc::new(UserEvent {
            user,
            seq,
            at_ms: self.at_ms,
            body,
        })));
        Ok(())
    }

    fn keep(&mut self, chat: Chat) {
        self.writes.push(Write::Chat(chat));
    }

    /// Keeps the chat and says which event was made.
    fn made(&mut self, chat: Chat) -> Result<Done> {
        let seq = chat.head;
        self.keep(chat);
        Ok(Done::Changed(Some(seq)))
    }

    /// Changes what changes seldom.
    fn details<'c>(&self, chat: &'c mut Chat) -> &'c mut Details {
        Arc::make_mut(&mut chat.details)
    }
}

fn not_for_direct(chat: &Chat) -> Result<()> {
    match chat.pair() {
        Some(_) => Err(errors::direct_chat()),
        None => Ok(()),
    }
}

/// As what somebody comes into a chat when nobody chose.
fn usual_role(kind: ChatKind) -> Role {
    match kind {
        ChatKind::Channel => Role::Reader,
        ChatKind::Group | ChatKind::Direct(_) => Role::Member,
    }
}
