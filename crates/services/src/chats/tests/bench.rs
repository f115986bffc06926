//! A service with a store in memory, and short ways to use it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tertulia_kit::clock::ManualClock;
use tertulia_kit::id::Node;

use crate::access::{Authorizer, Permit, Rule};
use crate::chats::memory::Memory;
pub use crate::chats::*;
use crate::ids::LoginId;

pub const BEGIN_MS: i64 = 1_780_000_000_000;
pub const EPOCH: Epoch = Epoch(42);
/// Who is not known to anybody.
pub const NOBODY: i64 = 404;
/// The limits of a bench: small, so that they are reached.
pub const LIMITS: Limits = Limits {
    group_members_max: 6,
    channel_members_max: 150,
    receipts_members_max: 4,
    delta_events_max: 1_000,
};

struct Deaf;

impl Committed for Deaf {
    fn committed(&self, _: Vec<Fact>) {}
}

/// Everybody is known but one.
#[derive(Default)]
pub struct Town {
    /// Who keeps to themselves what they have seen.
    pub private: Mutex<HashSet<UserId>>,
}

#[async_trait]
impl People for Town {
    async fn existing(&self, users: &[UserId]) -> Result<Vec<UserId>> {
        let mut known = Vec::new();
        for user in users {
            if user.0 != NOBODY && !known.contains(user) {
                known.push(*user);
            }
        }
        Ok(known)
    }

    async fn shares_seen(&self, user: UserId) -> Result<bool> {
        Ok(!self.private.lock().contains(&user))
    }
}

/// Writes down who was told that somebody is typing.
#[derive(Default)]
pub struct Typists(pub Mutex<Vec<(ChatId, UserId, Audience)>>);

impl Signals for Typists {
    fn typing(&self, chat: ChatId, user: UserId, audience: &Audience) {
        self.0.lock().push((chat, user, audience.clone()));
    }
}

pub struct Bench {
    pub chats: Arc<Chats>,
    pub clock: Arc<ManualClock>,
    pub store: Arc<Memory>,
    pub town: Arc<Town>,
    pub typists: Arc<Typists>,
    named: AtomicU64,
}

impl Bench {
    pub fn new() -> Bench {
        let clock = ManualClock::at(BEGIN_MS);
        let store = Memory::new(EPOCH, Arc::new(Deaf), clock.clone());
        let (town, typists) = (Arc::new(Town::default()), Arc::new(Typists::default()));
        let chats = Chats::new(
            store.clone(),
            town.clone(),
            typists.clone(),
            Arc::new(Ids::new(clock.clone(), Arc::new(Node::FIRST))),
            clock.clone(),
            LIMITS,
        );
        Bench {
            chats: Arc::new(chats),
            clock,
            store,
            town,
            typists,
            named: AtomicU64::new(0),
        }
    }

    /// A client's own id, another one every time.
    pub fn client_id(&self) -> String {
        format!("client-id-{}", self.named.fetch_add(1, Ordering::Relaxed))
    }

    /// The direct chat of two, for the first.
    pub async fn direct(&self, a: i64, b: i64) -> Member {
        let opened = self.chats.open_direct(&caller(a), UserId(b)).await;
        self.member(a, opened.unwrap().chat.id).await
    }

    /// A new group, for its owner.
    pub async fn group(&self, owner: i64, members: &[i64]) -> Member {
        self.create(ChatKind::Group, owner, members).await
    }

    /// A new channel, for its owner.
    pub async fn channel(&self, owner: i64, readers: &[i64]) -> Member {
        self.create(ChatKind::Channel, owner, readers).await
    }

    async fn create(&self, kind: ChatKind, owner: i64, members: &[i64]) -> Member {
        let members = members.iter().copied().map(UserId).collect();
        let caller = caller(owner);
        let made = self
            .chats
            .create(&caller, kind, titled("a chat"), members, self.client_id())
            .await;
        self.member(owner, made.unwrap().chat.id).await
    }

    /// The permit of a member to read.
    pub async fn member(&self, user: i64, chat: ChatId) -> Member {
        self.permit(user, chat, Right::Read).await.unwrap()
    }

    /// The permit of another member of the same chat.
    pub async fn also(&self, user: i64, member: &Member) -> Member {
        self.member(user, member.chat()).await
    }

    pub async fn permit(&self, user: i64, chat: ChatId, right: Right) -> Result<Member> {
        let authorizer = Authorizer::new(self.chats.clone());
        let rule = Rule::ChatMember(chat, right);
        match authorizer
            .authorize(rule, Some(caller(user).into()))
            .await?
        {
            Permit::Member(member) => Ok(member),
            other => panic!("{other:?}"),
        }
    }

    pub async fn say(&self, member: &Member, text: &str) -> Seq {
        self.clock.advance_ms(1);
        self.send(member, text, |_| {}).await.unwrap().seq
    }

    /// Sends a message that is somehow special.
    pub async fn send(
        &self,
        member: &Member,
        text: &str,
        special: impl FnOnce(&mut Outgoing),
    ) -> Result<Sent> {
        let mut out = self.outgoing(text);
        special(&mut out);
        self.chats.send(member, out).await
    }

    pub fn outgoing(&self, text: &str) -> Outgoing {
        Outgoing {
            client_message_id: self.client_id(),
            text: text.into(),
            ..Outgoing::default()
        }
    }

    pub async fn event(&self, member: &Member, seq: Seq) -> Shown {
        let page = self.chats.events_after(member, seq - 1, 1).await.unwrap();
        page.events.into_iter().next().unwrap()
    }

    pub async fn message(&self, member: &Member, seq: Seq) -> Message {
        let shown = self.event(member, seq).await;
        shown.event.message().unwrap().clone()
    }

    pub async fn set_role(&self, owner: &Member, user: i64, role: Role) {
        let set = self.chats.set_role(owner, UserId(user), role).await;
        set.unwrap();
    }

    pub async fn missed(&self, user: i64, cursor: &[u8]) -> Missed {
        self.chats.missed(&caller(user), cursor).await.unwrap()
    }
}

pub fn caller(user: i64) -> Caller {
    Caller {
        user: UserId(user),
        login: LoginId(user * 10),
        device: format!("device-{user}").into(),
        expires_at_ms: i64::MAX,
    }
}

pub fn titled(title: &str) -> ChatChange {
    ChatChange {
        title: Some(title.into()),
        ..ChatChange::default()
    }
}

pub fn users(ids: impl IntoIterator<Item = i64>) -> Vec<UserId> {
    ids.into_iter().map(UserId).collect()
}

pub fn mentions(ids: &[i64]) -> Mentions {
    Mentions {
        users: users(ids.iter().copied()),
        ..Mentions::default()
    }
}

pub fn everyone() -> Mentions {
    Mentions {
        everyone: true,
        ..Mentions::default()
    }
}

pub fn nothing_missed() -> Answer {
    Answer::Delta {
        own_events: vec![],
        events: vec![],
    }
}

#[track_caller]
pub fn reason<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.unwrap_err().reason()
}
