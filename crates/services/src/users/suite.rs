//! The proof that a store of profiles keeps the word of its port. An adapter that is also a store of accounts
//! says `profile_store_suite!(fresh)`, where `fresh` gives what must be kept alive and an empty store; each
//! claim becomes a test.

#![allow(
    clippy::unwrap_used,
    reason = "this is a test, only compiled where an adapter asks for it"
)]

use std::sync::Arc;

use super::model::User;
use super::ports::*;
use super::rules;
use crate::identity::ports::AccountStore;
use crate::identity::suite::account;
use crate::ids::UserId;

/// Makes a test of every claim of the suite.
#[macro_export]
macro_rules! profile_store_suite {
    ($fresh:expr) => {
        $crate::profile_store_suite!(@ $fresh;
            a_new_account_has_its_profile
            unknown_ids_are_left_out
            only_what_is_set_changes
            an_unknown_user_is_not_changed
            names_come_before_words_and_both_by_name
            a_new_display_name_is_found_and_the_old_one_is_not
            a_prefix_is_taken_literally
            nobody_finds_who_is_excepted_and_nobody_finds_too_many
        );
    };
    (@ $fresh:expr; $($claim:ident)*) => {
        $(
            #[tokio::test]
            async fn $claim() {
                let (_keep, store) = $fresh;
                $crate::users::suite::$claim(store).await;
            }
        )*
    };
}

/// A store of both halves of an account.
pub trait Store: AccountStore + ProfileStore {}
impl<S: AccountStore + ProfileStore> Store for S {}

async fn person(store: &impl Store, id: i64, name: &str, display_name: &str) {
    store.create(account(id, name, display_name)).await.unwrap();
}

async fn found(store: &impl Store, prefix: &str) -> Vec<String> {
    let users = store.search(prefix, UserId(0), 50).await.unwrap();
    users.into_iter().map(|user| user.name).collect()
}

pub async fn a_new_account_has_its_profile(store: Arc<impl Store>) {
    person(&*store, 1, "ana", "Ana María").await;
    let user = store.by_ids(&[UserId(1)]).await.unwrap().remove(0);
    assert_eq!(
        (user.id, &*user.name, &*user.display_name),
        (UserId(1), "ana", "Ana María")
    );
    assert_eq!(user.about, "");
}

pub async fn unknown_ids_are_left_out(store: Arc<impl Store>) {
    for id in 1..=120 {
        person(&*store, id, &format!("user{id}"), "Somebody").await;
    }
    let ids: Vec<UserId> = (51..=150).map(UserId).collect();
    let mut known: Vec<i64> = store
        .by_ids(&ids)
        .await
        .unwrap()
        .iter()
        .map(|user| user.id.0)
        .collect();
    known.sort_unstable();
    assert_eq!(known, (51..=120).collect::<Vec<_>>());
    assert!(store.by_ids(&[]).await.unwrap().is_empty());
}

pub async fn only_what_is_set_changes(store: Arc<impl Store>) {
    person(&*store, 1, "ana", "Ana").await;
    person(&*store, 2, "bob", "Bob").await;
    let about = Update {
        user: UserId(1),
        shown: None,
        about: Some("hi".into()),
        shares_seen: None,
        shares_presence: None,
        at_ms: 5,
    };
    let user = store.update(about).await.unwrap().unwrap();
    assert_eq!((&*user.display_name, &*user.about), ("Ana", "hi"));
    let shown = Shown {
        display_name: "Anita".into(),
        search_words: vec!["anita".into()],
    };
    let shown = Update {
        user: UserId(1),
        shown: Some(shown),
        about: None,
        shares_seen: None,
        shares_presence: None,
        at_ms: 5,
    };
    let user = store.update(shown).await.unwrap().unwrap();
    assert_eq!((&*user.display_name, &*user.about), ("Anita", "hi"));
    assert!(
        user.shares_seen && user.shares_presence,
        "everybody does until they choose"
    );
    let keeps_it = Update {
        user: UserId(1),
        shown: None,
        about: None,
        shares_seen: Some(false),
        shares_presence: None,
        at_ms: 5,
    };
    let changed = store.update(keeps_it).await.unwrap().unwrap();
    let user = User {
        shares_seen: false,
        ..user
    };
    assert_eq!(changed, user);
    let hides = Update {
        user: UserId(1),
        shown: None,
        about: None,
        shares_seen: None,
        shares_presence: Some(false),
        at_ms: 5,
    };
    let changed = store.update(hides).await.unwrap().unwrap();
    let user = User {
        shares_presence: false,
        ..user
    };
    assert_eq!(changed, user);
    assert_eq!(store.by_ids(&[UserId(1)]).await.unwrap(), [user]);
    assert_eq!(
        store.by_ids(&[UserId(2)]).await.unwrap()[0].display_name,
        "Bob"
    );
}

pub async fn an_unknown_user_is_not_changed(store: Arc<impl Store>) {
    let update = Update {
        user: UserId(9),
        shown: None,
        about: Some("hi".into()),
        shares_seen: None,
        shares_presence: None,
        at_ms: 5,
    };
    assert_eq!(store.update(update).await.unwrap(), None);
    assert!(store.by_ids(&[UserId(9)]).await.unwrap().is_empty());
}

pub async fn names_come_before_words_and_both_by_name(store: Arc<impl Store>) {
    person(&*store, 1, "zoe", "Ana Zoe").await;
    person(&*store, 2, "anabel", "Bel").await;
    person(&*store, 3, "carl", "Carl-Ana").await;
    person(&*store, 4, "ana", "Something else").await;
    person(&*store, 5, "banana", "Fruit").await;
    assert_eq!(
        found(&*store, "ana").await,
        ["ana", "anabel", "carl", "zoe"]
    );
    assert_eq!(found(&*store, "ana z").await, ["zoe"]);
}

pub async fn a_new_display_name_is_found_and_the_old_one_is_not(store: Arc<impl Store>) {
    person(&*store, 1, "ana", "Первое Имя").await;
    assert_eq!(found(&*store, "имя").await, ["ana"]);
    let shown = Shown {
        search_words: rules::search_words("ana", "Straße"),
        display_name: "Straße".into(),
    };
    let update = Update {
        user: UserId(1),
        shown: Some(shown),
        about: None,
        shares_seen: None,
        shares_presence: None,
        at_ms: 5,
    };
    store.update(update).await.unwrap().unwrap();
    assert!(found(&*store, "имя").await.is_empty());
    assert_eq!(found(&*store, "strass").await, ["ana"]);
    assert_eq!(found(&*store, "an").await, ["ana"]);
}

pub async fn a_prefix_is_taken_literally(store: Arc<impl Store>) {
    person(&*store, 1, "ana_b", "100% Ana").await;
    person(&*store, 2, "anaxb", "100 Ana").await;
    assert_eq!(found(&*store, "ana_").await, ["ana_b"]);
    assert_eq!(found(&*store, "100%").await, ["ana_b"]);
    assert!(found(&*store, "%").await.is_empty());
    assert!(found(&*store, "'; drop table users; --").await.is_empty());
}

pub async fn nobody_finds_who_is_excepted_and_nobody_finds_too_many(store: Arc<impl Store>) {
    for id in 1..=9 {
        person(&*store, id, &format!("user{id}"), "Same Name").await;
    }
    let names = store.search("user", UserId(3), 4).await.unwrap();
    let names: Vec<String> = names.into_iter().map(|user| user.name).collect();
    assert_eq!(names, ["user1", "user2", "user4", "user5"]);
    let words = store.search("name", UserId(1), 2).await.unwrap();
    let words: Vec<String> = words.into_iter().map(|user| user.name).collect();
    assert_eq!(words, ["user2", "user3"]);
}
