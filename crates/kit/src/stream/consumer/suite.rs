//! What every [`Consumer`] keeps.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "this is a test, only compiled where an adapter asks for it"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Consumer, Pulled, Standing};
use crate::stream::suite::record;
use crate::stream::{Record, Stream};

/// How long it is waited for records at once.
const WAIT: Duration = Duration::from_millis(50);

/// Takes until all of these numbers have come; gives them with what came.
pub async fn pulled(consumer: &mut dyn Consumer, wanted: &[u64]) -> Vec<(u64, Record)> {
    let mut came: Vec<(u64, Record)> = Vec::new();
    let mut missing: BTreeSet<u64> = wanted.iter().copied().collect();
    while !missing.is_empty() {
        if let Pulled::Records(records) = consumer.pull(WAIT).await.unwrap() {
            for (number, _) in &records {
                missing.remove(number);
            }
            came.extend(records);
        }
    }
    came
}

/// Checks a consumer of an empty stream. `again` is of the same name, for somebody else.
pub async fn run(stream: &dyn Stream, consumer: &mut dyn Consumer, again: &mut dyn Consumer) {
    let empty = stream.end().await.unwrap();
    let span = consumer.span().await.unwrap().unwrap();
    assert_eq!((span.first, span.last), (1, 0));
    assert_eq!(consumer.at(1).await.unwrap(), None);
    let records: Vec<Record> = (1..=20).map(|n| record(n * 10)).collect();
    stream.append(empty, records.clone()).await.unwrap();
    let span = consumer.span().await.unwrap().unwrap();
    assert_eq!((span.first, span.last), (1, 20));
    assert_eq!(again.span().await.unwrap().unwrap().made, span.made);
    assert_eq!(consumer.at(7).await.unwrap(), Some((7, record(70).mark)));
    assert_eq!(consumer.at(21).await.unwrap(), None);

    // One that is not there is not handed anything.
    assert_eq!(consumer.standing().await.unwrap(), None);
    assert_eq!(consumer.pull(WAIT).await.unwrap(), Pulled::Over);
    consumer.make(5).await.unwrap();
    assert!(again.make(3).await.is_err(), "it is there");
    let new = Standing {
        behind: 5,
        floor: 5,
        is_new: true,
    };
    assert_eq!(again.standing().await.unwrap(), Some(new));

    // What is behind comes, whole, and until it is acknowledged again.
    let wanted: Vec<u64> = (6..=20).collect();
    for (number, came) in pulled(consumer, &wanted).await {
        let at = usize::try_from(number).unwrap() - 1;
        assert_eq!(came, records[at]);
    }
    let standing = consumer.standing().await.unwrap().unwrap();
    assert_eq!((standing.floor, standing.is_new), (5, false));
    pulled(consumer, &wanted).await;
    assert_eq!(consumer.acknowledge(12).await.unwrap(), Some(12));
    assert_eq!(again.standing().await.unwrap().unwrap().floor, 12);
    let wanted: Vec<u64> = (13..=20).collect();
    pulled(consumer, &wanted).await;

    // Who removes it takes it from all.
    assert!(again.remove().await.unwrap());
    assert!(!again.remove().await.unwrap());
    assert_eq!(consumer.standing().await.unwrap(), None);
    while consumer.pull(WAIT).await.unwrap() != Pulled::Over {}
    consumer.make(19).await.unwrap();
    pulled(consumer, &[20]).await;
    assert_eq!(consumer.acknowledge(20).await.unwrap(), Some(20));
    assert_eq!(again.standing().await.unwrap().unwrap().floor, 20);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Memory;

    #[tokio::test]
    async fn memory_keeps_the_promises_of_a_consumer() {
        let stream = Arc::new(crate::stream::Memory::default());
        let mut one = Memory::new(stream.clone(), "one");
        let mut again = Memory::new(stream.clone(), "one");
        super::run(&*stream, &mut one, &mut again).await;
    }
}
