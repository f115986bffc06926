//! What people do in chats beside writing: chosen among what is possible now, done, and named, so that it can be
//! told in the end whether it was done. Writing goes through the outbox and is judged by itself.

use std::ops::RangeInclusive;

use tertulia_client::proto::chats::event::Body;
use tertulia_client::proto::chats::{ChatKind, Event, Message, Role};
use tertulia_client::{ChatId, ChatView, Client, Result, UserId};

/// With what people react.
const EMOJI: [&str; 2] = ["👍", "🎉"];
/// Among how many of the newest events somebody looks for a message.
const RECENT: usize = 20;
/// How many messages are deleted at once.
const DELETED_MAX: u64 = 3;

/// A sort of deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Brings somebody into a group.
    Add,
    /// Removes somebody from a group.
    Remove,
    /// Leaves a group.
    Leave,
    /// Gives an own message another text.
    Edit,
    /// Deletes messages for everybody.
    Delete,
    /// Reacts to a message, or takes it back.
    React,
    /// Pins a message, or unpins it.
    Pin,
    /// Has read a chat up to some message.
    MarkRead,
}

/// Something that is done in a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Makes the chat, a group.
    Create { title: String },
    /// Brings somebody in.
    Add { user: UserId },
    /// Removes somebody.
    Remove { user: UserId },
    /// Leaves.
    Leave,
    /// Gives an own message another text.
    Edit { seq: i64, text: String },
    /// Deletes messages for everybody.
    Delete { seqs: Vec<i64> },
    /// Reacts to a message.
    React { seq: i64, emoji: &'static str },
    /// Takes a reaction back.
    Unreact { seq: i64, emoji: &'static str },
    /// Pins a message.
    Pin { seq: i64 },
    /// Unpins it.
    Unpin { seq: i64 },
    /// Has read everything up to a message.
    MarkRead { seq: i64 },
}

/// Where chance comes from.
pub trait Chance {
    /// A number below `n`.
    fn pick(&mut self, n: usize) -> usize;
    /// A number of a range.
    fn number(&mut self, of: RangeInclusive<u64>) -> u64;
}

impl Chance for rand::rngs::StdRng {
    fn pick(&mut self, n: usize) -> usize {
        rand::Rng::random_range(self, 0..n)
    }

    fn number(&mut self, of: RangeInclusive<u64>) -> u64 {
        rand::Rng::random_range(self, of)
    }
}

/// Who does it, and by what.
pub struct Doer<'a> {
    /// As it stands in texts and reports.
    pub name: &'a str,
    /// The person.
    pub user: UserId,
    /// Everybody else.
    pub others: &'a [UserId],
    /// By what.
    pub client: &'a Client,
}

/// The chats that the person is in, by their ids.
pub fn chats(client: &Client) -> Vec<ChatView> {
    let mut chats = client.chats();
    chats.retain(|view| view.left.is_none());
    chats.sort_by_key(|view| view.chat.chat_id);
    chats
}

/// One of them, when there is one.
pub fn some<'a, T>(chance: &mut impl Chance, of: &'a [T]) -> Option<&'a T> {
    (!of.is_empty()).then(|| &of[chance.pick(of.len())])
}

impl Kind {
    /// What of this sort can be done now, and where.
    pub fn choose(self, doer: &Doer<'_>, chance: &mut impl Chance) -> Option<(ChatId, Deed)> {
        match self {
            Kind::Add | Kind::Remove | Kind::Leave => self.with_members(doer, chance),
            _ => self.with_messages(doer, chance),
        }
    }

    fn with_members(self, doer: &Doer<'_>, chance: &mut impl Chance) -> Option<(ChatId, Deed)> {
        let is_group = |view: &ChatView| view.chat.kind == ChatKind::CHAT_KIND_GROUP;
        let keeps_order = |view: &ChatView| view.role as i32 >= Role::ROLE_ADMIN as i32;
        let mut groups = chats(doer.client);
        groups.retain(|view| is_group(view) && keeps_order(view) != (self == Kind::Leave));
        let chat = some(chance, &groups)?.chat.chat_id;
        let user = *some(chance, doer.others)?;
        let deed = match self {
            Kind::Add => Deed::Add { user },
            Kind::Remove => Deed::Remove { user },
            _ => Deed::Leave,
        };
        Some((chat, deed))
    }

    fn with_messages(self, doer: &Doer<'_>, chance: &mut impl Chance) -> Option<(ChatId, Deed)> {
        let chats = chats(doer.client);
        let chat = some(chance, &chats)?.chat.chat_id;
        let events = doer.client.chat(chat, RECENT).map(|view| view.events);
        let events = events.unwrap_or_default();
        let may = |event: &&Event| self != Kind::Edit || event.actor_id == doer.user;
        let there = events.iter().filter(may);
        let there = there.filter_map(|event| Some((event.seq, message(event)?)));
        let there: Vec<(i64, &Message)> = there.collect();
        let &(seq, message) = some(chance, &there)?;
        let deed = match self {
            Kind::Edit => {
                let number = chance.number(0..=999_999);
                let text = format!("{} edits {number}", doer.name);
                Deed::Edit { seq, text }
            }
            Kind::Delete => {
                let from = there.iter().map(|(seq, _)| *seq).filter(|one| *one >= seq);
                let most = chance.number(1..=DELETED_MAX) as usize;
                let seqs = from.take(most).collect();
                Deed::Delete { seqs }
            }
            Kind::React => {
                let emoji = EMOJI[chance.pick(EMOJI.len())];
                let mut reactions = message.reactions.iter();
                match reactions.any(|reaction| reaction.mine && reaction.emoji == emoji) {
                    true => Deed::Unreact { seq, emoji },
                    false => Deed::React { seq, emoji },
                }
            }
            Kind::Pin if message.pinned => Deed::Unpin { seq },
            Kind::Pin => Deed::Pin { seq },
            _ => Deed::MarkRead { seq },
        };
        Some((chat, deed))
    }

    /// What is done, in words.
    pub fn words(self) -> &'static str {
        match self {
            Kind::Add => "adds somebody",
            Kind::Remove => "removes somebody",
            Kind::Leave => "leaves",
            Kind::Edit => "edits",
            Kind::Delete => "deletes",
            Kind::React => "reacts",
            Kind::Pin => "pins",
            Kind::MarkRead => "has read",
        }
    }
}

/// The message of an event, when it is one.
pub fn message(event: &Event) -> Option<&Message> {
    match &event.body {
        Some(Body::Message(message)) => Some(message),
        _ => None,
    }
}

impl Deed {
    /// Does it in a chat that there is. Gives the seq of its event; 0 when it made none or the answer does not
    /// name it.
    ///
    /// # Errors
    /// As every call.
    pub async fn perform(&self, client: &Client, chat: ChatId) -> Result<i64> {
        match self {
            Deed::Create { .. } => unreachable!("a chat that there is can not be made"),
            Deed::Add { user } => {
                let role = Role::ROLE_UNSPECIFIED;
                let added = client.add_members(chat, vec![*user], role).await;
                added.map(|_| 0)
            }
            Deed::Remove { user } => client.remove_member(chat, *user).await,
            Deed::Leave => client.leave(chat).await.map(|()| 0),
            Deed::Edit { seq, text } => client.edit(chat, *seq, text, None).await,
            Deed::Delete { seqs } => client.delete(chat, seqs.clone()).await,
            Deed::React { seq, emoji } => client.react(chat, *seq, emoji).await,
            Deed::Unreact { seq, emoji } => client.unreact(chat, *seq, emoji).await,
            Deed::Pin { seq } => client.pin(chat, *seq).await,
            Deed::Unpin { seq } => client.unpin(chat, *seq).await,
            Deed::MarkRead { seq } => client.mark_read(chat, *seq).await.map(|()| 0),
        }
    }

    /// Whether it can have made an event with this body.
    pub fn makes(&self, body: &Body) -> bool {
        match (self, body) {
            (Deed::Create { title }, Body::ChatCreated(created)) => created.title == *title,
            (Deed::Add { user }, Body::MembersAdded(added)) => added.user_ids.contains(user),
            (Deed::Remove { user }, Body::MemberRemoved(removed)) => removed.user_id == *user,
            (Deed::Leave, Body::MemberLeft(_)) => true,
            // The text of an edit is gone when the message is deleted.
            (Deed::Edit { seq, text }, Body::MessageEdited(edited)) => {
                edited.message_seq == *seq && (edited.text == *text || edited.text.is_empty())
            }
            // What was deleted before is not deleted again.
            (Deed::Delete { seqs }, Body::MessagesDeleted(deleted)) => {
                deleted.message_seqs.iter().all(|seq| seqs.contains(seq))
            }
            (Deed::React { seq, emoji }, Body::ReactionAdded(reaction))
            | (Deed::Unreact { seq, emoji }, Body::ReactionRemoved(reaction)) => {
                reaction.message_seq == *seq && reaction.emoji == *emoji
            }
            (Deed::Pin { seq }, Body::Pinned(pin)) | (Deed::Unpin { seq }, Body::Unpinned(pin)) => {
                pin.message_seq == *seq
            }
            _ => false,
        }
    }
}
