//! A store under test, and short ways to say what is done to it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tertulia_kit::clock::{Clock as _, ManualClock};
use tertulia_kit::error::Result;
use tokio::sync::Notify;

use super::Place;
use crate::chats::command::*;
use crate::chats::model::*;
use crate::chats::ports::*;
use crate::ids::{ChatId, MessageId, UserId};

/// An hour, in milliseconds.
pub const HOUR_MS: i64 = 3_600 * 1_000;
/// A day, in milliseconds.
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// When every bench begins, in milliseconds since 1970.
pub const BEGIN_MS: i64 = 1_780_000_000_000;
pub const ANA: UserId = UserId(11);
pub const BEN: UserId = UserId(12);
pub const CLEO: UserId = UserId(13);
pub const DORA: UserId = UserId(14);

/// How long a fact may take to be told, in seconds.
const FACTS_WAIT_S: u64 = 20;

/// All chats of a user, by id.
pub async fn chats_of(store: &dyn ChatStore, user: UserId) -> Vec<Chat> {
    let all = ListPlace::BOTTOM..ListPlace::TOP;
    let chats = store.chats_of(user, all, usize::MAX).await.unwrap();
    by_id(chats.into_iter().map(|(_, chat)| chat).collect())
}

/// Keeps what it hears.
#[derive(Default)]
pub struct Listener {
    facts: Mutex<Vec<Fact>>,
    heard: Notify,
}

impl Committed for Listener {
    fn committed(&self, facts: Vec<Fact>) {
        self.facts.lock().extend(facts);
        self.heard.notify_one();
    }
}

impl Listener {
    /// How many facts were told until now.
    pub fn count(&self) -> usize {
        self.facts.lock().len()
    }

    /// All facts, once there are `count`.
    pub async fn wait_for(&self, count: usize) -> Vec<Fact> {
        let enough = async {
            while self.count() < count {
                self.heard.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(FACTS_WAIT_S), enough)
            .await
            .expect("not all facts were told");
        self.facts.lock().clone()
    }
}

/// A store under test, with what it needs.
pub struct Bench<'a> {
    place: &'a dyn Place,
    pub clock: Arc<ManualClock>,
    pub listener: Arc<Listener>,
    store: Option<Arc<dyn ChatStore>>,
}

impl<'a> Bench<'a> {
    pub async fn at(place: &'a dyn Place) -> Bench<'a> {
        let clock = ManualClock::at(BEGIN_MS);
        let listener = Arc::new(Listener::default());
        let store = place.open(listener.clone(), clock.clone()).await;
        Bench {
            place,
            clock,
            listener,
            store: Some(store),
        }
    }

    pub fn store(&self) -> &Arc<dyn ChatStore> {
        self.store.as_ref().unwrap()
    }

    pub async fn reopen(&mut self) {
        drop(self.store.take());
        let store = self.place.open(self.listener.clone(), self.clock.clone());
        self.store = Some(store.await);
    }

    /// Where the chats of a user stand in their list.
    pub async fn places(&self, user: UserId) -> Vec<(i64, ChatId)> {
        let all = ListPlace::BOTTOM..ListPlace::TOP;
        let chats = self.store().chats_of(user, all, usize::MAX).await.unwrap();
        assert!(chats.iter().all(|(place, chat)| place.chat == chat.id));
        chats
            .iter()
            .map(|(place, chat)| (place.hour, chat.id))
            .collect()
    }

    pub async fn position(&self) -> Position {
        self.store().position().await.unwrap()
    }

    /// Does something now.
    pub async fn attempt(&self, actor: UserId, act: Act) -> Result<Done> {
        let at_ms = self.clock.now_ms();
        self.store().write(command(actor, at_ms, act)).await
    }

    /// Does something that is not refused.
    pub async fn act(&self, actor: UserId, act: Act) -> Done {
        self.attempt(actor, act).await.unwrap()
    }

    /// Does something that is refused, and gives the reason.
    pub async fn refused(&self, actor: UserId, act: Act) -> &'static str {
        self.attempt(actor, act).await.unwrap_err().reason()
    }

    /// Does something that makes an event, and gives its seq.
    pub async fn made(&self, actor: UserId, act: Act) -> Seq {
        match self.act(actor, act).await {
            Done::Changed(Some(seq)) | Done::Added(Some(seq), _) => seq,
            other => panic!("no event was made: {other:?}"),
        }
    }

    /// The direct chat of two, as the first of them sees it.
    pub async fn open(&self, a: UserId, b: UserId, id: i64) -> Chat {
        standing(self.act(a, open_direct(a, b, id)).await).chat
    }

    /// A new group.
    pub async fn group(&self, id: i64, owner: UserId, members: &[UserId]) -> ChatId {
        self.create(id, ChatKind::Group, owner, members).await
    }

    /// A new channel.
    pub async fn channel(&self, id: i64, owner: UserId, readers: &[UserId]) -> ChatId {
        self.create(id, ChatKind::Channel, owner, readers).await
    }

    async fn create(&self, id: i64, kind: ChatKind, owner: UserId, members: &[UserId]) -> ChatId {
        let act = Act::Create(new_chat(id, kind, owner, members));
        standing(self.act(owner, act).await).chat.id
    }

    /// The `n`th message of somebody, which is new.
    pub async fn say(&self, chat: ChatId, sender: UserId, n: i64) -> Sent {
        let done = self.act(sender, Act::Send(message(chat, sender, n))).await;
        match done {
            Done::Sent(sent) if !sent.repeat => sent,
            other => panic!("message {n} of {sender} is {other:?}"),
        }
    }

    pub async fn delete(&self, chat: ChatId, actor: UserId, messages: &[Seq]) -> Seq {
        let messages = messages.to_vec();
        self.made(actor, Act::Delete { chat, messages }).await
    }

    pub async fn edit(&self, chat: ChatId, actor: UserId, message: Seq, text: &str) -> Seq {
        let act = Act::Edit {
            chat,
            message,
            text: text.into(),
            mentions: Mentions::default(),
        };
        self.made(actor, act).await
    }

    pub async fn react(&self, chat: ChatId, actor: UserId, message: Seq, emoji: &str) -> Seq {
        self.made(actor, react(chat, message, emoji, true)).await
    }

    /// Says how far somebody has seen a chat, and gives what is left.
    pub async fn mark(&self, chat: ChatId, user: UserId, seen: Seq) -> ReadState {
        match self.act(user, mark(chat, seen, Some(seen), true)).await {
            Done::Read(read) => read,
            other => panic!("{other:?}"),
        }
    }

    pub async fn chat(&self, id: ChatId) -> Chat {
        self.store().chat(id).await.unwrap().unwrap()
    }

    /// A chat as somebody sees it who is in it.
    pub async fn standing(&self, chat: ChatId, user: UserId) -> Standing {
        let found = self.store().standings(user, &[chat]).await.unwrap();
        found.into_iter().next().unwrap()
    }

    /// An event as it is now.
    pub async fn event(&self, chat: ChatId, seq: Seq) -> Arc<Event> {
        let page = self.store().events_at(chat, &[seq]).await.unwrap();
        page.events.into_iter().next().unwrap()
    }

    pub async fn whole_log(&self, chat: ChatId) -> Vec<Arc<Event>> {
        whole_log(&**self.store(), chat).await
    }

    pub async fn own_log(&self, user: UserId) -> Vec<Arc<UserEvent>> {
        let page = self.store().user_events_after(user, 0, usize::MAX).await;
        let page = page.unwrap();
        assert_eq!(page.events.len() as Seq, page.head);
        page.events
    }

    /// What the own log of a user says last.
    pub async fn last_own(&self, user: UserId) -> UserEventBody {
        self.own_log(user).await.last().unwrap().body.clone()
    }
}

pub async fn whole_log(store: &dyn ChatStore, chat: ChatId) -> Vec<Arc<Event>> {
    let page = store.events_after(chat, 0, usize::MAX).await.unwrap();
    assert_eq!(page.events.len() as Seq, page.head);
    page.events
}

/// What chance follows from. It is printed, and `TERTULIA_SEED` gives the same again.
pub fn seed() -> u64 {
    let given = std::env::var_os("TERTULIA_SEED");
    let given = given.and_then(|seed| seed.to_str()?.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("TERTULIA_SEED={seed}");
    seed
}

pub fn command(actor: UserId, at_ms: i64, act: Act) -> Command {
    Command {
        actor,
        at_ms,
        act,
        limits: Limits::default(),
    }
}

pub fn open_direct(a: UserId, b: UserId, id: i64) -> Act {
    Act::OpenDirect {
        pair: Pair::new(a, b).unwrap(),
        id: ChatId(id),
    }
}

/// The same chat whenever it is made.
pub fn new_chat(id: i64, kind: ChatKind, owner: UserId, members: &[UserId]) -> NewChat {
    NewChat {
        id: ChatId(id),
        kind,
        title: format!("chat {id}"),
        topic: String::new(),
        avatar: String::new(),
        members: members.to_vec(),
        key: SendKey {
            device: device(owner),
            client_message_id: format!("chat-{id}"),
        },
    }
}

/// The `n`th message of a sender, the same whenever it is made.
pub fn message(chat: ChatId, sender: UserId, n: i64) -> NewMessage {
    NewMessage {
        chat,
        id: MessageId(sender.0 * 1_000_000 + n),
        key: key(&device(sender), n),
        text: format!("{sender} says {n}"),
        reply_to: None,
        thread: None,
        mentions: Mentions::default(),
    }
}

pub fn device(user: UserId) -> String {
    format!("device of {user}")
}

pub fn key(device: &str, n: i64) -> SendKey {
    SendKey {
        device: device.into(),
        client_message_id: format!("message-{n}"),
    }
}

pub fn react(chat: ChatId, message: Seq, emoji: &str, on: bool) -> Act {
    let emoji = emoji.into();
    Act::React {
        chat,
        message,
        emoji,
        on,
    }
}

pub fn mark(chat: ChatId, delivered: Seq, seen: Option<Seq>, shares_seen: bool) -> Act {
    Act::Mark {
        chat,
        delivered,
        seen,
        shares_seen,
    }
}

/// Mentions of people by name.
pub fn mentions(users: &[UserId]) -> Mentions {
    Mentions {
        users: users.to_vec(),
        ..Mentions::default()
    }
}

/// What came of a command that gives a chat.
pub fn standing(done: Done) -> Standing {
    match done {
        Done::Chat(standing) => *standing,
        other => panic!("no chat: {other:?}"),
    }
}

/// What came of a command that sends.
pub fn sent(done: Done) -> Sent {
    match done {
        Done::Sent(sent) => sent,
        other => panic!("nothing was sent: {other:?}"),
    }
}

/// What a message is now.
pub fn said(event: &Arc<Event>) -> &Message {
    event.message().expect("a message")
}

pub fn seqs(events: &[Arc<Event>]) -> Vec<Seq> {
    events.iter().map(|event| event.seq).collect()
}

pub fn by_id(mut chats: Vec<Chat>) -> Vec<Chat> {
    chats.sort_by_key(|chat| chat.id);
    chats
}
