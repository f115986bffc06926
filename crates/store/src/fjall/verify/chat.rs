//! One chat: its log, what its messages say of each other, what is looked up beside them, and its members.

use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tertulia_kit::error::Result;
use tertulia_services::chats::{
    ChatKind, Event, ListPlace, Membership, Message, Role, Seq, Shown, digest,
};
use tertulia_services::ids::UserId;

use super::report::{ChatDigest, Notes};
use super::rows::Rows;
use crate::fjall::reader::Reader;
use crate::rows::codec::{self, StoredChat};
use crate::rows::index;

/// A chat that is being checked, and what was counted of it.
pub struct ChatCheck<'a> {
    reader: &'a Reader<'a>,
    notes: &'a mut Notes,
    row: StoredChat,
    sha: Sha256,
    /// Of the last event that was read.
    seq: Seq,
    position: u64,
    messages: i64,
    last_message: Seq,
    spoke: [Seq; 2],
    deleted_max: Seq,
    pinned: BTreeSet<Seq>,
    /// Where it stands in lists; none when that can not be read.
    place: Option<ListPlace>,
    members: u32,
    owners: u32,
}

impl<'a> ChatCheck<'a> {
    pub fn of(reader: &'a Reader<'a>, notes: &'a mut Notes, row: StoredChat) -> Self {
        ChatCheck {
            reader,
            notes,
            row,
            sha: Sha256::new(),
            seq: 0,
            position: 0,
            messages: 0,
            last_message: 0,
            spoke: [0; 2],
            deleted_max: 0,
            pinned: BTreeSet::new(),
            place: None,
            members: 0,
            owners: 0,
        }
    }

    /// Checks the chat, and takes its events and its members.
    pub fn run(mut self, events: &mut Rows, members: &mut Rows) -> ChatDigest {
        let id = self.row.chat.id;
        loop {
            let notes = &mut *self.notes;
            let stray = |chat, seq| notes.of_event(chat, seq, "an event of no chat");
            let Some(row) = events.next_of(id, stray) else {
                break;
            };
            match codec::read_event(&row.value, id, row.second) {
                Ok((position, event)) => {
                    let checked = self.event(position, event);
                    self.unless_read(checked);
                }
                Err(why) => {
                    self.seq = row.second;
                    self.notes.of_event(id, row.second, why.to_string());
                }
            }
        }
        // One whose last message can not be read has been noted above.
        let whole = self.reader.chat(id, None).ok().flatten();
        self.place = whole.map(|row| row.chat.list_place());
        loop {
            let notes = &mut *self.notes;
            let stray = |chat, user| notes.of_member(chat, UserId(user), "a member of no chat");
            let Some(row) = members.next_of(id, stray) else {
                break;
            };
            let user = UserId(row.second);
            match codec::read_membership(&row.value) {
                Ok(membership) => {
                    let checked = self.member(user, &membership);
                    self.unless_read(checked);
                }
                Err(why) => self.notes.of_member(id, user, why.to_string()),
            }
        }
        let checked = self.whole();
        self.unless_read(checked);
        let mut digest = [0; 16];
        digest.copy_from_slice(&self.sha.finalize()[..16]);
        ChatDigest {
            chat: id,
            head: self.row.chat.head,
            digest,
        }
    }

    fn event(&mut self, position: u64, event: Event) -> Result<()> {
        self.notes.add_event();
        let seq = event.seq;
        if seq != self.seq + 1 {
            self.at(seq, format!("the event before it is {}", self.seq));
        }
        if seq > self.row.chat.head {
            let head = self.row.chat.head;
            self.at(seq, format!("it is beyond the head, which is {head}"));
        }
        if position < self.position || position > self.notes.position() {
            self.at(seq, "its commit is out of order");
        }
        self.seq = seq;
        self.position = position;
        self.messages += i64::from(event.message().is_some());
        if event.messages != self.messages {
            let (says, are) = (event.messages, self.messages);
            self.at(seq, format!("it counts {says} messages where {are} are"));
        }
        if let Some(message) = event.message() {
            self.message(&event, message)?;
        }
        let event = Arc::new(event);
        self.sha.update(digest::leaf(&Shown {
            event,
            hidden: false,
            mine: Vec::new(),
        }));
        Ok(())
    }

    fn message(&mut self, event: &Event, message: &Message) -> Result<()> {
        let (chat, seq) = (self.row.chat.id, event.seq);
        self.last_message = seq;
        if let Some(place) = self.row.chat.pair().and_then(|p| p.place_of(event.actor)) {
            self.spoke[place] = seq;
        }
        if message.pinned {
            self.pinned.insert(seq);
        }
        if message.deletion.is_some() {
            self.deleted_max = seq;
            self.expect(seq, index::deleted(self.reader, chat, seq)?, "a deletion");
        }
        if message.changed != seq {
            if message.changed < seq || message.changed > self.row.chat.head {
                self.at(seq, "its latest change is not of this log");
            }
            let known = index::changed(self.reader, chat, message.changed, seq)?;
            self.expect(seq, known, "a change");
        }
        for user in &message.mentions.users {
            let known = index::mentioned(self.reader, *user, chat, seq)?;
            self.expect(seq, known, "a mention");
        }
        if let Some(role) = message.mentions.calls() {
            let known = index::called(self.reader, chat, role, seq)?;
            self.expect(seq, known, "a call");
            if self.row.chat.details.called_max < seq {
                self.at(seq, "it calls a role, and the chat does not know");
            }
        }
        if let Some(thread) = message.thread {
            let known = index::replied(self.reader, chat, thread, seq)?;
            self.expect(seq, known, "a reply");
        }
        if message.expires_at_ms != 0 {
            let known = index::expires(self.reader, message.expires_at_ms, chat, seq)?;
            self.expect(seq, known, "an expiry");
        }
        self.replies(seq, message)?;
        self.reactions(seq, message)
    }

    fn replies(&mut self, root: Seq, message: &Message) -> Result<()> {
        if message.replies == 0 && message.last_reply == 0 {
            return Ok(());
        }
        let is = index::thread_of(self.reader, self.row.chat.id, root)?;
        if (message.replies, message.last_reply) != is {
            self.at(root, "its thread has other messages than it says");
        }
        Ok(())
    }

    fn reactions(&mut self, seq: Seq, message: &Message) -> Result<()> {
        let chat = self.row.chat.id;
        for reaction in &message.reactions {
            let count = index::reaction_count(self.reader, chat, seq, &reaction.emoji)?;
            if count != reaction.count {
                let says = reaction.count;
                self.at(
                    seq,
                    format!("it counts {says} of a reaction where {count} are"),
                );
            }
        }
        Ok(())
    }

    fn member(&mut self, user: UserId, membership: &Membership) -> Result<()> {
        let chat = self.row.chat.id;
        self.members += 1;
        self.owners += u32::from(membership.role == Role::Owner);
        let listed = index::chat_of(self.reader, user, chat)?;
        let stands = match self.place {
            Some(place) => index::is_listed(self.reader, user, place)?,
            None => true,
        };
        if listed != Some(self.row.chat.kind.is_direct()) || !stands {
            let what = "a membership that the user's list of chats does not have so";
            self.notes.of_member(chat, user, what);
        }
        let reached = membership.delivered.max(membership.seen);
        if reached.max(membership.shown_seen) > self.row.chat.head {
            self.notes
                .of_member(chat, user, "it has read beyond the head");
        }
        // Whoever comes back counts from none, and what was hidden stays so.
        if index::hidden_count(self.reader, user, chat)? < u64::from(membership.hidden) {
            let what = "it counts more hidden messages than there are";
            self.notes.of_member(chat, user, what);
        }
        if let ChatKind::Direct(pair) = self.row.chat.kind
            && !pair.has(user)
        {
            self.notes
                .of_member(chat, user, "a third one in a direct chat");
        }
        Ok(())
    }

    /// What can be said when all was read.
    fn whole(&mut self) -> Result<()> {
        let chat = self.row.chat.clone();
        let details = &chat.details;
        let counts: [(&str, i64, i64); 6] = [
            ("the head", chat.head, self.seq),
            ("the number of messages", chat.messages, self.messages),
            ("the last message", self.row.last_message, self.last_message),
            (
                "the last deleted message",
                details.deleted_max,
                self.deleted_max,
            ),
            (
                "the number of members",
                details.member_count.into(),
                self.members.into(),
            ),
            (
                "the number of pins",
                details.pinned.len() as i64,
                self.pinned.len() as i64,
            ),
        ];
        for (what, says, is) in counts {
            if says != is {
                self.note(format!("{what} is {is}, and the chat says {says}"));
            }
        }
        if !details.pinned.iter().all(|seq| self.pinned.contains(seq)) {
            self.note("a message is pinned in the chat and not in itself");
        }
        if chat.kind.is_direct() && chat.spoke != self.spoke {
            self.note("the two have spoken last elsewhere than the chat says");
        }
        if !chat.kind.is_direct() && self.members > 0 && self.owners != 1 {
            let owners = self.owners;
            self.note(format!("it has {owners} owners"));
        }
        if let ChatKind::Direct(pair) = chat.kind
            && index::direct(self.reader, pair)? != Some(chat.id)
        {
            self.note("the pair does not lead to it");
        }
        if self.row.moved_at.max(self.row.marked_at) > self.notes.position() {
            self.note("it was moved by a commit that is not there");
        }
        Ok(())
    }

    /// What could not be looked up is a problem like others.
    fn unless_read(&mut self, checked: Result<()>) {
        if let Err(why) = checked {
            let id = self.row.chat.id;
            self.notes
                .unreadable(&format!("something of chat {id}"), &why);
        }
    }

    fn expect(&mut self, seq: Seq, known: bool, what: &str) {
        if !known {
            self.at(seq, format!("{what} that can not be looked up"));
        }
    }

    fn at(&mut self, seq: Seq, what: impl Into<String>) {
        self.notes.of_event(self.row.chat.id, seq, what);
    }

    fn note(&mut self, what: impl Into<String>) {
        self.notes.of_chat(self.row.chat.id, what);
    }
}
