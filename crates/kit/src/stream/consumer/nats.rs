//! A durable pull consumer of JetStream. One request for records is open at a time; while there are none the server sends
//! a heartbeat for it. When two of them are missed, the request is given up with its connection, and whoever pulls looks
//! whether the consumer is there.
//!
//! Everything up to the number that is acknowledged is (`ack_policy: all`). What was sent and is not acknowledged is sent
//! again after two heartbeats.

mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, Message, Request, Subject, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Away, Consumer, Pulled, Span, Standing, UNDER_WAY_MAX};
use crate::bus::nats::{Address, Prefix};
use crate::stream::nats::ANSWER_MAX;
use crate::stream::{Mark, RECORDS_MAX, Record};

/// How many bytes come for one request at most; more than a message of NATS may have.
const REQUEST_BYTES_MAX: u64 = 8 << 20;
/// How long a request waits for records.
const REQUEST_LASTS: Duration = Duration::from_secs(10);
/// How long is waited before a request that was refused is made again.
const PAUSE: Duration = Duration::from_millis(100);
/// How many consumers are listed at most.
const LISTED_MAX: usize = 10_000;

/// Where the stream is, and under which name it is read.
#[derive(Debug, Clone)]
pub struct Options {
    /// The servers, and what is signed in with.
    pub address: Address,
    /// What the subjects of the deployment begin with.
    pub prefix: Prefix,
    /// How often the server says that it is there while there is nothing to hand over.
    pub heartbeat: Duration,
}

impl Options {
    /// The usual heartbeat.
    pub fn new(address: Address, prefix: Prefix) -> Options {
        Options {
            address,
            prefix,
            heartbeat: Duration::from_secs(1),
        }
    }
}

/// The stream, for who reads it.
#[derive(Debug, Clone)]
pub struct Servers {
    client: Client,
    /// Counts how often it was connected.
    connected: watch::Receiver<u64>,
    options: Options,
    stream: String,
}

/// A consumer of it.
#[derive(Debug)]
pub struct JetStream {
    servers: Servers,
    name: String,
    request: Option<Asked>,
    /// Where each record is acknowledged that was handed over and is not yet.
    replies: BTreeMap<u64, Subject>,
}

/// A request for records.
#[derive(Debug)]
struct Asked {
    incoming: Subscriber,
    /// How many may still come.
    left: usize,
    heard: Instant,
}

/// A consumer as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Everything up to this number was acknowledged.
    pub floor: u64,
    /// How many records it has not acknowledged.
    pub waiting: u64,
}

/// It is no name for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a consumer's name has at most 64 small letters, digits and hyphens")]
pub struct BadName;

impl Servers {
    /// Connects as soon as it can.
    ///
    /// # Errors
    /// When the client can not be made.
    pub async fn connect(options: Options) -> Result<Servers, Away> {
        let (tell, connected) = watch::channel(0);
        let tell = move |event| {
            if let Event::Connected = event {
                tell.send_modify(|times| *times += 1);
            }
            std::future::ready(())
        };
        let settings = ConnectOptions::new().event_callback(tell);
        let (inbox, name) = (options.prefix.inbox(), "tertulia feed consumer");
        let connecting = options.address.connect(name, &inbox, settings);
        Ok(Servers {
            client: connecting.await.map_err(|error| wire::silent(&error))?,
            connected,
            stream: options.prefix.stream(),
            options,
        })
    }

    /// Connects again: what the server says to this connection may be lost.
    async fn connect_again(&self) -> Result<(), Away> {
        let mut connected = self.connected.clone();
        connected.mark_unchanged();
        let again = self.client.force_reconnect().await;
        again.map_err(|error| wire::silent(&error))?;
        // What is asked before would go the old way.
        match timeout(ANSWER_MAX, connected.changed()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Away("NATS is away".into())),
        }
    }

    /// Reads it under that name; nothing is asked yet.
    ///
    /// # Errors
    /// When it is none.
    pub fn consumer(&self, name: &str) -> Result<JetStream, BadName> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=64).contains(&name.len()) || !name.bytes().all(is_plain) {
            return Err(BadName);
        }
        Ok(JetStream {
            servers: self.clone(),
            name: name.to_owned(),
            request: None,
            replies: BTreeMap::new(),
        })
    }

    /// What the stream is called.
    pub fn name(&self) -> &str {
        &self.stream
    }

    /// All consumers of the stream, by name.
    ///
    /// # Errors
    /// When nobody answers, or there is no stream.
    pub async fn consumers(&self) -> Result<Vec<Listed>, Away> {
        let mut listed = Vec::new();
        while listed.len() < LISTED_MAX {
            let asked = json!({"offset": listed.len()});
            let subject = format!("CONSUMER.LIST.{}", self.stream);
            let page = wire::answered(self.ask(&subject, &asked).await?)?;
            let Some(page) = page else {
                return Err(Away(format!("there is no stream {}", self.stream)));
            };
            let found: Vec<Listed> = wire::listed(&page)?;
            let total = wire::number(&page["total"])?;
            let was_last = found.is_empty();
            listed.extend(found);
            if was_last || listed.len() as u64 >= total {
                break;
            }
        }
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listed)
    }

    /// Asks JetStream.
    async fn ask(&self, what: &str, body: &Value) -> Result<Value, Away> {
        let body: Bytes = match body {
            Value::Null => Bytes::new(),
            body => body.to_string().into(),
        };
        let request = Request::new().payload(body).timeout(Some(ANSWER_MAX));
        let answer = self.client.send_request(format!("$JS.API.{what}"), request);
        let answer = answer.await.map_err(|error| wire::silent(&error))?;
        serde_json::from_slice(&answer.payload).map_err(|_| wire::unreadable())
    }
}

impl JetStream {
    fn named(&self, verb: &str) -> String {
        format!("CONSUMER.{verb}.{}.{}", self.servers.stream, self.name)
    }

    /// Asks for records. They come to a subject of this request alone.
    async fn ask_for_more(&self) -> Result<Asked, Away> {
        let client = &self.servers.client;
        let reply = client.new_inbox();
        let incoming = client.subscribe(reply.clone()).await;
        let incoming = incoming.map_err(|error| wire::silent(&error))?;
        let asked = json!({
            "batch": RECORDS_MAX,
            "max_bytes": REQUEST_BYTES_MAX,
            "expires": wire::nanos(REQUEST_LASTS),
            "idle_heartbeat": wire::nanos(self.servers.options.heartbeat),
        });
        let subject = format!("$JS.API.{}", self.named("MSG.NEXT"));
        let asking = client.publish_with_reply(subject, reply, asked.to_string().into());
        asking.await.map_err(|error| wire::silent(&error))?;
        Ok(Asked {
            incoming,
            left: RECORDS_MAX,
            heard: Instant::now(),
        })
    }

    fn read(&mut self, message: &Message) -> Result<(u64, Record), Away> {
        let number = message.reply.as_deref().and_then(wire::number_of_reply);
        let (Some(number), Some(reply)) = (number, message.reply.clone()) else {
            return Err(wire::unreadable());
        };
        let record = wire::record(message).ok_or_else(|| {
            Away(format!(
                "record {number} of the stream {} is not one of the feed: somebody else wrote into it",
                self.servers.stream
            ))
        })?;
        self.replies.insert(number, reply);
        while self.replies.len() > 2 * UNDER_WAY_MAX {
            self.replies.pop_first();
        }
        Ok((number, record))
    }
}

#[async_trait]
impl Consumer for JetStream {
    async fn span(&self) -> Result<Option<Span>, Away> {
        let asked = format!("STREAM.INFO.{}", self.servers.stream);
        let answer = self.servers.ask(&asked, &Value::Null).await?;
        wire::answered(answer)?.as_ref().map(wire::span).transpose()
    }

    /// The server that leads is asked: others may not have the newest yet.
    async fn at(&self, number: u64) -> Result<Option<(u64, Mark)>, Away> {
        let asked = json!({
            "seq": number.max(1),
            "next_by_subj": self.servers.options.prefix.fed(">"),
        });
        let subject = format!("STREAM.MSG.GET.{}", self.servers.stream);
        let answer = self.servers.ask(&subject, &asked).await?;
        wire::answered(answer)?
            .as_ref()
            .map(wire::found)
            .transpose()
    }

    async fn standing(&self) -> Result<Option<Standing>, Away> {
        let answer = self.servers.ask(&self.named("INFO"), &Value::Null).await?;
        wire::answered(answer)?
            .as_ref()
            .map(wire::standing)
            .transpose()
    }

    async fn make(&mut self, behind: u64) -> Result<(), Away> {
        let config = json!({
            "durable_name": self.name,
            "name": self.name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": behind + 1,
            "ack_policy": "all",
            "ack_wait": wire::nanos(2 * self.servers.options.heartbeat),
            "max_deliver": -1,
            "max_ack_pending": UNDER_WAY_MAX,
            "replay_policy": "instant",
        });
        let asked =
            json!({"stream_name": self.servers.stream, "config": config, "action": "create"});
        let answer = self.servers.ask(&self.named("CREATE"), &asked).await?;
        if wire::answered(answer)?.is_none() {
            return Err(Away(format!("there is no stream {}", self.servers.stream)));
        }
        // Those of another making would acknowledge what was never sent.
        self.replies.clear();
        self.request = None;
        Ok(())
    }

    async fn pull(&mut self, wait: Duration) -> Result<Pulled, Away> {
        let until = Instant::now() + wait;
        let silence_max = 2 * self.servers.options.heartbeat;
        let mut request = match self.request.take() {
            Some(request) => request,
            None => self.ask_for_more().await?,
        };
        let mut records = Vec::new();
        loop {
            let silent = request.heard + silence_max;
            let next = match records.is_empty() {
                true => timeout_at(silent.min(until), request.incoming.next()).await,
                // What came with the first, and no more.
                false => Ok(match request.incoming.next().now_or_never() {
                    Some(next) => next,
                    None => break,
                }),
            };
            let message = match next {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(Pulled::Over),
                Err(_) if Instant::now() >= silent => {
                    // What comes for it all the same comes again.
                    drop(request);
                    self.servers.connect_again().await?;
                    return Ok(Pulled::Over);
                }
                Err(_) => break,
            };
            request.heard = Instant::now();
            match message.status.map(|status| status.as_u16()) {
                None => {
                    records.push(self.read(&message)?);
                    request.left -= 1;
                    if request.left == 0 {
                        return Ok(Pulled::Records(records));
                    }
                }
                Some(wire::HEARTBEAT) => {}
                Some(wire::NOTHING | wire::TIME_IS_OVER) => return Ok(Pulled::Records(records)),
                // Whatever it is: when it lasts it is found by whoever looks.
                Some(_) if records.is_empty() => {
                    tokio::time::sleep(PAUSE).await;
                    return Ok(Pulled::Over);
                }
                Some(_) => return Ok(Pulled::Records(records)),
            }
        }
        self.request = Some(request);
        Ok(Pulled::Records(records))
    }

    async fn acknowledge(&mut self, number: u64) -> Result<Option<u64>, Away> {
        let Some((number, reply)) = self.replies.range(..=number).next_back() else {
            return Ok(None);
        };
        let (number, reply) = (*number, reply.clone());
        let request = Request::new()
            .payload(Bytes::from_static(b"+ACK"))
            .timeout(Some(ANSWER_MAX));
        let answer = self.servers.client.send_request(reply, request).await;
        answer.map_err(|error| wire::silent(&error))?;
        self.replies = self.replies.split_off(&(number + 1));
        Ok(Some(number))
    }

    async fn remove(&mut self) -> Result<bool, Away> {
        let answer = self
            .servers
            .ask(&self.named("DELETE"), &Value::Null)
            .await?;
        Ok(wire::answered(answer)?.is_some())
    }
}

#[cfg(all(test, unix))]
mod tests;
