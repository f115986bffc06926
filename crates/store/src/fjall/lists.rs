//! Folders of a format in which nobody knew where a chat stands in the lists of its members.

use tertulia_kit::error::Result;
use tertulia_services::ids::{ChatId, UserId};

use super::disk::{Disk, Table};
use super::engine::unavailable;
use crate::rows::index::{self, Changes};

/// How many lines of lists are written at once.
const LINES_AT_ONCE: usize = 10_000;

/// Writes where each chat stands for each of its members. What a start that was killed has left of it is written again.
pub fn fill(disk: &Disk) -> Result<()> {
    tracing::info!("the lists of chats are put in order, once");
    let reader = disk.reader();
    let mut lines = Changes::new();
    let (mut all, mut unreadable) = (0_u64, 0_u64);
    let rows = reader
        .at
        .range(Table::Index, [index::CHAT_OF]..[index::CHAT_OF + 1]);
    for row in rows {
        let (key, _) = row?;
        let ([user, chat], _) = index::numbers(&key)?;
        // What can not be read is in no list; reading it would fail there as well, and `verify` tells of it.
        match reader.chat(ChatId(chat), None) {
            Ok(Some(row)) => {
                let place = row.chat.list_place();
                index::put_listed(&mut lines, UserId(user), place, true);
            }
            Ok(None) | Err(_) => unreadable += 1,
        }
        all += 1;
        if lines.len() >= LINES_AT_ONCE {
            write(disk, &mut lines)?;
            tracing::info!(lines = all, "the lists of chats are put in order");
        }
    }
    write(disk, &mut lines)?;
    if unreadable > 0 {
        tracing::error!(
            unreadable,
            "there are chats that can not be read and are in no list; `tertulia verify` says which"
        );
    }
    tracing::info!(lines = all, "the lists of chats are in order");
    Ok(())
}

fn write(disk: &Disk, lines: &mut Changes) -> Result<()> {
    // Nothing is in the journal of such a folder, and much may come together here.
    let table = disk.engine.table(Table::Index)?;
    let mut batch = disk.engine.batch(lines.len());
    for (key, value) in std::mem::take(lines) {
        batch.insert(table, key, value.unwrap_or_default());
    }
    batch.commit().map_err(unavailable)
}
