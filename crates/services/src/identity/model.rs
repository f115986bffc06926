//! The nouns of identity.

use std::fmt;
use std::time::Duration;

use crate::ids::{LoginId, UserId};

/// The longest that an access token may be good for. Ended logins are remembered for so long, and another
/// node that was not told of an end is wrong for no longer.
pub const ACCESS_LIFETIME_MAX: Duration = Duration::from_secs(10 * 60);

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long an access token is good; never more than [`ACCESS_LIFETIME_MAX`].
    pub access_lifetime: Duration,
    /// How long a login lasts that is not refreshed.
    pub refresh_lifetime: Duration,
    /// How long any login lasts, refreshed or not.
    pub login_lifetime: Duration,
    /// How long a spent refresh token still gives the same successor, for two that refresh at once and for
    /// an answer that was lost.
    pub refresh_overlap: Duration,
    /// The memory of one password hash.
    pub argon2_memory_kib: u32,
    /// The passes of one password hash.
    pub argon2_passes: u32,
    /// How many passwords are hashed at once; each takes a core and `argon2_memory_kib`.
    pub hashes_at_once: usize,
    /// How many wait to be hashed; when it is full, more are told that the server is overloaded.
    pub hash_queue_max: usize,
    /// How often the password of one name may be tried in a minute before more must wait.
    pub attempts_per_minute: u32,
    /// How many logins of one account are open; when they are more, the oldest ends.
    pub logins_max: usize,
    /// How many verified access tokens are remembered; when it is full, the oldest are verified again.
    pub verified_tokens_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Options {
            access_lifetime: ACCESS_LIFETIME_MAX,
            refresh_lifetime: 30 * DAY,
            login_lifetime: 365 * DAY,
            refresh_overlap: Duration::from_secs(20),
            argon2_memory_kib: 19_456,
            argon2_passes: 2,
            hashes_at_once: 2,
            hash_queue_max: 64,
            attempts_per_minute: 10,
            logins_max: 100,
            verified_tokens_max: 50_000,
        }
    }
}

/// On what somebody signs in.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// A random id that the client keeps; when empty, one is made for this login.
    pub device_id: String,
    /// What the owner sees in the list of logins.
    pub name: String,
}

/// An account to be made.
#[derive(Clone)]
pub struct NewAccount {
    /// The unique name, in any case.
    pub name: String,
    /// Exactly as typed.
    pub password: String,
    /// What others see; the name when empty.
    pub display_name: String,
    /// The device to sign in on.
    pub device: Device,
}

/// A wish to sign in.
#[derive(Clone)]
pub struct SignIn {
    /// The account's name, in any case.
    pub name: String,
    /// Exactly as typed.
    pub password: String,
    /// The device to sign in on.
    pub device: Device,
}

/// What a signed-in client holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The account's user.
    pub user: UserId,
    /// This login.
    pub login: LoginId,
    /// The device of this login.
    pub device_id: String,
    /// Shows who calls.
    pub access_token: String,
    /// When the access token ends, in milliseconds since 1970.
    pub access_expires_at_ms: i64,
    /// Good for one refresh.
    pub refresh_token: String,
    /// When the refresh token ends, in milliseconds since 1970.
    pub refresh_expires_at_ms: i64,
}

/// A login as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Its id.
    pub id: LoginId,
    /// The name that the device gave itself.
    pub device_name: String,
    /// When it signed in, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When its tokens were last refreshed, in milliseconds since 1970.
    pub refreshed_at_ms: i64,
}

/// A public Ed25519 key that access tokens are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwk {
    /// The key's id, as in a token's header: its thumbprint (RFC 7638).
    pub kid: String,
    /// The key, base64url without padding.
    pub x: String,
}

impl fmt::Debug for NewAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewAccount")
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn")
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}
