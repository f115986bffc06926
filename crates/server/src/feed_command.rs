//! `tertulia feed`: finds the node and the key in the configuration of a server, for those who follow its feed.

use std::process::ExitCode;

use clap::Args;
use tertulia_cli::feed;

use crate::door::Server;

/// `tertulia feed`.
#[derive(Debug, Args)]
pub struct Command {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    options: feed::Options,
}

/// Follows the feed of a deployment that runs.
///
/// # Errors
/// When there is no key, or what was printed can not be written.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    feed::run(command.options, &command.server.door()?).await
}
