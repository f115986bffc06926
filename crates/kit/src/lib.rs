//! The application kit: what any service needs. There is no chat word in it.

pub mod clock;
pub mod error;
pub mod id;

pub mod config;
pub mod net;
pub mod secret;

pub mod health;
pub mod lifecycle;
pub mod lock;
pub mod metrics;
pub mod telemetry;

pub mod balance;
pub mod bus;
pub mod cache;
pub mod discovery;
pub mod job;
pub mod lease;
pub mod limit;
pub mod stream;
pub mod transport;

#[cfg(all(unix, any(test, feature = "suites")))]
pub mod instances;
