//! What whole-system tests stand on: a node in this process or in its own, people who talk to it over raw
//! wires, and the checker.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

pub mod checker;
pub mod cluster;
pub mod deed;
pub mod faults;
pub mod many;
pub mod node;
pub mod proxy;
pub mod simulation;
pub mod town;
pub mod view;
pub mod wire;
