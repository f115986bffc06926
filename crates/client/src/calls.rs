//! The way from whoever asks to the session that carries it.

use std::time::Duration;

use buffa::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::ChatId;
use crate::error::{Error, Result};
use crate::methods::Method;

/// How many calls wait to be written to the socket; further ones wait with their callers.
const CALLS_QUEUED_MAX: usize = 64;

/// Makes calls over a session. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls(mpsc::Sender<Asked>);

/// What a session is asked to write.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A call.
    Call {
        method: &'static str,
        body: Vec<u8>,
        timeout: Duration,
        answer: oneshot::Sender<Result<Vec<u8>>>,
    },
    /// A new token.
    Renew(String),
    /// Which chats are warm.
    Warm(Vec<ChatId>),
    /// In which chats it is heard who is there.
    Watch(Vec<ChatId>),
    /// Whether nobody uses the client.
    Rest(bool),
}

impl Calls {
    /// The way, and its end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (asked, to_write) = mpsc::channel(CALLS_QUEUED_MAX);
        (Calls(asked), to_write)
    }

    /// Calls and waits for the answer; [`Error::Offline`] when the session ends before it.
    pub(crate) async fn ask<Q: Method>(&self, request: &Q, wait: Duration) -> Result<Q::Answer> {
        let (answer, answered) = oneshot::channel();
        let call = Asked::Call {
            method: Q::PATH,
            body: request.encode_to_vec(),
            timeout: wait,
            answer,
        };
        let asked = async {
            self.put(call).await?;
            answered.await.map_err(|_| gone())?
        };
        let answer = timeout(wait, asked).await;
        let answer = answer.unwrap_or(Err(Error::Timeout(wait)))?;
        Q::Answer::decode_from_slice(&answer).map_err(|e| Error::Protocol(e.to_string()))
    }

    /// Asks for something that has no answer of its own.
    pub(crate) async fn put(&self, asked: Asked) -> Result<()> {
        self.0.send(asked).await.map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::Offline("the connection is closed".into())
}
