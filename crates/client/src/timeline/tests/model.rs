//! A chat as the server has it, with every state that it was in.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tertulia_proto::chats::*;

use super::super::Stale;
use super::Body;

pub const ME: i64 = 7;
pub const OTHER: i64 = 9;
pub const THIRD: i64 = 8;
const EMOJIS: [&str; 3] = ["👍", "🎉", "😀"];

/// What somebody does; numbers choose among what there is.
#[derive(Debug, Clone)]
pub enum Act {
    Send {
        actor: i64,
        thread: Option<usize>,
        mention: u8,
    },
    Edit {
        at: usize,
        mention: u8,
    },
    Delete {
        at: usize,
        also: usize,
    },
    React {
        actor: i64,
        at: usize,
        emoji: usize,
    },
    Pin {
        at: usize,
    },
    Change {
        title: bool,
    },
    Count {
        by: i32,
    },
    Role {
        role: i32,
    },
    Read {
        back: i64,
    },
    Reach {
        actor: i64,
        back: i64,
        seen: bool,
    },
    Hide {
        at: usize,
    },
    Choose,
    Draft {
        on: bool,
    },
}

/// It. Index 0 of what is kept by seq is what was before the first event.
pub struct Model {
    /// The log as it was at each head.
    pub states: Vec<Vec<Rc<Event>>>,
    pub chats: Vec<Chat>,
    pub roles: Vec<Role>,
    /// Who gave which reaction to what.
    reactions: BTreeSet<(i64, &'static str, i64)>,
    pub hidden: BTreeSet<i64>,
    pub seen: i64,
    pub settings: ChatSettings,
    pub draft: Option<Draft>,
    pub receipts: BTreeMap<i64, Receipt>,
    pub own: Vec<UserEvent>,
}

impl Model {
    pub fn new() -> Self {
        let chat = Chat {
            chat_id: 1,
            member_count: 3,
            ..Default::default()
        };
        Model {
            states: vec![Vec::new()],
            chats: vec![chat],
            roles: vec![Role::ROLE_MEMBER],
            reactions: BTreeSet::new(),
            hidden: BTreeSet::new(),
            seen: 0,
            settings: ChatSettings::default(),
            draft: None,
            receipts: BTreeMap::new(),
            own: Vec::new(),
        }
    }

    pub fn head(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    /// The event as it was at a head.
    pub fn at(&self, head: i64, seq: i64) -> &Event {
        &self.states[head as usize][seq as usize - 1]
    }

    /// The event as it was sent, as a live frame has it.
    pub fn sent(&self, seq: i64) -> Event {
        self.at(seq, seq).clone()
    }

    /// The messages that are not deleted.
    fn there(&self) -> Vec<i64> {
        let now = &self.states[self.head() as usize];
        let is_there = |event: &&Rc<Event>| match &event.body {
            Some(Body::Message(message)) => !message.deletion.is_set(),
            _ => false,
        };
        now.iter().filter(is_there).map(|event| event.seq).collect()
    }

    fn choose(&self, at: usize) -> Option<i64> {
        let there = self.there();
        (!there.is_empty()).then(|| there[at % there.len()])
    }

    fn append(&mut self, actor_id: i64, body: Body) -> i64 {
        let seq = self.head() + 1;
        let mut state = self.states[seq as usize - 1].clone();
        state.push(Rc::new(Event {
            chat_id: 1,
            seq,
            actor_id,
            at_ms: 10 * seq,
            body: Some(body),
            ..Default::default()
        }));
        self.states.push(state);
        let mut chat = self.chats[seq as usize - 1].clone();
        chat.head = seq;
        self.chats.push(chat);
        self.roles.push(self.roles[seq as usize - 1]);
        seq
    }

    fn rewrite(&mut self, seq: i64, by: impl FnOnce(&mut Event)) {
        let state = self.states.last_mut().expect("there is a state");
        by(Rc::make_mut(&mut state[seq as usize - 1]));
    }

    fn change(&mut self, seq: i64, by: impl FnOnce(&mut Message)) {
        let head = self.head();
        self.rewrite(seq, |event| {
            if let Some(Body::Message(message)) = &mut event.body {
                by(message);
                message.changed_seq = head;
            }
        });
    }

    fn chat_mut(&mut self) -> &mut Chat {
        self.chats.last_mut().expect("there is a chat")
    }

    fn own(&mut self, body: super::OwnBody) {
        let seq = self.own.len() as i64 + 1;
        self.own.push(UserEvent {
            seq,
            body: Some(body),
            ..Default::default()
        });
    }

    fn mentions(&self, choice: u8) -> Mentions {
        let mut mentions = Mentions::default();
        match choice % 6 {
            0 => mentions.user_ids = vec![ME],
            1 => mentions.user_ids = vec![THIRD],
            2 => mentions.everyone = true,
            3 => mentions.role = Role::ROLE_ADMIN.into(),
            _ => {}
        }
        mentions
    }

    /// Does it. A thing that changes nothing makes no event.
    pub fn act(&mut self, act: Act) {
        match act {
            Act::Send {
                actor,
                thread,
                mention,
            } => {
                let root = thread.and_then(|at| self.choose(at));
                let hangs = |seq: &i64| match &self.at(self.head(), *seq).body {
                    Some(Body::Message(message)) => message.thread_seq > 0,
                    _ => true,
                };
                let thread_seq = root.filter(|seq| !hangs(seq)).unwrap_or(0);
                let seq = self.head() + 1;
                let message = Message {
                    message_id: 1_000 + seq,
                    text: format!("text {seq}"),
                    changed_seq: seq,
                    thread_seq,
                    mentions: self.mentions(mention).into(),
                    ..Default::default()
                };
                self.append(actor, message.into());
                if thread_seq > 0 {
                    self.change(thread_seq, |root| {
                        root.reply_count += 1;
                        root.last_reply_seq = seq;
                    });
                }
                if actor == ME {
                    self.seen = seq;
                }
                self.reach(actor, seq, seq);
            }
            Act::Edit { at, mention } => {
                let Some(message_seq) = self.choose(at) else {
                    return;
                };
                let actor = self.at(self.head(), message_seq).actor_id;
                let text = format!("text {message_seq} as of {}", self.head() + 1);
                let mentions = self.mentions(mention);
                let edited = MessageEdited {
                    message_seq,
                    text: text.clone(),
                    mentions: mentions.clone().into(),
                    ..Default::default()
                };
                let seq = self.append(actor, edited.into());
                self.change(message_seq, |message| {
                    message.text = text;
                    message.mentions = mentions.into();
                    message.edited_at_ms = 10 * seq;
                });
            }
            Act::Delete { at, also } => {
                let Some(first) = self.choose(at) else { return };
                let second = self.choose(also).filter(|seq| *seq != first);
                let message_seqs: Vec<i64> = [first].into_iter().chain(second).collect();
                let reason = DeletionReason::DELETION_REASON_MODERATOR;
                let body = MessagesDeleted {
                    message_seqs: message_seqs.clone(),
                    reason: reason.into(),
                    ..Default::default()
                };
                self.append(OTHER, body.into());
                message_seqs.iter().for_each(|seq| self.erase(*seq, reason));
            }
            Act::React { actor, at, emoji } => {
                let Some(message_seq) = self.choose(at) else {
                    return;
                };
                let emoji = EMOJIS[emoji % EMOJIS.len()];
                self.react(actor, message_seq, emoji);
            }
            Act::Pin { at } => {
                let Some(message_seq) = self.choose(at) else {
                    return;
                };
                let pinned = self.chats[self.head() as usize]
                    .pinned_seqs
                    .contains(&message_seq);
                let pin = Pin {
                    message_seq,
                    ..Default::default()
                };
                let body = match pinned {
                    true => Body::Unpinned(Box::new(pin)),
                    false => Body::Pinned(Box::new(pin)),
                };
                self.append(OTHER, body);
                self.change(message_seq, |message| message.pinned = !pinned);
                let pins = &mut self.chat_mut().pinned_seqs;
                match pinned {
                    true => pins.retain(|seq| *seq != message_seq),
                    false => pins.insert(0, message_seq),
                }
            }
            Act::Change { title } => {
                let text = format!("named {}", self.head() + 1);
                let changed = match title {
                    true => ChatChanged {
                        title: Some(text.clone()),
                        ..Default::default()
                    },
                    false => ChatChanged {
                        topic: Some(text.clone()),
                        ..Default::default()
                    },
                };
                self.append(OTHER, changed.into());
                let chat = self.chat_mut();
                match title {
                    true => chat.title = text,
                    false => chat.topic = text,
                }
            }
            Act::Count { by } => {
                let member_count = (self.chats[self.head() as usize].member_count + by).max(3);
                let added = MembersAdded {
                    member_count,
                    ..Default::default()
                };
                let seq = self.append(OTHER, added.into());
                let chat = self.chat_mut();
                (chat.member_count, chat.members_seq) = (member_count, seq);
            }
            Act::Role { role } => {
                let role = match role % 3 {
                    0 => Role::ROLE_READER,
                    1 => Role::ROLE_MEMBER,
                    _ => Role::ROLE_ADMIN,
                };
                let changed = RoleChanged {
                    user_id: ME,
                    role: role.into(),
                    ..Default::default()
                };
                let seq = self.append(OTHER, changed.into());
                self.chat_mut().members_seq = seq;
                *self.roles.last_mut().expect("there is a role") = role;
            }
            Act::Read { back } => {
                let seen = (self.head() - back).max(0);
                if seen > self.seen {
                    self.seen = seen;
                    self.settings.marked_unread = false;
                    let read = self.read_state(self.head(), seen);
                    let moved = ReadMoved {
                        chat_id: 1,
                        read: read.into(),
                        ..Default::default()
                    };
                    self.own(moved.into());
                }
            }
            Act::Reach { actor, back, seen } => {
                let seq = (self.head() - back).max(0);
                self.reach(actor, seq, if seen { seq } else { 0 });
            }
            Act::Hide { at } => {
                let Some(seq) = self.choose(at) else { return };
                if self.hidden.insert(seq) {
                    let message_seqs = vec![seq];
                    let hidden = MessagesHidden {
                        chat_id: 1,
                        message_seqs,
                        ..Default::default()
                    };
                    self.own(hidden.into());
                }
            }
            Act::Choose => {
                self.settings.marked_unread = true;
                self.settings.muted_until_ms += 1;
                let settings = self.settings.clone().into();
                let changed = SettingsChanged {
                    chat_id: 1,
                    settings,
                    ..Default::default()
                };
                self.own(changed.into());
            }
            Act::Draft { on } => {
                let text = format!("draft {}", self.own.len());
                self.draft = on.then(|| Draft {
                    text,
                    ..Default::default()
                });
                let draft = self.draft.clone().map_or_else(Default::default, Into::into);
                self.own(
                    DraftChanged {
                        chat_id: 1,
                        draft,
                        ..Default::default()
                    }
                    .into(),
                );
            }
        }
    }

    fn erase(&mut self, seq: i64, reason: DeletionReason) {
        let deletion = Deletion {
            reason: reason.into(),
            by: OTHER,
            ..Default::default()
        };
        self.change(seq, |message| {
            *message = Message {
                message_id: message.message_id,
                client_message_id: std::mem::take(&mut message.client_message_id),
                device_id: std::mem::take(&mut message.device_id),
                thread_seq: message.thread_seq,
                reply_count: message.reply_count,
                last_reply_seq: message.last_reply_seq,
                deletion: deletion.into(),
                ..Default::default()
            };
        });
        self.reactions.retain(|(of, ..)| *of != seq);
        self.chat_mut().pinned_seqs.retain(|pinned| *pinned != seq);
        let edits: Vec<i64> = self.states[self.head() as usize]
            .iter()
            .filter(
                |event| matches!(&event.body, Some(Body::MessageEdited(e)) if e.message_seq == seq),
            )
            .map(|event| event.seq)
            .collect();
        for edit in edits {
            self.rewrite(edit, |event| {
                if let Some(Body::MessageEdited(edited)) = &mut event.body {
                    edited.text.clear();
                    edited.mentions.take();
                }
            });
        }
    }

    fn react(&mut self, actor: i64, message_seq: i64, emoji: &'static str) {
        let key = (message_seq, emoji, actor);
        let on = !self.reactions.contains(&key);
        let reaction = Reaction {
            message_seq,
            emoji: emoji.into(),
            ..Default::default()
        };
        let body = match on {
            true => Body::ReactionAdded(Box::new(reaction)),
            false => Body::ReactionRemoved(Box::new(reaction)),
        };
        self.append(actor, body);
        match on {
            true => _ = self.reactions.insert(key),
            false => _ = self.reactions.remove(&key),
        }
        let count = |emoji: &str| {
            let given = self
                .reactions
                .iter()
                .filter(|(of, e, _)| *of == message_seq && *e == emoji);
            given.count() as i32
        };
        let counts = EMOJIS.map(|emoji| (emoji, count(emoji)));
        let mine = EMOJIS.map(|emoji| self.reactions.contains(&(message_seq, emoji, ME)));
        self.change(message_seq, |message| {
            if on && message.reactions.iter().all(|r| r.emoji != emoji) {
                let emoji = emoji.to_owned();
                message.reactions.push(ReactionCount {
                    emoji,
                    ..Default::default()
                });
            }
            for reaction in &mut message.reactions {
                let at = EMOJIS
                    .iter()
                    .position(|e| *e == reaction.emoji)
                    .expect("a known one");
                (reaction.count, reaction.mine) = (counts[at].1, mine[at]);
            }
            message.reactions.retain(|reaction| reaction.count > 0);
        });
    }

    fn reach(&mut self, user_id: i64, delivered: i64, seen: i64) {
        let receipt = self.receipts.entry(user_id).or_insert_with(|| Receipt {
            user_id,
            ..Default::default()
        });
        receipt.delivered_seq = receipt.delivered_seq.max(delivered);
        receipt.seen_seq = receipt.seen_seq.max(seen);
    }

    /// What is unread at a head of somebody who has seen so much: everything counted anew.
    pub fn read_state(&self, head: i64, seen: i64) -> ReadState {
        let (mut unread, mut unread_mentions) = (0, 0);
        for event in &self.states[head as usize][seen.min(head) as usize..] {
            let Some(Body::Message(message)) = &event.body else {
                continue;
            };
            if event.actor_id == ME || message.deletion.is_set() {
                continue;
            }
            unread += 1;
            let role = message.mentions.role.to_i32();
            let called = role != 0 && self.roles[head as usize] as i32 >= role;
            let mentions = &message.mentions;
            if mentions.everyone || mentions.user_ids.contains(&ME) || called {
                unread_mentions += 1;
            }
        }
        ReadState {
            seen_seq: seen,
            unread,
            unread_mentions,
            as_of_seq: head,
            ..Default::default()
        }
    }

    /// Events as an answer has them now.
    pub fn answer(&self, range: impl Iterator<Item = i64>) -> Vec<Event> {
        range.map(|seq| self.shown(seq)).collect()
    }

    /// An event as the user sees it now.
    pub fn shown(&self, seq: i64) -> Event {
        let mut event = self.at(self.head(), seq).clone();
        if let Some(Body::Message(message)) = &mut event.body
            && self.hidden.contains(&seq)
            && !message.deletion.is_set()
        {
            message.hidden = true;
            message.text.clear();
        }
        event
    }

    /// The answer to ListChanges, with at most so many messages unless one event changed more: them, through
    /// which seq, and whether there are more.
    pub fn changes(&self, stale: Stale, limit: usize) -> (Vec<Event>, i64, bool) {
        let all = (stale.from..=stale.to).map(|seq| self.shown(seq));
        let changed_seq = super::fold::changed_seq;
        let is_changed = |event: &Event| {
            super::fold::message(event).is_some_and(|m| m.changed_seq > stale.after)
        };
        let mut changed: Vec<Event> = all.filter(is_changed).collect();
        changed.sort_by_key(changed_seq);
        let Some(last) = changed.get(limit - 1).map(changed_seq) else {
            return (changed, self.head(), false);
        };
        let whole = changed
            .iter()
            .take_while(|event| changed_seq(event) <= last)
            .count();
        let more = whole < changed.len();
        changed.truncate(whole);
        (changed, if more { last } else { self.head() }, more)
    }

    /// The answer to GetChat.
    pub fn chat(&self) -> Chat {
        let head = self.head();
        let membership = Membership {
            role: self.roles[head as usize].into(),
            read: self.read_state(head, self.seen).into(),
            settings: self.settings.clone().into(),
            draft: self.draft.clone().map_or_else(Default::default, Into::into),
            ..Default::default()
        };
        let mut chat = self.chats[head as usize].clone();
        chat.membership = membership.into();
        chat
    }
}
