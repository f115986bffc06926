//! What identity needs: a store of accounts and logins, and somebody to tell when a login ends.

use std::fmt;

use async_trait::async_trait;
use tertulia_kit::error::Result;

use crate::ids::{LoginId, UserId};
use crate::users::ports::Shown;

/// Keeps accounts and logins. A password is kept as its hash, a refresh token as its SHA-256.
///
/// Every method fails with `STORE_UNAVAILABLE` when the engine does and with `OVERLOADED` when too many wait
/// for it; after `OVERLOADED` nothing was written. After any other failure of a write the outcome is unknown.
/// When a write returns, it is on disk, and every read that begins later sees it.
#[async_trait]
pub trait AccountStore: Send + Sync + 'static {
    /// Makes an account, its user's profile and its first login in one commit; or nothing, when the name
    /// belongs to somebody. Of two calls at once for one name, one is told so.
    async fn create(&self, new: CreateAccount) -> Result<Created>;

    /// The account of a name in small letters.
    async fn by_name(&self, name: &str) -> Result<Option<Account>>;

    /// Replaces the password's hash, when it is still `from`; else nothing changes, because somebody has set
    /// another password meanwhile.
    async fn rehash(&self, user: UserId, from: &PasswordHash, to: &PasswordHash) -> Result<()>;

    /// Adds a login to an account that exists. In the same commit, ends the oldest logins of the user until
    /// `keep.open_max` are open, this one among them, and gives those that it ended; and forgets the user's
    /// logins that ended or expired before `keep.since_ms`. The time of the ends is the new login's time.
    async fn add_login(&self, new: NewLogin, keep: Keep) -> Result<Vec<LoginId>>;

    /// The login, ended or not, until it is forgotten.
    async fn login(&self, login: LoginId) -> Result<Option<LoginRecord>>;

    /// Exchanges the refresh token of a login, when `from` is its newest one and the login is not ended:
    /// `from` becomes the spent one, `to` the newest. False when not; then nothing changes. Of two calls at
    /// once with the same `from`, one is told so.
    async fn rotate(&self, rotation: Rotation) -> Result<bool>;

    /// The user's logins that are not ended and whose refresh token is good after `now_ms`, newest first.
    async fn logins(&self, user: UserId, now_ms: i64) -> Result<Vec<LoginRecord>>;

    /// Ends a login. False, and nothing changes, when it is not there, not of this user, or already ended.
    async fn end_login(&self, user: UserId, login: LoginId, at_ms: i64) -> Result<bool>;

    /// The logins that ended at `since_ms` or later, with the time of the end, in no order.
    async fn ended_since(&self, since_ms: i64) -> Result<Vec<(LoginId, i64)>>;

    /// Forgets at most `limit` logins, of any users, that ended or expired before `before_ms`; how many that were.
    async fn forget_logins(&self, before_ms: i64, limit: usize) -> Result<usize>;
}

/// Hears that a login has ended, after that is on disk, so that its live sessions close at once. Called
/// again for a login that ended before; must not wait.
pub trait LoginsEnded: Send + Sync + 'static {
    /// The login has ended.
    fn login_ended(&self, user: UserId, login: LoginId);
}

/// An account to be made, with the first values of its profile.
#[derive(Debug, Clone)]
pub struct CreateAccount {
    /// The user that it gets.
    pub user: UserId,
    /// The unique name, in small letters.
    pub name: String,
    /// Its password.
    pub password: PasswordHash,
    /// What others see, and what the user is found by.
    pub shown: Shown,
    /// The first login.
    pub login: NewLogin,
}

/// What became of an account to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is there.
    Done,
    /// The name belongs to somebody.
    NameTaken,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its user.
    pub user: UserId,
    /// Its password.
    pub password: PasswordHash,
}

/// A password as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    /// Algorithm, parameters, salt and hash.
    pub phc: String,
    /// Which pepper is in it.
    pub pepper_id: String,
}

/// A login to be added.
#[derive(Debug, Clone)]
pub struct NewLogin {
    /// Its id.
    pub id: LoginId,
    /// Whose it is.
    pub user: UserId,
    /// The device.
    pub device_id: String,
    /// The name that the device gave itself.
    pub device_name: String,
    /// Now, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When its refresh token ends, in milliseconds since 1970.
    pub expires_at_ms: i64,
    /// What its refresh tokens grow from.
    pub family: Family,
    /// Its first refresh token.
    pub refresh: TokenHash,
}

/// What the refresh tokens of one login grow from; without the pepper it tells nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Family {
    /// Random.
    pub seed: [u8; 32],
    /// Which pepper the key is made with.
    pub pepper_id: String,
}

/// The SHA-256 of a refresh token.
pub type TokenHash = [u8; 32];

/// A login as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRecord {
    /// Its id.
    pub id: LoginId,
    /// Whose it is.
    pub user: UserId,
    /// The device.
    pub device_id: String,
    /// The name that the device gave itself.
    pub device_name: String,
    /// When it signed in, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When its tokens were last refreshed, in milliseconds since 1970; at first, when it signed in.
    pub refreshed_at_ms: i64,
    /// When its refresh token ends, in milliseconds since 1970.
    pub expires_at_ms: i64,
    /// When it ended, in milliseconds since 1970, if it did.
    pub ended_at_ms: Option<i64>,
    /// What its refresh tokens grow from.
    pub family: Family,
    /// The newest refresh token.
    pub refresh: TokenHash,
    /// The one before it, if there was one. It was spent at `refreshed_at_ms`.
    pub spent: Option<TokenHash>,
}

/// How many logins of a user stay, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// How many are open at most; above 0.
    pub open_max: usize,
    /// What ended or expired before this, in milliseconds since 1970, is forgotten.
    pub since_ms: i64,
}

/// An exchange of refresh tokens.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// The login.
    pub login: LoginId,
    /// The token that is spent.
    pub from: TokenHash,
    /// The token that follows it.
    pub to: TokenHash,
    /// Now, in milliseconds since 1970.
    pub at_ms: i64,
    /// When the new token ends, in milliseconds since 1970.
    pub expires_at_ms: i64,
}

impl NewLogin {
    /// The login that it becomes.
    pub fn into_record(self) -> LoginRecord {
        LoginRecord {
            id: self.id,
            user: self.user,
            device_id: self.device_id,
            device_name: self.device_name,
            created_at_ms: self.created_at_ms,
            refreshed_at_ms: self.created_at_ms,
            expires_at_ms: self.expires_at_ms,
            ended_at_ms: None,
            family: self.family,
            refresh: self.refresh,
            spent: None,
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash")
            .field("pepper_id", &self.pepper_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family")
            .field("pepper_id", &self.pepper_id)
            .finish_non_exhaustive()
    }
}
