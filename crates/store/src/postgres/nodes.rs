//! Which node a process is, by a lease in the database, and what all nodes agree on.
//!
//! A lease is for [`LEASE`] by the database's clock and renewed long before. Its holder counts by its own monotonic
//! clock, from before it asked, and makes no ids when that time is over: a process that stood still for a minute is
//! no node when it goes on, and takes another lease. What was left longest ago is taken first, so that the ids of two
//! holders of one node are far apart in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use sqlx::{Connection as _, PgConnection, Row as _};
use tertulia_kit::id::{Node, NodeIds};
use tokio_util::sync::CancellationToken;

use super::{OpenError, Target};

/// How long a lease holds.
const LEASE: Duration = Duration::from_secs(30);
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How much earlier than the database its holder thinks that it is over.
const CAUTION: Duration = Duration::from_secs(5);
/// How long one question to the database may take.
const ASK_MAX: Duration = Duration::from_secs(5);
/// How often a lease that another node took first is tried again with the next one.
const TRIES_MAX: usize = 20;

/// A lease that is kept.
pub struct NodeLease {
    target: Target,
    /// None after it was given back. Guards a few numbers.
    held: Mutex<Option<Held>>,
}

#[derive(Clone, Copy)]
struct Held {
    number: u8,
    token: i64,
    /// When it is over, for all that we know.
    until: Instant,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
enum NoLease {
    #[error("all node ids are held by other nodes")]
    AllHeld,
    #[error("the database does not answer")]
    Slow,
    #[error(transparent)]
    Engine(#[from] sqlx::Error),
}

impl NodeLease {
    /// Takes a lease in a database that was [prepared](super::prepare).
    ///
    /// # Errors
    /// When the database does not answer, or all nodes are held.
    pub async fn take(target: &Target) -> Result<Arc<NodeLease>, OpenError> {
        let lease = NodeLease {
            target: target.clone(),
            held: Mutex::new(None),
        };
        match lease.renew(&mut None).await {
            Ok(()) => Ok(Arc::new(lease)),
            Err(NoLease::AllHeld) => Err(OpenError::NoNode),
            Err(NoLease::Slow) => Err(target.failed(sqlx::Error::PoolTimedOut)),
            Err(NoLease::Engine(error)) => Err(target.failed(error)),
        }
    }

    /// Renews it until it is told to stop, and takes another one when it was lost.
    pub async fn keep(&self, stopping: CancellationToken) {
        let (mut connection, mut fails) = (None, false);
        while stopping
            .run_until_cancelled(tokio::time::sleep(RENEW_EVERY))
            .await
            .is_some()
        {
            let kept = self.renew(&mut connection).await;
            if let Err(error) = &kept
                && !fails
            {
                tracing::warn!(%error, "the lease of the node's id is not renewed");
            }
            fails = kept.is_err();
        }
    }

    /// Lets others have it at once.
    pub async fn give_back(&self) {
        let Some(held) = self.held.lock().take() else {
            return;
        };
        let given = within(async {
            let mut connection = self.target.connect().await?;
            sqlx::query(
                "UPDATE nodes SET held_until = clock_timestamp() WHERE node = $1 AND token = $2",
            )
            .bind(i16::from(held.number))
            .bind(held.token)
            .execute(&mut connection)
            .await?;
            Ok(connection.close().await?)
        });
        if let Err(error) = given.await {
            tracing::debug!(%error, "the node's id is free when its lease is over");
        }
    }

    /// Holds it for longer, or takes another one. A connection that is of use afterwards is kept.
    async fn renew(&self, kept: &mut Option<PgConnection>) -> Result<(), NoLease> {
        let held = *self.held.lock();
        let renewed = within(async {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.target.connect().await?,
            };
            let renewed = match held {
                Some(held) => renewed(&mut connection, held).await?,
                None => None,
            };
            let renewed = match renewed {
                Some(held) => held,
                None => taken(&mut connection).await?,
            };
            *kept = Some(connection);
            Ok(renewed)
        });
        let renewed = renewed.await?;
        *self.held.lock() = Some(renewed);
        if let Some(held) = held.filter(|held| held.token != renewed.token) {
            tracing::warn!(
                was = held.number,
                is = renewed.number,
                "the node's id was lost and another one taken"
            );
        }
        Ok(())
    }
}

#[async_trait]
impl NodeIds for NodeLease {
    fn held(&self) -> Option<Node> {
        let held = *self.held.lock();
        held.filter(|held| Instant::now() < held.until)
            .and_then(|held| Node::new(0, held.number))
    }

    async fn all(&self) -> Option<Vec<Node>> {
        let held = within(async {
            let mut connection = self.target.connect().await?;
            let held: Vec<i16> =
                sqlx::query_scalar("SELECT node FROM nodes WHERE held_until > clock_timestamp()")
                    .fetch_all(&mut connection)
                    .await?;
            connection.close().await?;
            Ok(held)
        });
        let held = held.await.inspect_err(
            |error| tracing::debug!(%error, "it can not be told which nodes there are"),
        );
        let numbers = held.ok()?.into_iter();
        let nodes = numbers.filter_map(|number| Node::new(0, u8::try_from(number).ok()?));
        Some(nodes.collect())
    }
}

async fn within<T>(asking: impl Future<Output = Result<T, NoLease>>) -> Result<T, NoLease> {
    let asked = tokio::time::timeout(ASK_MAX, asking).await;
    asked.unwrap_or(Err(NoLease::Slow))
}

/// None when somebody else has it.
async fn renewed(connection: &mut PgConnection, held: Held) -> Result<Option<Held>, sqlx::Error> {
    let until = Instant::now() + LEASE - CAUTION;
    let renewed = sqlx::query(
        "UPDATE nodes SET held_until = clock_timestamp() + make_interval(secs => $3)
         WHERE node = $1 AND token = $2",
    )
    .bind(i16::from(held.number))
    .bind(held.token)
    .bind(LEASE.as_secs_f64())
    .execute(connection)
    .await?;
    Ok((renewed.rows_affected() == 1).then_some(Held { until, ..held }))
}

/// Takes the node that nobody has had for the longest time.
async fn taken(connection: &mut PgConnection) -> Result<Held, NoLease> {
    for _ in 0..TRIES_MAX {
        let until = Instant::now() + LEASE - CAUTION;
        let free: Option<i16> = sqlx::query_scalar(
            "SELECT number::smallint
             FROM generate_series(0, $1::int) AS number LEFT JOIN nodes ON node = number
             WHERE held_until IS NULL OR held_until < clock_timestamp()
             ORDER BY held_until NULLS FIRST, number LIMIT 1",
        )
        .bind(i32::from(u8::MAX))
        .fetch_optional(&mut *connection)
        .await?;
        let free = free.ok_or(NoLease::AllHeld)?;
        let taken = sqlx::query(
            "INSERT INTO nodes AS held (node, token, held_until)
             VALUES ($1, 1, clock_timestamp() + make_interval(secs => $2))
             ON CONFLICT (node) DO UPDATE
             SET token = held.token + 1, held_until = EXCLUDED.held_until
             WHERE held.held_until < clock_timestamp()
             RETURNING token",
        )
        .bind(free)
        .bind(LEASE.as_secs_f64())
        .fetch_optional(&mut *connection)
        .await?;
        // None when another node took it in between.
        if let (Some(row), Ok(number)) = (taken, u8::try_from(free)) {
            let token = row.try_get(0)?;
            return Ok(Held {
                number,
                token,
                until,
            });
        }
    }
    Err(NoLease::AllHeld)
}

/// What the nodes of the deployment agree on about something: `word`, when nobody has said another one before.
///
/// # Errors
/// When the database does not answer.
pub async fn agree(target: &Target, about: &str, word: &str) -> Result<String, OpenError> {
    let failed = |source| target.failed(source);
    let mut connection = target.connect().await.map_err(failed)?;
    sqlx::query("INSERT INTO agreements (about, word) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(about)
        .bind(word)
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    let agreed = sqlx::query_scalar("SELECT word FROM agreements WHERE about = $1")
        .bind(about)
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    Ok(agreed)
}
