//! Follows the calls that are made to fail: finds the events that depend on them.

mod calls;
mod sockets;
mod streams;

use super::Injection;
use super::acts::{Strike, Struck, reset};
use super::children::{Children, Unsent};
use super::contents::{Contents, Stream};
use super::files::Files;
use super::hangups::Hangups;
use super::lives::{Effect, Lives};
use super::names::Names;
use super::ready::Ready;
use super::scout::{Death, Foreseen};
use crate::fds::{Change, Descriptor, FdTracker};
use ctrace_format::syscalls;
use ctrace_format::{
    Connection, ConnectionKind, Event, Known, Process, ProcessKind, Signal, Snapshot, SockAddr, Syscall,
    SyscallFlags, TcpState, Tgid,
};
use rustc_hash::{FxHashMap, FxHashSet};
use sockets::Sockets;

/// asm-generic/signal.h.
const SIGPIPE: u32 = 13;
/// `ECONNREFUSED`, asm-generic/errno.h.
pub(super) const ECONNREFUSED: i64 = -111;
const EINPROGRESS: i64 = -115;
/// `ESRCH`, asm-generic/errno-base.h.
const ESRCH: i64 = -3;
/// Tag of a descriptor that is not made.
const NOT_MADE: u32 = 1;
/// A wait status: these bits are the signal, and from this one on is the code of an exit.
const SIGNALS: u32 = 0x7f;
const CODE: u32 = 8;

/// The fate of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Absent,
    /// It has this result, and does not report these descriptors or registrations.
    Other {
        result: i64,
        without: Vec<u64>,
    },
    /// It connects to nobody.
    Refused,
    /// Its other end is gone: it has this result, whenever that comes about.
    Gone {
        result: i64,
    },
    /// So many bytes fewer were sent and received.
    Carries {
        sent: u64,
        received: u64,
    },
    /// It tells of the end of this child.
    Reaps {
        child: i64,
        status: u64,
    },
}

/// The fate of an event, decided now or later.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) ordinal: u64,
    /// The name of the call; empty: it is none.
    pub(super) name: &'static str,
    pub(super) fate: Fate,
}

/// Follows a recording, and tells what does not take place.
#[derive(Debug)]
pub(super) struct Follower {
    foreseen: Foreseen,
    fds: FdTracker,
    sockets: Sockets,
    children: Children,
    names: Names,
    files: Files,
    pub(super) contents: Contents,
    unsent: Unsent,
    ready: Ready,
    lives: Lives,
    hangups: Hangups,
    /// How many of the foreseen deaths have come.
    fallen: usize,
    /// Processes that have ended, until their recorded ends.
    dead: FxHashSet<Tgid>,
    /// Events that come before those of these numbers.
    pub(super) inserted: FxHashMap<u64, Vec<Event>>,
    /// Calls whose process was ended by the signal that came with them.
    pub(super) struck: FxHashSet<u64>,
}

impl Follower {
    pub(super) fn new(snapshot: &Snapshot, foreseen: Foreseen) -> Self {
        Self {
            fds: FdTracker::new(snapshot),
            sockets: Sockets::default(),
            children: Children::default(),
            names: Names::new(snapshot, &foreseen.start),
            files: Files::default(),
            contents: Contents::new(foreseen.holes.clone()),
            unsent: Unsent::default(),
            ready: Ready::default(),
            lives: Lives::new(snapshot),
            hangups: Hangups::default(),
            fallen: 0,
            dead: FxHashSet::default(),
            inserted: FxHashMap::default(),
            struck: FxHashSet::default(),
            foreseen,
        }
    }

    /// Takes the next event, and its fault. `revise` is told the new fate of an earlier event.
    pub(super) fn event(
        &mut self,
        ordinal: u64,
        event: &Event,
        injection: Option<&Injection>,
        words: &(impl Known + ?Sized),
        revise: &mut dyn FnMut(Decided),
    ) -> Fate {
        while let Some(death) = self.foreseen.deaths.get(self.fallen).copied()
            && death.struck.t_ns <= event.end_ns()
        {
            self.fallen += 1;
            self.falls(ordinal, death);
        }
        let task = event.task().and_then(|task| words.task_def(task)).map(|def| (def.tid.0, def.tgid));
        let is_unborn =
            task.is_some_and(|(tid, tgid)| self.children.is_unborn(tid) || self.dead.contains(&tgid));
        let freed = if is_unborn { None } else { self.lives.event(event, words) };
        match event {
            Event::Syscall(call) => {
                let Some((_, tgid)) = task else { return Fate::Stays };
                if call.flags.contains(SyscallFlags::ENGINE) {
                    return Fate::Stays;
                }
                if let Some(signo) = freed {
                    self.takes(ordinal + 1, call, tgid, signo, words);
                }
                self.call(ordinal, call, tgid, injection, is_unborn, words, revise)
            }
            Event::Process(process) => self.process(process, is_unborn, words),
            Event::Connection(connection) => self.connection(connection, is_unborn),
            Event::Signal(signal) => absent_if(is_unborn || self.signal(ordinal, signal, words)),
            _ => absent_if(is_unborn),
        }
    }

    /// A process ends by a signal that comes with a call.
    fn falls(&mut self, before: u64, death: Death) {
        let Death { ordinal, struck, signo, was_sent } = death;
        let is_there = !self.dead.contains(&struck.tgid)
            && !self.children.is_unborn(struck.tid.0)
            && !self.children.unexecuted.contains(&struck.tgid);
        if !is_there {
            return;
        }
        if !was_sent {
            self.struck.insert(ordinal);
            let sends = struck.sends(Strike { signo, counts: true, kills: true });
            self.inserted.entry(before).or_default().extend(sends);
        }
        self.dies(before, struck, signo);
    }

    /// A process is ended by a signal.
    fn dies(&mut self, before: u64, struck: Struck, signo: u32) {
        let tgid = struck.tgid;
        let others = self.lives.threads(tgid).filter(|(tid, _)| *tid != struck.tid.0);
        let mut ends: Vec<Event> = others.map(|(_, task)| struck.ends(task, signo, false)).collect();
        ends.push(struck.ends(struck.task, signo, true));
        self.inserted.entry(before).or_default().extend(ends);
        self.leaves(before, struck.t_ns, tgid);
        self.children.is_killed(tgid, signo);
    }

    /// A process that could not execute a program ends, as it ended in the recording.
    fn gives_up(&mut self, before: u64, call: &Syscall, tgid: Tgid, words: &(impl Known + ?Sized)) {
        let Some(def) = words.task_def(call.task) else { return };
        let t_ns = call.t_ns.saturating_add(call.duration_ns);
        let Some(status) = self.foreseen.end(tgid, t_ns) else { return };
        let struck = Struck { t_ns, task: call.task, tid: def.tid, tgid, sysno: call.sysno };
        let exits = syscalls::number(call.sysno.abi, "exit_group").filter(|_| status & SIGNALS == 0);
        let exits = exits.map(|nr| Event::Syscall(struck.exits(nr, status >> CODE)));
        let ends = struck.ends(call.task, status, true);
        self.inserted.entry(before).or_default().extend(exits.into_iter().chain([ends]));
        self.leaves(before, t_ns, tgid);
    }

    /// Everything goes that a process has and no other one.
    fn leaves(&mut self, before: u64, t_ns: u64, tgid: Tgid) {
        let gone = self.fds.only_of(tgid);
        self.sockets.leaves(tgid, &gone);
        let ends = &self.sockets.ends;
        let reset = self.hangups.close(&gone, |cookie| ends.get(&cookie).cloned());
        for ends in reset {
            self.resets(before, t_ns, &ends);
        }
        self.fds.exit(tgid);
        self.close_pipes(&gone);
        self.dead.insert(tgid);
    }

    /// Descriptions of ends of pipes are closed for good, if nobody has them any more.
    fn close_pipes<'d>(&mut self, gone: impl IntoIterator<Item = &'d Descriptor>) {
        for it in gone {
            if self.hangups.is_pipe(it.generation) && !self.fds.is_open(it.generation) {
                self.hangups.close_pipe(it.generation);
            }
        }
    }

    /// A connection is reset by one of its ends.
    fn resets(&mut self, before: u64, t_ns: u64, ends: &(SockAddr, SockAddr)) {
        let others = (ends.1.clone(), ends.0.clone());
        let events = self.inserted.entry(before).or_default();
        for (ends, sent) in [(ends, true), (&others, false)] {
            events.extend(self.sockets.by_ends.get(ends).map(|cookie| reset(t_ns, *cookie, ends, sent)));
        }
    }

    /// A task takes a signal after a call, whatever that does to it.
    fn takes(&mut self, before: u64, call: &Syscall, tgid: Tgid, signo: u32, words: &(impl Known + ?Sized)) {
        let Some(def) = words.task_def(call.task) else { return };
        let t_ns = call.t_ns.saturating_add(call.duration_ns);
        let struck = Struck { t_ns, task: call.task, tid: def.tid, tgid, sysno: call.sysno };
        match self.lives.strike(def.tid.0, tgid, signo) {
            Effect::Ends if signo == SIGPIPE => {
                self.inserted.entry(before).or_default().push(struck.signal(signo, false));
                self.dies(before, struck, signo);
            }
            // Foreseen.
            Effect::Ends | Effect::None => {}
            Effect::Handled => {
                // The answer that the write gets is given: the kernel sends nothing.
                let mut events = struck.sends(Strike { signo, counts: false, kills: false });
                events.extend(struck.handles(signo));
                self.inserted.entry(before).or_default().extend(events);
            }
        }
    }

    /// A signal comes with a call, and does not end the process.
    fn struck(
        &mut self,
        ordinal: u64,
        call: &Syscall,
        tgid: Tgid,
        injection: &Injection,
        words: &(impl Known + ?Sized),
    ) {
        let (Some(signo), Some(def)) = (injection.signal, words.task_def(call.task)) else { return };
        let struck = Struck { t_ns: call.t_ns, task: call.task, tid: def.tid, tgid, sysno: call.sysno };
        let delays = injection.enter_ns > 0 || injection.exit_ns > 0;
        let counts = injection.result.is_none() && injection.keeps_millionths.is_none() && !delays;
        let mut events = struck.sends(Strike { signo, counts, kills: false });
        if self.lives.strike(def.tid.0, tgid, signo) == Effect::Handled {
            events.extend(struck.handles(signo));
        }
        self.inserted.entry(ordinal).or_default().extend(events);
    }

    /// Whether a signal is not sent, or not delivered for that.
    fn signal(&mut self, ordinal: u64, signal: &Signal, words: &(impl Known + ?Sized)) -> bool {
        let Some(to) = words.task_def(signal.task) else { return false };
        let sender = signal.sender.and_then(|sender| words.task_def(sender));
        let is_gone =
            sender.is_some_and(|by| self.children.is_unborn(by.tid.0) || self.dead.contains(&by.tgid));
        let is_of_write = signal.signo == SIGPIPE
            && !signal.delivered
            && signal.sender == Some(signal.task)
            && self.foreseen.broke(to.tid.0, signal.t_ns);
        let status = self.foreseen.end(to.tgid, signal.t_ns);
        if is_of_write && !is_gone && status.is_some_and(|status| status & SIGNALS == SIGPIPE) {
            // Its process ended of it: it still does, whatever the write is told.
            let (t_ns, task, tid, tgid) = (signal.t_ns, signal.task, to.tid, to.tgid);
            let Some(sysno) = self.foreseen.sysno else { return false };
            let kills = self.lives.strike(tid.0, tgid, SIGPIPE) == Effect::Ends;
            let sends = Struck { t_ns, task, tid, tgid, sysno }.sends(Strike {
                signo: SIGPIPE,
                counts: false,
                kills,
            });
            self.inserted.entry(ordinal).or_default().extend(sends);
            return true;
        }
        self.unsent.signal(signal, (to.tid.0, to.tgid), is_gone || is_of_write, &mut self.children)
    }

    fn process(&mut self, process: &Process, is_unborn: bool, words: &(impl Known + ?Sized)) -> Fate {
        let Some(def) = words.task_def(process.task) else { return Fate::Stays };
        let (tid, tgid) = (def.tid.0, def.tgid);
        match process.kind {
            ProcessKind::Fork { child } => {
                let Some(child) = words.task_def(child) else { return Fate::Stays };
                let fails = is_unborn
                    || self.children.unexecuted.contains(&tgid)
                    || self.foreseen.fails(tid, process.t_ns);
                if child.tid.0 == child.tgid.0 {
                    // A process that is not made holds nothing.
                    if fails {
                        self.fds.exit(child.tgid);
                    } else {
                        self.fds.fork(tgid, child.tgid);
                    }
                    self.names.fork(tgid, child.tgid);
                    self.children.process(tid, child.tgid);
                }
                self.children.thread(tgid, child.tid.0, child.tgid, !fails);
                absent_if(fails)
            }
            ProcessKind::Exec { .. } => {
                let is_made = !is_unborn && !self.foreseen.fails(tid, process.t_ns);
                if is_made {
                    let closed: Vec<Descriptor> = self
                        .fds
                        .exec(tgid)
                        .into_iter()
                        .filter_map(|change| match change {
                            Change::Closed { descriptor, .. } => Some(descriptor),
                            Change::Opened { .. } => None,
                        })
                        .collect();
                    self.close_pipes(&closed);
                } else if !is_unborn {
                    self.children.unexecuted.insert(tgid);
                }
                absent_if(is_unborn || self.children.unexecuted.contains(&tgid))
            }
            ProcessKind::Exit { group_dead, .. } => {
                if group_dead {
                    let gone = self.fds.only_of(tgid);
                    self.fds.exit(tgid);
                    self.close_pipes(&gone);
                    self.dead.remove(&tgid);
                    self.sockets.deaf.remove(&tgid);
                    self.children.ended(tgid);
                }
                absent_if(is_unborn)
            }
            _ => absent_if(is_unborn || self.children.unexecuted.contains(&tgid)),
        }
    }

    fn connection(&mut self, connection: &Connection, is_unborn: bool) -> Fate {
        if matches!(connection.kind, ConnectionKind::State { new: TcpState::Established, .. }) {
            let ends = (connection.local.clone(), connection.peer.clone());
            self.sockets.by_ends.insert(ends.clone(), connection.cookie);
            self.sockets.ends.insert(connection.cookie, ends);
        }
        let begun = |since: Option<&u64>| since.is_some_and(|since| *since <= connection.t_ns);
        let is_ours = begun(self.foreseen.connects.get(&connection.cookie));
        let is_others = begun(self.foreseen.clients.get(&connection.peer));
        if is_unborn || is_ours || is_others || self.sockets.unconnected.contains(&connection.cookie) {
            return Fate::Absent;
        }
        if matches!(connection.kind, ConnectionKind::Closed { .. } | ConnectionKind::Sample { .. }) {
            let (own, other) = (connection.local.clone(), connection.peer.clone());
            let sent = self.contents.missing(&Stream::Socket(own.clone(), other.clone()));
            let received = self.contents.missing(&Stream::Socket(other, own));
            if sent > 0 || received > 0 {
                return Fate::Carries { sent, received };
            }
        }
        Fate::Stays
    }
}

const fn absent_if(absent: bool) -> Fate {
    if absent { Fate::Absent } else { Fate::Stays }
}
