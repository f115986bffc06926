//! One device of a person: its client, what it does, and what it did and showed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;
use tertulia_client::proto::chats::{ChatKind, Event};
use tertulia_client::{Change, ChatId, ChatView, Client, Connection, Seen, State, UserId};
use tertulia_proto::errors::Reason;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::verdict::{patiently, whole_log};
use super::{Act, News, Plan, Traffic, password, skipping};
use crate::checker::deeds::Done;
use crate::checker::{Outcome, Send, Shown};
use crate::deed::{self, Deed, Doer};
use crate::view::{View, shown_line};

/// How many events come onto a screen at once: fewer than lie between what is held and what was skipped, so that
/// what is held has to be brought up to date and is not read anew.
const SCREEN_EVENTS: u32 = 20;
/// How many groups a person makes or is in before no more are made.
const GROUPS_MAX: usize = 4;
/// How many are in a group when it is made, besides who makes it.
const GROUP_MEMBERS_MAX: usize = 7;

/// What was acknowledged before something may be lost.
struct Safe {
    sends: HashSet<String>,
    deeds: HashSet<usize>,
    /// What was begun when the new history came.
    begun: usize,
}

/// One device of a person, with its client.
pub struct Device {
    /// As it stands in reports, such as `p2/1`.
    pub name: String,
    /// The account's name.
    pub account: String,
    /// The client.
    pub client: Client,
    /// The person.
    pub user: UserId,
    /// The direct chats with the neighbours.
    pub chats: Vec<ChatId>,
    /// Everybody else.
    pub others: Vec<UserId>,
    /// Skips what it missed when it is much.
    pub skips: bool,
    id: String,
    /// What the client showed, in the order in which it showed it.
    seen: Arc<parking_lot::Mutex<Vec<Seen>>>,
    /// What was written, in its order: chat, client message id, text.
    written: Arc<parking_lot::Mutex<Vec<(i64, String, String)>>>,
    /// What was done beside that, in its order.
    done: Arc<parking_lot::Mutex<Vec<Done>>>,
    /// What the client was told of its messages.
    told: Arc<parking_lot::Mutex<HashMap<String, State>>>,
    /// What is safe when the server begins a new history; none while it must not.
    safe: Arc<parking_lot::Mutex<Option<Safe>>>,
    _folder: TempDir,
}

impl Device {
    /// A device of an account that is made here when it is the first one. It does not connect yet.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn join(
        url: &str,
        account: &str,
        nth: usize,
        plan: &Plan,
        skips: bool,
        news: &News,
    ) -> Result<Device> {
        let folder = tempfile::tempdir()?;
        let seen: Arc<parking_lot::Mutex<Vec<Seen>>> = Arc::default();
        let shown = Arc::clone(&seen);
        let client = Client::builder(url)
            .folder(folder.path())
            .options(match skips {
                true => skipping(&plan.options),
                false => plan.options.clone(),
            })
            .observer(move |event: &Seen| shown.lock().push(event.clone()))
            .build()?;
        let user = match nth {
            0 => client.sign_up(account, &password(account), account).await?,
            _ => client.sign_in(account, &password(account)).await?,
        };
        let told: Arc<parking_lot::Mutex<HashMap<String, State>>> = Arc::default();
        let (done, safe) = (Arc::default(), Arc::default());
        let record = Record {
            told: Arc::clone(&told),
            done: Arc::clone(&done),
            safe: Arc::clone(&safe),
        };
        tokio::spawn(listen(client.changes(), record, news.clone()));
        Ok(Device {
            name: format!("{account}/{nth}"),
            account: account.to_owned(),
            id: client.device_id(),
            user,
            client,
            chats: Vec::new(),
            others: Vec::new(),
            skips,
            seen,
            written: Arc::default(),
            done,
            told,
            safe,
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

    /// Signs in again whenever the server ended the login.
    pub async fn stay_signed_in(&self) {
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

    async fn say_something(&self, n: u64, traffic: &Traffic, random: &mut StdRng) -> Result<()> {
        let chats = deed::chats(&self.client);
        let Some(view) = deed::some(random, &chats) else {
            return Ok(());
        };
        let filler = "x".repeat(random.random_range(traffic.text_chars.clone()));
        let text = format!("{} says {n} {filler}", self.name);
        self.say(view.chat.chat_id, text).await
    }

    async fn act(&self, act: Act, n: u64, random: &mut StdRng) {
        match act {
            Act::Say => {}
            Act::CreateGroup => {
                let is_group = |view: &ChatView| view.chat.kind == ChatKind::CHAT_KIND_GROUP;
                let groups = self.client.chats().iter().filter(|v| is_group(v)).count();
                if groups < GROUPS_MAX {
                    self.create_group(n, random).await;
                }
            }
            Act::Do(kind) => {
                let doer = Doer {
                    name: &self.name,
                    user: self.user,
                    others: &self.others,
                    client: &self.client,
                };
                if let Some((chat, deed)) = kind.choose(&doer, random) {
                    let nth = self.begin(chat, deed.clone());
                    let done = deed.perform(&self.client, chat).await;
                    self.end(nth, chat, done);
                }
            }
        }
    }

    async fn create_group(&self, n: u64, random: &mut StdRng) {
        let mut members = self.others.clone();
        members.retain(|_| random.random_bool(0.7));
        members.truncate(GROUP_MEMBERS_MAX);
        let title = format!("{} makes {n}", self.name);
        let nth = self.begin(
            0,
            Deed::Create {
                title: title.clone(),
            },
        );
        let made = self.client.create_group(&title, members).await;
        let chat = made.as_ref().map_or(0, |chat| chat.chat_id);
        self.end(nth, chat, made.map(|_| 0));
    }

    /// Whatever becomes of it: from here on it may have been done.
    fn begin(&self, chat: ChatId, deed: Deed) -> usize {
        let mut done = self.done.lock();
        done.push(Done {
            chat,
            actor: self.user,
            deed,
            outcome: Outcome::Unknown,
        });
        done.len() - 1
    }

    fn end(&self, nth: usize, chat: ChatId, answer: tertulia_client::Result<i64>) {
        let safe = self.safe.lock();
        let is_of_before = safe.as_ref().is_some_and(|safe| nth < safe.begun);
        let mut done = self.done.lock();
        done[nth].chat = chat;
        done[nth].outcome = match answer {
            _ if is_of_before => Outcome::Unknown,
            Ok(seq) => Outcome::Acked(seq),
            // A client makes a call again whose answer was lost: what was done the first time, be it to go or
            // to delete, may be why it is refused the second time.
            Err(error) => match error.reason() {
                Some(
                    Reason::REASON_NOT_ALLOWED
                    | Reason::REASON_NOT_YOUR_MESSAGE
                    | Reason::REASON_OWNER_MUST_STAY
                    | Reason::REASON_DIRECT_CHAT
                    | Reason::REASON_INVALID_REQUEST,
                ) => Outcome::Refused,
                _ => Outcome::Unknown,
            },
        };
    }

    /// Acts until it is told to stop; what it waits for then is left to itself.
    ///
    /// # Errors
    /// When the outbox is full or can not be written.
    pub async fn live(
        &self,
        traffic: Traffic,
        seed: u64,
        mut stop: watch::Receiver<bool>,
    ) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut changes = self.client.changes();
        for n in 0.. {
            while self.client.outbox().len() >= traffic.waiting_max {
                if self.put_away_refused()? {
                    continue;
                }
                tokio::select! {
                    _ = changes.recv() => {}
                    _ = stop.changed() => return Ok(()),
                }
            }
            let act = traffic.draw(&mut random);
            match act {
                // It is on disk when this returns; what is there without a record would be a phantom.
                Act::Say => self.say_something(n, &traffic, &mut random).await?,
                act => tokio::select! {
                    () = self.act(act, n, &mut random) => {}
                    _ = stop.changed() => return Ok(()),
                },
            }
            tokio::select! {
                () = tokio::time::sleep(random.random_range(traffic.thought.clone())) => {}
                _ = stop.changed() => return Ok(()),
            }
        }
        Ok(())
    }

    /// Puts away what was refused for good, as a person does; whether there was any.
    fn put_away_refused(&self) -> Result<bool> {
        let mut refused = self.client.outbox();
        refused.retain(|entry| matches!(entry.state, State::Failed(_)));
        for entry in &refused {
            self.client.discard(entry.chat, &entry.client_message_id)?;
        }
        Ok(!refused.is_empty())
    }

    /// From now on the server may forget what it acknowledges, if it says so by beginning a new history.
    pub fn may_lose(&self) {
        let mut safe = self.safe.lock();
        let told = self.told.lock();
        let is_sent = |(_, state): &(&String, &State)| matches!(state, State::Sent(_));
        let sends = told.iter().filter(is_sent).map(|(id, _)| id.clone());
        let done = self.done.lock();
        let is_acked = |nth: &usize| matches!(done[*nth].outcome, Outcome::Acked(_));
        *safe = Some(Safe {
            sends: sends.collect(),
            deeds: (0..done.len()).filter(is_acked).collect(),
            begun: 0,
        });
    }

    /// What it showed, of the newest history when there may be several.
    fn shown(&self) -> Vec<Seen> {
        let one_of_several = self.safe.lock().is_some();
        let seen = self.seen.lock();
        let newest = seen.last().filter(|_| one_of_several).map(|s| &s.epoch);
        let is_of_it = |s: &&Seen| newest.is_none_or(|newest| s.epoch == *newest);
        seen.iter().filter(is_of_it).cloned().collect()
    }

    /// The seq of the newest event that it showed in a chat; 0 for none.
    pub fn tip(&self, chat: i64) -> i64 {
        let seen = self.shown();
        let newest = seen.iter().rev().find(|s| s.chat == chat);
        newest.map_or(0, |s| s.seq)
    }

    /// Reads a chat's whole log.
    ///
    /// # Errors
    /// As every call.
    pub async fn log(&self, chat: ChatId) -> Result<Vec<Event>> {
        Ok(whole_log(&self.client, chat).await?)
    }

    /// Where it stands, for people who look why nothing happens.
    pub fn stand(&self) -> String {
        let (connection, outbox) = (
            self.client.connection().borrow().clone(),
            self.client.outbox(),
        );
        let (written, chats) = (self.written.lock().len(), self.client.chats().len());
        let first = outbox.first().map(|entry| &entry.state);
        format!(
            "{} is {connection:?} with {chats} chats, has written {written}, {} wait, the first {first:?}",
            self.name,
            outbox.len()
        )
    }

    /// Everything that it wrote, in its order, and what it was told of it.
    pub fn sends(&self) -> Vec<Send> {
        let told = self.told.lock();
        let written = self.written.lock();
        let send = |(chat, id, text): &(ChatId, String, String)| Send {
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

    /// Everything else that it did.
    pub fn deeds(&self) -> Vec<Done> {
        self.done.lock().clone()
    }

    /// What it showed of a chat, in the order in which it showed it, each message with the words of that moment.
    pub fn view(&self, chat: ChatId) -> Vec<Shown> {
        let seen = self.shown();
        let shown = |s: &Seen| Shown {
            seq: s.seq,
            key: (s.device_id.clone(), s.client_message_id.clone()),
            // Of another event it is what the message says that the event is about.
            text: match s.client_message_id.is_empty() {
                true => String::new(),
                false => s.text.clone(),
            },
        };
        seen.iter().filter(|s| s.chat == chat).map(shown).collect()
    }

    /// The chats of which it showed anything.
    pub fn shown_chats(&self) -> BTreeSet<ChatId> {
        self.shown().iter().map(|s| s.chat).collect()
    }

    /// Everything that it shows of a chat, when the person scrolls to the top.
    ///
    /// # Errors
    /// As every call.
    pub async fn whole_view(&self, chat: ChatId) -> tertulia_client::Result<View> {
        while patiently(|| self.client.older(chat, SCREEN_EVENTS)).await? > 0 {}
        let view = self.client.chat(chat, usize::MAX);
        let events = view.iter().flat_map(|view| &view.events);
        Ok(events.map(shown_line).collect())
    }
}

/// What is known of what a device did.
struct Record {
    told: Arc<parking_lot::Mutex<HashMap<String, State>>>,
    done: Arc<parking_lot::Mutex<Vec<Done>>>,
    safe: Arc<parking_lot::Mutex<Option<Safe>>>,
}

impl Record {
    /// A new history has begun: what was not safe may be gone.
    fn begins_anew(&self) {
        let mut safe = self.safe.lock();
        let Some(safe) = safe.as_mut() else { return };
        let mut told = self.told.lock();
        told.retain(|id, state| !matches!(state, State::Sent(_)) || safe.sends.contains(id));
        let mut done = self.done.lock();
        safe.begun = done.len();
        let unsafe_ones = done.iter_mut().enumerate();
        for (_, deed) in unsafe_ones.filter(|(nth, _)| !safe.deeds.contains(nth)) {
            deed.outcome = Outcome::Unknown;
        }
    }
}

async fn listen(mut changes: tokio::sync::broadcast::Receiver<Change>, record: Record, news: News) {
    loop {
        let (chat, id, state) = match changes.recv().await {
            Ok(Change::Message {
                chat,
                client_message_id,
                state,
            }) => (chat, client_message_id, state),
            Ok(Change::Reset) => {
                record.begins_anew();
                continue;
            }
            // What was not heard stays unknown, which is less than the truth and not wrong.
            Ok(_) | Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let sent = match state {
            State::Sent(seq) => Some(seq),
            _ => None,
        };
        let first = !matches!(record.told.lock().insert(id, state), Some(State::Sent(_)));
        if let Some(seq) = sent.filter(|_| first) {
            let mut heads = news.heads.lock();
            let head = heads.entry(chat).or_default();
            *head = seq.max(*head);
            drop(heads);
            news.acks.send_modify(|n| *n += 1);
        }
    }
}
