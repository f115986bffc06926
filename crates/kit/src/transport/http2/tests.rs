use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::join_all;
use http::Request;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use super::*;
use crate::balance;
use crate::clock::{SharedClock, SystemClock};
use crate::discovery::{Endpoint, Memory};
use crate::lifecycle::{Grace, Kind, Lifecycle};
use crate::secret::Secret;
use crate::transport::nats::seal::Way;
use crate::transport::nats::{Handler, NodeKey, Offer, Unanswered};
use crate::transport::{self};

const SELL: &str = "shop.v1.Till/Sell";

fn key(first: u8) -> NodeKey {
    NodeKey::new(Secret::new(vec![first; 32])).unwrap()
}

fn clock() -> SharedClock {
    Arc::new(SystemClock::starting_at(0))
}

fn call(body: &str) -> Call {
    Call {
        path: SELL.into(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        content_type: "text/plain".into(),
        identity: "7.Anns Gerät".into(),
        request_id: "r".into(),
        traceparent: String::new(),
        timeout: Duration::from_secs(20),
    }
}

fn door(handler: Handler) -> Door {
    Door {
        key: key(1),
        offers: vec![Offer {
            service: "shop.v1.Till".into(),
            methods: vec!["Sell".into()],
        }],
        handler,
        calls_max: 64,
        body_bytes_max: 1_000,
        clock: clock(),
    }
}

/// Says who did it and what was asked.
fn seller(name: &'static str) -> Handler {
    Arc::new(move |call| {
        let asked = String::from_utf8_lossy(&call.body).into_owned();
        async move { Ok(format!("{name}: {asked}").into()) }.boxed()
    })
}

/// A node that is called.
struct Shop {
    lifecycle: Lifecycle,
    address: SocketAddr,
}

impl Shop {
    fn open(door: Door) -> Shop {
        Shop::open_at("127.0.0.1:0".parse().unwrap(), door)
    }

    fn open_at(address: SocketAddr, door: Door) -> Shop {
        let lifecycle = Lifecycle::new();
        let listener = transport::listen(address).unwrap();
        let address = listener.local_addr().unwrap();
        let alive = Router::new().route("/livez", get(|| async { "ok\n" }));
        let options = transport::Options::default();
        let routes = alive.merge(router(door));
        let serving = transport::serve(listener, routes, options, lifecycle.clone());
        lifecycle.spawn(Kind::Door, "http", serving);
        Shop { lifecycle, address }
    }

    fn endpoint(&self) -> Endpoint {
        at(self.address)
    }

    async fn close(self) {
        let grace = Grace::of_connections(Duration::from_secs(20));
        assert_eq!(self.lifecycle.stop(grace).await, Default::default());
    }
}

fn at(address: SocketAddr) -> Endpoint {
    format!("http://{address}")
        .parse::<crate::discovery::Host>()
        .unwrap()
        .endpoint()
}

fn remote_with(endpoints: Vec<Endpoint>, balance: balance::Options) -> Remote {
    let options = Options {
        key: key(1),
        tls: None,
        clock: clock(),
        lifecycle: Lifecycle::new(),
        balance,
    };
    Remote::new(&Memory::new(endpoints), options)
}

fn remote(endpoints: Vec<Endpoint>) -> Remote {
    remote_with(endpoints, balance::Options::default())
}

/// Where nobody listens.
fn nobody() -> Endpoint {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    at(listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_call_arrives_as_it_was_sent_with_what_is_left_of_its_time() {
    let (heard, mut calls) = watch::channel(None);
    let handler: Handler = Arc::new(move |call| {
        heard.send_replace(Some(call));
        async { Ok(Bytes::from_static(b"a loaf")) }.boxed()
    });
    let shop = Shop::open(door(handler));
    let remote = remote(vec![shop.endpoint()]);
    let answer = remote.call(call("bread")).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"a loaf")));
    let came = calls.borrow_and_update().clone().unwrap();
    assert!(came.timeout < call("").timeout, "it shrinks on the way");
    let timeout = came.timeout;
    assert_eq!(
        came,
        Call {
            timeout,
            ..call("bread")
        }
    );
}

#[tokio::test]
async fn a_refusal_comes_back_as_it_was_made() {
    let refused = Refusal {
        code: "not_found".into(),
        detail: "{\"what\":\"Brötchen\"}".into(),
    };
    let told = refused.clone();
    let handler: Handler = Arc::new(move |_| std::future::ready(Err(told.clone())).boxed());
    let shop = Shop::open(door(handler));
    let remote = remote(vec![shop.endpoint()]);
    let answer = remote.call(call("rolls")).await;
    assert_eq!(answer, Err(Unanswered::Refused(refused)));
    assert_eq!(remote.count(), (1, 0), "who refuses is well");
    let elsewhere = Call {
        path: "shop.v1.Till/Close".into(),
        ..call("")
    };
    let unknown = Unanswered::Refused(refusal(NOT_HERE_CODE));
    assert_eq!(remote.call(elsewhere).await, Err(unknown));
}

#[tokio::test]
async fn who_is_not_a_node_is_refused() {
    let routes = router(door(seller("a")));
    let sent = async |call: &Call, seal: &Seal, more: &[(HeaderName, &str)]| {
        let mut request = Request::new(Body::from(call.body.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = format!("{BELOW}/{}", call.path).parse().unwrap();
        *request.headers_mut() = written(call, seal).ok().unwrap();
        for (name, value) in more {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        routes.clone().oneshot(request).await.unwrap().status()
    };
    let call = call("bread");
    let now_ms = clock().now_ms();
    let made = || key(1).seal(Way::Http, &call, now_ms);

    let seal = made();
    assert_eq!(sent(&call, &seal, &[]).await, StatusCode::OK);
    assert_eq!(sent(&call, &seal, &[]).await, STRANGE, "it came before");
    let changes: [fn(&mut Call); 5] = [
        |call| call.identity = "8.Anns Gerät".into(),
        |call| call.identity = String::new(),
        |call| call.body = Bytes::from_static(b"all the bread"),
        |call| call.timeout *= 2,
        |call| call.path = "shop.v1.Till/Close".into(),
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        let mut changed = call.clone();
        change(&mut changed);
        assert_eq!(sent(&changed, &made(), &[]).await, STRANGE, "change {nth}");
    }
    for seal in [
        key(2).seal(Way::Http, &call, now_ms),
        key(1).seal(Way::Nats, &call, now_ms),
        key(1).seal(Way::Http, &call, now_ms - 31_000),
        key(1).seal(Way::Http, &call, now_ms + 31_000),
    ] {
        assert_eq!(sent(&call, &seal, &[]).await, STRANGE);
    }
    // The token of a user opens nothing here, and spoils what is good.
    for name in [header::AUTHORIZATION, header::COOKIE] {
        let token = [(name, "Bearer abc")];
        assert_eq!(sent(&call, &made(), &token).await, STRANGE);
    }
    let mut bare = Request::post(format!("{BELOW}/{SELL}"));
    bare = bare
        .header(header::AUTHORIZATION, "Bearer abc")
        .header(header::IDENTITY, "7");
    let bare = bare.body(Body::empty()).unwrap();
    assert_eq!(
        routes.clone().oneshot(bare).await.unwrap().status(),
        STRANGE
    );
}

#[tokio::test]
async fn what_is_too_large_is_not_read() {
    let shop = Shop::open(door(seller("a")));
    let remote = remote(vec![shop.endpoint()]);
    let strange = Unanswered::Refused(refusal(STRANGE_CODE));
    assert_eq!(remote.call(call(&"x".repeat(1_001))).await, Err(strange));
    assert!(remote.call(call(&"x".repeat(1_000))).await.is_ok());
}

#[tokio::test]
async fn where_nobody_is_a_call_goes_to_somebody_else() {
    let shop = Shop::open(door(seller("a")));
    let remote = remote(vec![nobody(), shop.endpoint()]);
    for _ in 0..20 {
        let answer = remote.call(call("bread")).await;
        assert_eq!(answer, Ok(Bytes::from_static(b"a: bread")));
    }
    assert_eq!(remote.count(), (2, 1));
    assert_eq!(remote.numbers().left_out.get(), 1);
    let alone = self::remote(vec![nobody()]);
    for _ in 0..3 {
        let answer = alone.call(call("bread")).await;
        assert_eq!(answer, Err(Unanswered::NobodyThere));
    }
}

#[tokio::test]
async fn who_stands_still_costs_nobody_the_call() {
    // The system takes its connections, and nobody ever reads them.
    let silent = transport::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let shop = Shop::open(door(seller("a")));
    let remote = remote(vec![at(silent.local_addr().unwrap()), shop.endpoint()]);
    let calls = (0..20).map(|_| remote.call(call("bread")));
    for answer in join_all(calls).await {
        assert_eq!(answer, Ok(Bytes::from_static(b"a: bread")));
    }
    assert_eq!(remote.count(), (2, 1));
}

#[tokio::test]
async fn who_has_too_much_to_do_is_spared() {
    let room = Arc::new(Semaphore::new(0));
    let (heard, mut waiting) = watch::channel(0);
    let open = Arc::clone(&room);
    let slow: Handler = Arc::new(move |_| {
        let open = Arc::clone(&open);
        heard.send_modify(|calls| *calls += 1);
        async move {
            open.acquire().await.unwrap().forget();
            Ok(Bytes::from_static(b"at last"))
        }
        .boxed()
    });
    let full = Shop::open(Door {
        calls_max: 1,
        ..door(slow)
    });
    let remote = remote(vec![full.endpoint()]);
    let first = remote.call(call("bread"));
    let others = async {
        waiting.wait_for(|calls| *calls == 1).await.unwrap();
        let answer = remote.call(call("rolls")).await;
        room.add_permits(1);
        answer
    };
    let (first, other) = tokio::join!(first, others);
    assert_eq!(first, Ok(Bytes::from_static(b"at last")));
    assert_eq!(other, Err(Unanswered::NobodyThere), "nobody else is there");
    assert_eq!(*waiting.borrow(), 1, "it was not begun");
}

#[tokio::test]
async fn a_call_that_may_have_been_done_is_not_sent_again() {
    // Ends the connection once a call is there, as the death of a node does.
    let (heard, calls) = watch::channel(0);
    let heard = Arc::new(heard);
    let mut shops = Vec::new();
    for _ in 0..2 {
        let heard = Arc::clone(&heard);
        let dying: Handler = Arc::new(move |_| {
            heard.send_modify(|calls| *calls += 1);
            async { panic!("the node dies") }.boxed()
        });
        shops.push(Shop::open(door(dying)));
    }
    let remote = remote(shops.iter().map(Shop::endpoint).collect());
    let answer = remote.call(call("bread")).await;
    assert_eq!(answer, Err(Unanswered::Lost));
    assert_eq!(*calls.borrow(), 1);
}

#[tokio::test]
async fn a_call_ends_with_its_time_and_who_is_late_again_and_again_is_left_out() {
    let never: Handler = Arc::new(|_| std::future::pending().boxed());
    let (slow, shop) = (Shop::open(door(never)), Shop::open(door(seller("a"))));
    let remote = remote(vec![slow.endpoint(), shop.endpoint()]);
    let hasty = || Call {
        timeout: Duration::from_millis(20),
        ..call("bread")
    };
    let late = async {
        let mut late = 0;
        while remote.count().1 == 0 {
            late += u32::from(remote.call(hasty()).await == Err(Unanswered::Late));
        }
        late
    };
    assert!(late.await >= balance::Options::default().slow_max);
    for _ in 0..5 {
        assert_eq!(
            remote.call(call("rolls")).await,
            Ok(Bytes::from_static(b"a: rolls"))
        );
    }
}

#[tokio::test]
async fn a_node_that_stops_finishes_what_it_has_and_gets_no_more() {
    let (a, b) = (Shop::open(door(seller("a"))), Shop::open(door(seller("b"))));
    let remote = remote(vec![a.endpoint(), b.endpoint()]);
    let stopping = watch::Sender::new(false);
    let callers = (0..16).map(|_| {
        let mut stopped = stopping.subscribe();
        let remote = remote.clone();
        async move {
            let mut after = 0;
            while after < 20 {
                let answer = remote.call(call("bread")).await;
                assert!(answer.is_ok(), "{answer:?}");
                after += u32::from(*stopped.borrow_and_update());
            }
        }
    });
    let stop = async {
        a.close().await;
        stopping.send_replace(true);
    };
    tokio::join!(join_all(callers), stop);
    assert_eq!(
        remote.call(call("bread")).await,
        Ok(Bytes::from_static(b"b: bread"))
    );
}

#[tokio::test]
async fn who_comes_back_is_called_again() {
    let (a, b) = (Shop::open(door(seller("a"))), Shop::open(door(seller("b"))));
    let quick = balance::Options {
        pause: Duration::from_millis(10),
        pause_max: Duration::from_millis(10),
        ..balance::Options::default()
    };
    let remote = remote_with(vec![a.endpoint(), b.endpoint()], quick);
    let answered_by = async |name: &str| {
        let by = format!("{name}: bread");
        while remote.call(call("bread")).await != Ok(by.clone().into()) {}
    };
    answered_by("a").await;
    let address = a.address;
    a.close().await;
    answered_by("b").await;
    let _a = Shop::open_at(address, door(seller("a")));
    answered_by("a").await;
}
