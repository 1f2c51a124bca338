//! Traces made at random: from nothing, and from the events of recordings.

use crate::make::{Make, header};
use crate::random::Random;
use ctrace_format::{
    Abi, Connection, ConnectionKind, Detail, Dns, EpollEntry, Event, FdSnapshot, FdTarget, Filter, Marker,
    Message, Object, ObjectId, PassedFd, PollEntry, Process, ProcessKind, ProcessSnapshot, Signal, Snapshot,
    SockAddr, SockCookie, StrId, Summary, Syscall, SyscallFlags, Sysno, TaskDef, TaskId, TcpState, Tgid,
    ThreadSnapshot, Tid, Trace, TraceWriter, WriteOptions, syscalls,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Most events that a mutant has, one that is repeated counted once.
const EVENTS: u64 = 400;

/// Recordings as events.
pub(crate) struct Corpus(Vec<(Trace, Vec<Event>)>);

impl Corpus {
    pub(crate) fn of(paths: &[PathBuf]) -> Self {
        let read = |path: &PathBuf| {
            let trace = Trace::open(path).unwrap();
            let events = trace.events(&Filter::default()).flatten().take(4000).collect();
            (trace, events)
        };
        Self(paths.iter().map(read).collect())
    }
}

/// Makes the trace of a number.
pub(crate) fn mutant(corpus: &Corpus, seed: u64, path: &Path) {
    let mut random = Random::new(seed);
    if seed.is_multiple_of(2) {
        from_nothing(&mut random, path);
    } else {
        from_recording(&mut random, corpus, path);
    }
}

fn address(r: &mut Random) -> SockAddr {
    let port = r.pick(&[0, 1, 53, 80, 8080, 45_000]);
    match r.below(6) {
        0 => SockAddr::Unix(r.pick(&[&b""[..], b"@x", b"/run/x", b"rel", b"\0y", b"/a/../b"]).to_vec()),
        1 => SockAddr::Other { family: r.below(50) as u16, data: vec![7; r.below(200) as usize] },
        2 => SockAddr::Inet(format!("[::1]:{port}").parse().unwrap()),
        3 => SockAddr::Inet(format!("0.0.0.0:{port}").parse().unwrap()),
        _ => SockAddr::Inet(format!("10.0.0.{}:{port}", r.below(3)).parse().unwrap()),
    }
}

const NAMES: [&[u8]; 16] = [
    b"",
    b"/",
    b".",
    b"..",
    b"a",
    b"a/b/c",
    b"/tmp/x",
    b"/tmp/x/y",
    b"/bin/sh",
    b"/dev/null",
    b"/proc/self/exe",
    b"/lib/x",
    b"/usr/lib/x",
    b"//a//..//b",
    b"\xff\xfe",
    b"/etc/passwd",
];

/// What events may refer to.
struct Known {
    tasks: Vec<TaskId>,
    strings: Vec<StrId>,
    objects: Vec<ObjectId>,
}

fn detail(r: &mut Random, known: &Known) -> Detail {
    let arg = r.below(7) as u8;
    let string = |r: &mut Random| r.pick(&known.strings);
    let object = |r: &mut Random| r.pick(&known.objects);
    match r.below(18) {
        0..=2 => Detail::Str { arg: r.below(3) as u8, value: string(r) },
        3 => Detail::Addr { arg: r.pick(&[1, 4]), addr: address(r) },
        4 => Detail::Object { arg, object: object(r) },
        5 => Detail::Value { arg, value: r.number() },
        6 => {
            let objects = [r.one_in(2).then(|| object(r)), r.one_in(2).then(|| object(r))];
            Detail::NewFds { arg, fds: [r.number() as i32, r.number() as i32], objects }
        }
        7 => Detail::Iov { arg, bytes: r.number(), count: r.number() as u32 },
        8 => Detail::Time { arg, ns: r.number() },
        9 => {
            let entry = |r: &mut Random| PollEntry {
                fd: r.number() as i32,
                events: r.number() as u16,
                revents: r.number() as u16,
            };
            Detail::Poll { arg, entries: (0..r.below(70)).map(|_| entry(r)).collect() }
        }
        10 => {
            let entry = |r: &mut Random| EpollEntry { data: r.below(20), events: r.number() as u32 };
            Detail::Epoll { arg, entries: (0..r.below(5)).map(|_| entry(r)).collect() }
        }
        11 => Detail::Stat { arg, mode: r.number() as u32, size: r.number(), ino: r.below(20) },
        12 => Detail::SigAction { arg, handler: r.below(4) as u8, flags: r.number(), mask: r.number() },
        13 => {
            let words = (0..r.below(5)).map(|_| string(r)).collect();
            Detail::Argv { arg, words, count: r.number() as u32 }
        }
        14 => {
            let mut fd =
                || PassedFd { fd: r.number() as i32, object: r.one_in(2).then(|| r.pick(&known.objects)) };
            let fds = (0..3).map(|_| fd()).collect();
            Detail::Passed { arg: 1, message: r.below(3) as u32, fds }
        }
        15 => {
            let message = |r: &mut Random| Message {
                bytes: r.number(),
                parts: r.number() as u32,
                moved: r.number() as u32,
                addr: r.one_in(2).then(|| address(r)),
            };
            Detail::Messages { arg: 1, entries: (0..r.below(5)).map(|_| message(r)).collect() }
        }
        16 => Detail::Local { addr: address(r) },
        _ => match r.below(3) {
            0 => Detail::Created,
            1 => Detail::CpuWait { ns: r.number() },
            _ => Detail::Bytes { arg, data: (0..r.below(64)).map(|i| (i * 7) as u8).collect() },
        },
    }
}

/// Calls whose lowering has most to say.
const BUSY: [&str; 48] = [
    "openat",
    "close",
    "read",
    "write",
    "dup",
    "dup3",
    "fcntl",
    "pipe2",
    "socket",
    "bind",
    "listen",
    "connect",
    "accept4",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "poll",
    "select",
    "futex",
    "mmap",
    "munmap",
    "mremap",
    "brk",
    "clone",
    "clone3",
    "execve",
    "exit",
    "exit_group",
    "wait4",
    "waitid",
    "kill",
    "rt_sigaction",
    "rt_sigreturn",
    "rename",
    "unlink",
    "mkdir",
    "chdir",
    "close_range",
    "socketpair",
    "eventfd2",
    "timerfd_settime",
    "sendmmsg",
    "readlink",
    "restart_syscall",
];

fn call(r: &mut Random, known: &Known, t_ns: u64) -> Syscall {
    let sysno = if r.one_in(6) {
        let abi = r.pick(&[Abi::X86_64, Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64, Abi::Arm]);
        Sysno { abi, nr: if r.one_in(10) { r.number() as u32 } else { r.below(470) as u32 } }
    } else {
        syscalls::number(Abi::X86_64, r.pick(&BUSY)).unwrap()
    };
    Syscall {
        t_ns,
        duration_ns: if r.one_in(4) { r.number() } else { r.below(100_000) },
        task: r.pick(&known.tasks),
        sysno,
        ret: r.result(),
        flags: SyscallFlags(if r.one_in(5) { r.next() as u16 } else { 0 }),
        args: std::array::from_fn(|_| r.number()),
        args_mask: if r.one_in(5) { r.next() as u8 } else { 0x3f },
        object: (!r.one_in(3)).then(|| r.pick(&known.objects)),
        details: (0..r.below(4)).map(|_| detail(r, known)).collect(),
        wait_cpu_ns: if r.one_in(9) { r.number() } else { 0 },
        blocked_ns: if r.one_in(9) { r.number() } else { 0 },
    }
}

fn other(r: &mut Random, known: &Known, t_ns: u64) -> Event {
    let task = r.pick(&known.tasks);
    match r.below(9) {
        0..=2 => {
            Event::Process(Process { t_ns, task, kind: ProcessKind::Fork { child: r.pick(&known.tasks) } })
        }
        3 => {
            let argv = (0..r.below(4)).map(|_| r.pick(&known.strings)).collect();
            let path = r.pick(&known.strings);
            let kind =
                ProcessKind::Exec { path, old_tid: Tid(r.below(12) as u32), argv, argc: r.number() as u32 };
            Event::Process(Process { t_ns, task, kind })
        }
        4 => {
            let kind = ProcessKind::Exit { status: r.number() as u32, group_dead: r.one_in(2) };
            Event::Process(Process { t_ns, task, kind })
        }
        5 | 6 => Event::Signal(Signal {
            t_ns,
            task,
            signo: if r.one_in(4) { r.number() as u32 } else { r.below(66) as u32 },
            code: r.number() as i32,
            sender: r.one_in(2).then(|| r.pick(&known.tasks)),
            delivered: r.one_in(2),
            outside: None,
        }),
        7 => {
            let states = [
                TcpState::Established,
                TcpState::SynSent,
                TcpState::Close,
                TcpState::Listen,
                TcpState::CloseWait,
            ];
            let kind = match r.below(4) {
                0 => ConnectionKind::ResetReceived,
                1 => ConnectionKind::Closed {
                    bytes_sent: r.number(),
                    bytes_received: r.number(),
                    srtt_us: 1,
                    retransmits: 0,
                },
                _ => ConnectionKind::State {
                    old: r.pick(&states),
                    new: r.pick(&states),
                    error: r.pick(&[0, 111]),
                },
            };
            let (local, peer) = (address(r), address(r));
            Event::Connection(Connection {
                t_ns,
                cookie: SockCookie(r.below(9)),
                task: Some(task),
                local,
                peer,
                kind,
            })
        }
        _ => Event::Dns(Dns {
            t_ns,
            duration_ns: r.number(),
            task,
            cookie: SockCookie(r.below(9)),
            server: address(r),
            name: r.pick(&known.strings),
            qtype: 1,
            answer: r.one_in(2).then_some((r.below(6) as u8, 1)),
        }),
    }
}

fn snapshot(r: &mut Random) -> Snapshot {
    let process = |r: &mut Random, i: u64| {
        let fds = (0..r.below(8))
            .map(|_| FdSnapshot {
                fd: r.number() as i32,
                flags: r.number() as u32,
                offset: r.number(),
                target: match r.below(5) {
                    0 => FdTarget::Pipe { ino: r.below(4) },
                    1 => FdTarget::Epoll {
                        watches: (0..r.below(4))
                            .map(|_| (r.below(9) as i32, r.number() as u32, r.below(9)))
                            .collect(),
                    },
                    2 => FdTarget::Socket {
                        ino: r.below(9),
                        cookie: r.below(9),
                        family: r.pick(&[1, 2, 10, 16]),
                        kind: r.pick(&[1, 2, 5]),
                        protocol: 0,
                        listening: r.one_in(3).then_some(128),
                        local: r.one_in(2).then(|| address(r)),
                        peer: r.one_in(2).then(|| address(r)),
                        peer_ino: r.below(9),
                    },
                    3 => FdTarget::Anon {
                        kind: r.pick(&[&b"eventfd"[..], b"timerfd", b"memfd:x", b"?"]).to_vec(),
                        info: vec![],
                    },
                    _ => FdTarget::File {
                        path: r.pick(&NAMES).to_vec(),
                        mode: r.pick(&[0o100_644, 0o040_755, 0o020_666]),
                        dev: 1,
                        ino: r.below(9),
                        size: r.number(),
                        rdev: r.pick(&[0, 0x103, 0x8800]),
                    },
                },
            })
            .collect();
        let thread = |tid: u64| ThreadSnapshot {
            tid: Tid(tid as u32),
            comm: b"t".to_vec(),
            ..ThreadSnapshot::default()
        };
        ProcessSnapshot {
            tgid: Tgid(10 + i as u32),
            parent: Tgid(r.below(14) as u32),
            exe: r.pick(&NAMES).to_vec(),
            cwd: r.pick(&NAMES).to_vec(),
            threads: vec![thread(10 + i), thread(20 + i)],
            fds,
            sig_caught: r.number(),
            sig_ignored: r.number(),
            ..ProcessSnapshot::default()
        }
    };
    Snapshot { processes: (0..=r.below(3)).map(|i| process(r, i)).collect() }
}

fn from_nothing(r: &mut Random, path: &Path) {
    let mut m = Make::new(path);
    if r.one_in(3) {
        m.w.snapshot(&snapshot(r)).unwrap();
    }
    let strings: Vec<StrId> = NAMES.iter().map(|name| m.w.str(name)).collect();
    let tasks = (0..8_u32)
        .map(|i| {
            let def = TaskDef {
                tid: Tid(10 + i),
                tgid: Tgid(10 + i / 2 * 2),
                comm: m.w.comm(b"t"),
                start_ns: r.below(3),
            };
            m.w.task(&def)
        })
        .collect();
    let objects = (0..12)
        .map(|i| {
            let object = match i % 4 {
                0 => Object::File {
                    path: r.pick(&strings),
                    dev: 1,
                    ino: i,
                    mode: r.pick(&[0o100_644, 0o040_755, 0o010_644, 0o120_777]),
                    rdev: 0,
                    size: r.number(),
                },
                1 => Object::Pipe { ino: i },
                2 => Object::Anon {
                    kind: m.w.kernel_name(r.pick(&[b"eventpoll", b"eventfd", b"signalfd"])),
                    id: i,
                },
                _ => Object::Socket {
                    family: r.pick(&[1, 2, 10, 16]),
                    kind: r.pick(&[1, 2, 5]),
                    protocol: 0,
                    cookie: SockCookie(i),
                    local: r.one_in(2).then(|| address(r)),
                    peer: r.one_in(2).then(|| address(r)),
                },
            };
            m.w.object(&object)
        })
        .collect();
    let known = Known { tasks, strings, objects };
    for _ in 0..r.below(EVENTS) {
        m.t_ns = if r.one_in(30) { r.number() } else { m.t_ns.wrapping_add(r.below(20_000)) };
        let event =
            if r.one_in(5) { other(r, &known, m.t_ns) } else { Event::Syscall(call(r, &known, m.t_ns)) };
        let times = if r.one_in(40) { r.below(300) } else { 1 };
        for _ in 0..times {
            m.event(&event);
        }
    }
    m.finish();
}

/// Takes ids of one trace to those of another.
struct Ids<'a> {
    from: &'a Trace,
    to: &'a mut TraceWriter,
    known: HashMap<(u8, u32), u32>,
}

impl Ids<'_> {
    fn str(&mut self, id: StrId) -> StrId {
        let (from, to) = (self.from, &mut *self.to);
        StrId(*self.known.entry((0, id.0)).or_insert_with(|| to.str(from.str(id)).0))
    }
    fn task(&mut self, id: TaskId) -> TaskId {
        if let Some(known) = self.known.get(&(1, id.0)) {
            return TaskId(*known);
        }
        let def = self.from.task(id).clone();
        let comm = self.to.comm(self.from.str(def.comm));
        let new = self.to.task(&TaskDef { comm, ..def });
        self.known.insert((1, id.0), new.0);
        new
    }
    fn object(&mut self, id: ObjectId) -> ObjectId {
        if let Some(known) = self.known.get(&(2, id.0)) {
            return ObjectId(*known);
        }
        let mut object = self.from.object(id).clone();
        match &mut object {
            Object::File { path, .. } => *path = self.str(*path),
            Object::Anon { kind, .. } => *kind = self.to.kernel_name(self.from.str(*kind)),
            _ => {}
        }
        let new = self.to.object(&object);
        self.known.insert((2, id.0), new.0);
        new
    }
    /// False: an event of a kind that is not taken over.
    fn event(&mut self, event: &mut Event) -> bool {
        match event {
            Event::Syscall(call) => {
                call.task = self.task(call.task);
                call.object = call.object.map(|object| self.object(object));
                for detail in &mut call.details {
                    match detail {
                        Detail::Str { value, .. } => *value = self.str(*value),
                        Detail::Object { object, .. } => *object = self.object(*object),
                        Detail::NewFds { objects, .. } => {
                            *objects = objects.map(|o| o.map(|o| self.object(o)));
                        }
                        Detail::Passed { fds, .. } => {
                            for passed in fds {
                                passed.object = passed.object.map(|o| self.object(o));
                            }
                        }
                        Detail::Argv { words, .. } => {
                            for word in words {
                                *word = self.str(*word);
                            }
                        }
                        _ => {}
                    }
                }
            }
            Event::Process(process) => {
                process.task = self.task(process.task);
                match &mut process.kind {
                    ProcessKind::Fork { child } => *child = self.task(*child),
                    ProcessKind::Exec { path, argv, .. } => {
                        *path = self.str(*path);
                        for word in argv {
                            *word = self.str(*word);
                        }
                    }
                    ProcessKind::Exit { .. } => {}
                    _ => return false,
                }
            }
            Event::Signal(signal) => {
                signal.task = self.task(signal.task);
                signal.sender = signal.sender.map(|task| self.task(task));
            }
            Event::Connection(connection) => connection.task = connection.task.map(|task| self.task(task)),
            Event::Marker(Marker { text, .. }) => *text = self.str(*text),
            _ => return false,
        }
        true
    }
}

/// One thing about a recorded event becomes another.
fn change(r: &mut Random, event: &mut Event, known: &Known) {
    let Event::Syscall(call) = event else { return };
    match r.below(12) {
        0 => call.ret = r.result(),
        1..=3 => call.args[r.below(6) as usize] = r.number(),
        4 => call.duration_ns = r.number(),
        5 => call.t_ns = r.number(),
        6 => call.flags = SyscallFlags(r.next() as u16),
        7 => call.sysno = syscalls::number(Abi::X86_64, r.pick(&BUSY)).unwrap(),
        8 => call.details.clear(),
        9 => call.details.push(detail(r, known)),
        10 => call.task = r.pick(&known.tasks),
        _ => call.object = r.one_in(2).then(|| r.pick(&known.objects)),
    }
}

fn from_recording(r: &mut Random, corpus: &Corpus, path: &Path) {
    let (trace, events) = &corpus.0[r.below(corpus.0.len() as u64) as usize];
    let mut options = WriteOptions::default();
    options.redact = None;
    let mut writer = TraceWriter::create_with(path, &header(), options).unwrap();
    if r.one_in(2) && !trace.snapshot().processes.is_empty() {
        writer.snapshot(trace.snapshot()).unwrap();
    }
    let mut ids = Ids { from: trace, to: &mut writer, known: HashMap::new() };
    let known = Known {
        tasks: (0..trace.tasks().len().max(1) as u32).map(|i| ids.task(TaskId(i))).collect(),
        strings: NAMES.iter().map(|name| ids.to.str(name)).collect(),
        objects: (0..trace.objects().len().clamp(1, 200) as u32).map(|i| ids.object(ObjectId(i))).collect(),
    };
    let first = r.below(events.len() as u64) as usize;
    let window = &events[if r.one_in(2) { 0 } else { first }..];
    let mut out: Vec<Event> = Vec::new();
    for event in window.iter().take(r.below(EVENTS) as usize + 1) {
        let mut event = event.clone();
        if !ids.event(&mut event) || r.one_in(50) {
            continue;
        }
        if r.one_in(8) {
            change(r, &mut event, &known);
        }
        let times = if r.one_in(60) { r.below(200) } else { 1 };
        out.extend(std::iter::repeat_n(event, times as usize));
    }
    for _ in 0..r.below(8) {
        let (a, b) = (r.below(out.len() as u64 + 1) as usize, r.below(out.len() as u64 + 1) as usize);
        if a < out.len() && b < out.len() {
            out.swap(a, b);
        }
    }
    let mut end_ns = 0;
    for event in &out {
        end_ns = end_ns.max(event.end_ns());
        writer.push(event).unwrap();
    }
    writer
        .finish(&Summary { duration_ns: end_ns, ended: "target exited".into(), ..Summary::default() })
        .unwrap();
}
