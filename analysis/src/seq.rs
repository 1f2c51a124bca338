//! Packed sequences of operations: a few bytes each, decoded front to back.

/// Resolution of the times kept with operations, ns.
const UNIT_NS: u64 = 100;

/// Operations that took less are as long as that, as far as anyone can tell: most of them, for which no byte is spent.
pub(crate) const SHORT_NS: u64 = 20_000;

/// Symbols with their times, as varints. Append-only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seq {
    bytes: Vec<u8>,
    last: u64,
    waited: u64,
    len: u32,
}

/// Stands where a symbol would: the growth of the time waited follows.
const WAITED: u64 = 0;
/// Stands where a symbol would: the duration of the operation follows.
const LASTED: u64 = 1;
/// The number that stands for the first symbol.
const FIRST_SYMBOL: u64 = 2;

/// One element of a [`Seq`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) symbol: u32,
    pub(crate) t_ns: u64,
    /// Time that was waited for a CPU up to here; only its growth means something.
    pub(crate) waited_ns: u64,
    /// How long it took; [`SHORT_NS`] if less.
    pub(crate) duration_ns: u64,
}

impl Seq {
    /// Appends an operation and returns its place.
    pub(crate) fn push(&mut self, symbol: u32, t_ns: u64, duration_ns: u64, waited_ns: u64) -> u32 {
        let waited = waited_ns / UNIT_NS;
        if waited > self.waited {
            varint(&mut self.bytes, WAITED);
            varint(&mut self.bytes, waited - self.waited);
            self.waited = waited;
        }
        if duration_ns >= SHORT_NS {
            varint(&mut self.bytes, LASTED);
            varint(&mut self.bytes, duration_ns / UNIT_NS);
        }
        let t = t_ns / UNIT_NS;
        let delta = t.wrapping_sub(self.last) as i64;
        self.last = t;
        varint(&mut self.bytes, u64::from(symbol) + FIRST_SYMBOL);
        varint(&mut self.bytes, ((delta << 1) ^ (delta >> 63)) as u64);
        self.len = self.len.saturating_add(1);
        self.len - 1
    }

    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    pub(crate) fn iter(&self) -> Ops<'_> {
        Ops { bytes: &self.bytes, last: 0, waited: 0 }
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// See [`Seq::iter`].
#[derive(Debug, Clone)]
pub(crate) struct Ops<'a> {
    bytes: &'a [u8],
    last: u64,
    waited: u64,
}

impl Ops<'_> {
    fn take(&mut self) -> Option<u64> {
        let mut value = 0;
        let mut shift = 0;
        loop {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift += 7;
        }
    }
}

impl Iterator for Ops<'_> {
    type Item = Op;
    fn next(&mut self) -> Option<Op> {
        let mut symbol = self.take()?;
        let mut duration_ns = SHORT_NS;
        while symbol < FIRST_SYMBOL {
            let value = self.take()?;
            if symbol == WAITED {
                self.waited = self.waited.wrapping_add(value);
            } else {
                duration_ns = value.saturating_mul(UNIT_NS);
            }
            symbol = self.take()?;
        }
        let zigzag = self.take()?;
        let delta = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        self.last = self.last.wrapping_add(delta as u64);
        Some(Op {
            symbol: (symbol - FIRST_SYMBOL) as u32,
            t_ns: self.last.saturating_mul(UNIT_NS),
            waited_ns: self.waited.saturating_mul(UNIT_NS),
            duration_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_back() {
        let ops = [
            (0, 0, 0, 0),
            (7, 100, SHORT_NS, 0),
            (300, 90_000, 1 << 40, 1_000),
            (7, 50_000, 1_000, 1_000),
            (u32::MAX, 1 << 60, 0, 1 << 40),
            (1, 0, 0, 1 << 40),
        ];
        let mut seq = Seq::default();
        for (at, (symbol, t, took, waited)) in ops.into_iter().enumerate() {
            assert_eq!(seq.push(symbol, t, took, waited), at as u32);
        }
        let back: Vec<_> = seq.iter().map(|o| (o.symbol, o.t_ns, o.duration_ns, o.waited_ns)).collect();
        let rounded = |ns: u64| ns / 100 * 100;
        assert_eq!(back, ops.map(|(s, t, d, w)| (s, rounded(t), rounded(d.max(SHORT_NS)), rounded(w))));
    }

    #[test]
    fn a_usual_operation_takes_few_bytes() {
        let mut seq = Seq::default();
        for i in 0..1000 {
            seq.push(i % 100, u64::from(i) * 500_000, 5_000, 0);
        }
        seq.shrink();
        assert!(seq.bytes() <= 3 * 1000 + 3, "{}", seq.bytes());
    }
}
