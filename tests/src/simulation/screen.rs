//! The screen of a device while one client runs: each event is judged at the moment when it first appears.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tertulia_client::{Client, Seen};
use tokio::time::Instant;

use super::model::Model;
use super::world::{Promise, World};

/// How long an event may take from its commit to a screen that is connected, while nothing is lost.
pub const PROMPT_MAX: Duration = Duration::from_secs(3);

/// It.
pub struct Screen {
    world: Arc<World>,
    model: Arc<Model>,
    device: String,
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
        device: &str,
        prompt: &Arc<AtomicBool>,
    ) -> Arc<Self> {
        Arc::new(Screen {
            world: Arc::clone(world),
            model: Arc::clone(model),
            device: device.to_owned(),
            shown: Mutex::default(),
            prompt: Arc::clone(prompt),
        })
    }

    /// What a client knows from its disk is shown at once.
    pub fn begin(&self, epoch: &str, client: &Client) {
        let mut shown = self.shown.lock();
        for view in client.chats() {
            if let Some(last) = view.events.last() {
                let log = (epoch.to_owned(), view.chat.chat_id);
                shown.last.insert(log, last.seq);
            }
        }
    }

    /// The connection came or went.
    pub fn online(&self, online: bool) {
        self.shown.lock().online_since = online.then(Instant::now);
    }

    /// An event appears.
    pub fn show(&self, seen: &Seen) {
        self.world.count(|tally| tally.shown += 1);
        let (chat, seq) = (seen.chat, seen.seq);
        self.world
            .note(&self.device, format_args!("shows {seq} {:.20}", seen.text));
        let mut shown = self.shown.lock();
        let log = (seen.epoch.clone(), chat);
        let skips = self.world.plan.may_skip();
        match shown.last.insert(log, seq) {
            Some(last) if seq <= last => {
                let words = format!("{} shows {seq} of chat {chat} after {last}", self.device);
                self.world.broken(Promise::NoDuplicate, words);
            }
            Some(last) if seq > last + 1 && !skips => {
                let words = format!("{} shows {seq} of chat {chat} after {last}", self.device);
                self.world.broken(Promise::Order, words);
            }
            _ => {}
        }
        let Some(committed_at) = self.model.committed_at(seen) else {
            let words = format!(
                "{} shows {seq} of chat {chat}, which is not so",
                self.device
            );
            self.world.broken(Promise::NoPhantom, words);
            return;
        };
        let Some(online_since) = shown.online_since else {
            return;
        };
        let waited = committed_at.max(online_since).elapsed();
        if self.prompt.load(Ordering::Relaxed) && waited > PROMPT_MAX {
            let waited = waited.as_millis();
            let words = format!(
                "{} waited {waited} ms for {seq} of chat {chat}",
                self.device
            );
            self.world.broken(Promise::Prompt, words);
        }
    }
}
