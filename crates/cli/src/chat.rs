//! `tertulia chat`: people talk at a terminal. With a terminal at both ends it is a screen; without, it is
//! lines, so that scripts and tests can talk too.

mod app;
mod commands;
mod lines;
mod screen;
mod sentences;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use tertulia_client::proto::errors::Reason;
use tertulia_client::{Client, Error};

use crate::terminal::{ask, ask_secret, is_interactive};
use app::App;

/// Who talks, and where.
#[derive(Debug, Args)]
#[command(after_help = "In the chat, /help lists what can be typed.\n\n\
    Without a terminal, each line of standard input is a message or a command, and each event of the\n\
    open chat is printed as `seq name: text`; lines that begin with `*` are about the client itself.")]
pub struct Options {
    /// The server. Of a deployment of several nodes all, with commas between them: one of them is used, and the next
    /// one when that is gone.
    #[arg(long, env = "TERTULIA_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The account's name; asked for when it is needed and not given.
    #[arg(long)]
    name: Option<String>,
    /// The folder that keeps the login, the newest messages and those not sent yet. By default one in the home
    /// folder for each server and name.
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
    /// Reads the password from the first line of this file instead of asking.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Makes the account first.
    #[arg(long)]
    sign_up: bool,
}

/// Talks until the person leaves.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let profile = match &options.profile {
        Some(folder) => folder.clone(),
        None => default_profile(&options)?,
    };
    let device_name = format!("tertulia chat on {}", std::env::consts::OS);
    let limits = tertulia_client::Options {
        device_name,
        ..Default::default()
    };
    let client = Client::builder(&options.url)
        .folder(&profile)
        .options(limits)
        .build();
    let client = client.with_context(|| format!("the profile {}", profile.display()))?;
    let me = match client.user_id() {
        Some(user) if !options.sign_up => user,
        _ => sign_in(&client, &options).await?,
    };
    client.start();
    let app = App::new(client.clone(), me);
    let done = if is_interactive() {
        screen::run(app).await
    } else {
        lines::run(app).await
    };
    client.stop().await;
    done.map(|()| ExitCode::SUCCESS)
}

/// `~/.tertulia/<server>/<name>`
fn default_profile(options: &Options) -> anyhow::Result<PathBuf> {
    let home = std::env::home_dir().context("there is no home folder; name one with --profile")?;
    let plain = |text: &str| -> String {
        text.chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-._".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect()
    };
    let server = options
        .url
        .split(',')
        .next()
        .and_then(|first| first.split("://").nth(1))
        .unwrap_or(&options.url)
        .trim_end_matches('/');
    let name = options.name.as_deref().unwrap_or("default").to_lowercase();
    Ok(home
        .join(".tertulia")
        .join(plain(server))
        .join(plain(&name).trim_start_matches('.')))
}

async fn sign_in(client: &Client, options: &Options) -> anyhow::Result<i64> {
    let interactive = is_interactive();
    let name = match &options.name {
        Some(name) => name.clone(),
        None if interactive => ask("Name: ")?,
        None => bail!("nobody is signed in here: give --name and --password-file"),
    };
    let password = match &options.password_file {
        Some(file) => first_line(file)?,
        None if interactive => ask_secret("Password: ")?,
        None => bail!("without a terminal the password comes from --password-file"),
    };
    if options.sign_up {
        return client.sign_up(&name, &password, "").await.map_err(told);
    }
    match client.sign_in(&name, &password).await {
        Err(error) if interactive && error.reason() == Some(Reason::REASON_WRONG_CREDENTIALS) => {
            eprintln!("There is no account {name} with this password.");
            if !ask("Make a new account with it? [y/N] ")?.eq_ignore_ascii_case("y") {
                bail!("not signed in");
            }
            let again = ask_secret("The password again: ")?;
            if again != password {
                bail!("the two passwords differ");
            }
            client.sign_up(&name, &password, "").await.map_err(told)
        }
        signed_in => signed_in.map_err(told),
    }
}

fn first_line(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// An error with what to do about it.
fn told(error: Error) -> anyhow::Error {
    anyhow::Error::msg(words(&error))
}

/// An error in words for the person.
fn words(error: &Error) -> String {
    match error {
        Error::Refused(refusal) if !refusal.what_to_do.is_empty() => {
            format!("{refusal}. {}", refusal.what_to_do)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "../../client/tests/peer/mod.rs"]
#[allow(dead_code, reason = "the SDK's tests use all of it")]
mod peer;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_and_name_has_a_profile_of_its_own_inside_the_home_folder() {
        let profile = |url: &str, name: Option<&str>| {
            let name = name.map(str::to_owned);
            let options = Options {
                url: url.into(),
                name,
                profile: None,
                password_file: None,
                sign_up: false,
            };
            default_profile(&options).unwrap()
        };
        let ana = profile("http://127.0.0.1:8080/", Some("Ana"));
        assert!(ana.ends_with(".tertulia/127.0.0.1_8080/ana"));
        assert_ne!(ana, profile("http://127.0.0.1:8080", Some("bo")));
        assert_ne!(ana, profile("http://127.0.0.1:8081", Some("ana")));
        assert!(
            profile("http://x", Some("../../etc"))
                .starts_with(std::env::home_dir().unwrap().join(".tertulia/x"))
        );
        assert!(!profile("http://x", Some("..")).ends_with(".."));
    }
}
