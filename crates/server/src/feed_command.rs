//! `tertulia feed`: finds the node and the key in the configuration of a server, for those who follow its feed; or the
//! servers of NATS, for those who follow it there.

mod jetstream;

use std::process::ExitCode;

use clap::Args;
use tertulia_cli::feed::{self, What};

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
    let Command { server, options } = command;
    let config = server.config()?;
    if options.what.is_of_jetstream() {
        return jetstream::run(options.what, &config.bus).await;
    }
    let is_list = matches!(options.what, What::Consumers { .. });
    let done = feed::run(options, &server.door()?).await?;
    if is_list && config.feed.jetstream {
        println!("those that read from JetStream: tertulia feed consumers --jetstream");
    }
    Ok(done)
}
