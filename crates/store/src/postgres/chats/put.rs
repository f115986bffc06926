//! Writes a round: one statement for what every send writes, and one for each other table that has something.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use tertulia_services::chats::{ListPlace, Seq};
use tertulia_services::ids::ChatId;

use crate::rows::codec::{self, ID_BYTES};
use crate::rows::index;
use crate::rows::round::Round;

/// Who writes it, and how it is found again.
pub struct Mark {
    pub writer: i64,
    /// Drawn for this round.
    pub round: i64,
    /// In which week its send keys are.
    pub week: i64,
    /// What it appends goes into the feed.
    pub is_fed: bool,
}

/// What every commit writes, with the mark of a writer that feeds or does not.
macro_rules! logs {
    ($is_fed:literal, $feed:literal) => {
        concat!(
            "WITH event AS (
                 INSERT INTO chat_events (chat_id, seq, position, content)
                 SELECT chat_id, seq, $3::bigint, content
                 FROM UNNEST($1::bigint[], $2::bigint[], $4::bytea[]) AS new (chat_id, seq, content)
             ), send_key AS (
                 INSERT INTO chat_send_keys (week, hash, content)
                 SELECT $5::bigint, hash, content FROM UNNEST($6::bytea[], $7::bytea[]) AS new (hash, content)
                 ON CONFLICT (week, hash) DO UPDATE SET content = excluded.content
             ), writer AS (
                 INSERT INTO chat_writers (writer, position, round, is_fed) VALUES ($8, $3, $9, ",
            $is_fed,
            ") ON CONFLICT (writer) DO UPDATE SET position = excluded.position, round = excluded.round
             )",
            $feed,
            " INSERT INTO chats (chat_id, moved_at, marked_at, head, last_message, content)
             SELECT * FROM UNNEST($10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
                                  $14::bigint[], $15::bytea[])
             ON CONFLICT (chat_id) DO UPDATE
             SET moved_at = excluded.moved_at, marked_at = excluded.marked_at, head = excluded.head,
                 last_message = excluded.last_message, content = excluded.content"
        )
    };
}

const LOGS: &str = logs!("FALSE", "");
const LOGS_AND_FEED: &str = logs!(
    "TRUE",
    ", feed AS (
         INSERT INTO feed_commits (position, writer, content)
         SELECT $3::bigint, $8::bigint, $16::bytea WHERE $16 IS NOT NULL
     )"
);

/// Writes all rows of a round.
pub async fn put(
    connection: &mut PgConnection,
    round: &Round,
    mark: &Mark,
) -> Result<(), sqlx::Error> {
    logs(connection, round, mark).await?;
    rewritten(connection, round).await?;
    members(connection, round).await?;
    own_logs(connection, round).await?;
    small_tables(connection, round).await
}

/// New events, chats, send keys, and the mark of the writer. An event is inserted and never put over another one,
/// so that a seq given twice would fail the commit.
async fn logs(
    connection: &mut PgConnection,
    round: &Round,
    mark: &Mark,
) -> Result<(), sqlx::Error> {
    let mut events = Events::default();
    let mut new: Vec<_> = round
        .events
        .iter()
        .filter(|(_, (position, _))| *position == round.position)
        .collect();
    new.sort_unstable_by_key(|(key, _)| **key);
    for ((chat, seq), (position, event)) in new {
        events.push(
            *chat,
            *seq,
            encoded(|row| codec::write_event(row, *position, event)),
        );
    }
    let mut chats = Chats::default();
    let mut changed: Vec<_> = round.chats.iter().collect();
    changed.sort_unstable_by_key(|(id, _)| **id);
    for (id, row) in changed {
        chats.ids.push(id.0);
        chats.moved_at.push(row.moved_at.cast_signed());
        chats.marked_at.push(row.marked_at.cast_signed());
        chats.heads.push(row.chat.head);
        let last = row.chat.last_message.as_ref();
        chats.last.push(last.map_or(0, |event| event.seq));
        let content = |out: &mut Vec<u8>| {
            codec::write_chat(out, &row.chat, row.moved_at, row.marked_at);
        };
        chats.contents.push(encoded(content));
    }
    let mut used: Vec<_> = round.used.iter().collect();
    used.sort_unstable_by_key(|(hash, _)| **hash);
    let hashes: Vec<&[u8]> = used.iter().map(|(hash, _)| &hash[..]).collect();
    let uses = used
        .iter()
        .map(|(_, used)| encoded(|row| codec::write_used(row, used)));
    let uses: Vec<Vec<u8>> = uses.collect();
    let logs = sqlx::query(match mark.is_fed {
        true => LOGS_AND_FEED,
        false => LOGS,
    });
    let logs = logs
        .bind(&events.chats)
        .bind(&events.seqs)
        .bind(round.position.cast_signed())
        .bind(&events.contents)
        .bind(mark.week)
        .bind(&hashes)
        .bind(&uses)
        .bind(mark.writer)
        .bind(mark.round)
        .bind(&chats.ids)
        .bind(&chats.moved_at)
        .bind(&chats.marked_at)
        .bind(&chats.heads)
        .bind(&chats.last)
        .bind(&chats.contents);
    let logs = match mark.is_fed {
        true => logs.bind(
            round
                .appended()
                .map(|(at_ms, events)| encoded(|row| codec::write_fed(row, at_ms, &events))),
        ),
        false => logs,
    };
    logs.execute(connection).await.map(drop)
}

/// Events of earlier commits with another content.
async fn rewritten(connection: &mut PgConnection, round: &Round) -> Result<(), sqlx::Error> {
    let mut events = Events::default();
    for ((chat, seq), (position, event)) in &round.events {
        if *position != round.position {
            events.push(
                *chat,
                *seq,
                encoded(|row| codec::write_event(row, *position, event)),
            );
        }
    }
    if events.seqs.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE chat_events e SET content = new.content
         FROM UNNEST($1::bigint[], $2::bigint[], $3::bytea[]) AS new (chat_id, seq, content)
         WHERE e.chat_id = new.chat_id AND e.seq = new.seq",
    )
    .bind(&events.chats)
    .bind(&events.seqs)
    .bind(&events.contents)
    .execute(connection)
    .await
    .map(drop)
}

async fn members(connection: &mut PgConnection, round: &Round) -> Result<(), sqlx::Error> {
    let mut there = (Vec::new(), Vec::new(), Vec::new());
    let mut gone = (Vec::new(), Vec::new());
    for ((chat, user), membership) in &round.memberships {
        match membership {
            Some(membership) => {
                there.0.push(chat.0);
                there.1.push(user.0);
                there
                    .2
                    .push(encoded(|row| codec::write_membership(row, membership)));
            }
            None => {
                gone.0.push(chat.0);
                gone.1.push(user.0);
            }
        }
    }
    if !there.0.is_empty() {
        sqlx::query(
            "INSERT INTO chat_members (chat_id, user_id, content)
             SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bytea[])
             ON CONFLICT (chat_id, user_id) DO UPDATE SET content = excluded.content",
        )
        .bind(&there.0)
        .bind(&there.1)
        .bind(&there.2)
        .execute(&mut *connection)
        .await?;
    }
    if !gone.0.is_empty() {
        sqlx::query(
            "DELETE FROM chat_members m USING UNNEST($1::bigint[], $2::bigint[]) AS old (chat_id, user_id)
             WHERE m.chat_id = old.chat_id AND m.user_id = old.user_id",
        )
        .bind(&gone.0)
        .bind(&gone.1)
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn own_logs(connection: &mut PgConnection, round: &Round) -> Result<(), sqlx::Error> {
    if round.own_events.is_empty() {
        return Ok(());
    }
    let users: Vec<i64> = round.own_events.iter().map(|event| event.user.0).collect();
    let seqs: Vec<Seq> = round.own_events.iter().map(|event| event.seq).collect();
    let contents = round.own_events.iter();
    let contents: Vec<Vec<u8>> = contents
        .map(|event| encoded(|row| codec::write_user_event(row, event)))
        .collect();
    let (heads_of, heads): (Vec<i64>, Vec<Seq>) = round
        .own_heads
        .iter()
        .map(|(user, head)| (user.0, *head))
        .unzip();
    sqlx::query(
        "WITH event AS (
             INSERT INTO user_events (user_id, seq, content)
             SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bytea[])
         )
         UPDATE user_heads h SET head = new.head
         FROM UNNEST($4::bigint[], $5::bigint[]) AS new (user_id, head)
         WHERE h.user_id = new.user_id",
    )
    .bind(&users)
    .bind(&seqs)
    .bind(&contents)
    .bind(&heads_of)
    .bind(&heads)
    .execute(connection)
    .await
    .map(drop)
}

/// The small tables; who is in which chat has one of its own, because what moved for a user is found by it.
async fn small_tables(connection: &mut PgConnection, round: &Round) -> Result<(), sqlx::Error> {
    let mut there: (Vec<&[u8]>, Vec<&[u8]>) = Default::default();
    let mut gone: Vec<&[u8]> = Vec::new();
    let mut lists = Lists::default();
    for (key, content) in &round.index {
        if lists.take(key, content.as_deref()) {
            continue;
        }
        match content {
            Some(content) => {
                there.0.push(key);
                there.1.push(content);
            }
            None => gone.push(key),
        }
    }
    if !there.0.is_empty() {
        sqlx::query(
            "INSERT INTO chat_index (key, content) SELECT * FROM UNNEST($1::bytea[], $2::bytea[])
             ON CONFLICT (key) DO UPDATE SET content = excluded.content",
        )
        .bind(&there.0)
        .bind(&there.1)
        .execute(&mut *connection)
        .await?;
    }
    if !gone.is_empty() {
        sqlx::query("DELETE FROM chat_index WHERE key = ANY($1)")
            .bind(&gone)
            .execute(&mut *connection)
            .await?;
    }
    lists.put(connection).await
}

/// What becomes of users' lists of chats.
#[derive(Default)]
struct Lists {
    /// Who is in a chat from now on, and whether it is a direct one.
    joined: BTreeMap<(i64, i64), bool>,
    /// Users and chats.
    left: (Vec<i64>, Vec<i64>),
    /// Where chats stand now. Where they stood is in the row that is changed.
    hours: BTreeMap<(i64, i64), i64>,
}

impl Lists {
    /// Takes a row of the small tables; says whether it is of lists.
    fn take(&mut self, key: &[u8], content: Option<&[u8]>) -> bool {
        let numbers = key.get(1..).unwrap_or_default().as_chunks::<ID_BYTES>();
        let number = |bytes: &[u8; ID_BYTES]| codec::number_of(*bytes);
        match (key.first(), numbers) {
            (Some(&index::CHAT_OF), ([user, chat], [])) => {
                let (user, chat) = (number(user), number(chat));
                match content {
                    Some(content) => {
                        let is_direct = codec::read_value(content).is_ok_and(|value| value != 0);
                        self.joined.insert((user, chat), is_direct);
                    }
                    None => {
                        self.left.0.push(user);
                        self.left.1.push(chat);
                    }
                }
                true
            }
            (Some(&index::LISTED), ([user, hour, chat], [])) => {
                if content.is_some() {
                    let place = (number(user), !number(chat));
                    self.hours.insert(place, !number(hour));
                }
                true
            }
            _ => false,
        }
    }

    async fn put(mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if !self.joined.is_empty() {
            let mut rows = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for ((user, chat), is_direct) in self.joined {
                rows.0.push(user);
                rows.1.push(chat);
                rows.2.push(is_direct);
                let hour = self.hours.remove(&(user, chat));
                rows.3.push(hour.unwrap_or(ListPlace::ALWAYS));
            }
            sqlx::query(
                "INSERT INTO chats_of_users (user_id, chat_id, is_direct, hour)
                 SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::boolean[], $4::bigint[])
                 ON CONFLICT (user_id, chat_id) DO NOTHING",
            )
            .bind(&rows.0)
            .bind(&rows.1)
            .bind(&rows.2)
            .bind(&rows.3)
            .execute(&mut *connection)
            .await?;
        }
        if !self.hours.is_empty() {
            let mut rows = (Vec::new(), Vec::new(), Vec::new());
            for ((user, chat), hour) in self.hours {
                rows.0.push(user);
                rows.1.push(chat);
                rows.2.push(hour);
            }
            sqlx::query(
                "UPDATE chats_of_users o SET hour = new.hour
                 FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS new (user_id, chat_id, hour)
                 WHERE o.user_id = new.user_id AND o.chat_id = new.chat_id",
            )
            .bind(&rows.0)
            .bind(&rows.1)
            .bind(&rows.2)
            .execute(&mut *connection)
            .await?;
        }
        if !self.left.0.is_empty() {
            sqlx::query(
                "DELETE FROM chats_of_users c USING UNNEST($1::bigint[], $2::bigint[]) AS old (user_id, chat_id)
                 WHERE c.user_id = old.user_id AND c.chat_id = old.chat_id",
            )
            .bind(&self.left.0)
            .bind(&self.left.1)
            .execute(connection)
            .await?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Events {
    chats: Vec<i64>,
    seqs: Vec<Seq>,
    contents: Vec<Vec<u8>>,
}

impl Events {
    fn push(&mut self, chat: ChatId, seq: Seq, content: Vec<u8>) {
        self.chats.push(chat.0);
        self.seqs.push(seq);
        self.contents.push(content);
    }
}

#[derive(Default)]
struct Chats {
    ids: Vec<i64>,
    moved_at: Vec<i64>,
    marked_at: Vec<i64>,
    heads: Vec<Seq>,
    last: Vec<Seq>,
    contents: Vec<Vec<u8>>,
}

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut row = Vec::new();
    write(&mut row);
    row
}
