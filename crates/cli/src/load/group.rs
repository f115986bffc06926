//! One chat of many members: some of them write, and everybody hears everything. What is measured is the fan-out:
//! how often a second a message comes to a member, how late, and what that costs the server.
//!
//! They write at a pace, or in a closed loop: then so many messages are under way, and the next one is written when
//! one has come to every member. Each member checks that every event comes once and in order.

use std::cell::{Cell, RefCell};
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
use tokio::sync::Notify;
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
    /// When they write.
    pub flow: Flow,
    /// How long a text is.
    pub text_bytes: usize,
    /// Whether the chat is a channel, which is heard only while it is warm.
    pub warm: bool,
    /// How many members, the last ones, connect and then read nothing.
    pub slow: usize,
    /// When is measured.
    pub window: Window,
}

/// When messages are written.
#[derive(Debug, Clone, Copy)]
pub enum Flow {
    /// So many a second of all writers together.
    Paced(f64),
    /// So many of all writers together have not come to every member; the next when one has.
    Closed(usize),
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
    /// How many events sessions that were behind were told of by the chat's head only, to be read when somebody
    /// looks at them.
    pub skipped: u64,
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

/// Runs the plan with the members of a chat, and says when all of them are connected.
///
/// # Errors
/// When a session can not be opened or ends; violations are no error but part of the outcome.
pub async fn run(
    server: Server,
    members: &[Account],
    chat_id: i64,
    plan: &Plan,
    opened: impl FnOnce(),
) -> Result<Outcome> {
    LocalSet::new()
        .run_until(run_here(server, members, chat_id, plan, opened))
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
    skipped: Cell<u64>,
    /// In a closed loop.
    under_way: Option<RefCell<UnderWay>>,
    /// Something has come to every member.
    room: Notify,
}

/// What has not come to every member.
struct UnderWay {
    members: usize,
    written: usize,
    max: usize,
    first: i64,
    /// How many members lack the event with the first seq, the next one, and so on.
    lacking: VecDeque<usize>,
}

impl UnderWay {
    fn has_room(&self) -> bool {
        self.written < self.max
    }

    /// An event has come to one more member; whether that was the last one.
    fn heard(&mut self, seq: i64) -> bool {
        let Ok(at) = usize::try_from(seq - self.first) else {
            return false;
        };
        while self.lacking.len() <= at {
            self.lacking.push_back(self.members);
        }
        self.lacking[at] -= 1;
        let before = self.written;
        while self.lacking.front() == Some(&0) {
            self.lacking.pop_front();
            self.first += 1;
            self.written = self.written.saturating_sub(1);
        }
        self.written < before
    }
}

impl Shared {
    /// An event has come to one more member.
    fn heard(&self, seq: i64) {
        let under_way = self.under_way.as_ref();
        if under_way.is_some_and(|under_way| under_way.borrow_mut().heard(seq)) {
            self.room.notify_waiters();
        }
    }
}

async fn run_here(
    server: Server,
    members: &[Account],
    chat_id: i64,
    plan: &Plan,
    opened: impl FnOnce(),
) -> Result<Outcome> {
    let progress = Progress::of("sessions", members.len() as u64);
    let progress = &progress;
    let reading = members.len().saturating_sub(plan.slow);
    let opening = members.iter().enumerate().map(|(n, account)| async move {
        let token = &account.access_token;
        let (mut socket, welcome) = match n < reading {
            true => Socket::open(server.0, None, token).await?,
            false => Socket::open_narrow(server.0, token).await?,
        };
        let head = match plan.warm {
            true => socket.warm(chat_id).await?,
            false => head_of(&welcome, chat_id)?,
        };
        progress.one();
        anyhow::Ok((socket, welcome, head))
    });
    let mut sessions: Vec<_> = stream::iter(opening)
        .buffered(OPENING)
        .try_collect()
        .await?;
    // Those who read nothing only have to stay.
    let _slow = sessions.split_off(reading);
    opened();

    let writers = plan.writers.min(reading);
    let head = sessions.iter().map(|(_, _, head)| *head).max();
    let under_way = match plan.flow {
        Flow::Paced(_) => None,
        Flow::Closed(max) => Some(RefCell::new(UnderWay {
            members: reading,
            written: 0,
            max,
            first: head.context("somebody reads")? + 1,
            lacking: VecDeque::new(),
        })),
    };
    let shared = Rc::new(Shared {
        under_way,
        ..Shared::default()
    });
    shared.writing.set(writers);
    let start = Instant::now();
    let stop = start + plan.window.warm_up + plan.window.measured + MARGIN;
    let mut tasks = JoinSet::new();
    for (number, (socket, welcome, head)) in sessions.into_iter().enumerate() {
        let pace = || match plan.flow {
            Flow::Paced(rate) => {
                let interval = Duration::from_secs_f64(writers as f64 / rate);
                // Spread over the interval, so that they do not all write at once.
                let next = start + interval.mul_f64(number as f64 / writers as f64);
                Some(Pace { next, interval })
            }
            Flow::Closed(_) => None,
        };
        let pen = (number < writers).then(|| Pen {
            template: Template::new(chat_id, plan.text_bytes),
            pace: pace(),
            unanswered: VecDeque::new(),
            written: 0,
        });
        let member = Member {
            socket,
            shared: Rc::clone(&shared),
            chat_id,
            user_id: welcome.user_id,
            cursor: welcome.missed.cursor.clone(),
            last_seq: head,
            pen,
            stop,
        };
        tasks.spawn_local(member.talk());
    }
    let reading = {
        let shared = Rc::clone(&shared);
        let window = plan.window.clone();
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
        skipped: shared.skipped.get(),
    })
}

/// What a writer writes with.
struct Pen {
    template: Template,
    /// None in a closed loop.
    pace: Option<Pace>,
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
                Some(Pen {
                    pace: Some(pace),
                    unanswered,
                    ..
                }) if unanswered.len() < IN_FLIGHT => pace.next.min(self.stop),
                _ => self.stop,
            };
            alarm.as_mut().reset(due);
            let waits_for_room = self.pen.is_some() && self.shared.under_way.is_some();
            let turn = tokio::select! {
                turn = self.socket.turn(Some(alarm.as_mut())) => turn?,
                () = self.shared.room.notified(), if waits_for_room => Turn::Alarm,
            };
            if turn == Turn::Heard {
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
        while pen.unanswered.len() < IN_FLIGHT {
            let now = Instant::now();
            let due = match (&mut pen.pace, &self.shared.under_way) {
                (Some(pace), _) if pace.next <= now => {
                    let due = pace.next;
                    pace.next += pace.interval;
                    due
                }
                (None, Some(under_way)) if under_way.borrow().has_room() => {
                    under_way.borrow_mut().written += 1;
                    now
                }
                _ => return,
            };
            let due = run.stamp(due);
            self.socket
                .send_encoded(pen.template.message(pen.written, due));
            pen.unanswered.push_back((pen.written, due));
            pen.written += 1;
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
                        // Too much to be listed: where the chat ends, and it goes on from there.
                        Some(AnswerView::Changed(changed)) => {
                            let mut chats = changed.chats.iter();
                            if let Some(chat) = chats.find(|chat| chat.chat_id == ear.chat_id) {
                                ear.skip_to(chat.head);
                            }
                        }
                        _ => bail!("the server gives up what the session held"),
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

    /// Everything up to a head is known to be there.
    fn skip_to(&mut self, head: i64) {
        while *self.last_seq < head {
            *self.last_seq += 1;
            let skipped = &self.shared.skipped;
            skipped.set(skipped.get() + 1);
            self.shared.heard(*self.last_seq);
        }
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
        self.shared.heard(event.seq);
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
    fn in_a_closed_loop_there_is_room_when_a_message_has_come_to_everybody() {
        let mut under_way = UnderWay {
            members: 2,
            written: 2,
            max: 2,
            first: 5,
            lacking: VecDeque::new(),
        };
        assert!(!under_way.heard(6) && !under_way.heard(6));
        assert!(!under_way.heard(4), "from before");
        assert!(!under_way.heard(5) && !under_way.has_room());
        // The last to come lets go of the one behind it, too.
        assert!(under_way.heard(5));
        assert_eq!((under_way.written, under_way.first), (0, 7));
    }

    #[test]
    fn a_member_who_misses_or_hears_twice_is_counted() {
        let (found, _) = heard(&[(1, 2), (3, 2), (3, 2)]);
        assert_eq!((found.holes, found.repeated, found.total()), (1, 1, 2));
    }
}
