//! What all nodes together have taken from each bucket.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Rate;

/// Keeps the buckets of all nodes. It may forget any of them at any time, and a forgotten bucket is a full one: who
/// asks has a bucket of its own as well, so that at worst each node lets through as much as if it were alone.
///
/// A charge whose answer did not come was made or not; it is not repeated.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync {
    /// Takes tokens from a bucket; one that nobody has taken from is full. Charges of one bucket are made one after the
    /// other, whichever nodes make them, and by one clock.
    ///
    /// # Errors
    /// When there is no answer, soon: who asks has somebody waiting.
    async fn charge(&self, charge: Charge<'_>) -> Result<Level, Away>;
}

/// What is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge<'a> {
    /// Which sort of bucket it is: a plain word. All of a sort have the same rate.
    pub budget: &'a str,
    /// Whose.
    pub key: &'a str,
    /// How fast it fills, and how much it holds.
    pub rate: Rate,
    /// How many tokens. Not asked for in advance, more than the burst can never be had.
    pub tokens: u32,
    /// They were given out already: they are taken even when the bucket does not hold so many, and it owes the rest.
    pub is_spent: bool,
}

/// How a bucket is after a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// In how long it is full, when nobody takes any more.
    pub full_in: Duration,
    /// In how long it will hold what was asked for. Nothing was taken when that is not zero.
    pub short_for: Duration,
}

/// The ledger does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger of budgets does not answer")]
pub struct Away;

/// A ledger of the nodes within one process.
#[derive(Debug, Default)]
pub struct Memory {
    /// When each bucket is full again; of a sort and of whom.
    full: Mutex<HashMap<(String, String), Instant>>,
}

#[async_trait]
impl Ledger for Memory {
    async fn charge(&self, charge: Charge<'_>) -> Result<Level, Away> {
        let now = Instant::now();
        let mut full = self.full.lock();
        // A full bucket is one that nobody has taken from.
        full.retain(|_, at| *at > now);
        let at = full.entry((charge.budget.to_owned(), charge.key.to_owned()));
        let at = at.or_insert(now);
        let spent = *at + charge.rate.time_of(charge.tokens);
        let short_for = (spent - now).saturating_sub(charge.rate.time_of(charge.rate.burst()));
        if charge.is_spent || short_for.is_zero() {
            *at = spent;
        }
        Ok(Level {
            full_in: *at - now,
            short_for: match charge.is_spent {
                true => Duration::ZERO,
                false => short_for,
            },
        })
    }
}
