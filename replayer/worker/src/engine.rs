//! The engine's own calls, its clock, and how tasks wait for each other.

use crate::arch::{self, nr};
use crate::state::{Task, control, count, header, slot, word};
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use ctrace_program::control::{Cause, TaskSlot, status};
use ctrace_program::stored::decode_wait;
use ctrace_program::{ENGINE_MARK, FAULT_TAG, PROGRAM_BASE, Step, TAG_NOTE, Wait, task_flags};

const FUTEX_WAIT: u64 = 0;
pub const FUTEX_WAKE: u64 = 1;
const FUTEX_REQUEUE: u64 = 3;
const FUTEX_LOCK_PI_PRIVATE: u64 = 6 | 128;
/// Where a locked PI futex holds its owner (`FUTEX_TID_MASK`, include/uapi/linux/futex.h).
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
const CLOCK_MONOTONIC: u64 = 1;
const RLIMIT_NOFILE: u64 = 7;
const EINTR: i64 = -4;
const EINVAL: i64 = -22;
/// A waiter looks for itself this long before it sleeps, ns.
const SPIN_NS: u64 = 3_000;
/// Idle gaps are slept but for this much, which is spun: timers overshoot (55 to 80 µs at the default timer slack, which
/// recorded tasks must keep; peers have a slack of 1 ns).
const SLEEP_SLACK_NS: u64 = 90_000;
const SLEEP_SLACK_PEER_NS: u64 = 15_000;
/// A thread that looks at the clock as fast as it can and finds this much of it gone had no CPU, ns: a look takes well below
/// 1 µs, an interrupt some µs, a turn of another task the better part of a ms.
const AWAY_NS: u64 = 50_000;
/// A task that computes for less does not tell its CPU, ns: the call that asks for it would cost too much beside.
const LONG_NS: u64 = 200_000;

/// A call with the engine's mark in the sixth argument.
#[inline]
pub fn marked(nr: u32, a: [u64; 5]) -> i64 {
    arch::syscall(nr, [a[0], a[1], a[2], a[3], a[4], ENGINE_MARK])
}

/// Tells the recorder what the arguments of a step say of a fault. The filter answers: no such call is made.
pub fn note(step: &Step) {
    let [a, b, c, d, e, _] = step.args;
    arch::syscall(nr::GETTID, [a, b, c, d, e, FAULT_TAG | TAG_NOTE]);
}

/// The calling thread's id, in the replay's PID namespace.
///
/// The recorder reads the mark only of calls that have arguments, so `gettid` would count as the workload's. Instead the
/// thread locks a PI futex of its own: the kernel stores the locker's id in a free word and keeps no state of it
/// (`futex_lock_pi_atomic`, kernel/futex/pi.c). A kernel without PI futexes leaves `gettid`.
pub fn own_tid() -> i32 {
    let owner = AtomicU32::new(0);
    match marked(nr::FUTEX, [word(&owner), FUTEX_LOCK_PI_PRIVATE, 0, 0, 0]) {
        0 => (owner.load(Relaxed) & FUTEX_TID_MASK) as i32,
        _ => marked(nr::GETTID, [0; 5]) as i32,
    }
}

pub fn clock_ns(clock: u64) -> u64 {
    let mut time = [0_u64; 2];
    let _ = marked(nr::CLOCK_GETTIME, [clock, time.as_mut_ptr() as u64, 0, 0, 0]);
    // SAFETY: the kernel wrote it behind the compiler's back.
    let [sec, nsec] = unsafe { core::ptr::from_ref(&time).read_volatile() };
    sec.wrapping_mul(1_000_000_000).wrapping_add(nsec)
}

/// The replay clock: ns since the gate opened (before that: large), less the time for which it was held back.
pub fn now_ns() -> u64 {
    let control = control();
    let (epoch, mult) = (control.epoch.load(Relaxed), control.mult.load(Relaxed));
    let real = if mult == 0 {
        clock_ns(CLOCK_MONOTONIC).saturating_sub(epoch)
    } else {
        ((u128::from(arch::counter().saturating_sub(epoch)) * u128::from(mult)) >> 32) as u64
    };
    real.saturating_sub(control.lag.load(Relaxed))
}

/// Recorded ns → replayed ns.
pub fn scaled(ns: u64) -> u64 {
    ((u128::from(ns) * u128::from(control().scale.load(Relaxed))) >> 32) as u64
}

pub fn futex_wait(address: u64, value: u32, timeout_ns: u64) -> i64 {
    let time = [timeout_ns / 1_000_000_000, timeout_ns % 1_000_000_000];
    let timeout = if timeout_ns == u64::MAX { 0 } else { time.as_ptr() as u64 };
    marked(nr::FUTEX, [address, FUTEX_WAIT, u64::from(value), timeout, 0])
}

/// How many waiters are queued on a futex: requeues them onto itself.
pub fn futex_waiters(address: u64, private: u64) -> i64 {
    marked(nr::FUTEX, [address, FUTEX_REQUEUE | private, 0, i32::MAX as u64, address])
}

/// Publishes a sequence number and wakes who waits for it.
pub fn publish(slot: &TaskSlot, seq: u32) {
    let from = slot.seq.load(Relaxed);
    slot.seq.store(seq, SeqCst);
    slot.sleepers.passed(from, seq, |at| {
        let _ = marked(nr::FUTEX, [word(at), FUTEX_WAKE, i32::MAX as u64, 0, 0]);
        count(&slot.counters.engine_calls, 1);
    });
}

/// Waits until all dependencies of a step hold. Returns the time from which the step could run.
pub fn wait_for_all(task: &Task, index: u32, step: &Step) {
    // No number takes more than 10 bytes.
    let most = u64::from(step.waits_len) * 20;
    let len = most.min(header().len.saturating_sub(step.waits));
    // SAFETY: within the program; the builder wrote `waits_len` entries at `waits`.
    let bytes =
        unsafe { core::slice::from_raw_parts((PROGRAM_BASE + step.waits) as *const u8, len as usize) };
    let mut at = 0;
    for _ in 0..step.waits_len {
        let Some(wait) = decode_wait(bytes, &mut at) else { return };
        let Some(other) = slot(wait.task) else { continue };
        if other.seq.load(SeqCst) < wait.seq {
            wait_for(task, index, step, other, wait);
        }
    }
}

fn wait_for(task: &Task, index: u32, step: &Step, other: &TaskSlot, wait: Wait) {
    let begin = now_ns();
    while now_ns().wrapping_sub(begin) < SPIN_NS {
        if other.seq.load(SeqCst) >= wait.seq {
            return;
        }
        arch::relax();
    }
    let forced = Forced::watch(task);
    task.slot.waits_for_task.store(wait.task, Relaxed);
    task.slot.waits_for_seq.store(wait.seq, Relaxed);
    task.set_status(status::WAITING);
    while let Some(sleep) = other.sleepers.sleep(&other.seq, wait.seq) {
        if forced.is_on(task) {
            task.diverge(index, step, Cause::ForcedWait, i64::from(wait.task), i64::from(wait.seq));
            break;
        }
        let _ = futex_wait(word(sleep.word), sleep.value, u64::MAX);
        count(&task.slot.counters.engine_calls, 1);
    }
    task.set_status(status::RUNNING);
    count(&task.slot.counters.wait_ns, now_ns().wrapping_sub(begin));
}

/// Sleeps and spins until `target` (ns since the gate opened); at least `spin_ns` of it is spun.
pub fn think_until(task: &Task, target: u64, spin_ns: u64) {
    let begin = now_ns();
    if begin >= target {
        return;
    }
    task.set_status(status::THINKING);
    let spin_ns = if control().scarce.load(Relaxed) == 0 { spin_ns } else { compute(target, spin_ns) };
    let peer = task.entry.flags & task_flags::PEER != 0;
    let slack = spin_ns.saturating_add(if peer { SLEEP_SLACK_PEER_NS } else { SLEEP_SLACK_NS });
    let mut slept = 0;
    loop {
        let left = target.saturating_sub(now_ns());
        if left <= slack {
            break;
        }
        let nap = left - slack;
        let time = [nap / 1_000_000_000, nap % 1_000_000_000];
        let from = now_ns();
        let _ = marked(nr::CLOCK_NANOSLEEP, [CLOCK_MONOTONIC, 0, time.as_ptr() as u64, 0, 0]);
        slept += now_ns().saturating_sub(from);
        count(&task.slot.counters.engine_calls, 1);
    }
    while now_ns() < target {
        arch::relax();
    }
    task.set_status(status::RUNNING);
    count(&task.slot.counters.wait_ns, slept);
    count(&task.slot.counters.spin_ns, now_ns().saturating_sub(begin).saturating_sub(slept));
}

/// Computes for so long with a CPU, and no later than `target`. Returns the time that is left to compute, ns.
///
/// A thread that has no CPU for a while does not look at the clock meanwhile.
fn compute(target: u64, spin_ns: u64) -> u64 {
    if spin_ns >= LONG_NS {
        let mut cpu = 0_u32;
        let _ = marked(nr::GETCPU, [(&raw mut cpu) as u64, 0, 0, 0, 0]);
        // SAFETY: the kernel wrote it behind the compiler's back.
        control().busy_cpu.store(unsafe { (&raw const cpu).read_volatile() }, Relaxed);
    }
    let (mut had, mut last) = (0, now_ns());
    while had < spin_ns && last < target {
        arch::relax();
        let now = now_ns();
        let passed = now.saturating_sub(last);
        had += if passed < AWAY_NS { passed } else { 0 };
        last = now;
    }
    spin_ns.saturating_sub(had)
}

/// Whether the runner has forced a task to give up a wait.
///
/// The runner names the wait in `TaskSlot::force` and then interrupts what the task is blocked in; it does both again for as
/// long as the task does not go on, so that a task may look first and block afterwards. Naming it spares the next wait of a
/// task that has gone on by itself meanwhile.
#[derive(Clone, Copy)]
pub struct Forced(u32);

impl Forced {
    pub fn watch(task: &Task) -> Self {
        let wait = task.slot.waits.load(Relaxed).wrapping_add(1);
        task.slot.waits.store(wait, SeqCst);
        Self(wait)
    }

    pub fn is_on(self, task: &Task) -> bool {
        // The steps of a handler have waits of their own, which are later ones than that of the interrupted call.
        task.slot.force.load(SeqCst) >= self.0
    }
}

/// Pauses between looks at what nothing announces. Each look costs a call: the longer it takes, the rarer.
#[derive(Clone, Copy)]
pub struct Rest(u64);

impl Default for Rest {
    fn default() -> Self {
        Self(1_000)
    }
}

impl Rest {
    /// Pauses shorter than this are spun.
    const SPUN_NS: u64 = 50_000;
    const LONGEST_NS: u64 = 2_000_000;

    pub fn take(&mut self, task: &Task) {
        let vain = task.slot.vain.load(Relaxed).wrapping_add(1);
        task.slot.vain.store(vain, SeqCst);
        task.set_status(status::RESTING);
        if self.0 > Self::SPUN_NS {
            let time = [0_u64, self.0];
            let _ = marked(nr::CLOCK_NANOSLEEP, [CLOCK_MONOTONIC, 0, time.as_ptr() as u64, 0, 0]);
            count(&task.slot.counters.engine_calls, 1);
        } else {
            let from = now_ns();
            while now_ns().saturating_sub(from) < self.0 {
                arch::relax();
            }
        }
        self.0 = (self.0 * 3 / 2).min(Self::LONGEST_NS);
    }
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

/// A marked poll that does not wait (`wait` false), or until a descriptor is ready; negative: an error.
pub fn poll(task: &Task, fds: &mut [PollFd], wait: bool) -> i64 {
    let at_once = [0_u64; 2];
    let timeout = if wait { 0 } else { at_once.as_ptr() as u64 };
    task.set_status(status::POLLING);
    let begin = now_ns();
    let ret = marked(nr::PPOLL, [fds.as_mut_ptr() as u64, fds.len() as u64, timeout, 0, 0]);
    count(&task.slot.counters.engine_calls, 1);
    count(&task.slot.counters.wait_ns, now_ns().saturating_sub(begin));
    task.set_status(status::RUNNING);
    if ret == EINVAL { poll_above_limit(task, fds) } else { ret }
}

/// A look at more descriptors than the process may have (`do_sys_poll`, fs/select.c, counts them against RLIMIT_NOFILE):
/// with its hard limit for a moment. It does not wait, since the limit is the workload's again afterwards.
fn poll_above_limit(task: &Task, fds: &mut [PollFd]) -> i64 {
    let mut limit = [0_u64; 2];
    let _ = marked(nr::PRLIMIT64, [0, RLIMIT_NOFILE, 0, limit.as_mut_ptr() as u64, 0]);
    // SAFETY: the kernel wrote it behind the compiler's back.
    let recorded = unsafe { core::ptr::from_ref(&limit).read_volatile() };
    let raised = [recorded[1]; 2];
    let at_once = [0_u64; 2];
    let _ = marked(nr::PRLIMIT64, [0, RLIMIT_NOFILE, raised.as_ptr() as u64, 0, 0]);
    let at = fds.as_mut_ptr() as u64;
    let ret = marked(nr::PPOLL, [at, fds.len() as u64, at_once.as_ptr() as u64, 0, 0]);
    let _ = marked(nr::PRLIMIT64, [0, RLIMIT_NOFILE, recorded.as_ptr() as u64, 0, 0]);
    count(&task.slot.counters.engine_calls, 4);
    ret
}

/// Waits until every descriptor of a `struct pollfd[]` has one of its events. False: the task was forced on before.
pub fn await_ready(task: &Task, address: u64, bytes: u64) -> bool {
    const BATCH: usize = 64;
    let count = (bytes as usize) / size_of::<PollFd>();
    let forced = Forced::watch(task);
    let mut rest = Rest::default();
    let mut done = 0;
    while done < count {
        let n = (count - done).min(BATCH);
        let mut fds = [PollFd { fd: -1, events: 0, revents: 0 }; BATCH];
        for (i, fd) in fds.iter_mut().enumerate().take(n) {
            // SAFETY: `done + i` < `count` entries of the blob.
            *fd = unsafe { (address as *const PollFd).add(done + i).read_unaligned() };
        }
        let fds = fds.get_mut(..n).unwrap_or_default();
        while fds.iter().any(|fd| fd.fd >= 0) {
            if forced.is_on(task) {
                return false;
            }
            match poll(task, fds, true) {
                1.. => {
                    for fd in fds.iter_mut().filter(|fd| fd.revents != 0) {
                        fd.fd = -1;
                    }
                }
                EINTR => {}
                // It could only look.
                _ => rest.take(task),
            }
        }
        done += n;
    }
    true
}
