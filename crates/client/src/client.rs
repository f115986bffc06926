//! The face of the SDK: who somebody is, and the connection. What can be done with chats is beside it, by what
//! it is done to.

mod chats;
mod members;
mod messages;
mod own;
mod people;
mod presence;

pub use chats::{ChatUpdate, NewChat, PAGE_EVENTS_MAX, Verified};
pub use members::Invitation;
pub use messages::{NewMessage, TEXT_CHARS_MAX};

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tertulia_proto::identity::{
    CreateAccountRequest, Credentials, Device, ListLoginsRequest, ListLoginsResponse, LoginRequest,
    LogoutRequest,
};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::change::{Change, Connection, Observer, Seen};
use crate::core::{Core, empty};
use crate::error::Result;
use crate::failover::Failover;
use crate::http::{Address, Http};
use crate::methods::Method;
use crate::options::Options;
use crate::outbox::State;
use crate::store::{Record, Store, file, memory};
use crate::time::{Machine, System};
use crate::transport::Transport;
use crate::{UserId, session};

/// How often a call that names itself is made when its answer does not come.
const CALL_TRIES_MAX: u32 = 3;

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
            None => of_nodes(&self.url, &*self.machine)?,
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

/// By HTTP to the node of an address, or to any of several.
fn of_nodes(urls: &str, chance: &dyn Machine) -> Result<Arc<dyn Transport>> {
    let mut nodes: Vec<Arc<dyn Transport>> = Vec::new();
    for url in urls.split(',') {
        nodes.push(Arc::new(Http::new(Address::parse(url.trim())?)));
    }
    Ok(match nodes.len() {
        1 => nodes.remove(0),
        _ => Arc::new(Failover::new(nodes, chance)),
    })
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
    /// A client of the server at `url`, such as `http://127.0.0.1:8080`. Several with commas between them are nodes
    /// of one deployment: the client uses one of them, and the next one when that is gone.
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
        let answer = self.core().ask_alone(None, &request).await?;
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
        let answer = self.core().ask_alone(None, &request).await?;
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
        if let Err(error) = self.core().ask(&LogoutRequest::default()).await {
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
        self.core().ask(&ListLoginsRequest::default()).await
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

    /// Everything that the server was known to hold has been shown, and everything written here is stored or
    /// failed.
    pub fn is_settled(&self) -> bool {
        let mind = self.core().mind();
        let is_done = |state: &State| matches!(state, State::Failed(_) | State::Sent(_));
        let sent = mind.known.outbox.iter().all(|e| is_done(&e.state));
        let mut chats = mind.known.chats.values();
        sent && chats.all(|chat| chat.left().is_some() || chat.hole().is_none())
    }

    /// Makes a call that carries a name of its own, so that it may be made again: the server answers as the
    /// first time.
    async fn ask_again<Q: Method>(&self, request: &Q) -> Result<Q::Answer> {
        let core = self.core();
        let mut backoff = core.backoff();
        let mut tries = 1;
        loop {
            match core.ask(request).await {
                Err(error) if error.is_retryable() && tries < CALL_TRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(backoff.next(error.retry_after())).await;
                }
                answer => return answer,
            }
        }
    }
}
