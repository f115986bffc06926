//! People as they use a chat, after a published scenario: log in; then three times: pause, load the chats and the
//! profiles, pause, load one chat's history, pause, four messages with a pause after each. Then they leave, and begin
//! anew. What is asked is how many such people a server holds before their calls become slow.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use tertulia_proto::chats::list_events_request::From;
use tertulia_proto::chats::{
    ListChatsRequest, ListChatsResponse, ListEventsRequest, ListEventsResponse,
};
use tertulia_proto::users::{GetUsersRequest, GetUsersResponse};
use tokio::time::{Instant, sleep, sleep_until};

use super::idle::source;
use super::people::{Account, Pair, Server};
use super::proc::Process;
use super::progress::Progress;
use super::report::{Figure, milliseconds};
use super::socket::Socket;
use super::talk::Talk;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Over how long people arrive.
    pub arrival: Duration,
    /// How long is measured once all are there.
    pub measured: Duration,
    /// The server's process, when it is on this machine.
    pub process: Option<Process>,
}

/// How often people look at their chats before they leave.
const LOOKS: usize = 3;
/// How many messages they write each time.
const MESSAGES: usize = 4;
/// How long they pause at least and at most.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 3_000..=5_000;
/// How long a text is.
const TEXT_BYTES: usize = 128;
/// How much is loaded at once.
const PAGE: u32 = 50;

/// What people do.
#[derive(Debug, Clone, Copy)]
enum Step {
    Login,
    Connect,
    Chats,
    Profiles,
    History,
    Message,
}

const STEPS: [(Step, &str); 6] = [
    (Step::Login, "log in"),
    (Step::Connect, "connect"),
    (Step::Chats, "load chats"),
    (Step::Profiles, "load profiles"),
    (Step::History, "load history"),
    (Step::Message, "send a message"),
];

/// What all people write into. Everything runs on one thread.
struct Tally {
    counting: Cell<bool>,
    times: [RefCell<Histogram<u64>>; STEPS.len()],
}

impl Tally {
    fn new() -> Self {
        let histogram = || RefCell::new(Histogram::new(3).expect("three digits are allowed"));
        Tally {
            counting: Cell::new(false),
            times: std::array::from_fn(|_| histogram()),
        }
    }

    /// Takes the time of a step.
    async fn time<T>(&self, step: Step, work: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let done = work.await?;
        if self.counting.get() {
            let taken = began.elapsed().as_nanos() as u64;
            // It was made to grow, so that it takes any time.
            _ = self.times[step as usize].borrow_mut().record(taken);
        }
        Ok(done)
    }
}

/// Lets both of every pair be people for a while.
///
/// # Errors
/// When a call fails.
pub async fn run(server: Server, pairs: &[Pair], plan: &Plan) -> Result<Vec<Figure>> {
    let people = pairs.len() * 2;
    let tally = Tally::new();
    let start = Instant::now();
    let (full, end) = (start + plan.arrival, start + plan.arrival + plan.measured);
    let mut living = FuturesUnordered::new();
    for (n, (pair, me)) in pairs
        .iter()
        .flat_map(|pair| [(pair, 0), (pair, 1)])
        .enumerate()
    {
        let person = Person {
            server,
            tally: &tally,
            number: n,
            me: &pair.ends[me],
            other: &pair.ends[1 - me],
            chat_id: pair.chat_id,
        };
        let arrives = start + plan.arrival.mul_f64(n as f64 / people as f64);
        living.push(person.live(arrives));
    }
    let cpu = || plan.process.and_then(|process| process.cpu());
    let progress = Progress::of("seconds", (plan.arrival + plan.measured).as_secs());
    let mut cpu_before = None;
    loop {
        let now = Instant::now();
        let next = if now < full { full } else { end };
        tokio::select! {
            () = sleep_until(next.min(now + Duration::from_secs(1))) => {}
            Some(ended) = living.next() => {
                let never = ended.context("somebody could not go on")?;
                match never {}
            }
        }
        progress.at(start.elapsed().as_secs());
        if Instant::now() >= end {
            break;
        }
        if Instant::now() >= full && !tally.counting.get() {
            tally.counting.set(true);
            cpu_before = cpu();
        }
    }
    let cpu_taken = cpu().zip(cpu_before).map(|(end, begin)| end - begin);
    figures(people, plan, &tally, cpu_taken)
}

/// Somebody.
struct Person<'a> {
    server: Server,
    tally: &'a Tally,
    number: usize,
    me: &'a Account,
    other: &'a Account,
    chat_id: i64,
}

impl Person<'_> {
    /// Comes again and again.
    async fn live(self, arrives: Instant) -> Result<Infallible> {
        sleep_until(arrives).await;
        loop {
            self.visit().await?;
        }
    }

    async fn visit(&self) -> Result<()> {
        let Person { server, tally, .. } = self;
        let token = tally.time(Step::Login, server.login(self.me)).await?;
        let from = source(server.0.ip(), self.number);
        let open = Socket::open(server.0, from, &token);
        let (socket, _) = tally.time(Step::Connect, open).await?;
        let mut talk = Talk::new(socket);
        for _ in 0..LOOKS {
            pause().await;
            self.load_chats(&mut talk).await?;
            pause().await;
            self.load_history(&mut talk).await?;
            pause().await;
            for _ in 0..MESSAGES {
                let say = talk.say(self.chat_id, 1, TEXT_BYTES);
                tally.time(Step::Message, say).await?;
                pause().await;
            }
        }
        talk.close().await;
        Ok(())
    }

    async fn load_chats(&self, talk: &mut Talk) -> Result<()> {
        let request = ListChatsRequest {
            limit: PAGE,
            ..Default::default()
        };
        let call = talk.call("tertulia.chats.v1.ChatsService/ListChats", &request);
        let chats: ListChatsResponse = self.tally.time(Step::Chats, call).await?;
        ensure!(!chats.chats.is_empty(), "somebody's chat is not listed");
        let request = GetUsersRequest {
            user_ids: vec![self.other.user_id],
            ..Default::default()
        };
        let call = talk.call("tertulia.users.v1.UsersService/GetUsers", &request);
        let users: GetUsersResponse = self.tally.time(Step::Profiles, call).await?;
        ensure!(users.users.len() == 1, "somebody's friend is not there");
        Ok(())
    }

    async fn load_history(&self, talk: &mut Talk) -> Result<()> {
        let request = ListEventsRequest {
            chat_id: self.chat_id,
            from: Some(From::BeforeSeq(0)),
            limit: PAGE,
            ..Default::default()
        };
        let call = talk.call("tertulia.chats.v1.ChatsService/ListEvents", &request);
        let _: ListEventsResponse = self.tally.time(Step::History, call).await?;
        Ok(())
    }
}

async fn pause() {
    sleep(Duration::from_millis(rand::random_range(PAUSE_MS))).await;
}

fn figures(
    people: usize,
    plan: &Plan,
    tally: &Tally,
    cpu: Option<Duration>,
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let seconds = plan.measured.as_secs_f64();
    for (step, name) in STEPS {
        let times = tally.times[step as usize].borrow();
        let rate = times.len() as f64 / seconds;
        let figure = Figure::of(format!("{people} people: {name}"), "1/s", vec![rate]);
        figures.push(Figure {
            p50_ms: Some(milliseconds(&times, 0.5)),
            p99_ms: Some(milliseconds(&times, 0.99)),
            ..figure.context("there is a run")?
        });
    }
    let share = cpu.map(|cpu| 100.0 * cpu.as_secs_f64() / seconds);
    figures.extend(Figure::of(
        format!("{people} people: server CPU"),
        "% of a core",
        share.into_iter().collect(),
    ));
    Ok(figures)
}
