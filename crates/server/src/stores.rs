//! Where everything is kept: in the data folder, or in the database that `store.url` names. What differs between
//! the two ends here; everybody else has the ports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use tertulia_api::live::feed::Feed;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Failure;
use tertulia_kit::health::Health;
use tertulia_kit::lifecycle::{Kind, Lifecycle};
use tertulia_kit::lock::DataFolder;
use tertulia_kit::metrics::Metrics;
use tertulia_kit::secret::Secret;
use tertulia_services::chats::ChatStore;
use tertulia_services::identity::AccountStore;
use tertulia_services::users::ProfileStore;
use tertulia_store::fjall;
use tertulia_store::postgres::{self, Postgres, Target};
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
        let options = harm.of_store(config.store.embedded());
        let chats = fjall::ChatLog::open(&chats(folder.path()), options, feed, clock).await?;

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

        let closing = people.clone();
        lifecycle.close_at_end("people", || async move { closing.close().await });
        let closing = Arc::clone(&chats);
        lifecycle.close_at_end("chats", || async move { closing.close().await });
        Ok(Stores {
            accounts: Arc::new(people.clone()),
            profiles: Arc::new(people.clone()),
            chats: chats.clone(),
            engine: Engine::Postgres { people, chats },
        })
    }

    /// Whether other nodes may have the same.
    pub fn are_shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres { .. })
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
            Engine::Postgres { people, chats } => {
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
