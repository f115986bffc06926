//! A chat in which so much is said to so many that the machine has its hands full, and what that does to pairs of
//! people who talk beside it. Those in the chat are either told everything, or told that they are behind; the
//! others should hardly notice.
//!
//! Those who hear the chat stand for clients on other machines, so their thread steps back behind everything
//! else here, and the pairs talk from a thread of their own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::sync::oneshot;

use super::direct;
use super::group::{self, Flow};
use super::measure::Window;
use super::people::{Account, Pair, Server};
use super::proc::{Process, step_back};
use super::report::{Figure, milliseconds};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often.
    pub runs: usize,
    /// Messages a second into the chat.
    pub rate: f64,
    /// How long they are.
    pub text_bytes: usize,
    /// How many of those who hear the chat read nothing.
    pub slow: usize,
    /// Messages a second between the pairs.
    pub pairs_rate: f64,
    /// How long is measured.
    pub measured: Duration,
    /// How long it runs before.
    pub warm_up: Duration,
    /// The server's process, when it is on this machine.
    pub process: Option<Process>,
}

/// Who is there.
#[derive(Debug, Clone)]
pub struct People {
    /// How many members the channel has.
    pub all: usize,
    /// Those of them who are connected; the first one writes.
    pub members: Arc<[Account]>,
    /// The channel.
    pub chat_id: i64,
    /// The others.
    pub pairs: Arc<[Pair]>,
}

/// One run.
pub struct Outcome {
    /// The pairs while everybody was there and the chat was quiet.
    pub quiet: direct::Outcome,
    /// The pairs while the chat was not.
    pub loud: direct::Outcome,
    /// The chat.
    pub chat: group::Outcome,
}

/// For a server with so many accounts: passwords that are hashed as fast as they may be.
pub const SETTINGS: &[&str] = &[
    "identity.argon2_memory_kib=8192",
    "identity.argon2_passes=1",
];

impl People {
    /// Makes the channel with its members, of whom so many will be connected, and the pairs.
    ///
    /// # Errors
    /// When one can not be made.
    pub async fn make(server: Server, all: usize, online: usize, pairs: usize) -> Result<Self> {
        let pairs = server.pairs(pairs).await?.into();
        let mut members = server.accounts(all).await?;
        let (owner, others) = members.split_first().context("there is an owner")?;
        let chat_id = server.channel(owner, others).await?;
        members.truncate(online);
        Ok(People {
            all,
            members: members.into(),
            chat_id,
            pairs,
        })
    }

    /// The same with fewer who are connected.
    pub fn fewer(&self, online: usize) -> Self {
        let online = online.min(self.members.len());
        People {
            members: self.members[..online].into(),
            ..self.clone()
        }
    }
}

impl Plan {
    /// What is measured, in a few words.
    pub fn name(&self, people: &People) -> String {
        let (all, online) = (people.all, people.members.len());
        let slow = match self.slow {
            0 => String::new(),
            slow => format!(", {slow} read nothing"),
        };
        format!("channel of {all}, {online} online{slow}, {}/s", self.rate)
    }
}

/// How long a text of the pairs is.
const PAIRS_TEXT_BYTES: usize = 128;
/// How many messages of one of a pair are unanswered at most.
const PAIRS_IN_FLIGHT: usize = 16;

impl Outcome {
    /// How many times longer a message of a pair takes to the other end beside the loud chat.
    pub fn ratio(&self, quantile: f64) -> f64 {
        let time = |outcome: &direct::Outcome| milliseconds(&outcome.delivery_ns, quantile);
        time(&self.loud) / time(&self.quiet)
    }
}

/// Runs the plan as often as it says.
///
/// # Errors
/// When it can not be done, or a delivery promise was broken.
pub async fn run(server: Server, people: &People, plan: &Plan) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(plan.runs);
    for _ in 0..plan.runs {
        let (quiet, _) = beside(server, people, plan, false).await?;
        let (loud, chat) = beside(server, people, plan, true).await?;
        outcomes.push(Outcome { quiet, loud, chat });
    }
    Ok(outcomes)
}

/// The pairs talk beside the chat.
async fn beside(
    server: Server,
    people: &People,
    plan: &Plan,
    loud: bool,
) -> Result<(direct::Outcome, group::Outcome)> {
    let group = group::Plan {
        writers: usize::from(loud),
        flow: Flow::Paced(plan.rate),
        text_bytes: plan.text_bytes,
        warm: true,
        slow: plan.slow,
        window: Window {
            warm_up: plan.warm_up,
            measured: plan.measured,
            server: plan.process.into_iter().collect(),
            database: None,
        },
    };
    let (tell, told) = oneshot::channel();
    let (tell_open, told_open) = oneshot::channel();
    let (members, chat_id) = (Arc::clone(&people.members), people.chat_id);
    std::thread::Builder::new()
        .name("chat".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
                let opened = || {
                    step_back();
                    // Who does not wait for it any more has been told why.
                    _ = tell_open.send(());
                };
                runtime.block_on(group::run(server, &members, chat_id, &group, opened))
            });
            _ = tell.send(outcome);
        })?;
    // When they could not be opened the outcome says why.
    if told_open.await.is_err() {
        told.await??;
        anyhow::bail!("the chat ended before it began");
    }
    let direct = direct::Plan {
        in_flight: PAIRS_IN_FLIGHT,
        rate: Some(plan.pairs_rate),
        measured: plan.measured,
        warm_up: plan.warm_up,
        text_bytes: PAIRS_TEXT_BYTES,
        server: plan.process.into_iter().collect(),
        database: None,
    };
    let pairs = direct::run(&[server], &people.pairs, &direct, || {}).await?;
    let chat = told.await.context("the chat ended without a word")??;
    for violations in [pairs.violations, chat.violations] {
        ensure!(
            violations.total() == 0,
            "a promise was broken: {violations:?}"
        );
    }
    Ok((pairs, chat))
}

/// The figures of several runs.
pub fn figures(name: &str, outcomes: &[Outcome]) -> Vec<Figure> {
    let each =
        |f: &dyn Fn(&Outcome) -> Option<f64>| outcomes.iter().filter_map(f).collect::<Vec<f64>>();
    let chats: Vec<group::Outcome> = outcomes.iter().map(|o| o.chat.clone()).collect();
    let mut figures: Vec<Figure> = Figure::of_group(name, &chats).into_iter().collect();
    let told = |f: &dyn Fn(&group::Outcome) -> f64| each(&|o| Some(f(&o.chat)));
    let quiet: Vec<direct::Outcome> = outcomes.iter().map(|o| o.quiet.clone()).collect();
    let loud: Vec<direct::Outcome> = outcomes.iter().map(|o| o.loud.clone()).collect();
    let rows = [
        ("told behind", "times", told(&|o| o.behind as f64)),
        (
            "told by the head only",
            "events",
            told(&|o| o.skipped as f64),
        ),
        (
            "memory of the server grew",
            "MiB",
            each(&|o| Some(o.chat.reading.server_grown_bytes? / 1_048_576.0)),
        ),
        (
            "others' p50, loud : quiet",
            "times",
            each(&|o| Some(o.ratio(0.5))),
        ),
        (
            "others' p99, loud : quiet",
            "times",
            each(&|o| Some(o.ratio(0.99))),
        ),
    ];
    for (what, unit, runs) in rows {
        figures.extend(Figure::of(format!("{name}: {what}"), unit, runs));
    }
    figures.extend(Figure::of_direct(&format!("{name}: others, quiet"), &quiet));
    figures.extend(Figure::of_direct(&format!("{name}: others, loud"), &loud));
    figures
}
