//! Asking all other nodes at once: each that is there does what it is asked, and says what came of it. Who asks knows by
//! the answers whom it reached, and gives up on the others after a time. Questions are sealed as calls are. Nothing is
//! kept for a node that is not there, or cut off.

use std::sync::Arc;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, HeaderMap, StatusCode, Subscriber, service};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::seal::Seen;
use super::{BUSY, Call, Door, Ended, Handler, Options, Refusal, Unanswered};
use super::{connect_with, header, refusal, refused, sealed};
use crate::clock::SharedClock;
use crate::lifecycle::{Kind, Lifecycle};

/// How many answers wait for who asked. Each node gives one, and there are no more nodes than this.
const ANSWERS_MAX: usize = 256;

/// All other nodes.
#[derive(Clone)]
pub struct Everybody {
    client: Client,
    options: Options,
    clock: SharedClock,
}

/// What other nodes answer, until the time of the question is over.
pub struct Answers {
    answers: futures::stream::Take<Subscriber>,
    until: Instant,
}

impl Everybody {
    /// Connects as soon as it can.
    ///
    /// # Errors
    /// When the client can not be made.
    pub async fn connect(options: Options, clock: SharedClock) -> Result<Everybody, Ended> {
        // Who asks does it itself, and is not to hear of it.
        let settings = ConnectOptions::new().no_echo();
        Ok(Everybody {
            client: connect_with(&options, settings).await?,
            options,
            clock,
        })
    }

    /// Does what other nodes ask of everybody, of these services, until this one stops.
    ///
    /// # Errors
    /// When it has to be begun anew.
    pub async fn hear(
        self,
        services: Vec<String>,
        handler: Handler,
        lifecycle: Lifecycle,
    ) -> Result<(), Ended> {
        let stopping = lifecycle.told(Kind::Door);
        let questions = self.client.subscribe(self.options.prefix.asks()).await;
        let mut questions = questions.map_err(|_| Ended)?;
        let door = Arc::new(Door {
            client: self.client.clone(),
            prefix: self.options.prefix.clone(),
            key: self.options.key.clone(),
            seen: Seen::default(),
            handler,
            clock: self.clock.clone(),
        });
        let room = Arc::new(Semaphore::new(self.options.calls_max));
        let services = Arc::new(services);
        loop {
            let question = tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                question = questions.next() => question.ok_or(Ended)?,
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                door.reply(&question, Err(refusal(BUSY))).await;
                continue;
            };
            let (door, services) = (Arc::clone(&door), Arc::clone(&services));
            lifecycle.spawn(Kind::Connection, "question", async move {
                let path = door.prefix.asked(&question.subject).filter(|path| {
                    let service = path.split_once('/').map(|(service, _)| service);
                    services.iter().any(|known| Some(&**known) == service)
                });
                let answer = match door.read(&question, path) {
                    Ok(call) => (door.handler)(call).await,
                    Err(refusal) => Err(refusal),
                };
                door.reply(&question, answer).await;
                drop(place);
            });
        }
    }

    /// Asks. The answers come for as long as the call may take.
    ///
    /// # Errors
    /// When it can not be sent now; then nobody hears of it.
    pub async fn ask(&self, call: Call) -> Result<Answers, Unanswered> {
        let unsent = |problem: String| Unanswered::Unsent(problem);
        // The client would keep it for the time when it is connected again, and who asked would not know.
        if self.client.connection_state() != State::Connected {
            return Err(unsent("cut off from NATS".into()));
        }
        let (service, method) = call
            .path
            .split_once('/')
            .ok_or_else(|| unsent("it names no method".into()))?;
        let subject = self.options.prefix.ask(service, method);
        let headers = sealed(&call, &self.options.key, self.clock.now_ms())?;
        let inbox = self.client.new_inbox();
        let until = Instant::now() + call.timeout;
        let answers = self.client.subscribe(inbox.clone()).await;
        let answers = answers.map_err(|error| unsent(error.to_string()))?;
        self.client
            .publish_with_reply_and_headers(subject, inbox, headers, call.body)
            .await
            .map_err(|error| unsent(error.to_string()))?;
        Ok(Answers {
            answers: answers.take(ANSWERS_MAX),
            until,
        })
    }
}

impl Answers {
    /// The next one; none when nobody is there, or the time is over.
    pub async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        let answer = timeout_at(self.until, self.answers.next()).await.ok()??;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return None;
        }
        Some(match refused(&answer) {
            Some(refusal) => Err(refusal),
            None => Ok(answer.payload),
        })
    }
}

impl Door {
    /// Answers who asked everybody.
    async fn reply(&self, question: &async_nats::Message, answer: Result<Bytes, Refusal>) {
        let Some(inbox) = question.reply.clone() else {
            return;
        };
        let sent = match answer {
            Ok(body) => self.client.publish(inbox, body).await,
            Err(Refusal { code, detail }) => {
                let mut headers = HeaderMap::new();
                headers.insert(service::NATS_SERVICE_ERROR, code.as_str());
                headers.insert(header::DETAIL, detail.as_str());
                let client = &self.client;
                client
                    .publish_with_headers(inbox, headers, Bytes::new())
                    .await
            }
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "a question of another node gets no answer");
        }
        // The last who holds a client takes along what it has not written yet.
        _ = self.client.flush().await;
    }
}
