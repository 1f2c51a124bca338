//! Processes of the recorder's own for calls that may never return.
//!
//! A call on a file system whose server is gone waits for ever, and where the kernel waits without listening to signals
//! (`TASK_UNINTERRUPTIBLE`) nothing ends it. A process is gone when all of its threads are: one thread in such a call
//! keeps the whole recorder, and whoever waits for it. So no thread of the recorder makes such a call. A process beside
//! it does, which is given up when it does not answer: killed, and never waited for.
//!
//! It has nothing of the recorder's but its socket: no descriptor that would keep a pipe, a lock or a program alive. It
//! ends when the socket does, so it does not outlive a recorder that is killed.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, setsid};
use std::ffi::CStr;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where its socket is.
const SOCKET: RawFd = 3;

/// Those of this process, alive or given up: no recording records them.
static ALL: Mutex<Vec<Known>> = Mutex::new(Vec::new());

/// One, by its id and a reference that stays its own.
#[derive(Clone)]
struct Known {
    pid: u32,
    pidfd: Arc<OwnedFd>,
}

impl Known {
    fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: no pointers.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let pidfd = RawFd::try_from(pidfd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: a descriptor that the call just made for us.
        Ok(Self { pid, pidfd: Arc::new(unsafe { OwnedFd::from_raw_fd(pidfd) }) })
    }

    fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    fn kill(&self) {
        let (signal, flags) = (libc::SIGKILL, 0);
        let info = std::ptr::null::<libc::siginfo_t>();
        // It may have ended in this moment.
        // SAFETY: a descriptor of ours; without information the kernel makes up its own.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), signal, info, flags) };
    }
}

/// Whether a process is one of them.
pub(crate) fn is_one(pid: u32) -> bool {
    ALL.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|one| one.pid == pid)
}

/// See the module. Dropped, it is told to end; nobody waits for that.
pub(crate) struct Aside {
    known: Known,
    stream: UnixStream,
}

impl Aside {
    /// Starts a process of this name that serves the other end of a socket, until that is closed. It is no child of this
    /// one: whoever waits for children waits for those that he knows of.
    pub(crate) fn start(name: &CStr, serve: impl FnOnce(UnixStream)) -> io::Result<Self> {
        /// How long it may take to say its id.
        const PATIENCE: Duration = Duration::from_secs(5);
        let (mut ours, mut theirs) = UnixStream::pair()?;
        // SAFETY: the child takes no lock that another thread of this process may hold: the C library keeps its own
        // allocator usable in a child, and `serve` neither logs nor prints. It never returns.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => {
                drop(theirs);
                // It does nothing but to start the other.
                while waitpid(child, None) == Err(nix::errno::Errno::EINTR) {}
                ours.set_read_timeout(Some(PATIENCE))?;
                let mut pid = [0; 4];
                ours.read_exact(&mut pid)?;
                ours.set_read_timeout(None)?;
                let known = Known::open(u32::from_ne_bytes(pid))?;
                let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|one| !one.is_gone());
                all.push(known.clone());
                Ok(Self { known, stream: ours })
            }
            ForkResult::Child => {
                drop(ours);
                // SAFETY: as above.
                if let Ok(ForkResult::Child) = unsafe { fork() } {
                    // Whoever does not learn the id closes the socket.
                    let _ = theirs.write_all(&std::process::id().to_ne_bytes());
                    if let Some(stream) = settle(name, theirs.into_raw_fd()) {
                        // The cause of a panic cannot be told from here; the socket closes.
                        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(stream)));
                    }
                }
                // SAFETY: ends the child without running the parent's handlers.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// Its socket.
    pub(crate) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Gives it up: it hangs.
    pub(crate) fn give_up(self) {
        self.known.kill();
    }
}

/// In the child: lets go of all that is the recorder's.
fn settle(name: &CStr, socket: RawFd) -> Option<UnixStream> {
    // A terminal's signals are meant for the recorder, and so are those that a service manager sends to all of a group:
    // the recorder ends, and closes the socket, when its work is done.
    let _ = setsid();
    for signal in
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGPIPE, Signal::SIGXFSZ]
    {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler.
        let _ = unsafe { sigaction(signal, &ignore) };
    }
    // SAFETY: a NUL-terminated string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    // SAFETY: plain descriptors; nothing in this process uses those that are closed any more.
    if socket != SOCKET && unsafe { libc::dup2(socket, SOCKET) } < 0 {
        return None;
    }
    // SAFETY: as above. Before Linux 5.9 there is no such call, and the recorder needs 5.12.
    unsafe { libc::syscall(libc::SYS_close_range, SOCKET + 1, u32::MAX, 0) };
    // Whatever is opened next must not become a standard stream.
    // SAFETY: a NUL-terminated string.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    for standard in 0..SOCKET {
        // SAFETY: plain descriptors.
        unsafe { libc::dup2(null, standard) };
    }
    if null > SOCKET {
        // SAFETY: just opened, and copied.
        unsafe { libc::close(null) };
    }
    // SAFETY: this process's end of the socket, which nothing else owns here.
    Some(UnixStream::from(unsafe { OwnedFd::from_raw_fd(SOCKET) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn assert_ends(one: &Known) {
        let began = Instant::now();
        while !one.is_gone() {
            assert!(began.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn one_answers_has_no_descriptor_of_ours_and_ends_with_its_socket() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let aside = Aside::start(c"ctrace-test", |mut stream| {
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() {
                let _ = stream.write_all(&[byte[0] + 1]);
            }
        })
        .unwrap();
        drop(writer);
        // Whoever kept the pipe open would keep this from its end.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        let mut stream = aside.stream();
        stream.write_all(&[1]).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [2]);
        let known = aside.known.clone();
        assert!(is_one(known.pid) && !known.is_gone());
        drop(aside);
        assert_ends(&known);
    }

    #[test]
    fn one_that_hangs_is_given_up() {
        let aside = Aside::start(c"ctrace-test", |_stream| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        })
        .unwrap();
        let known = aside.known.clone();
        aside.give_up();
        assert_ends(&known);
    }
}
