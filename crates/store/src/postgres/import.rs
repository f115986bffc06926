//! The side of a move on which everything arrives. What has arrived is counted in `store_move`, in the
//! transactions that bring it, and the history stays closed to servers until all of it is here.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Postgres, Row as _};
use tertulia_services::chats::Position;
use tertulia_services::feed::Place;

use super::Target;
use super::chats::history::{ON_ITS_WAY, PLACE};
use crate::moving::table::{Cell, Kind, Row, TABLES, Table};

/// How far above the last commit of the embedded store the positions begin that are given here. Whoever goes back
/// to that store never gets there, and so knows a cursor of here as one that it never gave.
const LEAP: u64 = 1 << 40;
/// The writer that stands for the embedded store.
const EMBEDDED: i64 = 0;

/// What is moved: one state of one embedded store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub epoch: u64,
    /// Of its last commit.
    pub position: u64,
    /// SHA-256 of its people.
    pub people: Vec<u8>,
}

/// How a database stands to a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is in it.
    Empty,
    /// So many rows of this state have arrived.
    Begun(Origin, u64),
    /// All of it has, and was compared.
    Done(Origin),
    /// This table of something else has rows.
    Taken(String),
}

/// Somebody else has brought rows meanwhile, or the database says no.
pub enum Trouble {
    Rival,
    Engine(sqlx::Error),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Trouble {
        Trouble::Engine(error)
    }
}

/// A connection by which rows arrive.
pub struct Import {
    connection: PgConnection,
}

impl Import {
    /// Connects, and changes nothing.
    pub async fn open(target: &Target) -> Result<Import, sqlx::Error> {
        let mut connection = target.connect().await?;
        // A batch on a slow disk takes longer than a call may, and so does comparing.
        connection
            .execute("SET statement_timeout = '300s'; SET lock_timeout = '60s'")
            .await?;
        Ok(Import { connection })
    }

    /// How the database stands. Waits for the last batch of a move that has just ended.
    pub async fn standing(&mut self) -> Result<Standing, sqlx::Error> {
        let known = "SELECT to_regclass('store_move') IS NOT NULL";
        let known = sqlx::query_scalar(known)
            .fetch_one(&mut self.connection)
            .await?;
        if known {
            let begun = sqlx::query(
                "SELECT epoch, position, people, row_count, is_done FROM store_move FOR UPDATE",
            );
            if let Some(row) = begun.fetch_optional(&mut self.connection).await? {
                let origin = Origin {
                    epoch: row.try_get::<i64, _>(0)?.cast_unsigned(),
                    position: row.try_get::<i64, _>(1)?.cast_unsigned(),
                    people: row.try_get(2)?,
                };
                let arrived = row.try_get::<i64, _>(3)?.cast_unsigned();
                return Ok(match row.try_get(4)? {
                    true => Standing::Done(origin),
                    false => Standing::Begun(origin, arrived),
                });
            }
        }
        Ok(match taken(&mut self.connection).await? {
            Some(table) => Standing::Taken(table),
            None => Standing::Empty,
        })
    }

    /// Says whose rows will arrive. False when something is in the database already.
    pub async fn begin(&mut self, origin: &Origin) -> Result<bool, sqlx::Error> {
        let mut tx = self.connection.begin().await?;
        // A server that starts now waits for this row, and then finds its history closed.
        let history = sqlx::query(
            "INSERT INTO chat_history (only_row, epoch, place, base) VALUES (TRUE, $1, $2, 0)
             ON CONFLICT DO NOTHING",
        );
        let history = history.bind(origin.epoch.cast_signed()).bind(ON_ITS_WAY);
        let is_ours = history.execute(&mut *tx).await?.rows_affected() == 1;
        let taken = taken(&mut tx).await?;
        if !is_ours || taken.is_some_and(|table| table != "chat_history") {
            return Ok(false);
        }
        let begin = sqlx::query(
            "INSERT INTO store_move (only_row, epoch, position, people, row_count, is_done)
             VALUES (TRUE, $1, $2, $3, 0, FALSE)",
        );
        begin
            .bind(origin.epoch.cast_signed())
            .bind(origin.position.cast_signed())
            .bind(&origin.people)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The last row of a table that has arrived.
    pub async fn last(&mut self, table: &Table) -> Result<Option<Row>, sqlx::Error> {
        let last = sqlx::query(table.last());
        let last = last.fetch_optional(&mut self.connection).await?;
        last.map(|line| table.row(&line)).transpose()
    }

    /// Adds rows to a table, and counts them to those that had arrived before.
    pub async fn put(&mut self, table: &Table, rows: &[Row], before: u64) -> Result<(), Trouble> {
        let mut tx = self.connection.begin().await?;
        // First, so that whoever goes on after us waits for the end of this.
        let count = sqlx::query(
            "UPDATE store_move SET row_count = row_count + $1 WHERE row_count = $2 AND NOT is_done",
        );
        let count = count
            .bind(rows.len() as i64)
            .bind(before.cast_signed())
            .execute(&mut *tx)
            .await?;
        if count.rows_affected() != 1 {
            return Err(Trouble::Rival);
        }
        let mut insert = sqlx::query(table.insert());
        for (at, (_, kind)) in table.columns.iter().enumerate() {
            insert = bind(insert, *kind, rows.iter().map(|row| &row[at]));
        }
        insert.execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Rows of a table behind another one, or from the first on.
    pub async fn page(
        &mut self,
        table: &Table,
        after: Option<&Row>,
        rows_max: usize,
    ) -> Result<Vec<Row>, sqlx::Error> {
        table
            .read::<Postgres>(&mut self.connection, after, rows_max)
            .await
    }

    /// Opens the history to servers. It is the one that it was, so cursors go on.
    pub async fn finish(&mut self, origin: &Origin) -> Result<(), sqlx::Error> {
        // So that the database plans for what it holds.
        for table in TABLES {
            let analyze = AssertSqlSafe(format!("ANALYZE {}", table.name));
            sqlx::raw_sql(analyze).execute(&mut self.connection).await?;
        }
        let mut tx = self.connection.begin().await?;
        sqlx::query(
            "INSERT INTO chat_writers (writer, position, round, is_fed) VALUES ($1, $2, 0, TRUE)",
        )
        .bind(EMBEDDED)
        .bind(origin.position.cast_signed())
        .execute(&mut *tx)
        .await?;
        // What was in the feed of the embedded store is not brought. Who had taken all of it goes on, and everybody else
        // is told of the gap.
        let last = "SELECT position, COUNT(*) FROM chat_events GROUP BY position ORDER BY position DESC LIMIT 1";
        if let Some(last) = sqlx::query(last).fetch_optional(&mut *tx).await? {
            let position = Position(last.try_get::<i64, _>(0)?.cast_unsigned());
            let count = usize::try_from(last.try_get::<i64, _>(1)?).unwrap_or(1);
            let from = Place::of(position, count.saturating_sub(1));
            sqlx::query("INSERT INTO feed_kept (only_row, from_place) VALUES (TRUE, $1)")
                .bind(from.0.cast_signed())
                .execute(&mut *tx)
                .await?;
        }
        let open = format!("UPDATE chat_history SET place = {PLACE}, base = $1");
        sqlx::query(AssertSqlSafe(open))
            .bind((origin.position + LEAP).cast_signed())
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE store_move SET is_done = TRUE")
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }
}

/// A table with rows, of ours or of anybody; what says of which version the tables are does not count.
async fn taken(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class
         WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace
         AND relname NOT IN ('schema_turn', 'schema_migrations') ORDER BY relname",
    )
    .fetch_all(&mut *connection)
    .await?;
    for table in tables {
        let quoted = table.replace('"', "\"\"");
        let any = AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM \"{quoted}\")"));
        if sqlx::query_scalar(any).fetch_one(&mut *connection).await? {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// Adds a column as an array.
fn bind<'q, 'r>(
    insert: Query<'q, Postgres, PgArguments>,
    kind: Kind,
    cells: impl Iterator<Item = &'r Cell>,
) -> Query<'q, Postgres, PgArguments> {
    match kind {
        Kind::Int => insert.bind(values(cells, |cell| match cell {
            Cell::Int(number) => Some(*number),
            _ => None,
        })),
        Kind::Text => insert.bind(values(cells, |cell| match cell {
            Cell::Text(text) => Some(text.clone()),
            _ => None,
        })),
        Kind::Bytes => insert.bind(values(cells, |cell| match cell {
            Cell::Bytes(bytes) => Some(bytes.clone()),
            _ => None,
        })),
        Kind::Flag => insert.bind(values(cells, |cell| match cell {
            Cell::Flag(flag) => Some(*flag),
            _ => None,
        })),
    }
}

fn values<'r, T>(
    cells: impl Iterator<Item = &'r Cell>,
    value: impl Fn(&Cell) -> Option<T>,
) -> Vec<Option<T>> {
    cells.map(value).collect()
}
