//! SQLite keeps the word of the ports, and what it took over a restart.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::path::Path;
use std::sync::Arc;

use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use tertulia_services::identity::suite::account;
use tertulia_services::identity::{AccountStore as _, Created};
use tertulia_services::ids::{LoginId, UserId};
use tertulia_services::users::{ProfileStore as _, Update};
use tertulia_store::sqlite::{OpenError, Sqlite};

async fn fresh() -> (TempDir, Arc<Sqlite>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("people.sqlite"))
        .await
        .unwrap();
    (folder, Arc::new(store))
}

mod accounts {
    tertulia_services::account_store_suite!(super::fresh().await);
}

mod profiles {
    tertulia_services::profile_store_suite!(super::fresh().await);
}

async fn raw(path: &Path, statement: &'static str) {
    let url = format!("sqlite://{}", path.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let (folder, store) = fresh().await;
    store.create(account(1, "ana", "Ana María")).await.unwrap();
    store.create(account(2, "bob", "Bob")).await.unwrap();
    store.end_login(UserId(2), LoginId(2), 7).await.unwrap();
    let about = Update {
        user: UserId(1),
        shown: None,
        about: Some("hi".into()),
        shares_seen: Some(false),
        shares_presence: None,
        at_ms: 5,
    };
    let before = store.update(about).await.unwrap().unwrap();
    let login = store.login(LoginId(1)).await.unwrap();
    store.close().await;

    let store = Sqlite::open(&folder.path().join("people.sqlite"))
        .await
        .unwrap();
    assert_eq!(
        store.by_ids(&[UserId(1)]).await.unwrap(),
        std::slice::from_ref(&before)
    );
    assert_eq!(store.search("maría", UserId(0), 9).await.unwrap(), [before]);
    assert_eq!(store.by_name("ana").await.unwrap().unwrap().user, UserId(1));
    assert_eq!(store.login(LoginId(1)).await.unwrap(), login);
    assert_eq!(store.ended_since(0).await.unwrap(), [(LoginId(2), 7)]);
    assert_eq!(
        store.create(account(3, "ana", "Ana")).await.unwrap(),
        Created::NameTaken
    );
}

/// Makes a database as the first version of the program made it.
async fn made_by_the_first_migration(path: &Path) {
    const FIRST: &str = "0001_people.sql";
    let only_first = tempfile::tempdir().unwrap();
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    std::fs::copy(migrations.join(FIRST), only_first.path().join(FIRST)).unwrap();
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let migrator = Migrator::new(only_first.path()).await.unwrap();
    migrator
        .run_direct(None, &mut connection, false)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO users (user_id, name, display_name, about, created_at_ms, changed_at_ms)
         VALUES (7, 'old', 'Somebody', 'from before', 1, 1)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn who_was_there_before_the_choices_shares_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.sqlite");
    made_by_the_first_migration(&path).await;
    let store = Sqlite::open(&path).await.unwrap();
    let old = store.by_ids(&[UserId(7)]).await.unwrap().remove(0);
    assert_eq!((&*old.name, &*old.about), ("old", "from before"));
    assert!(old.shares_seen && old.shares_presence);
    let choice = Update {
        user: UserId(7),
        shown: None,
        about: None,
        shares_seen: Some(false),
        shares_presence: None,
        at_ms: 5,
    };
    let changed = store.update(choice).await.unwrap().unwrap();
    assert!(!changed.shares_seen);
    store.close().await;

    let store = Sqlite::open(&path).await.unwrap();
    assert_eq!(store.by_ids(&[UserId(7)]).await.unwrap(), [changed]);
}

#[tokio::test]
async fn what_was_answered_is_there_without_a_clean_close() {
    let (folder, store) = fresh().await;
    store.create(account(1, "ana", "Ana")).await.unwrap();
    // A copy of the files as they are now is what a crash would leave.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    let crashed = Sqlite::open(&copy.path().join("people.sqlite"))
        .await
        .unwrap();
    assert!(crashed.by_name("ana").await.unwrap().is_some());
}

#[tokio::test]
async fn writers_and_readers_at_once_get_along() {
    let (_folder, store) = fresh().await;
    let writes = (1..=40).map(|id| {
        let store = Arc::clone(&store);
        async move {
            store
                .create(account(id, &format!("user{id}"), "Somebody"))
                .await
                .unwrap();
            assert_eq!(store.by_ids(&[UserId(id)]).await.unwrap().len(), 1);
            store.search("user", UserId(0), 50).await.unwrap();
        }
    });
    futures::future::join_all(writes).await;
    assert_eq!(store.search("some", UserId(0), 50).await.unwrap().len(), 40);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (folder, store) = fresh().await;
    store.close().await;
    let path = folder.path().join("people.sqlite");
    raw(
        &path,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, x'00', 0)",
    )
    .await;
    let refused = Sqlite::open(&path).await.unwrap_err();
    assert!(
        matches!(
            refused,
            OpenError::NewerSchema {
                migration: 9999,
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("newer version"), "{refused}");
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let (folder, store) = fresh().await;
    store.close().await;
    let path = folder.path().join("people.sqlite");
    raw(
        &path,
        "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1",
    )
    .await;
    let refused = Sqlite::open(&path).await.unwrap_err();
    assert!(
        matches!(refused, OpenError::Migration { .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.sqlite");
    std::fs::write(
        &path,
        "not a database, but long enough to look like one".repeat(100),
    )
    .unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(
        Sqlite::open(&path).await.unwrap_err(),
        OpenError::Engine { .. }
    ));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_on_the_machine_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let (folder, store) = fresh().await;
    store.create(account(1, "ana", "Ana")).await.unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn a_closed_store_fails_and_does_not_hang() {
    let (_folder, store) = fresh().await;
    store.close().await;
    assert_eq!(
        store.by_name("ana").await.unwrap_err().reason(),
        "STORE_UNAVAILABLE"
    );
    assert_eq!(
        store
            .create(account(1, "a", "A"))
            .await
            .unwrap_err()
            .reason(),
        "STORE_UNAVAILABLE"
    );
}
