//! What a node remembers of rows that others may change. Nothing of it is believed by itself: a chat is the one that
//! was remembered only when its row, which is read each time, has the number of the same commit, and so are the
//! members of a group only when its row names the same change of them.

use std::sync::Arc;

use tertulia_services::chats::{ChatKind, Seq};
use tertulia_services::ids::{ChatId, UserId};

use crate::rows::Row;
use crate::rows::cache::{Cache, Weight};

/// The members of a group by id, after the event `seq` of it.
#[derive(Clone)]
pub struct Members {
    pub seq: Seq,
    pub members: Arc<[UserId]>,
}

impl Weight for Members {
    fn bytes(&self) -> u64 {
        self.members.bytes() + 8
    }
}

pub struct Caches {
    chats: Cache<ChatId, Row>,
    members: Cache<ChatId, Members>,
}

impl Caches {
    /// All of them together take `mib`.
    pub fn of(mib: u64) -> Caches {
        let quarter = (mib.max(1) << 20) / 4;
        Caches {
            chats: Cache::of(quarter * 3, 600),
            members: Cache::of(quarter, 512),
        }
    }

    /// The chat as the commit `moved_at` has left it, without later receipts.
    pub fn chat(&self, id: ChatId, moved_at: u64) -> Option<Row> {
        self.chats.get(id).filter(|row| row.moved_at == moved_at)
    }

    /// What kind a chat is, if it is known here: that never changes.
    pub fn kind(&self, id: ChatId) -> Option<ChatKind> {
        self.chats.get(id).map(|row| row.chat.kind)
    }

    pub fn put_chat(&self, row: Row) {
        self.chats.put(row.chat.id, row);
    }

    pub fn members(&self, id: ChatId, seq: Seq) -> Option<Arc<[UserId]>> {
        let found = self.members.get(id).filter(|found| found.seq == seq);
        found.map(|found| found.members)
    }

    pub fn put_members(&self, id: ChatId, members: Members) {
        self.members.put(id, members);
    }
}
