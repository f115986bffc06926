//! Pairs of people who write to each other, as fast as the server answers or at a given pace.
//!
//! Nothing is believed: each end checks that every event of the chat comes once and in order, that the other's
//! messages come in the order in which they were written, and that an acknowledgement names the place at which
//! the message then appears.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use buffa::MessageView as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hdrhistogram::Histogram;
use tertulia_proto::chats::event::BodyView;
use tertulia_proto::chats::{Chat, EventView, SendMessageResponseView};
use tertulia_proto::live::connect_response::FrameView as Inbound;
use tertulia_proto::live::missed::{Answer, AnswerView};
use tertulia_proto::live::reply::ResultView;
use tertulia_proto::live::{Alive, CatchUp, ConnectResponseView, MissedView, ReplyView, Welcome};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, Sleep};

use super::people::{Pair, Server};
use super::proc::Process;
use super::progress::Progress;
use super::socket::{Socket, Turn};
use super::template::Template;

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
    /// The server's process, when it is on this machine.
    pub server: Option<Process>,
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
    /// The server's processor time.
    pub server_cpu: Option<Duration>,
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

/// What may never happen, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Violations {
    /// Events that did not come, of which the sender holds an acknowledgement or not.
    pub missing: u64,
    /// Events that came again.
    pub repeated: u64,
    /// Events before which one was left out.
    pub holes: u64,
    /// Messages that came in another order than they were written.
    pub disordered: u64,
    /// Acknowledgements that name another place than the event.
    pub misplaced: u64,
    /// Calls that were not answered in the end.
    pub unanswered: u64,
    /// Calls that failed.
    pub failed: u64,
}

impl Violations {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Violations {
            missing,
            repeated,
            holes,
            disordered,
            misplaced,
            unanswered,
            failed,
        } = *self;
        missing + repeated + holes + disordered + misplaced + unanswered + failed
    }
}

/// How long the last messages may take.
const DRAIN: Duration = Duration::from_secs(15);
/// The load goes on for a little longer than is measured.
const MARGIN: Duration = Duration::from_millis(20);
/// How often an end that waits looks whether the other has finished.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// A timer rings up to this late of itself. A message that was written later than that was late because the
/// server or the machine was slow, and its time counts from when it was due.
const TIMER_BLUR: Duration = Duration::from_millis(2);
/// So many connections are opened at once.
const OPENING: usize = 64;
/// A server that refuses so many calls is not measured any further.
const FAILED_MAX: u64 = 100;

/// Runs the plan with these pairs.
///
/// # Errors
/// When a session can not be opened or ends; violations are no error but part of the outcome.
pub async fn run(server: Server, pairs: &[Pair], plan: &Plan) -> Result<Outcome> {
    LocalSet::new()
        .run_until(run_here(server, pairs, plan))
        .await
}

async fn run_here(server: Server, pairs: &[Pair], plan: &Plan) -> Result<Outcome> {
    let run = Rc::new(Run::new(plan));
    let senders = (pairs.len() * 2) as f64;
    let ends = open(server.0, pairs).await?;

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
    let measured = measure(Rc::clone(&run), plan, start);
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
    let (taken, server_cpu, server_written_bytes, own_cpu) =
        reading.context("nothing was measured")?;
    let run = Rc::into_inner(run).ok_or_else(|| anyhow!("a session is still running"))?;
    Ok(Outcome {
        measured: taken,
        acked: run.acked.get(),
        delivered: run.delivered.get(),
        ack_ns: run.ack_ns.into_inner(),
        delivery_ns: run.delivery_ns.into_inner(),
        server_cpu,
        server_written_bytes,
        own_cpu,
        sent_in_all: run.sent.get(),
        violations: run.violations.get(),
        behind: run.behind.get(),
    })
}

type Reading = (Duration, Option<Duration>, Option<u64>, Option<Duration>);

async fn measure(run: Rc<Run>, plan: &Plan, start: Instant) -> Reading {
    tokio::time::sleep_until(start + plan.warm_up).await;
    let this = Process::this();
    let look = || {
        let server = plan.server;
        (
            server.and_then(|p| p.cpu()),
            server.and_then(|p| p.written_bytes()),
            this.cpu(),
            Instant::now(),
        )
    };
    let (cpu, written, own, began) = look();
    run.counting.set(true);
    let progress = Progress::of("seconds", plan.measured.as_secs());
    while began.elapsed() < plan.measured {
        let left = plan.measured - began.elapsed();
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
        progress.at(began.elapsed().as_secs());
    }
    run.counting.set(false);
    let (cpu_end, written_end, own_end, ended) = look();
    (
        ended - began,
        cpu_end
            .zip(cpu)
            .map(|(end, begin)| end.saturating_sub(begin)),
        written_end
            .zip(written)
            .map(|(end, begin)| end.saturating_sub(begin)),
        own_end
            .zip(own)
            .map(|(end, begin)| end.saturating_sub(begin)),
    )
}

/// What all ends of a run write into. Everything runs on one thread.
struct Run {
    base: Instant,
    in_flight: usize,
    counting: Cell<bool>,
    sent: Cell<u64>,
    acked: Cell<u64>,
    delivered: Cell<u64>,
    behind: Cell<u64>,
    violations: Cell<Violations>,
    ack_ns: RefCell<Histogram<u64>>,
    delivery_ns: RefCell<Histogram<u64>>,
}

impl Run {
    fn new(plan: &Plan) -> Self {
        let histogram = || RefCell::new(Histogram::new(3).expect("three digits are allowed"));
        Run {
            base: Instant::now(),
            in_flight: plan.in_flight,
            counting: Cell::new(false),
            sent: Cell::new(0),
            acked: Cell::new(0),
            delivered: Cell::new(0),
            behind: Cell::new(0),
            violations: Cell::default(),
            ack_ns: histogram(),
            delivery_ns: histogram(),
        }
    }

    fn stamp(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_nanos() as u64
    }

    fn violated(&self, count: impl FnOnce(&mut Violations)) {
        let mut violations = self.violations.get();
        count(&mut violations);
        self.violations.set(violations);
    }

    fn count(
        &self,
        counter: &Cell<u64>,
        histogram: &RefCell<Histogram<u64>>,
        due: u64,
        now: Instant,
    ) {
        if self.counting.get() {
            counter.set(counter.get() + 1);
            // It was made to grow, so that it takes any time.
            let taken = self.stamp(now).saturating_sub(due);
            _ = histogram.borrow_mut().record(taken);
        }
    }
}

/// What one end lets the other know.
#[derive(Default)]
struct Side {
    sent: Cell<u64>,
    finished: Cell<bool>,
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

/// Opens both ends of every pair.
async fn open(server: SocketAddr, pairs: &[Pair]) -> Result<Vec<Opened>> {
    let progress = Progress::of("sessions", pairs.len() as u64 * 2);
    let progress = &progress;
    let opening = pairs.iter().enumerate().flat_map(|(n, pair)| {
        let sides = Rc::new([Side::default(), Side::default()]);
        [0, 1].map(|me| {
            let sides = Rc::clone(&sides);
            async move {
                let (socket, welcome) =
                    Socket::open(server, None, &pair.ends[me].access_token).await?;
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
fn head_of(welcome: &Welcome, chat_id: i64) -> Result<i64> {
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

struct Pace {
    next: Instant,
    interval: Duration,
}

/// One end of a pair.
struct End {
    socket: Socket,
    run: Rc<Run>,
    sides: Rc<[Side; 2]>,
    me: usize,
    user_id: i64,
    template: Template,
    chat_id: i64,
    /// The newest that the server gave.
    cursor: Vec<u8>,
    last_seq: i64,
    /// Messages of which the answer or the event has not come, oldest first.
    pending: VecDeque<Pending>,
    first_pending: u64,
    unanswered: usize,
    next_from_other: u64,
    pace: Option<Pace>,
    stop: Instant,
}

struct Pending {
    due: u64,
    acked_seq: Option<i64>,
    event_seq: Option<i64>,
}

impl End {
    async fn talk(mut self) -> Result<()> {
        let alarm = tokio::time::sleep_until(self.stop);
        tokio::pin!(alarm);
        self.write_until_stop(alarm.as_mut()).await?;
        self.sides[self.me].finished.set(true);
        self.hear_the_rest(alarm).await?;
        self.socket.close().await;
        Ok(())
    }

    async fn write_until_stop(&mut self, mut alarm: Pin<&mut Sleep>) -> Result<()> {
        loop {
            let now = Instant::now();
            if now >= self.stop {
                return Ok(());
            }
            self.write(now);
            let due = match &self.pace {
                // With a full window there is nothing to wake for but an answer.
                Some(pace) if self.unanswered < self.run.in_flight => pace.next.min(self.stop),
                _ => self.stop,
            };
            if alarm.deadline() != due {
                alarm.as_mut().reset(due);
            }
            if self.socket.turn(Some(alarm.as_mut())).await? == Turn::Heard {
                self.hear()?;
            }
        }
    }

    /// Writes whatever is due and fits.
    fn write(&mut self, now: Instant) {
        while self.unanswered < self.run.in_flight {
            let due = match &mut self.pace {
                None => now,
                Some(pace) if pace.next > now => return,
                Some(pace) => {
                    let due = pace.next;
                    pace.next += pace.interval;
                    if now - due < TIMER_BLUR { now } else { due }
                }
            };
            let n = self.first_pending + self.pending.len() as u64;
            let due = self.run.stamp(due);
            self.socket.send_encoded(self.template.message(n, due));
            self.pending.push_back(Pending {
                due,
                acked_seq: None,
                event_seq: None,
            });
            self.unanswered += 1;
            self.run.sent.set(self.run.sent.get() + 1);
            self.sides[self.me].sent.set(n + 1);
        }
    }

    /// Hears until all of one's own and all of the other's messages have come, or it has taken too long.
    async fn hear_the_rest(&mut self, mut alarm: Pin<&mut Sleep>) -> Result<()> {
        let give_up = Instant::now() + DRAIN;
        let other = 1 - self.me;
        loop {
            let theirs = self.sides[other].sent.get();
            let all = self.pending.is_empty()
                && self.sides[other].finished.get()
                && self.next_from_other >= theirs;
            if all {
                return Ok(());
            }
            let now = Instant::now();
            if now >= give_up {
                let own = self
                    .pending
                    .iter()
                    .filter(|p| p.event_seq.is_none())
                    .count() as u64;
                let unanswered = self.unanswered as u64;
                self.run.violated(|v| {
                    v.missing += own + theirs.saturating_sub(self.next_from_other);
                    v.unanswered += unanswered;
                });
                return Ok(());
            }
            alarm.as_mut().reset(now + DRAIN_LOOK);
            if self.socket.turn(Some(alarm.as_mut())).await? == Turn::Heard {
                self.hear()?;
            }
        }
    }

    fn hear(&mut self) -> Result<()> {
        // One look at the clock for all that came together.
        let now = Instant::now();
        let End {
            socket,
            run,
            chat_id,
            cursor,
            last_seq,
            pending,
            first_pending,
            unanswered,
            next_from_other,
            user_id,
            ..
        } = self;
        let mut ledger = Ledger {
            run,
            user_id: *user_id,
            chat_id: *chat_id,
            last_seq,
            pending,
            first_pending,
            unanswered,
            next_from_other,
            now,
        };
        socket.each(|payload, answers| {
            match ConnectResponseView::decode_view(payload)?.frame {
                Some(Inbound::Reply(reply)) => ledger.reply(&reply)?,
                Some(Inbound::ChatEvent(news)) => ledger.event(&news.event, false),
                Some(Inbound::Heartbeat(beat)) => {
                    *cursor = beat.cursor.to_vec();
                    answers.push(Alive::default().into());
                }
                Some(Inbound::Behind(_)) => {
                    ledger.run.behind.set(ledger.run.behind.get() + 1);
                    answers.push(
                        CatchUp {
                            cursor: cursor.clone(),
                            ..Default::default()
                        }
                        .into(),
                    );
                }
                Some(Inbound::CaughtUp(caught_up)) => {
                    *cursor = caught_up.missed.cursor.to_vec();
                    ledger.caught_up(&caught_up.missed);
                }
                Some(Inbound::Goodbye(goodbye)) => {
                    bail!("goodbye {}: {}", goodbye.code, goodbye.reason)
                }
                _ => {}
            }
            Ok(())
        })
    }
}

/// The part of an end that frames change, apart from the socket that they are read from.
struct Ledger<'a> {
    run: &'a Run,
    user_id: i64,
    chat_id: i64,
    last_seq: &'a mut i64,
    pending: &'a mut VecDeque<Pending>,
    first_pending: &'a mut u64,
    unanswered: &'a mut usize,
    next_from_other: &'a mut u64,
    now: Instant,
}

impl Ledger<'_> {
    fn reply(&mut self, reply: &ReplyView<'_>) -> Result<()> {
        let n = Template::number_of_call(reply.call_id).unwrap_or(u64::MAX);
        let at = n.checked_sub(*self.first_pending).unwrap_or(u64::MAX) as usize;
        let pending = self.pending.get_mut(at).filter(|p| p.acked_seq.is_none());
        let pending = pending
            .with_context(|| format!("an answer to call {} that is not open", reply.call_id))?;
        *self.unanswered -= 1;
        match &reply.result {
            Some(ResultView::Proto(bytes)) => {
                pending.acked_seq = Some(SendMessageResponseView::decode_view(bytes)?.seq);
                let due = pending.due;
                self.run
                    .count(&self.run.acked, &self.run.ack_ns, due, self.now);
            }
            Some(ResultView::Error(error)) => {
                self.run.violated(|v| v.failed += 1);
                ensure!(
                    self.run.violations.get().failed < FAILED_MAX,
                    "too many calls fail, the last one with {}: {}",
                    error.code,
                    error.message
                );
                // It has no place in the log; nothing more is expected of it.
                (pending.acked_seq, pending.event_seq) = (Some(0), Some(0));
            }
            _ => bail!("an answer without a result"),
        }
        self.settle();
        Ok(())
    }

    fn caught_up(&mut self, missed: &MissedView<'_>) {
        match &missed.answer {
            Some(AnswerView::Delta(delta)) => delta
                .events
                .iter()
                .for_each(|event| self.event(event, true)),
            // Too much was missed to be listed, so that nothing in it can be checked: it counts as missing.
            _ => self.run.violated(|v| v.missing += 1),
        }
    }

    /// Takes an event. Only an answer to catching up may begin with what is known.
    fn event(&mut self, event: &EventView<'_>, may_repeat: bool) {
        if event.chat_id != self.chat_id {
            return;
        }
        if event.seq <= *self.last_seq {
            if !may_repeat {
                self.run.violated(|v| v.repeated += 1);
            }
            return;
        }
        if event.seq != *self.last_seq + 1 {
            self.run.violated(|v| v.holes += 1);
        }
        *self.last_seq = event.seq;
        let Some(BodyView::Message(message)) = &event.body else {
            return;
        };
        let number = Template::number_of_message(message.client_message_id);
        let stamp = Template::stamp_of(message.text);
        let (Some(n), Some(due)) = (number, stamp) else {
            return;
        };
        if event.actor_id == self.user_id {
            self.own(n, event.seq)
        } else {
            self.other(n, due)
        }
    }

    fn own(&mut self, n: u64, seq: i64) {
        let at = n.checked_sub(*self.first_pending).unwrap_or(u64::MAX) as usize;
        let Some(Pending {
            event_seq: None, ..
        }) = self.pending.get(at)
        else {
            return self.run.violated(|v| v.repeated += 1);
        };
        if self
            .pending
            .iter()
            .take(at)
            .any(|earlier| earlier.event_seq.is_none())
        {
            self.run.violated(|v| v.disordered += 1);
        }
        self.pending[at].event_seq = Some(seq);
        self.settle();
    }

    fn other(&mut self, n: u64, due: u64) {
        if n != *self.next_from_other {
            self.run.violated(|v| v.disordered += 1);
        }
        *self.next_from_other = (*self.next_from_other).max(n + 1);
        self.run
            .count(&self.run.delivered, &self.run.delivery_ns, due, self.now);
    }

    /// Lets go of the oldest messages of which both the answer and the event have come.
    fn settle(&mut self) {
        while let Some(Pending {
            acked_seq: Some(acked),
            event_seq: Some(event),
            ..
        }) = self.pending.front()
        {
            if acked != event {
                self.run.violated(|v| v.misplaced += 1);
            }
            self.pending.pop_front();
            *self.first_pending += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tertulia_proto::chats::MessageView;

    const ME: i64 = 1;
    const OTHER: i64 = 2;
    const CHAT: i64 = 9;

    /// An end that has written `sent` messages into an empty chat.
    struct Fixture {
        run: Run,
        last_seq: i64,
        pending: VecDeque<Pending>,
        first_pending: u64,
        unanswered: usize,
        next_from_other: u64,
    }

    impl Fixture {
        fn after_sending(sent: usize) -> Self {
            let plan = Plan {
                in_flight: 16,
                rate: None,
                measured: Duration::ZERO,
                warm_up: Duration::ZERO,
                text_bytes: 16,
                server: None,
            };
            let run = Run::new(&plan);
            run.counting.set(true);
            let pending = (0..sent)
                .map(|_| Pending {
                    due: 0,
                    acked_seq: None,
                    event_seq: None,
                })
                .collect();
            Fixture {
                run,
                last_seq: 0,
                pending,
                first_pending: 0,
                unanswered: sent,
                next_from_other: 0,
            }
        }

        fn ledger(&mut self) -> Ledger<'_> {
            Ledger {
                run: &self.run,
                user_id: ME,
                chat_id: CHAT,
                last_seq: &mut self.last_seq,
                pending: &mut self.pending,
                first_pending: &mut self.first_pending,
                unanswered: &mut self.unanswered,
                next_from_other: &mut self.next_from_other,
                now: Instant::now(),
            }
        }

        fn event(&mut self, seq: i64, actor_id: i64, n: u64) {
            self.event_of(seq, actor_id, n, false);
        }

        fn event_of(&mut self, seq: i64, actor_id: i64, n: u64, may_repeat: bool) {
            let (id, text) = (format!("{:016x}-{n:012x}", 7), "0".repeat(16));
            let message = MessageView {
                client_message_id: &id,
                text: &text,
                ..Default::default()
            };
            let body = Some(BodyView::Message(Box::new(message)));
            let event = EventView {
                chat_id: CHAT,
                seq,
                actor_id,
                body,
                ..Default::default()
            };
            self.ledger().event(&event, may_repeat);
        }

        fn ack(&mut self, n: u64, seq: i64) -> Result<()> {
            use buffa::Message as _;
            let answer = tertulia_proto::chats::SendMessageResponse {
                seq,
                ..Default::default()
            };
            let bytes = answer.encode_to_vec();
            let call_id = (1 << 28) + n;
            let result = Some(ResultView::Proto(&bytes));
            self.ledger().reply(&ReplyView {
                call_id,
                result,
                ..Default::default()
            })
        }

        fn violations(&self) -> Violations {
            self.run.violations.get()
        }
    }

    #[test]
    fn what_comes_once_and_in_order_is_no_violation() {
        let mut end = Fixture::after_sending(2);
        end.event(1, ME, 0);
        end.ack(0, 1).unwrap();
        end.event(2, OTHER, 0);
        end.ack(1, 3).unwrap();
        end.event(3, ME, 1);
        end.event(4, OTHER, 1);
        assert_eq!(end.violations(), Violations::default());
        assert_eq!((end.run.acked.get(), end.run.delivered.get()), (2, 2));
        assert_eq!(
            (end.pending.len(), end.unanswered, end.first_pending),
            (0, 0, 2)
        );
    }

    #[test]
    fn an_event_that_comes_twice_is_counted() {
        let mut end = Fixture::after_sending(0);
        end.event(1, OTHER, 0);
        end.event(1, OTHER, 0);
        assert_eq!(
            end.violations(),
            Violations {
                repeated: 1,
                ..Default::default()
            }
        );
        assert_eq!(end.run.delivered.get(), 1);
    }

    #[test]
    fn a_message_that_is_stored_twice_is_counted() {
        let mut end = Fixture::after_sending(1);
        end.event(1, ME, 0);
        end.event(2, ME, 0);
        assert_eq!(
            end.violations(),
            Violations {
                repeated: 1,
                ..Default::default()
            }
        );
    }

    #[test]
    fn an_event_that_is_left_out_is_counted() {
        let mut end = Fixture::after_sending(0);
        end.event(1, OTHER, 0);
        end.event(3, OTHER, 1);
        assert_eq!(
            end.violations(),
            Violations {
                holes: 1,
                ..Default::default()
            }
        );
    }

    #[test]
    fn messages_in_another_order_than_they_were_written_are_counted() {
        let mut end = Fixture::after_sending(2);
        end.event(1, OTHER, 1);
        end.event(2, ME, 1);
        assert_eq!(
            end.violations(),
            Violations {
                disordered: 2,
                ..Default::default()
            }
        );
    }

    #[test]
    fn an_acknowledgement_that_names_another_place_is_counted() {
        let mut end = Fixture::after_sending(1);
        end.ack(0, 5).unwrap();
        end.event(1, ME, 0);
        assert_eq!(
            end.violations(),
            Violations {
                misplaced: 1,
                ..Default::default()
            }
        );
    }

    #[test]
    fn an_answer_to_no_call_ends_the_run() {
        let mut end = Fixture::after_sending(1);
        end.ack(0, 1).unwrap();
        assert!(end.ack(0, 1).is_err());
        assert!(end.ack(7, 1).is_err());
    }

    #[test]
    fn catching_up_may_begin_with_what_is_known() {
        let mut end = Fixture::after_sending(0);
        end.event(1, OTHER, 0);
        end.event_of(1, OTHER, 0, true);
        end.event_of(2, OTHER, 1, true);
        assert_eq!(end.violations(), Violations::default());
        assert_eq!(end.next_from_other, 2);
    }

    #[test]
    fn a_window_that_is_full_counts_from_when_a_message_was_due() {
        let mut end = Fixture::after_sending(1);
        let late = end.run.base + Duration::from_secs(3);
        let mut ledger = end.ledger();
        ledger.now = late;
        ledger.other(0, 0);
        let longest = end.run.delivery_ns.borrow().max();
        assert!(longest >= 2_990_000_000, "{longest}");
    }
}
