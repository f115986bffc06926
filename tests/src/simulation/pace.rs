//! How fast people are, for all of them at once.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::world::World;

/// It. Who waits is woken in the order of waiting; a `watch` channel would draw lots, by no seed.
#[derive(Debug, Default)]
pub struct Pace {
    /// Guards how long somebody thinks, on average; none: nobody does anything any more.
    thinking: Mutex<Option<Duration>>,
    changed: Notify,
}

impl Pace {
    /// Another one from now on.
    pub fn set(&self, thinking: Option<Duration>) {
        *self.thinking.lock() = thinking;
        self.changed.notify_waiters();
    }

    /// Thinks.
    pub async fn think(&self, world: &World) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let thinking = *self.thinking.lock();
            let thought = async {
                match thinking {
                    Some(mean) => tokio::time::sleep(world.draw_gap(mean)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = changed => {}
                () = thought => return,
            }
        }
    }
}
