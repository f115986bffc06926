//! Any bytes as the body of any method, in any form, at the HTTP entry of a whole node. The first byte
//! chooses the method and the second the content type. A panic inside a handler is an answer of 500 there,
//! so that is looked for, too.

#![no_main]

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::Request;
use libfuzzer_sys::fuzz_target;
use tertulia_proto::METHODS;
use tertulia_server::wiring::{self, Node};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

struct Target {
    runtime: Runtime,
    node: Node,
    _folder: tempfile::TempDir,
}

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        ("data", folder.path().to_str().unwrap()),
        ("listen", "127.0.0.1:0"),
        ("limits.enabled", "false"),
        ("identity.argon2_memory_kib", "8192"),
        ("identity.argon2_passes", "1"),
    ];
    let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let config = tertulia_server::config::load(None, flags).unwrap().value;
    let node = runtime.block_on(wiring::start(config, Default::default())).unwrap();
    Target { runtime, node, _folder: folder }
});

const TYPES: [&str; 6] = [
    "application/json",
    "application/proto",
    "application/grpc",
    "application/grpc-web+proto",
    "application/connect+json",
    "application/connect+proto",
];

fuzz_target!(|bytes: &[u8]| {
    let [method, content, body @ ..] = bytes else { return };
    let path = METHODS[*method as usize % METHODS.len()].path;
    let content = TYPES[*content as usize % TYPES.len()];
    let target = &*TARGET;
    let request = Request::post(format!("/{path}"))
        .header("content-type", content)
        .body(Body::from(body.to_vec()))
        .unwrap();
    let answer = target.runtime.block_on(target.node.http.clone().oneshot(request)).unwrap();
    assert_ne!(answer.status().as_u16(), 500, "{path}");
});
