//! A part of a log in short, so that two who hold it can see whether they hold the same.
//!
//! The leaf of a message is SHA-256 over: `m`, its seq, its id, its latest change, a byte (0 there, 1 deleted,
//! 2 hidden) and its text when it is there. The leaf of any other event is SHA-256 over: `e`, its seq, the
//! number of its body's field in the contract and its actor. Numbers are 8 bytes, big-endian. A digest is the
//! first 16 bytes of SHA-256 over the leaves of its events in their order.

use std::ops::RangeInclusive;

use sha2::{Digest as _, Sha256};
use tertulia_kit::error::Result;

use super::model::{Event, EventBody, Seq};
use super::ports::ChatStore;
use super::shown::{self, Shown};
use crate::errors;
use crate::ids::{ChatId, UserId};

/// How many events one call may cover.
const PART_MAX: Seq = 10_000;
/// How many events go into one digest when nobody chose.
const BLOCK: usize = 500;
/// How many events are read at once.
const READ_AT_ONCE: usize = 500;
/// How often a part is read that changes meanwhile.
const TRIES_MAX: u32 = 3;

/// A part of a log in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// The first seq.
    pub from: Seq,
    /// The last seq.
    pub to: Seq,
    /// It.
    pub digest: [u8; 16],
}

/// Digests of a part of a log as a user sees it, and the head that they are true for. When the part changes
/// under the reading too often, they may be of different heads: whoever compares then reads too much again and
/// never too little.
pub async fn of_part(
    store: &dyn ChatStore,
    user: UserId,
    chat: ChatId,
    from: Seq,
    to: Seq,
    block: usize,
) -> Result<(Vec<Digest>, Seq)> {
    if to - from >= PART_MAX {
        let problem = "must be less than 10,000 above from_seq";
        return Err(errors::invalid_field("to_seq", "int64.lte", problem));
    }
    let block = if block == 0 { BLOCK } else { block };
    let mut tries = 0;
    loop {
        let (digests, heads) = read_part(store, user, chat, (from, to), block).await?;
        tries += 1;
        let is_of_one_head = *heads.start() == *heads.end() || {
            let changes = store.changes(chat, from..=to, *heads.start(), 1).await?;
            changes.events.is_empty()
        };
        if is_of_one_head || tries == TRIES_MAX {
            return Ok((digests, *heads.end()));
        }
    }
}

/// Digests of a part, and the heads at the first look and at the last.
async fn read_part(
    store: &dyn ChatStore,
    user: UserId,
    chat: ChatId,
    (from, to): (Seq, Seq),
    block: usize,
) -> Result<(Vec<Digest>, RangeInclusive<Seq>)> {
    let (mut digests, mut open, mut after) = (Vec::new(), Block::default(), from - 1);
    let mut first_head = None;
    loop {
        let page = store.events_after(chat, after, READ_AT_ONCE).await?;
        let head = page.head;
        let first_head = *first_head.get_or_insert(head);
        let events = shown::events(store, user, chat, page.events).await?;
        let is_last = events.last().is_none_or(|last| last.event.seq >= to);
        for shown in events.iter().filter(|shown| shown.event.seq <= to) {
            open.add(shown.event.seq, &leaf(shown));
            if open.count == block {
                digests.extend(open.close());
            }
            after = shown.event.seq;
        }
        if is_last {
            digests.extend(open.close());
            return Ok((digests, first_head..=head));
        }
    }
}

/// What an event is in short.
pub fn leaf(shown: &Shown) -> [u8; 32] {
    let event = &*shown.event;
    let mut sha = Sha256::new();
    match &event.body {
        EventBody::Message(message) => {
            let state = match (message.deletion.is_some(), shown.hidden) {
                (true, _) => 1,
                (false, true) => 2,
                (false, false) => 0,
            };
            sha.update(b"m");
            sha.update(event.seq.to_be_bytes());
            sha.update(message.id.0.to_be_bytes());
            sha.update(message.changed.to_be_bytes());
            sha.update([state]);
            if state == 0 {
                sha.update(message.text.as_bytes());
            }
        }
        _ => {
            sha.update(b"e");
            sha.update(event.seq.to_be_bytes());
            sha.update(field_number(event).to_be_bytes());
            sha.update(event.actor.0.to_be_bytes());
        }
    }
    sha.finalize().into()
}

/// The number of the body's field in the contract.
fn field_number(event: &Event) -> i64 {
    match event.body {
        EventBody::Message(_) => 5,
        EventBody::Edited { .. } => 6,
        EventBody::Deleted { .. } => 7,
        EventBody::Reacted { .. } => 8,
        EventBody::Unreacted { .. } => 9,
        EventBody::Pinned(_) => 10,
        EventBody::Unpinned(_) => 11,
        EventBody::Created { .. } => 12,
        EventBody::Changed { .. } => 13,
        EventBody::Added { .. } => 14,
        EventBody::Joined { .. } => 15,
        EventBody::Left { .. } => 16,
        EventBody::Removed { .. } => 17,
        EventBody::Banned { .. } => 18,
        EventBody::Unbanned(_) => 19,
        EventBody::RoleChanged { .. } => 20,
    }
}

/// Leaves that go into one digest.
#[derive(Default)]
struct Block {
    sha: Sha256,
    from: Seq,
    to: Seq,
    count: usize,
}

impl Block {
    fn add(&mut self, seq: Seq, leaf: &[u8; 32]) {
        if self.count == 0 {
            self.from = seq;
        }
        self.to = seq;
        self.count += 1;
        self.sha.update(leaf);
    }

    /// The digest, when there is something in it.
    fn close(&mut self) -> Option<Digest> {
        let block = std::mem::take(self);
        let mut digest = [0; 16];
        digest.copy_from_slice(&block.sha.finalize()[..16]);
        (block.count > 0).then_some(Digest {
            from: block.from,
            to: block.to,
            digest,
        })
    }
}
