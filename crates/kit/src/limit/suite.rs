//! What every ledger of budgets does as long as it is there. An adapter passes [`run`] with an empty one for each claim.

use std::sync::Arc;
use std::time::Duration;

use super::{Charge, Ledger, Level, Rate};

type SharedLedger = Arc<dyn Ledger>;

/// So slow that it does not fill while a test runs, also on a machine that is busy with something else.
fn slow() -> Rate {
    Rate::over(Duration::from_secs(3_600), 10, 10)
}

/// Runs all claims.
///
/// # Panics
/// When a claim does not hold.
pub async fn run<F: Future<Output = SharedLedger>>(make: impl Fn() -> F) {
    a_bucket_gives_its_burst_and_then_says_when(make().await).await;
    a_refusal_takes_nothing(make().await).await;
    what_was_spent_already_is_owed(make().await).await;
    nobody_pays_for_another(make().await).await;
    a_bucket_fills_again(make().await).await;
    of_many_at_once_no_more_are_let_through_than_the_bucket_holds(make().await).await;
}

fn of(key: &str, tokens: u32) -> Charge<'_> {
    Charge {
        budget: "suite",
        key,
        rate: slow(),
        tokens,
        is_spent: false,
    }
}

async fn charge(ledger: &SharedLedger, charge: Charge<'_>) -> Level {
    ledger.charge(charge).await.expect("it is there")
}

async fn is_given(ledger: &SharedLedger, key: &str, tokens: u32) -> bool {
    let level = charge(ledger, of(key, tokens)).await;
    level.short_for.is_zero()
}

async fn a_bucket_gives_its_burst_and_then_says_when(ledger: SharedLedger) {
    let token = slow().time_of(1);
    assert!(is_given(&ledger, "a", 7).await);
    assert!(is_given(&ledger, "a", 3).await);
    let refused = charge(&ledger, of("a", 2)).await;
    assert!(refused.short_for <= token * 2, "{refused:?}");
    assert!(refused.short_for > token, "{refused:?}");
    assert!(refused.full_in <= token * 10, "{refused:?}");
    assert!(refused.full_in > token * 9, "{refused:?}");
}

async fn a_refusal_takes_nothing(ledger: SharedLedger) {
    assert!(is_given(&ledger, "a", 8).await);
    for _ in 0..5 {
        assert!(!is_given(&ledger, "a", 3).await);
    }
    assert!(is_given(&ledger, "a", 2).await);
}

async fn what_was_spent_already_is_owed(ledger: SharedLedger) {
    let spent = Charge {
        is_spent: true,
        ..of("a", 25)
    };
    let token = slow().time_of(1);
    let owing = charge(&ledger, spent).await;
    assert_eq!(owing.short_for, Duration::ZERO);
    assert!(owing.full_in > token * 24, "{owing:?}");
    let refused = charge(&ledger, of("a", 1)).await;
    // It pays what it owes, and then for this one.
    assert!(refused.short_for > token * 15, "{refused:?}");
}

async fn nobody_pays_for_another(ledger: SharedLedger) {
    assert!(is_given(&ledger, "a", 10).await);
    assert!(is_given(&ledger, "aa", 10).await);
    let other = Charge {
        budget: "other",
        ..of("a", 10)
    };
    assert_eq!(charge(&ledger, other).await.short_for, Duration::ZERO);
    assert!(!is_given(&ledger, "a", 1).await);
}

async fn a_bucket_fills_again(ledger: SharedLedger) {
    let quick = Charge {
        rate: Rate::per_second(100, 3),
        ..of("a", 3)
    };
    assert_eq!(charge(&ledger, quick).await.short_for, Duration::ZERO);
    // It ends when it is given, however long that takes.
    while !charge(&ledger, quick).await.short_for.is_zero() {
        tokio::task::yield_now().await;
    }
    let level = charge(&ledger, Charge { tokens: 0, ..quick }).await;
    // It does not hold more than its burst, however long nobody asked.
    assert!(level.full_in <= Duration::from_millis(30), "{level:?}");
}

async fn of_many_at_once_no_more_are_let_through_than_the_bucket_holds(ledger: SharedLedger) {
    let asking = (0..50).map(|_| is_given(&ledger, "a", 1));
    let given = futures::future::join_all(asking).await;
    assert_eq!(given.into_iter().filter(|given| *given).count(), 10);
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_promises_of_a_ledger() {
        run(|| async { Arc::new(Memory::default()) as SharedLedger }).await;
    }
}
