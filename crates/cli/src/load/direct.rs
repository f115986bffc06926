//! Pairs of people who write to each other, as fast as the server answers or at a given pace.
//!
//! Nothing is believed: each end checks that every event of the chat comes once and in order, that the other's
//! messages come in the order in which they were written, and that an acknowledgement names the place at which
//! the message then appears.

mod end;
mod ledger;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hdrhistogram::Histogram;
use tertulia_proto::chats::Chat;
use tertulia_proto::live::Welcome;
use tertulia_proto::live::missed::Answer;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use super::measure::{Pace, Run, Violations, Window, measure};
use super::people::{Pair, Server};
use super::proc::{Family, Process};
use super::progress::Progress;
use super::socket::Socket;
use super::template::Template;
use end::{DRAIN, End, Side};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many messages of one sender are unanswered at most.
    pub in_flight: usize,
    /// Messages a second of all senders together; as fast as answers come when not given.
    pub rate: Option<f64>,
    /// How long is measured.
    pub measured: Duration,
    /// How long the load runs before that.
    pub warm_up: Duration,
    /// How long a text is.
    pub text_bytes: usize,
    /// The processes of the server, one for each node, as far as they are on this machine.
    pub server: Vec<Process>,
    /// The database server of the nodes, when it is on this machine.
    pub database: Option<Family>,
}

/// What was measured, in the measured time, and what was checked, from the first message to the last.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How long was measured.
    pub measured: Duration,
    /// Messages that were acknowledged.
    pub acked: u64,
    /// Messages that came to the other end.
    pub delivered: u64,
    /// Nanoseconds from when a message was due to its acknowledgement.
    pub ack_ns: Histogram<u64>,
    /// Nanoseconds from when a message was due to its coming at the other end.
    pub delivery_ns: Histogram<u64>,
    /// The processor time of all nodes of the server.
    pub server_cpu: Option<Duration>,
    /// The database's.
    pub database_cpu: Option<Duration>,
    /// What the server gave to the disk.
    pub server_written_bytes: Option<u64>,
    /// This process's processor time.
    pub own_cpu: Option<Duration>,
    /// Messages written from the first to the last.
    pub sent_in_all: u64,
    /// What may never happen.
    pub violations: Violations,
    /// How often a session was told that it is behind and caught up.
    pub behind: u64,
}

/// The load goes on for a little longer than is measured.
const MARGIN: Duration = Duration::from_millis(20);
/// So many connections are opened at once.
const OPENING: usize = 64;

/// Runs the plan with these pairs on these nodes, one at least, and says when all of them are connected.
///
/// # Errors
/// When a session can not be opened or ends; violations are no error but part of the outcome.
pub async fn run(
    nodes: &[Server],
    pairs: &[Pair],
    plan: &Plan,
    opened: impl FnOnce(),
) -> Result<Outcome> {
    LocalSet::new()
        .run_until(run_here(nodes, pairs, plan, opened))
        .await
}

async fn run_here(
    nodes: &[Server],
    pairs: &[Pair],
    plan: &Plan,
    opened: impl FnOnce(),
) -> Result<Outcome> {
    let run = Rc::new(Run::default());
    let senders = (pairs.len() * 2) as f64;
    let ends = open(nodes, pairs).await?;
    opened();

    let start = Instant::now();
    let stop = start + plan.warm_up + plan.measured + MARGIN;
    let mut tasks = JoinSet::new();
    for Opened {
        socket,
        sides,
        number,
        me,
        chat_id,
        head,
        welcome,
    } in ends
    {
        let pace = plan.rate.map(|rate| {
            let interval = Duration::from_secs_f64(senders / rate);
            // Spread over the interval, so that they do not all write at once.
            Pace {
                next: start + interval.mul_f64(number as f64 / senders),
                interval,
            }
        });
        let end = End {
            socket,
            run: Rc::clone(&run),
            sides,
            me,
            user_id: welcome.user_id,
            template: Template::new(chat_id, plan.text_bytes),
            in_flight: plan.in_flight,
            chat_id,
            cursor: welcome.missed.cursor.clone(),
            last_seq: head,
            pending: VecDeque::new(),
            first_pending: 0,
            unanswered: 0,
            next_from_other: 0,
            pace,
            stop,
        };
        tasks.spawn_local(end.talk());
    }
    let window = Window {
        warm_up: plan.warm_up,
        measured: plan.measured,
        server: plan.server.clone(),
        database: plan.database,
    };
    let counting = Rc::clone(&run);
    let measured = async move { measure(&counting, window, start).await };
    tokio::pin!(measured);
    let mut reading = None;
    let deadline = tokio::time::sleep_until(stop + DRAIN + Duration::from_secs(5));
    tokio::pin!(deadline);
    while reading.is_none() || !tasks.is_empty() {
        tokio::select! {
            done = &mut measured, if reading.is_none() => reading = Some(done),
            Some(ended) = tasks.join_next() => ended??,
            () = &mut deadline => bail!("the sessions do not end"),
        }
    }
    let reading = reading.context("nothing was measured")?;
    let run = Rc::into_inner(run).ok_or_else(|| anyhow!("a session is still running"))?;
    Ok(Outcome {
        measured: reading.measured,
        acked: run.acked.get(),
        delivered: run.delivered.get(),
        ack_ns: run.ack_ns.into_inner(),
        delivery_ns: run.delivery_ns.into_inner(),
        server_cpu: reading.server_cpu,
        database_cpu: reading.database_cpu,
        server_written_bytes: reading.server_written_bytes,
        own_cpu: reading.own_cpu,
        sent_in_all: run.sent.get(),
        violations: run.violations.get(),
        behind: run.behind.get(),
    })
}

struct Opened {
    socket: Socket,
    sides: Rc<[Side; 2]>,
    number: usize,
    me: usize,
    chat_id: i64,
    head: i64,
    welcome: Welcome,
}

/// Opens both ends of every pair, on one node, and pairs on all nodes in turn.
async fn open(nodes: &[Server], pairs: &[Pair]) -> Result<Vec<Opened>> {
    let progress = Progress::of("sessions", pairs.len() as u64 * 2);
    let progress = &progress;
    let opening = pairs.iter().enumerate().flat_map(|(n, pair)| {
        let sides = Rc::new([Side::default(), Side::default()]);
        let node = nodes[n % nodes.len()];
        [0, 1].map(|me| {
            let sides = Rc::clone(&sides);
            async move {
                let (socket, welcome) =
                    Socket::open(node.0, None, &pair.ends[me].access_token).await?;
                let (chat_id, head) = (pair.chat_id, head_of(&welcome, pair.chat_id)?);
                progress.one();
                Ok(Opened {
                    socket,
                    sides,
                    number: n * 2 + me,
                    me,
                    chat_id,
                    head,
                    welcome,
                })
            }
        })
    });
    stream::iter(opening)
        .buffer_unordered(OPENING)
        .try_collect()
        .await
}

/// How far the chat had come when the session began.
pub(super) fn head_of(welcome: &Welcome, chat_id: i64) -> Result<i64> {
    let missed = welcome
        .missed
        .as_option()
        .context("the welcome does not say what was missed")?;
    let chats: &[Chat] = match &missed.answer {
        Some(Answer::Reset(reset)) => &reset.chats,
        Some(Answer::Changed(changed)) => &changed.chats,
        _ => bail!("a welcome without a cursor must list the chats"),
    };
    let chat = chats.iter().find(|chat| chat.chat_id == chat_id);
    Ok(chat.context("the welcome leaves the chat out")?.head)
}
