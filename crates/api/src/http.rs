//! Everything on the one port: the RPCs, the live socket, health, keys and the web client.

mod web;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use connectrpc::{ConnectRpcService, Limits};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tertulia_kit::health::{Health, State as Life};
use tertulia_kit::net::Net;
use tertulia_services::errors;
use tertulia_services::identity::Identity;

use crate::error::respond;
use crate::gate::{Gate, Peer, REQUEST_ID, context_from};
use crate::live::handshake::Handshake;
use crate::live::{Live, socket};

/// What the doors lead to.
#[derive(Clone)]
pub struct Doors {
    /// For the RPCs.
    pub gate: Gate,
    /// For the socket.
    pub live: Arc<Live>,
    /// For the public keys.
    pub identity: Arc<Identity>,
    /// For the probes.
    pub health: Health,
    /// Pages of these origins may connect; when empty, those of the host itself.
    pub origins: Arc<[String]>,
    /// Proxies whose word about the client's address is taken.
    pub trusted_proxies: Arc<[Net]>,
    /// The largest body that is read.
    pub body_bytes_max: usize,
}

/// The RPCs as an HTTP service; the in-process client calls the same one.
pub fn rpc_service(gate: Gate, body_bytes_max: usize) -> ConnectRpcService<Gate> {
    let limits = Limits::default()
        .with_max_request_body_size(body_bytes_max)
        .with_max_message_size(body_bytes_max);
    ConnectRpcService::new(gate).with_limits(limits)
}

/// All routes.
pub fn router(doors: Doors) -> Router {
    let rpc = rpc_service(doors.gate.clone(), doors.body_bytes_max);
    let mut router = Router::new()
        .route("/live", get(live))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/.well-known/jwks.json", get(jwks))
        .fallback(web::serve);
    for service in rpc_services() {
        router = router.route_service(&format!("/{service}/{{method}}"), rpc.clone());
    }
    router
        .layer(middleware::from_fn_with_state(doors.clone(), frame))
        .with_state(doors)
}

/// The routes of a node that has no clients: only what probes ask.
pub fn probes(health: Health) -> Router {
    let ready = |State(health): State<Health>, query| ready(health, query);
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route(
            "/startupz",
            get(|State(health)| async move { started(&health) }),
        )
        .with_state(health)
}

fn rpc_services() -> Vec<&'static str> {
    let mut names: Vec<&str> = tertulia_proto::METHODS
        .iter()
        .filter_map(|m| m.path.split_once('/'))
        .map(|(s, _)| s)
        .collect();
    names.dedup();
    names.extend([
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]);
    names
}

/// Around every request: who is it, which request is it, and what may be kept of the answer.
async fn frame(State(doors): State<Doors>, mut request: Request, next: Next) -> Response {
    let context = context_from(request.headers());
    let id =
        HeaderValue::from_str(context.request_id.as_str()).expect("request ids are plain ASCII");
    let context_id = context.request_id.clone();
    let peer = client_address(&request, &doors.trusted_proxies);
    request.extensions_mut().insert(context);
    request.extensions_mut().insert(Peer(peer));
    // The gate bounds a call once its body is there; who dribbles it must not hold a place for ever.
    let answer = tokio::time::timeout(doors.gate.request_timeout(), next.run(request)).await;
    let late = |_| respond(&errors::deadline(), context_id.as_str());
    let mut response = answer.unwrap_or_else(late);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    let fixed = [
        (header::CACHE_CONTROL, "private, no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fixed {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The peer's address, or what a trusted proxy says it is: the last one that no trusted proxy has added.
fn client_address(request: &Request, trusted: &[Net]) -> IpAddr {
    let known = |address: IpAddr| trusted.iter().any(|net| net.contains(address));
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::from([127, 0, 0, 1]), |info| info.0.ip());
    if !known(peer) {
        return peer;
    }
    let forwarded = request.headers().get_all("x-forwarded-for");
    let chain = forwarded
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    let hops: Vec<IpAddr> = chain.filter_map(|hop| hop.trim().parse().ok()).collect();
    hops.into_iter()
        .rev()
        .find(|hop| !known(*hop))
        .unwrap_or(peer)
}

async fn live(
    State(doors): State<Doors>,
    axum::Extension(peer): axum::Extension<Peer>,
    mut request: Request,
) -> Response {
    match Handshake::of(&mut request) {
        Some(handshake) => {
            let headers = request.headers();
            socket::upgrade(doors.live, handshake, headers, &doors.origins, peer.0)
        }
        None => (StatusCode::UPGRADE_REQUIRED, "this is a WebSocket\n").into_response(),
    }
}

#[derive(serde::Deserialize)]
struct Verbose {
    verbose: Option<String>,
}

async fn readyz(State(doors): State<Doors>, query: Query<Verbose>) -> Response {
    ready(doors.health, query).await
}

async fn ready(health: Health, Query(query): Query<Verbose>) -> Response {
    let report = health.report(query.verbose.is_some()).await;
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, axum::Json(report)).into_response()
}

async fn startupz(State(doors): State<Doors>) -> Response {
    started(&doors.health)
}

fn started(health: &Health) -> Response {
    match health.state() {
        Life::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
        Life::Ready | Life::Drained | Life::Draining => {
            (StatusCode::OK, "started\n").into_response()
        }
    }
}

async fn jwks(State(doors): State<Doors>) -> Response {
    let keys: Vec<_> = doors
        .identity
        .jwks()
        .into_iter()
        .map(|k| json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": k.kid, "x": k.x}))
        .collect();
    let public = [(header::CACHE_CONTROL, "public, max-age=300")];
    (public, axum::Json(json!({ "keys": keys }))).into_response()
}
