//! What waits to be written, in the order in which it came; as much as may wait.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tertulia_kit::error::{Failure, Result};
use tertulia_services::chats::{Act, Command, Done};
use tertulia_services::errors;
use tokio::sync::oneshot;

use super::Options;
use super::outcome::again;

/// How many full commits of bytes may wait. Full: `OVERLOADED`.
const COMMITS_MAX: usize = 16;

/// What is to be done one after the other, and who waits for it.
pub struct Request {
    pub commands: Vec<Command>,
    pub answer: oneshot::Sender<Vec<Result<Done>>>,
}

impl Request {
    /// About what it takes in the queue.
    pub fn bytes(&self) -> usize {
        self.commands.iter().map(Self::bytes_of).sum()
    }

    fn bytes_of(command: &Command) -> usize {
        let texts = match &command.act {
            Act::Send(new) => new.text.len(),
            Act::Forward { copies, .. } => copies.iter().map(|copy| 64 + copy.text.len()).sum(),
            Act::Edit { text, .. } => text.len(),
            Act::Draft {
                draft: Some(draft), ..
            } => draft.text.len(),
            Act::Schedule(scheduled) => scheduled.text.len(),
            Act::Create(new) => 8 * new.members.len() + new.title.len() + new.topic.len(),
            Act::Add { users, .. } => 8 * users.len(),
            Act::Delete { messages, .. }
            | Act::Expire { messages, .. }
            | Act::Hide { messages, .. } => 8 * messages.len(),
            _ => 0,
        };
        512 + texts
    }

    pub fn fail(self, why: &Failure) {
        let failed = self.commands.iter().map(|_| Err(again(why)));
        _ = self.answer.send(failed.collect());
    }
}

/// The queue.
pub struct Queue {
    requests_max: usize,
    bytes_max: usize,
    /// How many commands, and how many bytes of them, about, go into one commit.
    commit: (usize, usize),
    /// Guards what waits.
    waiting: Mutex<Waiting>,
    /// Something came that nobody attends to, or nothing more comes; goes with `waiting`.
    came: Condvar,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    bytes: usize,
    /// Somebody takes what comes, without being woken for it.
    is_attended: bool,
    /// Why nothing more is taken in.
    end: Option<fn() -> Failure>,
}

/// What waiting for something came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited {
    Something,
    /// The time is over.
    Nothing,
    /// Nothing waits, and nothing more comes.
    Ended,
}

impl Queue {
    pub fn new(options: &Options) -> Queue {
        Queue {
            requests_max: options.commit_queue_max.max(1),
            bytes_max: options.commit_bytes_max.saturating_mul(COMMITS_MAX),
            commit: (options.commit_batch_max, options.commit_bytes_max),
            waiting: Mutex::default(),
            came: Condvar::new(),
        }
    }

    /// Puts a request at the end. Why not, when it can not wait there.
    pub fn put(&self, request: Request) -> Result<(), fn() -> Failure> {
        let bytes = request.bytes();
        let mut waiting = self.waiting.lock();
        if let Some(why) = waiting.end {
            return Err(why);
        }
        let is_full =
            waiting.requests.len() >= self.requests_max || waiting.bytes + bytes > self.bytes_max;
        if is_full {
            return Err(overloaded);
        }
        waiting.requests.push_back(request);
        waiting.bytes += bytes;
        let is_attended = waiting.is_attended;
        drop(waiting);
        if !is_attended {
            self.came.notify_one();
        }
        Ok(())
    }

    /// Waits until something is there, for so long at most.
    pub fn wait(&self, most: Option<Duration>) -> Waited {
        let mut waiting = self.waiting.lock();
        let is_nothing =
            |waiting: &mut Waiting| waiting.requests.is_empty() && waiting.end.is_none();
        match most {
            Some(most) => _ = self.came.wait_while_for(&mut waiting, is_nothing, most),
            None => self.came.wait_while(&mut waiting, is_nothing),
        }
        match (waiting.requests.is_empty(), waiting.end) {
            (false, _) => Waited::Something,
            (true, None) => Waited::Nothing,
            (true, Some(_)) => Waited::Ended,
        }
    }

    /// Takes what waits, as much as goes into one commit.
    pub fn take(&self, into: &mut Vec<Request>) {
        let mut waiting = self.waiting.lock();
        let (mut commands, mut bytes) = (0, 0);
        while commands < self.commit.0 && bytes < self.commit.1 {
            let Some(next) = waiting.requests.pop_front() else {
                break;
            };
            commands += next.commands.len();
            bytes += next.bytes();
            into.push(next);
        }
        waiting.bytes -= bytes;
    }

    /// Whether anything waits.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.lock().requests.is_empty()
    }

    /// From now on nobody is woken for what comes: the caller sees to it. Not when something waits, or nothing more comes.
    pub fn attend(&self) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.is_attended = waiting.requests.is_empty() && waiting.end.is_none();
        waiting.is_attended
    }

    /// From now on somebody is woken for what comes, and for what is there.
    pub fn leave(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_attended = false;
        let has_waiting = !waiting.requests.is_empty();
        drop(waiting);
        if has_waiting {
            self.came.notify_one();
        }
    }

    /// Takes nothing more in; what waits is still to be done.
    pub fn close(&self) {
        self.waiting.lock().end.get_or_insert(closed);
        self.came.notify_one();
    }

    /// Nobody writes any more: whoever waits learns it.
    pub fn abandon(&self) {
        let mut waiting = self.waiting.lock();
        waiting.end.get_or_insert(gone);
        waiting.bytes = 0;
        let left = std::mem::take(&mut waiting.requests);
        drop(waiting);
        let gone = gone();
        left.into_iter().for_each(|request| request.fail(&gone));
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.waiting.lock().bytes
    }
}

fn closed() -> Failure {
    errors::store_unavailable("it is closed")
}

fn overloaded() -> Failure {
    errors::overloaded(Duration::from_millis(rand::random_range(50..=200)))
}

pub fn gone() -> Failure {
    errors::store_unavailable("the writer has gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        let (answer, _) = oneshot::channel();
        Request {
            commands: Vec::new(),
            answer,
        }
    }

    fn queue() -> Queue {
        Queue::new(&Options::default())
    }

    #[test]
    fn who_attends_finds_what_came_and_who_is_left_with_it_is_woken() {
        let queue = queue();
        assert!(queue.attend());
        queue.put(request()).unwrap();
        assert!(!queue.attend(), "something waits");
        queue.take(&mut Vec::new());
        assert!(queue.attend());
        queue.put(request()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.wait(None));
            queue.leave();
            assert_eq!(waiting.join().unwrap(), Waited::Something);
        });
    }

    #[test]
    fn a_closed_queue_gives_out_what_waits_and_takes_nothing_in() {
        let queue = queue();
        assert_eq!(queue.wait(Some(Duration::ZERO)), Waited::Nothing);
        queue.put(request()).unwrap();
        queue.close();
        assert!(queue.put(request()).is_err() && !queue.attend());
        assert_eq!(queue.wait(None), Waited::Something);
        let mut taken = Vec::new();
        queue.take(&mut taken);
        assert_eq!((taken.len(), queue.wait(None)), (1, Waited::Ended));
    }
}
