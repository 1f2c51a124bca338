//! Facts about faults that events before their ends depend on: found by going through the recording once, and again.

use super::Injection;
use super::acts::{Struck, Way, way};
use super::contents::Holes;
use super::lives::{Effect, Lives};
use crate::fds::{Said, SocketEffect, socket_effect};
use ctrace_format::syscalls::{Call, Family};
use ctrace_format::{
    Detail, Event, Known, Object, ProcessKind, Snapshot, SockAddr, SockCookie, Syscall, SyscallFlags, Sysno,
    Tgid,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;

/// `EPIPE`, asm-generic/errno-base.h.
const EPIPE: i64 = -32;
/// `AT_FDCWD`, include/uapi/linux/fcntl.h.
const AT_FDCWD: i32 = -100;
/// Longest name that is kept, as the kernel's, and how many are.
const PATH_MAX: usize = 4096;
const RELATIVE_MAX: usize = 4096;

/// Facts about calls that are made to fail, which events before their ends depend on.
#[derive(Debug, Clone, Default)]
pub(super) struct Foreseen {
    /// Own addresses of sockets that are not connected: since when.
    pub(super) clients: FxHashMap<SockAddr, u64>,
    /// Sockets that are not connected: since when.
    pub(super) connects: FxHashMap<SockCookie, u64>,
    /// Sockets that are connected.
    made: FxHashSet<SockCookie>,
    /// Calls that would have made a task, or executed a program: by thread, from when to when.
    lives: FxHashMap<u32, Vec<(u64, u64)>>,
    /// Processes that end by a signal of a fault, in the order of time.
    pub(super) deaths: Vec<Death>,
    /// The processes that accept the connections of these addresses.
    pub(super) acceptors: FxHashMap<SockAddr, Tgid>,
    /// The ends of processes, and their statuses, in the order of time.
    ends: FxHashMap<Tgid, Vec<(u64, u32)>>,
    /// Writes that found nobody, and do not take place: by thread, from when to when.
    breaks: FxHashMap<u32, BTreeSet<(u64, u64)>>,
    /// Bytes that are not written, if the recording was gone through.
    pub(super) holes: Option<Holes>,
    /// Where a recorded command began.
    pub(super) start: Vec<u8>,
    /// A call of the recording, for its ABI.
    pub(super) sysno: Option<Sysno>,
}

/// The end of a process by a signal of a fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death {
    /// The call that it comes with.
    pub(super) ordinal: u64,
    pub(super) struck: Struck,
    pub(super) signo: u32,
    /// It was sent before, and held back.
    pub(super) was_sent: bool,
}

/// Facts that one pass over a recording finds.
#[derive(Debug)]
pub(super) struct Scout {
    found: Foreseen,
    lives: Lives,
    /// Calls with signals that are held back, by thread and signal.
    held: FxHashMap<(u32, u32), u64>,
    /// A process has another working directory than it began with.
    has_moved: bool,
    /// The length of the name of its first working directory, and names that were used from there.
    length: Option<usize>,
    relative: BTreeSet<Vec<u8>>,
}

impl Scout {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        Self {
            found: Foreseen::default(),
            lives: Lives::new(snapshot),
            held: FxHashMap::default(),
            has_moved: false,
            length: None,
            relative: BTreeSet::new(),
        }
    }

    /// Takes the next event, and its fault.
    pub(super) fn event(
        &mut self,
        ordinal: u64,
        event: &Event,
        injection: Option<&Injection>,
        words: &(impl Known + ?Sized),
    ) {
        self.found.connection(event);
        let freed = self.lives.event(event, words);
        if let Event::Process(process) = event
            && let ProcessKind::Exit { status, group_dead: true } = process.kind
            && let Some(def) = words.task_def(process.task)
        {
            self.found.ends.entry(def.tgid).or_default().push((process.t_ns, status));
        }
        let Event::Syscall(call) = event else { return };
        if call.flags.contains(SyscallFlags::ENGINE) {
            return;
        }
        let sc = Call::of(call.sysno);
        self.found.sysno.get_or_insert(call.sysno);
        self.start(sc, call, words);
        let fault = injection.map(|injection| way(injection, sc, call));
        if matches!(fault, Some(Way::Instead(_))) {
            self.found.note(event, words);
        } else {
            self.found.connect(event, true, words);
        }
        let Some(def) = words.task_def(call.task) else { return };
        let (tid, tgid) = (def.tid, def.tgid);
        if sc.row().family == Family::Accept
            && let Some(client) = client(call)
        {
            self.found.acceptors.insert(client.clone(), tgid);
        }
        let struck = |t_ns| Struck { t_ns, task: call.task, tid, tgid, sysno: call.sysno };
        if let Some(signo) = freed
            && let Some(ordinal) = self.held.remove(&(tid.0, signo))
            && self.lives.strike(tid.0, tgid, signo) == Effect::Ends
        {
            // Once the call is over.
            let struck = struck(event.end_ns().saturating_add(1));
            self.found.deaths.push(Death { ordinal, struck, signo, was_sent: true });
        }
        if let Some(signo) = injection.and_then(|injection| injection.signal) {
            match self.lives.strike(tid.0, tgid, signo) {
                Effect::Ends => {
                    let struck = struck(call.t_ns);
                    self.found.deaths.push(Death { ordinal, struck, signo, was_sent: false });
                }
                Effect::Handled => {}
                Effect::None => {
                    self.held.entry((tid.0, signo)).or_insert(ordinal);
                }
            }
        }
    }

    /// Learns where a command began that is recorded from its start: a name that it opened, and the file that this was.
    fn start(&mut self, sc: Call, call: &Syscall, words: &(impl Known + ?Sized)) {
        self.has_moved |= matches!(sc, Call::Chdir | Call::Fchdir) && call.ret == 0;
        if self.has_moved || !self.found.start.is_empty() {
            return;
        }
        self.start_by_length(sc, call, words);
        if call.ret < 0 {
            return;
        }
        let at = match sc {
            Call::Open | Call::Creat => 0,
            Call::Openat if call.args[0] as i32 == AT_FDCWD => 1,
            _ => return,
        };
        let name = call.details.iter().find_map(|detail| match detail {
            Detail::Str { arg, value } if usize::from(*arg) == at => words.string(*value),
            _ => None,
        });
        let path = call.object.and_then(|object| words.object_def(object)).and_then(|object| match object {
            Object::File { path, .. } => words.string(*path),
            _ => None,
        });
        if let (Some(name), Some(path)) = (name, path)
            && let Some(dir) = path.strip_suffix(name).and_then(|dir| dir.strip_suffix(b"/"))
        {
            self.found.start = dir.to_vec();
        }
    }

    /// The same where it asked for the length of that name only: an absolute name that ends in one which it used before, after a
    /// directory whose name is so long.
    fn start_by_length(&mut self, sc: Call, call: &Syscall, words: &(impl Known + ?Sized)) {
        if sc == Call::Getcwd && call.ret > 1 {
            // With the byte that ends it.
            self.length = Some(call.ret as usize - 1);
        }
        let names = call.details.iter().filter_map(|detail| match detail {
            Detail::Str { value, .. } if sc.row().family != Family::Exec => words.string(*value),
            _ => None,
        });
        for name in names.filter(|name| name.len() < PATH_MAX) {
            if name.first() != Some(&b'/') {
                if self.relative.len() < RELATIVE_MAX {
                    self.relative.insert(name.to_vec());
                }
            } else if let Some(length) = self.length.filter(|length| name.get(*length) == Some(&b'/'))
                && self.relative.contains(&name[length + 1..])
            {
                self.found.start = name[..length].to_vec();
            }
        }
    }

    /// The facts that the pass found.
    pub(super) fn finish(mut self) -> Foreseen {
        self.found.deaths.sort_by_key(|death| death.struck.t_ns);
        self.found
    }
}

/// The address of who is accepted.
pub(super) fn client(call: &Syscall) -> Option<&SockAddr> {
    call.details.iter().find_map(|detail| match detail {
        Detail::Addr { addr, .. } => Some(addr),
        _ => None,
    })
}

impl Foreseen {
    /// Something of a connection, which tells its own address.
    pub(super) fn connection(&mut self, event: &Event) {
        if let Event::Connection(connection) = event
            && let Some(since) = self.connects.get(&connection.cookie)
        {
            self.clients.entry(connection.local.clone()).or_insert(*since);
        }
    }

    /// A call that is made to fail.
    fn note(&mut self, event: &Event, words: &(impl Known + ?Sized)) {
        let Event::Syscall(call) = event else { return };
        match Call::of(call.sysno).row().family {
            Family::Connect => self.connect(event, false, words),
            _ if call.ret == EPIPE => self.breaks(event, words),
            Family::Clone | Family::Exec => {
                if let Some(task) = words.task_def(call.task) {
                    self.lives.entry(task.tid.0).or_default().push((call.t_ns, event.end_ns()));
                }
            }
            _ => {}
        }
    }

    /// A call that began a connection, or told of one that had begun: it does, or it does not any more.
    fn connect(&mut self, event: &Event, is_made: bool, words: &(impl Known + ?Sized)) {
        let Some((call, cookie)) = connecting(event, words) else { return };
        if is_made {
            if !self.connects.contains_key(&cookie) {
                self.made.insert(cookie);
            }
            return;
        }
        // It had begun by another call.
        if self.made.contains(&cookie) {
            return;
        }
        self.connects.entry(cookie).or_insert(call.t_ns);
        let own = call.details.iter().find_map(|detail| match detail {
            Detail::Local { addr } => Some(addr),
            _ => None,
        });
        if let Some(own) = own {
            self.clients.entry(own.clone()).or_insert(call.t_ns);
        }
    }

    /// A write that found nobody does not take place: its task does not get the signal.
    fn breaks(&mut self, event: &Event, words: &(impl Known + ?Sized)) {
        let Event::Syscall(call) = event else { return };
        if let Some(task) = words.task_def(call.task) {
            self.breaks.entry(task.tid.0).or_default().insert((call.t_ns, event.end_ns()));
        }
    }

    /// Whether a signal of a thread came with a write that does not take place.
    pub(super) fn broke(&self, tid: u32, t_ns: u64) -> bool {
        let writes = self.breaks.get(&tid).into_iter().flatten();
        writes.into_iter().any(|(from_ns, to_ns)| (*from_ns..=*to_ns).contains(&t_ns))
    }

    /// How a process ends, and when, if it was there at this time.
    pub(super) fn end(&self, tgid: Tgid, t_ns: u64) -> Option<u32> {
        let ends = self.ends.get(&tgid).into_iter().flatten();
        ends.into_iter().find(|(end_ns, _)| *end_ns >= t_ns).map(|(_, status)| *status)
    }

    /// A call that does not take place for what it depends on. The one that began a connection does not either.
    pub(super) fn lacks(&mut self, event: &Event, words: &(impl Known + ?Sized)) {
        if let Event::Syscall(call) = event
            && call.ret == EPIPE
        {
            self.breaks(event, words);
        }
        if let Some((_, cookie)) = connecting(event, words) {
            self.made.remove(&cookie);
            self.connect(event, false, words);
        }
    }

    /// Whether another pass would find nothing else.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let writes = |it: &Self| it.breaks.values().map(BTreeSet::len).sum::<usize>();
        let holes = |it: &'_ Self| it.holes.clone().unwrap_or_default();
        self.clients.len() == other.clients.len()
            && holes(self) == holes(other)
            && writes(self) == writes(other)
    }

    /// Whether a task made a task, or executed a program, by a call that is made to fail.
    pub(super) fn fails(&self, tid: u32, t_ns: u64) -> bool {
        let calls = self.lives.get(&tid).into_iter().flatten();
        calls.into_iter().any(|(from_ns, to_ns)| (*from_ns..=*to_ns).contains(&t_ns))
    }
}

/// A call that connects, or tells that a connection is there or on its way, and the socket.
fn connecting<'e>(event: &'e Event, words: &(impl Known + ?Sized)) -> Option<(&'e Syscall, SockCookie)> {
    let Event::Syscall(call) = event else { return None };
    let effect = socket_effect(Call::of(call.sysno), call)?;
    let connects = matches!(effect, SocketEffect::Connects { said: Said::Yes | Said::Later, .. });
    let cookie = words.cookie(call.object.filter(|_| connects)?)?;
    Some((call, cookie))
}
