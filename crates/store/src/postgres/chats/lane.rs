//! One of those who write. It takes everything that waits for it, decides all of it over rows that it has locked,
//! commits it as one, and only then lets anybody know.
//!
//! ```text
//! requests ─► begin ─► lock and read ─► decide ─┬─► write ─► commit ─► tell ─► answer
//!                           ▲                   │
//!                           └── what was missing┘
//! ```
//! When a transaction fails before its commit was sent, nothing of it was written, and the same is done again. When
//! the connection is lost while it commits, the lane looks on a new one whether its mark is there: the row of the
//! mark is locked until the lost transaction has ended, so the answer is the truth. What can not be learned within
//! [`PATIENCE`] is answered as unknown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use tertulia_kit::error::{Failure, Result};
use tertulia_services::chats::decide::decide;
use tertulia_services::chats::{Command, Done};
use tertulia_services::errors;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::cache::Members;
use super::fetch::{Fetch, Trouble};
use super::known::{Known, Wanted, chat_of};
use super::put::{Mark, put};
use super::readers::is_lost;
use super::teller::Turn;
use crate::people::was_taken_back;
use crate::rows::round::Round;
use crate::rows::view::{Ahead, Seen};

/// For how long a round is tried while the database is away.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long is waited before it is tried again, at first and at most.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 5..=250;
/// How often what was missing is read before a decision is given up.
const PASSES_MAX: u32 = 64;
/// For how long the row of a writer is surely there after it was written: others forget those that are long behind.
const MARK_KEPT: Duration = Duration::from_secs(60);
/// Up to how many facts are told before the answers: who has written is woken once, for the answer and the event.
const TOLD_FIRST_MAX: usize = 16;
/// How many old send keys are forgotten after one round.
const FORGOTTEN_MAX: i64 = 2_000;

/// What is to be done one after the other, and who waits for it.
pub struct Request {
    pub commands: Vec<Command>,
    pub answer: oneshot::Sender<Vec<Result<Done>>>,
}

/// One that writes.
pub struct Lane {
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    connection: Option<PgConnection>,
    /// Its name in the table of writers; drawn when it begins.
    writer: i64,
    /// When its row there was written last.
    marked: Option<Instant>,
    /// The newest week whose old send keys are gone, when this lane does that.
    forgotten: Option<i64>,
}

/// How an attempt ended.
enum Ended {
    /// All of it is on disk.
    Committed(Box<Round>, Vec<Result<Done>>),
    /// Nothing of it is on disk, and it may be tried again.
    Nothing(Trouble),
    /// It is on disk, or it is not.
    Unknown(Box<Unknown>),
    /// Nothing of it is on disk, and it never will be.
    Failed(Failure),
}

struct Unknown {
    round: Round,
    done: Vec<Result<Done>>,
    mark: i64,
    why: sqlx::Error,
}

impl Lane {
    pub fn new(shared: Arc<Shared>, requests: mpsc::Receiver<Request>, forgets: bool) -> Lane {
        Lane {
            shared,
            requests,
            connection: None,
            writer: rand::random(),
            marked: None,
            forgotten: forgets.then_some(i64::MIN),
        }
    }

    /// Writes until nobody can ask any more and everything is answered.
    pub async fn run(mut self) {
        while let Some(first) = self.requests.recv().await {
            let requests = self.take_waiting(first);
            self.round(requests).await;
            self.forget_send_keys().await;
        }
        if let Some(connection) = self.connection.take() {
            _ = connection.close().await;
        }
    }

    fn take_waiting(&mut self, first: Request) -> Vec<Request> {
        let mut count = first.commands.len();
        let mut requests = vec![first];
        while count < self.shared.options.commit_batch_max {
            let Ok(next) = self.requests.try_recv() else {
                break;
            };
            count += next.commands.len();
            requests.push(next);
        }
        requests
    }

    async fn round(&mut self, requests: Vec<Request>) {
        let (commands, askers): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| (request.commands, request.answer))
            .unzip();
        let counts: Vec<usize> = commands.iter().map(Vec::len).collect();
        let commands: Vec<Command> = commands.into_iter().flatten().collect();
        let shared = Arc::clone(&self.shared);
        let mut turn = None;
        match self.commit(&commands, &shared, &mut turn).await {
            Ok((round, mut done)) => {
                shared.health.succeeded();
                let facts = shared.take_in(round);
                let mut turn = turn;
                if facts.len() <= TOLD_FIRST_MAX
                    && let Some(turn) = turn.take()
                {
                    turn.tell(facts);
                    answer(askers, &counts, &mut done);
                    return;
                }
                answer(askers, &counts, &mut done);
                if let Some(turn) = turn {
                    turn.tell(facts);
                }
            }
            Err(why) => {
                drop(turn);
                shared.health.failed(&why);
                let failed = commands.iter().map(|_| Err(again(&why)));
                answer(askers, &counts, &mut failed.collect());
            }
        }
    }

    /// Tries until it is known how it ended, or patience does.
    async fn commit<'t>(
        &mut self,
        commands: &[Command],
        shared: &'t Shared,
        turn: &mut Option<Turn<'t>>,
    ) -> Result<(Round, Vec<Result<Done>>)> {
        let began = Instant::now();
        let mut pause = *PAUSE_MS.start();
        loop {
            let ended = match self.attempt(commands, shared, turn).await {
                Ended::Unknown(unknown) => self.resolve(*unknown, began).await,
                ended => ended,
            };
            let trouble = match ended {
                Ended::Committed(round, done) => return Ok((*round, done)),
                Ended::Failed(failure) => return Err(failure),
                Ended::Unknown(unknown) => return Err(errors::store_unavailable(unknown.why)),
                Ended::Nothing(trouble) => trouble,
            };
            *turn = None;
            if began.elapsed() > PATIENCE || shared.server.is_taken_over() {
                return Err(trouble.failure());
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(pause / 2..=pause))).await;
            pause = (pause * 2).min(*PAUSE_MS.end());
        }
    }

    async fn attempt<'t>(
        &mut self,
        commands: &[Command],
        shared: &'t Shared,
        turn: &mut Option<Turn<'t>>,
    ) -> Ended {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match shared.server.connect().await {
                Ok(connection) => connection,
                Err(error) => return Ended::Nothing(error.into()),
            },
        };
        let ended = match self.mark(&mut connection).await {
            Ok(()) => attempt(&mut connection, self.writer, commands, shared, turn).await,
            Err(error) => nothing(error.into()),
        };
        if let Ended::Committed(round, _) = &ended
            && !round.is_empty()
        {
            self.marked = Some(Instant::now());
        }
        let is_of_use = match &ended {
            Ended::Committed(..) => true,
            Ended::Unknown(_) => false,
            // A transaction that was given up ends with the next word to the server; until then it holds locks.
            Ended::Nothing(_) | Ended::Failed(_) => connection.ping().await.is_ok(),
        };
        if is_of_use {
            self.connection = Some(connection);
        }
        ended
    }

    /// Makes sure that this writer has its row, committed: only a row that is there can be waited for when the answer
    /// to a commit is lost.
    async fn mark(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.marked.is_some_and(|at| at.elapsed() < MARK_KEPT) {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO chat_writers (writer, position, round, is_fed)
             SELECT $1::bigint, COALESCE(MAX(position), 0), 0, $2 FROM chat_writers
             ON CONFLICT (writer) DO NOTHING",
        )
        .bind(self.writer)
        .bind(self.shared.options.feed)
        .execute(connection)
        .await?;
        self.marked = Some(Instant::now());
        Ok(())
    }

    /// Learns how a commit ended whose answer was lost.
    async fn resolve(&mut self, unknown: Unknown, began: Instant) -> Ended {
        while began.elapsed() <= PATIENCE && !self.shared.server.is_taken_over() {
            let asked = match self.shared.server.connect().await {
                Ok(mut connection) => {
                    let mark = sqlx::query_scalar::<_, i64>(
                        "SELECT round FROM chat_writers WHERE writer = $1 FOR UPDATE",
                    );
                    let mark = mark.bind(self.writer).fetch_optional(&mut connection).await;
                    self.connection = mark.is_ok().then_some(connection);
                    mark
                }
                Err(error) => Err(error),
            };
            match asked {
                Ok(Some(mark)) if mark == unknown.mark => {
                    tracing::warn!("a commit whose answer was lost is there");
                    return Ended::Committed(Box::new(unknown.round), unknown.done);
                }
                Ok(_) => return Ended::Nothing(unknown.why.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(*PAUSE_MS.end())).await,
            }
        }
        Ended::Unknown(Box::new(unknown))
    }

    /// Forgets a part of the send keys that nobody may ask for any more.
    async fn forget_send_keys(&mut self) {
        let Some(forgotten) = self.forgotten else {
            return;
        };
        let week = super::week(self.shared.clock.now_ms());
        let Some(connection) = self.connection.as_mut().filter(|_| week > forgotten) else {
            return;
        };
        let gone = sqlx::query(
            "DELETE FROM chat_send_keys WHERE (week, hash) IN
                 (SELECT week, hash FROM chat_send_keys WHERE week < $1 ORDER BY week, hash LIMIT $2)",
        );
        let gone = gone
            .bind(week - 1)
            .bind(FORGOTTEN_MAX)
            .execute(connection)
            .await;
        match gone {
            Ok(gone) if i64::try_from(gone.rows_affected()).is_ok_and(|n| n < FORGOTTEN_MAX) => {
                self.forgotten = Some(week);
            }
            Ok(_) => {}
            // The next round has the same trouble, and says so.
            Err(_) => self.connection = None,
        }
    }
}

/// Decides and commits commands in one transaction.
async fn attempt<'t>(
    connection: &mut PgConnection,
    writer: i64,
    commands: &[Command],
    shared: &'t Shared,
    turn: &mut Option<Turn<'t>>,
) -> Ended {
    let mut wanted = Wanted::default();
    want_all(&mut wanted, commands, shared);
    // Each time that something is found that had to be locked before what is locked, all is begun anew with it.
    for _ in 0..PASSES_MAX {
        let mut tx = match connection.begin().await {
            Ok(tx) => tx,
            Err(error) => return Ended::Nothing(error.into()),
        };
        let decided = match decided(&mut tx, &mut wanted, commands, shared).await {
            Ok(decided) => decided,
            Err(Undecided::Trouble(trouble)) => return nothing(trouble),
            Err(Undecided::Failed(failure)) => return Ended::Failed(failure),
            Err(Undecided::Anew) => match tx.rollback().await {
                Ok(()) => continue,
                Err(error) => return nothing(error.into()),
            },
        };
        let (round, done) = decided;
        if round.is_empty() {
            return match tx.rollback().await {
                Ok(()) => Ended::Committed(Box::new(round), done),
                Err(error) => nothing(error.into()),
            };
        }
        let mark = Mark {
            writer,
            round: rand::random(),
            week: super::week(shared.clock.now_ms()),
            is_fed: shared.options.feed,
        };
        if let Err(error) = put(&mut tx, &round, &mark).await {
            return nothing(error.into());
        }
        *turn = Some(shared.teller.draw());
        return match tx.commit().await {
            Ok(()) => Ended::Committed(Box::new(round), done),
            Err(why) if is_lost(&why) => Ended::Unknown(Box::new(Unknown {
                round,
                done,
                mark: mark.round,
                why,
            })),
            Err(why) => nothing(why.into()),
        };
    }
    Ended::Failed(errors::internal("commands whose chats are never known"))
}

/// A transaction that was not committed.
fn nothing(trouble: Trouble) -> Ended {
    match trouble {
        Trouble::Engine(error)
            if !(was_taken_back(&error) || is_lost(&error) || is_busy(&error)) =>
        {
            Ended::Failed(errors::store_unavailable(error))
        }
        Trouble::Row(failure) => Ended::Failed(failure),
        trouble => Ended::Nothing(trouble),
    }
}

/// Somebody else holds what is needed, or was faster to write the same.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, "55P03" | "23505"))
}

/// Why there is no decision.
enum Undecided {
    /// More must be locked first.
    Anew,
    Trouble(Trouble),
    Failed(Failure),
}

impl From<Trouble> for Undecided {
    fn from(trouble: Trouble) -> Self {
        Undecided::Trouble(trouble)
    }
}

/// Locks, reads and decides until nothing is missing. `wanted` grows by what must be locked when it says
/// [`Undecided::Anew`].
async fn decided(
    connection: &mut PgConnection,
    wanted: &mut Wanted,
    commands: &[Command],
    shared: &Shared,
) -> Result<(Round, Vec<Result<Done>>), Undecided> {
    let mut known = Known::default();
    let mut number = None;
    let mut more = std::mem::take(wanted);
    for pass in 0..PASSES_MAX {
        if is_out_of_order(&known, &more) {
            wanted.join(more);
            wanted.chats.extend(known.chats.keys());
            wanted.users.extend(known.own_heads.keys());
            want_all(wanted, commands, shared);
            return Err(Undecided::Anew);
        }
        if pass > 0 && !(more.chats.is_empty() && more.users.is_empty()) {
            more.join(known.forget_unlocked());
        }
        let fetch = Fetch {
            caches: &shared.caches,
            locks: true,
            now_ms: shared.clock.now_ms(),
            pass,
        };
        shared.count_reads(&more);
        number = fetch.run(connection, more, &mut known).await?.or(number);
        let number = number.unwrap_or_default().cast_unsigned();
        // Also above what a faster transaction with a higher number has left, so that the numbers of a chat rise.
        let position = (shared.server.history.base + number).max(known.newest() + 1);
        let (round, done) = decide_all(&known, position, commands);
        more = known.take_wanted();
        if more.is_empty() {
            return match round {
                Ok(round) => Ok((round, done)),
                Err(failure) => Err(Undecided::Failed(failure)),
            };
        }
    }
    Err(Undecided::Failed(errors::internal(
        "a decision that never knows enough",
    )))
}

/// Adds what all commands will surely ask for.
fn want_all(wanted: &mut Wanted, commands: &[Command], shared: &Shared) {
    for command in commands {
        let chat = chat_of(&command.act);
        wanted.add(command, chat.and_then(|chat| shared.caches.kind(chat)));
    }
}

/// Chats are locked before users, and each in the order of their ids.
fn is_out_of_order(known: &Known, more: &Wanted) -> bool {
    let chat = known.chats.keys().max();
    let user = known.own_heads.keys().max();
    let late_chat = more
        .chats
        .first()
        .is_some_and(|first| user.is_some() || chat.is_some_and(|last| first < last));
    let late_user = more
        .users
        .first()
        .zip(user)
        .is_some_and(|(first, last)| first < last);
    late_chat || late_user
}

/// Decides the commands one after the other. After one that is refused the round is as if it had not been asked
/// for.
fn decide_all(
    known: &Known,
    position: u64,
    commands: &[Command],
) -> (Result<Round>, Vec<Result<Done>>) {
    let mut round = Round::new(position, commands.len(), commands.len());
    let mut done = Vec::with_capacity(commands.len());
    let mut broken = None;
    for command in commands {
        let mut view = Seen(Ahead {
            below: known,
            round: &mut round,
        });
        let decided = decide(&mut view, command.clone());
        done.push(decided.map(|decision| {
            if let Err(why) = round.take(known, decision.writes) {
                broken = Some(why);
            }
            decision.done
        }));
    }
    (broken.map_or(Ok(round), Err), done)
}

impl Shared {
    /// Remembers what was committed and gives its facts.
    fn take_in(&self, round: Round) -> Vec<tertulia_services::chats::Fact> {
        for (id, members) in round.audiences {
            if let Some(row) = round.chats.get(&id) {
                let seq = row.chat.details.members_seq;
                self.caches.put_members(id, Members { seq, members });
            }
        }
        for (_, row) in round.chats {
            self.caches.put_chat(row);
        }
        round.facts
    }
}

fn answer(
    askers: Vec<oneshot::Sender<Vec<Result<Done>>>>,
    counts: &[usize],
    done: &mut Vec<Result<Done>>,
) {
    let mut done = done.drain(..);
    for (asker, count) in askers.into_iter().zip(counts) {
        // Whoever has stopped waiting learns it by asking again.
        _ = asker.send(done.by_ref().take(*count).collect());
    }
}

/// The same failure for one more; a failure has one owner.
fn again(failure: &Failure) -> Failure {
    errors::store_unavailable(failure.cause_chain().unwrap_or_default())
}
