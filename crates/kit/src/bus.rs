//! Carries messages from who publishes to who subscribed, within a node and between nodes.
//!
//! A bus is a hint. It may lose a message, repeat it, and deliver it after a later one. Who needs every
//! message reads them where they are kept, and takes the bus for a nudge. When a bus knows that it may have
//! lost something it says so ([`Bus::disruptions`]); it need not know.

pub mod flaky;
mod memory;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(any(test, feature = "suites"))]
pub mod suite;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;

pub use memory::Memory;

/// What a bus can carry. A clone should be cheap: each subscriber gets one.
pub trait Payload: Clone + Send + Sync + 'static {
    /// The message for the way to another node.
    fn encode(&self) -> Bytes;

    /// The message as it came from another node, perhaps of another version.
    ///
    /// # Errors
    /// When it can not be read; the bus then drops it and counts a disruption.
    fn decode(bytes: &[u8]) -> Result<Self, Undecodable>;
}

/// A message can not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message on the bus can not be read: {0}")]
pub struct Undecodable(pub String);

/// Takes the messages of a subscription. Called on the publisher's thread or the bus's own: it is quick, never
/// waits and never panics. It may subscribe, unsubscribe and publish.
pub type Sink<M> = Arc<dyn Fn(M) + Send + Sync>;

/// A bus. A subject is a text without blanks, such as `user.17`.
pub trait Bus<M: Payload>: Send + Sync {
    /// Sends `message` to who is subscribed to `subject`, without waiting for them.
    fn publish(&self, subject: &str, message: M);

    /// Calls `sink` with what is published on `subject` until the subscription is dropped. A message on its way
    /// at that moment may still come. What was published before does not come. What this node publishes from now
    /// on comes; what others publish comes as soon as the subscription is [settled](Bus::settled).
    fn subscribe(&self, subject: &str, sink: Sink<M>) -> Subscription;

    /// Ends when what other nodes publish reaches the subscriptions that were made before this was called. Who
    /// reads what a subscription is a hint for reads it after that, and misses nothing in between. It ends soon in
    /// any case: a bus that is cut off does not wait, for it tells its return as a disruption.
    fn settled(&self) -> BoxFuture<'static, ()> {
        // Within a process a subscription holds at once.
        std::future::ready(()).boxed()
    }

    /// Counts the times at which messages may have been lost on all subjects. Who sees it change treats its
    /// readers as behind.
    fn disruptions(&self) -> watch::Receiver<u64>;
}

/// Ends when it is dropped.
#[must_use = "a subscription ends when it is dropped"]
pub struct Subscription(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Subscription {
    /// A subscription that is ended by `end`.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Subscription(Some(Box::new(end)))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}
