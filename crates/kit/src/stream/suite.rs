//! What every [`Stream`] keeps.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "this is a test, only compiled where an adapter asks for it"
)]

use super::{End, Mark, Record, Stream, Trouble};

/// A record from a place of the first history, the one before which is none.
pub fn record(place: u64) -> Record {
    Record {
        mark: Mark { epoch: 1, place },
        prev: 0,
        kind: "event".into(),
        body: format!("what is at {place}").into(),
    }
}

/// Checks an empty one. `again` is the same log for somebody else.
pub async fn run(stream: &dyn Stream, again: &dyn Stream) {
    let empty = End {
        number: 0,
        last: None,
    };
    assert_eq!(stream.end().await.unwrap(), empty);
    assert_eq!(again.end().await.unwrap(), empty);
    let first = stream.append(empty, vec![record(3), record(5)]).await;
    let first = first.unwrap();
    let mark = record(5).mark;
    assert_eq!((first.number, first.last), (2, Some(mark)));
    assert_eq!(again.end().await.unwrap(), first);

    // Who believes in an end that is over appends nothing.
    let late = again.append(empty, vec![record(3), record(5)]).await;
    assert_eq!(late, Err(Trouble::Moved));
    let ahead = End { number: 7, ..first };
    let refused = again.append(ahead, vec![record(8)]).await;
    assert_eq!(refused, Err(Trouble::Moved));
    assert_eq!(stream.end().await.unwrap(), first);
    let second = again.append(first, vec![record(8)]).await.unwrap();
    assert_eq!((second.number, second.last), (3, Some(record(8).mark)));
    let overtaken = stream.append(first, vec![record(8)]).await;
    assert_eq!(overtaken, Err(Trouble::Moved));
    assert_eq!(stream.end().await.unwrap(), second);

    // Many at once, in their order.
    let many = (10..200).map(record).collect();
    let end = stream.append(second, many).await.unwrap();
    assert_eq!((end.number, end.last), (193, Some(record(199).mark)));
    assert_eq!(again.end().await.unwrap(), end);
}
