//! What people do. A new operation of the contract becomes one more variant here: when it is drawn, and what
//! it calls; what must be true afterwards stands in [`model`](super::model).

use tertulia_client::{ChatId, Client};

use super::device::Device;
use super::world::World;

/// Something that a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Says something in one of the chats.
    Send,
    /// Opens the direct chat with somebody.
    OpenDirect,
    /// Reads what was said before.
    ScrollBack,
    /// Looks at the list of chats.
    ListChats,
    /// Closes the application for a while.
    GoOffline,
}

/// How often what is done, in comparison with each other.
const WEIGHTS: [(Operation, u32); 5] = [
    (Operation::Send, 80),
    (Operation::OpenDirect, 8),
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
            Operation::Send => match some_chat(world, client) {
                Some(chat) => send(device, client, chat).await,
                None => open(device, client).await,
            },
            Operation::OpenDirect => open(device, client).await,
            Operation::ScrollBack => {
                let limit = world.draw(PAGE_EVENTS.0..=PAGE_EVENTS.1) as u32;
                if let Some(chat) = some_chat(world, client) {
                    let read = client.older(chat, limit).await.map_err(|e| e.to_string());
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
}

fn some_chat(world: &World, client: &Client) -> Option<ChatId> {
    let mut chats: Vec<ChatId> = client.chats().iter().map(|v| v.chat.chat_id).collect();
    chats.sort_unstable();
    (!chats.is_empty()).then(|| chats[world.pick(chats.len())])
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
    let others: Vec<_> = {
        let people = device.people.lock();
        people
            .iter()
            .copied()
            .filter(|user| *user != device.user)
            .collect()
    };
    let other = others[device.world.pick(others.len())];
    let opened = client.open_direct(other.0).await;
    let opened = opened.map(|chat| chat.head).map_err(|e| e.to_string());
    let words = format_args!("opens the chat with {other}: {opened:?}");
    device.world.note(&device.name, words);
}
