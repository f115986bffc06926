//! Of which chats the sessions of this node hear who is there, and what nodes tell each other of it.
//!
//! A change of a user costs what those cost who hear of that user, however many chats and sessions there are.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tertulia_kit::bus::Bus;
use tertulia_services::ids::{ChatId, UserId};
use tertulia_services::presence::{Circle, State, Watchers, Word};

use super::queue::Queue;
use super::told::{self, Frame, Told};

/// The sessions that hear who is there, by chat.
pub struct Watches {
    bus: Arc<dyn Bus<Told>>,
    /// Guards both lists, for a few lines. Inside it the locks of queues may be taken.
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    chats: FxHashMap<ChatId, Chat>,
    /// In which of those chats a user is.
    users: FxHashMap<UserId, Vec<ChatId>>,
}

/// A chat that somebody here watches.
struct Chat {
    members: Arc<[UserId]>,
    sessions: Vec<(UserId, Arc<Queue>)>,
}

impl Watches {
    /// Nobody watches anything.
    pub fn new(bus: Arc<dyn Bus<Told>>) -> Self {
        Watches {
            bus,
            watched: Mutex::new(Watched::default()),
        }
    }

    /// From now on a session of this user hears who is there in this chat.
    pub fn enter(&self, circle: &Circle, user: UserId, queue: &Arc<Queue>) {
        let mut watched = self.watched.lock();
        watched.set_members(circle);
        let chat = watched.chats.get_mut(&circle.chat);
        let sessions = chat.map(|chat| &mut chat.sessions);
        if let Some(sessions) = sessions
            && !sessions.iter().any(|(_, q)| Arc::ptr_eq(q, queue))
        {
            sessions.push((user, Arc::clone(queue)));
        }
    }

    /// From now on these sessions do not.
    pub fn leave(&self, chat: ChatId, queues: &[Arc<Queue>]) {
        let mut watched = self.watched.lock();
        watched.keep_sessions(chat, |_, queue| {
            !queues.iter().any(|q| Arc::ptr_eq(q, queue))
        });
    }

    /// A user is in a chat no longer: who watches it does not hear of them through it, nor they of others.
    pub fn part(&self, chat: ChatId, user: UserId) {
        let mut watched = self.watched.lock();
        watched.keep_sessions(chat, |owner, _| owner != user);
        if let Some(one) = watched.chats.get_mut(&chat) {
            one.members = one.members.iter().copied().filter(|m| *m != user).collect();
        }
        watched.forget(user, chat);
    }
}

impl Watched {
    /// The members are as they were read last.
    fn set_members(&mut self, circle: &Circle) {
        let before = match self.chats.entry(circle.chat) {
            Entry::Occupied(chat) if chat.get().members == circle.members => return,
            Entry::Occupied(mut chat) => {
                std::mem::replace(&mut chat.get_mut().members, Arc::clone(&circle.members))
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Chat {
                    members: Arc::clone(&circle.members),
                    sessions: Vec::new(),
                });
                Arc::new([])
            }
        };
        for user in before.iter() {
            self.forget(*user, circle.chat);
        }
        for user in circle.members.iter() {
            self.users.entry(*user).or_default().push(circle.chat);
        }
    }

    fn forget(&mut self, user: UserId, chat: ChatId) {
        if let Entry::Occupied(mut chats) = self.users.entry(user) {
            chats.get_mut().retain(|one| *one != chat);
            if chats.get().is_empty() {
                chats.remove();
            }
        }
    }

    /// A chat that nobody watches any more is forgotten.
    fn keep_sessions(&mut self, chat: ChatId, keep: impl Fn(UserId, &Arc<Queue>) -> bool) {
        let Some(one) = self.chats.get_mut(&chat) else {
            return;
        };
        one.sessions.retain(|(user, queue)| keep(*user, queue));
        if one.sessions.is_empty()
            && let Some(gone) = self.chats.remove(&chat)
        {
            for user in gone.members.iter() {
                self.forget(*user, chat);
            }
        }
    }

    fn tell(&self, user: UserId, frame: &Arc<Frame>) {
        let chats = self.users.get(&user).into_iter().flatten();
        let sessions = chats
            .filter_map(|chat| self.chats.get(chat))
            .flat_map(|chat| &chat.sessions);
        // Who hears of somebody through two chats has the newest once: it takes the place of the one before.
        let others = sessions.filter(|(owner, _)| *owner != user);
        others.for_each(|(_, queue)| queue.push(frame));
    }
}

impl Watchers for Watches {
    fn say(&self, word: Word) {
        self.bus.publish(told::OF_PRESENCE, Told::Presence(word));
    }

    fn changed(&self, states: &[(UserId, State)]) {
        let watched = self.watched.lock();
        let heard = states
            .iter()
            .filter(|(user, _)| watched.users.contains_key(user));
        for (user, state) in heard {
            watched.tell(*user, &Frame::of_presence(*user, *state));
        }
    }

    fn watched(&self, mut users: Vec<UserId>) -> Vec<UserId> {
        let watched = self.watched.lock();
        users.retain(|user| watched.users.contains_key(user));
        users
    }

    fn all_watched(&self) -> Vec<UserId> {
        self.watched.lock().users.keys().copied().collect()
    }

    fn stop(&self, user: UserId) {
        let mut watched = self.watched.lock();
        let chats = watched.users.get(&user).cloned().unwrap_or_default();
        for chat in chats {
            watched.keep_sessions(chat, |owner, _| owner != user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Taken;
    use super::super::queue::tests::{about, options};
    use super::*;
    use tertulia_kit::bus::Memory;

    fn watches() -> Watches {
        Watches::new(Arc::new(Memory::new()))
    }

    fn queue() -> Arc<Queue> {
        Queue::new(about(1, 1), 0, &options())
    }

    fn circle(chat: i64, members: &[i64]) -> Circle {
        Circle {
            chat: ChatId(chat),
            members: members.iter().copied().map(UserId).collect(),
        }
    }

    fn heard(queue: &Queue) -> usize {
        match queue.take() {
            Taken::Frames(frames) => frames.len(),
            other => panic!("{other:?}"),
        }
    }

    fn changes(watches: &Watches, users: impl IntoIterator<Item = i64>) {
        let states: Vec<_> = users
            .into_iter()
            .map(|user| (UserId(user), State::Online))
            .collect();
        watches.changed(&states);
    }

    #[test]
    fn who_watches_a_chat_hears_of_the_others_in_it_and_of_nobody_else() {
        let (watches, one, two) = (watches(), queue(), queue());
        watches.enter(&circle(5, &[1, 2, 3]), UserId(1), &one);
        watches.enter(&circle(6, &[2, 4]), UserId(2), &two);
        changes(&watches, 1..=9);
        assert_eq!((heard(&one), heard(&two)), (2, 1));
    }

    #[test]
    fn who_is_met_in_two_chats_is_told_once() {
        let (watches, one) = (watches(), queue());
        watches.enter(&circle(5, &[1, 2]), UserId(1), &one);
        watches.enter(&circle(6, &[1, 2, 3]), UserId(1), &one);
        changes(&watches, [2, 2, 2]);
        assert_eq!(heard(&one), 1);
    }

    #[test]
    fn who_leaves_a_chat_neither_hears_nor_is_heard_of_through_it() {
        let (watches, one, two) = (watches(), queue(), queue());
        for (user, queue) in [(1, &one), (2, &two)] {
            watches.enter(&circle(5, &[1, 2, 3]), UserId(user), queue);
        }
        watches.part(ChatId(5), UserId(1));
        changes(&watches, 1..=3);
        assert_eq!((heard(&one), heard(&two)), (0, 1));
    }

    #[test]
    fn a_chat_that_nobody_watches_costs_nothing() {
        let (watches, one, two) = (watches(), queue(), queue());
        watches.enter(&circle(5, &[1, 2]), UserId(1), &one);
        watches.enter(&circle(5, &[1, 2, 3]), UserId(2), &two);
        assert_eq!(watches.all_watched().len(), 3);
        watches.stop(UserId(1));
        watches.leave(ChatId(5), std::slice::from_ref(&two));
        let watched = watches.watched.lock();
        assert!(watched.chats.is_empty() && watched.users.is_empty());
    }

    #[test]
    fn members_are_those_of_the_newest_reading() {
        let (watches, one) = (watches(), queue());
        watches.enter(&circle(5, &[1, 2, 3]), UserId(1), &one);
        watches.enter(&circle(5, &[1, 4]), UserId(1), &one);
        changes(&watches, 1..=4);
        assert_eq!(heard(&one), 1);
    }
}
