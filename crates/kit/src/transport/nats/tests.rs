//! Nodes that call each other over a server of their own.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::*;
use crate::clock::SystemClock;
use crate::instances::nats::Instance;
use crate::secret::Secret;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
const SERVICE: &str = "shop.v1.Till";

fn clock() -> SharedClock {
    Arc::new(SystemClock::starting_at(0))
}

fn options(server: &Instance, key: u8) -> Options {
    Options {
        address: server.url().parse().unwrap(),
        prefix: "t".parse().unwrap(),
        key: NodeKey::new(Secret::new(vec![key; 32])).unwrap(),
        calls_max: 4,
    }
}

fn call(method: &str) -> Call {
    Call {
        path: format!("{SERVICE}/{method}"),
        body: Bytes::from_static(b"a loaf"),
        content_type: "text/plain".into(),
        identity: "7".into(),
        request_id: "r-1".into(),
        traceparent: String::new(),
        timeout: PATIENCE,
    }
}

/// A node that does this with calls, and answers them by now.
async fn node(
    server: &Instance,
    handler: impl Fn(Call) -> BoxFuture<'static, Result<Bytes, Refusal>> + Send + Sync + 'static,
) -> Lifecycle {
    let lifecycle = Lifecycle::new();
    let offer = Offer {
        service: SERVICE.into(),
        methods: vec!["Sell".into(), "Give".into()],
    };
    let serving = serve(
        options(server, 1),
        vec![offer],
        Arc::new(handler),
        clock(),
        lifecycle.clone(),
    );
    lifecycle.spawn(Kind::Door, "calls", serving);
    lifecycle
}

async fn remote(server: &Instance, key: u8) -> Remote {
    Remote::connect(options(server, key), clock())
        .await
        .unwrap()
}

/// Calls until somebody is there, as a node does that starts beside another.
async fn answered(remote: &Remote, method: &str) -> Result<Bytes, Unanswered> {
    let trying = async {
        loop {
            match remote.call(call(method)).await {
                Err(Unanswered::NobodyThere) => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    };
    timeout(PATIENCE, trying).await.unwrap()
}

fn echo(call: Call) -> BoxFuture<'static, Result<Bytes, Refusal>> {
    let answer = match call.path.ends_with("Sell") {
        true => Ok(call.body),
        false => Err(Refusal {
            code: "not_found".into(),
            detail: format!("{{\"for\":\"{}\"}}", call.identity),
        }),
    };
    std::future::ready(answer).boxed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered_or_refused_as_the_handler_says() {
    let server = Instance::start();
    let _node = node(&server, echo).await;
    let remote = remote(&server, 1).await;
    assert_eq!(
        answered(&remote, "Sell").await,
        Ok(Bytes::from_static(b"a loaf"))
    );
    let refusal = Refusal {
        code: "not_found".into(),
        detail: "{\"for\":\"7\"}".into(),
    };
    assert_eq!(
        answered(&remote, "Give").await,
        Err(Unanswered::Refused(refusal))
    );
    assert_eq!(
        remote.call(call("Lend")).await,
        Err(Unanswered::NobodyThere)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_is_done_by_one_of_the_nodes() {
    let server = Instance::start();
    let done = [0, 1].map(|_| Arc::new(AtomicUsize::new(0)));
    for done in &done {
        let done = Arc::clone(done);
        _ = node(&server, move |call| {
            done.fetch_add(1, Ordering::Relaxed);
            echo(call)
        })
        .await;
    }
    let remote = remote(&server, 1).await;
    let mut calls = 0;
    while done.iter().any(|done| done.load(Ordering::Relaxed) == 0) {
        answered(&remote, "Sell").await.unwrap();
        calls += 1;
        assert!(calls < 10_000, "one of them does all");
    }
    let done: usize = done.iter().map(|done| done.load(Ordering::Relaxed)).sum();
    assert_eq!(done, calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_node_is_refused() {
    let server = Instance::start();
    let _node = node(&server, echo).await;
    let honest = remote(&server, 1).await;
    answered(&honest, "Sell").await.unwrap();
    let strange = Unanswered::Refused(refusal(STRANGE));
    let other_key = remote(&server, 2).await;
    assert_eq!(other_key.call(call("Sell")).await, Err(strange));

    // What was sealed for one call, with the token of a user, without anything, and the same call once more.
    let raw = async_nats::connect(server.url()).await.unwrap();
    let key = options(&server, 1).key;
    let sealed = |call: &Call| {
        let seal = key.seal(super::Way::Nats, call, clock().now_ms());
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, call.content_type.as_str());
        headers.insert(header::IDENTITY, call.identity.as_str());
        headers.insert(header::REQUEST_ID, call.request_id.as_str());
        headers.insert(header::TIMEOUT_MS, "20000");
        headers.insert(header::TRACEPARENT, "");
        headers.insert(header::SENT_MS, seal.sent_ms.to_string().as_str());
        headers.insert(header::NONCE, seal.nonce.as_str());
        headers.insert(header::SEAL, seal.mac.as_str());
        headers
    };
    let good = sealed(&call("Sell"));
    let mut with_token = sealed(&call("Sell"));
    with_token.insert(header::AUTHORIZATION, "Bearer e30.e30.e30");
    for (headers, method, code) in [
        (good.clone(), "Give", Some("unauthenticated")),
        (with_token, "Sell", Some("unauthenticated")),
        (HeaderMap::new(), "Sell", Some("unauthenticated")),
        (good.clone(), "Sell", None),
        (good, "Sell", Some("unauthenticated")),
    ] {
        let subject = format!("t.call.{SERVICE}.{method}");
        let body = call(method).body;
        let answer = raw.request_with_headers(subject, headers, body).await;
        let refused = refused(&answer.unwrap()).map(|refusal| refusal.code);
        assert_eq!(refused.as_deref(), code, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_a_node_takes_are_refused_and_a_late_one_is_told_so() {
    let server = Instance::start();
    let (begun, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (counted, holding) = (Arc::clone(&begun), Arc::clone(&held));
    let _node = node(&server, move |call| {
        let (counted, holding) = (Arc::clone(&counted), Arc::clone(&holding));
        async move {
            if call.path.ends_with("Give") {
                counted.fetch_add(1, Ordering::Relaxed);
                holding.acquire().await.unwrap().forget();
            }
            Ok(call.body)
        }
        .boxed()
    })
    .await;
    let remote = remote(&server, 1).await;
    answered(&remote, "Sell").await.unwrap();
    let hasty = Call {
        timeout: Duration::from_millis(50),
        ..call("Give")
    };
    assert_eq!(remote.call(hasty).await, Err(Unanswered::Late));
    let waiting = (0..3).map(|_| remote.call(call("Give")));
    let waiting = futures::future::join_all(waiting);
    let busy = async {
        while begun.load(Ordering::Relaxed) < 4 {
            tokio::task::yield_now().await;
        }
        let busy = remote.call(call("Sell")).await;
        held.add_permits(4);
        busy
    };
    let (answers, busy) = futures::join!(waiting, busy);
    assert_eq!(busy, Err(Unanswered::Refused(refusal(BUSY))));
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_found_and_measured_by_the_tools_of_nats() {
    let server = Instance::start();
    let _node = node(&server, echo).await;
    let remote = remote(&server, 1).await;
    answered(&remote, "Sell").await.unwrap();
    assert!(answered(&remote, "Give").await.is_err());
    let tool = async_nats::connect(server.url()).await.unwrap();
    let asked = async |subject: &'static str| {
        let answer = tool.request(subject, Bytes::new()).await.unwrap();
        serde_json::from_slice::<Value>(&answer.payload).unwrap()
    };
    assert_eq!(asked("$SRV.PING").await["name"], "shop-v1-Till");
    let info = asked("$SRV.INFO.shop-v1-Till").await;
    assert_eq!(info["endpoints"].as_array().unwrap().len(), 2);
    let stats = asked("$SRV.STATS.shop-v1-Till").await;
    let of = |method: &str| {
        let all = stats["endpoints"].as_array().unwrap();
        let found = all.iter().find(|one| one["name"] == method).unwrap();
        (found["num_requests"].as_u64(), found["num_errors"].as_u64())
    };
    assert_eq!(of("Sell"), (Some(1), Some(0)));
    assert_eq!(of("Give"), (Some(1), Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_finishes_what_it_has_begun() {
    let server = Instance::start();
    let (begun, held) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, holding) = (Arc::clone(&begun), Arc::clone(&held));
    let lifecycle = node(&server, move |call| {
        let (told, holding) = (Arc::clone(&told), Arc::clone(&holding));
        async move {
            told.notify_one();
            holding.notified().await;
            Ok(call.body)
        }
        .boxed()
    })
    .await;
    let remote = remote(&server, 1).await;
    let stopping = async {
        begun.notified().await;
        let stop = lifecycle.stop(crate::lifecycle::Grace::of_connections(PATIENCE));
        tokio::pin!(stop);
        assert!(futures::poll!(&mut stop).is_pending());
        held.notify_one();
        stop.await
    };
    let (answer, stopped) = futures::join!(answered(&remote, "Sell"), stopping);
    assert_eq!(answer, Ok(Bytes::from_static(b"a loaf")));
    assert_eq!(stopped.connections_dropped, 0);
    let short = Call {
        timeout: Duration::from_millis(100),
        ..call("Sell")
    };
    let gone = async { while remote.call(short.clone()).await != Err(Unanswered::NobodyThere) {} };
    timeout(PATIENCE, gone).await.expect("nobody is there");
}

/// A node that answers what everybody is asked with its name.
async fn hearer(server: &Instance, key: u8, name: &'static [u8]) -> (Everybody, Lifecycle) {
    let lifecycle = Lifecycle::new();
    let everybody = Everybody::connect(options(server, key), clock()).await;
    let everybody = everybody.unwrap();
    let handler: Handler = Arc::new(move |call: Call| {
        let answer = match call.path.ends_with("Sell") {
            true => Ok(Bytes::from_static(name)),
            false => Err(Refusal {
                code: "not_found".into(),
                detail: String::new(),
            }),
        };
        std::future::ready(answer).boxed()
    });
    let hearing = everybody
        .clone()
        .hear(vec![SERVICE.into()], handler, lifecycle.clone());
    lifecycle.spawn(Kind::Door, "questions", hearing);
    (everybody, lifecycle)
}

/// So many answers to a question, which is asked until so many hear it, as of nodes that have just started.
async fn asked(everybody: &Everybody, method: &str, wanted: usize) -> Vec<Result<Bytes, Refusal>> {
    let asking = async {
        loop {
            let hasty = Call {
                timeout: Duration::from_millis(500),
                ..call(method)
            };
            let Ok(mut answers) = everybody.ask(hasty).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let mut came = Vec::new();
            while came.len() < wanted
                && let Some(answer) = answers.next().await
            {
                came.push(answer);
            }
            if came.len() == wanted {
                return came;
            }
        }
    };
    timeout(PATIENCE, asking)
        .await
        .expect("not so many are there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_else_is_asked_at_once_and_who_asks_is_not() {
    let server = Instance::start();
    let (ann, _of_ann) = hearer(&server, 1, b"ann").await;
    let (bob, of_bob) = hearer(&server, 1, b"bob").await;
    let _eve = hearer(&server, 1, b"eve").await;
    let mut names = asked(&ann, "Sell", 2).await;
    names.sort_by_key(|name| name.clone().unwrap_or_default());
    assert_eq!(names, [Ok("bob".into()), Ok("eve".into())]);
    let refusals = asked(&ann, "Give", 2).await;
    assert!(refusals.iter().all(|answer| answer.is_err()));
    // Who is not there any more does not answer, and nobody waits for it beyond the time.
    of_bob
        .stop(crate::lifecycle::Grace::of_connections(PATIENCE))
        .await;
    drop(bob);
    assert_eq!(asked(&ann, "Sell", 1).await, [Ok("eve".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_with_another_key_or_of_another_service_is_refused() {
    let server = Instance::start();
    let _node = hearer(&server, 1, b"ann").await;
    let strange = Err(refusal(STRANGE));
    let [stranger, honest] = [2, 1].map(|key| Everybody::connect(options(&server, key), clock()));
    let (stranger, honest) = (stranger.await.unwrap(), honest.await.unwrap());
    assert_eq!(asked(&stranger, "Sell", 1).await[0], strange);
    assert_eq!(asked(&honest, "Sell", 1).await, [Ok("ann".into())]);
    let elsewhere = Call {
        path: "shop.v1.Safe/Open".into(),
        ..call("Sell")
    };
    let mut answers = honest.ask(elsewhere).await.unwrap();
    assert_eq!(answers.next().await, Some(strange));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_it_is_said_at_once_that_nobody_was_asked() {
    let mut server = Instance::start();
    let (ann, _of_ann) = hearer(&server, 1, b"ann").await;
    let _bob = hearer(&server, 1, b"bob").await;
    asked(&ann, "Sell", 1).await;
    server.kill();
    let unsent = async { while ann.ask(call("Sell")).await.is_ok() {} };
    timeout(PATIENCE, unsent).await.expect("it says so");
}
