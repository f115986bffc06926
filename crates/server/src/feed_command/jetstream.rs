//! The feed, read from its stream on the servers of NATS. No node is asked.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tertulia_cli::feed::lines::Lines;
use tertulia_cli::feed::{From, What};
use tertulia_kit::stream::consumer::Consumer as _;
use tertulia_kit::stream::consumer::nats::{JetStream, Listed, Servers};
use tertulia_kit::stream::reader::{Begin, Break, Healed, Reader, Taken, Trouble};
use tertulia_kit::stream::{Mark, Record};
use tertulia_services::feed::relay::EVENT;

use crate::config::Bus;

/// How long it is waited for records at once.
const WAIT: Duration = Duration::from_secs(4);
/// The same, when it ends as soon as there are none.
const WAIT_ONCE: Duration = Duration::from_millis(200);
/// How long is waited before servers that are away are asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Does it.
///
/// # Errors
/// When NATS is not configured or does not answer, or what was read can not be written.
pub async fn run(what: What, bus: &Bus) -> anyhow::Result<ExitCode> {
    let servers = Servers::connect(bus.reading()?).await?;
    match what {
        What::Consumers { .. } => print!("{}", table(&servers.consumers().await?)),
        What::Forget { consumer, .. } => {
            if !servers.consumer(&consumer)?.remove().await? {
                bail!(
                    "there is no consumer {consumer}; `tertulia feed consumers --jetstream` lists them"
                );
            }
            println!("forgot {consumer}");
        }
        What::Follow {
            consumer,
            from,
            into,
            once,
            past_gaps,
            ..
        } => {
            let lines = Lines::open(into.as_deref())?;
            let consumer = servers.consumer(&consumer)?;
            let mut follower = Follower::new(consumer, from, lines);
            follower.follow(once, past_gaps).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads, and writes lines.
struct Follower {
    reader: Reader<JetStream>,
    lines: Lines,
}

impl Follower {
    /// A file knows better than the consumer what it has.
    fn new(consumer: JetStream, from: From, lines: Lines) -> Follower {
        let begin = match (lines.last(), from) {
            (Some((epoch, place)), _) => Begin::Behind(Mark { epoch, place }),
            (None, From::Beginning) => Begin::Beginning,
            (None, From::Now) => Begin::Now,
        };
        let reader = Reader::new(consumer, begin);
        Follower { reader, lines }
    }

    async fn follow(&mut self, once: bool, past_gaps: bool) -> anyhow::Result<()> {
        let wait = if once { WAIT_ONCE } else { WAIT };
        let mut complained = false;
        loop {
            match self.step(wait, past_gaps).await? {
                Ok(is_all) if is_all && once => return Ok(()),
                Ok(_) => {}
                Err(Trouble::Shared) => bail!(
                    "somebody else follows as the same consumer, or the file is older than it. A consumer is for one \
                     at a time: take another name; or, when nobody does, forget it with `tertulia feed forget \
                     --jetstream` and follow again"
                ),
                Err(Trouble::Away(why)) => {
                    if !complained {
                        eprintln!("tertulia: {why}; asking again until it goes on");
                    }
                    complained = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Takes once; says whether that was all.
    async fn step(
        &mut self,
        wait: Duration,
        past_gaps: bool,
    ) -> anyhow::Result<Result<bool, Trouble>> {
        let taken = match self.reader.take(wait).await {
            Ok(taken) => taken,
            Err(trouble) => return Ok(Err(trouble)),
        };
        match taken {
            Taken::Records(records) if records.is_empty() => {
                return Ok(self.reader.has_all().await);
            }
            Taken::Records(records) => {
                self.print(&records)?;
                return Ok(self.reader.acknowledge().await.map(|()| false));
            }
            Taken::Healed(healed) => eprintln!("tertulia: {}", healed_words(healed)),
            Taken::Broken(broken) if past_gaps => {
                eprintln!("tertulia: {}; going on behind it", break_words(broken));
                self.reader.go_on();
            }
            Taken::Broken(broken) => bail!(
                "{}. Nothing was skipped. Decide what to do about it; with --past-gaps it goes on behind that",
                break_words(broken)
            ),
        }
        Ok(Ok(false))
    }

    /// They are of one history.
    fn print(&mut self, records: &[Record]) -> anyhow::Result<()> {
        let events = records.iter().filter(|record| record.kind == EVENT);
        let entries = events.map(|record| serde_json::from_slice(&record.body));
        let entries = entries.collect::<Result<Vec<Value>, _>>();
        let entries = entries.context("the stream has an event that can not be read")?;
        let epoch = records.first().map(|record| record.mark.epoch.to_string());
        self.lines
            .print(&json!({"epoch": epoch, "entries": entries}))?;
        Ok(())
    }
}

fn healed_words(healed: Healed) -> &'static str {
    match healed {
        Healed::Consumer => "somebody had removed the consumer; it is made again where it was",
        Healed::Stream => {
            "the stream was lost or removed and is another one; what comes again is dropped"
        }
        Healed::Emptied => {
            "the stream was emptied and is filled again; what comes again is dropped"
        }
    }
}

fn break_words(broken: Break) -> String {
    let (why, next) = match broken {
        Break::Gap(next) => (
            "something was not kept by the nodes any more, or never was,",
            next,
        ),
        Break::Dropped(next) => ("the stream has dropped something that was not taken", next),
        Break::Restarted(next) => {
            let epoch = next.epoch;
            return format!(
                "history is another one, of epoch {epoch}: what was read so far may not be true any more"
            );
        }
        Break::Unknown(next) => (
            "what was taken last is not in the stream any more, so that something may be missing",
            next,
        ),
    };
    format!("{why} before place {}", next.place)
}

/// The consumers, for people.
fn table(consumers: &[Listed]) -> String {
    let mut text = String::new();
    for one in consumers {
        let state = match one.waiting {
            0 => "has everything".to_owned(),
            waiting => format!("behind by {waiting}"),
        };
        // Writing into a string never fails.
        _ = writeln!(text, "{}  at record {}, {state}", one.name, one.floor);
    }
    match consumers.len() {
        1 => text += "1 consumer of the stream\n",
        count => _ = writeln!(text, "{count} consumers of the stream"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_who_is_behind() {
        let one = |name: &str, floor, waiting| Listed {
            name: name.into(),
            floor,
            waiting,
        };
        assert_eq!(
            table(&[one("export", 120, 0), one("search", 7, 113)]),
            "export  at record 120, has everything\n\
             search  at record 7, behind by 113\n\
             2 consumers of the stream\n"
        );
        assert_eq!(table(&[]), "0 consumers of the stream\n");
    }

    #[test]
    fn each_break_is_told_apart() {
        let next = Mark { epoch: 3, place: 9 };
        let breaks = [
            Break::Gap(next),
            Break::Dropped(next),
            Break::Restarted(next),
            Break::Unknown(next),
        ];
        let words: std::collections::BTreeSet<String> = breaks.map(break_words).into();
        assert_eq!(words.len(), breaks.len());
    }
}
