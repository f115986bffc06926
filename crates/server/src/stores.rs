//! Where everything is kept: in the data folder, or in the database that `store.url` names. What differs between
//! the two ends here; everybody else has the ports.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tertulia_api::live::feed::Feed;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Failure;
use tertulia_kit::health::Health;
use tertulia_kit::lease::Leases;
use tertulia_kit::lifecycle::{Kind, Lifecycle};
use tertulia_kit::lock::DataFolder;
use tertulia_kit::metrics::Metrics;
use tertulia_services::chats::ChatStore;
use tertulia_services::identity::AccountStore;
use tertulia_services::users::ProfileStore;
use tertulia_store::fjall;
use tertulia_store::postgres::{self, Postgres, Target};
use tertulia_store::sqlite::Sqlite;

use crate::anew;
use crate::config::Config;
use crate::harm::Harm;

/// The stores, open.
pub struct Stores {
    pub accounts: Arc<dyn AccountStore>,
    pub profiles: Arc<dyn ProfileStore>,
    pub chats: Arc<dyn ChatStore>,
    engine: Engine,
}

/// What is behind the ports.
enum Engine {
    Embedded {
        people: Sqlite,
        chats: Arc<fjall::ChatLog>,
    },
    Postgres {
        people: Postgres,
        chats: Arc<postgres::ChatLog>,
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
                let url = std::str::from_utf8(url.expose()).context("store.url")?;
                let target = url.parse::<Target>();
                let target = target.map_err(|what| anyhow::anyhow!("store.url {what}"))?;
                Stores::postgres(config, &target, feed, clock, lifecycle).await
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
        let people = Sqlite::open(&folder.path().join("people.sqlite")).await?;
        let options = harm.of_store(config.store.embedded());
        let chats =
            fjall::ChatLog::open(&folder.path().join("chats"), options, feed, clock).await?;

        let closing = people.clone();
        lifecycle.close_at_end("people", || async move { closing.close().await });
        let closing = Arc::clone(&chats);
        lifecycle.close_at_end("chats", || async move { closing.close().await });

        let told = lifecycle.told(Kind::Job);
        let data = Arc::from(folder.path());
        let watching = anew::watch(Arc::clone(&chats), data, lifecycle.clone(), told);
        lifecycle.spawn(Kind::Job, "anew", watching);
        Ok(Stores {
            accounts: Arc::new(people.clone()),
            profiles: Arc::new(people.clone()),
            chats: chats.clone(),
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
        let people = Postgres::of(target);
        let chats = postgres::ChatLog::open(target, config.store.postgres(), feed, clock).await?;
        let leases = postgres::Leases::of(target);

        let closing = people.clone();
        lifecycle.close_at_end("people", || async move { closing.close().await });
        let closing = Arc::clone(&chats);
        lifecycle.close_at_end("chats", || async move { closing.close().await });
        let closing = leases.clone();
        lifecycle.close_at_end("leases", || async move { closing.close().await });
        Ok(Stores {
            accounts: Arc::new(people.clone()),
            profiles: Arc::new(people.clone()),
            chats: chats.clone(),
            engine: Engine::Postgres {
                people,
                chats,
                leases,
            },
        })
    }

    /// Whether other nodes may have the same.
    pub fn are_shared(&self) -> bool {
        self.leases().is_some()
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
            Engine::Postgres { people, chats, .. } => {
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
