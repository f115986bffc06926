//! One group of many members: some of them write at a pace, and everybody hears everything. What is measured
//! is the fan-out: how often a second a message comes to a member, how late, and what that costs the server.
//!
//! Each member checks that every event comes once and in order.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use buffa::MessageView as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hdrhistogram::Histogram;
use tertulia_proto::chats::event::BodyView;
use tertulia_proto::chats::{EventView, SendMessageResponseView};
use tertulia_proto::live::connect_response::FrameView as Inbound;
use tertulia_proto::live::missed::AnswerView;
use tertulia_proto::live::reply::ResultView;
use tertulia_proto::live::{Alive, CatchUp, ConnectResponseView, ReplyView};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use super::direct::head_of;
use super::measure::{Pace, Reading, Run, Violations, Window, measure};
use super::people::{Account, Server};
use super::progress::Progress;
use super::socket::{Socket, Turn};
use super::template::Template;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many members write, in turn.
    pub writers: usize,
    /// Messages a second of all writers together.
    pub rate: f64,
    /// How long a text is.
    pub text_bytes: usize,
    /// When is measured.
    pub window: Window,
}

/// What was measured, in the measured time, and what was checked, from the first message to the last.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How often a message came to a member who did not write it.
    pub delivered: u64,
    /// Nanoseconds from when a message was due to its acknowledgement.
    pub ack_ns: Histogram<u64>,
    /// Nanoseconds from when a message was due to its coming at each member.
    pub delivery_ns: Histogram<u64>,
    /// What the machine says.
    pub reading: Reading,
    /// What may never happen.
    pub violations: Violations,
    /// How often a session was told that it is behind and caught up.
    pub behind: u64,
}

/// How long the last messages may take.
const DRAIN: Duration = Duration::from_secs(15);
/// How often a member who waits looks whether everything has come.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// The load goes on for a little longer than is measured.
const MARGIN: Duration = Duration::from_millis(20);
/// So many connections are opened at once.
const OPENING: usize = 64;
/// How many messages of one writer are unanswered at most; a slower server makes times longer.
const IN_FLIGHT: usize = 64;

/// Runs the plan with the members of a group.
///
/// # Errors
/// When a session can not be opened or ends; violations are no error but part of the outcome.
pub async fn run(
    server: Server,
    members: &[Account],
    chat_id: i64,
    plan: &Plan,
) -> Result<Outcome> {
    LocalSet::new()
        .run_until(run_here(server, members, chat_id, plan))
        .await
}

/// What the members let each other know.
#[derive(Default)]
struct Shared {
    run: Run,
    /// Writers who have not finished.
    writing: Cell<usize>,
    /// The highest seq that was acknowledged.
    head: Cell<i64>,
}

async fn run_here(
    server: Server,
    members: &[Account],
    chat_id: i64,
    plan: &Plan,
) -> Result<Outcome> {
    let progress = Progress::of("sessions", members.len() as u64);
    let progress = &progress;
    let opening = members.iter().map(|account| async move {
        let opened = Socket::open(server.0, None, &account.access_token).await?;
        progress.one();
        anyhow::Ok(opened)
    });
    let opened: Vec<_> = stream::iter(opening)
        .buffered(OPENING)
        .try_collect()
        .await?;

    let shared = Rc::new(Shared::default());
    let writers = plan.writers.min(members.len());
    shared.writing.set(writers);
    let start = Instant::now();
    let stop = start + plan.window.warm_up + plan.window.measured + MARGIN;
    let mut tasks = JoinSet::new();
    for (number, (socket, welcome)) in opened.into_iter().enumerate() {
        let interval = Duration::from_secs_f64(writers as f64 / plan.rate);
        let pen = (number < writers).then(|| Pen {
            template: Template::new(chat_id, plan.text_bytes),
            // Spread over the interval, so that they do not all write at once.
            pace: Pace {
                next: start + interval.mul_f64(number as f64 / writers as f64),
                interval,
            },
            unanswered: VecDeque::new(),
            written: 0,
        });
        let member = Member {
            socket,
            shared: Rc::clone(&shared),
            chat_id,
            user_id: welcome.user_id,
            cursor: welcome.missed.cursor.clone(),
            last_seq: head_of(&welcome, chat_id)?,
            pen,
            stop,
        };
        tasks.spawn_local(member.talk());
    }
    let reading = {
        let shared = Rc::clone(&shared);
        let window = plan.window;
        async move { measure(&shared.run, window, start).await }
    };
    tokio::pin!(reading);
    let mut read = None;
    let deadline = tokio::time::sleep_until(stop + DRAIN + Duration::from_secs(5));
    tokio::pin!(deadline);
    while read.is_none() || !tasks.is_empty() {
        tokio::select! {
            done = &mut reading, if read.is_none() => read = Some(done),
            Some(ended) = tasks.join_next() => ended??,
            () = &mut deadline => bail!("the sessions do not end"),
        }
    }
    let reading_of_machine = read.context("nothing was measured")?;
    let run = &shared.run;
    ensure!(shared.writing.get() == 0, "a writer is still writing");
    Ok(Outcome {
        delivered: run.delivered.get(),
        ack_ns: run.ack_ns.borrow().clone(),
        delivery_ns: run.delivery_ns.borrow().clone(),
        reading: reading_of_machine,
        violations: run.violations.get(),
        behind: run.behind.get(),
    })
}

/// What a writer writes with.
struct Pen {
    template: Template,
    pace: Pace,
    /// When the unanswered messages were due, oldest first.
    unanswered: VecDeque<(u64, u64)>,
    written: u64,
}

struct Member {
    socket: Socket,
    shared: Rc<Shared>,
    chat_id: i64,
    user_id: i64,
    cursor: Vec<u8>,
    last_seq: i64,
    pen: Option<Pen>,
    stop: Instant,
}

impl Member {
    async fn talk(mut self) -> Result<()> {
        let alarm = tokio::time::sleep_until(self.stop);
        tokio::pin!(alarm);
        while Instant::now() < self.stop {
            self.write();
            let due = match &self.pen {
                Some(pen) if pen.unanswered.len() < IN_FLIGHT => pen.pace.next.min(self.stop),
                _ => self.stop,
            };
            alarm.as_mut().reset(due);
            if self.socket.turn(Some(alarm.as_mut())).await? == Turn::Heard {
                self.hear()?;
            }
        }
        let give_up = Instant::now() + DRAIN;
        let mut is_writing = self.pen.is_some();
        loop {
            let is_answered = self
                .pen
                .as_ref()
                .is_none_or(|pen| pen.unanswered.is_empty());
            if is_writing && is_answered {
                is_writing = false;
                self.shared.writing.set(self.shared.writing.get() - 1);
            }
            let head = self.shared.head.get();
            if self.shared.writing.get() == 0 && self.last_seq >= head {
                break;
            }
            if Instant::now() >= give_up {
                let missing = (head - self.last_seq).max(0) as u64;
                let unanswered = self.pen.as_ref().map_or(0, |pen| pen.unanswered.len()) as u64;
                self.shared.run.violated(|v| {
                    v.missing += missing;
                    v.unanswered += unanswered;
                });
                if is_writing {
                    self.shared.writing.set(self.shared.writing.get() - 1);
                }
                break;
            }
            alarm.as_mut().reset(Instant::now() + DRAIN_LOOK);
            if self.socket.turn(Some(alarm.as_mut())).await? == Turn::Heard {
                self.hear()?;
            }
        }
        self.socket.close().await;
        Ok(())
    }

    /// Writes whatever is due.
    fn write(&mut self) {
        let Some(pen) = &mut self.pen else { return };
        let run = &self.shared.run;
        while pen.pace.next <= Instant::now() && pen.unanswered.len() < IN_FLIGHT {
            let due = run.stamp(pen.pace.next);
            self.socket
                .send_encoded(pen.template.message(pen.written, due));
            pen.unanswered.push_back((pen.written, due));
            pen.written += 1;
            pen.pace.next += pen.pace.interval;
            run.sent.set(run.sent.get() + 1);
        }
    }

    fn hear(&mut self) -> Result<()> {
        // One look at the clock for all that came together.
        let now = Instant::now();
        let Member {
            socket,
            shared,
            chat_id,
            user_id,
            cursor,
            last_seq,
            pen,
            ..
        } = self;
        let mut ear = Ear {
            shared,
            chat_id: *chat_id,
            user_id: *user_id,
            last_seq,
            now,
        };
        socket.each(|payload, answers| {
            match ConnectResponseView::decode_view(payload)?.frame {
                Some(Inbound::Reply(reply)) => ear.reply(&reply, pen.as_mut())?,
                Some(Inbound::ChatEvent(news)) => ear.event(&news.event, false),
                Some(Inbound::Heartbeat(beat)) => {
                    *cursor = beat.cursor.to_vec();
                    answers.push(Alive::default().into());
                }
                Some(Inbound::Behind(_)) => {
                    let run = &ear.shared.run;
                    run.behind.set(run.behind.get() + 1);
                    let cursor = cursor.clone();
                    answers.push(
                        CatchUp {
                            cursor,
                            ..Default::default()
                        }
                        .into(),
                    );
                }
                Some(Inbound::CaughtUp(caught_up)) => {
                    *cursor = caught_up.missed.cursor.to_vec();
                    match &caught_up.missed.answer {
                        Some(AnswerView::Delta(delta)) => {
                            delta.events.iter().for_each(|event| ear.event(event, true));
                        }
                        // Too much was missed to be listed, so that nothing in it can be checked.
                        _ => ear.shared.run.violated(|v| v.missing += 1),
                    }
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

/// What a member hears with.
struct Ear<'a> {
    shared: &'a Shared,
    chat_id: i64,
    user_id: i64,
    last_seq: &'a mut i64,
    now: Instant,
}

impl Ear<'_> {
    fn reply(&mut self, reply: &ReplyView<'_>, pen: Option<&mut Pen>) -> Result<()> {
        let run = &self.shared.run;
        let number = Template::number_of_call(reply.call_id);
        let pen = pen.ok_or_else(|| anyhow!("an answer for who has not asked"))?;
        let open = pen.unanswered.iter().position(|(n, _)| Some(*n) == number);
        let open = open.with_context(|| format!("an answer to call {}", reply.call_id))?;
        let due = pen.unanswered.remove(open).map_or(0, |(_, due)| due);
        match &reply.result {
            Some(ResultView::Proto(bytes)) => {
                let seq = SendMessageResponseView::decode_view(bytes)?.seq;
                self.shared.head.set(self.shared.head.get().max(seq));
                run.count(&run.acked, &run.ack_ns, due, self.now);
            }
            Some(ResultView::Error(error)) => bail!("{}: {}", error.code, error.message),
            _ => bail!("an answer without a result"),
        }
        Ok(())
    }

    /// Takes an event. Only an answer to catching up may begin with what is known.
    fn event(&mut self, event: &EventView<'_>, may_repeat: bool) {
        let run = &self.shared.run;
        if event.chat_id != self.chat_id {
            return;
        }
        if event.seq <= *self.last_seq {
            if !may_repeat {
                run.violated(|v| v.repeated += 1);
            }
            return;
        }
        if event.seq != *self.last_seq + 1 {
            run.violated(|v| v.holes += 1);
        }
        *self.last_seq = event.seq;
        if let Some(BodyView::Message(message)) = &event.body
            && event.actor_id != self.user_id
            && let Some(due) = Template::stamp_of(message.text)
        {
            run.count(&run.delivered, &run.delivery_ns, due, self.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use tertulia_proto::chats::MessageView;

    use super::*;

    fn heard(seqs: &[(i64, i64)]) -> (Violations, u64) {
        let shared = Shared::default();
        shared.run.counting.set(true);
        let mut last_seq = 0;
        let mut ear = Ear {
            shared: &shared,
            chat_id: 9,
            user_id: 1,
            last_seq: &mut last_seq,
            now: Instant::now(),
        };
        let text = "0".repeat(16);
        for &(seq, actor_id) in seqs {
            let message = MessageView {
                text: &text,
                ..Default::default()
            };
            let event = EventView {
                chat_id: 9,
                seq,
                actor_id,
                body: Some(BodyView::Message(Box::new(message))),
                ..Default::default()
            };
            ear.event(&event, false);
        }
        (shared.run.violations.get(), shared.run.delivered.get())
    }

    #[test]
    fn what_others_wrote_is_a_delivery_and_what_one_wrote_is_none() {
        assert_eq!(heard(&[(1, 2), (2, 1), (3, 3)]), (Violations::default(), 2));
    }

    #[test]
    fn a_member_who_misses_or_hears_twice_is_counted() {
        let (found, _) = heard(&[(1, 2), (3, 2), (3, 2)]);
        assert_eq!((found.holes, found.repeated, found.total()), (1, 1, 2));
    }
}
