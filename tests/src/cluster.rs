//! A deployment of several nodes: one PostgreSQL, one NATS, one Redis, and servers that have nothing else in common
//! but two secrets. All of them are real and of this deployment alone. Between them, and between them and their clients, are
//! networks that misbehave on request.
//!
//! ```text
//! clients ──► door ──► edge ──► proxy ──► PostgreSQL ◄── proxy ◄── worker
//!                       ├─────► proxy ──► NATS ◄──────── proxy ◄─────┤
//!                       └─────────────► Redis ◄──────────────────────┘
//! ```
//! Edges serve clients, and those that are gateways hand the calls of some services on; the worker does those, and
//! what comes due. Calls that go straight to the nodes of a service, over HTTP/2, go through the doors of these.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use tempfile::TempDir;
use tertulia_kit::instances::{nats, postgres, redis};

use crate::many::{NODE_KEY, PEPPER};
use crate::node::{Process, Start};
use crate::proxy::Proxy;

/// How long a node may take to notice that a standby took over, and to begin anew.
const ANEW_MAX: Duration = Duration::from_secs(60);

/// What gateways hand on.
const ELSEWHERE: [&str; 2] = [
    "tertulia.users.v1.UsersService",
    "tertulia.chats.v1.MembersService",
];

/// What a node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It serves clients.
    Edge,
    /// It serves clients and hands the calls of some services on, over NATS.
    Gateway,
    /// It serves clients and hands them straight on to the nodes of these services, over HTTP/2.
    Straight,
    /// It does what is handed straight on to it.
    Service,
    /// It does what others hand on, and what comes due.
    Worker,
}

impl Part {
    /// Whether clients come to it.
    pub fn serves_clients(self) -> bool {
        matches!(self, Part::Edge | Part::Gateway | Part::Straight)
    }
}

/// What the nodes are started from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Binary<'a> {
    /// Of another version, when it is not the one that is built here.
    pub program: Option<&'a Path>,
    /// Further arguments of `tertulia serve`.
    pub args: &'a [String],
}

/// A deployment.
pub struct Cluster {
    /// The database of all nodes.
    pub database: postgres::Instance,
    /// What nodes hear each other by.
    pub bus: nats::Instance,
    /// Where they add up what callers spend.
    pub ledger: redis::Instance,
    /// The nodes.
    pub nodes: Vec<Node>,
    _folder: TempDir,
}

/// One of the nodes.
pub struct Node {
    /// What it is there for.
    pub part: Part,
    /// Between it and its clients. It has one address while the node moves to another port with each start.
    pub door: Proxy,
    /// Between it and the database.
    pub to_database: Proxy,
    /// Between it and NATS.
    pub to_bus: Proxy,
    /// The server, unless it was stopped or killed.
    pub server: Option<Process>,
    /// The binary that it is started from next, when it is not the one that is built here.
    pub program: Option<PathBuf>,
    data: PathBuf,
    log: PathBuf,
    args: Vec<String>,
    settings: Vec<(String, String)>,
    env: Vec<(String, String)>,
}

impl Cluster {
    /// Starts everything, the nodes at the same time on an empty database. `settings` are of all nodes.
    ///
    /// # Errors
    /// When a node does not get ready.
    pub async fn start(parts: &[Part], settings: &[(&str, &str)], seed: u64) -> Result<Cluster> {
        Cluster::start_as(Binary::default(), parts, settings, seed).await
    }

    /// The same, with the nodes started otherwise.
    ///
    /// # Errors
    /// When a node does not get ready.
    pub async fn start_as(
        binary: Binary<'_>,
        parts: &[Part],
        settings: &[(&str, &str)],
        seed: u64,
    ) -> Result<Cluster> {
        let mut random = StdRng::seed_from_u64(seed);
        let (database, bus, ledger) = tokio::task::block_in_place(|| {
            (
                postgres::Instance::over_network(),
                nats::Instance::start(),
                redis::Instance::start(),
            )
        });
        let folder = tempfile::tempdir()?;
        let mut doors = Vec::new();
        for _ in parts {
            // Leads somewhere as soon as the node does.
            let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
            doors.push(Proxy::start(nowhere, random.next_u64()).await?);
        }
        let places: String = parts
            .iter()
            .zip(&doors)
            .filter(|(part, _)| **part == Part::Service)
            .map(|(_, door)| format!(" {}", door.url()))
            .collect();
        let over_nats = ELSEWHERE.join(",");
        let straight = ELSEWHERE
            .map(|service| format!("{service}{places}"))
            .join(",");
        let mut all = Vec::new();
        for ((nth, part), door) in parts.iter().copied().enumerate().zip(doors) {
            let to_database = Proxy::start(database.address(), random.next_u64()).await?;
            let to_bus = Proxy::start(bus.address().parse()?, random.next_u64()).await?;
            let env = [
                (
                    "TERTULIA_STORE__URL",
                    format!("postgres://postgres@{}/postgres", to_database.address),
                ),
                ("TERTULIA_BUS__URL", format!("nats://{}", to_bus.address)),
                ("TERTULIA_REDIS__URL", ledger.url()),
                ("TERTULIA_BUS__NODE_KEY", NODE_KEY.into()),
                ("TERTULIA_IDENTITY__PEPPER", PEPPER.into()),
            ];
            let of_part: &[(&str, &str)] = match part {
                Part::Edge => &[("roles", "edge")],
                Part::Gateway => &[("roles", "edge"), ("elsewhere", &over_nats)],
                Part::Straight => &[("roles", "edge"), ("elsewhere", &straight)],
                Part::Service => &[("roles", "api")],
                Part::Worker => &[("roles", "api,worker")],
            };
            let own = settings.iter().chain(of_part);
            let own = own.map(|(key, value)| ((*key).into(), (*value).into()));
            all.push(Node {
                part,
                door,
                to_database,
                to_bus,
                server: None,
                program: binary.program.map(Path::to_owned),
                args: binary.args.to_vec(),
                data: folder.path().join(format!("node{nth}")),
                log: folder.path().join(format!("node{nth}.log")),
                settings: own.collect(),
                env: env.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            });
        }
        let starting = all.iter_mut().map(Node::start);
        futures::future::try_join_all(starting).await?;
        Ok(Cluster {
            database,
            bus,
            ledger,
            nodes: all,
            _folder: folder,
        })
    }

    /// Where clients reach the nodes that serve them.
    pub fn urls(&self) -> Vec<String> {
        let serving = self.nodes.iter().filter(|node| node.part.serves_clients());
        serving.map(|node| node.door.url()).collect()
    }

    /// Ends the database as a crash does and starts it again.
    pub fn restart_database(&mut self) {
        tokio::task::block_in_place(|| {
            self.database.kill();
            self.database.restart();
        });
    }

    /// A database that follows this one, which it reaches at `primary`.
    pub fn standby(&self, primary: SocketAddr) -> postgres::Instance {
        tokio::task::block_in_place(|| self.database.standby(primary))
    }

    /// Ends the database as a crash does and has a standby take over, with what it has. Comes back when all nodes
    /// have begun anew.
    ///
    /// # Errors
    /// When one does not.
    pub async fn fail_over(&mut self, standby: postgres::Instance) -> Result<()> {
        tokio::task::block_in_place(|| {
            self.database.kill();
            standby.promote();
        });
        self.database = standby;
        for node in &mut self.nodes {
            node.to_database.lead_to(self.database.address());
        }
        for node in &mut self.nodes {
            let server = node.server.as_mut().context("the node does not run")?;
            server.began_anew(ANEW_MAX).await?;
            node.door.lead_to(server.address().parse()?);
        }
        Ok(())
    }

    /// Ends NATS as a crash does; it keeps nothing.
    pub fn kill_bus(&mut self) {
        tokio::task::block_in_place(|| self.bus.kill());
    }

    /// Starts NATS again.
    pub fn restart_bus(&mut self) {
        tokio::task::block_in_place(|| self.bus.restart());
    }

    /// Ends Redis as a crash does; it keeps nothing.
    pub fn kill_ledger(&mut self) {
        tokio::task::block_in_place(|| self.ledger.kill());
    }

    /// Starts Redis again.
    pub fn restart_ledger(&mut self) {
        tokio::task::block_in_place(|| self.ledger.restart());
    }

    /// Good networks everywhere.
    pub fn heal(&self) {
        for node in &self.nodes {
            for proxy in [&node.door, &node.to_database, &node.to_bus] {
                proxy.heal();
            }
        }
    }
}

impl Node {
    /// Starts its server, on its folder.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start(&mut self) -> Result<()> {
        let settings: Vec<(&str, &str)> = self
            .settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let start = Start {
            settings: &settings,
            args: &self.args,
            env: &self.env,
            log: Some(&self.log),
            program: self.program.as_deref(),
            ..Start::default()
        };
        let server = Process::start(&self.data, start).await?;
        self.door.lead_to(server.address().parse()?);
        self.server = Some(server);
        Ok(())
    }

    /// Ends it with SIGKILL.
    pub async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().await;
        }
    }

    /// Asks it to stop and waits until it is gone; whether that went well.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn stop(&mut self) -> Result<bool> {
        let server = self.server.take().context("the node does not run")?;
        Ok(server.terminate().await?.success())
    }

    /// The running server.
    ///
    /// # Errors
    /// When it was stopped.
    pub fn server(&self) -> Result<&Process> {
        self.server.as_ref().context("the node does not run")
    }
}
