//! A set of seqs as contiguous ranges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which seqs are held. Ranges never touch or overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    /// Adds `from..=to`; an empty range adds nothing.
    pub fn insert(&mut self, mut from: i64, mut to: i64) {
        if from > to {
            return;
        }
        // Swallow every range that overlaps or touches. They are found from the right: the last one that
        // begins at or before `to + 1`.
        while let Some((&start, &end)) = self.0.range(..=to.saturating_add(1)).next_back() {
            if end < from - 1 {
                break;
            }
            from = from.min(start);
            to = to.max(end);
            self.0.remove(&start);
        }
        self.0.insert(from, to);
    }

    /// The range that holds `seq`.
    pub fn around(&self, seq: i64) -> Option<(i64, i64)> {
        let (&start, &end) = self.0.range(..=seq).next_back()?;
        (end >= seq).then_some((start, end))
    }

    /// Whether `seq` is held.
    pub fn contains(&self, seq: i64) -> bool {
        self.around(seq).is_some()
    }

    /// The first held seq above `seq`.
    pub fn next_above(&self, seq: i64) -> Option<i64> {
        if self.contains(seq.saturating_add(1)) {
            return Some(seq + 1);
        }
        self.0
            .range(seq.saturating_add(1)..)
            .next()
            .map(|(&start, _)| start)
    }

    /// Forgets everything below `seq`.
    pub fn cut_below(&mut self, seq: i64) {
        let kept = self.0.split_off(&seq);
        let before = std::mem::replace(&mut self.0, kept);
        if let Some((_, &end)) = before.last_key_value()
            && end >= seq
        {
            self.0.insert(seq, end);
        }
    }

    /// All ranges, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.0.iter().map(|(&from, &to)| (from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_the_set_of_what_was_inserted(
            inserted in prop::collection::vec((1i64..60, 0i64..8), 0..30),
            cut in 0i64..70,
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (from, len) in inserted {
                ranges.insert(from, from + len - 1);
                set.extend(from..from + len);
            }
            ranges.cut_below(cut);
            set.retain(|seq| *seq >= cut);
            for seq in 0..80 {
                prop_assert_eq!(ranges.contains(seq), set.contains(&seq));
                prop_assert_eq!(ranges.next_above(seq), set.range(seq + 1..).next().copied());
            }
            let all: Vec<_> = ranges.iter().collect();
            prop_assert!(all.windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }
    }
}
