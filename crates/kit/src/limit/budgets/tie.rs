//! The way from the buckets of a node to the ledger of all nodes.
//!
//! Who has spent a portion of its bucket here is told of, and the answer says how full the bucket of all nodes is. So
//! the ledger is asked a few times for each bucket that somebody empties, and hardly at all for who calls now and then.
//! What is not told yet, of each key at most a portion, is the most that a node gives beyond what the others know of;
//! besides what is given while a question is on its way.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limit::{Away, Charge, Ledger, Level, Rate};

/// In how many portions a full bucket is told of.
const PORTIONS: u32 = 20;
/// How many portions may wait to be told. What comes when it is full is told with what the same key spends next.
const PORTIONS_WAITING_MAX: usize = 8_192;
/// How many the ledger is told of at once.
const PORTIONS_AT_ONCE: usize = 256;

/// The tie of one sort of buckets.
pub struct Tie<K> {
    budget: &'static str,
    ledger: Arc<dyn Ledger>,
    rate: Rate,
    /// How many tokens are worth telling of.
    portion: u32,
    /// Guards what waits to be told: who has spent how many tokens.
    waiting: Mutex<VecDeque<(K, u32)>>,
    /// There is something to tell.
    more: Notify,
}

impl<K> Tie<K> {
    /// A tie to `ledger`, where the buckets are kept under a word of their own.
    pub fn new(budget: &'static str, ledger: Arc<dyn Ledger>, rate: Rate) -> Self {
        Tie {
            budget,
            ledger,
            rate,
            portion: (rate.burst() / PORTIONS).max(1),
            waiting: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// How many portions wait to be told.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }
}

impl<K: Clone> Tie<K> {
    /// Has the ledger told of what a key has spent, when it is worth it. Gives what is left to be told.
    pub fn note(&self, key: &K, untold: u32) -> u32 {
        if untold < self.portion {
            return untold;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() >= PORTIONS_WAITING_MAX {
            return untold;
        }
        waiting.push_back((key.clone(), untold));
        self.more.notify_one();
        0
    }
}

impl<K: ToString> Tie<K> {
    /// Takes tokens from the bucket of all nodes, if it holds so many.
    pub async fn ask(&self, key: &K, tokens: u32) -> Result<Level, Away> {
        self.charge(key, tokens, false).await
    }

    /// Waits until there is something to tell, and gives what the answers say. What had none is not told again: a
    /// ledger that comes back begins with full buckets, or with what it had.
    pub async fn tell(&self) -> Vec<(K, Level)> {
        let telling = self.some().await.into_iter().map(async |(key, tokens)| {
            let level = self.charge(&key, tokens, true).await.ok()?;
            Some((key, level))
        });
        join_all(telling).await.into_iter().flatten().collect()
    }

    /// What has waited longest, at least one.
    async fn some(&self) -> Vec<(K, u32)> {
        loop {
            let some: Vec<_> = {
                let mut waiting = self.waiting.lock();
                let count = waiting.len().min(PORTIONS_AT_ONCE);
                waiting.drain(..count).collect()
            };
            if !some.is_empty() {
                return some;
            }
            self.more.notified().await;
        }
    }

    async fn charge(&self, key: &K, tokens: u32, is_spent: bool) -> Result<Level, Away> {
        let charge = Charge {
            budget: self.budget,
            key: &key.to_string(),
            rate: self.rate,
            tokens,
            is_spent,
        };
        self.ledger.charge(charge).await
    }
}

impl<K> fmt::Debug for Tie<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tie")
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
