//! The side that calls: all nodes that do something, as one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::link::{Failed, Link, uri};
use super::{BELOW, BUSY, BUSY_CODE, NOT_HERE, REFUSED, STRANGE, header, refusal, written};
use crate::balance::{self, Balancer, End, Pick, Turn};
use crate::clock::SharedClock;
use crate::discovery::{Discovery, Endpoint, Endpoints};
use crate::lifecycle::Lifecycle;
use crate::metrics::Counter;
use crate::transport::nats::seal::Way;
use crate::transport::nats::{Call, NodeKey, Refusal, Unanswered};

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// How far two timers for the same moment may go off apart.
const TIMERS_DIFFER: Duration = Duration::from_millis(5);

/// How other nodes are called.
pub struct Options {
    /// What shows that a call comes from a node.
    pub key: NodeKey,
    /// For endpoints under TLS; none: there are none.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// For the age of seals.
    pub clock: SharedClock,
    /// For the connections.
    pub lifecycle: Lifecycle,
    /// How calls are spread.
    pub balance: balance::Options,
}

/// The nodes that do something, to be called. Clones are the same ones.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    key: NodeKey,
    tls: Option<TlsConnector>,
    clock: SharedClock,
    lifecycle: Lifecycle,
    /// Held for the moment of a choice.
    nodes: Mutex<Nodes>,
    numbers: Numbers,
}

struct Nodes {
    heard: watch::Receiver<Endpoints>,
    balancer: Balancer<Endpoint>,
    links: HashMap<Endpoint, Arc<Link>>,
}

/// What is counted of calls.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Calls that were sent to a node, each time that one was.
    pub sent: Counter,
    /// Of these, those that it did not answer.
    pub unanswered: Counter,
    /// How often a node was left out.
    pub left_out: Counter,
}

impl Remote {
    /// Those that are found there.
    pub fn new(discovery: &dyn Discovery, options: Options) -> Remote {
        let mut heard = discovery.endpoints();
        let mut balancer = Balancer::new(options.balance, rand::random());
        balancer.know(&heard.borrow_and_update());
        Remote(Arc::new(Inner {
            key: options.key,
            tls: options.tls.map(TlsConnector::from),
            clock: options.clock,
            lifecycle: options.lifecycle,
            nodes: Mutex::new(Nodes {
                heard,
                balancer,
                links: HashMap::new(),
            }),
            numbers: Numbers::default(),
        }))
    }

    /// What was counted.
    pub fn numbers(&self) -> &Numbers {
        &self.0.numbers
    }

    /// How many nodes there are, and how many of them are left out.
    pub fn count(&self) -> (usize, usize) {
        self.0.nodes.lock().balancer.count()
    }

    /// Whether all of them could be used when they were called last. For operators: no address.
    ///
    /// # Errors
    /// What is wrong with one that could not be.
    pub fn health(&self) -> Result<(), String> {
        let nodes = self.0.nodes.lock();
        let troubles: Vec<_> = nodes
            .links
            .values()
            .filter_map(|link| link.trouble())
            .collect();
        let Some(one) = troubles.first() else {
            return Ok(());
        };
        let (all, count) = (nodes.balancer.count().0, troubles.len());
        Err(format!(
            "{count} of {all} nodes to which calls are handed on could not be called, one because {one}"
        ))
    }

    /// Calls one of them, and the next one when it was surely not done. Each has what is left of the time.
    ///
    /// # Errors
    /// When it was refused, or has no answer.
    pub async fn call(&self, call: Call) -> Result<Bytes, Unanswered> {
        let until = Instant::now() + call.timeout;
        let mut been_at = Vec::new();
        while let Some((under_way, link)) = self.begin(&been_at, until) {
            let endpoint = under_way.pick.key.clone();
            let at_it = self.at(&endpoint, &link, &call, until);
            let Ok(tried) = timeout_at(until, at_it).await else {
                under_way.ended(End::Slow);
                return Err(Unanswered::Late);
            };
            let failed = match tried {
                Tried::Answered(answer) => {
                    under_way.ended(End::Answered);
                    return answer;
                }
                Tried::Failed(failed) => failed,
            };
            under_way.ended(match failed {
                Failed::Away | Failed::Lost => End::Away,
                Failed::Leaves => End::Leaves,
                Failed::Busy => End::Slow,
            });
            match failed {
                Failed::Lost => return Err(Unanswered::Lost),
                Failed::Busy if !self.may_go_again() => {
                    return Err(Unanswered::Refused(refusal(BUSY_CODE)));
                }
                Failed::Away | Failed::Leaves | Failed::Busy => been_at.push(endpoint),
            }
        }
        Err(Unanswered::NobodyThere)
    }

    /// Where the next try of a call goes.
    fn begin(&self, been_at: &[Endpoint], until: Instant) -> Option<(UnderWay<'_>, Arc<Link>)> {
        let inner = &*self.0;
        let nodes = &mut *inner.nodes.lock();
        // A discovery that is gone will have nothing new to tell.
        if nodes.heard.has_changed().unwrap_or(false) {
            let heard = Arc::clone(&nodes.heard.borrow_and_update());
            nodes.balancer.know(&heard);
            // Who is on its way has its own hold on the connection.
            nodes.links.retain(|endpoint, _| heard.contains(endpoint));
        }
        let pick = nodes.balancer.pick(been_at, Instant::now())?;
        let link = nodes.links.entry(pick.key.clone()).or_insert_with(|| {
            let (tls, lifecycle) = (inner.tls.clone(), inner.lifecycle.clone());
            Arc::new(Link::new(pick.key.clone(), tls, lifecycle))
        });
        let link = Arc::clone(link);
        inner.numbers.sent.add(1);
        let under_way = UnderWay {
            inner,
            pick,
            until,
            is_over: false,
        };
        Some((under_way, link))
    }

    async fn at(&self, endpoint: &Endpoint, link: &Link, call: &Call, until: Instant) -> Tried {
        let inner = &*self.0;
        let call = Call {
            timeout: until.saturating_duration_since(Instant::now()),
            ..call.clone()
        };
        let seal = inner.key.seal(Way::Http, &call, inner.clock.now_ms());
        let uri = uri(endpoint, &format!("{BELOW}/{}", call.path));
        let unsent = |problem: &str| Tried::Answered(Err(Unanswered::Unsent(problem.into())));
        let (Ok(headers), Ok(uri)) = (written(&call, &seal), uri.parse::<Uri>()) else {
            return unsent("what it says does not fit on a line");
        };
        let request = || {
            let mut request = Request::new(Body::from(call.body.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            request
        };
        match link.send(request).await {
            Ok(response) => answered(response).await,
            Err(failed) => Tried::Failed(failed),
        }
    }

    fn may_go_again(&self) -> bool {
        self.0.nodes.lock().balancer.may_go_again()
    }
}

/// What came of a call at one node.
enum Tried {
    Answered(Result<Bytes, Unanswered>),
    Failed(Failed),
}

async fn answered(response: Response<Incoming>) -> Tried {
    let (head, body) = response.into_parts();
    let code = head.headers.get(header::CODE);
    let code = code.and_then(|code| code.to_str().ok()).map(str::to_owned);
    if head.status == BUSY && code.as_deref() == Some(BUSY_CODE) {
        return Tried::Failed(Failed::Busy);
    }
    let Ok(body) = to_bytes(Body::new(body), ANSWER_BYTES_MAX).await else {
        return Tried::Failed(Failed::Lost);
    };
    match (head.status, code) {
        (StatusCode::OK, _) => Tried::Answered(Ok(body)),
        (REFUSED | NOT_HERE | STRANGE, Some(code)) => {
            let detail = String::from_utf8_lossy(&body).into_owned();
            Tried::Answered(Err(Unanswered::Refused(Refusal { code, detail })))
        }
        // It was none of ours that answered so, and who knows what it did before.
        _ => Tried::Failed(Failed::Lost),
    }
}

/// A call that is under way to a node, until its end is told. When it is dropped, nobody waits for it any more.
struct UnderWay<'a> {
    inner: &'a Inner,
    pick: Pick<Endpoint>,
    until: Instant,
    is_over: bool,
}

impl UnderWay<'_> {
    fn ended(mut self, how: End) {
        self.end(how);
    }

    fn end(&mut self, how: End) {
        self.is_over = true;
        let Inner { nodes, numbers, .. } = self.inner;
        let balancer = &mut nodes.lock().balancer;
        let turn = balancer.ended(&self.pick, how, Instant::now());
        let (all, out) = balancer.count();
        match how {
            End::Answered => {}
            End::Leaves | End::Unknown | End::Away | End::Slow => numbers.unanswered.add(1),
        }
        match turn {
            Some(Turn::Out) => {
                numbers.left_out.add(1);
                tracing::warn!(
                    node.count = all,
                    out,
                    "a node that does calls is left out for a while"
                );
            }
            Some(Turn::In) => {
                tracing::info!(
                    node.count = all,
                    out,
                    "a node that does calls is there again"
                );
            }
            None => {}
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Who waits for the whole call counts to the same moment, and gives up first as often as not.
        match Instant::now() + TIMERS_DIFFER >= self.until {
            true => self.end(End::Slow),
            false => self.end(End::Unknown),
        }
    }
}
