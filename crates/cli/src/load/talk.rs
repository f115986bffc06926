//! A session that makes one call after the other, to prepare what is measured and to read it.

use anyhow::{Context as _, Result, bail, ensure};
use buffa::{Message, MessageView as _};
use tertulia_proto::live::call::Request;
use tertulia_proto::live::connect_response::FrameView as Inbound;
use tertulia_proto::live::reply::ResultView;
use tertulia_proto::live::{Alive, Call, ConnectResponseView};

use super::socket::Socket;
use super::template::Template;

/// How many messages are unanswered at most while a log is filled.
const IN_FLIGHT: u64 = 64;

/// It.
pub struct Talk {
    socket: Socket,
    last_id: u64,
}

impl Talk {
    /// Over an open session.
    pub fn new(socket: Socket) -> Self {
        Talk { socket, last_id: 0 }
    }

    /// Calls a method, such as `tertulia.chats.v1.ChatsService/GetChat`.
    ///
    /// # Errors
    /// When the server refuses it, or the session ends.
    pub async fn call<A: Message>(&mut self, method: &str, request: &impl Message) -> Result<A> {
        self.last_id += 1;
        let call = Call {
            call_id: self.last_id,
            method: method.to_owned(),
            request: Some(Request::Proto(request.encode_to_vec())),
            ..Default::default()
        };
        self.socket.send(call.into());
        let mut answer = None;
        while answer.is_none() {
            let wanted = self.last_id;
            self.hear(|call_id, bytes| {
                if call_id == wanted {
                    answer = Some(A::decode_from_slice(bytes)?);
                }
                Ok(())
            })
            .await?;
        }
        answer.context("there is an answer")
    }

    /// Writes so many messages, as fast as the server takes them.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn say(&mut self, chat_id: i64, count: u64, text_bytes: usize) -> Result<()> {
        let mut template = Template::new(chat_id, text_bytes);
        let (mut written, mut answered) = (0, 0);
        while answered < count {
            while written < count && written - answered < IN_FLIGHT {
                self.socket.send_encoded(template.message(written, 0));
                written += 1;
            }
            self.hear(|call_id, _| {
                answered += u64::from(Template::number_of_call(call_id).is_some());
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// How many bytes of frames have come.
    pub fn received_bytes(&self) -> u64 {
        self.socket.received_bytes()
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.socket.close().await;
    }

    /// Takes whatever comes, and hands out the answers.
    async fn hear(&mut self, mut on: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        self.socket.turn(None).await?;
        self.socket.each(|payload, answers| {
            match ConnectResponseView::decode_view(payload)?.frame {
                Some(Inbound::Reply(reply)) => match &reply.result {
                    Some(ResultView::Proto(bytes)) => on(reply.call_id, bytes)?,
                    Some(ResultView::Error(error)) => bail!("{}: {}", error.code, error.message),
                    _ => bail!("an answer without a result"),
                },
                Some(Inbound::Heartbeat(_)) => answers.push(Alive::default().into()),
                Some(Inbound::Goodbye(goodbye)) => {
                    bail!("goodbye {}: {}", goodbye.code, goodbye.reason)
                }
                _ => {}
            }
            Ok(())
        })
    }
}

/// Fails when there is more where all of it was to come.
pub fn is_all(more: bool) -> Result<()> {
    ensure!(
        !more,
        "the server says that there is more, and gives nothing"
    );
    Ok(())
}
