//! Endpoints that are the addresses of one name: every node that does something is an address of it, as with a headless
//! service or a round robin. The name is asked again and again, for nothing tells when it changes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Discovery, Endpoints, Host, tell};

/// How long after an answer the name is asked again.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The addresses of a name, or why they are not known.
pub type Resolving = BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

/// Looks up names.
pub trait Resolve: Send + Sync {
    /// All addresses of a host, with the port.
    fn resolve(&self, name: &str, port: u16) -> Resolving;
}

/// Looks names up as this machine does for all its programs.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Resolve for System {
    fn resolve(&self, name: &str, port: u16) -> Resolving {
        let name = name.to_owned();
        async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) }.boxed()
    }
}

/// The addresses of a name.
pub struct Dns {
    host: Host,
    resolve: Arc<dyn Resolve>,
    known: watch::Sender<Endpoints>,
}

impl Dns {
    /// Those of this host. None are known until [`keep_asking`](Dns::keep_asking) has had an answer.
    pub fn new(host: Host, resolve: Arc<dyn Resolve>) -> Dns {
        Dns {
            host,
            resolve,
            known: watch::Sender::new(Endpoints::default()),
        }
    }

    /// Asks until it is told to stop. Of failures in a row only the first is logged.
    pub async fn keep_asking(&self, told: CancellationToken) {
        let asking = async {
            let mut fails = false;
            loop {
                let answer = self.ask().await;
                if let Err(error) = &answer
                    && !fails
                {
                    tracing::warn!(
                        %error,
                        "where calls are handed on to can not be looked up; what was known stays"
                    );
                }
                fails = answer.is_err();
                sleep(ASK_EVERY).await;
            }
        };
        told.run_until_cancelled(asking).await;
    }

    async fn ask(&self) -> io::Result<()> {
        let Host { name, port, .. } = &self.host;
        let answer = timeout(ANSWER_MAX, self.resolve.resolve(name, *port)).await;
        let addresses = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let endpoint = |address: SocketAddr| self.host.endpoint_at(address.to_string());
        tell(&self.known, addresses.into_iter().map(endpoint).collect());
        Ok(())
    }
}

impl Discovery for Dns {
    fn endpoints(&self) -> watch::Receiver<Endpoints> {
        self.known.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::discovery::{Endpoint, suite};

    /// Answers what it was told.
    #[derive(Default)]
    struct Book {
        /// None: it fails.
        addresses: Mutex<Option<Vec<SocketAddr>>>,
        asked: watch::Sender<u64>,
    }

    impl Resolve for Book {
        fn resolve(&self, _: &str, _: u16) -> Resolving {
            self.asked.send_modify(|asked| *asked += 1);
            let answer = self.addresses.lock().clone();
            let answer = answer.ok_or_else(|| io::ErrorKind::NotFound.into());
            std::future::ready(answer).boxed()
        }
    }

    fn dns() -> (Arc<Book>, Arc<Dns>) {
        let book = Arc::new(Book::default());
        let host = "http://shop.example.org:80".parse().unwrap();
        (book.clone(), Arc::new(Dns::new(host, book)))
    }

    /// Runs claims while the name is asked.
    async fn while_asking(dns: &Dns, claims: impl Future<Output = ()>) {
        tokio::select! {
            () = dns.keep_asking(CancellationToken::new()) => {}
            () = claims => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_keeps_the_promises_of_a_discovery() {
        let (book, dns) = dns();
        let say = move |endpoints: Vec<Endpoint>| {
            let address = |endpoint: &Endpoint| endpoint.address.parse().unwrap();
            *book.addresses.lock() = Some(endpoints.iter().map(address).collect());
        };
        while_asking(&dns, suite::run(dns.clone(), say)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_stays_when_the_name_can_not_be_looked_up() {
        let (book, dns) = dns();
        let (mut known, mut asked) = (dns.endpoints(), book.asked.subscribe());
        *book.addresses.lock() = Some(vec!["10.0.0.1:80".parse().unwrap()]);
        let claims = async {
            known.changed().await.unwrap();
            *book.addresses.lock() = None;
            let before = *asked.borrow_and_update();
            asked.wait_for(|asked| *asked > before + 3).await.unwrap();
            assert_eq!(known.borrow().len(), 1);
            assert!(!known.has_changed().unwrap());
        };
        while_asking(&dns, claims).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_told_to_stop_asks_no_more() {
        let (_, dns) = dns();
        let told = CancellationToken::new();
        told.cancel();
        dns.keep_asking(told).await;
    }
}
