//! The first words of a connection. They say which HTTP it speaks, and the library would wait for them for ever: who
//! connects and says nothing, or dribbles what HTTP/2 begins with, is let go when its time is over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What a connection that speaks HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose first words are waited for.
#[derive(Debug)]
pub struct Opening<S> {
    stream: S,
    /// None as soon as it is known what it speaks; from then on others watch over it.
    awaited: Option<Awaited>,
}

#[derive(Debug)]
struct Awaited {
    /// How much of the preface has come.
    came: usize,
    until: Pin<Box<Sleep>>,
}

impl<S> Opening<S> {
    /// Waits for so long.
    pub fn new(stream: S, most: Duration) -> Opening<S> {
        let until = Box::pin(sleep(most));
        Opening {
            stream,
            awaited: Some(Awaited { came: 0, until }),
        }
    }

    /// What it watches over.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl Awaited {
    /// Whether it is known what the connection speaks, now that this has come.
    fn is_over(&mut self, new: &[u8]) -> bool {
        let is_preface = PREFACE[self.came..].starts_with(new);
        self.came += new.len();
        new.is_empty() || !is_preface || self.came == PREFACE.len()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Opening { stream, awaited } = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(stream).poll_read(cx, buf);
        let Some(waiting) = awaited else {
            return read;
        };
        match read {
            Poll::Pending => {
                ready!(waiting.until.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            read => {
                if waiting.is_over(&buf.filled()[before..]) {
                    *awaited = None;
                }
                read
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const MOST: Duration = Duration::from_secs(10);

    /// What is read of a connection whose peer says these words, and nothing afterwards, until it is an error or there
    /// was a pause of an hour.
    async fn read(words: &[&[u8]]) -> Result<Vec<u8>, io::ErrorKind> {
        let (mut peer, ours) = duplex(1_024);
        let mut opening = Opening::new(ours, MOST);
        let mut all = Vec::new();
        for word in words {
            peer.write_all(word).await.unwrap();
            opening.read_buf(&mut all).await.map_err(|e| e.kind())?;
        }
        match tokio::time::timeout(Duration::from_secs(3_600), opening.read_buf(&mut all)).await {
            Ok(read) => read.map(|_| all).map_err(|e| e.kind()),
            Err(_) => Ok(all),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_only_the_beginning_of_the_preface_is_let_go() {
        for words in [
            &[][..],
            &[&b"P"[..]],
            &[b"PRI * ", b"HTTP/2.0"],
            &[&PREFACE[..PREFACE.len() - 1]],
        ] {
            assert_eq!(read(words).await, Err(io::ErrorKind::TimedOut), "{words:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_said_what_it_speaks_has_time() {
        let with_more = [PREFACE, b"more"].concat();
        for words in [
            &[&b"G"[..]][..],
            &[b"P", b"OST"],
            &[PREFACE],
            &[&with_more],
            &[&PREFACE[..7], &PREFACE[7..]],
        ] {
            assert_eq!(read(words).await, Ok(words.concat()), "{words:?}");
        }
    }
}
