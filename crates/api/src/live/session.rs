//! One live connection, whatever carries it: hello, then frames both ways until one side ends it.
//!
//! The session's state lives in its task. What concerns its user waits in its [`Queue`]; calls run inside
//! the task, so that two calls of one session begin in the order in which they came.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt as _;
use rustc_hash::FxHashMap;
use tertulia_kit::error::{Failure, Kind};
use tertulia_kit::lifecycle;
use tertulia_kit::telemetry::RequestId;
use tertulia_proto::live as wire;
use tertulia_services::access::{Caller, Members as _};
use tertulia_services::chats::{Beat, Missed, Position, Seq};
use tertulia_services::errors;
use tertulia_services::ids::ChatId;
use tertulia_services::presence::Attendance;
use tokio::time::{Instant, timeout};

use super::about::About;
use super::answer::answer;
use super::burst::{self, Burst, Plain};
use super::calls::Calls;
use super::close::{self, Close};
use super::frames::{Inbound, Outbound};
use super::hub::Attached;
use super::queue::{Ending, Queue, Taken};
use super::sends::Sends;
use super::told::{Frame, Log, Sort};
use super::{Live, Place};
use crate::convert;

mod watch;

/// What carries the frames of a session.
pub trait Wire: Send {
    /// The next thing from the client. Cancel-safe.
    fn recv(&mut self) -> impl Future<Output = Heard> + Send;

    /// Puts a frame into the carrier's buffer.
    fn feed(&mut self, frame: Out) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Sends what is in the buffer.
    fn flush(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Closes after everything that was fed.
    fn close(&mut self, close: Close) -> impl Future<Output = ()> + Send;
}

/// What a carrier hears.
pub enum Heard {
    /// A frame.
    Frame(Inbound),
    /// A frame with a call that is a plain one for a message.
    Message(Plain),
    /// A sign of life without content.
    Sign,
    /// Something that is no frame.
    Bad(Failure),
    /// A frame over the limit.
    TooLarge,
    /// The client has gone.
    Gone,
}

/// What a carrier sends.
pub enum Out {
    /// A frame that others hear too.
    Shared(Arc<Frame>),
    /// A frame for this session.
    Own(Outbound),
}

/// The client has gone.
#[derive(Debug)]
pub struct Gone;

/// Why a session is over.
enum End {
    /// We close, for this reason, with these words.
    Close(Close, String),
    /// We were told to close, and how.
    Told(Ending),
    /// The client has gone.
    Gone,
}

impl From<Gone> for End {
    fn from(Gone: Gone) -> Self {
        End::Gone
    }
}

fn close(close: Close) -> End {
    End::Close(close, close.reason.to_owned())
}

/// What the frames cost that make work without being calls.
const CATCH_UP_WEIGHT: u32 = 5;
const WARM_WEIGHT: u32 = 5;
const RENEW_WEIGHT: u32 = 2;

/// How long a sabotaged session waits at most for something to lose.
const SABOTAGE_WINDOW_MAX: Duration = Duration::from_millis(200);
/// How long the last words may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs a session to its end. What is done once or rarely goes on the heap for as long as it takes: a resting session
/// carries little more than what it waits for.
#[expect(
    clippy::manual_async_fn,
    reason = "an async function would hold what it is given twice"
)]
pub fn run<W: Wire>(live: Arc<Live>, mut wire: W, place: Place) -> impl Future<Output = ()> + Send {
    async move {
        let end = match Box::pin(begin(&live, &mut wire)).await {
            Ok(mut session) => {
                let end = session.live_on(&mut wire).await;
                // Nothing more comes into the queue while the last words are said.
                drop(session);
                end
            }
            Err(end) => end,
        };
        match end {
            End::Close(close, words) => {
                let after = match close {
                    close::DRAINING => live.options.drain_spread.mul_f64(live.spread()),
                    _ => Duration::ZERO,
                };
                Box::pin(say_goodbye(&mut wire, close, words, after)).await;
            }
            End::Told(Ending {
                close,
                words,
                after,
            }) => Box::pin(say_goodbye(&mut wire, close, words.to_string(), after)).await,
            End::Gone => {}
        }
        drop(place);
    }
}

async fn say_goodbye<W: Wire>(wire: &mut W, close: Close, words: String, after: Duration) {
    let goodbye = wire::Goodbye {
        code: close.code.into(),
        reason: words,
        come_back: close.come_back,
        after_ms: after.as_millis() as u32,
        ..Default::default()
    };
    let last_words = async {
        if wire.feed(Out::Own(goodbye.into())).await.is_ok() && wire.flush().await.is_ok() {
            wire.close(close).await;
        }
    };
    // A client that does not listen to the last words is left without them.
    _ = timeout(GOODBYE_TIMEOUT, last_words).await;
}

/// Waits for the hello and answers it.
async fn begin<W: Wire>(live: &Arc<Live>, wire: &mut W) -> Result<Box<Session>, End> {
    let stopping = live.lifecycle.told(lifecycle::Kind::Connection);
    let hello = tokio::select! {
        biased;
        hello = timeout(live.options.hello_timeout, hello(wire)) => {
            hello.map_err(|_| close(close::HELLO_TIMEOUT))??
        }
        () = stopping.cancelled() => return Err(close(close::DRAINING)),
    };
    let caller = live
        .gate()
        .verify(&hello.access_token)
        .map_err(|f| refused(&f))?;
    let about = About::new(&caller, &hello.client, live.clock.now_ms());
    let attached = live
        .hub
        .attach(about)
        .ok_or_else(|| close(close::TOO_MANY_SESSIONS))?;
    // After the attaching: who is not among those that a drain ends sees it here.
    if live.is_drained() {
        return Err(close(close::DRAINING));
    }
    // Attached first, read second: what is committed in between is in the queue, and the answer says how
    // far it reaches, so that the queue gives out only what is behind it.
    live.hub.settled().await;
    let missed = in_time(live, live.chats.missed(&caller, &hello.cursor)).await;
    let missed = missed.map_err(unserved)?;
    let mut session = Box::new(Session {
        live: Arc::clone(live),
        attendance: live.presence.arrive(&caller),
        caller,
        attached,
        covered: FxHashMap::default(),
        position: missed.position,
        calls: Calls::default(),
        burst: Burst::default(),
        sends: Sends::default(),
        heard_at: Instant::now(),
        beat_at: Instant::now(),
        alarm_at: Instant::now(),
    });
    session.answered(&missed);
    if live.skip_catch_up_buffer.load(Ordering::Relaxed) {
        session.lose_what_came().await.map_err(unserved)?;
    }
    session.beat_at = live.beat_near(Instant::now() + session.first_beat());
    let welcome = wire::Welcome {
        session_id: session.id().as_str().to_owned(),
        user_id: session.caller.user.0,
        heartbeat_ms: live.options.heartbeat.as_millis() as u32,
        access_expires_at_ms: session.caller.expires_at_ms,
        missed: convert::missed(&missed).into(),
        ..Default::default()
    };
    session.write(wire, [Out::Own(welcome.into())]).await?;
    Ok(session)
}

async fn hello<W: Wire>(wire: &mut W) -> Result<wire::Hello, End> {
    loop {
        match wire.recv().await {
            Heard::Frame(Inbound::Hello(hello)) => return Ok(*hello),
            Heard::Frame(_) | Heard::Message(_) => {
                return Err(bad_frame("the first frame must be hello"));
            }
            Heard::Sign => {}
            Heard::Bad(failure) => return Err(bad_frame(failure.words())),
            Heard::TooLarge => return Err(close(close::FRAME_TOO_LARGE)),
            Heard::Gone => return Err(End::Gone),
        }
    }
}

fn bad_frame(words: &str) -> End {
    End::Close(close::BAD_FRAME, format!("bad_frame: {words}"))
}

/// Why a token does not open a session.
fn refused(failure: &Failure) -> End {
    match failure.reason() {
        "TOKEN_EXPIRED" => close(close::TOKEN_EXPIRED),
        "LOGIN_ENDED" => close(close::LOGIN_ENDED),
        _ => close(close::NOT_SIGNED_IN),
    }
}

/// Reads logs, as long as a session may wait for that.
async fn in_time<T>(
    live: &Live,
    read: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let most = live.options.read_timeout;
    timeout(most, read).await.unwrap_or_else(|_| {
        let cause = format!("not read within {} ms", most.as_millis());
        Err(errors::store_unavailable(cause))
    })
}

/// The logs could not be read.
fn unserved(failure: Failure) -> End {
    let (reason, cause) = (failure.reason(), failure.cause_chain());
    match failure.kind() {
        Kind::Internal => tracing::error!(reason, cause, "a session could not be served"),
        _ => tracing::warn!(reason, cause, "a session could not be served"),
    }
    close(close::INTERNAL)
}

struct Session {
    live: Arc<Live>,
    caller: Caller,
    attached: Attached,
    /// How far the newest answer reached, by log; frames up to there are not sent again.
    covered: FxHashMap<Log, i64>,
    /// How far the newest answer or heartbeat reached.
    position: Position,
    calls: Calls,
    /// Messages that were heard and are still to be sent.
    burst: Burst,
    /// In which order they begin.
    sends: Sends,
    heard_at: Instant,
    beat_at: Instant,
    /// When it looks next whether it is time for a beat, and whether its token still holds. That is reckoned anew at
    /// each beat, long before the token ends, and not at every frame.
    alarm_at: Instant,
    /// As long as it is kept the user is here.
    attendance: Attendance,
}

impl Session {
    fn id(&self) -> &RequestId {
        &self.attached.queue().about.session
    }

    async fn live_on<W: Wire>(&mut self, wire: &mut W) -> End {
        match self.serve(wire).await {
            Ok(never) => match never {},
            Err(End::Told(ending)) if ending.close.come_back => {
                Box::pin(self.last_answers(wire, ending)).await
            }
            Err(end) => end,
        }
    }

    /// Answers what is under way, so that who comes back elsewhere need not ask again.
    async fn last_answers<W: Wire>(&mut self, wire: &mut W, ending: Ending) -> End {
        while let Some(replies) = self.calls.next().await {
            let replies = replies.into_iter().map(|reply| Out::Own(reply.into()));
            if let Err(end) = self.write(wire, replies).await {
                return end;
            }
        }
        End::Told(ending)
    }

    async fn serve<W: Wire>(&mut self, wire: &mut W) -> Result<std::convert::Infallible, End> {
        let stopped = self.live.lifecycle.heard(lifecycle::Kind::Connection);
        self.alarm_at = self.next_alarm();
        let alarm = tokio::time::sleep_until(self.alarm_at);
        tokio::pin!(stopped, alarm);
        loop {
            tokio::select! {
                // What is rare or bounded comes before what a busy peer could keep ready for ever; the
                // runtime's budget for one poll sees to it that the last is reached.
                biased;
                () = &mut stopped => {
                    Box::pin(self.finish_calls(wire)).await?;
                    return Err(close(close::DRAINING));
                }
                () = &mut alarm => {
                    Box::pin(self.on_alarm(wire)).await?;
                    self.alarm_at = self.next_alarm();
                }
                Some(replies) = self.calls.next() => {
                    self.say(wire, replies).await?;
                }
                heard = wire.recv(), if self.has_room() => self.hear(wire, heard).await?,
                () = self.attached.queue().ready() => self.deliver(wire, Vec::new()).await?,
            }
            if alarm.deadline() != self.alarm_at {
                alarm.as_mut().reset(self.alarm_at);
            }
        }
    }

    /// Whether one more call may be under way.
    fn has_room(&self) -> bool {
        self.calls.len() + self.burst.len() < self.live.options.calls_in_flight_max
    }

    /// Sends these answers with all others that are there by now, and what waits in the queue, in one go.
    async fn say<W: Wire>(&mut self, wire: &mut W, first: Vec<wire::Reply>) -> Result<(), End> {
        let mut replies = Vec::with_capacity(first.len());
        let mut next = Some(first);
        while let Some(more) = next {
            replies.extend(more.into_iter().map(|reply| Out::Own(reply.into())));
            next = at_once(self.calls.next()).await.flatten();
        }
        let unannounced = self.queue().answered(self.calls.has_together());
        match self.queue().has_news() || unannounced {
            true => self.deliver(wire, replies).await,
            false => self.write(wire, replies).await,
        }
    }

    /// Sends answers and what waits in the queue.
    async fn deliver<W: Wire>(&mut self, wire: &mut W, replies: Vec<Out>) -> Result<(), End> {
        match self.queue().take() {
            Taken::Frames(frames) => {
                let covered = std::mem::take(&mut self.covered);
                let news = frames
                    .into_iter()
                    .filter(|frame| is_news(&covered, frame))
                    .map(Out::Shared);
                let written = self.write(wire, replies.into_iter().chain(news)).await;
                self.covered = covered;
                written
            }
            Taken::Behind(dropped) => {
                let behind = wire::Behind {
                    dropped,
                    ..Default::default()
                };
                let behind = [Out::Own(behind.into())];
                self.write(wire, replies.into_iter().chain(behind)).await
            }
            Taken::Ended(ending) => {
                self.write(wire, replies).await?;
                Err(End::Told(ending))
            }
        }
    }

    async fn finish_calls<W: Wire>(&mut self, wire: &mut W) -> Result<(), End> {
        while let Some(replies) = self.calls.next().await {
            self.say(wire, replies).await?;
        }
        Ok(())
    }

    /// Takes in what was heard, and whatever else has come by now.
    async fn hear<W: Wire>(&mut self, wire: &mut W, first: Heard) -> Result<(), End> {
        self.heard_at = Instant::now();
        let mut next = Some(first);
        while let Some(heard) = next {
            match heard {
                Heard::Message(call) => self.begin_plain(call),
                Heard::Frame(frame) => self.take_frame(wire, frame).await?,
                Heard::Sign => {}
                Heard::Bad(failure) => return Err(bad_frame(failure.words())),
                Heard::TooLarge => return Err(close(close::FRAME_TOO_LARGE)),
                Heard::Gone => return Err(End::Gone),
            }
            next = match self.has_room() {
                true => at_once(wire.recv()).await,
                false => None,
            };
        }
        self.begin_burst();
        Ok(())
    }

    /// Begins a call, after those that came before it.
    fn begin(&mut self, call: Box<wire::Call>) {
        let Some(call) = self.burst.take(call) else {
            return;
        };
        self.begin_burst();
        // What ended the burst may begin the next one.
        if let Some(call) = self.burst.take(call) {
            let gate = self.live.gate().clone();
            let start = (call.method == burst::METHOD.path).then(|| self.sends.next());
            let answer = answer(gate, *call, self.caller.clone());
            let in_order = async move {
                let mut start = start;
                if let Some(start) = &mut start {
                    start.comes().await;
                }
                answer.await
            };
            self.calls.push(in_order.boxed());
        }
    }

    /// Begins a plain call, after those that came before it.
    fn begin_plain(&mut self, call: Plain) {
        if let Some(call) = self.burst.take_plain(call) {
            self.begin_burst();
            // Nothing is in the next one that it would not fit to.
            _ = self.burst.take_plain(call);
        }
    }

    fn begin_burst(&mut self) {
        if self.burst.len() == 0 {
            return;
        }
        let burst = std::mem::take(&mut self.burst);
        let deadline = self.heard_at + burst.time(self.live.gate());
        let (live, caller) = (Arc::clone(&self.live), self.caller.clone());
        let start = self.sends.next();
        let sending = burst.send(live, caller, self.id().clone(), start);
        self.queue().awaits_answers();
        self.calls.push_together(sending, deadline);
    }

    async fn take_frame<W: Wire>(&mut self, wire: &mut W, frame: Inbound) -> Result<(), End> {
        match frame {
            Inbound::Call(call) => {
                self.begin(call);
                Ok(())
            }
            Inbound::Alive(_) => Ok(()),
            Inbound::CatchUp(request) => Box::pin(self.catch_up(wire, &request.cursor)).await,
            Inbound::Renew(renew) => Box::pin(self.renew(wire, &renew.access_token)).await,
            Inbound::Warm(warm) => Box::pin(self.warm(wire, warm.chat_ids)).await,
            Inbound::Watch(watch) => Box::pin(self.watch(wire, watch.chat_ids)).await,
            Inbound::Rest(rest) => self.rest(rest.idle),
            Inbound::Hello(_) => Err(bad_frame("hello was said before")),
        }
    }

    /// Tells what was missed since a cursor, and keeps what comes from now on.
    async fn catch_up<W: Wire>(&mut self, wire: &mut W, cursor: &[u8]) -> Result<(), End> {
        self.still_holds()?;
        self.charge(CATCH_UP_WEIGHT)?;
        self.queue().catch_up();
        let missed = self.live.chats.missed(&self.caller, cursor);
        let missed = in_time(&self.live, missed).await.map_err(unserved)?;
        self.answered(&missed);
        let caught_up = wire::CaughtUp {
            missed: convert::missed(&missed).into(),
            ..Default::default()
        };
        self.write(wire, [Out::Own(caught_up.into())]).await
    }

    /// Goes on with a newer token of the same login.
    async fn renew<W: Wire>(&mut self, wire: &mut W, token: &str) -> Result<(), End> {
        self.charge(RENEW_WEIGHT)?;
        let caller = self.live.gate().verify(token).map_err(|f| refused(&f))?;
        if (caller.user, caller.login) != (self.caller.user, self.caller.login) {
            return Err(close(close::NOT_SIGNED_IN));
        }
        let renewed = wire::Renewed {
            access_expires_at_ms: caller.expires_at_ms,
            ..Default::default()
        };
        self.caller = caller;
        self.alarm_at = self.next_alarm();
        self.write(wire, [Out::Own(renewed.into())]).await
    }

    /// Chooses which chats are warm, and says where they end.
    async fn warm<W: Wire>(&mut self, wire: &mut W, chats: Vec<i64>) -> Result<(), End> {
        self.charge(WARM_WEIGHT)?;
        let chats: Vec<ChatId> = chats.into_iter().map(ChatId).collect();
        // Registered first, read second, as at the hello. What has come of a chat by then stays in the queue
        // until it is known that the user is in it.
        let new = self.attached.warm(chats.clone());
        self.live.hub.settled().await;
        let heads = self.live.chats.heads(&self.caller, &chats);
        let heads = in_time(&self.live, heads).await.map_err(unserved)?;
        let is_in = |chat: &ChatId| heads.iter().any(|(one, _)| one == chat);
        for chat in chats.into_iter().filter(|chat| !is_in(chat)) {
            self.attached.cool(chat);
        }
        // What it heard before goes on without a hole, so only what is new begins behind its head.
        self.cover(heads.iter().filter(|(chat, _)| new.contains(chat)));
        let warmed = wire::Warmed {
            heads: convert::heads(&heads),
            ..Default::default()
        };
        self.write(wire, [Out::Own(warmed.into())]).await
    }

    async fn on_alarm<W: Wire>(&mut self, wire: &mut W) -> Result<(), End> {
        self.still_holds()?;
        let now = Instant::now();
        if now < self.beat_at {
            return Ok(());
        }
        // A client answers every heartbeat, so two silent beats and some mean that nobody is there.
        if now - self.heard_at > self.live.options.heartbeat * 5 / 2 {
            return Err(close(close::IDLE));
        }
        self.beat_at = self.live.beat_near(now + self.live.options.heartbeat);
        self.calls.rest();
        let live = Arc::clone(&self.live);
        let heartbeat = match in_time(&live, self.beat()).await {
            Ok((beat, left)) => {
                self.position = beat.position;
                left.into_iter().for_each(|chat| self.attached.cool(chat));
                wire::Heartbeat {
                    heads: convert::heads(&beat.heads),
                    own_head: beat.own_head,
                    cursor: beat.cursor,
                    receipts: beat.receipts.iter().map(convert::chat_receipts).collect(),
                    ..Default::default()
                }
            }
            Err(failure) => {
                // The beat goes on without heads: the client keeps the cursor that it has.
                tracing::warn!(
                    reason = failure.reason(),
                    cause = failure.cause_chain(),
                    "no heads"
                );
                wire::Heartbeat::default()
            }
        };
        // What was published long ago is not repeated now; if it is, the client drops it by its number.
        self.covered = FxHashMap::default();
        self.write(wire, [Out::Own(heartbeat.into())]).await?;
        self.make_up_presence(wire).await
    }

    /// What moved, and which warm chats the user is in no longer: the bus may have lost that.
    async fn beat(&mut self) -> Result<(Beat, Vec<ChatId>), Failure> {
        let (chats, user) = (&self.live.chats, self.caller.user);
        let beat = chats.beat(&self.caller, self.position).await?;
        let mut left = Vec::new();
        for chat in self.attached.warm_chats() {
            if chats.role(*chat, user).await?.is_none() {
                left.push(*chat);
            }
        }
        Ok((beat, left))
    }

    /// Writes frames in one go. A client that takes nothing for a whole beat is too slow.
    async fn write<W: Wire>(
        &mut self,
        wire: &mut W,
        frames: impl IntoIterator<Item = Out>,
    ) -> Result<(), End> {
        let writing = async {
            for frame in frames {
                wire.feed(frame).await?;
            }
            wire.flush().await
        };
        tokio::pin!(writing);
        // Mostly there is room in the socket, and nothing to wait for.
        if let Poll::Ready(written) = futures::poll!(&mut writing) {
            return Ok(written?);
        }
        match Box::pin(timeout(self.live.options.heartbeat, writing)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(close(close::SLOW_READER)),
        }
    }

    /// Sabotage: forgets what came since the logs were read, and that anything did.
    async fn lose_what_came(&mut self) -> Result<(), Failure> {
        let window = SABOTAGE_WINDOW_MAX.mul_f64(self.live.spread());
        tokio::time::sleep(window).await;
        self.position = self
            .live
            .chats
            .beat(&self.caller, self.position)
            .await?
            .position;
        drop(self.queue().take());
        Ok(())
    }

    /// The word that the login ended comes over the bus, which may lose it; so it is asked for as well.
    fn still_holds(&self) -> Result<(), End> {
        self.live
            .gate()
            .still_holds(&self.caller)
            .map_err(|f| refused(&f))
    }

    fn charge(&self, weight: u32) -> Result<(), End> {
        let charged = self.live.gate().charge_login(&self.caller, weight);
        charged.map_err(|_| close(close::RATE_LIMITED))
    }

    /// An answer has told what was missed.
    fn answered(&mut self, missed: &Missed) {
        self.position = missed.position;
        self.cover(&missed.heads);
        let own = self.covered.entry(Log::Own).or_default();
        *own = missed.own_head.max(*own);
    }

    /// An answer reaches so far in these chats.
    fn cover<'a>(&mut self, heads: impl IntoIterator<Item = &'a (ChatId, Seq)>) {
        for (chat, head) in heads {
            let covered = self.covered.entry(Log::Chat(*chat)).or_default();
            *covered = (*covered).max(*head);
        }
    }

    fn queue(&self) -> &Queue {
        self.attached.queue()
    }

    /// Spread, so that sessions that began together do not beat together.
    fn first_beat(&self) -> Duration {
        self.live
            .options
            .heartbeat
            .mul_f64(0.5 + self.live.spread() / 2.0)
    }

    fn next_alarm(&self) -> Instant {
        let left_ms = self
            .caller
            .expires_at_ms
            .saturating_sub(self.live.clock.now_ms())
            .max(0);
        let expiry = Duration::from_millis(left_ms as u64);
        if expiry > self.live.options.heartbeat * 2 {
            return self.beat_at;
        }
        self.beat_at.min(Instant::now() + expiry)
    }
}

/// What a future comes to when it is there by now. Who is woken for it later is this task.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(future);
    match futures::poll!(future) {
        Poll::Ready(there) => Some(there),
        Poll::Pending => None,
    }
}

/// Whether no answer has covered it.
fn is_news(covered: &FxHashMap<Log, Seq>, frame: &Frame) -> bool {
    match frame.sort {
        Sort::Event(log, seq) => covered.get(&log).is_none_or(|covered| seq > *covered),
        Sort::Passing(_) => true,
    }
}

#[cfg(test)]
mod tests;
