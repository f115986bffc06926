//! What an outbox gives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tertulia_kit::clock::ManualClock;
use tokio::time::timeout;

use super::Place as Kept;
use crate::chats::suite::bench::*;
use crate::chats::{Act, ChatStore, Draft, Seq};
use crate::feed::model::*;
use crate::feed::ports::Outbox;
use crate::ids::{ChatId, UserId};

/// How long what was committed may be held back.
const PATIENCE: Duration = Duration::from_secs(20);
const ALL: Bounds = Bounds {
    events_max: 500,
    bytes_max: 1 << 20,
};
const START: Place = Place(0);

/// Logs with an outbox, open.
struct Logs {
    store: Arc<dyn ChatStore>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<ManualClock>,
}

impl Logs {
    async fn at(place: &dyn Kept) -> Logs {
        Logs::open(place, true, ManualClock::at(BEGIN_MS)).await
    }

    async fn open(place: &dyn Kept, is_fed: bool, clock: Arc<ManualClock>) -> Logs {
        let (store, outbox) = place.open(is_fed, clock.clone()).await;
        Logs {
            store,
            outbox,
            clock,
        }
    }

    /// Closes it and opens it again.
    async fn reopened(self, place: &dyn Kept, is_fed: bool) -> Logs {
        let clock = Arc::clone(&self.clock);
        drop(self);
        Logs::open(place, is_fed, clock).await
    }

    async fn act(&self, actor: UserId, act: Act) {
        use tertulia_kit::clock::Clock as _;
        let command = command(actor, self.clock.now_ms(), act);
        self.store.write(command).await.unwrap();
    }

    async fn direct(&self, a: UserId, b: UserId, id: i64) -> ChatId {
        let opened = command(a, BEGIN_MS, open_direct(a, b, id));
        standing(self.store.write(opened).await.unwrap()).chat.id
    }

    async fn say(&self, chat: ChatId, sender: UserId, n: i64) {
        self.act(sender, Act::Send(message(chat, sender, n))).await;
    }

    /// Something that appends nothing to a chat.
    async fn draft(&self, chat: ChatId, actor: UserId) {
        let draft = Some(Arc::new(Draft {
            text: "hm".into(),
            reply_to: None,
            at_ms: BEGIN_MS,
        }));
        self.act(actor, Act::Draft { chat, draft }).await;
    }

    async fn after(&self, place: Place, bounds: Bounds) -> Found {
        self.outbox.after(place, bounds).await.unwrap()
    }

    /// What follows a place until there are `count`, in parts that keep the bounds.
    async fn follow(&self, mut place: Place, count: usize, bounds: Bounds) -> Vec<Entry> {
        let mut all: Vec<Entry> = Vec::new();
        let following = async {
            while all.len() < count {
                let Found::Events(part) = self.after(place, bounds).await else {
                    panic!("a gap behind {place:?}");
                };
                assert!(part.len() <= bounds.events_max);
                if part.is_empty() {
                    // What was committed last may wait for somebody to begin something.
                    self.draft(ChatId(1), ANA).await;
                }
                for entry in part {
                    assert!(entry.place > place, "{entry:?} is not behind {place:?}");
                    place = entry.place;
                    all.push(entry);
                }
            }
        };
        timeout(PATIENCE, following)
            .await
            .expect("not all events are in the feed");
        assert_eq!(all.len(), count, "{all:?}");
        all
    }

    /// The feed says of each of these chats what its log says, and nothing else.
    async fn agrees(&self, entries: &[Entry], chats: &[ChatId]) {
        let mut by_chat: BTreeMap<ChatId, Vec<_>> = BTreeMap::new();
        for Entry { event, .. } in entries {
            by_chat
                .entry(event.chat)
                .or_default()
                .push(Arc::clone(event));
        }
        for chat in chats {
            let log = whole_log(&*self.store, *chat).await;
            assert_eq!(by_chat.remove(chat).unwrap_or_default(), log, "{chat}");
        }
        assert!(by_chat.is_empty(), "{by_chat:?}");
    }
}

fn seqs_of(entries: &[Entry]) -> Vec<(ChatId, Seq)> {
    let of = |entry: &Entry| (entry.event.chat, entry.event.seq);
    entries.iter().map(of).collect()
}

pub async fn the_feed_has_what_the_logs_have_in_their_order(place: &dyn Kept) {
    let logs = Logs::at(place).await;
    assert_eq!(logs.after(START, ALL).await, Found::Events(Vec::new()));
    let one = logs.direct(ANA, BEN, 1).await;
    let two = logs.direct(ANA, CLEO, 2).await;
    let mut said = Vec::new();
    for n in 1..=6 {
        let chat = if n % 3 == 0 { two } else { one };
        logs.say(chat, ANA, n).await;
        said.push((chat, whole_log(&*logs.store, chat).await.len() as Seq));
    }
    logs.act(ANA, react(one, 1, "👍", true)).await;
    said.push((one, 5));
    let all = logs.follow(START, 7, ALL).await;
    assert_eq!(seqs_of(&all), said);
    logs.agrees(&all, &[one, two]).await;
    let rest = logs.follow(all[4].place, 2, ALL).await;
    assert_eq!(rest, all[5..]);
    let end = logs.outbox.span().await.unwrap();
    assert!(end.from < all[0].place && end.end >= all[6].place);
}

pub async fn who_follows_while_others_write_meets_every_event_once(place: &dyn Kept) {
    const EACH: i64 = 60;
    let logs = Logs::at(place).await;
    let mut chats = Vec::new();
    for id in 1..=4 {
        chats.push(logs.direct(ANA, UserId(20 + id), id).await);
    }
    let writing = chats.iter().enumerate().map(|(at, chat)| {
        let (logs, first) = (&logs, at as i64 * EACH);
        async move {
            for n in 0..EACH {
                logs.say(*chat, ANA, first + n).await;
            }
        }
    });
    let few = Bounds {
        events_max: 7,
        ..ALL
    };
    let (_, all) = tokio::join!(
        futures::future::join_all(writing),
        logs.follow(START, 4 * EACH as usize, few)
    );
    logs.agrees(&all, &chats).await;
}

pub async fn a_part_is_as_large_as_was_asked_and_never_empty(place: &dyn Kept) {
    let logs = Logs::at(place).await;
    let chat = logs.direct(ANA, BEN, 1).await;
    for n in 1..=9 {
        logs.say(chat, ANA, n).await;
    }
    let all = logs.follow(START, 9, ALL).await;
    for (events_max, bytes_max, count) in [(4, 1 << 20, 4), (9, 1, 1), (100, 0, 1), (1, 100, 1)] {
        let bounds = Bounds {
            events_max,
            bytes_max,
        };
        let part = logs.after(START, bounds).await;
        assert_eq!(part, Found::Events(all[..count].to_vec()), "{bounds:?}");
    }
}

pub async fn what_was_committed_together_is_given_in_parts(place: &dyn Kept) {
    let logs = Logs::at(place).await;
    let (one, two) = (
        logs.direct(ANA, BEN, 1).await,
        logs.direct(ANA, CLEO, 2).await,
    );
    let both = |n: i64| {
        [one, two].map(|chat| {
            let n = 10 * n + chat.0;
            command(ANA, BEGIN_MS, Act::Send(message(chat, ANA, n)))
        })
    };
    let done = logs.store.write_all((1..=5).flat_map(both).collect()).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let all = logs.follow(START, 10, ALL).await;
    let single = Bounds {
        events_max: 1,
        ..ALL
    };
    assert_eq!(logs.follow(START, 10, single).await, all);
    for (at, entry) in all.iter().enumerate() {
        let rest = Found::Events(all[at + 1..].to_vec());
        assert_eq!(logs.after(entry.place, ALL).await, rest);
    }
    logs.agrees(&all, &[one, two]).await;
}

pub async fn what_is_no_event_is_not_in_the_feed(place: &dyn Kept) {
    let logs = Logs::at(place).await;
    let chat = logs.direct(ANA, BEN, 1).await;
    logs.say(chat, ANA, 1).await;
    logs.act(BEN, mark(chat, 1, Some(1), true)).await;
    logs.draft(chat, BEN).await;
    logs.say(chat, ANA, 2).await;
    let all = logs.follow(START, 2, ALL).await;
    logs.agrees(&all, &[chat]).await;
    assert_eq!(logs.after(all[1].place, ALL).await, Found::Events(vec![]));
}

pub async fn a_deleted_message_leaves_the_feed_as_well(place: &dyn Kept) {
    let logs = Logs::at(place).await;
    let chat = logs.direct(ANA, BEN, 1).await;
    logs.say(chat, ANA, 1).await;
    let before = logs.follow(START, 1, ALL).await;
    assert!(!said(&before[0].event).text.is_empty());
    let messages = vec![1];
    logs.act(ANA, Act::Delete { chat, messages }).await;
    let after = logs.follow(START, 2, ALL).await;
    assert_eq!(after[0].place, before[0].place);
    assert!(said(&after[0].event).text.is_empty());
}

pub async fn places_are_the_same_after_reopening(place: &dyn Kept) {
    let logs = Logs::at(place).await;
    let chat = logs.direct(ANA, BEN, 1).await;
    for n in 1..=4 {
        logs.say(chat, ANA, n).await;
    }
    let (epoch, before) = (logs.outbox.epoch(), logs.follow(START, 4, ALL).await);
    let logs = logs.reopened(place, true).await;
    assert_eq!(logs.outbox.epoch(), epoch);
    assert_eq!(logs.follow(START, 4, ALL).await, before);
    logs.say(chat, ANA, 5).await;
    let all = logs.follow(before[2].place, 2, ALL).await;
    assert_eq!((&all[0], all[1].event.seq), (&before[3], 5));
}

/// Has the old ones dropped, all of them.
async fn dropped(logs: &Logs, keep: Keep) -> u64 {
    let mut sum = 0;
    loop {
        match logs.outbox.drop_old(keep).await.unwrap() {
            0 => return sum,
            count => sum += count,
        }
    }
}

pub async fn what_was_dropped_is_a_gap_and_nothing_else_is(place: &dyn Kept) {
    let logs = Logs::at(place).await;
    let chat = logs.direct(ANA, BEN, 1).await;
    for n in 1..=3 {
        logs.say(chat, ANA, n).await;
    }
    logs.clock.advance_ms(HOUR_MS);
    for n in 4..=6 {
        logs.say(chat, ANA, n).await;
    }
    let all = logs.follow(START, 6, ALL).await;
    let keep = Keep {
        since_ms: BEGIN_MS + HOUR_MS,
        commits_max: 1_000_000,
    };
    assert_eq!(dropped(&logs, keep).await, 3);
    assert_eq!(dropped(&logs, keep).await, 0);
    for (at, entry) in all.iter().enumerate() {
        let expected = match at {
            0 | 1 => Found::Gap,
            // Who has taken all that is gone lacks nothing.
            _ => Found::Events(all[at + 1..].to_vec()),
        };
        assert_eq!(logs.after(entry.place, ALL).await, expected, "{at}");
    }
    assert_eq!(logs.after(START, ALL).await, Found::Gap);
    assert_eq!(logs.outbox.span().await.unwrap().from, all[2].place);
    let logs = logs.reopened(place, true).await;
    assert_eq!(logs.after(all[1].place, ALL).await, Found::Gap);
    assert_eq!(logs.follow(all[2].place, 3, ALL).await, all[3..]);
}

pub async fn what_is_young_and_among_the_newest_is_kept(place: &dyn Kept) {
    let logs = Logs::at(place).await;
    let chat = logs.direct(ANA, BEN, 1).await;
    for n in 1..=3 {
        logs.say(chat, ANA, n).await;
    }
    let all = logs.follow(START, 3, ALL).await;
    let keep = Keep {
        since_ms: BEGIN_MS,
        commits_max: 1_000_000,
    };
    assert_eq!(dropped(&logs, keep).await, 0);
    let few = Keep {
        commits_max: 0,
        ..keep
    };
    assert_eq!(dropped(&logs, few).await, 3);
    assert_eq!(logs.after(all[1].place, ALL).await, Found::Gap);
    assert_eq!(logs.after(all[2].place, ALL).await, Found::Events(vec![]));
}

pub async fn what_was_committed_without_a_feed_is_a_gap(place: &dyn Kept) {
    let logs = Logs::at(place).await;
    let chat = logs.direct(ANA, BEN, 1).await;
    logs.say(chat, ANA, 1).await;
    let before = logs.follow(START, 1, ALL).await;
    let logs = logs.reopened(place, false).await;
    logs.say(chat, ANA, 2).await;
    let logs = logs.reopened(place, true).await;
    assert_eq!(logs.after(before[0].place, ALL).await, Found::Gap);
    let from = logs.outbox.span().await.unwrap().from;
    logs.say(chat, ANA, 3).await;
    let after = logs.follow(from, 1, ALL).await;
    assert_eq!(after[0].event.seq, 3);
    // Opened once more in between, it is as before.
    let logs = logs.reopened(place, true).await;
    assert_eq!(logs.follow(from, 1, ALL).await, after);
    assert_eq!(logs.after(before[0].place, ALL).await, Found::Gap);
}

pub async fn how_long_something_waits_is_known(place: &dyn Kept) {
    let logs = Logs::at(place).await;
    let waits = async |place| logs.outbox.waits_since_ms(place).await.unwrap();
    assert_eq!(waits(START).await, None);
    let chat = logs.direct(ANA, BEN, 1).await;
    logs.say(chat, ANA, 1).await;
    logs.clock.advance_ms(1_000);
    logs.say(chat, ANA, 2).await;
    let all = logs.follow(START, 2, ALL).await;
    assert_eq!(waits(START).await, Some(BEGIN_MS));
    assert_eq!(waits(all[0].place).await, Some(BEGIN_MS + 1_000));
    assert_eq!(waits(all[1].place).await, None);
}
