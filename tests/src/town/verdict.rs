//! What the people of a town did and saw against what the server has, once all has come to rest: by the logs, and
//! by what every device shows of every chat. What the server has is asked for by another login of each person.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tertulia_client::proto::chats::list_events_request::From as Start;
use tertulia_client::proto::chats::{Chat, ChatKind, Event};
use tertulia_client::{ChatId, Client, PAGE_EVENTS_MAX, UserId};
use tertulia_proto::errors::Reason;
use tokio::time::Instant;

use super::{Device, Town, password, quick};
use crate::checker::deeds::{self, Done};
use crate::checker::{History, Key, Outcome, Row, Send, Shown, Violation};
use crate::deed::{Deed, message};
use crate::view::{Face, Folded, difference, shown_line, told_face, unlike};

/// How long an answer to who compares may take, on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How often it is looked whether all devices show what there is.
const LOOK: Duration = Duration::from_millis(200);
/// How many chats and how many members are asked for at once.
const CHATS_PAGE: u32 = 100;
const MEMBERS_PAGE: u32 = 200;

/// Reads a chat's whole log. One that the server does not know is empty: what was acknowledged in it is lost,
/// which is for the checker to say.
///
/// # Errors
/// As every call.
pub async fn whole_log(client: &Client, chat: ChatId) -> tertulia_client::Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.seq);
        let page = patiently(|| client.history(chat, Start::AfterSeq(after), PAGE_EVENTS_MAX));
        let page = match page.await {
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

/// Asks again as long as that may help, as who compares may ask for more than budgets allow at once.
///
/// # Errors
/// The last one.
pub async fn patiently<T, F>(ask: impl Fn() -> F) -> tertulia_client::Result<T>
where
    F: Future<Output = tertulia_client::Result<T>>,
{
    let until = Instant::now() + ANSWER_MAX;
    loop {
        match ask().await {
            Err(error) if error.is_retryable() && Instant::now() < until => {
                tokio::time::sleep(error.retry_after().unwrap_or(LOOK)).await;
            }
            answer => return answer,
        }
    }
}

/// A login of a person that only asks.
struct Auditor {
    user: UserId,
    client: Client,
    devices: Vec<Arc<Device>>,
}

impl Auditor {
    async fn sign_in(url: &str, devices: Vec<Arc<Device>>) -> Result<Auditor> {
        let options = tertulia_client::Options {
            call_timeout: ANSWER_MAX,
            ..quick()
        };
        let account = &devices[0].account;
        let client = Client::builder(url).options(options).build()?;
        let password = password(account);
        let user = patiently(|| client.sign_in(account, &password)).await?;
        Ok(Auditor {
            user,
            client,
            devices,
        })
    }

    /// The chats that the person is in.
    async fn chats(&self) -> Result<Vec<Chat>> {
        let (mut chats, mut token) = (Vec::new(), String::new());
        loop {
            let page = patiently(|| self.client.list_chats(CHATS_PAGE, &token)).await?;
            chats.extend(page.chats);
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(chats);
            }
        }
    }

    async fn members(&self, chat: ChatId) -> Result<BTreeSet<UserId>> {
        let mut members = BTreeSet::new();
        loop {
            let after = members.last().copied().unwrap_or(0);
            let page = patiently(|| self.client.members(chat, after, MEMBERS_PAGE)).await?;
            if page.members.is_empty() {
                return Ok(members);
            }
            members.extend(page.members.iter().map(|member| member.user_id));
        }
    }
}

/// What the server has.
struct Audit {
    auditors: Vec<Auditor>,
    /// By chat, as some member sees it.
    logs: BTreeMap<ChatId, Vec<Event>>,
    /// What each message said when it was sent.
    sent: HashMap<Key, String>,
    deeds: Vec<Done>,
    /// Until when everybody has time to come to rest.
    deadline: Instant,
}

impl Town {
    /// Everything that happened. Everybody gets `patience` to come to rest: outboxes empty, no hole, and
    /// everything of the log shown. Who is not done by then is recorded as it is. `beside` was sent by others.
    ///
    /// # Errors
    /// When the server does not say what it has.
    pub async fn history(&self, patience: Duration, beside: &[Send]) -> Result<History> {
        let audit = self.audit(patience, beside).await?;
        self.told(&audit, beside).await
    }

    /// Everything that happened, and what is wrong with it: in the logs, and in what any device shows.
    ///
    /// # Errors
    /// When the server does not say what it has.
    pub async fn verdict(
        &self,
        patience: Duration,
        beside: &[Send],
    ) -> Result<(History, Vec<Violation>)> {
        let audit = self.audit(patience, beside).await?;
        let history = self.told(&audit, beside).await?;
        let mut found = history.check();
        found.extend(deeds::check(&audit.deeds, &audit.logs));
        for auditor in &audit.auditors {
            audit.compare(auditor, &mut found).await?;
        }
        Ok((history, found))
    }

    async fn audit(&self, patience: Duration, beside: &[Send]) -> Result<Audit> {
        let deadline = Instant::now() + patience;
        for device in &self.devices {
            rest(device, deadline, || device.client.is_settled()).await;
        }
        let mut of_person: BTreeMap<UserId, Vec<Arc<Device>>> = BTreeMap::new();
        for device in &self.devices {
            let devices = of_person.entry(device.user).or_default();
            devices.push(Arc::clone(device));
        }
        let (mut auditors, mut logs) = (Vec::new(), BTreeMap::new());
        for devices in of_person.into_values() {
            let auditor = Auditor::sign_in(&self.url, devices).await;
            let auditor = auditor.context("nobody can sign in to look")?;
            let mut chats: BTreeSet<ChatId> = auditor.devices[0].chats.iter().copied().collect();
            chats.extend(auditor.chats().await?.iter().map(|chat| chat.chat_id));
            for chat in chats {
                if let Entry::Vacant(unread) = logs.entry(chat) {
                    let log = whole_log(&auditor.client, chat).await;
                    unread.insert(log.context("a log can not be read")?);
                }
            }
            auditors.push(auditor);
        }
        let sends = self.devices.iter().flat_map(|device| device.sends());
        let sends = sends.chain(beside.iter().cloned());
        Ok(Audit {
            auditors,
            logs,
            sent: sends.map(|send| (send.key, send.text)).collect(),
            deeds: self.devices.iter().flat_map(|d| d.deeds()).collect(),
            deadline,
        })
    }

    /// What the checker judges.
    async fn told(&self, audit: &Audit, beside: &[Send]) -> Result<History> {
        let mut history = History {
            deeds: audit.deeds.clone(),
            ..History::default()
        };
        for (chat, log) in &audit.logs {
            let rows = log.iter().map(|event| audit.row(event)).collect();
            history.logs.insert(*chat, rows);
        }
        for device in &self.devices {
            let mut chats = device.shown_chats();
            chats.extend(&device.chats);
            for chat in chats {
                // Nobody is there any more who could say what it says.
                let Some(log) = audit.logs.get(&chat) else {
                    continue;
                };
                let view = (device.name.clone(), chat);
                match device.skips || !device.chats.contains(&chat) {
                    true => _ = history.partial.insert(view.clone()),
                    false => {
                        let head = log.last().map_or(0, |event| event.seq);
                        rest(device, audit.deadline, || device.tip(chat) >= head).await;
                    }
                }
                let shown = device.view(chat);
                let shown = shown.into_iter().map(|shown| audit.as_sent(shown, log));
                history.views.insert(view, shown.collect());
            }
            let sends = device.sends().into_iter();
            let known = sends.filter(|send| audit.logs.contains_key(&send.chat));
            history.sends.extend(known.map(|send| Send {
                // Who is not in a chat is refused there, whatever became of an earlier try. That may be over, and in
                // a history that is no more.
                outcome: match send.outcome {
                    Outcome::Refused
                        if audit.is_outside(device.user, send.chat)
                            || audit.was_moved(device.user, send.chat) =>
                    {
                        Outcome::Unknown
                    }
                    outcome => outcome,
                },
                ..send
            }));
        }
        history.sends.extend(beside.iter().cloned());
        Ok(history)
    }
}

impl Audit {
    fn is_outside(&self, user: UserId, chat: ChatId) -> bool {
        let log = self.logs.get(&chat).map_or(&[][..], Vec::as_slice);
        let folded = self.folded(log, user);
        folded.gone.contains(&user) || !folded.members.contains(&user)
    }

    /// Whether somebody may have come into a chat or left it after it was made, in any history.
    fn was_moved(&self, user: UserId, chat: ChatId) -> bool {
        let tried = self.deeds.iter().filter(|done| done.chat == chat);
        let mut tried = tried.filter(|done| done.outcome != Outcome::Refused);
        tried.any(|done| match done.deed {
            Deed::Add { user: moved } | Deed::Remove { user: moved } => moved == user,
            Deed::Leave => done.actor == user,
            _ => false,
        })
    }

    fn folded(&self, log: &[Event], viewer: UserId) -> Folded {
        Folded::of(log, viewer, |key| self.sent.get(key).map(String::as_str))
    }

    /// What an event of the log is to the checker. What a message says by now is judged by what its log comes
    /// to; here it says what was sent, unless nobody did.
    fn row(&self, event: &Event) -> Row {
        let Some(message) = message(event) else {
            return Row {
                seq: event.seq,
                key: Key::default(),
                text: String::new(),
            };
        };
        let key = (message.device_id.clone(), message.client_message_id.clone());
        let is_changed = message.edited_at_ms > 0 || message.deletion.is_set();
        let sent = self.sent.get(&key).filter(|_| is_changed);
        Row {
            seq: event.seq,
            text: sent.unwrap_or(&message.text).clone(),
            key,
        }
    }

    /// What was shown with later words of the message, as it was sent.
    fn as_sent(&self, shown: Shown, log: &[Event]) -> Shown {
        let Some(sent) = self
            .sent
            .get(&shown.key)
            .filter(|sent| **sent != shown.text)
        else {
            return shown;
        };
        let mut deeds = self.deeds.iter();
        let chat = log.first().map_or(0, |event| event.chat_id);
        let said_later = deeds.any(|done| match &done.deed {
            Deed::Edit { seq, text } => {
                (done.chat, *seq) == (chat, shown.seq) && *text == shown.text
            }
            Deed::Delete { seqs } => {
                done.chat == chat && seqs.contains(&shown.seq) && shown.text.is_empty()
            }
            _ => false,
        });
        match said_later {
            true => Shown {
                text: sent.clone(),
                ..shown
            },
            false => shown,
        }
    }

    /// Compares what a person's chats are with what their logs come to, and with what each device shows.
    async fn compare(&self, auditor: &Auditor, found: &mut Vec<Violation>) -> Result<()> {
        let chats = self.at_rest(auditor, found).await?;
        for chat in chats {
            let log = whole_log(&auditor.client, chat.chat_id).await?;
            self.compare_log(auditor, &chat, &log, found).await?;
            let is: Vec<_> = log.iter().map(shown_line).collect();
            for device in &auditor.devices {
                let differs = |how: String| Violation::Differs {
                    client: device.name.clone(),
                    chat: chat.chat_id,
                    how,
                };
                match device.whole_view(chat.chat_id).await {
                    Ok(shown) => {
                        let differing = difference(&is, &shown);
                        found.extend(differing.map(|how| differs(how.to_string())));
                    }
                    Err(error) => found.push(differs(error.to_string())),
                }
                // After the comparison, as it heals.
                match patiently(|| device.client.verify(chat.chat_id)).await {
                    Ok(verified) if verified.healed == 0 => {}
                    verified => found.push(differs(format!("by digests: {verified:?}"))),
                }
            }
        }
        Ok(())
    }

    /// Waits until each device of a person shows just the chats that the person is in, as they are, and gives
    /// these.
    async fn at_rest(&self, auditor: &Auditor, found: &mut Vec<Violation>) -> Result<Vec<Chat>> {
        loop {
            let chats = auditor.chats().await?;
            let face = |chat: &Chat| (chat.chat_id, told_face(chat));
            let faces: Vec<(ChatId, Face)> = chats.iter().map(face).collect();
            let mut differing = Vec::new();
            for device in &auditor.devices {
                let unlike = unlike(&device.client, &faces);
                differing.extend(unlike.map(|(chat, how)| Violation::Differs {
                    client: device.name.clone(),
                    chat,
                    how,
                }));
            }
            if differing.is_empty() || Instant::now() >= self.deadline {
                found.extend(differing);
                return Ok(chats);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Compares what the server answers about a chat with what its log comes to.
    async fn compare_log(
        &self,
        auditor: &Auditor,
        chat: &Chat,
        log: &[Event],
        found: &mut Vec<Violation>,
    ) -> Result<()> {
        let (id, user) = (chat.chat_id, auditor.user);
        let mut untrue =
            |words: String| found.push(Violation::Untrue(format!("chat {id} of {user}: {words}")));
        let folded = self.folded(log, user);
        let rows: Vec<_> = log.iter().map(shown_line).collect();
        if let Some(differing) = difference(&folded.lines, &rows) {
            untrue(differing.to_string());
        }
        let face = told_face(chat);
        if face.pinned != folded.pinned {
            untrue(format!("pins {:?}, not {:?}", face.pinned, folded.pinned));
        }
        let unread = folded.unread(user, face.seen);
        if face.unread != unread {
            untrue(format!("{} unread, not {unread}", face.unread));
        }
        if chat.kind == ChatKind::CHAT_KIND_GROUP {
            let members = auditor.members(id).await?;
            if members != folded.members || face.members != members.len() as i64 {
                let told = face.members;
                untrue(format!("{told} members {members:?}, not {folded:?}"));
            }
        }
        let acked = |done: &&Done| matches!(done.outcome, Outcome::Acked(_));
        let own = self
            .deeds
            .iter()
            .filter(|d| (d.actor, d.chat) == (user, id));
        let read = own.filter(acked).filter_map(|done| match done.deed {
            Deed::MarkRead { seq } => Some(seq),
            _ => None,
        });
        let read = read.max().unwrap_or(0);
        // Who comes again begins anew.
        if face.seen < read && !folded.gone.contains(&user) {
            untrue(format!("read up to {}, which was {read}", face.seen));
        }
        Ok(())
    }
}

/// Waits until `done`, looking again whenever the client tells of a change and now and then.
async fn rest(device: &Device, deadline: Instant, done: impl Fn() -> bool) {
    let mut changes = device.client.changes();
    while !done() && Instant::now() < deadline {
        _ = tokio::time::timeout(Duration::from_millis(100), changes.recv()).await;
    }
}
