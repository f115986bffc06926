//! Tells on a beat who is here, and learns who is elsewhere.

use std::sync::Arc;

use tertulia_services::presence::{BEAT, Keeper, Presence};
use tokio_util::sync::CancellationToken;

/// Does it until it is told to stop, between two steps.
pub async fn keep(presence: Arc<Presence>, stopping: CancellationToken) {
    let mut keeper = Keeper::new(presence);
    while stopping
        .run_until_cancelled(tokio::time::sleep(BEAT))
        .await
        .is_some()
    {
        keeper.beat().await;
    }
}
