//! What people do. A new operation of the contract becomes one more variant here: when it is drawn, and what
//! it calls; what must be true afterwards stands in [`model`](super::model) and [`view`](super::view).

use std::ops::RangeInclusive;

use tertulia_client::{ChatId, Client, UserId};

use super::device::Device;
use super::world::World;
use crate::deed::{Chance, Doer, Kind, chats, some};

/// Something that a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Says something in one of the chats.
    Send,
    /// Opens the direct chat with somebody.
    OpenDirect,
    /// Makes a group with some of the others.
    CreateGroup,
    /// Does something with members or with messages.
    Do(Kind),
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
    (Operation::Do(Kind::Add), 8),
    (Operation::Do(Kind::Remove), 8),
    (Operation::Do(Kind::Leave), 4),
    (Operation::Do(Kind::Edit), 8),
    (Operation::Do(Kind::Delete), 4),
    (Operation::Do(Kind::React), 10),
    (Operation::Do(Kind::Pin), 4),
    (Operation::Do(Kind::MarkRead), 8),
    (Operation::ScrollBack, 4),
    (Operation::ListChats, 4),
    (Operation::GoOffline, 4),
];

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
            Operation::Send => match some(&mut &**world, &chats(client)) {
                Some(view) => send(device, client, view.chat.chat_id).await,
                None => open(device, client).await,
            },
            Operation::OpenDirect => open(device, client).await,
            Operation::CreateGroup => create(device, client).await,
            Operation::Do(kind) => self.with_chat(kind, device, client).await,
            Operation::ScrollBack => {
                let limit = world.draw(PAGE_EVENTS.0..=PAGE_EVENTS.1) as u32;
                if let Some(view) = some(&mut &**world, &chats(client)) {
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

    async fn with_chat(self, kind: Kind, device: &Device, client: &Client) {
        let others = others(device);
        let doer = Doer {
            name: &device.name,
            user: device.user.0,
            others: &others,
            client,
        };
        if let Some((chat, deed)) = kind.choose(&doer, &mut &*device.world) {
            let done = deed.perform(client, chat).await;
            self.tell(device, chat, done);
        }
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
            Operation::Do(kind) => kind.words(),
            Operation::ScrollBack => "scrolls back",
            Operation::ListChats => "lists chats",
            Operation::GoOffline => "goes offline",
        }
    }
}

impl Chance for &World {
    fn pick(&mut self, n: usize) -> usize {
        World::pick(self, n)
    }

    fn number(&mut self, of: RangeInclusive<u64>) -> u64 {
        self.draw(of)
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
