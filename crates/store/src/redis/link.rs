//! The connection to Redis, for the whole life of the node: made, looked at on a beat, and made again when it does not
//! answer. Sentinels are asked for the master each time.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisError, RedisFuture, Value};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Shared, State, query};

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long the first pause before another try is, and the longest. Each is drawn from half of it to all of it, so
/// that the nodes do not come back together.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How often a connection is looked at that nobody doubts.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is written to see whether the server takes writes: one that became a replica does not.
const MARK: &str = "here";
/// How long the mark stays when nobody looks any more.
const MARK_LASTS_MS: i64 = 60_000;

/// A connection that all who ask share. It knows the way to each node of a cluster.
#[derive(Clone)]
pub enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(one) => one.req_packed_command(cmd),
            Connection::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(one) => one.req_packed_commands(pipeline, offset, count),
            Connection::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::One(one) => one.get_db(),
            Connection::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// Keeps the link until the node stops.
pub async fn run(shared: Arc<Shared>, told: CancellationToken) {
    told.run_until_cancelled(keep(&shared)).await;
    shared.down();
}

async fn keep(shared: &Shared) {
    let mut tries = 0;
    loop {
        match connect(shared).await {
            Ok(connection) => {
                tries = 0;
                shared.up(connection.clone());
                watch(shared, connection).await;
                shared.down();
            }
            // Of failures in a row only the first is logged, and of that no more than its sort: the rest may tell
            // where the server is.
            Err(error) if tries == 0 => {
                let problem = error.category();
                tracing::warn!(problem, "Redis can not be connected to, and is tried again");
            }
            Err(_) => {}
        }
        sleep(pause(tries)).await;
        tries = tries.saturating_add(1);
    }
}

/// A connection that has taken a write.
async fn connect(shared: &Shared) -> Result<Connection, RedisError> {
    let connecting = async {
        let mut connection = shared.options.address.connect(CONNECT_MAX).await?;
        look(shared, &mut connection).await?;
        Ok(connection)
    };
    let connected = timeout(CONNECT_MAX, connecting).await;
    connected.unwrap_or_else(|late| Err(std::io::Error::from(late).into()))
}

/// Ends when the connection is good for nothing any more.
async fn watch(shared: &Shared, mut connection: Connection) {
    loop {
        _ = timeout(LOOK_EVERY, shared.doubt.notified()).await;
        let looked = timeout(shared.options.silence_max, look(shared, &mut connection)).await;
        match looked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return tracing::debug!(%error, "Redis fails"),
            Err(_) => return tracing::debug!("Redis does not answer"),
        }
    }
}

async fn look(shared: &Shared, connection: &mut Connection) -> Result<(), RedisError> {
    let mut mark = redis::cmd("SET");
    let key = shared.options.prefix.key(MARK);
    mark.arg(key).arg(1).arg("PX").arg(MARK_LASTS_MS);
    query(&mark, connection).await
}

/// How long to wait after so many tries in vain.
fn pause(tries: u32) -> Duration {
    let most = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(tries));
    most.min(RETRY_MAX)
        .mul_f64(rand::rng().random_range(0.5..=1.0))
}

impl Shared {
    fn up(&self, connection: Connection) {
        self.state.send_replace(State::Up(connection));
        tracing::info!("connected to Redis: nodes share what callers have spent and who is there");
    }

    fn down(&self) {
        let is_new = self.state.send_if_modified(|state| {
            let is_new = matches!(state, State::Up(_));
            if is_new {
                *state = State::Down(Instant::now());
            }
            is_new
        });
        if is_new {
            tracing::warn!("cut off from Redis: each node counts alone what callers spend");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_most_and_are_not_the_same_for_all() {
        for (tries, most) in [(0, RETRY_FIRST), (1, RETRY_FIRST * 2), (90, RETRY_MAX)] {
            let drawn: Vec<Duration> = (0..100).map(|_| pause(tries)).collect();
            assert!(
                drawn.iter().all(|p| *p >= most / 2 && *p <= most),
                "{drawn:?}"
            );
            assert!(drawn.iter().any(|p| *p != drawn[0]));
        }
    }
}
