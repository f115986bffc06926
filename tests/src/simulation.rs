//! The whole way of a message in one process, one thread and virtual time: server, bus, store, network,
//! devices, and everything that can befall them, drawn from a seed. The same seed does the same.
//!
//! Real are the rules of the services, gate, handlers, hub, sessions, feed, and the SDK with its session,
//! outbox and timeline. Simulated are the bus, the disks, the network, the clocks, and people.
//! docs/testing-simulation.md says what is left out.

mod bus;
mod clock;
mod device;
mod disk;
mod model;
mod nemesis;
mod network;
mod node;
mod operation;
mod pace;
pub mod plan;
mod run;
pub mod sabotage;
mod screen;
mod store;
mod trace;
mod view;
mod wire;
pub mod world;

pub use run::{How, TAIL_MAX, Verdict, run};
pub use sabotage::Sabotage;
pub use world::{Broken, Promise, Tally};
