//! What can be typed, and what comes of it, whatever shows it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tertulia_client::proto::chats::event::Body;
use tertulia_client::proto::chats::{Chat, Event};
use tertulia_client::proto::users::User;
use tertulia_client::{Change, ChatId, Client, Connection, Entry, Error, State, UserId};
use tokio::time::timeout;

use super::words;
use crate::terminal::one_line;

pub const HELP: &str = "\
/with NAME      talk with somebody
/find TEXT      find people by the beginning of their name
/chats          list your chats
/open NUMBER    open a chat of that list
/back [COUNT]   show older messages; PageUp does it too
/retry          send again what was refused
/discard        give up what was refused
/me             say who you are
/logout         sign out on this device
/quit           leave; Ctrl+D does it too
//TEXT          a message that begins with a slash
Everything else is a message. … it waits to be sent   ✓ it is stored";

/// How many older events /back shows when it is not said.
const BACK_EVENTS: usize = 20;
/// How much of a chat is read when it is opened.
pub const OPENED_EVENTS: usize = 20;
/// How long a look-up of names may hold up what is shown.
const NAMES_TIMEOUT: Duration = Duration::from_secs(3);
/// How many names are asked for at once.
const NAMES_MAX: usize = 100;
/// How many chats /chats lists.
const LISTED_MAX: usize = 50;

/// Whether to go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Flow {
    Stay,
    Quit,
}

/// One person at a terminal.
pub struct App {
    pub client: Client,
    pub me: UserId,
    /// The chat that is shown.
    pub open: Option<ChatId>,
    /// How many older events were asked for; what shows them takes this.
    pub back: usize,
    names: HashMap<UserId, User>,
    listed: Vec<ChatId>,
    /// How far other chats were when we last said that something is new there.
    noticed: HashMap<ChatId, i64>,
    said: Vec<String>,
}

impl App {
    pub fn new(client: Client, me: UserId) -> Self {
        let noticed = client
            .chats()
            .iter()
            .map(|view| (view.chat.chat_id, view.head))
            .collect();
        let (open, names, listed, said) = (None, HashMap::new(), Vec::new(), Vec::new());
        App {
            client,
            me,
            open,
            back: 0,
            names,
            listed,
            noticed,
            said,
        }
    }

    /// What there is to tell since the last time.
    pub fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// Has something to tell.
    pub fn say(&mut self, line: impl Into<String>) {
        self.said.push(line.into());
    }

    /// Does what was typed. Failures are said, not returned: the person types on.
    pub async fn take(&mut self, line: &str) -> Flow {
        let line = line.trim_end();
        if line.is_empty() {
            return Flow::Stay;
        }
        if line.split_whitespace().next() == Some("/quit") {
            return Flow::Quit;
        }
        if let Err(error) = self.act(line).await {
            self.say(words(&error));
        }
        Flow::Stay
    }

    async fn act(&mut self, line: &str) -> Result<(), Error> {
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match command {
            "/help" => HELP.lines().for_each(|line| self.say(line)),
            "/with" => self.with(rest).await?,
            "/find" => self.find(rest).await?,
            "/chats" => self.chats().await?,
            "/open" => self.open_listed(rest).await?,
            "/back" => {
                if self.opened().is_some() {
                    self.back = rest.parse().unwrap_or(BACK_EVENTS);
                }
            }
            "/retry" | "/discard" => self.refused(command == "/retry")?,
            "/me" => {
                let me = self.client.me().await?;
                self.say(format!(
                    "you are {} ({})",
                    one_line(&me.name),
                    one_line(&me.display_name)
                ));
            }
            "/logout" => {
                self.client.sign_out().await?;
                self.open = None;
                self.say("signed out; /quit leaves");
            }
            text if text.starts_with('/') && !text.starts_with("//") => {
                self.say(format!(
                    "there is no {}; /help lists what there is",
                    one_line(text)
                ));
            }
            _ => {
                let Some(chat) = self.opened() else {
                    return Ok(());
                };
                self.client
                    .send(chat, line.strip_prefix('/').unwrap_or(line))
                    .await?;
            }
        }
        Ok(())
    }

    fn opened(&mut self) -> Option<ChatId> {
        if self.open.is_none() {
            self.say("no chat is open; /with NAME opens one");
        }
        self.open
    }

    async fn with(&mut self, name: &str) -> Result<(), Error> {
        if name.is_empty() {
            self.say("with whom? /with NAME");
            return Ok(());
        }
        let found = self.client.search(name, 20).await?.users;
        let exact = found.iter().find(|user| user.name == name.to_lowercase());
        let user = match (exact, found.as_slice()) {
            (Some(user), _) => user.clone(),
            (None, [only]) => only.clone(),
            (None, []) => {
                self.say(format!("nobody is called {}", one_line(name)));
                return Ok(());
            }
            (None, several) => {
                let names: Vec<String> = several.iter().map(|user| one_line(&user.name)).collect();
                self.say(format!("whom of {}?", names.join(", ")));
                return Ok(());
            }
        };
        let id = user.user_id;
        self.names.insert(id, user);
        let chat = self.client.open_direct(id).await?;
        self.show(chat.chat_id).await;
        Ok(())
    }

    async fn show(&mut self, chat: ChatId) {
        self.open = Some(chat);
        self.learn_names().await;
        let view = self.client.chat(chat, OPENED_EVENTS);
        if view.is_some_and(|view| view.older && view.events.len() < OPENED_EVENTS) {
            // Offline, what is here is shown; /back tries again.
            if let Err(error) = self.client.older(chat, OPENED_EVENTS as u32).await {
                self.say(words(&error));
            }
        }
        self.say(format!("talking with {}", self.title(chat)));
    }

    async fn find(&mut self, text: &str) -> Result<(), Error> {
        if text.is_empty() {
            self.say("whom? /find TEXT");
            return Ok(());
        }
        let answer = self.client.search(text, 20).await?;
        if answer.users.is_empty() {
            self.say("nobody");
        }
        for user in answer.users {
            self.say(format!(
                "{}  {}",
                one_line(&user.name),
                one_line(&user.display_name)
            ));
            self.names.insert(user.user_id, user);
        }
        if answer.more {
            self.say("and more");
        }
        Ok(())
    }

    async fn chats(&mut self) -> Result<(), Error> {
        // Without a connection, the chats that are known here.
        match self.client.list_chats(LISTED_MAX as u32, "").await {
            Err(Error::Offline(_) | Error::Timeout(_)) => {
                self.say("offline; these are the chats known here")
            }
            listed => _ = listed?,
        }
        self.learn_names().await;
        let views = self.client.chats();
        // What is listed is no news.
        self.noticed
            .extend(views.iter().map(|view| (view.chat.chat_id, view.head)));
        self.listed = views
            .iter()
            .take(LISTED_MAX)
            .map(|view| view.chat.chat_id)
            .collect();
        if views.is_empty() {
            self.say("no chats yet; /with NAME opens one");
        }
        for (number, view) in views.iter().take(LISTED_MAX).enumerate() {
            let last = view
                .events
                .last()
                .map(|event| self.event_line(event))
                .unwrap_or_default();
            self.say(format!(
                "{}  {}  {last}",
                number + 1,
                self.title(view.chat.chat_id)
            ));
        }
        Ok(())
    }

    async fn open_listed(&mut self, number: &str) -> Result<(), Error> {
        let at = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        match at.and_then(|at| self.listed.get(at)).copied() {
            Some(chat) => self.show(chat).await,
            None => self.say("which? /chats lists them with their numbers"),
        }
        Ok(())
    }

    fn refused(&mut self, again: bool) -> Result<(), Error> {
        let failed: Vec<Entry> = self
            .client
            .outbox()
            .into_iter()
            .filter(|e| matches!(e.state, State::Failed(_)))
            .collect();
        if failed.is_empty() {
            self.say("nothing was refused");
        }
        for entry in failed {
            if again {
                self.client.retry(entry.chat, &entry.client_message_id)?;
            } else {
                self.client.discard(entry.chat, &entry.client_message_id)?;
            }
        }
        Ok(())
    }

    /// Tells what the person should know of a change beside the open chat.
    pub async fn notice(&mut self, change: Change) {
        match change {
            Change::Message {
                state: State::Failed(why),
                ..
            } => {
                self.say(format!("not sent: {} (/retry or /discard)", one_line(&why)));
            }
            Change::Chat(chat) => {
                let Some(view) = self.client.chat(chat, 1) else {
                    return;
                };
                let Some(last) = view.events.last() else {
                    return;
                };
                let before = self.noticed.insert(chat, last.seq).unwrap_or(0);
                if self.open != Some(chat) && last.seq > before && last.actor_id != self.me {
                    self.learn_names().await;
                    self.say(format!("something new from {}", self.title(chat)));
                }
            }
            _ => {}
        }
    }

    /// Asks for the names of everybody in the known chats who has none yet.
    pub async fn learn_names(&mut self) {
        let chats = self.client.chats();
        let everybody = chats
            .iter()
            .flat_map(|view| view.chat.member_ids.iter().copied())
            .chain([self.me]);
        let unknown: BTreeSet<UserId> = everybody
            .filter(|user| !self.names.contains_key(user))
            .collect();
        if unknown.is_empty() {
            return;
        }
        let unknown = unknown.into_iter().take(NAMES_MAX).collect();
        // Names can wait; numbers stand in for them.
        if let Ok(Ok(users)) = timeout(NAMES_TIMEOUT, self.client.users(unknown)).await {
            self.names
                .extend(users.into_iter().map(|user| (user.user_id, user)));
        }
    }

    /// How a user is called on the screen.
    pub fn name(&self, user: UserId) -> String {
        self.names
            .get(&user)
            .map_or_else(|| format!("user {user}"), |user| one_line(&user.name))
    }

    /// How a chat is called: by who else is in it.
    pub fn title(&self, chat: ChatId) -> String {
        let chat = self.client.chat(chat, 0).map(|view| view.chat);
        let Some(Chat { member_ids, .. }) = chat else {
            return "a new chat".into();
        };
        let others: Vec<String> = member_ids
            .iter()
            .filter(|user| **user != self.me)
            .map(|user| self.name(*user))
            .collect();
        if others.is_empty() {
            "a new chat".into()
        } else {
            others.join(", ")
        }
    }

    /// `seq name: text`
    pub fn event_line(&self, event: &Event) -> String {
        format!(
            "{} {}: {}",
            event.seq,
            self.name(event.actor_id),
            one_line(text(event))
        )
    }
}

/// What an event says; nothing for kinds that this version does not know.
pub fn text(event: &Event) -> &str {
    match &event.body {
        Some(Body::Message(message)) => &message.text,
        _ => "(something that this version can not show)",
    }
}

/// The connection in a few words.
pub fn connection(state: &Connection) -> String {
    match state {
        Connection::Stopped => "stopped".into(),
        Connection::SignedOut(None) => "signed out".into(),
        Connection::SignedOut(Some(why)) => format!("signed out: {}", one_line(why)),
        Connection::Connecting => "connecting".into(),
        Connection::Online => "online".into(),
        Connection::Offline { reason, .. } => format!("offline: {}", one_line(reason)),
        Connection::Refused { reason, .. } => format!("refused: {}", one_line(reason)),
    }
}
