//! NATS with JetStream. One stream with file storage holds the messages of all pairs, under `pair.SEAT` of who wrote.
//! A message is published with a reply subject, on which the stream acknowledges it; at the other end a push consumer
//! without acknowledgements delivers it, as the ordered consumers of the clients do. The text protocol is written by
//! hand, so that the generator spends little.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::load::Target;
use crate::load::text::Stamp;
use crate::server::Server;
use crate::wire::tcp::Tcp;
use crate::wire::{Event, Seat, Wire};

const PROGRAM: &str = "nats-server";
/// The first that can sync before it acknowledges.
const FIRST_THAT_SYNCS: (u32, u32) = (2, 10);
const READY: &str = "Listening for client connections on ";
const STREAM: &str = "PAIRS";

/// When what is written is synced to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// From time to time, as the server has it when nobody asks.
    Later,
    /// Before each acknowledgement.
    Always,
}

/// It, as a target of the load.
pub struct Nats {
    /// When it syncs.
    pub sync: Sync,
}

/// Which one is on the PATH.
///
/// # Errors
/// When there is none.
pub fn version() -> Result<String> {
    let output = process::Command::new(PROGRAM).arg("--version").output();
    let output = output.context(
        "nats-server is not on the PATH; on Debian as root it would have been installed",
    )?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().rsplit_once('v').context("it has no version")?.1;
    Ok(format!("nats-server {version}"))
}

/// The same, when it can sync before it acknowledges.
///
/// # Errors
/// When there is none, or it is older than that.
pub fn version_that_syncs() -> Result<String> {
    let version = version()?;
    let (major, minor) = FIRST_THAT_SYNCS;
    ensure!(
        major_and_minor(&version).is_some_and(|found| found >= FIRST_THAT_SYNCS),
        "{version} can not sync before it acknowledges; put {major}.{minor} or newer on the PATH"
    );
    Ok(version)
}

fn major_and_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.rsplit(' ').next()?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Target for Nats {
    type Wire = NatsWire;

    async fn start(&self, folder: &Path) -> Result<Server> {
        let sync = match self.sync {
            Sync::Later => "",
            Sync::Always => "sync_interval: always",
        };
        let config = format!(
            "host: 127.0.0.1\nport: -1\njetstream {{ store_dir: {:?}\n{sync} }}\n",
            folder.join("store")
        );
        let path: PathBuf = folder.join("nats.conf");
        fs::write(&path, config)?;
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(&path);
        let server = Server::start(command, folder, READY).await?;
        let mut admin = NatsWire::open(server.address).await?;
        let stream = json!({
            "name": STREAM,
            "subjects": ["pair.>"],
            "storage": "file",
            "retention": "limits",
            "discard": "old",
            "num_replicas": 1,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
        });
        admin
            .ask(&format!("STREAM.CREATE.{STREAM}"), &stream)
            .await?;
        Ok(server)
    }

    async fn connect(&self, address: SocketAddr, seat: Seat) -> Result<NatsWire> {
        let mut wire = NatsWire::open(address).await?;
        wire.subject = format!("pair.{}", seat.0);
        let consumer = json!({
            "stream_name": STREAM,
            "config": {
                "deliver_subject": format!("deliver.{}", wire.name),
                "filter_subject": format!("pair.{}", seat.other().0),
                "deliver_policy": "new",
                "ack_policy": "none",
                "replay_policy": "instant",
                "mem_storage": true,
            },
        });
        let made = wire
            .ask(&format!("CONSUMER.CREATE.{STREAM}"), &consumer)
            .await?;
        let name = made["name"].as_str();
        wire.consumer = name.context("a consumer has no name")?.to_owned();
        Ok(wire)
    }
}

/// A client's connection: it hears answers at `ack.NAME.*` and messages at `deliver.NAME`.
pub struct NatsWire {
    tcp: Tcp,
    name: u64,
    subject: String,
    consumer: String,
    /// Kept for its room.
    line: String,
}

const ACKS: &str = "1";
const DELIVERIES: &str = "2";

impl NatsWire {
    async fn open(address: SocketAddr) -> Result<Self> {
        // Nobody has had the name before, so that nothing comes here that was for an earlier connection.
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let name = OPENED.fetch_add(1, Ordering::Relaxed);
        let mut tcp = Tcp::connect(address).await?;
        let connect = json!({
            "verbose": false,
            "pedantic": false,
            "lang": "rust",
            "version": "0",
            "protocol": 1,
            "headers": false,
        });
        let hello = format!(
            "CONNECT {connect}\r\nSUB ack.{name}.* {ACKS}\r\nSUB deliver.{name} {DELIVERIES}\r\n"
        );
        tcp.outbox.extend_from_slice(hello.as_bytes());
        tcp.flush().await?;
        Ok(NatsWire {
            tcp,
            name,
            subject: String::new(),
            consumer: String::new(),
            line: String::new(),
        })
    }

    /// Asks JetStream's interface, before any message is sent.
    async fn ask(&mut self, what: &str, request: &Value) -> Result<Value> {
        self.publish_request(what, &request.to_string());
        self.tcp.flush().await?;
        loop {
            while let Some(frame) = take(&mut self.tcp.inbox)? {
                if let Frame::Message { payload, .. } = frame {
                    let answer: Value = serde_json::from_slice(&payload)?;
                    if let Some(error) = answer.get("error") {
                        bail!("{what} is refused: {error}");
                    }
                    return Ok(answer);
                }
            }
            self.tcp.read().await?;
        }
    }

    fn publish_request(&mut self, what: &str, request: &str) {
        let line = format!(
            "PUB $JS.API.{what} ack.{}.0 {}\r\n{request}\r\n",
            self.name,
            request.len()
        );
        self.tcp.outbox.extend_from_slice(line.as_bytes());
    }
}

impl Wire for NatsWire {
    fn send(&mut self, number: u64, text: &str) {
        self.line.clear();
        let (subject, name, bytes) = (&self.subject, &self.name, text.len());
        write!(
            self.line,
            "PUB {subject} ack.{name}.{number} {bytes}\r\n{text}\r\n"
        )
        .expect("a string takes anything");
        self.tcp.outbox.extend_from_slice(self.line.as_bytes());
    }

    async fn flush(&mut self) -> Result<()> {
        self.tcp.flush().await
    }

    async fn next(&mut self, heard: &mut Vec<Event>) -> Result<()> {
        self.tcp.read().await?;
        while let Some(frame) = take(&mut self.tcp.inbox)? {
            match frame {
                Frame::Message { line, payload } => heard.push(event(&line, &payload)?),
                Frame::Ping => self.tcp.outbox.extend_from_slice(b"PONG\r\n"),
                Frame::Other => {}
            }
        }
        Ok(())
    }

    async fn close(mut self) -> Result<()> {
        // It would go of itself, but only after a while, in which the next load has begun.
        let what = format!("CONSUMER.DELETE.{STREAM}.{}", self.consumer);
        self.publish_request(&what, "");
        self.tcp.flush().await
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Frame {
    /// A message, with the line that introduces it.
    Message {
        line: Bytes,
        payload: Bytes,
    },
    Ping,
    Other,
}

/// Takes the first frame, when all of it is there.
fn take(inbox: &mut BytesMut) -> Result<Option<Frame>> {
    let Some(end) = inbox.windows(2).position(|two| two == b"\r\n") else {
        return Ok(None);
    };
    let line = &inbox[..end];
    if line.starts_with(b"MSG ") {
        let bytes = line.rsplit(|byte| *byte == b' ').next();
        let bytes: usize = str::from_utf8(bytes.context("a message has no length")?)?.parse()?;
        if inbox.len() < end + 2 + bytes + 2 {
            return Ok(None);
        }
        let line = inbox.split_to(end).freeze();
        inbox.advance(2);
        let payload = inbox.split_to(bytes).freeze();
        inbox.advance(2);
        return Ok(Some(Frame::Message { line, payload }));
    }
    let frame = match line {
        b"PING" => Frame::Ping,
        _ if line.starts_with(b"-ERR") => bail!("nats: {}", String::from_utf8_lossy(line)),
        _ => Frame::Other,
    };
    inbox.advance(end + 2);
    Ok(Some(frame))
}

/// What a message says, by the subscription that it came for.
fn event(line: &[u8], payload: &[u8]) -> Result<Event> {
    let line = str::from_utf8(line)?;
    let mut words = line.split(' ').skip(1);
    let (subject, subscription) = (words.next(), words.next());
    if subscription == Some(DELIVERIES) {
        return Ok(Event::Delivery(Stamp::read(payload)?));
    }
    let said = || String::from_utf8_lossy(payload).into_owned();
    ensure!(
        payload.starts_with(b"{\"stream\":"),
        "a message is refused: {}",
        said()
    );
    let number = subject.and_then(|subject| subject.rsplit('.').next());
    Ok(Event::Ack(
        number.context("an answer has no subject")?.parse()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_when_they_are_whole() {
        let whole = b"PING\r\nMSG ack.3.17 1 28\r\n{\"stream\":\"PAIRS\",\"seq\":12 }\r\n+OK\r\n";
        for cut in 0..whole.len() {
            let mut inbox = BytesMut::from(&whole[..cut]);
            let mut frames = Vec::new();
            let mut rest = [&whole[cut..], b""].concat();
            loop {
                while let Some(frame) = take(&mut inbox).unwrap() {
                    frames.push(frame);
                }
                if rest.is_empty() {
                    break;
                }
                inbox.extend_from_slice(&std::mem::take(&mut rest));
            }
            assert_eq!(frames.len(), 3, "cut at {cut}");
            assert_eq!(frames[0], Frame::Ping);
            let Frame::Message { line, payload } = &frames[1] else {
                panic!("no message: {:?}", frames[1]);
            };
            assert_eq!(event(line, payload).unwrap(), Event::Ack(17));
        }
    }

    #[test]
    fn a_refusal_is_an_error_and_no_acknowledgement() {
        let refused = b"{\"error\":{\"code\":503}}";
        assert!(event(b"MSG ack.3.17 1 22", refused).is_err());
        assert!(take(&mut BytesMut::from("-ERR 'Slow Consumer'\r\n")).is_err());
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(major_and_minor("nats-server 2.9.10"), Some((2, 9)));
        assert!(major_and_minor("nats-server 2.10.3") >= Some(FIRST_THAT_SYNCS));
        assert!(major_and_minor("nats-server 2.9.10") < Some(FIRST_THAT_SYNCS));
    }
}
