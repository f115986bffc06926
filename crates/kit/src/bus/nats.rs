//! The bus of many nodes, over NATS. A subscriber on the same node is called directly, whether NATS is there or
//! not; all other nodes hear through the server, which does not send a node what it said itself.
//!
//! ```text
//! publish ──▶ sinks of this node
//!    └──────▶ outgoing (bounded) ──▶ link ──▶ NATS ──▶ link of another node ──▶ its sinks
//! ```
//!
//! NATS keeps nothing for who is not there. When this node was cut off, when messages came faster than they were
//! taken, or one could not be read, a disruption is counted. When messages of this node were lost on their way out,
//! it tells the others, and they count one.

mod address;
mod interest;
mod link;
mod outgoing;
mod subjects;
#[cfg(all(test, unix))]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{Bus, Memory, Payload, Sink, Subscription};
use crate::lifecycle::Lifecycle;
use crate::metrics::Counter;

pub use address::{Address, BadAddress};
pub use subjects::{BadPrefix, Prefix};

use interest::Interest;
use outgoing::Outgoing;
use subjects::Subjects;

/// How long a subscriber waits at most until the server knows its subscription.
const SETTLE_MAX: Duration = Duration::from_millis(500);

/// Where NATS is, and the bounds towards it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The servers, and what this node signs in with.
    pub address: Address,
    /// What the subjects of this deployment begin with.
    pub prefix: Prefix,
    /// How many bytes may wait to be sent. What is more is lost, and the other nodes are told so.
    pub outgoing_bytes_max: usize,
    /// How many messages of one subject may wait to be taken. What is more is lost, and counts as a disruption.
    pub incoming_messages_max: usize,
    /// How long the server may say nothing until it is taken for dead. It is asked three times in that time.
    pub silence_max: Duration,
}

impl Options {
    /// The usual bounds.
    pub fn new(address: Address, prefix: Prefix) -> Self {
        Options {
            address,
            prefix,
            outgoing_bytes_max: 16 * 1024 * 1024,
            incoming_messages_max: 8_192,
            silence_max: Duration::from_secs(15),
        }
    }
}

/// A bus between nodes.
pub struct Nats<M>(Arc<Shared<M>>);

/// What subscribers, publishers and the link share.
struct Shared<M> {
    options: Options,
    subjects: Subjects,
    local: Memory<M>,
    outgoing: Outgoing,
    interest: Interest,
    state: watch::Sender<State>,
    /// How much of the interest the server is known to know.
    settled: watch::Sender<u64>,
    disruptions: watch::Sender<u64>,
    sent: Counter,
    heard: Counter,
}

/// How the link to the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// What others say is heard.
    Up,
    /// It is not, since then.
    Down(Instant),
}

impl<M: Payload> Nats<M> {
    /// A bus that connects as soon as it can and stays connected until the node stops. Does not wait for that: see
    /// [`Nats::connected`].
    pub fn start(options: Options, lifecycle: &Lifecycle) -> Self {
        let shared = Arc::new(Shared {
            subjects: Subjects::new(&options.prefix),
            local: Memory::new(),
            outgoing: Outgoing::new(options.outgoing_bytes_max),
            interest: Interest::default(),
            state: watch::Sender::new(State::Down(Instant::now())),
            settled: watch::Sender::new(0),
            disruptions: watch::Sender::new(0),
            sent: Counter::default(),
            heard: Counter::default(),
            options,
        });
        let (linked, told) = (Arc::clone(&shared), lifecycle.told_loops());
        lifecycle.spawn_loop("bus", move || link::run(linked.clone(), told.clone()));
        Nats(shared)
    }

    /// Waits until what other nodes say is heard.
    pub async fn connected(&self) {
        let mut state = self.0.state.subscribe();
        // It fails only without a bus, and we have one.
        _ = state.wait_for(|state| *state == State::Up).await;
    }

    /// Whether what other nodes say is heard, and if not since when.
    ///
    /// # Errors
    /// With words for operators, when it is not.
    pub fn health(&self) -> Result<(), String> {
        match *self.0.state.borrow() {
            State::Up => Ok(()),
            State::Down(since) => Err(format!(
                "cut off from NATS for {} s: what other nodes say comes with heartbeats only",
                since.elapsed().as_secs()
            )),
        }
    }

    /// How many messages were handed to the server.
    pub fn sent(&self) -> u64 {
        self.0.sent.get()
    }

    /// How many messages of other nodes came.
    pub fn heard(&self) -> u64 {
        self.0.heard.get()
    }

    /// How many messages for other nodes were dropped, because the server was not there or too slow.
    pub fn lost(&self) -> u64 {
        self.0.outgoing.lost()
    }

    /// On how many subjects somebody here listens.
    pub fn subjects(&self) -> usize {
        self.0.local.subjects()
    }
}

impl<M: Payload> Shared<M> {
    fn disrupted(&self) {
        self.disruptions.send_modify(|n| *n += 1);
    }
}

impl<M: Payload> Bus<M> for Nats<M> {
    fn publish(&self, subject: &str, message: M) {
        let bytes = message.encode();
        // First those for whom nothing can go wrong.
        self.0.local.publish(subject, message);
        self.0.outgoing.push(self.0.subjects.of(subject), bytes);
    }

    fn subscribe(&self, subject: &str, sink: Sink<M>) -> Subscription {
        let here = self.0.local.subscribe(subject, sink);
        self.0.interest.add(subject);
        let (bus, subject): (_, Box<str>) = (Arc::downgrade(&self.0), subject.into());
        Subscription::new(move || {
            drop(here);
            if let Some(bus) = bus.upgrade() {
                bus.interest.remove(&subject);
            }
        })
    }

    fn settled(&self) -> BoxFuture<'static, ()> {
        let wanted = self.0.interest.generation();
        let mut state = self.0.state.subscribe();
        let mut settled = self.0.settled.subscribe();
        if *settled.borrow() >= wanted || *state.borrow() != State::Up {
            return std::future::ready(()).boxed();
        }
        let waiting = async move {
            tokio::select! {
                _ = settled.wait_for(|so_far| *so_far >= wanted) => {}
                _ = state.wait_for(|state| *state != State::Up) => {}
            }
        };
        timeout(SETTLE_MAX, waiting).map(drop).boxed()
    }

    fn disruptions(&self) -> watch::Receiver<u64> {
        self.0.disruptions.subscribe()
    }
}

impl<M> Clone for Nats<M> {
    fn clone(&self) -> Self {
        Nats(self.0.clone())
    }
}

impl<M> fmt::Debug for Nats<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("state", &*self.0.state.borrow())
            .finish_non_exhaustive()
    }
}
