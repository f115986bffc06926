//! The connection to the server, for the whole life of the node: what waits is sent, what others say is heard, and
//! what may have been lost is told. The library connects again by itself, for ever, and repeats the subscriptions.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::connection::State as Connection;
use async_nats::{Client, ConnectOptions, Event, Request, RequestErrorKind, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{AbortHandle, BoxFuture, Fuse, FusedFuture as _, FutureExt as _};
use futures::stream::{Abortable, ReadyChunks, SelectAll};
use rand::Rng as _;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::interest::Change;
use super::{Bus as _, Payload, Shared, State};

/// How often a server that says nothing is asked whether it is there, until it is taken for dead.
const PINGS_IN_SILENCE: u32 = 3;
/// How long the first pause before another try is, and the longest. Each is drawn from half of it to all of it, so
/// that the nodes do not come back together.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long the server may take to say that it knows what it was told.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How often the state of the connection is looked at, should its events be lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many messages are heard before anything else has a turn.
const HEARD_MAX: usize = 256;
/// How long the last messages of a node that stops may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// The library has given up, which it never should; the link is made anew.
#[derive(Debug, thiserror::Error)]
#[error("the NATS client has ended")]
pub struct Ended;

/// Keeps the link until the node stops.
///
/// # Errors
/// When it has to be made anew.
pub async fn run<M: Payload>(shared: Arc<Shared<M>>, told: CancellationToken) -> Result<(), Ended> {
    let news = Arc::new(Notify::new());
    shared.interest.tell_anew();
    let client = open(&shared, &news).await?;
    let ended = tokio::select! {
        Err(ended) = send(&shared, &client) => ended,
        Err(ended) = hear(&shared, &client) => ended,
        Err(ended) = tend(&shared, &client, &news) => ended,
        () = told.cancelled() => {
            // Who does not hear the last messages hears of them with a heartbeat.
            _ = timeout(FAREWELL_MAX, say_farewell(&shared, &client)).await;
            return Ok(());
        }
    };
    shared.down();
    Err(ended)
}

/// A client that is not connected yet.
async fn open<M: Payload>(shared: &Arc<Shared<M>>, news: &Arc<Notify>) -> Result<Client, Ended> {
    let (told, news) = (Arc::clone(shared), Arc::clone(news));
    let options = ConnectOptions::new()
        .no_echo()
        .reconnect_delay_callback(pause)
        .ping_interval(shared.options.silence_max / PINGS_IN_SILENCE)
        .request_timeout(Some(ANSWER_MAX))
        .subscription_capacity(shared.options.incoming_messages_max)
        .event_callback(move |event| {
            match event {
                // Said at once: whoever takes too slowly may be what holds up everything below.
                Event::SlowConsumer(_) => told.disrupted(),
                Event::ServerError(error) => tracing::warn!(%error, "NATS refuses something"),
                _ => {}
            }
            news.notify_one();
            std::future::ready(())
        });
    let (address, inbox) = (&shared.options.address, shared.subjects.inbox());
    let connecting = address.connect("tertulia", inbox, options);
    connecting.await.map_err(|_| Ended)
}

/// How long to wait before the n-th try.
fn pause(tries: usize) -> Duration {
    let Some(doublings) = tries.checked_sub(1) else {
        return Duration::ZERO;
    };
    let doublings = u32::try_from(doublings).unwrap_or(u32::MAX);
    let most = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(doublings));
    most.min(RETRY_MAX)
        .mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Sends what waits.
async fn send<M>(shared: &Shared<M>, client: &Client) -> Result<Infallible, Ended> {
    loop {
        for message in shared.outgoing.taken().await {
            let sent = client.publish(message.subject, message.bytes).await;
            match sent.map_err(|error| error.kind()) {
                Ok(()) => shared.sent.add(1),
                Err(PublishErrorKind::Send) => return Err(Ended),
                Err(kind) => {
                    tracing::error!(%kind, "a message can not be sent to other nodes");
                    shared.outgoing.lose();
                }
            }
        }
    }
}

async fn say_farewell<M>(shared: &Shared<M>, client: &Client) {
    loop {
        let messages = shared.outgoing.take();
        if messages.is_empty() {
            break;
        }
        for message in messages {
            _ = client.publish(message.subject, message.bytes).await;
        }
    }
    _ = client.flush().await;
}

/// What is heard on one subject, until it is left.
type Ear = Abortable<Subscriber>;

struct Ears {
    all: ReadyChunks<SelectAll<Ear>>,
    by_subject: HashMap<Box<str>, AbortHandle>,
}

impl Ears {
    fn listen(&mut self, subscriber: Subscriber) -> AbortHandle {
        let (handle, registration) = AbortHandle::new_pair();
        self.all
            .get_mut()
            .push(Abortable::new(subscriber, registration));
        handle
    }
}

/// Listens to what somebody here listens to, and hands on what comes.
async fn hear<M: Payload>(shared: &Shared<M>, client: &Client) -> Result<Infallible, Ended> {
    let mut ears = Ears {
        all: SelectAll::new().ready_chunks(HEARD_MAX),
        by_subject: HashMap::new(),
    };
    ears.listen(subscribe(client, shared.subjects.lost()).await?);
    // What the server has been told and has not yet said that it knows.
    let mut asked = 0;
    let mut asking: Fuse<BoxFuture<'_, u64>> = Fuse::terminated();
    loop {
        tokio::select! {
            (changes, generation) = shared.interest.changes() => {
                for change in changes {
                    ears.change(shared, client, change).await?;
                }
                asked = generation;
                if asking.is_terminated() {
                    asking = ask(shared, client, asked);
                }
            }
            known = &mut asking => {
                _ = shared.settled.send_replace(known);
                if known < asked {
                    asking = ask(shared, client, asked);
                }
            }
            heard = ears.all.next() => {
                for message in heard.ok_or(Ended)? {
                    shared.hear(&message);
                }
            }
        }
    }
}

impl Ears {
    async fn change<M>(
        &mut self,
        shared: &Shared<M>,
        client: &Client,
        change: Change,
    ) -> Result<(), Ended> {
        match change {
            Change::Listen(subject) => {
                let subscriber = subscribe(client, shared.subjects.of(&subject)).await?;
                let handle = self.listen(subscriber);
                self.by_subject.insert(subject, handle);
            }
            // The library tells the server when the ear is dropped.
            Change::Leave(subject) => {
                self.by_subject
                    .remove(&subject)
                    .iter()
                    .for_each(AbortHandle::abort);
            }
        }
        Ok(())
    }
}

async fn subscribe(client: &Client, subject: String) -> Result<Subscriber, Ended> {
    client.subscribe(subject).await.map_err(|_| Ended)
}

/// Gives the generation when the server knows it, or does not say so in time.
fn ask<'a, M>(
    shared: &'a Shared<M>,
    client: &'a Client,
    generation: u64,
) -> Fuse<BoxFuture<'a, u64>> {
    let asking = async move {
        is_known(shared, client).await;
        generation
    };
    asking.boxed().fuse()
}

/// Waits until the server has done all that it was told before. It does things in their order, so its answer to a
/// message for nobody shows it. False when it does not answer in time.
async fn is_known<M>(shared: &Shared<M>, client: &Client) -> bool {
    let request = client.send_request(shared.subjects.nobody(), Request::new());
    match timeout(ANSWER_MAX, request).await {
        Ok(Err(error)) => error.kind() == RequestErrorKind::NoResponders,
        Ok(Ok(_)) => true,
        Err(_) => false,
    }
}

impl<M: Payload> Shared<M> {
    fn hear(&self, message: &async_nats::Message) {
        let Some(subject) = self.subjects.named(&message.subject) else {
            // Another node has lost messages of its own, and some of them may have been for us.
            return self.disrupted();
        };
        self.heard.add(1);
        match M::decode(&message.payload) {
            Ok(message) => self.local.publish(subject, message),
            Err(error) => {
                tracing::debug!(%error, "a message of another node is dropped");
                self.disrupted();
            }
        }
    }
}

impl<M> Shared<M> {
    /// Whether that is new.
    fn up(&self) -> bool {
        let is_up = |state: &State| *state == State::Up;
        self.outgoing.set_open(true);
        self.state.send_if_modified(|state| {
            let is_new = !is_up(state);
            *state = State::Up;
            is_new
        })
    }

    /// Whether that is new.
    fn down(&self) -> bool {
        self.outgoing.set_open(false);
        self.state.send_if_modified(|state| {
            let is_new = *state == State::Up;
            if is_new {
                *state = State::Down(Instant::now());
            }
            is_new
        })
    }
}

/// Watches over the connection: says when it goes and comes, and that messages may have been lost, here and to the
/// other nodes.
async fn tend<M: Payload>(
    shared: &Shared<M>,
    client: &Client,
    news: &Notify,
) -> Result<Infallible, Ended> {
    let statistics = client.statistics();
    let (mut connects, mut lost) = (0, 0);
    loop {
        let connects_now = statistics.connects.load(Ordering::Relaxed);
        if connects_now == connects {
            if client.connection_state() != Connection::Connected && shared.down() {
                tracing::warn!("cut off from NATS: nodes do not hear each other");
            }
        } else if is_known(shared, client).await {
            // What others said before this moment may be lost; what they say from now on comes.
            connects = connects_now;
            shared.up();
            shared.disrupted();
            tell_lost(shared, client).await?;
            lost = shared.outgoing.lost();
            tracing::info!("connected to NATS: nodes hear each other");
        }
        let lost_now = shared.outgoing.lost();
        if lost_now != lost && *shared.state.borrow() == State::Up {
            lost = lost_now;
            tell_lost(shared, client).await?;
        }
        _ = timeout(LOOK_EVERY, news.notified()).await;
    }
}

/// Says to the other nodes that messages of this one may have been lost.
async fn tell_lost<M>(shared: &Shared<M>, client: &Client) -> Result<(), Ended> {
    let told = client.publish(shared.subjects.lost(), Bytes::new()).await;
    match told.map_err(|error| error.kind()) {
        Err(PublishErrorKind::Send) => Err(Ended),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_most_and_are_not_the_same_for_all() {
        assert_eq!(pause(0), Duration::ZERO);
        for (tries, most) in [(1, RETRY_FIRST), (2, RETRY_FIRST * 2), (90, RETRY_MAX)] {
            let drawn: Vec<Duration> = (0..100).map(|_| pause(tries)).collect();
            assert!(
                drawn.iter().all(|p| *p >= most / 2 && *p <= most),
                "{drawn:?}"
            );
            assert!(drawn.iter().any(|p| *p != drawn[0]));
        }
    }
}
