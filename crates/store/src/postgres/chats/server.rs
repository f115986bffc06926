//! The server that the history was opened on. Another one may answer in its place at any time.

use sqlx::PgConnection;
use tokio::sync::watch;

use super::history::History;
use crate::postgres::Target;

/// Where it is, and what was found there.
pub struct Server {
    target: Target,
    /// What it holds.
    pub history: History,
    /// Another one has answered.
    taken_over: watch::Sender<bool>,
}

impl Server {
    pub fn new(target: Target, history: History) -> Server {
        Server {
            target,
            history,
            taken_over: watch::Sender::new(false),
        }
    }

    /// A connection to it. To one that goes on from an earlier moment there is none: what is known here may not be
    /// there.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.target.connect().await?;
        if self.history.goes_on(&mut connection).await? {
            return Ok(connection);
        }
        self.taken_over.send_replace(true);
        let words = "a standby took over, and the node begins anew";
        Err(sqlx::Error::Protocol(words.into()))
    }

    /// Whether one has answered that goes on from an earlier moment: trying again does not help any more.
    pub fn is_taken_over(&self) -> bool {
        *self.taken_over.borrow()
    }

    /// Waits until one has answered that goes on from an earlier moment.
    pub async fn taken_over(&self) {
        let mut taken_over = self.taken_over.subscribe();
        // Whoever could say so is ourselves.
        _ = taken_over.wait_for(|it_is| *it_is).await;
    }
}
