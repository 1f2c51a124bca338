//! The control region as the runner's init sees it.
#![expect(
    clippy::cast_ptr_alignment,
    reason = "the segment is page-aligned, and `Layout` aligns what lies in it"
)]

use super::{Counters, Divergence};
use ctrace_program::control::{
    CONTROL_MAGIC, ControlHeader, JOURNAL_ENTRIES, JournalEntry, Layout, Pace, TaskSlot,
};
use ctrace_program::{LAYOUT_VERSION, Program};
use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// The shared segment, mapped.
pub(crate) struct Control {
    base: *mut u8,
    layout: Layout,
    tasks: u32,
    shm_id: i32,
}

impl Control {
    /// Makes and maps the segment. In the sandbox's IPC namespace it dies with it.
    ///
    /// # Errors
    /// When the kernel has no System V shared memory, or not that much address space.
    pub(crate) fn create(program: &Program) -> io::Result<Self> {
        let header = &program.header;
        let arenas = program.tasks.iter().map(|task| task.arena_bytes).sum();
        let layout =
            Layout::new(header.tasks, header.value_slots, header.futex_slots, header.pool_bytes, arenas);
        // SHM_NORESERVE: sparse, only touched pages count.
        let flags = libc::IPC_CREAT | 0o666 | 0o10000;
        // SAFETY: integers only.
        let shm_id = unsafe { libc::shmget(libc::IPC_PRIVATE, layout.len as usize, flags) };
        if shm_id < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel chooses an unused range.
        let base = unsafe { libc::shmat(shm_id, std::ptr::null(), 0) }.cast::<u8>();
        if base as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        let control = Self { base, layout, tasks: header.tasks, shm_id };
        let head = base.cast::<ControlHeader>();
        // SAFETY: fresh zeroed memory of at least a header; nobody else sees it yet.
        let head = unsafe { &mut *head };
        head.magic = CONTROL_MAGIC;
        head.version = LAYOUT_VERSION;
        head.tasks = header.tasks;
        head.len = layout.len;
        head.layout = layout;
        head.shm_id.store(shm_id, Relaxed);
        Ok(control)
    }

    pub(crate) fn shm_id(&self) -> i32 {
        self.shm_id
    }

    pub(crate) fn header(&self) -> &ControlHeader {
        // SAFETY: mapped for the life of the process; plain fields are not written after `create`, others are atomics.
        unsafe { &*self.base.cast::<ControlHeader>() }
    }

    pub(crate) fn tasks(&self) -> u32 {
        self.tasks
    }

    pub(crate) fn slot(&self, task: u32) -> &TaskSlot {
        let index = task.min(self.tasks.saturating_sub(1)) as usize;
        let at = self.layout.slots as usize + index * size_of::<TaskSlot>();
        // SAFETY: in bounds; a slot consists of atomics only.
        let slot = unsafe { self.base.add(at) };
        // SAFETY: as above; the area is aligned to a page and slots to their alignment.
        unsafe { &*slot.cast::<TaskSlot>() }
    }

    pub(crate) fn pace(&self, pace: Pace, speed: f64, catch_up_permille: u32, hold: bool, mult: u64) {
        let header = self.header();
        header.hold.store(u32::from(hold), Relaxed);
        header.pace.store(pace as u32, Relaxed);
        header.scale.store((4_294_967_296.0 / speed) as u64, Relaxed);
        header.catch_up_permille.store(catch_up_permille, Relaxed);
        header.mult.store(mult, Relaxed);
    }

    /// Opens the gate.
    pub(crate) fn release(&self, epoch: u64) {
        let header = self.header();
        header.epoch.store(epoch, SeqCst);
        header.gate.store(1, SeqCst);
        futex_wake(header.gate.as_ptr());
    }

    /// Tells a task to give up that one of its waits, and wakes it if it waits for another task.
    pub(crate) fn force(&self, task: u32, wait: u32) {
        let slot = self.slot(task);
        slot.force.store(wait, SeqCst);
        let target = slot.waits_for_task.load(Relaxed);
        if target < self.tasks {
            self.slot(target).sleepers.all(|word| futex_wake(word.as_ptr()));
        }
    }

    /// Sum of the counters of the tasks that `which` selects.
    pub(crate) fn counters(&self, which: impl Fn(u32) -> bool) -> Counters {
        let mut sum = Counters::default();
        for task in (0..self.tasks).filter(|&task| which(task)) {
            let c = &self.slot(task).counters;
            for (to, from) in [
                (&mut sum.done, &c.done),
                (&mut sum.emulated, &c.emulated),
                (&mut sum.injected, &c.injected),
                (&mut sum.delayed, &c.delayed),
                (&mut sum.refused, &c.refused),
                (&mut sum.surrogate, &c.surrogate),
                (&mut sum.missing, &c.missing),
                (&mut sum.diverged, &c.diverged),
                (&mut sum.engine_calls, &c.engine_calls),
                (&mut sum.wait_ns, &c.wait_ns),
                (&mut sum.spin_ns, &c.spin_ns),
                (&mut sum.extra, &c.extra),
                (&mut sum.late_ns, &c.late_ns),
            ] {
                *to += from.load(Relaxed);
            }
        }
        sum
    }

    /// The journal, oldest first.
    pub(crate) fn divergences(&self, program: &Program) -> Vec<Divergence> {
        let written = self.header().journal.load(SeqCst).min(JOURNAL_ENTRIES);
        (0..written)
            .map(|index| {
                let at = self.layout.journal as usize + index as usize * size_of::<JournalEntry>();
                // SAFETY: in bounds, aligned to 8 within the page-aligned journal.
                let at = unsafe { self.base.add(at) }.cast::<JournalEntry>();
                // SAFETY: plain data that its writer has finished, or is writing: any value is valid.
                let e = unsafe { at.read_volatile() };
                let step = program.step(e.task, e.step).ok();
                Divergence {
                    task: e.task,
                    task_name: program.task_name(e.task),
                    step: e.step,
                    event: step.map_or(0, |step| step.event),
                    nr: e.nr,
                    cause: super::cause_name(e.cause).to_owned(),
                    expected: e.expected,
                    got: e.got,
                    t_ns: e.t_ns,
                    what: step.map_or_else(String::new, |step| program.describe(&step, &super::call_name)),
                }
            })
            .collect()
    }
}

fn futex_wake(word: *mut u32) {
    // SAFETY: wakes waiters on a word of the mapped segment.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, i32::MAX) };
}

/// The cycle counter that the worker uses.
pub(crate) fn counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 has it.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let value: u64;
        // SAFETY: user space may read the virtual counter.
        unsafe { std::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) value, options(nomem, nostack)) };
        value
    }
}

pub(crate) fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// ns per cycle × 2^32, measured over 40 ms; 0 when the counter is not the kernel's own clock source.
pub(crate) fn calibrate() -> u64 {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let usable = source.is_ok_and(|name| matches!(name.trim(), "tsc" | "kvm-clock" | "arch_sys_counter"));
    if !usable {
        return 0;
    }
    let pair = || {
        // The tightest of a few readings.
        (0..20)
            .map(|_| {
                let before = counter();
                let ns = monotonic_ns();
                let after = counter();
                (after.wrapping_sub(before), before.wrapping_add(after.wrapping_sub(before) / 2), ns)
            })
            .min()
            .map_or((0, 0), |(_, cycles, ns)| (cycles, ns))
    };
    let (cycles0, ns0) = pair();
    std::thread::sleep(std::time::Duration::from_millis(40));
    let (cycles1, ns1) = pair();
    let (cycles, ns) = (cycles1.saturating_sub(cycles0), ns1.saturating_sub(ns0));
    if cycles == 0 { 0 } else { ((u128::from(ns) << 32) / u128::from(cycles)) as u64 }
}
