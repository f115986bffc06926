//! The nouns of users.

use crate::ids::UserId;

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Whose.
    pub id: UserId,
    /// The unique name, in small letters.
    pub name: String,
    /// What others see.
    pub display_name: String,
    /// A few words about the user.
    pub about: String,
    /// Others may know what the user has seen. Only the user is told.
    pub shares_seen: bool,
    /// Others may know whether the user is there, and the user of them. Only the user is told.
    pub shares_presence: bool,
}

/// What to change of a profile; what is not set stays as it is.
#[derive(Debug, Clone, Default)]
pub struct ProfileChange {
    /// What others see.
    pub display_name: Option<String>,
    /// A few words; empty clears them.
    pub about: Option<String>,
    /// Whether others may know what the user has seen, from now on.
    pub shares_seen: Option<bool>,
}

/// The people that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Best first.
    pub users: Vec<User>,
    /// There are more than these.
    pub more: bool,
}
