//! Reads a stream: each record once and in order, whatever its consumer repeats, mixes up or loses on the way. It never
//! goes on over something that is missing unless it is told to.
//!
//! What it goes by is what the records say of themselves: where each came from, and which place it follows. Numbers of the
//! stream only tell what to acknowledge and where to look. So a stream that was lost and filled again is gone on with, and
//! what comes for a second time is dropped.
//!
//! ```text
//! consumer ── at least once, anyhow ──▶ aside ── what follows, once ──▶ who reads
//! ```

mod had;

use std::collections::BTreeMap;
use std::time::Duration;

use had::{Had, Next, Step};

use super::consumer::{Away, Consumer, Pulled, Span, Standing, UNDER_WAY_MAX};
use super::{Mark, Record};

/// Where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With the oldest record, or where a consumer of the name is.
    Beginning,
    /// With what comes from now on, or where a consumer of the name is.
    Now,
    /// Behind this, which who reads has for certain, wherever a consumer of the name is.
    Behind(Mark),
}

/// What is given at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The next records, of one history, without one left out. None: there may be more at once, or later.
    Records(Vec<Record>),
    /// What comes next does not follow. It is said each time until [`Reader::go_on`].
    Broken(Break),
    /// Something was found as it should not be, and put right. Nothing is missing by that.
    Healed(Healed),
}

/// What is wrong with what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Something before it was not there any more when it would have been appended, or never was.
    Gap(Mark),
    /// The stream had something before it, and has it no more.
    Dropped(Mark),
    /// It is of another history.
    Restarted(Mark),
    /// What was taken last is not there any more, so that nobody knows what is between.
    Unknown(Mark),
}

/// What was put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Healed {
    /// Somebody had removed the consumer.
    Consumer,
    /// The stream is another one, or has lost its end.
    Stream,
    /// The stream was emptied, and is filled again.
    Emptied,
}

/// Why nothing is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// May pass.
    #[error("{0}")]
    Away(#[from] Away),
    /// Somebody else has acknowledged under this name what this reader has not had. Does not pass.
    #[error("somebody else reads as the same consumer")]
    Shared,
}

/// Reads a stream.
#[derive(Debug)]
pub struct Reader<C> {
    consumer: C,
    begin: Begin,
    /// Of which making of the stream the numbers are; none before it was looked at.
    made: Option<String>,
    /// Whether the consumer was there when it was last looked at, and nothing has made us doubt it since.
    is_sound: bool,
    /// What was given last.
    had: Had,
    /// What was acknowledged last by who reads.
    kept: Had,
    /// The number up to which the consumer knows that.
    told: u64,
    /// What came and can not be given yet, by number.
    aside: BTreeMap<u64, Record>,
    /// The stream is another one or was emptied, and that was said.
    is_refilled: bool,
}

/// What is between what was had and a record that came.
enum Before {
    /// Something that was lost on the way or overtaken. It comes again.
    Late,
    /// Nothing.
    Nothing,
    /// That is not known: the record itself is not in the stream any more. What comes will tell.
    Stale,
}

impl<C: Consumer> Reader<C> {
    /// Reads for that consumer; nothing is asked yet.
    pub fn new(consumer: C, begin: Begin) -> Reader<C> {
        let nowhere = Had {
            number: 0,
            next: Next::Unknown,
        };
        Reader {
            consumer,
            begin,
            made: None,
            is_sound: false,
            had: nowhere,
            kept: nowhere,
            told: 0,
            aside: BTreeMap::new(),
            is_refilled: false,
        }
    }

    /// What comes next, when something comes in time. Whoever takes again has had what was given; what they do not
    /// acknowledge comes to the next reader as well.
    ///
    /// # Errors
    /// Why there is nothing now, or never.
    pub async fn take(&mut self, wait: Duration) -> Result<Taken, Trouble> {
        let taken = self.try_take(wait).await;
        if taken.is_err() {
            self.is_sound = false;
        }
        taken
    }

    async fn try_take(&mut self, wait: Duration) -> Result<Taken, Trouble> {
        if !self.is_sound
            && let Some(healed) = self.look().await?
        {
            return Ok(Taken::Healed(healed));
        }
        let taken = self.next().await?;
        if taken != Taken::Records(Vec::new()) {
            return Ok(taken);
        }
        match self.consumer.pull(wait).await? {
            Pulled::Over => self.is_sound = false,
            Pulled::Records(records) => self.aside.extend(records),
        }
        // Each was handed over and comes again.
        while self.aside.len() > 2 * UNDER_WAY_MAX {
            self.aside.pop_last();
        }
        self.next().await
    }

    /// Says that everything that was given was taken. When it fails it is said again with the next one.
    ///
    /// # Errors
    /// [`Trouble::Away`].
    pub async fn acknowledge(&mut self) -> Result<(), Trouble> {
        self.kept = self.had;
        self.tell().await
    }

    /// Goes on over a break that was said.
    pub fn go_on(&mut self) {
        if let Some(number) = self.aside.keys().next() {
            self.had = Had::before(*number);
        }
    }

    /// Whether everything that the stream has was given, acknowledged, and is known to be.
    ///
    /// # Errors
    /// [`Trouble::Away`].
    pub async fn has_all(&self) -> Result<bool, Trouble> {
        let is_told = self.told >= self.kept.number && self.kept.number == self.had.number;
        Ok(self.is_sound && is_told && self.consumer.at(self.had.number + 1).await?.is_none())
    }

    async fn tell(&mut self) -> Result<(), Trouble> {
        if self.told < self.kept.number
            && let Some(told) = self.consumer.acknowledge(self.kept.number).await?
        {
            self.told = self.told.max(told);
        }
        Ok(())
    }

    /// Gives of what came what follows; what came again is dropped.
    async fn next(&mut self) -> Result<Taken, Trouble> {
        let mut given = Vec::new();
        while let Some(first) = self.aside.first_entry() {
            let (number, mark) = (*first.key(), first.get().mark);
            match self.had.step(number, first.get()) {
                Step::Again => _ = first.remove(),
                Step::Refilled | Step::Beyond if !given.is_empty() => break,
                Step::Refilled => {
                    first.remove();
                    self.had.number = number;
                    if self.kept.has(mark) {
                        self.kept.number = number;
                    }
                    if !std::mem::replace(&mut self.is_refilled, true) {
                        return Ok(Taken::Healed(Healed::Emptied));
                    }
                }
                Step::Follows => {
                    given.push(first.remove());
                    self.is_refilled = false;
                    let next = Next::After(mark);
                    self.had = Had { number, next };
                }
                Step::Beyond => {
                    let record = first.get();
                    let (follows, is_gap) = (self.had.follows(record), record.prev == mark.place);
                    self.tell().await?;
                    match self.before(number).await? {
                        Before::Late => break,
                        Before::Stale => _ = self.aside.remove(&number),
                        // What the stream has dropped there was had.
                        Before::Nothing if follows => self.had = Had::before(number),
                        Before::Nothing => {
                            let broken = self.broken(mark, is_gap);
                            return Ok(Taken::Broken(broken));
                        }
                    }
                }
            }
        }
        if given.is_empty() {
            // Of what came again it is said again that it was taken.
            self.tell().await?;
        }
        Ok(Taken::Records(given))
    }

    /// What the stream has between what was had and that record, which came.
    async fn before(&self, number: u64) -> Result<Before, Trouble> {
        let behind = self.had.number + 1;
        if behind >= number {
            return Ok(Before::Nothing);
        }
        let between = match self.consumer.at(behind).await? {
            Some((found, _)) if found == number => return Ok(Before::Nothing),
            Some((found, _)) if found < number => found,
            _ => return Ok(Before::Stale),
        };
        match self.consumer.standing().await? {
            Some(standing) if standing.floor >= between => Err(Trouble::Shared),
            _ => Ok(Before::Late),
        }
    }

    fn broken(&self, mark: Mark, is_gap: bool) -> Break {
        match self.had.next {
            Next::After(last) if last.epoch != mark.epoch => Break::Restarted(mark),
            _ if is_gap => Break::Gap(mark),
            Next::Unknown => Break::Unknown(mark),
            _ => Break::Dropped(mark),
        }
    }

    /// Looks whether everything is there, and makes the consumer when it is not.
    async fn look(&mut self) -> Result<Option<Healed>, Trouble> {
        let nowhere = || Away("there is no stream yet; a worker makes it".into());
        let span = self.consumer.span().await?.ok_or_else(nowhere)?;
        let standing = self.consumer.standing().await?;
        let is_new = self.made.is_none();
        // Numbers that are not there any more are given to other records.
        let is_other = self.made.as_ref() != Some(&span.made) || span.last < self.had.number;
        if is_new {
            self.find_beginning(&span, standing).await?;
        } else if is_other {
            self.find_again(&span).await?;
        }
        match standing {
            Some(standing) if is_other => self.told = standing.floor,
            Some(standing) => self.told = self.told.max(standing.floor),
            None => {
                self.consumer.make(self.kept.number).await?;
                self.told = self.kept.number;
            }
        }
        (self.made, self.is_sound) = (Some(span.made), true);
        Ok(match standing {
            _ if is_new => None,
            _ if is_other => Some(Healed::Stream),
            None => Some(Healed::Consumer),
            Some(_) => None,
        })
    }

    async fn find_beginning(&mut self, span: &Span, is: Option<Standing>) -> Result<(), Trouble> {
        let had = match (self.begin, is) {
            (Begin::Behind(mark), _) => Had {
                number: self.find(mark, span).await?,
                next: Next::After(mark),
            },
            (_, Some(is)) => match self.exactly_at(is.floor).await? {
                Some(had) => had,
                None if is.is_new || is.floor == is.behind => Had::before(is.behind + 1),
                // The stream moves it over what it drops, whether that was taken or not.
                None => Had {
                    number: is.floor,
                    next: Next::Unknown,
                },
            },
            (Begin::Beginning, None) => Had::before(span.first),
            (Begin::Now, None) => {
                let had = self.exactly_at(span.last).await?;
                had.unwrap_or(Had::before(span.last + 1))
            }
        };
        (self.had, self.kept) = (had, had);
        Ok(())
    }

    async fn exactly_at(&self, number: u64) -> Result<Option<Had>, Trouble> {
        let found = self.consumer.at(number).await?;
        let found = found.filter(|(found, _)| *found == number);
        Ok(found.map(|(number, mark)| Had {
            number,
            next: Next::After(mark),
        }))
    }

    /// Finds in a stream that is another one what was had. Its numbers are others.
    async fn find_again(&mut self, span: &Span) -> Result<(), Trouble> {
        let mut found = [self.had, self.kept];
        for had in &mut found {
            match had.next {
                Next::After(mark) => had.number = self.find(mark, span).await?,
                Next::Numbered | Next::Unknown => had.number = span.first.saturating_sub(1),
            }
        }
        [self.had, self.kept] = found;
        self.aside.clear();
        self.is_refilled = true;
        Ok(())
    }

    /// The number of the last record up to that mark. What is of another history was before it, unless that is the newest
    /// one.
    async fn find(&self, mark: Mark, span: &Span) -> Result<u64, Trouble> {
        let newest = self.consumer.at(span.last).await?;
        let is_newest = newest.is_some_and(|(_, newest)| newest.epoch == mark.epoch);
        let was_had = |other: Mark| match other.epoch == mark.epoch {
            true => other.place <= mark.place,
            false => is_newest,
        };
        let (mut low, mut high) = (span.first, span.last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.consumer.at(middle).await? {
                Some((number, other)) if was_had(other) => low = number + 1,
                _ => high = middle,
            }
        }
        Ok(low.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests;
