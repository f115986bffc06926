//! A consumer of the log in memory. It can be told to do everything that a real one may.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Away, Consumer, Pulled, Span, Standing};
use crate::stream::{Mark, Record};

/// The consumer. Those of one name share what they have got.
#[derive(Debug)]
pub struct Memory {
    stream: Arc<crate::stream::Memory>,
    name: String,
    /// Up to where it was handed over since this one is there.
    delivered: u64,
    /// Of which making of the stream that is.
    made: u64,
    mischief: Option<Arc<Mutex<Mischief>>>,
}

/// What may go wrong at each step, by chance.
#[derive(Debug)]
pub struct Mischief {
    random: StdRng,
    /// How many of a hundred steps go wrong.
    pub percent: u32,
}

impl Mischief {
    /// By that seed.
    pub fn new(seed: u64, percent: u32) -> Arc<Mutex<Mischief>> {
        let random = StdRng::seed_from_u64(seed);
        Arc::new(Mutex::new(Mischief { random, percent }))
    }

    fn strikes(&mut self) -> bool {
        self.random.random_range(0..100) < self.percent
    }

    /// Some are lost, some come twice, and they are mixed up.
    fn mix(&mut self, records: &mut Vec<(u64, Record)>) {
        let came = std::mem::take(records);
        for record in came {
            if self.strikes() {
                continue;
            }
            if self.strikes() {
                records.push(record.clone());
            }
            records.push(record);
        }
        if self.strikes() {
            for at in 0..records.len() {
                let other = self.random.random_range(0..records.len());
                records.swap(at, other);
            }
        }
    }
}

impl Memory {
    /// Of a log, under a name.
    pub fn new(stream: Arc<crate::stream::Memory>, name: &str) -> Memory {
        Memory {
            stream,
            name: name.into(),
            delivered: 0,
            made: 0,
            mischief: None,
        }
    }

    /// The same, with things going wrong.
    pub fn with(self, mischief: Arc<Mutex<Mischief>>) -> Memory {
        Memory {
            mischief: Some(mischief),
            ..self
        }
    }

    fn may_fail(&self) -> Result<(), Away> {
        match &self.mischief {
            Some(mischief) if mischief.lock().strikes() => Err(Away("nobody answers".into())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Consumer for Memory {
    async fn span(&self) -> Result<Option<Span>, Away> {
        self.may_fail()?;
        Ok(Some(self.stream.kept().span()))
    }

    async fn at(&self, number: u64) -> Result<Option<(u64, Mark)>, Away> {
        self.may_fail()?;
        let kept = self.stream.kept();
        let found = kept.records.range(number..).next();
        Ok(found.map(|(number, record)| (*number, record.mark)))
    }

    async fn standing(&self) -> Result<Option<Standing>, Away> {
        self.may_fail()?;
        Ok(self.stream.kept().consumers.get(&self.name).copied())
    }

    async fn make(&mut self, behind: u64) -> Result<(), Away> {
        self.may_fail()?;
        let mut kept = self.stream.kept();
        if kept.consumers.contains_key(&self.name) {
            return Err(Away("it is there".into()));
        }
        let standing = Standing {
            behind,
            floor: behind,
            is_new: true,
        };
        kept.consumers.insert(self.name.clone(), standing);
        (self.delivered, self.made) = (behind, kept.made);
        Ok(())
    }

    async fn pull(&mut self, wait: Duration) -> Result<Pulled, Away> {
        self.may_fail()?;
        let mut records: Vec<(u64, Record)> = {
            let mut kept = self.stream.kept();
            if self.made != kept.made {
                (self.delivered, self.made) = (0, kept.made);
            }
            let Some(standing) = kept.consumers.get_mut(&self.name) else {
                return Ok(Pulled::Over);
            };
            // What was not acknowledged comes again when there is nothing else.
            let floor = standing.floor;
            let found = |behind: u64| {
                let found = kept.records.range(behind + 1..).take(UNDER_WAY);
                found.map(|(number, record)| (*number, record.clone()))
            };
            let mut records: Vec<_> = found(self.delivered.max(floor)).collect();
            if records.is_empty() {
                records = found(floor).collect();
            }
            if let (Some((last, _)), Some(standing)) =
                (records.last(), kept.consumers.get_mut(&self.name))
            {
                self.delivered = *last;
                standing.is_new = false;
            }
            records
        };
        if let Some(mischief) = &self.mischief {
            let mut mischief = mischief.lock();
            mischief.mix(&mut records);
            if mischief.strikes() {
                return Ok(Pulled::Over);
            }
        }
        if records.is_empty() {
            tokio::time::sleep(wait).await;
        }
        Ok(Pulled::Records(records))
    }

    async fn acknowledge(&mut self, number: u64) -> Result<Option<u64>, Away> {
        self.may_fail()?;
        let mut kept = self.stream.kept();
        let number = number.min(self.delivered);
        let Some(standing) = kept.consumers.get_mut(&self.name) else {
            return Err(Away("there is none".into()));
        };
        standing.floor = standing.floor.max(number);
        Ok(Some(number))
    }

    async fn remove(&mut self) -> Result<bool, Away> {
        self.may_fail()?;
        Ok(self.stream.kept().consumers.remove(&self.name).is_some())
    }
}

/// How many records are handed over at once.
const UNDER_WAY: usize = 7;
