//! Finds what one task did and another got, see [`super::flows`].

use super::flows::{End, Flows, Meeting, Said};
use super::{Place, Tracks};
use crate::text::decode::{object, signal};
use ctrace_format::{
    Class, Connection, Detail, Event, Object, ObjectId, Signal, SockAddr, SockCookie, Syscall, SyscallFlags,
    Trace, errno, syscalls,
};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::io::{self, Write};

/// `FUTEX_*`, include/uapi/linux/futex.h.
const FUTEX_CMD_MASK: u64 = 0x7f;
const FUTEX_WAIT: u64 = 0;
const FUTEX_WAKE: u64 = 1;
const FUTEX_WAIT_BITSET: u64 = 9;
const FUTEX_WAKE_BITSET: u64 = 10;
/// `MSG_PEEK`, include/linux/socket.h: what is looked at stays where it is.
const MSG_PEEK: u64 = 2;

/// Streams that are followed; beyond, all are followed anew.
const STREAMS: usize = 1 << 16;
/// Sends of a stream that were not received, and the reverse.
const UNDER_WAY: usize = 64;
/// Tasks that one wake can be drawn to.
const MOST_WOKEN: u64 = 32;
/// Sends that one receive can be drawn to.
const MOST_SENT: u64 = 16;

/// Something that one does and another gets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// A word of a process.
    Futex(u32, u64),
    /// A connection, from who asks for it.
    Tcp(SockAddr, SockAddr),
    /// A listener.
    Unix(Vec<u8>),
    /// A signal of a process.
    Signal(u32, u32),
}

/// Bytes in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Direction {
    Tcp(SockAddr, SockAddr),
    /// Towards this socket.
    Pair(SockCookie),
    Pipe(u64),
}

#[derive(Debug, Default)]
struct Stream {
    sent: u64,
    received: u64,
    /// Bytes that were under way before the first send that was seen.
    before: u64,
    /// Where the bytes of each begin and end, and the end of the arrow.
    sends: VecDeque<(u64, u64, End)>,
    receives: VecDeque<(u64, End)>,
}

/// What was done and not got, and the reverse.
pub(super) struct Hands<'a> {
    trace: &'a Trace,
    flows: Flows,
    meeting: Meeting<Key>,
    streams: FxHashMap<Direction, Stream>,
    /// Both ends of sockets.
    ends: FxHashMap<SockCookie, (SockAddr, SockAddr)>,
    /// The other end of each socket of a pair.
    pairs: FxHashMap<SockCookie, SockCookie>,
}

impl<'a> Hands<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        Self {
            trace,
            flows: Flows::default(),
            meeting: Meeting::default(),
            streams: FxHashMap::default(),
            ends: FxHashMap::default(),
            pairs: FxHashMap::default(),
        }
    }

    /// Arrows drawn.
    pub(super) const fn drawn(&self) -> u64 {
        self.flows.drawn()
    }

    pub(super) fn event<W: Write>(&mut self, event: &Event, tracks: &mut Tracks<W>) -> io::Result<()> {
        match event {
            Event::Syscall(call) => {
                let thread = tracks.thread(call.task);
                if self.call(call, thread) {
                    self.settle(thread, tracks, false)?;
                }
            }
            Event::Signal(e) => {
                let of = if e.delivered { Some(e.task) } else { e.sender };
                if let Some(thread) = of.map(|task| tracks.thread(task)) {
                    self.signal(e, thread);
                    self.settle(thread, tracks, false)?;
                }
            }
            Event::Connection(Connection { cookie, local, peer, .. }) => self.learn(*cookie, local, peer),
            // What moved meanwhile is not known.
            Event::Loss(e) if e.class == Class::Syscall => self.streams.clear(),
            Event::Aggregate(_) => self.streams.clear(),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn finish<W: Write>(&mut self, tracks: &mut Tracks<W>) -> io::Result<()> {
        for thread in self.flows.threads() {
            self.settle(thread, tracks, true)?;
        }
        Ok(())
    }

    fn settle<W: Write>(&mut self, thread: usize, tracks: &mut Tracks<W>, all: bool) -> io::Result<()> {
        let parent = tracks.parent(Place::Thread(thread));
        let lane = |sheet: &mut super::Sheet<W>| {
            let uuid = sheet.named(parent, "hand-offs")?;
            Ok(sheet.lane(uuid))
        };
        self.flows.settle(thread, &mut tracks.sheet, lane, all)
    }

    fn learn(&mut self, cookie: SockCookie, local: &SockAddr, peer: &SockAddr) {
        let is_known = |a: &SockAddr| matches!(a, SockAddr::Inet(a) if a.port() != 0);
        if !is_known(local) || !is_known(peer) {
            return;
        }
        if self.ends.len() >= STREAMS && !self.ends.contains_key(&cookie) {
            self.ends.clear();
        }
        self.ends.insert(cookie, (local.clone(), peer.clone()));
    }

    /// Both ends of a TCP socket.
    fn both(&self, object: &Object) -> Option<(SockAddr, SockAddr)> {
        let Object::Socket { kind: 1, cookie, local, peer, .. } = object else { return None };
        let seen = || match (local, peer) {
            (Some(local @ SockAddr::Inet(_)), Some(peer @ SockAddr::Inet(_))) => {
                Some((local.clone(), peer.clone()))
            }
            _ => None,
        };
        self.ends.get(cookie).cloned().or_else(seen)
    }

    /// The two directions of what is behind a descriptor: written to, and read from.
    fn directions(&self, object: &Object) -> Option<(Direction, Direction)> {
        match object {
            Object::Pipe { ino } => Some((Direction::Pipe(*ino), Direction::Pipe(*ino))),
            Object::Socket { cookie, .. } => {
                if let Some(other) = self.pairs.get(cookie) {
                    return Some((Direction::Pair(*other), Direction::Pair(*cookie)));
                }
                let (local, peer) = self.both(object)?;
                Some((Direction::Tcp(local.clone(), peer.clone()), Direction::Tcp(peer, local)))
            }
            _ => None,
        }
    }

    fn about(&self, id: ObjectId) -> String {
        let known = match self.trace.object(id) {
            Object::Socket { cookie, .. } => self.ends.get(cookie),
            _ => None,
        };
        object(self.trace, self.trace.object(id), known)
    }

    /// Whether it may be an end of an arrow.
    fn call(&mut self, call: &Syscall, thread: usize) -> bool {
        if call.flags.contains(SyscallFlags::NO_EXIT) || call.flags.contains(SyscallFlags::ENGINE) {
            return false;
        }
        match syscalls::name(call.sysno).unwrap_or_default() {
            "futex" => self.futex(call, thread),
            "connect" => self.connect(call, thread),
            "accept" | "accept4" if call.ret >= 0 => self.accept(call, thread),
            "socketpair" if call.ret == 0 => {
                self.pair(call);
                false
            }
            "write" | "writev" | "sendto" | "sendmsg" | "sendmmsg" | "sendfile" | "sendfile64" => {
                self.send(call, thread)
            }
            "read" | "readv" => self.receive(call, thread),
            "recvfrom" | "recvmmsg" if call.args[3] & MSG_PEEK == 0 => self.receive(call, thread),
            "recvmsg" if call.args[2] & MSG_PEEK == 0 => self.receive(call, thread),
            _ => false,
        }
    }

    fn futex(&mut self, call: &Syscall, thread: usize) -> bool {
        let tgid = self.trace.task(call.task).tgid.0;
        let key = Key::Futex(tgid, call.args[0]);
        let about = || Some(format!("futex {:#x}", call.args[0]));
        match call.args[1] & FUTEX_CMD_MASK {
            FUTEX_WAKE | FUTEX_WAKE_BITSET if call.ret > 0 => {
                let woken = (call.ret as u64).min(MOST_WOKEN);
                let said = Said { category: "wake", text: "wakes", about: about() };
                let end = self.flows.end(thread, call.t_ns, woken, said);
                self.meeting.cause(&key, end, woken, &mut self.flows);
                true
            }
            FUTEX_WAIT | FUTEX_WAIT_BITSET if call.ret == 0 => {
                let said = Said { category: "wake", text: "woken", about: about() };
                let end = self.flows.end(thread, over(call), 1, said);
                self.meeting.effect(&key, end, call.t_ns, &mut self.flows);
                true
            }
            _ => false,
        }
    }

    fn connect(&mut self, call: &Syscall, thread: usize) -> bool {
        if call.ret != 0 && call.errno() != Some(u32::from(errno::EINPROGRESS)) {
            return false;
        }
        let Some(id) = call.object else { return false };
        let named = call.details.iter().find_map(|detail| match detail {
            Detail::Addr { addr: SockAddr::Unix(path), .. } => Some(path.clone()),
            _ => None,
        });
        let key = match named {
            Some(path) => Key::Unix(path),
            None => match self.both(self.trace.object(id)) {
                Some((local, peer)) => Key::Tcp(local, peer),
                None => return false,
            },
        };
        let said = Said { category: "connect", text: "connects", about: Some(self.about(id)) };
        let end = self.flows.end(thread, call.t_ns, 1, said);
        self.meeting.cause(&key, end, 1, &mut self.flows);
        true
    }

    fn accept(&mut self, call: &Syscall, thread: usize) -> bool {
        let Some(id) = call.object else { return false };
        let made = self.trace.object(id);
        let key = match (self.both(made), made) {
            (Some((local, peer)), _) => {
                if let Object::Socket { cookie, .. } = made {
                    self.learn(*cookie, &local, &peer);
                }
                Key::Tcp(peer, local)
            }
            (None, Object::Socket { local: Some(SockAddr::Unix(path)), .. }) => Key::Unix(path.clone()),
            _ => return false,
        };
        let said = Said { category: "connect", text: "accepts", about: Some(self.about(id)) };
        let end = self.flows.end(thread, over(call), 1, said);
        self.meeting.effect(&key, end, 0, &mut self.flows);
        true
    }

    fn pair(&mut self, call: &Syscall) {
        let made = call.details.iter().find_map(|detail| match detail {
            Detail::NewFds { objects: [Some(a), Some(b)], .. } => Some((*a, *b)),
            _ => None,
        });
        let Some((a, b)) = made else { return };
        if let (Object::Socket { cookie: a, .. }, Object::Socket { cookie: b, .. }) =
            (self.trace.object(a), self.trace.object(b))
        {
            if self.pairs.len() >= STREAMS {
                self.pairs.clear();
            }
            self.pairs.extend([(*a, *b), (*b, *a)]);
        }
    }

    fn stream(&mut self, direction: Direction) -> &mut Stream {
        if self.streams.len() >= STREAMS && !self.streams.contains_key(&direction) {
            self.streams.clear();
        }
        self.streams.entry(direction).or_default()
    }

    fn send(&mut self, call: &Syscall, thread: usize) -> bool {
        let moved = call.moved();
        let Some(id) = call.object.filter(|_| moved > 0) else { return false };
        let Some((direction, _)) = self.directions(self.trace.object(id)) else { return false };
        let said = Said { category: "bytes", text: "sends", about: Some(self.about(id)) };
        let end = self.flows.end(thread, call.t_ns, 1, said);
        let stream = self.stream(direction.clone());
        stream.sent = stream.sent.saturating_add(moved).max(moved);
        let upto = stream.sent;
        push(&mut stream.sends, (upto - moved, upto, end));
        self.meet(&direction);
        true
    }

    fn receive(&mut self, call: &Syscall, thread: usize) -> bool {
        let moved = call.moved();
        let Some(id) = call.object.filter(|_| moved > 0) else { return false };
        let Some((_, direction)) = self.directions(self.trace.object(id)) else { return false };
        let said = Said { category: "bytes", text: "receives", about: Some(self.about(id)) };
        let end = self.flows.end(thread, over(call), MOST_SENT, said);
        let stream = self.stream(direction.clone());
        stream.received = stream.received.saturating_add(moved);
        let upto = stream.received;
        push(&mut stream.receives, (upto, end));
        self.meet(&direction);
        true
    }

    /// Draws what was received to what was sent: to the send of each, the receive that got its last byte.
    fn meet(&mut self, direction: &Direction) {
        let Some(stream) = self.streams.get_mut(direction) else { return };
        while let (Some((begin, sent, from)), Some((received, to))) =
            (stream.sends.front(), stream.receives.front())
        {
            if to.t_ns() >= from.t_ns() && *received >= sent.saturating_add(stream.before) {
                self.flows.connect(*from, *to);
                stream.sends.pop_front();
                continue;
            }
            if to.t_ns() < from.t_ns() {
                // These bytes were under way before.
                stream.before = stream.before.max(received.saturating_sub(*begin));
            }
            self.flows.close(*to);
            stream.receives.pop_front();
        }
    }

    fn signal(&mut self, e: &Signal, thread: usize) {
        let tgid = self.trace.task(e.task).tgid.0;
        let key = Key::Signal(tgid, e.signo);
        let about = Some(signal(e.signo));
        if e.delivered {
            let end =
                self.flows.end(thread, e.t_ns, 1, Said { category: "signal", text: "gets a signal", about });
            self.meeting.effect(&key, end, 0, &mut self.flows);
        } else {
            let end =
                self.flows.end(thread, e.t_ns, 1, Said { category: "signal", text: "sends a signal", about });
            self.meeting.cause(&key, end, 1, &mut self.flows);
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, end: T) {
    if queue.len() >= UNDER_WAY {
        queue.pop_front();
    }
    queue.push_back(end);
}

const fn over(call: &Syscall) -> u64 {
    call.t_ns.saturating_add(call.duration_ns)
}
