//! One person at a terminal: which chat is open, how people are called, what there is to tell.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tertulia_client::proto::chats::ChatKind;
use tertulia_client::proto::users::User;
use tertulia_client::{Change, ChatId, ChatView, Client, Connection, State, UserId};
use tokio::time::{Instant, timeout};

use super::commands::now_ms;
use super::sentences;
use crate::terminal::one_line;

/// How much of a chat is read when it is opened.
pub const OPENED_EVENTS: usize = 20;
/// How long a look-up of names may hold up what is shown.
const NAMES_TIMEOUT: Duration = Duration::from_secs(3);
/// How many names are asked for at once.
const NAMES_MAX: usize = 100;
/// How long somebody who types is shown as typing.
const TYPING_HOLDS: Duration = Duration::from_secs(6);
/// The shortest time between two words that the person is typing.
const TYPING_PAUSE: Duration = Duration::from_secs(4);
/// The kind of a notice whose text is for people.
const ANNOUNCEMENT: &str = "announcement";

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
    /// The chats of the last list.
    pub(super) listed: Vec<ChatId>,
    names: HashMap<UserId, User>,
    /// Who types where, and since when.
    typing: HashMap<(ChatId, UserId), Instant>,
    /// When others were last told that the person types.
    typed: Option<Instant>,
    /// Up to where the server was last told that something was seen.
    marked: (ChatId, i64),
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
        App {
            client,
            me,
            open: None,
            back: 0,
            listed: Vec::new(),
            names: HashMap::new(),
            typing: HashMap::new(),
            typed: None,
            marked: (0, 0),
            noticed,
            said: Vec::new(),
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

    /// Tells what the person should know of a change beside the open chat.
    pub async fn notice(&mut self, change: Change) {
        match change {
            Change::Message {
                state: State::Failed(why),
                ..
            } => {
                self.say(format!("not sent: {} (/retry or /discard)", one_line(&why)));
            }
            Change::Typing { chat, user } => {
                self.typing.insert((chat, user), Instant::now());
                self.learn([user]).await;
            }
            Change::Notice { kind, text, .. } if kind == ANNOUNCEMENT => {
                self.say(format!("announcement: {}", one_line(&text)));
            }
            Change::Chat(chat) => {
                let Some(view) = self.client.chat(chat, 1) else {
                    return;
                };
                let Some(last) = view.events.last() else {
                    return;
                };
                // Who has spoken has stopped typing.
                self.typing.remove(&(chat, last.actor_id));
                let before = self.noticed.insert(chat, last.seq).unwrap_or(0);
                let is_news = last.seq > before && view.unread > 0 && !is_quiet(&view);
                if self.open != Some(chat) && is_news && last.actor_id != self.me {
                    self.learn_names().await;
                    let (title, unread) = (self.title(chat), sentences::unread(&view));
                    self.say(format!("something new in {title}{unread}"));
                }
                if self.open == Some(chat) && view.left.is_some() {
                    self.open = None;
                    self.say(format!("you are no longer in {}", self.title(chat)));
                }
            }
            _ => {}
        }
    }

    /// What is listed is no news.
    pub(super) fn noticed(&mut self, views: &[&ChatView]) {
        let heads = views.iter().map(|view| (view.chat.chat_id, view.head));
        self.noticed.extend(heads);
    }

    // ---- who is there

    /// Whether the other one of the open direct chat is there.
    pub fn presence(&self) -> Option<String> {
        self.presence_of(self.other(self.open?)?)
    }

    /// The other one of a direct chat.
    pub fn other(&self, chat: ChatId) -> Option<UserId> {
        let chat = self.client.chat(chat, 0)?.chat;
        let is_direct = chat.kind == ChatKind::CHAT_KIND_DIRECT;
        let mut others = chat.member_ids.iter().filter(|user| **user != self.me);
        others.next().copied().filter(|_| is_direct)
    }

    /// Whether somebody is there; none when it is not known.
    pub fn presence_of(&self, user: UserId) -> Option<String> {
        let presence = self.client.presence(user)?;
        Some(sentences::presence(presence, now_ms()))
    }

    // ---- typing

    /// Who types in the open chat.
    pub fn typing(&self) -> Vec<String> {
        let holds = |at: &Instant| at.elapsed() < TYPING_HOLDS;
        let here = |(chat, user): &(ChatId, UserId)| Some(*chat) == self.open && *user != self.me;
        let there = self
            .typing
            .iter()
            .filter(|(key, at)| here(key) && holds(at));
        let mut names: Vec<String> = there.map(|((_, user), _)| self.name(*user)).collect();
        names.sort_unstable();
        names
    }

    /// The person types; others are told now and then.
    pub fn types(&mut self) {
        let Some(chat) = self.open else { return };
        if self.typed.is_none_or(|at| at.elapsed() >= TYPING_PAUSE) {
            self.typed = Some(Instant::now());
            let client = self.client.clone();
            // That it is not told does no harm.
            beside(async move { _ = client.typing(chat).await });
        }
    }

    /// The person has seen what is shown of the open chat.
    pub fn saw(&mut self) {
        let Some(view) = self.open.and_then(|chat| self.client.chat(chat, 1)) else {
            return;
        };
        let (chat, last) = (view.chat.chat_id, view.events.last().map_or(0, |e| e.seq));
        let is_new = last > view.seen && self.marked != (chat, last);
        if is_new && view.left.is_none() && view.unread > 0 {
            self.marked = (chat, last);
            let client = self.client.clone();
            // When it can not be told, it is told with what is seen next.
            beside(async move { _ = client.mark_read(chat, last).await });
        }
    }

    // ---- names

    pub(super) fn know(&mut self, user: User) {
        self.names.insert(user.user_id, user);
    }

    pub(super) fn known_by_name(&self, name: &str) -> Option<UserId> {
        let mut users = self.names.values();
        users
            .find(|user| user.name == name)
            .map(|user| user.user_id)
    }

    /// Asks for the names of everybody who is shown and has none yet.
    pub async fn learn_names(&mut self) {
        let mut users = BTreeSet::from([self.me]);
        for view in self.client.chats() {
            users.extend(&view.chat.member_ids);
            users.extend(view.last_message.iter().flat_map(sentences::named));
        }
        let open = self
            .open
            .and_then(|chat| self.client.chat(chat, usize::MAX));
        for event in open.iter().flat_map(|view| &view.events) {
            users.extend(sentences::named(event));
        }
        self.learn(users).await;
    }

    /// Asks for the names of the members of a chat.
    pub(super) async fn learn_members(&mut self, chat: ChatId) {
        let listed = timeout(
            NAMES_TIMEOUT,
            self.client.members(chat, 0, NAMES_MAX as u32),
        )
        .await;
        if let Ok(Ok(page)) = listed {
            self.learn(page.members.iter().map(|member| member.user_id))
                .await;
        }
    }

    /// Asks for those names that are not known.
    pub(super) async fn learn(&mut self, users: impl IntoIterator<Item = UserId>) {
        let unknown = users
            .into_iter()
            .filter(|user| !self.names.contains_key(user));
        let unknown: BTreeSet<UserId> = unknown.collect();
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

    /// How a chat is called: by its title, or by who else is in it.
    pub fn title(&self, chat: ChatId) -> String {
        let Some(view) = self.client.chat(chat, 0) else {
            return "a new chat".into();
        };
        let chat = view.chat;
        if chat.kind != ChatKind::CHAT_KIND_DIRECT && !chat.title.is_empty() {
            let avatar = one_line(&chat.avatar);
            let space = if avatar.is_empty() { "" } else { " " };
            return format!("{avatar}{space}{}", one_line(&chat.title));
        }
        let others = chat.member_ids.iter().filter(|user| **user != self.me);
        let others: Vec<String> = others.map(|user| self.name(*user)).collect();
        match others.is_empty() {
            true => "a new chat".into(),
            false => others.join(", "),
        }
    }
}

/// Does something that nobody waits for.
#[expect(
    clippy::disallowed_methods,
    reason = "a terminal client stands alone, without the kit's lifecycle"
)]
fn beside(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

/// The person does not want to be told of every message here.
fn is_quiet(view: &ChatView) -> bool {
    // Until when is the server's to say; what is muted for a while is muted for now.
    view.settings.muted_until_ms != 0 || view.settings.archived
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
