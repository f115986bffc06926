//! The failures that a client may see, each by its constructor. Reasons and kinds agree with the
//! catalogue in the contract; a test of the api crate compares them.

use std::time::Duration;

use tertulia_kit::error::{Failure, FieldProblem, Kind};

/// All (kind, reason) pairs that this crate makes, for the comparison with the catalogue.
pub const ALL: &[(Kind, &str)] = &[
    (Kind::InvalidArgument, "INVALID_REQUEST"),
    (Kind::InvalidArgument, "UNREADABLE_REQUEST"),
    (Kind::ResourceExhausted, "TOO_LARGE"),
    (Kind::Unimplemented, "UNKNOWN_METHOD"),
    (Kind::Unauthenticated, "NOT_SIGNED_IN"),
    (Kind::Unauthenticated, "BAD_TOKEN"),
    (Kind::Unauthenticated, "TOKEN_EXPIRED"),
    (Kind::Unauthenticated, "LOGIN_ENDED"),
    (Kind::Unauthenticated, "BAD_REFRESH_TOKEN"),
    (Kind::Unauthenticated, "REFRESH_TOKEN_REUSED"),
    (Kind::Unauthenticated, "WRONG_CREDENTIALS"),
    (Kind::PermissionDenied, "NOT_ALLOWED"),
    (Kind::AlreadyExists, "NAME_TAKEN"),
    (Kind::InvalidArgument, "WEAK_PASSWORD"),
    (Kind::NotFound, "USER_NOT_FOUND"),
    (Kind::NotFound, "CHAT_NOT_FOUND"),
    (Kind::AlreadyExists, "CLIENT_MESSAGE_ID_REUSED"),
    (Kind::ResourceExhausted, "TOO_MANY_REQUESTS"),
    (Kind::Unavailable, "OVERLOADED"),
    (Kind::Unavailable, "DRAINING"),
    (Kind::DeadlineExceeded, "DEADLINE"),
    (Kind::Unavailable, "STORE_UNAVAILABLE"),
    (Kind::Internal, "INTERNAL"),
    (Kind::InvalidArgument, "BAD_CURSOR"),
    (Kind::Unimplemented, "WRONG_TRANSPORT"),
    (Kind::InvalidArgument, "CHAT_WITH_SELF"),
    (Kind::NotFound, "NO_SUCH_ROUTE"),
    (Kind::NotFound, "MESSAGE_NOT_FOUND"),
    (Kind::PermissionDenied, "NOT_YOUR_MESSAGE"),
    (Kind::ResourceExhausted, "TOO_MANY"),
    (Kind::NotFound, "INVITE_NOT_FOUND"),
    (Kind::PermissionDenied, "BANNED"),
    (Kind::NotFound, "NOT_A_MEMBER"),
    (Kind::FailedPrecondition, "DIRECT_CHAT"),
    (Kind::FailedPrecondition, "OWNER_MUST_STAY"),
    (Kind::NotFound, "SCHEDULED_NOT_FOUND"),
    (Kind::InvalidArgument, "BAD_TIME"),
    (Kind::PermissionDenied, "NODES_ONLY"),
    (Kind::PermissionDenied, "USERS_ONLY"),
    (Kind::Unauthenticated, "BAD_NODE_TOKEN"),
    (Kind::NotFound, "NODE_NOT_FOUND"),
    (Kind::FailedPrecondition, "FEED_OFF"),
    (Kind::NotFound, "CONSUMER_NOT_FOUND"),
    (Kind::FailedPrecondition, "FEED_GAP"),
    (Kind::FailedPrecondition, "FEED_RESTARTED"),
];

type Cause = Box<dyn std::error::Error + Send + Sync>;

pub fn invalid_request(fields: Vec<FieldProblem>) -> Failure {
    Failure::new(
        Kind::InvalidArgument,
        "INVALID_REQUEST",
        "the request breaks a rule",
    )
    .with_fields(fields)
}

pub fn invalid_field(path: &str, rule: &str, problem: &str) -> Failure {
    invalid_request(vec![FieldProblem {
        path: path.into(),
        rule: rule.into(),
        problem: problem.into(),
    }])
}

pub fn unreadable_request(words: impl Into<String>) -> Failure {
    Failure::new(Kind::InvalidArgument, "UNREADABLE_REQUEST", words.into())
}

pub fn too_large(words: impl Into<String>) -> Failure {
    Failure::new(Kind::ResourceExhausted, "TOO_LARGE", words.into())
}

pub fn unknown_method() -> Failure {
    Failure::new(
        Kind::Unimplemented,
        "UNKNOWN_METHOD",
        "there is no such method",
    )
}

pub fn wrong_transport() -> Failure {
    let words = "this method streams and can not be called over this transport";
    Failure::new(Kind::Unimplemented, "WRONG_TRANSPORT", words)
}

pub fn not_signed_in() -> Failure {
    Failure::new(
        Kind::Unauthenticated,
        "NOT_SIGNED_IN",
        "no access token was given",
    )
}

pub fn bad_token() -> Failure {
    Failure::new(
        Kind::Unauthenticated,
        "BAD_TOKEN",
        "the access token is not valid",
    )
}

pub fn token_expired() -> Failure {
    Failure::new(
        Kind::Unauthenticated,
        "TOKEN_EXPIRED",
        "the access token has expired",
    )
}

pub fn login_ended() -> Failure {
    Failure::new(Kind::Unauthenticated, "LOGIN_ENDED", "the login was ended")
}

pub fn bad_refresh_token() -> Failure {
    Failure::new(
        Kind::Unauthenticated,
        "BAD_REFRESH_TOKEN",
        "the refresh token is not valid",
    )
}

pub fn refresh_token_reused() -> Failure {
    let words = "the refresh token was used before, so the login was ended";
    Failure::new(Kind::Unauthenticated, "REFRESH_TOKEN_REUSED", words)
}

pub fn wrong_credentials() -> Failure {
    Failure::new(
        Kind::Unauthenticated,
        "WRONG_CREDENTIALS",
        "the name or the password is wrong",
    )
}

pub fn not_allowed() -> Failure {
    Failure::new(Kind::PermissionDenied, "NOT_ALLOWED", "this is not allowed")
}

pub fn name_taken() -> Failure {
    Failure::new(
        Kind::AlreadyExists,
        "NAME_TAKEN",
        "the name belongs to somebody",
    )
}

pub fn weak_password() -> Failure {
    Failure::new(
        Kind::InvalidArgument,
        "WEAK_PASSWORD",
        "the password is too easy to guess",
    )
}

pub fn user_not_found() -> Failure {
    Failure::new(Kind::NotFound, "USER_NOT_FOUND", "there is no such user")
}

pub fn chat_not_found() -> Failure {
    Failure::new(Kind::NotFound, "CHAT_NOT_FOUND", "there is no such chat")
}

pub fn client_message_id_reused() -> Failure {
    let words = "the client message id was used for another message";
    Failure::new(Kind::AlreadyExists, "CLIENT_MESSAGE_ID_REUSED", words)
}

pub fn chat_with_self() -> Failure {
    Failure::new(
        Kind::InvalidArgument,
        "CHAT_WITH_SELF",
        "a direct chat is with somebody else",
    )
}

pub fn too_many_requests(wait: Duration) -> Failure {
    Failure::new(
        Kind::ResourceExhausted,
        "TOO_MANY_REQUESTS",
        "too many requests",
    )
    .with_retry_after(wait)
}

pub fn overloaded(wait: Duration) -> Failure {
    Failure::new(
        Kind::Unavailable,
        "OVERLOADED",
        "the server has too much to do",
    )
    .with_retry_after(wait)
}

/// What another node should do is not done now.
pub fn nobody_does_it(cause: impl Into<Cause>) -> Failure {
    Failure::new(
        Kind::Unavailable,
        "OVERLOADED",
        "no node that does this can be reached now",
    )
    .with_retry_after(Duration::from_secs(1))
    .with_cause(cause)
}

pub fn draining(wait: Duration) -> Failure {
    Failure::new(Kind::Unavailable, "DRAINING", "the server is stopping").with_retry_after(wait)
}

pub fn deadline() -> Failure {
    Failure::new(Kind::DeadlineExceeded, "DEADLINE", "the call took too long")
}

pub fn store_unavailable(cause: impl Into<Cause>) -> Failure {
    Failure::new(
        Kind::Unavailable,
        "STORE_UNAVAILABLE",
        "the store does not answer",
    )
    .with_retry_after(Duration::from_secs(1))
    .with_cause(cause)
}

/// The store takes no writes until the node begins anew. Why was said once when it came to that, so there is no
/// cause to be logged with each call.
pub fn store_closed() -> Failure {
    Failure::new(
        Kind::Unavailable,
        "STORE_UNAVAILABLE",
        "the store takes no writes now",
    )
    .with_retry_after(Duration::from_secs(1))
}

pub fn internal(cause: impl Into<Cause>) -> Failure {
    Failure::new(
        Kind::Internal,
        "INTERNAL",
        "something went wrong on the server",
    )
    .with_cause(cause)
}

pub fn bad_cursor() -> Failure {
    Failure::new(
        Kind::InvalidArgument,
        "BAD_CURSOR",
        "the page token is not one of this server",
    )
}

pub fn no_such_route() -> Failure {
    Failure::new(
        Kind::NotFound,
        "NO_SUCH_ROUTE",
        "there is nothing at this address",
    )
}

pub fn message_not_found() -> Failure {
    let words = "there is no such message in the chat";
    Failure::new(Kind::NotFound, "MESSAGE_NOT_FOUND", words)
}

pub fn not_your_message() -> Failure {
    let words = "the message is somebody else's";
    Failure::new(Kind::PermissionDenied, "NOT_YOUR_MESSAGE", words)
}

pub fn too_many(words: impl Into<String>) -> Failure {
    Failure::new(Kind::ResourceExhausted, "TOO_MANY", words.into())
}

pub fn invite_not_found() -> Failure {
    let words = "there is no such invite, or it has ended";
    Failure::new(Kind::NotFound, "INVITE_NOT_FOUND", words)
}

pub fn banned() -> Failure {
    let words = "the user is kept out of the chat";
    Failure::new(Kind::PermissionDenied, "BANNED", words)
}

pub fn not_a_member() -> Failure {
    let words = "the user is not in the chat";
    Failure::new(Kind::NotFound, "NOT_A_MEMBER", words)
}

pub fn direct_chat() -> Failure {
    let words = "this is not for direct chats";
    Failure::new(Kind::FailedPrecondition, "DIRECT_CHAT", words)
}

pub fn owner_must_stay() -> Failure {
    let words = "the owner gives ownership to somebody before leaving";
    Failure::new(Kind::FailedPrecondition, "OWNER_MUST_STAY", words)
}

pub fn scheduled_not_found() -> Failure {
    let words = "there is no such scheduled message";
    Failure::new(Kind::NotFound, "SCHEDULED_NOT_FOUND", words)
}

pub fn bad_time() -> Failure {
    let words = "the time is past, or too far ahead";
    Failure::new(Kind::InvalidArgument, "BAD_TIME", words)
}

pub fn nodes_only() -> Failure {
    let words = "only nodes and services of the deployment may call this";
    Failure::new(Kind::PermissionDenied, "NODES_ONLY", words)
}

pub fn users_only() -> Failure {
    let words = "only users may call this";
    Failure::new(Kind::PermissionDenied, "USERS_ONLY", words)
}

pub fn bad_node_token() -> Failure {
    let words = "the node token is not valid";
    Failure::new(Kind::Unauthenticated, "BAD_NODE_TOKEN", words)
}

pub fn node_not_found() -> Failure {
    let words = "no node of that number has answered";
    Failure::new(Kind::NotFound, "NODE_NOT_FOUND", words)
}

pub fn feed_off() -> Failure {
    let words = "this deployment keeps no feed";
    Failure::new(Kind::FailedPrecondition, "FEED_OFF", words)
}

pub fn consumer_not_found() -> Failure {
    let words = "the feed has no such consumer";
    Failure::new(Kind::NotFound, "CONSUMER_NOT_FOUND", words)
}

pub fn feed_gap() -> Failure {
    let words = "what follows the consumer's place is not kept any more";
    Failure::new(Kind::FailedPrecondition, "FEED_GAP", words)
}

pub fn feed_restarted() -> Failure {
    let words = "the consumer's place is of another history";
    Failure::new(Kind::FailedPrecondition, "FEED_RESTARTED", words)
}
