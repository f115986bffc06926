//! How far a store has got: what moved since a position, and the facts that are told meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use super::Place;
use super::bench::*;
use crate::chats::command::*;
use crate::chats::model::*;
use crate::chats::ports::*;
use crate::ids::{ChatId, UserId};

pub async fn what_moved_is_told_and_nothing_else(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let start = bench.position().await;
    let one = bench.open(ANA, BEN, 1).await.id;
    let two = bench.open(ANA, CLEO, 2).await.id;
    let opened = bench.position().await;
    let strange = bench.open(BEN, CLEO, 3).await.id;
    bench.say(one, BEN, 1).await;
    bench.say(strange, BEN, 2).await;
    let said = bench.position().await;
    bench.react(one, ANA, 1, "👍").await;
    let reacted = bench.position().await;
    // What stays with one user moves no chat.
    let draft = Some(Arc::new(Draft {
        text: "hm".into(),
        reply_to: None,
        at_ms: BEGIN_MS,
    }));
    bench.act(ANA, Act::Draft { chat: two, draft }).await;
    let drafted = bench.position().await;
    assert!(start < opened && opened < said && said < reacted && reacted < drafted);
    for again in [false, true] {
        if again {
            bench.reopen().await;
        }
        let store = bench.store();
        let moved = async |user, since| {
            let moved = store.moved_since(user, since).await.unwrap().unwrap();
            let chats = by_id(moved.chats);
            for chat in &chats {
                assert_eq!(store.chat(chat.id).await.unwrap().as_ref(), Some(chat));
            }
            let heads: Vec<_> = chats.iter().map(|chat| (chat.id, chat.head)).collect();
            assert_eq!(moved.position, drafted);
            (heads, moved.own_head)
        };
        assert_eq!(moved(ANA, start).await, (vec![(one, 2), (two, 0)], 3));
        assert_eq!(moved(ANA, opened).await, (vec![(one, 2)], 3));
        assert_eq!(moved(ANA, said).await, (vec![(one, 2)], 3));
        assert_eq!(moved(ANA, reacted).await, (vec![], 3));
        assert_eq!(moved(CLEO, opened).await, (vec![(strange, 1)], 2));
        assert_eq!(moved(UserId(99), start).await, (vec![], 0));
    }
}

pub async fn receipts_that_moved_are_named_beside(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let direct = bench.open(ANA, BEN, 1).await.id;
    let group = bench.group(2, ANA, &[BEN, CLEO]).await;
    let channel = bench.channel(3, ANA, &[BEN]).await;
    for (n, chat) in [(1, direct), (2, group), (3, channel)] {
        bench.say(chat, ANA, n).await;
    }
    let said = bench.position().await;
    bench.mark(direct, BEN, 1).await;
    bench.mark(channel, BEN, 2).await;
    let marked = bench.position().await;
    bench.act(CLEO, mark(group, 2, None, true)).await;
    let delivered = bench.position().await;
    // What is not shared is not told.
    bench.act(CLEO, mark(group, 2, Some(2), false)).await;
    bench.mark(direct, BEN, 1).await;
    for again in [false, true] {
        if again {
            bench.reopen().await;
        }
        let store = bench.store();
        let moved = async |user, since| {
            let moved = store.moved_since(user, since).await.unwrap().unwrap();
            assert!(moved.chats.is_empty(), "a mark is no event");
            let mut receipts = moved.receipts;
            receipts.sort_unstable();
            receipts
        };
        assert_eq!(moved(ANA, said).await, [direct, group]);
        assert_eq!(moved(ANA, marked).await, [group]);
        assert_eq!(moved(BEN, marked).await, [group]);
        assert_eq!(moved(CLEO, said).await, [group]);
        assert_eq!(moved(ANA, delivered).await, []);
    }
}

pub async fn the_events_since_a_position_are_told_whole_or_not_at_all(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let start = bench.position().await;
    let one = bench.open(ANA, BEN, 1).await.id;
    let two = bench.open(ANA, CLEO, 2).await.id;
    for n in 1..=30 {
        bench.say(one, ANA, n).await;
    }
    let middle = bench.position().await;
    let empty_two = bench.chat(two).await;
    for n in 31..=33 {
        bench.say(one, ANA, n).await;
    }
    bench.say(two, CLEO, 1).await;
    let moved = bench.store().moved_since(ANA, middle).await.unwrap();
    let asked = by_id(moved.unwrap().chats);
    bench.say(one, ANA, 34).await;
    for again in [false, true] {
        if again {
            bench.reopen().await;
        }
        let store = bench.store();
        let told = async |chats: &[Chat], since, limit| {
            let events = store.events_since(chats, since, limit).await.unwrap()?;
            Some(events.iter().map(|e| (e.chat, e.seq)).collect::<Vec<_>>())
        };
        let now = chats_of(&**store, ANA).await;
        let [a, b] = &now[..] else {
            panic!("two chats")
        };
        let all: Vec<_> = (1..=34).map(|n| (one, n)).chain([(two, 1)]).collect();
        assert_eq!(told(&now, start, 35).await, Some(all.clone()));
        assert_eq!(told(&now, start, 34).await, None);
        assert_eq!(told(&now, start, 0).await, None);
        let since_middle: Vec<_> = (31..=34).map(|n| (one, n)).chain([(two, 1)]).collect();
        assert_eq!(told(&now, middle, 5).await, Some(since_middle));
        assert_eq!(told(&now, middle, 4).await, None);
        let turned = told(&[b.clone(), a.clone()], middle, 100).await.unwrap();
        assert_eq!(turned[0], (two, 1));
        // Only up to the heads that were asked about.
        let up_to_33: Vec<_> = (31..=33).map(|n| (one, n)).chain([(two, 1)]).collect();
        assert_eq!(told(&asked, middle, 4).await, Some(up_to_33));
        assert_eq!(
            told(std::slice::from_ref(&empty_two), start, 9).await,
            Some(vec![])
        );
        let position = store.position().await.unwrap();
        assert_eq!(told(&now, position, 0).await, Some(vec![]));
        assert_eq!(told(&[], start, 0).await, Some(vec![]));
    }
}

pub async fn a_rewritten_event_keeps_its_position(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    for n in 1..=5 {
        bench.say(chat, ANA, n).await;
    }
    let middle = bench.position().await;
    bench.edit(chat, ANA, 2, "another").await;
    bench.edit(chat, ANA, 6 - 1, "the last one as well").await;
    bench.delete(chat, ANA, &[2, 3]).await;
    for again in [false, true] {
        if again {
            bench.reopen().await;
        }
        let now = [bench.chat(chat).await];
        let events = bench.store().events_since(&now, middle, 10).await.unwrap();
        // The changes and not the changed.
        let events = events.unwrap();
        assert_eq!(seqs(&events), [6, 7, 8]);
        // What is told is as it is now, so the text of the deleted one is nowhere.
        assert_eq!(events[0].text_bytes(), 0);
        let all = bench
            .store()
            .events_since(&now, Position(0), 10)
            .await
            .unwrap();
        assert_eq!(all.unwrap(), bench.whole_log(chat).await);
    }
}

pub async fn a_position_from_the_future_is_refused(place: &dyn Place) {
    let bench = Bench::at(place).await;
    bench.open(ANA, BEN, 1).await;
    let now = bench.position().await;
    let store = bench.store();
    assert!(store.moved_since(ANA, now).await.unwrap().is_some());
    for future in [now.0 + 1, u64::MAX] {
        let moved = store.moved_since(ANA, Position(future)).await.unwrap();
        assert!(moved.is_none());
    }
}

/// A reader as a device is one: it keeps a position, asks what came after, and joins it to what it has.
#[derive(Default)]
struct Reader {
    position: Option<Position>,
    logs: BTreeMap<ChatId, Vec<Arc<Event>>>,
}

impl Reader {
    async fn follow(&mut self, store: &Arc<dyn ChatStore>, user: UserId, since: Position) {
        let since = self.position.unwrap_or(since);
        let told = store.position().await.unwrap();
        let moved = store.moved_since(user, since).await.unwrap().unwrap();
        assert!(moved.position >= told, "a position went back");
        let heads: HashMap<ChatId, Seq> = moved.chats.iter().map(|c| (c.id, c.head)).collect();
        let events = store.events_since(&moved.chats, since, usize::MAX).await;
        for event in events.unwrap().unwrap() {
            let log = self.logs.entry(event.chat).or_default();
            let has = log.len() as Seq;
            let (chat, seq) = (event.chat, event.seq);
            assert!(seq <= has + 1, "a hole before {seq} in {chat}");
            if seq == has + 1 {
                log.push(event);
            }
        }
        for (chat, head) in heads {
            let has = self.logs.entry(chat).or_default().len() as Seq;
            assert!(has >= head, "short of a head");
        }
        self.position = Some(moved.position);
    }
}

pub async fn a_reader_who_follows_by_positions_never_has_a_hole(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let start = bench.position().await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 1..=6 {
        let store = Arc::clone(bench.store());
        writers.spawn(async move {
            let other = UserId(1_000 + writer % 4);
            let act = open_direct(ANA, other, writer);
            let done = store.write(command(ANA, BEGIN_MS, act)).await.unwrap();
            let chat = standing(done).chat.id;
            for n in 0..60 {
                let mut new = message(chat, ANA, n);
                new.key.device = format!("device {writer}");
                let send = command(ANA, BEGIN_MS, Act::Send(new));
                store.write(send).await.unwrap();
            }
        });
    }
    // A state, not an event: a reader that starts after the last write sees it too.
    let (finish, finished) = watch::channel(false);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (store, finished) = (Arc::clone(bench.store()), finished.clone());
        readers.spawn(async move {
            let mut reader = Reader::default();
            while !*finished.borrow() {
                reader.follow(&store, ANA, start).await;
                tokio::task::yield_now().await;
            }
            reader.follow(&store, ANA, start).await;
            reader
        });
    }
    writers.join_all().await;
    finish.send_replace(true);
    for reader in readers.join_all().await {
        assert_eq!(reader.logs.len(), 4);
        for (chat, log) in reader.logs {
            assert_eq!(log, bench.whole_log(chat).await);
        }
    }
}

pub async fn facts_are_told_once_in_the_order_of_the_commits(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = Arc::clone(bench.store());
        tasks.spawn(async move {
            let act = open_direct(ANA, UserId(1_000 + n), n);
            let done = store.write(command(ANA, BEGIN_MS, act)).await.unwrap();
            let chat = standing(done).chat.id;
            for m in 0..30 {
                let send = Act::Send(message(chat, ANA, n * 100 + m));
                for _ in 0..2 {
                    let send = command(ANA, BEGIN_MS, send.clone());
                    store.write(send).await.unwrap();
                }
            }
        });
    }
    tasks.join_all().await;
    let facts = bench.listener.wait_for(8 * (2 + 30)).await;
    assert_eq!(facts.len(), 8 * (2 + 30));
    let (mut own, mut chats) = (HashMap::<UserId, Seq>::new(), HashMap::<ChatId, Seq>::new());
    for fact in &facts {
        match fact {
            Fact::UserEvent(event) => {
                let head = own.entry(event.user).or_default();
                *head += 1;
                assert_eq!(event.seq, *head);
                let UserEventBody::ChatJoined { chat, .. } = &event.body else {
                    panic!("{event:?}")
                };
                let is_first = !chats.contains_key(&chat.id);
                assert!(is_first, "an event was told before its chat");
            }
            Fact::Event { event, audience } => {
                let head = chats.entry(event.chat).or_default();
                *head += 1;
                assert_eq!(event.seq, *head);
                let other = UserId(1_000 + event.chat.0);
                assert_eq!(*audience, Audience::Pair([ANA, other]));
                assert!(own.contains_key(&other));
            }
            Fact::Receipt { .. } => panic!("nothing was marked"),
        }
    }
}
