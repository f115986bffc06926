//! A commit as the feed has it: when it was made, and which events it brought. What they say is read in their logs, so
//! that what is deleted there is nowhere else.

use tertulia_services::ids::ChatId;

use super::*;

/// An event's place in its log.
pub type EventKey = (ChatId, Seq);

/// The events come in the order of the feed.
pub fn write_fed(out: &mut Vec<u8>, at_ms: i64, events: &[EventKey]) {
    start(out);
    put_number(out, at_ms);
    put_list(out, events, |out, (chat, seq)| {
        put_id(out, chat.0);
        put_number(out, *seq);
    });
}

pub fn read_fed(bytes: &[u8]) -> Read<(i64, Vec<EventKey>)> {
    let mut fields = Fields::of(bytes)?;
    let at_ms = fields.number()?;
    let events = fields.list(|fields| Ok((ChatId(fields.id()?), fields.number()?)))?;
    fields.end()?;
    Ok((at_ms, events))
}
