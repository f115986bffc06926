use tertulia_kit::clock::ManualClock;

use super::*;
use crate::identity::memory::Memory;
use crate::identity::ports::AccountStore as _;
use crate::identity::suite::account;
use crate::ids::LoginId;

mod memory_keeps_the_word_of_the_port {
    crate::profile_store_suite!(((), super::Arc::new(super::Memory::default())));
}

fn caller(user: i64) -> Caller {
    Caller {
        user: UserId(user),
        login: LoginId(1),
        device: "d".into(),
        expires_at_ms: i64::MAX,
    }
}

async fn users(people: &[(i64, &str, &str)]) -> Users {
    let store = Arc::new(Memory::default());
    for (id, name, display_name) in people {
        store
            .create(account(*id, name, display_name))
            .await
            .unwrap();
    }
    Users::new(store, ManualClock::at(1_800_000_000_000))
}

#[tokio::test]
async fn a_profile_is_changed_by_its_owner() {
    let users = users(&[(1, "ana", "Ana")]).await;
    let change = ProfileChange {
        display_name: Some("  Ana B. ".into()),
        about: None,
        shares_seen: None,
    };
    let changed = users.update(&caller(1), change).await.unwrap();
    assert_eq!(changed.display_name, "Ana B.");
    assert_eq!(users.me(&caller(1)).await.unwrap(), changed);
}

#[tokio::test]
async fn a_change_that_breaks_a_rule_changes_nothing() {
    let users = users(&[(1, "ana", "Ana")]).await;
    let change = ProfileChange {
        display_name: Some("a\u{202e}".into()),
        about: Some("x".into()),
        shares_seen: Some(false),
    };
    let failure = users.update(&caller(1), change).await.unwrap_err();
    assert_eq!(failure.reason(), "INVALID_REQUEST");
    let me = users.me(&caller(1)).await.unwrap();
    assert_eq!((&*me.about, me.shares_seen), ("", true));
}

#[tokio::test]
async fn a_search_leaves_the_caller_out_and_says_when_there_are_more() {
    let users = users(&[(1, "ana", "Ana"), (2, "anabel", "A"), (3, "anatol", "B")]).await;
    let found = users.search(&caller(1), "@ANA", 1).await.unwrap();
    assert_eq!(
        found
            .users
            .iter()
            .map(|user| &*user.name)
            .collect::<Vec<_>>(),
        ["anabel"]
    );
    assert!(found.more);
    assert!(!users.search(&caller(1), "ana", 2).await.unwrap().more);
}

#[tokio::test]
async fn a_search_forgets_case_in_any_script() {
    let users = users(&[(1, "ana", "Ana"), (2, "kostas", "Κώστας ΟΔΟΣ")]).await;
    for query in ["οδοσ", "ΟΔΟς", " κώστας  οδο"] {
        assert_eq!(
            users
                .search(&caller(1), query, 9)
                .await
                .unwrap()
                .users
                .len(),
            1,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_search_for_nothing_finds_nobody() {
    let users = users(&[(1, "ana", "Ana"), (2, "bob", "Bob")]).await;
    assert_eq!(
        users.search(&caller(1), " @ ", 9).await.unwrap(),
        Found::default()
    );
    assert!(users.search(&caller(1), &"x".repeat(65), 9).await.is_err());
}

#[tokio::test]
async fn many_ids_are_answered_once_each() {
    let people: Vec<(i64, String)> = (1..=250).map(|id| (id, format!("user{id}"))).collect();
    let people: Vec<(i64, &str, &str)> = people
        .iter()
        .map(|(id, name)| (*id, name.as_str(), "x"))
        .collect();
    let users = users(&people).await;
    let twice: Vec<UserId> = (1..=300).chain(1..=300).map(UserId).collect();
    assert_eq!(users.by_ids(&twice).await.unwrap().len(), 250);
    let there = users
        .existing(&[UserId(251), UserId(250), UserId(250)])
        .await;
    assert_eq!(there.unwrap(), [UserId(250)]);
}
