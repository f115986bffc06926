//! `tertulia sessions`: finds the node and the key in the configuration of a server, for those who control its sessions.

use std::process::ExitCode;

use clap::Args;
use tertulia_cli::sessions;

use crate::door::Server;

/// `tertulia sessions`.
#[derive(Debug, Args)]
pub struct Command {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    options: sessions::Options,
}

/// Controls the sessions of a deployment that runs.
///
/// # Errors
/// When there is no key, or the node does not answer.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    sessions::run(command.options, &command.server.door()?).await
}
