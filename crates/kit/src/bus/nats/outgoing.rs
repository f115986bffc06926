//! What waits to be sent to other nodes: bounded in bytes, open only while there is a server. What does not fit is
//! lost and counted; who publishes never waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::metrics::Counter;

/// What a message takes beside its subject and its bytes, about.
const MESSAGE_BYTES: usize = 128;
/// How many are taken at once.
const TAKEN_MAX: usize = 1_024;

/// A message on its way.
pub struct Message {
    /// Where to.
    pub subject: String,
    /// What.
    pub bytes: Bytes,
}

impl Message {
    fn size(&self) -> usize {
        MESSAGE_BYTES + self.subject.len() + self.bytes.len()
    }
}

/// What waits.
pub struct Outgoing {
    bytes_max: usize,
    open: AtomicBool,
    /// Guards the order, for a few lines.
    waiting: Mutex<Waiting>,
    more: Notify,
    lost: Counter,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Outgoing {
    /// Nothing waits, and nothing is taken yet.
    pub fn new(bytes_max: usize) -> Self {
        Outgoing {
            bytes_max,
            open: AtomicBool::new(false),
            waiting: Mutex::default(),
            more: Notify::new(),
            lost: Counter::default(),
        }
    }

    /// Puts a message at the end, if there is a server and room.
    pub fn push(&self, subject: String, bytes: Bytes) {
        let message = Message { subject, bytes };
        if !self.open.load(Ordering::Acquire) {
            return self.lose();
        }
        let mut waiting = self.waiting.lock();
        if waiting.bytes + message.size() > self.bytes_max {
            drop(waiting);
            return self.lose();
        }
        waiting.bytes += message.size();
        waiting.messages.push_back(message);
        let is_first = waiting.messages.len() == 1;
        drop(waiting);
        if is_first {
            self.more.notify_one();
        }
    }

    /// There is a server now, or there is none.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    /// One did not get there.
    pub fn lose(&self) {
        self.lost.add(1);
    }

    /// How many did not get there.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Waits until there are some, and takes them, in their order. Cancel-safe.
    pub async fn taken(&self) -> Vec<Message> {
        loop {
            let taken = self.take();
            if !taken.is_empty() {
                return taken;
            }
            self.more.notified().await;
        }
    }

    /// Those that wait, the first so many.
    pub fn take(&self) -> Vec<Message> {
        let mut waiting = self.waiting.lock();
        let count = waiting.messages.len().min(TAKEN_MAX);
        let taken: Vec<Message> = waiting.messages.drain(..count).collect();
        waiting.bytes -= taken.iter().map(Message::size).sum::<usize>();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = MESSAGE_BYTES + 1 + 10;

    fn push(outgoing: &Outgoing) {
        outgoing.push("a".into(), Bytes::from_static(&[0; 10]));
    }

    #[test]
    fn what_does_not_fit_is_lost_and_what_was_taken_makes_room() {
        let outgoing = Outgoing::new(3 * SIZE);
        outgoing.set_open(true);
        (0..5).for_each(|_| push(&outgoing));
        assert_eq!((outgoing.lost(), outgoing.take().len()), (2, 3));
        (0..5).for_each(|_| push(&outgoing));
        assert_eq!((outgoing.lost(), outgoing.take().len()), (4, 3));
    }

    #[test]
    fn without_a_server_nothing_waits_for_it() {
        let outgoing = Outgoing::new(3 * SIZE);
        push(&outgoing);
        assert_eq!((outgoing.lost(), outgoing.take().len()), (1, 0));
    }

    #[tokio::test]
    async fn none_is_forgotten_when_many_come_at_once() {
        let outgoing = Outgoing::new(usize::MAX);
        outgoing.set_open(true);
        (0..2 * TAKEN_MAX + 1).for_each(|_| push(&outgoing));
        let mut taken = 0;
        while taken < 2 * TAKEN_MAX + 1 {
            taken += outgoing.taken().await.len();
        }
        push(&outgoing);
        assert_eq!(outgoing.taken().await.len(), 1);
    }
}
