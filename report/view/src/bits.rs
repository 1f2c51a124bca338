//! Which events of a trace are chosen: a bit each, with what it takes to count and to find them at once.

/// Words in a block whose bits are counted beforehand.
const BLOCK: usize = 8;

/// A set of ordinals that grows at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    /// How many ordinals there are, chosen or not.
    len: u32,
    /// Chosen ones in front of each block.
    before: Vec<u32>,
    count: u32,
}

impl Bits {
    /// How many are chosen.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Adds as many ordinals as `more` has.
    pub(crate) fn append(&mut self, more: &Part) {
        // No recording has so many; what is behind them is not shown.
        if self.len.checked_add(more.len).is_none() {
            return;
        }
        let shift = self.len % 64;
        for (i, word) in more.words.iter().enumerate() {
            let left = (more.len as usize - i * 64).min(64);
            let word = if left == 64 { *word } else { *word & ((1 << left) - 1) };
            if shift == 0 {
                self.words.push(word);
            } else {
                if let Some(last) = self.words.last_mut() {
                    *last |= word << shift;
                }
                if left as u32 + shift > 64 {
                    self.words.push(word >> (64 - shift));
                }
            }
        }
        self.len += more.len;
        self.recount();
    }

    /// Chooses one more.
    pub(crate) fn insert(&mut self, ordinal: u32) {
        if ordinal < self.len {
            self.words[ordinal as usize / 64] |= 1 << (ordinal % 64);
            self.before.clear();
            self.recount();
        }
    }

    /// Counts from the last block on that was counted.
    fn recount(&mut self) {
        let known = self.before.len().saturating_sub(1);
        let mut count = self.before.get(known).copied().unwrap_or(0);
        self.before.truncate(known);
        for block in self.words[known * BLOCK..].chunks(BLOCK) {
            self.before.push(count);
            count += block.iter().map(|word| word.count_ones()).sum::<u32>();
        }
        self.count = count;
    }

    /// Whether one is chosen.
    pub(crate) fn has(&self, ordinal: u32) -> bool {
        ordinal < self.len && self.words[ordinal as usize / 64] >> (ordinal % 64) & 1 == 1
    }

    /// How many are chosen in front of one.
    pub(crate) fn rank(&self, ordinal: u32) -> u32 {
        if ordinal >= self.len {
            return self.count;
        }
        let word = ordinal as usize / 64;
        let block = word / BLOCK;
        let whole: u32 = self.words[block * BLOCK..word].iter().map(|word| word.count_ones()).sum();
        let part = self.words[word] & ((1 << (ordinal % 64)) - 1);
        self.before[block] + whole + part.count_ones()
    }

    /// The chosen one that has so many in front of it.
    pub(crate) fn select(&self, rank: u32) -> Option<u32> {
        if rank >= self.count {
            return None;
        }
        let block = self.before.partition_point(|before| *before <= rank) - 1;
        let mut left = rank - self.before[block];
        for (i, word) in self.words[block * BLOCK..].iter().enumerate() {
            let ones = word.count_ones();
            if left < ones {
                let mut word = *word;
                for _ in 0..left {
                    word &= word - 1;
                }
                return Some(((block * BLOCK + i) * 64) as u32 + word.trailing_zeros());
            }
            left -= ones;
        }
        None
    }

    /// The first chosen one from here on.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        self.select(self.rank(from))
    }

    /// The last chosen one in front of this.
    pub(crate) fn previous(&self, before: u32) -> Option<u32> {
        self.select(self.rank(before).checked_sub(1)?)
    }
}

/// Bits of a part of a trace, to be appended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    words: Vec<u64>,
    len: u32,
}

impl Part {
    /// Adds an ordinal.
    pub(crate) fn push(&mut self, chosen: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        if chosen && let Some(last) = self.words.last_mut() {
            *last |= 1 << (self.len % 64);
        }
        self.len += 1;
    }

    /// How many ordinals it has.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_and_finds_what_a_list_of_numbers_does() {
        let mut state = 88_172_645_463_325_252_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let (mut bits, mut list, mut len) = (Bits::default(), Vec::new(), 0_u32);
        for round in 0..60 {
            let mut part = Part::default();
            // Dense, sparse, empty, and parts that end anywhere in a word.
            let one_in = [1, 2, 3, 50, 5000][round % 5];
            for _ in 0..random(400) {
                let chosen = random(one_in) == 0;
                part.push(chosen);
                if chosen {
                    list.push(len);
                }
                len += 1;
            }
            bits.append(&part);
            assert_eq!((bits.len, bits.count() as usize), (len, list.len()));
        }
        for ordinal in 0..len + 70 {
            let rank = list.partition_point(|o| *o < ordinal);
            assert_eq!(bits.rank(ordinal) as usize, rank, "{ordinal}");
            assert_eq!(bits.has(ordinal), list.binary_search(&ordinal).is_ok());
            assert_eq!(bits.next(ordinal), list.get(rank).copied());
            assert_eq!(bits.previous(ordinal), rank.checked_sub(1).map(|r| list[r]));
        }
        for (rank, ordinal) in list.iter().enumerate() {
            assert_eq!(bits.select(rank as u32), Some(*ordinal));
        }
        assert_eq!(bits.select(list.len() as u32), None);
        let free = (0..len).find(|o| !bits.has(*o)).unwrap();
        let before = bits.clone();
        bits.insert(free);
        assert!(bits.has(free) && bits.count() == before.count() + 1);
        assert_eq!(bits.rank(len), before.rank(len) + 1);
    }

    #[test]
    fn nothing_has_no_first_and_no_last() {
        let bits = Bits::default();
        assert_eq!((bits.next(0), bits.previous(7), bits.select(0), bits.rank(3)), (None, None, None, 0));
    }
}
