//! A chat and its kind.

use std::sync::{Arc, LazyLock};

use super::{Event, Seq};
use crate::ids::{ChatId, UserId};

/// A chat as it is at its head. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// Its id.
    pub id: ChatId,
    /// What kind it is.
    pub kind: ChatKind,
    /// The seq of its newest event.
    pub head: Seq,
    /// How many messages its log has, deleted ones counted.
    pub messages: i64,
    /// When it was opened, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// Its newest message, as it is at the head.
    pub last_message: Option<Arc<Event>>,
    /// The newest own message of each of the two of a direct chat, in the order of the pair: what one has
    /// written one has read. Members of other chats have it in their membership.
    pub spoke: [Seq; 2],
    /// What changes seldom.
    pub details: Arc<Details>,
}

/// What changes seldom about a chat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// Its name; empty for direct chats.
    pub title: String,
    /// What it is about.
    pub topic: String,
    /// An emoji that stands for it; may be empty.
    pub avatar: String,
    /// Who made it; none for direct chats.
    pub created_by: Option<UserId>,
    /// For how many seconds a message stays that is sent now; 0 means forever.
    pub message_ttl_s: i64,
    /// Pinned messages, the newest pin first.
    pub pinned: Vec<Seq>,
    /// How many members it has.
    pub member_count: u32,
    /// The newest event that changed members or roles.
    pub members_seq: Seq,
    /// The highest seq of a message that was deleted: nothing to look for above it.
    pub deleted_max: Seq,
    /// The highest seq of a message that mentions all or a role.
    pub called_max: Seq,
}

/// A kind of chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatKind {
    /// Between two people, forever.
    Direct(Pair),
    /// Between some, who hear everything as it happens.
    Group,
    /// Few write and many read.
    Channel,
}

impl ChatKind {
    /// Whether it is a direct chat.
    pub fn is_direct(self) -> bool {
        matches!(self, ChatKind::Direct(_))
    }
}

/// The details of a direct chat of which nothing was changed.
static DIRECT: LazyLock<Arc<Details>> = LazyLock::new(|| {
    Arc::new(Details {
        member_count: 2,
        ..Details::default()
    })
});

impl Chat {
    /// A direct chat in which nothing has happened.
    pub fn direct(id: ChatId, pair: Pair, created_at_ms: i64) -> Chat {
        Chat {
            id,
            kind: ChatKind::Direct(pair),
            head: 0,
            messages: 0,
            created_at_ms,
            last_message: None,
            spoke: [0; 2],
            details: Arc::clone(&DIRECT),
        }
    }

    /// When it was last spoken in, in milliseconds since 1970; without messages, when it was opened.
    pub fn active_at_ms(&self) -> i64 {
        let last = self.last_message.as_ref();
        last.map_or(self.created_at_ms, |event| event.at_ms)
    }

    /// Where it stands in the lists of its members.
    pub fn list_place(&self) -> ListPlace {
        let hour = match self.kind {
            ChatKind::Channel => ListPlace::ALWAYS,
            ChatKind::Direct(_) | ChatKind::Group => ListPlace::hour_of(self.active_at_ms()),
        };
        ListPlace {
            hour,
            chat: self.id,
        }
    }

    /// The two of a direct chat.
    pub fn pair(&self) -> Option<Pair> {
        match self.kind {
            ChatKind::Direct(pair) => Some(pair),
            ChatKind::Group | ChatKind::Channel => None,
        }
    }

    /// The newest own message of one of the two of a direct chat; 0 for everybody else.
    pub fn spoke_of(&self, user: UserId) -> Seq {
        let place = self.pair().and_then(|pair| pair.place_of(user));
        place.map_or(0, |place| self.spoke[place])
    }

    /// Whether receipts of single members are told.
    pub fn is_small(&self, members_max: u32) -> bool {
        self.kind != ChatKind::Channel && self.details.member_count <= members_max
    }
}

/// Where a chat stands in the lists of its members, which begin at the highest: by the hour in which it was last
/// spoken in, and then by its id. So a list moves once in an hour, however much is said.
///
/// With a channel the lists of very many would move, so all channels stand before everything else, and whoever reads a
/// list puts them where they belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListPlace {
    /// Counted from the beginning of 1970; [`ALWAYS`](ListPlace::ALWAYS) for channels.
    pub hour: i64,
    /// Which chat.
    pub chat: ChatId,
}

impl ListPlace {
    /// The hour of channels.
    pub const ALWAYS: i64 = i64::MAX;
    /// Before every chat.
    pub const TOP: ListPlace = ListPlace {
        hour: i64::MAX,
        chat: ChatId(i64::MAX),
    };
    /// Behind every chat.
    pub const BOTTOM: ListPlace = ListPlace {
        hour: i64::MIN,
        chat: ChatId(i64::MIN),
    };

    /// In which hour a time is, in milliseconds since 1970.
    pub fn hour_of(at_ms: i64) -> i64 {
        at_ms.div_euclid(3_600 * 1_000)
    }

    /// The place before all of an hour; that of the channels when it is theirs.
    pub fn before(hour: i64) -> ListPlace {
        ListPlace {
            hour,
            chat: ChatId(i64::MAX),
        }
    }

    /// The place behind all of an hour.
    pub fn behind(hour: i64) -> ListPlace {
        ListPlace {
            hour,
            chat: ChatId(i64::MIN),
        }
    }
}

/// Two different people, in no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair(UserId, UserId);

impl Pair {
    /// The pair of two people; none when it is one person.
    pub fn new(a: UserId, b: UserId) -> Option<Pair> {
        match a.cmp(&b) {
            std::cmp::Ordering::Less => Some(Pair(a, b)),
            std::cmp::Ordering::Greater => Some(Pair(b, a)),
            std::cmp::Ordering::Equal => None,
        }
    }

    /// Both, the smaller id first.
    pub fn users(self) -> [UserId; 2] {
        [self.0, self.1]
    }

    /// Whether somebody is one of them.
    pub fn has(self, user: UserId) -> bool {
        self.0 == user || self.1 == user
    }

    /// Which of the two somebody is, in the order of [`users`](Pair::users).
    pub fn place_of(self, user: UserId) -> Option<usize> {
        self.users().iter().position(|one| *one == user)
    }
}
