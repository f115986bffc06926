//! One live session: hello, then frames both ways until it ends. Beside the [pump](Pump) that reads and writes
//! the wire run four workers, all in one task: one fills holes, one empties the outbox, one renews the token,
//! and one tells what has reached this device.

mod pump;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use tertulia_proto::live::connect_response::Frame as Down;
use tertulia_proto::live::{Goodbye, Hello, Rest, Warm, Watch, Welcome};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::calls::Calls;
use crate::change::Connection;
use crate::core::{Core, empty};
use crate::error::{Error, Result};
use crate::transport::Wire;

use pump::{Pump, receive, send};

/// How long the courtesy of a close may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// What a heartbeat is when the server does not say.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(30);

/// Why a session is over.
#[derive(Debug)]
enum End {
    /// The server said so.
    Goodbye(Goodbye),
    /// The connection broke, did not come about, or made no sense.
    Broken(Error),
}

impl<E: Into<Error>> From<E> for End {
    fn from(error: E) -> Self {
        End::Broken(error.into())
    }
}

/// Runs one session with `token` to its end; `welcomed` is called once it is up.
async fn run(core: &Core, token: String, welcomed: impl FnOnce()) -> End {
    core.session_begins();
    let opening = timeout(core.options.connect_timeout, open(core, token.clone()));
    let (wire, welcome) = match opening.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(end)) => return end,
        Err(_) => return Error::Timeout(core.options.connect_timeout).into(),
    };
    let beat = match welcome.heartbeat_ms {
        0 => HEARTBEAT_DEFAULT,
        ms => Duration::from_millis(ms.into()),
    };
    let Some(missed) = welcome.missed.into_option() else {
        return empty("missed").into();
    };
    if let Err(error) = core.missed(missed) {
        return error.into();
    }
    let (calls, to_write) = Calls::new();
    core.set_calls(Some(calls.clone()));
    core.set_connection(Connection::Online);
    welcomed();
    let mut pump = Pump::new(core, wire, beat * 2);
    let end = tokio::select! {
        biased;
        end = pump.run(to_write) => end,
        end = workers::send_messages(core, &calls) => end,
        end = workers::repair(core, &calls) => end,
        end = workers::renew(core, token, &calls) => end,
        end = workers::tell_delivered(core, &calls) => end,
    };
    core.session_ends();
    _ = timeout(CLOSE_TIMEOUT, pump.close()).await;
    end
}

async fn open(core: &Core, access_token: String) -> Result<(Box<dyn Wire>, Welcome), End> {
    let wait = core.options.connect_timeout;
    let mut wire = core.transport.dial(wait).await?;
    let (cursor, warm, watched, idle) = {
        let mind = core.mind();
        let presences = &mind.presences;
        let (watched, idle) = (presences.watched.clone(), presences.idle);
        (mind.known.cursor.clone(), mind.warm.clone(), watched, idle)
    };
    let client = concat!("tertulia-rust/", env!("CARGO_PKG_VERSION")).to_owned();
    let hello = Hello {
        access_token,
        cursor,
        client,
        ..Default::default()
    };
    send(&mut *wire, hello.into(), wait).await?;
    match receive(&mut *wire).await? {
        Down::Welcome(welcome) => {
            if !warm.is_empty() {
                let warm = Warm {
                    chat_ids: warm,
                    ..Default::default()
                };
                send(&mut *wire, warm.into(), wait).await?;
            }
            if !watched.is_empty() {
                let watch = Watch {
                    chat_ids: watched,
                    ..Default::default()
                };
                send(&mut *wire, watch.into(), wait).await?;
            }
            if idle {
                let rest = Rest {
                    idle,
                    ..Default::default()
                };
                send(&mut *wire, rest.into(), wait).await?;
            }
            Ok((wire, *welcome))
        }
        Down::Goodbye(goodbye) => Err(End::Goodbye(*goodbye)),
        _ => Err(Error::Protocol("the first frame was no welcome".into()).into()),
    }
}

/// Keeps sessions coming until `stop`.
pub(crate) async fn keep(core: Arc<Core>, stop: CancellationToken) {
    let mut backoff = core.backoff();
    let mut spent: Option<String> = None;
    loop {
        let mut again = core.again.subscribe();
        let round = async {
            if core.mind().known.credentials.is_none() {
                if !matches!(*core.connection.borrow(), Connection::SignedOut(_)) {
                    core.set_connection(Connection::SignedOut(None));
                }
                return None;
            }
            core.set_connection(Connection::Connecting);
            Some(match core.fresh_token(spent.as_deref()).await {
                Ok(token) => {
                    spent = Some(token.clone());
                    run(&core, token, || backoff.reset()).await
                }
                Err(error) => error.into(),
            })
        };
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            end = round => end,
        };
        core.session_ends();
        let wait = match end {
            None | Some(End::Broken(Error::SignedOut)) => None,
            Some(end) => {
                spent = spent.filter(|_| wants_new_token(&end));
                after(&core, &end, &mut backoff)
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = again.changed() => backoff.reset(),
            () = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
    core.session_ends();
    core.set_connection(Connection::Stopped);
}

/// The close codes that this client acts on; docs/protocol/live.md has the table.
mod code {
    pub const NOT_SIGNED_IN: u32 = 4003;
    pub const TOKEN_EXPIRED: u32 = 4004;
    pub const LOGIN_ENDED: u32 = 4005;
}

fn wants_new_token(end: &End) -> bool {
    match end {
        End::Goodbye(goodbye) => matches!(goodbye.code, code::NOT_SIGNED_IN | code::TOKEN_EXPIRED),
        End::Broken(error) => error.wants_new_token(),
    }
}

/// How long to wait after a session; none: until somebody starts the client again, as a sign-in does.
fn after(core: &Core, end: &End, backoff: &mut Backoff) -> Option<Duration> {
    let (reason, told) = match end {
        End::Goodbye(goodbye) if goodbye.code == code::LOGIN_ENDED => {
            if let Err(error) = core.login_ended(goodbye.reason.clone()) {
                tracing::error!(%error, "the end of the login could not be stored");
            }
            return None;
        }
        End::Goodbye(goodbye) if !goodbye.come_back && goodbye.code != code::NOT_SIGNED_IN => {
            core.set_connection(Connection::Refused {
                code: goodbye.code,
                reason: goodbye.reason.clone(),
            });
            return None;
        }
        End::Goodbye(goodbye) => {
            let told = Duration::from_millis(goodbye.after_ms.into());
            (goodbye.reason.clone(), (!told.is_zero()).then_some(told))
        }
        End::Broken(error) if error.ends_login() => {
            if let Err(error) = core.login_ended(error.to_string()) {
                tracing::error!(%error, "the end of the login could not be stored");
            }
            return None;
        }
        End::Broken(error) => (error.to_string(), error.retry_after()),
    };
    let retry_in = backoff.next(told);
    tracing::debug!(
        reason,
        retry_in_ms = retry_in.as_millis() as u64,
        "the session ended"
    );
    core.set_connection(Connection::Offline { reason, retry_in });
    Some(retry_in)
}
