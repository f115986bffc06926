//! Runs seeds of the simulation, and prints what a failed one did.

#![allow(clippy::disallowed_methods, reason = "this is a tool for tests")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tertulia_tests::simulation::{How, Sabotage, Tally, Verdict, run};

const USAGE: &str = "\
simulate --seed N [--trace] [--sabotage NAME]
simulate --seeds A..B [--sabotage NAME]

Runs one seed, or those from A up to and without B. A failed one prints its broken promises and its last
lines; --trace prints every line. The sabotages are drops-a-missed-event, does-not-buffer,
forgets-idempotency, reuses-a-seq, acks-before-commit, hides-a-head, forgets-reactions and
tells-the-removed.";

/// How many lines of a failed run are printed.
const LINES_PRINTED: usize = 80;
/// How many failed runs are printed before it is enough.
const FAILURES_PRINTED: usize = 10;

struct Asked {
    seeds: std::ops::Range<u64>,
    how: How,
}

fn asked() -> Option<Asked> {
    let (mut seeds, mut how) = (None, How::default());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => {
                let seed: u64 = args.next()?.parse().ok()?;
                seeds = Some(seed..seed + 1);
            }
            "--seeds" => {
                let range = args.next()?;
                let (from, to) = range.split_once("..")?;
                seeds = Some(from.parse().ok()?..to.parse().ok()?);
            }
            "--trace" => how.trace = true,
            "--sabotage" => how.sabotage = Some(Sabotage::by_name(&args.next()?)?),
            _ => return None,
        }
    }
    seeds.map(|seeds| Asked { seeds, how })
}

fn main() -> ExitCode {
    let Some(Asked { seeds, how }) = asked() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let count = seeds.end.saturating_sub(seeds.start);
    let mut all = Sum::default();
    for seed in seeds {
        all.add(&run(seed, how), how);
    }
    all.print(count, began.elapsed());
    if all.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Default)]
struct Sum {
    tally: Tally,
    passed: Duration,
    healed_in: Duration,
    tail_in: Duration,
    reached: BTreeMap<&'static str, u64>,
    failed: usize,
    violations: usize,
}

impl Sum {
    fn add(&mut self, verdict: &Verdict, how: How) {
        self.tally += verdict.tally;
        self.passed += verdict.passed;
        self.healed_in = self.healed_in.max(verdict.healed_in);
        self.tail_in = self.tail_in.max(verdict.tail_in);
        for (what, times) in &verdict.reached {
            *self.reached.entry(what).or_default() += times;
        }
        self.violations += verdict.broken.len();
        if verdict.broken.is_empty() {
            return;
        }
        self.failed += 1;
        if self.failed <= FAILURES_PRINTED {
            print_failure(verdict, how);
        }
    }

    fn print(&self, seeds: u64, took: Duration) {
        println!(
            "{seeds} seeds in {:.1} s: {:.1} simulated hours, {} operations, {} sends, {} shown, {} faults injected",
            took.as_secs_f64(),
            self.passed.as_secs_f64() / 3_600.0,
            self.tally.operations,
            self.tally.sends,
            self.tally.shown,
            self.tally.faults,
        );
        println!(
            "healed in at most {:.1} s, a lost tail shown in at most {:.1} s",
            self.healed_in.as_secs_f64(),
            self.tail_in.as_secs_f64(),
        );
        for (what, times) in &self.reached {
            println!("{times:>9} times {what}");
        }
        println!("violations {} in {} seeds", self.violations, self.failed);
    }
}

fn print_failure(verdict: &Verdict, how: How) {
    let seed = verdict.seed;
    if !how.trace {
        println!("--- seed {seed}, its last {LINES_PRINTED} lines:");
        let skipped = verdict.last.len().saturating_sub(LINES_PRINTED);
        verdict
            .last
            .iter()
            .skip(skipped)
            .for_each(|line| println!("{line}"));
    }
    println!("--- seed {seed} broke:");
    verdict
        .broken
        .iter()
        .for_each(|broken| println!("{broken}"));
    let sabotage = how
        .sabotage
        .map_or_else(String::new, |s| format!(" --sabotage {s}"));
    println!(
        "--- again: cargo run -p tertulia-tests --bin simulate -- --seed {seed} --trace{sabotage}"
    );
}
