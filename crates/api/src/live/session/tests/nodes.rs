//! Two nodes on one store, with a NATS between them that is killed and comes back. No heartbeat helps: what a session
//! does not hear live, or is not told that it may have missed, would be missing here.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can not go on says so at once"
)]

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tertulia_kit::bus::nats::{self, Nats};
use tertulia_kit::instances::nats::Instance;
use tertulia_proto::live::__buffa::oneof::missed::Answer;

use super::*;

/// Two nodes, and what ties them.
struct Pair {
    server: Instance,
    /// Here people talk. The store tells this one what was committed.
    world: World,
    /// Here they listen.
    far: Arc<Live>,
    far_bus: Nats<Told>,
}

fn without_heartbeats() -> Options {
    Options {
        heartbeat: Duration::from_secs(3_600),
        outbound_frames_max: 1_024,
        sessions_per_user_max: 1_000,
        sessions_max: 1_000,
        ..options()
    }
}

fn bus(server: &Instance) -> Nats<Told> {
    let (address, prefix) = (server.url().parse(), "t".parse());
    let options = nats::Options::new(address.unwrap(), prefix.unwrap());
    Nats::start(options, &Lifecycle::new())
}

async fn pair() -> Pair {
    let server = Instance::start();
    let (near, far_bus) = (bus(&server), bus(&server));
    timeout(PATIENCE, near.connected()).await.unwrap();
    timeout(PATIENCE, far_bus.connected()).await.unwrap();
    let world = world_over(without_heartbeats(), 0, Arc::new(near)).await;
    let hub = Hub::new(Arc::new(far_bus.clone()), &without_heartbeats());
    let far = node(without_heartbeats(), hub, &world.services, &world.clock);
    Pair {
        server,
        world,
        far,
        far_bus,
    }
}

/// A client that follows one chat.
struct Follower {
    client: Client,
    cursor: Vec<u8>,
    /// Up to here it misses nothing.
    tip: Seq,
    /// How often something was missing before what it heard.
    holes: usize,
    /// How often it was told that it may have missed something.
    behind: usize,
}

impl Follower {
    /// Connects; what it is told of the chat at first it takes for read.
    async fn on(live: &Arc<Live>, person: &Person, chat: ChatId) -> Follower {
        let (client, welcome) = Client::hello(live, person).await;
        let Some(Answer::Reset(reset)) = &welcome.missed.answer else {
            panic!("it had no cursor")
        };
        let tip = reset
            .chats
            .iter()
            .find(|c| c.chat_id == chat.0)
            .unwrap()
            .head;
        Follower {
            client,
            cursor: welcome.missed.cursor.clone(),
            tip,
            holes: 0,
            behind: 0,
        }
    }

    /// Listens until it has everything up to there.
    async fn reach(&mut self, seq: Seq) {
        while self.tip < seq {
            match self.client.next().await {
                Outbound::ChatEvent(event) => self.take(event.event.seq).await,
                Outbound::Behind(_) => {
                    self.behind += 1;
                    self.catch_up().await;
                }
                Outbound::CaughtUp(caught_up) => {
                    let Some(Answer::Delta(delta)) = &caught_up.missed.answer else {
                        panic!("another answer")
                    };
                    for event in &delta.events {
                        assert!(event.seq <= self.tip + 1, "an answer has no hole");
                        self.tip = self.tip.max(event.seq);
                    }
                    self.cursor.clone_from(&caught_up.missed.cursor);
                }
                _ => {}
            }
        }
    }

    async fn take(&mut self, seq: Seq) {
        if seq > self.tip + 1 {
            self.holes += 1;
            self.catch_up().await;
        } else {
            self.tip = self.tip.max(seq);
        }
    }

    async fn catch_up(&self) {
        let catch_up = wire::CatchUp {
            cursor: self.cursor.clone(),
            ..Default::default()
        };
        self.client.send(catch_up).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_on_one_node_is_heard_on_the_other() {
    let Pair {
        server, world, far, ..
    } = pair().await;
    let (ann, bob) = (world.person("ann").await, world.person("bob").await);
    let chat = world.chat(ChatKind::Group, &[&ann, &bob]).await;
    let mut follower = Follower::on(&far, &bob, chat).await;
    for _ in 0..10 {
        let said = world.say(&ann, chat).await;
        follower.reach(said).await;
    }
    assert_eq!((follower.holes, follower.behind), (0, 0));
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_while_others_talk_misses_nothing() {
    let Pair {
        server, world, far, ..
    } = pair().await;
    let (ann, bob) = (world.person("ann").await, world.person("bob").await);
    let cleo = world.person("cleo").await;
    let chat = world.chat(ChatKind::Group, &[&ann, &bob, &cleo]).await;
    // Each message is said when the one before was heard over there: without a pause, and faster than nobody hears.
    let mut heard = Follower::on(&far, &cleo, chat).await;
    let talking = async {
        loop {
            let said = world.say(&ann, chat).await;
            heard.reach(said).await;
        }
    };
    let connecting = async {
        for _ in 0..300 {
            // The last session of a user takes the subscription along, so that the next begins with none.
            let mut follower = Follower::on(&far, &bob, chat).await;
            let to = follower.tip + 20;
            follower.reach(to).await;
            assert_eq!(follower.holes, 0, "at {}", follower.tip);
            drop(follower);
            while far.sessions_open() > 1 {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::select! {
        () = talking => {}
        () = connecting => {}
    }
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_over_a_server_that_goes_and_comes() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let Pair {
        mut server,
        world,
        far,
        far_bus,
    } = pair().await;
    let (ann, bob) = (world.person("ann").await, world.person("bob").await);
    let chat = world.chat(ChatKind::Group, &[&ann, &bob]).await;
    let mut far_follower = Follower::on(&far, &bob, chat).await;
    let mut near_follower = Follower::on(&world.live, &bob, chat).await;
    let mut said = 0;
    for _ in 0..10 {
        for _ in 0..rng.random_range(0..20) {
            said = world.say(&ann, chat).await;
        }
        server.kill();
        for _ in 0..rng.random_range(1..20) {
            said = world.say(&ann, chat).await;
        }
        // On the node where it was said nobody waits for NATS.
        near_follower.reach(said).await;
        server.restart();
        for _ in 0..rng.random_range(0..20) {
            said = world.say(&ann, chat).await;
        }
        far_follower.reach(said).await;
        // Whoever hears something that has a hole before it catches up before the node is sure that it hears everything.
        timeout(PATIENCE, far_bus.connected()).await.unwrap();
    }
    assert!(far_follower.behind > 0);
}
