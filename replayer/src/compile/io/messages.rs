//! Messages: several at a time, the descriptors that go with them, and the addresses that their senders have.

use super::super::CompileError;
use super::super::calls::{Sc, nr};
use super::super::emit::{BUFFER_MAX, Late, Lowered, split};
use super::super::lower::Lower;
use super::super::model::Cx;
use super::super::netlink;
use super::super::wire;
use super::super::world::{
    OfdKind, SOCK_DGRAM, SockIx, detail_addr, detail_local, detail_messages, details_passed,
};
use super::{Channel, EAGAIN, MSG_DONTWAIT, MSG_ERRQUEUE, POLLERR, POLLHUP, POLLIN, POLLOUT};
use ctrace_analysis::fds::received_cloexec;
use ctrace_format::syscalls::Makes;
use ctrace_format::{Message, Object, PassedFd, SockAddr};
use ctrace_program::{Expect, MsgDesc, Post, Sel, Step, fd_operand, flags};
use std::net::{Ipv6Addr, SocketAddr};

/// Messages that the kernel takes at once (`UIO_MAXIOV`, include/uapi/linux/uio.h).
const MESSAGES_MAX: usize = 1024;
/// Parts of one message.
const PARTS_MAX: u32 = 1024;
/// Descriptors that one message passes along (`SCM_MAX_FD`, include/net/scm.h).
const PASSED_MAX: usize = 253;
/// Room for control data of other kinds: credentials, times.
const CONTROL_ROOM: u32 = 256;
/// Longest datagram.
const DATAGRAM_MAX: u64 = 65_536;
/// `MSG_WAITFORONE`, include/linux/socket.h.
const MSG_WAITFORONE: u64 = 0x1_0000;
const AT_FDCWD: u64 = -100_i64 as u64;
const O_RDWR: u64 = 2;

impl Lower<'_> {
    /// Control data that passes descriptors along: those that the recorded call passed, by the numbers that they have here,
    /// too. Blob and length.
    pub(crate) fn control(&mut self, cx: &Cx<'_>, message: u32) -> Result<(u64, u32), CompileError> {
        let Some((_, fds)) = details_passed(cx.call).find(|(of, _)| *of == message) else {
            return Ok((0, 0));
        };
        let numbers: Vec<i32> = fds.iter().take(PASSED_MAX).map(|passed| passed.fd).collect();
        if numbers.is_empty() {
            return Ok((0, 0));
        }
        let bytes = wire::rights(&numbers);
        Ok((self.emit.data(&bytes)?, bytes.len() as u32))
    }

    /// Where the descriptors go that a call received with its messages, and how much room their control data need.
    pub(crate) fn arrived_fds(
        &mut self,
        cx: &Cx<'_>,
        step: Step,
        pre: &mut Vec<Step>,
    ) -> Result<Step, CompileError> {
        let cloexec = received_cloexec(cx.known.sc, &cx.call.args);
        let mut words = vec![u32::from(cloexec)];
        for (message, fds) in details_passed(cx.call) {
            let known = self.world.received(cx.task, cx.call.args[0] as i32, fds);
            for (passed, known) in fds.iter().zip(known).take(PASSED_MAX) {
                if known.is_some() {
                    words.extend([message, passed.fd as u32]);
                } else {
                    self.stand_in(passed, cloexec, pre)?;
                }
            }
        }
        if words.len() == 1 || words.len() > 2 * PASSED_MAX + 1 {
            return Ok(step);
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Ok(step.post(Post::Passed, self.emit.data(&bytes)?))
    }

    /// A descriptor came from somebody outside: what it stands for is opened where it is a file; anything else is there by
    /// number only.
    fn stand_in(
        &mut self,
        passed: &PassedFd,
        cloexec: bool,
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        let Ok(fd) = u32::try_from(passed.fd) else { return Ok(()) };
        let path = match passed.object.map(|object| self.source.object(object)) {
            Some(Object::File { path, mode, .. }) if mode & 0o170_000 == 0o100_000 => *path,
            _ => {
                let null = self.emit.cstr(b"/dev/null")?;
                pre.push(opened(null, fd, cloexec));
                return Ok(());
            }
        };
        let path = self.emit.string(self.source, path)?;
        pre.push(opened(path, fd, cloexec));
        Ok(())
    }

    /// A call that is not made here had a descriptor for its result: something has its number, for the calls that follow.
    pub(crate) fn stand_for_result(
        &mut self,
        cx: &Cx<'_>,
        lowered: &mut Lowered,
    ) -> Result<(), CompileError> {
        const NOT_MADE: u32 = flags::FAULT | flags::REFUSED | flags::SURROGATE;
        if let Makes::Result(cloexec) = cx.known.row().makes
            && lowered.step.flags & NOT_MADE != 0
            && !cx.unfinished()
            && let Ok(fd) = u32::try_from(cx.call.ret)
        {
            let null = self.emit.cstr(b"/dev/null")?;
            lowered.then.push(opened(null, fd, cloexec.is_set(&cx.call.args)));
        }
        Ok(())
    }

    /// A socket without an address of its own gets the one that the kernel chose in the recording, before the call by which
    /// it got it: others have it as the address to answer to.
    pub(crate) fn own_address(
        &mut self,
        cx: &Cx<'_>,
        sock: SockIx,
        pre: &mut Vec<Step>,
    ) -> Result<(), CompileError> {
        let Some(addr) = detail_local(cx.call) else { return Ok(()) };
        let state = &self.world.socks[sock as usize];
        let named = match &state.local {
            Some(SockAddr::Inet(at)) => at.port() != 0,
            Some(SockAddr::Unix(name)) => !name.is_empty(),
            _ => false,
        };
        if state.kind & 0xf != SOCK_DGRAM || named || self.kept.sockets.given(sock).is_some() {
            return Ok(());
        }
        let mut addr = addr.clone();
        if let SockAddr::Inet(SocketAddr::V6(at)) = &mut addr
            && cx.known.sc == Sc::Connect
            && at.ip().to_ipv4_mapped().is_none()
        {
            // Bound to one address of IPv6, it would never speak IPv4 (`__inet6_bind`, net/ipv6/af_inet6.c); the connect gives
            // it the address again.
            at.set_ip(Ipv6Addr::UNSPECIFIED);
        }
        if let SockAddr::Inet(at) = &addr
            && !at.ip().is_unspecified()
        {
            self.peers.addresses.insert(at.ip());
        }
        let bytes = wire::sockaddr(&addr);
        let blob = self.emit.data(&bytes)?;
        let bind = Step::call(nr::bind).with(flags::ENGINE).imm(0, cx.call.args[0]);
        pre.push(bind.arg(1, Sel::Data, blob).imm(2, bytes.len() as u64));
        self.kept.sockets.give(sock, addr);
        Ok(())
    }

    /// The messages of a call, as many as are to be moved. Those that were not told are like the last that was.
    fn told(cx: &Cx<'_>, count: usize) -> Vec<Message> {
        let none = Message { bytes: 64, parts: 1, moved: 64, addr: None };
        let mut all = detail_messages(cx.call).unwrap_or_default().to_vec();
        let last = all.last().cloned().unwrap_or(none);
        all.resize(count.clamp(1, MESSAGES_MAX), last);
        all
    }

    pub(crate) fn send_many(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let ofd = self.ofd(cx, 0);
        let channel = self.channel(ofd);
        if !matches!(channel, Channel::Message | Channel::Stream) {
            return Ok(self.surrogate(cx));
        }
        let ret = cx.call.ret;
        let unfinished = cx.unfinished();
        let asked = cx.call.args[2] as u32 as usize;
        if asked == 0 {
            return Ok(self.plain(cx, &[0, 2, 3]).imm(1, 0).into());
        }
        let count = if ret > 0 && !unfinished { ret as usize } else { asked };
        let mut pre = Vec::new();
        let sock = match ofd.map(|o| self.world.ofds[o as usize].kind) {
            Some(OfdKind::Sock(sock)) => Some(sock),
            _ => None,
        };
        let kernel = self.netlink_of(cx).map(netlink::kernel);
        let mut late = Late::default();
        let mut all = Vec::new();
        for (i, message) in Self::told(cx, count).into_iter().enumerate() {
            if let Some(sock) = sock
                && channel == Channel::Message
            {
                let Late { at, waits } = self.datagram_peer(cx, sock, message.addr.as_ref(), &mut pre)?;
                late.at = if late.waits.is_empty() { at } else { late.at };
                late.waits.extend(waits);
            }
            let addr = message.addr.as_ref().map(|addr| kernel.as_ref().unwrap_or(addr));
            let (name, name_len) = match addr {
                Some(addr) => {
                    let bytes = wire::sockaddr(addr);
                    (self.emit.data(&bytes)?, bytes.len() as u32)
                }
                None => (0, 0),
            };
            let (control, control_len) = self.control(cx, i as u32)?;
            let moved = if (i as i64) < ret { u64::from(message.moved) } else { message.bytes };
            let lens = split(moved.min(DATAGRAM_MAX), u64::from(message.parts.min(PARTS_MAX)));
            let desc = MsgDesc {
                name,
                name_len,
                control,
                control_len,
                iovs: lens.len() as u32,
                ..MsgDesc::default()
            };
            all.push((desc, lens));
        }
        let count = all.len() as u64;
        let blob = self.emit.messages(&all)?;
        let mut step = self.plain(cx, &[0, 3]).arg(1, Sel::Mmsg, blob).imm(2, count);
        step.len_arg = 2;
        if ret > 0 && !unfinished {
            step = step.expect(Expect::Bytes, ret).with(flags::STREAM).aux(u64::from(POLLOUT));
        }
        Ok(Lowered { late, ..Lowered::after(pre, step) })
    }

    pub(crate) fn receive_many(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let ofd = self.ofd(cx, 0);
        let channel = self.channel(ofd);
        if !matches!(channel, Channel::Message | Channel::Stream) || cx.call.args[3] & MSG_ERRQUEUE != 0 {
            return Ok(self.surrogate(cx));
        }
        let ret = cx.call.ret;
        let unfinished = cx.unfinished();
        let done = ret > 0 && !unfinished;
        let count = if done { ret as usize } else { cx.call.args[2] as u32 as usize };
        let passes = details_passed(cx.call).count() > 0;
        let mut all = Vec::new();
        for message in Self::told(cx, count) {
            let bytes = message.bytes.min(DATAGRAM_MAX).max(u64::from(message.moved)).min(BUFFER_MAX);
            let lens = split(bytes, u64::from(message.parts.min(PARTS_MAX)));
            let control_len = if passes { control_room(cx) } else { 0 };
            let desc = MsgDesc { name_len: 128, control_len, iovs: lens.len() as u32, ..MsgDesc::default() };
            all.push((desc, lens));
        }
        let count = all.len() as u64;
        let blob = self.emit.messages(&all)?;
        let mut pre = Vec::new();
        self.impatient(cx, &mut pre)?;
        let mut step = self.plain(cx, &[0, 3]).arg(1, Sel::Mmsg, blob).imm(2, count);
        // The limit of the whole: what came in time does so here.
        step = step.imm(4, 0);
        step.len_arg = 2;
        let Some(ofd) = ofd else { return Ok(step.into()) };
        if ret == EAGAIN {
            if self.world.ofds[ofd as usize].told.contains(&cx.task) {
                return Ok(self.fault(cx));
            }
            return Ok(Lowered::after(pre, step.with(flags::NOT_READY).aux(u64::from(POLLIN))));
        }
        if !done {
            return Ok(Lowered::after(pre, step));
        }
        self.ready_first(cx, ofd, POLLIN | POLLHUP | POLLERR, &mut pre)?;
        if !self.world.ofds[ofd as usize].nonblock {
            // As many came as were there, or until one was; here it is known how many there will be.
            step = step.imm(3, cx.call.args[3] & !(MSG_DONTWAIT | MSG_WAITFORONE));
        }
        let step = self.arrived_fds(cx, step, &mut pre)?;
        Ok(Lowered::after(pre, step.expect(Expect::Bytes, ret).with(flags::STREAM).aux(u64::from(POLLIN))))
    }
}

/// Bytes of control data that what a call received takes.
pub(crate) fn control_room(cx: &Cx<'_>) -> u32 {
    let most = details_passed(cx.call).map(|(_, fds)| fds.len().min(PASSED_MAX)).max();
    most.map_or(0, |fds| CONTROL_ROOM + wire::rights_len(fds) as u32)
}

/// Where the messages that a call received came from, and how long they were.
pub(crate) fn senders(cx: &Cx<'_>) -> Vec<(Option<SockAddr>, u64)> {
    match cx.known.sc {
        Sc::Recvfrom => vec![(detail_addr(cx.call, 4).cloned(), cx.call.ret.max(0) as u64)],
        Sc::Recvmsg => vec![(detail_addr(cx.call, 1).cloned(), cx.call.ret.max(0) as u64)],
        Sc::Recvmmsg => {
            let entries = detail_messages(cx.call).unwrap_or_default();
            let taken = usize::try_from(cx.call.ret).unwrap_or(0).min(entries.len());
            entries[..taken].iter().map(|m| (m.addr.clone(), u64::from(m.moved))).collect()
        }
        _ => vec![(None, cx.call.ret.max(0) as u64)],
    }
}

fn opened(path: u64, fd: u32, cloexec: bool) -> Step {
    let open = Step::call(nr::openat).with(flags::ENGINE).imm(0, AT_FDCWD);
    open.arg(1, Sel::Data, path).imm(2, O_RDWR).imm(3, 0).post(Post::Fd, fd_operand(fd, cloexec))
}
