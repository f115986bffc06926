//! What comes into a stream from logs in memory.

use tertulia_kit::clock::ManualClock;
use tertulia_kit::stream::Memory as Kept;

use super::*;
use crate::chats::memory::Memory;
use crate::chats::suite::bench::{ANA, BEGIN_MS, BEN, command, message, open_direct};
use crate::chats::{Act, ChatStore as _, Committed, Epoch, Fact};
use crate::feed::model::Keep;
use crate::ids::ChatId;

struct Deaf;

impl Committed for Deaf {
    fn committed(&self, _: Vec<Fact>) {}
}

struct Bench {
    store: Arc<Memory>,
    stream: Arc<Kept>,
    relay: Arc<Relay>,
}

fn encode(entry: &Entry) -> Vec<u8> {
    entry.event.seq.to_string().into()
}

impl Bench {
    async fn new() -> Bench {
        Bench::of(Epoch(7), Arc::default()).await
    }

    async fn of(epoch: Epoch, stream: Arc<Kept>) -> Bench {
        let store = Memory::new(epoch, Arc::new(Deaf), ManualClock::at(BEGIN_MS));
        let opened = command(ANA, BEGIN_MS, open_direct(ANA, BEN, 1));
        store.write(opened).await.unwrap();
        let relay = Relay::new(store.clone(), stream.clone(), encode);
        Bench {
            store,
            stream,
            relay,
        }
    }

    async fn say(&self, n: i64) {
        let act = Act::Send(message(ChatId(1), ANA, n));
        self.store.write(command(ANA, BEGIN_MS, act)).await.unwrap();
    }

    /// Brings everything.
    async fn bring(&self, seen: &mut Seen) {
        while self.relay.step(seen).await.unwrap() {}
    }

    /// What the stream has: the seqs of events, and `gap`.
    fn has(&self) -> Vec<String> {
        let records = self.stream.records().into_iter();
        let words = records.map(|record| match &*record.kind {
            EVENT => String::from_utf8(record.body).unwrap(),
            kind => kind.to_owned(),
        });
        words.collect()
    }
}

#[tokio::test]
async fn each_event_is_brought_once_whoever_begins_anew() {
    let bench = Bench::new().await;
    let mut seen = None;
    bench.say(1).await;
    bench.bring(&mut seen).await;
    bench.say(2).await;
    bench.say(3).await;
    // As after a crash: nothing is remembered but what is in the stream.
    bench.bring(&mut None).await;
    bench.bring(&mut seen).await;
    assert_eq!(bench.has(), ["1", "2", "3"]);
    assert_eq!(bench.relay.brought.get(), 3);
}

#[tokio::test]
async fn who_stood_still_while_somebody_else_brought_events_brings_none_of_them_again() {
    let bench = Bench::new().await;
    bench.say(1).await;
    let mut still = None;
    bench.bring(&mut still).await;
    bench.say(2).await;
    bench.bring(&mut None).await;
    bench.say(3).await;
    // It believes that the stream ends behind the first.
    assert!(bench.relay.step(&mut still).await.unwrap());
    assert_eq!(bench.has(), ["1", "2"]);
    bench.bring(&mut still).await;
    assert_eq!(bench.has(), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_emptied_is_filled_with_what_is_kept() {
    let bench = Bench::new().await;
    let mut seen = None;
    for n in 1..=3 {
        bench.say(n).await;
    }
    bench.bring(&mut seen).await;
    bench.stream.wipe();
    bench.bring(&mut seen).await;
    assert!(bench.has().is_empty(), "it is not asked at every step");
    tokio::time::advance(LOOK_AGAIN).await;
    bench.bring(&mut seen).await;
    assert_eq!(bench.has(), ["1", "2", "3"]);
    bench.stream.wipe();
    bench.say(4).await;
    bench.bring(&mut seen).await;
    assert_eq!(bench.has(), ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_said_in_the_stream() {
    let bench = Bench::new().await;
    bench.say(1).await;
    bench.bring(&mut None).await;
    bench.say(2).await;
    let keep = Keep {
        since_ms: 0,
        commits_max: 0,
    };
    assert!(bench.store.drop_old(keep).await.unwrap() > 0);
    bench.say(3).await;
    bench.bring(&mut None).await;
    assert_eq!(bench.has(), ["1", "gap", "3"]);
    let [event, gap, next] = &bench.stream.records()[..] else {
        panic!("there are three");
    };
    assert_eq!(event.prev, 0);
    assert!(
        event.mark.place < gap.mark.place,
        "what is missing is between"
    );
    assert_eq!(gap.prev, gap.mark.place, "it follows nothing");
    assert_eq!(next.prev, gap.mark.place);
}

#[tokio::test]
async fn each_record_says_which_place_it_follows() {
    let bench = Bench::new().await;
    let mut seen = None;
    for n in 1..=4 {
        bench.say(n).await;
        if n % 2 == 0 {
            bench.bring(&mut seen).await;
        }
    }
    let records = bench.stream.records();
    let places = std::iter::once(0).chain(records.iter().map(|record| record.mark.place));
    let prevs: Vec<u64> = records.iter().map(|record| record.prev).collect();
    assert_eq!(prevs, places.take(4).collect::<Vec<_>>());
}

#[tokio::test]
async fn another_history_is_brought_from_its_beginning() {
    let bench = Bench::new().await;
    bench.say(1).await;
    bench.bring(&mut None).await;
    let bench = Bench::of(Epoch(8), bench.stream).await;
    bench.say(1).await;
    bench.say(2).await;
    bench.bring(&mut None).await;
    assert_eq!(bench.has(), ["1", "1", "2"]);
    let epochs: Vec<u64> = bench
        .stream
        .records()
        .iter()
        .map(|record| record.mark.epoch)
        .collect();
    assert_eq!(epochs, [7, 8, 8]);
}
