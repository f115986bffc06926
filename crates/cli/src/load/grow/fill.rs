//! Fills a store through the same door as everybody, as fast as the server takes it: each writer has one session, and
//! goes round its chats. Everybody hears everything, and checks that every chat's events come once and in order.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use buffa::MessageView as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hdrhistogram::Histogram;
use tertulia_proto::live::connect_response::FrameView as Inbound;
use tertulia_proto::live::reply::ResultView;
use tertulia_proto::live::{Alive, ConnectResponseView};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use super::people::People;
use crate::load::measure::Run;
use crate::load::people::Server;
use crate::load::proc::Process;
use crate::load::progress::Progress;
use crate::load::socket::Socket;
use crate::load::template::Template;

/// What is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// How many messages.
    pub messages: u64,
    /// How many of one writer are unanswered at most.
    pub in_flight: usize,
    /// How long a text is.
    pub text_bytes: usize,
    /// The server's process, when it is on this machine.
    pub process: Option<Process>,
}

/// What filling cost.
pub struct Filled {
    /// How many messages were stored.
    pub messages: u64,
    /// How long it took.
    pub took: Duration,
    /// Nanoseconds from writing a message to its acknowledgement.
    pub ack_ns: Histogram<u64>,
    /// What sends had to wait for.
    pub stops: Stops,
    /// The server's processor time.
    pub cpu: Option<Duration>,
    /// What the server gave to the disk.
    pub written_bytes: Option<u64>,
}

impl Filled {
    /// Both, one after the other.
    ///
    /// # Errors
    /// When their times can not be put together.
    pub fn and(mut self, next: Filled) -> Result<Filled> {
        self.ack_ns.add(&next.ack_ns)?;
        let written = self.written_bytes.zip(next.written_bytes);
        Ok(Filled {
            messages: self.messages + next.messages,
            took: self.took + next.took,
            stops: self.stops.and(next.stops),
            cpu: self.cpu.zip(next.cpu).map(|(a, b)| a + b),
            written_bytes: written.map(|(a, b)| a + b),
            ..self
        })
    }
}

/// Times in which nobody's send was acknowledged, although all waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stops {
    /// The longest.
    pub longest: Duration,
    /// How many were longer than [`STOP`].
    pub long: u64,
}

impl Stops {
    /// Counts one.
    fn count(&mut self, stop: Duration) {
        self.longest = self.longest.max(stop);
        self.long += u64::from(stop > STOP);
    }

    /// Those of both.
    pub fn and(self, other: Stops) -> Stops {
        Stops {
            longest: self.longest.max(other.longest),
            long: self.long + other.long,
        }
    }
}

/// No send shall stop for longer.
pub const STOP: Duration = Duration::from_millis(100);
/// So many connections are opened at once.
const OPENING: usize = 64;
/// How long the last messages may take.
const DRAIN: Duration = Duration::from_secs(60);
/// How often a writer who waits looks whether everything has come.
const LOOK: Duration = Duration::from_millis(20);

/// Stores so many more messages.
///
/// # Errors
/// When a session ends, a send is refused, or an event is missing, repeated or out of order.
pub async fn fill(server: Server, people: &mut People, task: &Task) -> Result<Filled> {
    LocalSet::new()
        .run_until(fill_here(server, people, task))
        .await
}

async fn fill_here(server: Server, people: &mut People, task: &Task) -> Result<Filled> {
    let Task {
        messages, process, ..
    } = *task;
    let opening = stream::iter(&people.writers).map(|writer| async move {
        let (socket, _) = Socket::open(server.0, None, &writer.access_token).await?;
        anyhow::Ok(socket)
    });
    let sockets: Vec<Socket> = opening.buffered(OPENING).try_collect().await?;
    let shared = Rc::new(Shared::new(messages));
    let mut writers: Vec<Writer> = sockets
        .into_iter()
        .map(|socket| Writer::new(socket, Rc::clone(&shared), task.in_flight))
        .collect();
    for chat in &people.chats {
        for end in chat.ends {
            let template = Template::new(chat.chat_id, task.text_bytes);
            writers[end].templates.push(template);
            writers[end].heads.insert(chat.chat_id, chat.head);
        }
    }
    writers.retain(|writer| !writer.templates.is_empty());

    let look = || {
        let cpu = process.and_then(|p| p.cpu());
        cpu.zip(process.and_then(|p| p.written_bytes()))
    };
    let (before, began) = (look(), Instant::now());
    let mut tasks = JoinSet::new();
    for writer in writers {
        tasks.spawn_local(writer.write());
    }
    let mut heads = HashMap::new();
    while let Some(heard) = tasks.join_next().await {
        for (chat_id, head) in heard?? {
            let other = heads.insert(chat_id, head);
            ensure!(
                other.is_none_or(|other| other == head),
                "two members of a chat heard it end at different places"
            );
        }
    }
    let (took, after) = (began.elapsed(), look());
    let mut grown = 0;
    for chat in &mut people.chats {
        let head = heads.remove(&chat.chat_id).context("nobody heard a chat")?;
        grown += head.abs_diff(chat.head);
        chat.head = head;
    }
    ensure!(
        grown == messages,
        "{messages} messages were acknowledged, and the chats grew by {grown}"
    );
    people.stored += messages;
    let shared = Rc::into_inner(shared).context("a session is still running")?;
    let spent = before.zip(after);
    Ok(Filled {
        messages,
        took,
        ack_ns: shared.run.ack_ns.into_inner(),
        stops: shared.stops.get(),
        cpu: spent.map(|((before, _), (after, _))| after - before),
        written_bytes: spent.map(|((_, before), (_, after))| after.saturating_sub(before)),
    })
}

/// What all writers share. Everything runs on one thread.
struct Shared {
    run: Run,
    /// How many messages are still to be written.
    left: Cell<u64>,
    /// How many events are still to be heard, by both of each chat.
    unheard: Cell<u64>,
    last_ack: Cell<Option<Instant>>,
    stops: Cell<Stops>,
    progress: Progress,
    messages: u64,
}

impl Shared {
    fn new(messages: u64) -> Self {
        let run = Run::default();
        run.counting.set(true);
        Shared {
            run,
            left: Cell::new(messages),
            unheard: Cell::new(2 * messages),
            last_ack: Cell::new(None),
            stops: Cell::default(),
            progress: Progress::of("messages", messages),
            messages,
        }
    }

    fn acked(&self, due: u64, now: Instant) {
        self.run.count(&self.run.acked, &self.run.ack_ns, due, now);
        if let Some(last) = self.last_ack.replace(Some(now)) {
            let mut stops = self.stops.get();
            stops.count(now - last);
            self.stops.set(stops);
        }
    }

    fn heard(&self) -> Result<()> {
        let unheard = self.unheard.get().checked_sub(1);
        self.unheard
            .set(unheard.context("more events came than were written")?);
        self.progress.at(self.messages - self.unheard.get() / 2);
        Ok(())
    }
}

/// One who writes.
struct Writer {
    socket: Socket,
    shared: Rc<Shared>,
    in_flight: usize,
    /// Of each chat, in the order in which it writes.
    templates: Vec<Template>,
    /// How far each chat has come.
    heads: HashMap<i64, i64>,
    next: u64,
    /// The numbers of messages that are not acknowledged, and when they were written.
    pending: Vec<(u64, u64)>,
}

impl Writer {
    fn new(socket: Socket, shared: Rc<Shared>, in_flight: usize) -> Self {
        Writer {
            socket,
            shared,
            in_flight,
            templates: Vec::new(),
            heads: HashMap::new(),
            next: 0,
            pending: Vec::with_capacity(in_flight),
        }
    }

    /// Writes until all have written enough and everybody has heard it; says where the chats end.
    async fn write(mut self) -> Result<HashMap<i64, i64>> {
        let alarm = tokio::time::sleep(LOOK);
        tokio::pin!(alarm);
        let mut give_up = None;
        loop {
            self.write_what_fits();
            if self.shared.left.get() == 0 {
                if self.shared.unheard.get() == 0 && self.pending.is_empty() {
                    break;
                }
                let give_up = *give_up.get_or_insert_with(|| Instant::now() + DRAIN);
                ensure!(
                    Instant::now() < give_up,
                    "{} events did not come within {DRAIN:?}",
                    self.shared.unheard.get()
                );
            }
            alarm.as_mut().reset(Instant::now() + LOOK);
            self.socket.turn(Some(alarm.as_mut())).await?;
            self.hear()?;
        }
        self.socket.close().await;
        Ok(self.heads)
    }

    fn write_what_fits(&mut self) {
        let now = self.shared.run.stamp(Instant::now());
        while self.pending.len() < self.in_flight && self.shared.left.get() > 0 {
            self.shared.left.set(self.shared.left.get() - 1);
            let chats = self.templates.len() as u64;
            let template = &mut self.templates[(self.next % chats) as usize];
            self.socket.send_encoded(template.message(self.next, now));
            self.pending.push((self.next, now));
            self.next += 1;
        }
    }

    fn hear(&mut self) -> Result<()> {
        // One look at the clock for all that came together.
        let now = Instant::now();
        let Writer {
            socket,
            shared,
            heads,
            pending,
            ..
        } = self;
        socket.each(|payload, answers| {
            match ConnectResponseView::decode_view(payload)?.frame {
                Some(Inbound::Reply(reply)) => {
                    if let Some(ResultView::Error(error)) = &reply.result {
                        bail!("{}: {}", error.code, error.message);
                    }
                    let number = Template::number_of_call(reply.call_id);
                    let mut waiting = pending.iter();
                    let at = waiting.position(|(of, _)| Some(*of) == number);
                    let (_, due) = pending.swap_remove(at.context("an answer to nothing")?);
                    shared.acked(due, now);
                }
                Some(Inbound::ChatEvent(news)) => {
                    let (chat_id, seq) = (news.event.chat_id, news.event.seq);
                    let head = heads.get_mut(&chat_id).context("somebody else's chat")?;
                    *head += 1;
                    ensure!(seq == *head, "event {seq} came where {head} belongs");
                    shared.heard()?;
                }
                Some(Inbound::Heartbeat(_)) => answers.push(Alive::default().into()),
                Some(Inbound::Behind(_)) => {
                    bail!("a writer was too slow to hear the others: let fewer be in flight")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_the_time_between_two_acknowledgements() {
        let shared = Shared::new(10);
        let begin = Instant::now();
        for at_ms in [500, 510, 511, 650, 700] {
            shared.acked(0, begin + Duration::from_millis(at_ms));
        }
        let stops = Stops {
            longest: Duration::from_millis(139),
            long: 1,
        };
        assert_eq!(shared.stops.get(), stops);
        assert_eq!(shared.run.acked.get(), 5);
    }

    #[test]
    fn more_events_than_were_written_are_noticed() {
        let shared = Shared::new(1);
        shared.heard().unwrap();
        shared.heard().unwrap();
        assert!(shared.heard().is_err());
    }
}
