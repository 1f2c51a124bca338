//! Recorded mappings and the value slots that hold where their replayed counterparts really are.

use std::collections::BTreeMap;
use std::rc::Rc;

/// A mapping of a recorded address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) len: u64,
    pub(crate) slot: u32,
    /// Distance from the slot's address.
    pub(crate) offset: u64,
    /// Made by this address space itself, so that its slot may be used again for the same address.
    own: bool,
    /// Made by the engine in the place of memory that no recorded call mapped.
    stand_in: bool,
}

/// The mappings of one address space.
#[derive(Debug, Clone, Default)]
pub(crate) struct Maps {
    by_start: Rc<BTreeMap<u64, Mapping>>,
    /// Recorded start of the heap and the slot with the real one.
    pub(crate) heap: Option<(u64, u32)>,
    /// How much of the worker's region for memory that nobody mapped is in use.
    stand_in_bytes: u64,
}

/// Bytes of that region.
const STAND_IN_MAX: u64 = 1 << 30;

/// Address spaces with more mappings than this forget the lowest ones.
const MAPPINGS_MAX: usize = 262_144;

impl Maps {
    /// A copy for a forked child.
    pub(crate) fn forked(&self) -> Self {
        let mut copy = self.clone();
        for mapping in Rc::make_mut(&mut copy.by_start).values_mut() {
            mapping.own = false;
        }
        copy
    }
    /// The slot and the distance from its address that stand for a recorded address.
    pub(crate) fn find(&self, addr: u64) -> Option<(u32, u64)> {
        let (start, mapping) = self.by_start.range(..=addr).next_back()?;
        let inside = addr - start;
        (inside < mapping.len).then_some((mapping.slot, mapping.offset + inside))
    }
    /// A slot that already stands for a mapping that began exactly here.
    pub(crate) fn reusable(&self, addr: u64) -> Option<u32> {
        self.by_start.get(&addr).filter(|m| m.own && m.offset == 0).map(|m| m.slot)
    }
    /// A new mapping at `addr`; what was there before is gone.
    pub(crate) fn insert(&mut self, addr: u64, len: u64, slot: u32, offset: u64) {
        self.remove(addr, len);
        let maps = Rc::make_mut(&mut self.by_start);
        maps.insert(addr, Mapping { len: len.max(1), slot, offset, own: true, stand_in: false });
        if maps.len() > MAPPINGS_MAX {
            maps.pop_first();
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
        self.insert(addr, len, 0, offset);
        if let Some(mapping) = Rc::make_mut(&mut self.by_start).get_mut(&addr) {
            mapping.stand_in = true;
        }
        Some(offset)
    }
    /// Whether the engine made what is at `addr`.
    pub(crate) fn is_stand_in(&self, addr: u64) -> bool {
        self.by_start.range(..=addr).next_back().is_some_and(|(start, m)| addr - start < m.len && m.stand_in)
    }
    /// Forgets a range.
    pub(crate) fn remove(&mut self, addr: u64, len: u64) {
        let end = addr.saturating_add(len);
        let maps = Rc::make_mut(&mut self.by_start);
        if let Some((&start, &before)) = maps.range(..addr).next_back() {
            let before_end = start.saturating_add(before.len);
            if before_end > addr {
                maps.insert(start, Mapping { len: addr - start, ..before });
                if before_end > end {
                    let rest =
                        Mapping { len: before_end - end, offset: before.offset + (end - start), ..before };
                    maps.insert(end, rest);
                }
            }
        }
        let inside: Vec<u64> = maps.range(addr..end).map(|(start, _)| *start).collect();
        for start in inside {
            if let Some(mapping) = maps.remove(&start) {
                let mapping_end = start.saturating_add(mapping.len);
                if mapping_end > end {
                    let rest =
                        Mapping { len: mapping_end - end, offset: mapping.offset + (end - start), ..mapping };
                    maps.insert(end, rest);
                }
            }
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
}
