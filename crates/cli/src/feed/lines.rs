//! What is printed of the feed: a line for each event, and a table of the consumers.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::terminal::span;

/// How much of the end of a file is read at first to find its last line.
const END_BYTES: u64 = 64 << 10;

/// Where the lines go.
pub enum Lines {
    /// Each event at least once.
    Stdout,
    /// Each event once, on disk before it is acknowledged.
    File {
        /// It, locked.
        file: File,
        /// The last line; none when there is none.
        last: Value,
    },
}

impl Lines {
    /// Into that file, or without one to standard output.
    ///
    /// # Errors
    /// When the file can not be gone on with.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Lines> {
        match path {
            Some(path) => Lines::into(path).with_context(|| path.display().to_string()),
            None => Ok(Lines::Stdout),
        }
    }

    /// A file that is there is gone on with: a line that was torn when somebody was killed is cut off, and what is in it
    /// is not written again. One writes into it at a time.
    fn into(path: &Path) -> io::Result<Lines> {
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .clone();
        let mut file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("somebody else writes into it"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let (whole, last) = last_line(&mut file)?;
        file.set_len(whole)?;
        file.seek(SeekFrom::End(0))?;
        let last = match last.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&last)?,
        };
        Ok(Lines::File { file, last })
    }

    /// The epoch and the place of the last line of a file that has one.
    pub fn last(&self) -> Option<(u64, u64)> {
        match self {
            Lines::File { last, .. } if !last.is_null() => {
                Some((number(&last["epoch"]), place(last)))
            }
            _ => None,
        }
    }

    /// Writes the events of an answer; gives the place of the last one.
    ///
    /// # Errors
    /// When they can not be written.
    pub fn print(&mut self, batch: &Value) -> io::Result<Option<Value>> {
        let entries = batch["entries"].as_array().map_or(&[][..], Vec::as_slice);
        let Some(newest) = entries.last() else {
            return Ok(None);
        };
        let epoch = &batch["epoch"];
        let line = |entry: &Value| json!({"place": entry["place"], "epoch": epoch, "event": entry["event"]});
        match self {
            Lines::Stdout => {
                let mut out = io::stdout().lock();
                for entry in entries {
                    writeln!(out, "{}", line(entry))?;
                }
                out.flush()?;
            }
            Lines::File { file, last } => {
                let had = (last["epoch"] == *epoch).then(|| place(last));
                let mut out = BufWriter::new(&*file);
                for entry in entries.iter().filter(|entry| Some(place(entry)) > had) {
                    writeln!(out, "{}", line(entry))?;
                }
                out.flush()?;
                drop(out);
                file.sync_data()?;
                *last = line(newest);
            }
        }
        Ok(Some(newest["place"].clone()))
    }
}

fn place(entry: &Value) -> u64 {
    number(&entry["place"])
}

fn number(value: &Value) -> u64 {
    let number = value.as_str();
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// How long a file is up to the end of its last whole line, and that line.
fn last_line(file: &mut File) -> io::Result<(u64, Vec<u8>)> {
    let length = file.metadata()?.len();
    let mut window = END_BYTES;
    loop {
        let from = length.saturating_sub(window);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(length - from).read_to_end(&mut bytes)?;
        let is_end = |byte: &u8| *byte == b'\n';
        if let Some(end) = bytes.iter().rposition(is_end) {
            let before = bytes[..end].iter().rposition(is_end);
            if before.is_some() || from == 0 {
                let start = before.map_or(0, |before| before + 1);
                return Ok((from + end as u64 + 1, bytes[start..end].to_vec()));
            }
        } else if from == 0 {
            return Ok((0, Vec::new()));
        }
        window *= 2;
    }
}

/// The consumers at this time, for people.
pub fn table(answer: &Value, now_ms: i64) -> String {
    let all = answer["consumers"].as_array();
    let all = all.map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    for one in all {
        let word = |name: &str| one[name].as_str().unwrap_or("0").to_owned();
        let ago = |since: &str| span(now_ms - since.parse().unwrap_or(now_ms));
        let state = match (one["stuck"] == true, one["waitsSinceMs"].as_str()) {
            (true, _) => "can not go on".to_owned(),
            (false, Some(since)) => format!("behind for {}", ago(since)),
            (false, None) => "has everything".to_owned(),
        };
        // Writing into a string never fails.
        _ = writeln!(
            text,
            "{}  at {}, {state}, acknowledged last {} ago",
            word("name"),
            word("place"),
            ago(&word("movedAtMs"))
        );
    }
    match all.len() {
        1 => text += "1 consumer\n",
        count => _ = writeln!(text, "{count} consumers"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(places: &[u64]) -> Value {
        let entries = places.iter();
        let entries =
            entries.map(|place| json!({"place": place.to_string(), "event": {"seq": "1"}}));
        json!({"epoch": "7", "entries": entries.collect::<Vec<_>>()})
    }

    fn places(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.map(|line: Value| place(&line)).collect()
    }

    #[test]
    fn a_file_is_gone_on_with_and_has_each_line_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export");
        let mut lines = Lines::into(&path).unwrap();
        assert_eq!(lines.print(&batch(&[])).unwrap(), None);
        assert_eq!(lines.last(), None);
        assert_eq!(lines.print(&batch(&[3, 5])).unwrap(), Some(json!("5")));
        // Killed before that was acknowledged, in the middle of the next line.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"epoch\":\"7\",\"eve").unwrap();
        assert!(Lines::into(&path).is_err(), "somebody writes into it");
        drop(lines);
        let mut lines = Lines::into(&path).unwrap();
        assert_eq!(lines.last(), Some((7, 5)));
        assert_eq!(lines.print(&batch(&[3, 5, 8])).unwrap(), Some(json!("8")));
        assert_eq!(lines.print(&batch(&[8])).unwrap(), Some(json!("8")));
        assert_eq!(places(&path), [3, 5, 8]);
    }

    #[test]
    fn the_last_line_is_found_however_long_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export");
        for (text, whole, last) in [
            (String::new(), 0, String::new()),
            ("torn".into(), 0, String::new()),
            ("a\n".into(), 2, "a".into()),
            ("a\nb\ntorn".into(), 4, "b".into()),
            (
                format!("a\n{}\nt", "b".repeat(200_000)),
                200_003,
                "b".repeat(200_000),
            ),
            (format!("a\n{}", "t".repeat(200_000)), 2, "a".into()),
        ] {
            std::fs::write(&path, text).unwrap();
            let found = last_line(&mut File::open(&path).unwrap()).unwrap();
            assert_eq!(found, (whole, last.into_bytes()));
        }
    }

    #[test]
    fn the_table_says_who_can_not_go_on() {
        let answer = json!({"consumers": [
            {"name": "export", "place": "7340032", "movedAtMs": "5000"},
            {"name": "push", "place": "1", "movedAtMs": "297000", "waitsSinceMs": "298000"},
            {"name": "search", "movedAtMs": "300000", "stuck": true, "waitsSinceMs": "4"},
        ]});
        assert_eq!(
            table(&answer, 300_000),
            "export  at 7340032, has everything, acknowledged last 4 min ago\n\
             push  at 1, behind for 2 s, acknowledged last 3 s ago\n\
             search  at 0, can not go on, acknowledged last 0 s ago\n\
             3 consumers\n"
        );
        assert_eq!(table(&json!({}), 0), "0 consumers\n");
    }
}
