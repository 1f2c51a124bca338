//! Calls about descriptors: what makes and ends them, and what is behind them.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::emit::Lowered;
use super::super::fsmodel::NodeKind;
use super::super::model::Cx;
use super::super::netlink;
use super::super::world::{O_CLOEXEC, OfdIx, OfdKind, detail_newfds, detail_value};
use super::Steps;
use crate::sandbox::confine::is_denied_socket;
use ctrace_program::{Expect, Post, Sel, fds_operand};

/// What is behind a descriptor, as far as bytes are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Bytes in order, without boundaries.
    Stream,
    /// Whole messages.
    Message,
    /// A file with offsets.
    File,
    /// Ends of what the kernel itself feeds: eventfd, timerfd, inotify, signalfd, devices.
    Kernel,
    /// A socket whose counterpart cannot be rebuilt (packet, vsock …).
    Foreign,
    /// Not known.
    Unknown,
}

impl Steps<'_> {
    /// The step of a call about descriptors; `None` for any other.
    pub(crate) fn io(&mut self, cx: &Cx<'_>) -> Result<Option<Lowered>, CompileError> {
        let a = cx.call.args;
        Ok(Some(match cx.known.sc {
            Sc::Read | Sc::Readv | Sc::Pread64 | Sc::Preadv | Sc::Preadv2 | Sc::Recvfrom | Sc::Recvmsg => {
                self.read(cx)?
            }
            Sc::Write | Sc::Writev | Sc::Pwrite64 | Sc::Pwritev | Sc::Pwritev2 | Sc::Sendto | Sc::Sendmsg => {
                self.write(cx)?
            }
            Sc::Sendmmsg => self.send_many(cx)?,
            Sc::Recvmmsg => self.receive_many(cx)?,
            Sc::Sendfile | Sc::Splice | Sc::Tee | Sc::CopyFileRange => self.move_bytes(cx)?,
            Sc::Vmsplice => self.vmsplice(cx)?,
            Sc::Close => self.plain(cx, &[0]).into(),
            Sc::CloseRange => self.plain(cx, &[0, 2]).imm(1, a[1].min(0x7fff_ffff)).into(),
            Sc::Dup => {
                let step = self.plain(cx, &[0]);
                self.new_fd(cx, step, false).into()
            }
            // These name the number themselves.
            Sc::Dup2 => self.plain(cx, &[0, 1]).expect(expect_of(cx), cx.call.ret).into(),
            Sc::Dup3 => self.plain(cx, &[0, 1, 2]).expect(expect_of(cx), cx.call.ret).into(),
            Sc::Socket if a[0] == u64::from(netlink::FAMILY) => {
                if cx.call.ret < 0 {
                    return Ok(Some(self.fault(cx)));
                }
                let step = self.plain(cx, &[0, 1]).imm(2, u64::from(netlink::PROTOCOL));
                self.new_fd(cx, step, a[1] as u32 & O_CLOEXEC != 0).into()
            }
            Sc::Socket | Sc::Socketpair if is_denied_socket(a[0] as i32, a[1] as i32, a[2] as i32) => {
                if cx.call.ret < 0 { self.fault(cx) } else { self.refused(cx) }
            }
            Sc::Pipe | Sc::Pipe2 | Sc::Socketpair => self.pair(cx),
            Sc::EpollCreate | Sc::EpollCreate1 => {
                let cloexec = cx.known.sc == Sc::EpollCreate1 && a[0] as u32 & O_CLOEXEC != 0;
                let step = self.plain(cx, &[0]);
                self.new_fd(cx, step, cloexec).into()
            }
            Sc::EpollCtl => self.epoll_ctl(cx)?,
            Sc::EpollWait | Sc::EpollPwait | Sc::EpollPwait2 => self.epoll_wait(cx)?,
            Sc::Poll | Sc::Ppoll => self.poll(cx)?,
            Sc::Select | Sc::Pselect6 => self.select(cx)?,
            Sc::Eventfd | Sc::Eventfd2 => {
                let flags = if cx.known.sc == Sc::Eventfd2 { a[1] as u32 } else { 0 };
                let args: &[usize] = if cx.known.sc == Sc::Eventfd2 { &[0, 1] } else { &[0] };
                let step = self.plain(cx, args);
                self.new_fd(cx, step, flags & O_CLOEXEC != 0).into()
            }
            Sc::TimerfdCreate => {
                if cx.call.ret >= 0 {
                    self.kept.timers.made(cx.proc, cx.call.ret as i32, a[0]);
                }
                let step = self.plain(cx, &[0, 1]);
                self.new_fd(cx, step, a[1] as u32 & O_CLOEXEC != 0).into()
            }
            Sc::InotifyInit | Sc::InotifyInit1 => {
                let init1 = cx.known.sc == Sc::InotifyInit1;
                let step = if init1 { self.plain(cx, &[0]) } else { self.call_step(cx) };
                self.new_fd(cx, step, init1 && a[0] as u32 & O_CLOEXEC != 0).into()
            }
            Sc::Signalfd | Sc::Signalfd4 => {
                let mask = detail_value(cx.call, 1).unwrap_or(0);
                let blob = self.emit.data(&mask.to_ne_bytes())?;
                let four = cx.known.sc == Sc::Signalfd4;
                let step = if four { self.plain(cx, &[0, 3]) } else { self.plain(cx, &[0]) };
                let step = step.arg(1, Sel::Data, blob).imm(2, 8);
                if a[0] as u32 == u32::MAX {
                    self.new_fd(cx, step, four && a[3] as u32 & O_CLOEXEC != 0).into()
                } else {
                    step.expect(Expect::Success, 0).into()
                }
            }
            Sc::Socket => {
                let step = self.plain(cx, &[0, 1, 2]);
                self.new_fd(cx, step, a[1] as u32 & O_CLOEXEC != 0).into()
            }
            Sc::Bind => self.bind(cx)?,
            Sc::Connect => self.connect(cx)?,
            Sc::Accept | Sc::Accept4 => self.accept(cx)?,
            Sc::Listen => self.listen(cx)?,
            Sc::Shutdown => {
                let mut pre = Vec::new();
                self.gone_first(cx, self.ofd(cx, 0), &mut pre)?;
                Lowered::after(pre, self.plain(cx, &[0, 1]))
            }
            Sc::Getsockname | Sc::Getpeername => {
                let len = self.emit.data(&128_u32.to_ne_bytes())?;
                self.plain(cx, &[0]).arg(1, Sel::Out, 128).arg(2, Sel::InOut, len).into()
            }
            Sc::Getsockopt => self.getsockopt(cx)?,
            Sc::Setsockopt => self.setsockopt(cx)?,
            Sc::Lseek => {
                // Where data and holes are depends on the file system.
                let step = self.plain(cx, &[0, 1, 2]);
                if a[2] > 2 || self.at_end_elsewhere(cx) {
                    step.imm(1, cx.call.ret.max(0) as u64).imm(2, 0).expect(Expect::Success, 0).into()
                } else {
                    step.expect(expect_of(cx), cx.call.ret).into()
                }
            }
            Sc::Getdents64 | Sc::Getdents => {
                let step = self
                    .plain(cx, &[0])
                    .arg(1, Sel::Out, a[2].clamp(64, 1 << 20))
                    .imm(2, a[2].clamp(64, 1 << 20));
                step.expect(Expect::Ready, cx.call.ret).into()
            }
            _ => return Ok(None),
        }))
    }

    pub(crate) fn ofd(&self, cx: &Cx<'_>, arg: usize) -> Option<OfdIx> {
        self.world.ofd_of(cx.task, cx.call.args[arg] as i32)
    }

    pub(crate) fn channel(&self, ofd: Option<OfdIx>) -> Channel {
        let Some(ofd) = ofd else { return Channel::Unknown };
        match self.world.ofds[ofd as usize].kind {
            OfdKind::Pipe { .. } => Channel::Stream,
            OfdKind::Sock(sock) => {
                let sock = &self.world.socks[sock as usize];
                match (sock.family, sock.kind & 0xf) {
                    (1 | 2 | 10, 1) => Channel::Stream,
                    (1 | 2 | 10, 2 | 5) | (netlink::FAMILY, _) => Channel::Message,
                    _ => Channel::Foreign,
                }
            }
            OfdKind::Node { inode, .. } => match self.world.fs.node(inode).kind {
                NodeKind::Device => Channel::Kernel,
                NodeKind::Fifo => Channel::Stream,
                _ => Channel::File,
            },
            OfdKind::Mem { .. } => Channel::File,
            OfdKind::Event | OfdKind::Timer | OfdKind::Signal | OfdKind::Inotify => Channel::Kernel,
            OfdKind::Epoll | OfdKind::Pid | OfdKind::Other => Channel::Unknown,
        }
    }

    pub(crate) fn is_tty(&self, ofd: OfdIx) -> bool {
        let Some(inode) = self.world.inode_of(ofd) else { return false };
        let node = self.world.fs.node(inode);
        node.kind == NodeKind::Device && matches!((node.rdev >> 8) & 0xfff, 4 | 5 | 136)
    }

    pub(crate) fn pair(&self, cx: &Cx<'_>) -> Lowered {
        let Some((fds, _)) = detail_newfds(cx.call).filter(|_| cx.call.ret == 0) else {
            let arg = if cx.known.sc == Sc::Socketpair { 3 } else { 0 };
            return self.plain(cx, &[0, 1, 2]).arg(arg, Sel::Out, 8).into();
        };
        let (step, arg, how) = match cx.known.sc {
            Sc::Socketpair => (self.plain(cx, &[0, 1, 2]).arg(3, Sel::Out, 8), 3, cx.call.args[1]),
            Sc::Pipe2 => (self.plain(cx, &[1]).arg(0, Sel::Out, 8), 0, cx.call.args[1]),
            _ => (self.call_step(cx).arg(0, Sel::Out, 8), 0, 0),
        };
        let cloexec = how as u32 & O_CLOEXEC != 0;
        step.post(Post::Fds, fds_operand(fds[0] as u32, fds[1] as u32, arg, cloexec)).into()
    }
}

pub(crate) fn expect_of(cx: &Cx<'_>) -> Expect {
    if (-516..=-512).contains(&cx.call.ret) || cx.unfinished() { Expect::Any } else { Expect::Exact }
}
