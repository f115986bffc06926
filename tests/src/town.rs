//! People who talk through real clients with durable outboxes, and the record of what they did and saw.
//!
//! Everybody sits in a ring and talks with both neighbours, on one or more devices each. What they do is a
//! [`Traffic`]; when the contract learns a new operation it becomes an [`Act`], and every test that has people
//! in it does it too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tempfile::TempDir;
use tertulia_client::{Change, Client, Connection, Options, Seen, State};
use tertulia_proto::chats::__buffa::oneof::event::Body;
use tertulia_proto::chats::__buffa::oneof::list_events_request::From as Start;
use tertulia_proto::chats::Event;
use tertulia_proto::errors::Reason;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::checker::{History, Outcome, Row, Send, Shown};

/// Something that a device does. A new operation is a variant here, an arm in [`Device::act`] and, when others
/// see it, an arm in [`row`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Says something in one of its chats.
    Say,
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
            acts: vec![(Act::Say, 1)],
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
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            people: 4,
            devices_each: 1,
            options: quick(),
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

/// One device of a person, with its client.
pub struct Device {
    /// As it stands in reports, such as `p2/1`.
    pub name: String,
    /// The account's name.
    pub account: String,
    /// The client.
    pub client: Client,
    /// The chats that it is in.
    pub chats: Vec<i64>,
    id: String,
    /// What the client showed, in the order in which it showed it.
    seen: Arc<parking_lot::Mutex<Vec<Seen>>>,
    /// What was written, in its order: chat, client message id, text.
    written: Arc<parking_lot::Mutex<Vec<(i64, String, String)>>>,
    /// What the client was told of it.
    told: Arc<parking_lot::Mutex<HashMap<String, State>>>,
    _folder: TempDir,
}

/// The password of an account in these tests.
pub fn password(account: &str) -> String {
    // A password that has the name in it is refused.
    let name: String = account.chars().rev().collect();
    format!("correct horse of {name}")
}

impl Device {
    async fn join(
        url: &str,
        account: &str,
        nth: usize,
        options: &Options,
        news: &News,
    ) -> Result<Device> {
        let folder = tempfile::tempdir()?;
        let seen: Arc<parking_lot::Mutex<Vec<Seen>>> = Arc::default();
        let shown = Arc::clone(&seen);
        let client = Client::builder(url)
            .folder(folder.path())
            .options(options.clone())
            .observer(move |event: &Seen| shown.lock().push(event.clone()))
            .build()?;
        match nth {
            0 => client.sign_up(account, &password(account), account).await?,
            _ => client.sign_in(account, &password(account)).await?,
        };
        let told: Arc<parking_lot::Mutex<HashMap<String, State>>> = Arc::default();
        tokio::spawn(listen(client.changes(), Arc::clone(&told), news.clone()));
        Ok(Device {
            name: format!("{account}/{nth}"),
            account: account.to_owned(),
            id: client.device_id(),
            client,
            chats: Vec::new(),
            seen,
            written: Arc::default(),
            told,
            _folder: folder,
        })
    }

    /// Signs in again, after the server ended the login.
    ///
    /// # Errors
    /// As every call.
    pub async fn sign_in(&self) -> Result<()> {
        self.client
            .sign_in(&self.account, &password(&self.account))
            .await?;
        Ok(())
    }

    async fn stay_signed_in(&self) {
        let mut connection = self.client.connection();
        while connection
            .wait_for(|now| matches!(now, Connection::SignedOut(_)))
            .await
            .is_ok()
        {
            if self.sign_in().await.is_err() {
                // The server is away; the connection says so meanwhile, or still that nobody is signed in.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Says something in a chat: it waits in the outbox from now on.
    ///
    /// # Errors
    /// When the outbox is full or can not be written.
    pub async fn say(&self, chat: i64, text: String) -> Result<()> {
        let id = self.client.send(chat, &text).await?;
        self.written.lock().push((chat, id, text));
        Ok(())
    }

    async fn act(&self, act: Act, n: u64, traffic: &Traffic, random: &mut StdRng) -> Result<()> {
        match act {
            Act::Say => {
                let chat = self.chats[random.random_range(0..self.chats.len())];
                let filler = "x".repeat(random.random_range(traffic.text_chars.clone()));
                self.say(chat, format!("{} says {n} {filler}", self.name))
                    .await
            }
        }
    }

    async fn live(&self, traffic: Traffic, seed: u64, mut stop: watch::Receiver<bool>) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut changes = self.client.changes();
        for n in 0.. {
            while self.client.outbox().len() >= traffic.waiting_max {
                tokio::select! {
                    _ = changes.recv() => {}
                    _ = stop.changed() => return,
                }
            }
            let act = traffic.draw(&mut random);
            self.act(act, n, &traffic, &mut random).await.unwrap();
            tokio::select! {
                () = tokio::time::sleep(random.random_range(traffic.thought.clone())) => {}
                _ = stop.changed() => return,
            }
        }
    }

    /// The seq of the newest event that it showed in a chat; 0 for none.
    pub fn tip(&self, chat: i64) -> i64 {
        let seen = self.seen.lock();
        seen.iter()
            .rev()
            .find(|s| s.chat == chat)
            .map_or(0, |s| s.seq)
    }

    /// Reads a chat's whole log. One that the server does not know is empty: what was acknowledged in it is
    /// lost, which is for the checker to say.
    ///
    /// # Errors
    /// As every call.
    pub async fn log(&self, chat: i64) -> Result<Vec<Event>> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event.seq);
            let page = self.client.history(chat, Start::AfterSeq(after), 500).await;
            let page = match page {
                Err(error) if error.reason() == Some(Reason::REASON_CHAT_NOT_FOUND) => {
                    return Ok(events);
                }
                page => page?,
            };
            let empty = page.events.is_empty();
            events.extend(page.events);
            if empty || events.last().map_or(0, |event| event.seq) >= page.head {
                return Ok(events);
            }
        }
    }

    fn sends(&self) -> Vec<Send> {
        let told = self.told.lock();
        let written = self.written.lock();
        let send = |(chat, id, text): &(i64, String, String)| Send {
            key: (self.id.clone(), id.clone()),
            chat: *chat,
            text: text.clone(),
            outcome: match told.get(id) {
                Some(State::Sent(seq)) => Outcome::Acked(*seq),
                Some(State::Failed(_)) => Outcome::Refused,
                _ => Outcome::Unknown,
            },
        };
        written.iter().map(send).collect()
    }

    fn view(&self, chat: i64, devices: &HashMap<(i64, String), String>) -> Vec<Shown> {
        let seen = self.seen.lock();
        let shown = |s: &Seen| {
            // What is shown does not name the device, which the log does.
            let device = devices.get(&(chat, s.client_message_id.clone()));
            Shown {
                seq: s.seq,
                key: (
                    device.cloned().unwrap_or_default(),
                    s.client_message_id.clone(),
                ),
                text: s.text.clone(),
            }
        };
        seen.iter().filter(|s| s.chat == chat).map(shown).collect()
    }
}

/// What an event of the log is to the checker.
fn row(event: &Event) -> Result<Row> {
    match &event.body {
        Some(Body::Message(message)) => Ok(Row {
            seq: event.seq,
            key: (message.device_id.clone(), message.client_message_id.clone()),
            text: message.text.clone(),
        }),
        _ => anyhow::bail!("event {} is no message", event.seq),
    }
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

async fn listen(
    mut changes: tokio::sync::broadcast::Receiver<Change>,
    told: Arc<parking_lot::Mutex<HashMap<String, State>>>,
    news: News,
) {
    loop {
        let (chat, id, state) = match changes.recv().await {
            Ok(Change::Message {
                chat,
                client_message_id,
                state,
            }) => (chat, client_message_id, state),
            // What was not heard stays unknown, which is less than the truth and not wrong.
            Ok(_) | Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let sent = match state {
            State::Sent(seq) => Some(seq),
            _ => None,
        };
        let first = !matches!(told.lock().insert(id, state), Some(State::Sent(_)));
        if let Some(seq) = sent.filter(|_| first) {
            let mut heads = news.heads.lock();
            let head = heads.entry(chat).or_default();
            *head = seq.max(*head);
            drop(heads);
            news.acks.send_modify(|n| *n += 1);
        }
    }
}

/// A town and everybody's record.
pub struct Town {
    /// All devices; those of one person are neighbours.
    pub devices: Vec<Arc<Device>>,
    news: News,
    stop: watch::Sender<bool>,
    acting: Vec<JoinHandle<()>>,
    signing_in: Vec<JoinHandle<()>>,
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
                let joined = Device::join(url, &account, nth, &plan.options, &news).await;
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
        for (devices, chats) in people.iter_mut().zip(chats) {
            for device in devices {
                device.chats = chats.iter().copied().collect();
                device.client.start();
            }
        }
        Ok(Town {
            devices: people.into_iter().flatten().map(Arc::new).collect(),
            news,
            stop: watch::Sender::new(false),
            acting: Vec::new(),
            signing_in: Vec::new(),
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
            acting.await.expect("a device can not act");
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
    /// When that takes longer than `patience`.
    pub async fn more_acked(&self, more: u64, patience: Duration) -> Result<()> {
        let mut acks = self.news.acks.subscribe();
        let until = *acks.borrow() + more;
        // The guard is let go at once: it would hold up those who count.
        let moved = tokio::time::timeout(patience, acks.wait_for(|n| *n >= until))
            .await
            .is_ok();
        ensure!(moved, "no {more} acknowledgements in {patience:?}");
        Ok(())
    }

    /// All chats, each with a device that is in it.
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

    /// Everything that happened. Everybody gets `patience` to come to rest: outboxes empty, no hole, and
    /// everything of the log shown. Who is not done by then is recorded as it is.
    ///
    /// # Errors
    /// When the logs can not be read.
    pub async fn history(&self, patience: Duration) -> Result<History> {
        let deadline = tokio::time::Instant::now() + patience;
        for device in &self.devices {
            rest(device, deadline, || device.client.is_settled()).await;
        }
        let mut history = History::default();
        let mut devices_of: HashMap<(i64, String), String> = HashMap::new();
        for (chat, device) in self.readers() {
            let log = device.log(chat).await.context("a log can not be read")?;
            let rows = log.iter().map(row).collect::<Result<Vec<_>>>()?;
            let keys = rows
                .iter()
                .map(|r| ((chat, r.key.1.clone()), r.key.0.clone()));
            devices_of.extend(keys);
            history.logs.insert(chat, rows);
        }
        for device in &self.devices {
            for &chat in &device.chats {
                let head = history.logs[&chat].last().map_or(0, |row| row.seq);
                rest(device, deadline, || device.tip(chat) >= head).await;
                let view = device.view(chat, &devices_of);
                history.views.insert((device.name.clone(), chat), view);
            }
            history.sends.extend(device.sends());
        }
        Ok(history)
    }

    /// Everybody goes offline.
    pub async fn leave(&mut self) {
        self.signing_in.drain(..).for_each(|task| task.abort());
        for device in &self.devices {
            device.client.stop().await;
        }
    }
}

fn device_chats(device: &Arc<Device>) -> impl Iterator<Item = i64> + use<'_> {
    device.chats.iter().copied()
}

/// Waits until `done`, looking again whenever the client tells of a change and now and then.
async fn rest(device: &Device, deadline: tokio::time::Instant, done: impl Fn() -> bool) {
    let mut changes = device.client.changes();
    while !done() && tokio::time::Instant::now() < deadline {
        _ = tokio::time::timeout(Duration::from_millis(100), changes.recv()).await;
    }
}
