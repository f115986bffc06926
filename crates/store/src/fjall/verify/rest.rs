//! What is not of one chat: own logs, the small tables, send keys.

use tertulia_kit::error::Result;
use tertulia_services::chats::Seq;
use tertulia_services::chats::decide::Used;
use tertulia_services::ids::UserId;

use super::report::Notes;
use crate::fjall::claims;
use crate::fjall::disk::Table;
use crate::fjall::reader::Reader;
use crate::fjall::send_keys::AtOnce;
use crate::rows::codec;
use crate::rows::corrupt;

/// Own logs are whole, and end where their heads say.
pub fn own_logs(reader: &Reader<'_>, notes: &mut Notes) {
    let mut last: Option<(UserId, Seq)> = None;
    for row in reader.at.iter(Table::UserEvents) {
        let event = row.and_then(|(key, value)| {
            let (user, seq) = codec::read_two_key(&key).map_err(corrupt)?;
            Ok((UserId(user), seq, value))
        });
        let (user, seq, value) = match event {
            Ok(event) => event,
            Err(why) => return notes.unreadable("the rest of the table user_events", &why),
        };
        notes.add_user_event();
        if last.is_none_or(|(of, _)| of != user) {
            end_of_own_log(reader, notes, last);
            notes.add_user();
            last = Some((user, 0));
        }
        let before = last.map_or(0, |(_, seq)| seq);
        if seq != before + 1 {
            notes.of_user(user, Some(seq), format!("the event before it is {before}"));
        }
        if let Err(why) = codec::read_user_event(&value, user, seq) {
            notes.of_user(user, Some(seq), why.to_string());
        }
        last = Some((user, seq));
    }
    end_of_own_log(reader, notes, last);
    heads_without_logs(reader, notes);
}

fn end_of_own_log(reader: &Reader<'_>, notes: &mut Notes, last: Option<(UserId, Seq)>) {
    let Some((user, seq)) = last else {
        return;
    };
    match reader.user_head(user) {
        Ok(head) if head == seq => {}
        Ok(head) => {
            let what = format!("the own log ends here, and its head is {head}");
            notes.of_user(user, Some(seq), what);
        }
        Err(why) => notes.unreadable("the head of an own log", &why),
    }
}

fn heads_without_logs(reader: &Reader<'_>, notes: &mut Notes) {
    for row in reader.at.iter(Table::UserHeads) {
        let check = row.and_then(|(key, _)| {
            let user = codec::read_id_key(&key).map_err(corrupt)?;
            let first = codec::two_key(user, 1);
            let first = reader.at.get(Table::UserEvents, &first)?;
            Ok((UserId(user), first.is_some()))
        });
        match check {
            Ok((_, true)) => {}
            Ok((user, false)) => notes.of_user(user, None, "a head of an own log without events"),
            Err(why) => return notes.unreadable("the rest of the table user_heads", &why),
        }
    }
}

/// What the small tables say is so.
pub fn index(reader: &Reader<'_>, notes: &mut Notes) {
    for row in reader.at.iter(Table::Index) {
        let (key, value) = match row {
            Ok(row) => row,
            Err(why) => return notes.unreadable("the rest of the table index", &why),
        };
        notes.add_index_row();
        match claims::wrong(reader, &key, &value) {
            Ok(None) => {}
            Ok(Some(problem)) => notes.add(problem),
            Err(why) => notes.unreadable("a row of the small tables", &why),
        }
    }
}

/// Send keys lead to messages that were sent with them. What else they were used for may be gone since.
pub fn send_keys(keys: &AtOnce, reader: &Reader<'_>, notes: &mut Notes) {
    for week in keys.weeks_from(i64::MIN) {
        let rows = match keys.of_week(week, None) {
            Ok(rows) => rows,
            Err(why) => return notes.unreadable("a send key", &why),
        };
        for row in rows {
            let checked = row.and_then(|(hash, value)| {
                notes.add_send_key();
                send_key(reader, notes, &hash, &value)
            });
            if let Err(why) = checked {
                return notes.unreadable("a send key", &why);
            }
        }
    }
}

fn send_key(reader: &Reader<'_>, notes: &mut Notes, hash: &[u8], value: &[u8]) -> Result<()> {
    match codec::read_used(value) {
        Ok(Used::Messages { chat, first, count }) => {
            for seq in first..first.saturating_add(count.into()) {
                let event = reader.event(chat, seq)?;
                let sent_so = event.as_ref().is_some_and(|event| {
                    let message = event.message();
                    message.is_some_and(|m| codec::send_hash(event.actor, &m.key) == *hash)
                });
                if !sent_so {
                    notes.of_event(chat, seq, "a send key that it was not sent with");
                    break;
                }
            }
        }
        Ok(Used::Chat(chat)) => {
            if reader.head(chat)?.is_none() {
                notes.of_chat(chat, "a send key that made it, and it is not there");
            }
        }
        Ok(Used::Invite(_) | Used::Scheduled(_)) => {}
        Err(why) => notes.of_nobody(format!("a send key: {why}")),
    }
    Ok(())
}
