//! What is moved: the tables, and their rows in a form that every engine can give and take.

use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::fjall::export::Log;
use crate::people::{Engine, Line, Value, query};

/// A table, as it is in PostgreSQL.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, Kind)],
    /// How many columns, from the first, make the key. Rows are moved in the order of it.
    pub key: usize,
    pub from: From,
}

/// Where the embedded store keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// In SQLite, in a table with the same name and columns.
    People,
    /// In fjall.
    Log(Log),
}

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Int,
    Text,
    Bytes,
    Flag,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    Flag(bool),
}

/// The values of a row in the order of the columns.
pub type Row = Vec<Cell>;

use Kind::{Bytes, Flag, Int, Text};

/// Everything, in the order in which it is moved: what others refer to comes first.
pub const TABLES: &[Table] = &[
    Table {
        name: "users",
        columns: &[
            ("user_id", Int),
            ("name", Text),
            ("display_name", Text),
            ("about", Text),
            ("created_at_ms", Int),
            ("changed_at_ms", Int),
            ("shares_seen", Flag),
            ("shares_presence", Flag),
        ],
        key: 1,
        from: From::People,
    },
    Table {
        name: "passwords",
        columns: &[("user_id", Int), ("phc", Text), ("pepper_id", Text)],
        key: 1,
        from: From::People,
    },
    Table {
        name: "logins",
        columns: &[
            ("login_id", Int),
            ("user_id", Int),
            ("device_id", Text),
            ("device_name", Text),
            ("created_at_ms", Int),
            ("refreshed_at_ms", Int),
            ("expires_at_ms", Int),
            ("ended_at_ms", Int),
            ("family_seed", Bytes),
            ("pepper_id", Text),
            ("refresh_hash", Bytes),
            ("spent_hash", Bytes),
        ],
        key: 1,
        from: From::People,
    },
    Table {
        name: "search_words",
        columns: &[("word", Text), ("user_id", Int)],
        key: 2,
        from: From::People,
    },
    Table {
        name: "jobs",
        columns: &[
            ("job_id", Int),
            ("kind", Text),
            ("about", Text),
            ("attempt", Int),
            ("begun_before", Int),
            ("due_ms", Int),
            ("dead_at_ms", Int),
            ("why", Text),
        ],
        key: 1,
        from: From::People,
    },
    Table {
        name: "job_schedules",
        columns: &[("schedule", Text), ("newest_ms", Int)],
        key: 1,
        from: From::People,
    },
    Table {
        name: "feed_consumers",
        columns: &[
            ("name", Text),
            ("consumer_id", Int),
            ("epoch", Int),
            ("place", Int),
            ("made_at_ms", Int),
            ("moved_at_ms", Int),
        ],
        key: 1,
        from: From::People,
    },
    Table {
        name: "chats",
        columns: &[
            ("chat_id", Int),
            ("moved_at", Int),
            ("marked_at", Int),
            ("head", Int),
            ("last_message", Int),
            ("content", Bytes),
        ],
        key: 1,
        from: From::Log(Log::Chats),
    },
    Table {
        name: "chat_events",
        columns: &[
            ("chat_id", Int),
            ("seq", Int),
            ("position", Int),
            ("content", Bytes),
        ],
        key: 2,
        from: From::Log(Log::Events),
    },
    Table {
        name: "chat_members",
        columns: &[("chat_id", Int), ("user_id", Int), ("content", Bytes)],
        key: 2,
        from: From::Log(Log::Members),
    },
    Table {
        name: "chats_of_users",
        columns: &[("user_id", Int), ("chat_id", Int), ("is_direct", Flag)],
        key: 2,
        from: From::Log(Log::ChatsOfUsers),
    },
    Table {
        name: "user_events",
        columns: &[("user_id", Int), ("seq", Int), ("content", Bytes)],
        key: 2,
        from: From::Log(Log::UserEvents),
    },
    Table {
        name: "user_heads",
        columns: &[("user_id", Int), ("head", Int)],
        key: 1,
        from: From::Log(Log::UserHeads),
    },
    Table {
        name: "chat_send_keys",
        columns: &[("week", Int), ("hash", Bytes), ("content", Bytes)],
        key: 2,
        from: From::Log(Log::SendKeys),
    },
    Table {
        name: "chat_index",
        columns: &[("key", Bytes), ("content", Bytes)],
        key: 1,
        from: From::Log(Log::Index),
    },
];

impl Table {
    /// Adds rows, an array of values for each column.
    pub fn insert(&self) -> SqlStr {
        let arrays = self.columns.iter().enumerate().map(|(at, (_, kind))| {
            let element = match kind {
                Int => "bigint",
                Text => "text",
                Bytes => "bytea",
                Flag => "boolean",
            };
            format!("${}::{element}[]", at + 1)
        });
        let arrays: Vec<String> = arrays.collect();
        made(format!(
            "INSERT INTO {} ({}) SELECT * FROM UNNEST({})",
            self.name,
            self.names(self.columns.len()),
            arrays.join(", ")
        ))
    }

    /// The last row by key.
    pub fn last(&self) -> SqlStr {
        let (all, key) = (self.names(self.columns.len()), self.names(self.key));
        let order = key.replace(", ", " DESC, ");
        let name = self.name;
        made(format!(
            "SELECT {all} FROM {name} ORDER BY {order} DESC LIMIT 1"
        ))
    }

    /// The rows behind the key of one, or from the first on, by key.
    fn page(&self, is_behind: bool) -> SqlStr {
        let (all, key) = (self.names(self.columns.len()), self.names(self.key));
        let places: Vec<String> = (1..=self.key).map(|place| format!("${place}")).collect();
        let name = self.name;
        let behind = match is_behind {
            true => format!("WHERE ({key}) > ({}) ", places.join(", ")),
            false => String::new(),
        };
        let limit = if is_behind { self.key + 1 } else { 1 };
        made(format!(
            "SELECT {all} FROM {name} {behind}ORDER BY {key} LIMIT ${limit}"
        ))
    }

    fn names(&self, first: usize) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        names[..first].join(", ")
    }

    /// At most so many rows behind another one, or from the first on, by key; in any engine of SQL.
    pub async fn read<DB: Engine>(
        &self,
        connection: &mut DB::Connection,
        after: Option<&Row>,
        rows_max: usize,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let mut page = query(self.page(after.is_some()));
        for cell in after.iter().flat_map(|row| &row[..self.key]) {
            page = page.with(cell);
        }
        let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let lines = DB::run(connection, page.with(limit)).await?;
        lines.iter().map(|line| self.row(line)).collect()
    }

    /// How many rows it has, in SQLite.
    pub async fn count(&self, pool: &sqlx::SqlitePool) -> Result<u64, sqlx::Error> {
        let count = made(format!("SELECT COUNT(*) FROM {}", self.name));
        let count: i64 = sqlx::query_scalar(count).fetch_one(pool).await?;
        Ok(count.cast_unsigned())
    }

    /// A row as it was read.
    pub fn row(&self, line: &impl Line) -> Result<Row, sqlx::Error> {
        let columns = self.columns.iter().enumerate();
        let cell = |(at, (_, kind)): (usize, &(&str, Kind))| {
            Ok(match kind {
                Int => line.maybe_int(at)?.map_or(Cell::Null, Cell::Int),
                Text => Cell::Text(line.text(at)?),
                Bytes => line.maybe_bytes(at)?.map_or(Cell::Null, Cell::Bytes),
                Flag => Cell::Flag(line.flag(at)?),
            })
        };
        columns.map(cell).collect()
    }

    /// Where a row stands, for people to read.
    pub fn place(&self, row: &Row) -> String {
        let key = self.columns.iter().zip(row).take(self.key);
        let key: Vec<String> = key
            .map(|((name, _), cell)| match cell {
                Cell::Int(number) => format!("{name} {number}"),
                // A name, or what is searched by: nothing for a log.
                _ => format!("a {name}"),
            })
            .collect();
        format!("the table {}, {}", self.name, key.join(", "))
    }
}

/// Its parts are names that stand above.
fn made(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

impl<'a> std::convert::From<&'a Cell> for Value<'a> {
    fn from(cell: &'a Cell) -> Value<'a> {
        match cell {
            Cell::Null => Value::MaybeText(None),
            Cell::Int(number) => Value::Int(*number),
            Cell::Text(text) => Value::Text(text),
            Cell::Bytes(bytes) => Value::Bytes(bytes),
            Cell::Flag(flag) => Value::MaybeFlag(Some(*flag)),
        }
    }
}

impl Cell {
    /// About what it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Cell::Null | Cell::Int(_) | Cell::Flag(_) => size_of::<Cell>(),
            Cell::Text(text) => size_of::<Cell>() + text.len(),
            Cell::Bytes(bytes) => size_of::<Cell>() + bytes.len(),
        }
    }

    /// Adds it to a digest, so that no two rows are alike that differ.
    pub fn digest(&self, sha: &mut Sha256) {
        let (kind, bytes): (u8, &[u8]) = match self {
            Cell::Null => (0, &[]),
            Cell::Int(number) => (1, &number.to_be_bytes()),
            Cell::Text(text) => (2, text.as_bytes()),
            Cell::Bytes(bytes) => (3, bytes),
            Cell::Flag(flag) => (4, &[u8::from(*flag)]),
        };
        sha.update([kind]);
        sha.update((bytes.len() as u64).to_be_bytes());
        sha.update(bytes);
    }
}

/// How much is moved at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Rows of a batch, at most.
    pub rows_max: usize,
    /// Bytes of a batch, about.
    pub bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            rows_max: 2_000,
            bytes_max: 4 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_every_column_and_go_by_the_key() {
        let keys = TABLES.iter().find(|table| table.name == "chat_send_keys");
        let keys = keys.unwrap();
        assert_eq!(
            keys.insert().as_str(),
            "INSERT INTO chat_send_keys (week, hash, content) \
             SELECT * FROM UNNEST($1::bigint[], $2::bytea[], $3::bytea[])"
        );
        assert_eq!(
            keys.page(true).as_str(),
            "SELECT week, hash, content FROM chat_send_keys WHERE (week, hash) > ($1, $2) \
             ORDER BY week, hash LIMIT $3"
        );
        assert_eq!(
            keys.last().as_str(),
            "SELECT week, hash, content FROM chat_send_keys ORDER BY week DESC, hash DESC LIMIT 1"
        );
    }

    #[test]
    fn rows_that_differ_anywhere_have_different_digests() {
        let digest = |row: &[Cell]| {
            let mut sha = Sha256::new();
            row.iter().for_each(|cell| cell.digest(&mut sha));
            sha.finalize()
        };
        let text = |text: &str| Cell::Text(text.into());
        let rows = [
            vec![text("ab"), text("c")],
            vec![text("a"), text("bc")],
            vec![Cell::Null, text("abc")],
            vec![text(""), text("abc")],
            vec![Cell::Bytes(b"ab".into()), text("c")],
        ];
        for (at, one) in rows.iter().enumerate() {
            for (other_at, other) in rows.iter().enumerate() {
                assert_eq!(digest(one) == digest(other), at == other_at);
            }
        }
    }
}
