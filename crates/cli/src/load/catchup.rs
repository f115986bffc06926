//! What it costs to come back: the time, the bytes and the store's reads until a client knows what it missed.
//!
//! Each figure is taken several times over one session after the other, and that of many who come back in one second over
//! as many as are due; nothing is cached on the client.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tertulia_proto::chats::list_events_request::From;
use tertulia_proto::chats::{
    DeleteMessagesRequest, DeleteMessagesResponse, EditMessageRequest, EditMessageResponse,
    ListChangesRequest, ListChangesResponse, ListEventsRequest, ListEventsResponse,
};
use tertulia_proto::live::Welcome;
use tertulia_proto::live::missed::Answer;

use super::meter::Meter;
use super::people::{Account, Pair, Server};
use super::proc::Process;
use super::report::{Figure, median};
use super::socket::Socket;
use super::talk::{Talk, is_all};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often each figure is taken.
    pub runs: usize,
    /// How often a client comes back for one figure.
    pub times: usize,
    /// In how many chats the busy user is.
    pub chats: usize,
    /// In how many chats the user is of whom it must not matter how many they are.
    pub many_chats: usize,
    /// How many events lie between what is held and what is asked about.
    pub events: u64,
    /// The server's numbers, when they can be read.
    pub meter: Option<Meter>,
    /// The server's process, when it is on this machine.
    pub process: Option<Process>,
}

/// How long a text is.
const TEXT_BYTES: usize = 128;
/// How many messages are missed, and whether all of them are listed in the answer.
const MISSED: [(u64, bool); 2] = [(100, true), (10_000, false)];
/// How many come back in a second when many do.
const RATE: u32 = 1_000;
/// How many times more come back then than one after the other.
const AT_RATE_TIMES: usize = 20;
/// How many people they are.
const AT_RATE_USERS: usize = 10;
/// How many may be coming back at any time. Who comes later counts from when it was due all the same.
const UNDER_WAY_MAX: usize = 2_000;
/// How many chats a user has who has few.
const FEW_CHATS: usize = 20;
/// How many messages a device holds whose changes it asks for.
const HELD: u64 = 1_000;
/// How many of them were edited, and as many deleted.
const CHANGED: i64 = 10;
/// How many changed messages are asked for at once.
const CHANGES_PAGE: u32 = 100;
/// How many events are asked for at once: as many as the server gives.
const EVENTS_PAGE: u32 = 500;

const CHATS: &str = "tertulia.chats.v1.ChatsService";
const MESSAGES: &str = "tertulia.chats.v1.MessagesService";

/// Takes every figure.
///
/// # Errors
/// When something can not be made ready, or the server's answer is not the one that the figure is of.
pub async fn run(server: Server, plan: &Plan) -> Result<Vec<Figure>> {
    let bench = Bench { server, plan };
    let mut figures = Vec::new();
    let pairs = server.pairs(1 + MISSED.len() + 2).await?;
    let mut pairs = pairs.iter();
    let mut next = || pairs.next().context("there are as many pairs");

    let reader = &next()?.ends[0];
    let cursor = bench.cursor(reader).await?;
    let name = "connect, nothing missed";
    figures.extend(bench.welcomes(name, reader, &cursor, is_delta).await?);
    for (missed, is_listed) in MISSED {
        figures.extend(bench.missed(next()?, missed, is_listed).await?);
    }
    figures.extend(bench.at_rate().await?);

    for chats in [FEW_CHATS, plan.chats, plan.many_chats] {
        let user = bench.in_chats(chats).await?;
        let name = format!("{chats} chats, first screen");
        figures.extend(bench.welcomes(&name, &user, &[], |_| true).await?);
        let cursor = bench.cursor(&user).await?;
        let name = format!("{chats} chats, nothing missed");
        figures.extend(bench.welcomes(&name, &user, &cursor, is_delta).await?);
    }

    figures.extend(bench.changes_below(next()?).await?);
    figures.extend(bench.changes_above(next()?).await?);
    Ok(figures)
}

fn milliseconds_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

fn is_delta(welcome: &Welcome) -> bool {
    matches!(welcome.missed.answer, Some(Answer::Delta(_)))
}

fn is_changed(welcome: &Welcome) -> bool {
    matches!(welcome.missed.answer, Some(Answer::Changed(_)))
}

/// Where figures are taken.
struct Bench<'a> {
    server: Server,
    plan: &'a Plan,
}

/// What one run said, each of one coming back.
#[derive(Default)]
struct Run {
    milliseconds: f64,
    p99_ms: f64,
    bytes: f64,
    reads: Option<f64>,
    rows: Option<f64>,
    cpu_us: Option<f64>,
}

impl Bench<'_> {
    /// Does something again and again, which gives how many bytes came, and makes its rows.
    async fn measure(
        &self,
        name: &str,
        mut once: impl AsyncFnMut() -> Result<u64>,
    ) -> Result<Vec<Figure>> {
        self.figures(name, async || {
            let mut times = Vec::with_capacity(self.plan.times);
            for _ in 0..self.plan.times {
                let began = Instant::now();
                let bytes = once().await?;
                times.push((milliseconds_since(began), bytes));
            }
            Ok(times)
        })
        .await
    }

    /// Does something so many times a second, however long it takes, and makes its rows. Times count from when it was due.
    async fn measure_at_rate(
        &self,
        name: &str,
        once: impl AsyncFn(usize) -> Result<u64>,
    ) -> Result<Vec<Figure>> {
        let once = &once;
        self.figures(name, async || {
            let began = Instant::now();
            let times = (0..self.plan.times * AT_RATE_TIMES).map(|n| async move {
                let due = began + Duration::from_secs(1) * n as u32 / RATE;
                tokio::time::sleep_until(due.into()).await;
                let bytes = once(n).await?;
                Ok((milliseconds_since(due), bytes))
            });
            let times = stream::iter(times).buffer_unordered(UNDER_WAY_MAX);
            times.try_collect().await
        })
        .await
    }

    /// Makes the rows of something whose runs say of each time how many milliseconds it took and how many bytes came.
    async fn figures(
        &self,
        name: &str,
        mut run: impl AsyncFnMut() -> Result<Vec<(f64, u64)>>,
    ) -> Result<Vec<Figure>> {
        let mut runs = Vec::with_capacity(self.plan.runs);
        for _ in 0..self.plan.runs {
            runs.push(self.metered(&mut run).await?);
        }
        let each = |f: &dyn Fn(&Run) -> Option<f64>| runs.iter().filter_map(f).collect::<Vec<_>>();
        let times = each(&|run| Some(run.milliseconds));
        let figure = Figure::of(name, "ms", times).map(|figure| Figure {
            cpu_us_per_unit: median(&each(&|run| run.cpu_us)),
            p50_ms: Some(figure.value),
            p99_ms: median(&each(&|run| Some(run.p99_ms))),
            ..figure
        });
        let bytes = Figure::of(format!("{name}: came"), "B", each(&|run| Some(run.bytes)));
        let reads = each(&|run| run.reads);
        let reads = Figure::of(format!("{name}: store asked"), "reads", reads);
        let rows = Figure::of(format!("{name}: store gave"), "rows", each(&|run| run.rows));
        Ok([figure, bytes, reads, rows].into_iter().flatten().collect())
    }

    async fn metered(&self, run: &mut impl AsyncFnMut() -> Result<Vec<(f64, u64)>>) -> Result<Run> {
        let Plan { meter, process, .. } = self.plan;
        let reads = async || match meter {
            Some(meter) => meter.reads().await.map(Some),
            None => Ok(None),
        };
        let cpu = || process.and_then(|process| process.cpu());
        let (before, cpu_before) = (reads().await?, cpu());
        let times = run().await?;
        let (cpu_after, after) = (cpu(), reads().await?);
        let each = |all: f64| all / times.len() as f64;
        let read = before.zip(after);
        let mut taken: Vec<_> = times.iter().map(|(taken, _)| *taken).collect();
        taken.sort_by(f64::total_cmp);
        Ok(Run {
            milliseconds: median(&taken).context("it was done once")?,
            p99_ms: taken[(taken.len() * 99).div_ceil(100) - 1],
            bytes: each(times.iter().map(|(_, bytes)| *bytes as f64).sum()),
            reads: read.map(|(before, after)| each((after.asked - before.asked) as f64)),
            rows: read.map(|(before, after)| each((after.rows - before.rows) as f64)),
            cpu_us: cpu_before
                .zip(cpu_after)
                .map(|(before, after)| each((after - before).as_secs_f64() * 1e6)),
        })
    }

    /// Comes back with a cursor again and again: from the first byte of the connection to the whole welcome,
    /// and goodbye.
    async fn welcomes(
        &self,
        name: &str,
        account: &Account,
        cursor: &[u8],
        is_right: impl Fn(&Welcome) -> bool,
    ) -> Result<Vec<Figure>> {
        self.measure(name, async || {
            self.welcome(account, cursor, &is_right).await
        })
        .await
    }

    /// Comes back once, and gives how many bytes came.
    async fn welcome(
        &self,
        account: &Account,
        cursor: &[u8],
        is_right: impl Fn(&Welcome) -> bool,
    ) -> Result<u64> {
        let (socket, welcome) = self.come_back(account, cursor).await?;
        let bytes = socket.received_bytes();
        ensure!(
            is_right(&welcome),
            "another answer than the one to be measured"
        );
        socket.close().await;
        Ok(bytes)
    }

    /// Many come back in one second, each of whom is in many chats and missed a message in some of them.
    async fn at_rate(&self) -> Result<Vec<Figure>> {
        let (missed, chats) = (MISSED[0].0, self.plan.chats);
        let mut users = Vec::with_capacity(AT_RATE_USERS);
        for _ in 0..AT_RATE_USERS {
            let mut people = self.server.accounts(2).await?;
            let (user, other) = (people.remove(0), people.remove(0));
            let chats = self
                .server
                .groups(&other, std::slice::from_ref(&user), chats)
                .await?;
            let cursor = self.cursor(&user).await?;
            let mut talk = self.talk(&other).await?;
            for chat in chats.into_iter().cycle().take(missed as usize) {
                talk.say(chat, 1, TEXT_BYTES).await?;
            }
            talk.close().await;
            users.push((user, cursor));
        }
        let name = format!("{chats} chats, {missed} missed, {RATE} come back a second");
        let is_right = |welcome: &Welcome| match &welcome.missed.answer {
            Some(Answer::Delta(delta)) => delta.events.len() as u64 == missed,
            _ => false,
        };
        self.measure_at_rate(&name, async |n| {
            let (user, cursor) = &users[n % AT_RATE_USERS];
            self.welcome(user, cursor, is_right).await
        })
        .await
    }

    /// Many messages were missed in one chat: the answer, and when it does not list them, reading all of them.
    async fn missed(&self, pair: &Pair, missed: u64, is_listed: bool) -> Result<Vec<Figure>> {
        let [reader, writer] = &pair.ends;
        let cursor = self.cursor(reader).await?;
        let mut talk = self.talk(writer).await?;
        talk.say(pair.chat_id, missed, TEXT_BYTES).await?;
        talk.close().await;
        let name = format!("connect, {missed} missed");
        let is_right = if is_listed { is_delta } else { is_changed };
        let mut figures = self.welcomes(&name, reader, &cursor, is_right).await?;
        if !is_listed {
            let name = format!("{name}, all read");
            let filled = self.measure(&name, async || {
                let (socket, _) = self.come_back(reader, &cursor).await?;
                let mut talk = Talk::new(socket);
                let read = talk.read_all(pair.chat_id).await?;
                ensure!(read >= missed, "only {read} events were read");
                let bytes = talk.received_bytes();
                talk.close().await;
                Ok(bytes)
            });
            figures.extend(filled.await?);
        }
        Ok(figures)
    }

    /// A user in so many chats, with a message in each.
    async fn in_chats(&self, count: usize) -> Result<Account> {
        let user = self.server.accounts(1).await?.remove(0);
        let chats = self.server.groups(&user, &[], count).await?;
        let mut talk = self.talk(&user).await?;
        for chat in chats {
            talk.say(chat, 1, TEXT_BYTES).await?;
        }
        talk.close().await;
        Ok(user)
    }

    /// A device holds a part of a log, much happens above it, and some of what it holds is changed: what does it
    /// take to learn that much happened, and which of the held messages are others now?
    async fn changes_below(&self, pair: &Pair) -> Result<Vec<Figure>> {
        let [reader, writer] = &pair.ends;
        let chat_id = pair.chat_id;
        let mut talk = self.talk(writer).await?;
        talk.say(chat_id, HELD, TEXT_BYTES).await?;
        let cursor = self.cursor(reader).await?;
        talk.say(chat_id, self.plan.events, TEXT_BYTES).await?;
        talk.change(chat_id, HELD as i64).await?;
        talk.close().await;
        let name = format!(
            "{} changes below {} new events",
            2 * CHANGED,
            self.plan.events
        );
        self.measure(&name, async || {
            let (socket, welcome) = self.come_back(reader, &cursor).await?;
            ensure!(
                is_changed(&welcome),
                "another answer than the one to be measured"
            );
            let mut talk = Talk::new(socket);
            let changed = talk.changed(chat_id, HELD as i64).await?;
            ensure!(
                changed == 2 * CHANGED,
                "{changed} messages are said to have changed"
            );
            let bytes = talk.received_bytes();
            talk.close().await;
            Ok(bytes)
        })
        .await
    }

    /// A device holds a long log to its end, and then some of its messages are changed.
    async fn changes_above(&self, pair: &Pair) -> Result<Vec<Figure>> {
        let [reader, writer] = &pair.ends;
        let chat_id = pair.chat_id;
        let mut talk = self.talk(writer).await?;
        talk.say(chat_id, self.plan.events, TEXT_BYTES).await?;
        let cursor = self.cursor(reader).await?;
        talk.change(chat_id, self.plan.events as i64).await?;
        talk.close().await;
        let name = format!(
            "{} changes above {} held events",
            2 * CHANGED,
            self.plan.events
        );
        let all = |welcome: &Welcome| match &welcome.missed.answer {
            Some(Answer::Delta(delta)) => delta.events.len() as i64 == 2 * CHANGED,
            _ => false,
        };
        self.welcomes(&name, reader, &cursor, all).await
    }

    async fn come_back(&self, account: &Account, cursor: &[u8]) -> Result<(Socket, Welcome)> {
        let token = &account.access_token;
        Socket::resume(self.server.0, None, token, cursor.to_vec()).await
    }

    async fn cursor(&self, account: &Account) -> Result<Vec<u8>> {
        let (socket, welcome) = self.come_back(account, &[]).await?;
        socket.close().await;
        Ok(welcome.missed.cursor.clone())
    }

    async fn talk(&self, account: &Account) -> Result<Talk> {
        let (socket, _) = self.come_back(account, &[]).await?;
        Ok(Talk::new(socket))
    }
}

impl Talk {
    /// Edits some and deletes as many of the messages up to a seq, spread over them.
    async fn change(&mut self, chat_id: i64, up_to: i64) -> Result<()> {
        for n in 0..CHANGED {
            let message_seq = 1 + n * (up_to / CHANGED);
            let edit = EditMessageRequest {
                chat_id,
                message_seq,
                text: format!("{:TEXT_BYTES$}", "another text"),
                ..Default::default()
            };
            let method = format!("{MESSAGES}/EditMessage");
            let _: EditMessageResponse = self.call(&method, &edit).await?;
            let delete = DeleteMessagesRequest {
                chat_id,
                message_seqs: vec![message_seq + 1],
                ..Default::default()
            };
            let method = format!("{MESSAGES}/DeleteMessages");
            let _: DeleteMessagesResponse = self.call(&method, &delete).await?;
        }
        Ok(())
    }

    /// Asks which of the messages up to a seq were changed after it; how many.
    async fn changed(&mut self, chat_id: i64, up_to: i64) -> Result<i64> {
        let (mut after_seq, mut changed) = (up_to, 0);
        loop {
            let request = ListChangesRequest {
                chat_id,
                from_seq: 1,
                to_seq: up_to,
                after_seq,
                limit: CHANGES_PAGE,
                ..Default::default()
            };
            let method = format!("{CHATS}/ListChanges");
            let answer: ListChangesResponse = self.call(&method, &request).await?;
            changed += answer.events.len() as i64;
            if !answer.more {
                return Ok(changed);
            }
            is_all(answer.through_seq <= after_seq)?;
            after_seq = answer.through_seq;
        }
    }

    /// Reads a log from its start to its end; how many events it has.
    async fn read_all(&mut self, chat_id: i64) -> Result<u64> {
        let mut last = 0;
        loop {
            let request = ListEventsRequest {
                chat_id,
                from: Some(From::AfterSeq(last)),
                limit: EVENTS_PAGE,
                ..Default::default()
            };
            let method = format!("{CHATS}/ListEvents");
            let answer: ListEventsResponse = self.call(&method, &request).await?;
            match answer.events.last() {
                Some(event) => last = event.seq,
                None => return Ok(last.cast_unsigned()),
            }
            if last >= answer.head {
                return Ok(last.cast_unsigned());
            }
        }
    }
}
