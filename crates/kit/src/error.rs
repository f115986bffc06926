//! One failure crosses every border: a kind that machines act on, a reason from the catalogue, words for
//! people, and a private cause that only the log sees. The border that answers the caller logs it, once.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The outcome of anything that can fail across a border.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What sort of failure it is; each transport has its own number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is wrong, whatever the state of the system.
    InvalidArgument,
    /// The caller did not show who it is.
    Unauthenticated,
    /// The caller is known and may not.
    PermissionDenied,
    /// What the request names is not there, or the caller may not know that it is.
    NotFound,
    /// What the request makes is there already.
    AlreadyExists,
    /// The state of what is named does not allow it; the same call may succeed after another one.
    FailedPrecondition,
    /// A budget or a size is used up.
    ResourceExhausted,
    /// Another writer was faster.
    Aborted,
    /// No such method.
    Unimplemented,
    /// Something that is needed does not answer now.
    Unavailable,
    /// The caller's time is over; whether the work was done is not known.
    DeadlineExceeded,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// The name that Connect, the catalogue and the logs use.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::InvalidArgument => "invalid_argument",
            Kind::Unauthenticated => "unauthenticated",
            Kind::PermissionDenied => "permission_denied",
            Kind::NotFound => "not_found",
            Kind::AlreadyExists => "already_exists",
            Kind::FailedPrecondition => "failed_precondition",
            Kind::ResourceExhausted => "resource_exhausted",
            Kind::Aborted => "aborted",
            Kind::Unimplemented => "unimplemented",
            Kind::Unavailable => "unavailable",
            Kind::DeadlineExceeded => "deadline_exceeded",
            Kind::Internal => "internal",
        }
    }
}

/// A field of a request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The path, such as `items[3].name`.
    pub path: String,
    /// The rule's name, such as `string.max_len`.
    pub rule: String,
    /// What the rule wants, in words. Never the rejected value.
    pub problem: String,
}

/// Why something failed. Made by the named constructors of the crate that owns the catalogue.
#[derive(Debug)]
pub struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    reason: &'static str,
    words: Cow<'static, str>,
    fields: Vec<FieldProblem>,
    retry_after: Option<Duration>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// A failure with its catalogue name (without prefix, such as `NAME_TAKEN`) and its public words:
    /// lower case, no full stop, no rejected value.
    pub fn new(kind: Kind, reason: &'static str, words: impl Into<Cow<'static, str>>) -> Self {
        Failure(Box::new(Inner {
            kind,
            reason,
            words: words.into(),
            fields: Vec::new(),
            retry_after: None,
            cause: None,
        }))
    }

    /// The same failure with the fields that are wrong.
    #[must_use]
    pub fn with_fields(mut self, fields: Vec<FieldProblem>) -> Self {
        self.0.fields = fields;
        self
    }

    /// The same failure with how long to wait before trying again.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The same failure with what caused it. The cause is logged at the border and never sent.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// What sort it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The name in the catalogue.
    pub fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// The public words.
    pub fn words(&self) -> &str {
        &self.0.words
    }

    /// Which fields are wrong; empty unless the request is.
    pub fn fields(&self) -> &[FieldProblem] {
        &self.0.fields
    }

    /// How long to wait, when waiting helps.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The private cause with everything behind it, for the log of the border.
    pub fn cause_chain(&self) -> Option<String> {
        let mut text = String::new();
        let mut next = self.0.cause.as_deref().map(|c| c as &dyn StdError);
        while let Some(cause) = next {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        (!text.is_empty()).then_some(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.as_str(), self.0.words)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .cause
            .as_deref()
            .map(|c| c as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_in_the_chain_and_not_in_the_words() {
        let cause = std::io::Error::other("disk on fire");
        let failure = Failure::new(
            Kind::Unavailable,
            "STORE_UNAVAILABLE",
            "the store does not answer",
        )
        .with_cause(cause);
        assert_eq!(failure.cause_chain().as_deref(), Some("disk on fire"));
        assert!(!failure.to_string().contains("fire"));
    }
}
