//! Signals that ask ctrace to end: counted, for loops to look at; or what is unfinished is removed first.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};

static COUNT: AtomicU32 = AtomicU32::new(0);
static LAST: AtomicU32 = AtomicU32::new(0);
static LAST_AT: AtomicU64 = AtomicU64::new(0);
static DUMPS: AtomicU32 = AtomicU32::new(0);

extern "C" fn note(number: libc::c_int) {
    // Only atomics: the one thing a handler may touch. clock_gettime is among the calls that it may make (signal-safety(7)).
    LAST_AT.store(crate::clock::boottime_ns(), Ordering::Relaxed);
    LAST.store(number as u32, Ordering::Relaxed);
    COUNT.fetch_add(1, Ordering::Release);
}

extern "C" fn note_dump(_: libc::c_int) {
    DUMPS.fetch_add(1, Ordering::Release);
}

/// From now on SIGUSR1 is counted, apart from the others: it asks for a dump, not for the end.
///
/// # Errors
/// As [`catch`].
pub(crate) fn catch_dumps() -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(note_dump), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler is async-signal-safe: it stores to an atomic.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.map(drop)
}

/// How many dumps were asked for since this was last called.
pub(crate) fn take_dumps() -> u32 {
    DUMPS.swap(0, Ordering::AcqRel)
}

/// From now on SIGINT, SIGTERM and SIGHUP are counted instead of ending the process. Those that were ignored until now,
/// which a command that is started should ignore too. SIGHUP stays ignored then: that is what `nohup` asks for.
///
/// # Errors
/// When the kernel refuses a handler, which it does not for these signals.
pub(crate) fn catch() -> nix::Result<Vec<Signal>> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    let mut ignored = Vec::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler is async-signal-safe: it stores to two atomics.
        let before = unsafe { sigaction(signal, &action) }?;
        if matches!(before.handler(), SigHandler::SigIgn) {
            ignored.push(signal);
            if signal == Signal::SIGHUP {
                // SAFETY: no handler.
                unsafe { sigaction(signal, &before) }?;
            }
        }
    }
    Ok(ignored)
}

/// How many came so far.
pub(crate) fn count() -> u32 {
    COUNT.load(Ordering::Acquire)
}

/// The number of the last one.
pub(crate) fn last() -> u8 {
    LAST.load(Ordering::Relaxed) as u8
}

/// When the last one came, `CLOCK_BOOTTIME`.
pub(crate) fn last_at_ns() -> u64 {
    LAST_AT.load(Ordering::Relaxed)
}

/// Files and directories that are of no use unless they are finished.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Something unfinished that a signal which ends the process removes first, until this is dropped.
#[must_use]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    /// To be made when privileges are given up, which a thread that was there before would keep, and before there are
    /// other threads, which would take the signal.
    pub(crate) fn new(path: &Path) -> Self {
        static WATCH: Once = Once::new();
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
        WATCH.call_once(watch);
        Self(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).retain(|path| *path != self.0);
    }
}

/// Whether a signal is ignored, as by nohup.
fn is_ignored(signal: Signal) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: no action is set, and the present one is written where there is room for it.
    let told = unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: the kernel has filled it when it returns 0.
    told == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Starts the thread that waits for signals, removes what is unfinished, and ends the process as the signal would have.
/// Where there can be no thread, the signals end the process at once.
fn watch() {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        if !is_ignored(signal) {
            set.add(signal);
        }
    }
    if set.thread_block().is_err() {
        return;
    }
    let waiting = std::thread::Builder::new().name("ctrace-signals".into()).spawn(move || {
        let Ok(signal) = set.wait() else { return };
        let unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        for path in unfinished.iter() {
            let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir_all(path));
        }
        let _ = set.thread_unblock();
        let _ = nix::sys::signal::raise(signal);
    });
    if waiting.is_err() {
        let _ = set.thread_unblock();
    }
}
