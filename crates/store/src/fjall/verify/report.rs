//! What a check tells.

use std::fmt;

use sha2::{Digest as _, Sha256};
use tertulia_kit::error::Failure;
use tertulia_services::chats::{Position, Seq};
use tertulia_services::ids::{ChatId, UserId};

/// How many problems are told in words; all are counted.
pub const PROBLEMS_MAX: usize = 1_000;

/// How far a check has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A chat was checked.
    Chat(ChatDigest),
    /// The own logs of so many users were checked.
    OwnLogs(u64),
    /// So many rows were checked that say where something is.
    Index(u64),
    /// So many send keys were checked.
    SendKeys(u64),
}

/// A chat's log in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatDigest {
    /// Which.
    pub chat: ChatId,
    /// Where its log ends.
    pub head: Seq,
    /// The digest of its whole log, as `services::chats::digest` makes it, with nothing hidden.
    pub digest: [u8; 16],
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The commit that was checked.
    pub position: Position,
    /// How many chats there are.
    pub chats: u64,
    /// How many events they have.
    pub events: u64,
    /// How many users have a log of their own.
    pub users: u64,
    /// How many events those have.
    pub user_events: u64,
    /// How many sendings are known.
    pub send_keys: u64,
    /// The first 16 bytes of SHA-256 over the id (8 bytes, big-endian) and the digest of every chat, by id.
    /// Two stores with the same logs have the same.
    pub digest: [u8; 16],
    /// The first problems, at most [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many there are.
    pub problem_count: u64,
}

/// Something that is not as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In which chat, when it is of one.
    pub chat: Option<ChatId>,
    /// Of which user, when it is of one.
    pub user: Option<UserId>,
    /// At which event, when it is of one.
    pub seq: Option<Seq>,
    /// In words.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(chat) = self.chat {
            write!(f, "chat {chat}, ")?;
        }
        if let Some(user) = self.user {
            write!(f, "user {user}, ")?;
        }
        if let Some(seq) = self.seq {
            write!(f, "seq {seq}, ")?;
        }
        f.write_str(&self.what)
    }
}

/// A report in the making.
pub struct Notes {
    report: Report,
    index_rows: u64,
    sha: Sha256,
}

impl Notes {
    pub fn new(position: u64) -> Notes {
        Notes {
            report: Report {
                position: Position(position),
                chats: 0,
                events: 0,
                users: 0,
                user_events: 0,
                send_keys: 0,
                digest: [0; 16],
                problems: Vec::new(),
                problem_count: 0,
            },
            index_rows: 0,
            sha: Sha256::new(),
        }
    }

    pub fn position(&self) -> u64 {
        self.report.position.0
    }

    pub fn report(mut self) -> Report {
        self.report
            .digest
            .copy_from_slice(&self.sha.finalize()[..16]);
        self.report
    }

    pub fn add_digest(&mut self, digest: &ChatDigest) {
        self.report.chats += 1;
        self.sha.update(digest.chat.0.to_be_bytes());
        self.sha.update(digest.digest);
    }

    pub fn add_event(&mut self) {
        self.report.events += 1;
    }

    pub fn add_user(&mut self) {
        self.report.users += 1;
    }

    pub fn add_user_event(&mut self) {
        self.report.user_events += 1;
    }

    pub fn add_index_row(&mut self) {
        self.index_rows += 1;
    }

    pub fn add_send_key(&mut self) {
        self.report.send_keys += 1;
    }

    pub fn users(&self) -> u64 {
        self.report.users
    }

    pub fn index_rows(&self) -> u64 {
        self.index_rows
    }

    pub fn send_keys(&self) -> u64 {
        self.report.send_keys
    }

    pub fn of_chat(&mut self, chat: ChatId, what: impl Into<String>) {
        self.note(Some(chat), None, None, what);
    }

    pub fn of_event(&mut self, chat: ChatId, seq: Seq, what: impl Into<String>) {
        self.note(Some(chat), None, Some(seq), what);
    }

    pub fn of_member(&mut self, chat: ChatId, user: UserId, what: impl Into<String>) {
        self.note(Some(chat), Some(user), None, what);
    }

    pub fn of_user(&mut self, user: UserId, seq: Option<Seq>, what: impl Into<String>) {
        self.note(None, Some(user), seq, what);
    }

    /// A problem that was put into words elsewhere.
    pub fn add(&mut self, problem: Problem) {
        self.note(problem.chat, problem.user, problem.seq, problem.what);
    }

    pub fn of_nobody(&mut self, what: impl Into<String>) {
        self.note(None, None, None, what);
    }

    pub fn unreadable(&mut self, what: &str, why: &Failure) {
        let why = why.cause_chain().unwrap_or_else(|| why.to_string());
        self.of_nobody(format!("{what} can not be read: {why}"));
    }

    /// The same for a table whose reading ended early.
    pub fn unreadable_rows(&mut self, table: &str, why: Option<&Failure>) {
        if let Some(why) = why {
            self.unreadable(&format!("the rest of the table {table}"), why);
        }
    }

    fn note(
        &mut self,
        chat: Option<ChatId>,
        user: Option<UserId>,
        seq: Option<Seq>,
        what: impl Into<String>,
    ) {
        self.report.problem_count += 1;
        if self.report.problems.len() < PROBLEMS_MAX {
            self.report.problems.push(Problem {
                chat,
                user,
                seq,
                what: what.into(),
            });
        }
    }
}
