//! Ids are types, so that a chat is never taken for a user.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A person.
    UserId
}
id! {
    /// A signed-in device.
    LoginId
}
id! {
    /// A conversation.
    ChatId
}
id! {
    /// Something said.
    MessageId
}
id! {
    /// A message to be sent later.
    ScheduledId
}

impl UserId {
    /// The server itself, where something has no person behind it.
    pub const SERVER: UserId = UserId(0);
}
