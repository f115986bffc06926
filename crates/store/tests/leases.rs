//! Leases in a real PostgreSQL that is killed and paused, and holders that are stopped for a while.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use tertulia_kit::instances::postgres::Instance;
use tertulia_kit::lease::{Leader, Lease, Leases as _, Token, suite};
use tertulia_store::postgres::{self, Leases, Target};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);
/// So short that it is over soon.
const SHORT: Duration = Duration::from_millis(500);
/// The variable that tells the child of a test where the database is.
const DATABASE: &str = "TERTULIA_TEST_DATABASE";

async fn leases(url: &str) -> Leases {
    let target: Target = url.parse().unwrap();
    postgres::prepare(&target).await.unwrap();
    Leases::of(&target)
}

/// Asks until it gets it. A database that is away is asked again.
async fn wait_for(leases: &Leases, name: &str, lasts: Duration) -> Lease {
    let waiting = async {
        loop {
            if let Ok(Some(lease)) = leases.acquire(name, lasts).await {
                return lease;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it is free")
}

#[tokio::test]
async fn postgres_keeps_the_promises_of_a_keeper_of_leases() {
    let database = Instance::start();
    suite::run(Arc::new(leases(&database.url()).await)).await;
}

#[tokio::test]
async fn tokens_go_on_after_a_crash_of_the_database() {
    let mut database = Instance::start();
    let leases = leases(&database.url()).await;
    let mut last = Token(0);
    for _ in 0..3 {
        let lease = wait_for(&leases, "a", SHORT).await;
        assert!(lease.token > last);
        last = lease.token;
        database.kill();
        assert!(leases.renew(&lease, SHORT).await.is_err());
        database.restart();
    }
    // Who holds a lease when the database crashes holds it when it is back.
    let held = wait_for(&leases, "a", LONG).await;
    database.kill();
    database.restart();
    let other = Leases::of(&database.url().parse().unwrap());
    assert_eq!(other.acquire("a", LONG).await.unwrap(), None);
    assert!(other.renew(&held, LONG).await.unwrap());
}

#[tokio::test]
async fn a_lease_that_seems_to_be_from_the_future_is_free() {
    let database = Instance::start();
    let leases = leases(&database.url()).await;
    let held = wait_for(&leases, "a", LONG).await;
    // As if the clock of the server had been set back by an hour.
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    let moved = "UPDATE leases SET since_ms = since_ms + 3600000, until_ms = until_ms + 3600000";
    connection.execute(moved).await.unwrap();
    let next = leases.acquire("a", LONG).await.unwrap().unwrap();
    assert!(next.token > held.token);
}

#[tokio::test]
async fn nobody_gets_a_lease_while_its_holder_commits() {
    let database = Instance::start();
    let leases = leases(&database.url()).await;
    let held = wait_for(&leases, "a", Duration::ZERO).await;
    let writing = leases.begin_as(&held).await.unwrap().unwrap();
    let other = leases.clone();
    let mut asking = Box::pin(other.acquire("a", LONG));
    // It waits for the commit, or is told that the lock was not given in time.
    let early = timeout(Duration::from_millis(300), &mut asking).await;
    assert!(!matches!(early, Ok(Ok(Some(_)))), "{early:?}");
    writing.commit().await.unwrap();
    let after = match early {
        Ok(_) => None,
        Err(_) => asking.await.ok().flatten(),
    };
    let next = match after {
        Some(next) => next,
        None => wait_for(&leases, "a", LONG).await,
    };
    assert!(next.token > held.token);
    assert!(leases.begin_as(&held).await.unwrap().is_none());
    assert!(leases.begin_as(&next).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leads_ends_its_task_when_the_database_hangs_and_leads_again_when_it_goes_on() {
    let database = Instance::start();
    let leases = Arc::new(leases(&database.url()).await);
    let leader = Leader::new(leases, "a", Duration::from_secs(4));
    let (began, mut told) = watch::channel(Token(0));
    let began = Arc::new(began);
    let stop = CancellationToken::new();
    let task = |lease: Lease| {
        let began = Arc::clone(&began);
        async move {
            began.send_replace(lease.token);
            // It is dropped here.
            std::future::pending().await
        }
    };
    let watching = async {
        let mut last = Token(0);
        for _ in 0..2 {
            let first = told.wait_for(|token| *token > last).await;
            last = *first.unwrap();
            database.pause();
            while leader.leads() {
                tokio::task::yield_now().await;
            }
            database.go_on();
        }
        let again = told.wait_for(|token| *token > last).await;
        again.unwrap();
    };
    let watched = async {
        tokio::select! {
            () = leader.run(stop.clone(), task) => panic!("it was not told to end"),
            () = watching => {}
        }
    };
    timeout(PATIENCE, watched).await.expect("it leads again");
}

/// A holder that looks at no clock: it writes until it is refused. Every word on its input is a write.
#[tokio::test]
#[ignore = "runs as a child of another test"]
async fn child_writes_as_holder() {
    #[expect(clippy::disallowed_methods, reason = "its parent tells it where")]
    let url = std::env::var(DATABASE).unwrap();
    let leases = leases(&url).await;
    let lease = wait_for(&leases, "a", SHORT).await;
    let mut lines = std::io::stdin().lines();
    loop {
        let wrote = write_as(&leases, &lease).await;
        eprintln!(
            "{} {}",
            if wrote { "wrote" } else { "refused" },
            lease.token
        );
        if !wrote || lines.next().is_none() {
            return;
        }
    }
}

async fn write_as(leases: &Leases, lease: &Lease) -> bool {
    let Some(mut transaction) = leases.begin_as(lease).await.unwrap() else {
        return false;
    };
    sqlx::query("INSERT INTO written (token) VALUES ($1)")
        .bind(lease.token.0)
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    true
}

/// A process that is gone with its test, also when it is stopped.
struct Holder(Child);

impl Holder {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.0.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_stopped_and_wakes_up_is_refused_by_the_store() {
    let database = Instance::start();
    let leases = leases(&database.url()).await;
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    let made = "CREATE TABLE written (at BIGSERIAL PRIMARY KEY, token BIGINT NOT NULL)";
    connection.execute(made).await.unwrap();

    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_writes_as_holder",
            "--ignored",
            "--nocapture",
        ])
        .env(DATABASE, database.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut holder = Holder(child.unwrap());
    let mut input = holder.0.stdin.take().unwrap();
    let mut said = BufReader::new(holder.0.stderr.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "wrote 1");
    holder.signal("STOP");

    // Its time goes by while it is stopped, and somebody else writes.
    let next = wait_for(&leases, "a", LONG).await;
    assert_eq!(next.token, Token(2));
    assert!(write_as(&leases, &next).await);

    writeln!(input, "go on").unwrap();
    holder.signal("CONT");
    assert_eq!(said.next().unwrap().unwrap(), "refused 1");
    assert!(holder.0.wait().unwrap().success());
    assert!(write_as(&leases, &next).await);
    let written = connection
        .fetch_all("SELECT token FROM written ORDER BY at")
        .await
        .unwrap();
    let tokens: Vec<i64> = written.iter().map(|row| row.get(0)).collect();
    assert_eq!(tokens, [1, 2, 2]);
}
