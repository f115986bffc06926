//! Reaching sessions from outside: whom a word is for, pushing to them, and ending them.

use std::sync::Arc;
use std::time::Duration;

use tertulia_services::ids::{LoginId, UserId};

use super::Hub;
use crate::live::close;
use crate::live::queue::{Ending, Queue};
use crate::live::told::Frame;

/// Which sessions of this node are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Those of a user.
    User(UserId),
    /// Those of these users.
    Users(Vec<UserId>),
    /// Those of a login. All sessions are looked at for it.
    Login(LoginId),
    /// Those of a user on a device.
    Device(UserId, String),
    /// One, by its id. All sessions are looked at for it.
    Session(String),
    /// All of them.
    Everybody,
    /// None.
    Nobody,
}

impl Hub {
    /// The sessions that are meant, in no order.
    pub fn sessions(&self, whom: &Whom) -> Vec<Arc<Queue>> {
        match whom {
            Whom::User(user) => self.of_user(*user, |_| true),
            Whom::Users(users) => {
                let each = users.iter().map(|user| self.of_user(*user, |_| true));
                each.flatten().collect()
            }
            Whom::Device(user, device) => {
                self.of_user(*user, |queue| *queue.about.device == **device)
            }
            Whom::Login(login) => self.among_all(|queue| queue.about.login == *login),
            Whom::Session(id) => self.among_all(|queue| queue.about.session.as_str() == id),
            Whom::Everybody => self.among_all(|_| true),
            Whom::Nobody => Vec::new(),
        }
    }

    /// Puts a frame into the queues of those who are meant; how many took it. They are woken in turns.
    pub fn push(&self, whom: &Whom, frame: &Arc<Frame>) -> usize {
        let mut hearers = self.turns.hearers();
        let sessions = self.sessions(whom);
        let took = sessions
            .iter()
            .filter(|queue| hearers.hear(queue, frame))
            .count();
        self.turns.take(hearers);
        took
    }

    /// Ends those who are meant, each in the way that `ending` gives; how many were not ended before.
    pub fn end(&self, whom: &Whom, mut ending: impl FnMut() -> Ending) -> usize {
        let sessions = self.sessions(whom);
        sessions.iter().filter(|queue| queue.end(ending())).count()
    }

    /// Ends the sessions of logins that have ended.
    pub fn end_logins(&self, logins: &[LoginId]) {
        if logins.is_empty() {
            return;
        }
        for queue in self.among_all(|queue| logins.contains(&queue.about.login)) {
            queue.end(Ending::of(close::LOGIN_ENDED, Duration::ZERO));
        }
    }

    fn of_user(&self, user: UserId, is_meant: impl Fn(&Queue) -> bool) -> Vec<Arc<Queue>> {
        let shard = self.shard(user).lock();
        let present = shard.get(&user).into_iter();
        let queues = present.flat_map(|present| &present.queues);
        queues.filter(|queue| is_meant(queue)).cloned().collect()
    }

    fn among_all(&self, is_meant: impl Fn(&Queue) -> bool) -> Vec<Arc<Queue>> {
        let mut meant = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let queues = shard.values().flat_map(|present| &present.queues);
            meant.extend(queues.filter(|queue| is_meant(queue)).cloned());
        }
        meant
    }
}

#[cfg(test)]
mod tests {
    use tertulia_kit::bus::Memory;
    use tertulia_proto::live::Notice;

    use super::super::Attached;
    use super::*;
    use crate::live::about::About;
    use crate::live::queue::Taken;
    use crate::live::queue::tests::{about, options};

    struct World {
        hub: Arc<Hub>,
        here: Vec<(About, Attached)>,
    }

    /// Three users; the first has two logins, and two sessions of one of them.
    fn world() -> World {
        let hub = Hub::new(Arc::new(Memory::new()), &options());
        let sessions = [
            (1, 10, "phone"),
            (1, 11, "desk"),
            (2, 20, "phone"),
            (3, 30, "d"),
        ];
        let here = sessions.map(|(user, login, device)| {
            let about = About {
                device: device.into(),
                ..about(user, login)
            };
            let attached = hub.attach(about.clone()).unwrap();
            (about, attached)
        });
        World {
            hub,
            here: here.into(),
        }
    }

    fn whoms(world: &World) -> [(Whom, [usize; 4]); 8] {
        let one = world.here[1].0.session.as_str().to_owned();
        [
            (Whom::User(UserId(1)), [1, 1, 0, 0]),
            (
                Whom::Users(vec![UserId(2), UserId(3), UserId(9)]),
                [0, 0, 1, 1],
            ),
            (Whom::Login(LoginId(10)), [1, 0, 0, 0]),
            (Whom::Device(UserId(2), "phone".into()), [0, 0, 1, 0]),
            (Whom::Device(UserId(3), "phone".into()), [0, 0, 0, 0]),
            (Whom::Session(one), [0, 1, 0, 0]),
            (Whom::Everybody, [1, 1, 1, 1]),
            (Whom::Nobody, [0, 0, 0, 0]),
        ]
    }

    #[test]
    fn a_push_reaches_exactly_those_who_are_meant() {
        let world = world();
        let notice = Notice {
            kind: "announcement".into(),
            ..Default::default()
        };
        for (whom, expected) in whoms(&world) {
            let reached = world.hub.push(&whom, &Frame::of_notice(notice.clone()));
            let taken = world
                .here
                .iter()
                .map(|(_, here)| match here.queue().take() {
                    Taken::Frames(frames) => frames.len(),
                    other => panic!("{other:?}"),
                });
            assert_eq!(taken.collect::<Vec<_>>(), expected, "{whom:?}");
            assert_eq!(reached, expected.iter().sum::<usize>());
        }
    }

    #[test]
    fn an_end_reaches_exactly_those_who_are_meant_and_each_once() {
        let after = Duration::from_secs(3);
        let ending = || Ending::of(close::MOVED, after);
        for at in 0..8 {
            let world = world();
            let (whom, expected) = whoms(&world)[at].clone();
            let sum = expected.iter().sum::<usize>();
            assert_eq!(world.hub.end(&whom, ending), sum, "{whom:?}");
            assert_eq!(world.hub.end(&whom, ending), 0);
            let ended = world
                .here
                .iter()
                .map(|(_, here)| match here.queue().take() {
                    Taken::Ended(told) => usize::from(told == ending()),
                    _ => 0,
                });
            assert_eq!(ended.collect::<Vec<_>>(), expected, "{whom:?}");
        }
    }

    #[test]
    fn logins_that_ended_elsewhere_end_their_sessions() {
        let world = world();
        world
            .hub
            .end_logins(&[LoginId(11), LoginId(30), LoginId(99)]);
        let is_ended = |(_, here): &(About, Attached)| matches!(here.queue().take(), Taken::Ended(ending) if ending.close == close::LOGIN_ENDED);
        let ended: Vec<bool> = world.here.iter().map(is_ended).collect();
        assert_eq!(ended, [false, true, false, true]);
    }
}
