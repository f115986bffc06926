//! Which sendings are known. A table for each week, so that forgetting is dropping a table and not a row at
//! a time: with this week's and the one before, a key is known for seven days at least and fourteen at most.

use std::collections::BTreeMap;

use ::fjall::{Database, Keyspace};
use parking_lot::RwLock;
use tertulia_kit::error::Result;
use tertulia_services::chats::SEND_KEYS_KEPT_MS;
use tertulia_services::chats::decide::Used;

use super::disk::{table_options, unavailable};
use crate::rows::codec::{self, SendHash};
use crate::rows::corrupt;

const PREFIX: &str = "send_keys_";

/// The tables.
pub struct SendKeys {
    db: Database,
    /// Guards which tables there are: by week, oldest first. Only the writer makes and drops some.
    weeks: RwLock<BTreeMap<i64, Keyspace>>,
}

impl SendKeys {
    /// Opens the tables that there are.
    pub fn open(db: &Database) -> Result<SendKeys> {
        let mut weeks = BTreeMap::new();
        for name in db.list_keyspace_names() {
            let week = name
                .strip_prefix(PREFIX)
                .and_then(|week| week.parse::<i64>().ok());
            if let Some(week) = week {
                weeks.insert(week, table(db, week)?);
            }
        }
        Ok(SendKeys {
            db: db.clone(),
            weeks: RwLock::new(weeks),
        })
    }

    /// The table for what is sent now. Makes it when the week is new, and drops those that nobody may ask
    /// for any more. When the clock is behind the newest table, that one is taken: keys do not age backwards.
    pub fn current(&self, now_ms: i64) -> Result<Keyspace> {
        let week = now_ms.div_euclid(SEND_KEYS_KEPT_MS);
        if let Some((newest, table)) = self.weeks.read().last_key_value()
            && *newest >= week
        {
            return Ok(table.clone());
        }
        let new = table(&self.db, week)?;
        let mut weeks = self.weeks.write();
        weeks.insert(week, new.clone());
        while let Some(oldest) = weeks.first_entry()
            && *oldest.key() < week - 1
        {
            self.db
                .delete_keyspace(oldest.get().clone())
                .map_err(unavailable)?;
            oldest.remove();
        }
        Ok(new)
    }

    /// All tables with their weeks, oldest first.
    pub fn weeks(&self) -> Vec<(i64, Keyspace)> {
        let weeks = self.weeks.read();
        weeks
            .iter()
            .map(|(week, table)| (*week, table.clone()))
            .collect()
    }

    /// All tables, oldest first.
    pub fn tables(&self) -> Vec<Keyspace> {
        self.weeks.read().values().cloned().collect()
    }

    /// What a key was used for.
    pub fn find(&self, hash: &SendHash) -> Result<Option<Used>> {
        for table in self.weeks.read().values().rev() {
            if let Some(bytes) = table.get(hash).map_err(unavailable)? {
                return codec::read_used(&bytes).map(Some).map_err(corrupt);
            }
        }
        Ok(None)
    }
}

fn table(db: &Database, week: i64) -> Result<Keyspace> {
    db.keyspace(&format!("{PREFIX}{week}"), || table_options(16))
        .map_err(unavailable)
}
