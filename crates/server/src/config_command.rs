//! `tertulia config …`: shows what is set, and explains what could be.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use tertulia_kit::config::{env, reference_markdown, show, template};

use crate::config::{SCHEMA, load};

/// What to print.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Shows what a server would start with here, without secrets.
    Show {
        /// Tells of each value where it was set.
        #[arg(long)]
        origin: bool,
        /// The configuration file (TOML).
        #[arg(long, value_name = "FILE", env = "TERTULIA_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Prints a configuration file with every key and its default.
    Template,
    /// Prints every environment variable and its default.
    Env,
    /// Prints the reference of all keys as Markdown.
    Reference,
}

/// Prints it.
///
/// # Errors
/// When the configuration has problems: all of them, as a table. Or when nobody takes the output.
pub fn run(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    let text = text(command)?;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // `| head` has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(command: ConfigCommand) -> anyhow::Result<String> {
    Ok(match command {
        ConfigCommand::Show { origin, config } => {
            let loaded = load(config, Vec::new()).map_err(|problems| {
                anyhow::anyhow!("the configuration has problems\n{problems}")
            })?;
            show(&loaded, origin)
        }
        ConfigCommand::Template => template(&SCHEMA),
        ConfigCommand::Env => env(&SCHEMA),
        ConfigCommand::Reference => reference_markdown(&SCHEMA),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_problems_of_a_file_are_told_and_nothing_is_shown() {
        let config = Some(PathBuf::from("/does/not/exist.toml"));
        let words = text(ConfigCommand::Show {
            origin: true,
            config,
        })
        .unwrap_err()
        .to_string();
        assert!(words.contains("can not be read"), "{words}");
    }

    #[test]
    fn template_variables_and_reference_tell_every_key() {
        for command in [
            ConfigCommand::Template,
            ConfigCommand::Env,
            ConfigCommand::Reference,
        ] {
            let text = text(command).unwrap().to_lowercase();
            for field in SCHEMA.fields {
                assert!(text.contains(field.key()), "{}", field.path);
            }
        }
    }
}
