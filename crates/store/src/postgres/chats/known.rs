//! What was read for a round, or for a reader, and what is still to be read.
//!
//! Decisions do not wait, and a database answers after a while. So a decision is made over what is known; what
//! it asks for beyond that is noted and taken as not there, and when anything was noted, its outcome is dropped,
//! what was noted is read, all at once, and the same is decided again. Most need no second time, because what
//! they will ask for is known from the command.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow, Deref};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tertulia_kit::error::Result;
use tertulia_services::chats::decide::Used;
use tertulia_services::chats::{
    Act, Chat, ChatKind, Command, Event, Membership, Pair, SendKey, Seq,
};
use tertulia_services::ids::{ChatId, UserId};

use crate::rows::codec::{self, SendHash};
use crate::rows::index::{Look, Span, Visit};
use crate::rows::view::Rows;
use crate::rows::{Below, Row};

/// What is to be read.
#[derive(Debug, Default)]
pub struct Wanted {
    pub chats: BTreeSet<ChatId>,
    /// The ends of own logs.
    pub users: BTreeSet<UserId>,
    pub memberships: BTreeSet<(ChatId, UserId)>,
    pub events: BTreeSet<(ChatId, Seq)>,
    pub used: BTreeSet<SendHash>,
    /// All members of groups.
    pub members: BTreeSet<ChatId>,
    /// Single rows of the small tables.
    pub keys: BTreeSet<Vec<u8>>,
    /// Rows of the small tables from one key up to another.
    pub walks: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

impl Wanted {
    /// Adds what a command will surely ask for, in a chat of this kind when that is known.
    pub fn add(&mut self, command: &Command, kind: Option<ChatKind>) {
        let actor = command.actor;
        if let Some(chat) = chat_of(&command.act) {
            self.chats.insert(chat);
            // To send into a direct chat it is enough to be one of the two.
            if !(kind.is_some_and(|kind| kind.is_direct()) && matches!(command.act, Act::Send(_))) {
                self.memberships.insert((chat, actor));
            }
            if kind == Some(ChatKind::Group) {
                self.members.insert(chat);
            }
        }
        if let Some(key) = key_of(&command.act) {
            self.used.insert(codec::send_hash(actor, key));
        }
        match &command.act {
            Act::OpenDirect { pair, .. } => self.users.extend(pair.users()),
            Act::Create(new) => {
                self.users.insert(actor);
                self.users.extend(&new.members);
            }
            Act::Add { chat, users, .. } => {
                self.users.extend(users);
                self.memberships
                    .extend(users.iter().map(|user| (*chat, *user)));
            }
            Act::Remove { user, .. } => _ = self.users.insert(*user),
            Act::Join { .. }
            | Act::Leave { .. }
            | Act::Hide { .. }
            | Act::Mark { .. }
            | Act::Choose { .. }
            | Act::Draft { .. }
            | Act::Schedule(_)
            | Act::CallOff { .. } => _ = self.users.insert(actor),
            Act::Edit { chat, message, .. }
            | Act::React { chat, message, .. }
            | Act::Pin { chat, message, .. } => _ = self.events.insert((*chat, *message)),
            Act::Delete { chat, messages } | Act::Expire { chat, messages } => {
                self.events
                    .extend(messages.iter().map(|message| (*chat, *message)));
            }
            _ => {}
        }
    }

    pub fn is_empty(&self) -> bool {
        self.chats.is_empty()
            && self.users.is_empty()
            && self.memberships.is_empty()
            && self.events.is_empty()
            && self.used.is_empty()
            && self.members.is_empty()
            && self.keys.is_empty()
            && self.walks.is_empty()
    }

    /// Takes in what another wants.
    pub fn join(&mut self, other: Wanted) {
        self.chats.extend(other.chats);
        self.users.extend(other.users);
        self.memberships.extend(other.memberships);
        self.events.extend(other.events);
        self.used.extend(other.used);
        self.members.extend(other.members);
        self.keys.extend(other.keys);
        self.walks.extend(other.walks);
    }
}

/// The chat that an act is about, when it says so.
pub fn chat_of(act: &Act) -> Option<ChatId> {
    match act {
        Act::Create(new) => Some(new.id),
        Act::Send(new) => Some(new.chat),
        Act::MakeInvite { invite, .. } => Some(invite.chat),
        Act::Schedule(scheduled) => Some(scheduled.chat),
        Act::Forward { chat, .. }
        | Act::ForwardAgain { chat, .. }
        | Act::Edit { chat, .. }
        | Act::Delete { chat, .. }
        | Act::Expire { chat, .. }
        | Act::Hide { chat, .. }
        | Act::React { chat, .. }
        | Act::Pin { chat, .. }
        | Act::Change { chat, .. }
        | Act::Add { chat, .. }
        | Act::Leave { chat }
        | Act::Remove { chat, .. }
        | Act::Unban { chat, .. }
        | Act::SetRole { chat, .. }
        | Act::RevokeInvite { chat, .. }
        | Act::Mark { chat, .. }
        | Act::Choose { chat, .. }
        | Act::Draft { chat, .. } => Some(*chat),
        Act::OpenDirect { .. }
        | Act::SendScheduled { .. }
        | Act::Join { .. }
        | Act::CallOff { .. } => None,
    }
}

fn key_of(act: &Act) -> Option<&SendKey> {
    match act {
        Act::Create(new) => Some(&new.key),
        Act::Send(new) => Some(&new.key),
        Act::Forward { key, .. } | Act::ForwardAgain { key, .. } | Act::MakeInvite { key, .. } => {
            Some(key)
        }
        Act::Schedule(scheduled) => Some(&scheduled.key),
        _ => None,
    }
}

/// An event with the position of its commit.
pub type Positioned = (u64, Arc<Event>);

/// What was read. Nothing that is not here was looked for.
#[derive(Default)]
pub struct Known {
    pub chats: FxHashMap<ChatId, Option<Row>>,
    pub own_heads: FxHashMap<UserId, Seq>,
    pub memberships: FxHashMap<(ChatId, UserId), Option<Membership>>,
    pub events: FxHashMap<(ChatId, Seq), Option<Positioned>>,
    pub used: FxHashMap<SendHash, Option<Used>>,
    pub members: FxHashMap<ChatId, Arc<[UserId]>>,
    /// Rows of the small tables; none where there is none.
    pub index: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Between which keys all rows of the small tables are here.
    pub walked: BTreeMap<Vec<u8>, Vec<u8>>,
    wanted: RefCell<Wanted>,
}

impl Known {
    /// What was asked for since the last time and is not here.
    pub fn take_wanted(&mut self) -> Wanted {
        self.wanted.take()
    }

    /// Forgets what may have been changed while a lock was waited for, which is all but the rows that are
    /// locked themselves, and gives it as what is to be read again.
    pub fn forget_unlocked(&mut self) -> Wanted {
        let single = self.index.keys().filter(|key| !self.is_walked(key));
        let keys = single.cloned().collect();
        self.index.clear();
        Wanted {
            chats: BTreeSet::new(),
            users: BTreeSet::new(),
            memberships: self.memberships.drain().map(|(key, _)| key).collect(),
            events: self.events.drain().map(|(key, _)| key).collect(),
            used: self.used.drain().map(|(key, _)| key).collect(),
            members: self.members.drain().map(|(key, _)| key).collect(),
            keys,
            walks: std::mem::take(&mut self.walked).into_iter().collect(),
        }
    }

    /// The highest number that any of the chats has been given at a commit.
    pub fn newest(&self) -> u64 {
        let rows = self.chats.values().flatten();
        rows.map(|row| row.moved_at.max(row.marked_at))
            .max()
            .unwrap_or(0)
    }

    /// All rows around this key are here.
    fn is_walked(&self, key: &[u8]) -> bool {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        let walked = self.walked.range::<[u8], _>(up_to).next_back();
        walked.is_some_and(|(_, end)| key < end.as_slice())
    }

    fn want(&self, note: impl FnOnce(&mut Wanted)) {
        note(&mut self.wanted.borrow_mut());
    }
}

impl Below for Known {
    fn row(&self, id: ChatId) -> Result<Option<Row>> {
        let row = self.chats.get(&id);
        if row.is_none() {
            self.want(|wanted| _ = wanted.chats.insert(id));
        }
        Ok(row.cloned().flatten())
    }

    fn membership(&self, chat: ChatId, user: UserId) -> Result<Option<Membership>> {
        let membership = self.memberships.get(&(chat, user));
        if membership.is_none() {
            self.want(|wanted| _ = wanted.memberships.insert((chat, user)));
        }
        Ok(membership.cloned().flatten())
    }

    fn event(&self, chat: ChatId, seq: Seq) -> Result<Option<Arc<Event>>> {
        let event = self.events.get(&(chat, seq));
        if event.is_none() {
            self.want(|wanted| _ = wanted.events.insert((chat, seq)));
        }
        Ok(event.cloned().flatten().map(|(_, event)| event))
    }

    fn event_position(&self, chat: ChatId, seq: Seq) -> Result<Option<u64>> {
        let event = self.events.get(&(chat, seq));
        if event.is_none() {
            self.want(|wanted| _ = wanted.events.insert((chat, seq)));
        }
        Ok(event.and_then(|event| event.as_ref().map(|(position, _)| *position)))
    }

    fn used(&self, hash: &SendHash) -> Result<Option<Used>> {
        let used = self.used.get(hash);
        if used.is_none() {
            self.want(|wanted| _ = wanted.used.insert(*hash));
        }
        Ok(used.cloned().flatten())
    }

    fn own_head(&self, user: UserId) -> Result<Seq> {
        let head = self.own_heads.get(&user);
        if head.is_none() {
            self.want(|wanted| _ = wanted.users.insert(user));
        }
        Ok(head.copied().unwrap_or(0))
    }

    fn members(&self, chat: ChatId) -> Result<Arc<[UserId]>> {
        let members = self.members.get(&chat);
        if members.is_none() {
            self.want(|wanted| _ = wanted.members.insert(chat));
        }
        Ok(members.cloned().unwrap_or_default())
    }
}

impl Look for Known {
    fn find(&self, key: &[u8]) -> Result<Option<impl Deref<Target = [u8]>>> {
        if let Some(content) = self.index.get(key) {
            return Ok(content.as_deref());
        }
        if !self.is_walked(key) {
            self.want(|wanted| _ = wanted.keys.insert(key.to_vec()));
        }
        Ok(None)
    }

    fn walk(&self, span: &Span, visit: &mut Visit<'_>) -> Result<()> {
        let range = span.range();
        let mut at = range.start.to_vec();
        while at.as_slice() < range.end {
            let walked = self.walked.range::<Vec<u8>, _>(..=&at).next_back();
            let Some((_, end)) = walked.filter(|(_, end)| **end > at) else {
                self.want(|wanted| _ = wanted.walks.insert((at, range.end.to_vec())));
                return Ok(());
            };
            let end = end.as_slice().min(range.end);
            let part = (Bound::Included(at.as_slice()), Bound::Excluded(end));
            for (key, content) in self.index.range::<[u8], _>(part) {
                if let Some(content) = content
                    && let ControlFlow::Break(()) = visit(key, content)?
                {
                    return Ok(());
                }
            }
            at = end.to_vec();
        }
        Ok(())
    }
}

/// The same for readers.
pub struct Committed<'a>(pub &'a Known);

impl Rows for Committed<'_> {
    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>> {
        Ok(self.0.row(id)?.map(|row| row.chat))
    }

    fn membership(&mut self, chat: ChatId, user: UserId) -> Result<Option<Membership>> {
        self.0.membership(chat, user)
    }

    fn event(&mut self, chat: ChatId, seq: Seq) -> Result<Option<Arc<Event>>> {
        self.0.event(chat, seq)
    }

    fn used(&mut self, user: UserId, key: &SendKey) -> Result<Option<Used>> {
        self.0.used(&codec::send_hash(user, key))
    }

    fn own_head(&mut self, user: UserId) -> Result<Seq> {
        self.0.own_head(user)
    }

    fn index(&self) -> impl Look + '_ {
        self.0
    }
}

/// Whom a command is about that names no chat: two of them that are about the same go the same way.
pub fn stand_in(command: &Command) -> i64 {
    match &command.act {
        Act::OpenDirect { pair, .. } => first(*pair).0,
        _ => command.actor.0,
    }
}

fn first(pair: Pair) -> UserId {
    let [first, _] = pair.users();
    first
}
