//! Leases in PostgreSQL, by its clock: a row for each name, with the number of its newest holder.
//!
//! What only the holder may write is written in a transaction that [begins](Leases::begin_as) by locking that row as it
//! was when the holder got it. So it ends before anybody else gets the lease, or is refused.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgPool;
use sqlx::{Postgres, Transaction};
use tertulia_kit::error::Result;
use tertulia_kit::lease::{self, Lease, Token};

use super::Target;
use crate::people::failure;

/// How many ask about leases at once on a node; more wait.
const CONNECTIONS: u32 = 2;

/// A name is free when its time is over, and when its holder seems to have got it in the future: then the clock was set
/// back since. The clock is read when the row is locked, not when the statement begins.
const ACQUIRE: &str = "
    INSERT INTO leases (name, token, since_ms, until_ms)
    VALUES (
        $1,
        1,
        (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT,
        (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT + $2
    )
    ON CONFLICT (name) DO UPDATE SET
        token = leases.token + 1,
        since_ms = (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT,
        until_ms = (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT + $2
    WHERE leases.until_ms <= (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT
       OR leases.since_ms > (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT + 1000
    RETURNING token";
const RENEW: &str = "
    UPDATE leases SET
        since_ms = (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT,
        until_ms = (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT + $3
    WHERE name = $1 AND token = $2";
const RELEASE: &str = "UPDATE leases SET until_ms = 0 WHERE name = $1 AND token = $2";
/// Nobody changes the row until the transaction has ended.
const FENCE: &str = "SELECT 1 FROM leases WHERE name = $1 AND token = $2 FOR SHARE";

/// The leases of all nodes that have the database. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Leases {
    pool: PgPool,
}

impl Leases {
    /// Those in a database that was [prepared](super::prepare). It is connected to when somebody asks.
    pub fn of(target: &Target) -> Leases {
        Leases {
            pool: target.pool(CONNECTIONS),
        }
    }

    /// Begins a transaction as the holder of a lease; nothing when somebody else has got it since. What is committed in
    /// it was written by the newest holder. It should be short: the lease is not renewed meanwhile, and nobody else gets
    /// it, for as long as the server lets a transaction be idle.
    ///
    /// # Errors
    /// The failure of the database.
    pub async fn begin_as(&self, lease: &Lease) -> Result<Option<Transaction<'static, Postgres>>> {
        let mut transaction = self.pool.begin().await.map_err(failure)?;
        let fenced = sqlx::query(FENCE)
            .bind(&lease.name)
            .bind(lease.token.0)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failure)?;
        Ok(fenced.map(|_| transaction))
    }

    /// Closes the connections; later calls fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[async_trait]
impl lease::Leases for Leases {
    async fn acquire(&self, name: &str, lasts: Duration) -> Result<Option<Lease>> {
        let token: Option<i64> = sqlx::query_scalar(ACQUIRE)
            .bind(name)
            .bind(millis(lasts))
            .fetch_optional(&self.pool)
            .await
            .map_err(failure)?;
        Ok(token.map(|token| Lease {
            name: name.to_owned(),
            token: Token(token),
        }))
    }

    async fn renew(&self, lease: &Lease, lasts: Duration) -> Result<bool> {
        let renewed = sqlx::query(RENEW)
            .bind(&lease.name)
            .bind(lease.token.0)
            .bind(millis(lasts))
            .execute(&self.pool)
            .await
            .map_err(failure)?;
        Ok(renewed.rows_affected() > 0)
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        let released = sqlx::query(RELEASE)
            .bind(&lease.name)
            .bind(lease.token.0)
            .execute(&self.pool)
            .await;
        released.map(drop).map_err(failure)
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
