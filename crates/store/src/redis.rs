//! What nodes share for a short while, in Redis: how much each caller has spent ([`Ledger`]), who is there
//! ([`Registry`]), and what was read from the store ([`Cache`]). Redis may lose all of it at any time, be slow, or not be there; then each node goes on alone, and
//! nobody else needs to know.
//!
//! One connection serves everybody; [`link`] keeps it. While there is none, a question is answered at once with
//! [`Away`], so that a Redis that hangs is waited for by few and not by every call.

mod address;
mod cache;
mod ledger;
mod link;
mod registry;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind, ToRedisArgs};
use tertulia_kit::lifecycle::Lifecycle;
use tertulia_kit::limit::Away;
use tertulia_kit::metrics::Counter;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

pub use address::{Address, BadAddress};
pub use cache::Cache;
pub use ledger::Ledger;
pub use registry::Registry;

use link::Connection;

/// Where Redis is, and how long it is waited for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The servers, and what this node signs in with.
    pub address: Address,
    /// What the keys of this deployment begin with.
    pub prefix: Prefix,
    /// How long an answer may take. A call of a user may wait for one.
    pub answer_max: Duration,
    /// How long the server may say nothing until it is taken for dead.
    pub silence_max: Duration,
}

impl Options {
    /// The usual bounds.
    pub fn new(address: Address, prefix: Prefix) -> Self {
        Options {
            address,
            prefix,
            answer_max: Duration::from_millis(100),
            silence_max: Duration::from_secs(1),
        }
    }
}

/// How long a prefix may be.
const PREFIX_BYTES_MAX: usize = 64;

/// What the keys of a deployment begin with: letters, digits, `-`, `_`, and `.` or `:` between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

/// It is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "wants at most {PREFIX_BYTES_MAX} letters, digits, - and _, with dots or colons between them"
)]
pub struct BadPrefix;

impl FromStr for Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(plain);
        match text.len() <= PREFIX_BYTES_MAX && text.split(['.', ':']).all(is_word) {
            true => Ok(Prefix(text.to_owned())),
            false => Err(BadPrefix),
        }
    }
}

impl Prefix {
    fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.0)
    }
}

/// Redis, when it is there. Clones share the connection.
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

struct Shared {
    options: Options,
    state: watch::Sender<State>,
    /// Something went wrong: the connection should be looked at now.
    doubt: Notify,
    asked: Counter,
    unanswered: Counter,
}

/// How the link to the server is.
enum State {
    Up(Connection),
    /// It is not there, since then.
    Down(Instant),
}

impl Redis {
    /// Connects as soon as it can and stays connected until the node stops. Does not wait for that: see
    /// [`Redis::connected`].
    pub fn start(options: Options, lifecycle: &Lifecycle) -> Self {
        let shared = Arc::new(Shared {
            options,
            state: watch::Sender::new(State::Down(Instant::now())),
            doubt: Notify::new(),
            asked: Counter::default(),
            unanswered: Counter::default(),
        });
        let (linked, told) = (Arc::clone(&shared), lifecycle.told_loops());
        lifecycle.spawn_loop("redis", move || link::run(linked.clone(), told.clone()));
        Redis(shared)
    }

    /// Waits until it answers.
    pub async fn connected(&self) {
        self.wait_for(|state| matches!(state, State::Up(_))).await;
    }

    /// Waits until it is known not to answer.
    pub async fn disconnected(&self) {
        self.wait_for(|state| matches!(state, State::Down(_))).await;
    }

    async fn wait_for(&self, is_so: impl FnMut(&State) -> bool) {
        // It fails only without a link, and we have one.
        _ = self.0.state.subscribe().wait_for(is_so).await;
    }

    /// Whether it answers, and if not since when.
    ///
    /// # Errors
    /// With words for operators, when it does not.
    pub fn health(&self) -> Result<(), String> {
        match &*self.0.state.borrow() {
            State::Up(_) => Ok(()),
            State::Down(since) => Err(format!(
                "cut off from Redis for {} s: each node counts alone how much a caller may do",
                since.elapsed().as_secs()
            )),
        }
    }

    /// How many questions there were while it was thought to be there.
    pub fn asked(&self) -> u64 {
        self.0.asked.get()
    }

    /// How many of them had no answer in time, or none that could be used.
    pub fn unanswered(&self) -> u64 {
        self.0.unanswered.get()
    }

    /// Runs a script on one key. When there is no answer in time it may have been run or not.
    async fn run<T: FromRedisValue>(
        &self,
        script: &Text,
        key: &str,
        arguments: impl ToRedisArgs + Sync,
    ) -> Result<T, Away> {
        let connection = match &*self.0.state.borrow() {
            State::Up(connection) => connection.clone(),
            State::Down(_) => return Err(Away),
        };
        self.0.asked.add(1);
        let answering = script.run(connection, key, &arguments);
        match timeout(self.0.options.answer_max, answering).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => tracing::debug!(%error, "Redis refuses something"),
            Err(_) => {}
        }
        self.0.unanswered.add(1);
        self.0.doubt.notify_one();
        Err(Away)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// A script, known to the server by its hash after the first time.
struct Text {
    text: &'static str,
    hash: String,
}

impl Text {
    fn new(text: &'static str) -> Self {
        let hash = Script::new(text).get_hash().to_owned();
        Text { text, hash }
    }

    async fn run<T: FromRedisValue>(
        &self,
        mut connection: Connection,
        key: &str,
        arguments: &(impl ToRedisArgs + Sync),
    ) -> Result<T, RedisError> {
        let command = |verb: &str, script: &str| {
            let mut command = redis::cmd(verb);
            command.arg(script).arg(1).arg(key).arg(arguments);
            command
        };
        let known = command("EVALSHA", &self.hash);
        match query(&known, &mut connection).await {
            // It was started anew, or this is a node of a cluster that was never asked.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                query(&command("EVAL", self.text), &mut connection).await
            }
            answer => answer,
        }
    }
}

async fn query<T: FromRedisValue>(
    command: &Cmd,
    connection: &mut Connection,
) -> Result<T, RedisError> {
    command.query_async(connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_words_with_dots_or_colons_between() {
        for good in ["tertulia", "a.b", "prod:chat_1", "x-y"] {
            assert!(good.parse::<Prefix>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a:", ".a", "{a}", "é", &"a".repeat(65)] {
            let words = bad.parse::<Prefix>().unwrap_err().to_string();
            assert!(words.starts_with("wants"), "{words}");
        }
    }
}
