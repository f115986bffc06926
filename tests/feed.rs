//! The feed of the real binary: an export is killed again and again, and so is the server, and the lines of the export are
//! exactly what was acknowledged.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tertulia_kit::instances::nats;
use tertulia_kit::instances::postgres::Instance;
use tertulia_kit::stream::Stream as _;
use tertulia_kit::stream::nats::{self as jetstream, JetStream};
use tertulia_tests::checker::{History, Outcome};
use tertulia_tests::many::{NODE_KEY, PEPPER};
use tertulia_tests::node::{Local, Process, Start, tertulia};
use tertulia_tests::town::{Plan, Town, Traffic};
use tertulia_tests::wire::{Person, post_as_node};
use tokio::process::Child;

const PATIENCE: Duration = Duration::from_secs(60);
const FED: [(&str, &str); 1] = [("feed.enabled", "true")];

fn seed() -> StdRng {
    let given = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| rand::rng().next_u64());
    println!("SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// An export into a file, by `tertulia feed follow`.
struct Export<'a> {
    data: &'a Path,
    env: &'a [(String, String)],
    url: String,
    file: PathBuf,
    /// By the command's own `--into`; else by its standard output.
    is_own: bool,
    /// From the stream of JetStream; else from the node.
    is_of_jetstream: bool,
}

impl Export<'_> {
    fn follow(&self) -> tokio::process::Command {
        let mut follow = tertulia();
        follow.args([
            "feed",
            "follow",
            "--consumer",
            "export",
            "--from",
            "beginning",
        ]);
        follow
            .arg("--data")
            .arg(self.data)
            .args(["--url", &self.url]);
        follow.envs(self.env.iter().map(|(name, value)| (name, value)));
        if self.is_of_jetstream {
            follow.arg("--jetstream");
        }
        match self.is_own {
            true => _ = follow.arg("--into").arg(&self.file),
            false => {
                let mut file = OpenOptions::new();
                let file = file.create(true).append(true).open(&self.file);
                follow.stdout(file.unwrap());
            }
        }
        follow.stdin(Stdio::null()).stderr(Stdio::null());
        follow.kill_on_drop(true);
        follow
    }

    /// Begins to follow, to be killed.
    fn start(&self) -> Child {
        self.follow().spawn().unwrap()
    }

    /// Takes everything that there is.
    async fn finish(&self) {
        let mut follow = self.follow();
        let following = follow.arg("--once").stderr(Stdio::piped()).spawn();
        let done = following.unwrap().wait_with_output().await.unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// Its lines by place, without one that is only begun.
    fn whole_lines(&self) -> BTreeMap<u64, Value> {
        let text = std::fs::read_to_string(&self.file).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        self.read(whole)
    }

    /// Its lines by place. In a file of its own each is there once; else what came again has the same place.
    fn lines(&self) -> BTreeMap<u64, Value> {
        self.read(&std::fs::read_to_string(&self.file).unwrap())
    }

    fn read(&self, text: &str) -> BTreeMap<u64, Value> {
        let mut lines = BTreeMap::new();
        for line in text.lines() {
            // Who was killed in the middle of a line has left its beginning before the next one.
            let whole = match self.is_own {
                true => line,
                false => line.rfind("{\"epoch\"").map_or(line, |at| &line[at..]),
            };
            let line: Value = serde_json::from_str(whole).unwrap();
            let place = line["place"].as_str().unwrap().parse().unwrap();
            let before = lines.insert(place, line);
            assert!(before.is_none() || !self.is_own, "{place} is there twice");
        }
        lines
    }
}

/// Each chat's seqs in the order of the places.
fn logs(lines: &BTreeMap<u64, Value>) -> BTreeMap<i64, Vec<i64>> {
    let number = |value: &Value| value.as_str().unwrap().parse::<i64>().unwrap();
    let mut logs: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for line in lines.values() {
        let event = &line["event"];
        let log = logs.entry(number(&event["chatId"])).or_default();
        log.push(number(&event["seq"]));
    }
    logs
}

/// The same of what the store has.
fn stored(history: &History) -> BTreeMap<i64, Vec<i64>> {
    let logs = history.logs.iter();
    let logs = logs.map(|(chat, rows)| (*chat, rows.iter().map(|row| row.seq).collect()));
    logs.filter(|(_, log): &(_, Vec<_>)| !log.is_empty())
        .collect()
}

/// The export has each event that the store has, once, those of a chat in the order of its log, and no other; so it has
/// every message that was acknowledged.
fn agree(exported: &BTreeMap<i64, Vec<i64>>, history: &History) {
    assert_eq!(*exported, stored(history));
    for send in &history.sends {
        if let Outcome::Acked(seq) = send.outcome {
            assert!(exported[&send.chat].contains(&seq), "{send:?}");
        }
    }
}

/// The export and the server are killed at random while a town talks. What the export has is what the checker found that
/// everybody has: every acknowledged message, and nothing else.
async fn killed_at_random(env: &[(String, String)], is_own: bool, kills: u64) {
    let mut random = seed();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let start = Start {
        settings: &FED,
        env,
        ..Start::default()
    };
    let mut server = Process::start(&data, start).await.unwrap();
    let address = server.address().to_owned();
    let export = Export {
        data: &data,
        env,
        url: server.url.clone(),
        file: folder.path().join("export.jsonl"),
        is_own,
        is_of_jetstream: false,
    };
    let plan = Plan::default();
    let mut town = Town::found(&server.url, None, &plan).await.unwrap();
    let traffic = Traffic {
        thought: Duration::ZERO..=Duration::ZERO,
        ..Traffic::default()
    };
    town.act(&traffic, &mut random);
    for round in 0..kills {
        let mut following = export.start();
        town.more_acked(random.random_range(1..30), PATIENCE)
            .await
            .unwrap();
        // Not more often: each time its clock is some seconds further ahead, and tokens are good for half a minute.
        if round % 6 == 0 {
            server.kill().await;
            let start = Start {
                listen: Some(&address),
                settings: &FED,
                env,
                ..Start::default()
            };
            server = Process::start(&data, start).await.unwrap();
            town.more_acked(1, PATIENCE).await.unwrap();
        }
        following.kill().await.unwrap();
    }
    town.hush().await;
    let (history, found) = town.verdict(PATIENCE, &[]).await.unwrap();
    assert_eq!(found, [], "promises were broken");
    export.finish().await;
    agree(&logs(&export.lines()), &history);
    println!("{}", history.summary());
    let acked = history.acked();
    assert!(acked > 50, "too little happened to prove anything: {acked}");
    town.leave().await;
    assert!(server.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_killed_with_its_server_has_everything_once() {
    killed_at_random(&[], true, 24).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_from_postgres_has_everything_once() {
    let database = Instance::start();
    let env = [
        ("TERTULIA_STORE__URL".to_owned(), database.url()),
        ("TERTULIA_IDENTITY__PEPPER".to_owned(), "x".repeat(32)),
    ];
    killed_at_random(&env, false, 12).await;
}

async fn feed(data: &Path, url: &str, args: &[&str]) -> Output {
    let mut command = tertulia();
    command.arg("feed").args(args).arg("--data").arg(data);
    command.args(["--url", url]).output().await.unwrap()
}

#[tokio::test]
async fn an_operator_lists_and_forgets_consumers() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let start = Start {
        settings: &FED,
        ..Start::default()
    };
    let server = Process::start(&data, start).await.unwrap();
    let once = ["follow", "--consumer", "export", "--once"];
    let followed = feed(&data, &server.url, &once).await;
    assert!(followed.status.success(), "{followed:?}");
    let listed = feed(&data, &server.url, &["consumers"]).await;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.starts_with("export  at "), "{text}");
    assert!(text.contains("has everything"), "{text}");
    let gone = feed(&data, &server.url, &["forget", "export"]).await;
    assert_eq!(String::from_utf8_lossy(&gone.stdout), "forgot export\n");
    let again = feed(&data, &server.url, &["forget", "export"]).await;
    assert!(!again.status.success());
    let why = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(why.contains("tertulia feed consumers"), "{why}");
    assert!(server.terminate().await.unwrap().success());
}

#[tokio::test]
async fn without_a_feed_it_is_said_how_to_have_one() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let server = Process::start(&data, Start::default()).await.unwrap();
    let refused = feed(&data, &server.url, &["consumers"]).await;
    assert!(!refused.status.success());
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("feed.enabled"), "{why}");
    assert!(server.terminate().await.unwrap().success());
}

/// A feed that was off for a while is a gap, and who follows says so and prints nothing more.
#[tokio::test]
async fn what_was_said_while_the_feed_was_off_is_a_gap() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let fed = || Start {
        settings: &FED,
        ..Start::default()
    };
    let server = Process::start(&data, fed()).await.unwrap();
    let follow = [
        "follow",
        "--consumer",
        "export",
        "--from",
        "beginning",
        "--once",
    ];
    assert!(feed(&data, &server.url, &follow).await.status.success());
    assert!(server.terminate().await.unwrap().success());

    let server = Process::start(&data, Start::default()).await.unwrap();
    let ann = Person::sign_up(&server.url, "ann").await;
    let bob = Person::sign_up(&server.url, "bob").await;
    ann.create(&server.url, "group", "readers", &[&bob]).await;
    assert!(server.terminate().await.unwrap().success());

    let server = Process::start(&data, fed()).await.unwrap();
    let behind = feed(&data, &server.url, &follow).await;
    assert!(!behind.status.success() && behind.stdout.is_empty());
    let why = String::from_utf8_lossy(&behind.stderr).into_owned();
    assert!(why.contains("not kept any more"), "{why}");
    assert!(server.terminate().await.unwrap().success());
}

/// What is fetched comes again until it is acknowledged, over the contract as over the command.
#[tokio::test]
async fn a_service_with_the_node_key_fetches_and_acknowledges() {
    let local = Local::with(&FED).await;
    let key = local.node_key();
    let ask = async |method: &str, body: Value| {
        let answer = post_as_node(&local.url, &key, method, body).await;
        (answer.status, answer.json())
    };
    let make = json!({"name": "search", "begin": "BEGIN_BEGINNING"});
    assert_eq!(ask("MakeConsumer", make).await.0, 200);
    let ann = Person::sign_up(&local.url, "ann").await;
    let bob = Person::sign_up(&local.url, "bob").await;
    let chat = ann.create(&local.url, "group", "readers", &[&bob]).await;
    let fetch = json!({"name": "search", "waitMs": 5_000});
    let (_, first) = ask("Fetch", fetch.clone()).await;
    let entry = &first["entries"][0];
    assert_eq!(entry["event"]["chatId"], json!(chat));
    assert_eq!(ask("Fetch", fetch).await.1, first);
    let taken = json!({"consumerId": first["consumerId"], "place": entry["place"]});
    assert_eq!(ask("Acknowledge", taken.clone()).await.0, 200);
    let (_, then) = ask("Fetch", json!({"name": "search"})).await;
    assert_eq!(then["entries"], Value::Null);
    let ahead = json!({"consumerId": first["consumerId"], "place": "9000000000000000000"});
    assert_eq!(ask("Acknowledge", ahead).await.0, 400);
}

/// The server, NATS, and what NATS keeps are taken away while a town talks. In the end the stream has each event once, the
/// last one last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_jetstream_has_each_event_once_whatever_is_killed_or_emptied() {
    let mut random = seed();
    let (folder, kept) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let disk = kept.path().display().to_string();
    let mut bus = nats::Instance::with(&["--jetstream", "--store_dir", &disk]);
    let env = [("TERTULIA_BUS__URL".to_owned(), bus.url())];
    let settings = [
        ("feed.enabled", "true"),
        ("feed.jetstream", "true"),
        ("feed.jetstream_replicas", "1"),
    ];
    let start = Start {
        settings: &settings,
        env: &env,
        ..Start::default()
    };
    let data = folder.path().join("data");
    let mut server = Process::start(&data, start.clone()).await.unwrap();
    let address = server.address().to_owned();
    let mut town = Town::found(&server.url, None, &Plan::default())
        .await
        .unwrap();
    town.act(&Traffic::default(), &mut random);
    for round in 0..6 {
        town.more_acked(random.random_range(5..30), PATIENCE)
            .await
            .unwrap();
        match round % 3 {
            0 => {
                server.kill().await;
                let listen = Some(&*address);
                let start = Start {
                    listen,
                    ..start.clone()
                };
                server = Process::start(&data, start).await.unwrap();
            }
            of_bus => {
                bus.kill();
                if of_bus == 2 {
                    std::fs::remove_dir_all(kept.path().join("jetstream")).unwrap();
                }
                town.more_acked(1, PATIENCE).await.unwrap();
                bus.restart();
            }
        }
    }
    town.hush().await;
    let (history, found) = town.verdict(PATIENCE, &[]).await.unwrap();
    assert_eq!(found, [], "promises were broken");
    let export = Export {
        data: &data,
        env: &env,
        url: server.url.clone(),
        file: folder.path().join("export.jsonl"),
        is_own: true,
        is_of_jetstream: false,
    };
    export.finish().await;
    let lines = export.lines();
    agree(&logs(&lines), &history);
    let options = jetstream::Options {
        address: bus.url().parse().unwrap(),
        prefix: "tertulia".parse().unwrap(),
        replicas: 1,
        keep: PATIENCE,
    };
    let stream = JetStream::connect(options).await.unwrap();
    let wanted = (lines.len() as u64, lines.keys().next_back().copied());
    let whole = async {
        loop {
            let Ok(end) = stream.end().await else {
                continue;
            };
            let has = (end.number, end.last.map(|mark| mark.place));
            assert!(has <= wanted, "{has:?} of {wanted:?}");
            if has == wanted {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, whole)
        .await
        .expect("the stream has everything");
    town.leave().await;
    assert!(server.terminate().await.unwrap().success());
}

/// Nodes on one database, a NATS with a stream, and one who follows it there.
struct Deployment {
    folder: TempDir,
    _database: Instance,
    bus: nats::Instance,
    env: [(String, String); 4],
}

impl Deployment {
    fn start() -> Deployment {
        let folder = TempDir::new().unwrap();
        let disk = folder.path().join("nats").display().to_string();
        let database = Instance::start();
        let bus = nats::Instance::with(&["--jetstream", "--store_dir", &disk]);
        let env = [
            ("TERTULIA_STORE__URL", database.url()),
            ("TERTULIA_BUS__URL", bus.url()),
            ("TERTULIA_BUS__NODE_KEY", NODE_KEY.to_owned()),
            ("TERTULIA_IDENTITY__PEPPER", PEPPER.to_owned()),
        ];
        Deployment {
            folder,
            _database: database,
            bus,
            env: env.map(|(name, value)| (name.to_owned(), value)),
        }
    }

    /// Starts a node with that role, which keeps a feed or not. One that was there is at the same address again.
    async fn node(&self, role: &str, is_fed: bool, was: Option<&str>) -> Process {
        let fed = if is_fed { "true" } else { "false" };
        let settings = [
            ("feed.enabled", fed),
            ("feed.jetstream", fed),
            ("feed.jetstream_replicas", "1"),
            ("roles", role),
        ];
        let start = Start {
            settings: &settings,
            env: &self.env,
            listen: was,
            ..Start::default()
        };
        let data = self.folder.path().join(role);
        Process::start(&data, start).await.unwrap()
    }

    /// Loses everything that NATS keeps.
    fn empty_bus(&self) {
        std::fs::remove_dir_all(self.folder.path().join("nats/jetstream")).unwrap();
    }

    async fn feed(&self, args: &[&str]) -> Output {
        let mut command = tertulia();
        command.arg("feed").args(args).arg("--jetstream");
        let env = self.env.iter().map(|(name, value)| (name, value));
        command.envs(env).output().await.unwrap()
    }

    fn export(&self) -> Export<'_> {
        Export {
            data: self.folder.path(),
            env: &self.env,
            // No node is asked.
            url: "http://127.0.0.1:1".into(),
            file: self.folder.path().join("export.jsonl"),
            is_own: true,
            is_of_jetstream: true,
        }
    }
}

/// The one who follows is killed at random, the worker that brings the feed is, NATS is, stands still, and loses what it
/// keeps. The file has each event once, those of a chat in the order of its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_a_stream_has_each_event_once_whatever_is_killed_stands_still_or_is_emptied() {
    let mut random = seed();
    let mut there = Deployment::start();
    let edge = there.node("edge", true, None).await;
    let mut worker = there.node("worker", true, None).await;
    let mut town = Town::found(&edge.url, None, &Plan::default())
        .await
        .unwrap();
    town.act(&Traffic::default(), &mut random);
    let mut following = there.export().start();
    for round in 0..12 {
        town.more_acked(random.random_range(5..40), PATIENCE)
            .await
            .unwrap();
        match round % 4 {
            0 => {
                worker.kill().await;
                worker = there.node("worker", true, None).await;
            }
            1 => {
                there.bus.pause();
                town.more_acked(random.random_range(1..60), PATIENCE)
                    .await
                    .unwrap();
                there.bus.go_on();
            }
            of_bus => {
                there.bus.kill();
                if of_bus == 2 {
                    there.empty_bus();
                }
                town.more_acked(1, PATIENCE).await.unwrap();
                there.bus.restart();
            }
        }
        if random.random_range(0..3) > 0 {
            following.kill().await.unwrap();
            following = there.export().start();
        }
    }
    town.hush().await;
    let (history, found) = town.verdict(PATIENCE, &[]).await.unwrap();
    assert_eq!(found, [], "promises were broken");
    let export = there.export();
    let whole = async {
        // It goes on by itself, whatever was done to it.
        while !export.file.exists() || logs(&export.whole_lines()) != stored(&history) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let whole = tokio::time::timeout(PATIENCE, whole).await;
    following.kill().await.unwrap();
    export.finish().await;
    agree(&logs(&export.lines()), &history);
    whole.expect("it went on");
    let acked = history.acked();
    assert!(acked > 50, "too little happened to prove anything: {acked}");

    let listed = there.feed(&["consumers"]).await;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.starts_with("export  at record "), "{text}");
    assert!(text.contains("has everything"), "{text}");
    let gone = there.feed(&["forget", "export"]).await;
    assert_eq!(String::from_utf8_lossy(&gone.stdout), "forgot export\n");
    let again = there.feed(&["forget", "export"]).await;
    assert!(!again.status.success());
    // The file knows what it has, also when nobody else does.
    export.finish().await;
    agree(&logs(&export.lines()), &history);
    town.leave().await;
    assert!(worker.terminate().await.unwrap().success());
    assert!(edge.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_of_the_feed_is_one_of_the_stream_and_gone_over_only_when_that_is_asked_for() {
    let there = Deployment::start();
    let node = there.node("edge,worker", true, None).await;
    let address = node.address().to_owned();
    let ann = Person::sign_up(&node.url, "ann").await;
    let bob = Person::sign_up(&node.url, "bob").await;
    ann.create(&node.url, "group", "readers", &[&bob]).await;
    let export = there.export();
    // Until it is brought.
    while !export.file.exists() || export.lines().is_empty() {
        export.finish().await;
    }
    assert!(node.terminate().await.unwrap().success());
    let node = there.node("edge,worker", false, Some(&address)).await;
    ann.create(&node.url, "group", "writers", &[&bob]).await;
    assert!(node.terminate().await.unwrap().success());

    let node = there.node("edge,worker", true, Some(&address)).await;
    ann.create(&node.url, "group", "singers", &[&bob]).await;
    let before = export.lines();
    let refused = export.follow().stderr(Stdio::piped()).spawn().unwrap();
    let refused = tokio::time::timeout(PATIENCE, refused.wait_with_output());
    let refused = refused.await.expect("it ends").unwrap();
    assert!(!refused.status.success());
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        why.contains("was not kept") && why.contains("--past-gaps"),
        "{why}"
    );
    assert_eq!(export.lines(), before, "nothing is written behind it");
    while export.lines() == before {
        let mut follow = export.follow();
        let followed = follow
            .args(["--past-gaps", "--once"])
            .output()
            .await
            .unwrap();
        assert!(followed.status.success(), "{followed:?}");
    }
    assert!(node.terminate().await.unwrap().success());
}
