//! Packed sequences of operations: a few bytes each, decoded front to back.

/// Resolution of the times kept with operations, ns.
const UNIT_NS: u64 = 100;

/// Symbols with their times, as varints. Append-only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seq {
    bytes: Vec<u8>,
    last: u64,
    waited: u64,
}

/// Stands where a symbol would: the growth of the time waited follows.
const WAITED: u64 = 0;

/// One element of a [`Seq`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) symbol: u32,
    pub(crate) t_ns: u64,
    /// Time that was waited for a CPU up to here; only its growth means something.
    pub(crate) waited_ns: u64,
}

impl Seq {
    pub(crate) fn push(&mut self, symbol: u32, t_ns: u64, waited_ns: u64) {
        let waited = waited_ns / UNIT_NS;
        if waited > self.waited {
            varint(&mut self.bytes, WAITED);
            varint(&mut self.bytes, waited - self.waited);
            self.waited = waited;
        }
        let t = t_ns / UNIT_NS;
        let delta = t.wrapping_sub(self.last) as i64;
        self.last = t;
        varint(&mut self.bytes, u64::from(symbol) + 1);
        varint(&mut self.bytes, ((delta << 1) ^ (delta >> 63)) as u64);
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
        while symbol == WAITED {
            self.waited = self.waited.wrapping_add(self.take()?);
            symbol = self.take()?;
        }
        let zigzag = self.take()?;
        let delta = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        self.last = self.last.wrapping_add(delta as u64);
        Some(Op {
            symbol: (symbol - 1) as u32,
            t_ns: self.last.saturating_mul(UNIT_NS),
            waited_ns: self.waited.saturating_mul(UNIT_NS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_back() {
        let ops = [
            (0, 0, 0),
            (7, 100, 0),
            (300, 90_000, 1_000),
            (7, 50_000, 1_000),
            (u32::MAX, 1 << 60, 1 << 40),
            (1, 0, 1 << 40),
        ];
        let mut seq = Seq::default();
        for (symbol, t, waited) in ops {
            seq.push(symbol, t, waited);
        }
        let back: Vec<_> = seq.iter().map(|o| (o.symbol, o.t_ns, o.waited_ns)).collect();
        assert_eq!(back, ops.map(|(s, t, w)| (s, t / 100 * 100, w / 100 * 100)));
    }

    #[test]
    fn a_usual_operation_takes_few_bytes() {
        let mut seq = Seq::default();
        for i in 0..1000 {
            seq.push(i % 100, u64::from(i) * 500_000, 0);
        }
        seq.shrink();
        assert!(seq.bytes() <= 3 * 1000 + 3, "{}", seq.bytes());
    }
}
