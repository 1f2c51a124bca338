//! The recorder's own capabilities: which it has, and giving up those it needs no more.
//!
//! Capabilities belong to threads. Loading and attaching takes all that the caller has; after that every thread of the
//! recorder keeps what its own work needs and drops the rest for good:
//!
//! | thread | keeps | for |
//! |---|---|---|
//! | drain | `CAP_BPF`, where the kernel asks for it | reading the loss counters (before Linux 5.19) |
//! | write | nothing | |
//! | the process that writes | `CAP_DAC_OVERRIDE`, where the directory is closed without it | making files and naming them |
//! | the processes that look | `CAP_SYS_PTRACE`, `CAP_DAC_READ_SEARCH` | memory, `/proc/PID/io`, `/proc/PID/fd` of other users' processes |
//! | sample, snapshot | the same | `/proc/PID/fd` of other users' processes |
//! | follow | `CAP_BPF`, where the kernel asks for it | telling the programs about new containers (before Linux 5.19) |
//! | | `CAP_DAC_OVERRIDE`, where the socket is closed without it | asking a runtime that was restarted |
//! | | `CAP_SYS_PTRACE` | finding processes where `/proc` hides those of others (`hidepid`) |
//! | the caller's, see [`crate::Recording::drop_privileges`] | `CAP_KILL` with a command | ending the command |
//!
//! A command that is recorded was started before any of this: it has what the caller has. Which capabilities there are
//! in the beginning, and who may be recorded with them: [`crate::privilege`].

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A capability that is worth naming. Numbers: include/uapi/linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Cap {
    /// `CAP_DAC_OVERRIDE`
    DacOverride = 1,
    DacReadSearch = 2,
    Kill = 5,
    SysPtrace = 19,
    SysAdmin = 21,
    Perfmon = 38,
    Bpf = 39,
}

impl Cap {
    const fn bit(self) -> u64 {
        1 << self as u32
    }
}

/// Reading `/proc` of other users' processes.
pub(crate) const SNAPSHOT: [Cap; 2] = [Cap::SysPtrace, Cap::DacReadSearch];

/// Capabilities beyond the last one that the kernel knows do not exist; no kernel has more than a word of them.
const MAX_CAPS: u32 = 64;

/// Whether the calling thread may use a capability, at once or when it is [`raised`].
pub(crate) fn has(cap: Cap) -> bool {
    permitted() & cap.bit() != 0
}

/// Whether this thread may load tracing programs.
pub(crate) fn can_load() -> bool {
    missing_to_load().is_none()
}

/// What this thread lacks to load tracing programs.
pub(crate) fn missing_to_load() -> Option<&'static str> {
    if has(Cap::SysAdmin) {
        return None;
    }
    match (has(Cap::Bpf), has(Cap::Perfmon)) {
        (true, true) => None,
        (true, false) => Some("CAP_PERFMON"),
        (false, true) => Some("CAP_BPF"),
        (false, false) => Some("CAP_BPF and CAP_PERFMON"),
    }
}

/// What a recording of other users' processes will not have, for the trace's header.
pub(crate) fn blind_spots() -> Vec<String> {
    let mut blind = Vec::new();
    if !has(Cap::SysPtrace) {
        blind.push(
            "other users' processes: descriptors, mappings and I/O counters are not read (CAP_SYS_PTRACE is missing)"
                .to_owned(),
        );
    }
    if !has(Cap::DacReadSearch) && !has(Cap::DacOverride) {
        blind.push("other users' descriptors: not listed (CAP_DAC_READ_SEARCH is missing)".to_owned());
    }
    blind
}

/// The capability sets of the calling thread.
#[derive(Clone, Copy)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

/// `struct __user_cap_header_struct`, version 3, of the calling thread.
#[repr(C)]
struct Head {
    version: u32,
    pid: i32,
}

impl Head {
    /// `_LINUX_CAPABILITY_VERSION_3`, of the calling thread.
    const fn new() -> Self {
        Self { version: 0x2008_0522, pid: 0 }
    }
}

fn get() -> io::Result<Sets> {
    let mut head = Head::new();
    let mut data = [[0_u32; 3]; 2];
    // SAFETY: a header and two data elements, as version 3 has them.
    let r = unsafe { libc::syscall(libc::SYS_capget, &raw mut head, data.as_mut_ptr()) };
    if r < 0 {
        return Err(io::Error::last_os_error());
    }
    let set = |i: usize| u64::from(data[0][i]) | u64::from(data[1][i]) << 32;
    Ok(Sets { effective: set(0), permitted: set(1), inheritable: set(2) })
}

fn set(sets: Sets) -> io::Result<()> {
    let half =
        |shift: u32| [sets.effective, sets.permitted, sets.inheritable].map(|set| (set >> shift) as u32);
    let mut head = Head::new();
    let data = [half(0), half(32)];
    // SAFETY: as in `get`; the kernel only reads.
    let r = unsafe { libc::syscall(libc::SYS_capset, &raw mut head, data.as_ptr()) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn prctl(option: libc::c_int, a: libc::c_ulong, b: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: the options used here take numbers.
    let r = unsafe { libc::prctl(option, a, b, 0 as libc::c_ulong, 0 as libc::c_ulong) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r) }
}

/// The calling thread gives up everything but these, for good: it can neither use nor pass on anything else, nor gain
/// anything by executing a program.
///
/// # Errors
/// When the kernel refuses, which it does not for giving up.
pub(crate) fn keep_only(keep: &[Cap]) -> io::Result<()> {
    let keep = keep.iter().fold(0, |set, cap| set | cap.bit());
    // Kernels before 4.3 have no ambient set.
    let _ = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0);
    for cap in 0..MAX_CAPS {
        // Needs CAP_SETPCAP. Without it the thread cannot gain anything either: see no_new_privs.
        if keep & 1 << cap == 0 && prctl(libc::PR_CAPBSET_READ, cap.into(), 0).is_ok_and(|held| held == 1) {
            let _ = prctl(libc::PR_CAPBSET_DROP, cap.into(), 0);
        }
    }
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    let permitted = get()?.permitted & keep;
    set(Sets { effective: permitted, permitted, inheritable: 0 })
}

/// From now on the calling thread may not use what it keeps of its capabilities, unless it is [`raised`], and keeps only
/// these. Threads that it starts begin so, too. Programs that it executes get what its caller would give them: what they
/// inherit is not touched.
pub(crate) fn lower(keep: &[Cap]) -> io::Result<()> {
    let keep = keep.iter().fold(0, |set, cap| set | cap.bit());
    let now = get()?;
    set(Sets { effective: 0, permitted: now.permitted & keep, ..now })
}

/// Does something with all capabilities that the calling thread keeps. Nothing that the caller names, a path above all,
/// should be looked up meanwhile.
pub(crate) fn raised<T>(work: impl FnOnce() -> T) -> T {
    struct Lower(Option<Sets>);
    impl Drop for Lower {
        fn drop(&mut self) {
            if let Some(before) = self.0 {
                // Neither adds anything to what is permitted. What is raised must not stay so: without this the kernel
                // would have to refuse giving up, which it does not.
                let _ = set(Sets { effective: before.effective & permitted(), ..before });
            }
        }
    }
    let before = get().ok().filter(|now| now.effective != now.permitted);
    let _lower = Lower(before);
    if let Some(before) = before {
        let _ = set(Sets { effective: before.permitted, ..before });
    }
    work()
}

/// The capabilities that the calling thread keeps, whether it may use them now or not.
pub(crate) fn permitted() -> u64 {
    get().map_or(0, |sets| sets.permitted)
}

/// As [`keep_only`], of a thread of the recorder: that it could not is no reason not to record.
pub(crate) fn keep_only_here(keep: &[Cap]) {
    if let Err(error) = keep_only(keep) {
        tracing::warn!(%error, "capabilities could not be given up");
    }
}

/// Gives up a capability too, unless something does not work without it.
pub(crate) fn drop_unless_needed(cap: Cap, works: impl FnOnce() -> bool) {
    let Ok(before) = get() else { return };
    if before.permitted & cap.bit() == 0 {
        return;
    }
    let without = Sets { effective: before.effective & !cap.bit(), ..before };
    if set(without).is_err() {
        return;
    }
    let end = if works() { Sets { permitted: before.permitted & !cap.bit(), ..without } } else { before };
    // Neither adds anything to what is permitted now.
    let _ = set(end);
}

/// Whether files can be made and renamed in a directory with what the calling thread has.
pub(crate) fn can_write_to(directory: &Path) -> bool {
    allows(directory, libc::W_OK | libc::X_OK)
}

/// Whether a socket can be connected to with what the calling thread has.
pub(crate) fn can_connect_to(socket: &Path) -> bool {
    allows(socket, libc::W_OK)
}

fn allows(path: &Path, mode: libc::c_int) -> bool {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // Not the C library's: it answers for the user id alone.
    // SAFETY: a NUL-terminated path and numbers.
    let r =
        unsafe { libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) };
    r == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(field: &str) -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(field)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }

    #[test]
    fn a_thread_keeps_what_it_names_and_nothing_else() {
        let before = status("CapPrm:");
        std::thread::spawn(move || {
            keep_only(&[Cap::SysPtrace]).unwrap();
            let kept = before & Cap::SysPtrace.bit();
            assert_eq!((status("CapEff:"), status("CapPrm:")), (kept, kept));
            assert_eq!((status("CapInh:"), status("CapAmb:")), (0, 0));
            assert_eq!(status("NoNewPrivs:"), 1);
            // CAP_SETPCAP is 8.
            if before & 1 << 8 != 0 {
                assert_eq!(status("CapBnd:") & !Cap::SysPtrace.bit(), 0);
            }
            drop_unless_needed(Cap::SysPtrace, || false);
            assert_eq!(status("CapEff:"), kept, "needed");
            drop_unless_needed(Cap::SysPtrace, || true);
            assert_eq!((status("CapEff:"), status("CapPrm:")), (0, 0), "not needed");
        })
        .join()
        .unwrap();
        assert_eq!(status("CapPrm:"), before, "other threads keep theirs");
    }

    #[test]
    fn what_is_lowered_is_used_only_while_it_is_raised() {
        let before = status("CapPrm:");
        assert_eq!(permitted(), before);
        std::thread::spawn(move || {
            let kept = before & Cap::SysPtrace.bit();
            lower(&[Cap::SysPtrace]).unwrap();
            assert_eq!((status("CapEff:"), status("CapPrm:")), (0, kept));
            assert_eq!(raised(|| status("CapEff:")), kept);
            assert_eq!(status("CapEff:"), 0);
            let caught = std::panic::catch_unwind(|| raised(|| panic!("on purpose")));
            assert!(caught.is_err());
            assert_eq!(status("CapEff:"), 0, "a panic lowers it, too");
            std::thread::spawn(move || {
                assert_eq!(status("CapEff:"), 0);
                keep_only(&[Cap::SysPtrace]).unwrap();
                assert_eq!(status("CapEff:"), kept, "a thread uses what it says it keeps");
            })
            .join()
            .unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_only_a_capability_opens_is_told() {
        if !has(Cap::DacOverride) {
            eprintln!("skipped: needs CAP_DAC_OVERRIDE");
            return;
        }
        let dir = std::env::temp_dir().join(format!("ctrace-caps-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(65534), None).unwrap();
        let socket = dir.join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::chown(&socket, Some(65534), None).unwrap();
        let look = move || (can_write_to(socket.parent().unwrap()), can_connect_to(&socket));
        let with = look();
        let without = std::thread::spawn(move || {
            keep_only(&[]).unwrap();
            look()
        });
        let without = without.join().unwrap();
        drop(listener);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!((with, without), ((true, true), (false, false)));
    }
}
