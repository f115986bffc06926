//! Nodes with a registry in memory and a bus that reaches everybody at once, on a clock that stands still.

use std::collections::{HashMap, HashSet};
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tertulia_kit::clock::ManualClock;

use super::*;
use crate::access::{Authorizer, Members, Permit, Rule};
use crate::chats::{ChatKind, Right, Role};
use crate::ids::{ChatId, LoginId};

mod memory_keeps_the_word_of_the_port {
    use super::*;
    use crate::presence::suite::{LEASE, Time};

    struct Hand(Arc<ManualClock>);

    #[async_trait]
    impl Time for Hand {
        async fn pass(&self, time: Duration) {
            self.0.advance_ms(time.as_millis() as i64);
        }
    }

    crate::presences_suite!({
        let clock = ManualClock::at(BEGIN_MS);
        let registry = Arc::new(Memory::new(clock.clone(), LEASE));
        ((), registry, Hand(clock))
    });
}

const BEGIN_MS: i64 = 1_780_000_000_000;
const LEASE_MS: i64 = 20_000;
const GRACE_MS: i64 = 10_000;
const ANA: i64 = 1;
const BOB: i64 = 2;

/// What all nodes share.
struct World {
    clock: Arc<ManualClock>,
    registry: Arc<Shared>,
    people: Arc<People>,
    nodes: Mutex<Vec<Weak<Presence>>>,
    /// How many words were said.
    said: AtomicUsize,
    is_cut: AtomicBool,
}

/// A registry that can be away or forget everything, and counts.
struct Shared {
    kept: Mutex<Arc<Memory>>,
    clock: Arc<ManualClock>,
    is_away: AtomicBool,
    held: AtomicUsize,
}

impl Shared {
    fn kept(&self) -> Result<Arc<Memory>, Away> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(Away),
            false => Ok(Arc::clone(&self.kept.lock())),
        }
    }

    fn forget(&self) {
        let lease = Duration::from_millis(LEASE_MS as u64);
        *self.kept.lock() = Arc::new(Memory::new(self.clock.clone(), lease));
    }
}

#[async_trait]
impl Presences for Shared {
    async fn begin(&self, run: Run) -> Result<(), Away> {
        self.kept()?.begin(run).await
    }
    async fn renew(&self, run: Run) -> Result<bool, Away> {
        self.kept()?.renew(run).await
    }
    async fn end(&self, run: Run) -> Result<(), Away> {
        self.kept()?.end(run).await
    }
    async fn hold(&self, run: Run, holdings: &[(UserId, Holding)]) -> Result<(), Away> {
        self.held.fetch_add(holdings.len(), Ordering::Relaxed);
        self.kept()?.hold(run, holdings).await
    }
    async fn of(&self, users: &[UserId]) -> Result<Roll, Away> {
        self.kept()?.of(users).await
    }
}

/// Everybody shares a chat with everybody, and what they share can be chosen.
#[derive(Default)]
struct People(Mutex<HashSet<UserId>>);

#[async_trait]
impl Sharing for People {
    async fn sharing(&self, users: &[UserId]) -> Result<Vec<UserId>> {
        let hidden = self.0.lock();
        Ok(users
            .iter()
            .copied()
            .filter(|u| !hidden.contains(u))
            .collect())
    }
    async fn share(&self, user: UserId, shares: bool) -> Result<()> {
        match shares {
            true => self.0.lock().remove(&user),
            false => self.0.lock().insert(user),
        };
        Ok(())
    }
}

/// A chat has as many members as its id says: the users from 1 on.
#[async_trait]
impl Company for People {
    async fn company(&self, chat: ChatId, most: usize) -> Result<Option<Arc<[UserId]>>> {
        let members = || (1..=chat.0).map(UserId).collect();
        Ok((chat.0 as usize <= most).then(members))
    }
}

#[async_trait]
impl Members for People {
    async fn role(&self, _: ChatId, _: UserId) -> Result<Option<(ChatKind, Role)>> {
        Ok(Some((ChatKind::Group, Role::Member)))
    }
}

/// The sessions of a node, which hear of some users.
struct Ears {
    world: Arc<World>,
    watched: Mutex<HashSet<UserId>>,
    heard: Mutex<Vec<(UserId, State)>>,
    stopped: Mutex<Vec<UserId>>,
}

impl Watchers for Ears {
    fn say(&self, word: Word) {
        self.world.said.fetch_add(1, Ordering::Relaxed);
        let nodes: Vec<_> = self
            .world
            .nodes
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for node in nodes {
            let is_here = std::ptr::addr_eq(Arc::as_ptr(&node.watchers), std::ptr::from_ref(self));
            if is_here || !self.world.is_cut.load(Ordering::Relaxed) {
                node.heard(&word);
            }
        }
    }
    fn changed(&self, states: &[(UserId, State)]) {
        let watched = self.watched.lock();
        let heard = states.iter().filter(|(user, _)| watched.contains(user));
        self.heard.lock().extend(heard);
    }
    fn watched(&self, mut users: Vec<UserId>) -> Vec<UserId> {
        users.retain(|user| self.watched.lock().contains(user));
        users
    }
    fn all_watched(&self) -> Vec<UserId> {
        self.watched.lock().iter().copied().collect()
    }
    fn stop(&self, user: UserId) {
        self.stopped.lock().push(user);
    }
}

struct Node {
    presence: Arc<Presence>,
    keeper: Keeper,
    ears: Arc<Ears>,
}

fn world() -> Arc<World> {
    let clock = ManualClock::at(BEGIN_MS);
    let lease = Duration::from_millis(LEASE_MS as u64);
    let registry = Arc::new(Shared {
        kept: Mutex::new(Arc::new(Memory::new(clock.clone(), lease))),
        clock: clock.clone(),
        is_away: AtomicBool::new(false),
        held: AtomicUsize::new(0),
    });
    Arc::new(World {
        clock,
        registry,
        people: Arc::default(),
        nodes: Mutex::default(),
        said: AtomicUsize::new(0),
        is_cut: AtomicBool::new(false),
    })
}

fn node_with(world: &Arc<World>, registry: Option<Arc<dyn Presences>>, is_alone: bool) -> Node {
    let ears = Arc::new(Ears {
        world: Arc::clone(world),
        watched: Mutex::new((1..=100).map(UserId).collect()),
        heard: Mutex::default(),
        stopped: Mutex::default(),
    });
    let options = Options {
        members_max: 50,
        lease: Duration::from_millis(LEASE_MS as u64),
        grace: Duration::from_millis(GRACE_MS as u64),
        is_alone,
    };
    let people = &world.people;
    let presence = Presence::new(
        options,
        registry,
        people.clone(),
        people.clone(),
        ears.clone(),
        world.clock.clone(),
    );
    world.nodes.lock().push(Arc::downgrade(&presence));
    Node {
        keeper: Keeper::new(presence.clone()),
        presence,
        ears,
    }
}

/// A node beside others, with a registry.
fn node(world: &Arc<World>) -> Node {
    node_with(world, Some(world.registry.clone()), false)
}

fn caller(user: i64) -> Caller {
    Caller {
        user: UserId(user),
        login: LoginId(1),
        device: "d".into(),
        expires_at_ms: i64::MAX,
    }
}

impl Node {
    fn arrive(&self, user: i64) -> Attendance {
        self.presence.arrive(&caller(user))
    }

    /// What was heard since the last time.
    fn heard(&self) -> Vec<(i64, State)> {
        let heard = std::mem::take(&mut *self.ears.heard.lock());
        heard
            .into_iter()
            .map(|(user, state)| (user.0, state))
            .collect()
    }

    /// How somebody is to somebody else who asks now.
    async fn state(&self, user: i64, to: i64) -> State {
        self.states(user.max(to), to)
            .await
            .remove(&user)
            .unwrap_or(State::Unknown)
    }

    /// Of the chat of so many.
    async fn states(&self, chat: i64, to: i64) -> HashMap<i64, State> {
        let caller = caller(to);
        let circles = self.circles(&[chat], to).await;
        let states = self.presence.states(&caller, &circles).await.unwrap();
        states
            .into_iter()
            .map(|(user, state)| (user.0, state))
            .collect()
    }

    async fn circles(&self, chats: &[i64], to: i64) -> Circles {
        let authorizer = Authorizer::new(Arc::new(People::default()));
        let mut members = Vec::new();
        for chat in chats {
            let rule = Rule::ChatMember(ChatId(*chat), Right::Read);
            match authorizer
                .authorize(rule, Some(caller(to).into()))
                .await
                .unwrap()
            {
                Permit::Member(member) => members.push(member),
                other => panic!("{other:?}"),
            }
        }
        self.presence.circles(&caller(to), &members).await.unwrap()
    }
}

impl World {
    /// So much time passes, a second after the other.
    async fn pass(&self, nodes: &mut [&mut Node], ms: i64) {
        for _ in 0..ms / 1_000 {
            self.clock.advance_ms(1_000);
            for node in &mut *nodes {
                node.keeper.beat().await;
            }
        }
    }
}

fn offline(state: State) -> bool {
    matches!(state, State::Offline { .. })
}

#[tokio::test]
async fn who_comes_rests_and_goes_is_told_on_every_node() {
    let world = world();
    let (mut a, mut b) = (node(&world), node(&world));
    let mut ana = a.arrive(ANA);
    world.pass(&mut [&mut a, &mut b], 1_000).await;
    assert_eq!(b.heard(), [(ANA, State::Online)]);
    assert_eq!(b.state(ANA, BOB).await, State::Online);
    ana.rest(true);
    world.pass(&mut [&mut a, &mut b], 1_000).await;
    assert_eq!(b.heard(), [(ANA, State::Away)]);
    ana.rest(false);
    world.pass(&mut [&mut a, &mut b], 1_000).await;
    assert_eq!(b.heard(), [(ANA, State::Online)]);
    drop(ana);
    world.pass(&mut [&mut a, &mut b], GRACE_MS + 2_000).await;
    let heard = b.heard();
    assert!(
        matches!(heard[..], [(ANA, State::Offline { seen_at_ms: Some(at) })] if at % 60_000 == 0),
        "{heard:?}"
    );
    assert!(offline(b.state(ANA, BOB).await));
    assert_eq!(a.presence.users_here(), 0);
}

#[tokio::test]
async fn a_user_is_away_only_when_all_their_sessions_rest() {
    let world = world();
    let (mut a, mut b) = (node(&world), node(&world));
    let (mut one, mut two, other) = (a.arrive(ANA), a.arrive(ANA), b.arrive(ANA));
    one.rest(true);
    two.rest(true);
    two.rest(true);
    world.pass(&mut [&mut a, &mut b], 1_000).await;
    assert_eq!(a.state(ANA, BOB).await, State::Online);
    let mut other = other;
    other.rest(true);
    world.pass(&mut [&mut a, &mut b], 1_000).await;
    assert_eq!(a.state(ANA, BOB).await, State::Away);
    drop(one);
    two.rest(false);
    world.pass(&mut [&mut a, &mut b], 1_000).await;
    assert_eq!(b.state(ANA, BOB).await, State::Online);
}

#[tokio::test]
async fn who_comes_back_in_time_was_never_gone() {
    let world = world();
    let (mut a, mut b) = (node(&world), node(&world));
    let mut ana = a.arrive(ANA);
    world.pass(&mut [&mut a, &mut b], 2_000).await;
    b.heard();
    for _ in 0..20 {
        drop(ana);
        world.pass(&mut [&mut a, &mut b], GRACE_MS - 1_000).await;
        ana = a.arrive(ANA);
        world.pass(&mut [&mut a, &mut b], 1_000).await;
    }
    assert_eq!(b.heard(), []);
    // Nor was who came back to another node.
    drop(ana);
    let ana = b.arrive(ANA);
    world.pass(&mut [&mut a, &mut b], GRACE_MS * 3).await;
    assert_eq!(b.heard(), []);
    drop(ana);
}

#[tokio::test]
async fn a_storm_of_reconnects_says_nothing_and_moving_to_another_node_says_little() {
    const USERS: i64 = 10_000;
    let world = world();
    let (mut a, mut b) = (node(&world), node(&world));
    let arrive = |node: &Node| {
        (1..=USERS)
            .map(|user| node.arrive(user))
            .collect::<Vec<_>>()
    };
    let there = arrive(&a);
    world.pass(&mut [&mut a, &mut b], 1_000).await;
    a.heard();
    b.heard();

    let (said, held) = (
        world.said.load(Ordering::Relaxed),
        world.registry.held.load(Ordering::Relaxed),
    );
    drop(there);
    let there = arrive(&a);
    world.pass(&mut [&mut a, &mut b], 1_000).await;
    assert_eq!(world.said.load(Ordering::Relaxed), said);
    assert_eq!(world.registry.held.load(Ordering::Relaxed), held);

    drop(there);
    let _there = arrive(&b);
    world.pass(&mut [&mut a, &mut b], GRACE_MS + 2_000).await;
    assert_eq!((a.heard(), b.heard()), (Vec::new(), Vec::new()));
    let said = world.said.load(Ordering::Relaxed) - said;
    assert!(
        said <= 40,
        "{said} words of 10,000 comings and goings and a few renewals"
    );
    let held = world.registry.held.load(Ordering::Relaxed) - held;
    // Each comes there and goes here, and a part is told again.
    assert!(held <= 3 * USERS as usize, "{held}");
}

#[tokio::test]
async fn a_node_that_dies_takes_its_users_with_it_when_its_lease_is_over() {
    let world = world();
    let (mut a, mut b) = (node(&world), node(&world));
    let _ana = a.arrive(ANA);
    world.pass(&mut [&mut a, &mut b], 2_000).await;
    b.heard();
    world.pass(&mut [&mut b], LEASE_MS - 5_000).await;
    assert_eq!(b.heard(), []);
    assert_eq!(b.state(ANA, BOB).await, State::Online);
    world.pass(&mut [&mut b], 7_000).await;
    let heard = b.heard();
    assert!(
        matches!(heard[..], [(ANA, State::Offline { .. })]),
        "{heard:?}"
    );
    assert!(offline(b.state(ANA, BOB).await));
}

#[tokio::test]
async fn a_node_that_stood_still_comes_back_with_its_users() {
    let world = world();
    let (mut a, mut b) = (node(&world), node(&world));
    let _ana = a.arrive(ANA);
    world.pass(&mut [&mut a, &mut b], 2_000).await;
    world.pass(&mut [&mut b], LEASE_MS * 2).await;
    assert!(offline(b.state(ANA, BOB).await));
    b.heard();
    world.pass(&mut [&mut a, &mut b], 1_000).await;
    assert_eq!(b.heard(), [(ANA, State::Online)]);
}

#[tokio::test]
async fn a_registry_that_forgets_everything_is_told_again_and_nobody_seems_to_go() {
    let world = world();
    let (mut a, mut b) = (node(&world), node(&world));
    let _ana = a.arrive(ANA);
    world.pass(&mut [&mut a, &mut b], 2_000).await;
    b.heard();
    world.registry.forget();
    assert_eq!(b.state(ANA, BOB).await, State::Online);
    world
        .pass(&mut [&mut a, &mut b], LEASE_MS / 4 + 1_000)
        .await;
    let heard = b.heard();
    let mut of_ana = heard.iter().filter(|(user, _)| *user == ANA);
    assert!(of_ana.all(|(_, state)| *state == State::Online));
    let fresh = node(&world);
    assert_eq!(fresh.state(ANA, BOB).await, State::Online);
}

#[tokio::test]
async fn without_the_registry_nodes_know_what_they_tell_each_other() {
    let world = world();
    let (mut a, mut b) = (node(&world), node(&world));
    let ana = a.arrive(ANA);
    world.pass(&mut [&mut a, &mut b], 2_000).await;
    world.registry.is_away.store(true, Ordering::Relaxed);
    let bob = a.arrive(BOB);
    world.pass(&mut [&mut a, &mut b], LEASE_MS * 2).await;
    assert_eq!(b.state(ANA, 9).await, State::Online);
    assert_eq!(b.state(BOB, 9).await, State::Online);
    assert_eq!(
        b.state(3, 9).await,
        State::Unknown,
        "nobody says that they are not there"
    );
    drop((ana, bob));
    let _bob = b.arrive(BOB);
    world.pass(&mut [&mut a, &mut b], GRACE_MS + 2_000).await;
    assert!(offline(b.state(ANA, 9).await));
    // What happened meanwhile is in the registry when it is back, and nothing of before.
    world.registry.is_away.store(false, Ordering::Relaxed);
    world.pass(&mut [&mut a, &mut b], LEASE_MS).await;
    let fresh = node(&world);
    assert_eq!(fresh.state(BOB, 9).await, State::Online);
    assert!(offline(fresh.state(ANA, 9).await));
    assert!(offline(b.state(3, 9).await));
}

#[tokio::test]
async fn nobody_is_offline_because_a_node_is_not_heard_of() {
    let world = world();
    let (mut a, mut b) = (
        node_with(&world, None, false),
        node_with(&world, None, false),
    );
    let _ana = a.arrive(ANA);
    world.pass(&mut [&mut a, &mut b], 2_000).await;
    b.heard();
    world.is_cut.store(true, Ordering::Relaxed);
    world.pass(&mut [&mut a, &mut b], LEASE_MS * 2).await;
    assert_eq!(b.heard(), [(ANA, State::Unknown)]);
    assert_eq!(a.state(ANA, BOB).await, State::Online);
    world.is_cut.store(false, Ordering::Relaxed);
    world.pass(&mut [&mut a, &mut b], LEASE_MS * 6).await;
    assert_eq!(b.heard(), [(ANA, State::Online)]);
}

#[tokio::test]
async fn what_a_node_has_not_heard_it_learns_when_it_is_said_again() {
    let world = world();
    let (mut a, mut b) = (
        node_with(&world, None, false),
        node_with(&world, None, false),
    );
    let ana = a.arrive(ANA);
    world.is_cut.store(true, Ordering::Relaxed);
    world.pass(&mut [&mut a, &mut b], 2_000).await;
    world.is_cut.store(false, Ordering::Relaxed);
    world.pass(&mut [&mut a, &mut b], LEASE_MS * 7).await;
    assert_eq!(b.heard(), [(ANA, State::Online)]);
    // That somebody has gone is known without a word as well.
    world.is_cut.store(true, Ordering::Relaxed);
    drop(ana);
    world.pass(&mut [&mut a, &mut b], GRACE_MS + 2_000).await;
    world.is_cut.store(false, Ordering::Relaxed);
    world.pass(&mut [&mut a, &mut b], LEASE_MS * 20).await;
    assert!(!b.state(ANA, BOB).await.is_there());
}

#[tokio::test]
async fn what_a_node_learns_for_one_who_asks_all_hear_who_listen() {
    let world = world();
    let (mut a, mut b) = (node(&world), node(&world));
    world.is_cut.store(true, Ordering::Relaxed);
    let ana = a.arrive(ANA);
    world.pass(&mut [&mut a, &mut b], 2_000).await;
    assert_eq!(b.heard(), []);
    assert_eq!(b.state(ANA, 9).await, State::Online);
    assert_eq!(b.heard(), [(ANA, State::Online)]);
    // Who has gone while nothing is heard is there no more, for who asks and then for who listens.
    drop(ana);
    world.pass(&mut [&mut a, &mut b], GRACE_MS + 2_000).await;
    assert_eq!(b.heard(), []);
    assert!(offline(b.state(ANA, 9).await));
    let heard = b.heard();
    assert!(
        matches!(heard[..], [(ANA, state)] if offline(state)),
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_node_that_is_alone_knows_who_is_not_there() {
    let world = world();
    let mut a = node_with(&world, None, true);
    let ana = a.arrive(ANA);
    world.pass(&mut [&mut a], 1_000).await;
    assert_eq!(a.state(ANA, BOB).await, State::Online);
    assert_eq!(a.state(3, BOB).await, State::Offline { seen_at_ms: None });
    world.pass(&mut [&mut a], LEASE_MS * 20).await;
    assert_eq!(a.heard(), [(ANA, State::Online)]);
    drop(ana);
    world.pass(&mut [&mut a], GRACE_MS + 2_000).await;
    assert!(matches!(
        a.state(ANA, BOB).await,
        State::Offline {
            seen_at_ms: Some(_)
        }
    ));
}

#[tokio::test]
async fn who_hides_is_forgotten_at_once_and_sees_nobody() {
    let world = world();
    let (mut a, mut b) = (node(&world), node(&world));
    let (_ana, _also) = (a.arrive(ANA), b.arrive(ANA));
    let _bob = a.arrive(BOB);
    world.pass(&mut [&mut a, &mut b], 2_000).await;
    b.heard();
    b.presence.share(&caller(ANA), false).await.unwrap();
    assert_eq!(a.heard().last(), Some(&(ANA, State::Unknown)));
    assert_eq!(b.heard(), [(ANA, State::Unknown)]);
    assert_eq!(*a.ears.stopped.lock(), [UserId(ANA)]);
    let circles = a.circles(&[3], ANA).await;
    assert!(circles.not_shared && circles.heard.is_empty());
    world.pass(&mut [&mut a, &mut b], LEASE_MS * 8).await;
    assert_eq!(a.state(ANA, BOB).await, State::Unknown);
    assert!(
        !b.heard()
            .iter()
            .any(|(user, state)| *user == ANA && *state != State::Unknown)
    );
    let known = world.registry.of(&[UserId(ANA)]).await.unwrap().users;
    assert_eq!((known[0].held.len(), known[0].seen_at_ms), (0, None));

    a.presence.share(&caller(ANA), true).await.unwrap();
    world.pass(&mut [&mut a, &mut b], 1_000).await;
    assert_eq!(b.heard(), [(ANA, State::Online)]);
    assert_eq!(b.state(ANA, BOB).await, State::Online);
    assert_eq!(b.state(BOB, ANA).await, State::Online);
}

#[tokio::test]
async fn who_hides_for_a_moment_is_there_again() {
    let world = world();
    let mut a = node_with(&world, None, true);
    let _ana = a.arrive(ANA);
    world.pass(&mut [&mut a], 1_000).await;
    a.presence.share(&caller(ANA), false).await.unwrap();
    a.presence.share(&caller(ANA), true).await.unwrap();
    world.pass(&mut [&mut a], 1_000).await;
    assert_eq!(a.state(ANA, BOB).await, State::Online);
}

#[tokio::test]
async fn who_hides_while_a_node_hears_nothing_is_hidden_from_who_asks_and_soon_from_all() {
    let world = world();
    let (mut a, mut b) = (node(&world), node(&world));
    let _ana = a.arrive(ANA);
    world.pass(&mut [&mut a, &mut b], 2_000).await;
    world.is_cut.store(true, Ordering::Relaxed);
    b.presence.share(&caller(ANA), false).await.unwrap();
    world.is_cut.store(false, Ordering::Relaxed);
    assert_eq!(a.state(ANA, BOB).await, State::Unknown);
    a.heard();
    world.pass(&mut [&mut a, &mut b], LEASE_MS * 7).await;
    assert_eq!(a.heard().last(), Some(&(ANA, State::Unknown)));
}

#[tokio::test]
async fn of_large_chats_and_of_too_many_people_nothing_is_told() {
    let world = world();
    let a = node(&world);
    let heard = |circles: Circles| circles.heard.iter().map(|c| c.chat.0).collect::<Vec<_>>();
    assert_eq!(heard(a.circles(&[2, 50, 51], ANA).await), [2, 50]);
    assert!(
        heard(a.circles(&[2], 9).await).is_empty(),
        "who is not in it"
    );
}
