//! Which request a line of the log belongs to.

use std::fmt;
use std::sync::Arc;

use rand::Rng as _;
use tracing::Span;

/// The longest id of a request that a caller may bring.
const REQUEST_ID_CHARS_MAX: usize = 64;

/// The name of one request. The caller may bring it; who answers sends it back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The caller's id when it is short and of plain characters, else a new one. So nothing that a caller
    /// writes can break a line of the log.
    pub fn accept(brought: Option<&str>) -> Self {
        brought.and_then(Self::parse).unwrap_or_else(Self::random)
    }

    /// The id, when it has 1 to 64 characters of `A-Za-z0-9_.:-`.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.:-".contains(&b);
        let fits = (1..=REQUEST_ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| RequestId(text.into()))
    }

    /// A new id.
    pub fn random() -> Self {
        RequestId(format!("{:032x}", rand::rng().random::<u128>()).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a piece of work stands in a trace that may cross nodes: W3C trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

/// The flag that says that somebody records this trace.
const SAMPLED: u8 = 1;

impl TraceContext {
    /// The work under the caller's, when the caller brought a `traceparent` that can be read; else the
    /// first of a new trace.
    pub fn accept(traceparent: Option<&str>) -> Self {
        traceparent
            .and_then(Self::parse)
            .map_or_else(Self::random, Self::child)
    }

    /// Reads a `traceparent`. What a later version appends is skipped.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
        let readable = version != 0xff && (version != 0 || parts.next().is_none());
        let valid = trace_id != 0 && span_id != 0;
        (readable && valid).then_some(TraceContext {
            trace_id,
            span_id,
            flags: flags & SAMPLED,
        })
    }

    /// The first work of a new trace.
    pub fn random() -> Self {
        let trace_id = rand::rng().random_range(1..=u128::MAX);
        TraceContext {
            trace_id,
            span_id: new_span_id(),
            flags: SAMPLED,
        }
    }

    /// Work under this one: the same trace, another span.
    #[must_use]
    pub fn child(self) -> Self {
        TraceContext {
            span_id: new_span_id(),
            ..self
        }
    }

    /// The trace, as 32 hex digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The span, as 16 hex digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span_id)
    }
}

/// As a `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.span_id, self.flags
        )
    }
}

fn new_span_id() -> u64 {
    rand::rng().random_range(1..=u64::MAX)
}

/// Lower-case hex digits, exactly so many; the standard forbids upper case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let plain = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && plain)
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

/// What travels with a request from the border to the last line of its log. Handed on by whoever works on
/// the request; there is no hidden current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The name of the request.
    pub request_id: RequestId,
    /// Where it stands in its trace.
    pub trace: TraceContext,
}

impl Context {
    /// The context of a request that came with these headers, or without.
    pub fn accept(request_id: Option<&str>, traceparent: Option<&str>) -> Self {
        Context {
            request_id: RequestId::accept(request_id),
            trace: TraceContext::accept(traceparent),
        }
    }

    /// The context of work that nobody asked for, such as a job.
    pub fn random() -> Self {
        Self::accept(None, None)
    }

    /// A span whose lines carry the ids.
    pub fn span(&self, name: &str) -> Span {
        tracing::info_span!(
            "request",
            name,
            request_id = %self.request_id,
            trace_id = %format_args!("{:032x}", self.trace.trace_id),
            span_id = %format_args!("{:016x}", self.trace.span_id),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_plain_request_id_is_kept_and_any_other_replaced() {
        assert_eq!(RequestId::accept(Some("a-1_2.3:Z")).as_str(), "a-1_2.3:Z");
        for bad in ["", "a b", "a\nb", "ä", &"x".repeat(65)] {
            let made = RequestId::accept(Some(bad));
            assert_ne!(made.as_str(), bad);
            assert_eq!(made.as_str().len(), 32);
        }
        assert_ne!(RequestId::accept(None), RequestId::accept(None));
    }

    #[test]
    fn a_trace_that_comes_in_goes_on() {
        let parent = TraceContext::parse(PARENT).unwrap();
        assert_eq!(parent.to_string(), PARENT);
        let here = TraceContext::accept(Some(PARENT));
        assert_eq!(here.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(here.span_id(), "00f067aa0ba902b7");
        assert!(here.to_string().ends_with("-01"));
    }

    #[test]
    fn a_later_version_of_the_header_is_read_as_far_as_it_is_known() {
        let later = PARENT.replacen("00", "01", 1) + "-more";
        assert_eq!(TraceContext::parse(&later), TraceContext::parse(PARENT));
    }

    #[test]
    fn a_header_that_can_not_be_read_begins_a_new_trace() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
        assert_ne!(
            TraceContext::accept(Some("x")).trace_id(),
            TraceContext::random().trace_id()
        );
    }

    #[test]
    fn every_line_of_a_request_carries_its_ids() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer({
                let lines = lines.clone();
                move || lines.clone()
            })
            .json()
            .finish();
        let context = Context::accept(Some("abc"), Some(PARENT));
        tracing::subscriber::with_default(subscriber, || {
            context.span("Send").in_scope(|| tracing::info!("sent"));
        });
        let line: serde_json::Value = serde_json::from_slice(&lines.0.lock()).unwrap();
        assert_eq!(line["span"]["request_id"], "abc");
        assert_eq!(line["span"]["trace_id"], context.trace.trace_id());
        assert_eq!(line["span"]["span_id"], context.trace.span_id());
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
