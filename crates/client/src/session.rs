//! One live session: hello, then frames both ways until it ends. Beside the pump that reads and writes the
//! wire run three workers, all in one task: one fills holes, one empties the outbox, one renews the token.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use buffa::Message as _;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tertulia_proto::chats::list_events_request::From as Start;
use tertulia_proto::chats::{
    GetChatRequest, GetChatResponse, ListEventsRequest, ListEventsResponse, ListUserEventsRequest,
    ListUserEventsResponse, SendMessageRequest, SendMessageResponse,
};
use tertulia_proto::live::connect_request::Frame as Up;
use tertulia_proto::live::connect_response::Frame as Down;
use tertulia_proto::live::{
    Alive, Call, CallError, CatchUp, ConnectRequest, ConnectResponse, Goodbye, Hello, Renew,
    Welcome, call, reply,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::backoff::Backoff;
use crate::core::{Connection, Core, Job, Next, empty};
use crate::error::{Error, Refusal, Result};
use crate::outbox::Entry;
use crate::transport::{Heard, Wire};

/// How many calls wait to be written to the socket; further ones wait with their callers.
const CALLS_QUEUED_MAX: usize = 64;
/// How many calls may be under way before no more are read from the queue.
const CALLS_UNDER_WAY_MAX: usize = 256;
/// How many events are asked for at once: the longest ones must fit into one frame.
const PAGE_EVENTS: u32 = 100;
/// How long the courtesy of a close may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// What a heartbeat is when the server does not say.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(30);

/// Why a session is over.
#[derive(Debug)]
pub(crate) enum End {
    /// The server said so.
    Goodbye(Goodbye),
    /// The connection broke, did not come about, or made no sense.
    Broken(Error),
}

impl<E: Into<Error>> From<E> for End {
    fn from(error: E) -> Self {
        End::Broken(error.into())
    }
}

/// Makes calls over a session. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls(mpsc::Sender<Asked>);

#[derive(Debug)]
enum Asked {
    Call {
        method: String,
        body: Vec<u8>,
        timeout: Duration,
        answer: oneshot::Sender<Result<Vec<u8>>>,
    },
    Renew(String),
}

impl Calls {
    /// Calls and waits for the answer; [`Error::Offline`] when the session ends before it.
    pub(crate) async fn call(
        &self,
        method: &str,
        body: Vec<u8>,
        wait: Duration,
    ) -> Result<Vec<u8>> {
        let gone = || Error::Offline("the connection is closed".into());
        let (answer, answered) = oneshot::channel();
        let call = Asked::Call {
            method: method.to_owned(),
            body,
            timeout: wait,
            answer,
        };
        let asked = async {
            self.0.send(call).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        };
        timeout(wait, asked)
            .await
            .unwrap_or(Err(Error::Timeout(wait)))
    }

    async fn ask<Q: buffa::Message, A: buffa::Message>(
        &self,
        method: &str,
        request: &Q,
        wait: Duration,
    ) -> Result<A> {
        let answer = self.call(method, request.encode_to_vec(), wait).await?;
        A::decode_from_slice(&answer).map_err(|e| Error::Protocol(e.to_string()))
    }
}

/// Runs one session with `token` to its end; `welcomed` is called once it is up.
pub(crate) async fn run(core: &Core, token: String, welcomed: impl FnOnce()) -> End {
    core.session_begins();
    let opening = timeout(core.options.connect_timeout, open(core, token.clone()));
    let (wire, welcome) = match opening.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(end)) => return end,
        Err(_) => return Error::Timeout(core.options.connect_timeout).into(),
    };
    let beat = match welcome.heartbeat_ms {
        0 => HEARTBEAT_DEFAULT,
        ms => Duration::from_millis(ms.into()),
    };
    let Some(missed) = welcome.missed.into_option() else {
        return empty("missed").into();
    };
    if let Err(error) = core.missed(missed) {
        return error.into();
    }
    let (asked, to_send) = mpsc::channel(CALLS_QUEUED_MAX);
    let calls = Calls(asked.clone());
    core.set_calls(Some(calls.clone()));
    core.set_connection(Connection::Online);
    welcomed();
    let mut pump = Pump {
        core,
        wire,
        silence_max: beat * 2,
        under_way: HashMap::new(),
        last_id: 0,
        catching_up: false,
        behind_again: false,
    };
    let end = tokio::select! {
        biased;
        end = pump.run(to_send) => end,
        end = outbox(core, &calls) => end,
        end = repair(core, &calls) => end,
        end = renew(core, token, asked) => end,
    };
    core.session_ends();
    _ = timeout(CLOSE_TIMEOUT, pump.wire.close()).await;
    end
}

async fn open(core: &Core, access_token: String) -> Result<(Box<dyn Wire>, Welcome), End> {
    let mut wire = core.transport.dial(core.options.connect_timeout).await?;
    let cursor = core.mind().known.cursor.clone();
    let client = concat!("tertulia-rust/", env!("CARGO_PKG_VERSION")).to_owned();
    let hello = Hello {
        access_token,
        cursor,
        client,
        ..Default::default()
    };
    send(&mut *wire, hello.into(), core.options.connect_timeout).await?;
    match receive(&mut *wire).await? {
        Down::Welcome(welcome) => Ok((wire, *welcome)),
        Down::Goodbye(goodbye) => Err(End::Goodbye(*goodbye)),
        _ => Err(Error::Protocol("the first frame was no welcome".into()).into()),
    }
}

async fn send(wire: &mut dyn Wire, frame: Up, wait: Duration) -> Result<()> {
    let frame = ConnectRequest {
        frame: Some(frame),
        ..Default::default()
    };
    let sent = timeout(wait, wire.send(frame.encode_to_vec())).await;
    sent.map_err(|_| Error::Timeout(wait))?
}

/// The next frame. Cancel-safe.
async fn receive(wire: &mut dyn Wire) -> Result<Down, End> {
    loop {
        match wire.recv().await? {
            Heard::Frame(bytes) => {
                let frame = ConnectResponse::decode_from_slice(&bytes);
                let frame = frame.map_err(|e| Error::Protocol(e.to_string()))?.frame;
                match frame {
                    Some(frame) => return Ok(frame),
                    // A kind of frame that a newer server sends: nothing for us.
                    None => continue,
                }
            }
            Heard::Closed { code, reason } => {
                // The last words were lost, but the code says enough.
                let come_back = !matches!(code, 4000 | 4003 | 4005 | 4008 | 4013);
                return Err(End::Goodbye(Goodbye {
                    code,
                    reason,
                    come_back,
                    ..Default::default()
                }));
            }
        }
    }
}

struct Pump<'a> {
    core: &'a Core,
    wire: Box<dyn Wire>,
    silence_max: Duration,
    under_way: HashMap<u64, oneshot::Sender<Result<Vec<u8>>>>,
    last_id: u64,
    catching_up: bool,
    behind_again: bool,
}

impl Pump<'_> {
    async fn run(&mut self, mut to_send: mpsc::Receiver<Asked>) -> End {
        loop {
            match self.step(&mut to_send).await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    async fn step(&mut self, to_send: &mut mpsc::Receiver<Asked>) -> Result<(), End> {
        if self.under_way.len() >= CALLS_UNDER_WAY_MAX {
            // Callers that gave up leave their place.
            self.under_way.retain(|_, answer| !answer.is_closed());
        }
        let has_room = self.under_way.len() < CALLS_UNDER_WAY_MAX;
        // A call that is written does not prolong the silence: only what the server sends does.
        let silent_at = Instant::now() + self.silence_max;
        loop {
            tokio::select! {
                biased;
                // First, because it is bounded: so many calls under way, and none is read any more.
                Some(asked) = to_send.recv(), if has_room => self.ask(asked).await?,
                frame = timeout_at(silent_at, receive(&mut *self.wire)) => {
                    let silent = |_| Error::Offline("the server is silent".into());
                    return self.take(frame.map_err(silent)??).await;
                }
            }
            if self.under_way.len() >= CALLS_UNDER_WAY_MAX {
                let frame = timeout_at(silent_at, receive(&mut *self.wire)).await;
                return self
                    .take(frame.map_err(|_| Error::Offline("the server is silent".into()))??)
                    .await;
            }
        }
    }

    async fn send(&mut self, frame: Up) -> Result<(), End> {
        Ok(send(&mut *self.wire, frame, self.silence_max).await?)
    }

    async fn ask(&mut self, asked: Asked) -> Result<(), End> {
        match asked {
            Asked::Renew(access_token) => {
                self.send(
                    Renew {
                        access_token,
                        ..Default::default()
                    }
                    .into(),
                )
                .await
            }
            Asked::Call { answer, .. } if answer.is_closed() => Ok(()),
            Asked::Call {
                method,
                body,
                timeout,
                answer,
            } => {
                self.last_id += 1;
                self.under_way.insert(self.last_id, answer);
                let call = Call {
                    call_id: self.last_id,
                    method,
                    request: Some(call::Request::Proto(body)),
                    timeout_ms: timeout.as_millis().min(u32::MAX.into()) as u32,
                    ..Default::default()
                };
                self.send(call.into()).await
            }
        }
    }

    async fn take(&mut self, frame: Down) -> Result<(), End> {
        match frame {
            Down::Reply(reply) => {
                let Some(answer) = self.under_way.remove(&reply.call_id) else {
                    return Ok(());
                };
                let result = match reply.result {
                    Some(reply::Result::Proto(bytes)) => Ok(bytes),
                    Some(reply::Result::Error(error)) => Err(refusal(*error).into()),
                    Some(reply::Result::Json(_)) | None => Err(empty("result")),
                };
                // The caller may have given up.
                _ = answer.send(result);
            }
            Down::ChatEvent(live) => {
                let event = live.event.into_option().ok_or_else(|| empty("event"))?;
                self.core.chat_event(event, live.prev)?;
            }
            Down::OwnEvent(live) => {
                let event = live.event.into_option().ok_or_else(|| empty("event"))?;
                self.core.own_event(event, live.prev)?;
            }
            Down::Heartbeat(heartbeat) => {
                self.send(Alive::default().into()).await?;
                self.core.heartbeat(*heartbeat)?;
                self.core.sync_soon();
            }
            Down::Behind(_) if self.catching_up => self.behind_again = true,
            Down::Behind(_) => self.catch_up().await?,
            Down::CaughtUp(answer) => {
                self.core
                    .missed(answer.missed.into_option().ok_or_else(|| empty("missed"))?)?;
                self.catching_up = false;
                if std::mem::take(&mut self.behind_again) {
                    self.catch_up().await?;
                }
            }
            Down::Renewed(_) => {}
            Down::Goodbye(goodbye) => return Err(End::Goodbye(*goodbye)),
            Down::Welcome(_) => return Err(Error::Protocol("a second welcome".into()).into()),
        }
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), End> {
        self.catching_up = true;
        let cursor = self.core.mind().known.cursor.clone();
        self.send(
            CatchUp {
                cursor,
                ..Default::default()
            }
            .into(),
        )
        .await
    }
}

fn refusal(error: CallError) -> Refusal {
    Refusal::new(error.code, error.message, error.failure.into_option())
}

fn backoff(core: &Core) -> Backoff {
    let machine = Arc::clone(&core.machine);
    Backoff::new(core.options.backoff_min, core.options.backoff_max, machine)
}

/// Waits until there may be something to do.
async fn woken(wake: &mut watch::Receiver<u64>) {
    // The sender lives in the core, as long as we do.
    _ = wake.changed().await;
}

/// Sends what is queued, one message of a chat at a time.
async fn outbox(core: &Core, calls: &Calls) -> End {
    let mut wake = core.wake.subscribe();
    let mut sending = FuturesUnordered::new();
    let mut backoff = backoff(core);
    loop {
        wake.mark_unchanged();
        let room = core.options.sending_max.saturating_sub(sending.len());
        for entry in core.messages_to_send(room) {
            sending.push(send_message(core, calls, entry));
        }
        let (entry, sent) = tokio::select! {
            biased;
            Some(done) = sending.next() => done,
            () = woken(&mut wake) => continue,
        };
        match sent {
            Ok(answer) => {
                backoff.reset();
                if let Err(error) = core.message_stored(&entry, answer) {
                    return error.into();
                }
            }
            Err(error) => {
                if error.is_retryable() {
                    // Its chat waits, and with it all: a server that is busy with one is busy.
                    tokio::time::sleep(backoff.next(error.retry_after())).await;
                }
                if let Err(error) = core.message_refused(&entry, &error) {
                    return error.into();
                }
                if error.wants_new_token() || error.ends_login() {
                    return error.into();
                }
            }
        }
    }
}

async fn send_message(
    core: &Core,
    calls: &Calls,
    entry: Entry,
) -> (Entry, Result<SendMessageResponse>) {
    let request = SendMessageRequest {
        chat_id: entry.chat,
        client_message_id: entry.client_message_id.clone(),
        text: entry.text.clone(),
        ..Default::default()
    };
    let wait = core.options.call_timeout;
    let sent = calls
        .ask("tertulia.chats.v1.ChatsService/SendMessage", &request, wait)
        .await;
    (entry, sent)
}

/// Fills holes, some at a time.
async fn repair(core: &Core, calls: &Calls) -> End {
    let mut wake = core.wake.subscribe();
    let mut running = FuturesUnordered::new();
    let mut backoff = backoff(core);
    loop {
        wake.mark_unchanged();
        let mut next_look = Instant::now() + Duration::from_secs(3600);
        while running.len() < core.options.repairs_max {
            match core.next_job() {
                Next::Do(job, after) => {
                    running.push(async move { (job, fill(core, calls, job, after).await) })
                }
                Next::Wait(at) => {
                    next_look = at;
                    break;
                }
                Next::Nothing => break,
            }
        }
        let (job, filled) = tokio::select! {
            biased;
            Some(done) = running.next() => done,
            () = woken(&mut wake) => continue,
            () = tokio::time::sleep_until(next_look) => continue,
        };
        let hopeless = match filled {
            Ok(progress) => {
                backoff.reset();
                !progress
            }
            Err(Error::Store(error)) => return Error::Store(error).into(),
            Err(error) if error.wants_new_token() || error.ends_login() => return error.into(),
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(backoff.next(error.retry_after())).await;
                false
            }
            Err(error) => {
                tracing::warn!(%error, "what is missing can not be read");
                true
            }
        };
        if let Err(error) = core.job_done(job, hopeless) {
            return error.into();
        }
    }
}

/// Does one job. False when it brought nothing.
async fn fill(core: &Core, calls: &Calls, job: Job, after: i64) -> Result<bool> {
    let wait = core.options.call_timeout;
    match job {
        Job::Chat(chat_id) => {
            let from = Some(Start::AfterSeq(after));
            let request = ListEventsRequest {
                chat_id,
                from,
                limit: PAGE_EVENTS,
                ..Default::default()
            };
            let page: ListEventsResponse = calls
                .ask("tertulia.chats.v1.ChatsService/ListEvents", &request, wait)
                .await?;
            core.filled(chat_id, after, page.events, page.head)
        }
        Job::Members(chat_id) => {
            let request = GetChatRequest {
                chat_id,
                ..Default::default()
            };
            let answer: GetChatResponse = calls
                .ask("tertulia.chats.v1.ChatsService/GetChat", &request, wait)
                .await?;
            let chat = answer.chat.into_option().ok_or_else(|| empty("chat"))?;
            core.change(|set| set.describe(&chat))?;
            Ok(!chat.member_ids.is_empty())
        }
        Job::Own => {
            let request = ListUserEventsRequest {
                after_seq: after,
                limit: PAGE_EVENTS,
                ..Default::default()
            };
            let page: ListUserEventsResponse = calls
                .ask(
                    "tertulia.chats.v1.ChatsService/ListUserEvents",
                    &request,
                    wait,
                )
                .await?;
            core.own_filled(after, page.events, page.head)
        }
    }
}

/// Puts a new token in the place of the old one, in time.
async fn renew(core: &Core, mut token: String, asked: mpsc::Sender<Asked>) -> End {
    let mut backoff = backoff(core);
    loop {
        let wait = core.renew_in();
        tokio::time::sleep(wait).await;
        match core.fresh_token(Some(&token)).await {
            Ok(next) => {
                backoff.reset();
                token = next;
                if asked.send(Asked::Renew(token.clone())).await.is_err() {
                    return Error::Offline("the connection is closed".into()).into();
                }
            }
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(backoff.next(error.retry_after())).await
            }
            Err(error) => return error.into(),
        }
    }
}

impl Core {
    fn renew_in(&self) -> Duration {
        // Never at once: a token that lives shorter than that is not worth renewing.
        self.mind()
            .life
            .map_or(Duration::from_secs(60), |life| life.renew_in())
            .max(Duration::from_millis(200))
    }
}

/// Keeps sessions coming until `stop`.
pub(crate) async fn keep(core: Arc<Core>, stop: tokio_util::sync::CancellationToken) {
    let mut backoff = backoff(&core);
    let mut spent: Option<String> = None;
    loop {
        let mut again = core.again.subscribe();
        let round = async {
            if core.mind().known.credentials.is_none() {
                if !matches!(*core.connection.borrow(), Connection::SignedOut(_)) {
                    core.set_connection(Connection::SignedOut(None));
                }
                return None;
            }
            core.set_connection(Connection::Connecting);
            Some(match core.fresh_token(spent.as_deref()).await {
                Ok(token) => {
                    spent = Some(token.clone());
                    run(&core, token, || backoff.reset()).await
                }
                Err(error) => error.into(),
            })
        };
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            end = round => end,
        };
        core.session_ends();
        let wait = match end {
            None | Some(End::Broken(Error::SignedOut)) => None,
            Some(end) => {
                spent = spent.filter(|_| wants_new_token(&end));
                after(&core, &end, &mut backoff)
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = again.changed() => backoff.reset(),
            () = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
    core.session_ends();
    core.set_connection(Connection::Stopped);
}

/// The close codes that this client acts on; docs/protocol/live.md has the table.
mod code {
    pub const NOT_SIGNED_IN: u32 = 4003;
    pub const TOKEN_EXPIRED: u32 = 4004;
    pub const LOGIN_ENDED: u32 = 4005;
}

fn wants_new_token(end: &End) -> bool {
    match end {
        End::Goodbye(goodbye) => matches!(goodbye.code, code::NOT_SIGNED_IN | code::TOKEN_EXPIRED),
        End::Broken(error) => error.wants_new_token(),
    }
}

/// How long to wait after a session; none: until somebody starts the client again, as a sign-in does.
fn after(core: &Core, end: &End, backoff: &mut Backoff) -> Option<Duration> {
    let (reason, told) = match end {
        End::Goodbye(goodbye) if goodbye.code == code::LOGIN_ENDED => {
            if let Err(error) = core.login_ended(goodbye.reason.clone()) {
                tracing::error!(%error, "the end of the login could not be stored");
            }
            return None;
        }
        End::Goodbye(goodbye) if !goodbye.come_back && goodbye.code != code::NOT_SIGNED_IN => {
            core.set_connection(Connection::Refused {
                code: goodbye.code,
                reason: goodbye.reason.clone(),
            });
            return None;
        }
        End::Goodbye(goodbye) => {
            let told = Duration::from_millis(goodbye.after_ms.into());
            (goodbye.reason.clone(), (!told.is_zero()).then_some(told))
        }
        End::Broken(error) if error.ends_login() => {
            if let Err(error) = core.login_ended(error.to_string()) {
                tracing::error!(%error, "the end of the login could not be stored");
            }
            return None;
        }
        End::Broken(error) => (error.to_string(), error.retry_after()),
    };
    let retry_in = backoff.next(told);
    tracing::debug!(
        reason,
        retry_in_ms = retry_in.as_millis() as u64,
        "the session ended"
    );
    core.set_connection(Connection::Offline { reason, retry_in });
    Some(retry_in)
}
