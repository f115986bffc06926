//! Sessions over channels instead of sockets, on memory stores, with a bus that can be disrupted and a store
//! that can be stalled.

mod drained;
mod nodes;
mod stalled;

use std::sync::atomic::{AtomicI64, Ordering};

use tertulia_kit::bus::flaky::{Faults, Flaky};
use tertulia_kit::bus::{Bus, Memory as MemoryBus};
use tertulia_kit::clock::{SharedClock, SystemClock};
use tertulia_kit::id::{Ids, Node};
use tertulia_kit::lifecycle::Lifecycle;
use tertulia_services::access::{Authorizer, Member, Permit, Rule};
use tertulia_services::chats::memory::Memory;
use tertulia_services::chats::{ChatChange, ChatKind, Chats, Epoch, Limits, Outgoing, Right, Role};
use tertulia_services::identity::memory::Memory as Accounts;
use tertulia_services::identity::{
    Credentials, Identity, NewAccount, Options as IdentityOptions, Peppers, SigningKeys,
};
use tertulia_services::ids::UserId;
use tertulia_services::presence::{self, Presence};
use tertulia_services::users::Users;
use tokio::sync::mpsc;

use super::super::Options;
use super::super::feed::Feed;
use super::super::hub::Hub;
use super::super::queue::tests::options;
use super::super::told::Told;
use super::*;
use crate::gate::{Gate, Parts};
use crate::rpc::{Services, router};
use stalled::Stalled;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many frames a test's connection holds.
const FRAMES_MAX: usize = 4_096;

struct World {
    live: Arc<Live>,
    bus: Arc<Flaky<Told>>,
    store: Arc<Stalled>,
    identity: Arc<Identity>,
    chats: Arc<Chats>,
    services: Services,
    clock: SharedClock,
    authorizer: Authorizer,
    made: AtomicI64,
}

async fn world() -> World {
    world_with(options(), 0).await
}

/// A node whose bus holds back so many of a thousand messages.
async fn world_with(options: Options, held_back: u32) -> World {
    world_over(options, held_back, Arc::new(MemoryBus::new())).await
}

/// A node whose bus holds back so many of a thousand messages before it gives them to another.
async fn world_over(options: Options, held_back: u32, inner: Arc<dyn Bus<Told>>) -> World {
    let clock: SharedClock = Arc::new(SystemClock::starting_at(0));
    let ids = Arc::new(Ids::new(clock.clone(), Arc::new(Node::FIRST)));
    let faults = Faults {
        reorder: held_back,
        ..Faults::default()
    };
    let bus = Arc::new(Flaky::new(inner, faults));
    let feed = Feed::new(bus.clone());
    let accounts = Arc::new(Accounts::default());
    let identity = Identity::open(
        IdentityOptions {
            argon2_memory_kib: 64,
            argon2_passes: 1,
            ..IdentityOptions::default()
        },
        accounts.clone(),
        SigningKeys::from_seed(&[7; 32]),
        Peppers::new([9; 32]),
        ids.clone(),
        clock.clone(),
        feed.clone(),
    );
    let identity = Arc::new(identity.await.unwrap());
    let users = Arc::new(Users::new(accounts, clock.clone()));
    let store = Stalled::new(Memory::new(Epoch(1), feed.clone(), clock.clone()));
    let chats = Arc::new(Chats::new(
        store.clone(),
        users.clone(),
        feed,
        ids,
        clock.clone(),
        Limits::default(),
    ));
    let hub = Hub::new(bus.clone(), &options);
    let presence = presence(&hub, &users, &chats, &clock);
    let services = Services {
        identity: identity.clone(),
        users,
        chats: chats.clone(),
        presence,
    };
    let live = node(options, hub, &services, &clock);
    World {
        live,
        bus,
        store,
        authorizer: Authorizer::new(chats.clone()),
        identity,
        chats,
        services,
        clock,
        made: AtomicI64::new(0),
    }
}

/// What a node knows of who is there.
fn presence(
    hub: &Arc<Hub>,
    users: &Arc<Users>,
    chats: &Arc<Chats>,
    clock: &SharedClock,
) -> Arc<Presence> {
    let options = presence::Options {
        members_max: 5,
        lease: PATIENCE,
        grace: Duration::from_secs(10),
        is_alone: true,
    };
    let watchers = hub.watchers();
    let (users, chats) = (users.clone(), chats.clone());
    Presence::new(options, None, users, chats, watchers, clock.clone())
}

/// A node with sessions of its own.
fn node(options: Options, hub: Arc<Hub>, services: &Services, clock: &SharedClock) -> Arc<Live> {
    let (chats, clock) = (services.chats.clone(), clock.clone());
    let lifecycle = Lifecycle::new();
    let presence = services.presence.clone();
    let live = Live::new(
        options,
        hub,
        chats.clone(),
        presence,
        clock.clone(),
        lifecycle,
    );
    let parts = Parts {
        identity: services.identity.clone(),
        authorizer: Authorizer::new(chats),
        login_budget: None,
        address_budget: None,
        clock,
        call_timeout: PATIENCE,
        elsewhere: None,
        node_tokens: None,
    };
    live.set_gate(Gate::new(parts, router(services)));
    live
}

/// Somebody who is signed in.
struct Person {
    credentials: Credentials,
    caller: Caller,
}

impl World {
    async fn person(&self, name: &str) -> Person {
        let new = NewAccount {
            name: name.into(),
            password: "correct horse battery".into(),
            display_name: String::new(),
            device: Default::default(),
        };
        let credentials = self.identity.create_account(new).await.unwrap();
        let caller = self.identity.verify(&credentials.access_token).unwrap();
        Person {
            credentials,
            caller,
        }
    }

    /// A chat made by the first of them.
    async fn chat(&self, kind: ChatKind, people: &[&Person]) -> ChatId {
        let members = people[1..].iter().map(|p| p.caller.user).collect();
        let title = ChatChange {
            title: Some("tertulia".into()),
            ..ChatChange::default()
        };
        let maker = &people[0].caller;
        let chat = self
            .chats
            .create(maker, kind, title, members, self.unique())
            .await;
        chat.unwrap().chat.id
    }

    async fn member(&self, person: &Person, chat: ChatId) -> Member {
        let rule = Rule::ChatMember(chat, Right::Read);
        let who = Some(person.caller.clone().into());
        let permit = self.authorizer.authorize(rule, who);
        match permit.await.unwrap() {
            Permit::Member(member) => member,
            other => panic!("{other:?}"),
        }
    }

    async fn say(&self, person: &Person, chat: ChatId) -> Seq {
        let member = self.member(person, chat).await;
        let out = Outgoing {
            client_message_id: self.unique(),
            text: "hello".into(),
            ..Outgoing::default()
        };
        self.chats.send(&member, out).await.unwrap().seq
    }

    fn unique(&self) -> String {
        format!("unique-{:08}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// A connection that has said nothing.
    fn connect(&self) -> Client {
        Client::of(&self.live)
    }

    /// A session of somebody, and its welcome.
    async fn hello(&self, person: &Person) -> (Client, wire::Welcome) {
        Client::hello(&self.live, person).await
    }
}

impl Client {
    fn of(live: &Arc<Live>) -> Client {
        let (to_server, from_client) = mpsc::channel(FRAMES_MAX);
        let (to_client, from_server) = mpsc::channel(FRAMES_MAX);
        let wire = Channels {
            inbound: from_client,
            outbound: to_client,
        };
        let place = live.enter().unwrap();
        let session = run(Arc::clone(live), wire, place);
        let lifecycle = &live.lifecycle;
        lifecycle.spawn(lifecycle::Kind::Connection, "session", session);
        Client {
            to_server,
            from_server,
        }
    }

    async fn hello(live: &Arc<Live>, person: &Person) -> (Client, wire::Welcome) {
        let mut client = Client::of(live);
        client.say_hello(person).await;
        let welcome = client.welcome().await;
        (client, welcome)
    }
}

/// The server's end.
struct Channels {
    inbound: mpsc::Receiver<Inbound>,
    outbound: mpsc::Sender<Outbound>,
}

impl Wire for Channels {
    async fn recv(&mut self) -> Heard {
        self.inbound.recv().await.map_or(Heard::Gone, Heard::Frame)
    }

    async fn feed(&mut self, frame: Out) -> Result<(), Gone> {
        let frame = match frame {
            Out::Own(frame) => frame,
            Out::Shared(frame) => {
                use buffa::Message as _;
                let response = wire::ConnectResponse::decode_from_slice(frame.proto()).unwrap();
                response.frame.unwrap()
            }
        };
        self.outbound.send(frame).await.map_err(|_| Gone)
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        Ok(())
    }

    async fn close(&mut self, _close: Close) {}
}

/// The client's end.
struct Client {
    to_server: mpsc::Sender<Inbound>,
    from_server: mpsc::Receiver<Outbound>,
}

impl Client {
    async fn send(&self, frame: impl Into<Inbound>) {
        self.to_server.send(frame.into()).await.unwrap();
    }

    async fn next(&mut self) -> Outbound {
        let next = timeout(PATIENCE, self.from_server.recv()).await;
        next.unwrap().unwrap()
    }

    async fn say_hello(&self, person: &Person) {
        let hello = wire::Hello {
            access_token: person.credentials.access_token.clone(),
            ..Default::default()
        };
        self.send(hello).await;
    }

    async fn warm(&self, chat: ChatId) {
        let warm = wire::Warm {
            chat_ids: vec![chat.0],
            ..Default::default()
        };
        self.send(warm).await;
    }

    async fn welcome(&mut self) -> wire::Welcome {
        match self.next().await {
            Outbound::Welcome(welcome) => *welcome,
            other => panic!("{other:?}"),
        }
    }

    async fn warmed(&mut self) -> Vec<(i64, i64)> {
        match self.next().await {
            Outbound::Warmed(warmed) => {
                let heads = warmed.heads.iter();
                heads.map(|head| (head.chat_id, head.seq)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// What is told next of who is there. Until then it does what a client does.
    async fn watched(&mut self) -> wire::Watched {
        loop {
            match self.next().await {
                Outbound::Watched(watched) => return *watched,
                Outbound::Behind(_) => self.send(wire::CatchUp::default()).await,
                Outbound::Heartbeat(_) => self.send(wire::Alive::default()).await,
                _ => {}
            }
        }
    }

    /// The number of the event of a chat that comes next.
    async fn seq(&mut self) -> Seq {
        match self.next().await {
            Outbound::ChatEvent(event) => event.event.seq,
            other => panic!("{other:?}"),
        }
    }

    /// Whatever comes up to the answer to a call, which comes after everything that was on its way.
    async fn all(&mut self) -> Vec<Outbound> {
        let call = wire::Call {
            call_id: 7,
            method: "tertulia.users.v1.UsersService/GetMe".into(),
            ..Default::default()
        };
        self.send(call).await;
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Outbound::Reply(_) => return all,
                other => all.push(other),
            }
        }
    }
}

fn quick() -> Options {
    Options {
        read_timeout: Duration::from_millis(50),
        heartbeat: Duration::from_millis(500),
        ..options()
    }
}

#[tokio::test]
async fn who_waits_too_long_for_the_logs_is_asked_to_come_back() {
    let world = world_with(quick(), 0).await;
    let ann = world.person("ann").await;
    world.store.stall();
    let mut client = world.connect();
    client.say_hello(&ann).await;
    let Outbound::Goodbye(goodbye) = client.next().await else {
        panic!("another frame")
    };
    assert_eq!((goodbye.code, goodbye.come_back), (4500, true));
}

#[tokio::test]
async fn a_heartbeat_whose_heads_take_too_long_goes_out_without_them() {
    let world = world_with(quick(), 0).await;
    let ann = world.person("ann").await;
    let (mut client, _) = world.hello(&ann).await;
    world.store.stall();
    let Outbound::Heartbeat(beat) = client.next().await else {
        panic!("another frame")
    };
    assert_eq!((beat.heads.len(), beat.cursor.len()), (0, 0));
    world.store.go_on();
    client.send(wire::Alive::default()).await;
    let Outbound::Heartbeat(beat) = client.next().await else {
        panic!("another frame")
    };
    assert!(!beat.cursor.is_empty());
}

#[tokio::test]
async fn what_a_disrupted_bus_lost_is_caught_up_with() {
    let roomy = Options {
        outbound_frames_max: 100,
        ..options()
    };
    // Everything is held back, until the disruption loses it.
    let world = world_with(roomy, 1_000).await;
    let (ann, bob) = (world.person("ann").await, world.person("bob").await);
    let chat = world.chat(ChatKind::Group, &[&ann, &bob]).await;
    let (mut client, welcome) = world.hello(&bob).await;
    for _ in 0..3 {
        world.say(&ann, chat).await;
    }
    world.bus.disrupt();
    assert!(matches!(client.next().await, Outbound::Behind(_)));
    let catch_up = wire::CatchUp {
        cursor: welcome.missed.cursor.clone(),
        ..Default::default()
    };
    client.send(catch_up).await;
    let Outbound::CaughtUp(caught_up) = client.next().await else {
        panic!("another frame")
    };
    let Some(wire::__buffa::oneof::missed::Answer::Delta(delta)) = &caught_up.missed.answer else {
        panic!("another answer")
    };
    let seqs: Vec<Seq> = delta.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [2, 3, 4]);
}

#[tokio::test]
async fn what_was_dropped_of_who_is_there_is_told_again_behind_a_heartbeat() {
    let beats = Options {
        heartbeat: Duration::from_secs(1),
        ..options()
    };
    let world = world_with(beats, 0).await;
    let (ann, bob) = (world.person("ann").await, world.person("bob").await);
    let chat = world.chat(ChatKind::Group, &[&ann, &bob]).await;
    let (mut client, _) = world.hello(&bob).await;
    let watch = wire::Watch {
        chat_ids: vec![chat.0],
        ..Default::default()
    };
    client.send(watch).await;
    assert_eq!(client.watched().await.chat_ids, [chat.0]);
    world.bus.disrupt();
    let watched = client.watched().await;
    assert_eq!(watched.chat_ids, [chat.0]);
    let told = watched.presences.iter().map(|told| told.user_id);
    assert_eq!(told.collect::<Vec<_>>(), [ann.caller.user.0]);
    // Whoever is in the chat no longer is told nothing of it.
    world.store.forget(bob.caller.user);
    world.bus.disrupt();
    assert!(client.watched().await.chat_ids.is_empty());
}

#[tokio::test]
async fn a_channel_is_heard_once_it_is_warm_and_exactly_from_its_head_on() {
    let world = world().await;
    let (ann, bob) = (world.person("ann").await, world.person("bob").await);
    let chat = world.chat(ChatKind::Channel, &[&ann, &bob]).await;
    let (mut client, _) = world.hello(&bob).await;
    world.say(&ann, chat).await;
    assert!(client.all().await.is_empty(), "it is not warm");
    // What comes between the registering and the reading is in the answer and not sent again.
    world.store.stall();
    client.warm(chat).await;
    world.store.waits().await;
    world.say(&ann, chat).await;
    world.store.go_on();
    assert_eq!(client.warmed().await, [(chat.0, 3)]);
    world.say(&ann, chat).await;
    assert_eq!(client.seq().await, 4);
    // To warm it again takes nothing away.
    client.warm(chat).await;
    assert_eq!(client.warmed().await, [(chat.0, 4)]);
    world.say(&ann, chat).await;
    assert_eq!(client.seq().await, 5);
}

#[tokio::test]
async fn a_stranger_who_warms_a_channel_hears_nothing_of_it() {
    let world = world().await;
    let (ann, eve) = (world.person("ann").await, world.person("eve").await);
    let chat = world.chat(ChatKind::Channel, &[&ann]).await;
    let (mut client, _) = world.hello(&eve).await;
    world.store.stall();
    client.warm(chat).await;
    world.store.waits().await;
    world.say(&ann, chat).await;
    world.store.go_on();
    assert_eq!(client.warmed().await, []);
    world.say(&ann, chat).await;
    assert!(client.all().await.is_empty());
}

#[tokio::test]
async fn who_was_removed_hears_nothing_of_the_chat_after_it() {
    for kind in [ChatKind::Group, ChatKind::Channel] {
        let roomy = Options {
            outbound_frames_max: FRAMES_MAX,
            ..options()
        };
        let world = world_with(roomy, 0).await;
        let (ann, bob) = (world.person("ann").await, world.person("bob").await);
        let mut people = vec![&ann, &bob];
        let crowd: Vec<Person> = match kind {
            // Enough to be told at once.
            ChatKind::Group => {
                futures::future::join_all((0..20).map(async |n| {
                    let name = format!("person{n}");
                    world.person(&name).await
                }))
                .await
            }
            _ => Vec::new(),
        };
        people.extend(&crowd);
        let chat = world.chat(kind, &people).await;
        let (mut client, _) = world.hello(&bob).await;
        client.warm(chat).await;
        client.warmed().await;

        let owner = world.member(&ann, chat).await;
        let talk = async {
            for _ in 0..100 {
                world.say(&ann, chat).await;
                tokio::task::yield_now().await;
            }
        };
        let remove = async {
            for _ in 0..40 {
                tokio::task::yield_now().await;
            }
            let user = bob.caller.user;
            let removed = world.chats.remove_member(&owner, user, false).await;
            removed.unwrap().unwrap()
        };
        let ((), (), removal) =
            tokio::join!(talk, async { _ = world.say(&ann, chat).await }, remove);
        let (mut heard, mut left) = (Vec::new(), 0);
        for frame in client.all().await {
            match frame {
                Outbound::ChatEvent(event) => heard.push(event.event.seq),
                Outbound::OwnEvent(_) => left += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(left, 1, "it hears that it is out");
        assert!(removal > 2 && removal < 100, "{removal}");
        assert!(heard.contains(&(removal - 1)), "it heard what came before");
        assert!(heard.iter().all(|seq| *seq <= removal), "{heard:?}");
    }
}

#[tokio::test]
async fn what_the_bus_lost_about_a_leaving_shows_at_the_next_heartbeat() {
    let world = world_with(quick(), 0).await;
    let (ann, bob) = (world.person("ann").await, world.person("bob").await);
    let chat = world.chat(ChatKind::Channel, &[&ann, &bob]).await;
    let (mut client, _) = world.hello(&bob).await;
    client.warm(chat).await;
    client.warmed().await;
    // The hub is not told, as if the message had been lost.
    world.store.forget(bob.caller.user);
    assert!(matches!(client.next().await, Outbound::Heartbeat(_)));
    world.say(&ann, chat).await;
    let heard = client.all().await;
    assert!(
        !heard.iter().any(|f| matches!(f, Outbound::ChatEvent(_))),
        "{heard:?}"
    );
}

#[tokio::test]
async fn typing_and_receipts_come_to_the_others_who_are_there() {
    let world = world().await;
    let (ann, bob) = (world.person("ann").await, world.person("bob").await);
    let chat = world.chat(ChatKind::Group, &[&ann, &bob]).await;
    let (mut at_ann, _) = world.hello(&ann).await;
    let (mut at_bob, _) = world.hello(&bob).await;
    let member = world.member(&bob, chat).await;
    world.chats.typing(&member).await.unwrap();
    let Outbound::Typing(typing) = at_ann.next().await else {
        panic!("another frame")
    };
    assert_eq!(
        (typing.chat_id, UserId(typing.user_id)),
        (chat.0, bob.caller.user)
    );
    assert!(
        at_bob.all().await.is_empty(),
        "who types does not hear of it"
    );
    let seq = world.say(&ann, chat).await;
    assert_eq!(at_ann.seq().await, seq);
    world.chats.mark_read(&member, seq).await.unwrap();
    let Outbound::Receipts(receipts) = at_ann.next().await else {
        panic!("another frame")
    };
    assert_eq!(receipts.receipts[0].seen_seq, seq);
    let roles = world.chats.members(&member, UserId(0), 10).await.unwrap();
    assert!(roles.members.iter().any(|(_, m)| m.role == Role::Owner));
}
