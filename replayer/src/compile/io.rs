//! Steps that move bytes, wait for readiness, make and end descriptors.

use super::CompileError;
use super::calls::{Sc, host_nr};
use super::deps::EdgeKind;
use super::fsmodel::NodeKind;
use super::lower::{Cx, Lower, Lowered, reachable};
use super::wire;
use super::world::{
    O_CLOEXEC, OfdIx, OfdKind, SockIx, SockState, detail_addr, detail_bytes, detail_epoll, detail_iov,
    detail_newfds, detail_time, detail_value, positional,
};
use ctrace_format::{Detail, PollEntry, SockAddr, SyscallFlags};
use ctrace_program::{Expect, Kind, MsgDesc, Post, Sel, Step, Wait, fds_operand, flags};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const POLLIN: u16 = 1;
const POLLOUT: u16 = 4;
const POLLERR: u16 = 8;
const POLLHUP: u16 = 16;
const POLLRDHUP: u16 = 0x2000;
const SOL_SOCKET: u64 = 1;
const SO_RCVTIMEO: u64 = 20;
const MSG_PEEK: u64 = 2;
const MSG_DONTWAIT: u64 = 0x40;
const MSG_ERRQUEUE: u64 = 0x2000;
/// A buffer is never larger than this; the kernel itself moves no more than 2 GiB at once.
const BUFFER_MAX: u64 = 1 << 28;
/// How long an expected readiness is waited for.
const READY_NS: u64 = 1_000_000_000;

/// What is behind a descriptor, as far as bytes are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    /// Bytes in order, without boundaries.
    Stream,
    /// Whole messages.
    Message,
    /// A file with offsets.
    File,
    /// Ends of what the kernel itself feeds: eventfd, timerfd, inotify, signalfd, devices.
    Kernel,
    /// A socket whose counterpart cannot be rebuilt (netlink, packet, vsock …).
    Foreign,
    /// Not known.
    Unknown,
}

/// `bytes` in `count` parts of about the same length.
pub(crate) fn split(bytes: u64, count: u64) -> Vec<u64> {
    let bytes = bytes.min(BUFFER_MAX);
    let count = count.max(1);
    (0..count).map(|i| bytes / count + u64::from(i < bytes % count)).collect()
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
            Sc::Sendfile | Sc::Splice | Sc::Tee | Sc::CopyFileRange => self.move_bytes(cx)?,
            Sc::Vmsplice => self.surrogate(cx),
            Sc::Close => self.plain(cx, &[0]).into(),
            Sc::CloseRange => self.plain(cx, &[0, 2]).imm(1, a[1].min(0x7fff_ffff)).into(),
            Sc::Dup => {
                let step = self.plain(cx, &[0]);
                self.new_fd(cx, step, false).into()
            }
            // These name the number themselves.
            Sc::Dup2 => self.plain(cx, &[0, 1]).expect(expect_of(cx), cx.call.ret).into(),
            Sc::Dup3 => self.plain(cx, &[0, 1, 2]).expect(expect_of(cx), cx.call.ret).into(),
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
                    self.timer_clocks.insert((cx.proc, cx.call.ret as i32), (a[0] as u8).min(11));
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
                let blob = self.b.data(&mask.to_ne_bytes())?;
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
            Sc::Listen | Sc::Shutdown => self.plain(cx, &[0, 1]).into(),
            Sc::Getsockname | Sc::Getpeername => {
                let len = self.b.data(&128_u32.to_ne_bytes())?;
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

    fn ofd(&self, cx: &Cx<'_>, arg: usize) -> Option<OfdIx> {
        self.world.ofd_of(cx.task, cx.call.args[arg] as i32)
    }

    fn channel(&self, ofd: Option<OfdIx>) -> Channel {
        let Some(ofd) = ofd else { return Channel::Unknown };
        match self.world.ofds[ofd as usize].kind {
            OfdKind::Pipe { .. } => Channel::Stream,
            OfdKind::Sock(sock) => {
                let sock = &self.world.socks[sock as usize];
                match (sock.family, sock.kind & 0xf) {
                    (1 | 2 | 10, 1) => Channel::Stream,
                    (1 | 2 | 10, 2 | 5) => Channel::Message,
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
            OfdKind::Epoll { .. } | OfdKind::Pid | OfdKind::Other => Channel::Unknown,
        }
    }

    /// Whether the call would have returned at once without input.
    fn nonblocking(&self, cx: &Cx<'_>, ofd: OfdIx) -> bool {
        let by_flag = match cx.known.sc {
            Sc::Recvfrom => cx.call.args[3] & MSG_DONTWAIT != 0,
            Sc::Recvmsg => cx.call.args[2] & MSG_DONTWAIT != 0,
            _ => false,
        };
        by_flag || self.world.ofds[ofd as usize].nonblock
    }

    /// An engine's poll before the call, when it would fail if it came too early.
    fn ready_first(
        &mut self,
        cx: &Cx<'_>,
        ofd: OfdIx,
        events: u16,
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        if !self.nonblocking(cx, ofd) || self.world.ofds[ofd as usize].ready.is_some() {
            return Ok(());
        }
        let entry = PollEntry { fd: cx.call.args[0] as i32, events, revents: 0 };
        let blob = self.b.data(&wire::pollfds([entry]))?;
        let mut step = Step::of(Kind::AwaitReady).aux(READY_NS);
        step.args[0] = blob;
        pre.push(step);
        Ok(())
    }

    fn read(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let ofd = self.ofd(cx, 0);
        let channel = self.channel(ofd);
        let ret = cx.call.ret;
        let unfinished = cx.call.flags.contains(SyscallFlags::NO_EXIT);
        match channel {
            Channel::Foreign => return Ok(self.surrogate(cx)),
            Channel::Unknown if ret >= 0 => return Ok(self.missing(cx)),
            _ => {}
        }
        let mut pre = Vec::new();
        self.impatient(cx, &mut pre)?;
        let msg_flags = match cx.known.sc {
            Sc::Recvfrom => cx.call.args[3],
            Sc::Recvmsg => cx.call.args[2],
            _ => 0,
        };
        if msg_flags & MSG_ERRQUEUE != 0 {
            return Ok(self.surrogate(cx));
        }
        let asked = match cx.known.sc {
            Sc::Read | Sc::Pread64 | Sc::Recvfrom => cx.call.args[2],
            _ => detail_iov(cx.call).map_or(ret.max(0) as u64, |(bytes, _)| bytes),
        };
        // How much to ask for, so that as much comes as did.
        let want = if ret < 0 || unfinished {
            asked
        } else {
            match (channel, ofd) {
                (Channel::Stream, _) if ret > 0 => ret as u64,
                (Channel::File, Some(ofd)) => self.file_want(cx, ofd, asked, ret as u64),
                (Channel::Kernel, Some(ofd)) if self.is_tty(ofd) && ret > 0 => ret as u64,
                _ => asked,
            }
        }
        .min(BUFFER_MAX);
        let mut step = match cx.known.sc {
            Sc::Read => self.plain(cx, &[0]).arg(1, Sel::Out, want).imm(2, want),
            Sc::Pread64 => self.plain(cx, &[0, 3]).arg(1, Sel::Out, want).imm(2, want),
            Sc::Recvfrom => {
                let step = self.plain(cx, &[0, 3]).arg(1, Sel::Out, want).imm(2, want);
                if detail_addr(cx.call, 4).is_some() {
                    let len = self.b.data(&128_u32.to_ne_bytes())?;
                    step.arg(4, Sel::Out, 128).arg(5, Sel::InOut, len)
                } else {
                    step.imm(4, 0).imm(5, 0)
                }
            }
            Sc::Recvmsg => {
                let count = detail_iov(cx.call).map_or(1, |(_, count)| count);
                let lens = split(want, u64::from(count.clamp(1, 1024)));
                let desc = MsgDesc {
                    name_len: 128,
                    control_len: 256,
                    iovs: lens.len() as u32,
                    ..MsgDesc::default()
                };
                let blob = self.b.messages(&[(desc, lens)])?;
                self.plain(cx, &[0, 2]).arg(1, Sel::Msg, blob)
            }
            _ => {
                let count = detail_iov(cx.call).map_or(1, |(_, count)| count);
                let blob = self.b.words(&split(want, u64::from(count.clamp(1, 1024))))?;
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
        if unfinished || ret < 0 {
            return Ok(Lowered { pre, step });
        }
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
            Channel::Message | Channel::Kernel => {
                self.ready_first(cx, ofd, POLLIN | POLLHUP | POLLERR, &mut pre)?;
                let exact = channel == Channel::Message || self.is_fixed(ofd);
                let expect = if exact { Expect::Exact } else { Expect::Ready };
                step = step.expect(expect, ret).with(flags::RETRY).aux(u64::from(POLLIN));
            }
            _ => step = step.expect(Expect::Exact, ret),
        }
        Ok(Lowered { pre, step })
    }

    /// A socket that blocks gave up: it has a time limit, which was set before the recording when no call set it.
    fn impatient(&mut self, cx: &Cx<'_>, pre: &mut Vec<Step>) -> Result<(), CompileError> {
        const EAGAIN: i64 = -11;
        const LIMIT_NS: u64 = 1_000_000;
        let fd = cx.call.args[0] as i32;
        let Some(sock) = self.world.sock_of(cx.task, fd) else { return Ok(()) };
        let Some(ofd) = self.world.ofd_of(cx.task, fd) else { return Ok(()) };
        if cx.call.ret != EAGAIN
            || cx.call.duration_ns < LIMIT_NS
            || self.nonblocking(cx, ofd)
            || !self.impatient.insert(sock)
        {
            return Ok(());
        }
        let (seconds, micros) =
            (cx.call.duration_ns / 1_000_000_000, cx.call.duration_ns % 1_000_000_000 / 1000);
        let limit = self.b.words(&[seconds, micros])?;
        let step = Step::call(host_nr("setsockopt").unwrap_or(0))
            .with(flags::ENGINE)
            .imm(0, cx.call.args[0])
            .imm(1, SOL_SOCKET)
            .imm(2, SO_RCVTIMEO)
            .arg(3, Sel::Data, limit)
            .imm(4, 16);
        pre.push(step);
        Ok(())
    }

    /// Whether a read always gives the same number of bytes.
    fn is_fixed(&self, ofd: OfdIx) -> bool {
        matches!(self.world.ofds[ofd as usize].kind, OfdKind::Event | OfdKind::Timer)
    }

    pub(crate) fn is_tty(&self, ofd: OfdIx) -> bool {
        let Some(inode) = self.world.inode_of(ofd) else { return false };
        let node = self.world.fs.node(inode);
        node.kind == NodeKind::Device && matches!((node.rdev >> 8) & 0xfff, 4 | 5 | 136)
    }

    /// The length to ask a file for. What the model of the file explains is asked for as recorded; otherwise (stubs of
    /// `/proc`, programs, files that others changed) what came.
    fn file_want(&self, cx: &Cx<'_>, ofd: OfdIx, asked: u64, got: u64) -> u64 {
        let Some(inode) = self.world.inode_of(ofd) else { return asked };
        let node = self.world.fs.node(inode);
        let start = positional(cx.known.sc, cx.call).unwrap_or(self.world.ofds[ofd as usize].pos);
        let natural = node.size.saturating_sub(start).min(asked);
        if !node.executed && natural == got { asked } else { got }
    }

    /// Whether seeking to the end would lead elsewhere than it did.
    fn at_end_elsewhere(&self, cx: &Cx<'_>) -> bool {
        if cx.call.args[2] != 2 || cx.call.ret < 0 {
            return false;
        }
        let Some(inode) = self.ofd(cx, 0).and_then(|o| self.world.inode_of(o)) else { return false };
        let node = self.world.fs.node(inode);
        node.executed || (node.size as i64).saturating_add(cx.call.args[1] as i64) != cx.call.ret
    }

    fn write(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let ofd = self.ofd(cx, 0);
        let channel = self.channel(ofd);
        let ret = cx.call.ret;
        let unfinished = cx.call.flags.contains(SyscallFlags::NO_EXIT);
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
        if let (Some(OfdKind::Sock(sock)), Channel::Message) =
            (ofd.map(|o| self.world.ofds[o as usize].kind.clone()), channel)
        {
            self.datagram_peer(cx, sock, to, &mut pre)?;
        }
        let event = ofd.is_some_and(|o| self.world.ofds[o as usize].kind == OfdKind::Event);
        let mut step = match cx.known.sc {
            Sc::Write if event => {
                // What was added is not recorded; one is what nearly everybody adds.
                let one = self.b.data(&1_u64.to_ne_bytes())?;
                self.plain(cx, &[0]).arg(1, Sel::Data, one).imm(2, 8)
            }
            Sc::Write => self.plain(cx, &[0]).arg(1, Sel::Out, want).imm(2, want),
            Sc::Pwrite64 => self.plain(cx, &[0, 3]).arg(1, Sel::Out, want).imm(2, want),
            Sc::Sendto => {
                let step = self.plain(cx, &[0, 3]).arg(1, Sel::Out, want).imm(2, want);
                match to {
                    Some(addr) => {
                        let bytes = wire::sockaddr(addr);
                        let blob = self.b.data(&bytes)?;
                        step.arg(4, Sel::Data, blob).imm(5, bytes.len() as u64)
                    }
                    None => step.imm(4, 0).imm(5, 0),
                }
            }
            Sc::Sendmsg => {
                let count = detail_iov(cx.call).map_or(1, |(_, count)| count);
                let lens = split(want, u64::from(count.clamp(1, 1024)));
                let (name, name_len) = match to {
                    Some(addr) => {
                        let bytes = wire::sockaddr(addr);
                        (self.b.data(&bytes)?, bytes.len() as u32)
                    }
                    None => (0, 0),
                };
                let desc = MsgDesc { name, name_len, iovs: lens.len() as u32, ..MsgDesc::default() };
                let blob = self.b.messages(&[(desc, lens)])?;
                self.plain(cx, &[0, 2]).arg(1, Sel::Msg, blob)
            }
            _ => {
                let count = u64::from(detail_iov(cx.call).map_or(1, |(_, count)| count).clamp(1, 1024));
                let blob = self.b.words(&split(want, count))?;
                let rest: &[usize] = match cx.known.sc {
                    Sc::Pwritev => &[0, 3],
                    Sc::Pwritev2 => &[0, 3, 5],
                    _ => &[0],
                };
                self.plain(cx, rest).arg(1, Sel::Iov, blob).imm(2, count)
            }
        };
        step.len_arg = if matches!(cx.known.sc, Sc::Write | Sc::Pwrite64 | Sc::Sendto) { 2 } else { 6 };
        if unfinished || ret < 0 {
            return Ok(Lowered { pre, step });
        }
        step = match channel {
            Channel::Stream if ret > 0 => {
                step.expect(Expect::Bytes, ret).with(flags::STREAM).aux(u64::from(POLLOUT))
            }
            Channel::Message => step.expect(Expect::Exact, ret).with(flags::RETRY).aux(u64::from(POLLOUT)),
            Channel::Kernel => step.expect(Expect::Ready, ret),
            _ => step.expect(Expect::Exact, ret),
        };
        Ok(Lowered { pre, step })
    }

    /// A datagram goes to somebody outside: they exist, and they can answer because the sender's address is known.
    fn datagram_peer(
        &mut self,
        cx: &Cx<'_>,
        sock: SockIx,
        to: Option<&SockAddr>,
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        let state = self.world.socks[sock as usize].clone();
        let Some(peer) = to.cloned().or(state.peer) else { return Ok(()) };
        if state.partner.is_some() || self.peers.plays(sock) || cx.call.ret < 0 {
            return Ok(());
        }
        let peer = self.world.absolute(cx.task, &peer);
        if self.world.bound(&peer) {
            return Ok(());
        }
        self.peers.datagram(&mut self.b, &mut self.deps, sock, &reachable(peer.clone()), cx.call.t_ns)?;
        self.sender_port(cx, sock, &peer, pre)
    }

    /// Gives an unbound datagram socket an address that peers know.
    fn sender_port(
        &mut self,
        cx: &Cx<'_>,
        sock: SockIx,
        peer: &SockAddr,
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        let state = &self.world.socks[sock as usize];
        if state.local.is_some() || self.dgram_ports.contains_key(&sock) || !matches!(peer, SockAddr::Inet(_))
        {
            return Ok(());
        }
        let port = self.next_port;
        self.next_port = if port >= 60_000 { 20_000 } else { port + 1 };
        let local = if state.family == 10 {
            SockAddr::Inet(SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), port))
        } else {
            SockAddr::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
        };
        let bytes = wire::sockaddr(&local);
        let blob = self.b.data(&bytes)?;
        let step = Step::call(host_nr("bind").unwrap_or(0))
            .with(flags::ENGINE)
            .imm(0, cx.call.args[0])
            .arg(1, Sel::Data, blob)
            .imm(2, bytes.len() as u64);
        pre.push(step);
        self.dgram_ports.insert(sock, local);
        Ok(())
    }

    fn send_many(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        // Of the messages only their number is recorded. They matter to nobody who is inside, so short ones do.
        let ofd = self.ofd(cx, 0);
        if self.channel(ofd) != Channel::Message || cx.call.ret <= 0 {
            return Ok(self.surrogate(cx));
        }
        let mut pre = Vec::new();
        if let Some(OfdKind::Sock(sock)) = ofd.map(|o| self.world.ofds[o as usize].kind.clone()) {
            self.datagram_peer(cx, sock, None, &mut pre)?;
        }
        let one = (MsgDesc { iovs: 1, ..MsgDesc::default() }, vec![64]);
        let count = cx.call.ret.clamp(1, 1024) as usize;
        let blob = self.b.messages(&vec![one; count])?;
        let step = self.plain(cx, &[0, 3]).arg(1, Sel::Mmsg, blob).imm(2, count as u64);
        Ok(Lowered { pre, step: step.expect(Expect::Exact, cx.call.ret) })
    }

    fn move_bytes(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
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
                    let blob = self.b.data(&after.saturating_sub(ret.max(0) as u64).to_ne_bytes())?;
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
            let blob = self.b.data(&wire::pollfds([entry]))?;
            let mut ready = Step::of(Kind::AwaitReady).aux(READY_NS);
            ready.args[0] = blob;
            pre.push(ready);
        }
        if ret > 0 {
            let out_stream = self.channel(self.ofd(cx, fds[1 - usize::from(cx.known.sc == Sc::Sendfile)]))
                == Channel::Stream;
            if out_stream || channel == Channel::Stream {
                step = step.expect(Expect::Bytes, ret).with(flags::STREAM).aux(u64::from(POLLIN | POLLOUT));
            } else {
                step = step.expect(Expect::Exact, ret);
            }
        }
        Ok(Lowered { pre, step })
    }

    fn pair(&self, cx: &Cx<'_>) -> Lowered {
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

    fn epoll_ctl(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let step = self.plain(cx, &[0, 1, 2]);
        Ok(match detail_epoll(cx.call).and_then(<[_]>::first) {
            Some(entry) => {
                let blob = self.b.data(&wire::epoll_event(*entry))?;
                step.arg(3, Sel::Data, blob).into()
            }
            None => step.imm(3, 0).into(),
        })
    }

    /// After a readiness call whose answer named descriptors: all of them are ready.
    fn all_ready(&mut self, step: Step, entries: Vec<PollEntry>) -> Result<Step, CompileError> {
        if entries.is_empty() {
            return Ok(step);
        }
        let blob = self.b.data(&wire::pollfds(entries))?;
        Ok(step.post(Post::AwaitReady, blob).aux(READY_NS))
    }

    /// A timeout that recorded readiness must not lose against.
    fn patience(ns: u64, ready: bool) -> u64 {
        if ready { ns.saturating_mul(4).max(2_000_000_000) } else { ns }
    }

    fn epoll_wait(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let unfinished = cx.call.flags.contains(SyscallFlags::NO_EXIT);
        let ready = cx.call.ret > 0 && !unfinished;
        let max = cx.call.args[2].clamp(1, 4096);
        let mut step = self.plain(cx, &[0]).arg(1, Sel::Out, max * 16).imm(2, max);
        let mut pre = Vec::new();
        let at_once;
        if cx.known.sc == Sc::EpollPwait2 {
            let ns = detail_time(cx.call, 3);
            at_once = ns == Some(0);
            step = match ns {
                Some(0) => step.arg(3, Sel::Timespec, 0),
                Some(ns) => step.arg(3, Sel::Timespec, Self::patience(ns, ready)),
                None => step.imm(3, 0),
            };
        } else {
            let ms = cx.call.args[3] as i32;
            at_once = ms == 0;
            step = match ms {
                0 => step.imm(3, 0),
                ms if ms < 0 => step.imm(3, u64::from(u32::MAX)),
                ms => step.arg(3, Sel::Millis, Self::patience(ms as u64 * 1_000_000, ready)),
            };
        }
        if cx.known.sc != Sc::EpollWait {
            step = step.imm(4, 0).imm(5, 8);
        }
        if unfinished {
            return Ok(step.into());
        }
        step = step.expect(Expect::Ready, cx.call.ret);
        if !ready {
            return Ok(step.into());
        }
        if at_once {
            let entry = PollEntry { fd: cx.call.args[0] as i32, events: POLLIN, revents: 0 };
            let blob = self.b.data(&wire::pollfds([entry]))?;
            let mut wait = Step::of(Kind::AwaitReady).aux(READY_NS);
            wait.args[0] = blob;
            pre.push(wait);
        }
        let mut named = Vec::new();
        if let Some(ep) = self.ofd(cx, 0)
            && let OfdKind::Epoll { watches } = &self.world.ofds[ep as usize].kind
        {
            for entry in detail_epoll(cx.call).unwrap_or_default() {
                if let Some(watch) = watches.get(&entry.data)
                    && self.world.ofd_of(cx.task, watch.fd) == Some(watch.ofd)
                {
                    named.push(PollEntry { fd: watch.fd, events: entry.events as u16 & 0x201f, revents: 0 });
                }
            }
        }
        let step = self.all_ready(step, named)?;
        Ok(Lowered { pre, step })
    }

    fn poll(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let unfinished = cx.call.flags.contains(SyscallFlags::NO_EXIT);
        let ready = cx.call.ret > 0 && !unfinished;
        let mut entries: Vec<PollEntry> = cx
            .call
            .details
            .iter()
            .find_map(|d| match d {
                Detail::Poll { entries, .. } => Some(entries.clone()),
                _ => None,
            })
            .unwrap_or_default();
        let count = cx.call.args[1].min(4096) as usize;
        if count > 0 && entries.is_empty() {
            return Ok(self.surrogate(cx));
        }
        // A truncated record: the rest is ignored by the kernel.
        entries.resize(count, PollEntry { fd: -1, events: 0, revents: 0 });
        let blob = self.b.data(&wire::pollfds(entries.iter().copied()))?;
        let mut step = self.call_step(cx).arg(0, Sel::InOut, blob).imm(1, count as u64);
        let mut at_once = false;
        if cx.known.sc == Sc::Ppoll {
            let ns = detail_time(cx.call, 2);
            step = match ns {
                Some(ns) => {
                    at_once = ns == 0;
                    step.arg(2, Sel::Timespec, if ns == 0 { 0 } else { Self::patience(ns, ready) })
                }
                None => step.imm(2, 0),
            };
            step = step.imm(3, 0).imm(4, 8);
        } else {
            let ms = cx.call.args[2] as i32;
            at_once |= ms == 0;
            step = match ms {
                0 => step.imm(2, 0),
                ms if ms < 0 => step.imm(2, u64::from(u32::MAX)),
                ms => step.arg(2, Sel::Millis, Self::patience(ms as u64 * 1_000_000, ready)),
            };
        }
        if unfinished {
            return Ok(step.into());
        }
        step = step.expect(Expect::Ready, cx.call.ret);
        if !ready {
            return Ok(step.into());
        }
        let answered: Vec<PollEntry> = entries
            .iter()
            // POLLNVAL: not open, which nothing will change.
            .filter(|e| e.revents & !0x20 != 0 && e.fd >= 0 && self.world.ofd_of(cx.task, e.fd).is_some())
            .map(|e| PollEntry { events: e.revents, ..*e })
            .collect();
        self.with_answers(step, answered, at_once)
    }

    fn with_answers(
        &mut self,
        step: Step,
        answered: Vec<PollEntry>,
        at_once: bool,
    ) -> Result<Lowered, CompileError> {
        if at_once && !answered.is_empty() {
            let blob = self.b.data(&wire::pollfds(answered))?;
            let mut wait = Step::of(Kind::AwaitReady).aux(READY_NS);
            wait.args[0] = blob;
            return Ok(Lowered { pre: vec![wait], step });
        }
        Ok(self.all_ready(step, answered)?.into())
    }

    fn select(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let unfinished = cx.call.flags.contains(SyscallFlags::NO_EXIT);
        let ready = cx.call.ret > 0 && !unfinished;
        let entries: Vec<PollEntry> = cx
            .call
            .details
            .iter()
            .find_map(|d| match d {
                Detail::Poll { entries, .. } => Some(entries.clone()),
                _ => None,
            })
            .unwrap_or_default();
        let nfds = cx.call.args[0].min(65_536);
        if ready && entries.is_empty() {
            return Ok(self.surrogate(cx));
        }
        let mut step = self.call_step(cx).imm(0, nfds);
        for (arg, bit) in [(1, POLLIN), (2, POLLOUT), (3, 2)] {
            let set: Vec<i32> = entries.iter().filter(|e| e.events & bit != 0).map(|e| e.fd).collect();
            step = if set.is_empty() {
                step.imm(arg, 0)
            } else {
                let blob = self.b.data(&wire::fd_set(nfds, set))?;
                step.arg(arg, Sel::InOut, blob)
            };
        }
        let ns = detail_time(cx.call, 4);
        let sel = if cx.known.sc == Sc::Select { Sel::Timeval } else { Sel::Timespec };
        step = match ns {
            Some(0) => step.arg(4, sel, 0),
            Some(ns) => step.arg(4, sel, Self::patience(ns, ready)),
            None => step.imm(4, 0),
        };
        if cx.known.sc == Sc::Pselect6 {
            step = step.imm(5, 0);
        }
        if unfinished {
            return Ok(step.into());
        }
        step = step.expect(Expect::Ready, cx.call.ret);
        let answered: Vec<PollEntry> = entries
            .iter()
            .filter(|e| ready && e.revents != 0 && self.world.ofd_of(cx.task, e.fd).is_some())
            .map(|e| PollEntry { events: e.revents | POLLHUP, ..*e })
            .collect();
        self.with_answers(step, answered, ns == Some(0))
    }

    fn bind(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let Some(addr) = detail_addr(cx.call, 1) else { return Ok(self.surrogate(cx)) };
        if let SockAddr::Inet(at) = addr
            && !at.ip().is_unspecified()
        {
            self.peers.addresses.insert(at.ip());
        }
        let bytes = wire::sockaddr(addr);
        let blob = self.b.data(&bytes)?;
        Ok(self.plain(cx, &[0]).arg(1, Sel::Data, blob).imm(2, bytes.len() as u64).into())
    }

    /// Whether a recorded failure to connect comes by itself.
    pub(crate) fn connect_rebuilds(&self, cx: &Cx<'_>) -> bool {
        let datagram = self
            .world
            .sock_of(cx.task, cx.call.args[0] as i32)
            .is_some_and(|s| self.world.socks[s as usize].kind != 1);
        match cx.call.ret {
            -111 | -115 | -9 | -106 | -114 => true,
            -2 => detail_addr(cx.call, 1).is_some_and(|a| matches!(a, SockAddr::Unix(_))) && !datagram,
            _ => false,
        }
    }

    fn connect(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let Some(addr) = detail_addr(cx.call, 1).cloned() else { return Ok(self.surrogate(cx)) };
        let mut pre = Vec::new();
        let sock = self.world.sock_of(cx.task, cx.call.args[0] as i32);
        if let Some(sock) = sock
            && self.world.socks[sock as usize].kind & 0xf == 2
            && cx.call.ret >= 0
        {
            let peer = self.world.absolute(cx.task, &addr);
            if !self.world.bound(&peer) && !matches!(peer, SockAddr::Other { .. }) {
                let known = self.peers.plays(sock);
                if let SockAddr::Unix(_) = peer
                    && !known
                {
                    // Its socket must be there before the connect.
                    let ready =
                        self.peers.datagram(&mut self.b, &mut self.deps, sock, &peer, cx.call.t_ns)?;
                    if let Some(ready) = ready {
                        let mut waits: Vec<Wait> = Vec::new();
                        let me = self.prog(cx.task);
                        self.deps.add(me, EdgeKind::Connection, ready, &mut waits);
                        pre.push(Step::of(Kind::Sync));
                        let mut sync = Step::of(Kind::Sync);
                        self.b.set_waits(&mut sync, &waits)?;
                        pre.push(sync);
                    }
                }
                if let SockAddr::Inet(at) = &peer
                    && !at.ip().is_unspecified()
                {
                    self.peers.addresses.insert(at.ip());
                }
                self.sender_port(cx, sock, &peer, &mut pre)?;
            }
        }
        let bytes = wire::sockaddr(&addr);
        let blob = self.b.data(&bytes)?;
        let step = self.plain(cx, &[0]).arg(1, Sel::Data, blob).imm(2, bytes.len() as u64);
        Ok(Lowered { pre, step })
    }

    fn accept(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let mut pre = Vec::new();
        self.impatient(cx, &mut pre)?;
        let four = cx.known.sc == Sc::Accept4;
        let step = if four { self.plain(cx, &[0, 3]) } else { self.plain(cx, &[0]) };
        let len = self.b.data(&128_u32.to_ne_bytes())?;
        let step = step.arg(1, Sel::Out, 128).arg(2, Sel::InOut, len);
        let Some(ofd) = self.ofd(cx, 0) else {
            return Ok(if cx.call.ret >= 0 { self.missing(cx) } else { Lowered { pre, step } });
        };
        if cx.call.ret >= 0 && !cx.call.flags.contains(SyscallFlags::NO_EXIT) {
            self.ready_first(cx, ofd, POLLIN, &mut pre)?;
        }
        let cloexec = four && cx.call.args[3] as u32 & O_CLOEXEC != 0;
        let mut step = self.new_fd(cx, step, cloexec);
        if cx.call.ret >= 0 {
            step = step.with(flags::RETRY).aux(u64::from(POLLIN));
        }
        Ok(Lowered { pre, step })
    }

    fn getsockopt(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let len = self.b.data(&64_u32.to_ne_bytes())?;
        let step = self.plain(cx, &[0, 1, 2]).arg(3, Sel::Out, 64).arg(4, Sel::InOut, len);
        let mut pre = Vec::new();
        // SOL_SOCKET, SO_ERROR: a connect in progress has to have come to its end.
        if (cx.call.args[1], cx.call.args[2]) == (1, 4)
            && cx.call.ret == 0
            && let Some(ofd) = self.ofd(cx, 0)
            && let OfdKind::Sock(sock) = self.world.ofds[ofd as usize].kind
            && self.world.socks[sock as usize].state == SockState::Connected
            && self.world.socks[sock as usize].sent == 0
            && !self.world.socks[sock as usize].accepted
        {
            let entry =
                PollEntry { fd: cx.call.args[0] as i32, events: POLLOUT | POLLERR | POLLHUP, revents: 0 };
            let blob = self.b.data(&wire::pollfds([entry]))?;
            let mut wait = Step::of(Kind::AwaitReady).aux(READY_NS);
            wait.args[0] = blob;
            pre.push(wait);
        }
        Ok(Lowered { pre, step })
    }

    fn setsockopt(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        // Options that reach outside the socket or need rights the sandbox does not have.
        const REFUSED: [(u64, u64); 5] = [(1, 25), (1, 26), (1, 36), (1, 50), (1, 12)];
        let option = (cx.call.args[1], cx.call.args[2]);
        if option == (SOL_SOCKET, SO_RCVTIMEO)
            && let Some(sock) = self.world.sock_of(cx.task, cx.call.args[0] as i32)
        {
            self.impatient.insert(sock);
        }
        if REFUSED.contains(&option) {
            return Ok(self.surrogate(cx));
        }
        let foreign = self.channel(self.ofd(cx, 0)) == Channel::Foreign;
        let Some(value) = detail_bytes(cx.call, 3)
            .map(<[u8]>::to_vec)
            .or_else(|| detail_value(cx.call, 3).map(|v| (v as u32).to_ne_bytes().to_vec()))
        else {
            return Ok(if foreign { self.surrogate(cx) } else { self.missing(cx) });
        };
        let blob = self.b.data(&value)?;
        let len = cx.call.args[4].min(value.len() as u64);
        Ok(self.plain(cx, &[0, 1, 2]).arg(3, Sel::Data, blob).imm(4, len).into())
    }
}

fn expect_of(cx: &Cx<'_>) -> Expect {
    if (-516..=-512).contains(&cx.call.ret) || cx.call.flags.contains(SyscallFlags::NO_EXIT) {
        Expect::Any
    } else {
        Expect::Exact
    }
}
