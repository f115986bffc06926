//! Everything of an embedded store gets into PostgreSQL, whenever the move is killed, and the logs go on there as
//! if they had always been there.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tertulia_kit::clock::ManualClock;
use tertulia_kit::instances::postgres::Instance;
use tertulia_kit::job::{JobId, Jobs as _, NewJob};
use tertulia_services::chats::suite::chats_of;
use tertulia_services::chats::{
    Act, Chat, ChatKind, ChatStore, Command, Committed, Done, Draft, Epoch, Fact, Forward,
    ForwardedCopy, Invite, Limits, Mentions, NewChat, NewMessage, Pair, Position, Role,
    SEND_KEYS_KEPT_MS, Scheduled, SendKey,
};
use tertulia_services::feed::{self, Consumer, ConsumerId, Consumers as _, Found, Place};
use tertulia_services::identity::AccountStore as _;
use tertulia_services::identity::suite::account;
use tertulia_services::ids::{ChatId, LoginId, MessageId, ScheduledId, UserId};
use tertulia_services::users::{ProfileStore as _, Update};
use tertulia_store::consumers::Consumers;
use tertulia_store::fjall;
use tertulia_store::jobs::Jobs;
use tertulia_store::moving::{Bounds, Move, MoveError, Phase, Progress, Report};
use tertulia_store::postgres::{self, ChatLog, Postgres, Target};
use tertulia_store::sqlite::Sqlite;
use tokio::sync::Notify;

const BEGIN_MS: i64 = 1_780_000_000_000;
const USERS: i64 = 12;
const ANA: UserId = UserId(1);

/// So little that there are many batches.
const FEW: Bounds = Bounds {
    rows_max: 25,
    bytes_max: 6_000,
};

struct Nobody;

impl Committed for Nobody {
    fn committed(&self, _: Vec<Fact>) {}
}

fn job(id: i64) -> NewJob {
    NewJob {
        id: JobId(id),
        kind: format!("work {id}"),
        about: "something".into(),
        delay: Duration::ZERO,
    }
}

/// A data folder whose server is stopped.
struct Folder(TempDir);

impl Folder {
    /// With something in every table, of two weeks.
    async fn full() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.add_people().await;
        let clock = ManualClock::at(BEGIN_MS);
        let logs = folder.logs(Arc::clone(&clock)).await;
        talk(&*logs, 0).await;
        clock.advance_ms(SEND_KEYS_KEPT_MS);
        talk(&*logs, 1).await;
        logs.close().await;
        folder
    }

    fn people(&self) -> PathBuf {
        self.0.path().join("people.sqlite")
    }

    fn chats(&self) -> PathBuf {
        self.0.path().join("chats")
    }

    async fn logs(&self, clock: Arc<ManualClock>) -> Arc<fjall::ChatLog> {
        let options = fjall::Options::default();
        fjall::ChatLog::open(&self.chats(), options, Arc::new(Nobody), clock)
            .await
            .unwrap()
    }

    async fn add_people(&self) {
        let people = Sqlite::open(&self.people()).await.unwrap();
        for id in 1..=USERS {
            let name = format!("user{id}");
            let shown = format!("Señora {id} Ünal");
            people.create(account(id, &name, &shown)).await.unwrap();
        }
        people
            .end_login(UserId(2), LoginId(2), BEGIN_MS)
            .await
            .unwrap();
        let about = Update {
            user: ANA,
            shown: None,
            about: Some("hi\nthere".into()),
            shares_seen: Some(false),
            shares_presence: Some(false),
            at_ms: BEGIN_MS,
        };
        people.update(about).await.unwrap();
        let jobs = Jobs::beside(&people);
        for id in [1, 2] {
            assert!(
                jobs.enqueue_occurrence("nightly", id, job(id))
                    .await
                    .unwrap()
            );
        }
        let failed = jobs.claim("work 2", 1, Duration::ZERO).await.unwrap();
        assert!(jobs.bury(&failed[0], "no such thing").await.unwrap());
        let consumer = Consumer {
            name: "export".into(),
            id: ConsumerId(7),
            epoch: Epoch(1),
            place: Place(1 << 40),
            made_at_ms: BEGIN_MS,
            moved_at_ms: BEGIN_MS,
        };
        let consumers = Consumers::beside(&people);
        consumers.make(consumer).await.unwrap();
        people.close().await;
    }

    async fn checked(&self) -> fjall::Report {
        let logs = self.logs(ManualClock::at(BEGIN_MS)).await;
        let report = logs.verify(|_| {}).await.unwrap();
        logs.close().await;
        report
    }

    async fn open(&self, target: &Target) -> Result<Move, MoveError> {
        Move::open(&self.people(), &self.chats(), target, FEW).await
    }
}

fn target(instance: &Instance) -> Target {
    instance.url().parse().unwrap()
}

fn command(actor: i64, act: Act) -> Command {
    Command {
        actor: UserId(actor),
        at_ms: BEGIN_MS,
        act,
        limits: Limits::default(),
    }
}

fn key(text: impl ToString) -> SendKey {
    SendKey {
        device: "d".into(),
        client_message_id: text.to_string(),
    }
}

fn message(chat: ChatId, n: i64) -> NewMessage {
    NewMessage {
        chat,
        id: MessageId(n),
        key: key(n),
        text: format!("the text of message {n}"),
        reply_to: None,
        thread: None,
        mentions: Mentions::default(),
    }
}

async fn does(log: &dyn ChatStore, actor: i64, act: Act) -> Done {
    let told = format!("{act:?}");
    let done = log.write(command(actor, act)).await;
    done.unwrap_or_else(|failure| panic!("{told}: {failure}"))
}

/// Something of every kind; each week it is about other chats.
async fn talk(log: &dyn ChatStore, week: i64) {
    let from = 1_000 * (week + 1);
    let mut n = from;
    let mut next = || {
        n += 1;
        n
    };
    for other in 2..=USERS {
        let pair = Pair::new(ANA, UserId(other)).unwrap();
        let id = ChatId(next());
        let Done::Chat(standing) = does(log, 1, Act::OpenDirect { pair, id }).await else {
            panic!("no chat");
        };
        // One of them stays silent.
        for _ in 2..other {
            let actor = if other % 2 == 0 { 1 } else { other };
            does(log, actor, Act::Send(message(standing.chat.id, next()))).await;
        }
    }
    for kind in [ChatKind::Group, ChatKind::Channel] {
        let chat = ChatId(next());
        let new = NewChat {
            id: chat,
            kind,
            title: "some".into(),
            topic: String::new(),
            avatar: "🌳".into(),
            members: (2..USERS).map(UserId).collect(),
            key: key(-chat.0),
        };
        does(log, 1, Act::Create(new)).await;
        for _ in 0..9 {
            does(log, 1, Act::Send(message(chat, next()))).await;
        }
        // 2 to 10 are messages, then come 11 and 12, which say more.
        let mut reply = message(chat, next());
        reply.thread = Some(2);
        does(log, 1, Act::Send(reply)).await;
        let mut call = message(chat, next());
        call.mentions = Mentions {
            users: vec![UserId(2)],
            everyone: true,
            role: None,
        };
        does(log, 1, Act::Send(call)).await;
        for user in 2..8 {
            let react = Act::React {
                chat,
                message: 2,
                emoji: "👍".into(),
                on: true,
            };
            does(log, user, react).await;
        }
        let acts = [
            Act::Pin {
                chat,
                message: 3,
                on: true,
            },
            Act::Edit {
                chat,
                message: 3,
                text: "another".into(),
                mentions: Mentions::default(),
            },
            Act::Delete {
                chat,
                messages: vec![4, 5],
            },
            Act::Hide {
                chat,
                messages: vec![6],
            },
            Act::Change {
                chat,
                title: None,
                topic: Some("trees".into()),
                avatar: None,
                message_ttl_s: Some(60),
            },
            Act::Remove {
                chat,
                user: UserId(3),
                ban: true,
            },
            Act::Draft {
                chat,
                draft: Some(Arc::new(Draft {
                    text: "not yet".into(),
                    reply_to: None,
                    at_ms: 1,
                })),
            },
            Act::MakeInvite {
                invite: Invite {
                    code: format!("code-{chat}"),
                    chat,
                    created_by: ANA,
                    created_at_ms: 1,
                    expires_at_ms: 0,
                    uses_max: 0,
                    uses: 0,
                    role: Role::Member,
                },
                role_chosen: true,
                key: key(next()),
            },
            Act::Schedule(Scheduled {
                id: ScheduledId(next()),
                user: ANA,
                chat,
                send_at_ms: BEGIN_MS + 10 * SEND_KEYS_KEPT_MS,
                key: key(next()),
                text: "later".into(),
                reply_to: None,
                thread: None,
                mentions: Mentions::default(),
            }),
            Act::Forward {
                chat,
                key: key(next()),
                copies: vec![ForwardedCopy {
                    id: MessageId(next()),
                    text: "a copy".into(),
                    from: Forward {
                        user: UserId(3),
                        at_ms: 1,
                    },
                }],
            },
        ];
        for act in acts {
            does(log, 1, act).await;
        }
        // Such a one disappears.
        does(log, 1, Act::Send(message(chat, next()))).await;
    }
}

/// What somebody who reads everything finds.
#[derive(Debug, PartialEq)]
struct Seen {
    chats: Vec<(Chat, String)>,
    own: Vec<String>,
    positions: Vec<String>,
}

async fn seen(log: &dyn ChatStore) -> Seen {
    let mut seen = Seen {
        chats: Vec::new(),
        own: Vec::new(),
        positions: Vec::new(),
    };
    let position = log.position().await.unwrap();
    for user in (1..=USERS).map(UserId) {
        for chat in chats_of(log, user).await {
            let events = log.events_after(chat.id, 0, usize::MAX).await.unwrap();
            let members = log.members(chat.id, UserId(i64::MIN), 100).await.unwrap();
            seen.chats
                .push((chat, format!("{:?} {members:?}", events.events)));
        }
        let own = log.user_events_after(user, 0, usize::MAX).await.unwrap();
        seen.own.push(format!("{own:?}"));
        // At every commit there is something to be told since.
        for since in (0..=position.0 + 1).step_by(5) {
            let moved = log.moved_since(user, Position(since)).await.unwrap();
            let moved = moved.map(|mut moved| {
                moved.chats.sort_by_key(|chat| chat.id);
                moved.receipts.sort();
                (moved.chats, moved.receipts, moved.own_head, moved.position)
            });
            seen.positions.push(format!("{since}: {moved:?}"));
        }
    }
    seen
}

async fn opened(target: &Target) -> Arc<ChatLog> {
    let clock = ManualClock::at(BEGIN_MS + SEND_KEYS_KEPT_MS);
    let options = postgres::Options::default();
    let opened = ChatLog::open(target, options, Arc::new(Nobody), clock);
    opened.await.unwrap()
}

async fn moved(folder: &Folder, target: &Target) -> Report {
    let moving = folder.open(target).await.unwrap();
    moving.run(|_| {}).await.unwrap()
}

async fn raw(instance: &Instance, statement: &'static str) -> u64 {
    let mut connection = PgConnection::connect(&instance.url()).await.unwrap();
    let done = sqlx::raw_sql(statement).execute(&mut connection).await;
    connection.close().await.unwrap();
    done.unwrap().rows_affected()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_moved_is_found_as_it_was_and_positions_and_send_keys_go_on() {
    let folder = Folder::full().await;
    let before = folder.checked().await;
    assert_eq!(before.problems, []);
    let people = std::fs::read(folder.people()).unwrap();
    let instance = Instance::start();
    let target = target(&instance);
    let report = moved(&folder, &target).await;

    // Every table had something in it, or nothing is shown by this.
    for (table, rows) in &report.tables {
        assert!(*rows > 0, "{table} is empty");
    }
    assert_eq!(report.digest, before.digest);
    assert_eq!(folder.checked().await, before);
    assert_eq!(std::fs::read(folder.people()).unwrap(), people);

    let here = folder
        .logs(ManualClock::at(BEGIN_MS + SEND_KEYS_KEPT_MS))
        .await;
    let there = opened(&target).await;
    assert_eq!(here.epoch(), there.epoch());
    let position = here.position().await.unwrap();
    assert_eq!(position, there.position().await.unwrap());
    // Who follows the feed and had everything goes on, and who had not is told.
    let all = feed::Bounds {
        events_max: 500,
        bytes_max: 1 << 20,
    };
    let nothing = feed::Outbox::after(&*there, Place::behind(position), all)
        .await
        .unwrap();
    assert_eq!(nothing, Found::Events(Vec::new()));
    let first = Place::of(Position(1), 0);
    assert_eq!(
        feed::Outbox::after(&*there, first, all).await.unwrap(),
        Found::Gap
    );
    let (was, is) = (seen(&*here).await, seen(&*there).await);
    for (was, is) in was.chats.iter().zip(&is.chats) {
        assert_eq!(was, is);
    }
    assert_eq!(was, is);

    // What was sent in the first week and in the second is as what it was.
    let chat = ChatId(1_002);
    for (n, repeat) in [(1_003, true), (2_003, true), (9_999, false)] {
        let (a, b) = (
            does(&*here, 3, Act::Send(message(chat, n))).await,
            does(&*there, 3, Act::Send(message(chat, n))).await,
        );
        let (Done::Sent(a), Done::Sent(b)) = (a, b) else {
            panic!("not sent");
        };
        assert_eq!((a.seq, a.repeat), (b.seq, b.repeat));
        assert_eq!(b.repeat, repeat, "{n}");
    }
    // Who has a cursor of before hears of it; who goes back with one of after is seen.
    let news = there.moved_since(ANA, position).await.unwrap().unwrap();
    assert_eq!(
        news.chats.iter().map(|chat| chat.id).collect::<Vec<_>>(),
        [chat]
    );
    assert!(news.position > position);
    let unknown = here.moved_since(ANA, news.position).await.unwrap();
    assert!(unknown.is_none());
    there.close().await;

    // The next start is no other history, either.
    let again = opened(&target).await;
    assert_eq!(again.epoch(), here.epoch());
    assert!(again.position().await.unwrap() >= news.position);

    let people = Postgres::of(&target);
    let jobs = Jobs::beside(&people);
    let due = jobs.claim("work 1", 1, Duration::ZERO).await.unwrap();
    assert_eq!((due[0].id, due[0].about.as_str()), (JobId(1), "something"));
    let dead = jobs.dead(JobId(0), 10).await.unwrap();
    assert_eq!(
        (dead[0].job.id, dead[0].why.as_str()),
        (JobId(2), "no such thing")
    );
    let late = jobs.enqueue_occurrence("nightly", 2, job(3)).await;
    assert!(!late.unwrap(), "it has occurred");
    let ana = people.by_name("user1").await.unwrap().unwrap();
    assert_eq!(ana.user, ANA);
    assert_eq!(
        people.login(LoginId(2)).await.unwrap().unwrap().ended_at_ms,
        Some(BEGIN_MS)
    );
}

/// Runs a move until it has made so many steps, and kills it somewhere behind; true when it was faster.
async fn run_for(moving: Move, steps: usize) -> Option<Report> {
    let (done, enough) = (Cell::new(0), Notify::new());
    let running = moving.run(|_: Progress| {
        done.set(done.get() + 1);
        if done.get() == steps {
            enough.notify_one();
        }
    });
    tokio::select! {
        biased;
        () = enough.notified() => None,
        report = running => Some(report.unwrap()),
    }
}

#[tokio::test]
async fn a_move_that_is_killed_anywhere_again_and_again_ends_with_everything() {
    #[expect(clippy::disallowed_methods, reason = "to run the same again")]
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = Folder::full().await;
    let instance = Instance::start();
    let target = target(&instance);
    let (mut kills, mut arrived) = (0, 0);
    let report = loop {
        let moving = folder.open(&target).await.unwrap();
        let now = moving.arrived().unwrap_or(0);
        assert!(now >= arrived, "rows that had arrived were lost");
        arrived = now;
        // It is compared from the beginning each time, so it has to live longer in the end.
        let steps = random.random_range(1..10 + 4 * kills);
        match run_for(moving, steps).await {
            Some(report) => break report,
            None => kills += 1,
        }
    };
    println!("killed {kills} times");
    assert!(kills > 5, "it was hardly killed: {kills}");
    let other = Instance::start();
    let at_once = moved(&folder, &other.url().parse().unwrap()).await;
    assert_eq!(report, at_once);
    let again = folder.open(&target).await;
    assert!(matches!(again, Err(MoveError::Done { .. })));
}

/// Kills a move after its first batch.
async fn begun(folder: &Folder, target: &Target) {
    let moving = folder.open(target).await.unwrap();
    assert_eq!(run_for(moving, 1).await, None);
}

#[tokio::test]
async fn a_look_changes_nothing_and_counts_everything() {
    let folder = Folder::full().await;
    let instance = Instance::start();
    let moving = folder.open(&target(&instance)).await.unwrap();
    assert_eq!(moving.arrived(), None);
    let counts = moving.counts().to_vec();
    drop(moving);
    let report = moved(&folder, &target(&instance)).await;
    assert_eq!(report.tables, counts);

    let other = Instance::start();
    let looked = folder.open(&other.url().parse().unwrap()).await;
    assert!(looked.is_ok());
    // Not even the tables are there.
    assert_eq!(raw(&other, "CREATE TABLE store_move (a INT)").await, 0);
}

#[tokio::test]
async fn no_server_opens_what_has_not_all_arrived() {
    let folder = Folder::full().await;
    let instance = Instance::start();
    let target = target(&instance);
    begun(&folder, &target).await;
    postgres::prepare(&target).await.unwrap();
    let clock = ManualClock::at(BEGIN_MS);
    let opened = ChatLog::open(
        &target,
        postgres::Options::default(),
        Arc::new(Nobody),
        clock,
    )
    .await;
    let refused = opened.err().unwrap().cause_chain().unwrap();
    assert!(refused.contains("migrate-store"), "{refused}");
    moved(&folder, &target).await;
    self::opened(&target).await;
}

#[tokio::test]
async fn a_database_with_something_of_somebody_in_it_is_refused() {
    let folder = Folder::full().await;
    // A server has been there, though nobody has said anything.
    let instance = Instance::start();
    postgres::prepare(&target(&instance)).await.unwrap();
    opened(&target(&instance)).await.close().await;
    let refused = folder.open(&target(&instance)).await.err().unwrap();
    assert!(matches!(&refused, MoveError::NotEmpty { table, .. } if table == "agreements"));
    // Something else has.
    let instance = Instance::start();
    raw(&instance, "CREATE TABLE \"a \"\" b\" AS SELECT 1").await;
    let refused = folder.open(&target(&instance)).await.err().unwrap();
    assert!(matches!(&refused, MoveError::NotEmpty { table, .. } if table == "a \" b"));
}

#[tokio::test]
async fn a_move_is_gone_on_with_only_from_where_it_began() {
    let folder = Folder::full().await;
    let instance = Instance::start();
    let target = target(&instance);
    begun(&folder, &target).await;
    let other = Folder::full().await.open(&target).await.err().unwrap();
    assert!(matches!(other, MoveError::OfAnother { .. }));

    // Somebody has signed up since.
    let people = Sqlite::open(&folder.people()).await.unwrap();
    people.create(account(99, "late", "Late")).await.unwrap();
    people.close().await;
    let changed = folder.open(&target).await.err().unwrap();
    assert!(matches!(changed, MoveError::Changed { .. }));

    // Somebody has said something since.
    let folder = Folder::full().await;
    let instance = Instance::start();
    let target = instance.url().parse().unwrap();
    begun(&folder, &target).await;
    let logs = folder.logs(ManualClock::at(BEGIN_MS)).await;
    let pair = Pair::new(ANA, UserId(50)).unwrap();
    does(
        &*logs,
        1,
        Act::OpenDirect {
            pair,
            id: ChatId(7),
        },
    )
    .await;
    logs.close().await;
    drop(logs);
    let changed = folder.open(&target).await.err().unwrap();
    assert!(matches!(changed, MoveError::Changed { .. }), "{changed}");
}

#[tokio::test]
async fn of_two_moves_at_once_one_goes_on() {
    let folder = Folder::full().await;
    let instance = Instance::start();
    let target = target(&instance);
    begun(&folder, &target).await;
    let first = folder.open(&target).await.unwrap();
    raw(&instance, "UPDATE store_move SET row_count = row_count + 1").await;
    let refused = first.run(|_| {}).await.err().unwrap();
    assert!(matches!(refused, MoveError::Rival { .. }), "{refused}");
}

/// What is done to a database where everything has arrived and nothing was compared, and where it is found.
const HARM: &[(&str, &str)] = &[
    (
        "UPDATE chat_events SET content = content || '\\x00' WHERE seq = 3 AND chat_id =
             (SELECT max(chat_id) FROM chat_events)",
        "the table chat_events, chat_id",
    ),
    (
        "UPDATE chats SET moved_at = moved_at + 1 WHERE chat_id = (SELECT min(chat_id) FROM chats)",
        "the table chats, chat_id 1001",
    ),
    (
        "DELETE FROM chat_index WHERE key = (SELECT key FROM chat_index ORDER BY key LIMIT 1)",
        "the table chat_index, a key",
    ),
    (
        "INSERT INTO chat_members VALUES (9223372036854775807, 1, '')",
        "the table chat_members, chat_id 9223372036854775807, user_id 1",
    ),
    (
        "UPDATE logins SET ended_at_ms = 0 WHERE login_id = 1",
        "the table logins, login_id 1",
    ),
    (
        "UPDATE search_words SET word = word || 'x' WHERE (word, user_id) =
             (SELECT word, user_id FROM search_words ORDER BY word, user_id LIMIT 1)",
        "the table search_words, a word, user_id",
    ),
];

#[tokio::test]
async fn what_did_not_arrive_as_it_was_sent_is_found() {
    let folder = Folder::full().await;
    for (harm, found_at) in HARM {
        let instance = Instance::start();
        let target = target(&instance);
        let enough = Notify::new();
        let moving = folder.open(&target).await.unwrap();
        let running = moving.run(|progress| {
            if progress.phase == Phase::Comparing {
                enough.notify_one();
            }
        });
        tokio::select! {
            biased;
            () = enough.notified() => {}
            _ = running => panic!("it was not stopped"),
        }
        assert_eq!(raw(&instance, harm).await, 1, "{harm}");
        let moving = folder.open(&target).await.unwrap();
        assert_eq!(moving.arrived(), Some(moving.rows_all()));
        let refused = moving.run(|_| {}).await.err().unwrap();
        let MoveError::Different { at, .. } = refused else {
            panic!("{harm}: {refused}");
        };
        assert!(at.starts_with(found_at), "{at}");
        // It stays closed.
        let clock = ManualClock::at(BEGIN_MS);
        let options = postgres::Options::default();
        let opened = ChatLog::open(&target, options, Arc::new(Nobody), clock).await;
        assert!(opened.is_err());
    }
}

#[tokio::test]
async fn people_of_an_older_version_are_not_touched() {
    let folder = Folder::full().await;
    let url = format!("sqlite://{}", folder.people().display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 2")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let instance = Instance::start();
    let refused = folder.open(&target(&instance)).await.err().unwrap();
    let words = refused.to_string();
    assert!(words.contains("an older version"), "{words}");
}
