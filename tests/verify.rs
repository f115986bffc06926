//! `tertulia verify`, the operator's check of a data folder, through the real binary.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::path::Path;
use std::process::Output;

use serde_json::json;
use tertulia_tests::node::{Process, Start, tertulia};
use tertulia_tests::wire::Person;

async fn verify(folder: &Path) -> Output {
    let mut command = tertulia();
    command.arg("verify").arg("--data").arg(folder);
    command.output().await.unwrap()
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_folder_in_use_is_left_alone_and_one_at_rest_is_found_well() {
    let folder = tempfile::tempdir().unwrap();
    let node = Process::start(folder.path(), Start::default())
        .await
        .unwrap();
    let url = node.url.clone();
    let ann = Person::sign_up(&url, "ann").await;
    let bob = Person::sign_up(&url, "bob").await;
    let chat = ann.create(&url, "group", "checked", &[&bob]).await;
    for n in 0..5 {
        let answer = ann.say(&url, &chat, &format!("message-{n}"), "hello").await;
        assert_eq!(answer.status, 200);
    }
    let edit = json!({"chatId": chat, "messageSeq": "2", "text": "hello there"});
    ann.ok(&url, "EditMessage", edit).await;

    let output = verify(folder.path()).await;
    assert_eq!(output.status.code(), Some(1), "{}", words(&output.stdout));
    assert_eq!(words(&output.stdout), "");
    let why = words(&output.stderr);
    assert!(why.contains("is in use"), "{why}");
    assert!(node.terminate().await.unwrap().success());

    let output = verify(folder.path()).await;
    let report = words(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{report}{}",
        words(&output.stderr)
    );
    let line = |name: &str| {
        report
            .lines()
            .find(|l| l.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert_eq!(line("chats"), "chats      1 with 7 events");
    assert_eq!(line("users"), "users      2 with 2 events of their own");
    assert_eq!(line("problems"), "problems   0");
    // To look changes nothing: the same is found again, and the server starts.
    assert_eq!(words(&verify(folder.path()).await.stdout), report);
    let node = Process::start(folder.path(), Start::default())
        .await
        .unwrap();
    assert_eq!(
        ann.say(&node.url, &chat, "message-again", "hello")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let output = verify(&missing).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output.stderr).contains("has no chats"));
    assert!(!missing.exists());
}
