//! The feed of a deployment, on logs in memory.

use parking_lot::Mutex;
use tertulia_kit::clock::ManualClock;

use super::memory::Remembered;
use super::*;
use crate::access::{Authorizer, Members, Permit, Rule, Who};
use crate::chats::memory::Memory;
use crate::chats::suite::bench::{ANA, BEGIN_MS, BEN, command, message, open_direct, standing};
use crate::chats::{Act, ChatKind, ChatStore, Committed, Epoch, Fact, Role};
use crate::ids::{ChatId, UserId};

struct Deaf;

impl Committed for Deaf {
    fn committed(&self, _: Vec<Fact>) {}
}

mod memory_keeps_the_word_of_the_ports {
    use async_trait::async_trait;

    use super::*;

    /// A store that is still there when it is opened again, and whether what it commits is in the feed.
    #[derive(Default)]
    struct Kept(Mutex<Option<(Arc<Memory>, bool)>>);

    #[async_trait]
    impl crate::feed::suite::Place for Kept {
        async fn open(
            &self,
            is_fed: bool,
            clock: SharedClock,
        ) -> (Arc<dyn ChatStore>, Arc<dyn Outbox>) {
            let make = || (Memory::new(Epoch(7), Arc::new(Deaf), clock), is_fed);
            let (store, was_fed) = self.0.lock().take().unwrap_or_else(make);
            if is_fed && !was_fed {
                store.keep_from(Place::behind(store.position().await.unwrap()));
            }
            *self.0.lock() = Some((Arc::clone(&store), is_fed));
            (store.clone(), store)
        }
    }

    crate::outbox_suite!(Kept::default());

    mod consumers {
        use super::*;
        crate::consumers_suite!(((), Arc::new(Remembered::default())));
    }
}

struct Nobody;

#[async_trait::async_trait]
impl Members for Nobody {
    async fn role(&self, _: ChatId, _: UserId) -> Result<Option<(ChatKind, Role)>> {
        Ok(None)
    }
}

struct Bench {
    feed: Arc<Feed>,
    store: Arc<Memory>,
    clock: Arc<ManualClock>,
    node: NodeCaller,
}

impl Bench {
    async fn new() -> Bench {
        Bench::with(Epoch(7), Arc::new(Remembered::default())).await
    }

    async fn with(epoch: Epoch, consumers: Arc<Remembered>) -> Bench {
        let clock = ManualClock::at(BEGIN_MS);
        let store = Memory::new(epoch, Arc::new(Deaf), clock.clone());
        let options = Options {
            keep: Duration::from_secs(3_600),
            keep_commits_max: 1_000,
        };
        let authorizer = Authorizer::new(Arc::new(Nobody));
        let permit = authorizer.authorize(Rule::Node, Some(Who::Node)).await;
        let Ok(Permit::Node(node)) = permit else {
            panic!("a node is allowed");
        };
        let opened = command(ANA, BEGIN_MS, open_direct(ANA, BEN, 1));
        standing(store.write(opened).await.unwrap());
        Bench {
            feed: Feed::new(Some(store.clone()), consumers, options, clock.clone()),
            store,
            clock,
            node,
        }
    }

    async fn say(&self, n: i64) {
        use tertulia_kit::clock::Clock as _;
        let act = Act::Send(message(ChatId(1), ANA, n));
        let command = command(ANA, self.clock.now_ms(), act);
        self.store.write(command).await.unwrap();
    }

    async fn make(&self, name: &str, begin: Begin) -> Consumer {
        self.feed.make(&self.node, name, begin).await.unwrap()
    }

    async fn fetch(&self, name: &str) -> Result<Batch> {
        let fetched = self.feed.fetch(&self.node, name, 10, Duration::ZERO);
        fetched.await
    }

    async fn seqs(&self, name: &str) -> Vec<i64> {
        let batch = self.fetch(name).await.unwrap();
        batch.entries.iter().map(|entry| entry.event.seq).collect()
    }

    /// Takes what there is.
    async fn take(&self, name: &str) -> Vec<i64> {
        let batch = self.fetch(name).await.unwrap();
        if let Some(last) = batch.entries.last() {
            let done = self
                .feed
                .acknowledge(&self.node, batch.consumer, last.place);
            done.await.unwrap();
        }
        batch.entries.iter().map(|entry| entry.event.seq).collect()
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_is_given_again() {
    let bench = Bench::new().await;
    bench.say(1).await;
    bench.make("all", Begin::Beginning).await;
    bench.make("new", Begin::Now).await;
    bench.say(2).await;
    assert_eq!(bench.seqs("all").await, [1, 2]);
    assert_eq!(bench.seqs("new").await, [2]);
    assert_eq!(bench.take("all").await, [1, 2]);
    assert!(bench.seqs("all").await.is_empty());
    bench.say(3).await;
    assert_eq!(bench.take("all").await, [3]);
    assert_eq!(bench.take("new").await, [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_given_what_comes_meanwhile() {
    let bench = Bench::new().await;
    bench.make("all", Begin::Beginning).await;
    let waiting = bench
        .feed
        .fetch(&bench.node, "all", 10, Duration::from_secs(60));
    // Who waits is asked first.
    let (batch, ()) = tokio::join!(biased; waiting, bench.say(1));
    assert_eq!(batch.unwrap().entries.len(), 1);
    // Nobody waits for ever.
    bench.make("new", Begin::Now).await;
    let asked = Instant::now();
    let fetched = bench.feed.fetch(&bench.node, "new", 10, Duration::MAX / 4);
    assert_eq!(fetched.await.unwrap().entries, []);
    assert!(asked.elapsed() <= WAIT_MAX);
}

#[tokio::test]
async fn who_is_behind_what_is_kept_is_told_so_and_skips_nothing() {
    let bench = Bench::new().await;
    bench.make("slow", Begin::Beginning).await;
    bench.make("quick", Begin::Beginning).await;
    bench.say(1).await;
    assert_eq!(bench.take("quick").await, [1]);
    bench.clock.advance_ms(3_600_001);
    bench.say(2).await;
    bench.feed.drop_old().await.unwrap();
    assert_eq!(bench.feed.dropped.get(), 1);
    assert_eq!(bench.take("quick").await, [2]);
    for _ in 0..2 {
        let gap = bench.fetch("slow").await.unwrap_err();
        assert_eq!(gap.reason(), "FEED_GAP");
    }
    assert_eq!(bench.feed.gaps.get(), 2);
    let standings = bench.feed.consumers(&bench.node).await.unwrap();
    let stuck: Vec<_> = standings
        .iter()
        .map(|one| (one.consumer.name.as_str(), one.is_stuck))
        .collect();
    assert_eq!(stuck, [("quick", false), ("slow", true)]);
    // To be made again without being removed first would be to skip.
    bench.make("slow", Begin::Beginning).await;
    assert!(bench.fetch("slow").await.is_err());
    bench.feed.remove(&bench.node, "slow").await.unwrap();
    bench.make("slow", Begin::Beginning).await;
    assert_eq!(bench.take("slow").await, [2]);
}

#[tokio::test]
async fn a_consumer_of_another_history_is_told_so() {
    let consumers = Arc::new(Remembered::default());
    let bench = Bench::with(Epoch(7), Arc::clone(&consumers)).await;
    bench.make("all", Begin::Beginning).await;
    let bench = Bench::with(Epoch(8), consumers).await;
    bench.say(1).await;
    let restarted = bench.fetch("all").await.unwrap_err();
    assert_eq!(restarted.reason(), "FEED_RESTARTED");
}

#[tokio::test]
async fn a_place_that_nobody_was_given_is_refused() {
    let bench = Bench::new().await;
    bench.say(1).await;
    let made = bench.make("all", Begin::Beginning).await;
    let Span { end, .. } = bench.store.span().await.unwrap();
    let ahead = Place(end.0 + 1);
    let refused = bench.feed.acknowledge(&bench.node, made.id, ahead).await;
    assert_eq!(refused.unwrap_err().reason(), "INVALID_REQUEST");
    assert_eq!(bench.seqs("all").await, [1]);
}

#[tokio::test]
async fn who_follows_a_consumer_that_was_made_again_does_not_move_it() {
    let bench = Bench::new().await;
    bench.say(1).await;
    bench.make("all", Begin::Beginning).await;
    let old = bench.fetch("all").await.unwrap();
    bench.feed.remove(&bench.node, "all").await.unwrap();
    bench.make("all", Begin::Beginning).await;
    let late = bench
        .feed
        .acknowledge(&bench.node, old.consumer, old.entries[0].place);
    assert_eq!(late.await.unwrap_err().reason(), "CONSUMER_NOT_FOUND");
    assert_eq!(bench.seqs("all").await, [1]);
}

#[tokio::test]
async fn without_a_feed_every_call_is_refused() {
    let bench = Bench::new().await;
    let feed = Feed::new(
        None,
        Arc::new(Remembered::default()),
        bench.feed.options,
        bench.clock.clone(),
    );
    let made = feed.make(&bench.node, "all", Begin::Now).await;
    assert_eq!(made.unwrap_err().reason(), "FEED_OFF");
    let fetched = feed.fetch(&bench.node, "all", 1, Duration::ZERO).await;
    assert_eq!(fetched.unwrap_err().reason(), "FEED_OFF");
    feed.drop_old().await.unwrap();
}

#[tokio::test]
async fn there_are_so_many_consumers_and_no_more() {
    let bench = Bench::new().await;
    for n in 0..CONSUMERS_MAX {
        bench.make(&format!("c{n}"), Begin::Now).await;
    }
    let one_more = bench.feed.make(&bench.node, "more", Begin::Now).await;
    assert_eq!(one_more.unwrap_err().reason(), "TOO_MANY");
    bench.make("c5", Begin::Now).await;
}

#[test]
fn the_events_of_one_position_are_counted_on() {
    let commits = [
        (Position(3), vec!["a", "b"]),
        (Position(4), vec!["c"]),
        (Position(4), vec!["d", "e"]),
        (Position(9), vec!["f"]),
    ];
    let all: Vec<_> = places(commits.clone(), Place(0)).collect();
    let expected = [(3, 0), (3, 1), (4, 0), (4, 1), (4, 2), (9, 0)];
    let expected = expected.map(|(position, n)| Place::of(Position(position), n));
    assert_eq!(
        all.iter().map(|(place, _)| *place).collect::<Vec<_>>(),
        expected
    );
    let rest: Vec<_> = places(commits, expected[2]).map(|(_, what)| what).collect();
    assert_eq!(rest, ["d", "e", "f"]);
    assert!(Place::behind(Position(4)) > expected[4] && Place::behind(Position(4)) < expected[5]);
}
