//! One WebSocket to /live, with little work for each frame: what is written in one turn goes out at once, and
//! all sockets of a thread read through one buffer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use buffa::{Message as _, MessageView as _};
use tertulia_proto::live::connect_request::Frame as Outbound;
use tertulia_proto::live::connect_response::{Frame as Answer, FrameView as Inbound};
use tertulia_proto::live::{
    Alive, ConnectRequest, ConnectResponse, ConnectResponseView, Hello, Warm, Welcome,
};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Sleep;

use super::frame::{self, Frame, Mask};

const SCRATCH_BYTES: usize = 64 * 1024;
const NARROW_BYTES: u32 = 4 * 1024;
const HANDSHAKE_BYTES_MAX: usize = 8 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// A session as the server's other side sees it.
pub struct Socket {
    stream: TcpStream,
    mask: Mask,
    /// The beginning of a frame that is not all there yet.
    inbox: Vec<u8>,
    /// What is not written yet.
    outbox: Vec<u8>,
    written: usize,
    received_bytes: u64,
}

/// Why a turn ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something came.
    Heard,
    /// The alarm rang.
    Alarm,
}

impl Socket {
    /// Connects, from a source address if one is given, and says hello.
    ///
    /// # Errors
    /// When the server does not take the session; the words are the server's.
    pub async fn open(
        server: SocketAddr,
        from: Option<IpAddr>,
        token: &str,
    ) -> Result<(Self, Welcome)> {
        Socket::resume(server, from, token, Vec::new()).await
    }

    /// As [`open`](Self::open), with what an earlier session came to.
    ///
    /// # Errors
    /// When the server does not take the session; the words are the server's.
    pub async fn resume(
        server: SocketAddr,
        from: Option<IpAddr>,
        token: &str,
        cursor: Vec<u8>,
    ) -> Result<(Self, Welcome)> {
        let socket = unconnected(server)?;
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        Socket::hello(socket, server, token, cursor).await
    }

    /// As [`open`](Self::open), with so little room for what comes in that a client who does not read is soon
    /// seen to be one.
    ///
    /// # Errors
    /// When the server does not take the session; the words are the server's.
    pub async fn open_narrow(server: SocketAddr, token: &str) -> Result<(Self, Welcome)> {
        let socket = unconnected(server)?;
        socket.set_recv_buffer_size(NARROW_BYTES)?;
        Socket::hello(socket, server, token, Vec::new()).await
    }

    async fn hello(
        socket: TcpSocket,
        server: SocketAddr,
        token: &str,
        cursor: Vec<u8>,
    ) -> Result<(Self, Welcome)> {
        let stream = socket.connect(server).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        // A connection that is dropped is gone at once, and its port is free for the next.
        stream.set_zero_linger()?;
        let mut this = Socket {
            stream,
            mask: Mask::random(),
            inbox: Vec::new(),
            outbox: Vec::new(),
            written: 0,
            received_bytes: 0,
        };
        this.upgrade(server).await?;
        let client = concat!("tertulia-load/", env!("CARGO_PKG_VERSION")).to_owned();
        let hello = Hello {
            access_token: token.to_owned(),
            cursor,
            client,
            ..Default::default()
        };
        this.send(hello.into());
        let welcome = this.welcome().await?;
        Ok((this, welcome))
    }

    async fn upgrade(&mut self, server: SocketAddr) -> Result<()> {
        let key = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 16]>());
        let request = format!(
            "GET /live HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Protocol: tertulia.v1.proto\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::with_capacity(512);
        let end = loop {
            if let Some(at) = answer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if answer.len() > HANDSHAKE_BYTES_MAX {
                bail!("the answer to the handshake has no end");
            }
            if self.stream.read_buf(&mut answer).await? == 0 {
                bail!("the server closed during the handshake");
            }
        };
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.lines().next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 101") {
            bail!("the server did not upgrade: {status}");
        }
        if !head
            .to_ascii_lowercase()
            .contains("sec-websocket-protocol: tertulia.v1.proto")
        {
            bail!("the server did not take the subprotocol tertulia.v1.proto");
        }
        self.inbox = answer.split_off(end);
        self.received_bytes = self.inbox.len() as u64;
        Ok(())
    }

    async fn welcome(&mut self) -> Result<Welcome> {
        let mut found = None;
        loop {
            self.each(|payload, _| {
                match ConnectResponse::decode_from_slice(payload)?.frame {
                    Some(Answer::Welcome(welcome)) if found.is_none() => found = Some(*welcome),
                    Some(Answer::Goodbye(goodbye)) => {
                        bail!("goodbye {}: {}", goodbye.code, goodbye.reason)
                    }
                    _ => bail!("something else came where a welcome belongs"),
                }
                Ok(())
            })?;
            match found {
                Some(welcome) => return Ok(welcome),
                None => self.turn(None).await?,
            };
        }
    }

    /// Warms a channel, and gives where it ends; what comes of it from then on is heard.
    ///
    /// # Errors
    /// When the server does not take it, or the user is not in it.
    pub async fn warm(&mut self, chat_id: i64) -> Result<i64> {
        let warm = Warm {
            chat_ids: vec![chat_id],
            ..Default::default()
        };
        self.send(warm.into());
        let mut head = None;
        while head.is_none() {
            self.turn(None).await?;
            self.each(|payload, answers| {
                match ConnectResponseView::decode_view(payload)?.frame {
                    Some(Inbound::Warmed(warmed)) => {
                        let mut heads = warmed.heads.iter();
                        let found = heads.find(|head| head.chat_id == chat_id);
                        head = Some(found.context("the user is not in the channel")?.seq);
                    }
                    Some(Inbound::Heartbeat(_)) => answers.push(Alive::default().into()),
                    Some(Inbound::ChatEvent(_)) => {
                        bail!("somebody writes before everybody is there")
                    }
                    Some(Inbound::Goodbye(goodbye)) => {
                        bail!("goodbye {}: {}", goodbye.code, goodbye.reason)
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        head.context("it ends somewhere")
    }

    /// Puts a frame behind those that wait to be written.
    pub fn send(&mut self, frame: Outbound) {
        let bytes = ConnectRequest {
            frame: Some(frame),
            ..Default::default()
        }
        .encode_to_vec();
        self.send_encoded(&bytes);
    }

    /// Puts an encoded `ConnectRequest` behind those that wait to be written.
    pub fn send_encoded(&mut self, bytes: &[u8]) {
        frame::binary(bytes, &mut self.mask, &mut self.outbox);
    }

    /// How many bytes wait to be written.
    pub fn unwritten(&self) -> usize {
        self.outbox.len() - self.written
    }

    /// How many bytes of frames have come.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Writes what waits, until something comes or the alarm rings.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn turn(&mut self, mut alarm: Option<Pin<&mut Sleep>>) -> Result<Turn> {
        poll_fn(|cx| {
            if self.unwritten() > 0 {
                self.poll_write(cx)?;
            }
            if let Poll::Ready(read) = self.poll_read(cx) {
                read?;
                return Poll::Ready(Ok(Turn::Heard));
            }
            match &mut alarm {
                Some(alarm) => alarm.as_mut().poll(cx).map(|()| Ok(Turn::Alarm)),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<()> {
        while self.unwritten() > 0 {
            match Pin::new(&mut self.stream).poll_write(cx, &self.outbox[self.written..]) {
                Poll::Ready(written) => self.written += written?,
                Poll::Pending => return Ok(()),
            }
        }
        self.outbox.clear();
        self.written = 0;
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
            read.map(|read| {
                read?;
                if buffer.filled().is_empty() {
                    bail!("the server closed the connection");
                }
                self.inbox.extend_from_slice(buffer.filled());
                self.received_bytes += buffer.filled().len() as u64;
                Ok(())
            })
        })
    }

    /// Hands out every message that is all there. What `on` writes into the vector is put behind what waits to
    /// be written, each entry as one frame.
    ///
    /// # Errors
    /// Those of `on`, and the server's goodbye.
    pub fn each(
        &mut self,
        mut on: impl FnMut(&[u8], &mut Vec<Outbound>) -> Result<()>,
    ) -> Result<()> {
        let (mut at, mut answers) = (0, Vec::new());
        while let Some((frame, used)) = frame::parse(&self.inbox[at..])? {
            match frame {
                Frame::Binary(payload) => on(payload, &mut answers)?,
                Frame::Ping(payload) => frame::pong(payload, &mut self.mask, &mut self.outbox),
                Frame::Close(code) => bail!("the server closed the session with code {code}"),
                Frame::Other => {}
            }
            at += used;
        }
        if at == self.inbox.len() {
            self.inbox.clear();
        } else {
            self.inbox.drain(..at);
        }
        for answer in answers {
            self.send(answer);
        }
        Ok(())
    }

    /// Answers heartbeats and drops everything else until the connection ends; says why it ended.
    pub async fn rest(mut self) -> anyhow::Error {
        loop {
            if let Err(why) = self.rest_for_a_turn().await {
                return why;
            }
        }
    }

    async fn rest_for_a_turn(&mut self) -> Result<()> {
        // Thousands of these rest side by side.
        self.inbox.shrink_to(0);
        self.outbox.shrink_to(0);
        self.turn(None).await?;
        self.each(|payload, answers| {
            match ConnectResponseView::decode_view(payload)?.frame {
                Some(Inbound::Heartbeat(_)) => answers.push(Alive::default().into()),
                Some(Inbound::Goodbye(goodbye)) => {
                    bail!("goodbye {}: {}", goodbye.code, goodbye.reason)
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// Says goodbye and waits until the server has closed too; whatever goes wrong, it is over.
    pub async fn close(mut self) {
        frame::close(&mut self.mask, &mut self.outbox);
        if self
            .stream
            .write_all(&self.outbox[self.written..])
            .await
            .is_err()
        {
            return;
        }
        while let Ok(1..) = poll_fn(|cx| self.poll_discard(cx)).await {}
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
            read.map_ok(|()| buffer.filled().len())
        })
    }
}

fn unconnected(server: SocketAddr) -> Result<TcpSocket> {
    Ok(match server {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that takes the handshake and then says `bytes`.
    async fn server(bytes: Vec<u8>) -> (SocketAddr, impl Future<Output = ()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0);
            }
            let head = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: tertulia.v1.proto\r\n\r\n";
            stream
                .write_all(&[&head[..], &bytes].concat())
                .await
                .unwrap();
            _ = stream.read_to_end(&mut heard).await;
        };
        (address, serve)
    }

    fn frame_of(answer: Answer) -> Vec<u8> {
        let payload = ConnectResponse {
            frame: Some(answer),
            ..Default::default()
        }
        .encode_to_vec();
        [&[0x82, u8::try_from(payload.len()).unwrap()][..], &payload].concat()
    }

    #[tokio::test]
    async fn a_welcome_that_comes_with_the_handshake_is_read() {
        let welcome = Welcome {
            user_id: 7,
            ..Default::default()
        };
        let (address, serve) = server(frame_of(welcome.into())).await;
        let open = async {
            Socket::open(address, None, "token")
                .await
                .unwrap()
                .1
                .user_id
        };
        tokio::select! {
            user = open => assert_eq!(user, 7),
            () = serve => panic!("the server ended first"),
        }
    }

    #[tokio::test]
    async fn a_goodbye_instead_of_a_welcome_says_why() {
        let goodbye = tertulia_proto::live::Goodbye {
            code: 4003,
            reason: "not_signed_in".into(),
            ..Default::default()
        };
        let (address, serve) = server(frame_of(goodbye.into())).await;
        let (opened, ()) = tokio::join!(Socket::open(address, None, "token"), serve);
        assert_eq!(
            opened.err().unwrap().to_string(),
            "goodbye 4003: not_signed_in"
        );
    }
}
