//! Servers that break a promise on purpose. Each is put through a fault that it does not survive, and must be
//! caught by an invariant; otherwise a green run would mean nothing.

use super::{FAULTS, Fault, Run, Verdict};
use crate::checker::Invariant;

/// A broken server.
#[derive(Debug, Clone, Copy)]
pub struct Sabotage {
    /// As `tertulia serve --sabotage` calls it.
    pub name: &'static str,
    /// The fault that brings it to light.
    pub under: &'static str,
    /// What it must be caught by; a broken bound of time may be the machine's.
    pub breaks: Invariant,
}

/// All that there are.
pub const SABOTAGES: &[Sabotage] = &[
    Sabotage {
        name: "drop-event",
        under: "F00",
        breaks: Invariant::Loss,
    },
    Sabotage {
        name: "skip-catch-up-buffer",
        under: "F22",
        breaks: Invariant::Loss,
    },
    Sabotage {
        name: "forget-idempotency",
        under: "F26",
        breaks: Invariant::Duplicate,
    },
    Sabotage {
        name: "reuse-seq",
        under: "F00",
        breaks: Invariant::Loss,
    },
    Sabotage {
        name: "ack-before-sync",
        under: "F03",
        breaks: Invariant::Loss,
    },
    Sabotage {
        name: "forget-changes",
        under: "F00",
        breaks: Invariant::Loss,
    },
    Sabotage {
        name: "forget-revocations",
        under: "N14",
        breaks: Invariant::Entitlement,
    },
    Sabotage {
        name: "keep-the-gone",
        under: "N14",
        breaks: Invariant::Presence,
    },
];

/// How often a fault is injected before a sabotage counts as unseen: what it breaks depends on chance.
const TRIES: u64 = 3;

/// What became of a sabotage.
pub struct Caught {
    /// Whether what it breaks was seen broken.
    pub caught: bool,
    /// It could not be tried, as its fault can not be injected here.
    pub skipped: bool,
    /// One line.
    pub line: String,
}

impl Sabotage {
    /// Runs the broken server until it is caught.
    pub async fn run(self, run: Run) -> Caught {
        let fault: Fault = *FAULTS
            .iter()
            .find(|fault| fault.id == self.under)
            .expect("its fault is in the list");
        let mut tries = 0;
        let (mut by, mut skipped, mut last) = (Vec::new(), false, String::new());
        while !by.contains(&self.breaks) && !skipped && tries < TRIES {
            let seed = fault.seed(run.seed.wrapping_add(tries));
            let run = Run {
                seed,
                sabotage: Some(self.name),
                ..run
            };
            let report = fault.run(run).await;
            tries += 1;
            skipped = report.verdict == Verdict::Skipped;
            by = report
                .violations
                .iter()
                .map(|violation| violation.invariant())
                .collect();
            by.sort_unstable();
            by.dedup();
            let first = report.violations.first();
            last = first.map_or(report.line, |violation| format!("such as {violation}"));
        }
        let names: Vec<String> = by.iter().map(Invariant::to_string).collect();
        let caught = by.contains(&self.breaks);
        let verdict = match (caught, skipped) {
            (_, true) => "NOT RUN".to_owned(),
            (false, _) => "UNSEEN".to_owned(),
            (true, _) => format!("caught by {}", names.join(" ")),
        };
        let line = format!(
            "sabotage {}: {verdict} under {} after {tries}; {last}",
            self.name, self.under
        );
        Caught {
            caught,
            skipped,
            line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Process, Start, binary};

    #[tokio::test]
    async fn a_server_is_not_sabotaged_without_a_second_word() {
        let folder = tempfile::tempdir().unwrap();
        let args = ["--sabotage".to_owned(), "reuse-seq".to_owned()];
        let start = Start {
            args: &args,
            ..Start::default()
        };
        let refused = Process::start(folder.path(), start).await;
        let words = format!("{:#}", refused.err().unwrap());
        assert!(words.contains("--confirm-sabotage"), "{words}");
    }

    #[test]
    fn nobody_is_shown_how_to_harm_a_server() {
        let help = std::process::Command::new(binary())
            .args(["serve", "--help"])
            .output()
            .unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains("--data"), "{help}");
        for hidden in ["sabotage", "crash-at", "bus-faults"] {
            assert!(!help.contains(hidden), "{hidden}");
        }
    }

    #[test]
    fn faults_and_sabotages_stand_on_the_page() {
        let page = include_str!("../../../docs/testing.md");
        for fault in FAULTS {
            assert!(
                page.contains(&format!("\n| {} |", fault.id)),
                "{}",
                fault.id
            );
        }
        for Sabotage { name, under, .. } in SABOTAGES {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{name}` |")));
            assert!(
                row.is_some_and(|row| row.ends_with(&format!("| {under} |"))),
                "{name}"
            );
        }
    }
}
