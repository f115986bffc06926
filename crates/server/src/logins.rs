//! Logins that end on one node end on all: each node asks the store for them on a beat. The bus tells their sessions at
//! once, but may lose that.

use std::sync::Arc;
use std::time::Duration;

use tertulia_kit::error::Failure;
use tertulia_services::identity::Identity;
use tokio_util::sync::CancellationToken;

/// How often a node asks. An access token works on another node for so long after its login has ended.
const LEARN_EVERY: Duration = Duration::from_secs(5);

/// Asks until it is told to stop. Of failures in a row only the first is logged.
pub async fn keep_learning(identity: Arc<Identity>, stopping: CancellationToken) {
    let mut fails = false;
    while stopping
        .run_until_cancelled(tokio::time::sleep(LEARN_EVERY))
        .await
        .is_some()
    {
        let learnt = identity.learn_ended().await;
        if let Err(failure) = &learnt
            && !fails
        {
            log(failure);
        }
        fails = learnt.is_err();
    }
}

fn log(failure: &Failure) {
    let (reason, cause) = (failure.reason(), failure.cause_chain());
    tracing::error!(
        reason,
        cause,
        "logins that ended on other nodes are not known"
    );
}
