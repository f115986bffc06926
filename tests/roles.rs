//! Nodes that do a part of the work each: what one hands on comes back as if it had done it itself.

use std::time::Duration;

use serde_json::json;
use tertulia_kit::instances::{nats, postgres};
use tertulia_tests::node::Local;
use tertulia_tests::wire::{Answer, Person, path, post, request};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the gateway hands on.
const ELSEWHERE: &str = "tertulia.users.v1.UsersService,tertulia.identity.v1.IdentityService";

/// What all nodes have.
struct Ground {
    database: postgres::Instance,
    bus: nats::Instance,
}

impl Ground {
    fn new() -> Ground {
        Ground {
            database: postgres::Instance::start(),
            bus: nats::Instance::start(),
        }
    }

    async fn node(&self, settings: &[(&str, &str)]) -> Local {
        let secrets = [
            ("store.url", &*self.database.url()),
            ("bus.url", &*self.bus.url()),
            (
                "bus.node_key",
                "the nodes of this test know each other by this",
            ),
            ("identity.pepper", "the pepper of all nodes of a test"),
        ];
        Local::with_secrets(settings, &secrets).await
    }

    async fn gateway(&self) -> Local {
        self.node(&[("roles", "edge"), ("elsewhere", ELSEWHERE)])
            .await
    }

    async fn api(&self) -> Local {
        self.node(&[("roles", "api,worker")]).await
    }
}

/// Signs up through a gateway, as soon as the node that does it is found.
async fn sign_up(url: &str, name: &str) -> Person {
    let person = Person::of(name, "correct horse of somebody");
    let found = async {
        loop {
            let body =
                json!({"name": name, "password": person.password, "device": {"name": "test"}});
            let answer = post(url, path("CreateAccount"), None, body).await;
            if answer.status == 200 {
                break;
            }
            assert_eq!(answer.reason(), "OVERLOADED");
        }
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .expect("nobody does it");
    person.sign_in(url).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_handed_on_comes_back_as_if_it_had_been_done_here() {
    let ground = Ground::new();
    let (gateway, api) = (ground.gateway().await, ground.api().await);
    let all = ground.node(&[]).await;
    let ann = sign_up(&gateway.url, "ann").await;
    let bob = sign_up(&gateway.url, "bob").await;
    let asked = async |url: &str, method: &str, token: Option<&str>, body| -> Answer {
        post(url, path(method), token, body).await
    };
    for (method, token, body) in [
        ("GetMe", Some(&*ann.token), json!({})),
        ("SearchUsers", Some(&*ann.token), json!({"query": "bob"})),
        (
            "SearchUsers",
            Some(&*ann.token),
            json!({"query": "x".repeat(65)}),
        ),
        ("SearchUsers", Some("no token"), json!({"query": "bob"})),
        ("SearchUsers", None, json!({"query": "bob"})),
        ("ListLogins", Some(&*bob.token), json!({})),
        (
            "Login",
            None,
            json!({"name": "ann", "password": "wrong horse of somebody", "device": {}}),
        ),
        (
            "UpdateProfile",
            Some(&*ann.token),
            json!({"displayName": 7}),
        ),
    ] {
        let (there, here) = (
            asked(&gateway.url, method, token, body.clone()).await,
            asked(&all.url, method, token, body.clone()).await,
        );
        assert_eq!(there.status, here.status, "{method} {body}");
        assert_eq!(there.code(), here.code(), "{method} {body}");
        match here.status {
            200 => assert_eq!(there.json(), here.json(), "{method} {body}"),
            _ => assert_eq!(there.reason(), here.reason(), "{method} {body}"),
        }
    }

    // What is not handed on is done here, with the people that others made.
    let chat = ann.chat_with(&gateway.url, &bob).await;
    assert_eq!(
        ann.say(&gateway.url, &chat, "a-message-of-ann", "hello")
            .await
            .status,
        200
    );

    // Without clients there is nothing to be asked but how it is.
    assert_eq!(
        asked(&api.url, "GetMe", Some(&ann.token), json!({}))
            .await
            .status,
        404
    );
    for probe in ["livez", "readyz", "startupz"] {
        let answer = request("GET", &format!("{}/{probe}", api.url), &[], "").await;
        assert_eq!(answer.status, 200, "{probe}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_handed_on_is_charged_once() {
    let ground = Ground::new();
    let gateway = ground.gateway().await;
    // Whoever were charged here as well could not call twice in a second.
    let narrow = [
        ("roles", "api"),
        ("limits.enabled", "true"),
        ("limits.login_burst", "1"),
        ("limits.login_per_second", "1"),
    ];
    let _api = ground.node(&narrow).await;
    let ann = sign_up(&gateway.url, "ann").await;
    for _ in 0..20 {
        ann.ok(&gateway.url, "GetMe", json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_nobody_does_it_the_caller_is_told_to_come_back() {
    let ground = Ground::new();
    let gateway = ground.gateway().await;
    let body = json!({"name": "ann", "password": "correct horse of somebody", "device": {}});
    let answer = post(&gateway.url, path("CreateAccount"), None, body).await;
    assert_eq!((answer.status, answer.reason()), (503, "OVERLOADED".into()));
    assert!(answer.headers.contains_key("retry-after"));
    assert!(answer.headers.contains_key("x-request-id"));
}
