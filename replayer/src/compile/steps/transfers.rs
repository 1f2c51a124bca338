//! Calls that move bytes.

use super::super::CompileError;
use super::super::calls::{Sc, nr};
use super::super::emit::{BUFFER_MAX, Late, Lowered};
use super::super::model::Cx;
use super::super::netlink;
use super::super::wire;
use super::super::world::nonblocking::asks_not_to_wait;
use super::super::world::{OfdIx, OfdKind, detail_addr, detail_iov, detail_value, positional};
use super::descriptors::Channel;
use super::{Steps, messages};
use ctrace_format::PollEntry;
use ctrace_program::{Expect, MsgDesc, Sel, Step, flags, ready_operand};

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
pub(crate) const MSG_ERRQUEUE: u64 = 0x2000;
pub(crate) const EAGAIN: i64 = -11;
/// Parts of an I/O vector, at most (linux/uio.h, `UIO_MAXIOV`).
const IOV_MAX: u64 = 1024;
const SPLICE_F_GIFT: u64 = 8;

impl Steps<'_> {
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

    /// The length to ask a file for. What the model of the file explains is asked for as recorded; otherwise (stubs of
    /// `/proc`, programs, files that others changed) what came.
    pub(crate) fn file_want(&self, cx: &Cx<'_>, ofd: OfdIx, asked: u64, got: u64) -> u64 {
        let Some(inode) = self.world.inode_of(ofd) else { return asked };
        let node = self.world.fs.node(inode);
        let start = positional(cx.known.sc, cx.call).unwrap_or(self.world.ofds[ofd as usize].pos);
        let natural = node.size.saturating_sub(start).min(asked);
        if !node.executed && natural == got { asked } else { got }
    }

    /// Whether seeking to the end would lead elsewhere than it did.
    pub(crate) fn at_end_elsewhere(&self, cx: &Cx<'_>) -> bool {
        if cx.call.args[2] != 2 || cx.call.ret < 0 {
            return false;
        }
        let Some(inode) = self.ofd(cx, 0).and_then(|o| self.world.inode_of(o)) else { return false };
        let node = self.world.fs.node(inode);
        node.executed || (node.size as i64).saturating_add(cx.call.args[1] as i64) != cx.call.ret
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
            Channel::Kernel => step.expect(Expect::Ready, ret),
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
            pre.push(self.emit.await_ready([entry])?);
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
    pub(super) fn vmsplice(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
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
}
