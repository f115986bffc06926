//! A bus that does everything a bus may do: it loses, repeats and reorders, by a seed that can be printed.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;

use super::{Bus, Payload, Sink, Subscription};

/// How often what goes wrong, in a thousand messages.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Lost without a word.
    pub lose: u32,
    /// Delivered twice.
    pub repeat: u32,
    /// Held back and delivered after later ones.
    pub reorder: u32,
}

/// The messages that may be held back at a time.
const HELD_MAX: usize = 32;

/// A bus over another one.
pub struct Flaky<M> {
    inner: Arc<dyn Bus<M>>,
    faults: Faults,
    state: Mutex<State<M>>,
    disruptions: watch::Sender<u64>,
}

struct State<M> {
    rng: StdRng,
    held: Vec<(String, M)>,
}

impl<M: Payload> Flaky<M> {
    /// Makes `inner` worse.
    pub fn new(inner: Arc<dyn Bus<M>>, faults: Faults, seed: u64) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            held: Vec::new(),
        };
        Flaky {
            inner,
            faults,
            state: Mutex::new(state),
            disruptions: watch::Sender::new(0),
        }
    }

    /// Delivers what is held back.
    pub fn settle(&self) {
        let held = std::mem::take(&mut self.state.lock().held);
        for (subject, message) in held {
            self.inner.publish(&subject, message);
        }
    }

    /// Loses what is held back, and says so.
    pub fn disrupt(&self) {
        self.state.lock().held.clear();
        self.disruptions.send_modify(|n| *n += 1);
    }

    /// What to deliver now that this message is published.
    fn turn(&self, subject: &str, message: M) -> Vec<(String, M)> {
        let mut state = self.state.lock();
        let mut hit = |per_mille: u32| state.rng.random_range(0..1_000) < per_mille;
        let (lost, twice, later) = (
            hit(self.faults.lose),
            hit(self.faults.repeat),
            hit(self.faults.reorder),
        );
        let message = (subject.to_owned(), message);
        let mut out = Vec::new();
        if twice {
            out.push(message.clone());
        }
        if later && state.held.len() < HELD_MAX {
            state.held.push(message);
        } else if !lost {
            out.push(message);
            if !state.held.is_empty() && state.rng.random() {
                let held = state.held.len();
                let at = state.rng.random_range(0..held);
                out.push(state.held.swap_remove(at));
            }
        }
        out
    }
}

impl<M: Payload> Bus<M> for Flaky<M> {
    fn publish(&self, subject: &str, message: M) {
        for (subject, message) in self.turn(subject, message) {
            self.inner.publish(&subject, message);
        }
    }

    fn subscribe(&self, subject: &str, sink: Sink<M>) -> Subscription {
        self.inner.subscribe(subject, sink)
    }

    fn disruptions(&self) -> watch::Receiver<u64> {
        self.disruptions.subscribe()
    }
}

impl<M> fmt::Debug for Flaky<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flaky")
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::super::suite::{self, Note};
    use super::*;

    fn heard(faults: Faults, seed: u64) -> Vec<u64> {
        let bus = Flaky::new(Arc::new(Memory::new()), faults, seed);
        let heard: Arc<Mutex<Vec<u64>>> = Arc::default();
        let sink = heard.clone();
        let _subscription =
            bus.subscribe("a", Arc::new(move |note: Note| sink.lock().push(note.0)));
        (0..1_000).for_each(|n| bus.publish("a", Note(n)));
        bus.settle();
        std::mem::take(&mut *heard.lock())
    }

    #[tokio::test]
    async fn without_faults_it_keeps_the_promises_of_a_bus() {
        let faults = Faults {
            lose: 0,
            repeat: 0,
            reorder: 0,
        };
        suite::run(|| Arc::new(Flaky::new(Arc::new(Memory::new()), faults, 1))).await;
    }

    #[test]
    fn it_loses() {
        let heard = heard(
            Faults {
                lose: 100,
                repeat: 0,
                reorder: 0,
            },
            1,
        );
        assert!(
            heard.is_sorted() && (800..1_000).contains(&heard.len()),
            "{}",
            heard.len()
        );
    }

    #[test]
    fn it_repeats() {
        let heard = heard(
            Faults {
                lose: 0,
                repeat: 100,
                reorder: 0,
            },
            1,
        );
        assert!(
            heard.is_sorted() && (1_001..1_200).contains(&heard.len()),
            "{}",
            heard.len()
        );
    }

    #[test]
    fn it_reorders_and_loses_nothing_by_that() {
        let mut heard = heard(
            Faults {
                lose: 0,
                repeat: 0,
                reorder: 100,
            },
            1,
        );
        assert!(!heard.is_sorted());
        heard.sort_unstable();
        assert!(heard.into_iter().eq(0..1_000));
    }

    #[test]
    fn the_same_seed_does_the_same() {
        let faults = Faults {
            lose: 50,
            repeat: 50,
            reorder: 50,
        };
        assert_eq!(heard(faults, 7), heard(faults, 7));
        assert_ne!(heard(faults, 7), heard(faults, 8));
    }

    #[test]
    fn a_disruption_is_told() {
        let faults = Faults {
            lose: 0,
            repeat: 0,
            reorder: 0,
        };
        let bus = Flaky::<Note>::new(Arc::new(Memory::new()), faults, 1);
        let seen = bus.disruptions();
        bus.disrupt();
        assert!(seen.has_changed().unwrap());
        assert_eq!(*seen.borrow(), 1);
    }
}
