//! Adds up what the steps take while they are written. Memory is O(what is populated at a time).

use super::super::calls::Sc;
use super::super::fsmodel::Space;
use super::super::world::{ProcIx, detail_bytes};
use crate::plan::need::{Need, Peak};
use ctrace_format::{Metric, Resource, Syscall};
use ctrace_program::Program;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

const PAGE: u64 = 4096;
/// What the kernel and the worker's image take for a process: kernel stack, `task_struct`, page tables, the worker's own
/// pages. Measured on x86-64, Linux 6.18: 90 KiB of a memory cgroup for a forked worker; rounded up.
const TASK_BYTES: u64 = 128 << 10;
/// What a description takes with its socket, pipe or epoll instance, without the data in it (`struct file`, `struct
/// tcp_sock`, an inode): below 4 KiB each.
const DESCRIPTION_BYTES: u64 = 4 << 10;
/// A file of a tmpfs: `struct shmem_inode_info` and `struct dentry`.
const FILE_BYTES: u64 = 1 << 10;
/// Touched pages of a task's stack block in the control region.
const STACK_BYTES: u64 = 16 << 10;
/// Page tables, the sandbox's init, its network and its mounts.
const SANDBOX_BYTES: u64 = 32 << 20;
/// Ranges that are told apart in one address space; more of them count until the address space is gone.
const RANGES_MAX: usize = 65_536;

// linux/mman.h
const MAP_FIXED: u64 = 0x10;
const MAP_POPULATE: u64 = 0x8000;
const MADV_DONTNEED: u64 = 4;
const MADV_FREE: u64 = 8;
const MADV_REMOVE: u64 = 9;
const MADV_POPULATE_READ: u64 = 22;
const MADV_POPULATE_WRITE: u64 = 23;

/// Parts of an address space that calls fill with memory.
#[derive(Debug, Default)]
struct Filled {
    /// Start → end.
    ranges: BTreeMap<u64, u64>,
    /// Bytes of `ranges`, and of what is not told apart.
    bytes: u64,
}

impl Filled {
    fn add(&mut self, start: u64, len: u64) {
        let end = start.saturating_add(len).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let mut from = start / PAGE * PAGE;
        let mut to = end;
        if self.ranges.len() >= RANGES_MAX {
            self.bytes = self.bytes.saturating_add(to - from);
            return;
        }
        // One range with all that it touches.
        while let Some((&at, &until)) = self.ranges.range(..=to).next_back() {
            if until < from {
                break;
            }
            self.ranges.remove(&at);
            self.bytes = self.bytes.saturating_sub(until - at);
            (from, to) = (from.min(at), to.max(until));
        }
        self.ranges.insert(from, to);
        self.bytes = self.bytes.saturating_add(to - from);
    }

    /// What is filled there stays, beside whatever comes to this address.
    fn outlive(&mut self, start: u64, len: u64) {
        let stays = self.remove(start, len);
        self.bytes = self.bytes.saturating_add(stays);
    }

    /// Returns how much of it was filled.
    fn remove(&mut self, start: u64, len: u64) -> u64 {
        let end = start.saturating_add(len).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let mut removed = 0;
        while let Some((&at, &until)) = self.ranges.range(..end).next_back() {
            if until <= start {
                break;
            }
            self.ranges.remove(&at);
            if at < start {
                self.ranges.insert(at, start);
            }
            if until > end {
                self.ranges.insert(end, until);
            }
            removed += until.min(end) - at.max(start);
        }
        self.bytes = self.bytes.saturating_sub(removed);
        removed
    }
}

/// What others than the meter know of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beside {
    /// What the files occupy.
    pub(crate) space: Space,
    /// Descriptions that were open at a time.
    pub(crate) descriptions: u64,
    /// Highest number of a descriptor of the recording, plus one.
    pub(crate) fd_numbers: u64,
    /// Files that the model of the file system does not have.
    pub(crate) entries: u64,
    /// Bytes of files that have content from the start.
    pub(crate) content_bytes: u64,
    /// Addresses of the private loopback.
    pub(crate) addresses: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    tasks: Peak,
    /// Highest number of a descriptor that only the engine uses, plus one.
    descriptors: u64,
    filled: FxHashMap<ProcIx, Filled>,
    memory: Peak,
    seen_memory_bytes: u64,
    seen_tasks: u64,
    descriptor_limit: u64,
}

impl Meter {
    /// Tasks more.
    pub(crate) fn born(&mut self, tasks: u64) {
        self.tasks.add(tasks);
    }
    /// A task less.
    pub(crate) fn died(&mut self) {
        self.tasks.sub(1);
    }
    /// The engine uses a descriptor of this number.
    pub(crate) fn descriptor(&mut self, fd: i32) {
        self.descriptors = self.descriptors.max(u64::try_from(fd).map_or(0, |fd| fd + 1));
    }
    /// The address space of a process is gone.
    pub(crate) fn emptied(&mut self, proc: ProcIx) {
        if let Some(filled) = self.filled.remove(&proc) {
            self.memory.sub(filled.bytes);
        }
    }
    /// The recording saw a figure.
    pub(crate) fn sample(&mut self, sample: &Resource) {
        if sample.subject == 0 {
            return;
        }
        match sample.metric {
            Metric::MemoryBytes => self.seen_memory_bytes = self.seen_memory_bytes.max(sample.value),
            Metric::Pids => self.seen_tasks = self.seen_tasks.max(sample.value),
            _ => {}
        }
    }
    /// A call that succeeded.
    pub(crate) fn call(&mut self, proc: ProcIx, sc: Sc, call: &Syscall) {
        let [a0, a1, a2, a3, ..] = call.args;
        let at = call.ret as u64;
        match sc {
            Sc::Mmap => {
                if a3 & MAP_FIXED != 0 {
                    // What was there is gone.
                    self.empty(proc, at, a1);
                } else if let Some(filled) = self.filled.get_mut(&proc) {
                    // The kernel gives no address twice. A trace that says so has mappings of which the replay makes each.
                    filled.outlive(at, a1);
                }
                if a3 & MAP_POPULATE != 0 {
                    self.fill(proc, at, a1);
                }
            }
            Sc::Prlimit64 if a1 == u64::from(libc::RLIMIT_NOFILE) => self.limited(detail_bytes(call, 2)),
            Sc::Setrlimit if a0 == u64::from(libc::RLIMIT_NOFILE) => self.limited(detail_bytes(call, 1)),
            Sc::Mlock => self.fill(proc, a0, a1),
            Sc::Madvise if matches!(a2, MADV_POPULATE_READ | MADV_POPULATE_WRITE) => self.fill(proc, a0, a1),
            Sc::Madvise if matches!(a2, MADV_DONTNEED | MADV_FREE | MADV_REMOVE) => self.empty(proc, a0, a1),
            Sc::Munmap => self.empty(proc, a0, a1),
            Sc::Mremap => {
                if let Some(filled) = self.filled.get_mut(&proc) {
                    let moved = filled.remove(a0, a1);
                    self.memory.sub(moved);
                    if moved > 0 {
                        self.fill(proc, at, moved.min(a2));
                    }
                }
            }
            _ => {}
        }
    }

    /// A call set the limits of descriptors: `struct rlimit64`, soft and hard.
    fn limited(&mut self, limits: Option<&[u8]>) {
        let hard = limits.and_then(|bytes| bytes.get(8..16)?.try_into().ok()).map_or(0, u64::from_le_bytes);
        self.descriptor_limit = self.descriptor_limit.max(hard);
    }

    fn fill(&mut self, proc: ProcIx, start: u64, len: u64) {
        let filled = self.filled.entry(proc).or_default();
        let before = filled.bytes;
        filled.add(start, len);
        let after = filled.bytes;
        self.memory.change(before, after);
    }

    fn empty(&mut self, proc: ProcIx, start: u64, len: u64) {
        if let Some(filled) = self.filled.get_mut(&proc) {
            let removed = filled.remove(start, len);
            self.memory.sub(removed);
        }
    }

    /// The need of a replay of `program`, in which so many tasks play peers.
    pub(super) fn need(&self, program: &Program, beside: Beside, peers: u64) -> Need {
        let Beside { space, descriptions, fd_numbers, entries, content_bytes, addresses } = beside;
        let tasks = self.tasks.most().saturating_add(peers).saturating_add(1);
        let files = space.files.most().saturating_add(entries);
        let header = &program.header;
        let arenas = program.tasks.iter().fold(0_u64, |sum, task| sum.saturating_add(task.arena_bytes));
        let all = u64::from(header.tasks);
        let terms = [
            space.memory.most(),
            content_bytes,
            self.memory.most(),
            header.len,
            header.pool_bytes,
            arenas,
            all.saturating_mul(STACK_BYTES + size_of::<ctrace_program::control::TaskSlot>() as u64),
            u64::from(header.value_slots) * 8,
            u64::from(header.futex_slots) * ctrace_program::control::FUTEX_STRIDE,
            tasks.saturating_mul(TASK_BYTES),
            descriptions.saturating_mul(DESCRIPTION_BYTES),
            files.saturating_mul(FILE_BYTES),
            SANDBOX_BYTES,
        ];
        Need {
            memory_bytes: terms.iter().fold(0, |sum, term| sum.saturating_add(*term)),
            disk_bytes: space.disk.most().saturating_add(content_bytes),
            seen_memory_bytes: self.seen_memory_bytes,
            tasks,
            seen_tasks: self.seen_tasks,
            files,
            descriptors: self.descriptors.max(fd_numbers),
            recorded_descriptor_limit: self.descriptor_limit,
            addresses,
            ..Need::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_count_once() {
        let mut filled = Filled::default();
        filled.add(0x1000, 0x3000);
        filled.add(0x2000, 0x4000);
        assert_eq!(filled.bytes, 0x5000);
        filled.add(0x10_0000, 1);
        assert_eq!((filled.bytes, filled.ranges.len()), (0x6000, 2));
        assert_eq!(filled.remove(0x2000, 0x1000), 0x1000);
        assert_eq!((filled.bytes, filled.ranges.len()), (0x5000, 3));
        assert_eq!(filled.remove(0, u64::MAX), 0x5000);
        assert_eq!((filled.bytes, filled.ranges.len()), (0, 0));
    }

    #[test]
    fn mappings_that_a_trace_puts_at_one_address_count_each() {
        let mut filled = Filled::default();
        for _ in 0..8 {
            filled.outlive(0x1000, 0x4000);
            filled.add(0x1000, 0x4000);
        }
        assert_eq!((filled.bytes, filled.ranges.len()), (8 * 0x4000, 1));
        assert_eq!(filled.remove(0x1000, 0x4000), 0x4000);
        assert_eq!(filled.bytes, 7 * 0x4000);
    }

    #[test]
    fn absurd_ranges_saturate() {
        let mut filled = Filled::default();
        filled.add(u64::MAX - 1, u64::MAX);
        filled.add(0, u64::MAX);
        assert!(filled.bytes > 1 << 62);
        filled.remove(u64::MAX, u64::MAX);
    }
}
