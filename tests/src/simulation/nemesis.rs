//! What befalls the whole: one disaster after the other, until it is told to stop; then it puts everything
//! right.

use std::sync::Arc;
use std::time::Duration;

use super::clock::NodeClock;
use super::device::Device;
use super::node::{Ground, Node};
use super::plan::Disasters;
use super::wire::Doors;

/// How long something stays down, in milliseconds.
const DOWN_MS: (u64, u64) = (200, 15_000);
/// How long a device has no network, in milliseconds.
const CUT_OFF_MS: (u64, u64) = (500, 90_000);
/// How far a clock is set wrong, in milliseconds: from seconds to two days, either way.
const JUMPS_MS: [u64; 4] = [2_000, 60_000, 3_600_000, 48 * 3_600_000];

/// What it can lay its hands on.
pub struct Nemesis {
    /// What outlives the nodes.
    pub ground: Ground,
    /// Where clients find nodes.
    pub doors: Arc<Doors>,
    /// The clocks of the nodes.
    pub clocks: Vec<Arc<NodeClock>>,
    /// Each with its person.
    pub devices: Vec<(usize, Arc<Device>)>,
}

/// A disaster.
#[derive(Debug, Clone, Copy)]
enum Disaster {
    NodeCrash,
    ServerCrash,
    Drain,
    Restore,
    ServerClock,
    ClientClock,
    Partition,
    ClientCrash,
    PowerCut,
}

impl Disaster {
    fn words(self) -> &'static str {
        match self {
            Disaster::NodeCrash => "a node dies",
            Disaster::ServerCrash => "the server dies",
            Disaster::Drain => "a node drains",
            Disaster::Restore => "a backup is restored",
            Disaster::ServerClock => "a server's clock jumps",
            Disaster::ClientClock => "a device's clock jumps",
            Disaster::Partition => "a device is cut off",
            Disaster::ClientCrash => "a client dies",
            Disaster::PowerCut => "a device loses power",
        }
    }
}

impl Nemesis {
    /// Strikes for as long as the plan says.
    pub async fn rage(&self) {
        let world = &self.ground.world;
        let plan = world.plan.disasters;
        let struck = async {
            loop {
                tokio::time::sleep(world.draw_gap(plan.mean_gap)).await;
                let Some(disaster) = self.draw(&plan) else {
                    continue;
                };
                world.count(|tally| tally.faults += 1);
                world.note("nemesis", disaster.words());
                world.reach(disaster.words());
                self.strike(disaster).await;
            }
        };
        // A disaster that is under way when the time is over is left as it is; `heal` looks after it.
        _ = tokio::time::timeout(world.plan.chaos, struck).await;
    }

    fn draw(&self, plan: &Disasters) -> Option<Disaster> {
        let weights = [
            (Disaster::NodeCrash, plan.node_crash),
            (Disaster::ServerCrash, plan.server_crash),
            (Disaster::Drain, plan.drain),
            (Disaster::Restore, plan.restore),
            (Disaster::ServerClock, plan.server_clock),
            (Disaster::ClientClock, plan.client_clock),
            (Disaster::Partition, plan.partition),
            (Disaster::ClientCrash, plan.client_crash),
            (Disaster::PowerCut, plan.power_cut),
        ];
        let all: u32 = weights.iter().map(|(_, weight)| weight).sum();
        if all == 0 {
            return None;
        }
        let mut at = self.ground.world.pick(all as usize) as u32;
        for (disaster, weight) in weights {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return Some(disaster),
            }
        }
        None
    }

    async fn strike(&self, disaster: Disaster) {
        let world = &self.ground.world;
        let some_node = world.pick(self.clocks.len());
        let (person, device) = &self.devices[world.pick(self.devices.len())];
        match disaster {
            Disaster::NodeCrash if self.clocks.len() == 1 => self.crash_server(false).await,
            Disaster::NodeCrash => {
                if let Some(node) = self.doors.get(some_node) {
                    node.crash();
                    self.doors.put(some_node, None);
                    world.pause(DOWN_MS).await;
                    self.start_node(some_node).await;
                }
            }
            Disaster::ServerCrash => self.crash_server(false).await,
            Disaster::Restore => self.crash_server(true).await,
            Disaster::Drain => {
                if let Some(node) = self.doors.get(some_node) {
                    node.drain().await;
                    self.doors.put(some_node, None);
                    world.pause(DOWN_MS).await;
                    self.start_node(some_node).await;
                }
            }
            Disaster::ServerClock => self.clocks[some_node].set_wrong_by_ms(self.jump_ms()),
            Disaster::ClientClock => device.set_clock_wrong_by_ms(self.jump_ms()),
            Disaster::Partition => {
                device.way.cut_off(true);
                let (world, way) = (Arc::clone(world), Arc::clone(&device.way));
                tokio::spawn(async move {
                    world.pause(CUT_OFF_MS).await;
                    way.cut_off(false);
                });
            }
            Disaster::ClientCrash | Disaster::PowerCut => {
                device.crash(matches!(disaster, Disaster::PowerCut));
                world.pause(DOWN_MS).await;
                if !device.is_running() {
                    device.start(*person);
                }
            }
        }
    }

    fn jump_ms(&self) -> i64 {
        let world = &self.ground.world;
        let most = JUMPS_MS[world.pick(JUMPS_MS.len())];
        let by = world.draw(1..=most) as i64;
        if world.hits(500) { by } else { -by }
    }

    /// Everything on the server dies and comes again, perhaps from an older backup.
    async fn crash_server(&self, restore: bool) {
        for index in 0..self.clocks.len() {
            if let Some(node) = self.doors.get(index) {
                node.crash();
                self.doors.put(index, None);
            }
        }
        self.ground.store.crash().await;
        if restore {
            self.ground.store.restore().await;
        }
        self.ground.world.pause(DOWN_MS).await;
        self.start_server().await;
    }

    /// Opens the store and starts every node that does not run.
    pub async fn start_server(&self) {
        self.ground.store.open();
        for index in 0..self.clocks.len() {
            self.start_node(index).await;
        }
    }

    async fn start_node(&self, index: usize) {
        let open = self.doors.get(index).is_some_and(|node| node.is_open());
        if !open {
            let clock = Arc::clone(&self.clocks[index]);
            let node = Node::start(&self.ground, index as u8, clock).await;
            self.doors.put(index, Some(node));
            self.ground
                .world
                .note("nemesis", format_args!("node {index} runs"));
        }
    }

    /// Puts everything right.
    pub async fn heal(&self) {
        if !self.ground.store.is_open() {
            self.ground.store.open();
        }
        for index in 0..self.clocks.len() {
            self.clocks[index].set_wrong_by_ms(0);
            self.start_node(index).await;
        }
        for (person, device) in &self.devices {
            device.way.cut_off(false);
            if !device.is_running() {
                device.start(*person);
            }
        }
    }

    /// Resets the connections of one device after the other, for a while.
    pub async fn unrest(&self, lasting: Duration, mean_gap: Duration) {
        let world = &self.ground.world;
        let resets = async {
            loop {
                tokio::time::sleep(world.draw_gap(mean_gap)).await;
                let (_, device) = &self.devices[world.pick(self.devices.len())];
                world.note("nemesis", format_args!("resets {}", device.name));
                device.way.reset();
            }
        };
        _ = tokio::time::timeout(lasting, resets).await;
    }
}
