//! The outbox beside the logs on fjall and in a real PostgreSQL, and consumers in every engine of SQL.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tertulia_kit::clock::{ManualClock, SharedClock};
use tertulia_kit::instances::postgres::Instance;
use tertulia_services::chats::{
    Act, ChatStore, Command, Committed, Done, Fact, Limits, Mentions, NewMessage, Pair, SendKey,
};
use tertulia_services::feed::suite::Place as Kept;
use tertulia_services::feed::{Bounds, Found, Outbox, Place};
use tertulia_services::ids::{ChatId, MessageId, UserId};
use tertulia_store::consumers::Consumers;
use tertulia_store::postgres::{self, Postgres, Target};
use tertulia_store::{fjall, sqlite::Sqlite};

struct Nobody;

impl Committed for Nobody {
    fn committed(&self, _: Vec<Fact>) {}
}

mod on_fjall {
    use super::*;

    struct Folder(TempDir);

    #[async_trait]
    impl Kept for Folder {
        async fn open(
            &self,
            is_fed: bool,
            clock: SharedClock,
        ) -> (Arc<dyn ChatStore>, Arc<dyn Outbox>) {
            let options = fjall::Options {
                feed: is_fed,
                ..fjall::Options::default()
            };
            let opened = fjall::ChatLog::open(self.0.path(), options, Arc::new(Nobody), clock);
            let log = opened.await.unwrap();
            (log.clone(), log)
        }
    }

    tertulia_services::outbox_suite!(Folder(TempDir::new().unwrap()));
}

async fn prepared(instance: &Instance) -> Target {
    let target: Target = instance.url().parse().unwrap();
    postgres::prepare(&target).await.unwrap();
    target
}

/// Logs in a database, as a node opens them.
async fn node(instance: &Instance, is_fed: bool, clock: SharedClock) -> Arc<postgres::ChatLog> {
    let options = postgres::Options {
        lanes: 3,
        feed: is_fed,
        ..postgres::Options::default()
    };
    let target = prepared(instance).await;
    let opened = postgres::ChatLog::open(&target, options, Arc::new(Nobody), clock);
    opened.await.unwrap()
}

mod on_postgres {
    use super::*;

    struct Database(Instance);

    #[async_trait]
    impl Kept for Database {
        async fn open(
            &self,
            is_fed: bool,
            clock: SharedClock,
        ) -> (Arc<dyn ChatStore>, Arc<dyn Outbox>) {
            let log = node(&self.0, is_fed, clock).await;
            (log.clone(), log)
        }
    }

    tertulia_services::outbox_suite!(Database(Instance::start()));
}

mod consumers_in_sqlite {
    use super::*;

    async fn fresh() -> (TempDir, Arc<Consumers<sqlx::Sqlite>>) {
        let folder = TempDir::new().unwrap();
        let people = Sqlite::open(&folder.path().join("people.sqlite")).await;
        let consumers = Consumers::beside(&people.unwrap());
        (folder, Arc::new(consumers))
    }

    tertulia_services::consumers_suite!(fresh().await);
}

mod consumers_in_postgres {
    use super::*;

    async fn fresh() -> (Instance, Arc<Consumers<sqlx::Postgres>>) {
        let instance = Instance::start();
        let target = prepared(&instance).await;
        let consumers = Consumers::beside(&Postgres::of(&target));
        (instance, Arc::new(consumers))
    }

    tertulia_services::consumers_suite!(fresh().await);
}

const BEGIN_MS: i64 = 1_780_000_000_000;
const ALL: Bounds = Bounds {
    events_max: 500,
    bytes_max: 1 << 20,
};

fn command(act: Act) -> Command {
    Command {
        actor: UserId(1),
        at_ms: BEGIN_MS,
        act,
        limits: Limits::default(),
    }
}

async fn opened(log: &dyn ChatStore, id: i64, with: i64) -> ChatId {
    let pair = Pair::new(UserId(1), UserId(with)).unwrap();
    let id = ChatId(id);
    match log.write(command(Act::OpenDirect { pair, id })).await {
        Ok(Done::Chat(standing)) => standing.chat.id,
        other => panic!("{other:?}"),
    }
}

async fn say(log: &dyn ChatStore, chat: ChatId, n: i64) {
    let act = Act::Send(NewMessage {
        chat,
        id: MessageId(n),
        key: SendKey {
            device: "d".into(),
            client_message_id: n.to_string(),
        },
        text: format!("the text of message {n}"),
        reply_to: None,
        thread: None,
        mentions: Mentions::default(),
    });
    log.write(command(act)).await.unwrap();
}

async fn seqs_after(outbox: &dyn Outbox, place: Place) -> Vec<(i64, i64)> {
    let Found::Events(entries) = outbox.after(place, ALL).await.unwrap() else {
        panic!("a gap");
    };
    let of = entries.iter().map(|one| (one.event.chat.0, one.event.seq));
    of.collect()
}

/// A node that is slow: its transaction has a number and has not ended while others with higher ones do. Whoever went on
/// behind those would never see what it commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_late_comes_before_what_was_committed_earlier_with_a_higher_number() {
    let instance = Instance::start();
    let log = node(&instance, true, ManualClock::at(BEGIN_MS)).await;
    let (slow, quick) = (opened(&*log, 1, 2).await, opened(&*log, 2, 3).await);
    say(&*log, slow, 1).await;
    let before = log.span().await.unwrap().end;

    // What another node's lane does, by hand: it writes an event, and stands still before its commit.
    let mut other = PgConnection::connect(&instance.url()).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    let number = "SELECT base + pg_current_xact_id()::text::bigint FROM chat_history";
    let position: i64 = sqlx::query_scalar(number)
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    let copies = [
        "INSERT INTO chat_events (chat_id, seq, position, content)
         SELECT chat_id, 2, $1, content FROM chat_events WHERE chat_id = 1 AND seq = 1",
        "INSERT INTO feed_commits (position, writer, content)
         SELECT $1, 7, substring(content FOR length(content) - 1) || '\\x04'::bytea FROM feed_commits
         ORDER BY position DESC LIMIT 1",
        "INSERT INTO chat_writers (writer, position, round, is_fed) VALUES (7, $1, 0, TRUE)",
    ];
    for copy in copies {
        let copied = sqlx::query(copy).bind(position).execute(&mut *tx).await;
        assert_eq!(copied.unwrap().rows_affected(), 1);
    }

    for n in 2..=5 {
        say(&*log, quick, n).await;
    }
    assert_eq!(seqs_after(&*log, before).await, []);
    let held = log.span().await.unwrap();
    assert!(held.end.position().0 < position.cast_unsigned());
    tx.commit().await.unwrap();
    say(&*log, quick, 6).await;
    let whole = [(1, 2), (2, 1), (2, 2), (2, 3), (2, 4)];
    assert_eq!(seqs_after(&*log, before).await[..5], whole);
}

/// A node of a version that knows of no feed runs beside, as while a deployment is brought up to date.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_commits_without_feeding_is_a_gap() {
    let instance = Instance::start();
    let clock = ManualClock::at(BEGIN_MS);
    let fed = node(&instance, true, clock.clone()).await;
    let chat = opened(&*fed, 1, 2).await;
    say(&*fed, chat, 1).await;
    let before = fed.span().await.unwrap().end;
    let unfed = node(&instance, false, clock).await;
    say(&*fed, chat, 2).await;
    say(&*unfed, chat, 3).await;
    say(&*fed, chat, 4).await;
    assert_eq!(fed.after(before, ALL).await.unwrap(), Found::Gap);
    let from = fed.span().await.unwrap().from;
    assert_eq!(seqs_after(&*fed, from).await, [(1, 4)]);
}
