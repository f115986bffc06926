//! Logins that end on one node end on all within a second: each node asks the store for them on a beat, refuses their
//! tokens and ends their sessions. The bus tells their sessions at once, but may lose that.

use std::sync::Arc;
use std::time::Duration;

use tertulia_api::live::hub::Hub;
use tertulia_kit::error::Failure;
use tertulia_services::identity::Identity;
use tokio_util::sync::CancellationToken;

/// How often a node asks. An access token works on another node for so long after its login has ended.
const LEARN_EVERY: Duration = Duration::from_millis(500);
/// How far the clocks of two nodes may be apart, and a login's end still be learnt of in the next round.
const CLOCKS_APART: Duration = Duration::from_secs(5);
/// The same for ends that every twentieth round looks for. More of what is known is read for it.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);
const FAR_ROUND: usize = 20;

/// Asks until it is told to stop. Of failures in a row only the first is logged.
pub async fn keep_learning(identity: Arc<Identity>, hub: Arc<Hub>, stopping: CancellationToken) {
    let (mut fails, mut round) = (false, 0);
    while stopping
        .run_until_cancelled(tokio::time::sleep(LEARN_EVERY))
        .await
        .is_some()
    {
        round += 1;
        let look_back = match round % FAR_ROUND {
            0 => CLOCKS_APART_MAX,
            _ => CLOCKS_APART,
        };
        let learnt = identity.learn_ended(look_back).await;
        fails = match learnt {
            Ok(logins) => {
                hub.end_logins(&logins);
                false
            }
            Err(failure) => {
                if !fails {
                    log(&failure);
                }
                true
            }
        };
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
