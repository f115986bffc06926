//! The two ends of a connection as server and SDK want them, and the way between: which node is reached, and
//! what goes wrong before there is a connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tertulia_api::live::close::{self, Close};
use tertulia_api::live::frames::{self, Format, Outbound};
use tertulia_api::live::session::{self, Gone, Heard as ServerHears, Out};
use tertulia_client::error::{Error, Result};
use tertulia_client::proto::live::ResetReason;
use tertulia_client::proto::live::missed::Answer;
use tertulia_client::transport::{Heard, Transport, Wire};
use tokio::time::timeout;

use super::network::{Endpoint, Grip, Packet, connect};
use super::node::Node;
use super::world::World;

/// The server's end.
pub struct ServerWire {
    endpoint: Endpoint,
    frame_bytes_max: usize,
    fed: VecDeque<Packet>,
}

impl ServerWire {
    /// Over this endpoint.
    pub fn new(endpoint: Endpoint, frame_bytes_max: usize) -> Self {
        ServerWire {
            endpoint,
            frame_bytes_max,
            fed: VecDeque::new(),
        }
    }
}

impl session::Wire for ServerWire {
    async fn recv(&mut self) -> ServerHears {
        match self.endpoint.recv().await {
            Ok(Packet::Frame(bytes)) if bytes.len() > self.frame_bytes_max => ServerHears::TooLarge,
            Ok(Packet::Frame(bytes)) => match frames::decode(Format::Proto, &bytes) {
                Ok(frame) => ServerHears::Frame(frame),
                Err(failure) => ServerHears::Bad(failure),
            },
            Ok(Packet::Close(..) | Packet::End) | Err(_) => ServerHears::Gone,
        }
    }

    async fn feed(&mut self, frame: Out) -> Result<(), Gone> {
        let bytes = match frame {
            Out::Shared(frame) => frame.proto().to_vec(),
            Out::Own(frame) => {
                if let Some(what) = kind_of(&frame) {
                    self.endpoint.world().reach(what);
                }
                frames::encode_proto(frame)
            }
        };
        self.fed.push_back(Packet::Frame(bytes.into()));
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        while let Some(packet) = self.fed.front() {
            let sent = self.endpoint.send(packet.clone()).await;
            sent.map_err(|_| Gone)?;
            self.fed.pop_front();
        }
        Ok(())
    }

    async fn close(&mut self, close: Close) {
        let last = Packet::Close(close.code, close.reason);
        _ = self.endpoint.send(last).await;
    }
}

/// What a frame shows to have come about.
fn kind_of(frame: &Outbound) -> Option<&'static str> {
    let missed = match frame {
        Outbound::Welcome(welcome) => &welcome.missed,
        Outbound::CaughtUp(caught_up) => &caught_up.missed,
        Outbound::Behind(_) => return Some("behind"),
        Outbound::Goodbye(goodbye) => {
            let known = close::ALL
                .iter()
                .find(|c| u32::from(c.code) == goodbye.code);
            return known.map(|close| close.reason);
        }
        _ => return None,
    };
    Some(match missed.answer.as_ref()? {
        Answer::Delta(delta) if delta.events.is_empty() => "delta of nothing",
        Answer::Delta(_) => "delta",
        Answer::Changed(_) => "changed",
        Answer::Reset(reset) => match reset.reason.as_known() {
            Some(ResetReason::RESET_REASON_EPOCH) => "reset for another epoch",
            _ => "reset for a first hello",
        },
    })
}

/// The client's end.
struct ClientWire {
    world: Arc<World>,
    device: String,
    endpoint: Endpoint,
}

impl Wire for ClientWire {
    fn send(&mut self, frame: Vec<u8>) -> BoxFuture<'_, Result<()>> {
        let sent = self.endpoint.send(Packet::Frame(frame.into()));
        sent.map(|sent| sent.map_err(|_| reset())).boxed()
    }

    fn recv(&mut self) -> BoxFuture<'_, Result<Heard>> {
        let heard = self.endpoint.recv().map(|packet| match packet {
            Ok(Packet::Frame(bytes)) => Ok(Heard::Frame(bytes)),
            Ok(Packet::Close(code, reason)) => {
                self.world
                    .note(&self.device, format_args!("is closed: {reason}"));
                Ok(Heard::Closed {
                    code: code.into(),
                    reason: reason.to_owned(),
                })
            }
            Ok(Packet::End) => Err(Error::Offline("the server closed the connection".into())),
            Err(_) => Err(reset()),
        });
        heard.boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        let sent = self.endpoint.send(Packet::End);
        sent.map(drop).boxed()
    }
}

fn reset() -> Error {
    Error::Offline("the connection was reset".into())
}

/// The nodes as clients find them.
#[derive(Default)]
pub struct Doors {
    /// Guards who is there; one place for each node.
    nodes: Mutex<Vec<Option<Arc<Node>>>>,
}

impl Doors {
    /// A node takes its place, or leaves it.
    pub fn put(&self, index: usize, node: Option<Arc<Node>>) {
        let mut nodes = self.nodes.lock();
        let places = nodes.len().max(index + 1);
        nodes.resize(places, None);
        nodes[index] = node;
    }

    /// The node of a place.
    pub fn get(&self, index: usize) -> Option<Arc<Node>> {
        self.nodes.lock().get(index).cloned().flatten()
    }

    /// One of those that are open.
    fn any(&self, world: &World) -> Option<Arc<Node>> {
        let nodes = self.nodes.lock();
        let open: Vec<_> = nodes.iter().flatten().filter(|n| n.is_open()).collect();
        match open.len() {
            0 => None,
            len => Some(Arc::clone(open[world.pick(len)])),
        }
    }
}

/// The way of one device to the server.
pub struct Way {
    world: Arc<World>,
    device: String,
    doors: Arc<Doors>,
    /// Nothing comes through.
    cut_off: AtomicBool,
    /// Guards the connections that may still be open.
    open: Mutex<Vec<Grip>>,
}

impl Way {
    /// From a device to these doors.
    pub fn new(world: &Arc<World>, device: &str, doors: &Arc<Doors>) -> Arc<Self> {
        Arc::new(Way {
            world: Arc::clone(world),
            device: device.to_owned(),
            doors: Arc::clone(doors),
            cut_off: AtomicBool::new(false),
            open: Mutex::default(),
        })
    }

    /// Cuts the device off: nothing comes through any more, and nobody is told. Or lets it be reached again.
    pub fn cut_off(&self, cut_off: bool) {
        self.cut_off.store(cut_off, Ordering::Relaxed);
        if cut_off {
            self.open.lock().iter().for_each(Grip::silence);
        }
    }

    /// Resets all connections of the device.
    pub fn reset(&self) {
        self.open.lock().iter().for_each(Grip::reset);
    }

    /// Over the network, once.
    async fn cross(&self) {
        if self.cut_off.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.world.pause(self.world.faults().latency_ms).await;
    }

    async fn reach(&self) -> Result<Arc<Node>> {
        self.cross().await;
        let refused = || Error::Offline("the connection was refused".into());
        if self.world.fault(self.world.faults().refusals) {
            return Err(refused());
        }
        self.doors.any(&self.world).ok_or_else(refused)
    }

    async fn exchange(&self, method: &str, token: Option<&str>, body: Vec<u8>) -> Result<Bytes> {
        let node = self.reach().await?;
        let answer = node.call(method, token, body).await;
        self.cross().await;
        if self.world.fault(self.world.faults().lost_answers) {
            return Err(reset());
        }
        answer
    }

    async fn open(&self) -> Result<Box<dyn Wire>> {
        let node = self.reach().await?;
        let (client, server, grip) = connect(&self.world);
        if !node.accept(server) {
            return Err(Error::Offline("the node is full".into()));
        }
        {
            let mut open = self.open.lock();
            open.retain(Grip::is_alive);
            open.push(grip);
        }
        self.cross().await;
        Ok(Box::new(ClientWire {
            world: Arc::clone(&self.world),
            device: self.device.clone(),
            endpoint: client,
        }))
    }
}

impl Transport for Way {
    fn call<'a>(
        &'a self,
        method: &'a str,
        token: Option<&'a str>,
        request: Vec<u8>,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move {
            let answer = timeout(wait, self.exchange(method, token, request)).await;
            answer.unwrap_or(Err(Error::Timeout(wait)))
        })
    }

    fn dial(&self, wait: Duration) -> BoxFuture<'_, Result<Box<dyn Wire>>> {
        Box::pin(async move {
            let opened = timeout(wait, self.open()).await;
            opened.unwrap_or(Err(Error::Timeout(wait)))
        })
    }
}
