//! The fault lab: every fault of the list is injected into the real binary while real clients talk, and what
//! they did and saw is checked. docs/testing.md says what is injected how, and how to add one.

mod bus;
mod clock;
mod cluster;
mod disk;
mod leader;
mod leaver;
mod meter;
mod network;
mod operator;
mod presence;
mod probe;
mod process;
pub mod sabotage;
mod scene;
mod sends;
mod storage;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::checker::{History, Invariant, Outcome, Violation};

/// How long a fault may take in the short form and in the long one, before it counts as failed.
const SHORT_MAX: Duration = Duration::from_secs(120);
const LONG_MAX: Duration = Duration::from_secs(1_800);

/// A row of the list of faults.
#[derive(Clone, Copy)]
pub struct Fault {
    /// Its number in the list.
    pub id: &'static str,
    /// What goes wrong.
    pub what: &'static str,
    /// What must hold meanwhile and afterwards, beside what is always watched.
    pub watches: &'static str,
    inject: fn(Run) -> Injecting,
}

type Injecting = Pin<Box<dyn Future<Output = Result<End>> + Send>>;

/// One run of one fault.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Everything that chance decides comes from it.
    pub seed: u64,
    /// More of everything.
    pub long: bool,
    /// Something that is broken in the server on purpose.
    pub sabotage: Option<&'static str>,
}

impl Run {
    /// How much of something: few in the short form, many in the long one.
    pub fn amount<T>(&self, few: T, many: T) -> T {
        if self.long { many } else { few }
    }
}

/// How a run of a fault ended.
pub enum End {
    /// It was injected, and this came of it.
    Ran(Findings),
    /// It can not be injected here.
    Skipped(String),
}

/// What came of a fault.
#[derive(Debug, Default)]
pub struct Findings {
    /// What was done and seen.
    pub history: History,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// What was done to the server, with figures.
    pub note: String,
}

/// How many of a kind were broken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Acknowledged and not there.
    pub lost: usize,
    /// Stored or shown twice.
    pub duplicated: usize,
    /// In another order.
    pub misordered: usize,
    /// A log or a client that lacks something in the end or shows it otherwise.
    pub holes: usize,
    /// Anything else.
    pub other: usize,
}

impl Counts {
    /// Adds what was found.
    pub fn add(&mut self, violations: &[Violation]) {
        for violation in violations {
            let count = match violation {
                Violation::Lost { .. } | Violation::Forgotten { .. } | Violation::Untrue(_) => {
                    &mut self.lost
                }
                Violation::Duplicated { .. } | Violation::ShownTwice { .. } => &mut self.duplicated,
                Violation::Reordered { .. } | Violation::Misordered { .. } => &mut self.misordered,
                Violation::Hole { .. } | Violation::Missed { .. } | Violation::Differs { .. } => {
                    &mut self.holes
                }
                _ => &mut self.other,
            };
            *count += 1;
        }
    }
}

macro_rules! faults {
    ($($id:literal $what:literal [$watches:literal] $inject:path;)*) => {
        /// All faults that are injected, in the order of the list.
        pub const FAULTS: &[Fault] = &[$(Fault {
            id: $id,
            what: $what,
            watches: $watches,
            inject: |run| Box::pin($inject(run)),
        }),*];
    };
}

faults! {
    "F00" "devices come and go" ["I1 I2 I3 I5"] network::come_and_go;
    "F01" "killed at every step of a send" ["I1 I2 I3 I4"] process::killed;
    "F02" "killed at its first start" ["I1 I8"] storage::first_start_killed;
    "F03" "the power is lost" ["I1 I2 I3 I4"] storage::power_lost;
    "F04" "the disk is full" ["I1 I8"] storage::disk_full;
    "F05" "a sync fails" ["I1 I8"] storage::sync_fails;
    "F06" "the disk is slow" ["I1 I7 I8"] storage::slow_disk;
    "F11" "the bus goes up and down" ["I1 I2 I3 I6"] bus::flaps;
    "F12" "the bus loses everything" ["I1 I2 I3 I6"] bus::loses_everything;
    "F13" "the bus repeats and reorders" ["I2 I3 I6"] bus::repeats_and_reorders;
    "F14" "the bus stalls without a word" ["I1 I5 I6"] bus::stalls;
    "F19" "peers vanish without a word" ["I1 I5 I7"] network::half_open;
    "F20" "readers are slow or read nothing" ["I1 I5 I7"] network::slow_reader;
    "F21" "peers dribble" ["I7 I8"] network::dribble;
    "F22" "everybody drops at once" ["I1 I5 I7"] network::storm;
    "F23" "one chat is hot" ["I1 I3 I7 I8"] network::hot_chat;
    "F24" "the process stands still" ["I1 I5"] process::paused;
    "F25" "the clock jumps" ["I1 I2 I3"] clock::jumps;
    "F26" "a message is sent again" ["I2 I8"] sends::repeated;
    "F27" "a message id comes with other words" ["I4 I8"] sends::changed;
    "F28" "a full outbox after days" ["I1 I3"] sends::after_days;
    "F34" "asked to stop" ["I1 I5 I8"] process::stopped;
    "N01" "a node is killed" ["I1 I2 I3 I5 I6 I10"] cluster::node_killed;
    "N07" "the database is killed" ["I1 I2 I3 I8"] cluster::database_killed;
    "N08" "a standby takes over that is behind" ["I2 I3 I4 I5 I8"] cluster::standby_takes_over;
    "N09" "the database is slow and cut off" ["I1 I2 I3 I8"] cluster::database_slow;
    "N11" "NATS is killed" ["I1 I2 I3 I6 I10"] cluster::bus_killed;
    "N14" "NATS stands still" ["I1 I5 I6 I10"] cluster::bus_stands_still;
    "N15" "Redis is emptied, paused and killed" ["I1 I2 I3 I5 I6 I10"] cluster::ledger_lost;
    "N18" "a node is cut off" ["I1 I2 I3 I5 I6 I10"] cluster::partitions;
    "N24" "a node stands still" ["I1 I2 I3 I5"] cluster::node_stands_still;
    "N26" "a message is sent to two nodes" ["I2 I8"] cluster::repeated;
    "N32" "two versions side by side" ["I1 I2 I3 I4 I5"] cluster::two_versions;
    "N33" "tables change under load" ["I1 I2 I3 I4 I5"] cluster::tables_change;
    "N34" "all nodes are restarted in turn" ["I1 I2 I3 I5"] cluster::rolling_restart;
    "N35" "a service has nodes of its own, and they fail" ["I1 I2 I3 I5"] cluster::service_apart;
    "N44" "who does what is due is lost" ["I1 I2 I3 I5 I9"] leader::lost;
}

/// Promises that this build is known to break under a fault, and what is there in their place. The list may
/// only shrink: an entry that does not show any more fails its fault.
const KNOWN: &[(&str, Invariant, &str)] = &[];

/// What to print of a run, and what to count.
pub struct Report {
    /// Passed, failed, or not run and why.
    pub verdict: Verdict,
    /// How many messages were written.
    pub sends: usize,
    /// The broken promises.
    pub violations: Vec<Violation>,
    /// How many of the known ones were broken.
    pub known: usize,
    /// One line, with everything that a reader needs.
    pub line: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise was kept.
    Passed,
    /// One was not, or the run did not come to its end.
    Failed,
    /// It was not run; that is not a pass.
    Skipped,
}

impl Fault {
    /// The seed of this fault in a run of many, the same whichever others are in the run.
    pub fn seed(self, run: u64) -> u64 {
        // FNV-1a of the number.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        self.id.bytes().fold(run ^ 0xcbf2_9ce4_8422_2325, mix)
    }

    /// Injects it once and judges what came of it.
    pub async fn run(self, run: Run) -> Report {
        let began = Instant::now();
        let most = run.amount(SHORT_MAX, LONG_MAX);
        // A task of its own, so that a panic is a failed fault and not the end of the run.
        let injecting = tokio::spawn(tokio::time::timeout(most, (self.inject)(run)));
        let end = match injecting.await {
            Ok(Ok(end)) => end,
            Ok(Err(_)) => Err(anyhow::anyhow!("it is not done after {} s", most.as_secs())),
            Err(panic) => Err(anyhow::anyhow!("{panic}")),
        };
        let took = began.elapsed().as_secs_f64();
        let head = |verdict: &str| format!("{} {verdict:<7} {took:>5.1} s  {}", self.id, self.what);
        match end {
            Ok(End::Skipped(why)) => Report {
                verdict: Verdict::Skipped,
                sends: 0,
                violations: Vec::new(),
                known: 0,
                line: format!("{}: skipped: {why}", head("NOT RUN")),
            },
            Ok(End::Ran(findings)) => self.judged(findings, run, head),
            Err(error) => Report {
                verdict: Verdict::Failed,
                sends: 0,
                violations: Vec::new(),
                known: 0,
                line: format!("{}: {error:#}", head("FAILED")),
            },
        }
    }
}

impl Fault {
    fn judged(self, findings: Findings, run: Run, head: impl Fn(&str) -> String) -> Report {
        let known = KNOWN
            .iter()
            .find(|(id, ..)| *id == self.id && run.sabotage.is_none());
        let is_known =
            |v: &Violation| known.is_some_and(|(_, invariant, _)| v.invariant() == *invariant);
        let (old, new): (Vec<_>, Vec<_>) = findings.violations.into_iter().partition(is_known);
        let stale = known.is_some() && old.is_empty();
        let (verdict, word) = match new.is_empty() && !stale {
            true => (Verdict::Passed, "passed"),
            false => (Verdict::Failed, "FAILED"),
        };
        let (note, summary) = (findings.note, findings.history.summary());
        let mut line = format!("{}: {note}; {summary} [{}]", head(word), self.watches);
        if let (Some((_, invariant, why)), false) = (known, old.is_empty()) {
            line += &format!("\n      {invariant} known: {}; {why}", old[0]);
        }
        if stale {
            line += "\n      what is known to be broken was not: take it off the list";
        }
        if !new.is_empty() {
            line += &broken(&new);
            line += &match keep(self.id, run.seed, &findings.history) {
                Ok(path) => format!("\n      history: {}", path.display()),
                Err(error) => format!("\n      the history could not be kept: {error}"),
            };
        }
        Report {
            verdict,
            sends: findings.history.sends.len(),
            violations: new,
            known: old.len(),
            line,
        }
    }
}

/// The broken promises, by invariant, with the first of each.
fn broken(violations: &[Violation]) -> String {
    let mut by_invariant: BTreeMap<_, Vec<&Violation>> = BTreeMap::new();
    for violation in violations {
        by_invariant
            .entry(violation.invariant())
            .or_default()
            .push(violation);
    }
    let line = |(invariant, found): (_, Vec<&Violation>)| {
        format!(
            "\n      {invariant}: {} broken, such as {}",
            found.len(),
            found[0]
        )
    };
    by_invariant.into_iter().map(line).collect()
}

/// Writes a history where it can be looked at, one object a line.
fn keep(id: &str, seed: u64, history: &History) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join("tertulia-faults");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{id}-{seed}.jsonl"));
    let mut lines = String::new();
    let mut line = |value: serde_json::Value| lines += &format!("{value}\n");
    for send in &history.sends {
        let outcome = match send.outcome {
            Outcome::Acked(seq) => json!({"ok": seq}),
            Outcome::Refused => json!("fail"),
            Outcome::Unknown => json!("unknown"),
        };
        line(json!({"op": "send", "chat": send.chat, "key": send.key, "outcome": outcome}));
    }
    for done in &history.deeds {
        let deed = format!("{:?}", done.deed);
        let outcome = format!("{:?}", done.outcome);
        line(
            json!({"op": "deed", "chat": done.chat, "actor": done.actor, "deed": deed, "outcome": outcome}),
        );
    }
    for (chat, rows) in &history.logs {
        for row in rows {
            line(json!({"op": "row", "chat": chat, "seq": row.seq, "key": row.key}));
        }
    }
    for ((client, chat), shown) in &history.views {
        let seqs: Vec<i64> = shown.iter().map(|s| s.seq).collect();
        line(json!({"op": "view", "client": client, "chat": chat, "seqs": seqs}));
    }
    std::fs::write(&path, lines)?;
    Ok(path)
}
