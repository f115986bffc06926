//! What people do. A new operation of the contract becomes one more variant here: when it is drawn, and what
//! it calls; what must be true afterwards stands in [`model`](super::model) and [`view`](super::view).

use tertulia_client::proto::chats::event::Body;
use tertulia_client::proto::chats::{ChatKind, Event, Message, Role};
use tertulia_client::{ChatId, ChatView, Client, UserId};

use super::device::Device;
use super::world::World;

/// Something that a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Says something in one of the chats.
    Send,
    /// Opens the direct chat with somebody.
    OpenDirect,
    /// Makes a group with some of the others.
    CreateGroup,
    /// Brings somebody into a group.
    Add,
    /// Removes somebody from a group.
    Remove,
    /// Leaves a group.
    Leave,
    /// Gives an own message another text.
    Edit,
    /// Deletes messages for everybody.
    Delete,
    /// Reacts to a message, or takes it back.
    React,
    /// Pins a message, or unpins it.
    Pin,
    /// Has read a chat up to some message.
    MarkRead,
    /// Reads what was said before.
    ScrollBack,
    /// Looks at the list of chats.
    ListChats,
    /// Closes the application for a while.
    GoOffline,
}

/// How often what is done, in comparison with each other.
const WEIGHTS: [(Operation, u32); 14] = [
    (Operation::Send, 120),
    (Operation::OpenDirect, 8),
    (Operation::CreateGroup, 8),
    (Operation::Add, 8),
    (Operation::Remove, 8),
    (Operation::Leave, 4),
    (Operation::Edit, 8),
    (Operation::Delete, 4),
    (Operation::React, 10),
    (Operation::Pin, 4),
    (Operation::MarkRead, 8),
    (Operation::ScrollBack, 4),
    (Operation::ListChats, 4),
    (Operation::GoOffline, 4),
];

/// With what people react.
const EMOJI: [&str; 2] = ["👍", "🎉"];
/// Among how many of the newest events somebody looks for a message.
const RECENT: usize = 20;
/// How many messages are deleted at once.
const DELETED_MAX: u64 = 3;
/// How much is read when somebody scrolls back.
const PAGE_EVENTS: (u64, u64) = (1, 30);
/// How many chats somebody looks at.
const PAGE_CHATS: u32 = 20;
/// For how long an application is closed, in milliseconds.
const OFFLINE_MS: (u64, u64) = (100, 20_000);

impl Operation {
    /// One of them.
    pub fn draw(world: &World) -> Operation {
        let all: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut at = world.pick(all as usize) as u32;
        for (operation, weight) in WEIGHTS {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return operation,
            }
        }
        Operation::Send
    }

    /// Does it. That a call fails is part of life: what it has done is judged in the end.
    pub async fn perform(self, device: &Device, client: &Client) {
        let world = &device.world;
        world.count(|tally| tally.operations += 1);
        match self {
            Operation::Send => match some(world, &chats(client)) {
                Some(view) => send(device, client, view.chat.chat_id).await,
                None => open(device, client).await,
            },
            Operation::OpenDirect => open(device, client).await,
            Operation::CreateGroup => create(device, client).await,
            Operation::Add | Operation::Remove | Operation::Leave => {
                self.with_members(device, client).await;
            }
            Operation::Edit
            | Operation::Delete
            | Operation::React
            | Operation::Pin
            | Operation::MarkRead => self.with_messages(device, client).await,
            Operation::ScrollBack => {
                let limit = world.draw(PAGE_EVENTS.0..=PAGE_EVENTS.1) as u32;
                if let Some(view) = some(world, &chats(client)) {
                    let read = client.older(view.chat.chat_id, limit).await;
                    let read = read.map_err(|e| e.to_string());
                    world.note(&device.name, format_args!("scrolls back: {read:?}"));
                }
            }
            Operation::ListChats => {
                let listed = client.list_chats(PAGE_CHATS, "").await;
                let listed = listed
                    .map(|page| page.chats.len())
                    .map_err(|e| e.to_string());
                world.note(&device.name, format_args!("lists chats: {listed:?}"));
            }
            Operation::GoOffline => {
                client.stop().await;
                world.pause(OFFLINE_MS).await;
                client.start();
            }
        }
    }

    async fn with_members(self, device: &Device, client: &Client) {
        let is_group = |view: &ChatView| view.chat.kind == ChatKind::CHAT_KIND_GROUP;
        let keeps_order = |view: &ChatView| view.role as i32 >= Role::ROLE_ADMIN as i32;
        let mut groups = chats(client);
        groups.retain(|view| is_group(view) && keeps_order(view) != (self == Operation::Leave));
        let Some(group) = some(&device.world, &groups) else {
            return;
        };
        let (chat, user) = (group.chat.chat_id, somebody(device));
        let done = match self {
            Operation::Add => {
                let role = Role::ROLE_UNSPECIFIED;
                let added = client.add_members(chat, vec![user], role).await;
                added.map(|added| added.len() as i64)
            }
            Operation::Remove => client.remove_member(chat, user).await,
            _ => client.leave(chat).await.map(|()| 0),
        };
        self.tell(device, chat, done);
    }

    async fn with_messages(self, device: &Device, client: &Client) {
        let world = &device.world;
        let chats = chats(client);
        let Some(view) = some(world, &chats) else {
            return;
        };
        let chat = view.chat.chat_id;
        let events = client.chat(chat, RECENT).map(|view| view.events);
        let events = events.unwrap_or_default();
        let may = |event: &&Event| self != Operation::Edit || event.actor_id == device.user.0;
        let there = events.iter().filter(may);
        let there = there.filter_map(|event| Some((event.seq, message(event)?)));
        let there: Vec<(i64, &Message)> = there.collect();
        let Some(&(seq, message)) = some(world, &there) else {
            return;
        };
        let done = match self {
            Operation::Edit => {
                let number = world.draw(0..=999_999);
                let text = format!("{} edits {number}", device.name);
                client.edit(chat, seq, &text, None).await
            }
            Operation::Delete => {
                let from = there.iter().map(|(seq, _)| *seq).filter(|one| *one >= seq);
                let most = world.draw(1..=DELETED_MAX) as usize;
                client.delete(chat, from.take(most).collect()).await
            }
            Operation::React => {
                let emoji = EMOJI[world.pick(EMOJI.len())];
                let mut reactions = message.reactions.iter();
                match reactions.any(|reaction| reaction.mine && reaction.emoji == emoji) {
                    true => client.unreact(chat, seq, emoji).await,
                    false => client.react(chat, seq, emoji).await,
                }
            }
            Operation::Pin if message.pinned => client.unpin(chat, seq).await,
            Operation::Pin => client.pin(chat, seq).await,
            _ => client.mark_read(chat, seq).await.map(|()| seq),
        };
        self.tell(device, chat, done);
    }

    fn tell(self, device: &Device, chat: ChatId, done: tertulia_client::Result<i64>) {
        let world = &device.world;
        if done.is_ok() {
            world.reach(self.words());
        }
        let done = done.map_err(|e| e.to_string());
        let words = format_args!("{}, chat {chat}: {done:?}", self.words());
        world.note(&device.name, words);
    }

    /// What is done, for the trace and for the list of what came about.
    fn words(self) -> &'static str {
        match self {
            Operation::Send => "writes",
            Operation::OpenDirect => "opens a chat",
            Operation::CreateGroup => "makes a group",
            Operation::Add => "adds somebody",
            Operation::Remove => "removes somebody",
            Operation::Leave => "leaves",
            Operation::Edit => "edits",
            Operation::Delete => "deletes",
            Operation::React => "reacts",
            Operation::Pin => "pins",
            Operation::MarkRead => "has read",
            Operation::ScrollBack => "scrolls back",
            Operation::ListChats => "lists chats",
            Operation::GoOffline => "goes offline",
        }
    }
}

/// The chats that the person is in.
fn chats(client: &Client) -> Vec<ChatView> {
    let mut chats = client.chats();
    chats.retain(|view| view.left.is_none());
    chats.sort_by_key(|view| view.chat.chat_id);
    chats
}

fn some<'a, T>(world: &World, of: &'a [T]) -> Option<&'a T> {
    (!of.is_empty()).then(|| &of[world.pick(of.len())])
}

fn message(event: &Event) -> Option<&Message> {
    match &event.body {
        Some(Body::Message(message)) => Some(message),
        _ => None,
    }
}

fn others(device: &Device) -> Vec<UserId> {
    let people = device.people.lock();
    let others = people.iter().filter(|user| **user != device.user);
    others.map(|user| user.0).collect()
}

fn somebody(device: &Device) -> UserId {
    let others = others(device);
    others[device.world.pick(others.len())]
}

async fn send(device: &Device, client: &Client, chat: ChatId) {
    let world = &device.world;
    let mut number = 0;
    world.count(|tally| {
        tally.sends += 1;
        number = tally.sends;
    });
    let mut text = format!("{} {number}", device.name);
    let chars = world.draw(1..=world.plan.text_chars_max) as usize;
    text.extend(std::iter::repeat_n('ñ', chars.saturating_sub(text.len())));
    world.note(&device.name, format_args!("writes {text:.20}"));
    _ = client.send(chat, &text).await;
}

async fn open(device: &Device, client: &Client) {
    let other = somebody(device);
    let opened = client.open_direct(other).await;
    let opened = opened.map(|chat| chat.head).map_err(|e| e.to_string());
    let words = format_args!("opens the chat with {other}: {opened:?}");
    device.world.note(&device.name, words);
}

async fn create(device: &Device, client: &Client) {
    let world = &device.world;
    let mut members = others(device);
    members.retain(|_| world.hits(700));
    let made = client.create_group("a group", members).await;
    let made = made.map(|chat| chat.chat_id);
    let chat = *made.as_ref().unwrap_or(&0);
    Operation::CreateGroup.tell(device, chat, made);
}
