//! What a request may contain.

use unicode_segmentation::UnicodeSegmentation as _;

use tertulia_kit::error::Result;

use super::ChatChange;
use super::model::Seq;
use crate::errors;

/// How many characters a text may have.
const TEXT_CHARS_MAX: usize = 8_000;
/// How many characters a title may have.
const TITLE_CHARS_MAX: usize = 100;
/// How many characters a topic may have.
const TOPIC_CHARS_MAX: usize = 500;
/// How many bytes an emoji may take; families with skin tones take most.
const EMOJI_BYTES_MAX: usize = 64;
/// How long a client's own ids may be.
const CLIENT_ID_CHARS: std::ops::RangeInclusive<usize> = 8..=64;
/// How far ahead things may be set, in seconds: a year.
pub const AHEAD_S_MAX: i64 = 365 * 24 * 3_600;
/// How many messages one call may name.
pub const NAMED_MESSAGES_MAX: usize = 100;

pub fn check_client_id(field: &str, id: &str) -> Result<()> {
    let known = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    if !CLIENT_ID_CHARS.contains(&id.len()) || !id.bytes().all(known) {
        let problem = "must be 8 to 64 letters, digits, _ and -";
        return Err(errors::invalid_field(field, "string.pattern", problem));
    }
    Ok(())
}

pub fn check_text(text: &str) -> Result<()> {
    if text.is_empty() {
        let problem = "must not be empty";
        return Err(errors::invalid_field("text", "string.min_len", problem));
    }
    check_draft(text)
}

pub fn check_draft(text: &str) -> Result<()> {
    check_chars("text", text, TEXT_CHARS_MAX)?;
    // Most texts are plain, and that is seen many bytes at a time.
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
    let is_bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    match text.bytes().all(is_plain) || !text.chars().any(is_bad) {
        true => Ok(()),
        false => {
            let problem = "must have no control characters but line feed and tab";
            Err(errors::invalid_field("text", "string.control", problem))
        }
    }
}

/// Checks what is set; titles and topics lose the space around them.
pub fn change(change: ChatChange) -> Result<ChatChange> {
    let title = match change.title {
        Some(title) => Some(line("title", &title, TITLE_CHARS_MAX)?),
        None => None,
    };
    if title.as_ref().is_some_and(String::is_empty) {
        let problem = "must not be empty";
        return Err(errors::invalid_field("title", "string.min_len", problem));
    }
    let topic = match change.topic {
        Some(topic) => Some(line("topic", &topic, TOPIC_CHARS_MAX)?),
        None => None,
    };
    if let Some(avatar) = change.avatar.as_deref().filter(|avatar| !avatar.is_empty()) {
        check_emoji("avatar", avatar)?;
    }
    if let Some(ttl_s) = change.message_ttl_s
        && !(0..=AHEAD_S_MAX).contains(&ttl_s)
    {
        let problem = "must be 0 or up to a year";
        return Err(errors::invalid_field("message_ttl_s", "int64.lte", problem));
    }
    Ok(ChatChange {
        title,
        topic,
        ..change
    })
}

/// One character as people see it, and not a letter or a sign of a text.
pub fn check_emoji(field: &str, emoji: &str) -> Result<()> {
    let is_one = emoji.len() <= EMOJI_BYTES_MAX && emoji.graphemes(true).count() == 1;
    let is_text = emoji.is_ascii() || emoji.chars().any(|c| c.is_alphabetic() || c.is_control());
    match is_one && !is_text {
        true => Ok(()),
        false => {
            let problem = "must be one emoji";
            Err(errors::invalid_field(field, "string.emoji", problem))
        }
    }
}

/// Sorts messages and drops repeats.
pub fn messages(mut messages: Vec<Seq>) -> Result<Vec<Seq>> {
    messages.sort_unstable();
    messages.dedup();
    if messages.is_empty() || messages.len() > NAMED_MESSAGES_MAX {
        let problem = "must name 1 to 100 messages";
        return Err(errors::invalid_field(
            "message_seqs",
            "repeated.max_items",
            problem,
        ));
    }
    Ok(messages)
}

pub fn check_part(from: Seq, to: Seq) -> Result<()> {
    match 1 <= from && from <= to {
        true => Ok(()),
        false => {
            let problem = "must not be before from_seq";
            Err(errors::invalid_field("to_seq", "int64.gte", problem))
        }
    }
}

/// A text of one line without space around it.
fn line(field: &str, text: &str, chars_max: usize) -> Result<String> {
    check_chars(field, text, chars_max)?;
    if text.chars().any(char::is_control) {
        let problem = "must have no control characters";
        return Err(errors::invalid_field(field, "string.control", problem));
    }
    Ok(text.trim().to_owned())
}

fn check_chars(field: &str, text: &str, max: usize) -> Result<()> {
    // A character takes at most four bytes, so most texts need no counting.
    if text.len() > max && text.chars().count() > max {
        let problem = format!("must be at most {max} characters");
        return Err(errors::invalid_field(field, "string.max_len", &problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_no_control_characters_but_line_feed_and_tab() {
        for good in ["a", " ~", "a\nb\tc", "é", "👍", "a\u{a0}b"] {
            assert!(check_text(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a\0", "\r\n", "\u{1b}[1m", "\u{7f}", "é\u{85}"] {
            assert!(check_text(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_emoji_is_one_and_not_a_letter() {
        for good in ["👍", "❤️", "👩🏽‍🚀", "🇪🇸", "1️⃣", "🫱🏻‍🫲🏿"]
        {
            assert!(check_emoji("emoji", good).is_ok(), "{good}");
        }
        for bad in ["", "a", "é", "👍👍", "1", "+", "👍 ", "字", "\u{7}"] {
            assert!(check_emoji("emoji", bad).is_err(), "{bad:?}");
        }
    }
}
