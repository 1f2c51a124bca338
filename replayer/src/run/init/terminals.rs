//! Terminals. A thread of the kernel hands on what is written to one, and what it echoes (`flush_to_ldisc`,
//! `drivers/tty/tty_buffer.c`): on a busy machine all tasks may sleep meanwhile although nobody is stuck.

use super::threads::Threads;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};

/// Most terminals that are asked at once.
const ASKED_MAX: usize = 64;
/// Typed bytes come to one side, and their echo from there to the other.
const WAYS: usize = 2;

/// Whether a terminal that one of these processes has open has input after all. To ask so waits for what is on its way
/// (`n_tty_poll`, `drivers/tty/n_tty.c`).
pub(super) fn have_input(threads: &Threads, processes: impl Iterator<Item = i32>) -> bool {
    let is_terminal = |path: &[u8]| path.starts_with(b"/dev/pts/") || path.ends_with(b"/ptmx");
    let terminals: Vec<OwnedFd> =
        processes.flat_map(|process| threads.open_files(process, is_terminal)).take(ASKED_MAX).collect();
    (0..WAYS).any(|_| {
        terminals.iter().any(|terminal| {
            let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
            let asked = poll(&mut fds, PollTimeout::ZERO).is_ok();
            asked && fds[0].revents().is_some_and(|revents| revents.contains(PollFlags::POLLIN))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;

    #[test]
    fn a_process_has_input_as_soon_as_somebody_has_written_to_its_terminal() {
        let threads = Threads::new(Some(std::fs::File::open("/proc").unwrap().into()));
        let me = std::process::id() as i32;
        let asked = || have_input(&threads, [me, -1, i32::MAX].into_iter());
        let pair = openpty(None, None).unwrap();
        let before = asked();
        nix::unistd::write(&pair.master, b"x").unwrap();
        // The line is not complete; its echo is there.
        assert!(!before && asked());
        let mut echo = [0; 8];
        assert_eq!(nix::unistd::read(&pair.master, &mut echo), Ok(1));
        assert!(!asked());
    }
}
