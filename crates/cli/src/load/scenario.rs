//! People as they use a chat, after a published scenario: log in; then three times: pause, load the chats and the
//! profiles, pause, load one chat's history, pause, four messages with a pause after each. Then they leave, and begin
//! anew. What is asked is how many such people a server holds before their calls become slow.
//!
//! A password costs the server what it would cost a thief, on purpose. So it is shown apart, and people may come with
//! the login that their device still has.

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
use super::report::{self, Figure, Readable, milliseconds};
use super::socket::Socket;
use super::talk::Talk;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Over how long people arrive.
    pub arrival: Duration,
    /// How long is measured once all are there.
    pub measured: Duration,
    /// How they log in.
    pub login: Login,
    /// The server's process, when it is on this machine.
    pub process: Option<Process>,
}

/// How people log in at the beginning of each visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Login {
    /// With their password, as on a new device.
    Password,
    /// With the refresh token that their device holds.
    Kept,
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
            login: plan.login,
            me: pair.ends[me].clone(),
            other_id: pair.ends[1 - me].user_id,
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
    login: Login,
    me: Account,
    other_id: i64,
    chat_id: i64,
}

impl Person<'_> {
    /// Comes again and again.
    async fn live(mut self, arrives: Instant) -> Result<Infallible> {
        sleep_until(arrives).await;
        loop {
            self.visit().await?;
        }
    }

    async fn visit(&mut self) -> Result<()> {
        let (server, tally) = (self.server, self.tally);
        match self.login {
            Login::Password => tally.time(Step::Login, server.login(&mut self.me)).await?,
            Login::Kept => {
                tally
                    .time(Step::Login, server.refresh(&mut self.me))
                    .await?
            }
        }
        let from = source(server.0.ip(), self.number);
        let open = Socket::open(server.0, from, &self.me.access_token);
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
            user_ids: vec![self.other_id],
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

/// So many accounts sign in so often each to see what it costs: few enough to be allowed to.
const LOGINS: (usize, usize) = (10, 5);

/// What it costs the server to check a password, one after the other.
///
/// # Errors
/// When one is not taken.
pub async fn password(server: Server, process: Option<Process>) -> Result<Option<Figure>> {
    let (accounts, times) = LOGINS;
    let mut accounts = server.accounts(accounts).await?;
    let mut taken = Vec::new();
    let cpu = || process.and_then(|process| process.cpu());
    let before = cpu();
    for account in &mut accounts {
        for _ in 0..times {
            let began = Instant::now();
            server.login(account).await?;
            taken.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    let cpu = cpu().zip(before).map(|(end, begin)| end - begin);
    let logins = taken.len() as f64;
    Ok(
        Figure::of("a password is checked", "ms", taken).map(|figure| Figure {
            cpu_us_per_unit: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / logins),
            ..figure
        }),
    )
}

fn figures(
    people: usize,
    plan: &Plan,
    tally: &Tally,
    cpu: Option<Duration>,
) -> Result<Vec<Figure>> {
    let how = match plan.login {
        Login::Password => "passwords",
        Login::Kept => "kept logins",
    };
    let name = format!("{} people with {how}", Readable(people as f64));
    let seconds = plan.measured.as_secs_f64();
    let row = |what: &str, times: &Histogram<u64>| {
        let rate = times.len() as f64 / seconds;
        let figure = Figure::of(format!("{name}: {what}"), "1/s", vec![rate]);
        figure.map(|figure| Figure {
            p50_ms: Some(milliseconds(times, 0.5)),
            p99_ms: Some(milliseconds(times, 0.99)),
            times_ms: report::times(times),
            ..figure
        })
    };
    let mut figures = Vec::new();
    // It was made to grow, so that it takes any time.
    let mut calls = Histogram::new(3).expect("three digits are allowed");
    for (step, what) in STEPS {
        let times = tally.times[step as usize].borrow();
        if !matches!(step, Step::Login) {
            calls.add(&*times)?;
        }
        figures.extend(row(what, &times));
    }
    let calls_made = calls.len();
    let all = row("all but logging in", &calls).map(|figure| Figure {
        cpu_us_per_unit: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / calls_made as f64),
        ..figure
    });
    figures.extend(all);
    let share = cpu.map(|cpu| 100.0 * cpu.as_secs_f64() / seconds);
    figures.extend(Figure::of(
        format!("{name}: server CPU"),
        "% of a core",
        share.into_iter().collect(),
    ));
    Ok(figures)
}
