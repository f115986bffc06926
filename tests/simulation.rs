//! Many seeds of the simulation hold every promise; the same seed does the same; and what is broken on purpose
//! is noticed, so that all of this means something.
//!
//! `make simulate SEEDS=100000` goes on for longer; docs/testing-simulation.md says how to read a failure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use tertulia_tests::simulation::{How, Promise, Sabotage, TAIL_MAX, Verdict, run};

/// How many of the last lines of a failed run are told.
const LINES_TOLD: usize = 60;
/// Within how many seeds each sabotage must be noticed.
const SEEDS_TO_NOTICE: u64 = 150;

/// Runs seeds until one fails.
fn hold(seeds: Range<u64>) -> Vec<Verdict> {
    seeds.map(|seed| held(run(seed, How::default()))).collect()
}

fn held(verdict: Verdict) -> Verdict {
    assert!(verdict.broken.is_empty(), "{}", told(&verdict));
    assert!(verdict.tally.sends > 0, "seed {} did nothing", verdict.seed);
    verdict
}

fn told(verdict: &Verdict) -> String {
    let seed = verdict.seed;
    let mut words = format!("seed {seed} broke promises; its last lines:\n");
    let skipped = verdict.last.len().saturating_sub(LINES_TOLD);
    for line in verdict.last.iter().skip(skipped) {
        _ = writeln!(words, "{line}");
    }
    for broken in &verdict.broken {
        _ = writeln!(words, "{broken}");
    }
    let again = "cargo run -p tertulia-tests --bin simulate --";
    _ = write!(words, "again: {again} --seed {seed} --trace");
    words
}

/// A thousand seeds hold every promise, in parts that can run beside each other.
mod a_thousand_seeds_hold {
    macro_rules! parts {
        ($($part:ident = $seeds:expr;)*) => {
            $(#[test] fn $part() { super::hold($seeds); })*
        };
    }

    parts! {
        part_1 = 0..125;
        part_2 = 125..250;
        part_3 = 250..375;
        part_4 = 375..500;
        part_5 = 500..625;
        part_6 = 625..750;
        part_7 = 750..875;
        part_8 = 875..1_000;
    }
}

#[test]
fn seeds_that_nobody_has_run_before_hold_every_promise() {
    let from = u64::from(rand::random::<u32>()) << 8;
    println!("seeds from {from}");
    hold(from..from + 50);
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 2_000..2_050 {
        let (once, again) = (run(seed, How::default()), run(seed, How::default()));
        let words = "what differs is printed by `simulate --seed N --trace`, run twice";
        assert_eq!(once.hash, again.hash, "seed {seed}: {words}");
        assert_eq!(once.passed, again.passed, "seed {seed}: {words}");
        assert_eq!(once.tally, again.tally, "seed {seed}: {words}");
    }
}

#[test]
fn two_seeds_do_not_do_the_same() {
    let hashes: Vec<u64> = (0..4).map(|seed| run(seed, How::default()).hash).collect();
    assert!(
        (1..4).all(|at| !hashes[..at].contains(&hashes[at])),
        "{hashes:?}"
    );
}

#[test]
fn what_a_simulation_is_there_for_comes_about() {
    let mut reached: BTreeMap<&str, u64> = BTreeMap::new();
    for verdict in hold(3_000..3_150) {
        for (what, times) in verdict.reached {
            *reached.entry(what).or_default() += times;
        }
        assert!(verdict.tail_in <= TAIL_MAX);
    }
    let wanted = [
        "a backup is restored",
        "a client dies",
        "a device is cut off",
        "a device loses power",
        "a device's clock jumps",
        "a disk loses what was not synced",
        "a node dies",
        "a node drains",
        "a server's clock jumps",
        "adds somebody",
        "behind",
        "changed",
        "deletes",
        "delta",
        "draining",
        "edits",
        "has read",
        "idle",
        "internal",
        "leaves",
        "makes a group",
        "pins",
        "reacts",
        "removes somebody",
        "reset for a first hello",
        "reset for another epoch",
        "the server dies",
        "token_expired",
    ];
    let missing: Vec<_> = wanted
        .iter()
        .filter(|what| !reached.contains_key(*what))
        .collect();
    assert!(missing.is_empty(), "{missing:?} is not in {reached:#?}");
}

/// Runs seeds with a sabotage until the promise that it breaks is seen to be broken.
fn noticed(sabotage: Sabotage, promises: &[Promise]) {
    let how = How {
        sabotage: Some(sabotage),
        ..How::default()
    };
    let seen = (0..SEEDS_TO_NOTICE).find(|seed| {
        let broken = run(*seed, how).broken;
        broken.iter().any(|b| promises.contains(&b.promise))
    });
    let seed = seen.unwrap_or_else(|| panic!("{sabotage} broke no promise of {promises:?}"));
    println!("{sabotage} is noticed by seed {seed}");
}

#[test]
fn a_missed_event_that_is_not_told_is_noticed() {
    noticed(Sabotage::DropsAMissedEvent, &[Promise::Convergence]);
}

#[test]
fn a_session_that_does_not_buffer_while_it_attaches_is_noticed() {
    noticed(Sabotage::DoesNotBuffer, &[Promise::Prompt]);
}

#[test]
fn a_store_that_forgets_idempotency_is_noticed() {
    noticed(Sabotage::ForgetsIdempotency, &[Promise::NoDuplicate]);
}

#[test]
fn a_seq_that_is_given_twice_is_noticed() {
    noticed(Sabotage::ReusesASeq, &[Promise::NoLoss]);
}

#[test]
fn an_acknowledgement_before_the_commit_is_noticed() {
    noticed(Sabotage::AcksBeforeCommit, &[Promise::NoLoss]);
}

#[test]
fn a_head_that_is_not_told_is_noticed() {
    noticed(Sabotage::HidesAHead, &[Promise::Convergence, Promise::Tail]);
}

#[test]
fn a_removed_member_who_hears_on_is_noticed() {
    noticed(Sabotage::TellsTheRemoved, &[Promise::Entitlement]);
}

#[test]
fn a_missed_message_without_its_reactions_is_noticed() {
    noticed(Sabotage::ForgetsReactions, &[Promise::Convergence]);
}
