//! All connections drop at once, something is said meanwhile, and everybody comes back at once: how long it takes
//! until the last one is back and knows what it missed, beside an unhurried return of as many, and what pairs of
//! people notice who talk all the while.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tertulia_proto::live::Welcome;
use tertulia_proto::live::missed::Answer;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use super::direct;
use super::idle::source;
use super::meter::Meter;
use super::people::{Account, Pair, Server};
use super::proc::Process;
use super::progress::Progress;
use super::report::{Figure, Readable, median, milliseconds};
use super::socket::Socket;
use super::talk::Talk;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often.
    pub runs: usize,
    /// How many connections.
    pub connections: usize,
    /// How many messages everybody misses.
    pub missed: u64,
    /// Messages a second between the pairs.
    pub pairs_rate: f64,
    /// The server's numbers, when they can be read.
    pub meter: Option<Meter>,
    /// The server's process, when it is on this machine.
    pub process: Option<Process>,
}

/// Who is there.
#[derive(Debug, Clone)]
pub struct People {
    /// Whose connections drop, several for each; the first one writes while they are away.
    pub members: Arc<[Account]>,
    /// The group of all of them.
    pub chat_id: i64,
    /// Those who talk beside it and stay.
    pub pairs: Arc<[Pair]>,
}

impl People {
    /// Makes so many accounts with a group, and the pairs.
    ///
    /// # Errors
    /// When one can not be made.
    pub async fn make(server: Server, accounts: usize, pairs: usize) -> Result<Self> {
        let pairs = server.pairs(pairs).await?.into();
        let members = server.accounts(accounts).await?;
        let (owner, others) = members.split_first().context("there is an owner")?;
        let chat_id = server.groups(owner, others, 1).await?.remove(0);
        Ok(People {
            members: members.into(),
            chat_id,
            pairs,
        })
    }
}

/// How one return went.
#[derive(Debug, Clone, Copy)]
struct Return {
    /// From the first connection to the last welcome.
    took: Duration,
    /// How long one in a hundred waited at least for the welcome.
    p99: Duration,
    /// How often a client had to try again.
    again: u64,
    /// How often the store was asked.
    reads: Option<u64>,
    /// The server's processor time.
    cpu: Option<Duration>,
    /// How long one in a hundred messages of the pairs took at least.
    others_p99_ms: f64,
}

/// How many come back at once when nobody hurries.
const UNHURRIED: usize = 128;
/// How long a client tries to come back.
const GIVE_UP: Duration = Duration::from_secs(60);
/// What a client waits for at most before it tries again; the real wait is drawn below that.
const AGAIN: Duration = Duration::from_millis(500);
/// How long the pairs are watched, from the moment in which all come back.
const WATCHED: Duration = Duration::from_secs(4);
const TEXT_BYTES: usize = 128;
const PAIRS_IN_FLIGHT: usize = 16;

/// Takes every figure.
///
/// # Errors
/// When somebody does not come back in time, or was not told what was missed.
pub async fn run(server: Server, people: &People, plan: &Plan) -> Result<Vec<Figure>> {
    LocalSet::new()
        .run_until(run_here(server, people, plan))
        .await
}

async fn run_here(server: Server, people: &People, plan: &Plan) -> Result<Vec<Figure>> {
    let storm = Storm {
        server,
        people,
        plan,
    };
    let mut cursors = storm.begin().await?;
    let (mut calm, mut hurried) = (Vec::new(), Vec::new());
    for _ in 0..plan.runs {
        calm.push(storm.blow(&mut cursors, UNHURRIED).await?);
        hurried.push(storm.blow(&mut cursors, plan.connections).await?);
    }
    let quiet = talk_beside(server, people, plan, || {}).await?;
    Ok(figures(plan, &calm, &hurried, quiet))
}

struct Storm<'a> {
    server: Server,
    people: &'a People,
    plan: &'a Plan,
}

impl Storm<'_> {
    /// Connects everybody once for a cursor each.
    async fn begin(&self) -> Result<Vec<Vec<u8>>> {
        let numbers = stream::iter(0..self.plan.connections);
        let opening = numbers.map(|n| async move {
            let from = source(self.server.0.ip(), n);
            let (_, welcome) = Socket::open(self.server.0, from, self.token(n)).await?;
            anyhow::Ok(welcome.missed.cursor.clone())
        });
        opening.buffered(UNHURRIED).try_collect().await
    }

    /// Nobody is there; something is said; then everybody comes back, so many at once, and rests until all have.
    async fn blow(&self, cursors: &mut [Vec<u8>], at_once: usize) -> Result<Return> {
        let writer = &self.people.members[0];
        let (socket, _) = Socket::open(self.server.0, None, &writer.access_token).await?;
        let mut talk = Talk::new(socket);
        let chat_id = self.people.chat_id;
        talk.say(chat_id, self.plan.missed, TEXT_BYTES).await?;
        talk.close().await;

        let (told_open, beside) = beside(self.server, self.people, self.plan)?;
        // When they could not be opened their outcome says why, in the end.
        _ = told_open.await;
        let cpu = || self.plan.process.and_then(|process| process.cpu());
        let reads = async || match self.plan.meter {
            Some(meter) => meter.reads().await.map(|reads| Some(reads.asked)),
            None => Ok(None),
        };
        let (reads_before, cpu_before) = (reads().await?, cpu());
        let progress = Progress::of("back", cursors.len() as u64);
        let mut back = JoinSet::new();
        let (mut waited, mut again) = (Vec::with_capacity(cursors.len()), 0);
        let began = Instant::now();
        {
            let cursors = &*cursors;
            let coming = stream::iter(0..cursors.len()).map(|n| self.come_back(n, &cursors[n]));
            let mut coming = coming.buffer_unordered(at_once);
            while let Some(one) = coming.try_next().await? {
                waited.push((one.number, one.waited, one.cursor));
                again += one.again;
                progress.one();
                back.spawn_local(one.socket.rest());
            }
        }
        let took = began.elapsed();
        let (cpu_after, reads_after) = (cpu(), reads().await?);
        let others_p99_ms = beside.await.context("the pairs ended without a word")??;
        ensure!(
            back.try_join_next().is_none(),
            "a session ended before all were back"
        );
        let mut times = Vec::with_capacity(waited.len());
        for (number, time, cursor) in waited {
            cursors[number] = cursor;
            times.push(time);
        }
        times.sort_unstable();
        // All at once, without a word.
        back.shutdown().await;
        Ok(Return {
            took,
            p99: times[(times.len() * 99).div_ceil(100) - 1],
            again,
            reads: reads_before.zip(reads_after).map(|(b, a)| a - b),
            cpu: cpu_before.zip(cpu_after).map(|(b, a)| a - b),
            others_p99_ms,
        })
    }

    /// Comes back, trying again as clients do, and checks that all that was missed is told.
    async fn come_back(&self, number: usize, cursor: &[u8]) -> Result<Back> {
        let (began, mut again) = (Instant::now(), 0);
        let from = source(self.server.0.ip(), number);
        loop {
            let token = self.token(number);
            match Socket::resume(self.server.0, from, token, cursor.to_vec()).await {
                Ok((socket, welcome)) => {
                    self.is_all(&welcome)?;
                    return Ok(Back {
                        number,
                        socket,
                        cursor: welcome.missed.cursor.clone(),
                        waited: began.elapsed(),
                        again,
                    });
                }
                Err(why) if began.elapsed() > GIVE_UP => {
                    return Err(why.context(format!("not back in {GIVE_UP:?}")));
                }
                Err(_) => {
                    again += 1;
                    tokio::time::sleep(AGAIN.mul_f64(rand::random::<f64>())).await;
                }
            }
        }
    }

    fn is_all(&self, welcome: &Welcome) -> Result<()> {
        let Some(Answer::Delta(delta)) = &welcome.missed.answer else {
            anyhow::bail!("another answer than the events that were missed");
        };
        let missed = delta.events.iter();
        let missed = missed.filter(|event| event.chat_id == self.people.chat_id);
        ensure!(
            missed.count() as u64 == self.plan.missed,
            "not all that was missed is told"
        );
        Ok(())
    }

    fn token(&self, number: usize) -> &str {
        &self.people.members[number % self.people.members.len()].access_token
    }
}

/// A client that is back.
struct Back {
    number: usize,
    socket: Socket,
    cursor: Vec<u8>,
    waited: Duration,
    again: u64,
}

type Told<T> = oneshot::Receiver<T>;

/// Lets the pairs talk on a thread of their own; tells when they are connected, and their p99 when it is over.
fn beside(server: Server, people: &People, plan: &Plan) -> Result<(Told<()>, Told<Result<f64>>)> {
    let (tell_open, told_open) = oneshot::channel();
    let (tell, told) = oneshot::channel();
    let (people, plan) = (people.clone(), plan.clone());
    std::thread::Builder::new()
        .name("pairs".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let opened = || _ = tell_open.send(());
            let p99 = runtime
                .map_err(anyhow::Error::from)
                .and_then(|runtime| runtime.block_on(talk_beside(server, &people, &plan, opened)));
            // Nobody waits any more when the receiver is gone.
            _ = tell.send(p99);
        })?;
    Ok((told_open, told))
}

async fn talk_beside(
    server: Server,
    people: &People,
    plan: &Plan,
    opened: impl FnOnce(),
) -> Result<f64> {
    let direct = direct::Plan {
        in_flight: PAIRS_IN_FLIGHT,
        rate: Some(plan.pairs_rate),
        measured: WATCHED,
        warm_up: Duration::ZERO,
        text_bytes: TEXT_BYTES,
        server: plan.process.into_iter().collect(),
        database: None,
    };
    let outcome = direct::run(&[server], &people.pairs, &direct, opened).await?;
    let broken = outcome.violations;
    ensure!(broken.total() == 0, "a promise was broken: {broken:?}");
    Ok(milliseconds(&outcome.ack_ns, 0.99))
}

fn figures(plan: &Plan, calm: &[Return], hurried: &[Return], quiet: f64) -> Vec<Figure> {
    let n = plan.connections;
    let many = Readable(n as f64);
    let mut figures = Vec::new();
    for (name, returns) in [
        (format!("{many} come back unhurried"), calm),
        (format!("{many} come back at once"), hurried),
    ] {
        let each =
            |f: &dyn Fn(&Return) -> Option<f64>| returns.iter().filter_map(f).collect::<Vec<_>>();
        let took = each(&|r| Some(r.took.as_secs_f64()));
        let cpu = each(&|r| Some(r.cpu?.as_secs_f64() * 1e6 / n as f64));
        let p99 = each(&|r| Some(r.p99.as_secs_f64() * 1e3));
        figures.extend(Figure::of(&name, "s", took).map(|figure| Figure {
            cpu_us_per_unit: median(&cpu),
            p99_ms: median(&p99),
            ..figure
        }));
        let rows = [
            (
                "store asked",
                "reads/client",
                each(&|r| Some(r.reads? as f64 / n as f64)),
            ),
            ("tried again", "times", each(&|r| Some(r.again as f64))),
            ("others' ack p99", "ms", each(&|r| Some(r.others_p99_ms))),
        ];
        for (what, unit, runs) in rows {
            figures.extend(Figure::of(format!("{name}: {what}"), unit, runs));
        }
    }
    let ratios = calm.iter().zip(hurried);
    let ratios = ratios.map(|(calm, hurried)| hurried.took.div_duration_f64(calm.took));
    figures.extend(Figure::of(
        format!("{many} at once : unhurried"),
        "times",
        ratios.collect(),
    ));
    figures.extend(Figure::of(
        "others' ack p99, nothing else",
        "ms",
        vec![quiet],
    ));
    figures
}
