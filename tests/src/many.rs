//! Several nodes behind one address: what a test says on one connection is said to one node, and what it says on the
//! next to another.

use std::net::SocketAddr;

use anyhow::Result;
use tempfile::TempDir;
use tertulia_kit::instances::{nats, postgres, redis};
use tertulia_server::config::SCHEMA;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::node::{Process, Start};

/// What the nodes of whole-system tests stand on is said by this variable, so that the same tests say that all do the
/// same.
const STORE: &str = "TEST_STORE";

/// What they stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Their own folder.
    Folder,
    /// With `TEST_STORE=postgres`, a database of their own.
    Postgres,
    /// With `TEST_STORE=cluster`, there are two for each, with a database, a NATS and a Redis, and each connection goes
    /// to one of the two in turn.
    Cluster,
}

impl Stand {
    /// What is wanted in this run.
    pub fn wanted() -> Stand {
        match std::env::var(STORE).unwrap_or_default().as_str() {
            "" | "folder" => Stand::Folder,
            "postgres" => Stand::Postgres,
            "cluster" => Stand::Cluster,
            other => panic!("{STORE} is folder, postgres or cluster, not {other}"),
        }
    }
}

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

/// The real binary as often as the tests of this run want it, behind one address.
pub struct Binaries {
    /// Where it is reached.
    pub url: String,
    _nodes: Vec<Process>,
    _address: InTurn,
    _folder: TempDir,
    _shared: Option<Shared>,
    _database: Option<postgres::Instance>,
}

impl Binaries {
    /// Starts it, with further settings.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(settings: &[(&str, &str)]) -> Result<Binaries> {
        let stand = Stand::wanted();
        let shared = (stand == Stand::Cluster).then(Shared::start);
        let database = (stand == Stand::Postgres).then(postgres::Instance::start);
        let mut secrets = shared.as_ref().map(Shared::secrets).unwrap_or_default();
        secrets.extend(database.as_ref().map(|one| ("store.url", one.url())));
        let name_of = |key| SCHEMA.env_name(SCHEMA.field(key).expect("it is a setting"));
        let secrets = secrets.into_iter();
        let env: Vec<_> = secrets.map(|(key, value)| (name_of(key), value)).collect();
        let folder = tempfile::tempdir()?;
        let mut nodes = Vec::new();
        for nth in 0..if shared.is_some() { 2 } else { 1 } {
            let start = Start {
                settings,
                env: &env,
                ..Start::default()
            };
            let data = folder.path().join(format!("node{nth}"));
            nodes.push(Process::start(&data, start).await?);
        }
        let addresses: Result<_, _> = nodes.iter().map(|node| node.address().parse()).collect();
        let address = InTurn::start(addresses?).await?;
        Ok(Binaries {
            url: format!("http://{}", address.address),
            _nodes: nodes,
            _address: address,
            _folder: folder,
            _shared: shared,
            _database: database,
        })
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
