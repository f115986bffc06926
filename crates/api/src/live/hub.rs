//! All sessions of this node, and the bounded queue of each.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tertulia_kit::bus::{Bus, Subscription};
use tertulia_services::access::Caller;
use tertulia_services::ids::{LoginId, UserId};
use tokio::sync::Notify;

use super::Options;
use super::feed::{Frame, Told, subject};

const SHARDS: usize = 64;

/// The sessions, by user.
pub struct Hub {
    bus: Arc<dyn Bus<Told>>,
    frames_max: usize,
    bytes_max: usize,
    per_user_max: usize,
    /// Each lock guards the sessions of the users of its shard, for a few lines.
    shards: [Mutex<HashMap<UserId, Present>>; SHARDS],
}

/// A user with a session here.
struct Present {
    queues: Vec<Arc<Queue>>,
    /// Held as long as the user is here.
    _subscription: Subscription,
}

impl Hub {
    /// Nobody is here yet.
    pub fn new(bus: Arc<dyn Bus<Told>>, options: &Options) -> Arc<Self> {
        Arc::new(Hub {
            bus,
            frames_max: options.outbound_frames_max,
            bytes_max: options.outbound_bytes_max,
            per_user_max: options.sessions_per_user_max,
            shards: std::array::from_fn(|_| Mutex::new(HashMap::new())),
        })
    }

    /// Attaches a session: from now on everything that concerns its user comes into its queue. None when
    /// the user has too many sessions here.
    pub fn attach(self: &Arc<Self>, caller: &Caller) -> Option<Attached> {
        let queue = Arc::new(Queue {
            login: caller.login,
            frames_max: self.frames_max,
            bytes_max: self.bytes_max,
            state: Mutex::new(State::default()),
            wake: Notify::new(),
        });
        let user = caller.user;
        let mut shard = self.shard(user).lock();
        match shard.entry(user) {
            Entry::Occupied(mut present) => {
                if present.get().queues.len() >= self.per_user_max {
                    return None;
                }
                present.get_mut().queues.push(Arc::clone(&queue));
            }
            Entry::Vacant(absent) => {
                let hub: Weak<Hub> = Arc::downgrade(self);
                let sink = Arc::new(move |told: Told| {
                    if let Some(hub) = hub.upgrade() {
                        hub.tell(user, &told);
                    }
                });
                let subscription = self.bus.subscribe(&subject(user), sink);
                absent.insert(Present {
                    queues: vec![Arc::clone(&queue)],
                    _subscription: subscription,
                });
            }
        }
        drop(shard);
        Some(Attached {
            hub: Arc::clone(self),
            user,
            queue,
        })
    }

    fn tell(&self, user: UserId, told: &Told) {
        let shard = self.shard(user).lock();
        let Some(present) = shard.get(&user) else {
            return;
        };
        for queue in &present.queues {
            match told {
                Told::Frame(frame) => queue.push(frame),
                Told::LoginEnded(login) if queue.login == *login => queue.end(),
                Told::LoginEnded(_) => {}
            }
        }
    }

    fn detach(&self, user: UserId, queue: &Arc<Queue>) {
        let mut shard = self.shard(user).lock();
        let Some(present) = shard.get_mut(&user) else {
            return;
        };
        present.queues.retain(|q| !Arc::ptr_eq(q, queue));
        // The subscription is dropped outside the lock: the bus takes locks of its own.
        let gone = if present.queues.is_empty() {
            shard.remove(&user)
        } else {
            None
        };
        drop(shard);
        drop(gone);
    }

    fn shard(&self, user: UserId) -> &Mutex<HashMap<UserId, Present>> {
        // The low bits of an id are a sequence that is mostly zero.
        let spread = (user.0 as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
        &self.shards[spread as usize % SHARDS]
    }
}

/// A session's place in the hub; dropping it leaves.
pub struct Attached {
    hub: Arc<Hub>,
    user: UserId,
    queue: Arc<Queue>,
}

impl Attached {
    /// The session's queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.hub.detach(self.user, &self.queue);
    }
}

/// What waits for a session. When it is full everything in it is dropped and the session is behind: it costs
/// its own queue, and nobody else anything.
pub struct Queue {
    login: LoginId,
    frames_max: usize,
    bytes_max: usize,
    /// Guards what waits, for a few lines.
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
    dropped: u64,
    behind: bool,
    ended: bool,
}

/// What a session takes out of its queue.
#[derive(Debug)]
pub enum Taken {
    /// Frames, oldest first; may be empty.
    Frames(VecDeque<Arc<Frame>>),
    /// So many frames were dropped since the session last caught up.
    Behind(u64),
    /// The login was ended.
    Ended,
}

impl Queue {
    fn push(&self, frame: &Arc<Frame>) {
        let mut state = self.state.lock();
        if state.behind {
            state.dropped += 1;
            return;
        }
        if state.frames.len() >= self.frames_max || state.bytes + frame.bytes() > self.bytes_max {
            state.dropped += state.frames.len() as u64 + 1;
            state.behind = true;
            state.frames = VecDeque::new();
            state.bytes = 0;
        } else {
            state.bytes += frame.bytes();
            state.frames.push_back(Arc::clone(frame));
        }
        drop(state);
        self.wake.notify_one();
    }

    fn end(&self) {
        self.state.lock().ended = true;
        self.wake.notify_one();
    }

    /// Waits until there is something to take. Cancel-safe.
    pub async fn ready(&self) {
        self.wake.notified().await;
    }

    /// Takes everything.
    pub fn take(&self) -> Taken {
        let mut state = self.state.lock();
        if state.ended {
            return Taken::Ended;
        }
        if state.behind {
            return Taken::Behind(state.dropped);
        }
        state.bytes = 0;
        Taken::Frames(std::mem::take(&mut state.frames))
    }

    /// From now on frames are kept again. To be called before the logs are read, so that nothing falls
    /// between the reading and the keeping.
    pub fn catch_up(&self) {
        let mut state = self.state.lock();
        state.behind = false;
        state.dropped = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tertulia_kit::bus::Memory;

    fn options() -> Options {
        Options {
            heartbeat: Duration::from_secs(25),
            hello_timeout: Duration::from_secs(10),
            frame_bytes_max: 65_536,
            outbound_frames_max: 3,
            outbound_bytes_max: 1_000_000,
            calls_in_flight_max: 16,
            sessions_per_user_max: 2,
            sessions_max: 10,
            drain_spread: Duration::from_secs(1),
        }
    }

    fn caller(user: i64, login: i64) -> Caller {
        Caller {
            user: UserId(user),
            login: LoginId(login),
            device: "d".into(),
            expires_at_ms: i64::MAX,
        }
    }

    fn frame() -> Told {
        let mut bytes = vec![1];
        let own = tertulia_proto::live::OwnEvent {
            prev: 0,
            event: tertulia_proto::chats::UserEvent {
                seq: 1,
                ..Default::default()
            }
            .into(),
            ..Default::default()
        };
        bytes.extend_from_slice(&super::super::frames::encode_proto(own.into()));
        tertulia_kit::bus::Payload::decode(&bytes).unwrap()
    }

    #[test]
    fn a_full_queue_is_dropped_and_the_session_is_behind_until_it_catches_up() {
        let bus: Arc<dyn Bus<Told>> = Arc::new(Memory::new());
        let hub = Hub::new(Arc::clone(&bus), &options());
        let here = hub.attach(&caller(1, 1)).unwrap();
        for _ in 0..5 {
            bus.publish("user.1", frame());
        }
        assert!(matches!(here.queue().take(), Taken::Behind(5)));
        here.queue().catch_up();
        bus.publish("user.1", frame());
        assert!(matches!(here.queue().take(), Taken::Frames(f) if f.len() == 1));
    }

    #[test]
    fn an_ended_login_ends_its_own_sessions_only() {
        let bus: Arc<dyn Bus<Told>> = Arc::new(Memory::new());
        let hub = Hub::new(Arc::clone(&bus), &options());
        let (one, two) = (
            hub.attach(&caller(1, 1)).unwrap(),
            hub.attach(&caller(1, 2)).unwrap(),
        );
        bus.publish("user.1", Told::LoginEnded(LoginId(2)));
        assert!(matches!(one.queue().take(), Taken::Frames(_)));
        assert!(matches!(two.queue().take(), Taken::Ended));
    }

    #[test]
    fn a_user_has_so_many_sessions_and_no_more() {
        let bus: Arc<dyn Bus<Told>> = Arc::new(Memory::new());
        let hub = Hub::new(bus, &options());
        let _one = hub.attach(&caller(1, 1)).unwrap();
        let two = hub.attach(&caller(1, 1));
        assert!(hub.attach(&caller(1, 1)).is_none());
        drop(two);
        assert!(hub.attach(&caller(1, 1)).is_some());
    }
}
