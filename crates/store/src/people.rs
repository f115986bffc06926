//! People in tables: accounts, logins and profiles, by one text for each query in every engine of SQL.
//!
//! What an engine has of its own is how it is opened and how a transaction that writes begins; that is in its own
//! module. Nothing here asks which one it is.

mod accounts;
mod profiles;

use std::time::Duration;

use sqlx::{
    ColumnIndex, Database, Decode, Encode, Executor, IntoArguments, Pool, Row, SqlSafeStr, SqlStr,
    Type,
};
use tertulia_kit::error::{Failure, Result};
use tertulia_services::errors;

/// When to come back after waiting in vain for a connection.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often a write is tried that the engine has taken back, because another one was in its way.
const TRIES_MAX: usize = 5;
/// How the engines say so: a conflict of two transactions, and a deadlock.
const TAKEN_BACK: [&str; 2] = ["40001", "40P01"];

/// The tables. Clones share them.
#[derive(Debug)]
pub struct People<DB: Database> {
    pub(crate) writer: Pool<DB>,
    pub(crate) readers: Pool<DB>,
    /// The statement that begins a transaction in which what is read is still so when it is written.
    pub(crate) begin: &'static str,
    /// The statement that tells the engine's time, in milliseconds since 1970.
    pub(crate) now: &'static str,
}

impl<DB: Database> Clone for People<DB> {
    fn clone(&self) -> Self {
        People {
            writer: self.writer.clone(),
            readers: self.readers.clone(),
            begin: self.begin,
            now: self.now,
        }
    }
}

impl<DB: Engine> People<DB> {
    /// Whether the database answers.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn check(&self) -> Result<(), String> {
        let answer = self.read(query("SELECT 1")).await;
        answer.map(drop).map_err(|e| e.to_string())
    }

    /// Waits for the calls that run and closes the tables; later calls fail.
    pub async fn close(&self) {
        // The writer last: it may have something to finish in files that the readers hold.
        self.readers.close().await;
        self.writer.close().await;
    }

    pub(crate) async fn read(&self, query: Query<'_>) -> Result<Vec<DB::Row>, sqlx::Error> {
        let mut connection = self.readers.acquire().await?;
        DB::run(&mut connection, query).await
    }

    /// One statement that is committed by itself.
    pub(crate) async fn write(&self, query: Query<'_>) -> Result<Vec<DB::Row>, sqlx::Error> {
        let mut connection = self.writer.acquire().await?;
        DB::run(&mut connection, query).await
    }

    /// A transaction that may write. Dropped without a commit, it changes nothing.
    pub(crate) async fn begin(&self) -> Result<sqlx::Transaction<'static, DB>, sqlx::Error> {
        self.writer.begin_with(self.begin).await
    }
}

/// Tries a write again that the engine has taken back whole.
pub(crate) async fn again<T, F>(mut write: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let mut tries = 1;
    loop {
        match write().await {
            Err(error) if tries < TRIES_MAX && was_taken_back(&error) => tries += 1,
            done => return done.map_err(failure),
        }
    }
}

/// Nothing of it was committed, and the same may succeed now.
pub(crate) fn was_taken_back(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| TAKEN_BACK.contains(&&*code))
}

pub(crate) fn failure(e: sqlx::Error) -> Failure {
    match e {
        sqlx::Error::PoolTimedOut => errors::overloaded(RETRY_AFTER).with_cause(e),
        e => errors::store_unavailable(e),
    }
}

/// A statement with its values.
pub struct Query<'a> {
    text: SqlStr,
    values: Vec<Value<'a>>,
}

/// What a statement is given.
pub enum Value<'a> {
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// None leaves what is there.
    MaybeText(Option<&'a str>),
    /// None leaves what is there.
    MaybeFlag(Option<bool>),
}

pub(crate) fn query<'a>(text: impl SqlSafeStr) -> Query<'a> {
    Query {
        text: text.into_sql_str(),
        values: Vec::new(),
    }
}

impl<'a> Query<'a> {
    pub(crate) fn with(mut self, value: impl Into<Value<'a>>) -> Self {
        self.values.push(value.into());
        self
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Value::Bytes(value)
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Value::MaybeText(value)
    }
}

impl From<Option<bool>> for Value<'_> {
    fn from(value: Option<bool>) -> Self {
        Value::MaybeFlag(value)
    }
}

/// What comes back: values by their place.
pub trait Line {
    fn int(&self, at: usize) -> Result<i64, sqlx::Error>;
    fn maybe_int(&self, at: usize) -> Result<Option<i64>, sqlx::Error>;
    fn flag(&self, at: usize) -> Result<bool, sqlx::Error>;
    fn text(&self, at: usize) -> Result<String, sqlx::Error>;
    fn bytes(&self, at: usize) -> Result<Vec<u8>, sqlx::Error>;
    fn maybe_bytes(&self, at: usize) -> Result<Option<Vec<u8>>, sqlx::Error>;
}

impl<DB: Database, R: Row<Database = DB>> Line for R
where
    usize: ColumnIndex<R>,
    for<'r> i64: Decode<'r, DB> + Type<DB>,
    for<'r> bool: Decode<'r, DB> + Type<DB>,
    for<'r> String: Decode<'r, DB> + Type<DB>,
    for<'r> Vec<u8>: Decode<'r, DB> + Type<DB>,
{
    fn int(&self, at: usize) -> Result<i64, sqlx::Error> {
        self.try_get(at)
    }

    fn maybe_int(&self, at: usize) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(at)
    }

    fn flag(&self, at: usize) -> Result<bool, sqlx::Error> {
        self.try_get(at)
    }

    fn text(&self, at: usize) -> Result<String, sqlx::Error> {
        self.try_get(at)
    }

    fn bytes(&self, at: usize) -> Result<Vec<u8>, sqlx::Error> {
        self.try_get(at)
    }

    fn maybe_bytes(&self, at: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
        self.try_get(at)
    }
}

/// An engine of SQL.
pub trait Engine: Database<Row: Line> {
    /// Runs a statement to its end and gives the rows that it has read or, where it says `RETURNING`, written.
    fn run<'a>(
        connection: &'a mut Self::Connection,
        query: Query<'a>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;
}

impl<DB: Database<Row: Line>> Engine for DB
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    DB::Arguments: IntoArguments<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> &'q [u8]: Encode<'q, DB> + Type<DB>,
    for<'q> Option<&'q str>: Encode<'q, DB> + Type<DB>,
    for<'q> Option<bool>: Encode<'q, DB> + Type<DB>,
{
    async fn run<'a>(
        connection: &'a mut DB::Connection,
        query: Query<'a>,
    ) -> Result<Vec<DB::Row>, sqlx::Error> {
        let mut bound = sqlx::query(query.text);
        for value in query.values {
            bound = match value {
                Value::Int(value) => bound.bind(value),
                Value::Text(value) => bound.bind(value),
                Value::Bytes(value) => bound.bind(value),
                Value::MaybeText(value) => bound.bind(value),
                Value::MaybeFlag(value) => bound.bind(value),
            };
        }
        bound.fetch_all(connection).await
    }
}
