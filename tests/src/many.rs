//! Several nodes behind one address: what a test says on one connection is said to one node, and what it says on the
//! next to another.

use std::net::SocketAddr;

use anyhow::Result;
use tertulia_kit::instances::{nats, postgres, redis};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the nodes know and nobody else; it guards nothing but test data.
pub const PEPPER: &str = "the pepper of all nodes of a test";
pub const NODE_KEY: &str = "the key by which nodes of a test know each other";

/// What nodes share.
pub struct Shared {
    database: postgres::Instance,
    bus: nats::Instance,
    ledger: redis::Instance,
}

impl Shared {
    /// Starts it.
    pub fn start() -> Shared {
        Shared {
            database: postgres::Instance::start(),
            bus: nats::Instance::start(),
            ledger: redis::Instance::start(),
        }
    }

    /// What each node is told of it.
    pub fn secrets(&self) -> Vec<(&'static str, String)> {
        vec![
            ("store.url", self.database.url()),
            ("bus.url", self.bus.url()),
            ("redis.url", self.ledger.url()),
            ("bus.node_key", NODE_KEY.to_owned()),
            ("identity.pepper", PEPPER.to_owned()),
        ]
    }
}

/// Passes each connection to the next of several addresses.
pub struct InTurn {
    /// Where it listens.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl InTurn {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(nodes: Vec<SocketAddr>) -> Result<InTurn> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            for node in nodes.into_iter().cycle() {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                tokio::spawn(pass(client, node));
            }
        });
        Ok(InTurn { address, accepting })
    }
}

impl Drop for InTurn {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(mut client: TcpStream, node: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(node).await {
        // Whoever ends it, the other one sees it end.
        _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
