//! Ids that sort by time: 41 bits of milliseconds since 2026, 4 of cell, 8 of node, 10 of sequence.
//!
//! They are unique as long as no two running nodes hold the same (cell, node) and the clock never goes
//! back; [`crate::clock::HighWater`] and the node's lease see to that. The order of events never depends
//! on them.

use parking_lot::Mutex;

use crate::clock::SharedClock;

/// Where the milliseconds begin: 2026-01-01T00:00:00Z.
const EPOCH_MS: i64 = 1_767_225_600_000;
const CELL_BITS: u32 = 4;
const NODE_BITS: u32 = 8;
const SEQUENCE_BITS: u32 = 10;

/// Which node of which cell makes the ids. Held by lease: in one process by the lock on the data folder.
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
}

/// Hands out the right to make ids as a node. Two running processes never hold the same node: the holder of
/// a lease keeps it as long as it runs.
pub trait NodeIds: Send + Sync {
    /// The node that this process is.
    ///
    /// # Errors
    /// When no node is free.
    fn lease(&self) -> Result<Node, NoNode>;
}

/// There is no node to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no node id is free: {0}")]
pub struct NoNode(pub String);

/// Makes ids.
#[derive(Debug)]
pub struct Ids {
    clock: SharedClock,
    node: Node,
    /// The millisecond of the newest id and how many were made in it.
    last: Mutex<(i64, u32)>,
}

impl Ids {
    /// Makes the ids of `node` by `clock`.
    pub fn new(clock: SharedClock, node: Node) -> Self {
        Ids {
            clock,
            node,
            last: Mutex::new((0, 0)),
        }
    }

    /// The next id: positive, and greater than every one made here before. When a millisecond is used up,
    /// the next millisecond is taken early.
    pub fn next(&self) -> i64 {
        let now = (self.clock.now_ms() - EPOCH_MS).max(1);
        let mut last = self.last.lock();
        let (ms, sequence) = match *last {
            (ms, _) if now > ms => (now, 0),
            (ms, sequence) if sequence + 1 < 1 << SEQUENCE_BITS => (ms, sequence + 1),
            (ms, _) => (ms + 1, 0),
        };
        *last = (ms, sequence);
        ms << (CELL_BITS + NODE_BITS + SEQUENCE_BITS)
            | i64::from(self.node.cell) << (NODE_BITS + SEQUENCE_BITS)
            | i64::from(self.node.node) << SEQUENCE_BITS
            | i64::from(sequence)
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
        let ids = Ids::new(ManualClock::at(EPOCH_MS + 5), Node::FIRST);
        let made: Vec<i64> = (0..5_000).map(|_| ids.next()).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn two_nodes_never_make_the_same_id() {
        let clock = ManualClock::at(EPOCH_MS + 5);
        let one = Ids::new(clock.clone(), Node::new(0, 1).unwrap());
        let two = Ids::new(clock, Node::new(0, 2).unwrap());
        let made: std::collections::HashSet<i64> =
            (0..100).flat_map(|_| [one.next(), two.next()]).collect();
        assert_eq!(made.len(), 200);
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let ids = Ids::new(ManualClock::at(EPOCH_MS + 77), Node::FIRST);
        assert_eq!(made_at_ms(ids.next()), EPOCH_MS + 77);
    }
}
