//! The logs in memory, as plain as they can be: for tests, and as the model that other adapters are compared
//! with. Nothing is ever given back to the machine.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;

use super::model::{
    Chat, ChatKind, Epoch, Event, EventBody, Fact, Pair, Position, SendKey, Seq, UserEvent,
    UserEventBody,
};
use super::ports::{
    Appended, ChatStore, Committed, Moved, NewMessage, Page, Receipt, SEND_KEYS_KEPT_MS,
};
use crate::ids::{ChatId, UserId};

/// The store.
pub struct Memory {
    epoch: Epoch,
    clock: SharedClock,
    committed: Arc<dyn Committed>,
    /// Guards all logs; facts are told under it, so that their order is the order of the commits.
    logs: Mutex<Logs>,
}

#[derive(Default)]
struct Logs {
    position: u64,
    chats: HashMap<ChatId, Log>,
    pairs: HashMap<Pair, ChatId>,
    chats_of: HashMap<UserId, BTreeSet<ChatId>>,
    own: HashMap<UserId, Vec<Arc<UserEvent>>>,
    keys: HashMap<(UserId, SendKey), (i64, Arc<Event>)>,
}

struct Log {
    kind: ChatKind,
    created_at_ms: i64,
    opened_at: u64,
    /// Each with the position of its commit; `events[n]` has seq n + 1.
    events: Vec<(u64, Arc<Event>)>,
}

impl Log {
    fn chat(&self, id: ChatId) -> Chat {
        Chat {
            id,
            kind: self.kind.clone(),
            head: self.head(),
            created_at_ms: self.created_at_ms,
            last_event: self.events.last().map(|(_, event)| Arc::clone(event)),
        }
    }

    fn head(&self) -> Seq {
        self.events.len() as Seq
    }

    fn moved_at(&self) -> u64 {
        self.events
            .last()
            .map_or(self.opened_at, |(position, _)| *position)
    }
}

impl Memory {
    /// An empty store of the history `epoch`.
    pub fn new(epoch: Epoch, committed: Arc<dyn Committed>, clock: SharedClock) -> Arc<Memory> {
        Arc::new(Memory {
            epoch,
            clock,
            committed,
            logs: Mutex::default(),
        })
    }
}

#[async_trait]
impl ChatStore for Memory {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn open_direct(&self, pair: Pair, id: ChatId, at_ms: i64) -> Result<Chat> {
        let mut logs = self.logs.lock();
        if let Some(id) = logs.pairs.get(&pair) {
            return Ok(logs.chats[id].chat(*id));
        }
        logs.position += 1;
        let log = Log {
            kind: ChatKind::Direct(pair),
            created_at_ms: at_ms,
            opened_at: logs.position,
            events: Vec::new(),
        };
        let chat = log.chat(id);
        logs.chats.insert(id, log);
        logs.pairs.insert(pair, id);
        let mut facts = Vec::new();
        for user in pair.users() {
            logs.chats_of.entry(user).or_default().insert(id);
            let own = logs.own.entry(user).or_default();
            let seq = own.len() as Seq + 1;
            let body = UserEventBody::ChatJoined(chat.clone());
            let event = Arc::new(UserEvent {
                user,
                seq,
                at_ms,
                body,
            });
            own.push(Arc::clone(&event));
            facts.push(Fact::UserEvent(event));
        }
        self.committed.committed(facts);
        Ok(chat)
    }

    async fn chat(&self, id: ChatId) -> Result<Option<Chat>> {
        Ok(self.logs.lock().chats.get(&id).map(|log| log.chat(id)))
    }

    async fn append(&self, new: NewMessage) -> Result<Appended> {
        let mut logs = self.logs.lock();
        let logs = &mut *logs;
        let now_ms = self.clock.now_ms();
        let key = (new.sender, new.key.clone());
        if let Some((used_at_ms, event)) = logs.keys.get(&key)
            && now_ms - used_at_ms <= SEND_KEYS_KEPT_MS
        {
            return Ok(new.repeats(event));
        }
        let Some(log) = logs.chats.get_mut(&new.chat) else {
            return Ok(Appended::NoChat);
        };
        logs.position += 1;
        let receipt = Receipt {
            seq: log.head() + 1,
            id: new.id,
            at_ms: new.at_ms,
        };
        let ChatKind::Direct(pair) = &log.kind;
        let members = pair.users();
        let event = Arc::new(Event {
            chat: new.chat,
            seq: receipt.seq,
            at_ms: new.at_ms,
            actor: new.sender,
            body: EventBody::Message(new.into_message()),
        });
        log.events.push((logs.position, Arc::clone(&event)));
        logs.keys.insert(key, (now_ms, Arc::clone(&event)));
        self.committed
            .committed(vec![Fact::Event { event, members }]);
        Ok(Appended::New(receipt))
    }

    async fn events_after(&self, chat: ChatId, after: Seq, limit: usize) -> Result<Page<Event>> {
        let logs = self.logs.lock();
        let Some(log) = logs.chats.get(&chat) else {
            return Ok(Page::default());
        };
        let from = usize::try_from(after).unwrap_or(0);
        let events = log
            .events
            .iter()
            .skip(from)
            .take(limit)
            .map(|(_, e)| Arc::clone(e))
            .collect();
        Ok(Page {
            events,
            head: log.head(),
        })
    }

    async fn events_before(&self, chat: ChatId, before: Seq, limit: usize) -> Result<Page<Event>> {
        let logs = self.logs.lock();
        let Some(log) = logs.chats.get(&chat) else {
            return Ok(Page::default());
        };
        let end = match before {
            ..=0 => log.events.len(),
            before => log.events.len().min(before as usize - 1),
        };
        let part = &log.events[end.saturating_sub(limit)..end];
        Ok(Page {
            events: part.iter().map(|(_, e)| Arc::clone(e)).collect(),
            head: log.head(),
        })
    }

    async fn user_events_after(
        &self,
        user: UserId,
        after: Seq,
        limit: usize,
    ) -> Result<Page<UserEvent>> {
        let logs = self.logs.lock();
        let Some(own) = logs.own.get(&user) else {
            return Ok(Page::default());
        };
        let from = usize::try_from(after).unwrap_or(0);
        let events = own.iter().skip(from).take(limit).map(Arc::clone).collect();
        Ok(Page {
            events,
            head: own.len() as Seq,
        })
    }

    async fn chats_of(&self, user: UserId) -> Result<Vec<Chat>> {
        let logs = self.logs.lock();
        let ids = logs.chats_of.get(&user).into_iter().flatten();
        Ok(ids.map(|id| logs.chats[id].chat(*id)).collect())
    }

    async fn moved_since(&self, user: UserId, since: Position) -> Result<Option<Moved>> {
        let logs = self.logs.lock();
        if since.0 > logs.position {
            return Ok(None);
        }
        let ids = logs.chats_of.get(&user).into_iter().flatten();
        let moved = ids.filter(|id| logs.chats[id].moved_at() > since.0);
        Ok(Some(Moved {
            chats: moved.map(|id| logs.chats[id].chat(*id)).collect(),
            own_head: logs.own.get(&user).map_or(0, |own| own.len() as Seq),
            position: Position(logs.position),
        }))
    }

    async fn events_since(
        &self,
        chats: &[Chat],
        since: Position,
        limit: usize,
    ) -> Result<Option<Vec<Arc<Event>>>> {
        let logs = self.logs.lock();
        let mut all = Vec::new();
        for chat in chats {
            let Some(log) = logs.chats.get(&chat.id) else {
                continue;
            };
            let told = log
                .events
                .iter()
                .take(usize::try_from(chat.head).unwrap_or(0));
            let new = told.filter(|(position, _)| *position > since.0);
            all.extend(new.map(|(_, event)| Arc::clone(event)));
        }
        Ok((all.len() <= limit).then_some(all))
    }

    async fn position(&self) -> Result<Position> {
        Ok(Position(self.logs.lock().position))
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
