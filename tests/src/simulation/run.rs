//! One run from its first sign-up to its verdict: bad times, healing, calm times with reconnects, a lost
//! tail, and the look at everything.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use tertulia_api::live::feed::Feed;
use tertulia_services::identity::memory::Memory as People;
use tertulia_services::ids::ChatId;
use tokio::time::Instant;

use super::bus::LossyBus;
use super::clock::NodeClock;
use super::device::{Device, Surroundings};
use super::model::Model;
use super::nemesis::Nemesis;
use super::node::{Ground, HEARTBEAT};
use super::operation::Operation;
use super::pace::Pace;
use super::plan::{Faults, Plan};
use super::sabotage::Sabotage;
use super::store::Store;
use super::trace::Trace;
use super::view;
use super::world::{Broken, Promise, Tally, World};
use crate::checker::Violation;
use crate::view::difference;

/// How long a lost tail may stay unknown to a client that is connected.
pub const TAIL_MAX: Duration = Duration::from_secs(30);
/// How long the calm times with reconnects last.
const UNREST: Duration = Duration::from_secs(15);
/// How long people think in them, and how often a connection is reset.
const UNREST_THINKING: Duration = Duration::from_secs(4);
const UNREST_RESETS: Duration = Duration::from_millis(700);
/// How often it is looked whether all have come to rest.
const LOOK: Duration = Duration::from_millis(250);

/// How a run went.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Of which seed.
    pub seed: u64,
    /// The broken promises.
    pub broken: Vec<Broken>,
    /// How much happened.
    pub tally: Tally,
    /// How much virtual time passed.
    pub passed: Duration,
    /// How long it took from the last fault until all showed the logs.
    pub healed_in: Duration,
    /// How long it took until a lost tail was on every screen.
    pub tail_in: Duration,
    /// What came about, and how often.
    pub reached: BTreeMap<&'static str, u64>,
    /// Names everything that happened.
    pub hash: u64,
    /// The last lines of the trace.
    pub last: Vec<String>,
}

/// How a run is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// Prints every line.
    pub trace: bool,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

/// Runs one seed in a runtime of its own, whose time is virtual.
pub fn run(seed: u64, how: How) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without a network needs nothing");
    let trace = match how.trace {
        true => Trace::printing(),
        false => Trace::default(),
    };
    let panics_before = panics();
    let mut verdict = runtime.block_on(async move {
        let world = World::new(Plan::of(seed, how.sabotage), trace);
        Run::begin(&world).await.live_through().await
    });
    let panicked = panics() - panics_before;
    if panicked > 0 {
        verdict.broken.push(Broken {
            promise: Promise::NoPanic,
            words: format!("{panicked} panics, told above"),
        });
    }
    verdict
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has panicked, also where somebody caught it.
fn panics() -> u64 {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            tell(info);
        }));
    });
    PANICS.get()
}

/// How long healing may take: a connection that is silent is given up after two beats, then the client waits
/// and connects, and what was lost meanwhile shows with the next beat.
fn heal_max(plan: &Plan) -> Duration {
    let connect = tertulia_client::Options::default().connect_timeout;
    let call = tertulia_client::Options::default().call_timeout;
    HEARTBEAT * 3 + plan.backoff_max * 2 + connect + call
}

struct Run {
    world: Arc<World>,
    model: Arc<Model>,
    store: Arc<Store>,
    nemesis: Nemesis,
    prompt: Arc<AtomicBool>,
    pace: Arc<Pace>,
}

impl Run {
    /// Everything is built and everybody signed up, on a good day.
    async fn begin(world: &Arc<World>) -> Run {
        world.set_faults(Faults::NONE);
        let plan = &world.plan;
        world.note("plan", format_args!("{plan:?}"));
        let model = Arc::new(Model::default());
        let bus = LossyBus::new(world);
        let feed = Feed::new(bus.clone());
        let clocks: Vec<_> = (0..plan.nodes).map(|_| NodeClock::new()).collect();
        let store = Store::new(world, &model, clocks[0].clone(), feed);
        let around = Surroundings {
            world: Arc::clone(world),
            model: Arc::clone(&model),
            store: Arc::clone(&store),
            doors: Arc::default(),
            people: Arc::default(),
            prompt: Arc::default(),
            pace: Arc::default(),
        };
        let mut nemesis = Nemesis {
            ground: Ground {
                world: Arc::clone(world),
                store: Arc::clone(&store),
                people: Arc::new(People::default()),
                bus,
            },
            doors: Arc::clone(&around.doors),
            clocks,
            devices: Vec::new(),
        };
        nemesis.start_server().await;
        for (person, devices) in plan.devices.iter().enumerate() {
            for number in 0..*devices {
                let device = Device::new(&around, person, number).await;
                if number == 0 {
                    around.people.lock().push(device.user);
                }
                nemesis.devices.push((person, device));
            }
        }
        let prompt = around.prompt;
        Run {
            world: Arc::clone(world),
            model,
            store,
            nemesis,
            prompt,
            pace: around.pace,
        }
    }

    async fn live_through(self) -> Verdict {
        let plan = self.world.plan.clone();
        // Bad times.
        self.world.set_faults(plan.faults);
        self.pace.set(Some(plan.thinking));
        for (person, device) in &self.nemesis.devices {
            device.start(*person);
        }
        self.nemesis.rage().await;

        // Healing.
        self.world.note("run", "the faults end");
        self.world.set_faults(Faults::NONE);
        self.pace.set(None);
        self.nemesis.heal().await;
        let healed_in = self.rest(heal_max(&plan), Promise::Healing).await;

        // Calm times: connections come and go, and nothing else does.
        for device in self.devices() {
            device.perform(Operation::OpenDirect).await;
        }
        self.world.note("run", "connections come and go");
        self.devices().for_each(|device| device.way.reset());
        self.prompt.store(true, Ordering::Relaxed);
        self.pace.set(Some(UNREST_THINKING));
        self.nemesis.unrest(UNREST, UNREST_RESETS).await;
        self.pace.set(None);
        self.rest(heal_max(&plan), Promise::Healing).await;
        self.prompt.store(false, Ordering::Relaxed);

        // The bus loses everything.
        self.world.note("run", "the bus is deaf");
        let faults = Faults {
            bus_losses: 1_000,
            ..Faults::NONE
        };
        self.world.set_faults(faults);
        for device in self.devices() {
            device.perform(Operation::Send).await;
        }
        let tail_in = self.rest(TAIL_MAX, Promise::Tail).await;
        self.world.set_faults(Faults::NONE);

        self.judge().await;
        self.stop().await;
        Verdict {
            seed: plan.seed,
            broken: self.world.all_broken(),
            tally: self.world.tally(),
            passed: self.world.passed(),
            healed_in,
            tail_in,
            reached: self.world.all_reached(),
            hash: self.world.trace.hash(),
            last: self.world.trace.last(usize::MAX),
        }
    }

    fn devices(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.nemesis.devices.iter().map(|(_, device)| device)
    }

    /// Waits until every device shows what the store has, and gives how long that took. A promise is broken
    /// when it takes longer than `most`.
    async fn rest(&self, most: Duration, promise: Promise) -> Duration {
        let began = Instant::now();
        loop {
            let Some(why) = self.unfinished().await else {
                let took = began.elapsed();
                self.world.note("run", format_args!("rest after {took:?}"));
                return took;
            };
            if began.elapsed() > most {
                let words = format!("not at rest after {most:?}: {why}");
                self.world.broken(promise, words);
                return began.elapsed();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn unfinished(&self) -> Option<String> {
        for device in self.devices() {
            let standings = self.store.standings_of(device.user).await;
            if let Some(why) = device.unfinished(&standings) {
                return Some(format!("{}: {why}", device.name));
            }
        }
        None
    }

    /// Looks at everything.
    async fn judge(&self) {
        for device in self.devices() {
            for standing in self.store.standings_of(device.user).await {
                self.compare(device, standing.chat.id).await;
            }
        }
        let logs = self.store.everything().await;
        let history = self.model.history(&self.store.epoch_name(), &logs);
        self.world.note("run", history.summary());
        for violation in history.check() {
            self.world
                .broken(promise_of(&violation), violation.to_string());
        }
    }

    /// Compares what a device shows of a chat with the store, itself and by digests.
    async fn compare(&self, device: &Device, chat: ChatId) {
        let is = self.store.view(device.user, chat).await;
        let shown = device.view(chat.0).await;
        if let Some(difference) = difference(&is, &shown) {
            let words = format!("{} of chat {chat}: {difference}", device.name);
            return self.world.broken(view::promise_of(&difference), words);
        }
        let differing = device.differing(chat.0).await;
        if differing != Some(0) {
            let words = format!(
                "{} finds {differing:?} in the digests of {chat}",
                device.name
            );
            self.world.broken(Promise::Convergence, words);
        }
    }

    async fn stop(&self) {
        self.devices().for_each(|device| device.crash(false));
        for index in 0..self.nemesis.clocks.len() {
            if let Some(node) = self.nemesis.doors.get(index) {
                node.crash();
            }
        }
        self.store.crash().await;
    }
}

fn promise_of(violation: &Violation) -> Promise {
    match violation {
        Violation::Lost { .. } => Promise::NoLoss,
        Violation::Duplicated { .. } | Violation::ShownTwice { .. } => Promise::NoDuplicate,
        Violation::Hole { .. } | Violation::Reordered { .. } | Violation::Misordered { .. } => {
            Promise::Order
        }
        Violation::Phantom { .. } | Violation::Changed { .. } | Violation::Imagined { .. } => {
            Promise::NoPhantom
        }
        Violation::Missed { .. } => Promise::Convergence,
        // The checker finds these in no history; others put them beside it.
        Violation::Refused { .. }
        | Violation::BadId(_)
        | Violation::Astray(_)
        | Violation::Leaked(_)
        | Violation::Unbounded(_)
        | Violation::Dishonest(_)
        | Violation::Late(_)
        | Violation::Forgotten { .. }
        | Violation::Unasked { .. }
        | Violation::Untrue(_)
        | Violation::Differs { .. } => Promise::Convergence,
    }
}
