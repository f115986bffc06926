//! What readers and the writer share: the tables, and what is remembered of them.
//!
//! The writer puts in what it has committed, so a cache is never behind an answer; what it could not know
//! whole (lists that others have read) it forgets instead.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;
use tertulia_services::chats::{Chat, ChatKind, Epoch, Fact, ListPlace, Membership, Seq};
use tertulia_services::ids::{ChatId, UserId};

use super::disk::Disk;
use super::faults::Faults;
use super::floor::Floor;
use super::health::Health;
use super::queue::Queue;
use super::recent::Recent;
use super::send_keys::SendKeys;
use super::{Options, Sabotage};
use crate::rows::cache::Cache;
use crate::rows::round::Round;
use crate::rows::{Row, index, known};

/// How many moves are remembered for devices that ask again soon; about 64 bytes each.
pub const RECENT_MOVES_MAX: usize = 131_072;

pub struct Shared {
    pub disk: Disk,
    pub epoch: Epoch,
    pub clock: SharedClock,
    pub send_keys: Arc<SendKeys>,
    /// The position: every commit up to it is in the tables and the caches.
    pub visible: AtomicU64,
    pub chats: Cache<ChatId, Row>,
    pub memberships: Cache<(ChatId, UserId), Membership>,
    pub user_heads: Cache<UserId, Seq>,
    /// The members of groups, by id.
    pub members: Cache<ChatId, Arc<[UserId]>>,
    /// The chats of users that are not direct ones, by id.
    pub others_of: Cache<UserId, Arc<[ChatId]>>,
    /// Guards who moved lately; it is never behind the position.
    pub recent: Mutex<Recent>,
    /// From when on messages end.
    pub ends: Floor,
    /// From when on messages are to be sent.
    pub sends: Floor,
    /// What waits for the writer.
    pub queue: Queue,
    pub health: Health,
    pub faults: Faults,
    pub sabotage: Option<Sabotage>,
}

impl Shared {
    /// Opens the tables in `folder`; all caches together take as much as the options say.
    pub fn open(folder: &Path, options: &Options, clock: SharedClock) -> Result<Shared> {
        let sixteenth = (options.cache_mib.max(1) << 20) / 16;
        // Most for the engine's blocks; the rows of chats are asked for at every send and every connect.
        let opened = Disk::open(folder, sixteenth * 8, options.feed)?;
        let (disk, epoch) = (opened.disk, opened.epoch);
        let position = disk.position()?;
        Ok(Shared {
            send_keys: Arc::new(SendKeys::open(folder, &disk.engine, opened.send_keys)?),
            disk,
            epoch,
            clock,
            visible: AtomicU64::new(position),
            chats: Cache::of(sixteenth * 4, 600),
            memberships: Cache::of(sixteenth * 2, 208),
            user_heads: Cache::of(sixteenth, 64),
            members: Cache::of(sixteenth / 2, 512),
            others_of: Cache::of(sixteenth / 2, 128),
            recent: Mutex::new(Recent::after(position, RECENT_MOVES_MAX)),
            ends: Floor::default(),
            sends: Floor::default(),
            queue: Queue::new(options),
            health: Health::default(),
            faults: Faults::default(),
            sabotage: options.sabotage,
        })
    }

    /// A chat as it was committed.
    pub fn row(&self, id: ChatId) -> Result<Option<Row>> {
        self.chats
            .get_or_read(id, || self.disk.reader().chat(id, None))
    }

    /// A chat that something points at.
    pub fn known_row(&self, id: ChatId) -> Result<Row> {
        known(self.row(id)?)
    }

    /// What a chat is to somebody, as it was committed.
    pub fn membership(&self, chat: ChatId, user: UserId) -> Result<Option<Membership>> {
        let read = || self.disk.reader().membership(chat, user);
        self.memberships.get_or_read((chat, user), read)
    }

    pub fn user_head(&self, user: UserId) -> Result<Seq> {
        let read = || self.disk.reader().user_head(user).map(Some);
        Ok(self.user_heads.get_or_read(user, read)?.unwrap_or(0))
    }

    /// The members of a group, by id.
    pub fn members(&self, chat: ChatId) -> Result<Arc<[UserId]>> {
        let read = || self.disk.reader().member_ids(chat).map(Some);
        Ok(self.members.get_or_read(chat, read)?.unwrap_or_default())
    }

    /// The chats of a user that are not direct ones, by id.
    pub fn others_of(&self, user: UserId) -> Result<Arc<[ChatId]>> {
        let read = || {
            let chats = index::chats_of(&self.disk.reader(), user)?;
            let others = chats.into_iter().filter(|(_, is_direct)| !is_direct);
            Ok(Some(others.map(|(chat, _)| chat).collect()))
        };
        Ok(self.others_of.get_or_read(user, read)?.unwrap_or_default())
    }

    /// All chats of a user, at one commit: whoever is in a chat finds it as it was when they came in or
    /// later, and never without it.
    pub fn chats_of(&self, user: UserId) -> Result<Vec<Row>> {
        let reader = self.disk.reader();
        let row = |(id, _)| known(reader.chat(id, self.chats.get(id))?);
        index::chats_of(&reader, user)?
            .into_iter()
            .map(row)
            .collect()
    }

    /// A part of a user's list of chats, at one commit.
    pub fn listed(
        &self,
        user: UserId,
        places: &Range<ListPlace>,
        limit: usize,
    ) -> Result<Vec<(ListPlace, Chat)>> {
        let reader = self.disk.reader();
        let row = |place: ListPlace| {
            let row = reader.chat(place.chat, self.chats.get(place.chat))?;
            Ok((place, known(row)?.chat))
        };
        let places = index::listed(&reader, user, places, limit)?.into_iter();
        places.map(row).collect()
    }

    /// Makes a commit visible and gives its facts. The position comes last: whoever reads it finds all the
    /// rest.
    pub fn take_in(&self, round: Round) -> Vec<Fact> {
        {
            let mut recent = self.recent.lock();
            for (id, row) in &round.chats {
                match row.chat.kind {
                    ChatKind::Direct(pair) => {
                        recent.push_direct(round.position, *id, pair.users());
                    }
                    ChatKind::Group | ChatKind::Channel => recent.push(round.position, *id),
                }
            }
        }
        for (id, row) in round.chats {
            self.chats.put(id, row);
        }
        for (key, membership) in round.memberships {
            match membership {
                Some(membership) => self.memberships.put(key, membership),
                None => self.memberships.forget(key),
            }
        }
        for (user, head) in round.own_heads {
            self.user_heads.put(user, head);
        }
        for (chat, members) in round.audiences {
            self.members.put(chat, members);
        }
        for user in round.in_or_out {
            self.others_of.forget(user);
        }
        if let Some(at_ms) = round.ends_from_ms {
            self.ends.put(at_ms);
        }
        if let Some(at_ms) = round.sends_from_ms {
            self.sends.put(at_ms);
        }
        self.visible.store(round.position, Ordering::Release);
        round.facts
    }

    /// Trusts nothing but the disk, which is at `position`.
    pub fn forget(&self, position: u64) {
        self.chats.clear();
        self.memberships.clear();
        self.user_heads.clear();
        self.members.clear();
        self.others_of.clear();
        self.ends.forget();
        self.sends.forget();
        *self.recent.lock() = Recent::after(position, RECENT_MOVES_MAX);
        self.visible.fetch_max(position, Ordering::Release);
    }
}
