//! The few system calls that the standard library has no name for.

use std::ffi::CString;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Names the calling thread; for the main thread this is the process's name in `ps`.
pub(crate) fn set_name(name: &str) {
    let Ok(name) = CString::new(name) else { return };
    // SAFETY: `name` is a NUL-terminated string that outlives the call; the kernel copies 15 bytes of it at most.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Asks the kernel to kill this process when the thread that started it ends.
pub(crate) fn die_with_parent() {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Ends listening: blocked `accept` calls return, and new connections are refused even while the descriptor lives.
pub(crate) fn stop_listening(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `listener` is borrowed; shutdown touches no memory.
    check(unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) })
}

/// Lowers the soft limit of a resource, never above the hard one.
pub(crate) fn lower_limit(resource: libc::__rlimit_resource_t, soft: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to write.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: `limit` is a valid rlimit for the kernel to read.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// Lets writes beyond `RLIMIT_FSIZE` fail with `EFBIG` instead of killing the process.
pub(crate) fn ignore_sigxfsz() {
    // SAFETY: SIG_IGN is a valid disposition; no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Mounts a small tmpfs on `dir` in a mount namespace of this process (and its future children) alone: it ends with
/// them.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`, or when `dir` does not exist.
pub(crate) fn private_tmpfs(dir: &std::path::Path, bytes: u64) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let target = CString::new(dir.as_os_str().as_bytes())?;
    let options = CString::new(format!("size={bytes},mode=0755"))?;
    // SAFETY: unshare(CLONE_NEWNS) touches no memory; called before this process has other threads.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: all pointers are NUL-terminated strings or null where mount(2) allows it.
    check(unsafe {
        libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null())
    })?;
    // SAFETY: all pointers are NUL-terminated strings that outlive the call.
    check(unsafe {
        libc::mount(c"orders".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast())
    })
}
