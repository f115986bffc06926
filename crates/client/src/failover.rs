//! One of several nodes of a deployment, and the next one when it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tertulia_proto::errors::Reason;

use crate::error::{Error, Result};
use crate::time::Machine;
use crate::transport::{Transport, Wire};

/// Reaches the node that answered last. Clients begin with different ones, so that nodes have about as many each.
pub struct Failover {
    nodes: Vec<Arc<dyn Transport>>,
    /// The place of the node in use.
    at: AtomicUsize,
}

impl Failover {
    /// Begins with one that chance chooses. There is at least one.
    pub fn new(nodes: Vec<Arc<dyn Transport>>, chance: &dyn Machine) -> Failover {
        let mut bytes = [0; size_of::<usize>()];
        chance.fill(&mut bytes);
        let at = AtomicUsize::new(usize::from_le_bytes(bytes) % nodes.len());
        Failover { nodes, at }
    }

    fn place(&self) -> usize {
        self.at.load(Ordering::Relaxed)
    }

    /// The node at a place is of no use now. Of many who find that out at once only the first moves on.
    fn leave(&self, place: usize) {
        let next = (place + 1) % self.nodes.len();
        _ = self
            .at
            .compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Transport for Failover {
    fn call<'a>(
        &'a self,
        method: &'a str,
        token: Option<&'a str>,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move {
            let mut tries = self.nodes.len();
            loop {
                let place = self.place();
                let node = &self.nodes[place];
                let answer = node.call(method, token, request.clone(), timeout).await;
                tries -= 1;
                match answer {
                    Err(error) if is_gone(&error) => {
                        self.leave(place);
                        // What may have been done is not done again here: who asks knows whether it may be.
                        if tries == 0 || !is_undone(&error) {
                            return Err(error);
                        }
                    }
                    answer => return answer,
                }
            }
        })
    }

    fn dial(&self, timeout: Duration) -> BoxFuture<'_, Result<Box<dyn Wire>>> {
        Box::pin(async move {
            let mut tries = self.nodes.len();
            loop {
                let place = self.place();
                let dialled = self.nodes[place].dial(timeout).await;
                tries -= 1;
                match dialled {
                    Err(error) if is_gone(&error) => {
                        self.leave(place);
                        if tries == 0 {
                            return Err(error);
                        }
                    }
                    dialled => return dialled,
                }
            }
        })
    }
}

/// Whether another node may do better.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Unreachable(_) | Error::Offline(_) | Error::Timeout(_) => true,
        Error::Refused(refusal) => refusal.reason == Reason::REASON_DRAINING,
        _ => false,
    }
}

/// Whether the call was surely not done.
fn is_undone(error: &Error) -> bool {
    matches!(error, Error::Unreachable(_) | Error::Refused(_))
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::error::Refusal;
    use crate::time::System;

    /// A node that answers with its number, or fails.
    struct Numbered {
        number: u8,
        failing: Mutex<Option<Error>>,
    }

    impl Transport for Numbered {
        fn call<'a>(
            &'a self,
            _: &'a str,
            _: Option<&'a str>,
            _: Vec<u8>,
            _: Duration,
        ) -> BoxFuture<'a, Result<Bytes>> {
            let failing = self.failing.lock().clone();
            let answer = failing.map_or(Ok(vec![self.number].into()), Err);
            Box::pin(std::future::ready(answer))
        }

        fn dial(&self, _: Duration) -> BoxFuture<'_, Result<Box<dyn Wire>>> {
            let failing = self.failing.lock().clone();
            let refused = Error::Invalid(format!("dialled {}", self.number));
            Box::pin(std::future::ready(Err(failing.unwrap_or(refused))))
        }
    }

    fn nodes() -> (Vec<Arc<Numbered>>, Failover) {
        let nodes: Vec<_> = (0..3)
            .map(|number| {
                Arc::new(Numbered {
                    number,
                    failing: Mutex::new(None),
                })
            })
            .collect();
        let all = nodes.iter().map(|node| node.clone() as Arc<dyn Transport>);
        let failover = Failover::new(all.collect(), &System);
        (nodes, failover)
    }

    async fn answer(failover: &Failover) -> Result<u8> {
        let answer = failover.call("a/b", None, Vec::new(), Duration::ZERO).await;
        answer.map(|bytes| bytes[0])
    }

    fn refused(reason: Reason) -> Error {
        Error::Refused(Box::new(Refusal {
            code: "unavailable".into(),
            message: String::new(),
            reason,
            what_to_do: String::new(),
            request_id: String::new(),
            fields: Vec::new(),
            retry_after: None,
        }))
    }

    #[tokio::test]
    async fn who_has_a_node_stays_there_and_leaves_it_when_it_is_gone() {
        let (nodes, failover) = nodes();
        let first = answer(&failover).await.unwrap();
        assert_eq!(answer(&failover).await.unwrap(), first);
        *nodes[usize::from(first)].failing.lock() = Some(Error::Unreachable("gone".into()));
        let second = answer(&failover).await.unwrap();
        assert_eq!(second, (first + 1) % 3);
        *nodes[usize::from(first)].failing.lock() = None;
        assert_eq!(answer(&failover).await.unwrap(), second);
        *nodes[usize::from(second)].failing.lock() = Some(refused(Reason::REASON_DRAINING));
        assert_eq!(answer(&failover).await.unwrap(), (second + 1) % 3);
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_not_done_again_by_another_node() {
        let (nodes, failover) = nodes();
        let first = answer(&failover).await.unwrap();
        *nodes[usize::from(first)].failing.lock() = Some(Error::Offline("cut".into()));
        assert!(matches!(answer(&failover).await, Err(Error::Offline(_))));
        assert_eq!(answer(&failover).await.unwrap(), (first + 1) % 3);
    }

    #[tokio::test]
    async fn a_refusal_of_one_node_is_the_answer_of_all() {
        let (nodes, failover) = nodes();
        let first = usize::from(answer(&failover).await.unwrap());
        *nodes[first].failing.lock() = Some(refused(Reason::REASON_OVERLOADED));
        assert!(matches!(answer(&failover).await, Err(Error::Refused(_))));
    }

    #[tokio::test]
    async fn a_connection_is_tried_once_at_each_node() {
        let (nodes, failover) = nodes();
        let dial = async || {
            let dialled = failover.dial(Duration::ZERO).await;
            dialled
                .err()
                .expect("no node takes connections")
                .to_string()
        };
        for node in &nodes[..2] {
            *node.failing.lock() = Some(Error::Offline("cut".into()));
        }
        assert_eq!(dial().await, "dialled 2");
        *nodes[2].failing.lock() = Some(Error::Timeout(Duration::from_millis(7)));
        assert!(!dial().await.contains("dialled"));
    }
}
