//! A bare relay, the limit of what any server over WebSocket could do here: it knows nobody but who sits where. A client
//! says its seat in its first frame. A frame of a number and a text goes to the other seat as it is; its number alone
//! comes back as the acknowledgement.
//!
//! It keeps nothing; or it writes every frame to the end of a file and syncs that, many frames at once when many come,
//! before it passes them on: the limit of what a server could do that loses nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::load::Target;
use crate::load::text::Stamp;
use crate::server::Server;
use crate::wire::ws::WebSocket;
use crate::wire::{Event, Seat, Wire};

const READY: &str = "relay: ready at ";
const NUMBER_BYTES: usize = 8;
/// How many frames wait for a client at most; who reads slower than that loses the connection.
const WAITING_FRAMES_MAX: usize = 1_024;
/// How many frames wait to be kept at most; then nobody is read from.
const UNKEPT_FRAMES_MAX: usize = 8_192;
/// The file is made so long at once, so that a sync need not write down its length as well.
const FILE_BYTES: u64 = 4 << 30;

/// It, as a target of the load.
pub struct Relay {
    /// Whether a frame is in a file, synced, before it is passed on.
    pub keeps: bool,
}

/// The crates that it is made of.
pub fn version() -> String {
    "tokio 1, tokio-tungstenite 0.29".to_owned()
}

impl Target for Relay {
    type Wire = RelayWire;

    async fn start(&self, folder: &Path) -> Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("relay");
        if self.keeps {
            command.arg("--file").arg(folder.join("frames"));
        }
        Server::start(command, folder, READY).await
    }

    async fn connect(&self, address: SocketAddr, seat: Seat) -> Result<RelayWire> {
        let mut socket = WebSocket::connect(address, "/").await?;
        let seat = (seat.0 as u64).to_be_bytes();
        socket.send(Message::binary(Bytes::copy_from_slice(&seat)));
        socket.flush().await?;
        let mut seated = false;
        while !seated {
            let answered = socket.next(|frame, _| {
                seated = frame.is_binary();
                Ok(())
            });
            answered.await?;
        }
        Ok(RelayWire(socket))
    }
}

/// A client's connection.
pub struct RelayWire(WebSocket);

impl Wire for RelayWire {
    fn send(&mut self, number: u64, text: &str) {
        let mut frame = BytesMut::with_capacity(NUMBER_BYTES + text.len());
        frame.put_u64(number);
        frame.extend_from_slice(text.as_bytes());
        self.0.send(Message::Binary(frame.freeze()));
    }

    async fn flush(&mut self) -> Result<()> {
        self.0.flush().await
    }

    async fn next(&mut self, heard: &mut Vec<Event>) -> Result<()> {
        let each = |frame, _: &mut Vec<Message>| {
            if let Message::Binary(frame) = frame {
                heard.push(event(&frame)?);
            }
            Ok(())
        };
        self.0.next(each).await
    }

    async fn close(self) -> Result<()> {
        self.0.close().await
    }
}

fn event(frame: &[u8]) -> Result<Event> {
    let (number, text) = frame
        .split_first_chunk::<NUMBER_BYTES>()
        .context("a frame of the relay is cut")?;
    Ok(if text.is_empty() {
        Event::Ack(u64::from_be_bytes(*number))
    } else {
        Event::Delivery(Stamp::read(text)?)
    })
}

/// Who is there, by seat, and how to reach them.
type Seats = Arc<Mutex<HashMap<usize, mpsc::Sender<Bytes>>>>;

/// Serves until it is killed, on a free port that it prints. With a file it keeps every frame there.
///
/// # Errors
/// When it can not listen, or the file can not be made.
pub async fn serve(file: Option<&Path>) -> Result<()> {
    let keeper = file.map(Keeper::start).transpose()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{READY}{}", listener.local_addr()?);
    let seats = Seats::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let (seats, keeper) = (Arc::clone(&seats), keeper.clone());
        tokio::spawn(async move {
            if let Err(error) = serve_one(stream, seats, keeper).await {
                eprintln!("relay: a connection ended: {error:#}");
            }
        });
    }
}

async fn serve_one(stream: TcpStream, seats: Seats, keeper: Option<Keeper>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    let first = socket.next().await.context("nobody said a seat")??;
    let number = u64::from_be_bytes(first.into_data()[..].try_into()?);
    let seat = Seat(number as usize);
    let (sender, mut inbox) = mpsc::channel(WAITING_FRAMES_MAX);
    // Guards the seats for a look or a change; no panic happens under it.
    let lock = || seats.lock().unwrap_or_else(PoisonError::into_inner);
    lock().insert(seat.0, sender.clone());
    socket.send(Message::binary(Bytes::new())).await?;

    let mut other = None;
    loop {
        tokio::select! {
            frame = socket.next() => {
                let mut came = Some(frame);
                while let Some(frame) = came {
                    match frame {
                        Some(Ok(Message::Binary(frame))) => {
                            let find = || lock().get(&seat.other().0).cloned();
                            if other.is_none() {
                                other = find();
                            }
                            let other = other.as_ref().context("nobody sits opposite")?;
                            match &keeper {
                                None => pass_on(&mut socket, other, frame).await?,
                                Some(keeper) => keeper.keep(frame, &sender, other).await?,
                            }
                        }
                        Some(Ok(Message::Close(_))) | None => return Ok(()),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Err(error.into()),
                    }
                    came = socket.next().now_or_never();
                }
            }
            Some(frame) = inbox.recv() => {
                socket.feed(Message::Binary(frame)).await?;
                while let Ok(frame) = inbox.try_recv() {
                    socket.feed(Message::Binary(frame)).await?;
                }
            }
        }
        socket.flush().await?;
    }
}

/// The acknowledgement of a frame.
fn ack(frame: &Bytes) -> Result<Bytes> {
    ensure!(frame.len() > NUMBER_BYTES, "a frame without a text");
    Ok(frame.slice(..NUMBER_BYTES))
}

/// Who keeps frames in a file, and passes them on when they are on the disk.
#[derive(Clone)]
struct Keeper(mpsc::Sender<Kept>);

/// A frame, and whom it and its acknowledgement go to.
struct Kept {
    frame: Bytes,
    ack: Bytes,
    writer: mpsc::Sender<Bytes>,
    other: mpsc::Sender<Bytes>,
}

impl Keeper {
    fn start(path: &Path) -> Result<Self> {
        let file = File::create_new(path)?;
        file.set_len(FILE_BYTES)?;
        file.sync_all()?;
        let (sender, mut frames) = mpsc::channel(UNKEPT_FRAMES_MAX);
        thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || {
                if let Err(error) = keep_all(&file, &mut frames) {
                    eprintln!("relay: the file can not be written: {error}");
                }
            })?;
        Ok(Keeper(sender))
    }

    async fn keep(
        &self,
        frame: Bytes,
        writer: &mpsc::Sender<Bytes>,
        other: &mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let kept = Kept {
            ack: ack(&frame)?,
            frame,
            writer: writer.clone(),
            other: other.clone(),
        };
        let sent = self.0.send(kept).await;
        sent.ok().context("the file takes no more frames")
    }
}

/// Writes and syncs at once all that waits, for as long as there are connections.
fn keep_all(file: &File, frames: &mut mpsc::Receiver<Kept>) -> io::Result<()> {
    let (mut record, mut at, mut waiting) = (Vec::new(), 0, Vec::new());
    while frames.blocking_recv_many(&mut waiting, UNKEPT_FRAMES_MAX) > 0 {
        record.clear();
        for kept in &waiting {
            record.extend_from_slice(&(kept.frame.len() as u32).to_le_bytes());
            record.extend_from_slice(&kept.frame);
        }
        file.write_all_at(&record, at)?;
        file.sync_data()?;
        at += record.len() as u64;
        for kept in waiting.drain(..) {
            // Who does not read, or went, misses it; the load notices.
            _ = kept.other.try_send(kept.frame);
            _ = kept.writer.try_send(kept.ack);
        }
    }
    Ok(())
}

/// Gives a frame to the other seat, and puts the acknowledgement behind what waits to be written.
async fn pass_on(
    socket: &mut WebSocketStream<TcpStream>,
    other: &mpsc::Sender<Bytes>,
    frame: Bytes,
) -> Result<()> {
    let ack = ack(&frame)?;
    if other.try_send(frame).is_err() {
        bail!("who sits opposite does not read");
    }
    socket.feed(Message::Binary(ack)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_passed_on_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames");
        let keeper = Keeper::start(&path).unwrap();
        let (writer, mut acks) = mpsc::channel(1);
        let (other, mut heard) = mpsc::channel(1);
        let frame = Bytes::from_static(b"8 bytes.text");
        keeper.keep(frame.clone(), &writer, &other).await.unwrap();
        assert_eq!(acks.recv().await.unwrap(), frame[..8]);
        assert_eq!(heard.recv().await.unwrap(), frame);
        let mut kept = [0; 16];
        File::open(&path)
            .unwrap()
            .read_exact_at(&mut kept, 0)
            .unwrap();
        assert_eq!(kept[4..], frame[..]);
        let cut = keeper.keep(frame.slice(..8), &writer, &other).await;
        assert!(cut.is_err());
    }

    #[test]
    fn a_number_alone_acknowledges_and_a_text_behind_it_is_a_delivery() {
        let stamp = Stamp {
            from: 1,
            number: 7,
            due_ns: 9,
            bytes: 64,
        };
        let mut text = String::new();
        stamp.write(&mut text);
        let number = 7u64.to_be_bytes();
        assert_eq!(event(&number).unwrap(), Event::Ack(7));
        let frame = [&number[..], text.as_bytes()].concat();
        assert_eq!(event(&frame).unwrap(), Event::Delivery(stamp));
        assert!(event(&number[..3]).is_err());
    }
}
