//! The application kit: what any service needs. There is no chat word in it.

pub mod clock;
pub mod error;
pub mod id;
