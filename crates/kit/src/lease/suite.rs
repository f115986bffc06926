//! What every keeper of leases does as long as it is there. An adapter passes [`run`] with one that has kept none yet.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{Lease, Leases, Token};

type SharedLeases = Arc<dyn Leases>;

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);
/// So short that it is over soon.
const SHORT: Duration = Duration::from_millis(20);

/// Runs all claims on one keeper, each with names of its own.
///
/// # Panics
/// When a claim does not hold.
pub async fn run(leases: SharedLeases) {
    who_holds_a_name_holds_it_alone(&leases).await;
    a_name_does_not_hinder_another(&leases).await;
    of_many_who_ask_at_once_one_gets_it(&leases).await;
    what_is_released_is_free_at_once(&leases).await;
    what_is_not_renewed_passes_on(&leases).await;
    what_is_renewed_stays(&leases).await;
    who_was_late_holds_it_again_when_nobody_took_it(&leases).await;
    who_was_overtaken_can_neither_renew_nor_release(&leases).await;
    every_holder_has_a_greater_token(&leases).await;
}

async fn acquire(leases: &SharedLeases, name: &str, lasts: Duration) -> Option<Lease> {
    leases.acquire(name, lasts).await.expect("it is there")
}

async fn renew(leases: &SharedLeases, lease: &Lease, lasts: Duration) -> bool {
    leases.renew(lease, lasts).await.expect("it is there")
}

async fn release(leases: &SharedLeases, lease: Lease) {
    leases.release(lease).await.expect("it is there");
}

/// Asks until it gets it, however long that takes.
async fn wait_for(leases: &SharedLeases, name: &str, lasts: Duration) -> Lease {
    loop {
        if let Some(lease) = acquire(leases, name, lasts).await {
            return lease;
        }
        tokio::task::yield_now().await;
    }
}

async fn who_holds_a_name_holds_it_alone(leases: &SharedLeases) {
    let lease = acquire(leases, "alone", LONG).await.expect("it is free");
    assert_eq!(lease.name, "alone");
    assert_eq!(acquire(leases, "alone", LONG).await, None);
    assert_eq!(acquire(leases, "alone", SHORT).await, None);
}

async fn a_name_does_not_hinder_another(leases: &SharedLeases) {
    assert!(acquire(leases, "one", LONG).await.is_some());
    assert!(acquire(leases, "one.more", LONG).await.is_some());
}

async fn of_many_who_ask_at_once_one_gets_it(leases: &SharedLeases) {
    for round in 0..5 {
        let name = format!("many.{round}");
        let asking = (0..8).map(|_| acquire(leases, &name, LONG));
        let got = join_all(asking).await;
        assert_eq!(got.into_iter().flatten().count(), 1);
    }
}

async fn what_is_released_is_free_at_once(leases: &SharedLeases) {
    let first = wait_for(leases, "released", LONG).await;
    release(leases, first).await;
    assert!(acquire(leases, "released", LONG).await.is_some());
}

async fn what_is_not_renewed_passes_on(leases: &SharedLeases) {
    let first = wait_for(leases, "left", SHORT).await;
    let second = wait_for(leases, "left", LONG).await;
    assert!(second.token > first.token);
    assert_eq!(acquire(leases, "left", LONG).await, None);
}

async fn what_is_renewed_stays(leases: &SharedLeases) {
    let held = wait_for(leases, "renewed", LONG).await;
    assert!(renew(leases, &held, LONG).await);
    assert!(renew(leases, &held, LONG).await);
    assert_eq!(acquire(leases, "renewed", LONG).await, None);
    // It may be renewed for less than it had.
    assert!(renew(leases, &held, SHORT).await);
    assert!(wait_for(leases, "renewed", LONG).await.token > held.token);
}

async fn who_was_late_holds_it_again_when_nobody_took_it(leases: &SharedLeases) {
    let held = wait_for(leases, "late", Duration::ZERO).await;
    assert!(renew(leases, &held, LONG).await);
    assert_eq!(acquire(leases, "late", LONG).await, None);
}

async fn who_was_overtaken_can_neither_renew_nor_release(leases: &SharedLeases) {
    let first = wait_for(leases, "overtaken", SHORT).await;
    let second = wait_for(leases, "overtaken", LONG).await;
    assert!(!renew(leases, &first, LONG).await);
    release(leases, first.clone()).await;
    assert_eq!(acquire(leases, "overtaken", LONG).await, None);
    assert!(renew(leases, &second, LONG).await);
    release(leases, second).await;
    assert!(!renew(leases, &first, LONG).await, "it is over for good");
}

async fn every_holder_has_a_greater_token(leases: &SharedLeases) {
    let mut last = Token(0);
    for turn in 0..20 {
        let lasts = if turn % 2 == 0 { SHORT } else { LONG };
        let lease = wait_for(leases, "greater", lasts).await;
        assert!(lease.token > last, "{} after {last}", lease.token);
        last = lease.token;
        if turn % 2 == 1 {
            release(leases, lease).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_promises_of_a_keeper_of_leases() {
        run(Arc::new(super::super::Memory::default())).await;
    }
}
