//! The proof that a store of accounts keeps the word of its port. An adapter says
//! `account_store_suite!(fresh)`, where `fresh` gives what must be kept alive and an empty store; each claim
//! becomes a test.

#![allow(
    clippy::unwrap_used,
    reason = "this is a test, only compiled where an adapter asks for it"
)]

use std::sync::Arc;

use super::ports::*;
use crate::ids::{LoginId, UserId};
use crate::users::ports::{ProfileStore, Shown};
use crate::users::rules;

/// Makes a test of every claim of the suite.
#[macro_export]
macro_rules! account_store_suite {
    ($fresh:expr) => {
        $crate::account_store_suite!(@ $fresh;
            an_account_is_found_by_its_name
            a_name_is_given_once
            a_refused_account_leaves_nothing
            of_two_accounts_at_once_one_gets_the_name
            a_rehash_does_not_undo_another_password
            a_login_is_kept_as_it_was_given
            a_token_is_exchanged_once
            of_many_exchanges_at_once_one_succeeds
            an_ended_login_exchanges_nothing
            logins_are_listed_newest_first_without_the_ended_and_the_expired
            a_login_is_ended_once_and_only_by_its_user
            ended_logins_are_told_since_a_time
            the_oldest_login_ends_when_there_are_too_many
            what_is_long_over_is_forgotten
            what_is_over_is_forgotten_of_all_users_so_many_at_once
        );
    };
    (@ $fresh:expr; $($claim:ident)*) => {
        $(
            #[tokio::test]
            async fn $claim() {
                let (_keep, store) = $fresh;
                $crate::identity::suite::$claim(store).await;
            }
        )*
    };
}

const NOW: i64 = 1_800_000_000_000;
const KEEP_ALL: Keep = Keep {
    open_max: 1_000,
    since_ms: 0,
};

/// An account to be made, with the login of the same number.
pub fn account(id: i64, name: &str, display_name: &str) -> CreateAccount {
    CreateAccount {
        user: UserId(id),
        name: name.into(),
        password: password("first"),
        shown: Shown {
            display_name: display_name.into(),
            search_words: rules::search_words(name, display_name),
        },
        login: login(id, id, NOW),
    }
}

fn password(text: &str) -> PasswordHash {
    PasswordHash {
        phc: format!("$argon2id${text}"),
        pepper_id: "pepper".into(),
    }
}

fn login(user: i64, id: i64, at_ms: i64) -> NewLogin {
    NewLogin {
        id: LoginId(id),
        user: UserId(user),
        device_id: format!("device-{id}"),
        device_name: "Ana's \"phone\" ☎".into(),
        created_at_ms: at_ms,
        expires_at_ms: at_ms + 1_000,
        family: Family {
            seed: [7; 32],
            pepper_id: "pepper".into(),
        },
        refresh: hash(id),
    }
}

fn hash(of: i64) -> TokenHash {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&of.to_le_bytes());
    hash
}

fn rotation(login: i64, from: i64, to: i64) -> Rotation {
    Rotation {
        login: LoginId(login),
        from: hash(from),
        to: hash(to),
        at_ms: NOW + 5,
        expires_at_ms: NOW + 2_000,
    }
}

fn ids(logins: &[LoginRecord]) -> Vec<i64> {
    logins.iter().map(|login| login.id.0).collect()
}

pub async fn an_account_is_found_by_its_name(store: Arc<impl AccountStore>) {
    assert_eq!(
        store.create(account(1, "ana", "Ana")).await.unwrap(),
        Created::Done
    );
    let found = store.by_name("ana").await.unwrap();
    assert_eq!(
        found,
        Some(Account {
            user: UserId(1),
            password: password("first")
        })
    );
    assert_eq!(store.by_name("an").await.unwrap(), None);
    assert_eq!(store.by_name("").await.unwrap(), None);
}

pub async fn a_name_is_given_once(store: Arc<impl AccountStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    assert_eq!(
        store.create(account(2, "ana", "Another")).await.unwrap(),
        Created::NameTaken
    );
    assert_eq!(store.by_name("ana").await.unwrap().unwrap().user, UserId(1));
}

pub async fn a_refused_account_leaves_nothing(store: Arc<impl AccountStore + ProfileStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    store.create(account(2, "ana", "Another")).await.unwrap();
    assert!(store.by_ids(&[UserId(2)]).await.unwrap().is_empty());
    assert!(store.login(LoginId(2)).await.unwrap().is_none());
    assert!(
        store
            .search("another", UserId(0), 9)
            .await
            .unwrap()
            .is_empty()
    );
}

pub async fn of_two_accounts_at_once_one_gets_the_name(store: Arc<impl AccountStore>) {
    let (one, two) = tokio::join!(
        store.create(account(1, "ana", "A")),
        store.create(account(2, "ana", "B"))
    );
    let done = [one.unwrap(), two.unwrap()]
        .into_iter()
        .filter(|c| *c == Created::Done)
        .count();
    assert_eq!(done, 1);
}

pub async fn a_rehash_does_not_undo_another_password(store: Arc<impl AccountStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    store
        .rehash(UserId(1), &password("first"), &password("second"))
        .await
        .unwrap();
    store
        .rehash(UserId(1), &password("first"), &password("third"))
        .await
        .unwrap();
    assert_eq!(
        store.by_name("ana").await.unwrap().unwrap().password,
        password("second")
    );
}

pub async fn a_login_is_kept_as_it_was_given(store: Arc<impl AccountStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    store
        .add_login(login(1, 20, NOW + 1), KEEP_ALL)
        .await
        .unwrap();
    for new in [login(1, 1, NOW), login(1, 20, NOW + 1)] {
        let kept = store.login(new.id).await.unwrap();
        assert_eq!(kept, Some(new.into_record()));
    }
    assert_eq!(store.login(LoginId(9)).await.unwrap(), None);
}

pub async fn a_token_is_exchanged_once(store: Arc<impl AccountStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    assert!(store.rotate(rotation(1, 1, 101)).await.unwrap());
    assert!(!store.rotate(rotation(1, 1, 102)).await.unwrap());
    assert!(!store.rotate(rotation(9, 1, 102)).await.unwrap());
    let kept = store.login(LoginId(1)).await.unwrap().unwrap();
    assert_eq!((kept.refresh, kept.spent), (hash(101), Some(hash(1))));
    assert_eq!(
        (kept.refreshed_at_ms, kept.expires_at_ms),
        (NOW + 5, NOW + 2_000)
    );
    assert!(store.rotate(rotation(1, 101, 103)).await.unwrap());
    let kept = store.login(LoginId(1)).await.unwrap().unwrap();
    assert_eq!((kept.refresh, kept.spent), (hash(103), Some(hash(101))));
}

pub async fn of_many_exchanges_at_once_one_succeeds(store: Arc<impl AccountStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    let (a, b, c, d) = tokio::join!(
        store.rotate(rotation(1, 1, 101)),
        store.rotate(rotation(1, 1, 102)),
        store.rotate(rotation(1, 1, 103)),
        store.rotate(rotation(1, 1, 104)),
    );
    let done = [a, b, c, d]
        .map(Result::unwrap)
        .into_iter()
        .filter(|done| *done)
        .count();
    assert_eq!(done, 1);
}

pub async fn an_ended_login_exchanges_nothing(store: Arc<impl AccountStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    assert!(store.end_login(UserId(1), LoginId(1), NOW).await.unwrap());
    assert!(!store.rotate(rotation(1, 1, 101)).await.unwrap());
    assert_eq!(
        store.login(LoginId(1)).await.unwrap().unwrap().refresh,
        hash(1)
    );
}

pub async fn logins_are_listed_newest_first_without_the_ended_and_the_expired(
    store: Arc<impl AccountStore>,
) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    store.create(account(2, "bob", "Bob")).await.unwrap();
    for (id, at_ms) in [
        (13, NOW + 300),
        (12, NOW + 200),
        (14, NOW + 300),
        (11, NOW + 100),
    ] {
        store
            .add_login(login(1, id, at_ms), KEEP_ALL)
            .await
            .unwrap();
    }
    store
        .end_login(UserId(1), LoginId(12), NOW + 400)
        .await
        .unwrap();
    assert_eq!(
        ids(&store.logins(UserId(1), NOW + 400).await.unwrap()),
        [14, 13, 11, 1]
    );
    assert_eq!(
        ids(&store.logins(UserId(1), NOW + 1_100).await.unwrap()),
        [14, 13]
    );
    assert_eq!(ids(&store.logins(UserId(2), NOW).await.unwrap()), [2]);
    assert!(store.logins(UserId(3), NOW).await.unwrap().is_empty());
}

pub async fn a_login_is_ended_once_and_only_by_its_user(store: Arc<impl AccountStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    store.create(account(2, "bob", "Bob")).await.unwrap();
    assert!(
        !store
            .end_login(UserId(2), LoginId(1), NOW + 1)
            .await
            .unwrap()
    );
    assert!(
        !store
            .end_login(UserId(1), LoginId(9), NOW + 1)
            .await
            .unwrap()
    );
    assert!(
        store
            .end_login(UserId(1), LoginId(1), NOW + 2)
            .await
            .unwrap()
    );
    assert!(
        !store
            .end_login(UserId(1), LoginId(1), NOW + 3)
            .await
            .unwrap()
    );
    assert_eq!(
        store.login(LoginId(1)).await.unwrap().unwrap().ended_at_ms,
        Some(NOW + 2)
    );
    assert_eq!(
        store.login(LoginId(2)).await.unwrap().unwrap().ended_at_ms,
        None
    );
}

pub async fn ended_logins_are_told_since_a_time(store: Arc<impl AccountStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    for id in 11..=14 {
        store.add_login(login(1, id, NOW), KEEP_ALL).await.unwrap();
    }
    for id in 11..=13 {
        store
            .end_login(UserId(1), LoginId(id), NOW + id)
            .await
            .unwrap();
    }
    let mut ended = store.ended_since(NOW + 12).await.unwrap();
    ended.sort_unstable();
    assert_eq!(ended, [(LoginId(12), NOW + 12), (LoginId(13), NOW + 13)]);
}

pub async fn the_oldest_login_ends_when_there_are_too_many(store: Arc<impl AccountStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    store.create(account(2, "bob", "Bob")).await.unwrap();
    let keep = Keep {
        open_max: 2,
        since_ms: 0,
    };
    assert!(
        store
            .add_login(login(1, 11, NOW + 1), keep)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        store.add_login(login(1, 12, NOW + 2), keep).await.unwrap(),
        [LoginId(1)]
    );
    assert_eq!(
        store.add_login(login(1, 13, NOW + 3), keep).await.unwrap(),
        [LoginId(11)]
    );
    assert_eq!(
        ids(&store.logins(UserId(1), NOW + 4).await.unwrap()),
        [13, 12]
    );
    assert_eq!(
        store.login(LoginId(11)).await.unwrap().unwrap().ended_at_ms,
        Some(NOW + 3)
    );
    assert_eq!(ids(&store.logins(UserId(2), NOW + 4).await.unwrap()), [2]);
}

pub async fn what_is_long_over_is_forgotten(store: Arc<impl AccountStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    store.create(account(2, "bob", "Bob")).await.unwrap();
    store
        .add_login(login(1, 11, NOW + 5_000), KEEP_ALL)
        .await
        .unwrap();
    store
        .add_login(login(1, 12, NOW + 5_000), KEEP_ALL)
        .await
        .unwrap();
    store
        .end_login(UserId(1), LoginId(11), NOW + 5_001)
        .await
        .unwrap();
    let keep = Keep {
        open_max: 9,
        since_ms: NOW + 5_001,
    };
    store
        .add_login(login(1, 13, NOW + 5_002), keep)
        .await
        .unwrap();
    assert_eq!(
        store.login(LoginId(1)).await.unwrap(),
        None,
        "expired before"
    );
    assert!(
        store.login(LoginId(2)).await.unwrap().is_some(),
        "somebody else's"
    );
    assert!(
        store.login(LoginId(11)).await.unwrap().is_some(),
        "ended just then"
    );
    let keep = Keep {
        open_max: 9,
        since_ms: NOW + 5_002,
    };
    store
        .add_login(login(1, 14, NOW + 5_003), keep)
        .await
        .unwrap();
    assert_eq!(
        store.login(LoginId(11)).await.unwrap(),
        None,
        "ended before"
    );
    assert_eq!(
        ids(&store.logins(UserId(1), NOW + 5_003).await.unwrap()),
        [14, 13, 12]
    );
}

pub async fn what_is_over_is_forgotten_of_all_users_so_many_at_once(store: Arc<impl AccountStore>) {
    store.create(account(1, "ana", "Ana")).await.unwrap();
    store.create(account(2, "bob", "Bob")).await.unwrap();
    for id in 11..=13 {
        store
            .add_login(login(1, id, NOW + 5_000), KEEP_ALL)
            .await
            .unwrap();
    }
    for id in [11, 12] {
        store
            .end_login(UserId(1), LoginId(id), NOW + 5_000)
            .await
            .unwrap();
    }
    let before = NOW + 5_001;
    // The two logins of the beginning have expired, and two of the others have ended.
    assert_eq!(store.forget_logins(before, 3).await.unwrap(), 3);
    assert_eq!(store.forget_logins(before, 3).await.unwrap(), 1);
    assert_eq!(store.forget_logins(before, 3).await.unwrap(), 0);
    for id in [1, 2, 11, 12] {
        assert_eq!(store.login(LoginId(id)).await.unwrap(), None, "{id}");
    }
    assert!(store.login(LoginId(13)).await.unwrap().is_some());
}
