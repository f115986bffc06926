//! Reading from a log in memory that does everything that a real one may.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

use super::*;
use crate::stream::consumer::{Memory, Mischief};
use crate::stream::{End, Memory as Kept, Stream as _};

const WAIT: Duration = Duration::from_millis(1);
const EPOCH: u64 = 1;

/// A record of a history, behind a place.
fn record(epoch: u64, prev: u64, place: u64) -> Record {
    Record {
        mark: Mark { epoch, place },
        prev,
        kind: "event".into(),
        body: place.to_string().into(),
    }
}

/// What is brought into the stream: all places of a history.
struct Bench {
    stream: Arc<Kept>,
    places: Vec<u64>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            stream: Arc::default(),
            places: Vec::new(),
        }
    }

    async fn append(&self, records: Vec<Record>) {
        let end = self.stream.end().await.unwrap();
        self.stream.append(end, records).await.unwrap();
    }

    /// Makes up further places, and brings what the stream lacks.
    async fn bring(&mut self, count: u64) {
        self.bring_some(count, usize::MAX).await;
    }

    /// The same, so many records at most. As a relay does it after a crash, too.
    async fn bring_some(&mut self, count: u64, records_max: usize) {
        for _ in 0..count {
            let last = self.places.last().copied().unwrap_or(0);
            // With holes between them.
            self.places.push(last + 1 + last % 3);
        }
        let End { last, .. } = self.stream.end().await.unwrap();
        let mut prev = last.map_or(0, |mark| mark.place);
        let missing = self.places.iter().filter(|place| **place > prev).copied();
        let missing: Vec<u64> = missing.take(records_max).collect();
        let mut records = Vec::new();
        for place in missing {
            records.push(record(EPOCH, prev, place));
            prev = place;
        }
        self.append(records).await;
    }

    fn consumer(&self) -> Memory {
        Memory::new(self.stream.clone(), "one")
    }

    fn reader(&self, begin: Begin) -> Reader<Memory> {
        Reader::new(self.consumer(), begin)
    }
}

fn places(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.mark.place).collect()
}

/// Takes and acknowledges so many.
async fn take(reader: &mut Reader<Memory>, count: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match reader.take(WAIT).await.unwrap() {
            Taken::Records(records) => taken.extend(places(&records)),
            Taken::Healed(_) => {}
            Taken::Broken(broken) => panic!("{broken:?}"),
        }
        reader.acknowledge().await.unwrap();
    }
    taken
}

/// The next thing that is said besides records.
async fn said(reader: &mut Reader<Memory>) -> Taken {
    loop {
        match reader.take(WAIT).await.unwrap() {
            Taken::Records(_) => reader.acknowledge().await.unwrap(),
            other => return other,
        }
    }
}

#[tokio::test]
async fn a_new_reader_begins_where_it_says() {
    let mut bench = Bench::new();
    bench.bring(5).await;
    let mut all = bench.reader(Begin::Beginning);
    assert_eq!(take(&mut all, 5).await, bench.places);
    assert!(all.has_all().await.unwrap());
    let late = Memory::new(bench.stream.clone(), "late");
    let mut late = Reader::new(late, Begin::Now);
    assert_eq!(late.take(WAIT).await.unwrap(), Taken::Records(Vec::new()));
    bench.bring(3).await;
    assert!(!all.has_all().await.unwrap());
    assert_eq!(take(&mut late, 3).await, bench.places[5..]);
    assert_eq!(take(&mut all, 3).await, bench.places[5..]);
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_to_the_next_reader() {
    let mut bench = Bench::new();
    bench.bring(5).await;
    let mut reader = bench.reader(Begin::Beginning);
    let taken = reader.take(WAIT).await.unwrap();
    let Taken::Records(records) = taken else {
        panic!("{taken:?}")
    };
    assert_eq!(places(&records), bench.places);
    // Killed here.
    let mut next = bench.reader(Begin::Now);
    assert_eq!(take(&mut next, 5).await, bench.places);
    // Who has them for certain is not given them again.
    bench.bring(1).await;
    let mut next = bench.reader(Begin::Behind(records[4].mark));
    assert_eq!(take(&mut next, 1).await, bench.places[5..]);
}

/// F13: what comes twice, mixed up, late, or not at all the first time, from a stream that is lost, emptied, and filled
/// again, to readers that are killed, whose consumer is removed.
#[tokio::test(start_paused = true)]
async fn each_is_given_once_in_order_whatever_is_repeated_mixed_up_lost_or_emptied() {
    for seed in 0..200 {
        read_through(seed, true).await;
    }
}

/// The same for those who do not know what they had when they begin: to them some come again, and none is skipped.
#[tokio::test(start_paused = true)]
async fn none_is_skipped_for_who_does_not_know_what_it_had() {
    for seed in 0..200 {
        read_through(seed, false).await;
    }
}

async fn read_through(seed: u64, knows: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let mischief = Mischief::new(random.next_u64(), 25);
    let mut bench = Bench::new();
    let mut have: Vec<Mark> = Vec::new();
    let reader = |bench: &Bench, have: &[Mark]| {
        let last = have.last().filter(|_| knows);
        let begin = last.map_or(Begin::Beginning, |last| Begin::Behind(*last));
        Reader::new(bench.consumer().with(mischief.clone()), begin)
    };
    let mut reading = reader(&bench, &have);
    let mut step = 0;
    while step < 300 || have.len() < bench.places.len() {
        step += 1;
        assert!(step < 5_000, "seed {seed}: it does not come to an end");
        let is_calm = step > 300;
        mischief.lock().percent = if is_calm { 0 } else { 25 };
        match random.random_range(0..12) {
            _ if is_calm => {}
            0..4 => bench.bring_some(random.random_range(0..5), 3).await,
            4 => bench.stream.wipe(),
            5 => bench.stream.drop_up_to(u64::MAX),
            6 => _ = bench.consumer().remove().await,
            7 => reading = reader(&bench, &have),
            _ => {}
        }
        match reading.take(WAIT).await {
            // Killed before it was written down.
            Ok(Taken::Records(_)) if !is_calm && random.random_range(0..5) == 0 => {
                reading = reader(&bench, &have);
            }
            Ok(Taken::Records(records)) => {
                for record in records {
                    let is_had = !knows && have.contains(&record.mark);
                    if !is_had {
                        let next = bench.places[have.len()];
                        assert_eq!(record.mark.place, next, "seed {seed}, step {step}");
                        have.push(record.mark);
                    }
                }
                _ = reading.acknowledge().await;
            }
            Ok(Taken::Healed(_)) | Err(Trouble::Away(_)) => {}
            // It is forgotten, and begun anew.
            Ok(Taken::Broken(Break::Unknown(_))) if !knows => {
                _ = bench.consumer().remove().await;
                reading = reader(&bench, &have);
            }
            other => panic!("seed {seed}, step {step}: {other:?}"),
        }
        bench.bring_some(0, random.random_range(0..20)).await;
    }
}

#[tokio::test]
async fn what_the_stream_dropped_before_it_was_taken_is_said_and_not_skipped() {
    let mut bench = Bench::new();
    bench.bring(4).await;
    let mut reader = bench.reader(Begin::Beginning);
    take(&mut reader, 4).await;
    bench.bring(6).await;
    bench.stream.drop_up_to(7);
    let next = Mark {
        epoch: EPOCH,
        place: bench.places[7],
    };
    let broken = Taken::Broken(Break::Dropped(next));
    assert_eq!(said(&mut reader).await, broken);
    assert_eq!(
        said(&mut reader).await,
        broken,
        "it is said until it is accepted"
    );
    // Nor by the next reader, though the consumer was moved over it.
    let last = Mark {
        epoch: EPOCH,
        place: bench.places[3],
    };
    let mut next_reader = bench.reader(Begin::Behind(last));
    assert_eq!(said(&mut next_reader).await, broken);
    // Who does not know what it has can not know what is missing.
    let unknown = Taken::Broken(Break::Unknown(next));
    assert_eq!(said(&mut bench.reader(Begin::Now)).await, unknown);
    reader.go_on();
    assert_eq!(take(&mut reader, 3).await, bench.places[7..]);
}

#[tokio::test]
async fn what_was_dropped_after_it_was_taken_is_not_missing() {
    let mut bench = Bench::new();
    bench.bring(4).await;
    let mut reader = bench.reader(Begin::Beginning);
    take(&mut reader, 4).await;
    bench.stream.drop_up_to(4);
    bench.append(vec![record(EPOCH, bench.places[3], 90)]).await;
    assert_eq!(take(&mut reader, 1).await, [90]);
}

#[tokio::test]
async fn a_gap_is_said_unless_everything_before_it_was_had() {
    let bench = Bench::new();
    let first = vec![record(EPOCH, 0, 1), record(EPOCH, 1, 5)];
    bench.append(first).await;
    let mut reader = bench.reader(Begin::Beginning);
    take(&mut reader, 2).await;
    bench
        .append(vec![record(EPOCH, 8, 8), record(EPOCH, 8, 9)])
        .await;
    let place = 8;
    let gap = Mark {
        epoch: EPOCH,
        place,
    };
    assert_eq!(said(&mut reader).await, Taken::Broken(Break::Gap(gap)));
    reader.go_on();
    assert_eq!(take(&mut reader, 2).await, [8, 9]);
    // The stream is filled anew with what is still kept, which begins behind a gap that was had.
    bench.stream.wipe();
    let kept = vec![
        record(EPOCH, 8, 8),
        record(EPOCH, 8, 9),
        record(EPOCH, 9, 12),
    ];
    bench.append(kept).await;
    assert_eq!(said(&mut reader).await, Taken::Healed(Healed::Stream));
    assert_eq!(take(&mut reader, 1).await, [12]);
}

#[tokio::test]
async fn another_history_is_said() {
    let bench = Bench::new();
    bench
        .append(vec![record(1, 0, 7), record(2, 0, 3), record(2, 3, 4)])
        .await;
    let mut reader = bench.reader(Begin::Beginning);
    let restarted = Break::Restarted(Mark { epoch: 2, place: 3 });
    assert_eq!(said(&mut reader).await, Taken::Broken(restarted));
    reader.go_on();
    assert_eq!(take(&mut reader, 2).await, [3, 4]);
    // It has all of both, though the consumer is gone that remembers it.
    assert!(bench.consumer().remove().await.unwrap());
    let mut reader = bench.reader(Begin::Behind(Mark { epoch: 2, place: 3 }));
    assert_eq!(take(&mut reader, 1).await, [4]);
}

#[tokio::test]
async fn what_was_put_right_is_said() {
    let mut bench = Bench::new();
    bench.bring(3).await;
    let mut reader = bench.reader(Begin::Beginning);
    take(&mut reader, 3).await;
    assert!(bench.consumer().remove().await.unwrap());
    assert_eq!(said(&mut reader).await, Taken::Healed(Healed::Consumer));
    bench.stream.drop_up_to(u64::MAX);
    bench.bring(2).await;
    assert_eq!(said(&mut reader).await, Taken::Healed(Healed::Emptied));
    assert_eq!(take(&mut reader, 2).await, bench.places[3..]);
    bench.stream.wipe();
    bench.bring(1).await;
    assert_eq!(said(&mut reader).await, Taken::Healed(Healed::Stream));
    assert_eq!(take(&mut reader, 1).await, bench.places[5..]);
}

/// What came before the stream was emptied, and what is in it since, may come together.
#[tokio::test]
async fn nothing_that_follows_is_dropped_with_what_came_again() {
    let mut bench = Bench::new();
    bench.bring(4).await;
    let mut reader = bench.reader(Begin::Beginning);
    take(&mut reader, 4).await;
    reader.aside.insert(5, record(EPOCH, bench.places[3], 90));
    reader.aside.insert(6, record(EPOCH, 0, 1));
    reader.aside.insert(7, record(EPOCH, 90, 91));
    let taken = reader.take(WAIT).await.unwrap();
    assert_eq!(
        taken,
        Taken::Records(vec![record(EPOCH, bench.places[3], 90)])
    );
    assert_eq!(
        reader.take(WAIT).await.unwrap(),
        Taken::Healed(Healed::Emptied)
    );
    let taken = reader.take(WAIT).await.unwrap();
    assert_eq!(taken, Taken::Records(vec![record(EPOCH, 90, 91)]));
}

/// The one that lacks what the other has acknowledged is told so. Nothing is skipped for it.
#[tokio::test]
async fn of_two_readers_of_one_name_none_skips_what_the_other_took() {
    let mut bench = Bench::new();
    bench.bring(3).await;
    let mut one = bench.reader(Begin::Beginning);
    take(&mut one, 3).await;
    let mut two = bench.reader(Begin::Beginning);
    assert_eq!(two.take(WAIT).await.unwrap(), Taken::Records(Vec::new()));
    bench.bring(3).await;
    take(&mut one, 3).await;
    bench.bring(1).await;
    assert_eq!(two.take(WAIT).await, Err(Trouble::Shared));
}
