//! The log as a stream of JetStream. Each record names the number behind which it belongs, and the server refuses it
//! elsewhere; so many may be under way at once. Its mark is in its headers.
//!
//! The stream is made when it is not there, also when somebody has removed it or the server has lost its disk. One that
//! is there stays as it is set.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap, Request};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use serde::Deserialize;
use serde_json::json;

use super::{End, Mark, Record, Stream, Trouble};
use crate::bus::nats::{Address, Prefix};

/// How long an answer may take. What is written is synced by several servers.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How many records are under way at once: few enough to be sent in one go, so that they leave in their order.
const IN_FLIGHT_MAX: usize = 24;
/// What the server says of a record that is not for the end.
const WRONG_LAST_NUMBER: u64 = 10_071;
/// What it says of a stream that is not there.
const NOT_FOUND: u64 = 10_059;
/// Headers of a record.
pub(super) const EPOCH: &str = "Tertulia-Epoch";
pub(super) const PLACE: &str = "Tertulia-Place";
pub(super) const PREV: &str = "Tertulia-Prev";
const EXPECTED: &str = "Nats-Expected-Last-Sequence";

/// Where the stream is, and how it is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The servers, and what this node signs in with.
    pub address: Address,
    /// What the subjects of this deployment begin with.
    pub prefix: Prefix,
    /// On how many servers each record is.
    pub replicas: usize,
    /// For how long a record is kept.
    pub keep: Duration,
}

/// The stream.
#[derive(Debug, Clone)]
pub struct JetStream {
    client: Client,
    options: Options,
    name: String,
}

/// What the server answers: what was asked for, or an error.
#[derive(Deserialize)]
struct Answer {
    error: Option<Refusal>,
    state: Option<Kept>,
    config: Option<Set>,
    #[serde(rename = "seq")]
    number: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    err_code: Option<u64>,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Kept {
    messages: u64,
    #[serde(rename = "last_seq")]
    last: u64,
}

#[derive(Deserialize)]
struct Set {
    num_replicas: usize,
    storage: String,
}

impl JetStream {
    /// Connects as soon as it can.
    ///
    /// # Errors
    /// When the client can not be made.
    pub async fn connect(options: Options) -> Result<JetStream, Trouble> {
        let (inbox, settings) = (options.prefix.inbox(), ConnectOptions::new());
        let connecting = options.address.connect("tertulia feed", &inbox, settings);
        let client = connecting.await.map_err(|error| away(&error))?;
        Ok(JetStream {
            client,
            name: options.prefix.stream(),
            options,
        })
    }

    /// What the stream is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    async fn ask(&self, subject: String, body: Bytes) -> Result<Answer, Trouble> {
        let request = Request::new().payload(body).timeout(Some(ANSWER_MAX));
        let answer = self.client.send_request(subject, request).await;
        read(&answer.map_err(|error| away(&error))?.payload)
    }

    /// Makes it when it is not there; gives how much is in it.
    async fn made(&self) -> Result<Kept, Trouble> {
        let name = &self.name;
        let there = self.ask(format!("$JS.API.STREAM.INFO.{name}"), Bytes::new());
        let there = there.await?;
        let answer = match &there.error {
            Some(error) if error.err_code == Some(NOT_FOUND) => {
                tracing::warn!(
                    stream = name,
                    "there is no stream {name} for the feed: making it"
                );
                let config = json!({
                    "name": name,
                    "subjects": [self.options.prefix.fed(">")],
                    "storage": "file",
                    "retention": "limits",
                    "discard": "old",
                    "num_replicas": self.options.replicas,
                    "max_age": u64::try_from(self.options.keep.as_nanos()).unwrap_or(0),
                    "allow_direct": true,
                });
                let made = format!("$JS.API.STREAM.CREATE.{name}");
                self.ask(made, config.to_string().into()).await?
            }
            _ => there,
        };
        if let Some(error) = answer.error {
            return Err(Trouble::Away(error.description));
        }
        if let Some(set) = answer.config
            && (set.num_replicas < self.options.replicas || set.storage != "file")
        {
            tracing::warn!(
                stream = name,
                replicas = set.num_replicas,
                "the stream {name} is kept less safely than feed.jetstream_replicas says"
            );
        }
        answer.state.ok_or_else(unreadable)
    }
}

#[async_trait]
impl Stream for JetStream {
    async fn end(&self) -> Result<End, Trouble> {
        let kept = self.made().await?;
        let number = kept.last;
        if kept.messages == 0 {
            return Ok(End { number, last: None });
        }
        let asked = json!({"seq": number}).to_string();
        let request = Request::new()
            .payload(asked.into())
            .timeout(Some(ANSWER_MAX));
        let subject = format!("$JS.API.DIRECT.GET.{}", self.name);
        let last = self.client.send_request(subject, request).await;
        let last = last.map_err(|error| away(&error))?;
        let number_of = |name| {
            let value = last.headers.as_ref()?.get(name)?;
            value.as_str().parse::<u64>().ok()
        };
        // A server that lags may not have it yet.
        let mark = number_of(EPOCH).zip(number_of(PLACE));
        let (epoch, place) = mark.ok_or_else(unreadable)?;
        let last = Some(Mark { epoch, place });
        Ok(End { number, last })
    }

    async fn append(&self, behind: End, records: Vec<Record>) -> Result<End, Trouble> {
        let mut end = behind;
        for records in records.chunks(IN_FLIGHT_MAX) {
            end = self.append_few(end, records).await?;
        }
        Ok(end)
    }
}

impl JetStream {
    async fn append_few(&self, behind: End, records: &[Record]) -> Result<End, Trouble> {
        let mut end = behind;
        let appending = records.iter().zip(behind.number..).map(|(record, number)| {
            let mut headers = HeaderMap::new();
            headers.insert(EXPECTED, number.to_string());
            headers.insert(EPOCH, record.mark.epoch.to_string());
            headers.insert(PLACE, record.mark.place.to_string());
            headers.insert(PREV, record.prev.to_string());
            let request = Request::new()
                .payload(record.body.clone().into())
                .headers(headers)
                .timeout(Some(ANSWER_MAX));
            let subject = self.options.prefix.fed(&record.kind);
            async move {
                let answer = self.client.send_request(subject, request).await;
                let answer = read(&answer.map_err(|error| away(&error))?.payload)?;
                match (answer.error, answer.number) {
                    (None, Some(number)) => Ok((number, record.mark)),
                    (Some(error), _) if error.err_code == Some(WRONG_LAST_NUMBER) => {
                        Err(Trouble::Moved)
                    }
                    (Some(error), _) => Err(Trouble::Away(error.description)),
                    (None, None) => Err(unreadable()),
                }
            }
        });
        for appended in join_all(appending).await {
            let (number, mark) = appended?;
            end = End {
                number,
                last: Some(mark),
            };
        }
        Ok(end)
    }
}

fn read(body: &[u8]) -> Result<Answer, Trouble> {
    serde_json::from_slice(body).map_err(|_| unreadable())
}

fn unreadable() -> Trouble {
    Trouble::Away("JetStream answers what can not be read".into())
}

fn away(error: &dyn std::error::Error) -> Trouble {
    Trouble::Away(format!("JetStream does not answer: {error}"))
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

    use super::*;
    use crate::instances::nats::Instance;
    use crate::stream::suite::{self, record};

    async fn stream(server: &Instance) -> JetStream {
        let options = Options {
            address: server.url().parse().unwrap(),
            prefix: "a.test".parse().unwrap(),
            replicas: 1,
            keep: Duration::from_secs(3_600),
        };
        JetStream::connect(options).await.unwrap()
    }

    fn server(folder: &tempfile::TempDir) -> Instance {
        let folder = folder.path().display().to_string();
        Instance::with(&["--jetstream", "--store_dir", &folder])
    }

    #[tokio::test]
    async fn jetstream_keeps_the_promises_of_a_stream() {
        let folder = tempfile::tempdir().unwrap();
        let server = server(&folder);
        suite::run(&stream(&server).await, &stream(&server).await).await;
    }

    #[tokio::test]
    async fn a_server_that_is_killed_keeps_it_and_one_that_is_emptied_gets_it_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut server = server(&folder);
        let stream = stream(&server).await;
        let empty = stream.end().await.unwrap();
        let end = stream
            .append(empty, vec![record(1), record(4)])
            .await
            .unwrap();
        server.kill();
        assert!(matches!(stream.end().await, Err(Trouble::Away(_))));
        server.restart();
        assert_eq!(came_back(&stream).await, end);

        server.kill();
        std::fs::remove_dir_all(folder.path().join("jetstream")).unwrap();
        server.restart();
        assert_eq!(came_back(&stream).await, empty);
        let late = stream.append(end, vec![record(6)]).await;
        assert_eq!(late, Err(Trouble::Moved));
    }

    /// Where it ends when it answers again.
    async fn came_back(stream: &JetStream) -> End {
        loop {
            if let Ok(end) = stream.end().await {
                return end;
            }
        }
    }

    #[tokio::test]
    async fn a_server_without_jetstream_is_said() {
        let server = Instance::start();
        let stream = stream(&server).await;
        let Err(Trouble::Away(why)) = stream.end().await else {
            panic!("there is no JetStream");
        };
        assert!(why.contains("JetStream"), "{why}");
    }
}
