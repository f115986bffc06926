//! Endpoints that somebody has written down.

use tokio::sync::watch;

use super::{Discovery, Endpoint, Endpoints, tell};

/// A list. It stays as it is until it is told another one.
#[derive(Debug)]
pub struct Memory(watch::Sender<Endpoints>);

impl Memory {
    /// A list of these.
    pub fn new(endpoints: Vec<Endpoint>) -> Memory {
        let memory = Memory(watch::Sender::new(Endpoints::default()));
        memory.tell(endpoints);
        memory
    }

    /// From now on it is these; unless these are none.
    pub fn tell(&self, endpoints: Vec<Endpoint>) {
        tell(&self.0, endpoints);
    }
}

impl Discovery for Memory {
    fn endpoints(&self) -> watch::Receiver<Endpoints> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::discovery::suite;

    #[tokio::test]
    async fn a_list_keeps_the_promises_of_a_discovery() {
        let memory = Arc::new(Memory::new(Vec::new()));
        let told = Arc::clone(&memory);
        suite::run(memory, move |endpoints| told.tell(endpoints)).await;
    }
}
