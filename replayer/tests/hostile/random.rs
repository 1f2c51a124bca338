//! Numbers for hostile traces: from a seed, so that every trace can be made again.

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
    /// A number as programs use them, or as attackers do.
    pub(crate) fn number(&mut self) -> u64 {
        const EDGES: [u64; 24] = [
            0,
            1,
            2,
            3,
            0x80,
            0x100,
            4095,
            4096,
            0xffff,
            0x1_0000,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_fffe,
            0xffff_ffff,
            1 << 32,
            1 << 39,
            1 << 40,
            1 << 46,
            1 << 47,
            1 << 62,
            i64::MAX as u64,
            1 << 63,
            u64::MAX - 1,
            u64::MAX,
        ];
        match self.below(8) {
            0..=2 => self.below(12),
            3 => self.below(1 << 12),
            4 => -(self.below(140) as i64) as u64,
            5 => self.pick(&EDGES),
            6 => self.pick(&EDGES).wrapping_add(self.below(3)).wrapping_sub(1),
            _ => self.next() >> self.below(64),
        }
    }
    /// What a call returned.
    pub(crate) fn result(&mut self) -> i64 {
        match self.below(8) {
            0..=1 => 0,
            2..=3 => self.below(12) as i64,
            4 => -(self.below(134) as i64),
            5 => -(511 + self.below(8) as i64),
            6 => self.below(1 << 20) as i64,
            _ => self.number() as i64,
        }
    }
}
