//! How JetStream says things.

use std::time::Duration;

use async_nats::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Away, Listed, Span, Standing};
use crate::stream::nats::{EPOCH, PLACE, PREV};
use crate::stream::{Mark, Record};

/// The statuses of a request: it waits, there was nothing, it has waited for long enough.
pub const HEARTBEAT: u16 = 100;
pub const NOTHING: u16 = 404;
pub const TIME_IS_OVER: u16 = 408;
/// What is asked for is not there: a record, a consumer, a stream.
const NOT_THERE: [u64; 3] = [10_037, 10_014, 10_059];

/// What was asked for; none when it is not there.
pub fn answered(answer: Value) -> Result<Option<Value>, Away> {
    let error = &answer["error"];
    match (error.is_null(), error["err_code"].as_u64()) {
        (true, _) => Ok(Some(answer)),
        (false, Some(code)) if NOT_THERE.contains(&code) => Ok(None),
        (false, _) => {
            let why = error["description"]
                .as_str()
                .unwrap_or("no reason is given");
            Err(Away(format!("JetStream refuses: {why}")))
        }
    }
}

pub fn number(value: &Value) -> Result<u64, Away> {
    value.as_u64().ok_or_else(unreadable)
}

pub fn span(info: &Value) -> Result<Span, Away> {
    let last = number(&info["state"]["last_seq"])?;
    // An empty stream has no first one, or the next.
    let first = match number(&info["state"]["messages"])? {
        0 => last + 1,
        _ => number(&info["state"]["first_seq"])?,
    };
    let made = info["created"].as_str().ok_or_else(unreadable)?.to_owned();
    Ok(Span { made, first, last })
}

pub fn standing(info: &Value) -> Result<Standing, Away> {
    let config = &info["config"];
    if config["ack_policy"] != "all" || config["deliver_policy"] != "by_start_sequence" {
        let why = "there is a consumer of this name that somebody else has made; take another name, or remove it";
        return Err(Away(why.into()));
    }
    Ok(Standing {
        behind: number(&config["opt_start_seq"])?.saturating_sub(1),
        floor: number(&info["ack_floor"]["stream_seq"])?,
        is_new: number(&info["delivered"]["consumer_seq"])? == 0,
    })
}

pub fn listed(page: &Value) -> Result<Vec<Listed>, Away> {
    let consumers = page["consumers"].as_array();
    let consumers = consumers.map_or(&[][..], Vec::as_slice).iter();
    let listed = consumers.map(|info| {
        let under_way = number(&info["num_ack_pending"])?;
        Ok(Listed {
            name: info["name"].as_str().ok_or_else(unreadable)?.to_owned(),
            floor: number(&info["ack_floor"]["stream_seq"])?,
            waiting: number(&info["num_pending"])? + under_way,
        })
    });
    listed.collect()
}

/// The number and the mark of a record that was asked for by itself.
pub fn found(answer: &Value) -> Result<(u64, Mark), Away> {
    let message = &answer["message"];
    let headers = message["hdrs"].as_str().unwrap_or_default();
    let headers = STANDARD.decode(headers).map_err(|_| unreadable())?;
    let headers = String::from_utf8(headers).map_err(|_| unreadable())?;
    let value = |name| {
        let mut lines = headers.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(found, _)| *found == name)?;
        value.trim().parse().ok()
    };
    let mark = value(EPOCH).zip(value(PLACE));
    let (epoch, place) = mark.ok_or_else(unreadable)?;
    Ok((number(&message["seq"])?, Mark { epoch, place }))
}

/// A record that was handed over; none when it is not one of ours.
pub fn record(message: &Message) -> Option<Record> {
    let value = |name| {
        let value = message.headers.as_ref()?.get(name)?;
        value.as_str().parse().ok()
    };
    let kind = message.subject.rsplit('.').next()?;
    Some(Record {
        mark: Mark {
            epoch: value(EPOCH)?,
            place: value(PLACE)?,
        },
        prev: value(PREV)?,
        kind: kind.to_owned().into(),
        body: message.payload.to_vec(),
    })
}

/// The number of a record, as it stands in the subject at which it is acknowledged:
/// `$JS.ACK.STREAM.CONSUMER.DELIVERED.NUMBER.…`, or with a domain and an account before the stream.
pub fn number_of_reply(reply: &str) -> Option<u64> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let at = match tokens.len() {
        7 => 3,
        9.. => 5,
        _ => return None,
    };
    tokens[at].parse().ok()
}

pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub fn unreadable() -> Away {
    Away("JetStream answers what can not be read".into())
}

pub fn silent(error: &dyn std::error::Error) -> Away {
    Away(format!("JetStream does not answer: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_record_is_found_where_it_is_acknowledged() {
        for (reply, number) in [
            ("$JS.ACK.a-feed.one.1.42.7.1700000000.0", Some(42)),
            (
                "$JS.ACK.hub.ACCOUNT.a-feed.one.1.42.7.1700000000.0",
                Some(42),
            ),
            (
                "$JS.ACK.hub.ACCOUNT.a-feed.one.1.42.7.1700000000.0.x1",
                Some(42),
            ),
            ("$JS.ACK.a-feed.one", None),
            ("elsewhere", None),
        ] {
            assert_eq!(number_of_reply(reply), number, "{reply}");
        }
    }
}
