//! Ids that sort by time: 41 bits of milliseconds since 2026, 4 of cell, 8 of node, 10 of sequence.
//!
//! They are unique as long as no two running nodes hold the same (cell, node) and the clock never goes
//! back; [`crate::clock::HighWater`] and the node's lease see to that. The order of events never depends
//! on them.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::clock::SharedClock;

/// Where the milliseconds begin: 2026-01-01T00:00:00Z.
const EPOCH_MS: i64 = 1_767_225_600_000;
const CELL_BITS: u32 = 4;
const NODE_BITS: u32 = 8;
const SEQUENCE_BITS: u32 = 10;

/// Which node of which cell makes the ids. It belongs to one process: by the lock on the data folder where each
/// deployment has one node, else by a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    cell: u8,
    node: u8,
}

impl Node {
    /// The only node of the only cell.
    pub const FIRST: Node = Node { cell: 0, node: 0 };

    /// A node, when `cell` is below 16.
    pub fn new(cell: u8, node: u8) -> Option<Node> {
        (cell < 1 << CELL_BITS).then_some(Node { cell, node })
    }

    /// Its number in its cell.
    pub fn number(self) -> u8 {
        self.node
    }
}

/// The right to make ids as a node. Two running processes never have the same node at the same time.
#[async_trait]
pub trait NodeIds: Send + Sync {
    /// The node that this process is now. None while that is not sure, because a lease could not be kept; it may
    /// be another node afterwards. Asked for every id, so it must not wait.
    fn held(&self) -> Option<Node>;

    /// All nodes that are held by somebody, this one among them, in no order. One that has died is still named until
    /// its lease is over. None when that can not be told now.
    async fn all(&self) -> Option<Vec<Node>>;
}

/// A process that is this node for as long as it runs, by whatever keeps others from being it.
#[async_trait]
impl NodeIds for Node {
    fn held(&self) -> Option<Node> {
        Some(*self)
    }

    async fn all(&self) -> Option<Vec<Node>> {
        Some(vec![*self])
    }
}

/// No id can be made now: it is not sure which node this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node has no id of its own now")]
pub struct NoNode;

/// Makes ids.
pub struct Ids {
    clock: SharedClock,
    nodes: Arc<dyn NodeIds>,
    /// The millisecond of the newest id and how many were made in it.
    last: Mutex<(i64, u32)>,
}

impl Ids {
    /// Makes the ids of the node that `nodes` says, by `clock`.
    pub fn new(clock: SharedClock, nodes: Arc<dyn NodeIds>) -> Self {
        Ids {
            clock,
            nodes,
            last: Mutex::new((0, 0)),
        }
    }

    /// The next id: positive, and greater than every one made here before by the same node. When a millisecond is
    /// used up, the next millisecond is taken early.
    ///
    /// # Errors
    /// While this process is no node.
    pub fn next(&self) -> Result<i64, NoNode> {
        let now = (self.clock.now_ms() - EPOCH_MS).max(1);
        let mut last = self.last.lock();
        let node = self.nodes.held().ok_or(NoNode)?;
        let (ms, sequence) = match *last {
            (ms, _) if now > ms => (now, 0),
            (ms, sequence) if sequence + 1 < 1 << SEQUENCE_BITS => (ms, sequence + 1),
            (ms, _) => (ms + 1, 0),
        };
        *last = (ms, sequence);
        Ok(ms << (CELL_BITS + NODE_BITS + SEQUENCE_BITS)
            | i64::from(node.cell) << (NODE_BITS + SEQUENCE_BITS)
            | i64::from(node.node) << SEQUENCE_BITS
            | i64::from(sequence))
    }
}

/// When an id was made, in milliseconds since 1970.
pub fn made_at_ms(id: i64) -> i64 {
    (id >> (CELL_BITS + NODE_BITS + SEQUENCE_BITS)) + EPOCH_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn ids_rise_within_a_millisecond_and_beyond_its_end() {
        let ids = Ids::new(ManualClock::at(EPOCH_MS + 5), Arc::new(Node::FIRST));
        let made: Vec<i64> = (0..5_000).map(|_| ids.next().unwrap()).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn two_nodes_never_make_the_same_id() {
        let clock = ManualClock::at(EPOCH_MS + 5);
        let one = Ids::new(clock.clone(), Arc::new(Node::new(0, 1).unwrap()));
        let two = Ids::new(clock, Arc::new(Node::new(0, 2).unwrap()));
        let made: std::collections::HashSet<i64> = (0..100)
            .flat_map(|_| [one.next().unwrap(), two.next().unwrap()])
            .collect();
        assert_eq!(made.len(), 200);
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let ids = Ids::new(ManualClock::at(EPOCH_MS + 77), Arc::new(Node::FIRST));
        assert_eq!(made_at_ms(ids.next().unwrap()), EPOCH_MS + 77);
    }

    #[test]
    fn without_a_node_there_is_no_id() {
        struct Nobody;
        #[async_trait]
        impl NodeIds for Nobody {
            fn held(&self) -> Option<Node> {
                None
            }

            async fn all(&self) -> Option<Vec<Node>> {
                None
            }
        }
        let ids = Ids::new(ManualClock::at(EPOCH_MS), Arc::new(Nobody));
        assert_eq!(ids.next(), Err(NoNode));
    }
}
