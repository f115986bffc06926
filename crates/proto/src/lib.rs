//! The contract: messages, services, clients and validators, all generated from proto/ at build.
//!
//! They live under their package, `tertulia::chats::v1` and so on. [`METHODS`] and [`CATALOGUE`] are the
//! options of the .proto files as tables, so that nobody repeats them by hand.

#![allow(
    warnings,
    clippy::all,
    clippy::pedantic,
    reason = "most of it is generated"
)]

include!(concat!(env!("OUT_DIR"), "/contract.rs"));
include!(concat!(env!("OUT_DIR"), "/tables.rs"));

pub use tertulia::feed::v1 as feed;
pub use tertulia::users::v1 as users;
pub use tertulia::{chats::v1 as chats, control::v1 as control, errors::v1 as errors};
pub use tertulia::{identity::v1 as identity, live::v1 as live, presence::v1 as presence};

/// The whole contract as a `FileDescriptorSet`, for reflection, `tertulia api --schema` and tests.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// A method and its access row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// `package.Service/Method`.
    pub path: &'static str,
    /// Who may call.
    pub caller: Caller,
    /// The field of the request that names the object; empty without one.
    pub object: &'static str,
    /// What the caller must be to the object.
    pub relation: Option<Relation>,
    /// What a member of that chat must be allowed.
    pub right: Option<Right>,
    /// The cost of one call, in units of one cheap read.
    pub weight: u32,
    /// Either side streams.
    pub streams: bool,
    /// Full name of the request message.
    pub input: &'static str,
    /// Full name of the response message.
    pub output: &'static str,
}

/// A kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Signed in or not.
    Anyone,
    /// Signed in.
    User,
    /// Another node, or a service that holds the node key.
    Node,
}

/// What a caller must be to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// A member of the chat.
    ChatMember,
}

/// Something that a member of a chat may do or not; options.proto says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Read,
    Send,
    React,
    Pin,
    DeleteOthers,
    MentionAll,
    ChangeChat,
    AddMembers,
    Invite,
    RemoveMembers,
    ChangeRoles,
}

/// A row of the catalogue of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The name without its prefix, such as `CHAT_NOT_FOUND`.
    pub reason: &'static str,
    /// The number of the enum value.
    pub number: i32,
    /// The status code as Connect spells it.
    pub code: &'static str,
    /// What the caller should do.
    pub what_to_do: &'static str,
    /// The same call may succeed later.
    pub retryable: bool,
}

/// The row of a method, by its path.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS
        .binary_search_by(|m| m.path.cmp(path))
        .ok()
        .map(|at| &METHODS[at])
}

/// The catalogue row of a reason.
pub fn entry(reason: errors::Reason) -> &'static Entry {
    use buffa::Enumeration as _;
    let number = reason.to_i32();
    CATALOGUE
        .iter()
        .find(|e| e.number == number)
        .unwrap_or(&CATALOGUE[22])
}
