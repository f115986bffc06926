//! Which sessions of this node have which chats warm.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tertulia_kit::bus::Subscription;
use tertulia_services::ids::ChatId;

use super::queue::Queue;
use super::told::Frame;
use super::turns::Hearers;

const SHARDS: usize = 16;

/// The sessions, by chat.
pub struct WarmChats {
    /// Each lock guards the chats of its shard, for a few lines.
    shards: [Mutex<FxHashMap<ChatId, WarmChat>>; SHARDS],
}

/// A chat that somebody here has warm.
struct WarmChat {
    queues: Vec<Arc<Queue>>,
    /// Held as long as somebody has.
    _subscription: Subscription,
}

impl WarmChats {
    /// Nobody has anything warm.
    pub fn new() -> Self {
        WarmChats {
            shards: std::array::from_fn(|_| Mutex::new(FxHashMap::default())),
        }
    }

    /// From now on the session hears the chat; whether it did not before. The first one subscribes.
    pub fn enter(
        &self,
        chat: ChatId,
        queue: &Arc<Queue>,
        subscribe: impl FnOnce() -> Subscription,
    ) -> bool {
        let mut shard = self.shard(chat).lock();
        match shard.entry(chat) {
            Entry::Occupied(mut warm) => {
                let queues = &mut warm.get_mut().queues;
                let is_new = !queues.iter().any(|q| Arc::ptr_eq(q, queue));
                if is_new {
                    queues.push(Arc::clone(queue));
                }
                is_new
            }
            Entry::Vacant(cold) => {
                cold.insert(WarmChat {
                    queues: vec![Arc::clone(queue)],
                    _subscription: subscribe(),
                });
                true
            }
        }
    }

    /// From now on these sessions do not hear the chat.
    pub fn leave(&self, chat: ChatId, queues: &[Arc<Queue>]) {
        let mut shard = self.shard(chat).lock();
        let Some(warm) = shard.get_mut(&chat) else {
            return;
        };
        warm.queues
            .retain(|q| !queues.iter().any(|gone| Arc::ptr_eq(q, gone)));
        // The subscription is dropped outside the lock: the bus takes locks of its own.
        let cold = match warm.queues.is_empty() {
            true => shard.remove(&chat),
            false => None,
        };
        drop(shard);
        drop(cold);
    }

    /// Gives a frame to who hears the chat.
    pub fn tell(&self, chat: ChatId, frame: &Arc<Frame>, hearers: &mut Hearers) {
        let shard = self.shard(chat).lock();
        let warm = shard.get(&chat).into_iter();
        let queues = warm.flat_map(|warm| &warm.queues);
        queues.for_each(|queue| _ = hearers.hear(queue, frame));
    }

    fn shard(&self, chat: ChatId) -> &Mutex<FxHashMap<ChatId, WarmChat>> {
        &self.shards[super::spread(chat.0) % SHARDS]
    }
}
