//! The wire of a session: frames are read and taken in, calls are written and their answers handed back.

use std::collections::HashMap;
use std::time::Duration;

use buffa::Message as _;
use tertulia_proto::live::connect_request::Frame as Up;
use tertulia_proto::live::connect_response::Frame as Down;
use tertulia_proto::live::{
    Alive, Call, CallError, CatchUp, ConnectRequest, ConnectResponse, Goodbye, Renew, Rest, Warm,
    Watch, call, reply,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::End;
use crate::calls::Asked;
use crate::core::{Core, empty};
use crate::error::{Error, Refusal, Result};
use crate::transport::{Heard, Wire};

/// How many calls may be under way before no more are read from the queue.
const CALLS_UNDER_WAY_MAX: usize = 256;

/// Sends a frame.
pub(super) async fn send(wire: &mut dyn Wire, frame: Up, wait: Duration) -> Result<()> {
    let frame = ConnectRequest {
        frame: Some(frame),
        ..Default::default()
    };
    let sent = timeout(wait, wire.send(frame.encode_to_vec())).await;
    sent.map_err(|_| Error::Timeout(wait))?
}

/// The next frame. Cancel-safe.
pub(super) async fn receive(wire: &mut dyn Wire) -> Result<Down, End> {
    loop {
        match wire.recv().await? {
            Heard::Frame(bytes) => {
                let frame = ConnectResponse::decode_from_slice(&bytes);
                let frame = frame.map_err(|e| Error::Protocol(e.to_string()))?.frame;
                match frame {
                    Some(frame) => return Ok(frame),
                    // A kind of frame that a newer server sends: nothing for us.
                    None => continue,
                }
            }
            Heard::Closed { code, reason } => {
                // The last words were lost, but the code says enough.
                let come_back = !matches!(code, 4000 | 4003 | 4005 | 4008 | 4013);
                return Err(End::Goodbye(Goodbye {
                    code,
                    reason,
                    come_back,
                    ..Default::default()
                }));
            }
        }
    }
}

/// Reads and writes the wire, and knows which calls are under way.
pub(super) struct Pump<'a> {
    core: &'a Core,
    wire: Box<dyn Wire>,
    silence_max: Duration,
    under_way: HashMap<u64, oneshot::Sender<Result<Vec<u8>>>>,
    last_id: u64,
    catching_up: bool,
    behind_again: bool,
}

impl<'a> Pump<'a> {
    pub(super) fn new(core: &'a Core, wire: Box<dyn Wire>, silence_max: Duration) -> Self {
        Pump {
            core,
            wire,
            silence_max,
            under_way: HashMap::new(),
            last_id: 0,
            catching_up: false,
            behind_again: false,
        }
    }

    pub(super) async fn close(&mut self) {
        self.wire.close().await;
    }

    pub(super) async fn run(&mut self, mut to_send: mpsc::Receiver<Asked>) -> End {
        loop {
            match self.step(&mut to_send).await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    async fn step(&mut self, to_send: &mut mpsc::Receiver<Asked>) -> Result<(), End> {
        if self.under_way.len() >= CALLS_UNDER_WAY_MAX {
            // Callers that gave up leave their place.
            self.under_way.retain(|_, answer| !answer.is_closed());
        }
        let has_room = self.under_way.len() < CALLS_UNDER_WAY_MAX;
        // A call that is written does not prolong the silence: only what the server sends does.
        let silent_at = Instant::now() + self.silence_max;
        loop {
            tokio::select! {
                biased;
                // First, because it is bounded: so many calls under way, and none is read any more.
                Some(asked) = to_send.recv(), if has_room => self.ask(asked).await?,
                frame = timeout_at(silent_at, receive(&mut *self.wire)) => {
                    let silent = |_| Error::Offline("the server is silent".into());
                    return self.take(frame.map_err(silent)??).await;
                }
            }
            if self.under_way.len() >= CALLS_UNDER_WAY_MAX {
                let frame = timeout_at(silent_at, receive(&mut *self.wire)).await;
                return self
                    .take(frame.map_err(|_| Error::Offline("the server is silent".into()))??)
                    .await;
            }
        }
    }

    async fn send(&mut self, frame: Up) -> Result<(), End> {
        Ok(send(&mut *self.wire, frame, self.silence_max).await?)
    }

    async fn ask(&mut self, asked: Asked) -> Result<(), End> {
        match asked {
            Asked::Renew(access_token) => {
                self.send(
                    Renew {
                        access_token,
                        ..Default::default()
                    }
                    .into(),
                )
                .await
            }
            Asked::Warm(chat_ids) => {
                let warm = Warm {
                    chat_ids,
                    ..Default::default()
                };
                self.send(warm.into()).await
            }
            Asked::Watch(chat_ids) => {
                let watch = Watch {
                    chat_ids,
                    ..Default::default()
                };
                self.send(watch.into()).await
            }
            Asked::Rest(idle) => {
                let rest = Rest {
                    idle,
                    ..Default::default()
                };
                self.send(rest.into()).await
            }
            Asked::Call { answer, .. } if answer.is_closed() => Ok(()),
            Asked::Call {
                method,
                body,
                timeout,
                answer,
            } => {
                self.last_id += 1;
                self.under_way.insert(self.last_id, answer);
                let call = Call {
                    call_id: self.last_id,
                    method: method.to_owned(),
                    request: Some(call::Request::Proto(body)),
                    timeout_ms: timeout.as_millis().min(u32::MAX.into()) as u32,
                    ..Default::default()
                };
                self.send(call.into()).await
            }
        }
    }

    async fn take(&mut self, frame: Down) -> Result<(), End> {
        match frame {
            Down::Reply(reply) => {
                let Some(answer) = self.under_way.remove(&reply.call_id) else {
                    return Ok(());
                };
                let result = match reply.result {
                    Some(reply::Result::Proto(bytes)) => Ok(bytes),
                    Some(reply::Result::Error(error)) => Err(refusal(*error).into()),
                    Some(reply::Result::Json(_)) | None => Err(empty("result")),
                };
                // The caller may have given up.
                _ = answer.send(result);
            }
            Down::ChatEvent(live) => {
                let event = live.event.into_option().ok_or_else(|| empty("event"))?;
                self.core.chat_event(event, live.prev)?;
            }
            Down::OwnEvent(live) => {
                let event = live.event.into_option().ok_or_else(|| empty("event"))?;
                self.core.own_event(event, live.prev)?;
            }
            Down::Heartbeat(heartbeat) => {
                self.send(Alive::default().into()).await?;
                self.core.heartbeat(*heartbeat)?;
                self.core.sync_soon();
            }
            Down::Behind(_) if self.catching_up => self.behind_again = true,
            Down::Behind(_) => self.catch_up().await?,
            Down::CaughtUp(answer) => {
                self.core
                    .missed(answer.missed.into_option().ok_or_else(|| empty("missed"))?)?;
                self.catching_up = false;
                if std::mem::take(&mut self.behind_again) {
                    self.catch_up().await?;
                }
            }
            Down::Receipts(receipts) => self.core.receipts(*receipts)?,
            Down::Typing(typing) => self.core.typing(*typing),
            Down::Notice(notice) => self.core.notice(*notice),
            Down::Warmed(warmed) => self.core.warmed(*warmed)?,
            Down::Presence(presence) => self.core.presence(*presence),
            Down::Watched(watched) => self.core.watched(*watched),
            Down::Renewed(_) => {}
            Down::Goodbye(goodbye) => return Err(End::Goodbye(*goodbye)),
            Down::Welcome(_) => return Err(Error::Protocol("a second welcome".into()).into()),
        }
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), End> {
        self.catching_up = true;
        let cursor = self.core.mind().known.cursor.clone();
        self.send(
            CatchUp {
                cursor,
                ..Default::default()
            }
            .into(),
        )
        .await
    }
}

fn refusal(error: CallError) -> Refusal {
    Refusal::new(error.code, error.message, error.failure.into_option())
}
