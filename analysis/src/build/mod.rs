//! From events to a [`Model`]: one pass, a state machine per process, thread, descriptor and stream.

mod held;
mod lookups;
mod operations;
mod order;
mod series;
mod spent;
mod targets;
mod waits;

pub(crate) use lookups::{Answer, Lookup};

use crate::busy::Busy;
use crate::conn::{Conn, Side};
use crate::connects::Connected;
use crate::fds::{Change, FdTracker, Generation};
use crate::model::{BIN_NS, Held, Hung, Missing, Model, Origin, OutcomeStat, Process, Thread};
use crate::names::{NameId, Names, lossy};
use crate::order::Place;
use crate::seq::Seq;
use crate::symbol::{self, Kind, OpClass, Outcome, Symbol};
use ctrace_format::syscalls::Call as Sc;
use ctrace_format::{
    Connection, ConnectionKind, Event, FidelityLevel, Metric, ObjectId, ProcessKind, Resource, SockAddr,
    StrId, Syscall, SyscallFlags, Sysno, TaskDef, TaskId, TcpState, Tgid, Trace, syscalls,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use waits::Waits;

/// Bytes of arguments that are kept of all processes together, and what a word takes besides its own.
const MAX_ARGV_BYTES: usize = 64 << 20;
const WORD_BYTES: usize = 32;
/// Longest path and longest task name that is kept; the kernel's have 4,095 and 15 bytes, or 63 (kernel threads).
const PATH_MAX: usize = 4096;
const COMM_MAX: usize = 64;

fn clipped(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}

/// Kills for lack of memory that are kept.
const MAX_OOM_KILLS: usize = 1024;

const SOCK_STREAM: u16 = 1;
const SOCK_SEQPACKET: u16 = 5;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

#[derive(Debug, Clone)]
struct Call {
    name: NameId,
    sc: Sc,
    kind: Kind,
    class: OpClass,
    /// Which argument is the descriptor.
    fd: Option<usize>,
}

/// What the model knows about a socket while it lives.
#[derive(Debug, Clone)]
struct Sock {
    family: u16,
    kind: u16,
    side: Side,
    local: Option<SockAddr>,
    peer: Option<SockAddr>,
    name: NameId,
    /// Its connection was reset, perhaps before anybody accepted it.
    reset: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Identity {
    Socket(u64),
    /// An end of a pipe, by inode and description: what a process writes into a pipe that it reads itself is another stream
    /// than what it reads, and the two take turns by chance.
    Pipe(u64, Generation),
    Stdio(u8),
}

impl Identity {
    /// The least.
    const FIRST: Self = Self::Socket(0);
}

/// What an operation works on.
#[derive(Debug, Clone, Copy)]
struct Target {
    name: NameId,
    stream: Option<Identity>,
}

pub(crate) struct Builder<'a> {
    trace: &'a Trace,
    /// CPUs whose calls are not recorded in full at the moment.
    reduced: BTreeSet<u32>,
    pids: FxHashSet<u32>,
    names: Names,
    symbols: Vec<Symbol>,
    symbol_index: FxHashMap<Symbol, u32>,
    stats: Vec<OutcomeStat>,
    calls: FxHashMap<Sysno, Call>,
    fds: FdTracker,
    threads: Vec<Thread>,
    thread_of_task: Vec<Option<usize>>,
    /// The last thread of a thread id.
    thread_index: FxHashMap<u32, usize>,
    /// When threads ended.
    ended: FxHashMap<usize, u64>,
    processes: Vec<Process>,
    live: FxHashMap<u32, usize>,
    conns: Vec<Conn>,
    conn_index: BTreeMap<(usize, Identity), usize>,
    /// Open streams of a socket, one per process that uses it.
    of_socket: FxHashMap<u64, Vec<usize>>,
    socks: FxHashMap<u64, Sock>,
    /// Sockets that no process that used them has any more, oldest first.
    unused: VecDeque<u64>,
    /// Ports on which the scope listens.
    listening: FxHashSet<u16>,
    file_names: FxHashMap<ObjectId, NameId>,
    paths: FxHashMap<StrId, NameId>,
    resources: BTreeMap<Metric, Vec<(u64, u64)>>,
    busy: Busy,
    hung: Vec<(Hung, TaskId)>,
    missing: Missing,
    /// Arguments that were seen, and what they take.
    argvs: FxHashMap<Box<[StrId]>, Arc<[String]>>,
    argv_bytes: usize,
    n_calls: u64,
    n_engine: u64,
    n_noise: u64,
    n_filtered: u64,
    n_emulated: u64,
    first_ns: Option<u64>,
    last_ns: u64,
    waits: Waits,
    costs: crate::costs::Costs,
    connects: crate::connects::Connects,
    /// The call at hand is no attempt to connect of its own.
    learns: bool,
    /// An attempt that began earlier ends with the call at hand.
    tells: bool,
    /// Whether questions for names were seen as such.
    asked_names: bool,
    lookups: lookups::Lookups,
    oom_kills: Vec<usize>,
    /// Descriptors that were looked at when their processes ended.
    looked_at: usize,
    order: order::Order,
    /// Where the operation is that the call at hand became.
    last_place: Option<Place>,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        let mut pids: FxHashSet<u32> = trace.tasks().iter().flat_map(|t| [t.tid.0, t.tgid.0]).collect();
        pids.extend(trace.snapshot().processes.iter().flat_map(|p| p.ns_pids.iter().copied()));
        let mut builder = Self {
            trace,
            reduced: BTreeSet::new(),
            pids,
            names: Names::default(),
            symbols: Vec::new(),
            symbol_index: FxHashMap::default(),
            stats: Vec::new(),
            calls: FxHashMap::default(),
            fds: FdTracker::new(trace.snapshot()),
            looked_at: 0,
            threads: Vec::new(),
            thread_of_task: Vec::new(),
            thread_index: FxHashMap::default(),
            ended: FxHashMap::default(),
            processes: Vec::new(),
            live: FxHashMap::default(),
            conns: Vec::new(),
            conn_index: BTreeMap::new(),
            of_socket: FxHashMap::default(),
            socks: FxHashMap::default(),
            unused: VecDeque::new(),
            listening: FxHashSet::default(),
            file_names: FxHashMap::default(),
            paths: FxHashMap::default(),
            resources: BTreeMap::new(),
            busy: Busy::default(),
            hung: Vec::new(),
            missing: Missing { lacks: ctrace_format::Lack::of(trace.header()), ..Missing::default() },
            argvs: FxHashMap::default(),
            argv_bytes: 0,
            n_calls: 0,
            n_engine: 0,
            n_noise: 0,
            n_filtered: 0,
            n_emulated: 0,
            first_ns: None,
            last_ns: 0,
            waits: Waits::default(),
            costs: crate::costs::Costs::default(),
            connects: crate::connects::Connects::new(),
            learns: false,
            tells: false,
            asked_names: false,
            lookups: lookups::Lookups::default(),
            oom_kills: Vec::new(),
            order: order::Order::default(),
            last_place: None,
        };
        builder.take_snapshot();
        builder
    }

    fn take_snapshot(&mut self) {
        for p in &self.trace.snapshot().processes {
            let parent = self.live.get(&p.parent.0).copied();
            let index = self.new_process(p.tgid.0, parent, 0);
            let process = &mut self.processes[index];
            process.exe = lossy(clipped(&p.exe, PATH_MAX)).as_ref().into();
            process.argv = p.argv.iter().map(|a| lossy(a).into_owned()).collect();
            process.start_fds = p.fds.len();
            process.max_fds = p.fds.len();
            if let Some(leader) = p.threads.first() {
                process.comm = lossy(clipped(&leader.comm, COMM_MAX)).into_owned();
            }
            for fd in &p.fds {
                if let ctrace_format::FdTarget::Socket {
                    cookie, family, kind, listening, local, peer, ..
                } = &fd.target
                    && *cookie != 0
                {
                    if let (Some(_), Some(SockAddr::Inet(addr))) = (listening, local) {
                        self.listening.insert(addr.port());
                    }
                    let side = if listening.is_some() { Side::Listener } else { Side::Unknown };
                    self.socks.insert(
                        *cookie,
                        Sock {
                            family: *family,
                            kind: *kind,
                            side,
                            local: local.clone(),
                            peer: peer.clone(),
                            name: NameId::default(),
                            reset: false,
                        },
                    );
                }
            }
        }
        // An ephemeral port belongs to one connection: what several share as their own is a server's.
        let mut shared: FxHashMap<u16, u32> = FxHashMap::default();
        for sock in self.socks.values() {
            if let (Some(SockAddr::Inet(local)), Some(SockAddr::Inet(_))) = (&sock.local, &sock.peer) {
                *shared.entry(local.port()).or_default() += 1;
            }
        }
        self.listening.extend(shared.into_iter().filter(|(_, n)| *n > 1).map(|(port, _)| port));
        let cookies: Vec<u64> = self.socks.keys().copied().collect();
        for cookie in cookies {
            self.rename(cookie);
        }
    }

    fn new_process(&mut self, tgid: u32, parent: Option<usize>, start_ns: u64) -> usize {
        let index = self.processes.len();
        let (exe, argv, comm) = parent.map_or_else(
            || (Arc::from(""), Arc::default(), String::new()),
            |p| {
                let p = &self.processes[p];
                (Arc::clone(&p.exe), Arc::clone(&p.argv), p.comm.clone())
            },
        );
        self.processes.push(Process {
            tgid,
            parent,
            exe,
            argv,
            comm,
            role: String::new(),
            ordinal: 1,
            start_ns,
            exit: None,
            threads: Vec::new(),
            start_fds: 0,
            max_fds: 0,
            end_fds: 0,
            held: Held::default(),
            counts: FxHashMap::default(),
        });
        self.live.insert(tgid, index);
        index
    }

    /// The thread of a task, made when it is new.
    fn thread(&mut self, task: TaskId) -> usize {
        if let Some(Some(index)) = self.thread_of_task.get(task.0 as usize) {
            return *index;
        }
        let def = self.trace.task(task);
        // Another name, or the last words of a task that has ended, are still the same thread; a later start under the
        // id of a task that has ended is not.
        let known = self.thread_index.get(&def.tid.0).copied().filter(|index| {
            let ended = self.ended.get(index).copied();
            ended.is_none_or(|ended| def.start_ns <= ended)
        });
        let index = known.unwrap_or_else(|| self.new_thread(def));
        self.adopt(task, index);
        index
    }

    /// The thread of a task that has done something.
    fn known_thread(&self, task: TaskId) -> Option<usize> {
        let known = self.thread_of_task.get(task.0 as usize).copied().flatten();
        known.or_else(|| self.thread_index.get(&self.trace.task(task).tid.0).copied())
    }

    fn new_thread(&mut self, def: &TaskDef) -> usize {
        let process = match self.live.get(&def.tgid.0) {
            Some(p) => *p,
            None => self.new_process(def.tgid.0, None, def.start_ns),
        };
        let index = self.threads.len();
        self.threads.push(Thread {
            tid: def.tid.0,
            process,
            comm: String::new(),
            role: String::new(),
            ordinal: 1,
            first_ns: u64::MAX,
            last_ns: 0,
            calls: 0,
            seq: Seq::default(),
        });
        let threads = &mut self.processes[process].threads;
        threads.push(index);
        if def.tid.0 == def.tgid.0 {
            // The leader comes first; whoever was there before was taken for it.
            let last = threads.len() - 1;
            threads.swap(0, last);
        }
        self.thread_index.insert(def.tid.0, index);
        index
    }

    /// A task of the dictionary is this thread, under the name it has there.
    fn adopt(&mut self, task: TaskId, index: usize) {
        let def = self.trace.task(task);
        let comm = lossy(clipped(self.trace.str(def.comm), COMM_MAX));
        if !comm.is_empty() {
            let process = self.threads[index].process;
            if def.tid.0 == def.tgid.0 {
                self.processes[process].comm = comm.clone().into_owned();
            }
            if def.tid.0 != def.tgid.0 {
                let label = self.names.fixed(&crate::roles::letters(&comm));
                self.costs.name(index, label);
            }
            self.threads[index].comm = comm.into_owned();
        }
        if self.thread_of_task.len() <= task.0 as usize {
            self.thread_of_task.resize(task.0 as usize + 1, None);
        }
        self.thread_of_task[task.0 as usize] = Some(index);
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Dns(d) => self.spent_on_name(d),
            Event::Process(ctrace_format::Process { task, kind: ProcessKind::OomKill { .. }, .. })
                if self.oom_kills.len() < MAX_OOM_KILLS =>
            {
                // The kernel may choose somebody outside of what is recorded.
                if let Some(thread) = self.known_thread(*task) {
                    self.oom_kills.push(self.threads[thread].process);
                }
            }
            _ => {}
        }
        match event {
            Event::Syscall(s) => {
                let connected = self.observe(event);
                self.learns = connected.as_ref().is_none_or(|connected| connected.waited);
                self.tells = connected.as_ref().is_some_and(|c| c.waited && !c.gave_up);
                self.syscall(s);
                self.connects(connected);
            }
            Event::Process(p) if p.kind.is_life() => self.process(p),
            Event::Connection(c) => {
                self.connection(c);
                let connected = self.observe(event);
                self.connects(connected);
            }
            Event::Resource(r) => self.resource(*r),
            Event::Usage(usage) => self.busy.usage(usage),
            Event::Loss(l) => {
                *self.missing.by_class.entry(l.class).or_default() += l.count;
                *self.missing.by_cause.entry(l.cause).or_default() += l.count;
                self.missing.lost = self.missing.lost.saturating_add(l.count);
            }
            Event::Aggregate(a) if !a.flags.contains(SyscallFlags::ENGINE) => {
                self.missing.aggregated = self.missing.aggregated.saturating_add(a.count);
            }
            Event::Fidelity(change) if change.to == FidelityLevel::Full => {
                self.reduced.remove(&change.cpu);
            }
            Event::Fidelity(change) => {
                self.reduced.insert(change.cpu);
            }
            _ => {}
        }
    }

    fn process(&mut self, p: &ctrace_format::Process) {
        self.last_ns = self.last_ns.max(p.t_ns);
        let thread = self.thread(p.task);
        let process = self.threads[thread].process;
        match &p.kind {
            ProcessKind::Fork { child } => {
                let def = self.trace.task(*child);
                if def.tid.0 == def.tgid.0 && def.tgid.0 != self.processes[process].tgid {
                    self.fds.fork(Tgid(self.processes[process].tgid), def.tgid);
                    let child = self.new_process(def.tgid.0, Some(process), p.t_ns);
                    let open = self.fds.open_count(def.tgid);
                    self.processes[child].start_fds = open;
                    self.processes[child].max_fds = open;
                }
                // Whoever had the id before has ended.
                let child_thread = self.new_thread(def);
                self.adopt(*child, child_thread);
                self.order.forks(thread, child_thread);
            }
            ProcessKind::Exec { path, argv, .. } => {
                let words = self.words(argv);
                let path = lossy(clipped(self.trace.str(*path), PATH_MAX)).as_ref().into();
                let tgid = Tgid(self.processes[process].tgid);
                self.processes[process].exe = path;
                self.processes[process].argv = words;
                for change in self.fds.exec(tgid) {
                    self.closed(process, change, p.t_ns);
                }
            }
            ProcessKind::Exit { status, group_dead } => {
                self.ended.insert(thread, p.t_ns);
                if *group_dead && self.processes[process].exit.is_none() {
                    self.processes[process].exit = Some((p.t_ns, *status));
                    let leader = self.processes[process].threads.first().copied().unwrap_or(thread);
                    let call = self.names.fixed("exit");
                    let symbol = self.symbol(Symbol {
                        call,
                        object: NameId::default(),
                        outcome: Outcome::of_end(*status),
                        qualifier: 0,
                        size: 0,
                        class: OpClass::Process,
                    });
                    self.note(symbol, p.t_ns, 0, process);
                    let waited = self.waits.of_thread(leader);
                    let at = self.threads[leader].seq.push(symbol, p.t_ns, 0, waited);
                    self.order.ends(self.processes[process].tgid, Place::of_thread(leader, at));
                    self.end_process(process, p.t_ns);
                }
            }
            _ => {}
        }
    }

    /// The text of arguments; none when all that is kept of them has become too much.
    fn words(&mut self, argv: &[StrId]) -> Arc<[String]> {
        if let Some(known) = self.argvs.get(argv) {
            return Arc::clone(known);
        }
        let bytes: usize = argv.iter().map(|word| self.trace.str(*word).len() + WORD_BYTES).sum();
        self.argv_bytes = self.argv_bytes.saturating_add(bytes);
        if self.argv_bytes > MAX_ARGV_BYTES {
            return Arc::default();
        }
        let words: Arc<[String]> = argv.iter().map(|w| lossy(self.trace.str(*w)).into_owned()).collect();
        self.argvs.insert(argv.into(), Arc::clone(&words));
        words
    }

    fn end_process(&mut self, process: usize, t_ns: u64) {
        let tgid = self.processes[process].tgid;
        self.spent_by(process);
        if self.live.get(&tgid) == Some(&process) {
            self.live.remove(&tgid);
        }
        self.processes[process].end_fds = self.fds.open_count(Tgid(tgid));
        self.processes[process].held = self.held(process);
        self.fds.exit(Tgid(tgid));
        let open: Vec<(usize, Identity)> = self
            .conn_index
            .range((process, Identity::FIRST)..)
            .map(|(key, _)| *key)
            .take_while(|(p, _)| *p == process)
            .collect();
        for key in open {
            self.end_conn(key, true, t_ns);
        }
    }

    fn connection(&mut self, c: &Connection) {
        let cookie = c.cookie.0;
        let sock = self.socks.entry(cookie).or_insert_with(|| Sock {
            family: if matches!(&c.local, SockAddr::Inet(a) if a.is_ipv6()) { AF_INET6 } else { AF_INET },
            kind: SOCK_STREAM,
            side: Side::Unknown,
            local: None,
            peer: None,
            name: NameId::default(),
            reset: false,
        });
        // A listener answers what belongs to no connection with a reset, and goes on (`tcp_rcv_state_process`,
        // net/ipv4/tcp_input.c).
        let resets = matches!(c.kind, ConnectionKind::ResetReceived | ConnectionKind::ResetSent)
            && targets::is_set(&c.peer)
            && sock.side != Side::Listener;
        sock.reset |= resets;
        if let ConnectionKind::State { old, new, .. } = &c.kind {
            let side = match (old, new) {
                (TcpState::SynSent, _) | (_, TcpState::SynSent) => Some(Side::Client),
                (TcpState::SynRecv | TcpState::NewSynRecv, _)
                | (_, TcpState::SynRecv | TcpState::NewSynRecv) => Some(Side::Server),
                (_, TcpState::Listen) => Some(Side::Listener),
                _ => None,
            };
            if let Some(side) = side
                && sock.side == Side::Unknown
            {
                sock.side = side;
            }
        }
        if targets::is_set(&c.local) {
            sock.local = Some(c.local.clone());
        }
        if targets::is_set(&c.peer) {
            sock.peer = Some(c.peer.clone());
        }
        self.rename(cookie);
        let open = self.of_socket.get(&cookie).cloned().unwrap_or_default();
        for conn in open {
            match &c.kind {
                ConnectionKind::ResetReceived | ConnectionKind::ResetSent if resets => {
                    self.conns[conn].reset();
                }
                ConnectionKind::Retransmit => self.conns[conn].retransmits += 1,
                _ => {}
            }
        }
    }

    /// What an event says of attempts to connect.
    fn observe(&mut self, event: &Event) -> Option<Connected> {
        let trace = self.trace;
        self.connects.observe(event, |object| match trace.object(object) {
            ctrace_format::Object::Socket { cookie, .. } => Some(*cookie),
            _ => None,
        })
    }

    /// An attempt to connect that its call did not wait for came to its end.
    fn connects(&mut self, connected: Option<Connected>) {
        let Some(connected) = connected else { return };
        // What a program gives up on it may as well have been answered a moment later.
        let Some(cookie) = connected.cookie.filter(|_| connected.waited && !connected.gave_up) else {
            return;
        };
        let process = connected.task.map(|task| self.thread(task)).map(|thread| self.threads[thread].process);
        let users = self.of_socket.get(&cookie.0).map_or(&[][..], Vec::as_slice);
        let own = users.iter().find(|conn| process.is_none_or(|p| self.conns[**conn].process == p));
        let Some(conn) = own.or(users.first()).copied() else { return };
        let outcome = match connected.error {
            None => Outcome::Ok,
            Some(errno) => {
                self.conns[conn].fail(errno);
                Outcome::Errno(errno)
            }
        };
        self.conns[conn].is_told = true;
        self.spent_connecting(conn, connected.took_ns);
        let (process, object) = (self.conns[conn].process, self.conns[conn].name);
        let call = self.names.fixed("connect");
        let symbol = Symbol { call, object, outcome, qualifier: 1, size: 0, class: OpClass::Network };
        let symbol = self.symbol(symbol);
        let t_ns = connected.end_ns();
        self.note(symbol, t_ns, connected.took_ns, process);
        self.conns[conn].seq.push(symbol, t_ns, connected.took_ns, self.waits.of_run());
    }

    fn resource(&mut self, r: Resource) {
        if r.subject == 1 {
            self.busy.sample(&r);
            self.resources.entry(r.metric).or_default().push((r.t_ns, r.value));
        }
    }

    fn call(&mut self, sysno: Sysno) -> Call {
        if let Some(call) = self.calls.get(&sysno) {
            return call.clone();
        }
        let text = syscalls::name(sysno).unwrap_or("");
        let name = if text.is_empty() {
            self.names.fixed(&format!("syscall_{}_{}", sysno.abi.name(), sysno.nr))
        } else {
            self.names.fixed(text)
        };
        let sc = Sc::named(text);
        let row = sc.row();
        let (kind, class) = (row.family, row.topic);
        let fd = row
            .args
            .and_then(|args| args.iter().position(|(_, k)| *k == syscalls::Kind::Fd))
            .filter(|i| *i == 0 || kind == Kind::Mmap);
        let call = Call { name, sc, kind, class, fd };
        self.calls.insert(sysno, call.clone());
        call
    }

    fn symbol(&mut self, symbol: Symbol) -> u32 {
        if let Some(id) = self.symbol_index.get(&symbol) {
            return *id;
        }
        let id = self.symbols.len() as u32;
        self.symbols.push(symbol);
        self.stats.push(OutcomeStat::default());
        self.symbol_index.insert(symbol, id);
        id
    }

    /// Remembers what became of an operation that was one call.
    fn note_call(&mut self, symbol: u32, s: &Syscall, process: usize) {
        self.note(symbol, s.t_ns, s.duration_ns, process);
        let stat = &mut self.stats[symbol as usize];
        stat.filtered += u64::from(s.flags.contains(SyscallFlags::FILTERED));
        stat.emulated += u64::from(s.flags.contains(SyscallFlags::EMULATED));
    }

    /// Remembers what became of an operation.
    fn note(&mut self, symbol: u32, t_ns: u64, duration_ns: u64, process: usize) {
        let failed = matches!(self.symbols[symbol as usize].outcome, Outcome::Errno(_));
        let stat = &mut self.stats[symbol as usize];
        if stat.count == 0 {
            stat.first_ns = t_ns;
            stat.process = process;
        }
        stat.count += 1;
        stat.last_ns = t_ns;
        stat.total_ns = stat.total_ns.saturating_add(duration_ns);
        if duration_ns >= stat.max_ns {
            stat.max_ns = duration_ns;
            stat.max_at_ns = t_ns;
        }
        if failed {
            let bin = (t_ns / BIN_NS) as u32;
            match stat.bins.last_mut() {
                Some(last) if last.0 == bin => last.1 += 1,
                _ => stat.bins.push((bin, 1)),
            }
        }
    }

    fn syscall(&mut self, s: &Syscall) {
        if s.flags.contains(SyscallFlags::ENGINE) {
            // No operation of the workload, yet the engine puts descriptors where they were recorded.
            self.n_engine += 1;
            let thread = self.thread(s.task);
            self.costs.between(thread, s.t_ns, s.t_ns.saturating_add(s.duration_ns));
            self.waits.before(thread, s);
            self.waits.within(thread, s);
            let process = self.threads[thread].process;
            let tgid = Tgid(self.processes[process].tgid);
            let call = self.call(s.sysno);
            for change in self.fds.syscall(tgid, call.sc, s) {
                self.closed(process, change, s.t_ns.saturating_add(s.duration_ns));
            }
            return;
        }
        self.n_calls += 1;
        self.n_filtered += u64::from(s.flags.contains(SyscallFlags::FILTERED));
        // Nothing tells on which CPU a call was made; one that was read has what it points to.
        let unread = s.flags.contains(SyscallFlags::TRUNCATED) && s.details.is_empty();
        self.missing.unread += u64::from(unread && !self.reduced.is_empty());
        self.n_emulated += u64::from(s.flags.contains(SyscallFlags::EMULATED));
        let thread = self.thread(s.task);
        self.waits.before(thread, s);
        self.spent_between(s, thread);
        self.workload_call(s, thread);
        self.waits.within(thread, s);
    }

    fn workload_call(&mut self, s: &Syscall, thread: usize) {
        let end_ns = s.t_ns.saturating_add(s.duration_ns);
        let process = self.threads[thread].process;
        let tgid = Tgid(self.processes[process].tgid);
        let call = self.call(s.sysno);
        self.busy.call(s, call.sc.row());
        {
            let t = &mut self.threads[thread];
            t.calls += 1;
            t.first_ns = t.first_ns.min(s.t_ns);
            t.last_ns = t.last_ns.max(end_ns);
        }
        let (outcome, noise) = symbol::outcome(call.kind, call.sc, s);
        if outcome == Outcome::InFlight {
            if call.kind != Kind::Exit {
                let target = self.target(&call, s, tgid);
                self.spent_unended(&call, s, thread, target);
                let hung = Hung {
                    thread,
                    call: call.name,
                    object: target.name,
                    t_ns: s.t_ns,
                    duration_ns: s.duration_ns,
                };
                self.hung.push((hung, s.task));
            }
            self.n_noise += 1;
            return;
        }
        self.last_ns = self.last_ns.max(end_ns);
        let errno = if let Outcome::Errno(e) = outcome { e } else { 0 };
        *self.processes[process].counts.entry((call.name, errno)).or_default() += 1;

        let target = self.target(&call, s, tgid);
        // Of a file it is the end, however much was asked for.
        let outcome = if call.kind == Kind::Receive
            && outcome == Outcome::Ok
            && s.ret == 0
            && target.stream.is_none()
        {
            Outcome::Eof
        } else {
            outcome
        };
        self.learn(&call, s, &target);
        let target = self.first_words(&call, target);
        let target = if call.kind == Kind::Connect { self.retarget(target) } else { target };
        let is_noise = noise
            || call.kind == Kind::Exit
            || call.kind == Kind::Mmap && outcome == Outcome::Ok && self.names.exact(target.name).is_empty()
            // Modifying a watch follows readiness.
            || call.kind == Kind::EpollCtl && s.args[1] == 3 && outcome == Outcome::Ok
            || matches!(call.kind, Kind::Receive | Kind::Send) && self.is_wakeup(target);
        if is_noise {
            self.n_noise += 1;
            self.spent_in(&call, s, thread, target, outcome);
        } else {
            // A call that was under way when the recording began has been there since then.
            let under_way = s.flags.contains(SyscallFlags::NO_ENTER)
                && call.kind != Kind::Readiness
                && self.threads[thread].calls == 1;
            let whole = under_way.then(|| Syscall { t_ns: 0, duration_ns: end_ns, ..s.clone() });
            let s = whole.as_ref().unwrap_or(s);
            self.first_ns = Some(self.first_ns.map_or(s.t_ns, |f| f.min(s.t_ns)));
            self.operation(&call, s, thread, process, target, outcome, end_ns);
        }
        let place = self.last_place.take();
        let changes = self.fds.syscall(tgid, call.sc, s);
        // A file's role is the absolute name by which it was opened: what links make of it is the host's affair.
        if call.kind == Kind::Open && outcome == Outcome::Ok && self.names.exact(target.name).starts_with('/')
        {
            self.fds.set_tag(tgid, s.ret as i32, target.name.0);
        }
        for change in changes {
            match change {
                Change::Opened { descriptor, copied, .. } => {
                    if let Some(place) = place.filter(|_| !copied) {
                        self.order.made(descriptor.generation, call.sc, s, place);
                    }
                    let open = self.fds.open_count(tgid);
                    let max = &mut self.processes[process].max_fds;
                    *max = (*max).max(open);
                }
                Change::Closed { descriptor, last_in_table, .. } => {
                    if last_in_table {
                        self.order.gone(descriptor.generation);
                    }
                    self.closed(process, change, end_ns);
                }
            }
        }
    }

    /// Whether reads and writes of it only wake somebody.
    fn is_wakeup(&self, target: Target) -> bool {
        target.stream.is_none() && matches!(self.names.exact(target.name), "eventfd" | "signalfd")
    }

    pub(crate) fn finish(mut self, damaged: u64) -> Model {
        self.missing.damaged = damaged;
        self.missing.lost = self.missing.by_class.values().sum();
        let cut = !self.live.is_empty();
        let mut alive: Vec<usize> = self.live.values().copied().collect();
        alive.sort_unstable();
        for process in alive {
            let tgid = Tgid(self.processes[process].tgid);
            self.processes[process].end_fds = self.fds.open_count(tgid);
            self.processes[process].held = self.held(process);
            self.spent_by(process);
        }
        let costs = self.costs_by_role();
        let lookups = self.lookups();
        for conn in self.conn_index.values() {
            self.conns[*conn].finish();
        }
        for thread in &mut self.threads {
            thread.seq.shrink();
            if thread.first_ns == u64::MAX {
                thread.first_ns = 0;
            }
        }
        // What its task's end cut off did not hang.
        let processes = &self.processes;
        let threads = &self.threads;
        let hung = self
            .hung
            .drain(..)
            .filter(|(h, _)| processes[threads[h.thread].process].exit.is_none())
            .map(|(h, _)| h)
            .collect();
        let duration_ns = self.trace.summary().map_or_else(|| self.trace.end_ns(), |s| s.duration_ns);
        let series =
            self.resources.into_iter().map(|(metric, samples)| series::series(metric, &samples)).collect();
        let call_class = self.calls.values().map(|c| (c.name, c.class)).collect();
        let mut model = Model {
            names: self.names,
            threads: self.threads,
            processes: self.processes,
            conns: self.conns,
            hung,
            series,
            busy: self.busy,
            missing: self.missing,
            calls: self.n_calls,
            engine_calls: self.n_engine,
            filtered_calls: self.n_filtered,
            emulated_calls: self.n_emulated,
            noise_calls: self.n_noise,
            first_ns: self.first_ns.unwrap_or(0),
            last_ns: self.last_ns,
            duration_ns,
            cut,
            symbols: self.symbols,
            stats: self.stats,
            call_class,
            edges: self.order.edges,
            costs,
            lookups,
            oom_kills: self.oom_kills,
            origin: Origin::of(self.trace),
            tick_ns: u64::from(self.trace.header().tick_ns),
        };
        crate::roles::assign(&mut model);
        model
    }
}
