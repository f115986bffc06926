//! A cache beside a store: what was read is kept for who reads it next, on whichever node.
//!
//! Who reads asks the cache first. When a value is not there, one of those who ask is given a [`Ticket`] to bring it,
//! and the others wait for that one instead of all asking the store (leases, as in Nishtala et al., *Scaling Memcache
//! at Facebook*, NSDI 2013). Who changes what is in the store says so before and after; what was read in between, or
//! before and brought later, is not kept.

mod memory;
#[cfg(any(test, feature = "suites"))]
pub mod suite;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use rand::Rng as _;
use tokio::time::sleep;

use crate::error::Result;
use crate::metrics::Counter;

pub use memory::Memory;

/// How long a ticket is good. Who brings a value later than that may find that another was asked to.
pub const TICKET_LASTS: Duration = Duration::from_secs(2);
/// How long a change is waited for that nobody says is done: longer than a store takes to commit or refuse one.
pub const CHANGE_LASTS: Duration = Duration::from_secs(30);

/// How long who waits for what another brings waits, and how often, until they read for themselves.
const WAIT: Duration = Duration::from_millis(10);
const WAITS_MAX: usize = 3;

/// Keeps values by key. It may forget any of them at any time; it never gives one that was read before a change it
/// was told of.
///
/// Keys are words with colons between them. Each sort of value has in its keys the version of the form that it is
/// written in, so that nodes of two versions do not read each other's.
#[async_trait]
pub trait Cache: fmt::Debug + Send + Sync {
    /// What is known of these keys, in the order given.
    ///
    /// # Errors
    /// When there is no answer, soon: who asks has somebody waiting.
    async fn look(&self, keys: &[String]) -> std::result::Result<Vec<Found>, Away>;

    /// Brings the value that a ticket is for, or says that there is none. Whether it was taken: not when it has
    /// changed since the ticket was given, or may have.
    ///
    /// # Errors
    /// When there is no answer; it was taken or not.
    async fn bring(
        &self,
        key: &str,
        ticket: Ticket,
        value: Option<&[u8]>,
    ) -> std::result::Result<bool, Away>;

    /// What the key is of is about to change: nothing of it is known and nothing is taken until that is done, or for
    /// [`CHANGE_LASTS`]. There may be several changes at once.
    ///
    /// # Errors
    /// When there is no answer; it was heard or not.
    async fn change(&self, key: &str, change: Change) -> std::result::Result<(), Away>;

    /// The change is done. What is known of the key, and every ticket for it, is void, also if the beginning of the
    /// change was not heard.
    ///
    /// # Errors
    /// When there is no answer; it was heard or not.
    async fn changed(&self, key: &str, change: Change) -> std::result::Result<(), Away>;
}

/// What a cache knows of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It.
    Value(Bytes),
    /// Nothing, and who asks is to bring it.
    Missing(Ticket),
    /// Nothing yet: another one was asked to bring it.
    Coming,
    /// Nothing: it is being changed.
    Changing,
}

/// That a value is to be brought. It becomes void with the next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub i64);

/// The name of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Change(pub i64);

impl Change {
    /// Another than all others.
    pub fn begin() -> Self {
        Change(random())
    }
}

impl Ticket {
    /// Another than all others.
    pub fn draw() -> Self {
        Ticket(random())
    }
}

fn random() -> i64 {
    rand::rng().random_range(1..i64::MAX)
}

/// The cache does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cache does not answer")]
pub struct Away;

/// A way to a store that leads past a cache. Without an answer of the cache it leads to the store alone.
#[derive(Debug, Clone)]
pub struct Through {
    cache: Arc<dyn Cache>,
    counts: Arc<Counts>,
}

/// How often the cache had what was asked for.
#[derive(Debug, Default)]
pub struct Counts {
    /// It had it.
    pub known: Counter,
    /// It was read from the store.
    pub read: Counter,
}

impl Through {
    /// Past this one.
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Through {
            cache,
            counts: Arc::default(),
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// The values of these keys, in the order given; none where there is none. `fetch` reads those from the store
    /// whose places it is given, in their order.
    ///
    /// # Errors
    /// The failure of `fetch`. Tickets that were given lapse then.
    pub async fn read<F, R>(&self, keys: &[String], mut fetch: F) -> Result<Vec<Option<Bytes>>>
    where
        F: FnMut(Vec<usize>) -> R,
        R: Future<Output = Result<Vec<Option<Bytes>>>>,
    {
        let mut values = vec![None; keys.len()];
        let mut open: Vec<usize> = (0..keys.len()).collect();
        // What is read without a ticket, for us alone.
        let mut alone = Vec::new();
        for waits in 0..=WAITS_MAX {
            let asked: Vec<String> = open.iter().map(|at| keys[*at].clone()).collect();
            let Ok(found) = self.cache.look(&asked).await else {
                break;
            };
            let mut coming = Vec::new();
            let mut missing = Vec::new();
            for (at, found) in open.iter().copied().zip(found) {
                match found {
                    Found::Value(value) => {
                        self.counts.known.add(1);
                        values[at] = Some(value);
                    }
                    Found::Missing(ticket) => missing.push((at, ticket)),
                    Found::Coming => coming.push(at),
                    Found::Changing => alone.push(at),
                }
            }
            if !missing.is_empty() {
                let places = missing.iter().map(|(at, _)| *at).collect();
                let fetched = self.fetch(&mut fetch, places).await?;
                let brought = missing.iter().zip(&fetched).map(|((at, ticket), value)| {
                    self.cache.bring(&keys[*at], *ticket, value.as_deref())
                });
                // Nothing depends on whether they are taken.
                join_all(brought).await;
                for ((at, _), value) in missing.into_iter().zip(fetched) {
                    values[at] = value;
                }
            }
            open = coming;
            if open.is_empty() || waits == WAITS_MAX {
                break;
            }
            sleep(WAIT).await;
        }
        alone.append(&mut open);
        if !alone.is_empty() {
            let fetched = self.fetch(&mut fetch, alone.clone()).await?;
            for (at, value) in alone.into_iter().zip(fetched) {
                values[at] = value;
            }
        }
        Ok(values)
    }

    async fn fetch<F, R>(&self, fetch: &mut F, places: Vec<usize>) -> Result<Vec<Option<Bytes>>>
    where
        F: FnMut(Vec<usize>) -> R,
        R: Future<Output = Result<Vec<Option<Bytes>>>>,
    {
        self.counts.read.add(places.len() as u64);
        fetch(places).await
    }

    /// Changes what the key is of. A change that fails may be committed still: then nothing of the key is kept for
    /// [`CHANGE_LASTS`].
    ///
    /// # Errors
    /// The failure of `change`.
    pub async fn change<T>(&self, key: &str, change: impl Future<Output = Result<T>>) -> Result<T> {
        let named = Change::begin();
        // Who can not be told forgets by the age of what it has.
        _ = self.cache.change(key, named).await;
        let done = change.await?;
        _ = self.cache.changed(key, named).await;
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
