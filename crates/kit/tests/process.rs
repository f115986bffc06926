//! What concerns a whole process: its log, its panics, its signals. Each claim runs this test binary again
//! as a child and reads what it wrote.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tertulia_kit::lifecycle::{catch, signals};
use tertulia_kit::telemetry::{self, Context, Format, Options};
use tracing::Instrument as _;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn child(test: &str) -> Child {
    Command::new(std::env::current_exe().expect("a running test has a file"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

fn start() {
    telemetry::start(&Options {
        format: Format::Json,
        levels: "info".into(),
    })
    .expect("the log starts");
}

#[tokio::test]
#[ignore = "runs as a child of another test"]
async fn child_panics() {
    start();
    let password = String::from("hunter2");
    let request = async {
        tracing::info_span!("inner").in_scope(|| tracing::info!("at work"));
        assert_eq!(password, "other");
    };
    let context = Context::accept(Some("abc"), Some(PARENT));
    let panicked = catch(request.instrument(context.span("Send")))
        .await
        .unwrap_err();
    assert!(panicked.to_string().contains("process.rs:"), "{panicked}");
    let planned: Result<(), _> = catch(async { panic!("a plain text") }).await;
    assert!(planned.is_err());
}

#[test]
fn a_panic_is_one_line_with_the_ids_of_its_request_and_without_what_it_carried() {
    let mut child = child("child_panics");
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    for line in &lines[..2] {
        assert_eq!(line["spans"][0]["request_id"], "abc", "{text}");
        assert_eq!(
            line["spans"][0]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736",
            "{text}"
        );
    }
    assert_eq!(lines[1]["level"], "ERROR");
    assert!(
        lines[2]["message"]
            .as_str()
            .unwrap()
            .ends_with(": a plain text"),
        "{text}"
    );
}

#[tokio::test]
#[ignore = "runs as a child of another test"]
async fn child_waits_for_signals() {
    start();
    let mut signals = signals().unwrap();
    tracing::info!("ready");
    for _ in 0..2 {
        tracing::info!("{}", signals.next().await);
    }
}

#[test]
fn signals_are_told_and_do_not_end_the_process() {
    let mut child = child("child_waits_for_signals");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut next = || -> String {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        line["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(), "ready");
    for signal in ["TERM", "INT"] {
        let sent = Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        assert_eq!(next(), format!("SIG{signal}"));
    }
    assert!(child.wait().unwrap().success());
}
