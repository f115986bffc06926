//! All sessions of this node: whom what came over the bus is for, and [whom](whom::Whom) a word from outside.

pub mod whom;

use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tertulia_kit::bus::{Bus, Sink, Subscription};
use tertulia_services::ids::{ChatId, UserId};
use tertulia_services::presence::{Circle, Presence, Watchers};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Options;
use super::about::About;
use super::close;
use super::queue::{Ending, Queue};
use super::told::{self, Frame, Told};
use super::turns::Turns;
use super::warm::WarmChats;
use super::watches::Watches;

const SHARDS: usize = 64;
/// Over how long the sessions are told that the bus was disrupted, and how often at most. A bus that comes and goes
/// would otherwise have all of them read again and again, all at once.
const HEED_OVER: Duration = Duration::from_secs(1);

/// The sessions, by user.
pub struct Hub {
    bus: Arc<dyn Bus<Told>>,
    options: Options,
    /// Each lock guards the sessions of the users of its shard, for a few lines. Inside it the locks of warm
    /// chats and of queues may be taken.
    shards: [Mutex<FxHashMap<UserId, Present>>; SHARDS],
    warm: WarmChats,
    watches: Arc<Watches>,
    turns: Turns,
    /// What the bus has said since the hub is there.
    disruptions: watch::Receiver<u64>,
    /// Of what concerns many.
    _subscription: Subscription,
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
        Arc::new_cyclic(|hub| {
            let sink = sink(hub, |hub, told| {
                if let Told::Many(frame, users) = told {
                    hub.tell_many(&users, &frame);
                }
            });
            Hub {
                options: options.clone(),
                shards: std::array::from_fn(|_| Mutex::new(FxHashMap::default())),
                warm: WarmChats::new(),
                watches: Arc::new(Watches::new(Arc::clone(&bus))),
                turns: Turns::new(options.turn_sessions_max, options.turn_every),
                disruptions: bus.disruptions(),
                _subscription: bus.subscribe(told::OF_MANY, sink),
                bus,
            }
        })
    }

    /// Attaches a session: from now on everything that concerns its user comes into its queue, and what other
    /// nodes say of it as soon as that is [settled](Hub::settled). None when the user has too many sessions here.
    pub fn attach(self: &Arc<Self>, about: About) -> Option<Attached> {
        let user = about.user;
        let queue = Queue::new(about, self.turns.next_phase(), &self.options);
        let mut shard = self.shard(user).lock();
        match shard.entry(user) {
            Entry::Occupied(mut present) => {
                if present.get().queues.len() >= self.options.sessions_per_user_max {
                    return None;
                }
                present.get_mut().queues.push(Arc::clone(&queue));
            }
            Entry::Vacant(absent) => {
                let sink = sink(&Arc::downgrade(self), move |hub, told| {
                    hub.tell(user, &told)
                });
                absent.insert(Present {
                    queues: vec![Arc::clone(&queue)],
                    _subscription: self.bus.subscribe(&told::of_user(user), sink),
                });
            }
        }
        drop(shard);
        Some(Attached {
            hub: Arc::clone(self),
            user,
            queue,
            warm: Vec::new(),
            watched: Box::default(),
        })
    }

    /// Whom presence tells.
    pub fn watchers(&self) -> Arc<dyn Watchers> {
        Arc::clone(&self.watches) as _
    }

    /// From now on presence hears what nodes say of who is there, as long as somebody keeps it.
    pub fn hear_presence(&self, presence: &Arc<Presence>) -> Subscription {
        let (presence, watches) = (Arc::downgrade(presence), Arc::clone(&self.watches));
        let sink = move |told: Told| match told {
            Told::Presence(word) => {
                if let Some(presence) = presence.upgrade() {
                    presence.heard(&word);
                }
            }
            Told::Parted(chat, user) => watches.part(chat, user),
            Told::Frame(_) | Told::Many(..) | Told::LoginEnded(_) => {}
        };
        self.bus.subscribe(told::OF_PRESENCE, Arc::new(sink))
    }

    /// Waits until what other nodes say reaches every session that is attached.
    pub async fn settled(&self) {
        self.bus.settled().await;
    }

    /// Makes all sessions catch up whenever the bus says that it may have lost something. Never ends.
    pub async fn heed_disruptions(&self) {
        let mut disruptions = self.disruptions.clone();
        while disruptions.changed().await.is_ok() {
            // What disturbs it from here on is heeded in the next round.
            let over = Instant::now() + HEED_OVER;
            let sessions = self.fall_behind().await;
            tracing::warn!("the bus was disrupted: {sessions} sessions catch up");
            sleep_until(over).await;
        }
        // The bus has gone, and with it whoever could disturb it.
        std::future::pending().await
    }

    /// Wakes the sessions that hear of large chats, each in its turn. Never ends.
    pub async fn give_turns(&self) {
        self.turns.give().await;
    }

    /// Tells the sessions, shard after shard; how many that were.
    async fn fall_behind(&self) -> usize {
        let mut sessions = 0;
        for shard in &self.shards {
            let told = fall_behind(&shard.lock());
            sessions += told;
            if told > 0 {
                sleep(HEED_OVER / (2 * SHARDS as u32)).await;
            }
        }
        sessions
    }

    fn tell(&self, user: UserId, told: &Told) {
        let shard = self.shard(user).lock();
        let Some(present) = shard.get(&user) else {
            return;
        };
        match told {
            Told::Frame(frame) => {
                // Before anything that comes later: who is in a chat no longer hears nothing of it.
                if let Some(chat) = frame.leaves {
                    self.warm.leave(chat, &present.queues);
                    self.watches.leave(chat, &present.queues);
                }
                present.queues.iter().for_each(|queue| queue.push(frame));
            }
            Told::LoginEnded(login) => {
                let ended = present.queues.iter().filter(|q| q.about.login == *login);
                let ending = || Ending::of(close::LOGIN_ENDED, Duration::ZERO);
                ended.for_each(|queue| _ = queue.end(ending()));
            }
            Told::Many(..) | Told::Presence(_) | Told::Parted(..) => {}
        }
    }

    fn tell_many(&self, users: &[UserId], frame: &Arc<Frame>) {
        let mut hearers = self.turns.hearers();
        for user in users {
            let shard = self.shard(*user).lock();
            let present = shard.get(user).into_iter();
            let queues = present.flat_map(|present| &present.queues);
            queues.for_each(|queue| _ = hearers.hear(queue, frame));
        }
        self.turns.take(hearers);
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

    fn shard(&self, user: UserId) -> &Mutex<FxHashMap<UserId, Present>> {
        &self.shards[super::spread(user.0) % SHARDS]
    }
}

fn fall_behind(shard: &FxHashMap<UserId, Present>) -> usize {
    let queues = shard.values().flat_map(|present| &present.queues);
    queues.map(|queue| queue.fall_behind()).count()
}

/// A sink that does not keep the hub.
fn sink(hub: &Weak<Hub>, hear: impl Fn(&Arc<Hub>, Told) + Send + Sync + 'static) -> Sink<Told> {
    let hub = hub.clone();
    Arc::new(move |told: Told| {
        if let Some(hub) = hub.upgrade() {
            hear(&hub, told);
        }
    })
}

/// A session's place in the hub; dropping it leaves.
pub struct Attached {
    hub: Arc<Hub>,
    user: UserId,
    queue: Arc<Queue>,
    /// What was warmed and not cooled since. The user may have left some of them.
    warm: Vec<ChatId>,
    /// Of which chats it was to hear who is there.
    watched: Box<[ChatId]>,
}

impl Attached {
    /// The session's queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What the session has warm.
    pub fn warm_chats(&self) -> &[ChatId] {
        &self.warm
    }

    /// From now on the session hears these chats, and of those that it had warm only these. Gives those that
    /// it did not hear before.
    pub fn warm(&mut self, chats: Vec<ChatId>) -> Vec<ChatId> {
        let cold = std::mem::replace(&mut self.warm, chats);
        for chat in cold.into_iter().filter(|chat| !self.warm.contains(chat)) {
            self.leave(chat);
        }
        let new = self.warm.iter().copied().filter(|chat| self.enter(*chat));
        new.collect()
    }

    /// The session does not hear a chat after all: what has come of it is dropped.
    pub fn cool(&mut self, chat: ChatId) {
        self.leave(chat);
        self.warm.retain(|one| *one != chat);
        self.queue.drop_chat(chat);
    }

    /// Of which chats the session was to hear who is there.
    pub fn watched_chats(&self) -> &[ChatId] {
        &self.watched
    }

    /// The session is to hear who is there in these chats. It hears of none until [`Attached::watch_circles`].
    pub fn watch(&mut self, chats: Vec<ChatId>) {
        let before = std::mem::replace(&mut self.watched, chats.into());
        before.iter().for_each(|chat| self.unwatch(*chat));
    }

    /// From now on the session hears who is there in these, which are some of those that it was to hear of.
    pub fn watch_circles(&self, circles: &[Circle]) {
        for circle in circles {
            self.hub.watches.enter(circle, self.user, &self.queue);
        }
    }

    fn unwatch(&self, chat: ChatId) {
        let own = std::slice::from_ref(&self.queue);
        self.hub.watches.leave(chat, own);
    }

    fn enter(&self, chat: ChatId) -> bool {
        let hub = &self.hub;
        hub.warm.enter(chat, &self.queue, || {
            let sink = sink(&Arc::downgrade(hub), move |hub, told| {
                if let Told::Frame(frame) = told {
                    let mut hearers = hub.turns.hearers();
                    hub.warm.tell(chat, &frame, &mut hearers);
                    hub.turns.take(hearers);
                }
            });
            hub.bus.subscribe(&told::of_chat(chat), sink)
        })
    }

    fn leave(&self, chat: ChatId) {
        let own = std::slice::from_ref(&self.queue);
        self.hub.warm.leave(chat, own);
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        for chat in &self.warm {
            self.leave(*chat);
        }
        for chat in &self.watched {
            self.unwatch(*chat);
        }
        self.hub.detach(self.user, &self.queue);
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Taken;
    use super::super::queue::tests::{about, event, options};
    use super::*;
    use tertulia_kit::bus::Memory;
    use tertulia_kit::bus::flaky::{Faults, Flaky};
    use tertulia_services::chats::{LeftReason, UserEvent, UserEventBody};
    use tertulia_services::ids::LoginId;

    fn left(user: i64, chat: i64) -> Told {
        Told::Frame(Frame::of_user_event(&UserEvent {
            user: UserId(user),
            seq: 1,
            at_ms: 0,
            body: UserEventBody::ChatLeft {
                chat: ChatId(chat),
                reason: LeftReason::Removed,
                by: UserId(99),
            },
        }))
    }

    fn hub() -> (Arc<dyn Bus<Told>>, Arc<Hub>) {
        let bus: Arc<dyn Bus<Told>> = Arc::new(Memory::new());
        let hub = Hub::new(Arc::clone(&bus), &options());
        (bus, hub)
    }

    /// How many frames wait.
    fn waiting(here: &Attached) -> usize {
        match here.queue().take() {
            Taken::Frames(frames) => frames.len(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ended_login_ends_its_own_sessions_only() {
        let (bus, hub) = hub();
        let (one, two) = (
            hub.attach(about(1, 1)).unwrap(),
            hub.attach(about(1, 2)).unwrap(),
        );
        bus.publish("user.1", Told::LoginEnded(LoginId(2)));
        assert!(matches!(one.queue().take(), Taken::Frames(_)));
        assert!(matches!(two.queue().take(), Taken::Ended(_)));
    }

    #[test]
    fn a_user_has_so_many_sessions_and_no_more() {
        let (_, hub) = hub();
        let _one = hub.attach(about(1, 1)).unwrap();
        let two = hub.attach(about(1, 1));
        assert!(hub.attach(about(1, 1)).is_none());
        drop(two);
        assert!(hub.attach(about(1, 1)).is_some());
    }

    #[test]
    fn what_concerns_many_comes_to_those_of_them_who_are_here() {
        let (bus, hub) = hub();
        let here: Vec<_> = (1..=3)
            .map(|user| hub.attach(about(user, user)).unwrap())
            .collect();
        let users: Arc<[UserId]> = [1, 3, 4].map(UserId).into();
        bus.publish(told::OF_MANY, Told::Many(event(5, 1), users));
        let heard: Vec<usize> = here.iter().map(waiting).collect();
        assert_eq!(heard, [1, 0, 1]);
    }

    #[test]
    fn a_warm_chat_is_heard_until_another_set_takes_its_place() {
        let (bus, hub) = hub();
        let mut here = hub.attach(about(1, 1)).unwrap();
        let say = |chat| bus.publish(&told::of_chat(ChatId(chat)), Told::Frame(event(chat, 1)));
        say(5);
        assert_eq!(waiting(&here), 0);
        assert_eq!(
            here.warm(vec![ChatId(5), ChatId(6)]),
            [ChatId(5), ChatId(6)]
        );
        say(5);
        say(6);
        assert_eq!(waiting(&here), 2);
        assert_eq!(here.warm(vec![ChatId(6), ChatId(7)]), [ChatId(7)]);
        say(5);
        say(6);
        assert_eq!(waiting(&here), 1);
    }

    #[test]
    fn who_leaves_a_chat_does_not_hear_it_on_any_session() {
        let (bus, hub) = hub();
        let mut sessions: Vec<_> = [(1, 1), (1, 2), (2, 3)]
            .map(|(user, login)| hub.attach(about(user, login)).unwrap())
            .into();
        for session in &mut sessions {
            session.warm(vec![ChatId(5)]);
        }
        bus.publish("user.1", left(1, 5));
        bus.publish(&told::of_chat(ChatId(5)), Told::Frame(event(5, 1)));
        let heard: Vec<usize> = sessions.iter().map(waiting).collect();
        assert_eq!(heard, [1, 1, 1], "their leaving, their leaving, the event");
        // Who comes back warms it anew.
        assert_eq!(sessions[0].warm(vec![ChatId(5)]), [ChatId(5)]);
    }

    #[test]
    fn a_chat_that_nobody_has_warm_costs_nothing() {
        let memory = Memory::new();
        let bus: Arc<dyn Bus<Told>> = Arc::new(memory.clone());
        let hub = Hub::new(bus, &options());
        let mut here = hub.attach(about(1, 1)).unwrap();
        let mut other = hub.attach(about(2, 2)).unwrap();
        here.warm(vec![ChatId(5)]);
        other.warm(vec![ChatId(5)]);
        // Two users, the chat, and what concerns many.
        assert_eq!(memory.subjects(), 4);
        here.cool(ChatId(5));
        assert_eq!(memory.subjects(), 4);
        drop((here, other));
        assert_eq!(memory.subjects(), 1);
    }

    #[tokio::test]
    async fn a_disruption_makes_every_session_catch_up() {
        let inner = Arc::new(Memory::<Told>::new());
        let bus = Arc::new(Flaky::new(inner, Faults::default()));
        let hub = Hub::new(bus.clone(), &options());
        let here = [1, 2].map(|user| hub.attach(about(user, user)).unwrap());
        // Before the hub listens: that counts, too.
        bus.disrupt();
        let all_behind = async {
            for session in &here {
                while !matches!(session.queue().take(), Taken::Behind(_)) {
                    session.queue().ready().await;
                }
            }
        };
        let all_behind = tokio::time::timeout(Duration::from_secs(10), all_behind);
        tokio::select! {
            () = hub.heed_disruptions() => panic!("it never ends"),
            all_behind = all_behind => all_behind.unwrap(),
        }
        here[0].queue().catch_up();
        bus.publish("user.1", left(1, 5));
        assert_eq!(waiting(&here[0]), 1);
    }
}
