//! The face of the SDK.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tertulia_proto::chats::list_events_request::From as Start;
use tertulia_proto::chats::{
    Chat, ListChatsRequest, ListChatsResponse, ListEventsRequest, ListEventsResponse,
    OpenDirectRequest, OpenDirectResponse,
};
use tertulia_proto::identity::{
    CreateAccountRequest, CreateAccountResponse, Credentials, Device, ListLoginsRequest,
    ListLoginsResponse, LoginRequest, LoginResponse, LogoutRequest, LogoutResponse,
};
use tertulia_proto::users::{
    GetMeRequest, GetMeResponse, GetUsersRequest, GetUsersResponse, SearchUsersRequest,
    SearchUsersResponse, UpdateProfileRequest, UpdateProfileResponse, User,
};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::core::{Change, ChatView, Connection, Core, Observer, Options, Seen, empty, message};
use crate::error::{Error, Result};
use crate::http::{Address, Http};
use crate::outbox::{Entry, State};
use crate::store::{Record, Store, file, memory};
use crate::time::{Machine, System, random_id};
use crate::transport::Transport;
use crate::{ChatId, UserId, session};

/// The longest message, in characters, as the contract says.
pub const TEXT_CHARS_MAX: usize = 8_000;

/// The longest page of history: its longest messages still fit into one frame.
pub const PAGE_EVENTS_MAX: u32 = 200;

const IDENTITY: &str = "tertulia.identity.v1.IdentityService";
const USERS: &str = "tertulia.users.v1.UsersService";
const CHATS: &str = "tertulia.chats.v1.ChatsService";

/// Makes a [`Client`].
pub struct Builder {
    url: String,
    store: Option<Arc<dyn Store>>,
    folder: Option<PathBuf>,
    options: Options,
    observer: Option<Observer>,
    transport: Option<Arc<dyn Transport>>,
    machine: Arc<dyn Machine>,
}

impl Builder {
    /// Keeps what the client knows in this folder, which belongs to one process at a time.
    #[must_use]
    pub fn folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.folder = Some(path.into());
        self
    }

    /// Keeps what the client knows in this store; without one, in memory.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets the bounds.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Is told of each event when it is first shown; see [`Observer`].
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Seen) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Reaches the server by this; without one, by HTTP and a WebSocket.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Takes time and chance from this machine; without one, from the one that it runs on.
    #[must_use]
    pub fn machine(mut self, machine: Arc<dyn Machine>) -> Self {
        self.machine = machine;
        self
    }

    /// Reads what is stored and makes the client. It does not connect yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed address, [`Error::Store`] when the store can not be opened.
    pub fn build(self) -> Result<Client> {
        let store = match (self.store, self.folder) {
            (Some(store), _) => store,
            (None, Some(folder)) => Arc::new(file::Folder::open(folder)?),
            (None, None) => Arc::new(memory::Memory::default()),
        };
        let transport = match self.transport {
            Some(transport) => transport,
            None => Arc::new(Http::new(Address::parse(&self.url)?)),
        };
        let core = Core::new(transport, self.machine, store, self.options, self.observer)?;
        Ok(Client {
            inner: Arc::new(Inner {
                core: Arc::new(core),
                running: Mutex::new(None),
            }),
        })
    }
}

/// One account on one device. Clones share everything; the connection ends with the last of them.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    // Guards the one task that holds the connection; held to start or stop it.
    running: Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((stop, _)) = self.running.lock().take() {
            stop.cancel();
        }
    }
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:8080`.
    pub fn builder(url: impl Into<String>) -> Builder {
        let (store, folder, observer, transport) = (None, None, None, None);
        Builder {
            url: url.into(),
            store,
            folder,
            options: Options::default(),
            observer,
            transport,
            machine: Arc::new(System),
        }
    }

    fn core(&self) -> &Core {
        &self.inner.core
    }

    // ---- who

    /// The id of this device: made once and kept.
    pub fn device_id(&self) -> String {
        self.core().mind().known.device.clone()
    }

    /// The signed-in user.
    pub fn user_id(&self) -> Option<UserId> {
        self.core()
            .mind()
            .known
            .credentials
            .as_ref()
            .map(|c| c.user_id)
    }

    /// The access token, for tools that call methods on their own.
    ///
    /// # Errors
    /// [`Error::SignedOut`], or why an ended one could not be replaced.
    pub async fn access_token(&self) -> Result<String> {
        self.core().fresh_token(None).await
    }

    fn device(&self) -> Device {
        let name = self.core().options.device_name.clone();
        Device {
            device_id: self.device_id(),
            name,
            ..Default::default()
        }
    }

    /// Makes an account and signs in. What another user left in the store is gone.
    ///
    /// # Errors
    /// `NAME_TAKEN`, `WEAK_PASSWORD`, `INVALID_REQUEST`, or that there was no answer.
    pub async fn sign_up(&self, name: &str, password: &str, display_name: &str) -> Result<UserId> {
        let request = CreateAccountRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            display_name: display_name.to_owned(),
            device: self.device().into(),
            ..Default::default()
        };
        let method = format!("{IDENTITY}/CreateAccount");
        let answer: CreateAccountResponse = self.core().call_alone(&method, None, &request).await?;
        self.signed_in(answer.credentials.into_option()).await
    }

    /// Signs in on this device. Unsent messages of the same user are still here and go out.
    ///
    /// # Errors
    /// `WRONG_CREDENTIALS`, `TOO_MANY_REQUESTS`, or that there was no answer.
    pub async fn sign_in(&self, name: &str, password: &str) -> Result<UserId> {
        let request = LoginRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            device: self.device().into(),
            ..Default::default()
        };
        let method = format!("{IDENTITY}/Login");
        let answer: LoginResponse = self.core().call_alone(&method, None, &request).await?;
        self.signed_in(answer.credentials.into_option()).await
    }

    async fn signed_in(&self, credentials: Option<Credentials>) -> Result<UserId> {
        let credentials = credentials.ok_or_else(|| empty("credentials"))?;
        let user = credentials.user_id;
        // A session of the login before must not speak into what belongs to this one.
        let running = self.is_running();
        self.stop().await;
        let kept = self.core().signed_in(credentials).await;
        if running {
            self.start();
        }
        kept.map(|()| user)
    }

    /// Ends the login and forgets everything but the device, unsent messages too. A server that can not be
    /// reached does not keep anybody signed in here. A started client connects again after the next sign-in.
    ///
    /// # Errors
    /// Only when the store can not be written.
    pub async fn sign_out(&self) -> Result<()> {
        let told: Result<LogoutResponse> = self
            .core()
            .call(&format!("{IDENTITY}/Logout"), &LogoutRequest::default())
            .await;
        if let Err(error) = told {
            tracing::debug!(%error, "the server was not told of the sign-out");
        }
        let running = self.is_running();
        self.stop().await;
        self.core().change(|set| {
            set.put(Record::SignedOut);
            set.mind.life = None;
            set.begin_anew();
        })?;
        self.core().sync().await?;
        if running {
            self.start();
        }
        Ok(())
    }

    /// The logins of the user, newest first.
    ///
    /// # Errors
    /// As every call.
    pub async fn logins(&self) -> Result<ListLoginsResponse> {
        self.core()
            .call(
                &format!("{IDENTITY}/ListLogins"),
                &ListLoginsRequest::default(),
            )
            .await
    }

    // ---- the connection

    /// Connects, and stays connected until [`stop`](Self::stop). Nothing happens when it already does; after
    /// a refusal of the server it tries again. Must be called within a tokio runtime.
    #[expect(
        clippy::disallowed_methods,
        reason = "the client stands alone, without the kit's lifecycle"
    )]
    pub fn start(&self) {
        let mut running = self.inner.running.lock();
        if matches!(*self.core().connection.borrow(), Connection::Refused { .. }) {
            self.core().again.send_modify(|n| *n += 1);
        }
        if running
            .as_ref()
            .is_some_and(|(_, task)| !task.is_finished())
        {
            return;
        }
        let stop = CancellationToken::new();
        let task = tokio::spawn(session::keep(Arc::clone(&self.inner.core), stop.clone()));
        *running = Some((stop, task));
    }

    fn is_running(&self) -> bool {
        self.inner.running.lock().is_some()
    }

    /// Disconnects. Messages wait in the outbox.
    pub async fn stop(&self) {
        let running = self.inner.running.lock().take();
        if let Some((stop, task)) = running {
            stop.cancel();
            // It ends by itself; a panic in it was reported by the runtime.
            _ = task.await;
        }
    }

    /// The state of the connection, and each one that follows.
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.core().connection.subscribe()
    }

    /// What changes from now on. After `Lagged`, read everything again.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.core().changes()
    }

    /// Everything that the server was known to hold has been shown, and everything written here is confirmed
    /// or failed.
    pub fn is_settled(&self) -> bool {
        let mind = self.core().mind();
        let sent = mind
            .known
            .outbox
            .iter()
            .all(|e| matches!(e.state, State::Failed(_)));
        sent && mind
            .known
            .chats
            .values()
            .all(|known| known.timeline.hole().is_none())
    }

    // ---- people

    /// The user's own profile.
    ///
    /// # Errors
    /// As every call.
    pub async fn me(&self) -> Result<User> {
        let answer: GetMeResponse = self
            .core()
            .call(&format!("{USERS}/GetMe"), &GetMeRequest::default())
            .await?;
        answer.user.into_option().ok_or_else(|| empty("user"))
    }

    /// The profiles of up to 100 users; unknown ones are left out.
    ///
    /// # Errors
    /// As every call.
    pub async fn users(&self, user_ids: Vec<UserId>) -> Result<Vec<User>> {
        let request = GetUsersRequest {
            user_ids,
            ..Default::default()
        };
        let answer: GetUsersResponse = self
            .core()
            .call(&format!("{USERS}/GetUsers"), &request)
            .await?;
        Ok(answer.users)
    }

    /// Changes what is given.
    ///
    /// # Errors
    /// As every call.
    pub async fn update_profile(
        &self,
        display_name: Option<String>,
        about: Option<String>,
    ) -> Result<User> {
        let request = UpdateProfileRequest {
            display_name,
            about,
            ..Default::default()
        };
        let answer: UpdateProfileResponse = self
            .core()
            .call(&format!("{USERS}/UpdateProfile"), &request)
            .await?;
        answer.user.into_option().ok_or_else(|| empty("user"))
    }

    /// Finds people by the beginning of their name.
    ///
    /// # Errors
    /// As every call.
    pub async fn search(&self, query: &str, limit: u32) -> Result<SearchUsersResponse> {
        let request = SearchUsersRequest {
            query: query.to_owned(),
            limit,
            ..Default::default()
        };
        self.core()
            .call(&format!("{USERS}/SearchUsers"), &request)
            .await
    }

    // ---- chats

    /// Opens the direct chat with a user: always the same one.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `CHAT_WITH_SELF`, or as every call.
    pub async fn open_direct(&self, user_id: UserId) -> Result<Chat> {
        let request = OpenDirectRequest {
            user_id,
            ..Default::default()
        };
        let answer: OpenDirectResponse = self
            .core()
            .call(&format!("{CHATS}/OpenDirect"), &request)
            .await?;
        let chat = answer.chat.into_option().ok_or_else(|| empty("chat"))?;
        let met = chat.clone();
        // Somebody looks at it now: all of it when that is not much, else its end.
        let fresh = self.core().options.hole_events_max;
        self.core().change(|set| set.chat_met(met, fresh))?;
        Ok(chat)
    }

    /// A page of the user's chats from the server, newest first; they are known here from then on.
    ///
    /// # Errors
    /// `BAD_CURSOR` for a foreign page token, or as every call.
    pub async fn list_chats(&self, limit: u32, page_token: &str) -> Result<ListChatsResponse> {
        let request = ListChatsRequest {
            limit,
            page_token: page_token.to_owned(),
            ..Default::default()
        };
        let answer: ListChatsResponse = self
            .core()
            .call(&format!("{CHATS}/ListChats"), &request)
            .await?;
        let met = answer.chats.clone();
        let fresh = self.core().options.fresh_events;
        self.core()
            .change(|set| met.into_iter().for_each(|chat| set.chat_met(chat, fresh)))?;
        Ok(answer)
    }

    /// The chats that are known here, the one with the newest event first.
    pub fn chats(&self) -> Vec<ChatView> {
        let ids: Vec<ChatId> = self.core().mind().known.chats.keys().copied().collect();
        let mut views: Vec<ChatView> = ids
            .into_iter()
            .filter_map(|chat| self.chat(chat, 1))
            .collect();
        let newest = |view: &ChatView| {
            view.events
                .last()
                .map_or(view.chat.created_at_ms, |e| e.at_ms)
        };
        views.sort_by_key(|view| std::cmp::Reverse(newest(view)));
        views
    }

    /// A chat with its newest `last` events, as they are shown. None when nothing is known of it.
    pub fn chat(&self, chat: ChatId, last: usize) -> Option<ChatView> {
        let mind = self.core().mind();
        let known = mind.known.chats.get(&chat)?;
        let timeline = &known.timeline;
        let mut events: Vec<_> = timeline.shown().rev().take(last).cloned().collect();
        events.reverse();
        let all_shown = events
            .first()
            .is_none_or(|first| first.seq == *timeline.window().start());
        let older = !all_shown || timeline.older_before().is_some();
        // Our own messages behind a hole are stored, but not shown as events yet.
        let held_back = timeline
            .held_back()
            .filter_map(|event| own_entry(event, &mind.known.device));
        let pending = held_back
            .chain(mind.known.outbox.of(chat).cloned())
            .collect();
        Some(ChatView {
            chat: known.chat.clone(),
            events,
            pending,
            head: timeline.head(),
            older,
        })
    }

    /// Reads up to `limit` events before those that are shown and shows them too. Gives how many came; 0 at
    /// the beginning of the chat.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, or as every call.
    pub async fn older(&self, chat: ChatId, limit: u32) -> Result<usize> {
        let before = {
            let mind = self.core().mind();
            let known = mind.known.chats.get(&chat);
            let Some(before) = known.map_or(Some(0), |k| k.timeline.older_before()) else {
                return Ok(0);
            };
            before
        };
        let page = self.history(chat, Start::BeforeSeq(before), limit).await?;
        let count = page.events.len();
        if before == 0 {
            // Nothing was known of this chat.
            let head = page.head;
            let events = page.events;
            self.core().change(|set| {
                if let Some(first) = events.first() {
                    set.put(Record::Position {
                        chat,
                        tip: first.seq - 1,
                        head,
                    });
                    set.put(Record::Events {
                        chat,
                        from: first.seq,
                        to: head,
                        events,
                    });
                }
            })?;
            return Ok(count);
        }
        // History is not stored: the server has it.
        if let Some(known) = self.core().mind().known.chats.get_mut(&chat) {
            known.timeline.page_before(before, page.events, page.head);
        }
        self.core().tell(Change::Chat(chat));
        Ok(count)
    }

    /// Reads a part of a chat's log from the server, at most [`PAGE_EVENTS_MAX`] events, without keeping it.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, or as every call.
    pub async fn history(
        &self,
        chat: ChatId,
        from: Start,
        limit: u32,
    ) -> Result<ListEventsResponse> {
        let request = ListEventsRequest {
            chat_id: chat,
            from: Some(from),
            limit: limit.min(PAGE_EVENTS_MAX),
            ..Default::default()
        };
        self.core()
            .call(&format!("{CHATS}/ListEvents"), &request)
            .await
    }

    // ---- messages

    /// Puts a message into the outbox and gives its id. When this returns, the message is on disk and goes
    /// out as soon as there is a connection, once, in the order of the calls.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty or too long text or a full outbox, [`Error::SignedOut`],
    /// [`Error::Store`].
    pub async fn send(&self, chat: ChatId, text: &str) -> Result<String> {
        if text.is_empty() || text.chars().count() > TEXT_CHARS_MAX {
            return Err(Error::Invalid(format!(
                "a message has 1 to {TEXT_CHARS_MAX} characters"
            )));
        }
        let entry = Entry {
            chat,
            client_message_id: random_id(&*self.core().machine),
            text: text.to_owned(),
            at_ms: self.core().machine.now_ms(),
            state: State::Queued,
        };
        let id = entry.client_message_id.clone();
        let max = self.core().options.outbox_max;
        self.core().change(|set| {
            if set.mind.known.user == 0 {
                return Err(Error::SignedOut);
            }
            if set.mind.known.outbox.len() >= max {
                return Err(Error::Invalid(format!("{max} messages wait already")));
            }
            set.told.push(message(&entry, State::Queued));
            set.put(Record::Message(entry));
            Ok(())
        })??;
        self.core().sync().await?;
        Ok(id)
    }

    /// Every message that is not confirmed.
    pub fn outbox(&self) -> Vec<Entry> {
        self.core().mind().known.outbox.iter().cloned().collect()
    }

    /// Sends a failed message again. Nothing happens when there is no such one.
    ///
    /// # Errors
    /// Only when the store can not be written.
    pub fn retry(&self, chat: ChatId, client_message_id: &str) -> Result<()> {
        let failed = {
            let mind = self.core().mind();
            let entry = mind.known.outbox.entry(chat, client_message_id);
            entry.is_some_and(|e| matches!(e.state, State::Failed(_)))
        };
        if failed {
            self.core().mark(chat, client_message_id, State::Queued)
        } else {
            Ok(())
        }
    }

    /// Gives up a failed message. One that may be on its way stays: it can not be called back.
    ///
    /// # Errors
    /// Only when the store can not be written.
    pub fn discard(&self, chat: ChatId, client_message_id: &str) -> Result<()> {
        self.core().change(|set| {
            let entry = set.mind.known.outbox.entry(chat, client_message_id);
            if entry.is_some_and(|e| matches!(e.state, State::Failed(_))) {
                let client_message_id = client_message_id.to_owned();
                set.put(Record::MessageGone {
                    chat,
                    client_message_id,
                });
                set.told.push(Change::Chat(chat));
            }
        })
    }
}

fn own_entry(event: &tertulia_proto::chats::Event, device: &str) -> Option<Entry> {
    let Some(tertulia_proto::chats::event::Body::Message(message)) = &event.body else {
        return None;
    };
    (message.device_id == device).then(|| Entry {
        chat: event.chat_id,
        client_message_id: message.client_message_id.clone(),
        text: message.text.clone(),
        at_ms: event.at_ms,
        state: State::Sent(event.seq),
    })
}
