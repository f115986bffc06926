//! Who is there, while things fail and afterwards (I10). Somebody comes and goes, and is asked after on every node: who
//! has gone for longer than a lease is not there, whatever fails. When the fault is over all who are connected are there,
//! on every node and on every device, and who goes then is not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tertulia_client::{Presence, UserId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::leaver::alive;
use crate::checker::Violation;
use crate::town::{Device, Town, password};
use crate::wire::{Came, Person, Socket};

/// The lease and the grace of the nodes, in milliseconds.
pub(super) const SETTINGS: [(&str, &str); 2] =
    [("presence.lease_ms", "3000"), ("presence.grace_ms", "500")];
/// How long somebody who has gone may seem to be there: the lease, the grace, and a few seconds.
const GONE_MAX: Duration = Duration::from_secs(8);
/// How long after a fault who is connected may seem not to be, to somebody who asks.
const THERE_MAX: Duration = Duration::from_secs(8);
/// The same to somebody who listens: what was not heard is said again over six leases.
const HEARD_MAX: Duration = Duration::from_secs(20);
/// How long an answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Somebody who comes and goes, and somebody who asks after them.
pub(super) struct Passer {
    stop: watch::Sender<bool>,
    passing: JoinHandle<Vec<Violation>>,
}

impl Passer {
    /// Both sign up; one begins to come and go, on any node.
    pub async fn start(urls: Vec<String>, seed: u64) -> Passer {
        let goer = Person::sign_up(&urls[0], "goer").await;
        let asker = Person::sign_up(&urls[0], "asker").await;
        let chat = asker.chat_with(&urls[0], &goer).await;
        let stop = watch::Sender::new(false);
        let passing = Passing {
            urls,
            goer,
            asker,
            chat,
            random: StdRng::seed_from_u64(seed),
            stop: stop.subscribe(),
            found: Vec::new(),
        };
        let passing = tokio::spawn(passing.pass());
        Passer { stop, passing }
    }

    /// Has them end when they have gone the next time; what was wrong.
    pub async fn stop(self) -> Vec<Violation> {
        self.stop.send_replace(true);
        self.passing.await.expect("who passes does not panic")
    }
}

struct Passing {
    urls: Vec<String>,
    goer: Person,
    asker: Person,
    chat: String,
    random: StdRng,
    stop: watch::Receiver<bool>,
    found: Vec<Violation>,
}

impl Passing {
    async fn pass(mut self) -> Vec<Violation> {
        // At least once.
        loop {
            if self.come().await {
                self.is_gone(Instant::now()).await;
                if *self.stop.borrow() {
                    return self.found;
                }
            }
        }
    }

    /// Comes for a moment; whether somebody opened.
    async fn come(&mut self) -> bool {
        let Some(url) = self.urls.choose(&mut self.random) else {
            return false;
        };
        let moment = Duration::from_millis(self.random.random_range(300..1_500));
        let coming = async {
            let mut socket = Socket::open(url, "tertulia.v1.json").await.ok()?;
            let hello = json!({"hello": {"accessToken": self.goer.token}});
            socket.send(hello).await;
            match socket.next().await {
                Came::Frame(frame) if frame.get("welcome").is_some() => Some(socket),
                _ => None,
            }
        };
        let Some(mut socket) = timeout(ANSWER_MAX, coming).await.ok().flatten() else {
            return false;
        };
        let staying = async {
            while let Came::Frame(frame) = socket.next().await {
                alive(&mut socket, &frame).await;
            }
        };
        _ = timeout(moment, staying).await;
        true
    }

    /// Asks on every node until they have been gone for so long that nobody may say anything else, and a while longer.
    async fn is_gone(&mut self, gone: Instant) {
        while gone.elapsed() < GONE_MAX + Duration::from_secs(1) {
            for url in &self.urls {
                let asked = Instant::now();
                let told = told(url, &self.asker, &self.chat).await;
                let is_there = told.is_some_and(|there| !there.is_empty());
                if is_there && asked - gone > GONE_MAX {
                    let after = (asked - gone).as_millis();
                    let words = format!("somebody is there {after} ms after they had gone");
                    self.found.push(Violation::Astray(words));
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Who of the others in a chat is there, as a node says; none when it says nothing.
async fn told(url: &str, asker: &Person, chat: &str) -> Option<BTreeSet<UserId>> {
    let asking = asker.try_call(url, "ListPresence", json!({"chatId": chat}));
    let answer = timeout(ANSWER_MAX, asking).await.ok()?.ok()?;
    let answer = (answer.status == 200).then(|| answer.json())?;
    let all = answer["presences"].as_array().cloned().unwrap_or_default();
    let is_there = |state: &str| ["PRESENCE_STATE_ONLINE", "PRESENCE_STATE_AWAY"].contains(&state);
    let there = all
        .iter()
        .filter(|one| one["state"].as_str().is_some_and(is_there));
    there
        .map(|one| one["userId"].as_str()?.parse().ok())
        .collect()
}

/// Has every device listen to who is there of those with whom it has direct chats.
pub(super) async fn listen(town: &Town) {
    for device in &town.devices {
        device.client.watch(device.chats.clone()).await;
    }
}

/// All is well again: all of the town are connected and are there, on every node and on every device. Then half of them
/// goes, and is there no more.
///
/// # Errors
/// When somebody can not sign in to ask.
pub(super) async fn agreed(urls: &[String], town: &Town) -> Result<Vec<Violation>> {
    let company = Company::of(town);
    let everybody: BTreeSet<UserId> = company.accounts.keys().copied().collect();
    let mut found = company.is_so(urls, &everybody, THERE_MAX).await?;
    let half = everybody.len() / 2;
    let staying: BTreeSet<UserId> = everybody.iter().copied().take(half).collect();
    for device in &town.devices {
        if !staying.contains(&device.user) {
            device.client.stop().await;
        }
    }
    found.extend(company.is_so(urls, &staying, GONE_MAX).await?);
    Ok(found)
}

/// Who of a town has direct chats with whom.
struct Company<'a> {
    devices: Vec<&'a Device>,
    accounts: BTreeMap<UserId, &'a str>,
}

impl<'a> Company<'a> {
    fn of(town: &'a Town) -> Company<'a> {
        let devices: Vec<&Device> = town.devices.iter().map(|device| &**device).collect();
        let accounts = devices.iter().map(|one| (one.user, &*one.account));
        Company {
            accounts: accounts.collect(),
            devices,
        }
    }

    /// With whom somebody shares a chat.
    fn others(&self, device: &Device, chat: i64) -> impl Iterator<Item = UserId> {
        let others = self
            .devices
            .iter()
            .filter(move |one| one.chats.contains(&chat));
        others
            .map(|one| one.user)
            .filter(move |user| *user != device.user)
    }

    /// Waits until these and nobody else are there.
    async fn is_so(
        &self,
        urls: &[String],
        there: &BTreeSet<UserId>,
        most: Duration,
    ) -> Result<Vec<Violation>> {
        let mut found = Vec::new();
        let began = Instant::now();
        let mut askers = BTreeMap::new();
        for (user, account) in &self.accounts {
            let person = Person::of(account, &password(account));
            let person = person.try_sign_in(&urls[0]).await;
            askers.insert(
                *user,
                person.context("nobody can sign in to ask who is there")?,
            );
        }
        for device in &self.devices {
            for chat in &device.chats {
                let expected: BTreeSet<UserId> = self.others(device, *chat).collect();
                let expected = &expected & there;
                for (nth, url) in urls.iter().enumerate() {
                    let asker = &askers[&device.user];
                    let said = is_told(url, asker, *chat, &expected, began + most).await;
                    if let Err(last) = said {
                        let of = &device.account;
                        let words = format!(
                            "node {nth} tells {of} that {last:?} are there, not {expected:?}"
                        );
                        found.push(Violation::Astray(words));
                    }
                }
            }
        }
        for device in &self.devices {
            if !there.contains(&device.user) {
                continue;
            }
            let mut others = BTreeSet::new();
            for chat in &device.chats {
                others.extend(self.others(device, *chat));
            }
            let expected = &others & there;
            let shown = is_shown(device, &others, &expected, began + HEARD_MAX).await;
            if let Err(last) = shown {
                let name = &device.name;
                let words = format!("{name} shows that {last:?} are there, not {expected:?}");
                found.push(Violation::Astray(words));
            }
        }
        Ok(found)
    }
}

/// Asks a node until it says so.
///
/// # Errors
/// With what it said last, when it is not so in time.
async fn is_told(
    url: &str,
    asker: &Person,
    chat: i64,
    expected: &BTreeSet<UserId>,
    until: Instant,
) -> Result<(), Option<BTreeSet<UserId>>> {
    let chat = chat.to_string();
    loop {
        let said = told(url, asker, &chat).await;
        if said.as_ref() == Some(expected) {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(said);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Looks at a device until it shows so.
///
/// # Errors
/// With what it showed last, when it is not so in time.
async fn is_shown(
    device: &Device,
    others: &BTreeSet<UserId>,
    expected: &BTreeSet<UserId>,
    until: Instant,
) -> Result<(), BTreeSet<UserId>> {
    loop {
        let shown = shown(device, others);
        if shown == *expected {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(shown);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Who of these is there, as a device shows it.
fn shown(device: &Device, others: &BTreeSet<UserId>) -> BTreeSet<UserId> {
    let presence = |user: &UserId| device.client.presence(*user);
    let is_there =
        |user: &UserId| matches!(presence(user), Some(Presence::Online | Presence::Away));
    others.iter().copied().filter(is_there).collect()
}
