//! The screen of a device while one client runs: each event is judged at the moment when it first appears.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tertulia_client::Seen;
use tertulia_client::store::Snapshot;
use tertulia_services::ids::UserId;
use tokio::time::Instant;

use super::model::{Model, Wrong};
use super::store::Store;
use super::world::{Promise, World};

/// How long an event may take from its commit to a screen that is connected, while nothing is lost.
pub const PROMPT_MAX: Duration = Duration::from_secs(3);

/// It.
pub struct Screen {
    world: Arc<World>,
    model: Arc<Model>,
    store: Arc<Store>,
    device: String,
    user: UserId,
    /// Guards what has been shown.
    shown: Mutex<Shown>,
    /// Delays are judged.
    prompt: Arc<AtomicBool>,
}

#[derive(Default)]
struct Shown {
    /// The last seq, by epoch and chat.
    last: BTreeMap<(String, i64), i64>,
    /// Since when there is a connection.
    online_since: Option<Instant>,
}

impl Screen {
    /// A dark one. `prompt` says whether delays are judged.
    pub fn new(
        world: &Arc<World>,
        model: &Arc<Model>,
        store: &Arc<Store>,
        (device, user): (&str, UserId),
        prompt: &Arc<AtomicBool>,
    ) -> Arc<Self> {
        Arc::new(Screen {
            world: Arc::clone(world),
            model: Arc::clone(model),
            store: Arc::clone(store),
            device: device.to_owned(),
            user,
            shown: Mutex::default(),
            prompt: Arc::clone(prompt),
        })
    }

    /// What a client finds on its disk is shown at once.
    pub fn begin(&self, found: &Snapshot) {
        let tips = found.chats.iter().map(|(chat, known)| {
            let log = (found.epoch.clone(), *chat);
            (log, known.tip())
        });
        self.shown.lock().last.extend(tips);
    }

    /// The connection came or went.
    pub fn online(&self, online: bool) {
        self.shown.lock().online_since = online.then(Instant::now);
    }

    /// An event appears.
    pub fn show(&self, seen: &Seen) {
        let (world, device) = (&self.world, &self.device);
        let (chat, seq) = (seen.chat, seen.seq);
        world.count(|tally| tally.shown += 1);
        world.note(device, format_args!("shows {seq} {:.20}", seen.text));
        let committed_at = match self
            .model
            .committed_at(seen, self.user, &self.store.epoch_name())
        {
            Ok(at) => at,
            Err(Wrong::NotSo) => {
                let words = format!("{device} shows {seq} of chat {chat}, which is not so");
                return world.broken(Promise::NoPhantom, words);
            }
            Err(Wrong::NotForThem) => {
                let words = format!("{device} shows {seq} of chat {chat}, which is not for it");
                return world.broken(Promise::Entitlement, words);
            }
        };
        let mut shown = self.shown.lock();
        let last = shown.last.insert((seen.epoch.clone(), chat), seq);
        if let Some(last) = last.filter(|last| seq != last + 1) {
            let words = format!("{device} shows {seq} of chat {chat} after {last}");
            match seq <= last {
                true => world.broken(Promise::NoDuplicate, words),
                false if world.plan.may_skip() => {}
                false => world.broken(Promise::Order, words),
            }
        }
        let waited = shown
            .online_since
            .map(|since| committed_at.max(since).elapsed());
        if self.prompt.load(Ordering::Relaxed)
            && let Some(waited) = waited.filter(|waited| *waited > PROMPT_MAX)
        {
            let words = format!("{device} waited {waited:?} for {seq} of chat {chat}");
            world.broken(Promise::Prompt, words);
        }
    }
}
