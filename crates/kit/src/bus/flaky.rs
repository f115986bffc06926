//! A bus that does everything a bus may do: it loses, repeats and reorders, by a seed that can be printed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;

use super::{Bus, Payload, Sink, Subscription};

/// What goes wrong. The default is nothing. As text it is a list such as `lose=300,outage_every=50`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Lost without a word, of a thousand messages.
    pub lose: u32,
    /// Delivered twice, of a thousand.
    pub repeat: u32,
    /// Held back and delivered after later ones, of a thousand.
    pub reorder: u32,
    /// The bus goes down once in so many messages; 0 for never.
    pub outage_every: u64,
    /// How many messages an outage takes. Its end is told as a disruption.
    pub outage_length: u64,
    /// After so many messages half of the subjects, chosen by the seed, are never delivered again and nobody
    /// is told; 0 for never.
    pub stall_after: u64,
    /// What chance decides.
    pub seed: u64,
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut faults = Faults::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or("write NAME=NUMBER,…")?;
            let value: u64 = value.parse().map_err(|_| format!("{value} is no number"))?;
            let per_mille = u32::try_from(value).unwrap_or(u32::MAX);
            match name {
                "lose" => faults.lose = per_mille,
                "repeat" => faults.repeat = per_mille,
                "reorder" => faults.reorder = per_mille,
                "outage_every" => faults.outage_every = value,
                "outage_length" => faults.outage_length = value,
                "stall_after" => faults.stall_after = value,
                "seed" => faults.seed = value,
                _ => return Err(format!("there is no fault {name}")),
            }
        }
        Ok(faults)
    }
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
    published: u64,
}

impl<M: Payload> Flaky<M> {
    /// Makes `inner` worse.
    pub fn new(inner: Arc<dyn Bus<M>>, faults: Faults) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(faults.seed),
            held: Vec::new(),
            published: 0,
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

    /// Whether the n-th message falls into an outage or is for a subject that is never delivered again.
    fn is_silent(&self, subject: &str, nth: u64) -> bool {
        let faults = &self.faults;
        if let Some(at) = nth.checked_rem(faults.outage_every) {
            if at == faults.outage_length && nth > at {
                self.disruptions.send_modify(|n| *n += 1);
            }
            if at < faults.outage_length && nth >= faults.outage_every {
                return true;
            }
        }
        // FNV-1a of the subject is the seed of its own choice.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let hash = subject
            .bytes()
            .fold(faults.seed ^ 0xcbf2_9ce4_8422_2325, mix);
        let chosen = || StdRng::seed_from_u64(hash).random();
        faults.stall_after > 0 && nth > faults.stall_after && chosen()
    }

    /// What to deliver now that this message is published.
    fn turn(&self, subject: &str, message: M) -> Vec<(String, M)> {
        let mut state = self.state.lock();
        state.published += 1;
        if self.is_silent(subject, state.published) {
            return Vec::new();
        }
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

    fn settled(&self) -> BoxFuture<'static, ()> {
        self.inner.settled()
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
        let faults = Faults { seed, ..faults };
        let bus = Flaky::new(Arc::new(Memory::new()), faults);
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
        let faults = Faults::default();
        suite::run(|| Arc::new(Flaky::new(Arc::new(Memory::new()), faults))).await;
    }

    #[test]
    fn it_loses() {
        let heard = heard(
            Faults {
                lose: 100,
                ..Faults::default()
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
                repeat: 100,
                ..Faults::default()
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
                reorder: 100,
                ..Faults::default()
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
            ..Faults::default()
        };
        assert_eq!(heard(faults, 7), heard(faults, 7));
        assert_ne!(heard(faults, 7), heard(faults, 8));
    }

    #[test]
    fn an_outage_takes_what_falls_into_it_and_its_end_is_told() {
        let faults = Faults {
            outage_every: 100,
            outage_length: 10,
            ..Faults::default()
        };
        assert_eq!(heard(faults, 1).len(), 1_000 - 9 * 10 - 1);
        let bus = Flaky::<Note>::new(Arc::new(Memory::new()), faults);
        let told = bus.disruptions();
        (0..1_000).for_each(|n| bus.publish("a", Note(n)));
        assert_eq!(*told.borrow(), 9);
    }

    #[test]
    fn a_stall_silences_some_subjects_and_not_all() {
        let faults = Faults {
            stall_after: 1_000,
            ..Faults::default()
        };
        let bus = Flaky::<Note>::new(Arc::new(Memory::new()), faults);
        let heard: Arc<Mutex<Vec<u64>>> = Arc::default();
        let subjects: Vec<String> = (0..100).map(|n| format!("user.{n}")).collect();
        let _all: Vec<Subscription> = subjects
            .iter()
            .map(|subject| {
                let heard = heard.clone();
                bus.subscribe(
                    subject,
                    Arc::new(move |note: Note| heard.lock().push(note.0)),
                )
            })
            .collect();
        for round in 0..20 {
            subjects.iter().for_each(|s| bus.publish(s, Note(round)));
        }
        let heard = heard.lock();
        let of = |round| heard.iter().filter(|n| **n == round).count();
        assert_eq!(of(9), 100);
        assert!((25..75).contains(&of(10)), "{}", of(10));
        assert_eq!(of(10), of(19), "the same ones stay silent");
    }

    #[test]
    fn faults_are_read_from_text() {
        let faults: Faults = "lose=300,stall_after=7,seed=9".parse().unwrap();
        let expected = Faults {
            lose: 300,
            stall_after: 7,
            seed: 9,
            ..Faults::default()
        };
        assert_eq!(faults, expected);
        for wrong in ["", "lose", "lose=x", "win=1"] {
            assert!(wrong.parse::<Faults>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_disruption_is_told() {
        let faults = Faults::default();
        let bus = Flaky::<Note>::new(Arc::new(Memory::new()), faults);
        let seen = bus.disruptions();
        bus.disrupt();
        assert!(seen.has_changed().unwrap());
        assert_eq!(*seen.borrow(), 1);
    }
}
