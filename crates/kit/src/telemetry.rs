//! What a node tells about itself while it runs: lines on stderr, and the ids that join the lines of one
//! request, here and on other nodes. Fields are named `request_id`, `trace_id` and `span_id`.

mod context;

use std::io::{IsTerminal as _, stderr};
use std::str::FromStr;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use context::{Context, RequestId, TraceContext};

use crate::lifecycle::log_panics;

/// How to log; fit to be a section of a configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// For people or for machines.
    pub format: Format,
    /// What to log, such as `info` or `info,tertulia_store=debug`.
    pub levels: String,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Why the log did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The levels are not what the filter understands.
    #[error("the log levels are wrong: {0}")]
    Levels(String),
    /// Something logs already.
    #[error("the log was started before")]
    Twice,
}

/// Starts the log of this process on stderr. From here on a panic is one line of the log, without what the
/// panic carried.
///
/// # Errors
/// When the levels are wrong, or the log was started before.
pub fn start(options: &Options) -> Result<(), StartError> {
    let filter = filter(&options.levels).map_err(StartError::Levels)?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    match options.format {
        Format::Pretty => registry
            .with(lines.with_ansi(stderr().is_terminal()))
            .try_init(),
        Format::Json => registry
            .with(
                lines
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(true),
            )
            .try_init(),
    }
    .map_err(|_| StartError::Twice)?;
    log_panics();
    Ok(())
}

/// Says what is wrong with log levels; fit for a check of a configuration.
///
/// # Errors
/// When the filter does not understand them.
pub fn check_levels(levels: &str) -> Result<(), String> {
    filter(levels).map(drop)
}

fn filter(levels: &str) -> Result<EnvFilter, String> {
    EnvFilter::from_str(levels).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_levels_are_told() {
        assert!(check_levels("info,tertulia_store=debug").is_ok());
        assert!(check_levels("tertulia_store=loud").is_err());
    }
}
