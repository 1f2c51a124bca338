//! Follows the calls that are made to fail: finds the events that depend on them.

use super::Injection;
use super::acts::{Strike, Struck, Way, reset, way};
use super::hangups::{Finds, Hangups};
use super::lives::{Effect, Lives};
use super::ready::Ready;
use crate::fds::{Change, FdTracker, Generation, Said, SocketEffect, socket_effect};
use ctrace_format::syscalls::{Call, Family, Kind};
use ctrace_format::{
    Connection, ConnectionKind, Detail, Event, Known, Object, Process, ProcessKind, Signal, Snapshot,
    SockAddr, SockCookie, Syscall, SyscallFlags, TcpState, Tgid,
};
use rustc_hash::{FxHashMap, FxHashSet};

/// include/linux/net.h.
const SOCK_STREAM: u16 = 1;
/// asm-generic/signal.h.
const SIGPIPE: u32 = 13;
const SIGCHLD: u32 = 17;
/// `ECONNREFUSED`, asm-generic/errno.h.
pub(super) const ECONNREFUSED: i64 = -111;
const EINPROGRESS: i64 = -115;
/// `ESRCH`, asm-generic/errno-base.h.
const ESRCH: i64 = -3;
/// Tag of a descriptor that is not made.
const NOT_MADE: u32 = 1;

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

/// Facts about calls that are made to fail, which events before their ends depend on.
#[derive(Debug, Clone, Default)]
pub(super) struct Foreseen {
    /// Own addresses of sockets that are not connected: since when.
    clients: FxHashMap<SockAddr, u64>,
    /// Sockets that are not connected: since when.
    connects: FxHashMap<SockCookie, u64>,
    /// Sockets that are connected.
    made: FxHashSet<SockCookie>,
    /// Calls that would have made a task, or executed a program: by thread, from when to when.
    lives: FxHashMap<u32, Vec<(u64, u64)>>,
    /// Processes that end by a signal of a fault, in the order of time.
    deaths: Vec<Death>,
    /// The processes that accept the connections of these addresses.
    acceptors: FxHashMap<SockAddr, Tgid>,
}

/// The end of a process by a signal of a fault.
#[derive(Debug, Clone, Copy)]
struct Death {
    /// The call that it comes with.
    ordinal: u64,
    struck: Struck,
    signo: u32,
    /// It was sent before, and held back.
    was_sent: bool,
}

/// Facts that one pass over a recording finds.
#[derive(Debug)]
pub(super) struct Scout {
    found: Foreseen,
    lives: Lives,
    /// Calls with signals that are held back, by thread and signal.
    held: FxHashMap<(u32, u32), u64>,
}

impl Scout {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        Self { found: Foreseen::default(), lives: Lives::new(snapshot), held: FxHashMap::default() }
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
        let Event::Syscall(call) = event else { return };
        if call.flags.contains(SyscallFlags::ENGINE) {
            return;
        }
        let sc = Call::of(call.sysno);
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

    /// The facts that the pass found.
    pub(super) fn finish(mut self) -> Foreseen {
        self.found.deaths.sort_by_key(|death| death.struck.t_ns);
        self.found
    }
}

/// The address of who is accepted.
fn client(call: &Syscall) -> Option<&SockAddr> {
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

    /// A call that does not take place for what it depends on. The one that began a connection does not either.
    pub(super) fn lacks(&mut self, event: &Event, words: &(impl Known + ?Sized)) {
        if let Some((_, cookie)) = connecting(event, words) {
            self.made.remove(&cookie);
            self.connect(event, false, words);
        }
    }

    /// How many addresses are known from which nobody connects.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Whether a task made a task, or executed a program, by a call that is made to fail.
    fn fails(&self, tid: u32, t_ns: u64) -> bool {
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

/// One direction of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Stream {
    Pipe(u64),
    /// From an address to an address.
    Socket(SockAddr, SockAddr),
}

/// Follows a recording, and tells what does not take place.
#[derive(Debug)]
pub(super) struct Follower {
    foreseen: Foreseen,
    fds: FdTracker,
    /// Sockets whose connection does not come about.
    unconnected: FxHashSet<SockCookie>,
    /// Both ends of connections: one's own, the other.
    ends: FxHashMap<SockCookie, (SockAddr, SockAddr)>,
    /// The sockets that have them.
    by_ends: FxHashMap<(SockAddr, SockAddr), SockCookie>,
    /// Connections that were dropped when they were accepted, as those who made them know them: they are reset when those have
    /// sent anything.
    dropped: FxHashSet<(SockAddr, SockAddr)>,
    /// Threads that are not made, and the processes that would have made them.
    unborn: FxHashMap<u32, Tgid>,
    /// Processes to which the deaths of such children are not told, and how many.
    unmourned: FxHashMap<Tgid, u32>,
    /// Their ids, as those who would have made them know them.
    unknown_pids: FxHashSet<i64>,
    /// Processes that have failed to execute a program.
    unexecuted: FxHashSet<Tgid>,
    /// Names that are not made.
    unnamed: Vec<Vec<u8>>,
    /// Bytes that were not written.
    owed: FxHashMap<Stream, u64>,
    /// Bytes that a read left because it failed.
    unread: FxHashMap<Stream, u64>,
    /// Signals that are not sent, by process and number: so many.
    unsent: FxHashMap<(Tgid, u32), u32>,
    /// Threads in a handler of such a signal.
    handling: FxHashSet<u32>,
    ready: Ready,
    lives: Lives,
    hangups: Hangups,
    /// How many of the foreseen deaths have come.
    fallen: usize,
    /// Processes that a signal has ended, until their recorded ends.
    dead: FxHashSet<Tgid>,
    /// Those among them whose listeners nobody else has.
    deaf: FxHashSet<Tgid>,
    /// Those who have not been reaped, and the signals.
    killed: FxHashMap<Tgid, u32>,
    /// The last child of a thread, until the call returns that made it; then the children by what it returned.
    newborn: FxHashMap<u32, Tgid>,
    children: FxHashMap<(Tgid, i64), Tgid>,
    /// Children, by parent and what it knows them by, whose end a wait for any child told before its time: the one that it
    /// told of in the recording, with its status.
    put_off: FxHashMap<(Tgid, i64), (i64, u64)>,
    /// Ids that nobody has any more.
    reaped: FxHashSet<i64>,
    /// Listeners, by who accepts.
    listeners: FxHashMap<Tgid, FxHashSet<Generation>>,
    /// Events that come before those of these numbers.
    pub(super) inserted: FxHashMap<u64, Vec<Event>>,
    /// Calls whose process was ended by the signal that came with them.
    pub(super) struck: FxHashSet<u64>,
}

impl Follower {
    pub(super) fn new(snapshot: &Snapshot, foreseen: Foreseen) -> Self {
        Self {
            foreseen,
            fds: FdTracker::new(snapshot),
            unconnected: FxHashSet::default(),
            ends: FxHashMap::default(),
            by_ends: FxHashMap::default(),
            dropped: FxHashSet::default(),
            unborn: FxHashMap::default(),
            unmourned: FxHashMap::default(),
            unknown_pids: FxHashSet::default(),
            unexecuted: FxHashSet::default(),
            unnamed: Vec::new(),
            owed: FxHashMap::default(),
            unread: FxHashMap::default(),
            unsent: FxHashMap::default(),
            handling: FxHashSet::default(),
            ready: Ready::default(),
            lives: Lives::new(snapshot),
            hangups: Hangups::default(),
            fallen: 0,
            dead: FxHashSet::default(),
            deaf: FxHashSet::default(),
            killed: FxHashMap::default(),
            newborn: FxHashMap::default(),
            children: FxHashMap::default(),
            put_off: FxHashMap::default(),
            reaped: FxHashSet::default(),
            listeners: FxHashMap::default(),
            inserted: FxHashMap::default(),
            struck: FxHashSet::default(),
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
            task.is_some_and(|(tid, tgid)| self.unborn.contains_key(&tid) || self.dead.contains(&tgid));
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
            Event::Signal(signal) => absent_if(is_unborn || self.signal(signal, words)),
            _ => absent_if(is_unborn),
        }
    }

    /// A process ends by a signal that comes with a call.
    fn falls(&mut self, before: u64, death: Death) {
        let Death { ordinal, struck, signo, was_sent } = death;
        let is_there = !self.dead.contains(&struck.tgid)
            && !self.unborn.contains_key(&struck.tid.0)
            && !self.unexecuted.contains(&struck.tgid);
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
        let gone = self.fds.only_of(tgid);
        let listeners = self.listeners.remove(&tgid).unwrap_or_default();
        if listeners.iter().all(|listener| gone.iter().any(|it| it.generation == *listener)) {
            self.deaf.insert(tgid);
        }
        let ends = &self.ends;
        let reset = self.hangups.close(&gone, |cookie| ends.get(&cookie).cloned());
        for ends in reset {
            self.resets(before, struck.t_ns, &ends);
        }
        self.fds.exit(tgid);
        self.dead.insert(tgid);
        self.killed.insert(tgid, signo);
    }

    /// A connection is reset by one of its ends.
    fn resets(&mut self, before: u64, t_ns: u64, ends: &(SockAddr, SockAddr)) {
        let others = (ends.1.clone(), ends.0.clone());
        let events = self.inserted.entry(before).or_default();
        for (ends, sent) in [(ends, true), (&others, false)] {
            events.extend(self.by_ends.get(ends).map(|cookie| reset(t_ns, *cookie, ends, sent)));
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
                let handles = struck.handles(signo);
                self.inserted.entry(before).or_default().extend(handles);
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
    fn signal(&mut self, signal: &Signal, words: &(impl Known + ?Sized)) -> bool {
        let Some(to) = words.task_def(signal.task) else { return false };
        let key = (to.tgid, signal.signo);
        if !signal.delivered {
            let sender = signal.sender.and_then(|sender| words.task_def(sender));
            let mut tells_of_unborn = || {
                signal.signo == SIGCHLD
                    && signal.sender.is_none()
                    && self.unmourned.get_mut(&to.tgid).is_some_and(|left| {
                        let any = *left > 0;
                        *left -= u32::from(any);
                        any
                    })
            };
            let is_unsent = sender
                .is_some_and(|by| self.unborn.contains_key(&by.tid.0) || self.dead.contains(&by.tgid))
                || tells_of_unborn();
            if is_unsent {
                *self.unsent.entry(key).or_default() += 1;
            }
            return is_unsent;
        }
        let Some(left) = self.unsent.get_mut(&key) else { return false };
        *left -= 1;
        if *left == 0 {
            self.unsent.remove(&key);
        }
        self.handling.insert(to.tid.0);
        true
    }

    /// Whether a call is made in the handler of a signal that is not sent, the return from it included.
    fn is_in_handler(&mut self, sc: Call, tid: u32) -> bool {
        let is_in = self.handling.contains(&tid);
        if is_in && sc == Call::RtSigreturn {
            self.handling.remove(&tid);
        }
        is_in
    }

    fn process(&mut self, process: &Process, is_unborn: bool, words: &(impl Known + ?Sized)) -> Fate {
        let Some(def) = words.task_def(process.task) else { return Fate::Stays };
        let (tid, tgid) = (def.tid.0, def.tgid);
        match process.kind {
            ProcessKind::Fork { child } => {
                let Some(child) = words.task_def(child) else { return Fate::Stays };
                if child.tid.0 == child.tgid.0 {
                    self.fds.fork(tgid, child.tgid);
                    self.newborn.insert(tid, child.tgid);
                    self.killed.remove(&child.tgid);
                }
                let fails =
                    is_unborn || self.unexecuted.contains(&tgid) || self.foreseen.fails(tid, process.t_ns);
                if fails {
                    self.unborn.insert(child.tid.0, tgid);
                } else {
                    // Somebody else has the number now.
                    self.unborn.remove(&child.tid.0);
                    self.unexecuted.remove(&child.tgid);
                }
                absent_if(fails)
            }
            ProcessKind::Exec { .. } => {
                self.fds.exec(tgid);
                if !is_unborn && self.foreseen.fails(tid, process.t_ns) {
                    self.unexecuted.insert(tgid);
                }
                absent_if(is_unborn || self.unexecuted.contains(&tgid))
            }
            ProcessKind::Exit { group_dead, .. } => {
                if group_dead {
                    self.fds.exit(tgid);
                    self.dead.remove(&tgid);
                    self.deaf.remove(&tgid);
                    if let Some(parent) = self.unborn.get(&tgid.0) {
                        *self.unmourned.entry(*parent).or_default() += 1;
                    }
                }
                absent_if(is_unborn)
            }
            _ => absent_if(is_unborn || self.unexecuted.contains(&tgid)),
        }
    }

    fn connection(&mut self, connection: &Connection, is_unborn: bool) -> Fate {
        if matches!(connection.kind, ConnectionKind::State { new: TcpState::Established, .. }) {
            let ends = (connection.local.clone(), connection.peer.clone());
            self.by_ends.insert(ends.clone(), connection.cookie);
            self.ends.insert(connection.cookie, ends);
        }
        let begun = |since: Option<&u64>| since.is_some_and(|since| *since <= connection.t_ns);
        let is_ours = begun(self.foreseen.connects.get(&connection.cookie));
        let is_others = begun(self.foreseen.clients.get(&connection.peer));
        absent_if(is_unborn || is_ours || is_others || self.unconnected.contains(&connection.cookie))
    }

    #[expect(clippy::too_many_arguments, reason = "the call, who made it, what is known of it")]
    fn call(
        &mut self,
        ordinal: u64,
        call: &Syscall,
        tgid: Tgid,
        injection: Option<&Injection>,
        is_unborn: bool,
        words: &(impl Known + ?Sized),
        revise: &mut dyn FnMut(Decided),
    ) -> Fate {
        if self.dead.contains(&tgid) {
            self.moves_nothing(Call::of(call.sysno), call, words);
            return Fate::Absent;
        }
        let sc = Call::of(call.sysno);
        let way = injection.map_or(Way::Made, |injection| way(injection, sc, call));
        let fails = matches!(way, Way::Instead(_));
        // The event that tells of a new program comes before the end of the call that executed it.
        let is_the_exec = fails && sc.row().family == Family::Exec;
        let tid = words.task_def(call.task).map_or(0, |task| task.tid.0);
        let is_prevented = is_unborn
            || self.is_in_handler(sc, tid)
            || !is_the_exec && self.is_of_another_program(sc, tgid)
            || self.depends(sc, call, tgid, words);
        // One fault may prevent another.
        let fails = fails && !is_prevented;
        let mut fate = if is_prevented {
            Fate::Absent
        } else if fails {
            Fate::Stays
        } else {
            let less = self.less(sc, call, words);
            let less = self.part(sc, call, way, less, words);
            self.hung_up(ordinal, sc, call, tgid, less, words)
        };
        if let Some(injection) = injection.filter(|_| fate != Fate::Absent) {
            self.struck(ordinal, call, tgid, injection, words);
        }
        if fails {
            self.fails(sc, call, tgid, words);
        }
        if fate == Fate::Stays && !fails {
            let answers = self.ready.answers(sc, call, |fd| self.is_gone(tgid, fd, words));
            if let Some((result, without)) = answers {
                fate = if result > 0 { Fate::Other { result, without } } else { Fate::Absent };
            }
        }
        let done = if fails { &Fate::Absent } else { &fate };
        self.ready.call(ordinal, sc, call, done, revise);
        let not_made = fails || fate == Fate::Absent;
        if fate == Fate::Absent && is_prevented {
            self.moves_nothing(sc, call, words);
        }
        // It is made, and its caller does not know.
        let is_closed = matches!(way, Way::After(_));
        for change in self.fds.syscall(tgid, sc, call) {
            match change {
                Change::Opened { fd, .. } if not_made || is_closed => {
                    self.fds.set_tag(tgid, fd, NOT_MADE);
                }
                Change::Closed { last_in_table: true, .. } if !not_made && sc == Call::Close => {
                    // The kernel tells of it before the call returns.
                    self.leaves_unread(ordinal, call, words);
                }
                _ => {}
            }
        }
        if is_closed && sc.row().family == Family::Accept {
            self.drops(ordinal + 1, call);
        }
        if !not_made {
            self.took_place(ordinal + 1, sc, call, tgid, tid, &fate, words);
        }
        fate
    }

    /// A connection that is closed with bytes in it that a fault has left there is reset (`tcp_close`, net/ipv4/tcp.c).
    fn leaves_unread(&mut self, before: u64, call: &Syscall, words: &(impl Known + ?Sized)) {
        let cookie = call.object.and_then(|object| words.cookie(object));
        let Some((own, other)) = cookie.and_then(|cookie| self.ends.get(&cookie)).cloned() else { return };
        if self.unread.contains_key(&Stream::Socket(other.clone(), own.clone())) {
            self.resets(before, call.t_ns.saturating_add(call.duration_ns), &(own, other));
        }
    }

    /// A connection is dropped when it is accepted.
    fn drops(&mut self, before: u64, call: &Syscall) {
        let Some(client) = client(call) else { return };
        let Some(ends) = self.by_ends.keys().find(|(_, other)| other == client).cloned() else { return };
        let theirs = (ends.1.clone(), ends.0.clone());
        if self.hangups.has_sent(&Stream::Socket(theirs.0.clone(), theirs.1.clone())) {
            self.resets(before, call.t_ns.saturating_add(call.duration_ns), &ends);
        } else {
            self.dropped.insert(theirs);
        }
    }

    /// Keeps what is needed should a process end.
    #[expect(
        clippy::too_many_arguments,
        reason = "the call, who made it, what becomes of it, what is known of it"
    )]
    fn took_place(
        &mut self,
        before: u64,
        sc: Call,
        call: &Syscall,
        tgid: Tgid,
        tid: u32,
        fate: &Fate,
        words: &(impl Known + ?Sized),
    ) {
        let row = sc.row();
        if row.family == Family::Clone
            && call.ret > 0
            && let Some(child) = self.newborn.remove(&tid)
        {
            self.reaped.remove(&call.ret);
            self.children.insert((tgid, call.ret), child);
        }
        if matches!(row.family, Family::Accept | Family::Listen) {
            let listener = self.fds.get(tgid, call.args[0] as i32).map(|it| it.generation);
            self.listeners.entry(tgid).or_default().extend(listener);
        }
        self.hangups.note(tgid, sc, call, &self.fds, words);
        let moved = match fate {
            Fate::Other { result, .. } => *result,
            _ => call.moved() as i64,
        };
        if moved <= 0 || call.flags.contains(SyscallFlags::NO_EXIT) {
            return;
        }
        if row.reads != 0
            && let Some(stream) = self.stream(call, false, words)
        {
            self.hangups.moved(stream, -moved);
        }
        if row.writes != 0
            && let Some(stream) = self.stream(call, true, words)
        {
            if let Stream::Socket(own, other) = &stream
                && self.dropped.remove(&(own.clone(), other.clone()))
            {
                let t_ns = call.t_ns.saturating_add(call.duration_ns);
                self.resets(before, t_ns, &(other.clone(), own.clone()));
            }
            self.hangups.moved(stream, moved);
        }
    }

    /// A call that moves a part of its bytes leaves the others to be read, or does not write them.
    fn part(
        &mut self,
        sc: Call,
        call: &Syscall,
        way: Way,
        fate: Fate,
        words: &(impl Known + ?Sized),
    ) -> Fate {
        let Way::Part(part) = way else { return fate };
        if fate != Fate::Stays {
            return fate;
        }
        let rest = Syscall { ret: call.ret.saturating_sub_unsigned(part), ..call.clone() };
        self.moves_nothing(sc, &rest, words);
        Fate::Other { result: part as i64, without: Vec::new() }
    }

    /// A wait tells of a child that a signal of a fault has ended. One for any child does so as soon as there is such a child, and
    /// the other child is told of later.
    fn reaps(&mut self, call: &Syscall, tgid: Tgid) -> Option<Fate> {
        const ANY: i32 = -1;
        let status = call.details.iter().find_map(|detail| match detail {
            Detail::Value { arg: 1, value } => Some(*value),
            _ => None,
        });
        if let Some((child, status)) = self.put_off.remove(&(tgid, call.ret)) {
            return Some(Fate::Reaps { child, status });
        }
        let of = |number: i64| self.children.get(&(tgid, number)).copied();
        let told = of(call.ret).unwrap_or(Tgid(call.ret as u32));
        if let Some(signo) = self.killed.remove(&told) {
            self.reaped.insert(call.ret);
            return Some(Fate::Reaps { child: call.ret, status: signo.into() });
        }
        let is_any = call.args[0] as i32 == ANY;
        let is_own = |number: &i64| of(*number).is_some_and(|child| self.killed.contains_key(&child));
        let own = self.children.keys().filter(|(parent, _)| *parent == tgid).map(|(_, number)| *number);
        let first = own.filter(is_own).min().filter(|_| is_any)?;
        let signo = self.killed.remove(&of(first)?)?;
        self.reaped.insert(first);
        self.put_off.insert((tgid, first), (call.ret, status.unwrap_or(0)));
        Some(Fate::Reaps { child: first, status: signo.into() })
    }

    /// The result of a call whose other end is gone, and of a wait whose child is.
    fn hung_up(
        &mut self,
        ordinal: u64,
        sc: Call,
        call: &Syscall,
        tgid: Tgid,
        fate: Fate,
        words: &(impl Known + ?Sized),
    ) -> Fate {
        let row = sc.row();
        match row.family {
            Family::Wait if call.ret > 0 => return self.reaps(call, tgid).unwrap_or(fate),
            Family::Kill if call.ret == 0 && self.reaped.contains(&i64::from(call.args[0] as i32)) => {
                return Fate::Gone { result: ESRCH };
            }
            Family::Connect if call.ret == 0 || call.ret == EINPROGRESS => {
                let own = call.details.iter().find_map(|detail| match detail {
                    Detail::Local { addr } => Some(addr),
                    _ => None,
                });
                let acceptor = own.and_then(|own| self.foreseen.acceptors.get(own));
                if acceptor.is_none_or(|acceptor| !self.deaf.contains(acceptor)) {
                    return fate;
                }
                let cookie = call.object.and_then(|object| words.cookie(object));
                self.unconnected.extend(cookie);
                return Fate::Refused;
            }
            _ => {}
        }
        if self.hangups.is_empty() || fate == Fate::Absent && row.reads == 0 {
            return fate;
        }
        let mut finds = Finds::Same;
        if row.reads != 0
            && let Some(stream) = self.stream(call, false, words)
        {
            let is_over = !call.flags.contains(SyscallFlags::NO_EXIT);
            let gets = match &fate {
                Fate::Other { result, .. } => result.unsigned_abs(),
                Fate::Absent => 0,
                _ if is_over => call.moved(),
                _ => 0,
            };
            finds = self.hangups.reads(&stream, if is_over { call.ret } else { 0 }, gets);
        }
        if finds == Finds::Same
            && row.writes != 0
            && let Some(stream) = self.stream(call, true, words)
        {
            finds = self.hangups.writes(sc, call, &stream);
            if let (Finds::First, Stream::Socket(own, other)) = (finds, &stream) {
                let t_ns = call.t_ns.saturating_add(call.duration_ns);
                self.resets(ordinal + 1, t_ns, &(other.clone(), own.clone()));
            }
        }
        match finds {
            Finds::Same | Finds::First => fate,
            Finds::Known => Fate::Absent,
            Finds::Result(result) if result == call.ret && fate == Fate::Stays => fate,
            Finds::Result(0) => Fate::Other { result: 0, without: Vec::new() },
            Finds::Result(result) => Fate::Gone { result },
            Finds::Broken(result) => {
                self.takes(ordinal + 1, call, tgid, SIGPIPE, words);
                Fate::Gone { result }
            }
        }
    }

    /// After an exec that fails, a process ends: how it ended is all that is known of it.
    fn is_of_another_program(&self, sc: Call, tgid: Tgid) -> bool {
        self.unexecuted.contains(&tgid) && sc.row().family != Family::Exit
    }

    /// Whether a call is about something that is not there.
    fn depends(&mut self, sc: Call, call: &Syscall, tgid: Tgid, words: &(impl Known + ?Sized)) -> bool {
        let row = sc.row();
        let args = row.args.unwrap_or_default();
        for (i, (_, kind)) in args.iter().enumerate().take(call.args.len()) {
            let fd = call.args[i] as i32;
            // The number that `dup2` makes is given by its second argument, whatever had it before.
            let is_target = matches!(sc, Call::Dup2 | Call::Dup3) && i == 1;
            if fd >= 0
                && !is_target
                && matches!(kind, Kind::Fd | Kind::DirFd)
                && self.fds.meant(tgid, sc, fd, call).is_some_and(|descriptor| descriptor.tag == NOT_MADE)
            {
                return true;
            }
        }
        match row.family {
            Family::Accept => {
                let since = client(call).and_then(|client| self.foreseen.clients.get(client));
                if since.is_some_and(|since| *since <= call.t_ns.saturating_add(call.duration_ns)) {
                    return true;
                }
            }
            // One that had begun is told of; one that is tried again after it failed has another outcome.
            Family::Connect => {
                let cookie = call.object.and_then(|object| words.cookie(object));
                if cookie.is_some_and(|cookie| self.unconnected.contains(&cookie)) {
                    return true;
                }
            }
            Family::Wait if call.ret > 0 => return self.unknown_pids.contains(&call.ret),
            Family::Kill => return self.unknown_pids.contains(&i64::from(call.args[0] as i32)),
            _ if self.needs_connection(sc) => {
                let cookie = call.object.and_then(|object| words.cookie(object));
                return cookie.is_some_and(|cookie| self.unconnected.contains(&cookie));
            }
            _ => {}
        }
        self.uses_unmade_name(sc, call, words)
    }

    /// Whether a call is about the connection of a socket, rather than about the socket.
    #[expect(clippy::unused_self, reason = "alike its siblings")]
    fn needs_connection(&self, sc: Call) -> bool {
        matches!(
            sc.row().family,
            Family::Receive | Family::Send | Family::Transfer | Family::Shutdown | Family::EpollCtl
        ) || sc == Call::Getpeername
    }

    /// A wait does not report what is not there.
    fn is_gone(&self, tgid: Tgid, fd: i32, words: &(impl Known + ?Sized)) -> bool {
        self.fds.get(tgid, fd).is_some_and(|descriptor| {
            descriptor.tag == NOT_MADE
                || descriptor
                    .object
                    .and_then(|object| words.cookie(object))
                    .is_some_and(|cookie| self.unconnected.contains(&cookie))
        })
    }

    fn uses_unmade_name(&mut self, sc: Call, call: &Syscall, words: &(impl Known + ?Sized)) -> bool {
        if self.unnamed.is_empty() || call.ret < 0 {
            return false;
        }
        let made = made_name(sc, call, words);
        let mut uses = false;
        for name in paths(sc, call, words) {
            let is_below = |unmade: &Vec<u8>| {
                name.strip_prefix(unmade.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            };
            if made == Some(name) {
                self.unnamed.retain(|unmade| unmade.as_slice() != name);
            }
            uses |= self.unnamed.iter().any(is_below);
        }
        uses
    }

    /// Remembers everything that does not come about because a call fails.
    fn fails(&mut self, sc: Call, call: &Syscall, tgid: Tgid, words: &(impl Known + ?Sized)) {
        let row = sc.row();
        let unfinished = call.flags.contains(SyscallFlags::NO_EXIT);
        if unfinished || call.ret < 0 && row.family != Family::Connect {
            return;
        }
        match row.family {
            Family::Connect => {
                let cookie = call.object.and_then(|object| words.cookie(object));
                // Else a call before it began the connection.
                if let Some(cookie) = cookie.filter(|cookie| self.foreseen.connects.contains_key(cookie)) {
                    self.unconnected.insert(cookie);
                }
            }
            Family::Clone if call.ret > 0 => {
                self.unknown_pids.insert(call.ret);
            }
            Family::Exec => {
                self.unexecuted.insert(tgid);
            }
            _ => {}
        }
        if let Some(name) = made_name(sc, call, words) {
            self.unnamed.push(name.to_vec());
        }
        self.moves_nothing(sc, call, words);
    }

    /// Bytes that a call does not move: they are not there for who reads them, or still there for who reads next.
    fn moves_nothing(&mut self, sc: Call, call: &Syscall, words: &(impl Known + ?Sized)) {
        let row = sc.row();
        if call.flags.contains(SyscallFlags::NO_EXIT) || call.ret <= 0 {
            return;
        }
        if row.reads != 0
            && let Some(stream) = self.stream(call, false, words)
        {
            *self.unread.entry(stream).or_default() += call.moved();
        }
        if row.writes != 0
            && let Some(stream) = self.stream(call, true, words)
        {
            *self.owed.entry(stream).or_default() += call.moved();
        }
    }

    /// A read gets less when less was written, and more when one before it failed.
    fn less(&mut self, sc: Call, call: &Syscall, words: &(impl Known + ?Sized)) -> Fate {
        let nothing_to_do = self.owed.is_empty() && self.unread.is_empty();
        if nothing_to_do || sc.row().reads == 0 || call.flags.contains(SyscallFlags::NO_EXIT) {
            return Fate::Stays;
        }
        let Some(stream) = self.stream(call, false, words) else { return Fate::Stays };
        let had = call.moved();
        let lacks = take(&mut self.owed, &stream, had);
        let asked = asked(sc, call).unwrap_or(had).max(had);
        let gets = had - lacks + take(&mut self.unread, &stream, asked - (had - lacks));
        match gets {
            _ if gets == had => Fate::Stays,
            // It is the end of the stream that is read next, whether that is there or not.
            0 => Fate::Absent,
            _ => Fate::Other { result: gets as i64, without: Vec::new() },
        }
    }

    /// The bytes that a call writes, or reads.
    fn stream(&self, call: &Syscall, writes: bool, words: &(impl Known + ?Sized)) -> Option<Stream> {
        match words.object_def(call.object?)? {
            Object::Pipe { ino } => Some(Stream::Pipe(*ino)),
            Object::Socket { cookie, local, peer, kind: SOCK_STREAM, .. } => {
                let known = self.ends.get(cookie).map(|(own, other)| (own.clone(), other.clone()));
                let (own, other) = known.or_else(|| Some((local.clone()?, peer.clone()?)))?;
                Some(if writes { Stream::Socket(own, other) } else { Stream::Socket(other, own) })
            }
            _ => None,
        }
    }
}

/// Takes at most so much of what there is.
fn take(of: &mut FxHashMap<Stream, u64>, stream: &Stream, most: u64) -> u64 {
    let Some(left) = of.get_mut(stream) else { return 0 };
    let taken = most.min(*left);
    *left -= taken;
    if *left == 0 {
        of.remove(stream);
    }
    taken
}

/// How many bytes a read has room for.
fn asked(sc: Call, call: &Syscall) -> Option<u64> {
    match sc {
        Call::Read | Call::Recvfrom => Some(call.args[2]),
        _ => call.details.iter().find_map(|detail| match detail {
            Detail::Iov { bytes, .. } => Some(*bytes),
            _ => None,
        }),
    }
}

const fn absent_if(absent: bool) -> Fate {
    if absent { Fate::Absent } else { Fate::Stays }
}

/// The paths that a call names.
fn paths<'w, K: Known + ?Sized>(sc: Call, call: &'w Syscall, words: &'w K) -> impl Iterator<Item = &'w [u8]> {
    let args = sc.row().args.unwrap_or_default();
    call.details.iter().filter_map(move |detail| match detail {
        Detail::Str { arg, value } if matches!(args.get(usize::from(*arg)), Some((_, Kind::Path))) => {
            words.string(*value)
        }
        _ => None,
    })
}

/// The name that a call that succeeded made.
fn made_name<'w, K: Known + ?Sized>(sc: Call, call: &'w Syscall, words: &'w K) -> Option<&'w [u8]> {
    let makes = match sc {
        Call::Unlink | Call::Unlinkat | Call::Rmdir => false,
        _ => sc.row().renames || call.details.contains(&Detail::Created),
    };
    paths(sc, call, words).last().filter(|_| makes && call.ret >= 0)
}
