//! As much of XML as the stanzas of a server need: where an element ends, and what stands in it. Servers write
//! neither comments nor sections of raw text into a stream; XMPP forbids the former and ejabberd has no use for the
//! latter.

use anyhow::{Result, bail};

/// Where the first element ends, when all of it is there.
///
/// # Errors
/// When it is no element, or the stream ends.
pub fn element_end(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(first) = bytes.first() else {
        return Ok(None);
    };
    if *first != b'<' || bytes.starts_with(b"</") {
        bail!(
            "the server ends the stream: {}",
            String::from_utf8_lossy(bytes)
        );
    }
    let (mut at, mut depth) = (0, 0usize);
    while let Some(tag) = Tag::next(bytes, at) {
        at = tag.end;
        match tag.kind {
            Kind::Opens => depth += 1,
            Kind::Closes => depth -= 1,
            Kind::IsEmpty => {}
        }
        if depth == 0 {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The name of an element.
pub fn name(element: &str) -> &str {
    let rest = element.trim_start_matches('<');
    let end = rest.find(|c: char| c.is_whitespace() || "/>".contains(c));
    &rest[..end.unwrap_or(rest.len())]
}

/// The text of the first element of this name within an element, when that has no attributes.
pub fn text_of<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = element.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// An attribute of an element.
pub fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = element.split_once(&format!(" {name}="))?;
    let quote = rest.chars().next()?;
    Some(rest[1..].split_once(quote)?.0)
}

enum Kind {
    Opens,
    Closes,
    IsEmpty,
}

struct Tag {
    kind: Kind,
    end: usize,
}

impl Tag {
    /// The first tag from a place on, when all of it is there.
    fn next(bytes: &[u8], from: usize) -> Option<Tag> {
        let begin = from + bytes[from..].iter().position(|byte| *byte == b'<')?;
        let mut quote = None;
        for (at, byte) in bytes.iter().enumerate().skip(begin) {
            match (quote, byte) {
                (Some(open), byte) if open == byte => quote = None,
                (Some(_), _) => {}
                (None, b'\'' | b'"') => quote = Some(byte),
                (None, b'>') => {
                    let kind = match (bytes[begin + 1], bytes[at - 1]) {
                        (b'/', _) => Kind::Closes,
                        (_, b'/') => Kind::IsEmpty,
                        _ => Kind::Opens,
                    };
                    return Some(Tag { kind, end: at + 1 });
                }
                (None, _) => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str =
        "<message from='a@b/c' id=\"it's > 1\"><archived id='1'/><body>1 2</body></message>";

    #[test]
    fn an_element_ends_where_its_own_tag_closes() {
        let stream = format!("{MESSAGE}<r xmlns='urn:xmpp:sm:3'/>");
        assert_eq!(element_end(stream.as_bytes()).unwrap(), Some(MESSAGE.len()));
        let rest = &stream.as_bytes()[MESSAGE.len()..];
        assert_eq!(element_end(rest).unwrap(), Some(rest.len()));
        for cut in 0..MESSAGE.len() {
            let ended = element_end(&MESSAGE.as_bytes()[..cut]);
            assert!(matches!(ended, Ok(None)), "cut at {cut}");
        }
    }

    #[test]
    fn the_end_of_the_stream_is_an_error() {
        assert!(element_end(b"</stream:stream>").is_err());
        assert!(element_end(b"x").is_err());
    }

    #[test]
    fn what_stands_in_an_element_is_found() {
        assert_eq!(name(MESSAGE), "message");
        assert_eq!(name("<r/>"), "r");
        assert_eq!(text_of(MESSAGE, "body"), Some("1 2"));
        assert_eq!(text_of(MESSAGE, "subject"), None);
        assert_eq!(attribute("<a xmlns='x' h='17'/>", "h"), Some("17"));
        assert_eq!(attribute(MESSAGE, "type"), None);
    }
}
