//! What a person at a terminal does with a server: talk, and call methods. Subcommands of the `tertulia`
//! binary, on top of the Rust SDK.

#![forbid(unsafe_code)]

pub mod api;
pub mod chat;
pub mod door;
pub mod feed;
pub mod load;
pub mod sessions;
mod terminal;

use std::process::ExitCode;

use clap::Subcommand;

/// The subcommands of this crate.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Talks with people: a chat client for the terminal.
    Chat(chat::Options),
    /// Calls any method of the API, and explains them.
    Api(api::Options),
    /// Puts load on a server and measures what it does.
    Load(load::Load),
}

/// Runs a subcommand.
///
/// # Errors
/// What kept it from being done, in words for the person at the terminal.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Chat(options) => chat::run(options).await,
        Command::Api(options) => api::run(options).await,
        Command::Load(load) => load.run().await,
    }
}
