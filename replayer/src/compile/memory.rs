//! Recorded mappings and the value slots that hold where their replayed counterparts really are.

use super::world::ProcIx;
use ctrace_analysis::shared::{Marked, SharedMap};
use rustc_hash::FxHashMap;

/// A mapping of a recorded address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) len: u64,
    pub(crate) slot: u32,
    /// Distance from the slot's address.
    pub(crate) offset: u64,
    /// The address space that made it, which may use its slot again for the same address.
    made_by: u32,
    /// Made by the engine in the place of memory that no recorded call mapped.
    stand_in: bool,
}

impl Marked for Mapping {}

/// The mappings of one address space, in what it has in common with those that it was forked from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Maps {
    by_start: SharedMap<u64, Mapping>,
    /// Tells address spaces apart.
    space: u32,
    /// Recorded start of the heap and the slot with the real one.
    pub(crate) heap: Option<(u64, u32)>,
    /// How much of the worker's region for memory that nobody mapped is in use.
    stand_in_bytes: u64,
}

/// The address spaces of all processes.
#[derive(Debug, Default)]
pub(crate) struct Spaces {
    by_proc: FxHashMap<ProcIx, Maps>,
    /// Address spaces so far.
    made: u32,
}

impl Spaces {
    /// The one of a process.
    pub(crate) fn of(&mut self, proc: ProcIx) -> &mut Maps {
        self.by_proc.entry(proc).or_default()
    }
    /// A process has a new one.
    pub(crate) fn executed(&mut self, proc: ProcIx) {
        let space = self.next();
        self.by_proc.insert(proc, Maps::default().forked(space));
    }
    /// A process has a copy of another's.
    pub(crate) fn forked(&mut self, from: ProcIx, to: ProcIx) {
        let space = self.next();
        let copy = self.of(from).forked(space);
        self.by_proc.insert(to, copy);
    }
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_proc.len()
    }
    fn next(&mut self) -> u32 {
        self.made = self.made.wrapping_add(1);
        self.made
    }
}

/// Bytes of that region.
const STAND_IN_MAX: u64 = 1 << 30;

/// Address spaces with more mappings than this forget the lowest ones.
const MAPPINGS_MAX: usize = 262_144;

impl Maps {
    /// A copy for a forked child, which is known as `space` from now on.
    fn forked(&self, space: u32) -> Self {
        Self { space, ..self.clone() }
    }
    /// The slot and the distance from its address that stand for a recorded address.
    pub(crate) fn find(&self, addr: u64) -> Option<(u32, u64)> {
        let (mapping, inside) = self.at(addr)?;
        Some((mapping.slot, mapping.offset + inside))
    }
    /// The mapping that an address is in, and how far.
    fn at(&self, addr: u64) -> Option<(&Mapping, u64)> {
        let (start, mapping) = self.by_start.floor(&addr)?;
        let inside = addr - start;
        (inside < mapping.len).then_some((mapping, inside))
    }
    /// A slot that already stands for a mapping that began exactly here.
    pub(crate) fn reusable(&self, addr: u64) -> Option<u32> {
        let mapping = self.by_start.get(&addr)?;
        (mapping.made_by == self.space && mapping.offset == 0).then_some(mapping.slot)
    }
    /// A new mapping at `addr`; what was there before is gone.
    pub(crate) fn insert(&mut self, addr: u64, len: u64, slot: u32, offset: u64) {
        self.set(addr, Mapping { len: len.max(1), slot, offset, made_by: self.space, stand_in: false });
    }
    fn set(&mut self, addr: u64, mapping: Mapping) {
        self.remove(addr, mapping.len);
        self.by_start.insert(addr, mapping);
        if self.by_start.len() > MAPPINGS_MAX {
            self.by_start.pop_first();
        }
    }
    /// A part of the worker's own region stands for memory at `addr`; its distance from the region's start. `None` when
    /// the region is used up.
    pub(crate) fn stand_in(&mut self, addr: u64, len: u64) -> Option<u64> {
        let offset = self.stand_in_bytes;
        let len = len.clamp(1, STAND_IN_MAX).next_multiple_of(4096);
        if offset + len >= STAND_IN_MAX {
            return None;
        }
        self.stand_in_bytes += len;
        self.set(addr, Mapping { len, slot: 0, offset, made_by: self.space, stand_in: true });
        Some(offset)
    }
    /// Whether the engine made what is at `addr`.
    pub(crate) fn is_stand_in(&self, addr: u64) -> bool {
        self.at(addr).is_some_and(|(mapping, _)| mapping.stand_in)
    }
    /// Forgets a range.
    pub(crate) fn remove(&mut self, addr: u64, len: u64) {
        let Some(last) = len.checked_sub(1).map(|more| addr.saturating_add(more)) else { return };
        let end = addr.saturating_add(len);
        if let Some(before) = addr.checked_sub(1).and_then(|at| self.by_start.floor(&at)) {
            let (start, before) = (*before.0, *before.1);
            let before_end = start.saturating_add(before.len);
            if before_end > addr {
                self.by_start.insert(start, Mapping { len: addr - start, ..before });
                self.keep_rest(start, before, end);
            }
        }
        let gone = self.by_start.remove_range(&addr, &last);
        if let Some((start, mapping)) = gone.last() {
            self.keep_rest(*start, *mapping, end);
        }
    }
    /// What a mapping that began at `start` has behind `end`.
    fn keep_rest(&mut self, start: u64, mapping: Mapping, end: u64) {
        let mapping_end = start.saturating_add(mapping.len);
        if mapping_end > end {
            let rest = Mapping { len: mapping_end - end, offset: mapping.offset + (end - start), ..mapping };
            self.by_start.insert(end, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmapping_the_middle_leaves_both_ends_where_they_were() {
        let mut maps = Maps::default();
        maps.insert(0x1000, 0x3000, 7, 0);
        maps.remove(0x2000, 0x1000);
        assert_eq!(maps.find(0x1800), Some((7, 0x800)));
        assert_eq!(maps.find(0x2000), None);
        assert_eq!(maps.find(0x3010), Some((7, 0x2010)));
    }

    #[test]
    fn a_range_over_several_mappings_leaves_what_is_outside() {
        let mut maps = Maps::default();
        for i in 0..10 {
            maps.insert(i * 0x2000, 0x2000, i as u32, 0);
        }
        maps.remove(0x3000, 0xa000);
        assert_eq!(maps.find(0x2fff), Some((1, 0xfff)));
        assert_eq!((maps.find(0x3000), maps.find(0xcfff)), (None, None));
        assert_eq!(maps.find(0xd000), Some((6, 0x1000)));
        maps.remove(u64::MAX - 5, 100);
        maps.insert(u64::MAX - 5, u64::MAX, 9, 0);
        assert_eq!(maps.find(u64::MAX - 1), Some((9, 4)));
    }

    #[test]
    fn a_fork_shares_mappings_and_no_slot() {
        let mut parent = Maps::default();
        for i in 0..10_000 {
            parent.insert(i << 12, 4096, i as u32, 0);
        }
        let mut child = parent.forked(1);
        assert_eq!((child.find(5 << 12), child.reusable(5 << 12)), (Some((5, 0)), None));
        child.insert(5 << 12, 4096, 77, 0);
        assert_eq!((child.reusable(5 << 12), parent.reusable(5 << 12)), (Some(77), Some(5)));
        let own = child.by_start.own().count();
        assert!(own < 40, "{own} mappings were copied");
    }
}
