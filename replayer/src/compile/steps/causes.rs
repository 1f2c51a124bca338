//! Failures, by call and error: those whose cause is there when the same call is made in the same state are made again, the
//! others are answered as they were.

use super::super::calls::Sc;
use super::super::fsmodel::NodeKind;
use super::super::lower::Lower;
use super::super::model::Cx;
use super::super::paths::PathId;
use super::super::world::{OfdKind, detail_addr, positional};
use super::{FICLONE, memory};
use ctrace_format::syscalls::Replay;
use libc::{
    E2BIG, EACCES, EADDRINUSE, EAFNOSUPPORT, EAGAIN, EALREADY, EBADF, ECHILD, ECONNREFUSED, ECONNRESET,
    EDESTADDRREQ, EEXIST, EINPROGRESS, EINTR, EINVAL, EISCONN, EISDIR, ELOOP, EMFILE, ENAMETOOLONG,
    ENETUNREACH, ENODATA, ENOENT, ENOPROTOOPT, ENOSPC, ENOTCONN, ENOTDIR, ENOTEMPTY, ENOTSOCK, ENOTTY, ENXIO,
    EOPNOTSUPP, EPERM, EPIPE, EPROTONOSUPPORT, ESOCKTNOSUPPORT, ESPIPE, ESRCH, ETIMEDOUT,
};

/// Errors that follow from what was done before, or from the arguments; of most calls.
const BY_THEMSELVES: [i32; 32] = [
    EADDRINUSE,
    EAFNOSUPPORT,
    EAGAIN,
    EALREADY,
    EBADF,
    ECHILD,
    ECONNREFUSED,
    ECONNRESET,
    EDESTADDRREQ,
    EEXIST,
    EINPROGRESS,
    EINTR,
    EINVAL,
    EISCONN,
    EISDIR,
    ELOOP,
    ENAMETOOLONG,
    ENODATA,
    ENOENT,
    ENOPROTOOPT,
    ENOTCONN,
    ENOTDIR,
    ENOTEMPTY,
    ENOTSOCK,
    ENOTTY,
    EOPNOTSUPP,
    EPIPE,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
    ESPIPE,
    ESRCH,
    ETIMEDOUT,
];
const EPOLL_CTL_ADD: u64 = 1;
/// Of the kernel alone: it makes the call again, after a handler (`ERESTARTSYS` to `ERESTART_RESTARTBLOCK`).
const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;

impl Lower<'_> {
    /// Whether the recorded error comes by itself.
    #[expect(clippy::match_same_arms, reason = "an arm for each cause")]
    pub(crate) fn rebuilds(&mut self, cx: &Cx<'_>) -> bool {
        if RESTARTS.contains(&cx.call.ret) {
            return true;
        }
        let Ok(errno) = i32::try_from(-cx.call.ret) else { return false };
        if errno == EMFILE && !is_of_instances(cx.known.sc) {
            return self.world.meets_limit(cx.task, cx.known.sc);
        }
        if errno == ENOSPC {
            return self.is_full(cx);
        }
        // Normal pages can be had where there were no huge ones.
        if memory::is_of_huge_pages(cx) {
            return false;
        }
        // Nothing was sent here that this could be about.
        if self.facts.refusals.is_groundless(cx.task, cx.seq) {
            return false;
        }
        let own = BY_THEMSELVES.contains(&errno);
        let exists = |path: &PathId| self.world.fs.lookup(*path).is_some();
        match (cx.known.sc, errno) {
            // There is no controlling terminal in the sandbox either.
            (_, ENXIO) => cx.paths.iter().any(|path| self.world.paths.get(*path) == b"/dev/tty"),
            (Sc::Connect, _) => self.connect_rebuilds(cx),
            (Sc::Sendto, ENETUNREACH) => self.has_no_route(cx, 4),
            (Sc::Sendmsg, ENETUNREACH) => self.has_no_route(cx, 1),
            // A full buffer is not rebuilt: how much fits depends on the host.
            (Sc::Write | Sc::Writev | Sc::Sendto | Sc::Sendmsg | Sc::Sendmmsg | Sc::Sendfile, EAGAIN) => {
                false
            }
            (Sc::EpollCtl, EEXIST | ENOENT) => self.is_watched(cx) == (errno == EEXIST),
            (Sc::EpollCtl, EPERM) => self.is_never_ready(cx),
            // A file in /proc of a process that has gone or has no memory: the replay has other processes.
            (Sc::Open | Sc::Openat | Sc::Openat2 | Sc::Read | Sc::Readlink | Sc::Readlinkat, ESRCH) => false,
            (Sc::Execve | Sc::Execveat, EACCES) => self.is_no_program(cx),
            // The arguments are made that long.
            (Sc::Execve | Sc::Execveat, E2BIG) => true,
            (Sc::Fcntl | Sc::Prctl | Sc::Prlimit64 | Sc::Setrlimit | Sc::Bind | Sc::Setsockopt, _) => {
                errno == EBADF
            }
            (Sc::Ioctl, EOPNOTSUPP) => cx.call.args[1] as u32 == FICLONE,
            (Sc::Ioctl, ENOTTY) => cx.call.args[1] as u32 != FICLONE && self.not_a_terminal(cx),
            (Sc::Ioctl, _) => errno == EBADF,
            (Sc::Getxattr | Sc::Lgetxattr, _) => matches!(errno, ENOENT | ENODATA),
            (Sc::Listxattr | Sc::Llistxattr, _) => errno == ENOENT,
            // Addresses and ids are others here.
            (
                Sc::Mmap
                | Sc::Munmap
                | Sc::Mprotect
                | Sc::Madvise
                | Sc::Mremap
                | Sc::Brk
                | Sc::Clone
                | Sc::Clone3
                | Sc::Fork
                | Sc::Vfork
                | Sc::Kill
                | Sc::Tkill
                | Sc::Tgkill,
                _,
            ) => false,
            (Sc::Read | Sc::Readv | Sc::Recvfrom | Sc::Recvmsg | Sc::Accept | Sc::Accept4, EINVAL) => false,
            (Sc::Shmat | Sc::Shmdt | Sc::Shmctl, _) => false,
            (Sc::Futex, _) => matches!(errno, EAGAIN | ETIMEDOUT | EINTR),
            (
                Sc::Write
                | Sc::Writev
                | Sc::Sendto
                | Sc::Sendmsg
                | Sc::Sendmmsg
                | Sc::Sendfile
                | Sc::Read
                | Sc::Readv
                | Sc::Recvfrom
                | Sc::Recvmsg
                | Sc::Accept
                | Sc::Accept4,
                _,
            ) => own,
            // Nobody makes a name among the kernel's own; here they are plain directories.
            (Sc::Mkdir | Sc::Mkdirat | Sc::Mknod | Sc::Mknodat | Sc::Symlink | Sc::Symlinkat, ENOENT)
                if self.is_kernels_own(cx) =>
            {
                false
            }
            // A name that the model has, but the call did not find, was somebody else's doing (and vice versa).
            (_, ENOENT) => {
                // A script by a descriptor that an exec closes.
                let by_descriptor = cx.known.sc == Sc::Execveat && cx.paths.is_empty();
                !by_descriptor && (cx.paths.iter().all(|path| !exists(path)) || cx.known.args.is_none())
            }
            (_, EEXIST) => cx.paths.last().is_some_and(exists),
            _ => own && cx.known.row().replay != Replay::Granted,
        }
    }

    /// Whether the last name of a call is in a file system of the kernel's.
    fn is_kernels_own(&self, cx: &Cx<'_>) -> bool {
        let Some(path) = cx.paths.last() else { return false };
        let path = self.world.paths.get(*path);
        [b"/proc/".as_slice(), b"/sys/"].iter().any(|of| path.starts_with(of))
    }

    /// Whether a call that needs room in a file system finds none here either.
    fn is_full(&self, cx: &Cx<'_>) -> bool {
        let Some(ofd) = self.world.ofd_of(cx.task, cx.call.args[0] as i32) else { return false };
        let Some(inode) = self.world.inode_of(ofd) else { return false };
        let (fs, state) = (&self.world.fs, &self.world.ofds[ofd as usize]);
        let node = fs.node(inode);
        let Some(volume) = self.surroundings.full(node.dev) else { return false };
        let more = match cx.known.sc {
            // As much as fits is written; that is nothing when there is no room for the first byte.
            Sc::Write | Sc::Writev | Sc::Pwrite64 | Sc::Pwritev | Sc::Pwritev2 => {
                let at = if state.append { node.size } else { state.pos };
                fs.would_occupy(inode, positional(cx.known.sc, cx.call).unwrap_or(at), 1)
            }
            Sc::Fallocate => fs.would_occupy(inode, cx.call.args[2], cx.call.args[3]),
            _ => return false,
        };
        more > 0 && fs.devices.used(node.dev).saturating_add(more) > volume.bytes
    }

    fn has_no_route(&self, cx: &Cx<'_>, arg: u8) -> bool {
        self.facts.connects.has_no_route(cx.call, detail_addr(cx.call, arg))
    }

    /// Whether the descriptor that an `epoll_ctl` names is watched.
    fn is_watched(&self, cx: &Cx<'_>) -> bool {
        let fd = cx.call.args[2] as i32;
        let (ep, ofd) = (self.ofd(cx, 0), self.world.ofd_of(cx.task, fd));
        ep.and_then(|ep| self.world.epoll(ep))
            .zip(ofd)
            .is_some_and(|(epoll, ofd)| epoll.data_of(ofd, fd).is_some())
    }

    /// Whether an `epoll_ctl` wants to watch a plain file or a directory, which cannot be.
    fn is_never_ready(&self, cx: &Cx<'_>) -> bool {
        let ofd = self.world.ofd_of(cx.task, cx.call.args[2] as i32);
        let kind = ofd.map(|ofd| self.world.ofds[ofd as usize].kind);
        match kind {
            Some(OfdKind::Mem { .. }) => cx.call.args[1] == EPOLL_CTL_ADD,
            Some(OfdKind::Node { inode, .. }) => {
                cx.call.args[1] == EPOLL_CTL_ADD
                    && matches!(self.world.fs.node(inode).kind, NodeKind::File | NodeKind::Dir)
            }
            _ => false,
        }
    }

    /// Whether what is to be executed is there, and nobody may.
    fn is_no_program(&mut self, cx: &Cx<'_>) -> bool {
        const EXECUTABLE: u32 = 0o111;
        let Some(path) = cx.paths.last().copied() else { return false };
        let Some(inode) = self.world.fs.lookup(path) else { return false };
        let node = self.world.fs.node(inode);
        match node.kind {
            NodeKind::Dir => true,
            NodeKind::File => node.executed.is_none() && node.mode.is_some_and(|mode| mode & EXECUTABLE == 0),
            _ => false,
        }
    }
}

/// Calls that fail with `EMFILE` because of a count of instances rather than of descriptors.
const fn is_of_instances(sc: Sc) -> bool {
    matches!(sc, Sc::InotifyInit | Sc::InotifyInit1)
}
