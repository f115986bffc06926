//! Text to and from a terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use tokio::sync::mpsc;
use unicode_width::UnicodeWidthChar as _;

/// How many lines wait to be taken; the one who types or pipes waits then.
const LINES_MAX: usize = 64;

/// Makes foreign text harmless for a terminal: no control characters, so no escape sequences, and nothing
/// that turns the direction of what follows. Line ends stay.
pub fn harmless(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace("\r\n", "\n")
        .chars()
        .map(|c| {
            if matches!(c, '\t' | '\u{2028}' | '\u{2029}') {
                ' '
            } else {
                c
            }
        })
        .filter(|c| *c == '\n' || !(c.is_control() || turns(*c)))
        .collect()
}

/// The same on one line.
pub fn one_line(text: &str) -> String {
    harmless(text).replace('\n', " ⏎ ")
}

/// Now, by the clock of this machine, in milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the terminal client has no clock of the kit"
)]
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as i64)
}

/// So many milliseconds, roughly.
pub fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// How many columns a text takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Breaks text into rows of at most `width` columns, at spaces where there are some.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut rows = Vec::new();
    for line in text.split('\n') {
        let (mut row, mut used, mut space) = (String::new(), 0, None);
        for c in line.chars() {
            let wide = c.width().unwrap_or(0);
            if used + wide > width {
                // The last word goes to the next row; a word that fills a row is cut.
                let rest = match space.take() {
                    Some(at) if c != ' ' => row.split_off(at),
                    _ => String::new(),
                };
                rows.push(std::mem::replace(&mut row, rest));
                used = columns(&row);
                if c == ' ' && row.is_empty() {
                    continue;
                }
            }
            row.push(c);
            used += wide;
            if c == ' ' {
                space = Some(row.len());
            }
        }
        rows.push(row);
    }
    rows
}

/// The lines of standard input. They are read on a thread of their own, because a waiting read can not be
/// given up: it ends with the process.
pub fn stdin_lines() -> mpsc::Receiver<String> {
    let (line, lines) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for text in io::stdin().lock().lines() {
            let Ok(text) = text else { return };
            if line.blocking_send(text).is_err() {
                return;
            }
        }
    });
    lines
}

/// Somebody sits at both ends.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Asks for a line.
///
/// # Errors
/// When the input ends or can not be read.
pub fn ask(question: &str) -> io::Result<String> {
    eprint!("{question}");
    io::stderr().flush()?;
    let mut line = String::new();
    if io::stdin().read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim().to_owned())
}

/// The raw mode of a terminal, left when dropped.
pub struct Raw;

impl Raw {
    /// Keys come one by one and are not echoed.
    ///
    /// # Errors
    /// When this is no terminal.
    pub fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        Ok(Raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone already.
        _ = disable_raw_mode();
    }
}

/// Asks for a secret without showing what is typed.
///
/// # Errors
/// When this is no terminal, or the person gives up with Ctrl+C.
pub fn ask_secret(question: &str) -> io::Result<String> {
    eprint!("{question}");
    io::stderr().flush()?;
    let raw = Raw::enter()?;
    let secret = read_secret();
    drop(raw);
    eprintln!();
    secret
}

fn read_secret() -> io::Result<String> {
    let mut secret = String::new();
    loop {
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
                KeyCode::Enter => return Ok(secret),
                KeyCode::Backspace => _ = secret.pop(),
                KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                KeyCode::Char(c) => secret.push(c),
                _ => {}
            },
            Event::Paste(text) => secret.push_str(text.trim_end_matches(['\r', '\n'])),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_can_not_steer_the_terminal() {
        assert_eq!(
            harmless("a\x1b[2J\x07b\u{9b}31mc\u{202e}d\u{200f}"),
            "a[2Jb31mcd"
        );
        assert_eq!(harmless("a\tb\r\nc"), "a b\nc");
        assert_eq!(one_line("a\nb\rc"), "a ⏎ bc");
        assert_eq!(harmless("ñandú 漢字 👋🏽"), "ñandú 漢字 👋🏽");
    }

    #[test]
    fn rows_break_at_spaces_and_keep_every_word() {
        assert_eq!(wrap("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("a\n\nb", 5), ["a", "", "b"]);
        assert_eq!(wrap("漢字漢字", 4), ["漢字", "漢字"]);
        for row in wrap("the quick brown fox jumps over the lazy dog", 7) {
            assert!(columns(&row) <= 7, "{row:?}");
        }
    }
}
