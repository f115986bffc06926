//! The rules of profiles: what a text may hold, and by what a user is found.

use std::collections::BTreeSet;

use tertulia_kit::error::Result;

use crate::errors;

/// How many characters a display name may have.
const DISPLAY_NAME_CHARS_MAX: usize = 100;
/// How many characters the words about a user may have.
const ABOUT_CHARS_MAX: usize = 500;
/// How many words of a display name a user is found by.
const WORDS_MAX: usize = 12;

/// A display name without blanks around it.
///
/// # Errors
/// `INVALID_REQUEST` when nothing can be seen of it, it is too long, or it could turn the text around it.
pub fn display_name(text: &str) -> Result<String> {
    let field = "display_name";
    let text = text.trim();
    if !text.chars().any(is_seen) {
        return Err(errors::invalid_field(
            field,
            "string.min_len",
            "must have a character that is seen",
        ));
    }
    if text.chars().count() > DISPLAY_NAME_CHARS_MAX {
        return Err(errors::invalid_field(
            field,
            "string.max_len",
            "must have at most 100 characters",
        ));
    }
    if text.chars().any(|c| c.is_control() || is_line_end(c)) {
        return Err(errors::invalid_field(
            field,
            "no_control",
            "must have no control characters",
        ));
    }
    no_bidi_control(field, text)?;
    Ok(text.to_owned())
}

/// The words about a user, without blanks around them; they may have lines.
///
/// # Errors
/// `INVALID_REQUEST` when they are too long or could turn the text around them.
pub fn about(text: String) -> Result<String> {
    let field = "about";
    let text = text.trim();
    if text.chars().count() > ABOUT_CHARS_MAX {
        return Err(errors::invalid_field(
            field,
            "string.max_len",
            "must have at most 500 characters",
        ));
    }
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err(errors::invalid_field(
            field,
            "no_control",
            "must have no control characters",
        ));
    }
    no_bidi_control(field, text)?;
    Ok(text.to_owned())
}

fn no_bidi_control(field: &str, text: &str) -> Result<()> {
    let found = text.chars().any(|c| {
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    });
    if found {
        let problem = "must have no characters that change the direction of writing";
        return Err(errors::invalid_field(field, "no_bidi_control", problem));
    }
    Ok(())
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// Whether there is something to see of a character. The joiners are needed inside of words and of emoji, so
/// they are allowed, but they are no name.
fn is_seen(c: char) -> bool {
    let unseen = matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'
    );
    !unseen && !c.is_whitespace() && !c.is_control()
}

/// The text for comparing: without differences of case, with single blanks. Both steps of case are needed,
/// because only large letters bring ß to ss and both small sigmas together.
pub fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(
            word.chars()
                .flat_map(char::to_uppercase)
                .flat_map(char::to_lowercase),
        );
    }
    folded
}

/// What a user is found by: the name and the display name, each from any of its words to its end. So a
/// query of several words finds the middle of a name.
pub fn search_words(name: &str, display_name: &str) -> Vec<String> {
    let mut words = BTreeSet::new();
    for text in [folded(name), folded(display_name)] {
        words.extend(
            word_starts(&text)
                .take(WORDS_MAX)
                .map(|start| text[start..].to_owned()),
        );
        if !text.is_empty() {
            words.insert(text);
        }
    }
    words.into_iter().collect()
}

fn word_starts(text: &str) -> impl Iterator<Item = usize> {
    let mut after_break = true;
    text.char_indices().filter_map(move |(at, c)| {
        let breaks = is_break(c);
        let starts = after_break && !breaks;
        after_break = breaks;
        starts.then_some(at)
    })
}

fn is_break(c: char) -> bool {
    c.is_whitespace()
        || c.is_ascii_punctuation()
        || matches!(c, '\u{2010}'..='\u{2027}' | '\u{3001}'..='\u{303f}' | '·' | '«' | '»' | '¡' | '¿')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_name_loses_the_blanks_around_it() {
        assert_eq!(display_name("  Ana  ").unwrap(), "Ana");
    }

    #[test]
    fn a_display_name_of_nothing_to_see_is_refused() {
        for text in ["", "   ", "\u{200b}", "\u{3164}", "\u{2060} \u{feff}"] {
            assert_eq!(
                display_name(text).unwrap_err().fields()[0].path,
                "display_name",
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_display_name_can_not_turn_the_text_around_it() {
        for text in [
            "a\u{202e}b",
            "\u{2066}ana",
            "ana\u{200f}",
            "a\nb",
            "a\u{0}b",
            "a\u{2028}b",
        ] {
            assert!(display_name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_family_emoji_is_a_name() {
        assert_eq!(display_name("👨‍👩‍👧").unwrap(), "👨‍👩‍👧");
    }

    #[test]
    fn about_may_have_lines_and_no_other_controls() {
        assert_eq!(about("one\ntwo".into()).unwrap(), "one\ntwo");
        assert!(about("a\u{7}b".into()).is_err());
        assert!(about("ñ".repeat(500)).is_ok());
        assert!(about("ñ".repeat(501)).is_err());
    }

    #[test]
    fn folding_forgets_case_in_any_script() {
        for (a, b) in [
            ("ΟΔΟΣ", "οδος"),
            ("Straße", "STRASSE"),
            ("ÉCOLE", "école"),
            ("ЁЖ", "ёж"),
        ] {
            assert_eq!(folded(a), folded(b));
        }
    }

    #[test]
    fn a_user_is_found_by_every_word() {
        let words = search_words("ana.lopez", "Ana María  (López-Ruiz)");
        for word in [
            "ana.lopez",
            "lopez",
            "ana maría (lópez-ruiz)",
            "maría (lópez-ruiz)",
            "ruiz)",
        ] {
            assert!(words.iter().any(|w| w == word), "{word} in {words:?}");
        }
    }
}
