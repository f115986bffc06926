//! A bus that does everything that a bus may do: it loses, repeats, delays and so reorders, for each
//! subscriber by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tertulia_api::live::told::Told;
use tertulia_kit::bus::{Bus, Sink, Subscription};
use tokio::sync::watch;
use tokio::time::Instant;

use super::sabotage::Sabotage;
use super::world::World;

/// For how long a new subscription hears nothing when it is sabotaged: as long as the answer to a hello may
/// take.
const DEAF_AT_FIRST: Duration = Duration::from_millis(250);

/// The subscribers of all subjects.
#[derive(Clone)]
pub struct LossyBus {
    world: Arc<World>,
    subjects: Arc<Mutex<BTreeMap<String, Vec<Subscriber>>>>,
    next_id: Arc<AtomicU64>,
    disruptions: watch::Sender<u64>,
}

#[derive(Clone)]
struct Subscriber {
    id: u64,
    since: Instant,
    sink: Sink<Told>,
}

impl LossyBus {
    /// A bus with nobody on it.
    pub fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(LossyBus {
            world: Arc::clone(world),
            subjects: Arc::default(),
            next_id: Arc::default(),
            disruptions: watch::Sender::new(0),
        })
    }

    fn deliver(&self, subscriber: &Subscriber, message: &Told) {
        if self.world.plan.sabotage == Some(Sabotage::DoesNotBuffer)
            && subscriber.since.elapsed() < DEAF_AT_FIRST
        {
            return;
        }
        let faults = self.world.faults();
        if self.world.fault(faults.bus_losses) {
            return;
        }
        let copies = 1 + u32::from(self.world.fault(faults.bus_repeats));
        for _ in 0..copies {
            let (sink, message) = (Arc::clone(&subscriber.sink), message.clone());
            match self.world.draw_ms(faults.bus_ms) {
                Duration::ZERO => sink(message),
                wait => {
                    tokio::spawn(async move {
                        tokio::time::sleep(wait).await;
                        sink(message);
                    });
                }
            }
        }
    }
}

impl Bus<Told> for LossyBus {
    fn publish(&self, subject: &str, message: Told) {
        let subscribers = self.subjects.lock().get(subject).cloned();
        for subscriber in subscribers.unwrap_or_default() {
            self.deliver(&subscriber, &message);
        }
    }

    fn subscribe(&self, subject: &str, sink: Sink<Told>) -> Subscription {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        let subscriber = Subscriber { id, since, sink };
        let mut subjects = self.subjects.lock();
        subjects
            .entry(subject.to_owned())
            .or_default()
            .push(subscriber);
        let (subjects, subject) = (Arc::clone(&self.subjects), subject.to_owned());
        Subscription::new(move || {
            let mut subjects = subjects.lock();
            let gone = subjects.get_mut(&subject).and_then(|all| {
                let at = all.iter().position(|s| s.id == id)?;
                Some(all.remove(at))
            });
            // A sink may hold what takes this lock when it is dropped.
            drop(subjects);
            drop(gone);
        })
    }

    fn disruptions(&self) -> watch::Receiver<u64> {
        self.disruptions.subscribe()
    }
}
