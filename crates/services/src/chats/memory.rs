//! The logs in memory, as plain as they can be: for tests, and as the model that other adapters are compared
//! with. Nothing is ever given back to the machine.

mod rows;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::{Bound, Range, RangeInclusive};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;

use super::command::{Command, Done};
use super::decide;
use super::decide::View as _;
use super::model::*;
use super::ports::*;
use crate::feed::Place;
use crate::ids::{ChatId, UserId};
use rows::Rows;

/// The store.
pub struct Memory {
    epoch: Epoch,
    clock: SharedClock,
    committed: Arc<dyn Committed>,
    /// Guards everything; facts are told under it, so that their order is the order of the commits.
    rows: Mutex<Rows>,
}

impl Memory {
    /// An empty store of the history `epoch`.
    pub fn new(epoch: Epoch, committed: Arc<dyn Committed>, clock: SharedClock) -> Arc<Memory> {
        Arc::new(Memory {
            epoch,
            clock,
            committed,
            rows: Mutex::default(),
        })
    }

    /// The history that it holds.
    pub(crate) fn history(&self) -> Epoch {
        self.epoch
    }

    /// What each commit appended, in the order of the commits and of the logs; and from where on the feed has it.
    pub(crate) fn commits(&self) -> (Place, BTreeMap<Position, Vec<Arc<Event>>>) {
        let rows = self.rows.lock();
        let mut commits: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (position, event) in rows.events.values() {
            let commit = commits.entry(Position(*position)).or_default();
            commit.push(Arc::clone(event));
        }
        (rows.fed_from, commits)
    }

    /// From now on the feed has what is behind this place.
    pub(crate) fn keep_from(&self, place: Place) {
        let mut rows = self.rows.lock();
        rows.fed_from = rows.fed_from.max(place);
    }
}

#[async_trait]
impl ChatStore for Memory {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn write(&self, command: Command) -> Result<Done> {
        let mut rows = self.rows.lock();
        rows.now_ms = self.clock.now_ms();
        let decision = decide::decide(&mut *rows, command)?;
        if !decision.writes.is_empty() {
            let facts = rows.commit(decision.writes);
            self.committed.committed(facts);
        }
        Ok(decision.done)
    }

    async fn chat(&self, id: ChatId) -> Result<Option<Chat>> {
        self.rows.lock().chat(id)
    }

    async fn role(&self, chat: ChatId, user: UserId) -> Result<Option<(ChatKind, Role)>> {
        let rows = self.rows.lock();
        let kind = rows.chats.get(&chat).map(|row| row.chat.kind);
        let membership = rows.memberships.get(&(chat, user));
        Ok(kind.zip(membership.map(|membership| membership.role)))
    }

    async fn standings(&self, user: UserId, chats: &[ChatId]) -> Result<Vec<Standing>> {
        let mut rows = self.rows.lock();
        let standings = chats
            .iter()
            .map(|chat| decide::standing(&mut *rows, *chat, user));
        Ok(standings
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    }

    async fn audience(&self, chat: ChatId) -> Result<Option<Audience>> {
        let rows = self.rows.lock();
        Ok(rows.chats.contains_key(&chat).then(|| rows.audience(chat)))
    }

    async fn events_after(&self, chat: ChatId, after: Seq, limit: usize) -> Result<Page<Event>> {
        let rows = self.rows.lock();
        let events = rows.log(chat, after.saturating_add(1)..).take(limit);
        Ok(rows.page(chat, events.collect()))
    }

    async fn events_before(&self, chat: ChatId, before: Seq, limit: usize) -> Result<Page<Event>> {
        let rows = self.rows.lock();
        let before = match before {
            ..=0 => Seq::MAX,
            before => before,
        };
        let mut events: Vec<_> = rows.log(chat, ..before).rev().take(limit).collect();
        events.reverse();
        Ok(rows.page(chat, events))
    }

    async fn events_at(&self, chat: ChatId, seqs: &[Seq]) -> Result<Page<Event>> {
        let rows = self.rows.lock();
        let events = rows.log(chat, ..).filter(|e| seqs.contains(&e.seq));
        Ok(rows.page(chat, events.collect()))
    }

    async fn changes(
        &self,
        chat: ChatId,
        part: RangeInclusive<Seq>,
        after: Seq,
        limit: usize,
    ) -> Result<Changes> {
        let rows = self.rows.lock();
        let head = rows.page(chat, Vec::new()).head;
        let (after, limit) = (after.clamp(0, head), limit.max(1));
        let changed = rows
            .changed
            .range((chat, after + 1, 0)..(chat, head + 1, 0));
        let mut changes = Changes {
            events: Vec::new(),
            through: head,
            more: false,
        };
        let mut last = after;
        for (_, now, message) in changed.filter(|(.., message)| part.contains(message)) {
            if changes.events.len() >= limit && *now != last {
                changes.through = last;
                changes.more = true;
                break;
            }
            changes.events.extend(rows.log(chat, *message..=*message));
            last = *now;
        }
        Ok(changes)
    }

    async fn thread(
        &self,
        chat: ChatId,
        thread: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<Page<Event>> {
        let rows = self.rows.lock();
        let hangs = |event: &Arc<Event>| event.message().is_some_and(|m| m.thread == Some(thread));
        let events = rows.log(chat, after.saturating_add(1)..);
        let events = events.filter(hangs).take(limit);
        Ok(rows.page(chat, events.collect()))
    }

    async fn user_events_after(
        &self,
        user: UserId,
        after: Seq,
        limit: usize,
    ) -> Result<Page<UserEvent>> {
        let rows = self.rows.lock();
        let Some(own) = rows.own.get(&user) else {
            return Ok(Page::default());
        };
        let from = usize::try_from(after).unwrap_or(0);
        let events = own.iter().skip(from).take(limit).map(Arc::clone).collect();
        Ok(Page {
            events,
            head: own.len() as Seq,
        })
    }

    async fn chats_of(
        &self,
        user: UserId,
        places: Range<ListPlace>,
        limit: usize,
    ) -> Result<Vec<(ListPlace, Chat)>> {
        let rows = self.rows.lock();
        let all = rows.of(user).map(|row| (row.chat.list_place(), &row.chat));
        let mut chats: Vec<_> = all.filter(|(place, _)| places.contains(place)).collect();
        chats.sort_unstable_by_key(|(place, _)| Reverse(*place));
        let chats = chats.into_iter().take(limit);
        Ok(chats.map(|(place, chat)| (place, chat.clone())).collect())
    }

    async fn moved_since(&self, user: UserId, since: Position) -> Result<Option<Moved>> {
        let mut rows = self.rows.lock();
        if since.0 > rows.position {
            return Ok(None);
        }
        let moved = rows.of(user).filter(|row| row.moved_at > since.0);
        let chats = moved.map(|row| row.chat.clone()).collect();
        let marked = rows.of(user).filter(|row| row.marked_at > since.0);
        let receipts = marked.map(|row| row.chat.id).collect();
        Ok(Some(Moved {
            chats,
            receipts,
            own_head: rows.own_head(user)?,
            position: Position(rows.position),
        }))
    }

    async fn events_since(
        &self,
        chats: &[Chat],
        since: Position,
        limit: usize,
    ) -> Result<Option<Vec<Arc<Event>>>> {
        let rows = self.rows.lock();
        let mut all = Vec::new();
        for chat in chats {
            let told = (chat.id, 1)..(chat.id, chat.head + 1);
            let new = rows.events.range(told).filter(|(_, row)| row.0 > since.0);
            all.extend(new.map(|(_, (_, event))| Arc::clone(event)));
        }
        Ok((all.len() <= limit).then_some(all))
    }

    async fn position(&self) -> Result<Position> {
        Ok(Position(self.rows.lock().position))
    }

    async fn mine(&self, user: UserId, chat: ChatId, messages: &[Seq]) -> Result<Mine> {
        let rows = self.rows.lock();
        let own = rows
            .reactions
            .iter()
            .filter(|key| key.user == user && key.chat == chat && messages.contains(&key.message));
        let reactions = own.map(|key| (key.message, key.emoji.clone())).collect();
        let hidden = rows.hidden.range((user, chat, 0)..=(user, chat, Seq::MAX));
        let hidden = hidden.map(|(_, _, message)| *message);
        Ok(Mine {
            reactions,
            hidden: hidden.filter(|seq| messages.contains(seq)).collect(),
        })
    }

    async fn reactions(
        &self,
        chat: ChatId,
        message: Seq,
        limit: usize,
    ) -> Result<Vec<(String, UserId)>> {
        let rows = self.rows.lock();
        let to = rows
            .reactions
            .iter()
            .filter(|key| key.chat == chat && key.message == message);
        Ok(to
            .take(limit)
            .map(|key| (key.emoji.clone(), key.user))
            .collect())
    }

    async fn members(
        &self,
        chat: ChatId,
        after: UserId,
        limit: usize,
    ) -> Result<Vec<(UserId, Membership)>> {
        let rows = self.rows.lock();
        let from = (
            Bound::Excluded((chat, after)),
            Bound::Included((chat, UserId(i64::MAX))),
        );
        let members = rows.memberships.range(from).take(limit);
        Ok(members.map(|((_, user), m)| (*user, m.clone())).collect())
    }

    async fn banned(&self, chat: ChatId, after: UserId, limit: usize) -> Result<Vec<UserId>> {
        let rows = self.rows.lock();
        let from = (
            Bound::Excluded((chat, after)),
            Bound::Included((chat, UserId(i64::MAX))),
        );
        let banned = rows.bans.range(from).take(limit);
        Ok(banned.map(|(_, user)| *user).collect())
    }

    async fn invites(&self, chat: ChatId) -> Result<Vec<Invite>> {
        self.rows.lock().invites_of(chat)
    }

    async fn invite(&self, code: &str) -> Result<Option<Invite>> {
        self.rows.lock().invite(code)
    }

    async fn scheduled(&self, user: UserId) -> Result<Vec<Scheduled>> {
        let rows = self.rows.lock();
        let own = rows.scheduled.values().filter(|s| s.user == user);
        Ok(own.cloned().collect())
    }

    async fn due(&self, now_ms: i64, limit: usize) -> Result<Due> {
        let rows = self.rows.lock();
        let expired = rows.expiries.iter().take_while(|(at, ..)| *at <= now_ms);
        let mut due: Vec<_> = rows
            .scheduled
            .values()
            .filter(|s| s.send_at_ms <= now_ms)
            .collect();
        due.sort_by_key(|scheduled| (scheduled.send_at_ms, scheduled.id));
        Ok(Due {
            expired: expired
                .take(limit)
                .map(|(_, chat, seq)| (*chat, *seq))
                .collect(),
            scheduled: due.iter().take(limit).map(|s| s.id).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chats::suite::Place;

    /// A store that is still there when it is opened again.
    #[derive(Default)]
    struct Kept {
        store: Mutex<Option<Arc<Memory>>>,
        teller: Arc<Teller>,
    }

    /// Tells whoever opened the store last.
    #[derive(Default)]
    struct Teller(Mutex<Option<Arc<dyn Committed>>>);

    impl Committed for Teller {
        fn committed(&self, facts: Vec<Fact>) {
            let listener = self.0.lock().clone();
            if let Some(listener) = listener {
                listener.committed(facts);
            }
        }
    }

    #[async_trait]
    impl Place for Kept {
        async fn open(
            &self,
            committed: Arc<dyn Committed>,
            clock: SharedClock,
        ) -> Arc<dyn ChatStore> {
            *self.teller.0.lock() = Some(committed);
            let make = || Memory::new(Epoch(rand::random()), self.teller.clone(), clock);
            self.store.lock().get_or_insert_with(make).clone()
        }
    }

    crate::chat_store_suite!(Kept::default());
}
