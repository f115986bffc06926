//! Checks everything that is kept against everything else that says the same: logs against heads, messages
//! against what is looked up beside them, members against the lists of their chats. All of it at one commit,
//! so that a store in use can be checked; in memory that does not grow with the store.

mod chat;
mod report;
mod rest;
mod rows;

use std::sync::Arc;

use tertulia_kit::error::Result;
use tertulia_services::errors;
use tertulia_services::ids::{ChatId, UserId};

use super::ChatLog;
use super::disk::Table;
use super::shared::Shared;
use crate::rows::{codec, corrupt};
use chat::ChatCheck;
use report::Notes;
use rows::Rows;

pub use report::{ChatDigest, PROBLEMS_MAX, Problem, Progress, Report};

impl ChatLog {
    /// Checks the store as it is now, and tells `progress` how far that has got. Takes as long as it takes to
    /// read everything; what is written meanwhile is not looked at.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when the engine can not begin. What can not be read later is a problem of the
    /// report like any other.
    pub async fn verify(&self, progress: impl Fn(Progress) + Send + 'static) -> Result<Report> {
        let shared = Arc::clone(&self.shared);
        let check = move || verify(&shared, &progress);
        tokio::task::spawn_blocking(check)
            .await
            .map_err(errors::internal)?
    }
}

fn verify(shared: &Shared, progress: &dyn Fn(Progress)) -> Result<Report> {
    // Before the reader: what a key leads to was committed with it.
    let keys = shared.send_keys.at_once();
    let reader = shared.disk.reader();
    let mut notes = Notes::new(reader.position()?);
    {
        let mut events = Rows::of(reader.at.iter(Table::Events));
        let mut members = Rows::of(reader.at.iter(Table::Memberships));
        for row in reader.at.iter(Table::Chats) {
            let read = row.and_then(|(key, value)| {
                let id = ChatId(codec::read_id_key(&key).map_err(corrupt)?);
                Ok((id, codec::read_chat(&value, id)))
            });
            match read {
                Ok((_, Ok(row))) => {
                    let check = ChatCheck::of(&reader, &mut notes, row);
                    let digest = check.run(&mut events, &mut members);
                    notes.add_digest(&digest);
                    progress(Progress::Chat(digest));
                }
                Ok((id, Err(why))) => {
                    notes.of_chat(id, why.to_string());
                    events.skip(id);
                    members.skip(id);
                }
                Err(why) => {
                    notes.unreadable("the rest of the table chats", &why);
                    break;
                }
            }
        }
        events.rest(|chat, seq| notes.of_event(chat, seq, "an event of no chat"));
        members.rest(|chat, user| notes.of_member(chat, UserId(user), "a member of no chat"));
        notes.unreadable_rows("events", events.failure());
        notes.unreadable_rows("memberships", members.failure());
    }
    rest::own_logs(&reader, &mut notes);
    progress(Progress::OwnLogs(notes.users()));
    rest::index(&reader, &mut notes);
    progress(Progress::Index(notes.index_rows()));
    rest::send_keys(&keys, &reader, &mut notes);
    progress(Progress::SendKeys(notes.send_keys()));
    Ok(notes.report())
}
