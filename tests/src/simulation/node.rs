//! A node of the server: the real services, gate, hub and sessions, on the simulated store, bus and clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt as _;
use tertulia_api::gate::{Gate, Parts};
use tertulia_api::live::feed::Feed;
use tertulia_api::live::hub::Hub;
use tertulia_api::live::{Live, Options, session};
use tertulia_api::rpc::{Services, router};
use tertulia_client::error::{Error, Refusal};
use tertulia_kit::id::{Ids, Node as Id};
use tertulia_kit::lifecycle::{Grace, Kind, Lifecycle};
use tertulia_services::access::Authorizer;
use tertulia_services::chats::{Chats, Limits};
use tertulia_services::identity::memory::Memory as People;
use tertulia_services::identity::{self, Identity, Peppers, SigningKeys};
use tertulia_services::presence::{self, Presence};
use tertulia_services::users::Users;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::bus::LossyBus;
use super::clock::NodeClock;
use super::network::Endpoint;
use super::store::Store;
use super::wire::ServerWire;
use super::world::World;

/// The beat of the product's default.
pub const HEARTBEAT: Duration = Duration::from_secs(25);
/// How long a call may take: less than clients ask for, because what they ask for is counted in real time.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a session waits for the logs, as the product's default.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest frame of the product's default.
const FRAME_BYTES_MAX: usize = 65_536;
/// The key of this whole world.
const SIGNING_SEED: [u8; 32] = [7; 32];

/// What outlives a node.
pub struct Ground {
    /// Time and chance.
    pub world: Arc<World>,
    /// The logs.
    pub store: Arc<Store>,
    /// Accounts and logins, which are always there.
    pub people: Arc<People>,
    /// Between the nodes.
    pub bus: Arc<LossyBus>,
}

/// A running node.
pub struct Node {
    live: Arc<Live>,
    rpc: connectrpc::ConnectRpcService<Gate>,
    lifecycle: Lifecycle,
    /// Cuts everything off where it stands.
    cut: CancellationToken,
    draining: AtomicBool,
}

impl Node {
    /// Starts.
    pub async fn start(ground: &Ground, index: u8, clock: Arc<NodeClock>) -> Arc<Node> {
        let plan = &ground.world.plan;
        let id = Id::new(0, index).expect("there are few nodes");
        let ids = Arc::new(Ids::new(clock.clone(), Arc::new(id)));
        let feed = Feed::new(ground.bus.clone());
        let identity = Identity::open(
            identity_options(plan.access_lifetime),
            ground.people.clone(),
            SigningKeys::from_seed(&SIGNING_SEED),
            Peppers::new(SIGNING_SEED.to_vec()),
            ids.clone(),
            clock.clone(),
            feed.clone(),
        );
        let identity = Arc::new(identity.await.expect("memory can always be opened"));
        let users = Arc::new(Users::new(ground.people.clone(), clock.clone()));
        let chats = Arc::new(Chats::new(
            ground.store.clone(),
            users.clone(),
            feed,
            ids,
            clock.clone(),
            Limits::default(),
        ));
        let lifecycle = Lifecycle::new();
        let options = live_options(plan.outbound_frames_max);
        let hub = Hub::new(ground.bus.clone(), &options);
        let presence = Presence::new(
            presence_options(),
            None,
            users.clone(),
            chats.clone(),
            hub.watchers(),
            clock.clone(),
        );
        let live = Live::new(
            options,
            hub,
            chats.clone(),
            presence.clone(),
            clock.clone(),
            lifecycle.clone(),
        );
        let services = Services {
            identity: identity.clone(),
            users,
            chats: chats.clone(),
            presence,
        };
        let parts = Parts {
            identity,
            authorizer: Authorizer::new(chats),
            login_budget: None,
            address_budget: None,
            clock,
            call_timeout: CALL_TIMEOUT,
            elsewhere: None,
            node_tokens: None,
        };
        let gate = Gate::new(parts, router(&services));
        live.set_gate(gate.clone());
        Arc::new(Node {
            live,
            rpc: tertulia_api::http::rpc_service(gate, 1 << 20),
            lifecycle,
            cut: CancellationToken::new(),
            draining: AtomicBool::new(false),
        })
    }

    /// Whether it takes anybody.
    pub fn is_open(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// Takes a live connection. False when it does not.
    pub fn accept(&self, endpoint: Endpoint) -> bool {
        let Ok(place) = self.live.enter() else {
            return false;
        };
        let wire = ServerWire::new(endpoint, FRAME_BYTES_MAX);
        let session = session::run(Arc::clone(&self.live), wire, place);
        let cut = self.cut.clone();
        let session = async move {
            // A session that is cut off ends where it stands.
            _ = cut.run_until_cancelled(session).await;
        };
        self.lifecycle.spawn(Kind::Connection, "session", session);
        true
    }

    /// Answers a call as it comes over HTTP.
    ///
    /// # Errors
    /// What the server says, or that it died over it.
    pub async fn call(
        &self,
        method: &str,
        token: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Bytes, Error> {
        let mut request = Request::post(format!("/{method}"))
            .header(header::CONTENT_TYPE, "application/proto")
            .header("connect-protocol-version", "1");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Body::from(body))
            .map_err(|e| Error::Invalid(e.to_string()))?;
        let rpc = self.rpc.clone();
        let exchange = async move {
            let response = rpc
                .oneshot(request)
                .await
                .unwrap_or_else(|never| match never {});
            let status = response.status();
            let body = response.into_body().collect().await;
            let body = body.map_err(|e| Error::Protocol(e.to_string()))?.to_bytes();
            match status.is_success() {
                true => Ok(body),
                false => Err(Refusal::of_json(status.as_u16(), &body).into()),
            }
        };
        let gone = || Error::Offline("the server died".into());
        match method.ends_with("/Login") || method.ends_with("/CreateAccount") {
            // A password is hashed on a thread of its own: the world stands still meanwhile.
            true => futures::executor::block_on(exchange),
            false => {
                let answer = self.cut.run_until_cancelled(exchange).await;
                answer.unwrap_or_else(|| Err(gone()))
            }
        }
    }

    /// Dies.
    pub fn crash(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.cut.cancel();
    }

    /// Stops in order.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        let grace = Grace::of_connections(Duration::from_secs(10));
        self.lifecycle.stop(grace).await;
        self.cut.cancel();
    }
}

fn identity_options(access_lifetime: Duration) -> identity::Options {
    identity::Options {
        access_lifetime,
        argon2_memory_kib: 8,
        argon2_passes: 1,
        attempts_per_minute: 10_000,
        ..identity::Options::default()
    }
}

/// Nobody asks who is there.
fn presence_options() -> presence::Options {
    presence::Options {
        members_max: 0,
        lease: Duration::from_secs(20),
        grace: Duration::from_secs(10),
        is_alone: true,
    }
}

fn live_options(outbound_frames_max: usize) -> Options {
    Options {
        heartbeat: HEARTBEAT,
        hello_timeout: Duration::from_secs(10),
        read_timeout: READ_TIMEOUT,
        frame_bytes_max: FRAME_BYTES_MAX,
        outbound_frames_max,
        turn_sessions_max: 1,
        turn_every: Duration::from_millis(50),
        outbound_bytes_max: 1 << 20,
        calls_in_flight_max: 16,
        sessions_per_user_max: 50,
        sessions_max: 1_000,
        drain_spread: Duration::from_secs(5),
    }
}
