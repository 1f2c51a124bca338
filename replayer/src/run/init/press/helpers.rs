//! Processes that do nothing but take: in the workload's group CPU time while it is throttled, and memory; beside it CPU
//! time, as neighbours.

use super::board::{Page, await_call};
use super::conductor::cpus;
use crate::run::control::monotonic_ns;
use crate::sandbox::cgroup::Controls;
use nix::sys::signal::SigSet;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, fork};
use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Address space of the ballast: sparse, only touched pages count.
const REGION_BYTES: u64 = 1 << 40;
const PAGE: u64 = 4096;

/// Makes a forked process one of the engine's that nobody disturbs, and that ends with its parent.
pub(super) fn become_engine(name: &CStr) -> io::Result<()> {
    crate::sandbox::namespaces::die_with_parent(None)?;
    let _ = SigSet::all().thread_block();
    nix::sys::prctl::set_name(name)?;
    // Nobody of the sandbox gets at its descriptors.
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

/// Starts a process without descriptors, in the workload's group where there is one to enter.
pub(super) fn start(controls: Option<&Controls>, name: &CStr, life: impl FnOnce()) -> io::Result<i32> {
    start_with(controls, name, &[], life)
}

/// Starts one that keeps these descriptors.
pub(super) fn start_with(
    controls: Option<&Controls>,
    name: &CStr,
    keep: &[RawFd],
    life: impl FnOnce(),
) -> io::Result<i32> {
    // SAFETY: as in `launch`; we are single-threaded.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let entered = |()| controls.map_or(Ok(()), Controls::enter);
            if become_engine(name).and_then(entered).is_err() {
                super::super::exit(1);
            }
            crate::sandbox::close_all_but(keep);
            life();
            super::super::exit(1)
        }
    }
}

/// Keeps this process on the `index`th CPU; where that is not to be had, it takes any.
fn stay_on(index: u32) {
    // SAFETY: plain integers.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: sets a bit of a set that has 1024, of which `CPUS_MAX` are asked for.
    unsafe { libc::CPU_SET(index as usize, &mut set) };
    // SAFETY: the set is as large as the kernel is told.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// Life of the `index`th process that wants a CPU whenever the workload is throttled: without anybody who wants one nobody
/// is.
pub(super) fn burn(page: &Page, index: u32) -> ! {
    let cpus = cpus();
    let mut turn = page.turn.load(SeqCst);
    loop {
        await_call(&page.turn, turn);
        turn = page.turn.load(SeqCst);
        let is_everywhere = page.burners.load(SeqCst) >= cpus;
        let first = if is_everywhere { 0 } else { page.busy_cpu.load(SeqCst) };
        stay_on(first.wrapping_add(index) % cpus);
        let until_ns = page.until_ns.load(SeqCst);
        while index < page.burners.load(Relaxed)
            && monotonic_ns() < until_ns
            && page.turn.load(Relaxed) == turn
        {
            std::hint::spin_loop();
        }
    }
}

/// Life of the neighbour on the `index`th CPU: it wants that CPU until all of them together have had what is asked of them, and
/// sleeps.
pub(super) fn crowd(page: &Page, index: u32) -> ! {
    stay_on(index);
    let crew = &page.neighbours;
    let mut turn = crew.turn.load(SeqCst);
    loop {
        await_call(&crew.turn, turn);
        turn = crew.turn.load(SeqCst);
        let mut had = own_cpu_ns();
        while crew.is_wanted() && crew.turn.load(Relaxed) == turn {
            for _ in 0..1000 {
                std::hint::spin_loop();
            }
            let has = own_cpu_ns();
            crew.took(has - had);
            had = has;
        }
    }
}

/// CPU time of this process, ns.
fn own_cpu_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map_or(0, |cpu| (cpu.tv_sec() as u64).saturating_mul(1_000_000_000) + cpu.tv_nsec() as u64)
}

/// Life of the process that has memory: it touches pages, gives them back, and sleeps.
pub(super) fn hold(page: &Page) -> ! {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: the kernel chooses an unused range.
    let region = unsafe { libc::mmap(std::ptr::null_mut(), REGION_BYTES as usize, protection, flags, -1, 0) };
    if region == libc::MAP_FAILED {
        super::super::exit(1);
    }
    // SAFETY: a range of ours. Whole huge pages would be more than is asked for.
    unsafe { libc::madvise(region, REGION_BYTES as usize, libc::MADV_NOHUGEPAGE) };
    let region = region.cast::<u8>();
    let mut turn = 0;
    let mut held = 0;
    loop {
        await_call(&page.ballast_turn, turn);
        turn = page.ballast_turn.load(SeqCst);
        let wanted = page.wanted.load(SeqCst).min(REGION_BYTES) / PAGE * PAGE;
        while held < wanted && page.ballast_turn.load(Relaxed) == turn {
            // SAFETY: within the region.
            let page = unsafe { region.add(held as usize) };
            // SAFETY: as above; a byte has no alignment.
            unsafe { page.write_volatile(1) };
            held += PAGE;
        }
        if wanted < held {
            // SAFETY: within the region.
            let at = unsafe { region.add(wanted as usize) };
            // SAFETY: as above; nothing of it is used.
            unsafe { libc::madvise(at.cast(), (held - wanted) as usize, libc::MADV_DONTNEED) };
            held = wanted;
        }
        page.held.store(held, SeqCst);
        page.ballast_cpu_ns.store(own_cpu_ns(), Relaxed);
    }
}
