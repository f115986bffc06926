//! A service on nodes of its own, reached over HTTP/2: what comes back is what would have been done here, and what becomes
//! of one of them is the trouble of nobody who was not being answered by it.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tertulia_kit::balance;
use tertulia_kit::clock::SystemClock;
use tertulia_kit::discovery::{Host, Memory};
use tertulia_kit::instances::postgres;
use tertulia_kit::lifecycle::Lifecycle;
use tertulia_kit::secret::Secret;
use tertulia_kit::transport::http2::{Options, Remote};
use tertulia_kit::transport::nats::{Call, NodeKey, Unanswered};
use tertulia_proto::{Caller, METHODS};
use tertulia_tests::node::{Local, Process, Start};
use tertulia_tests::wire::{Answer, Person, path, post, request};
use tokio::sync::watch;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
const NODE_KEY: &str = "the nodes of this test know each other by this";
const USERS: &str = "tertulia.users.v1.UsersService";
/// How many call at once.
const CALLERS: usize = 8;

/// What all nodes have. There is no NATS.
struct Ground {
    database: postgres::Instance,
    folder: TempDir,
}

impl Ground {
    fn new() -> Ground {
        Ground {
            database: postgres::Instance::start(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn secrets(&self) -> [(&'static str, String); 3] {
        [
            ("store.url", self.database.url()),
            ("bus.node_key", NODE_KEY.to_owned()),
            (
                "identity.pepper",
                "the pepper of all nodes of a test".to_owned(),
            ),
        ]
    }

    /// A node in this process.
    async fn local(&self, settings: &[(&str, &str)]) -> Local {
        let secrets = self.secrets();
        let secrets: Vec<(&str, &str)> = secrets.iter().map(|(k, v)| (*k, &**v)).collect();
        Local::with_secrets(settings, &secrets).await
    }

    /// A node that does what others hand on, in a process of its own.
    async fn process(&self, name: &str, listen: Option<&str>) -> Process {
        let env = self.secrets().map(|(key, value)| {
            let name = key.replace('.', "__").to_uppercase();
            (format!("TERTULIA_{name}"), value)
        });
        let start = Start {
            listen,
            settings: &[("roles", "api")],
            env: &env,
            ..Start::default()
        };
        let data: PathBuf = self.folder.path().join(name);
        Process::start(&data, start).await.unwrap()
    }

    /// A node that serves clients and hands on what is about users, and one of them, signed in.
    async fn edge(&self, places: &[&str]) -> (Local, Person) {
        let elsewhere = format!("{USERS} {}", places.join(" "));
        let settings = [
            ("roles", "edge"),
            ("elsewhere", elsewhere.as_str()),
            ("metrics.listen", "127.0.0.1:0"),
        ];
        let edge = self.local(&settings).await;
        let ann = Person::sign_up(&edge.url, "ann").await;
        (edge, ann)
    }
}

/// A number that a node shows of itself.
async fn number(node: &Local, name: &str) -> u64 {
    let url = format!("http://{}/metrics", node.node.metrics[0]);
    let text = String::from_utf8(request("GET", &url, &[], "").await.body.to_vec()).unwrap();
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines
        .next()
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}

/// Calls until so many nodes are left out.
async fn until_left_out(node: &Local, ann: &Person, wanted: u64) {
    let seen = async {
        while number(node, "tertulia_remotes_left_out").await != wanted {
            ann.ok(&node.url, "GetMe", json!({})).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .expect("it stays as it was");
}

/// Has people call without a pause while something is done to the nodes, and for so many calls each after that. How many
/// calls failed of each of them.
async fn failed_while(
    edge: &Local,
    ann: &Person,
    after: usize,
    done: impl Future<Output = ()>,
) -> Vec<usize> {
    let over = watch::Sender::new(false);
    let busy = watch::Sender::new(0);
    let callers = (0..CALLERS).map(|_| {
        let (over, busy) = (over.subscribe(), busy.clone());
        async move {
            let (mut calls_after, mut failed) = (0, 0);
            while calls_after < after {
                let answer = ann.call(&edge.url, path("GetMe"), json!({})).await;
                match answer.status {
                    200 => assert_eq!(answer.json()["user"]["name"], "ann"),
                    504 => failed += 1,
                    other => panic!("{other} {}", answer.reason()),
                }
                busy.send_modify(|calls| *calls += 1);
                calls_after += usize::from(*over.borrow());
            }
            failed
        }
    });
    let doing = async {
        // Everybody is at it.
        let mut busy = busy.subscribe();
        busy.wait_for(|calls| *calls > 5 * CALLERS).await.unwrap();
        done.await;
        over.send_replace(true);
    };
    tokio::join!(join_all(callers), doing).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_handed_on_comes_back_as_if_it_had_been_done_here() {
    let ground = Ground::new();
    let api = ground.local(&[("roles", "api")]).await;
    let all = ground.local(&[]).await;
    let (edge, ann) = ground.edge(&[&api.url]).await;
    let bob = Person::sign_up(&edge.url, "bob").await;
    let asked = async |url: &str, method: &str, token: Option<&str>, body: &Value| -> Answer {
        post(url, method, token, body.clone()).await
    };
    let methods = METHODS
        .iter()
        .filter(|method| method.path.starts_with(USERS));
    for method in methods {
        let right = match method.path.split_once('/').unwrap().1 {
            "GetMe" => json!({}),
            "GetUsers" => json!({"userIds": [bob.user_id, "4711"]}),
            "SearchUsers" => json!({"query": "bo"}),
            "UpdateProfile" => json!({"displayName": "Ann", "about": "läuft"}),
            other => panic!("{other} has no row"),
        };
        let wrong = json!({"userIds": "none", "query": "x".repeat(65), "displayName": 7});
        let strange = json!({"whatIsThis": true});
        for body in [right, wrong, strange] {
            for token in [Some(&*ann.token), Some("no token"), None] {
                let there = asked(&edge.url, method.path, token, &body).await;
                let here = asked(&all.url, method.path, token, &body).await;
                let of = format!("{} {body}", method.path);
                assert_eq!(
                    (there.status, there.code()),
                    (here.status, here.code()),
                    "{of}"
                );
                match here.status {
                    200 => assert_eq!(there.json(), here.json(), "{of}"),
                    _ => assert_eq!(there.reason(), here.reason(), "{of}"),
                }
                assert!(there.headers.contains_key("x-request-id"));
            }
        }
    }
    assert!(
        number(&edge, "tertulia_remote_calls_total").await > 0,
        "it was handed on"
    );
    assert_eq!(number(&edge, "tertulia_remotes").await, 1);

    // What is not handed on is done here, with the people that others made.
    let chat = ann.chat_with(&edge.url, &bob).await;
    assert_eq!(
        ann.say(&edge.url, &chat, "a-message-of-ann", "hello")
            .await
            .status,
        200
    );
    // Without clients there is nothing for them.
    let closed = asked(&api.url, path("GetMe"), Some(&ann.token), &json!({})).await;
    assert_eq!(closed.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_nobody_does_it_the_caller_is_told_to_come_back() {
    let ground = Ground::new();
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (edge, ann) = ground.edge(&[&format!("http://{gone}")]).await;
    let answer = ann.call(&edge.url, path("GetMe"), json!({})).await;
    assert_eq!((answer.status, answer.reason()), (503, "OVERLOADED".into()));
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_address_of_a_name_is_called() {
    let ground = Ground::new();
    let api = ground.local(&[("roles", "api")]).await;
    let place = format!("dns+http://localhost:{}", api.node.address.port());
    let (edge, ann) = ground.edge(&[&place]).await;
    ann.ok(&edge.url, "GetMe", json!({})).await;
    assert!(number(&edge, "tertulia_remotes").await >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_node_is_killed_only_the_calls_are_lost_that_it_had() {
    let ground = Ground::new();
    let (a, b) = (
        ground.process("a", None).await,
        ground.process("b", None).await,
    );
    let (edge, ann) = ground.edge(&[&a.url, &b.url]).await;
    let address = a.address().to_owned();
    let failed = failed_while(&edge, &ann, 50, a.kill()).await;
    assert!(failed.iter().all(|failed| *failed <= 1), "{failed:?}");
    until_left_out(&edge, &ann, 1).await;
    let _a = ground.process("a", Some(&address)).await;
    until_left_out(&edge, &ann, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_node_stands_still_only_the_calls_are_lost_that_it_had() {
    let ground = Ground::new();
    let (a, b) = (
        ground.process("a", None).await,
        ground.process("b", None).await,
    );
    let (edge, ann) = ground.edge(&[&a.url, &b.url]).await;
    let stand_still = async {
        a.signal("STOP").unwrap();
        // Those that it had are given up, and the first trials come and go.
        let tried =
            async { while number(&edge, "tertulia_remote_calls_unanswered_total").await < 3 {} };
        tokio::time::timeout(PATIENCE, tried)
            .await
            .expect("nobody notices");
    };
    let failed = failed_while(&edge, &ann, 50, stand_still).await;
    assert!(failed.iter().all(|failed| *failed <= 1), "{failed:?}");
    assert_eq!(number(&edge, "tertulia_remotes_left_out").await, 1);
    a.signal("CONT").unwrap();
    until_left_out(&edge, &ann, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_node_is_stopped_no_call_is_lost() {
    let ground = Ground::new();
    let (a, b) = (
        ground.process("a", None).await,
        ground.process("b", None).await,
    );
    let (edge, ann) = ground.edge(&[&a.url, &b.url]).await;
    let stop = async { assert!(a.terminate().await.unwrap().success()) };
    let failed = failed_while(&edge, &ann, 50, stop).await;
    assert_eq!(failed, [0; CALLERS]);
}

/// Somebody who holds a node key and calls like a node.
fn caller(url: &str, key: &str) -> Remote {
    let host: Host = url.parse().unwrap();
    let options = Options {
        key: NodeKey::new(Secret::new(key)).unwrap(),
        tls: None,
        clock: Arc::new(SystemClock::starting_at(0)),
        lifecycle: Lifecycle::new(),
        balance: balance::Options::default(),
    };
    Remote::new(&Memory::new(vec![host.endpoint()]), options)
}

fn call(path: &str, identity: &str) -> Call {
    Call {
        path: path.into(),
        body: "{}".into(),
        content_type: "application/json".into(),
        identity: identity.into(),
        request_id: "the-one-request".into(),
        traceparent: String::new(),
        timeout: Duration::from_secs(20),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_of_nodes_refuses_everybody_else_at_every_method() {
    let node = Local::with_secrets(&[], &[("bus.node_key", NODE_KEY)]).await;
    let ann = Person::sign_up(&node.url, "ann").await;
    let identity = format!("{}.1.{}.phone", ann.user_id, i64::MAX);
    let bearer = format!("Bearer {}", ann.token);
    let nodes_own = NodeKey::new(Secret::new(NODE_KEY)).unwrap();
    let forged = caller(&node.url, "a key of somebody who is no node at all");
    for method in METHODS {
        let own = format!("Node {}", nodes_own.token(method.path, 0));
        let url = format!("{}/calls/{}", node.url, method.path);
        let json = ("content-type", "application/json");
        for headers in [
            &[json][..],
            &[json, ("authorization", bearer.as_str())],
            &[json, ("authorization", own.as_str())],
            &[json, ("identity", identity.as_str())],
            &[
                json,
                ("identity", "node"),
                ("authorization", bearer.as_str()),
            ],
        ] {
            let answer = request("POST", &url, headers, "{}").await;
            assert_eq!(answer.status, 401, "{} {headers:?}", method.path);
        }
        let refused = forged.call(call(method.path, &identity)).await;
        let Err(Unanswered::Refused(refusal)) = refused else {
            panic!("{}: {refused:?}", method.path)
        };
        assert_eq!(refusal.code, "unauthenticated", "{}", method.path);

        // At the door of users, nothing that they write beside their token says who they are.
        if method.caller == Caller::User && !method.streams {
            let url = format!("{}/{}", node.url, method.path);
            let headers = [json, ("identity", identity.as_str()), ("seal", "00")];
            assert_eq!(request("POST", &url, &headers, "{}").await.status, 401);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_calls_for_a_user_is_no_node_and_the_reverse() {
    let node = Local::with_secrets(&[], &[("bus.node_key", NODE_KEY)]).await;
    let ann = Person::sign_up(&node.url, "ann").await;
    let identity = format!("{}.1.{}.phone", ann.user_id, i64::MAX);
    let over = format!("{}.1.1.phone", ann.user_id);
    let remote = caller(&node.url, NODE_KEY);
    let once = METHODS.iter().filter(|method| !method.streams);
    for method in once {
        let refused = match method.caller {
            Caller::Anyone => continue,
            Caller::User => [
                ("node", "USERS_ONLY"),
                ("", "NOT_SIGNED_IN"),
                (&*over, "TOKEN_EXPIRED"),
            ],
            Caller::Node => [
                (&*identity, "NODES_ONLY"),
                ("", "NODES_ONLY"),
                (&*over, "NODES_ONLY"),
            ],
        };
        for (identity, reason) in refused {
            let Err(Unanswered::Refused(refusal)) = remote.call(call(method.path, identity)).await
            else {
                panic!("{} as {identity:?}", method.path)
            };
            let error: Value = serde_json::from_str(&refusal.detail).unwrap();
            assert_eq!(
                error["failure"]["reason"],
                format!("REASON_{reason}"),
                "{}",
                method.path
            );
            assert_eq!(error["failure"]["requestId"], "the-one-request");
        }
    }
    assert!(remote.call(call(path("GetMe"), &identity)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_the_role_has_no_door_for_nodes() {
    let settings = [("roles", "edge")];
    let node = Local::with_secrets(&settings, &[("bus.node_key", NODE_KEY)]).await;
    let alone = Local::one("without bus.node_key it has no others").await;
    for url in [&node.url, &alone.url] {
        let answer = request("POST", &format!("{url}/calls/{}", path("GetMe")), &[], "").await;
        assert_eq!(answer.status, 404);
    }
}
