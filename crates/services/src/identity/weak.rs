//! Passwords that are too easy to guess: the most used ones, and those that are made of few parts that
//! everybody would try.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Passwords of ten and more characters that are in every list of leaked ones, in small letters.
static MOST_USED: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());
/// Words that passwords are made of; a whole word is one part, however long it is.
static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    include_str!("common_words.txt")
        .split_whitespace()
        .collect()
});

/// Rows of keys, and of the alphabet.
const ROWS: [&str; 8] = [
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik",
];
/// How long a piece of a row, or a repetition, must be to be one part.
const RUN_MIN: usize = 3;
/// How many parts a password must have.
const PARTS_MIN: usize = 5;
/// How many different characters a password must have.
const DIFFERENT_MIN: usize = 5;
/// A name that is shorter is no hint.
const NAME_MIN: usize = 4;

/// Whether somebody who knows the name would guess the password soon. The name is in small letters.
pub(super) fn is_weak(password: &str, name: &str) -> bool {
    let small = password.to_lowercase();
    let plain: Vec<char> = small.chars().collect();
    let different: HashSet<&char> = plain.iter().collect();
    if MOST_USED.contains(small.as_str()) || different.len() < DIFFERENT_MIN {
        return true;
    }
    if name.len() >= NAME_MIN && small.contains(name) {
        return true;
    }
    let unit = &plain[..period(&plain)];
    parts(unit, name) < PARTS_MIN
}

/// The length of what the text is a repetition of.
fn period(text: &[char]) -> usize {
    (1..text.len())
        .find(|unit| text.iter().zip(&text[*unit..]).all(|(a, b)| a == b))
        .unwrap_or(text.len())
}

/// The letter that a sign is written for.
fn without_disguise(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' | '|' => 'i',
        '3' | '€' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }
}

/// How many parts a guesser needs: words, disguised or not, years, runs, or single characters.
fn parts(text: &[char], name: &str) -> usize {
    let undisguised: Vec<char> = text.iter().map(|c| without_disguise(*c)).collect();
    let mut parts = 0;
    let mut at = 0;
    while at < text.len() {
        at += part(&text[at..], name).max(word(&undisguised[at..], name));
        parts += 1;
    }
    parts
}

/// The length of the longest part that the text begins with; one character at least.
fn part(text: &[char], name: &str) -> usize {
    word(text, name)
        .max(repetition(text))
        .max(run(text))
        .max(year(text))
}

fn word(text: &[char], name: &str) -> usize {
    let words = WORDS.iter().copied().chain(std::iter::once(name));
    let found = words.filter(|word| starts_with(text, word));
    found
        .map(|word| word.chars().count())
        .max()
        .unwrap_or(1)
        .max(1)
}

fn starts_with(text: &[char], word: &str) -> bool {
    let mut text = text.iter();
    word.chars().all(|c| text.next() == Some(&c))
}

fn repetition(text: &[char]) -> usize {
    let same = text.iter().take_while(|c| **c == text[0]).count();
    if same >= RUN_MIN { same } else { 1 }
}

fn run(text: &[char]) -> usize {
    let mut longest = 1;
    for row in ROWS {
        let forward: Vec<char> = row.chars().collect();
        let backward: Vec<char> = row.chars().rev().collect();
        for row in [forward, backward] {
            for start in 0..row.len() {
                let same = row[start..]
                    .iter()
                    .zip(text)
                    .take_while(|(a, b)| a == b)
                    .count();
                longest = longest.max(same);
            }
        }
    }
    if longest >= RUN_MIN { longest } else { 1 }
}

fn year(text: &[char]) -> usize {
    let Some(first) = text.first_chunk::<4>() else {
        return 1;
    };
    let is_year = matches!(first, ['1', '9', _, _] | ['2', '0', _, _]);
    if is_year && first.iter().all(char::is_ascii_digit) {
        4
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_tries_is_weak() {
        for password in [
            "password123",
            "Password123!",
            "P@ssw0rd2024",
            "passwordpassword",
            "1234567890",
            "qwertyuiop",
            "QWERTZuiop",
            "0987654321",
            "aaaaaaaaaaaa",
            "abababababab",
            "abcabcabcabc",
            "abcdefghij",
            "1q2w3e4r5t",
            "1qaz2wsx3edc",
            "iloveyou2023",
            "Summer2024!!",
            "letmein12345",
            "welcome12345",
            "admin123456",
            "football1234",
            "aaaaabbbbbcc",
            "tertulia123",
            "asdfghjkl123",
        ] {
            assert!(is_weak(password, "somebody"), "{password}");
        }
    }

    #[test]
    fn a_password_with_the_name_in_it_is_weak() {
        assert!(is_weak("xk2-Marta-9plq", "marta"));
        assert!(is_weak("ana12345678", "ana"), "a short name is one part");
        assert!(!is_weak("bananas grow in rows", "ana"));
    }

    #[test]
    fn what_nobody_tries_is_not_weak() {
        for password in [
            "correct horse battery staple",
            "a long password",
            "tr0ub4dor&3x",
            "kwzpmvbqtr",
            "пароль на завтра",
            "沈黙は金雄弁は銀だと思う",
            "monkey dragon shadow summer",
            "vV8#qLm2!sXz",
        ] {
            assert!(!is_weak(password, "somebody"), "{password}");
        }
    }

    #[test]
    fn the_lists_are_in_small_letters_and_long_enough() {
        assert!(MOST_USED.len() >= 250, "{}", MOST_USED.len());
        for password in MOST_USED.iter() {
            assert!(password.chars().count() >= 10, "{password}");
            assert_eq!(password.to_lowercase(), **password);
        }
        assert!(
            WORDS
                .iter()
                .all(|word| word.len() >= 4 && word.to_lowercase() == **word)
        );
    }
}
