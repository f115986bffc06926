//! The bus of a node that is alone: a call of the sinks.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rustc_hash::FxBuildHasher;
use tokio::sync::watch;

use super::{Bus, Payload, Sink, Subscription};

const SHARDS: usize = 64;
/// Above the bits of a hash by which a table finds a place, and below those by which it knows an entry.
const SHARD_SHIFT: u32 = 40;

/// A bus within this process. It loses and repeats nothing, and the messages of one publisher come in order.
pub struct Memory<M>(Arc<Inner<M>>);

struct Inner<M> {
    next_id: AtomicU64,
    shards: Vec<RwLock<Shard<M>>>,
    disruptions: watch::Sender<u64>,
}

/// The sinks by subject. The lists are shared with who is publishing at the moment, so that no lock is held
/// while a sink runs; a list that is not being published to is changed in place. Subjects are made of this node's own
/// ids, so that nobody from outside can choose them to fall together, and a quick hash will do.
type Shard<M> = HashMap<Box<str>, Arc<Vec<(u64, Sink<M>)>>, FxBuildHasher>;

impl<M: Payload> Memory<M> {
    /// A bus with nobody on it.
    pub fn new() -> Self {
        Memory(Arc::new(Inner {
            next_id: AtomicU64::new(0),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            disruptions: watch::Sender::new(0),
        }))
    }

    /// How many subjects have a subscriber.
    pub fn subjects(&self) -> usize {
        self.0.shards.iter().map(|s| s.read().len()).sum()
    }
}

impl<M: Payload> Default for Memory<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Clone for Memory<M> {
    fn clone(&self) -> Self {
        Memory(self.0.clone())
    }
}

impl<M> fmt::Debug for Memory<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

impl<M> Inner<M> {
    fn shard(&self, subject: &str) -> &RwLock<Shard<M>> {
        let hash = FxBuildHasher.hash_one(subject) >> SHARD_SHIFT;
        &self.shards[hash as usize % SHARDS]
    }

    fn unsubscribe(&self, subject: &str, id: u64) {
        let mut shard = self.shard(subject).write();
        let Some(sinks) = shard.get_mut(subject) else {
            return;
        };
        let list = Arc::make_mut(sinks);
        let gone = list
            .iter()
            .position(|(i, _)| *i == id)
            .map(|at| list.remove(at));
        let emptied = if list.is_empty() {
            shard.remove(subject)
        } else {
            None
        };
        // What a sink holds is dropped outside the lock: it may be a subscription, too.
        drop(shard);
        drop((gone, emptied));
    }
}

impl<M: Payload> Bus<M> for Memory<M> {
    fn publish(&self, subject: &str, message: M) {
        let sinks = self.0.shard(subject).read().get(subject).cloned();
        // Mostly there is one, and it gets the message itself.
        if let Some([others @ .., (_, last)]) = sinks.as_ref().map(|sinks| &sinks[..]) {
            for (_, sink) in others {
                sink(message.clone());
            }
            last(message);
        }
    }

    fn subscribe(&self, subject: &str, sink: Sink<M>) -> Subscription {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let subject: Box<str> = subject.into();
        {
            let mut shard = self.0.shard(&subject).write();
            Arc::make_mut(shard.entry(subject.clone()).or_default()).push((id, sink));
        }
        let bus = Arc::downgrade(&self.0);
        Subscription::new(move || {
            if let Some(bus) = bus.upgrade() {
                bus.unsubscribe(&subject, id);
            }
        })
    }

    fn disruptions(&self) -> watch::Receiver<u64> {
        self.0.disruptions.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::super::suite::{self, Note};
    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_promises_of_a_bus() {
        suite::run(|| Arc::new(Memory::new())).await;
    }

    #[test]
    fn a_subject_that_nobody_hears_costs_nothing() {
        let bus = Memory::<Note>::new();
        let kept: Vec<_> = (0..100)
            .map(|n| bus.subscribe(&format!("user.{n}"), Arc::new(|_| {})))
            .collect();
        assert_eq!(bus.subjects(), 100);
        drop(kept);
        assert_eq!(bus.subjects(), 0);
    }

    #[test]
    fn a_sink_may_end_its_own_subscription_and_others() {
        let bus = Memory::<Note>::new();
        let held: Arc<Mutex<Vec<Subscription>>> = Arc::default();
        for _ in 0..3 {
            let inside = held.clone();
            let subscription = bus.subscribe(
                "a",
                Arc::new(move |_| {
                    let ended = std::mem::take(&mut *inside.lock());
                    drop(ended);
                }),
            );
            held.lock().push(subscription);
        }
        bus.publish("a", Note(1));
        assert_eq!(bus.subjects(), 0);
    }

    #[test]
    fn a_sink_that_holds_a_subscription_can_be_dropped() {
        let bus = Memory::<Note>::new();
        let inner = bus.subscribe("a", Arc::new(|_| {}));
        let outer = bus.subscribe(
            "a",
            Arc::new(move |_| {
                let _ = &inner;
            }),
        );
        drop(outer);
        assert_eq!(bus.subjects(), 0);
    }
}
