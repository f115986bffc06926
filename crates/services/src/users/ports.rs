//! What users need: a store of profiles.

use async_trait::async_trait;
use tertulia_kit::error::Result;

use super::model::User;
use crate::ids::UserId;

/// Keeps the profiles. They are made together with their accounts, through the store of accounts; what that
/// store has committed is seen here by every read that begins later.
///
/// Every method fails with `STORE_UNAVAILABLE` when the engine does.
#[async_trait]
pub trait ProfileStore: Send + Sync + 'static {
    /// The users of these ids that exist, in no order. An id that is named twice may be answered once.
    async fn by_ids(&self, ids: &[UserId]) -> Result<Vec<User>>;

    /// The same for who looks at them. Here a change may be seen later, for a time that is bounded, where nothing
    /// depends on it: not for what somebody has hidden, and not for whether somebody is there.
    async fn shown(&self, ids: &[UserId]) -> Result<Vec<User>> {
        self.by_ids(ids).await
    }

    /// Changes what is set, in one commit, and gives the profile after it; none when there is no such user.
    /// The search words are replaced together with the display name. When this returns, the change is on disk.
    async fn update(&self, update: Update) -> Result<Option<User>>;

    /// At most `limit` users, without `except`, of whom a search word begins with `prefix`: first those whose
    /// name begins with it, by name (so that the exact name is the first of all), then the others by name.
    /// `prefix` is folded like the words and not empty. Among the others an adapter may look at no more than
    /// the first [`WORDS_MAX`] users that it meets, so that a short prefix costs no walk through everybody.
    async fn search(&self, prefix: &str, except: UserId, limit: usize) -> Result<Vec<User>>;
}

/// How many users a search must look at for a word of the display name.
pub const WORDS_MAX: usize = 1_000;

/// A change of a profile that keeps the rules.
#[derive(Debug, Clone)]
pub struct Update {
    /// Whose.
    pub user: UserId,
    /// What others see from now on, when that changes.
    pub shown: Option<Shown>,
    /// The words about the user from now on, when they change.
    pub about: Option<String>,
    /// Whether others may know what the user has seen, when that changes.
    pub shares_seen: Option<bool>,
    /// Whether others may know whether the user is there, when that changes.
    pub shares_presence: Option<bool>,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A display name with what it is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What others see.
    pub display_name: String,
    /// Folded texts without repeats; the user is found by a prefix of any of them.
    pub search_words: Vec<String>,
}
