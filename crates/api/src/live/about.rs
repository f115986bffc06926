//! What is known of a session, for those who control sessions.

use std::sync::Arc;

use tertulia_kit::telemetry::RequestId;
use tertulia_services::access::Caller;
use tertulia_services::ids::{LoginId, UserId};

/// A session, as its hello and its token say.
#[derive(Debug, Clone)]
pub struct About {
    /// Its own id.
    pub session: RequestId,
    /// Whose it is.
    pub user: UserId,
    /// By which login.
    pub login: LoginId,
    /// On which device.
    pub device: Arc<str>,
    /// What the client says that it is.
    pub client: Box<str>,
    /// When it began, in milliseconds since 1970.
    pub since_ms: i64,
}

impl About {
    /// A session that begins now.
    pub fn new(caller: &Caller, client: &str, now_ms: i64) -> About {
        About {
            session: RequestId::random(),
            user: caller.user,
            login: caller.login,
            device: Arc::clone(&caller.device),
            client: client.into(),
            since_ms: now_ms,
        }
    }
}
