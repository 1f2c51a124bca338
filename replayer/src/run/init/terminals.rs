//! What is written to a terminal reaches its readers, and what it echoes, when a thread of the kernel comes to that
//! (`flush_to_ldisc`, drivers/tty/tty_buffer.c): on a busy machine all tasks may sleep meanwhile although nobody is stuck.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat, major, minor};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};

/// `/dev/ptmx`, and the first and last major number of the other sides (Documentation/admin-guide/devices.txt).
const PTMX: (u64, u64) = (5, 2);
const FIRST_PTS: u64 = 136;
const LAST_PTS: u64 = 143;
/// Most readers that are asked about at once.
const ASKED_MAX: usize = 64;
/// What is typed comes to one side, and its echo from there to the other.
const WAYS: usize = 2;

/// A process and the descriptor that a thread of it reads.
pub(super) type Reader = (i32, i32);

/// Whether a reader of a terminal has input after all. To ask so waits for what is on its way (`n_tty_poll`,
/// drivers/tty/n_tty.c).
pub(super) fn have_input(readers: impl Iterator<Item = Reader>) -> bool {
    let terminals: Vec<OwnedFd> = readers.take(ASKED_MAX).filter_map(terminal).collect();
    (0..WAYS).any(|_| {
        terminals.iter().any(|terminal| {
            let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        })
    })
}

/// The same open terminal as a process's; none if that descriptor is something else.
fn terminal((process, fd): Reader) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(process)?, PidfdFlags::empty()).ok()?;
    let file = pidfd_getfd(process, fd, PidfdGetfdFlags::empty()).ok()?;
    let status = fstat(&file).ok()?;
    let is_device = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    let number = (major(status.st_rdev), minor(status.st_rdev));
    let is_terminal = number == PTMX || (FIRST_PTS..=LAST_PTS).contains(&number.0);
    (is_device && is_terminal).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_reader_has_input_as_soon_as_somebody_has_written() {
        let pair = openpty(None, None).unwrap();
        let me = std::process::id() as i32;
        let readers = [(me, pair.slave.as_raw_fd()), (me, pair.master.as_raw_fd())];
        assert!(!have_input(readers.into_iter()));
        nix::unistd::write(&pair.master, b"x").unwrap();
        // The line is not complete; its echo is there.
        assert!(have_input(readers.into_iter()));
        assert!(!have_input(readers[..1].iter().copied()));
        let (pipe, into) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&into, b"x").unwrap();
        assert!(!have_input([(me, pipe.as_raw_fd()), (me, -1), (0, 0)].into_iter()));
    }
}
