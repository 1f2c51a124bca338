//! Mappings and the heap.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::emit::Lowered;
use super::super::model::Cx;
use super::Steps;
use ctrace_program::{Expect, Post, Sel, Step, flags, value_operand};
use rustc_hash::FxHashMap;

/// Asks for pages that the host keeps aside, which no cgroup of memory counts: normal pages stand for them. Their size is in
/// the upper bits (uapi/asm-generic/hugetlb_encode.h).
const MAP_HUGETLB: u64 = 0x4_0000;
const MFD_HUGETLB: u64 = 4;
const SHM_HUGETLB: u64 = 0o4000;
const HUGE_SIZE: u64 = 0x3f << 26;

/// The flags of `memfd_create` without huge pages.
pub(crate) const fn memfd_flags(flags: u64) -> u64 {
    flags & !(MFD_HUGETLB | HUGE_SIZE)
}

/// Whether a call asks for a file or a segment of huge pages.
pub(crate) fn is_of_huge_pages(cx: &Cx<'_>) -> bool {
    match cx.known.sc {
        Sc::MemfdCreate => cx.call.args[1] & MFD_HUGETLB != 0,
        Sc::Shmget => cx.call.args[2] & SHM_HUGETLB != 0,
        _ => false,
    }
}

/// System V shared memory.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// By recorded id: value slot with the id here, and bytes.
    by_id: FxHashMap<u64, (u32, u64)>,
}

impl Steps<'_> {
    #[expect(clippy::unnecessary_wraps, reason = "alike its siblings, which can fail")]
    pub(crate) fn mmap(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        const MAP_FIXED: u64 = 0x10;
        const MAP_ANONYMOUS: u64 = 0x20;
        const DROP: u64 = 0x10_0000 | MAP_HUGETLB | HUGE_SIZE | 0x2000;
        let [addr, len, prot, map_flags, ..] = cx.call.args;
        if len > 1 << 46 {
            return Ok(self.surrogate(cx));
        }
        let at = cx.call.ret as u64;
        let maps = self.kept.spaces.of(cx.proc);
        let inside = (map_flags & (MAP_FIXED | 0x10_0000) != 0).then(|| maps.find(addr)).flatten();
        let mut step = self
            .plain(cx, &[1, 2, 4, 5])
            .imm(3, map_flags & !DROP & !MAP_FIXED)
            .imm(0, 0)
            .expect(Expect::Success, 0);
        if map_flags & MAP_ANONYMOUS == 0 {
            let fd = cx.call.args[4] as i32;
            if self.world.ofd_of(cx.task, fd).is_none_or(|o| self.world.inode_of(o).is_none()) {
                // Memory of a device or of something unknown: anonymous memory stands for it.
                step =
                    step.imm(3, (map_flags & !DROP & !MAP_FIXED) | MAP_ANONYMOUS).imm(4, u64::MAX).imm(5, 0);
            }
        }
        let _ = prot;
        let maps = self.kept.spaces.of(cx.proc);
        if let Some((slot, offset)) = inside {
            let (sel, operand) = if maps.is_stand_in(addr) {
                (Sel::StandIn, offset)
            } else {
                (Sel::Value, value_operand(slot, offset as i64))
            };
            step = step.arg(0, sel, operand).imm(3, (map_flags & !DROP) | MAP_FIXED);
            maps.insert(at, len, slot, offset);
            return Ok(step.into());
        }
        let slot = maps.reusable(at);
        let slot = match slot {
            Some(slot) => slot,
            None => self.emit.value_slot(),
        };
        self.kept.spaces.of(cx.proc).insert(at, len, slot, 0);
        Ok(step.post(Post::StoreValue, u64::from(slot)).into())
    }

    /// Where a recorded address is in the replay. For memory that no recorded call mapped (of the program itself, the
    /// stack) a part of the worker's region stands in.
    pub(crate) fn address(&mut self, cx: &Cx<'_>, addr: u64, len: u64) -> Option<(Sel, u64)> {
        let maps = self.kept.spaces.of(cx.proc);
        if let Some((slot, offset)) = maps.find(addr) {
            return Some(if maps.is_stand_in(addr) {
                (Sel::StandIn, offset)
            } else {
                (Sel::Value, value_operand(slot, offset as i64))
            });
        }
        if let Some((start, slot)) = maps.heap
            && addr >= start
            && addr < start.saturating_add(1 << 36)
        {
            return Some((Sel::Value, value_operand(slot, (addr - start) as i64)));
        }
        maps.stand_in(addr, len).map(|offset| (Sel::StandIn, offset))
    }

    #[expect(clippy::unnecessary_wraps, reason = "alike its siblings, which can fail")]
    pub(crate) fn mapped(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let [addr, len, ..] = cx.call.args;
        let Some((sel, operand)) = self.address(cx, addr, len) else { return Ok(self.surrogate(cx)) };
        let mut step = self.plain(cx, &[1, 2, 3, 4]).arg(0, sel, operand);
        match cx.known.sc {
            Sc::Munmap => self.kept.spaces.of(cx.proc).remove(addr, len),
            Sc::Mremap => {
                const MREMAP_FIXED: u64 = 2;
                let new_slot = self.emit.value_slot();
                step = step
                    .imm(3, cx.call.args[3] & !MREMAP_FIXED)
                    .imm(4, 0)
                    .expect(Expect::Success, 0)
                    .post(Post::StoreValue, u64::from(new_slot));
                let maps = self.kept.spaces.of(cx.proc);
                maps.remove(addr, len);
                maps.insert(cx.call.ret as u64, cx.call.args[2], new_slot, 0);
            }
            _ => {}
        }
        Ok(step.into())
    }

    /// System V shared memory: real segments, of the sandbox's own IPC namespace.
    pub(crate) fn shared_memory(&mut self, cx: &Cx<'_>) -> Lowered {
        const IPC_CREAT: u64 = 0o1000;
        const IPC_RMID: u64 = 0;
        const IPC_STAT: u64 = 2;
        const SHM_REMAP: u64 = 0o40000;
        const DS_BYTES: u64 = 128;
        let id = u64::from(cx.call.args[0] as u32);
        let segment = self.kept.segments.by_id.get(&id).copied();
        match (cx.known.sc, segment) {
            (Sc::Shmget, _) if cx.call.ret < 0 => self.plain(cx, &[0, 1, 2]).into(),
            (Sc::Shmget, _) => {
                let id = u64::from(cx.call.ret as u32);
                // One that is known has been made; any other may have been there before.
                let known = self.kept.segments.by_id.get(&id).copied();
                let made = if known.is_some() { 0 } else { IPC_CREAT };
                let (slot, bytes) = known.unwrap_or_else(|| (self.emit.value_slot(), 0));
                self.kept.segments.by_id.insert(id, (slot, bytes.max(cx.call.args[1])));
                self.plain(cx, &[0, 1])
                    .imm(2, cx.call.args[2] & !(SHM_HUGETLB | HUGE_SIZE) | made)
                    .expect(Expect::Success, 0)
                    .post(Post::StoreValue, u64::from(slot))
                    .into()
            }
            (Sc::Shmat, Some((segment, bytes))) => {
                let slot = self.emit.value_slot();
                self.kept.spaces.of(cx.proc).insert(cx.call.ret as u64, bytes, slot, 0);
                self.plain(cx, &[])
                    .arg(0, Sel::Value, value_operand(segment, 0))
                    .imm(1, 0)
                    .imm(2, cx.call.args[2] & !SHM_REMAP)
                    .expect(Expect::Success, 0)
                    .post(Post::StoreValue, u64::from(slot))
                    .into()
            }
            (Sc::Shmdt, _) => {
                let maps = self.kept.spaces.of(cx.proc);
                let at = cx.call.args[0];
                match maps.find(at).filter(|_| !maps.is_stand_in(at)) {
                    Some((slot, 0)) => self.plain(cx, &[]).arg(0, Sel::Value, value_operand(slot, 0)).into(),
                    _ => self.surrogate(cx),
                }
            }
            (Sc::Shmctl, Some((segment, _))) if matches!(cx.call.args[1], IPC_RMID | IPC_STAT) => {
                let step = self.plain(cx, &[1]).arg(0, Sel::Value, value_operand(segment, 0));
                let step = if cx.call.args[1] == IPC_STAT {
                    step.arg(2, Sel::Out, DS_BYTES)
                } else {
                    step.imm(2, 0)
                };
                step.into()
            }
            _ => self.surrogate(cx),
        }
    }

    pub(crate) fn brk(&mut self, cx: &Cx<'_>) -> Lowered {
        let ret = cx.call.ret as u64;
        let heap = self.kept.spaces.of(cx.proc).heap;
        let step = self.call_step(cx).expect(Expect::Success, 0);
        match heap {
            Some((start, slot)) if cx.call.args[0] >= start && cx.call.args[0] - start < 1 << 36 => {
                step.arg(0, Sel::Value, value_operand(slot, (cx.call.args[0] - start) as i64)).into()
            }
            Some(_) => step.imm(0, 0).into(),
            None => {
                let slot = self.emit.value_slot();
                if cx.call.args[0] == 0 || cx.call.args[0] != ret {
                    self.kept.spaces.of(cx.proc).heap = Some((ret, slot));
                    return step.imm(0, 0).post(Post::StoreValue, u64::from(slot)).into();
                }
                // The first question came before the recording.
                self.kept.spaces.of(cx.proc).heap = Some((ret, slot));
                let ask =
                    Step::call(cx.nr).with(flags::ENGINE).imm(0, 0).post(Post::StoreValue, u64::from(slot));
                Lowered::after(vec![ask], step.arg(0, Sel::Value, value_operand(slot, 0)))
            }
        }
    }
}
