//! Says of a send key that it is surely not in a file, without a look at the file: a blocked Bloom filter (F. Putze,
//! P. Sanders, J. Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007). A question touches one line of the
//! processor's cache. Of keys that are not in the file some 5 in 1,000 are said to be maybe there.

use crate::rows::codec::SendHash;

/// How many bits there are for a key.
const BITS_A_KEY: usize = 12;
/// How many of them a key sets.
const SET_BY_A_KEY: u32 = 7;
const WORDS: usize = 8;
const BLOCK_BITS: usize = 64 * WORDS;
/// How many bytes a block takes in a file.
pub const BLOCK_BYTES: usize = BLOCK_BITS / 8;

/// As long as a line of the cache, and where one begins.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Block([u64; WORDS]);

/// The keys of a file, in short.
pub struct Filter {
    blocks: Vec<Block>,
}

impl Filter {
    /// An empty one with room for so many keys.
    pub fn for_keys(keys: u64) -> Filter {
        let bits = usize::try_from(keys).unwrap_or(usize::MAX / BITS_A_KEY) * BITS_A_KEY;
        let blocks = vec![Block::default(); bits.div_ceil(BLOCK_BITS).max(1)];
        Filter { blocks }
    }

    pub fn add(&mut self, hash: &SendHash) {
        let (block, bits) = self.place(hash);
        for bit in places(bits) {
            self.blocks[block].0[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// False only when the key was not added.
    pub fn may_have(&self, hash: &SendHash) -> bool {
        let (block, bits) = self.place(hash);
        let Block(words) = &self.blocks[block];
        places(bits).all(|bit| words[bit / 64] & (1 << (bit % 64)) != 0)
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// As it is in a file.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes());
        for Block(words) in &self.blocks {
            words
                .iter()
                .for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
    }

    /// None when the bytes are no filter.
    pub fn read(bytes: &[u8]) -> Option<Filter> {
        let (words, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        let (blocks, []) = words.as_chunks::<WORDS>() else {
            return None;
        };
        let block = |words: &[[u8; 8]; WORDS]| Block(words.map(u64::from_le_bytes));
        let blocks: Vec<_> = blocks.iter().map(block).collect();
        (!blocks.is_empty()).then_some(Filter { blocks })
    }

    /// The block of a key, and what says which of its bits. Both are taken from the hash: it is one of a strong
    /// function, so that nobody can choose keys that meet.
    fn place(&self, hash: &SendHash) -> (usize, u64) {
        let [_, first, second] = hash.as_chunks().0 else {
            unreachable!("a hash has 24 bytes");
        };
        let block = (u128::from(u64::from_be_bytes(*first)) * self.blocks.len() as u128) >> 64;
        (block as usize, u64::from_be_bytes(*second))
    }
}

fn places(bits: u64) -> impl Iterator<Item = usize> {
    (0..SET_BY_A_KEY).map(move |n| (bits >> (9 * n)) as usize % BLOCK_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> SendHash {
        rand::random()
    }

    #[test]
    fn what_was_added_is_there_and_little_else_seems_to_be() {
        let mut filter = Filter::for_keys(10_000);
        let keys: Vec<SendHash> = (0..10_000).map(|_| random()).collect();
        keys.iter().for_each(|key| filter.add(key));
        let mut bytes = Vec::new();
        filter.write(&mut bytes);
        assert_eq!(bytes.len(), filter.bytes());
        let filter = Filter::read(&bytes).unwrap();
        assert!(keys.iter().all(|key| filter.may_have(key)));
        let wrong = (0..100_000).filter(|_| filter.may_have(&random())).count();
        assert!(wrong < 1_500, "{wrong} of 100,000");
    }

    #[test]
    fn keys_of_one_user_are_spread_over_all_blocks() {
        let mut filter = Filter::for_keys(10_000);
        for _ in 0..10_000 {
            let mut key = random();
            key[..8].fill(7);
            filter.add(&key);
        }
        assert!(
            filter
                .blocks
                .iter()
                .all(|Block(words)| words.iter().any(|word| *word != 0))
        );
    }

    #[test]
    fn bytes_of_another_length_are_no_filter() {
        assert!(Filter::read(&[]).is_none());
        assert!(Filter::read(&[0; BLOCK_BYTES + 1]).is_none());
        assert!(Filter::read(&[0; BLOCK_BYTES - 8]).is_none());
        assert!(Filter::read(&[0; BLOCK_BYTES]).is_some());
    }
}
