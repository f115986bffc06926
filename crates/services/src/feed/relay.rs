//! Brings the feed into a stream that others keep, such as JetStream: each event once, in the order of the feed.
//!
//! How far that has got stands in the stream itself, in the mark of its last record, and nowhere else. So nothing has to
//! agree with it: a stream that was lost or emptied is filled with what the outbox still has, and who reads it knows by
//! the places what they had before. Two who do this at the same time do not get in each other's way: the stream takes
//! what is for its end, and refuses the rest.

use std::sync::Arc;
use std::time::Duration;

use tertulia_kit::metrics::Counter;
use tertulia_kit::stream::{End, Mark, RECORDS_MAX, Record, Stream, Trouble};
use tokio::time::Instant;

use super::model::{Bounds, Entry, Found, Place};
use super::ports::Outbox;

/// The sort of a record that is an event.
pub const EVENT: &str = "event";
/// The sort of a record that says that there is nothing between the one before and its own place, because it is not kept.
pub const GAP: &str = "gap";
/// How many bytes of text are brought at once, about.
const BYTES_MAX: usize = 1 << 20;
/// How often the stream is asked where it ends while there is nothing to bring: it may have been emptied.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Makes bytes of an event.
pub type Encode = fn(&Entry) -> Vec<u8>;

/// Brings events.
pub struct Relay {
    outbox: Arc<dyn Outbox>,
    stream: Arc<dyn Stream>,
    encode: Encode,
    /// How many events were brought.
    pub brought: Counter,
}

/// Where the stream was seen to end, and when.
pub type Seen = Option<(End, Instant)>;

impl Relay {
    /// From that outbox into that stream.
    pub fn new(outbox: Arc<dyn Outbox>, stream: Arc<dyn Stream>, encode: Encode) -> Arc<Relay> {
        Arc::new(Relay {
            outbox,
            stream,
            encode,
            brought: Counter::default(),
        })
    }

    /// Brings a part of what is missing; false when nothing is. `seen` is what the step before has left, or none.
    ///
    /// # Errors
    /// Why nothing is brought now, for operators. The next step begins with where the stream ends.
    pub async fn step(&self, seen: &mut Seen) -> Result<bool, String> {
        let (end, at) = match seen.take() {
            Some((end, at)) if at.elapsed() < LOOK_AGAIN => (end, at),
            _ => {
                let end = self.stream.end().await;
                (end.map_err(|trouble| trouble.to_string())?, Instant::now())
            }
        };
        let records = self.records(end).await?;
        if records.is_empty() {
            *seen = Some((end, at));
            return Ok(false);
        }
        let events = records.iter().filter(|record| record.kind == EVENT).count();
        match self.stream.append(end, records).await {
            Ok(end) => {
                self.brought.add(events as u64);
                *seen = Some((end, at));
                Ok(true)
            }
            // Somebody else brings events, or it was emptied: where it ends will say.
            Err(Trouble::Moved) => Ok(true),
            Err(trouble) => Err(trouble.to_string()),
        }
    }

    async fn records(&self, end: End) -> Result<Vec<Record>, String> {
        let epoch = self.outbox.epoch().0;
        let from = match end.last {
            Some(mark) if mark.epoch == epoch => Place(mark.place),
            _ => Place::default(),
        };
        let bounds = Bounds {
            events_max: RECORDS_MAX,
            bytes_max: BYTES_MAX,
        };
        let failed = |failure: tertulia_kit::error::Failure| {
            let cause = failure.cause_chain();
            cause.unwrap_or_else(|| failure.words().to_owned())
        };
        let record = |prev: Place, place: Place, kind: &'static str, body: Vec<u8>| Record {
            mark: Mark {
                epoch,
                place: place.0,
            },
            prev: prev.0,
            kind: kind.into(),
            body,
        };
        match self.outbox.after(from, bounds).await.map_err(failed)? {
            Found::Events(entries) => {
                let follows = std::iter::once(from).chain(entries.iter().map(|entry| entry.place));
                let records = entries
                    .iter()
                    .zip(follows)
                    .map(|(entry, prev)| record(prev, entry.place, EVENT, (self.encode)(entry)));
                Ok(records.collect())
            }
            Found::Gap => {
                let span = self.outbox.span().await.map_err(failed)?;
                Ok(vec![record(span.from, span.from, GAP, Vec::new())])
            }
        }
    }
}

#[cfg(test)]
mod tests;
