//! `tertulia feed`: follows the feed of a deployment, event by event, and goes on where it was. Whoever runs this shows
//! that they hold the node key; where it is, the binary knows. Reading from JetStream in place of a node is done by the
//! binary, which has the words, the lines and the file from here.

pub mod lines;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tertulia_client::error::{Error, Refusal};
use tertulia_client::http::Http;

use crate::api::explain;
use crate::door::Door;
use crate::terminal::now_ms;
use lines::Lines;

const SERVICE: &str = "tertulia.feed.v1.FeedService";
/// How long a node waits for something to give.
const WAIT_MS: u64 = 4_000;
/// How long is waited before a node that does not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    pub what: What,
}

/// One of the commands.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Lists the consumers, and how far each has got.
    Consumers {
        /// Those that read from JetStream, on the servers of bus.url.
        #[arg(long)]
        jetstream: bool,
    },
    /// Prints each event as a line of JSON, and goes on where the consumer was. What was printed is acknowledged; what
    /// was printed and not acknowledged comes again with the same place.
    Follow {
        /// The consumer's name; made when there is none of it.
        #[arg(long)]
        consumer: String,
        /// Where a new consumer begins.
        #[arg(long, value_enum, default_value_t = From::Now)]
        from: From,
        /// Writes the lines into this file, each event once, and goes on with one that is there.
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
        /// Ends when there is nothing more now.
        #[arg(long)]
        once: bool,
        /// Reads the stream of JetStream, on the servers of bus.url, and asks no node. Into a file, goes on behind what is in
        /// it.
        #[arg(long)]
        jetstream: bool,
        /// Goes on behind what is missing, and says so. Without it, this is where it ends.
        #[arg(long, requires = "jetstream")]
        past_gaps: bool,
    },
    /// Forgets a consumer. Its place is gone.
    Forget {
        /// Its name.
        consumer: String,
        /// One that reads from JetStream.
        #[arg(long)]
        jetstream: bool,
    },
}

impl What {
    /// Whether this is about the stream of JetStream, and no node is asked.
    pub fn is_of_jetstream(&self) -> bool {
        match self {
            What::Consumers { jetstream }
            | What::Follow { jetstream, .. }
            | What::Forget { jetstream, .. } => *jetstream,
        }
    }
}

/// Where a new consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// With the oldest event that is kept.
    Beginning,
    /// With what comes from now on.
    Now,
}

impl From {
    fn on_the_wire(self) -> &'static str {
        match self {
            From::Beginning => "BEGIN_BEGINNING",
            From::Now => "BEGIN_NOW",
        }
    }
}

/// Does it by asking a node.
///
/// # Errors
/// When the node does not answer, or what is to be printed can not be written.
pub async fn run(options: Options, door: &Door) -> anyhow::Result<ExitCode> {
    let node = Node {
        door,
        http: door.http()?,
        was_let_in: Cell::new(false),
    };
    let done = match options.what {
        What::Consumers { .. } => node.consumers().await?,
        What::Follow {
            consumer,
            from,
            into,
            once,
            ..
        } => {
            let lines = Lines::open(into.as_deref())?;
            node.follow(&consumer, from, lines, once).await?
        }
        What::Forget { consumer, .. } => {
            let request = json!({"name": consumer});
            let removed = node.ask("RemoveConsumer", &request).await?;
            removed.map(|_| println!("forgot {consumer}"))
        }
    };
    Ok(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            eprint!("{}", explain(&refusal));
            ExitCode::FAILURE
        }
    })
}

/// The node that is asked.
struct Node<'a> {
    door: &'a Door,
    http: Http,
    /// It has believed our token once, so that one that it does not believe is a matter of clocks: a server that was
    /// killed begins with one that is ahead.
    was_let_in: Cell<bool>,
}

type Answer = Result<Value, Refusal>;

impl Node<'_> {
    async fn try_ask(&self, method: &str, request: &Value) -> Result<Answer, Error> {
        let path = format!("{SERVICE}/{method}");
        let answer = self.door.call(&self.http, &path, request).await?;
        let read = |body: &[u8]| serde_json::from_slice(body);
        Ok(match answer {
            Ok(body) => Ok(read(&body).map_err(|why| Error::Protocol(why.to_string()))?),
            Err(refusal) => Err(refusal),
        })
    }

    /// Asks once.
    async fn ask(&self, method: &str, request: &Value) -> anyhow::Result<Answer> {
        let url = &self.door.url;
        let asked = self.try_ask(method, request).await;
        asked.with_context(|| format!("{url} does not answer; --url names another node"))
    }

    /// Asks until there is an answer that asking again would not change. Everything here may be asked again.
    async fn ask_until(&self, method: &str, request: &Value) -> anyhow::Result<Answer> {
        let mut complained = false;
        loop {
            let trouble = match self.try_ask(method, request).await {
                Ok(Err(refusal)) if may_pass(&refusal, self.was_let_in.get()) => {
                    refusal.to_string()
                }
                Ok(answer) => {
                    self.was_let_in.set(self.was_let_in.get() || answer.is_ok());
                    return Ok(answer);
                }
                Err(error @ (Error::Invalid(_) | Error::Protocol(_))) => return Err(error.into()),
                Err(error) => error.to_string(),
            };
            if !complained {
                eprintln!("tertulia: {trouble}; asking again until it goes on");
            }
            complained = true;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn consumers(&self) -> anyhow::Result<Result<(), Refusal>> {
        let answer = self.ask("ListConsumers", &json!({})).await?;
        Ok(answer.map(|answer| print!("{}", lines::table(&answer, now_ms()))))
    }

    async fn follow(
        &self,
        name: &str,
        from: From,
        mut lines: Lines,
        once: bool,
    ) -> anyhow::Result<Result<(), Refusal>> {
        let make = json!({"name": name, "begin": from.on_the_wire()});
        if let Err(refusal) = self.ask_until("MakeConsumer", &make).await? {
            return Ok(Err(refusal));
        }
        let wait_ms = if once { 0 } else { WAIT_MS };
        let fetch = json!({"name": name, "waitMs": wait_ms});
        loop {
            let batch = match self.ask_until("Fetch", &fetch).await? {
                Ok(batch) => batch,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let Some(place) = lines.print(&batch)? else {
                if once {
                    return Ok(Ok(()));
                }
                continue;
            };
            let taken = json!({"consumerId": batch["consumerId"], "place": place});
            if let Err(refusal) = self.ask_until("Acknowledge", &taken).await? {
                return Ok(Err(refusal));
            }
        }
    }
}

/// Whether the same call may succeed later, also when it had not enough time, or something between us and the node
/// answered.
fn may_pass(refusal: &Refusal, was_let_in: bool) -> bool {
    let code = refusal.code.as_str();
    let passing = ["unavailable", "deadline_exceeded"].contains(&code);
    passing || refusal.retry_after.is_some() || (was_let_in && code == "unauthenticated")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn who_follows_says_as_whom() {
        let parsed = |words: &str| Cli::try_parse_from(format!("feed {words}").split(' '));
        for good in [
            "consumers",
            "forget export",
            "follow --consumer export",
            "follow --consumer export --from beginning --once --into out.jsonl",
            "follow --consumer export --jetstream --past-gaps",
            "consumers --jetstream",
            "forget export --jetstream",
        ] {
            assert!(parsed(good).is_ok(), "{good}");
        }
        for bad in [
            "follow",
            "forget",
            "follow --consumer e --from yesterday",
            "follow --consumer e --past-gaps",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
