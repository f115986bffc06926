//! The rules of chats as its members meet them, on the store in memory.

mod bench;
mod chats;
mod clockwork;
mod digest;
mod list;
mod marks;
mod members;
mod messages;
mod missed;
mod roles;
