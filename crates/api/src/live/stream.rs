//! The same frames as a gRPC bidirectional stream.

use std::sync::Arc;

use buffa::Message as _;
use connectrpc::{ConnectError, InboundStream};
use futures::{Stream, StreamExt as _};
use protovalidate_buffa::Validate as _;
use tertulia_kit::lifecycle::Kind;
use tertulia_proto::live::{ConnectRequest, ConnectResponse};
use tertulia_services::errors;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Live;
use super::close::Close;
use super::session::{self, Gone, Heard, Out, Wire};
use crate::error::{finish, problems, raise};

/// How many frames are between the session and the HTTP/2 stream; the session's queue is the real bound.
const BETWEEN_FRAMES: usize = 16;

/// Begins a session on a stream of requests; the frames come out of the answer.
pub fn serve(
    live: Arc<Live>,
    requests: InboundStream<ConnectRequest>,
) -> impl Stream<Item = Result<ConnectResponse, ConnectError>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(BETWEEN_FRAMES);
    match live.enter() {
        Ok(place) => {
            let wire = Carrier { requests, sender };
            let lifecycle = live.lifecycle.clone();
            lifecycle.spawn(Kind::Connection, "session", session::run(live, wire, place));
        }
        Err(failure) => {
            let error = finish(raise(failure), "", "tertulia.live.v1.LiveService/Connect");
            sender.try_send(Err(error)).expect("the channel is empty");
        }
    }
    ReceiverStream::new(receiver)
}

struct Carrier {
    requests: InboundStream<ConnectRequest>,
    sender: mpsc::Sender<Result<ConnectResponse, ConnectError>>,
}

impl Wire for Carrier {
    async fn recv(&mut self) -> Heard {
        let request = match self.requests.next().await {
            None => return Heard::Gone,
            Some(Err(error)) if error.code == connectrpc::ErrorCode::ResourceExhausted => {
                return Heard::TooLarge;
            }
            Some(Err(_)) => {
                return Heard::Bad(errors::unreadable_request("the message is not a frame"));
            }
            Some(Ok(message)) => message.to_owned_message(),
        };
        if let Err(invalid) = request.validate() {
            return Heard::Bad(errors::invalid_request(problems(&invalid)));
        }
        match request.frame {
            Some(frame) => Heard::Frame(frame),
            None => Heard::Bad(errors::unreadable_request("the frame is empty")),
        }
    }

    async fn feed(&mut self, frame: Out) -> Result<(), Gone> {
        let response = match frame {
            Out::Own(frame) => ConnectResponse {
                frame: Some(frame),
                ..Default::default()
            },
            Out::Shared(frame) => ConnectResponse::decode_from_slice(frame.proto())
                .expect("we have encoded this frame"),
        };
        self.sender.send(Ok(response)).await.map_err(|_| Gone)
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        Ok(())
    }

    async fn close(&mut self, _close: Close) {
        // The goodbye frame has said it; the stream ends when the sender is dropped.
    }
}
