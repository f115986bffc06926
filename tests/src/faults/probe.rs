//! Somebody with a good network who asks the server all the time and judges each answer (I8): what is read
//! has no hole, does not go back, and has everything that was acknowledged before the question; an error
//! says that another try may help.

use std::time::{Duration, Instant};

use anyhow::Result;
use tertulia_client::{Client, Error, Options};
use tertulia_proto::chats::__buffa::oneof::list_events_request::From as Start;
use tertulia_proto::chats::ListEventsResponse;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::checker::Violation;
use crate::town::{News, password, quick};

/// How long between two questions.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an answer may take, on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(12);
/// How many wrong answers are kept; more are as bad.
const FINDINGS_MAX: usize = 100;
/// How many events before the end of the log are asked for.
const TAIL: i64 = 20;

/// What the one who asks puts up with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    /// No answer, of a server that stands still.
    pub silence: bool,
    /// That the login is over, of a server whose clock jumps.
    pub signed_out: bool,
}

/// The one who asks.
pub struct Probe {
    stop: watch::Sender<bool>,
    asking: JoinHandle<Asked>,
}

/// What became of the questions.
#[derive(Debug, Default)]
pub struct Asked {
    /// Answered, and rightly so.
    pub right: usize,
    /// Answered by an error that may be tried again, or not at all.
    pub later: usize,
    /// How long the slowest took.
    pub slowest: Duration,
    /// Everything else.
    pub wrong: Vec<Violation>,
}

impl Probe {
    /// Signs in as `account`, a member of `chat`, and begins to ask.
    ///
    /// # Errors
    /// When the account can not be signed in.
    pub async fn start(
        url: &str,
        account: &str,
        chat: i64,
        news: News,
        allowed: Allowed,
    ) -> Result<Probe> {
        let options = Options {
            call_timeout: ANSWER_MAX,
            ..quick()
        };
        // It never connects: every question is a call over HTTP.
        let client = Client::builder(url).options(options).build()?;
        client.sign_in(account, &password(account)).await?;
        let stop = watch::Sender::new(false);
        let asking = Asking {
            client,
            account: account.to_owned(),
            chat,
            news,
            allowed,
            head: 0,
            asked: Asked::default(),
        };
        let asking = tokio::spawn(asking.run(stop.subscribe()));
        Ok(Probe { stop, asking })
    }

    /// Stops asking.
    pub async fn stop(self) -> Asked {
        self.stop.send_replace(true);
        self.asking.await.expect("the probe does not panic")
    }
}

struct Asking {
    client: Client,
    account: String,
    chat: i64,
    news: News,
    allowed: Allowed,
    /// How far the log was known to go.
    head: i64,
    asked: Asked,
}

impl Asking {
    async fn run(mut self, mut stop: watch::Receiver<bool>) -> Asked {
        while !*stop.borrow() {
            let acked = self.news.acked_head(self.chat);
            let after = (self.head - TAIL).max(0);
            let began = Instant::now();
            let page = self
                .client
                .history(self.chat, Start::AfterSeq(after), 100)
                .await;
            self.asked.slowest = self.asked.slowest.max(began.elapsed());
            let wrong = match page {
                Ok(page) => self.answer(&page, after, acked),
                Err(error) => self.error(error).await,
            };
            match wrong {
                Some(wrong) if self.asked.wrong.len() < FINDINGS_MAX => {
                    self.asked.wrong.push(Violation::Dishonest(wrong));
                }
                _ => {}
            }
            _ = tokio::time::timeout(PAUSE, stop.changed()).await;
        }
        self.asked
    }

    /// What is wrong with a page.
    fn answer(&mut self, page: &ListEventsResponse, after: i64, acked: i64) -> Option<String> {
        let seqs: Vec<i64> = page.events.iter().map(|event| event.seq).collect();
        let (head, before) = (page.head, self.head);
        self.head = before.max(head);
        if head < acked || head < before {
            return Some(format!(
                "a log ends at {head}, after {acked} was acknowledged and {before} read"
            ));
        }
        let whole = seqs.iter().copied().eq((after + 1..).take(seqs.len()));
        if !whole || (seqs.is_empty() && head > after) {
            return Some(format!(
                "a page after {after} of a log up to {head} has {seqs:?}"
            ));
        }
        self.asked.right += 1;
        None
    }

    /// What is wrong with an error.
    async fn error(&mut self, error: Error) -> Option<String> {
        match error {
            Error::SignedOut if self.allowed.signed_out => {
                // Refused while the server is down; then the next question comes here again.
                _ = self
                    .client
                    .sign_in(&self.account, &password(&self.account))
                    .await;
            }
            Error::Timeout(waited) if !self.allowed.silence => {
                return Some(format!("no answer in {waited:?}"));
            }
            error if error.is_retryable() => {}
            error if error.reason().is_some() && self.allowed.signed_out => {}
            error => {
                return Some(format!(
                    "an error that helps nobody: {error} ({:?})",
                    error.reason()
                ));
            }
        }
        self.asked.later += 1;
        None
    }
}
