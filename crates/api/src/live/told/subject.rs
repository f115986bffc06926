//! Subjects of the bus that have an id in them. One is made for each hearer of each event, so it takes no memory of its
//! own.

use std::fmt;
use std::ops::Deref;

use crate::live::decimal::Decimal;

/// Room for five letters, a sign and the digits of any id.
const BYTES_MAX: usize = 26;

/// Such as `user.17`.
#[derive(Clone, Copy)]
pub struct Subject {
    text: [u8; BYTES_MAX],
    bytes: usize,
}

impl Subject {
    /// A kind of five letters at most, and an id.
    pub(super) fn of(kind: &'static str, id: i64) -> Subject {
        let mut subject = Subject {
            text: [0; BYTES_MAX],
            bytes: 0,
        };
        subject.put(kind.as_bytes());
        if id < 0 {
            subject.put(b"-");
        }
        subject.put(Decimal::of(id.unsigned_abs()).as_bytes());
        subject
    }

    fn put(&mut self, part: &[u8]) {
        self.text[self.bytes..][..part.len()].copy_from_slice(part);
        self.bytes += part.len();
    }
}

impl Deref for Subject {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.text[..self.bytes]).expect("it is made of ASCII")
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_its_kind_and_the_id_in_decimals() {
        for id in [0, 7, 10, -1, 1 << 40, i64::MAX, i64::MIN] {
            assert_eq!(&*Subject::of("user.", id), format!("user.{id}"));
        }
    }
}
