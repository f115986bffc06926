//! Talking on a whole screen: a line about the chat and the connection, the messages, what there is to tell,
//! and the line that is typed. It is drawn anew after each change; a screen is small.

use std::io::{self, Write as _};

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::event::{
    Event as Input, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue, terminal};
use futures::StreamExt as _;
use tertulia_client::proto::chats::event::Body;
use tertulia_client::{Change, Entry, State};
use tokio::sync::broadcast::error::RecvError;

use super::app::{self, App, Flow};
use super::{commands, sentences};
use crate::terminal::{Raw, columns, harmless, wrap};

/// How many events are laid out; further ones when somebody scrolls that far.
const EVENTS: usize = 300;
/// How many older events are asked for at once.
const OLDER_EVENTS: u32 = 100;

/// Talks until the person leaves.
pub async fn run(app: App) -> anyhow::Result<()> {
    let _screen = Screen::enter()?;
    let mut changes = app.client.changes();
    let mut keys = EventStream::new();
    let mut view = View {
        app,
        line: Line::default(),
        told: vec!["/help lists what can be typed".into()],
        up: 0,
        events: EVENTS,
    };
    loop {
        view.draw()?;
        view.saw();
        tokio::select! {
            key = keys.next() => match key {
                Some(Ok(input)) => if view.input(input).await == Flow::Quit {
                    return Ok(());
                },
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            change = changes.recv() => {
                let mut change = change;
                // Many changes come together; one drawing shows them all.
                loop {
                    match change {
                        Ok(change) => view.change(change).await,
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return Ok(()),
                    }
                    match changes.try_recv() {
                        Ok(next) => change = Ok(next),
                        Err(_) => break,
                    }
                }
            }
        }
    }
}

/// The terminal as we want it, and as it was when dropped.
struct Screen {
    _raw: Raw,
}

impl Screen {
    fn enter() -> io::Result<Self> {
        let raw = Raw::enter()?;
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
        Ok(Screen { _raw: raw })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone already.
        _ = execute!(
            io::stdout(),
            DisableBracketedPaste,
            LeaveAlternateScreen,
            cursor::Show
        );
    }
}

/// The line that is typed.
#[derive(Debug, Default)]
struct Line {
    text: Vec<char>,
    at: usize,
}

impl Line {
    fn insert(&mut self, c: char) {
        self.text.insert(self.at, c);
        self.at += 1;
    }

    fn take(&mut self) -> String {
        self.at = 0;
        std::mem::take(&mut self.text).into_iter().collect()
    }

    /// Edits by a key; gives the line when it is finished.
    fn key(&mut self, key: KeyEvent) -> Option<String> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Some(self.take()),
            KeyCode::Backspace if self.at > 0 => {
                self.at -= 1;
                self.text.remove(self.at);
            }
            KeyCode::Delete if self.at < self.text.len() => _ = self.text.remove(self.at),
            KeyCode::Left => self.at = self.at.saturating_sub(1),
            KeyCode::Right => self.at = (self.at + 1).min(self.text.len()),
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = self.text.len(),
            KeyCode::Char('a') if control => self.at = 0,
            KeyCode::Char('e') if control => self.at = self.text.len(),
            KeyCode::Char('u') if control => {
                self.text.drain(..self.at);
                self.at = 0;
            }
            KeyCode::Char('w') if control => {
                let before = &self.text[..self.at];
                let word = before.iter().rposition(|c| *c != ' ').unwrap_or(0);
                let from = before[..word]
                    .iter()
                    .rposition(|c| *c == ' ')
                    .map_or(0, |at| at + 1);
                self.text.drain(from..self.at);
                self.at = from;
            }
            KeyCode::Char(c) if !control => self.insert(c),
            _ => {}
        }
        None
    }

    /// The part that fits into `width`, and the column of the cursor in it.
    fn visible(&self, width: usize) -> (String, usize) {
        let mut from = self.at;
        let mut used = 0;
        while from > 0 {
            let wide = columns(&self.text[from - 1].to_string());
            if used + wide >= width {
                break;
            }
            used += wide;
            from -= 1;
        }
        let mut shown = String::new();
        for c in &self.text[from..] {
            if columns(&shown) + columns(&c.to_string()) > width {
                break;
            }
            shown.push(*c);
        }
        (shown, used)
    }
}

/// What a row is, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Theirs,
    Mine,
    Waiting,
    Refused,
    Happened,
}

struct View {
    app: App,
    line: Line,
    /// Answers to the last command, and news.
    told: Vec<String>,
    /// How many rows the person has scrolled up.
    up: usize,
    /// How many events are laid out.
    events: usize,
}

impl View {
    async fn input(&mut self, input: Input) -> Flow {
        match input {
            Input::Paste(text) => {
                harmless(&text)
                    .replace('\n', " ")
                    .chars()
                    .for_each(|c| self.line.insert(c));
            }
            Input::Key(key) if key.kind != KeyEventKind::Release => return self.key(key).await,
            _ => {}
        }
        Flow::Stay
    }

    async fn key(&mut self, key: KeyEvent) -> Flow {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let page = terminal::size()
            .map_or(20, |(_, rows)| usize::from(rows).saturating_sub(4))
            .max(1);
        match key.code {
            KeyCode::Char('c') if control => return Flow::Quit,
            KeyCode::Char('d') if control && self.line.text.is_empty() => return Flow::Quit,
            KeyCode::PageUp => self.scroll_up(page).await,
            KeyCode::PageDown => self.up = self.up.saturating_sub(page),
            _ => {
                let typed = self.line.key(key);
                if !self.line.text.is_empty() && self.line.text[0] != '/' {
                    self.app.types();
                }
                if let Some(line) = typed {
                    let before = self.app.open;
                    self.told.clear();
                    let flow = self.app.take(&line).await;
                    self.told.extend(self.app.said());
                    if self.app.open != before {
                        (self.up, self.events) = (0, EVENTS);
                    }
                    let back = std::mem::take(&mut self.app.back);
                    if back > 0 {
                        self.scroll_up(back).await;
                    } else if !line.starts_with('/') {
                        self.up = 0;
                    }
                    return flow;
                }
            }
        }
        Flow::Stay
    }

    async fn scroll_up(&mut self, rows: usize) {
        let Some(chat) = self.app.open else { return };
        let width = terminal::size().map_or(80, |(columns, _)| columns.into());
        self.up += rows;
        // Near the end of what is laid out, the next part is brought.
        if self.up + 2 * rows > self.rows(width).len() {
            self.events += OLDER_EVENTS as usize;
            let held = self
                .app
                .client
                .chat(chat, self.events)
                .is_some_and(|v| v.events.len() == self.events);
            if !held && let Err(error) = self.app.client.older(chat, OLDER_EVENTS).await {
                self.told.push(super::words(&error));
            }
        }
    }

    async fn change(&mut self, change: Change) {
        self.app.notice(change).await;
        self.told.extend(self.app.said());
    }

    /// What is at the end of the open chat has been seen when it is on the screen.
    fn saw(&mut self) {
        if self.up == 0 {
            self.app.saw();
        }
    }

    /// The messages of the open chat as rows.
    fn rows(&self, width: usize) -> Vec<(Kind, String)> {
        let Some(view) = self
            .app
            .open
            .and_then(|chat| self.app.client.chat(chat, self.events))
        else {
            return Vec::new();
        };
        let mut rows = Vec::new();
        let mut lay =
            |kind, text: String| rows.extend(wrap(&text, width).into_iter().map(|row| (kind, row)));
        let seen = sentences::seen_by(&view, self.app.me).map_or(0, |(seq, _)| seq);
        let name_of = |user| self.app.name(user);
        for event in &view.events {
            let (seq, name) = (event.seq, self.app.name(event.actor_id));
            match &event.body {
                Some(Body::Message(message)) => {
                    let text = sentences::message(message);
                    if event.actor_id != self.app.me {
                        lay(Kind::Theirs, format!("{seq} {name}: {text}"));
                    } else if seq <= seen {
                        lay(Kind::Mine, format!("{seq} {name}: {text} ✓✓"));
                    } else {
                        lay(Kind::Mine, format!("{seq} {name}: {text} ✓"));
                    }
                }
                // What changes a message shows in the message.
                _ => {
                    if let Some(said) = sentences::sentence(event, &name_of) {
                        lay(Kind::Happened, format!("— {said} —"));
                    }
                }
            }
        }
        let me = self.app.name(self.app.me);
        for entry in &view.pending {
            let text = harmless(&entry.text);
            match &entry.state {
                State::Failed(why) => {
                    lay(Kind::Refused, format!("{me}: {text} ✗ {}", harmless(why)))
                }
                State::Sent(_) => lay(Kind::Mine, format!("{me}: {text} ✓")),
                State::Queued | State::Sending => lay(Kind::Waiting, format!("{me}: {text} …")),
            }
        }
        rows
    }

    fn draw(&mut self) -> io::Result<()> {
        let (width, height) = terminal::size()?;
        let (width, height) = (usize::from(width).max(10), usize::from(height).max(4));
        let rows = self.rows(width);
        let mut told: Vec<String> = self
            .told
            .iter()
            .flat_map(|text| wrap(&harmless(text), width))
            .collect();
        // News push old news away, but leave room for the messages.
        let told_max = (height - 2) / 2;
        told.drain(
            ..told
                .len()
                .saturating_sub(told_max.max(commands::HELP.lines().count().min(height - 3))),
        );
        let body = height - 2 - told.len();
        self.up = self.up.min(rows.len().saturating_sub(body));
        let end = rows.len() - self.up;
        let shown = &rows[end.saturating_sub(body)..end];

        let mut out = io::stdout().lock();
        queue!(
            out,
            cursor::Hide,
            cursor::MoveTo(0, 0),
            SetAttribute(Attribute::Reverse)
        )?;
        queue!(
            out,
            Print(fit(&self.title(), width)),
            SetAttribute(Attribute::Reset)
        )?;
        for at in 0..body {
            queue!(
                out,
                cursor::MoveTo(0, (1 + at) as u16),
                Clear(ClearType::CurrentLine)
            )?;
            let row = (at + shown.len()).checked_sub(body).map(|at| &shown[at]);
            if let Some((kind, text)) = row {
                let colour = match kind {
                    Kind::Theirs => Color::Reset,
                    Kind::Mine => Color::Cyan,
                    Kind::Waiting | Kind::Happened => Color::DarkGrey,
                    Kind::Refused => Color::Red,
                };
                queue!(out, SetForegroundColor(colour), Print(text), ResetColor)?;
            }
        }
        for (at, text) in told.iter().enumerate() {
            queue!(
                out,
                cursor::MoveTo(0, (1 + body + at) as u16),
                Clear(ClearType::CurrentLine)
            )?;
            queue!(
                out,
                SetForegroundColor(Color::Yellow),
                Print(text),
                ResetColor
            )?;
        }
        let (typed, column) = self.line.visible(width - 3);
        queue!(
            out,
            cursor::MoveTo(0, (height - 1) as u16),
            Clear(ClearType::CurrentLine)
        )?;
        queue!(out, Print("> "), Print(harmless(&typed)))?;
        queue!(
            out,
            cursor::MoveTo((2 + column) as u16, (height - 1) as u16),
            cursor::Show
        )?;
        out.flush()
    }

    fn title(&self) -> String {
        let chat = self
            .app
            .open
            .map_or_else(|| "no chat open".into(), |chat| self.app.title(chat));
        let state = app::connection(&self.app.client.connection().borrow());
        let outbox = self.app.client.outbox();
        let is_unsent = |entry: &&Entry| !matches!(entry.state, State::Sent(_));
        let waiting = outbox.iter().filter(is_unsent).count();
        let waiting = if waiting == 0 {
            String::new()
        } else {
            format!(" · {waiting} not sent yet")
        };
        let up = if self.up == 0 {
            ""
        } else {
            " · scrolled back"
        };
        let typing = match self.app.typing().as_slice() {
            [] => String::new(),
            [one] => format!(" · {one} is typing"),
            several => format!(" · {} are typing", several.join(", ")),
        };
        let presence = self.app.presence();
        let presence = presence
            .map(|told| format!(" ({told})"))
            .unwrap_or_default();
        format!(" {chat}{presence} · {state}{waiting}{up}{typing}")
    }
}

/// Cuts or fills a text to exactly `width` columns.
fn fit(text: &str, width: usize) -> String {
    let mut fitted = String::new();
    for c in text.chars() {
        if columns(&fitted) + columns(&c.to_string()) > width {
            break;
        }
        fitted.push(c);
    }
    let missing = width.saturating_sub(columns(&fitted));
    fitted.extend(std::iter::repeat_n(' ', missing));
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &mut Line, keys: &[(KeyCode, KeyModifiers)]) {
        for (code, modifiers) in keys {
            line.key(KeyEvent::new(*code, *modifiers));
        }
    }

    #[test]
    fn a_line_is_edited_where_the_cursor_is() {
        let mut line = Line::default();
        "one two".chars().for_each(|c| line.insert(c));
        typed(
            &mut line,
            &[
                (KeyCode::Char('w'), KeyModifiers::CONTROL),
                (KeyCode::Home, KeyModifiers::NONE),
            ],
        );
        typed(
            &mut line,
            &[
                (KeyCode::Char('x'), KeyModifiers::NONE),
                (KeyCode::Delete, KeyModifiers::NONE),
            ],
        );
        typed(
            &mut line,
            &[
                (KeyCode::End, KeyModifiers::NONE),
                (KeyCode::Backspace, KeyModifiers::NONE),
            ],
        );
        let done = line.key(KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE));
        assert_eq!(done.as_deref(), Some("xne"));
        assert!(line.text.is_empty());
    }

    #[test]
    fn the_cursor_of_a_long_line_stays_visible() {
        let mut line = Line::default();
        "漢字 and some more text"
            .chars()
            .for_each(|c| line.insert(c));
        for _ in 0..line.text.len() {
            let (shown, column) = line.visible(8);
            assert!(columns(&shown) <= 8 && column < 8, "{shown:?} {column}");
            line.at -= 1;
        }
    }

    #[test]
    fn a_title_fills_the_row_exactly() {
        for width in [1, 4, 5, 20] {
            assert_eq!(columns(&fit("漢字漢字", width)), width);
        }
    }
}
