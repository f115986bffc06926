//! Where everything is kept: in the data folder, or in the database that `store.url` names. What differs between
//! the two ends here; everybody else has the ports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use tertulia_api::live::feed::Feed;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Failure;
use tertulia_kit::health::Health;
use tertulia_kit::id::{NoNode, Node, NodeIds};
use tertulia_kit::job::Jobs;
use tertulia_kit::lease::Leases;
use tertulia_kit::lifecycle::{Kind, Lifecycle};
use tertulia_kit::lock::DataFolder;
use tertulia_kit::metrics::Metrics;
use tertulia_kit::secret::Secret;
use tertulia_services::chats::ChatStore;
use tertulia_services::feed::{Consumers, Outbox};
use tertulia_services::identity::{AccountStore, Peppers};
use tertulia_services::users::ProfileStore;
use tertulia_store::consumers;
use tertulia_store::fjall;
use tertulia_store::jobs;
use tertulia_store::postgres::{self, NodeLease, Postgres, Target};
use tertulia_store::sqlite::Sqlite;

use crate::anew;
use crate::config::Config;
use crate::harm::Harm;

/// Where people are in a data folder.
pub fn people(folder: &Path) -> PathBuf {
    folder.join("people.sqlite")
}

/// Where the logs are in a data folder.
pub fn chats(folder: &Path) -> PathBuf {
    folder.join("chats")
}

/// Where `store.url` leads.
///
/// # Errors
/// When it is not like one of PostgreSQL. The words do not show the password.
pub fn target(url: &Secret) -> anyhow::Result<Target> {
    let url = std::str::from_utf8(url.expose()).context("store.url")?;
    let target = url.parse::<Target>();
    target.map_err(|what| anyhow::anyhow!("store.url {what}"))
}

/// A note in a data folder that what it keeps was moved elsewhere: a server that goes on with it would say things
/// that are lost when the other one is used.
pub struct Moved;

impl Moved {
    const NAME: &str = "moved";

    /// Leaves the note.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn remember(folder: &Path, place: &str) -> anyhow::Result<()> {
        let path = folder.join(Moved::NAME);
        std::fs::write(&path, format!("{place}\n"))
            .with_context(|| format!("can not write {}", path.display()))
    }

    /// Fails when there is one.
    fn refuse(folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(Moved::NAME);
        let place = match std::fs::read_to_string(&path) {
            Ok(place) => place,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).with_context(|| format!("can not read {}", path.display())),
        };
        bail!(
            "what is kept here was moved into the database {}, and store.url is not set; set it, or remove {} to \
             go back to what was here before the move",
            place.trim_end(),
            path.display()
        )
    }
}

/// The stores, open.
pub struct Stores {
    pub accounts: Arc<dyn AccountStore>,
    pub profiles: Arc<dyn ProfileStore>,
    pub chats: Arc<dyn ChatStore>,
    /// Which node this process is.
    pub nodes: Arc<dyn NodeIds>,
    /// What is done later.
    pub jobs: Arc<dyn Jobs>,
    /// What nodes have together, when there may be others.
    pub shared: Option<Shared>,
    engine: Engine,
}

/// A database that other nodes may have as well.
pub struct Shared(Target);

/// What is behind the ports.
enum Engine {
    Embedded {
        people: Sqlite,
        chats: Arc<fjall::ChatLog>,
    },
    Postgres {
        people: Postgres,
        chats: Arc<postgres::ChatLog>,
        lease: Arc<NodeLease>,
        leases: postgres::Leases,
    },
}

impl Stores {
    /// Opens them, as the configuration says, and has them closed at the end.
    ///
    /// # Errors
    /// When one can not be opened.
    pub async fn open(
        config: &Config,
        folder: &DataFolder,
        harm: &Harm,
        feed: Arc<Feed>,
        clock: SharedClock,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<Stores> {
        match &config.store.url {
            None => Stores::embedded(config, folder, harm, feed, clock, lifecycle).await,
            Some(url) => {
                ensure!(
                    !harm.is_for_embedded(),
                    "what this server is to be harmed with is for the embedded store"
                );
                Stores::postgres(config, &target(url)?, feed, clock, lifecycle).await
            }
        }
    }

    async fn embedded(
        config: &Config,
        folder: &DataFolder,
        harm: &Harm,
        feed: Arc<Feed>,
        clock: SharedClock,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<Stores> {
        Moved::refuse(folder.path())?;
        let people = Sqlite::open(&people(folder.path())).await?;
        let options = harm.of_store(config.store.embedded(config.feed.enabled));
        let chats = fjall::ChatLog::open(&chats(folder.path()), options, feed, clock).await?;

        let closing = people.clone();
        lifecycle.close_at_end("people", || async move { closing.close().await });
        let closing = Arc::clone(&chats);
        lifecycle.close_at_end("chats", || async move { closing.close().await });

        let told = lifecycle.told(Kind::Work);
        let data = Arc::from(folder.path());
        let watching = anew::watch(Arc::clone(&chats), data, lifecycle.clone(), told);
        lifecycle.spawn(Kind::Work, "anew", watching);
        Ok(Stores {
            accounts: Arc::new(people.clone()),
            profiles: Arc::new(people.clone()),
            chats: chats.clone(),
            jobs: Arc::new(jobs::Jobs::beside(&people)),
            // The lock on the folder keeps every other process from being this node.
            nodes: Arc::new(Node::FIRST),
            shared: None,
            engine: Engine::Embedded { people, chats },
        })
    }

    async fn postgres(
        config: &Config,
        target: &Target,
        feed: Arc<Feed>,
        clock: SharedClock,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<Stores> {
        if !target.is_private() {
            tracing::warn!(
                "who is between this server and the database may read and answer in its place; \
                 set sslmode=verify-full in store.url unless the network is trusted"
            );
        }
        postgres::prepare(target).await?;
        let lease = NodeLease::take(target).await?;
        let (kept, told) = (Arc::clone(&lease), lifecycle.told(Kind::Work));
        lifecycle.spawn(Kind::Work, "node id", async move { kept.keep(told).await });
        let people = Postgres::of(target);
        let chats = postgres::ChatLog::open(
            target,
            config.store.postgres(config.feed.enabled),
            feed,
            clock,
        )
        .await?;
        let leases = postgres::Leases::of(target);
        let told = lifecycle.told(Kind::Work);
        let watching = anew::watch_server(Arc::clone(&chats), lifecycle.clone(), told);
        lifecycle.spawn(Kind::Work, "anew", watching);

        let closing = people.clone();
        lifecycle.close_at_end("people", || async move { closing.close().await });
        let closing = Arc::clone(&chats);
        lifecycle.close_at_end("chats", || async move { closing.close().await });
        let closing = leases.clone();
        lifecycle.close_at_end("leases", || async move { closing.close().await });
        let closing = Arc::clone(&lease);
        lifecycle.close_at_end("node id", || async move { closing.give_back().await });
        Ok(Stores {
            accounts: Arc::new(people.clone()),
            profiles: Arc::new(people.clone()),
            chats: chats.clone(),
            jobs: Arc::new(jobs::Jobs::beside(&people)),
            nodes: lease.clone(),
            shared: Some(Shared(target.clone())),
            engine: Engine::Postgres {
                people,
                chats,
                lease,
                leases,
            },
        })
    }

    /// What was committed in one order, and who remembers how far each consumer has got.
    pub fn feed(&self) -> (Arc<dyn Outbox>, Arc<dyn Consumers>) {
        match &self.engine {
            Engine::Embedded { people, chats } => (
                chats.clone(),
                Arc::new(consumers::Consumers::beside(people)),
            ),
            Engine::Postgres { people, chats, .. } => (
                chats.clone(),
                Arc::new(consumers::Consumers::beside(people)),
            ),
        }
    }

    /// What says which of the nodes that have the same does what is to be done once; nothing when there is one.
    pub fn leases(&self) -> Option<Arc<dyn Leases>> {
        match &self.engine {
            Engine::Embedded { .. } => None,
            Engine::Postgres { leases, .. } => Some(Arc::new(leases.clone())),
        }
    }

    /// Has readiness ask them.
    pub fn watch(&self, health: &Health) {
        let problem = |failure: Failure| failure.cause_chain().unwrap_or_default();
        match &self.engine {
            Engine::Embedded { people, chats } => {
                let chats = Arc::clone(chats);
                health.check("chats", move || {
                    std::future::ready(chats.health().map_err(problem))
                });
                let people = people.clone();
                health.check("people", move || {
                    let people = people.clone();
                    async move { people.check().await }
                });
            }
            Engine::Postgres {
                people,
                chats,
                lease,
                ..
            } => {
                let lease = Arc::clone(lease);
                health.check("node id", move || {
                    let held = lease.held().map(drop);
                    std::future::ready(held.ok_or_else(|| NoNode.to_string()))
                });
                let chats = Arc::clone(chats);
                health.check("chats", move || {
                    let chats = Arc::clone(&chats);
                    async move { chats.health().await.map_err(problem) }
                });
                let people = people.clone();
                health.check("people", move || {
                    let people = people.clone();
                    async move { people.check().await }
                });
            }
        }
    }

    /// Has their numbers shown.
    pub fn count(&self, metrics: &Metrics) {
        let about = "How often the tables of chats were asked, where no cache had the answer.";
        match &self.engine {
            Engine::Embedded { chats, .. } => {
                let asked = Arc::clone(chats);
                metrics.counter("tertulia_store_reads_total", about, move || asked.reads());
                let gave = Arc::clone(chats);
                metrics.counter(
                    "tertulia_store_rows_read_total",
                    "How many rows the tables of chats gave.",
                    move || gave.rows_read(),
                );
            }
            Engine::Postgres { chats, .. } => {
                let asked = Arc::clone(chats);
                metrics.counter("tertulia_store_reads_total", about, move || asked.reads());
            }
        }
    }
}

impl Shared {
    /// Makes sure that all nodes have the same pepper: with another one no password would be right here, and no
    /// token of another node valid.
    ///
    /// # Errors
    /// When the nodes before have another one, or the database does not answer.
    pub async fn agree_on_pepper(&self, peppers: &Peppers) -> anyhow::Result<()> {
        let ours = peppers.current_id();
        let agreed = postgres::agree(&self.0, "pepper", ours).await?;
        ensure!(
            agreed == ours,
            "the passwords in this database were made with another pepper: set identity.pepper to the one of the \
             other nodes, or copy pepper.key from the data folder of the node that was first"
        );
        Ok(())
    }
}
