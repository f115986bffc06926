//! Where Tertulia keeps what it knows: one module for each engine, each adapting it to the ports that it is
//! good at; and moving from one to the other. Only here is a driver or a query known, and there is no rule of chat in here.

pub mod cached;
pub mod consumers;
pub mod fjall;
pub mod jobs;
pub mod moving;
pub mod people;
pub mod postgres;
pub mod redis;
mod rows;
pub mod sqlite;
