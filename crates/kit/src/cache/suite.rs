//! What every cache does as long as it is there. An adapter passes [`run`] with one that keeps values for longer than
//! a test runs.

use std::sync::Arc;

use futures::future::join_all;

use super::{Cache, Change, Found, Ticket};

/// Runs all claims on one cache, each with keys of its own.
///
/// # Panics
/// When a claim does not hold.
pub async fn run(cache: Arc<dyn Cache>) {
    let cache = &*cache;
    what_was_brought_is_found(cache).await;
    of_many_who_ask_at_once_one_is_to_bring_it(cache).await;
    who_finds_nothing_gives_the_ticket_back(cache).await;
    a_ticket_is_good_once_and_for_its_key(cache).await;
    a_change_voids_what_is_known_and_every_ticket(cache).await;
    while_something_changes_nothing_is_known_of_it(cache).await;
    the_last_of_several_changes_ends_the_waiting(cache).await;
    a_change_whose_beginning_was_not_heard_voids_all_the_same(cache).await;
    many_keys_are_answered_in_their_order(cache).await;
}

async fn look(cache: &dyn Cache, key: &str) -> Found {
    let found = cache.look(&[key.to_owned()]).await.expect("it is there");
    found.into_iter().next().expect("one for each key")
}

async fn ticket(cache: &dyn Cache, key: &str) -> Ticket {
    match look(cache, key).await {
        Found::Missing(ticket) => ticket,
        other => panic!("a ticket for {key}, not {other:?}"),
    }
}

async fn bring(cache: &dyn Cache, key: &str, ticket: Ticket, value: &[u8]) -> bool {
    let brought = cache.bring(key, ticket, Some(value)).await;
    brought.expect("it is there")
}

async fn change(cache: &dyn Cache, key: &str) -> Change {
    let change = Change::begin();
    cache.change(key, change).await.expect("it is there");
    change
}

async fn changed(cache: &dyn Cache, key: &str, change: Change) {
    cache.changed(key, change).await.expect("it is there");
}

fn value(bytes: &'static [u8]) -> Found {
    Found::Value(bytes.into())
}

async fn what_was_brought_is_found(cache: &dyn Cache) {
    for bytes in [b"one".as_slice(), b"", b"\0\xff\r\n"] {
        let key = format!("brought:{}", bytes.len());
        let ticket = ticket(cache, &key).await;
        assert!(bring(cache, &key, ticket, bytes).await);
        assert_eq!(look(cache, &key).await, value(bytes));
        assert_eq!(look(cache, &key).await, value(bytes));
    }
}

async fn of_many_who_ask_at_once_one_is_to_bring_it(cache: &dyn Cache) {
    let asked = join_all((0..20).map(|_| look(cache, "many"))).await;
    let coming = asked.iter().filter(|found| **found == Found::Coming);
    assert_eq!(coming.count(), 19, "{asked:?}");
}

async fn who_finds_nothing_gives_the_ticket_back(cache: &dyn Cache) {
    let first = ticket(cache, "nothing").await;
    assert_eq!(cache.bring("nothing", first, None).await, Ok(true));
    let second = ticket(cache, "nothing").await;
    assert_ne!(first, second);
}

async fn a_ticket_is_good_once_and_for_its_key(cache: &dyn Cache) {
    let (here, there) = (ticket(cache, "here").await, ticket(cache, "there").await);
    assert!(!bring(cache, "here", there, b"x").await);
    assert!(bring(cache, "here", here, b"one").await);
    assert!(!bring(cache, "here", here, b"two").await);
    assert_eq!(look(cache, "here").await, value(b"one"));
    assert_eq!(look(cache, "there").await, Found::Coming);
}

async fn a_change_voids_what_is_known_and_every_ticket(cache: &dyn Cache) {
    let read_before = ticket(cache, "changed").await;
    let one = change(cache, "changed").await;
    assert!(!bring(cache, "changed", read_before, b"old").await);
    changed(cache, "changed", one).await;
    assert!(!bring(cache, "changed", read_before, b"old").await);
    let now = ticket(cache, "changed").await;
    assert!(bring(cache, "changed", now, b"new").await);
    let other = change(cache, "changed").await;
    assert_eq!(look(cache, "changed").await, Found::Changing);
    changed(cache, "changed", other).await;
    ticket(cache, "changed").await;
}

async fn while_something_changes_nothing_is_known_of_it(cache: &dyn Cache) {
    let one = change(cache, "changing").await;
    for _ in 0..3 {
        assert_eq!(look(cache, "changing").await, Found::Changing);
    }
    ticket(cache, "unchanged").await;
    changed(cache, "changing", one).await;
    ticket(cache, "changing").await;
}

async fn the_last_of_several_changes_ends_the_waiting(cache: &dyn Cache) {
    let (one, other) = (change(cache, "twice").await, change(cache, "twice").await);
    changed(cache, "twice", other).await;
    assert_eq!(look(cache, "twice").await, Found::Changing);
    // Said twice, as by one whose first word was answered late.
    changed(cache, "twice", other).await;
    assert_eq!(look(cache, "twice").await, Found::Changing);
    changed(cache, "twice", one).await;
    ticket(cache, "twice").await;
}

async fn a_change_whose_beginning_was_not_heard_voids_all_the_same(cache: &dyn Cache) {
    let read_before = ticket(cache, "unheard").await;
    assert!(bring(cache, "unheard", read_before, b"old").await);
    changed(cache, "unheard", Change::begin()).await;
    let read_before = ticket(cache, "unheard").await;
    changed(cache, "unheard", Change::begin()).await;
    assert!(!bring(cache, "unheard", read_before, b"old").await);
}

async fn many_keys_are_answered_in_their_order(cache: &dyn Cache) {
    let keys: Vec<String> = (0..300).map(|at| format!("order:{at}")).collect();
    for key in keys.iter().step_by(7) {
        let ticket = ticket(cache, key).await;
        assert!(bring(cache, key, ticket, key.as_bytes()).await);
    }
    let found = cache.look(&keys).await.expect("it is there");
    assert_eq!(found.len(), keys.len());
    for (at, (key, found)) in keys.iter().zip(found).enumerate() {
        match (at % 7, found) {
            (0, Found::Value(value)) => assert_eq!(value, key.as_bytes()),
            (1.., Found::Missing(_)) => {}
            (_, found) => panic!("{key}: {found:?}"),
        }
    }
    assert_eq!(cache.look(&[]).await, Ok(Vec::new()));
}
