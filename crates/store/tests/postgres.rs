//! PostgreSQL keeps the word of the ports: people and the logs of chats.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Connection as _, PgConnection};
use tertulia_kit::clock::{ManualClock, SharedClock};
use tertulia_kit::error::Result;
use tertulia_kit::instances::postgres::Instance;
use tertulia_services::chats::suite::{Place, chats_of};
use tertulia_services::chats::{
    Act, ChatStore, Command, Committed, Done, Epoch, Fact, Limits, ListPlace, Mentions, NewMessage,
    Pair, Position, Scheduled, SendKey, Sent, Seq,
};
use tertulia_services::ids::{ChatId, MessageId, ScheduledId, UserId};
use tertulia_store::postgres::{
    self, ChatLog, MigrationError, OpenError, Options, Postgres, Target,
};

fn target(instance: &Instance) -> Target {
    instance.url().parse().unwrap()
}

async fn fresh() -> (Instance, Arc<Postgres>) {
    let instance = Instance::start();
    let target = target(&instance);
    postgres::prepare(&target).await.unwrap();
    (instance, Arc::new(Postgres::of(&target)))
}

mod accounts {
    tertulia_services::account_store_suite!(super::fresh().await);
}

mod profiles {
    tertulia_services::profile_store_suite!(super::fresh().await);
}

/// A database, and how its logs are opened.
struct Database(Instance, Options);

impl Database {
    fn new(options: Options) -> Database {
        Database(Instance::start(), options)
    }
}

#[async_trait]
impl Place for Database {
    async fn open(&self, committed: Arc<dyn Committed>, clock: SharedClock) -> Arc<dyn ChatStore> {
        let target = target(&self.0);
        postgres::prepare(&target).await.unwrap();
        ChatLog::open(&target, self.1.clone(), committed, clock)
            .await
            .unwrap()
    }
}

mod with_defaults {
    use super::{Database, Options};
    tertulia_services::chat_store_suite!(Database::new(Options::default()));
}

/// As little of everything as possible: every bound is met all the time.
mod with_the_least {
    use super::{Database, Options};

    fn least() -> Options {
        Options {
            lanes: 3,
            readers: 1,
            commit_batch_max: 3,
            cache_mib: 0,
            ..Options::default()
        }
    }

    tertulia_services::chat_store_suite!(Database::new(least()));
}

const BEGIN_MS: i64 = 1_780_000_000_000;
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
const ANA: UserId = UserId(1);
const BEN: UserId = UserId(2);

struct Nobody;

impl Committed for Nobody {
    fn committed(&self, _: Vec<Fact>) {}
}

/// A node on a database that others may have, too.
async fn node(instance: &Instance) -> Arc<ChatLog> {
    node_with(instance, Options::default()).await
}

async fn node_with(instance: &Instance, options: Options) -> Arc<ChatLog> {
    let target = target(instance);
    postgres::prepare(&target).await.unwrap();
    let clock = ManualClock::at(BEGIN_MS);
    let opened = ChatLog::open(&target, options, Arc::new(Nobody), clock);
    opened.await.unwrap()
}

fn command(actor: UserId, act: Act) -> Command {
    Command {
        actor,
        at_ms: BEGIN_MS,
        act,
        limits: Limits::default(),
    }
}

async fn open_direct(log: &ChatLog, a: UserId, b: UserId, id: i64) -> ChatId {
    let pair = Pair::new(a, b).unwrap();
    let id = ChatId(id);
    match log.write(command(a, Act::OpenDirect { pair, id })).await {
        Ok(Done::Chat(standing)) => standing.chat.id,
        other => panic!("{other:?}"),
    }
}

fn message(chat: ChatId, n: i64) -> Act {
    Act::Send(NewMessage {
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
    })
}

async fn send(log: &ChatLog, chat: ChatId, n: i64) -> Result<Sent> {
    match log.write(command(ANA, message(chat, n))).await? {
        Done::Sent(sent) => Ok(sent),
        other => panic!("{other:?}"),
    }
}

/// The messages of a log by their seqs, which are checked to have no holes.
async fn whole_log(log: &ChatLog, chat: ChatId) -> BTreeMap<Seq, i64> {
    let page = log.events_after(chat, 0, usize::MAX).await.unwrap();
    let seqs: Vec<Seq> = page.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=page.head).collect::<Vec<_>>());
    let messages = page.events.iter().filter_map(|event| {
        let message = event.message()?;
        Some((event.seq, message.id.0))
    });
    messages.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_write_the_same_logs_without_holes_and_each_message_once() {
    const CHATS: i64 = 5;
    const SENDERS: i64 = 8;
    const EACH: i64 = 40;
    let instance = Instance::start();
    let nodes = [node(&instance).await, node(&instance).await];
    for id in 1..=CHATS {
        assert_eq!(
            open_direct(&nodes[0], ANA, UserId(10 + id), id).await,
            ChatId(id)
        );
    }
    let senders = (0..SENDERS).map(|sender| {
        let nodes = nodes.clone();
        async move {
            for n in 0..EACH {
                let id = sender * EACH + n + 1;
                let (chat, node) = (ChatId(id % CHATS + 1), &nodes[(id % 2) as usize]);
                let sent = send(node, chat, id).await.unwrap();
                // The other node knows of it at once, and so it is not written again.
                let again = send(&nodes[(id % 2 == 0) as usize], chat, id)
                    .await
                    .unwrap();
                assert_eq!((again.seq, again.repeat), (sent.seq, true));
            }
        }
    });
    futures::future::join_all(senders).await;
    let mut all = BTreeSet::new();
    for id in 1..=CHATS {
        let messages = whole_log(&nodes[0], ChatId(id)).await;
        assert_eq!(messages, whole_log(&nodes[1], ChatId(id)).await);
        all.extend(messages.into_values());
    }
    assert_eq!(all, (1..=SENDERS * EACH).collect());
    let positions = (
        nodes[0].position().await.unwrap(),
        nodes[1].position().await.unwrap(),
    );
    assert_eq!(positions.0, positions.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_open_the_chat_of_a_pair_get_the_same_one() {
    let instance = Instance::start();
    let nodes = [node(&instance).await, node(&instance).await];
    for round in 0..20 {
        let other = UserId(100 + round);
        let both = futures::join!(
            open_direct(&nodes[0], ANA, other, 2 * round + 1),
            open_direct(&nodes[1], other, ANA, 2 * round + 2),
        );
        assert_eq!(both.0, both.1);
    }
    assert_eq!(chats_of(&*nodes[1], ANA).await.len(), 20);
}

#[tokio::test]
async fn what_an_older_version_left_in_no_place_is_put_there_when_it_is_read() {
    let instance = Instance::start();
    let node = node(&instance).await;
    for n in 1..=5 {
        open_direct(&node, ANA, UserId(100 + n), n).await;
    }
    let all = ListPlace::BOTTOM..ListPlace::TOP;
    let list = node.chats_of(ANA, all.clone(), 10).await.unwrap();
    let mut connection = PgConnection::connect(&instance.url()).await.unwrap();
    let left =
        sqlx::query("UPDATE chats_of_users SET hour = $1 WHERE user_id = $2 AND chat_id > 2");
    let left = left.bind(ListPlace::ALWAYS).bind(ANA.0);
    left.execute(&mut connection).await.unwrap();

    let found = node.chats_of(ANA, all.clone(), 10).await.unwrap();
    let first: Vec<_> = found
        .iter()
        .map(|(place, chat)| (place.hour, chat.id))
        .collect();
    let always = [5, 4, 3].map(|id| (ListPlace::ALWAYS, ChatId(id)));
    assert_eq!(first[..3], always);
    assert_eq!(first.len(), 5);
    assert_eq!(node.chats_of(ANA, all, 10).await.unwrap(), list);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_one_sends_a_scheduled_message() {
    let instance = Instance::start();
    let nodes = [node(&instance).await, node(&instance).await];
    let chat = open_direct(&nodes[0], ANA, BEN, 1).await;
    for n in 1..=20 {
        let scheduled = Act::Schedule(Scheduled {
            id: ScheduledId(n),
            user: ANA,
            chat,
            key: SendKey {
                device: "later".into(),
                client_message_id: n.to_string(),
            },
            text: "later".into(),
            reply_to: None,
            thread: None,
            mentions: Mentions::default(),
            send_at_ms: BEGIN_MS + 1,
        });
        nodes[0].write(command(ANA, scheduled)).await.unwrap();
        let due = |id| Act::SendScheduled {
            scheduled: ScheduledId(n),
            id: MessageId(id),
        };
        let both = futures::join!(
            nodes[0].write(command(ANA, due(2 * n))),
            nodes[1].write(command(ANA, due(2 * n + 1))),
        );
        let sent = [both.0.unwrap(), both.1.unwrap()];
        let sent = sent
            .iter()
            .filter(|done| matches!(done, Done::Sent(sent) if !sent.repeat));
        assert_eq!(sent.count(), 1);
    }
    assert_eq!(whole_log(&nodes[1], chat).await.len(), 20);
}

/// A device that keeps a position while two nodes write, and asks now one and now the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_positions_misses_nothing_that_either_node_commits() {
    const CHATS: i64 = 6;
    const EACH: i64 = 60;
    let instance = Instance::start();
    let nodes = [node(&instance).await, node(&instance).await];
    for id in 1..=CHATS {
        open_direct(&nodes[0], ANA, UserId(10 + id), id).await;
    }
    let writing = AtomicUsize::new(CHATS as usize);
    let writers = (1..=CHATS).map(|id| {
        let (nodes, writing) = (&nodes, &writing);
        async move {
            for n in 0..EACH {
                send(&nodes[((id + n) % 2) as usize], ChatId(id), id * 1_000 + n)
                    .await
                    .unwrap();
            }
            writing.fetch_sub(1, Ordering::Relaxed);
        }
    });
    let reader = async {
        let mut held: BTreeMap<ChatId, BTreeSet<Seq>> = BTreeMap::new();
        let mut since = Position(0);
        for turn in 0.. {
            let is_last = writing.load(Ordering::Relaxed) == 0;
            let node = &nodes[turn % 2];
            let moved = node.moved_since(ANA, since).await.unwrap();
            let moved = moved.expect("a position is never from the future");
            assert!(moved.position >= since, "a position went back");
            let events = node
                .events_since(&moved.chats, since, usize::MAX)
                .await
                .unwrap();
            for event in events.unwrap() {
                held.entry(event.chat).or_default().insert(event.seq);
            }
            for chat in &moved.chats {
                // What is held of a chat that moved has no hole up to the head that it is told with.
                let count = held.get(&chat.id).map_or(0, BTreeSet::len);
                assert_eq!(count as Seq, chat.head, "{:?}", chat.id);
            }
            since = moved.position;
            if is_last {
                break;
            }
        }
        held
    };
    let (held, _) = futures::join!(reader, futures::future::join_all(writers));
    for id in 1..=CHATS {
        let head = nodes[0].chat(ChatId(id)).await.unwrap().unwrap().head;
        assert_eq!(held[&ChatId(id)].len() as Seq, head);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_loses_nothing_that_was_acknowledged() {
    const KILLS: usize = 5;
    let instance = Instance::start();
    let nodes = [node(&instance).await, node(&instance).await];
    for id in 1..=4 {
        open_direct(&nodes[0], ANA, UserId(10 + id), id).await;
    }
    let (stop, acked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let senders = (1..=4).map(|id: i64| {
        let (node, stop, acked) = (&nodes[id as usize % 2], &stop, &acked);
        async move {
            let mut sent = BTreeMap::new();
            for n in 0.. {
                let number = id * 1_000_000 + n;
                // As a client does: the same again until there is an answer.
                let answer = loop {
                    if let Ok(answer) = send(node, ChatId(id), number).await {
                        break answer;
                    }
                };
                sent.insert(answer.seq, number);
                acked.fetch_add(1, Ordering::Relaxed);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            sent
        }
    });
    let nemesis = async {
        let mut instance = instance;
        for _ in 0..KILLS {
            let before = acked.load(Ordering::Relaxed);
            while acked.load(Ordering::Relaxed) < before + 40 {
                tokio::task::yield_now().await;
            }
            let killed = tokio::task::spawn_blocking(move || {
                instance.kill();
                instance.restart();
                instance
            });
            instance = killed.await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        instance
    };
    let (sent, _instance) = futures::join!(futures::future::join_all(senders), nemesis);
    for (id, sent) in (1..=4).zip(sent) {
        assert_eq!(whole_log(&nodes[0], ChatId(id)).await, sent);
    }
}

/// The lookup of send keys once compared every key of the week with every message of a commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_reads_no_send_keys_but_its_own() {
    let instance = Instance::start();
    let log = node(&instance).await;
    let chat = open_direct(&log, ANA, BEN, 1).await;
    let messages: Vec<i64> = (1..=2_000).collect();
    for some in messages.chunks(200) {
        let commands = some.iter().map(|n| command(ANA, message(chat, *n)));
        let done = log.write_all(commands.collect()).await;
        assert!(done.iter().all(Result::is_ok));
    }
    log.close().await;

    let mut connection = PgConnection::connect(&instance.url()).await.unwrap();
    // A session counts what it has read at the latest when it ends.
    let sessions = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'tertulia'";
    while sqlx::query_scalar::<_, i64>(sessions)
        .fetch_one(&mut connection)
        .await
        .unwrap()
        > 0
    {}
    let read = sqlx::query_scalar::<_, i64>(
        "SELECT (seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_user_tables
         WHERE relname = 'chat_send_keys'",
    );
    let read = read.fetch_one(&mut connection).await.unwrap();
    assert!(read < 2_000, "{read} rows were read for 2,000 messages");
}

/// Whoever waits for anything else than its turn gives up after `lock_timeout`, however long the migration takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_during_a_migration_waits_for_its_turn_alone() {
    let instance = Instance::start();
    let target = target(&instance);
    postgres::prepare(&target).await.unwrap();
    let mut migrating = PgConnection::connect(&instance.url()).await.unwrap();
    let mut tx = migrating.begin().await.unwrap();
    for statement in [
        "UPDATE schema_turn SET turns = turns + 1",
        "INSERT INTO schema_migrations (version, checksum) VALUES (9999, '')",
    ] {
        sqlx::query(statement).execute(&mut *tx).await.unwrap();
    }
    let migrated = async {
        let mut looking = PgConnection::connect(&instance.url()).await.unwrap();
        let waits_for = loop {
            let waiting = "SELECT locktype FROM pg_locks WHERE NOT granted";
            let waiting = sqlx::query_scalar::<_, String>(waiting);
            if let Some(lock) = waiting.fetch_optional(&mut looking).await.unwrap() {
                break lock;
            }
        };
        tx.rollback().await.unwrap();
        waits_for
    };
    let (started, waited_for) = futures::join!(postgres::prepare(&target), migrated);
    started.unwrap();
    // The end of the transaction that has the row of the turn.
    assert_eq!(waited_for, "transactionid");
}

/// Every table, held as a backup holds them while it reads.
async fn backup(instance: &Instance) -> PgConnection {
    let mut reading = PgConnection::connect(&instance.url()).await.unwrap();
    let hold = "BEGIN; DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
            EXECUTE format('LOCK TABLE %I IN ACCESS SHARE MODE', name);
        END LOOP; END $$";
    sqlx::raw_sql(hold).execute(&mut reading).await.unwrap();
    reading
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_while_a_backup_is_made() {
    let instance = Instance::start();
    node(&instance).await;
    let _backup = backup(&instance).await;
    let starting = tokio::time::timeout(PATIENCE, node(&instance));
    starting.await.expect("it does not wait for the backup");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_waits_for_a_table_has_nobody_wait_behind_it_for_long() {
    let instance = Instance::start();
    let target = target(&instance);
    postgres::prepare(&target).await.unwrap();
    // As a version before the newest column left it.
    raw(&instance, "ALTER TABLE users DROP COLUMN shares_presence").await;
    raw(&instance, "DELETE FROM schema_migrations WHERE version = 7").await;
    let mut backup = backup(&instance).await;
    let others = async {
        let mut looking = PgConnection::connect(&instance.url()).await.unwrap();
        let waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted";
        for _ in 0..3 {
            while sqlx::query_scalar::<_, i64>(waiting)
                .fetch_one(&mut looking)
                .await
                .unwrap()
                == 0
            {}
            let read = sqlx::query("SELECT name FROM users").fetch_all(&mut looking);
            let read = tokio::time::timeout(PATIENCE, read).await;
            read.expect("it goes first").unwrap();
        }
        sqlx::query("COMMIT").execute(&mut backup).await.unwrap();
    };
    let (started, ()) = futures::join!(postgres::prepare(&target), others);
    started.unwrap();
    raw(&instance, "SELECT shares_presence FROM users").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_bring_the_tables_up_to_date_once() {
    let instance = Instance::start();
    let target = target(&instance);
    let all = futures::future::join_all((0..8).map(|_| postgres::prepare(&target))).await;
    for one in all {
        one.unwrap();
    }
    let mut connection = PgConnection::connect(&instance.url()).await.unwrap();
    let applied: Vec<i64> = sqlx::query_scalar("SELECT version FROM schema_migrations ORDER BY 1")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let mut once = applied.clone();
    once.dedup();
    assert_eq!(applied, once);
    assert!(applied.len() > 2, "{applied:?}");
}

async fn raw(instance: &Instance, statement: &'static str) {
    let mut connection = PgConnection::connect(&instance.url()).await.unwrap();
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_to_which_a_newer_version_has_added_are_used() {
    let instance = Instance::start();
    let log = node(&instance).await;
    raw(
        &instance,
        "INSERT INTO schema_migrations (version, checksum) VALUES (9999, '')",
    )
    .await;
    raw(&instance, "ALTER TABLE chats ADD COLUMN newer BIGINT").await;
    let other = node(&instance).await;
    let chat = open_direct(&other, ANA, BEN, 1).await;
    send(&log, chat, 1).await.unwrap();
    assert_eq!(whole_log(&other, chat).await.len(), 1);
}

#[tokio::test]
async fn tables_that_a_newer_version_needs_for_itself_are_not_touched() {
    let instance = Instance::start();
    postgres::prepare(&target(&instance)).await.unwrap();
    let refused = async || match postgres::prepare(&target(&instance)).await {
        Err(OpenError::Migration { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    raw(
        &instance,
        "INSERT INTO schema_migrations (version, checksum, needs) VALUES (9998, '', 9998), (9999, '', 0)",
    )
    .await;
    assert!(matches!(refused().await, MigrationError::Newer(9998)));
    raw(
        &instance,
        "DELETE FROM schema_migrations WHERE version > 9000",
    )
    .await;
    raw(
        &instance,
        "UPDATE schema_migrations SET checksum = '' WHERE version = 1",
    )
    .await;
    assert!(matches!(refused().await, MigrationError::Different(1)));
}

#[tokio::test]
async fn a_server_that_would_lose_acknowledged_writes_is_refused() {
    let instance = Instance::with(&["synchronous_commit=off"]);
    let refused = postgres::prepare(&target(&instance)).await;
    assert!(
        matches!(refused, Err(OpenError::NotDurable { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_copy_is_another_history_whose_positions_go_on() {
    let instance = Instance::start();
    let log = node(&instance).await;
    let chat = open_direct(&log, ANA, BEN, 1).await;
    send(&log, chat, 1).await.unwrap();
    let (epoch, position) = (log.epoch(), log.position().await.unwrap());
    drop(log);
    // What a copy finds in it was written where the numbers were higher.
    raw(
        &instance,
        "UPDATE chat_writers SET position = position + 1000000",
    )
    .await;
    raw(&instance, "UPDATE chat_history SET place = 'elsewhere'").await;
    let log = node(&instance).await;
    assert_ne!(log.epoch(), epoch);
    let restored = log.position().await.unwrap();
    assert_eq!(restored.0, position.0 + 1_000_000);
    send(&log, chat, 2).await.unwrap();
    let moved = log.moved_since(ANA, restored).await.unwrap().unwrap();
    assert_eq!(moved.chats.len(), 1);
    assert!(moved.position > restored);
    let events = log
        .events_since(&moved.chats, restored, 9)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(events.len(), 1);
}

/// The epochs of a node, and of two others on a standby that took over.
async fn epochs_over_a_failover(standby_has_all: bool) -> [Epoch; 3] {
    let mut primary = Instance::over_network();
    let log = node(&primary).await;
    let chat = open_direct(&log, ANA, BEN, 1).await;
    let standby = primary.standby(primary.address());
    standby.catch_up_with(&primary);
    primary.kill();
    standby.promote();
    let options = Options {
        standby_has_all,
        ..Options::default()
    };
    let mut epochs = vec![log.epoch()];
    for n in 1..=2 {
        let log = node_with(&standby, options.clone()).await;
        let before = log.position().await.unwrap();
        send(&log, chat, n).await.unwrap();
        assert!(log.position().await.unwrap() > before);
        epochs.push(log.epoch());
    }
    epochs.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_takes_over_begins_one_new_history() {
    let [before, first, second] = epochs_over_a_failover(false).await;
    assert_ne!(first, before);
    assert_eq!(second, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_has_all_goes_on_with_the_history() {
    let [before, first, second] = epochs_over_a_failover(true).await;
    assert_eq!((first, second), (before, before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_fails_and_does_not_hang() {
    let instance = Instance::start();
    let log = node(&instance).await;
    let chat = open_direct(&log, ANA, BEN, 1).await;
    log.close().await;
    assert_eq!(
        send(&log, chat, 1).await.unwrap_err().reason(),
        "STORE_UNAVAILABLE"
    );
    assert_eq!(
        log.chat(chat).await.unwrap_err().reason(),
        "STORE_UNAVAILABLE"
    );
}

#[tokio::test]
async fn a_server_is_believed_by_its_certificate_and_its_name() {
    let instance = Instance::with_tls();
    let certificate = instance.certificate();
    let full = format!("sslmode=verify-full&sslrootcert={}", certificate.display());
    let right: Target = instance.network_url("localhost", &full).parse().unwrap();
    assert!(right.is_private());
    postgres::prepare(&right).await.unwrap();
    let log = ChatLog::open(
        &right,
        Options::default(),
        Arc::new(Nobody),
        ManualClock::at(BEGIN_MS),
    );
    let log = log.await.unwrap();
    let chat = open_direct(&log, ANA, BEN, 1).await;
    send(&log, chat, 1).await.unwrap();

    // Another name than the one in the certificate, and an authority that nobody knows.
    for (host, parameters) in [("127.0.0.1", &*full), ("localhost", "sslmode=verify-full")] {
        let wrong: Target = instance.network_url(host, parameters).parse().unwrap();
        let refused = postgres::prepare(&wrong).await;
        assert!(
            matches!(refused, Err(OpenError::Engine { .. })),
            "{host}: {refused:?}"
        );
    }
}
