//! Moves everything of an embedded store into an empty PostgreSQL, once and for all.
//!
//! ```text
//! people.sqlite ─┐  rows by key, in batches   ┌─► the same tables
//! chats (fjall) ─┴────────────────────────────┴─► store_move: how many, in the same transaction
//! ```
//! - The rows of both engines are the same bytes ([`crate::rows`]), so nothing is decided and nothing made anew.
//! - Tables are moved one after the other in the order of their keys. How far that has got is what has arrived, so
//!   a move may end anywhere, in any way, and is gone on with by doing it again.
//! - When everything has arrived, each row is read on both sides and compared. Only then the history is opened to
//!   servers.
//! - It is the same history: epoch, seqs and positions are those of before, and so clients go on with their cursors.
//!
//! What is in the embedded store is not changed. It must not be written meanwhile; whoever calls has the lock of the
//! data folder.

mod compare;
pub(crate) mod table;

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tertulia_kit::error::{Failure, Result as Outcome};
use tertulia_services::errors;

use crate::fjall::export::Export;
use crate::postgres::import::{Import, Origin, Standing, Trouble};
use crate::postgres::{self, Target};
use crate::sqlite::{self, Sqlite};
use table::{From, Row, TABLES, Table};

pub use table::Bounds;

/// Why not everything was moved. Unless it says otherwise, the same may be done again and goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The people can not be read.
    #[error(transparent)]
    People(#[from] sqlite::OpenError),
    /// Neither can they later on.
    #[error("the people can not be read")]
    PeopleRead(#[source] sqlx::Error),
    /// The logs can not be read.
    #[error("the chats can not be read; `tertulia verify` says what is wrong with them")]
    Chats(#[source] Failure),
    /// The database can not be used.
    #[error(transparent)]
    Open(#[from] postgres::OpenError),
    /// It says no.
    #[error("the database {place} does not do what it is asked")]
    Engine {
        /// Which.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
    /// It is not empty, and nothing of it came out of a move.
    #[error(
        "the database {place} is not empty: there is something in its table {table}; take an empty one"
    )]
    NotEmpty {
        /// Which.
        place: String,
        /// The first table that is not.
        table: String,
    },
    /// Another data folder is being moved into it, or was.
    #[error(
        "the database {place} is for another data folder, of which it has a part or all; take an empty one"
    )]
    OfAnother {
        /// Which.
        place: String,
    },
    /// Everything was moved before. There is nothing left to be done.
    #[error("everything is in the database {place} already")]
    Done {
        /// Which.
        place: String,
    },
    /// The server was started again since the move began.
    #[error(
        "the data folder is not as it was when the move into the database {place} began; take an empty one"
    )]
    Changed {
        /// Which.
        place: String,
    },
    /// Two moves of the same at the same time.
    #[error("another process moves the same into the database {place}")]
    Rival {
        /// Which.
        place: String,
    },
    /// What has arrived is not what was sent.
    #[error(
        "what has arrived in the database {place} is not the same at {at}; take an empty one, and tell us"
    )]
    Different {
        /// Which.
        place: String,
        /// The first row that is not.
        at: String,
    },
}

/// What a move does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows are brought over.
    Moving,
    /// They are read on both sides.
    Comparing,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// With which table.
    pub table: &'static str,
    /// How many rows that was done with, of all tables.
    pub rows: u64,
    /// How many rows there are.
    pub rows_all: u64,
}

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many rows each table has, on both sides.
    pub tables: Vec<(&'static str, u64)>,
    /// The digest of all logs, the same that a check of the data folder gives: see
    /// [`fjall::Report`](crate::fjall::Report).
    pub digest: [u8; 16],
}

/// A move that was looked at and not begun.
pub struct Move {
    source: Source,
    import: Import,
    target: Target,
    origin: Origin,
    /// How many rows are there already, when it was begun before.
    arrived: Option<u64>,
    counts: Vec<(&'static str, u64)>,
    bounds: Bounds,
}

/// An embedded store, to be read.
struct Source {
    people: Sqlite,
    logs: Arc<Export>,
}

impl Move {
    /// Opens both sides, and changes nothing on either.
    ///
    /// # Errors
    /// When one can not be opened, or the database has something in it that did not come out of this store as it
    /// is now.
    pub async fn open(
        people: &Path,
        chats: &Path,
        target: &Target,
        bounds: Bounds,
    ) -> Result<Move, MoveError> {
        let source = Source::open(people, chats).await?;
        postgres::check(target).await?;
        let place = target.place();
        let engine = |source| MoveError::Engine {
            place: place.clone(),
            source,
        };
        let mut import = Import::open(target).await.map_err(engine)?;
        let standing = import.standing().await.map_err(engine)?;
        if let Standing::Taken(table) = standing {
            return Err(MoveError::NotEmpty { place, table });
        }
        let origin = source.origin().await?;
        let arrived = match &standing {
            Standing::Begun(of, _) | Standing::Done(of) if of.epoch != origin.epoch => {
                return Err(MoveError::OfAnother { place });
            }
            Standing::Begun(of, _) | Standing::Done(of) if *of != origin => {
                return Err(MoveError::Changed { place });
            }
            Standing::Begun(_, rows) => Some(*rows),
            Standing::Done(_) => return Err(MoveError::Done { place }),
            Standing::Empty | Standing::Taken(_) => None,
        };
        let mut counts = Vec::with_capacity(TABLES.len());
        for table in TABLES {
            counts.push((table.name, source.count(table).await?));
        }
        Ok(Move {
            source,
            import,
            target: target.clone(),
            origin,
            arrived,
            counts,
            bounds,
        })
    }

    /// How many rows each table has in the embedded store.
    pub fn counts(&self) -> &[(&'static str, u64)] {
        &self.counts
    }

    /// How many rows it has in all.
    pub fn rows_all(&self) -> u64 {
        self.counts.iter().map(|(_, rows)| rows).sum()
    }

    /// How many rows are in the database already; none when nothing was begun.
    pub fn arrived(&self) -> Option<u64> {
        self.arrived
    }

    /// Moves what is missing, compares everything, and opens the database to servers. Dropped at any moment, it is
    /// as if the process had been killed.
    ///
    /// # Errors
    /// As [`MoveError`] says.
    pub async fn run(mut self, mut progress: impl FnMut(Progress)) -> Result<Report, MoveError> {
        if self.arrived.is_none() {
            postgres::prepare(&self.target).await?;
            let begun = self.import.begin(&self.origin).await;
            if !begun.map_err(|e| self.engine(e))? {
                return Err(self.rival());
            }
        }
        let mut arrived = self.arrived.unwrap_or(0);
        for table in TABLES {
            self.bring(table, &mut arrived, &mut progress).await?;
        }
        let report = self.compare(&mut progress).await?;
        let finished = self.import.finish(&self.origin).await;
        finished.map_err(|e| self.engine(e))?;
        self.source.people.close().await;
        Ok(report)
    }

    /// Brings the rows of a table that are behind the last one that has arrived.
    async fn bring(
        &mut self,
        table: &'static Table,
        arrived: &mut u64,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), MoveError> {
        let rows_all = self.rows_all();
        let last = self.import.last(table).await;
        let last = last.map_err(|e| self.engine(e))?;
        let mut batch = self.source.batch(table, last, self.bounds).await?;
        while let Some(last) = batch.last() {
            // The next batch is read while this one is written.
            let (put, next) = tokio::join!(
                self.import.put(table, &batch, *arrived),
                self.source.batch(table, Some(last.clone()), self.bounds),
            );
            put.map_err(|trouble| match trouble {
                Trouble::Rival => self.rival(),
                Trouble::Engine(error) => self.engine(error),
            })?;
            *arrived += batch.len() as u64;
            batch = next?;
            progress(Progress {
                phase: Phase::Moving,
                table: table.name,
                rows: *arrived,
                rows_all,
            });
        }
        Ok(())
    }

    fn engine(&self, source: sqlx::Error) -> MoveError {
        MoveError::Engine {
            place: self.target.place(),
            source,
        }
    }

    fn rival(&self) -> MoveError {
        MoveError::Rival {
            place: self.target.place(),
        }
    }
}

impl Source {
    async fn open(people: &Path, chats: &Path) -> Result<Source, MoveError> {
        let people = Sqlite::open_as_it_is(people).await?;
        let folder = chats.to_path_buf();
        let logs = blocking(move || Export::open(&folder)).await?;
        Ok(Source {
            people,
            logs: Arc::new(logs),
        })
    }

    /// What it is that is moved.
    async fn origin(&self) -> Result<Origin, MoveError> {
        let mut sha = Sha256::new();
        let bounds = Bounds::default();
        for table in TABLES.iter().filter(|table| table.from == From::People) {
            let mut last = None;
            loop {
                let rows = self.batch(table, last.take(), bounds).await?;
                rows.iter().flatten().for_each(|cell| cell.digest(&mut sha));
                match rows.into_iter().next_back() {
                    Some(row) => last = Some(row),
                    None => break,
                }
            }
        }
        Ok(Origin {
            epoch: self.logs.epoch.0,
            position: self.logs.position,
            people: sha.finalize().to_vec(),
        })
    }

    async fn count(&self, table: &'static Table) -> Result<u64, MoveError> {
        match table.from {
            From::People => {
                let count = table.count(&self.people.readers).await;
                count.map_err(MoveError::PeopleRead)
            }
            From::Log(log) => {
                let logs = Arc::clone(&self.logs);
                blocking(move || logs.count(log)).await
            }
        }
    }

    /// Rows behind another one, or from the first on; none when there are no more.
    async fn batch(
        &self,
        table: &'static Table,
        after: Option<Row>,
        bounds: Bounds,
    ) -> Result<Vec<Row>, MoveError> {
        match table.from {
            From::People => {
                let read = async {
                    let mut connection = self.people.readers.acquire().await?;
                    table
                        .read::<sqlx::Sqlite>(&mut connection, after.as_ref(), bounds.rows_max)
                        .await
                };
                read.await.map_err(MoveError::PeopleRead)
            }
            From::Log(log) => {
                let logs = Arc::clone(&self.logs);
                blocking(move || logs.batch(log, after.as_ref(), bounds)).await
            }
        }
    }
}

/// Reads of the logs where a thread may block.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Result<T, MoveError> {
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.map_err(errors::internal).and_then(|read| read);
    read.map_err(MoveError::Chats)
}
