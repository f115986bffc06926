//! What happens by itself when its time comes is done on a beat: messages that disappear and messages that were
//! scheduled. Of the nodes that share a database one does it. That spares the others the looking; that nothing is done
//! twice is decided in the commit, whoever leads.

use std::sync::Arc;
use std::time::Duration;

use tertulia_kit::lease::Leader;
use tertulia_kit::lifecycle;
use tertulia_services::chats::{Chats, DUE_ROUND_MAX};
use tokio_util::sync::CancellationToken;

/// How long nothing that is due is done after the node has died that did it.
pub const LEASE_LASTS: Duration = Duration::from_secs(4);

/// Does it until it is told to stop; with a leader only when this node leads.
pub async fn keep_doing(
    chats: Arc<Chats>,
    beat: Duration,
    leader: Option<Arc<Leader>>,
    stopping: CancellationToken,
) {
    let task = || do_rounds(Arc::clone(&chats), beat, stopping.clone());
    match leader {
        None => task().await,
        Some(leader) => leader.run(stopping.clone(), |_| task()).await,
    }
}

/// Does it until it is told to stop, between two rounds. A round that fails is done again on the next beat; of
/// failures in a row only the first is logged.
async fn do_rounds(chats: Arc<Chats>, beat: Duration, stopping: CancellationToken) {
    let mut fails = false;
    loop {
        let done = round(&chats).await;
        match &done {
            Ok(_) if fails => tracing::info!("what is due is done again"),
            Err(problem) if !fails => tracing::error!("what is due can not be done: {problem}"),
            _ => {}
        }
        fails = done.is_err();
        let pause = match done {
            Ok(count) if count >= DUE_ROUND_MAX => Duration::ZERO,
            _ => beat,
        };
        if stopping
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// How much was done, or what went wrong. A panic is a failure of the round, too.
async fn round(chats: &Chats) -> Result<usize, String> {
    match lifecycle::catch(chats.do_due()).await {
        Ok(Ok(count)) => Ok(count),
        Ok(Err(failure)) => Err(failure
            .cause_chain()
            .unwrap_or_else(|| failure.words().into())),
        Err(panicked) => Err(panicked.to_string()),
    }
}
