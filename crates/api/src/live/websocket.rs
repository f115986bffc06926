//! The server's side of a WebSocket (RFC 6455), for very many connections of which most rest.
//!
//! A connection that rests holds no buffer. What comes is read into a buffer of the thread, as much as there is, and
//! messages are read out of it where they are; a connection keeps only what is left: the beginning of a message, or
//! messages behind the one that was given. What is to be sent is gathered in a buffer that goes back to the thread when
//! everything is sent.

mod header;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use header::{Header, Opcode};

pub use header::Bad;

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;
/// How much is gathered before it is written.
const WRITE_BYTES: usize = 16 << 10;
/// A buffer that has become larger does not go back to the thread.
const SPARE_BYTES_MAX: usize = 256 << 10;
/// The most that a control frame carries.
const CONTROL_BYTES_MAX: usize = 125;

thread_local! {
    /// What is read on this thread.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
    /// For whoever writes next on this thread.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A connection.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    /// What was read and not used yet, from `used` on; mostly nothing.
    input: Vec<u8>,
    used: usize,
    /// A message of which not all frames have come.
    begun: Option<Box<Begun>>,
    /// What is to be sent, from `sent` on; mostly nothing.
    output: Vec<u8>,
    sent: usize,
    /// How large a message may be.
    message_bytes_max: usize,
}

#[derive(Debug)]
struct Begun {
    kind: Kind,
    bytes: Vec<u8>,
}

/// What a message is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, as the client says; whoever reads it has to see.
    Text,
    /// Bytes.
    Binary,
}

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// A message, as it was read.
    Message(T),
    /// A sign of life.
    Sign,
    /// What is no WebSocket, or larger than allowed. Nothing more can be read.
    Bad(Bad),
    /// It has closed the connection, or gone.
    Gone,
}

/// What a frame comes to.
enum Step<T> {
    Message(T),
    Part,
    Ping,
    Pong,
    Close,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// A connection on which `input` has come behind the handshake.
    pub fn new(stream: S, input: Vec<u8>, message_bytes_max: usize) -> WebSocket<S> {
        WebSocket {
            stream,
            input,
            used: 0,
            begun: None,
            output: Vec::new(),
            sent: 0,
            message_bytes_max,
        }
    }

    /// The next thing that the client says; messages are given to `read`. Cancel-safe.
    pub async fn receive<T>(&mut self, mut read: impl FnMut(Kind, &[u8]) -> T) -> Received<T> {
        poll_fn(|cx| self.poll_receive(cx, &mut read)).await
    }

    fn poll_receive<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: &mut impl FnMut(Kind, &[u8]) -> T,
    ) -> Poll<Received<T>> {
        // An answer to a ping that did not fit at once.
        if !self.output.is_empty()
            && let Poll::Ready(Err(_)) = self.poll_flush(cx)
        {
            return Poll::Ready(Received::Gone);
        }
        loop {
            while !self.input.is_empty() {
                let mut input = std::mem::take(&mut self.input);
                let step = self.step(&mut input[self.used..], read);
                self.input = input;
                match step {
                    Err(bad) => return Poll::Ready(Received::Bad(bad)),
                    Ok(None) => break,
                    Ok(Some((bytes, step))) => {
                        self.used += bytes;
                        if self.used == self.input.len() {
                            (self.input, self.used) = (Vec::new(), 0);
                        }
                        if let Some(received) = self.answer(cx, step) {
                            return Poll::Ready(received);
                        }
                    }
                }
            }
            if let Some(received) = ready!(self.poll_read(cx, read)) {
                return Poll::Ready(received);
            }
        }
    }

    /// Reads what has come, and the first message of it where it is; none when that is not one yet.
    fn poll_read<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: &mut impl FnMut(Kind, &[u8]) -> T,
    ) -> Poll<Option<Received<T>>> {
        READ.with_borrow_mut(|buffer| {
            let mut new = ReadBuf::new(buffer);
            let came = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut new));
            let new = new.filled_mut();
            if came.is_err() || new.is_empty() {
                return Poll::Ready(Some(Received::Gone));
            }
            if !self.input.is_empty() {
                self.input.drain(..self.used);
                self.used = 0;
                self.input.extend_from_slice(new);
                return Poll::Ready(None);
            }
            let mut used = 0;
            let mut received = None;
            while received.is_none() && used < new.len() {
                match self.step(&mut new[used..], read) {
                    Err(bad) => received = Some(Received::Bad(bad)),
                    Ok(None) => break,
                    Ok(Some((bytes, step))) => {
                        used += bytes;
                        received = self.answer(cx, step);
                    }
                }
            }
            self.input.extend_from_slice(&new[used..]);
            Poll::Ready(received)
        })
    }

    /// The first frame of some bytes, and how many bytes it has; none when it is not whole.
    fn step<T>(
        &mut self,
        bytes: &mut [u8],
        read: &mut impl FnMut(Kind, &[u8]) -> T,
    ) -> Result<Option<(usize, Step<T>)>, Bad> {
        let begun_bytes = self.begun.as_ref().map_or(0, |begun| begun.bytes.len());
        let payload_max = self.message_bytes_max - begun_bytes;
        let Some(header) = Header::read(bytes, payload_max)? else {
            return Ok(None);
        };
        let end = header.bytes + header.payload;
        let Some(payload) = bytes.get_mut(header.bytes..end) else {
            return Ok(None);
        };
        header.unmask(payload);
        let step = match (header.opcode, header.is_last) {
            (Opcode::Data(kind), is_last) => {
                if self.begun.is_some() {
                    return Err(Bad::Protocol);
                }
                if is_last {
                    Step::Message(read(kind, payload))
                } else {
                    let bytes = payload.to_vec();
                    self.begun = Some(Box::new(Begun { kind, bytes }));
                    Step::Part
                }
            }
            (Opcode::Continuation, is_last) => {
                let begun = self.begun.as_mut().ok_or(Bad::Protocol)?;
                begun.bytes.extend_from_slice(payload);
                if is_last {
                    let message = read(begun.kind, &begun.bytes);
                    self.begun = None;
                    Step::Message(message)
                } else {
                    Step::Part
                }
            }
            (Opcode::Ping, _) => {
                // A client that asks and takes no answers gets one to its newest questions only.
                if self.output.len() - self.sent < WRITE_BYTES {
                    self.put_frame(Opcode::Pong, payload);
                }
                Step::Ping
            }
            (Opcode::Pong, _) => Step::Pong,
            (Opcode::Close, _) => {
                if payload.len() == 1 {
                    return Err(Bad::Protocol);
                }
                let code = payload.get(..2).unwrap_or_default().to_vec();
                self.put_frame(Opcode::Close, &code);
                Step::Close
            }
        };
        Ok(Some((end, step)))
    }

    /// What is told of a frame; sends what it is answered with, as far as it can be sent at once.
    fn answer<T>(&mut self, cx: &mut Context<'_>, step: Step<T>) -> Option<Received<T>> {
        match step {
            Step::Message(message) => Some(Received::Message(message)),
            Step::Part => None,
            Step::Pong => Some(Received::Sign),
            Step::Ping => match self.poll_flush(cx) {
                Poll::Ready(Err(_)) => Some(Received::Gone),
                Poll::Ready(Ok(())) | Poll::Pending => Some(Received::Sign),
            },
            Step::Close => {
                _ = self.poll_flush(cx);
                Some(Received::Gone)
            }
        }
    }

    /// Puts a message behind what is to be sent. Ask [`flush_much`](WebSocket::flush_much) after each.
    pub fn put(&mut self, kind: Kind, message: &[u8]) {
        self.put_frame(Opcode::Data(kind), message);
    }

    /// The same with a message of so many bytes that is written where it is sent from.
    pub fn put_written(&mut self, kind: Kind, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.begin_frame(Opcode::Data(kind), bytes);
        write(&mut self.output);
    }

    /// Sends what is to be sent when it is much.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn flush_much(&mut self) -> io::Result<()> {
        if self.output.len() - self.sent >= WRITE_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends everything that is to be sent.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Says that the connection ends and why, and waits until the client has heard it: a connection that is dropped
    /// with unread bytes loses the last words.
    pub async fn close(&mut self, code: u16, reason: &str) {
        let reason = &reason.as_bytes()[..reason.len().min(CONTROL_BYTES_MAX - 2)];
        self.put_frame(Opcode::Close, &[&code.to_be_bytes(), reason].concat());
        if self.flush().await.is_err() {
            return;
        }
        while let Received::Message(()) | Received::Sign = self.receive(|_, _| ()).await {}
    }

    fn put_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        self.begin_frame(opcode, payload.len());
        self.output.extend_from_slice(payload);
    }

    /// Puts the head of a frame behind what is to be sent; so many bytes are to follow.
    fn begin_frame(&mut self, opcode: Opcode, payload: usize) {
        if self.output.capacity() == 0 {
            self.output = SPARE.take();
        }
        // Of a client that always leaves something untaken.
        if self.sent >= WRITE_BYTES {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        header::write(&mut self.output, opcode, payload);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            let rest = &self.output[self.sent..];
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.sent = 0;
        let mut output = std::mem::take(&mut self.output);
        if (1..=SPARE_BYTES_MAX).contains(&output.capacity()) {
            output.clear();
            SPARE.set(output);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

#[cfg(test)]
mod tests;
