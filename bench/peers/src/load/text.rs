//! The text of a message: who wrote it, its number and when it was due, filled up to its length. It is made of
//! letters, digits and spaces, so that every protocol carries it as it is.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};

/// The shortest text.
pub const BYTES_MIN: usize = HEAD_BYTES + 1;

const HEAD_BYTES: usize = 5 + 1 + 10 + 1 + 15 + 1;

/// What a text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The seat of who wrote it.
    pub from: usize,
    /// Its number among the sender's messages.
    pub number: u64,
    /// When it was written, in nanoseconds since the load began.
    pub due_ns: u64,
    /// How long it is.
    pub bytes: usize,
}

impl Stamp {
    /// Makes the text, in place of what was in `text`.
    pub fn write(self, text: &mut String) {
        text.clear();
        write!(
            text,
            "{:05} {:010} {:015} ",
            self.from, self.number, self.due_ns
        )
        .expect("a string takes anything");
        text.extend(std::iter::repeat_n('x', self.bytes - HEAD_BYTES));
    }

    /// Reads a text as it came.
    ///
    /// # Errors
    /// When it is no text of ours, or not as it was written.
    pub fn read(text: &[u8]) -> Result<Stamp> {
        let (head, rest) = text.split_at_checked(HEAD_BYTES).context("a text is cut")?;
        ensure!(
            rest.iter().all(|byte| *byte == b'x'),
            "a text was changed on its way"
        );
        let head = str::from_utf8(head)?;
        let mut fields = head.split_ascii_whitespace();
        let mut number = || -> Result<u64> { Ok(fields.next().context("a text is cut")?.parse()?) };
        Ok(Stamp {
            from: number()? as usize,
            number: number()?,
            due_ns: number()?,
            bytes: text.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        from: 399,
        number: 1_234_567,
        due_ns: 12_345_678_901,
        bytes: 128,
    };

    #[test]
    fn a_text_is_read_as_it_was_written() {
        let mut text = String::from("before");
        STAMP.write(&mut text);
        assert_eq!(text.len(), 128);
        assert_eq!(Stamp::read(text.as_bytes()).unwrap(), STAMP);
    }

    #[test]
    fn a_changed_text_is_refused() {
        let mut text = String::new();
        STAMP.write(&mut text);
        assert!(Stamp::read(&text.as_bytes()[..20]).is_err());
        assert!(Stamp::read(text.replace('x', "y").as_bytes()).is_err());
        assert!(Stamp::read(text.replacen('0', "z", 1).as_bytes()).is_err());
    }
}
