//! The binary's inside: configuration, wiring, and nothing that decides.

pub mod anew;
pub mod config;
pub mod config_command;
mod door;
pub mod due;
mod feed;
pub mod feed_command;
mod handing;
pub mod harm;
pub mod jobs;
pub mod logins;
mod metrics;
pub mod migrate_store;
pub mod plan;
mod presence;
pub mod roles;
pub mod sessions;
pub mod stores;
pub mod verify;
pub mod wiring;
