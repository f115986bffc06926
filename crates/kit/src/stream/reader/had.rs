//! How far a reader has got, and how a record stands to that. Without waiting for anything.

use crate::stream::{Mark, Record};

/// How far somebody has got.
#[derive(Debug, Clone, Copy)]
pub struct Had {
    /// The number of the last record.
    pub number: u64,
    /// What must come next.
    pub next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// What follows that.
    After(Mark),
    /// The record with the next number, whatever it is.
    Numbered,
    /// Nobody knows.
    Unknown,
}

/// How a record stands to what was had.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It came again.
    Again,
    /// It was had, under another number.
    Refilled,
    /// It comes next.
    Follows,
    /// There is or was something before it.
    Beyond,
}

impl Had {
    /// The record with that number is next.
    pub fn before(number: u64) -> Had {
        Had {
            number: number.saturating_sub(1),
            next: Next::Numbered,
        }
    }

    pub fn step(&self, number: u64, record: &Record) -> Step {
        match self.next {
            Next::After(last) if last.epoch == record.mark.epoch => {
                match (record.mark.place <= last.place, number <= self.number) {
                    (true, true) => Step::Again,
                    (true, false) => Step::Refilled,
                    (false, _) if number <= self.number + 1 && self.follows(record) => {
                        Step::Follows
                    }
                    (false, _) => Step::Beyond,
                }
            }
            _ if number <= self.number => Step::Again,
            Next::Numbered if number == self.number + 1 => Step::Follows,
            _ => Step::Beyond,
        }
    }

    /// Whether nothing of its history is between what was had and this record.
    pub fn follows(&self, record: &Record) -> bool {
        match self.next {
            Next::After(last) => last.epoch == record.mark.epoch && record.prev <= last.place,
            // It is the first of its history.
            Next::Numbered | Next::Unknown => record.prev == 0,
        }
    }

    /// Whether it has what came from there.
    pub fn has(&self, mark: Mark) -> bool {
        matches!(self.next, Next::After(last) if last.epoch == mark.epoch && mark.place <= last.place)
    }
}
