//! What one commit is made of: the rows as they shall be, over those that there are. Decisions see it, and
//! each adds to it; readers see nothing of it before it is on disk.

use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};
use tertulia_kit::error::Result;
use tertulia_services::chats::decide::{Used, Write};
use tertulia_services::chats::{
    Audience, Chat, ChatKind, Event, Fact, ListPlace, Membership, Receipt, SendKey, Seq, UserEvent,
};
use tertulia_services::ids::{ChatId, UserId};

use super::codec::{self, Corrupt, EventKey, SendHash};
use super::index::{self, Changes, Over};
use super::{Below, Row, corrupt, known};

/// The rows.
pub struct Round {
    pub position: u64,
    /// How many messages are new.
    pub sends: u64,
    pub chats: FxHashMap<ChatId, Row>,
    pub memberships: FxHashMap<(ChatId, UserId), Option<Membership>>,
    pub own_heads: FxHashMap<UserId, Seq>,
    /// Who is in the groups in which others are than before.
    pub audiences: FxHashMap<ChatId, Arc<[UserId]>>,
    /// Who is in other chats than before that are not direct ones.
    pub in_or_out: Vec<UserId>,
    /// When the first of its messages ends that are to end.
    pub ends_from_ms: Option<i64>,
    /// When the first of its scheduled messages is to be sent.
    pub sends_from_ms: Option<i64>,
    /// What will be told, in the order of the decisions.
    pub facts: Vec<Fact>,
    /// With the positions of their commits.
    pub events: FxHashMap<(ChatId, Seq), (u64, Arc<Event>)>,
    pub own_events: Vec<Arc<UserEvent>>,
    pub used: FxHashMap<SendHash, Used>,
    /// The small tables.
    pub index: Changes,
    /// The key that was asked for last: what a decision uses is what it asked for.
    asked: Option<Asked>,
    /// The chat that was looked at last and is not of this round: a decision looks at a chat before it writes it, so
    /// that there is no need to look it up again.
    looked_at: Option<LookedAt>,
}

/// A chat as it was committed.
#[derive(Clone, Copy)]
struct LookedAt {
    place: ListPlace,
    /// The commit of its newest receipt.
    marked_at: u64,
}

impl LookedAt {
    fn of(row: &Row) -> LookedAt {
        LookedAt {
            place: row.chat.list_place(),
            marked_at: row.marked_at,
        }
    }
}

/// A send key of a user, and what it is in short.
struct Asked {
    user: UserId,
    key: SendKey,
    hash: SendHash,
}

/// What becomes a fact.
enum Told {
    Event(Arc<Event>),
    Own(Arc<UserEvent>),
    Receipt(ChatId, Receipt),
}

/// Somebody who came into a chat or left it.
struct Turn {
    chat: ChatId,
    user: UserId,
    is_in: bool,
}

impl Round {
    /// An empty one for the commit `position`, with room for so many commands of so many callers.
    pub fn new(position: u64, commands: usize, callers: usize) -> Round {
        Round {
            position,
            sends: 0,
            // What one writes at once is mostly for one chat.
            chats: with_room(callers),
            memberships: FxHashMap::default(),
            own_heads: FxHashMap::default(),
            audiences: FxHashMap::default(),
            in_or_out: Vec::new(),
            ends_from_ms: None,
            sends_from_ms: None,
            facts: Vec::with_capacity(commands),
            events: with_room(commands),
            own_events: Vec::new(),
            used: with_room(commands),
            index: Changes::new(),
            asked: None,
            looked_at: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.chats.is_empty()
            && self.memberships.is_empty()
            && self.events.is_empty()
            && self.own_events.is_empty()
            && self.used.is_empty()
            && self.index.is_empty()
    }

    /// What this commit appends to the logs of chats, in the order of the feed, and when; none when that is nothing.
    pub fn appended(&self) -> Option<(i64, Vec<EventKey>)> {
        let new = self.events.iter();
        let new = new.filter(|(_, (position, _))| *position == self.position);
        let (mut at_ms, mut keys) = (i64::MIN, Vec::with_capacity(self.events.len()));
        for (key, (_, event)) in new {
            at_ms = at_ms.max(event.at_ms);
            keys.push(*key);
        }
        keys.sort_unstable();
        (!keys.is_empty()).then_some((at_ms, keys))
    }

    /// A chat as it is now.
    pub fn chat(&mut self, below: &impl Below, id: ChatId) -> Result<Option<Chat>> {
        if let Some(row) = self.chats.get(&id) {
            return Ok(Some(row.chat.clone()));
        }
        let row = below.row(id)?;
        self.looked_at = row.as_ref().map(LookedAt::of);
        Ok(row.map(|row| row.chat))
    }

    pub fn membership(
        &self,
        below: &impl Below,
        chat: ChatId,
        user: UserId,
    ) -> Result<Option<Membership>> {
        match self.memberships.get(&(chat, user)) {
            Some(membership) => Ok(membership.clone()),
            None => below.membership(chat, user),
        }
    }

    /// An event of this round.
    pub fn event(&self, chat: ChatId, seq: Seq) -> Option<Arc<Event>> {
        let event = self.events.get(&(chat, seq));
        event.map(|(_, event)| Arc::clone(event))
    }

    /// What a key was used for.
    pub fn used(
        &mut self,
        below: &impl Below,
        user: UserId,
        key: &SendKey,
    ) -> Result<Option<Used>> {
        let hash = codec::send_hash(user, key);
        match &mut self.asked {
            None => {
                let key = key.clone();
                self.asked = Some(Asked { user, key, hash });
            }
            Some(asked) => {
                asked.user = user;
                asked.key.device.clone_from(&key.device);
                let id = &key.client_message_id;
                asked.key.client_message_id.clone_from(id);
                asked.hash = hash;
            }
        }
        match self.used.get(&hash) {
            Some(used) => Ok(Some(used.clone())),
            None => below.used(&hash),
        }
    }

    /// Where a user's own log ends if something was added in this round.
    pub fn own_head(&self, user: UserId) -> Option<Seq> {
        self.own_heads.get(&user).copied()
    }

    /// The small tables as they are now.
    pub fn index<'r, B: Below>(&'r self, below: &'r B) -> Over<'r, B> {
        Over {
            changes: &self.index,
            below,
        }
    }

    /// Takes a decision in.
    ///
    /// # Errors
    /// When something can not be looked up; the round must be dropped then, because part of the decision may
    /// be in it.
    pub fn take(&mut self, below: &impl Below, writes: Vec<Write>) -> Result<()> {
        let mut told = Vec::with_capacity(1);
        let mut turns = Vec::new();
        for write in writes {
            match write {
                Write::Append(event) => {
                    self.append(&event);
                    told.push(Told::Event(event));
                }
                Write::Own(event) => {
                    self.own_heads.insert(event.user, event.seq);
                    self.own_events.push(Arc::clone(&event));
                    told.push(Told::Own(event));
                }
                Write::Receipt(chat, receipt) => {
                    self.mark(below, chat)?;
                    told.push(Told::Receipt(chat, receipt));
                }
                Write::Membership(chat, user, membership) => {
                    let is_in = membership.is_some();
                    if self.membership(below, chat, user)?.is_some() != is_in {
                        turns.push(Turn { chat, user, is_in });
                    }
                    self.memberships.insert((chat, user), membership);
                }
                quiet => self.put(below, quiet)?,
            }
        }
        self.turn(below, &turns)?;
        // Whom it concerns is known when everything is written.
        for told in told {
            let fact = self.fact(below, told)?;
            self.facts.push(fact);
        }
        Ok(())
    }

    /// Takes in what nobody is told of.
    fn put(&mut self, below: &impl Below, write: Write) -> Result<()> {
        let index = &mut self.index;
        match write {
            Write::Chat(chat) => self.put_chat(below, chat)?,
            Write::Rewrite(event) => self.rewrite(below, event)?,
            Write::Used(user, key, used) => {
                let hash = match &self.asked {
                    Some(asked) if asked.user == user && asked.key == key => asked.hash,
                    _ => codec::send_hash(user, &key),
                };
                self.used.insert(hash, used);
            }
            Write::Pair(pair, chat) => index::put_direct(index, pair, chat),
            Write::Ban(chat, user, on) => index::put_ban(index, chat, user, on),
            Write::Reaction(reaction, on) => index::put_reaction(index, &reaction, on),
            Write::ReactionsGone(chat, message) => {
                for reaction in index::reactions_to(&self.index(below), chat, message)? {
                    index::put_reaction(&mut self.index, &reaction, false);
                }
            }
            Write::Change {
                chat,
                was,
                now,
                message,
            } => index::put_change(index, chat, was, now, message),
            Write::Deleted(chat, message) => index::put_deleted(index, chat, message),
            Write::Mention(user, chat, message, on) => {
                index::put_mention(index, user, chat, message, on);
            }
            Write::Call(chat, role, message, on) => {
                index::put_call(index, chat, role, message, on);
            }
            Write::Reply {
                chat,
                thread,
                message,
            } => index::put_reply(index, chat, thread, message),
            Write::Expiry {
                at_ms,
                chat,
                message,
                on,
            } => {
                if on {
                    put_first(&mut self.ends_from_ms, at_ms);
                }
                index::put_expiry(index, at_ms, chat, message, on);
            }
            Write::Hidden(user, chat, message) => index::put_hidden(index, user, chat, message),
            Write::Invite(invite) => index::put_invite(index, &invite),
            Write::InviteGone(chat, code) => index::drop_invite(index, chat, &code),
            Write::Scheduled(scheduled) => {
                put_first(&mut self.sends_from_ms, scheduled.send_at_ms);
                index::put_scheduled(index, &scheduled);
            }
            Write::ScheduledGone(scheduled) => index::drop_scheduled(index, &scheduled),
            // These are told, and taken in beside that.
            Write::Append(_) | Write::Own(_) | Write::Receipt(..) | Write::Membership(..) => {}
        }
        Ok(())
    }

    fn append(&mut self, event: &Arc<Event>) {
        self.sends += u64::from(event.message().is_some());
        let row = (self.position, Arc::clone(event));
        self.events.insert((event.chat, event.seq), row);
    }

    fn put_chat(&mut self, below: &impl Below, chat: Chat) -> Result<()> {
        let moved_at = self.position;
        let before = match (self.chats.get(&chat.id), self.looked_at) {
            (Some(row), _) => Some(LookedAt::of(row)),
            (None, Some(before)) if before.place.chat == chat.id => Some(before),
            (None, _) => below.row(chat.id)?.as_ref().map(LookedAt::of),
        };
        if let Some(before) = before
            && before.place != chat.list_place()
        {
            self.list_again(below, &chat, before.place)?;
        }
        let row = Row {
            moved_at,
            marked_at: before.map_or(0, |before| before.marked_at),
            chat,
        };
        self.chats.insert(row.chat.id, row);
        Ok(())
    }

    /// The chat stands elsewhere in the lists of its members.
    fn list_again(&mut self, below: &impl Below, chat: &Chat, was: ListPlace) -> Result<()> {
        let members = match chat.kind {
            ChatKind::Direct(pair) => Arc::from(pair.users()),
            ChatKind::Group | ChatKind::Channel => self.members(below, chat.id)?,
        };
        for user in members.iter() {
            index::put_listed(&mut self.index, *user, was, false);
            index::put_listed(&mut self.index, *user, chat.list_place(), true);
        }
        Ok(())
    }

    /// An event with another content stays where it was in the order of commits.
    fn rewrite(&mut self, below: &impl Below, event: Arc<Event>) -> Result<()> {
        let place = (event.chat, event.seq);
        if let Some(row) = self.events.get_mut(&place) {
            row.1 = event;
            return Ok(());
        }
        let position = below.event_position(event.chat, event.seq)?;
        let position = position.ok_or_else(|| corrupt(Corrupt("a change of no event")))?;
        self.events.insert(place, (position, event));
        Ok(())
    }

    /// A receipt of the chat has moved.
    fn mark(&mut self, below: &impl Below, chat: ChatId) -> Result<()> {
        if let Some(row) = self.chats.get_mut(&chat) {
            row.marked_at = self.position;
            return Ok(());
        }
        let mut row = known(below.row(chat)?)?;
        row.marked_at = self.position;
        self.chats.insert(chat, row);
        Ok(())
    }

    /// Takes in who came and who left, all in one decision.
    fn turn(&mut self, below: &impl Below, turns: &[Turn]) -> Result<()> {
        for of_chat in turns.chunk_by(|a, b| a.chat == b.chat) {
            let chat = of_chat[0].chat;
            let (kind, place) = self.kind_and_place(below, chat)?;
            for Turn { user, is_in, .. } in of_chat {
                match is_in {
                    true => index::put_chat_of(&mut self.index, *user, chat, kind.is_direct()),
                    false => index::drop_chat_of(&mut self.index, *user, chat),
                }
                index::put_listed(&mut self.index, *user, place, *is_in);
                if !kind.is_direct() {
                    self.in_or_out.push(*user);
                }
            }
            if kind == ChatKind::Group {
                let mut members = self.members(below, chat)?.to_vec();
                for Turn { user, is_in, .. } in of_chat {
                    match (members.binary_search(user), is_in) {
                        (Err(place), true) => members.insert(place, *user),
                        (Ok(place), false) => _ = members.remove(place),
                        (Ok(_), true) | (Err(_), false) => {}
                    }
                }
                self.audiences.insert(chat, members.into());
            }
        }
        Ok(())
    }

    fn fact(&self, below: &impl Below, told: Told) -> Result<Fact> {
        Ok(match told {
            Told::Event(event) => Fact::Event {
                audience: self.audience(below, event.chat)?,
                event,
            },
            Told::Own(event) => Fact::UserEvent(event),
            Told::Receipt(chat, receipt) => Fact::Receipt {
                chat,
                receipt,
                audience: self.audience(below, chat)?,
            },
        })
    }

    fn audience(&self, below: &impl Below, chat: ChatId) -> Result<Audience> {
        Ok(match self.kind_and_place(below, chat)?.0 {
            ChatKind::Direct(pair) => Audience::Pair(pair.users()),
            ChatKind::Channel => Audience::Warm,
            ChatKind::Group => Audience::Members(self.members(below, chat)?),
        })
    }

    fn kind_and_place(&self, below: &impl Below, id: ChatId) -> Result<(ChatKind, ListPlace)> {
        let of = |chat: &Chat| (chat.kind, chat.list_place());
        match self.chats.get(&id) {
            Some(row) => Ok(of(&row.chat)),
            None => Ok(of(&known(below.row(id)?)?.chat)),
        }
    }

    fn members(&self, below: &impl Below, chat: ChatId) -> Result<Arc<[UserId]>> {
        match self.audiences.get(&chat) {
            Some(members) => Ok(Arc::clone(members)),
            None => below.members(chat),
        }
    }
}

fn with_room<K, V>(rows: usize) -> FxHashMap<K, V> {
    FxHashMap::with_capacity_and_hasher(rows, FxBuildHasher)
}

fn put_first(first: &mut Option<i64>, at_ms: i64) {
    *first = Some(first.map_or(at_ms, |first| first.min(at_ms)));
}
