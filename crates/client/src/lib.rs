//! The Rust SDK of Tertulia.
//!
//! A [`Client`] is one account on one device. It keeps what it knows in a [`store`], sends what is written
//! through a durable [`outbox`], holds a live connection and repairs what was lost on it, so that what it
//! shows is the log of each chat: in order, each message once and as it is now, without holes.
//!
//! ```no_run
//! # async fn talk() -> Result<(), tertulia_client::Error> {
//! let client = tertulia_client::Client::builder("http://127.0.0.1:8080").folder("profile").build()?;
//! client.sign_in("ana", "a long enough password").await?;
//! client.start();
//! let bo = client.search("bo", 1).await?.users.remove(0);
//! let chat = client.open_direct(bo.user_id).await?;
//! client.send(chat.chat_id, "hello").await?;
//! # Ok(()) }
//! ```

#![forbid(unsafe_code)]

mod backoff;
mod calls;
mod change;
mod client;
mod core;
pub mod error;
mod failover;
pub mod http;
mod methods;
mod options;
pub mod outbox;
mod presence;
pub mod ranges;
mod session;
pub mod socket;
pub mod store;
pub mod time;
pub mod timeline;
pub mod transport;
mod verify;
mod view;

pub use change::{Change, Connection, Observer, Seen};
pub use client::{
    Builder, ChatUpdate, Client, Invitation, NewChat, NewMessage, PAGE_EVENTS_MAX, TEXT_CHARS_MAX,
    Verified,
};
pub use error::{Error, Result};
pub use options::Options;
pub use outbox::{Entry, State};
pub use presence::Presence;
pub use view::ChatView;

/// Ids as the contract has them.
pub type ChatId = i64;
/// Ids as the contract has them.
pub type UserId = i64;

pub use tertulia_proto as proto;
