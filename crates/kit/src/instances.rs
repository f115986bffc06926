//! Real servers for tests: private ones, started for a test and gone with it.

mod certificate;
mod keeper;
pub mod nats;
pub mod postgres;
pub mod redis;
