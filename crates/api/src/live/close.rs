//! Why a session ends. Saying goodbye is part of the protocol: the code tells a client whether to come back.

/// A reason to close; docs/protocol/live.md has the same table for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// The WebSocket close code.
    pub code: u16,
    /// One word for logs and people.
    pub reason: &'static str,
    /// Whether to connect again with what the client has.
    pub come_back: bool,
}

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = $code:literal $reason:literal $come_back:literal;)*) => {
        $($(#[$doc])* pub const $name: Close = Close { code: $code, reason: $reason, come_back: $come_back };)*
        /// All of them.
        pub const ALL: &[Close] = &[$($name),*];
    };
}

table! {
    /// The frame can not be read, or may not come now.
    BAD_FRAME = 4000 "bad_frame" false;
    /// The first frame did not come in time.
    HELLO_TIMEOUT = 4001 "hello_timeout" true;
    /// The token is not valid.
    NOT_SIGNED_IN = 4003 "not_signed_in" false;
    /// The token is past its time: refresh it, then come back.
    TOKEN_EXPIRED = 4004 "token_expired" true;
    /// The login was ended.
    LOGIN_ENDED = 4005 "login_ended" false;
    /// Whoever operates the server has ended the session.
    KICKED = 4006 "kicked" false;
    /// The user has too many sessions.
    TOO_MANY_SESSIONS = 4008 "too_many_sessions" false;
    /// The node or the address has too many connections.
    RATE_LIMITED = 4009 "rate_limited" true;
    /// The client took nothing for too long.
    SLOW_READER = 4010 "slow_reader" true;
    /// Nothing came from the client for too long.
    IDLE = 4011 "idle" true;
    /// The node stops.
    DRAINING = 4012 "draining" true;
    /// The frame is over the limit.
    FRAME_TOO_LARGE = 4013 "frame_too_large" false;
    /// Whoever operates the server wants the session elsewhere, or at another time.
    MOVED = 4014 "moved" true;
    /// A fault of ours, or a store that does not answer.
    INTERNAL = 4500 "internal" true;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_private_and_used_once() {
        let mut codes: Vec<u16> = ALL.iter().map(|c| c.code).collect();
        assert!(codes.iter().all(|code| (4000..5000).contains(code)));
        codes.dedup();
        assert_eq!(codes.len(), ALL.len());
    }

    #[test]
    fn the_table_for_people_is_the_same() {
        let page = include_str!("../../../../docs/protocol/live.md");
        for close in ALL {
            let row = page
                .lines()
                .find(|l| l.contains(&close.code.to_string()) && l.contains(close.reason));
            assert!(row.is_some(), "{} {} is missing", close.code, close.reason);
        }
    }
}
