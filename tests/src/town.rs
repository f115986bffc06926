//! People who talk through real clients with durable outboxes, and the record of what they did and saw.
//!
//! Everybody sits in a ring and talks with both neighbours, on one or more devices each, and in groups that come
//! about. What they do is a [`Traffic`]; when the contract learns a new operation it becomes a
//! [`Deed`](crate::deed::Deed), and every test that has people in it does it too.

mod device;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _};
use tertulia_client::{ChatId, Options, UserId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::deed::Kind;
pub use device::Device;

/// Something that a device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Says something in one of its chats.
    Say,
    /// Makes a group.
    CreateGroup,
    /// Does something with members or with messages.
    Do(Kind),
}

/// What devices do all the time.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// What, and with what weight.
    pub acts: Vec<(Act, u32)>,
    /// How many messages may wait in a device's outbox before it stops to think.
    pub waiting_max: usize,
    /// How long a text is, in characters, beside the words that make it unique.
    pub text_chars: RangeInclusive<usize>,
    /// How long a device thinks between two acts.
    pub thought: RangeInclusive<Duration>,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic {
            acts: vec![
                (Act::Say, 60),
                (Act::CreateGroup, 2),
                (Act::Do(Kind::Add), 3),
                (Act::Do(Kind::Remove), 2),
                (Act::Do(Kind::Leave), 1),
                (Act::Do(Kind::Edit), 8),
                (Act::Do(Kind::Delete), 3),
                (Act::Do(Kind::React), 10),
                (Act::Do(Kind::Pin), 3),
                (Act::Do(Kind::MarkRead), 8),
            ],
            waiting_max: 24,
            text_chars: 0..=200,
            thought: Duration::ZERO..=Duration::from_millis(40),
        }
    }
}

impl Traffic {
    fn draw(&self, random: &mut StdRng) -> Act {
        let all: u32 = self.acts.iter().map(|(_, weight)| weight).sum();
        let mut at = random.random_range(0..all.max(1));
        for (act, weight) in &self.acts {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *act,
            }
        }
        Act::Say
    }
}

/// Who lives in a town.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many people; two at least.
    pub people: usize,
    /// How many devices each has.
    pub devices_each: usize,
    /// The bounds of their clients.
    pub options: Options,
    /// Whether the second and further devices skip what they missed when it is much, and read it only when
    /// somebody scrolls there.
    pub others_skip: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            people: 4,
            devices_each: 1,
            options: quick(),
            others_skip: false,
        }
    }
}

/// Bounds of clients that are quick to come back, so that much happens between two faults, and that never give
/// up a hole, so that each must end with everything.
pub fn quick() -> Options {
    Options {
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(100),
        connect_timeout: Duration::from_secs(5),
        call_timeout: Duration::from_secs(5),
        fresh_events: 1_000_000,
        hole_events_max: 1_000_000,
        memory_events_max: 1_000_000,
        ..Options::default()
    }
}

/// The same of clients that skip what they missed when it is more than a little, and bring what they hold up
/// to date later.
fn skipping(options: &Options) -> Options {
    Options {
        fresh_events: 1,
        hole_events_max: 1,
        ..options.clone()
    }
}

/// The password of an account in these tests.
pub fn password(account: &str) -> String {
    // A password that has the name in it is refused.
    let name: String = account.chars().rev().collect();
    format!("correct horse of {name}")
}

/// What everybody in a town may know while it goes on.
#[derive(Clone)]
pub struct News {
    /// How many messages were acknowledged.
    acks: watch::Sender<u64>,
    /// The highest acknowledged seq of each chat. The lock guards the map, for one look or one insertion.
    heads: Arc<parking_lot::Mutex<HashMap<i64, i64>>>,
}

impl News {
    /// The highest acknowledged seq of a chat; 0 for none.
    pub fn acked_head(&self, chat: i64) -> i64 {
        self.heads.lock().get(&chat).copied().unwrap_or(0)
    }
}

/// A town and everybody's record.
pub struct Town {
    /// All devices; those of one person are neighbours.
    pub devices: Vec<Arc<Device>>,
    news: News,
    stop: watch::Sender<bool>,
    acting: Vec<JoinHandle<Result<()>>>,
    signing_in: Vec<JoinHandle<()>>,
    /// Where the server is reached.
    url: String,
}

impl Town {
    /// Everybody signs up, by way of `url` and the last device by way of its own if it has one, opens the chats with the neighbours, and connects.
    ///
    /// # Errors
    /// When the server refuses one of them.
    pub async fn found(url: &str, last_url: Option<String>, plan: &Plan) -> Result<Town> {
        let news = News {
            acks: watch::Sender::new(0),
            heads: Arc::default(),
        };
        let mut people: Vec<Vec<Device>> = Vec::new();
        for person in 0..plan.people {
            let account = format!("person{person}");
            let mut devices = Vec::new();
            for nth in 0..plan.devices_each {
                let last = person + 1 == plan.people && nth + 1 == plan.devices_each;
                let url = last_url.as_deref().filter(|_| last).unwrap_or(url);
                let skips = plan.others_skip && nth > 0;
                let joined = Device::join(url, &account, nth, plan, skips, &news).await;
                devices.push(joined.with_context(|| format!("{account} can not join"))?);
            }
            people.push(devices);
        }
        let mut chats: Vec<BTreeSet<i64>> = vec![BTreeSet::new(); people.len()];
        for at in 0..people.len() {
            let next = (at + 1) % people.len();
            let other = people[next][0]
                .client
                .user_id()
                .context("nobody is signed in")?;
            let chat = people[at][0].client.open_direct(other).await?.chat_id;
            chats[at].insert(chat);
            chats[next].insert(chat);
        }
        let users: Vec<UserId> = people.iter().map(|devices| devices[0].user).collect();
        for (devices, chats) in people.iter_mut().zip(chats) {
            for device in devices {
                device.chats = chats.iter().copied().collect();
                device.others = users.clone();
                device.others.retain(|user| *user != device.user);
                device.client.start();
            }
        }
        Ok(Town {
            devices: people.into_iter().flatten().map(Arc::new).collect(),
            news,
            stop: watch::Sender::new(false),
            acting: Vec::new(),
            signing_in: Vec::new(),
            url: url.to_owned(),
        })
    }

    /// Everybody acts until [`hush`](Self::hush).
    pub fn act(&mut self, traffic: &Traffic, random: &mut StdRng) {
        for device in &self.devices {
            let (device, traffic) = (Arc::clone(device), traffic.clone());
            let (seed, stop) = (random.next_u64(), self.stop.subscribe());
            self.acting.push(tokio::spawn(async move {
                device.live(traffic, seed, stop).await
            }));
        }
    }

    /// Nobody begins anything new. What waits in the outboxes still goes out.
    pub async fn hush(&mut self) {
        self.stop.send_replace(true);
        for acting in self.acting.drain(..) {
            acting.await.expect("no panic").expect("a device can write");
        }
        self.stop.send_replace(false);
    }

    /// What everybody may know.
    pub fn news(&self) -> News {
        self.news.clone()
    }

    /// How many messages were acknowledged.
    pub fn acked(&self) -> u64 {
        *self.news.acks.borrow()
    }

    /// Waits until so many more were acknowledged.
    ///
    /// # Errors
    /// When none comes for `patience`.
    pub async fn more_acked(&self, more: u64, patience: Duration) -> Result<()> {
        let mut acks = self.news.acks.subscribe();
        let until = *acks.borrow() + more;
        let stand = || {
            let each = self.devices.iter().map(|device| device.stand());
            each.collect::<Vec<_>>().join("; ")
        };
        loop {
            // Not held while we wait: it would hold up those who count.
            let so_far = *acks.borrow_and_update();
            if so_far >= until {
                return Ok(());
            }
            ensure!(
                timeout(patience, acks.changed()).await.is_ok(),
                "of {more} acknowledgements {} are missing, and none came in {patience:?}: {}",
                until - so_far,
                stand()
            );
        }
    }

    /// From now on the server may forget what it acknowledges, if it says so by beginning a new history.
    pub fn may_lose(&self) {
        self.devices.iter().for_each(|device| device.may_lose());
    }

    /// All direct chats, each with a device that is in it.
    pub fn readers(&self) -> BTreeMap<i64, &Arc<Device>> {
        let chats = |device| device_chats(device).map(move |chat| (chat, device));
        self.devices.iter().flat_map(chats).collect()
    }

    /// Whoever is signed out by the server signs in again, as a person would, until everybody leaves.
    pub fn stay_signed_in(&mut self) {
        for device in &self.devices {
            let device = Arc::clone(device);
            self.signing_in
                .push(tokio::spawn(async move { device.stay_signed_in().await }));
        }
    }

    /// Everybody goes offline.
    pub async fn leave(&mut self) {
        self.signing_in.drain(..).for_each(|task| task.abort());
        for device in &self.devices {
            device.client.stop().await;
        }
    }
}

fn device_chats(device: &Arc<Device>) -> impl Iterator<Item = ChatId> + use<'_> {
    device.chats.iter().copied()
}
