//! The connections that read. One that fails is dropped, and what it was asked is asked again on another one:
//! after the database was away, every connection fails once.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::PgConnection;
use tertulia_kit::error::{Failure, Result};
use tertulia_services::errors;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::fetch::Trouble;
use super::server::Server;
use crate::people::was_taken_back;

/// How long a read waits for a connection before it is told that the server is overloaded.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);

pub struct Readers {
    server: Arc<Server>,
    /// How many read at once; more wait.
    free: Semaphore,
    connections_max: usize,
    /// Guards those that nobody uses.
    idle: Mutex<Vec<PgConnection>>,
}

impl Readers {
    pub fn new(server: Arc<Server>, connections_max: usize) -> Readers {
        Readers {
            server,
            free: Semaphore::new(connections_max),
            connections_max,
            idle: Mutex::default(),
        }
    }

    /// Reads, on as many connections as it takes. `read` gives its connection back.
    pub async fn read<T, F>(&self, mut read: impl FnMut(PgConnection) -> F) -> Result<T>
    where
        F: Future<Output = (PgConnection, Result<T, Trouble>)>,
    {
        let _place = self.place().await?;
        // Each of those that are idle may be one that has failed meanwhile.
        let mut tries = self.connections_max + 1;
        loop {
            tries -= 1;
            let connection = self.connection().await.map_err(errors::store_unavailable)?;
            let (connection, answer) = read(connection).await;
            match answer {
                Ok(answer) => {
                    self.idle.lock().push(connection);
                    return Ok(answer);
                }
                Err(Trouble::Engine(error)) if tries > 0 && may_succeed(&error) => {}
                Err(trouble) => return Err(trouble.failure()),
            }
        }
    }

    /// Closes those that nobody uses; what is asked later fails.
    pub fn close(&self) {
        self.free.close();
        self.idle.lock().clear();
    }

    async fn place(&self) -> Result<SemaphorePermit<'_>> {
        let place = tokio::time::timeout(CONNECTION_WAIT, self.free.acquire()).await;
        match place {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(closed)) => Err(errors::store_unavailable(closed)),
            Err(_) => Err(super::overloaded()),
        }
    }

    async fn connection(&self) -> Result<PgConnection, sqlx::Error> {
        let idle = self.idle.lock().pop();
        match idle {
            Some(connection) => Ok(connection),
            None => self.server.connect().await,
        }
    }
}

impl Trouble {
    /// What whoever asked is told.
    pub fn failure(self) -> Failure {
        match self {
            Trouble::Engine(error) => errors::store_unavailable(error),
            Trouble::Row(failure) => failure,
        }
    }
}

fn may_succeed(error: &sqlx::Error) -> bool {
    was_taken_back(error) || is_lost(error)
}

/// The connection is of no more use, or the database is just coming or going.
pub fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        // Of class 57: it shuts down, has crashed, or does not take connections yet. Of class 25: we were too slow.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            matches!(&*code, "57P01" | "57P02" | "57P03" | "25P03") || code.starts_with("08")
        }),
        _ => false,
    }
}
