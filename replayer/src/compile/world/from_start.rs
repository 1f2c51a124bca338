//! `O_NONBLOCK` and `O_APPEND` of descriptions that are there from the start: the snapshot does not show those of a command's
//! own, nor those that came while it was taken.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::fsmodel::NodeKind;
use super::super::io::MSG_DONTWAIT;
use super::super::source::Source;
use super::{Inherited, O_APPEND, O_NONBLOCK, OfdIx, OfdKind, TaskIx, World};
use ctrace_format::Syscall;
use rustc_hash::FxHashSet;

const EBADF: i64 = -9;
const EAGAIN: i64 = -11;
const EINVAL: i64 = -22;
const RWF_NOWAIT: u64 = 8;
/// A call that took less did not wait for a time limit of its socket (`SO_RCVTIMEO`, `SO_SNDTIMEO`), which the kernel counts
/// in ticks of its clock.
pub(crate) const TIME_LIMIT_NS: u64 = 1_000_000;

/// Whether a call asks the kernel itself not to wait, whatever the description says.
pub(crate) fn asks_not_to_wait(sc: Sc, call: &Syscall) -> bool {
    match sc {
        Sc::Recvfrom | Sc::Recvmmsg | Sc::Sendto | Sc::Sendmmsg => call.args[3] & MSG_DONTWAIT != 0,
        Sc::Recvmsg | Sc::Sendmsg => call.args[2] & MSG_DONTWAIT != 0,
        Sc::Preadv2 | Sc::Pwritev2 => call.args[5] & RWF_NOWAIT != 0,
        _ => false,
    }
}

impl World {
    /// A call on a descriptor failed. One that found nothing and did not wait has `O_NONBLOCK`: nothing else makes the kernel
    /// say so of a pipe (`anon_pipe_read`, fs/pipe.c) or a socket (`sock_rcvtimeo`, include/net/sock.h).
    pub(super) fn would_have_blocked(&mut self, task: TaskIx, call: &Syscall, sc: Sc) {
        let moves = matches!(
            sc,
            Sc::Read
                | Sc::Readv
                | Sc::Recvfrom
                | Sc::Recvmsg
                | Sc::Recvmmsg
                | Sc::Accept
                | Sc::Accept4
                | Sc::Write
                | Sc::Writev
                | Sc::Sendto
                | Sc::Sendmsg
                | Sc::Sendmmsg
        );
        if call.ret != EAGAIN || !moves || asks_not_to_wait(sc, call) {
            return;
        }
        let fd = call.args[0] as i32;
        let Some(ofd) = self.ofd_of(task, fd).filter(|ofd| self.ofds[*ofd as usize].inherited) else {
            return;
        };
        let limited = matches!(self.ofds[ofd as usize].kind, OfdKind::Sock(_));
        if !limited || call.duration_ns < TIME_LIMIT_NS {
            self.known_nonblocking(ofd, fd);
        }
    }

    /// `fcntl`, but for what it does to a table.
    pub(super) fn fcntl(
        &mut self,
        source: &dyn Source,
        task: TaskIx,
        call: &Syscall,
    ) -> Result<(), CompileError> {
        /// include/uapi/linux/fcntl.h.
        const F_GETFL: u64 = 3;
        const F_SETFL: u64 = 4;
        let fd0 = call.args[0] as i32;
        let ofd = self.ensure_fd(source, task, fd0, call.object, false)?;
        match call.args[1] {
            F_GETFL => {
                if let Some(ofd) = ofd
                    && self.ofds[ofd as usize].inherited
                {
                    if call.ret as u32 & O_NONBLOCK != 0 {
                        self.known_nonblocking(ofd, fd0);
                    } else {
                        self.ofds[ofd as usize].nonblock = false;
                    }
                    if call.ret as u32 & O_APPEND != 0 {
                        self.known_appending(ofd, fd0);
                    } else {
                        self.ofds[ofd as usize].append = false;
                    }
                    if call.ret & 3 != 0 {
                        self.known_writable(ofd, fd0);
                    }
                }
            }
            F_SETFL => {
                if let Some(ofd) = ofd {
                    self.ofds[ofd as usize].nonblock = call.args[2] as u32 & O_NONBLOCK != 0;
                    self.ofds[ofd as usize].append = call.args[2] as u32 & O_APPEND != 0;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// An inherited description turned out not to block.
    pub(super) fn known_nonblocking(&mut self, ofd: OfdIx, fd: i32) {
        let known = &mut self.ofds[ofd as usize];
        if known.nonblock {
            return;
        }
        known.nonblock = true;
        if let Some(at) = self.by_number.get(&(fd, known.object)) {
            self.discovered[*at].nonblock = true;
        }
    }

    /// A call that moves bytes between two files failed. When it could read the one and write the other, it is because the
    /// other appends: `copy_file_range` says EBADF then (`generic_file_rw_checks`, `fs/read_write.c`), `sendfile` and `splice`
    /// say EINVAL (`do_splice_direct` and `do_splice`, fs/splice.c).
    pub(super) fn would_have_appended(&mut self, task: TaskIx, call: &Syscall, sc: Sc) {
        let (input, output) = match (sc, call.ret) {
            (Sc::CopyFileRange, EBADF) | (Sc::Splice, EINVAL) => (call.args[0], call.args[2]),
            (Sc::Sendfile, EINVAL) => (call.args[1], call.args[0]),
            _ => return,
        };
        let (input, output) = (input as i32, output as i32);
        let is_file = |world: &Self, ofd: OfdIx| {
            world.inode_of(ofd).is_some_and(|inode| world.fs.node(inode).kind == NodeKind::File)
        };
        // A pipe is spliced from.
        let gives = |world: &Self, ofd: OfdIx| {
            is_file(world, ofd) || matches!(world.ofds[ofd as usize].kind, OfdKind::Pipe { write: false, .. })
        };
        if let Some(from) = self.ofd_of(task, input)
            && let Some(to) = self.ofd_of(task, output)
            && self.ofds[to as usize].inherited
            && is_file(self, to)
            && gives(self, from)
        {
            self.known_appending(to, output);
        }
    }

    /// An inherited description turned out to append.
    pub(super) fn known_appending(&mut self, ofd: OfdIx, fd: i32) {
        let known = &mut self.ofds[ofd as usize];
        if known.append {
            return;
        }
        known.append = true;
        // It may have other numbers by now.
        let by_number = self.by_number.get(&(fd, known.object));
        for at in by_number.into_iter().chain(self.discovered_as.get(&ofd)) {
            self.discovered[*at].append = true;
        }
    }

    /// What was discovered of descriptors that were there from the start, each end of a pipe and each socket being one
    /// description, whatever its numbers.
    pub(crate) fn take_discovered(&mut self) -> Vec<Inherited> {
        let mut found = std::mem::take(&mut self.discovered);
        let end = |one: &Inherited| one.object.map(|object| (object, one.written));
        let nonblocking: FxHashSet<_> = found.iter().filter(|one| one.nonblock).filter_map(end).collect();
        let appending: FxHashSet<_> = found.iter().filter(|one| one.append).filter_map(end).collect();
        for one in &mut found {
            one.nonblock |= end(one).is_some_and(|end| nonblocking.contains(&end));
            one.append |= end(one).is_some_and(|end| appending.contains(&end));
        }
        found
    }
}
