//! The disk of a device: it outlives the client, keeps what was synced when the power goes, and perhaps some
//! of what was not. What a device writes down and strikes out is told to the model here, because here it is
//! certain.

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tertulia_client::State as Sending;
use tertulia_client::store::memory::Memory;
use tertulia_client::store::{Error, Record, Snapshot, Store};

use super::model::Model;
use super::world::World;
use crate::checker::Outcome;

/// It.
pub struct Disk {
    world: Arc<World>,
    model: Arc<Model>,
    /// Guards what is on it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts the clients that have used it. Only the last one may write.
    mounted: u64,
    device: String,
    batches: Vec<Vec<Record>>,
    synced: usize,
}

/// The disk as one client uses it.
pub struct Mount {
    disk: Arc<Disk>,
    number: u64,
    /// What the batches make together.
    now: Memory,
}

impl Disk {
    /// An empty one.
    pub fn new(world: &Arc<World>, model: &Arc<Model>) -> Arc<Self> {
        Arc::new(Disk {
            world: Arc::clone(world),
            model: Arc::clone(model),
            state: Mutex::default(),
        })
    }

    /// For a new client; the one before can write no more.
    pub fn mount(self: &Arc<Self>) -> Arc<Mount> {
        let now = Memory::default();
        let mut state = self.state.lock();
        state.mounted += 1;
        for batch in &state.batches {
            now.write(batch).expect("memory takes everything");
        }
        Arc::new(Mount {
            disk: Arc::clone(self),
            number: state.mounted,
            now,
        })
    }

    /// The power is gone: of what was not synced some batches may be there, the first ones. Gives how many
    /// are not.
    pub fn cut(&self) -> usize {
        let mut state = self.state.lock();
        state.mounted += 1;
        let all = state.batches.len();
        let kept = self.world.draw(state.synced as u64..=all as u64) as usize;
        state.batches.truncate(kept);
        all - kept
    }

    fn observe(&self, state: &mut State, record: &Record) {
        match record {
            Record::Device(id) => state.device.clone_from(id),
            Record::SignedIn(credentials) => state.device.clone_from(&credentials.device_id),
            Record::Message(entry) => {
                let key = (state.device.clone(), entry.client_message_id.clone());
                match &entry.state {
                    Sending::Failed(_) => self.model.told(key, Outcome::Refused),
                    _ => self.model.written(key, entry.chat, entry.text.clone()),
                }
            }
            Record::MessageGone {
                client_message_id, ..
            } => {
                let key = (state.device.clone(), client_message_id.clone());
                self.model.struck(key);
            }
            _ => {}
        }
    }
}

impl Mount {
    fn used_by_another() -> Error {
        std::io::Error::other("the client is dead").into()
    }
}

impl Store for Mount {
    fn load(&self) -> Result<Snapshot, Error> {
        self.now.load()
    }

    fn write(&self, batch: &[Record]) -> Result<(), Error> {
        let mut state = self.disk.state.lock();
        if state.mounted != self.number {
            return Err(Self::used_by_another());
        }
        for record in batch {
            self.disk.observe(&mut state, record);
        }
        state.batches.push(batch.to_vec());
        self.now.write(batch)
    }

    fn sync(&self) -> Result<(), Error> {
        let mut state = self.disk.state.lock();
        if state.mounted != self.number {
            return Err(Self::used_by_another());
        }
        state.synced = state.batches.len();
        Ok(())
    }

    fn synced(self: Arc<Self>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            let disk = &self.disk;
            let written = disk.state.lock().batches.len();
            disk.world.pause(disk.world.faults().disk_ms).await;
            let mut state = disk.state.lock();
            if state.mounted != self.number {
                return Err(Self::used_by_another());
            }
            state.synced = state.synced.max(written);
            Ok(())
        })
    }
}
