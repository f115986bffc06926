//! On which subjects somebody here listens, and what of that the server has not been told yet. What is noted is
//! never more than the subjects that are listened to and those that the server was told, however often somebody
//! comes and goes.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What is listened to.
#[derive(Default)]
pub struct Interest {
    /// Guards the noting and the taking, for a few lines.
    noted: Mutex<Noted>,
    more: Notify,
}

#[derive(Default)]
struct Noted {
    subjects: HashMap<Box<str>, Subject>,
    /// Those for which the server is to be told something.
    changed: HashSet<Box<str>>,
    /// Counts what was to be told; what is to be forgotten does not count.
    generation: u64,
}

#[derive(Default)]
struct Subject {
    listeners: usize,
    /// The server is told, or is being told.
    told: bool,
}

/// What to tell the server of a subject.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody listens.
    Listen(Box<str>),
    /// Nobody does any more.
    Leave(Box<str>),
}

impl Interest {
    /// One more listens to a subject.
    pub fn add(&self, subject: &str) {
        let mut noted = self.noted.lock();
        let Noted {
            subjects,
            changed,
            generation,
        } = &mut *noted;
        let entry = subjects.entry(subject.into()).or_default();
        entry.listeners += 1;
        if entry.listeners > 1 {
            return;
        }
        if entry.told {
            // It was to be left, and is not now.
            changed.remove(subject);
            return;
        }
        changed.insert(subject.into());
        *generation += 1;
        drop(noted);
        self.more.notify_one();
    }

    /// One listens no more.
    pub fn remove(&self, subject: &str) {
        let mut noted = self.noted.lock();
        let Some(entry) = noted.subjects.get_mut(subject) else {
            return;
        };
        entry.listeners -= 1;
        if entry.listeners > 0 {
            return;
        }
        if !entry.told {
            noted.subjects.remove(subject);
            noted.changed.remove(subject);
            return;
        }
        noted.changed.insert(subject.into());
        drop(noted);
        self.more.notify_one();
    }

    /// Counts on with every subject that somebody began to listen to.
    pub fn generation(&self) -> u64 {
        self.noted.lock().generation
    }

    /// Waits until there is something to tell, and gives it, with the generation that the server then knows. What
    /// was given counts as told. Cancel-safe.
    pub async fn changes(&self) -> (Vec<Change>, u64) {
        loop {
            let taken = self.take();
            if !taken.0.is_empty() {
                return taken;
            }
            self.more.notified().await;
        }
    }

    /// A server that knows nothing is to be told everything.
    pub fn tell_anew(&self) {
        let mut noted = self.noted.lock();
        let Noted {
            subjects, changed, ..
        } = &mut *noted;
        subjects.retain(|_, subject| subject.listeners > 0);
        subjects
            .values_mut()
            .for_each(|subject| subject.told = false);
        *changed = subjects.keys().cloned().collect();
        drop(noted);
        self.more.notify_one();
    }

    fn take(&self) -> (Vec<Change>, u64) {
        let mut noted = self.noted.lock();
        let generation = noted.generation;
        let changed = std::mem::take(&mut noted.changed);
        let changes = changed.into_iter().map(|name| {
            match noted.subjects.get_mut(&name).filter(|s| s.listeners > 0) {
                Some(subject) => {
                    subject.told = true;
                    Change::Listen(name)
                }
                None => {
                    noted.subjects.remove(&name);
                    Change::Leave(name)
                }
            }
        });
        (changes.collect(), generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(subject: &str) -> Change {
        Change::Listen(subject.into())
    }

    fn leave(subject: &str) -> Change {
        Change::Leave(subject.into())
    }

    #[test]
    fn a_subject_is_told_once_however_many_listen() {
        let interest = Interest::default();
        interest.add("a");
        interest.add("a");
        assert_eq!(interest.take(), (vec![listen("a")], 1));
        interest.remove("a");
        assert_eq!(interest.take(), (vec![], 1));
        interest.remove("a");
        assert_eq!(interest.take(), (vec![leave("a")], 1));
        assert!(interest.noted.lock().subjects.is_empty());
    }

    #[test]
    fn who_comes_and_goes_before_it_is_told_leaves_nothing_to_tell() {
        let interest = Interest::default();
        for round in 0..1_000 {
            let subject = format!("user.{round}");
            interest.add(&subject);
            interest.remove(&subject);
        }
        assert_eq!(interest.take(), (vec![], 1_000));
        assert!(interest.noted.lock().subjects.is_empty());
    }

    #[test]
    fn who_comes_back_before_it_is_told_is_in_force_already() {
        let interest = Interest::default();
        interest.add("a");
        interest.take();
        interest.remove("a");
        interest.add("a");
        assert_eq!(interest.take(), (vec![], 1));
    }

    #[test]
    fn a_server_that_knows_nothing_is_told_what_is_listened_to() {
        let interest = Interest::default();
        interest.add("a");
        interest.add("b");
        interest.take();
        interest.remove("b");
        interest.tell_anew();
        assert_eq!(interest.take(), (vec![listen("a")], 2));
        interest.remove("a");
        assert_eq!(interest.take(), (vec![leave("a")], 2));
    }
}
