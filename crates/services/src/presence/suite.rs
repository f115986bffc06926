//! The proof that a registry of [`Presences`] keeps the word of its port. An adapter says
//! `presences_suite!(fresh)`, where `fresh` gives what must be kept alive, an empty registry whose leases last
//! [`LEASE`], and what lets time pass; each claim becomes a test.

#![allow(
    clippy::unwrap_used,
    reason = "this is a test, only compiled where an adapter asks for it"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::model::{Holding, Known, Run, State};
use super::ports::Presences;
use crate::ids::UserId;

/// How long a lease lasts in the suite: long enough that nothing is over by itself while a slow machine works.
pub const LEASE: Duration = Duration::from_secs(60);
/// The runs that there are in the suite. The second is greater than what a number of a script holds exactly.
pub const RUNS: [Run; 2] = [ONE, TWO];

/// Lets time pass for a registry.
#[async_trait]
pub trait Time: Send + Sync {
    /// So much of it.
    async fn pass(&self, time: Duration);
}

/// Makes a test of every claim of the suite.
#[macro_export]
macro_rules! presences_suite {
    ($fresh:expr) => {
        $crate::presences_suite!(@ $fresh;
            who_was_never_held_is_not_known
            what_living_runs_hold_is_told
            the_newest_word_of_a_run_counts
            who_has_gone_was_seen
            who_hides_was_never_seen
            a_run_that_is_not_renewed_takes_its_users_with_it
            a_run_that_was_too_late_does_not_come_back
            a_run_that_is_renewed_keeps_its_users
            a_run_can_be_ended
            who_asks_is_told_which_runs_are_alive
            what_is_held_by_a_run_that_never_began_does_not_count
            many_users_are_held_and_told_in_their_order
        );
    };
    (@ $fresh:expr; $($claim:ident)*) => {
        $(
            #[tokio::test]
            async fn $claim() {
                let (_keep, registry, time) = $fresh;
                $crate::presence::suite::$claim(registry, &time).await;
            }
        )*
    };
}

const ONE: Run = Run(1);
const TWO: Run = Run(i64::MAX);
const ANA: UserId = UserId(7);

async fn known(registry: &dyn Presences, user: UserId) -> Known {
    registry.of(&[user]).await.unwrap().users.remove(0)
}

async fn state(registry: &dyn Presences, user: UserId) -> State {
    State::of(&known(registry, user).await)
}

async fn hold(registry: &dyn Presences, run: Run, holding: Holding) {
    registry.hold(run, &[(ANA, holding)]).await.unwrap();
}

pub async fn who_was_never_held_is_not_known(registry: Arc<dyn Presences>, _: &impl Time) {
    let nobody = Known {
        user: ANA,
        held: Vec::new(),
        seen_at_ms: None,
    };
    assert_eq!(known(&*registry, ANA).await, nobody);
    assert!(registry.of(&[]).await.unwrap().users.is_empty());
}

pub async fn what_living_runs_hold_is_told(registry: Arc<dyn Presences>, _: &impl Time) {
    registry.begin(ONE).await.unwrap();
    registry.begin(TWO).await.unwrap();
    hold(&*registry, ONE, Holding::Idle).await;
    assert_eq!(state(&*registry, ANA).await, State::Away);
    hold(&*registry, TWO, Holding::Active).await;
    let mut there = known(&*registry, ANA).await;
    there.held.sort_by_key(|(run, _)| *run);
    assert_eq!(there.held, [(ONE, Holding::Idle), (TWO, Holding::Active)]);
    assert_eq!(State::of(&there), State::Online);
}

pub async fn the_newest_word_of_a_run_counts(registry: Arc<dyn Presences>, _: &impl Time) {
    registry.begin(ONE).await.unwrap();
    for (holding, is) in [
        (Holding::Active, State::Online),
        (Holding::Idle, State::Away),
        (Holding::Idle, State::Away),
        (Holding::Active, State::Online),
    ] {
        hold(&*registry, ONE, holding).await;
        assert_eq!(state(&*registry, ANA).await, is);
    }
}

pub async fn who_has_gone_was_seen(registry: Arc<dyn Presences>, _: &impl Time) {
    registry.begin(ONE).await.unwrap();
    hold(&*registry, ONE, Holding::Active).await;
    hold(&*registry, ONE, Holding::Gone).await;
    let State::Offline { seen_at_ms } = state(&*registry, ANA).await else {
        panic!("still there")
    };
    assert_eq!(seen_at_ms.unwrap() % 60_000, 0, "to the minute");
    hold(&*registry, ONE, Holding::Active).await;
    assert_eq!(state(&*registry, ANA).await, State::Online);
}

pub async fn who_hides_was_never_seen(registry: Arc<dyn Presences>, _: &impl Time) {
    registry.begin(ONE).await.unwrap();
    hold(&*registry, ONE, Holding::Active).await;
    hold(&*registry, ONE, Holding::Gone).await;
    hold(&*registry, ONE, Holding::Active).await;
    registry.begin(TWO).await.unwrap();
    hold(&*registry, TWO, Holding::Active).await;
    hold(&*registry, ONE, Holding::Hidden).await;
    let gone = known(&*registry, ANA).await;
    assert_eq!((gone.held.len(), gone.seen_at_ms), (0, None));
}

pub async fn a_run_that_is_not_renewed_takes_its_users_with_it(
    registry: Arc<dyn Presences>,
    time: &impl Time,
) {
    registry.begin(ONE).await.unwrap();
    hold(&*registry, ONE, Holding::Active).await;
    time.pass(LEASE + LEASE / 10).await;
    let gone = known(&*registry, ANA).await;
    assert!(gone.held.is_empty());
    assert!(gone.seen_at_ms.is_some(), "it held them until then");
    assert!(!registry.renew(ONE).await.unwrap());
}

pub async fn a_run_that_was_too_late_does_not_come_back(
    registry: Arc<dyn Presences>,
    time: &impl Time,
) {
    registry.begin(ONE).await.unwrap();
    hold(&*registry, ONE, Holding::Active).await;
    time.pass(LEASE + LEASE / 10).await;
    assert!(!registry.renew(ONE).await.unwrap());
    assert!(known(&*registry, ANA).await.held.is_empty());
    registry.begin(TWO).await.unwrap();
    hold(&*registry, TWO, Holding::Active).await;
    assert_eq!(known(&*registry, ANA).await.held, [(TWO, Holding::Active)]);
}

pub async fn a_run_that_is_renewed_keeps_its_users(registry: Arc<dyn Presences>, time: &impl Time) {
    registry.begin(ONE).await.unwrap();
    hold(&*registry, ONE, Holding::Active).await;
    for _ in 0..3 {
        time.pass(LEASE / 2).await;
        assert!(registry.renew(ONE).await.unwrap());
    }
    assert_eq!(state(&*registry, ANA).await, State::Online);
}

pub async fn a_run_can_be_ended(registry: Arc<dyn Presences>, _: &impl Time) {
    registry.begin(ONE).await.unwrap();
    registry.begin(TWO).await.unwrap();
    hold(&*registry, ONE, Holding::Active).await;
    hold(&*registry, TWO, Holding::Idle).await;
    registry.end(ONE).await.unwrap();
    registry.end(Run(3)).await.unwrap();
    assert_eq!(state(&*registry, ANA).await, State::Away);
    assert!(!registry.renew(ONE).await.unwrap());
    assert!(registry.renew(TWO).await.unwrap());
}

pub async fn who_asks_is_told_which_runs_are_alive(registry: Arc<dyn Presences>, time: &impl Time) {
    let living = async || {
        let mut living = registry.of(&[ANA]).await.unwrap().living;
        living.sort();
        living
    };
    assert_eq!(living().await, []);
    registry.begin(ONE).await.unwrap();
    registry.begin(TWO).await.unwrap();
    hold(&*registry, ONE, Holding::Active).await;
    assert_eq!(living().await, [ONE, TWO], "also who holds nobody");
    registry.end(ONE).await.unwrap();
    assert_eq!(living().await, [TWO]);
    time.pass(LEASE * 2).await;
    assert_eq!(living().await, []);
}

pub async fn what_is_held_by_a_run_that_never_began_does_not_count(
    registry: Arc<dyn Presences>,
    _: &impl Time,
) {
    hold(&*registry, ONE, Holding::Active).await;
    assert!(known(&*registry, ANA).await.held.is_empty());
    assert!(!registry.renew(ONE).await.unwrap());
}

pub async fn many_users_are_held_and_told_in_their_order(
    registry: Arc<dyn Presences>,
    _: &impl Time,
) {
    registry.begin(ONE).await.unwrap();
    let everybody: Vec<UserId> = (1..=300).map(UserId).collect();
    let holding = |user: &UserId| match user.0 % 2 {
        0 => Holding::Active,
        _ => Holding::Idle,
    };
    let holdings: Vec<_> = everybody.iter().map(|u| (*u, holding(u))).collect();
    registry.hold(ONE, &holdings).await.unwrap();
    let told = registry.of(&everybody).await.unwrap().users;
    for (user, known) in everybody.iter().zip(&told) {
        assert_eq!(known.user, *user);
        assert_eq!(known.held, [(ONE, holding(user))]);
    }
    assert_eq!(told.len(), everybody.len());
}
