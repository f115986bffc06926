//! `make faults`: injects every fault of the list into the real server, and every sabotage as well, prints a
//! line for each and a sum, and fails when a promise was broken or a sabotage went unseen.

#![allow(
    clippy::disallowed_methods,
    reason = "a program for tests, without the kit"
)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::StreamExt as _;
use rand::RngCore as _;
use tertulia_tests::faults::sabotage::{SABOTAGES, Sabotage};
use tertulia_tests::faults::{Counts, FAULTS, Fault, Run, Verdict};
use tertulia_tests::node;

#[derive(Parser)]
#[command(
    about = "Injects faults into a real server while real clients talk, and checks what came of it."
)]
struct Options {
    /// What chance decides; printed when it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these, such as F22 or reuse-seq; may be repeated.
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// More of everything, round after round, for so many minutes.
    #[arg(long, value_name = "MINUTES")]
    long: Option<u64>,
    /// How many faults are injected at once, each into a server of its own.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
}

#[derive(Default)]
struct Sum {
    passed: usize,
    failed: usize,
    skipped: usize,
    sends: usize,
    counts: Counts,
    known: usize,
    caught: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("seed {seed}: `--seed {seed}` injects the same again");
    let wanted = |id: &str| {
        options.only.is_empty() || options.only.iter().any(|o| o.eq_ignore_ascii_case(id))
    };
    // Built before the first clock runs; that of now last, because it has the name of both.
    if wanted("N32") || wanted("N33") {
        // The fault says it when there is none.
        _ = node::older();
    }
    node::binary();
    let chosen: Vec<Fault> = FAULTS
        .iter()
        .copied()
        .filter(|fault| wanted(fault.id))
        .collect();
    if chosen.is_empty() && !SABOTAGES.iter().any(|sabotage| wanted(sabotage.name)) {
        eprintln!(
            "no fault and no sabotage has one of these names: {}",
            options.only.join(", ")
        );
        return ExitCode::FAILURE;
    }
    let until = options
        .long
        .map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let mut sum = Sum::default();
    for nth in 0.. {
        let (long, seed) = (until.is_some(), seed.wrapping_add(nth));
        injected(&chosen, seed, long, options.jobs.into(), &mut sum).await;
        if until.is_none_or(|until| Instant::now() >= until) {
            break;
        }
    }
    let broken: Vec<Sabotage> = SABOTAGES
        .iter()
        .copied()
        .filter(|s| wanted(s.name))
        .collect();
    sabotaged(&broken, seed, options.jobs.into(), &mut sum).await;
    let Sum {
        passed,
        failed,
        skipped,
        sends,
        counts,
        known,
        caught,
    } = sum;
    println!("{passed} passed, {failed} failed");
    println!(
        "{} runs, {} faults, {sends} sends, lost {}, duplicated {}, misordered {}, unhealed holes {}, \
         other violations {}, known deviations {known}, sabotages caught {caught} of {}, not run {skipped}",
        passed + failed,
        chosen.len(),
        counts.lost,
        counts.duplicated,
        counts.misordered,
        counts.holes,
        counts.other,
        broken.len()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Injects each fault once, some at a time.
async fn injected(chosen: &[Fault], seed: u64, long: bool, jobs: usize, sum: &mut Sum) {
    let runs = chosen.iter().map(|fault| {
        let run = Run {
            seed: fault.seed(seed),
            long,
            sabotage: None,
        };
        let fault = *fault;
        async move { fault.run(run).await }
    });
    let mut reports = futures::stream::iter(runs).buffer_unordered(jobs);
    while let Some(report) = reports.next().await {
        println!("{}", report.line);
        match report.verdict {
            Verdict::Passed => sum.passed += 1,
            Verdict::Failed => sum.failed += 1,
            Verdict::Skipped => sum.skipped += 1,
        }
        sum.sends += report.sends;
        sum.known += report.known;
        sum.counts.add(&report.violations);
    }
}

/// Runs each broken server, some at a time; one that is not caught is a failure.
async fn sabotaged(broken: &[Sabotage], seed: u64, jobs: usize, sum: &mut Sum) {
    let runs = broken.iter().map(|sabotage| {
        let run = Run {
            seed,
            long: false,
            sabotage: None,
        };
        let sabotage = *sabotage;
        async move { sabotage.run(run).await }
    });
    let mut ended = futures::stream::iter(runs).buffer_unordered(jobs);
    while let Some(caught) = ended.next().await {
        println!("{}", caught.line);
        match (caught.skipped, caught.caught) {
            (true, _) => sum.skipped += 1,
            (false, false) => sum.failed += 1,
            (false, true) => {
                sum.passed += 1;
                sum.caught += 1;
            }
        }
    }
}
