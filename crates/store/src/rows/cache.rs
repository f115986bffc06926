//! Rows in memory, at most so many bytes of them. The writer puts in what it has committed; a reader who
//! found nothing may add what it read from disk, unless the writer was at that part of the cache meanwhile:
//! so an old row never takes the place of a newer one.

use std::hash::{BuildHasher as _, Hash};

use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::unsync::{Cache as Shard, DefaultLifecycle};
use rustc_hash::FxBuildHasher;

const SHARDS: usize = 16;

/// What a value takes in memory.
pub trait Weight {
    fn bytes(&self) -> u64;
}

/// The weight of a value is what it says.
#[derive(Clone)]
struct Bytes;

impl<K, V: Weight> Weighter<K, V> for Bytes {
    fn weight(&self, _: &K, value: &V) -> u64 {
        value.bytes()
    }
}

/// The cache.
pub struct Cache<K, V> {
    /// A row that takes more is not kept, so that it does not push out many.
    row_bytes_max: u64,
    shards: Box<[Mutex<Part<K, V>>]>,
}

/// A shard, and how often the writer was at it.
struct Part<K, V> {
    written: u64,
    rows: Shard<K, V, Bytes, FxBuildHasher>,
}

impl<K: Copy + Eq + Hash, V: Clone + Weight> Cache<K, V> {
    /// A cache of `bytes`, in which a row takes about `row_bytes`.
    pub fn of(bytes: u64, row_bytes: u64) -> Self {
        let bytes = bytes / SHARDS as u64;
        let rows = (bytes / row_bytes) as usize;
        let shard = || {
            Mutex::new(Part {
                written: 0,
                rows: Shard::with(
                    rows,
                    bytes,
                    Bytes,
                    FxBuildHasher,
                    DefaultLifecycle::default(),
                ),
            })
        };
        Cache {
            row_bytes_max: bytes / 8,
            shards: (0..SHARDS).map(|_| shard()).collect(),
        }
    }

    /// The row, or else what `read` finds.
    pub fn get_or_read<E>(
        &self,
        key: K,
        read: impl FnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<V>, E> {
        let shard = self.shard(&key);
        let written = {
            let part = shard.lock();
            if let Some(row) = part.rows.get(&key) {
                return Ok(Some(row.clone()));
            }
            part.written
        };
        let Some(row) = read()? else { return Ok(None) };
        let mut part = shard.lock();
        if part.written == written && row.bytes() <= self.row_bytes_max {
            part.rows.insert(key, row.clone());
        }
        Ok(Some(row))
    }

    /// The row, if it is here.
    pub fn get(&self, key: K) -> Option<V> {
        self.shard(&key).lock().rows.get(&key).cloned()
    }

    /// Forgets a row that was made of what a commit has changed.
    pub fn forget(&self, key: K) {
        let mut part = self.shard(&key).lock();
        part.written += 1;
        part.rows.remove(&key);
    }

    /// Takes in what was committed.
    pub fn put(&self, key: K, row: V) {
        let mut part = self.shard(&key).lock();
        part.written += 1;
        if row.bytes() <= self.row_bytes_max {
            part.rows.insert(key, row);
        } else {
            part.rows.remove(&key);
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut part = shard.lock();
            part.written += 1;
            part.rows.clear();
        }
    }

    fn shard(&self, key: &K) -> &Mutex<Part<K, V>> {
        // The low bits choose the place inside a shard.
        &self.shards[(FxBuildHasher.hash_one(key) >> 48) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Row(u64);

    /// Heavier than a cache of these tests takes.
    const HEAVY: u64 = u64::MAX;

    impl Weight for Row {
        fn bytes(&self) -> u64 {
            if self.0 == HEAVY { HEAVY } else { 100 }
        }
    }

    fn read(row: Option<Row>) -> impl FnOnce() -> Result<Option<Row>, Infallible> {
        move || Ok(row)
    }

    #[test]
    fn an_old_row_never_takes_the_place_of_a_newer_one() {
        let cache = Cache::of(1 << 20, 100);
        let got = cache.get_or_read(1, || {
            // The writer commits while a reader is at the disk, and its row is pushed out at once.
            cache.put(1, Row(2));
            cache.shard(&1).lock().rows.clear();
            Ok::<_, Infallible>(Some(Row(1)))
        });
        assert_eq!(got, Ok(Some(Row(1))));
        assert_eq!(cache.get_or_read(1, read(Some(Row(2)))), Ok(Some(Row(2))));
        assert_eq!(cache.get_or_read(1, read(None)), Ok(Some(Row(2))));
        cache.clear();
        assert_eq!(cache.get_or_read(1, read(None)), Ok(None));
    }

    #[test]
    fn a_row_that_is_too_heavy_does_not_leave_the_old_one_behind() {
        let cache = Cache::of(1 << 20, 100);
        cache.put(1, Row(1));
        cache.put(1, Row(HEAVY));
        assert_eq!(cache.get_or_read(1, read(None)), Ok(None));
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let cache = Cache::of(160_000, 100);
        for key in 0..100_000u64 {
            cache.put(key, Row(key));
        }
        let held: u64 = cache
            .shards
            .iter()
            .map(|shard| shard.lock().rows.weight())
            .sum();
        assert!(held <= 160_000, "{held}");
        assert!(held >= 100_000, "{held}");
    }
}
