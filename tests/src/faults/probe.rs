//! Somebody with a good network who asks the server all the time and judges each answer (I8): what is read
//! has no hole, does not go back, and has everything that was acknowledged before the question; an error
//! says that another try may help.

use std::time::Duration;

use anyhow::Result;
use tertulia_client::{Client, Error, Options};
use tertulia_proto::chats::__buffa::oneof::list_events_request::From as Start;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::checker::Violation;
use crate::town::{News, password, quick};

/// How long between two questions.
const PAUSE: Duration = Duration::from_millis(50);
/// How many wrong answers are kept; more are as bad.
const FINDINGS_MAX: usize = 100;

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
    /// Everything else.
    pub wrong: Vec<Violation>,
}

impl Probe {
    /// Signs in as `account`, a member of `chat`, and begins to ask. When the server may stand still,
    /// silence is an answer as well.
    ///
    /// # Errors
    /// When the account can not be signed in.
    pub async fn start(
        url: &str,
        account: &str,
        chat: i64,
        news: News,
        may_hang: bool,
    ) -> Result<Probe> {
        let options = Options {
            call_timeout: Duration::from_secs(12),
            ..quick()
        };
        // It never connects: every question is a call over HTTP.
        let client = Client::builder(url).options(options).build()?;
        client.sign_in(account, &password(account)).await?;
        let stop = watch::Sender::new(false);
        let asking = tokio::spawn(ask(client, chat, news, may_hang, stop.subscribe()));
        Ok(Probe { stop, asking })
    }

    /// Stops asking.
    pub async fn stop(self) -> Asked {
        self.stop.send_replace(true);
        self.asking.await.expect("the probe does not panic")
    }
}

async fn ask(
    client: Client,
    chat: i64,
    news: News,
    may_hang: bool,
    mut stop: watch::Receiver<bool>,
) -> Asked {
    let mut asked = Asked::default();
    let mut head = 0;
    while !*stop.borrow() {
        let acked = news.acked_head(chat);
        let after = (head - 20).max(0);
        let page = client.history(chat, Start::AfterSeq(after), 100).await;
        let wrong = match page {
            Ok(page) => {
                let seqs: Vec<i64> = page.events.iter().map(|event| event.seq).collect();
                let expected: Vec<i64> = (after + 1..).take(seqs.len()).collect();
                let before = head;
                head = head.max(page.head);
                if page.head < acked || page.head < before {
                    Some(format!(
                        "a log ends at {}, after {acked} was acknowledged and {before} read",
                        page.head
                    ))
                } else if seqs != expected || (seqs.is_empty() && page.head > after) {
                    Some(format!(
                        "a page after {after} of a log up to {} has {seqs:?}",
                        page.head
                    ))
                } else {
                    asked.right += 1;
                    None
                }
            }
            Err(Error::Timeout(waited)) if !may_hang => Some(format!("no answer in {waited:?}")),
            Err(error) if error.is_retryable() => {
                asked.later += 1;
                None
            }
            Err(error) => Some(format!(
                "an error that helps nobody: {error} ({:?})",
                error.reason()
            )),
        };
        if let Some(wrong) = wrong.filter(|_| asked.wrong.len() < FINDINGS_MAX) {
            asked.wrong.push(Violation::Dishonest(wrong));
        }
        _ = tokio::time::timeout(PAUSE, stop.changed()).await;
    }
    asked
}
