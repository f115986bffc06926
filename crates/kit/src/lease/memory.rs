//! The leases of the nodes within one process.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Lease, Leases, Token};
use crate::error::Result;

/// Leases that are forgotten with the process, and with it everybody who could show a token.
#[derive(Debug, Default)]
pub struct Memory {
    /// The newest holder of each name, and until when; nothing when it was released.
    names: Mutex<HashMap<String, (Token, Option<Instant>)>>,
}

#[async_trait]
impl Leases for Memory {
    async fn acquire(&self, name: &str, lasts: Duration) -> Result<Option<Lease>> {
        let mut names = self.names.lock();
        let now = Instant::now();
        let known = names.entry(name.to_owned()).or_insert((Token(0), None));
        if known.1.is_some_and(|until| until > now) {
            return Ok(None);
        }
        let token = Token(known.0.0 + 1);
        *known = (token, now.checked_add(lasts));
        let name = name.to_owned();
        Ok(Some(Lease { name, token }))
    }

    async fn renew(&self, lease: &Lease, lasts: Duration) -> Result<bool> {
        let mut names = self.names.lock();
        let held = names.get_mut(&lease.name);
        let held = held.filter(|(token, _)| *token == lease.token);
        Ok(held
            .map(|(_, until)| *until = Instant::now().checked_add(lasts))
            .is_some())
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        let mut names = self.names.lock();
        let held = names.get_mut(&lease.name);
        if let Some((_, until)) = held.filter(|(token, _)| *token == lease.token) {
            *until = None;
        }
        Ok(())
    }
}
