//! The proof that a store of logs keeps the word of its port. An adapter names the place where its logs are
//! kept and says `chat_store_suite!(place)`; each claim becomes a test with a place of its own.

#![allow(
    clippy::unwrap_used,
    reason = "this is a test, only compiled where an adapter asks for it"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tertulia_kit::clock::{ManualClock, SharedClock};
use tokio::sync::{Notify, watch};

use super::memory::Memory;
use super::model::*;
use super::ports::*;
use crate::ids::{ChatId, MessageId, UserId};

/// Where logs are kept while stores come and go.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the store, or opens it again after all handles to it were dropped.
    async fn open(&self, committed: Arc<dyn Committed>, clock: SharedClock) -> Arc<dyn ChatStore>;
}

/// Makes a test of every claim of the suite, each with a new `$place`.
#[macro_export]
macro_rules! chat_store_suite {
    ($place:expr) => {
        $crate::chat_store_suite!(@ $place;
            a_pair_has_one_chat_whoever_opens_it
            opening_is_told_in_the_log_of_each_member
            an_unknown_chat_has_an_empty_log_and_takes_nothing
            seqs_rise_by_one_from_one
            a_repeat_gives_the_first_answer_and_writes_nothing
            a_repeat_is_known_for_seven_days
            a_key_used_for_something_else_is_a_conflict
            keys_of_other_senders_and_devices_are_other_keys
            one_sending_repeated_at_once_is_written_once
            many_tasks_append_without_holes_and_in_the_order_of_each
            pages_have_no_holes_at_any_border
            the_list_of_chats_is_whole_and_has_the_last_events
            what_moved_is_told_and_nothing_else
            the_events_since_a_position_are_told_whole_or_not_at_all
            a_position_from_the_future_is_refused
            a_reader_who_follows_by_positions_never_has_a_hole
            facts_are_told_once_in_the_order_of_the_commits
            everything_is_there_after_reopening
            texts_of_any_kind_come_back_as_they_were
            a_random_history_agrees_with_memory
        );
    };
    (@ $place:expr; $($claim:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() {
                $crate::chats::suite::$claim(&$place).await;
            }
        )*
    };
}

/// A day, in milliseconds.
const DAY_MS: i64 = 24 * 3_600 * 1_000;
const BEGIN_MS: i64 = 1_780_000_000_000;
const ANA: UserId = UserId(11);
const BEN: UserId = UserId(12);
const CLEO: UserId = UserId(13);

/// Keeps what it hears.
#[derive(Default)]
struct Listener {
    facts: Mutex<Vec<Fact>>,
    heard: Notify,
}

impl Committed for Listener {
    fn committed(&self, facts: Vec<Fact>) {
        self.facts.lock().extend(facts);
        self.heard.notify_one();
    }
}

impl Listener {
    /// All facts, once there are `count`.
    async fn wait_for(&self, count: usize) -> Vec<Fact> {
        let enough = async {
            while self.facts.lock().len() < count {
                self.heard.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), enough)
            .await
            .expect("not all facts were told");
        self.facts.lock().clone()
    }
}

/// A store under test, with what it needs.
struct Bench<'a> {
    place: &'a dyn Place,
    clock: Arc<ManualClock>,
    listener: Arc<Listener>,
    store: Option<Arc<dyn ChatStore>>,
}

impl<'a> Bench<'a> {
    async fn at(place: &'a dyn Place) -> Bench<'a> {
        let clock = ManualClock::at(BEGIN_MS);
        let listener = Arc::new(Listener::default());
        let store = place.open(listener.clone(), clock.clone()).await;
        Bench {
            place,
            clock,
            listener,
            store: Some(store),
        }
    }

    fn store(&self) -> &Arc<dyn ChatStore> {
        self.store.as_ref().unwrap()
    }

    async fn reopen(&mut self) {
        drop(self.store.take());
        self.store = Some(
            self.place
                .open(self.listener.clone(), self.clock.clone())
                .await,
        );
    }

    async fn open(&self, a: UserId, b: UserId, id: i64) -> Chat {
        let pair = Pair::new(a, b).unwrap();
        self.store()
            .open_direct(pair, ChatId(id), BEGIN_MS + id)
            .await
            .unwrap()
    }

    async fn append(&self, new: NewMessage) -> Appended {
        self.store().append(new).await.unwrap()
    }

    async fn say(&self, chat: ChatId, sender: UserId, n: i64) -> Receipt {
        match self.append(message(chat, sender, n)).await {
            Appended::New(receipt) => receipt,
            other => panic!("message {n} of {sender} is {other:?}"),
        }
    }

    async fn whole_log(&self, chat: ChatId) -> Vec<Arc<Event>> {
        let page = self
            .store()
            .events_after(chat, 0, usize::MAX)
            .await
            .unwrap();
        assert_eq!(page.events.len() as Seq, page.head);
        page.events
    }
}

/// The `n`th message of a sender, the same whenever it is made.
fn message(chat: ChatId, sender: UserId, n: i64) -> NewMessage {
    NewMessage {
        chat,
        sender,
        id: MessageId(sender.0 * 1_000_000 + n),
        key: key(&format!("device of {sender}"), n),
        text: format!("{sender} says {n}"),
        at_ms: BEGIN_MS + n,
    }
}

fn key(device: &str, n: i64) -> SendKey {
    SendKey {
        device: device.into(),
        client_message_id: format!("message-{n}"),
    }
}

fn text(event: &Event) -> &str {
    let EventBody::Message(message) = &event.body;
    &message.text
}

fn seqs(events: &[Arc<Event>]) -> Vec<Seq> {
    events.iter().map(|event| event.seq).collect()
}

fn by_id(mut chats: Vec<Chat>) -> Vec<Chat> {
    chats.sort_by_key(|chat| chat.id);
    chats
}

pub async fn a_pair_has_one_chat_whoever_opens_it(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let first = bench.open(ANA, BEN, 1).await;
    assert_eq!(first.id, ChatId(1));
    assert_eq!(
        (first.head, first.created_at_ms, &first.last_event),
        (0, BEGIN_MS + 1, &None)
    );
    assert_eq!(first.members(), [ANA, BEN]);
    assert_eq!(bench.open(BEN, ANA, 2).await, first);
    assert_eq!(bench.store().chat(ChatId(1)).await.unwrap(), Some(first));
    assert_eq!(bench.store().chat(ChatId(2)).await.unwrap(), None);

    let mut tasks = tokio::task::JoinSet::new();
    for id in 100..120 {
        let store = Arc::clone(bench.store());
        let pair = Pair::new(ANA, CLEO).unwrap();
        tasks.spawn(async move {
            store
                .open_direct(pair, ChatId(id), BEGIN_MS)
                .await
                .unwrap()
                .id
        });
    }
    let ids: HashSet<ChatId> = tasks.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(
        bench
            .store()
            .user_events_after(CLEO, 0, 10)
            .await
            .unwrap()
            .head,
        1
    );
    assert_eq!(bench.store().chats_of(CLEO).await.unwrap().len(), 1);
}

pub async fn opening_is_told_in_the_log_of_each_member(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let one = bench.open(ANA, BEN, 1).await;
    bench.say(one.id, ANA, 1).await;
    let two = bench.open(CLEO, BEN, 2).await;
    let page = bench.store().user_events_after(BEN, 0, 10).await.unwrap();
    assert_eq!(page.head, 2);
    for (event, chat) in page.events.iter().zip([&one, &two]) {
        // As it was then, without what was said since.
        assert_eq!(event.body, UserEventBody::ChatJoined(chat.clone()));
        assert_eq!((event.user, event.at_ms), (BEN, chat.created_at_ms));
    }
    assert_eq!(
        page.events.iter().map(|e| e.seq).collect::<Vec<_>>(),
        [1, 2]
    );
    let rest = bench.store().user_events_after(BEN, 1, 10).await.unwrap();
    assert_eq!(
        (rest.events.len(), rest.events[0].seq, rest.head),
        (1, 2, 2)
    );
    let first = bench.store().user_events_after(BEN, 0, 1).await.unwrap();
    assert_eq!(
        (first.events.len(), first.events[0].seq, first.head),
        (1, 1, 2)
    );
    let none = bench.store().user_events_after(BEN, 2, 10).await.unwrap();
    assert_eq!((none.events.len(), none.head), (0, 2));
    assert_eq!(
        bench
            .store()
            .user_events_after(UserId(99), 0, 10)
            .await
            .unwrap(),
        Page::default()
    );
}

pub async fn an_unknown_chat_has_an_empty_log_and_takes_nothing(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let store = bench.store();
    let before = store.position().await.unwrap();
    assert_eq!(store.chat(ChatId(5)).await.unwrap(), None);
    assert_eq!(
        bench.append(message(ChatId(5), ANA, 1)).await,
        Appended::NoChat
    );
    assert_eq!(
        store.events_after(ChatId(5), 0, 10).await.unwrap(),
        Page::default()
    );
    assert_eq!(
        store.events_before(ChatId(5), 0, 10).await.unwrap(),
        Page::default()
    );
    assert!(store.chats_of(ANA).await.unwrap().is_empty());
    assert_eq!(store.position().await.unwrap(), before);
    // The key of what was refused is free.
    let chat = bench.open(ANA, BEN, 5).await;
    bench.say(chat.id, ANA, 1).await;
}

pub async fn seqs_rise_by_one_from_one(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let (one, two) = (
        bench.open(ANA, BEN, 1).await.id,
        bench.open(ANA, CLEO, 2).await.id,
    );
    for n in 1..=20 {
        let receipt = bench.say(one, ANA, n).await;
        let expected = Receipt {
            seq: n,
            id: message(one, ANA, n).id,
            at_ms: BEGIN_MS + n,
        };
        assert_eq!(receipt, expected);
        // Its own log has its own numbers.
        assert_eq!(bench.say(two, CLEO, n).await.seq, n);
        let chat = bench.store().chat(one).await.unwrap().unwrap();
        assert_eq!(chat.head, n);
        let last = chat.last_event.unwrap();
        assert_eq!(
            (last.chat, last.seq, last.at_ms, last.actor),
            (one, n, BEGIN_MS + n, ANA)
        );
        assert_eq!(
            last.body,
            EventBody::Message(message(one, ANA, n).into_message())
        );
    }
}

pub async fn a_repeat_gives_the_first_answer_and_writes_nothing(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    let first = bench.say(chat, ANA, 1).await;
    bench.say(chat, BEN, 2).await;
    let again = NewMessage {
        id: MessageId(77),
        at_ms: BEGIN_MS + 99,
        ..message(chat, ANA, 1)
    };
    let position = bench.store().position().await.unwrap();
    assert_eq!(bench.append(again.clone()).await, Appended::Repeat(first));
    bench.reopen().await;
    assert_eq!(bench.append(again).await, Appended::Repeat(first));
    assert_eq!(bench.whole_log(chat).await.len(), 2);
    assert_eq!(bench.store().position().await.unwrap(), position);
}

pub async fn a_repeat_is_known_for_seven_days(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    // Beginning on each day of a week, wherever the store's weeks begin.
    for day in 0..8 {
        let first = bench.say(chat, ANA, day).await;
        for hours in [13, 100, 7 * 24 - 113] {
            bench.clock.advance_ms(hours * 3_600 * 1_000);
            assert_eq!(
                bench.append(message(chat, ANA, day)).await,
                Appended::Repeat(first)
            );
            // Others are written meanwhile, which is when a store may forget.
            bench.say(chat, BEN, day * 1_000 + hours).await;
            assert_eq!(
                bench.append(message(chat, ANA, day)).await,
                Appended::Repeat(first)
            );
        }
        bench.reopen().await;
        assert_eq!(
            bench.append(message(chat, ANA, day)).await,
            Appended::Repeat(first)
        );
        bench.clock.advance_ms(DAY_MS * 3 / 2);
    }
}

pub async fn a_key_used_for_something_else_is_a_conflict(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let (one, two) = (
        bench.open(ANA, BEN, 1).await.id,
        bench.open(ANA, CLEO, 2).await.id,
    );
    bench.say(one, ANA, 1).await;
    let other_text = NewMessage {
        text: "something else".into(),
        ..message(one, ANA, 1)
    };
    assert_eq!(bench.append(other_text).await, Appended::Conflict);
    assert_eq!(bench.append(message(two, ANA, 1)).await, Appended::Conflict);
    assert_eq!(bench.whole_log(one).await.len(), 1);
    assert_eq!(bench.whole_log(two).await.len(), 0);
    // What conflicted has not taken the place of the first.
    assert!(matches!(
        bench.append(message(one, ANA, 1)).await,
        Appended::Repeat(_)
    ));
}

pub async fn keys_of_other_senders_and_devices_are_other_keys(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    let mut n = 0;
    for sender in [ANA, BEN] {
        for device in ["a", "aa", ""] {
            for client_message_id in ["b", "ab", ""] {
                n += 1;
                let key = SendKey {
                    device: device.into(),
                    client_message_id: client_message_id.into(),
                };
                let new = NewMessage {
                    key,
                    text: "same".into(),
                    ..message(chat, sender, n)
                };
                assert!(matches!(bench.append(new).await, Appended::New(r) if r.seq == n));
            }
        }
    }
}

pub async fn one_sending_repeated_at_once_is_written_once(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50 {
        for repeat in 0..4 {
            let store = Arc::clone(bench.store());
            let id = MessageId(1_000 * n + repeat);
            tasks.spawn(async move {
                (
                    n,
                    store
                        .append(NewMessage {
                            id,
                            ..message(chat, ANA, n)
                        })
                        .await
                        .unwrap(),
                )
            });
        }
    }
    let mut receipts: HashMap<i64, Vec<Receipt>> = HashMap::new();
    let mut new = 0;
    for (n, appended) in tasks.join_all().await {
        let receipt = match appended {
            Appended::New(receipt) => {
                new += 1;
                receipt
            }
            Appended::Repeat(receipt) => receipt,
            other => panic!("{other:?}"),
        };
        receipts.entry(n).or_default().push(receipt);
    }
    assert_eq!(new, 50);
    for answers in receipts.values() {
        assert_eq!(answers.len(), 4);
        assert!(
            answers.iter().all(|receipt| receipt == &answers[0]),
            "{answers:?}"
        );
    }
    assert_eq!(bench.whole_log(chat).await.len(), 50);
}

pub async fn many_tasks_append_without_holes_and_in_the_order_of_each(place: &dyn Place) {
    const TASKS: i64 = 24;
    const EACH: i64 = 40;
    let bench = Bench::at(place).await;
    let mut chats = Vec::new();
    for n in 1..=4 {
        chats.push(bench.open(ANA, UserId(1_000 + n), n).await.id);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(bench.store());
        let chats = chats.clone();
        tasks.spawn(async move {
            for n in 0..EACH {
                let chat = chats[(task + n) as usize % chats.len()];
                let mut new = message(chat, ANA, task * EACH + n);
                new.key.device = format!("device {task}");
                let Appended::New(receipt) = store.append(new).await.unwrap() else {
                    panic!("not new")
                };
                // When it is answered it is there.
                let page = store.events_after(chat, receipt.seq - 1, 1).await.unwrap();
                assert_eq!(page.events[0].seq, receipt.seq);
                assert!(page.head >= receipt.seq);
            }
        });
    }
    tasks.join_all().await;
    let mut count = 0;
    for chat in chats {
        let log = bench.whole_log(chat).await;
        assert_eq!(seqs(&log), (1..=log.len() as Seq).collect::<Vec<_>>());
        let mut last: HashMap<String, i64> = HashMap::new();
        for event in &log {
            let EventBody::Message(message) = &event.body;
            let n: i64 = message.key.client_message_id["message-".len()..]
                .parse()
                .unwrap();
            let before = last.insert(message.key.device.clone(), n);
            assert!(
                before.is_none_or(|before| before < n),
                "the order of a task was not kept"
            );
        }
        count += log.len() as i64;
    }
    assert_eq!(count, TASKS * EACH);
}

pub async fn pages_have_no_holes_at_any_border(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    // A neighbour on each side, whose events must not be in it.
    let (left, right) = (
        bench.open(ANA, CLEO, 0).await.id,
        bench.open(BEN, CLEO, 2).await.id,
    );
    const HEAD: Seq = 150;
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
            assert_eq!(
                (seqs(&page.events), page.head),
                (expected, HEAD),
                "after {from}, {limit}"
            );

            let page = store.events_before(chat, from, limit).await.unwrap();
            let end = if from <= 0 { HEAD } else { HEAD.min(from - 1) };
            let expected: Vec<Seq> = ((end - count).max(0) + 1..=end).collect();
            assert_eq!(
                (seqs(&page.events), page.head),
                (expected, HEAD),
                "before {from}, {limit}"
            );
            assert!(page.events.iter().all(|event| event.chat == chat));
        }
    }
}

pub async fn the_list_of_chats_is_whole_and_has_the_last_events(place: &dyn Place) {
    let bench = Bench::at(place).await;
    for n in 1..=30 {
        let chat = bench.open(ANA, UserId(100 + n), n).await.id;
        for m in 0..n % 3 {
            bench.say(chat, ANA, n * 10 + m).await;
        }
    }
    bench.open(BEN, CLEO, 999).await;
    let chats = by_id(bench.store().chats_of(ANA).await.unwrap());
    assert_eq!(chats.len(), 30);
    for (n, chat) in (1..).zip(&chats) {
        assert_eq!((chat.id, chat.head), (ChatId(n), n % 3));
        assert_eq!(
            chat.last_event.as_ref().map_or(0, |event| event.seq),
            chat.head
        );
        assert_eq!(
            bench.store().chat(chat.id).await.unwrap().as_ref(),
            Some(chat)
        );
    }
}

pub async fn what_moved_is_told_and_nothing_else(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let start = bench.store().position().await.unwrap();
    let one = bench.open(ANA, BEN, 1).await.id;
    let two = bench.open(ANA, CLEO, 2).await.id;
    let opened = bench.store().position().await.unwrap();
    let strange = bench.open(BEN, CLEO, 3).await.id;
    bench.say(one, BEN, 1).await;
    bench.say(strange, BEN, 2).await;
    let said = bench.store().position().await.unwrap();
    assert!(start < opened && opened < said);
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
            (
                chats
                    .iter()
                    .map(|chat| (chat.id, chat.head))
                    .collect::<Vec<_>>(),
                moved.own_head,
            )
        };
        assert_eq!(moved(ANA, start).await, (vec![(one, 1), (two, 0)], 2));
        assert_eq!(moved(ANA, opened).await, (vec![(one, 1)], 2));
        assert_eq!(moved(ANA, said).await, (vec![], 2));
        assert_eq!(moved(CLEO, opened).await, (vec![(strange, 1)], 2));
        assert_eq!(moved(UserId(99), start).await, (vec![], 0));
        assert_eq!(
            store
                .moved_since(ANA, said)
                .await
                .unwrap()
                .unwrap()
                .position,
            said
        );
    }
}

pub async fn the_events_since_a_position_are_told_whole_or_not_at_all(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let start = bench.store().position().await.unwrap();
    let one = bench.open(ANA, BEN, 1).await.id;
    let two = bench.open(ANA, CLEO, 2).await.id;
    for n in 1..=30 {
        bench.say(one, ANA, n).await;
    }
    let middle = bench.store().position().await.unwrap();
    for n in 31..=33 {
        bench.say(one, ANA, n).await;
    }
    bench.say(two, CLEO, 1).await;
    let before_last = bench
        .store()
        .moved_since(ANA, middle)
        .await
        .unwrap()
        .unwrap();
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
        let now = by_id(store.chats_of(ANA).await.unwrap());
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
        assert_eq!(
            told(&[b.clone(), a.clone()], middle, 100).await.unwrap()[0],
            (two, 1)
        );
        // Only up to the heads that were asked about.
        let asked = by_id(before_last.chats.clone());
        let up_to_33: Vec<_> = (31..=33).map(|n| (one, n)).chain([(two, 1)]).collect();
        assert_eq!(told(&asked, middle, 4).await, Some(up_to_33));
        let position = store.position().await.unwrap();
        assert_eq!(told(&now, position, 0).await, Some(vec![]));
        assert_eq!(told(&[], start, 0).await, Some(vec![]));
    }
}

pub async fn a_position_from_the_future_is_refused(place: &dyn Place) {
    let bench = Bench::at(place).await;
    bench.open(ANA, BEN, 1).await;
    let now = bench.store().position().await.unwrap();
    assert!(bench.store().moved_since(ANA, now).await.unwrap().is_some());
    for future in [now.0 + 1, u64::MAX] {
        assert!(
            bench
                .store()
                .moved_since(ANA, Position(future))
                .await
                .unwrap()
                .is_none()
        );
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
        let events = store
            .events_since(&moved.chats, since, usize::MAX)
            .await
            .unwrap()
            .unwrap();
        for event in events {
            let log = self.logs.entry(event.chat).or_default();
            let has = log.len() as Seq;
            assert!(
                event.seq <= has + 1,
                "a hole before {} in {}",
                event.seq,
                event.chat
            );
            if event.seq == has + 1 {
                log.push(event);
            }
        }
        for (chat, head) in heads {
            assert!(
                self.logs.entry(chat).or_default().len() as Seq >= head,
                "short of a head"
            );
        }
        self.position = Some(moved.position);
    }
}

pub async fn a_reader_who_follows_by_positions_never_has_a_hole(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let start = bench.store().position().await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 1..=6 {
        let store = Arc::clone(bench.store());
        writers.spawn(async move {
            let other = UserId(1_000 + writer % 4);
            let pair = Pair::new(ANA, other).unwrap();
            let chat = store
                .open_direct(pair, ChatId(writer), BEGIN_MS)
                .await
                .unwrap()
                .id;
            for n in 0..60 {
                store
                    .append(message(chat, UserId(2_000 + writer), n))
                    .await
                    .unwrap();
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
            let pair = Pair::new(ANA, UserId(1_000 + n)).unwrap();
            let chat = store
                .open_direct(pair, ChatId(n), BEGIN_MS)
                .await
                .unwrap()
                .id;
            for m in 0..30 {
                store.append(message(chat, ANA, n * 100 + m)).await.unwrap();
                store.append(message(chat, ANA, n * 100 + m)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let facts = bench.listener.wait_for(8 * (2 + 30)).await;
    let (mut own, mut chats) = (HashMap::<UserId, Seq>::new(), HashMap::<ChatId, Seq>::new());
    for fact in &facts {
        match fact {
            Fact::UserEvent(event) => {
                let head = own.entry(event.user).or_default();
                *head += 1;
                assert_eq!(event.seq, *head);
                let UserEventBody::ChatJoined(chat) = &event.body;
                assert!(
                    !chats.contains_key(&chat.id),
                    "an event was told before its chat"
                );
            }
            Fact::Event { event, members } => {
                let head = chats.entry(event.chat).or_default();
                *head += 1;
                assert_eq!(event.seq, *head);
                assert_eq!(*members, [ANA, UserId(1_000 + event.chat.0)]);
                assert!(own.contains_key(&members[1]));
            }
        }
    }
    assert_eq!(facts.len(), 8 * (2 + 30));
}

pub async fn everything_is_there_after_reopening(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let mut chats = Vec::new();
    for n in 1..=5 {
        let chat = bench.open(ANA, UserId(100 + n), n).await.id;
        for m in 1..=n * 20 {
            bench.say(chat, ANA, n * 1_000 + m).await;
        }
        chats.push(chat);
    }
    let store = bench.store();
    let epoch = store.epoch();
    let position = store.position().await.unwrap();
    let list = by_id(store.chats_of(ANA).await.unwrap());
    let own = store.user_events_after(ANA, 0, 100).await.unwrap();
    let mut logs = Vec::new();
    for chat in &chats {
        logs.push(bench.whole_log(*chat).await);
    }
    bench.reopen().await;
    let store = bench.store();
    assert_eq!(store.epoch(), epoch);
    assert_eq!(store.position().await.unwrap(), position);
    assert_eq!(by_id(store.chats_of(ANA).await.unwrap()), list);
    assert_eq!(store.user_events_after(ANA, 0, 100).await.unwrap(), own);
    for (chat, log) in chats.iter().zip(logs) {
        assert_eq!(bench.whole_log(*chat).await, log);
    }
    // And it goes on where it was.
    assert_eq!(bench.open(UserId(101), ANA, 77).await.id, ChatId(1));
    assert_eq!(bench.say(chats[0], ANA, 99_999).await.seq, 21);
    assert!(bench.store().position().await.unwrap() > position);
}

pub async fn texts_of_any_kind_come_back_as_they_were(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    let long = "ñ🫖\n\t".repeat(4_000);
    let texts = ["", " ", "\0", "a\u{301}", "你好", "🇪🇸", long.as_str()];
    for (n, text) in (0..).zip(texts) {
        let at_ms = [0, -1, i64::MIN, i64::MAX, BEGIN_MS][n as usize % 5];
        let new = NewMessage {
            text: text.into(),
            at_ms,
            ..message(chat, ANA, n)
        };
        assert!(matches!(bench.append(new).await, Appended::New(_)));
    }
    bench.reopen().await;
    let log = bench.whole_log(chat).await;
    assert_eq!(
        log.iter().map(|event| text(event)).collect::<Vec<_>>(),
        texts
    );
    assert_eq!(log[2].at_ms, i64::MIN);
}

/// Does the same to a store and to memory, step by step, and compares all answers.
pub async fn a_random_history_agrees_with_memory(place: &dyn Place) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut bench = Bench::at(place).await;
    let memory = Memory::new(Epoch(0), Arc::new(Listener::default()), bench.clock.clone());
    let user = |random: &mut StdRng| UserId(random.random_range(1..=6));
    // Positions of both, taken at the same time.
    let mut marks = vec![(
        bench.store().position().await.unwrap(),
        memory.position().await.unwrap(),
    )];
    let mut sent: Vec<(i64, NewMessage)> = Vec::new();
    for step in 0..700 {
        let store = Arc::clone(bench.store());
        match random.random_range(0..100) {
            0..8 => {
                let Some(pair) = Pair::new(user(&mut random), user(&mut random)) else {
                    continue;
                };
                let (id, at_ms) = (ChatId(step), bench.clock.now());
                let one = store.open_direct(pair, id, at_ms).await.unwrap();
                assert_eq!(one, memory.open_direct(pair, id, at_ms).await.unwrap());
            }
            8..60 => {
                let chat = any_chat(&memory, &mut random).await;
                let mut new = message(chat, user(&mut random), step);
                new.text = "x".repeat(random.random_range(0..200));
                new.at_ms = bench.clock.now();
                sent.push((bench.clock.now(), new.clone()));
                let one = store.append(new.clone()).await.unwrap();
                assert_eq!(one, memory.append(new).await.unwrap(), "step {step}");
            }
            60..70 if !sent.is_empty() => {
                // Again, or almost again; keys beyond the promise are left alone.
                let (at_ms, mut new) = sent[random.random_range(0..sent.len())].clone();
                if bench.clock.now() - at_ms >= SEND_KEYS_KEPT_MS {
                    continue;
                }
                match random.random_range(0..4) {
                    0 => new.text.push('!'),
                    1 => new.chat = any_chat(&memory, &mut random).await,
                    _ => new.id = MessageId(-step),
                }
                let one = store.append(new.clone()).await.unwrap();
                assert_eq!(one, memory.append(new).await.unwrap(), "step {step}");
            }
            70..80 => {
                let chat = any_chat(&memory, &mut random).await;
                let (from, limit) = (random.random_range(0..40), random.random_range(0..40));
                let one = store.events_after(chat, from, limit).await.unwrap();
                assert_eq!(one, memory.events_after(chat, from, limit).await.unwrap());
                let one = store.events_before(chat, from, limit).await.unwrap();
                assert_eq!(one, memory.events_before(chat, from, limit).await.unwrap());
            }
            80..84 => {
                let user = user(&mut random);
                let one = by_id(store.chats_of(user).await.unwrap());
                assert_eq!(one, by_id(memory.chats_of(user).await.unwrap()));
                let one = store.user_events_after(user, 1, 3).await.unwrap();
                assert_eq!(one, memory.user_events_after(user, 1, 3).await.unwrap());
            }
            84..92 => {
                let user = user(&mut random);
                let (here, there) = marks[random.random_range(0..marks.len())];
                let one = store.moved_since(user, here).await.unwrap().unwrap();
                let two = memory.moved_since(user, there).await.unwrap().unwrap();
                let chats = by_id(one.chats);
                assert_eq!(chats, by_id(two.chats), "step {step}");
                assert_eq!(one.own_head, two.own_head);
                let limit = random.random_range(0..60);
                let one = store.events_since(&chats, here, limit).await.unwrap();
                assert_eq!(
                    one,
                    memory.events_since(&chats, there, limit).await.unwrap()
                );
            }
            92..96 => {
                marks.push((
                    store.position().await.unwrap(),
                    memory.position().await.unwrap(),
                ));
            }
            96..98 => bench.clock.advance_ms(random.random_range(0..DAY_MS)),
            _ => {
                drop(store);
                bench.reopen().await;
            }
        }
    }
}

async fn any_chat(memory: &Memory, random: &mut StdRng) -> ChatId {
    let user = UserId(random.random_range(1..=6));
    let chats = by_id(memory.chats_of(user).await.unwrap());
    match chats.len() {
        0 => ChatId(-1),
        count => chats[random.random_range(0..count)].id,
    }
}

/// Shorter to say.
trait Now {
    fn now(&self) -> i64;
}

impl Now for Arc<ManualClock> {
    fn now(&self) -> i64 {
        use tertulia_kit::clock::Clock as _;
        self.now_ms()
    }
}
