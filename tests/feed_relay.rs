//! Who brings the feed into the stream of JetStream is lost, and the database is killed, while people talk: the stream has
//! each event once, in the order of the feed.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tertulia_kit::instances::{nats, postgres};
use tertulia_tests::many::{NODE_KEY, PEPPER};
use tertulia_tests::node::{Process, Start, tertulia};
use tertulia_tests::town::{Plan, Town, Traffic};
use tertulia_tests::wire::request;

const PATIENCE: Duration = Duration::from_secs(60);
const SETTINGS: [(&str, &str); 4] = [
    ("feed.enabled", "true"),
    ("feed.jetstream", "true"),
    ("feed.jetstream_replicas", "1"),
    ("live.heartbeat_ms", "1000"),
];

/// Two nodes, each of which may bring the feed into the stream.
struct Pair {
    database: postgres::Instance,
    bus: nats::Instance,
    env: Vec<(String, String)>,
    nodes: Vec<Process>,
    folder: TempDir,
    _kept: TempDir,
}

impl Pair {
    async fn start() -> Pair {
        let (folder, kept) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let disk = kept.path().display().to_string();
        let database = postgres::Instance::start();
        let bus = nats::Instance::with(&["--jetstream", "--store_dir", &disk]);
        let secrets = [
            ("STORE__URL", database.url()),
            ("BUS__URL", bus.url()),
            ("BUS__NODE_KEY", NODE_KEY.to_owned()),
            ("IDENTITY__PEPPER", PEPPER.to_owned()),
        ];
        let env = secrets.map(|(name, value)| (format!("TERTULIA_{name}"), value));
        let mut nodes = Vec::new();
        for name in ["one", "other"] {
            let start = Start {
                settings: &SETTINGS,
                env: &env,
                ..Start::default()
            };
            let data = folder.path().join(name);
            nodes.push(Process::start(&data, start).await.unwrap());
        }
        Pair {
            database,
            bus,
            env: env.to_vec(),
            nodes,
            folder,
            _kept: kept,
        }
    }

    /// How many events a node has brought.
    async fn brought(&self, node: usize) -> u64 {
        let text = request("GET", &self.nodes[node].metrics, &[], "").await;
        let text = String::from_utf8(text.body.to_vec()).unwrap();
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("tertulia_feed_brought_total "));
        line.unwrap().parse().unwrap()
    }

    /// The node of these that brings something from now on.
    async fn brings(&self, of: &[usize]) -> usize {
        let looking = async {
            let mut before = BTreeMap::new();
            for node in of {
                before.insert(*node, self.brought(*node).await);
            }
            loop {
                for node in of {
                    if self.brought(*node).await > before[node] {
                        return *node;
                    }
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.expect("nobody brings anything")
    }

    /// Everything that the feed has, by place: chat and seq.
    async fn fed(&self) -> BTreeMap<u64, (i64, i64)> {
        let mut follow = tertulia();
        follow.args(["feed", "follow", "--once", "--consumer", "export"]);
        follow.args(["--from", "beginning", "--url", &self.nodes[0].url]);
        follow.arg("--data").arg(self.folder.path().join("one"));
        follow.envs(self.env.iter().map(|(name, value)| (name, value)));
        let done = follow.output().await.unwrap();
        assert!(done.status.success(), "{done:?}");
        let text = String::from_utf8(done.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.map(|line: Value| entry(&line)).collect()
    }

    /// Everything that the stream has, in its order, once it has so much.
    async fn streamed(&self, wanted: usize) -> Vec<(u64, (i64, i64))> {
        let client = async_nats::connect(self.bus.url()).await.unwrap();
        let streamed = async {
            let mut all = Vec::new();
            // One more than there should be, so that what is there twice is seen.
            for number in 1..=wanted + 1 {
                loop {
                    let body = json!({"seq": number}).to_string();
                    let subject = "$JS.API.DIRECT.GET.tertulia-feed";
                    let answer = client.request(subject, body.into()).await.unwrap();
                    match serde_json::from_slice::<Value>(&answer.payload) {
                        Ok(line) => {
                            all.push(entry(&line));
                            break;
                        }
                        Err(_) if number > wanted => return all,
                        // It comes.
                        Err(_) => {}
                    }
                }
            }
            all
        };
        let streamed = tokio::time::timeout(PATIENCE, streamed).await;
        streamed.expect("the stream has everything")
    }
}

fn entry(line: &Value) -> (u64, (i64, i64)) {
    let number = |value: &Value| value.as_str().unwrap().parse::<i64>().unwrap();
    let event = &line["event"];
    let place = number(&line["place"]).unsigned_abs();
    (place, (number(&event["chatId"]), number(&event["seq"])))
}

/// Has somebody else bring the feed while the node that does stands still, for longer than its lease; then it goes on.
async fn stands_still(pair: &Pair, town: &Town) {
    let leading = pair.brings(&[0, 1]).await;
    pair.nodes[leading].signal("STOP").unwrap();
    assert_eq!(pair.brings(&[1 - leading]).await, 1 - leading);
    town.more_acked(20, PATIENCE).await.unwrap();
    pair.nodes[leading].signal("CONT").unwrap();
    town.more_acked(20, PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_has_each_event_once_while_who_brings_them_stands_still_and_the_database_is_killed()
 {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut pair = Pair::start().await;
    let urls: Vec<&str> = pair.nodes.iter().map(|node| &*node.url).collect();
    let plan = Plan {
        devices_each: 2,
        ..Plan::default()
    };
    let mut town = Town::found(&urls.join(","), None, &plan).await.unwrap();
    town.act(&Traffic::default(), &mut random);
    stands_still(&pair, &town).await;
    for _ in 0..2 {
        let more = random.random_range(5..40);
        town.more_acked(more, PATIENCE).await.unwrap();
        tokio::task::block_in_place(|| {
            pair.database.kill();
            pair.database.restart();
        });
    }
    town.more_acked(20, PATIENCE).await.unwrap();
    town.hush().await;
    let (history, found) = town.verdict(PATIENCE, &[]).await.unwrap();
    assert_eq!(found, [], "promises were broken");
    let fed = pair.fed().await;
    let mut logs: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (chat, seq) in fed.values() {
        logs.entry(*chat).or_default().push(*seq);
    }
    let kept = history.logs.iter().filter(|(_, rows)| !rows.is_empty());
    let kept = kept.map(|(chat, rows)| (*chat, rows.iter().map(|row| row.seq).collect()));
    assert_eq!(logs, kept.collect(), "the feed has what the chats have");
    let streamed = pair.streamed(fed.len()).await;
    assert_eq!(
        streamed,
        Vec::from_iter(fed),
        "the stream has what the feed has"
    );
    println!("{} events; {}", streamed.len(), history.summary());
    town.leave().await;
    for node in pair.nodes {
        assert!(node.terminate().await.unwrap().success());
    }
}
