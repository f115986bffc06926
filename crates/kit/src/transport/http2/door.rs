//! The side that is called: the path below which calls of other nodes are taken, whatever else is on the port.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{
    BELOW, BUSY, BUSY_CODE, NOT_HERE, NOT_HERE_CODE, REFUSED, STRANGE, STRANGE_CODE, header, read,
};
use crate::clock::SharedClock;
use crate::transport::nats::seal::{Seen, Way};
use crate::transport::nats::{Handler, NodeKey, Offer, Refusal};

/// How long a body may take to come.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// Who takes calls of other nodes, and the bounds.
pub struct Door {
    /// What shows that a call comes from a node.
    pub key: NodeKey,
    /// What is done here.
    pub offers: Vec<Offer>,
    /// Does it.
    pub handler: Handler,
    /// How many calls are under way at once; more are refused.
    pub calls_max: usize,
    /// The largest body that is read.
    pub body_bytes_max: usize,
    /// For the age of seals.
    pub clock: SharedClock,
}

struct Opened {
    door: Door,
    paths: HashSet<String>,
    seen: Seen,
    room: Arc<Semaphore>,
}

/// The routes of a door.
pub fn router(door: Door) -> Router {
    let paths = door.offers.iter().flat_map(|Offer { service, methods }| {
        let methods = methods.iter();
        methods.map(move |method| format!("{service}/{method}"))
    });
    let opened = Opened {
        paths: paths.collect(),
        seen: Seen::default(),
        room: Arc::new(Semaphore::new(door.calls_max)),
        door,
    };
    Router::new()
        .route(&format!("{BELOW}/{{service}}/{{method}}"), post(take))
        .with_state(Arc::new(opened))
}

async fn take(
    State(opened): State<Arc<Opened>>,
    Path((service, method)): Path<(String, String)>,
    request: Request,
) -> Response {
    let answer = opened.answer(format!("{service}/{method}"), request).await;
    answer.unwrap_or_else(|(status, code)| (status, [(header::CODE, code)]).into_response())
}

impl Opened {
    /// # Errors
    /// With status and code, when the call does not come to who does it.
    async fn answer(
        &self,
        path: String,
        request: Request,
    ) -> Result<Response, (StatusCode, &'static str)> {
        let strange = (STRANGE, STRANGE_CODE);
        let Door {
            key,
            handler,
            body_bytes_max,
            clock,
            ..
        } = &self.door;
        let (head, body) = request.into_parts();
        let (mut call, seal) = read(path, &head.headers).ok_or(strange)?;
        // What is too old is not worth reading.
        if !seal.is_of(clock.now_ms()) {
            return Err(strange);
        }
        let body = timeout(BODY_WAIT, to_bytes(body, *body_bytes_max)).await;
        call.body = body.map_err(|_| strange)?.map_err(|_| strange)?;
        if !key.holds(Way::Http, &call, &seal) || !self.seen.is_first(&seal, clock.now_ms()) {
            return Err(strange);
        }
        if !self.paths.contains(&call.path) {
            return Err((NOT_HERE, NOT_HERE_CODE));
        }
        let _place = self.room.try_acquire().map_err(|_| (BUSY, BUSY_CODE))?;
        let content_type = call.content_type.clone();
        Ok(match handler(call).await {
            Ok(body) => {
                let named = [(header::CONTENT_TYPE, content_type)];
                (named, Body::from(body)).into_response()
            }
            Err(Refusal { code, detail }) => {
                (REFUSED, [(header::CODE, code)], detail).into_response()
            }
        })
    }
}
