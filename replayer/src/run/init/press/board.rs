//! The page of memory by which the processes that press, and init, tell each other of what is due and what was reached.

use std::io;
use std::ops::Deref;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

/// How far an effect is from the recorded one.
#[derive(Debug, Default)]
pub(super) struct Score {
    target: AtomicU64,
    reached: AtomicU64,
    apart: AtomicU64,
    pub(super) bins: AtomicU64,
}

impl Score {
    /// Adds a bin.
    pub(super) fn add(&self, target: u64, reached: u64) {
        self.target.fetch_add(target, Relaxed);
        self.reached.fetch_add(reached, Relaxed);
        self.apart.fetch_add(target.abs_diff(reached), Relaxed);
        self.bins.fetch_add(1, Relaxed);
    }

    /// The sums of the targets, of what was reached, and the differences as a part of the targets.
    pub(super) fn sums(&self) -> (u64, u64, Option<f64>) {
        let (target, reached) = (self.target.load(Relaxed), self.reached.load(Relaxed));
        let error = (target > 0).then(|| self.apart.load(Relaxed) as f64 / target as f64);
        (target, reached, error)
    }
}

/// Processes that spin when they are called.
#[derive(Debug, Default)]
pub(super) struct Crew {
    /// Futex word.
    pub(super) turn: AtomicU32,
    /// CPU time that they are to take, all together, and that they have had of it, ns.
    wanted_ns: AtomicU64,
    had_ns: AtomicU64,
}

impl Crew {
    /// Gives them so much to do; what is left from before is not done.
    pub(super) fn set(&self, wanted_ns: u64) {
        self.wanted_ns.store(wanted_ns, SeqCst);
        self.had_ns.store(0, SeqCst);
        call(&self.turn);
    }

    /// Whether there is any left.
    pub(super) fn is_wanted(&self) -> bool {
        self.had_ns.load(Relaxed) < self.wanted_ns.load(Relaxed)
    }

    /// One of them has taken so much.
    pub(super) fn took(&self, ns: u64) {
        self.had_ns.fetch_add(ns, Relaxed);
    }
}

/// The page. Zero is the beginning of everything in it.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Page {
    /// Futex word of those that burn.
    pub(super) turn: AtomicU32,
    /// Until when they do, `CLOCK_MONOTONIC`, and how many of them.
    pub(super) until_ns: AtomicU64,
    pub(super) burners: AtomicU32,
    /// The CPU that the first of them burns; the others follow it.
    pub(super) busy_cpu: AtomicU32,
    /// The workload is throttled now.
    pub(super) pressing: AtomicU32,
    /// Neighbours want its CPUs now.
    pub(super) crowding: AtomicU32,
    /// Nothing is to be pressed any more.
    pub(super) over: AtomicU32,
    /// Futex word of the ballast; how much it is to be, and is, bytes.
    pub(super) ballast_turn: AtomicU32,
    pub(super) wanted: AtomicU64,
    pub(super) held: AtomicU64,
    /// Memory that was to be added and was not allowed by the replay's limit, bytes at most.
    pub(super) refused: AtomicU64,
    /// CPU time of the ballast, ns.
    pub(super) ballast_cpu_ns: AtomicU64,
    /// Those that spin beside the workload's group.
    pub(super) neighbours: Crew,
    /// Throttled time, CPU time, CPU time of neighbours, and time in which writes were held up, ns; memory, bytes.
    pub(super) throttled: Score,
    pub(super) used: Score,
    pub(super) crowded: Score,
    pub(super) memory: Score,
    pub(super) held_up: Score,
}

/// The page, mapped.
#[derive(Debug)]
pub(super) struct Board(*mut Page);

impl Board {
    /// Maps a fresh one, which children share.
    pub(super) fn new() -> io::Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: the kernel chooses an unused range; the mapping is never removed.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Page>(), protection, flags, -1, 0) };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(at.cast())) }
    }
}

impl Deref for Board {
    type Target = Page;

    fn deref(&self) -> &Page {
        // SAFETY: mapped for the life of the process, zeroed by the kernel, and made of atomics only.
        unsafe { &*self.0 }
    }
}

/// Wakes those that wait for a word, having changed it.
pub(super) fn call(word: &AtomicU32) {
    word.fetch_add(1, SeqCst);
    wake(word);
}

/// Wakes those that wait for a word, which was changed.
pub(super) fn wake(word: &AtomicU32) {
    // SAFETY: wakes waiters on a word of shared memory that stays mapped.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// Waits for so long at most until a word is another than it was.
pub(super) fn await_call_for(word: &AtomicU32, was: u32, time: Duration) {
    let time = libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
    // SAFETY: waits on a word of shared memory that stays mapped; the time is read before the call returns.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, was, &raw const time) };
}

/// Waits until a word is another than it was.
pub(super) fn await_call(word: &AtomicU32, was: u32) {
    while word.load(SeqCst) == was {
        let none = std::ptr::null::<libc::timespec>();
        // SAFETY: waits on a word of the mapped page.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, was, none) };
    }
}
