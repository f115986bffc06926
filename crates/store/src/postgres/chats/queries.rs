//! The statements of readers that have one of their own.

use std::ops::Range;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use tertulia_kit::error::Result;
use tertulia_kit::metrics::Counter;
use tertulia_services::chats::{
    Chat, Event, ListPlace, Membership, Moved, Page, Position, Seq, UserEvent,
};
use tertulia_services::ids::{ChatId, UserId};

use super::fetch::Trouble;
use super::history::POSITION;
use crate::rows::codec::{self, Corrupt};

/// No log is as long; twice of it still fits a number.
pub const SEQ_MAX: Seq = i64::MAX / 4;
/// How many of each chat's newest events are looked at first for those after a position. Where that is not enough
/// it is eight times as many, and so on.
const NEWEST: Seq = 8;

/// The events of a chat with these seqs.
pub async fn events_at(
    connection: &mut PgConnection,
    chat: ChatId,
    seqs: &[Seq],
) -> Result<Page<Event>, Trouble> {
    let found = sqlx::query(
        "SELECT c.head, e.seq, e.content FROM chats c LEFT JOIN chat_events e
                 ON e.chat_id = c.chat_id AND e.seq = ANY($2)
                 WHERE c.chat_id = $1 ORDER BY e.seq",
    );
    let found = found.bind(chat.0).bind(seqs).fetch_all(connection).await?;
    page(chat, &found)
}

/// A part of a user's own log.
pub async fn user_events(
    connection: &mut PgConnection,
    user: UserId,
    after: Seq,
    limit: Seq,
) -> Result<Page<UserEvent>, Trouble> {
    let found = sqlx::query(
        "SELECT h.head, e.seq, e.content FROM user_heads h LEFT JOIN user_events e
                 ON e.user_id = h.user_id AND e.seq > $2 AND e.seq <= $2 + $3
                 WHERE h.user_id = $1 ORDER BY e.seq",
    );
    let found = found.bind(user.0).bind(after.clamp(0, SEQ_MAX)).bind(limit);
    let found = found.fetch_all(connection).await?;
    log(&found, |seq, content| {
        codec::read_user_event(content, user, seq)
    })
}

/// A part of a user's list of chats, the highest place first.
pub async fn chats_of(
    connection: &mut PgConnection,
    user: UserId,
    places: &Range<ListPlace>,
    limit: usize,
) -> Result<Vec<(ListPlace, Chat)>, Trouble> {
    let found = sqlx::query(
        "SELECT o.chat_id, c.content, e.content, o.hour
                 FROM (SELECT chat_id, hour FROM chats_of_users
                     WHERE user_id = $1 AND (hour, chat_id) >= ($2, $3) AND (hour, chat_id) < ($4, $5)
                     ORDER BY hour DESC, chat_id DESC LIMIT $6) o
                 JOIN chats c ON c.chat_id = o.chat_id
                 LEFT JOIN chat_events e ON e.chat_id = c.chat_id AND e.seq = c.last_message
                 ORDER BY o.hour DESC, o.chat_id DESC",
    );
    let (first, last) = (places.start, places.end);
    let found = found.bind(user.0).bind(first.hour).bind(first.chat.0);
    let found = found.bind(last.hour).bind(last.chat.0);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = found.bind(limit).fetch_all(&mut *connection).await?;
    let (mut chats, mut unplaced) = (Vec::with_capacity(found.len()), Vec::new());
    for line in &found {
        let (chat, _) = chat(line)?;
        let (hour, own) = (line.try_get(3)?, chat.list_place());
        if hour == ListPlace::ALWAYS && own.hour != hour {
            unplaced.push(own);
        }
        let place = ListPlace {
            hour,
            chat: chat.id,
        };
        chats.push((place, chat));
    }
    if !unplaced.is_empty() {
        // The answer is whole without it, and whoever reads it next tries again.
        if let Err(error) = put_in_place(connection, user, &unplaced).await {
            tracing::debug!(%error, "chats can not be put in their place");
        }
    }
    Ok(chats)
}

/// Chats that nobody has put in their place yet: an older version has opened them, or they were moved here. A writer
/// that has done it meanwhile knows better.
async fn put_in_place(
    connection: &mut PgConnection,
    user: UserId,
    places: &[ListPlace],
) -> Result<(), sqlx::Error> {
    let put = sqlx::query(
        "UPDATE chats_of_users o SET hour = new.hour
                 FROM UNNEST($2::bigint[], $3::bigint[]) AS new (chat_id, hour)
                 WHERE o.user_id = $1 AND o.chat_id = new.chat_id AND o.hour = $4",
    );
    let chats: Vec<i64> = places.iter().map(|place| place.chat.0).collect();
    let hours: Vec<i64> = places.iter().map(|place| place.hour).collect();
    let put = put.bind(user.0).bind(chats).bind(hours);
    put.bind(ListPlace::ALWAYS).execute(connection).await?;
    Ok(())
}

/// What moved for a user after a position; none when that is not reached yet.
pub async fn moved_since(
    connection: &mut PgConnection,
    user: UserId,
    since: Position,
) -> Result<Option<Moved>, Trouble> {
    // The position first: what is read after it covers it.
    let position = position(connection).await?;
    if since > position {
        return Ok(None);
    }
    let found = sqlx::query(
        "SELECT c.chat_id, c.content, e.content, h.head
                 FROM (SELECT $1::bigint AS user_id) u
                 LEFT JOIN user_heads h ON h.user_id = u.user_id
                 LEFT JOIN (chats_of_users o JOIN chats c ON c.chat_id = o.chat_id)
                     ON o.user_id = u.user_id AND (c.moved_at > $2 OR c.marked_at > $2)
                 LEFT JOIN chat_events e ON e.chat_id = c.chat_id AND e.seq = c.last_message",
    );
    let since = since.0;
    let found = found.bind(user.0).bind(since.cast_signed());
    let found = found.fetch_all(connection).await?;
    let mut moved = Moved {
        chats: Vec::new(),
        receipts: Vec::new(),
        own_head: 0,
        position,
    };
    for line in &found {
        moved.own_head = line.try_get::<Option<Seq>, _>(3)?.unwrap_or(0);
        if line.try_get::<Option<i64>, _>(0)?.is_none() {
            continue;
        }
        let (chat, marks) = chat(line)?;
        if marks.marked_at > since {
            moved.receipts.push(chat.id);
        }
        if marks.moved_at > since {
            moved.chats.push(chat);
        }
    }
    Ok(Some(moved))
}

/// What was committed after a position in some logs; none when that is more than `limit`.
pub async fn events_since(
    connection: &mut PgConnection,
    chats: &[Chat],
    since: u64,
    limit: usize,
    asked: &Counter,
) -> Result<Option<Vec<Arc<Event>>>, Trouble> {
    let with_events = chats.iter().filter(|chat| chat.head > 0);
    let mut logs: Vec<Tail> = with_events.map(Tail::of).collect();
    let mut newest = NEWEST;
    loop {
        let open: Vec<&mut Tail> = logs.iter_mut().filter(|log| !log.whole).collect();
        if open.is_empty() {
            break;
        }
        asked.add(1);
        read_tails(connection, open, since, newest).await?;
        if logs.iter().map(|log| log.events.len()).sum::<usize>() > limit {
            return Ok(None);
        }
        newest = newest.saturating_mul(8).min(SEQ_MAX);
    }
    let events = logs
        .into_iter()
        .flat_map(|log| log.events.into_iter().rev());
    Ok(Some(events.collect()))
}

/// The members of a chat after one of them.
pub async fn members(
    connection: &mut PgConnection,
    chat: ChatId,
    after: UserId,
    limit: Seq,
) -> Result<Vec<(UserId, Membership)>, Trouble> {
    let found = sqlx::query(
        "SELECT user_id, content FROM chat_members WHERE chat_id = $1 AND user_id > $2
                 ORDER BY user_id LIMIT $3",
    );
    let found = found.bind(chat.0).bind(after.0).bind(limit);
    let found = found.fetch_all(connection).await?;
    let members = found.iter().map(|line| {
        let membership = codec::read_membership(line.try_get(1)?)?;
        Ok((UserId(line.try_get(0)?), membership))
    });
    members.collect::<Result<_, Trouble>>()
}

/// A part of a chat's log, by a statement that takes the chat and two numbers.
pub async fn page_of(
    connection: &mut PgConnection,
    chat: ChatId,
    text: &'static str,
    of: [Seq; 2],
) -> Result<Page<Event>, Trouble> {
    let found = sqlx::query(text).bind(chat.0).bind(of[0]).bind(of[1]);
    let found = found.fetch_all(connection).await?;
    let found = page(chat, &found)?;
    let gapless = found
        .events
        .windows(2)
        .all(|two| two[1].seq == two[0].seq + 1);
    match gapless {
        true => Ok(found),
        false => Err(Corrupt("a log with a hole").into()),
    }
}

/// The position now.
pub async fn position(connection: &mut PgConnection) -> Result<Position, Trouble> {
    let position: i64 = sqlx::query_scalar(POSITION).fetch_one(connection).await?;
    Ok(Position(position.cast_unsigned()))
}

/// A chat with its last message, and how far it has got.
fn chat(line: &PgRow) -> Result<(Chat, codec::Marks), Trouble> {
    let id = ChatId(line.try_get(0)?);
    let stored = codec::read_chat(line.try_get(1)?, id)?;
    let mut chat = stored.chat;
    if stored.last_message != 0 {
        let content: Option<&[u8]> = line.try_get(2)?;
        let content = content.ok_or(Corrupt("a chat without its last message"))?;
        let (_, event) = codec::read_event(content, id, stored.last_message)?;
        chat.last_message = Some(Arc::new(event));
    }
    let marks = codec::Marks {
        moved_at: stored.moved_at,
        marked_at: stored.marked_at,
        head: chat.head,
    };
    Ok((chat, marks))
}

fn page(chat: ChatId, lines: &[PgRow]) -> Result<Page<Event>, Trouble> {
    log(lines, |seq, content| {
        codec::read_event(content, chat, seq).map(|(_, event)| event)
    })
}

/// A log's head and events, out of lines that all have the head; a part without events is one line without.
fn log<T>(
    lines: &[PgRow],
    read: impl Fn(Seq, &[u8]) -> Result<T, Corrupt>,
) -> Result<Page<T>, Trouble> {
    let mut page = Page::default();
    for line in lines {
        page.head = line.try_get(0)?;
        if let Some(seq) = line.try_get::<Option<Seq>, _>(1)? {
            page.events.push(Arc::new(read(seq, line.try_get(2)?)?));
        }
    }
    Ok(page)
}

/// What is after a position in one log.
struct Tail {
    chat: ChatId,
    /// Up to here was not looked yet.
    to: Seq,
    /// Newest first.
    events: Vec<Arc<Event>>,
    /// All of them are here.
    whole: bool,
}

impl Tail {
    fn of(chat: &Chat) -> Tail {
        Tail {
            chat: chat.id,
            to: chat.head,
            events: Vec::new(),
            whole: false,
        }
    }
}

/// Reads the next `newest` events of each, back from where it is.
async fn read_tails(
    connection: &mut PgConnection,
    mut tails: Vec<&mut Tail>,
    since: u64,
    newest: Seq,
) -> Result<(), Trouble> {
    let (chats, to): (Vec<i64>, Vec<Seq>) = tails.iter().map(|tail| (tail.chat.0, tail.to)).unzip();
    let found = sqlx::query(
        "SELECT w.place, e.seq, e.position, e.content
         FROM UNNEST($1::bigint[], $2::bigint[]) WITH ORDINALITY AS w (chat_id, last, place)
         JOIN chat_events e ON e.chat_id = w.chat_id AND e.seq <= w.last AND e.seq > w.last - $3
         WHERE e.position > $4 ORDER BY w.place, e.seq DESC",
    );
    let found = found
        .bind(&chats)
        .bind(&to)
        .bind(newest)
        .bind(since.cast_signed());
    for line in &found.fetch_all(connection).await? {
        let place = usize::try_from(line.try_get::<i64, _>(0)? - 1);
        let tail = place.ok().and_then(|place| tails.get_mut(place));
        let tail = tail.ok_or(Corrupt("an event of a chat that was not asked for"))?;
        let seq: Seq = line.try_get(1)?;
        if seq != tail.to {
            return Err(Corrupt("a log with a hole").into());
        }
        tail.to -= 1;
        let (_, event) = codec::read_event(line.try_get(3)?, tail.chat, seq)?;
        tail.events.push(Arc::new(event));
    }
    for (tail, to) in tails.iter_mut().zip(to) {
        // The numbers of a log rise, so what is older than one that was left out is left out as well.
        tail.whole = tail.to == 0 || to - tail.to < newest;
    }
    Ok(())
}
