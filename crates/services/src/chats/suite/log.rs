//! Parts of a log: pages, single events, and what was changed in a part.

use std::sync::Arc;

use tokio::sync::watch;

use super::Place;
use super::bench::*;
use super::recount::recount;
use crate::chats::command::*;
use crate::chats::model::*;
use crate::chats::ports::*;
use crate::ids::ChatId;

pub async fn pages_have_no_holes_at_any_border(place: &dyn Place) {
    const HEAD: Seq = 150;
    let bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    // A neighbour on each side, whose events must not be in it.
    let left = bench.open(ANA, CLEO, 0).await.id;
    let right = bench.open(BEN, CLEO, 2).await.id;
    for n in 1..=HEAD {
        bench.say(chat, ANA, n).await;
    }
    for n in 1..=3 {
        bench.say(left, CLEO, 1_000 + n).await;
        bench.say(right, CLEO, 2_000 + n).await;
    }
    let store = bench.store();
    for from in [-1, 0, 1, 2, 70, HEAD - 1, HEAD, HEAD + 1, Seq::MAX] {
        for limit in [0, 1, 2, 50, 100, 149, 150, 151, usize::MAX] {
            let count = Seq::try_from(limit).unwrap_or(HEAD);
            let page = store.events_after(chat, from, limit).await.unwrap();
            let after = from.clamp(0, HEAD);
            let expected: Vec<Seq> = (after + 1..=HEAD.min(after.saturating_add(count))).collect();
            let told = (seqs(&page.events), page.head);
            assert_eq!(told, (expected, HEAD), "after {from}, {limit}");

            let page = store.events_before(chat, from, limit).await.unwrap();
            let end = if from <= 0 { HEAD } else { HEAD.min(from - 1) };
            let expected: Vec<Seq> = ((end - count).max(0) + 1..=end).collect();
            let told = (seqs(&page.events), page.head);
            assert_eq!(told, (expected, HEAD), "before {from}, {limit}");
            assert!(page.events.iter().all(|event| event.chat == chat));
        }
    }
}

pub async fn events_are_found_by_their_seqs(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    bench.open(ANA, CLEO, 2).await;
    for n in 1..=20 {
        bench.say(chat, ANA, n).await;
    }
    bench.edit(chat, ANA, 7, "seven").await;
    let asked = [20, 7, 3, 7, 0, -1, 22, Seq::MAX, 21];
    let page = bench.store().events_at(chat, &asked).await.unwrap();
    assert_eq!((seqs(&page.events), page.head), (vec![3, 7, 20, 21], 21));
    assert_eq!(said(&page.events[1]).text, "seven");
    let none = bench.store().events_at(chat, &[]).await.unwrap();
    assert_eq!((none.events.len(), none.head), (0, 21));
}

/// All changes of a part after a seq, asked for in pages of `limit`.
async fn changes_in_pages(
    store: &dyn ChatStore,
    chat: ChatId,
    part: (Seq, Seq),
    after: Seq,
    limit: usize,
) -> Vec<Arc<Event>> {
    let (mut all, mut from) = (Vec::new(), after);
    loop {
        let page = store
            .changes(chat, part.0..=part.1, from, limit)
            .await
            .unwrap();
        assert!(page.events.len() < limit + 100);
        assert!(
            page.through > from || !page.more,
            "asking again would not end"
        );
        let changed = page.events.iter().map(|event| said(event).changed);
        let changed: Vec<Seq> = changed.collect();
        assert!(changed.is_sorted());
        assert!(
            changed
                .iter()
                .all(|seq| from < *seq && *seq <= page.through)
        );
        all.extend(page.events);
        from = page.through;
        if !page.more {
            return all;
        }
    }
}

pub async fn changes_are_exactly_the_changed_messages_of_a_part(place: &dyn Place) {
    const MESSAGES: Seq = 12;
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    let other = bench.open(ANA, CLEO, 2).await.id;
    for n in 1..=MESSAGES {
        bench.say(chat, ANA, n).await;
        bench.say(other, ANA, 1_000 + n).await;
    }
    let nothing = bench
        .store()
        .changes(chat, 1..=MESSAGES, 0, 10)
        .await
        .unwrap();
    assert_eq!(
        (nothing.events.len(), nothing.through, nothing.more),
        (0, MESSAGES, false)
    );
    // Changed once, twice, by each kind of change; the latest counts.
    bench.edit(chat, ANA, 3, "three").await;
    bench.react(chat, BEN, 5, "👍").await;
    bench.edit(chat, ANA, 3, "drei").await;
    let pin = Act::Pin {
        chat,
        message: 9,
        on: true,
    };
    bench.made(BEN, pin).await;
    bench.react(other, ANA, 1, "👍").await;
    let reply = NewMessage {
        thread: Some(1),
        ..message(chat, BEN, 99)
    };
    bench.act(BEN, Act::Send(reply)).await;
    bench.delete(chat, ANA, &[5, 6]).await;
    bench
        .edit(chat, BEN, 17, "a reply is changed as well")
        .await;
    for again in [false, true] {
        if again {
            bench.reopen().await;
        }
        let log = bench.whole_log(chat).await;
        let head = log.len() as Seq;
        for (from, to) in [(1, head), (3, 9), (6, 6), (4, 4), (17, Seq::MAX)] {
            for after in [0, 13, 14, 16, 18, head, head + 9] {
                let part = log.iter().filter(|event| {
                    let message = event.message();
                    let changed = message.map_or(0, |message| message.changed);
                    (from..=to).contains(&event.seq) && changed > event.seq.max(after)
                });
                let mut expected: Vec<_> = part.cloned().collect();
                expected.sort_by_key(|event| (said(event).changed, event.seq));
                for limit in [1, 2, 3, 100] {
                    let store = &**bench.store();
                    let found = changes_in_pages(store, chat, (from, to), after, limit).await;
                    assert_eq!(found, expected, "{from} to {to} after {after}, {limit}");
                }
            }
        }
    }
    recount(&**bench.store(), chat).await;
}

pub async fn what_one_event_changed_is_never_divided(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    for n in 1..=105 {
        bench.say(chat, ANA, n).await;
    }
    let first = bench.edit(chat, ANA, 105, "changed first").await;
    let deletion = bench
        .delete(chat, ANA, &(1..=100).collect::<Vec<_>>())
        .await;
    let last = bench.edit(chat, ANA, 101, "changed last").await;
    let store = bench.store();
    let page = async |part: (Seq, Seq), after, limit| {
        let page = store
            .changes(chat, part.0..=part.1, after, limit)
            .await
            .unwrap();
        (seqs(&page.events), page.through, page.more)
    };
    let deleted: Vec<Seq> = (1..=100).collect();
    let both: Vec<Seq> = [105].into_iter().chain(1..=100).collect();
    for limit in [0, 1] {
        assert_eq!(page((1, 200), 0, limit).await, (vec![105], first, true));
        assert_eq!(
            page((1, 200), first, limit).await,
            (deleted.clone(), deletion, true)
        );
    }
    assert_eq!(page((1, 200), 0, 2).await, (both.clone(), deletion, true));
    assert_eq!(page((1, 200), 0, 101).await, (both, deletion, true));
    assert_eq!(page((1, 200), deletion, 1).await, (vec![101], last, false));
    assert_eq!(page((1, 100), first, 1).await, (deleted, last, false));
    assert_eq!(page((40, 41), 0, 1).await, (vec![40, 41], last, false));
}

/// A reader as a device is one that brings an old part up to date while others write.
pub async fn no_change_is_missed_while_others_write(place: &dyn Place) {
    const MESSAGES: Seq = 40;
    const WRITERS: i64 = 4;
    let bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    for n in 1..=MESSAGES {
        bench.say(chat, ANA, n).await;
    }
    let held = bench.whole_log(chat).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(bench.store());
        writers.spawn(async move {
            for n in 0..50 {
                let target = (n * 7 + writer * 11) % MESSAGES + 1;
                let (actor, act) = match n % 3 {
                    0 => (BEN, react(chat, target, "👍", n % 2 == 0)),
                    1 => (BEN, react(chat, target, "🎉", true)),
                    _ => (ANA, Act::Send(message(chat, ANA, 1_000 * (writer + 1) + n))),
                };
                store.write(command(actor, BEGIN_MS, act)).await.unwrap();
            }
        });
    }
    let (finish, finished) = watch::channel(false);
    let mut readers = tokio::task::JoinSet::new();
    for limit in [1, 5, 50] {
        let (store, finished) = (Arc::clone(bench.store()), finished.clone());
        let mut held = held.clone();
        readers.spawn(async move {
            let mut true_at = MESSAGES;
            loop {
                let is_last = *finished.borrow();
                let all = 1..=MESSAGES;
                let page = store.changes(chat, all, true_at, limit).await.unwrap();
                let goes_on = page.through > true_at || !page.more;
                assert!(goes_on, "asking again would not end");
                for event in page.events {
                    let seq = event.seq as usize;
                    held[seq - 1] = event;
                }
                true_at = page.through;
                if is_last && !page.more {
                    return held;
                }
                tokio::task::yield_now().await;
            }
        });
    }
    writers.join_all().await;
    finish.send_replace(true);
    let log = bench.whole_log(chat).await;
    for held in readers.join_all().await {
        assert_eq!(held, log[..MESSAGES as usize]);
    }
    recount(&**bench.store(), chat).await;
}
