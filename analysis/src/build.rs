//! From events to a [`Model`]: one pass, a state machine per process, thread, descriptor and stream.

use crate::conn::{Conn, ConnKind, Side};
use crate::fds::{Change, FdTracker, Origin};
use crate::model::{BIN_NS, Hung, Missing, Model, OutcomeStat, Process, Series, Thread};
use crate::names::{self, NameId, Names, lossy};
use crate::seq::Seq;
use crate::symbol::{self, Kind, OpClass, Outcome, Symbol, size_class};
use ctrace_format::{
    Connection, ConnectionKind, Detail, Event, Metric, Object, ObjectId, ProcessKind, Resource, SockAddr,
    StrId, Syscall, SyscallFlags, Sysno, TaskDef, TaskId, TcpState, Tgid, Trace, syscalls,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::collections::hash_map::Entry;

const S_IFMT: u32 = 0o170_000;
const S_IFIFO: u32 = 0o010_000;
const SOCK_STREAM: u16 = 1;
const SOCK_SEQPACKET: u16 = 5;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// The most that one call transfers (`include/linux/fs.h`).
const MAX_RW_COUNT: u64 = 0x7fff_f000;
/// Answer times kept per endpoint: enough to see a change, bounded.
const MAX_ANSWERS: usize = 20_000;

#[derive(Debug, Clone)]
struct Call {
    name: NameId,
    text: &'static str,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Identity {
    Socket(u64),
    Pipe(u64),
    Stdio(u8),
}

/// What an operation works on.
#[derive(Debug, Clone, Copy)]
struct Target {
    name: NameId,
    stream: Option<Identity>,
}

pub(crate) struct Builder<'a> {
    trace: &'a Trace,
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
    conn_index: FxHashMap<(usize, Identity), usize>,
    /// Open streams of a socket, one per process that uses it.
    of_socket: FxHashMap<u64, Vec<usize>>,
    socks: FxHashMap<u64, Sock>,
    file_names: FxHashMap<ObjectId, NameId>,
    paths: FxHashMap<StrId, NameId>,
    answers: FxHashMap<NameId, Vec<(u64, u64)>>,
    resources: BTreeMap<Metric, Vec<(u64, u64)>>,
    hung: Vec<(Hung, TaskId)>,
    missing: Missing,
    n_calls: u64,
    n_engine: u64,
    n_noise: u64,
    first_ns: Option<u64>,
    last_ns: u64,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        let mut pids: FxHashSet<u32> = trace.tasks().iter().flat_map(|t| [t.tid.0, t.tgid.0]).collect();
        pids.extend(trace.snapshot().processes.iter().flat_map(|p| p.ns_pids.iter().copied()));
        let mut builder = Self {
            trace,
            pids,
            names: Names::default(),
            symbols: Vec::new(),
            symbol_index: FxHashMap::default(),
            stats: Vec::new(),
            calls: FxHashMap::default(),
            fds: FdTracker::new(trace.snapshot()),
            threads: Vec::new(),
            thread_of_task: Vec::new(),
            thread_index: FxHashMap::default(),
            ended: FxHashMap::default(),
            processes: Vec::new(),
            live: FxHashMap::default(),
            conns: Vec::new(),
            conn_index: FxHashMap::default(),
            of_socket: FxHashMap::default(),
            socks: FxHashMap::default(),
            file_names: FxHashMap::default(),
            paths: FxHashMap::default(),
            answers: FxHashMap::default(),
            resources: BTreeMap::new(),
            hung: Vec::new(),
            missing: Missing::default(),
            n_calls: 0,
            n_engine: 0,
            n_noise: 0,
            first_ns: None,
            last_ns: 0,
        };
        builder.take_snapshot();
        builder
    }

    fn take_snapshot(&mut self) {
        for p in &self.trace.snapshot().processes {
            let parent = self.live.get(&p.parent.0).copied();
            let index = self.new_process(p.tgid.0, parent, 0);
            let process = &mut self.processes[index];
            process.exe = lossy(&p.exe).into_owned();
            process.argv = p.argv.iter().map(|a| lossy(a).into_owned()).collect();
            process.start_fds = p.fds.len();
            process.max_fds = p.fds.len();
            if let Some(leader) = p.threads.first() {
                process.comm = lossy(&leader.comm).into_owned();
            }
            for fd in &p.fds {
                if let ctrace_format::FdTarget::Socket {
                    cookie, family, kind, listening, local, peer, ..
                } = &fd.target
                    && *cookie != 0
                {
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
                        },
                    );
                }
            }
        }
        let cookies: Vec<u64> = self.socks.keys().copied().collect();
        for cookie in cookies {
            self.rename(cookie);
        }
    }

    fn new_process(&mut self, tgid: u32, parent: Option<usize>, start_ns: u64) -> usize {
        let index = self.processes.len();
        let (exe, argv, comm) = parent.map_or_else(Default::default, |p| {
            let p = &self.processes[p];
            (p.exe.clone(), p.argv.clone(), p.comm.clone())
        });
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
        if def.tid.0 == def.tgid.0 {
            threads.insert(0, index);
        } else {
            threads.push(index);
        }
        self.thread_index.insert(def.tid.0, index);
        index
    }

    /// A task of the dictionary is this thread, under the name it has there.
    fn adopt(&mut self, task: TaskId, index: usize) {
        let def = self.trace.task(task);
        let comm = lossy(self.trace.str(def.comm));
        if !comm.is_empty() {
            let process = self.threads[index].process;
            if def.tid.0 == def.tgid.0 {
                self.processes[process].comm = comm.clone().into_owned();
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
            Event::Syscall(s) => self.syscall(s),
            Event::Process(p) => self.process(p),
            Event::Connection(c) => self.connection(c),
            Event::Resource(r) => self.resource(*r),
            Event::Loss(l) => {
                *self.missing.by_class.entry(l.class).or_default() += l.count;
                *self.missing.by_cause.entry(l.cause).or_default() += l.count;
                self.missing.lost = self.missing.lost.saturating_add(l.count);
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
                let thread = self.new_thread(def);
                self.adopt(*child, thread);
            }
            ProcessKind::Exec { path, argv, .. } => {
                let words = argv.iter().map(|w| lossy(self.trace.str(*w)).into_owned()).collect();
                let path = lossy(self.trace.str(*path)).into_owned();
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
                        outcome: Outcome::Exit(*status),
                        qualifier: 0,
                        size: 0,
                        class: OpClass::Process,
                    });
                    self.note(symbol, p.t_ns, 0, process);
                    self.threads[leader].seq.push(symbol, p.t_ns);
                    self.end_process(process, p.t_ns);
                }
            }
            _ => {}
        }
    }

    fn end_process(&mut self, process: usize, t_ns: u64) {
        let tgid = self.processes[process].tgid;
        if self.live.get(&tgid) == Some(&process) {
            self.live.remove(&tgid);
        }
        self.processes[process].end_fds = self.fds.open_count(Tgid(tgid));
        self.fds.exit(Tgid(tgid));
        let open: Vec<(usize, Identity)> =
            self.conn_index.keys().filter(|(p, _)| *p == process).copied().collect();
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
        });
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
        if is_set(&c.local) {
            sock.local = Some(c.local.clone());
        }
        if is_set(&c.peer) {
            sock.peer = Some(c.peer.clone());
        }
        self.rename(cookie);
        let open = self.of_socket.get(&cookie).cloned().unwrap_or_default();
        for conn in open {
            match &c.kind {
                ConnectionKind::State { old: TcpState::SynSent, new, error }
                    if self.conns[conn].connecting =>
                {
                    self.conns[conn].connecting = false;
                    let outcome = if *new == TcpState::Established {
                        Outcome::Ok
                    } else {
                        self.conns[conn].fail(*error);
                        Outcome::Errno(*error)
                    };
                    let process = self.conns[conn].process;
                    let call = self.names.fixed("connect");
                    let object = self.conns[conn].name;
                    let class = OpClass::Network;
                    let symbol = self.symbol(Symbol { call, object, outcome, qualifier: 1, size: 0, class });
                    self.note(symbol, c.t_ns, 0, process);
                    self.conns[conn].seq.push(symbol, c.t_ns);
                }
                ConnectionKind::ResetReceived | ConnectionKind::ResetSent => self.conns[conn].reset(),
                ConnectionKind::Retransmit => self.conns[conn].retransmits += 1,
                _ => {}
            }
        }
    }

    fn resource(&mut self, r: Resource) {
        if r.subject == 1 {
            self.resources.entry(r.metric).or_default().push((r.t_ns, r.value));
        }
    }

    fn call(&mut self, sysno: Sysno) -> Call {
        if let Some(call) = self.calls.get(&sysno) {
            return call.clone();
        }
        let text = syscalls::name(sysno).unwrap_or("");
        let name = if text.is_empty() {
            self.names.fixed(&format!("syscall_{:?}_{}", sysno.abi, sysno.nr))
        } else {
            self.names.fixed(text)
        };
        let (kind, class) = symbol::describe(text);
        let fd = syscalls::args(text)
            .and_then(|args| args.iter().position(|(_, k)| *k == syscalls::Kind::Fd))
            .filter(|i| *i == 0 || kind == Kind::Mmap);
        let call = Call { name, text, kind, class, fd };
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
            let process = self.threads[thread].process;
            let tgid = Tgid(self.processes[process].tgid);
            let call = self.call(s.sysno);
            for change in self.fds.syscall(tgid, call.text, s) {
                self.closed(process, change, s.t_ns.saturating_add(s.duration_ns));
            }
            return;
        }
        self.n_calls += 1;
        let end_ns = s.t_ns.saturating_add(s.duration_ns);
        let thread = self.thread(s.task);
        let process = self.threads[thread].process;
        let tgid = Tgid(self.processes[process].tgid);
        let call = self.call(s.sysno);
        {
            let t = &mut self.threads[thread];
            t.calls += 1;
            t.first_ns = t.first_ns.min(s.t_ns);
            t.last_ns = t.last_ns.max(end_ns);
        }
        let (outcome, noise) = symbol::outcome(call.kind, call.text, s);
        if outcome == Outcome::InFlight {
            if call.kind != Kind::Exit {
                let target = self.target(&call, s, tgid);
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
        self.learn(&call, s, &target, outcome);
        let target = if call.kind == Kind::Connect { self.retarget(target) } else { target };
        let is_noise = noise
            || call.kind == Kind::Exit
            || call.kind == Kind::Mmap && outcome == Outcome::Ok && self.names.exact(target.name).is_empty()
            // Modifying a watch follows readiness.
            || call.kind == Kind::EpollCtl && s.args[1] == 3 && outcome == Outcome::Ok
            || matches!(call.kind, Kind::Receive | Kind::Send) && self.is_wakeup(target);
        if is_noise {
            self.n_noise += 1;
        } else {
            self.first_ns = Some(self.first_ns.map_or(s.t_ns, |f| f.min(s.t_ns)));
            self.operation(&call, s, thread, process, target, outcome, end_ns);
        }
        let changes = self.fds.syscall(tgid, call.text, s);
        // A file's role is the absolute name by which it was opened: what links make of it is the host's affair.
        if call.kind == Kind::Open && outcome == Outcome::Ok && self.names.exact(target.name).starts_with('/')
        {
            self.fds.set_tag(tgid, s.ret as i32, target.name.0);
        }
        for change in changes {
            match change {
                Change::Opened { .. } => {
                    let open = self.fds.open_count(tgid);
                    let max = &mut self.processes[process].max_fds;
                    *max = (*max).max(open);
                }
                Change::Closed { .. } => self.closed(process, change, end_ns),
            }
        }
    }

    /// Whether reads and writes of it only wake somebody.
    fn is_wakeup(&self, target: Target) -> bool {
        target.stream.is_none() && matches!(self.names.exact(target.name), "eventfd" | "signalfd")
    }

    #[allow(clippy::too_many_arguments, reason = "what is known about one call")]
    fn operation(
        &mut self,
        call: &Call,
        s: &Syscall,
        thread: usize,
        process: usize,
        target: Target,
        outcome: Outcome,
        end_ns: u64,
    ) {
        let moves = matches!(call.kind, Kind::Receive | Kind::Send);
        let bytes =
            if moves || call.kind == Kind::Transfer { (s.ret.max(0) as u64).min(MAX_RW_COUNT) } else { 0 };
        let sent = call.kind == Kind::Send;
        let mut symbol = Symbol {
            call: call.name,
            object: target.name,
            outcome,
            qualifier: symbol::qualifier(call.text, s),
            size: 0,
            class: call.class,
        };
        let Some(identity) = target.stream else {
            if moves || call.kind == Kind::Transfer || call.text.starts_with("getdents") {
                let volatile = self.names.exact(target.name);
                // Their length is the state of the system, not of the program.
                if !volatile.starts_with("/proc/") && !volatile.starts_with("/sys/") && s.ret >= 0 {
                    symbol.size = size_class(s.ret as u64);
                }
            }
            let id = self.symbol(symbol);
            self.note(id, s.t_ns, s.duration_ns, process);
            self.threads[thread].seq.push(id, s.t_ns);
            return;
        };
        let conn = self.conn(process, identity, target.name, s.t_ns);
        let datagram = self.conns[conn].kind == ConnKind::Datagram;
        if moves && outcome == Outcome::Ok {
            symbol.call = self.names.fixed(if sent { "send" } else { "receive" });
            symbol.class = OpClass::Stream;
            symbol.qualifier = 0;
            let had = self.conns[conn].sent > 0;
            let begun = self.conns[conn].transfer(sent, bytes, s.t_ns, end_ns);
            let id = self.symbol(symbol);
            self.note(id, s.t_ns, s.duration_ns, process);
            if datagram {
                let sized = self.symbol(Symbol { size: size_class(bytes), ..symbol });
                self.conns[conn].seq.push(sized, s.t_ns);
            } else if let Some(gap) = begun {
                self.conns[conn].seq.push(id, s.t_ns);
                if !sent && had {
                    self.answer(target.name, s.t_ns, gap);
                }
            }
            return;
        }
        if call.kind == Kind::Receive && outcome == Outcome::Eof {
            self.conns[conn].eof();
            symbol.call = self.names.fixed("receive");
            symbol.class = OpClass::Stream;
            symbol.qualifier = 0;
        }
        match (call.kind, outcome) {
            (Kind::Connect, Outcome::Started) => self.conns[conn].connecting = true,
            (Kind::Connect, Outcome::Errno(e)) if e != symbol::EAGAIN => self.conns[conn].fail(e),
            (Kind::Receive | Kind::Send, Outcome::Errno(104)) => self.conns[conn].reset(),
            (Kind::Send, Outcome::Errno(symbol::EPIPE)) => self.conns[conn].broken = true,
            _ => {}
        }
        let id = self.symbol(symbol);
        self.note(id, s.t_ns, s.duration_ns, process);
        self.conns[conn].seq.push(id, s.t_ns);
        let last = &mut self.conns[conn].last_ns;
        *last = (*last).max(end_ns);
    }

    /// The time the other side took to answer.
    fn answer(&mut self, endpoint: NameId, t_ns: u64, gap_ns: u64) {
        let kept = self.answers.entry(endpoint).or_default();
        if kept.len() < MAX_ANSWERS {
            kept.push((t_ns, gap_ns));
        }
    }

    /// The stream of a process, made when it is new.
    fn conn(&mut self, process: usize, identity: Identity, name: NameId, t_ns: u64) -> usize {
        if let Some(conn) = self.conn_index.get(&(process, identity)) {
            return *conn;
        }
        let (kind, side, id) = match identity {
            Identity::Socket(cookie) => {
                let sock = self.socks.get(&cookie);
                let kind = match sock {
                    Some(s) if s.family == AF_UNIX => ConnKind::Unix,
                    Some(s) if matches!(s.family, AF_INET | AF_INET6) && s.kind == SOCK_STREAM => {
                        ConnKind::Tcp
                    }
                    Some(s) if s.kind != SOCK_STREAM && s.kind != SOCK_SEQPACKET => ConnKind::Datagram,
                    _ => ConnKind::Other,
                };
                (kind, sock.map_or(Side::Unknown, |s| s.side), cookie)
            }
            Identity::Pipe(ino) => (ConnKind::Pipe, Side::Unknown, ino),
            Identity::Stdio(fd) => (ConnKind::Stdio, Side::Unknown, u64::from(fd)),
        };
        let mut conn = Conn::new(process, kind, side, name, id, t_ns);
        if let Identity::Socket(cookie) = identity
            && let Some(sock) = self.socks.get(&cookie)
        {
            conn.local.clone_from(&sock.local);
            conn.peer.clone_from(&sock.peer);
        }
        if let Identity::Socket(cookie) = identity {
            self.of_socket.entry(cookie).or_default().push(self.conns.len());
        }
        self.conns.push(conn);
        self.conn_index.insert((process, identity), self.conns.len() - 1);
        self.conns.len() - 1
    }

    /// A descriptor was closed: the stream ends when it was the last of the process.
    fn closed(&mut self, process: usize, change: Change, t_ns: u64) {
        let Change::Closed { descriptor, last_in_table: true, .. } = change else { return };
        let Some(object) = descriptor.object else { return };
        let identity = match self.trace.object(object) {
            Object::Socket { cookie, .. } => Identity::Socket(cookie.0),
            Object::Pipe { ino } => Identity::Pipe(*ino),
            _ => return,
        };
        self.end_conn((process, identity), false, t_ns);
    }

    fn end_conn(&mut self, key: (usize, Identity), by_exit: bool, t_ns: u64) {
        let Some(conn) = self.conn_index.remove(&key) else { return };
        self.conns[conn].closed(by_exit, t_ns);
        if let Identity::Socket(cookie) = key.1
            && let Some(users) = self.of_socket.get_mut(&cookie)
        {
            users.retain(|c| *c != conn);
            if users.is_empty() {
                self.of_socket.remove(&cookie);
                self.socks.remove(&cookie);
            }
        }
    }

    /// What a call works on.
    fn target(&mut self, call: &Call, s: &Syscall, tgid: Tgid) -> Target {
        let nothing = Target { name: NameId::default(), stream: None };
        match call.kind {
            Kind::Open | Kind::Path | Kind::Exec => {
                // An empty path means the descriptor itself.
                let itself = s
                    .details
                    .iter()
                    .any(|d| matches!(d, Detail::Str { value, .. } if self.trace.str(*value).is_empty()));
                if itself && call.kind == Kind::Path && s.args_mask & 1 != 0 {
                    return Target { stream: None, ..self.fd_target(tgid, s.args[0] as i32, s.object) };
                }
                if let Some(name) = self.path_of(s) {
                    return Target { name, stream: None };
                }
                return s.object.map_or(nothing, |o| self.object_target(o));
            }
            // The watched descriptor, not the watcher.
            Kind::EpollCtl => {
                let watched = s.details.iter().find_map(|d| match d {
                    Detail::Object { arg: 2, object } => Some(*object),
                    _ => None,
                });
                return self.fd_target(tgid, s.args[2] as i32, watched);
            }
            Kind::Socket | Kind::Pipe => return s.object.map_or(nothing, |o| self.object_target(o)),
            Kind::Noise | Kind::Memory | Kind::Readiness => return nothing,
            _ => {}
        }
        match call.fd {
            Some(_) if s.flags.contains(SyscallFlags::NO_ENTER) => {
                s.object.map_or(nothing, |o| self.object_target(o))
            }
            Some(i) if call.kind == Kind::Mmap && s.args[i] as u32 > i32::MAX as u32 => nothing,
            Some(i) => self.fd_target(tgid, s.args[i] as i32, s.object),
            None => self.path_of(s).map_or(nothing, |name| Target { name, stream: None }),
        }
    }

    fn fd_target(&mut self, tgid: Tgid, fd: i32, object: Option<ObjectId>) -> Target {
        if fd < 0 || object.is_none() && self.fds.get(tgid, fd).is_none() {
            return Target { name: self.names.fixed("?"), stream: None };
        }
        let descriptor = self.fds.observe(tgid, fd, object);
        let inherited = descriptor.origin != Origin::Opened && (0..=2).contains(&descriptor.first_fd);
        if inherited {
            let name = self.names.fixed(["stdin", "stdout", "stderr"][descriptor.first_fd as usize]);
            return Target { name, stream: Some(Identity::Stdio(descriptor.first_fd as u8)) };
        }
        match descriptor.object {
            Some(object) => {
                let target = self.object_target(object);
                let opened_as = NameId(descriptor.tag);
                if descriptor.tag != 0 && target.stream.is_none() {
                    Target { name: opened_as, ..target }
                } else {
                    target
                }
            }
            None if descriptor.tag != 0 => Target { name: NameId(descriptor.tag), stream: None },
            None => Target { name: self.names.fixed("?"), stream: None },
        }
    }

    fn object_target(&mut self, object: ObjectId) -> Target {
        let trace = self.trace;
        match trace.object(object) {
            Object::File { path, ino, mode, .. } => {
                let name = self.path_name(*path);
                let stream = (mode & S_IFMT == S_IFIFO).then_some(Identity::Pipe(*ino));
                Target { name, stream }
            }
            Object::Socket { family, kind, cookie, local, peer, .. } => {
                if let Entry::Vacant(new) = self.socks.entry(cookie.0) {
                    new.insert(Sock {
                        family: *family,
                        kind: *kind,
                        side: Side::Unknown,
                        local: local.clone(),
                        peer: peer.clone(),
                        name: NameId::default(),
                    });
                    self.rename(cookie.0);
                }
                Target { name: self.socks[&cookie.0].name, stream: Some(Identity::Socket(cookie.0)) }
            }
            Object::Pipe { ino } => {
                Target { name: self.names.fixed("pipe"), stream: Some(Identity::Pipe(*ino)) }
            }
            Object::Anon { kind, .. } => {
                let name = if let Some(name) = self.file_names.get(&object) {
                    *name
                } else {
                    let text = lossy(trace.str(*kind)).trim_matches(['[', ']']).to_owned();
                    let pids = &self.pids;
                    let name = self.names.insert(&text, |n| names::blank_path(n, pids));
                    self.file_names.insert(object, name);
                    name
                };
                Target { name, stream: None }
            }
            _ => Target { name: NameId::default(), stream: None },
        }
    }

    fn path_name(&mut self, path: StrId) -> NameId {
        if let Some(name) = self.paths.get(&path) {
            return *name;
        }
        let text = lossy(self.trace.str(path));
        let pids = &self.pids;
        let name = self.names.insert(&text, |n| names::blank_path(n, pids));
        self.paths.insert(path, name);
        name
    }

    fn path_of(&mut self, s: &Syscall) -> Option<NameId> {
        let mut strings = s.details.iter().filter_map(|d| match d {
            Detail::Str { value, .. } => Some(*value),
            _ => None,
        });
        let first = strings.next()?;
        if self.trace.str(first).is_empty() {
            // An empty path means the descriptor itself.
            return s.object.map(|o| self.object_target(o).name);
        }
        match strings.next() {
            None => Some(self.path_name(first)),
            Some(second) => {
                let text = format!("{} → {}", lossy(self.trace.str(first)), lossy(self.trace.str(second)));
                let pids = &self.pids;
                Some(self.names.insert(&text, |n| {
                    let (from, to) = n.split_once(" → ")?;
                    let blanked = (names::blank_path(from, pids), names::blank_path(to, pids));
                    (blanked.0.is_some() || blanked.1.is_some()).then(|| {
                        let (from, to) =
                            (blanked.0.as_deref().unwrap_or(from), blanked.1.as_deref().unwrap_or(to));
                        format!("{from} → {to}")
                    })
                }))
            }
        }
    }

    /// What a call tells about a socket.
    fn learn(&mut self, call: &Call, s: &Syscall, target: &Target, outcome: Outcome) {
        let Some(Identity::Socket(cookie)) = target.stream else { return };
        let addr = s.details.iter().find_map(|d| match d {
            Detail::Addr { addr, .. } => Some(addr.clone()),
            _ => None,
        });
        let Some(sock) = self.socks.get_mut(&cookie) else { return };
        match call.kind {
            Kind::Connect => {
                sock.side = Side::Client;
                if addr.is_some() {
                    sock.peer = addr;
                }
            }
            Kind::Listen if outcome == Outcome::Ok => sock.side = Side::Listener,
            Kind::Bind if outcome == Outcome::Ok && addr.is_some() => sock.local = addr,
            Kind::Fd if call.text == "getsockname" && outcome == Outcome::Ok && addr.is_some() => {
                sock.local = addr;
            }
            _ => return,
        }
        self.rename(cookie);
    }

    /// The target of a connect, now that its address is known.
    fn retarget(&self, target: Target) -> Target {
        match target.stream {
            Some(Identity::Socket(cookie)) => {
                Target { name: self.socks.get(&cookie).map_or(target.name, |s| s.name), ..target }
            }
            _ => target,
        }
    }

    /// Names a socket after what is known about it.
    fn rename(&mut self, cookie: u64) {
        let Some(sock) = self.socks.get(&cookie) else { return };
        let proto = match (sock.family, sock.kind) {
            (AF_UNIX, _) => "unix",
            (AF_INET | AF_INET6, SOCK_STREAM) => "tcp",
            (AF_INET | AF_INET6, 2) => "udp",
            (16, _) => "netlink",
            _ => "socket",
        };
        let local = sock.local.as_ref().filter(|a| is_set(a));
        let peer = sock.peer.as_ref().filter(|a| is_set(a));
        let side = if sock.side == Side::Unknown { guess_side(local, peer) } else { sock.side };
        let text = match (side, local, peer) {
            (Side::Client, _, Some(peer)) => format!("{proto} to {}", names::endpoint(peer)),
            (Side::Server, Some(local), _) => format!("{proto} at {}", names::endpoint(local)),
            (Side::Listener, Some(local), _) => format!("{proto} listening at {}", names::endpoint(local)),
            _ => proto.to_owned(),
        };
        let unix = sock.family == AF_UNIX;
        let pids = &self.pids;
        let name = self
            .names
            .insert(&text, |n| if unix { names::blank_unix(n, pids) } else { names::blank_port(n) });
        let (local, peer) = (sock.local.clone(), sock.peer.clone());
        if let Some(sock) = self.socks.get_mut(&cookie) {
            sock.name = name;
            sock.side = side;
        }
        for conn in self.of_socket.get(&cookie).into_iter().flatten() {
            let conn = &mut self.conns[*conn];
            conn.name = name;
            conn.side = side;
            conn.local.clone_from(&local);
            conn.peer.clone_from(&peer);
        }
    }

    pub(crate) fn finish(mut self, damaged: u64) -> Model {
        self.missing.damaged = damaged;
        self.missing.lost = self.missing.by_class.values().sum();
        let cut = !self.live.is_empty();
        for (tgid, process) in &self.live {
            self.processes[*process].end_fds = self.fds.open_count(Tgid(*tgid));
        }
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
        let series = self.resources.into_iter().map(|(metric, samples)| series(metric, &samples)).collect();
        let call_class = self.calls.values().map(|c| (c.name, c.class)).collect();
        let mut model = Model {
            names: self.names,
            threads: self.threads,
            processes: self.processes,
            conns: self.conns,
            hung,
            series,
            missing: self.missing,
            calls: self.n_calls,
            engine_calls: self.n_engine,
            noise_calls: self.n_noise,
            first_ns: self.first_ns.unwrap_or(0),
            last_ns: self.last_ns,
            duration_ns,
            cut,
            symbols: self.symbols,
            stats: self.stats,
            answers: self.answers,
            call_class,
        };
        crate::roles::assign(&mut model);
        model
    }
}

/// Whether an address says anything.
fn is_set(addr: &SockAddr) -> bool {
    match addr {
        SockAddr::Inet(a) => a.port() != 0,
        SockAddr::Unix(path) => !path.is_empty(),
        _ => false,
    }
}

/// Who opened a connection of which only the addresses are known: the end with the ephemeral port.
fn guess_side(local: Option<&SockAddr>, peer: Option<&SockAddr>) -> Side {
    match (local, peer) {
        (Some(SockAddr::Inet(ours)), Some(SockAddr::Inet(theirs))) if ours.port() > theirs.port() => {
            Side::Client
        }
        (Some(SockAddr::Inet(_)), Some(SockAddr::Inet(_))) | (Some(SockAddr::Unix(_)), None) => Side::Server,
        (None, Some(SockAddr::Unix(_))) => Side::Client,
        _ => Side::Unknown,
    }
}

fn is_cumulative(metric: Metric) -> bool {
    !matches!(
        metric,
        Metric::MemoryBytes
            | Metric::MemoryLimitBytes
            | Metric::MemoryAnonBytes
            | Metric::MemoryFileBytes
            | Metric::SwapBytes
            | Metric::Pids
            | Metric::PidsLimit
            | Metric::OpenFds
            | Metric::TcpEstablished
            | Metric::TcpTimeWait
            | Metric::TcpListen
            | Metric::TcpOther
            | Metric::RssBytes
    )
}

/// Puts samples on bins: growth is shared among the bins it spans, a level holds until the next sample.
fn series(metric: Metric, samples: &[(u64, u64)]) -> Series {
    let end = samples.last().map_or(0, |s| s.0);
    // Samples come about once a bin: what is far beyond that is a damaged time stamp, and must not allocate.
    let count = ((end / BIN_NS) as usize).saturating_add(1).min(samples.len().saturating_mul(8) + 16);
    let mut bins = vec![0.0; if samples.is_empty() { 0 } else { count }];
    let bin = |t: u64| ((t / BIN_NS) as usize).min(count - 1);
    for pair in samples.windows(2) {
        let ((t0, v0), (t1, v1)) = (pair[0], pair[1]);
        let (from, to) = (bin(t0), bin(t1.max(t0)));
        if is_cumulative(metric) {
            let growth = v1.saturating_sub(v0) as f64;
            let parts = (to - from).max(1);
            for b in &mut bins[to + 1 - parts.min(to + 1)..=to] {
                *b += growth / parts as f64;
            }
        } else {
            for b in &mut bins[from..=to] {
                *b = v0 as f64;
            }
        }
    }
    if !is_cumulative(metric)
        && let (Some(last), Some(sample)) = (bins.last_mut(), samples.last())
    {
        *last = sample.1 as f64;
    }
    Series { metric, bins }
}
