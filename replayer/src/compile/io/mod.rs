//! Steps that move bytes, wait for readiness, make and end descriptors.

pub(crate) mod messages;
mod not_here;
mod plain;
mod readiness;
pub(crate) mod sharing;
mod sockets;

pub(crate) use readiness::Watches;
pub(crate) use sockets::Sockets;

use super::CompileError;
use super::calls::{Sc, nr};
use super::emit::{BUFFER_MAX, Late, Lowered};
use super::fsmodel::NodeKind;
use super::lower::Lower;
use super::model::Cx;
use super::netlink;
use super::wire;
use super::world::from_start::asks_not_to_wait;
use super::world::{
    O_CLOEXEC, OfdIx, OfdKind, detail_addr, detail_iov, detail_newfds, detail_value, positional,
};
use crate::sandbox::confine::is_denied_socket;
use ctrace_format::PollEntry;
use ctrace_program::{Expect, Kind, MsgDesc, Post, Sel, Step, fds_operand, flags, ready_operand};

pub(crate) const POLLIN: u16 = 1;
pub(crate) const POLLOUT: u16 = 4;
pub(crate) const POLLERR: u16 = 8;
pub(crate) const POLLHUP: u16 = 16;
/// Not open.
pub(crate) const POLLNVAL: u16 = 0x20;
pub(crate) const EPOLLET: u32 = 1 << 31;
pub(crate) const POLLRDHUP: u16 = 0x2000;
pub(crate) const SOL_SOCKET: u64 = 1;
pub(crate) const SO_RCVTIMEO: u64 = 20;
pub(crate) const MSG_PEEK: u64 = 2;
pub(crate) const MSG_DONTWAIT: u64 = 0x40;
const MSG_WAITALL: u64 = 0x100;
pub(crate) const MSG_ERRQUEUE: u64 = 0x2000;
pub(crate) const EAGAIN: i64 = -11;
/// Parts of an I/O vector, at most (linux/uio.h, `UIO_MAXIOV`).
const IOV_MAX: u64 = 1024;
const SPLICE_F_GIFT: u64 = 8;

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

impl Lower<'_> {
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
            // Here it has gone by now, and there is nothing left to shut (`inet_shutdown`, net/ipv4/af_inet.c).
            Sc::Shutdown
                if cx.call.ret == 0
                    && (self.waits_for_the_last_answer(cx) || self.was_reset_meanwhile(cx)) =>
            {
                self.fault(cx)
            }
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

    /// Whether the call would have returned at once without input.
    pub(crate) fn nonblocking(&self, cx: &Cx<'_>, ofd: OfdIx) -> bool {
        asks_not_to_wait(cx.known.sc, cx.call) || self.world.ofds[ofd as usize].nonblock
    }

    pub(crate) fn read(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let ofd = self.ofd(cx, 0);
        let channel = self.channel(ofd);
        let ret = cx.call.ret;
        let unfinished = cx.unfinished();
        match channel {
            Channel::Foreign => return Ok(self.surrogate(cx)),
            Channel::Unknown if ret >= 0 => return Ok(self.missing(cx)),
            _ => {}
        }
        if ret == 0
            && channel == Channel::Kernel
            && cx.call.args[2] > 0
            && ofd.is_some_and(|ofd| self.is_tty(ofd))
        {
            // The end of input of a terminal is a character, typed where it has no meaning here.
            return Ok(self.fault(cx));
        }
        let mut pre = Vec::new();
        self.impatient(cx, &mut pre)?;
        let msg_flags = match cx.known.sc {
            Sc::Recvfrom => cx.call.args[3],
            Sc::Recvmsg => cx.call.args[2],
            _ => 0,
        };
        if msg_flags & MSG_ERRQUEUE != 0 {
            let seq = cx.seq;
            if ret >= 0 && !self.facts.refusals.is_told(cx.task, seq) {
                return Ok(self.surrogate(cx));
            }
        }
        let asked = match cx.known.sc {
            Sc::Read | Sc::Pread64 | Sc::Recvfrom => cx.call.args[2],
            _ => detail_iov(cx.call).map_or(ret.max(0) as u64, |(bytes, _)| bytes),
        };
        // How much to ask for, so that as much comes as did.
        let mut want = if ret < 0 || unfinished {
            asked
        } else {
            match (channel, ofd) {
                (Channel::Stream, _) if ret > 0 => ret as u64,
                (Channel::File, Some(ofd)) => self.file_want(cx, ofd, asked, ret as u64),
                (Channel::Kernel, Some(ofd)) if self.is_tty(ofd) && ret > 0 => ret as u64,
                // As many records as fit: those that come a moment sooner here are for the next read.
                (Channel::Kernel, Some(ofd))
                    if ret > 0
                        && matches!(
                            self.world.ofds[ofd as usize].kind,
                            OfdKind::Inotify | OfdKind::Signal
                        ) =>
                {
                    ret as u64
                }
                _ => asked,
            }
        }
        .min(BUFFER_MAX);
        if want == 0 && asked > 0 && channel == Channel::File && matches!(cx.known.sc, Sc::Read | Sc::Readv) {
            // The end of a file that is longer here: there, the call finds the end by itself.
            const SEEK_END: u64 = 2;
            let seek = Step::call(nr::lseek).with(flags::ENGINE);
            pre.push(seek.imm(0, cx.call.args[0]).imm(1, 0).imm(2, SEEK_END));
            want = asked.min(BUFFER_MAX);
        }
        let mut step = match cx.known.sc {
            Sc::Read => self.plain(cx, &[0]).arg(1, Sel::Out, want).imm(2, want),
            Sc::Pread64 => self.plain(cx, &[0, 3]).arg(1, Sel::Out, want).imm(2, want),
            Sc::Recvfrom => {
                let step = self.plain(cx, &[0, 3]).arg(1, Sel::Out, want).imm(2, want);
                if detail_addr(cx.call, 4).is_some() {
                    let len = self.emit.data(&128_u32.to_ne_bytes())?;
                    step.arg(4, Sel::Out, 128).arg(5, Sel::InOut, len)
                } else {
                    step.imm(4, 0).imm(5, 0)
                }
            }
            Sc::Recvmsg => {
                let count = detail_iov(cx.call).map_or(1, |(_, count)| count);
                // Without room for them, the kernel drops what a sender passes along.
                let control_len = messages::control_room(cx);
                let desc = MsgDesc { name_len: 128, control_len, ..MsgDesc::default() };
                let blob = self.emit.message(desc, want, u64::from(count.clamp(1, 1024)))?;
                self.plain(cx, &[0, 2]).arg(1, Sel::Msg, blob)
            }
            _ => {
                let count = detail_iov(cx.call).map_or(1, |(_, count)| count);
                let blob = self.emit.vector(want, u64::from(count.clamp(1, 1024)))?;
                let rest: &[usize] = match cx.known.sc {
                    Sc::Preadv => &[0, 3],
                    Sc::Preadv2 => &[0, 3, 5],
                    _ => &[0],
                };
                let lens = u64::from(count.clamp(1, 1024));
                self.plain(cx, rest).arg(1, Sel::Iov, blob).imm(2, lens)
            }
        };
        step.len_arg = if matches!(cx.known.sc, Sc::Read | Sc::Pread64 | Sc::Recvfrom) { 2 } else { 6 };
        if channel == Channel::Stream && ret > 0 && msg_flags & MSG_PEEK != 0 {
            // It found all of it there; here it may come in parts, and a look takes none of them (`tcp_recvmsg_locked`,
            // net/ipv4/tcp.c).
            let arg = if cx.known.sc == Sc::Recvmsg { 2 } else { 3 };
            step = step.imm(arg, msg_flags | MSG_WAITALL);
        }
        self.gone_first(cx, ofd, &mut pre)?;
        if ret == EAGAIN && matches!(channel, Channel::Stream | Channel::Message | Channel::Kernel) {
            let taken = ofd.is_some_and(|ofd| self.world.ofds[ofd as usize].told.contains(&cx.task));
            if taken || ofd.is_some_and(|ofd| self.was_being_written(cx, ofd)) {
                return Ok(self.fault(cx));
            }
            step = step.with(flags::NOT_READY).aux(u64::from(POLLIN));
        }
        if unfinished || ret < 0 || msg_flags & MSG_ERRQUEUE != 0 {
            return Ok(Lowered::after(pre, step));
        }
        if cx.known.sc == Sc::Recvmsg {
            step = self.arrived_fds(cx, step, &mut pre)?;
        }
        let ret = self.shortened(ret, want);
        let Some(ofd) = ofd else { return Ok(step.into()) };
        match channel {
            Channel::Stream => {
                self.ready_first(cx, ofd, POLLIN | POLLHUP | POLLRDHUP | POLLERR, &mut pre)?;
                if ret > 0 && msg_flags & MSG_PEEK == 0 {
                    step = step.expect(Expect::Bytes, ret).with(flags::STREAM).aux(u64::from(POLLIN));
                } else {
                    step = step.expect(Expect::Exact, ret).with(flags::RETRY).aux(u64::from(POLLIN));
                }
            }
            Channel::Kernel if ret > 0 && self.facts.terminals.gives_all(&self.world, ofd) => {
                // It passes on what it gets in parts of its own (`flush_to_ldisc`, drivers/tty/tty_buffer.c).
                self.ready_first(cx, ofd, POLLIN | POLLHUP | POLLERR, &mut pre)?;
                step = step.expect(Expect::Bytes, ret).with(flags::STREAM).aux(u64::from(POLLIN));
            }
            Channel::Message | Channel::Kernel => {
                self.ready_first(cx, ofd, POLLIN | POLLHUP | POLLERR, &mut pre)?;
                let exact = channel == Channel::Message || self.is_fixed(ofd);
                let expect = if exact { Expect::Exact } else { Expect::Ready };
                step = step.expect(expect, ret).with(flags::RETRY).aux(u64::from(POLLIN));
            }
            _ => step = step.expect(Expect::Exact, ret),
        }
        Ok(Lowered::after(pre, step))
    }

    /// Whether a read always gives the same number of bytes.
    pub(crate) fn is_fixed(&self, ofd: OfdIx) -> bool {
        matches!(self.world.ofds[ofd as usize].kind, OfdKind::Event | OfdKind::Timer)
    }

    pub(crate) fn is_tty(&self, ofd: OfdIx) -> bool {
        let Some(inode) = self.world.inode_of(ofd) else { return false };
        let node = self.world.fs.node(inode);
        node.kind == NodeKind::Device && matches!((node.rdev >> 8) & 0xfff, 4 | 5 | 136)
    }

    /// The length to ask a file for. What the model of the file explains is asked for as recorded; otherwise (stubs of
    /// `/proc`, programs, files that others changed) what came.
    pub(crate) fn file_want(&self, cx: &Cx<'_>, ofd: OfdIx, asked: u64, got: u64) -> u64 {
        let Some(inode) = self.world.inode_of(ofd) else { return asked };
        let node = self.world.fs.node(inode);
        let start = positional(cx.known.sc, cx.call).unwrap_or(self.world.ofds[ofd as usize].pos);
        let natural = node.size.saturating_sub(start).min(asked);
        if node.executed.is_none() && natural == got { asked } else { got }
    }

    /// Whether seeking to the end would lead elsewhere than it did.
    pub(crate) fn at_end_elsewhere(&self, cx: &Cx<'_>) -> bool {
        if cx.call.args[2] != 2 || cx.call.ret < 0 {
            return false;
        }
        let Some(inode) = self.ofd(cx, 0).and_then(|o| self.world.inode_of(o)) else { return false };
        let node = self.world.fs.node(inode);
        node.executed.is_some() || (node.size as i64).saturating_add(cx.call.args[1] as i64) != cx.call.ret
    }

    pub(crate) fn write(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let ofd = self.ofd(cx, 0);
        let channel = self.channel(ofd);
        let ret = cx.call.ret;
        let unfinished = cx.unfinished();
        match channel {
            Channel::Foreign => return Ok(self.surrogate(cx)),
            Channel::Unknown if ret >= 0 => return Ok(self.missing(cx)),
            _ => {}
        }
        let mut pre = Vec::new();
        let asked = match cx.known.sc {
            Sc::Write | Sc::Pwrite64 | Sc::Sendto => cx.call.args[2],
            _ => detail_iov(cx.call).map_or(ret.max(0) as u64, |(bytes, _)| bytes),
        };
        let want = if ret >= 0 && !unfinished { ret as u64 } else { asked }.min(BUFFER_MAX);
        let to = match cx.known.sc {
            Sc::Sendto => detail_addr(cx.call, 4),
            Sc::Sendmsg => detail_addr(cx.call, 1),
            _ => None,
        };
        let mut late = Late::default();
        let mut kernel = None;
        if let (Some(OfdKind::Sock(sock)), Channel::Message) =
            (ofd.map(|o| self.world.ofds[o as usize].kind), channel)
        {
            late = self.datagram_peer(cx, sock, to, &mut pre)?;
            kernel = netlink::is(&self.world.socks[sock as usize]).then(|| netlink::kernel(sock));
        }
        let to = to.map(|to| kernel.as_ref().unwrap_or(to));
        let event = ofd.is_some_and(|o| self.world.ofds[o as usize].kind == OfdKind::Event);
        let mut step = match cx.known.sc {
            Sc::Write if event => {
                let place = cx.id();
                // One is what nearly everybody adds.
                let value = self.facts.told.added.get(&place).copied().or_else(|| detail_value(cx.call, 1));
                let value = self.emit.data(&value.unwrap_or(1).to_ne_bytes())?;
                self.plain(cx, &[0]).arg(1, Sel::Data, value).imm(2, cx.call.args[2].min(8))
            }
            Sc::Write => match self.lines(cx, want)? {
                Some(text) => self.plain(cx, &[0]).arg(1, Sel::Data, text).imm(2, want),
                None => self.plain(cx, &[0]).arg(1, Sel::Out, want).imm(2, want),
            },
            Sc::Pwrite64 => self.plain(cx, &[0, 3]).arg(1, Sel::Out, want).imm(2, want),
            Sc::Sendto => {
                let step = self.plain(cx, &[0, 3]).arg(1, Sel::Out, want).imm(2, want);
                match to {
                    Some(addr) => {
                        let bytes = wire::sockaddr(addr);
                        let blob = self.emit.data(&bytes)?;
                        step.arg(4, Sel::Data, blob).imm(5, bytes.len() as u64)
                    }
                    None => step.imm(4, 0).imm(5, 0),
                }
            }
            Sc::Sendmsg => {
                let count = detail_iov(cx.call).map_or(1, |(_, count)| count);
                let (name, name_len) = match to {
                    Some(addr) => {
                        let bytes = wire::sockaddr(addr);
                        (self.emit.data(&bytes)?, bytes.len() as u32)
                    }
                    None => (0, 0),
                };
                let (control, control_len) = self.control(cx, 0)?;
                let desc = MsgDesc { name, name_len, control, control_len, ..MsgDesc::default() };
                let blob = self.emit.message(desc, want, u64::from(count.clamp(1, 1024)))?;
                self.plain(cx, &[0, 2]).arg(1, Sel::Msg, blob)
            }
            _ => {
                let count = u64::from(detail_iov(cx.call).map_or(1, |(_, count)| count).clamp(1, 1024));
                let blob = self.emit.vector(want, count)?;
                let rest: &[usize] = match cx.known.sc {
                    Sc::Pwritev => &[0, 3],
                    Sc::Pwritev2 => &[0, 3, 5],
                    _ => &[0],
                };
                self.plain(cx, rest).arg(1, Sel::Iov, blob).imm(2, count)
            }
        };
        step.len_arg = if matches!(cx.known.sc, Sc::Write | Sc::Pwrite64 | Sc::Sendto) { 2 } else { 6 };
        self.gone_first(cx, ofd, &mut pre)?;
        if unfinished || ret < 0 {
            return Ok(Lowered { late, ..Lowered::after(pre, step) });
        }
        let ret = self.shortened(ret, want);
        step = match channel {
            Channel::Stream if ret > 0 => {
                step.expect(Expect::Bytes, ret).with(flags::STREAM).aux(u64::from(POLLOUT))
            }
            Channel::Message => step.expect(Expect::Exact, ret).with(flags::RETRY).aux(u64::from(POLLOUT)),
            Channel::Kernel => {
                self.echo_first(cx, &mut pre)?;
                step.expect(Expect::Ready, ret)
            }
            _ => step.expect(Expect::Exact, ret),
        };
        Ok(Lowered { late, ..Lowered::after(pre, step) })
    }

    pub(crate) fn move_bytes(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let (len_arg, in_arg) = match cx.known.sc {
            Sc::Sendfile => (3, 1),
            Sc::Tee => (2, 0),
            _ => (4, 0),
        };
        let input = self.ofd(cx, in_arg);
        let channel = self.channel(input);
        if matches!(channel, Channel::Unknown | Channel::Foreign) && cx.call.ret >= 0 {
            return Ok(self.missing(cx));
        }
        let ret = cx.call.ret;
        let asked = cx.call.args[len_arg].min(BUFFER_MAX);
        let want = match (ret, input, channel) {
            (0, Some(input), Channel::File) if detail_value(cx.call, in_arg as u8 + 1).is_none() => {
                self.file_want(cx, input, asked, 0)
            }
            (1.., ..) => ret as u64,
            _ => asked,
        };
        let fds: &[usize] = match cx.known.sc {
            Sc::Sendfile | Sc::Tee => &[0, 1],
            _ => &[0, 2],
        };
        let mut step = self.plain(cx, fds).imm(len_arg, want);
        if len_arg == 4 {
            step = step.imm(5, cx.call.args[5]);
        } else if cx.known.sc == Sc::Tee {
            step = step.imm(3, cx.call.args[3]);
        }
        let offsets: &[usize] = match cx.known.sc {
            Sc::Sendfile => &[2],
            Sc::Tee => &[],
            _ => &[1, 3],
        };
        for arg in offsets {
            // What the call left behind is recorded: where it began is as much before.
            step = match detail_value(cx.call, *arg as u8) {
                Some(after) => {
                    let blob = self.emit.data(&after.saturating_sub(ret.max(0) as u64).to_ne_bytes())?;
                    step.arg(*arg, Sel::InOut, blob)
                }
                None => step.imm(*arg, 0),
            };
        }
        step.len_arg = len_arg as u8;
        let mut pre = Vec::new();
        if ret >= 0
            && channel == Channel::Stream
            && let Some(input) = input
            && self.world.ofds[input as usize].ready.is_none()
            && (self.world.ofds[input as usize].nonblock || cx.call.args[5] & 2 != 0)
        {
            let entry = PollEntry {
                fd: cx.call.args[in_arg] as i32,
                events: POLLIN | POLLHUP | POLLRDHUP,
                revents: 0,
            };
            let blob = self.emit.data(&wire::pollfds([entry]))?;
            let mut ready = Step::of(Kind::AwaitReady);
            ready.args[0] = blob;
            pre.push(ready);
        }
        if ret > 0 {
            let out_stream = self.channel(self.ofd(cx, fds[1 - usize::from(cx.known.sc == Sc::Sendfile)]))
                == Channel::Stream;
            if out_stream || channel == Channel::Stream {
                let (input, output) = (in_arg as u8, fds[1 - usize::from(cx.known.sc == Sc::Sendfile)] as u8);
                let (arg, aux) = match (channel == Channel::Stream, out_stream) {
                    (true, true) => ready_operand(input, POLLIN, Some((output, POLLOUT))),
                    (true, false) => ready_operand(input, POLLIN, None),
                    _ => ready_operand(output, POLLOUT, None),
                };
                step = step.expect(Expect::Bytes, ret).with(flags::STREAM).aux(aux);
                step.fd_arg = arg;
            } else {
                step = step.expect(Expect::Exact, ret);
            }
        }
        Ok(Lowered::after(pre, step))
    }

    /// What a transfer that moved `ret` bytes moves here, where it asks for `want`.
    fn shortened(&mut self, ret: i64, want: u64) -> i64 {
        if ret as u64 > BUFFER_MAX && want == BUFFER_MAX {
            self.kept.shortened += 1;
            return BUFFER_MAX as i64;
        }
        ret
    }

    /// Pages go into a pipe, or bytes come out of one.
    fn vmsplice(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        if cx.call.args[2] > IOV_MAX || cx.call.ret < 0 && detail_iov(cx.call).is_none() {
            return Ok(self.fault(cx));
        }
        let ret = cx.call.ret;
        let (asked, count) = detail_iov(cx.call).unwrap_or((ret.max(0) as u64, 1));
        let moves = ret > 0 && !cx.unfinished();
        let want = if moves { ret as u64 } else { asked }.min(BUFFER_MAX);
        let parts = u64::from(count.clamp(1, 1024));
        let blob = self.emit.vector(want, parts)?;
        // The pages stay the worker's, who uses them again.
        let how = cx.call.args[3] & !SPLICE_F_GIFT;
        let mut step = self.plain(cx, &[0]).arg(1, Sel::Iov, blob).imm(2, parts).imm(3, how);
        step.len_arg = 6;
        if !moves {
            return Ok(step.into());
        }
        let into = self.ofd(cx, 0).is_some_and(|ofd| {
            matches!(self.world.ofds[ofd as usize].kind, OfdKind::Pipe { write: true, .. })
        });
        let ready = if into { POLLOUT } else { POLLIN };
        Ok(step.expect(Expect::Bytes, ret).with(flags::STREAM).aux(u64::from(ready)).into())
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
