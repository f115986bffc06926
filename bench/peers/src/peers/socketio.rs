//! A chat server of Socket.IO and SQLite, in `socketio` beside this crate. Its clients' protocol is written by hand:
//! `42N["message","text"]` asks for an acknowledgement, which is `43N[seq]`; `42["message","text"]` delivers.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;

use crate::load::Target;
use crate::load::text::Stamp;
use crate::server::Server;
use crate::wire::ws::WebSocket;
use crate::wire::{Event, Seat, Wire};

const READY: &str = "socketio: ready at ";
const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// It, as a target of the load.
pub struct SocketIo {
    /// The folder of the server, with its packages.
    pub code: PathBuf,
}

/// The packages that it is made of.
///
/// # Errors
/// When Node or a package is not there.
pub fn version(code: &Path) -> Result<String> {
    let node = process::Command::new("node").arg("--version").output();
    let node = node.context("node is not on the PATH")?;
    let mut versions = Vec::new();
    for package in ["socket.io", "better-sqlite3"] {
        let manifest = code.join("node_modules").join(package).join("package.json");
        let text = fs::read_to_string(&manifest).with_context(|| {
            format!("{package} is not installed: `npm ci` in {}", code.display())
        })?;
        let manifest: Value = serde_json::from_str(&text)?;
        let version = manifest["version"].as_str().unwrap_or("unknown");
        versions.push(format!("{package} {version}"));
    }
    let node = String::from_utf8_lossy(&node.stdout);
    versions.push(format!("Node {}", node.trim().trim_start_matches('v')));
    Ok(versions.join(", "))
}

impl Target for SocketIo {
    type Wire = SocketIoWire;

    async fn start(&self, folder: &Path) -> Result<Server> {
        let mut command = Command::new("node");
        command.arg(self.code.join("server.mjs")).arg(folder);
        Server::start(command, folder, READY).await
    }

    async fn connect(&self, address: SocketAddr, seat: Seat) -> Result<SocketIoWire> {
        let mut socket = WebSocket::connect(address, PATH).await?;
        let mut connected = false;
        while !connected {
            let each = |frame: Message, answers: &mut Vec<Message>| {
                let text = frame.to_text()?;
                match text.as_bytes() {
                    [b'0', ..] => {
                        let hello =
                            format!("40{{\"seat\":{},\"other\":{}}}", seat.0, seat.other().0);
                        answers.push(hello.into());
                    }
                    [b'4', b'0', ..] => connected = true,
                    _ => bail!("the server does not let us in: {text}"),
                }
                Ok(())
            };
            socket.next(each).await?;
            socket.flush().await?;
        }
        Ok(SocketIoWire(socket))
    }
}

/// A client's connection.
pub struct SocketIoWire(WebSocket);

impl Wire for SocketIoWire {
    fn send(&mut self, number: u64, text: &str) {
        let frame = format!("42{number}[\"message\",\"{text}\"]");
        self.0.send(frame.into());
    }

    async fn flush(&mut self) -> Result<()> {
        self.0.flush().await
    }

    async fn next(&mut self, heard: &mut Vec<Event>) -> Result<()> {
        let each = |frame: Message, answers: &mut Vec<Message>| {
            match understand(frame.to_text()?)? {
                Heard::Event(event) => heard.push(event),
                Heard::Ping => answers.push("3".into()),
            }
            Ok(())
        };
        self.0.next(each).await
    }

    async fn close(self) -> Result<()> {
        self.0.close().await
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Event(Event),
    Ping,
}

fn understand(frame: &str) -> Result<Heard> {
    if frame == "2" {
        return Ok(Heard::Ping);
    }
    if let Some(rest) = frame.strip_prefix("42[\"message\",\"") {
        let text = rest.strip_suffix("\"]").context("an event is cut")?;
        return Ok(Heard::Event(Event::Delivery(Stamp::read(text.as_bytes())?)));
    }
    let answer = frame
        .strip_prefix("43")
        .and_then(|rest| rest.split_once('['));
    let Some((number, seq)) = answer else {
        bail!("the server says something else: {frame}");
    };
    let stored = seq.trim_end_matches(']').parse::<u64>();
    ensure!(stored.is_ok(), "a message is refused: {frame}");
    Ok(Heard::Event(Event::Ack(number.parse()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_deliveries_and_pings_are_told_apart() {
        assert_eq!(understand("2").unwrap(), Heard::Ping);
        assert_eq!(understand("4312[7]").unwrap(), Heard::Event(Event::Ack(12)));
        let stamp = Stamp {
            from: 1,
            number: 2,
            due_ns: 3,
            bytes: 40,
        };
        let mut text = String::new();
        stamp.write(&mut text);
        let delivery = format!("42[\"message\",\"{text}\"]");
        assert_eq!(
            understand(&delivery).unwrap(),
            Heard::Event(Event::Delivery(stamp))
        );
    }

    #[test]
    fn a_refusal_is_an_error_and_no_acknowledgement() {
        assert!(understand("4312[\"full\"]").is_err());
        assert!(understand("41").is_err());
    }
}
