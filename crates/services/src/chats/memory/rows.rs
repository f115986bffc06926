//! The rows, one table for each kind, and what decisions see of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use tertulia_kit::error::Result;

use crate::chats::decide::{ReactionKey, Used, View, Write};
use crate::chats::model::*;
use crate::chats::ports::{Page, SEND_KEYS_KEPT_MS};
use crate::feed::Place;
use crate::ids::{ChatId, ScheduledId, UserId};

#[derive(Default)]
pub struct Rows {
    pub position: u64,
    /// From where on the feed has what was committed.
    pub fed_from: Place,
    /// For the keys.
    pub now_ms: i64,
    pub chats: HashMap<ChatId, Row>,
    pub pairs: HashMap<Pair, ChatId>,
    /// Each with the position of its commit.
    pub events: BTreeMap<(ChatId, Seq), (u64, Arc<Event>)>,
    /// `own[user][n]` has seq n + 1.
    pub own: HashMap<UserId, Vec<Arc<UserEvent>>>,
    pub memberships: BTreeMap<(ChatId, UserId), Membership>,
    pub chats_of: BTreeSet<(UserId, ChatId)>,
    pub bans: BTreeSet<(ChatId, UserId)>,
    pub used: HashMap<(UserId, SendKey), (i64, Used)>,
    pub reactions: BTreeSet<ReactionKey>,
    /// Each changed message once: the chat, its latest change, and it. One event may change many.
    pub changed: BTreeSet<(ChatId, Seq, Seq)>,
    pub deleted: BTreeSet<(ChatId, Seq)>,
    pub mentions: BTreeSet<(UserId, ChatId, Seq)>,
    pub calls: BTreeSet<(ChatId, Role, Seq)>,
    pub expiries: BTreeSet<(i64, ChatId, Seq)>,
    pub hidden: BTreeSet<(UserId, ChatId, Seq)>,
    pub invites: HashMap<String, Invite>,
    pub scheduled: HashMap<ScheduledId, Scheduled>,
}

/// A chat, with the positions of the commits that brought its newest event and its newest receipt.
pub struct Row {
    pub chat: Chat,
    pub moved_at: u64,
    pub marked_at: u64,
}

impl Rows {
    /// Writes a decision and gives the facts that it makes.
    pub fn commit(&mut self, writes: Vec<Write>) -> Vec<Fact> {
        self.position += 1;
        let mut told = Vec::new();
        for write in writes {
            match write {
                Write::Append(event) => {
                    self.events
                        .insert((event.chat, event.seq), (self.position, Arc::clone(&event)));
                    told.push(Told::Event(event));
                }
                Write::Own(event) => {
                    self.own
                        .entry(event.user)
                        .or_default()
                        .push(Arc::clone(&event));
                    told.push(Told::Own(event));
                }
                Write::Receipt(chat, receipt) => told.push(Told::Receipt(chat, receipt)),
                quiet => self.put(quiet),
            }
        }
        // Whom it concerns is known when everything is written.
        told.into_iter().map(|told| self.fact(told)).collect()
    }

    fn put(&mut self, write: Write) {
        match write {
            Write::Chat(chat) => self.put_chat(chat),
            Write::Pair(pair, chat) => _ = self.pairs.insert(pair, chat),
            Write::Rewrite(event) => {
                if let Some(row) = self.events.get_mut(&(event.chat, event.seq)) {
                    row.1 = event;
                }
            }
            Write::Membership(chat, user, Some(membership)) => {
                self.memberships.insert((chat, user), membership);
                self.chats_of.insert((user, chat));
            }
            Write::Membership(chat, user, None) => {
                self.memberships.remove(&(chat, user));
                self.chats_of.remove(&(user, chat));
            }
            Write::Ban(chat, user, on) => set(&mut self.bans, (chat, user), on),
            Write::Used(user, key, used) => {
                self.used.insert((user, key), (self.now_ms, used));
            }
            Write::Reaction(key, on) => set(&mut self.reactions, key, on),
            Write::ReactionsGone(chat, message) => self
                .reactions
                .retain(|key| (key.chat, key.message) != (chat, message)),
            Write::Change {
                chat,
                was,
                now,
                message,
            } => {
                if let Some(was) = was {
                    self.changed.remove(&(chat, was, message));
                }
                self.changed.insert((chat, now, message));
            }
            Write::Deleted(chat, message) => _ = self.deleted.insert((chat, message)),
            Write::Mention(user, chat, message, on) => {
                set(&mut self.mentions, (user, chat, message), on);
            }
            Write::Call(chat, role, message, on) => {
                set(&mut self.calls, (chat, role, message), on);
            }
            Write::Expiry {
                at_ms,
                chat,
                message,
                on,
            } => set(&mut self.expiries, (at_ms, chat, message), on),
            Write::Hidden(user, chat, message) => _ = self.hidden.insert((user, chat, message)),
            Write::Invite(invite) => _ = self.invites.insert(invite.code.clone(), invite),
            Write::InviteGone(_, code) => _ = self.invites.remove(&code),
            Write::Scheduled(scheduled) => _ = self.scheduled.insert(scheduled.id, scheduled),
            Write::ScheduledGone(scheduled) => _ = self.scheduled.remove(&scheduled.id),
            // The message itself says which thread it belongs to.
            Write::Reply { .. } | Write::Append(_) | Write::Own(_) | Write::Receipt(..) => {}
        }
    }

    fn put_chat(&mut self, chat: Chat) {
        let before = self.chats.get(&chat.id);
        let marked_at = before.map_or(0, |row| row.marked_at);
        let row = Row {
            moved_at: self.position,
            marked_at,
            chat,
        };
        self.chats.insert(row.chat.id, row);
    }

    fn fact(&mut self, told: Told) -> Fact {
        match told {
            Told::Event(event) => Fact::Event {
                audience: self.audience(event.chat),
                event,
            },
            Told::Own(event) => Fact::UserEvent(event),
            Told::Receipt(chat, receipt) => {
                if let Some(row) = self.chats.get_mut(&chat) {
                    row.marked_at = self.position;
                }
                Fact::Receipt {
                    chat,
                    receipt,
                    audience: self.audience(chat),
                }
            }
        }
    }

    pub fn audience(&self, chat: ChatId) -> Audience {
        match self.chats.get(&chat).map(|row| row.chat.kind) {
            Some(ChatKind::Direct(pair)) => Audience::Pair(pair.users()),
            Some(ChatKind::Channel) | None => Audience::Warm,
            Some(ChatKind::Group) => {
                let all = (chat, UserId(i64::MIN))..=(chat, UserId(i64::MAX));
                let members = self.memberships.range(all).map(|((_, user), _)| *user);
                Audience::Members(members.collect())
            }
        }
    }

    /// The chats of a user.
    pub fn of(&self, user: UserId) -> impl Iterator<Item = &Row> {
        let all = (user, ChatId(i64::MIN))..=(user, ChatId(i64::MAX));
        self.chats_of
            .range(all)
            .filter_map(|(_, chat)| self.chats.get(chat))
    }

    /// A part of a chat's log.
    pub fn log(
        &self,
        chat: ChatId,
        part: impl RangeBounds<Seq>,
    ) -> impl DoubleEndedIterator<Item = Arc<Event>> {
        let first = match part.start_bound() {
            Bound::Included(seq) => *seq,
            Bound::Excluded(seq) => seq.saturating_add(1),
            Bound::Unbounded => 1,
        };
        let end = match part.end_bound() {
            Bound::Included(seq) => seq.saturating_add(1),
            Bound::Excluded(seq) => *seq,
            Bound::Unbounded => Seq::MAX,
        };
        let part = (chat, first)..(chat, end.max(first));
        self.events
            .range(part)
            .map(|(_, (_, event))| Arc::clone(event))
    }

    pub fn page(&self, chat: ChatId, events: Vec<Arc<Event>>) -> Page<Event> {
        Page {
            events,
            head: self.chats.get(&chat).map_or(0, |row| row.chat.head),
        }
    }
}

/// What becomes a fact.
enum Told {
    Event(Arc<Event>),
    Own(Arc<UserEvent>),
    Receipt(ChatId, Receipt),
}

fn set<T: Ord>(table: &mut BTreeSet<T>, row: T, on: bool) {
    match on {
        true => _ = table.insert(row),
        false => _ = table.remove(&row),
    }
}

impl View for Rows {
    fn chat(&mut self, id: ChatId) -> Result<Option<Chat>> {
        Ok(self.chats.get(&id).map(|row| row.chat.clone()))
    }

    fn direct(&mut self, pair: Pair) -> Result<Option<ChatId>> {
        Ok(self.pairs.get(&pair).copied())
    }

    fn membership(&mut self, chat: ChatId, user: UserId) -> Result<Option<Membership>> {
        Ok(self.memberships.get(&(chat, user)).cloned())
    }

    fn banned(&mut self, chat: ChatId, user: UserId) -> Result<bool> {
        Ok(self.bans.contains(&(chat, user)))
    }

    fn event(&mut self, chat: ChatId, seq: Seq) -> Result<Option<Arc<Event>>> {
        let row = self.events.get(&(chat, seq));
        Ok(row.map(|(_, event)| Arc::clone(event)))
    }

    fn used(&mut self, user: UserId, key: &SendKey) -> Result<Option<Used>> {
        let row = self.used.get(&(user, key.clone()));
        let row = row.filter(|(at_ms, _)| self.now_ms - at_ms <= SEND_KEYS_KEPT_MS);
        Ok(row.map(|(_, used)| used.clone()))
    }

    fn own_head(&mut self, user: UserId) -> Result<Seq> {
        Ok(self.own.get(&user).map_or(0, |own| own.len() as Seq))
    }

    fn reacted(&mut self, reaction: &ReactionKey) -> Result<bool> {
        Ok(self.reactions.contains(reaction))
    }

    fn hidden(&mut self, user: UserId, chat: ChatId, message: Seq) -> Result<bool> {
        Ok(self.hidden.contains(&(user, chat, message)))
    }

    fn invite(&mut self, code: &str) -> Result<Option<Invite>> {
        Ok(self.invites.get(code).cloned())
    }

    fn invites_of(&mut self, chat: ChatId) -> Result<Vec<Invite>> {
        let all = self.invites.values().filter(|invite| invite.chat == chat);
        Ok(all.cloned().collect())
    }

    fn scheduled(&mut self, id: ScheduledId) -> Result<Option<Scheduled>> {
        Ok(self.scheduled.get(&id).cloned())
    }

    fn scheduled_count(&mut self, user: UserId) -> Result<usize> {
        Ok(self.scheduled.values().filter(|s| s.user == user).count())
    }

    fn deleted_after(&mut self, chat: ChatId, after: Seq) -> Result<i64> {
        let after = (chat, after + 1)..=(chat, Seq::MAX);
        Ok(self.deleted.range(after).count() as i64)
    }

    fn mentions_after(
        &mut self,
        user: UserId,
        chat: ChatId,
        after: Seq,
        max: usize,
    ) -> Result<Vec<Seq>> {
        let after = (user, chat, after + 1)..=(user, chat, Seq::MAX);
        let mentions = self.mentions.range(after).take(max);
        Ok(mentions.map(|(_, _, message)| *message).collect())
    }

    fn calls_after(
        &mut self,
        chat: ChatId,
        role: Role,
        after: Seq,
        max: usize,
    ) -> Result<Vec<Seq>> {
        let after = (chat, role, after + 1)..=(chat, role, Seq::MAX);
        let calls = self.calls.range(after).take(max);
        Ok(calls.map(|(_, _, message)| *message).collect())
    }
}
